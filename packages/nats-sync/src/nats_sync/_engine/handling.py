"""A subscription's callback, and who calls it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final

from .._message import Message

__all__ = ["Handler", "Handling", "close_coroutine"]

Handler = Callable[[Message], object]
"""A callback of a subscription."""


class Handling:
    """What a subscription knows of its callback. A worker that calls it, or will, has a *turn*."""

    __slots__ = ("concurrency", "handler", "reserved", "threads", "told", "turns")

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
        self.told = False
        """The log says that it returns what nobody awaits."""


def close_coroutine(result: object) -> TypeError | None:
    """What a function of the user returned: if it is a coroutine, why it comes to nothing."""
    if not isinstance(result, Coroutine):
        return None
    result.close()
    return TypeError("it returned a coroutine, and threads await nothing: give a plain function, or use nats_anyio")
