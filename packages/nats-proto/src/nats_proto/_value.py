"""Values, the base of events, options and the like: frozen, with slots, compared and shown field by field.

They are structs of msgspec. A dataclass takes forty times as long when its class is made, at the import of the package,
and a frozen one takes four times as long for each object. The functions of `dataclasses` (``replace``, ``fields``,
``asdict``) work with values all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    from dataclasses import Field

__all__ = ["PrivateValue", "Value", "set_once"]

set_once = msgspec.structs.force_setattr
"""For ``__post_init__`` alone, since values are frozen: puts the checked form of a field in the place of what was
given."""


class _DataclassFields:
    """The attribute by which `dataclasses` knows a dataclass. It is made when somebody asks for it, class by class."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[type[Value], dict[str, Field[object]]] = {}

    def __get__(self, instance: Value | None, owner: type[Value]) -> dict[str, Field[object]]:
        made = self._made.get(owner)
        if made is None:
            made = self._made[owner] = _described(owner)
        return made


def _described(owner: type[Value]) -> dict[str, Field[object]]:
    # Here, since it imports `inspect`, which takes a while, and hardly any program gets here.
    from dataclasses import MISSING, field, fields, make_dataclass

    names, defaults = owner.__struct_fields__, owner.__struct_defaults__
    required = len(names) - len(defaults)
    # In a struct whose fields are given by name only, one without a default may follow one that has a default; msgspec
    # lists it as `NODEFAULT`. A dataclass allows that order only with ``kw_only``, as below.
    # A value may have fields of its base as well.
    annotations = {
        name: hint for base in reversed(owner.__mro__) for name, hint in getattr(base, "__annotations__", {}).items()
    }
    described = [
        (name, annotations[name], field(default=MISSING if default is msgspec.NODEFAULT else default))
        for name, default in zip(names, (msgspec.NODEFAULT,) * required + defaults, strict=True)
    ]
    return {made.name: made for made in fields(make_dataclass(owner.__name__, described, kw_only=True))}


class Value(msgspec.Struct, frozen=True):
    """The base of all values."""

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[object]]]
    else:
        __dataclass_fields__ = _DataclassFields()


class PrivateValue(Value, frozen=True):
    """The base of values with private fields: those named in ``_hidden`` are left out of ``repr``."""

    _hidden = frozenset[str]()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    # Every struct of msgspec has this method, for the library rich, and the inherited one would show the hidden fields.
    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self._hidden]
