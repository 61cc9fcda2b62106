"""A work queue: each job is done by one worker, and done again by another if that worker fails.

    python examples/jetstream/work_queue.py nats://127.0.0.1:4222

The stream keeps a job until somebody has acknowledged it. What a worker says of a job decides what becomes of it:
`ack` removes it, `nak` gives it to a worker again after a while, `term` gives it up. A worker that dies says nothing,
so that the job comes again after ``ack_wait``.
"""

from __future__ import annotations

import sys
import threading
from queue import Queue

import nats_sync
from nats_sync.jetstream import JetStream, JetStreamMessage, Messages

WORKERS = 3
JOBS = ["thumbnail 1", "thumbnail 2", "flaky 3", "nonsense 4", "thumbnail 5", "thumbnail 6"]


def work(message: JetStreamMessage, report: Queue[str]) -> None:
    """One job."""
    kind, number = message.data.decode().split()
    if kind == "thumbnail" or (kind == "flaky" and message.metadata.num_delivered > 1):
        message.ack()
        report.put(f"{number}: done")
    elif kind == "flaky":
        message.nak(delay=0.2)  # somebody may try again then
        report.put(f"{number}: failed")
    else:
        message.term(f"no worker knows {kind}")  # it would fail each time
        report.put(f"{number}: given up")


def loop(messages: Messages, report: Queue[str]) -> None:
    """A worker: it ends when its messages are stopped, and hands back what it has not begun."""
    with messages:
        for message in messages:
            work(message, report)


def create(js: JetStream) -> None:
    """The stream, and one consumer for all workers. There is no harm in creating them again."""
    stream = js.create_stream("JOBS", subjects=["jobs.>"], retention="workqueue")
    stream.create_consumer("workers", ack_wait=30.0, max_deliver=5)


def main(url: str) -> list[str]:
    """Do all jobs; what the workers have reported."""
    report: Queue[str] = Queue()
    with nats_sync.connect(url, name="work-queue") as nc:
        js = nc.jetstream()
        create(js)
        # A worker that is slow should not hold many jobs that others could do: two are asked for ahead.
        consumer = js.consumer("JOBS", "workers")
        readers = [consumer.messages(max_messages=2) for _ in range(WORKERS)]
        threads = [threading.Thread(target=loop, args=(messages, report)) for messages in readers]
        for thread in threads:
            thread.start()
        for job in JOBS:
            js.publish("jobs.images", job.encode(), msg_id=job)
        reports = [report.get(timeout=30) for _ in range(len(JOBS) + 1)]  # one job is reported twice
        for messages in readers:
            messages.stop()
        for thread in threads:
            thread.join()
        nc.drain()  # the last acknowledgements leave before the connection ends
    return reports


if __name__ == "__main__":
    for line in main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"):
        print(line)
