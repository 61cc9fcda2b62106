"""A connected socket. One thread reads it, another one writes to it, and nobody waits until it is closed."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Final

from nats_proto import MAX_PIECES

from .polling import WRITABLE, close_poll, milliseconds, new_poll
from .uninterrupted import results_of
from .unsent import UnsentLimit

__all__ = ["Chunk", "Transport"]

GATHERS: Final = hasattr(socket.socket, "sendmsg")
"""The system takes several pieces at once; Windows does not."""
LOOK_AGAIN: Final = None if hasattr(select, "poll") else 0.25
"""Seconds after which a wait until more can be sent is begun anew; None: never. Only ``poll`` is known to end when
another thread shuts the socket down."""

Chunk = bytes | memoryview


class Transport:
    """Non-blocking. Only the reading thread abandons it; the writing thread may be polling it then.

    A descriptor's number is given to somebody else as soon as it is closed, and polling the wrong one could wait for
    ever. So `abandon` shuts the connection down, which ends every poll, and the last thread that has it closes it.
    """

    __slots__ = ("_abandoned", "_lock", "_polled", "_sock", "_unsent", "receive", "write_error")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unsent = UnsentLimit(sock)
        self.receive: Callable[[int], bytes] = sock.recv
        """What has arrived, up to so many bytes; b"" at the end. Raises `BlockingIOError` when there is nothing, and
        any other `OSError`. A function of C code, as `permitted` needs it."""
        self._lock = threading.Lock()
        self._polled = False
        self._abandoned = False
        self.write_error: OSError | None = None
        """Why nothing can be written any more. What the peer said before may still be read."""

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._sock.fileno()

    def send(self, chunks: list[Chunk], accepted: list[int]) -> None:
        """Append to ``accepted`` how many bytes the system took. Raises `BlockingIOError`, and any other `OSError`.

        A `KeyboardInterrupt` cannot come between the call that sends and the storing of its result.
        """
        if len(chunks) == 1 or not GATHERS:
            accepted.extend(results_of(self._sock.send, chunks[:1]))
        else:
            accepted.extend(results_of(self._sock.sendmsg, (chunks[:MAX_PIECES],)))

    def wait_writable(self, *, large: bool = False) -> bool:
        """Block until more can be sent, perhaps, or the transport is abandoned: False.

        ``large``: what is to be sent has large payloads.
        """
        with self._lock:
            if self._abandoned:
                return False
            self._polled = True
        self._unsent.follow(large)
        poll = new_poll()
        poll.register(self._sock, WRITABLE)
        poll.poll(milliseconds(LOOK_AGAIN))
        close_poll(poll)
        return self._still_open()

    def _still_open(self) -> bool:
        with self._lock:
            self._polled = False
            if self._abandoned:
                self._sock.close()
            return not self._abandoned

    def abandon(self) -> None:
        """End the connection, now, whatever the peer does. Harmless the second time."""
        with self._lock:
            if self._abandoned:
                return
            self._abandoned = True
            with contextlib.suppress(OSError):  # the peer was faster
                self._sock.shutdown(socket.SHUT_RDWR)
            if not self._polled:
                self._sock.close()

    def detach(self) -> int:
        """Give its descriptor away, to be closed without a word to the peer; -1: it has none. Takes no lock."""
        return self._sock.detach()
