"""Makes the next connection while the one to a lame duck is still up.

A `Successor` lives for one attempt, in a task of its own: it dials, moves the bytes of `Session.successor` both ways,
and ends when the session gives the attempt up, or when the connection is to become the client's: then the manager gets
its socket.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

import nats_proto
from nats_proto import OpenSuccessor, Perform, Session, join_small_pieces

from .effects import Effects
from .event_loop import EventLoop
from .message_type import MessageT
from .reader import Reader

__all__ = ["Successor"]


class Successor(Generic[MessageT]):
    """One attempt. ``settle`` is called after every change of the session, ``fail`` for a defect of the client."""

    def __init__(
        self,
        command: OpenSuccessor,
        session: Session[MessageT],
        loop: EventLoop,
        effects: Effects[MessageT],
        *,
        dial: Callable[[str, int], Awaitable[socket.socket]],
        open_sockets: set[socket.socket],
        settle: Callable[[], None],
        fail: Callable[[Exception], None],
        hand_over: Callable[[socket.socket], None],
    ) -> None:
        self._command = command
        self._session = session
        self._loop = loop
        self._effects = effects
        self._dial = dial
        self._open_sockets = open_sockets
        self._settle = settle
        self._fail = fail
        self._hand_over = hand_over
        self._given_up = False
        self._adopted = False
        self._scope: CancelScope | None = None
        """Around its task. Events and scopes are not made before that runs: on asyncio, orders may come outside of any
        task."""
        self._left: deque[bytes | memoryview] = deque()
        """Taken from the session, and not yet taken by the system."""
        self._wanted: deque[Perform] = deque()
        """What the handshake needs, and nobody does yet."""
        self._reader: Reader | None = None
        """Of the connection, while it reads for this attempt."""
        self._changed: anyio.Event | None = None
        """There may be something to write or to do, or the connection is to be handed over."""
        self._looking = False
        """Just now it looks what there is to write: the session need not say that there is something."""

    # --- orders ------------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """End it, now; what it has or may still have is closed."""
        self._given_up = True
        self._stop_reading()
        if self._scope is not None:
            self._scope.cancel()

    def adopt(self) -> None:
        """Write what was taken, then give the socket away. What arrives from now on is for who gets it."""
        self._adopted = True
        self._stop_reading()
        self.wake()

    def wake(self) -> None:
        """The session may have something for it to write."""
        if self._changed is not None and not self._looking:
            self._changed.set()

    def perform(self, command: Perform) -> None:
        """Its handshake needs this."""
        self._wanted.append(command)
        self.wake()

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.stop()

    # --- its task ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the attempt has ended, one way or the other."""
        with CancelScope() as self._scope:
            if self._given_up:
                return
            try:
                sock = await self._dial(*self._command.address)
            except Exception as error:
                failure = error
                self._tell(lambda successor: successor.transport_failed(failure, now=self._loop.now()))
                return
            done = False
            self._open_sockets.add(sock)
            try:
                done = await self._use(sock)
            finally:
                self._open_sockets.discard(sock)
                if not done or self._given_up:
                    sock.close()
            if done and not self._given_up:
                self._hand_over(sock)

    def _tell(self, mutation: Callable[[nats_proto.Successor[MessageT]], object]) -> bool:
        """One change of the session's successor, if that is still what is made here: whether it is."""
        successor = self._session.successor
        if successor is not None and not self._given_up:
            mutation(successor)
            self._settle()
        return not self._given_up

    async def _use(self, sock: socket.socket) -> bool:
        """Whether it is to be handed over."""
        async with anyio.create_task_group() as tasks:
            if self._tell(lambda successor: successor.transport_connected(now=self._loop.now())):
                reader = self._reader = self._read_from(sock)
                tasks.start_soon(reader.run, name="nats successor read")
                await self._write(sock, tasks)
            tasks.cancel_scope.cancel()
        return self._adopted

    async def _write(self, sock: socket.socket, tasks: TaskGroup) -> None:
        """Returns when all is written and it is adopted, or when the connection is lost."""
        while not self._given_up:
            # Made before anybody looks what there is, so that nothing is missed that comes while one piece is sent.
            changed = self._changed = anyio.Event()
            while self._wanted:
                perform = partial(self._effects.perform, self._wanted.popleft(), tasks, lambda: self._given_up)
                tasks.start_soon(perform, name="nats credentials")
            if not self._left:
                self._looking = True
                self._tell(lambda successor: self._left.extend(join_small_pieces(successor.data_to_send())))
                self._looking = False
            if self._left:
                if not await self._send(sock):
                    return
            elif self._adopted:
                return
            else:
                await changed.wait()

    async def _send(self, sock: socket.socket) -> bool:
        """One piece, as far as the system takes it: False when the connection is lost."""
        data = self._left[0]
        try:
            sent = sock.send(data)
        except BlockingIOError:
            await anyio.wait_writable(sock)
            return True
        except OSError as error:
            self._lost(error)
            return False
        if sent == len(data):
            self._left.popleft()
        else:
            self._left[0] = memoryview(data)[sent:]
        return self._tell(lambda successor: successor.data_sent(sent))

    def _read_from(self, sock: socket.socket) -> Reader:
        return Reader(
            sock,
            self._loop,
            self._session,
            receive=lambda data: self._tell(lambda successor: successor.receive_data(data, now=self._loop.now())),
            end=lambda: self._tell(lambda successor: successor.receive_eof(now=self._loop.now())),
            lost=self._lost,
            fail=self._fail,
        )

    def _lost(self, error: Exception) -> None:
        self._tell(lambda successor: successor.transport_lost(error, now=self._loop.now()))
