"""JetStream of nats-anyio under measurement."""

from __future__ import annotations

import time
from array import array
from collections.abc import Awaitable, Callable

import anyio

import nats_anyio
from nats_proto import Message

from .child import CONSUMER, FETCH, HANDLERS, STREAM, SUBJECT, WINDOW, Clock, Job, Times, resident

Connect = Callable[[Job], nats_anyio.Connecting]


async def window(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        js = client.jetstream()
        await client.flush()
        payloads = job.payloads()
        async with js.publisher(max_pending=WINDOW) as publisher:
            call = publisher.publish
            clock = Clock()
            for payload in payloads:
                await call(SUBJECT, payload)
        job.report(**clock.stop(job.count))


async def publish(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        times = Times()
        keep = times.seconds.append
        call, now = client.jetstream().publish, time.perf_counter
        clock = Clock()
        for number, payload in enumerate(job.payloads(), 1):
            start = now()
            ack = await call(SUBJECT, payload)
            keep(now() - start)
            times.wrong += ack.sequence != number
        job.report(**clock.stop(job.count), **times.result())


async def fetch(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        await client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last = job.count
        clock = Clock()
        while len(kept) < last:
            async for message in consumer.fetch(min(FETCH, last - len(kept))):
                keep(message.data)
                await message.ack()
        await client.flush()
        job.report(**clock.stop(last), **job.findings(kept))


async def messages(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        await client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, received = job.count, 0
        clock = Clock()
        async with consumer.messages(max_messages=FETCH) as reader:
            async for message in reader:
                keep(message.data)
                await message.ack()
                received += 1
                if received == last:
                    break
            await client.flush()
            timed = clock.stop(last)
        job.report(**timed, **job.findings(kept))


async def work(job: Job, connect: Connect) -> None:
    """Handlers beside each other: nothing is said of the order."""
    async with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        await client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, done = job.count, anyio.Event()

        async def handle(message: Message) -> None:
            keep(message.data)
            if len(kept) == last:
                done.set()

        clock = Clock()
        async with consumer.work(handle, concurrency=HANDLERS):
            await done.wait()
        await client.flush()
        job.report(**clock.stop(last), **job.findings(sorted(kept)))


async def ordered(job: Job, connect: Connect) -> None:
    async with connect(job) as client:
        stream = client.jetstream().stream(STREAM)
        await client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, received = job.count, 0
        clock = Clock()
        async with stream.ordered_consumer().messages() as reader:
            async for message in reader:
                keep(message.data)
                received += 1
                if received == last:
                    break
            timed = clock.stop(last)
        job.report(**timed, **job.findings(kept))


async def memory(job: Job, connect: Connect) -> None:
    """Resident bytes at the end beyond those after the first messages, by the way to read that the case names."""
    async with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        numbers = array("Q", bytes(8 * job.count))  # made beforehand, so that it does not grow
        at, last = 0, job.count
        warm, done = anyio.Event(), anyio.Event()

        def note(message: Message) -> None:
            nonlocal at
            numbers[at] = int.from_bytes(message.data[:8], "big")
            at += 1
            if at == last // 10:
                warm.set()
            elif at == last:
                done.set()

        async def handle(message: Message) -> None:
            note(message)

        before = 0
        clock = Clock()
        if job.case == "work":
            async with consumer.work(handle, concurrency=HANDLERS):
                await warm.wait()
                before = resident()
                await done.wait()
                after = resident()
        elif job.case == "messages":
            async with consumer.messages(max_messages=FETCH, limit=last) as reader:
                async for message in reader:
                    note(message)
                    await message.ack()
                    before = before or (warm.is_set() and resident())
                after = resident()
        else:
            while at < last:
                async for message in consumer.fetch(min(FETCH, last - at)):
                    note(message)
                    await message.ack()
                before = before or (warm.is_set() and resident())
            after = resident()
        await client.flush()
        timed = clock.stop(last)
        job.report(**timed, grown=after - before, **job.findings_of_numbers(sorted(numbers)))


async def first(job: Job, connect: Connect) -> None:
    """The first use of JetStream in a process, which loads it."""
    async with connect(job) as client:
        clock = Clock()
        client.jetstream()
        job.report(**clock.stop(1), received=1)


WORKS: dict[str, Callable[[Job, Connect], Awaitable[None]]] = {
    "js_window": window,
    "js_publish": publish,
    "js_fetch": fetch,
    "js_messages": messages,
    "js_work": work,
    "js_ordered": ordered,
    "js_memory": memory,
    "js_first": first,
}


def works(connect: Connect) -> dict[str, Callable[[Job], Awaitable[None]]]:
    """All of them, with the client's own way to connect."""
    return {name: lambda job, run=run: run(job, connect) for name, run in WORKS.items()}  # type: ignore[misc]


def lacks() -> list[str]:
    """What a client of another checkout cannot do."""
    return [] if hasattr(nats_anyio.Client, "jetstream") else list(WORKS)
