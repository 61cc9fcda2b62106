"""How many messages a reader without end has outstanding: asked for, and not taken yet.

`Consume` asks its demand each time it looks whether to ask for more. `Fixed` is that of a reader which takes what it
likes when it likes; that of a watch, whose messages may be small, is `Ahead`; that of handlers, which also counts what
they hold, is `Prefetch`.
"""

from __future__ import annotations

from typing import Protocol

from .options import half

__all__ = ["Demand", "Fixed"]


class Demand(Protocol):
    """What `Consume` asks."""

    maximum: int
    """Messages that are outstanding at most."""
    threshold: int
    """More are asked for when fewer than so many are outstanding."""
    low: int
    """So many are outstanding when it is time to look, at the latest."""

    def reckon(self, outstanding: int, now: float) -> bool:
        """Make up the numbers above for this moment. False: enough are outstanding, so that nobody needs to look."""
        ...

    def asked(self, outstanding: int) -> None:
        """After that, when it was True: what was missing was asked for, as far as that was possible."""
        ...

    def lower(self, most: int) -> None:
        """The consumer allows no more than so many in one request."""
        ...


class Fixed:
    """The same numbers all the time."""

    __slots__ = ("low", "maximum", "threshold")

    def __init__(self, maximum: int, threshold: int) -> None:
        self.maximum = maximum
        self.threshold = threshold
        self.low = threshold - 1

    def reckon(self, outstanding: int, now: float) -> bool:
        """They are what they are."""
        return True

    def asked(self, outstanding: int) -> None:
        """They stay what they are."""

    def lower(self, most: int) -> None:
        """It asks for so many, and again when half of them have come."""
        self.maximum = most
        self.threshold = min(self.threshold, half(most))
        self.low = self.threshold - 1
