"""Keep-alive, stale connections, PONGs nobody asked for and PINGs nobody can answer fast enough."""

from __future__ import annotations

import pytest

from nats_proto import ConnectionEnded, ConnectionState, Message, PongReceived
from nats_proto._connection.connection import MAX_PONGS_AT_ONCE
from nats_proto.errors import StaleConnectionError
from tests.proto.driver import PING, PONG, START, Wire, info, msg


def opened(**options: object) -> Wire:
    wire = Wire(**{"ping_interval": 10.0, "max_pings_out": 2, **options})
    wire.open()
    return wire


def is_stale(events: list[object]) -> bool:
    return any(isinstance(event, ConnectionEnded) and isinstance(event.error, StaleConnectionError) for event in events)


def test_a_ping_leaves_every_interval_while_it_is_answered() -> None:
    wire = opened()
    for beat in range(1, 6):
        assert wire.connection.next_timeout() == START + 10 * beat
        assert wire.tick(10) == []
        assert wire.written() == PING
        assert wire.feed(PONG) == []


@pytest.mark.parametrize("max_pings_out", [1, 2, 5])
def test_a_silent_peer_is_stale_one_interval_after_the_last_ping_it_may_owe(max_pings_out: int) -> None:
    wire = opened(max_pings_out=max_pings_out)
    for _ in range(max_pings_out):
        assert wire.tick(10) == []
        assert wire.written() == PING
    assert wire.tick(9.999) == []
    assert is_stale(wire.tick(0.001))
    assert wire.now - START == pytest.approx(10 * (max_pings_out + 1))
    assert wire.written() == b""
    assert wire.connection.next_timeout() is None


def test_the_error_says_how_long_it_waited() -> None:
    wire = opened()
    for _ in range(3):
        wire.tick(10)
    (ended,) = wire.events[-1:]
    assert isinstance(ended, ConnectionEnded)
    assert str(ended.error) == "server nats://a:4222 left 2 PINGs unanswered (ping_interval 10 s)"


@pytest.mark.parametrize("chatter", [msg("a", 1, b"x"), PING, b"+OK\r\n", info(server_id="other")])
def test_data_flowing_towards_us_is_no_sign_of_life(chatter: bytes) -> None:
    wire = opened()
    for _ in range(2):
        for _ in range(10):
            assert not is_stale(wire.tick(1))
            wire.feed(chatter)
    assert is_stale(wire.tick(10))


def test_a_peer_that_is_never_written_to_is_stale_in_time() -> None:
    wire = opened()
    assert not is_stale(wire.tick(10))
    assert not is_stale(wire.tick(10))
    assert is_stale(wire.tick(10))


def test_any_pong_starts_the_count_again() -> None:
    wire = opened()
    wire.tick(10)
    wire.tick(10)
    wire.feed(PONG)
    assert not is_stale(wire.tick(10))
    assert not is_stale(wire.tick(10))
    assert is_stale(wire.tick(10))


def test_the_pong_of_a_flush_is_a_sign_of_life() -> None:
    wire = opened()
    wire.connection.pings_taken([5])
    wire.tick(10)
    wire.tick(10)
    assert wire.feed(PONG) == [PongReceived(5)]
    assert not is_stale(wire.tick(10))


@pytest.mark.parametrize("late", [0.5, 10.0, 600.0])
def test_a_late_timer_sends_one_ping_and_counts_from_then(late: float) -> None:
    wire = opened()
    assert wire.tick(10 + late) == []
    assert wire.written() == PING
    assert wire.connection.next_timeout() == wire.now + 10


def test_early_and_repeated_timer_calls_do_nothing() -> None:
    wire = opened()
    for _ in range(9):
        assert wire.tick(1.1) == []
        assert wire.written() == b""
        assert wire.connection.next_timeout() == START + 10
    wire.tick(0.1)
    wire.tick(0)
    wire.tick(0)
    assert wire.written() == PING


def test_no_interval_no_ping() -> None:
    wire = opened(ping_interval=0.0)
    assert wire.connection.next_timeout() is None
    assert wire.tick(1e9) == []
    assert wire.written() == b""


def test_keep_alive_begins_with_the_end_of_the_handshake() -> None:
    wire = Wire(ping_interval=0.5, connect_timeout=2.0)
    wire.feed(info())
    wire.written()
    wire.tick(1.5)
    assert wire.written() == b""
    wire.feed(PONG)
    assert wire.connection.next_timeout() == START + 2.0


def test_pongs_resolve_pings_in_the_order_they_left() -> None:
    wire = opened()
    wire.connection.pings_taken([1, 2])
    wire.tick(10)
    wire.written()
    wire.connection.pings_taken([3])
    assert wire.feed(PONG) == [PongReceived(1)]
    assert wire.feed(PONG + PONG) == [PongReceived(2)]
    assert wire.feed(PONG) == [PongReceived(3)]
    assert wire.feed(PONG) == []


def test_pongs_nobody_asked_for() -> None:  # H57
    wire = opened()
    assert wire.feed(PONG * 1000) == []
    wire.connection.pings_taken([1])
    assert wire.feed(PONG) == [PongReceived(1)]
    wire.feed(PONG * 1000)
    wire.tick(10)
    wire.tick(10)
    assert is_stale(wire.tick(10))


def test_each_ping_of_a_usual_peer_is_answered() -> None:
    wire = opened()
    wire.feed(PING + msg("a", 1) + PING + PING)
    assert wire.written() == PONG * 3
    assert wire.written() == b""


def test_a_flood_of_pings_makes_no_flood_of_pongs() -> None:  # H56
    wire = opened()
    for _ in range(100):
        wire.feed(PING * 5000)
    assert wire.written() == PONG * MAX_PONGS_AT_ONCE
    assert wire.written() == b""
    assert [type(event) for event in wire.feed(msg("a", 1) + PING)] == [Message]
    assert wire.written() == PONG


def test_pings_one_byte_at_a_time() -> None:
    wire = opened()
    wire.feed(PING * 3, at_a_time=1)
    assert wire.written() == PONG * 3


def test_oks_nobody_asked_for() -> None:  # H58
    wire = opened()
    assert wire.feed(b"+OK\r\n" * 100_000) == []
    assert wire.connection.state is ConnectionState.OPEN
