"""A lost connection: what ends it, what is told, when the next is tried, and what that one is told."""

from __future__ import annotations

import weakref

import pytest

from nats_proto import (
    Closed,
    CloseTransport,
    Disconnected,
    FlushFailed,
    OpenTransport,
    Reconnected,
    Reconnecting,
    RequestFailed,
    SessionStatus,
)
from nats_proto.errors import (
    ConnectionLostError,
    LocalProtocolError,
    MaxPayloadViolationError,
    NATSError,
    NATSTimeoutError,
    NoServersError,
    RemoteProtocolError,
    StaleConnectionError,
)
from tests.proto.driver import World, err, frames_of, info, msg

LOSSES: dict[str, type[NATSError] | None] = {
    "eof": ConnectionLostError,
    "reset": ConnectionLostError,
    "garbage": RemoteProtocolError,
    "stale": StaleConnectionError,
    "stale, says the server": StaleConnectionError,
    "error": MaxPayloadViolationError,
    "reconnect": None,
}


def lose(world: World, how: str) -> None:
    match how:
        case "eof":
            world.eof()
        case "reset":
            world.cut()
        case "garbage":
            world.feed(b"garbage\r\n")
        case "stale":
            world.wait(3 * world.options.ping_interval)
        case "stale, says the server":
            world.feed(err("Stale Connection"))
        case "error":
            world.feed(err("Maximum Payload Violation"))
        case _:
            world.session.reconnect(now=world.now)
            world.pump()


@pytest.mark.parametrize("how", LOSSES)
def test_every_way_to_lose_a_connection(how: str) -> None:
    world = World("nats://a, nats://b").ready()
    lose(world, how)
    assert world.session.status is SessionStatus.RECONNECTING
    assert world.session.connected_url is None
    assert world.session.data_to_send() == []
    closing, opening = world.commands
    assert isinstance(closing, CloseTransport)
    assert isinstance(opening, OpenTransport)
    assert opening.server.host == "b"
    disconnected, reconnecting = world.events()[-2:]
    assert isinstance(disconnected, Disconnected)
    assert isinstance(reconnecting, Reconnecting)
    expected = LOSSES[how]
    assert disconnected.server == "nats://a:4222"
    if expected is None:
        assert disconnected.error is None
        assert opening.at == world.now
    else:
        assert isinstance(disconnected.error, expected)
        assert world.session.last_error is disconnected.error
        assert reconnecting.error is disconnected.error
        assert world.now <= opening.at < world.now + world.options.reconnect_jitter
    assert reconnecting.attempt == 1
    assert reconnecting.delay == pytest.approx(opening.at - world.now)
    assert opening.deadline == pytest.approx(opening.at + world.options.connect_timeout)
    world.up()
    assert world.events() == [Reconnected(server="nats://b:4222", attempts=1)]
    assert world.session.stats.reconnects == 1


def test_what_the_operating_system_said_is_the_cause() -> None:
    world = World().ready()
    error = OSError(104, "Connection reset by peer")
    world.cut(error)
    lost = world.events_of(Disconnected)[0].error
    assert lost is not None
    assert lost.__cause__ is error
    assert str(lost) == "connection to server nats://a:4222 was lost: [Errno 104] Connection reset by peer"


def test_an_error_without_a_text_is_named() -> None:
    world = World().ready()
    world.cut(BrokenPipeError())
    assert str(world.events_of(Disconnected)[0].error).endswith("BrokenPipeError")


def test_a_link_is_lost_once() -> None:
    world = World().ready()
    world.eof()
    world.events()
    commands = list(world.commands)
    world.eof()
    world.cut()
    world.feed(msg("a", 1) + b"garbage\r\n")
    assert world.events() == []
    assert world.commands == commands


def test_each_attempt_is_told() -> None:
    world = World("nats://a, nats://b", reconnect_jitter=0.0).ready()
    world.cut()
    world.refuse()
    world.accept()
    world.feed(b"garbage\r\n")
    told = world.events_of(Reconnecting)
    assert [(event.server, event.attempt, event.delay) for event in told] == [
        ("nats://b:4222", 1, 0.0),
        ("nats://a:4222", 2, 2.0),  # a was dialled just now
        ("nats://b:4222", 3, 2.0),
    ]
    assert isinstance(told[2].error, RemoteProtocolError)
    world.up()
    assert world.events() == [Reconnected(server="nats://b:4222", attempts=3)]


def test_three_servers_that_are_down_are_tried_in_turn() -> None:
    world = World("nats://a, nats://b, nats://c").ready()
    world.cut()
    order = []
    for _ in range(9):
        assert world.dial is not None
        order.append(world.dial.server.host)
        world.refuse()
    assert order == ["b", "c", "a"] * 3


def test_a_server_that_never_answers_is_left_by_its_deadline() -> None:
    world = World("nats://a, nats://b", reconnect_jitter=0.0, connect_timeout=2.0).ready()
    world.cut()
    first = world.dial
    world.wait(1.999)
    assert world.dial is first
    world.wait(0.001)
    assert world.dial is not first
    assert isinstance(world.session.last_error, NATSTimeoutError)
    assert world.commands[-2] == CloseTransport()


def test_a_suspended_machine_comes_back() -> None:
    world = World(reconnect_jitter=0.0).ready()
    world.cut()
    world.now += 600.0
    world.session.handle_timeout(now=world.now)
    world.pump()
    assert world.dial is not None
    assert world.dial.at >= world.now - 600.0
    world.up()
    assert world.session.status is SessionStatus.CONNECTED


def test_the_pool_may_run_out() -> None:
    world = World("nats://a, nats://b", max_reconnect_attempts=1).ready()
    world.session.publish("left", b"12")
    world.room = 0
    world.session.publish("over", b"34")
    world.pump()
    world.cut()
    while world.dial is not None:
        world.refuse()
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, NoServersError)
    assert closed.unsent_msgs == 2
    assert world.session.status is SessionStatus.CLOSED


@pytest.mark.parametrize("how", [how for how, error in LOSSES.items() if error is not None])
def test_without_reconnect_the_first_loss_is_the_end(how: str) -> None:
    world = World("nats://a, nats://b", allow_reconnect=False).ready()
    lose(world, how)
    assert world.commands == [CloseTransport()]
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert closed.error is world.session.last_error
    assert world.session.next_timeout() is None


def test_without_reconnect_the_users_own_still_works() -> None:
    world = World("nats://a, nats://b", allow_reconnect=False).ready()
    lose(world, "reconnect")
    world.up()
    assert world.session.status is SessionStatus.CONNECTED


# --- reconnect() by the user -----------------------------------------------------------------------------------------


def test_it_fails_what_is_in_flight() -> None:
    world = World().ready()
    request, flush = world.session.request("r"), world.session.flush()
    world.pump()
    lose(world, "reconnect")
    failed_request, failed_flush, disconnected, _ = world.events()
    assert isinstance(failed_request, RequestFailed)
    assert isinstance(failed_flush, FlushFailed)
    assert (failed_request.token, failed_flush.token) == (request, flush)
    assert isinstance(failed_request.error, ConnectionLostError)
    assert isinstance(failed_flush.error, ConnectionLostError)
    assert disconnected == Disconnected(server="nats://a:4222", error=None)


def test_it_may_come_back_to_the_only_server_at_once() -> None:
    world = World().ready()
    for _ in range(3):
        lose(world, "reconnect")
        assert world.dial is not None
        assert world.dial.at == world.now
        world.up()
    assert world.session.stats.reconnects == 3


def test_it_wakes_a_waiting_attempt() -> None:
    world = World(reconnect_jitter=0.0).ready()
    world.cut()
    world.refuse()
    world.refuse()
    assert world.dial is not None
    assert world.dial.at > world.now
    world.events()
    lose(world, "reconnect")
    assert world.dial.at == world.now
    assert world.dial.deadline == world.now + world.options.connect_timeout
    assert [type(event) for event in world.events()] == [Reconnecting]
    world.up()
    assert world.events() == [Reconnected(server="nats://a:4222", attempts=3)]


@pytest.mark.parametrize("state", ["dialling", "handshake", "first walk"])
def test_it_changes_nothing_where_an_attempt_is_under_way(state: str) -> None:
    world = World(reconnect_jitter=0.0)
    if state != "first walk":
        world.ready()
        world.cut()
        world.now = world.dial.at if world.dial is not None else 0.0
    if state == "handshake":
        world.accept()
    commands = list(world.commands)
    world.events()
    lose(world, "reconnect")
    assert world.commands == commands
    assert world.events() == []


def test_it_needs_a_start() -> None:
    world = World(start=False)
    with pytest.raises(LocalProtocolError):
        world.session.reconnect(now=world.now)


# --- what the next connection is told --------------------------------------------------------------------------------


def test_subscriptions_come_first_in_sid_order_then_what_waits() -> None:
    world = World().ready()
    first = world.session.subscribe("first", queue="q")
    gone = world.session.subscribe("gone")
    limited = world.session.subscribe("limited", max_msgs=5)
    world.session.request("r")
    world.pump()
    world.feed(msg("limited", limited.sid) * 2)
    world.session.unsubscribe(gone)
    world.pump()
    world.cut()
    world.session.publish("a", b"1")
    late = world.session.subscribe("late", max_msgs=2)
    world.session.publish("a", b"22")
    world.up()
    words = world.words()
    assert words == [
        "CONNECT",
        "PING",
        f"SUB first q {first.sid}",
        f"SUB limited {limited.sid}",
        f"UNSUB {limited.sid} 3",
        words[5],
        f"SUB late {late.sid}",
        f"UNSUB {late.sid} 2",
        "PUB a [1]",
        "PUB a [2]",
    ]
    assert words[5].startswith("SUB _INBOX.")
    world.session.publish("a", b"333")
    world.pump()
    assert world.words() == ["PUB a [3]"]


def test_nothing_but_the_handshake_leaves_before_it_is_done() -> None:
    world = World().ready()
    world.session.subscribe("s")
    world.session.request("r")
    world.cut()
    world.session.publish("a")
    world.accept()
    world.session.subscribe("t")
    world.session.publish("b")
    world.pump()
    assert world.wire() == b""
    world.feed(info())
    world.session.subscribe("u")
    world.session.publish("c")
    world.pump()
    assert world.words() == ["CONNECT", "PING"]


def test_a_restore_that_was_cut_is_made_again_whole() -> None:
    world = World().ready()
    subs = [world.session.subscribe(f"s{number}", max_msgs=9) for number in range(50)]
    world.session.publish("a", b"x" * 100)
    for room in (0, 1, 100, 400, 700):
        world.cut()
        world.room = 300 + room
        world.up()
    world.cut()
    world.room = None
    world.up()
    restored = [word for sub in subs for word in (f"SUB {sub.subject} {sub.sid}", f"UNSUB {sub.sid} 9")]
    assert world.words() == ["CONNECT", "PING", *restored, "PUB a [100]"]


def test_bytes_of_the_old_connection_are_not_the_beginning_of_the_new() -> None:  # H46
    world = World().ready()
    world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"x" * 100)[:50])
    world.cut()
    world.up()
    assert world.session.status is SessionStatus.CONNECTED
    world.feed(msg("s", 1, b"whole"))
    assert world.session.stats.in_msgs == 1


def test_a_connection_that_was_replaced_is_forgotten() -> None:
    world = World().ready()
    parser = weakref.ref(world.session._link.connection._parser)  # type: ignore[union-attr]
    world.cut()
    assert parser() is None


def test_a_connect_of_each_connection_has_its_own_info() -> None:
    world = World().ready(headers=True)
    world.cut()
    world.accept()
    world.feed(info(headers=False))
    connect = frames_of(world.wire())[0]
    assert connect.options["headers"] is False  # type: ignore[union-attr]
