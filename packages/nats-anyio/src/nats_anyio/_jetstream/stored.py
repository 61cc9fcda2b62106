"""`StoredMessages`: many messages of a stream, read directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import anyio.lowlevel

from .._engine.driver import Driver

if TYPE_CHECKING:
    from nats_proto._consuming.batch_get import BatchGet
    from nats_proto._jetstream.stored_message import StoredMessage

    from .._engine.driver import Host
    from .._message import ReceivedMessage

__all__ = ["StoredMessages"]


class StoredMessages:
    """The messages that `Stream.get_msgs` and `Stream.get_last_msgs` give, each as it comes. Empty when there is none.

    The first page is asked for with the first message, each further one when the page before was read. Whoever leaves
    early (by ``break``, `aclose`, or the end of a ``async with`` block) costs nothing more. For one task at a time.
    """

    def __init__(self, host: Host[ReceivedMessage], make: Callable[[float], BatchGet]) -> None:
        self._host = host
        self._make = make
        self._driver: Driver[ReceivedMessage, StoredMessage] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoredMessage:
        """The next message.

        Raises `FeatureDroppedError` for a server that is too old, `ApiError` for what it refuses, such as too many
        subjects, `JetStreamError` when nobody answers, `NATSTimeoutError`, `JetStreamDecodeError`,
        `ConnectionClosedError`, `PermissionsError`.
        """
        driver = self._driver
        if driver is None:
            if self._closed:
                raise StopAsyncIteration
            driver = self._driver = Driver(self._host, self._make(self._host.now()))
        try:
            message = await driver.next_until(None)
        except BaseException:
            await self._close()
            raise
        if message is None:
            await self._close()
            raise StopAsyncIteration
        return message

    async def aclose(self) -> None:
        """Leave it early. Does nothing after its end."""
        await self._close()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _close(self) -> None:
        self._closed = True
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()  # which cannot be cancelled
