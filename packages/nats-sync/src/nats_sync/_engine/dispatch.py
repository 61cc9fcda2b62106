"""Life-cycle events to the log and to ``on_event``, one after the other, each by a thread of its own.

One thread logs events when they happen; where there is an ``on_event``, it passes them on to another, which calls it.
So a call of ``on_event`` finds its event logged, and one that blocks silences nothing.

Whatever user code raises is logged and survived. Handlers of the log are user code as well. Either may block for as
long as it likes, and call the client: neither is called under its lock. Events wait in bounded queues, and nothing
else waits for them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from typing import Final, Generic, TypeVar

from nats_proto import Closed, EventLog, EventQueue, LifecycleEvent, LogLine, ReconnectDelayFailed

from .handling import close_coroutine

__all__ = ["Dispatcher"]

EventT = TypeVar("EventT", bound=LifecycleEvent | ReconnectDelayFailed)

logger = logging.getLogger("nats_sync")

MAX_EVENTS: Final = 1024
"""Events kept for a log or an ``on_event`` that blocks; past it the oldest are dropped."""


class Dispatcher:
    """The serial dispatcher of one client's events, and its log."""

    def __init__(
        self, lock: threading.RLock, on_event: Callable[[LifecycleEvent], object] | None, *, inbox_prefix: str
    ) -> None:
        self._on_event = on_event
        self._to_log: _Events[LifecycleEvent | ReconnectDelayFailed] = _Events(lock)
        self._to_tell: _Events[LifecycleEvent] = _Events(lock)
        self._log = EventLog(inbox_prefix=inbox_prefix)
        self._log_lock = threading.Lock()
        """Held while the log counts its lines, and not while a line is written, which is user code."""
        self._told_unawaited = False
        """The log was told that ``on_event`` returns a coroutine, which nobody awaits."""
        self._told_end = False
        self._teller: threading.Thread | None = None
        """The thread that calls ``on_event``."""

    def add(self, event: LifecycleEvent | ReconnectDelayFailed) -> None:
        """Under the client's lock: put an event behind those that wait to be logged."""
        self._to_log.add(event)

    def run(self) -> None:
        """The thread that logs: ends with `Closed`."""
        while True:
            event = self._to_log.next()
            if isinstance(event, ReconnectDelayFailed):
                self._write(self._log.line_of_delay(event), event.error)
                continue
            self._write(self._log.line_of(event))
            if self._on_event is not None:
                self._to_tell.pass_on(event)
            dropped = self._to_log.dropped()
            if dropped:
                self._write(self._log.line_of_dropped(dropped, "the log"))
            if isinstance(event, Closed):
                return

    def run_on_event(self) -> None:
        """The thread that calls ``on_event``, if there is one: ends with `Closed`."""
        assert self._on_event is not None  # it has a thread
        self._teller = threading.current_thread()
        while True:
            event = self._to_tell.next()
            # Before the call: if a defect ends this thread after it, `tell_end` must not tell the end a second time.
            self._told_end = isinstance(event, Closed)
            try:
                unawaited = close_coroutine(self._on_event(event))
                if unawaited is not None and not self._told_unawaited:
                    self._told_unawaited = True
                    raise unawaited
            except BaseException as error:
                self.log_failure(f"on_event raised for {type(event).__name__}", error)
            dropped = self._to_tell.dropped()
            if dropped:
                self._write(self._log.line_of_dropped(dropped, "on_event"))
            if isinstance(event, Closed):
                return

    def tell_end(self, closed: Closed | None) -> None:
        """By one of the two threads, when a defect has ended it: the other one tells ``on_event`` of the end."""
        if self._on_event is None or closed is None or self._told_end:
            return
        if threading.current_thread() is self._teller:
            self._told_end = True
            self._on_event(closed)
        else:
            self._to_tell.pass_on(closed)

    # --- the log -----------------------------------------------------------------------------------------------------

    def log_failure(self, text: str, error: BaseException) -> None:
        """Log what user code raised; by any thread, not under the client's lock."""
        self._write(self._log.line_of_failure(text), error)

    def _write(self, line: LogLine, error: BaseException | None = None) -> None:
        """Not under the client's lock. What filters and handlers of the log raise is dropped: nobody could be told."""
        with contextlib.suppress(BaseException):  # no thread of a client may end by what is raised here
            if not logger.isEnabledFor(line.level):
                return
            with self._log_lock:
                lines = self._log.limit(line, now=monotonic())
            for each in lines:
                logger.log(each.level, "%s", each.text, exc_info=error if each is line else None)


class _Events(Generic[EventT]):
    """Those that wait for one thread."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        """The client's. Taken by the threads that events wait for, and by the hub around `add`."""
        self._queue: EventQueue[EventT] = EventQueue(MAX_EVENTS)
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._idle = True
        self._dropped = 0

    def add(self, event: EventT) -> None:
        """Under the client's lock: put one behind the others."""
        self._queue.add(event)
        if self._idle:
            self._idle = False
            self._wakes.put(None)

    def pass_on(self, event: EventT) -> None:
        """`add`, when the lock is not held."""
        with self._lock:
            self.add(event)

    def next(self) -> EventT:
        """By the thread: the oldest, once there is one."""
        while True:
            with self._lock:
                event = self._queue.pop()
                if event is not None:
                    return event
                self._idle = True
            self._wakes.get()

    def dropped(self) -> int:
        """How many were dropped since the last call."""
        with self._lock:
            dropped, self._dropped = self._queue.dropped - self._dropped, self._queue.dropped
            return dropped
