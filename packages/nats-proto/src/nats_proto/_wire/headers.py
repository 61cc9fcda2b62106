"""Headers of a message (ADR-4): the multi-map, and the block of lines it is on the wire.

Received blocks come from other clients through a server that does not look at them. So reading never raises: a line
that breaks the rules is left out and reported, the others are kept. Writing refuses such lines before a byte exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard

import msgspec

from .._value import Value
from ..errors import HeaderError, InvalidHeaderError

__all__ = [
    "Headers",
    "HeadersLike",
    "ParsedHeaders",
    "Status",
    "encode_header_block",
    "encode_status_block",
    "parse_header_block",
]

VERSION: Final = b"NATS/1.0"
_END: Final = b"\r\n\r\n"

# Printable ASCII without the colon (ADR-4), which comes behind 9 and before the semicolon.
_NAME_TO_SEND: Final = re.compile(rb"[!-9;-~]+").fullmatch
# Received names may have bytes that no client should send but that cannot be mistaken for anything else.
_NAME_RECEIVED: Final = re.compile(rb"[!-9;-~\x80-\xff]+").fullmatch
# TAB is the only control character that may stand in a line: CR or LF would end it.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_STATUS: Final = re.compile(rb"[ \t]+([0-9]{3})(?:[ \t](.*))?", re.DOTALL).fullmatch


class Headers:
    """Header lines in order; a name may have several values. Names keep their case and are looked up in it (ADR-4).

    Made from a mapping (a value is a ``str`` or a sequence of them), from pairs, or from other headers. Whether names
    and values may go on the wire is checked when they are sent; blanks around a value do not survive the way.
    Lookups take the same time however many lines there are.
    """

    # While no name repeats, one dictionary holds the values and, since it keeps its order, the order of the lines. Only
    # when a name repeats are an order and lists of values kept beside it. So many short lines take little memory.
    __slots__ = ("_first", "_order", "_repeated")

    def __init__(
        self,
        source: Mapping[str, str | Sequence[str]] | Iterable[tuple[str, str]] | Headers | None = None,
    ) -> None:
        self._first: dict[str, str] = {}
        self._repeated: dict[str, list[str]] = {}
        self._order: list[str] | None = None
        if source is None:
            return
        for name, value in _pairs(source):
            self.add(name, value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of ``name``, or ``default``."""
        return self._first.get(name, default)

    def values(self, name: str) -> list[str]:
        """Every value of ``name`` in order; empty when there is none."""
        repeated = self._repeated.get(name)
        if repeated is not None:
            return repeated.copy()
        return [self._first[name]] if name in self._first else []

    def get_any_case(self, name: str, default: str | None = None) -> str | None:
        """The first value whose name equals ``name`` when case is ignored. Looks at every name."""
        wanted = name.lower()
        return next((value for key, value in self._first.items() if key.lower() == wanted), default)

    def add(self, name: str, value: str) -> None:
        """Append a line. `TypeError` unless both are ``str``."""
        _require_name(name)
        _require_value(name, value)
        first = self._first
        if name not in first:
            first[name] = value
            if self._order is not None:
                self._order.append(name)
            return
        if self._order is None:
            self._order = list(first)
        self._order.append(name)
        self._repeated.setdefault(name, [first[name]]).append(value)

    def delete(self, name: str) -> None:
        """Remove every line of ``name``; nothing happens when there is none."""
        # A value is always a text, so None says that the name was not there.
        if self._first.pop(name, None) is None:
            return
        self._repeated.pop(name, None)
        self._forget_order(name, 0)

    def items(self) -> Iterator[tuple[str, str]]:
        """Every line as (name, value), in order."""
        if self._order is None:
            yield from self._first.items()
            return
        rest = {name: iter(values) for name, values in self._repeated.items()}
        for name in self._order:
            yield name, next(rest[name]) if name in rest else self._first[name]

    def copy(self) -> Headers:
        """Headers with the same lines, changed independently."""
        twin = Headers()
        twin._first = self._first.copy()
        twin._repeated = {name: values.copy() for name, values in self._repeated.items()}
        twin._order = None if self._order is None else self._order.copy()
        return twin

    def __getitem__(self, name: str) -> str:
        return self._first[name]

    def __setitem__(self, name: str, value: str) -> None:
        if name not in self._first:
            self.add(name, value)
            return
        _require_value(name, value)
        self._first[name] = value
        if self._repeated.pop(name, None) is not None:
            self._forget_order(name, 1)

    def __delitem__(self, name: str) -> None:
        if name not in self._first:
            raise KeyError(name)
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return name in self._first

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first) if self._order is None else len(self._order)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._first == other._first and self._repeated == other._repeated

    __hash__ = None  # type: ignore[assignment]  # equal by value and mutable

    def __repr__(self) -> str:
        return f"Headers({list(self.items())!r})"

    def _forget_order(self, name: str, keep: int) -> None:
        """Take all lines of ``name`` but the first ``keep`` out of the order."""
        if self._order is None:
            return
        at = self._order.index(name) + keep
        self._order[at:] = [other for other in self._order[at:] if other != name]


HeadersLike = Headers | Mapping[str, str | Sequence[str]] | Iterable[tuple[str, str]]


class Status(Value, frozen=True):
    """The status of a message that the server made itself: ``503``, ``404 No Messages``, ``100 Idle Heartbeat`` …"""

    code: int
    description: str = ""


class ParsedHeaders(msgspec.Struct):
    """What a header block holds. ``error`` says what was left out, and why; None when the block follows the rules."""

    headers: Headers
    status: Status | None = None
    error: HeaderError | None = None


def parse_header_block(block: bytes) -> ParsedHeaders:
    """Read a block from ``NATS/1.0`` to its final blank line (ADR-4). Never raises.

    A block with another version line or without its blank line gives no headers. A line without a colon, with a bad
    name or with a control character is left out, the others are kept. Bytes that are no UTF-8 become surrogate escapes.
    """
    headers = Headers()
    # The byte behind the version is looked at, too: NATS/1.01 would be another version.
    if not block.startswith(VERSION) or block[len(VERSION) : len(VERSION) + 1] not in (b"\r", b" ", b"\t"):
        return ParsedHeaders(headers, None, HeaderError(f"header block does not begin with NATS/1.0: {block[:64]!r}"))
    if not block.endswith(_END):
        return ParsedHeaders(headers, None, HeaderError("header block does not end with an empty line"))
    # Not `splitlines`: a lone CR or LF ends no line. It stays inside the line, which is then reported as malformed.
    lines = block[: -len(_END)].split(b"\r\n")
    status_line = lines[0][len(VERSION) :]
    status = _parse_status(status_line)
    malformed: bytes | None = lines[0] if status is None and status_line.strip(b" \t") else None
    count = 0 if malformed is None else 1
    add = headers.add
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if colon and _NAME_RECEIVED(name) is not None and _CONTROL(value) is None:
            add(name.decode("utf-8", "surrogateescape"), value.strip(b" \t").decode("utf-8", "surrogateescape"))
        else:
            malformed = line if malformed is None else malformed
            count += 1
    if malformed is None:
        return ParsedHeaders(headers, status)
    return ParsedHeaders(headers, status, HeaderError(f"{count} malformed header line(s), first: {malformed[:64]!r}"))


def encode_header_block(headers: HeadersLike) -> bytes | None:
    """Write headers as a block, or None when there is no line.

    Raises `InvalidHeaderError` for a name that is not printable ASCII without colon, or a value with a lone surrogate
    or a control character other than TAB (CR and LF would begin another line, the others make readers drop it).
    `TypeError` for what is no ``str``.
    """
    lines = _encode_lines(headers)
    return VERSION + b"\r\n" + lines + b"\r\n" if lines else None


def encode_status_block(code: int, description: str = "", headers: HeadersLike | None = None) -> bytes:
    """Write a block with a status line of a three-digit code, as a server does. Raises as `encode_header_block`."""
    if not 100 <= code <= 999:
        raise InvalidHeaderError(f"a status has three digits: {code!r}")
    text = _encode_value("status", description)
    line = b"%b %d %b" % (VERSION, code, text) if text else b"%b %d" % (VERSION, code)
    return line + b"\r\n" + (b"" if headers is None else _encode_lines(headers)) + b"\r\n"


def _parse_status(rest: bytes) -> Status | None:
    match = _STATUS(rest)
    if match is None or _CONTROL(rest) is not None:
        return None
    description = (match[2] or b"").strip(b" \t").decode("utf-8", "surrogateescape")
    return Status(int(match[1]), description)


def _encode_lines(headers: HeadersLike) -> bytes:
    return b"".join(
        [b"%b: %b\r\n" % (_encode_name(name), _encode_value(name, value)) for name, value in _pairs(headers)]
    )


def _encode_name(name: str) -> bytes:
    _require_name(name)
    # A lone surrogate becomes bytes that the pattern below refuses, so every bad name has the same error. `encode` is
    # taken from `str`, since a subclass may have its own.
    raw = str.encode(name, "utf-8", "surrogatepass")
    if _NAME_TO_SEND(raw) is None:
        raise InvalidHeaderError(f"header name must be printable ASCII without blank and colon: {_shown(name)}")
    return raw


def _encode_value(name: str, value: str) -> bytes:
    _require_value(name, value)
    try:
        raw = str.encode(value, "utf-8")
    except UnicodeEncodeError:
        raise InvalidHeaderError(f"value of header {_shown(name)} has a lone surrogate, which is no UTF-8") from None
    if _CONTROL(raw) is not None:
        raise InvalidHeaderError(f"value of header {_shown(name)} must not contain control characters but TAB")
    return raw


def _pairs(source: HeadersLike) -> Iterator[tuple[str, str]]:
    if isinstance(source, Headers):
        yield from source.items()
    elif _is_mapping(source):
        for name, value in source.items():
            if isinstance(value, str):
                yield name, value
            elif _is_list(value):
                for one in value:
                    yield name, one
            else:
                _require_name(name)
                raise TypeError(_wrong_value(name, value))
    elif _is_list(source):
        for pair in source:
            if not _is_pair(pair):
                raise TypeError(
                    f"headers must be a mapping or pairs of name and value, not {_described(pair)} in a list"
                )
            yield pair
    else:
        raise TypeError(
            f"headers must be a mapping or pairs, as in headers={{'Name': 'value'}}, not {_described(source)}"
        )


def _is_mapping(source: HeadersLike) -> TypeGuard[Mapping[str, str | Sequence[str]]]:
    return isinstance(source, Mapping)


def _is_list(source: object) -> TypeGuard[Iterable[Any]]:
    """An iterable that can be a list of values or pairs. Texts and bytes can be iterated as well, and a mapping gives
    its names: nobody means that."""
    if isinstance(source, (list, tuple)):
        return True  # nearly always
    return isinstance(source, Iterable) and not isinstance(source, (str, bytes, bytearray, memoryview, Mapping))


def _is_pair(pair: object) -> TypeGuard[tuple[str, str]]:
    return _is_sequence(pair) and len(pair) == 2


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, (tuple, list))


def _require_name(name: object) -> None:
    if not isinstance(name, str):
        advice = ": decode it, as in name.decode()" if isinstance(name, (bytes, bytearray)) else ""
        raise TypeError(f"a header name must be str, not {_described(name)}{advice}")


def _require_value(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(_wrong_value(name, value))


def _wrong_value(name: str, value: object) -> str:
    described = _described(value)
    if isinstance(value, (bytes, bytearray)):
        advice = "decode it, as in value.decode()"
    elif value is None:
        advice = "leave the header out, or give ''"
    else:
        advice = "make it text, as in str(value)"
    return f"the value of header {_shown(name)} must be str, or a list of them, not {described}: {advice}"


def _described(value: object) -> str:
    """The type of what was given, and its length if it is a sequence. Not its content, which may be anything, and
    long."""
    name = type(value).__name__
    return f"{name} of {len(value)}" if _is_sequence(value) else name


def _shown(text: str) -> str:
    plain = str.__str__(text)
    return ascii(plain if len(plain) <= 64 else plain[:64] + "...")
