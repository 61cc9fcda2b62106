"""`Ahead`: how many messages a reader asks for ahead, by the size of those that came.

Theory of operation
-------------------
A server sends what was asked for, and then waits for the next request. So that neither waits for the other, enough has
to be on its way. How much that may be is a matter of memory, since all of it may lie unread. So a reader begins with
few messages. While those that come are small it asks for more, as many as are `BYTES` together, but not for more than
`MOST`. As soon as they are larger again, it asks for fewer.
"""

from __future__ import annotations

from sys import maxsize
from typing import Final

__all__ = ["Ahead"]

BYTES: Final = 4 * 1024 * 1024
"""Of all that is asked for, as long as messages are as large as those before them."""
MOST: Final = 8000
"""With half of that a thread, which shares the interpreter with the one that reads the socket, still waits at times."""
SAMPLE: Final = 200
"""Messages that tell something of those that follow."""


class Ahead:
    """A `Demand`. ``fewest``: messages that may be outstanding at least, and as long as nothing is known.

    More are asked for when a quarter of them is missing.
    """

    __slots__ = ("_allowed", "_bytes", "_count", "_fewest", "_fitting", "low", "maximum", "threshold")

    def __init__(self, fewest: int) -> None:
        self._fewest = self._fitting = fewest
        self._allowed = maxsize
        """So many the consumer allows in one request, as far as it has told."""
        self._count = 0
        self._bytes = 0
        self.maximum = fewest
        self.threshold = self.low = 0
        self._reckon()

    def came(self, count: int, size: int) -> None:
        """So many messages, whose values have so many bytes together."""
        self._count += count
        self._bytes += size

    def reckon(self, outstanding: int, now: float) -> bool:
        """By those that came since the last time, if they are enough to tell."""
        if self._count >= SAMPLE:
            fitting = BYTES * self._count // max(1, self._bytes)
            self._fitting = max(self._fewest, min(fitting, MOST))
            self._count = self._bytes = 0
            self._reckon()
        return True

    def asked(self, outstanding: int) -> None:
        """The numbers stay what they are."""

    def lower(self, most: int) -> None:
        """It never asks for more again."""
        self._allowed = most
        self._reckon()

    def _reckon(self) -> None:
        self.maximum = min(self._fitting, self._allowed)
        self.threshold = max(1, self.maximum * 3 // 4)
        self.low = self.threshold - 1
