"""Starts tasks for those who cannot: what the event loop calls when something has arrived is outside of any task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

__all__ = ["Starter"]


class Starter:
    """Calls in a task what others ask for, in order."""

    def __init__(self) -> None:
        self._wanted: deque[Callable[[], object]] = deque()
        self._more: anyio.Event | None = None
        """Made by the task: to make an event takes one."""

    def call(self, start: Callable[[], object]) -> None:
        """Have this called by the task, soon. It must not block."""
        self._wanted.append(start)
        if self._more is not None:
            self._more.set()

    async def run(self) -> None:
        """The task: until it is cancelled."""
        while True:
            more = self._more = anyio.Event()
            while self._wanted:
                self._wanted.popleft()()
            await more.wait()
