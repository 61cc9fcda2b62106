"""Key-Value and object store of nats-py under measurement."""

from __future__ import annotations

import io
import time
from collections.abc import Awaitable, Callable, Iterator

from nats.aio.client import Client

from .child import BUCKET, KEY, KEYS, OBJECT, Clock, Job, Times, peak_after, resident

Connect = Callable[[Job], Awaitable[Client]]


async def kv_put(job: Job, connect: Connect) -> None:
    client = await connect(job)
    times = Times()
    keep = times.seconds.append
    call, now = (await client.jetstream().key_value(BUCKET)).put, time.perf_counter
    keys = [KEY % number for number in range(KEYS)]
    clock = Clock()
    for number, payload in enumerate(job.payloads(), 1):
        start = now()
        revision = await call(keys[number % KEYS], payload)
        keep(now() - start)
        times.wrong += revision != number
    job.report(**clock.stop(job.count), **times.result())
    await client.close()


async def kv_get(job: Job, connect: Connect) -> None:
    client = await connect(job)
    times = Times()
    keep = times.seconds.append
    call, now = (await client.jetstream().key_value(BUCKET)).get, time.perf_counter
    clock = Clock()
    for number in range(job.count):
        key = KEY % number
        start = now()
        entry = await call(key)
        keep(now() - start)
        times.wrong += int.from_bytes((entry.value or b"")[:8], "big") != number
    job.report(**clock.stop(job.count), **times.result())
    await client.close()


async def kv_watch(job: Job, connect: Connect) -> None:
    client = await connect(job)
    kv = await client.jetstream().key_value(BUCKET)
    kept: list[bytes] = []
    keep = kept.append
    last = job.count
    clock = Clock()
    watcher = await kv.watchall()
    while len(kept) < last:
        entry = await watcher.updates(timeout=10.0)
        keep(entry.value)
    job.report(**clock.stop(last), **job.findings(kept))
    await client.close()


class Payloads(io.RawIOBase):
    """Payloads as a file that is read."""

    def __init__(self, payloads: Iterator[bytes]) -> None:
        self._payloads = payloads
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._left or next(self._payloads, b"")
        length = min(len(buffer), len(data))
        buffer[:length] = data[:length]
        self._left = data[length:]
        return length


async def object_put(job: Job, connect: Connect) -> None:
    client = await connect(job)
    objects = await client.jetstream().object_store(BUCKET)
    payloads = job.payloads()
    before = resident()
    clock = Clock()
    await objects.put(OBJECT, io.BufferedReader(Payloads(payloads), job.size))
    job.report(**clock.stop(job.count), **peak_after(before))
    await client.close()


class Heads(io.RawIOBase):
    """A file that keeps the number of each chunk that is written to it."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.kept.append(bytes(data[:8]))
        return len(data)


async def object_get(job: Job, connect: Connect) -> None:
    client = await connect(job)
    objects = await client.jetstream().object_store(BUCKET)
    heads = Heads()
    before = resident()
    clock = Clock()
    await objects.get(OBJECT, writeinto=heads)  # type: ignore[arg-type]
    job.report(**clock.stop(job.count), **peak_after(before), **job.findings(heads.kept))
    await client.close()


WORKS: dict[str, Callable[[Job, Connect], Awaitable[None]]] = {
    "kv_put": kv_put,
    "kv_get": kv_get,
    "kv_watch": kv_watch,
    "object_put": object_put,
    "object_get": object_get,
}


def works(connect: Connect) -> dict[str, Callable[[Job], Awaitable[None]]]:
    """All of them, with the client's own way to connect."""
    return {name: lambda job, run=run: run(job, connect) for name, run in WORKS.items()}  # type: ignore[misc]
