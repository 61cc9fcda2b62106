"""`publish_many`: the same as `publish` one by one; and publishers who write what they have filled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import anyio
import pytest

from nats_proto import errors
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Leg, eventually, in_thread
from tests.faults.peer import Connection, Peer, handshake
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio

SIZES = [0, 1, 16, 300, 65_535, 65_536, 200_000]


def payload(number: int, size: int) -> bytes:
    return b"%06d" % number + bytes([number % 251]) * size


async def test_all_arrive_in_order_whatever_their_size(leg: Leg, url: str) -> None:
    sent = [payload(number, SIZES[number % len(SIZES)] if number % 40 == 0 else number % 99) for number in range(5000)]
    async with leg.connect(url) as publisher, leg.connect(url) as subscriber:
        async with subscriber.subscribe("many") as sub:
            await subscriber.flush()
            await publisher.publish("many", b"first")
            await publisher.publish_many("many", sent)
            await publisher.publish("many", b"last")
            received = [(await sub.next(timeout=PATIENCE)).data for _ in range(len(sent) + 2)]
        assert received == [b"first", *sent, b"last"]
        assert publisher.stats.out_msgs == len(sent) + 2
        assert publisher.stats.out_bytes == sum(map(len, sent)) + len(b"firstlast")
        assert publisher.stats.reconnects == 0


async def test_none_at_all(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        await client.publish_many("a", [])
        await client.publish_many("a", iter(()))
        await client.flush()
        assert client.stats.out_msgs == 0


async def test_any_iterable_of_any_buffers(leg: Leg, url: str) -> None:
    def buffers() -> Iterator[bytes]:
        yield b"a"
        yield bytearray(b"bb")  # type: ignore[misc]
        yield memoryview(b"ccc")  # type: ignore[misc]
        yield from (b"%d" % number for number in range(1000))

    async with leg.connect(url) as client, client.subscribe("many") as sub:
        await client.publish_many("many", buffers())
        received = [(await sub.next(timeout=PATIENCE)).data for _ in range(1003)]
    assert received == [b"a", b"bb", b"ccc", *(b"%d" % number for number in range(1000))]


@pytest.mark.parametrize("wrong", ["text", b"bytes", bytearray(b"x"), memoryview(b"x")])
async def test_one_payload_is_not_many(leg: Leg, url: str, wrong: object) -> None:
    async with leg.connect(url) as client:
        with pytest.raises(TypeError, match="must be an iterable of payloads"):
            await client.publish_many("a", wrong)
        assert client.stats.out_msgs == 0


@pytest.mark.parametrize("before", [0, 1, 3, 700, 3000])
async def test_what_came_before_the_fault_was_taken(leg: Leg, url: str, before: int) -> None:
    async with leg.connect(url) as client, client.subscribe("many") as sub:
        with pytest.raises(TypeError) as raised:
            await client.publish_many("many", [*([b"x"] * before), "text", b"behind"])
        assert raised.value.__notes__ == [f"publish_many: {before} messages were taken before this one"]
        with pytest.raises(errors.MaxPayloadError):
            await client.publish_many("many", [b"y", b"x" * (client.max_payload + 1)])
        with pytest.raises(errors.InvalidSubjectError):
            await client.publish_many("a b", [b"x"])
        await client.flush()
        assert [(await sub.next(timeout=PATIENCE)).data for _ in range(before + 1)] == [*([b"x"] * before), b"y"]
        assert client.stats.out_msgs == before + 1


async def test_what_the_iterable_raises_comes_out(leg: Leg, url: str) -> None:
    def broken() -> Iterator[bytes]:
        yield from [b"x"] * 600
        raise LookupError("of the user")

    async with leg.connect(url) as client:
        with pytest.raises(LookupError, match="of the user"):
            await client.publish_many("a", broken())
        await client.publish("a", b"the client goes on")
        await client.flush()
        assert client.stats.out_msgs in (513, 601)


async def test_an_iterable_may_use_the_client(leg: Leg, url: str) -> None:
    """No lock is held while it runs."""
    async with leg.connect(url) as client:

        def asking() -> Iterator[bytes]:
            for _ in range(3):
                yield client.status.name.encode()
                yield b"%d" % client.stats.out_msgs

        await client.publish_many("a", asking())
        assert client.stats.out_msgs == 6


async def test_after_the_end(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        pass
    with pytest.raises(errors.ConnectionClosedError):
        await client.publish_many("a", [b"x"])


async def test_a_peer_that_reads_late_gets_all_of_it_once(leg: Leg) -> None:
    """Several publishers at once, more than fits into any buffer on the way."""
    seen = bytearray()

    def read_late(connection: Connection) -> None:
        connection.peer._over.wait(0.05)
        while True:
            try:
                data = connection.sock.recv(1 << 16)
            except TimeoutError:
                connection.peer.check_over()
                continue
            if not data:
                return
            seen.extend(data)
            if data.endswith(b"PING\r\n"):
                connection.sock.sendall(b"PONG\r\n")

    with Peer([handshake(), read_late], rcvbuf=4096) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:

            async def publish(publisher: int) -> None:
                await client.publish_many(f"p{publisher}", [b"%05d" % number + b"x" * 60 for number in range(20_000)])

            async with anyio.create_task_group() as group:
                for publisher in range(3):
                    group.start_soon(publish, publisher)
            await client.flush(timeout=PATIENCE)
    for publisher in range(3):
        head = b"PUB p%d 65\r\n" % publisher
        numbers = [int(part[:5]) for part in bytes(seen).split(head)[1:]]
        assert numbers == list(range(20_000))


async def test_a_cut_in_the_midst_loses_only_what_was_handed_over(leg: Leg, server: LocalServer) -> None:
    """Behind the cut the numbers go on without a gap but one: what was on its way."""
    async with leg.connect(server.url) as subscriber, subscriber.subscribe("many", max_pending_msgs=0) as sub:
        await subscriber.flush()
        with Proxy(server.port) as proxy:
            async with leg.connect(proxy.url, **QUICK) as client:
                await client.publish_many("many", [b"%d" % number for number in range(50_000)])
                await in_thread(proxy.cut)
                await client.publish_many("many", [b"%d" % number for number in range(50_000, 100_000)])
                await eventually(lambda: client.stats.reconnects == 1)
                await client.flush(timeout=PATIENCE)
        await subscriber.flush()
        numbers = [int(message.data) for message in await sub.next_batch(200_000, timeout=PATIENCE)]
    # The server may still read what it was sent by the old connection while it reads the new one: each has its order.
    old = 0
    by_new = []
    for number in numbers:
        if number == old:
            old += 1
        else:
            by_new.append(number)
    assert all(after == before + 1 for before, after in pairwise(by_new))
    assert (by_new[-1] if by_new else old - 1) == 99_999
    assert not by_new or by_new[0] >= old  # nothing is doubled
