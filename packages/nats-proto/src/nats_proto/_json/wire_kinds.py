"""What a field of a value can be, and how each kind is taken from a user, read from the wire, and written.

A user's mistake is a `TypeError` or `ValueError` that names the field. What a server sends is checked as strictly but
gently: it is a `Mismatch` when it has another type of JSON, and kept as it is where only its meaning is new to us, such
as a choice that a later version has added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeGuard

from .._limits import check_encodable, shown
from .durations import Seconds, Timestamp, format_time, parse_time, take_duration, take_time
from .read_only import ReadOnlyMapping

__all__ = [
    "MAX_DEPTH",
    "Anything",
    "Choice",
    "DurationKind",
    "Flag",
    "Integer",
    "Items",
    "Kind",
    "Mismatch",
    "Table",
    "Text",
    "TimeKind",
    "UnknownText",
    "check_depth",
    "is_mapping",
    "is_object",
    "is_sequence",
    "kind_of_json",
]

MAX_DEPTH: Final = 32
"""How deep what we keep without knowing it may be nested. Configurations have three levels. What is written is walked
recursively, so that a depth bomb which a server sent must not be kept to be sent back."""

_INTEGERS: Final = range(-(2**63), 2**64)
"""The numbers of the wire: sequences are unsigned, everything else is signed."""


class Mismatch(Exception):
    """What was received is not what the field is: ``text`` says what it must be, ``path`` where it is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.path = ""

    def under(self, step: str) -> Mismatch:
        """The same, seen from one level further out: ``step`` is ``.name`` or ``[2]``."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        path = self.path.removeprefix(".")
        return f"{path} {self.text}" if path else f"the answer {self.text}"


class UnknownText(str):
    """A choice that a server knows and we do not. It may be given back where it came from."""

    __slots__ = ()


class Kind:
    """The base of kinds."""

    __slots__ = ()

    def take(self, name: str, given: object) -> object:
        """What a user gave for the field ``name``, in the form in which it is kept."""
        raise NotImplementedError

    def read(self, raw: object) -> object:
        """What a server sent, not null, in the form in which it is kept; None: it means "nothing given"."""
        raise NotImplementedError

    def write(self, value: object) -> object:
        """What is kept, as JSON has it."""
        return value


class Text(Kind):
    __slots__ = ()

    def take(self, name: str, given: object) -> object:
        if not isinstance(given, str):
            advice = ": decode it, as in text.decode()" if isinstance(given, (bytes, bytearray)) else ""
            raise TypeError(f"{name} must be str, not {type(given).__name__}{advice}")
        plain = str.__str__(given)
        check_encodable(name, plain)
        return plain

    def read(self, raw: object) -> object:
        if type(raw) is not str:
            raise _must_be("a text", raw)
        return raw


class Flag(Kind):
    __slots__ = ()

    def take(self, name: str, given: object) -> object:
        if not isinstance(given, bool):
            raise TypeError(f"{name} must be bool, not {type(given).__name__}")
        return given

    def read(self, raw: object) -> object:
        if type(raw) is not bool:
            raise _must_be("true or false", raw)
        return raw


class Integer(Kind):
    __slots__ = ()

    def take(self, name: str, given: object) -> object:
        if not isinstance(given, int) or isinstance(given, bool):
            raise TypeError(f"{name} must be int, not {type(given).__name__}")
        if int(given) not in _INTEGERS:
            raise ValueError(f"{name} must be a number of 64 bits: {shown(given)}")
        return int(given)

    def read(self, raw: object) -> object:
        if type(raw) is not int:
            raise _must_be("a whole number", raw)
        if raw not in _INTEGERS:
            raise Mismatch("must be a number of 64 bits")
        return raw


class Choice(Kind):
    __slots__ = ("choices",)

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def take(self, name: str, given: object) -> object:
        if type(given) is UnknownText:
            return given
        if not isinstance(given, str):
            raise TypeError(f"{name} must be str, not {type(given).__name__}")
        plain = str.__str__(given)
        if plain not in self.choices:
            known = ", ".join(map(repr, self.choices))
            raise ValueError(f"{name} must be one of {known}, not {shown(plain)}")
        return plain

    def read(self, raw: object) -> object:
        if type(raw) is not str:
            raise _must_be("a text", raw)
        return raw if raw in self.choices else UnknownText(raw)

    def write(self, value: object) -> object:
        return str.__str__(value) if isinstance(value, str) else value


class DurationKind(Kind):
    __slots__ = ()

    def take(self, name: str, given: object) -> object:
        return take_duration(name, given)

    def read(self, raw: object) -> object:
        if type(raw) is not int:
            raise _must_be("a whole number of nanoseconds", raw)
        if raw not in _INTEGERS:
            raise Mismatch("must be a number of 64 bits")
        return Seconds.from_nanoseconds(raw)

    def write(self, value: object) -> object:
        assert isinstance(value, Seconds)
        return value.nanoseconds


class TimeKind(Kind):
    __slots__ = ()

    def take(self, name: str, given: object) -> object:
        return take_time(name, given)

    def read(self, raw: object) -> object:
        if type(raw) is not str:
            raise _must_be("a time as text", raw)
        try:
            return parse_time(raw)
        except ValueError:
            raise Mismatch(f"must be a time of RFC 3339 in the years 1 to 9999, not {raw!r:.64}") from None

    def write(self, value: object) -> object:
        assert isinstance(value, Timestamp)
        return format_time(value)


class Anything(Kind):
    """What we do not look into."""

    __slots__ = ()

    def take(self, name: str, given: object) -> object:
        if not check_depth(given):
            raise ValueError(f"{name} is nested deeper than {MAX_DEPTH} levels")
        return given

    def read(self, raw: object) -> object:
        if not check_depth(raw):
            raise Mismatch(f"is nested deeper than {MAX_DEPTH} levels")
        return raw


class Items(Kind):
    """Several of a kind, in order. They are kept as a tuple."""

    __slots__ = ("kind",)

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def take(self, name: str, given: object) -> object:
        if isinstance(given, str):
            raise TypeError(f"{name} must be a list of them, not str: write {name}=[{given!r:.64}]")
        if not _is_list(given):
            raise TypeError(f"{name} must be a list, not {type(given).__name__}")
        take = self.kind.take
        return tuple([take(f"{name}[{index}]", item) for index, item in enumerate(given)])

    def read(self, raw: object) -> object:
        if not _is_array(raw):
            raise _must_be("an array", raw)
        read = self.kind.read
        items: list[object] = []
        for item in raw:
            try:
                if item is None:
                    raise Mismatch("must not be null")
                items.append(read(item))
            except Mismatch as mismatch:
                raise mismatch.under(f"[{len(items)}]") from None
        return tuple(items)

    def write(self, value: object) -> object:
        assert is_sequence(value)
        return [self.kind.write(item) for item in value]


class Table(Kind):
    """Several of a kind, by names. They are kept as a `ReadOnlyMapping`."""

    __slots__ = ("kind",)

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def take(self, name: str, given: object) -> object:
        if not is_mapping(given):
            raise TypeError(f"{name} must be a mapping, not {type(given).__name__}")
        take, take_key = self.kind.take, Text().take
        items: dict[str, object] = {}
        for key, value in given.items():
            taken = take_key(f"a key of {name}", key)
            assert isinstance(taken, str)
            items[taken] = take(f"{name}[{shown(taken)}]", value)
        return ReadOnlyMapping(items)

    def read(self, raw: object) -> object:
        if not is_object(raw):
            raise _must_be("an object", raw)
        read = self.kind.read
        items: dict[str, object] = {}
        for key, value in raw.items():
            try:
                if value is None:
                    continue
                items[key] = read(value)
            except Mismatch as mismatch:
                raise mismatch.under(f"[{key!r:.64}]") from None
        return ReadOnlyMapping(items)

    def write(self, value: object) -> object:
        assert is_mapping(value)
        return {key: self.kind.write(item) for key, item in value.items()}


def check_depth(value: object) -> bool:
    """Whether JSON is nested no deeper than `MAX_DEPTH`. It walks level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[object] = []
        for item in level:
            if is_mapping(item):
                deeper.extend(item.values())
            elif is_sequence(item):
                deeper.extend(item)
        if not deeper:
            return True
        level = deeper
    return False


def kind_of_json(value: object) -> str:
    """What a value of JSON is called in an error."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "an array"
        case _:
            return "an object"


def is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    """Whether a user gave a mapping."""
    return isinstance(value, Mapping)


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Whether it is an object of JSON."""
    return type(value) is dict


def _is_array(value: object) -> TypeGuard[list[object]]:
    return type(value) is list


def is_sequence(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, (list, tuple))


def _is_list(value: object) -> TypeGuard[Iterable[object]]:
    """An iterable that can be a list. Bytes can be iterated as well, and a mapping gives its names: nobody means
    that."""
    return isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, memoryview, Mapping))


def _must_be(what: str, raw: object) -> Mismatch:
    return Mismatch(f"must be {what}, not {kind_of_json(raw)}")
