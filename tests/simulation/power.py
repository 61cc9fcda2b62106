"""``python -m tests.simulation.power``: how many seeds does it take to find each bug of the bank?"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.simulation.batch_bugs import BATCH_BUGS
from tests.simulation.bugs import BUGS, Bug, planted
from tests.simulation.campaign import kind
from tests.simulation.duck_bugs import DUCK_BUGS
from tests.simulation.ducks import run_duck_seed
from tests.simulation.machine_bugs import MACHINE_BUGS
from tests.simulation.machine_run import (
    run_aged_seed,
    run_batch_seed,
    run_machine_seed,
    run_object_seed,
    run_reader_seed,
)
from tests.simulation.object_bugs import OBJECT_BUGS
from tests.simulation.reader_bugs import AGE_BUGS, READER_BUGS
from tests.simulation.run import Result, run_seed

__all__ = ["seeds_needed"]


RUNS: Final[tuple[tuple[dict[str, Bug], Callable[[int], Result]], ...]] = (
    (MACHINE_BUGS, run_machine_seed),
    (READER_BUGS, run_reader_seed),
    (BATCH_BUGS, run_batch_seed),
    (AGE_BUGS, run_aged_seed),
    (OBJECT_BUGS, run_object_seed),
    (DUCK_BUGS, run_duck_seed),
)
"""Which bugs are looked for where; all others in the world of sessions."""


def seeds_needed(
    bug: Bug, most: int, *, start: int = 0, run: Callable[[int], Result] = run_seed
) -> tuple[int, str] | None:
    """How many seeds until one fails, and how it fails; None when ``most`` are not enough.

    ``run``: in the world of sessions, or in that of machines.
    """
    with planted(bug):
        for seed in range(start, start + most):
            result = run(seed)
            if result.failure:
                return seed - start + 1, result.failure
    return None


def main() -> int:
    """Exit status 1 when a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.power", description=__doc__)
    parser.add_argument("--most", type=int, default=2000, help="seeds for each bug")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--bug", help="this one only")
    arguments = parser.parse_args()
    needed: list[int] = []
    missed: list[str] = []
    banks = (BUGS, MACHINE_BUGS, READER_BUGS, BATCH_BUGS, AGE_BUGS, OBJECT_BUGS, DUCK_BUGS)
    for name, bug in (item for bank in banks for item in bank.items()):
        if arguments.bug not in (None, name):
            continue
        begin = time.monotonic()
        run = next((run for bank, run in RUNS if name in bank), run_seed)
        found = seeds_needed(bug, arguments.most, start=arguments.start, run=run)
        if found is None:
            missed.append(name)
            print(f"{name:36} not found in {arguments.most} seeds", flush=True)
        else:
            needed.append(found[0])
            print(
                f"{name:36} {found[0]:5} seeds, {time.monotonic() - begin:5.1f} s   {kind(found[1])[:100]}", flush=True
            )
    if needed:
        tried = len(needed) + len(missed)
        print(f"{len(needed)} of {tried} found; median {statistics.median(needed):g}, worst {max(needed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
