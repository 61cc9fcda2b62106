"""Machines in the simulated world: seeds that must be good, the same run twice, and the bugs that it must find."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.batch_bugs import BATCH_BUGS
from tests.simulation.bugs import planted
from tests.simulation.machine_bugs import MACHINE_BUGS
from tests.simulation.machine_objects import ObjectUser
from tests.simulation.machine_run import (
    MachineSimulation,
    run_aged_seed,
    run_batch_seed,
    run_machine_seed,
    run_object_seed,
    run_reader_seed,
)
from tests.simulation.object_bugs import OBJECT_BUGS
from tests.simulation.power import seeds_needed
from tests.simulation.reader_bugs import AGE_BUGS, READER_BUGS

SEEDS = 100
GROUP = 25
RARE = (
    "ack that has come before",
    "earlier try forgotten",
    "handed out twice",
    "leader change ends all",
    "no pause between requests",
    "sent again without an id",
    "sent by who comes late",
    "sent when its id is forgotten",
    "silence of a short fetch",
    "tried when its id is forgotten",
)
"""Bugs that may take more than a few seeds: ``make simulate-power`` looks for these, too."""
FEW = 80


RARE_READERS = (
    "consumer kept with a new connection",
    "kept alive once",
    "old messages begun",
    "old messages taken for new ones",
)
RARE_OBJECTS = ("ids believed for ever", "nobody asks why", "two puts at once", "waits with its eyes open")
RARE_BATCHES = ("loss counted twice", "no responders for a question", "refusals make no room")


def replay(seed: int) -> str:
    return f"python -m tests.simulation --machines --seed {seed} --trace"


def run(simulation: MachineSimulation, seed: int, kind: str) -> None:
    """Run it, and say how to run it again when it finds something."""
    try:
        simulation.run()
    except Exception as error:
        raise AssertionError(f"{error}\nreplay: {replay(seed)} --{kind}") from error


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_seeds(first: int) -> None:
    """All are good, and many faults are there."""
    hits: Counter[str] = Counter()
    for seed in range(first, first + GROUP):
        result = run_machine_seed(seed)
        assert not result.failure, f"{result.failure}\nreplay: {replay(seed)}"
        hits.update(name for name, _ in result.hits)
    assert len(hits) > 15


def test_a_seed_that_found_something() -> None:
    result = run_machine_seed(887)
    assert not result.failure, f"{result.failure}\nreplay: {replay(887)}"


def test_all_users_are_there() -> None:
    assert len({type(MachineSimulation(seed).user) for seed in range(30)}) == 3


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_seed_is_the_same_run_every_time(seed: int) -> None:
    first, second = run_machine_seed(seed, recording=True), run_machine_seed(seed, recording=True)
    assert first.lines == second.lines
    assert first.fingerprint == second.fingerprint != run_machine_seed(seed + 10, recording=True).fingerprint


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_seeds_of_other_readers(first: int) -> None:
    """All of them are there, and read."""
    given: Counter[str] = Counter()
    for seed in range(first, first + GROUP):
        simulation = MachineSimulation(seed, readers=True)
        run(simulation, seed, "readers")
        given[type(simulation.user).__name__] += simulation.user.driver.given
    assert len(given) == 3
    assert min(given.values()) > 50


@pytest.mark.parametrize("seed", [289, 1234])
def test_a_seed_of_other_readers_that_found_something(seed: int) -> None:
    """An ordered consumer that a server had made anew was read on behind a hole. A worker that was stopped for ten
    minutes asked for nothing any more."""
    result = run_reader_seed(seed)
    assert not result.failure, f"{result.failure}\nreplay: {replay(seed)} --readers"


@pytest.mark.parametrize("name", READER_BUGS)
def test_every_bug_of_other_readers_can_be_planted(name: str) -> None:
    with planted(READER_BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in READER_BUGS if name not in RARE_READERS])
def test_a_planted_bug_of_other_readers_is_found(name: str) -> None:
    assert seeds_needed(READER_BUGS[name], FEW, run=run_reader_seed) is not None


@pytest.mark.parametrize("first", range(0, SEEDS // 2, GROUP))
def test_seeds_of_a_reader_that_is_slow(first: int) -> None:
    """Row 18: what has lain unread for too long is handed to nobody, and nothing else is left out."""
    outlived = 0
    for seed in range(first, first + GROUP):
        simulation = MachineSimulation(seed, aged=True)
        run(simulation, seed, "aged")
        outlived += simulation.user.machine.outlived
    assert outlived


@pytest.mark.parametrize("name", [name for name in AGE_BUGS if name not in RARE])
def test_a_planted_bug_of_ages_is_found(name: str) -> None:
    assert seeds_needed(AGE_BUGS[name], FEW, run=run_aged_seed) is not None


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_seeds_of_batches(first: int) -> None:
    """All who write them are there, and write."""
    stored: Counter[str] = Counter()
    dropped = 0
    for seed in range(first, first + GROUP):
        simulation = MachineSimulation(seed, batches=True)
        run(simulation, seed, "batches")
        stored[type(simulation.user).__name__] += simulation.stream.last
        dropped += simulation.client.session.stats.dropped_publishes
    assert len(stored) == 3
    assert min(stored.values()) > 50
    assert dropped


@pytest.mark.parametrize("name", BATCH_BUGS)
def test_every_bug_of_batches_can_be_planted(name: str) -> None:
    with planted(BATCH_BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in BATCH_BUGS if name not in RARE_BATCHES])
def test_a_planted_bug_of_batches_is_found(name: str) -> None:
    assert seeds_needed(BATCH_BUGS[name], FEW, run=run_batch_seed) is not None


@pytest.mark.parametrize("first", range(0, SEEDS // 2, GROUP))
def test_seeds_of_objects(first: int) -> None:
    """They are put, and read, and replaced meanwhile."""
    counts: Counter[str] = Counter()
    for seed in range(first, first + GROUP):
        simulation = MachineSimulation(seed, objects=True)
        run(simulation, seed, "objects")
        assert isinstance(simulation.user, ObjectUser)
        counts += simulation.user.counts
    assert min(counts[what] for what in ("put", "failed", "deleted", "read", "not read", "not found")) > 1, counts


def test_a_seed_of_objects_that_found_something() -> None:
    """A put went on after ten minutes of sleep, and stored a chunk a second time."""
    result = run_object_seed(778)
    assert not result.failure, f"{result.failure}\nreplay: {replay(778)} --objects"


@pytest.mark.parametrize("name", OBJECT_BUGS)
def test_every_bug_of_objects_can_be_planted(name: str) -> None:
    with planted(OBJECT_BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in OBJECT_BUGS if name not in RARE_OBJECTS])
def test_a_planted_bug_of_objects_is_found(name: str) -> None:
    assert seeds_needed(OBJECT_BUGS[name], FEW, run=run_object_seed) is not None


@pytest.mark.parametrize("name", MACHINE_BUGS)
def test_every_bug_can_be_planted(name: str) -> None:
    with planted(MACHINE_BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in MACHINE_BUGS if name not in RARE])
def test_a_planted_bug_is_found(name: str) -> None:
    assert seeds_needed(MACHINE_BUGS[name], FEW, run=run_machine_seed) is not None
