"""Answers of servers: infos, acknowledgements of publishes, stored messages, errors, and what cannot be read."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

from nats_proto import Message
from nats_proto._jetstream.api_answer import compare, decode_answer, dropped_fields, from_wire, read_answer
from nats_proto._jetstream.pub_ack import decode_pub_ack
from nats_proto._jetstream.stored_message import stored_message, stored_message_direct
from nats_proto._json.durations import Seconds, Timestamp
from nats_proto._json.wire_value import WireValue, to_wire
from nats_proto.jetstream import (
    AccountInfo,
    ApiError,
    ConsumerConfig,
    ConsumerInfo,
    ConsumerLimits,
    DuplicateInProgressError,
    ExternalStream,
    JetStreamDecodeError,
    JetStreamError,
    Placement,
    PubAck,
    StreamConfig,
    StreamInfo,
    StreamNotFoundError,
    StreamSource,
    SubjectTransform,
)

STREAM_INFO = {
    "type": "io.nats.jetstream.api.v1.stream_create_response",
    "config": {
        "name": "ORDERS",
        "subjects": ["orders.>"],
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "storage": "file",
        "num_replicas": 3,
        "metadata": {"_nats.ver": "2.15.1"},
    },
    "created": "2026-11-29T17:00:00.123456789Z",
    "ts": "2026-11-29T17:00:01Z",
    "state": {
        "messages": 3,
        "bytes": 100,
        "first_seq": 1,
        "first_ts": "2026-11-29T17:00:00Z",
        "last_seq": 5,
        "last_ts": "0001-01-01T00:00:00Z",
        "consumer_count": 0,
        "num_deleted": 2,
        "deleted": [2, 3],
        "subjects": {"orders.a": 2, "orders.b": 1},
        "lost": {"msgs": None, "bytes": 7},
    },
    "cluster": {
        "name": "C1",
        "leader": "n1",
        "raft_group": "S-R3F-x",
        "replicas": [{"name": "n2", "current": True, "active": 1_000_000, "lag": 3, "observer": True}],
    },
    "sources": [
        {"name": "A", "lag": 5, "active": -1, "error": {"code": 404, "err_code": 10059, "description": "gone"}}
    ],
    "alternates": [{"name": "M", "cluster": "C2"}],
    "domain": "hub",
    "total": 2,
    "offset": 0,
    "limit": 100_000,
    "did_create": True,
}
CONSUMER_INFO = {
    "type": "io.nats.jetstream.api.v1.consumer_info_response",
    "stream_name": "ORDERS",
    "name": "billing",
    "created": "2026-11-29T17:00:00Z",
    "config": {
        "durable_name": "billing",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": 30_000_000_000,
    },
    "delivered": {"consumer_seq": 4, "stream_seq": 5, "last_active": "2026-11-29T17:00:00Z"},
    "ack_floor": {"consumer_seq": 0, "stream_seq": 0},
    "num_ack_pending": 4,
    "num_redelivered": 1,
    "num_waiting": 0,
    "num_pending": 9,
    "paused": True,
    "pause_remaining": 5_000_000_000,
    "priority_groups": [{"group": "g", "pinned_client_id": "x", "pinned_ts": "2026-11-29T17:00:00Z"}],
    "from_the_future": 1,
}
ACCOUNT_INFO = {
    "type": "io.nats.jetstream.api.v1.account_info_response",
    "memory": 1,
    "storage": 2,
    "reserved_memory": 3,
    "reserved_storage": 2**64 - 1,
    "streams": 4,
    "consumers": 5,
    "limits": {"max_memory": -1, "max_storage": 100, "max_streams": 10, "max_consumers": -1},
    "domain": "hub",
    "api": {"level": 4, "total": 10, "errors": 1, "inflight": 0},
    "tiers": {"R3": {"memory": 1, "storage": 1, "streams": 1, "consumers": 1, "limits": {"max_streams": 5}}},
}


def message(data: object, headers: bytes | None = None) -> Message:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Message(subject="_INBOX.a.b", sid=1, reply=None, data=raw, header_block=headers)


def test_the_info_of_a_stream() -> None:
    info = decode_answer("create stream 'ORDERS'", message(STREAM_INFO), StreamInfo)
    assert info.config.name == "ORDERS"
    assert info.created is not None
    assert info.created.nanoseconds % 1_000_000_000 == 123_456_789
    assert (info.state.first_seq, info.state.last_seq, info.state.deleted) == (1, 5, (2, 3))
    assert info.state.last_ts is None
    assert info.state.subjects == {"orders.a": 2, "orders.b": 1}
    assert info.state.lost is not None
    assert (info.state.lost.msgs, info.state.lost.bytes) == ((), 7)
    assert info.cluster is not None
    (peer,) = info.cluster.replicas
    assert (peer.name, peer.current, peer.active, peer.lag) == ("n2", True, 0.001, 3)
    assert peer.unknown == {"observer": True}
    (source,) = info.sources
    assert source.active is not None
    assert source.active.nanoseconds == -1
    assert source.error is not None
    assert source.error.err_code == 10059
    assert info.alternates[0].cluster == "C2"
    # What is about the answer is no part of the stream.
    assert info.unknown == {}


def test_the_info_of_a_consumer() -> None:
    info = decode_answer("consumer 'billing'", message(CONSUMER_INFO), ConsumerInfo)
    assert (info.stream_name, info.name, info.config.ack_wait) == ("ORDERS", "billing", 30.0)
    assert info.delivered is not None
    assert (info.delivered.consumer_seq, info.delivered.stream_seq) == (4, 5)
    assert info.pause_remaining == 5.0
    assert info.priority_groups[0].pinned_client_id == "x"
    assert info.unknown == {"from_the_future": 1}
    assert info.cluster is None


def test_the_info_of_an_account() -> None:
    info = decode_answer("account info", message(ACCOUNT_INFO), AccountInfo)
    assert (info.memory, info.reserved_storage, info.api.level, info.domain) == (1, 2**64 - 1, 4, "hub")
    assert (info.limits.max_storage, info.limits.max_ack_pending) == (100, -1)
    assert info.tiers is not None
    assert info.tiers["R3"].limits.max_streams == 5


def test_a_value_under_a_key() -> None:
    answer = message({"type": "t", "config": {"name": "A"}})
    assert decode_answer("x", answer, StreamConfig, key="config") == StreamConfig(name="A")


def test_an_error_is_raised() -> None:
    answer = message({"type": "t", "error": {"code": 404, "err_code": 10059, "description": "stream not found"}})
    with pytest.raises(StreamNotFoundError, match=r"^stream 'A': stream not found \(404, err_code 10059\)$"):
        decode_answer("stream 'A'", answer, StreamInfo)


HOSTILE: list[tuple[object, str]] = [
    (b"", "the answer is empty"),
    (b"hi", "the answer is no JSON"),
    (b"\xff\xfe", "the answer is no JSON"),
    (b'"\xff"', "the answer is not valid UTF-8"),
    (b"[" * 1_000_000, "the answer is nested too deep"),
    (b'{"a":' * 1_000_000, "the answer is nested too deep"),
    (b'{"config":{"name":"A"},"state":{},"new":' + b"[" * 40 + b"]" * 40 + b"}", "new is nested deeper than 32 levels"),
    (b"x" * 8 * 1024 * 1024, "the answer is no JSON"),
    (b"[]", "the answer must be an object, not an array"),
    (b"null", "the answer must be an object, not null"),
    (b"7", "the answer must be an object, not a number"),
    ({}, "config is missing"),
    ({"config": {"name": "A"}}, "state is missing"),
    ({"config": {"name": "A"}, "state": None}, "state is missing"),
    ({"config": {"name": ["A"]}, "state": {}}, "config.name must be a text, not an array"),
    ({"config": {"name": "A", "subjects": ["a", "b", 3]}, "state": {}}, "config.subjects[2] must be a text"),
    ({"config": {"name": "A"}, "state": {"messages": 2**64}}, "state.messages must be a number of 64 bits"),
    ({"config": {"name": "A"}, "state": {"messages": 1e300}}, "state.messages must be a whole number"),
    ({"config": {"name": "A"}, "state": {"subjects": {"a": "1"}}}, "state.subjects['a'] must be a whole number"),
    ({"config": {"name": "A"}, "state": {"first_ts": "9" * 100}}, "state.first_ts must be a time"),
    ({"config": {"name": "A"}, "state": {}, "cluster": {"replicas": [{}]}}, "cluster.replicas[0].name is missing"),
    ({"error": "stream not found"}, "the answer's error is a text, not an object"),
    ({"error": []}, "the answer's error is an array, not an object"),
    ({"error": {"code": "404"}}, "the answer's error has a code that is none"),
    ({"error": True}, "the answer's error is a boolean"),
]


@pytest.mark.parametrize(("data", "text"), HOSTILE, ids=[f"{number}" for number in range(len(HOSTILE))])
def test_h65_an_answer_that_cannot_be_read(data: object, text: str) -> None:
    """Row H65 of the faults: whatever a server answers, it is one error of this call."""
    with pytest.raises(JetStreamDecodeError) as raised:
        decode_answer("stream 'A'", message(data), StreamInfo)
    assert str(raised.value).startswith("stream 'A': ")
    assert text in str(raised.value)
    assert len(str(raised.value)) < 500
    assert raised.value.outcome == "unknown"


def test_h65_a_large_answer_is_read() -> None:
    data = {**STREAM_INFO, "state": {"subjects": {f"orders.{number}": number for number in range(100_000)}}}
    info = decode_answer("stream 'A'", message(data), StreamInfo)
    assert info.state.subjects is not None
    assert len(info.state.subjects) == 100_000


def test_null_in_place_of_an_error_is_none() -> None:
    assert read_answer("x", message({"error": None, "success": True})) == {"error": None, "success": True}


# --- acknowledgements of publishes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "ack"),
    [
        ({"stream": "S", "seq": 1}, PubAck(stream="S", sequence=1)),
        ({"stream": "S", "seq": 2**64 - 1, "duplicate": True}, PubAck(stream="S", sequence=2**64 - 1, duplicate=True)),
        ({"stream": "S", "seq": 1, "domain": "hub"}, PubAck(stream="S", sequence=1, domain="hub")),
        ({"stream": "S", "seq": 1, "batch": "b", "count": 3}, PubAck(stream="S", sequence=1, batch="b", count=3)),
        ({"stream": "S", "seq": 1, "val": "-12"}, PubAck(stream="S", sequence=1, value=-12)),
        ({"stream": "S", "seq": 1, "val": "1" * 100}, PubAck(stream="S", sequence=1, value=int("1" * 100))),
        ({"stream": "S", "seq": 1, "newer": {"x": 1}, "error": None}, PubAck(stream="S", sequence=1)),
        (b'{"stream": "S", "stream": "T", "seq": 1}', PubAck(stream="T", sequence=1)),
    ],
)
def test_a_publish_is_acknowledged(data: object, ack: PubAck) -> None:
    assert decode_pub_ack("publish to 'a'", message(data)) == ack


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"hi", b"\xff", b'"\xff"', b"{", b"[]", b"7", b"null", b"[" * 1_000_000, b'{"a":' * 1_000_000),
        *({}, {"seq": 1}, {"stream": "", "seq": 1}, {"stream": 1, "seq": 1}, {"stream": "S", "seq": "1"}),
        *({"stream": "S", "seq": 1.5}, {"stream": "S", "seq": 1, "duplicate": 1}, {"stream": "S", "seq": 1, "val": 5}),
        *({"error": "no"}, {"error": ["no"]}, {"stream": None, "seq": 1}),
    ],
    ids=lambda data: f"{data!r:.30}",
)
def test_h65_what_is_no_acknowledgement(data: object) -> None:
    """It may be from a responder that listens to the stream's subject: who waits goes on waiting."""
    assert decode_pub_ack("publish to 'a'", message(data)) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"stream": "S", "seq": -1}, "publish to 'a': the acknowledgement has a number that is out of range"),
        ({"stream": "S", "seq": 2**64}, "out of range"),
        ({"stream": "S", "seq": 1, "count": -1}, "out of range"),
        ({"stream": "S", "seq": 1, "val": "x"}, "a counter that is no number"),
        ({"stream": "S", "seq": 1, "val": ""}, "a counter that is no number"),
        ({"stream": "S", "seq": 1, "val": "--1"}, "a counter that is no number"),
        ({"stream": "S", "seq": 1, "val": "٣"}, "a counter that is no number"),
        ({"stream": "S", "seq": 1, "val": "9" * 5000}, "a counter that is no number"),
        ({"error": {"code": "x"}}, "the answer's error has a code that is none"),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_h65_an_acknowledgement_that_cannot_be_read(data: object, text: str) -> None:
    error = decode_pub_ack("publish to 'a'", message(data))
    assert type(error) is JetStreamDecodeError
    assert text in str(error)


def test_a_publish_is_refused() -> None:
    data = {"stream": "S", "seq": 0, "error": {"code": 400, "err_code": 10071, "description": "wrong last sequence: 7"}}
    error = decode_pub_ack("publish to 'a'", message(data))
    assert isinstance(error, ApiError)
    assert str(error) == "publish to 'a': wrong last sequence: 7 (400, err_code 10071)"


def test_one_of_the_same_id_is_being_stored() -> None:
    """Servers before 2.11 call it a duplicate of a message that has no sequence yet."""
    error = decode_pub_ack("publish to 'a'", message({"stream": "S", "seq": 0, "duplicate": True}))
    assert isinstance(error, DuplicateInProgressError)
    assert str(error) == "publish to 'a': duplicate message id is in process (409, err_code 10158)"


# --- stored messages -------------------------------------------------------------------------------------------------

BLOCK = b"NATS/1.0\r\nNats-Msg-Id: 7\r\nX: a\r\nX: b\r\n\r\n"


def test_a_message_of_the_api() -> None:
    raw = {
        "subject": "orders.a",
        "seq": 9,
        "time": "2026-11-29T17:00:00.000000001Z",
        "data": base64.b64encode(b"\0\xff").decode(),
        "hdrs": base64.b64encode(BLOCK).decode(),
    }
    stored = stored_message("get message 9 of 'S'", raw, "S")
    assert (stored.subject, stored.sequence, stored.data, stored.stream) == ("orders.a", 9, b"\0\xff", "S")
    assert stored.time is not None
    assert stored.time.nanoseconds % 1_000_000_000 == 1
    assert list(stored.headers.items()) == [("Nats-Msg-Id", "7"), ("X", "a"), ("X", "b")]


def test_a_message_of_the_api_without_anything() -> None:
    stored = stored_message("get", {"subject": "a", "seq": 1})
    assert (stored.data, len(stored.headers), stored.time, stored.stream) == (b"", 0, None, None)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (None, "message must be an object, not null"),
        ([], "message must be an object, not an array"),
        ({"seq": 1}, "message.subject is missing"),
        ({"subject": "a"}, "message.seq is missing"),
        ({"subject": "a", "seq": "1"}, "message.seq must be a whole number, not a text"),
        ({"subject": "a", "seq": 1, "data": 7}, "message.data must be a text, not a number"),
        ({"subject": "a", "seq": 1, "data": "a"}, "message.data must be base64"),
        ({"subject": "a", "seq": 1, "data": "ü==="}, "message.data must be base64"),
        ({"subject": "a", "seq": 1, "data": "YQ=x"}, "message.data must be base64"),
        ({"subject": "a", "seq": 1, "hdrs": "!"}, "message.hdrs must be base64"),
        ({"subject": "a", "seq": 1, "time": "now"}, "message.time must be a time"),
    ],
)
def test_h65_a_message_of_the_api_that_cannot_be_read(raw: object, text: str) -> None:
    with pytest.raises(JetStreamDecodeError) as raised:
        stored_message("get", raw)
    assert str(raised.value).startswith("get: the answer cannot be read: ")
    assert text in str(raised.value)


def test_headers_that_break_the_rules_cost_no_message() -> None:
    raw = {"subject": "a", "seq": 1, "hdrs": base64.b64encode(b"NATS/1.0\r\nA: 1\r\nno colon\r\n\r\n").decode()}
    assert list(stored_message("get", raw).headers.items()) == [("A", "1")]


def direct(**headers: str) -> Message:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return message(b"data", f"NATS/1.0\r\n{lines}\r\n".encode())


def test_a_message_that_came_directly() -> None:
    given = direct(
        X="a",
        Nats_Msg_Id="7",
        Nats_Stream="S",
        Nats_Subject="orders.a",
        Nats_Sequence="9",
        Nats_Time_Stamp="2026-11-29T17:00:00.000000001Z",
        Nats_Num_Pending="3",
        Nats_Last_Sequence="8",
    )
    stored = stored_message_direct("get", given)
    assert (stored.subject, stored.sequence, stored.data, stored.stream) == ("orders.a", 9, b"data", "S")
    assert (stored.num_pending, stored.last_sequence) == (3, 8)
    assert stored.time is not None
    assert stored.time.nanoseconds % 1_000_000_000 == 1
    assert list(stored.headers.items()) == [("X", "a"), ("Nats-Msg-Id", "7")]
    # The message itself is left as it came.
    assert given.headers is not None
    assert "Nats-Subject" in given.headers


PLACE = {"Nats_Stream": "S", "Nats_Subject": "a.b", "Nats_Sequence": "9", "Nats_Time_Stamp": "2026-11-29T17:00:00.1Z"}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"Nats_Sequence": f"{10**18}"},
        {"Nats_Sequence": f"{2**64 - 1}"},
        {"Nats_Subject": "ü.b"},
        {"Nats_Subject": " a.b"},
        {"Nats_Time_Stamp": "0001-01-01T00:00:00Z"},
        {"Nats_Time_Stamp": "2026-11-29T17:00:00+01:00"},
        {"Nats_Time_Stamp": "2026-13-29T17:00:00Z"},
        {"Nats_Time_Stamp": "now"},
        {"Nats_Num_Pending": "3"},
        {"X": "a"},
    ],
)
def test_a_message_without_headers_is_read_as_any_other(changed: dict[str, str]) -> None:
    def read(headers: dict[str, str]) -> object:
        try:
            stored = stored_message_direct("get", direct(**headers))
        except JetStreamDecodeError as error:
            return str(error)
        return [getattr(stored, name) for name in stored.__struct_fields__ if name != "headers"]

    # With one header of its own it is read name by name.
    assert read({**PLACE, **changed}) == read({**PLACE, **changed, "Own": "1"})


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "does not say where"),
        ({"Nats_Sequence": "1"}, "does not say where"),
        ({"Nats_Subject": "a"}, "does not say where"),
        ({"Nats_Subject": "a", "Nats_Sequence": "x"}, "Nats-Sequence must be a number of 64 bits, not 'x'"),
        ({"Nats_Subject": "a", "Nats_Sequence": ""}, "Nats-Sequence must be a number"),
        ({"Nats_Subject": "a", "Nats_Sequence": "-1"}, "Nats-Sequence must be a number"),
        ({"Nats_Subject": "a", "Nats_Sequence": f"{2**64}"}, "Nats-Sequence must be a number"),
        ({"Nats_Subject": "a", "Nats_Sequence": "9" * 5000}, "Nats-Sequence must be a number"),
        ({"Nats_Subject": "a", "Nats_Sequence": "٣"}, "Nats-Sequence must be a number"),
        ({"Nats_Subject": "a", "Nats_Sequence": "1", "Nats_Num_Pending": "x"}, "Nats-Num-Pending must be a number"),
        ({"Nats_Subject": "a", "Nats_Sequence": "1", "Nats_Time_Stamp": "now"}, "no time of RFC 3339"),
    ],
)
def test_h65_a_direct_message_that_cannot_be_read(headers: dict[str, str], text: str) -> None:
    with pytest.raises(JetStreamDecodeError) as raised:
        stored_message_direct("get", direct(**headers))
    assert text in str(raised.value)
    assert len(str(raised.value)) < 300


def test_h65_a_direct_message_without_headers() -> None:
    with pytest.raises(JetStreamDecodeError, match="get: the answer does not say where the message is stored"):
        stored_message_direct("get", message(b"data"))


# --- what was asked for, and what is there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        # What was not asked for is the server's to choose.
        (StreamConfig(name="A"), StreamConfig(name="A", storage="file", max_age=0, allow_direct=True)),
        (StreamConfig(name="A", metadata={"a": "b"}), StreamConfig(name="A", metadata={"a": "b", "_nats.ver": "2"})),
        (StreamConfig(name="A", metadata={}), StreamConfig(name="A", metadata={"_nats.ver": "2"})),
        (StreamConfig(name="A", metadata={}), StreamConfig(name="A")),
        # Who reads a configuration and writes it back to a newer server asks for what the older one wrote.
        (StreamConfig(name="A", metadata={"_nats.ver": "1"}), StreamConfig(name="A", metadata={"_nats.ver": "2"})),
        (StreamConfig(name="A", metadata={"_nats.ver": "1"}), StreamConfig(name="A")),
        # Nothing is nothing, in whatever way it is written.
        (StreamConfig(name="A", no_ack=False, description="", subjects=[], max_age=0), StreamConfig(name="A")),
        (StreamConfig(name="A", max_msgs=0, max_bytes=-1), StreamConfig(name="A", max_msgs=-1, max_bytes=-1)),
        (StreamConfig(name="A", max_msgs=-1), StreamConfig(name="A")),
        (ConsumerConfig(max_deliver=0), ConsumerConfig(max_deliver=-1)),
        # 0 asks for the server's own.
        (StreamConfig(name="A", duplicate_window=0), StreamConfig(name="A", duplicate_window=120)),
        (ConsumerConfig(ack_wait=0, max_ack_pending=0), ConsumerConfig(ack_wait=30, max_ack_pending=1000)),
        # A stream without subjects gets one from the server.
        (StreamConfig(name="A", subjects=[]), StreamConfig(name="A", subjects=["A"])),
        # Texts have no order, and durations no type.
        (StreamConfig(name="A", subjects=["a", "b"]), StreamConfig(name="A", subjects=["b", "a"])),
        (StreamConfig(name="A", max_age=60), StreamConfig(name="A", max_age=timedelta(minutes=1))),
        (
            StreamConfig(name="A", mirror=StreamSource(name="B", domain="hub")),
            StreamConfig(
                name="A", mirror=StreamSource(name="B", external=ExternalStream(api="$JS.hub.API", deliver=""))
            ),
        ),
        (
            StreamConfig(name="A", placement=Placement(tags=["x"])),
            StreamConfig(name="A", placement=Placement(cluster="C1", tags=["x"])),
        ),
        (StreamConfig(name="A", unknown={"new": 1}), StreamConfig(name="A", unknown={"new": 1, "newer": 2})),
    ],
)
def test_no_difference(asked: WireValue, got: WireValue) -> None:
    assert compare(asked, got) == ()


@pytest.mark.parametrize(
    ("asked", "got", "texts", "dropped"),
    [
        (
            StreamConfig(name="A", subjects=[]),
            StreamConfig(name="A", subjects=["b"]),
            ["subjects: () asked for, ('b',) there"],
            [],
        ),
        (
            ConsumerConfig(ack_wait=10),
            ConsumerConfig(ack_wait=30),
            ["ack_wait: 10.0 asked for, 30.0 there"],
            [],
        ),
        (
            StreamConfig(name="A", max_age=0),
            StreamConfig(name="A", max_age=60),
            ["max_age: 0.0 asked for, 60.0 there"],
            [],
        ),
        (
            StreamConfig(name="A", deny_delete=False),
            StreamConfig(name="A", deny_delete=True),
            ["deny_delete: False asked for, True there"],
            [],
        ),
        (
            StreamConfig(name="A", max_msgs=10),
            StreamConfig(name="A"),
            ["max_msgs: 10 asked for, None there"],
            ["max_msgs"],
        ),
        (
            StreamConfig(name="A", allow_msg_ttl=True, subject_delete_marker_ttl=1, subjects=["a"]),
            StreamConfig(name="A", subjects=["a", "b"]),
            [
                "subjects: ('a',) asked for, ('a', 'b') there",
                "allow_msg_ttl: True asked for, None there",
                "subject_delete_marker_ttl: 1.0 asked for, None there",
            ],
            ["allow_msg_ttl", "subject_delete_marker_ttl"],
        ),
        (
            StreamConfig(name="A", subject_transform=SubjectTransform(src="a", dest="b")),
            StreamConfig(name="A"),
            ["subject_transform: SubjectTransform(src='a', dest='b') asked for, None there"],
            ["subject_transform"],
        ),
        (
            StreamConfig(name="A", sources=[StreamSource(name="B", filter_subject="x"), StreamSource(name="C")]),
            StreamConfig(name="A", sources=[StreamSource(name="B"), StreamSource(name="D")]),
            ["sources[0].filter_subject: 'x' asked for, None there", "sources[1].name: 'C' asked for, 'D' there"],
            ["sources[0].filter_subject"],
        ),
        (
            StreamConfig(name="A", consumer_limits=ConsumerLimits(max_ack_pending=5)),
            StreamConfig(name="A", consumer_limits=ConsumerLimits()),
            ["consumer_limits.max_ack_pending: 5 asked for, None there"],
            ["consumer_limits.max_ack_pending"],
        ),
        (
            StreamConfig(name="A", metadata={"a": "b"}),
            StreamConfig(name="A", metadata={"a": "c", "_nats.ver": "2"}),
            ["metadata: {'a': 'b'} asked for, {'a': 'c'} there"],
            [],
        ),
        (
            StreamConfig(name="A", metadata={"a": "b"}),
            StreamConfig(name="A"),
            ["metadata: {'a': 'b'} asked for, {} there"],
            ["metadata"],
        ),
        (
            ConsumerConfig(filter_subjects=["a", "b"], backoff=[1, 2]),
            ConsumerConfig(backoff=[2, 1]),
            ["backoff: (1.0, 2.0) asked for, (2.0, 1.0) there", "filter_subjects: ('a', 'b') asked for, None there"],
            ["filter_subjects"],
        ),
        (
            StreamConfig(name="A", unknown={"new": 1}),
            StreamConfig(name="A"),
            ["new: 1 asked for, None there"],
            ["new"],
        ),
    ],
)
def test_differences(asked: WireValue, got: WireValue, texts: list[str], dropped: list[str]) -> None:
    assert [str(found) for found in compare(asked, got)] == texts
    assert list(dropped_fields(asked, got)) == dropped


def test_a_nanosecond_is_a_difference() -> None:
    long = Seconds.from_nanoseconds(2**62)
    longer = Seconds.from_nanoseconds(2**62 + 1)
    assert long == longer
    assert len(compare(StreamConfig(name="A", max_age=long), StreamConfig(name="A", max_age=longer))) == 1
    time, later = (Timestamp.from_nanoseconds(number) for number in (1, 2))
    assert time == later
    assert len(compare(ConsumerConfig(opt_start_time=time), ConsumerConfig(opt_start_time=later))) == 1


def test_infos_can_be_written_again() -> None:
    for raw, kind in ((STREAM_INFO, StreamInfo), (CONSUMER_INFO, ConsumerInfo), (ACCOUNT_INFO, AccountInfo)):
        info = from_wire(kind, raw)
        assert from_wire(kind, to_wire(info)) == info


def test_errors_are_of_the_family() -> None:
    assert issubclass(JetStreamDecodeError, JetStreamError)
