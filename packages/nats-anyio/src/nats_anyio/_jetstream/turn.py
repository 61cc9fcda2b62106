"""Whose turn it is to read, where several tasks read from one iterator."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

__all__ = ["Turn"]


class Turn:
    """One has it at a time; the others get it in the order in which they came.

    Who finds that it is not ``taken`` takes it without a call, since that is nearly always so.
    """

    __slots__ = ("_now", "_waiting", "taken")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.taken = False
        """Somebody has it."""
        self._waiting: deque[anyio.Event] = deque()

    async def wait(self, deadline: float | None) -> bool:
        """Wait until nobody has it; False when somebody still had it at ``deadline`` (absolute; None: never)."""
        while self.taken:
            if deadline is not None and self._now() >= deadline:
                return False
            free = anyio.Event()
            self._waiting.append(free)
            try:
                with anyio.CancelScope(deadline=float("inf") if deadline is None else deadline):
                    await free.wait()
            except BaseException:
                if free.is_set():
                    self._pass_on()  # it was its turn, and it does not come to take it
                raise
            finally:
                if free in self._waiting:
                    self._waiting.remove(free)
        return True

    def give_back(self) -> None:
        """Let the next one have it."""
        self.taken = False
        self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting and not self.taken:
            self._waiting.popleft().set()
