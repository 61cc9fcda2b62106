"""The hostile inputs against the three clients, sent by a scripted peer over a real socket.

Beside the hostile peer stands a healthy one: when a row ends the connection, the client has to be there at once, with
its subscriptions, and nothing of the hostile stream may be left in it.
"""

from __future__ import annotations

import logging
import resource
import time
import tracemalloc
from itertools import groupby

import anyio
import pytest

from nats_proto import (
    AuthenticationFailed,
    Closed,
    ContentErrorReceived,
    Disconnected,
    LameDuckMode,
    Reconnected,
    ServerErrorReceived,
    ServersDiscovered,
    SessionStatus,
    SlowConsumer,
)
from nats_proto.errors import (
    InvalidHeaderError,
    MaxControlLineError,
    NATSTimeoutError,
    NoServersError,
    StaleConnectionError,
)
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, eventually, in_thread
from tests.faults.hostile_inputs import AFTER, GOOD, ROWS, Moment, Row, greeting
from tests.faults.peer import PONGS, Connection, Peer, Script, Step, close, expect, freeze, handshake, hold, loop, send

pytestmark = pytest.mark.anyio

REPORTS = (
    AuthenticationFailed,
    ContentErrorReceived,
    LameDuckMode,
    ServerErrorReceived,
    ServersDiscovered,
    SlowConsumer,
)
SUBSCRIBED = b"UNSUB 3 1\r\n"  # the last thing that tells a server about the three subscriptions
HEALTHY: Script = [handshake(), expect(SUBSCRIBED), send(AFTER), expect(b"PONG\r\n")]


def script_of(row: Row) -> Script:
    """What the hostile peer does."""
    attack: Script = [send_one_by_one(row.bytes()) if row.one_by_one else send(row.bytes())]
    if row.eof:
        attack = [*attack, close()]
    good: Script = [] if row.ends is not None else [send(AFTER), expect(b"PONG\r\n")]
    match row.moment:
        case Moment.GREETING if row.ends is None:
            return [attack, expect(b"CONNECT "), expect(b"PING\r\n"), send(b"PONG\r\n"), expect(SUBSCRIBED), good]
        case Moment.GREETING:
            return attack
        case Moment.ANSWER if row.ends is None:
            return [send(greeting()), expect(b"CONNECT "), expect(b"PING\r\n"), attack, expect(SUBSCRIBED), good]
        case Moment.ANSWER:
            return [send(greeting()), expect(b"CONNECT "), expect(b"PING\r\n"), attack]
        case Moment.OPEN:
            return [handshake(), expect(SUBSCRIBED), attack, good]


def send_one_by_one(data: bytes) -> Step:
    def step(connection: Connection) -> None:
        for byte in data:
            connection.sock.sendall(bytes([byte]))

    return step


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
async def test_hostile_input(leg: Leg, row: Row, caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog()
    # On a busy machine the peer may say nothing for seconds.
    options = {
        "ping_interval": 0.0,
        "randomize_servers": False,
        "connect_timeout": 10.0,
        "on_event": log,
        **QUICK,
        **row.options,
    }
    with Peer(script_of(row)) as hostile, Peer(HEALTHY) as healthy:
        async with leg.connect([hostile.url, healthy.url], **options) as client:
            sub = await client.subscribe("s.1")
            await (await client.subscribe("s.2")).unsubscribe()
            limited = await client.subscribe("s.3", max_msgs=1)
            survivor = hostile if row.ends is None else healthy
            await in_thread(survivor.wait_until_finished)
            messages = []
            while (message := await sub.next(timeout=30)).data != b"good":
                messages.append(message)
            assert client.connected_url == survivor.url
            if isinstance(row.delivered, int):
                assert len(messages) == row.delivered
            else:
                assert [message.data for message in messages] == list(row.delivered)
            if row.check_messages is not None:
                row.check_messages(messages)
            got = await limited.next_batch(9, timeout=30) if row.limited else []
            assert [message.data for message in got] == list(row.limited)
            assert limited.pending == (0, 0)
            if row.check_stats is not None:
                row.check_stats(client.stats)
            await check_end(row, client, hostile, log)
            await check_reports(row, log)
    assert log.names[-1] == "Closed"
    for record in caplog.records:
        assert record.levelno <= logging.WARNING, record.getMessage()
        assert record.name in ("nats_sync", "nats_anyio")
        assert record.getMessage().isprintable()


async def check_end(row: Row, client: object, hostile: Peer, log: EventLog) -> None:
    if row.ends is None:
        assert client.status is SessionStatus.CONNECTED
        assert not log.of(Disconnected)
        return
    error = client.last_error
    assert type(error) is row.ends
    assert row.text in str(error)
    assert str(error).isprintable()
    await eventually(lambda: hostile.connections[0].sock.fileno() == -1, "the old transport is closed")
    assert len(hostile.connections) == 1
    if row.moment is Moment.OPEN:
        await log.wait(Reconnected)
        assert [event.error for event in log.of(Disconnected)] == [error]
    else:
        assert not log.of(Disconnected)
    if row.moment is Moment.GREETING and not row.bytes().startswith(b"INFO {"):
        assert hostile.connections[0].received == b""


async def check_reports(row: Row, log: EventLog) -> None:
    def reports() -> list[object]:
        return [event for event in log if isinstance(event, REPORTS)]

    if row.ends is None or row.moment is Moment.OPEN:
        await eventually(lambda: [kind for kind, _ in groupby(map(type, reports()))] == list(row.reports), str(reports))
    if row.reports and row.ends is None and row.text:
        assert row.text in str(getattr(reports()[0], "error", ""))
    if row.check_events is not None and row.moment is Moment.OPEN:
        for attempt in range(100):
            try:
                row.check_events(reports())
                break
            except AssertionError:  # more of the same may still be on their way to the hook
                if attempt == 99:
                    raise
                await anyio.sleep(0.02)


# --- what is not one string of bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"INFO {", greeting()], ids=["nothing", "half", "info-only"])
async def test_h1_a_silent_server_is_left_for_the_next(leg: Leg, said: bytes) -> None:
    with Peer([send(said), hold()]) as silent, Peer(HEALTHY) as healthy:
        began = time.monotonic()
        async with leg.connect([silent.url, healthy.url], randomize_servers=False, connect_timeout=1.5) as client:
            assert time.monotonic() - began >= 1.49
            assert client.connected_url == healthy.url
            assert type(client.last_error) is NATSTimeoutError


async def test_h1_alone_it_is_the_error(leg: Leg) -> None:
    with Peer([hold()]) as silent:
        with anyio.fail_after(PATIENCE), pytest.raises(NoServersError, match="INFO"):
            async with leg.connect(silent.url, connect_timeout=0.2):
                pass
        await eventually(lambda: silent.connections[0].sock.fileno() == -1)


async def test_h6_a_trickle_does_not_prolong_the_handshake(leg: Leg) -> None:
    def trickle(connection: Connection) -> None:
        for byte in greeting() * 10:
            connection.send(bytes([byte]))
            connection.peer._over.wait(0.01)

    with Peer([trickle]) as slow, Peer(HEALTHY) as healthy, anyio.fail_after(PATIENCE):
        async with leg.connect([slow.url, healthy.url], randomize_servers=False, connect_timeout=1.5) as client:
            assert client.connected_url == healthy.url
            assert type(client.last_error) is NATSTimeoutError


async def test_h18_a_lame_duck_that_greets_is_left_for_another(leg: Leg) -> None:
    log = EventLog()
    answers = [expect(b"PING\r\n"), send(b"PONG\r\n"), hold()]  # the one behind the subscriptions, or the last UNSUB
    with (
        Peer([handshake(ldm=True), *answers]) as duck,
        Peer([handshake(server_id="another"), *answers]) as healthy,
    ):
        async with leg.connect([duck.url, healthy.url], randomize_servers=False, on_event=log, **QUICK) as client:
            await log.wait(Reconnected)
            assert client.connected_url == healthy.url
    assert log.of(LameDuckMode)[0].migrating


async def test_h34_a_message_that_trickles_in_ends_as_stale(leg: Leg) -> None:
    log = EventLog()

    def trickle(connection: Connection) -> None:
        connection.send(b"MSG s.1 1 60000000\r\n")
        while True:
            connection.send(b"x" * 1024)
            connection.peer._over.wait(0.01)

    script = [handshake(), expect(b"SUB s.1 1\r\n"), trickle]
    with Peer(script) as slow, Peer([handshake(), loop(*PONGS)]) as healthy:
        options = {"ping_interval": 0.1, "max_pings_out": 2, "randomize_servers": False, "on_event": log, **QUICK}
        async with leg.connect([slow.url, healthy.url], **options) as client:
            _held = await client.subscribe("s.1")
            event = await log.wait(Disconnected)
            assert type(event.error) is StaleConnectionError
            await eventually(lambda: client.connected_url == healthy.url)


@pytest.mark.parametrize("reply", ["s." + "x" * 30_000, "a.*", ">"], ids=["long", "star", "all"])
async def test_h41_respond_validates_what_the_peer_gave(leg: Leg, reply: str) -> None:
    script = [handshake(), expect(b"SUB s.1 1\r\n"), send(b"MSG s.1 1 %b 2\r\nhi\r\n" % reply.encode()), hold()]
    with Peer(script) as peer:
        async with leg.connect(peer.url) as client, client.subscribe("s.1") as sub:
            message = await sub.next(timeout=30)
            assert message.reply == reply
            with pytest.raises((MaxControlLineError, ValueError)):
                await message.respond(b"yes")
            assert b"PUB" not in peer.connections[0].received


async def test_h50_bad_utf8_in_a_header_cannot_be_sent_on(leg: Leg) -> None:
    block = b"NATS/1.0\r\nA: caf\xe9\r\n\r\n"
    line = b"HMSG s.1 1 %d %d\r\n%b\r\n" % (len(block), len(block), block)
    with Peer([handshake(), expect(b"SUB s.1 1\r\n"), send(line), hold()]) as peer:
        async with leg.connect(peer.url) as client, client.subscribe("s.1") as sub:
            message = await sub.next(timeout=30)
            with pytest.raises(InvalidHeaderError):
                await client.publish("s.2", headers=message.headers)
            assert client.stats.out_msgs == 0


async def test_h56_a_flood_of_pings_from_a_peer_that_does_not_read(leg: Leg) -> None:
    script = [handshake(), send(b"PING\r\n" * 500_000), freeze(), send(AFTER), expect(b"PONG\r\n")]
    with Peer(script, rcvbuf=4096) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client, client.subscribe("s.1") as sub:
            peer.release()
            assert (await sub.next(timeout=PATIENCE)).data == b"good"
            await in_thread(peer.wait_until_finished)
            assert client.stats.reconnects == 0


async def test_h57_pongs_nobody_asked_for_complete_no_flush(leg: Leg) -> None:
    unasked = [handshake(), expect(b"SUB s.1 1\r\n"), send(b"PONG\r\n" * 1000 + GOOD)]
    with Peer([*unasked, expect(b"PUB now 0"), expect(b"PING\r\n"), hold()]) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client, client.subscribe("s.1") as sub:
            assert (await sub.next(timeout=30)).data == b"good"  # they were read
            await client.publish("now")
            with pytest.raises(NATSTimeoutError):
                await client.flush(timeout=0.1)


async def test_h61_the_same_refusal_twice_gives_up_on_the_server(leg: Leg) -> None:
    log = EventLog()
    refusal = [send(greeting()), expect(b"PING\r\n"), send(b"-ERR 'authorization violation'\r\n")]
    with Peer(refusal, again=True) as liar:
        with pytest.raises(NoServersError, match=r"(?i)authorization violation"):
            async with leg.connect(liar.url, on_event=log):
                pass
        assert len(liar.connections) == 1
    with Peer(refusal, again=True) as liar:
        async with leg.connect(liar.url, on_event=log, retry_on_failed_connect=True, **QUICK) as client:
            closed = await log.wait(Closed, count=2)
            assert client.status is SessionStatus.CLOSED
            assert isinstance(closed.error, NoServersError)
        assert len(liar.connections) == 2


async def test_h63_a_million_empty_messages_to_a_slow_subscription(leg: Leg) -> None:
    log = EventLog()
    flood = b"MSG s.1 1 0\r\n\r\n" * 10_000
    script = [handshake(), expect(b"SUB s.2 2\r\n"), *[send(flood)] * 100, send(b"MSG s.2 2 4\r\ngood\r\nPING\r\n")]
    with Peer([*script, expect(b"PONG\r\n")]) as peer:
        async with leg.connect(peer.url, on_event=log, ping_interval=0, max_pending_msgs=5000) as client:
            slow = await client.subscribe("s.1")
            other = await client.subscribe("s.2")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert (await other.next(timeout=30)).data == b"good"
            await in_thread(peer.wait_until_finished)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < 32 * 1024  # KiB; the messages would take ten times that
            assert slow.pending[0] == 5000
            assert slow.dropped == 995_000
            assert [event.sid for event in log.of(SlowConsumer)] == [slow.sid]


async def test_h23_a_line_without_end_is_not_kept(leg: Leg) -> None:
    data = b"MSG " + b"a" * 16 * 1024 * 1024
    with Peer([handshake(), hold(), send(data)], [handshake(), hold()]) as peer:
        async with leg.connect(peer.url, ping_interval=0, **QUICK) as client:
            tracemalloc.start()
            try:
                peer.release()
                await eventually(lambda: client.stats.reconnects == 1)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            # The peer's notes and the read buffers of loop and client; far from the line.
            assert peak < 4 * 1024 * 1024
