"""Waiting for sockets by what the system has: ``poll`` where it is there, else what `selectors` finds.

Windows has no ``poll``, and a program whose threads are made green by eventlet has none either.
"""

from __future__ import annotations

import math
import select
import selectors
from typing import Final, Protocol

__all__ = ["LONGEST", "READABLE", "WRITABLE", "HasFileno", "Poll", "close_poll", "milliseconds", "new_poll"]

READABLE: Final[int] = getattr(select, "POLLIN", 1)
WRITABLE: Final[int] = getattr(select, "POLLOUT", 4)
LONGEST: Final = 86_400.0
"""Seconds of one wait. Systems and interpreters have bounds of their own, the lowest at 24 days, and raise beyond them;
who wakes up early looks at the time and waits again."""


class HasFileno(Protocol):
    """A socket, or what has one."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class Poll(Protocol):
    """What this client uses of ``select.poll``."""

    def register(self, fd: HasFileno, eventmask: int, /) -> object:
        """Wait for this one too, to be `READABLE` or `WRITABLE`."""
        ...

    def unregister(self, fd: HasFileno, /) -> object:
        """Not any more."""
        ...

    def poll(self, timeout: int | None = None, /) -> list[tuple[int, int]]:
        """Wait for so many milliseconds at most, None: for ever. Who is ready, by descriptor."""
        ...


class SelectorPoll:
    """``poll`` for systems without."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: HasFileno, eventmask: int, /) -> None:
        """See `Poll`."""
        reading = selectors.EVENT_READ if eventmask & READABLE else 0
        self._selector.register(fd, reading | (selectors.EVENT_WRITE if eventmask & WRITABLE else 0))

    def unregister(self, fd: HasFileno, /) -> None:
        """See `Poll`."""
        self._selector.unregister(fd)

    def poll(self, timeout: int | None = None, /) -> list[tuple[int, int]]:
        """See `Poll`."""
        ready = self._selector.select(None if timeout is None else timeout / 1000)
        return [(key.fd, events) for key, events in ready]

    def close(self) -> None:
        """Some selectors have a descriptor of their own."""
        self._selector.close()


def new_poll() -> Poll:
    """For one thread."""
    return select.poll() if hasattr(select, "poll") else SelectorPoll()


def close_poll(poll: Poll) -> None:
    """Give back what `new_poll` took from the system."""
    if isinstance(poll, SelectorPoll):
        poll.close()


def milliseconds(seconds: float | None) -> int | None:
    """For `Poll.poll`: rounded up, so that a deadline has passed when the time is up; None: for ever."""
    return None if seconds is None else math.ceil(min(max(seconds, 0.0), LONGEST) * 1000)
