"""A server that is about to leave: when the session moves away from it, and when it stays."""

from __future__ import annotations

import pytest

from nats_proto import (
    Closed,
    Connected,
    Disconnected,
    LameDuckMode,
    Reconnected,
    Reconnecting,
    ServersDiscovered,
    SessionStatus,
)
from nats_proto._session.lame_duck import LAME_DUCK_GRACE
from tests.proto.driver import PONG, World, info, msg

LDM = info(ldm=True)
MIGRATING = LameDuckMode(server="nats://a:4222", migrating=True)
STAYING = LameDuckMode(server="nats://a:4222", migrating=False)


def pair(**options: object) -> World:
    return World("nats://a, nats://b", **options).ready()


def test_at_a_quiet_moment_it_is_left_at_once() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(LDM)
    assert world.events() == [
        MIGRATING,
        Disconnected(server="nats://a:4222", error=None),
        Reconnecting(server="nats://b:4222", attempt=1, delay=0.0, error=None),
    ]
    world.up()
    assert world.events() == [Reconnected(server="nats://b:4222", attempts=1)]
    assert world.words() == ["CONNECT", "PING", f"SUB s {sub.sid}"]
    assert world.session.last_error is None


@pytest.mark.parametrize("busy", ["request", "flush", "unwritten"])
def test_what_is_under_way_is_waited_for(busy: str) -> None:
    world = pair()
    if busy == "request":
        world.session.request("r")
    elif busy == "flush":
        world.session.flush()
    else:
        world.room = 0
        world.session.publish("a", b"x" * 100)
    world.pump()
    inbox = world.session._traffic.inbox
    world.feed(LDM)
    assert world.session.status is SessionStatus.CONNECTED
    if busy == "request":
        world.feed(msg(f"{inbox.subject[:-1]}{next(iter(inbox._waiting))}", 1, b"answer"))
    elif busy == "flush":
        world.feed(PONG)
    else:
        world.room = None
        world.pump()
        world.feed(b"+OK\r\n")
    assert world.session.status is SessionStatus.RECONNECTING
    assert world.dial is not None
    assert world.dial.server.host == "b"


def test_it_is_not_waited_for_longer_than_the_server_stays() -> None:
    world = pair()
    world.session.request("r")
    world.pump()
    world.feed(LDM)
    world.wait(LAME_DUCK_GRACE - 0.001)
    assert world.session.status is SessionStatus.CONNECTED
    assert world.session.next_timeout() == pytest.approx(world.now + 0.001)
    world.wait(0.001)
    assert world.session.status is SessionStatus.RECONNECTING
    assert world.session.pending_requests == 1  # its answer may still come: the inbox is restored


@pytest.mark.parametrize(
    ("servers", "options"),
    [
        pytest.param("nats://a", {}, id="no other server"),
        pytest.param("nats://a, nats://b", {"lame_duck_migration": False}, id="by option"),
        pytest.param("nats://a, nats://b", {"allow_reconnect": False}, id="no reconnect"),
    ],
)
def test_it_is_not_left_without_a_refuge(servers: str, options: dict[str, object]) -> None:
    world = World(servers, **options).ready()
    world.feed(LDM)
    assert world.events() == [STAYING]
    world.wait(2 * LAME_DUCK_GRACE)
    assert world.session.status is SessionStatus.CONNECTED


def test_a_refuge_may_be_named_by_the_lame_duck_itself() -> None:
    world = World("nats://a").ready()
    world.feed(info(ldm=True, connect_urls=["b:4222"]))
    assert MIGRATING in world.events()
    assert world.dial is not None
    assert world.dial.server.host == "b"


@pytest.mark.parametrize("busy", [False, True])
def test_a_refuge_may_be_discovered_later(busy: bool) -> None:
    world = World("nats://a").ready()
    world.feed(LDM)
    assert world.events() == [STAYING]
    world.wait(LAME_DUCK_GRACE + 1)
    if busy:
        world.session.request("r")
        world.pump()
    world.feed(info(connect_urls=["b:4222"]))
    assert world.events()[:2] == [ServersDiscovered(servers=("nats://b:4222",)), MIGRATING]
    assert world.session.status is (SessionStatus.CONNECTED if busy else SessionStatus.RECONNECTING)
    world.feed(info(connect_urls=["b:4222", "c:4222"]))
    assert MIGRATING not in world.events()
    world.wait(LAME_DUCK_GRACE)
    assert world.dial is not None
    assert world.dial.server.host == "b"


def test_a_lame_duck_that_is_listed_again_is_a_refuge() -> None:
    world = pair()
    world.feed(LDM)
    world.up(server_id="B")
    world.feed(info(ldm=True, server_id="B"))
    assert world.events()[-1] == LameDuckMode(server="nats://b:4222", migrating=False)
    world.feed(info(connect_urls=["a:4222"], server_id="B"))
    assert world.events()[0] == LameDuckMode(server="nats://b:4222", migrating=True)
    assert world.dial is not None
    assert world.dial.server.host == "a"


@pytest.mark.parametrize("how", ["by option", "no reconnect", "draining"])
def test_a_refuge_that_comes_later_changes_nothing_for_who_stays(how: str) -> None:
    options = {"by option": {"lame_duck_migration": False}, "no reconnect": {"allow_reconnect": False}}
    world = World("nats://a", **options.get(how, {})).ready()
    world.feed(LDM)
    if how == "draining":
        sub = world.session.subscribe("s")
        world.feed(msg("s", sub.sid))
        world.session.drain(now=world.now)
    world.events()
    world.feed(info(connect_urls=["b:4222"]))
    assert world.events_of(LameDuckMode) == []
    world.wait(LAME_DUCK_GRACE + 1)
    assert world.session.connected_url == "nats://a:4222"


def test_another_lame_duck_is_no_refuge() -> None:
    world = pair()
    world.feed(LDM)
    world.up()
    world.events()
    world.feed(LDM)
    assert world.events() == [LameDuckMode(server="nats://b:4222", migrating=False)]


def test_the_lame_duck_by_another_name_is_no_refuge() -> None:
    world = World("nats://a, nats://also-a, nats://a-again").ready()
    world.feed(LDM)
    for name in ("also-a", "a-again"):  # each may be another server until it was seen
        assert world.dial is not None
        assert world.dial.server.host == name
        world.up(ldm=True)
    assert world.dial is None
    assert world.session.connected_url == "nats://a-again:4222"
    assert world.events()[-1] == LameDuckMode(server="nats://a-again:4222", migrating=False)
    world.wait(10 * LAME_DUCK_GRACE)
    assert world.session.connected_url == "nats://a-again:4222"


def test_it_is_said_once_for_each_connection() -> None:
    world = World("nats://a").ready()
    for max_payload in range(5, 10):
        world.feed(info(ldm=True, max_payload=max_payload))
        world.feed(info(ldm=False, max_payload=max_payload))
    assert world.events() == [STAYING]
    world.eof()
    world.up()
    world.feed(LDM)
    assert world.events()[-1] == STAYING


def test_it_is_tried_last() -> None:
    world = World("nats://a, nats://b, nats://c").ready()
    world.feed(LDM)
    order = []
    for _ in range(6):
        assert world.dial is not None
        order.append(world.dial.server.host)
        world.refuse()
    assert order == ["b", "c", "a", "b", "c", "a"]


@pytest.mark.parametrize("first", ["lame duck", "drain"])
def test_a_draining_session_stays_to_the_end(first: str) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    world.pump()
    if first == "lame duck":
        world.session.flush()
        world.pump()
        world.feed(LDM)
    world.session.drain(now=world.now)
    world.pump()
    world.feed(msg("s", sub.sid, b"1"))
    if first == "drain":
        world.feed(LDM)
    world.feed(PONG + PONG)
    world.wait(LAME_DUCK_GRACE + 1.0)
    assert world.session.status is SessionStatus.DRAINING_SUBS
    sub.pop()
    world.session.subscription_progress(now=world.now)
    world.pump()
    world.feed(PONG)
    assert world.events()[-1] == Closed(error=None)


def test_a_closing_session_does_not_move() -> None:
    world = pair()
    world.session.flush()
    world.pump()
    world.feed(LDM)
    world.wait(LAME_DUCK_GRACE - 0.1)
    world.room = 0
    world.session.publish("a", b"x")
    world.session.close(now=world.now)
    world.pump()
    world.wait(0.2)
    world.room = None
    world.pump()
    assert world.words()[-1] == "PUB a [1]"
    assert world.events()[-1] == Closed(error=None)
    assert world.dial is None


def test_what_a_lost_connection_left_under_way_is_not_waited_for_on_the_next() -> None:
    world = pair()
    world.session.drain_subscription(world.session.subscribe("s"), now=world.now)
    world.session.flush()
    world.session.cancel_flush(world.session.flush())
    world.pump()
    world.cut()
    world.up(server_id="B")
    world.feed(info(ldm=True, server_id="B"))
    assert world.session.status is SessionStatus.RECONNECTING


def test_a_user_in_a_hurry_goes_first() -> None:
    world = pair()
    world.session.request("r")
    world.pump()
    world.feed(LDM)
    world.session.reconnect(now=world.now)
    world.pump()
    world.up()
    world.wait(LAME_DUCK_GRACE + 1)
    assert world.session.connected_url == "nats://b:4222"
    assert len(world.events_of(Reconnected)) == 1


def test_a_first_connect_to_a_lame_duck_is_a_connect() -> None:
    world = World("nats://a, nats://b")
    world.up(ldm=True)
    kinds = [type(event) for event in world.events()]
    assert kinds == [Connected, LameDuckMode, Disconnected, Reconnecting]
