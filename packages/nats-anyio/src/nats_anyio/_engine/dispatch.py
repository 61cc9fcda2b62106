"""What runs user code: life-cycle events to ``on_event`` and to the log, messages to callbacks.

Whatever user code raises is logged and survived. It may block its own queue, never the client: events wait in a bounded
queue, messages in their subscription's.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio

from nats_proto import Closed, EventLog, EventQueue, LifecycleEvent, LogLine, ReconnectDelayFailed

if TYPE_CHECKING:
    from .._subscription import Subscription
    from .handling import Handling

__all__ = ["Dispatcher"]

logger = logging.getLogger("nats_anyio")

MAX_EVENTS: Final = 1024
"""Events kept for an ``on_event`` that blocks; past it the oldest are dropped."""


class Dispatcher:
    """The serial dispatcher of one client's events, and its log."""

    def __init__(self, on_event: Callable[[LifecycleEvent], object] | None, *, inbox_prefix: str) -> None:
        self._on_event = on_event
        self._log = EventLog(inbox_prefix=inbox_prefix)
        self._queue: EventQueue[LifecycleEvent] = EventQueue(MAX_EVENTS)
        self._dropped = 0
        self._arrival: anyio.Event | None = None
        self.task_id: int | None = None
        """Of the task that calls ``on_event``."""
        self.finished = anyio.Event()
        """`Closed` was given to ``on_event``, or there is none."""

    def add(self, event: LifecycleEvent | ReconnectDelayFailed) -> None:
        """Log an event and put it behind those that wait for ``on_event``."""
        if isinstance(event, ReconnectDelayFailed):
            self._write(self._log.line_of_delay(event), event.error)
            return
        self._write(self._log.line_of(event))
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
            dropped, self._dropped = self._queue.dropped - self._dropped, self._queue.dropped
            if dropped:
                self._write(self._log.line_of_dropped(dropped, "on_event"))
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

    def _log_failure(self, text: str, error: Exception) -> None:
        self._write(self._log.line_of_failure(text), error)

    def _write(self, line: LogLine, error: BaseException | None = None) -> None:
        # Filters and handlers of the log are user code as well; what they raise must not reach the hub.
        with contextlib.suppress(Exception):
            if not logger.isEnabledFor(line.level):
                return
            for each in self._log.limit(line, now=monotonic()):
                logger.log(each.level, "%s", each.text, exc_info=error if each is line else None)
