"""How soon a reader asks again after a request that came to nothing.

The first time at once: most of what ends a request early has passed by then, such as the change of a leader. When the
next one comes to nothing as well, and there was no sign of life in between, each pause is twice as long as the one
before, from 0.25 to 5 seconds. So no server, and no sequence of answers, makes a reader ask in a loop.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pacing"]

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
PROMPT: Final = 1.0
"""Seconds. A request that waited longer than this has cost the server nothing, so that the next may follow at once."""


class Pacing:
    """Counts the failures in a row of one reader."""

    __slots__ = ("_last", "failures")

    def __init__(self) -> None:
        self.failures = 0
        """In a row, without a sign of life between them."""
        self._last = float("-inf")

    def failed(self, *, now: float, sent: float, heard: float, at_once: bool = True) -> float:
        """A request was ended early, or refused: seconds until the next one may be sent.

        ``sent``: when it was sent; ``heard``: when there was the last sign of life. ``at_once`` False: already the
        first failure takes a pause.
        """
        if heard > self._last or now - sent >= PROMPT:
            self.failures = 0
        self._last = now
        self.failures += 1
        doublings = self.failures - (2 if at_once else 1)
        if doublings < 0:
            return 0.0
        return min(FIRST_PAUSE * 2.0 ** min(doublings, 8), LONGEST_PAUSE)

    def reset(self) -> None:
        """What follows has nothing to do with what failed."""
        self.failures = 0
