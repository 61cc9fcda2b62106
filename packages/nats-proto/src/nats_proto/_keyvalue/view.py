"""A bucket in memory: a mapping that a watch keeps as the bucket is, and how old it may be.

Theory of operation
-------------------
One writer, which is the watch, and any number of readers, which may be other threads. Each change is one assignment to
one `dict`, or one removal from it. A reader takes what it needs by one step as well, so nobody needs a lock: a loop
goes over a copy. A value is read from its bytes when it is first asked for, and is kept beside its entry; a new entry
has a place of its own, so a value that is put there late belongs to it all the same.

What is in the mapping is what the bucket had at some moment. How long ago that may be, at the most, is told by when the
consumer was last heard: it sends a heart-beat when it has nothing else to send. So silence, for whatever reason, makes
the view older, and nothing else does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Final, Generic, TypeVar

from .._session.subscription import MessageT
from .entry import KeyValueEntry
from .operations import Bucket
from .watch import Watch, WatchOptions

__all__ = ["LiveMapping", "ViewWatch"]

T = TypeVar("T")

NEVER: Final = float("inf")
HEARTBEAT: Final = 100


class _Held(Generic[T]):
    """An entry, and what it has been read to. ``known`` is set behind ``value``."""

    __slots__ = ("entry", "known", "value")

    value: T

    def __init__(self, entry: KeyValueEntry[T]) -> None:
        self.entry = entry
        self.known = False


class LiveMapping(Mapping[str, T]):
    """The keys of a bucket that have a value, and their values, as the last change has left them. Read-only.

    A value that cannot be read raises `JetStreamDecodeError` when it is asked for.
    """

    _entries: dict[str, _Held[T]]

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        """For heirs that have another base as well."""
        self._entries = {}

    def __getitem__(self, key: str) -> T:
        return self._value(self._entries[key])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def entry(self, key: str) -> KeyValueEntry[T]:
        """The entry of a key. Raises `KeyError`."""
        return self._entries[key].entry

    def copy(self) -> dict[str, T]:
        """All keys and values as they are at this moment."""
        return {key: self._value(held) for key, held in list(self._entries.items())}

    def items(self) -> ItemsView[str, T]:
        """Of a copy."""
        return self.copy().items()

    def values(self) -> ValuesView[T]:
        """Of a copy."""
        return self.copy().values()

    def _put(self, entry: KeyValueEntry[T]) -> None:
        """What has happened to a key."""
        if entry.deleted:
            self._entries.pop(entry.key, None)
        else:
            self._entries[entry.key] = _Held(entry)

    def _value(self, held: _Held[T]) -> T:
        if not held.known:
            held.value = held.entry.value
            held.known = True
        return held.value


class ViewWatch(Watch[MessageT, T]):
    """A `Watch` that knows when its consumer was last heard."""

    __slots__ = ("heard",)

    def __init__(self, bucket: Bucket[T], options: WatchOptions, *, now: float) -> None:
        super().__init__(bucket, options, now=now)
        self.heard = -NEVER

    def receive(self, message: MessageT, *, now: float) -> None:
        """A message of the consumer, or a status."""
        self._hear(message, now)
        super().receive(message, now=now)

    def receive_all(self, arrived: deque[MessageT], marked: Callable[[], None], *, now: float) -> None:
        """As of `Watch`."""
        if arrived:
            self._hear(arrived[-1], now)
        super().receive_all(arrived, marked, now=now)

    def _hear(self, message: MessageT, now: float) -> None:
        if message.reply is not None:
            self.heard = now
            return
        status = message.status if message.subject else None
        if status is not None and status.code == HEARTBEAT:
            self.heard = now
