"""A session's drain: what it waits for, until when, and what to say if that does not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Generic

from ._limits import check_timeout, shown
from ._subscription import MessageT, SubscriptionState
from .errors import ConnectionLostError, NATSError, NATSTimeoutError

__all__ = ["Drain"]

FINAL_FLUSH: Final = 5.0
"""Seconds, at most, of the last round trip, when more are left."""


class Drain(Generic[MessageT]):
    """One drain. ``subs`` are those that have to finish: closed, queues read, handlers returned."""

    __slots__ = ("_seconds", "_unfinished", "began", "deadline", "error", "flushing", "subs")

    def __init__(self, subs: Sequence[SubscriptionState[MessageT]], *, now: float, seconds: float) -> None:
        allowed = check_timeout("timeout", seconds)
        if seconds < 0:
            raise ValueError(f"timeout must be 0 seconds or more: {shown(seconds)}")
        self.subs = tuple(subs)
        self._unfinished = deque(subs)
        self.began = now
        self.deadline = now + allowed
        """Infinite for a time above `MAX_SECONDS`."""
        self._seconds = allowed
        self.flushing = False
        """The subscriptions have finished; the last round trip is under way."""
        self.error: NATSError | None = None
        """What the drain will end with."""

    @property
    def subscriptions_finished(self) -> bool:
        """Nothing is left to be read."""
        unfinished = self._unfinished
        while unfinished and unfinished[0].finished:
            unfinished.popleft()
        return not unfinished

    def start_final_flush(self, *, now: float) -> None:
        """The subscriptions have finished."""
        self.flushing = True
        self.deadline = min(self.deadline, now + FINAL_FLUSH)

    def lose_link(self, cause: NATSError | None, *, unsent: int) -> None:
        """There is no connection any more: what is queued can still be read, what is unsent cannot be sent."""
        self.error = ConnectionLostError(
            f"drain: there is no connection; {self._left()}, {unsent} published messages unsent"
        )
        self.error.__cause__ = cause

    def overrun(self) -> NATSError:
        """The time is up."""
        if self.error is not None:
            return self.error
        return NATSTimeoutError(f"drain took longer than {self._seconds:g} s: {self._left()}")

    def _left(self) -> str:
        if self.flushing:
            return "the server did not confirm the last flush"
        waiting = [sub for sub in self.subs if not sub.finished]
        return f"{sum(sub.pending_msgs for sub in waiting)} messages unread in {len(waiting)} subscriptions"
