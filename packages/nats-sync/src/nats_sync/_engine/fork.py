"""A forked child: it has a copy of each client of its parent, and none of the threads that make it one.

The connection is the parent's. So the child closes its copies of the descriptors, without a word to the server, and
each client says from then on that it is closed. Locks may have been held by threads that the child does not have; they
are replaced, and nothing here waits for one. Whoever calls the client in the child after that takes the new ones: the
dispatcher alone keeps the old lock, which is taken by its threads only.

This is the one place that changes what belongs to others: no other thread is there that could notice. The very thread
that forks may be in the midst of a call, when a signal handler has forked; that call is told that the client is closed.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import weakref
from typing import TYPE_CHECKING

from nats_proto import Closed, Message, ended_session
from nats_proto.errors import ConnectionClosedError

from .writing_side import NOBODY

if TYPE_CHECKING:
    from threading import Thread

    from nats_proto import ConnectOptions

    from .dial import Dialler
    from .hub import Hub
    from .manager import Manager
    from .perform import Performer
    from .transport import Transport
    from .turns import Turns

__all__ = ["Inheritance"]


class Inheritance:
    """All that a child inherits of one client. Remembered as long as somebody holds it: the threads do."""

    def __init__(
        self,
        hub: Hub,
        turns: Turns,
        performer: Performer,
        manager: Manager,
        threads: list[Thread],
        options: ConnectOptions,
    ) -> None:
        self._hub = hub
        self._turns = turns
        self._performer = performer
        self._manager = manager
        self._threads = threads
        """Those that are waited for at the end."""
        self._options = options
        _inheritances.add(self)

    def forget_parent(self) -> None:
        """In the child."""
        hub = self._hub
        hub.lock = threading.RLock()
        hub.writing.send_lock = threading.Lock()
        self._threads.clear()
        hub.callbacks.forget_threads()
        self._performer.forget_threads()
        self._close_copies()
        self._close_client()

    def _close_copies(self) -> None:
        """Of descriptors: the parent has its own, and goes on using them."""
        manager = self._manager
        _close_copy(manager.transport)
        if manager.successor is not None:
            _close_copies_of_attempts(manager.successor.dialler)
            manager.successor.wakeup.close_without_lock()
            _close_copy(manager.successor.unfinished)
            _close_copy(manager.successor.transport)
        _close_copies_of_attempts(manager.dialler)
        if self._turns.worker is not None:
            self._turns.worker.forget()
            self._turns.worker = None
        self._turns.close()
        self._hub.agenda.wakeup.close_without_lock()

    def _close_client(self) -> None:
        hub = self._hub
        hub.transport = None
        hub.successor = None
        hub.writing.owner = NOBODY
        hub.writing.called = hub.writing.attended = False
        hub.writing.watched = hub.writing.promised = hub.writing.gathered = False
        error = ConnectionClosedError("the client belongs to the process that made it, and this one was forked from it")
        for request in hub.requests.values():
            request.give(error=error)
        for flush in hub.flushes.values():
            flush.complete(error=error)
        hub.publishers.call_all()
        for sub in hub.reachable_subscriptions():
            sub.end_with(error)
        hub.subscriptions = {}
        hub.held = {}
        hub.agenda.abandoned.clear()
        hub.closed = Closed(error=None)
        hub.session = ended_session(self._options, rng=random.SystemRandom(), message_type=Message)
        hub.writing.serve(hub.session, hub.lock)


def _close_copy(transport: Transport | None) -> None:
    # Not `abandon`: its shutdown would end the parent's connection too, since both have the same socket.
    number = -1 if transport is None else transport.detach()
    if number >= 0:
        with contextlib.suppress(OSError):
            os.close(number)


def _close_copies_of_attempts(dialler: Dialler) -> None:
    for sock in dialler.attempts:
        sock.close()  # which tells the peer nothing as long as the parent has it


_inheritances: weakref.WeakSet[Inheritance] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for inheritance in list(_inheritances):
        # One client that cannot be ended must not keep the others from it.
        with contextlib.suppress(Exception):
            inheritance.forget_parent()


# Windows has no fork, and so no such function.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
