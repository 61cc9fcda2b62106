"""The user's ``reconnect_delay``, called by the session in the midst of its work: nothing it raises comes out there."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from typing import Final

__all__ = ["Delays"]

logger = logging.getLogger("nats_anyio")

NO_TIME: Final = float("nan")
"""What the session takes for no answer: it uses the usual wait."""
MAX_KINDS: Final = 32
"""Kinds of failure that are logged, each once: the function may be called for ever."""


class Delays:
    """What the session is given as ``reconnect_delay``."""

    def __init__(self, function: Callable[[int], float]) -> None:
        self._function = function
        self._logged: set[str] = set()

    def __call__(self, rounds: int) -> float:
        """What the function says, if that is a time. A `KeyboardInterrupt` comes out: the user wants to end."""
        try:
            said: object = self._function(rounds)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._log(f"raised {type(error).__name__}", error)
            return NO_TIME
        try:
            seconds = float(said)  # type: ignore[arg-type]  # the user's, so it may be anything
            if math.isfinite(seconds) and seconds >= 0.0:
                return seconds
        except KeyboardInterrupt:
            raise
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
