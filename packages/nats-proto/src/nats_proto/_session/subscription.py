"""One subscription as the session keeps it: across reconnects, with its queue, its limits and its counts.

States
------
    ACTIVE ──drain──▶ DRAINING ──PONG / link lost──▶ CLOSED
       └──unsubscribe, maximum reached, client closed──▶ CLOSED

DRAINING: UNSUB is on its way, and messages that the server sent before it read the UNSUB still arrive. CLOSED: no more
will arrive, but those in the queue can still be read; the subscription is *finished* once they are and no handler runs.

The queue and its accounts
--------------------------
Whoever reads takes messages by ``messages.popleft()`` alone. That is atomic, so threads need no lock for it, and
nothing is counted where every single message passes. The accounts follow: `count_taken` sees by the length of the queue
how many were taken, and takes their sizes off. Sizes are kept as so many messages in a row of one size: there are
never more entries than messages, but for a few. `pending_bytes` and `delivered` look at what is not counted yet, so
they are right whenever somebody asks. They add up: `received` is `delivered`, `dropped`, `discarded` and `pending_msgs`
together.

A queue is made with the first message: an empty `deque` takes 760 bytes, and most of ten thousand subscriptions may
never have one. Before that all share one, which stays empty.

Marks (`marks`) lie in the queue as messages without a subject, and in a queue of their own beside it. They do not count
as what a server has sent: neither as received nor as pending or delivered.

Queueing, counting and asking for the accounts are for one thread at a time: an adapter with several does it under its
lock.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from enum import Enum, auto
from typing import Final, Generic, Never, TypeVar

from .._wire.frames import Message
from .._wording import counted
from ..errors import NATSError, SubscriptionClosedError
from .marks import Mark

__all__ = ["NO_QUEUE", "MessageT", "SubscriptionState", "SubscriptionStatus"]

MessageT = TypeVar("MessageT", bound=Message)

# Shared by all subscriptions that have none of their own: with a maximum length of 0, an append by mistake
# has no effect on the others.
NO_QUEUE: Final[deque[Never]] = deque(maxlen=0)
_NO_MARKS: Final[deque[Mark]] = deque(maxlen=0)


class SubscriptionStatus(Enum):
    """Where a subscription is in its life."""

    ACTIVE = auto()
    DRAINING = auto()
    CLOSED = auto()


class SubscriptionState(Generic[MessageT]):
    """The core's half of a subscription. Made by ``Session.subscribe``; all methods are for its adapter.

    ``max_pending_msgs`` and ``max_pending_bytes`` (header block and payload) bound the queue, 0 meaning no bound. A
    message over a bound is dropped and counted, the rest of the connection is not held up.
    """

    __slots__ = (
        "__weakref__",
        "_delivered",
        "_handlers",
        "_marks",
        "_marks_taken",
        "awaits",
        "denied",
        "discarded",
        "dropped",
        "error",
        "hand_back",
        "max_msgs",
        "max_pending_bytes",
        "max_pending_msgs",
        "messages",
        "queue",
        "queued_bytes",
        "queued_msgs",
        "received",
        "received_before",
        "sid",
        "sizes",
        "slow",
        "status",
        "subject",
        "wants_marks",
    )

    def __init__(
        self,
        *,
        sid: int,
        subject: str,
        queue: str | None,
        max_msgs: int | None,
        max_pending_msgs: int,
        max_pending_bytes: int,
        wants_marks: bool = False,
        hand_back: bytes | None = None,
    ) -> None:
        self.sid = sid
        self.subject = subject
        self.queue = queue
        self.max_msgs = max_msgs
        """Deliveries after which the subscription ends by itself; None: never."""
        self.max_pending_msgs = max_pending_msgs
        self.max_pending_bytes = max_pending_bytes
        self.messages: deque[MessageT] = NO_QUEUE  # type: ignore[assignment]  # it never holds anything
        self.queued_msgs = 0
        """Messages in the queue when it was counted last, and those that came since. The table's."""
        self.queued_bytes = 0
        """Their bytes. The table's."""
        self.sizes: deque[tuple[int, int]] = NO_QUEUE  # type: ignore[assignment]  # as above
        """Their sizes: how many in a row are so large. The table's."""
        self.received = 0
        """Deliveries by servers, on all connections together, those dropped included: what ``max_msgs`` counts."""
        self.received_before = 0
        """Those of them on earlier connections: a server counts from the SUB it was sent."""
        self._delivered = 0
        self.dropped = 0
        """Dropped at the pending limits."""
        self.discarded = 0
        """Given up by the user: queued when it was unsubscribed or closed, or beyond a maximum set later."""
        self.slow = False
        self.status = SubscriptionStatus.ACTIVE
        self.error: NATSError | None = None
        """Why it closed, when it was not by the user's wish."""
        self.denied: NATSError | None = None
        """The server's refusal, until the subscription is made anew on another connection."""
        self._handlers = 0
        self.wants_marks = wants_marks
        """Its reader is told when the connection was replaced."""
        self.hand_back = hand_back
        """With what payload a message is answered that nobody will read; None: with nothing."""
        self.awaits = False
        """Its reader says which answers it awaits. The traffic's."""
        self._marks: deque[Mark] = _NO_MARKS
        """Those in the queue, in order."""
        self._marks_taken = 0
        """Those that are not in it any more."""

    def __repr__(self) -> str:
        return f"<SubscriptionState sid={self.sid} subject={self.subject!r} {self.status.name}>"

    @property
    def pending_msgs(self) -> int:
        """Messages received and not yet given to the user."""
        return len(self.messages) - len(self._marks)

    @property
    def pending_bytes(self) -> int:
        """Their bytes: header blocks and payloads."""
        return self.queued_bytes - self._not_counted()[1]

    @property
    def delivered(self) -> int:
        """Messages given to the user."""
        return self._delivered + self._not_counted()[0] - self._marks_taken

    @property
    def connection_max(self) -> int | None:
        """The maximum as the current connection's server counts it, or None without one."""
        return None if self.max_msgs is None else self.max_msgs - self.received_before

    @property
    def closed(self) -> bool:
        """No more messages will arrive; those in the queue can still be read."""
        return self.status is SubscriptionStatus.CLOSED

    @property
    def draining(self) -> bool:
        """A drain is under way and the last messages may still arrive."""
        return self.status is SubscriptionStatus.DRAINING

    @property
    def finished(self) -> bool:
        """Closed, the queue is empty and no handler runs."""
        return self.closed and not self.messages and not self._handlers

    @property
    def running_handlers(self) -> int:
        """Callbacks that were given a message and have not returned."""
        return self._handlers

    @property
    def left(self) -> str:
        """What a drain still waits for, as part of a text."""
        parts: list[str] = []
        if self.messages:
            parts.append(f"{counted(self.pending_msgs, 'message')} unread")
        if self._handlers:
            parts.append(f"{counted(self._handlers, 'callback')} still running")
        if not parts and not self.closed:
            parts.append("the server did not confirm its end")
        return ", ".join(parts) or "nothing is left by now"

    def ending(self, *, iterating: bool) -> NATSError | None:
        """Why there is no next message, once the queue is empty; None: there may be one, wait.

        `SubscriptionClosedError` is the end that was asked for (unsubscribed, drained, maximum reached). Somebody who
        iterates sees a client closed by its user as such an end too; somebody who asks for one message is told.
        """
        if self.denied is not None:
            return self.denied
        if not self.closed:
            return None
        if self.error is None or (iterating and self.error.__cause__ is None):
            return SubscriptionClosedError(f"the subscription to {self.subject!r} has ended")
        return self.error

    def pop(self) -> MessageT | None:
        """Give the oldest message to the user, or None."""
        return self.messages.popleft() if self.messages else None

    def take(self, limit: int) -> list[MessageT]:
        """Give up to ``limit`` messages to the user, oldest first."""
        messages = self.messages
        if len(messages) <= limit:
            taken = list(messages)
            messages.clear()
            return taken
        return [messages.popleft() for _ in range(limit)]

    def open_queue(self) -> None:
        """The table's, before the first message."""
        self.messages, self.sizes = deque(), deque()

    def add_mark(self, mark: Mark, placeholder: MessageT) -> None:
        """The table's: put a mark behind the messages that are there. ``placeholder`` is a message without a subject.

        Pending limits do not count marks, and need not: there is one for each request and each publish of its own that
        the reader made, and one for each connection, but never two of those without a message or an answer between. How
        many refusals there are is for the table to bound, since a server makes them.
        """
        if self._marks is _NO_MARKS:
            self._marks = deque()
        self._marks.append(mark)
        self.messages.append(placeholder)
        self.queued_msgs += 1
        self.sizes.append((1, 0))

    def ends_with(self, mark: Mark) -> bool:
        """Whether nothing came after the last mark, and that is such a one."""
        try:
            return not self.messages[-1].subject and self._marks[-1] == mark
        except IndexError:  # the queue is empty, perhaps by now: others may be taking from it
            return False

    @property
    def unread_marks(self) -> int:
        """Marks in the queue."""
        return len(self._marks)

    def take_mark(self) -> Mark:
        """What the message without a subject stands for that was just taken from the queue: each is asked for once."""
        self._marks_taken += 1
        return self._marks.popleft()

    def put_back(self, message: MessageT) -> None:
        """Undo a `pop` whose message did not reach the user (a cancelled wait): it is the oldest again.

        For a reader that is the only one.
        """
        self.count_taken()
        self.messages.appendleft(message)
        self.queued_msgs += 1
        self.queued_bytes += message.size
        self.sizes.appendleft((1, message.size))
        self._delivered -= 1

    def _not_counted(self) -> tuple[int, int]:
        """Messages taken since `count_taken`, and their bytes."""
        left = len(self.messages)
        taken = self.queued_msgs - left
        if not left:
            return taken, self.queued_bytes
        rest, taken_bytes = taken, 0
        for count, size in self.sizes:
            if not rest:
                break
            taken_bytes += min(count, rest) * size
            rest -= min(count, rest)
        return taken, taken_bytes

    def count_taken(self) -> None:
        """Account for the messages taken since the last time.

        An interrupt comes behind a call or between two rounds: then either nothing was done, or all that belongs
        together.
        """
        left = len(self.messages)
        taken = self.queued_msgs - left
        if taken and not left:
            none: deque[tuple[int, int]] = deque()
            self.sizes = none
            self.queued_msgs = self.queued_bytes = 0
            self._delivered += taken
            return
        sizes = self.sizes
        while taken:
            count, size = sizes[0]
            if count > taken:
                sizes[0] = (count - taken, size)
                count = taken
            else:
                del sizes[0]
            taken -= count
            self.queued_msgs -= count
            self.queued_bytes -= count * size
            self._delivered += count

    def fits(self, count: int, size: int) -> bool:
        """Whether so many more messages, of so many bytes together, are within both limits."""
        if self.pending_msgs + count > self.max_pending_msgs > 0:
            return False
        if self.queued_bytes + size > self.max_pending_bytes > 0:
            # `queued_bytes` still counts what was read meanwhile; it is brought up to date only where that matters.
            self.count_taken()
            return self.queued_bytes + size <= self.max_pending_bytes
        return True

    def handler_started(self) -> None:
        """A callback got a message and runs: a drain waits for it."""
        self._handlers += 1

    def handler_finished(self) -> None:
        """The callback returned or raised."""
        self._handlers -= 1

    def end_with(self, error: NATSError) -> None:
        """End it although its session is not asked any more, as after a defect or in a forked child."""
        self.discard()
        self.status = SubscriptionStatus.CLOSED
        self.error = error

    def discard(self) -> list[MessageT]:
        """Drop what is queued: unsubscribed or closed by the user. What was dropped, marks included."""
        discarded: list[MessageT] = []
        while self.messages:  # one by one: others may be taking them
            with suppress(IndexError):
                discarded.append(self.messages.popleft())
        # Whatever the loop did not find was taken by a reader, maybe during the loop: it is delivered.
        self._delivered += self.queued_msgs - len(discarded)
        self.discarded += len(discarded) - len(self._marks)
        self._marks = _NO_MARKS
        self.queued_msgs = self.queued_bytes = 0
        self.sizes.clear()
        return discarded

    def keep(self, max_msgs: int) -> None:
        """Drop the newest of what is queued, so that ``max_msgs`` are delivered in all, if not more were already."""
        excess = self._delivered + self.queued_msgs - max_msgs  # others may be taking the oldest: the sum stays
        while excess > 0 and self.messages:
            with suppress(IndexError):
                if not self.messages.pop().subject:
                    self._marks.pop()
                    self.discarded -= 1
                count, size = self.sizes.pop()
                if count > 1:
                    self.sizes.append((count - 1, size))
                self.queued_msgs -= 1
                self.queued_bytes -= size
                self.discarded += 1
                excess -= 1
