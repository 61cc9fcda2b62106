"""`KeyValueEntry`: what happened to a key at one revision, and how that is read from a message of the bucket.

There is one place that says what a message means for its key, for reading, watching and listing alike. The header
``KV-Operation`` is written by clients that delete and purge; ``Nats-Marker-Reason`` is written by servers, into the
marker that they leave in the place of a value that has expired or that was removed otherwise (ADR-43, ADR-48).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, Literal, TypeVar

from .._jetstream.errors import JetStreamDecodeError
from .._json.durations import Timestamp, parse_time
from .._value import Value
from .._wire.headers import Headers
from .codecs import UNREADABLE, ValueType
from .errors import KeyDeletedError

__all__ = ["KEY_OPERATION", "TELLING", "KeyOperation", "KeyValueEntry", "operation_of"]

T = TypeVar("T")

KeyOperation = Literal["put", "delete", "purge", "expired"]

KEY_OPERATION: Final = "KV-Operation"
MARKER_REASON: Final = "Nats-Marker-Reason"
TELLING: Final = (KEY_OPERATION.encode(), MARKER_REASON.encode())
"""A message whose header block has none of these texts says that its key was given a value."""
_BY_CLIENTS: Final[Mapping[str, KeyOperation]] = {"DEL": "delete", "PURGE": "purge"}
_BY_SERVERS: Final[Mapping[str, KeyOperation]] = {"MaxAge": "expired", "Purge": "purge", "Remove": "delete"}


# One is built for every message of a bucket, and a program may keep a hundred thousand of them. Nothing that it holds
# refers back to it, so the collector need not look at it (``gc=False``).
class KeyValueEntry(Value, Generic[T], frozen=True, kw_only=True, eq=False, gc=False):
    """One revision of a key."""

    bucket: str
    key: str
    data: bytes
    """The value as it is stored. Empty when there is none, or when values were not asked for."""
    revision: int
    """The sequence in the bucket's stream. Each write to the bucket has a greater one."""
    stored: Timestamp | int | str | None
    """The same as `created`, or that of which it is made when somebody asks: the nanoseconds since 1970, or a text that
    is certainly a time of RFC 3339."""
    delta: int
    """How many entries the reader had still before it when this one was delivered; 0 for the newest."""
    operation: KeyOperation
    """``put``; or that the key has no value any more: ``delete``, ``purge``, ``expired``."""
    codec: ValueType[T]

    @property
    def value(self) -> T:
        """The value. An entry without a value has empty bytes, and in a bucket with another type of values none.

        Raises `JetStreamDecodeError` for bytes that are no value of this type, `KeyDeletedError` for none.
        """
        codec = self.codec
        if self.operation == "put":
            if codec.as_is:
                return self.data  # type: ignore[return-value]  # T is bytes: what ``bytes`` makes of them is the same
            try:
                return codec.read(self.data)
            except UNREADABLE as error:
                text = f"{self._what()}: the value cannot be read: {str(error)[:200]}"
                raise JetStreamDecodeError(text) from None
        if codec.nothing is not None:
            return codec.nothing()
        raise KeyDeletedError(
            f"{self._what()}: it has none, {_TOLD[self.operation]}",
            bucket=self.bucket,
            key=self.key,
            revision=self.revision,
            operation=self.operation,
        )

    def _what(self) -> str:
        return f"value of key {self.key!r} of bucket {self.bucket!r}"

    @property
    def created(self) -> Timestamp | None:
        """When it was written, by the clock of the server."""
        stored = self.stored
        if isinstance(stored, int):
            return Timestamp.from_nanoseconds(stored)
        return parse_time(stored) if isinstance(stored, str) else stored

    @property
    def deleted(self) -> bool:
        """The key has no value: it was deleted or purged, or has expired."""
        return self.operation != "put"

    def __repr__(self) -> str:
        return (
            f"KeyValueEntry(bucket={self.bucket!r}, key={self.key!r}, revision={self.revision}, "
            f"operation={self.operation!r}, data={self.data[:64]!r})"
        )

    def not_found(self, what: str) -> KeyDeletedError:
        """The error of who asks for the value of a key whose last entry is this one."""
        return KeyDeletedError(
            f"{what}: {_TOLD[self.operation]} (revision {self.revision})",
            bucket=self.bucket,
            key=self.key,
            revision=self.revision,
            operation=self.operation,
        )


_TOLD: Final[Mapping[KeyOperation, str]] = {
    "put": "it has a value",
    "delete": "the key was deleted",
    "purge": "the key was purged",
    "expired": "the key has expired",
}


def operation_of(headers: Headers | None) -> KeyOperation:
    """What a message with these headers means for its key."""
    if headers is None:
        return "put"
    said = headers.get(KEY_OPERATION)
    if said is not None:
        return _BY_CLIENTS.get(said, "put")
    return _BY_SERVERS.get(headers.get(MARKER_REASON) or "", "put")
