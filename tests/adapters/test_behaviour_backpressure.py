"""Publishers faster than the network: they wait, memory stays bounded, nothing is lost, doubled or reordered."""

from __future__ import annotations

import re
import tracemalloc
from collections import defaultdict

import anyio
import pytest

from nats_proto import SessionStatus
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Collected, Leg, eventually, in_thread, stands_still
from tests.faults.peer import Connection, Peer, expect, freeze, handshake, reset
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio

PUBLISHERS = 100
HEAD = re.compile(rb"PUB p\.(\d+) (\d+)\r\n")
CONTROL = re.compile(rb"(PING|SUB [^\r\n]+|UNSUB [^\r\n]+)\r\n")


def message(publisher: int, serial: int, size: int) -> bytes:
    """Who and which, in front; the rest tells whether another message was written into it."""
    head = b"%d %d " % (publisher, serial)
    return head + bytes([(publisher + serial) % 251]) * (size - len(head))


class SlowReader:
    """A step of a scripted peer: reads everything published, slowly at first, and checks each message whole."""

    def __init__(self, pauses: int) -> None:
        self.pauses = pauses
        self.serials: dict[int, list[int]] = defaultdict(list)
        self.faults: list[str] = []

    def __call__(self, connection: Connection) -> None:
        buffer = bytearray()
        while True:
            if self.pauses:
                self.pauses -= 1
                connection.peer._over.wait(0.005)
            try:
                data = connection.sock.recv(16_384 if self.pauses else 1 << 20)
            except TimeoutError:
                connection.peer.check_over()
                continue
            if not data:
                return
            buffer += data
            self._take(connection, buffer)

    def _take(self, connection: Connection, buffer: bytearray) -> None:
        position = 0
        while True:
            control = CONTROL.match(buffer, position)
            if control is not None:
                if control[1] == b"PING":
                    connection.sock.sendall(b"PONG\r\n")
                position = control.end()
                continue
            head = HEAD.match(buffer, position)
            if head is None:
                if buffer.find(b"\n", position) >= 0:
                    self.faults.append(f"not a publish: {bytes(buffer[position : position + 60])!r}")
                break
            end = head.end() + int(head[2])
            if len(buffer) < end + 2:
                break
            data = bytes(buffer[head.end() : end])
            publisher, serial = map(int, data.split(b" ", 2)[:2])
            if (
                data != message(publisher, serial, len(data))
                or buffer[end : end + 2] != b"\r\n"
                or publisher != int(head[1])
            ):
                self.faults.append(f"damaged message {serial} of {publisher}")
            self.serials[publisher].append(serial)
            position = end + 2
        del buffer[:position]

    @property
    def count(self) -> int:
        return sum(map(len, self.serials.values()))


@pytest.mark.parametrize(("size", "each"), [(16 * 1024, 20), (64 * 1024, 8)], ids=["16 KiB", "64 KiB"])
async def test_a_hundred_publishers_lose_double_and_reorder_nothing(leg: Leg, size: int, each: int) -> None:
    reader = SlowReader(pauses=200)
    with Peer([handshake(), reader], rcvbuf=65_536) as peer:
        async with leg.connect(peer.url, ping_interval=0.2, max_pings_out=50, name="pressed") as client:

            async def publish(publisher: int) -> None:
                for serial in range(each):
                    await client.publish(f"p.{publisher}", message(publisher, serial, size))

            tracemalloc.start()
            try:
                async with anyio.create_task_group() as group:
                    for publisher in range(PUBLISHERS):
                        group.start_soon(publish, publisher)
                await client.flush(timeout=PATIENCE)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert client.stats.out_msgs == PUBLISHERS * each
            assert client.stats.reconnects == 0
        assert reader.faults == []
        assert reader.serials == {publisher: list(range(each)) for publisher in range(PUBLISHERS)}
        # The buffer, what each publisher holds in its hands, and what the peer of this test keeps.
        assert peak < 12 * 1024 * 1024 + PUBLISHERS * size


@pytest.mark.parametrize("size", [16 * 1024, 64 * 1024], ids=["16 KiB", "64 KiB"])
async def test_publishers_that_are_cancelled_leave_whole_messages_or_none(leg: Leg, size: int) -> None:
    """Threads cannot be cancelled: there the others just go on when their callers have gone away."""
    reader = SlowReader(pauses=100)
    accepted: dict[int, list[int]] = defaultdict(list)
    with Peer([handshake(), reader], rcvbuf=65_536) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:

            async def publish(publisher: int) -> None:
                serial = 0
                while len(accepted[publisher]) < 8:
                    with anyio.CancelScope() as scope:
                        if leg.name != "threads" and (publisher + serial) % 3 == 0:
                            scope.deadline = anyio.current_time() + 0.002
                        await client.publish(f"p.{publisher}", message(publisher, serial, size))
                        accepted[publisher].append(serial)
                    serial += 1

            async with anyio.create_task_group() as group:
                for publisher in range(PUBLISHERS):
                    group.start_soon(publish, publisher)
            await client.flush(timeout=PATIENCE)
        assert reader.faults == []
        assert sorted(accepted) == list(range(PUBLISHERS))
        for publisher, serials in accepted.items():
            got = reader.serials[publisher]
            assert got == sorted(set(got))  # in order, none twice
            # A cancelled publish may have been taken or not; one that returned was taken.
            assert set(serials) <= set(got)


async def test_publish_waits_while_connected_and_full(leg: Leg) -> None:
    done: Collected[int] = Collected()
    reader = SlowReader(pauses=0)
    with Peer([handshake(), freeze(), reader], rcvbuf=4096) as peer:
        async with leg.connect(peer.url, ping_interval=0, pending_size=256 * 1024) as client:

            async def publish() -> None:
                for serial in range(200):
                    await client.publish("p.0", message(0, serial, 100_000))
                    done.add(serial)

            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                await stands_still(lambda: len(done))
                assert len(done) < 150
                assert client.status is SessionStatus.CONNECTED
                # Everything else works on: nothing waits for the buffer but publishers.
                sub = await client.subscribe("still.possible")
                await sub.unsubscribe()
                peer.release()
            assert client.stats.reconnects == 0
            await eventually(lambda: reader.count == 200 or reader.faults)
            assert reader.serials == {0: list(range(200))}


async def test_a_waiting_publisher_goes_on_when_the_link_is_lost(leg: Leg) -> None:
    """While down it is buffered as any publish is, and sent on the next connection, whole."""
    reader = SlowReader(pauses=0)
    with Peer([handshake(), freeze(), reset()], [handshake(), reader], rcvbuf=4096) as peer:
        # No PINGs: on the second connection they would wait behind twenty megabytes, and a slow machine be cut off.
        async with leg.connect(peer.url, ping_interval=0, pending_size=64 * 1024 * 1024, **QUICK) as client:
            published = 0

            async def publish() -> None:
                nonlocal published
                for serial in range(200):
                    await client.publish("p.0", message(0, serial, 100_000))
                    published += 1

            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                await stands_still(lambda: published)
                peer.release()
                await eventually(lambda: client.stats.reconnects == 1)
            await client.flush(timeout=PATIENCE)
        assert reader.faults == []
        got = reader.serials[0]
        # What the first connection had taken over whole is gone with it; the rest is here, in order, once.
        assert got == list(range(got[0], 200))
        assert got[0] < 150


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_many_publishers_against_a_slow_link_to_a_real_server(leg: Leg, server: LocalServer) -> None:
    with Proxy(server.url, rcvbuf=65_536) as proxy:
        proxy.up.bandwidth = 8 * 1024 * 1024
        proxy.up.read_ahead = 65_536
        async with leg.connect(server.url) as other, leg.connect(proxy.url) as client:
            sub = await other.subscribe("p.*", max_pending_msgs=0, max_pending_bytes=0)
            await other.flush()

            async def publish(publisher: int) -> None:
                for serial in range(6):
                    await client.publish(f"p.{publisher}", message(publisher, serial, 16 * 1024))

            async with anyio.create_task_group() as group:
                for publisher in range(PUBLISHERS):
                    group.start_soon(publish, publisher)
            await client.flush(timeout=PATIENCE)
            serials: dict[int, list[int]] = defaultdict(list)
            for _ in range(PUBLISHERS * 6):
                got = await sub.next(timeout=PATIENCE)
                publisher, serial = map(int, got.data.split(b" ", 2)[:2])
                assert got.data == message(publisher, serial, 16 * 1024)
                serials[publisher].append(serial)
            assert serials == {publisher: list(range(6)) for publisher in range(PUBLISHERS)}
            assert sub.pending == (0, 0)


async def test_requests_and_replies_get_through_a_full_buffer(leg: Leg, server: LocalServer) -> None:
    with Proxy(server.url, rcvbuf=65_536) as proxy:
        proxy.up.bandwidth = 32 * 1024 * 1024
        proxy.up.read_ahead = 65_536

        async def echo(got: object) -> None:
            await got.respond(got.data)

        async with leg.connect(server.url) as service, leg.connect(proxy.url) as client:
            await service.subscribe("echo", callback=leg.handler(echo))
            await service.flush()
            over = False

            async def publish() -> None:
                while not over:
                    await client.publish("noise", b"x" * 50_000)

            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(publish)
                for n in range(5):
                    assert (await client.request("echo", b"%d" % n, timeout=PATIENCE)).data == b"%d" % n
                over = True


async def test_a_message_larger_than_the_buffer_is_taken_when_it_is_empty(leg: Leg) -> None:
    script = [handshake(max_payload=16 * 1024 * 1024), expect(b"PUB big 9000000\r\n"), expect(b"PUB end 0")]
    with Peer(script) as peer:
        async with leg.connect(peer.url, pending_size=1000, ping_interval=0) as client:
            await client.publish("big", bytes(9_000_000))
            await client.publish("end")
            await in_thread(peer.wait_until_finished)
