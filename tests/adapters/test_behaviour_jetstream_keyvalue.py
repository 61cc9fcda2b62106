"""Key-Value buckets on real servers, on three legs: what users suffer from, row by row."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from nats_proto.jetstream import (
    ApiError,
    Base64Keys,
    BucketExistsError,
    BucketNotFoundError,
    InitialValuesDone,
    InvalidBucketError,
    InvalidKeyError,
    JetStreamDecodeError,
    KeyDeletedError,
    KeyExistsError,
    KeyNotFoundError,
    KeyValueConfig,
    MessageTTLError,
    PathKeys,
    RevisionMismatchError,
    StreamSource,
)
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream, js_server, restart
from tests.adapters.legs import PATIENCE, QUICK, Leg
from tests.jetstream.cluster import STRICT
from tests.jetstream.versions import since
from tests.server_version import needs_server
from tests.transports import Transport

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio


async def seen(watch: Any, *, until: str | None = None) -> list[str]:
    """Each entry as ``key=value``, up to the end of the initial values, or up to this entry."""
    found: list[str] = []
    with anyio.fail_after(PATIENCE):
        async for entry in watch:
            if isinstance(entry, InitialValuesDone):
                found.append("end")
                if until is None:
                    break
                continue
            text = f"{entry.key}={entry.data.decode()}" if not entry.deleted else f"{entry.key}:{entry.operation}"
            found.append(text)
            if text == until:
                break
    return found


async def listed(keys: Any) -> list[str]:
    """What an iterator over keys gives."""
    return [key async for key in keys]


async def test_buckets(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        kv = await js.create_key_value("B", history=5, ttl=60, description="d")
        assert kv.bucket == "B"
        await js.create_key_value("B", history=5, ttl=60, description="d")
        with pytest.raises(BucketExistsError, match="max_msgs_per_subject") as raised:
            await js.create_key_value("B", history=6, ttl=60, description="d")
        assert raised.value.bucket == "B"
        assert raised.value.differences
        await js.update_key_value("B", history=7, description="e")
        await js.create_or_update_key_value(config=KeyValueConfig(bucket="C", storage="memory"))
        await js.create_stream("OTHER", subjects=["$KV.x.other"])
        await kv.put("k", b"1")
        status = await kv.status()
        assert (status.bucket, status.values, status.history, status.ttl) == ("B", 1, 7, None)
        assert status.config.description == "e"
        assert {name async for name in js.key_value_names()} >= {"B", "C"}
        assert {one.bucket async for one in js.key_values()} == {"B", "C"}
        await js.delete_key_value("C")
        calls = [
            js.key_value("C"),
            js.delete_key_value("C"),
            js.update_key_value("C"),
        ]
        for call in calls:
            with pytest.raises(BucketNotFoundError, match="'C'"):
                await call
        with pytest.raises(InvalidBucketError):
            await js.create_key_value("a.b")
        with pytest.raises(InvalidKeyError):
            await kv.put("a b", b"")


async def test_reading_and_writing(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", history=5)
        assert await kv.put("a.b", b"1") == 1
        assert await kv.update("a.b", b"2", 1) == 2
        with pytest.raises(RevisionMismatchError) as mismatch:
            await kv.update("a.b", b"3", 1)
        assert mismatch.value.revision == 2
        entry = await kv.get("a.b")
        assert (entry.key, entry.value, entry.revision, entry.delta) == ("a.b", b"2", 2, 0)
        assert (await kv.get("a.b", revision=1)).value == b"1"
        with pytest.raises(RevisionMismatchError):
            await kv.delete("a.b", revision=1)
        assert await kv.delete("a.b", revision=2) == 3
        with pytest.raises(KeyDeletedError):
            await kv.get("a.b")
        history = await kv.history("a.b")
        assert [(one.operation, one.revision, one.delta) for one in history] == [
            ("put", 1, 2), ("put", 2, 1), ("delete", 3, 0),
        ]  # fmt: skip
        assert await kv.purge("a.b") == 4
        assert [one.operation for one in await kv.history("a.b")] == ["purge"]
        with pytest.raises(KeyNotFoundError):
            await kv.history("none")
        typed = kv.typed(dict[str, int])
        await typed.put("n", {"a": 1})
        assert await typed.modify("n", lambda value: {"a": value["a"] + 1}) == 6
        assert (await typed.get("n")).value == {"a": 2}
        keys = [f"k{number}" for number in range(300)]
        for key in keys:
            await kv.put(key, key.encode())
        many = await kv.get_many([*keys, "a.b", "none"])
        assert {key: found.value for key, found in many.items()} == {key: key.encode() for key in keys}
        assert set(await kv.get_many(keys[:3], reads="leader")) == set(keys[:3])
        with since(2, 11):
            assert set(await kv.snapshot("a.>", "n")) == {"n"}
            assert len(await kv.snapshot()) == 301


@needs_server(2, 11, has="a batch of direct gets")
async def test_n6_a_snapshot_of_too_many_keys(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", storage="memory")
        for number in range(1023):
            await client.publish(f"$KV.B.a.{number}", b"1")
        await kv.put("b", b"1")
        assert len(await kv.snapshot()) == 1024
        await kv.put("c", b"1")
        with pytest.raises(ApiError, match=r"bucket 'B': more than 1024 keys match") as raised:
            await kv.snapshot()
        assert raised.value.code == 413
        assert len(await kv.snapshot("a.*", "c")) == 1024
        assert len(await kv.get_many(await listed(kv.keys()))) == 1025


async def test_n16_keys_by_codecs(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        plain = await jetstream(client).create_key_value("B")
        paths = plain.with_keys(PathKeys())
        await paths.put("/etc/app/port", b"1")
        assert (await plain.get("_root_.etc.app.port")).value == b"1"
        texts = plain.with_keys(Base64Keys())
        await texts.put("Acme Inc.contact", b"2")
        assert [key async for key in texts.keys("Acme Inc.*")] == ["Acme Inc.contact"]
        assert [key async for key in paths.keys("/etc/>")] == ["/etc/app/port"]
        async with texts.watch() as watch:
            assert await seen(watch) == ["Acme Inc.contact=2", "end"]  # the other keys are none of this codec


class Masked:
    """A codec for values: stands for one that encrypts them."""

    def encode(self, value: bytes) -> bytes:
        return b"masked:" + value[::-1]

    def decode(self, data: bytes) -> bytes:
        if not data.startswith(b"masked:"):
            raise ValueError("it is not masked")
        return data.removeprefix(b"masked:")[::-1]


async def test_n16_values_of_a_type(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        made = await js.create_key_value("B", value_type=dict[str, int], history=2)
        await made.put("k", {"a": 1})
        for kv in (
            await js.key_value("B", value_type=dict[str, int]),
            await js.update_key_value("B", value_type=dict[str, int], history=3),
            await js.create_or_update_key_value("B", value_type=dict[str, int], history=2),
        ):
            assert (await kv.get("k")).value == {"a": 1}
        plain = await js.key_value("B", value_type=bytes)
        assert (await plain.get("k")).value == b'{"a":1}'
        for call in (js.create_key_value("C", value_type=5), js.key_value("C", value_type=5)):
            with pytest.raises(TypeError):
                await call
        with pytest.raises(BucketNotFoundError):  # what is no type was refused before anything was asked
            await js.key_value("C")


async def test_n16_values_by_a_codec(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        plain = await jetstream(client).create_key_value("B", history=5)
        masked = plain.with_values(Masked())
        await masked.put("a", b"123")
        assert (await plain.get("a")).value == b"masked:321"
        assert await masked.modify("a", lambda value: value + b"4") == 2
        assert (await masked.get_many(["a"]))["a"].value == b"1234"
        assert [entry.value for entry in await masked.history("a")] == [b"123", b"1234"]
        async with masked.watch("a") as watch:
            async for entry in watch:
                if not isinstance(entry, InitialValuesDone):
                    assert (entry.value, entry.data) == (b"1234", b"masked:4321")
                    break
        for typed in (masked.typed(list[int]), plain.typed(list[int]).with_values(Masked())):
            await typed.put("b", [1, 2])
            assert (await plain.get("b")).value == b"masked:]2,1["
            assert (await typed.read_only().with_values(Masked()).get("b")).value == [1, 2]
        await masked.delete("a")
        assert (await masked.history("a"))[-1].value == b""
        await plain.put("c", b"1")
        with pytest.raises(JetStreamDecodeError, match="key 'c' of bucket 'B': the value cannot be read: it is not"):
            _ = (await masked.get("c")).value
        assert await listed(masked.keys()) == ["b", "c"]


async def test_n21_a_handle_that_only_reads(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B")
        await kv.put("a", b"1")
        reading = kv.read_only().typed(int)
        assert (await reading.get("a")).value == 1
        assert await listed(reading.keys()) == ["a"]
        assert (await reading.status()).bucket == reading.bucket == "B"
        thing = getattr(reading, "thing", reading)
        assert not {"create", "delete", "lock", "modify", "purge", "purge_deletes", "put", "update"} & {*dir(thing)}


async def test_r50_races_end_in_a_value_or_in_key_exists(leg: Leg, js_server: LocalServer) -> None:
    """Who wins a key deletes it again; so between two deletions there is one winner."""
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", history=64)
        others: list[BaseException] = []
        won = 0

        async def compete() -> None:
            nonlocal won
            for number in range(10):
                key = f"k{number % 2}"
                try:
                    revision = await kv.create(key, b"mine")
                except KeyExistsError:
                    continue
                except Exception as error:
                    others.append(error)
                    continue
                won += 1
                await kv.delete(key, revision=revision)

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(compete)
        assert others == []
        assert won >= 2
        for key in ("k0", "k1"):
            operations = [one.operation for one in await kv.history(key)]
            assert operations == ["put", "delete"] * (len(operations) // 2)


async def test_r51_reads_see_what_was_written(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        await js.create_key_value("B")
        kv = await js.key_value("B", reads="leader")
        for number in range(20):
            revision = await kv.put("k", b"%d" % number)
            assert (await kv.get("k")).revision == revision
            assert (await kv.get("k", min_revision=revision, reads="any")).value == b"%d" % number

        async def count() -> None:
            for _ in range(5):
                await kv.modify("n", lambda value: b"%d" % (int(value or b"0") + 1))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(count)
        assert (await kv.get("n")).value == b"20"


async def test_a_bucket_that_answers_nobody_but_its_leader(leg: Leg, js_server: LocalServer) -> None:
    """One that was made by others, without direct access: whoever asks for that finds nobody."""
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        await js.create_stream("KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=1, allow_direct=False)
        kv = await js.key_value("B")
        revision = await kv.put("k", b"v")
        entry = await kv.get("k")
        assert (entry.value, entry.revision) == (b"v", revision)
        with pytest.raises(KeyNotFoundError):
            await kv.get("none")


@needs_server(2, 11, has="mirrors that take what was written on condition of a message which is not there any more")
async def test_r52_domains_and_mirrors(leg: Leg, transport: Transport) -> None:
    with transport.server(jetstream={**STRICT, "domain": "hub"}) as server:
        async with leg.connect(server.url) as client:
            js = jetstream(client, domain="hub")
            kv = await js.create_key_value("A")
            assert await kv.create("k", b"1") == 1
            assert (await kv.get("k")).value == b"1"
            assert await kv.update("k", b"2", 1) == 2
            assert (await (await jetstream(client).key_value("A")).get("k")).value == b"2"
            mirror = await js.create_key_value("M", mirror=StreamSource(name="A"))
            revision = await mirror.put("m", b"3")
            entry = await mirror.get("m", min_revision=revision)
            assert (entry.bucket, entry.key, entry.value) == ("M", "m", b"3")
            assert (await kv.get("m")).value == b"3"
            assert await mirror.delete("k") == 4
            assert await mirror.create("k", b"4") == 5
            assert (await mirror.status()).mirror == "A"
            assert (await mirror.get("k", min_revision=5)).value == b"4"
            async with mirror.watch("k") as watch:
                assert await seen(watch) == ["k=4", "end"]
            assert [key async for key in mirror.keys("m")] == ["m"]
            copy = await js.create_key_value("S", sources=[StreamSource(name="A")])
            async with copy.watch() as watch:
                assert "k=4" in await seen(watch, until="k=4")
            await kv.put("a.b.c", b"5")
            parts = [StreamSource(name="A", filter_subject=f"$KV.A.{keys}") for keys in ("a.>", "*.b.c")]
            for bucket, source in zip("TU", parts, strict=True):
                part = await js.create_key_value(bucket, sources=[source])
                async with part.watch() as watch:
                    assert "a.b.c=5" in await seen(watch, until="a.b.c=5")  # its own name, whatever the filter


async def test_r53_keys(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B")
        assert await listed(kv.keys()) == []
        for key in ("a.1", "a.2", "b.1", "gone"):
            await kv.put(key, b"x" * 1000)
        await kv.delete("gone")
        assert sorted(await listed(kv.keys())) == ["a.1", "a.2", "b.1"]
        assert sorted([key async for key in kv.keys("a.*", "b.>")]) == ["a.1", "a.2", "b.1"]
        assert [key async for key in kv.keys("b.*")] == ["b.1"]
        assert [key async for key in kv.keys("c.>")] == []
        with pytest.raises(InvalidKeyError):
            kv.keys("a b")
        async for _ in kv.keys():
            break


async def test_r54_a_server_that_is_too_old_for_markers_is_named(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        with since(2, 11):
            await jetstream(client).create_key_value("B", limit_marker_ttl=60)


@needs_server(2, 11, has="a time to live of messages")
async def test_r54_expiry_is_told_on_every_path(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        kv = await js.create_key_value("B", limit_marker_ttl=60)
        while True:
            async with kv.watch("k", updates_only=True) as watch:
                await watch.ready(PATIENCE)
                revision = await kv.create("k", b"1", ttl=1)
                found = await seen(watch, until="k:expired")
            if found != ["k:expired"]:  # else the machine has stood still: it had expired before it was sent
                break
        assert found == ["k=1", "k:expired"]
        with pytest.raises(KeyDeletedError) as raised:
            await kv.get("k")
        assert raised.value.operation == "expired"
        assert await listed(kv.keys()) == []
        assert await kv.get_many(["k"]) == await kv.snapshot() == {}
        assert [one.operation for one in await kv.history("k")] == ["expired"]
        assert await kv.create("k", b"2") == revision + 2
        without = await js.create_key_value("C")
        for call, verb in ((without.create("k", b"1", ttl=1), "create"), (without.purge("k", ttl=1), "purge")):
            with pytest.raises(MessageTTLError, match=f"{verb} key 'k' of bucket 'C': a ttl needs .* limit_marker_ttl"):
                await call


async def test_r55_old_markers_go_and_young_ones_stay(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", history=3)
        nothing = await kv.purge_deletes()
        assert (nothing.keys, nothing.kept, nothing.entries) == (0, 0, 0)
        for number in range(6):
            await kv.put(f"k{number}", b"x")
        for number in range(4):
            await kv.delete(f"k{number}")
        young = await kv.purge_deletes(older_than=60)
        assert (young.keys, young.kept, young.entries) == (0, 4, 4)
        assert (await kv.status()).values == 6
        old = await kv.purge_deletes(older_than=0)
        assert (old.keys, old.kept, old.entries) == (4, 0, 4)
        assert sorted(await listed(kv.keys())) == ["k4", "k5"]
        assert (await kv.status()).values == 2


async def test_r56_one_end_behind_what_was_there(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B")
        async with kv.watch() as watch:
            assert await seen(watch) == ["end"]
        await kv.put("a", b"1")
        await kv.delete("a")
        async with kv.watch(ignore_deletes=True) as watch:
            assert await seen(watch) == ["end"]
            assert watch.live
        for number in range(50):
            await kv.put(f"k{number}", b"1")
        async with anyio.create_task_group() as group:

            async def write() -> None:
                while True:
                    for number in range(25):
                        await kv.put(f"k{number}", b"2")

            group.start_soon(write)
            for _ in range(5):
                async with kv.watch("*") as watch:
                    found = await seen(watch)
                    assert {one.partition("=")[0] for one in found} >= {f"k{number}" for number in range(50)}
            group.cancel_scope.cancel()


@pytest.mark.parametrize("parked", [True, False])
async def test_r57_a_watch_survives_a_restart(leg: Leg, js_server: LocalServer, parked: bool) -> None:
    async with leg.connect(js_server.url, **QUICK) as client:
        kv = await jetstream(client).create_key_value("B", history=64)
        await kv.put("a", b"0")
        revisions: list[int] = []
        async with kv.watch() as watch, anyio.create_task_group() as group:
            assert await seen(watch) == ["a=0", "end"]

            async def read() -> None:
                with anyio.fail_after(PATIENCE):
                    async for entry in watch:
                        assert not isinstance(entry, InitialValuesDone)
                        revisions.append(entry.revision)
                        if entry.value == b"9":
                            return

            if parked:
                group.start_soon(read)
                await anyio.sleep(0.05)  # it may wait by now, or begin later: it is to go on either way
            await restart(js_server, client)
            for number in range(1, 10):
                await kv.put("a", b"%d" % number)
            if not parked:
                await read()
        assert revisions == list(range(2, 11))


async def test_r58_a_watch_goes_on_and_stops_at_once(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        kv = await js.create_key_value("B", history=64)
        await kv.put("other", b"0")
        async with kv.watch("a.*", "b.>", "c") as watch:
            assert await seen(watch) == ["end"]
            for number in range(300):
                await kv.put(("a.x", "b.y.z", "c", "other")[number % 4], b"%d" % number)
            found = await seen(watch, until="c=298")
            assert len(found) == 225
            assert watch.revision == 300
        assert watch.ended
        assert await watch.next(0) is None
        unread = kv.watch(include_history=True)
        assert (await unread.next(PATIENCE)).revision >= 1
        unread.stop()
        assert await unread.next(PATIENCE) is None
        async with kv.watch(resume_from_revision=300) as watch:
            assert await seen(watch) == ["c=298", "other=299", "end"]
        async with kv.watch(updates_only=True, meta_only=True) as watch:
            await watch.ready(PATIENCE)
            assert await watch.next(0) is None
            await kv.put("c", b"new")
            entry = await watch.next(PATIENCE)
            assert (entry.key, entry.data) == ("c", b"")
        with anyio.fail_after(PATIENCE):
            while [name async for name in js.stream("KV_B").consumer_names()]:
                await anyio.sleep(0.01)


async def test_r58_a_bucket_that_is_deleted_ends_its_watch(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        kv = await js.create_key_value("B")
        async with kv.watch() as watch:
            assert await seen(watch) == ["end"]
            await js.delete_key_value("B")
            with pytest.raises(BucketNotFoundError), anyio.fail_after(PATIENCE):
                await watch.next()
        with pytest.raises(BucketNotFoundError):
            await kv.get("k")


COUNT = 4 * 60
"""Fewer of each key than the history keeps: all are sent, however late."""


async def test_r59_a_slow_reader_gets_the_newest_values(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", history=64)
        async with kv.watch(coalesce=True) as watch:
            assert await seen(watch) == ["end"]
            for number in range(COUNT):
                await kv.put(f"k{number % 4}", b"%d" % number)
            # The order of different keys is lost: the last one that was written may come before others.
            last = {f"k{number}": b"%d" % (COUNT - 4 + number) for number in range(4)}
            newest: dict[str, bytes] = {}
            given = 0
            with anyio.fail_after(PATIENCE):
                while newest != last:
                    entry = await watch.next()
                    newest[entry.key] = entry.value
                    given += 1
            assert watch.skipped + given == COUNT
            assert given < COUNT


async def test_a_put_goes_on_after_what_others_answer(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client, leg.connect(js_server.url) as other:
        js = jetstream(client)
        kv = await js.create_key_value("B")
        await js.delete_key_value("B")
        revisions: list[int] = []

        async def put() -> None:
            revisions.append(await kv.put("a", b"1"))

        async with other.subscribe("$KV.B.>") as sub:
            await other.flush()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(put)
                first = await sub.next(timeout=PATIENCE)
                await sub.unsubscribe()
                await js.create_key_value("B", history=2)
                await first.respond(b"hello")
                await first.respond(b'{"error":{"code":503,"err_code":10008,"description":"no leader"}}')
        assert revisions == [1]
        assert [entry.value for entry in await kv.history("a")] == [b"1"]
        assert await kv.put("a", b"2") == 2
