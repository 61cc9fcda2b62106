"""Buckets of objects with nats-py: what one has put the other gets, links and deletions included, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js import api as their_api
from nats.js.errors import ObjectDeletedError, ObjectNotFoundError

from nats_proto import jetstream as ours
from tests.adapters.legs import Leg, in_thread
from tests.interop.nats_py import NatsPy
from tests.jetstream.legs import jetstream

pytestmark = pytest.mark.anyio

SIZES = [0, 1, 131_072, 131_073, 700_001]


def content(size: int) -> bytes:
    return bytes(number * number % 251 for number in range(min(size, 1000))) * (size // 1000 + 1)


async def test_objects_of_nats_py(leg: Leg, url: str, theirs: NatsPy) -> None:
    async def put(js: Any) -> None:
        bucket = await js.create_object_store("B", their_api.ObjectStoreConfig(storage="memory", ttl=3600))
        for size in SIZES:
            meta = their_api.ObjectMeta(description=f"{size} bytes", headers={"h": ["1"]})
            await bucket.put(f"object {size} ü", content(size)[:size], meta=meta)
        await bucket.put("gone", b"x")
        await bucket.delete("gone")

    await in_thread(lambda: theirs(put))
    async with leg.connect(url) as client:
        store = await jetstream(client).object_store("B")
        status = await store.status()
        assert (status.ttl, status.storage) == (3600.0, "memory")
        assert {info.name async for info in store.list()} == {f"object {size} ü" for size in SIZES}
        for size in SIZES:
            name = f"object {size} ü"
            info = await store.info(name)
            assert (info.size, info.description) == (size, f"{size} bytes")
            assert await store.get_bytes(name) == content(size)[:size]
        async with await store.get(f"object {SIZES[-1]} ü") as reader:
            reader.seek(400_000)
            assert await reader.read(300_000) == content(SIZES[-1])[400_000:700_000]
        with pytest.raises(ours.ObjectNotFoundError):
            await store.info("gone")
        assert (await store.info("gone", show_deleted=True)).deleted
        await store.put("gone", b"back")
        await store.put("object 700001 ü", b"shorter")
        state = (await store.status()).stream_info.state
        assert state.messages == len(SIZES) + 1 + 1 + 1 + 2 + 1 + 1, "of those it has replaced no chunk is left"

    async def get(js: Any) -> tuple[bytes, bytes]:
        bucket = await js.object_store("B")
        return (await bucket.get("gone")).data, (await bucket.get("object 700001 ü")).data

    assert await in_thread(lambda: theirs(get)) == (b"back", b"shorter")


async def test_objects_for_nats_py(leg: Leg, url: str, theirs: NatsPy) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        store = await js.create_object_store("B", storage="memory", description="d")
        for size in SIZES:
            await store.put(f"object {size} ü", content(size)[:size], description="d", headers={"h": ["1", "2"]})
        await store.put("small chunks", content(5000)[:5000], chunk_size=100)
        await store.put("gone", b"x")
        await store.delete("gone")
        await store.put("old name", b"renamed")
        await store.update_info("old name", new_name="new name")
        await store.add_link("link", await store.info("new name"))

        async def get(bucket_of: Any) -> list[bytes]:
            bucket = await bucket_of.object_store("B")
            found = [(await bucket.get(f"object {size} ü")).data for size in SIZES]
            info = await bucket.get_info("object 1 ü")
            assert (info.size, info.description, info.headers) == (1, "d", {"h": ["1", "2"]})
            assert (await bucket.get("small chunks")).data == content(5000)[:5000]
            for name, error in (("gone", ObjectNotFoundError), ("old name", ObjectNotFoundError)):
                with pytest.raises((error, ObjectDeletedError)):
                    await bucket.get(name)
            assert (await bucket.get("new name")).data == b"renamed"
            assert (await bucket.get("link")).data == b"renamed"
            assert {one.name for one in await bucket.list()} >= {"small chunks", "new name", "link"}
            await bucket.put("small chunks", b"theirs")
            await bucket.delete("new name")
            return found

        assert await in_thread(lambda: theirs(get)) == [content(size)[:size] for size in SIZES]
        assert await store.get_bytes("small chunks") == b"theirs"
        with pytest.raises(ours.ObjectLinkError):
            await store.get("link")
        subjects = (await js.stream("OBJ_B").refresh(subjects_filter="$O.B.C.>")).state.subjects
        assert len(subjects) == len(SIZES) - 1 + 1, "each client has purged what it has replaced"
