"""Answers that threads wait for, which wake one another.

Theory of operation
-------------------
Of threads that are woken together, one has the interpreter and all others wait for it: each is put to sleep a second
time, and woken a second time by whoever leaves the interpreter to it. Where many threads ask one after the other, that
is more than all the rest of a request. So answers that come in numbers are *lined up*, and

    the first thread is woken ──▶ it asks again, and goes to sleep ──▶ the next one is woken ──▶ …

by the thread that goes to sleep, which has left the interpreter by then: who wakes finds it free. A thread that has
better to do than to ask again wakes nobody. So whoever lines answers up has to look after those that stand there, and
may wake them all at any moment. Nothing here knows how long anything takes.

Who gives an answer sets ``given`` and then looks at ``asleep``, and who waits for it the other way round: so one of the
two sees what the other has done. What makes a lock is given: nothing here starts a thread, or knows one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from .frames import Message

__all__ = ["ThreadAnswer", "ThreadAnswers"]

SLICE: Final = 1.0
"""Seconds of one sleep, at most. The interpreter looks for signals before a sleep and after it: a signal that comes
right between its look and the sleep does not end it. So a `KeyboardInterrupt` comes that much later, not never."""


class Lock(Protocol):
    """What any thread may release."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:
        """Wait for so many seconds, at most: whether it was acquired."""
        ...

    def release(self) -> object:
        """Wake who waits for it."""
        ...


class ThreadAnswers:
    """The answers of one client that are given, in order, whose threads still sleep.

    ``new_lock`` makes a lock. The compiled twin makes locks of its own.
    """

    __slots__ = ("_line", "gone", "new_lock")

    def __init__(self, new_lock: Callable[[], Lock]) -> None:
        self.new_lock = new_lock
        self._line: deque[ThreadAnswer] = deque()
        self.gone = 0
        """How many have ever left the line."""

    def __len__(self) -> int:
        return len(self._line)

    def add(self, answer: ThreadAnswer) -> None:
        """At the end of the line."""
        self._line.append(answer)

    def wake_next(self) -> bool:
        """Wake the first thread that sleeps. False: none does."""
        line = self._line
        while line:
            try:
                answer = line.popleft()
            except IndexError:
                break  # another thread was quicker
            self.gone += 1
            if answer.wake():
                return True
        return False

    def wake_all(self) -> None:
        """Wake every thread of the line."""
        while self.wake_next():
            pass


class ThreadAnswer:
    """One answer, and the sleep of the one thread that waits for it."""

    __slots__ = ("_answers", "_lock", "asleep", "error", "given", "message")

    def __init__(self, answers: ThreadAnswers) -> None:
        self._answers = answers
        self._lock: Lock | None = None
        """Made by `sleep`: who is told before it sleeps needs none."""
        self.asleep = False
        """The thread sleeps, or is about to."""
        self.given = False
        """There is an answer, or the reason why there will be none. What comes later changes nothing."""
        self.message: Message | None = None
        self.error: Exception | None = None

    # --- for who gives it --------------------------------------------------------------------------------------------

    def give(self, message: Message | None = None, error: Exception | None = None) -> None:
        """Give it, and wake who waits."""
        if not self.given:
            self.message = message
            self.error = error
            self.given = True
            self.wake()

    def line_up(self, message: Message) -> None:
        """Give it. Who waits is woken in its turn, and whoever calls this looks after that."""
        if not self.given:
            self.message = message
            self.given = True
            if self.asleep:
                self._answers.add(self)

    def wake(self) -> bool:
        """Once, when it is given. False: nobody sleeps."""
        lock = self._lock
        if not self.asleep or lock is None:
            return False
        lock.release()
        return True

    # --- for the thread that waits -----------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> bool:
        """Wake the next one of the line, then sleep until this is given: whether it is.

        For so many seconds, at most one; the sleep may also end early. Raises what a signal handler raises.
        """
        lock = self._lock
        if lock is None:
            lock = self._answers.new_lock()
            lock.acquire()
            self._lock = lock
        self.asleep = True
        try:
            if not self.given:
                self._answers.wake_next()
                # To `acquire` -1 means for ever, and any other negative number is an error.
                lock.acquire(True, min(seconds, SLICE) if seconds > 0.0 else 0.0)
        finally:
            self.asleep = False
        return self.given

    def take(self) -> tuple[Message | None, Exception | None]:
        """What was given. It is not kept: the thread that has woken this one may hold this object while it sleeps."""
        taken = self.message, self.error
        self.message = self.error = None
        return taken
