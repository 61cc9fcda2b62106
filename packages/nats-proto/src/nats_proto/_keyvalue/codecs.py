"""What keys and values of a program become in a bucket (ADR-54): bytes and plain keys, if nobody says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from .._wire.frames import Payload

__all__ = ["BYTES", "UNREADABLE", "KeyCodec", "ValueCodec", "value_codec"]

T = TypeVar("T")

UNREADABLE: Final = (msgspec.DecodeError, RecursionError, ValueError)


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
    """How values are written and read.

    ``read`` raises one of `UNREADABLE` for what is no value. ``nothing``: gives the value of an entry that has none.
    """

    __slots__ = ("as_is", "encode", "nothing", "read")

    def __init__(
        self, encode: Callable[[T], bytes], read: Callable[[bytes], T], nothing: Callable[[], T] | None
    ) -> None:
        self.encode = encode
        self.read = read
        self.nothing = nothing
        self.as_is = read is bytes
        """A value is what is stored."""


def _as_bytes(given: Payload) -> bytes:
    if type(given) is bytes:
        return given
    try:
        return bytes(memoryview(given))
    except TypeError:
        raise TypeError(
            f"a value must be bytes, not {type(given).__name__}: see KeyValue.typed for other types"
        ) from None


BYTES: Final = ValueCodec[bytes](_as_bytes, bytes, bytes)
"""Values as they are: what ``bytes`` makes of bytes is the same object."""


def value_codec(kind: type[T]) -> ValueCodec[T]:
    """Values of a type that msgspec knows (a struct, a dataclass, ``dict[str, int]``, ...), written as JSON.

    Raises `TypeError` for a type that it does not know.
    """
    return ValueCodec(msgspec.json.Encoder().encode, msgspec.json.Decoder(kind).decode, None)
