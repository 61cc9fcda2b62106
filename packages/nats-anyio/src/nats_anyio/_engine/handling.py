"""A subscription's callback, and who calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._message import Message

__all__ = ["Handler", "Handling"]

Handler = Callable[[Message], object]
"""A callback of a subscription: a function, or one that returns something to await."""


class Handling:
    """What a subscription knows of its callback. One worker is always there, or several come and go."""

    __slots__ = ("concurrency", "handler", "tasks", "turns", "workers")

    def __init__(self, handler: Handler, concurrency: int) -> None:
        self.handler: Final = handler
        self.concurrency: Final = concurrency
        """Workers at once, at most."""
        self.workers = 0
        """Tasks that call it, wait for messages, or were just started."""
        self.turns = 0
        """Those of them that are in the midst of calling."""
        self.tasks: set[int] = set()
        """Ids of the workers."""
