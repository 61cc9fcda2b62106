"""The fault proxy does each fault, on the way it was asked for, and tells of it. Times are lower bounds only."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.proxy import Proxy
from tests.faults.toxics import Eraser, Way

PATIENCE = 10.0


class Target:
    """A server that keeps what it is sent, and whose side of each connection the test holds."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.port: int = self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE)
        return sock


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    with made.listener:
        yield made


@contextlib.contextmanager
def pair(proxy: Proxy, target: Target) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket and the server's, with the proxy between."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client, target.accept() as server:
        yield client, server


def read_exactly(sock: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        assert more, got
        got += more
    return got


def is_silent(sock: socket.socket) -> bool:
    timeout = sock.gettimeout()
    sock.settimeout(0.05)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(timeout)
    return False


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


# --- without a fault --------------------------------------------------------------------------------------------------


def test_carries_both_ways_and_both_ends_of_the_stream(target: Target) -> None:
    data = bytes(range(256)) * 8192
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        writer = threading.Thread(target=client.sendall, args=(data,))
        writer.start()
        assert read_exactly(server, len(data)) == data
        writer.join()
        server.sendall(b"answer")
        assert read_exactly(client, 6) == b"answer"
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"late")
        server.close()
        assert read_exactly(client, 4) == b"late"
        assert client.recv(1) == b""
        eventually(lambda: proxy.connections == 0)
        assert (proxy.up.passed, proxy.down.passed, proxy.accepted) == (len(data), 10, 1)
        assert "1 closed with FIN" in proxy.transcript()


def test_leaving_the_block_closes_everything(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        with Proxy(target.port) as proxy:
            client, server = stack.enter_context(pair(proxy, target))
        for sock in (client, server):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_a_reset_is_passed_on(target: Target) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        server.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert "ended by ConnectionResetError" in proxy.transcript()


def test_a_target_that_is_down_resets_the_client(free_port: int) -> None:
    with Proxy(free_port) as proxy:
        with (
            pytest.raises(ConnectionResetError),  # even the dial may see it
            socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client,
        ):
            client.recv(1)
        eventually(lambda: "ConnectionRefusedError" in proxy.transcript())


def test_the_target_may_change(target: Target, free_port: int) -> None:
    with Proxy(free_port) as proxy:
        proxy.target = target.port
        with pair(proxy, target) as (client, server):
            client.sendall(b"x")
            assert server.recv(1) == b"x"


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["up", "down"])
def test_latency_delays_one_way(target: Target, way: str) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as ends:
        client, server = ends if way == "up" else ends[::-1]
        getattr(proxy, way).latency = 0.2
        began = time.monotonic()
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        delayed = time.monotonic() - began
        server.sendall(b"y")
        assert client.recv(1) == b"y"
        assert delayed >= 0.2
        assert f"1 {way}: 1 bytes, 0.2000 s" in proxy.transcript()


def test_jitter_comes_from_the_seed_and_keeps_the_order(target: Target) -> None:
    def delays(seed: int) -> list[str]:
        with Proxy(target.port, seed=seed) as proxy, pair(proxy, target) as (client, server):
            proxy.up.latency, proxy.up.jitter = 0.005, 0.005
            for number in range(10):
                client.sendall(bytes([number]))
                eventually(lambda number=number: f" {number + 1} in all" in proxy.transcript())
            assert read_exactly(server, 10) == bytes(range(10))
            return [text.split(", ")[1] for _, text in proxy.log if "in all" in text]

    first = delays(1)
    assert len(set(first)) > 5
    assert delays(1) == first
    assert delays(2) != first


def test_bandwidth(target: Target) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        proxy.up.bandwidth = 100_000
        began = time.monotonic()
        client.sendall(b"x" * 20_000)
        read_exactly(server, 20_000)
        assert time.monotonic() - began >= 0.15  # a lower bound: the last pause comes behind the last byte


def test_a_slow_way_is_felt_by_the_sender(target: Target) -> None:
    with Proxy(target.port, rcvbuf=4096) as proxy, pair(proxy, target) as (client, _):
        proxy.up.bandwidth, proxy.up.read_ahead = 1000, 10_000
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * 4_000_000)


def test_slicer(target: Target) -> None:
    for gap in (0.02, 0.2, 2.0):  # who reads may be later than the next byte
        with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
            proxy.up.slice_size, proxy.up.slice_gap = 1, gap
            client.sendall(b"abc")
            got = [server.recv(10)]
            while sum(map(len, got)) < 3:
                got.append(server.recv(10))
        if got == [b"a", b"b", b"c"]:
            break
    assert got == [b"a", b"b", b"c"]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 5, 9])
def test_byte_limit_then_the_end(target: Target, limit: int, reset: bool) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        proxy.up.limit_reset = reset
        proxy.up.limit = limit
        client.sendall(b"0123456789")
        assert read_exactly(server, limit) == b"0123456789"[:limit]
        for sock in (server, client):
            if reset:
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
            else:
                assert sock.recv(1) == b""
        eventually(lambda: proxy.connections == 0)
        assert proxy.up.passed == limit


def test_the_end_at_a_limit_is_a_fin_although_more_was_sent(target: Target) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        proxy.up.stop_reading = True
        client.sendall(b"x" * 200_000)  # more than the proxy takes at once
        proxy.up.limit = 3
        proxy.up.stop_reading = False
        assert read_exactly(server, 3) == b"xxx"
        assert server.recv(1) == b""
        assert client.recv(1) == b""


def test_the_byte_limit_counts_per_connection_and_over_chunks(target: Target) -> None:
    with Proxy(target.port) as proxy:
        proxy.up.limit = 4
        for _ in range(2):
            with pair(proxy, target) as (client, server):
                client.sendall(b"ab")
                assert read_exactly(server, 2) == b"ab"
                client.sendall(b"cde")
                assert read_exactly(server, 2) == b"cd"
                assert server.recv(1) == b""


@pytest.mark.parametrize("way", ["up", "down"])
def test_black_hole_of_one_way(target: Target, way: str) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as ends:
        client, server = ends if way == "up" else ends[::-1]
        getattr(proxy, way).black_hole = True
        client.sendall(b"lost")
        assert is_silent(server)
        server.sendall(b"y")
        assert client.recv(1) == b"y"
        getattr(proxy, way).black_hole = False
        client.sendall(b"z")
        assert server.recv(1) == b"z"
        assert "4 bytes into the black hole" in proxy.transcript()


def test_a_black_hole_takes_the_end_of_the_stream(target: Target) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        proxy.up.black_hole = True
        client.close()
        eventually(lambda: "0 bytes into the black hole" in proxy.transcript())
        assert is_silent(server)


def test_hold_and_release(target: Target) -> None:
    with Proxy(target.port, rcvbuf=4096) as proxy, pair(proxy, target) as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        proxy.up.held = True
        data = b"x" * 3_000_000
        client.sendall(data)  # goes through: what is held is not felt
        assert is_silent(server)
        proxy.up.held = False
        assert read_exactly(server, len(data)) == data


def test_stop_reading(target: Target) -> None:
    with Proxy(target.port, rcvbuf=4096) as proxy, pair(proxy, target) as (client, server):
        proxy.up.stop_reading = True
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * 4_000_000)
        assert is_silent(server)
        proxy.up.stop_reading = False
        assert server.recv(1) == b"x"


def test_slow_close(target: Target) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        proxy.up.close_delay = 0.2
        began = time.monotonic()
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        assert time.monotonic() - began >= 0.2


def test_drop_by_pattern(target: Target) -> None:
    with Proxy(target.port) as proxy, pair(proxy, target) as (client, server):
        proxy.up.drop = b"PING\r\n"
        client.sendall(b"PUB a 0\r\n\r\nPI")
        client.sendall(b"NG\r\nPONG\r\nPING\r\nP")
        client.shutdown(socket.SHUT_WR)
        expected = b"PUB a 0\r\n\r\nPONG\r\nP"
        assert read_exactly(server, len(expected)) == expected
        assert server.recv(1) == b""
        assert " 2 erased" in proxy.transcript()


@pytest.mark.parametrize("reset", [False, True])
def test_cut_ends_what_there_is_and_serves_what_comes(target: Target, reset: bool) -> None:
    with Proxy(target.port) as proxy:
        with pair(proxy, target) as one, pair(proxy, target) as two:
            eventually(lambda: proxy.connections == 2)
            proxy.cut(reset=reset)
            assert proxy.connections == 0
            for sock in (*one, *two):
                if reset:
                    with pytest.raises(ConnectionResetError):
                        sock.recv(1)
                else:
                    assert sock.recv(1) == b""
        with pair(proxy, target) as (client, server):
            client.sendall(b"x")
            assert server.recv(1) == b"x"


def test_refuse(target: Target) -> None:
    with Proxy(target.port) as proxy:
        proxy.refuse = True
        with (
            pytest.raises(ConnectionResetError),  # even the dial may see it
            socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client,
        ):
            client.recv(1)
        proxy.refuse = False
        with pair(proxy, target) as (client, server):
            client.sendall(b"x")
            assert server.recv(1) == b"x"
        assert "1 refused" in proxy.transcript()


# --- pieces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [b"PING\r\n", b"aab", b"aa", b"x"])
def test_the_eraser_gives_the_same_for_every_split(pattern: bytes) -> None:
    stream = b"aPING\r\nPINPING\r\naaabaabaaxPING\r"
    expected = stream.replace(pattern, b"")
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            eraser = Eraser()
            parts = [part for part in (stream[:first], stream[first:second], stream[second:]) if part]
            assert b"".join(eraser.feed(part, pattern) for part in [*parts, b""]) == expected
            assert eraser.erased == stream.count(pattern)


def test_pieces_and_their_pauses() -> None:
    assert list(Way().pieces(b"abc")) == [(b"abc", 0.0)]
    assert list(Way(slice_size=2, slice_gap=0.5).pieces(b"abc")) == [(b"ab", 0.5), (b"c", 0.5)]
    assert list(Way(bandwidth=100.0).pieces(b"abc")) == [(b"ab", 0.02), (b"c", 0.01)]
    assert list(Way().pieces(b"")) == []
