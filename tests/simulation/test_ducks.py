"""Lame ducks in the simulated world: seeds that must be good, the same run twice, and the bugs that it must find."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import planted
from tests.simulation.duck_bugs import DUCK_BUGS
from tests.simulation.ducks import DuckSimulation, run_duck_seed
from tests.simulation.power import seeds_needed

SEEDS = 200
GROUP = 50
RARE = (
    "copies forgotten",
    "copies forgotten by a drain",
    "copies waited for by the clock",
    "drain between two has none",
    "drain comes back before it has joined",
    "drain ends with the duck",
    "drain has lost no member",
    "drain has lost nothing",
    "drain is over between two",
    "duck dropped in the middle",
    "end of a subscription is not told",
    "held is thrown away",
    "maximum of the old one",
    "member stays at both",
    "stranded leaves at once",
    "subscribed twice",
)
"""Bugs that may take more than a few seeds: ``make simulate-power`` looks for these, too."""
FEW = 80


def replay(seed: int) -> str:
    return f"python -m tests.simulation --ducks --seed {seed} --trace"


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_seeds(first: int) -> None:
    for seed in range(first, first + GROUP):
        result = run_duck_seed(seed)
        assert not result.failure, f"{result.failure}\nreplay: {replay(seed)}"


def test_clients_move_and_both_servers_give() -> None:
    moved = ended = given = 0
    for seed in range(20):
        simulation = DuckSimulation(seed)
        simulation.run()
        moved += simulation.moves
        for client in simulation.clients:
            closed = client.checks.order.closed
            ended += closed is not None and closed.error is None
            given += len({given.transport for given in client.given}) > 1
    assert moved > 60
    assert ended > 20
    assert given > 20


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_is_the_same_run_every_time(seed: int) -> None:
    first, second = run_duck_seed(seed, recording=True), run_duck_seed(seed, recording=True)
    assert first.lines == second.lines
    assert first.fingerprint == second.fingerprint != run_duck_seed(seed + 10, recording=True).fingerprint


@pytest.mark.parametrize("name", DUCK_BUGS)
def test_every_bug_can_be_planted(name: str) -> None:
    with planted(DUCK_BUGS[name]):
        pass


@pytest.mark.parametrize("name", [name for name in DUCK_BUGS if name not in RARE])
def test_a_planted_bug_is_found(name: str) -> None:
    assert seeds_needed(DUCK_BUGS[name], FEW, run=run_duck_seed) is not None
