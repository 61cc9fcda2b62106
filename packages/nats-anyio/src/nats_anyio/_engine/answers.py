"""What one task waits for: the answer to a request, or the end of a flush."""

from __future__ import annotations

from nats_proto import Message
from nats_proto.errors import NATSError

from .event_loop import Wait

__all__ = ["Answer"]


class Answer:
    """One wake-up, with or without an answer."""

    __slots__ = ("arrived", "error", "given", "message", "over")

    def __init__(self) -> None:
        self.arrived: Wait | None = None
        self.message: Message | None = None
        self.error: NATSError | None = None
        self.given = False
        self.over = False
        """Nobody waits any more."""

    def take(self) -> tuple[Message | None, NATSError | None]:
        """What was given. It is not kept: the timer holds this object until the deadline, and must hold no more."""
        taken = self.message, self.error
        self.message = self.error = self.arrived = None
        return taken

    def give(self, message: Message | None = None, error: NATSError | None = None) -> None:
        """Wake who waits: there is an answer, or the reason why there will be none."""
        self.given = True
        self.message = message
        self.error = error
        self.wake()

    def wake(self) -> None:
        """Wake who waits, whether there is an answer or not."""
        if self.arrived is not None:
            self.arrived.set()
