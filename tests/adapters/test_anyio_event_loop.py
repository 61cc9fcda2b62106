"""What has arrived is taken in a call by asyncio's loop, outside of any task; on trio, and as its guest, by a task."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
import trio

import nats_anyio
from nats_anyio._engine import event_loop as _event_loop
from nats_anyio._engine.reader import Reader
from nats_proto import Credentials
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, eventually

TOKEN = 'authorization { token: "a token" }'


async def work(server: LocalServer) -> list[bytes]:
    """What an application does, through reconnects."""

    async def answer(challenge: object) -> Credentials:
        return Credentials(token="a token")

    taken: list[bytes] = []
    async with nats_anyio.connect(server.url, auth=answer, **QUICK) as nc, nc.subscribe("a") as sub:
        for number in range(3):
            await nc.publish("a", b"%d" % number)
            taken.append((await sub.next(timeout=PATIENCE)).data)
            with pytest.raises(nats_anyio.errors.NoRespondersError):
                await nc.request("nobody", timeout=PATIENCE)
            server.restart()  # the loop stands still meanwhile, and finds the end when it reads
            await eventually(lambda number=number: nc.stats.reconnects == number + 1)
    return taken


def without_context(run: Callable[[], object]) -> None:
    """In a thread of its own, where no context says which event loop runs."""
    failures: list[BaseException] = []

    def target() -> None:
        try:
            run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def on_asyncio(work: Awaitable[list[bytes]]) -> list[bytes]:
    async def main() -> list[bytes]:
        return await work

    return asyncio.run(main())


def test_on_asyncio_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Not started by anyio, so nothing but the running task tells anyio where it is."""
    caplog.set_level(logging.DEBUG, logger="nats_anyio")
    with LocalServer(TOKEN) as server:
        taken: list[bytes] = []
        without_context(lambda: taken.extend(on_asyncio(work(server))))
    assert taken == [b"0", b"1", b"2"]
    told = [record.getMessage() for record in caplog.records]
    for what in ("reconnected", "reconnecting"):  # the second is one of those that are counted by time
        assert len([text for text in told if text.startswith(what)]) >= 2, told


def test_where_the_loop_cannot_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows' proactor: a task waits instead."""

    async def main(server: LocalServer) -> list[bytes]:
        loop = asyncio.get_running_loop()
        add_reader = loop.add_reader

        def refuse(sock: object, callback: Callable[[], object], *args: object) -> None:
            if "nats_anyio" in getattr(callback, "__module__", ""):
                raise NotImplementedError
            add_reader(sock, callback, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "add_reader", refuse)
        return await work(server)

    with LocalServer(TOKEN) as server:
        assert asyncio.run(main(server)) == [b"0", b"1", b"2"]


def test_trio_as_a_guest_of_asyncio() -> None:
    """There is a running loop of asyncio, but the task is not one of it."""

    async def on_trio(server: LocalServer) -> list[bytes]:
        assert _event_loop.EventLoop().now is not asyncio.get_running_loop().time
        return await work(server)

    async def host(server: LocalServer) -> list[bytes]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[list[bytes]] = loop.create_future()

        def done(outcome: object) -> None:
            try:
                ended.set_result(outcome.unwrap())  # type: ignore[attr-defined]
            except BaseException as error:
                ended.set_exception(error)

        trio.lowlevel.start_guest_run(
            on_trio, server, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done
        )
        return await ended

    with LocalServer(TOKEN) as server:
        assert asyncio.run(host(server)) == [b"0", b"1", b"2"]


def test_on_trio_a_burst_has_a_turn_of_the_loop_before_the_socket_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that those who were woken write together. One message alone is not worth a turn.
    async def turn() -> None:
        told.append("turn")

    async def wait_readable(_: socket.socket) -> None:
        told.append("wait")

    def told_of(taken: int) -> list[str]:
        takes = [_event_loop.OVER, taken]
        told.clear()
        with socket.socket() as sock:
            trio.run(_event_loop._waiting, sock, takes.pop, wait_readable)
        return list(told)

    told: list[str] = []
    monkeypatch.setattr("anyio.lowlevel.checkpoint", turn)
    assert told_of(_event_loop.BURST) == ["wait", "turn", "wait"]
    assert told_of(_event_loop.QUIET) == ["wait", "wait"]
    assert told_of(_event_loop.MORE) == ["wait", "turn"]


@pytest.mark.parametrize(
    ("sent", "taken"),
    [(1, _event_loop.QUIET), (1023, _event_loop.QUIET), (1024, _event_loop.BURST), (4096, _event_loop.MORE)],
)
def test_how_much_of_what_has_arrived_is_a_burst(sent: int, taken: int) -> None:
    async def take() -> int:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(bytes(sent))

            def unwanted(*_: object) -> None:
                raise AssertionError

            session = SimpleNamespace(receive_size=4096)
            loop = _event_loop.EventLoop()
            reader = Reader(ours, loop, session, receive=received.append, end=unwanted, lost=unwanted, fail=unwanted)
            return reader._take()

    received: list[bytes] = []
    assert trio.run(take) == taken
    assert received == [bytes(sent)]
