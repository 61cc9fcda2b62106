"""Bytes that come in pieces of any size, as chunks of one size, with their digest."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeGuard

if TYPE_CHECKING:
    from .._wire.frames import Payload

__all__ = ["Chunker", "Digest", "as_piece", "is_payload", "parts_of", "read_digest"]

_ALGORITHM: Final = "SHA-256="
"""The only one that there is (ADR-20)."""


def is_payload(piece: object) -> TypeGuard[Payload]:
    """Whether it is bytes, in any form that can be published."""
    return isinstance(piece, (bytes, bytearray, memoryview))


def as_piece(given: object) -> Payload:
    """What a source has given. Raises `TypeError` for what is no bytes."""
    if is_payload(given):
        return memoryview(given).cast("B") if isinstance(given, memoryview) else given
    raise TypeError(f"an object is made of bytes, not of {type(given).__name__}")


def parts_of(piece: Payload, size: int) -> Iterator[Payload]:
    """A piece in parts of at most ``size`` bytes."""
    if len(piece) <= size:
        yield piece
        return
    view = memoryview(piece).cast("B")
    for at in range(0, len(view), size):
        yield view[at : at + size]


class Digest:
    """Of bytes that come one after another."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = sha256()

    def add(self, data: Payload) -> None:
        """The next bytes."""
        self._hash.update(data)

    @property
    def text(self) -> str:
        """Of all bytes so far, as an object's info has it."""
        return _ALGORITHM + urlsafe_b64encode(self._hash.digest()).decode()

    def is_that(self, expected: bytes) -> bool:
        """Whether it is this one, as `read_digest` gave it."""
        return self._hash.digest() == expected


def read_digest(text: str | None) -> bytes | None:
    """The digest in an object's info; None for what is none, or made in a way that nobody has described.

    Padding may be missing, and either alphabet of base64 be used.
    """
    if text is None or not text.startswith(_ALGORITHM):
        return None
    encoded = text.removeprefix(_ALGORITHM).rstrip("=").replace("+", "-").replace("/", "_")
    try:
        found = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return None
    return found if len(found) == 32 else None


class Chunker:
    """Cuts pieces into chunks of ``size`` bytes. A piece that is one chunk already is taken as it is."""

    __slots__ = ("_rest", "_size", "digest", "total")

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = bytearray()
        self.digest = Digest()
        self.total = 0
        """Bytes so far."""

    def add(self, piece: Payload) -> Iterator[bytes]:
        """The chunks that are full now. Each is made when it is taken."""
        size, rest = self._size, self._rest
        view = memoryview(piece).cast("B")
        self.digest.add(view)
        self.total += len(view)
        at = 0
        if rest:
            at = min(size - len(rest), len(view))
            rest += view[:at]
            if len(rest) < size:
                return
            whole = bytes(rest)
            rest.clear()
            yield whole
        if len(view) == size and not at:
            yield piece if type(piece) is bytes else bytes(view)
            return
        while len(view) - at >= size:
            yield bytes(view[at : at + size])
            at += size
        rest += view[at:]

    def end(self) -> bytes:
        """What is left: shorter than a chunk, and maybe nothing."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest
