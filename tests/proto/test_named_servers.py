"""Every error names its server once; who lists errors, or logs them beside a server's name, has no second one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Closed, Disconnected, Perform, Reconnecting
from nats_proto._connection.server_errors import name_server
from nats_proto._servers.server import Server
from nats_proto.errors import ConfigurationError, NATSError, NoServersError, RemoteProtocolError
from tests.proto.driver import PING, PONG, World, err, info, msg
from tests.proto.websocket_peer import accept

HOST = "broker.example:4333"
Do = Callable[[World], object]


def shaken(*what: bytes) -> Do:
    """Up, and then the server says this."""

    def do(world: World) -> None:
        world.up()
        world.feed(b"".join(what))

    return do


def said(*what: bytes) -> Do:
    """The server says this in place of a handshake."""

    def do(world: World) -> None:
        world.accept()
        for data in what:
            world.feed(data)

    return do


def performed(answer: object) -> Do:
    """What the greeting asks of the outside world gets this answer."""

    def do(world: World) -> None:
        world.accept()
        world.feed(info(nonce="abc"))
        (command,) = [command for command in world.commands if isinstance(command, Perform)]
        if isinstance(answer, Exception):
            world.session.perform_failed(command, answer, now=world.now)
        else:
            world.session.performed(command, answer, now=world.now)
        world.pump()

    return do


def upgraded(world: World) -> None:
    world.accept()
    world.feed(accept(world.wire()) + b"\x8f\x00")


def waited(world: World) -> None:
    world.up()
    world.wait(1000)


def eof(*before: bytes) -> Do:
    def do(world: World) -> None:
        world.accept()
        for data in before:
            world.feed(data)
        world.eof()

    return do


ENDS: dict[str, tuple[Do, dict[str, Any]]] = {
    "refused": (World.refuse, {}),
    "refused through a proxy": (World.refuse, {"proxy": "http://proxy:3128"}),
    "failed with an error of ours": (lambda world: world.refuse(ConfigurationError("no such thing")), {}),
    "dial too slow": (lambda world: world.wait(1000), {}),
    "handshake too slow": (lambda world: (world.accept(), world.wait(1000)), {}),
    "end before INFO": (eof(), {}),
    "end behind INFO": (eof(info()), {}),
    "end later": (eof(info(), PONG), {}),
    "reset in the handshake": (lambda world: (world.accept(), world.cut()), {}),
    "reset": (lambda world: (world.up(), world.cut()), {}),
    "lost with an error of ours": (lambda world: (world.up(), world.cut(RemoteProtocolError("odd"))), {}),  # type: ignore[func-returns-value]
    "stale": (waited, {"ping_interval": 10.0}),
    "no NATS": (said(b"SSH-2.0-OpenSSH\r\n"), {}),
    "no INFO": (said(PING), {}),
    "bad INFO": (said(b"INFO []\r\n"), {}),
    "bad INFO again": (said(info(), b"INFO []\r\n"), {}),
    "no PONG": (said(info(), msg("a", 1)), {}),
    "refusal": (said(info(), err("Authorization Violation")), {}),
    "refusal later": (shaken(err("User Authentication Expired")), {}),
    "for ever refused": (said(info(), err("invalid client protocol")), {}),
    "error that ends": (shaken(err("Stale Connection")), {}),
    "malformed": (shaken(b"MSG a b c d e\r\n"), {}),
    "too long": (shaken(b"MSG " + b"a" * 40_000), {}),
    "unknown operation": (shaken(b"MESSAGE\r\n"), {}),
    "TLS not offered": (said(info()), {"servers": f"tls://{HOST}"}),
    "more behind INFO": (said(info(tls_required=True) + PING), {}),
    "TLS in clear": (said(info(tls_required=True), b"\x15\x03\x01\x00\x02\x02\x28"), {}),
    "refused before TLS": (said(info(tls_required=True) + err("maximum connections exceeded")), {}),
    "TLS cut": (eof(info(tls_required=True)), {}),
    "no echo": (said(info(proto=0)), {"echo": False}),
    "no nonce": (said(info()), {"nkey_seed": "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"}),
    "auth callback": (performed(ValueError("x")), {"auth": lambda challenge: None}),
    "auth callback of nothing": (performed(None), {"auth": lambda challenge: None}),
    "credentials": (performed(FileNotFoundError(2, "No such file")), {"credentials": "/x.creds"}),
    "credentials of nothing": (performed(b"x"), {"credentials": "/x.creds"}),
    "no WebSocket": (said(b"HTTP/1.1 404 Not Found\r\n\r\n"), {"servers": f"ws://{HOST}/path"}),
    "WebSocket fault": (upgraded, {"servers": f"ws://{HOST}/path"}),
    "no tunnel": (said(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), {"proxy": "http://proxy:3128"}),
}


@pytest.mark.parametrize(("do", "options"), ENDS.values(), ids=ENDS)
def test_what_ends_an_attempt_or_a_connection_names_the_server_once(do: Do, options: dict[str, Any]) -> None:
    world = World(**{"servers": f"nats://{HOST}", "allow_reconnect": False, **options})
    do(world)
    (closed,) = world.events_of(Closed)
    error = closed.error
    assert error is not None
    assert str(error).count(HOST) == 1, str(error)
    assert "server server" not in str(error)
    if isinstance(error, NoServersError):
        ((_, attempt),) = error.attempts
        assert str(error) == f"no server could be used: {attempt}"
    with pytest.raises(NATSError) as raised:
        world.session.publish("a")
    assert str(raised.value) == f"publish: the client is closed ({error})"


def test_events_of_a_link_that_is_made_again_have_such_errors() -> None:
    world = World(f"nats://{HOST}, nats://other").ready()
    token = world.session.flush()
    world.feed(b"-\xff\r\n")
    lost, *rest = [event for event in world.events() if hasattr(event, "error")]
    assert token == 1
    for event in (lost, *rest):
        error = event.error  # type: ignore[union-attr]
        assert str(error).count(HOST) == 1, str(error)
    assert {type(event) for event in rest} >= {Disconnected, Reconnecting}


@pytest.mark.parametrize("url", ["nats://h:1", "ws://h:1/path", "nats://[::1]:5"])
def test_only_an_error_without_a_name_gets_one(url: str) -> None:
    server = Server.parse(url)
    bare = RemoteProtocolError("odd")
    name_server(bare, server)
    assert str(bare) == f"server {server}: odd"
    named = str(bare)
    name_server(bare, server)
    assert str(bare) == named


def test_many_failures_are_listed_by_their_own_texts() -> None:
    names = [f"h{number}" for number in range(12)]
    world = World(", ".join(names))
    for _ in names:
        world.refuse(ConnectionRefusedError("refused"))
    (closed,) = world.events_of(Closed)
    expected = "; ".join(f"cannot connect to server nats://{name}:4222: refused" for name in names[:10])
    assert str(closed.error) == f"no server could be used: {expected}; and 2 more"
    assert isinstance(closed.error, NoServersError)
    assert [server for server, _ in closed.error.attempts] == [f"nats://{name}:4222" for name in names]
