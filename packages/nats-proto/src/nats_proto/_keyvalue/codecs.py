"""What keys and values of a program become in a bucket (ADR-54): bytes and plain keys, if nobody says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from .._jetstream.errors import JetStreamDecodeError
from .._wire.frames import Payload

__all__ = ["BYTES", "KeyCodec", "ValueCodec", "value_codec"]

T = TypeVar("T")


class KeyCodec(Protocol):
    """Other names for keys. What ``encode`` gives is checked as a key of ADR-8 is; ``decode`` is its reverse."""

    def encode(self, key: str) -> str:
        """The key as the bucket has it. `ValueError` for what cannot be one."""
        ...

    def encode_pattern(self, pattern: str) -> str:
        """The same for a pattern, whose ``*`` and ``>`` have to stay what they are."""
        ...

    def decode(self, key: str) -> str:
        """The key as the program knows it. `ValueError` for what it cannot have made."""
        ...


class ValueCodec(Generic[T]):
    """How values are written and read. ``nothing``: gives the value of an entry that has none, or raises."""

    __slots__ = ("encode", "nothing", "read")

    def __init__(
        self, encode: Callable[[T], bytes], read: Callable[[bytes], T], nothing: Callable[[], T] | None
    ) -> None:
        self.encode = encode
        self.read = read
        self.nothing = nothing

    def decode(self, what: str, data: bytes) -> T:
        """The value. `JetStreamDecodeError`, whose text begins with ``what``, for what is none of this type."""
        try:
            return self.read(data)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise JetStreamDecodeError(f"{what}: the value cannot be read: {str(error)[:200]}") from None


def _as_bytes(given: Payload) -> bytes:
    if type(given) is bytes:
        return given
    try:
        return bytes(memoryview(given))
    except TypeError:
        raise TypeError(
            f"a value must be bytes, not {type(given).__name__}: see KeyValue.typed for other types"
        ) from None


BYTES: Final = ValueCodec[bytes](_as_bytes, lambda data: data, lambda: b"")
"""Values as they are."""


def value_codec(kind: type[T]) -> ValueCodec[T]:
    """Values of a type that msgspec knows (a struct, a dataclass, ``dict[str, int]``, ...), written as JSON.

    Raises `TypeError` for a type that it does not know.
    """
    return ValueCodec(msgspec.json.Encoder().encode, msgspec.json.Decoder(kind).decode, None)
