"""nats-py under measurement: ``LOOP=asyncio`` or ``uvloop`` in the environment.

Its `flush` writes PING in front of what still waits to be written, so the PONG says nothing about that. The PING of a
second one goes behind it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from itertools import count
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from . import nats_py_buckets
from .child import (
    CONCURRENT,
    CONSUMER,
    FETCH,
    GO,
    IDLE,
    MANY,
    SPREAD,
    STREAM,
    SUBJECT,
    WINDOW,
    Clock,
    Job,
    Result,
    Times,
    main,
    memory,
    resident,
)

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


async def huge(job: Job) -> None:
    """Messages that are large beside all else in memory, which is looked at while the last one is at hand."""
    client = await connect(job)
    kept: list[bytes] = []
    clocks: list[Clock] = []
    results: list[Result] = []
    done = asyncio.Event()

    async def handle(message: Msg) -> None:
        kept.append(message.data[:8])
        if len(kept) == 1:
            clocks.append(Clock())
        elif len(kept) == job.count:
            results.append({**clocks[0].stop(job.count - 1), **memory()})
            done.set()

    await client.subscribe(SUBJECT, cb=handle, **UNLIMITED)
    await client.flush()
    await client.publish(GO)
    await done.wait()
    job.report(**results[0], **job.findings(kept))
    await client.close()


async def listen(client: Client, subjects: Sequence[str], last: int) -> tuple[list[list[bytes]], Result]:
    """Subscribe to all of them, and wait for so many messages: each subscription's, and the time they took."""
    received = count(1)
    clocks: list[Clock] = []
    timed: list[Result] = []
    done = asyncio.Event()

    async def subscribe(subject: str) -> list[bytes]:
        kept: list[bytes] = []

        async def handle(message: Msg) -> None:
            kept.append(message.data)
            number = next(received)
            if number == 1:
                clocks.append(Clock())
            elif number == last:
                timed.append(clocks[0].stop(last - 1))
                done.set()

        await client.subscribe(subject, cb=handle, **UNLIMITED)
        return kept

    lists = [await subscribe(subject) for subject in subjects]
    await round_trip(client)
    await client.publish(GO)
    await done.wait()
    return lists, timed[0]


async def fan_out(job: Job) -> None:
    client = await connect(job)
    lists, timed = await listen(client, [SUBJECT] * job.subs, job.count * job.subs)
    found = [job.findings(kept) for kept in lists]
    job.report(**timed, **{name: sum(one[name] for one in found) for name in found[0]})  # type: ignore[misc]
    await client.close()


async def spread(job: Job) -> None:
    client = await connect(job)
    lists, timed = await listen(client, [SPREAD % number for number in range(job.subs)], job.count)
    job.report(**timed, **job.spread_findings(lists))
    await client.close()


async def one_in_flight(job: Job) -> None:
    """From one client's call of publish to another's call of the callback; the next is published when it has come."""
    client, publisher = await connect(job), await connect(job)
    times = Times()
    call, now = publisher.publish, time.perf_counter
    at, data, done = 0.0, b"", asyncio.Event()

    async def handle(message: Msg) -> None:
        nonlocal at, data
        at, data = now(), message.data
        done.set()

    async def ignore(message: Msg) -> None:
        pass

    for number in range(job.subs):
        await client.subscribe(IDLE % number, cb=ignore)
    await client.subscribe(SUBJECT, cb=handle, **UNLIMITED)
    await round_trip(client)
    clock = Clock()
    for payload in job.payloads():
        done = asyncio.Event()
        start = now()
        await call(SUBJECT, payload)
        await done.wait()
        times.seconds.append(at - start)
        times.wrong += data != payload
    job.report(**clock.stop(job.count), **times.result())
    await publisher.close()
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


async def ask_beside(job: Job, workers: int) -> None:
    """Requests from so many tasks, each asking one after the other."""
    client = await connect(job)
    right = 0
    payloads = list(job.payloads())

    async def ask(first: int) -> None:
        nonlocal right
        for data in payloads[first::workers]:
            reply = await client.request(SUBJECT, data, timeout=60)
            right += reply.data == data

    clock = Clock()
    await asyncio.gather(*(ask(number) for number in range(workers)))
    job.report(**clock.stop(job.count), received=right, wrong=job.count - right)
    await client.close()


async def request_concurrent(job: Job) -> None:
    await ask_beside(job, CONCURRENT)


async def request_tasks(job: Job) -> None:
    await ask_beside(job, job.workers)


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


async def js_window(job: Job) -> None:
    client = await connect(job)
    js = client.jetstream(publish_async_max_pending=WINDOW)
    await client.flush()
    call = js.publish_async
    payloads = job.payloads()
    clock = Clock()
    for payload in payloads:
        await call(SUBJECT, payload)
    await js.publish_async_completed()
    job.report(**clock.stop(job.count))
    await client.close()


async def js_publish(job: Job) -> None:
    client = await connect(job)
    times = Times()
    keep = times.seconds.append
    call, now = client.jetstream().publish, time.perf_counter
    clock = Clock()
    for number, payload in enumerate(job.payloads(), 1):
        start = now()
        ack = await call(SUBJECT, payload)
        keep(now() - start)
        times.wrong += ack.seq != number
    job.report(**clock.stop(job.count), **times.result())
    await client.close()


async def js_fetch(job: Job) -> None:
    client = await connect(job)
    sub = await client.jetstream().pull_subscribe_bind(CONSUMER, STREAM, **UNLIMITED)
    await client.flush()
    kept: list[bytes] = []
    keep = kept.append
    last = job.count
    clock = Clock()
    while len(kept) < last:
        for message in await sub.fetch(min(FETCH, last - len(kept))):
            keep(message.data)
            await message.ack()
    await round_trip(client)
    job.report(**clock.stop(last), **job.findings(kept))
    await client.close()


async def js_ordered(job: Job) -> None:
    client = await connect(job)
    js = client.jetstream()
    await client.flush()
    kept: list[bytes] = []
    keep = kept.append
    last, received = job.count, 0
    clock = Clock()
    sub = await js.subscribe(SUBJECT, stream=STREAM, ordered_consumer=True, **UNLIMITED)
    async for message in sub.messages:
        keep(message.data)
        received += 1
        if received == last:
            break
    job.report(**clock.stop(last), **job.findings(kept))
    await client.close()


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
    "spread": spread,
    "huge": huge,
    "one_in_flight": one_in_flight,
    "request": request,
    "request_concurrent": request_concurrent,
    "request_tasks": request_tasks,
    "subscriptions": subscriptions,
    "connect": connecting,
    "js_window": js_window,
    "js_publish": js_publish,
    "js_fetch": js_fetch,
    "js_ordered": js_ordered,
    **nats_py_buckets.works(connect),
}

if __name__ == "__main__":
    main({name: run(work) for name, work in WORKS.items()}, about)
