"""What runs user code: life-cycle events to ``on_event`` and to the log, messages to callbacks.

Whatever user code raises is logged and survived. It may block its own queue, never the client: events wait in a bounded
queue, messages in their subscription's.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio

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

if TYPE_CHECKING:
    from ._handling import Handling
    from ._subscription import Subscription

__all__ = ["Dispatcher"]

logger = logging.getLogger("nats_anyio")

MAX_EVENTS: Final = 1024
"""Events kept for an ``on_event`` that blocks; past it the oldest are dropped."""
MAX_LINES: Final = 10
"""Log lines in a second about things that a peer or a callback may repeat without end."""


class Dispatcher:
    """The serial dispatcher of one client's events, and its log."""

    def __init__(self, on_event: Callable[[LifecycleEvent], object] | None, *, inbox_prefix: str) -> None:
        self._on_event = on_event
        self._inbox = re.compile(re.escape(inbox_prefix) + r"\.[^\s'\",;]*")
        self._inbox_shown = f"{inbox_prefix}.…"
        self._queue: EventQueue[LifecycleEvent] = EventQueue(MAX_EVENTS)
        self._dropped = 0
        self._arrival: anyio.Event | None = None
        self._lines_since = -1.0
        self._lines = 0
        self._lines_left_out = 0
        self.task_id: int | None = None
        """Of the task that calls ``on_event``."""
        self.finished = anyio.Event()
        """`Closed` was given to ``on_event``, or there is none."""

    def add(self, event: LifecycleEvent) -> None:
        """Log an event and put it behind those that wait for ``on_event``."""
        self._log_event(event)
        if self._on_event is not None:
            self._queue.add(event)
            if self._arrival is not None:
                self._arrival.set()
        elif isinstance(event, Closed):
            self.finished.set()

    async def run(self) -> None:
        """Call ``on_event``, one event after the other, until `Closed` was the last."""
        if self._on_event is None:
            await self.finished.wait()
            return
        self.task_id = anyio.get_current_task().id
        while not self.finished.is_set():
            event = self._queue.pop()
            if event is None:
                self._arrival = anyio.Event()
                await self._arrival.wait()
                continue
            await self._call(event)
            if self._queue.dropped > self._dropped:
                logger.warning("on_event is slow: %d events were dropped", self._queue.dropped - self._dropped)
                self._dropped = self._queue.dropped
            if isinstance(event, Closed):
                self.finished.set()

    async def _call(self, event: LifecycleEvent) -> None:
        assert self._on_event is not None  # nothing is queued without
        try:
            result = self._on_event(event)
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            self._log_failure(f"on_event raised for {type(event).__name__}", error)

    async def serve(self, sub: Subscription, handling: Handling, *, stays: bool) -> None:
        """Give a subscription's messages to its callback, one at a time and in order, until it ends.

        Who does not stay returns when there are none for now.
        """
        handler = handling.handler
        while (turn := await sub.next_turn(handling, stays=stays)) is not None:
            try:
                for message in turn:
                    try:
                        result = handler(message)
                        if result is not None and inspect.isawaitable(result):
                            await result
                    except Exception as error:
                        what = f"the callback of the subscription to {sub.subject} (sid {sub.sid}) raised"
                        self._log_failure(what, error)
            finally:
                sub.handler_finished(handling)

    # --- the log -----------------------------------------------------------------------------------------------------

    def _log_event(self, event: LifecycleEvent) -> None:
        # Filters and handlers of the log are user code as well; what they raise must not reach the pump.
        with contextlib.suppress(Exception):
            level, text = _describe(event)
            repeated = isinstance(event, (ServerErrorReceived, ContentErrorReceived, SlowConsumer, Reconnecting))
            if logger.isEnabledFor(level) and not (repeated and self._too_many_lines()):
                logger.log(level, "%s", self._inbox.sub(self._inbox_shown, text))

    def _log_failure(self, text: str, error: Exception) -> None:
        with contextlib.suppress(Exception):
            if not self._too_many_lines():
                logger.error("%s", self._inbox.sub(self._inbox_shown, text), exc_info=error)

    def _too_many_lines(self) -> bool:
        now = monotonic()
        if now >= self._lines_since + 1.0:
            if self._lines_left_out:
                logger.warning("%d lines like the last ones were left out", self._lines_left_out)
            self._lines_since, self._lines, self._lines_left_out = now, 0, 0
        self._lines += 1
        if self._lines <= MAX_LINES:
            return False
        self._lines_left_out += 1
        return True


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
