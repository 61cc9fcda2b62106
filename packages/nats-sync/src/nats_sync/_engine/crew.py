"""Some threads of a client for one purpose: they call a function again and again while there is something to do.

They are threads of the pool that calls the callbacks of subscriptions (`callbacks`), as many more as the crew is to
have, so that neither keeps the others waiting. So all that holds for callbacks holds here: a drain that one of them
calls does not wait for itself, a close waits for them for a while, and each runs in a copy of its maker's context.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from nats_proto import Subscribe

from .driver import Host, Inbox, MessageOut
from .waiter import Waiter, complete_all

if TYPE_CHECKING:
    from .hub import Hub
    from .writing_side import WritingSide

__all__ = ["Crew", "Employer", "HeldInbox"]


class HeldInbox(Inbox[MessageOut], Protocol[MessageOut]):
    """A subscription for whose sake a drain of the client waits."""

    def release(self) -> None:
        """A drain need not wait for this any more. Once."""
        ...


class Employer(Host[MessageOut], Protocol[MessageOut]):
    """The client, as far as those need it who let its threads work for them."""

    @property
    def writing(self) -> WritingSide:
        """For publishes that take no lock."""
        ...

    @property
    def drain_timeout(self) -> float:
        """The option ``drain_timeout``."""
        ...

    def open_held_inbox(self, subscribe: Subscribe) -> HeldInbox[MessageOut]:
        """As `open_inbox`; a drain of the client waits until `HeldInbox.release`."""
        ...

    def crew(self, size: int, step: Callable[[int], bool], waiting: Callable[[], object]) -> Crew:
        """So many threads, see `Crew`."""
        ...

    def log_failure(self, text: str, error: BaseException) -> None:
        """Log what user code raised."""
        ...

    def flush(self, timeout: float) -> None:
        """As `Client.flush`."""
        ...


class Crew:
    """``size`` threads at most. ``step`` does so many pieces of work at most, and says whether there may be more.

    It raises nothing. `call` has it called, by one thread more unless all are at it. Who puts in something to do calls
    `call` afterwards; a thread whose ``step`` found nothing more looks at ``waiting`` once more before it leaves.
    """

    def __init__(self, hub: Hub, size: int, step: Callable[[int], bool], waiting: Callable[[], object]) -> None:
        self._hub = hub
        self._step = step
        self._waiting = waiting
        self._context = copy_context()
        self.free: list[None] = [None] * size
        """As many items as threads more may be called."""
        self._size = size
        self._idlers: list[Waiter[None]] = []
        """Who waits until none of them is at work."""
        with hub.lock:
            hub.callbacks.reserve_threads(size)

    def call(self) -> bool:
        """By any thread: there is something to do. False: the client is closed, nobody will do it."""
        hub = self._hub
        with hub.lock:
            if hub.closed is not None:
                return False
            if self._take_free():
                hub.callbacks.ready.append(self)
                hub.callbacks.see_to_workers()
        hub.leave()
        return True

    def release(self) -> None:
        """`call` will not be called any more."""
        with self._hub.lock:
            self._hub.callbacks.release_threads(self._size)
            self._size = 0

    def is_member(self) -> bool:
        """Whether the calling thread is one of them, at work."""
        return self._hub.callbacks.running.get(get_ident()) is self

    def wait_idle(self, seconds: float | None) -> bool:
        """Until none of them is at work, for so many seconds (None: for ever): whether none is."""
        waiter: Waiter[None] = Waiter()
        lock = self._hub.lock
        with lock:
            if len(self.free) >= self._size:
                return True
            self._idlers.append(waiter)
        try:
            return waiter.wait(seconds)
        finally:
            if not waiter.done:
                with lock:
                    if waiter in self._idlers:
                        self._idlers.remove(waiter)

    # --- for the pool ------------------------------------------------------------------------------------------------

    def handle_messages(self, limit: int) -> bool:
        """By a thread of the pool. Whether there may be more to do."""
        return self._context.copy().run(self._step, limit)

    def handled(self) -> None:
        """By that thread, not under the lock: it leaves, or stands in the pool's queue again."""
        with self._hub.lock:
            self.free.append(None)
            if self._waiting() and self._take_free():
                self._hub.callbacks.ready.append(self)
            elif len(self.free) >= self._size:
                complete_all(self._idlers)

    def _take_free(self) -> bool:
        if not self.free:
            return False
        self.free.pop()
        return True
