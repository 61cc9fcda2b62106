"""Buckets of objects on real servers, on three legs: what users suffer from, row by row."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import anyio
import pytest

from nats_proto import Disconnected, Reconnected
from nats_proto._objectstore import writer as _writer
from nats_proto.errors import NATSTimeoutError
from nats_proto.jetstream import (
    BucketExistsError,
    BucketNotFoundError,
    DigestMismatchError,
    InitialValuesDone,
    InvalidObjectNameError,
    JetStreamDecodeError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectLinkError,
    ObjectNotFoundError,
    ObjectReplacedError,
    ObjectStoreConfig,
    StreamFullError,
    StreamSealedError,
)
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream, js_server
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, ThreadsClient, in_thread
from tests.faults.proxy import Proxy

__all__ = ["js_server"]

pytestmark = pytest.mark.anyio

T = TypeVar("T")
CHUNK = 128 * 1024


@pytest.fixture(autouse=True)
def time_to_take_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that fails takes back what it has stored, also where the machine stands still meanwhile."""
    monkeypatch.setattr(_writer, "DELETE_TIMEOUT", PATIENCE)


def some_bytes(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


async def subjects(client: Any, bucket: str = "B") -> dict[str, int]:
    """How many messages the stream has, by the two kinds."""
    info = await jetstream(client).stream(f"OBJ_{bucket}").refresh(subjects_filter=">")
    found = {"chunks": 0, "infos": 0}
    for subject, count in (info.state.subjects or {}).items():
        found["chunks" if ".C." in subject else "infos"] += count
    return found


async def consumers(client: Any, bucket: str = "B") -> list[str]:
    """The names of those who read the stream."""
    return [name async for name in jetstream(client).stream(f"OBJ_{bucket}").consumer_names()]


async def test_buckets(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        store = await js.create_object_store("B", ttl=60, description="d", metadata={"a": "b"})
        assert store.bucket == "B"
        await js.create_object_store("B", ttl=60, description="d", metadata={"a": "b"})
        with pytest.raises(BucketExistsError, match="max_age"):
            await js.create_object_store("B", ttl=70, description="d", metadata={"a": "b"})
        await js.update_object_store("B", description="e", compression=True)
        await js.create_or_update_object_store(config=ObjectStoreConfig(bucket="C", storage="memory"))
        await js.create_key_value("K")
        status = await store.status()
        assert (status.bucket, status.description, status.ttl, status.compressed) == ("B", "e", None, True)
        assert (status.sealed, status.storage, status.replicas) == (False, "file", 1)
        assert {name async for name in js.object_store_names()} == {"B", "C"}
        assert {one.bucket async for one in js.object_stores()} == {"B", "C"}
        await js.delete_object_store("C")
        for call in (js.object_store("C"), js.object_store("K"), js.delete_object_store("C")):
            with pytest.raises(BucketNotFoundError):
                await call
        await store.put("a", b"1")
        assert (await store.seal()).sealed
        with pytest.raises(StreamSealedError, match="put object 'a' into bucket 'B'") as raised:
            await store.put("a", b"2")
        assert not getattr(raised.value, "__notes__", None)
        assert await (await js.object_store("B")).get_bytes("a") == b"1"


async def test_objects(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        for name, data in {"a/b ü": some_bytes(3 * CHUNK + 1), "exact": some_bytes(2 * CHUNK), "one": b"1"}.items():
            info = await store.put(name, data, description="d", headers={"h": ["1", "2"]}, metadata={"m": "n"})
            found = await store.info(name)
            assert (found.size, found.chunks, found.name) == (len(data), -(-len(data) // CHUNK), name)
            assert (found.nuid, found.digest, found.headers) == (info.nuid, info.digest, {"h": ("1", "2")})
            assert abs((found.mtime - info.mtime).total_seconds()) < 60
            assert await store.get_bytes(name) == data
        assert {info.name async for info in store.list()} == {"a/b ü", "exact", "one"}
        before = await subjects(client)
        await store.put("exact", b"smaller now", chunk_size=4)
        assert await store.get_bytes("exact") == b"smaller now"
        assert await subjects(client) == {"infos": before["infos"], "chunks": before["chunks"] - 2 + 3}
        await store.update_info("one", new_name="two", description="new")
        assert (await store.info("two")).description == "new"
        assert (await store.info("two")).metadata == {"m": "n"}
        await store.delete("exact")
        for call in (store.info("exact"), store.get("exact"), store.get_bytes("one"), store.delete("none")):
            with pytest.raises(ObjectNotFoundError):
                await call
        assert (await store.info("exact", show_deleted=True)).deleted
        assert {info.name async for info in store.list()} == {"a/b ü", "two"}
        assert {info.name async for info in store.list(show_deleted=True)} == {"a/b ü", "one", "two", "exact"}
        with pytest.raises(ObjectExistsError):
            await store.update_info("two", new_name="a/b ü")
        with pytest.raises(InvalidObjectNameError):
            await store.put("", b"1")
        with pytest.raises(TypeError, match="not str"):
            await store.put("a", "text")
        with pytest.raises(TypeError, match="not of int"):
            await store.put("a", [1, 2])
        with pytest.raises(TypeError, match="not int"):
            await store.put("a", 5)
        assert await subjects(client) == {"infos": 4, "chunks": 5}


async def test_a_bucket_that_is_only_to_be_read(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        await store.put("a", b"abc")
        reading = store.read_only()
        assert await reading.get_bytes("a") == b"abc"
        assert (await reading.info("a")).size == 3
        assert [info.name async for info in reading.list()] == ["a"]
        assert (await reading.status()).bucket == reading.bucket == "B"
        thing = getattr(reading, "thing", reading)
        writing = {"add_bucket_link", "add_link", "collect_garbage", "delete", "put", "put_file", "seal", "update_info"}
        assert not writing & {*dir(thing)}


async def test_a_copy_is_put_from_a_reader(leg: Leg, js_server: LocalServer) -> None:
    """It needs no more memory than a put does, and goes from one bucket to another as well."""
    data = some_bytes(20 * CHUNK + 1)
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        other = await jetstream(client).create_object_store("C")
        await store.put("a", data)
        for place in (store, other):
            async with await store.get("a") as reader:
                info = await place.put("copy", reader)
            assert info.digest == (await store.info("a")).digest
            assert await place.get_bytes("copy") == data


async def test_sources(leg: Leg, js_server: LocalServer, tmp_path: Path) -> None:
    """Bytes of any kind, files, iterables; and how far it is."""
    data = some_bytes(5 * CHUNK // 2)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        sources: list[Any] = [data, bytearray(data), memoryview(data), io.BytesIO(data), [data[:10], data[10:]]]
        sources.append(memoryview(piece) for piece in (data[:10], b"", data[10:]))
        if not isinstance(client, ThreadsClient):
            sources.append(pieces())
            (tmp_path / "source").write_bytes(data)
            sources.append(await anyio.open_file(tmp_path / "source", "rb"))
        for source in sources:
            done: list[tuple[int, int | None]] = []
            await store.put("a", source, progress=lambda *told, done=done: done.append(told))
            assert await store.get_bytes("a") == data
            assert [one for one, _ in done] == sorted({one for one, _ in done})
            known = len(data) if isinstance(source, bytes | bytearray | memoryview) else None
            assert done[-1] == (len(data), known)
            if hasattr(source, "aclose"):
                await source.aclose()
        path = tmp_path / "dir" / "file.bin"
        path.parent.mkdir()
        path.write_bytes(data)
        told: list[Any] = []
        info = await store.put_file(str(path), progress=lambda *one: told.append(one), description="d")
        assert (info.name, info.description, told[-1]) == ("file.bin", "d", (len(data), len(data)))
        assert (await store.put_file(path, "other")).name == "other"
        with path.open("rb") as file:
            with pytest.raises(TypeError):
                await store.put_file(file.fileno())
            assert file.read() == data  # it was not closed
        got = tmp_path / "got"
        got.write_bytes(b"before")
        assert (await store.get_file("other", got, progress=lambda *one: told.append(one))).name == "other"
        assert told[-1] == (len(data), len(data))
        assert got.read_bytes() == data


async def test_reading_ranges(leg: Leg, js_server: LocalServer) -> None:
    data = some_bytes(40_000)
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        await store.put("a", data, chunk_size=1000)
        async with await store.get("a") as reader:
            assert reader.info.size == len(data)
            assert await reader.read(10) == data[:10]
            assert reader.tell() == 10
            assert await reader.read(2500) == data[10:2510]
            assert reader.seek(-1, 1) == 2509
            assert await reader.read(2) == data[2509:2511]
            assert reader.seek(2520) == 2520
            assert await reader.read(5) == data[2520:2525]
            assert reader.seek(-1500, 2) == 38_500
            assert await reader.read() == data[38_500:]
            assert await reader.read(1) == b""
            assert reader.seek(12_345) == 12_345
            assert [len(chunk) async for chunk in reader] == [655, *[1000] * 27]
            assert reader.seek(99_999) == 99_999
            assert await reader.read() == b""
            reader.seek(0)
            buffer = bytearray(1500)
            assert await reader.readinto(buffer) == 1000
            assert bytes(buffer[:1000]) == data[:1000]
            for wrong in ((-1, 0), (-2000, 1), (0, 3)):
                with pytest.raises(ValueError, match=r"seek|whence"):
                    reader.seek(*wrong)
        with pytest.raises(ValueError, match="closed"):
            await reader.read(1)


async def test_watch(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        await store.put("a", b"1")
        await store.put("b", b"2")
        await store.delete("b")
        seen: list[str] = []
        async with store.watch() as changes:
            with anyio.fail_after(PATIENCE):
                async for info in changes:
                    if isinstance(info, InitialValuesDone):
                        seen.append("end")
                        assert changes.live
                        await store.put("c", b"3")
                        continue
                    seen.append(f"-{info.name}" if info.deleted else info.name)
                    if seen[-1] == "c":  # else a server may skip what is replaced at once
                        await store.update_info("c", new_name="d")
                    if seen[-1] == "-c":
                        break
        assert (sorted(seen[:2]), seen[2:]) == (["-b", "a"], ["end", "c", "d", "-c"])
        async with store.watch(updates_only=True, ignore_deletes=True) as changes:
            await store.delete("d")
            await store.put("e", b"4")
            found = await changes.next(PATIENCE)
            assert found.name == "e"
            assert not changes.ended
        assert changes.ended
        async with store.watch() as changes:
            await changes.ready(PATIENCE)
            assert changes.live
            assert {(await changes.next(0)).name for _ in range(5)} == {"a", "b", "c", "d", "e"}
            assert await changes.next(0) == InitialValuesDone(entries=5)
        empty = await jetstream(client).create_object_store("EMPTY")
        assert [info async for info in empty.list()] == []


async def test_links(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        store, other = await js.create_object_store("B"), await js.create_object_store("C")
        await other.put("there", b"1")
        await store.add_link("l", await other.info("there"))
        assert await store.get_bytes("l") == b"1"
        async with await store.get("l") as reader:
            assert (reader.info.bucket, reader.info.name) == ("C", "there")
        await store.add_bucket_link("whole", other)
        assert (await store.info("whole")).link.name is None
        for call in (store.get("whole"), store.add_link("x", await store.info("l"))):
            with pytest.raises(ObjectLinkError):
                await call
        await store.add_bucket_link("whole", other.read_only())
        assert (await store.info("whole")).link.bucket == "C"
        with pytest.raises(TypeError, match=r"not str: info\(\) gives"):
            await store.add_link("x", "there")
        await store.put("a", b"2")
        with pytest.raises(ObjectExistsError):
            await store.add_link("a", await other.info("there"))
        await js.delete_object_store("C")
        with pytest.raises(ObjectLinkError, match="'C'"):
            await store.get("l")


# --- row 60 ----------------------------------------------------------------------------------------------------------


async def break_chunk(client: Any, store: Any, name: str, number: int) -> None:
    """Remove one chunk of an object from its stream."""
    stream = jetstream(client).stream(f"OBJ_{store.bucket}")
    subject = f"$O.{store.bucket}.C.{(await store.info(name)).nuid}"
    sequence = 1
    for _ in range(number):
        message = await stream.get_msg(sequence, subject=subject)
        sequence = message.sequence + 1
    await stream.delete_msg(sequence - 1)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_row_60_a_chunk_is_missing(leg: Leg, js_server: LocalServer, tmp_path: Path, number: int) -> None:
    """An error, at once, and no half file; also when the last one goes while it is read."""
    data = some_bytes(3000)
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        await store.put("a", data, chunk_size=1000)
        if number == 3:
            async with await store.get("a") as reader:
                await reader.read(500)
            assert await store.get_bytes("a") == data
        await break_chunk(client, store, "a", number)
        path = tmp_path / "got"
        path.write_bytes(b"before")
        with anyio.fail_after(PATIENCE), pytest.raises(ObjectDamagedError, match="1 of 3 chunks are missing"):
            await store.get_file("a", path)
        assert path.read_bytes() == b"before"
        assert os.listdir(tmp_path) == ["got"]


async def test_row_60_other_bytes(leg: Leg, js_server: LocalServer, tmp_path: Path) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        store = await js.create_object_store("B")
        info = await store.put("a", some_bytes(3000), chunk_size=1000)
        await break_chunk(client, store, "a", 3)
        await js.publish(f"$O.B.C.{info.nuid}", bytes(1000))
        with pytest.raises(DigestMismatchError) as raised:
            await store.get_file("a", tmp_path / "got")
        assert raised.value.expected == info.digest
        assert raised.value.found == store_digest(some_bytes(3000)[:2000] + bytes(1000))
        assert os.listdir(tmp_path) == []
        await js.publish("$O.B.M.aHVnZQ==", b'{"name":"huge","size":1,"chunks":9223372036854775808,"nuid":"n"}')
        with pytest.raises(JetStreamDecodeError, match="'huge'"):
            await store.get("huge")


def store_digest(data: bytes) -> str:
    import base64

    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


@pytest.mark.parametrize("how", ["replaced", "deleted"])
async def test_row_60_replaced_while_it_is_read(leg: Leg, js_server: LocalServer, how: str) -> None:
    """It is told apart from an object that is damaged; reading again gives the new one."""
    old = some_bytes(200 * CHUNK)
    async with leg.connect(js_server.url) as client, leg.connect(js_server.url) as other:
        store = await jetstream(client).create_object_store("B", storage="memory")
        writer = await jetstream(other).object_store("B")
        await writer.put("a", old)
        with anyio.fail_after(PATIENCE):
            async with await store.get("a") as reader:
                assert await reader.read(10) == old[:10]
                await (writer.put("a", b"new") if how == "replaced" else writer.delete("a"))
                with pytest.raises(ObjectReplacedError, match=f"it was {how} while it was read"):
                    await reader.read()
        if how == "replaced":
            assert await store.get_bytes("a") == b"new"


async def test_row_60_empty_objects(leg: Leg, js_server: LocalServer, tmp_path: Path) -> None:
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        for source in (b"", [], io.BytesIO(b""), [b"", b""]):
            info = await store.put("a", source)
            assert (info.size, info.chunks) == (0, 0)
            assert await store.get_bytes("a") == b""
        await store.get_file("a", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b""
        async with await store.get("a") as reader:
            assert [chunk async for chunk in reader] == []


# --- row 61 ----------------------------------------------------------------------------------------------------------


async def test_row_61_a_source_is_read_as_fast_as_the_bucket_takes_it(leg: Leg, js_server: LocalServer) -> None:
    """Neither the source nor the object is ever in memory as a whole: what was taken and is not stored is bounded."""
    taken = stored = most = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken, most
        for _ in range(400):
            taken += CHUNK
            most = max(most, taken - stored)
            yield bytes(CHUNK)

    def progress(done: int, total: int | None) -> None:
        nonlocal stored
        stored = done

    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B", storage="memory")
        await store.put("a", pieces(), progress=progress)
        assert stored == 400 * CHUNK
        assert most <= 66 * CHUNK
        size = 0
        async with await store.get("a") as reader:
            async for chunk in reader:
                size += len(chunk)
        assert size == stored


async def test_row_61_no_room(leg: Leg, js_server: LocalServer) -> None:
    """A bucket that is full refuses it; the old version stays, and nothing of the new one."""
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B", max_bytes=20 * CHUNK)
        await store.put("a", b"old")
        with pytest.raises(StreamFullError, match="put object 'a' into bucket 'B'") as raised:
            await store.put("a", bytes(40 * CHUNK))
        assert raised.value.outcome == "failed"
        assert await store.get_bytes("a") == b"old"
        assert await subjects(client) == {"infos": 1, "chunks": 1}
        await store.put("a", bytes(10 * CHUNK))


async def test_row_61_a_connection_that_is_lost_in_the_middle(leg: Leg, js_server: LocalServer) -> None:
    """What was not acknowledged is sent again, and stored once, in its place; reading goes on where it was."""
    data = some_bytes(150 * CHUNK)
    events = EventLog()
    with Proxy(js_server.url) as proxy:
        cuts = 0

        def pieces() -> Iterator[bytes]:
            nonlocal cuts
            for at in range(0, len(data), CHUNK):
                if at // CHUNK in (20, 70):
                    cuts += 1
                    proxy.cut()
                yield data[at : at + CHUNK]

        async with leg.connect(proxy.url, on_event=events, **QUICK) as client:
            store = await jetstream(client).create_object_store("B", storage="memory")
            info = await store.put("a", pieces())
            assert cuts == 2
            assert (await subjects(client))["chunks"] == info.chunks == 150
            got = bytearray()
            async with await store.get("a") as reader:
                async for chunk in reader:
                    if len(got) == 10 * CHUNK:
                        await in_thread(proxy.cut)
                    got += chunk
            assert bytes(got) == data
            await events.wait(Disconnected, count=3)


# --- row 62 ----------------------------------------------------------------------------------------------------------


TRIES = 10


async def in_some_try(call: Callable[[], Awaitable[T]]) -> T:
    """What a call with a short time-out comes to: a machine that stands still is silence, and ends a try rightly."""
    for _ in range(TRIES):
        try:
            return await call()
        except NATSTimeoutError as error:
            late = error
    raise late


@pytest.mark.transports("tcp")
@pytest.mark.clusters
async def test_row_62_slow_is_no_reason_to_end_and_silence_is(leg: Leg, js_server: LocalServer) -> None:
    """The time-out is for progress. A total one is another option."""
    data = some_bytes(24 * CHUNK)
    with Proxy(js_server.url) as proxy:
        log = EventLog()
        async with leg.connect(proxy.url, on_event=log, **QUICK) as client, leg.connect(js_server.url) as other:
            store = await jetstream(client).create_object_store("B", storage="memory")
            await (await jetstream(other).object_store("B")).put("a", data)
            proxy.down.bandwidth = 2_000_000  # so the whole takes longer than the time-out
            assert await in_some_try(lambda: store.get_bytes("a", timeout=1.0)) == data
            with pytest.raises(NATSTimeoutError, match=r"was not read within 0\.3 s"):
                await store.get_bytes("a", timeout=1.0, total_timeout=0.3)
            proxy.down.bandwidth = 0.0
            proxy.up.bandwidth = 2_000_000
            tries = 0

            async def put() -> None:
                nonlocal tries
                tries += 1
                await store.put("b", data, timeout=1.0)

            await in_some_try(put)
            with pytest.raises(NATSTimeoutError, match=r"was not stored within 0\.3 s") as raised:
                await store.put("b", data, timeout=1.0, total_timeout=0.3)
            assert raised.value.outcome == "failed"
            proxy.up.bandwidth = 0.0
            assert await store.get_bytes("b") == data
            if tries > 1:
                await store.collect_garbage(older_than=0)  # what a try that was too late could not take back
            assert await subjects(other) == {"infos": 2, "chunks": 48}
            quick = await in_some_try(lambda: jetstream(client, timeout=1.0).object_store("B"))  # gives up soon, too
            proxy.down.black_hole = True
            with pytest.raises(NATSTimeoutError, match=r"no chunk was stored for 0\.5 s") as raised:
                await quick.put("b", data, timeout=0.5)
            assert raised.value.outcome == "failed"
            assert "collect_garbage()" in raised.value.__notes__[0]
            proxy.down.black_hole = False
            proxy.cut()
            await log.wait(Reconnected)

            async def begun() -> Any:
                reader = await store.get("b", timeout=0.5)
                try:
                    assert await reader.read(1) == data[:1]
                except BaseException:
                    await reader.__aexit__(None, None, None)
                    raise
                return reader

            proxy.down.bandwidth = 1_000_000  # all of it is asked for ahead, and must not have come by then
            async with await in_some_try(begun) as reader:
                proxy.down.black_hole = True
                with pytest.raises(NATSTimeoutError, match=r"nothing came for 0\.5 s"):
                    await reader.read()
            proxy.down.black_hole = False


SLOWLY = 0.3
"""Seconds that a source or a reader takes for a piece: longer than no progress is suffered."""


async def test_row_62_a_source_and_a_reader_that_are_slow(leg: Leg, js_server: LocalServer) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(3):
            if number:
                time.sleep(SLOWLY)
            yield bytes(1000)

    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B")
        await in_some_try(lambda: store.put("a", pieces(), chunk_size=1000, timeout=0.2))

        async def read_slowly() -> None:
            async with await store.get("a", timeout=0.2) as reader:
                for _ in range(3):
                    assert await reader.read(1000) == bytes(1000)
                    await in_thread(lambda: time.sleep(SLOWLY))

        await in_some_try(read_slowly)


# --- row 63 ----------------------------------------------------------------------------------------------------------


class Stop(Exception):
    """Of a source."""


async def test_row_63_a_put_that_fails_leaves_nothing(leg: Leg, js_server: LocalServer) -> None:
    """At any point, by its source and by its progress; the old version stays readable."""
    rng = Random(63)
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B", storage="memory")
        await store.put("a", b"old")

        def pieces(until: int) -> Iterator[bytes]:
            for _ in range(until):
                yield bytes(1000)
            raise Stop

        def stop_at(until: int) -> Callable[[int, int | None], None]:
            def progress(done: int, total: int | None) -> None:
                if done >= until * 1000:
                    raise Stop

            return progress

        for _ in range(20):
            with pytest.raises(Stop) as raised:
                await store.put("a", pieces(rng.randrange(300)), chunk_size=1000)
            assert not hasattr(raised.value, "__notes__")
            with pytest.raises(Stop):
                await store.put("a", bytes(300_000), chunk_size=1000, progress=stop_at(rng.randrange(1, 300)))
            assert await subjects(client) == {"infos": 1, "chunks": 1}
        assert await store.get_bytes("a") == b"old"


async def test_row_63_a_put_that_is_cancelled_leaves_nothing(leg: Leg, js_server: LocalServer) -> None:
    """Its chunks, or those of the version before: all of one. With threads nothing can be cancelled."""
    rng = Random(63)
    async with leg.connect(js_server.url) as client:
        if isinstance(client, ThreadsClient):
            return
        store = await jetstream(client).create_object_store("B", storage="memory")
        await store.put("a", b"old")
        turns = 0

        async def pieces(until: int, scope: anyio.CancelScope) -> AsyncIterator[bytes]:
            nonlocal turns
            for number in range(60):
                if number == until:
                    turns += 1
                    scope.cancel()
                yield bytes(1000)

        for _ in range(30):
            with anyio.CancelScope() as scope:
                await store.put("a", pieces(rng.randrange(60), scope), chunk_size=1000)
            # Where its last step has begun before it hears of that, the put is done.
            info = await store.info("a")
            assert await subjects(client) == {"infos": 1, "chunks": info.chunks}
            assert info.chunks in (1, 60)
        assert turns == 30
        for _ in range(30):  # at any time, its last step included
            with anyio.move_on_after(rng.random() * 0.02):
                await store.put("a", bytes(60_000), chunk_size=1000)
            info = await store.info("a")
            assert await subjects(client) == {"infos": 1, "chunks": info.chunks}


async def test_row_63_nothing_is_left_on_the_server_or_here(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B", storage="memory")
        await store.put("a", bytes(10_000), chunk_size=1000)
        for _ in range(10):
            await store.get_bytes("a")
            async with await store.get("a") as reader:
                await reader.read(1)
                reader.seek(9000)
                await reader.read(1)
            async with store.list() as infos:
                assert (await anext(infos)).name == "a"

        with anyio.fail_after(PATIENCE):
            while await consumers(client):
                await anyio.sleep(0.01)


async def test_row_63_garbage_of_a_client_that_was_killed(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        js = jetstream(client)
        store = await js.create_object_store("B")
        await store.put("a", bytes(3000), chunk_size=1000)
        for number in range(5):
            await js.publish(f"$O.B.C.orphan{number % 2}", b"x")
        kept = await store.collect_garbage()
        assert (kept.objects, kept.chunks, kept.kept) == (0, 0, 2)
        gone = await store.collect_garbage(older_than=0)
        assert (gone.objects, gone.chunks, gone.kept) == (2, 5, 0)
        assert await subjects(client) == {"infos": 1, "chunks": 3}
        assert await store.get_bytes("a") == bytes(3000)


async def test_two_puts_of_one_object_at_once(leg: Leg, js_server: LocalServer) -> None:
    """One of them is the object in the end, and no chunks of the others are left."""
    async with leg.connect(js_server.url) as client:
        store = await jetstream(client).create_object_store("B", storage="memory")
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(store.put, "a", bytes([number]) * 5000)
        info = await store.info("a")
        assert len(set(await store.get_bytes("a"))) == 1
        assert await subjects(client) == {"infos": 1, "chunks": info.chunks}
