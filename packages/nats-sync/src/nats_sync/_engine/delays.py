"""The user's ``reconnect_delay``, called before the session asks for it.

The session asks in the midst of a call, under the lock, where no user code may run. So the reader calls the function
when a round through the servers begins, without the lock, and the session gets what it said then.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from typing import Final

__all__ = ["Delays"]

logger = logging.getLogger("nats_sync")

NO_TIME: Final = float("nan")
"""What the session takes for no answer: it uses the usual wait."""
MAX_KINDS: Final = 32
"""Kinds of failure that are logged, each once: the function may be called for ever."""


class Delays:
    """What the session is given as ``reconnect_delay``. Only the reader calls `prepare`."""

    def __init__(self, function: Callable[[int], float]) -> None:
        self._function = function
        self._logged: set[str] = set()
        self._said: tuple[int, int, float] | None = None
        """In which outage, after which of its rounds, and what."""

    def prepare(self, outage: int, rounds: int) -> bool:
        """Before each dial, not under the lock: whether the function was called. What it raises is logged."""
        if self._said is not None and self._said[:2] == (outage, rounds):
            return False
        self._said = outage, rounds, self._ask(rounds)
        return True

    def _ask(self, rounds: int) -> float:
        """What the function says, if that is a time. A `SystemExit` raised in this thread would end nothing but it."""
        try:
            said: object = self._function(rounds)
        except BaseException as error:
            self._log(f"raised {type(error).__name__}", error)
            return NO_TIME
        try:
            seconds = float(said)  # type: ignore[arg-type]  # the user's, so it may be anything
            if math.isfinite(seconds) and seconds >= 0.0:
                return seconds
        except BaseException as error:
            self._log(f"returned {type(said).__name__}", error)
        else:
            self._log(f"returned {seconds!r}", None)
        return NO_TIME

    def _log(self, what: str, error: BaseException | None) -> None:
        if what in self._logged or len(self._logged) >= MAX_KINDS:
            return
        self._logged.add(what)
        with contextlib.suppress(Exception):  # handlers of the log are user code
            logger.error("reconnect_delay %s; the usual wait is used (told once)", what, exc_info=error)

    def __call__(self, rounds: int) -> float:
        """For the session. It uses its own rule for a value that is no time."""
        said = self._said
        return said[2] if said is not None and said[1] == rounds else float("nan")
