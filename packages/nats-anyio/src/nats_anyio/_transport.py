"""Moves the bytes: waits and dials when the session says so, reads, writes, and lets go.

Theory of operation
-------------------
One task runs `Transport.run`, and beside it one writer as long as there is a connection. Nothing awaits a peer: a
connection that is given up takes its reader and its writer with it (they live in a cancel scope of their own), its
stream is closed without waiting for its buffers, and only then the next one is dialled. So no report of an old
connection can be taken for one of a new.

The stream does not tell how much of a cancelled `send` it has written. It is counted as written whole: what was in that
one call may be lost with the connection, nothing is ever written to two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

import anyio
from anyio import CancelScope
from anyio.abc import ByteStream, TaskGroup

from nats_proto import CloseTransport, Command, OpenTransport, Perform, Session

from ._message import Message
from ._perform import Performer

__all__ = ["Transport", "leaves"]

RECEIVE_SIZE: Final = 64 * 1024
"""Bytes read at once. One chunk is one turn: everybody else runs before the next is read."""
JOIN_LIMIT: Final = 64 * 1024
"""Pieces of this size and larger are sent as they are, smaller ones are joined: one call costs more than their copy."""


class Transport:
    """The connections of one session, one after the other.

    ``settle`` is called after every change of the session, ``written`` after `Session.data_sent`.
    """

    def __init__(self, session: Session[Message], *, settle: Callable[[], None], written: Callable[[], None]) -> None:
        self._session = session
        self._settle = settle
        self._written = written
        self.idle_writer: anyio.Event | None = None
        """The writer waits and has nothing. None: it looks by itself, or there is none."""
        self._batch: list[bytes] = []
        self._sending = 0
        self._plan: OpenTransport | None = None
        self._idle: anyio.Event | None = None
        self._connection: CancelScope | None = None
        self._tasks: TaskGroup | None = None
        """What runs as long as the connection."""
        self._finished = False
        self._performer = Performer()

    # --- orders ------------------------------------------------------------------------------------------------------

    def run_command(self, command: Command) -> None:
        """What the session wants done."""
        match command:
            case OpenTransport():
                self._abandon()
                self._plan = command
            case CloseTransport():
                self._abandon()
            case Perform():
                if self._tasks is not None:  # else the connection that wanted it is gone
                    self._tasks.start_soon(self._perform, command, name="nats credentials")

    def give(self, pieces: list[bytes]) -> None:
        """Have the writer write this. Call only when it is idle."""
        if pieces:
            self._batch = pieces
            self.wake_writer()

    def wake_writer(self) -> None:
        """Have the writer look what there is. Harmless when it is not idle."""
        idle, self.idle_writer = self.idle_writer, None
        if idle is not None:
            idle.set()

    def finish(self) -> None:
        """There will be no other connection: `run` returns when the last is gone."""
        self._finished = True
        self._wake()

    def _abandon(self) -> None:
        """Give up the connection, or the dial, or the wait before it. `run` sees to the stream."""
        self._plan = None
        self._batch = []
        self.idle_writer = None
        if self._connection is not None:
            self._connection.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    # --- the way of a connection -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make one connection after the other, as ordered."""
        while self._plan is not None or not self._finished:
            if self._plan is None:
                self._idle = anyio.Event()
                await self._idle.wait()
                continue
            plan, self._plan = self._plan, None
            with CancelScope() as self._connection:
                await self._connect(plan, self._connection)
            self._connection = None

    async def _connect(self, plan: OpenTransport, scope: CancelScope) -> None:
        """Wait, dial, and keep the connection until it ends or is given up. The session gives up a dial by its time."""
        await anyio.sleep_until(plan.at)
        try:
            stream = await anyio.connect_tcp(*plan.address)
        except Exception as error:
            if not scope.cancel_called:
                self._session.transport_failed(_reason(error), now=anyio.current_time())
                self._settle()
            return
        try:
            if not scope.cancel_called:
                await self._use(stream)
        finally:
            with CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)
            self.idle_writer = None
            self._batch = []
            if self._sending:
                # It may have been written: no other connection must write it again.
                self._session.data_sent(self._sending)
                self._sending = 0
        if not scope.cancel_called:
            # The session has not given it up: somebody has cancelled the writer's task.
            self._lost(OSError("writing was cancelled"))

    async def _use(self, stream: ByteStream) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                self._session.transport_connected(now=anyio.current_time())
                self._settle()
                tasks.start_soon(self._write, stream, name="nats write")
                await self._read(stream)
            finally:
                self._tasks = None
            tasks.cancel_scope.cancel()

    async def _perform(self, command: Perform) -> None:
        try:
            result = await self._performer.perform(command.effect)
        except anyio.get_cancelled_exc_class() as error:
            if self._tasks is None or self._tasks.cancel_scope.cancel_called or self._is_abandoned():
                raise
            self._session.perform_failed(command, error, now=anyio.current_time())  # cancelled from within
        except Exception as error:
            self._session.perform_failed(command, error, now=anyio.current_time())
        else:
            self._session.performed(command, result, now=anyio.current_time())
        self._settle()

    def _is_abandoned(self) -> bool:
        return self._connection is None or self._connection.cancel_called

    async def _read(self, stream: ByteStream) -> None:
        session = self._session
        while True:
            try:
                data = await stream.receive(RECEIVE_SIZE)
            except anyio.EndOfStream:
                session.receive_eof(now=anyio.current_time())
                self._settle()
                return
            except Exception as error:  # whatever a stream may raise, the session makes a new connection
                self._lost(error)
                return
            session.receive_data(data, now=anyio.current_time())
            self._settle()

    async def _write(self, stream: ByteStream) -> None:
        session = self._session
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
                except Exception as error:
                    self._lost(error)
                    return
                self._sending = 0
                session.data_sent(len(data))
                self._written()

    def _lost(self, error: Exception) -> None:
        self._session.transport_lost(_reason(error), now=anyio.current_time())
        self._settle()


def _joined(pieces: list[bytes]) -> Iterator[bytes]:
    """The same bytes in few parts."""
    if max(map(len, pieces)) < JOIN_LIMIT:
        yield b"".join(pieces)
        return
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
    """What the operating system said, behind what anyio and asyncio made of it."""
    reasons: dict[str, Exception] = {}
    for leaf in leaves(error.__cause__ or error):
        if isinstance(leaf, OSError) and leaf.errno is not None and "Connect call failed" in str(leaf):
            leaf = OSError(leaf.errno, os.strerror(leaf.errno))
        if isinstance(leaf, Exception):
            reasons.setdefault(str(leaf), leaf)
    if len(reasons) > 1:  # one for each address of the host
        return OSError("; ".join(reasons))
    return next(iter(reasons.values()), error)


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, in groups in it, and so on; an exception that is no group is its only leaf."""
    members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for member in members for leaf in leaves(member)]
