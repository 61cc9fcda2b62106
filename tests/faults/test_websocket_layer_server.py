"""The WebSocket layer against a real nats-server, with and without compression, over a blocking socket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nats_proto._layers import websocket as _websocket
from nats_proto._layers.websocket import WebSocketLayer
from nats_proto._layers.websocket_frames import FrameReader
from nats_proto._servers.server import Server
from nats_proto.errors import WebSocketError
from nats_sync.testing import LocalServer
from tests.faults.layered import Layered, dialled
from tests.server_version import needs_server

KiB = 1024
MiB = 1024 * KiB
QUIET = b'{"verbose":false}'
PINGED = b"CONNECT " + QUIET + b"\r\nPING\r\n"

compressions = pytest.mark.parametrize("compression", [False, True], ids=["plain", "compressed"])


def serving(port: int, *, settings: str = "compression: true", more: str = "") -> LocalServer:
    """With WebSocket on ``port``."""
    return LocalServer(f"websocket {{ listen: '127.0.0.1:{port}', no_tls: true, {settings} }}\n{more}")


@pytest.fixture
def ws_server(free_port: int) -> Iterator[LocalServer]:
    """With WebSocket on ``free_port``, and compression for those that want it."""
    with serving(free_port) as local:
        yield local


@contextmanager
def upgraded(
    port: int, *, compression: bool = False, path: str = "", headers: dict[str, str] | None = None
) -> Iterator[tuple[Layered, WebSocketLayer]]:
    url = Server.parse(f"ws://127.0.0.1:{port}{path}")
    layer = WebSocketLayer(url, max_message=64 * MiB, headers=headers or {}, compression=compression)
    with dialled(port) as link:
        link.push(layer)
        assert layer.compressed is compression
        yield link, layer


@compressions
def test_a_connection_and_a_mebibyte_to_itself(ws_server: LocalServer, free_port: int, compression: bool) -> None:
    """Sizes from nothing to ``max_payload``, one by one and many in one write."""
    sizes = [0, 1, 16, 64, 65, 125, 126, 1000, 65_535, 65_536, 200_000, MiB, *[1024] * 1024]
    with upgraded(free_port, compression=compression) as (link, layer):
        assert link.greet(QUIET).startswith(b"INFO {")
        link.send(b"SUB a 1\r\n")
        payloads = [(bytes(range(number % 200, 251)) * (size // 50 + 1))[:size] for number, size in enumerate(sizes)]
        operations = [b"PUB a %d\r\n%b\r\n" % (len(payload), payload) for payload in payloads]
        for operation in operations[:12]:
            link.send(operation)
        link.send(*operations[12:])
        link.send(b"PING\r\n")
        received = link.read_until(b"PONG\r\n")
        assert received == b"".join(b"MSG a 1 %d\r\n%b\r\n" % (len(each), each) for each in payloads) + b"PONG\r\n"
        assert link.handed_over == len(PINGED) + sum(map(len, operations)) + len(b"SUB a 1\r\n" + b"PING\r\n")
        assert (len(link.raw) < sum(sizes) / 4) is compression
        assert layer.error is None


def test_compression_is_not_forced_upon_a_server(free_port: int) -> None:
    layer = WebSocketLayer(Server.parse(f"ws://127.0.0.1:{free_port}"), max_message=MiB, compression=True)
    with serving(free_port, settings="compression: false"), dialled(free_port) as link:
        link.push(layer)
        link.greet(QUIET)
        assert not layer.compressed


def test_a_server_with_a_small_max_payload_inflates_what_it_gets(free_port: int) -> None:
    with serving(free_port, more="max_payload: 10000"), upgraded(free_port, compression=True) as (link, layer):
        found = re.search(rb'"max_payload":(\d+)', link.read_until(b"\r\n"))
        assert found is not None
        layer.limit_messages(int(found[1]))
        link.send(b"CONNECT " + QUIET + b"\r\nSUB a 1\r\n")
        link.send(*[b"PUB a 10000\r\n" + bytes(10_000) + b"\r\n"] * 20, b"PING\r\n")
        assert link.read_until(b"PONG\r\n").count(b"MSG a 1 10000\r\n") == 20


@needs_server(2, 11, has="limit for what a compressed message inflates to")
def test_why_compressed_messages_are_cut(
    ws_server: LocalServer, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server refuses one that inflates beyond its ``max_payload``, though each operation in it is small enough."""
    monkeypatch.setattr(_websocket, "MESSAGE", 4 * MiB)
    with upgraded(free_port, compression=True) as (link, layer):
        link.greet(QUIET)
        link.send(*[b"PUB a 1024\r\n" + bytes(1024) + b"\r\n"] * 1024)
        link.read_to_the_end()
        ws_server.wait_for_log("maximum payload exceeded")
        assert layer.error is None


@compressions
def test_a_slow_reader_gets_all_that_waited_in_one_frame(
    ws_server: LocalServer, free_port: int, compression: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more than eight times ``max_payload``: a limit of that kind would end connections that are only slow."""
    lengths: list[int] = []
    begin = FrameReader._begin
    monkeypatch.setattr(FrameReader, "_begin", lambda self, first, n: (lengths.append(n), begin(self, first, n)))
    payload = bytes.fromhex("0123456789abcdef") * 12_500
    with upgraded(free_port, compression=compression) as (slow, layer), upgraded(free_port) as (publisher, _):
        slow.greet(QUIET)
        publisher.greet(QUIET)
        slow.send(b"SUB a 1\r\nPING\r\n")
        slow.read_until(b"PONG\r\n")
        for _ in range(300):
            publisher.send(b"PUB a 100000\r\n", payload, b"\r\n")
        publisher.send(b"PING\r\n")
        publisher.read_until(b"PONG\r\n")
        slow.send(b"PING\r\n")
        lengths.clear()
        slow.read_until(b"PONG\r\n")
        assert slow.plain.count(b"MSG a 1 100000\r\n") == 300
        assert layer.error is None
        if not compression:
            assert max(lengths) > 8 * MiB


@needs_server(2, 11, has="token_cookie")
def test_headers_arrive(free_port: int) -> None:
    """The server takes a token out of a cookie; without it the reason of its goodbye is told."""
    with serving(free_port, settings="token_cookie: 'nats'", more="authorization { token: s3cret }"):
        with upgraded(free_port, path="/any?thing=x", headers={"Cookie": "nats=s3cret"}) as (link, _):
            link.greet(QUIET)
        with upgraded(free_port) as (link, layer):
            link.read_until(b"\r\n")
            link.send(PINGED)
            link.read_to_the_end()
            assert b"-ERR 'Authorization Violation'" in link.plain
            assert (layer.ended, layer.close_code, layer.error) == (True, 1008, None)
            assert layer.close_reason == "Authentication Failure"


def test_our_goodbye_is_answered(ws_server: LocalServer, free_port: int) -> None:
    with upgraded(free_port) as (link, layer):
        link.greet(QUIET)
        layer.close()
        link.send(b"PING\r\n")
        link.read_to_the_end()
        assert (layer.ended, layer.close_code, layer.error) == (True, 1000, None)
        assert b"PONG\r\n" in link.plain[-6:]


def test_the_servers_end_is_no_error_of_the_layer(ws_server: LocalServer, free_port: int) -> None:
    with upgraded(free_port) as (link, layer):
        link.greet(QUIET)
        ws_server.kill()
        link.read_to_the_end()
        assert (layer.ended, layer.error) == (False, None)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("nats", "its answer is not HTTP; is this its WebSocket port?"),
        ("monitoring", "404 Not Found; there is nothing"),
    ],
)
def test_another_port(server: LocalServer, where: str, text: str) -> None:
    assert server._monitor is not None
    port = server.port if where == "nats" else server._monitor[1]
    with dialled(port) as link, pytest.raises(WebSocketError) as caught:
        link.push(WebSocketLayer(Server.parse(f"ws://127.0.0.1:{port}/nothing"), max_message=1))
    assert text in str(caught.value)


@needs_server(2, 11, has="answer of its own for /mqtt where there is no MQTT")
def test_a_path_the_server_keeps_for_others(ws_server: LocalServer, free_port: int) -> None:
    with pytest.raises(WebSocketError, match="404 Not Found; there is nothing"), upgraded(free_port, path="/mqtt"):
        pass
