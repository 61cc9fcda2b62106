"""F44: all servers killed at once, and started again with their files: what was acknowledged is there."""

from __future__ import annotations

import json

import anyio
import pytest

from nats_proto.errors import NATSError
from tests.adapters.legs import Leg, eventually, in_thread
from tests.faults.record import QUICK
from tests.jetstream.checker import Final, check
from tests.jetstream.cluster import ELECTION, Replicas
from tests.jetstream.final_read import stored_in
from tests.jetstream.history import History

pytestmark = [pytest.mark.clusters, pytest.mark.anyio, pytest.mark.long]


async def test_f44_all_killed_and_started_again(leg: Leg, replicas: Replicas) -> None:
    await in_thread(lambda: replicas.create_stream("S", "s"))
    history, over = History(), False

    async def publish(client: object, process: str) -> None:
        serial = 0
        while not over:
            entry = history.invoke("publish", process, payload=f"{process}:{serial}")
            serial += 1
            try:
                answer = json.loads((await client.request("s", entry.payload.encode(), timeout=1)).data)
            except NATSError as error:
                entry.fails(error)
                await anyio.sleep(0.05)
            else:
                if "error" in answer:
                    entry.fails(RuntimeError(str(answer)))
                else:
                    entry.ok(answer["seq"])

    async with leg.connect(replicas.urls, **QUICK) as client, anyio.create_task_group() as group:
        for process in ("a", "b", "c"):
            group.start_soon(publish, client, process)
        await eventually(lambda: history.counts()["ok"] > 200, timeout=ELECTION)
        for server in replicas.cluster.servers:
            await in_thread(server.kill)
        before = len(history.entries)
        await in_thread(replicas.heal)
        await in_thread(lambda: replicas.leader_of("S"))
        await eventually(
            lambda: any(entry.outcome == "ok" for entry in history.entries[before + 3 :]), timeout=ELECTION
        )
        over = True
    await in_thread(lambda: replicas.wait_until_current("S"))
    stream = await in_thread(lambda: stored_in("S", replicas))
    assert check(history, Final(stream=stream)) == []
