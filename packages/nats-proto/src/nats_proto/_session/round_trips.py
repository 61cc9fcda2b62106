"""PINGs we wait for: the user's flushes, and the session's own round trips.

Each has a token. The connection keeps the tokens in the order their PINGs left and names one for each PONG, so a flush
is completed by its own PONG and no other. A flush nobody waits for any more keeps its place on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._interface.events import FlushCompleted, FlushFailed
from ..errors import NATSError

__all__ = ["JOIN_TOKEN", "LAST_TOKEN", "RoundTrips"]

LAST_TOKEN: Final = 0
"""Of the PING behind the last operation that a connection has to read before another is left. All others count from 1.
"""
JOIN_TOKEN: Final = -1
"""Of the PING behind the subscriptions that a successor's server is told. Its PONG may come when nobody waits for it.
"""


class RoundTrips:
    """Tokens under way on the current connection."""

    __slots__ = ("_flushes", "_next_token", "_own")

    def __init__(self) -> None:
        self._next_token = 1
        self._flushes: set[int] = set()
        self._own: dict[int, Callable[[float], None]] = {}

    def __len__(self) -> int:
        return len(self._flushes) + len(self._own)

    def new_token(self) -> int:
        """For one PING; its wait is opened when the PING is on its way."""
        token = self._next_token
        self._next_token += 1
        return token

    def open_flush(self, token: int) -> None:
        """A user waits for this PONG."""
        self._flushes.add(token)

    def open_own(self, token: int, completed: Callable[[float], None]) -> None:
        """A round trip of the session's own; ``completed`` is called with the time of its PONG."""
        self._own[token] = completed

    def cancel(self, token: int) -> None:
        """Nobody waits for this flush any more."""
        self._flushes.discard(token)

    def pong(self, token: int, now: float) -> FlushCompleted | None:
        """The PONG of ``token`` arrived."""
        if token in self._flushes:
            self._flushes.remove(token)
            return FlushCompleted(token)
        completed = self._own.pop(token, None)
        if completed is not None:
            completed(now)
        return None

    def fail_all(self, error: NATSError) -> list[FlushFailed]:
        """The connection ended: every flush fails, our own round trips are forgotten."""
        # Sorted, since a set has no order: tokens count up, so flushes fail in the order in which they were asked for.
        failed = [FlushFailed(token, error) for token in sorted(self._flushes)]
        self._flushes.clear()
        self._own.clear()
        return failed
