"""TLS and WebSocket beside plain TCP, and TLS beside a bare `ssl.MemoryBIO` loop that does the same and nothing else.

    python -m benchmarks.transports [--repetitions 3] [--scale 1.0]

Publishing counts until the server has confirmed the last message, receiving from the first message to the last. The
bare loop is one blocking socket and one `ssl.SSLObject`; it writes operations made beforehand, and counts bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nats_anyio
import nats_sync
from nats_sync.testing import LocalServer
from tests.certificates import Certificates

from .clients import SUBJECT, feeder
from .peer import CONNECT

SIZES = {16: 200_000, 1024: 100_000, 65536: 4_000}
"""Messages of each size, for ``--scale 1``."""
CHUNK = 256 * 1024


@dataclass(frozen=True)
class Target:
    """Where to connect, and the port where a feeder can publish in clear."""

    name: str
    url: str
    port: int
    options: dict[str, Any]


# --- a bare loop ------------------------------------------------------------------------------------------------------


class Bare:
    """One TLS connection, its handshake done."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.sock.recv(1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))
        self.send(CONNECT)
        self.wait_for(b"PONG\r\n")

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.sock.sendall(self.outgoing.read())

    def receive(self) -> bytes:
        self.incoming.write(self.sock.recv(65536))
        plain: list[bytes] = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                plain.append(self.tls.read(65536))
        return b"".join(plain)

    def wait_for(self, end: bytes) -> None:
        received = b""
        while end not in received:
            received = received[-16:] + self.receive()


def publish_bare(target: Target, count: int, size: int) -> float:
    """A bare loop."""
    bare = Bare(target.port, target.options["tls"])
    operation = b"PUB %b %d\r\n%b\r\n" % (SUBJECT.encode(), size, b"x" * size)
    batch = max(1, CHUNK // len(operation))
    data = operation * batch
    start = time.perf_counter()
    for _ in range(count // batch):
        bare.send(data)
    bare.send(operation * (count % batch) + b"PING\r\n")
    bare.wait_for(b"PONG\r\n")
    seconds = time.perf_counter() - start
    bare.sock.close()
    return count / seconds


def subscribe_bare(target: Target, count: int, size: int) -> float:
    """A bare loop."""
    bare = Bare(target.port, target.options["tls"])
    bare.send(b"SUB %b 1\r\nPING\r\n" % SUBJECT.encode())
    bare.wait_for(b"PONG\r\n")
    expected = count * len(b"MSG %b 1 %d\r\n%b\r\n" % (SUBJECT.encode(), size, b"x" * size))
    with feeder(target.port, count, size):
        received, start = len(bare.receive()), time.perf_counter()
        while received < expected:
            received += len(bare.receive())
        seconds = time.perf_counter() - start
    bare.sock.close()
    return count / seconds


# --- the clients ------------------------------------------------------------------------------------------------------


def publish_sync(target: Target, count: int, size: int) -> float:
    """nats-sync."""
    payload = b"x" * size
    with nats_sync.connect(target.url, **target.options) as client:
        client.flush()
        start = time.perf_counter()
        for _ in range(count):
            client.publish(SUBJECT, payload)
        client.flush(timeout=60.0)
        return count / (time.perf_counter() - start)


def publish_anyio(target: Target, count: int, size: int) -> float:
    """nats-anyio on asyncio."""

    async def run() -> float:
        payload = b"x" * size
        async with nats_anyio.connect(target.url, **target.options) as client:
            await client.flush()
            start = time.perf_counter()
            for _ in range(count):
                await client.publish(SUBJECT, payload)
            await client.flush(timeout=60.0)
            return count / (time.perf_counter() - start)

    return asyncio.run(run())


def subscribe_sync(target: Target, count: int, size: int) -> float:
    """nats-sync."""
    with nats_sync.connect(target.url, max_pending_msgs=0, max_pending_bytes=0, **target.options) as client:
        sub = client.subscribe(SUBJECT)
        client.flush()
        with feeder(target.port, count, size):
            sub.next(timeout=30.0)
            start = time.perf_counter()
            for _ in range(count - 1):
                assert len(next(sub).data) == size
            return (count - 1) / (time.perf_counter() - start)


def subscribe_anyio(target: Target, count: int, size: int) -> float:
    """nats-anyio on asyncio."""

    async def run() -> float:
        unlimited = {"max_pending_msgs": 0, "max_pending_bytes": 0}
        async with nats_anyio.connect(target.url, **unlimited, **target.options) as client:
            sub = await client.subscribe(SUBJECT)
            await client.flush()
            with feeder(target.port, count, size):
                await sub.next(timeout=30.0)
                start = time.perf_counter()
                for _ in range(count - 1):
                    assert len((await anext(sub)).data) == size
                return (count - 1) / (time.perf_counter() - start)

    return asyncio.run(run())


# --- the table --------------------------------------------------------------------------------------------------------

WORK: dict[str, tuple[Callable[[Target, int, int], float], ...]] = {
    "publish": (publish_bare, publish_sync, publish_anyio),
    "subscribe": (subscribe_bare, subscribe_sync, subscribe_anyio),
}


@contextlib.contextmanager
def targets() -> Iterator[dict[str, Target]]:
    """Real servers that speak all of it."""
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates.made(Path(folder))
        secure = {"tls": certificates.client_context()}
        with (
            LocalServer({"allow_non_tls": True}, tls=certificates.server_tls(), websocket=True) as one,
            LocalServer(websocket=True) as two,
        ):
            tls_url = f"tls://127.0.0.1:{one.port}"
            yield {
                "tcp": Target("tcp", f"nats://127.0.0.1:{one.port}", one.port, {}),
                "tls": Target("tls", tls_url, one.port, secure),
                "ws": Target("ws", two.websocket_url, two.port, {}),
                "wss": Target("wss", one.websocket_url, one.port, secure),
            }


def table(repetitions: int, scale: float, row: Callable[..., None]) -> None:
    """All of it in turn, sizes and kinds of work one after the other."""
    with targets() as known:
        for work, functions in WORK.items():
            for size, usual in SIZES.items():
                _rows(work, functions, known, size, max(100, int(usual * scale)), repetitions, row)


def _rows(
    work: str,
    functions: Sequence[Callable[[Target, int, int], float]],
    known: dict[str, Target],
    size: int,
    count: int,
    repetitions: int,
    row: Callable[..., None],
) -> None:
    bare, *clients = functions
    cases = [("bare MemoryBIO", partial(bare, known["tls"]))]
    for leg, function in zip(("threads", "asyncio"), clients, strict=True):
        cases += [(f"{leg}, {name}", partial(function, target)) for name, target in known.items()]
    figures: dict[str, list[float]] = {name: [] for name, _ in cases}
    for _ in range(repetitions):
        for name, function in cases:
            figures[name].append(function(count, size))
    middle = {name: statistics.median(kept) for name, kept in figures.items()}
    for name, kept in figures.items():
        leg, _, kind = name.partition(", ")
        note = f"{middle[name] / middle[f'{leg}, tcp']:.2f} x tcp" if kind and kind != "tcp" else ""
        if kind == "tls":
            note += f", {middle[name] / middle['bare MemoryBIO']:.2f} x bare"
        row(f"{work}, {size} B: {name}", kept, 1e-3, "k/s", note)


def main() -> None:
    """Print the table."""
    from .__main__ import row

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repetitions", type=int, default=3)
    arguments.add_argument("--scale", type=float, default=1.0)
    chosen = arguments.parse_args()
    table(int(chosen.repetitions), float(chosen.scale), row)


if __name__ == "__main__":
    main()
