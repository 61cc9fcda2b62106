"""Life-cycle events to ``on_event`` and to the log, one after the other, by one thread.

Whatever user code raises is logged and survived. It may block for as long as it likes: events wait in a bounded queue,
and nothing else waits for them.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    ContentErrorReceived,
    Disconnected,
    EventQueue,
    LameDuckMode,
    LifecycleEvent,
    PublishesDropped,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
    SlowConsumer,
)

from ._handling import close_coroutine

if TYPE_CHECKING:
    from ._pump import Pump

__all__ = ["Dispatcher"]

logger = logging.getLogger("nats_sync")

MAX_EVENTS: Final = 1024
"""Events kept for an ``on_event`` that blocks; past it the oldest are dropped."""
MAX_LINES: Final = 10
"""Log lines in a second about things that a peer or a callback may repeat without end."""


class Dispatcher:
    """The serial dispatcher of one client's events, and its log."""

    def __init__(self, pump: Pump, on_event: Callable[[LifecycleEvent], object] | None, *, inbox_prefix: str) -> None:
        self._pump = pump
        self._on_event = on_event
        self._inbox = re.compile(re.escape(inbox_prefix) + r"\.[^\s'\",;]*")
        self._inbox_shown = f"{inbox_prefix}.…"
        self._queue: EventQueue[LifecycleEvent] = EventQueue(MAX_EVENTS)
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._idle = True
        self._dropped = 0
        self._told = False
        """The log says that ``on_event`` returns what nobody awaits."""
        self._lines_since = -1.0
        self._lines = 0
        self._lines_left_out = 0

    def add(self, event: LifecycleEvent) -> None:
        """Under the lock: put an event behind those that wait."""
        self._queue.add(event)
        if self._idle:
            self._idle = False
            self._wakes.put(None)

    def run(self) -> None:
        """The dispatcher's thread: ends with `Closed`."""
        while True:
            self._wakes.get()
            while (event := self._next()) is not None:
                self._handle(event)
                if isinstance(event, Closed):
                    return

    def _next(self) -> LifecycleEvent | None:
        with self._pump.lock:
            event = self._queue.pop()
            self._idle = event is None
            return event

    def _handle(self, event: LifecycleEvent) -> None:
        self._log_event(event)
        if self._on_event is not None:
            try:
                unawaited = close_coroutine(self._on_event(event))
                if unawaited is not None and not self._told:
                    self._told = True
                    raise unawaited
            except BaseException as error:
                self.log_failure(f"on_event raised for {type(event).__name__}", error)

    # --- the log -----------------------------------------------------------------------------------------------------

    def log_failure(self, text: str, error: BaseException) -> None:
        """Log what user code raised. Handlers of the log are user code as well; what they raise is dropped."""
        with contextlib.suppress(Exception):
            if not self._too_many_lines():
                logger.error("%s", self._inbox.sub(self._inbox_shown, text), exc_info=error)

    def _log_event(self, event: LifecycleEvent) -> None:
        with contextlib.suppress(Exception):
            level, text = _describe(event)
            repeated = isinstance(event, (ServerErrorReceived, ContentErrorReceived, SlowConsumer, Reconnecting))
            if logger.isEnabledFor(level) and not (repeated and self._too_many_lines()):
                logger.log(level, "%s", self._inbox.sub(self._inbox_shown, text))
            dropped, self._dropped = self._queue.dropped - self._dropped, self._queue.dropped
            if dropped:
                logger.warning("on_event is slow: %d events were dropped", dropped)

    def _too_many_lines(self) -> bool:
        with self._pump.lock:
            now = monotonic()
            left_out = 0
            if now >= self._lines_since + 1.0:
                left_out = self._lines_left_out
                self._lines_since, self._lines, self._lines_left_out = now, 0, 0
            self._lines += 1
            too_many = self._lines > MAX_LINES
            if too_many:
                self._lines_left_out += 1
        if left_out:
            logger.warning("%d lines like the last ones were left out", left_out)
        return too_many


def _describe(event: LifecycleEvent) -> tuple[int, str]:
    """The level and the text of an event's line in the log."""
    match event:
        case Connected(server=server):
            return logging.INFO, f"connected to {server}"
        case Disconnected(server=server, error=None):
            return logging.INFO, f"disconnected from {server}"
        case Disconnected(server=server, error=error):
            return logging.WARNING, f"disconnected from {server}: {error}"
        case Reconnecting(server=server, attempt=attempt, delay=delay):
            return logging.INFO, f"reconnecting to {server} in {delay:.3f} s (attempt {attempt})"
        case Reconnected(server=server, attempts=attempts):
            return logging.INFO, f"reconnected to {server} (attempts: {attempts})"
        case ServersDiscovered(servers=servers):
            return logging.INFO, f"discovered {', '.join(servers)}"
        case LameDuckMode(server=server, migrating=migrating):
            return logging.INFO, f"{server} is about to leave{', moving to another server' if migrating else ''}"
        case SlowConsumer(subject=subject, sid=sid, pending_msgs=msgs, pending_bytes=size, dropped=dropped):
            waiting = f"{msgs} messages ({size} bytes) wait, {dropped} dropped so far"
            return logging.WARNING, f"slow consumer: subscription to {subject} (sid {sid}): {waiting}"
        case ServerErrorReceived(error=error, count=count) | ContentErrorReceived(error=error, count=count):
            return logging.WARNING, f"{error}{f' ({count} times)' if count > 1 else ''}"
        case AuthenticationFailed(server=server, error=error, dropped=dropped):
            return logging.WARNING, f"{server}: {error}{'; it is not tried again' if dropped else ''}"
        case PublishesDropped(error=error, dropped_msgs=msgs, dropped_bytes=size):
            return logging.WARNING, f"{msgs} published messages ({size} bytes) were dropped: {error}"
        case Closed(error=None, unsent_msgs=0):
            return logging.INFO, "closed"
        case Closed(error=error, unsent_msgs=msgs):
            why = f": {error}" if error is not None else ""
            return logging.INFO, f"closed{why}{f'; {msgs} published messages were not sent' if msgs else ''}"
