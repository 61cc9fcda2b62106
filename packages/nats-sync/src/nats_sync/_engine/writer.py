"""Bytes from the session to the socket, by whoever owns the writing side (`writing_side` tells who that is).

Theory of operation
-------------------
The owner takes a batch of bytes from the session, sends it without blocking, reports to the session how much of it the
system took, and goes on until nothing is left. It leaves the writing side under the same lock under which it found that
nothing was left. The writer's thread alone waits for the socket: a caller who owns the writing side gives it to that
thread as soon as the system takes no more, or when something was appended behind its own.

A publish after a `REST` is written by its caller: the messages of a program that publishes now and then wait for no
other thread. In a burst, the first message alone is written so. The writer's thread is called for the second, and by
the time it runs it finds a good part of the burst.

Who puts an object has the next chunk to hash while a large one is written, and neither needs the interpreter. So such a
caller leaves its chunks to the writer's thread (``aside`` of `Writer.do`).

Who reads many messages acknowledges them in a burst too, and writes them itself before it waits for more. There the
writer's thread makes sure only that they leave, should the reader do something else. It is not called for each of these
bursts, which would take the interpreter from the reader each time: from the first one on it looks every `WATCH`
seconds, for as long as it is relied on (`WritingSide.watched`).

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

from nats_proto import cut_pieces, join_small_pieces

from .hub import Hub
from .publishers import Turn
from .transport import Chunk, Transport
from .writing_side import NOBODY, WRITER

if TYPE_CHECKING:
    from nats_proto import Message, Session

__all__ = ["Writer"]

PAUSE: Final = 0.001
"""Seconds between two looks at a writing side that a caller keeps. Were the writer's thread called for each of the
caller's chunks instead, it would take the interpreter from the caller each time, only to find nothing to do."""

WATCH: Final = 0.005
"""Seconds between two looks of a writer's thread that is not called: in them a program reads a thousand messages."""

ROUNDS: Final = 8
"""Sends of a caller who waits for an answer, at most. The last one's own answer may be there by then."""

REST: Final = 0.00002
"""Seconds without a write after which a publish is written by its caller: to wake the writer's thread costs more than
the write. Who publishes again sooner than that has a burst to send, which the writer's thread gathers."""


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
        self._side.attend, self._side.gather, self._side.push = self.attend, self.gather, self.push
        self._transport: Transport | None = None
        """The connection that the batch is for."""
        self._chunks: list[Chunk] = []
        """What is left of the batch."""
        self._in_midst = False
        """A batch is being taken, or a report made: an interrupt would leave the session and the stream at odds."""
        self.received = 0
        """Bytes that the session was given the last time."""

    # --- for callers: have the session take something, and write it --------------------------------------------------

    def do(
        self,
        mutation: Callable[[Session[Message]], object],
        deadline: float | None = None,
        *,
        needs_room: bool = True,
        at_once: bool = True,
        aside: bool = False,
    ) -> bool:
        """Have the session take something, and write it in this thread if nobody else writes: no thread is woken.

        ``mutation`` is called under the lock, as soon as there is room in the outgoing buffer (without ``needs_room``,
        and in a signal handler that has interrupted another call: whether there is room or not). False, and it was not
        called: there was no room until ``deadline`` (absolute).
        ``at_once``: an answer is waited for. Without it this thread writes only when a whole chunk waits to be written,
        or nobody has written for a while, and leaves anything else to the writer's thread. ``aside``: it leaves all to
        that thread, since it has something else to do meanwhile. Raises what ``mutation`` raises, and what a signal
        handler raises; what the session has taken is written in both cases.
        """
        hub = self._hub
        # Asked before everything else: in a signal handler that has interrupted a write of this very thread, the
        # writing side is this thread's, but it belongs to the write below, which goes on after the handler.
        mine = self._side.owner == get_ident()
        turn: Turn | None = None
        try:
            while (claimed := self._take(mutation, turn, needs_room, at_once, aside)) is None:
                if turn is None and hub.interrupted_here():
                    # A wait would have no end: what makes room waits for the call that the handler has interrupted.
                    # `OutboundBufferLimitError` is the bound of what handlers can append.
                    needs_room = False
                elif turn is None:
                    turn = Turn()  # before it stands in the queue: an interrupt has to find it
                else:
                    turn.wait(None if deadline is None else deadline - monotonic())
                # Only after a try: what there is room for is taken even when the deadline has passed already. But not
                # after a wait: there may be room since long, and the process was stopped meanwhile.
                if deadline is not None and monotonic() >= deadline:
                    self._leave(turn)
                    return False
            if claimed:
                self.write_now(ROUNDS if at_once else 1)  # without the lock, since it calls the system
        except BaseException:
            self._leave(turn)
            if not mine:
                self.hand_over()
            with hub.lock:  # an interrupt right after the mutation: nobody else would write what it appended
                hub.see_to_writing()
            raise
        return True

    def _take(
        self,
        mutation: Callable[[Session[Message]], object],
        turn: Turn | None,
        needs_room: bool,
        at_once: bool,
        aside: bool,
    ) -> bool | None:
        """One try of `do`: whether this thread has to write now. None: there is no room, and ``turn`` has a place."""
        hub = self._hub
        with hub.lock:
            session = hub.session
            if needs_room and not session.writable:
                if turn is not None:
                    hub.publishers.enter(turn)
                return None
            mutation(session)
            if turn is not None:
                hub.publishers.discard(turn)
            # Under the same lock: nobody else can be first, and write what was taken here in our place.
            if not aside and (at_once or session.chunk_waits or self._rested()):
                return self.claim()
            hub.see_to_writing()
            return False

    def _leave(self, turn: Turn | None) -> None:
        """Not to publish: if this thread was called to publish, the next one is."""
        if turn is not None:
            with self._hub.lock:
                self._hub.publishers.leave(turn, room=self._hub.session.writable)

    def attend(self) -> None:
        """After a publish without the lock: see that somebody writes it."""
        self.do(_nothing, needs_room=False, at_once=False)

    def gather(self) -> None:
        """Before many publishes: have them written together, and not the first one alone, as after a rest.

        The caller writes them when it waits for something, or else the writer's thread, `WATCH` seconds later at most.
        """
        side = self._side
        with self._hub.lock:
            self._hub.see_to_writing_soon()
            if side.watched:
                side.gathered = side.attended = True

    def push(self) -> None:
        """After many, before a wait for what answers them: write what waits, and wake no thread for it."""
        self.do(_nothing, needs_room=False)

    def _rested(self) -> bool:
        """Under the lock: nobody writes, or will, and nobody has written for a while."""
        side = self._side
        return side.owner == NOBODY and not (side.called or side.gathered) and monotonic() - side.written >= REST

    def receive(self, data: bytes) -> bool:
        """Under the lock, by who reads: give to the session what has arrived. Whether this thread has to write now.

        What the session sends of its own accord (CONNECT, PONG) the reader writes: its thread is awake anyway.
        """
        hub = self._hub
        self.received = len(data)
        hub.session.receive_data(data, now=monotonic())
        if hub.session.only_messages:
            # Where messages come one at a time, what else could be asked for costs as much as the message.
            hub.pass_on_messages()
            return False
        claimed = self.claim()
        hub.settle()
        return claimed

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
            return self._next() is READY
        except Exception as defect:
            hub.agenda.report(defect)
            self._leave_side()
            return False

    def write_now(self, rounds: int = 1) -> None:
        """After `claim`: send what the system takes at once, so many times, and give the rest to the writer's thread.

        More than one round is for a caller who waits for an answer: what others have appended while it sent is gathered
        by then, and to wake the writer's thread for it costs more than to send it.
        """
        try:
            now = READY
            while now is READY and rounds:
                now = self._send()
                rounds -= 1
            if now is not FREE:
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
                if not self._write_all() or hub.publishers.waiting:
                    seconds = PAUSE
                else:
                    seconds = WATCH if self._side.watched else None
        except BaseException as defect:
            hub.fail(defect)

    def _write_all(self) -> bool:
        """By the writer's thread: until nothing is left. False: a caller has the writing side, so look again later."""
        side = self._side
        with self._hub.lock:
            if self._hub.publishers.waiting:
                self._hub.call_publishers()
            if side.owner == NOBODY:
                side.owner = WRITER
            elif side.owner != WRITER:
                side.called = True  # callers need not call while this thread looks
                return False
            # Before anything is taken, or a message published in between would be left to nobody.
            side.called = side.gathered = False
            # Who has relied on this look will do so again, most likely.
            side.watched, side.promised = side.promised, False
            now = self._next()
        while now is not FREE:
            transport = self._transport
            if now is BLOCKED and transport is not None:
                # Without the lock: only the owner of the writing side changes it.
                transport.wait_writable(large=self._hub.session.writes_large)
            now = self._send()
        return True

    # --- as its owner ------------------------------------------------------------------------------------------------

    def _next(self) -> _Now:
        """Under the lock: what remains of the batch, or the next one, or nothing."""
        side = self._side
        side.attended = side.called or side.gathered
        if self._chunks or self._take_batch():
            side.attended = True
            return READY
        self._leave_side()
        return FREE

    def _leave_side(self) -> None:
        side = self._side
        by_writer = side.owner == WRITER
        side.owner = NOBODY
        if self._hub.publishers.waiting and not by_writer and not side.called:
            side.call()  # perhaps no report follows: the writer's thread looks after them

    def _take_batch(self) -> bool:
        """Under the lock: whether there was anything, and a connection that can be written to."""
        transport = self._transport = self._hub.transport
        # After a failed write nothing more is taken: the session keeps it, and the manager reports the end.
        if transport is None or transport.write_error is not None:
            return False
        self._in_midst = True
        pieces = self._hub.session.data_to_send()
        if pieces:
            self._chunks = [*(pieces if len(pieces) == 1 else join_small_pieces(pieces))]
        self._in_midst = False
        return bool(pieces)

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
                    try:
                        self._report(accepted)
                    except BaseException:
                        # An interrupt before the report has begun: the batch would be sent a second time, and from its
                        # beginning, even if the system took a part of it.
                        if accepted:
                            self._report(accepted)
                        raise
                    self._side.written = monotonic()
        # Without ``send_lock``, which no thread can take twice: as soon as nobody owns the writing side, a signal
        # handler in this very thread may take it and send.
        with hub.lock:
            now = self._next()
        hub.leave()
        return BLOCKED if blocked else now

    def _report(self, accepted: list[int]) -> None:
        hub = self._hub
        with hub.lock:
            self._in_midst = True
            nbytes = accepted[0]
            del accepted[0]  # it is being reported: at no moment since the lock was taken Python looks for signals
            hub.session.data_sent(nbytes)
            chunks = self._chunks
            self._chunks = [] if len(chunks) == 1 and len(chunks[0]) == nbytes else cut_pieces(chunks, nbytes)
            self._in_midst = False
            # Nearly always nothing has followed but room.
            if not hub.session.only_written or hub.publishers.waiting:
                hub.settle()

    def _give_up(self) -> None:
        self._in_midst = False
        self._fail(OSError("a call that wrote to the connection was interrupted"))

    def _fail(self, error: OSError) -> None:
        """The manager reports the end, once it has read what the server said before it."""
        self._chunks = []
        if self._transport is not None:
            self._transport.write_error = error
            self._hub.agenda.wakeup.set()


def _nothing(session: Session[Message]) -> None:
    """What the session has to take is in its outgoing buffer already."""
