"""``python -m tests.simulation --seeds N``: run many seeds; ``--seed X --trace``: one, with its time line."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.campaign import run_many
from tests.simulation.run import run_seed


def main() -> int:
    """The number of failing seeds is not 0: exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--procs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="print its time line")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return show(arguments.seed, trace=arguments.trace)
    return run_many(range(arguments.start, arguments.start + arguments.seeds), arguments.procs)


def show(seed: int, *, trace: bool) -> int:
    """One seed, with what happened in it."""
    result = run_seed(seed, recording=True)
    if trace:
        print("\n".join(result.lines))
    print(f"seed {seed}: {result.failure or 'good'} ({result.steps} steps, {result.connects} connects)")
    return 1 if result.failure else 0


if __name__ == "__main__":
    sys.exit(main())
