"""In which order the addresses of one server are tried, and what is said when none could be reached (RFC 8305)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, TypeVar

__all__ = ["ADDRESS_HEAD_START", "families_in_turn", "not_reached"]

# RFC 8305, section 5, recommends 250 milliseconds.
ADDRESS_HEAD_START: Final = 0.25
"""Seconds after which the next address is tried beside one that does not answer."""

FamilyT = TypeVar("FamilyT")
AddressT = TypeVar("AddressT")


def families_in_turn(addresses: Sequence[tuple[FamilyT, AddressT]]) -> list[tuple[FamilyT, AddressT]]:
    """The addresses in the system's order, but the families in turn: one that is not routed delays the other once."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    other = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for pair in zip_longest(first, other) for each in pair if each is not None]


def not_reached(host: str, failures: Sequence[OSError]) -> OSError:
    """What to raise when each address has failed: the only failure as it is, of several each text once."""
    if len(failures) == 1:
        return failures[0]
    return OSError("; ".join(dict.fromkeys(map(str, failures))) or f"{host!r} has no address")
