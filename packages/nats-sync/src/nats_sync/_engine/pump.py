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

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Final
from weakref import ref

from nats_proto import (
    AdoptSuccessor,
    Closed,
    CloseSuccessor,
    CloseTransport,
    Command,
    ConnectOptions,
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
from nats_proto.errors import ConnectionClosedError, DefectError

from .._message import Message
from .reading import ReadingSide
from .transport import Transport
from .waiter import Waiter, complete_all
from .wakeup import Wakeup

if TYPE_CHECKING:
    from nats_proto import HeadersLike, Session, SubscriptionState

    from .._subscription import Subscription
    from .callbacks import Callbacks
    from .dispatch import Dispatcher
    from .successor import Successor

__all__ = ["NOBODY", "WRITER", "Defect", "Pump", "ended_session"]

NOBODY: Final = 0
WRITER: Final = -1
"""The writer's thread, also before it has noticed."""

_STARTING: Final = (SessionStatus.DISCONNECTED, SessionStatus.CONNECTING)


class Defect:
    """Something in this client raised what it must not, in a thread that is not ours: the reader ends the client."""

    __slots__ = ("raised",)

    def __init__(self, raised: Exception) -> None:
        self.raised = raised


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
        self.commands: deque[Command | Defect] = deque()
        self.deadline: float | None = None
        """When the session's time is up; the reader sees to it."""
        self.transport: Transport | None = None
        """The current connection's; None as soon as the session has given it up."""
        self.successor: Successor | None = None
        """Who makes the next connection, while the one to a lame duck is up; None as soon as it is given up."""
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
        self.options: ConnectOptions
        self.failed = False
        """A defect was met, and logged."""
        self.wake_reader = False
        """By the next who calls `leave`."""

    # --- one mutation, then drain ------------------------------------------------------------------------------------

    def drain(self) -> None:
        """After every mutation, under the lock. `leave` follows when it is released.

        Publishing, requesting and flushing make nothing but data; for them the drain after the report of what was
        written is soon enough. Callers are woken last: they need the interpreter, which this thread still has.
        """
        try:
            session = self.session
            for command in session.commands_to_run():
                self.commands.append(command)
                self.wake_reader = True
                if isinstance(command, (CloseTransport, AdoptSuccessor)):
                    self.transport = None
                elif isinstance(command, CloseSuccessor):
                    self.successor = None
            if self.successor is not None:
                self.successor.wake()
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
        except Exception as defect:
            self.note(defect)
            raise

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
        self.writer_wakes.put(False)
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

    # --- a defect of this client -------------------------------------------------------------------------------------

    def note(self, defect: Exception) -> None:
        """In a caller's thread, where nothing more can be done: the reader will `fail`."""
        self.commands.append(Defect(defect))
        self.wakeup.set()

    def fail(self, defect: BaseException) -> None:
        """Not under the lock: end, as well as can be done without relying on anything, and log it.

        Whoever waits, or comes later, is told that a defect has ended the client; nobody is left waiting.
        """
        with contextlib.suppress(BaseException):  # the session may be what is broken
            self.call(lambda: self.session.fail(defect, now=monotonic()))
        with self.lock:
            if self.closed is None:
                self._replace_session(defect)
            self._tell_everybody()
            first, self.failed = not self.failed, True
        with contextlib.suppress(BaseException):
            self.leave()
        if first:
            _log(defect)

    def held_subscriptions(self) -> list[Subscription]:
        """Under the lock: those that somebody can still reach."""
        return [sub for held in list(self.subscriptions.values()) if (sub := held()) is not None]

    def _replace_session(self, defect: BaseException) -> None:
        """By one that has failed over the same; what the broken one holds is lost."""
        session = ended_session(self.options, defect)
        self.session = session
        self.publish_quickly = session.publish_quickly
        self.transport = None
        self.deadline = None
        error = session.last_error
        if error is None:
            error = DefectError(f"the client has failed and is closed, by a defect in it ({type(defect).__name__})")
            error.__cause__ = defect
        closed = Closed(error=error)
        with contextlib.suppress(BaseException):
            self.dispatcher.add(closed)
        self._end(closed)
        for sub in self.held_subscriptions():
            sub.end_with(self._closed_error())

    def _tell_everybody(self) -> None:
        """Nearly always it was done by events."""
        error = self._closed_error()
        for request in self.requests.values():
            request.complete(error=error)
        for flush in self.flushes.values():
            flush.complete(error=error)
        for sub in self.held_subscriptions():
            sub.notify_closed()
        complete_all(self.publishers)
        complete_all(self.enders)
        if self.started is not None:
            self.started.complete()

    def _closed_error(self) -> ConnectionClosedError:
        why = None if self.closed is None else self.closed.error
        error = ConnectionClosedError(f"the client is closed{'' if why is None else f' ({why})'}")
        error.__cause__ = why
        return error

    # --- the end -----------------------------------------------------------------------------------------------------

    def wait_closed(self, seconds: float | None = None) -> bool:
        """Until `Closed`, or for so many seconds; not under the lock. Whether it is closed."""
        waiter: Waiter[None] = Waiter()
        with self.lock:
            if self.closed is not None:
                return True
            self.enders.append(waiter)
        try:
            return waiter.wait(seconds)
        finally:
            if not waiter.done:
                with self.lock:
                    if waiter in self.enders:
                        self.enders.remove(waiter)


def ended_session(options: ConnectOptions, defect: BaseException | None) -> Session[Message]:
    """One that is closed, by a defect or by its user, and has said everything."""
    import random

    from nats_proto import Session

    session = Session(options, "nats://127.0.0.1", rng=random.SystemRandom(), message_type=Message)
    with contextlib.suppress(BaseException):  # what is broken may be broken in every session
        if defect is not None:
            session.fail(defect, now=0.0)
    with contextlib.suppress(BaseException):
        session.close(now=0.0)  # does nothing when it has failed
    with contextlib.suppress(BaseException):
        session.events_received()
        session.commands_to_run()
    return session


def _log(defect: BaseException) -> None:
    import logging

    with contextlib.suppress(Exception):  # handlers of the log are user code
        text = "the client has failed and is closed: this is a defect in it, please report it"
        logging.getLogger("nats_sync").error(text, exc_info=defect)
