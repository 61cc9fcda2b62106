"""A work queue: each job is done by one worker, and done again by another if that worker fails.

    python examples/jetstream/work_queue.py nats://127.0.0.1:4222

The stream keeps a job until it was acknowledged, and `work` acknowledges by what comes of the handler: it returns, and
the job is done; it raises, and the job is given to a worker again after a pause; it raises `Reject`, and the job is
kept among the dead letters. While a handler runs the server is told so. A worker that dies says nothing, so that its
jobs come again after ``ack_wait``.
"""

from __future__ import annotations

import sys
from queue import Queue

import nats_sync
from nats_sync.jetstream import JetStream, JetStreamMessage, Reject, Retry

WORKERS = 3
JOBS = ["thumbnail 1", "thumbnail 2", "flaky 3", "nonsense 4", "thumbnail 5", "thumbnail 6"]


def create(js: JetStream) -> None:
    """The streams, and one consumer for all workers. There is no harm in creating them again."""
    stream = js.create_stream("JOBS", subjects=["jobs.>"], retention="workqueue")
    stream.create_consumer("workers", ack_wait=30.0, max_deliver=5)
    js.create_stream("DEAD", subjects=["dead.>"])


def main(url: str) -> list[str]:
    """Do all jobs; what the workers have reported."""
    report: Queue[str] = Queue()

    def do(message: JetStreamMessage) -> None:
        kind, number = message.data.decode().split()
        if kind == "thumbnail" or (kind == "flaky" and message.metadata.num_delivered > 1):
            report.put(f"{number}: done")
        elif kind == "flaky":
            report.put(f"{number}: failed")
            raise Retry(0.2)  # any other exception would be logged, and the pause be that of `backoff`
        else:
            report.put(f"{number}: given up")
            raise Reject(f"no worker knows {kind}")  # it would fail each time

    with nats_sync.connect(url, name="work-queue") as nc:
        js = nc.jetstream()
        create(js)
        consumer = js.consumer("JOBS", "workers")
        with consumer.work(do, concurrency=WORKERS, backoff=(1.0, 5.0, 30.0), dead_letter="dead.jobs") as work:
            for job in JOBS:
                js.publish("jobs.images", job.encode(), msg_id=job)
            reports = [report.get(timeout=30) for _ in range(len(JOBS) + 1)]  # one job is reported twice
            work.drain()  # handlers end and their acknowledgements leave; jobs that were not begun are handed back
    return reports


if __name__ == "__main__":
    for line in main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"):
        print(line)
