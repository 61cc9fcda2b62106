"""Rows 42 and 43: a handle costs no request, and a configuration is never ignored, rewritten or changed."""

from __future__ import annotations

from typing import Any

import pytest

from nats_proto.jetstream import ConsumerConfig, ConsumerExistsError, StreamConfig, StreamNameInUseError
from tests.adapters.legs import Leg
from tests.jetstream.cluster import STRICT, api
from tests.jetstream.fake import FakeApi
from tests.jetstream.legs import jetstream
from tests.transports import Transport

pytestmark = pytest.mark.anyio


async def test_row_42_a_handle_asks_nothing(leg: Leg, url: str, transport: Transport) -> None:
    with FakeApi(url, lambda call, body: {}, **transport.options) as fake:
        async with leg.connect(url) as client:
            js = jetstream(client, api_prefix=fake.prefix)
            consumer = js.stream("S").consumer("c")
            assert (consumer.stream_name, consumer.name) == ("S", "c")
            assert js.consumer("S", "c").name == "c"
            await client.flush()
    assert fake.calls == []


async def test_row_42_a_restricted_user_needs_no_more_than_it_uses(leg: Leg, transport: Transport) -> None:
    """Publish on the calls themselves, subscribe below its own inbox prefix, and nothing else."""
    allowed = ["$JS.API.CONSUMER.INFO.S.c", "$JS.API.STREAM.INFO.S"]
    restricted = {"publish": {"allow": allowed}, "subscribe": {"allow": ["_MINE.>"]}}
    users = [
        {"user": "admin", "password": "a"},
        {"user": "worker", "password": "w", "permissions": restricted},
    ]
    with transport.server({"authorization": {"users": users}}, jetstream=STRICT) as server:
        admin = {**transport.options, "user": "admin", "password": "a"}
        api(server.url, "STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, **admin)
        api(server.url, "CONSUMER.CREATE.S.c", {"stream_name": "S", "config": {"durable_name": "c"}}, **admin)
        async with leg.connect(server.url, user="worker", password="w", inbox_prefix="_MINE") as client:
            stream = jetstream(client).stream("S")
            assert (await stream.refresh()).config.name == "S"
            assert (await stream.consumer("c").refresh()).name == "c"
        assert "Violation" not in server.log()


async def test_row_43_create_refuses_another_configuration(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.*"])
        await stream.create_consumer("c", ack_wait=30)
        with pytest.raises(ConsumerExistsError) as refused:
            await stream.create_consumer("c", ack_wait=10)
        assert (refused.value.err_code, refused.value.outcome) == (10148, "failed")
        assert (await stream.consumer("c").refresh()).config.ack_wait == 30


async def test_row_43_the_refusal_lists_the_differences(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.*"])
        await stream.create_consumer("c", ack_wait=30, filter_subject="s.a")
        with pytest.raises(ConsumerExistsError) as refused:
            await stream.create_consumer("c", ack_wait=10, filter_subject="s.a")
        assert "ack_wait: 10.0 asked for, 30.0 there" in str(refused.value)
        assert "filter_subject" not in str(refused.value)


async def test_row_43_create_or_update_changes_it_and_nothing_else(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.*"])
        await stream.create_consumer("c", ack_wait=30, filter_subject="s.a", max_deliver=7)
        consumer = await stream.create_or_update_consumer("c", ack_wait=10, filter_subject="s.a", max_deliver=7)
        config = (await consumer.refresh()).config
        assert (config.ack_wait, config.filter_subject, config.max_deliver) == (10, "s.a", 7)
        changed = await stream.update_consumer("c", ack_wait=10, filter_subject="s.b", max_deliver=7)
        assert changed.info.config.filter_subject == "s.b"


@pytest.mark.parametrize(
    "fields",
    [
        {"filter_subject": "s.a"},
        {"filter_subjects": ["s.a"]},
        {"filter_subjects": ["s.a", "s.b"]},
        {"durable_name": "c"},
        {"name": "c"},
        {"name": "c", "durable_name": "c"},
    ],
    ids=str,
)
async def test_row_43_what_is_given_is_what_is_there(leg: Leg, url: str, fields: dict[str, Any]) -> None:
    config = ConsumerConfig(**fields)
    before = repr(config)
    async with leg.connect(url) as client:
        stream = await jetstream(client).create_stream("S", subjects=["s.*"])
        consumer = await stream.create_consumer(config=config)
        there = (await consumer.refresh()).config
        for name, value in fields.items():
            assert getattr(there, name) == (tuple(value) if isinstance(value, list) else value)
        assert there.filter_subject is None or there.filter_subjects is None
    assert repr(config) == before


async def test_row_43_create_and_update_of_streams_are_separate(leg: Leg, url: str) -> None:
    config = StreamConfig(name="S", subjects=["s.>"], max_age=60)
    before = repr(config)
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream(config=config)
        await js.create_stream(config=config)  # the very same again
        with pytest.raises(StreamNameInUseError) as refused:
            await js.create_stream("S", subjects=["s.>"], max_age=120)
        assert refused.value.outcome == "failed"
        assert (await js.stream("S").refresh()).config.max_age == 60
        stream = await js.create_or_update_stream("S", subjects=["s.>"], max_age=120)
        assert stream.info.config.max_age == 120
    assert repr(config) == before
