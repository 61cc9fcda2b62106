"""Answers that tasks of trio wait for, each of which is all that there is for the wait.

Theory of operation
-------------------
A coroutine that waits by `trio.lowlevel.wait_task_rescheduled` makes two more coroutines, a trap with the function that
ends the wait when it is cancelled, and an outcome to go on with: for each answer half a dozen objects, most of which
the garbage collector counts. A `TrioAnswer` says the same to trio by itself, with one trap and one outcome for all:

    the task awaits it  ──▶ it keeps the task, tells the task of itself, and yields the trap: the task sleeps
    give, wake          ──▶ it is over, and reschedules the task, if that sleeps for it
    the task is sent    ──▶ the outcome of all, and goes on; or another one, which raises what has cancelled the wait

Which answer a task sleeps for stands in the task's ``custom_sleep_data``, which trio empties whenever it reschedules
the task. So a wait that was cancelled is told by that, before its task has run, and the function in the trap need not
know whose wait it ends.

What trio is called by is given: nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from ..errors import NATSError
from .frames import Message

__all__ = ["TrioAnswer", "TrioAnswers"]


class Task(Protocol):
    """Of trio, as it is known here."""

    custom_sleep_data: object
    """Of the one who has put it to sleep. Trio sets it to None whenever the task is rescheduled."""


class Outcome(Protocol):
    """Of trio, as it is known here."""

    def unwrap(self) -> object:
        """The value, or raises the error."""
        ...


class TrioAnswers:
    """By what the answers of one client put tasks to sleep and wake them.

    ``trap`` is what a coroutine yields to trio to have its task sleep until it is rescheduled, or cancelled, which is
    always agreed to. ``woken`` is the outcome that a task goes on with that has an answer.
    """

    __slots__ = ("current_task", "reschedule", "trap", "woken")

    def __init__(
        self,
        current_task: Callable[[], Task],
        reschedule: Callable[[Task, Outcome], object],
        trap: object,
        woken: Outcome,
    ) -> None:
        self.current_task = current_task
        self.reschedule = reschedule
        self.trap = trap
        self.woken = woken


class TrioAnswer:
    """One wake-up, with or without an answer. ``deadline`` (absolute): when to wake without. For one task."""

    __slots__ = ("_answers", "_finished", "_task", "deadline", "error", "given", "message", "over", "token")

    def __init__(self, answers: TrioAnswers, deadline: float, token: int) -> None:
        self._answers = answers
        self._finished = False
        self._task: Task | None = None
        self.deadline = deadline
        self.token = token
        """Under which the session and the adapter know the wait."""
        self.message: Message | None = None
        self.error: NATSError | None = None
        self.given = False
        self.over = False
        """Nobody waits any more: it is not woken."""

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
        self._finished = True
        task, self._task = self._task, None
        # It does not sleep for this when the wait was cancelled and the task has not run since.
        if task is not None and task.custom_sleep_data is self:
            self._answers.reschedule(task, self._answers.woken)

    def __await__(self) -> Generator[object, Outcome, None]:
        if self._finished:
            return
        answers = self._answers
        task = answers.current_task()
        task.custom_sleep_data = self
        self._task = task
        outcome = yield answers.trap
        self._task = None
        # An outcome can be unwrapped once, and this one is for all.
        if outcome is not answers.woken:
            outcome.unwrap()
