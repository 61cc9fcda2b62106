"""The scripted peer does what its script says, and its transcript what happened."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.faults.peer import PONGS, Connection, Peer, close, expect, freeze, handshake, hold, info, loop, reset, send

PATIENCE = 10.0


def dial(peer: Peer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", peer.port), timeout=PATIENCE)


def read_exactly(sock: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        assert more, got
        got += more
    return got


def test_handshake() -> None:
    with Peer([handshake(max_payload=99)]) as peer, dial(peer) as sock, sock.makefile("rb") as stream:
        greeting = json.loads(stream.readline().removeprefix(b"INFO "))
        assert greeting["max_payload"] == 99
        assert greeting["headers"] is True
        sock.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert stream.readline() == b"PONG\r\n"
        peer.wait_until_finished()
        assert peer.connections[0].received == b'CONNECT {"verbose":false}\r\nPING\r\n'


def test_info_is_one_line() -> None:
    assert info(nonce="x").endswith(b'"nonce": "x"}\r\n')
    assert info().count(b"\n") == 1


def test_each_connection_has_its_own_script_and_the_next_is_reset() -> None:
    with Peer([send(b"one"), close()], [send(b"two"), close()]) as peer:
        for expected in (b"one", b"two"):
            with dial(peer) as sock:
                assert read_exactly(sock, 3) == expected
                assert sock.recv(1) == b""
        with pytest.raises(ConnectionResetError), dial(peer) as sock:  # even the dial may see it
            sock.recv(1)
        assert len(peer.connections) == 3


def test_the_last_script_again() -> None:
    with Peer([send(b"one")], [send(b"two")], again=True) as peer:
        for expected in (b"one", b"two", b"two", b"two"):
            with dial(peer) as sock:
                assert read_exactly(sock, 3) == expected


def test_a_later_connection_is_served_while_an_earlier_one_is_held() -> None:
    with Peer([hold(), send(b"one")], [send(b"two")]) as peer, dial(peer) as first, dial(peer) as second:
        assert read_exactly(second, 3) == b"two"
        first.setblocking(False)
        with pytest.raises(BlockingIOError):
            first.recv(1)
        first.settimeout(PATIENCE)
        peer.release()
        assert read_exactly(first, 3) == b"one"


def test_expect_takes_what_comes_before_and_leaves_what_comes_behind() -> None:
    with Peer([expect(b"B"), send(b"1"), expect(re.compile(rb"D+\n")), send(b"2")]) as peer, dial(peer) as sock:
        sock.sendall(b"A")
        sock.sendall(b"BCDD\n")
        assert read_exactly(sock, 2) == b"12"


def test_what_was_expected_once_does_not_count_twice() -> None:
    with Peer([expect(b"A"), expect(b"A", timeout=0.05)]) as peer, dial(peer) as sock:
        sock.sendall(b"A")
        with pytest.raises(AssertionError, match="in vain"):
            peer.wait_until_finished()


def test_an_expectation_in_vain_closes_the_connection_and_is_told() -> None:
    with Peer([expect(b"NEVER", timeout=0.05), send(b"x")]) as peer, dial(peer) as sock:
        sock.sendall(b"something else")
        with pytest.raises(AssertionError, match=r"script 1 was not followed(.|\n)*something else(.|\n)*in vain"):
            peer.wait_until_finished()


def test_a_client_that_leaves_ends_the_script() -> None:
    with Peer([expect(b"NEVER")]) as peer:
        dial(peer).close()
        connection = peer.wait_for_connection()
        assert connection.ended.wait(PATIENCE)
        assert not connection.finished
        assert "end of stream" in peer.transcript()


def test_reset_and_close_are_seen_as_such() -> None:
    with Peer([reset()], [close()]) as peer:
        with pytest.raises(ConnectionResetError), dial(peer) as sock:  # even the dial may see it
            sock.recv(1)
        with dial(peer) as sock:
            assert sock.recv(1) == b""
        peer.wait_until_finished()


def test_a_frozen_peer_makes_the_client_wait() -> None:
    with Peer([freeze(), expect(b"Z")], rcvbuf=4096) as peer, dial(peer) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.sendall(b"x" * 4_000_000)
        sock.settimeout(PATIENCE)
        peer.release()
        sock.sendall(b"Z")
        peer.wait_until_finished()


def test_a_large_send_waits_for_a_slow_client() -> None:
    size = 20_000_000  # more than the kernel takes for both
    with Peer([send(b"x" * size), send(b"Z"), close()]) as peer, dial(peer) as sock, sock.makefile("rb") as stream:
        peer.wait_for_connection()
        assert stream.read(size + 2) == b"x" * size + b"Z"
        assert f"{size} bytes" in peer.transcript()


def test_loop_answers_until_the_client_leaves() -> None:
    with Peer([handshake(), loop(PONGS)]) as peer:
        with dial(peer) as sock, sock.makefile("rb") as stream:
            stream.readline()
            sock.sendall(b"CONNECT {}\r\nPING\r\n")
            for _ in range(3):
                assert stream.readline() == b"PONG\r\n"
                sock.sendall(b"PUB a 0\r\n\r\nPING\r\n")
        connection = peer.wait_for_connection()
        assert connection.ended.wait(PATIENCE)


def test_a_step_of_ones_own() -> None:
    def greet(connection: Connection) -> None:
        connection.send(b"hello " + connection.expect(re.compile(rb"\w+\n")))

    with Peer([greet]) as peer, dial(peer) as sock:
        sock.sendall(b"you\n")
        assert read_exactly(sock, 10) == b"hello you\n"


@pytest.fixture(params=[[], [hold()], [freeze()], [expect(b"NEVER")], [send(b"x" * 8_000_000)], [loop(PONGS)]])
def script(request: pytest.FixtureRequest) -> Iterator[object]:
    return request.param


def test_leaving_the_block_ends_every_script(script: list[object]) -> None:
    """The leak fixture sees what stays."""
    with Peer(script) as peer:  # type: ignore[arg-type]
        sock = dial(peer)
        peer.wait_for_connection()
    sock.close()


def test_no_connection_is_an_error_with_the_transcript() -> None:
    with Peer([]) as peer, pytest.raises(AssertionError, match="no connection 1"):
        peer.wait_for_connection(timeout=0.01)


def test_a_peer_nobody_connects_to_ends() -> None:
    with Peer([handshake()]):
        pass
