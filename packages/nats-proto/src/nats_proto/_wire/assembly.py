"""A header block or payload put together from the chunks it came in."""

from __future__ import annotations

from io import BytesIO

__all__ = ["Assembly"]


class Assembly:
    """Takes a known number of bytes out of chunks.

    What lies whole in one chunk is sliced out of it. What spans several chunks is copied out of each as it comes, to
    the end of one buffer, which in the end is the message's own: nothing is joined, no chunk is kept alive, and there
    is never more than one copy of it all. So a peer that announces a large payload and sends none of it makes nobody
    allocate memory, and the work grows with the number of bytes alone, for pieces of any size.

    The buffer is at most a quarter longer than what has come. The compiled twin's may have 64 KiB from the first byte
    on. From 4 MiB on it is up to twice as long as what has come, and the system gives memory for the written half.
    """

    __slots__ = ("_missing", "_whole")

    def __init__(self) -> None:
        self._missing = 0
        self._whole: BytesIO | None = None

    def begin(self, size: int) -> None:
        """Expect ``size`` bytes; forget what has come of something else."""
        self._missing = size
        self._whole = None

    def take(self, chunk: bytes, position: int) -> tuple[bytes | None, int]:
        """Take what is missing from ``position`` on: the whole, or None while it is not complete; and where it ends."""
        whole = self._whole
        stop = position + self._missing
        if whole is None:
            if stop <= len(chunk):
                self._missing = 0
                # A slice of bytes is a copy, so the message does not keep the whole chunk alive.
                return chunk[position:stop], stop
            whole = self._whole = BytesIO()
        self._missing -= whole.write(memoryview(chunk)[position:stop])
        if self._missing:
            return None, len(chunk)
        self._whole = None
        # Nobody else has the buffer, so it is cut to its length where it is, and given away without a copy.
        return whole.getvalue(), stop
