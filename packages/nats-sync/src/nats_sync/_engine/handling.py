"""A subscription's callback, and who calls it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final, Generic, TypeVar

from nats_proto import Message

__all__ = ["Handling", "M", "close_coroutine"]

M = TypeVar("M", bound=Message)


class Handling(Generic[M]):
    """What a subscription knows of its callback."""

    __slots__ = ("concurrency", "free", "handler", "reserved", "told")

    def __init__(self, handler: Callable[[M], object], concurrency: int) -> None:
        self.handler: Final = handler
        self.concurrency: Final = concurrency
        """Workers at once, at most."""
        self.free: list[None] = [None] * concurrency
        """As many items as workers more may call it. Who takes one out puts its subscription into the pool's queue for
        it, and the worker puts it back. So where there is one, whoever has it is the only one, without any lock."""
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
