"""How an error of a service is told, and read (ADR-32)."""

from __future__ import annotations

import copy
import pickle
from typing import Any, TypedDict

import msgspec
import pytest

from nats_proto import Headers, Message
from nats_proto._services.codecs import answer_writer, request_reader
from nats_proto._services.errors import MAX_DESCRIPTION, error_headers, error_text, failure_of, service_error
from nats_proto._wire.headers import encode_header_block
from nats_proto.errors import NATSError
from nats_proto.services import InvalidServiceError, ServiceDecodeError, ServiceError, ServiceStoppedError


def answer(headers: dict[str, str] | None, data: bytes = b"") -> Message:
    return Message("_INBOX.1", 1, None, data, None if headers is None else encode_header_block(Headers(headers)))


def test_an_error() -> None:
    error = ServiceError(404, "no such order", b"{}")
    assert (error.code, error.description, error.data, error.outcome) == (404, "no such order", b"{}", "unknown")
    assert str(error) == "404:no such order"
    assert isinstance(error, NATSError)


@pytest.mark.parametrize(
    "error", [ServiceError(4, "x", b"d"), ServiceStoppedError("s"), ServiceDecodeError("d"), InvalidServiceError("i")]
)
def test_errors_can_be_copied(error: Exception) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


@pytest.mark.parametrize("code", ["400", 4.0, None, True])
def test_codes_that_are_no_numbers(code: int) -> None:
    with pytest.raises(TypeError, match="must be int"):
        ServiceError(code, "x")


@pytest.mark.parametrize("code", [-1, 10**9, 10**4000])
def test_codes_out_of_range(code: int) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 999999999"):
        ServiceError(code, "x")


@pytest.mark.parametrize("description", ["", "  ", "\n"])
def test_empty_descriptions(description: str) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        error_headers(400, description)


def test_descriptions_that_are_no_text() -> None:
    with pytest.raises(TypeError, match="must be str, not bytes"):
        ServiceError(400, b"x")  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize(
    ("description", "sent"),
    [
        ("plain", "plain"),
        ("two\r\nlines\x00", "two lines"),
        ("für", "für"),
        ("a\ud800b", "a?b"),
        ("x" * 10_000, "x" * MAX_DESCRIPTION),
    ],
)
def test_a_description_becomes_one_line(description: str, sent: str) -> None:
    headers = error_headers(7, description, {"Trace": "1"})
    assert list(headers.items()) == [("Trace", "1"), ("Nats-Service-Error", sent), ("Nats-Service-Error-Code", "7")]
    assert error_text(7, description) == f"7:{sent}"
    seen = service_error(Message("a", 1, None, b"d", encode_header_block(headers)))
    assert seen is not None
    assert (seen.code, seen.description, seen.data) == (7, sent, b"d")


def test_headers_of_the_user_are_not_changed() -> None:
    given = Headers({"Nats-Service-Error": "old"})
    assert error_headers(1, "new", given)["Nats-Service-Error"] == "new"
    assert given["Nats-Service-Error"] == "old"


@pytest.mark.parametrize("headers", [None, {}, {"Trace": "1"}, {"nats-service-error": "x"}])
def test_answers_that_are_no_errors(headers: dict[str, str] | None) -> None:
    assert service_error(answer(headers)) is None


@pytest.mark.parametrize(
    ("headers", "code", "description"),
    [
        ({"Nats-Service-Error-Code": "503"}, 503, "without a description"),
        ({"Nats-Service-Error": "gone"}, 0, "gone"),
        ({"Nats-Service-Error": "", "Nats-Service-Error-Code": ""}, 0, "without a description"),
        ({"Nats-Service-Error": "x", "Nats-Service-Error-Code": "-5"}, 0, "x"),
        ({"Nats-Service-Error": "x", "Nats-Service-Error-Code": "1e3"}, 0, "x"),
        ({"Nats-Service-Error": "x", "Nats-Service-Error-Code": "٣"}, 0, "x"),
        ({"Nats-Service-Error": "x", "Nats-Service-Error-Code": "9" * 5000}, 0, "x"),
        ({"Nats-Service-Error": "x" * 5000, "Nats-Service-Error-Code": "1"}, 1, "x" * MAX_DESCRIPTION),
    ],
)
def test_errors_of_others(headers: dict[str, str], code: int, description: str) -> None:
    seen = service_error(answer(headers))
    assert seen is not None
    assert (seen.code, seen.description) == (code, description)


def test_a_malformed_header_block() -> None:
    block = b"NATS/1.0\r\n\xff\xfe: \x00\r\nNats-Service-Error: \xff\r\n\r\n"
    seen = service_error(Message("a", 1, None, b"", block))
    assert seen is None or seen.code == 0


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("raised", "code", "description"),
    [
        (ServiceError(409, "taken"), 409, "taken"),
        (KeyError("x"), 500, "'x'"),
        (ValueError(), 500, "ValueError"),
        (ValueError(" \n"), 500, "ValueError"),
        (Silent(), 500, "Silent"),
        (KeyboardInterrupt(), 500, "KeyboardInterrupt"),
    ],
)
def test_what_a_handler_raises(raised: BaseException, code: int, description: str) -> None:
    failure = failure_of(raised)
    assert (failure.code, failure.description) == (code, description)


# --- typed requests and answers --------------------------------------------------------------------------------------


class Order(msgspec.Struct):
    item: str
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count must be positive")


def test_a_request_is_read() -> None:
    assert request_reader(Order)(b'{"item":"book"}') == Order("book")
    assert request_reader(dict[str, int])(b'{"a":1}') == {"a": 1}
    assert request_reader(bytes)(b"\xff") == b"\xff"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b'{"item":1}', b'{"count":1}', b'{"item":"a","count":0}', b"[" * 100_000, b'"\xff"', b"1e999"],
)
def test_a_request_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ServiceError, match="400:the request cannot be read") as caught:
        request_reader(Order)(data)
    assert len(caught.value.description) < 300


def test_a_deep_request() -> None:
    with pytest.raises(ServiceError, match="400:"):
        request_reader(object)(b"[" * 100_000 + b"]" * 100_000)


def test_an_answer_is_written() -> None:
    assert answer_writer(Order)(Order("book", 2)) == b'{"item":"book","count":2}'
    assert answer_writer(list[int])([1]) == b"[1]"
    assert answer_writer(bytes)(b"\xff") == b"\xff"


def test_an_answer_of_another_type() -> None:
    with pytest.raises(TypeError, match="the answer must be Order, not dict"):
        answer_writer(Order)({"item": "book"})  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="the answer must be bytes, not str"):
        answer_writer(bytes)("text")  # type: ignore[arg-type]  # the mistake


class Total(TypedDict):
    sum: int


@pytest.mark.parametrize(("kind", "given"), [(Total, {"sum": 1}), (float, 1), (int | str, 1), (object, 1), (Any, 1)])
def test_answers_of_types_that_are_no_classes(kind: Any, given: object) -> None:
    assert answer_writer(kind)(given) == (b'{"sum":1}' if kind is Total else b"1")


def test_types_that_msgspec_does_not_know() -> None:
    for make in (request_reader, answer_writer):
        with pytest.raises(TypeError):
            make(lambda: None)  # type: ignore[arg-type]  # the mistake
