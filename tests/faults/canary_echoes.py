"""The canary's ways past a server that says back what it was told, and what is shown of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from nats_proto import ServerErrorReceived
from nats_proto.errors import ProxyError, RemoteProtocolError, ServerError, TLSError, WebSocketError
from tests.adapters.legs import EventLog
from tests.faults.canary_cast import Role, connect_line
from tests.faults.canary_ways import PATIENT, Path, Stage
from tests.faults.peer import Connection, Peer, Script, close, hold, reset

__all__ = ["ECHOES"]


def back(role: Role, answer: Callable[[bytes, list[str]], list[bytes]]) -> Callable[[Connection], None]:
    """Say something made of CONNECT and the secrets in it."""

    def step(connection: Connection) -> None:
        line, texts = connect_line(role, connection)
        for each in answer(line, texts):
            role.say(each)(connection)

    return step


async def our_own_connect_comes_back(stage: Stage) -> None:
    role = stage.role
    answers: list[Callable[[bytes, list[str]], list[bytes]]] = [
        lambda line, texts: [line],
        lambda line, texts: [line[line.index(b'"pass"' if b'"pass"' in line else b'"headers"') :]],
        lambda line, texts: ["\r\n".join(texts).encode() + b"\r\n"],
        lambda line, texts: [b"-ERR '" + line[:-2] + b"'\r\n"],
        lambda line, texts: [b"MSG " + texts[-1].encode() + b" x y z\r\n" if texts else line],
        lambda line, texts: [b"INFO " + line[8:-2].replace(b'"echo"', b'"proto"') + b"\r\n"],
    ]
    scripts: list[Script] = [[role.opening(), back(role, answer), close()] for answer in answers]
    await stage.outlive(len(answers), *scripts, [reset()], expected=RemoteProtocolError)


async def a_refusal_that_quotes_a_secret(stage: Stage) -> None:
    role = stage.role
    texts = [b"'%b'", b"Authorization Violation: user %b", b"'Permissions Violation for Publish to \"%b\"'"]

    def refusal(text: bytes) -> Callable[[Connection], None]:
        return back(
            role, lambda line, secrets: [b"-ERR " + text % s.encode() + b"\r\n" for s in secrets or ["nothing"]]
        )

    scripts: list[Script] = [[role.opening(), refusal(text), close()] for text in texts]
    await stage.outlive(len(texts), *scripts, [reset()], expected=ServerError)


async def an_error_that_quotes_a_secret(stage: Stage) -> None:
    """On a connection that is up, and stays so."""
    role = stage.role

    async def during(client: Any, log: EventLog) -> None:
        sub = await client.subscribe("news")
        await sub.next(timeout=PATIENT)
        await log.wait(ServerErrorReceived)

    errors = (b"it was %b and %b", b'Permissions Violation for Subscription to "%b" using queue "%b"')

    def quote(connection: Connection) -> None:
        line, texts = connect_line(role, connection)
        role.say(b"PONG\r\n")(connection)
        role.heard(connection, re.compile(b"SUB news 1\r\n"))
        for secret in (text.encode() for text in texts or ["nothing"]):
            for error in errors:
                role.say(b"-ERR '" + error % (secret, secret) + b"'\r\n")(connection)
        role.say(b"-ERR '" + line[:-2] + b"'\r\nMSG news 1 0\r\n\r\n")(connection)

    with Peer([role.opening(), quote, hold()], again=True) as peer:
        await stage.life(peer.port, during)


async def a_refusal_over_http_that_quotes_a_secret(stage: Stage) -> None:
    role = stage.role

    def quote(status: bytes) -> Callable[[Connection], None]:
        def step(connection: Connection) -> None:
            head = connection.expect(re.compile(rb"(?:GET|CONNECT) (?s:.*?)\r\n\r\n")) if role.lower() else b""
            values = re.findall(rb"(?i)authorization: (?:\S+ )?(.*?)\r\n", head)
            values += re.findall(rb"token=(\S+)", head)
            connection.send(b"HTTP/1.1 %b %b\r\n\r\n" % (status, b" ".join(values) or b"No"))
            connection.close(reset=False)

        return step

    scripts: list[Script] = [[quote(b"401")], [quote(b"403")], [quote(b"502")]]
    if role.proxy and role.scheme == "ws":
        scripts += [[role.lower()[:1], quote(b"401")]]
    if role.scheme == "ws" and not role.proxy:
        reason = b"\x03\xe8" + role.secrets[0].encode()
        scripts += [[role.lower(), lambda connection: connection.send(b"\x88%c%b" % (len(reason), reason))]]
    await stage.outlive(
        len(scripts), *scripts, [reset()], expected=(ProxyError, WebSocketError, RemoteProtocolError, TLSError)
    )


ECHOES: Final[tuple[Path, ...]] = (
    our_own_connect_comes_back,
    a_refusal_that_quotes_a_secret,
    an_error_that_quotes_a_secret,
    a_refusal_over_http_that_quotes_a_secret,
)
