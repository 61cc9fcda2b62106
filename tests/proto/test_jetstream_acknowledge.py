"""What is published to acknowledge a message, and that it is settled once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nats_proto import Message
from nats_proto._jetstream.acknowledge import ACK, IN_PROGRESS, NAK, TERM, Acknowledgeable, Delivery, nak, term
from nats_proto._jetstream.errors import AlreadyAcknowledgedError, NotJetStreamMessageError
from nats_proto._jetstream.metadata import Metadata

DELIVERY = Delivery(stream="S", consumer="C", ack_wait=30.0)
REPLY = "$JS.ACK.S.C.3.7.9.1700000000000000000.4"


class Delivered(Message, Acknowledgeable, gc=False, eq=False):
    """As the clients' classes are made."""

    delivery: Delivery = DELIVERY
    received: float = 100.0
    settled: bool = False
    parsed_metadata: Metadata | None = None


def delivered(reply: str | None = REPLY, delivery: Delivery = DELIVERY) -> Delivered:
    return Delivered("orders.new", 1, reply, b"x", delivery=delivery)


def test_the_payloads() -> None:
    assert (ACK, NAK, IN_PROGRESS, TERM) == (b"+ACK", b"-NAK", b"+WPI", b"+TERM")


@pytest.mark.parametrize(
    ("delay", "payload"),
    [
        (None, b"-NAK"),
        (0, b"-NAK"),
        (0.0, b"-NAK"),
        (1, b'-NAK {"delay": 1000000000}'),
        (0.1, b'-NAK {"delay": 100000000}'),
        (1e-9, b'-NAK {"delay": 1}'),
        (timedelta(minutes=1), b'-NAK {"delay": 60000000000}'),
    ],
)
def test_nak(delay: float | timedelta | None, payload: bytes) -> None:
    assert nak(delay) == payload


@pytest.mark.parametrize(
    ("delay", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), (1e30, ValueError), ("1", TypeError)],
)
def test_a_delay_that_is_none(delay: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="delay"):
        nak(delay)


@pytest.mark.parametrize(
    ("reason", "payload"),
    [
        (None, b"+TERM"),
        ("", b"+TERM"),
        ("cannot be read", b"+TERM cannot be read"),
        ("\u00fc", b"+TERM \xc3\xbc"),
    ],
)
def test_term(reason: str | None, payload: bytes) -> None:
    assert term(reason) == payload


@pytest.mark.parametrize(
    ("reason", "error"),
    [("two\nlines", ValueError), ("\r", ValueError), ("\x00", ValueError), ("\udcff", ValueError), (b"x", TypeError)],
)
def test_a_reason_that_is_none(reason: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="reason"):
        term(reason)


def test_a_message_is_settled_once() -> None:
    message = delivered()
    assert message.ack_subject() == REPLY
    assert not message.settled
    assert message.settle() == REPLY
    assert message.settled
    for again in (message.settle, message.ack_subject):
        with pytest.raises(AlreadyAcknowledgedError, match="sequence 7 of stream 'S', by 'C'"):
            again()


def test_a_failed_publish_can_take_it_back() -> None:
    message = delivered()
    message.settle()
    message.settled = False
    assert message.settle() == REPLY


@pytest.mark.parametrize("reply", [None, "", "_INBOX.x", "$JS.API.STREAM.DELETE.S"])
def test_nothing_goes_to_another_subject(reply: str | None) -> None:
    message = delivered(reply)
    for subject in (message.settle, message.ack_subject):
        with pytest.raises(NotJetStreamMessageError):
            subject()
    assert not message.settled
    with pytest.raises(NotJetStreamMessageError):
        _ = message.metadata


def test_what_cannot_be_parsed_can_be_settled_all_the_same() -> None:
    # A newer server may have a third form: an acknowledgement goes to the subject as it is.
    message = delivered("$JS.ACK.v3")
    assert message.settle() == "$JS.ACK.v3"
    with pytest.raises(AlreadyAcknowledgedError, match=r"acknowledged already$"):
        message.settle()


def test_metadata_is_parsed_once() -> None:
    message = delivered()
    assert message.parsed_metadata is None
    assert message.metadata is message.metadata
    assert message.metadata.num_delivered == 3


@pytest.mark.parametrize(
    ("delivery", "deadline"),
    [
        (DELIVERY, 130.0),
        (Delivery(stream="S", consumer="C"), None),
        (Delivery(stream="S", consumer="C", ack_wait=30.0, acknowledged=False), None),
        (Delivery(stream="S", consumer="C", ack_wait=30.0, backoff=(1.0, 2.0, 5.0, 9.0)), 105.0),
        (Delivery(stream="S", consumer="C", ack_wait=30.0, backoff=(1.0, 2.0)), 102.0),
    ],
)
def test_the_deadline_follows_the_attempt(delivery: Delivery, deadline: float | None) -> None:
    assert delivered(delivery=delivery).deadline == deadline


def test_the_wait_of_each_attempt() -> None:
    delivery = Delivery(stream="S", consumer="C", ack_wait=30.0, backoff=(1.0, 2.0, 5.0))
    assert [delivery.wait(attempt) for attempt in (0, 1, 2, 3, 4, 2**64)] == [1.0, 1.0, 2.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("fields", [{"ack_wait": 0.0}, {"ack_wait": float("nan")}, {"backoff": (1.0, -1.0)}])
def test_waits_that_make_no_sense(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"ack_wait|backoff"):
        Delivery(stream="S", consumer="C", **fields)
