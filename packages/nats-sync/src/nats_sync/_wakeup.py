"""What ends another thread's wait for a socket."""

from __future__ import annotations

import contextlib
import os
import threading

__all__ = ["Wakeup"]


class Wakeup:
    """A pipe whose reading end belongs to the poll of one thread. Setting it twice is setting it once."""

    __slots__ = ("_closed", "_lock", "_reading_end", "_set", "_writing_end")

    def __init__(self) -> None:
        self._reading_end, self._writing_end = os.pipe()
        for end in (self._reading_end, self._writing_end):
            os.set_blocking(end, False)
        # Its own lock, around calls that cannot block: a number must not be written to after it was closed, since the
        # system gives it to somebody else. A finalizer or a signal handler may come in while its own thread has it.
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
                self._set = True
                with contextlib.suppress(BlockingIOError):  # full: set enough
                    os.write(self._writing_end, b"\0")

    def clear(self) -> None:
        """The thread is awake and looks at everything from here on."""
        with self._lock:
            if self._set and not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._reading_end, 16)
                self._set = False  # last: whoever comes in before it is seen by the thread that is awake

    def close(self) -> None:
        """Harmless the second time."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._reading_end)
                os.close(self._writing_end)

    def close_copies(self) -> None:
        """In a forked child: close what it inherited. The lock may be held by a thread that does not exist here."""
        if not self._closed:
            self._closed = True
            for end in (self._reading_end, self._writing_end):
                with contextlib.suppress(OSError):
                    os.close(end)
