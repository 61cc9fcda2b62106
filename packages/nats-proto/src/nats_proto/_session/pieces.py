"""How what is to be written is given to the system: in few parts, and without copying what is large."""

from __future__ import annotations

from typing import Final

__all__ = ["join_small_pieces"]

LARGE: Final = 64 * 1024
"""Bytes from which a piece is written from where it is: to copy it would cost more than one more part to write."""


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
