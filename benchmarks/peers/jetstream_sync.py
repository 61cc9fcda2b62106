"""JetStream of nats-sync under measurement."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable

import nats_sync
from nats_proto import Message

from .child import CONSUMER, FETCH, HANDLERS, STREAM, SUBJECT, WINDOW, Clock, Job, Times, resident

Connect = Callable[[Job], nats_sync.Client]


def window(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        js = client.jetstream()
        client.flush()
        payloads = job.payloads()
        with js.publisher(max_pending=WINDOW) as publisher:
            call = publisher.publish
            clock = Clock()
            for payload in payloads:
                call(SUBJECT, payload)
        job.report(**clock.stop(job.count))


def publish(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        times = Times()
        keep = times.seconds.append
        call, now = client.jetstream().publish, time.perf_counter
        clock = Clock()
        for number, payload in enumerate(job.payloads(), 1):
            start = now()
            ack = call(SUBJECT, payload)
            keep(now() - start)
            times.wrong += ack.sequence != number
        job.report(**clock.stop(job.count), **times.result())


def fetch(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last = job.count
        clock = Clock()
        while len(kept) < last:
            for message in consumer.fetch(min(FETCH, last - len(kept))):
                keep(message.data)
                message.ack()
        client.flush()
        job.report(**clock.stop(last), **job.findings(kept))


def messages(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, received = job.count, 0
        clock = Clock()
        with consumer.messages(max_messages=FETCH) as reader:
            for message in reader:
                keep(message.data)
                message.ack()
                received += 1
                if received == last:
                    break
            client.flush()
            timed = clock.stop(last)
        job.report(**timed, **job.findings(kept))


def work(job: Job, connect: Connect) -> None:
    """Handlers beside each other: nothing is said of the order."""
    with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, done = job.count, threading.Event()

        def handle(message: Message) -> None:
            keep(message.data)
            if len(kept) == last:
                done.set()

        clock = Clock()
        with consumer.work(handle, concurrency=HANDLERS):
            done.wait()
        client.flush()
        job.report(**clock.stop(last), **job.findings(sorted(kept)))


def ordered(job: Job, connect: Connect) -> None:
    with connect(job) as client:
        stream = client.jetstream().stream(STREAM)
        client.flush()
        kept: list[bytes] = []
        keep = kept.append
        last, received = job.count, 0
        clock = Clock()
        with stream.ordered_consumer().messages() as reader:
            for message in reader:
                keep(message.data)
                received += 1
                if received == last:
                    break
            timed = clock.stop(last)
        job.report(**timed, **job.findings(kept))


def memory(job: Job, connect: Connect) -> None:
    """Resident bytes at the end beyond those after the first messages, by the way to read that the case names."""
    with connect(job) as client:
        consumer = client.jetstream().consumer(STREAM, CONSUMER)
        numbers = array("Q", bytes(8 * job.count))  # made beforehand, so that it does not grow
        at, last = 0, job.count
        warm, done = threading.Event(), threading.Event()
        lock = threading.Lock()

        def keep(message: Message) -> None:
            nonlocal at
            with lock:
                numbers[at] = int.from_bytes(message.data[:8], "big")
                at += 1
            if at == last // 10:
                warm.set()
            elif at == last:
                done.set()

        before = 0
        clock = Clock()
        if job.case == "work":
            with consumer.work(keep, concurrency=HANDLERS):
                warm.wait()
                before = resident()
                done.wait()
                after = resident()
        elif job.case == "messages":
            with consumer.messages(max_messages=FETCH, limit=last) as reader:
                for message in reader:
                    keep(message)
                    message.ack()
                    before = before or (warm.is_set() and resident())
                after = resident()
        else:
            while at < last:
                for message in consumer.fetch(min(FETCH, last - at)):
                    keep(message)
                    message.ack()
                before = before or (warm.is_set() and resident())
            after = resident()
        client.flush()
        timed = clock.stop(last)
        job.report(**timed, grown=after - before, **job.findings_of_numbers(sorted(numbers)))


def first(job: Job, connect: Connect) -> None:
    """The first use of JetStream in a process, which loads it."""
    with connect(job) as client:
        clock = Clock()
        client.jetstream()
        job.report(**clock.stop(1), received=1)


WORKS: dict[str, Callable[[Job, Connect], None]] = {
    "js_window": window,
    "js_publish": publish,
    "js_fetch": fetch,
    "js_messages": messages,
    "js_work": work,
    "js_ordered": ordered,
    "js_memory": memory,
    "js_first": first,
}


def works(connect: Connect) -> dict[str, Callable[[Job], None]]:
    """All of them, with the client's own way to connect."""
    return {name: lambda job, run=run: run(job, connect) for name, run in WORKS.items()}  # type: ignore[misc]


def lacks() -> list[str]:
    """What a client of another checkout cannot do."""
    return [] if hasattr(nats_sync.Client, "jetstream") else list(WORKS)
