"""What a wrong type gives: one TypeError, with a sentence that says what to write instead, and nothing is changed."""

from __future__ import annotations

import traceback
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import pytest

from nats_proto import Headers, Session
from nats_proto._calls.publish_many import PublishMany
from tests.proto.driver import World
from tests.proto.test_session_misuse import snapshot

PAYLOADS: list[tuple[Any, str]] = [
    ("text", "a payload must be bytes, bytearray or memoryview, not str: encode the text, as in data=text.encode()"),
    ("", "not str: encode the text"),
    (None, "not NoneType: an empty one is b''"),
    (5, "not int: make bytes of it, as in data=json.dumps(value).encode()"),
    ({"a": 1}, "not dict: make bytes of it"),
    ([b"x"], "not list: make bytes of it"),
]
MAPPING = "headers must be a mapping or pairs, as in headers={'Name': 'value'}, not "
PAIRS = "headers must be a mapping or pairs of name and value, not "
HEADERS: list[tuple[Any, str]] = [
    ("A: b", MAPPING + "str"),
    ("", MAPPING + "str"),
    (b"A: b", MAPPING + "bytes"),
    (bytearray(b"A: b"), MAPPING + "bytearray"),
    (5, MAPPING + "int"),
    (True, MAPPING + "bool"),
    ({"n": 1}, "the value of header 'n' must be str, or a list of them, not int: make it text, as in str(value)"),
    ({"n": 1.5}, "not float: make it text"),
    ({"n": b"v"}, "the value of header 'n' must be str, or a list of them, not bytes: decode it, as in value.decode()"),
    ({"n": bytearray(b"v")}, "not bytearray: decode it"),
    (
        {"n": None},
        "the value of header 'n' must be str, or a list of them, not NoneType: leave the header out, or give ''",
    ),
    ({"n": {"x": "y"}}, "the value of header 'n' must be str, or a list of them, not dict: make it text"),
    ({"n": UserDict(x="y")}, "not UserDict: make it text"),
    ({"n": [1, 2]}, "the value of header 'n' must be str, or a list of them, not int: make it text"),
    ({"n": ["a", None]}, "the value of header 'n' must be str, or a list of them, not NoneType: leave"),
    ({"n": [b"a"]}, "not bytes: decode it"),
    ({"n": [["a"]]}, "not list of 1: make it text"),
    ({1: "a"}, "a header name must be str, not int"),
    ({1: 2}, "a header name must be str, not int"),
    ({b"n": "a"}, "a header name must be str, not bytes: decode it, as in name.decode()"),
    ({None: "a"}, "a header name must be str, not NoneType"),
    (["ab"], PAIRS + "str in a list"),
    (["A: b"], PAIRS + "str in a list"),
    ([b"ab"], PAIRS + "bytes in a list"),
    ([("a", "b", "c")], PAIRS + "tuple of 3 in a list"),
    ([("a",)], PAIRS + "tuple of 1 in a list"),
    ([5], PAIRS + "int in a list"),
    ([{"a": "b"}], PAIRS + "dict in a list"),
    ([("a", 5)], "the value of header 'a' must be str"),
    ([("a", b"b")], "not bytes: decode it"),
    ([("a", ["b"])], "the value of header 'a' must be str, or a list of them, not list of 1"),
    ([(b"a", "b")], "a header name must be str, not bytes"),
    (("a", "b"), PAIRS + "str in a list"),
]
IDS = {"ids": lambda value: repr(value)[:40]}


def session_and_state() -> tuple[Session[Any], object]:
    world = World().ready()
    world.session.request("warm")  # so that the inbox is there
    world.session.publish("warm")
    world.pump()
    return world.session, snapshot(world.session)


def refused(call: Any, text: str) -> None:
    with pytest.raises(TypeError) as raised:
        call()
    error = raised.value
    assert type(error) is TypeError
    assert text in str(error)
    assert len(str(error)) < 200
    assert str(error).isprintable()
    assert "During handling" not in "".join(traceback.format_exception(error))
    assert error.__cause__ is None


@pytest.mark.parametrize(("wrong", "text"), PAYLOADS, **IDS)
def test_a_payload_that_is_no_bytes(wrong: Any, text: str) -> None:
    session, before = session_and_state()
    for headers in (None, {"A": "1"}):
        refused(lambda headers=headers: session.publish("a", wrong, headers=headers), text)
        refused(lambda headers=headers: session.publish("warm", wrong, reply="r", headers=headers), text)
        refused(lambda headers=headers: session.request("a", wrong, headers=headers), text)
    refused(lambda: session.publish_many("warm", (wrong,)), text)
    many = PublishMany("warm", [wrong])
    assert many.fetch()
    refused(lambda: many.step(session), text)
    assert snapshot(session) == before


@pytest.mark.parametrize(("wrong", "text"), HEADERS, **IDS)
def test_headers_that_are_none(wrong: Any, text: str) -> None:
    session, before = session_and_state()
    refused(lambda: session.publish("warm", b"x", headers=wrong), text)
    refused(lambda: session.request("warm", b"x", headers=wrong), text)
    refused(lambda: Headers(wrong), text)
    assert snapshot(session) == before


@pytest.mark.parametrize("wrong", [b"a.b", bytearray(b"a.b")], **IDS)
def test_subjects_that_are_bytes(wrong: Any) -> None:
    session, before = session_and_state()
    text = f"subject must be str, not {type(wrong).__name__}: decode it, as in subject.decode()"
    for call in (
        lambda: session.publish(wrong, b"x"),
        lambda: session.publish(wrong, b"x", headers={"A": "1"}),
        lambda: session.publish_many(wrong, (b"x",)),
        lambda: session.request(wrong, b"x"),
        lambda: session.subscribe(wrong),
    ):
        refused(call, text)
    reply = text.replace("subject must", "reply subject must").replace("subject.", "reply.")
    refused(lambda: session.publish("warm", b"x", reply=wrong), reply)
    refused(lambda: session.subscribe("a", queue=wrong), "queue group must be str")
    assert snapshot(session) == before


@pytest.mark.parametrize("wrong", [None, 5, ["a"], object], **IDS)
def test_subjects_that_are_no_text(wrong: Any) -> None:
    session, before = session_and_state()
    text = f"subject must be str, not {type(wrong).__name__}"
    refused(lambda: session.publish(wrong, b"x"), text)
    refused(lambda: session.subscribe(wrong), text)
    assert snapshot(session) == before


@pytest.mark.parametrize(
    "wrong", ["text", b"bytes", bytearray(), memoryview(b"x"), 5, None], ids=lambda wrong: type(wrong).__name__
)
def test_one_payload_in_place_of_many(wrong: Any) -> None:
    refused(lambda: PublishMany("a", wrong), "publish_many: payloads must be an iterable of payloads, not ")


def test_what_a_sequence_of_the_old_kind_gives_is_published() -> None:
    class Old:
        def __getitem__(self, index: int) -> bytes:
            if index > 1:
                raise IndexError
            return b"%d" % index

    world = World().ready()
    many = PublishMany("a", Old())  # type: ignore[arg-type]  # `iter` takes it
    while many.fetch():
        many.step(world.session)
    assert many.taken == 2


def test_what_can_be_told_apart_is_still_taken() -> None:
    def pairs() -> Iterator[tuple[str, str]]:
        yield "A", "1"
        yield "A", "2"

    expected = [("A", "1"), ("A", "2")]
    for given in (
        {"A": ["1", "2"]},
        {"A": ("1", "2")},
        {"A": iter(["1", "2"])},
        UserDict({"A": ["1", "2"]}),
        [("A", "1"), ("A", "2")],
        [["A", "1"], ["A", "2"]],
        pairs(),
        Headers(expected),
    ):
        assert list(Headers(given).items()) == expected  # type: ignore[arg-type]  # more is taken than is promised
