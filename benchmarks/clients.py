"""Both clients against a real server on loopback: subscribe, publish, request. Every message is counted.

Each function is one repetition and returns its figure; `benchmarks.__main__` runs them in turn, so that a machine that
slows down slows all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import nats_anyio
import nats_sync

from .peer import dial

SUBJECT = "bench.subject"


@contextlib.contextmanager
def echo_peer(port: int) -> Iterator[None]:
    """A responder in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peer", "echo", str(port), SUBJECT]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def feeder(port: int, count: int, size: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peer", "feed", str(port), SUBJECT, str(count), str(size)]
    )


# --- subscribe by iterator: messages per second from the first to the last -------------------------------------------


def subscribe_sync(url: str, port: int, count: int, size: int) -> float:
    """nats-sync."""
    with nats_sync.connect(url, max_pending_msgs=0, max_pending_bytes=0) as client:
        sub = client.subscribe(SUBJECT)
        client.flush()
        with feeder(port, count, size) as feeding:
            received = 0
            start = 0.0
            for message in sub:
                if not received:
                    start = time.perf_counter()
                received += len(message.data) == size
                if received == count:
                    break
            rate = (count - 1) / (time.perf_counter() - start)
            assert feeding.wait() == 0
        return rate


def subscribe_anyio(url: str, port: int, count: int, size: int) -> float:
    """nats-anyio on asyncio."""

    async def run() -> float:
        async with nats_anyio.connect(url, max_pending_msgs=0, max_pending_bytes=0) as client:
            sub = await client.subscribe(SUBJECT)
            await client.flush()
            with feeder(port, count, size) as feeding:
                received = 0
                start = 0.0
                async for message in sub:
                    if not received:
                        start = time.perf_counter()
                    received += len(message.data) == size
                    if received == count:
                        break
                rate = (count - 1) / (time.perf_counter() - start)
                assert feeding.wait() == 0
            return rate

    return asyncio.run(run())


# --- publish: messages per second until the server has confirmed the last --------------------------------------------


def publish_sync(url: str, port: int, count: int, size: int) -> float:
    """nats-sync."""
    payload = b"x" * size
    with nats_sync.connect(url) as client:
        client.flush()
        publish = client.publish
        start = time.perf_counter()
        for _ in range(count):
            publish(SUBJECT, payload)
        client.flush(timeout=60.0)
        return count / (time.perf_counter() - start)


def publish_anyio(url: str, port: int, count: int, size: int) -> float:
    """nats-anyio on asyncio."""

    async def run() -> float:
        payload = b"x" * size
        async with nats_anyio.connect(url) as client:
            await client.flush()
            publish = client.publish
            start = time.perf_counter()
            for _ in range(count):
                await publish(SUBJECT, payload)
            await client.flush(timeout=60.0)
            return count / (time.perf_counter() - start)

    return asyncio.run(run())


# --- request: median seconds of a round trip through the server to a responder ---------------------------------------


def request_raw(url: str, port: int, count: int, size: int) -> float:
    """A bare blocking socket, one thread: the limit."""
    payload = b"x" * size
    times: list[float] = []
    with dial(port) as sock:
        sock.sendall(b"SUB bench.inbox.* 1\r\n")
        operation = b"PUB %b bench.inbox.1 %d\r\n%b\r\n" % (SUBJECT.encode(), size, payload)
        for _ in range(count):
            start = time.perf_counter()
            sock.sendall(operation)
            received = b""
            while not received.endswith(payload + b"\r\n"):
                received += sock.recv(65536)
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def request_sync(url: str, port: int, count: int, size: int) -> float:
    """nats-sync."""
    payload = b"x" * size
    times: list[float] = []
    with nats_sync.connect(url) as client:
        for _ in range(count):
            start = time.perf_counter()
            reply = client.request(SUBJECT, payload)
            times.append(time.perf_counter() - start)
            assert reply.data == payload
    return statistics.median(times)


def request_anyio(url: str, port: int, count: int, size: int) -> float:
    """nats-anyio on asyncio."""

    async def run() -> float:
        payload = b"x" * size
        times: list[float] = []
        async with nats_anyio.connect(url) as client:
            for _ in range(count):
                start = time.perf_counter()
                reply = await client.request(SUBJECT, payload)
                times.append(time.perf_counter() - start)
                assert reply.data == payload
        return statistics.median(times)

    return asyncio.run(run())
