"""The user's ``reconnect_delay``, called before the session asks for it.

The session asks in the midst of a call, under the lock, where no user code may run. So the reader calls the function
when a round through the servers begins, without the lock, and the session gets what it said then.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Delays"]


class Delays:
    """What the session is given as ``reconnect_delay``. Only the reader calls `prepare`."""

    def __init__(self, function: Callable[[int], float]) -> None:
        self._function = function
        self._said: tuple[int, int, float] | None = None
        """In which outage, after which of its rounds, and what."""

    def prepare(self, outage: int, rounds: int) -> bool:
        """Before each dial, not under the lock: whether the function was called. What it raises is dropped."""
        if self._said is not None and self._said[:2] == (outage, rounds):
            return False
        try:
            seconds = float(self._function(rounds))
        except Exception:
            seconds = float("nan")
        self._said = outage, rounds, seconds
        return True

    def __call__(self, rounds: int) -> float:
        """For the session. It uses its own rule for a value that is no time."""
        said = self._said
        return said[2] if said is not None and said[1] == rounds else float("nan")
