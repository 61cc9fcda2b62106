"""The threads of one client: started once, ended with it, and not there in a forked child."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import weakref
from time import monotonic
from typing import Final

from nats_proto import Closed, ConnectOptions, Session
from nats_proto.errors import ConnectionClosedError

from ._callbacks import Callbacks
from ._delays import Delays
from ._dispatch import Dispatcher
from ._message import Message
from ._perform import Performer
from ._pump import NOBODY, Pump
from ._reader import Reader
from ._writer import Writer

__all__ = ["Threads"]

USER_CODE_LIMIT: Final = 2.0
"""Seconds that the end of a client waits for callbacks and ``on_event`` to return: they may block for ever."""


class Threads:
    """Reader, writer and dispatcher; and the workers, which the callbacks start.

    All are daemons: an interpreter that ends does not wait for a client that nobody closed.
    """

    def __init__(self, pump: Pump, writer: Writer, options: ConnectOptions, delays: Delays | None) -> None:
        name = f"nats-{options.name}" if options.name else "nats"
        self._pump = pump
        self._options = options
        pump.dispatcher = Dispatcher(pump, options.on_event, inbox_prefix=options.inbox_prefix)
        pump.callbacks = Callbacks(pump, name)
        self._performer = Performer(pump, name)
        self._reader = Reader(pump, writer, self._performer, name, delays)
        self._core = [
            threading.Thread(target=self._reader.run, name=f"{name}-reader", daemon=True),
            threading.Thread(target=writer.run, name=f"{name}-writer", daemon=True),
        ]
        self._dispatcher = threading.Thread(target=pump.dispatcher.run, name=f"{name}-events", daemon=True)
        self._reader_asks = delays is not None
        """The reader calls user code, and the writer ends after the reader."""
        _alive.add(self)

    def start(self) -> None:
        """Start them. Raises `RuntimeError` when the system gives no more threads; none is left then."""
        pump = self._pump
        try:
            for thread in (self._dispatcher, self._core[1], self._core[0]):
                thread.start()
        except RuntimeError:
            pump.call(lambda: pump.session.close(now=monotonic()))
            pump.writer_wakes.put(False)
            pump.reading.close()
            pump.wakeup.close()
            raise

    def runs_user_code(self, thread: threading.Thread) -> bool:
        """Whether it is one of those that call the user's functions."""
        return thread in self._blockable()

    def _blockable(self) -> list[threading.Thread]:
        """Those that user code may hold up."""
        threads = [self._dispatcher, *self._performer.threads, *self._pump.callbacks.threads]
        return [*self._core, *threads] if self._reader_asks else threads

    def join(self) -> None:
        """After the end: wait for them, without waiting for oneself or for user code that waits for us."""
        me = threading.current_thread()
        blockable = self._blockable()
        for thread in self._core:
            if thread is not me and thread not in blockable:
                thread.join()
        if me not in blockable:
            deadline = monotonic() + USER_CODE_LIMIT
            for thread in blockable:
                if thread.is_alive():  # else it may not have been started yet, and ends at once
                    thread.join(max(0.0, deadline - monotonic()))

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
        pump.write_owner = NOBODY
        pump.writer_called = False
        error = ConnectionClosedError("the client belongs to the process that made it, and this one was forked from it")
        # There may be a call that this very thread is in the midst of: a signal handler has forked.
        for request in pump.requests.values():
            request.complete(error=error)
        for flush in pump.flushes.values():
            flush.complete(error=error)
        for held in list(pump.subscriptions.values()):
            sub = held()
            if sub is not None:
                sub.forget_parent(error)
        pump.subscriptions = {}
        pump.handled = {}
        pump.abandoned.clear()
        pump.closed = Closed(error=None)
        ended = Session(self._options, "nats://127.0.0.1", rng=random.SystemRandom(), message_type=Message)
        ended.close(now=0.0)
        ended.events_received()
        ended.commands_to_run()
        pump.session = ended
        pump.publish_quickly = ended.publish_quickly


_alive: weakref.WeakSet[Threads] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for threads in list(_alive):
        with contextlib.suppress(Exception):
            threads.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
