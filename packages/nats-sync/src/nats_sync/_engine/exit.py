"""The end of the interpreter: what clients that nobody closed have published is written, or it is said that it was not.

``atexit`` runs after all threads but daemons have ended, and daemons, which those of a client are, still run then. All
clients together get the grace that `Client.close` gives one.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import weakref
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["write_at_exit"]

logger = logging.getLogger("nats_sync")

GRACE: Final = 0.5
"""Seconds for what was published, as the session gives it when it is closed."""

LOOK: Final = 0.002
"""Seconds between two looks at what is still to be written: the interpreter ends that much later."""

_open: weakref.WeakSet[Hub] = weakref.WeakSet()


def write_at_exit(hub: Hub) -> None:
    """Remember a client."""
    _open.add(hub)


def _write_all() -> None:
    """Clients that are closed are left alone; so are those that a forked child has of its parent, which are closed.

    The clients stay open while they write: daemon threads that wait for something are not disturbed at the end.
    """
    deadline = monotonic() + GRACE
    hubs = [hub for hub in _open if hub.closed is None]
    while (unwritten := [hub for hub in hubs if _has_more(hub)]) and monotonic() < deadline:
        sleep(LOOK)
    unsent = sum(map(_give_up, unwritten))
    if unsent:
        with contextlib.suppress(Exception):  # handlers of the log are user code
            logger.warning(
                "the interpreter ends and %d published messages were not sent: drain, flush or close the client before",
                unsent,
            )


def _has_more(hub: Hub) -> bool:
    return hub.closed is None and hub.session.pending_bytes > 0


def _give_up(hub: Hub) -> int:
    """Close it, and do not wait for anything to be written: how many messages were not sent."""

    def close() -> None:
        now = monotonic()
        hub.session.close(now=now)
        # The grace that the session gives after `close` has been spent before: the session is told that it is over.
        hub.session.handle_timeout(now=now + GRACE)

    # Nobody has the lock for long. If it cannot be had all the same, the interpreter must end nevertheless.
    if not hub.lock.acquire(timeout=GRACE):
        return 0
    try:
        hub.call(close)
    except Exception as defect:
        logger.error("closing a client at the end of the interpreter failed", exc_info=defect)
    finally:
        hub.lock.release()
    return 0 if hub.closed is None else hub.closed.unsent_msgs


atexit.register(_write_all)
