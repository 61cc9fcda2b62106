"""Each feature of a newer server: it works there, and an older one is named by the error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nats_proto._jetstream.levels import level_of_consumer, level_of_stream
from nats_proto.jetstream import ConsumerConfig, StreamConfig, SubjectTransform
from tests.adapters.legs import Leg
from tests.jetstream.legs import jetstream
from tests.jetstream.versions import since

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ((2, 10), {"subject_transform": SubjectTransform(src="s.>", dest="t.>")}),
        ((2, 10), {"compression": "s2"}),
        ((2, 11), {"allow_msg_ttl": True}),
        ((2, 11), {"allow_msg_ttl": True, "allow_rollup_hdrs": True, "subject_delete_marker_ttl": 60}),
        ((2, 12), {"allow_msg_counter": True, "allow_direct": True}),
        ((2, 12), {"allow_atomic": True}),
        ((2, 12), {"allow_msg_schedules": True, "allow_msg_ttl": True}),
        ((2, 12), {"persist_mode": "async"}),
        ((2, 14), {"allow_batched": True}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else ".".join(map(str, value)),
)
async def test_features_of_streams(leg: Leg, url: str, version: tuple[int, ...], fields: dict[str, Any]) -> None:
    async with leg.connect(url) as client:
        with since(*version):
            stream = await jetstream(client).create_stream("S", subjects=["s.>"], **fields)
            there = (await stream.refresh()).config
            assert all(getattr(there, name) for name in fields)
            # Servers from 2.11 on write what they think a configuration needs.
            needs = (there.metadata or {}).get("_nats.req.level", str(level_of_stream(there)))
            assert needs == str(level_of_stream(StreamConfig(name="S", **fields)))


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ((2, 10), {"filter_subjects": ["s.a", "s.b"]}),
        ((2, 11), {"pause_until": datetime.now(UTC) + timedelta(days=1)}),
        ((2, 11), {"priority_policy": "overflow", "priority_groups": ["g"]}),
        ((2, 11), {"priority_policy": "pinned_client", "priority_groups": ["g"], "priority_timeout": 60}),
        ((2, 12), {"priority_policy": "prioritized", "priority_groups": ["g"]}),
    ],
    ids=["filter_subjects", "pause_until", "overflow", "pinned_client", "prioritized"],
)
async def test_features_of_consumers(leg: Leg, url: str, version: tuple[int, ...], fields: dict[str, Any]) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.>"])
        with since(*version):
            consumer = await stream.create_consumer("c", **fields)
            there = (await consumer.refresh()).config
            assert all(getattr(there, name) for name in fields)
            needs = (there.metadata or {}).get("_nats.req.level", str(level_of_consumer(there)))
            assert needs == str(level_of_consumer(ConsumerConfig(name="c", **fields)))


async def test_a_consumer_is_paused_and_resumed(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.>"])
        await stream.create_consumer("c")
        with since(2, 11):
            paused = await stream.pause_consumer("c", datetime.now(UTC) + timedelta(days=1))
            assert paused.paused
            assert (await stream.consumer("c").refresh()).paused
            assert not (await stream.resume_consumer("c")).paused


async def test_a_consumer_is_reset(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.>"])
        await stream.create_consumer("c")
        with since(2, 14):
            assert (await stream.reset_consumer("c", sequence=1)).name == "c"


async def test_a_pinned_client_is_let_go(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.>"])
        with since(2, 11):
            await stream.create_consumer("c", priority_policy="pinned_client", priority_groups=["g"])
            await stream.unpin_consumer("c", "g")
