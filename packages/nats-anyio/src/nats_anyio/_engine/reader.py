"""Reads one socket: what the event loop says has arrived is taken here and given to whoever keeps the connection."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final, Protocol

from .event_loop import BURST, MORE, OVER, QUIET, EventLoop

__all__ = ["Reader"]

MANY: Final = 1024
"""Bytes of a chunk that is likely to be more than a few messages."""


class HasReceiveSize(Protocol):
    """A session, of which this is all that is needed here."""

    @property
    def receive_size(self) -> int:
        """Bytes to take at once, the next time."""
        ...


class Reader:
    """``receive`` is given each chunk, ``end`` is called at the end of the stream, ``lost`` with what broke it.

    On asyncio they are called outside of any task: they may set events and cancel scopes, but make none. ``fail`` is
    told of a defect in them. ``session`` says how many bytes to take at once.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: EventLoop,
        session: HasReceiveSize,
        *,
        receive: Callable[[bytes], object],
        end: Callable[[], object],
        lost: Callable[[Exception], object],
        fail: Callable[[Exception], None],
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._session = session
        self._receive = receive
        self._end = end
        self._lost = lost
        self._fail = fail
        self._stopped = False

    async def run(self) -> None:
        """Until the end of the stream, or until `stop`."""
        try:
            await self._loop.read(self._sock, self._take)
        except OSError as error:  # the descriptor cannot be waited for
            self._lost(error)

    def stop(self) -> None:
        """Take nothing more: it was given up, of which the task that runs `run` may hear only later."""
        self._stopped = True

    def _take(self) -> int:
        """Take one chunk of what has arrived. It is one turn: everybody else runs before the next."""
        if self._stopped:
            return OVER
        size = self._session.receive_size
        try:
            try:
                data = self._sock.recv(size)
            except BlockingIOError:
                return QUIET
            except OSError as error:  # whatever it may be, the session makes a new connection
                self._lost(error)
                return OVER
            if not data:
                self._end()
                return OVER
            self._receive(data)
        except Exception as error:
            # asyncio would only log what a function raises that the loop has called, and nobody who waits for the
            # client would be told.
            self._fail(error)
            return OVER
        # Less than was asked for means that the system has no more for now: another call would find nothing.
        if len(data) == size:
            return MORE
        return QUIET if len(data) < MANY else BURST
