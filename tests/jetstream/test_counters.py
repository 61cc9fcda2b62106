"""Counters (ADR-49): exact numbers of any size, their sources, and increments that are tried again."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from nats_proto.errors import NATSTimeoutError
from nats_proto.jetstream import (
    CounterEntry,
    CounterError,
    JetStreamDecodeError,
    StreamNotFoundError,
    StreamSource,
    SubjectTransform,
)
from tests.adapters.legs import PATIENCE, Leg, eventually
from tests.faults.proxy import Proxy
from tests.jetstream.legs import jetstream
from tests.jetstream.versions import since
from tests.server_version import needs_server

pytestmark = pytest.mark.anyio
has_counters = needs_server(2, 12, has="counters")


async def made(js: Any, name: str = "C", **fields: Any) -> Any:
    fields.setdefault("subjects", ["c.>"])
    return await js.create_stream(name, allow_msg_counter=True, allow_direct=True, storage="memory", **fields)


async def test_a_server_that_is_too_old_is_named(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        with since(2, 12):
            js.counter("c.x")


@has_counters
async def test_numbers_of_any_size(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await made(js)
        counter = js.counter("c.x")
        assert await counter.value() == 0
        total = 0
        for delta in (1, -5, 0, 2**64, 10**300, -(10**300), -(2**64) - 100):
            total += delta
            assert await counter.add(delta) == total
            assert await counter.value() == await counter.value(direct=False) == total
        assert await counter.add() == total + 1
        assert await counter.entry() == CounterEntry(subject="c.x", value=total + 1, increment=1)
        assert await js.counter("c.y").value() == 0


@has_counters
async def test_many_writers_lose_nothing(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await made(js)

        async def add(number: int) -> None:
            for _ in range(20):
                await js.counter("c.x").add(number)

        async with anyio.create_task_group() as group:
            for number in range(1, 6):
                group.start_soon(add, number)
        assert await js.counter("c.x").value() == 20 * 15


@has_counters
async def test_sources_are_summed_up(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        for place in ("EU", "US"):
            await made(js, place, subjects=[f"count.{place}.>"])
        sources = [
            StreamSource(name=place, subject_transforms=[SubjectTransform(src=f"count.{place}.>", dest="count.>")])
            for place in ("EU", "US")
        ]
        await made(js, "ALL", subjects=None, sources=sources)
        await js.counter("count.EU.hits").add(10**30)
        await js.counter("count.US.hits").add(5)
        await js.counter("count.US.hits").add(-7)
        all_hits = js.counter("count.hits", stream="ALL")
        entry = CounterEntry(value=0)
        with anyio.fail_after(PATIENCE):
            while entry.value != 10**30 - 2:
                entry = await all_hits.entry()
        assert {stream: dict(subjects) for stream, subjects in entry.sources.items()} == {
            "EU": {"count.EU.hits": 10**30},
            "US": {"count.US.hits": -2},
        }
        with pytest.raises(StreamNotFoundError):
            await js.counter("count.hits").value()


@has_counters
async def test_what_is_no_counter(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await js.create_stream("S", subjects=["s.>"], storage="memory")
        with pytest.raises(CounterError) as refused:
            await js.counter("s.x").add()
        assert refused.value.outcome == "failed"
        await js.publish("s.x", b"a book")
        with pytest.raises(JetStreamDecodeError, match=r"counter 's\.x'"):
            await js.counter("s.x").value()
        with pytest.raises(TypeError):
            await js.counter("s.x").add(1.5)


@has_counters
async def test_an_increment_without_an_answer(leg: Leg, url: str) -> None:
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client:
            js = jetstream(client)
            await made(js)
            counter = js.counter("c.x")
            proxy.down.held = True
            for _ in range(5):
                with pytest.raises(NATSTimeoutError) as unknown:
                    await counter.add(1, timeout=0.2)
                if unknown.value.outcome != "failed":  # where the machine stands still, it may not have been sent
                    break
            assert unknown.value.outcome == "unknown"
            proxy.down.held = False
            assert await counter.value(direct=False) == 1  # it was sent once

            totals = []

            async def add() -> None:
                totals.append(await counter.add(10, msg_id="ten", timeout=0.3, retry_for=60))

            async with anyio.create_task_group() as group:
                proxy.down.held = True
                before = proxy.up.passed
                group.start_soon(add)
                await eventually(lambda: proxy.up.passed > before)
                first = proxy.up.passed
                await eventually(lambda: proxy.up.passed > first, "the second try")
                proxy.down.held = False
            assert totals == [11]
            assert await counter.value(direct=False) == 11


@has_counters
async def test_many_counters_at_once(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await made(js)
        for number in range(5):
            await js.counter(f"c.{number}").add(10**30 + number)
        found = {entry.subject: entry.value async for entry in js.counters("C", ["c.*"])}
        assert found == {f"c.{number}": 10**30 + number for number in range(5)}
        assert [entry.value async for entry in js.counters("C", "c.3")] == [10**30 + 3]
        assert [entry async for entry in js.counters("C", ["d.*"])] == []
        async with js.counters("C", ["c.>"]) as entries:
            async for entry in entries:
                assert entry.increment == entry.value
                break
        with pytest.raises(ValueError, match=r"."):
            js.counters("C", [])
