"""A WebSocket server in memory, written without the library that the layer uses, and able to send what it must not."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable

from nats_proto._layers.websocket import WebSocketLayer
from nats_proto._servers.server import Server

__all__ = ["AGREED", "accept", "asked", "deflate", "frame", "frames", "inflate", "lines_of", "opened"]

MiB = 1024 * 1024
AGREED = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\0\0\xff\xff"


def asked(*, url: str = "ws://h", max_message: int = MiB, compression: bool = False) -> tuple[WebSocketLayer, bytes]:
    """A layer, and its request, which has left."""
    layer = WebSocketLayer(Server.parse(url), max_message=max_message, compression=compression)
    layer.start()
    request = b"".join(layer.wrap([]))
    assert layer.sent(len(request)) == 0
    return layer, request


def opened(*, max_message: int = MiB, compression: bool = False) -> WebSocketLayer:
    """A layer behind its upgrade."""
    layer, request = asked(max_message=max_message, compression=compression)
    assert layer.receive_data(accept(request, *([AGREED] if compression else []))) == b""
    assert (layer.error, layer.ready, layer.compressed) == (None, True, compression)
    return layer


def accept(request: bytes, *headers: bytes) -> bytes:
    """The answer to the upgrade."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)\r\n", request)
    assert found is not None
    digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = (
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest),
        *headers,
    )
    return b"\r\n".join([*lines, b"", b""])


def lines_of(request: bytes) -> list[str]:
    """Request line and headers."""
    assert request.endswith(b"\r\n\r\n")
    return request[:-4].decode().split("\r\n")


def frame(payload: bytes = b"", first: int = 0x82, *, mask: bytes | None = None, length: int | None = None) -> bytes:
    """``first`` is the first byte: FIN 0x80, RSV 0x40 to 0x10, opcode. ``length`` is what the header says instead."""
    size = len(payload) if length is None else length
    flag = 0 if mask is None else 0x80
    if size < 126:
        header = bytes((first, flag | size))
    elif size < 65536:
        header = bytes((first, flag | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((first, flag | 127)) + size.to_bytes(8, "big")
    return header + (mask or b"") + (unmask(payload, mask) if mask else payload)


def frames(data: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """What a client sent: the first byte and the payload of each frame. Every one is masked, and whole."""
    stream = b"".join(data)
    found: list[tuple[int, bytes]] = []
    while stream:
        first, size = stream[0], stream[1]
        assert size & 0x80
        width = {126: 2, 127: 8}.get(size & 0x7F, 0)
        size = int.from_bytes(stream[2 : 2 + width], "big") if width else size & 0x7F
        begin = 2 + width + 4
        assert len(stream) >= begin + size
        found.append((first, unmask(stream[begin : begin + size], stream[begin - 4 : begin])))
        stream = stream[begin + size :]
    return found


def unmask(payload: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


def deflate(payload: bytes, *, level: int = 6, end: bool = False) -> bytes:
    """As in a compressed message. ``end``: with a last block, as some compressors have it."""
    compressor = zlib.compressobj(level, wbits=-15)
    packed = compressor.compress(payload)
    return packed + (compressor.flush() if end else compressor.flush(zlib.Z_SYNC_FLUSH).removesuffix(TAIL))


def inflate(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(payload + TAIL)
