"""A lock whose holder is killed or stopped: another one has it after its time to live, and writes of the old one are
refused. The holder is a process of its own, who waits is each client on its leg."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from nats_proto.jetstream import RevisionMismatchError
from tests.adapters.legs import Leg
from tests.jetstream.children import STARTING, Child, child
from tests.jetstream.holder import Outdated, guarded
from tests.jetstream.legs import jetstream
from tests.server_version import needs_server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.transports("tcp"),
    needs_server(2, 11, has="a time to live of messages"),
]

TTL = 2.0
LONG = 600.0
"""Seconds that no test comes near: no machine stands still so long that the second holder loses the lock."""


@asynccontextmanager
async def rivals(leg: Leg, url: str) -> AsyncIterator[tuple[Any, Any, Child, Any]]:
    """The bucket, a watch of the lock's key, a process that holds the lock, and a lock that waits for it."""
    async with leg.connect(url) as client:
        fields = {"limit_marker_ttl": 60, "storage": "memory"}
        kv = await jetstream(client).create_key_value("LOCKS", **fields)
        with child("holder", leg, url, str(TTL)) as holder:
            async with kv.watch("k") as watch, anyio.create_task_group() as group:
                await holder.wait_for(1, "held")
                lock = kv.lock("k", ttl=LONG, holder="heir")
                group.start_soon(lock.acquire, STARTING)
                await holder.wait_for(1, "wrote")
                yield kv, watch, holder, lock


def token_of(holder: Child) -> int:
    return int(holder.numbers("held")[0])


async def entries_until(watch: Any, revision: int) -> list[Any]:
    entries: list[Any] = []
    while not entries or entries[-1].revision < revision:
        item = await watch.next(STARTING)
        assert item is not None, entries
        if hasattr(item, "revision"):  # the end of the first values is no entry
            entries.append(item)
    return entries


async def taken(watch: Any, lock: Any, entries: list[Any]) -> None:
    """The lock was taken as soon as the old hold's last renewal had expired by the server's clock, and not before."""
    with anyio.fail_after(STARTING):
        while not lock.held:
            await anyio.sleep(0.01)
    entries += await entries_until(watch, lock.token)
    *before, first = [entry for entry in entries if entry.operation == "put"]
    assert first.revision == lock.token
    assert b'"heir"' in first.value
    assert all(b'"child"' in entry.value for entry in before)
    # On a machine that stands still nothing of the old hold may be left when the watch begins.
    assert all((first.created.nanoseconds - entry.created.nanoseconds) / 1e9 >= TTL for entry in before)
    assert entries[-1] is first


async def test_a_killed_holder_is_followed_and_its_late_writes_are_refused(leg: Leg, url: str) -> None:
    async with rivals(leg, url) as (kv, watch, holder, lock):
        old = token_of(holder)
        entries = await entries_until(watch, old + 1)  # it was renewed; or has expired, on a machine that stood still
        await holder.end(signal.SIGKILL)
        await taken(watch, lock, entries)
        assert lock.token > old
        await kv.modify("thing", guarded(lock.token))
        # What the dead one has sent may come now.
        with pytest.raises(Outdated):
            await kv.modify("thing", guarded(old))
        for revision in {old, max(entry.revision for entry in entries if entry.revision < lock.token)}:
            with pytest.raises(RevisionMismatchError):
                await kv.update("k", b"late", revision)
            with pytest.raises(RevisionMismatchError):
                await kv.delete("k", revision=revision)
        lock.check()
        await lock.release()
    assert "lost" not in " ".join(holder.lines) or entries[-1].revision > old


async def test_a_stopped_holder_learns_that_it_lost_the_lock(leg: Leg, url: str) -> None:
    """All that it does after it was let go on is to find out; what it had begun to write is refused."""
    async with rivals(leg, url) as (kv, watch, holder, lock):
        old = token_of(holder)
        entries = await entries_until(watch, old)
        holder.process.send_signal(signal.SIGSTOP)
        await taken(watch, lock, entries)
        assert lock.token > old
        mine = await kv.modify("thing", guarded(lock.token))
        holder.process.send_signal(signal.SIGCONT)
        await holder.wait_for(1, "lost")
        await holder.wait_for(1, "told")
        assert holder.numbers("lost") == holder.numbers("told") == [str(old)]
        at_rest = len(holder.lines)
        assert all(int(revision) < mine for revision in holder.numbers("wrote"))
        holder.say("late")
        assert await holder.ended() == 0
        assert holder.lines[at_rest:] == ["refused Outdated", *["refused RevisionMismatchError"] * 2]
        entry = await kv.get("thing")
        assert (entry.revision, entry.value) == (mine, b"%d" % lock.token)
        lock.check()
        await lock.release()
