"""Consumers that are paused, resumed and reset under those who read them, by each way to read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from nats_proto.jetstream import ConsumerNotFoundError
from tests.adapters.legs import PATIENCE, Leg
from tests.jetstream.legs import jetstream
from tests.jetstream.readers import WAYS, reading
from tests.jetstream.seen import listening
from tests.jetstream.steady import steadily
from tests.server_version import server_version
from tests.transports import Transport

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]
pausing = pytest.mark.skipif(server_version() < (2, 11), reason="consumers are paused since nats-server 2.11")
resetting = pytest.mark.skipif(server_version() < (2, 14), reason="consumers are reset since nats-server 2.14")

BEAT = 0.5
TOMORROW = timedelta(days=1)


async def _consumer(client: Any, **fields: Any) -> tuple[Any, Any]:
    stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
    return stream, await stream.create_consumer("c", **fields)


async def _publish(client: Any, *numbers: int) -> None:
    await client.publish_many("s", [b"%d" % number for number in numbers])
    await client.flush()


def beats(way: str) -> dict[str, Any]:
    return {} if way in ("next", "fetch") else {"heartbeat": BEAT}


@pausing
@pytest.mark.parametrize("way", WAYS)
async def test_a_paused_consumer_is_silent_and_goes_on(leg: Leg, url: str, way: str, transport: Transport) -> None:
    """Its readers wait for it, are told nothing, ask for no more than before, and need nothing to go on."""
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client)
        async with reading(consumer, way, **beats(way)) as got:
            await _publish(other, 0)
            await got.wait_len(1)
            paused = await jetstream(other).stream("S").pause_consumer("c", datetime.now(UTC) + TOMORROW)
            assert paused.paused
            with listening(url, **transport.options) as seen, steadily(url, **transport.options) as steady:
                await _publish(other, *range(1, 20))
                await anyio.sleep(2 * BEAT + 0.2 if beats(way) else 0.05)
                assert list(got) == [0]
                if beats(way):
                    pulls = len(await seen.pulls(client))
                    assert (pulls <= 2 and got.kinds == []) or steady.stood_still > BEAT / 4
            assert not (await jetstream(other).stream("S").resume_consumer("c")).paused
            assert sorted(await got.wait_len(20)) == list(range(20))
        if beats(way):  # what comes at the end of a fetch is handed back
            assert got.redelivered == 0


@pausing
@pytest.mark.parametrize("way", ["messages", "fetch"])
async def test_a_pause_ends_by_itself(leg: Leg, url: str, way: str) -> None:
    async with leg.connect(url) as client:
        _, consumer = await _consumer(client, pause_until=datetime.now(UTC) + timedelta(seconds=0.3))
        await _publish(client, 0)
        async with reading(consumer, way) as got:
            assert await got.wait_len(1) == [0]


@pausing
async def test_fetches_from_a_paused_consumer_are_empty_and_diagnosed(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        _, consumer = await _consumer(client, pause_until=datetime.now(UTC) + TOMORROW)
        await _publish(client, 0)
        with anyio.fail_after(PATIENCE):  # where the machine stands still, the caller's time ends before the server's
            while True:
                async with consumer.fetch(3, timeout=0.2) as batch:
                    assert [message async for message in batch] == []
                if batch.reason == "expired":
                    break
                assert batch.reason == "no_answer"
        async with consumer.fetch(3, timeout=5, no_wait=True) as batch:
            assert [message async for message in batch] == []
        assert batch.reason in ("no_messages", "no_answer")
        assert (await consumer.diagnose()).cause == "paused"


@resetting
@pytest.mark.parametrize("way", WAYS)
async def test_a_consumer_that_is_reset_begins_anew(leg: Leg, url: str, way: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client)
        async with reading(consumer, way, **beats(way)) as got:
            await _publish(other, *range(10))
            await got.wait_len(10)
            await _until_acknowledged(consumer)
            assert (await jetstream(other).stream("S").reset_consumer("c", sequence=4)).name == "c"
            again = list(await got.wait_len(17))[10:]
            # What comes at the end of a fetch is handed back, and comes behind others.
            assert (again if beats(way) else sorted(again)) == list(range(3, 10))
            await _publish(other, 10)
            await got.wait_len(18)
        assert got[17] == 10
        await _until_acknowledged(consumer)


@resetting
async def test_a_reset_of_a_consumer_that_is_not_there(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream, _ = await _consumer(client)
        with pytest.raises(ConsumerNotFoundError):
            await stream.reset_consumer("other", timeout=0.3)
        with pytest.raises(ConsumerNotFoundError):
            await stream.reset_consumer("other", sequence=1, timeout=0.3)


@resetting
async def test_a_reset_gives_what_was_not_acknowledged_again(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        stream, consumer = await _consumer(client, ack_wait=60)
        await _publish(client, *range(6))
        async with consumer.fetch(6, timeout=PATIENCE) as batch:
            held = [message async for message in batch]
        for message in held[:2]:
            await message.ack_sync(PATIENCE)
        await stream.reset_consumer("c")
        async with reading(consumer, "messages") as got:
            assert list(await got.wait_len(4)) == [2, 3, 4, 5]
        await _until_acknowledged(consumer)


async def _until_acknowledged(consumer: Any) -> None:
    async def look() -> bool:
        return (await consumer.refresh()).num_ack_pending == 0

    with anyio.fail_after(PATIENCE):
        while not await look():
            await anyio.sleep(0.005)
