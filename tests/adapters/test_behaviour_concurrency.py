"""Callbacks that run side by side: as many as were asked for and no more, begun in order, waited for at the end."""

from __future__ import annotations

from fractions import Fraction

import anyio
import pytest

from tests.adapters.legs import PATIENCE, Collected, EventLog, Flag, Leg, eventually

pytestmark = pytest.mark.anyio


class Crowd:
    """A callback that keeps each of its messages until it is told to go on."""

    def __init__(self) -> None:
        self.begun: Collected[bytes] = Collected()
        self.ended: Collected[bytes] = Collected()
        self._at_once: list[int] = []
        self.doors: dict[bytes, Flag] = {}
        self.open = Flag()

    @property
    def most(self) -> int:
        """So many were there at once. A maximum that several threads kept could be put back by the slowest of them."""
        return max(self._at_once)

    def door(self, data: bytes) -> Flag:
        return self.doors.setdefault(data, Flag())

    async def handle(self, message: object) -> None:
        self.begun.add(message.data)
        self._at_once.append(len(self.begun) - len(self.ended))
        try:
            if not self.open.is_set:
                await self.doors[message.data].wait()
        finally:
            self.ended.add(message.data)

    async def publish(self, client: object, count: int, start: int = 0) -> None:
        for n in range(start, start + count):
            self.door(b"%d" % n)
            await client.publish("crowd", b"%d" % n)
        await client.flush()


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + count)]


@pytest.mark.parametrize("concurrency", [1, 2, 7, 40])
async def test_so_many_run_at_once_and_no_more(leg: Leg, url: str, concurrency: int) -> None:
    crowd = Crowd()
    async with leg.connect(url) as client:
        sub = await client.subscribe("crowd", callback=leg.handler(crowd.handle), concurrency=concurrency)
        await crowd.publish(client, concurrency + 3)
        await crowd.begun.wait_len(concurrency)
        await client.flush()
        assert sorted(crowd.begun, key=int) == numbers(concurrency)  # the oldest, and none of the rest
        assert (sub.delivered, sub.pending[0]) == (concurrency, 3)
        for more in range(3):  # each that ends makes room for the next one
            crowd.door(b"%d" % more).set()
            await crowd.begun.wait_len(concurrency + 1 + more)
            assert crowd.begun[-1] == b"%d" % (concurrency + more)
        for door in crowd.doors.values():
            door.set()
        await crowd.ended.wait_len(concurrency + 3)
        await sub.drain(timeout=PATIENCE)
        assert (sub.delivered, sub.pending, sub.dropped) == (concurrency + 3, (0, 0), 0)
    assert crowd.most == concurrency


async def test_messages_that_come_one_by_one_find_their_callers(leg: Leg, url: str) -> None:
    crowd = Crowd()
    async with leg.connect(url) as client:
        sub = await client.subscribe("crowd", callback=leg.handler(crowd.handle), concurrency=3)
        for n in range(3):
            await crowd.publish(client, 1, start=n)
            await crowd.begun.wait_len(n + 1)
        assert list(crowd.begun) == numbers(3)  # they came apart
        await crowd.publish(client, 2, start=3)
        assert (len(crowd.begun), sub.pending[0]) == (3, 2)
        crowd.door(b"1").set()
        await crowd.begun.wait_len(4)
        assert crowd.begun[3] == b"3"
        for door in crowd.doors.values():
            door.set()
        await crowd.ended.wait_len(5)


async def test_calls_begin_in_the_order_of_messages(leg: Leg, url: str) -> None:
    begun: Collected[bytes] = Collected()

    async def handle(message: object) -> None:
        begun.add(message.data)
        if leg.name != "threads":
            await anyio.lowlevel.checkpoint()

    async with leg.connect(url) as client:
        sub = await client.subscribe("many", callback=leg.handler(handle), concurrency=8)
        for n in range(2000):
            await client.publish("many", b"%d" % n)
        await begun.wait_len(2000)
        got = [int(data) for data in begun]
        if leg.name == "threads":  # between taking a message and the callback's first step another may pass
            assert sorted(got) == list(range(2000))
            assert all(sum(1 for later in got[i + 1 : i + 40] if later < n) <= 7 for i, n in enumerate(got))
        else:
            assert got == list(range(2000))
        await sub.unsubscribe()


async def test_what_one_raises_is_logged_and_the_others_go_on(
    leg: Leg, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = Crowd()

    async def handle(message: object) -> None:
        await crowd.handle(message)
        if message.data == b"1":
            raise LookupError("one of three")

    async with leg.connect(url) as client:
        await client.subscribe("crowd", callback=leg.handler(handle), concurrency=3)
        await crowd.publish(client, 4)
        await crowd.begun.wait_len(3)
        crowd.door(b"1").set()
        await crowd.begun.wait_len(4)
        assert list(crowd.ended) == [b"1"]
        for door in crowd.doors.values():
            door.set()
        await crowd.ended.wait_len(4)
        await eventually(lambda: "raised" in caplog.text)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["one of three"]


@pytest.mark.parametrize("end", ["drain", "unsubscribe and drain", "client"])
async def test_an_end_waits_for_all_of_them(leg: Leg, url: str, end: str) -> None:
    crowd = Crowd()
    async with leg.connect(url) as client:
        sub = await client.subscribe("crowd", callback=leg.handler(crowd.handle), concurrency=3)
        await crowd.publish(client, 5)
        await crowd.begun.wait_len(3)
        over = Flag()

        async def finish() -> None:
            if end == "client":
                await client.drain(timeout=PATIENCE)
            else:
                if end != "drain":
                    await sub.unsubscribe()
                await sub.drain(timeout=PATIENCE)
            over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(finish)
            if end.startswith("unsub"):
                await eventually(lambda: sub.pending == (0, 0))
            left = [b"2", b"0", b"1"] + ([] if end.startswith("unsub") else [b"3", b"4"])
            for data in left:
                await crowd.begun.wait_for(data.__eq__)
                await anyio.lowlevel.checkpoint()
                assert not over.is_set
                crowd.door(data).set()
        assert sorted(crowd.ended) == sorted(left)
        assert (sub.delivered, sub.dropped) == (len(left), 5 - len(left))


@pytest.mark.parametrize("what", ["client", "subscription"])
async def test_a_drain_by_one_of_them_does_not_wait_for_itself(leg: Leg, url: str, what: str) -> None:
    crowd = Crowd()
    log = EventLog()
    go_on, drained = Flag(), Flag()

    async with leg.connect(url, on_event=log) as client:

        async def handle(message: object) -> None:
            if message.data == b"1":
                await go_on.wait()
                await (client if what == "client" else sub).drain(timeout=PATIENCE)
                drained.set()
            await crowd.handle(message)

        sub = await client.subscribe("crowd", callback=leg.handler(handle), concurrency=3)
        await crowd.publish(client, 3)
        await crowd.begun.wait_len(2)
        go_on.set()
        await drained.wait()
        await crowd.begun.wait_len(3)
        assert not list(crowd.ended)
        for door in crowd.doors.values():
            door.set()
        await crowd.ended.wait_len(3)
        if what == "subscription":
            await sub.drain(timeout=PATIENCE)
            assert sub.pending == (0, 0)
            await client.close()
        await eventually(lambda: log.names[-1] == "Closed")


async def test_a_maximum_counts_all_of_them(leg: Leg, url: str) -> None:
    crowd = Crowd()
    crowd.open.set()
    async with leg.connect(url) as client:
        sub = await client.subscribe("crowd", callback=leg.handler(crowd.handle), concurrency=3, max_msgs=5)
        await crowd.publish(client, 9)
        await sub.drain(timeout=PATIENCE)
        assert sorted(crowd.ended) == numbers(5)
        assert sub.delivered == 5


async def test_others_are_not_starved(leg: Leg, url: str) -> None:
    crowds = [Crowd() for _ in range(3)]
    others: Collected[bytes] = Collected()

    async def other(message: object) -> None:
        others.add(message.data)

    async with leg.connect(url) as client:
        subs = [await client.subscribe("crowd", callback=leg.handler(crowd.handle), concurrency=20) for crowd in crowds]
        await client.subscribe("other", callback=leg.handler(other))
        for n in range(20):
            for crowd in crowds:
                crowd.door(b"%d" % n)
        await crowds[0].publish(client, 20)
        for crowd in crowds:
            await crowd.begun.wait_len(20)  # sixty at once
        await client.publish("other", b"x")
        await others.wait_len(1)
        for crowd in crowds:
            for door in crowd.doors.values():
                door.set()
        for sub in subs:
            await sub.drain(timeout=PATIENCE)


@pytest.mark.parametrize("wrong", [0, -1, 1025, 10**400])
async def test_a_concurrency_out_of_bounds_is_refused(leg: Leg, url: str, wrong: int) -> None:
    async with leg.connect(url) as client:
        with pytest.raises(ValueError, match=r"^concurrency must be from 1 to 1024: "):
            await client.subscribe("a", callback=print, concurrency=wrong)


@pytest.mark.parametrize("wrong", [True, None, "2", 2.0, float("nan"), Fraction(2)])
async def test_a_concurrency_that_is_no_number_is_refused(leg: Leg, url: str, wrong: object) -> None:
    async with leg.connect(url) as client:
        with pytest.raises(TypeError, match=r"^concurrency must be int, not "):
            await client.subscribe("a", callback=print, concurrency=wrong)


async def test_without_a_callback_there_is_nothing_to_run_at_once(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        with pytest.raises(ValueError, match=r"^concurrency must be 1 without a callback: "):
            await client.subscribe("a", concurrency=2)
        await (await client.subscribe("a", callback=print, concurrency=1024)).unsubscribe()
