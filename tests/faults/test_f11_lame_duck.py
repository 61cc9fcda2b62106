"""F11, more of it: a lame duck of a real cluster is left without a gap, whoever is connected to it."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from nats_proto import Disconnected, LameDuckMode, Reconnected, Reconnecting
from nats_proto.errors import NoRespondersError
from tests.adapters.legs import PATIENCE, EventLog, Leg, eventually, in_thread
from tests.faults.proxy import Proxy
from tests.faults.record import QUICK
from tests.transports import Transport

pytestmark = pytest.mark.anyio

DUCK = {"lame_duck_duration": "30s", "lame_duck_grace_period": "10s"}
"""It stays for ten seconds, and is ended by the test long before."""


async def reaches(client: object, subject: str) -> None:
    """Interest spreads through a cluster on its own time: until a request is answered."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await client.request(subject, b"?", timeout=1)
                return
            except NoRespondersError:
                await anyio.sleep(0.01)


@pytest.mark.parametrize("queue", [None, "workers"])
@pytest.mark.parametrize("moving", ["requester", "responder", "both"])
async def test_f11_no_request_fails_whoever_moves(
    leg: Leg, transport: Transport, moving: str, queue: str | None
) -> None:
    with transport.cluster(3, config=DUCK) as cluster:
        duck, other = cluster[0], cluster[1]
        homes = {"requester": (duck, other), "responder": (other, duck), "both": (duck, duck)}[moving]
        logs = EventLog(), EventLog()
        options = {**QUICK, "randomize_servers": False}
        urls = [[home.url, *(url for url in cluster.urls if url != home.url)] for home in homes]
        async with (
            leg.connect(urls[0], on_event=logs[0], **options) as requester,
            leg.connect(urls[1], on_event=logs[1], **options) as responder,
        ):
            asked: Counter[bytes] = Counter()

            async def answer(message: object) -> None:
                asked[message.data] += 1
                await message.respond(message.data)

            await responder.subscribe("f11", queue=queue, callback=leg.handler(answer))
            await responder.flush()
            await reaches(requester, "f11")
            count, stop = 0, False

            async def ask() -> None:
                nonlocal count
                while not stop:
                    data = b"%d" % count
                    assert (await requester.request("f11", data, timeout=PATIENCE)).data == data
                    count += 1

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await eventually(lambda: count > 20)
                await in_thread(duck.lame_duck)
                for log, home in zip(logs, homes, strict=True):
                    if home is duck:
                        await log.wait(Reconnected)
                before = count
                await eventually(lambda: count > before + 20)
                stop = True
            assert duck.running
            for log, home, client in zip(logs, homes, (requester, responder), strict=True):
                kinds = [type(event) for event in log]
                if home is duck:
                    assert [
                        kind for kind in kinds if kind in (LameDuckMode, Disconnected, Reconnecting, Reconnected)
                    ] == [
                        LameDuckMode,
                        Disconnected,
                        Reconnected,
                    ]
                    assert client.connected_url != duck.url
                    assert client.stats.dropped_replies == 0
                else:
                    assert Reconnected not in kinds
            assert {data: times for data, times in asked.items() if times != 1} in ({}, {b"?": asked[b"?"]})
            duck.kill()  # it would take its time


async def test_f11_nothing_is_lost_doubled_or_out_of_order(leg: Leg, transport: Transport) -> None:
    with transport.cluster(3, config=DUCK) as cluster:
        duck, other = cluster[0], cluster[1]
        log = EventLog()
        urls = [duck.url, *(url for url in cluster.urls if url != duck.url)]
        async with (
            leg.connect(urls, on_event=log, randomize_servers=False, **QUICK) as mover,
            leg.connect(other.url, ignore_discovered_servers=True) as witness,
        ):
            heard = await mover.subscribe("to.mover")
            seen = await witness.subscribe("from.mover")
            await mover.flush()
            await witness.flush()
            with anyio.fail_after(PATIENCE):  # until both hear of each other
                for number, (client, subject, sub) in enumerate(
                    ((witness, "to.mover", heard), (mover, "from.mover", seen))
                ):
                    while not sub.pending[0]:
                        await client.publish(subject, b"first %d" % number)
                        await client.flush()
                        await anyio.sleep(0.01)
            published, stop = 0, False

            async def publish() -> None:
                nonlocal published
                while not stop:
                    await witness.publish("to.mover", b"%d" % published)
                    await mover.publish("from.mover", b"%d" % published)
                    published += 1
                    if published % 10 == 0:
                        await anyio.sleep(0.001)

            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                await eventually(lambda: published > 100)
                await in_thread(duck.lame_duck)
                await log.wait(Reconnected)
                before = published
                await eventually(lambda: published > before + 500)
                stop = True
            expected = [b"%d" % number for number in range(published)]
            for sub in (heard, seen):
                got: list[bytes] = []
                while not got or got[-1] != expected[-1]:
                    got += [
                        m.data for m in await sub.next_batch(1000, timeout=PATIENCE) if not m.data.startswith(b"first")
                    ]
                if sub is heard:
                    assert got == expected
                else:  # those of the old connection and of the new one take different ways through the cluster
                    assert sorted(got, key=int) == expected
            assert duck.running
            duck.kill()


async def test_f11_the_lame_duck_by_a_second_name_is_stayed_with(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server(DUCK) as server, Proxy(server.url) as alias, Proxy(server.url) as entrance:
        urls = [entrance.url, alias.url]
        async with leg.connect(urls, on_event=log, randomize_servers=False, **QUICK) as client:
            assert client.connected_url == entrance.url
            sub = await client.subscribe("still.here")
            await client.flush()
            await in_thread(server.lame_duck)
            await log.wait(LameDuckMode)
            dials = alias.accepted
            await eventually(lambda: alias.accepted + entrance.accepted >= dials + 4)
            await client.publish("still.here", b"yes")
            assert (await sub.next(timeout=PATIENCE)).data == b"yes"
            assert not log.of(Disconnected)
            assert client.stats.reconnects == 0
            server.kill()
