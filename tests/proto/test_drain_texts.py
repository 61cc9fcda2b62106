"""What a drain that did not go well says was left; and when it went well although there was no connection."""

from __future__ import annotations

import pytest

from nats_proto import Closed, SessionStatus, SubscriptionState
from nats_proto.errors import ConnectionLostError, NATSTimeoutError
from tests.proto.driver import PONG, World, msg


def closed(world: World) -> Closed:
    event = world.events()[-1]
    assert isinstance(event, Closed)
    return event


def subscribed(*unread: int, **options: object) -> tuple[World, list[SubscriptionState]]:
    """A subscription for each number, with so many messages unread."""
    world = World(**options).ready()
    subs = [world.session.subscribe(f"s{n}") for n in range(len(unread))]
    world.pump()
    for sub, count in zip(subs, unread, strict=True):
        world.feed(msg(sub.subject, sub.sid, b"x") * count)
    return world, subs


@pytest.mark.parametrize(
    ("unread", "running", "what"),
    [
        ((1,), (0,), "1 message unread in 1 subscription"),
        ((3,), (0,), "3 messages unread in 1 subscription"),
        ((2, 1, 0), (0, 0, 0), "3 messages unread in 2 subscriptions"),
        ((0,), (1,), "1 callback still running"),
        ((0, 0, 0), (1, 0, 1), "2 callbacks still running"),
        ((0, 4), (1, 1), "4 messages unread in 1 subscription, 2 callbacks still running"),
    ],
)
def test_messages_and_callbacks_are_counted(unread: tuple[int, ...], running: tuple[int, ...], what: str) -> None:
    world, subs = subscribed(*unread)
    for sub, handlers in zip(subs, running, strict=True):
        for _ in range(handlers):
            sub.handler_started()
    world.session.drain(now=world.now, timeout=3.0)
    world.pump()
    world.feed(PONG)
    world.wait(3.0)
    error = closed(world).error
    assert isinstance(error, NATSTimeoutError)
    assert str(error) == f"drain took longer than 3 s: {what}"


@pytest.mark.parametrize(("count", "what"), [(1, "1 subscription"), (2, "2 subscriptions")])
def test_a_server_that_does_not_confirm_is_named_as_the_reason(count: int, what: str) -> None:
    world, _ = subscribed(*[0] * count)
    world.session.drain(now=world.now, timeout=3.0)
    world.pump()
    world.wait(3.0)
    assert str(closed(world).error) == f"drain took longer than 3 s: the server did not confirm the end of {what}"


def test_a_connection_lost_on_the_way_is_an_error_with_what_was_left() -> None:
    world, (sub,) = subscribed(2)
    sub.handler_started()
    world.room = 0
    world.session.publish("p", b"1")
    world.session.drain(now=world.now)
    world.pump()
    world.cut()
    sub.take(2)
    sub.handler_finished()
    world.session.subscription_progress(now=world.now)
    world.pump()
    error = closed(world).error
    assert isinstance(error, ConnectionLostError)
    assert error.__cause__ is not None
    assert str(error) == (
        "drain: the connection was lost; 2 messages unread in 1 subscription, 1 callback still running, "
        "1 published message unsent"
    )


def test_a_connection_lost_before_the_server_confirmed_is_an_error_with_nothing_left() -> None:
    world, _ = subscribed(0)
    world.session.drain(now=world.now)
    world.pump()
    world.cut()
    assert str(closed(world).error) == (
        "drain: the connection was lost; the server did not confirm that it had sent everything"
    )


# --- without a connection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["new", "dialling", "handshake", "waiting", "read", "running", "drained before"])
def test_a_drain_without_a_connection_and_with_nothing_left_goes_well(state: str) -> None:
    world = World(start=state != "new")
    if state == "handshake":
        world.accept()
    if state in ("waiting", "read", "running", "drained before"):
        world.ready()
    sub = world.session.subscribe("s")
    if state in ("read", "running", "drained before"):
        world.pump()
        world.feed(msg("s", 1, b"1"))
        assert len(sub.take(9)) == 1
        world.session.publish("p", b"written")
        world.pump()
    if state == "drained before":
        world.session.drain_subscription(sub, now=world.now)
    if state in ("waiting", "read", "running", "drained before"):
        world.eof()
    if state == "running":
        sub.handler_started()
    world.session.drain(now=world.now)
    world.pump()
    if state == "running":
        assert world.session.status is SessionStatus.DRAINING_SUBS
        sub.handler_finished()
        world.session.subscription_progress(now=world.now)
        world.pump()
    assert world.session.status is SessionStatus.CLOSED
    assert closed(world) == Closed(error=None)
    assert world.dial is None
    assert world.session.next_timeout() is None


def test_a_callback_that_does_not_return_is_a_timeout() -> None:
    world, (sub,) = subscribed(0)
    sub.handler_started()
    world.eof()
    world.session.drain(now=world.now, timeout=3.0)
    world.pump()
    world.wait(3.0)
    error = closed(world).error
    assert isinstance(error, NATSTimeoutError)
    assert str(error) == "drain took longer than 3 s: 1 callback still running"


@pytest.mark.parametrize(
    ("unread", "unsent", "what"),
    [
        (0, 1, "1 published message unsent"),
        (2, 0, "2 messages unread in 1 subscription"),
        (1, 2, "1 message unread in 1 subscription, 2 published messages unsent"),
    ],
)
def test_a_drain_without_a_connection_says_what_was_left(unread: int, unsent: int, what: str) -> None:
    world, (sub,) = subscribed(unread)
    world.eof()
    for _ in range(unsent):
        world.session.publish("p", b"1")
    world.session.drain(now=world.now)
    world.pump()
    sub.take(9)
    world.session.subscription_progress(now=world.now)
    world.pump()
    event = closed(world)
    assert isinstance(event.error, ConnectionLostError)
    assert str(event.error) == f"drain: there is no connection; {what}"
    assert event.unsent_msgs == unsent


# --- one subscription ------------------------------------------------------------------------------------------------


def test_what_is_left_of_one_subscription() -> None:
    world, (sub,) = subscribed(2)
    world.session.drain_subscription(sub, now=world.now)
    world.pump()
    assert sub.left == "2 messages unread"
    sub.handler_started()
    sub.pop()
    assert sub.left == "1 message unread, 1 callback still running"
    sub.pop()
    assert sub.left == "1 callback still running"
    sub.handler_finished()
    assert sub.left == "the server did not confirm its end"
    world.feed(PONG)
    assert sub.left == "nothing is left by now"
    assert sub.finished
