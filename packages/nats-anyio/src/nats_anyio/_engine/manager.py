"""Keeps the connection, as the session says: waits, dials, reads, lets go, and dials again.

Theory of operation
-------------------
One task runs `Manager.run`, and beside it, as long as there is a connection, one task writes (`Writer`) and one starts
others. Nothing awaits a peer: a connection that is given up takes its tasks with it (they live in a cancel scope of
their own), its socket is closed without waiting for anything, and only then the next one is dialled. So no report of an
old connection can be taken for one of a new.

    OpenTransport  ──▶ wait until its time, dial ─┐
                                                  ├─▶ read until it is lost or given up ──▶ the next order
    AdoptSuccessor ──▶ wait for the successor's ──┘
                       socket

An order replaces the one before, whatever has become of that.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, assert_never

import anyio
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
)

from .dial import dial
from .effects import Effects
from .event_loop import EventLoop
from .message_type import MessageT
from .perform import Performer
from .reader import Reader
from .starter import Starter
from .worker_threads import WorkerThreads
from .writer import Writer

if TYPE_CHECKING:
    from .successor import Successor

__all__ = ["Manager"]


class _Begin(Protocol):
    def __call__(self, *, now: float) -> None: ...


class Manager(Generic[MessageT]):
    """The connections of one session, one after the other.

    ``settle`` is called after every change of the session, but ``received`` after each chunk from the connection and
    ``written`` after each report of what was written; ``fail`` for a defect of the client that shows in somebody else's
    task.
    """

    def __init__(
        self,
        session: Session[MessageT],
        loop: EventLoop,
        *,
        settle: Callable[[], None],
        received: Callable[[], None],
        written: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._session = session
        self._loop = loop
        self._now = loop.now
        self.writer = Writer(session, loop, written=written, lost=self._lost, fail=fail)
        self._settle = settle
        self._received = received
        self._fail = fail
        self._effects = Effects(session, loop, Performer(loop), settle)
        self._resolvers = WorkerThreads(loop, "nats-resolver")
        self._plan: Perform | OpenTransport | socket.socket | None = None
        """What was ordered: to do what comes before a dial, or a dial; or the successor's connection, to be kept."""
        self._adopting = False
        """The successor's connection is to be kept as soon as it is handed over."""
        self.successor: Successor[MessageT] | None = None
        """Who makes the next connection while the one to a lame duck is up."""
        self._finished = False
        """There will be no other plan."""
        self._idle: anyio.Event | None = None
        """`run` waits for a plan."""
        self._attempt: CancelScope | None = None
        """Around what `run` does with a plan, from the wait for the dial's time to the end of the connection."""
        self._group: TaskGroup | None = None
        """What runs as long as `run` does."""
        self._tasks: TaskGroup | None = None
        """What runs as long as the connection."""
        self._starter: Starter | None = None
        """Starts tasks while there is a connection."""
        self._reader: Reader | None = None
        """Of the connection; None as soon as it is given up."""
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
                self._adopting = True
                if self.successor is not None:
                    self.successor.adopt()
            case Perform(successor=True):
                if self.successor is not None:
                    self.successor.perform(command)
            case Perform():
                self._perform(command)
            case _:
                assert_never(command)

    def finish(self) -> None:
        """There will be no other connection: `run` returns when the last is gone."""
        self._finished = True
        self._wake()

    def close_copies(self) -> None:
        """In a forked child: close our copies of the sockets, without a word to the server."""
        self._let_go()
        self._drop_plan()
        self._finished = True
        for sock in self._open_sockets:
            sock.close()

    def _perform(self, command: Perform) -> None:
        tasks, starter = self._tasks, self._starter
        if tasks is not None and starter is not None:  # else the connection that wants it is gone
            perform = partial(self._effects.perform, command, tasks, self._is_given_up)
            starter.call(partial(tasks.start_soon, perform, name="nats credentials"))

    def _abandon(self) -> None:
        """Give up the connection, or the dial, or the wait before it. `run` sees to the socket."""
        self._drop_plan()
        self._adopting = False
        self._let_go()
        if self._attempt is not None:
            self._attempt.cancel()
        self._wake()

    def _drop_plan(self) -> None:
        if isinstance(self._plan, socket.socket):
            self._plan.close()
        self._plan = None

    def _let_go(self) -> None:
        self.writer.close()
        self._starter = None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()

    def _is_given_up(self) -> bool:
        return self._attempt is None or self._attempt.cancel_called

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    # --- the successor of a connection -------------------------------------------------------------------------------

    def _open_successor(self, command: OpenSuccessor) -> None:
        from .successor import Successor  # only who meets a lame duck pays for loading it

        self._give_up_successor()
        successor = self.successor = Successor(
            command,
            self._session,
            self._loop,
            self._effects,
            dial=partial(dial, resolvers=self._resolvers, open_sockets=self._open_sockets),
            open_sockets=self._open_sockets,
            settle=self._settle,
            fail=self._fail,
            hand_over=self._take_over,
        )
        group, starter = self._group, self._starter
        if group is not None and starter is not None:  # the connection to the lame duck is up, else none were wanted
            starter.call(partial(group.start_soon, successor.run, name="nats successor"))

    def _give_up_successor(self) -> None:
        if self.successor is not None:
            self.successor.give_up()
            self.successor = None
        if self._adopting:
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
                    with CancelScope() as self._attempt:
                        await self._follow(plan, self._attempt)
                    self._attempt = None
        finally:
            self._abandon()

    async def _follow(self, plan: Perform | OpenTransport | socket.socket, attempt: CancelScope) -> None:
        match plan:
            case Perform():
                await self._ask(plan)
            case OpenTransport():
                await self._connect(plan, attempt)
            case socket.socket():
                await self._keep(plan, attempt, self._session.transport_adopted)
            case _:
                assert_never(plan)

    async def _ask(self, plan: Perform) -> None:
        """Perform what comes before a dial, in a task of its own: a user's function may cancel the one it runs in."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._effects.perform, plan, tasks, self._is_given_up, name="nats delay")

    async def _connect(self, plan: OpenTransport, attempt: CancelScope) -> None:
        """Wait, dial, and keep the connection. When the dial takes too long, the session gives it up."""
        await anyio.sleep_until(plan.at)
        try:
            sock = await dial(*plan.address, resolvers=self._resolvers, open_sockets=self._open_sockets)
        except Exception as error:
            # A dial that was given up must not be reported: the session would take its failure for that of the next
            # one.
            if not attempt.cancel_called:
                self._session.transport_failed(error, now=self._now())
                self._settle()
            return
        await self._keep(sock, attempt, self._session.transport_connected)

    async def _keep(self, sock: socket.socket, attempt: CancelScope, begin: _Begin) -> None:
        """Until the connection ends or is given up. ``begin`` tells the session that it is there."""
        self._adopting = False
        self._open_sockets.add(sock)
        try:
            # The dial may have succeeded in the very turn in which it was given up: then it is not to be reported.
            if not attempt.cancel_called:
                await self._use(sock, begin)
        finally:
            # Not before `_use` has returned, and with it everybody who waits for this descriptor: the system may give
            # its number to another socket at once.
            self._open_sockets.discard(sock)
            sock.close()
            self._let_go()
        if not attempt.cancel_called:
            # Every other end is one that the session knows of, and then it has given the connection up.
            self._lost(OSError("writing was cancelled"))

    async def _use(self, sock: socket.socket, begin: _Begin) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            starter = self._starter = Starter()
            reader = self._reader = self._read_from(sock)
            self.writer.open(sock)
            try:
                begin(now=self._now())
                self._settle()
                tasks.start_soon(self.writer.run, sock, name="nats write")
                tasks.start_soon(starter.run, name="nats starter")
                await reader.run()
            finally:
                # Nobody may start a task in a group that is being left (`_perform` looks at this).
                self._tasks = None
            # Reading has ended, and the connection with it. The writer and the starter would go on waiting for ever.
            tasks.cancel_scope.cancel()

    def _read_from(self, sock: socket.socket) -> Reader:
        return Reader(
            sock, self._loop, self._session, receive=self._receive, end=self._end, lost=self._lost, fail=self._fail
        )

    # --- what becomes of it ------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        self._session.receive_data(data, now=self._now())
        self._received()

    def _end(self) -> None:
        self._session.receive_eof(now=self._now())
        self._settle()

    def _lost(self, error: Exception) -> None:
        """The connection is broken: reading or writing has failed."""
        self._session.transport_lost(error, now=self._now())
        self._settle()
