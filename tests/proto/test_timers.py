"""The timers of a session: the first one counts, whichever it is, and what is wanted now comes before all of them."""

from __future__ import annotations

import pytest

from nats_proto import SessionStatus
from nats_proto._connection.events import AT_ONCE
from nats_proto._session.timers import Timers, due
from tests.proto.driver import World

NAMES = tuple(name for name in Timers.__slots__ if name != "first")


@pytest.mark.parametrize("name", NAMES)
def test_every_timer_counts(name: str) -> None:
    timers = Timers()
    assert timers.first is None
    setattr(timers, name, 5.0)
    assert timers.first == 5.0
    for other in NAMES:
        if other != name:
            setattr(timers, other, 6.0)
    assert timers.first == 5.0
    setattr(timers, name, None)
    assert timers.first == 6.0


@pytest.mark.parametrize(("at", "is_due"), [(None, False), (4.0, True), (5.0, True), (5.001, False), (AT_ONCE, True)])
def test_a_timer_is_due_from_its_time_on(at: float | None, is_due: bool) -> None:
    assert due(at, 5.0) is is_due


def test_a_drain_whose_last_message_was_read_without_a_call_wants_to_go_on_now() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(b"MSG s 1 1\r\nx\r\n")
    world.session.drain(now=world.now)
    world.pump()
    world.feed(b"PONG\r\n")
    assert world.session.next_timeout() == world.now + 30.0
    assert [message.data for message in sub.take(1)] == [b"x"]
    assert world.session.next_timeout() == AT_ONCE
    world.session.handle_timeout(now=world.now)
    assert world.session.status is SessionStatus.DRAINING_PUBS
    assert world.session.next_timeout() == world.now + 5.0


def test_nothing_is_timed_after_the_end() -> None:
    world = World().ready()
    world.session.subscribe("s")
    world.session.drain(now=world.now, timeout=7.0)
    world.session.close(now=world.now)
    world.pump()
    assert world.session.status is SessionStatus.CLOSED
    assert world.session.next_timeout() is None
