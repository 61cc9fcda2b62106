"""The one place between a session and the outside world: one mutation, then drain events, commands, data, deadline.

Theory of operation
-------------------
A root task owns all others: one keeps the link (waits, dials, reads), one writes as long as there is a connection, one
keeps time, one calls ``on_event``, one for each callback. Whoever changes the session calls `settle` right after; what
can only have added data calls `data_added`.

    settle:  events ──▶ wake who waits, or to the dispatcher
             commands ─▶ abandon the connection, plan the next dial
             data ─────▶ the writer, when it is idle
             deadline ─▶ the timer, when it is earlier than what it is set to
             room ─────▶ the publisher that has waited longest

Nothing here awaits a peer: a connection that is given up takes its reader and its writer with it (they live in a cancel
scope of their own), its stream is closed without waiting for its buffers, and only then the next one is dialled.

The stream does not tell how much of a cancelled `send` it has written. It is counted as written whole: what was in that
one call may be lost with the connection, nothing is ever written to two.

The root is shielded: cancelling the block around the client reaches the tasks only through `stop`, after the client was
closed in order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

import anyio
from anyio import CancelScope
from anyio.abc import ByteStream, TaskGroup

from nats_proto import (
    Closed,
    CloseTransport,
    Command,
    Connected,
    FlushCompleted,
    FlushFailed,
    MessagesAvailable,
    OpenTransport,
    Reconnecting,
    ReplyReceived,
    RequestFailed,
    Session,
    SessionEvent,
    SessionStatus,
    SubscriptionClosed,
)
from nats_proto.errors import ConnectionClosedError, NATSError

from ._dispatch import Dispatcher, Handler
from ._message import Message

if TYPE_CHECKING:
    from ._subscription import Subscription

__all__ = ["Answer", "Pump"]

logger = logging.getLogger("nats_anyio")

RECEIVE_SIZE: Final = 64 * 1024
"""Bytes read at once. One chunk is one turn: everybody else runs before the next is read."""
JOIN_LIMIT: Final = 64 * 1024
"""Pieces of this size and larger are sent as they are, smaller ones are joined: one call costs more than their copy."""
END_LIMIT: Final = 1.0
"""Seconds that `wait_ended` gives an ``on_event`` to take its last events."""


class Answer:
    """Somebody waits for the answer to one request or flush: one wake-up."""

    __slots__ = ("arrived", "error", "message")

    def __init__(self) -> None:
        self.arrived = anyio.Event()
        self.message: Message | None = None
        self.error: NATSError | None = None

    def give(self, message: Message | None = None, error: NATSError | None = None) -> None:
        """Wake who waits."""
        self.message = message
        self.error = error
        self.arrived.set()


class Pump:
    """Runs one session."""

    def __init__(self, session: Session[Message], dispatcher: Dispatcher) -> None:
        self.session = session
        self.dispatcher = dispatcher
        self.subscriptions: dict[int, Subscription] = {}
        self.requests: dict[int, Answer] = {}
        self.flushes: dict[int, Answer] = {}
        self.handler_tasks: set[int] = set()
        """Ids of the tasks that run callbacks."""
        self.opened = anyio.Event()
        """There is a connection, or it is made in the background, or there will be none."""
        self.closed: Closed | None = None
        self.ended = anyio.Event()
        """`closed` is set and the last transport is gone."""
        self.stopped = anyio.Event()
        """No task is left."""
        self.idle_writer: anyio.Event | None = None
        """Set it when there is something to write. None: the writer looks by itself, or there is none."""
        self._batch: list[bytes] = []
        self._sending = 0
        self._plan: OpenTransport | None = None
        self._idle_link: anyio.Event | None = None
        self._connection: CancelScope | None = None
        self._timer: CancelScope | None = None
        self._timer_at = float("inf")
        self._publishers: deque[anyio.Event] = deque()
        self._next_publisher: anyio.Event | None = None
        self._tasks: TaskGroup | None = None
        self._stopping = False

    # --- after a mutation --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Drain the session. After every call into it that may have changed more than what is to be written."""
        session = self.session
        for event in session.events_received():
            self._route(event)
        for command in session.commands_to_run():
            self._run_command(command)
        if self.idle_writer is not None:
            self._batch = session.data_to_send()
            if self._batch:
                self.wake_writer()
        self._set_timer()
        if self._publishers:
            self._let_publish()

    def data_added(self) -> None:
        """Have the writer look. After a call into the session that can only have added something to write."""
        if self.idle_writer is not None:
            self.wake_writer()

    def wake_writer(self) -> None:
        """Call only when `idle_writer` is not None."""
        idle, self.idle_writer = self.idle_writer, None
        if idle is not None:
            idle.set()

    def _route(self, event: SessionEvent) -> None:
        match event:
            case MessagesAvailable(sid=sid):
                sub = self.subscriptions.get(sid)
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
                sub = self.subscriptions.pop(sid, None)
                if sub is not None:
                    sub.wake()
            case _:
                if isinstance(event, Closed):
                    self.closed = event
                if isinstance(event, (Connected, Reconnecting, Closed)):
                    self.opened.set()
                self.dispatcher.add(event)

    def _run_command(self, command: Command) -> None:
        match command:
            case OpenTransport():
                self._abandon()
                self._plan = command
            case CloseTransport():
                self._abandon()

    def _abandon(self) -> None:
        """Give up the connection, or the dial, or the wait before it. The link's task sees to the stream."""
        self._plan = None
        self._batch = []
        self.idle_writer = None
        if self._connection is not None:
            self._connection.cancel()
        self._wake_link()

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
                return
            waiter = anyio.Event()
            self._publishers.appendleft(waiter)

    def _may_publish(self) -> bool:
        return self.session.writable or self.session.status is SessionStatus.CLOSED

    def _let_publish(self) -> None:
        if self._publishers and self._next_publisher is None and self._may_publish():
            self._next_publisher = self._publishers.popleft()
            self._next_publisher.set()

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The root: returns when the client has ended and its callbacks have returned, or when stopped."""
        try:
            with CancelScope(shield=True):
                async with anyio.create_task_group() as self._tasks:
                    if self._stopping:
                        self._tasks.cancel_scope.cancel()
                    for task in (self._keep_link, self._keep_time, self.dispatcher.run):
                        self._tasks.start_soon(self._guard, task, name=f"nats {task.__name__.strip('_')}")
        finally:
            self.ended.set()
            self.stopped.set()

    def serve(self, sub: Subscription, handler: Handler) -> None:
        """Run a callback's task beside the others."""
        assert self._tasks is not None  # there is no subscription before the root runs
        self._tasks.start_soon(self.dispatcher.serve, sub, handler, name=f"nats callback {sub.sid}")

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

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except Exception as error:
            logger.exception("a task of the client failed, the client is closed: this is a defect in it")
            self._crash(error)

    def _crash(self, cause: Exception) -> None:
        """End as well as can be done without relying on anything: nobody must be left waiting."""
        closed = ConnectionClosedError("the client failed from within and is closed")
        closed.__cause__ = cause
        try:
            self.session.close(now=anyio.current_time())
            self.settle()
        except Exception:
            logger.exception("closing it failed as well")
        for answer in (*self.requests.values(), *self.flushes.values()):
            answer.give(error=closed)
        self.closed = self.closed or Closed(error=closed)
        self.opened.set()
        self.stop()

    # --- the link ----------------------------------------------------------------------------------------------------

    async def _keep_link(self) -> None:
        while self.closed is None or self._plan is not None:
            if self._plan is None:
                self._idle_link = anyio.Event()
                await self._idle_link.wait()
                continue
            plan, self._plan = self._plan, None
            with CancelScope() as self._connection:
                await self._connect(plan, self._connection)
            self._connection = None
        self.ended.set()

    def _wake_link(self) -> None:
        if self._idle_link is not None:
            self._idle_link.set()
            self._idle_link = None

    async def _connect(self, plan: OpenTransport, scope: CancelScope) -> None:
        """Wait, dial, and keep the connection until it ends or is given up. The session gives up a dial by its time."""
        await anyio.sleep_until(plan.at)
        try:
            stream = await anyio.connect_tcp(plan.server.host, plan.server.port)
        except Exception as error:
            if not scope.cancel_called:
                self.session.transport_failed(_reason(error), now=anyio.current_time())
                self.settle()
            return
        try:
            if not scope.cancel_called:
                await self._use(stream, scope)
        finally:
            with CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)
            self.idle_writer = None
            self._batch = []
            if self._sending:
                # It may have been written: whatever comes now must not write it again.
                self.session.data_sent(self._sending)
                self._sending = 0

    async def _use(self, stream: ByteStream, scope: CancelScope) -> None:
        self.session.transport_connected(now=anyio.current_time())
        self.settle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, stream, scope, name="nats write")
            await self._read(stream)
            tasks.cancel_scope.cancel()

    async def _read(self, stream: ByteStream) -> None:
        session = self.session
        while True:
            try:
                data = await stream.receive(RECEIVE_SIZE)
            except anyio.EndOfStream:
                session.receive_eof(now=anyio.current_time())
                self.settle()
                return
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
                session.transport_lost(_reason(error), now=anyio.current_time())
                self.settle()
                return
            session.receive_data(data, now=anyio.current_time())
            self.settle()

    async def _write(self, stream: ByteStream, scope: CancelScope) -> None:
        session = self.session
        while True:
            pieces = self._batch or session.data_to_send()
            self._batch = []
            if not pieces:
                idle = self.idle_writer = anyio.Event()
                await idle.wait()
                continue
            for data in _joined(pieces):
                self._sending = len(data)
                try:
                    await stream.send(data)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
                    session.transport_lost(_reason(error), now=anyio.current_time())
                    self.settle()
                    return
                if scope.cancel_called:
                    return
                self._sending = 0
                session.data_sent(len(data))
                self.settle()

    # --- time --------------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while self.closed is None:
            deadline = self.session.next_timeout()
            self._timer_at = float("inf") if deadline is None else deadline
            with CancelScope(deadline=self._timer_at) as self._timer:
                await anyio.Event().wait()
            self._timer = None
            self.session.handle_timeout(now=anyio.current_time())
            self.settle()

    def _set_timer(self) -> None:
        if self._timer is None:
            return
        if self.closed is not None:
            self._timer.cancel()
            return
        deadline = self.session.next_timeout()
        if deadline is not None and deadline < self._timer_at:
            self._timer_at = self._timer.deadline = deadline


def _joined(pieces: list[bytes]) -> Iterator[bytes]:
    """The same bytes in few parts."""
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) < JOIN_LIMIT:
            small.append(piece)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield piece
    if small:
        yield b"".join(small)


def _reason(error: Exception) -> Exception:
    """What the operating system said, behind what anyio made of it."""
    reasons: list[str] = []
    for leaf in leaves(error.__cause__ or error):
        if str(leaf) not in reasons:
            reasons.append(str(leaf))
    if len(reasons) > 1:  # one for each address of the host
        return OSError("; ".join(reasons))
    cause = error.__cause__
    return cause if isinstance(cause, Exception) else error


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, in groups in it, and so on; an exception that is no group is its only leaf."""
    members: tuple[BaseException, ...] = (
        getattr(error, "exceptions", ()) if isinstance(error, BaseExceptionGroup) else ()
    )
    return [leaf for member in members for leaf in leaves(member)] or [error]
