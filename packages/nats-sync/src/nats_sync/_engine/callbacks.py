"""Callbacks of subscriptions: a small pool of threads that messages are handed to in turn.

A subscription with messages stands in a queue once; the worker that takes it gives its callback one message after the
other, `MAX_BATCH` at most, and puts it back behind the others when there are more. So its messages are handled in order
and never two at once, and a busy subscription does not starve the rest. One with a ``concurrency`` stands there as
often as it has messages, up to so many times; its workers take messages in order, each its own.

**Without a lock.** Many subscriptions with one message each are the usual case of a client with many, and the reader
needs the lock for whole chunks of messages. So a worker takes the lock only to go to sleep, to call another worker, and
where somebody waits for the end of a subscription. What a subscription waits for is told by `Handling.free`.

**How many workers.** A callback that blocks keeps its worker, and nobody can tell beforehand which one will. So one
more worker is always on its way while subscriptions wait for a turn: who adds some calls one, and whoever takes one and
leaves others waiting calls the next, unless one was called that has not come yet. Where callbacks do not block, the
next worker comes when the interpreter makes the first one pause, which is seldom, and finds little to do. Where one
blocks, the next worker has the interpreter at once.

A worker with nothing to do sleeps until it is called. One of them may watch the connection meanwhile (`watcher`): it is
called like the others, when none of them is idle, and what it reads itself it sees to itself.

There are `MAX_WORKERS` at most. With as many callbacks blocked at the same time, other callbacks wait for one of
them to return. A ``concurrency`` above 1 adds as many to this limit, as long as the subscription lives: it can have
them, and the others have what they had. Workers are started when they are needed first and live as long as the client.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from threading import get_ident
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

    def handled(self) -> None:
        """Not under the lock: the worker leaves it. With more messages it puts itself into the queue again."""
        ...


class Owner(Protocol):
    """The client's hub, as the pool knows it."""

    lock: threading.RLock
    """The lock of the client, which guards the pool as well."""

    def leave(self) -> None:
        """When the lock has been released after `Callbacks.see_to_workers`."""

    def fail(self, defect: BaseException) -> None:
        """End the client: it has a defect."""


class Watch(Protocol):
    """Reading the connection by a worker with nothing else to do, as the pool knows it: see `watcher`."""

    def enter(self) -> bool:
        """Under the lock: whether this worker is to `watch`."""
        ...

    def watched(self) -> bool:
        """Under the lock: a worker watches, or has not yet looked at what it was woken for."""
        ...

    def call(self) -> None:
        """Not under the lock: wake the worker who watches, if there is one."""
        ...

    def watch(self) -> None:
        """Not under the lock: sleep until there may be something to do."""
        ...


class Callbacks:
    """The pool of one client."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.ready: deque[Handled] = deque()
        """Those that have messages, in the order of their turns. Workers take them out, each by itself. Who appends one
        under the lock calls `see_to_workers` before it is released; a worker that appends one need not."""
        self.running: dict[int, Handled] = {}
        """Which subscription a worker is at, by the identity of its thread."""
        self.watcher: Watch | None = None
        """Set once, as the client is put together."""
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._coming = False
        """A worker was woken or started and has not looked yet: it will, and sees to the next one."""
        self._idle = 0
        self._workers = 0
        self._reserved = 0
        self._stopping = False
        self.wanted = 0
        """Threads that `start_threads` should start."""
        self.calls_watcher = False
        """`call_watcher` should be called."""
        self.threads: list[threading.Thread] = []

    def see_to_workers(self) -> None:
        """Under the lock, while there are `ready` ones: see that a worker will look at them."""
        if self._coming:
            return
        if self._idle:
            # Here, and not by the worker once it is awake: the next one must not count on the same worker.
            self._idle -= 1
            self._coming = True
            self._wakes.put(None)
        elif self.watcher is not None and self.watcher.watched():
            self._coming = self.calls_watcher = True
        elif self._workers < MAX_WORKERS + self._reserved:
            self._workers += 1
            self.wanted += 1
            self._coming = True

    def expect_worker(self) -> None:
        """Under the lock, by a worker: it will look as soon as it has released the lock."""
        self._coming = True

    def reserve(self, handling: Handling[M]) -> None:
        """Under the lock: there may be as many workers more as the callback is to have at once."""
        if handling.concurrency > 1:
            handling.reserved = handling.concurrency
            self._reserved += handling.reserved

    def release(self, handling: Handling[M]) -> None:
        """Under the lock: it will not be called any more. The second time nothing happens."""
        self._reserved -= handling.reserved
        handling.reserved = 0

    def reserve_threads(self, count: int) -> None:
        """Under the lock: there may be so many workers more, for a `Crew`."""
        self._reserved += count

    def release_threads(self, count: int) -> None:
        """Under the lock: a crew is over."""
        self._reserved -= count

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
                    self._coming = False
                    self.threads.remove(thread)

    def stop(self) -> None:
        """Under the lock: what is queued is still handled, then the threads end."""
        self._stopping = True
        for _ in range(self._idle):
            self._wakes.put(None)
        self._idle = 0
        self.calls_watcher = True

    def call_watcher(self) -> None:
        """Not under the lock, since it calls the system: wake the worker who watches."""
        self.calls_watcher = False
        if self.watcher is not None:
            self.watcher.call()

    def forget_threads(self) -> None:
        """They are not here, in a forked child, and nothing will be handled."""
        self.threads = []
        self.wanted = 0
        self.calls_watcher = False
        self.ready.clear()
        self._stopping = True

    def _run(self, owner: Owner) -> None:
        try:
            self._work(owner)
        except BaseException as defect:
            owner.fail(defect)

    def _work(self, owner: Owner) -> None:
        ready = self.ready
        me = get_ident()
        self._coming = False
        while True:
            sub: Handled | None = None  # while this thread sleeps it holds none
            try:
                sub = ready.popleft()
            except IndexError:
                self.running.pop(me, None)
                if not self._rest(owner):
                    return
                continue
            if ready and not self._coming and (self._idle or self._workers < MAX_WORKERS + self._reserved):
                self._call_another(owner)
            self.running[me] = sub
            while sub.handle_messages(MAX_BATCH) and not ready:
                pass  # nobody else waits for a turn
            sub.handled()

    def _call_another(self, owner: Owner) -> None:
        """The callback that is called next may block, and others wait for a turn."""
        with owner.lock:
            self.see_to_workers()
        owner.leave()

    def _rest(self, owner: Owner) -> bool:
        """Sleep until there may be something to do; False: there will be nothing."""
        with owner.lock:
            if self.ready:
                return True
            if self._stopping:
                return False
            watcher = self.watcher
            if watcher is None or not watcher.enter():
                watcher = None
                self._idle += 1
        if watcher is None:
            self._wakes.get()
        else:
            watcher.watch()
        self._coming = False
        return True
