"""F43: the server of consumers is killed while they are read; F41: nobody answers, which is not the same as no work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from nats_sync.testing import LocalServer
from tests.adapters.legs import Flag, Leg, eventually, in_thread
from tests.faults.record import FULL, QUICK
from tests.jetstream.checker import Final, check
from tests.jetstream.cluster import Replicas, patiently
from tests.jetstream.final_read import stored_in
from tests.jetstream.history import Entry, History
from tests.jetstream.legs import jetstream

pytestmark = [pytest.mark.clusters, pytest.mark.anyio, pytest.mark.long, pytest.mark.transports("tcp")]

TOTAL = 50_000 if FULL else 400
ACK_WAIT = 5.0
"""Seconds until what went to a connection that was cut comes again."""
PATIENCE = 90.0
"""Seconds for everything after the kill: an election may have to be repeated, and twice."""


class Readers:
    """Three ways to read one stream. Each stops after some messages until the server is killed, so that others lie
    unread and unacknowledged."""

    def __init__(self, js: Any) -> None:
        self.history = History()
        self.seen: dict[str, set[int]] = {"fetched": set(), "consumed": set(), "ordered": set()}
        self.killed = Flag()
        self._js = js

    async def took(self, name: str, message: Any) -> None:
        sequence = message.metadata.stream_sequence
        self.history.delivered(name, sequence, message.data.decode(), ordered=name == "ordered")
        self.seen[name].add(sequence)
        if len(self.seen[name]) == TOTAL // 8:
            await self.killed.wait(PATIENCE)
        if name != "ordered":
            await message.ack()

    async def fetched(self) -> None:
        while len(self.seen["fetched"]) < TOTAL:
            async with self._js.consumer("S", "fetched").fetch(50, timeout=2.0) as batch:
                async for message in batch:
                    await self.took("fetched", message)

    async def consumed(self) -> None:
        async with self._js.consumer("S", "consumed").messages(max_messages=50) as messages:
            while len(self.seen["consumed"]) < TOTAL:
                await self.took("consumed", await anext(messages))

    async def ordered(self) -> None:
        async with self._js.stream("S").ordered_consumer().messages() as messages:
            while len(self.seen["ordered"]) < TOTAL:
                await self.took("ordered", await anext(messages))

    def wait(self, *names: str) -> Callable[[], bool]:
        return lambda: all(len(self.seen[name]) >= TOTAL // 8 for name in names)


async def publish(js: Any, history: History, serials: range) -> None:
    """With ids, through a window that waits for as long as an election takes."""
    sent: list[tuple[Entry, Any]] = []
    async with js.publisher(timeout=5.0, retry_for=PATIENCE) as publisher:
        for serial in serials:
            entry = history.invoke("publish", "publisher", payload=str(serial), msg_id=str(serial), pipelined=True)
            pending = await publisher.publish("s", entry.payload.encode(), msg_id=entry.msg_id, timeout=PATIENCE)
            sent.append((entry, pending))
        for entry, pending in sent:
            ack = await pending.ack()
            entry.ok(ack.sequence, duplicate=ack.duplicate)


def gather(replicas: Replicas, server: LocalServer, *consumers: str) -> None:
    """Have consumers led by this server."""
    for name in consumers:
        for _ in range(100):
            if replicas.leader_of("S", name) is server:
                break
            replicas.step_down("S", name)
        else:
            raise AssertionError(f"{name} is not led by {server.name}")


async def the_ordered_one(js: Any) -> str:
    """The name of the ordered reader's consumer. One that was made too late for it is deleted a moment later."""
    with anyio.fail_after(PATIENCE):
        while True:
            names = {name async for name in js.stream("S").consumer_names()} - {"fetched", "consumed"}
            if len(names) == 1:
                return names.pop()
            await anyio.sleep(0.05)


async def test_f43_the_server_of_the_consumers_is_killed(leg: Leg, replicas: Replicas) -> None:
    await in_thread(lambda: replicas.create_stream("S", "s"))
    async with (
        leg.connect(replicas.urls, **QUICK) as client,
        leg.connect(replicas.urls, **QUICK) as reading,
        anyio.create_task_group() as group,
    ):
        js = jetstream(client)
        for name in ("fetched", "consumed"):
            await patiently(js.stream("S").create_consumer, name, ack_wait=ACK_WAIT)
        readers = Readers(jetstream(reading, timeout=5.0))
        await publish(js, readers.history, range(TOTAL // 2))
        group.start_soon(readers.ordered)
        await eventually(readers.wait("ordered"), timeout=PATIENCE)
        ordered = await the_ordered_one(js)
        victim = await in_thread(lambda: replicas.leader_of("S", ordered))  # the only one that has it
        await in_thread(lambda: gather(replicas, victim, "fetched", "consumed"))
        group.start_soon(readers.fetched)
        group.start_soon(readers.consumed)
        await eventually(readers.wait("fetched", "consumed"), timeout=PATIENCE)
        await in_thread(victim.kill)
        readers.killed.set()
        await publish(js, readers.history, range(TOTAL // 2, TOTAL))
        await eventually(lambda: all(len(seen) == TOTAL for seen in readers.seen.values()), timeout=PATIENCE)
    await in_thread(replicas.heal)
    await in_thread(lambda: replicas.wait_until_current("S"))
    stream = await in_thread(lambda: stored_in("S", replicas))
    assert len(stream) == TOTAL
    assert check(readers.history, Final(stream=stream, consumer=True)) == []


async def test_f41_a_fetch_without_a_majority_says_that_nobody_answers(leg: Leg, replicas: Replicas) -> None:
    await in_thread(lambda: replicas.create_stream("S", "s"))
    async with leg.connect(replicas.urls, **QUICK) as client:
        js = jetstream(client)
        consumer = await patiently(js.stream("S").create_consumer, "c")

        async def fetched() -> Any:
            async with consumer.fetch(1, timeout=1.0) as batch:
                return [message.data async for message in batch], batch.reason

        with anyio.fail_after(PATIENCE):  # nobody answers in time when the machine stands still
            while (found := await fetched()) != ([], "expired"):
                assert found == ([], "no_answer")
        leader = await in_thread(lambda: replicas.leader_of("S", "c"))
        other = next(server for server in replicas.answering if server is not leader)
        replicas.freeze(leader, other)
        for _ in range(8 if FULL else 2):
            assert await fetched() == ([], "no_answer")
        await in_thread(replicas.heal)
        await js.publish("s", b"1", msg_id="1", timeout=5.0, retry_for=PATIENCE)
        with anyio.fail_after(PATIENCE):  # the consumer's leader may have to read up what is stored
            while not (found := await fetched())[0]:
                pass
        assert found == ([b"1"], "limit")
