"""The writing side: bytes from the session to the socket, by its one owner of the moment.

The owner takes a batch from the session, sends it without blocking and reports what the system took, until nothing is
left; then it leaves the writing side free. It looks for more under the same lock under which it leaves it free, so
nothing that was appended meanwhile stays behind. A caller who took the writing side gives what did not fit, and what
came after its own, to the writer's thread, which alone waits for the socket.
"""

from __future__ import annotations

from threading import get_ident

from ._pump import NOBODY, WRITER, Pump
from ._transport import Chunk, Transport, chunked, cut

__all__ = ["Writer"]


class Writer:
    """What a batch on its way is; only the owner of the writing side touches it."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._transport: Transport | None = None
        """Of the batch."""
        self._chunks: list[Chunk] = []

    # --- taking the writing side -------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Under the lock: take the writing side, if it is free and there is something to write."""
        pump = self._pump
        if pump.write_owner == NOBODY and pump.transport is not None and self._take_batch():
            pump.write_owner = get_ident()

    def write_now(self) -> None:
        """After `claim`: send what the system takes at once, and give the rest to the writer's thread."""
        if self._pump.write_owner == get_ident() and not (self._send() and self._finish()):
            self.hand_over()

    def hand_over(self) -> None:
        """Give the writing side to the writer's thread, if this thread has it: a `KeyboardInterrupt` came."""
        pump = self._pump
        if pump.write_owner == get_ident():
            pump.write_owner = WRITER
            pump.writer_wakes.put(True)

    def run(self) -> None:
        """The writer's thread."""
        wakes = self._pump.writer_wakes
        while wakes.get():
            while not self._finish():
                while self._chunks and not self._send():
                    transport = self._transport
                    if transport is not None and transport.write_error is None:
                        transport.wait_writable()

    # --- as its owner ------------------------------------------------------------------------------------------------

    def _finish(self) -> bool:
        """Leave the writing side free when nothing is left to be written; else have the next batch ready."""
        if self._chunks:
            return False
        with self._pump.lock:
            if self._take_batch():
                return False
            self._pump.write_owner = NOBODY
            return True

    def _take_batch(self) -> bool:
        """Under the lock."""
        self._transport = self._pump.transport
        if self._transport is None or self._transport.write_error is not None:
            return False
        self._chunks = chunked(self._pump.session.data_to_send())
        return bool(self._chunks)

    def _send(self) -> bool:
        """Send once: whether it makes sense to go on at once."""
        pump = self._pump
        transport = self._transport
        accepted: list[int] = []
        blocked = False
        with pump.send_lock:
            if transport is None or transport is not pump.transport:
                self._chunks = []  # of a connection that has ended: the session has it all
                return True
            try:
                transport.send(self._chunks, accepted)
            except BlockingIOError:
                blocked = True
            except OSError as error:
                # The reader reports the end, once it has read what the server said before.
                transport.write_error = error
                self._chunks = []
                pump.wakeup.set()
            finally:
                if accepted:
                    self._chunks = cut(self._chunks, accepted[0])
                    with pump.lock:
                        pump.session.data_sent(accepted[0])
                        pump.drain()
        pump.leave()
        return not blocked
