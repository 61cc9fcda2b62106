"""Key-Value, object store and services of nats-sync under measurement."""

from __future__ import annotations

import time
from collections.abc import Callable

import nats_sync

from .child import BUCKET, KEY, KEYS, OBJECT, Clock, Job, Times, peak_after, resident

Connect = Callable[[Job], nats_sync.Client]


def kv_put(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        times = Times()
        keep = times.seconds.append
        call, now = client.jetstream().key_value(BUCKET).put, time.perf_counter
        keys = [KEY % number for number in range(KEYS)]
        clock = Clock()
        for number, payload in enumerate(job.payloads(), 1):
            start = now()
            revision = call(keys[number % KEYS], payload)
            keep(now() - start)
            times.wrong += revision != number
        job.report(**clock.stop(job.count), **times.result())


def kv_get(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        times = Times()
        keep = times.seconds.append
        call, now = client.jetstream().key_value(BUCKET).get, time.perf_counter
        clock = Clock()
        for number in range(job.count):
            key = KEY % number
            start = now()
            entry = call(key)
            keep(now() - start)
            times.wrong += int.from_bytes(entry.value[:8], "big") != number
        job.report(**clock.stop(job.count), **times.result())


def kv_watch(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        kv = client.jetstream().key_value(BUCKET)
        client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, received = job.count, 0
        clock = Clock()
        with kv.watch() as changes:
            for change in changes:
                keep(change.value)  # type: ignore[union-attr]
                received += 1
                if received == last:
                    break
            timed = clock.stop(last)
        job.report(**timed, **job.findings(kept))


def object_put(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        objects = client.jetstream().object_store(BUCKET)
        payloads = job.payloads()
        before = resident()
        clock = Clock()
        objects.put(OBJECT, payloads)
        job.report(**clock.stop(job.count), **peak_after(before))


def object_get(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        objects = client.jetstream().object_store(BUCKET)
        before = resident()
        kept: list[bytes] = []
        clock = Clock()
        with objects.get(OBJECT) as reader:
            for chunk in reader:
                kept.append(bytes(chunk[:8]))
        job.report(**clock.stop(job.count), **peak_after(before), **job.findings(kept))


def service(job: Job, connect: Connect) -> None:
    """Requests to a callback of another connection, by a plain subscription or as a service."""
    with connect(job) as serving, connect(job) as client:
        if job.case == "plain":
            serving.subscribe("bench.echo", callback=lambda message: message.respond(message.data))
        else:
            endpoints = serving.add_service("bench", "1.0.0")
            endpoints.endpoint("echo", lambda request: request.respond(request.data), subject="bench.echo")
        serving.flush()
        times = Times()
        keep = times.seconds.append
        call, now = client.request, time.perf_counter
        clock = Clock()
        for payload in job.payloads():
            start = now()
            answer = call("bench.echo", payload)
            keep(now() - start)
            times.wrong += answer.data != payload
        job.report(**clock.stop(job.count), **times.result())


WORKS: dict[str, Callable[[Job, Connect], None]] = {
    "kv_put": kv_put,
    "kv_get": kv_get,
    "kv_watch": kv_watch,
    "object_put": object_put,
    "object_get": object_get,
    "service": service,
}


def works(connect: Connect) -> dict[str, Callable[[Job], None]]:
    """All of them, with the client's own way to connect."""
    return {name: lambda job, run=run: run(job, connect) for name, run in WORKS.items()}  # type: ignore[misc]


def lacks() -> list[str]:
    """What a client of another checkout cannot do."""
    if not hasattr(nats_sync.Client, "jetstream"):
        return list(WORKS)
    from nats_sync.jetstream import JetStream

    needed = {
        "kv_": (JetStream, "key_value"),
        "object": (JetStream, "object_store"),
        "service": (nats_sync.Client, "add_service"),
    }
    return [
        name
        for name in WORKS
        for start, (owner, method) in needed.items()
        if name.startswith(start) and not hasattr(owner, method)
    ]
