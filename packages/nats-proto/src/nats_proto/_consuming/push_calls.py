"""What both clients make of a push consumer: the machine that reads it, with the calls that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from .._calls.operation import ApiCall
from .._jetstream.consumer_calls import info_call, put_call
from .._session.subscription import MessageT
from .push import Push

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._jetstream.consumer_info import ConsumerInfo
    from .._wire.frames import Message
    from .options import OnMissing

__all__ = ["push_reader"]

ItemT = TypeVar("ItemT")


def push_reader(
    api: JetStreamApi,
    stream: str,
    name: str,
    make: Callable[[MessageT, float], ItemT],
    *,
    on_missing: OnMissing,
    found: Callable[[ConsumerInfo], object],
    now: float,
) -> Push[MessageT, ItemT]:
    """The machine of one reader. Raises `ValueError` for another ``on_missing``."""
    asked = info_call(api, stream, name)

    def decode_info(message: Message) -> object:
        return asked.decode(message)

    def create(info: ConsumerInfo, sequence: int | None) -> ApiCall[object]:
        config = info.config
        if sequence is not None:
            config = replace(config, deliver_policy="by_start_sequence", opt_start_seq=sequence, opt_start_time=None)
        call = put_call(api, stream, name, config, "create")

        def decode(message: Message) -> object:
            return call.decode(message)

        return ApiCall(call.what, call.subject, call.payload, decode, call.headers)

    return Push(
        what=f"messages of push consumer {name!r} of stream {stream!r}",
        info=ApiCall(asked.what, asked.subject, asked.payload, decode_info, asked.headers),
        create=create,
        new_inbox=api.new_inbox,
        make=make,
        now=now,
        timeout=api.timeout,
        on_missing=on_missing,
        found=found,
    )
