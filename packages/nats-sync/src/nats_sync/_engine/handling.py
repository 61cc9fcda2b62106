"""A subscription's callback, and who calls it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final, Generic, TypeVar

from nats_proto import Message

__all__ = ["Handling", "M", "close_coroutine"]

M = TypeVar("M", bound=Message)


class Handling(Generic[M]):
    """What a subscription knows of its callback."""

    __slots__ = ("concurrency", "handler", "reserved", "threads", "told", "workers")

    def __init__(self, handler: Callable[[M], object], concurrency: int) -> None:
        self.handler: Final = handler
        self.concurrency: Final = concurrency
        """Workers at once, at most."""
        self.workers = 0
        """Workers that call it, or will, at this moment. Under the lock."""
        self.threads: set[int] = set()
        """Which threads call it now. Each adds and removes itself."""
        self.reserved = 0
        """Workers that the pool may have for its sake, beside those that all subscriptions share."""
        self.told = False
        """The log was told that it returns a coroutine, which nobody awaits."""


def close_coroutine(result: object) -> TypeError | None:
    """What a function of the user returned: if it is a coroutine, why it comes to nothing."""
    if not isinstance(result, Coroutine):
        return None
    result.close()
    return TypeError("it returned a coroutine, and threads await nothing: give a plain function, or use nats_anyio")
