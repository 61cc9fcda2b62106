"""From names to connections in the threaded client: every address, every moment to give up."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import nats_sync
from nats_proto import SessionStatus
from nats_proto.errors import NATSTimeoutError, NoServersError
from nats_sync._engine.dial import Dialler, Interrupted
from nats_sync._engine.wakeup import Wakeup
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, open_fds, threads_of

Found = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]


class Resolver:
    """Stands in for the system's: names from a table, each of which may hang."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: dict[str, list[tuple[str, int]]] = {}
        self.hanging: set[str] = set()
        self.release = threading.Event()
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, **options: int) -> Found:
        if host not in self.addresses and host not in self.hanging:
            return self._real(host, port, **options)  # type: ignore[arg-type,return-value]
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a literal address")
        self.asked.append(host)
        if host in self.hanging:
            self.release.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self.addresses.get(host, [])]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    stand_in = Resolver(monkeypatch)
    yield stand_in
    stand_in.release.set()


def test_the_next_address_is_tried_when_one_refuses(server: LocalServer, free_port: int, resolver: Resolver) -> None:
    resolver.addresses["two.test"] = [("127.0.0.1", free_port), ("127.0.0.1", server.port)]
    with connect("nats://two.test:4222") as client:
        client.flush()
        assert client.connected_url == "nats://two.test:4222"


def test_an_address_that_does_not_answer_leaves_time_for_the_next(server: LocalServer, resolver: Resolver) -> None:
    with full_listener() as dead:
        resolver.addresses["two.test"] = [("127.0.0.1", dead), ("127.0.0.1", server.port)]
        with connect("nats://two.test:4222", connect_timeout=1.0) as client:
            client.flush()


def test_a_name_is_resolved_again_at_each_attempt(server: LocalServer, resolver: Resolver) -> None:
    with LocalServer() as other:
        resolver.addresses["moves.test"] = [("127.0.0.1", server.port)]
        with connect("nats://moves.test:4222", name="moves") as client:
            assert client.server_info is not None
            assert client.server_info.server_name == server.name
            threads = threads_of("moves")
            assert "nats-moves-resolver" in threads
            resolver.addresses["moves.test"] = [("127.0.0.1", other.port)]
            server.kill()
            eventually(lambda: client.stats.reconnects == 1)
            assert client.server_info.server_name == other.name
            assert threads_of("moves") == threads
            assert len(resolver.asked) >= 2
        assert threads_of("moves") == {}


def test_a_literal_address_needs_no_resolver(server: LocalServer) -> None:
    with connect(server, name="literal"):
        assert "nats-literal-resolver" not in threads_of("literal")


def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, **options: int) -> Found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(NoServersError, match=r"no-such-host\.test.*Name or service not known"):
        connect("nats://no-such-host.test:4222")


def test_a_resolver_that_hangs_ends_the_attempt_in_time(resolver: Resolver, server: LocalServer) -> None:
    resolver.hanging.add("hangs.test")
    servers = ["nats://hangs.test:4222", server.url]
    with nats_sync.connect(servers, randomize_servers=False, connect_timeout=2.0, name="hangs") as client:
        assert client.connected_url == server.url
        error = client.last_error
        assert isinstance(error, NATSTimeoutError)
        assert "hangs.test" in str(error)
    assert set(threads_of("hangs")) <= {"nats-hangs-resolver"}  # the system's call cannot be ended, only left
    resolver.release.set()
    eventually(lambda: threads_of("hangs") == {})


def test_close_does_not_wait_for_a_resolver_that_hangs(resolver: Resolver, server: LocalServer) -> None:
    resolver.addresses["later.test"] = [("127.0.0.1", server.port)]
    client = connect("nats://later.test:4222", name="later", connect_timeout=60.0)
    resolver.hanging.add("later.test")
    server.kill()
    eventually(lambda: len(resolver.asked) == 2)
    client.close()
    assert set(threads_of("later")) <= {"nats-later-resolver"}
    resolver.release.set()
    eventually(lambda: threads_of("later") == {})


@pytest.mark.parametrize("what", ["close", "reconnect"])
def test_a_dial_that_hangs_is_given_up_at_once(server: LocalServer, what: str, resolver: Resolver) -> None:
    with full_listener() as dead:
        resolver.addresses["moves.test"] = [("127.0.0.1", server.port)]
        with connect("nats://moves.test:4222", connect_timeout=60.0) as client:
            fds = open_fds()
            resolver.addresses["moves.test"] = [("127.0.0.1", dead)]
            server.kill()
            eventually(lambda: len(resolver.asked) == 2 and client._threads._inheritance._manager.dialler.attempts)
            if what == "close":
                client.close()
            else:
                client.reconnect()
                assert client.status is SessionStatus.RECONNECTING
                assert open_fds() <= fds


def test_a_dialler_that_is_woken_for_nothing_goes_on(server: LocalServer) -> None:
    wakeup = Wakeup()
    dialler = Dialler(wakeup, lambda: False, "nats-test-resolver")
    wakeup.set()
    sock = dialler.dial("localhost", server.port, time.monotonic() + PATIENCE)
    sock.close()
    dialler.close()
    wakeup.close()


def test_a_dialler_gives_up_when_it_is_wanted_back() -> None:
    wakeup = Wakeup()
    with full_listener() as dead:
        dialler = Dialler(wakeup, lambda: True, "nats-test-resolver")
        wakeup.set()
        with pytest.raises(Interrupted):
            dialler.dial("127.0.0.1", dead, time.monotonic() + PATIENCE)
        dialler.close()
    wakeup.close()


def test_a_connection_to_oneself_is_none(free_port: int) -> None:
    """A dial to a port of the range that dials are given may, with nobody listening, be connected to itself."""
    wakeup = Wakeup()
    dialler = Dialler(wakeup, lambda: False, "nats-test-resolver")

    class Bound(socket.socket):
        def connect_ex(self, address: object) -> int:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(address)  # type: ignore[arg-type]
            return super().connect_ex(address)  # type: ignore[arg-type]

    real = socket.socket
    socket.socket = Bound  # type: ignore[misc]
    try:
        with pytest.raises(ConnectionRefusedError):
            dialler.dial("127.0.0.1", free_port, time.monotonic() + PATIENCE)
    finally:
        socket.socket = real  # type: ignore[misc]
        dialler.close()
        wakeup.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EAFNOSUPPORT])
def test_a_system_that_gives_no_socket_is_tried_again(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refusing = threading.Event()
    refused = threading.Semaphore(0)
    real = socket.socket.__init__

    def make(self: socket.socket, *args: int, **kwargs: object) -> None:
        if refusing.is_set() and threading.current_thread().name.endswith("-reader"):
            refused.release()
            raise OSError(code, os.strerror(code))
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "__init__", make)
    with connect(server) as client:
        refusing.set()
        client.reconnect()
        for _ in range(3):
            assert refused.acquire(timeout=PATIENCE)
        assert os.strerror(code) in str(client.last_error)
        refusing.clear()
        eventually(lambda: client.stats.reconnects == 1)


@pytest.mark.parametrize("call", ["send", "recv"])
@pytest.mark.parametrize(
    "code", [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENOBUFS, errno.EBADF, errno.EIO]
)
def test_every_failure_of_the_socket_is_a_reconnect(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    failing = threading.Event()
    real: Callable[..., object] = getattr(socket.socket, call)

    def fail(self: socket.socket, *args: object) -> object:
        if failing.is_set() and threading.current_thread().name.startswith("nats-fails-"):
            failing.clear()
            raise OSError(code, os.strerror(code))
        return real(self, *args)

    monkeypatch.setattr(socket.socket, call, fail)
    with connect(server, name="fails") as client:
        sub = client.subscribe("a")
        client.flush()
        failing.set()
        client.publish("a", b"1")
        eventually(lambda: client.stats.reconnects == 1)
        assert client.last_error is not None
        assert os.strerror(code) in str(client.last_error)
        client.publish("a", b"2")
        seen = [sub.next(timeout=PATIENCE).data]
        if seen != [b"2"]:
            seen.append(sub.next(timeout=PATIENCE).data)
        assert seen in ([b"1", b"2"], [b"2"])
        assert call != "send" or seen == [b"1", b"2"]  # what the system refused was not handed over


def test_an_interrupted_send_is_no_failure(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.send
    blocked = threading.Semaphore(3)

    def send(self: socket.socket, data: bytes) -> int:
        if threading.current_thread().name.startswith("nats-again-") and blocked.acquire(blocking=False):
            raise BlockingIOError(errno.EAGAIN, "again")
        return real(self, data[:1])

    monkeypatch.setattr(socket.socket, "send", send)
    with connect(server, name="again") as client:
        sub = client.subscribe("a")
        for n in range(20):
            client.publish("a", b"%d" % n)
        client.flush()
        assert [message.data for message in sub.next_batch(20)] == [b"%d" % n for n in range(20)]
        assert client.stats.reconnects == 0


class full_listener:  # a context manager
    """A port whose listener answers no further dial: its queue is full."""

    def __enter__(self) -> int:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self._fillers: list[socket.socket] = []
        address = self._listener.getsockname()
        while True:
            filler = socket.socket()
            filler.settimeout(0.05)
            self._fillers.append(filler)
            try:
                filler.connect(address)
            except TimeoutError:
                port: int = address[1]
                return port

    def __exit__(self, *exc: object) -> None:
        for sock in (*self._fillers, self._listener):
            sock.close()
