"""Messages with the same key one after another, in order, however many handlers there are.

A key is in use from its first message until the last one that came meanwhile has ended; then it is forgotten. The
messages that wait for their key lie in its lane, those that may begin do not lie here. So what is kept is never more
than what is held anyway. For one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["Lanes"]

ItemT = TypeVar("ItemT")


class Lanes(Generic[ItemT]):
    """Who may begin."""

    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[ItemT]] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def enter(self, key: Hashable, item: ItemT) -> bool:
        """Whether the item may begin at once; else `leave` gives it. `TypeError` for a key without a hash."""
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque()
            return True
        lane.append(item)
        return False

    def leave(self, key: Hashable) -> ItemT | None:
        """One of this key has ended: the next one that may begin, if there is one."""
        lane = self._lanes.get(key)
        if lane:
            return lane.popleft()
        self._lanes.pop(key, None)
        return None

    def clear(self) -> Iterator[ItemT]:
        """All that wait, in no order among the keys; afterwards nothing is in use."""
        lanes = list(self._lanes.values())
        self._lanes.clear()
        for lane in lanes:
            yield from lane
