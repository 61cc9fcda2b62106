"""Authentication, permissions, limits of the server, and that no secret gets out."""

from __future__ import annotations

import logging
import traceback

import anyio
import pytest

from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    ConnectOptions,
    Disconnected,
    Reconnecting,
    ServerErrorReceived,
    SessionStatus,
)
from nats_proto.errors import (
    AuthorizationError,
    ConnectionClosedError,
    MaxConnectionsError,
    NATSError,
    NoServersError,
    PermissionsError,
)
from tests.adapters.legs import PATIENCE, QUICK, Collected, EventLog, Leg, eventually
from tests.faults.peer import Peer, expect, handshake, hold, info, send
from tests.transports import Transport

pytestmark = pytest.mark.anyio

PASSWORD = "s3cr3t-Pa55/word@:"
PERCENT = "s3cr3t-Pa55%2Fword%40%3A"
TOKEN = "t0k3n-0f-the-server"
USERS = {"authorization": {"users": [{"user": "me", "password": PASSWORD}]}}
TOKENS = {"authorization": {"token": TOKEN}}


def with_user(url: str, user: str) -> str:
    return url.replace("://", f"://{user}@")


# --- who we are ------------------------------------------------------------------------------------------------------


async def test_user_and_password_as_options(leg: Leg, transport: Transport) -> None:
    with transport.server(USERS) as server:
        async with leg.connect(server.url, user="me", password=PASSWORD) as client:
            await client.flush()


async def test_user_and_password_in_the_url(leg: Leg, transport: Transport) -> None:
    with transport.server(USERS) as server:
        async with leg.connect(with_user(server.url, f"me:{PERCENT}"), user="other", password="x") as client:
            await client.flush()
            assert client.connected_url == server.url
            assert list(client.servers) == [server.url]


async def test_token_as_option_and_in_the_url(leg: Leg, transport: Transport) -> None:
    with transport.server(TOKENS) as server:
        async with leg.connect(server.url, token=TOKEN) as client:
            await client.flush()
        async with leg.connect(with_user(server.url, TOKEN)) as client:
            await client.flush()


@pytest.mark.parametrize(
    "given", [{"user": "me", "password": "wrong"}, {"token": "wrong"}, {}], ids=lambda g: "+".join(g)
)
async def test_a_wrong_password_is_an_authorization_error(
    leg: Leg, given: dict[str, str], transport: Transport
) -> None:
    with transport.server(USERS) as server:
        with pytest.raises(NoServersError) as caught:
            async with leg.connect(server.url, **given):
                pass
        ((address, error),) = caught.value.attempts
        assert address == server.url
        assert type(error) is AuthorizationError
        assert error.text == "Authorization Violation"
        assert caught.value.outcome == "failed"


async def test_the_right_server_is_found_behind_one_that_refuses(leg: Leg, url: str, transport: Transport) -> None:
    with transport.server(USERS) as server:
        log = EventLog()
        async with leg.connect([server.url, url], randomize_servers=False, on_event=log) as client:
            assert client.connected_url == url
        assert [type(event.error) for event in log.of(AuthenticationFailed)] == [AuthorizationError]


async def test_the_same_refusal_twice_drops_the_server(leg: Leg) -> None:
    log = EventLog()
    refusal = [send(info()), expect(b"PING\r\n"), send(b"-ERR 'Authorization Violation'\r\n")]
    with Peer([handshake(), hold(), send(b"-ERR 'User Authentication Expired'\r\n")], refusal, again=True) as peer:
        async with leg.connect(peer.url, on_event=log, **QUICK):
            peer.release()
            closed = await log.wait(Closed)
    assert isinstance(closed.error, NoServersError)
    assert isinstance(closed.error.attempts[0][1], AuthorizationError)
    assert [event.dropped for event in log.of(AuthenticationFailed)] == [False, False, True]
    assert len(peer.connections) == 3


async def test_by_option_a_refusal_is_retried_for_ever(leg: Leg) -> None:
    log = EventLog()
    refusal = [send(info()), expect(b"PING\r\n"), send(b"-ERR 'Authorization Violation'\r\n")]
    scripts = [[handshake(), hold(), send(b"-ERR 'Authorization Violation'\r\n")], *[refusal] * 4, [handshake()]]
    with Peer(*scripts) as peer:
        async with leg.connect(peer.url, on_event=log, retry_auth_errors=True, **QUICK) as client:
            peer.release()
            await eventually(lambda: client.stats.reconnects == 1)
    assert [event.dropped for event in log.of(AuthenticationFailed)] == [False] * 5


# --- secrets ---------------------------------------------------------------------------------------------------------


def texts_of(thing: object) -> list[str]:
    texts = [repr(thing), str(thing), f"{thing}"]
    if isinstance(thing, BaseException):
        texts.append("".join(traceback.format_exception(thing)))
        texts += [text for inner in (thing.__cause__, thing.__context__) if inner for text in texts_of(inner)]
    return texts


async def test_no_secret_is_shown_anywhere(
    leg: Leg, caplog: pytest.LogCaptureFixture, free_port: int, transport: Transport
) -> None:
    caplog.set_level(logging.DEBUG)
    log = EventLog()
    things: list[object] = []
    fields = {"on_event": log, **QUICK}
    options = ConnectOptions(user="me", password=PASSWORD)
    things += [options, ConnectOptions(token=TOKEN)]
    with transport.server(USERS) as server:
        secret_url, dead_url = (with_user(url, f"me:{PERCENT}") for url in (server.url, transport.url(free_port)))
        async with leg.connect(secret_url, **fields) as client:
            things += [client, client.servers, client.connected_url, client.server_info, client.stats]
            server.kill()
            await log.wait(Reconnecting)
            things += [client, client.last_error]
        async with leg.connect(dead_url, retry_on_failed_connect=True, **fields):
            await log.wait(Reconnecting, count=len(log.of(Reconnecting)) + 2)
        server.start()
        for url, given in (
            (with_user(server.url, f"me:wrong{PERCENT}"), {}),
            (with_user(server.url, TOKEN), {}),
            (server.url, {"user": "me", "password": f"wrong{PASSWORD}"}),
            (server.url, {"token": TOKEN}),
            (dead_url, {}),
            (with_user(transport.url(4222, host="no-such-host.invalid"), f"me:{PERCENT}"), {}),
            (with_user(transport.url(99999), f"me:{PERCENT}"), {}),
            (f"http://me:{PERCENT}@127.0.0.1", {}),
            (f"nats://me:{PERCENT}@[::1", {}),
            (server.url, {"token": TOKEN, "user": "me"}),
            (server.url, {"password": PASSWORD}),
        ):
            with pytest.raises(NATSError) as caught:
                async with leg.connect(url, **given, **fields):
                    pass
            things.append(caught.value)
    things += [*log, *(record.getMessage() for record in caplog.records), *(str(vars(r)) for r in caplog.records)]
    shown = "\n".join(text for thing in things for text in texts_of(thing))
    assert "127.0.0.1" in shown
    for secret in (PASSWORD, PERCENT, TOKEN):
        for start in range(len(secret) - 7):
            assert secret[start : start + 8] not in shown


async def test_no_inbox_is_logged(leg: Leg, url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def echo(message: object) -> None:
        await message.respond(message.data)

    async with leg.connect(url) as client:
        await client.subscribe("echo", callback=leg.handler(echo))
        await client.request("echo", timeout=PATIENCE)
        async for _ in client.request_many("echo", max_wait=PATIENCE, max_msgs=1):
            pass
    assert "_INBOX" not in caplog.text


# --- permissions -----------------------------------------------------------------------------------------------------

RESTRICTED = {
    "authorization": {
        "users": [
            {
                "user": "me",
                "password": "p",
                "permissions": {
                    "publish": {"deny": ["denied.>"]},
                    "subscribe": {"deny": ["denied.>", "groups.> forbidden"]},
                },
            }
        ]
    }
}


async def test_a_denied_subscription_is_told_to_its_reader(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server(RESTRICTED) as server:
        async with leg.connect(server.url, user="me", password="p", on_event=log) as client:
            sub = await client.subscribe("denied.Subject")
            other = await client.subscribe("allowed")
            with pytest.raises(PermissionsError, match=r"denied\.Subject") as caught:
                await sub.next(timeout=PATIENCE)
            error = caught.value
            assert (error.operation, error.subject, error.queue) == ("subscribe", "denied.Subject", None)
            assert error.outcome == "failed"
            with pytest.raises(PermissionsError):
                async for _ in sub:
                    pass
            event = await log.wait(ServerErrorReceived)
            assert isinstance(event.error, PermissionsError)
            await client.publish("allowed", b"works")
            assert (await other.next(timeout=PATIENCE)).data == b"works"
            assert client.stats.reconnects == 0


async def test_a_denied_queue_group_leaves_the_plain_subscription_alone(leg: Leg, transport: Transport) -> None:
    with transport.server(RESTRICTED) as server:
        async with leg.connect(server.url, user="me", password="p") as client:
            denied = await client.subscribe("groups.a", queue="forbidden")
            plain = await client.subscribe("groups.a")
            allowed = await client.subscribe("groups.a", queue="allowed")
            with pytest.raises(PermissionsError) as caught:
                await denied.next(timeout=PATIENCE)
            assert caught.value.queue == "forbidden"
            await client.publish("groups.a", b"1")
            assert (await plain.next(timeout=PATIENCE)).data == b"1"
            assert (await allowed.next(timeout=PATIENCE)).data == b"1"


async def test_a_reader_who_waits_is_woken_by_the_denial(leg: Leg, transport: Transport) -> None:
    with transport.server(RESTRICTED) as server:
        async with leg.connect(server.url, user="me", password="p") as client:
            with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError):
                async for _ in await client.subscribe("denied.a"):
                    pass


async def test_a_denied_request_fails_at_once(leg: Leg, transport: Transport) -> None:
    with transport.server(RESTRICTED) as server:
        async with leg.connect(server.url, user="me", password="p") as client:
            with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError, match=r"denied\.service") as caught:
                await client.request("denied.service", timeout=60)
            assert caught.value.operation == "publish"


async def test_a_denied_inbox_fails_the_request_at_once(leg: Leg, transport: Transport) -> None:
    config = {"authorization": {"users": [{"user": "me", "permissions": {"subscribe": {"deny": ["_INBOX.>"]}}}]}}
    config["authorization"]["users"][0]["password"] = "p"
    with transport.server(config) as server:
        async with leg.connect(server.url, user="me", password="p", inbox_prefix="mine") as client:
            with anyio.fail_after(PATIENCE), pytest.raises(NATSError):
                await client.request("nobody", timeout=60)
        async with leg.connect(server.url, user="me", password="p") as client:
            with anyio.fail_after(PATIENCE), pytest.raises(PermissionsError):
                await client.request("nobody", timeout=60)


async def test_a_denied_publish_is_an_event(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server(RESTRICTED) as server:
        async with leg.connect(server.url, user="me", password="p", on_event=log) as client:
            await client.publish("denied.Out", b"x")
            event = await log.wait(ServerErrorReceived)
            assert isinstance(event.error, PermissionsError)
            assert (event.error.operation, event.error.subject) == ("publish", "denied.Out")
            await client.flush()
            assert client.status is SessionStatus.CONNECTED


async def test_a_permission_taken_away_and_given_back(leg: Leg, transport: Transport) -> None:
    def config(*denied: str) -> dict[str, object]:
        user = {"user": "me", "password": "p", "permissions": {"subscribe": {"deny": list(denied)}}}
        return {"authorization": {"users": [user]}}

    log = EventLog()
    with transport.server(config("none")) as server:
        async with leg.connect(server.url, user="me", password="p", on_event=log, **QUICK) as client:
            sub = await client.subscribe("news")
            await client.flush()
            server.reload(config("news"))
            with pytest.raises(PermissionsError):
                await sub.next(timeout=PATIENCE)
            server.reload(config("none"))
            await client.reconnect()
            await eventually(lambda: client.stats.reconnects >= 1 and client.status is SessionStatus.CONNECTED)
            await client.publish("news", b"again")
            assert (await sub.next(timeout=PATIENCE)).data == b"again"


# --- the server's limits ---------------------------------------------------------------------------------------------


async def test_too_many_connections(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server({"max_connections": 1}) as server:
        async with leg.connect(server.url) as first:
            with pytest.raises(NoServersError) as caught:
                async with leg.connect(server.url):
                    pass
            assert type(caught.value.attempts[0][1]) is MaxConnectionsError
            async with leg.connect(server.url, retry_on_failed_connect=True, on_event=log, **QUICK) as second:
                await log.wait(Reconnecting, count=3)
                assert all(type(event.error) is MaxConnectionsError for event in log.of(Reconnecting)[1:])
                await first.close()
                await log.wait(Connected)
                await second.flush()


async def test_too_many_subscriptions(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server({"max_subscriptions": 2}) as server:
        async with leg.connect(server.url, on_event=log) as client:
            subs = [await client.subscribe(f"s.{n}") for n in range(3)]
            event = await log.wait(ServerErrorReceived)
            assert type(event.error).__name__ == "MaxSubscriptionsError"
            await client.publish("s.0", b"works")
            assert (await subs[0].next(timeout=PATIENCE)).data == b"works"


async def test_a_payload_that_the_server_refuses_after_all(leg: Leg) -> None:
    """The limit is lowered while the message is on its way: the server closes, the client comes back."""
    log = EventLog()
    script = [handshake(), expect(b"PUB big 5"), send(b"-ERR 'Maximum Payload Violation'\r\n")]
    with Peer(script, [handshake(max_payload=4), hold()]) as peer:
        async with leg.connect(peer.url, on_event=log, **QUICK) as client:
            await client.publish("big", b"12345")
            event = await log.wait(Disconnected)
            assert type(event.error).__name__ == "MaxPayloadViolationError"
            await eventually(lambda: client.stats.reconnects == 1)
            assert client.max_payload == 4


async def test_no_echo_needs_a_server_that_can(leg: Leg) -> None:
    with Peer([send(info(proto=0)), hold()], again=True) as peer, pytest.raises(NoServersError, match="echo"):
        async with leg.connect(peer.url, echo=False):
            pass


async def test_a_tls_server_is_not_talked_to_in_clear(leg: Leg) -> None:
    for connect_timeout in (0.2, 1.0, 5.0):  # where the machine stands still, a moment is not enough for a first word
        with Peer([send(info(tls_required=True)), hold()]) as peer:
            with pytest.raises(NoServersError, match="TLS"):
                async with leg.connect(peer.url, user="me", password=PASSWORD, connect_timeout=connect_timeout):
                    pass
            received = b"".join(bytes(connection.received) for connection in peer.connections)
        if received:
            break
    assert received.startswith(b"\x16\x03")  # a ClientHello
    assert b"CONNECT" not in received
    assert PASSWORD.encode() not in received


async def test_headers_need_a_server_that_can(leg: Leg) -> None:
    with Peer([handshake(headers=False), expect(b"PUB plain 0")]) as peer:
        async with leg.connect(peer.url) as client:
            with pytest.raises(NATSError, match="headers") as caught:
                await client.publish("a", headers={"A": "b"})
            assert type(caught.value).__name__ == "HeadersNotSupportedError"
            await client.publish("plain")
            await eventually(lambda: peer.connections[0].finished)


async def test_a_configuration_no_server_will_take_ends_the_client(leg: Leg) -> None:
    log = EventLog()
    with Peer([handshake(), hold(), send(b"-ERR 'invalid client protocol'\r\n")], again=True) as peer:
        async with leg.connect(peer.url, on_event=log, **QUICK) as client:
            sub = await client.subscribe("a")
            peer.release()
            with pytest.raises(ConnectionClosedError):
                await sub.next(timeout=PATIENCE)
            closed = await log.wait(Closed)
            assert "invalid client protocol" in str(closed.error)
    assert len(peer.connections) == 1


async def test_an_unknown_error_is_told_and_survived(leg: Leg) -> None:
    log = EventLog()
    script = [handshake(), hold(), send(b"-ERR 'Something New'\r\n"), expect(b"PUB still 0")]
    with Peer(script) as peer:
        async with leg.connect(peer.url, on_event=log) as client:
            peer.release()
            event = await log.wait(ServerErrorReceived)
            assert event.error.text == "Something New"
            await client.publish("still")
            await eventually(lambda: peer.connections[0].finished)


async def test_every_error_names_its_outcome(leg: Leg, url: str) -> None:
    seen: Collected[str] = Collected()
    async with leg.connect(url) as client:
        try:
            await client.request("nobody", timeout=PATIENCE)
        except NATSError as error:
            seen.add(error.outcome)
    assert list(seen) == ["failed"]
