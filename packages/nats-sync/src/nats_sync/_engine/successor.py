"""The thread that makes the next connection while the one to a lame duck is still up.

It lives for one attempt: it dials, moves the bytes of `Session.successor` both ways, and ends when the session gives
the attempt up, or when the connection is to become the client's: then the manager gets its transport. The session is
touched under the hub's lock, as by every other thread, and only while the hub says that this attempt counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from nats_proto import OpenSuccessor, cut_pieces, join_small_pieces

from .dial import Dialler, Interrupted
from .hub import Hub
from .polling import READABLE, WRITABLE, close_poll, new_poll
from .transport import Chunk, Transport
from .wakeup import Wakeup

if TYPE_CHECKING:
    import nats_proto
    from nats_proto import Message

__all__ = ["Successor"]


class Successor:
    """One attempt. Made, started, told to adopt and given up by the manager's thread."""

    def __init__(self, hub: Hub, command: OpenSuccessor, name: str) -> None:
        self._hub = hub
        self._command = command
        self.wakeup = Wakeup()
        self.dialler = Dialler(self.wakeup, lambda: self._given_up, f"{name}-resolver")
        self._given_up = False
        self._adopted = False
        self.unfinished: Transport | None = None
        """The connection that is being made; nobody else's yet."""
        self._chunks: list[Chunk] = []
        """Taken from the session, and not yet accepted by the system."""
        self.transport: Transport | None = None
        """What the manager is to adopt, once it is there."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Raises `RuntimeError` when the system gives no more threads."""
        self._thread.start()

    def adopt(self) -> None:
        """Write what was taken, then give the transport to the manager."""
        self._adopted = True
        self.wakeup.set()

    def give_up(self) -> None:
        """End it, now; what it has or may still have is closed."""
        self._given_up = True
        self.wakeup.set()

    def wake(self) -> None:
        """Under the lock: the session may have something for it to write."""
        if threading.current_thread() is not self._thread:
            self.wakeup.set()

    # --- its thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        hub = self._hub
        try:
            if self._connect():
                self._move_bytes()
        except BaseException as defect:
            hub.fail(defect)
        finally:
            self.dialler.close()
            transport, self.unfinished = self.unfinished, None
            if transport is not None:
                with hub.lock:
                    # Under the lock: as soon as the session has given this attempt up, the hub's successor is another
                    # one or None, and nothing may be handed over.
                    handed_over = self._adopted and hub.successor is self
                    if handed_over:
                        self.transport = transport
                if handed_over:
                    hub.agenda.wakeup.set()
                else:
                    transport.abandon()
            self.wakeup.close()

    def _tell(self, mutation: Callable[[nats_proto.Successor[Message]], object]) -> bool:
        """One change of the session's successor, unless the session has given this attempt up: False then."""
        hub = self._hub
        with hub.lock:
            successor = hub.session.successor if hub.successor is self else None
            if successor is not None:
                mutation(successor)
                hub.settle()
                hub.see_to_writing()
            mine = hub.successor is self
        hub.leave()
        return mine

    def _connect(self) -> bool:
        try:
            sock = self.dialler.dial(*self._command.address, self._command.deadline)
        except Interrupted:
            return False
        except Exception as error:
            failure = error
            self._tell(lambda successor: successor.transport_failed(failure, now=monotonic()))
            return False
        self.unfinished = Transport(sock)
        return self._tell(lambda successor: successor.transport_connected(now=monotonic()))

    def _move_bytes(self) -> None:
        transport = self.unfinished
        assert transport is not None  # it is connected
        while not self._given_up:
            # Not before all that was taken is written: another thread writes to this stream afterwards, and must not
            # begin in the midst of a message.
            if self._write(transport) and self._adopted:
                return
            poll = new_poll()
            poll.register(self.wakeup, READABLE)
            poll.register(transport, READABLE | WRITABLE if self._chunks else READABLE)
            ready = {number for number, _ in poll.poll()}
            close_poll(poll)
            if self.wakeup.fileno() in ready:
                self.wakeup.clear()
            if transport.fileno() in ready and not self._read(transport):
                return

    def _write(self, transport: Transport) -> bool:
        """As much as the system takes at once: whether nothing is left."""
        while not self._given_up:
            if not self._chunks and not self._take():
                return True
            accepted: list[int] = []
            try:
                transport.send(self._chunks, accepted)
            except BlockingIOError:
                return False
            except OSError as error:
                self._lost(error)
                return False
            self._report(accepted[0])
        return False

    def _report(self, nbytes: int) -> None:
        self._chunks = cut_pieces(self._chunks, nbytes)
        self._tell(lambda successor: successor.data_sent(nbytes))

    def _take(self) -> bool:
        self._tell(lambda successor: self._chunks.extend(join_small_pieces(successor.data_to_send())))
        return bool(self._chunks)

    def _read(self, transport: Transport) -> bool:
        """One chunk of what has arrived: whether there may be more."""
        try:
            data = transport.receive(self._hub.session.receive_size)
        except BlockingIOError:
            return True
        except OSError as error:
            return self._lost(error)
        if not data:
            self._tell(lambda successor: successor.receive_eof(now=monotonic()))
            return False
        return self._tell(lambda successor: successor.receive_data(data, now=monotonic()))

    def _lost(self, error: OSError) -> bool:
        self._tell(lambda successor: successor.transport_lost(error, now=monotonic()))
        self._given_up = True
        return False
