"""What each status means, and that nothing that a server may send is more than a status of unknown meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Message
from nats_proto._consuming.statuses import Meaning, read_status
from tests.proto.consuming import delivered, status

EVERY = [
    ("100 Idle Heartbeat", Meaning.HEARTBEAT),
    ("100 FlowControl Request", Meaning.FLOW_CONTROL),
    ("100 Something New", Meaning.UNKNOWN),
    ("400 Bad Request - heartbeat value too large", Meaning.BAD_REQUEST),
    ("400", Meaning.BAD_REQUEST),
    ("404 No Messages", Meaning.NO_MESSAGES),
    ("404", Meaning.NO_MESSAGES),
    ("408 Request Timeout", Meaning.EXPIRED),
    ("408 Interest Expired", Meaning.EXPIRED),
    ("408", Meaning.EXPIRED),
    ("408 Requests Pending", Meaning.REQUESTS_PENDING),
    ("409 Message Size Exceeds MaxBytes", Meaning.MESSAGE_TOO_LARGE),
    ("409 Batch Completed", Meaning.COMPLETED),
    ("409 Consumer Deleted", Meaning.CONSUMER_DELETED),
    ("409 CONSUMER DELETED", Meaning.CONSUMER_DELETED),
    ("409 Consumer is push based", Meaning.PUSH_BASED),
    ("409 Leadership Change", Meaning.LEADER_CHANGED),
    ("409 Server Shutdown", Meaning.SERVER_SHUTDOWN),
    ("409 Exceeded MaxRequestBatch of 10", Meaning.LIMIT),
    ("409 Exceeded MaxRequestExpires of 1m30s", Meaning.LIMIT),
    ("409 Exceeded MaxRequestMaxBytes of 1024", Meaning.LIMIT),
    ("409 Exceeded MaxWaiting", Meaning.MAX_WAITING),
    ("409 Something New", Meaning.UNKNOWN),
    ("409", Meaning.UNKNOWN),
    ("412 Required Api Level", Meaning.API_LEVEL),
    ("423 Nats-Pin-Id mismatch", Meaning.UNPINNED),
    ("423 Nats-Wrong-Pin-Id", Meaning.UNPINNED),
    ("423 Something New", Meaning.UNKNOWN),
    ("503", Meaning.NO_RESPONDERS),
    ("503 No Responders", Meaning.NO_RESPONDERS),
    ("200 OK", Meaning.UNKNOWN),
    ("500 Internal Error", Meaning.UNKNOWN),
    ("999", Meaning.UNKNOWN),
]


@pytest.mark.parametrize(("words", "meaning"), EVERY)
def test_what_it_means(words: str, meaning: Meaning) -> None:
    read = read_status(status("in.1.1", words))
    assert read is not None
    assert read.meaning is meaning
    assert read.text == words


def test_every_meaning_is_in_the_table_of_this_test() -> None:
    assert {meaning for _, meaning in EVERY} == set(Meaning)


REFUSALS = {
    Meaning.REQUESTS_PENDING,
    Meaning.PUSH_BASED,
    Meaning.LIMIT,
    Meaning.MAX_WAITING,
    Meaning.BAD_REQUEST,
    Meaning.API_LEVEL,
    Meaning.NO_RESPONDERS,
}


@pytest.mark.parametrize(("words", "meaning"), EVERY)
def test_of_what_is_refused_nothing_was_used(words: str, meaning: Meaning) -> None:
    read = read_status(status("in.1.1", words))
    assert read is not None
    assert read.refused == (meaning in REFUSALS)


@pytest.mark.parametrize(
    ("words", "name", "limit"),
    [
        ("409 Exceeded MaxRequestBatch of 10", "max_batch", 10),
        ("409 Exceeded MaxRequestBatch of ten", "max_batch", None),
        ("409 Exceeded MaxRequestBatch of -1", "max_batch", None),
        (f"409 Exceeded MaxRequestBatch of {'9' * 40}", "max_batch", None),
        ("409 Exceeded MaxRequestBatch", "max_batch", None),
        ("409 Exceeded MaxRequestMaxBytes of 1024", "max_bytes", 1024),
        ("409 Exceeded MaxRequestExpires of 5s", "max_expires", 5.0),
        ("409 Exceeded MaxRequestExpires of 1m30s", "max_expires", 90.0),
        ("409 Exceeded MaxRequestExpires of 2h0m0s", "max_expires", 7200.0),
        ("409 Exceeded MaxRequestExpires of 1.5s", "max_expires", 1.5),
        ("409 Exceeded MaxRequestExpires of 250ms", "max_expires", 0.25),
        ("409 Exceeded MaxRequestExpires of 100µs", "max_expires", 0.0001),
        ("409 Exceeded MaxRequestExpires of 1ns", "max_expires", 1e-9),
        ("409 Exceeded MaxRequestExpires of 1.2.3s", "max_expires", None),
        ("409 Exceeded MaxRequestExpires of soon", "max_expires", None),
        ("409 Exceeded MaxRequestExpires of", "max_expires", None),
    ],
)
def test_the_limit_in_the_words(words: str, name: str, limit: float | None) -> None:
    read = read_status(status("in.1.1", words))
    assert read is not None
    assert read.limit_name == name
    assert read.limit == (None if limit is None else pytest.approx(limit))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("17", 17),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1 7", None),
        ("\u0661", None),
        ("9" * 18, int("9" * 18)),
        ("9" * 19, None),
        ("9" * 10_000, None),
    ],
)
def test_the_remainder(text: str, number: int | None) -> None:
    block = f"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: {text}\r\nNats-Pending-Bytes: {text}\r\n\r\n"
    read = read_status(Message("in.1.1", 1, None, b"", block.encode()))
    assert read is not None
    assert (read.unused_messages, read.unused_bytes) == (number, number)


@pytest.mark.parametrize(
    "message",
    [
        Message("in.1.1", 1, None, b""),
        Message("in.1.1", 1, None, b"hello"),
        Message("in.1.1", 1, None, b"", b"NATS/1.0\r\n\r\n"),
        Message("in.1.1", 1, None, b"", b""),
        Message("in.1.1", 1, None, b"", b"NATS/1.0 40 x\r\n\r\n"),
        Message("in.1.1", 1, None, b"", b"NATS/1.0 4040\r\n\r\n"),
        Message("in.1.1", 1, None, b"", b"\xff\xff"),
        status("in.1.1", "503 No Responders", data=b"an application answers so"),
        delivered(),
    ],
)
def test_what_is_no_status(message: Message) -> None:
    assert read_status(message) is None


def test_its_words_are_short_and_fit_to_print() -> None:
    read = read_status(status("in.1.1", "409 \x1b[31m" + "\udcff" * 100_000))
    assert read is None or (read.text.isprintable() and len(read.text) < 2000)
    read = read_status(status("in.1.1", "409 " + "x" * 100_000))
    assert read is not None
    assert len(read.text) < 2000


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"NATS/1.0 408 ", b"NATS/1.0 409 Exceeded MaxRequestExpires of "])
)
def test_any_header_block_can_be_read(rest: bytes, start: bytes) -> None:
    for end in (b"", b"\r\n\r\n"):
        read = read_status(Message("in.1.1", 1, None, b"", start + rest + end))
        assert read is None or read.text.isprintable()
