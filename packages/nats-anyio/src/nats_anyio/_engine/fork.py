"""What becomes of the clients of a process that is forked: in the child they are closed.

No task runs in the child. The connection, and what the event loop asks the system for, are shared with the parent, and
must not be touched: a word to the server, or to the system's list of descriptors, would be one of the parent's.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["watch"]


class Forked(Protocol):
    """A client's hub, of which this is all that is needed here."""

    def forget_parent(self) -> None:
        """In the child: end without a word to anybody outside of this process."""


_alive: Final[WeakSet[Forked]] = WeakSet()


def watch(hub: Forked) -> None:
    """From now on it is told when the process is forked."""
    _alive.add(hub)


def _after_fork_in_child() -> None:
    for hub in list(_alive):
        # Python would only print the error, and the clients behind this one would go on using their parent's
        # connections.
        with contextlib.suppress(Exception):
            hub.forget_parent()


# Windows has no fork, and its Python no such function.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
