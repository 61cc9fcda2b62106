"""Makes the next connection while the one to a lame duck is still up.

A `Successor` lives for one attempt, in a task of its own: it dials, moves the bytes of `Session.successor` both ways,
and ends when the session gives the attempt up, or when the connection is to become the client's: then the transport
gets its socket.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

import nats_proto
from nats_proto import OpenSuccessor, Perform, Session, join_small_pieces

from .._message import Message
from .event_loop import MORE, OVER, QUIET, EventLoop
from .interrupt import Interrupt, interruptible

if TYPE_CHECKING:
    from .perform import Performer

__all__ = ["Successor"]


class Successor:
    """One attempt. ``settle`` is called after every change of the session, ``fail`` for a defect of the client."""

    def __init__(
        self,
        command: OpenSuccessor,
        session: Session[Message],
        loop: EventLoop,
        performer: Performer,
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
        self._performer = performer
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
        self._effects: deque[Perform] = deque()
        self._changed: anyio.Event | None = None
        """There may be something to write or to do, or it is to be adopted."""
        self._looking = False
        """Just now it looks what there is to write."""

    # --- orders ------------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """End it, now; what it has or may still have is closed."""
        self._given_up = True
        if self._scope is not None:
            self._scope.cancel()

    def adopt(self) -> None:
        """Write what was taken, then give the socket away."""
        self._adopted = True
        self.wake()

    def wake(self) -> None:
        """The session may have something for it to write."""
        if self._changed is not None and not self._looking:
            self._changed.set()

    def perform(self, command: Perform) -> None:
        """Its handshake needs this."""
        self._effects.append(command)
        self.wake()

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

    def _tell(self, mutation: Callable[[nats_proto.Successor[Message]], object]) -> bool:
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
                tasks.start_soon(self._read, sock, name="nats successor read")
                await self._write(sock, tasks)
            tasks.cancel_scope.cancel()
        return self._adopted

    async def _write(self, sock: socket.socket, tasks: TaskGroup) -> None:
        """Returns when all is written and it is adopted, or when the connection is lost."""
        while not self._given_up:
            changed = self._changed = anyio.Event()
            while self._effects:
                tasks.start_soon(self._perform, self._effects.popleft(), name="nats credentials")
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
            return self._lost(error)
        if sent == len(data):
            self._left.popleft()
        else:
            self._left[0] = memoryview(data)[sent:]
        return self._tell(lambda successor: successor.data_sent(sent))

    async def _read(self, sock: socket.socket) -> None:
        try:
            await self._loop.read(sock, lambda: self._take(sock))
        except OSError as error:  # the descriptor cannot be waited for
            self._lost(error)

    def _take(self, sock: socket.socket) -> int:
        """Give the session one chunk of what has arrived; from when it is adopted on that is for the transport."""
        if self._adopted or self._given_up:
            return OVER
        size = self._session.receive_size
        try:
            try:
                data = sock.recv(size)
            except BlockingIOError:
                return QUIET
            except OSError as error:
                self._lost(error)
                return OVER
            if not data:
                self._tell(lambda successor: successor.receive_eof(now=self._loop.now()))
                return OVER
            self._tell(lambda successor: successor.receive_data(data, now=self._loop.now()))
        except Exception as error:
            self._fail(error)
            return OVER
        return MORE if len(data) == size else QUIET

    async def _perform(self, command: Perform) -> None:
        try:
            result = await interruptible(self._performer.perform(command))
        except Interrupt:
            raise
        except Exception as error:
            failure = error
            self._session.perform_failed(command, failure, now=self._loop.now())
        else:
            self._session.performed(command, result, now=self._loop.now())
        self._settle()

    def _lost(self, error: OSError) -> bool:
        self._tell(lambda successor: successor.transport_lost(error, now=self._loop.now()))
        return False
