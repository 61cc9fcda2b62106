"""What a session tells: order and number of events, bounds on what a server can make it tell, no private subjects."""

from __future__ import annotations

import pytest

from nats_proto import (
    Connected,
    ContentErrorReceived,
    Disconnected,
    Reconnected,
    ServerErrorReceived,
    StatsSnapshot,
)
from nats_proto._session.event_queue import MAX_REPORTS
from nats_proto.errors import HeaderError, MaxSubscriptionsError, RemoteProtocolError
from tests.proto.driver import PONG, World, err, frames_of, info, msg


def names(world: World) -> list[str]:
    return [type(event).__name__ for event in world.events()]


def test_a_life_in_events() -> None:
    world = World("nats://a, nats://b", fail_requests_on_disconnect=True)
    world.up()
    world.session.subscribe("s")
    world.session.request("r")
    world.session.flush()
    world.pump()
    world.feed(msg("s", 1, b"x") + err("Invalid Subject") + PONG + info(connect_urls=["c:1"]))
    world.cut()
    world.refuse()
    world.up(connect_urls=["c:1", "d:1"])
    world.session.close(now=world.now)
    world.pump()
    assert names(world) == [
        "Connected",
        "MessagesAvailable",
        "ServerErrorReceived",
        "FlushCompleted",
        "ServersDiscovered",
        "RequestFailed",
        "Disconnected",
        "Reconnecting",
        "Reconnecting",
        "Reconnected",
        "ServersDiscovered",
        "SubscriptionClosed",
        "Disconnected",
        "Closed",
    ]


def test_up_and_down_take_turns() -> None:
    world = World("nats://a, nats://b").up()
    for _ in range(5):
        world.cut()
        world.refuse()
        world.up()
    told = [event for event in world.events() if isinstance(event, (Connected, Disconnected, Reconnected))]
    kinds = [type(event) for event in told]
    assert kinds == [Connected] + [Disconnected, Reconnected] * 5


def test_equal_reports_are_one_with_a_count() -> None:  # H59
    world = World().ready()
    world.feed(err('Permissions Violation for Publish to "a"') * 50_000)
    (report,) = world.events()
    assert isinstance(report, ServerErrorReceived)
    assert report.count == 50_000


def test_different_reports_are_bounded() -> None:  # H59
    world = World().ready()
    world.feed(b"".join(err(f"text {number}") for number in range(5000)))
    reports = world.events_of(ServerErrorReceived)
    assert len(reports) == MAX_REPORTS
    assert sum(report.count for report in reports) == 5000
    world.feed(err("text 1"))
    assert [report.count for report in world.events_of(ServerErrorReceived)] == [1]


def test_a_damaged_info_later_on_is_reported_and_the_last_good_one_stands() -> None:  # H20
    world = World().ready()
    for damaged in (b"INFO {]\r\n", b"INFO null\r\n", b'INFO {"max_payload":"a"}\r\n', b"INFO [1]\r\n"):
        world.feed(damaged)
        (report,) = world.events()
        assert isinstance(report, ContentErrorReceived)
        assert isinstance(report.error, RemoteProtocolError)
    assert world.session.max_payload == 1048576
    assert world.session.connected_url is not None


BAD_BLOCKS = [b"NATS/2.0\r\n\r\n", b"HTTP/1.1 200\r\n\r\n", b"NATS/1.0x\r\n\r\n", b"NATS/1.0\r\nA: 1"]


@pytest.mark.parametrize("block", BAD_BLOCKS)
def test_a_bad_header_block_is_reported_once_for_all(block: bytes) -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    raw = b"HMSG s 1 %d %d\r\n%b\r\n" % (len(block), len(block), block)
    world.feed(raw * 3)
    (report,) = world.events_of(ContentErrorReceived)
    assert isinstance(report.error, HeaderError)
    assert report.count == 3
    messages = sub.take(9)
    assert len(messages) == 3
    assert messages[0].header_error is not None


def test_no_report_names_an_inbox() -> None:
    world = World().ready()
    world.session.request("r")
    world.pump()
    reply = frames_of(world.wire())[1].reply  # type: ignore[union-attr]
    block = BAD_BLOCKS[0]
    world.feed(b"HMSG %b 1 %d %d\r\n%b\r\n" % (reply.encode(), len(block), len(block), block))
    (report,) = world.events_of(ContentErrorReceived)
    assert "_INBOX" not in str(report.error)
    assert "sid 1" in str(report.error)


def test_a_report_is_no_longer_than_a_line() -> None:
    world = World().ready()
    block = BAD_BLOCKS[0]
    world.feed(b"HMSG %b 1 %d %d\r\n%b\r\n" % (b"x" * 30_000, len(block), len(block), block))
    world.feed(b"INFO " + b"[" * 5000 + b"\r\n")
    reports = world.events_of(ContentErrorReceived)
    assert len(reports) == 2
    for report in reports:
        assert len(str(report.error)) < 600


def test_a_refused_subscription_too_many_keeps_the_connection() -> None:
    world = World().ready()
    world.feed(err("maximum subscriptions exceeded"))
    (report,) = world.events()
    assert isinstance(report, ServerErrorReceived)
    assert isinstance(report.error, MaxSubscriptionsError)
    assert world.session.connected_url is not None
    assert world.session.last_error is None


def test_statistics_begin_with_nothing_and_are_values() -> None:
    session = World().session
    before = session.stats
    assert before == StatsSnapshot()
    session.publish("a", b"12")
    assert before == StatsSnapshot()
    assert session.stats == StatsSnapshot(out_msgs=1, out_bytes=2)


def test_statistics_of_messages_count_payloads() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_pending_msgs=2)
    world.pump()
    block = b"NATS/1.0\r\nA: 1\r\n\r\n"
    world.feed(msg("s", 1, b"12", header_block=block) + msg("s", 1, b"345") * 2 + msg("x", 77, b"6"))
    stats = world.session.stats
    assert (stats.in_msgs, stats.in_bytes) == (4, 9)
    assert (stats.dropped_msgs, stats.dropped_unknown_sid, stats.dropped_replies) == (1, 1, 0)
    assert sub.pending_bytes == 2 + len(block) + 3
