"""Machines in the simulated world: seeds that must be good, the same run twice, and the bugs that it must find."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.bugs import planted
from tests.simulation.machine_bugs import MACHINE_BUGS
from tests.simulation.machine_run import MachineSimulation, run_machine_seed, run_reader_seed
from tests.simulation.power import seeds_needed
from tests.simulation.reader_bugs import READER_BUGS

SEEDS = 200
GROUP = 25
RARE = (
    "earlier try forgotten",
    "leader change ends all",
    "no pause between requests",
    "sent again without an id",
)
"""Bugs that may take more than a few seeds: ``make simulate-power`` looks for these, too."""
FEW = 80


RARE_READERS = ("kept alive once", "old messages begun")


def replay(seed: int) -> str:
    return f"python -m tests.simulation --machines --seed {seed} --trace"


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_seeds(first: int) -> None:
    for seed in range(first, first + GROUP):
        result = run_machine_seed(seed)
        assert not result.failure, f"{result.failure}\nreplay: {replay(seed)}"


def test_a_seed_that_found_something() -> None:
    result = run_machine_seed(887)
    assert not result.failure, f"{result.failure}\nreplay: {replay(887)}"


def test_all_users_and_many_faults_are_there() -> None:
    simulations = [MachineSimulation(seed) for seed in range(30)]
    assert len(Counter(type(simulation.user) for simulation in simulations)) == 3
    hits = Counter(name for seed in range(30) for name, _ in run_machine_seed(seed).hits)
    assert len(hits) > 15


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_seed_is_the_same_run_every_time(seed: int) -> None:
    first, second = run_machine_seed(seed, recording=True), run_machine_seed(seed, recording=True)
    assert first.lines == second.lines
    assert first.fingerprint == second.fingerprint != run_machine_seed(seed + 10, recording=True).fingerprint


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_seeds_of_other_readers(first: int) -> None:
    for seed in range(first, first + GROUP):
        result = run_reader_seed(seed)
        assert not result.failure, f"{result.failure}\nreplay: {replay(seed)} --readers"


def test_a_seed_of_other_readers_that_found_something() -> None:
    """A worker that was stopped for ten minutes asked for nothing any more."""
    result = run_reader_seed(1234)
    assert not result.failure, f"{result.failure}\nreplay: {replay(1234)} --readers"


def test_all_other_readers_are_there_and_read() -> None:
    given: Counter[str] = Counter()
    for seed in range(12):
        simulation = MachineSimulation(seed, readers=True)
        simulation.run()
        given[type(simulation.user).__name__] += simulation.user.driver.given
    assert len(given) == 3
    assert min(given.values()) > 50


@pytest.mark.parametrize("name", READER_BUGS)
def test_every_bug_of_other_readers_can_be_planted(name: str) -> None:
    with planted(READER_BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in READER_BUGS if name not in RARE_READERS])
def test_a_planted_bug_of_other_readers_is_found(name: str) -> None:
    assert seeds_needed(READER_BUGS[name], FEW, run=run_reader_seed) is not None


@pytest.mark.parametrize("name", MACHINE_BUGS)
def test_every_bug_can_be_planted(name: str) -> None:
    with planted(MACHINE_BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in MACHINE_BUGS if name not in RARE])
def test_a_planted_bug_is_found(name: str) -> None:
    assert seeds_needed(MACHINE_BUGS[name], FEW, run=run_machine_seed) is not None
