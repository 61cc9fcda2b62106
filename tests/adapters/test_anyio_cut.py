"""What the anyio client writes when, and after a cut again: to the byte, what the system had not taken."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace

import anyio
import pytest

import nats_anyio
from nats_anyio._engine import dial as _dial
from nats_anyio._engine import writer as _writer
from nats_proto import SessionStatus
from nats_proto.errors import NATSTimeoutError
from tests.adapters.cancelling import watched
from tests.adapters.legs import PATIENCE, QUICK, eventually, stands_still
from tests.faults.peer import PONGS, Connection, Peer, close, freeze, handshake, loop, reset

pytestmark = pytest.mark.anyio

REQUEST = re.compile(rb"PUB (\S+) (_INBOX\S+) (\d+)\r\n")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def echo(connection: Connection) -> None:
    """Answer one request with its own payload."""
    match = REQUEST.match(connection.expect(REQUEST))
    assert match is not None
    payload = connection.expect(re.compile(rb"[^\r]{%b}\r\n" % match[3], re.DOTALL))
    connection.send(b"MSG %b 1 %b\r\n%b" % (match[2], match[3], payload))


def read_all(connection: Connection) -> None:
    """Read until the client ends the connection."""
    while True:
        connection.read()


class Sockets:
    """The client's own sockets (an event loop has others), with what they were given to send; and how they fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.gathered = 0
        """Calls that were given several pieces."""
        self.limit: Callable[[], int | None] = lambda: None
        """How much the system takes next; 0: it would have to wait, None: all."""
        self.failure: tuple[str, int] | None = None
        """The next call of this name fails with this code."""
        outer = self

        class Socket(socket.socket):
            def send(self, data: bytes | memoryview, *flags: int) -> int:  # type: ignore[override]
                outer.fail("send")
                limit = outer.limit()
                if limit == 0:
                    raise BlockingIOError(errno.EAGAIN, "again")
                outer.sizes.append(len(data))
                return super().send(data if limit is None else memoryview(data)[:limit], *flags)

            def sendmsg(self, pieces: Iterable[bytes | memoryview]) -> int:  # type: ignore[override]
                taken = list(pieces)
                assert 1 < len(taken) <= _writer.MAX_PIECES
                outer.gathered += 1
                return self.send(b"".join(taken))

            def recv(self, size: int, *flags: int) -> bytes:
                outer.fail("recv")
                return super().recv(size, *flags)

        monkeypatch.setattr(_dial, "socket", SimpleNamespace(**{**vars(socket), "socket": Socket}))

    def fail(self, call: str) -> None:
        if self.failure is not None and self.failure[0] == call:
            code = self.failure[1]
            self.failure = None
            raise OSError(code, os.strerror(code))


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    return Sockets(monkeypatch)


# --- what is written at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["request", "flush", "rtt", "request_many"])
async def test_what_is_waited_for_is_written_by_who_asks(url: str, sockets: Sockets, what: str) -> None:
    async with nats_anyio.connect(url) as other, nats_anyio.connect(url) as nc:
        await other.subscribe("echo", callback=lambda message: message.respond(message.data))
        await other.flush()
        await nc.request("echo")
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "request": lambda: nc.request("echo"),
            "flush": nc.flush,
            "rtt": nc.rtt,
            "request_many": lambda: anext(nc.request_many("echo")),
        }
        sockets.sizes.clear()
        seen: list[int] = []
        await watched(calls[what], lambda: seen.append(len(sockets.sizes)))
        assert seen == [1]


class Clock:
    """The system's, as the writer reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(_writer, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


ONE = len(b"PUB a 1\r\nx\r\n")


async def test_publishing_in_a_loop_writes_the_first_and_then_all_others(
    url: str, sockets: Sockets, clock: Clock
) -> None:
    async with nats_anyio.connect(url) as nc:
        for first in ([ONE], []):  # the second burst is known to be one
            await nc.flush()
            clock.now += 1.0
            sockets.sizes.clear()
            for _ in range(100):
                await nc.publish("a", b"x")
            assert sockets.sizes == first
            await nc.flush()
            assert sockets.sizes == [*first, (100 - len(first)) * ONE + len(b"PING\r\n")]


@pytest.mark.parametrize("headers", [None, {"a": "b"}])
async def test_a_publish_that_comes_alone_is_written_by_its_caller(
    url: str, sockets: Sockets, clock: Clock, headers: dict[str, str] | None
) -> None:
    async with nats_anyio.connect(url) as nc:
        await nc.flush()
        for number in range(1, 4):
            clock.now += 1.0
            if number == 1:
                sockets.sizes.clear()
            await nc.publish("a", b"x", headers=headers)
            assert len(sockets.sizes) == number
            assert nc._hub.session.pending_bytes == 0


async def test_a_publish_that_comes_alone_after_a_burst_is_the_last_to_be_gathered(
    url: str, sockets: Sockets, clock: Clock
) -> None:
    async with nats_anyio.connect(url) as nc:
        await nc.flush()
        clock.now += 1.0
        for _ in range(3):  # one after the other with no time between them: the second and the third are a burst
            await nc.publish("a", b"x")
        assert nc._hub.session.pending_bytes == 2 * ONE
        await eventually(lambda: nc._hub.session.pending_bytes == 0)
        for written_at_once in (False, True, True):
            clock.now += 1.0
            await eventually(lambda: nc._writer.idle is not None)
            await nc.publish("a", b"x")
            assert (nc._hub.session.pending_bytes == 0) is written_at_once
            await eventually(lambda: nc._hub.session.pending_bytes == 0)


async def test_a_publish_behind_what_the_system_does_not_take_waits_for_its_turn(
    url: str, sockets: Sockets, clock: Clock
) -> None:
    async with nats_anyio.connect(url) as nc, nc.subscribe("a") as sub:
        await nc.flush()
        left = 5
        sockets.limit = lambda: left
        clock.now += 1.0
        await nc.publish("a", b"1")
        left = 0
        for number in (b"2", b"3"):
            clock.now += 1.0
            await nc.publish("a", number)
        left = 1000
        assert [(await sub.next(timeout=PATIENCE)).data for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_request_takes_along_what_waits(url: str, sockets: Sockets, clock: Clock) -> None:
    async with nats_anyio.connect(url) as nc, nc.subscribe("a") as sub:
        await nc.flush()
        sockets.sizes.clear()
        await nc.publish("a", b"1")
        await nc.publish("a", b"2")
        with pytest.raises(nats_anyio.errors.NoRespondersError):
            await nc.request("nobody")
        assert len(sockets.sizes) == 1
        assert [(await sub.next(timeout=PATIENCE)).data for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize("gathers", [True, False], ids=["several pieces at once", "piece by piece"])
@pytest.mark.parametrize("limit", [None, 60_001, 131_000], ids=str)
async def test_large_payloads_come_whole_and_in_order(
    url: str, sockets: Sockets, monkeypatch: pytest.MonkeyPatch, limit: int | None, gathers: bool
) -> None:
    monkeypatch.setattr(_writer, "GATHERS", gathers)
    payloads = [b"%d" % number * (100_000 if number % 3 else 1) for number in range(10)] * 30
    async with nats_anyio.connect(url) as other, nats_anyio.connect(url) as nc:
        sub = await other.subscribe("large", max_pending_msgs=0, max_pending_bytes=0)
        await other.flush()
        sockets.limit = lambda: limit
        for payload in payloads:
            await nc.publish("large", payload)
        for payload in payloads:
            assert (await sub.next(timeout=PATIENCE)).data == payload
        assert (sockets.gathered > 0) is gathers


async def test_requests_of_many_tasks_are_written_together(url: str, sockets: Sockets) -> None:
    async with nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        await other.subscribe("echo", callback=lambda message: message.respond(message.data))
        await other.flush()
        await nc.request("echo")
        await nc.flush()
        sockets.sizes.clear()
        async with anyio.create_task_group() as group:
            for n in range(50):
                group.start_soon(nc.request, "echo", b"%03d" % n)
        size = len("PUB echo ") + len(nc.new_inbox()) + 17 + len(" 3\r\n000\r\n")
        assert [each for each in sockets.sizes if each >= size][:2] == [size, 49 * size]


# --- what the system does not take at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 0], ids=["byte by byte", "in sevens", "now and then nothing"])
async def test_the_rest_is_left_to_the_writer(url: str, sockets: Sockets, limit: int) -> None:
    times = 0

    def at_most() -> int:
        nonlocal times
        times += 1
        return times % 3 if limit == 0 else limit

    async with nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        await other.subscribe("echo", callback=lambda message: message.respond(message.data))
        await other.flush()
        sockets.limit = at_most
        for n in range(10):
            await nc.publish("elsewhere", b"x" * n)
            assert (await nc.request("echo", b"%d" % n, timeout=PATIENCE)).data == b"%d" % n
        await nc.flush()
        assert nc.stats.reconnects == 0


@pytest.mark.parametrize("size", [10, 900_000])
async def test_a_request_to_a_peer_that_reads_late(size: int) -> None:
    """Its beginning is written by who asks, its end by the writer, and nothing comes in between."""
    with Peer([handshake(), freeze(), loop(echo)], rcvbuf=4096) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
            answers: list[bytes] = []

            async def ask(number: int) -> None:
                answers.append((await nc.request("q", b"%d" % number * size, timeout=PATIENCE)).data)

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(ask, number)
                await eventually(lambda: nc._hub.requests)
                peer.release()
            assert sorted(answers) == [b"%d" % number * size for number in range(3)]


async def test_a_request_that_is_given_up_right_after_it_was_written() -> None:
    with Peer([handshake(), loop(echo)]) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
            for number in range(20):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await nc.request("q", b"given up")
                assert scope.cancelled_caught
                assert nc._hub.session.pending_requests == 0
                assert (await nc.request("q", b"%d" % number, timeout=PATIENCE)).data == b"%d" % number
            assert nc.stats.in_msgs == 40


# --- the cut -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 70_000], ids=["joined", "pieces"])
async def test_what_the_system_took_whole_is_all_that_is_not_written_again(size: int) -> None:
    """Not one operation is lost, none is written twice: the first peer reads all that was handed over."""
    with Peer([handshake(), freeze(), read_all], [handshake(), loop(*PONGS)], rcvbuf=4096) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0, **QUICK) as nc:
            published = 0

            async def publish() -> None:
                nonlocal published
                while True:
                    await nc.publish("numbers", b"<%d>" % published + b"x" * size)
                    published += 1

            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                await stands_still(lambda: published)
                group.cancel_scope.cancel()
            await nc.reconnect()
            peer.release()
            await eventually(lambda: nc.status is SessionStatus.CONNECTED)
            await nc.flush(timeout=PATIENCE)
            await eventually(peer.connections[0].ended.is_set)
        whole = re.compile(rb"PUB numbers \d+\r\n<(\d+)>x{%d}\r\n" % size)
        first, second = (
            [int(number) for number in whole.findall(connection.received)] for connection in peer.connections
        )
        assert first + second == list(range(published))
        assert len(second) > 0


@pytest.mark.parametrize("end", [close(), reset()], ids=["close", "reset"])
async def test_a_request_on_a_connection_that_has_ended_unnoticed(end: Callable[[Connection], None]) -> None:
    """Writing finds out before reading does. What was not taken is written to the next connection."""
    with Peer([handshake(), echo, end], [handshake(), loop(echo)]) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0, **QUICK) as nc:
            assert (await nc.request("q", b"1", timeout=PATIENCE)).data == b"1"
            assert peer.connections[0].ended.wait(PATIENCE)  # the event loop stands still meanwhile
            for _ in range(3):
                await nc.publish("a", b"x")  # a closed peer answers the first with a reset
                nc._writer.write_now()
            try:
                assert (await nc.request("q", b"2", timeout=2.0)).data == b"2"
            except NATSTimeoutError:
                assert b"2\r\n" not in peer.connections[1].received  # the system had taken it
            assert (await nc.request("q", b"3", timeout=PATIENCE)).data == b"3"
            assert nc.stats.reconnects == 1


CODES = [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENOBUFS, errno.EBADF, errno.EIO]


@pytest.mark.parametrize("by", ["request", "writer"])
@pytest.mark.parametrize("code", CODES)
async def test_every_failure_to_send_is_a_reconnect(url: str, sockets: Sockets, code: int, by: str) -> None:
    """What the system refused was not handed over: it comes with the next connection."""
    async with nats_anyio.connect(url) as other, nats_anyio.connect(url, **QUICK) as nc:
        await other.subscribe("echo", callback=lambda message: message.respond(message.data))
        await other.flush()
        sub = await nc.subscribe("a")
        await nc.request("echo")
        sockets.failure = ("send", code)
        if by == "request":
            assert (await nc.request("echo", b"1", timeout=PATIENCE)).data == b"1"
        else:
            await nc.publish("a", b"1")
            assert (await sub.next(timeout=PATIENCE)).data == b"1"
        assert nc.stats.reconnects == 1
        assert os.strerror(code) in str(nc.last_error)
        await nc.flush()
        assert nc._hub.session.pending_bytes == 0


@pytest.mark.parametrize("code", CODES)
async def test_every_failure_to_receive_is_a_reconnect(url: str, sockets: Sockets, code: int) -> None:
    async with nats_anyio.connect(url, **QUICK) as nc:
        sub = await nc.subscribe("a")
        await nc.flush()
        sockets.failure = ("recv", code)
        await nc.publish("a", b"1")
        await eventually(lambda: nc.stats.reconnects == 1)
        assert os.strerror(code) in str(nc.last_error)
        await nc.publish("a", b"2")
        assert (await sub.next(timeout=PATIENCE)).data == b"2"
