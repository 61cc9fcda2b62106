"""A worker of the callbacks who has nothing to do waits for the socket, and reads: no thread is woken for its messages.

Theory of operation
-------------------
The manager would have to wake a worker for each message of a quiet client, which costs more than all the rest of the
message's way. So of the workers with nothing to do one *watches*: it sleeps in an epoll that the system asks after the
callers who lead and before the manager. When something arrives there it takes the turn at reading as a caller does who
leads (`turns`), receives once, gives all of it to the session as the manager would, and gives the turn back. Only then
does it call callbacks. No signal handler runs in its thread.

A callback may block for ever, and everything else has to go on. That takes nothing more: who calls a callback is not
asleep in its epoll, so the system wakes the manager for whatever arrives, and another worker is called for those
subscriptions that wait for a turn (`callbacks`). What was left in the socket when a full buffer was received, of which
the system tells nobody again, is the manager's, and so are the end of the connection, errors and the time.

Nobody watches while somebody reads: what that one receives it has workers called for. Nor where messages come by the
hundred (`MANY`): there one thread reads while another calls callbacks, and two that read would be in each other's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .hub import Hub
    from .turns import Turns
    from .writer import Writer

__all__ = ["Watcher"]

MANY: Final = 4096
"""Bytes received at once after which no worker watches, until less is received."""


class Watcher:
    """Of one client; for its workers."""

    def __init__(self, hub: Hub, writer: Writer, turns: Turns) -> None:
        self._hub = hub
        self._writer = writer
        self._turns = turns

    def enter(self) -> bool:
        """Under the lock, by a worker with nothing to do: whether it is to `watch`."""
        turns = self._turns
        if turns.worker is None or self._writer.received >= MANY or not turns.free():
            return False
        return turns.worker.enter()

    def watched(self) -> bool:
        """Under the lock: a worker watches, or has not yet looked at what it was woken for."""
        worker = self._turns.worker
        return worker is not None and worker.asleep

    def call(self) -> None:
        """Not under the lock: wake the worker who watches, if there is one."""
        worker = self._turns.worker
        if worker is not None:
            worker.call()

    def watch(self) -> None:
        """Not under the lock, after `enter`: sleep until something arrives, and read it; or until it is called."""
        hub, turns, worker = self._hub, self._turns, self._turns.worker
        assert worker is not None  # `enter` was told so
        arrived = worker.sleep()
        with hub.lock:
            worker.leave()
            lead = turns.take() if arrived else None
        if lead is not None:
            lead.receive_at_once()
            claimed = False
            with hub.lock:
                data = turns.taken(lead)
                if data:
                    hub.callbacks.expect_worker()  # this thread: nobody need be called for the first subscription
                    claimed = self._writer.receive(data)
            hub.answers.wake_all()  # only the manager can look after those that it does not wake
            if claimed:
                self._writer.write_now()
        hub.leave()
