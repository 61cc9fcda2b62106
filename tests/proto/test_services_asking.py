"""A request to a service: what is sent for a value, and what an answer is read to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Headers, Message
from nats_proto._services.asking import ServiceRequest
from nats_proto._services.codecs import answer_writer, request_reader
from nats_proto._services.errors import error_headers
from nats_proto._wire.headers import encode_header_block
from nats_proto.services import ServiceDecodeError, ServiceError


class Order(msgspec.Struct):
    item: str
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count must be positive")


def answer(data: bytes, headers: Headers | None = None) -> Message:
    return Message("_INBOX.1", 1, None, data, None if headers is None else encode_header_block(headers))


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (b"ab", b"ab"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (Order("book"), b'{"item":"book","count":1}'),
        ({"item": "book"}, b'{"item":"book"}'),
        ("text", b'"text"'),
        (None, b"null"),
        ([1, 2], b"[1,2]"),
    ],
)
def test_what_is_sent(value: object, sent: bytes) -> None:
    asked = ServiceRequest("a", value, None)
    assert (asked.data, type(asked.data)) == (sent, bytes)


@pytest.mark.parametrize(("value", "kind"), [(object(), None), ({1j: 1}, bytes), (b"", 5)])
def test_what_msgspec_does_not_know_is_refused(value: object, kind: Any) -> None:
    with pytest.raises(TypeError):
        ServiceRequest("a", value, kind)


def test_answers() -> None:
    assert ServiceRequest("a", b"", None).read(answer(b"{")) == b"{"
    assert ServiceRequest("a", b"", bytes).read(answer(b"{")) == b"{"
    assert ServiceRequest("a", b"", int).read(answer(b"7")) == 7
    assert ServiceRequest("a", b"", list[Order]).read(answer(b'[{"item":"book"}]')) == [Order("book")]
    assert ServiceRequest("a", b"", Order).read(answer(b'{"item":"b"}', Headers({"Trace": "1"}))) == Order("b")


@pytest.mark.parametrize("data", [b"", b"{", b'{"item":7}', b'{"item":"b","count":0}', b"\xff", b"[" * 100_000])
def test_answers_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ServiceDecodeError, match=r"the answer from 'orders\.create' cannot be read: ") as raised:
        ServiceRequest("orders.create", b"", Order).read(answer(data))
    assert raised.value.outcome == "unknown"
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("kind", [None, bytes, Order])
def test_an_answer_that_is_an_error(kind: Any) -> None:
    with pytest.raises(ServiceError) as raised:
        ServiceRequest("a", b"", kind).read(answer(b"more", error_headers(404, "no such order")))
    assert (raised.value.code, raised.value.description, raised.value.data) == (404, "no such order", b"more")


VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Order, st.builds(Order, item=st.text(), count=st.integers(1, 2**60))),
    (list[int], st.lists(st.integers(-(2**60), 2**60))),
    (bytes, st.binary()),
    (dict[str, float], st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False))),
]


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=lambda one: str(one)[:20])
@given(data=st.data())
def test_both_sides_understand_each_other(kind: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    value = data.draw(values)
    asked = ServiceRequest("a", value, kind)
    assert request_reader(kind)(asked.data) == value
    assert asked.read(answer(answer_writer(kind)(value))) == value
