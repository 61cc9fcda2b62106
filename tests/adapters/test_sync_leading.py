"""A caller who leads: it takes its own answer and nothing else, and whatever happens to it, the reader goes on."""

from __future__ import annotations

import contextlib
import select
import threading
import time

import pytest

from nats_proto import Disconnected
from nats_proto.errors import NATSTimeoutError, NoRespondersError
from nats_sync._engine import turns as _turns
from nats_sync._engine.turns import Lead, Patrol, Turn, Turns
from nats_sync.testing import LocalServer
from tests.adapters.leading import (
    ECHO,
    MARK,
    always,
    answers,
    at,
    can_be_led,
    in_background,
    leads,
    leads_of,
    replies,
    silent,
    tireless,
    undisturbed,
)
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.faults.peer import PONGS, Connection, Peer, handshake, hold, loop, reset

__all__ = ["always", "tireless", "undisturbed"]  # fixtures

pytestmark = MARK


# --- what a leader takes ---------------------------------------------------------------------------------------------


def test_a_lone_request_wakes_nobody(server: LocalServer, undisturbed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    begin = Turns.begin
    with connect(server) as client, connect(server) as other:
        other.subscribe("echo", callback=lambda message: message.respond(message.data))
        other.flush()
        for n in range(20):
            client.request("echo", b"%d" % n, timeout=PATIENCE)
        monkeypatch.setattr(
            Turns, "begin", lambda self: (woken.append(1) if self is client._turns else None, begin(self))[1]
        )
        for n in range(200):
            assert client.request("echo", b"%d" % n, timeout=PATIENCE).data == b"%d" % n
        assert len(woken) < 100  # only where a request was sent before the manager had gone to sleep
        before = client.stats
        with pytest.raises(NoRespondersError):
            client.request("nobody", timeout=PATIENCE)
        assert (client.stats.in_msgs, client.stats.dropped_replies) == (before.in_msgs + 1, 0)
        assert client._hub.session.pending_requests == 0


@pytest.mark.parametrize(
    ("segments", "numbers"),
    [
        ([b"@"], []),
        ([b"MSG n 2 1\r\n1\r\n", b"@"], [1]),
        ([b"MSG n 2 1\r\n1\r\n@"], [1]),
        ([b"@MSG n 2 1\r\n1\r\n"], [1]),
        ([b"@", b"MSG n 2 1\r\n1\r\n"], [1]),
        ([b"MSG n 2 1\r\n1\r\nMSG n 2 1\r\n2\r\n@MSG n 2 1\r\n3\r\n", b"MSG n 2 1\r\n4\r\n"], [1, 2, 3, 4]),
        ([b"@PING\r\n"], []),
        ([b"PING\r\n@"], []),
        ([b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n@"], []),
        ([b"MSG n 2 1\r\n1\r", b"\n@"], [1]),
    ],
)
def test_what_is_around_an_answer_goes_to_the_reader_in_order(
    always: None, segments: list[bytes], numbers: list[int]
) -> None:
    steps = [handshake(), answers(b"@"), loop(answers(*segments))]
    with Peer(steps) as peer, connect(peer.url, ping_interval=0) as client:
        hub = client._hub
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        sub = client.subscribe("n")
        assert sub.sid == 2
        for _ in range(4):
            assert client.request("q", timeout=PATIENCE).data == b"OK"
        for _ in range(4 if numbers else 0):
            assert [int(sub.next(timeout=PATIENCE).data) for _ in numbers] == numbers
        assert hub.session.pending_requests == 0
        assert client.stats.reconnects == 0


@pytest.mark.parametrize("cut", [1, 10, -9, -3, -1])
def test_an_answer_in_two_parts(always: None, cut: int) -> None:
    def step(connection: Connection) -> None:
        answer = b"MSG %b 1 5\r\nwhole\r\n" % replies(connection).encode()
        connection.send(answer[:cut])
        eventually(lambda: not leads(client))  # the part has ended its turn
        connection.send(answer[cut:])

    with Peer([handshake(), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        for _ in range(3):
            assert client.request("q", timeout=PATIENCE).data == b"whole"


def test_the_answer_to_another_comes_first(always: None) -> None:
    """And both have to be given to whom they belong."""
    asked: list[str] = []

    def step(connection: Connection) -> None:
        asked.append(replies(connection))
        asked.append(replies(connection))
        for number in (1, 0):
            connection.send(b"MSG %b 1 1\r\n%d\r\n" % (asked[number].encode(), number))

    with Peer([handshake(), step]) as peer, connect(peer.url, ping_interval=0) as client:
        first, first_outcome = in_background(lambda: client.request("q", timeout=PATIENCE).data)
        eventually(lambda: asked)
        assert client.request("q", timeout=PATIENCE).data == b"1"
        first.join()
        assert first_outcome == [b"0"]


def test_a_payload_that_looks_like_the_answer(always: None) -> None:
    """The caller leads while the reader has had the beginning of somebody's message."""
    begun = threading.Event()

    def step(connection: Connection) -> None:
        answers(b"@")(connection)
        connection.expect(b"SUB n 2\r\n")
        length = len(b"MSG _INBOX.1234567890123456789012.1234567890123456 1 4\r\nfake\r\n")
        connection.send(b"MSG n 2 %d\r\n" % length)
        eventually(lambda: client._hub.session._link.connection._parser._phase.name == "DATA")  # type: ignore[union-attr]
        begun.set()
        reply = replies(connection).encode()
        fake = b"MSG %b 1 4\r\nfake\r\n" % reply
        assert len(fake) == length
        connection.send(fake)
        eventually(lambda: not leads(client))
        connection.send(b"\r\nMSG %b 1 4\r\ntrue\r\n" % reply)

    with Peer([handshake(), step]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        sub = client.subscribe("n")
        assert begun.wait(PATIENCE)
        assert client.request("q", timeout=PATIENCE).data == b"true"
        assert sub.next(timeout=PATIENCE).data.endswith(b"fake\r\n")


def test_a_large_answer(server: LocalServer) -> None:
    with connect(server) as client, connect(server) as other:
        other.subscribe("echo", callback=lambda message: message.respond(message.data))
        other.flush()
        for size in (0, 1, _turns.LEAD_SIZE - 100, _turns.LEAD_SIZE, 900_000):
            data = bytes(size)
            assert client.request("echo", data, timeout=PATIENCE).data == data


def test_leading_is_left_alone_where_it_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy connection: each answer comes with something else."""
    # Nothing else is to go wrong: on a busy machine an answer may take longer than a leader waits.
    monkeypatch.setattr(_turns, "LEAD", PATIENCE)
    monkeypatch.setattr(_turns, "PATROL", PATIENCE)
    busy = threading.Event()
    busy.set()

    def step(connection: Connection) -> None:
        reply = replies(connection).encode()
        connection.send((b"MSG n 2 1\r\n1\r\n" if busy.is_set() else b"") + b"MSG %b 1 2\r\nOK\r\n" % reply)

    with Peer([handshake(), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        turns = client._turns
        took: list[bool] = []
        lead = turns.lead

        def counted() -> Lead | None:
            taken = lead()
            took.append(taken is not None)
            return taken

        monkeypatch.setattr(turns, "lead", counted)
        for _ in range(200):
            client.request("q", timeout=PATIENCE)
        assert 1 <= sum(took) <= 10
        busy.clear()
        for _ in range(1000):
            client.request("q", timeout=PATIENCE)
        assert sum(took) > 100


@pytest.mark.parametrize("timeout", [0.0, -1.0, 1e-9, 0.02])
def test_a_request_whose_time_is_up_while_it_leads(always: None, timeout: float) -> None:
    with Peer([handshake(), silent, ECHO]) as peer, connect(peer.url, ping_interval=0) as client:
        with pytest.raises(NATSTimeoutError):
            client.request("q", timeout=timeout)
        assert not leads(client)
        assert client.request("q", timeout=PATIENCE).data == b"OK"


@pytest.mark.parametrize("lacks", ["epoll", "EPOLLEXCLUSIVE"])
def test_where_the_system_cannot_choose_whom_to_wake_nobody_leads(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    if lacks == "epoll":
        monkeypatch.delattr(select, "epoll")
    else:
        monkeypatch.setattr(select, lacks, select.EPOLLONESHOT | select.EPOLLEXCLUSIVE)  # which no Linux takes together
    with connect(server) as client:
        client.subscribe("echo", callback=lambda message: message.respond(message.data))
        for n in range(20):
            assert client.request("echo", b"%d" % n, timeout=PATIENCE).data == b"%d" % n
            assert not leads(client)
        client.reconnect()
        eventually(lambda: client.stats.reconnects == 1)
        assert client.request("echo", b"x", timeout=PATIENCE).data == b"x"


# --- the end of a lead -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "reconnect", "reset", "drain"])
def test_the_connection_ends_while_a_caller_leads(always: None, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(_turns, "LEAD", 0.3)
    go = threading.Event()

    def wait(_: Connection) -> None:
        assert go.wait(PATIENCE)

    first = [handshake(), silent, wait if end == "reset" else hold(), reset()]
    with Peer(first, [handshake(), ECHO]) as peer:
        client = connect(peer.url, ping_interval=0, fail_requests_on_disconnect=True)
        eventually(lambda: can_be_led(client))
        has_led = leads_of(client)
        thread, outcome = in_background(lambda: client.request("q", timeout=PATIENCE))
        eventually(lambda: has_led)  # and leads still, if the machine has not stood still
        if end == "reset":
            go.set()
        elif end == "drain":
            with contextlib.suppress(NATSTimeoutError):
                client.drain(timeout=0.05)
        else:
            getattr(client, end)()
        thread.join(PATIENCE)
        assert len(outcome) == 1
        assert isinstance(outcome[0], Exception)
        assert not leads(client)
        if end in ("reset", "reconnect"):
            eventually(lambda: client.stats.reconnects == 1)
            assert client.request("q", timeout=PATIENCE).data == b"OK"
        client.close()


def test_the_reader_sleeps_between_attempts_after_a_leader_has_lost_its_connection(
    undisturbed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader wakes when there is nothing to look at any more."""
    monkeypatch.setattr(_turns, "LEAD", 0.2)
    sleeps: list[float | None] = []
    wait = Turns.wait
    monkeypatch.setattr(Turns, "wait", lambda self, seconds: (sleeps.append(seconds), wait(self, seconds))[1])
    with (
        Peer([handshake(), answers(b"@"), silent, hold()], [handshake(), ECHO]) as peer,
        connect(peer.url, ping_interval=0, reconnect_wait=0.6, reconnect_jitter=0) as client,
    ):
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        eventually(lambda: can_be_led(client))
        has_led = leads_of(client)
        thread, outcome = in_background(lambda: client.request("q", timeout=0.3))
        eventually(lambda: has_led)
        client._hub.call(lambda: client._hub.session.transport_lost(OSError("gone"), now=time.monotonic()))
        thread.join()
        assert isinstance(outcome[0], NATSTimeoutError)
        eventually(lambda: client.stats.reconnects == 1)
        assert len(sleeps) < 100
        assert client.request("q", timeout=PATIENCE).data == b"OK"


def test_the_reader_keeps_time_while_callers_lead(always: None) -> None:
    """A PONG that has arrived is seen before a connection is called stale."""
    for _ in range(20):
        events: list[object] = []
        with (
            Peer([handshake(), silent, loop(*PONGS)]) as peer,
            connect(peer.url, ping_interval=0.02, max_pings_out=1, on_event=events.append) as client,
            pytest.raises(NATSTimeoutError),
        ):
            client.request("q", timeout=0.5)
        stale = any(isinstance(event, Disconnected) and event.error is not None for event in events)
        if peer.connections[0].received.count(b"PING\r\n") > 2 and not stale:
            return
    raise AssertionError("each time it was late or called stale")  # once, and rightly so, where the peer is late


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["receive", "receive from the socket", "take the reply", "free"])
def test_a_leader_that_does_not_come_back_is_replaced(
    always: None, monkeypatch: pytest.MonkeyPatch, point: str, when: str
) -> None:
    """It was interrupted, and interrupted again before it could give back what it had."""
    monkeypatch.setattr(Turns, "give_back", lambda _: None)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with Peer([handshake(), ECHO]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        for n in range(3):
            called: list[int] = []
            while not called:  # the reader may be awake for a moment, and then nobody leads
                eventually(lambda: can_be_led(client))
                with at(monkeypatch, point, when, interrupt) as called, contextlib.suppress(KeyboardInterrupt):
                    client.request("q", timeout=PATIENCE)
            eventually(lambda: not leads(client))
            assert client.request("q", timeout=PATIENCE).data == b"OK"
            assert client.stats.in_msgs >= 2 * n + 2


def test_a_leader_that_has_been_replaced_and_still_sleeps(always: None) -> None:
    """It is woken by what arrives next, in the reader's place."""

    def step(connection: Connection) -> None:
        reply = replies(connection).encode()
        eventually(lambda: not leads(client) and client._turns.patrol is Patrol.OFF)
        connection.send(b"MSG n 2 1\r\n1\r\n")
        assert sub.next(timeout=PATIENCE).data == b"1"
        connection.send(b"MSG %b 1 2\r\nOK\r\n" % reply)

    with Peer([handshake(), answers(b"@"), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        sub = client.subscribe("n")
        has_led = leads_of(client)
        for _ in range(3):
            eventually(lambda: can_be_led(client))
            assert client.request("q", timeout=PATIENCE).data == b"OK"
        assert has_led  # once at least: the reader may have been awake


def test_nobody_leads_before_the_reader_has_had_what_was_left(
    undisturbed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the leader would be given something that came later, first."""
    go = threading.Event()
    begin = Turns.begin

    def held_up(self: Turns) -> bool:
        if self.turn is Turn.OWED:
            assert go.wait(PATIENCE)
        return begin(self)

    def step(connection: Connection) -> None:
        first = replies(connection).encode()
        connection.send(b"MSG n 2 1\r\n1\r\n")
        second = replies(connection).encode()
        eventually(lambda: not client._turns.lead())
        go.set()
        connection.send(b"MSG %b 1 1\r\n2\r\nMSG %b 1 1\r\n1\r\n" % (second, first))

    with Peer([handshake(), answers(b"@"), step]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        sub = client.subscribe("n")
        monkeypatch.setattr(Turns, "begin", held_up)
        eventually(lambda: can_be_led(client))
        first, first_outcome = in_background(lambda: client.request("q", timeout=PATIENCE).data)
        eventually(lambda: client._turns.turn is Turn.OWED)
        assert client.request("q", timeout=PATIENCE).data == b"2"
        first.join()
        assert first_outcome == [b"1"]
        assert sub.next(timeout=PATIENCE).data == b"1"


def test_the_reader_that_stood_aside_is_told_at_the_end(undisturbed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes before its caller sleeps, so it is the reader that is woken."""

    def step(connection: Connection) -> None:
        answers(b"@")(connection)
        connection.expect(b"PUB over ")
        connection.send(b"MSG n 2 1\r\n1\r\n")

    with Peer([handshake(), answers(b"@"), step]) as peer, connect(peer.url, ping_interval=0) as client:
        turns = client._turns
        client.request("q", timeout=PATIENCE)
        sub = client.subscribe("n")
        eventually(lambda: can_be_led(client))
        with at(monkeypatch, "receive", "before", lambda: eventually(lambda: turns.turn is Turn.LED_AWAITED)) as called:
            assert client.request("q", timeout=PATIENCE).data == b"OK"
        assert called == [1]
        client.publish("over")
        assert sub.next(timeout=PATIENCE).data == b"1"
