"""Several addresses of one name in the threaded client, and resolvers that raise what no resolver should."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

import nats_sync
from nats_proto.errors import NoServersError, TransportError
from nats_sync._engine import dial as _dial
from nats_sync._engine.dial import Dialler, Interrupted
from nats_sync._engine.wakeup import Wakeup
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, open_fds
from tests.adapters.test_sync_dial import full_listener

Found = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Every name has these addresses."""

    def look_up(host: str, port: int, **options: int) -> Found:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a literal address")
        families = [socket.AF_INET6 if ":" in address[0] else socket.AF_INET for address in addresses]
        found = zip(families, addresses, strict=True)
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_addresses_that_do_not_answer_cost_their_head_start_alone(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_listener() as dead, full_listener() as dead_too:
        resolve_to(monkeypatch, ("127.0.0.1", dead), ("127.0.0.1", dead_too), ("127.0.0.1", server.port))
        with connect("nats://three.test:4222", connect_timeout=600.0) as client:
            client.flush()


def test_the_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    class Refusing(socket.socket):
        def connect_ex(self, address: object) -> int:
            tried.append(address[0])  # type: ignore[index]
            return errno.ECONNREFUSED

    resolve_to(monkeypatch, ("::1", 1), ("::2", 1), ("::3", 1), ("127.0.0.1", 1), ("127.0.0.2", 1))
    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(NoServersError, match=os.strerror(errno.ECONNREFUSED)):
        connect("nats://six.test:4222")
    assert tried == ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]


def test_what_each_address_said_is_in_the_error(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    codes = {1: errno.EHOSTUNREACH, 2: errno.ENETUNREACH}

    class Refusing(socket.socket):
        def connect_ex(self, address: tuple[str, int]) -> int:  # type: ignore[override]
            return codes.get(address[1]) or super().connect_ex(address)

    resolve_to(monkeypatch, ("127.0.0.1", 1), ("127.0.0.1", free_port), ("127.0.0.1", 2))
    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(NoServersError) as raised:
        connect("nats://three.test:4222")
    for code in (errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ENETUNREACH):
        assert os.strerror(code) in str(raised.value)


def test_whoever_wins_the_others_are_closed(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "HEAD_START", 0.0)
    wakeup = Wakeup()
    dialler = Dialler(wakeup, lambda: False, "nats-test-resolver")
    with full_listener() as dead:
        resolve_to(monkeypatch, ("127.0.0.1", dead), ("127.0.0.1", server.port))
        before = open_fds()
        for _ in range(20):
            dialler.dial("many.test", 4222, time.monotonic() + PATIENCE).close()
            assert open_fds() == before
    dialler.close()
    wakeup.close()


def test_a_race_that_is_given_up_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "HEAD_START", 0.01)
    with full_listener() as first, full_listener() as second, full_listener() as third:
        resolve_to(monkeypatch, *(("127.0.0.1", port) for port in (first, second, third)))
        wakeup = Wakeup()
        given_up = threading.Event()
        dialler = Dialler(wakeup, given_up.is_set, "nats-test-resolver")
        before = open_fds()

        def give_up() -> None:
            eventually(lambda: len(dialler.attempts) == 3)
            given_up.set()
            wakeup.set()

        other = threading.Thread(target=give_up)
        other.start()
        with pytest.raises(Interrupted):
            dialler.dial("three.test", 4222, time.monotonic() + 600.0)
        other.join()
        assert open_fds() == before
        dialler.close()
        wakeup.close()


def test_the_time_ends_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_listener() as first, full_listener() as second:
        resolve_to(monkeypatch, ("127.0.0.1", first), ("127.0.0.1", second))
        before = open_fds()
        with pytest.raises(NoServersError, match="took longer than"):
            connect("nats://two.test:4222", connect_timeout=0.4)
        assert open_fds() == before


# --- resolvers -------------------------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Own(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (UnicodeError("label too long"), "label too long"),
        (PermissionError(errno.EPERM, "a policy"), "a policy"),
        (TimeoutError("the resolver's own"), "the resolver's own"),
        (BlockingIOError(errno.EAGAIN, "busy"), "busy"),
        (RuntimeError("of a plug-in"), "of a plug-in"),
        (Mute(), "Mute"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (Own("mine"), "Own"),
    ],
)
@pytest.mark.parametrize("always", [False, True])
def test_whatever_a_resolver_raises_fails_the_attempt_at_once(
    raised: BaseException, said: str, always: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int, **options: int) -> Found:
        if not always and options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a literal address")
        raise raised

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(NoServersError, match=said) as caught:
        connect("nats://odd.test:4222", connect_timeout=600.0)
    failure = caught.value.__cause__
    assert isinstance(failure, TransportError)
    assert raised in (failure.__cause__, failure.__cause__ and failure.__cause__.__cause__)


def test_no_thread_for_a_name_is_a_failed_attempt(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("-resolver"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    servers = [f"nats://localhost:{server.port}", server.url]
    with nats_sync.connect(servers, randomize_servers=False, connect_timeout=600.0) as client:
        assert client.connected_url == server.url
        assert "can't start new thread" in str(client.last_error)


# --- long waits ------------------------------------------------------------------------------------------------------

CENTURY = 100 * 365 * 86_400.0


@pytest.mark.parametrize("seconds", [25 * 86_400.0, CENTURY])
@pytest.mark.parametrize(
    "options",
    [
        lambda seconds: {"ping_interval": seconds},
        lambda seconds: {"connect_timeout": seconds},
        lambda seconds: {"reconnect_wait": seconds},
        lambda seconds: {"reconnect_jitter": seconds},
        lambda seconds: {"reconnect_delay": lambda rounds: seconds, "reconnect_jitter": 0.0},
        lambda seconds: {"drain_timeout": seconds},
    ],
    ids=["ping_interval", "connect_timeout", "reconnect_wait", "reconnect_jitter", "reconnect_delay", "drain_timeout"],
)
def test_the_longest_waits_are_waits(
    seconds: float, options: Callable[[float], dict[str, object]], server: LocalServer
) -> None:
    with connect(f"nats://localhost:{server.port}", **options(seconds)) as client:
        client.subscribe("echo", callback=lambda message: message.respond(b"fine"))
        assert client.request("echo", timeout=seconds).data == b"fine"
        client.reconnect()
        eventually(lambda: client.stats.reconnects == 1)
        client.flush(timeout=seconds)
        server.kill()
        eventually(lambda: client.connected_url is None)
        client.publish("a", b"kept")
        assert client.last_error is not None
        assert "defect" not in str(client.last_error)
        server.start()
        client.reconnect()  # ends the wait for the next attempt
        eventually(lambda: client.connected_url is not None)
        client.drain()
