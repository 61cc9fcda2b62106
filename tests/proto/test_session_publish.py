"""Publishing: what is written when, what a lost connection leaves over, limits, and misuse that changes nothing."""

from __future__ import annotations

import functools

import pytest

from nats_proto import Closed, FlushCompleted, PublishesDropped, Reconnected, RequestFailed
from nats_proto._session.outbox import CHUNK_SIZE, HIGH_WATER, LOW_WATER
from nats_proto._session.session import BATCH_SIZE
from nats_proto._wire.encoder import APART_ROOM
from nats_proto.errors import (
    HeadersNotSupportedError,
    LocalProtocolError,
    MaxPayloadError,
    OutboundBufferLimitError,
)
from tests.proto.driver import PONG, World, err, frames_of, info


def published(world: World) -> list[str]:
    return [word for word in world.words() if word.startswith("PUB")]


def test_publishes_leave_in_order_in_whole_operations() -> None:
    world = World().ready()
    world.session.publish("a", b"1")
    world.session.publish("b", b"22", reply="r", headers={"A": "1"})
    world.session.publish("c", b"x" * 100_000)
    pieces = world.session.data_to_send()
    frames = frames_of(b"".join(pieces))
    assert [(f.subject, f.reply, f.data, f.headers and f.headers["A"]) for f in frames] == [  # type: ignore[union-attr]
        ("a", None, b"1", None),
        ("b", "r", b"22", "1"),
        ("c", None, b"x" * 100_000, None),
    ]
    stats = world.session.stats
    assert (stats.out_msgs, stats.out_bytes) == (3, 100_003)
    assert world.session.pending_bytes == sum(map(len, pieces))


@pytest.mark.parametrize(
    ("data", "size"), [(b"12", 2), (bytearray(b"123"), 3), (memoryview(b"12345678").cast("I"), 8), (memoryview(b""), 0)]
)
def test_any_buffer_is_a_payload_and_its_bytes_count(data: bytes | bytearray | memoryview, size: int) -> None:
    world = World().ready()
    world.session.publish("a", data)
    world.pump()
    assert world.words() == [f"PUB a [{size}]"]
    assert world.session.stats.out_bytes == size


@pytest.mark.parametrize("state", ["new", "dialling", "handshake"])
def test_what_is_published_before_the_first_connection_waits(state: str) -> None:
    world = World(start=state != "new")
    if state == "handshake":
        world.accept()
    world.session.publish("a", b"1")
    world.session.publish("a", b"22")
    world.pump()
    if state == "new":
        world.session.connect(now=world.now)
        world.pump()
    if state != "handshake":
        world.accept()
    assert world.wire() == b""
    world.feed(info())
    assert world.words() == ["CONNECT", "PING"]
    world.feed(PONG)
    assert world.words() == ["PUB a [1]", "PUB a [2]"]
    assert world.session.pending_bytes == 0


# --- lost connections ------------------------------------------------------------------------------------------------


def lose(world: World, how: str) -> None:
    if how == "eof":
        world.eof()
    elif how == "reset":
        world.cut()
    elif how == "garbage":
        world.feed(b"garbage\r\n")
    else:
        world.session.reconnect(now=world.now)
        world.pump()


SIZES = [3, 0, 70_000, 11]
OPERATIONS = [b"PUB s%d %d\r\n%b\r\n" % (number, size, b"x" * size) for number, size in enumerate(SIZES)]
ENDS = [sum(map(len, OPERATIONS[: index + 1])) for index in range(len(OPERATIONS))]
POINTS = sorted(
    {0, *range(30), *(end + offset for end in ENDS for offset in (-2, -1, 0, 1)), 500, 69_000} - {ENDS[-1] + 1}
)


@pytest.mark.parametrize("how", ["eof", "reset", "garbage", "reconnect"])
def test_what_was_not_handed_over_whole_is_written_once_more_and_nothing_else(how: str) -> None:
    for point in POINTS:
        world = World().ready()
        world.room = point
        for number, size in enumerate(SIZES):
            world.session.publish(f"s{number}", b"x" * size)
        world.pump()
        handed_over = world.wire()
        assert len(handed_over) == point
        lose(world, how)
        world.room = None
        world.session.publish("later")
        world.up()
        left = [f"PUB s{number} [{size}]" for number, size in enumerate(SIZES) if ENDS[number] > point]
        assert world.words() == ["CONNECT", "PING", *left, "PUB later [0]"]
        assert world.session.pending_bytes == 0
        assert world.session.stats.out_msgs == len(SIZES) + 1


def test_bytes_a_writer_reports_late_are_not_written_again() -> None:
    world = World().ready()
    world.session.publish("a")
    world.session.publish("b")
    (piece,) = world.session.data_to_send()
    world.session.receive_eof(now=world.now)
    world.session.data_sent(len(piece) // 2 + 1)
    world.pump()
    world.up()
    assert world.words() == ["CONNECT", "PING", "PUB b [0]"]


@pytest.mark.parametrize("written", [0, 10])
def test_the_rest_of_a_failed_handshake_is_not_taken_for_publishes(written: int) -> None:
    world = World("nats://a, nats://b")
    world.room = written
    world.accept()
    world.feed(info())
    world.eof()
    world.room = None
    world.up()
    world.session.publish("a", b"once")
    world.pump()
    assert published(world) == ["PUB a [4]"]
    assert world.session.pending_bytes == 0
    world.cut()
    world.up()
    assert published(world) == []


def test_reporting_more_than_was_given_is_misuse() -> None:
    world = World().ready()
    world.session.publish("a")
    with pytest.raises(LocalProtocolError, match="1 bytes sent, but 0"):
        world.session.data_sent(1)
    assert world.session.pending_bytes == len(b"PUB a 0\r\n\r\n")


def test_a_batch_is_bounded() -> None:
    world = World().ready()
    for _ in range(1000):
        world.session.publish("a", b"x" * 1000)
    sizes = []
    while pieces := world.session.data_to_send():
        sizes.append(sum(map(len, pieces)))
    assert sum(sizes) == 1000 * (1000 + len(b"PUB a 1000\r\n\r\n"))
    assert max(sizes) < BATCH_SIZE + CHUNK_SIZE
    assert len(sizes) < 4


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_buffer_while_away_may_overshoot_once() -> None:
    world = World(pending_size=50).ready()
    world.cut()
    operation = len(b"PUB a 9\r\n123456789\r\n")
    for count in range(1, 4):
        world.session.publish("a", b"123456789")
        assert world.session.pending_bytes == count * operation
    with pytest.raises(OutboundBufferLimitError, match=r"60 bytes wait .* limit is 50 .* RECONNECTING"):
        world.session.publish("a", b"")
    with pytest.raises(OutboundBufferLimitError):
        world.session.request("a")
    assert world.session.stats.out_msgs == 3
    assert world.session.pending_requests == 0
    world.up()
    assert published(world) == ["PUB a [9]"] * 3
    world.session.publish("a")


def test_without_a_buffer_every_publish_while_away_raises() -> None:
    world = World(pending_size=0)
    with pytest.raises(OutboundBufferLimitError):
        world.session.publish("a")
    world.up()
    world.session.publish("a")
    world.pump()
    assert published(world) == ["PUB a [0]"]
    world.cut()
    with pytest.raises(OutboundBufferLimitError):
        world.session.publish("a")


def test_subscriptions_and_the_like_take_no_room_while_away() -> None:
    world = World(pending_size=10).ready()
    world.room = 0
    for _ in range(20):
        world.session.subscribe("s")
    world.session.flush()
    world.pump()
    world.cut()
    assert world.session.pending_bytes == 0
    world.session.publish("a")


def test_writable_turns_off_high_and_on_low() -> None:
    world = World(pending_size=100).ready()
    world.room = 0
    while world.session.writable:
        world.session.publish("a", b"x" * 10_000)
        world.pump()
    assert world.session.pending_bytes >= HIGH_WATER
    while not world.session.writable:
        assert world.session.pending_bytes > LOW_WATER
        world.room = 50_000
        world.pump()
    assert LOW_WATER - 50_000 < world.session.pending_bytes <= LOW_WATER
    world.session.publish("a")


@pytest.mark.parametrize("pending_size", [0, 2 * HIGH_WATER])
def test_who_does_not_wait_for_writable_is_stopped_by_the_larger_limit(pending_size: int) -> None:
    world = World(pending_size=pending_size).ready()
    world.room = 0
    publish = functools.partial(world.session.publish, "a", b"x" * 100_000)
    limit = max(pending_size, HIGH_WATER + (1 + APART_ROOM) * CHUNK_SIZE)
    while world.session.pending_bytes < limit:
        publish()
    with pytest.raises(OutboundBufferLimitError):
        publish()
    assert limit <= world.session.pending_bytes < limit + 200_000


@pytest.mark.parametrize("size", [10, 60_000])
def test_who_has_waited_for_writable_is_not_stopped_by_what_others_publish_meanwhile(size: int) -> None:
    """Other threads publish quickly without a lock, and so between the look and the publish."""
    world = World(pending_size=0).ready()
    session = world.session
    world.room = 0
    session.publish("a")
    while session.pending_bytes < HIGH_WATER - 1000:
        session.publish("a", b"x" * min(50_000, HIGH_WATER - 900 - session.pending_bytes))
    assert session.writable
    while session.publish_quickly("a", b"y" * size):
        pass
    session.publish("a", b"x", headers={"strict": "1"})
    assert not session.writable


def test_a_lost_connection_makes_it_writable_and_a_new_one_may_not() -> None:
    world = World().ready()
    world.room = 0
    while world.session.writable:
        world.session.publish("a", b"x" * 100_000)
    world.pump()
    world.cut()
    assert world.session.writable
    world.accept()
    assert world.session.writable
    world.shake()
    assert not world.session.writable
    world.room = None
    world.pump()
    assert world.session.writable


def test_headers_need_a_server_that_knows_them() -> None:
    world = World().ready(headers=False)
    with pytest.raises(HeadersNotSupportedError):
        world.session.publish("a", headers={"A": "1"})
    world.session.publish("a", headers={})
    world.pump()
    assert published(world) == ["PUB a [0]"]


def test_the_limit_of_the_server_is_that_of_its_last_info() -> None:
    world = World().ready(max_payload=10)
    world.session.publish("a", b"x" * 10)
    with pytest.raises(MaxPayloadError, match="11 bytes"):
        world.session.publish("a", b"x" * 11)
    world.feed(info(max_payload=11))
    world.session.publish("a", b"x" * 11)


def test_without_an_info_sizes_are_not_known() -> None:
    world = World()
    world.session.publish("a", b"x" * 2**20 + b"x")
    assert world.session.max_payload is None


# --- what the connected server would refuse --------------------------------------------------------------------------


def test_what_is_too_large_for_the_next_server_is_dropped_and_told() -> None:
    """The server would end the connection over it, and so would the one after that, for ever."""
    world = World("nats://a, nats://b").ready()
    world.cut()
    for size in (10, 101, 100, 70_000):
        world.session.publish(f"s{size}", b"x" * size)
    world.session.publish("h", b"x" * 90, headers={"A": "1"})
    world.up(max_payload=100)
    assert published(world) == ["PUB s10 [10]", "PUB s100 [100]"]
    up, dropped = world.events()[-2:]
    assert isinstance(up, Reconnected)
    assert isinstance(dropped, PublishesDropped)
    assert isinstance(dropped.error, MaxPayloadError)
    assert str(dropped.error) == (
        "publish to 's101': headers and payload are 101 bytes, the connected server takes 100 (max_payload)"
    )
    sizes = (
        len("PUB s101 101\r\n\r\n"),
        len("PUB s70000 70000\r\n\r\n"),
        len("HPUB h 19 109\r\nNATS/1.0\r\nA: 1\r\n\r\n\r\n"),
    )
    assert (dropped.dropped_msgs, dropped.dropped_bytes) == (3, sum(sizes) + 101 + 70_000 + 90)
    assert world.session.pending_bytes == 0
    assert (world.session.stats.dropped_publishes, world.session.stats.out_msgs) == (3, 5)
    world.cut()
    world.up()
    assert published(world) == []


def test_what_was_published_before_the_first_connection_may_be_too_large() -> None:
    world = World()
    world.session.publish("a", b"x" * 11)
    world.session.publish("a", b"x" * 10)
    world.up(max_payload=10)
    assert published(world) == ["PUB a [10]"]
    assert [type(event).__name__ for event in world.events()] == ["Connected", "PublishesDropped"]


def test_headers_are_dropped_when_the_next_server_knows_none() -> None:
    world = World().ready()
    world.cut()
    world.session.publish("a", b"1", headers={"A": "1"})
    world.session.publish("b", b"22")
    world.up(headers=False)
    assert published(world) == ["PUB b [2]"]
    (dropped,) = world.events_of(PublishesDropped)
    assert isinstance(dropped.error, HeadersNotSupportedError)
    assert str(dropped.error) == "publish to 'a': it has headers, the connected server does not support them"


def test_a_request_that_is_dropped_fails() -> None:
    world = World().ready()
    world.cut()
    small, large = world.session.request("a", b"x"), world.session.request("b", b"x" * 11, headers={"A": "1"})
    world.session.publish("c", b"x" * 11, reply="elsewhere")
    world.up(max_payload=10)
    (failed,) = world.events_of(RequestFailed)
    assert failed.token == large
    assert isinstance(failed.error, MaxPayloadError)
    assert "'b'" in str(failed.error)
    assert world.session.pending_requests == 1
    world.session.cancel_request(small)
    assert world.session.stats.dropped_publishes == 2


def test_a_server_that_has_not_accepted_us_makes_us_drop_nothing() -> None:
    world = World("nats://a, nats://b").ready()
    world.cut()
    world.session.publish("a", b"x" * 100)
    world.accept()
    world.feed(info(max_payload=1))
    world.feed(err("Authorization Violation"))
    world.up()
    assert published(world) == ["PUB a [100]"]
    assert world.session.stats.dropped_publishes == 0


def test_a_limit_that_shrinks_is_that_of_what_waits() -> None:
    """As a server says it that has looked up the account: right behind the PONG of the handshake."""
    world = World().ready()
    world.room = 0
    world.session.publish("before", b"x" * 11)  # in flight: nobody can take it back
    world.pump()
    world.session.publish("a", b"x" * 11)
    flush = world.session.flush()
    world.session.publish("a", b"x" * 10)
    world.feed(info(max_payload=10))
    (dropped,) = world.events_of(PublishesDropped)
    assert (dropped.dropped_msgs, dropped.dropped_bytes) == (1, len("PUB a 11\r\n\r\n") + 11)
    world.room = None
    world.pump()
    assert world.words() == ["PUB before [11]", "PING", "PUB a [10]"]
    assert world.session.pending_bytes == 0
    world.feed(PONG)
    assert [event.token for event in world.events_of(FlushCompleted)] == [flush]


@pytest.mark.parametrize("late", ["nothing", "a few bytes", "a", "nearly b"])
@pytest.mark.parametrize("payload", [70, 70_000])
def test_what_was_refused_while_it_was_written_is_not_written_again(payload: int, late: str) -> None:
    world = World().ready()
    world.session.publish("a", b"x" * payload)
    world.session.publish("b", b"x" * 10)
    written = sum(map(len, world.session.data_to_send()))
    world.session.data_sent(5)
    world.session.receive_data(info(max_payload=10) + err("Maximum Payload Violation"), now=world.now)
    size = len(f"PUB a {payload}\r\n\r\n") + payload
    events = world.session.events_received()
    assert [type(event).__name__ for event in events] == [
        "ServerErrorReceived",
        "PublishesDropped",
        "Disconnected",
        "Reconnecting",
    ]
    assert isinstance(events[1], PublishesDropped)
    assert (events[1].dropped_msgs, events[1].dropped_bytes) == (1, size)
    left = written - size
    assert world.session.pending_bytes == left
    # what the writer had handed over meanwhile
    late_bytes = {"nothing": 0, "a few bytes": 5, "a": size - 5, "nearly b": size - 5 + left - 1}[late]
    world.session.data_sent(late_bytes)
    assert world.session.pending_bytes == left
    world.pump()
    world.up(max_payload=10)
    assert published(world) == ["PUB b [10]"]
    assert world.session.stats.dropped_publishes == 1


def test_headers_may_be_refused_all_at_once() -> None:
    world = World().ready()
    world.session.publish("a", headers={"A": "1"})
    world.session.publish("b")
    world.session.receive_data(info(headers=False), now=world.now)
    world.pump()
    assert published(world) == ["PUB b [0]"]
    with pytest.raises(LocalProtocolError, match="1 bytes sent, but 0"):
        world.session.data_sent(1)


def test_what_stays_when_the_limit_shrinks_is_counted_right() -> None:
    world = World().ready()
    for size in (5, 11, 6, 7):
        world.session.publish("a", b"x" * size)
    world.session.receive_data(info(max_payload=10), now=world.now)
    operation = len("PUB a 5\r\n\r\n") + 5
    world.room = operation + 3
    world.pump()
    world.cut()
    world.room = None
    assert world.session.pending_bytes == 2 * operation + 1 + 2
    world.up()
    assert published(world) == ["PUB a [6]", "PUB a [7]"]


def test_a_limit_that_shrinks_makes_it_writable() -> None:
    world = World().ready()
    while world.session.writable:
        world.session.publish("a", b"x" * 100_000)
    world.session.receive_data(info(max_payload=10), now=world.now)
    assert world.session.writable
    assert world.session.pending_bytes == 0
    assert world.session.data_to_send() == []


def test_what_was_dropped_is_not_unsent_at_the_end() -> None:
    world = World().ready()
    world.room = 0
    world.session.publish("a", b"x")
    world.pump()
    world.session.publish("b", b"x" * 11)
    world.session.close(now=world.now)
    world.feed(info(max_payload=10))
    world.wait(1.0)
    dropped, *_, closed = world.events()
    assert isinstance(dropped, PublishesDropped)
    assert isinstance(closed, Closed)
    assert (dropped.dropped_msgs, closed.unsent_msgs) == (1, 1)
