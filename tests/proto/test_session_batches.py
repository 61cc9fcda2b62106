"""Messages in a row go through connection and session as one, and nothing shows it."""

from __future__ import annotations

import pytest

from nats_proto import (
    ConnectionState,
    ContentErrorReceived,
    Message,
    MessagesAvailable,
    ReplyReceived,
    SlowConsumer,
    SubscriptionClosed,
    SubscriptionState,
)
from tests.proto.driver import PING, PONG, Wire, World, err, info, msg
from tests.proto.test_session_requests import requested

GOOD = b"NATS/1.0\r\nA: 1\r\n\r\n"
BAD = b"NATS/1.0x\r\n\r\n"


def subscribed(**limits: int) -> tuple[World, SubscriptionState[Message]]:
    world = World().ready()
    sub = world.session.subscribe("s", **limits)
    world.pump()
    world.events()
    return world, sub


def names(events: object) -> list[str]:
    assert isinstance(events, list)
    return [type(event).__name__ for event in events]


def test_a_connection_gives_every_message_by_itself() -> None:
    wire = Wire()
    wire.open()
    events = wire.feed(msg("s", 1, b"1") * 6 + PING + msg("s", 2, b"2") * 6 + msg("s", 3, header_block=GOOD) * 6)
    assert [event.sid for event in events if isinstance(event, Message)] == [1] * 6 + [2] * 6 + [3] * 6
    assert len(events) == 18


@pytest.mark.parametrize("bad", range(6))
def test_a_report_stands_behind_the_message_it_is_about(bad: int) -> None:
    wire = Wire()
    wire.open()
    blocks = [BAD if number == bad else GOOD for number in range(6)]
    events = wire.feed(b"".join(msg("s", 1, b"x", header_block=block) for block in blocks))
    assert names(events) == ["Message"] * (bad + 1) + ["ContentErrorReceived"] + ["Message"] * (5 - bad)
    world, sub = subscribed()
    world.feed(b"".join(msg("s", 1, b"x", header_block=block) for block in blocks))
    behind = [MessagesAvailable] if bad < 5 else []
    assert [type(event) for event in world.events()] == [MessagesAvailable, ContentErrorReceived, *behind]
    assert [message.header_block for message in sub.take(9)] == blocks


def test_messages_before_the_handshake_is_done_end_the_connection_once() -> None:
    wire = Wire()
    wire.feed(info())
    wire.written()
    assert names(wire.feed(msg("s", 1) * 6 + PONG)) == ["ConnectionEnded"]
    assert wire.connection.state is ConnectionState.CLOSED


def test_messages_behind_the_end_of_a_connection_are_not_heard() -> None:
    world, sub = subscribed()
    world.feed(msg("s", 1) * 6 + err("Stale Connection") + msg("s", 1) * 6)
    assert (sub.pending_msgs, world.session.stats.in_msgs) == (6, 6)


def test_messages_are_announced_before_what_came_behind_them() -> None:
    world, _ = subscribed()
    token = world.session.flush()
    world.pump()
    world.feed(msg("s", 1) * 6 + PONG + msg("s", 1) * 6)
    assert names(world.events()) == ["MessagesAvailable", "FlushCompleted", "MessagesAvailable"]
    assert token


def test_nobody_s_messages_are_counted() -> None:
    world, _ = subscribed()
    world.feed(msg("x", 77, b"12", header_block=GOOD) * 6)
    stats = world.session.stats
    assert (stats.in_msgs, stats.in_bytes, stats.dropped_unknown_sid) == (6, 12, 6)
    assert world.events() == []


def test_a_maximum_ends_the_subscription_in_the_middle() -> None:
    world, sub = subscribed(max_msgs=5)
    world.feed(msg("s", 1, b"x") * 8)
    assert [type(event) for event in world.events()] == [MessagesAvailable, SubscriptionClosed]
    assert (sub.pending_msgs, sub.received) == (5, 5)
    assert (world.session.stats.in_msgs, world.session.stats.dropped_unknown_sid) == (8, 3)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [({"max_pending_msgs": 6}, 6), ({"max_pending_msgs": 5}, 5), ({"max_pending_bytes": 12}, 6)]
    + [({"max_pending_bytes": size}, size // 2) for size in (1, 2, 9, 11)],
)
def test_what_is_over_a_limit_is_dropped_one_by_one(limits: dict[str, int], kept: int) -> None:
    world, sub = subscribed(**limits)
    world.feed(msg("s", 1, b"12") * 6)
    assert (sub.pending_msgs, sub.pending_bytes, sub.dropped) == (kept, 2 * kept, 6 - kept)
    slow = world.events_of(SlowConsumer)
    assert [(event.pending_msgs, event.pending_bytes, event.dropped) for event in slow] == (
        [] if kept == 6 else [(kept, 2 * kept, 1)]
    )


def test_what_was_taken_makes_room_for_a_row() -> None:
    world, sub = subscribed(max_pending_msgs=6, max_pending_bytes=12)
    world.feed(msg("s", 1, b"12") * 6)
    for _ in range(4):
        sub.messages.popleft()
    world.feed(msg("s", 1, b"1") * 4)
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered, sub.dropped) == (6, 8, 4, 0)


def test_a_row_may_fill_the_queue_to_its_last_byte() -> None:
    world, sub = subscribed(max_pending_bytes=12)
    for count, size in ((6, 2), (6, 2), (1, 12), (1, 12)):
        world.feed(msg("s", 1, b"x" * size) * count)
        assert len(sub.messages) == count
        for _ in range(count):
            sub.messages.popleft()
    assert (sub.delivered, sub.dropped) == (14, 0)


def test_a_row_that_fits_ends_a_time_of_dropping() -> None:
    world, sub = subscribed(max_pending_msgs=6)
    world.feed(msg("s", 1) * 8)
    sub.take(9)
    world.feed(msg("s", 1) * 6)
    world.feed(msg("s", 1))
    assert [event.dropped for event in world.events_of(SlowConsumer)] == [1, 3]


def test_replies_in_a_row_find_their_callers() -> None:
    world = World().ready()
    requests = requested(world, *"abcdef")
    world.feed(b"".join(msg(reply, 1, b"%d" % token) for token, reply in requests) + msg(requests[0][1], 1, b"again"))
    events = world.events_of(ReplyReceived)
    assert [(event.token, event.message.data) for event in events] == [(token, b"%d" % token) for token, _ in requests]
    assert (world.session.stats.in_msgs, world.session.stats.dropped_replies) == (7, 1)
