"""The hub of one client: the session, everybody who waits for something, and what follows each change of the session.

Theory of operation
-------------------
Whoever changes the session calls `Hub.settle` right after. Who has only added bytes to be written wakes the writer
instead.

    settle:  events ───▶ whoever waits for them, or the dispatcher
             commands ─▶ the manager of the connection
             data ─────▶ the writer, when its task is idle
             deadline ─▶ the timer
             room ─────▶ the publisher that has waited longest

Tasks (`Tasks`) run the manager, the writer, the timer, the dispatcher, and some for all callbacks. They come
to an end in this order, and each step has its event: `Hub.opened`, `Hub.ended`, `Hub.stopped`, `Hub.gone`.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, NoReturn, Protocol
from weakref import ref

import anyio
from anyio import CancelScope

from nats_proto import (
    Closed,
    CloseTransport,
    ConnectOptions,
    FlushCompleted,
    FlushFailed,
    LifecycleEvent,
    MessagesAvailable,
    ReplyReceived,
    RequestFailed,
    ServerErrorReceived,
    Session,
    SessionEvent,
    SessionStatus,
    SubscriptionClosed,
    SubscriptionState,
    ended_session,
)
from nats_proto.errors import ConnectionClosedError, DefectError, LocalProtocolError, NATSError

from .answers import AnyAnswer, maker_of_answers
from .callbacks import Workers
from .dispatch import Dispatcher
from .event_loop import EventLoop
from .limits import CLOSE_LIMIT
from .log import Log
from .manager import Manager
from .message_type import MessageT
from .publishers import Publishers
from .tasks import Tasks
from .timer import Timer

__all__ = ["Hub"]

logger = logging.getLogger("nats_anyio")

END_LIMIT: Final = 1.0
"""Seconds that `Hub.wait_ended` gives an ``on_event`` to take its last events."""


class Listener(Protocol):
    """A subscription, as the hub knows it."""

    def wake(self) -> None:
        """There are messages, or there will be none."""

    def end_with(self, error: NATSError) -> None:
        """Its session is not asked any more."""


class Hub(Generic[MessageT]):
    """Runs one session; to be made in the event loop. ``message_type``: the session's."""

    def __init__(
        self,
        session: Session[MessageT],
        *,
        message_type: type[MessageT],
        on_event: Callable[[LifecycleEvent], object] | None,
        inbox_prefix: str,
    ) -> None:
        self.session = session
        self._message_type = message_type
        loop = self.loop = EventLoop()
        self.now = loop.now
        """The time, in seconds of the event loop."""
        log = self._log = Log(inbox_prefix=inbox_prefix)
        self.dispatcher = Dispatcher(on_event, log)
        self.manager = Manager(
            session, loop, settle=self.settle, received=self.received, written=self._written, fail=self.fail
        )
        self.writer = self.manager.writer
        self.requests: dict[int, AnyAnswer] = {}
        self.flushes: dict[int, AnyAnswer] = {}
        """Who waits for an answer, by the session's tokens."""
        self.timer = Timer(loop, self.requests, self._time_is_up)
        self.publishers = Publishers(self._may_publish)
        self.tasks = Tasks(loop, self.fail)
        self.workers: Workers[MessageT] = Workers(loop, self.tasks, log)

        self._called_in_task = not loop.is_asyncio
        """`received` is called in the task that reads. On asyncio the loop calls it, mostly."""
        self.user_tasks: set[int] = set()
        """Those of crews, which run user code."""
        self.new_answer = maker_of_answers(loop)
        self.subscriptions: dict[int, ref[Listener]] = {}
        """Those that have not ended. Whoever reads one holds it; if it has a callback, `workers` have it, not this."""
        self.abandoned: deque[SubscriptionState[MessageT]] = deque()
        """To be unsubscribed by the next `settle`. Finalizers add to it: they may run in the middle of anything."""

        self._starting = True
        """`opened` is not set; to look here costs less than to ask the event."""
        self.opened = anyio.Event()
        """The first connect is over (`Session.starting`)."""
        self.closed: Closed | None = None
        """The last event of the session."""
        self.ended = anyio.Event()
        """`closed` is set, and the last connection is gone."""
        self.refusals: list[Callable[[], None]] = []
        """Called when a server has said ``-ERR``: by it a subscription may be refused."""
        self.stopped = anyio.Event()
        """No task below the root is left."""
        self.gone = anyio.Event()
        """For a client that stands alone: nor is the root."""
        self.failed: ConnectionClosedError | None = None
        """What everybody is told who waits at an end that nobody asked for: a defect, tasks cancelled, a fork."""
        self._forked = False

    # --- who may call ------------------------------------------------------------------------------------------------

    def check_caller(self) -> None:
        """Raises `LocalProtocolError` for a caller in another event loop, `ConnectionClosedError` in a forked child."""
        if self.loop.running() is not self.loop.home:
            self._refuse_caller()

    def _refuse_caller(self) -> NoReturn:
        if self._forked and self.failed is not None:
            raise self.failed.with_traceback(None)
        over = " That one has ended, and the client with it." if self.stopped.is_set() else ""
        raise LocalProtocolError(
            f"this client belongs to another event loop.{over} Connect another client in this one; or call from "
            "there, as anyio.from_thread.run and asyncio.run_coroutine_threadsafe do for other threads"
        )

    @property
    def over(self) -> bool:
        """Nothing of it is left, or nothing of it is in this process: there is nothing to be ended."""
        return self._forked or self.stopped.is_set()

    def is_handler(self) -> bool:
        """Whether the calling task is one that a drain waits for: it runs callbacks, or belongs to a crew."""
        task = anyio.get_current_task().id
        return self.workers.is_worker(task) or task in self.user_tasks

    def is_own_task(self) -> bool:
        """Whether the calling task is one that runs callbacks or ``on_event``, or belongs to a crew."""
        return self.is_handler() or anyio.get_current_task().id == self.dispatcher.task_id

    def log_failure(self, text: str, error: Exception) -> None:
        """Log what user code raised; ``text`` says where."""
        self._log.failure(text, error)

    # --- after a change of the session -------------------------------------------------------------------------------

    def settle(self) -> None:
        """What follows a call of the session that may have changed more than what is to be written.

        Raises nothing: whoever has called is not who is to blame for a defect.
        """
        try:
            self._settle()
        except Exception as error:
            self.fail(error)

    def _settle(self) -> None:
        session = self.session
        manager = self.manager
        if self.abandoned:
            self._end_abandoned()
        for event in session.events_received():
            self._route(event)
        if self._starting and not session.starting:
            self._starting = False
            self.opened.set()
        for command in session.commands_to_run():
            manager.run_command(command)
        # After the commands: one that gives up the connection closes the writer, and what is taken from the session
        # from then on has to be for the next connection.
        if self.writer.idle is not None:
            self.writer.give(session.data_to_send())
        if manager.successor is not None:
            manager.successor.wake()
        self.timer.set_session(session.next_timeout())
        if self.publishers.waiting:
            self.publishers.wake_next()

    def received(self) -> None:
        """What follows when the session was given bytes from the connection; `settle`, but for what cannot be."""
        if not self.session.only_messages or self.abandoned:
            self.settle()
            return
        workers = self.workers
        workers.held = self._called_in_task
        try:
            requests = self.requests
            for event in self.session.events_received():
                # The one of which there may be many in a chunk.
                if type(event) is ReplyReceived:
                    answer = requests.pop(event.token, None)
                    if answer is not None:
                        answer.give(event.message)
                else:
                    self._route(event)
            if workers.held:
                workers.held = False
                workers.call_in_place()
        except Exception as error:
            workers.held = False
            self.fail(error)

    def _end_abandoned(self) -> None:
        while self.abandoned:
            self.session.unsubscribe(self.abandoned.popleft())
        self.session.subscription_progress(now=self.now())

    def _written(self) -> None:
        # After each write, so it does no more than it has to. What was written has made room for publishers. And two
        # wait until the last byte is written: a client that is closed, and the successor of a lame duck's connection.
        if self.session.only_written and not self.publishers.waiting:
            return  # nearly always
        closing = self.session.status is SessionStatus.CLOSED
        if closing or self.publishers.waiting or self.manager.successor is not None:
            self.settle()

    def _time_is_up(self, now: float) -> None:
        self.session.handle_timeout(now=now)
        self.settle()

    def _route(self, event: SessionEvent) -> None:
        """Give an event to whoever waits for it, and all the events of the client's life to the dispatcher."""
        match event:
            case ReplyReceived(token=token, message=message):
                answer = self.requests.pop(token, None)
                if answer is not None:
                    answer.give(message)
            case MessagesAvailable(sids=sids):
                for sid in self.workers.arrived(sids):
                    self._wake(self.subscriptions.get(sid))
            case SubscriptionClosed(sid=sid):
                self.workers.closed(sid)
                self._wake(self.subscriptions.pop(sid, None))
            case RequestFailed(token=token, error=error):
                answer = self.requests.pop(token, None)
                if answer is not None:
                    answer.give(error=error)
            case FlushCompleted(token=token):
                answer = self.flushes.pop(token, None)
                if answer is not None:
                    answer.give()
            case FlushFailed(token=token, error=error):
                answer = self.flushes.pop(token, None)
                if answer is not None:
                    answer.give(error=error)
            case ServerErrorReceived():
                self.dispatcher.add(event)
                for look in self.refusals:
                    look()
            case Closed():
                self._close(event)
            case _:
                self.dispatcher.add(event)  # which takes no others, so a type checker finds an event that is not above

    def _wake(self, held: ref[Listener] | None) -> None:
        sub = None if held is None else held()
        if sub is not None:
            sub.wake()

    def _close(self, closed: Closed) -> None:
        self.closed = closed
        self.manager.finish()
        self.timer.stop()
        self.workers.finish()
        self.dispatcher.add(closed)

    # --- who waits ---------------------------------------------------------------------------------------------------

    async def wait_writable(self) -> None:
        """Return when a publish need not wait any more: there is room, or no connection, or an error to be raised."""
        await self.publishers.wait()
        if self.failed is not None:
            raise self.failed

    def _may_publish(self) -> bool:
        return self.session.writable or self.session.status is SessionStatus.CLOSED or self.failed is not None

    async def end(self) -> None:
        """Close the session and wait for its end, also when this is cancelled. Callbacks may still run then."""
        now = self.now()
        try:
            self.session.close(now=now)
        except Exception as defect:
            self.fail(defect)
        self.settle()
        with CancelScope(shield=True, deadline=now + CLOSE_LIMIT):
            await self.wait_ended()

    async def wait_ended(self) -> None:
        """Until the end is complete: the connection is gone, and ``on_event`` had its time to take the last event."""
        await self.ended.wait()
        # An ``on_event`` that closes its client would wait for its own return.
        if anyio.get_current_task().id != self.dispatcher.task_id:
            with anyio.move_on_after(END_LIMIT):
                await self.dispatcher.finished.wait()

    def add_subscription(self, sid: int, sub: Listener) -> None:
        """A new subscription, which is told of its messages from now on, for as long as somebody holds it."""
        self.subscriptions[sid] = ref(sub)

    def _held_subscriptions(self) -> list[Listener]:
        """Those that somebody can still reach, and those that have a callback."""
        held = [sub for each in list(self.subscriptions.values()) if (sub := each()) is not None]
        return [*held, *self.workers.served()]

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The root task: returns when the client has ended and its callbacks have returned, or when stopped."""
        try:
            await self.tasks.run(
                {
                    "nats connection": self._keep_connection,
                    "nats timer": self.timer.run,
                    "nats events": self._dispatch,
                }
            )
        finally:
            if self.closed is None:
                self._end_without_tasks()
            self.ended.set()
            self.dispatcher.finished.set()
            self.stopped.set()

    async def _keep_connection(self) -> None:
        try:
            await self.manager.run()
        finally:
            self.ended.set()

    async def _dispatch(self) -> None:
        try:
            await self.dispatcher.run()
        except anyio.get_cancelled_exc_class():
            if not self.tasks.is_replaced("on_event"):
                raise
            self.tasks.start(self._dispatch, name="nats events")

    # --- ends that nobody asked for ----------------------------------------------------------------------------------

    def fail(self, defect: BaseException) -> None:
        """End as well as can be done without relying on anything: nobody must be left waiting."""
        if self.failed is not None:
            return  # everybody was told of the first; the next ones follow from it
        logger.error("a task of the client failed, the client is closed: this is a defect in it", exc_info=defect)
        if self.closed is not None:
            return
        error = DefectError(f"the client has failed, by a defect in it ({type(defect).__name__}: {defect})")
        error.__cause__ = defect
        self.failed = ConnectionClosedError(f"the client is closed: {error}")
        self.failed.__cause__ = error
        try:
            self.session.fail(defect, now=self.now())
            self._settle()
        except Exception:
            logger.exception("closing it failed as well")
            with contextlib.suppress(Exception):
                self._replace_session(defect)
            if self.closed is None:
                self._close(Closed(error=error))
            self.manager.run_command(CloseTransport())
        self._tell_all(self.failed)

    def _end_without_tasks(self) -> None:
        """The root was cancelled: by a defect of whoever did it, or at the end of the event loop."""
        failed = self.failed = ConnectionClosedError(
            "the client is closed: its tasks were cancelled, as at the end of the event loop"
        )
        with contextlib.suppress(Exception):
            self.session.close(now=self.now())
            self._settle()
        if self.closed is None:
            self._close(Closed(error=failed))
        self._tell_all(failed)

    def forget_parent(self) -> None:
        """In a forked child: no task runs here, and the connection and what the loop waits for are the parent's."""
        self._forked = True
        self.loop.forget()
        self.manager.close_copies()
        self.failed = ConnectionClosedError(
            "the client belongs to the process that made it, and this one was forked from it"
        )
        for sub in self._held_subscriptions():
            sub.end_with(self.failed)
        self.subscriptions = {}
        self.closed = Closed(error=None)
        self._replace_session(None)

    def _replace_session(self, defect: BaseException | None) -> None:
        """Put one that has ended in the place of one that is not to be called any more."""
        self.session = ended_session(
            ConnectOptions(), rng=random.SystemRandom(), message_type=self._message_type, defect=defect
        )
        self.writer.replace_session(self.session)

    def _tell_all(self, failed: ConnectionClosedError) -> None:
        for answer in (*self.requests.values(), *self.flushes.values()):
            answer.give(error=failed)
        for sub in self._held_subscriptions():
            sub.wake()
        self.publishers.wake_next()
        self.opened.set()
