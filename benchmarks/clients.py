"""Both clients against a real server on loopback: subscribe, publish, request. Every message is counted.

Each function is one repetition and returns its figure; `benchmarks.__main__` runs them in turn, so that a machine that
slows down slows all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import anyio

import nats_anyio
import nats_sync

from .peer import dial

SUBJECT = "bench.subject"
STREAM = "bench.stream"
STREAM_MSGS = 1000
"""Messages that a busy connection gets every 10 ms."""


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
    with nats_sync.connect(url) as client:
        return _ask(client, count, size)


def _ask(client: nats_sync.Client, count: int, size: int) -> float:
    payload = b"x" * size
    times: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        reply = client.request(SUBJECT, payload)
        times.append(time.perf_counter() - start)
        assert reply.data == payload
    return statistics.median(times)


async def _await(client: nats_anyio.Client, count: int, size: int) -> float:
    payload = b"x" * size
    times: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        reply = await client.request(SUBJECT, payload)
        times.append(time.perf_counter() - start)
        assert reply.data == payload
    return statistics.median(times)


def _request_anyio(url: str, count: int, size: int) -> Callable[[], Awaitable[float]]:
    async def run() -> float:
        async with nats_anyio.connect(url) as client:
            return await _await(client, count, size)

    return run


def request_asyncio(url: str, port: int, count: int, size: int) -> float:
    """nats-anyio on asyncio."""
    return anyio.run(_request_anyio(url, count, size))


def request_trio(url: str, port: int, count: int, size: int) -> float:
    """nats-anyio on trio."""
    return anyio.run(_request_anyio(url, count, size), backend="trio")


def request_uvloop(url: str, port: int, count: int, size: int) -> float:
    """nats-anyio on asyncio with uvloop."""
    importlib.import_module("uvloop")
    return anyio.run(_request_anyio(url, count, size), backend_options={"use_uvloop": True})


# --- the same on a connection that gets a stream of messages meanwhile -----------------------------------------------


@contextlib.contextmanager
def _stream(port: int, size: int) -> Iterator[None]:
    """A publisher in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peer", "stream", str(port), STREAM, str(STREAM_MSGS), str(size)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


def request_busy_sync(url: str, port: int, count: int, size: int) -> float:
    """nats-sync; a thread reads the stream."""
    with nats_sync.connect(url) as client, client.subscribe(STREAM) as sub:
        reader = threading.Thread(target=lambda: sum(1 for _ in sub))
        reader.start()
        with _stream(port, size):
            while not sub.delivered:
                client.flush()
            middle = _ask(client, count, size)
        assert not sub.dropped
        sub.unsubscribe()
        reader.join()
        return middle


def request_busy_asyncio(url: str, port: int, count: int, size: int) -> float:
    """nats-anyio on asyncio; a task reads the stream."""

    async def run() -> float:
        async def read() -> None:
            async for _ in sub:
                pass

        async with (
            nats_anyio.connect(url) as client,
            anyio.create_task_group() as tasks,
            client.subscribe(STREAM) as sub,
        ):
            tasks.start_soon(read)
            with _stream(port, size):
                while not sub.delivered:
                    await client.flush()
                middle = await _await(client, count, size)
            assert not sub.dropped
        return middle

    return anyio.run(run)
