"""A caller who leads: it takes its own answer and nothing else, and whatever happens to it, the reader goes on."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nats_proto import Session
from nats_proto.errors import ConnectionClosedError, InvalidSubjectError, NATSTimeoutError, NoRespondersError
from nats_sync import Client, _pump, _reading, _transport
from nats_sync._pump import Pump
from nats_sync._reading import Lead, ReadingSide
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.adapters.test_sync_processes import in_child
from tests.faults.peer import PONGS, Connection, Peer, Step, handshake, hold, loop, reset

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="without epoll nobody leads")

REQUEST = re.compile(rb"PUB (?P<subject>\S+) (?P<reply>_INBOX\S+) \d+\r\n[^\r]*\r\n")
NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


@pytest.fixture
def tireless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leading is never left alone."""
    monkeypatch.setattr(_reading, "MAX_REST", 0)


@pytest.fixture
def always(tireless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it lasts until something ends it."""
    monkeypatch.setattr(_reading, "LEAD", 60.0)


def replies(connection: Connection) -> str:
    """Where the answer to the next request goes."""
    match = REQUEST.match(connection.expect(REQUEST))
    assert match is not None
    return match["reply"].decode()


def answers(*around: bytes) -> Step:
    """Answer one request with what is around the answer ``@``, each item in a segment of its own."""

    def step(connection: Connection) -> None:
        reply = replies(connection).encode()
        for item in around:
            connection.send(item.replace(b"@", b"MSG %b 1 2\r\nOK\r\n" % reply))

    return step


def silent(connection: Connection) -> None:
    """Take one request and say nothing."""
    replies(connection)


ECHO = loop(answers(b"@"))


def leads(client: Client) -> bool:
    return client._pump.reading._lead is not None


def in_background(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread that calls, and what came of it."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


# --- what a leader takes ---------------------------------------------------------------------------------------------


def test_a_lone_request_wakes_nobody(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    begin = ReadingSide.begin
    with connect(server) as client, connect(server) as other:
        other.subscribe("echo", callback=lambda message: message.respond(message.data))
        other.flush()
        for n in range(20):
            client.request("echo", b"%d" % n, timeout=PATIENCE)
        pump = client._pump
        monkeypatch.setattr(
            ReadingSide, "begin", lambda self: (woken.append(1) if self is pump.reading else None, begin(self))[1]
        )
        for n in range(200):
            assert client.request("echo", b"%d" % n, timeout=PATIENCE).data == b"%d" % n
        # A slow machine may need longer than a leader waits, but not nearly always.
        assert len(woken) < 100
        before = client.stats
        with pytest.raises(NoRespondersError):
            client.request("nobody", timeout=PATIENCE)
        assert (client.stats.in_msgs, client.stats.dropped_replies) == (before.in_msgs + 1, 0)
        assert client._pump.session.pending_requests == 0


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
        pump = client._pump
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        sub = client.subscribe("n")
        assert sub.sid == 2
        for _ in range(4):
            assert client.request("q", timeout=PATIENCE).data == b"OK"
        for _ in range(4 if numbers else 0):
            got = [int(data) for data in (sub.next(timeout=PATIENCE).data for _ in numbers) if data.isdigit()]
            assert got == numbers[: len(got)]
        assert pump.session.pending_requests == 0
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
        asked.extend([replies(connection), replies(connection)])
        for number in (1, 0):
            connection.send(b"MSG %b 1 1\r\n%d\r\n" % (asked[number].encode(), number))

    with Peer([handshake(), step]) as peer, connect(peer.url, ping_interval=0) as client:
        first, first_outcome = in_background(lambda: client.request("q", timeout=PATIENCE).data)
        eventually(lambda: leads(client))
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
        eventually(lambda: client._pump.session._link.connection._parser._phase.name == "DATA")  # type: ignore[union-attr]
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
        for size in (0, 1, _reading.LEAD_SIZE - 100, _reading.LEAD_SIZE, 900_000):
            data = bytes(size)
            assert client.request("echo", data, timeout=PATIENCE).data == data


def test_leading_is_left_alone_where_it_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy connection: each answer comes with something else."""
    busy = threading.Event()
    busy.set()

    def step(connection: Connection) -> None:
        reply = replies(connection).encode()
        connection.send((b"MSG n 2 1\r\n1\r\n" if busy.is_set() else b"") + b"MSG %b 1 2\r\nOK\r\n" % reply)

    with Peer([handshake(), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        reading = client._pump.reading
        took: list[bool] = []
        lead = reading.lead

        def counted() -> Lead | None:
            taken = lead()
            took.append(taken is not None)
            return taken

        monkeypatch.setattr(reading, "lead", counted)
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
    monkeypatch.setattr(_reading, "LEAD", 0.3)
    go = threading.Event()

    def wait(_: Connection) -> None:
        assert go.wait(PATIENCE)

    first = [handshake(), silent, wait if end == "reset" else hold(), reset()]
    with Peer(first, [handshake(), ECHO]) as peer:
        client = connect(peer.url, ping_interval=0, fail_requests_on_disconnect=True)
        thread, outcome = in_background(lambda: client.request("q", timeout=PATIENCE))
        eventually(lambda: leads(client))
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
    always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader wakes when there is nothing to look at any more."""
    monkeypatch.setattr(_reading, "LEAD", 0.2)
    sleeps: list[float | None] = []
    wait = ReadingSide.wait
    monkeypatch.setattr(ReadingSide, "wait", lambda self, seconds: (sleeps.append(seconds), wait(self, seconds))[1])
    with (
        Peer([handshake(), answers(b"@"), silent, hold()], [handshake(), ECHO]) as peer,
        connect(peer.url, ping_interval=0, reconnect_wait=0.6, reconnect_jitter=0) as client,
    ):
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        thread, outcome = in_background(lambda: client.request("q", timeout=0.3))
        eventually(lambda: leads(client))
        client._pump.call(lambda: client._pump.session.transport_lost(OSError("gone"), now=time.monotonic()))
        thread.join()
        assert isinstance(outcome[0], NATSTimeoutError)
        eventually(lambda: client.stats.reconnects == 1)
        assert len(sleeps) < 100
        assert client.request("q", timeout=PATIENCE).data == b"OK"


def test_the_reader_keeps_time_while_callers_lead(always: None) -> None:
    """A PONG that has arrived is seen before a connection is called stale."""
    with (
        Peer([handshake(), silent, loop(*PONGS)]) as peer,
        connect(peer.url, ping_interval=0.02, max_pings_out=1) as client,
        pytest.raises(NATSTimeoutError),
    ):
        client.request("q", timeout=0.5)
    assert client.stats.reconnects == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["receive", "receive from the socket", "take the reply", "free"])
def test_a_leader_that_does_not_come_back_is_replaced(
    always: None, monkeypatch: pytest.MonkeyPatch, point: str, when: str
) -> None:
    """It was interrupted, and interrupted again before it could give back what it had."""
    monkeypatch.setattr(ReadingSide, "give_back", lambda _: None)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with Peer([handshake(), ECHO]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        for n in range(3):
            eventually(lambda: not client._pump.reading._reads and not client._pump.reading._look)
            with at(monkeypatch, point, when, interrupt) as called, pytest.raises(KeyboardInterrupt):
                client.request("q", timeout=PATIENCE)
            assert called == [1]
            eventually(lambda: not leads(client))
            assert client.request("q", timeout=PATIENCE).data == b"OK"
            assert client.stats.in_msgs >= 2 * n + 2


def test_a_leader_that_has_been_replaced_and_still_sleeps(always: None) -> None:
    """It is woken by what arrives next, in the reader's place."""

    def step(connection: Connection) -> None:
        reply = replies(connection).encode()
        eventually(lambda: leads(client))
        eventually(lambda: not leads(client) and not client._pump.reading._patrols)
        connection.send(b"MSG n 2 1\r\n1\r\n")
        assert sub.next(timeout=PATIENCE).data == b"1"
        connection.send(b"MSG %b 1 2\r\nOK\r\n" % reply)

    with Peer([handshake(), answers(b"@"), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        sub = client.subscribe("n")
        for _ in range(3):
            assert client.request("q", timeout=PATIENCE).data == b"OK"


def test_nobody_leads_before_the_reader_has_had_what_was_left(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the leader would be given something that came later, first."""
    go = threading.Event()
    begin = ReadingSide.begin

    def held_up(self: ReadingSide) -> bool:
        if self._look:
            assert go.wait(PATIENCE)
        return begin(self)

    def step(connection: Connection) -> None:
        first = replies(connection).encode()
        connection.send(b"MSG n 2 1\r\n1\r\n")
        second = replies(connection).encode()
        eventually(lambda: not client._pump.reading.lead())
        go.set()
        connection.send(b"MSG %b 1 1\r\n2\r\nMSG %b 1 1\r\n1\r\n" % (second, first))

    with Peer([handshake(), answers(b"@"), step]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        sub = client.subscribe("n")
        monkeypatch.setattr(ReadingSide, "begin", held_up)
        first, first_outcome = in_background(lambda: client.request("q", timeout=PATIENCE).data)
        eventually(lambda: client._pump.reading._look)
        assert client.request("q", timeout=PATIENCE).data == b"2"
        first.join()
        assert first_outcome == [b"1"]
        assert sub.next(timeout=PATIENCE).data == b"1"


def test_the_reader_that_stood_aside_is_told_at_the_end(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes before its caller sleeps, so it is the reader that is woken."""
    monkeypatch.setattr(_reading, "PATROL", 10 * PATIENCE)

    def step(connection: Connection) -> None:
        answers(b"@")(connection)
        connection.expect(b"PUB over ")
        connection.send(b"MSG n 2 1\r\n1\r\n")

    with Peer([handshake(), answers(b"@"), step]) as peer, connect(peer.url, ping_interval=0) as client:
        reading = client._pump.reading
        client.request("q", timeout=PATIENCE)
        sub = client.subscribe("n")
        with at(monkeypatch, "receive", "before", lambda: eventually(lambda: reading._stands_aside)) as called:
            assert client.request("q", timeout=PATIENCE).data == b"OK"
        assert called == [1]
        client.publish("over")
        assert sub.next(timeout=PATIENCE).data == b"1"


# --- a signal handler in the midst of it -----------------------------------------------------------------------------

POINTS: dict[str, tuple[object, str]] = {
    "lead": (ReadingSide, "lead"),
    "take_reply": (ReadingSide, "take_reply"),
    "receive": (Lead, "receive"),
    "receive from the socket": (_transport.Transport, "receiving"),
    "take the reply": (Session, "take_reply"),
    "complete": (Pump, "complete"),
    "free": (ReadingSide, "_free"),
}


@contextlib.contextmanager
def at(monkeypatch: pytest.MonkeyPatch, point: str, when: str, handler: Callable[[], object]) -> Iterator[list[int]]:
    """Call ``handler`` once, in the main thread, before or after what is called at this point; how often it was."""
    holder, name = POINTS[point]
    real = getattr(holder, name)
    called: list[int] = []

    def call(*args: object, **kwargs: object) -> object:
        mine = threading.current_thread() is threading.main_thread() and not called
        if mine and when == "before":
            called.append(1)
            handler()
        result = real(*args, **kwargs)
        if mine and when == "after":
            called.append(1)
            handler()
        return result

    def iterate(*args: object) -> Iterator[bytes]:
        """In the midst of the C call."""
        first = not called
        if first and when == "before":
            called.append(1)
            handler()
        yield from real(*args)
        if first and when == "after":
            called.append(1)
            handler()

    with monkeypatch.context() as patched:
        patched.setattr(holder, name, iterate if name == "receiving" else call)
        yield called


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_an_interrupt_at_each_point_of_a_lead(
    always: None, monkeypatch: pytest.MonkeyPatch, point: str, when: str
) -> None:
    """What arrives right behind the answer, for somebody else, is not lost, whatever becomes of the answer."""
    asked = answered = sent = 0
    go_on = threading.Semaphore(0)

    def step(connection: Connection) -> None:
        nonlocal answered, sent
        answers(b"@")(connection)
        answered += 1
        assert go_on.acquire(timeout=PATIENCE)
        connection.send(b"MSG n 2 1\r\n1\r\n")
        sent += 1

    def more_arrives() -> None:
        go_on.release()
        eventually(lambda: sent == answered == asked)

    def interrupt() -> None:
        if answered == asked:
            more_arrives()
        raise KeyboardInterrupt

    def request() -> bytes:
        nonlocal asked
        eventually(lambda: not client._pump.reading._reads)  # else nobody could lead
        asked += 1
        try:
            return client.request("q", timeout=PATIENCE).data
        finally:
            client._pump.call(lambda: None)  # what an interrupt has left to be written
            eventually(lambda: answered == asked)
            if sent < asked:
                more_arrives()

    with Peer([handshake(), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        request()
        sub = client.subscribe("n")
        for _ in range(3):
            with at(monkeypatch, point, when, interrupt) as called, contextlib.suppress(KeyboardInterrupt):
                request()
            assert called == [1]
            assert client._pump.requests == {}
            assert request() == b"OK"
            assert client._pump.session.pending_requests == 0
            for _ in range(2):
                assert sub.next(timeout=PATIENCE).data == b"1"
            assert not leads(client)
        assert client.stats.reconnects == 0


def test_an_interrupt_of_a_leader_that_has_been_replaced(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was woken in the reader's place, and has not told the reader."""

    def step(connection: Connection) -> None:
        replies(connection)
        eventually(lambda: leads(client))
        eventually(lambda: not leads(client))
        connection.send(b"MSG n 2 1\r\n1\r\n")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with Peer([handshake(), answers(b"@"), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        sub = client.subscribe("n")
        for _ in range(3):
            with at(monkeypatch, "receive from the socket", "before", interrupt), pytest.raises(KeyboardInterrupt):
                client.request("q", timeout=PATIENCE)
            assert sub.next(timeout=PATIENCE).data == b"1"


@pytest.mark.parametrize("use", ["request", "publish", "flush", "next", "another thread"])
@pytest.mark.parametrize("point", ["take_reply", "receive", "receive from the socket"])
def test_a_signal_handler_uses_the_client_in_the_midst_of_a_lead(
    server: LocalServer, tireless: None, monkeypatch: pytest.MonkeyPatch, point: str, use: str
) -> None:
    """It gets what it asks for although the thread below it leads; and so does that thread, afterwards."""
    monkeypatch.setattr(_reading, "LEAD", 0.3)
    got: list[object] = []
    with connect(server) as client, connect(server) as other:
        other.subscribe("echo", callback=lambda message: message.respond(message.data))
        other.flush()
        sub = client.subscribe("own")
        client.request("echo", timeout=PATIENCE)

        def thread_that_asks() -> bytes:
            thread, outcome = in_background(lambda: client.request("echo", b"from it", timeout=PATIENCE).data)
            thread.join()
            assert outcome == [b"from it"]
            return b"from it"

        def next_message() -> bytes:
            client.publish("own", b"1")
            return sub.next(timeout=PATIENCE).data

        uses: dict[str, Callable[[], object]] = {
            "request": lambda: [client.request("echo", b"%d" % n, timeout=PATIENCE).data for n in range(3)],
            "publish": lambda: client.publish("own", b"1"),
            "flush": lambda: client.flush(timeout=PATIENCE),
            "next": next_message,
            "another thread": thread_that_asks,
        }
        for when in ("before", "after"):
            for n in range(3):
                eventually(lambda: not client._pump.reading._reads)  # else nobody could lead
                with at(monkeypatch, point, when, lambda: got.append(uses[use]())) as called:
                    assert client.request("echo", b"outer %d" % n, timeout=PATIENCE).data == b"outer %d" % n
                assert called == [1]
                client.flush(timeout=PATIENCE)
        assert len(got) == 6
        assert client.stats.reconnects == 0
        assert client._pump.session.pending_requests == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["take_reply", "receive", "receive from the socket", "take the reply"])
def test_a_signal_handler_whose_request_is_refused_in_the_midst_of_a_lead(
    always: None, monkeypatch: pytest.MonkeyPatch, point: str, when: str
) -> None:
    """It ends the lead of the thread below it, which takes nothing from then on."""

    def misuse() -> None:
        with pytest.raises(InvalidSubjectError):
            client.request("no subject", timeout=PATIENCE)

    with Peer([handshake(), ECHO]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        for _ in range(3):
            eventually(lambda: not client._pump.reading._reads and not client._pump.reading._look)
            with at(monkeypatch, point, when, misuse) as called:
                assert client.request("q", timeout=PATIENCE).data == b"OK"
            assert called == [1]


def test_a_real_signal_while_a_caller_leads(tireless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reading, "LEAD", 0.3)
    asked = threading.Event()
    handled: list[bytes] = []

    def late(connection: Connection) -> None:
        reply = replies(connection)
        asked.set()
        connection.expect(b"PUB from.the.handler ")
        answers(b"@")(connection)  # the handler's own request
        connection.send(b"MSG %b 1 4\r\nlate\r\n" % reply.encode())

    def send_signal() -> None:
        eventually(lambda: asked.is_set() and leads(client) and client._pump.write_owner == _pump.NOBODY)
        os.kill(os.getpid(), signal.SIGUSR1)

    def handle(*_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        client.publish("from.the.handler")
        handled.append(client.request("q", timeout=PATIENCE).data)

    with Peer([handshake(), late]) as peer, connect(peer.url, ping_interval=0) as client:
        previous = signal.signal(signal.SIGUSR1, handle)
        try:
            helper = threading.Thread(target=send_signal)
            helper.start()
            assert client.request("q", timeout=PATIENCE).data == b"late"
            helper.join()
        finally:
            signal.signal(signal.SIGUSR1, previous)
    assert handled == [b"OK"]


# --- forks -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("where", ["another thread", "the leader"])
def test_a_fork_while_a_caller_leads(always: None, where: str) -> None:
    forked: list[str] = []

    def late(connection: Connection) -> None:
        reply = replies(connection)
        eventually(lambda: forked)
        connection.send(b"MSG %b 1 4\r\nlate\r\n" % reply.encode())

    def check() -> None:
        with pytest.raises(ConnectionClosedError):
            client.request("q")
        client.close()

    def fork(*_: object) -> None:
        forked.append(in_child(check))

    def fork_when_it_leads() -> None:
        eventually(lambda: leads(client))
        if where == "another thread":
            fork()
        else:
            os.kill(os.getpid(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, fork)
    with Peer([handshake(), late, ECHO]) as peer, connect(peer.url, ping_interval=0) as client:
        helper = threading.Thread(target=fork_when_it_leads)
        helper.start()
        assert client.request("q", timeout=PATIENCE).data == b"late"
        helper.join()
        assert forked == [""]
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        assert client.stats.reconnects == 0
    signal.signal(signal.SIGUSR1, previous)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_was_forked_by_the_leader_goes_on_with_its_call(always: None) -> None:
    """Its call ends; it reads nothing of what the parent still waits for."""
    told, teller = os.pipe()

    def late(connection: Connection) -> None:
        reply = replies(connection)
        assert os.read(told, 40) == b"ConnectionClosedError"
        connection.send(b"MSG %b 1 4\r\nlate\r\n" % reply.encode())

    with Peer([handshake(), late]) as peer, connect(peer.url, ping_interval=0) as client:
        children: list[int] = []
        previous = signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
        helper = threading.Thread(
            target=lambda: (eventually(lambda: leads(client)), os.kill(os.getpid(), signal.SIGUSR1))
        )
        helper.start()
        outcome = b""
        try:
            outcome = client.request("q", timeout=PATIENCE).data
        except BaseException as error:
            outcome = type(error).__name__.encode()
        finally:
            if children == [0]:
                os.write(teller, outcome)
                os._exit(0)
        helper.join()
        os.waitpid(children[0], 0)
        signal.signal(signal.SIGUSR1, previous)
        assert outcome == b"late"
    for end in (told, teller):
        os.close(end)
