"""One thread, one clock, one heap, one source of chance: everything that happens in a simulated world happens here."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = ["START", "Timer", "Violation", "World"]

START = 1000.0
"""Where the clock begins (seconds). Not 0, so that a forgotten time shows."""

STANDSTILL = 20_000
"""Steps without the clock moving after which somebody is busy for ever."""

Timer = list[Any]
"""One entry of the heap: time, number, callback (None once cancelled), arguments."""


class Violation(AssertionError):
    """A promise was broken."""


class World:
    """The clock, what is going to happen, and what did. Times are virtual seconds."""

    __slots__ = ("_heap", "_number", "_still", "hits", "lines", "now", "recording", "rng", "seed", "steps")

    def __init__(self, seed: int, *, recording: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now = START
        self.steps = 0
        self.hits: Counter[tuple[str, str]] = Counter()
        """(fault, status of the session it met): how often."""
        self.recording = recording
        self.lines: list[str] = []
        self._heap: list[Timer] = []
        self._number = 0
        self._still = 0

    def at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call ``callback`` at ``when``; in the order of asking when several are due together."""
        self._number += 1
        timer: Timer = [when, self._number, callback, args]
        heapq.heappush(self._heap, timer)
        return timer

    def after(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call ``callback`` in ``delay`` seconds."""
        return self.at(self.now + delay, callback, *args)

    @staticmethod
    def cancel(timer: Timer) -> None:
        """It will not be called."""
        timer[2] = None

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Let the world go on until ``until``, or until ``done()``. Whether it was done."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, callback, args = heapq.heappop(heap)
            if callback is None:
                continue
            if when > self.now:
                self.now = when
                self._still = 0
            self._still += 1
            if self._still > STANDSTILL:
                raise Violation(f"{STANDSTILL} steps without time moving: somebody is busy for ever")
            self.steps += 1
            callback(*args)
            if done is not None and done():
                return True
        self.now = max(self.now, until)
        return done is not None and done()

    def chance(self, probability: float) -> bool:
        """True that often."""
        return self.rng.random() < probability

    def note(self, text: str) -> None:
        """One line of the record; call it when `recording` only, making the text is what costs."""
        self.lines.append(f"{self.now - START:12.6f}  {text}")

    def fingerprint(self) -> str:
        """Of the record: equal when, and only when, two runs were equal."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
