"""Objects in a cluster of three, whose leaders step down, are killed, or have no room: rows 60, 61 and 63 and F42."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random
from typing import Any

import anyio
import pytest

from nats_proto.jetstream import InsufficientResourcesError, ObjectStoreStatus, StreamFullError
from tests.adapters.legs import QUICK, Leg, ThreadsClient, in_thread
from tests.jetstream.cluster import ELECTION, Replicas, patiently
from tests.jetstream.legs import jetstream
from tests.jetstream.steady import Steadiness, steadily

FULL = os.environ.get("FAULTS") == "full"
CHUNK = 128 * 1024
CHUNKS = 8192 if FULL else 160

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.anyio,
    pytest.mark.transports("tcp"),
    pytest.mark.timeout(3600 if FULL else 120),
]


async def subjects(client: Any) -> dict[str, int]:
    info = await patiently(jetstream(client).stream("OBJ_B").refresh, subjects_filter="$O.B.>")
    return dict(info.state.subjects or {})


async def chunks(client: Any, nuid: str = "") -> int:
    """How many the stream has, of one object or in all."""
    return sum(count for subject, count in (await subjects(client)).items() if f".C.{nuid}" in subject)


async def chunks_are(client: Any, count: int, nuid: str = "") -> None:
    """Until it has so many. A leader that is new may have to read up first."""
    with anyio.fail_after(ELECTION):
        while await chunks(client, nuid) != count:
            await anyio.sleep(0.01)


async def test_row_61_the_leader_steps_down_during_a_put(leg: Leg, calm_replicas: Replicas) -> None:
    """Some chunks are refused or lost, and those behind them stored: in the end all stand in their order, once."""
    data = Random(61).randbytes(1024 * 1024)
    async with leg.connect(calm_replicas.urls, **QUICK) as client, leg.connect(calm_replicas.urls) as admin:
        store = await patiently(jetstream(client).create_object_store, "B", num_replicas=3)
        told: list[int] = []

        def pieces() -> Iterator[bytes]:
            for number in range(CHUNKS):
                if number % (CHUNKS // 4) == CHUNKS // 8:
                    calm_replicas.step_down("OBJ_B")
                yield data[number % 8 * CHUNK : (number % 8 + 1) * CHUNK]

        info = await store.put("a", pieces(), progress=lambda done, total: told.append(done), timeout=ELECTION)
        assert told == sorted(told)
        assert info.chunks == CHUNKS
        await chunks_are(admin, CHUNKS, info.nuid)
        at = 0
        async with await store.get("a", timeout=ELECTION) as reader:  # it compares the digest
            async for chunk in reader:
                assert chunk == data[at % 8 * CHUNK : (at % 8 + 1) * CHUNK]
                at += 1
        assert at == CHUNKS


async def test_row_60_the_leader_is_killed_while_an_object_is_read(leg: Leg, replicas: Replicas) -> None:
    data = Random(60).randbytes(60 * CHUNK)
    async with leg.connect(replicas.urls, **QUICK) as client:
        # A consumer may be placed on the server that is dead, and another one is made after this time.
        js = jetstream(client, timeout=5.0)
        store = await patiently(js.create_object_store, "B", num_replicas=3)
        await store.put("a", data, timeout=ELECTION)
        got = bytearray()
        # A cluster that has much to do takes its time for another leader, and for a consumer on a server that lives.
        async with await store.get("a", timeout=90.0) as reader:
            async for chunk in reader:
                if len(got) == 10 * CHUNK:
                    await in_thread(lambda: replicas.kill_leader("OBJ_B"))
                got += chunk
        assert bytes(got) == data


async def test_row_63_cancelled_puts_leave_nothing_on_any_replica(leg: Leg, calm_replicas: Replicas) -> None:
    rng = Random(63)
    turns = 200 if FULL else 10
    async with leg.connect(calm_replicas.urls, **QUICK) as client:
        with steadily(calm_replicas.urls[0]) as steady:
            await cancelled_puts(client, rng, turns, steady)


async def cancelled_puts(client: Any, rng: Random, turns: int, steady: Steadiness) -> None:
    if isinstance(client, ThreadsClient):
        return  # a thread cannot be cancelled
    store = await patiently(jetstream(client).create_object_store, "B", num_replicas=3)
    await store.put("a", b"old", timeout=ELECTION)
    for _ in range(turns):
        with anyio.move_on_after(rng.random() * 0.1):
            await store.put("a", bytes(64 * CHUNK if FULL else 16 * CHUNK))
        with anyio.fail_after(ELECTION):
            # What was on its way when it was cancelled may come a moment later.
            while await chunks(client) != (await patiently(store.info, "a")).chunks:
                if steady.stood_still > 2.0:
                    return  # the server may not have been told in time that the chunks are to be deleted
                await anyio.sleep(0.01)


async def test_f42_no_room(leg: Leg, calm_replicas: Replicas) -> None:
    """The put fails, and says that it is not stored; the old one can be read; afterwards there is room again."""
    async with leg.connect(calm_replicas.urls, **QUICK) as client:
        store = await patiently(jetstream(client).create_object_store, "B", num_replicas=3, max_bytes=10 * 1024 * 1024)
        await store.put("a", b"old")
        await store.put("large", bytes(6 * 1024 * 1024))
        with pytest.raises((StreamFullError, InsufficientResourcesError)) as raised:
            await store.put("a", bytes(6 * 1024 * 1024))
        assert raised.value.outcome == "failed"
        assert await store.get_bytes("a") == b"old"
        await client.flush()
        await chunks_are(client, 1 + 48)
        status: ObjectStoreStatus = await patiently(store.status)
        assert status.stream_info.state.messages == 1 + 1 + 48 + 1
        await store.delete("large")
        assert (await store.put("a", bytes(6 * 1024 * 1024))).chunks == 48
