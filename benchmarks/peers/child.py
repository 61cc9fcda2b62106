"""What the Python clients under measurement share: their orders, the clock, the one line they answer with."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks import order

__all__ = [
    "BATCH",
    "BUCKET",
    "CONCURRENT",
    "CONSUMER",
    "FETCH",
    "GO",
    "HANDLERS",
    "IDLE",
    "KEPT_WHOLE",
    "KEY",
    "KEYS",
    "MANY",
    "OBJECT",
    "SPREAD",
    "STREAM",
    "SUBJECT",
    "WINDOW",
    "Clock",
    "Job",
    "Result",
    "Times",
    "main",
    "memory",
    "peak_after",
    "resident",
]

SUBJECT = order.SUBJECT
SPREAD = order.SPREAD
IDLE = "bench.idle.%d"
GO = "bench.go"
MANY = "bench.many.%d"
BATCH = 512
"""Messages asked for at once (`next_batch`), and published at once (`publish_many`)."""
CONCURRENT = 100
"""Requests under way at once."""
STREAM = "BENCH"
CONSUMER = "bench"
"""As `benchmarks.streams` makes them."""
BUCKET = STREAM
KEY = "key.%d"
KEYS = 1000
"""That take turns."""
OBJECT = "object"
"""As `benchmarks.streams` makes them."""
WINDOW = 1000
"""Publishes to a stream under way at once."""
FETCH = 500
"""Messages of a stream asked for at once, and buffered at most."""
HANDLERS = 8
"""Handlers of a stream's messages beside each other."""
KEPT_WHOLE = 128
"""Payloads up to this size are kept whole until they are looked at: one list append for each message."""

Result = dict[str, object]
Work = Callable[["Job"], object]


@dataclass(frozen=True)
class Job:
    """One repetition."""

    work: str = "about"
    url: str = ""
    port: int = 0
    count: int = 0
    size: int = 16
    subs: int = 0
    workers: int = 0
    """Threads or tasks beside each other."""
    case: str = ""
    ca: str = ""
    """PEM file of the authority to trust, when it is TLS."""

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Job:
        given = dict(argument.split("=", 1) for argument in arguments)
        for name in ("port", "count", "size", "subs", "workers"):
            if name in given:
                given[name] = int(given[name])  # type: ignore[assignment]
        return cls(**given)  # type: ignore[arg-type]

    def payloads(self) -> Iterator[bytes]:
        return order.ring(self.size, self.count)

    def batches(self) -> list[list[bytes]]:
        """The same, for `publish_many`."""
        payloads = self.payloads()
        return list(iter(lambda: list(islice(payloads, BATCH)), []))

    def shares(self) -> list[Iterator[bytes]]:
        """The same, for so many workers beside each other."""
        return order.shares(self.size, self.count, self.workers)

    @property
    def whole(self) -> bool:
        return self.size <= KEPT_WHOLE

    def findings(self, kept: Sequence[bytes]) -> Result:
        return dict(order.findings(order.numbers(kept), self.count))

    def findings_of_numbers(self, numbers: Iterable[int]) -> Result:
        return dict(order.findings(numbers, self.count))

    def spread_findings(self, kept: Sequence[Sequence[bytes]]) -> Result:
        return dict(order.spread_findings(kept, self.count))

    def report(self, **result: object) -> None:
        """Print what was found, and keep everything as it is until standard input ends."""
        print(json.dumps(result), flush=True)
        sys.stdin.read()


class Clock:
    """Seconds and seconds of processor time since it was made; all threads of the process."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._start = time.perf_counter()

    def stop(self, counted: int) -> Result:
        seconds = time.perf_counter() - self._start
        return {"seconds": seconds, "cpu": time.process_time() - self._cpu, "counted": counted}


class Times:
    """Round trips."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.wrong = 0

    def result(self) -> Result:
        ordered = sorted(self.seconds)
        count = len(ordered)
        return {
            "received": count,
            "wrong": self.wrong,
            "p50": ordered[count // 2],
            "p99": ordered[min(count - 1, count * 99 // 100)],
        }


def resident() -> int:
    """Bytes of memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory() -> Result:
    """Resident memory of this process in bytes: now, and the most there was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    return {"resident": sizes["VmRSS"], "peak": sizes["VmHWM"]}


def peak_after(before: int) -> Result:
    """How far memory has ever grown beyond what `resident` was ``before``."""
    peak = memory()["peak"]
    assert isinstance(peak, int)
    return {"grown": max(0, peak - before)}


def main(works: Mapping[str, Work], about: Callable[[], Result]) -> None:
    """Do what the command line says."""
    job = Job.parse(sys.argv[1:])
    if job.work == "about":
        print(json.dumps({"python": sys.version.split()[0], **about()}), flush=True)
    else:
        works[job.work](job)
