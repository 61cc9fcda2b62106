"""The queue of those who want to publish and wait until there is room in the outgoing buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

__all__ = ["Publishers"]


class Publishers:
    """First come, first served. ``may_publish`` tells whether the first of them has to wait any longer."""

    def __init__(self, may_publish: Callable[[], bool]) -> None:
        self._may_publish = may_publish
        self.waiting: deque[anyio.Event] = deque()
        self._next: anyio.Event | None = None
        """Of the one who was woken and has not looked yet."""

    async def wait(self) -> None:
        """Return when it is this one's turn and a publish need not wait. A cancelled wait passes its turn on."""
        turn = anyio.Event()
        self.waiting.append(turn)
        while True:
            try:
                await turn.wait()
            except BaseException:
                if turn is self._next:
                    self._next = None
                    self.wake_next()
                else:
                    self.waiting.remove(turn)
                raise
            self._next = None
            if self._may_publish():
                self.wake_next()  # that one runs after the caller, so it looks when the caller has published
                return
            # Somebody who did not wait has taken the room meanwhile. This one stays the first.
            turn = anyio.Event()
            self.waiting.appendleft(turn)

    def wake_next(self) -> None:
        """Wake the first, if it may publish. One is woken at a time: each takes some of the room."""
        if self.waiting and self._next is None and self._may_publish():
            self._next = self.waiting.popleft()
            self._next.set()
