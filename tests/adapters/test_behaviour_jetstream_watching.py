"""Watching a bucket in other ways than by iterating, on three legs: `ready`, a handler, a live mapping."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

import nats_proto._consuming.ahead
import nats_proto._keyvalue.watch
from nats_proto._keyvalue.watch import Watch
from nats_proto.errors import LocalProtocolError, NATSError, NATSTimeoutError, SubscriptionClosedError
from nats_proto.jetstream import BucketNotFoundError, InitialValuesDone, InvalidKeyError
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream, js_server, restart
from tests.adapters.legs import PATIENCE, QUICK, Collected, Leg, eventually, in_thread

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio


def told(entry: Any) -> str:
    """``key=value`` and the like."""
    if isinstance(entry, InitialValuesDone):
        return "end"
    return f"{entry.key}={entry.value.decode()}" if not entry.deleted else f"{entry.key}:{entry.operation}"


async def test_r58_ready_keeps_what_has_come(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url, **QUICK) as client:
        kv = await jetstream(client).create_key_value("B")
        impatient = await jetstream(client, timeout=0.02).key_value("B", timeout=PATIENCE)
        for key in ("a", "b", "c"):
            await kv.put(key, b"1")
        async with kv.watch() as watch:
            assert watch.state == "beginning"
            await watch.ready(PATIENCE)
            assert (watch.state, watch.live) == ("live", True)
            await watch.ready(0)
            await kv.delete("b")
            found = [told(await watch.next(PATIENCE)) for _ in range(5)]
            assert found == ["a=1", "b=1", "c=1", "end", "b:delete"]
        assert watch.state == "ended"
        async with kv.watch(updates_only=True) as watch:
            await kv.put("a", b"2")  # the block has begun, so it is told
            assert told(await watch.next(PATIENCE)) == "a=2"
            assert await watch.next(0.01) is None
        async with kv.watch() as watch:
            watch.stop()
            with pytest.raises(SubscriptionClosedError):
                await watch.ready(PATIENCE)
        # Held entries are replaced by newer ones as those that nobody has asked for are.
        async with kv.watch("a", coalesce=True) as watch:
            await watch.ready(PATIENCE)
            for number in range(3, 33):
                await kv.put("a", b"%d" % number)
            found = []
            while found[-1:] != ["a=32"]:
                found.append(told(await watch.next(PATIENCE)))
            assert len(found) < 32
        await in_thread(js_server.stop)
        async with kv.watch() as watch:
            with pytest.raises(NATSTimeoutError, match="initial values"):
                await watch.ready(0.02)
        with pytest.raises(NATSError):
            async with impatient.watch(updates_only=True):
                raise AssertionError("it has begun")


async def test_entries_that_lie_unread_are_bounded(
    leg: Leg, js_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However quickly the server sends what was asked for meanwhile, it is not taken before the rest was read."""
    monkeypatch.setattr(nats_proto._keyvalue.watch, "AT_HAND", 100)
    monkeypatch.setattr(nats_proto._consuming.ahead, "MOST", 100)
    unread = []
    receive_all = Watch.receive_all

    def slowly(self: Watch[Any, Any], *arguments: Any, **fields: Any) -> None:
        time.sleep(0.005)  # a slow client, so that the server is quicker; what is asserted depends on no time
        receive_all(self, *arguments, **fields)
        unread.append(len(self.items))

    monkeypatch.setattr(Watch, "receive_all", slowly)
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        kv = await js.create_key_value("B", storage="memory")
        async with js.publisher() as publisher:
            for number in range(1000):
                await publisher.publish(f"$KV.B.{number}", b"1")
        async with kv.watch() as watch:
            assert [(await watch.next(PATIENCE)).key for _ in range(1000)] == [str(number) for number in range(1000)]
    assert 0 < max(unread) <= 100


async def test_r58_a_handler_is_called_with_each_entry(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value(
            "B", history=5
        )  # else a server may skip what is overwritten at once
        await kv.put("a", b"1")
        seen: Collected[str] = Collected()

        async def handle(entry: Any) -> None:
            seen.add(told(entry))
            if len(seen) % 2:
                raise ValueError("half of them fail")

        async with kv.on_change(handle) as changes:
            await changes.ready(PATIENCE)
            assert list(seen) == ["a=1", "end"]
            assert changes.state == "live"
            await kv.put("a", b"2")
            await kv.delete("a")
            assert await seen.wait_len(4) == ["a=1", "end", "a=2", "a:delete"]
            assert changes.revision == 3
        assert changes.state == "ended"
        async with kv.on_change(handle, updates_only=True) as changes:
            await changes.ready(PATIENCE)
            await kv.put("z", b"1")
            await seen.wait_for(lambda one: one == "z=1")
            assert seen[-1] == "z=1"
            changes.stop()
            await changes.wait(PATIENCE)
        with pytest.raises(InvalidKeyError):
            kv.on_change(handle, "a b")
        with pytest.raises(ValueError, match="exclude"):
            kv.on_change(handle, updates_only=True, include_history=True)


async def test_r58_nothing_is_given_after_stop_and_a_later_watch_resumes_there(
    leg: Leg, js_server: LocalServer
) -> None:
    """Entries come many at once. Those that were not given when the watch was stopped are the next one's."""
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", history=64)
        for number in range(1, 41):
            await kv.put(f"k{number}", b"%d" % number)
        async with kv.watch() as watch:
            assert [(await watch.next(PATIENCE)).revision for _ in range(3)] == [1, 2, 3]
            watch.stop()
            assert await watch.next(PATIENCE) is None
            assert watch.revision == 3
            assert await watch.next(PATIENCE) is None
        async with kv.watch(resume_from_revision=watch.revision + 1) as watch:
            await watch.ready(PATIENCE)  # all are there
            assert (await watch.next(PATIENCE)).revision == 4
            watch.stop()
            assert await watch.next(PATIENCE) is None
            assert watch.revision == 4
        seen: Collected[int] = Collected()
        made: Collected[Any] = Collected()

        async def handle(entry: Any) -> None:
            seen.add(entry.revision)
            if entry.revision == 7:
                (await made.wait_len(1))[0].stop()

        changes = kv.on_change(handle, resume_from_revision=watch.revision + 1)
        made.add(changes)
        await changes.wait(PATIENCE)
        assert list(seen) == [5, 6, 7]
        assert changes.revision == 7


async def test_r58_a_handler_does_not_wait_for_its_own_reader(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B")
        raised: Collected[BaseException] = Collected()
        readers: list[Any] = []

        async def handle(entry: Any) -> None:
            try:
                await readers[0].ready()
            except LocalProtocolError as error:
                raised.add(error)

        reader = kv.on_change(handle, updates_only=True)
        readers.append(reader)
        await reader.ready(PATIENCE)
        await kv.put("a", b"1")
        await raised.wait_len(1)
        await reader.drain()


async def test_r57_a_handler_goes_on_after_a_restart_and_ends_with_the_bucket(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url, **QUICK) as client:
        js = jetstream(client)
        kv = await js.create_key_value("B", history=64)
        seen: Collected[str] = Collected()

        async def handle(entry: Any) -> None:
            seen.add(told(entry))

        changes = kv.on_change(handle)
        await changes.ready(PATIENCE)
        await restart(js_server, client)
        for number in range(1, 10):
            await kv.put("a", b"%d" % number)
        await seen.wait_for(lambda one: one == "a=9")
        assert list(seen) == ["end", *(f"a={number}" for number in range(1, 10))]
        await js.delete_key_value("B")
        with pytest.raises(BucketNotFoundError):
            await changes.wait(PATIENCE)
        with pytest.raises(BucketNotFoundError):
            await changes.ready(PATIENCE) if not changes.revision else await changes.drain()


async def test_r58_nothing_is_left_on_the_server(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        kv = await js.create_key_value("B")

        async def handle(entry: Any) -> None:
            pass

        async with kv.on_change(handle) as changes:
            await changes.ready(PATIENCE)
        stream = js.stream("KV_B")
        with anyio.fail_after(PATIENCE):
            while [name async for name in stream.consumer_names()]:
                await anyio.sleep(0.01)
    await eventually(lambda: changes.state == "ended")


async def test_n7_a_bucket_in_memory(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url, **QUICK) as client:
        js = jetstream(client)
        kv = (await js.create_key_value("B", history=64)).typed(int)
        for number, key in enumerate(("web.a", "web.b", "other", "web.c")):
            await kv.put(key, number)
        await kv.delete("web.c")
        async with kv.mapping("web.>") as view:
            mapping = getattr(view, "thing", view)  # reading takes no await on any leg
            assert dict(mapping) == {"web.a": 0, "web.b": 1}
            assert view.revision == 5
            assert 0 <= view.staleness < PATIENCE
            await kv.put("web.a", 7)
            await kv.purge("web.b")
            await eventually(lambda: dict(mapping) == {"web.a": 7})
            assert mapping.entry("web.a").revision == 6
            await restart(js_server, client)
            await kv.put("web.d", 8)
            await eventually(lambda: mapping.get("web.d") == 8)
            await eventually(lambda: view.state == "live")
        assert view.state == "ended"
        assert mapping["web.d"] == 8
        with pytest.raises(InvalidKeyError):
            kv.mapping("a b")
        await in_thread(js_server.stop)
        with pytest.raises(NATSTimeoutError, match="initial values"):
            await kv.mapping(timeout=0.02).__aenter__()
