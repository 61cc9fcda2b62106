"""A maximum set while messages wait: how many are given in all, and that every message received is accounted for."""

from __future__ import annotations

from itertools import product

import pytest

from nats_proto import SubscriptionState
from tests.proto.driver import World, msg


def received(world: World, sizes: list[int], *, limit: int = 0) -> SubscriptionState:
    """A subscription that got one message of each size."""
    sub = world.session.subscribe("s", max_pending_msgs=limit)
    world.pump()
    world.feed(b"".join(msg("s", sub.sid, b"%d" % (n % 10) * size) for n, size in enumerate(sizes)))
    world.words()
    return sub


def adds_up(sub: SubscriptionState) -> bool:
    return sub.received == sub.delivered + sub.dropped + sub.discarded + sub.pending_msgs


@pytest.mark.parametrize(("taken", "maximum"), list(product(range(6), range(1, 6))))
def test_no_more_than_the_maximum_are_given_in_all(taken: int, maximum: int) -> None:
    world = World().ready()
    sub = received(world, [1, 1, 3, 3, 5])
    sub.take(taken)
    world.session.unsubscribe(sub, max_msgs=maximum)
    left = max(0, maximum - taken) if taken < 5 else 0
    assert (sub.closed, sub.pending_msgs, sub.delivered) == (True, min(left, 5 - taken), taken)
    assert sub.pending_bytes == sum(len(message.data) for message in sub.messages)
    assert [message.data[:1] for message in sub.take(5)] == [b"%d" % n for n in range(taken, max(taken, maximum))][:5]
    assert adds_up(sub)
    assert sub.finished


def test_what_was_dropped_before_counts_as_received_and_not_as_given() -> None:
    world = World().ready()
    sub = received(world, [1] * 5, limit=3)
    world.session.unsubscribe(sub, max_msgs=4)  # the server has sent five: no more come
    assert (sub.closed, sub.pending_msgs, sub.dropped, sub.discarded) == (True, 3, 2, 0)
    world.session.unsubscribe(sub, max_msgs=1)
    assert (sub.pending_msgs, sub.dropped, sub.discarded) == (1, 2, 2)
    assert adds_up(sub)


def test_messages_of_one_size_in_a_row_are_taken_from_the_end() -> None:
    world = World().ready()
    sub = received(world, [7] * 100)  # as one run
    sub.take(10)
    world.session.unsubscribe(sub, max_msgs=30)
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered, sub.discarded) == (20, 140, 10, 70)
    assert sub.messages[-1].data[:1] == b"9"
    sub.take(5)
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (15, 105, 15)
    assert adds_up(sub)


def test_a_refused_maximum_drops_nothing() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=9)
    world.pump()
    world.feed(msg("s", sub.sid, b"x") * 5)
    for wrong in (10, 0, -1):
        with pytest.raises(ValueError, match="max_msgs"):
            world.session.unsubscribe(sub, max_msgs=wrong)
    assert (sub.closed, sub.pending_msgs, sub.discarded) == (False, 5, 0)


def test_what_is_unread_at_the_end_is_accounted_for() -> None:
    world = World().ready()
    left, closed = received(world, [1] * 5), received(world, [1] * 5)
    left.take(2)
    world.session.unsubscribe(left)
    world.session.close(now=world.now)
    assert [(sub.delivered, sub.discarded, sub.pending_msgs) for sub in (left, closed)] == [(2, 3, 0), (0, 5, 0)]
    assert adds_up(left)
    assert adds_up(closed)
