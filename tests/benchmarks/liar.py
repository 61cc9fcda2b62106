"""A client that lies, for the counting to find out: ``python -m tests.benchmarks.liar FAULT work=… port=… …``."""

from __future__ import annotations

import sys
import time

from benchmarks import order
from benchmarks.other_side import lie
from benchmarks.peers import child, raw

LINE = b"PUB %b 16\r\n" % order.SUBJECT.encode()
LENGTH = len(LINE) + 16 + 2


def publish(fault: str, job: child.Job) -> None:
    """Publish something else than is said afterwards."""
    link = raw.Link(job)
    clock = child.Clock()
    if fault == "fewer":
        data = order.stream(0, job.count - 1, 16, LINE)
    else:
        # Messages of different workers may overtake each other: to be a lie it has to be two of one worker.
        apart = 1 if fault == "overtake" else max(1, job.workers)
        fault = "swap" if fault == "overtake" else fault
        data, _ = lie(order.stream(0, job.count + 1, 16, LINE), LENGTH, job.count, fault, apart)
    link.send(bytes(data))
    link.send(b"PING\r\n")
    link.wait_for(b"PONG\r\n")
    job.report(**clock.stop(job.count))


def main(fault: str, arguments: list[str]) -> None:
    job = child.Job.parse(arguments)
    if fault == "crash":
        raise ValueError("as a client may")
    if fault == "silence":
        time.sleep(600)
    if fault == "deaf":  # claims to have received all but one
        raw.Link(job).send(b"PUB %b 0\r\n\r\n" % child.GO.encode())
        job.report(seconds=1.0, cpu=1.0, counted=1, received=job.count - 1, lost=0, doubled=0, misordered=0, wrong=0)
    elif fault == "hoarder":  # has read a stream to its end, and acknowledged nothing
        job.report(seconds=1.0, cpu=1.0, counted=1, received=job.count, lost=0, doubled=0, misordered=0)
    elif fault == "boast":  # claims to have received what nobody sent
        job.report(seconds=1.0, cpu=1.0, counted=1, received=job.count, lost=0, doubled=0, misordered=0, wrong=1)
    else:
        publish(fault, job)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
