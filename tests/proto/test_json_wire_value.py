"""The codec of values that are JSON on the wire: what is taken from users, read from the wire, kept and written."""

from __future__ import annotations

import copy
import dataclasses
import enum
import pickle
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import pytest

from nats_proto._json.durations import Duration, Seconds, Time, Timestamp
from nats_proto._json.read_only import ReadOnlyMapping
from nats_proto._json.wire_kinds import MAX_DEPTH, Mismatch
from nats_proto._json.wire_value import WireValue, decode_json, encode_json, read_wire, to_wire


class Inner(WireValue, frozen=True, kw_only=True):
    src: str
    size: int | None = None


class Outer(WireValue, frozen=True, kw_only=True):
    name: str
    text: str | None = None
    number: int | None = None
    flag: bool | None = None
    wait: Duration | None = None
    since: Time | None = None
    colour: Literal["red", "blue"] | None = None
    texts: Sequence[str] | None = None
    waits: Sequence[Duration] | None = None
    inner: Inner | None = None
    inners: Sequence[Inner] | None = None
    table: Mapping[str, str] | None = None
    counts: Mapping[str, int] | None = None
    count: int = 0


class Colour(enum.StrEnum):
    RED = "red"


SINCE = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "given", "wire"),
    [
        ("text", "", ""),
        ("text", "ü", "ü"),
        ("text", Colour.RED, "red"),
        ("number", 0, 0),
        ("number", -1, -1),
        ("number", 2**64 - 1, 2**64 - 1),
        ("number", -(2**63), -(2**63)),
        ("flag", False, False),
        ("wait", 0, 0),
        ("wait", 1.5, 1_500_000_000),
        ("wait", timedelta(minutes=1), 60_000_000_000),
        ("since", SINCE, "2024-01-01T00:00:00Z"),
        ("colour", "red", "red"),
        ("colour", Colour.RED, "red"),
        ("texts", [], []),
        ("texts", ("a", "b"), ["a", "b"]),
        ("texts", (text for text in "ab"), ["a", "b"]),
        ("waits", [1, timedelta(seconds=2)], [1_000_000_000, 2_000_000_000]),
        ("inner", Inner(src="a"), {"src": "a"}),
        ("inners", [Inner(src="a", size=0)], [{"src": "a", "size": 0}]),
        ("table", {}, {}),
        ("table", {"a": ""}, {"a": ""}),
        ("counts", {"a": 0}, {"a": 0}),
        ("count", 7, 7),
    ],
)
def test_what_is_given_is_written(field: str, given: object, wire: object) -> None:
    value = Outer(name="n", **{field: given})  # type: ignore[arg-type]  # a table of several types
    assert to_wire(value) == {"name": "n", "count": 0, field: wire}
    # And read again, and taken again, it is the same.
    again = read_wire(Outer, decode_json(encode_json(to_wire(value))))
    assert again == value
    assert to_wire(again) == to_wire(value)
    assert msgspec.structs.replace(again, name="n") == value


def test_what_is_not_given_is_not_written() -> None:
    assert to_wire(Outer(name="n")) == {"name": "n", "count": 0}


@pytest.mark.parametrize(
    ("field", "given", "kind", "text"),
    [
        ("name", None, TypeError, "Outer needs name"),
        ("text", b"a", TypeError, r"text must be str, not bytes: decode it, as in text.decode\(\)"),
        ("text", 1, TypeError, "text must be str, not int"),
        ("text", "\ud800", ValueError, "text has a lone surrogate"),
        ("number", True, TypeError, "number must be int, not bool"),
        ("number", 1.0, TypeError, "number must be int, not float"),
        ("number", 2**64, ValueError, "number must be a number of 64 bits: an int of 65 bits"),
        ("number", -(2**63) - 1, ValueError, "number must be a number of 64 bits"),
        ("flag", 1, TypeError, "flag must be bool, not int"),
        ("wait", -1, ValueError, "wait must be from 0"),
        ("since", datetime(2024, 1, 1), ValueError, "since must have a time zone"),
        ("colour", "green", ValueError, "colour must be one of 'red', 'blue', not 'green'"),
        ("colour", 1, TypeError, "colour must be str, not int"),
        ("texts", "a.>", TypeError, r"texts must be a list of them, not str: write texts=\['a.>'\]"),
        ("texts", b"a", TypeError, "texts must be a list, not bytes"),
        ("texts", {"a": 1}, TypeError, "texts must be a list, not dict"),
        ("texts", 7, TypeError, "texts must be a list, not int"),
        ("texts", ["a", 7], TypeError, r"texts\[1\] must be str, not int"),
        ("waits", [1, -1], ValueError, r"waits\[1\] must be from 0"),
        ("inner", {"src": "a"}, TypeError, "inner must be Inner, not dict"),
        ("inners", [Inner(src="a"), None], TypeError, r"inners\[1\] must be Inner, not NoneType"),
        ("table", [("a", "b")], TypeError, "table must be a mapping, not list"),
        ("table", {1: "a"}, TypeError, "a key of table must be str, not int"),
        ("table", {"a": 1}, TypeError, r"table\['a'\] must be str, not int"),
        ("table", {"a": "\udc00"}, ValueError, "has a lone surrogate"),
        ("unknown", {"name": 1}, ValueError, "unknown must not have 'name', which Outer knows"),
        ("unknown", {1: 1}, TypeError, "a key of unknown must be str"),
        ("unknown", [], TypeError, "unknown must be a mapping"),
    ],
)
def test_a_mistake_of_the_user_is_named(field: str, given: object, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        Outer(**{"name": "n", field: given})  # type: ignore[arg-type]  # a table of several types


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_unknown_is_not_nested_too_deep() -> None:
    assert Outer(name="n", unknown={"a": deep(MAX_DEPTH)})
    with pytest.raises(ValueError, match=r"unknown\['a'\] is nested deeper than 32 levels"):
        Outer(name="n", unknown={"a": deep(MAX_DEPTH + 1)})
    assert read_wire(Outer, {"name": "n", "a": deep(MAX_DEPTH)})
    with pytest.raises(Mismatch, match="a is nested deeper than 32 levels"):
        read_wire(Outer, {"name": "n", "a": deep(MAX_DEPTH + 1)})


def test_what_the_user_passed_is_not_changed_and_not_kept() -> None:
    texts, table, unknown = ["a"], {"a": "b"}, {"new": 1}
    value = Outer(name="n", texts=texts, table=table, unknown=unknown)
    texts.append("c")
    table["c"] = "d"
    unknown["newer"] = 2
    assert value.texts == ("a",)
    assert value.table == {"a": "b"}
    assert value.unknown == {"new": 1}
    assert isinstance(value.table, ReadOnlyMapping)
    with pytest.raises(TypeError):
        value.table["x"] = "y"  # type: ignore[index]  # it is what is tested


def test_the_forms_in_which_fields_are_kept() -> None:
    value = Outer(name="n", wait=1, since=SINCE, texts=["a"], waits=[1], table={})
    assert type(value.wait) is Seconds
    assert type(value.since) is Timestamp
    assert type(value.texts) is tuple
    assert value.waits is not None
    assert type(value.waits[0]) is Seconds


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ([], "the answer must be an object, not an array"),
        (None, "the answer must be an object, not null"),
        ({}, "name is missing"),
        ({"name": None}, "name is missing"),
        ({"name": 1}, "name must be a text, not a number"),
        ({"name": "n", "text": ["a"]}, "text must be a text, not an array"),
        ({"name": "n", "number": "1"}, "number must be a whole number, not a text"),
        ({"name": "n", "number": 1.0}, "number must be a whole number, not a number"),
        ({"name": "n", "number": True}, "number must be a whole number, not a boolean"),
        ({"name": "n", "number": 2**64}, "number must be a number of 64 bits"),
        ({"name": "n", "number": -(10**40)}, "number must be a number of 64 bits"),
        ({"name": "n", "flag": 0}, "flag must be true or false, not a number"),
        ({"name": "n", "wait": 1.5}, "wait must be a whole number of nanoseconds, not a number"),
        ({"name": "n", "wait": "1s"}, "wait must be a whole number of nanoseconds, not a text"),
        ({"name": "n", "wait": 10**30}, "wait must be a number of 64 bits"),
        ({"name": "n", "since": 0}, "since must be a time as text, not a number"),
        (
            {"name": "n", "since": "yesterday"},
            "since must be a time of RFC 3339 in the years 1 to 9999, not 'yesterday'",
        ),
        ({"name": "n", "colour": 1}, "colour must be a text, not a number"),
        ({"name": "n", "texts": "a"}, "texts must be an array, not a text"),
        ({"name": "n", "texts": {"a": 1}}, "texts must be an array, not an object"),
        ({"name": "n", "texts": ["a", "b", 3]}, "texts[2] must be a text, not a number"),
        ({"name": "n", "texts": [None]}, "texts[0] must not be null"),
        ({"name": "n", "inner": "a"}, "inner must be an object, not a text"),
        ({"name": "n", "inner": {}}, "inner.src is missing"),
        ({"name": "n", "inner": {"src": True}}, "inner.src must be a text, not a boolean"),
        ({"name": "n", "inners": [{"src": "a"}, {"src": 1}]}, "inners[1].src must be a text, not a number"),
        ({"name": "n", "table": ["a"]}, "table must be an object, not an array"),
        ({"name": "n", "table": {"a": {}}}, "table['a'] must be a text, not an object"),
        ({"name": "n", "counts": {"a": 1, "b": "x"}}, "counts['b'] must be a whole number, not a text"),
        ({"name": "n", "inner": {"src": "a", "x": deep(40)}}, "inner.x is nested deeper than 32 levels"),
    ],
)
def test_what_a_server_sends_and_we_cannot_read(raw: object, text: str) -> None:
    with pytest.raises(Mismatch) as raised:
        read_wire(Outer, raw)
    assert text in str(raised.value)
    assert len(str(raised.value)) < 300


def test_hostile_names_make_no_long_text() -> None:
    with pytest.raises(Mismatch) as raised:
        read_wire(Outer, {"name": "n", "counts": {"x" * 8_000_000: "y" * 8_000_000}})
    assert len(str(raised.value)) < 300
    with pytest.raises(Mismatch) as raised:
        read_wire(Outer, {"name": "n", "x" * 8_000_000: deep(40), "since": "z" * 8_000_000})
    assert len(str(raised.value)) < 300


def test_what_is_unknown_survives_at_every_level() -> None:
    raw = {
        "name": "n",
        "inner": {"src": "a", "newer": {"x": [1, 2.5, "3", False]}},
        "inners": [{"src": "a"}, {"src": "b", "also": [None]}],
        "count": 0,
        "colour": "green",
        "wait": -1,
        "new": {"deep": {"deeper": []}},
        "empty": "",
    }
    value = read_wire(Outer, raw)
    assert to_wire(value) == raw
    assert value.unknown == {"new": {"deep": {"deeper": []}}, "empty": ""}
    # One field is changed, the rest goes back as it came: also what a user could not have given.
    changed = msgspec.structs.replace(value, text="t")
    assert to_wire(changed) == {**raw, "text": "t"}
    assert to_wire(dataclasses.replace(value, text="t")) == {**raw, "text": "t"}


def test_null_and_the_zero_time_are_not_given() -> None:
    raw = {"name": "n", "text": None, "table": {"a": None}, "new": None, "since": "0001-01-01T00:00:00Z"}
    value = read_wire(Outer, raw)
    assert value == Outer(name="n", table={})
    assert value.unknown == {}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_the_same(copied: object) -> None:
    raw = {
        "name": "n",
        "colour": "green",
        "wait": 2**63 - 1,
        "since": "2024-01-01T00:00:00.123456789Z",
        "new": [1],
        "count": 0,
    }
    value = read_wire(Outer, raw)
    assert callable(copied)
    twin = copied(value)
    assert twin == value
    assert to_wire(twin) == raw


def test_the_blank_is_not_shared() -> None:
    first = read_wire(Outer, {"name": "a", "number": 1, "new": 1})
    second = read_wire(Outer, {"name": "b"})
    assert (first.number, second.number) == (1, None)
    assert second.unknown == {}


def test_repr_shows_what_was_given() -> None:
    assert repr(Outer(name="n", wait=1.5, texts=["a"])) == "Outer(name='n', wait=1.5, texts=('a',), count=0)"
    assert repr(Inner(src="a", unknown={"b": 1})) == "Inner(src='a', unknown={'b': 1})"


def test_values_are_compared_and_hashed() -> None:
    assert Outer(name="n", texts=["a"]) == Outer(name="n", texts=("a",))
    assert Outer(name="n", unknown={"a": 1}) != Outer(name="n")
    assert len({Outer(name="n", table={"a": "b"}), Outer(name="n", table={"a": "b"})}) == 1


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"nonsense", b'{"a":}', b"\xff", b'"\xff"', b"[" * 1_000_000, b'{"a":' * 1_000_000),
        *(b"9" * 100_000, b"1e999999", b'"\\ud800"', b"NaN", b"[1,]", b'{"a" 1}', b" "),
    ],
    ids=lambda data: repr(data[:10]),
)
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(Mismatch) as raised:
        decode_json(data)
    assert len(str(raised.value)) <= 300


def test_of_a_key_that_stands_there_twice_the_last_one_counts() -> None:
    assert read_wire(Outer, decode_json(b'{"name":"a","name":"b","text":"x","text":null}')) == Outer(name="b")
