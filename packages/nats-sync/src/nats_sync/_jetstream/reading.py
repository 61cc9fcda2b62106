"""What all iterators over the messages of a consumer have in common: the reading itself, and the warnings."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

from nats_proto import Machine, check_timeout
from nats_proto._consuming.shares import SHARE, writes_now
from nats_proto._wire.twin import Deliveries, MessageMaker
from nats_proto.errors import NATSError, SubscriptionClosedError

from .._engine.driver import Driver
from .._message import ReceivedMessage
from .message import JetStreamMessage
from .telling import OnWarning, Telling

if TYPE_CHECKING:
    from nats_proto._consuming.warning import ConsumerWarning
    from nats_proto._jetstream.acknowledge import Delivery

    from .._engine.crew import Employer
    from .._engine.writing_side import WritingSide
    from .caller import Caller

__all__ = ["OnWarning", "Reading", "Warned", "gather", "message_maker", "push", "write_share"]

MANY: Final = 32
"""Messages at hand. To call the writer's thread for fewer of them costs more than to write the first answer alone."""
HAND_BACK: Final = 1.0
"""Seconds, at most, that the end of a block waits until what was on its way is handed back."""


class Warned(Machine[ReceivedMessage, JetStreamMessage], Protocol):
    """A machine that tells what it has survived."""

    warnings: deque[ConsumerWarning]
    """The newest last. Whoever shows them takes them out."""


def message_maker(caller: Caller, delivery: Delivery) -> MessageMaker[JetStreamMessage, Delivery]:
    """What makes the messages of a reader. ``delivery``: what they have in common, which may change while it reads."""
    return MessageMaker(JetStreamMessage, caller.client, caller.host.writing, delivery)


def gather(writing: WritingSide, account: Deliveries[ReceivedMessage, JetStreamMessage]) -> None:
    """Where many messages have come at once, have what acknowledges them written together."""
    queue = account.queue
    if queue is not None and len(queue) >= MANY and not writing.attended:
        writing.gather()


def write_share(
    writing: WritingSide, account: Deliveries[ReceivedMessage, JetStreamMessage], *, one_batch: bool = False
) -> None:
    """Where it is time to, write what acknowledges the messages that were taken."""
    if writes_now(account, one_batch=one_batch) and writing.attended:
        writing.push()


def push(writing: WritingSide) -> None:
    """Before a wait: write acknowledgements. No other thread need be woken for them."""
    if writing.attended:
        writing.push()


MachineT = TypeVar("MachineT", bound=Warned)


class Reading(Generic[MachineT]):
    """The base of iterators over the messages of one machine.

    For any number of threads: one reads at a time, and the others wait for their turn.
    """

    def __init__(
        self, host: Employer[ReceivedMessage], make: Callable[[float], MachineT], on_warning: OnWarning | None
    ) -> None:
        self._flush = host.flush
        machine = self._machine = make(monotonic())
        telling = self._telling = Telling(on_warning)
        writing = self._writing = host.writing

        def before_wait() -> None:
            push(writing)
            telling.tell(machine.warnings)

        # It knows nothing of this object. Else the two would keep one another, and a reader that nobody holds any more
        # would end with the next collection of garbage only.
        self._driver: Driver[ReceivedMessage, JetStreamMessage] = Driver(host, machine, before_wait)
        self._account: Deliveries[ReceivedMessage, JetStreamMessage] | None = None
        """What gives most messages without the driver, if the machine has such a way."""
        self._turn = RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self.stop()
        if kind is None:
            # What the server has on its way is handed back as it comes: a client that is closed would lose it.
            with contextlib.suppress(NATSError):
                self._flush(HAND_BACK)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> JetStreamMessage:
        """The next message; waits for it."""
        account = self._account
        message = (None if account is None else account.take(monotonic())) or self._next_until(None)
        if message is None:
            raise StopIteration
        return message

    def next(self, timeout: float | None = None) -> JetStreamMessage | None:
        """The next message, or None: when there was none for ``timeout`` seconds (None: for ever), and at the end.

        Raises as the iteration does.
        """
        return self._next_until(None if timeout is None else monotonic() + check_timeout("timeout", timeout))

    def _next_until(self, deadline: float | None) -> JetStreamMessage | None:
        """The next message, or None at ``deadline`` (absolute) and at the end."""
        turn = self._turn
        if deadline is None:
            turn.acquire()
        elif not turn.acquire(timeout=max(0.0, deadline - monotonic())):
            return None
        message = None
        try:
            if self._account is not None:
                write_share(self._writing, self._account)
                self._driver.close_queue(self._account)
            message = self._driver.next_until(deadline)
        except SubscriptionClosedError:
            self.stop()  # the client is drained, and its user knows of no subscription: the messages have ended
        finally:
            try:
                if message is None or self._machine.warnings:
                    self._look_around(message)
                if self._account is not None:
                    self._driver.open_queue(self._account, SHARE)
                    gather(self._writing, self._account)
            finally:
                turn.release()
        return message

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived, the newest last; the last hundred are kept."""
        return self._telling.told

    def stop(self) -> None:
        """End it, from any thread: whoever waits for a message is told that there is none, and nothing is waited for.

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
