"""The threads of one client: started once, ended with it, and not there in a forked child."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Final

from nats_proto import Closed, ConnectOptions
from nats_proto.errors import ConnectionClosedError

from .callbacks import Callbacks
from .dispatch import Dispatcher
from .exit import write_at_exit
from .perform import Performer
from .pump import NOBODY, Pump, ended_session
from .reader import Reader
from .writer import Writer

__all__ = ["Threads"]

USER_CODE_LIMIT: Final = 2.0
"""Seconds that the end of a client waits for callbacks and ``on_event`` to return: they may block for ever."""
LAST_MOMENT: Final = 0.1
"""Seconds that threads with nothing to do have to end when the time of a drain is up."""


class Threads:
    """Reader, writer, and what tells events to the log and ``on_event``; and the workers, which the callbacks start.

    All are daemons: an interpreter that ends does not wait for a client that nobody closed, but half a second for what
    it has published.
    """

    def __init__(self, pump: Pump, writer: Writer, options: ConnectOptions) -> None:
        name = f"nats-{options.name}" if options.name else "nats"
        self._pump = pump
        self._options = options
        pump.options = options
        pump.dispatcher = Dispatcher(pump, options.on_event, inbox_prefix=options.inbox_prefix)
        pump.callbacks = Callbacks(pump, name)
        self._performer = Performer(pump, name)
        self._reader = Reader(pump, writer, self._performer, name)
        self._core = [
            threading.Thread(target=self._reader.run, name=f"{name}-reader", daemon=True),
            threading.Thread(target=writer.run, name=f"{name}-writer", daemon=True),
        ]
        self._dispatchers = [
            threading.Thread(target=self._guard, args=(pump.dispatcher.run,), name=f"{name}-events", daemon=True)
        ]
        """They call handlers of the log, and ``on_event``."""
        if options.on_event is not None:
            target = (pump.dispatcher.run_on_event,)
            thread = threading.Thread(target=self._guard, args=target, name=f"{name}-on-event", daemon=True)
            self._dispatchers.append(thread)
        self._hanging: set[threading.Thread] = set()
        """Those that were waited for in vain."""
        _alive.add(self)
        write_at_exit(pump)

    def start(self) -> None:
        """Start them. Raises `RuntimeError` when the system gives no more threads; none is left then."""
        pump = self._pump
        try:
            for thread in (*self._dispatchers, self._core[1], self._core[0]):
                thread.start()
        except RuntimeError:
            pump.call(lambda: pump.session.close(now=monotonic()))
            pump.writer_wakes.put(False)
            pump.reading.close()
            pump.wakeup.close()
            raise

    def _guard(self, run: Callable[[], None]) -> None:
        """A dispatcher's thread."""
        pump = self._pump
        try:
            run()
        except BaseException as defect:
            pump.fail(defect)
            with contextlib.suppress(BaseException):  # nobody is left to log it
                pump.dispatcher.tell_end(pump.closed)

    def runs_user_code(self, thread: threading.Thread) -> bool:
        """Whether it is one of those that call the user's functions."""
        return thread in self._blockable()

    def _blockable(self) -> list[threading.Thread]:
        """Those that user code may hold up."""
        return [*self._dispatchers, *self._performer.threads, *self._pump.callbacks.threads]

    def join(self, until: float | None = None) -> None:
        """After the end: wait for them, without waiting for oneself or for user code that waits for us.

        ``until``: when user code is no longer waited for; else after `USER_CODE_LIMIT`. What was waited for in vain is
        not waited for again.
        """
        me = threading.current_thread()
        blockable = self._blockable()
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

    def forget_parent(self) -> None:
        """In a forked child: no thread is here, locks may be held for ever, the connection is the parent's."""
        pump = self._pump
        pump.lock = threading.RLock()
        pump.send_lock = threading.Lock()
        self._core = []
        pump.callbacks.forget_parent()
        self._performer.forget_parent()
        self._reader.close_copies()
        pump.reading.close()
        pump.wakeup.close_copies()
        pump.transport = None
        pump.successor = None
        pump.write_owner = NOBODY
        pump.writer_called = False
        error = ConnectionClosedError("the client belongs to the process that made it, and this one was forked from it")
        # There may be a call that this very thread is in the midst of: a signal handler has forked.
        for request in pump.requests.values():
            request.complete(error=error)
        for flush in pump.flushes.values():
            flush.complete(error=error)
        for sub in pump.held_subscriptions():
            sub.end_with(error)
        pump.subscriptions = {}
        pump.handled = {}
        pump.abandoned.clear()
        pump.closed = Closed(error=None)
        pump.session = ended_session(self._options, None)
        pump.publish_quickly = pump.session.publish_quickly


_alive: weakref.WeakSet[Threads] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for threads in list(_alive):
        with contextlib.suppress(Exception):
            threads.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
