"""Values that are JSON on the wire: one codec for all of them, driven by the annotations of their fields.

Theory of operation
-------------------
The fields of a `WireValue` have the names of the wire's keys. For each class a plan is made once, at its first use: the
kind of each field, as its annotation tells, and a blank value, which reading copies. So a class costs nothing at the
import, and reading calls no constructor with forty arguments.

* **None means "not given"**, and is never sent. Zero, False, an empty list and an empty table are sent.
* **Keys that we do not know** are kept in ``unknown``, in each value at its own level, and sent back: who reads a
  configuration, changes one field and writes it back must not take away what a newer server has added.
* **A user's values** are checked when the value is made (`TypeError`, `ValueError`), and kept in one form: tuples,
  read-only copies of mappings, `Seconds`, `Timestamp`. A value in that form passes unchanged, wherever it came from.
* **A server's values** raise `Mismatch` when they have another type, with the path of the field, and nothing else ever.
  Whoever has asked makes an error of its own of that. Rules between fields are not looked at: what a server has it may
  have.
* **Rules between fields** (two that exclude each other, what a name may be) are checked by `WireValue.check`, before a
  value is sent.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from .._value import Value, set_once
from .durations import DURATION, Seconds, Time, Timestamp
from .read_only import NOTHING, ReadOnlyMapping
from .wire_kinds import (
    Anything,
    Choice,
    DurationKind,
    Flag,
    Integer,
    Items,
    Kind,
    Mismatch,
    Table,
    Text,
    TimeKind,
    is_object,
    is_sequence,
    kind_of_json,
)

__all__ = [
    "Nested",
    "Plan",
    "WireValue",
    "decode_json",
    "encode_json",
    "plan_of",
    "read_wire",
    "to_wire",
]

W = TypeVar("W", bound="WireValue")

_BLANK: Final = ReadOnlyMapping[object]({})
"""Given for ``unknown`` of a blank value, which is not checked."""
_UNKNOWN: Final = Table(Anything())


class WireValue(Value, frozen=True, kw_only=True):
    """The base of what is an object of JSON on the wire. ``repr`` shows the fields that were given.

    `dataclasses.replace` makes the same with other fields, and checks them. (The function of this name in msgspec does
    not check them in msgspec's early versions.)
    """

    local_fields = frozenset[str]()
    """Fields that are no keys of the wire: a shorter way to write others."""

    unknown: Mapping[str, object] = NOTHING
    """Keys that this version does not know, as a server sent them. They are sent back."""

    def __post_init__(self) -> None:
        if self.unknown is _BLANK:
            return
        plan = plan_of(type(self))
        for name, kind in plan.kinds.items():
            given = getattr(self, name)
            if given is not None:
                taken = kind.take(name, given)
                if taken is not given:
                    set_once(self, name, taken)
            elif name in plan.required:
                raise TypeError(f"{type(self).__name__} needs {name}")
        if self.unknown is not NOTHING:
            set_once(self, "unknown", _UNKNOWN.take("unknown", self.unknown))
            for name in plan.kinds:
                if name in self.unknown:
                    raise ValueError(f"unknown must not have {name!r}, which {type(self).__name__} knows")

    def check(self) -> None:
        """Check the rules between fields. Raises `ValueError`, `InvalidSubjectError` for a subject."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            for item in value if is_sequence(value) else (value,):
                if isinstance(item, WireValue):
                    item.check()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    # Every struct of msgspec has this method, for the library rich.
    def __rich_repr__(self) -> list[tuple[str, object]]:
        fields = [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "unknown"]
        given = [(name, value) for name, value in fields if value is not None]
        return [*given, ("unknown", self.unknown)] if self.unknown else given


def read_wire(kind: type[W], raw: object) -> W:
    """The value of what `decode_json` gave. Raises `Mismatch`, and nothing else. Null reads as not given."""
    if not is_object(raw):
        raise Mismatch(f"must be an object, not {kind_of_json(raw)}")
    plan = plan_of(kind)
    value: W = copy.copy(plan.blank)  # type: ignore[assignment]  # the plan of a class has a blank of this class
    kinds, missing = plan.kinds, plan.required
    rest: dict[str, object] = {}
    for name, given in raw.items():
        if given is None:
            continue
        try:
            known = kinds.get(name)
            if known is not None:
                taken = known.read(given)
                if taken is None:
                    continue
                set_once(value, name, taken)
                if name in missing:
                    missing = missing - {name}
            else:
                rest[name] = _ANYTHING.read(given)
        except Mismatch as mismatch:
            raise mismatch.under(f".{name[:64]}") from None
    if missing:
        raise Mismatch("is missing").under(f".{min(missing)}")
    if rest:
        set_once(value, "unknown", ReadOnlyMapping(rest))
    return value


def to_wire(value: WireValue) -> dict[str, object]:
    """The object of JSON. What was not given is not in it."""
    wire: dict[str, object] = {}
    for name, kind in plan_of(type(value)).kinds.items():
        field = getattr(value, name)
        if field is not None:
            wire[name] = kind.write(field)
    wire.update(value.unknown)
    return wire


def encode_json(wire: object) -> bytes:
    """JSON of what `to_wire` gave. `TypeError`, `ValueError` for what a user put into ``unknown`` and JSON has not."""
    return _encode(wire)


def decode_json(data: bytes) -> object:
    """Read JSON that a server sent. Raises `Mismatch`, and nothing else."""
    try:
        return _decode(data)
    except RecursionError:
        raise Mismatch("is nested too deep") from None
    # A UnicodeDecodeError is a ValueError, too, so this clause has to stand before the next one.
    except UnicodeDecodeError:
        raise Mismatch("is not valid UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:  # it is a ValueError from msgspec 0.21 on
        shown = bytes(data[:64])
        raise Mismatch(f"is no JSON ({error}): {shown!r}"[:280]) from None


# --- plans -----------------------------------------------------------------------------------------------------------

_ANYTHING: Final = Anything()
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Plan:
    """How the values of one class are read and written."""

    __slots__ = ("blank", "kinds", "required")

    def __init__(self, kind: type[WireValue]) -> None:
        hints = get_type_hints(kind, include_extras=True)
        names = [name for name in kind.__struct_fields__ if name != "unknown" and name not in kind.local_fields]
        self.kinds = {name: _kind_of(hints[name]) for name in names}
        self.required = _required(kind)
        self.blank = kind(**dict.fromkeys(self.required), unknown=_BLANK)
        set_once(self.blank, "unknown", NOTHING)


class Nested(Kind):
    """A value inside a value."""

    __slots__ = ("kind",)

    def __init__(self, kind: type[WireValue]) -> None:
        self.kind = kind

    def take(self, name: str, given: object) -> object:
        if not isinstance(given, self.kind):
            raise TypeError(f"{name} must be {self.kind.__name__}, not {type(given).__name__}")
        return given

    def read(self, raw: object) -> object:
        return read_wire(self.kind, raw)

    def write(self, value: object) -> object:
        assert isinstance(value, WireValue)
        return to_wire(value)


_plans: Final[dict[type[WireValue], Plan]] = {}


def plan_of(kind: type[WireValue]) -> Plan:
    plan = _plans.get(kind)
    if plan is None:
        plan = _plans[kind] = Plan(kind)
    return plan


def _required(kind: type[WireValue]) -> frozenset[str]:
    names, defaults = kind.__struct_fields__, kind.__struct_defaults__
    behind = zip(names[len(names) - len(defaults) :], defaults, strict=True)
    return frozenset(names[: len(names) - len(defaults)]) | {n for n, default in behind if default is msgspec.NODEFAULT}


_SIMPLE: Final[Mapping[object, Kind]] = {
    str: Text(),
    int: Integer(),
    bool: Flag(),
    object: _ANYTHING,
    Seconds: DurationKind(),
    Time: TimeKind(),
    Timestamp: TimeKind(),
}


def _kind_of(hint: object) -> Kind:
    """The kind that an annotation says. It is ours, so that what is not listed here is a mistake of ours."""
    simple = _SIMPLE.get(hint)
    if simple is not None:
        return simple
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (one,) = [arg for arg in args if arg is not type(None)]
        return _kind_of(one)
    if origin is Annotated and DURATION in args:
        return _SIMPLE[Seconds]
    if origin is Literal:
        return Choice(args)
    if origin is Sequence:
        return Items(_kind_of(args[0]))
    if origin is Mapping:
        return Table(_kind_of(args[1]))
    assert isinstance(hint, type)
    assert issubclass(hint, WireValue)
    return Nested(hint)
