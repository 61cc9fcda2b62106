"""A lock on a key of a bucket, on real servers and three legs: one holder, renewed by itself, lost loudly."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from nats_proto.errors import LocalProtocolError, NATSTimeoutError
from nats_proto.jetstream import InvalidKeyError, LockLostError
from nats_sync.testing import LocalServer
from tests.adapters.jetstream import jetstream, js_server, restart
from tests.adapters.legs import PATIENCE, QUICK, Collected, Leg, eventually, in_thread
from tests.server_version import needs_server

__all__ = ["js_server"]

pytestmark = [pytest.mark.anyio, needs_server(2, 11, has="a time to live of messages")]


LONG = 600.0
"""Seconds that no test comes near: no machine stands still so long that the lock is lost."""
TRIES = 10


async def test_one_holder_and_a_growing_token(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)
        lock = kv.lock("k", ttl=LONG, holder="one")  # nothing is renewed meanwhile, and so each revision is known
        assert (lock.held, lock.lost, lock.token, lock.holder) == (False, False, 0, "one")
        with pytest.raises(LocalProtocolError):
            lock.check()
        async with lock as held:
            assert (held.held, held.lost, held.token) == (True, False, 1)
            lock.check()
            assert b'"one"' in (await kv.get("k")).value
            with pytest.raises(LocalProtocolError, match="held already"):
                await lock.acquire()
            with pytest.raises(NATSTimeoutError, match=r"another one had it|no answer within"):  # of a late server
                await kv.lock("k").acquire(0)
        assert not lock.held
        assert not lock.lost
        with pytest.raises(LocalProtocolError, match="not held"):
            await lock.release()
        await lock.acquire()
        assert lock.token == 3
        await lock.release()
        with pytest.raises(InvalidKeyError):
            kv.lock("a b")
        without = await jetstream(client).create_key_value("C")
        with pytest.raises(ValueError, match="limit_marker_ttl"):
            without.lock("k")


async def test_rivals_take_turns(leg: Leg, js_server: LocalServer) -> None:
    """Who waits is told by a watch when the lock is free: nobody asks again and again."""
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60, history=64)
        inside = 0
        tokens: list[int] = []

        async def compete() -> None:
            nonlocal inside
            for _ in range(3):
                async with kv.lock("k", ttl=LONG, timeout=PATIENCE) as lock:
                    inside += 1
                    assert inside == 1
                    tokens.append(lock.token)
                    await anyio.lowlevel.checkpoint()
                    inside -= 1

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(compete)
        assert len(tokens) == 9
        assert tokens == sorted(set(tokens))


async def test_it_is_renewed_by_itself(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)
        token = 0

        async def hold() -> None:
            nonlocal token
            async with kv.lock("k", ttl=1.0) as lock, kv.watch("k", updates_only=True) as watch:
                token = lock.token
                for _ in range(4):
                    entry = await watch.next(PATIENCE)
                    lock.check()
                    assert entry.operation == "put"
                assert lock.token == token

        # A machine that stands still for a second loses the lock, and rightly so.
        for _ in range(TRIES):
            with contextlib.suppress(LockLostError):
                await hold()
                break
        else:
            raise AssertionError("it was lost each time")
        assert token >= 1


async def test_a_holder_that_dies(leg: Leg, js_server: LocalServer) -> None:
    """Its key expires, and who waits has the lock, with a greater token."""
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)
        async with leg.connect(js_server.url) as other:
            dead = (await jetstream(other).key_value("B")).lock("k", ttl=1.0)
            await dead.acquire()
            await other.close()
        await eventually(lambda: dead.lost)
        with pytest.raises(LockLostError):
            dead.check()
        async with kv.lock("k", ttl=LONG, timeout=PATIENCE) as lock:
            assert lock.token > dead.token
            assert lock.held


async def test_a_lock_that_is_taken_away(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)
        lost: Collected[Any] = Collected()

        async def on_lost(error: Any) -> None:
            lost.add(error)
            raise ValueError("of a user")

        lock = kv.lock("k", ttl=LONG, on_lost=on_lost)

        async def deleted() -> None:
            async with lock:
                with anyio.CancelScope(shield=True):  # the watch may tell of it before the answer is there
                    await kv.delete("k")
                    await lost.wait_len(1)
                assert not lock.held
                assert lock.lost
                await anyio.lowlevel.checkpoint()
                assert leg.name == "threads"  # tasks are cancelled there

        with pytest.raises(LockLostError, match="its key was deleted") as raised:
            await deleted()
        assert lost[0] is raised.value
        assert raised.value.token == 1

        async def overwritten() -> None:
            async with lock:
                with anyio.CancelScope(shield=True):
                    await kv.put("k", b"mine")
                    await eventually(lambda: lock.lost)
                raise RuntimeError("of the block")

        with pytest.raises(RuntimeError, match="of the block"):
            await overwritten()
        await kv.delete("k")
        async with lock:
            assert lock.held


async def test_a_holder_that_is_cut_off(leg: Leg, js_server: LocalServer) -> None:
    """It knows before anybody else can have the lock."""
    async with leg.connect(js_server.url, **QUICK) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)
        lock = kv.lock("k", ttl=1.0)

        async def cut_off() -> None:
            async with lock:
                with anyio.CancelScope(shield=True):
                    await in_thread(js_server.stop)
                    await eventually(lambda: lock.lost)
                    await in_thread(js_server.start)

        # Where the machine has stood still before the server was stopped the watch may be the first to tell.
        with pytest.raises(LockLostError, match=r"renewed in time|has expired"):
            await cut_off()


async def test_a_holder_outlives_a_restart(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url, **QUICK) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)
        async with kv.lock("k", ttl=LONG) as lock, kv.watch("k", updates_only=True) as watch:
            await restart(js_server, client)
            assert lock.held
            await watch.ready(PATIENCE)
            lock.check()
        assert not lock.lost


async def test_a_closed_client_loses_its_locks(leg: Leg, js_server: LocalServer) -> None:
    async with leg.connect(js_server.url) as client:
        kv = await jetstream(client).create_key_value("B", limit_marker_ttl=60)
        lock = kv.lock("k", ttl=LONG)
        await lock.acquire()
        await client.drain()
        await eventually(lambda: lock.lost)
        with pytest.raises(LockLostError, match="client has ended"):
            lock.check()
