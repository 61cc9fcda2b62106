"""Subscriptions: maxima across reconnects, limits and slow consumers, refusals, and messages for nobody."""

from __future__ import annotations

import pytest

from nats_proto import MessagesAvailable, ServerErrorReceived, SlowConsumer, SubscriptionClosed, SubscriptionStatus
from nats_proto.errors import PermissionsError, SubscriptionClosedError
from tests.proto.driver import PONG, World, err, msg


def fed(world: World, sid: int, count: int, size: int = 1, first: int = 0) -> None:
    """One chunk of numbered messages for a subscription."""
    world.feed(b"".join(msg("s", sid, b"%d" % number * size) for number in range(first, first + count)))


# --- the maximum -----------------------------------------------------------------------------------------------------


def test_a_maximum_given_at_once() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=3)
    world.pump()
    assert world.words() == ["SUB s 1", "UNSUB 1 3"]
    fed(world, 1, 5)
    assert world.events() == [MessagesAvailable((1,)), SubscriptionClosed(1, None)]
    assert world.session.stats.dropped_unknown_sid == 2
    assert [message.data for message in sub.take(10)] == [b"0", b"1", b"2"]
    assert isinstance(sub.ending(iterating=True), SubscriptionClosedError)
    world.pump()
    assert world.words() == []


@pytest.mark.parametrize("received", range(4))
def test_a_maximum_given_later_counts_from_the_beginning(received: int) -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    fed(world, 1, received)
    world.words()
    world.session.unsubscribe(sub, max_msgs=3)
    world.pump()
    if received == 3:
        assert world.words() == ["UNSUB 1"]
    else:
        assert world.words() == ["UNSUB 1 3"]
        assert not sub.closed
        fed(world, 1, 3 - received, first=received)
    assert sub.closed
    assert sub.pending_msgs == 3


@pytest.mark.parametrize("before", range(1, 4))
@pytest.mark.parametrize("given", ["at once", "later", "after the reconnect"])
def test_the_server_counts_again_after_a_reconnect(before: int, given: str) -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=8 if given == "at once" else None)
    if given == "later":
        world.session.unsubscribe(sub, max_msgs=8)
    world.pump()
    fed(world, 1, before)
    world.cut()
    world.up()
    if given == "after the reconnect":
        world.session.unsubscribe(sub, max_msgs=8)
        world.pump()
    assert world.words()[2:] == ["SUB s 1", f"UNSUB 1 {8 - before}"]
    fed(world, 1, 1, first=before)
    world.session.unsubscribe(sub, max_msgs=4 + before)  # in all: the server counts what came on this connection
    world.pump()
    assert world.words() == ["UNSUB 1 4"]
    fed(world, 1, 3, first=before + 1)
    assert sub.closed
    assert [message.data for message in sub.take(99)] == [b"%d" % number for number in range(4 + before)]


def test_a_maximum_reached_is_not_restored() -> None:
    world = World().ready()
    world.session.subscribe("s", max_msgs=1)
    world.pump()
    fed(world, 1, 1)
    world.cut()
    world.up()
    assert world.words() == ["CONNECT", "PING"]


def test_dropped_messages_count_for_the_maximum() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=4, max_pending_msgs=2)
    world.pump()
    fed(world, 1, 3)
    world.cut()
    world.up()
    assert world.words()[2:] == ["SUB s 1", "UNSUB 1 1"]
    fed(world, 1, 1)
    assert sub.closed
    assert (sub.received, sub.dropped, sub.pending_msgs) == (4, 2, 2)


# --- unsubscribe -----------------------------------------------------------------------------------------------------


def test_unsubscribing_drops_the_queue() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    fed(world, 1, 3)
    world.events()
    world.session.unsubscribe(sub)
    world.pump()
    assert world.words() == ["SUB s 1", "UNSUB 1"]
    assert world.events() == [SubscriptionClosed(1, None)]
    assert (sub.pending_msgs, sub.pending_bytes) == (0, 0)
    assert sub.status is SubscriptionStatus.CLOSED
    world.feed(msg("s", 1, b"late"))  # H39
    assert world.events() == []
    assert world.session.stats.dropped_unknown_sid == 1


@pytest.mark.parametrize("max_msgs", [None, 1, 100])
def test_unsubscribing_from_what_has_ended_only_drops_its_queue(max_msgs: int | None) -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=2)
    world.pump()
    fed(world, 1, 2)
    world.wire()
    world.events()
    world.session.unsubscribe(sub, max_msgs=max_msgs)
    world.pump()
    assert world.words() == []
    assert world.events() == []
    assert sub.pending_msgs == {None: 0, 1: 1, 100: 2}[max_msgs]


def test_unsubscribing_while_away_leaves_nothing_to_restore() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.cut()
    world.session.unsubscribe(sub)
    world.session.unsubscribe(world.session.subscribe("t"))
    limited = world.session.subscribe("u")
    world.session.unsubscribe(limited, max_msgs=2)
    world.up()
    assert world.words() == ["CONNECT", "PING", f"SUB u {limited.sid}", f"UNSUB {limited.sid} 2"]


def test_unsubscribing_from_what_drains_sends_no_second_unsub() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.session.drain_subscription(sub, now=world.now)
    world.session.unsubscribe(sub)
    world.pump()
    assert world.words() == ["SUB s 1", "UNSUB 1", "PING"]
    world.feed(PONG)
    assert world.events() == [SubscriptionClosed(1, None)]


def test_sids_are_never_used_again() -> None:
    world = World().ready()
    sids = []
    for _ in range(3):
        sub = world.session.subscribe("s")
        sids.append(sub.sid)
        world.session.unsubscribe(sub)
        world.cut()
        world.up()
    assert sids == [1, 2, 3]


# --- messages for nobody, and odd ones -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 100_000])
def test_messages_for_a_sid_never_given_out(count: int) -> None:  # H37, H38
    world = World().ready()
    world.feed(msg("s", 999, b"x") * count)
    assert world.events() == []
    stats = world.session.stats
    assert (stats.in_msgs, stats.in_bytes, stats.dropped_unknown_sid) == (count, count, count)


def test_the_server_is_trusted_with_the_routing() -> None:  # H40
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(msg("something.else", 1, b"x"))
    message = sub.pop()
    assert message is not None
    assert message.subject == "something.else"


def test_reading_in_order_by_one_or_many() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    assert sub.pop() is None
    assert sub.take(3) == []
    fed(world, 1, 6)
    first = sub.pop()
    assert first is not None
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (5, 5, 1)
    sub.put_back(first)
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (6, 6, 0)
    assert [message.data for message in sub.take(2)] == [b"0", b"1"]
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (4, 4, 2)
    assert [message.data for message in sub.take(4)] == [b"2", b"3", b"4", b"5"]
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (0, 0, 6)
    assert sub.ending(iterating=True) is None
    assert repr(sub) == "<SubscriptionState sid=1 subject='s' ACTIVE>"


def test_one_announcement_for_a_chunk() -> None:
    world = World().ready()
    for _ in range(3):
        world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 2) * 10 + msg("s", 1) * 10 + msg("s", 2))
    assert world.events() == [MessagesAvailable((2, 1))]
    world.feed(msg("s", 2))
    assert world.events() == [MessagesAvailable((2,))]


# --- slow consumers --------------------------------------------------------------------------------------------------


def test_the_limit_in_messages() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_pending_msgs=3, max_pending_bytes=0)
    world.pump()
    fed(world, 1, 10)
    slow, available = sorted(world.events(), key=lambda event: type(event).__name__, reverse=True)
    assert slow == SlowConsumer(subject="s", sid=1, pending_msgs=3, pending_bytes=3, dropped=1)
    assert available == MessagesAvailable((1,))
    assert (sub.pending_msgs, sub.dropped) == (3, 7)
    assert world.session.stats.dropped_msgs == 7
    assert [message.data for message in sub.take(9)] == [b"0", b"1", b"2"]


def test_the_limit_in_bytes_counts_headers_too() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_pending_msgs=0, max_pending_bytes=50)
    world.pump()
    block = b"NATS/1.0\r\nA: 1\r\n\r\n"  # 18 bytes
    world.feed(msg("s", 1, b"x" * 7, header_block=block) * 2)
    assert (sub.pending_msgs, sub.pending_bytes, sub.dropped) == (2, 50, 0)
    world.feed(msg("s", 1, b"x"))
    assert sub.dropped == 1
    sub.pop()
    assert sub.pending_bytes == 25
    world.feed(msg("s", 1, b"x" * 26))
    assert sub.dropped == 2
    world.feed(msg("s", 1, b"x" * 25))
    assert (sub.dropped, sub.pending_bytes) == (2, 50)


def test_an_episode_is_told_once_and_ends_with_a_message_taken() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_pending_msgs=2)
    world.pump()
    fed(world, 1, 5)
    fed(world, 1, 5)
    assert [event.dropped for event in world.events_of(SlowConsumer)] == [1]
    assert sub.slow
    sub.take(1)
    fed(world, 1, 1)
    assert not sub.slow
    assert world.events_of(SlowConsumer) == []
    fed(world, 1, 3)
    assert [event.dropped for event in world.events_of(SlowConsumer)] == [9]


def test_no_limit() -> None:
    world = World(max_pending_msgs=1, max_pending_bytes=1).ready()
    sub = world.session.subscribe("s", max_pending_msgs=0, max_pending_bytes=0)
    world.pump()
    fed(world, 1, 5000, size=100)
    assert (sub.pending_msgs, sub.dropped) == (5000, 0)


def test_limits_default_to_the_options() -> None:
    session = World(max_pending_msgs=7, max_pending_bytes=9).session
    sub = session.subscribe("s")
    assert (sub.max_pending_msgs, sub.max_pending_bytes) == (7, 9)


def test_a_slow_subscription_holds_up_no_other() -> None:
    world = World().ready()
    slow = world.session.subscribe("s", max_pending_msgs=1)
    quick = world.session.subscribe("s")
    world.pump()
    world.feed((msg("s", slow.sid) + msg("s", quick.sid)) * 100)
    assert (slow.pending_msgs, quick.pending_msgs) == (1, 100)


def test_a_million_messages_for_a_subscription_nobody_reads() -> None:  # H63, in small
    world = World(max_pending_msgs=1000).ready()
    sub = world.session.subscribe("s")
    world.pump()
    for _ in range(20):
        world.feed(msg("s", 1) * 1000)
    assert (sub.pending_msgs, sub.dropped) == (1000, 19_000)
    assert len(world.events_of(SlowConsumer)) == 1


def test_dropping_and_ending_at_once_tells_the_end() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=2, max_pending_msgs=1)
    world.pump()
    fed(world, 1, 2)
    assert world.events() == [MessagesAvailable((1,)), SubscriptionClosed(1, None)]
    assert (sub.dropped, sub.pending_msgs) == (1, 1)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_refusal_concerns_those_with_the_same_subject_and_queue() -> None:
    world = World().ready()
    session = world.session
    denied = [session.subscribe("a.b"), session.subscribe("a.b")]
    spared = [session.subscribe("a.c"), session.subscribe("a.b", queue="q")]
    world.pump()
    world.feed(err('Permissions Violation for Subscription to "a.b"'))
    report, woken = world.events()
    assert isinstance(report, ServerErrorReceived)
    assert woken == MessagesAvailable(tuple(sub.sid for sub in denied))
    for sub in denied:
        for iterating in (True, False):
            assert isinstance(sub.ending(iterating=iterating), PermissionsError)
        assert not sub.closed
    assert [sub.ending(iterating=False) for sub in spared] == [None, None]
    world.feed(err('Permissions Violation for Subscription to "a.b" using queue "q"'))
    assert isinstance(spared[1].ending(iterating=False), PermissionsError)
    assert spared[0].denied is None


def test_a_refusal_is_forgotten_by_the_next_connection() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(err('Permissions Violation for Subscription to "s"'))
    world.cut()
    assert isinstance(sub.ending(iterating=False), PermissionsError)
    world.up()
    assert world.words()[-1] == "SUB s 1"
    assert sub.ending(iterating=False) is None


def test_what_was_queued_before_a_refusal_can_still_be_read() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"x") + err('Permissions Violation for Subscription to "s" (sid "1")'))
    assert sub.pop() is not None
    assert isinstance(sub.ending(iterating=False), PermissionsError)


def test_a_refusal_with_a_number_concerns_that_subscription_alone() -> None:
    world = World().ready()
    subs = [world.session.subscribe("s", queue=queue) for queue in (None, "q", None)]
    world.feed(err('Permissions Violation for Subscription to "s" (sid "2")'))
    assert [isinstance(sub.ending(iterating=False), PermissionsError) for sub in subs] == [False, True, False]
    world.feed(err('Permissions Violation for Subscription to "other" (sid "1")'))
    assert subs[0].ending(iterating=False) is None


def test_how_much_to_receive_follows_what_comes() -> None:
    world = World().ready()
    kib = 1024

    def receive(*chunks: int) -> list[int]:
        sizes: list[int] = []
        for nbytes in chunks:
            world.session.receive_data(b"+OK\r\n".ljust(nbytes, b" ")[:nbytes], now=world.now)
            sizes.append(world.session.receive_size // kib)
        return sizes

    small, large = 64 * kib - 1, 64 * kib
    assert receive(1, small, large, 256 * kib, large) == [64, 64, 256, 256, 256]
    # A burst whose rest is small is followed by another one, most likely.
    assert receive(*[small, 100] * 7, 1) == [256] * 15
    assert receive(large, *[1] * 15) == [256] * 16
    assert receive(1) == [64]
    assert receive(1, large, *[1] * 15, 1) == [64, *[256] * 16, 64]


@pytest.mark.parametrize(
    ("size", "sizes"), [(10, [256, 256, 256]), (30 * 1024, [256, 256, 256]), (128 * 1024, [256, 1024, 1024])]
)
def test_more_is_received_at_once_when_the_messages_are_large(size: int, sizes: list[int]) -> None:
    world = World().ready()
    sub = world.session.subscribe("a")
    stream = msg("a", 1, bytes(size)) * (3 * 2**20 // size)
    found: list[int] = []
    for _ in sizes:
        here = world.session.receive_size
        world.session.receive_data(stream[:here], now=world.now)
        stream = stream[here:]
        found.append(world.session.receive_size // 1024)
    assert found == sizes
    assert sub.pending_msgs > 0
    rest = stream[: len(msg("a", 1, bytes(size)))]
    for _ in range(16):  # little comes: it is as it was at the beginning
        world.session.receive_data(rest[:1], now=world.now)
        rest = rest[1:]
    assert world.session.receive_size == 64 * 1024


def test_a_flood_of_small_messages_behind_large_ones_is_taken_in_small_parts() -> None:
    world = World().ready()
    world.session.subscribe("a", max_pending_msgs=0)
    large, small = msg("a", 1, bytes(128 * 1024)), msg("a", 1, b"x")
    stream = large * 16 + small * 200_000
    sizes: list[int] = []
    while len(stream) >= world.session.receive_size:
        here = world.session.receive_size
        world.session.receive_data(stream[:here], now=world.now)
        stream = stream[here:]
        sizes.append(here // 1024)
    assert sizes[:5] == [64, 256, 1024, 1024, 1024]
    assert set(sizes[5:]) == {256}, "small ones have come meanwhile"
