"""What all iterators over the messages of a consumer have in common: the reading itself, and the warnings."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar

import anyio.lowlevel

from nats_proto import Machine, check_timeout
from nats_proto._consuming.shares import SHARE, writes_now
from nats_proto._wire.twin import Deliveries, MessageMaker
from nats_proto.errors import NATSError, SubscriptionClosedError

from .._engine.driver import Driver
from .._message import ReceivedMessage
from .message import JetStreamMessage
from .telling import OnWarning, Telling
from .turn import Turn

if TYPE_CHECKING:
    from nats_proto._consuming.warning import ConsumerWarning
    from nats_proto._jetstream.acknowledge import Delivery

    from .._engine.crew import Employer
    from .._engine.writer import Writer
    from .caller import Caller

__all__ = ["OnWarning", "Reading", "Warned", "message_maker", "write_share"]

HAND_BACK: Final = 1.0
"""Seconds, at most, that the end of a block waits until what was on its way is handed back."""


class Warned(Machine[ReceivedMessage, JetStreamMessage], Protocol):
    """A machine that tells what it has survived."""

    warnings: deque[ConsumerWarning]
    """The newest last. Whoever shows them takes them out."""


def message_maker(caller: Caller, delivery: Delivery) -> MessageMaker[JetStreamMessage, Delivery]:
    """What makes the messages of a reader. ``delivery``: what they have in common, which may change while it reads."""
    return MessageMaker(JetStreamMessage, caller.client, caller.host.writer, delivery)


def write_share(
    writer: Writer[Any], account: Deliveries[ReceivedMessage, JetStreamMessage], *, one_batch: bool = False
) -> None:
    """Where it is time to, write what acknowledges the messages that were taken."""
    if writes_now(account, one_batch=one_batch):
        writer.write_now()


MachineT = TypeVar("MachineT", bound=Warned)


class Reading(Generic[MachineT]):
    """The base of iterators over the messages of one machine.

    For any number of tasks: one reads at a time, and the others wait for their turn.
    """

    def __init__(
        self, host: Employer[ReceivedMessage], make: Callable[[float], MachineT], on_warning: OnWarning | None
    ) -> None:
        self._now = host.now
        self._flush = host.flush
        self._writer = host.writer
        machine = self._machine = make(host.now())
        telling = self._telling = Telling(on_warning)
        # It knows nothing of this object. Else the two would keep one another, and a reader that nobody holds any more
        # would end with the next collection of garbage only.
        self._driver: Driver[ReceivedMessage, JetStreamMessage] = Driver(
            host, machine, lambda: telling.tell(machine.warnings)
        )
        self._account: Deliveries[ReceivedMessage, JetStreamMessage] | None = None
        """What gives most messages without the driver, if the machine has such a way."""
        self._turn = Turn(host.now)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *exc: object) -> None:
        self.stop()
        if kind is None:
            # What the server has on its way is handed back as it comes: a client that is closed would lose it.
            with contextlib.suppress(NATSError):
                await self._flush(HAND_BACK)
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JetStreamMessage:
        """The next message; waits for it."""
        account = self._account
        message = (None if account is None else account.take(self._now())) or await self._next_until(None)
        if message is None:
            raise StopAsyncIteration
        return message

    async def next(self, timeout: float | None = None) -> JetStreamMessage | None:
        """The next message, or None: when there was none for ``timeout`` seconds (None: for ever), and at the end.

        Raises as the iteration does.
        """
        return await self._next_until(None if timeout is None else self._now() + check_timeout("timeout", timeout))

    async def _next_until(self, deadline: float | None) -> JetStreamMessage | None:
        """The next message, or None at ``deadline`` (absolute) and at the end."""
        turn = self._turn
        if turn.taken and not await turn.wait(deadline):
            return None
        turn.taken = True
        message = None
        try:
            if self._account is not None:
                write_share(self._writer, self._account)
                self._driver.close_queue(self._account)
            message = await self._driver.next_until(deadline)
        except SubscriptionClosedError:
            self.stop()  # the client is drained, and its user knows of no subscription: the messages have ended
        finally:
            turn.give_back()
            if message is None or self._machine.warnings:
                self._look_around(message)
            if self._account is not None:
                self._driver.open_queue(self._account, SHARE)
        return message

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived, the newest last; the last hundred are kept."""
        return self._telling.told

    def stop(self) -> None:
        """End it, by any task: whoever waits for a message is told that there is none, and nothing is waited for.

        May be called again.
        """
        self._driver.stop()

    def _look_around(self, message: JetStreamMessage | None) -> None:
        """Tell what the machine has survived. When a user's function raises, the message is not lost."""
        try:
            self._tell()
        except BaseException:
            if message is not None:
                self._machine.items.appendleft(message)
            raise

    def _tell(self) -> None:
        """Tell what is new. Also before each wait: who waits in vain is to hear why, and not with the next message."""
        self._telling.tell(self._machine.warnings)
