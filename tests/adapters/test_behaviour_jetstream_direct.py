"""Many messages by direct get, and why nothing comes, against real servers, on three legs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from nats_proto._jetstream.errors import ApiError, FeatureDroppedError, JetStreamError
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import fill, jetstream, js_server
from tests.adapters.legs import PATIENCE, Collected, Leg
from tests.server_version import server_version

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio
NEW = server_version() >= (2, 11)
needs_batches = pytest.mark.skipif(not NEW, reason="the server cannot get several messages at once")


async def made(client: Any) -> Any:
    """A stream with the subjects ``b.0`` to ``b.4``, forty messages in turns."""
    stream = await jetstream(client).create_stream("S", subjects=["b.*"], allow_direct=True)
    for number in range(39):
        await client.publish(f"b.{number % 5}", b"%d" % number, headers={"N": str(number)})
    await client.request("b.4", b"39", headers={"N": "39"}, timeout=PATIENCE)  # when it is stored, all are
    return stream


async def sequences(messages: Any) -> list[int]:
    return [message.sequence async for message in messages]


@needs_batches
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, list(range(1, 41))),
        ({"batch": 7}, list(range(1, 41))),
        ({"batch": 40}, list(range(1, 41))),
        ({"batch": 39}, list(range(1, 41))),
        ({"sequence": 38}, [38, 39, 40]),
        ({"sequence": 41}, []),
        ({"sequence": 1, "limit": 3}, [1, 2, 3]),
        ({"limit": 12, "batch": 5}, list(range(1, 13))),
        ({"subject": "b.3"}, [4, 9, 14, 19, 24, 29, 34, 39]),
        ({"subject": "b.3", "sequence": 20, "batch": 1}, [24, 29, 34, 39]),
        ({"subject": "c"}, []),
        ({"max_bytes": 1}, list(range(1, 41))),
    ],
)
async def test_n6_messages_from_a_place_on(
    leg: Leg, js_server: LocalServer, fields: dict[str, Any], expected: list[int]
) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await made(client)
        assert await sequences(stream.get_msgs(**fields)) == expected


@needs_batches
async def test_n6_what_a_message_is_and_a_time(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await made(client)
        messages = [message async for message in stream.get_msgs(batch=9)]
        assert [message.data for message in messages] == [b"%d" % number for number in range(40)]
        assert [dict(message.headers.items()) for message in messages[:2]] == [{"N": "0"}, {"N": "1"}]
        assert (messages[2].subject, messages[2].stream) == ("b.2", "S")
        assert messages[-1].num_pending == (0 if server_version() >= (2, 12) else 1)  # 2.11 counts the message itself
        later = await sequences(stream.get_msgs(start_time=messages[30].time))
        assert later[-1] == 40
        assert 31 in later
        assert await sequences(stream.get_msgs(start_time=datetime.now(UTC) + timedelta(hours=1))) == []
        ago = datetime.now(UTC) - timedelta(hours=1)
        assert await sequences(stream.get_msgs(start_time=ago, batch=7)) == list(range(1, 41))


@needs_batches
async def test_n6_pages_are_asked_for_when_they_are_needed(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client, leg.connect(js_server.url) as other:
        stream = await made(client)
        asked: Collected[Any] = Collected()

        async def count(message: Any) -> None:
            asked.add(message.data)

        async with other.subscribe("$JS.API.DIRECT.GET.S", callback=leg.handler(count)):
            await other.flush()
            got = []
            async with stream.get_msgs(batch=10) as messages:
                async for message in messages:
                    got.append(message.sequence)
                    if len(got) == 15:
                        break
            await client.flush()
            await other.flush()
            await asked.wait_len(2)  # the flush brings them to the client, and the client to the callback
        assert len(asked) == 2
        assert got == list(range(1, 16))


@needs_batches
@pytest.mark.parametrize("batch", [1, 2, 5, 100])
async def test_n6_the_last_messages_are_of_one_moment(leg: Leg, js_server: LocalServer, batch: int) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await made(client)
        got = []
        async for message in stream.get_last_msgs(["b.*"], batch=batch):
            got.append(message.sequence)
            await fill(client, 1, subject="b.4")  # after the first page
        assert got == [36, 37, 38, 39, 40] if batch < 5 else len(got) == 5
        assert await sequences(stream.get_last_msgs("b.1")) == [37]
        assert await sequences(stream.get_last_msgs(["b.1", "b.3"], up_to_seq=20)) == [17, 19]
        assert await sequences(stream.get_last_msgs(["c.*"])) == []
        moment = (await stream.get_msg(10)).time + timedelta(microseconds=1)
        found = await sequences(stream.get_last_msgs(["b.*"], up_to_time=moment, batch=batch))
        assert len(found) == 5
        assert max(found) >= 10


@needs_batches
async def test_n6_what_cannot_be(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        stream = await js.create_stream("T", subjects=["t.*"], allow_direct=False)
        with pytest.raises(JetStreamError, match="allow_direct"):
            await sequences(stream.get_msgs())
        stream = await js.create_stream("S", subjects=["b.*"], allow_direct=True)
        for number in range(1030):
            await client.publish(f"b.{number}", b"")
        await client.request("b.last", b"", timeout=PATIENCE)
        with pytest.raises(ApiError, match="413"):
            await sequences(stream.get_last_msgs(["b.*"]))
        for fields in (
            {"sequence": 0},
            {"sequence": 1, "start_time": datetime.now(UTC)},
            {"batch": 0},
            {"limit": 0},
            {"subject": "a b"},
            {"max_bytes": -1},
        ):
            with pytest.raises(ValueError, match=r"."):
                stream.get_msgs(**fields)
        for subjects in ([], ["a b"], ["a"] * 1025):
            with pytest.raises(ValueError, match=r"."):
                stream.get_last_msgs(subjects)


@pytest.mark.skipif(NEW, reason="the server knows it")
async def test_n6_a_server_that_is_too_old(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        stream = await made(client)
        with pytest.raises(FeatureDroppedError, match=r"version 2\.10") as caught:
            await sequences(stream.get_msgs())
        assert caught.value.version.startswith("2.10")
        with pytest.raises(FeatureDroppedError):
            await sequences(stream.get_last_msgs(["b.*"]))


async def test_n13_why_nothing_comes(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["b.*"])
        consumer = await stream.create_consumer("C", filter_subject="b.1", max_ack_pending=2)

        async def cause(**given: Any) -> str:
            diagnosis = await consumer.diagnose(**given)
            assert "'C'" in str(diagnosis)
            return str(diagnosis.cause)

        assert await cause() == "filter_matches_nothing"
        await fill(client, 3, subject="b.1")
        while (await consumer.refresh()).num_pending < 3:  # the server counts them a moment after it has stored them
            await anyio.lowlevel.checkpoint()
        assert await cause() == "nobody_asks"
        taken = [message async for message in consumer.fetch(2, timeout=PATIENCE)]
        assert await cause() == "ack_limit"  # row 40
        for message in taken:
            await message.ack_sync(PATIENCE)
        assert (await consumer.next(PATIENCE)) is not None
        assert await cause() == "nothing_pending"
        if NEW:
            await stream.pause_consumer("C", datetime.now(UTC) + timedelta(hours=1))
            assert await cause() == "paused"
        await stream.delete_consumer("C")
        assert await cause() == "consumer_missing"
        await js.delete_stream("S")
        assert await cause() in ("stream_missing", "consumer_missing")
