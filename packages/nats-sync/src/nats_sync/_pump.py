"""The one place where the session is touched: one mutation, then drain events, commands, data and deadline.

Theory of operation
-------------------
Any thread may come in. ``lock`` guards the session and everything that is registered beside it. It is held for calls
into the core and for bookkeeping, never around a socket call, a log call or user code. What such calls need is noted
under the lock and done after it.

    a caller's thread ─┐                          ┌─▶ waiters, subscriptions, dispatcher (completed under the lock)
    the reader         ├─▶ lock ─▶ session ─drain─┼─▶ commands and deadline, for the reader
    the writer         ┘                          └─▶ data, for whoever owns the writing side

**The writing side** has one owner at a time. Publishing only appends and, when nobody owns the writing side, gives it
to the writer's thread. Who waits for an answer takes it and writes at once.

**A publish** hardly ever needs the lock, which would cost it more than all the rest. Compiled, `publish_quickly` may be
called at any moment. After it the caller looks at ``writer_called``. True: the writer, which says False before it takes
what there is, will take this too. False: the caller asks for the lock and calls the writer, unless somebody owns the
writing side; who does looks once more, under the lock, before leaving it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Final
from weakref import ref

from nats_proto import (
    Closed,
    CloseTransport,
    Command,
    FlushCompleted,
    FlushFailed,
    MessagesAvailable,
    ReplyReceived,
    RequestFailed,
    SessionEvent,
    SessionStatus,
    SubscriptionClosed,
    accelerated,
)

from ._message import Message
from ._reading import ReadingSide
from ._transport import Transport
from ._waiter import Waiter, complete_all
from ._wakeup import Wakeup

if TYPE_CHECKING:
    from nats_proto import HeadersLike, Session, SubscriptionState

    from ._callbacks import Callbacks
    from ._dispatch import Dispatcher
    from ._subscription import Subscription

__all__ = ["NOBODY", "WRITER", "Pump"]

NOBODY: Final = 0
WRITER: Final = -1
"""The writer's thread, also before it has noticed."""

_STARTING: Final = (SessionStatus.DISCONNECTED, SessionStatus.CONNECTING)


class Pump:
    """The session, its lock, and who waits for what."""

    def __init__(self, session: Session[Message]) -> None:
        self.session = session
        self.publish_quickly = session.publish_quickly if accelerated else self._publish_guarded
        """`Session.publish_quickly`; not under the lock."""
        self.lock = threading.RLock()
        self.send_lock = threading.Lock()
        """Held over a send and its report; taken before ``lock``, never within it."""
        self.wakeup = Wakeup()
        """Ends the reader's wait."""
        self.reading = ReadingSide(self)
        self.reader_ident = 0
        self.commands: deque[Command] = deque()
        self.deadline: float | None = None
        """When the session's time is up; the reader sees to it."""
        self.transport: Transport | None = None
        """The current connection's; None as soon as the session has given it up."""
        self.write_owner = NOBODY
        """Whose the writing side is: a thread's identity, `WRITER` or `NOBODY`."""
        self.writer_wakes: SimpleQueue[bool] = SimpleQueue()
        """True: look whether there is something to write; False: end."""
        self.writer_called = False
        """It was told to look, and will. Until then the writing side is free for a caller who has much."""
        self.requests: dict[int, Waiter[Message]] = {}
        self.flushes: dict[int, Waiter[None]] = {}
        self.publishers: list[Waiter[None]] = []
        self.subscriptions: dict[int, ref[Subscription]] = {}
        """Those that have not ended. Whoever reads one holds it."""
        self.handled: dict[int, Subscription] = {}
        """Those of them with a callback, which nobody else needs to hold."""
        self.abandoned: deque[SubscriptionState[Message]] = deque()
        """To be unsubscribed by the reader. Finalizers add to it."""
        self.started: Waiter[None] | None = None
        """Who waits for the end of the first connect."""
        self.enders: list[Waiter[None]] = []
        """Who waits for `Closed`."""
        self.closed: Closed | None = None
        self.dispatcher: Dispatcher
        self.callbacks: Callbacks
        self.wake_reader = False
        """By the next who calls `leave`."""

    # --- one mutation, then drain ------------------------------------------------------------------------------------

    def drain(self) -> None:
        """After every mutation, under the lock. `leave` follows when it is released.

        Publishing, requesting and flushing make nothing but data; for them the drain after the report of what was
        written is soon enough. Callers are woken last: they need the interpreter, which this thread still has.
        """
        session = self.session
        for command in session.commands_to_run():
            self.commands.append(command)
            self.wake_reader = True
            if isinstance(command, CloseTransport):
                self.transport = None
        deadline, before = session.next_timeout(), self.deadline
        self.deadline = deadline
        if deadline is not None and (before is None or deadline < before):
            self.wake_reader = True
        if self.publishers and session.writable:
            complete_all(self.publishers)
        for event in session.events_received():
            self._route(event)
        if self.started is not None and session.status not in _STARTING:
            self.started.complete()
            self.started = None

    def leave(self) -> None:
        """After the lock was released: what `drain` found to be done without it."""
        if self.wake_reader:
            self.wake_reader = False
            if get_ident() != self.reader_ident:
                self.wakeup.set()
        if self.callbacks.wanted:
            self.callbacks.start_threads()

    def call(self, mutation: Callable[[], object]) -> None:
        """One mutation and all that follows. Raises what it raises."""
        try:
            with self.lock:
                mutation()
                self.drain()
                self.give_to_writer()
        finally:
            self.leave()

    def _route(self, event: SessionEvent) -> None:
        match event:
            case MessagesAvailable(sid=sid):
                held = self.subscriptions.get(sid)
                sub = None if held is None else held()
                if sub is not None:
                    sub.notify()
            case SubscriptionClosed(sid=sid):
                held = self.subscriptions.pop(sid, None)
                sub = None if held is None else held()
                self.handled.pop(sid, None)
                if sub is not None:
                    sub.notify_closed()
            case ReplyReceived() | RequestFailed():
                self.complete(event)
            case FlushCompleted(token=token):
                flusher = self.flushes.pop(token, None)
                if flusher is not None:
                    flusher.complete()
            case FlushFailed(token=token, error=error):
                flusher = self.flushes.pop(token, None)
                if flusher is not None:
                    flusher.complete(error=error)
            case _:
                self.dispatcher.add(event)
                if isinstance(event, Closed):
                    self._end(event)

    def end_abandoned(self) -> None:
        """By the reader, not under the lock: unsubscribe what nobody can reach any more."""

        def unsubscribe() -> None:
            while self.abandoned:
                self.session.unsubscribe(self.abandoned.popleft())
            self.session.subscription_progress(now=monotonic())

        self.call(unsubscribe)

    def complete(self, completion: ReplyReceived | RequestFailed) -> None:
        """Under the lock: the end of a request."""
        waiter = self.requests.pop(completion.token, None)
        if waiter is None:
            return
        if isinstance(completion, RequestFailed):
            waiter.complete(error=completion.error)
        elif isinstance(completion.message, Message):
            waiter.complete(completion.message)

    def _end(self, closed: Closed) -> None:
        self.closed = closed
        self.wake_reader = True
        complete_all(self.enders)
        self.callbacks.stop()

    # --- writing -----------------------------------------------------------------------------------------------------

    def _publish_guarded(
        self,
        subject: str,
        data: bytes | bytearray | memoryview,
        reply: str | None = None,
        headers: HeadersLike | None = None,
    ) -> bool:
        """For the Python twin, which threads have to take turns at."""
        with self.lock:
            return self.session.publish_quickly(subject, data, reply, headers)

    def give_to_writer(self) -> None:
        """Under the lock, after something was appended: see that it gets written."""
        if self.write_owner == NOBODY and not self.writer_called and self.transport is not None:
            self.writer_wakes.put(True)
            self.writer_called = True

    def wait_writable(self, deadline: float | None = None) -> None:
        """Until a publisher may go on, or the time is up; not under the lock."""
        waiter: Waiter[None] = Waiter()
        with self.lock:
            if self.session.writable:
                return
            self.publishers.append(waiter)
        try:
            waiter.wait(None if deadline is None else deadline - monotonic())
        finally:
            if not waiter.done:
                with self.lock:
                    if waiter in self.publishers:
                        self.publishers.remove(waiter)

    # --- the end -----------------------------------------------------------------------------------------------------

    def wait_closed(self) -> None:
        """Until `Closed`; not under the lock."""
        waiter: Waiter[None] = Waiter()
        with self.lock:
            if self.closed is not None:
                return
            self.enders.append(waiter)
        try:
            waiter.wait(None)
        finally:
            if not waiter.done:
                with self.lock:
                    if waiter in self.enders:
                        self.enders.remove(waiter)
