"""What the core needs from outside before it can go on: a callback's result, a file's content.

An operation is a generator that yields effects and is sent their results (STYLE: a short sequence). It never performs
one itself: the session hands each to its adapter as a `Perform` command, and goes on when the adapter has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Call", "Effect", "Operation", "ReadFile"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Call ``function(*arguments)``, where it may block. Where it can be awaited, an awaitable result is awaited."""

    function: Callable[..., object]
    arguments: tuple[object, ...]
    what: str
    """The option it comes from, for the text of an error."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadFile:
    """Read a whole file; its content (bytes) is the result. ``~`` and environment variables in ``path`` are expanded.

    More than ``limit`` bytes are an `OSError`. It holds a secret: it is never logged, and worth a warning when others
    than its owner may read it.
    """

    path: str = field(repr=False)
    limit: int
    what: str
    """What it is, for the text of an error."""


Effect = Call | ReadFile
Operation = Generator[Effect, object, T]
