"""Declarative set-up on a real server: what it takes for a difference, and what it never changes."""

from __future__ import annotations

from typing import Any

import pytest

from nats_proto._objectstore.bucket import ObjectStoreConfig
from nats_proto.jetstream import (
    ApiError,
    ConsumerConfig,
    ImmutableFieldError,
    KeyValueConfig,
    Placement,
    Republish,
    StreamConfig,
    StreamSource,
    SubjectTransform,
)
from tests.adapters.legs import Leg
from tests.jetstream.legs import jetstream
from tests.server_version import needs_server

pytestmark = pytest.mark.anyio

STREAMS = [
    StreamConfig(name="PLAIN", subjects=["plain.>"]),
    StreamConfig(
        name="FULL",
        description="all of it",
        subjects=["full.b", "full.a"],
        retention="interest",
        max_consumers=-1,
        max_msgs=0,
        max_bytes=0,
        max_age=60,
        max_msgs_per_subject=5,
        max_msg_size=0,
        discard="new",
        storage="memory",
        num_replicas=1,
        no_ack=False,
        duplicate_window=30,
        compression="none",
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
        metadata={"team": "a"},
        republish=Republish(src="full.a", dest="again.a"),
        subject_transform=SubjectTransform(src="full.b", dest="full.c"),
    ),
    StreamConfig(name="COPY", mirror=StreamSource(name="PLAIN")),
]
CONSUMERS: dict[str, Any] = {
    "PLAIN": [
        ConsumerConfig(durable_name="little"),
        ConsumerConfig(
            durable_name="much",
            description="all of it",
            deliver_policy="new",
            ack_policy="explicit",
            max_deliver=5,
            backoff=[1, 5, 30],
            filter_subjects=["plain.b", "plain.a"],
            replay_policy="original",
            max_ack_pending=7,
            max_waiting=8,
            max_batch=9,
            max_expires=10,
            inactive_threshold=3600,
            metadata={"team": "a"},
        ),
        ConsumerConfig(durable_name="one", filter_subject="plain.a", ack_wait=3.5),
    ]
}
BUCKETS = [
    KeyValueConfig(bucket="little"),
    KeyValueConfig(
        bucket="much",
        description="b",
        history=5,
        ttl=60,
        max_bytes=10_000,
        max_value_size=100,
        storage="memory",
        compression=True,
        metadata={"team": "a"},
    ),
    ObjectStoreConfig(bucket="files", ttl=60, compression=True),
    KeyValueConfig(bucket="both", sources=[StreamSource(name="little"), StreamSource(name="much")]),
]


async def test_what_was_set_up_is_found_to_be_set_up(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        given: dict[str, Any] = {"streams": STREAMS, "consumers": CONSUMERS, "buckets": BUCKETS}
        looked = await js.ensure(**given, dry_run=True)
        assert [step.action for step in looked.steps] == ["create"] * 10
        assert [name async for name in js.stream_names()] == []
        assert str(await js.ensure(**given)).count("created") == 10
        again = await js.ensure(**given)
        assert (str(again), again.changes) == ("nothing to do", ())
        # The same, once more made of what the server has told.
        told = [(await js.stream(config.name).refresh()).config for config in STREAMS]
        assert str(await js.ensure(streams=told)) == "nothing to do"


async def test_what_differs_is_changed_and_the_rest_stays(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.ensure(streams=STREAMS[:2], consumers=CONSUMERS, buckets=BUCKETS[:2])
        wanted: dict[str, Any] = {
            "streams": [StreamConfig(name="FULL", max_age=120, metadata={"team": "b"})],
            "consumers": [("PLAIN", ConsumerConfig(durable_name="much", filter_subject="plain.c"))],
            "buckets": [KeyValueConfig(bucket="much", history=6, ttl=30)],
        }
        report = await js.ensure(**wanted)
        assert str(report).splitlines() == [
            "updated stream 'FULL'",
            "    max_age: 60.0 -> 120.0",
            "    metadata: {'team': 'a'} -> {'team': 'b'}",
            "updated bucket 'much'",
            "    history: 5 -> 6",
            "    ttl: 60.0 -> 30.0",
            "updated consumer 'much' of stream 'PLAIN'",
            "    filter_subject: None -> 'plain.c'",
        ]
        assert str(await js.ensure(**wanted)) == "nothing to do"
        info = await js.stream("FULL").refresh()
        assert (info.config.duplicate_window, info.config.max_msgs_per_subject) == (30.0, 5)
        status = await (await js.key_value("much")).status()
        assert (status.config.max_value_size, status.config.description) == (100, "b")


IMMUTABLE: dict[str, tuple[StreamConfig, StreamConfig]] = {
    "storage": (StreamConfig(name="S"), StreamConfig(name="S", storage="memory")),
    "retention": (StreamConfig(name="S"), StreamConfig(name="S", retention="workqueue")),
    "deny_delete": (StreamConfig(name="S", deny_delete=True), StreamConfig(name="S", deny_delete=False)),
    "deny_purge": (StreamConfig(name="S", deny_purge=True), StreamConfig(name="S", deny_purge=False)),
    "sealed": (StreamConfig(name="S"), StreamConfig(name="S", sealed=False)),
    "allow_msg_ttl": (StreamConfig(name="S", allow_msg_ttl=True), StreamConfig(name="S", allow_msg_ttl=False)),
    "allow_msg_counter": (StreamConfig(name="S"), StreamConfig(name="S", allow_msg_counter=True)),
    "persist_mode": (StreamConfig(name="S"), StreamConfig(name="S", persist_mode="async")),
    "mirror": (StreamConfig(name="S"), StreamConfig(name="S", mirror=StreamSource(name="PLAIN"))),
    "mirror.name": (
        StreamConfig(name="S", mirror=StreamSource(name="PLAIN")),
        StreamConfig(name="S", mirror=StreamSource(name="FULL")),
    ),
}


SINCE = {"allow_msg_ttl": (2, 11), "allow_msg_counter": (2, 12), "persist_mode": (2, 12)}
"""Fields that older servers do not know."""


def fields(of: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(field, marks=[needs_server(*SINCE[field], has=field)] if field in SINCE else []) for field in of
    ]


@pytest.mark.parametrize("field", fields(IMMUTABLE))
async def test_what_a_server_never_changes_of_a_stream(leg: Leg, url: str, field: str) -> None:
    before, after = IMMUTABLE[field]
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream(config=before)
        if field == "sealed":
            await js.update_stream(config=StreamConfig(name="S", sealed=True))  # it cannot be created so
        with pytest.raises(ApiError):
            await js.update_stream(config=after)
        with pytest.raises(ImmutableFieldError) as caught:
            await js.ensure(streams=[StreamConfig(name="NEW", subjects=["new"]), after])
        assert field in [one.field for one in caught.value.differences]
        assert [name async for name in js.stream_names()] == ["S"]


OF_CONSUMERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deliver_policy": ({}, {"deliver_policy": "new"}),
    "opt_start_seq": (
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 4},
    ),
    "ack_policy": ({}, {"ack_policy": "all"}),
    "replay_policy": ({}, {"replay_policy": "original"}),
    "max_waiting": ({}, {"max_waiting": 7}),
    "deliver_subject": ({}, {"deliver_subject": "to"}),
    "idle_heartbeat": ({"deliver_subject": "to"}, {"deliver_subject": "to", "idle_heartbeat": 1}),
    "flow_control": (
        {"deliver_subject": "to", "idle_heartbeat": 1},
        {"deliver_subject": "to", "idle_heartbeat": 1, "flow_control": True},
    ),
}


@pytest.mark.parametrize("field", OF_CONSUMERS)
async def test_what_a_server_never_changes_of_a_consumer(leg: Leg, url: str, field: str) -> None:
    before, after = OF_CONSUMERS[field]
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S")
        await stream.create_consumer("c", **before)
        with pytest.raises(ApiError):
            await stream.update_consumer("c", **after)
        with pytest.raises(ImmutableFieldError) as caught:
            await js.ensure(consumers={"S": ConsumerConfig(durable_name="c", **after)})
        assert field in [one.field for one in caught.value.differences]


MUTABLE: dict[str, tuple[StreamConfig, StreamConfig]] = {
    "retention": (StreamConfig(name="S"), StreamConfig(name="S", retention="interest")),
    "deny_delete": (StreamConfig(name="S"), StreamConfig(name="S", deny_delete=True)),
    "allow_msg_ttl": (StreamConfig(name="S"), StreamConfig(name="S", allow_msg_ttl=True)),
    "sealed": (StreamConfig(name="S"), StreamConfig(name="S", sealed=True)),
    "compression": (StreamConfig(name="S"), StreamConfig(name="S", compression="s2")),
    "subject_transform": (
        StreamConfig(name="S"),
        StreamConfig(name="S", subject_transform=SubjectTransform(src="S", dest="T")),
    ),
}


@pytest.mark.parametrize("field", fields(MUTABLE))
async def test_what_a_server_changes(leg: Leg, url: str, field: str) -> None:
    before, after = MUTABLE[field]
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream(config=before)
        report = await js.ensure(streams=[after])
        assert [step.action for step in report.steps] == ["update"]
        assert str(await js.ensure(streams=[after])) == "nothing to do"


async def test_a_placement_that_cannot_be_is_the_servers_to_refuse(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        placed = StreamConfig(name="B", placement=Placement(cluster="nowhere"), num_replicas=3)
        with pytest.raises(ApiError) as caught:
            await js.ensure(streams=[StreamConfig(name="A"), placed])
        assert caught.value.__notes__[-1].startswith("ensure: create stream 'A' was done before, stream 'B'")
