"""What the core needs from outside before it can go on: a callback's result, a file's content.

An inquiry is a generator that yields effects and is sent their results. It never performs one itself: the session hands
each to its adapter as a `Perform` command, and goes on when the adapter has answered. (An `Operation`, of calls to
servers, is a generator of the same shape, with other effects.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from ._value import PrivateValue, Value

__all__ = ["Call", "Effect", "Inquiry", "ReadFile"]

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
Inquiry = Generator[Effect, object, T]
