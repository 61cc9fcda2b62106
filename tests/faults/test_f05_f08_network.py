"""F5 to F8: slow readers, connections cut inside an operation, every byte a segment, PINGs that vanish."""

from __future__ import annotations

import random
import re
import time
from collections import defaultdict

import anyio
import pytest

from nats_proto import Disconnected, Reconnected, SessionStatus
from nats_proto.errors import StaleConnectionError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, EventLog, Leg, eventually, in_thread, stands_still
from tests.faults.peer import Connection, Peer, expect, freeze, handshake, hold, reset
from tests.faults.proxy import Proxy
from tests.faults.record import FULL, QUICK, TRACED, check_runs, numbered, parser_errors, runs_of
from tests.transports import Transport

pytestmark = pytest.mark.anyio


# --- F5: a slow reader -----------------------------------------------------------------------------------------------


async def test_f5_a_hundred_publishers_against_a_slow_link(leg: Leg, transport: Transport) -> None:
    """600 messages at 8 MiB/s here; the full form has 5,000 at 256 KiB/s."""
    each, bandwidth = (50, 256 * 1024) if FULL else (6, 8 * 1024 * 1024)
    with transport.server() as server, Proxy(server.url, rcvbuf=65_536) as proxy:
        proxy.up.bandwidth, proxy.up.read_ahead = bandwidth, 65_536
        options = {"ping_interval": 20.0 if FULL else 0.5, "max_pings_out": 3 if FULL else 20}
        async with leg.connect(server.url) as other, leg.connect(proxy.url, **options) as client:
            sub = await other.subscribe("f5", max_pending_msgs=0, max_pending_bytes=0)
            await other.flush()
            accepted: dict[int, list[int]] = defaultdict(list)

            async def publish(publisher: int) -> None:
                size = 16_384 if publisher % 4 else 65_536
                for serial in range(each):
                    with anyio.CancelScope() as scope:
                        if leg.name != "threads" and (publisher + serial) % 10 == 0:
                            scope.deadline = anyio.current_time() + 0.001
                        await client.publish("f5", numbered(f"p{publisher}", serial, size))
                        accepted[publisher].append(serial)

            async with anyio.create_task_group() as group:
                for publisher in range(100):
                    group.start_soon(publish, publisher)
            await client.flush(timeout=600 if FULL else PATIENCE)
            await other.flush()
            assert client.stats.reconnects == 0
            got: dict[int, list[int]] = defaultdict(list)
            while sub.pending[0]:
                for message in await sub.next_batch(1000, timeout=PATIENCE):
                    publisher, serial = re.match(rb"p(\d+):(\d+):", message.data).groups()
                    assert message.data == numbered(f"p{int(publisher)}", int(serial), len(message.data))
                    got[int(publisher)].append(int(serial))
            for publisher in range(100):
                assert got[publisher] == sorted(set(got[publisher]))
                assert set(accepted[publisher]) <= set(got[publisher])


# --- F6: cut inside an operation -------------------------------------------------------------------------------------


OPERATIONS = {
    "pub": ({}, b"PUB f6 8\r\npub:0:..\r\n"),
    "hpub": ({"headers": {"A": "b"}}, b"HPUB f6 20 28\r\nNATS/1.0\r\nA: b\r\n\r\npub:0:..\r\n"),
}


async def up_to_and_of(leg: Leg, proxy: Proxy, fields: dict[str, object]) -> tuple[int, int]:
    """Bytes that a connection sends up to its first operation, and those of the operation, whatever they travel in.

    Measured until the same is found twice: where the machine stands still, a part may be counted with what follows.
    """
    found: tuple[int, int] | None = None
    while (again := await measured(leg, proxy, fields)) != found:
        found = again
    return again


async def measured(leg: Leg, proxy: Proxy, fields: dict[str, object]) -> tuple[int, int]:
    await eventually(lambda: proxy.connections == 0)
    proxy.up.passed = 0
    async with leg.connect(proxy.url, **{**QUICK, "ping_interval": 0.0}) as client:
        passed = [0]
        for step in (client.flush, client.flush, lambda: client.publish("f6", numbered("pub", 9, 8), **fields)):
            await step()
            await eventually(lambda: proxy.up.passed > passed[-1])
            await stands_still(lambda: proxy.up.passed)
            passed.append(proxy.up.passed)
    _, greeted, flushed, published = passed
    return greeted - (flushed - greeted), published - flushed


@pytest.mark.transports("tcp", "tls", "ws", "wss")
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_f6_cut_at_every_byte_of_an_operation(leg: Leg, operation: str, transport: Transport) -> None:
    """At every third byte here, and at the ends; the full form cuts at each."""
    fields, wire = OPERATIONS[operation]
    with transport.server(TRACED) as server, Proxy(server.url) as proxy:
        greeting, length = await up_to_and_of(leg, proxy, fields)
        assert length >= len(wire) or transport.name == "wss"  # which compresses
        cuts = range(1, length + 1) if FULL else sorted({*range(1, length + 1, 3), length - 1, length})
        for cut in cuts:
            seen = len(server.log())
            proxy.up.limit, proxy.up.limit_reset = greeting + cut, bool(cut % 2)
            log = EventLog()
            # A PING would be counted as well.
            async with leg.connect(proxy.url, on_event=log, **{**QUICK, "ping_interval": 0.0}) as client:
                await client.publish("f6", numbered("pub", 0, 8), **fields)
                await log.wait(Disconnected)  # it may be over soon: the next connection is below the limit
                proxy.up.limit = None
                await client.publish("f6", numbered("pub", 1, 8))
                await eventually(lambda: client.status is SessionStatus.CONNECTED)
                await client.flush(timeout=PATIENCE)
            got = [int(serial) for serial in re.findall(r"MSG_PAYLOAD: .*pub:(\d):", server.log()[seen:])]
            # Whole or not at all, never twice, and nothing joined to the half of another.
            assert got == ([0, 1] if cut == length else [1])
        assert parser_errors(server) == []


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_f6_what_a_link_took_in_part_comes_once_through_the_next(leg: Leg, transport: Transport) -> None:
    size = 12 * 1024 * 1024  # more than the buffers of both kernels hold, and more than compression makes small
    large = numbered("pub", 1) + random.Random(6).randbytes(size)
    with transport.server({**TRACED, "max_payload": 2 * size}) as server, Proxy(server.url, rcvbuf=4096) as proxy:
        options = {**QUICK, "ping_interval": 0.0, "connect_timeout": 10.0, "pending_size": 4 * size}
        async with leg.connect(proxy.url, **options) as client:
            await client.publish("f6", numbered("pub", 0))
            await client.flush()
            proxy.up.stop_reading = True
            async with anyio.create_task_group() as group:

                async def publish() -> None:
                    await client.publish("f6", large)
                    await client.publish("f6", numbered("pub", 2))

                group.start_soon(publish)
                await anyio.sleep(0.2)  # time for the part that fits to be written
                await in_thread(proxy.cut)
                proxy.up.stop_reading = False
            await eventually(lambda: client.stats.reconnects == 1)
            await client.flush(timeout=PATIENCE)
        assert runs_of("pub", [server]) == [[0], [1, 2]]
        assert parser_errors(server) == []


async def test_f6_an_operation_that_was_taken_in_part_is_sent_again_whole(leg: Leg) -> None:
    size = 12 * 1024 * 1024  # more than the buffers of both kernels hold
    frozen = [handshake(max_payload=2 * size), freeze(), reset()]
    whole = [handshake(max_payload=2 * size), hold()]
    with Peer(frozen, whole, rcvbuf=4096) as peer:
        async with leg.connect(peer.url, pending_size=4 * size, **{**QUICK, "ping_interval": 0}) as client:
            async with anyio.create_task_group() as group:

                async def publish() -> None:
                    await client.publish("f6", numbered("pub", 0, size))
                    await client.publish("f6", numbered("pub", 1, 10))

                group.start_soon(publish)
                await anyio.sleep(0.1)  # time for the part that fits to be written
                peer.release()
            await in_thread(lambda: peer.wait_for_connection(2))
            connection = peer.connections[1]
            await eventually(lambda: connection.received.endswith(numbered("pub", 1, 10) + b"\r\n"))
            written = connection.received.partition(b"PING\r\n")[2]
            assert len(written) == size + len(b"PUB f6 12582912\r\n\r\nPUB f6 10\r\n\r\n") + 10
            assert written.startswith(b"PUB f6 12582912\r\npub:0:...")
            assert written.endswith(b"...\r\nPUB f6 10\r\npub:1:....\r\n")


# --- F7: every byte its own segment ----------------------------------------------------------------------------------


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_f7_every_byte_its_own_segment(leg: Leg, transport: Transport) -> None:
    """Without a pause between the bytes here; the full form has a millisecond."""
    log = EventLog()
    with transport.server(TRACED) as server, Proxy(server.url) as proxy:
        for way in (proxy.up, proxy.down):
            way.slice_size, way.slice_gap = 1, 0.001 if FULL else 0.0
        options = {**QUICK, "ping_interval": 5.0, "connect_timeout": 10.0, "on_event": log}
        async with leg.connect(proxy.url, **options) as client:
            sub = await client.subscribe("f7")

            async def echo(message: object) -> None:
                await message.respond(message.data, headers=message.headers)

            await client.subscribe("f7.echo", callback=leg.handler(echo))
            for serial in range(5):
                await client.publish("f7", numbered("pub", serial), headers={"A": "größe"})
            got = [await sub.next(timeout=PATIENCE) for _ in range(5)]
            assert [message.headers["A"] for message in got] == ["größe"] * 5
            reply = await client.request("f7.echo", b"\r\n\x00", timeout=PATIENCE, headers={"B": "c"})
            assert (reply.data, reply.headers["B"]) == (b"\r\n\x00", "c")
            server.kill()
            await eventually(lambda: client.status is SessionStatus.RECONNECTING)
            for serial in range(5, 10):
                await client.publish("f7", numbered("pub", serial))
            server.start()
            await log.wait(Reconnected)
            got = [await sub.next(timeout=PATIENCE) for _ in range(5)]
            assert [message.data for message in got] == [numbered("pub", serial) for serial in range(5, 10)]
        assert check_runs(runs_of("pub", [server]), 10) == []
        assert parser_errors(server) == []


# --- F8: PINGs lost, data flows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["messages come", "messages go", "both"])
async def test_f8_data_proves_nothing_when_no_pong_comes(leg: Leg, way: str) -> None:
    log = EventLog()
    interval, most = QUICK["ping_interval"], 2

    def serve(connection: Connection) -> None:
        while True:
            if way != "messages go":
                connection.send(b"MSG f8 1 2\r\nhi\r\n")
            connection.read()

    with Peer([handshake(), expect(b"SUB f8 1\r\n"), serve], [handshake(), hold()]) as peer:
        began = time.monotonic()
        async with leg.connect(peer.url, on_event=log, **{**QUICK, "max_pings_out": most}) as client:
            sub = await client.subscribe("f8", max_pending_msgs=0)
            stop = False

            async def publish() -> None:
                while not stop:
                    await client.publish("f8.out", b"x" * 100)
                    await anyio.sleep(0.005)

            async with anyio.create_task_group() as group:
                if way != "messages come":
                    group.start_soon(publish)
                event = await log.wait(Disconnected)
                took = time.monotonic() - began
                stop = True
            assert type(event.error) is StaleConnectionError
            assert took > most * interval  # a lower bound: it may be longer on a slow machine
            assert await in_thread(lambda: peer.connections[0].ended.wait(PATIENCE))
            # That of the handshake, and no more keep-alive PINGs than may be unanswered: it was not waited any longer.
            assert peer.connections[0].received.count(b"PING\r\n") == 1 + most
            assert (sub.pending[0] > 3) == (way != "messages go")


@pytest.mark.transports("tcp")  # the proxy has to know a PING when it sees one
async def test_f8_a_proxy_that_swallows_pings(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    with Proxy(server.url) as proxy:
        # Time enough for the message, also where the machine stands still.
        async with leg.connect(proxy.url, on_event=log, **{**QUICK, "max_pings_out": 10}) as client:
            proxy.up.drop = b"PING\r\n"
            sub = await client.subscribe("f8")
            await stands_still(lambda: 1)
            await client.publish("f8", b"flows")
            assert (await sub.next(timeout=PATIENCE)).data == b"flows"
            event = await log.wait(Disconnected)
            assert type(event.error) is StaleConnectionError
            proxy.up.drop = b""
            await log.wait(Reconnected)
            await client.publish("f8", b"again")
            assert (await sub.next(timeout=PATIENCE)).data == b"again"
