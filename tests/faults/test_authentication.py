"""Who we say we are, to real servers: keys, JWTs, callbacks; credentials that run out, are withdrawn, change or never
come; and what a server refuses once it knows us."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from nats_proto import (
    AuthenticationFailed,
    Challenge,
    Closed,
    Connected,
    Credentials,
    Disconnected,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    SessionStatus,
)
from nats_proto.errors import (
    AccountAuthenticationExpiredError,
    AuthenticationExpiredError,
    AuthenticationRevokedError,
    AuthenticationTimeoutError,
    AuthorizationError,
    CredentialsError,
    MaxConnectionsError,
    NATSTimeoutError,
    NoServersError,
    PermissionsError,
    ThrottledError,
)
from nats_proto.nkeys import KeyPair, Prefix
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, EventLog, Leg, eventually
from tests.faults.peer import Peer, close, expect, handshake, hold, info, send
from tests.operator_mode import OperatorMode, User

pytestmark = pytest.mark.anyio

SEEDS = [KeyPair.create(Prefix.USER, bytes([number]) * 32) for number in range(2)]
ALICE, BOB = SEEDS


def identity(server: LocalServer) -> list[str]:
    """The users of the connections there are."""
    connections: Any = server.connz(auth=1)["connections"]
    return [connection["authorized_user"] for connection in connections]


def keys(*users: KeyPair) -> dict[str, object]:
    """The configuration of a server that knows these keys."""
    return {"authorization": {"users": [{"nkey": user.public_key} for user in users]}}


@pytest.fixture(scope="module")
def world() -> OperatorMode:
    return OperatorMode()


@pytest.fixture(scope="module")
def strict(world: OperatorMode) -> Iterator[LocalServer]:
    """A server that wants a JWT."""
    with LocalServer(world.config()) as local:
        yield local


def asynchronous(leg: Leg, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, to be awaited where that can be done."""

    async def later(*args: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return function(*args)

    return function if leg.name == "threads" else later


# --- ways to say it ---------------------------------------------------------------------------------------------------


async def test_a_key(leg: Leg) -> None:
    with LocalServer(keys(ALICE, BOB)) as server:
        async with leg.connect(server.url, nkey_seed=ALICE.seed, **QUICK) as client:
            assert identity(server) == [ALICE.public_key]
            await client.reconnect()
            await eventually(lambda: client.stats.reconnects == 1)
            await client.flush()
            await eventually(lambda: identity(server) == [ALICE.public_key])  # without the connection before
        with pytest.raises(NoServersError) as caught:
            async with leg.connect(server.url, nkey_seed=KeyPair.create(Prefix.USER, bytes([9]) * 32).seed):
                pass
        assert type(caught.value.attempts[0][1]) is AuthorizationError


async def test_a_key_for_a_server_that_takes_none(leg: Leg, url: str) -> None:
    with pytest.raises(NoServersError) as caught:
        async with leg.connect(url, nkey_seed=ALICE.seed):
            pass
    error = caught.value.attempts[0][1]
    assert type(error) is CredentialsError
    assert "does not take NKeys" in str(error)


SOURCES: dict[str, Callable[[Leg, str, Path], object]] = {
    "text": lambda leg, creds, path: creds,
    "bytes": lambda leg, creds, path: creds.encode(),
    "path": lambda leg, creds, path: path,
    "path-as-text": lambda leg, creds, path: str(path),
    "path-with-variable": lambda leg, creds, path: f"$CREDS_FOLDER/{path.name}",
    "provider-of-text": lambda leg, creds, path: lambda: creds,
    "provider-of-a-path": lambda leg, creds, path: lambda: path,
    "provider-that-is-awaited": lambda leg, creds, path: asynchronous(leg, lambda: creds.encode()),
}


@pytest.mark.parametrize("source", SOURCES)
async def test_credentials(
    leg: Leg, source: str, strict: LocalServer, world: OperatorMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDS_FOLDER", str(tmp_path))
    user = world.user("alice")
    path = tmp_path / "alice.creds"
    path.write_text(user.creds)
    path.chmod(0o600)
    given: Any = SOURCES[source](leg, user.creds, path)
    async with leg.connect(strict.url, credentials=given) as client:
        await client.flush()
        assert user.public_key in identity(strict)


@pytest.mark.parametrize("awaited", [False, True], ids=["called", "awaited"])
async def test_an_auth_callback_that_keeps_the_key(
    leg: Leg, awaited: bool, strict: LocalServer, world: OperatorMode
) -> None:
    user = world.user("signs elsewhere")
    asked: list[Challenge] = []

    def sign(challenge: Challenge) -> Credentials:
        asked.append(challenge)
        return Credentials(jwt=user.jwt, signature=user.key.sign(challenge.nonce))

    auth = asynchronous(leg, sign) if awaited else sign
    async with leg.connect(strict.url, auth=auth, **QUICK) as client:
        await client.reconnect()
        await eventually(lambda: client.stats.reconnects == 1)
        await client.flush()
        assert user.public_key in identity(strict)
    assert [challenge.server for challenge in asked] == [strict.url] * 2
    assert asked[0].nonce != asked[1].nonce


@pytest.mark.parametrize("answer", ["password", "token", "seed"])
async def test_an_auth_callback_may_answer_anything(leg: Leg, answer: str) -> None:
    config: dict[str, dict[str, object]] = {
        "password": {"authorization": {"users": [{"user": "me", "password": "p"}]}},
        "token": {"authorization": {"token": "t"}},
        "seed": keys(BOB),
    }
    answers = {
        "password": Credentials(user="me", password="p"),
        "token": Credentials(token="t"),
        "seed": Credentials(seed=BOB.seed),
    }
    with LocalServer(config[answer]) as server:
        async with leg.connect(server.url, auth=lambda challenge: answers[answer]) as client:
            await client.flush()


async def test_threads_cannot_await(leg: Leg, strict: LocalServer) -> None:
    """An ``async`` function is of no use to threads, and its coroutine is closed: no warning is left."""
    if leg.name != "threads":
        return

    async def creds() -> str:
        raise AssertionError("nobody runs it")

    async def auth(challenge: Challenge) -> Credentials:
        raise AssertionError("nobody runs it")

    for options in ({"credentials": creds}, {"auth": auth}):
        with pytest.raises(NoServersError) as caught:
            async with leg.connect(strict.url, **options):
                pass
        error = caught.value.attempts[0][1]
        assert type(error) is CredentialsError
        assert "async" in str(error)


async def test_what_a_url_has_goes_to_that_server_alone(leg: Leg) -> None:
    """And to those it tells of; an option goes to all."""
    refusal = [send(info()), expect(b"PING\r\n"), send(b"-ERR 'Authorization Violation'\r\n")]
    with Peer([handshake(), close()], again=True) as told, Peer(refusal) as other, Peer(refusal) as mine:
        tells = [handshake(connect_urls=[f"127.0.0.1:{told.port}"]), close()]
        with Peer(tells, again=True) as last:
            servers = [other.url, mine.url.replace("//", "//me:private@"), last.url.replace("//", "//it:secret@")]
            async with leg.connect(servers, token="option", randomize_servers=False, **QUICK):
                await eventually(lambda: told.connections and b"PING" in told.connections[0].received)
        heard = [bytes(peer.connections[0].received) for peer in (other, mine, last, told)]
    assert b'"auth_token":"option"' in heard[0]
    assert b"private" not in heard[0]
    assert b'"user":"me","pass":"private"' in heard[1]
    assert b"secret" not in heard[0] + heard[1]
    assert b'"user":"it","pass":"secret"' in heard[2]
    assert b'"user":"it","pass":"secret"' in heard[3]
    assert b"option" not in heard[1] + heard[2] + heard[3]


# --- anew for each attempt --------------------------------------------------------------------------------------------


async def test_f36_a_file_is_read_for_each_connection(
    leg: Leg, strict: LocalServer, world: OperatorMode, tmp_path: Path
) -> None:
    first, second = world.user("first"), world.user("second")
    path = tmp_path / "rotated.creds"
    path.write_text(first.creds)
    path.chmod(0o600)
    async with leg.connect(strict.url, credentials=path, **QUICK) as client:
        assert first.public_key in identity(strict)
        replace_file(path, second.creds)
        await client.reconnect()
        await eventually(lambda: client.stats.reconnects == 1)
        await client.flush()
        assert second.public_key in identity(strict)
        path.unlink()
        await client.reconnect()
        await eventually(lambda: isinstance(client.last_error, CredentialsError))
        replace_file(path, first.creds)
        await eventually(lambda: client.stats.reconnects == 2)
        assert first.public_key in identity(strict)


def replace_file(path: Path, content: str) -> None:
    """At once, as those do who rotate credentials."""
    other = path.with_suffix(".new")
    other.write_text(content)
    other.chmod(0o600)
    os.replace(other, path)


@pytest.mark.long
async def test_f36_a_jwt_that_runs_out_while_connected(leg: Leg, strict: LocalServer, world: OperatorMode) -> None:
    log = EventLog()
    given: list[User] = []

    def provider() -> str:
        given.append(world.user("short", expires_in=2) if not given else world.user("renewed", key=given[0].key))
        return given[-1].creds

    async with leg.connect(strict.url, credentials=provider, on_event=log, **QUICK) as client:
        sub = await client.subscribe("f36.expiry")
        event = await log.wait(AuthenticationFailed)
        assert type(event.error) is AuthenticationExpiredError
        assert not event.dropped
        await log.wait(Reconnected)
        await client.publish("f36.expiry", b"as the same user")
        assert (await sub.next(timeout=PATIENCE)).data == b"as the same user"
        assert [user.jwt for user in given[1:]] == jwts(strict, given[0])
    assert type(log.of(Disconnected)[0].error) is AuthenticationExpiredError
    assert len(given) == 2


def jwts(server: LocalServer, user: User) -> list[str]:
    """Those that a user's connections have shown."""
    connections: Any = server.connz(auth=1)["connections"]
    return [each["jwt"] for each in connections if each["authorized_user"] == user.public_key]


async def test_f36_the_second_refusal_in_a_row_is_final(leg: Leg, world: OperatorMode) -> None:
    """The user is revoked: told once by name, then the server refuses it twice, for it does not say why any more."""
    log, user = EventLog(), world.user("revoked")
    with LocalServer(world.config()) as server:
        async with leg.connect(server.url, credentials=user.creds, on_event=log, **QUICK) as client:
            await client.flush()
            world.revoke(user)
            server.reload(world.config())
            closed = await log.wait(Closed)
    assert [type(event.error) for event in log.of(AuthenticationFailed)] == [
        AuthenticationRevokedError,
        AuthorizationError,
        AuthorizationError,
    ]
    assert [event.dropped for event in log.of(AuthenticationFailed)] == [False, False, True]
    assert isinstance(closed.error, NoServersError)


async def test_f36_by_option_a_refusal_is_retried_until_the_user_is_back(leg: Leg, world: OperatorMode) -> None:
    log, user = EventLog(), world.user("revoked")
    creds = [user.creds]
    options = {**QUICK, "retry_auth_errors": True, "on_event": log}
    with LocalServer(world.config()) as server:
        async with leg.connect(server.url, credentials=lambda: creds[0], **options) as client:
            world.revoke(user)
            server.reload(world.config())
            await log.wait(AuthenticationFailed, count=4)
            assert not any(event.dropped for event in log.of(AuthenticationFailed))
            creds[0] = world.user("revoked", key=user.key).creds
            await log.wait(Reconnected)
            await client.flush()


@pytest.mark.long
async def test_f36_an_account_that_runs_out(leg: Leg, world: OperatorMode) -> None:
    log = EventLog()
    account = world.account("SHORT", expires_in=1)
    with LocalServer(world.config()) as server:
        async with leg.connect(server.url, credentials=account.user().creds, on_event=log, **QUICK):
            event = await log.wait(AuthenticationFailed)
            assert type(event.error) is AccountAuthenticationExpiredError
    world.accounts.remove(account)


# --- callbacks that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["auth", "credentials", "tls", "websocket_headers"])
async def test_f36_a_callback_that_raises_costs_one_attempt(leg: Leg, option: str) -> None:
    """The next server is tried, and the error names the callback and the class of what it raised."""
    calls: list[object] = []

    def failing(*args: object) -> object:
        calls.append(args)
        if option == "auth" and len(calls) > 1:
            return Credentials()
        raise ZeroDivisionError("private")

    scheme = {"tls": "tls", "websocket_headers": "ws"}.get(option, "nats")
    script = [send(info(tls_required=True)), hold()] if option == "tls" else [handshake(), hold()]
    with Peer(script, again=True) as peer, Peer(script, again=True) as other:
        urls = [f"{scheme}://127.0.0.1:{each.port}" for each in (peer, other)]
        options: dict[str, Any] = {option: asynchronous(leg, failing), "randomize_servers": False}
        if option == "auth":
            async with leg.connect(urls, **options) as client:
                assert client.connected_url == other.url
                errors = [client.last_error]
        else:
            with pytest.raises(NoServersError) as caught:
                async with leg.connect(urls, **options):
                    pass
            errors = [error for _, error in caught.value.attempts]
            assert len(errors) == len(calls) == 2
    for error in errors:
        assert type(error) is CredentialsError
        assert f"{option} callback raised ZeroDivisionError" in str(error)
        assert "private" not in str(error)


async def test_f36_a_callback_that_hangs_is_bounded_and_the_next_server_is_tried(leg: Leg) -> None:
    released = threading.Event()
    log = EventLog()

    def auth(challenge: Challenge) -> Credentials:
        if challenge.server == slow.url:
            released.wait(30)
        return Credentials()

    with Peer([send(info()), hold()], again=True) as slow, Peer([handshake(), hold()], again=True) as other:
        options = {"connect_timeout": 1.0, "randomize_servers": False, "on_event": log}
        try:
            with anyio.fail_after(20):
                async with leg.connect([slow.url, other.url], auth=auth, **options) as client:
                    assert client.connected_url == other.url
                    error = client.last_error
                    assert type(error) is NATSTimeoutError
                    assert "auth callback" in str(error)
        finally:
            released.set()
        await eventually(lambda: not lingering(leg))
        assert slow.connections[0].received == b""


async def test_f36_close_does_not_wait_for_a_callback_that_hangs(leg: Leg) -> None:
    released, asked = threading.Event(), threading.Event()

    def hang(challenge: Challenge) -> Credentials:
        asked.set()
        released.wait(60)
        raise ValueError

    with Peer([close()], [send(info()), hold()], again=True) as peer:
        try:
            with anyio.fail_after(20):
                options = {"auth": hang, "retry_on_failed_connect": True, "connect_timeout": 50.0, **QUICK}
                async with leg.connect(peer.url, **options) as client:
                    await eventually(asked.is_set)
                    await client.close()
                    assert client.status is SessionStatus.CLOSED
        finally:
            released.set()
        await eventually(lambda: not lingering(leg))


async def test_f36_a_callback_that_always_hangs_has_four_threads_at_most(leg: Leg) -> None:
    released, calls, log = threading.Event(), [], EventLog()

    def hang(challenge: Challenge) -> Credentials:
        calls.append(challenge)
        released.wait(60)
        return Credentials()

    with Peer([handshake(), hold()], again=True) as peer:
        options = {"auth": hang, "retry_on_failed_connect": True, "connect_timeout": 0.05, "on_event": log, **QUICK}
        try:
            async with leg.connect(peer.url, **options) as client:
                await eventually(lambda: len(calls) == 4)  # not each attempt may come so far in so little time
                await log.wait(Reconnecting, count=len(log.of(Reconnecting)) + 4)
                assert len(calls) == 4
                assert type(client.last_error) is NATSTimeoutError
                released.set()
                await log.wait(Connected)
        finally:
            released.set()
        await eventually(lambda: not lingering(leg))


def lingering(leg: Leg) -> list[str]:
    """Threads and tasks of a client."""
    return [name for name in leg.running() if name.startswith("nats")]


async def test_f36_an_async_callback_that_hangs_is_cancelled(leg: Leg) -> None:
    if leg.name == "threads":
        return
    ended: list[type[BaseException]] = []

    async def hang(challenge: Challenge) -> Credentials:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            ended.append(type(error))
            raise
        raise AssertionError("for ever is over")

    for connect_timeout in (0.2, 2.0):  # where the machine stands still, it may not be asked in a moment
        with Peer([send(info()), hold()], again=True) as peer:
            with anyio.fail_after(20), pytest.raises(NoServersError) as caught:
                async with leg.connect(peer.url, auth=hang, connect_timeout=connect_timeout):
                    pass
            assert type(caught.value.attempts[0][1]) is NATSTimeoutError
        if ended:
            break
    assert ended == [anyio.get_cancelled_exc_class()]
    assert not lingering(leg)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (None, "No such file or directory"),
        ("-----BEGIN NATS USER JWT-----\neyJ", "has no end line"),
        ("no credentials at all\n", "NATS USER JWT"),
        ("x" * (1024 * 1024 + 1), "more than 1048576 bytes"),
    ],
)
async def test_a_file_that_cannot_be_used(
    leg: Leg, content: str | None, hint: str, strict: LocalServer, tmp_path: Path
) -> None:
    path = tmp_path / "x.creds"
    if content is not None:
        path.write_text(content)
    with pytest.raises(NoServersError) as caught:
        async with leg.connect(strict.url, credentials=path):
            pass
    error = caught.value.attempts[0][1]
    assert type(error) is CredentialsError
    assert hint in str(error)
    assert (str(path) in str(error)) == (content is None or "more than" in hint)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644], ids=oct)
async def test_a_file_that_others_may_read_is_warned_about_once(
    leg: Leg,
    mode: int,
    strict: LocalServer,
    world: OperatorMode,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "open.creds"
    path.write_text(world.user().creds)
    path.chmod(mode)
    async with leg.connect(strict.url, credentials=path, **QUICK) as client:
        for n in range(2):
            await client.reconnect()
            await eventually(lambda n=n: client.stats.reconnects == n + 1)
    warned = [record for record in caplog.records if "others than its owner" in record.getMessage()]
    assert len(warned) == (0 if mode == 0o600 else 1)
    for record in warned:
        assert record.levelno == logging.WARNING
        assert repr(str(path)) in record.getMessage()


async def test_without_cryptography_it_says_what_to_install(
    leg: Leg, strict: LocalServer, world: OperatorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    creds = world.user().creds
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    for options in ({"credentials": creds}, {"nkey_seed": ALICE.seed.reveal()}):
        with pytest.raises(NoServersError, match=r'pip install "nats-proto\[nkeys\]"') as caught:
            async with leg.connect(strict.url, **options):
                pass
        assert type(caught.value.attempts[0][1]) is CredentialsError


# --- refusals and their rules -----------------------------------------------------------------------------------------


async def test_f9_an_account_without_room(leg: Leg, world: OperatorMode) -> None:
    log = EventLog()
    account = world.account("SMALL", conn=1)
    with LocalServer(world.config()) as server:
        creds = account.user().creds
        async with (
            leg.connect(server.url, credentials=creds) as first,
            leg.connect(server.url, credentials=creds, retry_on_failed_connect=True, on_event=log, **QUICK) as second,
        ):
            await log.wait(Reconnecting, count=4)
            assert {type(event.error) for event in log.of(Reconnecting)[1:]} == {MaxConnectionsError}
            await first.close()
            await log.wait(Connected)
            await second.flush()
    assert not log.of(AuthenticationFailed)
    world.accounts.remove(account)


async def test_a_server_that_waits_too_long_for_us(leg: Leg) -> None:
    """It is no refusal: the server is tried again, here until the callback is fast enough."""
    log, calls = EventLog(), []
    given_up = threading.Event()

    def auth(challenge: Challenge) -> Credentials:
        calls.append(challenge)
        if len(calls) < 4:
            given_up.wait(30)
            given_up.clear()
        return Credentials(user="me", password="p")

    def on_event(event: Any) -> None:
        log(event)
        if isinstance(event, Reconnecting) and event.error is not None:
            given_up.set()

    with LocalServer({"authorization": {"users": [{"user": "me", "password": "p"}], "timeout": 0.2}}) as server:
        options = {"auth": auth, "retry_on_failed_connect": True, "connect_timeout": 20.0, **QUICK}
        async with leg.connect(server.url, on_event=on_event, **options) as client:
            await log.wait(Connected)
            await client.flush()
    errors = [event.error for event in log.of(Reconnecting) if event.error is not None]
    assert {type(error) for error in errors} == {AuthenticationTimeoutError}
    assert not log.of(AuthenticationFailed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Connection throttling is active. Please try again later.", ThrottledError),
        ("Authentication Timeout", AuthenticationTimeoutError),
        ("maximum account active connections exceeded", MaxConnectionsError),
        ("maximum connections exceeded", MaxConnectionsError),
    ],
)
async def test_what_is_no_refusal_is_retried(leg: Leg, text: str, expected: type[Exception]) -> None:
    log = EventLog()
    refusal = [send(info()), expect(b"PING\r\n"), send(f"-ERR '{text}'\r\n".encode()), close()]
    with Peer(*[refusal] * 5, [handshake(), hold()]) as peer:
        async with leg.connect(peer.url, on_event=log, retry_on_failed_connect=True, **QUICK):
            await log.wait(Connected)
    assert {type(event.error) for event in log.of(Reconnecting)[1:]} == {expected}
    assert not log.of(AuthenticationFailed)


# --- permissions ------------------------------------------------------------------------------------------------------


async def test_permissions_of_a_jwt(leg: Leg, strict: LocalServer, world: OperatorMode) -> None:
    """Subject and queue come in their own case, and a request fails at once."""
    log = EventLog()
    user = world.user(publish=["Open.>", "_INBOX.>"], subscribe=["Open.>", "_INBOX.>", "Shared workers"])
    async with leg.connect(strict.url, credentials=user.creds, on_event=log) as client:
        denied = await client.subscribe("Shared", queue="Idlers")
        allowed = await client.subscribe("Shared", queue="workers")
        with pytest.raises(PermissionsError) as caught:
            await denied.next(timeout=20)
        assert (caught.value.operation, caught.value.subject, caught.value.queue) == ("subscribe", "Shared", "Idlers")
        with anyio.fail_after(20), pytest.raises(PermissionsError) as caught:
            await client.request("Closed.Service", timeout=60)
        assert (caught.value.operation, caught.value.subject) == ("publish", "Closed.Service")
        await client.publish("Closed.Topic", b"x")
        published = await log.wait_for(lambda event: "Closed.Topic" in str(getattr(event, "error", "")))
        assert isinstance(published, ServerErrorReceived)
        assert isinstance(published.error, PermissionsError)
        assert (published.error.operation, published.error.subject) == ("publish", "Closed.Topic")
        assert allowed.pending == (0, 0)
        await client.flush()
        assert client.status is SessionStatus.CONNECTED
    assert not log.of(Disconnected)[0].error


async def test_a_permission_withdrawn_while_it_is_used(leg: Leg) -> None:
    """The server then names the subscription's number as well."""

    def config(*denied: str) -> dict[str, object]:
        user = {"user": "me", "password": "p", "permissions": {"subscribe": {"deny": list(denied)}}}
        return {"authorization": {"users": [user]}}

    with LocalServer(config("none")) as server:
        async with leg.connect(server.url, user="me", password="p") as client:
            other = await client.subscribe("Other")
            sub = await client.subscribe("News.Today", queue="Readers")
            await client.flush()
            server.reload(config("News.>"))
            with pytest.raises(PermissionsError) as caught:
                await sub.next(timeout=20)
            assert (caught.value.operation, caught.value.subject) == ("subscribe", "News.Today")
            await client.publish("Other", b"goes on")
            assert (await other.next(timeout=20)).data == b"goes on"


@pytest.mark.parametrize("suffix", ["", ' (sid "2")', ", too many tokens"])
async def test_each_text_of_a_permission_violation(leg: Leg, suffix: str) -> None:
    said = f'-ERR \'Permissions Violation for Subscription to "A.b" using queue "Q"{suffix}\'\r\n'.encode()
    with Peer([handshake(), expect(b"SUB A.b Q 2\r\n"), send(said + b"MSG A.b 1 2\r\nhi\r\n"), hold()]) as peer:
        async with leg.connect(peer.url) as client:
            plain = await client.subscribe("A.b")
            sub = await client.subscribe("A.b", queue="Q")
            with pytest.raises(PermissionsError) as caught:
                await sub.next(timeout=20)
            assert (caught.value.subject, caught.value.queue) == ("A.b", "Q")
            assert (await plain.next(timeout=20)).data == b"hi"
