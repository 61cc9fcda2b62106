"""From names to connections in the anyio client: every address, every moment to give up."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace

import anyio
import pytest

import nats_anyio
from nats_anyio._engine import dial as _dial
from nats_anyio._engine.event_loop import EventLoop
from nats_anyio._engine.worker_threads import WorkerThreads
from nats_proto import SessionStatus
from nats_proto.errors import NATSTimeoutError, NoServersError
from nats_sync.testing import LocalServer
from tests.adapters.cancelling import after_turns, at_suspension
from tests.adapters.legs import QUICK, eventually
from tests.adapters.sync_tools import open_fds
from tests.adapters.test_sync_dial import full_listener

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Names:
    """Stands in for the resolver: names from a table, those that are not in it hang until the end of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: dict[str, list[tuple[str, int]]] = {}
        self.asked: list[str] = []
        self.over = threading.Event()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, *, flags: int = 0, **options: int) -> object:
        if flags & socket.AI_NUMERICHOST:
            return self._real(host, port, flags=flags, **options)
        self.asked.append(host)
        if host not in self.addresses:
            self.over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "it hung until the end of the test")
        return [
            (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in self.addresses[host]
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names(monkeypatch)
    yield names
    names.over.set()


async def dial(host: str, port: int) -> socket.socket:
    return await _dial.dial(host, port, resolvers=WorkerThreads(EventLoop(), "nats-resolver"), open_sockets=set())


async def resolved(host: str) -> list[_dial.Address]:
    return await _dial._resolve(host, 1, WorkerThreads(EventLoop(), "nats-resolver"))


async def test_a_literal_address_asks_nobody(server: LocalServer, names: Names) -> None:
    async with nats_anyio.connect(server.url) as nc:
        await nc.flush()
    assert names.asked == []


async def test_the_next_address_is_tried_when_one_refuses(server: LocalServer, free_port: int, names: Names) -> None:
    names.addresses["two.test"] = [("127.0.0.1", free_port), ("127.0.0.1", server.port)]
    async with nats_anyio.connect("nats://two.test:4222") as nc:
        await nc.flush()
        assert nc.connected_url == "nats://two.test:4222"


async def test_an_address_that_does_not_answer_holds_up_nobody_for_long(server: LocalServer, names: Names) -> None:
    with full_listener() as dead:
        names.addresses["two.test"] = [("127.0.0.1", dead), ("127.0.0.1", server.port)]
        async with nats_anyio.connect("nats://two.test:4222", connect_timeout=5.0) as nc:
            await nc.flush()


async def test_the_families_take_turns(names: Names) -> None:
    names.addresses["both.test"] = [("::1", 1), ("::2", 1), ("::1", 1), ("127.0.0.1", 1), ("127.0.0.2", 1), ("::3", 1)]
    found = [address[0] for _, address in await resolved("both.test")]
    assert found == ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]


async def test_two_that_answer_at_once_are_one_connection(
    server: LocalServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    both = anyio.Event()
    real = _dial._connect

    async def connect(*address: object) -> socket.socket:
        sock = await real(*address)  # type: ignore[arg-type]
        made.append(sock)
        if len(made) == 2:
            both.set()
        with anyio.CancelScope(shield=True):
            await both.wait()
        return sock

    monkeypatch.setattr(_dial, "_connect", connect)
    monkeypatch.setattr(_dial, "ADDRESS_HEAD_START", 0.001)
    with LocalServer() as other:
        names.addresses["two.test"] = [("127.0.0.1", server.port), ("127.0.0.1", other.port)]
        sock = await dial("two.test", 4222)
    assert sorted(each.fileno() >= 0 for each in made) == [False, True]
    assert sock in made
    sock.close()


async def test_what_each_address_said(free_port: int, names: Names) -> None:
    names.addresses["two.test"] = [("127.0.0.1", free_port), ("127.0.0.2", free_port)]
    names.addresses["none.test"] = []
    with pytest.raises(NoServersError, match=r"two\.test.*refused"):
        async with nats_anyio.connect("nats://two.test:4222"):
            pass
    with pytest.raises(NoServersError, match=r"none\.test.*no address"):
        async with nats_anyio.connect("nats://none.test:4222"):
            pass


async def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(NoServersError, match=r"no-such-host\.test.*Name or service not known"):
        async with nats_anyio.connect("nats://no-such-host.test:4222"):
            pass


async def test_a_name_is_resolved_again_at_each_attempt(server: LocalServer, names: Names) -> None:
    with LocalServer() as other:
        names.addresses["moves.test"] = [("127.0.0.1", server.port)]
        async with nats_anyio.connect("nats://moves.test:4222", **QUICK) as nc:
            assert nc.server_info is not None
            assert nc.server_info.server_name == server.name
            names.addresses["moves.test"] = [("127.0.0.1", other.port)]
            server.kill()
            await eventually(lambda: nc.stats.reconnects == 1)
            assert nc.server_info.server_name == other.name


async def test_a_resolver_that_hangs_ends_the_attempt_in_time(server: LocalServer, names: Names) -> None:
    servers = ["nats://hangs.test:4222", server.url]
    async with nats_anyio.connect(servers, randomize_servers=False, connect_timeout=2.0) as nc:
        assert nc.connected_url == server.url
        assert isinstance(nc.last_error, NATSTimeoutError)
        assert "hangs.test" in str(nc.last_error)


@pytest.mark.parametrize("what", ["close", "reconnect"])
async def test_a_dial_that_hangs_is_given_up_at_once(server: LocalServer, names: Names, what: str) -> None:
    with full_listener() as dead:
        names.addresses["moves.test"] = [("127.0.0.1", server.port)]
        async with nats_anyio.connect("nats://moves.test:4222", connect_timeout=60.0, **QUICK) as nc:
            fds = open_fds()
            names.addresses["moves.test"] = [("127.0.0.1", dead)]
            server.kill()
            await eventually(lambda: len(names.asked) == 2)
            if what == "close":
                await nc.close()
            else:
                await nc.reconnect()
                assert nc.status is SessionStatus.RECONNECTING
            await eventually(lambda: open_fds() <= fds)


async def test_a_connection_to_oneself_is_none(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial to a port of the range that dials are given may, with nobody listening, be connected to itself."""

    class Bound(socket.socket):
        def connect_ex(self, address: object) -> int:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(address)  # type: ignore[arg-type]
            return super().connect_ex(address)  # type: ignore[arg-type]

    monkeypatch.setattr(_dial, "socket", SimpleNamespace(**{**vars(socket), "socket": Bound}))
    with pytest.raises(ConnectionRefusedError):
        await dial("127.0.0.1", free_port)


@pytest.mark.parametrize("by", [at_suspension, after_turns], ids=["suspension", "turns"])
async def test_a_dial_cancelled_anywhere_leaves_no_socket(
    server: LocalServer, names: Names, by: Callable[..., Awaitable[object]]
) -> None:
    names.addresses["two.test"] = [("127.0.0.1", 1), ("127.0.0.1", server.port)]
    before = open_fds()
    sock: list[socket.socket] = []

    async def dial_it() -> None:
        sock.append(await dial("two.test", 4222))

    for point in range(1, 30):
        await by(dial_it, point)
        while sock:
            sock.pop().close()
        assert open_fds() == before


@pytest.mark.parametrize("code", ["EMFILE", "ENOBUFS", "EAFNOSUPPORT"])
async def test_a_system_that_gives_no_socket_is_tried_again(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    number = getattr(errno, code)
    refused: list[int] = []
    refusing = False

    def make(*args: int) -> socket.socket:
        if refusing:
            refused.append(1)
            raise OSError(number, os.strerror(number))
        return socket.socket(*args)

    monkeypatch.setattr(_dial, "socket", SimpleNamespace(**{**vars(socket), "socket": make}))
    async with nats_anyio.connect(server.url, **QUICK) as nc:
        refusing = True
        await nc.reconnect()
        await eventually(lambda: len(refused) >= 3)
        assert os.strerror(number) in str(nc.last_error)
        refusing = False
        await eventually(lambda: nc.stats.reconnects == 1)
