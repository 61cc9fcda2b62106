"""Names of streams, consumers, domains and priority groups (ADR-6, ADR-42): what may be one.

These names are tokens of subjects, and names of folders on the disks of servers. What no server takes is refused before
it is sent, with the character that is the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .errors import InvalidNameError

__all__ = ["MAX_NAME", "check_domain", "check_name", "check_prefix", "check_priority_group"]

MAX_NAME: Final = 255
"""Bytes of a name: the longest name of a file on most systems, and so the limit of servers."""

_NOT_IN_A_NAME: Final = re.compile(r"[^!-~]|[.*>/\\]").search
_NOT_IN_A_GROUP: Final = re.compile(r"[^A-Za-z0-9_/=-]").search
_MAX_GROUP: Final = 16


def check_name(what: str, name: object) -> str:
    """The name of ``what``, such as ``stream``: printable ASCII without ``. * > / \\`` and blank, 255 bytes at most.

    Raises `InvalidNameError`; `TypeError` when it is no ``str``.
    """
    return _checked(what, name, _NOT_IN_A_NAME, MAX_NAME)


def check_priority_group(name: object) -> str:
    """The name of a priority group: 1 to 16 of letters, digits, ``- _ / =``. Raises as `check_name`."""
    return _checked("priority group", name, _NOT_IN_A_GROUP, _MAX_GROUP)


def check_domain(name: object) -> str:
    """The name of a domain of JetStream, one token of subjects. Raises as `check_name`."""
    return check_name("domain", name)


def check_prefix(prefix: object) -> str:
    """A prefix of JetStream's API: one or more tokens of a subject, with a dot at the end, given or not.

    Raises `InvalidNameError`; `TypeError` when it is no ``str``.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"api_prefix must be str, not {type(prefix).__name__}")
    for token in prefix.removesuffix(".").split("."):
        check_name("token of an api_prefix", token)
    return prefix.removesuffix(".") + "."


def _checked(what: str, name: object, search: Callable[[str], re.Match[str] | None], most: int) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} must be str, not {type(name).__name__}")
    plain = str.__str__(name)
    if not plain:
        raise InvalidNameError(f"the name of a {what} must not be empty")
    wrong = search(plain)
    if wrong is not None:
        raise InvalidNameError(f"the name of a {what} must not have {wrong[0]!a}: {plain[:64]!a}")
    if len(plain) > most:
        raise InvalidNameError(f"the name of a {what} has {len(plain)} characters, {most} are allowed: {plain[:64]!a}")
    return plain
