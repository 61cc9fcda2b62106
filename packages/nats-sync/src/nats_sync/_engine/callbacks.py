"""Callbacks of subscriptions: a small pool of threads that messages are handed to in turn.

A subscription with messages stands in a queue once; the worker that takes it gives its callback one message after the
other, `MAX_BATCH` at most, and puts it back behind the others when there are more. So its messages are handled in order
and never two at once, and a busy subscription does not starve the rest. One with a ``concurrency`` stands there as
often as it has messages, up to so many times; its workers take messages in order, each its own.

A callback that blocks keeps its worker: as long as there are fewer than `MAX_WORKERS`, another is started when a
subscription finds none idle. With `MAX_WORKERS` callbacks blocked at the same time, other callbacks wait for one of
them to return. A ``concurrency`` above 1 adds as many to this limit, as long as the subscription lives: it can have
them, and the others have what they had.

Workers are started when they are needed first and live as long as the client.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from .handling import Handling, M

__all__ = ["Callbacks"]

MAX_WORKERS: Final = 32
"""Callbacks that may block at the same time before others have to wait."""
MAX_BATCH: Final = 64
"""Messages handled before the next subscription has its turn, if one waits for it."""


class Handled(Protocol):
    """A subscription with a callback, as the pool knows it."""

    def handle_messages(self, limit: int) -> bool:
        """Give up to so many messages to the callback, one after the other. Whether there may be more."""
        ...

    def has_more(self) -> bool:
        """Under the lock: whether it should stay in the queue; if not, the worker leaves it."""
        ...


class Owner(Protocol):
    """The client's hub, as the pool knows it."""

    lock: threading.RLock
    """The lock of the client, which guards the pool as well."""

    def leave(self) -> None:
        """When the lock has been released after `Handled.has_more`."""

    def fail(self, defect: BaseException) -> None:
        """End the client: it has a defect."""


class Callbacks:
    """The pool of one client."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ready: deque[Handled] = deque()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._idle = 0
        self._workers = 0
        self._reserved = 0
        self._stopping = False
        self.wanted = 0
        """Threads that `start_threads` should start."""
        self.threads: list[threading.Thread] = []

    def schedule(self, sub: Handled) -> None:
        """Under the lock: the subscription has messages and stands in no queue."""
        self._ready.append(sub)
        if self._idle:
            # Here, and not by the worker once it is awake: the next subscription must not count on the same worker.
            self._idle -= 1
            self._wakes.put(None)
        elif self._workers < MAX_WORKERS + self._reserved:
            self._workers += 1
            self.wanted += 1

    def reserve(self, handling: Handling[M]) -> None:
        """Under the lock: there may be as many workers more as the callback is to have at once."""
        if handling.concurrency > 1:
            handling.reserved = handling.concurrency
            self._reserved += handling.reserved

    def release(self, handling: Handling[M]) -> None:
        """Under the lock: it will not be called any more. The second time nothing happens."""
        self._reserved -= handling.reserved
        handling.reserved = 0

    def start_threads(self, owner: Owner) -> None:
        """Not under the lock: starting a thread waits for it."""
        while True:
            with owner.lock:
                if not self.wanted:
                    return
                self.wanted -= 1
                thread = threading.Thread(
                    target=self._run, args=(owner,), name=f"{self._name}-callbacks-{len(self.threads) + 1}", daemon=True
                )
                self.threads.append(thread)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads: those that run have to do
                with owner.lock:
                    self._workers -= 1
                    self.threads.remove(thread)

    def stop(self) -> None:
        """Under the lock: what is queued is still handled, then the threads end."""
        self._stopping = True
        for _ in range(self._idle):
            self._wakes.put(None)
        self._idle = 0

    def forget_threads(self) -> None:
        """They are not here, in a forked child, and nothing will be handled."""
        self.threads = []
        self.wanted = 0
        self._ready.clear()
        self._stopping = True

    def _run(self, owner: Owner) -> None:
        try:
            self._work(owner)
        except BaseException as defect:
            owner.fail(defect)

    def _work(self, owner: Owner) -> None:
        while True:
            with owner.lock:
                sub = self._ready.popleft() if self._ready else None
                if sub is None:
                    if self._stopping:
                        return
                    self._idle += 1
            if sub is None:
                self._wakes.get()
                continue
            while sub.handle_messages(MAX_BATCH) and not self._ready:
                pass  # nobody else waits for a turn
            with owner.lock:
                if sub.has_more():
                    self._ready.append(sub)
            owner.leave()
