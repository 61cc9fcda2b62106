"""The one place between a session and the outside world: one mutation, then drain events, commands, data, deadline.

Theory of operation
-------------------
A root task owns all others: one keeps the link (waits, dials, reads), one writes as long as there is a connection, one
keeps time, one calls ``on_event``, one for each callback. Whoever changes the session calls `settle` right after; what
can only have added something to write wakes the transport's writer.

    settle:  events ──▶ wake who waits, or to the dispatcher
             commands ─▶ the transport
             data ─────▶ the transport's writer, when it is idle
             deadline ─▶ the timer, when it is earlier than what it is set to
             room ─────▶ the publisher that has waited longest

The root is shielded: cancelling the block around the client reaches the tasks only through `stop`, after the client was
closed in order.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, NoReturn
from weakref import ref

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from nats_proto import (
    Closed,
    CloseTransport,
    ConnectOptions,
    FlushCompleted,
    FlushFailed,
    HeadersLike,
    MessagesAvailable,
    ReplyReceived,
    RequestFailed,
    Session,
    SessionEvent,
    SessionStatus,
    SubscriptionClosed,
    SubscriptionState,
    accelerated,
    ended_session,
)
from nats_proto.errors import ConnectionClosedError, DefectError, LocalProtocolError, NATSError

from .._message import Message
from .dispatch import Dispatcher
from .event_loop import EventLoop, Wait
from .interrupt import Interrupt, interruptible, the_one
from .manager import Manager

if TYPE_CHECKING:
    from .._subscription import Subscription
    from .handling import Handling

__all__ = ["Answer", "Hub"]

logger = logging.getLogger("nats_anyio")

QuickPublish = Callable[[str, bytes | bytearray | memoryview, str | None, HeadersLike | None], bool]

LOOK_THROUGH: Final = 1024
"""Deadlines kept, beside twice those still waited for, before the ones that came to nothing are thrown out."""
END_LIMIT: Final = 1.0
"""Seconds that `wait_ended` gives an ``on_event`` to take its last events."""


class Answer:
    """Somebody waits for the answer to one request or flush: one wake-up."""

    __slots__ = ("arrived", "error", "given", "message", "over")

    def __init__(self) -> None:
        self.arrived: Wait | None = None
        self.message: Message | None = None
        self.error: NATSError | None = None
        self.given = False
        self.over = False
        """Nobody waits any more."""

    def take(self) -> tuple[Message | None, NATSError | None]:
        """What was given, which is not kept: what waits for the deadline holds this object until then."""
        taken = self.message, self.error
        self.message = self.error = self.arrived = None
        return taken

    def give(self, message: Message | None = None, error: NATSError | None = None) -> None:
        """Wake who waits."""
        self.given = True
        self.message = message
        self.error = error
        self.wake()

    def wake(self) -> None:
        """With or without an answer."""
        if self.arrived is not None:
            self.arrived.set()


class Hub:
    """Runs one session."""

    def __init__(self, session: Session[Message], dispatcher: Dispatcher) -> None:
        self.session = session
        self.publish_quickly = self._quick(session)
        """What `Session.publish_quickly` does; harmless when it is called by a thread that must not."""
        self.session_changed: Callable[[], None] = lambda: None
        """Called when they are others, which happens once at most."""
        self.dispatcher = dispatcher
        self.subscriptions: dict[int, ref[Subscription]] = {}
        """Those that have not ended. Whoever reads one holds it; if it has a callback, the task that calls it does."""
        self.abandoned: deque[SubscriptionState[Message]] = deque()
        """To be unsubscribed by the next `settle`. Finalizers add to it: they may run in the middle of anything."""
        self.requests: dict[int, Answer] = {}
        self.flushes: dict[int, Answer] = {}
        self.handler_tasks: set[int] = set()
        """Ids of the tasks that run callbacks."""
        self.opened = anyio.Event()
        """The first connect is over (`Session.starting`)."""
        self._starting = True
        """It was not over when the session was looked at last: cheaper to ask than the event."""
        self.closed: Closed | None = None
        self.failed: ConnectionClosedError | None = None
        """What everybody is told who waits at the end that nobody asked for: a defect, tasks cancelled, a fork."""
        self._forked = False
        self.ended = anyio.Event()
        """`closed` is set and the last transport is gone."""
        self.stopped = anyio.Event()
        """No task below the root is left."""
        self.gone = anyio.Event()
        """For a client that stands alone: nor is the root."""
        loop = self.loop = EventLoop()
        self._new_wait = loop.new_wait
        self.now = loop.now
        """The time, in seconds of the event loop."""
        self.manager = Manager(session, loop, settle=self.settle, written=self._written, fail=self.fail_by_defect)
        self._deadlines: list[tuple[float, int, Answer]] = []
        """When to give up which answer: a heap. A scope with a deadline for each would cost a tenth of a request."""
        self._deadlines_made = 0
        self._look_through_at = LOOK_THROUGH
        self._timer: CancelScope | None = None
        self._timer_at = float("inf")
        self._publishers: deque[anyio.Event] = deque()
        self._next_publisher: anyio.Event | None = None
        self._tasks: TaskGroup | None = None
        self._stopping = False
        self._cancelled_from_outside: Callable[[], bool] = lambda: False
        _alive.add(self)

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
        """Nothing of it is left, or nothing of it is here: whatever else ends it has nothing to do."""
        return self._forked or self.stopped.is_set()

    def is_own_task(self) -> bool:
        """Whether the calling task is one that runs callbacks or ``on_event``."""
        task = anyio.get_current_task().id
        return task in self.handler_tasks or task == self.dispatcher.task_id

    def forget_parent(self) -> None:
        """In a forked child: no task runs here, and the connection and what the loop waits for are the parent's."""
        self._forked = True
        self.loop.forget()
        self.manager.forget_parent()
        self.failed = ConnectionClosedError(
            "the client belongs to the process that made it, and this one was forked from it"
        )
        for sub in self.held_subscriptions():
            sub.end_with(self.failed)
        self.subscriptions = {}
        self.closed = Closed(error=None)
        self._end_session(None)

    def held_subscriptions(self) -> list[Subscription]:
        """Those that somebody can still reach."""
        return [sub for held in list(self.subscriptions.values()) if (sub := held()) is not None]

    def _end_session(self, defect: BaseException | None) -> None:
        """Put one that has ended in the place of one that is not to be called any more."""
        ended = self.session = ended_session(
            ConnectOptions(), rng=random.SystemRandom(), message_type=Message, defect=defect
        )
        self.publish_quickly = ended.publish_quickly
        self.session_changed()

    def _quick(self, session: Session[Message]) -> QuickPublish:
        quick = session.publish_quickly
        if accelerated:
            return quick

        def carefully(
            subject: str, data: bytes | bytearray | memoryview, reply: str | None, headers: HeadersLike | None
        ) -> bool:
            return self.loop.running() is self.loop.home and quick(subject, data, reply, headers)

        return carefully

    # --- after a mutation --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Drain the session. After every call into it that may have changed more than what is to be written.

        Raises nothing: whoever has called is not who is to blame for a defect.
        """
        try:
            self._drain_session()
        except Exception as error:
            self.fail_by_defect(error)

    def _drain_session(self) -> None:
        session = self.session
        if self.abandoned:
            self._end_abandoned()
        for event in session.events_received():
            self._route(event)
        if self._starting and not session.starting:
            self._starting = False
            self.opened.set()
        for command in session.commands_to_run():
            self.manager.run_command(command)
        if self.manager.idle_writer is not None:
            self.manager.give(session.data_to_send())
        if self.manager.successor is not None:
            self.manager.successor.wake()
        self._set_timer()
        if self._publishers:
            self._let_publish()

    def _end_abandoned(self) -> None:
        while self.abandoned:
            self.session.unsubscribe(self.abandoned.popleft())
        self.session.subscription_progress(now=self.now())

    def _written(self) -> None:
        # Bytes that left make room, and let go on what waits for the last of them: an end, or the successor of a lame
        # duck's connection. They change nothing else.
        if self._publishers or self.session.status is SessionStatus.CLOSED or self.manager.successor is not None:
            self.settle()

    def _route(self, event: SessionEvent) -> None:
        match event:
            case MessagesAvailable(sid=sid):
                held = self.subscriptions.get(sid)
                sub = None if held is None else held()
                if sub is not None:
                    sub.wake()
            case ReplyReceived(token=token, message=message):
                answer = self.requests.pop(token, None)
                if answer is not None and isinstance(message, Message):
                    answer.give(message)
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
            case SubscriptionClosed(sid=sid):
                held = self.subscriptions.pop(sid, None)
                sub = None if held is None else held()
                if sub is not None:
                    sub.wake()
            case _:
                if isinstance(event, Closed):
                    self.closed = event
                    self.manager.finish()
                self.dispatcher.add(event)

    # --- who waits for room in the outgoing buffer -------------------------------------------------------------------

    async def wait_writable(self) -> None:
        """Return when a publish need not wait any more: there is room, or no connection, or an error to be raised.

        First come, first served. A cancelled wait passes its turn on.
        """
        waiter = anyio.Event()
        self._publishers.append(waiter)
        while True:
            try:
                await waiter.wait()
            except BaseException:
                if waiter is self._next_publisher:
                    self._next_publisher = None
                    self._let_publish()
                else:
                    self._publishers.remove(waiter)
                raise
            self._next_publisher = None
            if self._may_publish():
                self._let_publish()  # the next one looks after this one has published
                if self.failed is not None:
                    raise self.failed
                return
            waiter = anyio.Event()
            self._publishers.appendleft(waiter)

    def _may_publish(self) -> bool:
        return self.session.writable or self.session.status is SessionStatus.CLOSED or self.failed is not None

    def _let_publish(self) -> None:
        if self._publishers and self._next_publisher is None and self._may_publish():
            self._next_publisher = self._publishers.popleft()
            self._next_publisher.set()

    # --- who waits for an answer -------------------------------------------------------------------------------------

    async def wait_for(self, answer: Answer, deadline: float) -> None:
        """Return when the answer is there, or at ``deadline`` (absolute) without."""
        if answer.given:
            return
        arrived = answer.arrived = self._new_wait()
        self._deadlines_made += 1
        heappush(self._deadlines, (deadline, self._deadlines_made, answer))
        if len(self._deadlines) >= self._look_through_at:
            self._deadlines = [each for each in self._deadlines if not each[2].over]
            heapify(self._deadlines)
            self._look_through_at = 2 * len(self._deadlines) + LOOK_THROUGH
        if deadline < self._timer_at:
            self._set_timer()
        try:
            await arrived.wait()
        finally:
            answer.over = True

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The root: returns when the client has ended and its callbacks have returned, or when stopped."""
        self._cancelled_from_outside = self.loop.cancelled_from_outside()
        try:
            with CancelScope(shield=True):
                async with anyio.create_task_group() as self._tasks:
                    if self._stopping:
                        self._tasks.cancel_scope.cancel()
                    for task in (self._keep_transport, self._keep_time, self._dispatch):
                        self._start(task)
        except anyio.get_cancelled_exc_class():
            # On asyncio anybody can cancel it, shielded or not. A task that ends so would take its group with it, and
            # so the block that holds the client; its code learns of the end by the errors that it gets.
            if not self.loop.is_asyncio:
                raise
        finally:
            if self.closed is None:
                self._fail_without_tasks()
            self.ended.set()
            self.dispatcher.finished.set()
            self.stopped.set()

    def stop(self) -> None:
        """Cancel whatever still runs."""
        self._stopping = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    async def wait_ended(self) -> None:
        """Until the end is complete: the transport is gone, and ``on_event`` had its time to take the last event."""
        await self.ended.wait()
        if anyio.get_current_task().id != self.dispatcher.task_id:
            with anyio.move_on_after(END_LIMIT):
                await self.dispatcher.finished.wait()

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self._tasks is not None  # `run` has begun
        self._tasks.start_soon(self._guard, task, name=f"nats {task.__name__.strip('_')}")

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await interruptible(task())
        except Exception as error:
            failed = the_one(error)
            if isinstance(failed, Interrupt):
                raise failed from None
            self.fail_by_defect(failed)

    def fail_by_defect(self, defect: BaseException) -> None:
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
            self._drain_session()
        except Exception:
            logger.exception("closing it failed as well")
            with contextlib.suppress(Exception):
                self._end_session(defect)
            if self.closed is None:
                self._route(Closed(error=error))
            self.manager.run_command(CloseTransport())
            self._set_timer()
        self._tell_all(self.failed)

    def _fail_without_tasks(self) -> None:
        """The root was cancelled: by a defect of whoever did it, or at the end of the event loop."""
        failed = self.failed = ConnectionClosedError(
            "the client is closed: its tasks were cancelled, as at the end of the event loop"
        )
        with contextlib.suppress(Exception):
            self.session.close(now=self.now())
            self._drain_session()
        if self.closed is None:
            self._route(Closed(error=failed))
        self._tell_all(failed)

    def _tell_all(self, failed: ConnectionClosedError) -> None:
        for answer in (*self.requests.values(), *self.flushes.values()):
            answer.give(error=failed)
        for sub in self.held_subscriptions():
            sub.wake()
        self._let_publish()
        self.opened.set()

    async def _keep_transport(self) -> None:
        try:
            await self.manager.run()
        finally:
            self.ended.set()

    # --- tasks that run user code ------------------------------------------------------------------------------------

    def serve(self, sub: Subscription, handling: Handling) -> None:
        """Run what calls a callback beside the other tasks: one worker, or one that starts some when needed."""
        assert self._tasks is not None  # there is no subscription before the root runs
        if handling.concurrency == 1:
            self.start_worker(sub, handling, stays=True)
        else:
            calling = partial(sub.call_workers, handling)
            self._tasks.start_soon(self._guard, calling, name=f"nats callbacks {sub.sid}")

    def start_worker(self, sub: Subscription, handling: Handling, *, stays: bool) -> None:
        """A task that calls a callback: until the subscription ends, or while there is work."""
        assert self._tasks is not None  # a task of the root has come here
        handling.workers += 1
        self._tasks.start_soon(self._serve, sub, handling, stays, name=f"nats callback {sub.sid}")

    async def _serve(self, sub: Subscription, handling: Handling, stays: bool) -> None:
        task = anyio.get_current_task().id
        handling.tasks.add(task)
        self.handler_tasks.add(task)
        try:
            await interruptible(self.dispatcher.serve(sub, handling, stays=stays))
        except anyio.get_cancelled_exc_class():
            if not self._has_successor("a callback"):
                raise
            self.start_worker(sub, handling, stays=stays)
        finally:
            handling.workers -= 1
            handling.tasks.discard(task)
            self.handler_tasks.discard(task)

    async def _dispatch(self) -> None:
        try:
            await self.dispatcher.run()
        except anyio.get_cancelled_exc_class():
            if not self._has_successor("on_event"):
                raise
            self._start(self._dispatch)

    def _has_successor(self, who: str) -> bool:
        """Whether a task that was cancelled is replaced: not by us but by the user code in it, or by someone else.

        On asyncio a task that ends so would take its whole group with it.
        """
        if self._tasks is None or self._tasks.cancel_scope.cancel_called or self._cancelled_from_outside():
            return False
        logger.warning("%s was cancelled from within; the next call of it follows", who)
        return True

    # --- time --------------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while self.closed is None:
            self._timer_at = self._next_deadline()
            with CancelScope(deadline=self._timer_at) as self._timer:
                await anyio.Event().wait()
            self._timer = None
            now = self.now()
            while self._deadlines and self._deadlines[0][0] <= now:
                heappop(self._deadlines)[2].wake()
            self.session.handle_timeout(now=now)
            self.settle()

    def _next_deadline(self) -> float:
        deadline = self.session.next_timeout()
        if deadline is None:
            deadline = float("inf")
        return min(deadline, self._deadlines[0][0]) if self._deadlines else deadline

    def _set_timer(self) -> None:
        if self._timer is None:
            return
        if self.closed is not None:
            self._timer.cancel()
            return
        deadline = self._next_deadline()
        if deadline < self._timer_at:
            self._timer_at = self._timer.deadline = deadline


_alive: weakref.WeakSet[Hub] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for hub in list(_alive):
        with contextlib.suppress(Exception):
            hub.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
