"""The infos of all objects, as the keys of a bucket of Key-Value: so that one machine watches both.

What differs is where they stand, how a key is written, and when an entry says that there is nothing any more: an info
says so in its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._jetstream.errors import JetStreamDecodeError
from .._jetstream.stream_config import StreamConfig
from .._keyvalue.codecs import BYTES
from .._keyvalue.entry import KeyOperation, KeyValueEntry
from .._keyvalue.operations import Bucket
from .._keyvalue.watch import WatchOptions
from .info import ObjectInfo, read_info
from .names import Subjects

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._json.durations import Timestamp
    from .._wire.headers import Headers

__all__ = ["Metas", "list_options"]


def list_options(patience: float, *, show_deleted: bool) -> WatchOptions:
    """Each object once, as it is when it is told."""
    return WatchOptions(ignore_deletes=not show_deleted, until_initial=True, patience=patience, distinct=True)


class Metas(Bucket[bytes]):
    """Of one bucket of objects. Only for a `Watch`."""

    __slots__ = ("_names",)

    def __init__(self, api: JetStreamApi, subjects: Subjects) -> None:
        super().__init__(api, StreamConfig(name=f"KV_{subjects.bucket}"), "any", BYTES, None)
        self._names = subjects
        self.subjects.stream = self.subjects.origin_stream = subjects.stream
        self.subjects.read = self.subjects.write = subjects.all_metas.removesuffix(">")

    def entry(
        self,
        subject: str,
        data: bytes,
        headers: Headers | None,
        revision: int,
        stored: Timestamp | int | None,
        delta: int,
    ) -> KeyValueEntry[bytes] | None:
        """Of a message of the stream; None when its subject is that of no object."""
        name = self._names.name_of(subject)
        if name is None:
            return None
        operation: KeyOperation = "put"
        try:
            if self._info(name, data, None).deleted:
                operation = "delete"
        except JetStreamDecodeError:
            pass  # whoever takes the entry is told
        return KeyValueEntry(
            bucket=self.name,
            key=name,
            data=data,
            revision=revision,
            stored=stored,
            delta=delta,
            operation=operation,
            codec=BYTES,
        )

    def entry_maker(self) -> None:
        """Each info has to be read, to know whether there is an object yet."""

    def info_of(self, entry: KeyValueEntry[bytes]) -> ObjectInfo:
        """The info in an entry. Raises `JetStreamDecodeError` for what is none."""
        return self._info(entry.key, entry.data, entry.created)

    def _info(self, name: str, data: bytes, created: Timestamp | None) -> ObjectInfo:
        what = f"info of object {name[:64]!r} of bucket {self.name!r}"
        return read_info(what, data, name=name, bucket=self.name, mtime=created)
