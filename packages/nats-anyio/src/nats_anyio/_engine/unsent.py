"""How much of large payloads the system keeps unsent, where both ends of a connection are on one machine.

What the system keeps it sends as soon as the peer has made room, and on one machine the peer's thread does that work
then, in the call that reads. A server that takes large payloads has more to do than who sends them. So a client leaves
little unsent, and does nearly all of that work itself, in the calls that write: a fifth more gets through.

Who makes small messages, or encrypts, has enough to do, and would only be woken more often. Between machines the
sender's does that work anyway, and what is kept there bridges the time until a busy program writes again. What
is answered, as what is put into a stream, comes within a window of answers: nobody is held up by the system alone.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final

__all__ = ["UnsentLimit"]

UNSENT: Final = 64 * 1024
"""Bytes. The system takes more when it keeps less than half of that. What the peer has not read yet does not count."""
HAS_LIMIT: Final = sys.platform == "linux" and hasattr(socket, "TCP_NOTSENT_LOWAT")
"""Where the system counts so; others know the option as well, but take more in spite of it."""


class UnsentLimit:
    """Of one connection, which has none at first."""

    __slots__ = ("_large", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._large = False

    def follow(self, large: bool) -> None:
        """To be called when the system takes no more: whether what waits is large payloads (`Session.writes_large`)."""
        if not HAS_LIMIT or large is self._large:
            return
        self._large = large
        # The connection may have ended, and a system may refuse the option: it is written to in either case.
        with contextlib.suppress(OSError):
            if self._sock.getsockname()[:1] == self._sock.getpeername()[:1]:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT if large else 0)
