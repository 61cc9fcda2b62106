"""Many seeds: run them, on several processes, and say what came of them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.simulation.faults import FAULTS
from tests.simulation.run import Result, run_seed

__all__ = ["checked", "kind", "replay_command", "run_many"]

EVERY = 50
"""Each so many seeds one is run twice, and both runs must be equal byte for byte."""

SHOWN = 5
"""Failing seeds of one kind that are named."""


def checked(seed: int) -> Result:
    """One seed; every so often twice. With the processor's time that it took."""
    begin = time.process_time()
    result = _checked(seed)
    result.cpu = time.process_time() - begin
    return result


def _checked(seed: int) -> Result:
    if seed % EVERY:
        return run_seed(seed)
    first = run_seed(seed, recording=True)
    second = run_seed(seed, recording=True)
    if not first.failure and first.fingerprint != second.fingerprint:
        first.failure = "Violation: two runs of the same seed were different"
    first.lines = []
    if not first.failure and seed % (2 * EVERY) == 0:
        first.failure = run_seed(seed, count_connections=True).failure
    return first


def results(seeds: Iterable[int], processes: int) -> Iterator[Result]:
    """Of all seeds, in whatever order they are done."""
    if processes == 1:
        yield from map(checked, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(checked, seeds, chunksize=25)


def replay_command(seed: int) -> str:
    """What shows a failing seed again."""
    return f"{os.path.relpath(sys.executable)} -m tests.simulation --seed {seed} --trace"


def run_many(seeds: range, processes: int) -> int:
    """Many seeds, and the tables."""
    begin = time.monotonic()
    hits: Counter[tuple[str, str]] = Counter()
    failures: dict[str, list[int]] = {}
    steps: list[int] = []
    connects: list[int] = []
    virtual = cpu = 0.0
    for result in results(seeds, processes):
        hits += result.hits
        steps.append(result.steps)
        connects.append(result.connects)
        virtual += result.seconds
        cpu += result.cpu
        if result.failure:
            failures.setdefault(kind(result.failure), []).append(result.seed)
    seconds = time.monotonic() - begin
    print_hits(hits)
    middle = len(steps) // 2
    print(
        f"{len(steps)} seeds in {seconds:.1f} s on {processes} processes: "
        f"{60 * len(steps) / seconds:.0f} seeds a minute, "
        f"{60 * len(steps) / cpu:.0f} a minute of processor time; "
        f"median {sorted(steps)[middle]} steps, {sorted(connects)[middle]} connects; "
        f"{virtual / 3600:.1f} virtual hours"
    )
    for failure, failed in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(failed)} × {failure}\n    seeds {sorted(failed)[:SHOWN]}\n    {replay_command(min(failed))}")
    print(f"{sum(map(len, failures.values()))} seeds failed")
    return 1 if failures else 0


def kind(failure: str) -> str:
    """A failure without its numbers: equal for equal causes."""
    first = failure.splitlines()[0][:160]
    return "".join("#" if c.isdigit() else c for c in first).replace("##", "#").replace("##", "#")


def print_hits(hits: Counter[tuple[str, str]]) -> None:
    """The table of faults by the status of the session they met."""
    columns = ("CONNECTING", "CONNECTED", "RECONNECTING", "DRAINING_SUBS", "DRAINING_PUBS", "CLOSED")
    print(f"{'fault':24}" + "".join(f"{column[:13]:>15}" for column in columns))
    for name in sorted({*FAULTS, *(name for name, _ in hits)}):
        print(f"{name:24}" + "".join(f"{hits[name, column]:15}" for column in columns))
