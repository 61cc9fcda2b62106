"""Whose publishes the server has refused: it names the subject, and neither reply subject nor number.

So who waits for answers says what it publishes to (``Session.subscribe(..., asks=...)``), and is told of the refusals
of that. Most publish to one subject all the time and are found by it, since a client may have thousands of readers,
and a program without permission may publish as often as it likes. The others are asked, one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from .subscription import MessageT, SubscriptionState

__all__ = ["Askers", "Asks"]

Asks = str | Callable[[str], int | None]
"""A subject; or what says of one whether something that was published to it waits for an answer: None, nothing does, or
the number of the last publish by now, of whatever numbers the reader gives them."""


class Askers(Generic[MessageT]):
    """Subscriptions whose readers publish and wait for answers."""

    __slots__ = ("_asks", "_by_subject", "_others")

    def __init__(self) -> None:
        self._asks: dict[int, Asks] = {}
        """Of each, by sid."""
        self._by_subject: dict[str, dict[int, SubscriptionState[MessageT]]] = {}
        self._others: dict[int, tuple[SubscriptionState[MessageT], Callable[[str], int | None]]] = {}

    def add(self, sub: SubscriptionState[MessageT], asks: Asks) -> None:
        """The reader of this subscription publishes."""
        self._asks[sub.sid] = asks
        if isinstance(asks, str):
            self._by_subject.setdefault(asks, {})[sub.sid] = sub
        else:
            self._others[sub.sid] = sub, asks

    def remove(self, sub: SubscriptionState[MessageT]) -> None:
        """It has ended. Most are not here."""
        asks = self._asks.pop(sub.sid, None)
        if isinstance(asks, str):
            same = self._by_subject[asks]
            del same[sub.sid]
            if not same:
                del self._by_subject[asks]
        elif asks is not None:
            del self._others[sub.sid]

    def of(self, subject: str) -> list[tuple[SubscriptionState[MessageT], int]]:
        """Those that may have published to this subject, each with the number of its last publish."""
        found = [(sub, 0) for sub in self._by_subject.get(subject, {}).values()]
        for sub, asks in self._others.values():
            last = asks(subject)
            if last is not None:
                found.append((sub, last))
        return found
