"""The next server of 10, of 1,000 and of 100,000, and whether all have a turn: ``python -m benchmarks.pool_rotation``.

The same number of steps for each size, in turn, best of several runs. Fairness is checked as well: in every round each
server once, in the same order as in the first. Exits with an error when it is not so.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections.abc import Iterable, Iterator

from nats_proto._servers.pool import ServerPool
from nats_proto._servers.server import Server
from nats_proto.errors import TransportError

SIZES = (10, 1_000, 100_000)
STEPS = 200_000
REFUSED = TransportError("connection refused")


def pool_of(size: int) -> ServerPool:
    """So many servers in the middle of an outage."""
    servers = [Server(scheme="nats", host=f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", port=4222) for i in range(size)]
    pool = ServerPool(servers, rng=random.Random(size))
    pool.begin(now=0.0)
    return pool


def seconds_per_step(pool: ServerPool, steps: int) -> float:
    """A step: the next server is named, and its dial fails."""
    next_attempt, record_failure = pool.next_attempt, pool.record_failure
    now = 0.0
    begin = time.perf_counter()
    for _ in range(steps):
        attempt = next_attempt(now=now)
        if attempt is not None:
            now = attempt.at
            record_failure(REFUSED, now=now)
    return (time.perf_counter() - begin) / steps


def measure(*, steps: int = STEPS, repetitions: int = 5) -> Iterator[tuple[int, float]]:
    """Servers and seconds per step."""
    pools = {size: pool_of(size) for size in SIZES}
    best = dict.fromkeys(SIZES, float("inf"))
    for _ in range(repetitions):
        for size, pool in pools.items():
            best[size] = min(best[size], seconds_per_step(pool, steps))
    yield from best.items()


def unfair_turns(turns: Iterable[str], size: int) -> int:
    """How many turns are not those of a strict rotation: each server once, then again in the same order."""
    order: list[str] = []
    seen: set[str] = set()
    unfair = 0
    for number, server in enumerate(turns):
        if number < size:
            unfair += server in seen
            seen.add(server)
            order.append(server)
        else:
            unfair += server != order[number % size]
    return unfair


def turns_of(pool: ServerPool, count: int) -> Iterator[str]:
    """The servers named, one after the other."""
    for _ in range(count):
        attempt = pool.next_attempt(now=0.0)
        if attempt is None:
            raise SystemExit("the pool named no server")
        yield attempt.server.host


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--repetitions", type=int, default=5)
    chosen = options.parse_args()
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, {chosen.steps:,} steps"
    )
    figures = dict(measure(steps=chosen.steps, repetitions=chosen.repetitions))
    for size, seconds in figures.items():
        unfair = unfair_turns(turns_of(pool_of(size), 3 * size), size)
        print(f"  next of {size:>7,} servers {seconds * 1e6:8.2f} us per step; 3 rounds, {unfair} turns out of order")
        if unfair:
            raise SystemExit("the rotation is not fair")
    ratio = figures[SIZES[-1]] / figures[SIZES[0]]
    print(f"  {SIZES[-1]:,} servers cost {ratio:.2f} times as much per step as {SIZES[0]}")


if __name__ == "__main__":
    main()
