"""JetStream's values: whatever is sent and received, nothing is lost, and nothing but our errors is raised."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Message
from nats_proto._jetstream.api_answer import compare, decode_answer, from_wire
from nats_proto._jetstream.errors import api_error
from nats_proto._jetstream.pub_ack import decode_pub_ack
from nats_proto._jetstream.read_config import read_config
from nats_proto._jetstream.stored_message import stored_message, stored_message_direct
from nats_proto._json.durations import (
    MAX_NANOSECONDS,
    Seconds,
    Timestamp,
    format_time,
    parse_time,
    take_duration,
    take_time,
)
from nats_proto._json.wire_kinds import (
    Choice,
    DurationKind,
    Flag,
    Integer,
    Items,
    Kind,
    Table,
    Text,
    TimeKind,
)
from nats_proto._json.wire_value import Nested, WireValue, decode_json, encode_json, plan_of, to_wire
from nats_proto.jetstream import (
    AccountInfo,
    ApiError,
    ConsumerConfig,
    ConsumerInfo,
    JetStreamDecodeError,
    JetStreamError,
    PubAck,
    StreamConfig,
    StreamInfo,
)

kinds = st.sampled_from([StreamConfig, ConsumerConfig, StreamInfo, ConsumerInfo, AccountInfo])

YEARS = 253_402_300_800
"""Seconds from 1970 to the end of the year 9999."""
nanoseconds = st.integers(0, MAX_NANOSECONDS)
moments = st.integers(-62_135_596_800 * 10**9 + 1, YEARS * 10**9 - 1)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)

not_null = json_values.filter(lambda value: value is not None)
new_names = st.text(max_size=5).map(lambda name: f"new_{name}")


# --- durations and times ---------------------------------------------------------------------------------------------


@given(nanoseconds)
def test_a_duration_of_the_wire_goes_back_as_it_came(number: int) -> None:
    value = from_wire(StreamConfig, {"name": "A", "max_age": number})
    assert to_wire(value)["max_age"] == number
    assert isinstance(value.max_age, Seconds)
    assert take_duration("max_age", value.max_age).nanoseconds == number
    assert Fraction(value.max_age) == Fraction(number / 10**9)


@given(st.floats(0, MAX_NANOSECONDS // 10**9))
def test_a_float_of_seconds_is_the_nearest_nanosecond_to_what_is_written(seconds: float) -> None:
    taken = take_duration("max_age", seconds).nanoseconds
    written = Fraction(repr(seconds)) * 10**9
    assert abs(taken - written) <= Fraction(1, 2) or (taken == 1 and 0 < written < 1)
    assert bool(taken) == bool(seconds)


@given(st.timedeltas(timedelta(0), timedelta(microseconds=MAX_NANOSECONDS // 1000)))
def test_a_timedelta_is_exact(delta: timedelta) -> None:
    assert take_duration("max_age", delta).nanoseconds == delta // timedelta(microseconds=1) * 1000


@given(moments)
def test_a_time_goes_back_as_it_came(number: int) -> None:
    time = Timestamp.from_nanoseconds(number)
    text = format_time(time)
    again = parse_time(text)
    assert again is not None
    assert again.nanoseconds == number
    assert again == time
    value = from_wire(ConsumerConfig, {"pause_until": text})
    assert to_wire(value) == {"pause_until": text}


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),
    st.integers(0, 999_999_999),
    st.integers(0, 9),
    st.integers(-23 * 60 - 59, 23 * 60 + 59) | st.none(),
)
def test_any_time_of_rfc_3339_is_read(day: datetime, beyond: int, digits: int, offset: int | None) -> None:
    whole = day.replace(microsecond=0)
    fraction = f"{beyond:09}"[:digits]
    zone = "Z" if offset is None else f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    time = parse_time(f"{whole.isoformat()}{'.' if digits else ''}{fraction}{zone}")
    assert time is not None
    expected = whole.replace(tzinfo=timezone(timedelta(minutes=offset or 0))).astimezone(UTC)
    assert time.replace(microsecond=0) == expected
    assert time.nanoseconds % 10**9 == int(fraction.ljust(9, "0"))
    assert parse_time(format_time(time)) == time


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.timezones()))
def test_a_time_of_the_user_is_the_same_moment(moment: datetime) -> None:
    taken = take_time("pause_until", moment)
    assert taken.astimezone(UTC) == moment.astimezone(UTC)
    assert (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=taken.nanoseconds // 1000)) == taken


@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", fullmatch=True))
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    try:
        time = parse_time(text)
    except ValueError:
        return
    assert time is None or parse_time(format_time(time)) == time


# --- round trips -----------------------------------------------------------------------------------------------------


@functools.cache
def wire_of(kind: Kind) -> st.SearchStrategy[object]:
    """What a server may send for a field of this kind, as we would write it ourselves."""
    match kind:
        case Nested():
            return objects_of(kind.kind)
        case Items():
            return st.lists(wire_of(kind.kind), max_size=2)
        case Table():
            return st.dictionaries(st.text(max_size=5), wire_of(kind.kind), max_size=2)
        case Text():
            return st.text(max_size=5)
        case Flag():
            return st.booleans()
        case Choice():
            return st.sampled_from(kind.choices) | st.text(max_size=5)
        case DurationKind():
            return st.integers(-1, MAX_NANOSECONDS)
        case TimeKind():
            return moments.map(lambda number: format_time(Timestamp.from_nanoseconds(number)))
        case Integer():
            return st.integers(-(2**63), 2**64 - 1)
        case _:
            return not_null


@st.composite
def objects_of(draw: st.DrawFn, kind: type[WireValue]) -> object:
    """An object with what must be there, some of what may be, and something that we do not know."""
    plan = plan_of(kind)
    names = sorted(plan.required | draw(st.sets(st.sampled_from(sorted(plan.kinds)), max_size=4)))
    known = {name: draw(wire_of(plan.kinds[name])) for name in names}
    return {**known, **draw(st.dictionaries(new_names, not_null, max_size=1))}


def is_within(inner: object, outer: object) -> bool:
    """Whether all that is in ``inner`` is in ``outer``, where defaults may stand beside it."""
    if isinstance(inner, Mapping) and isinstance(outer, Mapping):
        return all(name in outer and is_within(value, outer[name]) for name, value in inner.items())
    if isinstance(inner, list) and isinstance(outer, list):
        return len(inner) == len(outer) and all(map(is_within, inner, outer))
    return inner == outer and type(inner) is type(outer)


@given(kinds, st.data())
def test_nothing_is_lost_at_any_level(kind: type[WireValue], data: st.DataObject) -> None:
    """Row 44 of what users demand: known, unknown, zero and empty; all of it survives reading and writing."""
    raw = data.draw(objects_of(kind))
    value = from_wire(kind, decode_json(encode_json(raw)))
    written = to_wire(value)
    if kind in (StreamConfig, ConsumerConfig):
        assert written == raw  # and nothing else is sent
    assert is_within(raw, written)
    assert from_wire(kind, decode_json(encode_json(written))) == value
    assert compare(value, value) == ()


# --- hostile servers -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def only(kind: type[Exception], beginning: str = "") -> Iterator[None]:
    """Nothing else is raised, and with no endless text."""
    try:
        yield
    except kind as error:
        text = str(error)
        if len(text) > 1000 or not text.startswith(beginning):
            pytest.fail(text[:2000])


def message(data: bytes) -> Message:
    return Message(subject="_INBOX.a.b", sid=1, reply=None, data=data)


@given(kinds, json_values)
def test_any_json_is_read_or_refused(kind: type[WireValue], raw: object) -> None:
    with only(JetStreamDecodeError):
        value = from_wire(kind, raw)
        assert from_wire(kind, to_wire(value)) == value


@given(kinds, st.data())
def test_an_answer_with_one_thing_wrong_is_read_or_refused(kind: type[WireValue], data: st.DataObject) -> None:
    raw = data.draw(objects_of(kind))
    node = raw
    while isinstance(node, (dict, list)) and node:
        step = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[step], (dict, list)) or not node[step] or data.draw(st.booleans()):
            node[step] = data.draw(json_values)
            break
        node = node[step]
    body = json.dumps(raw).encode("utf-8", "surrogatepass")
    with only(JetStreamError, "call: "):
        decode_answer("call", message(body), kind)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_answer_or_one_error(data: bytes) -> None:
    assert isinstance(decode_pub_ack("publish", message(data)), (PubAck, JetStreamError, type(None)))
    with contextlib.suppress(JetStreamError):
        decode_answer("call", message(data), StreamInfo)
    with contextlib.suppress(JetStreamDecodeError):
        stored_message_direct("get", Message(subject="a", sid=1, reply=None, data=b"", header_block=data))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("stream", "domain", "val", "batch"), json_values | st.text()),
            **dict.fromkeys(("seq", "count"), json_values | st.integers()),
            "duplicate": json_values,
            "error": json_values,
        },
    )
)
def test_any_acknowledgement_is_one_or_none(raw: dict[str, object]) -> None:
    ack = decode_pub_ack("publish", message(json.dumps(raw).encode("utf-8", "surrogatepass")))
    if isinstance(ack, PubAck):
        assert ack.stream
        assert 0 <= ack.sequence < 2**64
        assert ack.sequence or not ack.duplicate


@given(
    json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(("code", "err_code", "description"), json_values))
)
def test_any_error_of_an_answer_is_an_error(raw: object) -> None:
    error = api_error("call", raw)
    assert isinstance(error, (ApiError, JetStreamDecodeError))
    assert str(error).startswith("call: ")
    assert str(error).isprintable()


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("subject", "seq", "time", "data", "hdrs"), json_values | st.text() | st.integers())
    )
)
def test_any_stored_message_is_read_or_refused(raw: object) -> None:
    with only(JetStreamDecodeError, "get: "):
        stored_message("get", raw)


# --- users -----------------------------------------------------------------------------------------------------------

anything = json_values | st.binary(max_size=3) | st.timedeltas() | st.datetimes() | st.dates() | st.complex_numbers()


@pytest.mark.parametrize("kind", [StreamConfig, ConsumerConfig])
@given(st.data())
def test_what_a_user_gives_is_taken_or_named(kind: type[StreamConfig | ConsumerConfig], data: st.DataObject) -> None:
    names = [name for name in kind.__struct_fields__ if name != "unknown"]
    fields = data.draw(st.dictionaries(st.sampled_from(names), anything, max_size=3))
    name = fields.pop("name", "A")
    try:
        config = read_config(kind, None, name, fields)  # type: ignore[arg-type, type-var]  # it is what is tested
    except (TypeError, ValueError):
        return
    assert decode_json(encode_json(to_wire(config))) == to_wire(config)
    assert from_wire(kind, to_wire(config)) == config
