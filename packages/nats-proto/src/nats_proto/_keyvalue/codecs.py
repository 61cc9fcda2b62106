"""What keys and values of a program become in a bucket (ADR-54): bytes and plain keys, if nobody says otherwise.

Not every codec for keys can say which stored keys a pattern stands for: where a key is encrypted as a whole, ``*`` in
the place of a part has no meaning any more. Such a codec has no ``encode_pattern``, and a pattern is refused before
anything is asked; else a watch would be told of nothing, and nobody would know why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, runtime_checkable

import msgspec

from .._wire.frames import Payload
from .errors import WildcardNotSupportedError

__all__ = [
    "BYTES",
    "UNREADABLE",
    "FilterableKeyCodec",
    "KeyCodec",
    "ValueCodec",
    "ValueType",
    "check_value_type",
    "encode_pattern",
    "values_of",
]

T = TypeVar("T")

UNREADABLE: Final = (msgspec.DecodeError, RecursionError, ValueError)


class KeyCodec(Protocol):
    """Other names for keys. What ``encode`` gives is checked as a key of ADR-8 is; ``decode`` is its reverse.

    With these two methods alone it takes no patterns but ``>``, all keys: see `FilterableKeyCodec`.
    """

    def encode(self, key: str) -> str:
        """The key as the bucket has it. `ValueError` for what cannot be one."""
        ...

    def decode(self, key: str) -> str:
        """The key as the program knows it. `ValueError` for what it cannot have made."""
        ...


@runtime_checkable
class FilterableKeyCodec(KeyCodec, Protocol):
    """A codec that takes patterns as well, so that keys can be listed and watched by them."""

    def encode_pattern(self, pattern: str) -> str:
        """A pattern as the bucket has it. Its ``*`` and ``>`` have to stay what they are."""
        ...


class ValueCodec(Protocol):
    """Other bytes for values, such as encrypted or compressed ones. ``decode`` is the reverse of ``encode``."""

    def encode(self, value: bytes) -> bytes:
        """The bytes that are stored. What it raises, the call that writes raises."""
        ...

    def decode(self, data: bytes) -> bytes:
        """The value. `ValueError` for bytes that this cannot have made."""
        ...


def encode_pattern(codec: KeyCodec, pattern: str) -> str:
    """A pattern, or a key, as the bucket has it. Raises `WildcardNotSupportedError`, and what the codec raises."""
    if isinstance(codec, FilterableKeyCodec):
        return codec.encode_pattern(pattern)
    if pattern == ">":
        return pattern  # all keys: those that the codec cannot have made are not given
    if "*" in pattern or ">" in pattern:
        raise WildcardNotSupportedError(
            f"{type(codec).__name__} takes no patterns, since it has no encode_pattern: {pattern[:64]!a}; ask for all "
            f"keys, and pick out those that are wanted"
        )
    return codec.encode(pattern)


class ValueType(Generic[T]):
    """How values are written and read.

    ``read`` raises one of `UNREADABLE` for what is no value. ``nothing``: gives the value of an entry that has none.
    """

    __slots__ = ("as_is", "codec", "encode", "kind", "nothing", "read")

    def __init__(
        self,
        kind: type[T],
        encode: Callable[[T], bytes],
        read: Callable[[bytes], T],
        nothing: Callable[[], T] | None,
        codec: ValueCodec | None = None,
    ) -> None:
        self.kind = kind
        self.encode = encode
        self.read = read
        self.nothing = nothing
        self.codec = codec
        """Which is in ``encode`` and ``read`` already."""
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


BYTES: Final = ValueType[bytes](bytes, _as_bytes, bytes, bytes)
"""Values as they are: what ``bytes`` makes of bytes is the same object."""


def values_of(kind: type[T], codec: ValueCodec | None = None) -> ValueType[T]:
    """Values of a type that msgspec knows (a struct, a dataclass, ``dict[str, int]``, ...), written as JSON; bytes are
    written as they are. ``codec``: what becomes of these bytes.

    Raises `TypeError` for a type that msgspec does not know.
    """
    plain: ValueType[T]
    if kind is bytes:
        plain = BYTES  # type: ignore[assignment]  # T is bytes
    else:
        try:
            decode = msgspec.json.Decoder(kind).decode
        except TypeError as error:
            raise TypeError(f"value_type cannot be read from JSON: {error}") from None
        plain = ValueType(kind, msgspec.json.Encoder().encode, decode, None)
    if codec is None:
        return plain
    return ValueType(
        kind,
        lambda value: codec.encode(plain.encode(value)),
        lambda data: plain.read(codec.decode(data)),
        plain.nothing,
        codec,
    )


def check_value_type(kind: type[object] | None) -> None:
    """Raises as `values_of`, before anything is asked."""
    if kind is not None:
        values_of(kind)
