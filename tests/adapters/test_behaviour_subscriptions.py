"""Subscriptions: iterated, asked, or with a callback; their ends and their limits."""

from __future__ import annotations

import re

import anyio
import pytest

from nats_proto import SlowConsumer
from nats_proto.errors import ConnectionClosedError, LocalProtocolError, NATSTimeoutError, SubscriptionClosedError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, Collected, EventLog, Flag, Leg, eventually

pytestmark = pytest.mark.anyio


async def publish_numbers(client: object, subject: str, count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        await client.publish(subject, b"%d" % n)


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + count)]


# --- taking messages -------------------------------------------------------------------------------------------------


async def test_iteration_gives_messages_in_order(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("it", max_msgs=500) as sub:
        await publish_numbers(client, "it", 500)
        assert [message.data async for message in sub] == numbers(500)
        assert sub.delivered == 500


async def test_next_waits_for_a_message(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("later") as sub:
        got: Collected[bytes] = Collected()

        async def take() -> None:
            got.add((await sub.next()).data)

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            await anyio.lowlevel.checkpoint()
            await client.publish("later", b"here")
        assert list(got) == [b"here"]


async def test_a_timeout_of_next_says_what_was_waited_for(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("quiet.subject") as sub:
        with pytest.raises(NATSTimeoutError) as caught:
            await sub.next(timeout=0.05)
        text = str(caught.value)
        assert "next" in text
        assert "quiet.subject" in text
        assert re.search(r"\b0\.05 s", text)
        assert "CONNECTED" in text.upper()
        await client.publish("quiet.subject", b"now")
        assert (await sub.next(timeout=PATIENCE)).data == b"now"


@pytest.mark.parametrize("timeout", [0, -1])
async def test_next_without_time_takes_what_is_there(leg: Leg, url: str, timeout: float) -> None:
    async with leg.connect(url) as client, client.subscribe("there") as sub:
        await client.publish("there", b"1")
        await client.flush()
        assert (await sub.next(timeout=timeout)).data == b"1"
        with anyio.fail_after(PATIENCE), pytest.raises(NATSTimeoutError):
            await sub.next(timeout=timeout)


async def test_next_batch_waits_for_the_first_only(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("batch") as sub:
        await publish_numbers(client, "batch", 10)
        await client.flush()
        assert [message.data for message in await sub.next_batch(4, timeout=PATIENCE)] == numbers(4)
        assert sub.pending[0] == 6
        with anyio.fail_after(PATIENCE):
            assert [message.data for message in await sub.next_batch(100)] == numbers(6, 4)
        assert await sub.next_batch(100, timeout=0.05) == []
        assert sub.delivered == 10


@pytest.mark.parametrize("wrong", [0, -1])
async def test_a_batch_of_nothing_is_refused(leg: Leg, url: str, wrong: int) -> None:
    async with leg.connect(url) as client, client.subscribe("batch") as sub:
        with pytest.raises(ValueError):
            await sub.next_batch(wrong, timeout=0.05)


async def test_several_readers_share_one_subscription(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("shared", max_msgs=300) as sub:
        got: Collected[bytes] = Collected()

        async def read() -> None:
            async for message in sub:
                got.add(message.data)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(read)
            await publish_numbers(client, "shared", 300)
        assert sorted(got, key=int) == numbers(300)


async def test_a_cancelled_wait_loses_no_message(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("cancel") as sub:
        got: list[bytes] = []
        if leg.name == "threads":  # a thread cannot be cancelled: a short timeout is what it has
            while len(got) < 50:
                await client.publish("cancel", b"%d" % len(got))
                while True:
                    try:
                        got.append((await sub.next(timeout=0.0001)).data)
                        break
                    except NATSTimeoutError:
                        continue
        else:
            await publish_numbers(client, "cancel", 50)
            while len(got) < 50:
                with anyio.CancelScope() as scope:
                    if len(got) % 2:
                        scope.cancel()
                    got.append((await sub.next(timeout=PATIENCE)).data)
                if scope.cancelled_caught:
                    got.append((await sub.next(timeout=PATIENCE)).data)
        assert got == numbers(50)


# --- callbacks -------------------------------------------------------------------------------------------------------


async def test_a_callback_gets_messages_one_by_one_in_order(leg: Leg, url: str) -> None:
    got: Collected[bytes] = Collected()
    at_once: list[int] = []
    running = 0

    async def handle(message: object) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        got.add(message.data)
        running -= 1

    async with leg.connect(url) as client:
        await client.subscribe("cb", callback=leg.handler(handle))
        await publish_numbers(client, "cb", 500)
        assert await got.wait_len(500) == numbers(500)
        assert set(at_once) == {1}


async def test_a_callback_that_blocks_holds_up_no_other(leg: Leg, url: str) -> None:
    release, began = Flag(), Flag()
    got: Collected[bytes] = Collected()

    async def block(_: object) -> None:
        began.set()
        await release.wait()

    async def handle(message: object) -> None:
        got.add(message.data)

    async with leg.connect(url) as client:
        await client.subscribe("blocked", callback=leg.handler(block))
        await client.subscribe("free", callback=leg.handler(handle))
        await client.publish("blocked")
        await client.publish("blocked")
        await began.wait()
        await publish_numbers(client, "free", 20)
        assert await got.wait_len(20) == numbers(20)
        await client.flush()
        async with client.subscribe("asked") as sub:
            await client.publish("asked", b"1")
            assert (await sub.next(timeout=PATIENCE)).data == b"1"
        release.set()


async def test_a_callback_may_use_the_client(leg: Leg, url: str) -> None:
    answers: Collected[object] = Collected()

    async def echo(message: object) -> None:
        await message.respond(message.data)

    async with leg.connect(url) as client:

        async def handle(message: object) -> None:
            await client.publish("seen", message.data)
            await client.flush(timeout=PATIENCE)
            answers.add((await client.request("echo", message.data, timeout=PATIENCE)).data)
            async with client.subscribe("own") as own:
                await client.publish("own", b"for me")
                answers.add((await own.next(timeout=PATIENCE)).data)
            answers.add(client.stats.in_msgs > 0)

        await client.subscribe("echo", callback=leg.handler(echo))
        await client.subscribe("work", callback=leg.handler(handle))
        await client.publish("work", b"a")
        await client.publish("work", b"b")
        assert await answers.wait_len(6) == [b"a", b"for me", True, b"b", b"for me", True]


async def test_a_callback_may_end_its_own_subscription(leg: Leg, url: str) -> None:
    got: Collected[bytes] = Collected()
    async with leg.connect(url) as client:

        async def handle(message: object) -> None:
            if len(got) == 1:
                await sub.unsubscribe()
            got.add(message.data)

        sub = await client.subscribe("once", callback=leg.handler(handle))
        await publish_numbers(client, "once", 10)
        assert await got.wait_len(2) == numbers(2)
        await client.flush()
        assert list(got) == numbers(2)


async def test_a_callback_may_close_the_client(leg: Leg, url: str) -> None:
    done = Flag()
    async with leg.connect(url) as client:

        async def handle(_: object) -> None:
            await client.close()
            done.set()

        await client.subscribe("end", callback=leg.handler(handle))
        await client.publish("end")
        await eventually(lambda: client.status.name == "CLOSED")
        if leg.name == "threads":  # on the other legs the end of the client cancels its callbacks
            await done.wait()


async def test_a_callback_subscription_cannot_be_read(leg: Leg, url: str) -> None:
    async def handle(_: object) -> None: ...

    async with leg.connect(url) as client:
        sub = await client.subscribe("cb", callback=leg.handler(handle))
        with pytest.raises(LocalProtocolError, match="callback"):
            await sub.next(timeout=1)


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_leaving_the_block_unsubscribes(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        async with client.subscribe("block"):
            await client.flush()
            assert server.connz()["connections"][0]["subscriptions"] == 1
        await client.flush()
        assert server.connz()["connections"][0]["subscriptions"] == 0


async def test_unsubscribe_drops_what_is_queued_and_ends_the_iteration(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("gone")
        await publish_numbers(client, "gone", 5)
        await client.flush()
        await sub.unsubscribe()
        assert sub.pending == (0, 0)
        assert [message.data async for message in sub] == []
        with pytest.raises(SubscriptionClosedError, match="gone"):
            await sub.next(timeout=1)
        with pytest.raises(SubscriptionClosedError):
            await sub.next_batch(1, timeout=1)
        await sub.unsubscribe()


async def test_unsubscribe_wakes_who_waits(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("waited")
        ends: Collected[str] = Collected()

        async def iterate() -> None:
            async for _ in sub:
                pass
            ends.add("iteration")

        async def ask() -> None:
            with pytest.raises(SubscriptionClosedError):
                await sub.next()
            ends.add("next")

        async with anyio.create_task_group() as group:
            group.start_soon(iterate)
            group.start_soon(ask)
            await client.flush()
            await sub.unsubscribe()
        assert sorted(ends) == ["iteration", "next"]


async def test_a_maximum_ends_the_subscription(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("max", max_msgs=3)
        await publish_numbers(client, "max", 10)
        assert [message.data async for message in sub] == numbers(3)
        with pytest.raises(SubscriptionClosedError):
            await sub.next(timeout=1)
        await client.flush()
        assert client.stats.dropped_unknown_sid == 0


async def test_unsubscribe_after_a_number(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("later")
        await publish_numbers(client, "later", 2)
        await client.flush()
        await sub.unsubscribe(max_msgs=5)
        await publish_numbers(client, "later", 10, start=2)
        assert [message.data async for message in sub] == numbers(5)


async def test_unsubscribe_after_a_number_that_is_over_gives_no_more_than_that(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("over")
        await publish_numbers(client, "over", 5)
        await client.flush()
        await sub.unsubscribe(max_msgs=2)
        await publish_numbers(client, "over", 5, start=5)
        await client.flush()
        assert [message.data async for message in sub] == numbers(2)


@pytest.mark.parametrize("wrong", [0, -1])
async def test_a_maximum_below_one_is_refused(leg: Leg, url: str, wrong: int) -> None:
    async with leg.connect(url) as client:
        with pytest.raises(ValueError):
            await client.subscribe("max", max_msgs=wrong)
        sub = await client.subscribe("max")
        with pytest.raises(ValueError):
            await sub.unsubscribe(max_msgs=wrong)
        for limit in ("max_pending_msgs", "max_pending_bytes"):
            with pytest.raises(ValueError):
                await client.subscribe("max", **{limit: -1})


async def test_a_callback_with_a_maximum(leg: Leg, url: str) -> None:
    got: Collected[bytes] = Collected()

    async def handle(message: object) -> None:
        got.add(message.data)

    async with leg.connect(url) as client:
        await client.subscribe("max", max_msgs=3, callback=leg.handler(handle))
        await publish_numbers(client, "max", 10)
        await client.flush()
        assert await got.wait_len(3) == numbers(3)
        await client.flush()
        assert len(got) == 3


async def test_closing_the_client_ends_iterations_and_fails_next(leg: Leg, url: str) -> None:
    ends: Collected[str] = Collected()
    async with leg.connect(url) as client:
        sub = await client.subscribe("closed")

        async def iterate() -> None:
            async for _ in sub:
                pass
            ends.add("iteration")

        async def ask() -> None:
            with pytest.raises(ConnectionClosedError):
                await sub.next()
            ends.add("next")

        async def batch() -> None:
            with pytest.raises(ConnectionClosedError):
                await sub.next_batch(5)
            ends.add("next_batch")

        async with anyio.create_task_group() as group:
            for reader in (iterate, ask, batch):
                group.start_soon(reader)
            await client.flush()
            await client.close()
    assert sorted(ends) == ["iteration", "next", "next_batch"]


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_full_queue_drops_the_new_and_says_so_once_per_episode(leg: Leg, url: str) -> None:
    log = EventLog()
    async with leg.connect(url, on_event=log) as client, client.subscribe("slow", max_pending_msgs=10) as sub:
        await publish_numbers(client, "slow", 100)
        await client.flush()
        event = await log.wait(SlowConsumer)
        assert (event.subject, event.sid, event.pending_msgs, event.dropped) == ("slow", sub.sid, 10, 1)
        assert (sub.pending[0], sub.dropped) == (10, 90)
        assert [message.data for message in await sub.next_batch(5, timeout=PATIENCE)] == numbers(5)
        await publish_numbers(client, "slow", 3, start=100)
        await client.flush()
        rest = await sub.next_batch(100, timeout=PATIENCE)
        assert [message.data for message in rest] == numbers(5, 5) + numbers(3, 100)
        assert len(log.of(SlowConsumer)) == 1
        await publish_numbers(client, "slow", 15, start=103)
        await client.flush()
        second = await log.wait(SlowConsumer, count=2)
        assert second.dropped == 91
        assert sub.dropped == 95
        assert client.stats.dropped_msgs == 95
        assert sub.delivered == 13


async def test_a_limit_in_bytes_counts_headers_and_payload(leg: Leg, url: str) -> None:
    log = EventLog()
    async with leg.connect(url, on_event=log) as client, client.subscribe("slow", max_pending_bytes=1000) as sub:
        for _ in range(5):
            await client.publish("slow", b"x" * 200, headers={"A": "y" * 40})
        await client.flush()
        await log.wait(SlowConsumer)
        assert sub.pending[0] == 3
        assert 3 * 240 < sub.pending[1] <= 1000
        assert sub.dropped == 2


async def test_limits_of_the_options_and_none(leg: Leg, url: str) -> None:
    async with leg.connect(url, max_pending_msgs=5) as client:
        limited = await client.subscribe("many")
        unlimited = await client.subscribe("many", max_pending_msgs=0, max_pending_bytes=0)
        await publish_numbers(client, "many", 50)
        await client.flush()
        assert (limited.pending[0], unlimited.pending[0]) == (5, 50)


async def test_a_slow_subscription_holds_up_nobody(leg: Leg, url: str) -> None:
    release, began = Flag(), Flag()

    async def block(_: object) -> None:
        began.set()
        await release.wait()

    async def echo(message: object) -> None:
        await message.respond(message.data)

    async with leg.connect(url) as client:
        await client.subscribe("slow", callback=leg.handler(block), max_pending_msgs=100)
        unread = await client.subscribe("slow", max_pending_msgs=100)
        await client.subscribe("echo", callback=leg.handler(echo))
        for n in range(1000):
            await client.publish("slow", b"x" * 1000)
            if n % 100 == 0:
                assert (await client.request("echo", b"%d" % n, timeout=PATIENCE)).data == b"%d" % n
        await began.wait()
        async with client.subscribe("quick") as quick:
            await client.publish("quick", b"1")
            assert (await quick.next(timeout=PATIENCE)).data == b"1"
        assert unread.dropped == 900
        release.set()


async def test_what_waits_for_a_callback_is_pending(leg: Leg, url: str) -> None:
    release, began = Flag(), Flag()

    async def block(_: object) -> None:
        began.set()
        await release.wait()

    async with leg.connect(url) as client:
        sub = await client.subscribe("pending", callback=leg.handler(block))
        await publish_numbers(client, "pending", 3)
        await began.wait()
        await client.flush()
        assert sub.pending[0] in (2, 3)
        release.set()
        await eventually(lambda: sub.pending == (0, 0))
        assert sub.delivered == 3
