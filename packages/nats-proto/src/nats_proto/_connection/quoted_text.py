"""Texts as nats-servers quote them in errors: Go's ``%q``, that is `strconv.Quote`.

Between double quotes stand printable characters as they are, and everything else escaped: as in Python by
``\\a \\b \\f \\n \\r \\t \\v``, ``\\\\`` and ``\\"``, by ``\\x`` with two hexadecimal digits (a control character, or a
byte of what is no UTF-8), ``\\u`` with four, ``\\U`` with eight.
"""

from __future__ import annotations

import re
import sys
from typing import Final

__all__ = ["unquote_at"]

_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}

# Compiled when the first such error comes, and remembered by `re`. Every character can be matched in one way only, and
# possessively, so that the time is linear whatever a hostile server writes.
_ESCAPE: Final = r'\\(?:([abfnrtv\\"])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))'
_QUOTED: Final = r'"((?:[^"\\]|\\(?:[abfnrtv\\"]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*+)"'


def unquote_at(text: str, position: int) -> tuple[str, int] | None:
    """The text whose quote begins at ``position``, and where its last quote ends; None for what Go does not write.

    Bytes that are no UTF-8 become surrogate escapes, as in the subjects that are received.
    """
    quoted = re.compile(_QUOTED).match(text, position)
    if quoted is None:
        return None
    try:
        return re.sub(_ESCAPE, _meant, quoted[1]), quoted.end()
    except ValueError:
        return None


def _meant(escape: re.Match[str]) -> str:
    """The character that an escape stands for. `ValueError` for one that is none."""
    simple, byte, short, long = escape.groups()
    if simple:
        return _SIMPLE[simple]
    number = int(byte or short or long, 16)
    if byte:
        return chr(number) if number < 0x80 else chr(0xDC00 + number)
    # Go never writes a surrogate in this way: in its strings the bytes of one are no UTF-8, and each is escaped by
    # `\x`.
    if 0xD800 <= number < 0xE000 or number > sys.maxunicode:
        raise ValueError("no character")
    return chr(number)
