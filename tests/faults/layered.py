"""A blocking socket below byte layers, and nothing above them: for tests of layers against real servers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from nats_proto._layers.layers import Layer, Layers

__all__ = ["Layered", "dialled"]

PATIENCE = 30.0  # seconds; only a failure takes so long


class Layered:
    """One connection. `push` sets a layer up, `send` and `read_until` are what passes through them all."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.wire = Layers()
        self.raw = bytearray()  # as it came from the transport
        self.plain = bytearray()  # what came out above
        self.handed_over = 0  # plain bytes that the transport has accepted
        self._taken = 0

    def push(self, layer: Layer) -> None:
        """Do its handshake."""
        self.wire.push(layer)
        self.send()
        while not layer.ready:
            if layer.error is not None:
                raise layer.error
            self.read()

    def send(self, *pieces: bytes) -> None:
        for piece in self.wire.wrap(list(pieces)):
            self.sock.sendall(piece)
            self.handed_over += self.wire.sent(len(piece))

    def read(self) -> bool:
        """What the transport has next, and the answers to it; False at its end, or at an orderly end of a layer."""
        data = self.sock.recv(65536)
        self.raw += data
        if data:
            self.plain += self.wire.receive_data(data)
            with contextlib.suppress(ConnectionError):  # who has ended need not hear our answer
                self.send()
        else:
            self.wire.receive_eof()
        return bool(data) and not self.wire.ended

    def read_until(self, marker: bytes) -> bytes:
        """All up to the marker's end, from where the last call ended."""
        start = self._taken
        while (found := self.plain.find(marker, start)) < 0:
            start = max(start, len(self.plain) - len(marker) + 1)
            if not self.read():
                raise AssertionError(
                    f"the end came before {marker!r}: {bytes(self.plain[-200:])!r}, {self.wire.error!r}"
                )
        begin, self._taken = self._taken, found + len(marker)
        return bytes(self.plain[begin : self._taken])

    def read_to_the_end(self) -> None:
        while self.wire.error is None and self.read():
            pass

    def greet(self, options: bytes = b"{}") -> bytes:
        """INFO, CONNECT and PING, PONG; returns INFO."""
        info = self.read_until(b"\r\n")
        self.send(b"CONNECT " + options + b"\r\n", b"PING\r\n")
        self.read_until(b"PONG\r\n")
        return info


@contextmanager
def dialled(port: int) -> Iterator[Layered]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        yield Layered(sock)
