"""Key-Value, object store and services of nats-anyio under measurement."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import nats_anyio

from .child import BUCKET, KEY, KEYS, OBJECT, Clock, Job, Times, peak_after, resident

Connect = Callable[[Job], nats_anyio.Connecting]


async def kv_put(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
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


async def kv_get(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        times = Times()
        keep = times.seconds.append
        call, now = (await client.jetstream().key_value(BUCKET)).get, time.perf_counter
        clock = Clock()
        for number in range(job.count):
            key = KEY % number
            start = now()
            entry = await call(key)
            keep(now() - start)
            times.wrong += int.from_bytes(entry.value[:8], "big") != number
        job.report(**clock.stop(job.count), **times.result())


async def kv_watch(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        kv = await client.jetstream().key_value(BUCKET)
        await client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, received = job.count, 0
        clock = Clock()
        async with kv.watch() as changes:
            async for change in changes:
                keep(change.value)  # type: ignore[union-attr]
                received += 1
                if received == last:
                    break
            timed = clock.stop(last)
        job.report(**timed, **job.findings(kept))


async def object_put(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        objects = await client.jetstream().object_store(BUCKET)
        payloads = job.payloads()
        before = resident()
        clock = Clock()
        await objects.put(OBJECT, payloads)
        job.report(**clock.stop(job.count), **peak_after(before))


async def object_get(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        objects = await client.jetstream().object_store(BUCKET)
        before = resident()
        kept: list[bytes] = []
        clock = Clock()
        async with await objects.get(OBJECT) as reader:
            async for chunk in reader:
                kept.append(bytes(chunk[:8]))
        job.report(**clock.stop(job.count), **peak_after(before), **job.findings(kept))


async def service(job: Job, connect: Connect) -> None:
    """Requests to a callback of another connection, by a plain subscription or as a service."""
    async with connect(job) as serving, connect(job) as client:
        if job.case == "plain":
            await serving.subscribe("bench.echo", callback=lambda message: message.respond(message.data))
        else:
            endpoints = serving.add_service("bench", "1.0.0")
            endpoints.endpoint("echo", lambda request: request.respond(request.data), subject="bench.echo")
        await serving.flush()
        times = Times()
        keep = times.seconds.append
        call, now = client.request, time.perf_counter
        clock = Clock()
        for payload in job.payloads():
            start = now()
            answer = await call("bench.echo", payload)
            keep(now() - start)
            times.wrong += answer.data != payload
        job.report(**clock.stop(job.count), **times.result())


WORKS: dict[str, Callable[[Job, Connect], Awaitable[None]]] = {
    "kv_put": kv_put,
    "kv_get": kv_get,
    "kv_watch": kv_watch,
    "object_put": object_put,
    "object_get": object_get,
    "service": service,
}


def works(connect: Connect) -> dict[str, Callable[[Job], Awaitable[None]]]:
    """All of them, with the client's own way to connect."""
    return {name: lambda job, run=run: run(job, connect) for name, run in WORKS.items()}  # type: ignore[misc]


def lacks() -> list[str]:
    """What a client of another checkout cannot do."""
    if not hasattr(nats_anyio.Client, "jetstream"):
        return list(WORKS)
    from nats_anyio.jetstream import JetStream

    needed = {
        "kv_": (JetStream, "key_value"),
        "object": (JetStream, "object_store"),
        "service": (nats_anyio.Client, "add_service"),
    }
    return [
        name
        for name in WORKS
        for start, (owner, method) in needed.items()
        if name.startswith(start) and not hasattr(owner, method)
    ]
