"""What every machine above the session has, so that one driver in each client can run them all.

Theory of operation
-------------------
A machine is what a program uses for longer than one call: several answers to one request, a consumer, a watcher. It
does no I/O and has no thread or task of its own: whoever waits for its next item runs it, by the driver of the client.

    user's for ─▶ driver ─┬─ a message ────────────▶ receive
                          ├─ the connection is new ▶ connection_replaced
                          ├─ an answer to a call ──▶ answered
                          └─ time ─────────────────▶ handle_timeout
                              then, after each: wants (what to do, in order), items (what to give), next_timeout, done

The law is that of the session: one mutation, then drain. The driver first does all that the machine wants, then gives
the items, and waits only when there are none: for a message of the machine's subscription until `next_timeout`. So a
message needs no thread to be woken but the one that waits for it, and time passes for a machine only while somebody
waits: what is due is done at the next look.

What a machine wants may be done much later, when there was no room for it, or nobody has waited. A publish for which a
machine has said whose answers it awaits (`Subscribe`) is not done once it awaits that answer no longer: the driver has
the machine handle its time first, and that takes the want back, or ends the machine.

A machine has one subscription at a time. Its first want is a `Subscribe`; a later one ends the subscription before it,
whose unread messages and outstanding answers are dropped. What an `Ask` comes to is given in by `answered`, in its
place among the messages: there is one order for all that concerns a machine.

What a machine gives need not be the message that it got: it makes its items. So one type of message for each session is
enough, and a message that can be acknowledged is an item like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, assert_never, runtime_checkable

from .._interface.events import ReplyReceived, RequestFailed
from .._session.marks import CaughtUp, ConnectionReplaced, Mark, PublishDropped, PublishRefused
from .._session.subscription import MessageT
from .._value import Value
from .._wire.frames import Message
from ..errors import NATSError, NATSTimeoutError
from .operation import ApiCall, Publish

__all__ = [
    "Ask",
    "CatchUp",
    "CatchesUp",
    "Conductor",
    "HearsOfDropped",
    "HearsOfRefused",
    "Machine",
    "Subscribe",
    "Want",
]

NO_ROOM: Final = 0.01
"""Seconds after which what found no room is tried again."""

ItemT = TypeVar("ItemT")
MessageIn = TypeVar("MessageIn", contravariant=True)


class Subscribe(Value, frozen=True):
    """Subscribe to ``subject``, in place of what the machine was subscribed to.

    The pending limits default to those of the options; 0 means none. ``queue``: the queue group. ``hand_back``: the
    payload with which messages are answered that nobody will read any more, as of ``Session.subscribe``. ``opened`` is
    called when the subscription is made, with a function that tells how many of its messages were taken by the driver,
    and how many have come. ``awaits``: which answers are awaited, as of ``Session.subscribe``. The driver asks it as
    well: a `Publish` is late whose reply subject it names no longer, and ``Machine.handle_timeout`` takes it back.
    ``asks``: to what the machine publishes, as of ``Session.subscribe``: what of that the server refuses is told to who
    has the method of `HearsOfRefused`.
    """

    subject: str
    max_pending_msgs: int | None = None
    max_pending_bytes: int | None = None
    queue: str | None = None
    hand_back: bytes | None = None
    opened: Callable[[Callable[[], tuple[int, int]]], None] | None = None
    awaits: Callable[[str, float], bool] | None = None
    asks: str | Callable[[str], int | None] | None = None


class Ask(Value, frozen=True, eq=False):
    """Make this call; ``Machine.answered`` is told what it came to, after ``timeout`` seconds at the latest."""

    api: ApiCall[object]
    timeout: float


class CatchUp(Value, frozen=True):
    """Have the server say when it has sent all that it sent before: `CatchesUp.caught_up` is told, in its place among
    the messages. Without a connection ``Machine.connection_replaced`` follows instead."""

    number: int


Want = Subscribe | Publish | Ask | CatchUp


class Machine(Protocol[MessageIn, ItemT]):
    """What the driver of each client runs. Times are absolute seconds, as everywhere in the core."""

    items: deque[ItemT]
    """What to give to the user, in order. The driver takes them; it is the same object for the machine's whole life."""
    wants: deque[Want]
    """What to do, in order. The driver takes each when it is done: one for which there was no room yet stays."""

    @property
    def what(self) -> str:
        """What it is, for the texts of errors, such as ``"request_many to 'prices'"``."""
        ...

    @property
    def done(self) -> bool:
        """It has ended: no further item will come but those that are there."""
        ...

    @property
    def error(self) -> NATSError | None:
        """Why it ended, when that was not its normal end: raised once the items are given."""
        ...

    def receive(self, message: MessageIn, *, now: float) -> None:
        """A message of its subscription. What this raises, the user's own functions may have raised: it comes out."""
        ...

    def connection_replaced(self, *, now: float) -> None:
        """The session has another connection; the subscription was made again there."""
        ...

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What an `Ask` came to: the result that ``decode`` made, or the `NATSError` that ended it."""
        ...

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do, or None. No side effect."""
        ...

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due. Early and repeated calls do nothing.

        What is wanted and not awaited any more is taken out of ``wants``, unless the machine has ended without it.
        """
        ...


@runtime_checkable
class HearsOfDropped(Protocol):
    """What a `Machine` has besides, if it publishes in other ways than by its wants."""

    def publish_dropped(self, reply: str, error: NATSError, *, now: float) -> None:
        """A publish of its own, with this reply subject, was given up by the session before it was handed over."""
        ...


@runtime_checkable
class CatchesUp(Protocol):
    """What a `Machine` has besides, if it wants a `CatchUp`."""

    def caught_up(self, number: int, *, now: float) -> None:
        """What comes from now on was sent after the `CatchUp` with this number was."""
        ...


@runtime_checkable
class HearsOfRefused(Protocol):
    """What a `Machine` has besides, if it publishes with a reply subject: what its subscription says that it asks."""

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """The server has refused publishes to this subject, and does not say which: of this machine, or of others of
        the client that publish there as well. The error is not for this machine alone: see `not_permitted`."""
        ...


class Conductor(Generic[MessageT, ItemT]):
    """What both drivers decide about a machine: whose answer an answer is, until when somebody waits, and for what.

    Each call has a time of its own, kept here, so that no machine has to. An answer that comes later is dropped by the
    session, which is told of `expired` calls.
    """

    __slots__ = ("_asked", "_awaits", "_began", "expired", "machine")

    def __init__(self, machine: Machine[MessageT, ItemT]) -> None:
        self.machine = machine
        self._asked: dict[int, tuple[Ask, float]] = {}
        """Calls that were not answered yet, by their requests' tokens, and until when they may be."""
        self.expired: list[int] = []
        """Tokens of requests that nobody waits for any more: the driver cancels them, and takes them from here."""
        self._began = False
        """Something of what the machine wants was sent."""
        self._awaits: Callable[[str, float], bool] | None = None

    def published(self) -> None:
        """The driver has published what the machine wanted."""
        self._began = True

    def asked(self, token: int, ask: Ask, *, now: float) -> None:
        """The driver has made this call: the session will tell what it comes to under this token."""
        self._began = True
        self._asked[token] = ask, now + ask.timeout

    def may_wait_for_connection(self) -> bool:
        """Whether a wait goes on when there is no connection, and no room in the outgoing buffer to wait for one.

        Not when nothing was sent for the machine yet: then nothing can come, and who waits has to learn why, by the
        `OutboundBufferLimitError`. Later on what was asked for may have come already, and is to be given; and the
        machine is told of the next connection, so that what it wants is tried again.
        """
        return self._began

    def subscribed(self, subscribe: Subscribe) -> None:
        """The driver has made this subscription."""
        self._awaits = subscribe.awaits

    def is_late(self, want: Want, *, now: float) -> bool:
        """Whether nobody waits any more for the answer to what this publishes: it is not to be done.

        The driver calls `handle_timeout` instead. If the want is still the first then, the machine has ended, and it is
        certain that this was not sent.
        """
        awaits = self._awaits
        return (
            awaits is not None and isinstance(want, Publish) and want.reply is not None and not awaits(want.reply, now)
        )

    def resubscribed(self) -> None:
        """The subscription is another: answers that were to come into the queue of the one before are void."""
        self.expired.extend(self._asked)
        self._asked.clear()

    def marked(self, mark: Mark, *, now: float) -> None:
        """A mark came out of the subscription's queue."""
        match mark:
            case ConnectionReplaced():
                self.machine.connection_replaced(now=now)
            case CaughtUp(number=number):
                if isinstance(self.machine, CatchesUp):
                    self.machine.caught_up(number, now=now)
            case PublishDropped(reply=reply, error=error):
                if isinstance(self.machine, HearsOfDropped):
                    self.machine.publish_dropped(reply, error, now=now)
            case PublishRefused():
                if isinstance(self.machine, HearsOfRefused):
                    self.machine.publish_refused(mark, now=now)
            case RequestFailed(token=token, error=error):
                self._answered(token, error, now)
            case ReplyReceived(token=token, message=message):
                self._answered(token, message, now)
            case _:
                assert_never(mark)

    def _answered(self, token: int, answer: Message | NATSError, now: float) -> None:
        ask, _ = self._asked.pop(token, (None, 0.0))
        if ask is None:
            return  # it was given up in the moment in which its answer came
        result: object = answer
        if not isinstance(answer, NATSError):
            try:
                result = ask.api.decode(answer)
            except NATSError as error:
                result = error
        self.machine.answered(ask.api, result, now=now)

    def next_timeout(self, deadline: float | None = None) -> float | None:
        """Until when the driver may wait for a message, or for room; None: for ever. ``deadline``: of its caller."""
        due = self.machine.next_timeout()
        if deadline is None or (due is not None and due < deadline):
            deadline = due
        for _, until in self._asked.values():
            if deadline is None or until < deadline:
                deadline = until
        return deadline

    def next_look(self, deadline: float | None = None, *, now: float) -> float | None:
        """As `next_timeout`, after the driver has done what was wanted: what is wanted still had no room.

        Nobody says when there is room, so that is tried again after a moment.
        """
        until = self.next_timeout(deadline)
        if self.machine.wants and (until is None or now + NO_ROOM < until):
            return now + NO_ROOM
        return until

    def handle_timeout(self, *, now: float) -> None:
        """Calls whose time is up have failed; then the machine looks what is due."""
        for token, (ask, until) in list(self._asked.items()):
            if now >= until:
                del self._asked[token]
                self.expired.append(token)
                error = NATSTimeoutError(f"{ask.api.what}: no answer within {ask.timeout:g} s")
                self.machine.answered(ask.api, error, now=now)
        self.machine.handle_timeout(now=now)
