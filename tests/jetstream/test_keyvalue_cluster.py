"""Key-Value on three replicas, through the loss of a leader, and on a leaf node: rows 50, 51, 52 and 57."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import anyio
import pytest

from nats_proto.errors import NATSError
from nats_proto.jetstream import (
    ExternalStream,
    InitialValuesDone,
    KeyDeletedError,
    KeyExistsError,
    LockLostError,
    StreamSource,
)
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Leg, eventually, in_thread
from tests.faults.proxy import Proxy
from tests.jetstream.cluster import ELECTION, STRICT, Replicas, patiently
from tests.jetstream.legs import jetstream
from tests.server_version import needs_server
from tests.transports import Transport

pytestmark = [pytest.mark.clusters, pytest.mark.anyio]

PATIENT: dict[str, Any] = {**QUICK, "max_reconnect_attempts": -1}


UNTIL_ELECTED = {
    *("NATSTimeoutError", "ConnectionLostError", "NoStreamResponseError"),
    *("ClusterUnavailableError", "JetStreamNotEnabledError", "JetStreamNotEnabledForAccountError"),
}
"""What calls end with that take less time than an election."""


async def bucket(js: Any, name: str, **fields: Any) -> Any:
    """A bucket on three servers."""
    return await patiently(js.create_key_value, name, num_replicas=3, **fields)


async def test_r50_a_killed_leader_and_one_winner_for_each_key(leg: Leg, replicas: Replicas) -> None:
    """Nobody gets another outcome than a revision or `KeyExistsError`, but for what a lost leader leaves unknown."""
    async with leg.connect(replicas.urls, **PATIENT) as client:
        kv = await bucket(jetstream(client), "B", history=64)
        others: list[BaseException] = []
        unknown = won = 0
        over = False

        async def compete(number: int) -> None:
            nonlocal unknown, won
            while not over:
                key = f"k{number % 2}"
                try:
                    revision = await kv.create(key, b"%d" % number, timeout=2.0)
                    won += 1
                    await kv.delete(key, revision=revision, timeout=2.0)
                except KeyExistsError:
                    await anyio.sleep(0.001)
                except NATSError as error:
                    if error.outcome == "unknown":
                        unknown += 1
                    others.append(error)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(compete, number)
            await eventually(lambda: won > 20, timeout=ELECTION)
            await in_thread(lambda: replicas.kill_leader("KV_B"))
            await in_thread(lambda: replicas.leader_of("KV_B"))
            before = won
            with anyio.fail_after(ELECTION):
                while won < before + 20:
                    # Who has left a key behind without knowing it has to be cleared away, or nobody wins any more.
                    await anyio.sleep(0.2)
                    for key in ("k0", "k1"):
                        with contextlib.suppress(NATSError):
                            await kv.delete(key, timeout=2.0)
            over = True
        assert {type(error).__name__ for error in others} <= {"RevisionMismatchError", *UNTIL_ELECTED}
        for key in ("k0", "k1"):
            operations = [one.operation for one in await kv.history(key, timeout=ELECTION)]
            # Between two puts of a key somebody has deleted it: no create has won over a value.
            assert all(pair != ("put", "put") for pair in itertools.pairwise(operations))


async def test_r51_a_replica_that_is_behind(leg: Leg, replicas: Replicas) -> None:
    """A frozen replica has the old value when it comes back: who asks for a revision, or the leader, never sees it."""
    async with leg.connect(replicas.urls, **PATIENT) as client:
        await bucket(jetstream(client), "B")
    home = await in_thread(lambda: replicas.leader_of("KV_B"))
    async with leg.connect(home.url) as client:
        js = jetstream(client)
        kv = await patiently(js.key_value, "B")
        leader_reads = await patiently(js.key_value, "B", reads="leader")
        for round_number in range(3):
            # Who was frozen stands for election when it comes back: it may lead by now, and then another one follows.
            await in_thread(lambda: replicas.wait_until_current("KV_B"))
            followers = await in_thread(lambda: replicas.followers_of("KV_B"))
            follower = next(server for server in followers if server is not home)
            await in_thread(lambda follower=follower: replicas.freeze(follower))
            revision = await patiently(kv.put, "k", b"%d" % round_number)
            await in_thread(replicas.thaw)
            for _ in range(20):
                assert (await patiently(kv.get, "k", min_revision=revision)).revision >= revision
                assert (await patiently(leader_reads.get, "k")).revision == revision
        await in_thread(lambda: replicas.wait_until_current("KV_B"))
        assert await kv.modify("k", lambda value: value + b"!", timeout=ELECTION) == revision + 1


@needs_server(2, 11, has="a time to live of messages")
async def test_r57_a_watch_a_mapping_and_a_lock_outlive_a_killed_leader(leg: Leg, replicas: Replicas) -> None:
    async with leg.connect(replicas.urls, **PATIENT) as client:
        # What a killed server was asked is asked again, after the time that users have.
        kv = await bucket(jetstream(client, timeout=5.0), "B", history=64, limit_marker_ttl=60)
        await patiently(kv.put, "a", b"0")
        found: list[bytes] = []
        ends = 0
        async with kv.watch("a") as watch, kv.mapping() as view, kv.lock("leader", ttl=120.0) as lock:
            mapping = getattr(view, "thing", view)

            async def read() -> None:
                nonlocal ends
                async for entry in watch:
                    if isinstance(entry, InitialValuesDone):
                        ends += 1
                        continue
                    found.append(entry.value)
                    if entry.value == b"40":
                        return

            await watch.ready(ELECTION)
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                for number in range(1, 41):
                    if number == 20:
                        await in_thread(lambda: replicas.kill_leader("KV_B"))
                    with anyio.fail_after(ELECTION):
                        while True:
                            try:
                                await kv.put("a", b"%d" % number, timeout=2.0)
                                break
                            except NATSError:
                                pass  # it may be stored, and then it is told twice
            assert ends == 1
            told = [int(value) for value in found]
            assert told == sorted(told), told
            assert sorted(set(told)) == list(range(41))
            await eventually(lambda: mapping.get("a") == b"40", timeout=ELECTION)
            lock.check()


@needs_server(2, 11, has="a time to live of messages")
async def test_a_lock_behind_a_partition_has_one_holder_at_a_time(leg: Leg, transport: Transport) -> None:
    """The holder's bytes go nowhere: it knows that the lock is lost before the other one has it."""
    with transport.server(jetstream=STRICT) as server, Proxy(server.url) as proxy:
        async with leg.connect(server.url) as near, leg.connect(proxy.url, **PATIENT) as far:
            kv = await jetstream(near).create_key_value("B", limit_marker_ttl=60)
            holder = (await jetstream(far).key_value("B")).lock("k", ttl=1.0)
            await holder.acquire()
            other = kv.lock("k", ttl=60.0)
            proxy.up.black_hole = proxy.down.black_hole = True
            seen: list[tuple[bool, bool]] = []

            async def look() -> None:
                while not seen or not seen[-1][1]:
                    # In this order: between the two looks one may lose it and the other one get it.
                    taken = other.held
                    seen.append((holder.held, taken))
                    await anyio.sleep(0.005)

            async with anyio.create_task_group() as group:
                group.start_soon(look)
                await other.acquire(ELECTION)
            assert (True, True) not in seen
            assert seen[-1] == (False, True)
            assert holder.lost
            assert other.token > holder.token
            proxy.up.black_hole = proxy.down.black_hole = False
            await in_thread(proxy.cut)
            with pytest.raises(LockLostError):
                await holder.release()
            other.check()
            await other.release()


@needs_server(2, 11, has="mirrors that take what was written on condition of a message which is not there any more")
async def test_r52_a_mirror_on_a_leaf_node(leg: Leg) -> None:
    """Two domains: reads are answered at the leaf, writes go to the hub, and a bucket of the leaf is its own."""
    hub_config = {"leafnodes": {"host": "127.0.0.1", "port": -1}}
    with LocalServer(hub_config, jetstream={**STRICT, "domain": "hub"}) as hub:
        hub.wait_for_log("Listening for leafnode connections on 127.0.0.1:")
        port = int(hub.log().rpartition("Listening for leafnode connections on 127.0.0.1:")[2].split()[0])
        leaf_config = {"leafnodes": {"remotes": [{"url": f"nats-leaf://127.0.0.1:{port}"}]}}
        with LocalServer(leaf_config, jetstream={**STRICT, "domain": "leaf"}) as leaf:
            async with leg.connect(hub.url) as at_hub, leg.connect(leaf.url) as at_leaf:
                origin = await jetstream(at_hub).create_key_value("A")
                await origin.put("k", b"1")
                far = await in_domain(at_leaf, "hub", "A")
                assert (await far.get("k")).value == b"1"
                assert await far.put("k", b"2") == 2
                assert await far.update("k", b"3", 2) == 3
                mirror = await jetstream(at_leaf).create_key_value(
                    "M", mirror=StreamSource(name="A", external=ExternalStream(api="$JS.hub.API"))
                )
                entry = await mirror.get("k", min_revision=3, timeout=PATIENCE)
                assert (entry.bucket, entry.value) == ("M", b"3")
                revision = await mirror.put("m", b"4")
                assert (await origin.get("m")).revision == revision
                assert (await mirror.get("m", min_revision=revision, timeout=PATIENCE)).value == b"4"
                assert await mirror.delete("k") == 5
                with pytest.raises(KeyDeletedError):
                    await mirror.get("k", min_revision=5, timeout=PATIENCE)  # it is mirrored a little later
                async with mirror.watch(ignore_deletes=True) as watch:
                    await watch.ready(PATIENCE)
                    assert (await watch.next(PATIENCE)).key == "m"
                # A bucket of the same name at the leaf is another one.
                own = await jetstream(at_leaf).create_key_value("A")
                await own.put("k", b"leaf")
                assert (await origin.get("m")).value == b"4"
                assert [key async for key in own.keys(">")] == ["k"]


async def in_domain(client: Any, domain: str, name: str) -> Any:
    """The leaf's connection to the hub may not be there yet."""
    with anyio.fail_after(ELECTION):
        while True:
            try:
                return await jetstream(client, domain=domain).key_value(name, timeout=2.0)
            except NATSError:
                await anyio.sleep(0.02)
