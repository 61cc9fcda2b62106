"""A drain that begins while a lame duck is left, and whose old connection is lost then: it ends at the new server."""

from __future__ import annotations

import anyio
import pytest

from nats_proto import Closed, SessionStatus
from nats_proto.errors import ConnectionLostError
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, eventually, in_thread
from tests.faults.peer import Peer, expect, handshake, hold, reset, send

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]

GIVEN = b"MSG s 1 1\r\n%d\r\n"


async def test_a_drain_goes_on_at_the_new_server_if_the_lame_duck_is_lost(leg: Leg) -> None:
    """The duck never answers the goodbye. What the new server gives to the member, nobody else gets."""
    log = EventLog()
    goodbye = [expect(b"UNSUB 1\r\nPING\r\n"), hold(), reset()]
    joined = [expect(b"SUB s q 1\r\nPING\r\n"), send(b"PONG\r\n" + GIVEN % 1)]
    drained = [expect(b"UNSUB 1\r\n"), send(GIVEN % 2), expect(b"PUB p 5\r\nwaits\r\n"), expect(b"PING\r\n")]
    last = [send(b"PONG\r\n"), expect(b"PING\r\n"), send(b"PONG\r\n")]
    with (
        Peer([handshake(), expect(b"SUB s q 1\r\n"), send(b'INFO {"server_id":"A","ldm":true}\r\n'), *goodbye]) as duck,
        Peer([handshake(server_id="B"), *joined, *drained, *last]) as healthy,
    ):
        options = {"randomize_servers": False, "on_event": log, **QUICK}
        async with leg.connect([duck.url, healthy.url], **options) as client:
            sub = await client.subscribe("s", queue="q")
            await eventually(lambda: b"UNSUB 1\r\nPING\r\n" in duck.connections[0].received)
            await client.publish("p", b"waits")

            async def drain() -> None:
                with pytest.raises(ConnectionLostError, match="one of two connections was lost"):
                    await client.drain(timeout=PATIENCE)

            async with anyio.create_task_group() as group:
                group.start_soon(drain)
                await eventually(lambda: client.status is SessionStatus.DRAINING_SUBS)
                duck.release()
                assert [(await sub.next(timeout=PATIENCE)).data for _ in range(2)] == [b"1", b"2"]
            await in_thread(healthy.wait_until_finished)
        closed = log.of(Closed)[0]
        assert type(closed.error) is ConnectionLostError
        assert closed.unsent_msgs == 0
