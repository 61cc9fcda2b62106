"""`Messages`: a consumer's messages without end."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import anyio.lowlevel

from nats_proto import check_timeout
from nats_proto._consuming.warning import MAX_WARNINGS
from nats_proto.errors import SubscriptionClosedError

from .._engine.driver import Driver
from .message import JetStreamMessage

if TYPE_CHECKING:
    from nats_proto._consuming.consume import Consume
    from nats_proto._consuming.warning import ConsumerWarning

    from .._engine.driver import Host
    from .._message import ReceivedMessage

__all__ = ["Messages", "OnWarning"]

logger = logging.getLogger("nats_anyio.jetstream")

OnWarning = Callable[["ConsumerWarning"], object]


class Messages:
    """The messages of a consumer, one after another, for as long as the program likes.

    It ends with `stop`, with the ``async with`` block, at its ``limit``, and when the client is drained or closed.
    What passes by itself (a leader that changes, a server that restarts, a lost connection) does not end it: it is told
    in `warnings`, in the log, and to ``on_warning``, which is called by whoever reads. Messages that were asked for
    ahead and not read are handed back to the server, which gives them to another reader at once. For one task at a
    time, but for `stop`.
    """

    def __init__(
        self,
        host: Host[ReceivedMessage],
        make: Callable[[float], Consume[ReceivedMessage, JetStreamMessage]],
        on_warning: OnWarning | None,
    ) -> None:
        self._now = host.now
        self._machine = make(host.now())
        self._driver: Driver[ReceivedMessage, JetStreamMessage] = Driver(host, self._machine, self._warn)
        self._on_warning = on_warning
        self._warnings: deque[ConsumerWarning] = deque(maxlen=MAX_WARNINGS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JetStreamMessage:
        """The next message; waits for it.

        Raises `ConsumerDeletedError` or `ConsumerNotFoundError` when the consumer is gone (see ``on_missing``),
        `PullRefusedError` when the server refuses to serve this reader at all, `ConnectionClosedError`,
        `PermissionsError`, and what ``on_warning`` raises.
        """
        try:
            message = await self._driver.next_until(None)
        except SubscriptionClosedError:
            self.stop()  # the client is drained, and its user knows of no subscription: the messages have ended
            message = None
        if self._machine.warnings:
            self._warn()
        if message is None:
            raise StopAsyncIteration
        return message

    async def next(self, timeout: float | None = None) -> JetStreamMessage | None:
        """The next message, or None: when there was none for ``timeout`` seconds (None: for ever), and at the end.

        Raises as the iteration does.
        """
        deadline = None if timeout is None else self._now() + check_timeout("timeout", timeout)
        try:
            message = await self._driver.next_until(deadline)
        except SubscriptionClosedError:
            self.stop()  # the client is drained, and its user knows of no subscription: the messages have ended
            message = None
        if self._machine.warnings:
            self._warn()
        return message

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived, the newest last; the last hundred are kept."""
        return list(self._warnings)

    @property
    def outlived(self) -> int:
        """Messages that were not given, since they were taken so late that the server has given them to another."""
        return self._machine.outlived

    def stop(self) -> None:
        """End it, by any task: whoever waits for a message is told that there is none, and nothing is waited for.

        Messages that were not read are handed back. May be called again.
        """
        self._driver.stop()

    def _warn(self) -> None:
        """Tell what is new. Also before each wait: who waits in vain is to hear why, and not with the next message."""
        warnings = self._machine.warnings
        while warnings:
            warning = warnings.popleft()
            self._warnings.append(warning)
            logger.warning("%s", warning.text)
            if self._on_warning is not None:
                self._on_warning(warning)
