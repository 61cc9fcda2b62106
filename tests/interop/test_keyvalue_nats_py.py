"""Key-Value with nats-py: what one has written the other reads, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.errors import KeyNotFoundError as TheirNotFound
from nats.js.errors import KeyWrongLastSequenceError

from nats_proto.jetstream import InitialValuesDone, KeyDeletedError, KeyExistsError, RevisionMismatchError
from tests.adapters.legs import PATIENCE, Leg, in_thread
from tests.interop.nats_py import NatsPy
from tests.jetstream.legs import jetstream
from tests.server_version import needs_server

pytestmark = pytest.mark.anyio


async def told(watch: Any, count: int) -> list[str]:
    """So many items, as ``key=value`` and the like."""
    found: list[str] = []
    for _ in range(count):
        item = await watch.next(PATIENCE)
        if isinstance(item, InitialValuesDone):
            found.append("end")
        else:
            found.append(f"{item.key}={item.value.decode()}" if not item.deleted else f"{item.key}:{item.operation}")
    return found


async def test_a_bucket_that_nats_py_has_made(leg: Leg, url: str, theirs: NatsPy) -> None:
    async def fill(js: Any) -> None:
        kv = await js.create_key_value(bucket="B", history=5, description="theirs")
        await kv.put("a.b", b"1")
        await kv.put("a.b", b"2")
        await kv.put("gone", b"x")
        await kv.delete("gone")
        await kv.put("purged", b"x")
        await kv.purge("purged")

    await in_thread(lambda: theirs(fill))
    async with leg.connect(url) as client:
        js = jetstream(client)
        kv = await js.key_value("B")
        status = await kv.status()
        assert (status.bucket, status.history, status.config.description) == ("B", 5, "theirs")
        entry = await kv.get("a.b")
        assert (entry.value, entry.revision) == (b"2", 2)
        for key, operation in (("gone", "delete"), ("purged", "purge")):
            with pytest.raises(KeyDeletedError) as raised:
                await kv.get(key)
            assert raised.value.operation == operation
        assert [key async for key in kv.keys(">")] == ["a.b"]
        assert [one.value for one in await kv.history("a.b")] == [b"1", b"2"]
        async with kv.watch() as watch:
            assert await told(watch, 4) == ["a.b=2", "gone:delete", "purged:purge", "end"]
        with pytest.raises(KeyExistsError):
            await kv.create("a.b", b"3")
        assert await kv.create("gone", b"back") == 7
        assert await kv.update("a.b", b"3", 2) == 8


async def test_a_bucket_that_we_have_made(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        kv = await jetstream(client).create_key_value("B", history=5, ttl=600)
        await kv.put("a.b", b"1")
        revision = await kv.update("a.b", b"2", 1)
        await kv.put("gone", b"x")
        await kv.delete("gone")

        async def read(js: Any) -> tuple[Any, ...]:
            bucket = await js.key_value("B")
            entry = await bucket.get("a.b")
            with pytest.raises(TheirNotFound):
                await bucket.get("gone")
            with pytest.raises(KeyWrongLastSequenceError):
                await bucket.update("a.b", b"3", last=1)
            status = await bucket.status()
            history = [one.value for one in await bucket.history("a.b")]
            return entry.value, entry.revision, await bucket.keys(), history, status.history, status.ttl

        found = await in_thread(lambda: theirs(read))
        assert found == (b"2", revision, ["a.b"], [b"1", b"2"], 5, 600)
        async with kv.watch("a.*") as watch:
            assert await told(watch, 2) == ["a.b=2", "end"]

            async def write(js: Any) -> int:
                bucket = await js.key_value("B")
                await bucket.delete("a.b")
                return int(await bucket.create("a.b", b"theirs"))

            last = await in_thread(lambda: theirs(write))
            assert await told(watch, 2) == ["a.b:delete", "a.b=theirs"]
        with pytest.raises(RevisionMismatchError) as raised:
            await kv.update("a.b", b"ours", 2)
        assert raised.value.revision == last
        assert await kv.update("a.b", b"ours", last) == last + 1


@needs_server(2, 11, has="a time to live of messages")
async def test_a_lock_is_a_key_to_nats_py(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)

        async def read(js: Any) -> bytes:
            return bytes((await (await js.key_value("B")).get("leader")).value or b"")

        async with kv.lock("leader", ttl=30, holder="node-1"):
            assert b'"holder":"node-1"' in await in_thread(lambda: theirs(read))
        with pytest.raises(TheirNotFound):
            await in_thread(lambda: theirs(read))
