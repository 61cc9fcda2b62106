"""`Batch`: what one fetch brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import anyio.lowlevel

from nats_proto._consuming.shares import SHARE
from nats_proto.errors import SubscriptionClosedError

from .._engine.driver import Driver
from .message import JetStreamMessage
from .reading import write_share
from .turn import Turn

if TYPE_CHECKING:
    from nats_proto._consuming.fetch import Fetch, FetchReason

    from .._engine.crew import Employer
    from .._message import ReceivedMessage

__all__ = ["Batch"]


class Batch:
    """The messages of one fetch, each as it comes. The request leaves when the first is asked for.

    It ends by itself, and says why in `reason`. Left early (by ``break``, `aclose`, the end of an ``async with`` block,
    or when nobody holds it any more) it leaves no request behind, and messages that still come are handed back to the
    server, which gives them to another reader at once. For any number of tasks: each message goes to one of them.
    """

    def __init__(
        self,
        host: Employer[ReceivedMessage],
        machine: Fetch[ReceivedMessage, JetStreamMessage],
        begin: Callable[[Fetch[ReceivedMessage, JetStreamMessage], float], None],
        ended: Callable[[Fetch[ReceivedMessage, JetStreamMessage]], None],
    ) -> None:
        self._host = host
        self._machine = machine
        self._begin_machine = begin
        self._ended = ended
        self._driver: Driver[ReceivedMessage, JetStreamMessage] | None = None
        self._account = machine.account
        """Which gives most messages without the driver."""
        self._now = host.now
        self._closed = False
        self._turn = Turn(host.now)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JetStreamMessage:
        """The next message.

        Raises `ConsumerNotFoundError`, `ConsumerDeletedError`, `PullLimitError` for more than the consumer allows at
        once, `PullRefusedError`, `ConnectionClosedError`, `PermissionsError`. That nothing comes is no error.
        """
        message = self._account.take(self._now())
        if message is not None:
            return message
        turn = self._turn
        if turn.taken:
            await turn.wait(None)
        turn.taken = True
        try:
            return await self._next()
        finally:
            turn.give_back()

    async def _next(self) -> JetStreamMessage:
        driver = self._driver
        if driver is None:
            if self._closed:
                raise StopAsyncIteration
            driver = self._begin()
        try:
            write_share(self._host.writer, self._account, one_batch=True)
            driver.close_queue(self._account)
            message = await driver.next_until(None)
        except SubscriptionClosedError:
            message = None  # the client is drained, so there will be no more
        except BaseException:
            await self._finish()
            raise
        if message is None:
            await self._finish()
            raise StopAsyncIteration
        if self._machine.single and self._machine.reason == "limit" and not self._machine.items:
            # Left now and without a suspension, so that the end of the block in `Consumer.next` is none: cancelled
            # there by `asyncio.Task.cancel`, which no shield keeps off, it would lose the message.
            self._closed, self._driver = True, None
            driver.leave()
            self._ended(self._machine)
        else:
            driver.open_queue(self._account, SHARE)
        return message

    @property
    def reason(self) -> FetchReason | None:
        """Why it has ended; None before its end, when it was left early, and after an error.

        ``limit``: it has all messages that it asked for. ``expired``: its time was up. ``no_messages``: the server says
        that there are none. ``no_answer``: nobody has answered, as without a leader. ``ack_limit``: so many messages
        wait for their acknowledgement that no more are delivered. ``max_waiting``: too many requests wait.
        ``max_bytes``: the next message would be too much. ``linger``: that long after the first message.
        """
        return self._machine.reason

    async def aclose(self) -> None:
        """Leave it early, by any task: whoever waits for a message is told that there is none. Does nothing after its
        end.
        """
        await self._close()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _close(self) -> None:
        self._closed = True
        if not self._turn.taken:
            await self._finish()
        elif self._driver is not None:
            self._driver.stop()  # the one who reads finishes it

    async def _finish(self) -> None:
        self._closed = True
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()  # which cannot be cancelled
            self._ended(self._machine)

    def _begin(self) -> Driver[ReceivedMessage, JetStreamMessage]:
        self._begin_machine(self._machine, self._host.now())
        driver = self._driver = Driver(self._host, self._machine)
        return driver
