"""Values: what events, options and the like are made of. Frozen, slotted, compared and shown field by field.

They are structs of msgspec, because a dataclass takes forty times as long to be made when the package is imported, and
a frozen one four times as long for each object. Whoever treats them as dataclasses (`dataclasses.replace`, ``fields``,
``asdict``) may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    from dataclasses import Field

__all__ = ["PrivateValue", "Value", "set_once"]

set_once = msgspec.structs.force_setattr
"""For ``__post_init__``: puts what a field is read as in place of what was given."""


class _DataclassFields:
    """What makes a dataclass of a class, made when somebody asks."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[type[Value], dict[str, Field[object]]] = {}

    def __get__(self, instance: Value | None, owner: type[Value]) -> dict[str, Field[object]]:
        made = self._made.get(owner)
        if made is None:
            made = self._made[owner] = _described(owner)
        return made


def _described(owner: type[Value]) -> dict[str, Field[object]]:
    from dataclasses import MISSING, field, fields, make_dataclass  # brings `inspect`, which takes a while

    names, defaults = owner.__struct_fields__, owner.__struct_defaults__
    required = len(names) - len(defaults)
    described = [
        (name, owner.__annotations__[name], field(default=MISSING if default is msgspec.NODEFAULT else default))
        for name, default in zip(names, (msgspec.NODEFAULT,) * required + defaults, strict=True)
    ]
    return {made.name: made for made in fields(make_dataclass(owner.__name__, described, kw_only=True))}


class Value(msgspec.Struct, frozen=True):
    """The base of all."""

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[object]]]
    else:
        __dataclass_fields__ = _DataclassFields()


class PrivateValue(Value, frozen=True):
    """The base of those that do not show every field."""

    _hidden = frozenset[str]()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self._hidden]
