"""The PINGs of one connection: whose they are, and whether the peer is alive.

A PONG has no name on it: it answers the oldest PING. So every PING on its way has a place in one row, with the token
of whoever waits for its PONG, or None when it is the keep-alive's.

    time is up, fewer than ``max_out`` keep-alives unanswered   another PING
    time is up, so many are unanswered                          the connection is stale
    any PONG                                                    the peer is alive: none is unanswered
"""

from __future__ import annotations

from collections import deque

__all__ = ["KeepAlive"]


class KeepAlive:
    """``interval``: seconds between two keep-alives, 0 for none. It begins with the end of the handshake."""

    __slots__ = ("_interval", "_max_out", "_on_wire", "next_at", "unanswered")

    def __init__(self, interval: float, max_out: int) -> None:
        self._interval = interval
        self._max_out = max_out
        self._on_wire: deque[int | None] = deque()
        """Tokens of the PINGs on the wire, oldest first."""
        self.unanswered = 0
        """Keep-alives since the last PONG."""
        self.next_at: float | None = None
        """When the time is up; None before the start and after the end."""

    def start(self, now: float) -> None:
        """The connection is open."""
        if self._interval > 0:
            self.next_at = now + self._interval

    def stop(self) -> None:
        """The connection has ended."""
        self.next_at = None

    def pings_taken(self, tokens: list[int]) -> None:
        """PINGs with these tokens leave, behind all others."""
        self._on_wire.extend(tokens)

    def pong_received(self) -> int | None:
        """The token of the PING that it answers; None when nobody waits for it."""
        if not self._on_wire:
            return None
        # Any PONG settles all keep-alives, also a PONG that a flush has asked for: one is enough to show that the way
        # there and back works.
        self.unanswered = 0
        return self._on_wire.popleft()

    def ping(self, now: float) -> bool:
        """The time is up: True when another PING has to leave, False when the connection is stale."""
        # The next time is counted from now, and not from when this one was due: after a long pause, such as the sleep
        # of a machine, several PINGs would be due at once, and the connection would be stale before any PONG could
        # come.
        self.next_at = now + self._interval
        if self.unanswered >= self._max_out:
            return False
        self.unanswered += 1
        self._on_wire.append(None)
        return True
