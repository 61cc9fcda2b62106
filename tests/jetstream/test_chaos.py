"""F39 to F41 in short: a stream's leader is killed, steps down, stands still, under publishers and a reader.

`make chaos-jetstream` does it longer; ``FAULTS=full`` as long as a release asks for.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.adapters.legs import Leg
from tests.faults.record import FULL
from tests.jetstream.chaos import Chaos
from tests.jetstream.cluster import Replicas

pytestmark = [pytest.mark.clusters, pytest.mark.anyio, pytest.mark.long, pytest.mark.transports("tcp")]

Record = Callable[[str, object], None]


def told(chaos: Chaos, fault: str, leg: Leg, record: Record) -> None:
    counts = chaos.history.counts()
    assert counts["never ended"] == 0
    record(fault, f"{fault} {leg.name}: {counts}, {max(chaos.gaps):.1f} s without an acknowledgement")


async def test_f39_the_leader_is_killed_under_a_full_window(
    leg: Leg, replicas: Replicas, record_property: Record
) -> None:
    chaos = Chaos(leg, replicas)
    assert await chaos.run(["kill"] * (5 if FULL else 1), publishes=20_000 if FULL else 2500) == []
    told(chaos, "F39", leg, record_property)
    ids = [entry for entry in chaos.history.of("publish") if entry.msg_id is not None and entry.pipelined]
    assert [entry.error for entry in ids if entry.outcome != "ok"] == []  # with an id it is tried until it is known


async def test_f40_the_leader_steps_down_over_and_over(leg: Leg, replicas: Replicas, record_property: Record) -> None:
    chaos = Chaos(leg, replicas)
    every, times = (2.0, 30) if FULL else (0.5, 4)
    assert await chaos.run_stepping_down(every=every, times=times, pause=0.01) == []
    told(chaos, "F40", leg, record_property)
    publishes = len(chaos.history.of("publish"))
    again = chaos.sent - publishes
    record_property("F40 again", f"{again} of {publishes} publishes were tried again")
    if FULL:
        assert again <= 0.02 * publishes


async def test_f41_two_of_three_stand_still(leg: Leg, replicas: Replicas, record_property: Record) -> None:
    chaos = Chaos(leg, replicas, frozen_for=20.0 if FULL else 2.0)
    assert await chaos.run(["no quorum"], publishes=1000) == []
    told(chaos, "F41", leg, record_property)
