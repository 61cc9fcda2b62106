"""Whether the server of the link's connection is about to leave, and what the link does about it.

    NO ─INFO─▶ SAID ─up─▶ STAYING ◀─another server is known, or none any more─▶ LEAVING      (NO with each connection)

A lame duck closes its connections some time after it has said so, in one INFO of many. Where there may be another
server the link leaves it before that: for a successor (see there) when the adapter can keep two transports, and else at
a quiet moment, when nothing is on its way or awaited, but not later than `LAME_DUCK_GRACE`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from .._interface.events import LameDuckMode
from .._servers.pool import Attempt, ServerPool
from .._servers.server import Server
from .timers import Timers

__all__ = ["LAME_DUCK_GRACE", "LameDuck"]

LAME_DUCK_GRACE: Final = 5.0
"""Seconds that leaving a lame duck waits for its moment; servers stay for longer."""


class _State(Enum):
    NO = auto()
    SAID = auto()
    """It has said so before the handshake was done: nobody was told yet."""
    STAYING = auto()
    """The pool and the user were told. We stay: there is nowhere to go, or we must not."""
    LEAVING = auto()
    """There is another server: we go there as soon as may be."""


class LameDuck:
    """Of one link. ``two_transports``: another connection can be made before this one is left."""

    __slots__ = ("_pool", "_state", "_timers", "_two_transports", "succeeding")

    def __init__(self, pool: ServerPool, timers: Timers, *, two_transports: bool) -> None:
        self._pool = pool
        self._timers = timers
        self._two_transports = two_transports
        self._state = _State.NO
        self.succeeding: Server | None = None
        """Where the successor of the connection is made."""

    def begin(self, *, said: bool = False) -> None:
        """There is another connection. ``said``: its server has said that it is about to leave."""
        self._state = _State.SAID if said else _State.NO
        self.succeeding = None

    def said(self) -> None:
        """An INFO says that the server is about to leave. The next one need not repeat it."""
        if self._state is _State.NO:
            self._state = _State.SAID

    def answer(self, server: Server, server_id: str, now: float, *, may_leave: bool) -> LameDuckMode | None:
        """Up, and there was an INFO: what the user is to hear, once that it leaves and once that we do, maybe later."""
        if self._state in (_State.NO, _State.LEAVING):
            return None
        new = self._state is _State.SAID
        migrating = may_leave and self._has_refuge(server, server_id)
        self._state = _State.LEAVING if migrating else _State.STAYING
        if migrating and not self._two_transports:
            self._timers.migrate = now + LAME_DUCK_GRACE
        if new:
            self._pool.lame_duck(server)
        return LameDuckMode(server=server.url, migrating=migrating) if migrating or new else None

    def succession(self, attempt: Attempt | None) -> None:
        """The next connection is made with this attempt, beside the one that there is; None: nowhere."""
        self._state = _State.STAYING if attempt is None else _State.LEAVING
        self.succeeding = None if attempt is None else attempt.server

    def _has_refuge(self, here: Server, server_id: str) -> bool:
        """Whether there may be another server. What an address leads to is known only to who was there."""
        for server in self._pool.servers:
            if self._two_transports and server.named:
                return True  # the next look at a name may find another server, and it costs nothing to try
            if server != here and not self._pool.is_lame_duck(server):
                known = self._pool.id_of(server)
                if not known or known != server_id:
                    return True
        return False
