"""Batches of streams with three replicas, whose leader changes in the midst of one."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from nats_proto.errors import NATSError
from tests.adapters.legs import Leg, in_thread
from tests.jetstream.cluster import Replicas, patiently
from tests.jetstream.legs import jetstream
from tests.server_version import needs_server

pytestmark = [pytest.mark.clusters, pytest.mark.anyio]


async def stored(client: Any, subject: str) -> list[int]:
    """The numbers that a stream has of a subject, in its order."""
    stream = jetstream(client).stream("S")
    last = (await patiently(stream.refresh)).state.last_seq
    messages = [await patiently(stream.get_msg, sequence, direct=False) for sequence in range(1, last + 1)]
    return [int(message.data) for message in messages if message.subject == subject]


@needs_server(2, 12, has="atomic batches")
async def test_a_batch_whose_stream_gets_another_leader(leg: Leg, calm_replicas: Replicas) -> None:
    """All of it is stored or nothing, and the outcome says so."""
    await in_thread(lambda: calm_replicas.create_stream("S", "s.>", storage="memory", allow_atomic=True))
    async with leg.connect(calm_replicas.urls) as client:
        js = jetstream(client, timeout=5.0)

        async def store(subject: str, changes_at: int) -> None:
            async with js.atomic_batch() as batch:
                for number in range(6):
                    if number == changes_at:
                        await in_thread(lambda: calm_replicas.step_down("S"))
                    await batch.publish(subject, b"%d" % number)

        for changes_at in range(1, 6, 2):
            subject, outcome = f"s.{changes_at}", "stored"
            try:
                await store(subject, changes_at)
            except NATSError as error:
                outcome = error.outcome
            # A leader that is new may have to read up what is stored.
            await in_thread(lambda: calm_replicas.wait_until_current("S"))
            expected = {"stored": [[*range(6)]], "failed": [[]], "unknown": [[], [*range(6)]]}[outcome]
            assert await stored(client, subject) in expected, outcome


@needs_server(2, 14, has="fast ingest")
@pytest.mark.parametrize("on_gap", ["fail", "ok"])
async def test_an_ingest_whose_stream_gets_another_leader(
    leg: Leg, calm_replicas: Replicas, on_gap: Literal["fail", "ok"]
) -> None:
    """What was acknowledged is stored, and nothing is there twice."""
    await in_thread(lambda: calm_replicas.create_stream("S", "s.>", storage="memory", allow_batched=True))
    async with leg.connect(calm_replicas.urls) as client:
        ingest = jetstream(client, timeout=5.0).fast_ingest(on_gap=on_gap, flow=20)

        async def write() -> None:
            async with ingest:
                for number in range(1, 301):
                    if number == 150:
                        await in_thread(lambda: calm_replicas.step_down("S"))
                    await ingest.publish("s.a", b"%d" % number)

        error: NATSError | None = None
        try:
            await write()
        except NATSError as failure:
            error = failure
        await in_thread(lambda: calm_replicas.wait_until_current("S"))
        there = await stored(client, "s.a")
        assert there == sorted(set(there))
        if on_gap == "fail":
            assert there[: ingest.acknowledged] == [*range(1, ingest.acknowledged + 1)]
            assert there == [*range(1, len(there) + 1)]
        if error is None:
            assert len(there) == 300 - ingest.lost
        else:
            assert error.outcome == "unknown"
