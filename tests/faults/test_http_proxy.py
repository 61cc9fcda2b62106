"""The proxy of the tests does what it says, and the tunnel's layer works through it with a real server."""

from __future__ import annotations

import socket

import pytest

from nats_proto._layers.proxy_layer import ProxyLayer
from nats_proto._layers.websocket import WebSocketLayer
from nats_proto._servers.proxy import Proxy
from nats_proto._servers.server import Server
from nats_proto.errors import ProxyError
from nats_sync.testing import LocalServer
from tests.faults.http_proxy import HTTPProxy
from tests.faults.layered import Layered, dialled

QUIET = b'{"verbose":false}'


def through(proxy: HTTPProxy, link: Layered, port: int, url: str | None = None) -> None:
    link.push(ProxyLayer(Proxy.parse(url or proxy.url), ("127.0.0.1", port)))


@pytest.mark.parametrize("credentials", [None, "user:p%20w:x"])
def test_a_server_is_reached_through_the_tunnel(server: LocalServer, credentials: str | None) -> None:
    with HTTPProxy() as proxy, dialled(proxy.port) as link:
        proxy.credentials = credentials
        url, proxy.credentials = proxy.url, credentials and "user:p w:x"
        through(proxy, link, server.port, url)
        assert link.greet(QUIET).startswith(b"INFO {")
        payload = bytes(range(256)) * 4096
        link.send(b"SUB a 1\r\n", b"PUB a %d\r\n" % len(payload), payload, b"\r\n", b"PING\r\n")
        assert link.read_until(b"PONG\r\n") == b"MSG a 1 %d\r\n%b\r\nPONG\r\n" % (len(payload), payload)
        sent = b"CONNECT " + QUIET + b"\r\nPING\r\nSUB a 1\r\nPUB a %d\r\n" % len(payload) + payload + b"\r\nPING\r\n"
        assert link.handed_over == len(sent)
        assert (proxy.targets, proxy.tunnels, proxy.refused) == ([f"127.0.0.1:{server.port}"], 1, [])


def test_websocket_goes_through_the_tunnel(free_port: int) -> None:
    config = f"websocket {{ listen: '127.0.0.1:{free_port}', no_tls: true }}"
    with LocalServer(config), HTTPProxy(credentials="u:p") as proxy, dialled(proxy.port) as link:
        through(proxy, link, free_port)
        link.push(WebSocketLayer(Server.parse(f"ws://127.0.0.1:{free_port}"), max_message=2**26))
        assert link.greet(QUIET).startswith(b"INFO {")
        assert link.handed_over == len(b"CONNECT " + QUIET + b"\r\nPING\r\n")


@pytest.mark.parametrize(
    ("credentials", "url", "refuse", "text", "status"),
    [
        ("u:p", "http://127.0.0.1:1", None, "407 Proxy Authentication Required; it wants credentials", 407),
        ("u:p", "http://u:m4rker@127.0.0.1:1", None, "it does not accept the user and password", 407),
        (None, "http://127.0.0.1:1", 403, "403 Forbidden; its rules", 403),
        (None, "http://127.0.0.1:1", 503, "503 No; it could not reach", 503),
    ],
)
def test_the_proxy_refuses(
    server: LocalServer, credentials: str | None, url: str, refuse: int | None, text: str, status: int
) -> None:
    with HTTPProxy(credentials=credentials, refuse=refuse) as proxy, dialled(proxy.port) as link:
        with pytest.raises(ProxyError) as caught:
            through(proxy, link, server.port, url)
        assert text in str(caught.value)
        assert "m4rker" not in str(caught.value)
        assert caught.value.status == status
        assert (proxy.tunnels, proxy.refused) == (0, [status])


def test_a_server_that_is_not_there(free_port: int) -> None:
    with HTTPProxy() as proxy, dialled(proxy.port) as link:
        with pytest.raises(ProxyError, match="502 No; it could not reach the server"):
            through(proxy, link, free_port)
        assert proxy.refused == [502]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: other:1\r\n\r\n",
        b"CONNECT 127.0.0.1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
def test_a_wrong_request_gets_400(request_: bytes) -> None:
    with HTTPProxy() as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock:
        sock.sendall(request_)
        assert sock.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"
    assert proxy.refused == [400]


def test_cut_ends_what_is_there_and_the_next_tunnel_is_good(server: LocalServer) -> None:
    with HTTPProxy() as proxy:
        with dialled(proxy.port) as link:
            through(proxy, link, server.port)
            link.greet(QUIET)
            proxy.cut()
            link.read_to_the_end()
        with dialled(proxy.port) as link:
            through(proxy, link, server.port)
            link.greet(QUIET)
        assert proxy.tunnels == 2


def test_the_end_of_the_server_ends_the_tunnel(server: LocalServer) -> None:
    with HTTPProxy() as proxy, dialled(proxy.port) as link:
        through(proxy, link, server.port)
        link.greet(QUIET)
        server.kill()
        link.read_to_the_end()
        assert link.wire.error is None


def test_leaving_the_block_ends_open_tunnels(server: LocalServer) -> None:
    with HTTPProxy() as proxy, dialled(proxy.port) as link:
        through(proxy, link, server.port)
        link.greet(QUIET)
