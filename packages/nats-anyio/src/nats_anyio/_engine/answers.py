"""What one task waits for: the answer to a request, or the end of a flush."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

from nats_proto import Message
from nats_proto._wire.twin import TaskAnswer, TaskAnswers, TrioAnswer
from nats_proto.errors import NATSError

from .event_loop import EventLoop, Wait

__all__ = ["Answer", "AnyAnswer", "maker_of_answers"]


class Answer:
    """One wake-up, with or without an answer. ``deadline`` (absolute): when to wake without.

    With ten thousand requests under way, whatever else there is for each of them keeps the garbage collector busy: it
    goes through all that is alive when there is a quarter more of it than the last time. So this is one object for the
    caller, the hub and the timer, beside the one that the event loop needs.

    There is a `TaskAnswer` in its place on asyncio, and a `TrioAnswer` on trio, which is the one for the event loop as
    well. What is left for this one is a trio of which the client does not know how to put tasks to sleep.
    """

    __slots__ = ("_arrived", "_end", "deadline", "error", "given", "message", "over", "token")

    def __init__(self, loop: EventLoop, deadline: float, token: int) -> None:
        self._end = loop.end_wait
        self._arrived: Wait = loop.new_wait()
        self.deadline = deadline
        self.token = token
        """Under which the session and the hub know the wait."""
        self.message: Message | None = None
        self.error: NATSError | None = None
        self.given = False
        self.over = False
        """Nobody waits any more: it is not woken, and `_arrived` may be gone."""

    def __await__(self) -> Generator[object, None, object]:
        return self._arrived.__await__()

    def give(self, message: Message | None = None, error: NATSError | None = None) -> None:
        """Wake who waits: there is an answer, or the reason why there will be none."""
        self.given = True
        self.message = message
        self.error = error
        if not self.over:
            self._end(self._arrived)

    def wake(self) -> None:
        """Wake who waits, whether there is an answer or not."""
        if not self.over:
            self._end(self._arrived)

    def take(self) -> tuple[Message | None, NATSError | None]:
        """What was given. It is not kept: the timer may hold this object until the deadline, and must hold no more."""
        taken = self.message, self.error
        self.message = self.error = None
        del self._arrived
        return taken


AnyAnswer = Answer | TaskAnswer | TrioAnswer


def maker_of_answers(loop: EventLoop) -> Callable[[float, int], AnyAnswer]:
    """What makes the answers of one client, each of a deadline and a token."""
    answers = loop.answers()
    if answers is None:
        return partial(Answer, loop)
    if isinstance(answers, TaskAnswers):
        return partial(TaskAnswer, answers)
    return partial(TrioAnswer, answers)
