"""Durations and times of JetStream: what a user may give, what the wire has, exact to the nanosecond."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest

from nats_proto._json.durations import (
    MAX_NANOSECONDS,
    Seconds,
    Timestamp,
    format_time,
    parse_time,
    take_duration,
    take_time,
)

EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("given", "nanoseconds"),
    [
        *((0, 0), (0.0, 0), (-0.0, 0), (1, 1_000_000_000), (30, 30_000_000_000), (1.5, 1_500_000_000)),
        *((0.1, 100_000_000), (0.3, 300_000_000), (0.1 + 0.2, 300_000_000), (1e-9, 1), (2.5e-7, 250)),
        *((1.5e-9, 2), (1.4e-9, 1), (4e-10, 1), (5e-324, 1), (0.123456789, 123_456_789)),
        # What was written, and not what the nearest binary number is.
        *((123456789.123, 123_456_789_123_000_000), (86400.000000001, 86_400_000_000_001)),
        *((1e9, 10**18), (9.0e9, 9 * 10**18), (9_223_372_036, 9_223_372_036 * 10**9)),
        *((timedelta(0), 0), (timedelta(microseconds=1), 1000), (timedelta(days=1), 86_400 * 10**9)),
        (timedelta(days=100_000, microseconds=7), 100_000 * 86_400 * 10**9 + 7000),
        (Seconds(1.5), 1_500_000_000),
        # A server's special number was checked when it was read, and goes back.
        (Seconds.from_nanoseconds(-1), -1),
        (Seconds.from_nanoseconds(MAX_NANOSECONDS), MAX_NANOSECONDS),
    ],
)
def test_a_duration_is_exact(given: object, nanoseconds: int) -> None:
    taken = take_duration("max_age", given)
    assert type(taken) is Seconds
    assert taken.nanoseconds == nanoseconds
    assert taken == nanoseconds / 1e9


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ("30s", TypeError, "max_age must be seconds as int or float, or a timedelta, not str"),
        (True, TypeError, "not bool"),
        (None, TypeError, "not NoneType"),
        (datetime.min, TypeError, "not datetime"),
        (-1, ValueError, "max_age must be from 0 to 9223372036 seconds: -1"),
        (-1e-9, ValueError, "must be from 0"),
        (-1e-12, ValueError, "must be from 0"),
        (timedelta(microseconds=-1), ValueError, "must be from 0"),
        (float("nan"), ValueError, "max_age must be a finite number of seconds, not nan"),
        (float("inf"), ValueError, "not inf"),
        (float("-inf"), ValueError, "not -inf"),
        (9_223_372_037, ValueError, "9223372037"),
        (1e300, ValueError, "1e[+]300"),
        (10**1000, ValueError, "an int of 3322 bits"),
        (timedelta.max, ValueError, "must be from 0"),
    ],
)
def test_what_is_no_duration(given: object, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        take_duration("max_age", given)


def test_a_duration_is_a_number_of_seconds() -> None:
    seconds = Seconds(1.5)
    assert seconds == 1.5
    assert repr(seconds) == "1.5"
    assert type(seconds * 2) is float
    assert Seconds(timedelta(minutes=1)) == 60.0
    with pytest.raises(AttributeError):
        seconds.nanoseconds = 1  # type: ignore[misc]  # it is what is tested


@pytest.mark.parametrize("nanoseconds", [-1, 0, 1, 1_500_000_000, MAX_NANOSECONDS])
def test_copies_of_durations_are_exact(nanoseconds: int) -> None:
    seconds = Seconds.from_nanoseconds(nanoseconds)
    for twin in (copy.copy(seconds), copy.deepcopy(seconds), pickle.loads(pickle.dumps(seconds))):
        assert type(twin) is Seconds
        assert twin.nanoseconds == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds", "written"),
    [
        ("1970-01-01T00:00:00Z", 0, None),
        ("1970-01-01T00:00:00.000000001Z", 1, None),
        ("1969-12-31T23:59:59.999999999Z", -1, None),
        ("2024-02-29T12:34:56.789Z", 1_709_210_096_789_000_000, None),
        ("2024-02-29T12:34:56.000000123Z", 1_709_210_096_000_000_123, None),
        ("0001-01-01T00:00:00.000000001Z", -62_135_596_800 * 10**9 + 1, None),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_800 * 10**9 - 1, None),
        ("1970-01-01T05:30:00+05:30", 0, "1970-01-01T00:00:00Z"),
        ("1969-12-31T16:00:00.5-08:00", 500_000_000, "1970-01-01T00:00:00.5Z"),
        ("1970-01-01t00:00:00z", 0, "1970-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00-00:00", 0, "1970-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00.100000000Z", 100_000_000, "1970-01-01T00:00:00.1Z"),
    ],
)
def test_a_time_is_exact(text: str, nanoseconds: int, written: str | None) -> None:
    time = parse_time(text)
    assert time is not None
    assert time.nanoseconds == nanoseconds
    assert time.utcoffset() == timedelta(0)
    assert format_time(time) == (written or text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0001-01-01T01:00:00.000+01:00"])
def test_the_zero_time_is_none(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2024-01-01", "2024-01-01T00:00:00", "2024-01-01 00:00:00Z", " 2024-01-01T00:00:00Z"),
        *("2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:60Z"),
        *("0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z", "2024-01-01T00:00:00.Z"),
        *("2024-01-01T00:00:00.1234567890Z", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+00:60"),
        *(
            "2024-01-01T00:00:00+0100",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2024-01-01T00:00:00Z\n",
        ),
        # Digits, but no ASCII.
        *("٢٠٢٤-01-01T00:00:00Z", "2" * 100_000),
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


@pytest.mark.parametrize(
    ("given", "nanoseconds"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 5, 30, tzinfo=EAST), 0),
        (datetime(2024, 2, 29, 12, 34, 56, 789_000, tzinfo=UTC), 1_709_210_096_789_000_000),
        (Timestamp.from_nanoseconds(123_456_789), 123_456_789),
        (Timestamp.from_nanoseconds(123_456_789).astimezone(EAST), 123_456_000),
        (Timestamp(1970, 1, 1, tzinfo=UTC), 0),
    ],
)
def test_a_time_of_the_user_is_kept_in_utc(given: datetime, nanoseconds: int) -> None:
    taken = take_time("opt_start_time", given)
    assert type(taken) is Timestamp
    assert taken.tzinfo is UTC
    assert taken == given
    assert taken.nanoseconds == nanoseconds


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (datetime(2024, 1, 1), ValueError, "opt_start_time must have a time zone"),
        (Timestamp(2024, 1, 1), ValueError, "must have a time zone"),
        (datetime.min.replace(tzinfo=EAST), ValueError, "years 1 to 9999 of UTC"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), ValueError, "years 1 to 9999 of UTC"),
        ("2024-01-01T00:00:00Z", TypeError, "opt_start_time must be a datetime, not str"),
        (0, TypeError, "not int"),
        (datetime(2024, 1, 1).date(), TypeError, "not date"),
    ],
)
def test_what_is_no_time_of_a_user(given: object, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        take_time("opt_start_time", given)


@pytest.mark.parametrize("nanoseconds", [0, 1, -1, 1_709_210_096_000_000_123, 253_402_300_800 * 10**9 - 1])
def test_copies_of_times_are_exact(nanoseconds: int) -> None:
    time = Timestamp.from_nanoseconds(nanoseconds)
    for twin in (copy.copy(time), copy.deepcopy(time), pickle.loads(pickle.dumps(time))):
        assert type(twin) is Timestamp
        assert twin == time
        assert twin.nanoseconds == nanoseconds


def test_a_copy_of_a_time_without_a_zone() -> None:
    time = Timestamp(2024, 1, 2, 3, 4, 5, 6)
    assert copy.copy(time) == time


def test_the_arithmetic_of_times_is_that_of_datetime() -> None:
    time = Timestamp.from_nanoseconds(1_000_000_001)
    later = time + timedelta(seconds=1)
    assert later == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert take_time("t", later).nanoseconds == 2_000_000_000
    assert later - time == timedelta(seconds=1)


@pytest.mark.parametrize("nanoseconds", [-(10**20), 10**21, 10**40])
def test_a_number_beyond_the_years_of_a_datetime(nanoseconds: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        Timestamp.from_nanoseconds(nanoseconds)
