"""Moves the bytes: waits and dials when the session says so, reads, writes, and lets go.

Theory of operation
-------------------
One task runs `Manager.run`, and beside it one writer as long as there is a connection. Nothing awaits a peer: a
connection that is given up takes its reader and its writer with it (they live in a cancel scope of their own), its
socket is closed without waiting for anything, and only then the next one is dialled. So no report of an old connection
can be taken for one of a new.

Everything is written by calls that do not wait, each followed by its report, with nothing in between. So whatever is
cancelled whenever, the session knows to the byte what was handed over. Only the writer waits for the system to take
more. What somebody waits for is written by who asks for it, at once (`Manager.write_now`): to wake the writer would
take a turn of the loop. All else is left to the writer, which joins what came together.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Protocol, assert_never

import anyio
import anyio.lowlevel
from anyio import CancelScope
from anyio.abc import TaskGroup

from nats_proto import (
    AdoptSuccessor,
    CloseSuccessor,
    CloseTransport,
    Command,
    OpenSuccessor,
    OpenTransport,
    Perform,
    Session,
    join_small_pieces,
)

from .._message import Message
from .dial import dial
from .event_loop import MORE, OVER, QUIET, EventLoop
from .interrupt import Interrupt, interruptible
from .perform import Performer
from .worker_threads import WorkerThreads

if TYPE_CHECKING:
    from .successor import Successor

__all__ = ["Manager"]


class _Begin(Protocol):
    def __call__(self, *, now: float) -> None: ...


class _Now(Enum):
    """How writing is after a batch."""

    FREE = auto()
    """Nothing is left."""
    READY = auto()
    """There is more."""
    BLOCKED = auto()
    """There is, and the system takes nothing."""


class Manager:
    """The connections of one session, one after the other.

    ``settle`` is called after every change of the session, ``written`` after `Session.data_sent`, ``fail`` for a defect
    of the client that shows in somebody else's task.
    """

    def __init__(
        self,
        session: Session[Message],
        loop: EventLoop,
        *,
        settle: Callable[[], None],
        written: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._session = session
        self._loop = loop
        self._now = loop.now
        self._settle = settle
        self._written = written
        self._fail = fail
        self.idle_writer: anyio.Event | None = None
        """The writer waits and has nothing. None: it looks by itself, or there is none."""
        self._sock: socket.socket | None = None
        """The connection's."""
        self._blocked = False
        """The writer waits for the system."""
        self._batch: list[bytes] = []
        """Taken from the session."""
        self._left: deque[bytes | memoryview] = deque()
        """And joined, and not yet taken by the system."""
        self._plan: OpenTransport | Perform | socket.socket | None = None
        """The dial that was ordered, or what comes before it, or the connection that is to be adopted."""
        self._awaited = False
        """The successor's connection is to be adopted when it is handed over."""
        self.successor: Successor | None = None
        """Who makes the next connection while the one to a lame duck is up."""
        self._idle: anyio.Event | None = None
        self._connection: CancelScope | None = None
        self._tasks: TaskGroup | None = None
        """What runs as long as the connection, or what is performed before there is one."""
        self._group: TaskGroup | None = None
        """What runs as long as there are connections."""
        self._effects: deque[Perform | Successor] = deque()
        """What it wants done, and who is to make the next one."""
        self._wanted: anyio.Event | None = None
        """Set when there is one."""
        self._finished = False
        self._performer = Performer(loop)
        self._resolvers = WorkerThreads(loop, "nats-resolver")
        self._open_sockets: set[socket.socket] = set()
        """The connection's, and those that are being connected."""

    # --- orders ------------------------------------------------------------------------------------------------------

    def run_command(self, command: Command) -> None:
        """What the session wants done."""
        match command:
            case OpenTransport() | Perform(before_dial=True):
                self._abandon()
                self._plan = command
            case CloseTransport():
                self._abandon()
            case OpenSuccessor():
                self._open_successor(command)
            case CloseSuccessor():
                self._give_up_successor()
            case AdoptSuccessor():
                self._abandon()
                self._awaited = True
                if self.successor is not None:
                    self.successor.adopt()
            case Perform(successor=True):
                if self.successor is not None:
                    self.successor.perform(command)
            case Perform():
                self._want(command)
            case _:
                assert_never(command)

    def _want(self, what: Perform | Successor) -> None:
        self._effects.append(what)
        if self._wanted is not None:
            self._wanted.set()

    def give(self, pieces: list[bytes]) -> None:
        """Have the writer write this. Call only when it is idle."""
        if pieces:
            self._batch += pieces
            self.wake_writer()

    def wake_writer(self) -> None:
        """Have the writer look what there is. Harmless when it is not idle."""
        idle, self.idle_writer = self.idle_writer, None
        if idle is not None:
            idle.set()

    def write_now(self) -> None:
        """Write what there is, as far as the system takes it at once; the rest is the writer's."""
        if self._sock is None or self._blocked:
            return  # it will be written to the next; or the writer waits, and goes on with it
        try:
            if self._send(self._sock) is not _Now.FREE:
                self.wake_writer()
        except Exception as error:
            self._fail(error)

    def finish(self) -> None:
        """There will be no other connection: `run` returns when the last is gone."""
        self._finished = True
        self._wake()

    def forget_parent(self) -> None:
        """In a forked child: close our copies of the sockets, without a word to the server."""
        self._let_go()
        if isinstance(self._plan, socket.socket):
            self._plan.close()
        self._plan = None
        self._finished = True
        for sock in self._open_sockets:
            sock.close()

    def _abandon(self) -> None:
        """Give up the connection, or the dial, or the wait before it. `run` sees to the socket."""
        if isinstance(self._plan, socket.socket):
            self._plan.close()
        self._plan = None
        self._awaited = False
        self._let_go()
        if self._connection is not None:
            self._connection.cancel()
        self._wake()

    def _let_go(self) -> None:
        self._sock = self.idle_writer = None
        self._batch = []
        self._left.clear()
        self._effects.clear()

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    # --- the successor of a connection -------------------------------------------------------------------------------

    def _open_successor(self, command: OpenSuccessor) -> None:
        from .successor import Successor  # only who meets a lame duck pays for loading it

        self._give_up_successor()
        self.successor = Successor(
            command,
            self._session,
            self._loop,
            self._performer,
            dial=partial(dial, resolvers=self._resolvers, open_sockets=self._open_sockets),
            open_sockets=self._open_sockets,
            settle=self._settle,
            fail=self._fail,
            hand_over=self._take_over,
        )
        self._want(self.successor)

    def _give_up_successor(self) -> None:
        if self.successor is not None:
            self.successor.give_up()
            self.successor = None
        if self._awaited:
            self._abandon()

    def _take_over(self, sock: socket.socket) -> None:
        self.successor = None
        self._plan = sock
        self._wake()

    # --- the way of a connection -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make one connection after the other, as ordered."""
        try:
            async with anyio.create_task_group() as self._group:
                while self._plan is not None or not self._finished:
                    if self._plan is None:
                        self._idle = anyio.Event()
                        await self._idle.wait()
                        continue
                    plan, self._plan = self._plan, None
                    with CancelScope() as self._connection:
                        await self._follow(plan, self._connection)
                    self._connection = None
        finally:
            self._abandon()

    async def _follow(self, plan: OpenTransport | Perform | socket.socket, scope: CancelScope) -> None:
        match plan:
            case OpenTransport():
                await self._connect(plan, scope)
            case Perform():
                await self._ask(plan)
            case _:
                await self._keep(plan, scope, self._session.transport_adopted)

    async def _ask(self, plan: Perform) -> None:
        """Perform what comes before a dial, in a task of its own: a user's function may cancel the one it runs in."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._perform, plan, name="nats delay")
        finally:
            self._tasks = None

    async def _connect(self, plan: OpenTransport, scope: CancelScope) -> None:
        """Wait, dial, and keep the connection. The session gives up a dial by its time."""
        await anyio.sleep_until(plan.at)
        try:
            sock = await dial(*plan.address, resolvers=self._resolvers, open_sockets=self._open_sockets)
        except Exception as error:
            if not scope.cancel_called:
                self._session.transport_failed(error, now=self._now())
                self._settle()
            return
        await self._keep(sock, scope, self._session.transport_connected)

    async def _keep(self, sock: socket.socket, scope: CancelScope, begin: _Begin) -> None:
        """Until the connection ends or is given up. ``begin`` tells the session that it is there."""
        self._awaited = False
        self._open_sockets.add(sock)
        try:
            if not scope.cancel_called:
                await self._use(sock, begin)
        finally:
            self._open_sockets.discard(sock)
            sock.close()
            self._let_go()
        if not scope.cancel_called:
            # The session has not given it up: somebody has cancelled the writer's task.
            self._lost(OSError("writing was cancelled"))

    async def _use(self, sock: socket.socket, begin: _Begin) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._sock = sock
            try:
                begin(now=self._now())
                self._settle()
                tasks.start_soon(self._write, sock, name="nats write")
                tasks.start_soon(self._start_effects, tasks, name="nats credentials")
                await self._read(sock)
            finally:
                self._tasks = None
            tasks.cancel_scope.cancel()

    async def _start_effects(self, tasks: TaskGroup) -> None:
        # Not started where they are wanted: that may be outside of any task.
        while True:
            self._wanted = anyio.Event()
            while self._effects:
                wanted = self._effects.popleft()
                if isinstance(wanted, Perform):
                    tasks.start_soon(self._perform, wanted, name="nats credentials")
                elif self._group is not None:
                    self._group.start_soon(wanted.run, name="nats successor")
            await self._wanted.wait()

    async def _perform(self, command: Perform) -> None:
        try:
            result = await interruptible(self._performer.perform(command))
        except anyio.get_cancelled_exc_class() as error:
            if self._tasks is None or self._tasks.cancel_scope.cancel_called or self._is_abandoned():
                raise
            self._session.perform_failed(command, error, now=self._now())  # cancelled from within
        except Interrupt as interrupt:
            # The client can do without a delay. So of what its function raises only Ctrl-C is not survived.
            if not command.before_dial or isinstance(interrupt.error, KeyboardInterrupt):
                raise
            self._session.perform_failed(command, interrupt.error, now=self._now())
        except Exception as error:
            self._session.perform_failed(command, error, now=self._now())
        else:
            self._session.performed(command, result, now=self._now())
        self._settle()

    def _is_abandoned(self) -> bool:
        return self._connection is None or self._connection.cancel_called

    async def _read(self, sock: socket.socket) -> None:
        try:
            await self._loop.read(sock, lambda: self._take(sock))
        except OSError as error:  # the descriptor cannot be waited for
            self._lost(error)

    def _take(self, sock: socket.socket) -> int:
        """Give the session one chunk of what has arrived. It is one turn: everybody else runs before the next."""
        if sock is not self._sock:
            return OVER  # it was given up, and the task that reads has not heard of it yet
        size = self._session.receive_size
        try:
            try:
                data = sock.recv(size)
            except BlockingIOError:
                return QUIET
            except OSError as error:  # whatever it may be, the session makes a new connection
                self._lost(error)
                return OVER
            if not data:
                self._session.receive_eof(now=self._now())
                self._settle()
                return OVER
            self._session.receive_data(data, now=self._now())
            self._settle()
        except Exception as error:
            self._fail(error)
            return OVER
        return MORE if len(data) == size else QUIET

    async def _write(self, sock: socket.socket) -> None:
        while True:
            match self._send(sock):
                case _Now.FREE:
                    idle = self.idle_writer = anyio.Event()
                    # Before it was known to be idle, a publish of another thread, which should not be, woke nobody.
                    if self._session.pending_bytes:
                        self.give(self._session.data_to_send())
                    await idle.wait()
                case _Now.READY:
                    await anyio.lowlevel.checkpoint()
                case _Now.BLOCKED:
                    self._blocked = True
                    try:
                        await anyio.wait_writable(sock)
                    except Exception as error:  # as in `_read`
                        self._lost(error)
                        return
                    finally:
                        self._blocked = False

    def _send(self, sock: socket.socket) -> _Now:
        """Give the system one batch, as far as it takes it without waiting."""
        session = self._session
        left = self._left
        if not left:
            pieces = [*self._batch, *session.data_to_send()]
            self._batch = []
            left.extend(join_small_pieces(pieces))
        while left:
            data = left[0]
            try:
                sent = sock.send(data)
            except BlockingIOError:
                return _Now.BLOCKED
            except OSError as error:
                self._lost(error)
                return _Now.FREE
            if sent == len(data):
                left.popleft()
            else:
                left[0] = memoryview(data)[sent:]
            session.data_sent(sent)
            self._written()
        if sock is not self._sock:
            return _Now.FREE  # that was the end of it, and what there is now is for its successor
        self._batch += session.data_to_send()
        return _Now.READY if self._batch else _Now.FREE

    def _lost(self, error: Exception) -> None:
        self._session.transport_lost(error, now=self._now())
        self._settle()
