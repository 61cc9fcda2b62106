"""What a peer was told in confidence, taken out of what it says in public.

A server that is broken, hostile, or only helpful may say back what we told it: in the text of a ``-ERR``, in the reason
of an HTTP status, in bytes that are no protocol. Errors show such texts, and errors are logged. So whatever of them has
eight characters in a row of a secret, as it was told or as errors print it, is shown as ``***``.

That covers errors. An INFO, and what other clients publish, is the user's data and stays as it is; so does the subject
of the user's own request or subscription that was refused. The user's name is left alone too: it is seldom secret, and
often a part of subjects.
"""

from __future__ import annotations

from typing import Final

import msgspec

from .._secret import MASK, Secret
from ..errors import NATSError

__all__ = ["Confidence"]

PIECE: Final = 8
"""Characters. Fewer are no great help in guessing the rest, and would be found in innocent words."""


class Confidence:
    """The secrets told on one connection."""

    __slots__ = ("_pieces", "_told")

    def __init__(self) -> None:
        self._told: list[Secret] = []
        self._pieces: frozenset[str] | None = None

    def tell(self, *secrets: Secret | None) -> None:
        """These are about to be told."""
        self._told.extend(secret for secret in secrets if secret)
        self._pieces = None

    def masked(self, text: str) -> str:
        """The text without them."""
        if self._pieces is None:
            # Made only when there is an error to mask: most connections never get here.
            self._pieces = frozenset(_pieces(self._told))
        if not self._pieces:
            return text
        shown: list[str] = []
        end = 0
        for at in range(len(text) - PIECE + 1):
            if text[at : at + PIECE] in self._pieces:
                # A piece that overlaps the one before, or follows it at once, belongs to the same mask: one mask for
                # each piece would tell how long the secret is.
                if at > end or not shown:
                    shown += (text[end:at], MASK)
                end = at + PIECE
        return "".join([*shown, text[end:]])

    def mask(self, error: NATSError) -> None:
        """Take them out of an error that was made of what the peer said."""
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, self.masked(value))
        error.args = tuple(self.masked(value) if isinstance(value, str) else value for value in error.args)


def _pieces(told: list[Secret]) -> set[str]:
    """Of each form a text of the peer may have them in: plain, as JSON, escaped as bytes or as ASCII."""
    pieces: set[str] = set()
    for secret in told:
        text = secret.reveal()
        for plain in (text, msgspec.json.encode(text).decode()[1:-1]):
            for form in (plain, repr(plain.encode())[2:-1], ascii(plain)[1:-1], repr(plain)[1:-1]):
                pieces.update(form[at : at + PIECE] for at in range(len(form) - PIECE + 1))
    return pieces
