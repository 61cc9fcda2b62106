"""How what is to be written is given to the system: in few parts, and without copying what is large."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_PIECES", "cut_pieces", "join_small_pieces"]

LARGE: Final = 64 * 1024
"""Bytes from which a piece is written from where it is: to copy it would cost more than one more part to write."""

MAX_PIECES: Final = 64
"""Pieces given to one call. Systems allow 16 at least and 1024 commonly; 64 large ones fill any socket buffer."""


def join_small_pieces(pieces: list[bytes]) -> list[bytes]:
    """The same bytes in order: small pieces that follow one another as one, large ones as they are."""
    if len(pieces) < 2:
        return pieces
    if max(map(len, pieces)) < LARGE:
        return [b"".join(pieces)]  # nearly always
    joined: list[bytes] = []
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) < LARGE:
            small.append(piece)
            continue
        if small:
            joined.append(b"".join(small))
            small = []
        joined.append(piece)
    if small:
        joined.append(b"".join(small))
    return joined


def cut_pieces(pieces: list[bytes | memoryview], nbytes: int) -> list[bytes | memoryview]:
    """What remains when the system has taken the first ``nbytes``."""
    if nbytes == sum(map(len, pieces)):
        return []  # nearly always
    for index, piece in enumerate(pieces):
        if nbytes < len(piece):
            # A view, not a copy: the rest of a large piece is cut again after each send, and each copy would be nearly
            # as large as the piece.
            return [memoryview(piece)[nbytes:] if nbytes else piece, *pieces[index + 1 :]]
        nbytes -= len(piece)
    return []
