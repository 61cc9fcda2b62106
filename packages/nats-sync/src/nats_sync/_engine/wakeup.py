"""Ends the wait of another thread that polls sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from typing import Final

__all__ = ["Wakeup"]


PIPES: Final = sys.platform != "win32" and hasattr(os, "set_blocking")
"""Pipes can be waited for; on Windows only sockets can."""


class Wakeup:
    """A pipe whose reading end belongs to the poll of one thread. Setting it twice is setting it once."""

    __slots__ = ("_closed", "_lock", "_reading_end", "_set", "_sockets", "_writing_end")

    def __init__(self) -> None:
        self._sockets: tuple[socket.socket, ...] = ()
        """What is used in place of the pipe."""
        if PIPES:
            self._reading_end, self._writing_end = os.pipe()
            for end in (self._reading_end, self._writing_end):
                os.set_blocking(end, False)
        else:
            self._sockets = reading, writing = socket.socketpair()
            self._reading_end, self._writing_end = reading.fileno(), writing.fileno()
            for sock in self._sockets:
                sock.setblocking(False)
        # A descriptor must not be written to after it was closed, since the system gives its number to somebody else.
        # So there is a lock, around calls that do not block. It can be taken twice by one thread: a finalizer or a
        # signal handler may set the wakeup while its own thread has the lock.
        self._lock = threading.RLock()
        self._set = False
        self._closed = False

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._reading_end

    def set(self) -> None:
        """End the wait, or the next one."""
        if self._set:
            return
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # the pipe is full: the thread will wake up
                    if self._sockets:
                        self._sockets[1].send(b"\0")
                    else:
                        os.write(self._writing_end, b"\0")
                # Last: after an interrupt in between the thread is woken twice. The other way round nobody would wake
                # it any more.
                self._set = True

    def clear(self) -> None:
        """The thread is awake and looks at everything from here on."""
        with self._lock:
            if self._set and not self._closed:
                with contextlib.suppress(BlockingIOError):
                    if self._sockets:
                        self._sockets[0].recv(16)
                    else:
                        os.read(self._reading_end, 16)
                # Last: who sets it before this line needs no wakeup, since the thread is awake and looks after this.
                self._set = False

    def close(self) -> None:
        """Harmless the second time."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._close_ends()

    def close_without_lock(self) -> None:
        """In a forked child, where the lock may be held by a thread that does not exist."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._close_ends()

    def _close_ends(self) -> None:
        if self._sockets:
            for sock in self._sockets:
                sock.close()
        else:
            os.close(self._reading_end)
            os.close(self._writing_end)
