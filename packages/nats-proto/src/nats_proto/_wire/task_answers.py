"""Answers that tasks of asyncio wait for, each of which wakes its task together with others.

Theory of operation
-------------------
A future of asyncio asks the loop to call whoever waits for it. With one for each answer, the loop makes and calls a
handle for each of hundreds that came in one chunk, and that is a good part of what a request costs. But a task can wait
for any object that does what the task asks of a future. A `TaskAnswer` does that, and nothing else that futures do:

    the task awaits it  ──▶ add_done_callback: it keeps what wakes the task
    give, wake, cancel  ──▶ it is over, and stands in the list of its `TaskAnswers`
    resume              ──▶ each that stands there wakes its task, in order

The first that comes into the list has the loop call `TaskAnswers.resume`, so one call of the loop wakes all those that
are given before. An answer is also what its caller, and who gives it, know of it: with ten thousand of them under way,
each further object for one would be looked at by the garbage collector again and again.

The event loop and the class of its cancellations are given: nothing here knows more of asyncio than what a task calls.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Protocol

from ..errors import NATSError
from .frames import Message

if TYPE_CHECKING:
    from contextvars import Context

__all__ = ["TaskAnswer", "TaskAnswers"]


class Loop(Protocol):
    """Of asyncio, as it is known here."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call it in the next turn."""
        ...


class TaskAnswers:
    """The answers of one client that are over, and whose tasks are to be woken. ``cancelled``: `CancelledError`."""

    __slots__ = ("_called", "_over", "cancelled", "loop")

    def __init__(self, loop: Loop, cancelled: type[BaseException]) -> None:
        self.loop = loop
        self.cancelled = cancelled
        self._over: list[TaskAnswer] = []
        self._called = False
        """The loop will call `resume`."""

    def add(self, answer: TaskAnswer) -> None:
        """Wake its task soon."""
        self._over.append(answer)
        if not self._called:
            self.loop.call_soon(self.resume)
            # Behind it: after an interrupt in between the loop calls twice. The other way round it never would.
            self._called = True

    def resume(self) -> None:
        """By the loop: wake the tasks. What one of them raises comes out, and the others are woken in the next turn."""
        self._called = False
        over = iter(self._over)
        self._over = []
        try:
            for answer in over:
                answer.resume()
        finally:
            left = [*over]  # a task raises nothing but `KeyboardInterrupt` and `SystemExit`
            if left:
                self._over[:0] = left
                self.add(self._over.pop())


class TaskAnswer:
    """One wake-up, with or without an answer. ``deadline`` (absolute): when to wake without. For one task."""

    __slots__ = (
        "_answers",
        "_asyncio_future_blocking",
        "_cancelled",
        "_context",
        "_finished",
        "_wake_task",
        "deadline",
        "error",
        "given",
        "message",
        "over",
        "token",
    )

    def __init__(self, answers: TaskAnswers, deadline: float, token: int) -> None:
        self._answers = answers
        self._asyncio_future_blocking = False
        self._cancelled: BaseException | None = None
        self._context: Context | None = None
        self._finished = False
        self._wake_task: Callable[[TaskAnswer], object] | None = None
        self.deadline = deadline
        self.token = token
        """Under which the session and the adapter know the wait."""
        self.message: Message | None = None
        self.error: NATSError | None = None
        self.given = False
        self.over = False
        """Nobody waits any more: it is not woken."""

    # --- for who gives it --------------------------------------------------------------------------------------------

    def give(self, message: Message | None = None, error: NATSError | None = None) -> None:
        """Wake who waits: there is an answer, or the reason why there will be none."""
        self.given = True
        self.message = message
        self.error = error
        if not self.over:
            self._finish()

    def wake(self) -> None:
        """Wake who waits, whether there is an answer or not."""
        if not self.over:
            self._finish()

    def take(self) -> tuple[Message | None, NATSError | None]:
        """What was given. It is not kept: a timer may hold this object until the deadline, and must hold no more."""
        taken = self.message, self.error
        self.message = self.error = None
        return taken

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            if self._wake_task is not None:
                self._answers.add(self)

    def resume(self) -> None:
        """By `TaskAnswers`: wake the task."""
        wake_task, context = self._wake_task, self._context
        self._wake_task = self._context = None
        if wake_task is not None and context is not None:
            context.run(wake_task, self)

    # --- for the task that waits, by the names that it asks a future for ---------------------------------------------

    def __await__(self) -> Generator[TaskAnswer, None, None]:
        if not self._finished:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    def get_loop(self) -> Loop:
        """The task's, or it would not wait."""
        return self._answers.loop

    def add_done_callback(self, wake_task: Callable[[TaskAnswer], object], *, context: Context) -> None:
        """Call this, in this context, when it is over. One is kept, the last."""
        self._wake_task = wake_task
        self._context = context
        if self._finished:
            self._answers.add(self)

    def cancel(self, msg: object = None) -> bool:
        """The task is cancelled. False: too late, there is an answer, and the task has to be told by other means."""
        if self._finished:
            return False
        self._cancelled = self._answers.cancelled() if msg is None else self._answers.cancelled(msg)
        self._finish()
        return True

    def result(self) -> None:
        """Raises what has cancelled the wait."""
        if self._cancelled is not None:
            raise self._cancelled
