"""The one timer of a client: when the session wants to be called, and when nobody waits for an answer any longer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
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
        self._due = due
        self._session_at = NEVER
        self._in_order: deque[Answer] = deque()
        """Answers to be given up, the next one first. To give each wait a cancel scope of its own would take a tenth of
        the time of a request."""
        self._others: list[tuple[float, int, Answer]] = []
        """Those whose time is up before that of one that came earlier: a heap, in which a number tells equal deadlines
        apart. Where all wait for the same number of seconds there are none."""
        self._numbers = count()
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

    def expect(self, answer: Answer) -> None:
        """Wake who waits for this answer at its deadline, unless it is over by then."""
        deadline = answer.deadline
        in_order = self._in_order
        while in_order and in_order[0].over:
            in_order.popleft()
        if not in_order or in_order[-1].deadline <= deadline:
            in_order.append(answer)
        else:
            heappush(self._others, (deadline, next(self._numbers), answer))
        if len(in_order) + len(self._others) >= self._look_through_at:
            self._look_through()
        if deadline < self._set_to:
            self._end_wait_at(deadline)

    def _look_through(self) -> None:
        """Throw out the deadlines of what is over."""
        self._in_order = deque([answer for answer in self._in_order if not answer.over])
        self._others = [each for each in self._others if not each[2].over]
        heapify(self._others)
        # Twice what is left: however many wait, each deadline pays for a bounded part of all these looks.
        self._look_through_at = 2 * (len(self._in_order) + len(self._others)) + LOOK_THROUGH

    def _next_deadline(self) -> float:
        first = self._session_at
        if self._in_order and self._in_order[0].deadline < first:
            first = self._in_order[0].deadline
        if self._others and self._others[0][0] < first:
            first = self._others[0][0]
        return first

    def stop(self) -> None:
        """Let `run` return. Whoever waits for an answer is told by others."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """Keep time until `stop`."""
        while not self._stopped:
            self._set_to = self._next_deadline()
            with CancelScope(deadline=self._set_to) as self._scope:
                # Not `anyio.sleep_until`: the end of this wait is moved while it lasts (`_end_wait_at`).
                await anyio.Event().wait()
            self._scope = None
            now = self._now()
            while self._in_order and self._in_order[0].deadline <= now:
                self._in_order.popleft().wake()
            while self._others and self._others[0][0] <= now:
                heappop(self._others)[2].wake()
            self._due(now)

    def _end_wait_at(self, deadline: float) -> None:
        if self._scope is not None:  # else `run` is about to look for itself
            self._set_to = self._scope.deadline = deadline
