"""nats-sync under measurement."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import count
from queue import SimpleQueue

import nats_proto
import nats_sync
from nats_proto import Reconnected

from . import buckets_sync, jetstream_sync
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

EVERY_10_MS = {"reconnect_wait": 0.01, "reconnect_delay": lambda rounds: 0.01, "reconnect_jitter": 0.0}
"""Between two attempts, as the peers are told to; else the waits would grow, and the first one be random."""


def connect(job: Job, **options: object) -> nats_sync.Client:
    if job.ca:
        options["tls"] = ssl.create_default_context(cafile=job.ca)
    return nats_sync.connect(job.url, max_pending_msgs=0, max_pending_bytes=0, **options)  # type: ignore[arg-type]


def publish(job: Job) -> None:
    with connect(job) as client:
        client.flush()
        call = client.publish
        payloads = job.payloads()
        clock = Clock()
        for payload in payloads:
            call(SUBJECT, payload)
        client.flush(timeout=60.0)
        job.report(**clock.stop(job.count))


def publish_threads(job: Job) -> None:
    with connect(job) as client:
        client.flush()
        call = client.publish

        def send(payloads: Iterable[bytes]) -> None:
            for payload in payloads:
                call(SUBJECT, payload)

        threads = [threading.Thread(target=send, args=(share,)) for share in job.shares()]
        clock = Clock()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.flush(timeout=60.0)
        job.report(**clock.stop(job.count))


def publish_many(job: Job) -> None:
    with connect(job) as client:
        client.flush()
        call = client.publish_many  # type: ignore[attr-defined]  # where the client has it
        batches = job.batches()
        clock = Clock()
        for batch in batches:
            call(SUBJECT, batch)
        client.flush(timeout=60.0)
        job.report(**clock.stop(job.count))


def subscribe_iterator(job: Job) -> None:
    with connect(job) as client:
        sub = client.subscribe(SUBJECT)
        client.flush()
        client.publish(GO)
        kept: list[bytes] = []
        keep = kept.append
        whole, last, received = job.whole, job.count, 1
        keep(next(sub).data)
        clock = Clock()
        for message in sub:
            keep(message.data if whole else message.data[:8])
            received += 1
            if received == last:
                break
        timed = clock.stop(last - 1)
        job.report(**timed, **job.findings(kept))


def subscribe_batch(job: Job) -> None:
    with connect(job) as client:
        sub = client.subscribe(SUBJECT)
        client.flush()
        client.publish(GO)
        kept: list[bytes] = []
        whole, last = job.whole, job.count
        kept += [message.data[:8] for message in sub.next_batch(BATCH)]
        untimed = len(kept)
        clock = Clock()
        while len(kept) < last:
            batch = sub.next_batch(BATCH)
            kept += [message.data for message in batch] if whole else [message.data[:8] for message in batch]
        timed = clock.stop(last - untimed)
        job.report(**timed, **job.findings(kept))


def subscribe_callback(job: Job) -> None:
    with connect(job) as client:
        kept: list[bytes] = []
        keep = kept.append
        whole, last = job.whole, job.count
        clocks: list[Clock] = []
        timed: list[Result] = []
        done = threading.Event()

        def handle(message: nats_sync.Message) -> None:
            keep(message.data if whole else message.data[:8])
            received = len(kept)
            if received == 1:
                clocks.append(Clock())
            elif received == last:
                timed.append(clocks[0].stop(last - 1))
                done.set()

        client.subscribe(SUBJECT, callback=handle)
        client.flush()
        client.publish(GO)
        done.wait()
        job.report(**timed[0], **job.findings(kept))


def huge(job: Job) -> None:
    """Messages that are large beside all else in memory, which is looked at while the last one is at hand."""
    with connect(job) as client:
        kept: list[bytes] = []
        clocks: list[Clock] = []
        results: list[Result] = []
        done = threading.Event()

        def handle(message: nats_sync.Message) -> None:
            kept.append(message.data[:8])
            if len(kept) == 1:
                clocks.append(Clock())
            elif len(kept) == job.count:
                results.append({**clocks[0].stop(job.count - 1), **memory()})
                done.set()

        client.subscribe(SUBJECT, callback=handle)
        client.flush()
        client.publish(GO)
        done.wait()
        job.report(**results[0], **job.findings(kept))


def listen(client: nats_sync.Client, subjects: Sequence[str], last: int) -> tuple[list[list[bytes]], Result]:
    """Subscribe to all of them, and wait for so many messages: each subscription's, and the time they took."""
    received = count(1)
    clocks: list[Clock] = []
    timed: list[Result] = []
    done = threading.Event()

    def subscribe(subject: str) -> list[bytes]:
        kept: list[bytes] = []

        def handle(message: nats_sync.Message) -> None:
            kept.append(message.data)
            number = next(received)
            if number == 1:
                clocks.append(Clock())
            elif number == last:
                timed.append(clocks[0].stop(last - 1))
                done.set()

        client.subscribe(subject, callback=handle)
        return kept

    lists = [subscribe(subject) for subject in subjects]
    client.flush()
    client.publish(GO)
    done.wait()
    return lists, timed[0]


def fan_out(job: Job) -> None:
    with connect(job) as client:
        lists, timed = listen(client, [SUBJECT] * job.subs, job.count * job.subs)
        found = [job.findings(kept) for kept in lists]
        job.report(**timed, **{name: sum(one[name] for one in found) for name in found[0]})  # type: ignore[misc]


def spread(job: Job) -> None:
    with connect(job) as client:
        lists, timed = listen(client, [SPREAD % number for number in range(job.subs)], job.count)
        job.report(**timed, **job.spread_findings(lists))


def one_in_flight(job: Job) -> None:
    """From one client's call of publish to another's call of the callback; the next is published when it has come."""
    with connect(job) as client, connect(job) as publisher:
        arrived: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        times = Times()
        call, now = publisher.publish, time.perf_counter
        for number in range(job.subs):
            client.subscribe(IDLE % number, callback=print)
        client.subscribe(SUBJECT, callback=lambda message: arrived.put((now(), message.data)))
        client.flush()
        clock = Clock()
        for payload in job.payloads():
            start = now()
            call(SUBJECT, payload)
            at, data = arrived.get()
            times.seconds.append(at - start)
            times.wrong += data != payload
        job.report(**clock.stop(job.count), **times.result())


def request(job: Job) -> None:
    with connect(job) as client:
        times = Times()
        keep = times.seconds.append
        call, now = client.request, time.perf_counter
        clock = Clock()
        for payload in job.payloads():
            start = now()
            reply = call(SUBJECT, payload)
            keep(now() - start)
            times.wrong += reply.data != payload
        job.report(**clock.stop(job.count), **times.result())


def ask_beside(job: Job, workers: int) -> None:
    """Requests from so many threads, each asking one after the other."""
    with connect(job) as client:
        answers: list[int] = []
        payloads = list(job.payloads())

        def ask(mine: list[bytes]) -> None:
            answers.append(sum(client.request(SUBJECT, data).data == data for data in mine))

        threads = [threading.Thread(target=ask, args=(payloads[number::workers],)) for number in range(workers)]
        clock = Clock()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        job.report(**clock.stop(job.count), received=sum(answers), wrong=job.count - sum(answers))


def request_concurrent(job: Job) -> None:
    ask_beside(job, CONCURRENT)


def request_threads(job: Job) -> None:
    ask_beside(job, job.workers)


def subscriptions(job: Job) -> None:
    """Many of them, then the server is restarted."""
    back = threading.Event()

    def on_event(event: object) -> None:
        if isinstance(event, Reconnected):
            back.set()

    with connect(job, on_event=on_event, **EVERY_10_MS) as client:
        subs = [client.subscribe(SUBJECT)]
        client.flush()
        before = resident()
        clock = Clock()
        subs += [client.subscribe(MANY % number) for number in range(job.subs)]
        client.flush(timeout=60.0)
        timed = clock.stop(job.subs)
        grown = resident() - before
        client.publish(GO)
        back.wait()
        client.flush(timeout=60.0)
        job.report(**timed, bytes_each=grown / max(1, job.subs), restored_at=time.monotonic())


def connecting(job: Job) -> None:
    times = Times()
    clock = Clock()
    for _ in range(job.count):
        start = time.perf_counter()
        client = connect(job)
        times.seconds.append(time.perf_counter() - start)
        client.close()
    job.report(**clock.stop(job.count), **times.result())


def about() -> Result:
    compiled = bool(getattr(nats_proto, "accelerated", False))
    lacks = [] if hasattr(nats_sync.Client, "publish_many") else ["publish_many"]
    return {
        "version": nats_proto.__version__,
        "compiled": compiled,
        "lacks": lacks + jetstream_sync.lacks() + buckets_sync.lacks(),
    }


WORKS = {
    "publish": publish,
    "publish_many": publish_many,
    "subscribe_iterator": subscribe_iterator,
    "subscribe_batch": subscribe_batch,
    "subscribe_callback": subscribe_callback,
    "publish_threads": publish_threads,
    "fan_out": fan_out,
    "spread": spread,
    "huge": huge,
    "one_in_flight": one_in_flight,
    "request": request,
    "request_concurrent": request_concurrent,
    "request_threads": request_threads,
    "subscriptions": subscriptions,
    "connect": connecting,
    **jetstream_sync.works(connect),
    **buckets_sync.works(connect),
}

if __name__ == "__main__":
    main(WORKS, about)
