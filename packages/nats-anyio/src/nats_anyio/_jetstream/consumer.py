"""`Consumer`: one consumer of a stream, and the ways to read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats_proto._jetstream import consumer_calls
from nats_proto._jetstream.names import check_name
from nats_proto.errors import LocalProtocolError

from .caller import Caller

if TYPE_CHECKING:
    from nats_proto._jetstream.consumer_info import ConsumerInfo

__all__ = ["Consumer"]


class Consumer:
    """The handle of one consumer. Made by `Stream` and `JetStream`; its calls raise what those of `JetStream` raise.

    Raises `ValueError` for what cannot be a name.
    """

    def __init__(self, caller: Caller, stream: str, name: str, info: ConsumerInfo | None = None) -> None:
        self._caller = caller
        self._api = caller.api
        self._stream = check_name("stream", stream)
        self._name = check_name("consumer", name)
        self._info = info

    def __repr__(self) -> str:
        return f"<nats_anyio.Consumer {self._name!r} of stream {self._stream!r}>"

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._name

    @property
    def stream_name(self) -> str:
        """The name of its stream."""
        return self._stream

    @property
    def info(self) -> ConsumerInfo:
        """What the server said last about it. `LocalProtocolError` when it was not asked yet: `refresh` asks."""
        if self._info is None:
            raise LocalProtocolError(
                f"consumer {self._name!r}: nothing is known about it yet, refresh() asks the server"
            )
        return self._info

    async def refresh(self, *, timeout: float | None = None) -> ConsumerInfo:
        """Ask for its configuration and state. Raises `ConsumerNotFoundError`."""
        self._info = await self._caller.run(
            consumer_calls.consumer_info(self._api, self._stream, self._name, timeout=timeout)
        )
        return self._info
