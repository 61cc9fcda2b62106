"""A session's drain: what it waits for, until when, and what to say if that does not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Final, Generic

from .._limits import check_timeout, shown
from .._wording import counted
from ..errors import ConnectionLostError, NATSError, NATSTimeoutError
from .subscription import MessageT, SubscriptionState

__all__ = ["Drain"]

FINAL_FLUSH: Final = 5.0
"""Seconds, at most, of the last round trip, when more are left."""


class Drain(Generic[MessageT]):
    """One drain. ``subs``: the subscriptions that have to finish, which is closed, queue read, handlers returned."""

    __slots__ = ("_seconds", "_unfinished", "deadline", "error", "flushing", "subs")

    def __init__(self, subs: Sequence[SubscriptionState[MessageT]], *, now: float, seconds: float) -> None:
        allowed = check_timeout("timeout", seconds)
        if seconds < 0:
            raise ValueError(f"timeout must be 0 seconds or more: {shown(seconds)}")
        self.subs = tuple(subs)
        self._unfinished = deque(subs)
        self.deadline = None if allowed == inf else now + allowed
        """None for a time above `MAX_SECONDS`."""
        self._seconds = allowed
        self.flushing = False
        """The subscriptions have finished; the last round trip is under way."""
        self.error: NATSError | None = None
        """What the drain will end with, if it comes to its end."""

    @property
    def subscriptions_finished(self) -> bool:
        """Nothing is left to be read."""
        unfinished = self._unfinished
        # While a drain runs `next_timeout` asks this after every call. What has finished is taken off, so that ten
        # thousand subscriptions are not looked at each time.
        while unfinished and unfinished[0].finished:
            unfinished.popleft()
        return not unfinished

    def start_final_flush(self, *, now: float) -> None:
        """The subscriptions have finished."""
        self.flushing = True
        last = now + FINAL_FLUSH
        # The smaller of both: the last round trip must not make the drain longer than the user allows.
        self.deadline = last if self.deadline is None else min(self.deadline, last)

    def begin_without_link(self, *, unsent: int) -> None:
        """There is no connection: what is queued can still be read, what is unsent cannot be sent.

        It is no error when there is neither: nothing is lost then.
        """
        if unsent or any(sub.pending_msgs for sub in self.subs):
            self._fail(f"there is no connection; {self._left(unsent)}", None)

    def lose_link(self, cause: NATSError | None, *, unsent: int) -> None:
        """The connection was lost: with it, what the server had still to send, and what it has not read."""
        left = self._left(unsent) or "the server did not confirm that it had sent everything"
        self._fail(f"the connection was lost; {left}", cause)

    def lose_one_of_two(self, cause: NATSError | None) -> None:
        """Of the connections to a lame duck and to its successor. The drain goes on with the other, and says so."""
        self._fail("one of two connections was lost; its server did not confirm that it had sent everything", cause)

    def _fail(self, why: str, cause: NATSError | None) -> None:
        self.error = ConnectionLostError(f"drain: {why}")
        self.error.__cause__ = cause

    def overrun(self) -> NATSError:
        """The time is up: the error that the drain ends with."""
        if self.error is not None:
            return self.error
        return NATSTimeoutError(f"drain took longer than {self._seconds:g} s: {self._left()}")

    def _left(self, unsent: int = 0) -> str:
        """What the drain still waits for, and what it cannot send."""
        unread = [len(sub.messages) for sub in self.subs if sub.messages]
        running = sum(sub.running_handlers for sub in self.subs)
        parts: list[str] = []
        if unread:
            parts.append(f"{counted(sum(unread), 'message')} unread in {counted(len(unread), 'subscription')}")
        if running:
            parts.append(f"{counted(running, 'callback')} still running")
        if unsent:
            parts.append(f"{counted(unsent, 'published message')} unsent")
        if self.flushing:
            parts.append("the server did not confirm the last flush")
        elif not parts and (active := sum(1 for sub in self.subs if not sub.closed)):
            parts.append(f"the server did not confirm the end of {counted(active, 'subscription')}")
        return ", ".join(parts)
