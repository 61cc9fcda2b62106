"""Flushes: each is completed by its own PONG on its own connection, whatever else is on the way."""

from __future__ import annotations

from itertools import count

import pytest

from nats_proto import FlushCompleted, FlushFailed, SessionStatus, accelerated
from nats_proto._session.outbox import CHUNK_SIZE
from nats_proto.errors import ConnectionLostError, StaleConnectionError
from tests.interrupting import interrupted_at
from tests.proto.driver import PING, PONG, World


def test_a_flush_leaves_behind_all_that_was_published() -> None:
    world = World().ready()
    world.session.publish("a")
    token = world.session.flush()
    world.session.publish("b")
    world.pump()
    assert world.words() == ["PUB a [0]", "PING", "PUB b [0]"]
    assert world.events() == []
    world.feed(PONG)
    assert world.events() == [FlushCompleted(token)]


def test_flushes_are_completed_in_order() -> None:
    world = World().ready()
    tokens = [world.session.flush() for _ in range(5)]
    world.pump()
    world.feed(PONG + PONG)
    assert world.events() == [FlushCompleted(token) for token in tokens[:2]]
    world.feed(PONG * 3)
    assert world.events() == [FlushCompleted(token) for token in tokens[2:]]


def test_keep_alive_pings_in_between_keep_their_place() -> None:
    world = World(ping_interval=10.0).ready()
    first = world.session.flush()
    world.pump()
    world.wait(10.0)
    second = world.session.flush()
    world.pump()
    assert world.words() == ["PING", "PING", "PING"]
    world.feed(PONG)
    assert world.events() == [FlushCompleted(first)]
    world.feed(PONG)
    assert world.events() == []
    world.feed(PONG)
    assert world.events() == [FlushCompleted(second)]


def test_a_keep_alive_ping_overtakes_what_waits_to_be_written_and_the_tokens_know() -> None:
    world = World(ping_interval=10.0).ready()
    token = world.session.flush()  # not yet taken for writing
    world.now += 10.0
    world.session.handle_timeout(now=world.now)
    world.pump()
    world.feed(PONG)
    assert world.events() == []
    world.feed(PONG)
    assert world.events() == [FlushCompleted(token)]


def test_a_cancelled_flush_keeps_its_place_on_the_wire() -> None:
    world = World().ready()
    first, second, third = (world.session.flush() for _ in range(3))
    world.pump()
    world.session.cancel_flush(second)
    world.session.cancel_flush(second)
    world.session.cancel_flush(999)
    world.feed(PONG + PONG)
    assert world.events() == [FlushCompleted(first)]
    world.feed(PONG)
    assert world.events() == [FlushCompleted(third)]


def test_a_pong_nobody_asked_for_completes_nothing() -> None:  # H57
    world = World().ready()
    world.feed(PONG * 1000)
    token = world.session.flush()
    world.feed(PONG * 1000)  # the PING has left by now; only the first is its own
    assert world.events() == []
    world.session.flush()
    world.pump()
    assert world.wire() == PING * 2
    world.feed(PONG)
    assert world.events() == [FlushCompleted(token)]


@pytest.mark.parametrize("how", ["eof", "reset", "stale", "reconnect"])
@pytest.mark.parametrize("written", [True, False])
def test_a_lost_connection_fails_its_flushes_at_once(how: str, written: bool) -> None:
    world = World(ping_interval=10.0).ready()
    world.room = None if written else 0
    tokens = [world.session.flush(), world.session.flush()]
    world.session.cancel_flush(world.session.flush())
    world.pump()
    if how == "eof":
        world.eof()
    elif how == "reset":
        world.cut()
    elif how == "stale":
        world.wait(30.0)
    else:
        world.session.reconnect(now=world.now)
        world.pump()
    failed = world.events_of(FlushFailed)
    assert [event.token for event in failed] == tokens
    for event in failed:
        assert isinstance(event.error, ConnectionLostError)
        assert event.error.outcome == "unknown"
        assert isinstance(event.error.__cause__, StaleConnectionError) is (how == "stale")
    world.room = None
    world.up()
    assert world.words() == ["CONNECT", "PING"]
    world.feed(PONG * 5)
    assert world.events_of(FlushCompleted) == []
    token = world.session.flush()
    world.pump()
    world.feed(PONG)
    assert world.events() == [FlushCompleted(token)]


@pytest.mark.parametrize("state", ["new", "dialling", "handshake", "away"])
def test_without_a_connection_a_flush_raises(state: str) -> None:
    world = World(start=state != "new")
    if state == "handshake":
        world.accept()
    if state == "away":
        world.ready()
        world.cut()
    with pytest.raises(ConnectionLostError, match=f"not connected, the session is {world.session.status.name}"):
        world.session.flush()
    assert world.session.pending_bytes == 0


def test_a_flush_is_allowed_while_draining() -> None:
    world = World().ready()
    world.session.subscribe("s")
    world.session.drain(now=world.now)
    token = world.session.flush()
    world.pump()
    world.feed(PONG)
    assert world.session.status is SessionStatus.DRAINING_PUBS
    world.feed(PONG)
    assert world.events_of(FlushCompleted) == [FlushCompleted(token)]


@pytest.mark.skipif(not accelerated, reason="the Python twin can be interrupted within a step")
@pytest.mark.parametrize("before", [0, CHUNK_SIZE - len(PING) - 1], ids=["alone", "fills its chunk"])
def test_an_interrupt_at_any_moment_of_a_flush_leaves_each_later_one_its_own_pong(before: int) -> None:
    for moment in count():
        world = World().ready()
        thousands, rest = divmod(before, 1000)
        for size in [*[1000] * thousands, *[rest] * (rest > 0)]:
            world.session.publish("a", bytes(size - len("PUB a 987\r\n\r\n")))
        assert world.session.pending_bytes == before
        first = world.session.flush()
        with interrupted_at(moment, "nats_proto.") as came:
            world.session.flush()
        last = world.session.flush()
        world.pump()
        pings = world.words().count("PING")
        assert pings in (2, 3)
        world.feed(PONG * (pings - 1))
        assert FlushCompleted(first) in (events := world.events())
        assert FlushCompleted(last) not in events, f"at moment {moment}"
        world.feed(PONG)
        assert world.events() == [FlushCompleted(last)], f"at moment {moment}"
        # A lame duck is left as soon as nothing is under way.
        assert world.session._traffic.quiet, f"at moment {moment}: {world.session.pending_bytes} bytes wait"
        if not came():
            break
    assert moment > 5
