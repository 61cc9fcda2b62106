"""The connection's manager: the thread that dials, reads, closes and reconnects, as the session commands.

It also keeps the session's time. A reconnect starts no thread: it is another round of the same loop.

    a round:  commands of the session ─▶ what nobody can reach any more ─▶ the time is up?  ─▶ tell the session
                                                                          ─▶ dial, if that was commanded
                                                                          ─▶ else sleep, and read what has arrived
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final, assert_never

from nats_proto import (
    AdoptSuccessor,
    CloseSuccessor,
    CloseTransport,
    Command,
    OpenSuccessor,
    OpenTransport,
    Perform,
)

from .agenda import Defect
from .dial import Dialler, Interrupted
from .hub import Hub
from .perform import Performer
from .transport import Transport

if TYPE_CHECKING:
    from .successor import Successor
    from .turns import Turns
    from .writer import Writer

__all__ = ["Manager"]

SEND_LIMIT: Final = 1.0
"""Seconds to wait for a thread that is sending. It needs far less, unless a signal handler holds it up."""
LEADER_PAUSE: Final = 0.001
"""Seconds that the manager waits for a caller who leads, before it looks again whether it may read."""
MAX_READS: Final = 16
"""Full buffers read before commands and time are looked at."""


class Manager:
    """Of one client, for its whole life."""

    def __init__(self, hub: Hub, writer: Writer, turns: Turns, performer: Performer, name: str) -> None:
        self._hub = hub
        self._agenda = agenda = hub.agenda
        self._writer = writer
        self._turns = turns
        self.dialler = Dialler(agenda.wakeup, lambda: bool(agenda.commands), f"{name}-resolver")
        self._performer = performer
        self._name = name
        self._opening: OpenTransport | None = None
        self.successor: Successor | None = None
        """Who makes the next connection while a lame duck's is still up."""
        self.transport: Transport | None = None
        """The one that is open; the hub's is None as soon as the session has given it up."""

    def run(self) -> None:
        """Its thread."""
        hub = self._hub
        self._agenda.begin()
        try:
            while self._step():
                pass
        except BaseException as defect:
            hub.fail(defect)
        for end in (
            self._turns.waking.finish,
            self._give_up_successor,
            self._close_transport,
            self._performer.stop,
            self.dialler.close,
            self._turns.close,
        ):
            # Each by itself: a defect in one of these steps must not leave the others undone.
            try:
                end()
            except BaseException as defect:
                hub.fail(defect)
        hub.writing.end()
        self._agenda.wakeup.close()

    # --- one round ---------------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Do what is next: whether there will be more."""
        hub, agenda = self._hub, self._agenda
        if agenda.commands or hub.closed is not None:
            self._turns.waking.finish()
            with hub.lock:
                commands = agenda.take()
                # Under the same lock as the commands: those that the session gave with its end are still carried out.
                closed = hub.closed is not None
            for command in commands:
                self._run_command(command)
            if closed:
                return False
        if self.successor is not None and self.successor.transport is not None:
            self._turns.waking.finish()
            self._adopt(self.successor, self.successor.transport)
        if agenda.abandoned:
            hub.end_abandoned()
        # Read without the lock: whoever makes it earlier wakes this thread afterwards.
        deadline = agenda.deadline
        now = monotonic()
        if deadline is not None and now >= deadline:
            # The time may be up because the whole process was stopped for a while. The PONG that the session misses has
            # arrived long since then, so it is read before. A caller who leads lets this thread read in a moment.
            if self.transport is not None and not self._read(self.transport):
                self._wait(LEADER_PAUSE)
                return True
            hub.call(lambda: hub.session.handle_timeout(now=now))
        elif self._opening is not None:
            self._turns.waking.finish()
            self._open(self._opening, now, deadline)
        elif self._wait(None if deadline is None else deadline - now) and self.transport is not None:
            self._read(self.transport)
        return True

    def _run_command(self, command: Command | Defect) -> None:
        match command:
            case OpenTransport():
                self._opening = command
            case CloseTransport():
                self._close_transport()
            case OpenSuccessor():
                self._open_successor(command)
            case CloseSuccessor():
                self._give_up_successor()
            case AdoptSuccessor():
                self._close_transport()
                if self.successor is not None:
                    self.successor.adopt()
            case Perform():
                self._performer.perform(command)
            case Defect():
                raise command.raised
            case _:
                assert_never(command)

    def _wait(self, seconds: float | None) -> bool:
        """Wait for the socket, a wakeup or the time: whether there is something to read, or to find out by reading."""
        arrived = self._turns.wait(seconds)
        return arrived or (self.transport is not None and self.transport.write_error is not None)

    def _close_transport(self) -> None:
        self._opening = None
        transport, self.transport = self.transport, None
        if transport is not None:
            try:
                self._turns.unwatch()
            finally:
                with self._nobody_sends():
                    transport.abandon()

    @contextmanager
    def _nobody_sends(self) -> Generator[None]:
        """Hold ``send_lock``, but do not wait for it without end.

        A send does not block. A thread that has the lock for long is in a signal handler, which may wait for us.
        """
        held = self._hub.writing.send_lock.acquire(timeout=SEND_LIMIT)
        try:
            yield
        finally:
            if held:
                self._hub.writing.send_lock.release()

    # --- the successor of a connection -------------------------------------------------------------------------------

    def _open_successor(self, command: OpenSuccessor) -> None:
        from .successor import Successor  # only who meets a lame duck pays for loading it

        self._give_up_successor()
        hub = self._hub
        successor = Successor(hub, command, f"{self._name}-successor")
        with hub.lock:
            # A later command is the session's last word: this attempt was given up before it began, and must not
            # be announced as the present one.
            if any(isinstance(later, (OpenSuccessor, CloseSuccessor)) for later in self._agenda.commands):
                return
            hub.successor = successor
        self.successor = successor
        try:
            successor.start()
        except RuntimeError as error:  # the system gives no more threads: that attempt has failed, not the client
            failure = OSError(f"no thread to make the next connection in: {error}")
            hub.call(lambda: self._fail_successor(successor, failure))

    def _fail_successor(self, successor: Successor, failure: OSError) -> None:
        of_session = self._hub.session.successor
        if self._hub.successor is successor and of_session is not None:
            of_session.transport_failed(failure, now=monotonic())

    def _give_up_successor(self) -> None:
        successor, self.successor = self.successor, None
        if successor is None:
            return
        successor.give_up()
        with self._hub.lock:
            # Its thread hands nothing over from now on. What it has handed over before, nobody else would close.
            if self._hub.successor is successor:
                self._hub.successor = None
            left = successor.transport
        if left is not None:
            left.abandon()

    def _adopt(self, successor: Successor, transport: Transport) -> None:
        """The successor's thread has ended and left its transport: it is the client's now."""
        hub = self._hub
        self.successor = None
        wanted = False
        try:
            with self._nobody_sends(), hub.lock:
                wanted = hub.successor is successor
                if wanted:
                    hub.successor = None
                    hub.transport = transport
                    hub.session.transport_adopted(now=monotonic())
                    hub.settle()
                    hub.see_to_writing()
            hub.leave()
            if wanted:
                self._turns.watch(transport)
                self.transport = transport
        finally:
            if self.transport is not transport:  # it was given up meanwhile, or there was a defect
                transport.abandon()

    # --- dialling ----------------------------------------------------------------------------------------------------

    def _open(self, command: OpenTransport, now: float, deadline: float | None) -> None:
        if command.at > now:
            self._wait((command.at if deadline is None else min(command.at, deadline)) - now)
            return
        outcome = self._dial(command)
        if outcome is None:
            return
        transport = outcome if isinstance(outcome, Transport) else None
        hub = self._hub
        wanted = False
        try:
            with self._nobody_sends(), hub.lock:
                wanted = not self._agenda.commands
                if wanted:
                    self._opening = None
                    if isinstance(outcome, Transport):
                        hub.transport = outcome
                        hub.session.transport_connected(now=monotonic())
                    else:
                        hub.session.transport_failed(outcome, now=monotonic())
                    hub.settle()
                    hub.see_to_writing()  # with TLS first, or through a proxy, the client speaks first
            hub.leave()
            if transport is not None and wanted:
                self._turns.watch(transport)
                self.transport, transport = transport, None
        finally:
            if transport is not None:  # a later command has given it up, or there was a defect
                transport.abandon()

    def _dial(self, command: OpenTransport) -> Transport | Exception | None:
        """What was connected, or why not. None: the dial was given up, and the session says what follows."""
        try:
            sock = self.dialler.dial(*command.address, command.deadline)
        except Interrupted:
            return None
        except Exception as error:  # a resolver may raise anything
            return error
        try:
            return Transport(sock)
        except BaseException:
            sock.close()
            raise

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, transport: Transport) -> bool:
        """Take what has arrived, unless a caller leads: False."""
        if not self._turns.begin():
            return False
        self._take_all(transport)
        return True

    def _take_all(self, transport: Transport) -> None:
        """First what a leader has left. Again when the buffer was full, since there is probably more."""
        hub = self._hub
        left = self._turns.left()
        for _ in range(MAX_READS):
            # What was received may have made the session give the connection up: the rest is for nobody.
            if transport is not hub.transport:
                return
            size = hub.session.receive_size
            try:
                data = transport.receive(size) if left is None else _result(left)
            except BlockingIOError:
                # Only when nothing is left to read: the server may have said in an -ERR why it ends the connection.
                if transport.write_error is not None:
                    self._lost(transport, transport.write_error)
                return
            except OSError as error:
                self._lost(transport, error)
                return
            if not data:
                self._end(transport, lambda: hub.session.receive_eof(now=monotonic()))
                return
            self._receive(transport, data)
            # A buffer that was not filled has emptied the socket: one call more would only find that out.
            if left is None and len(data) < size:
                break
            left = None
        if transport.write_error is not None:
            self._agenda.wakeup.set()  # the one that told of it may be over

    def _receive(self, transport: Transport, data: bytes) -> None:
        hub = self._hub
        claimed = False
        with hub.lock:
            if transport is hub.transport:
                claimed = self._writer.receive(data)
        self._turns.waking.begin()
        hub.leave()
        if claimed:
            self._writer.write_now()

    def _lost(self, transport: Transport, error: OSError) -> None:
        self._end(transport, lambda: self._hub.session.transport_lost(error, now=monotonic()))

    def _end(self, transport: Transport, mutation: Callable[[], None]) -> None:
        """The connection ended, unless the session gave it up before."""
        self._hub.call(lambda: mutation() if transport is self._hub.transport else None)


def _result(received: bytes | OSError) -> bytes:
    if isinstance(received, OSError):
        raise received
    return received
