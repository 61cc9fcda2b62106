"""Which subjects lie below what is asked of one bucket of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._jetstream.permissions import own_consumers
from .._permissions import Permissions, inboxes, permitted

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .subjects import BucketSubjects

__all__ = ["to_read_keys", "to_write_keys"]


def to_read_keys(api: JetStreamApi, subjects: BucketSubjects) -> Permissions:
    """To open a bucket, and for all calls that only read."""
    stream = subjects.stream
    return Permissions(
        publish=(
            *permitted(
                (f"{api.prefix}STREAM.INFO.{stream}", "key_value, status"),
                (f"{api.prefix}DIRECT.GET.{stream}.{subjects.read}>", "get"),
                (f"{api.prefix}DIRECT.GET.{stream}", "get of a revision, get_many, snapshot"),
                (f"{api.prefix}STREAM.MSG.GET.{stream}", 'get with reads="leader", or when no replica answers'),
            ),
            *own_consumers(api, stream, "keys, history, watch, on_change, mapping"),
        ),
        subscribe=inboxes(api.new_inbox),
    )


def to_write_keys(api: JetStreamApi, subjects: BucketSubjects) -> Permissions:
    """For all calls. What a mirror is asked to write, its origin is asked."""
    origin = subjects.origin_api.prefix
    return to_read_keys(api, subjects) | Permissions(
        publish=permitted(
            (f"{subjects.write}>", "put, create, update, modify, delete, purge, lock"),
            (f"{origin}STREAM.MSG.GET.{subjects.origin_stream}", "create, update, modify, lock"),
            (f"{origin}STREAM.PURGE.{subjects.origin_stream}", "purge_deletes"),
        ),
    )
