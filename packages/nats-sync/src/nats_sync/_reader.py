"""The thread that does what the session commands: dial, wait, read, close. It also keeps the session's time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Final

from nats_proto import CloseTransport, OpenTransport, Perform, SessionStatus

from ._delays import Delays
from ._dial import Dialler, Interrupted
from ._perform import Performer
from ._pump import Pump
from ._transport import Transport

if TYPE_CHECKING:
    from ._writer import Writer

__all__ = ["Reader"]

SEND_LIMIT: Final = 1.0
"""Seconds that a thread may take between two steps of a send before it is not waited for."""
LEADER_PAUSE: Final = 0.001
"""Seconds that a caller who leads may go on when the session's time is up."""
MAX_READS: Final = 16
"""Full buffers read before commands and time are looked at."""


class Reader:
    """One thread for the whole life of a client: a reconnect is another round of its loop."""

    def __init__(self, pump: Pump, writer: Writer, performer: Performer, name: str, delays: Delays | None) -> None:
        self._pump = pump
        self._writer = writer
        self._dialler = Dialler(pump.wakeup, lambda: bool(pump.commands), f"{name}-resolver")
        self._performer = performer
        self._delays = delays
        self._opening: OpenTransport | None = None
        self._transport: Transport | None = None
        """The one that is open; the pump's is None as soon as the session has given it up."""

    def run(self) -> None:
        """The reader's thread."""
        pump = self._pump
        pump.reader_ident = get_ident()
        try:
            while self._step():
                pass
        except BaseException:
            # A fault of this program: nobody may be left waiting for a thread that is gone.
            pump.call(lambda: pump.session.close(now=monotonic()))
            raise
        finally:
            self._close_transport()
            pump.writer_wakes.put(False)
            self._performer.stop()
            self._dialler.close()
            pump.reading.close()
            pump.wakeup.close()

    def close_copies(self) -> None:
        """In a forked child: close the descriptors it inherited."""
        if self._transport is not None:
            self._transport.close_copy()
        self._dialler.close_copies()

    # --- one round ---------------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Do what is next: whether there will be more."""
        pump = self._pump
        if pump.commands or pump.closed is not None:
            with pump.lock:
                commands = list(pump.commands)
                pump.commands.clear()
                closed = pump.closed is not None
            for command in commands:
                match command:
                    case OpenTransport():
                        self._opening = command
                    case CloseTransport():
                        self._close_transport()
                    case Perform():
                        self._performer.perform(command)
            if closed:
                return False
        if pump.abandoned:
            pump.end_abandoned()
        # Read without the lock: whoever makes it earlier sets the wakeup afterwards.
        deadline = pump.deadline
        now = monotonic()
        if deadline is not None and now >= deadline:
            # A process that was stopped for a while finds the PONG here; a caller who leads lets us look in a moment.
            if self._transport is not None and not self._read(self._transport):
                self._wait(LEADER_PAUSE)
                return True
            pump.call(lambda: pump.session.handle_timeout(now=now))
        elif self._opening is not None:
            self._open(self._opening, now, deadline)
        elif self._wait(None if deadline is None else deadline - now) and self._transport is not None:
            self._read(self._transport)
        return True

    def _wait(self, seconds: float | None) -> bool:
        """Wait for the socket, a wakeup or the time: whether there is something to read, or to find out by reading."""
        arrived = self._pump.reading.wait(seconds)
        return arrived or (self._transport is not None and self._transport.write_error is not None)

    def _close_transport(self) -> None:
        self._opening = None
        if self._transport is not None:
            self._pump.reading.unwatch()
            with self._nobody_sends():
                self._transport.abandon()
            self._transport = None

    @contextmanager
    def _nobody_sends(self) -> Generator[None]:
        """Hold ``send_lock``. Sends do not block; who has it for long is interrupted by a signal handler that waits."""
        held = self._pump.send_lock.acquire(timeout=SEND_LIMIT)
        try:
            yield
        finally:
            if held:
                self._pump.send_lock.release()

    # --- dialling ----------------------------------------------------------------------------------------------------

    def _open(self, command: OpenTransport, now: float, deadline: float | None) -> None:
        if self._ask_for_delay(command.round):
            return
        if command.at > now:
            self._wait((command.at if deadline is None else min(command.at, deadline)) - now)
            return
        failure: OSError | None = None
        transport: Transport | None = None
        try:
            transport = Transport(self._dialler.dial(*command.address, command.deadline))
        except OSError as error:
            failure = error
        except Interrupted:
            return
        pump = self._pump
        with self._nobody_sends(), pump.lock:
            wanted = not pump.commands
            if wanted:
                self._opening = None
                if transport is not None:
                    pump.transport = transport
                    pump.session.transport_connected(now=monotonic())
                elif failure is not None:
                    pump.session.transport_failed(failure, now=monotonic())
                pump.drain()
                pump.give_to_writer()  # with TLS first, or a proxy, we speak first
        pump.leave()
        if transport is not None and wanted:
            self._transport = transport
            pump.reading.watch(transport)
        elif transport is not None:
            transport.abandon()

    def _ask_for_delay(self, rounds: int) -> bool:
        """Before a dial of a reconnect: whether user code ran, after which everything may be different."""
        session = self._pump.session
        if self._delays is None or session.status is not SessionStatus.RECONNECTING:
            return False
        return self._delays.prepare(session.stats.reconnects, rounds)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, transport: Transport) -> bool:
        """Take what has arrived, unless a caller leads: False."""
        reading = self._pump.reading
        if not reading.begin():
            return False
        try:
            self._take_all(transport)
        finally:
            reading.end()
        return True

    def _take_all(self, transport: Transport) -> None:
        """Again when the buffer was full, since there is probably more; and after what a caller has left to us."""
        pump = self._pump
        left = pump.reading.left()
        for _ in range(MAX_READS):
            if transport is not pump.transport:
                return
            size = pump.session.receive_size
            try:
                data = transport.receive(size) if left is None else _result(left)
            except BlockingIOError:
                if transport.write_error is not None:
                    self._lost(transport, transport.write_error)
                return
            except OSError as error:
                self._lost(transport, error)
                return
            if not data:
                self._end(transport, lambda: pump.session.receive_eof(now=monotonic()))
                return
            self._receive(transport, data)
            if left is None and len(data) < size:
                return
            left = None

    def _receive(self, transport: Transport, data: bytes) -> None:
        pump = self._pump
        claimed = False
        with pump.lock:
            if transport is pump.transport:
                pump.session.receive_data(data, now=monotonic())
                claimed = self._writer.claim()
                pump.drain()
        pump.leave()
        if claimed:
            self._writer.write_now()

    def _lost(self, transport: Transport, error: OSError) -> None:
        self._end(transport, lambda: self._pump.session.transport_lost(error, now=monotonic()))

    def _end(self, transport: Transport, mutation: Callable[[], None]) -> None:
        """The connection ended, unless the session gave it up before."""
        self._pump.call(lambda: mutation() if transport is self._pump.transport else None)


def _result(received: bytes | OSError) -> bytes:
    if isinstance(received, OSError):
        raise received
    return received
