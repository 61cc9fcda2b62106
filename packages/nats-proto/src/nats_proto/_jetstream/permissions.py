"""Which subjects lie below what is asked of one stream, and of one consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._permissions import Permission, Permissions, inboxes, permitted
from .names import check_name

if TYPE_CHECKING:
    from .api import JetStreamApi

__all__ = ["own_consumers", "to_consume", "to_read"]


def own_consumers(api: JetStreamApi, stream: str, purpose: str) -> tuple[Permission, ...]:
    """What a reader needs that makes its own consumers. Their names are random, so all of the stream are meant."""
    below = f"{api.prefix}CONSUMER."
    return permitted(
        (f"{below}CREATE.{stream}.>", purpose),
        (f"{below}MSG.NEXT.{stream}.*", purpose),
        (f"{below}INFO.{stream}.*", f"{purpose}: whether its consumer lives"),
        (f"{below}DELETE.{stream}.*", f"{purpose}: its end"),
    )


def to_read(api: JetStreamApi, stream: str) -> Permissions:
    """To read a stream by its handle, and by ordered consumers."""
    check_name("stream", stream)
    return Permissions(
        publish=(
            *permitted(
                (f"{api.prefix}STREAM.INFO.{stream}", "refresh"),
                (f"{api.prefix}STREAM.MSG.GET.{stream}", "get_msg, get_last_msg"),
                (f"{api.prefix}DIRECT.GET.{stream}", "get_msg, get_msgs, get_last_msgs"),
                (f"{api.prefix}DIRECT.GET.{stream}.>", "get_last_msg"),
            ),
            *own_consumers(api, stream, "ordered_consumer"),
        ),
        subscribe=inboxes(api.new_inbox),
    )


def to_consume(api: JetStreamApi, stream: str, consumer: str) -> Permissions:
    """To read a consumer that is there, and to acknowledge what it gives."""
    check_name("stream", stream)
    check_name("consumer", consumer)
    return Permissions(
        publish=permitted(
            (f"{api.prefix}CONSUMER.INFO.{stream}.{consumer}", "refresh, stats, diagnose; whether it lives"),
            (f"{api.prefix}CONSUMER.MSG.NEXT.{stream}.{consumer}", "next, fetch, messages, consume, work"),
            (f"$JS.ACK.{stream}.{consumer}.>", "ack, nak, term, in_progress"),
            # Servers that are told to (2.14) name the domain and the account as well.
            (f"$JS.ACK.*.*.{stream}.{consumer}.>", "ack, nak, term, in_progress"),
            (f"{api.prefix}STREAM.INFO.{stream}", "diagnose"),
        ),
        subscribe=inboxes(api.new_inbox),
    )
