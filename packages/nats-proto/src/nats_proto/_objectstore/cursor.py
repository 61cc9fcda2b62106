"""`Cursor`: where a reader of an object stands, and what it has at hand.

A reader asks for chunks, and its user for bytes. Between them is the rest of the chunk in which the position is. A jump
forward over a few bytes reads them and throws them away, which is quicker than the questions that find a chunk; any
other one has the reader begin anew.
"""

from __future__ import annotations

from operator import index
from typing import Final

from .reader import Start

__all__ = ["Cursor"]

SKIPPED: Final = 1024 * 1024
"""Bytes that are read and thrown away in place of three questions."""


class Cursor:
    """In an object of ``size`` bytes. It begins at the first."""

    __slots__ = ("_chunk", "_next", "_rest", "_size", "jumped", "position")

    def __init__(self, size: int) -> None:
        self._size = size
        self._chunk = b""
        """The last one that came."""
        self._rest = memoryview(b"")
        """What is at hand of it, from the position on."""
        self._next = 0
        """Where the next chunk of the reader begins."""
        self.position = 0
        """Of the next byte."""
        self.jumped = False
        """The reader does not come to the position: another one has to begin there."""

    @property
    def has_bytes(self) -> bool:
        """Some are at hand."""
        return bool(self._rest)

    @property
    def needs_chunk(self) -> bool:
        """There are bytes at the position, and none at hand."""
        return not self._rest and self.position < self._size

    def begin(self, start: Start) -> None:
        """The chunks of a reader that has begun there come next."""
        self.jumped = False
        self._next = start.chunk * (start.chunk_size or 0)

    def came(self, chunk: bytes) -> None:
        """The next chunk of the reader."""
        skipped = self.position - self._next
        self._next += len(chunk)
        self._chunk = chunk
        self._rest = memoryview(chunk)[skipped:]

    def take(self, size: int | None = None) -> bytes:
        """Up to so many of the bytes at hand, or all."""
        count = len(self._rest) if size is None else min(size, len(self._rest))
        part = self._chunk if count == len(self._chunk) else bytes(self._rest[:count])  # a whole one is not copied
        self._forward(len(part))
        return part

    def put_back(self, parts: list[bytes]) -> None:
        """These were taken last, and not given to anybody: they come next, once more."""
        if parts:
            self._chunk = b"".join([*parts, self._rest])
            self._rest = memoryview(self._chunk)
            self.position -= sum(len(part) for part in parts)

    def take_into(self, view: memoryview) -> int:
        """As many of the bytes at hand as there is room for: how many."""
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._forward(count)
        return count

    def seek(self, offset: int, whence: int) -> int:
        """Stand at another place, as `io.IOBase.seek` has it. Raises `ValueError` for one before the beginning."""
        if whence not in (0, 1, 2):
            raise ValueError(f"whence must be 0, 1 or 2, not {whence!r}")
        try:
            place = index(offset) + (0, self.position, self._size)[whence]
        except TypeError:
            raise TypeError(f"offset must be int, not {type(offset).__name__}") from None
        if place < 0:
            raise ValueError(f"seek to {place}: there is nothing before the beginning")
        ahead = place - self.position
        if 0 <= ahead < len(self._rest):
            self._rest = self._rest[ahead:]
        elif ahead:
            self._rest = memoryview(b"")
            self.jumped = not 0 <= place - self._next <= SKIPPED
        self.position = place
        return place

    def drop(self) -> None:
        """What is at hand is not needed any more."""
        self._rest = memoryview(b"")

    def _forward(self, count: int) -> None:
        self._rest = self._rest[count:]
        self.position += count
