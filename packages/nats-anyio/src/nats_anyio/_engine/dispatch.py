"""Life-cycle events on their way to ``on_event``, one after the other, and to the log.

``on_event`` may block the events behind it, never the client: they wait in a bounded queue.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

import anyio

from nats_proto import Closed, EventQueue, LifecycleEvent, ReconnectDelayFailed

from .log import Log

__all__ = ["Dispatcher"]

MAX_EVENTS: Final = 1024
"""Events kept for an ``on_event`` that blocks; past it the oldest are dropped."""


class Dispatcher:
    """The serial dispatcher of one client's events."""

    def __init__(self, on_event: Callable[[LifecycleEvent], object] | None, log: Log) -> None:
        self._on_event = on_event
        self._log = log
        self._queue: EventQueue[LifecycleEvent] = EventQueue(MAX_EVENTS)
        self._dropped = 0
        """Of the dropped events, how many the log was told of."""
        self._arrival: anyio.Event | None = None
        self.task_id: int | None = None
        """Of the task that calls ``on_event``."""
        self.finished = anyio.Event()
        """`Closed` was given to ``on_event``, or there is none."""

    def add(self, event: LifecycleEvent | ReconnectDelayFailed) -> None:
        """Log an event and put it behind those that wait for ``on_event``."""
        if isinstance(event, ReconnectDelayFailed):
            self._log.delay_failure(event)
            return
        # Before it waits for ``on_event``: the log tells of an event when it happens, also of one that is dropped here.
        self._log.event(event)
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
            await self._call(self._on_event, event)
            dropped, self._dropped = self._queue.dropped - self._dropped, self._queue.dropped
            if dropped:
                self._log.dropped(dropped, "on_event")
            if isinstance(event, Closed):
                self.finished.set()

    async def _call(self, on_event: Callable[[LifecycleEvent], object], event: LifecycleEvent) -> None:
        try:
            result = on_event(event)
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            self._log.failure(f"on_event raised for {type(event).__name__}", error)
