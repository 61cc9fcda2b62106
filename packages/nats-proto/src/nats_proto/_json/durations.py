"""Durations and times: exact to the nanosecond as on the wire, and usable as Python's own types.

JetStream counts durations in nanoseconds (a signed number of 64 bits) and writes times as RFC 3339 with up to nine
digits of a second's fraction. A ``float`` of seconds is exact to the nanosecond for about a hundred days only, and a
`datetime` knows microseconds. So both are kept as subclasses of these types, which have the exact number beside them:
what came from a server goes back to it unchanged.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self, SupportsIndex

from .._limits import is_number, shown

__all__ = [
    "DURATION",
    "MAX_NANOSECONDS",
    "Duration",
    "DurationLike",
    "Seconds",
    "Time",
    "Timestamp",
    "format_time",
    "parse_time",
    "take_duration",
    "take_time",
]

DURATION: Final = "duration"
"""The mark of a `Duration` among annotations."""
Duration = Annotated[float, DURATION]
"""A field that is a duration: seconds as int or float, or a `timedelta`; kept as `Seconds`."""
DurationLike = float | timedelta
"""What a user may give for a duration: seconds, or a `timedelta`."""
Time = datetime
"""A field that is a time: an aware `datetime`; kept as `Timestamp`. (This module alone imports `datetime`, whose
``now`` reads a clock.)"""

MAX_NANOSECONDS: Final = 2**63 - 1
"""The longest duration of the wire, 292 years."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)
"""What servers, written in Go, have for "no time"."""


class Seconds(float):
    """A duration in seconds. ``nanoseconds`` is the exact number; what is calculated from it is a plain float."""

    __slots__ = ("_nanoseconds",)
    _nanoseconds: int

    def __new__(cls, seconds: DurationLike = 0.0) -> Self:
        return cls.from_nanoseconds(_nanoseconds_of("a duration", seconds))

    @classmethod
    def from_nanoseconds(cls, nanoseconds: int) -> Self:
        """Of any number: servers have special ones below 0, too."""
        made = float.__new__(cls, nanoseconds / 1_000_000_000)
        made._nanoseconds = nanoseconds
        return made

    @property
    def nanoseconds(self) -> int:
        """The same duration, exactly."""
        return self._nanoseconds

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return Seconds.from_nanoseconds, (self._nanoseconds,)


class Timestamp(datetime):
    """A time in UTC. ``nanoseconds`` is the exact number; as a `datetime` it is cut to microseconds."""

    # The nanoseconds behind the last whole microsecond. What the arithmetic of `datetime` makes does not have them.
    __slots__ = ("_beyond",)
    _beyond: int

    @classmethod
    def from_nanoseconds(cls, nanoseconds: int) -> Self:
        """Of nanoseconds since 1970. `ValueError` outside of the years 1 to 9999."""
        try:
            moment = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
        except OverflowError:
            raise ValueError("a time must be in the years 1 to 9999") from None
        return cls.of(moment, nanoseconds % 1000)

    @classmethod
    def of(cls, moment: datetime, beyond: int = 0) -> Self:
        """``moment``, which must be in UTC, and so many nanoseconds more (0 to 999)."""
        day, clock = moment.date(), moment.time()
        made = cls(
            *(day.year, day.month, day.day, clock.hour, clock.minute, clock.second, clock.microsecond), tzinfo=UTC
        )
        made._beyond = beyond
        return made

    @property
    def nanoseconds(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z, exactly."""
        since = _since_epoch(self)
        whole = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
        return whole + getattr(self, "_beyond", 0)

    # The pickle of a `datetime` has no nanoseconds. Copies are made in this way as well.
    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        if self.tzinfo is None:
            clock = (self.hour, self.minute, self.second, self.microsecond)
            return Timestamp, (self.year, self.month, self.day, *clock)
        return Timestamp.from_nanoseconds, (self.nanoseconds,)


def take_duration(name: str, given: object) -> Seconds:
    """What a user gave for the duration ``name``: seconds, or a `timedelta`.

    Raises `TypeError` for what is neither, `ValueError` for NaN, for less than 0 and for more than 292 years.
    """
    if type(given) is Seconds:
        return given
    return Seconds.from_nanoseconds(_nanoseconds_of(name, given))


def take_time(name: str, given: object) -> Timestamp:
    """What a user gave for the time ``name``. `TypeError` for what is no `datetime`, `ValueError` for one without a
    time zone, and for one that has no place among the years 1 to 9999 of UTC."""
    if not isinstance(given, datetime):
        raise TypeError(f"{name} must be a datetime, not {type(given).__name__}")
    if given.utcoffset() is None:
        raise ValueError(f"{name} must have a time zone, as in datetime.now(timezone.utc): {shown(given)}")
    if isinstance(given, Timestamp) and given.tzinfo is UTC:
        return given
    try:
        moment = given.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} must be in the years 1 to 9999 of UTC: {shown(given)}") from None
    return Timestamp.of(moment, 0)


# The digits are ASCII alone: `\d` would take those of other scripts.
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
).fullmatch


def parse_time(text: str) -> Timestamp | None:
    """A time of RFC 3339; None for Go's zero time. `ValueError` for what is none, and for years beyond 1 to 9999."""
    found = _TIME(text)
    if found is None:
        raise ValueError("no time of RFC 3339")
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    beyond = int(fraction.ljust(9, "0")) if fraction else 0
    numbers = (int(year), int(month), int(day), int(hour), int(minute), int(second), beyond // 1000)
    moment = datetime(*numbers, tzinfo=UTC)
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise ValueError("no offset of RFC 3339")
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        try:
            moment = moment - offset if sign == "+" else moment + offset
        except OverflowError:
            raise ValueError("a time must be in the years 1 to 9999 of UTC") from None
    if moment == _ZERO_TIME and not beyond:
        return None
    return Timestamp.of(moment, beyond % 1000)


def format_time(time: Timestamp) -> str:
    """As servers write it: UTC, with as many digits of the fraction as there are."""
    fraction = f"{time.nanoseconds % 1_000_000_000:09}".rstrip("0")
    # Not `strftime`, whose years have fewer than four digits on some systems.
    return f"{time.replace(microsecond=0, tzinfo=None).isoformat()}{'.' if fraction else ''}{fraction}Z"


def _since_epoch(moment: datetime) -> timedelta:
    return moment - _EPOCH


def _nanoseconds_of(name: str, given: object) -> int:
    if isinstance(given, timedelta):
        exact = (given.days * 86_400 + given.seconds) * 1_000_000_000 + given.microseconds * 1000
    elif is_number(given):
        assert isinstance(given, (int, float))
        if given != given or given in (float("inf"), float("-inf")):
            raise ValueError(f"{name} must be a finite number of seconds, not {given!r}")
        exact = int(given) * 1_000_000_000 if isinstance(given, int) else _exactly(given)
    else:
        raise TypeError(f"{name} must be seconds as int or float, or a timedelta, not {type(given).__name__}")
    if not 0 <= exact <= MAX_NANOSECONDS:
        raise ValueError(f"{name} must be from 0 to {MAX_NANOSECONDS // 10**9} seconds: {shown(given)}")
    return exact


def _exactly(seconds: float) -> int:
    """The nanoseconds that a float means: 123456789.123 is written so, and is no such number in binary.

    Half a nanosecond and less is one nanosecond all the same, since 0 often means "for ever".
    """
    mantissa, _, power = repr(float(seconds)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits, shift = int(whole + fraction), int(power or 0) - len(fraction) + 9
    if shift >= 0:
        return digits * int(10**shift)
    unit = int(10**-shift)
    rounded = (abs(digits) + unit // 2) // unit
    if seconds > 0:
        return rounded or 1
    return -rounded if rounded or not seconds else -1
