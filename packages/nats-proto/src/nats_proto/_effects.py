"""What the core needs from outside before it can go on: a callback's result, a file's content.

An operation is a generator that yields effects and is sent their results (STYLE: a short sequence). It never performs
one itself: the session hands each to its adapter as a `Perform` command, and goes on when the adapter has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from ._value import PrivateValue, Value

__all__ = ["Call", "Effect", "Operation", "ReadFile"]

T = TypeVar("T")


class Call(Value, frozen=True, eq=False):
    """Call ``function(*arguments)``, where it may block. Where it can be awaited, an awaitable result is awaited."""

    function: Callable[..., object]
    arguments: tuple[object, ...]
    what: str
    """The option it comes from, for the text of an error."""


class ReadFile(PrivateValue, frozen=True, eq=False):
    """Read a whole file; its content (bytes) is the result. ``~`` and environment variables in ``path`` are expanded.

    More than ``limit`` bytes are an `OSError`. It holds a secret: it is never logged, and worth a warning when others
    than its owner may read it.
    """

    _hidden = frozenset({"path"})

    path: str
    limit: int
    what: str
    """What it is, for the text of an error."""


Effect = Call | ReadFile
Operation = Generator[Effect, object, T]
