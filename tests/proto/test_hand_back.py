"""Messages that nobody will read are handed back: what is queued, and what still comes until the server knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nats_proto import Closed, Message, SubscriptionState
from nats_proto._session.outbox import HIGH_WATER
from tests.proto.driver import World, frames_of, msg

NAK = b"-NAK"


def consuming(world: World) -> SubscriptionState[Message]:
    sub = world.session.subscribe("inbox", marks=True, hand_back=NAK)
    world.pump()
    world.wire()
    return sub


def deliver(world: World, sub: SubscriptionState[Message], *numbers: int) -> None:
    world.feed(b"".join(msg("orders", sub.sid, b"%d" % number, reply=f"ack.{number}") for number in numbers))
    world.pump()


def returned(world: World) -> list[str]:
    """Subjects of the messages that were published with the payload that hands back, since the last look."""
    published = [frame for frame in frames_of(world.wire()) if getattr(frame, "data", None) == NAK]
    return [str(getattr(frame, "subject", None)) for frame in published]


def test_what_is_unread_goes_back_and_what_was_read_does_not() -> None:
    world = World().ready()
    sub = consuming(world)
    deliver(world, sub, 1, 2, 3)
    assert [message.data for message in sub.take(1)] == [b"1"]
    world.session.unsubscribe(sub)
    world.pump()
    assert returned(world) == ["ack.2", "ack.3"]
    assert (sub.delivered, sub.discarded, sub.pending_msgs) == (1, 2, 0)
    assert sub.finished


def test_what_still_comes_goes_back_until_the_server_has_confirmed() -> None:
    world = World().ready()
    sub = consuming(world)
    world.session.unsubscribe(sub)
    world.pump()
    assert world.words() == ["UNSUB 1", "PING"]
    world.pump()
    deliver(world, sub, 1, 2)
    assert returned(world) == ["ack.1", "ack.2"]
    world.feed(b"PONG\r\n")
    deliver(world, sub, 3)
    assert returned(world) == []
    assert world.session.stats.dropped_unknown_sid == 1


def test_a_late_message_alone_in_its_chunk_goes_back() -> None:
    world = World().ready()
    sub = consuming(world)
    world.session.unsubscribe(sub)
    world.pump()
    world.wire()
    for number in range(3):
        deliver(world, sub, number)
    assert returned(world) == ["ack.0", "ack.1", "ack.2"]


def test_messages_without_a_reply_subject_and_marks_are_dropped() -> None:
    world = World().ready()
    sub = consuming(world)
    world.feed(msg("status", sub.sid, b""))
    world.cut()
    world.wait(10.0)
    world.up()
    deliver(world, sub, 1)
    world.session.unsubscribe(sub)
    world.pump()
    assert returned(world) == ["ack.1"]


def test_a_reply_subject_that_cannot_be_published_to_is_dropped() -> None:
    world = World().ready()
    sub = consuming(world)
    world.feed(msg("orders", sub.sid, b"1", reply="ack.*"))
    deliver(world, sub, 2)
    world.session.unsubscribe(sub)
    world.pump()
    assert returned(world) == ["ack.2"]


def test_without_a_connection_the_unread_wait_for_the_next() -> None:
    world = World().ready()
    sub = consuming(world)
    deliver(world, sub, 1)
    world.cut()
    world.session.unsubscribe(sub)
    world.wait(10.0)
    world.up()
    assert returned(world) == ["ack.1"]


def test_the_end_of_a_connection_ends_what_was_to_come_by_it() -> None:
    world = World().ready()
    sub = consuming(world)
    world.session.unsubscribe(sub)
    world.pump()
    world.cut()
    world.wait(10.0)
    world.up()
    world.wire()
    deliver(world, sub, 1)
    assert returned(world) == []
    assert world.session.stats.dropped_unknown_sid == 1


def _drain(world: World) -> None:
    world.session.drain(now=world.now)


def _close(world: World) -> None:
    world.session.close(now=world.now)


@pytest.mark.parametrize("end", [_drain, _close])
def test_the_end_of_the_client_hands_back(end: Callable[[World], None]) -> None:
    world = World().ready()
    sub = consuming(world)
    deliver(world, sub, 1, 2)
    sub.take(1)
    end(world)
    assert sub.finished, "nobody has to read what was handed back"
    world.pump()
    assert returned(world) == ["ack.2"]


def test_a_drain_waits_for_no_reader() -> None:
    world = World().ready()
    sub = consuming(world)
    deliver(world, sub, 1)
    _drain(world)
    world.pump()
    for _ in range(4):  # for each PING that may be on the way
        world.feed(b"PONG\r\n")
        world.pump()
    assert [event.error for event in world.events_of(Closed)] == [None]


def test_with_too_much_to_be_written_nothing_is_handed_back() -> None:
    world = World(pending_size=1 << 30).ready()
    sub = consuming(world)
    deliver(world, sub, 1)
    while world.session.writable:
        world.session.publish("much", bytes(100_000))
    world.session.unsubscribe(sub)
    assert world.session.pending_bytes < HIGH_WATER + 200_000
    world.pump()
    assert returned(world) == []


def test_other_subscriptions_drop_what_they_hold() -> None:
    world = World().ready()
    sub = world.session.subscribe("inbox")
    world.pump()
    world.wire()
    deliver(world, sub, 1)
    world.session.unsubscribe(sub)
    world.pump()
    assert returned(world) == []
