"""The simulated world in the test suite: 200 seeds, the same run twice, and the bugs that it must find."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.bugs import BUGS, planted
from tests.simulation.campaign import checked, replay_command
from tests.simulation.power import seeds_needed
from tests.simulation.run import run_seed

SEEDS = 200
GROUP = 25
ROOT = Path(__file__).resolve().parents[2]

RARE = (
    "drain drops late messages",
    "drain forgets to write",
    "drain leaves a lame duck behind",
    "drain waits for a call",
    "heard after the end",
    "late delay counts",
    "PONGs drive the ping counter",
    "published into the void",
    "quiet moment missed",
    "refusals never forgotten",
    "stale bytes in flight",
    "written twice",
)
"""Bugs that may take more than a few seeds: ``make simulate-power`` looks for these, too."""
FEW = 60
"""Seeds in which each of the others must be found; most take fewer than ten."""


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_seeds(first: int) -> None:
    for seed in range(first, first + GROUP):
        result = checked(seed)
        assert not result.failure, f"{result.failure}\nreplay: {replay_command(seed)}"


def test_faults_are_hit_and_connections_made() -> None:
    results = [run_seed(seed) for seed in range(20)]
    assert sum(result.connects for result in results) > 40
    assert len({name for result in results for name, _ in result.hits}) > 15


@pytest.mark.parametrize("seed", [34186])
def test_seeds_that_found_something(seed: int) -> None:
    result = checked(seed)
    assert not result.failure, f"{result.failure}\nreplay: {replay_command(seed)}"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_is_the_same_run_every_time(seed: int) -> None:
    first, second = run_seed(seed, recording=True), run_seed(seed, recording=True)
    assert first.lines == second.lines
    assert first.fingerprint == second.fingerprint != run_seed(seed + 1, recording=True).fingerprint


def test_a_seed_is_the_same_run_under_another_hash_seed() -> None:
    seeds = range(400, 406)
    program = (
        "from tests.simulation.run import run_seed\n"
        f"for seed in range({seeds.start}, {seeds.stop}):\n"
        "    print(run_seed(seed, recording=True).fingerprint)\n"
    )
    here = [run_seed(seed, recording=True).fingerprint for seed in seeds]
    for hash_seed in ("1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert done.stdout.split() == here


def test_a_replaced_connection_is_not_kept_alive() -> None:
    for seed in range(10):
        result = run_seed(seed, count_connections=True)
        assert not result.failure, f"{result.failure}\nreplay: {replay_command(seed)}"


@pytest.mark.parametrize("name", BUGS)
def test_every_bug_can_be_planted(name: str) -> None:
    with planted(BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in BUGS if name not in RARE])
def test_a_planted_bug_is_found(name: str) -> None:
    assert seeds_needed(BUGS[name], FEW) is not None
