"""A queue that other threads take from without the lock: the counts are right whenever somebody asks."""

from __future__ import annotations

import pytest

from nats_proto import Message, SlowConsumer, SubscriptionState
from tests.proto.driver import World, msg


def shared(**limits: int) -> tuple[World, SubscriptionState[Message]]:
    world = World().ready()
    sub = world.session.subscribe("s", **limits)
    world.pump()
    return world, sub


def counts(sub: SubscriptionState[Message]) -> tuple[int, int, int]:
    return sub.pending_msgs, sub.pending_bytes, sub.delivered


def test_what_was_taken_is_accounted_for_afterwards() -> None:
    world, sub = shared()
    world.feed(b"".join(msg("s", 1, b"x" * size) for size in (1, 20, 300)))
    assert counts(sub) == (3, 321, 0)
    sub.messages.popleft()
    sub.messages.popleft()
    assert sub.pending_msgs == 1
    for _ in range(2):
        sub.count_taken()
        assert counts(sub) == (1, 300, 2)


def test_a_chunk_that_arrives_counts_what_was_taken_before() -> None:
    world, sub = shared()
    world.feed(msg("s", 1, b"12345"))
    sub.messages.popleft()
    world.feed(msg("s", 1, b"123"))
    assert counts(sub) == (1, 3, 1)


def test_the_limit_in_bytes_looks_again_before_it_drops() -> None:
    world, sub = shared(max_pending_bytes=100)
    world.feed(msg("s", 1, b"x" * 80))
    world.feed(msg("s", 1, b"x" * 30))
    assert sub.dropped == 1
    sub.messages.popleft()
    world.feed(msg("s", 1, b"x" * 80))
    assert sub.dropped == 1
    assert counts(sub) == (1, 80, 1)


def test_the_report_of_a_slow_consumer_has_right_counts() -> None:
    world, sub = shared(max_pending_msgs=2)
    world.feed(msg("s", 1, b"1234") * 2)
    sub.messages.popleft()
    world.feed(msg("s", 1, b"1") * 2)
    (slow,) = world.events_of(SlowConsumer)
    assert slow == SlowConsumer(subject="s", sid=1, pending_msgs=2, pending_bytes=5, dropped=1)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_dropping_the_queue_counts_what_was_taken_and_not_the_rest(taken: int) -> None:
    world, sub = shared()
    world.feed(msg("s", 1, b"12") * 3)
    for _ in range(taken):
        sub.messages.popleft()
    world.session.unsubscribe(sub)
    assert counts(sub) == (0, 0, taken)
    sub.count_taken()
    assert counts(sub) == (0, 0, taken)


def test_a_queue_that_is_not_shared_has_nothing_to_count() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"12") * 2)
    sub.count_taken()
    assert counts(sub) == (2, 4, 0)
    sub.discard()
    assert counts(sub) == (0, 0, 0)
