"""nats-py under measurement: ``LOOP=asyncio`` or ``uvloop`` in the environment.

Its `flush` writes PING in front of what still waits to be written, so the PONG says nothing about that. The PING of a
second one goes behind it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from itertools import count
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from .child import CONCURRENT, GO, MANY, SUBJECT, Clock, Job, Result, Times, main, resident

LOOP = os.environ.get("LOOP", "asyncio")
UNLIMITED: dict[str, Any] = {"pending_msgs_limit": 2**40, "pending_bytes_limit": 0}


async def connect(job: Job, **options: Any) -> Client:
    return await nats.connect(job.url, **options)


async def round_trip(client: Client) -> None:
    await client.flush(timeout=60)
    await client.flush(timeout=60)


async def publish(job: Job) -> None:
    client = await connect(job)
    await client.flush()
    call = client.publish
    payloads = job.payloads()
    clock = Clock()
    for payload in payloads:
        await call(SUBJECT, payload)
    await round_trip(client)
    job.report(**clock.stop(job.count))
    await client.close()


async def subscribe_iterator(job: Job) -> None:
    client = await connect(job)
    sub = await client.subscribe(SUBJECT, **UNLIMITED)
    await client.flush()
    await client.publish(GO)
    kept: list[bytes] = []
    keep = kept.append
    whole, last, received = job.whole, job.count, 1
    messages = sub.messages
    keep((await anext(messages)).data)
    clock = Clock()
    async for message in messages:
        keep(message.data if whole else message.data[:8])
        received += 1
        if received == last:
            break
    timed = clock.stop(last - 1)
    job.report(**timed, **job.findings(kept))
    await client.close()


async def subscribe_callback(job: Job) -> None:
    client = await connect(job)
    kept: list[bytes] = []
    keep = kept.append
    whole, last = job.whole, job.count
    clocks: list[Clock] = []
    timed: list[Result] = []
    done = asyncio.Event()

    async def handle(message: Msg) -> None:
        keep(message.data if whole else message.data[:8])
        received = len(kept)
        if received == 1:
            clocks.append(Clock())
        elif received == last:
            timed.append(clocks[0].stop(last - 1))
            done.set()

    await client.subscribe(SUBJECT, cb=handle, **UNLIMITED)
    await client.flush()
    await client.publish(GO)
    await done.wait()
    job.report(**timed[0], **job.findings(kept))
    await client.close()


async def fan_out(job: Job) -> None:
    client = await connect(job)
    last = job.count * job.subs
    received = count(1)
    clocks: list[Clock] = []
    timed: list[Result] = []
    done = asyncio.Event()

    async def subscribe() -> list[bytes]:
        kept: list[bytes] = []

        async def handle(message: Msg) -> None:
            kept.append(message.data)
            number = next(received)
            if number == 1:
                clocks.append(Clock())
            elif number == last:
                timed.append(clocks[0].stop(last - 1))
                done.set()

        await client.subscribe(SUBJECT, cb=handle, **UNLIMITED)
        return kept

    lists = [await subscribe() for _ in range(job.subs)]
    await client.flush()
    await client.publish(GO)
    await done.wait()
    found = [job.findings(kept) for kept in lists]
    job.report(**timed[0], **{name: sum(one[name] for one in found) for name in found[0]})  # type: ignore[misc]
    await client.close()


async def request(job: Job) -> None:
    client = await connect(job)
    times = Times()
    keep = times.seconds.append
    call, now = client.request, time.perf_counter
    clock = Clock()
    for payload in job.payloads():
        start = now()
        reply = await call(SUBJECT, payload, timeout=5)
        keep(now() - start)
        times.wrong += reply.data != payload
    job.report(**clock.stop(job.count), **times.result())
    await client.close()


async def request_concurrent(job: Job) -> None:
    client = await connect(job)
    share = job.count // CONCURRENT
    right = 0
    payloads = list(job.payloads())

    async def ask(first: int) -> None:
        nonlocal right
        for data in payloads[first : first + share]:
            reply = await client.request(SUBJECT, data, timeout=5)
            right += reply.data == data

    clock = Clock()
    await asyncio.gather(*(ask(number * share) for number in range(CONCURRENT)))
    job.report(**clock.stop(job.count), received=right, wrong=job.count - right)
    await client.close()


async def subscriptions(job: Job) -> None:
    """Many of them, then the server is restarted."""
    back = asyncio.Event()

    async def reconnected() -> None:
        back.set()

    async def ignore(error: Exception) -> None:
        pass

    options: dict[str, Any] = {"reconnect_time_wait": 0.01, "max_reconnect_attempts": -1}
    client = await connect(job, reconnected_cb=reconnected, error_cb=ignore, **options)
    subs = [await client.subscribe(SUBJECT)]
    await client.flush()
    before = resident()
    clock = Clock()
    subs += [await client.subscribe(MANY % number) for number in range(job.subs)]
    await round_trip(client)
    timed = clock.stop(job.subs)
    grown = resident() - before
    await client.publish(GO)
    await back.wait()
    await round_trip(client)
    job.report(**timed, bytes_each=grown / max(1, job.subs), restored_at=time.monotonic())
    await client.close()


async def connecting(job: Job) -> None:
    times = Times()
    clock = Clock()
    for _ in range(job.count):
        start = time.perf_counter()
        client = await connect(job)
        times.seconds.append(time.perf_counter() - start)
        await client.close()
    job.report(**clock.stop(job.count), **times.result())


def about() -> Result:
    loop = f"uvloop {metadata.version('uvloop')}" if LOOP == "uvloop" else "asyncio"
    return {"version": metadata.version("nats-py"), "loop": loop}


def run(work: Callable[[Job], Awaitable[None]]) -> Callable[[Job], None]:
    """On the loop the environment names."""

    async def whole(job: Job) -> None:
        await work(job)

    if LOOP != "uvloop":
        return lambda job: asyncio.run(whole(job))
    import uvloop

    def on_uvloop(job: Job) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(whole(job))

    return on_uvloop


WORKS = {
    "publish": publish,
    "subscribe_iterator": subscribe_iterator,
    "subscribe_callback": subscribe_callback,
    "fan_out": fan_out,
    "request": request,
    "request_concurrent": request_concurrent,
    "subscriptions": subscriptions,
    "connect": connecting,
}

if __name__ == "__main__":
    main({name: run(work) for name, work in WORKS.items()}, about)
