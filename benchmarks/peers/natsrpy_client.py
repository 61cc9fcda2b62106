"""natsrpy under measurement, on asyncio.

Its `flush` returns when the operating system has taken what was published, not when the server has; a request that
nobody answers follows each, and its refusal comes back behind everything before it. It tells of no reconnect, so that
cannot be measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import natsrpy

from .child import CONCURRENT, GO, MANY, SUBJECT, Clock, Job, Result, Times, main, resident


async def connect(job: Job) -> natsrpy.Nats:
    client = natsrpy.Nats(addrs=[job.url])
    await client.startup()
    return client


async def round_trip(client: natsrpy.Nats) -> None:
    await client.flush()
    with contextlib.suppress(Exception):  # no responders
        await client.request("bench.nobody", b"", timeout=60)


async def publish(job: Job) -> None:
    client = await connect(job)
    await round_trip(client)
    call = client.publish
    payloads = job.payloads()
    clock = Clock()
    for payload in payloads:
        await call(SUBJECT, payload)
    await round_trip(client)
    job.report(**clock.stop(job.count), published_besides=2)
    await client.shutdown()


async def subscribe_iterator(job: Job) -> None:
    client = await connect(job)
    sub = await client.subscribe(SUBJECT).detatch()
    await round_trip(client)
    await client.publish(GO, b"")
    kept: list[bytes] = []
    keep = kept.append
    whole, last, received = job.whole, job.count, 1
    keep((await anext(sub)).payload)
    clock = Clock()
    async for message in sub:
        keep(message.payload if whole else message.payload[:8])
        received += 1
        if received == last:
            break
    timed = clock.stop(last - 1)
    job.report(**timed, **job.findings(kept))
    await client.shutdown()


async def subscribe_callback(job: Job) -> None:
    client = await connect(job)
    kept: list[bytes] = []
    keep = kept.append
    whole, last = job.whole, job.count
    clocks: list[Clock] = []
    timed: list[Result] = []
    done = asyncio.Event()

    async def handle(message: Any) -> None:
        keep(message.payload if whole else message.payload[:8])
        received = len(kept)
        if received == 1:
            clocks.append(Clock())
        elif received == last:
            timed.append(clocks[0].stop(last - 1))
            done.set()

    sub = await client.subscribe(SUBJECT, callback=handle).detatch()
    await round_trip(client)
    await client.publish(GO, b"")
    await done.wait()
    job.report(**timed[0], **job.findings(kept))
    del sub
    await client.shutdown()


async def request(job: Job) -> None:
    client = await connect(job)
    times = Times()
    keep = times.seconds.append
    call, now = client.request, time.perf_counter
    clock = Clock()
    for payload in job.payloads():
        start = now()
        reply = await call(SUBJECT, payload)
        keep(now() - start)
        times.wrong += reply.payload != payload
    job.report(**clock.stop(job.count), **times.result())
    await client.shutdown()


async def request_concurrent(job: Job) -> None:
    client = await connect(job)
    share = job.count // CONCURRENT
    right = 0
    payloads = list(job.payloads())

    async def ask(first: int) -> None:
        nonlocal right
        for data in payloads[first : first + share]:
            reply = await client.request(SUBJECT, data)
            right += reply.payload == data

    clock = Clock()
    await asyncio.gather(*(ask(number * share) for number in range(CONCURRENT)))
    job.report(**clock.stop(job.count), received=right, wrong=job.count - right)
    await client.shutdown()


async def subscriptions(job: Job) -> None:
    """Many of them; how long it takes to restore them it cannot tell."""
    client = await connect(job)
    subs = [await client.subscribe(SUBJECT).detatch()]
    await round_trip(client)
    before = resident()
    clock = Clock()
    subs += [await client.subscribe(MANY % number).detatch() for number in range(job.subs)]
    await round_trip(client)
    timed = clock.stop(job.subs)
    job.report(**timed, bytes_each=(resident() - before) / job.subs)
    await client.shutdown()


async def connecting(job: Job) -> None:
    times = Times()
    clock = Clock()
    for _ in range(job.count):
        start = time.perf_counter()
        client = await connect(job)
        times.seconds.append(time.perf_counter() - start)
        await client.shutdown()
    job.report(**clock.stop(job.count), **times.result())


def about() -> Result:
    return {"version": metadata.version("natsrpy"), "loop": "asyncio"}


def run(work: Callable[[Job], Awaitable[None]]) -> Callable[[Job], None]:
    async def whole(job: Job) -> None:
        await work(job)

    return lambda job: asyncio.run(whole(job))


WORKS = {
    "publish": publish,
    "subscribe_iterator": subscribe_iterator,
    "subscribe_callback": subscribe_callback,
    "request": request,
    "request_concurrent": request_concurrent,
    "subscriptions": subscriptions,
    "connect": connecting,
}

if __name__ == "__main__":
    main({name: run(work) for name, work in WORKS.items()}, about)
