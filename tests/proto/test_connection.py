"""One connection: what each frame means in each state, the handshake, and nothing after the end."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator

import pytest

from nats_proto import (
    ConnectionEnded,
    ConnectionState,
    Credentials,
    HandshakeCompleted,
    InfoReceived,
    Message,
    PongReceived,
    ServerErrorReceived,
    __version__,
)
from nats_proto._connection.server_errors import Reaction
from nats_proto._layers.layers import Layers
from nats_proto.errors import (
    AuthenticationError,
    ConnectionLostError,
    MaxControlLineError,
    NATSTimeoutError,
    NoEchoNotSupportedError,
    RemoteProtocolError,
    SecureConnectionRequiredError,
    TLSError,
)
from tests.proto.driver import OK, PING, PONG, START, Wire, err, frames_of, info, msg, words_of

BAD_INFO = b"INFO {]\r\n"
HMSG = msg("s", 1, b"x", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n")

PREPARING, AWAITING_INFO, GREETING, AWAITING_PONG, OPEN, CLOSED = ConnectionState


def at(state: ConnectionState) -> Wire:
    """A connection brought to a state, with nothing left to read."""
    wire = Wire(auth=lambda challenge: Credentials()) if state is GREETING else Wire()
    if state is not AWAITING_INFO:
        wire.feed(info())
        wire.written()
    if state in (OPEN, CLOSED):
        wire.feed(PONG)
    if state is CLOSED:
        wire.connection.receive_eof(now=wire.now)
        wire.connection.events_received()
    assert wire.connection.state is state
    return wire


FRAMES = {
    "INFO": info(server_id="T"),
    "bad INFO": BAD_INFO,
    "-ERR kept": err('Permissions Violation for Publish to "a"'),
    "-ERR ends": err("Stale Connection"),
    "PING": PING,
    "PONG": PONG,
    "+OK": OK,
    "MSG": msg("s", 1, b"x"),
    "HMSG": HMSG,
    "PUB": b"PUB a 0\r\n\r\n",
    "SUB": b"SUB a 1\r\n",
    "UNSUB": b"UNSUB 1\r\n",
    "CONNECT": b"CONNECT {}\r\n",
    "garbage": b"\x00\x01\r\n",
    "nothing": b"",
}

# state: frame: (state after it, names of the events, words written)
TABLE: dict[ConnectionState, dict[str, tuple[ConnectionState, list[str], list[str]]]] = {
    AWAITING_INFO: {
        "INFO": (AWAITING_PONG, ["InfoReceived"], ["CONNECT", "PING"]),
        "bad INFO": (CLOSED, ["ConnectionEnded"], []),
        "-ERR kept": (CLOSED, ["ConnectionEnded"], []),
        "-ERR ends": (CLOSED, ["ConnectionEnded"], []),
        "PING": (CLOSED, ["ConnectionEnded"], []),
        "PONG": (CLOSED, ["ConnectionEnded"], []),
        "+OK": (CLOSED, ["ConnectionEnded"], []),
        "MSG": (CLOSED, ["ConnectionEnded"], []),
        "HMSG": (CLOSED, ["ConnectionEnded"], []),
    },
    GREETING: {
        "INFO": (GREETING, ["InfoReceived", "EffectWanted"], []),
        "bad INFO": (CLOSED, ["ConnectionEnded"], []),
        "-ERR kept": (CLOSED, ["ConnectionEnded"], []),
        "-ERR ends": (CLOSED, ["ConnectionEnded"], []),
        "PING": (GREETING, [], []),
        "PONG": (CLOSED, ["ConnectionEnded"], []),
        "+OK": (GREETING, [], []),
        "MSG": (CLOSED, ["ConnectionEnded"], []),
        "HMSG": (CLOSED, ["ConnectionEnded"], []),
    },
    AWAITING_PONG: {
        "INFO": (AWAITING_PONG, ["InfoReceived"], []),
        "bad INFO": (CLOSED, ["ConnectionEnded"], []),
        "-ERR kept": (CLOSED, ["ConnectionEnded"], []),
        "-ERR ends": (CLOSED, ["ConnectionEnded"], []),
        "PING": (AWAITING_PONG, [], []),
        "PONG": (OPEN, ["HandshakeCompleted"], []),
        "+OK": (AWAITING_PONG, [], []),
        "MSG": (CLOSED, ["ConnectionEnded"], []),
        "HMSG": (CLOSED, ["ConnectionEnded"], []),
    },
    OPEN: {
        "INFO": (OPEN, ["InfoReceived"], []),
        "bad INFO": (OPEN, ["ContentErrorReceived"], []),
        "-ERR kept": (OPEN, ["ServerErrorReceived"], []),
        "-ERR ends": (CLOSED, ["ServerErrorReceived", "ConnectionEnded"], []),
        "PING": (OPEN, [], ["PONG"]),
        "PONG": (OPEN, [], []),
        "+OK": (OPEN, [], []),
        "MSG": (OPEN, ["Message"], []),
        "HMSG": (OPEN, ["Message"], []),
    },
    CLOSED: {},
}
for _state, _row in TABLE.items():
    for _frame in ("PUB", "SUB", "UNSUB", "CONNECT", "garbage"):
        _row[_frame] = (CLOSED, ["ConnectionEnded"], [])
    _row["nothing"] = (_state, [], [])
TABLE[CLOSED] = {frame: (CLOSED, [], []) for frame in FRAMES}

PAIRS = [(state, frame) for state in TABLE for frame in FRAMES]


@pytest.mark.parametrize("at_a_time", [None, 1])
@pytest.mark.parametrize(("state", "frame"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_every_frame_in_every_state(state: ConnectionState, frame: str, at_a_time: int | None) -> None:
    wire = at(state)
    expected_state, expected_events, expected_words = TABLE[state][frame]
    events = wire.feed(FRAMES[frame], at_a_time=at_a_time)
    assert [type(event).__name__ for event in events] == expected_events
    assert wire.connection.state is expected_state
    assert words_of(wire.written()) == expected_words


@pytest.mark.parametrize("state", TABLE)
def test_the_end_of_the_stream_in_every_state(state: ConnectionState) -> None:
    wire = at(state)
    wire.connection.receive_eof(now=wire.now)
    events = wire.connection.events_received()
    assert wire.connection.state is CLOSED
    if state is CLOSED:
        assert not events
        return
    (ended,) = events
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.error, ConnectionLostError)
    assert ("handshake" in str(ended.error)) is (state is not OPEN)
    assert wire.connection.next_timeout() is None
    assert not wire.written()


@pytest.mark.parametrize("state", TABLE)
def test_a_transport_that_breaks_in_every_state(state: ConnectionState) -> None:
    wire = at(state)
    broken = ConnectionResetError("reset by peer")
    wire.connection.transport_lost(broken)
    wire.connection.transport_lost(ConnectionResetError("again"))
    ends = wire.connection.events_received()
    assert len(ends) == (state is not CLOSED)
    for end in ends:
        assert isinstance(end, ConnectionEnded)
        assert type(end.error) is ConnectionLostError
        assert end.error.__cause__ is broken
        assert end.reaction is Reaction.RECONNECT
        assert str(end.error) == "connection to server nats://a:4222 was lost: reset by peer"
    assert wire.connection.state is CLOSED
    assert wire.connection.next_timeout() is None
    assert wire.connection.data_to_send() == []


@pytest.mark.parametrize("state", TABLE)
def test_closing_on_our_side_is_silent_and_final(state: ConnectionState) -> None:
    wire = at(state)
    wire.connection.close()
    assert wire.feed(info() + PONG + PING) == []
    assert wire.tick(10_000) == []
    assert wire.written() == b""
    assert wire.connection.next_timeout() is None


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        pytest.param(PING, "sent PING where INFO was expected", id="H3-ping"),
        pytest.param(OK, r"sent \+OK where INFO was expected", id="H3-ok"),
        pytest.param(msg("a", 1), "sent MSG where INFO was expected", id="H3-msg"),
        pytest.param(PONG, "sent PONG where INFO was expected", id="H22-pong"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", "does not look like a NATS server", id="H4"),
        pytest.param(BAD_INFO, "INFO that cannot be used", id="H7"),
    ],
)
def test_what_is_no_info_ends_the_attempt_before_anything_is_sent(data: bytes, hint: str) -> None:
    wire = Wire(user="me", password="secret")
    (ended,) = wire.feed(data)
    assert isinstance(ended, ConnectionEnded)
    with pytest.raises(RemoteProtocolError, match=hint):
        raise ended.error
    assert ended.reaction is Reaction.RECONNECT
    assert wire.written() == b""


def test_events_before_a_fault_in_the_same_chunk_come_first() -> None:
    wire = at(OPEN)
    events = wire.feed(msg("a", 1, b"1") + PING + msg("a", 1, b"2") + b"XYZZY\r\n" + msg("a", 1, b"3"))
    assert [type(event).__name__ for event in events] == ["Message", "Message", "ConnectionEnded"]
    assert wire.written() == b""


def test_frames_behind_an_error_that_ends_the_connection_are_not_handled() -> None:
    wire = at(OPEN)
    events = wire.feed(err("Authorization Violation") + msg("a", 1) + err("something") + info(server_id="U"))
    assert [type(event).__name__ for event in events] == ["ServerErrorReceived", "ConnectionEnded"]


# --- CONNECT ----------------------------------------------------------------------------------------------------------

DEFAULT_CONNECT = {
    "verbose": False,
    "pedantic": False,
    "tls_required": False,
    "name": "",
    "lang": "python3",
    "version": __version__,
    "protocol": 1,
    "echo": True,
    "headers": True,
    "no_responders": True,
}


@pytest.mark.parametrize(
    ("url", "options", "info_fields", "differs"),
    [
        pytest.param("nats://a", {}, {}, {}, id="defaults"),
        pytest.param("nats://a", {"verbose": True}, {}, {"verbose": True}, id="verbose"),
        pytest.param("nats://a", {"pedantic": True}, {}, {"pedantic": True}, id="pedantic"),
        pytest.param("nats://a", {"name": 'bill"ing\r\n'}, {}, {"name": 'bill"ing\r\n'}, id="name"),
        pytest.param("nats://a", {"echo": False}, {}, {"echo": False}, id="no echo"),
        pytest.param("nats://a", {}, {"headers": False}, {"headers": False, "no_responders": False}, id="no headers"),
        pytest.param("nats://a", {"user": "u", "password": "p"}, {}, {"user": "u", "pass": "p"}, id="user"),
        pytest.param("nats://a", {"user": "u"}, {}, {"user": "u", "pass": ""}, id="user alone"),
        pytest.param("nats://a", {"token": "t"}, {}, {"auth_token": "t"}, id="token"),
        pytest.param("nats://u:p@a", {}, {}, {"user": "u", "pass": "p"}, id="user of the URL"),
        pytest.param("nats://t@a", {}, {}, {"auth_token": "t"}, id="token of the URL"),
        pytest.param("nats://u:p@a", {"user": "x"}, {}, {"user": "u", "pass": "p"}, id="URL before options"),
        pytest.param("nats://t@a", {"user": "x"}, {}, {"auth_token": "t"}, id="URL's token before user"),
        pytest.param("nats://u:p@a", {"token": "t"}, {}, {"user": "u", "pass": "p"}, id="URL's user before token"),
        pytest.param("nats://a", {"user": "u"}, {"auth_required": False}, {"user": "u", "pass": ""}, id="asked or not"),
    ],
)
def test_connect_says_what_the_options_say(
    url: str, options: dict[str, object], info_fields: dict[str, object], differs: dict[str, object]
) -> None:
    wire = Wire(url=url, **options)
    wire.feed(info(**info_fields))
    line, ping, rest = wire.written().split(b"\r\n")
    assert line.startswith(b"CONNECT ")
    assert json.loads(line[8:]) == {**DEFAULT_CONNECT, **differs}
    assert (ping, rest) == (b"PING", b"")


def test_connect_and_ping_leave_in_one_piece() -> None:
    wire = Wire()
    wire.feed(info())
    assert len(wire.connection.data_to_send()) == 1


def test_a_minimal_info_is_enough() -> None:
    wire = Wire()
    events = wire.feed(b"INFO {}\r\n" + PONG)
    assert [type(event) for event in events] == [InfoReceived, HandshakeCompleted]


def test_verbose_handshake() -> None:
    wire = Wire(verbose=True)
    wire.feed(info())
    wire.written()
    assert [type(event) for event in wire.feed(OK + PONG + OK)] == [HandshakeCompleted]


def test_the_last_info_of_the_handshake_wins() -> None:
    wire = Wire()
    wire.feed(info(server_id="1"))
    wire.written()
    wire.feed(info(server_id="2", max_payload=5))
    assert wire.written() == b""
    (done,) = wire.feed(PONG)
    assert isinstance(done, HandshakeCompleted)
    assert (done.info.server_id, done.info.max_payload) == ("2", 5)
    assert wire.connection.info == done.info


def test_a_second_info_before_connect_was_written_is_the_one_it_answers() -> None:
    wire = Wire()
    wire.feed(info(headers=False) + info(headers=True))
    written = wire.written()
    assert words_of(written) == ["CONNECT", "PING"]
    assert json.loads(written.split(b"\r\n")[0][8:])["headers"] is True


def test_a_second_info_before_connect_may_ask_for_tls() -> None:
    wire = Wire(password="secret", user="u")
    events = wire.feed(info() + info(tls_required=True))
    assert [type(event) for event in events] == [InfoReceived, InfoReceived]
    assert wire.written()[:3] == b"\x16\x03\x01"  # a ClientHello, and CONNECT is forgotten
    assert wire.connection.state is GREETING


def test_what_follows_the_pong_in_its_segment_is_not_lost() -> None:
    wire = Wire()
    wire.feed(info())
    wire.written()
    first = info(server_id="late", connect_info=True)
    events = wire.feed(PONG + first + msg("a", 1, b"early"))
    assert [type(event) for event in events] == [HandshakeCompleted, InfoReceived, Message]
    assert wire.connection.info is not None
    assert wire.connection.info.server_id == "late"


def test_a_ping_during_the_handshake_is_answered_once_it_is_done() -> None:
    wire = Wire()
    wire.feed(info() + PING)
    assert words_of(wire.written()) == ["CONNECT", "PING"]
    assert wire.written() == b""
    wire.feed(PONG)
    assert words_of(wire.written()) == ["PONG"]


def test_the_handshake_one_byte_at_a_time() -> None:
    wire = Wire()
    wire.feed(info(), at_a_time=1)
    assert len(frames_of(wire.written())) == 2
    events = wire.feed(PONG + info(server_id="2") + msg("a", 1, b"x"), at_a_time=1)
    assert [type(event) for event in events] == [HandshakeCompleted, InfoReceived, Message]


def test_an_info_without_news_is_no_event() -> None:
    wire = at(OPEN)
    assert wire.feed(info() * 20_000) == []
    assert len(wire.feed(info(max_payload=7) * 20_000)) == 1


@pytest.mark.parametrize(
    ("url", "options"),
    [("tls://a", {}), ("nats://a", {"tls": ssl.create_default_context()}), ("nats://a", {"tls": lambda url: None})],
    ids=["url", "context", "callback"],
)
def test_no_secret_leaves_when_tls_was_asked_for_and_is_not_offered(url: str, options: dict[str, object]) -> None:
    wire = Wire(url=url, user="u", password="secret", secured="tls" in options, **options)
    events = wire.feed(info())
    assert isinstance(events[-1], ConnectionEnded)
    assert isinstance(events[-1].error, SecureConnectionRequiredError)
    assert wire.written() == b""


@pytest.mark.parametrize(
    ("url", "before", "counts"),
    [
        ("nats://a", b"", True),
        ("nats://a", info(), True),
        ("nats://a", info(tls_required=True), False),
        ("tls://a", b"", False),
        ("tls://a", info(tls_available=True), False),
    ],
)
@pytest.mark.parametrize(
    ("text", "reaction"),
    [
        ("Authorization Violation", Reaction.AUTHENTICATE),
        ("invalid client protocol", Reaction.CLOSE),
        ("maximum connections exceeded", Reaction.RECONNECT),
    ],
)
def test_what_is_said_in_clear_before_tls_has_no_consequences(
    url: str, before: bytes, counts: bool, text: str, reaction: Reaction
) -> None:
    wire = Wire(url=url)
    wire.feed(before)
    wire.written()
    ended = wire.feed(err(text))[-1]
    assert isinstance(ended, ConnectionEnded)
    assert ended.reaction is (reaction if counts else Reaction.RECONNECT)
    assert isinstance(ended.error, AuthenticationError) is (counts and reaction is Reaction.AUTHENTICATE)
    assert text in str(ended.error)


@pytest.mark.parametrize("verifies", [False, True])
def test_an_end_right_after_tls_may_mean_that_a_certificate_was_wanted(
    verifies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upgraded(wire: Layers, *_: object) -> Iterator[object]:
        wire.secure = True
        yield from ()

    monkeypatch.setattr("nats_proto._connection.handshake._secure", upgraded)
    wire = Wire()
    wire.feed(info(tls_required=True, tls_verify=verifies))
    assert words_of(wire.written()) == ["CONNECT", "PING"]
    wire.connection.receive_eof(now=wire.now)
    (ended,) = wire.connection.events_received()
    assert isinstance(ended, ConnectionEnded)
    assert type(ended.error) is (TLSError if verifies else ConnectionLostError)
    assert ("client certificate" in str(ended.error)) is verifies


def test_available_tls_is_not_required_tls() -> None:
    wire = Wire()
    wire.feed(info(tls_available=True))
    assert words_of(wire.written()) == ["CONNECT", "PING"]


@pytest.mark.parametrize("proto", [0, -1])
def test_echo_cannot_be_turned_off_on_an_old_server(proto: int) -> None:
    wire = Wire(echo=False)
    events = wire.feed(info(proto=proto))
    assert isinstance(events[-1], ConnectionEnded)
    assert isinstance(events[-1].error, NoEchoNotSupportedError)
    assert wire.written() == b""


def test_a_connect_line_that_no_server_reads_ends_the_attempt() -> None:
    wire = Wire(token="t" * 70_000)
    events = wire.feed(info())
    assert isinstance(events[-1], ConnectionEnded)
    assert isinstance(events[-1].error, MaxControlLineError)
    assert "ttt" not in str(events[-1].error)
    assert wire.written() == b""


@pytest.mark.parametrize(("heard", "waited"), [(b"", "INFO"), (info(), "the answer to CONNECT")])
def test_a_handshake_has_one_deadline(heard: bytes, waited: str) -> None:
    wire = Wire(connect_timeout=3.0)
    wire.feed(heard)
    assert wire.connection.next_timeout() == START + 3.0
    assert wire.tick(2.5) == []
    (ended,) = wire.tick(0.5)
    assert isinstance(ended, ConnectionEnded)
    with pytest.raises(NATSTimeoutError, match=f"did not send {waited} within 3 s"):
        raise ended.error


def test_a_trickling_info_does_not_move_the_deadline() -> None:
    wire = Wire(connect_timeout=2.0)
    for byte in info()[:3]:
        wire.feed(bytes([byte]))
        wire.tick(0.6)
    assert wire.connection.state is AWAITING_INFO
    assert len(wire.tick(0.6)) == 1
    assert wire.connection.state is CLOSED


def test_an_error_in_the_handshake_names_the_server_without_secrets() -> None:
    wire = Wire(url="nats://user:hunter2@host:4223")
    (ended,) = wire.feed(err("Authorization Violation"))
    assert isinstance(ended, ConnectionEnded)
    assert str(ended.error) == "server nats://host:4223 said: Authorization Violation"


def test_two_pongs_to_the_handshake_ping() -> None:
    wire = at(AWAITING_PONG)
    assert [type(event) for event in wire.feed(PONG + PONG)] == [HandshakeCompleted]
    wire.connection.pings_taken([7])
    assert wire.feed(PONG) == [PongReceived(7)]


def test_a_report_is_no_end() -> None:
    wire = at(OPEN)
    (report,) = wire.feed(err("Invalid Subject"))
    assert isinstance(report, ServerErrorReceived)
    assert wire.connection.state is OPEN
