"""What the reply subject of a delivered message tells, and that nothing else is taken for one (H66)."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._jetstream.errors import NotJetStreamMessageError
from nats_proto._jetstream.metadata import Metadata, parse_ack_subject

V1 = "$JS.ACK.ORDERS.billing.2.107.41.1700000000123456789.5"
V2 = "$JS.ACK.hub.Ahash.ORDERS.billing.2.107.41.1700000000123456789.5"
BIGGEST = 2**64 - 1


def test_both_forms_tell_the_same() -> None:
    first = parse_ack_subject(V1)
    assert (first.stream, first.consumer, first.domain) == ("ORDERS", "billing", None)
    assert (first.num_delivered, first.stream_sequence, first.consumer_sequence, first.num_pending) == (2, 107, 41, 5)
    assert first.timestamp.nanoseconds == 1700000000123456789
    assert first.timestamp.isoformat() == "2023-11-14T22:13:20.123456+00:00"
    for subject in (V2, f"{V2}.random", f"{V2}.more.and.more"):
        second = parse_ack_subject(subject)
        assert second.domain == "hub"
        assert [getattr(second, name) for name in first.__struct_fields__ if name != "domain"] == [
            getattr(first, name) for name in first.__struct_fields__ if name != "domain"
        ]


def test_an_underscore_is_no_domain() -> None:
    assert parse_ack_subject(V2.replace("hub", "_")) == parse_ack_subject(V1)


def test_the_largest_numbers() -> None:
    metadata = parse_ack_subject(f"$JS.ACK.S.C.{BIGGEST}.{BIGGEST}.{BIGGEST}.{BIGGEST}.{BIGGEST}")
    assert metadata.num_delivered == metadata.num_pending == metadata.timestamp.nanoseconds == BIGGEST
    assert parse_ack_subject("$JS.ACK.S.C.0.0.0.0.0").timestamp.nanoseconds == 0


def test_metadata_can_be_pickled() -> None:
    metadata = parse_ack_subject(V2)
    copy: Metadata = pickle.loads(pickle.dumps(metadata))
    assert copy == metadata
    assert copy.timestamp.nanoseconds == metadata.timestamp.nanoseconds


@pytest.mark.parametrize(
    "subject",
    [
        None,
        "",
        "$JS.ACK",
        "$JS.ACK.",
        "$JS.ACK.S.C.1.1.1.1",  # eight tokens
        "$JS.ACK.S.C.1.1.1.1.1.1",  # ten: neither form
        "$JS.ACK.S.C.1.1.1.1.1.",
        "$JS.ACK.d.h.S.C.1.1.1.1",
        "$JS.ACK.d.h.S.C.1.1.1.1.x",
        "$JS.ACK.d.h.S.C.1.1.1.1.1x",
        "$JS.ACK..C.1.1.1.1.1",
        "$JS.ACK.S..1.1.1.1.1",
        "$JS.ACK.S.C.-1.1.1.1.1",
        "$JS.ACK.S.C.+1.1.1.1.1",
        "$JS.ACK.S.C.1.1.1.1.1_0",
        "$JS.ACK.S.C.1.1.1.0x1.1",
        "$JS.ACK.S.C.1.1.1.1e3.1",
        "$JS.ACK.S.C.1.1.1.1. 1",
        f"$JS.ACK.S.C.{BIGGEST + 1}.1.1.1.1",
        f"$JS.ACK.S.C.1.1.1.{BIGGEST + 1}.1",
        f"$JS.ACK.S.C.1.1.1.1.{'9' * 21}",
        f"$JS.ACK.S.C.1.1.1.1.{'9' * 100_000}",
        "$JS.ACK.S.C.1.1.1.1.\u0661",  # a digit, and not of ASCII
        "$JS.ACK.S.C.1.1.1.1.\u00b2",
        "$JS.ACK.S.C.1.1.1.1.1\udcff",  # what is not UTF-8 comes so from the parser
        "$JS.ACK.S.C.1.1.1.1.1\n",
        "$js.ack.S.C.1.1.1.1.1",
        "x$JS.ACK.S.C.1.1.1.1.1",
        "$JS.FC.S.C.1.1.1.1.1",
        "_INBOX.abc.def",
        "." * 4000,
    ],
)
def test_anything_else_is_refused(subject: str | None) -> None:
    with pytest.raises(NotJetStreamMessageError) as raised:
        parse_ack_subject(subject)
    assert len(str(raised.value)) < 2000
    assert str(raised.value).isascii()


def test_names_may_be_any_text() -> None:
    metadata = parse_ack_subject("$JS.ACK.\udcff\u00e9.C.1.1.1.1.1")
    assert metadata.stream == "\udcff\u00e9"


@given(
    st.lists(
        st.sampled_from(["$JS", "ACK", "S", "", "1", "-1", "9" * 30, "\udcff", "_", " "]) | st.text(max_size=5),
        max_size=16,
    )
)
def test_any_subject_is_parsed_or_refused(tokens: list[str]) -> None:
    for subject in (".".join(tokens), ".".join(["$JS", "ACK", *tokens])):
        try:
            metadata = parse_ack_subject(subject)
        except NotJetStreamMessageError:
            continue
        assert subject.count(".") == 8 or subject.count(".") >= 10
        assert 0 <= metadata.num_pending <= BIGGEST
