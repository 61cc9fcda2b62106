"""The one timer of a client: when the session wants to be called, and when nobody waits for an answer any longer.

Theory of operation
-------------------
To give each wait a cancel scope of its own would take a tenth of the time of a request. So there is one wait, until the
next thing is due, and each deadline is in one of two places:

    the dict of requests ── those that came in order, so the first one that still waits is due next. A request that is
                            answered leaves that dict anyhow, and so has cost the timer nothing but to compare numbers
    a heap               ── all others: flushes, and requests whose time is up before that of one that came earlier

What stands in the dict behind the first that is not due is not due either: those in order have later deadlines, and one
out of order is in the heap as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from itertools import count
from operator import attrgetter
from typing import Final

import anyio
from anyio import CancelScope

from .answers import AnyAnswer
from .event_loop import EventLoop

__all__ = ["Timer"]

NEVER: Final = float("inf")
LOOK_THROUGH: Final = 1024
"""Deadlines in the heap, beside twice those still waited for, before those of answers that have come are thrown out."""

_deadline: Final[Callable[[AnyAnswer], float]] = attrgetter("deadline")


class Timer:
    """``due`` is called, with the time, when the session wants to be called; it has to call `set_session` in turn.

    ``requests`` are those that wait for answers; who is answered, or waits no longer, is taken out.
    """

    def __init__(self, loop: EventLoop, requests: Mapping[int, AnyAnswer], due: Callable[[float], None]) -> None:
        self._now = loop.now
        self._due = due
        self._session_at = NEVER
        self._requests = requests
        self._latest = -NEVER
        """No request has a later deadline; or there was none when one came in order."""
        self._woken_until = -NEVER
        """Requests with these deadlines were woken. One that is left in the dict by an interrupt is not looked at."""
        self._others: list[tuple[float, int, AnyAnswer]] = []
        """The heap, in which a number tells equal deadlines apart."""
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

    def expect_request(self, answer: AnyAnswer, deadline: float) -> None:
        """`expect` for an answer, with its deadline, that was put behind all others into the dict of requests."""
        if (deadline >= self._latest or len(self._requests) == 1) and deadline > self._woken_until:
            self._latest = deadline
            if deadline < self._set_to:
                self._end_wait_at(deadline)
        else:
            self.expect(answer)

    def expect(self, answer: AnyAnswer) -> None:
        """Wake who waits for this answer at its deadline, unless it is over by then."""
        deadline = answer.deadline
        heappush(self._others, (deadline, next(self._numbers), answer))
        if len(self._others) >= self._look_through_at:
            self._look_through()
        if deadline < self._set_to:
            self._end_wait_at(deadline)

    def _look_through(self) -> None:
        """Throw out the deadlines of what is over."""
        self._others = [each for each in self._others if not each[2].over]
        heapify(self._others)
        # The one whose late deadline has sent all these into the heap may have been answered since.
        self._latest = max([answer.deadline for answer in list(self._requests.values())], default=-NEVER)
        # Twice what is left: however many wait, each deadline pays for a bounded part of all these looks.
        self._look_through_at = 2 * (len(self._requests) + len(self._others)) + LOOK_THROUGH

    def _next_deadline(self) -> float:
        _, first = self._in_order(self._woken_until)
        if self._session_at < first:
            first = self._session_at
        if self._others and self._others[0][0] < first:
            first = self._others[0][0]
        return first

    def _in_order(self, until: float) -> tuple[list[AnyAnswer], float]:
        """The requests that come before the first one whose time is not up then, and its deadline."""
        while True:
            before: list[AnyAnswer] = []
            try:
                for answer in self._requests.values():
                    if answer.deadline > until:
                        return before, answer.deadline
                    before.append(answer)
            except RuntimeError:  # a finalizer, which may run within anything, has taken one out
                continue
            return before, NEVER

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
            self._wake(now)
            self._due(now)

    def _wake(self, now: float) -> None:
        """Wake whose time is up, in the order of their deadlines, however late this is."""
        self._woken_until = now
        due = self._in_order(now)[0]
        if self._others and self._others[0][0] <= now:
            while self._others and self._others[0][0] <= now:
                due.append(heappop(self._others)[2])
            due.sort(key=_deadline)
        for answer in due:
            answer.wake()

    def _end_wait_at(self, deadline: float) -> None:
        if self._scope is not None:  # else `run` is about to look for itself
            self._set_to = self._scope.deadline = deadline
