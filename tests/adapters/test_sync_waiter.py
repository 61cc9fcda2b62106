"""One wait of a thread: told before it, in the midst of its beginning, and afterwards."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from nats_sync._engine.publishers import Publishers, Turn
from nats_sync._engine.waiter import Waiter


def test_told_before_it_waits() -> None:
    waiter: Waiter[str] = Waiter()
    waiter.complete("answer")
    waiter.complete("another")
    assert waiter.wait(5.0)
    assert (waiter.done, waiter.result, waiter.error) == (True, "answer", None)


def test_told_while_it_begins_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tells looks for a lock that is not there yet, or releases it: the wait ends in both cases."""
    made = threading.Lock
    for told_first in (True, False):
        waiter: Waiter[str] = Waiter()

        class Lock:
            """One that is acquired while somebody tells the waiter."""

            def __init__(self, waiter: Waiter[str] = waiter, told_first: bool = told_first) -> None:
                self._lock = made()
                self.release = self._lock.release
                self._waiter, self._told_first = waiter, told_first

            def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
                if self._told_first:
                    self._waiter.complete("answer")
                taken = self._lock.acquire(blocking, timeout)
                self._waiter.complete("answer")
                return taken

        with monkeypatch.context() as patch:
            patch.setattr(threading, "Lock", Lock)
            assert waiter.wait(5.0), told_first
        assert waiter.result == "answer"


def test_nobody_tells_it() -> None:
    waiter: Waiter[str] = Waiter()
    for _ in range(2):
        assert not waiter.wait(0.0)
        assert not waiter.wait(-1.0)
        assert not waiter.wait(0.001)
    assert not waiter.done
    waiter.complete(error=ValueError("no"))
    assert waiter.wait(0.0)
    assert isinstance(waiter.error, ValueError)


def test_told_by_another_thread_at_any_moment() -> None:
    waiters: SimpleQueue[Waiter[int] | None] = SimpleQueue()

    def tell() -> None:
        while (waiter := waiters.get()) is not None:
            waiter.complete(1)

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        for _ in range(3000):
            waiter: Waiter[int] = Waiter()
            waiters.put(waiter)
            assert waiter.wait(30.0)
            assert waiter.result == 1
    finally:
        waiters.put(None)
        thread.join()


def test_a_turn_waits_once_more_after_it_was_called() -> None:
    """A publisher who was called, and finds no room all the same, stands in the queue again."""
    publishers, turn = Publishers(), Turn()
    for called_first in (True, False, True):
        publishers.enter(turn)
        if called_first:
            publishers.call()
            assert turn.wait(0.0)
        else:
            assert not turn.wait(0.0)
            publishers.call()
            assert turn.wait(0.0)
        publishers.discard(turn)
        publishers.enter(turn)
        assert not turn.wait(0.0), "nobody has called it again"
        publishers.discard(turn)
