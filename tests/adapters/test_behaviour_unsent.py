"""How little of large payloads the system keeps unsent, where both ends of a connection are on one machine."""

from __future__ import annotations

import operator
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import anyio
import pytest

from nats_anyio._engine import unsent as of_tasks
from nats_sync._engine import unsent as of_threads
from tests.adapters.legs import Collected, Leg, eventually, stands_still
from tests.faults.peer import Connection, Peer, freeze, handshake, swallow

LINUX = sys.platform == "linux"
OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", 0)
LIMIT = 64 * 1024
RCVBUF = 256 * 1024
"""Bytes: little, beside what is published, and much for one who reads all of it."""
MARK = b"PUB mark 0\r\n\r\n"

Made = type[of_tasks.UnsentLimit] | type[of_threads.UnsentLimit]


def read_up_to_mark(connection: Connection) -> None:
    """Keeps nothing: what is read here is tens of megabytes."""
    end = b""
    while MARK not in end:
        try:
            data = connection.sock.recv(1 << 20)
        except TimeoutError:
            connection.peer.check_over()
            continue
        assert data
        end = end[-len(MARK) :] + data


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those that are set, in order."""
    values: list[int] = []
    setsockopt = socket.socket.setsockopt

    def noted(self: socket.socket, level: int, option: int, *value: int) -> None:
        setsockopt(self, level, option, *value)
        if (level, option) == (socket.IPPROTO_TCP, OPTION):
            values.extend(value)

    monkeypatch.setattr(socket.socket, "setsockopt", noted)
    return values


@pytest.mark.anyio
async def test_large_payloads_that_wait_are_limited_and_small_ones_are_not(leg: Leg, limits: list[int]) -> None:
    again = threading.Event()

    def freeze_again(connection: Connection) -> None:
        while not again.wait(0.05):
            connection.peer.check_over()

    script = [handshake(), freeze(), read_up_to_mark, freeze_again, read_up_to_mark, swallow]
    with Peer(script, rcvbuf=RCVBUF) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:

            async def publish(size: int, number: int, done: Collected[int]) -> None:
                for _ in range(number):
                    await client.publish("p", bytes(size))
                    done.add(size)
                await client.publish("mark")

            for size, number, release in (100_000, 200, peer.release), (16_000, 1000, again.set):
                wanted = [] if not LINUX else [LIMIT] if size > LIMIT else [LIMIT, 0]
                done: Collected[int] = Collected()
                async with anyio.create_task_group() as group:
                    group.start_soon(publish, size, number, done)
                    await stands_still(partial(len, done))
                    assert len(done) < number
                    await eventually(partial(operator.eq, limits, wanted), str(wanted))
                    release()
            assert client.stats.reconnects == 0


@pytest.mark.anyio
async def test_small_messages_alone_never_have_a_limit(leg: Leg, limits: list[int]) -> None:
    with Peer([handshake(), freeze(), read_up_to_mark, swallow], rcvbuf=RCVBUF) as peer:
        async with leg.connect(peer.url, ping_interval=0) as client:
            done: Collected[int] = Collected()

            async def publish() -> None:
                for number in range(1000):
                    await client.publish("p", bytes(16_000))
                    done.add(number)
                await client.publish("mark")

            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                await stands_still(partial(len, done))
                assert len(done) < 1000
                peer.release()
    assert limits == []


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.mark.parametrize("made", [of_tasks.UnsentLimit, of_threads.UnsentLimit], ids=["tasks", "threads"])
@pytest.mark.parametrize("near", [True, False], ids=["one machine", "two machines"])
def test_the_limit_is_for_connections_within_one_machine(made: Made, near: bool, listener: socket.socket) -> None:
    # Another address stands for another machine.
    source = "127.0.0.1" if near else "127.0.0.2"
    address: tuple[str, int] = listener.getsockname()
    with socket.create_connection(address, source_address=(source, 0)) as sock:
        limit = made(sock)
        for large in False, True, True, False, True:
            limit.follow(large)
            if LINUX:
                assert sock.getsockopt(socket.IPPROTO_TCP, OPTION) == (LIMIT if large and near else 0)


@pytest.mark.parametrize("made", [of_tasks.UnsentLimit, of_threads.UnsentLimit], ids=["tasks", "threads"])
def test_a_connection_that_has_ended_is_no_error(made: Made, listener: socket.socket) -> None:
    with closing(socket.create_connection(listener.getsockname())) as sock:
        limit = made(sock)
        sock.shutdown(socket.SHUT_RDWR)
        limit.follow(True)
        sock.close()
        limit.follow(False)


@pytest.mark.parametrize("made", [of_tasks.UnsentLimit, of_threads.UnsentLimit], ids=["tasks", "threads"])
def test_what_has_no_addresses_has_no_limit(made: Made) -> None:
    one, other = socket.socketpair()
    with one, other:
        limit = made(one)
        limit.follow(True)
        limit.follow(False)
