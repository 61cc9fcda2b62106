"""H69: servers that do not keep to WebSocket, against the three clients; a healthy one stands beside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

import pytest

from nats_proto import Connected, Disconnected, Reconnected
from nats_proto.errors import ConnectionLostError, NATSError, NATSTimeoutError, NoServersError, WebSocketError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, EventLog, Leg
from tests.faults.peer import Connection, Peer, Step, close, hold, info, send
from tests.faults.record import QUICK

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def upgrade(*, lines: bytes = b"", accept: bytes | None = None) -> Step:
    """Answer the client's request; with more header lines, or another key."""

    def step(connection: Connection) -> None:
        request = connection.expect(re.compile(rb"GET .*?\r\n\r\n", re.DOTALL))
        key = re.search(rb"Sec-WebSocket-Key: *(\S+)", request, re.IGNORECASE)
        assert key is not None
        right = base64.b64encode(hashlib.sha1(key[1] + MAGIC).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%b" % lines
        connection.send(head + b"Sec-WebSocket-Accept: %b\r\n\r\n" % (right if accept is None else accept))

    return step


def frame(payload: bytes, *, head: int = 0x82, size: bytes | None = None) -> bytes:
    """A server's frame: final and binary unless ``head`` says otherwise."""
    if size is None:
        size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    return bytes([head]) + size + payload


def frames_read(count: int) -> Step:
    """Wait for so many frames of the client; what is in them is masked, and does not matter here."""

    def step(connection: Connection) -> None:
        start = connection.received.index(b"\r\n\r\n") + 4
        for _ in range(count):
            while len(connection.received) < start + 14:
                connection.read()
            size = connection.received[start + 1] & 0x7F
            extended = {126: 2, 127: 8}.get(size, 0)
            if extended:
                size = int.from_bytes(connection.received[start + 2 : start + 2 + extended], "big")
            start += 2 + extended + 4 + size
            while len(connection.received) < start:
                connection.read()

    return step


GREETING: Sequence[Step] = [upgrade(), send(frame(info())), frames_read(1), send(frame(b"PONG\r\n"))]

UPGRADES: dict[str, tuple[Sequence[Step], type[NATSError], str]] = {
    "refused": ([send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), close()], WebSocketError, "401"),
    "redirect": ([send(b"HTTP/1.1 302 Found\r\nLocation: ws://evil\r\n\r\n"), close()], WebSocketError, "302"),
    "no HTTP": ([send(info()), hold()], WebSocketError, ""),
    "wrong accept key": ([upgrade(accept=b"d3Jvbmc="), hold()], WebSocketError, ""),
    "no accept key": ([send(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n"), hold()], WebSocketError, ""),
    "10 MiB of headers": ([upgrade(lines=b"X-Pad: %b\r\n" % (b"x" * 1000) * 10_000), hold()], WebSocketError, ""),
    "an endless line": ([send(b"HTTP/1.1 101 " + b"x" * 1_000_000), hold()], WebSocketError, ""),
    "silence": ([hold()], NATSTimeoutError, "WebSocket"),
    "the end": ([close()], NATSError, ""),
    "an extension nobody asked for": (
        [upgrade(lines=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"), hold()],
        WebSocketError,
        "",
    ),
}

HOSTILE: dict[str, bytes] = {
    "masked": frame(b"\0\0\0\0PING\r\n", size=bytes([0x80 | 6])),
    "text": frame(b"PING\r\n", head=0x81),
    "reserved bits": frame(b"PING\r\n", head=0x82 | 0x30),
    "compressed unasked": frame(b"\xcb\xcc", head=0x82 | 0x40),
    "reserved opcode": frame(b"", head=0x83),
    "reserved control": frame(b"", head=0x8B),
    "continues nothing": frame(b"PING\r\n", head=0x80),
    "fragmented control": frame(b"", head=0x09),
    "long control": frame(b"x" * 126, head=0x89),
    "2^63": frame(b"", size=b"\x7f" + (2**63).to_bytes(8, "big")),
    "10 GiB": frame(b"", size=b"\x7f" + (10 * 2**30).to_bytes(8, "big")),
    "close with one byte": frame(b"\x03", head=0x88),
    "no NATS within": frame(b"SSH-2.0-OpenSSH\r\n"),
}


@pytest.mark.parametrize("name", UPGRADES)
async def test_h69_upgrades(leg: Leg, name: str) -> None:
    script, kind, hint = UPGRADES[name]
    seconds = 1.0 if name == "silence" else 10.0
    with Peer(script) as peer, pytest.raises(NoServersError) as raised:
        async with leg.connect(f"ws://127.0.0.1:{peer.port}", token="t0ken-of-h69", connect_timeout=seconds):
            pass
    ((_, error),) = raised.value.attempts
    assert isinstance(error, kind), error
    assert hint in str(error)
    assert len(str(error)) < 1000
    assert b"t0ken" not in peer.connections[0].received


@pytest.mark.parametrize("name", HOSTILE)
async def test_h69_frames(leg: Leg, name: str) -> None:
    before = frame(b"MSG s.1 1 6\r\nbefore\r\n")
    log = EventLog()
    script = [*GREETING, frames_read(2), send(before + HOSTILE[name]), hold()]
    with Peer(script) as hostile, LocalServer(websocket=True) as healthy:
        urls = [f"ws://127.0.0.1:{hostile.port}", healthy.websocket_url]
        async with leg.connect(
            urls, randomize_servers=False, on_event=log, **{**QUICK, "ping_interval": 0.0}
        ) as client:
            sub = await client.subscribe("s.1")
            await log.wait(Reconnected)
            await client.publish("s.1", b"good")
            assert [(await sub.next(timeout=PATIENCE)).data for _ in range(2)] == [b"before", b"good"]
    first, lost = log[0], log[1]
    assert isinstance(first, Connected)
    assert isinstance(lost, Disconnected)
    assert lost.error is not None
    assert lost.error.outcome == "unknown"


@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
async def test_h69_fragments_and_pings_are_no_fault(leg: Leg, at_a_time: int) -> None:
    stream = b"".join(b"MSG s.1 1 4\r\n%04d\r\n" % number for number in range(50))
    pieces = [stream[start : start + at_a_time] for start in range(0, len(stream), at_a_time)]
    data = frame(b"", head=0x02)
    for piece in pieces:
        data += frame(piece, head=0x00) + frame(b"", head=0x00) + frame(b"ping", head=0x89)
    data += frame(b"", head=0x80)
    with Peer([*GREETING, frames_read(2), send(data), hold()]) as peer:
        async with leg.connect(f"ws://127.0.0.1:{peer.port}", ping_interval=0.0) as client:
            sub = await client.subscribe("s.1")
            got = [(await sub.next(timeout=PATIENCE)).data for _ in range(50)]
    assert got == [b"%04d" % number for number in range(50)]


async def test_h69_a_close_frame_is_a_loss(leg: Leg) -> None:
    log = EventLog()
    with Peer([*GREETING, send(frame(b"\x03\xe9bye", head=0x88)), hold()], again=False) as peer:
        async with leg.connect(f"ws://127.0.0.1:{peer.port}", on_event=log, **QUICK):
            lost = await log.wait(Disconnected)
    assert isinstance(lost.error, ConnectionLostError)
