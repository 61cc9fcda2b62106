"""The end of the interpreter: what clients that nobody closed have published is written, or it is said that it was not.

``atexit`` runs after all threads but daemons have ended, and daemons, which those of a client are, still run then. All
clients together get the grace that `Client.close` gives one.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import weakref
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from ._waiter import Waiter

if TYPE_CHECKING:
    from ._pump import Pump

__all__ = ["close_at_exit"]

logger = logging.getLogger("nats_sync")

GRACE: Final = 0.5
"""Seconds for what was published, as the session gives it when it is closed."""

_open: weakref.WeakSet[Pump] = weakref.WeakSet()


def close_at_exit(pump: Pump) -> None:
    """Remember a client."""
    _open.add(pump)


def _close_all() -> None:
    """A forked child's copies of its parent's clients are closed, and so left alone, as are those that have ended."""
    deadline = monotonic() + GRACE
    pumps = [pump for pump in _open if pump.closed is None]
    for pump in pumps:
        _within(pump, deadline, lambda pump=pump: pump.session.close(now=deadline - GRACE))  # type: ignore[misc]
    for pump in pumps:
        _wait_closed(pump, deadline)
    unsent = sum(pump.closed.unsent_msgs for pump in pumps if pump.closed is not None)
    if unsent:
        with contextlib.suppress(Exception):  # handlers of the log are user code
            logger.warning(
                "the interpreter ends and %d published messages were not sent: drain, flush or close the client before",
                unsent,
            )


def _wait_closed(pump: Pump, deadline: float) -> None:
    """Until the client is closed; when the time is up, it is."""
    waiter: Waiter[None] = Waiter()

    def wait() -> None:
        if pump.closed is None:
            pump.enders.append(waiter)
        else:
            waiter.complete()

    if _within(pump, deadline, wait) and not waiter.wait(deadline - monotonic()):
        # The reader does this, unless a ``reconnect_delay`` holds it up.
        _within(pump, deadline, lambda: pump.session.handle_timeout(now=monotonic()))


def _within(pump: Pump, deadline: float, mutation: Callable[[], object]) -> bool:
    """Whether it was done. A thread that has the lock gives it back in a moment, unless it was stopped for good."""
    if not pump.lock.acquire(timeout=max(0.01, deadline - monotonic())):
        return False
    try:
        pump.call(mutation)
    except Exception as defect:
        logger.error("closing a client at the end of the interpreter failed", exc_info=defect)
        return False
    finally:
        pump.lock.release()
    return True


atexit.register(_close_all)
