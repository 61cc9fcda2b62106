"""nats-anyio under measurement: ``LOOP=asyncio``, ``uvloop`` or ``trio`` in the environment."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from itertools import count

import anyio

import nats_anyio
import nats_proto
from nats_anyio import Client, Message
from nats_proto import Reconnected

from . import buckets_anyio, jetstream_anyio
from .child import (
    BATCH,
    CONCURRENT,
    GO,
    IDLE,
    MANY,
    SPREAD,
    SUBJECT,
    Clock,
    Job,
    Result,
    Times,
    main,
    memory,
    resident,
)

LOOP = os.environ.get("LOOP", "asyncio")

EVERY_10_MS = {"reconnect_wait": 0.01, "reconnect_delay": lambda rounds: 0.01, "reconnect_jitter": 0.0}
"""Between two attempts, as the peers are told to; else the waits would grow, and the first one be random."""


def connect(job: Job, **options: object) -> nats_anyio.Connecting:
    if job.ca:
        options["tls"] = ssl.create_default_context(cafile=job.ca)
    return nats_anyio.connect(job.url, max_pending_msgs=0, max_pending_bytes=0, **options)  # type: ignore[arg-type]


async def publish(job: Job) -> None:
    async with connect(job) as client:
        await client.flush()
        call = client.publish
        payloads = job.payloads()
        clock = Clock()
        for payload in payloads:
            await call(SUBJECT, payload)
        await client.flush(timeout=60.0)
        job.report(**clock.stop(job.count))


async def publish_many(job: Job) -> None:
    async with connect(job) as client:
        await client.flush()
        call = client.publish_many  # type: ignore[attr-defined]  # where the client has it
        batches = job.batches()
        clock = Clock()
        for batch in batches:
            await call(SUBJECT, batch)
        await client.flush(timeout=60.0)
        job.report(**clock.stop(job.count))


async def subscribe_iterator(job: Job) -> None:
    async with connect(job) as client:
        sub = await client.subscribe(SUBJECT)
        await client.flush()
        await client.publish(GO)
        kept: list[bytes] = []
        keep = kept.append
        whole, last, received = job.whole, job.count, 1
        keep((await anext(sub)).data)
        clock = Clock()
        async for message in sub:
            keep(message.data if whole else message.data[:8])
            received += 1
            if received == last:
                break
        timed = clock.stop(last - 1)
        job.report(**timed, **job.findings(kept))


async def subscribe_batch(job: Job) -> None:
    async with connect(job) as client:
        sub = await client.subscribe(SUBJECT)
        await client.flush()
        await client.publish(GO)
        kept: list[bytes] = []
        whole, last = job.whole, job.count
        kept += [message.data[:8] for message in await sub.next_batch(BATCH)]
        untimed = len(kept)
        clock = Clock()
        while len(kept) < last:
            batch = await sub.next_batch(BATCH)
            kept += [message.data for message in batch] if whole else [message.data[:8] for message in batch]
        timed = clock.stop(last - untimed)
        job.report(**timed, **job.findings(kept))


async def subscribe_callback(job: Job) -> None:
    async with connect(job) as client:
        kept: list[bytes] = []
        keep = kept.append
        whole, last = job.whole, job.count
        clocks: list[Clock] = []
        timed: list[Result] = []
        done = anyio.Event()

        def handle(message: Message) -> None:
            keep(message.data if whole else message.data[:8])
            received = len(kept)
            if received == 1:
                clocks.append(Clock())
            elif received == last:
                timed.append(clocks[0].stop(last - 1))
                done.set()

        _ = await client.subscribe(SUBJECT, callback=handle)
        await client.flush()
        await client.publish(GO)
        await done.wait()
        job.report(**timed[0], **job.findings(kept))


async def huge(job: Job) -> None:
    """Messages that are large beside all else in memory, which is looked at while the last one is at hand."""
    async with connect(job) as client:
        kept: list[bytes] = []
        clocks: list[Clock] = []
        results: list[Result] = []
        done = anyio.Event()

        def handle(message: Message) -> None:
            kept.append(message.data[:8])
            if len(kept) == 1:
                clocks.append(Clock())
            elif len(kept) == job.count:
                results.append({**clocks[0].stop(job.count - 1), **memory()})
                done.set()

        _ = await client.subscribe(SUBJECT, callback=handle)
        await client.flush()
        await client.publish(GO)
        await done.wait()
        job.report(**results[0], **job.findings(kept))


async def listen(client: Client, subjects: Sequence[str], last: int) -> tuple[list[list[bytes]], Result]:
    """Subscribe to all of them, and wait for so many messages: each subscription's, and the time they took."""
    received = count(1)
    clocks: list[Clock] = []
    timed: list[Result] = []
    done = anyio.Event()

    async def subscribe(subject: str) -> list[bytes]:
        kept: list[bytes] = []

        def handle(message: Message) -> None:
            kept.append(message.data)
            number = next(received)
            if number == 1:
                clocks.append(Clock())
            elif number == last:
                timed.append(clocks[0].stop(last - 1))
                done.set()

        _ = await client.subscribe(subject, callback=handle)
        return kept

    lists = [await subscribe(subject) for subject in subjects]
    await client.flush()
    await client.publish(GO)
    await done.wait()
    return lists, timed[0]


async def fan_out(job: Job) -> None:
    async with connect(job) as client:
        lists, timed = await listen(client, [SUBJECT] * job.subs, job.count * job.subs)
        found = [job.findings(kept) for kept in lists]
        job.report(**timed, **{name: sum(one[name] for one in found) for name in found[0]})  # type: ignore[misc]


async def spread(job: Job) -> None:
    async with connect(job) as client:
        lists, timed = await listen(client, [SPREAD % number for number in range(job.subs)], job.count)
        job.report(**timed, **job.spread_findings(lists))


async def one_in_flight(job: Job) -> None:
    """From one client's call of publish to another's call of the callback; the next is published when it has come."""
    async with connect(job) as client, connect(job) as publisher:
        times = Times()
        call, now = publisher.publish, time.perf_counter
        at, data, done = 0.0, b"", anyio.Event()

        def handle(message: Message) -> None:
            nonlocal at, data
            at, data = now(), message.data
            done.set()

        for number in range(job.subs):
            _ = await client.subscribe(IDLE % number, callback=print)
        _ = await client.subscribe(SUBJECT, callback=handle)
        await client.flush()
        clock = Clock()
        for payload in job.payloads():
            done = anyio.Event()
            start = now()
            await call(SUBJECT, payload)
            await done.wait()
            times.seconds.append(at - start)
            times.wrong += data != payload
        job.report(**clock.stop(job.count), **times.result())


async def request(job: Job) -> None:
    async with connect(job) as client:
        times = Times()
        keep = times.seconds.append
        call, now = client.request, time.perf_counter
        clock = Clock()
        for payload in job.payloads():
            start = now()
            reply = await call(SUBJECT, payload)
            keep(now() - start)
            times.wrong += reply.data != payload
        job.report(**clock.stop(job.count), **times.result())


async def ask_beside(job: Job, workers: int) -> None:
    """Requests from so many tasks, each asking one after the other."""
    async with connect(job) as client:
        right = 0
        payloads = list(job.payloads())

        async def ask(first: int) -> None:
            nonlocal right
            for data in payloads[first::workers]:
                reply = await client.request(SUBJECT, data)
                right += reply.data == data

        clock = Clock()
        async with anyio.create_task_group() as group:
            for number in range(workers):
                group.start_soon(ask, number)
        job.report(**clock.stop(job.count), received=right, wrong=job.count - right)


async def request_concurrent(job: Job) -> None:
    await ask_beside(job, CONCURRENT)


async def request_tasks(job: Job) -> None:
    await ask_beside(job, job.workers)


async def subscriptions(job: Job) -> None:
    """Many of them, then the server is restarted."""
    back = anyio.Event()

    def on_event(event: object) -> None:
        if isinstance(event, Reconnected):
            back.set()

    async with connect(job, on_event=on_event, **EVERY_10_MS) as client:
        subs = [await client.subscribe(SUBJECT)]
        await client.flush()
        before = resident()
        clock = Clock()
        subs += [await client.subscribe(MANY % number) for number in range(job.subs)]
        await client.flush(timeout=60.0)
        timed = clock.stop(job.subs)
        grown = resident() - before
        await client.publish(GO)
        await back.wait()
        await client.flush(timeout=60.0)
        job.report(**timed, bytes_each=grown / max(1, job.subs), restored_at=time.monotonic())


async def connecting(job: Job) -> None:
    times = Times()
    clock = Clock()
    for _ in range(job.count):
        start = time.perf_counter()
        async with connect(job):
            times.seconds.append(time.perf_counter() - start)
    job.report(**clock.stop(job.count), **times.result())


def about() -> Result:
    package = LOOP if LOOP in ("uvloop", "trio") else "anyio"
    compiled = bool(getattr(nats_proto, "accelerated", False))
    lacks = [] if hasattr(Client, "publish_many") else ["publish_many"]
    lacks += jetstream_anyio.lacks() + buckets_anyio.lacks()
    loop = f"{package} {metadata.version(package)}"
    return {"version": nats_proto.__version__, "compiled": compiled, "lacks": lacks, "loop": loop}


def run(work: Callable[[Job], Awaitable[None]]) -> Callable[[Job], None]:
    """On the loop the environment names."""
    backend = "trio" if LOOP == "trio" else "asyncio"
    options = {"use_uvloop": True} if LOOP == "uvloop" else {}
    return lambda job: anyio.run(work, job, backend=backend, backend_options=options)


WORKS = {
    "publish": publish,
    "publish_many": publish_many,
    "subscribe_iterator": subscribe_iterator,
    "subscribe_batch": subscribe_batch,
    "subscribe_callback": subscribe_callback,
    "fan_out": fan_out,
    "spread": spread,
    "huge": huge,
    "one_in_flight": one_in_flight,
    "request": request,
    "request_concurrent": request_concurrent,
    "request_tasks": request_tasks,
    "subscriptions": subscriptions,
    "connect": connecting,
    **jetstream_anyio.works(connect),
    **buckets_anyio.works(connect),
}

if __name__ == "__main__":
    main({name: run(work) for name, work in WORKS.items()}, about)
