"""What a drain that takes too long says was left, and a drain while there is no connection."""

from __future__ import annotations

import pytest

from nats_proto import Closed, Disconnected
from nats_proto.errors import ConnectionLostError, NATSTimeoutError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Flag, Leg, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]


@pytest.mark.parametrize("what", ["client", "subscription"])
async def test_a_callback_that_runs_on_is_what_is_left(leg: Leg, url: str, what: str) -> None:
    began, release = Flag(), Flag()

    async def handle(_: object) -> None:
        began.set()
        await release.wait()

    async with leg.connect(url) as client:
        sub = await client.subscribe("long", callback=leg.handler(handle))
        await client.publish("long")
        await began.wait()
        with pytest.raises(NATSTimeoutError, match="1 callback still running") as caught:
            await (client if what == "client" else sub).drain(timeout=0.1)
        assert "unread" not in str(caught.value)
        release.set()


@pytest.mark.parametrize("what", ["client", "subscription"])
async def test_messages_that_nobody_reads_are_what_is_left(leg: Leg, url: str, what: str) -> None:
    async with leg.connect(url) as client:
        subs = [await client.subscribe("unread") for _ in range(2)]
        for _ in range(3):
            await client.publish("unread")
        await eventually(lambda: [sub.pending[0] for sub in subs] == [3, 3])
        expected = "6 messages unread in 2 subscriptions" if what == "client" else "3 messages unread; the client is"
        with pytest.raises(NATSTimeoutError, match=expected) as caught:
            await (client if what == "client" else subs[0]).drain(timeout=0.1)
        assert "callback" not in str(caught.value)


async def test_a_drain_in_an_outage_with_nothing_left_goes_well(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log, **QUICK) as client:
        sub = await client.subscribe("s")
        await client.publish("s", b"1")
        assert (await sub.next(timeout=PATIENCE)).data == b"1"
        server.kill()
        await log.wait(Disconnected)
        await client.drain(timeout=PATIENCE)
        assert (await log.wait(Closed)).error is None


@pytest.mark.parametrize("left", ["unread", "unsent"])
async def test_a_drain_in_an_outage_says_what_was_left(leg: Leg, server: LocalServer, left: str) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log, **QUICK) as client:
        sub = await client.subscribe("s")
        if left == "unread":
            await client.publish("s", b"1")
            await eventually(lambda: sub.pending[0] == 1)
        server.kill()
        await log.wait(Disconnected)
        if left == "unsent":
            await client.publish("s", b"1")
        expected = (
            "1 message unread in 1 subscription$" if left == "unread" else "connection; 1 published message unsent$"
        )
        with pytest.raises(ConnectionLostError, match=expected):
            await client.drain(timeout=0.2)
