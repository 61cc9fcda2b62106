"""The answers of replicas to a read: what is plainly a value is read at once, and comes to the same as all else."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nats_proto import Message, Request
from nats_proto._jetstream.errors import JetStreamDecodeError
from nats_proto._jetstream.stored_message import stored_message_direct
from nats_proto._json.durations import Timestamp
from nats_proto._keyvalue import reading
from nats_proto._keyvalue.entry import KeyValueEntry
from nats_proto._keyvalue.errors import InvalidKeyError, KeyDeletedError, KeyNotFoundError
from nats_proto._keyvalue.key_codecs import Base64Keys
from nats_proto.errors import NATSError
from tests.proto.keyvalue import Stream

TIME = "2026-11-30T02:59:08.123456789Z"


def block(
    *more: str, subject: str = "$KV.B.a.b", sequence: str = "7", time: str = TIME, status: str = "NATS/1.0"
) -> bytes:
    lines = [f"Nats-Stream: KV_B\r\nNats-Subject: {subject}\r\nNats-Sequence: {sequence}\r\nNats-Time-Stamp: {time}"]
    return "\r\n".join([status, *lines, *more, "", ""]).encode()


def asked(key: str, headers: bytes | None, data: bytes = b"value", **given: Any) -> Any:
    """What a read comes to whose answer this is."""
    operation = Stream(**given).bucket.get(key)
    request = next(operation)
    assert isinstance(request, Request)
    assert request.subject == f"$JS.API.DIRECT.GET.KV_B.$KV.B.{key}"
    assert request.timeout == 5.0
    return ended(lambda: operation.send(Message("in", 1, None, data, headers)))


def ended(step: Callable[[], object]) -> Any:
    try:
        step()
    except StopIteration as end:
        return end.value
    except NATSError as error:
        return error
    raise AssertionError("it goes on")


def shown(outcome: Any) -> object:
    if isinstance(outcome, NATSError):
        return type(outcome), str(outcome)
    fields = msgspec.structs.asdict(outcome) | {"stored": None}
    return fields, outcome.created


class NeverPlain:
    """In place of an `EntryMaker`: every answer has to be looked at."""

    def __init__(self, *_: object) -> None: ...

    def last(self, message: Message, subject: str) -> None: ...


PLAIN = [
    block(),
    block(sequence="1"),
    block(sequence="9" * 18),
    block(time="2026-02-28T00:00:00Z"),
    block(time="2026-04-30T23:59:59.9Z"),
    block(time="2026-12-31T12:00:00.000000001Z"),
    block(time="9999-01-29T12:00:00Z"),
]
OTHER = [
    None,
    b"",
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 404 Message Not Found\r\n\r\n",
    b"NATS/1.0 408 Bad Request\r\n\r\n",
    block("A: 1"),
    block("KV-Operation: DEL"),
    block("Nats-Marker-Reason: MaxAge"),
    block(status="NATS/1.0 404 Message Not Found"),
    block(subject="$KV.B.a.c"),
    block(subject="$KV.B.a"),
    block(subject="a.b"),
    block(subject="$KV.C.a.b"),
    block(sequence="0"),
    block(sequence="07"),
    block(sequence="9" * 19),
    block(sequence="9" * 30),
    block(sequence="-7"),
    block(sequence="x"),
    block(time="2024-02-29T00:00:00Z"),
    block(time="2026-02-29T00:00:00Z"),
    block(time="2026-04-31T00:00:00Z"),
    block(time="2026-00-10T00:00:00Z"),
    block(time="2026-13-10T00:00:00Z"),
    block(time="2026-12-00T00:00:00Z"),
    block(time="2026-12-32T00:00:00Z"),
    block(time="2026-12-10T24:00:00Z"),
    block(time="2026-12-10T00:60:00Z"),
    block(time="2026-12-10T00:00:60Z"),
    block(time="2026-12-10T00:00:00.1234567891Z"),
    block(time="2026-12-10T00:00:00+01:00"),
    block(time="2026-12-10t00:00:00z"),
    block(time="1969-12-10T00:00:00Z"),
    block(time="0000-12-10T00:00:00Z"),
    block(time="0001-01-01T00:00:00Z"),
    block(time="yesterday"),
    block() + b"x",
    b"x" + block(),
]


@pytest.mark.parametrize("data", [b"value", b""], ids=["value", "empty"])
@pytest.mark.parametrize("headers", [*PLAIN, *OTHER], ids=lambda headers: str(headers)[:150])
def test_an_answer_comes_to_the_same_in_either_way(
    headers: bytes | None, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly = asked("a.b", headers, data)
    if headers in PLAIN:
        assert isinstance(quickly, KeyValueEntry)
    monkeypatch.setattr(reading, "EntryMaker", NeverPlain)
    assert shown(quickly) == shown(asked("a.b", headers, data))


@pytest.mark.parametrize("headers", PLAIN, ids=str)
def test_a_plain_value_is_read_at_once(headers: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "decode_direct", None)
    entry = asked("a.b", headers)
    stored = stored_message_direct("read", Message("in", 1, None, b"value", headers))
    assert (entry.bucket, entry.key, entry.value, entry.delta, entry.operation) == ("B", "a.b", b"value", 0, "put")
    assert (entry.revision, entry.created) == (stored.sequence, stored.time)
    assert isinstance(entry.created, Timestamp)
    assert stored.time is not None
    assert entry.created.nanoseconds == stored.time.nanoseconds
    again = pickle.loads(pickle.dumps(entry.stored))
    assert again == entry.stored


@pytest.mark.parametrize("headers", OTHER, ids=lambda headers: str(headers)[:150])
def test_what_is_not_plain_is_looked_at(headers: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    strictly = reading.decode_direct

    def decode(what: str) -> Any:
        looked.append(what)
        return strictly(what)

    monkeypatch.setattr(reading, "decode_direct", decode)
    asked("a.b", headers)
    assert looked == ["get the last message on '$KV.B.a.b' of stream 'KV_B'"]


def test_what_there_may_be_instead_of_a_value() -> None:
    missing = asked("a.b", b"NATS/1.0 404 Message Not Found\r\n\r\n", b"")
    assert type(missing) is KeyNotFoundError
    assert str(missing).startswith("get key 'a.b' of bucket 'B': there is no such key")
    assert isinstance(asked("a.b", block("KV-Operation: PURGE")), KeyDeletedError)
    assert isinstance(asked("a.b", block(subject="$KV.B.other")), JetStreamDecodeError)
    assert isinstance(asked("a.b", None), JetStreamDecodeError)


def test_keys_that_are_translated_are_given_as_the_program_knows_them() -> None:
    stored = Base64Keys().encode("ä b")
    operation = Stream().bucket.with_keys(Base64Keys()).get("ä b")
    next(operation)
    answer = Message("in", 1, None, b"v", block(subject=f"$KV.B.{stored}"))
    entry = ended(lambda: operation.send(answer))
    assert (entry.key, entry.value, entry.revision) == ("ä b", b"v", 7)


# --- without an operation: a question, and what is answered


def answered(key: str, headers: bytes | None, data: bytes = b"value") -> Any:
    """What the answer to the question for a key comes to."""
    bucket = Stream().bucket
    question = bucket.question(key)
    assert question == f"$JS.API.DIRECT.GET.KV_B.$KV.B.{key}"
    try:
        return bucket.answered(key, question, Message("in", 1, None, data, headers))
    except NATSError as error:
        return error


@pytest.mark.parametrize("headers", [*PLAIN, *OTHER], ids=lambda headers: str(headers)[:150])
def test_an_answer_to_a_question_comes_to_the_same(headers: bytes | None) -> None:
    assert shown(answered("a.b", headers)) == shown(asked("a.b", headers))


@pytest.mark.parametrize(
    ("given", "reads"),
    [
        ({"revision": 1}, "any"),
        ({"min_revision": 1}, "any"),
        ({"reads": "leader"}, "any"),
        ({}, "leader"),
    ],
    ids=str,
)
def test_for_everything_else_there_is_no_question(given: dict[str, Any], reads: Any) -> None:
    bucket = Stream(reads=reads).bucket
    assert bucket.question("a", **given) is None
    assert bucket.question("a", reads="any") == "$JS.API.DIRECT.GET.KV_B.$KV.B.a"


def test_a_question_that_makes_no_sense() -> None:
    bucket = Stream().bucket
    with pytest.raises(InvalidKeyError):
        bucket.question("a b")
    with pytest.raises(ValueError, match="reads must be"):
        bucket.question("a", reads="all")  # type: ignore[arg-type]


def test_a_question_for_a_translated_key() -> None:
    bucket = Stream(api_prefix="$JS.hub.API.").bucket.with_keys(Base64Keys())
    stored = Base64Keys().encode("\u00e4 b")
    question = bucket.question("\u00e4 b")
    assert question == f"$JS.hub.API.DIRECT.GET.KV_B.$KV.B.{stored}"
    entry = bucket.answered("\u00e4 b", question, Message("in", 1, None, b"v", block(subject=f"$KV.B.{stored}")))
    assert (entry.key, entry.value, entry.revision) == ("\u00e4 b", b"v", 7)
