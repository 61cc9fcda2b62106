"""The hub of a client: the session, the lock around it, and everybody who waits for something from it.

Theory of operation
-------------------
Any thread may come in. `Hub.lock` guards the session and everything that is registered beside it. It is held for calls
into the core and for bookkeeping, never around a socket call, a log call or user code.

    a caller's thread  ─┐                            ┌─▶ who waits, subscriptions, events: told under the lock
    the manager        ─┼─▶ lock ─▶ session ─settle──┼─▶ commands and deadline: on the manager's agenda
    the writer         ─┘                            └─▶ bytes: for whoever owns the writing side

A change of the session is always followed by the same three steps, which `Hub.call` does in a row:

1. `Hub.settle`, under the lock: what the session says is passed on.
2. `Hub.see_to_writing`, under the lock: somebody will write what the session has to send.
3. `Hub.leave`, when the lock has been released: threads that have something to do now are woken or started.

Publishing, requesting and flushing make nothing but bytes to send. They go without `Hub.settle`, since the writer
settles when it reports what was written; and what made the bytes writes them, or calls the writer (`Writer.do`). After
a chunk of messages alone there is nothing but events, and `Hub.pass_on_messages` stands for the first two steps.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Protocol, assert_never
from weakref import ref

from nats_proto import (
    AdoptSuccessor,
    AuthenticationFailed,
    Closed,
    CloseSuccessor,
    CloseTransport,
    Connected,
    ContentErrorReceived,
    Disconnected,
    FlushCompleted,
    FlushFailed,
    LameDuckMode,
    MessagesAvailable,
    PublishesDropped,
    ReconnectDelayFailed,
    Reconnected,
    Reconnecting,
    ReplyReceived,
    RequestFailed,
    ServerErrorReceived,
    ServersDiscovered,
    SessionEvent,
    SlowConsumer,
    SubscriptionClosed,
)
from nats_proto._wire.twin import ThreadAnswer, ThreadAnswers
from nats_proto.errors import ConnectionClosedError, DefectError, NATSError

from .agenda import Agenda
from .callbacks import Callbacks
from .dispatch import Dispatcher
from .publishers import Publishers
from .waiter import Waiter, complete_all
from .writing_side import NOBODY, WritingSide

if TYPE_CHECKING:
    from nats_proto import ConnectOptions, Message, Session

    from .transport import Transport

__all__ = ["Hub", "NextConnection", "Subscriber"]


class Subscriber(Protocol):
    """A subscription, as the hub knows it. All is called under the lock."""

    def notify(self) -> None:
        """There are messages, or there is a reason why not."""

    def notify_closed(self) -> None:
        """No more messages will arrive."""

    def end_with(self, error: NATSError) -> None:
        """Its session is not asked any more: it has ended."""


class NextConnection(Protocol):
    """Who makes the next connection while the one to a lame duck is up."""

    def wake(self) -> None:
        """Under the lock: the session may have something for it to write."""


class Hub:
    """Of one client; for all its threads."""

    def __init__(self, session: Session[Message], options: ConnectOptions, name: str) -> None:
        self._options = options
        # Reentrant, because a signal handler may call the client while its own thread has the lock.
        self.lock = threading.RLock()
        self.session = session
        self.agenda = Agenda()
        """What the manager has to do."""
        self.writing = WritingSide(session, self.lock)
        self.callbacks = Callbacks(name)
        """The threads that call the callbacks of subscriptions."""
        self.dispatcher = Dispatcher(self.lock, options.on_event, inbox_prefix=options.inbox_prefix)
        """Who logs the events, and calls ``on_event``."""
        self.transport: Transport | None = None
        """The current connection's. Set by the manager, under the lock, as it tells the session that there is one;
        None as soon as the session has given it up."""
        self.successor: NextConnection | None = None
        """Set by the manager, under the lock, when it begins; None as soon as the session has given it up."""
        self.requests: dict[int, ThreadAnswer] = {}
        """Who waits for the answer to which request, by its token."""
        self.answers = ThreadAnswers(threading.Lock)
        """Those that are given, and whose threads are still to be woken by whoever has read them."""
        self.flushes: dict[int, Waiter[None]] = {}
        self.publishers = Publishers()
        """Who waits for room in the outgoing buffer."""
        self.subscriptions: dict[int, ref[Subscriber]] = {}
        """Those that have not ended, by sid. Whoever reads one holds it."""
        self.held: dict[int, Subscriber] = {}
        """Those of them with a callback, which nobody else needs to hold."""
        self._starters: list[Waiter[None]] = []
        """Who waits for the end of the first connect."""
        self.enders: list[Waiter[None]] = []
        """Who waits for `Closed`."""
        self.refusals: list[Callable[[], None]] = []
        """Called under the lock when a server has said ``-ERR``: by it a subscription may be refused."""
        self.closed: Closed | None = None
        self._failed = False
        """A defect was met, and logged."""

    # --- what follows a change of the session ------------------------------------------------------------------------

    def call(self, mutation: Callable[[], object]) -> None:
        """One change of the session and all that follows. Raises what it raises."""
        try:
            with self.lock:
                mutation()
                self.settle()
                self.see_to_writing()
        finally:
            # Also after an exception: `settle` may have put commands on the agenda before it raised.
            self.leave()

    def settle(self) -> None:
        """Under the lock, after a change of the session: pass on what it says.

        Events come last. They wake threads that need the interpreter, which this thread still has.
        """
        try:
            session = self.session
            agenda = self.agenda
            for command in session.commands_to_run():
                agenda.add(command)
                # At once, although the manager closes the socket only later: what still arrives there is no longer for
                # the session, and nothing more is taken to be sent there.
                if isinstance(command, (CloseTransport, AdoptSuccessor)):
                    self.transport = None
                elif isinstance(command, CloseSuccessor):
                    self.successor = None
            if self.successor is not None:
                self.successor.wake()
            deadline, before = session.next_timeout(), agenda.deadline
            agenda.deadline = deadline
            # A later one urges nobody: who wakes at the earlier one looks at the time, and sleeps again.
            if deadline is not None and (before is None or deadline < before):
                agenda.urgent = True
            if self.publishers.waiting:
                self.call_publishers()
            self._pass_on_events()
            # After the events: who waits for the first connect looks at `closed`, which the event of its failure sets.
            if self._starters and not session.starting:
                complete_all(self._starters)
        except Exception as defect:
            self.agenda.report(defect)
            raise

    def pass_on_messages(self) -> None:
        """Under the lock, in place of `settle` and `see_to_writing`: there are `only_messages`, as the session says."""
        try:
            self._pass_on_events()
        except Exception as defect:
            self.agenda.report(defect)
            raise

    def _pass_on_events(self) -> None:
        for event in self.session.events_received():
            if type(event) is ReplyReceived:
                self.complete(event)  # the one of which there may be many in a chunk
            else:
                self._route(event)
        if self.callbacks.ready:
            self.callbacks.see_to_workers()

    def see_to_writing(self) -> None:
        """Under the lock, after something was appended to the outgoing buffer: call the writer, unless somebody writes.

        Without a connection nobody can; who brings the next one calls this again.
        """
        writing = self.writing
        # Also when this thread is the owner itself, which it is in a signal handler alone that has interrupted a write:
        # the write below has perhaps looked the last time.
        if (
            not writing.called
            and (writing.owner == NOBODY or writing.owner == get_ident())
            and self.transport is not None
        ):
            writing.call()

    def see_to_writing_soon(self) -> None:
        """Under the lock, in place of `see_to_writing`, for what somebody else will most likely write in a moment.

        Where that happens often, the writer's thread is not called for it, but looks by itself (`WritingSide.watched`).
        """
        writing = self.writing
        if writing.watched:
            writing.promised = True
        else:
            self.see_to_writing()
            writing.promised = writing.called

    def interrupted_here(self) -> bool:
        """Not under the lock: whether this thread is in the midst of another call, which a signal handler interrupts.

        Others cannot go on before that call does, and it cannot go on before the handler returns. So a handler that
        waits for them here would wait for itself.
        """
        if self.writing.owner == get_ident():
            return True
        try:
            threading.Condition(self.lock).notify()  # nobody waits for it: it is asked whose the lock is
        except RuntimeError:  # not this thread's
            return False
        return True

    def leave(self) -> None:
        """When the lock has been released after `settle`: what was found to be done without it."""
        if self.agenda.urgent:
            self.agenda.wake()
        if self.callbacks.wanted:
            self.callbacks.start_threads(self)
        if self.callbacks.calls_watcher:
            self.callbacks.call_watcher()

    def call_publishers(self) -> None:
        """Under the lock: those who may publish now, if there is room."""
        if self.session.writable:
            if self.transport is None:
                self.publishers.call_all()
            else:
                self.publishers.call()

    def _route(self, event: SessionEvent) -> None:
        match event:
            case MessagesAvailable(sids=sids):
                for sid in sids:
                    sub = self.held.get(sid)
                    if sub is None:
                        # A subscription that nobody could reach is gone already: its finalizer has asked the manager to
                        # end it.
                        held = self.subscriptions.get(sid)
                        sub = None if held is None else held()
                    if sub is not None:
                        sub.notify()
            case SubscriptionClosed(sid=sid):
                held = self.subscriptions.pop(sid, None)
                sub = None if held is None else held()
                # After the look above: this may be the last reference, and `notify_closed` has to give workers back.
                self.held.pop(sid, None)
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
            case ServerErrorReceived():
                self.dispatcher.add(event)
                for look in self.refusals:
                    look()
            case Closed():
                self.dispatcher.add(event)
                self._end(event)
            case (
                Connected()
                | Disconnected()
                | Reconnecting()
                | Reconnected()
                | ServersDiscovered()
                | LameDuckMode()
                | SlowConsumer()
                | ContentErrorReceived()
                | AuthenticationFailed()
                | PublishesDropped()
                | ReconnectDelayFailed()
            ):
                self.dispatcher.add(event)
            case _:
                assert_never(event)

    def complete(self, completion: ReplyReceived | RequestFailed) -> None:
        """Under the lock: the end of a request. Who has read an answer sees to it that its thread is woken."""
        answer = self.requests.pop(completion.token, None)
        if answer is None:
            return
        if type(completion) is ReplyReceived:
            answer.line_up(completion.message)
        elif isinstance(completion, RequestFailed):
            answer.give(error=completion.error)

    def _end(self, closed: Closed) -> None:
        self.closed = closed
        self.agenda.urgent = True
        self.writing.end()
        complete_all(self.enders)
        self.callbacks.stop()

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def add_subscription(self, sid: int, sub: Subscriber, *, hold: bool) -> None:
        """Under the lock. Without ``hold`` it ends when its user lets it go."""
        self.subscriptions[sid] = ref(sub)
        if hold:
            self.held[sid] = sub

    def end_abandoned(self) -> None:
        """By the manager, not under the lock: unsubscribe what nobody can reach any more."""

        def unsubscribe() -> None:
            abandoned = self.agenda.abandoned
            while abandoned:
                self.session.unsubscribe(abandoned.popleft())
            self.session.subscription_progress(now=monotonic())

        self.call(unsubscribe)

    def reachable_subscriptions(self) -> list[Subscriber]:
        """Under the lock: those that somebody can still reach."""
        return [sub for held in list(self.subscriptions.values()) if (sub := held()) is not None]

    # --- who waits ---------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin the first connect, and wait until it is over, well or not; not under the lock."""
        waiter: Waiter[None] = Waiter()

        def start() -> None:
            if self.closed is None:  # else a thread has failed already
                self._starters.append(waiter)
                self.session.connect(now=monotonic())

        self.call(start)
        if self.closed is None:
            waiter.wait(None)

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

    # --- the end by a defect of this client --------------------------------------------------------------------------

    def fail(self, defect: BaseException) -> None:
        """Not under the lock: end, as well as can be done without relying on anything, and log it.

        Whoever waits, or comes later, is told that a defect has ended the client; nobody is left waiting.
        """
        with contextlib.suppress(BaseException):  # the session may be what is broken
            self.call(lambda: self.session.fail(defect, now=monotonic()))
        with self.lock:
            # If the session did not even reach its own end, nothing in it can be relied on.
            if self.closed is None:
                self._replace_session(defect)
            self._tell_everybody()
            # One defect may end several threads. One report of it is enough.
            first, self._failed = not self._failed, True
        with contextlib.suppress(BaseException):
            self.leave()
        if first:
            _log(defect)

    def _replace_session(self, defect: BaseException) -> None:
        """By one that has failed over the same; what the broken one holds is lost."""
        import random

        from nats_proto import Message, ended_session

        session = ended_session(self._options, rng=random.SystemRandom(), message_type=Message, defect=defect)
        self.session = session
        self.writing.serve(session, self.lock)
        self.transport = None
        self.agenda.deadline = None
        error = session.last_error
        if error is None:
            error = DefectError(f"the client has failed and is closed, by a defect in it ({type(defect).__name__})")
            error.__cause__ = defect
        closed = Closed(error=error)
        with contextlib.suppress(BaseException):
            self.dispatcher.add(closed)
        self._end(closed)
        for sub in self.reachable_subscriptions():
            sub.end_with(self._closed_error())

    def _tell_everybody(self) -> None:
        """Nearly always it was done by events."""
        error = self._closed_error()
        for request in self.requests.values():
            request.give(error=error)
        for flush in self.flushes.values():
            flush.complete(error=error)
        for sub in self.reachable_subscriptions():
            sub.notify_closed()
        self.publishers.call_all()
        complete_all(self.enders)
        complete_all(self._starters)

    def _closed_error(self) -> ConnectionClosedError:
        why = None if self.closed is None else self.closed.error
        error = ConnectionClosedError(f"the client is closed{'' if why is None else f' ({why})'}")
        error.__cause__ = why
        return error


def _log(defect: BaseException) -> None:
    import logging

    with contextlib.suppress(Exception):  # handlers of the log are user code
        text = "the client has failed and is closed: this is a defect in it, please report it"
        logging.getLogger("nats_sync").error(text, exc_info=defect)
