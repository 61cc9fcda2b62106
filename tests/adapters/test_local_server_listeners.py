"""`nats_sync.testing`: servers that speak TLS and WebSocket, met with bare sockets and `ssl`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nats_sync.testing import LocalCluster, LocalServer, LocalServerError, ServerTLS
from tests.adapters.test_local_server import PATIENCE, list_of, read_until
from tests.certificates import Certificates

HELLO = b'CONNECT {"verbose":false}\r\nPING\r\n'


@contextlib.contextmanager
def dialled(url: str, context: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    """A socket to what ``url`` names, with TLS at once when there is a context."""
    host, _, port = url.partition("://")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        if context is None:
            yield sock
        else:
            with context.wrap_socket(sock, server_hostname=host) as secure:
                yield secure


def info_in_clear(sock: socket.socket) -> dict[str, object]:
    """INFO, and not a byte more: TLS may begin behind it."""
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        assert byte, line
        line += byte
    found: dict[str, object] = json.loads(line.removeprefix(b"INFO "))
    return found


def upgraded(sock: socket.socket, *, extension: str = "") -> tuple[bytes, dict[str, object]]:
    """What the server answers to a request for WebSocket, and the INFO in its first frame."""
    asked = f"Sec-WebSocket-Extensions: {extension}\r\n" if extension else ""
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n" + asked.encode() + b"\r\n"
    )
    answer, _, frame = read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    if extension:
        return answer, {}  # INFO is compressed
    if b"\r\n" not in frame:
        frame += read_until(sock, b"\r\n")
    found: dict[str, object] = json.loads(frame[frame.index(b"INFO ") + 5 :])
    return answer, found


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_tls_behind_info(certificates: Certificates) -> None:
    with LocalServer(tls=certificates.server_tls()) as server:
        assert server.url == f"tls://127.0.0.1:{server.port}"
        with dialled(server.url) as sock:
            assert info_in_clear(sock)["tls_required"] is True
            with certificates.client_context().wrap_socket(sock, server_hostname="localhost") as secure:
                secure.sendall(HELLO)
                read_until(secure, b"PONG\r\n")
        assert server.healthz() == {"status": "ok"}


def test_tls_before_info(certificates: Certificates) -> None:
    with (
        LocalServer(tls=certificates.server_tls(handshake_first=True), websocket=True) as server,
        dialled(server.url, certificates.client_context()) as sock,
    ):
        read_until(sock, b"INFO ")
        sock.sendall(HELLO)
        read_until(sock, b"PONG\r\n")


def test_tls_before_info_for_those_who_begin_in_time(certificates: Certificates) -> None:
    with LocalServer(tls=certificates.server_tls(handshake_first="1s")) as server:
        with dialled(server.url, certificates.client_context()) as sock:
            read_until(sock, b"INFO ")
        with dialled(server.url) as sock:
            assert info_in_clear(sock)["tls_required"] is True


def test_how_long_a_handshake_may_take(certificates: Certificates) -> None:
    with LocalServer(tls=certificates.server_tls()) as server:
        assert server.varz()["tls_timeout"] == 10
    with LocalServer(tls=replace(certificates.server_tls(), timeout=0.05)) as server, dialled(server.url) as sock:
        assert server.varz()["tls_timeout"] == 0.05
        info_in_clear(sock)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) in (b"", b"\x15")  # the end, or an alert in front of it


@pytest.mark.parametrize("websocket", [False, True], ids=["tls", "wss"])
def test_clients_without_a_certificate_can_be_refused(certificates: Certificates, websocket: bool) -> None:
    def talk(context: ssl.SSLContext) -> None:
        with dialled(url, None if not websocket else context) as sock:
            if websocket:
                upgraded(sock)
                return
            info_in_clear(sock)
            with context.wrap_socket(sock, server_hostname="localhost") as secure:
                secure.sendall(HELLO)
                read_until(secure, b"PONG\r\n")

    with LocalServer(tls=certificates.server_tls(verify=True), websocket=websocket) as server:
        url = server.websocket_url if websocket else server.url
        talk(certificates.client_context(certificate=True))
        # Whoever is first says so: the alert, or the end of a socket that still has something to read.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            talk(certificates.client_context())


def test_files_may_be_named_from_here(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(certificates.ca.parent)
    tls = ServerTLS(cert=certificates.server_cert.name, key=certificates.server_key.name)
    monkeypatch.chdir("/")
    with LocalServer(tls=tls, websocket=True) as server:
        server.reload()


def test_a_file_that_is_not_there_is_an_error_with_the_reason(tmp_path: Path) -> None:
    tls = ServerTLS(cert=tmp_path / "none.pem", key=tmp_path / "none.key")
    with pytest.raises(LocalServerError, match=r"none\.pem"), LocalServer(tls=tls):
        pass


# --- WebSocket -------------------------------------------------------------------------------------------------------


def test_websocket_has_a_port_of_its_own() -> None:
    with LocalServer(websocket=True) as server:
        assert server.url == f"nats://127.0.0.1:{server.port}"
        assert server.websocket_url.startswith("ws://127.0.0.1:")
        assert not server.websocket_url.endswith(f":{server.port}")
        with dialled(server.url) as sock:
            assert info_in_clear(sock)["port"] == server.port
        with dialled(server.websocket_url) as sock:
            assert upgraded(sock)[1]["server_name"] == server.name


def test_websocket_over_tls(certificates: Certificates) -> None:
    with LocalServer(tls=certificates.server_tls(), websocket=True) as server:
        assert server.websocket_url.startswith("wss://127.0.0.1:")
        with dialled(server.websocket_url, certificates.client_context()) as sock:
            assert upgraded(sock)[1]["server_name"] == server.name


@pytest.mark.parametrize(("websocket", "agreed"), [(True, False), ("compressed", True)], ids=["plain", "compressed"])
def test_websocket_compresses_when_asked_to(websocket: bool, agreed: bool) -> None:
    with LocalServer(websocket=websocket) as server, dialled(server.websocket_url) as sock:
        offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        answer, _ = upgraded(sock, extension=offer)
        assert (b"permessage-deflate" in answer) is agreed


def test_without_websocket_there_is_no_url() -> None:
    with LocalServer() as server, pytest.raises(LocalServerError, match="websocket=True"):
        _ = server.websocket_url
    with pytest.raises(ValueError, match="websocket"):
        LocalServer(websocket="gzip")  # type: ignore[arg-type]


# --- both, through a server's life -----------------------------------------------------------------------------------


def test_every_listener_is_open_when_the_start_returns(certificates: Certificates) -> None:
    context = certificates.client_context()
    with LocalServer(tls=certificates.server_tls(), websocket=True) as server:
        urls = server.url, server.websocket_url
        for _ in range(10):
            server.restart()
            with dialled(server.websocket_url, context) as sock:
                upgraded(sock)
            with dialled(server.url) as sock:
                info_in_clear(sock)
        assert urls == (server.url, server.websocket_url)


def test_the_port_of_websocket_is_not_given_away_while_the_server_is_down() -> None:
    with LocalServer(websocket=True) as server:
        server.kill()
        port = int(server.websocket_url.rpartition(":")[2])
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


def test_a_reload_keeps_listeners_and_connections(certificates: Certificates) -> None:
    with (
        LocalServer(tls=certificates.server_tls(), websocket="compressed") as server,
        dialled(server.url) as sock,
        dialled(server.websocket_url, certificates.client_context()) as other,
    ):
        info_in_clear(sock)
        upgraded(other)
        with certificates.client_context().wrap_socket(sock, server_hostname="localhost") as secure:
            secure.sendall(HELLO)
            read_until(secure, b"PONG\r\n")
            # Where it listens and how is not for the configuration to say.
            strict = certificates.server_tls(verify=True).settings()
            server.reload({"max_payload": 2048, "tls": strict, "websocket": {"listen": "127.0.0.1:1", "no_tls": True}})
            secure.sendall(b"PING\r\n")
            read_until(secure, b"PONG\r\n")
        with dialled(server.url) as again:
            assert "tls_verify" not in info_in_clear(again)
        with dialled(server.websocket_url, certificates.client_context()) as again:
            assert upgraded(again)[1]["max_payload"] == 2048


def test_what_is_not_asked_for_is_for_the_configuration_to_say(certificates: Certificates) -> None:
    tls = certificates.server_tls().settings()
    with LocalServer({"tls": tls, "websocket": {"listen": "127.0.0.1:-1", "no_tls": True}}) as server:
        assert server.varz()["tls_required"] is True
        websocket = server.varz()["websocket"]
        assert isinstance(websocket, dict)
        assert websocket["no_tls"] is True


def test_a_cluster_tells_each_client_of_what_it_can_dial(certificates: Certificates) -> None:
    context = certificates.client_context()
    with LocalCluster(3, tls=certificates.server_tls(), websocket=True) as cluster:
        for server in cluster.servers:
            with dialled(server.url) as sock:
                told = list_of(info_in_clear(sock)["connect_urls"])
            assert {f"tls://{address}" for address in told} == set(cluster.urls)
            with dialled(server.websocket_url, context) as sock:
                told = list_of(upgraded(sock)[1]["connect_urls"])
            assert {f"wss://{address}" for address in told} == set(cluster.websocket_urls)


def test_nothing_of_the_files_stays_behind(certificates: Certificates) -> None:
    with LocalServer(tls=certificates.server_tls(), websocket=True) as server:
        directory = server._directory
    assert not os.path.exists(directory)
    assert certificates.server_key.exists()
