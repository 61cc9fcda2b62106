"""``python -m tests.simulation --seeds N``: run many seeds; ``--seed X --trace``: one, with its time line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.simulation.campaign import run_many
from tests.simulation.ducks import run_duck_seed
from tests.simulation.machine_run import (
    run_aged_seed,
    run_batch_seed,
    run_machine_seed,
    run_object_seed,
    run_reader_seed,
)
from tests.simulation.run import Result, run_seed


def main() -> int:
    """The number of failing seeds is not 0: exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--procs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="print its time line")
    parser.add_argument("--machines", action="store_true", help="the world of machines, not that of sessions")
    parser.add_argument("--readers", action="store_true", help="the same with handlers, push and ordered consumers")
    parser.add_argument("--batches", action="store_true", help="the same with who writes batches")
    parser.add_argument("--objects", action="store_true", help="the same with who puts, deletes and reads objects")
    parser.add_argument("--aged", action="store_true", help="the same with a reader that is slow")
    parser.add_argument("--ducks", action="store_true", help="the world of lame ducks")
    arguments = parser.parse_args()
    run = run_machine_seed if arguments.machines else run_seed
    for chosen, special in (
        (arguments.readers, run_reader_seed),
        (arguments.batches, run_batch_seed),
        (arguments.aged, run_aged_seed),
        (arguments.objects, run_object_seed),
        (arguments.ducks, run_duck_seed),
    ):
        run = special if chosen else run
    if arguments.seed is not None:
        return show(arguments.seed, run, trace=arguments.trace)
    if run is not run_seed:
        seeds = range(arguments.start, arguments.start + arguments.seeds)
        return max((show(seed, run, trace=False, quiet=True) for seed in seeds), default=0)
    return run_many(range(arguments.start, arguments.start + arguments.seeds), arguments.procs)


def show(seed: int, run: Callable[..., Result], *, trace: bool, quiet: bool = False) -> int:
    """One seed, with what happened in it. ``quiet``: only when it fails."""
    result = run(seed, recording=trace)
    if trace:
        print("\n".join(result.lines))
    if quiet and not result.failure:
        return 0
    print(f"seed {seed}: {result.failure or 'good'} ({result.steps} steps, {result.connects} connects)")
    return 1 if result.failure else 0


if __name__ == "__main__":
    sys.exit(main())
