"""A subscription's callback, and who calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ._message import Message

__all__ = ["Handler", "Handling"]

Handler = Callable[[Message], object]
"""A callback of a subscription."""


class Handling:
    """What a subscription knows of its callback. A worker that calls it, or will, has a *turn*."""

    __slots__ = ("concurrency", "handler", "reserved", "threads", "turns")

    def __init__(self, handler: Handler, concurrency: int) -> None:
        self.handler: Final = handler
        self.concurrency: Final = concurrency
        """Turns at once, at most."""
        self.turns = 0
        """Turns at this moment. Under the lock."""
        self.threads: set[int] = set()
        """Which threads call it now. Each adds and removes itself."""
        self.reserved = 0
        """Workers that the pool may have for it, beside those that all subscriptions share."""
