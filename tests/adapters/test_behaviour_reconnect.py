"""What happens when the server goes: to connections, subscriptions, publishes and those who wait."""

from __future__ import annotations

import re
import time

import anyio
import pytest

from nats_proto import (
    Closed,
    Connected,
    Disconnected,
    LameDuckMode,
    PublishesDropped,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
    SessionStatus,
)
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    MaxPayloadError,
    NATSError,
    NATSTimeoutError,
    NoServersError,
    OutboundBufferLimitError,
    TransportError,
)
from nats_sync.testing import LocalCluster, LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Collected, EventLog, Leg, eventually, in_thread
from tests.faults.peer import Peer, close, expect, handshake, hold, info, send
from tests.faults.proxy import Proxy
from tests.transports import Transport

pytestmark = pytest.mark.anyio


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + count)]


async def publish_numbers(client: object, subject: str, count: int, start: int = 0) -> None:
    for data in numbers(count, start):
        await client.publish(subject, data)


async def is_reconnecting(client: object) -> None:
    await eventually(lambda: client.status is SessionStatus.RECONNECTING)


async def is_connected(client: object, reconnects: int) -> None:
    await eventually(lambda: client.status is SessionStatus.CONNECTED and client.stats.reconnects >= reconnects)


# --- one server ------------------------------------------------------------------------------------------------------


async def test_default_options_survive_a_kill_and_a_restart(
    leg: Leg, server: LocalServer, transport: Transport
) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log) as client:
        sub = await client.subscribe("kept.*")
        group_sub = await client.subscribe("kept.*", queue="q")
        await client.flush()
        server.kill()
        await is_reconnecting(client)
        await publish_numbers(client, "kept.1", 200)
        server.start()
        await is_connected(client, 1)
        # One wait and one jitter, which is a second with TLS: what the first two attempts are told to wait at most.
        jitter = 1.0 if "tls" in transport.options else 0.1
        assert max([event.delay for event in log.of(Reconnecting)][:2]) <= 2.0 + jitter
        for one in (sub, group_sub):
            assert [(await one.next(timeout=PATIENCE)).data for _ in range(200)] == numbers(200)
        await client.flush()
        assert sub.pending == (0, 0)
        await log.wait(Reconnected)
        assert log.names[0] == "Connected"
        assert log.names[1] == "Disconnected"
        assert set(log.names[2:-1]) == {"Reconnecting"}
        assert log.names[-1] == "Reconnected"
        assert type(log.of(Disconnected)[0].error) in (ConnectionLostError, TransportError)
        assert [event.attempt for event in log.of(Reconnecting)] == list(range(1, len(log.of(Reconnecting)) + 1))
        assert log.of(Reconnected)[0].attempts == len(log.of(Reconnecting))
        assert client.last_error is not None


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_many_kills(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client, client.subscribe("kept") as sub:
        await client.flush()
        for n in range(5):
            server.kill()
            await is_reconnecting(client)
            await publish_numbers(client, "kept", 10, start=n * 10)
            server.start()
            # Read before the next kill: what was handed over to a server that dies is gone with it.
            assert [(await sub.next(timeout=PATIENCE)).data for _ in range(10)] == numbers(10, n * 10)
        assert client.stats.reconnects == 5


async def test_a_maximum_goes_on_with_what_remains(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client:
        sub = await client.subscribe("max", max_msgs=5)
        await publish_numbers(client, "max", 2)
        await client.flush()
        server.restart()
        await is_connected(client, 1)
        await publish_numbers(client, "max", 10, start=2)
        assert [message.data async for message in sub] == numbers(5)
        assert client.stats.dropped_unknown_sid == 0


async def test_the_order_after_a_reconnect_is_subscriptions_then_publishes(leg: Leg) -> None:
    first = [handshake(), expect(b"SUB a 1\r\n"), expect(b"SUB c q 3\r\n"), expect(b"UNSUB 3 9\r\n"), close()]
    with Peer(first, [hold(), handshake(), expect(b"PUB last 1\r\n2\r\n")]) as peer:
        async with leg.connect(peer.url, **QUICK) as client:
            _one = await client.subscribe("a")
            await (await client.subscribe("b")).unsubscribe()
            _three = await client.subscribe("c", queue="q", max_msgs=9)
            await is_reconnecting(client)
            await client.publish("last", b"1")
            late = await client.subscribe("late", max_msgs=2)
            await client.publish("last", b"2")
            peer.release()
            await in_thread(peer.wait_until_finished)
            written = peer.connections[1].received.partition(b"PING\r\n")[2].split(b"\r\n")
            assert written[:5] == [b"SUB a 1", b"SUB c q 3", b"UNSUB 3 9", b"SUB late 4", b"UNSUB 4 2"]
            assert written[5:] == [b"PUB last 1", b"1", b"PUB last 1", b"2", b""]
            assert late.sid == 4


async def test_the_buffer_has_a_limit_while_down(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, pending_size=10_000, **QUICK) as client, client.subscribe("kept") as sub:
        await client.flush()
        server.kill()
        await is_reconnecting(client)
        for n in range(10):  # the tenth passes the limit: a message is taken whole while there is any room
            await client.publish("kept", b"%03d" % n + b"x" * 1000)
        for _ in range(3):
            with pytest.raises(OutboundBufferLimitError, match="pending_size") as caught:
                await client.publish("kept", b"no")
            assert caught.value.outcome == "failed"
        assert client.stats.out_msgs == 10
        server.start()
        await is_connected(client, 1)
        assert [(await sub.next(timeout=PATIENCE)).data[:3] for _ in range(10)] == [b"%03d" % n for n in range(10)]
        await client.publish("kept", b"again")
        assert (await sub.next(timeout=PATIENCE)).data == b"again"


async def test_without_a_buffer_every_publish_while_down_fails(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, pending_size=0, **QUICK) as client:
        await client.publish("connected")
        await client.flush()
        server.kill()
        await is_reconnecting(client)
        with pytest.raises(OutboundBufferLimitError):
            await client.publish("down")


async def test_a_buffered_message_that_the_next_server_would_refuse_is_dropped_and_told(
    leg: Leg, free_port: int
) -> None:
    """Taken when the limit was higher: it must not cost one connection after the other."""
    log = EventLog()
    with LocalServer(port=free_port) as server:
        async with leg.connect(server.url, on_event=log, **QUICK) as client:
            sub = await client.subscribe("small")
            await client.flush()
            server.kill()
            await is_reconnecting(client)
            await client.publish("large", b"x" * 2000)
            await client.publish("small", b"1")
            failures: list[NATSError] = []

            async def ask() -> None:
                with pytest.raises(MaxPayloadError) as caught:
                    await client.request("large", b"x" * 1001, timeout=60)
                failures.append(caught.value)

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await eventually(lambda: client.stats.out_msgs == 3)
                with LocalServer({"max_payload": 1000}, port=free_port):
                    assert (await sub.next(timeout=PATIENCE)).data == b"1"
                    await client.flush()
                    dropped = await log.wait(PublishesDropped)
                    assert (dropped.dropped_msgs, client.stats.dropped_publishes) == (2, 2)
                    assert "2000 bytes" in str(dropped.error)
                    await eventually(lambda: failures)
                    assert (client.stats.reconnects, log.of(ServerErrorReceived)) == (1, [])


async def test_a_request_that_was_given_up_during_an_outage_is_not_sent_after_it(leg: Leg, server: LocalServer) -> None:
    """Its caller was told long ago that nobody answered, and has gone on."""
    with Proxy(server.url) as proxy:
        async with leg.connect(proxy.url, **QUICK) as client, leg.connect(server.url) as service:
            commands = await service.subscribe("command")
            await service.flush()
            await client.flush()
            proxy.refuse = True
            proxy.cut()
            await is_reconnecting(client)
            with pytest.raises(NATSTimeoutError):
                await client.request("command", b"given up", timeout=0.05)
            await client.publish("command", b"published")
            asked = client.stats.out_msgs
            async with anyio.create_task_group() as group:

                async def ask() -> None:
                    assert (await client.request("command", b"awaited", timeout=2 * PATIENCE)).data == b"done"

                group.start_soon(ask)
                await eventually(lambda: client.stats.out_msgs == asked + 1)
                proxy.refuse = False
                assert (await commands.next(timeout=PATIENCE)).data == b"published"
                awaited = await commands.next(timeout=PATIENCE)
                assert awaited.data == b"awaited"
                await awaited.respond(b"done")
            await client.flush()
            await service.flush()
            assert commands.pending == (0, 0)
            assert client.stats.dropped_publishes == 1


async def test_a_request_many_waits_for_a_connection_as_long_as_its_caller_does(leg: Leg, server: LocalServer) -> None:
    with Proxy(server.url) as proxy:
        async with leg.connect(proxy.url, **QUICK) as client, leg.connect(server.url) as service:
            commands = await service.subscribe("command")
            await service.flush()
            await client.flush()
            proxy.refuse = True
            proxy.cut()
            await is_reconnecting(client)
            async for _ in client.request_many("command", b"given up", max_wait=0.05):
                pass
            await client.publish("command", b"published")
            asked = client.stats.out_msgs
            async with anyio.create_task_group() as group:

                async def ask() -> None:
                    answers = client.request_many("command", b"awaited", max_wait=2 * PATIENCE, max_msgs=1)
                    assert [answer.data async for answer in answers] == [b"done"]

                group.start_soon(ask)
                await eventually(lambda: client.stats.out_msgs == asked + 1)
                proxy.refuse = False
                assert (await commands.next(timeout=PATIENCE)).data == b"published"
                awaited = await commands.next(timeout=PATIENCE)
                assert awaited.data == b"awaited"
                await awaited.respond(b"done")
            await client.flush()
            await service.flush()
            assert commands.pending == (0, 0)
            assert client.stats.dropped_publishes == 1


async def test_a_request_in_flight_gets_a_late_answer(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client, leg.connect(server.url, **QUICK) as service:
        asked = await service.subscribe("price")
        await service.flush()
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                assert (await client.request("price", timeout=PATIENCE)).data == b"late"

            group.start_soon(ask)
            message = await asked.next(timeout=PATIENCE)
            server.restart()
            await is_connected(client, 1)
            await client.flush()  # its inbox is there again
            await is_connected(service, 1)
            await message.respond(b"late")


async def test_by_option_a_request_in_flight_fails_at_once(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, fail_requests_on_disconnect=True, **QUICK) as client:
        sub = await client.subscribe("price")
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                with anyio.fail_after(PATIENCE), pytest.raises(ConnectionLostError, match="request") as caught:
                    await client.request("price", timeout=60)
                assert caught.value.outcome == "unknown"

            group.start_soon(ask)
            await sub.next(timeout=PATIENCE)
            server.kill()


async def test_a_reader_keeps_waiting_through_a_reconnect(leg: Leg, server: LocalServer) -> None:
    got: Collected[bytes] = Collected()
    async with leg.connect(server.url, **QUICK) as client:
        sub = await client.subscribe("kept")
        async with anyio.create_task_group() as group:

            async def read() -> None:
                async for message in sub:
                    got.add(message.data)

            group.start_soon(read)
            await client.publish("kept", b"1")
            await got.wait_len(1)
            server.restart()
            await is_connected(client, 1)
            await client.publish("kept", b"2")
            await got.wait_len(2)
            await sub.unsubscribe()
        assert list(got) == [b"1", b"2"]


async def test_messages_that_had_arrived_can_be_read_while_down(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url, **QUICK) as client:
        sub = await client.subscribe("kept")
        await publish_numbers(client, "kept", 3)
        await client.flush()
        server.kill()
        await is_reconnecting(client)
        assert [message.data for message in await sub.next_batch(10, timeout=PATIENCE)] == numbers(3)


# --- giving up -------------------------------------------------------------------------------------------------------


async def test_the_first_connect_says_what_each_server_did(leg: Leg, free_port: int) -> None:
    refused = f"nats://127.0.0.1:{free_port}"
    with Peer([send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), hold()]) as peer:
        with pytest.raises(NoServersError) as caught:
            async with leg.connect([refused, peer.url], randomize_servers=False):
                pass
        assert [server for server, _ in caught.value.attempts] == [refused, peer.url]
        first, second = (error for _, error in caught.value.attempts)
        assert type(first) is TransportError
        assert isinstance(first.__cause__, OSError)
        assert "does not look like a NATS server" in str(second)
        for text in (refused, peer.url, "cannot connect", "does not look like"):
            assert text in str(caught.value)


async def test_the_first_connect_does_not_wait(leg: Leg, free_port: int) -> None:
    with anyio.fail_after(PATIENCE), pytest.raises(NoServersError):
        async with leg.connect(f"nats://127.0.0.1:{free_port}", reconnect_wait=60):
            pass


async def test_a_name_that_does_not_exist(leg: Leg) -> None:
    with pytest.raises(NoServersError, match=r"no-such-host\.invalid"):
        async with leg.connect("nats://no-such-host.invalid:4222"):
            pass


async def test_by_option_the_first_connect_goes_on(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    server.kill()
    async with leg.connect(server.url, retry_on_failed_connect=True, on_event=log, **QUICK) as client:
        assert client.status is SessionStatus.RECONNECTING
        assert client.connected_url is None
        assert client.max_payload is None
        sub = await client.subscribe("early")
        await publish_numbers(client, "early", 10)
        await log.wait(Reconnecting, count=3)
        server.start()
        await log.wait(Connected)
        assert [(await sub.next(timeout=PATIENCE)).data for _ in range(10)] == numbers(10)
        assert "Reconnected" not in log.names
        assert "Disconnected" not in log.names
        assert client.stats.reconnects == 0


async def test_the_retried_first_connect_can_be_given_up(leg: Leg, free_port: int) -> None:
    with anyio.fail_after(PATIENCE):
        async with leg.connect(f"nats://127.0.0.1:{free_port}", retry_on_failed_connect=True, reconnect_wait=60):
            pass


async def test_a_limit_of_attempts_ends_the_client(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    failed: Collected[str] = Collected()
    async with leg.connect(server.url, max_reconnect_attempts=3, on_event=log, **QUICK) as client:
        sub = await client.subscribe("kept")
        await client.publish("kept", b"read before the error")
        await client.flush()
        server.kill()

        async def iterate() -> None:
            got = []
            with pytest.raises(ConnectionClosedError) as caught:
                got += [message.data async for message in sub]
            assert isinstance(caught.value.__cause__, NoServersError)
            failed.add("iterate")

        async def ask() -> None:
            with pytest.raises(ConnectionClosedError) as caught:
                await client.request("price", timeout=60)
            assert isinstance(caught.value.__cause__, NoServersError)
            failed.add("request")

        async with anyio.create_task_group() as group:
            group.start_soon(iterate)
            group.start_soon(ask)
        assert sorted(failed) == ["iterate", "request"]
        closed = await log.wait(Closed)
        assert isinstance(closed.error, NoServersError)
        assert [server for server, _ in closed.error.attempts] == [server.url]
        assert "cannot connect" in str(closed.error)
        assert len(log.of(Reconnecting)) == 3
        assert client.status is SessionStatus.CLOSED
        with pytest.raises(ConnectionClosedError):
            await client.publish("kept")
    assert log.names[-1] == "Closed"
    assert log.names.count("Closed") == 1


async def test_without_reconnect_a_lost_link_is_the_end(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, allow_reconnect=False, on_event=log) as client:
        sub = await client.subscribe("kept")
        server.kill()
        with pytest.raises(ConnectionClosedError) as caught:
            await sub.next()
        assert isinstance(caught.value.__cause__, TransportError)
        closed = await log.wait(Closed)
        assert log.names == ["Connected", "Disconnected", "Closed"]
        assert isinstance(closed.error, TransportError)


async def test_a_custom_delay(leg: Leg, server: LocalServer) -> None:
    asked: Collected[int] = Collected()

    def delay(rounds: int) -> float:
        asked.add(rounds)
        return 0.01

    options = {"reconnect_delay": delay, "reconnect_wait": 0.0, "reconnect_jitter": 0.0}
    async with leg.connect(server.url, **options) as client:
        server.kill()
        await asked.wait_len(3)
        server.start()
        await is_connected(client, 1)
        assert list(asked)[:3] == [1, 2, 3]


async def test_a_custom_delay_that_raises_does_not_end_reconnection(leg: Leg, server: LocalServer) -> None:
    def delay(_: int) -> float:
        raise ZeroDivisionError

    async with leg.connect(server.url, reconnect_delay=delay, **QUICK) as client:
        server.restart()
        await is_connected(client, 1)


async def test_a_server_that_throws_us_out_is_not_dialled_in_a_tight_loop(leg: Leg) -> None:
    with Peer([handshake(), close()], again=True) as peer:
        async with leg.connect(peer.url, **QUICK):
            began = time.monotonic()
            await eventually(lambda: len(peer.connections) >= 8)
            assert time.monotonic() - began > 5 * QUICK["reconnect_wait"]


# --- at the user's wish ----------------------------------------------------------------------------------------------


async def test_reconnect_makes_a_new_connection_at_once(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log, reconnect_wait=60, reconnect_jitter=60) as client:
        sub = await client.subscribe("kept")
        before = client.server_info.client_id
        await client.publish("kept", b"1")
        await client.flush()
        with anyio.fail_after(PATIENCE):
            await client.reconnect()
            await log.wait(Reconnected)
        assert client.server_info.client_id != before
        assert log.of(Disconnected)[0].error is None
        await client.publish("kept", b"2")
        assert [(await sub.next(timeout=PATIENCE)).data for _ in range(2)] == [b"1", b"2"]
        await eventually(lambda: len(server.connz()["connections"]) == 1)


async def test_reconnect_ends_a_wait(leg: Leg, server: LocalServer) -> None:
    log = EventLog()
    async with leg.connect(server.url, on_event=log, reconnect_wait=60, reconnect_jitter=0.0) as client:
        server.kill()
        await log.wait_for(lambda event: isinstance(event, Reconnecting) and event.delay > 30)
        server.start()
        with anyio.fail_after(PATIENCE):
            await client.reconnect()
            await log.wait(Reconnected)


async def test_reconnect_fails_what_is_in_flight(leg: Leg) -> None:
    with Peer([handshake(), hold()], again=True) as peer:
        async with leg.connect(peer.url, ping_interval=0, **QUICK) as client:
            failed: Collected[str] = Collected()

            async def request() -> None:
                await client.request("price", timeout=PATIENCE)

            async def fails(call: object, *args: object) -> None:
                with pytest.raises(ConnectionLostError):
                    await call(*args)
                failed.add(call.__name__)

            async with anyio.create_task_group() as group:
                group.start_soon(fails, client.flush, PATIENCE)
                group.start_soon(fails, request)
                await eventually(lambda: b"PUB price" in peer.connections[0].received)
                await eventually(lambda: peer.connections[0].received.count(b"PING") == 2)
                await client.reconnect()
            assert sorted(failed) == ["flush", "request"]


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_what_was_published_before_reconnect_is_not_sent_twice(leg: Leg, url: str) -> None:
    async with leg.connect(url) as other, other.subscribe("once") as sub:
        await other.flush()
        async with leg.connect(url, **QUICK) as client:
            for n in range(20):
                await publish_numbers(client, "once", 50, start=n * 50)
                await client.reconnect()
                if n % 3 == 0:
                    await is_connected(client, 1)
            await is_connected(client, 1)
            await client.drain(timeout=PATIENCE)
        got: list[bytes] = []
        while batch := await sub.next_batch(1000, timeout=0.3):
            got += [message.data for message in batch]
        assert len(got) == len(set(got))
        assert got == sorted(got, key=int)


# --- a cluster -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def module_cluster(transport: Transport):
    """A cluster of three, for tests that leave it as they found it."""
    with transport.cluster(3) as local:
        yield local


async def test_fail_over_in_a_cluster(leg: Leg, module_cluster: LocalCluster) -> None:
    servers = {server.url: server for server in module_cluster.servers}
    async with leg.connect(module_cluster.urls, **QUICK) as client, client.subscribe("kept") as sub:
        visited = []
        for n in range(3):
            victim = servers[client.connected_url]
            visited.append(victim.url)
            victim.kill()
            try:
                await is_connected(client, n + 1)
                assert client.connected_url != victim.url
                await client.publish("kept", b"%d" % n)
                assert (await sub.next(timeout=PATIENCE)).data == b"%d" % n
            finally:
                victim.start()
                module_cluster.wait_until_formed()
        assert len(set(visited)) == 3


@pytest.mark.transports("tcp", "tls", "ws", "wss")
async def test_discovered_servers_are_used(leg: Leg, module_cluster: LocalCluster) -> None:
    first = module_cluster[0]
    async with leg.connect(first.url, **QUICK) as client:
        # A server that was just started again may not have heard of all the others yet, and tells of them then.
        await eventually(lambda: set(client.servers) == set(module_cluster.urls))
        first.kill()
        try:
            await is_connected(client, 1)
            assert client.connected_url in module_cluster.urls[1:]
        finally:
            first.start()
            module_cluster.wait_until_formed()


async def test_discovered_servers_can_be_ignored(leg: Leg, module_cluster: LocalCluster) -> None:
    first = module_cluster[0]
    async with leg.connect(first.url, ignore_discovered_servers=True, **QUICK) as client:
        assert list(client.servers) == [first.url]
        first.kill()
        await is_reconnecting(client)
        first.start()
        await is_connected(client, 1)
        assert client.connected_url == first.url
    module_cluster.wait_until_formed()


async def test_servers_learned_later_are_told(leg: Leg) -> None:
    log = EventLog()
    script = [handshake(), hold(), send(info(connect_urls=["127.0.0.1:1", "127.0.0.1:2"])), hold()]
    with Peer(script) as peer:
        async with leg.connect(peer.url, on_event=log) as client:
            assert list(client.servers) == [peer.url]
            peer.release()
            event = await log.wait(ServersDiscovered)
            assert set(event.servers) == {"nats://127.0.0.1:1", "nats://127.0.0.1:2"}
            assert set(client.servers) == {peer.url, *event.servers}


async def test_the_servers_are_tried_in_strict_rotation(leg: Leg) -> None:
    """Three that refuse after the first has been lost: A B C A B C, none skipped."""
    dialled: list[str] = []

    def refuse(name: str):
        def step(connection: object) -> None:
            dialled.append(name)
            connection.close(reset=True)

        return [step]

    with (
        Peer([handshake(), hold(), close()], refuse("A"), again=True) as a,
        Peer(refuse("B"), again=True) as b,
        Peer(refuse("C"), again=True) as c,
    ):
        async with leg.connect([a.url, b.url, c.url], randomize_servers=False, **QUICK):
            a.release()
            await eventually(lambda: len(dialled) >= 9)
    assert "".join(dialled[:9]) == "BCABCABCA"


async def test_a_lame_duck_is_left_and_told(leg: Leg, cluster: LocalCluster) -> None:
    log = EventLog()
    servers = {server.url: server for server in cluster.servers}
    async with leg.connect(cluster.urls, on_event=log, **QUICK) as client:
        leaving = servers[client.connected_url]
        leaving.lame_duck()
        event = await log.wait(LameDuckMode)
        assert event.server == leaving.url
        assert event.migrating
        await log.wait(Reconnected)
        assert client.connected_url != leaving.url
        assert log.of(Disconnected)[0].error is None
        assert leaving.running
        leaving.kill()  # it would take its time


async def test_a_lame_duck_can_be_stayed_with(leg: Leg) -> None:
    log = EventLog()
    script = [handshake(), hold(), send(info(ldm=True)), expect(b"PUB still 0")]
    with Peer(script) as peer, Peer([handshake()]) as other:
        options = {"lame_duck_migration": False, "randomize_servers": False, "on_event": log}
        async with leg.connect([peer.url, other.url], **options) as client:
            peer.release()
            event = await log.wait(LameDuckMode)
            assert not event.migrating
            await client.publish("still")
            await in_thread(peer.wait_until_finished)
            assert other.connections == []


# --- stale connections -----------------------------------------------------------------------------------------------


async def test_a_server_that_answers_no_ping_is_left(leg: Leg) -> None:
    log = EventLog()
    with Peer([handshake(), hold()], [handshake(), hold()]) as peer:
        began = time.monotonic()
        async with leg.connect(peer.url, ping_interval=0.05, max_pings_out=2, on_event=log, **QUICK) as client:
            await client.publish("a")
            event = await log.wait(Disconnected)
            assert time.monotonic() - began > 0.1  # two intervals without an answer, at least
            assert type(event.error).__name__ == "StaleConnectionError"
            assert re.search(r"2 PINGs", str(event.error))
            await eventually(lambda: client.stats.reconnects >= 1)  # and that one is left a moment later


async def test_keep_alive_pings_are_answered_and_asked(leg: Leg, url: str) -> None:
    for _ in range(10):  # where the server stands still, it is left, and rightly so
        log = EventLog()
        async with leg.connect(url, ping_interval=0.02, max_pings_out=10, on_event=log, **QUICK) as client:
            await anyio.sleep(0.5)  # 25 intervals: the connection is kept by its PONGs
            names = log.names
        if names == ["Connected"]:
            assert client.stats.reconnects == 0
            return
    raise AssertionError(names)
