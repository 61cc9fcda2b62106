"""The strict reading of one control line: which operation, which arguments, which numbers."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

__all__ = ["Fault", "find_operation", "quote", "read_number", "read_text", "split_arguments"]

SHOWN: Final = 64
"""Bytes received from the peer that an error shows at most."""

MAX_DIGITS: Final = 19
"""Digits of a size or sid, leading zeros included: what always fits in 64 bits."""

_LONGEST_WORD: Final = len(b"CONNECT")
_NOT_PRINTABLE: Final = re.compile(rb"[^ -~]").search
_SEPARATORS: Final = bytes.maketrans(b"\t\r", b"  ")


class Fault(Exception):
    """Why the stream cannot be read on. The parser catches it; nobody else sees it."""


def find_operation(line: bytes | bytearray, known: AbstractSet[bytes], *, complete: bool, first: str | None) -> bytes:
    """The operation's word in upper case; empty while more bytes are needed to tell.

    Raises `Fault` for an unknown one, once it can show what was seen: at the first byte that is not printable, at the
    line's end or after 64 bytes, whichever comes first. ``first`` names the peer that a first line should come from.
    """
    # Operations may be written in any case. One byte more than the longest word has room for the separator behind it; a
    # CR separates as well, since the line's end may be CR LF.
    start = bytes(line[: _LONGEST_WORD + 1]).upper().translate(_SEPARATORS)
    word, separator, _ = start.partition(b" ")
    if separator or complete:
        if word in known:
            return word
    elif any(candidate.startswith(start) for candidate in known):
        return b""
    seen = bytes(line[:SHOWN])
    odd = _NOT_PRINTABLE(seen)
    if odd is not None:
        seen = seen[: odd.end()].rstrip(b"\r")
    # The word is unknown already. The fault waits for more bytes all the same, or its text would depend on how the
    # stream was split into chunks.
    elif not complete and len(seen) < SHOWN:
        return b""
    if first is None:
        raise Fault(f"unknown operation {quote(seen)}")
    # 0x15 and 0x16 are the types of TLS records that come first: an alert, and a handshake (RFC 8446, 5.1).
    hint = ", which is how TLS begins" if seen[:1] in (b"\x15", b"\x16") else ""
    raise Fault(f"this does not look like a NATS {first}: it began with {quote(seen)}{hint}")


def quote(line: bytes | bytearray, limit: int = SHOWN) -> str:
    """The beginning of what was received, escaped. Of CONNECT the word alone is shown: behind it stand credentials."""
    seen = bytes(line[: min(limit, SHOWN)])
    return repr(seen[:_LONGEST_WORD] if seen[:_LONGEST_WORD].upper() == b"CONNECT" else seen)


def split_arguments(operation: str, text: bytes, least: int, most: int) -> list[bytes]:
    """The arguments of a line, between one or more spaces or tabs."""
    # `bytes.split` without an argument would split at VT and FF as well, which separate nothing for a server.
    arguments = [argument for argument in text.replace(b"\t", b" ").split(b" ") if argument]
    if not least <= len(arguments) <= most:
        raise Fault(f"{operation} takes {least} to {most} arguments, not {len(arguments)}: {quote(text)}")
    return arguments


def read_number(operation: str, name: str, digits: bytes) -> int:
    """An unsigned decimal number. Its characters are checked first, since `int` also takes signs, blanks, underscores
    and the digits of other scripts, which no server writes."""
    if not digits.isdigit() or len(digits) > MAX_DIGITS:
        raise Fault(f"{operation} with a bad {name} (up to {MAX_DIGITS} decimal digits): {quote(digits)}")
    return int(digits)


def read_text(raw: bytes) -> str:
    """Subjects and texts: UTF-8, with bytes that are none kept as surrogate escapes."""
    return raw.decode("utf-8", "surrogateescape")
