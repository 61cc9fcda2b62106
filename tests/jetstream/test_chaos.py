"""F39 in short: a stream's leader is killed under publishers and a reader. `make chaos-jetstream` does it longer."""

from __future__ import annotations

import pytest

from tests.adapters.legs import Leg
from tests.jetstream.chaos import Chaos
from tests.jetstream.cluster import Replicas

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.mark.transports("tcp")
async def test_f39_leader_killed_under_publishers(leg: Leg, replicas: Replicas, record_property: object) -> None:
    chaos = Chaos(leg, replicas, publishes=500, kills=1)
    assert await chaos.run() == []
    counts = chaos.history.counts()
    assert counts["never ended"] == 0
    assert counts["ok"] > 250  # all that were published before the kill, at least
    record_property("F39", f"F39 {leg.name}: {counts}, {max(chaos.gaps):.1f} s without an acknowledgement")
