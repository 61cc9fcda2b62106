"""A byte layer simple enough to be right, in the place of TLS and WebSocket: a greeting, records, a goodbye.

client: HELLO\\n    server: WELCOME\\n    then records: two bytes of length, and the bytes, each plus one; length 0 ends
"""

from __future__ import annotations

from nats_proto._layers.layers import Ledger
from nats_proto.errors import NATSError, RemoteProtocolError

__all__ = ["GOODBYE", "HELLO", "WELCOME", "ShiftLayer", "record", "unwrap"]

HELLO = b"HELLO\n"
WELCOME = b"WELCOME\n"
GOODBYE = b"\0\0"
LARGEST = 1000  # bytes in one record

_UP = bytes((byte + 1) % 256 for byte in range(256))
_DOWN = bytes((byte - 1) % 256 for byte in range(256))


def record(data: bytes) -> bytes:
    """Bytes from above as records."""
    parts = [data[start : start + LARGEST].translate(_UP) for start in range(0, len(data), LARGEST)]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def unwrap(data: bytes) -> tuple[bytes, bytes]:
    """What the complete records in ``data`` carry, and the rest."""
    plain = b""
    while len(data) >= 2 and len(data) >= 2 + (size := int.from_bytes(data[:2], "big")):
        if not size:
            break
        plain += data[2 : 2 + size].translate(_DOWN)
        data = data[2 + size :]
    return plain, data


class ShiftLayer:
    """The client's side. ``whole``: a record counts when it was accepted whole, else byte for byte."""

    name = "Shift"

    def __init__(self, *, whole: bool = True, deaf: bool = False) -> None:
        self.ready = False
        self.error: NATSError | None = None
        self.ended = False
        self._whole = whole
        self._fails = deaf
        self._received = b""
        self._own: list[bytes] = []
        self._closing = False
        self._ledger = Ledger()

    def start(self) -> None:
        self._own.append(HELLO)

    def receive_data(self, data: bytes) -> bytes:
        self._received += data
        if not self.ready:
            if not WELCOME.startswith(self._received[: len(WELCOME)]):
                self.error = RemoteProtocolError("no WELCOME")
            if not self._received.startswith(WELCOME):
                return b""
            self.ready = True
            self._received = self._received[len(WELCOME) :]
        plain, self._received = unwrap(self._received)
        if self._received[:2] == GOODBYE:
            self.ended = True
        elif self._received[:2] >= b"\xff\xff":
            self.error = RemoteProtocolError("a record of 65535 bytes")
        return plain

    def receive_eof(self) -> None:
        if not self.ready:
            self.error = RemoteProtocolError("the end came before WELCOME")

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        if pieces and self._fails:
            self.error = RemoteProtocolError("nothing can be wrapped")
            return []
        out, self._own = self._own, []
        for own in out:
            self._ledger.own(len(own))
        data = b"".join(pieces)
        for start in range(0, len(data), LARGEST):
            part = data[start : start + LARGEST]
            wrapped = record(part)
            if self._whole:
                self._ledger.record(len(wrapped), len(part))
            else:
                self._ledger.own(2)
                self._ledger.plain(len(part))
            out.append(wrapped)
        if self._closing:
            self._closing = False
            self._ledger.own(len(GOODBYE))
            out.append(GOODBYE)
        return out

    def sent(self, nbytes: int) -> int:
        return self._ledger.sent(nbytes)

    def close(self) -> None:
        self._closing = True
