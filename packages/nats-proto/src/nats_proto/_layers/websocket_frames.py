"""The frames a server sends (RFC 6455, 5), read as they come.

Theory of operation
-------------------
    HEADER ──data frame──▶ PAYLOAD ──its last byte──▶ HEADER
       └──control frame, once it is there whole──▶ HEADER, or the end

For NATS, WebSocket messages and frames are arbitrary pieces of one stream of bytes. So nothing is put together: what is
there of a payload is given to the layer above at once. A server may put everything that waits for us, tens of MiB, into
one frame; if the connection breaks in the middle of it, the NATS messages that came whole are not lost. Kept are only a
header that is not complete (13 bytes at most), a control frame that is not complete (127 bytes at most), and zlib's
window (RFC 7692).

A fault is found where it begins: in the header, not when the payload that the header announces has come. Of a message
that inflates to more than is accepted, as much as is accepted goes to the layer above, and no more is inflated.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

__all__ = ["NORMAL_CLOSURE", "PROTOCOL_ERROR", "FrameFault", "FrameReader", "Opcode", "cut"]


class Opcode(IntEnum):
    """What a frame is; all others are reserved."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009
"""Codes that close frames have (RFC 6455, 7.4.1)."""

MAX_CONTROL: Final = 125
"""Bytes of a control frame's payload (RFC 6455, 5.5)."""

_FINAL: Final = 0x80
_COMPRESSED: Final = 0x40
_RESERVED: Final = 0x30
_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_WHOLE_MESSAGE: Final = _FINAL | Opcode.BINARY


class FrameFault(Exception):
    """What is wrong with a frame, in words that an error puts behind "sent ", and the code that our close frame has."""

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


class FrameReader:
    """Reads a server's frames. ``max_message`` (bytes) bounds a message, all its frames together, also when inflated.

    ``compression``: it was agreed upon.
    """

    __slots__ = (
        "_begun",
        "_compression",
        "_final",
        "_inflater",
        "_inside",
        "_left",
        "_max_message",
        "_size",
        "close",
        "fault",
        "ping",
    )

    def __init__(self, *, max_message: int, compression: bool) -> None:
        self._max_message = max_message
        self._compression = compression
        self._begun = b""
        """The beginning of a header or control frame whose end has not come yet."""
        self._left: int | None = None
        """Bytes of the present frame's payload still to come; None: a header comes next."""
        self._final = True
        """The present frame is the last one of its message."""
        self._inside = False
        """The next frame belongs to a message that was begun by an earlier one."""
        self._inflater: _Inflater | None = None
        """Inflates the present message, if it is compressed."""
        self._size = 0
        """Bytes of the present message so far, inflated."""
        self.ping: bytes | None = None
        """The payload of the last PING. Whoever answers it sets this to None; only the last one needs an answer (RFC
        6455, 5.5.3)."""
        self.close: bytes | None = None
        """The payload of the close frame. Nothing behind that frame is read."""
        self.fault: FrameFault | None = None
        """What was wrong with a frame. Nothing behind that frame is read."""

    def receive(self, data: bytes) -> list[bytes]:
        """The payload in it, in order, up to a `fault` or the close frame."""
        payload: list[bytes] = []
        try:
            if self.fault is None:
                self._read(data, payload)
        except FrameFault as fault:
            # A new one, because the traceback of the one that was raised holds the received data.
            self.fault = FrameFault(str(fault), fault.code)
        return payload

    def _read(self, data: bytes, payload: list[bytes]) -> None:
        if self._begun:
            data, self._begun = self._begun + data, b""
        position, end = 0, len(data)
        while self.close is None:
            left = self._left
            if left is None:
                behind = self._header(data, position)
                if not behind:
                    self._begun = data[position:]
                    return
                position = behind
            # An empty frame goes on without any data: it may be the last one of a compressed message, and `finish` has
            # to check that message.
            elif left and position == end:
                return
            else:
                piece = data[position : position + left]
                position += len(piece)
                self._left = left = left - len(piece)
                if self._inflater is not None:
                    self._inflate(self._inflater, piece, payload)
                    if self._final and not left:
                        self._inflater.finish()
                elif piece:
                    payload.append(piece)
                if not left:
                    self._left = None

    def _header(self, data: bytes, position: int) -> int:
        """The position behind the header, or behind the whole frame if it is a control frame; 0: more is needed."""
        end = len(data)
        if end - position < 2:
            return 0
        first, length = data[position], data[position + 1]
        # Nearly every frame is a whole, uncompressed message, which has nothing to be checked.
        if first != _WHOLE_MESSAGE or length >= _MASKED or self._inside:
            self._check(first, length)
        position += 2
        if length > MAX_CONTROL:
            width = 2 if length == 126 else 8
            # Of too few bytes this is a wrong number, which the return below throws away. A length with its highest bit
            # set, which RFC 6455 (5.2) forbids, is refused as too large a message.
            length = int.from_bytes(data[position : position + width], "big")
            position += width
            if position > end:
                return 0
        # A control frame may stand between the frames of one message (RFC 6455, 5.4), so it must leave the state of the
        # message as it is.
        if first & _CONTROL:
            if end - position < length:
                return 0
            self._control(first & 0x0F, data[position : position + length])
            return position + length
        self._begin(first, length)
        return position

    def _check(self, first: int, length: int) -> None:
        """Raise a `FrameFault` for anything that is wrong with the first two bytes of a header (RFC 6455, 5.2)."""
        opcode = first & 0x0F
        if length & _MASKED:
            raise FrameFault("a masked frame, which only clients send")
        if first & _RESERVED:
            raise FrameFault("a frame with reserved bits")
        if first & _COMPRESSED and (not self._compression or opcode != Opcode.BINARY):
            raise FrameFault("a frame marked as compressed that must not be")
        if opcode & _CONTROL:
            if opcode > Opcode.PONG:
                raise FrameFault(f"a control frame with the reserved opcode {opcode}")
            if not first & _FINAL:
                raise FrameFault("a fragmented control frame")
            if length > MAX_CONTROL:
                raise FrameFault(f"a control frame with more than {MAX_CONTROL} bytes")
        elif opcode == Opcode.TEXT:
            raise FrameFault("a text frame, where NATS has binary ones", UNSUPPORTED_DATA)
        elif opcode > Opcode.BINARY:
            raise FrameFault(f"a frame with the reserved opcode {opcode}")
        elif self._inside and opcode == Opcode.BINARY:
            raise FrameFault("a new message inside another")
        elif not self._inside and opcode == Opcode.CONTINUATION:
            raise FrameFault("the continuation of no message")

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            self.ping = payload
        elif opcode == Opcode.CLOSE:
            self.close = payload

    def _begin(self, first: int, length: int) -> None:
        """The header of a data frame was read."""
        if not self._inside:
            self._size = 0
            self._inflater = _Inflater() if first & _COMPRESSED else None
        self._final = bool(first & _FINAL)
        self._inside = not self._final
        if self._inflater is None:
            self._size += length
        if max(length, self._size) > self._max_message:
            raise self._too_big()
        self._left = length

    def _inflate(self, inflater: _Inflater, piece: bytes, payload: list[bytes]) -> None:
        room = self._max_message - self._size
        inflated = inflater.inflate(piece, room + 1)  # one byte too many shows that there are more
        if inflated:
            payload.append(inflated[:room])
        if len(inflated) > room:
            raise self._too_big()
        self._size += len(inflated)

    def _too_big(self) -> FrameFault:
        return FrameFault(f"a message of more than {self._max_message} bytes", TOO_BIG)


class _Inflater:
    """One message of permessage-deflate (RFC 7692, 7.2.2). Raises `FrameFault` for what is no deflate."""

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)

    def inflate(self, piece: bytes, room: int) -> bytes:
        """The next piece, inflated to ``room`` bytes at most. When it gives so many, it must not be called again."""
        inflated = self._decompress(piece, room)
        if self._stream.unused_data not in (b"", b"\0"):
            raise FrameFault(_NO_DEFLATE, INVALID_DATA)
        return inflated

    def finish(self) -> None:
        """The message has ended: raise a `FrameFault` if its compressed data has not."""
        surplus = b"" if self._stream.eof else self._decompress(_TAIL, 1)
        if surplus or not self._stream.eof:
            raise FrameFault(_NO_DEFLATE, INVALID_DATA)

    def _decompress(self, piece: bytes, room: int) -> bytes:
        try:
            return self._stream.decompress(piece, room)
        except zlib.error:
            raise FrameFault(_NO_DEFLATE, INVALID_DATA) from None


_TAIL: Final = b"\x00\x00\xff\xff" + b"\x01\x00\x00\xff\xff"
"""Put behind a compressed message: the four bytes that its sender leaves out (RFC 7692, 7.2.1), and an empty last
block, so that zlib reports the end of the data where it has to be. A message that has a last block of its own is
followed by a zero byte at most (RFC 7692, 7.2.3.4)."""

_NO_DEFLATE: Final = "a compressed message that cannot be inflated"


def cut(pieces: list[bytes], size: int) -> Iterator[bytes | memoryview]:
    """The pieces as payloads of ``size`` bytes, the last one of what is left. Each byte is copied at most once."""
    gathered: list[bytes | memoryview] = []
    room = size
    for piece in pieces:
        rest: bytes | memoryview = piece
        while len(rest) > room:
            rest = memoryview(rest)
            gathered.append(rest[:room])
            rest = rest[room:]
            yield _joined(gathered)
            gathered.clear()
            room = size
        if rest:
            gathered.append(rest)
            room -= len(rest)
    if gathered:
        yield _joined(gathered)


def _joined(parts: list[bytes | memoryview]) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)
