"""A header block or payload put together from the chunks it came in."""

from __future__ import annotations

from typing import Final

__all__ = ["Assembly"]

KiB: Final = 1024

SMALL_PIECE: Final = 4 * KiB
"""Bytes below which a piece is joined to the one before it: an object of its own would take more memory than it
holds."""

LARGEST_JOIN: Final = 64 * KiB
"""Bytes of joined small pieces after which a new joint piece is begun. When a ``bytearray`` grows, it may be moved: so
no more than this is moved at a time."""


class Assembly:
    """Takes a known number of bytes out of chunks.

    What lies whole in one chunk is sliced out of it. What spans several chunks is joined at its end, and until then a
    view keeps each chunk alive. So a peer that announces a large payload and sends none of it makes nobody allocate
    memory, and the work grows with the number of bytes alone, for pieces of any size.
    """

    __slots__ = ("_missing", "_pieces")

    def __init__(self) -> None:
        self._missing = 0
        self._pieces: list[bytearray | memoryview] = []

    def begin(self, size: int) -> None:
        """Expect ``size`` bytes."""
        self._missing = size

    def take(self, chunk: bytes, position: int) -> tuple[bytes | None, int]:
        """Take what is missing from ``position`` on: the whole, or None while it is not complete; and where it ends."""
        stop = position + self._missing
        pieces = self._pieces
        if stop <= len(chunk) and not pieces:
            self._missing = 0
            # A slice of bytes is a copy, so the message does not keep the whole chunk alive.
            return chunk[position:stop], stop
        piece = memoryview(chunk)[position:stop]
        self._missing -= len(piece)
        if len(piece) >= SMALL_PIECE:
            pieces.append(piece)
        elif pieces and isinstance(pieces[-1], bytearray) and len(pieces[-1]) < LARGEST_JOIN:
            pieces[-1] += piece
        else:
            pieces.append(bytearray(piece))
        if self._missing:
            return None, len(chunk)
        whole = b"".join(pieces)
        pieces.clear()
        return whole, stop
