"""The threads of one client: started once, and ended with it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from .fork import Inheritance

if TYPE_CHECKING:
    from nats_proto import ConnectOptions

    from .hub import Hub
    from .manager import Manager
    from .perform import Performer
    from .turns import Turns
    from .writer import Writer

__all__ = ["Threads"]

USER_CODE_LIMIT: Final = 2.0
"""Seconds that the end of a client waits for callbacks and ``on_event`` to return: they may block for ever."""
LAST_MOMENT: Final = 0.1
"""Seconds that threads with nothing to do have to end when the time of a drain is up."""


class Threads:
    """The manager's, the writer's, and those that tell events to the log and to ``on_event``.

    Callbacks, user functions that a handshake calls, and the resolver have threads of their own, started when they are
    needed first. All are daemons: an interpreter that ends does not wait for a client that nobody closed, but half a
    second for what it has published.
    """

    def __init__(
        self,
        hub: Hub,
        writer: Writer,
        turns: Turns,
        manager: Manager,
        performer: Performer,
        options: ConnectOptions,
        name: str,
    ) -> None:
        self._hub = hub
        self._performer = performer
        self._core = [
            threading.Thread(target=writer.run, name=f"{name}-writer", daemon=True),
            threading.Thread(target=manager.run, name=f"{name}-reader", daemon=True),
        ]
        dispatcher = hub.dispatcher
        self._dispatchers = [self._guarded(dispatcher.run, f"{name}-events")]
        """They call handlers of the log, and ``on_event``."""
        if options.on_event is not None:
            self._dispatchers.append(self._guarded(dispatcher.run_on_event, f"{name}-on-event"))
        self._hanging: set[threading.Thread] = set()
        """Those that were waited for in vain."""
        self._inheritance = Inheritance(hub, turns, performer, manager, self._core, options)
        """Held here, since these threads live on when nobody holds the client any more."""

    def start(self) -> None:
        """Start them. Raises `RuntimeError` when the system gives no more threads; those that run end then."""
        for thread in (*self._dispatchers, *self._core):
            thread.start()

    def _guarded(self, run: Callable[[], None], name: str) -> threading.Thread:
        return threading.Thread(target=self._guard, args=(run,), name=name, daemon=True)

    def _guard(self, run: Callable[[], None]) -> None:
        """A dispatcher's thread."""
        hub = self._hub
        try:
            run()
        except BaseException as defect:
            hub.fail(defect)
            with contextlib.suppress(BaseException):  # nobody is left to log it
                hub.dispatcher.tell_end(hub.closed)

    def runs_user_code(self, thread: threading.Thread) -> bool:
        """Whether it is one of those that call the user's functions."""
        return thread in self._blockable()

    def _blockable(self) -> list[threading.Thread]:
        """Those that user code may hold up."""
        return [*self._dispatchers, *self._performer.threads, *self._hub.callbacks.threads]

    def join(self, until: float | None = None) -> None:
        """After the end: wait for them, without waiting for oneself or for user code that waits for us.

        ``until``: when user code is no longer waited for; else after `USER_CODE_LIMIT`. What was waited for in vain is
        not waited for again.
        """
        me = threading.current_thread()
        blockable = self._blockable()
        # Without a limit: these two call no user code, which alone may block for ever.
        for thread in self._core:
            if thread is not me:
                thread.join()
        if me not in blockable:
            now = monotonic()
            deadline = now + USER_CODE_LIMIT
            if until is not None:
                deadline = min(deadline, max(until, now + LAST_MOMENT))
            for thread in blockable:
                if thread.is_alive() and thread not in self._hanging:  # one not yet started ends at once
                    thread.join(max(0.0, deadline - monotonic()))
                    if thread.is_alive():
                        self._hanging.add(thread)
