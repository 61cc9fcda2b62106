"""Rows 44 to 46: configurations survive a round trip; absent, zero and empty are kept apart; times are exact."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nats_proto.jetstream import ConsumerConfig, Seconds, StreamConfig, Timestamp
from tests.adapters.legs import Leg
from tests.jetstream.cluster import api
from tests.jetstream.fake import FakeApi, consumer_answer, stream_answer
from tests.jetstream.legs import jetstream
from tests.transports import Transport

pytestmark = pytest.mark.anyio

NEWER: dict[str, Any] = {
    "name": "S",
    "subjects": ["s"],
    "of_tomorrow": {"deep": [1, {"deeper": None}]},
    "placement": {"cluster": "c", "of_tomorrow": True},
    "sources": [{"name": "O", "of_tomorrow": 1, "external": {"api": "$JS.d.API", "deliver": "", "of_tomorrow": "x"}}],
    "max_age": 1_000_000_001,
    "metadata": {"_nats.ver": "9.9.9", "mine": "1"},
}
"""The configuration of a stream as a server of the future has it."""


async def test_row_44_fields_of_tomorrow_survive_reading_and_writing_back(
    leg: Leg, url: str, transport: Transport
) -> None:
    def answer(call: str, body: Any) -> dict[str, Any]:
        return stream_answer(NEWER if body is None else body)

    with FakeApi(url, answer, **transport.options) as fake:
        async with leg.connect(url) as client:
            js = jetstream(client, api_prefix=fake.prefix)
            config = (await js.stream("S").refresh()).config
            await js.update_stream(config=config)
    assert fake.bodies("STREAM.UPDATE.S") == [NEWER]


RICH: dict[str, Any] = {
    "name": "S",
    "subjects": ["s.>", "t.*"],
    "description": "all kinds of fields",
    "retention": "limits",
    "max_consumers": 10,
    "max_msgs": 1000,
    "max_bytes": 1_000_000,
    "max_age": 3_600_000_000_007,
    "max_msgs_per_subject": 5,
    "max_msg_size": 1000,
    "discard": "new",
    "discard_new_per_subject": True,
    "storage": "memory",
    "num_replicas": 1,
    "duplicate_window": 60_000_000_001,
    "allow_rollup_hdrs": True,
    "allow_direct": True,
    "compression": "none",
    "subject_transform": {"src": "s.>", "dest": "u.>"},
    "republish": {"src": ">", "dest": "copy.>", "headers_only": True},
    "consumer_limits": {"inactive_threshold": 3_600_000_000_001, "max_ack_pending": 99},
    "metadata": {"mine": "1"},
}


async def test_row_44_a_rich_configuration_of_a_real_server_comes_back_as_it_was(
    leg: Leg, url: str, transport: Transport
) -> None:
    assert "error" not in api(url, "STREAM.CREATE.S", RICH, **transport.options)
    before = api(url, "STREAM.INFO.S", **transport.options)["config"]
    async with leg.connect(url) as client:
        js = jetstream(client)
        config = (await js.stream("S").refresh()).config
        await js.update_stream(config=config)
    after = api(url, "STREAM.INFO.S", **transport.options)["config"]
    assert after == before
    assert {name: after[name] for name in RICH if name != "metadata"} == {
        name: value for name, value in RICH.items() if name != "metadata"
    }
    assert after["metadata"]["mine"] == "1"


async def test_row_44_what_was_read_can_be_written_back(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s"])
        consumer = await stream.create_consumer("c")
        await stream.update_consumer(config=(await consumer.refresh()).config)
        await js.update_stream(config=(await stream.refresh()).config)


# --- row 45 ---------------------------------------------------------------------------------------------------------

NO_TEXTS: dict[str, Any] = {"metadata": {}, "description": ""}
ZEROS_OF_STREAMS: dict[str, Any] = {
    **NO_TEXTS,
    **dict.fromkeys(("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size", "first_seq"), 0),
    **dict.fromkeys(("max_age", "duplicate_window", "subject_delete_marker_ttl"), 0),
    **dict.fromkeys(("allow_direct", "allow_msg_ttl", "deny_delete", "sealed", "no_ack"), False),
    "subjects": [],
    "sources": [],
}
ZEROS_OF_CONSUMERS: dict[str, Any] = {
    **NO_TEXTS,
    **dict.fromkeys(("max_ack_pending", "max_waiting", "max_batch", "max_bytes", "num_replicas", "rate_limit_bps"), 0),
    **dict.fromkeys(("ack_wait", "inactive_threshold", "max_expires", "priority_timeout"), 0),
    **dict.fromkeys(("headers_only", "mem_storage"), False),
    "backoff": [],
    "filter_subjects": [],
    "priority_groups": [],
}


async def test_row_45_what_is_not_given_is_not_sent_and_what_is_zero_or_empty_is(
    leg: Leg, url: str, transport: Transport
) -> None:
    def answer(call: str, body: Any) -> dict[str, Any]:
        if call.startswith("STREAM"):
            return stream_answer(body)
        return consumer_answer("c", body["config"])

    with FakeApi(url, answer, **transport.options) as fake:
        async with leg.connect(url) as client:
            js = jetstream(client, api_prefix=fake.prefix)
            stream = await js.create_stream("S")
            await stream.create_consumer("c")
            for name, zero in ZEROS_OF_STREAMS.items():
                await js.create_stream("S", **{name: zero})
            for name, zero in ZEROS_OF_CONSUMERS.items():
                await stream.create_consumer("c", **{name: zero})
    streams = fake.bodies("STREAM.CREATE.S")
    assert streams[0] == {"name": "S"}
    assert streams[1:] == [{"name": "S", name: zero} for name, zero in ZEROS_OF_STREAMS.items()]
    consumers = [body["config"] for body in fake.bodies("CONSUMER.CREATE.S.c")]
    bare = consumers[0]
    assert bare == {"durable_name": "c", "name": "c", "ack_policy": "explicit"}
    assert consumers[1:] == [{**bare, name: zero} for name, zero in ZEROS_OF_CONSUMERS.items()]


async def test_row_45_a_list_can_be_cleared(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s.*"], metadata={"a": "1"})
        await stream.create_consumer("c", filter_subjects=["s.a", "s.b"])
        consumer = await stream.update_consumer("c", filter_subjects=[])
        assert not (await consumer.refresh()).config.filter_subjects
        await js.update_stream("S", subjects=["s.*"], metadata={})
        assert "a" not in ((await stream.refresh()).config.metadata or {})


# --- row 46 ---------------------------------------------------------------------------------------------------------


def some_durations() -> list[int]:
    """Nanoseconds from 1 to 290 years, of every size."""
    chosen = random.Random(46)
    longest = 290 * 365 * 24 * 3600 * 10**9
    return [1, 999, 10**9 + 1, longest, *(int(longest ** chosen.random()) for _ in range(20))]


async def test_row_46_durations_are_exact_to_the_nanosecond(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
        for nanoseconds in some_durations():
            given = Seconds.from_nanoseconds(nanoseconds)
            consumer = await stream.create_or_update_consumer("c", ack_wait=given)
            told = (await consumer.refresh()).config.ack_wait
            assert told.nanoseconds == nanoseconds
            again = await stream.create_consumer("c", ack_wait=told)  # the same, or it would be refused
            assert again.info.config.ack_wait.nanoseconds == nanoseconds


@pytest.mark.parametrize("given", [1.5, timedelta(seconds=1.5)], ids=["seconds", "timedelta"])
async def test_row_46_seconds_or_a_timedelta(leg: Leg, url: str, given: float | timedelta) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s"], max_age=given, duplicate_window=given)
        info = await stream.refresh()
        assert info.config.max_age == 1.5
        assert info.config.max_age.nanoseconds == 1_500_000_000


TIMES = [
    "1970-01-01T00:00:00.000000001Z",
    "2026-02-28T23:59:59.999999999Z",
    "2026-11-29T12:00:00.123456789Z",
    "2100-12-31T00:00:00.1Z",
]


@pytest.mark.parametrize("text", TIMES)
async def test_row_46_times_are_aware_and_exact_to_the_nanosecond(
    leg: Leg, url: str, text: str, transport: Transport
) -> None:
    api(url, "STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, **transport.options)
    config = {"durable_name": "c", "deliver_policy": "by_start_time", "opt_start_time": text}
    api(url, "CONSUMER.CREATE.S.c", {"stream_name": "S", "config": config}, **transport.options)
    async with leg.connect(url) as client:
        stream = jetstream(client).stream("S")
        read = (await stream.consumer("c").refresh()).config
        assert isinstance(read.opt_start_time, Timestamp)
        assert read.opt_start_time.tzinfo is UTC
        await stream.create_consumer("d", deliver_policy="by_start_time", opt_start_time=read.opt_start_time)
        assert (await stream.consumer("d").refresh()).config.opt_start_time == read.opt_start_time
    there = api(url, "CONSUMER.INFO.S.d", **transport.options)["config"]["opt_start_time"]
    assert there == text


async def test_row_46_a_time_without_a_zone_is_refused_before_anything_is_asked(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s"])
        with pytest.raises(ValueError, match="opt_start_time"):
            await stream.create_consumer(deliver_policy="by_start_time", opt_start_time=datetime(2026, 1, 1))
        assert [name async for name in stream.consumer_names()] == []


def test_row_46_every_duration_of_a_configuration_is_one() -> None:
    assert StreamConfig(name="S", max_age=2).max_age == ConsumerConfig(ack_wait=timedelta(seconds=2)).ack_wait == 2.0
