"""What one task waits for: the answer to a request, or the end of a flush."""

from __future__ import annotations

from nats_proto import Message
from nats_proto.errors import NATSError

from .event_loop import EventLoop, Wait

__all__ = ["Answer"]


class Answer:
    """One wake-up, with or without an answer. ``deadline`` (absolute): when to wake without.

    With ten thousand requests under way, whatever else there is for each of them keeps the garbage collector busy: it
    goes through all that is alive when there is a quarter more of it than the last time. So this is one object for the
    caller, the hub and the timer, beside the one that the event loop needs.
    """

    __slots__ = ("_end", "arrived", "deadline", "error", "given", "message", "over", "token")

    def __init__(self, loop: EventLoop, deadline: float, token: int) -> None:
        self._end = loop.end_wait
        self.arrived: Wait = loop.new_wait()
        """What the caller awaits."""
        self.deadline = deadline
        self.token = token
        """Under which the session and the hub know the wait."""
        self.message: Message | None = None
        self.error: NATSError | None = None
        self.given = False
        self.over = False
        """Nobody waits any more: it is not woken, and `arrived` may be gone."""

    def give(self, message: Message | None = None, error: NATSError | None = None) -> None:
        """Wake who waits: there is an answer, or the reason why there will be none."""
        self.given = True
        self.message = message
        self.error = error
        if not self.over:
            self._end(self.arrived)

    def wake(self) -> None:
        """Wake who waits, whether there is an answer or not."""
        if not self.over:
            self._end(self.arrived)

    def take(self) -> tuple[Message | None, NATSError | None]:
        """What was given. It is not kept: the timer may hold this object until the deadline, and must hold no more."""
        taken = self.message, self.error
        self.message = self.error = None
        del self.arrived
        return taken
