"""What a server lets through and what it takes: header blocks of any bytes and size, payloads, long lines."""

from __future__ import annotations

from typing import Any

import pytest

from nats_proto import (
    ConnectionState,
    ContentErrorReceived,
    Message,
    MessagesAvailable,
    PublishesDropped,
    SessionStatus,
)
from nats_proto._connection.connection import LONG_LINE, LONGER_LINES
from nats_proto._layers.websocket import MESSAGE, MIN_LIMIT
from nats_proto._wire.info import LARGEST_SIZE
from nats_proto.errors import HeaderError, MaxControlLineError, MaxPayloadError, RemoteProtocolError
from tests.proto.driver import PING, PONG, Wire, World, info, msg
from tests.proto.websocket_peer import AGREED, accept, frame, frames, inflate

KiB = 1024
MiB = 1024 * KiB

ANY_BLOCKS = [
    b"",
    b"x",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b"NATS/1.0",
    b"NATS/1.0\r\n",
    b"NATS/1.0\r\n\r",
    b"PING\r\nPING",
    b"12345678901",
    b"123456789012",
    b"\0" * 12,
    b"\xff\xfe" * 50,
    b"HTTP/1.1 200\r\n\r\n",
]


# --- header blocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_a_time", [1, None], ids=["byte by byte", "whole"])
@pytest.mark.parametrize("block", ANY_BLOCKS, ids=repr)
def test_a_header_block_of_any_bytes_costs_neither_message_nor_connection(block: bytes, at_a_time: int | None) -> None:
    stream = b"HMSG s 1 %d %d\r\n%bhello\r\n" % (len(block), len(block) + 5, block) + PING
    wire = Wire()
    wire.open()
    message, report = wire.feed(stream, at_a_time=at_a_time)
    assert isinstance(message, Message)
    assert (message.data, message.header_block) == (b"hello", block)
    assert message.headers is not None
    assert len(message.headers) == 0
    assert isinstance(message.header_error, HeaderError)
    assert message.status is None
    assert isinstance(report, ContentErrorReceived)
    assert wire.connection.state is ConnectionState.OPEN
    assert wire.written() == b"PONG\r\n"


def test_many_messages_with_such_blocks_are_all_delivered() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.feed(b"".join(msg("s", 1, b"%d" % n, header_block=b"x" * n) for n in range(40)))
    assert [sub.pop().data for _ in range(40)] == [b"%d" % n for n in range(40)]  # type: ignore[union-attr]
    assert world.session.status is SessionStatus.CONNECTED


@pytest.mark.parametrize("size", [0, 1, 11])
def test_each_of_many_with_an_odd_block_is_reported(size: int) -> None:
    wire = Wire()
    wire.open()
    events = wire.feed(b"HMSG s 1 %d %d\r\n%bx\r\n" % (size, size + 1, b"?" * size) * 8)
    assert [type(event) for event in events] == [Message, ContentErrorReceived] * 8


@pytest.mark.parametrize("size", [2 * MiB + 1, 5 * MiB])
@pytest.mark.parametrize("at_a_time", [64 * KiB, None])
def test_a_header_block_may_be_as_large_as_the_whole_message(size: int, at_a_time: int | None) -> None:
    block = b"NATS/1.0\r\nL: " + b"x" * (size - 17) + b"\r\n\r\n"
    wire = Wire()
    wire.open(max_payload=8 * MiB)
    (message,) = wire.feed(msg("s", 1, b"hi", header_block=block), at_a_time=at_a_time)
    assert isinstance(message, Message)
    assert (message.header_block, message.header_error) == (block, None)


def test_the_option_bounds_headers_too() -> None:
    wire = Wire(max_message_size=100)
    wire.open()
    (message,) = wire.feed(msg("s", 1, b"", header_block=b"x" * 100))[:1]
    assert isinstance(message, Message)
    (ended,) = wire.feed(b"HMSG s 1 101 101\r\n")
    assert "the limit is 100" in str(ended.error)  # type: ignore[union-attr]


# --- max_payload -----------------------------------------------------------------------------------------------------


def test_a_server_without_a_limit_for_payloads() -> None:
    world = World().ready(max_payload=-1)
    session = world.session
    assert session.max_payload == LARGEST_SIZE == 999_999_999
    assert session.server_info is not None
    assert session.server_info.max_payload == -1
    session.publish("a", b"x" * 2 * MiB)
    session.publish("a", b"x" * 2 * MiB, headers={"A": "1"})
    world.pump()
    assert world.words() == [f"PUB a [{2 * MiB}]"] * 2


@pytest.mark.parametrize("said", [-1, 10**9, 2**40])
def test_no_publish_is_larger_than_its_size_can_be_written(said: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nats_proto._wire.info.LARGEST_SIZE", 1000)  # nobody wants to make a gigabyte
    world = World().ready(max_payload=said)
    world.session.publish("a", b"x" * 1000)
    for headers in (None, {"A": "1"}):
        with pytest.raises(MaxPayloadError, match="takes 1000"):
            world.session.publish("a", b"x" * 1001, headers=headers)
    assert world.session.max_payload == 1000


def test_an_account_that_allows_empty_messages_only() -> None:
    world = World().ready()
    world.feed(info(max_payload=0))
    assert world.session.max_payload == 0
    world.session.publish("a")
    with pytest.raises(MaxPayloadError, match="1 bytes, the server takes 0"):
        world.session.publish("a", b"x")
    world.pump()
    assert world.words() == ["PUB a [0]"]


def test_a_limit_that_refuses_everything_is_no_limit() -> None:
    wire = Wire()
    (ended,) = wire.feed(info(max_payload=-5))
    assert isinstance(ended.error, RemoteProtocolError)  # type: ignore[union-attr]
    world = World().ready()
    world.feed(info(max_payload=-5))
    (report,) = world.events_of(ContentErrorReceived)
    assert "max_payload must be 0 or more, or -1 for no limit, not -5" in str(report.error)
    assert (world.session.max_payload, world.session.status) == (1048576, SessionStatus.CONNECTED)


def test_a_limit_after_none_is_less() -> None:
    world = World().ready(max_payload=-1)
    world.room = 0
    world.session.publish("a", b"x" * 101)
    world.session.publish("a", b"x" * 100)
    world.feed(info(max_payload=100))
    (dropped,) = world.events_of(PublishesDropped)
    assert dropped.dropped_msgs == 1
    world.feed(info(max_payload=-1))
    world.session.publish("a", b"x" * 101)


@pytest.mark.parametrize(
    ("said", "largest"),
    [(-1, MESSAGE), (MIN_LIMIT, MIN_LIMIT), (MIN_LIMIT - 1, MESSAGE), (0, MESSAGE), (2**40, MESSAGE)],
)
def test_what_goes_through_a_websocket_follows_every_info(said: int, largest: int) -> None:
    """One that comes behind CONNECT has the limit of the account."""
    wire = Wire(url="ws://a", websocket_compression=True)
    wire.feed(accept(wire.written(), AGREED) + frame(info(max_payload=5000)))
    wire.written()
    wire.feed(frame(PONG + info(max_payload=said)))
    assert wire.connection.info is not None
    assert wire.connection.info.max_payload == said
    data = bytes(2 * MESSAGE)
    sent = frames(wire.connection.wrap([data]))
    compressed = sent[0][0] == 0xC2
    payloads = [inflate(payload) if compressed else payload for _, payload in sent]
    assert b"".join(payloads) == data
    assert max(map(len, payloads)) == largest
    assert compressed is (said not in range(MIN_LIMIT))


# --- max_control_line ------------------------------------------------------------------------------------------------


def calls(session: Any, subject: str) -> list[Any]:
    return [
        lambda: session.publish(subject, b"x"),
        lambda: session.publish("a", b"x", reply=subject),
        lambda: session.publish(subject, b"x", headers={"A": "1"}),
        lambda: session.publish_many(subject, (b"x",)),
        lambda: session.request(subject, b"x"),
        lambda: session.subscribe(subject),
        lambda: session.subscribe("a", queue=subject),
    ]


@pytest.mark.parametrize("option", [{}, {"max_control_line": 4096}, {"max_control_line": 65536}], ids=str)
def test_lines_may_be_as_long_as_the_option_says(option: dict[str, int]) -> None:
    limit = option.get("max_control_line", 4096)
    world = World(**option).ready()  # type: ignore[arg-type]
    for call in calls(world.session, "y" * (limit - 100)):
        call()
    world.pump()
    assert [line.split()[0] for line in world.wire().split(b"\r\n") if b"yyy" in line] == [
        *(b"PUB", b"PUB", b"HPUB", b"PUB", b"PUB", b"SUB", b"SUB")
    ]
    for call in calls(world.session, "y" * limit):
        with pytest.raises(MaxControlLineError, match=rf"the limit is {limit} \(max_control_line, an option"):
            call()
    world.pump()
    assert world.wire() == b""


def test_a_smaller_option_makes_lines_shorter() -> None:
    world = World(max_control_line=512).ready()
    for call in calls(world.session, "y" * 512):
        with pytest.raises(MaxControlLineError, match="the limit is 512"):
            call()


@pytest.mark.parametrize(
    ("option", "accepted"), [(512, LONG_LINE), (4096, LONG_LINE), (65536, LONGER_LINES * 65536)], ids=str
)
def test_a_server_may_write_longer_lines_than_we_do(option: int, accepted: int) -> None:
    rest = len("MSG  1 0\r\n")
    wire = Wire(max_control_line=option)
    wire.open()
    (message,) = wire.feed(msg_line(accepted - rest))
    assert isinstance(message, Message)
    (ended,) = wire.feed(msg_line(accepted - rest + 1))
    assert f"line longer than {accepted} bytes" in str(ended.error)  # type: ignore[union-attr]


def msg_line(size: int) -> bytes:
    return b"MSG " + b"s" * size + b" 1 0\r\n\r\n"


def test_what_a_server_lets_through_can_be_read() -> None:
    """The line of a message, and an error that quotes the subject with every byte escaped."""
    world = World(max_control_line=65536).ready()
    longest = "y" * (65536 - len("SUB  1\r\n"))
    sub = world.session.subscribe(longest)
    world.feed(b"MSG " + longest.encode() + b" 1 1\r\nx\r\n")
    assert [type(event) for event in world.events()] == [MessagesAvailable]
    assert sub.pop() is not None
    world.feed(b"-ERR 'Permissions Violation for Publish to \"" + rb"\x01" * 65536 + b"\"'\r\n")
    assert world.session.status is SessionStatus.CONNECTED
