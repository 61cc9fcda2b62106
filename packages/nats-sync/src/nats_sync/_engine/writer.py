"""Bytes from the session to the socket, by whoever owns the writing side (`writing_side` tells who that is).

Theory of operation
-------------------
The owner takes a batch of bytes from the session, sends it without blocking, reports to the session how much of it the
system took, and goes on until nothing is left. It leaves the writing side under the same lock under which it found that
nothing was left. The writer's thread alone waits for the socket: a caller who owns the writing side gives it to that
thread as soon as the system takes no more, or when something was appended behind its own.

While a caller writes one chunk after the other, the writer's thread stays called and looks every `PAUSE` seconds
whether the writing side is free. So the last messages of a burst may be written that much later.

**An interrupt.** A signal handler may raise `KeyboardInterrupt` in the midst of taking a batch, or of reporting what
was sent. Then nobody can say what is in the stream. The connection is given up, and the session writes on the next one
what was not handed over to the system.

**The end of a connection.** Whether a publish was handed over decides whether it is written again on the next
connection. So a sender holds ``send_lock`` over one send, which does not block, and its report. The manager takes that
lock to close a socket and to announce the next connection. A report may come after the end of its connection, but
never after the beginning of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Final

from nats_proto import join_small_pieces

from .hub import Hub
from .transport import Chunk, Transport, cut
from .writing_side import NOBODY, WRITER

if TYPE_CHECKING:
    from nats_proto import Message, Session

__all__ = ["Writer"]

PAUSE: Final = 0.001
"""Seconds between two looks at a writing side that a caller keeps. Were the writer's thread called for each of the
caller's chunks instead, it would take the interpreter from the caller each time, only to find nothing to do."""


class _Now(Enum):
    """How the writing side is after a step of its owner."""

    FREE = auto()
    """Nothing was left, and the owner has left the writing side."""
    READY = auto()
    """There is something to send."""
    BLOCKED = auto()
    """There is something to send, and the system takes nothing at the moment."""


# By names of this module: to look a member up in its enum costs a request as much as calling a function.
FREE: Final = _Now.FREE
READY: Final = _Now.READY
BLOCKED: Final = _Now.BLOCKED


class Writer:
    """The batch that is being sent. Only the owner of the writing side touches it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._side = hub.writing
        self._transport: Transport | None = None
        """The connection that the batch is for."""
        self._chunks: list[Chunk] = []
        """What is left of the batch."""
        self._in_midst = False
        """A batch is being taken, or a report made: an interrupt would leave the session and the stream at odds."""

    # --- for callers: have the session take something, and write it --------------------------------------------------

    def do(
        self,
        mutation: Callable[[Session[Message]], object],
        deadline: float | None = None,
        *,
        needs_room: bool = True,
        at_once: bool = True,
    ) -> bool:
        """Have the session take something, and write it in this thread if nobody else writes: no thread is woken.

        ``mutation`` is called under the lock, as soon as there is room in the outgoing buffer (without ``needs_room``:
        whether there is room or not). False, and it was not called: there was no room until ``deadline`` (absolute).
        ``at_once``: an answer is waited for. Without it this thread writes only when a whole chunk waits to be written,
        and leaves anything less to the writer's thread. Raises what ``mutation`` raises, and what a signal handler
        raises; what the session has taken is written in both cases.
        """
        hub = self._hub
        # Asked before everything else: in a signal handler that has interrupted a write of this very thread, the
        # writing side is this thread's, but it belongs to the write below, which goes on after the handler.
        mine = self._side.owner == get_ident()
        claimed = False  # known before the lock is taken: an interrupt may come before `claim` is asked
        try:
            while True:
                with hub.lock:
                    session = hub.session
                    if session.writable or not needs_room:
                        mutation(session)
                        # Under the same lock: nobody else can be first, and write what was taken here in our place.
                        if at_once or session.chunk_waits:
                            claimed = self.claim()
                        else:
                            hub.see_to_writing()
                        break
                # Only after a try: what there is room for is taken even when the deadline has passed already.
                if deadline is not None and monotonic() >= deadline:
                    return False
                hub.wait_writable(deadline)
            if claimed:
                self.write_now()  # without the lock, since it calls the system
        except BaseException:
            if not mine:
                self.hand_over()
            with hub.lock:  # an interrupt right after the mutation: nobody else would write what it appended
                hub.see_to_writing()
            raise
        return True

    # --- taking the writing side -------------------------------------------------------------------------------------

    def claim(self) -> bool:
        """Under the lock: take the writing side, if it is free and there is something to write."""
        hub = self._hub
        side = self._side
        if side.owner != NOBODY or hub.transport is None:
            return False
        # Before anything is taken: a signal handler that runs in the midst of it may publish, and must not write.
        side.owner = get_ident()
        try:
            if self._take_batch():
                return True
        except Exception as defect:
            hub.agenda.report(defect)
        side.owner = NOBODY
        return False

    def write_now(self) -> None:
        """After `claim`: send what the system takes at once, and give the rest to the writer's thread."""
        try:
            if self._send() is not FREE:
                self.hand_over()
        except Exception as defect:
            # Not raised: the call waits for an answer, and learns of the defect by the end of the client.
            self._hub.agenda.report(defect)
            self.hand_over()

    def hand_over(self) -> None:
        """Give the writing side to the writer's thread, if this thread has it. Also after a `KeyboardInterrupt`."""
        if self._side.owner == get_ident():
            if self._in_midst:
                self._give_up()
            self._side.give_to_writer()

    def run(self) -> None:
        """The writer's thread."""
        hub = self._hub
        try:
            seconds: float | None = None
            while self._side.called_within(seconds):
                seconds = None if self._write_all() else PAUSE
        except BaseException as defect:
            hub.fail(defect)

    def _write_all(self) -> bool:
        """By the writer's thread: until nothing is left. False: a caller has the writing side, so look again later."""
        side = self._side
        with self._hub.lock:
            if side.owner == NOBODY:
                side.owner = WRITER
            elif side.owner != WRITER:
                return False  # `called` stays True: callers need not call again while this thread looks
            # Before anything is taken, or a message published in between would be left to nobody.
            side.called = False
            now = self._next()
        while now is not FREE:
            transport = self._transport
            if now is BLOCKED and transport is not None:
                transport.wait_writable()
            now = self._send()
        return True

    # --- as its owner ------------------------------------------------------------------------------------------------

    def _next(self) -> _Now:
        """Under the lock: what remains of the batch, or the next one, or nothing."""
        if self._chunks or self._take_batch():
            return READY
        self._side.owner = NOBODY
        return FREE

    def _take_batch(self) -> bool:
        """Under the lock: whether there was anything, and a connection that can be written to."""
        transport = self._transport = self._hub.transport
        # After a failed write nothing more is taken: the session keeps it, and the manager reports the end.
        if transport is None or transport.write_error is not None:
            return False
        self._in_midst = True
        self._chunks = [*join_small_pieces(self._hub.session.data_to_send())]
        self._in_midst = False
        return bool(self._chunks)

    def _send(self) -> _Now:
        """Send once, without blocking."""
        hub = self._hub
        transport = self._transport
        accepted: list[int] = []
        blocked = False
        with self._side.send_lock:
            try:
                # Looked at without the hub's lock: if the session gives the connection up right now, the manager still
                # waits for `send_lock` before it closes the socket.
                if transport is not None and transport is hub.transport:
                    transport.send(self._chunks, accepted)
                else:
                    self._chunks = []  # their connection has ended, and the session still has what was not reported
            except BlockingIOError:
                blocked = True
            except OSError as error:
                self._fail(error)
            finally:
                # Also when an interrupt follows the send: a publish whose bytes were accepted and not reported would be
                # sent a second time on the next connection.
                if accepted:
                    self._report(accepted[0])
        # Without ``send_lock``, which no thread can take twice: as soon as nobody owns the writing side, a signal
        # handler in this very thread may take it and send.
        with hub.lock:
            now = self._next()
        hub.leave()
        return BLOCKED if blocked else now

    def _report(self, nbytes: int) -> None:
        with self._hub.lock:
            self._in_midst = True
            self._hub.session.data_sent(nbytes)
            self._chunks = cut(self._chunks, nbytes)
            self._in_midst = False
            self._hub.settle()

    def _give_up(self) -> None:
        self._in_midst = False
        self._fail(OSError("a call that wrote to the connection was interrupted"))

    def _fail(self, error: OSError) -> None:
        """The manager reports the end, once it has read what the server said before it."""
        self._chunks = []
        if self._transport is not None:
            self._transport.write_error = error
            self._hub.agenda.wakeup.set()
