"""The queue of the threads that want to publish and wait until there is room in the outgoing buffer.

Theory of operation
-------------------
Such a thread has a *turn*, which stands in the queue while the thread sleeps. First come, first served. All is done
under the lock of the hub, but for the sleep itself.

    a thread finds no room ──▶ its turn stands in the queue ──▶ it is called ──▶ there is room: the thread publishes
                                          ▲                                 └──▶ others were faster ─┐
                                          └──────────── before all that came later ──────────────────┘

**One is called at a time.** The first publisher that runs may fill all the room there is. The others would wake up to
find nothing, and each of them would have to be given the interpreter for that. So every report of what was written
calls one, the first, as long as there is room. Who was called and publishes makes the next report by that: what it has
published will be written. Who was called and does not publish, because its time is up, a signal handler has raised, or
its message was refused, gives its turn to the next one (`leave`).

Who was called may also be held up before it publishes, by a signal handler that waits for something else. So as long as
somebody stands in the queue, the writer's thread looks every `PAUSE` seconds, and calls one where there is room.

A signal handler may also run in the midst of all this, and use the queue itself. So nothing here relies on that the
queue is still what it was a step before.

**All are called** when the connection has ended: publishes are kept for the next one then, and nobody waits.
"""

from __future__ import annotations

from bisect import insort
from contextlib import suppress
from itertools import count
from operator import attrgetter
from typing import Final

from .waiter import Waiter

__all__ = ["Publishers", "Turn"]

_number: Final = attrgetter("number")


class Turn(Waiter[None]):
    """Of one thread that wants to publish. It may stand in the queue several times, one after the other."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        """Its place among all turns; 0 before it has one."""


class Publishers:
    """Of one client. Everything is called under the lock of the hub."""

    def __init__(self) -> None:
        self.waiting: list[Turn] = []
        """In the order of their numbers."""
        self._numbers = count(1)

    def enter(self, turn: Turn) -> None:
        """There is no room: put it into the queue, where it was before if it has been there."""
        if turn in self.waiting:
            return
        turn.begin_anew()
        if not turn.number:
            turn.number = next(self._numbers)
        insort(self.waiting, turn, key=_number)

    def discard(self, turn: Turn) -> None:
        """Its thread has published."""
        with suppress(ValueError):
            self.waiting.remove(turn)

    def leave(self, turn: Turn, *, room: bool) -> None:
        """Its thread does not want to publish any more, whether it was called or not."""
        self.discard(turn)
        if room:
            self.call()

    def call(self) -> None:
        """There is room: wake the first."""
        for turn in self.waiting[:1]:
            turn.complete()  # before it is taken out: an interrupt in between would leave its thread asleep
            self.discard(turn)

    def call_all(self) -> None:
        """There is room for all, or nothing to wait for any more."""
        while self.waiting:
            self.call()
