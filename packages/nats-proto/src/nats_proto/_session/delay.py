"""The question to the user's ``reconnect_delay``, and what an answer is worth.

The link asks when a round through the servers is over, one question at a time, and goes on when it is answered or its
time is up. An answer to an earlier question is none. Whatever the user's function does, an attempt follows: what is no
time leaves the usual wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._effects import Call
from .._interface.events import Perform, ReconnectDelayFailed
from .._limits import shown
from .._servers.pool import usable_delay
from .._value import Value

__all__ = ["Delay", "DelayQuestion"]

MAX_KINDS: Final = 32
"""Kinds of failure that are told, each once: the function may be called for ever, and fail in another way each time."""


class Delay(Value, frozen=True, eq=False):
    """``seconds`` to wait, None: as usual. ``failed`` tells why, unless it was told before."""

    seconds: float | None
    failed: ReconnectDelayFailed | None = None


class DelayQuestion:
    """Belongs to one link."""

    __slots__ = ("_asked", "_function", "_told")

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._asked: Call | None = None
        self._told: set[str] = set()

    def ask(self, rounds: int) -> Perform:
        """What the adapter has to perform. It takes the place of an earlier question."""
        self._asked = Call(self._function, (rounds,), "reconnect_delay")
        return Perform(self._asked, before_dial=True)

    def said(self, command: Perform, result: object) -> Delay | None:
        """What the function returned; None when that is no answer to this question."""
        if command.effect is not self._asked:
            return None
        seconds = usable_delay(result)
        if seconds is not None:
            self._asked = None
            return Delay(seconds)
        if isinstance(result, (int, float)):
            return self._usual_wait(f"returned {shown(result)}")
        awaited = ", which this client cannot await" if hasattr(result, "__await__") else ""
        return self._usual_wait(f"returned {type(result).__name__}{awaited}")

    def raised(self, command: Perform, error: BaseException) -> Delay | None:
        """What the function raised; None when that is no answer to this question."""
        if command.effect is not self._asked:
            return None
        return self._usual_wait(f"raised {type(error).__name__}", error)

    def unanswered(self, seconds: float) -> Delay:
        """It has taken that long, and is not waited for."""
        return self._usual_wait(f"did not return within {seconds:g} s")

    def withdraw(self) -> None:
        """Nobody wants to know any more."""
        self._asked = None

    def _usual_wait(self, why: str, error: BaseException | None = None) -> Delay:
        self._asked = None
        if why in self._told or len(self._told) >= MAX_KINDS:
            return Delay(None)
        self._told.add(why)
        return Delay(None, ReconnectDelayFailed(why, error))
