"""The one timer of a client: when the session wants to be called, and when nobody waits for an answer any longer."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

import anyio
from anyio import CancelScope

from .answers import Answer
from .event_loop import EventLoop

__all__ = ["Timer"]

NEVER: Final = float("inf")
LOOK_THROUGH: Final = 1024
"""Deadlines kept, beside twice those still waited for, before those of answers that have come are thrown out."""


class Timer:
    """``due`` is called, with the time, when the session wants to be called; it has to call `set_session` in turn."""

    def __init__(self, loop: EventLoop, due: Callable[[float], None]) -> None:
        self._now = loop.now
        self._new_wait = loop.new_wait
        self._due = due
        self._session_at = NEVER
        self._deadlines: list[tuple[float, int, Answer]] = []
        """When to give up which answer: a heap, in which a number tells equal deadlines apart. To give each wait a
        cancel scope of its own would take a tenth of the time of a request."""
        self._deadlines_made = 0
        self._look_through_at = LOOK_THROUGH
        self._scope: CancelScope | None = None
        """Of the wait, while there is one."""
        self._set_to = NEVER
        """When the wait ends."""
        self._stopped = False

    def set_session(self, deadline: float | None) -> None:
        """When the session wants to be called next (`Session.next_timeout`)."""
        self._session_at = NEVER if deadline is None else deadline
        # Only an earlier end changes the wait. With a later one it ends too early, which `Session.handle_timeout`
        # allows, and `run` looks again.
        if self._session_at < self._set_to:
            self._end_wait_at(self._session_at)

    async def wait_for(self, answer: Answer, deadline: float) -> None:
        """Return when the answer is there, or at ``deadline`` (absolute) without."""
        if answer.given:
            return
        arrived = answer.arrived = self._new_wait()
        self._deadlines_made += 1
        heappush(self._deadlines, (deadline, self._deadlines_made, answer))
        if len(self._deadlines) >= self._look_through_at:
            self._deadlines = [each for each in self._deadlines if not each[2].over]
            heapify(self._deadlines)
            # Twice what is left: however many wait, each deadline pays for a bounded part of all these looks.
            self._look_through_at = 2 * len(self._deadlines) + LOOK_THROUGH
        if deadline < self._set_to:
            self._end_wait_at(deadline)
        try:
            await arrived.wait()
        finally:
            answer.over = True

    def stop(self) -> None:
        """Let `run` return. Whoever waits for an answer is told by others."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """Keep time until `stop`."""
        while not self._stopped:
            self._set_to = min(self._session_at, self._deadlines[0][0]) if self._deadlines else self._session_at
            with CancelScope(deadline=self._set_to) as self._scope:
                # Not `anyio.sleep_until`: the end of this wait is moved while it lasts (`_end_wait_at`).
                await anyio.Event().wait()
            self._scope = None
            now = self._now()
            while self._deadlines and self._deadlines[0][0] <= now:
                heappop(self._deadlines)[2].wake()
            self._due(now)

    def _end_wait_at(self, deadline: float) -> None:
        if self._scope is not None:  # else `run` is about to look for itself
            self._set_to = self._scope.deadline = deadline
