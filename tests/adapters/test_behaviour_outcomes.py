"""Whether a request that came to nothing may have reached somebody: what ``outcome`` tells."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from nats_proto import SessionStatus
from nats_proto.errors import ConnectionClosedError, NATSTimeoutError, NoRespondersError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Collected, Leg, eventually, hub_of, stands_still
from tests.faults.peer import Peer, freeze, handshake

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def full(leg: Leg) -> Any:
    """A client whose outgoing buffer has no room, and will have none."""
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:

            async def publish() -> None:
                while True:
                    await client.publish("noise", bytes(256 * 1024))

            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                session = hub_of(client).session
                with anyio.fail_after(PATIENCE):
                    while session.writable:  # it may be the publisher that stands still
                        await stands_still(lambda: client.stats.out_msgs)
                yield client
                group.cancel_scope.cancel()
            await client.close()


async def ask_many(client: Any, **options: float) -> None:
    async for _ in client.request_many("q", **options):
        pass


@pytest.mark.parametrize("timeout", [0, 0.05])
async def test_a_request_that_found_no_room_has_certainly_failed(leg: Leg, timeout: float) -> None:
    async with full(leg) as client:
        sent = client.stats.out_msgs
        with (
            anyio.fail_after(PATIENCE),
            pytest.raises(NATSTimeoutError, match="request to 'q': it was not sent") as raised,
        ):
            await client.request("q", timeout=timeout)
        assert raised.value.outcome == "failed"
        with (
            anyio.fail_after(PATIENCE),
            pytest.raises(NATSTimeoutError, match="request_many to 'q': it was not ") as raised,
        ):
            await ask_many(client, max_wait=max(timeout, 0.01))
        assert raised.value.outcome == "failed"
        assert client.stats.out_msgs == sent


async def test_a_request_that_was_sent_may_have_been_answered(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("q"):
        with pytest.raises(NATSTimeoutError) as raised:
            await client.request("q", timeout=0.05)
        assert raised.value.outcome == "unknown"
        with anyio.fail_after(PATIENCE):
            await ask_many(client, max_wait=0.05)  # an end by time is no error
        with pytest.raises(NoRespondersError) as nobody:
            await client.request("nobody", timeout=PATIENCE)
        assert nobody.value.outcome == "failed"


async def test_a_request_waits_for_a_connection_as_long_as_its_caller_does(leg: Leg, server: LocalServer) -> None:
    got: Collected[bytes] = Collected()

    async def handle(message: Any) -> None:
        got.add(message.data)

    async with leg.connect(server.url, **QUICK) as client:
        await client.subscribe("q", callback=leg.handler(handle))
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        with pytest.raises(NATSTimeoutError) as raised:
            await client.request("q", b"late", timeout=0.05)
        assert raised.value.outcome == "unknown"
        await ask_many(client, max_wait=0.05)
        await client.publish("q", b"published")
        server.start()
        await got.wait_len(1)
        assert list(got) == [b"published"]


async def test_a_request_that_the_end_finds_on_its_way_may_have_been_answered(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, client.subscribe("q") as sub:
        outcomes: Collected[str] = Collected()

        async def ask() -> None:
            with pytest.raises(ConnectionClosedError) as raised:
                await client.request("q", timeout=PATIENCE)
            outcomes.add(raised.value.outcome)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await sub.next(timeout=PATIENCE)
            await client.close()
        assert list(outcomes) == ["unknown"]
        with pytest.raises(ConnectionClosedError) as raised:
            await client.request("q", timeout=PATIENCE)
        assert raised.value.outcome == "failed"
