"""F9 to F12: no room, no permission any more, lame duck, a pool that changes."""

from __future__ import annotations

import anyio
import pytest

from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    Disconnected,
    LameDuckMode,
    Reconnected,
    Reconnecting,
    ServersDiscovered,
    SessionStatus,
)
from nats_proto.errors import AuthorizationError, ConnectionClosedError, MaxConnectionsError, NoServersError
from tests.adapters.legs import PATIENCE, EventLog, Leg, eventually, in_thread
from tests.faults.record import FULL, QUICK, connections_of
from tests.transports import Transport

pytestmark = pytest.mark.anyio


# --- F9: max_connections ---------------------------------------------------------------------------------------------


async def test_f9_refused_a_hundred_times_until_there_is_room(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    options = {**QUICK, "reconnect_wait": 0.0, "reconnect_delay": lambda rounds: 0.001}
    with transport.server({"max_connections": 1}) as server:
        async with (
            leg.connect(server.url) as first,
            leg.connect(server.url, retry_on_failed_connect=True, on_event=log, **options) as second,
        ):
            await log.wait(Reconnecting, count=100)
            assert second.status is SessionStatus.RECONNECTING
            await first.close()
            await log.wait(Connected)
            await second.flush()
    refused = [event.error for event in log.of(Reconnecting)[1:]]
    assert len(refused) >= 99
    assert {type(error) for error in refused} == {MaxConnectionsError}
    assert not log.of(AuthenticationFailed)


async def test_f9_the_limit_is_lowered_and_one_has_to_go(leg: Leg, transport: Transport) -> None:
    with transport.server() as server:
        async with leg.connect(server.url, **QUICK) as one, leg.connect(server.url, **QUICK) as two:
            await one.flush()
            await two.flush()
            server.reload({"max_connections": 1})
            await eventually(lambda: SessionStatus.RECONNECTING in (one.status, two.status))
            loser, winner = (one, two) if one.status is SessionStatus.RECONNECTING else (two, one)
            await eventually(lambda: isinstance(loser.last_error, MaxConnectionsError))
            await winner.flush()
            await winner.close()
            await eventually(lambda: loser.status is SessionStatus.CONNECTED)


# --- F10: credentials revoked ----------------------------------------------------------------------------------------


def users(*names: str) -> dict[str, object]:
    return {"authorization": {"users": [{"user": name, "password": "p"} for name in names]}}


async def test_f10_a_user_who_is_removed(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server(users("me", "other"), debug=True) as server:
        async with leg.connect(server.url, user="me", password="p", on_event=log, **QUICK) as client:
            sub = await client.subscribe("f10")
            await client.flush()
            server.reload(users("other"))
            with pytest.raises(ConnectionClosedError) as caught:
                await sub.next()
            cause = caught.value.__cause__
            assert isinstance(cause, NoServersError)
            assert [type(error) for _, error in cause.attempts] == [AuthorizationError]
            closed = await log.wait(Closed)
            assert closed.error is cause
        assert [event.dropped for event in log.of(AuthenticationFailed)] == [False, True]
        await eventually(lambda: server.log().count("closed: Authentication Failure") == 2)  # logged behind the end
    names = [name for name in log.names if name != "Reconnecting"]
    assert names == ["Connected", "Disconnected", "AuthenticationFailed", "AuthenticationFailed", "Closed"]


async def test_f10_another_server_takes_over(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server(users("me", "other"), debug=True) as strict, transport.server(users("me")) as kind:
        options = {**QUICK, "user": "me", "password": "p", "randomize_servers": False, "on_event": log}
        async with leg.connect([strict.url, kind.url], **options) as client:
            strict.reload(users("other"))
            await log.wait(Reconnected)
            assert client.connected_url == kind.url
            for n in range(2):  # each loss of the other leads back to the strict one, until it is dropped
                await client.reconnect()
                await log.wait(Reconnected, count=n + 2)
            assert client.connected_url == kind.url
            assert strict.log().count("closed: Authentication Failure") <= 2


async def test_f10_a_user_who_is_allowed_again_in_time(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    options = {**QUICK, "reconnect_wait": 1.0, "user": "me", "password": "p", "on_event": log}
    with transport.server(users("me", "other")) as server:
        async with leg.connect(server.url, **options) as client:
            sub = await client.subscribe("f10")
            await client.flush()
            server.reload(users("other"))
            event = await log.wait(AuthenticationFailed)
            assert not event.dropped
            server.reload(users("me", "other"))
            await log.wait(Reconnected)
            await client.publish("f10", b"again")
            assert (await sub.next(timeout=PATIENCE)).data == b"again"


# --- F11: lame duck --------------------------------------------------------------------------------------------------


async def test_f11_a_lame_duck_costs_no_request(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    config = {"lame_duck_duration": "30s", "lame_duck_grace_period": "10s"}
    with transport.cluster(3, config=config) as cluster:
        first, second = cluster[0], cluster[1]
        options = {**QUICK, "randomize_servers": False, "name": "f11", "on_event": log}
        async with (
            leg.connect(second.url, ignore_discovered_servers=True) as service,
            leg.connect(cluster.urls, **options) as client,
        ):
            assert client.connected_url == first.url

            async def echo(message: object) -> None:
                await message.respond(message.data)

            await service.subscribe("f11", callback=leg.handler(echo))
            await service.flush()
            await _reaches(client, "f11")
            count, stop = 0, False

            async def ask() -> None:
                nonlocal count
                while not stop:
                    assert (await client.request("f11", b"%d" % count, timeout=10)).data == b"%d" % count
                    count += 1
                    await anyio.sleep(0.005)

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await eventually(lambda: count > 20)
                await in_thread(first.lame_duck)
                event = await log.wait(LameDuckMode)
                assert (event.server, event.migrating) == (first.url, True)
                await log.wait(Reconnected)
                assert first.running
                assert client.connected_url != first.url
                before = count
                await eventually(lambda: count > before + 20)
                stop = True
            await eventually(lambda: connections_of(first, "f11") == 0)
            assert list(client.servers)[-2:] == [first.url, client.connected_url]
            assert log.of(Disconnected)[0].error is None
            assert client.stats.reconnects == 1
            assert client.stats.dropped_replies == 0
            first.kill()  # it would take its time


async def _reaches(client: object, subject: str) -> None:
    """The interest of a subscription spreads through a cluster on its own time."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await client.request(subject, timeout=1)
                return
            except Exception:
                await anyio.sleep(0.01)


# --- F12: the list of servers changes --------------------------------------------------------------------------------


async def test_f12_a_cluster_that_grows_and_shrinks(leg: Leg, transport: Transport) -> None:
    log = EventLog()
    with transport.server(cluster_name="f12") as first:
        async with leg.connect(first.url, on_event=log, **QUICK) as client:
            assert set(client.servers) == {first.url}
            joined = {"cluster_name": "f12", "routes": [first.route_url]}
            with transport.server(**joined) as second:
                await eventually(lambda: set(client.servers) == {first.url, second.url})
                with transport.server(**joined) as third:
                    await eventually(lambda: set(client.servers) == {first.url, second.url, third.url})
                await eventually(lambda: set(client.servers) == {first.url, second.url})
            await eventually(lambda: set(client.servers) == {first.url})
            with transport.server(**joined) as elsewhere:
                await eventually(lambda: set(client.servers) == {first.url, elsewhere.url})
                first.kill()
                await log.wait(Reconnected)
                assert client.connected_url == elsewhere.url
                # The one that was given stays, and so does the one in use, whatever INFO says.
                assert set(client.servers) == {first.url, elsewhere.url}
                first.start()
                await client.flush()
                elsewhere.kill()
                await log.wait(Reconnected, count=2)
                assert client.connected_url == first.url
            # Servers tell of one another by hearsay: one that leaves may be named once more.
            told = dict.fromkeys(server for event in log.of(ServersDiscovered) for server in event.servers)
            assert list(told) == [second.url, third.url, elsewhere.url]


async def test_f12_many_changes(leg: Leg, transport: Transport) -> None:
    """Twice here; the full form has twenty changes."""
    with transport.server(cluster_name="f12") as first:
        async with leg.connect(first.url, **QUICK) as client:
            for _ in range(20 if FULL else 2):
                with transport.server(cluster_name="f12", routes=[first.route_url]) as other:
                    await eventually(lambda other=other: set(client.servers) == {first.url, other.url})
                await eventually(lambda: set(client.servers) == {first.url})
            assert client.stats.reconnects == 0
