"""A mapping that nobody changes: what a user gave for a field of a value is copied into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

__all__ = ["NOTHING", "ReadOnlyMapping"]

V_co = TypeVar("V_co", covariant=True)


# Not `MappingProxyType`: values that hold one could not be pickled or copied.
class ReadOnlyMapping(Mapping[str, V_co]):
    """A copy of ``source`` that has no method to change it."""

    __slots__ = ("_items",)

    def __init__(self, source: Mapping[str, V_co]) -> None:
        self._items = dict(source)

    def __getitem__(self, key: str) -> V_co:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


NOTHING: Final = ReadOnlyMapping[object]({})
