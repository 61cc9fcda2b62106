"""Draining one subscription, and the whole session, in every situation it can be met in."""

from __future__ import annotations

import pytest

from nats_proto import (
    Closed,
    CloseTransport,
    Disconnected,
    MessagesAvailable,
    RequestFailed,
    SessionStatus,
    SubscriptionClosed,
)
from nats_proto._session.drain import FINAL_FLUSH
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    NATSTimeoutError,
    SubscriptionClosedError,
)
from tests.proto.driver import PONG, World, err, msg


def progress(world: World) -> None:
    world.session.subscription_progress(now=world.now)
    world.pump()


def draining(seconds: float = 30.0, unread: int = 1, **options: object) -> World:
    """One subscription with messages unread, and the drain just begun."""
    world = World(**options).ready()
    world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"before") * unread)
    world.session.publish("p", b"12345")
    world.session.drain(now=world.now, timeout=seconds)
    world.pump()
    return world


# --- one subscription ------------------------------------------------------------------------------------------------


def test_what_the_server_sent_before_it_knew_is_delivered() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"1"))
    world.session.drain_subscription(sub, now=world.now)
    world.pump()
    assert sub.draining
    assert not sub.closed
    world.feed(msg("s", 1, b"2"))
    world.events()
    world.feed(msg("s", 1, b"3") + PONG)
    assert world.events() == [MessagesAvailable((1,)), SubscriptionClosed(1, None)]
    assert sub.closed
    assert not sub.finished
    assert world.words() == ["SUB s 1", "UNSUB 1", "PING"]
    assert [message.data for message in sub.take(9)] == [b"1", b"2", b"3"]
    assert sub.finished
    assert isinstance(sub.ending(iterating=True), SubscriptionClosedError)
    assert isinstance(sub.ending(iterating=False), SubscriptionClosedError)
    world.feed(msg("s", 1, b"4"))
    assert sub.pending_msgs == 0
    assert world.session.stats.dropped_unknown_sid == 1


def test_a_drain_waits_for_its_own_pong() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.session.flush()
    world.session.drain_subscription(sub, now=world.now)
    world.pump()
    world.feed(PONG)
    assert not sub.closed
    world.feed(PONG)
    assert sub.closed


def test_draining_again_does_nothing() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    for _ in range(3):
        world.session.drain_subscription(sub, now=world.now)
    world.pump()
    assert world.words() == ["SUB s 1", "UNSUB 1", "PING"]
    world.feed(PONG)
    world.session.drain_subscription(sub, now=world.now)
    world.pump()
    assert world.words() == []
    assert world.events() == [SubscriptionClosed(1, None)]


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_subscription_without_a_connection_closes_at_once(when: str) -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"1"))
    if when == "during":
        world.session.drain_subscription(sub, now=world.now)
    world.cut()
    if when == "before":
        world.session.drain_subscription(sub, now=world.now)
    world.pump()
    assert SubscriptionClosed(1, None) in world.events()
    assert sub.pending_msgs == 1
    world.up()
    assert world.words() == ["CONNECT", "PING"]


# --- the session -----------------------------------------------------------------------------------------------------


def test_the_whole_way() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.session.publish("p", b"1")
    world.session.drain(now=world.now)
    world.pump()
    assert world.session.status is SessionStatus.DRAINING_SUBS
    world.session.publish("p", b"a handler may still answer")
    world.pump()
    assert world.words() == ["SUB s 1", "PUB p [1]", "UNSUB 1", "PING", "PUB p [26]"]
    world.feed(msg("s", 1, b"m") + PONG)
    assert sub.closed
    assert world.session.status is SessionStatus.DRAINING_SUBS
    assert sub.pop() is not None
    sub.handler_started()
    progress(world)
    assert world.session.status is SessionStatus.DRAINING_SUBS
    sub.handler_finished()
    progress(world)
    assert world.session.status is SessionStatus.DRAINING_PUBS
    assert world.words() == ["PING"]
    with pytest.raises(ConnectionDrainingError):
        world.session.publish("p")
    with pytest.raises(ConnectionDrainingError):
        world.session.request("p")
    world.feed(PONG)
    assert world.session.status is SessionStatus.CLOSED
    assert world.events() == [
        MessagesAvailable((1,)),
        SubscriptionClosed(1, None),
        Disconnected(server="nats://a:4222", error=None),
        Closed(error=None),
    ]
    assert world.commands == [CloseTransport()]
    assert world.session.next_timeout() is None


def test_new_work_is_refused() -> None:
    world = draining()
    with pytest.raises(ConnectionDrainingError, match="subscribe"):
        world.session.subscribe("t")
    with pytest.raises(ConnectionDrainingError, match="reconnect"):
        world.session.reconnect(now=world.now)
    before = world.wire()
    world.session.drain(now=world.now, timeout=1.0)
    world.pump()
    assert world.wire() == b""
    assert b"UNSUB" in before


def test_requests_may_be_answered_while_subscriptions_finish_and_fail_at_the_end() -> None:
    world = draining()
    token = world.session.request("r")
    world.pump()
    world.feed(PONG)
    assert world.session.pending_requests == 1
    world.session._traffic.subs.add("x")  # never drained: not the user's
    (sub,) = world.session._life._drain.subs  # type: ignore[union-attr]
    sub.take(1)
    progress(world)
    world.feed(PONG)
    (failed,) = world.events_of(RequestFailed)
    assert failed.token == token
    assert isinstance(failed.error, ConnectionClosedError)


@pytest.mark.parametrize("how", ["maximum", "drained before", "lost while draining"])
def test_what_was_closed_before_but_not_read_is_waited_for(how: str) -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=2 if how == "maximum" else None)
    world.pump()
    world.feed(msg("s", 1, b"1") + msg("s", 1, b"2"))
    if how != "maximum":
        world.session.drain_subscription(sub, now=world.now)
        world.pump()
        if how == "drained before":
            world.feed(PONG)
        else:
            world.cut()
            world.up()
    assert sub.closed
    world.session.drain(now=world.now)
    world.pump()
    world.feed(PONG)
    assert world.session.status is SessionStatus.DRAINING_SUBS
    sub.take(1)
    progress(world)
    assert world.session.status is SessionStatus.DRAINING_SUBS
    sub.take(1)
    progress(world)
    assert world.session.status is SessionStatus.DRAINING_PUBS


def test_a_subscription_nobody_can_read_any_more_is_not_waited_for() -> None:
    world = World().ready()
    world.session.subscribe("s", max_msgs=1)
    world.pump()
    world.feed(msg("s", 1, b"1"))
    world.session.drain(now=world.now)
    assert world.session.status is SessionStatus.DRAINING_PUBS


def test_unsubscribing_from_what_the_drain_waits_for_lets_it_go_on() -> None:
    world = draining()
    world.feed(PONG)
    (sub,) = world.session._life._drain.subs  # type: ignore[union-attr]
    assert world.session.status is SessionStatus.DRAINING_SUBS
    world.session.unsubscribe(sub)
    world.pump()
    world.wait(0)
    assert world.session.status is SessionStatus.DRAINING_PUBS
    world.feed(PONG)
    assert world.events()[-1] == Closed(error=None)


def test_a_drain_without_subscriptions() -> None:
    world = World().ready()
    world.session.drain(now=world.now)
    world.pump()
    assert world.session.status is SessionStatus.DRAINING_PUBS
    assert world.words() == ["PING"]
    world.feed(PONG)
    assert world.session.status is SessionStatus.CLOSED


def test_what_follows_the_last_pong_in_its_segment_is_not_heard() -> None:
    world = World().ready()
    world.session.drain(now=world.now)
    world.pump()
    world.feed(PONG + err("Stale Connection") + b"garbage\r\n")
    assert isinstance(world.events()[-1], Closed)
    assert world.commands == [CloseTransport()]
    assert world.dial is None
    assert world.session.next_timeout() is None


# --- the time is up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "what"),
    [
        ("no pong", "1 message unread in 1 subscription"),
        ("unread", "1 message unread in 1 subscription"),
        ("handler", "1 callback still running"),
        ("flush", "did not confirm the last flush"),
    ],
)
def test_an_overrun_closes_and_says_what_was_left(phase: str, what: str) -> None:
    world = draining(seconds=3.0)
    (sub,) = world.session._life._drain.subs  # type: ignore[union-attr]
    if phase != "no pong":
        world.feed(PONG)
    if phase in ("handler", "flush"):
        sub.take(1)
    if phase == "handler":
        sub.handler_started()
    if phase == "flush":
        progress(world)
    world.events()
    world.wait(2.999)
    assert world.session.status is not SessionStatus.CLOSED
    world.wait(0.001)
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, NATSTimeoutError)
    assert str(closed.error) == f"drain took longer than 3 s: {'the server ' if phase == 'flush' else ''}{what}"
    ending = sub.ending(iterating=True)
    assert isinstance(ending, ConnectionClosedError if phase == "no pong" else SubscriptionClosedError)


def test_the_last_flush_has_a_time_of_its_own() -> None:
    world = draining(seconds=100.0, unread=0)
    world.feed(PONG)
    assert world.session.status is SessionStatus.DRAINING_PUBS
    assert world.session.next_timeout() == world.now + FINAL_FLUSH
    world.wait(FINAL_FLUSH)
    assert isinstance(world.events()[-1], Closed)


def test_the_option_is_the_default() -> None:
    world = World(drain_timeout=7.0).ready()
    world.session.subscribe("s")
    world.session.drain(now=world.now)
    assert world.session.next_timeout() == world.now + 7.0


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    world = World().ready()
    with pytest.raises(ValueError):
        world.session.drain(now=world.now, timeout=seconds)
    assert world.session.status is SessionStatus.CONNECTED


def test_without_any_time_it_ends_at_once() -> None:
    world = draining(seconds=0.0)
    world.wait(0)
    assert isinstance(world.events()[-1], Closed)


# --- without a connection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["no pong", "unread", "flush"])
@pytest.mark.parametrize("how", ["eof", "stale", "garbage", "final"])
def test_a_link_lost_on_the_way_is_not_made_again(phase: str, how: str) -> None:
    world = draining(seconds=1e6, ping_interval=1.5)
    (sub,) = world.session._life._drain.subs  # type: ignore[union-attr]
    if phase != "no pong":
        world.feed(PONG)
    if phase == "flush":
        sub.take(1)
        progress(world)
    if how == "eof":
        world.eof()
    elif how == "stale":
        world.wait(4.5)
    elif how == "final":
        world.feed(err("invalid client protocol"))
    else:
        world.feed(b"garbage\r\n")
    assert world.closed
    assert sub.closed
    if phase != "flush":
        assert world.session.status is SessionStatus.DRAINING_SUBS
        assert not world.events_of(Closed)
        sub.take(1)
        progress(world)
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ConnectionLostError)
    assert closed.error.__cause__ is world.session.last_error
    assert ("did not confirm" in str(closed.error)) is (phase == "flush")
    assert world.dial is None


def test_what_was_not_written_is_reported() -> None:
    world = World().ready()
    world.room = 5
    world.session.publish("a", b"1" * 10)
    world.session.publish("b", b"2" * 10)
    world.session.drain(now=world.now)
    world.pump()
    world.cut()
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert (closed.unsent_msgs, closed.unsent_bytes) == (2, 2 * len("PUB a 10\r\n1234567890\r\n"))
    assert "2 published messages unsent" in str(closed.error)


@pytest.mark.parametrize("state", ["new", "dialling", "handshake", "waiting"])
def test_a_drain_without_a_connection_ends_with_an_error(state: str) -> None:
    world = World(start=state != "new")
    if state == "handshake":
        world.accept()
    if state == "waiting":
        world.ready()
        world.eof()
    world.session.publish("a", b"1")
    sub = world.session.subscribe("s")
    world.session.drain(now=world.now)
    world.pump()
    assert world.session.status is SessionStatus.CLOSED
    assert sub.closed
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ConnectionLostError)
    assert closed.unsent_msgs == 1
    assert world.dial is None
    assert world.closed or state == "new"


def test_queues_are_read_to_the_end_without_a_connection() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"1") * 3)
    world.cut()
    world.session.drain(now=world.now)
    world.pump()
    for _ in range(3):
        assert world.session.status is SessionStatus.DRAINING_SUBS
        with pytest.raises(ConnectionLostError):
            world.session.flush()
        for publish in (world.session.publish, world.session.request):  # nobody will ever send it
            with pytest.raises(ConnectionDrainingError, match="no connection"):
                publish("a", b"x")
        sub.pop()
        progress(world)
    assert world.session.stats.out_msgs == 0
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert closed.unsent_msgs == 0
    assert str(closed.error) == "drain: there is no connection; 3 messages unread in 1 subscription"


def test_an_overrun_without_a_connection_still_tells_of_the_link() -> None:
    world = draining(seconds=5.0)
    world.cut()
    world.wait(5.0)
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ConnectionLostError)
