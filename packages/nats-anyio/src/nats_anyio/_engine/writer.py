"""Writes to the connection what the session wants to send: in batches, and as much as the system takes.

Theory of operation
-------------------
Everything is written by calls that do not wait, each followed by its report (`Session.data_sent`), with nothing in
between. So whatever is cancelled whenever, the session knows to the byte what was handed over. Only the writer's task
waits for the system to take more.

What somebody waits for is written by who asks for it, at once (`Writer.write_now`): to wake the writer's task would
take a turn of the loop. All else is left to that task, which joins what came together, but for a publish that comes
alone: that is written by its caller as well (`Writer.write_publish`). When a publish comes, nobody knows yet whether
others follow. It is taken to be alone when nothing was written for `REST` seconds, unless the last one that was left to
the writer's task turned out not to be. So of bursts that follow one another only the first begins with a write of its
own.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, assert_never

import anyio
import anyio.lowlevel

from nats_proto import MAX_PIECES, HeadersLike, Session, accelerated, cut_pieces, join_small_pieces

from .event_loop import EventLoop, Wait
from .message_type import MessageT
from .unsent import UnsentLimit

__all__ = ["Writer"]

QuickPublish = Callable[[str, bytes | bytearray | memoryview, str | None, HeadersLike | None], bool]

REST: Final = 20e-6
"""Seconds. A call that writes takes about as long, so to write a second one at once would double the time of both."""
GATHERS: Final = hasattr(socket.socket, "sendmsg")
"""The system takes several pieces at once; Windows does not."""


class _Now(Enum):
    """How writing is after a batch."""

    SENT = auto()
    """The system took all of it; there may be more."""
    BLOCKED = auto()
    """There is more to write, and the system takes nothing for now."""
    OVER = auto()
    """The connection has ended: what there is to write is for the next one."""


class Writer(Generic[MessageT]):
    """Of one client, for one connection after the other: between `close` and the next `open` nothing is written.

    ``written`` is called after each report of what was written, ``lost`` when the connection is broken, ``fail`` for a
    defect of the client that shows in somebody else's task.
    """

    def __init__(
        self,
        session: Session[MessageT],
        loop: EventLoop,
        *,
        written: Callable[[], None],
        lost: Callable[[Exception], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._session = session
        self._loop = loop
        self._written = written
        self._lost = lost
        self._fail = fail
        self.publish_quickly = self._quick(session)
        """What `Session.publish_quickly` does; harmless when it is called by a thread that must not."""
        self.idle: Wait | None = None
        """The writer's task has nothing to do and waits for this. None: it looks by itself, or there is no task."""
        self._sock: socket.socket | None = None
        """The connection's; None when there is none."""
        self._blocked = False
        """The writer's task waits for the system."""
        self._gathers = False
        """The last publish that was left to the writer's task had others behind it."""
        self._written_at = 0.0
        """When something was written last. Of the system's clock: those of some loops stand still during a turn."""
        self._woken_with = -1
        """Bytes that waited to be written when a publish has woken the writer's task; -1: something else has."""
        self._batch: list[bytes] = []
        """Taken from the session."""
        self._left: list[bytes | memoryview] = []
        """Taken from the session and joined, but not yet taken by the system."""

    def replace_session(self, session: Session[MessageT]) -> None:
        """Publishes go to this session, which has ended, and refuses them. The connection was closed before."""
        self._session = session
        self.publish_quickly = self._quick(session)

    def _quick(self, session: Session[MessageT]) -> QuickPublish:
        quick = session.publish_quickly
        if accelerated:
            return quick

        def carefully(
            subject: str, data: bytes | bytearray | memoryview, reply: str | None, headers: HeadersLike | None
        ) -> bool:
            return self._loop.running() is self._loop.home and quick(subject, data, reply, headers)

        return carefully

    # --- the connection ----------------------------------------------------------------------------------------------

    def open(self, sock: socket.socket) -> None:
        """There is a connection; `run` follows."""
        self._sock = sock

    def close(self) -> None:
        """Write nothing more. The session knows what was not handed over, and so does not need what is left here."""
        self._sock = self.idle = None
        self._batch = []
        self._left.clear()

    # --- what there is to write --------------------------------------------------------------------------------------

    def give(self, pieces: list[bytes]) -> None:
        """Have the writer's task write this. Call it only when that task is idle."""
        if pieces:
            self._batch += pieces
            self.wake()

    def wake(self) -> None:
        """Have the writer's task look for something to write. Harmless when it is not idle."""
        idle, self.idle = self.idle, None
        if idle is not None:
            self._loop.end_wait(idle)

    def write_publish(self) -> None:
        """After a publish that found the writer's task idle: write it, or have it written with those that follow."""
        if not self._gathers and time.monotonic() - self._written_at > REST:
            self.write_now()
        else:
            self._woken_with = self._session.pending_bytes
            self.wake()

    def write_now(self) -> None:
        """Write what there is, as far as the system takes it at once; the rest is left to the writer's task."""
        sock = self._sock
        if sock is None or self._blocked:
            return  # the next connection gets it; or the writer's task goes on with it when the system is ready
        try:
            now = self._send(sock)
            # What the connection itself has to say need not be looked for: `give` follows where it comes about.
            if now is _Now.BLOCKED or (now is _Now.SENT and self._session.pending_bytes):
                self.wake()
        except Exception as error:
            # Whoever has published or asked is not who is to blame for a defect, and so must not be the one who gets
            # it.
            self._fail(error)

    # --- the writer's task -------------------------------------------------------------------------------------------

    async def run(self, sock: socket.socket) -> None:
        """Write until the connection is lost."""
        unsent = UnsentLimit(sock)
        while True:
            now = self._send(sock)
            match now:
                case _Now.SENT:
                    self._batch += self._session.data_to_send()
                    if self._batch:
                        # A system that takes everything at once would never let this task wait, and nobody else would
                        # run.
                        await anyio.lowlevel.checkpoint()
                    else:
                        await self._wait_for_more()
                case _Now.BLOCKED:
                    self._blocked = True
                    try:
                        unsent.follow(self._session.writes_large)
                        await anyio.wait_writable(sock)
                    except Exception as error:  # whatever it may be, the session makes a new connection
                        self._lost(error)
                        return
                    finally:
                        self._blocked = False
                case _Now.OVER:
                    await anyio.sleep_forever()  # this task is cancelled with its connection
                case _:
                    assert_never(now)

    async def _wait_for_more(self) -> None:
        idle = self.idle = self._loop.new_wait()
        # A publish of another thread, although forbidden, may have come before this task was idle. Then it has woken
        # nobody, and so it is looked for here.
        if self._session.pending_bytes:
            self.give(self._session.data_to_send())
        self._woken_with = -1
        await idle
        if self._woken_with >= 0:
            self._gathers = self._session.pending_bytes != self._woken_with

    def _send(self, sock: socket.socket) -> _Now:
        """Give the system one batch, as far as it takes it without waiting."""
        session = self._session
        left = self._left
        if not left:
            pieces = session.data_to_send()
            if self._batch:
                pieces = [*self._batch, *pieces]
                self._batch = []
            left.extend(pieces if len(pieces) == 1 else join_small_pieces(pieces))
        while left:
            try:
                one = len(left) == 1 or not GATHERS
                sent = sock.send(left[0]) if one else sock.sendmsg(left[:MAX_PIECES])
            except BlockingIOError:
                return _Now.BLOCKED
            except OSError as error:
                self._lost(error)
                return _Now.OVER
            # In place, since the report may end the connection and clear it.
            left[:] = () if one and sent == len(left[0]) and len(left) == 1 else cut_pieces(left, sent)
            session.data_sent(sent)
            self._written()
        self._written_at = time.monotonic()
        return _Now.SENT if sock is self._sock else _Now.OVER  # the report may have ended this connection
