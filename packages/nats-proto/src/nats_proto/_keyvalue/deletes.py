"""Clearing away what deleted keys have left: the markers that are old, and what stands before those that are young."""

from __future__ import annotations

from typing import Generic, TypeVar

from .._calls.operation import Operation
from .._json.durations import DurationLike, Timestamp, take_duration
from .._value import Value
from .bucket import KeyValueStatus
from .entry import KeyValueEntry
from .operations import Bucket

__all__ = ["OLDER_THAN", "Cleaning", "DeletesPurged"]

T = TypeVar("T")

OLDER_THAN = 1800.0
"""Seconds for which a marker is left, when nobody says otherwise: watchers that were away are to be told by it."""


class DeletesPurged(Value, frozen=True, kw_only=True):
    """What `KeyValue.purge_deletes` has done."""

    keys: int = 0
    """Keys of which nothing is left."""
    kept: int = 0
    """Markers that were too young to be removed."""
    entries: int = 0
    """Entries that were removed in all, markers and the history before them."""


class Cleaning(Generic[T]):
    """One round. The time is that of the server, so that it is the same clock that has dated the markers.

    Nothing that is written meanwhile is removed: each key is purged up to the marker that was seen, and not further.
    So a round that ends early has done a part, and the next one does the rest.
    """

    __slots__ = ("_bucket", "_now", "_older_than", "entries", "kept", "keys")

    def __init__(self, bucket: Bucket[T], older_than: DurationLike, status: KeyValueStatus) -> None:
        self._bucket = bucket
        self._older_than = take_duration("older_than", older_than).nanoseconds
        info = status.stream_info
        self._now: Timestamp | None = info.ts or info.state.last_ts
        self.keys = self.kept = self.entries = 0

    def clean(self, entry: KeyValueEntry[T], timeout: float | None) -> Operation[None]:
        """Remove the marker, and all before it; a young one stays."""
        young = self._is_young(entry)
        if young:
            self.kept += 1
            if self._bucket.history == 1:
                return  # there is nothing before it
        self.entries += yield from self._bucket.clean(entry, keep=young, timeout=timeout)
        if not young:
            self.keys += 1

    @property
    def result(self) -> DeletesPurged:
        """What was done so far."""
        return DeletesPurged(keys=self.keys, kept=self.kept, entries=self.entries)

    def _is_young(self, entry: KeyValueEntry[T]) -> bool:
        if not self._older_than:
            return False
        if self._now is None or entry.created is None:
            return True
        return self._now.nanoseconds - entry.created.nanoseconds < self._older_than
