"""A thread that has called the client waits for one thing, which a thread of the client will tell it."""

from __future__ import annotations

import threading
from collections.abc import MutableSequence
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from nats_proto._wire.twin import ThreadAnswer

__all__ = ["Waiter", "complete_all", "remaining", "wait_for"]

T = TypeVar("T")

SLICE: Final = 1.0
"""Seconds of one part of a long wait. The interpreter looks for signals before a wait and after it: a signal that comes
right between its look and the wait does not end the wait. So a `KeyboardInterrupt` comes that much later, not never."""


class Waiter(Generic[T]):
    """One wait. Made by the thread that waits, completed once by another one, under the client's lock.

    A bare lock costs one wake-up and a fraction of what an `Event` or a `Condition` does. It is made by who waits: a
    caller who leads (`turns`) takes its answer itself, and needs none. A `KeyboardInterrupt` ends the wait like a
    timeout: whoever waits takes the waiter out of where it is registered in any case.
    """

    __slots__ = ("_lock", "done", "error", "result")

    def __init__(self) -> None:
        self._lock: threading.Lock | None = None
        """Made by `wait`: who is told before it waits needs none."""
        self.done = False
        self.result: T | None = None
        self.error: Exception | None = None

    def begin_anew(self) -> None:
        """By the thread that waits, under the client's lock: what it was told before is over."""
        self.done = False
        self._lock = None

    def complete(self, result: T | None = None, error: Exception | None = None) -> None:
        """End the wait. A second call does nothing."""
        if not self.done:
            self.result = result
            self.error = error
            # In this order, and in `wait` the other way round: one of the two sees what the other has done.
            self.done = True
            if self._lock is not None:
                self._lock.release()

    def wait(self, seconds: float | None) -> bool:
        """Whether it was completed within so many seconds; None: for ever."""
        lock = self._lock
        if lock is None:
            # Released by `complete`: unlike an `RLock`, a plain lock may be released by another thread.
            lock = threading.Lock()
            lock.acquire()
            self._lock = lock
            if self.done:
                return True
        acquire = lock.acquire
        if seconds is None or seconds > threading.TIMEOUT_MAX:
            seconds = threading.TIMEOUT_MAX  # the system can wait no longer, and nobody will wait that long
        while seconds > SLICE:
            # ``done`` without the lock: an interrupt has ended `complete` in its midst.
            if acquire(True, SLICE) or self.done:
                return True
            seconds -= SLICE
        # To `acquire` -1 means for ever, and any other negative number is an error.
        return acquire(True, seconds if seconds > 0.0 else 0.0) or self.done


def wait_for(answer: ThreadAnswer, deadline: float) -> bool:
    """Whether it was given until then (absolute)."""
    while not answer.given:
        seconds = deadline - monotonic()
        if not answer.sleep(seconds) and seconds <= 0.0:
            return answer.given
    return True


def remaining(deadline: float | None) -> float | None:
    """Seconds until an absolute time, not negative; None: for ever."""
    return None if deadline is None else max(0.0, deadline - monotonic())


def complete_all(waiters: MutableSequence[Waiter[None]]) -> None:
    """End every wait. The list is empty afterwards."""
    for waiter in waiters:
        waiter.complete()
    waiters.clear()
