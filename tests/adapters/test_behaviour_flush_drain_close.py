"""Flush, round trip time, both drains, close."""

from __future__ import annotations

import contextlib
import re

import anyio
import pytest

from nats_proto import Closed, Disconnected, SessionStatus
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    NATSTimeoutError,
    SubscriptionClosedError,
)
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Collected, EventLog, Flag, Leg, eventually, in_thread, stands_still
from tests.faults.peer import Connection, Peer, close, expect, freeze, handshake, hold, reset, send
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio


async def publish_numbers(client: object, subject: str, count: int) -> None:
    for n in range(count):
        await client.publish(subject, b"%d" % n)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


# --- flush -----------------------------------------------------------------------------------------------------------


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_after_a_flush_the_server_has_everything(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        await publish_numbers(client, "flushed", 1000)
        await client.flush()
        assert server.connz()["connections"][0]["in_msgs"] == 1000


async def test_round_trip_time(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        assert await client.rtt() > 0


async def test_many_flushes_at_once(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(client.flush)
            group.start_soon(client.rtt)


async def test_a_flush_hears_its_own_pong_only(leg: Leg) -> None:
    """The peer answers the first of two PINGs only when it is told to, and the second never."""
    script = [handshake(), expect(b"PUB one 0"), expect(b"PING\r\n"), hold(), send(b"PONG\r\n")]
    done: Collected[str] = Collected()
    with Peer(script) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:

            async def first() -> None:
                await client.publish("one")
                await client.flush(timeout=PATIENCE)
                done.add("first")

            async def second() -> None:
                with pytest.raises(NATSTimeoutError) as caught:
                    await client.flush(timeout=0.3)
                text = str(caught.value)
                assert "flush" in text
                assert re.search(r"\b0\.3 s", text)
                assert "CONNECTED" in text.upper()
                done.add("second")

            async with anyio.create_task_group() as group:
                group.start_soon(first)
                await eventually(lambda: b"PING" in peer.connections[0].received.partition(b"PUB")[2])
                assert len(done) == 0
                group.start_soon(second)
                await eventually(lambda: peer.connections[0].received.partition(b"PUB")[2].count(b"PING") == 2)
                peer.release()
            assert sorted(done) == ["first", "second"]  # in any order: the time of the second may be up at once


async def test_a_flush_that_timed_out_does_not_give_its_pong_to_the_next(leg: Leg) -> None:
    script = [handshake(), expect(b"PING\r\n"), expect(b"PING\r\n"), send(b"PONG\r\n"), hold(), send(b"PONG\r\n")]
    with Peer(script) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:
            with pytest.raises(NATSTimeoutError):
                await client.flush(timeout=0.05)
            done = Flag()

            async def flush() -> None:
                await client.flush(timeout=PATIENCE)
                done.set()

            async with anyio.create_task_group() as group:
                group.start_soon(flush)
                await eventually(lambda: b"> b'PONG" in peer.transcript().encode().rpartition(b"PING")[2])
                with pytest.raises(NATSTimeoutError):  # the first PONG was that of the flush nobody waits for
                    await client.flush(timeout=0.1)
                assert not done.is_set
                peer.release()
                await done.wait()


@pytest.mark.parametrize("end", [close, reset], ids=["fin", "rst"])
async def test_a_flush_cut_between_ping_and_pong_fails(leg: Leg, end: object) -> None:
    cut = [handshake(), expect(b"PUB one 0"), expect(b"PING\r\n"), end()]
    well = [handshake(), expect(b"PING\r\n"), send(b"PONG\r\n")]
    with Peer(cut, well) as peer:
        async with leg.connect(peer.url, **QUICK) as client:
            await client.publish("one")
            with pytest.raises(ConnectionLostError, match="flush") as caught:
                await client.flush(timeout=PATIENCE)
            assert caught.value.outcome == "unknown"
            await eventually(lambda: client.status is SessionStatus.CONNECTED and client.stats.reconnects == 1)
            await client.flush(timeout=PATIENCE)


async def test_a_flush_without_a_connection_fails_at_once(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client:
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        for call in (client.flush, client.rtt):
            with anyio.fail_after(PATIENCE), pytest.raises(ConnectionLostError):
                await call(timeout=60)


# --- drain of a subscription -----------------------------------------------------------------------------------------


async def test_a_drained_subscription_gives_what_it_has_and_ends(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client, leg.connect(url) as publisher:
        sub = await client.subscribe("drained")
        await client.flush()
        await publish_numbers(publisher, "drained", 100)
        await publisher.flush()
        got: Collected[bytes] = Collected()

        async def read() -> None:
            async for message in sub:
                got.add(message.data)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await sub.drain(timeout=PATIENCE)
        assert list(got) == numbers(100)
        await publisher.publish("drained", b"late")
        await publisher.flush()
        await client.flush()
        with pytest.raises(SubscriptionClosedError):
            await sub.next(timeout=1)
        await client.publish("still", b"works")
        await sub.drain(timeout=1)


async def test_messages_between_unsub_and_its_pong_are_delivered(leg: Leg) -> None:
    late = b"MSG drained 1 1\r\n2\r\n"
    script = [
        handshake(),
        expect(b"SUB drained 1\r\n"),
        send(b"MSG drained 1 1\r\n1\r\n"),
        expect(b"UNSUB 1\r\n"),
        expect(b"PING\r\n"),
        send(late),
        send(b"PONG\r\n"),
        send(b"MSG drained 1 1\r\n3\r\n"),
    ]
    got: list[bytes] = []
    with Peer(script) as peer:
        async with leg.connect(peer.url) as client:
            sub = await client.subscribe("drained")

            async def read() -> None:
                async for message in sub:
                    got.append(message.data)

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await sub.drain(timeout=PATIENCE)
            assert got == [b"1", b"2"]
            await eventually(lambda: client.stats.dropped_unknown_sid == 1)


async def test_a_drained_callback_finishes_its_queue(leg: Leg, url: str) -> None:
    release, began = Flag(), Flag()
    got: list[bytes] = []

    async def handle(message: object) -> None:
        began.set()
        await release.wait()
        got.append(message.data)

    async with leg.connect(url) as client:
        sub = await client.subscribe("drained", callback=leg.handler(handle))
        await publish_numbers(client, "drained", 50)
        await client.flush()
        await began.wait()
        drained = Flag()

        async def drain() -> None:
            await sub.drain(timeout=PATIENCE)
            drained.set()

        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            await client.flush()
            assert not drained.is_set
            release.set()
            await drained.wait()
        assert got == numbers(50)


async def test_a_drain_that_nobody_reads_runs_out_of_time(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("unread")
        await publish_numbers(client, "unread", 5)
        await client.flush()
        with pytest.raises(NATSTimeoutError, match="drain") as caught:
            await sub.drain(timeout=0.1)
        assert "unread" in str(caught.value)
        await client.flush()
        assert client.status is SessionStatus.CONNECTED


async def test_draining_a_subscription_without_a_connection_gives_what_is_queued(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client:
        sub = await client.subscribe("drained")
        await publish_numbers(client, "drained", 3)
        await client.flush()
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        got: list[bytes] = []

        async def read() -> None:
            async for message in sub:
                got.append(message.data)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await sub.drain(timeout=PATIENCE)
        assert got == numbers(3)
        server.start()
        await eventually(lambda: client.status is SessionStatus.CONNECTED)
        await client.flush()
        assert server.connz()["connections"][0]["subscriptions"] == 0


# --- drain of the client ---------------------------------------------------------------------------------------------


async def test_a_drained_client_finishes_everything_and_closes(leg: Leg, url: str) -> None:
    log = EventLog()
    handled: Collected[bytes] = Collected()
    read: list[bytes] = []
    began, release = Flag(), Flag()

    async with leg.connect(url) as other, leg.connect(url, on_event=log) as client:
        answers = await other.subscribe("answers")
        await other.flush()

        async def handle(message: object) -> None:
            began.set()
            await release.wait()
            await client.publish("answers", message.data)  # still allowed: handlers may answer
            handled.add(message.data)

        await client.subscribe("work", callback=leg.handler(handle))
        sub = await client.subscribe("work")
        await client.flush()
        await publish_numbers(other, "work", 30)
        await other.flush()
        await began.wait()

        async def iterate() -> None:
            async for message in sub:
                read.append(message.data)

        async def drain() -> None:
            await client.drain(timeout=PATIENCE)

        async with anyio.create_task_group() as group:
            group.start_soon(iterate)
            group.start_soon(drain)
            await eventually(lambda: client.status is SessionStatus.DRAINING_SUBS)
            with pytest.raises(ConnectionDrainingError):
                await client.subscribe("new")
            with pytest.raises(ConnectionDrainingError):
                await client.reconnect()
            release.set()
        assert client.status is SessionStatus.CLOSED
        assert list(handled) == read == numbers(30)
        # One by one: the first may be written, and so arrive, before the others.
        assert [(await answers.next(timeout=PATIENCE)).data for _ in range(30)] == numbers(30)
        assert answers.pending == (0, 0)
        assert log[-1] == Closed(error=None)
        with pytest.raises(ConnectionClosedError):
            await client.publish("answers")


async def test_a_drained_client_gets_what_comes_between_unsub_and_pong(leg: Leg) -> None:
    script = [
        handshake(),
        expect(b"SUB drained 1\r\n"),
        expect(b"UNSUB 1\r\n"),
        expect(b"PING\r\n"),
        send(b"MSG drained 1 1\r\n1\r\nPONG\r\n"),
        expect(b"PUB last 0\r\n"),
        expect(b"PING\r\n"),
        send(b"PONG\r\n"),
    ]
    got: list[bytes] = []
    with Peer(script) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:

            async def handle(message: object) -> None:
                got.append(message.data)
                await client.publish("last")

            await client.subscribe("drained", callback=leg.handler(handle))
            await client.drain(timeout=PATIENCE)
            await in_thread(peer.wait_until_finished)
        assert got == [b"1"]


async def test_a_drain_that_overruns_raises_and_closes(leg: Leg, url: str) -> None:
    log = EventLog()
    async with leg.connect(url, on_event=log) as client:
        _held = await client.subscribe("unread")
        await publish_numbers(client, "unread", 7)
        await client.flush()
        with pytest.raises(NATSTimeoutError, match="drain") as caught:
            await client.drain(timeout=0.1)
        assert re.search(r"\b0\.1 s", str(caught.value))
        assert re.search(r"\b7 messages", str(caught.value))
        assert client.status is SessionStatus.CLOSED
        closed = await log.wait(Closed)
        assert type(closed.error) is NATSTimeoutError


async def test_the_drain_timeout_of_the_options(leg: Leg, url: str) -> None:
    async with leg.connect(url, drain_timeout=0.1) as client:
        _held = await client.subscribe("unread")
        await client.publish("unread")
        await client.flush()
        with pytest.raises(NATSTimeoutError):
            await client.drain()


async def test_a_drain_with_nothing_to_do(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        await client.drain(timeout=PATIENCE)
        assert client.status is SessionStatus.CLOSED


async def test_what_was_published_before_a_drain_arrives(leg: Leg, url: str) -> None:
    async with leg.connect(url) as other, other.subscribe("last") as sub:
        await other.flush()
        async with leg.connect(url) as client:
            await publish_numbers(client, "last", 1000)
            await client.drain(timeout=PATIENCE)
        received = 0
        while received < 1000:  # the server has them all, and may still be writing them
            received += len(await sub.next_batch(5000, timeout=PATIENCE)) or 10**6
        assert received == 1000


async def test_a_link_lost_while_draining_ends_the_drain_with_what_was_left(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    handled: list[bytes] = []
    began, release = Flag(), Flag()

    async def handle(message: object) -> None:
        began.set()
        await release.wait()
        handled.append(message.data)

    async with leg.connect(server.url, on_event=log, **QUICK) as client:
        await client.subscribe("work", callback=leg.handler(handle))
        await publish_numbers(client, "work", 20)
        await client.flush()
        await began.wait()

        async def drain() -> None:
            with pytest.raises(ConnectionLostError, match="drain"):
                await client.drain(timeout=PATIENCE)

        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            await eventually(lambda: client.status is SessionStatus.DRAINING_SUBS)
            server.kill()
            await log.wait(Disconnected)
            release.set()
        assert handled == numbers(20)  # what had arrived is handled all the same
        assert client.status is SessionStatus.CLOSED
        assert log.names[-1] == "Closed"
        assert "Reconnected" not in log.names


async def test_draining_without_a_connection_closes_and_says_what_was_left(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client:
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        await publish_numbers(client, "lost", 3)
        with anyio.fail_after(PATIENCE), pytest.raises(ConnectionLostError, match="3 "):
            await client.drain(timeout=PATIENCE)
        assert client.status is SessionStatus.CLOSED


async def test_two_drains_end_together(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        sub = await client.subscribe("work")
        await publish_numbers(client, "work", 3)
        await client.flush()

        async def drain() -> None:
            with contextlib.suppress(ConnectionClosedError):  # a thread that was too slow to find it still draining
                await client.drain(timeout=PATIENCE)
            assert client.status is SessionStatus.CLOSED

        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            group.start_soon(drain)
            assert [message.data async for message in sub] == numbers(3)


# --- close -----------------------------------------------------------------------------------------------------------


async def test_close_answers_everybody_who_waits(leg: Leg) -> None:
    """The peer says nothing, so that everything is still under way."""
    with Peer([handshake(), hold()]) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:
            sub = await client.subscribe("quiet")
            failed: Collected[str] = Collected()

            async def fails(name: str, call: object, *args: object) -> None:
                with pytest.raises(ConnectionClosedError):
                    await call(*args)
                failed.add(name)

            async def request() -> None:
                await client.request("quiet", timeout=60)

            async def request_many() -> None:
                async for _ in client.request_many("quiet", max_wait=60):
                    pass

            async def drain_sub() -> None:
                other = await client.subscribe("other")
                await other.drain(timeout=60)

            async with anyio.create_task_group() as group:
                for call in (request, request_many, drain_sub, sub.next, client.flush, client.rtt):
                    group.start_soon(fails, call.__name__, call)
                peer_side = peer.connections[0]
                await eventually(lambda: peer_side.received.count(b"PING") >= 4 and b"PUB quiet" in peer_side.received)
                await anyio.lowlevel.checkpoint()
                await client.close()
            assert sorted(failed) == ["drain_sub", "flush", "next", "request", "request_many", "rtt"]


async def test_close_is_idempotent_and_closed_comes_last_and_once(leg: Leg, url: str) -> None:
    log = EventLog()
    async with leg.connect(url, on_event=log) as client:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(client.close)
        await client.close()
    assert log.names == ["Connected", "Disconnected", "Closed"]
    assert log[1].error is None
    assert log[2] == Closed(error=None)


async def test_what_was_published_before_close_is_written(leg: Leg, url: str) -> None:
    async with leg.connect(url) as other, other.subscribe("last") as sub:
        await other.flush()
        async with leg.connect(url) as client:
            await publish_numbers(client, "last", 1000)
        got: list[bytes] = []
        while len(got) < 1000:
            got += [message.data for message in await sub.next_batch(1000, timeout=PATIENCE)]
        assert got == numbers(1000)


async def test_close_never_waits_for_a_dead_peer(leg: Leg) -> None:
    log = EventLog()
    ends: Collected[str] = Collected()
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer:
        async with leg.connect(peer.url, on_event=log, ping_interval=0) as client:

            async def publish() -> None:
                with contextlib.suppress(ConnectionClosedError):
                    while True:
                        await client.publish("big", b"x" * 100_000)
                ends.add("publish")

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(publish)
                await stands_still(lambda: client.stats.out_msgs)
                with anyio.fail_after(PATIENCE):
                    await client.close()
            assert len(ends) == 3
        closed = await log.wait(Closed)
        assert closed.unsent_msgs > 0
        assert closed.unsent_bytes > 100_000 * closed.unsent_msgs


async def test_close_while_reconnecting(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log, reconnect_wait=60) as client:
        _held = await client.subscribe("kept")
        server.kill()
        await eventually(lambda: client.status is SessionStatus.RECONNECTING)
        await publish_numbers(client, "lost", 3)
        with anyio.fail_after(PATIENCE):
            await client.close()
        assert client.status is SessionStatus.CLOSED
    closed = await log.wait(Closed)
    assert closed.error is None
    assert closed.unsent_msgs == 3


async def test_close_during_a_dial_that_hangs(leg: Leg, server: LocalServer) -> None:
    with Proxy(server.url) as proxy:
        async with leg.connect(proxy.url, connect_timeout=60, **QUICK) as client:
            proxy.down.black_hole = True
            proxy.cut()
            await eventually(lambda: proxy.connections == 1 and client.status is SessionStatus.RECONNECTING)
            with anyio.fail_after(PATIENCE):
                await client.close()


async def test_leaving_the_block_leaves_nothing_running(leg: Leg, url: str) -> None:
    before = sorted(leg.running())

    async def handle(_: object) -> None: ...

    async with leg.connect(url) as client:
        await client.subscribe("a", callback=leg.handler(handle))
        _held = await client.subscribe("b")
        await client.flush()
        assert len(leg.running()) > len(before)
    await eventually(lambda: sorted(leg.running()) == before, f"{leg.running()} are {before} again")


async def test_an_unsubscribed_subscription_is_not_restored(leg: Leg) -> None:
    def vanish(connection: Connection) -> None:
        connection.expect(b"UNSUB 1\r\n")
        connection.close(reset=True)

    with Peer([handshake(), vanish], [handshake(), expect(b"SUB b 2\r\n")]) as peer:
        async with leg.connect(peer.url, **QUICK) as client:
            one = await client.subscribe("a")
            _held = await client.subscribe("b")
            await one.unsubscribe()
            await in_thread(peer.wait_until_finished)
            assert b"SUB a" not in peer.connections[1].received
