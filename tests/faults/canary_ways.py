"""The canary's ways through the network and past the servers: for each of them, what happens to one client."""

from __future__ import annotations

import _socket
import errno
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
import pytest
import trio

from nats_proto import AuthenticationFailed, Closed, ConnectOptions, Disconnected, Reconnected, Reconnecting
from nats_proto.errors import (
    AuthenticationExpiredError,
    AuthorizationError,
    MaxConnectionsError,
    NATSError,
    NATSTimeoutError,
    PermissionsError,
    SecureConnectionRequiredError,
    TLSCertificateError,
    TLSError,
    TransportError,
)
from tests.adapters.legs import EventLog, Leg, ThreadsClient, hub_of
from tests.adapters.test_sync_dial import full_listener
from tests.faults.canary import Look
from tests.faults.canary_cast import CONNECT, Cast, Role, secured
from tests.faults.peer import Peer, Script, close, expect, hold, loop, reset, send

__all__ = ["NETWORK", "PATIENT", "SERVER", "SHORT", "Stage", "a_write_that_fails", "refused_writes"]

QUICK: Final[dict[str, Any]] = {"reconnect_wait": 0.01, "reconnect_jitter": 0.0, "reconnect_jitter_tls": 0.0}
SHORT: Final = 0.15  # seconds until a server that says nothing is given up
PATIENT: Final = 20.0  # until anything else is: only a failure takes so long

During = Callable[[Any, EventLog], Awaitable[None]]


@dataclass
class Stage:
    """One client on its way through one path."""

    leg: Leg
    role: Role
    cast: Cast
    look: Look

    @property
    def awaits(self) -> bool:
        return self.leg.name != "threads"

    async def life(
        self,
        port: int,
        during: During | None = None,
        *,
        expected: type[Exception] | tuple[type[Exception], ...] | None = None,
        url: str | None = None,
        host: str = "127.0.0.1",
        **more: Any,
    ) -> None:
        """Connect, look, close, look; ``expected`` is what must be among the errors seen."""
        look, name, log = self.look, self.role.name, EventLog()
        seen = len(look.errors)  # of this client, which walks alone
        options = {"connect_timeout": PATIENT, "on_event": log, **QUICK, **more}
        try:
            options = self.role.options(port, self.awaits, host, **options)
            look(ConnectOptions(**options), f"options of {name}")
            async with self.leg.connect(url or self.role.url(port, host), **options) as client:
                self.look_at(client)
                if during is not None:
                    await during(client, log)
                self.look_at(client)
            self.look_at(client)
        except Exception as error:
            if not isinstance(error, (NATSError, TypeError, ValueError)):
                raise
            look(error, f"error of {name}")
        look(list(log), f"events of {name}")
        if expected is not None:
            assert any(isinstance(error, expected) for error in look.errors[seen:]), (name, look.errors[seen:])

    async def outlive(self, count: int, *scripts: Script, expected: Any, **more: Any) -> None:
        """Fail so often, and then once more, each time in another way."""

        async def during(client: Any, log: EventLog) -> None:
            await log.wait(Reconnecting, count=count)

        with Peer(*scripts, again=True) as peer:
            await self.life(peer.port, during, expected=expected, retry_on_failed_connect=True, **more)

    def look_at(self, client: Any) -> None:
        inner = client.client if isinstance(client, ThreadsClient) else client
        self.look(inner, f"client of {self.role.name}")
        self.look(hub_of(client).session, f"session of {self.role.name}")
        self.look.names([*self.leg.running(), *anyio.get_running_tasks()])


async def reconnecting(client: Any, log: EventLog) -> None:
    await log.wait(Reconnecting, count=2)


async def closed(client: Any, log: EventLog) -> None:
    await log.wait(Closed)


Path = Callable[[Stage], Awaitable[None]]


# --- paths: the network -----------------------------------------------------------------------------------------------


async def a_good_life(stage: Stage) -> None:
    role = stage.role

    async def during(client: Any, log: EventLog) -> None:
        sub = await client.subscribe("news", queue="readers")
        stage.look(getattr(sub, "subscription", sub), "subscription")
        await client.publish("news", b"hello", headers={"A": "b"})
        await client.flush()
        with pytest.raises(NATSTimeoutError) as caught:
            await client.request("nobody", timeout=0.01)
        stage.look(caught.value, "a request's error")
        await client.drain()

    pongs = [role.hear(re.compile(b"PING\r\n")), role.say(b"PONG\r\n")]
    with Peer([role.greeted(), loop(pongs)], again=True) as peer:
        await stage.life(peer.port, during)


async def a_name_without_address(stage: Stage) -> None:
    await stage.life(4222, expected=TransportError, host="no-such-host.invalid")


async def a_refused_dial(stage: Stage) -> None:
    with Peer([reset()]) as gone:
        pass
    await stage.life(gone.port, reconnecting, expected=TransportError, retry_on_failed_connect=True)


async def a_dial_that_takes_too_long(stage: Stage) -> None:
    with full_listener() as port:
        await stage.life(port, expected=NATSTimeoutError, connect_timeout=SHORT)


async def a_silent_server(stage: Stage) -> None:
    with Peer([hold()], again=True) as peer:
        await stage.life(peer.port, expected=NATSTimeoutError, connect_timeout=SHORT)


async def a_lost_connection(stage: Stage) -> None:
    async def during(client: Any, log: EventLog) -> None:
        await log.wait(Disconnected)
        await log.wait(Reconnected)

    with Peer([stage.role.greeted(), reset()], [stage.role.greeted(), hold()]) as peer:
        await stage.life(peer.port, during, expected=TransportError)


async def a_cut_while_connect_is_written(stage: Stage) -> None:
    """The reset is there before CONNECT is written, or comes while it is."""
    role = stage.role
    cuts = [role.opening(), reset()], [role.opening(), role.hear(re.compile(b"CONN")), reset()]
    await stage.outlive(2, *cuts, expected=NATSError)


async def a_write_that_fails(stage: Stage) -> None:
    """The system refuses to write CONNECT: the frames of that call have it in their hands."""
    if stage.role.tls is None and stage.role.scheme == "nats":
        await stage.outlive(2, [stage.role.opening(), hold()], expected=TransportError)


@contextmanager
def refused_writes() -> Iterator[None]:
    """No socket takes a CONNECT."""

    def check(data: bytes) -> None:
        if bytes(data[:9]) == b"CONNECT {":
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def send(sock: Any, data: bytes, *flags: int) -> int:
        check(data)
        return _socket.socket.send(sock, data, *flags)

    async def trio_send(sock: Any, data: bytes, *flags: int) -> Any:
        check(data)
        return await of_trio(sock, data, *flags)

    of_trio = trio._socket._SocketType.send
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "send", send, raising=False)
        patch.setattr(trio._socket._SocketType, "send", trio_send)
        yield


async def a_close_while_connecting(stage: Stage) -> None:
    async def during(client: Any, log: EventLog) -> None:
        await log.wait(Reconnecting)
        stage.look_at(client)
        await client.close()

    with Peer([close()], [stage.role.opening(), hold()], again=True) as peer:
        await stage.life(peer.port, during, retry_on_failed_connect=True)


# --- paths: the server ------------------------------------------------------------------------------------------------


async def no_tls_where_it_is_wanted(stage: Stage) -> None:
    role = stage.role
    secure = {"nats": "tls", "ws": "wss"}[role.scheme]
    plain = replace(role, tls=None)
    if role.scheme == "ws":  # TLS is to begin at once
        expected: Any = TLSError
        script: Script = [
            *role.lower()[:-1],
            expect(re.compile(rb"(?s)...")),
            send(b"HTTP/1.1 400 No\r\n\r\n"),
            close(),
        ]
    else:
        expected, script = SecureConnectionRequiredError, [plain.opening(), hold()]
    with Peer(script, again=True) as peer:
        await stage.life(peer.port, expected=expected, url=role.url(peer.port, scheme=secure))


async def a_certificate_nobody_trusts(stage: Stage) -> None:
    role = stage.role
    secure = replace(role, tls=stage.cast.stranger(), scheme="wss" if role.scheme == "ws" else "tls")
    script = [role.lower()[:-1], secured(secure.tls)] if role.scheme == "ws" else [secure.opening()]
    with Peer(script, again=True) as peer:
        await stage.life(peer.port, expected=TLSCertificateError, url=secure.url(peer.port))


async def an_authorization_violation(stage: Stage) -> None:
    role = stage.role
    refusal = [role.opening(), role.hear(CONNECT), role.say(b"-ERR 'Authorization Violation'\r\n")]
    with Peer(refusal, again=True) as peer:
        await stage.life(peer.port, closed, expected=AuthorizationError, retry_on_failed_connect=True)


async def too_many_connections(stage: Stage) -> None:
    role = stage.role
    refusal = [role.opening(), role.hear(CONNECT), role.say(b"-ERR 'maximum connections exceeded'\r\n"), close()]
    await stage.outlive(2, refusal, expected=MaxConnectionsError)


async def credentials_that_run_out(stage: Stage) -> None:
    async def during(client: Any, log: EventLog) -> None:
        await log.wait(AuthenticationFailed)
        await log.wait(Reconnected)

    role = stage.role
    expiry = role.say(b"-ERR 'User Authentication Expired'\r\n")
    with Peer([role.greeted(), expiry, close()], [role.greeted(), hold()]) as peer:
        await stage.life(peer.port, during, expected=AuthenticationExpiredError)


async def a_permissions_violation(stage: Stage) -> None:
    async def during(client: Any, log: EventLog) -> None:
        sub = await client.subscribe("secret.news")
        with pytest.raises(PermissionsError) as caught:
            await sub.next(timeout=PATIENT)
        stage.look(caught.value, "error of a subscription")
        with pytest.raises(PermissionsError) as caught:
            await client.request("secret.service", timeout=PATIENT)
        stage.look(caught.value, "error of a request")

    role = stage.role
    script = [
        role.greeted(),
        role.hear(re.compile(b"SUB secret.news 1\r\n")),
        role.say(b"-ERR 'Permissions Violation for Subscription to \"secret.news\"'\r\n"),
        role.hear(re.compile(b"PUB secret.service ")),
        role.say(b"-ERR 'Permissions Violation for Publish to \"secret.service\"'\r\n"),
        role.hear(re.compile(b"PING\r\n")),  # that it was this request, and no other, is certain by the answer
        role.say(b"PONG\r\n"),
        hold(),
    ]
    with Peer(script) as peer:
        await stage.life(peer.port, during)
    assert not any(isinstance(error, NATSTimeoutError) for error in stage.look.errors)


async def a_bad_nonce(stage: Stage) -> None:
    """None at all, one without end, one that looks like more than one line."""
    role = stage.role
    nonces = ["n" * 2000, 'a\r\nPUB b 0\r\n\r\n\0"']
    if role.name in ("seed", "websocket-behind-a-proxy"):  # a JWT alone would go without
        nonces.append("")
    scripts: list[Script] = [[role.opening(nonce=nonce), role.hear(CONNECT), close()] for nonce in nonces]
    await stage.outlive(len(nonces), *scripts, [reset()], expected=NATSError)


async def garbage_instead_of_info(stage: Stage) -> None:
    role = stage.role
    garbage = [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"INFO {\r\n",
        b"INFO {}}\r\n",
        b"\0" * 300,
    ]
    scripts: list[Script] = [[role.lower(), role.say(each), close()] for each in garbage]
    await stage.outlive(len(garbage), *scripts, [reset()], expected=NATSError)


NETWORK: Final[tuple[Path, ...]] = (
    a_good_life,
    a_name_without_address,
    a_refused_dial,
    a_dial_that_takes_too_long,
    a_silent_server,
    a_lost_connection,
    a_cut_while_connect_is_written,
    a_write_that_fails,
    a_close_while_connecting,
)
SERVER: Final[tuple[Path, ...]] = (
    no_tls_where_it_is_wanted,
    a_certificate_nobody_trusts,
    an_authorization_violation,
    too_many_connections,
    credentials_that_run_out,
    a_permissions_violation,
    a_bad_nonce,
    garbage_instead_of_info,
)
