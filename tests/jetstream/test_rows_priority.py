"""Priority groups (ADR-42) on real servers: overflow, prioritized and pinned readers, by each way to read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from nats_proto.jetstream import PullRefusedError
from tests.adapters.legs import PATIENCE, Leg, eventually
from tests.jetstream.cluster import ELECTION, Replicas, patiently
from tests.jetstream.legs import jetstream
from tests.jetstream.readers import WAYS, reading
from tests.jetstream.seen import listening
from tests.jetstream.steady import steadily
from tests.server_version import server_version
from tests.transports import Transport

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.transports("tcp"),
    pytest.mark.skipif(server_version() < (2, 11), reason="priority groups are there since nats-server 2.11"),
]
prioritized = pytest.mark.skipif(server_version() < (2, 12), reason="prioritized is there since nats-server 2.12")

BEAT = 0.5
QUIET = 0.05
"""Seconds in which a message that may be delivered would have come."""


async def _consumer(client: Any, policy: str, **fields: Any) -> tuple[Any, Any]:
    stream = await jetstream(client).create_stream("S", subjects=["s"], storage="memory")
    return stream, await stream.create_consumer("c", priority_policy=policy, priority_groups=["g"], **fields)


async def _publish(client: Any, *numbers: int) -> None:
    await client.publish_many("s", [b"%d" % number for number in numbers])
    await client.flush()


async def _waiting(consumer: Any, count: int) -> None:
    with anyio.fail_after(PATIENCE):
        while (await consumer.refresh()).num_waiting < count:
            await anyio.sleep(0.005)


# --- overflow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_overflow_helps_when_many_are_pending(leg: Leg, url: str, way: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client, "overflow")
        helping = jetstream(other).consumer("S", "c")
        async with reading(helping, way, group="g", min_pending=10) as got:
            await _publish(client, *range(9))
            await anyio.sleep(QUIET)
            assert len(got) == 0
            await _publish(client, *range(9, 20))
            await eventually(lambda: len(got) >= 11)
            rest = 20 - 9  # it stops as soon as fewer than ten are pending
            # What comes at the end of a fetch is handed back, and may come behind others.
            assert (sorted(got) if way in ("next", "fetch") else list(got))[:rest] == list(range(rest))
        async with consumer.fetch(9, timeout=PATIENCE, group="g") as batch:
            numbers = [int(message.data) async for message in batch]
        assert sorted([*got, *numbers]) == list(range(20))


@pytest.mark.parametrize("way", WAYS)
async def test_overflow_helps_when_many_wait_for_their_acknowledgement(leg: Leg, url: str, way: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client, "overflow")
        await _publish(client, *range(8))
        async with reading(jetstream(other).consumer("S", "c"), way, group="g", min_ack_pending=5) as got:
            held = []
            for count in range(1, 6):
                assert len(got) == 0
                held.append(await consumer.next(PATIENCE, group="g"))
                assert held[-1] is not None
                if count == 4:
                    await anyio.sleep(QUIET)
            first = (await got.wait_len(1))[0]
            assert first == 5 or (way in ("next", "fetch") and first in (6, 7))
            for message in held:
                await message.ack()


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_that_does_not_fit_the_consumer_is_refused(leg: Leg, url: str, way: str) -> None:
    async with leg.connect(url) as client:
        await _consumer(client, "overflow")
        handle = jetstream(client).consumer("S", "c")

        async def read(**options: Any) -> None:
            if way in ("consume", "work"):

                async def nothing(message: Any) -> None: ...

                await getattr(handle, way)(nothing, **options).wait(PATIENCE)
            elif way == "messages":
                async for _ in handle.messages(**options):
                    pass
            elif way == "next":
                await handle.next(PATIENCE, **options)
            else:
                _ = [message async for message in handle.fetch(3, timeout=PATIENCE, **options)]

        for options in ({}, {"group": "other"}):
            with pytest.raises(PullRefusedError):
                await read(**options)
        with pytest.raises(ValueError, match="group"):
            await read(min_pending=3)


# --- prioritized -----------------------------------------------------------------------------------------------------


@prioritized
@pytest.mark.parametrize("way", WAYS)
async def test_prioritized_the_lowest_number_comes_first(leg: Leg, url: str, way: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client, "prioritized")
        async with reading(jetstream(other).consumer("S", "c"), "messages", group="g", priority=5) as standby:
            await _waiting(consumer, 1)
            if way in ("next", "fetch"):  # they are first while their request waits
                taken = await _while_waiting(consumer, way, lambda: _publish(client, 0))
                assert taken == [0]
            else:
                async with reading(consumer, way, group="g", priority=1) as got:
                    for number in range(20):  # one by one, for `work` asks for two at a time
                        await _waiting(consumer, 2)  # it is first only while its request is there
                        await _publish(client, number)
                        await got.wait_len(number + 1)
            assert len(standby) == 0
            await _publish(client, 20)
            await standby.wait_len(1)
        assert standby.kinds == []
        assert standby.redelivered == 0


async def _while_waiting(consumer: Any, way: str, publish: Callable[[], Awaitable[None]]) -> list[int]:
    """What a fetch gets that waits beside another request when something is published."""
    taken: list[int] = []

    async def fetch() -> None:
        async with consumer.fetch(1, timeout=PATIENCE, group="g", priority=1) as batch:
            async for message in batch:
                taken.append(int(message.data))
                await message.ack()

    async def following() -> None:
        message = await consumer.next(PATIENCE, group="g", priority=1)
        taken.append(int(message.data))
        await message.ack()

    async with anyio.create_task_group() as group:
        group.start_soon(following if way == "next" else fetch)
        await _waiting(consumer, 2)
        await publish()
    return taken


# --- pinned ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["messages", "consume", "work"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_pinned_one_reader_has_all(leg: Leg, url: str, way: str, known: bool, transport: Transport) -> None:
    """And it stays the pinned one, also when its handle was made by name alone."""
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client, "pinned_client", priority_timeout=40)
        with listening(url, **transport.options) as seen:
            handle = consumer if known else jetstream(client).consumer("S", "c")
            async with reading(handle, way, group="g", max_messages=10) as first:
                await _publish(other, 0)
                await first.wait_len(1)
                async with reading(jetstream(other).consumer("S", "c"), way, group="g") as second:
                    await _waiting(consumer, 2)
                    for number in range(1, 60):
                        await _publish(other, number)
                    await first.wait_len(60)
                    assert list(first) == list(range(60))
                    assert len(second) == 0
                    assert len(first.pins) == 1
                    assert (first.kinds, second.kinds) == (["pinned"], [])
            pulls = await seen.pulls(client)
            # The pinned one says who it is as soon as it knows, and asks often enough to stay the pinned one.
            assert {pull["id"] for pull in pulls if "id" in pull} == first.pins
            assert all(pull["expires"] <= 20 * 10**9 for pull in pulls)
        assert first.redelivered == second.redelivered == 0


@pytest.mark.parametrize("way", ["messages", "work"])
async def test_pinned_the_next_one_follows(leg: Leg, url: str, way: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client, "pinned_client", priority_timeout=0.4)
        async with reading(consumer, way, group="g") as first:
            await _publish(client, 0)
            await first.wait_len(1)
            async with reading(jetstream(other).consumer("S", "c"), way, group="g") as second:
                await _waiting(consumer, 2)
                first.reader.stop()  # from now on it asks for nothing
                await _publish(other, 1)
                assert await second.wait_len(1) == [1]
                assert second.kinds == ["pinned"]


@pytest.mark.parametrize("way", ["messages", "work"])
async def test_pinned_a_quiet_reader_stays_the_pinned_one(leg: Leg, url: str, way: str, transport: Transport) -> None:
    """Its requests wait for half of ``priority_timeout``, whatever it was told: each one renews the pin."""
    async with leg.connect(url) as client, leg.connect(url) as other:
        _, consumer = await _consumer(client, "pinned_client", priority_timeout=2)
        with steadily(url, **transport.options) as steady:
            async with reading(consumer, way, group="g", expires=5.0) as got:
                await _waiting(consumer, 1)
                await _publish(client, 0)
                await got.wait_len(1)
                async with reading(jetstream(other).consumer("S", "c"), way, group="g") as standby:
                    await anyio.sleep(2.3)
                    await _publish(client, 1)
                    await eventually(lambda: len(got) + len(standby) == 2)
                    if steady.stood_still < 0.5:
                        assert len(got) == 2
                        assert len(got.pins) == 1
                        # A sign of life comes every half second, and two of them may be missed.
                        assert got.kinds == ["pinned"] or steady.stood_still > 0.2, got.reader.warnings


@pytest.mark.parametrize("way", WAYS)
async def test_pinned_unpin_in_the_midst_loses_nothing(leg: Leg, url: str, way: str) -> None:
    total = 200
    async with leg.connect(url) as client, leg.connect(url) as other:
        stream, consumer = await _consumer(client, "pinned_client", priority_timeout=2)
        async with (
            reading(consumer, way, group="g") as first,
            reading(jetstream(other).consumer("S", "c"), way, group="g") as second,
        ):
            for number in range(total):
                await _publish(client, number)
                if number % 50 == 25:
                    await eventually(lambda number=number: len({*first, *second}) > number)
                    await stream.unpin_consumer("c", "g")
            await eventually(lambda: len({*first, *second}) == total)
            with anyio.fail_after(PATIENCE):  # the acknowledgements are on their way, and what was handed back
                while (info := await consumer.refresh()).num_ack_pending or info.num_pending:
                    await anyio.sleep(0.005)
            pins = first.pins | second.pins
        assert len(pins) >= 2  # as often as somebody has read in between
        # What the old reader has not read when it hears of it is handed back.
        assert len(first) + len(second) <= total + first.redelivered + second.redelivered


@pytest.mark.parametrize("way", ["next", "fetch"])
async def test_pinned_fetches_of_one_handle_are_one_client(leg: Leg, url: str, way: str, transport: Transport) -> None:
    async with leg.connect(url) as client:
        stream, consumer = await _consumer(client, "pinned_client", priority_timeout=60)
        await _publish(client, *range(6))

        async def take(count: int) -> list[int]:
            if way == "next":
                found = [await consumer.next(PATIENCE, group="g") for _ in range(count)]
            else:
                found = [message async for message in consumer.fetch(count, timeout=PATIENCE, group="g")]
            return [int(message.data) for message in found]

        with listening(url, **transport.options) as seen:
            assert await take(2) == [0, 1]
            assert await take(2) == [2, 3]
            ids = [pull.get("id") for pull in await seen.pulls(client)]
            assert ids[0] is None
            assert len(set(ids[1:])) == 1
            assert ids[-1] is not None
            await stream.unpin_consumer("c", "g")
            assert await take(2) == [4, 5]  # it is told that the identity is void, and asks without
            newer = [pull.get("id") for pull in await seen.pulls(client)]
            assert set(newer) - {None} != {ids[-1]} or newer[-1] is None


@pytest.mark.parametrize("way", ["messages", "work"])
async def test_pinned_a_new_leader_knows_of_no_pin(leg: Leg, calm_replicas: Replicas, way: str) -> None:
    calm_replicas.create_stream("S", "s")
    total = 150
    async with leg.connect(calm_replicas.urls) as client, leg.connect(calm_replicas.urls) as other:
        stream = jetstream(client).stream("S")
        consumer = await patiently(
            stream.create_consumer,
            "c",
            priority_policy="pinned_client",
            priority_groups=["g"],
            priority_timeout=5,
            ack_wait=10.0,
        )
        async with (
            reading(consumer, way, group="g", heartbeat=BEAT) as first,
            reading(jetstream(other).consumer("S", "c"), way, group="g", heartbeat=BEAT) as second,
        ):
            with calm_replicas.stepping_down("S", "c", every=0.3) as downs:
                for number in range(total):
                    await jetstream(client).publish("s", b"%d" % number)
                    await anyio.sleep(0.005)
                    if number == total - 2:
                        await eventually(lambda: downs, timeout=ELECTION)
            # What a leader had on its way when it stepped down comes again when nobody has acknowledged it in time.
            await eventually(lambda: len({*first, *second}) == total, timeout=ELECTION)
        assert set(first.kinds + second.kinds) <= {
            "pinned",
            "unpinned",
            "leadership_change",
            "no_responders",
            "no_heartbeat",
        }
