"""Clearing away chunks that belong to no object, as a put leaves them that was killed.

Theory of operation
-------------------
First the stream is asked which chunks there are, then the infos of all objects are read. What is among the chunks and
in no info belongs to nobody, or to a put that is on its way: its info comes at the end. So only chunks go whose last
one is old, by the clock of the server, which has dated them as well. In the other order a put that ends in between
would lose its chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._calls.operation import Operation
from .._jetstream.errors import MessageNotFoundError, StreamNotFoundError
from .._jetstream.stream_calls import get_last_msg, purge_stream, stream_info
from .._json.durations import DurationLike, Timestamp, take_duration
from .._keyvalue.errors import BucketNotFoundError
from .._value import Value

if TYPE_CHECKING:
    from .info import ObjectInfo
    from .store import Store

__all__ = ["OLDER_THAN", "Garbage", "GarbageCollected"]

OLDER_THAN: Final = 3600.0
"""Seconds since the last chunk after which a put has been given up, when nobody says otherwise."""


class GarbageCollected(Value, frozen=True, kw_only=True):
    """What `ObjectStore.collect_garbage` has done."""

    objects: int = 0
    """Puts whose chunks were removed."""
    chunks: int = 0
    """How many chunks that were."""
    kept: int = 0
    """Puts that were too young, and may be on their way."""


class Garbage:
    """One round. Raises `TypeError`, `ValueError` for a time that is none."""

    __slots__ = ("_nuids", "_older_than", "_store", "_time", "result")

    def __init__(self, store: Store, older_than: DurationLike) -> None:
        self._store = store
        self._older_than = take_duration("older_than", older_than).nanoseconds
        self._nuids: dict[str, None] = {}
        self._time: Timestamp | None = None
        self.result = GarbageCollected()
        """What was done so far."""

    def look(self, timeout: float | None) -> Operation[None]:
        """First: which chunks there are."""
        store, subjects = self._store, self._store.subjects
        try:
            info = yield from stream_info(
                store.api, subjects.stream, subjects_filter=subjects.all_chunks, timeout=timeout
            )
        except StreamNotFoundError as error:
            raise BucketNotFoundError(
                f"collect garbage of bucket {store.name!r}: there is no such bucket", bucket=store.name
            ) from error
        self._time = info.ts or info.state.last_ts
        found = [subjects.nuid_of(subject) for subject in info.state.subjects or ()]
        self._nuids = dict.fromkeys(nuid for nuid in found if nuid is not None)

    def keep(self, info: ObjectInfo) -> None:
        """Then, for each object: its chunks are no garbage."""
        if info.chunks:
            self._nuids.pop(info.nuid, None)

    def collect(self, timeout: float | None) -> Operation[None]:
        """Last: remove what belongs to nobody. ``timeout`` is for each put."""
        store = self._store
        for nuid in self._nuids:
            subject = store.subjects.chunks(nuid)
            try:
                last = yield from get_last_msg(store.api, store.subjects.stream, subject, direct=True, timeout=timeout)
            except MessageNotFoundError:
                continue  # somebody else has cleared it away
            done = self.result
            if self._is_young(last.time):
                self.result = GarbageCollected(objects=done.objects, chunks=done.chunks, kept=done.kept + 1)
                continue
            chunks = yield from purge_stream(store.api, store.subjects.stream, subject=subject, timeout=timeout)
            self.result = GarbageCollected(objects=done.objects + 1, chunks=done.chunks + chunks, kept=done.kept)

    def _is_young(self, time: Timestamp | None) -> bool:
        if not self._older_than:
            return False
        if self._time is None or time is None:
            return True
        return self._time.nanoseconds - time.nanoseconds < self._older_than
