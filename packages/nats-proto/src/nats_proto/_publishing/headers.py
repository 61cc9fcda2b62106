"""Options of a publish, as the headers that JetStream knows them by.

What a server would refuse for its form is refused here, before anything is sent, with the option named. What only a
server can know (whether the stream allows schedules, whether a time zone exists) is left to it.

Rules: ADR-43 (times to live), ADR-49 (counters), ADR-51 (schedules).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, TypedDict

from .._json.durations import DurationLike, Time, format_time, take_duration, take_time
from .._limits import check_count, shown
from .._wire.frames import Payload
from .._wire.headers import Headers, HeadersLike
from .._wire.subjects import encode_subject, validate_subscription_subject

__all__ = ["PublishOptions", "message_id", "publish_headers"]

MSG_ID: Final = "Nats-Msg-Id"
EXPECTED_LAST_SEQUENCE: Final = "Nats-Expected-Last-Sequence"
EXPECTED_LAST_SUBJECT_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_MSG_ID: Final = "Nats-Expected-Last-Msg-Id"
SCHEDULE: Final = "Nats-Schedule"

MAX_INCREMENT_BITS: Final = 4096
"""Of a counter's increment. Counters have no limit of their own, but Python writes no number of 4,300 digits and more,
and a header that is much longer than this may be more than a server takes."""

_CRON_FIELDS: Final = 6
_CRON_NAMES: Final = frozenset(
    {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"},
)


class PublishOptions(TypedDict, total=False):
    """What ``publish`` takes beside the message. Every option may also be None, which is the same as not given."""

    msg_id: str | None
    """The stream stores a message of this id once within its ``duplicate_window``."""
    expected_stream: str | None
    """Store it in this stream only: else `WrongStreamError`."""
    expected_last_sequence: int | None
    """The stream's last sequence must be this one, 0 for an empty stream: else `WrongLastSequenceError`."""
    expected_last_subject_sequence: int | None
    """The same for the last message of this subject."""
    expected_last_subject_sequence_subject: str | None
    """Take the last message of this subject, which may have wildcards, for the option above."""
    expected_last_msg_id: str | None
    """The stream's last message must have this id: else `WrongLastMsgIdError`."""
    ttl: DurationLike | Literal["never"] | None
    """How long it lives, from 1 second on, or ``"never"`` for no end. Servers count whole seconds: a fraction is
    rounded up."""
    rollup: Literal["sub", "all"] | None
    """Remove all earlier messages, of the subject or of the whole stream."""
    increment: int | None
    """Add so much to the counter of this subject. The message has no payload."""
    deliver_at: Time | None
    """Hold the message back until then (aware), and publish it to ``schedule_target``."""
    every: DurationLike | None
    """Publish it again and again with this interval, from 1 second on, to ``schedule_target``."""
    cron: str | None
    """The same at the times that six fields of cron say (seconds first), or ``"@hourly"`` and the like."""
    time_zone: str | None
    """Whose times ``cron`` means, such as ``"Europe/Zurich"``; UTC by default."""
    schedule_target: str | None
    """Where a schedule publishes to: a subject of the same stream, not that of the message itself."""
    schedule_source: str | None
    """Publish the last message of this subject instead."""
    schedule_ttl: DurationLike | Literal["never"] | None
    """``ttl`` of what a schedule publishes."""
    schedule_rollup: Literal["sub"] | None
    """``rollup`` of what a schedule publishes."""
    cancel_schedule: str | None
    """End the schedule that this subject holds, if this message is stored. Its own subject must be another one."""


def publish_headers(
    subject: str, data: Payload, headers: HeadersLike | None, options: PublishOptions
) -> Headers | None:
    """The headers of a message with these options, None when there are none. ``headers`` themselves stay as they are.

    Raises `ValueError` for what a server would refuse: a value out of its range, a time without a zone, options that
    exclude each other, and a header that an option would set a second time. `TypeError` for a value of the wrong type
    and an option that does not exist, `InvalidSubjectError` for what is no subject.
    """
    made = None if headers is None else Headers(headers)
    if not options:
        return made
    given: dict[str, object] = {name: value for name, value in options.items() if value is not None}
    if unknown := options.keys() - _HEADERS.keys():
        raise _no_such_option(unknown)
    lines = {name: _HEADERS[name][1](name, value) for name, value in given.items()}
    _check_together(subject, data, given)
    for name, text in lines.items():
        header = _HEADERS[name][0]
        made = Headers() if made is None else made
        if header in made:
            raise ValueError(f"{name}: the headers that were given have {header} already")
        made.add(header, text)
    if made is not None and "cancel_schedule" in given:
        made.add("Nats-Schedule-Next", "purge")
    return made


def message_id(headers: Headers | None) -> str | None:
    """By what a stream knows this message again, if it has anything of the kind."""
    return None if headers is None else headers.get(MSG_ID)


# --- each option by itself -------------------------------------------------------------------------------------------


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    # Blanks around a header's value do not survive the way: the server would see another text.
    if not value or value.strip(" \t") != value:
        raise ValueError(f"{name} must not be empty, nor have blanks around it: {shown(value)}")
    return value


def _sequence(name: str, value: object) -> str:
    return str(check_count(name, value, least=0))  # type: ignore[arg-type]  # it refuses what is no int


def _literal_subject(name: str, value: object) -> str:
    encode_subject(value, name)  # type: ignore[arg-type]  # it refuses what is no str
    return _text(name, value)


def _filter(name: str, value: object) -> str:
    text = _text(name, value)
    validate_subscription_subject(text)
    return text


def _interval(name: str, value: object) -> int:
    """Nanoseconds, from one second on."""
    nanoseconds = take_duration(name, value).nanoseconds
    if nanoseconds < 1_000_000_000:
        raise ValueError(f"{name} must be at least 1 second: {shown(value)}")
    return nanoseconds


def _ttl(name: str, value: object) -> str:
    if isinstance(value, str):
        if value != "never":
            raise ValueError(f"{name} must be seconds, a timedelta or 'never': {shown(value)}")
        return value
    # Rounded up: the server would round down, and remove the message earlier than its publisher said.
    return str(-(-_interval(name, value) // 1_000_000_000))


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def checked(name: str, value: object) -> str:
        if value not in choices:
            raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}: {shown(value)}")
        return str(value)

    return checked


def _increment(name: str, value: object) -> str:
    if type(value) is not int:
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if value.bit_length() > MAX_INCREMENT_BITS:
        raise ValueError(f"{name} must have at most {MAX_INCREMENT_BITS} bits: {shown(value)}")
    return f"{value:+d}"


def _at(name: str, value: object) -> str:
    return f"@at {format_time(take_time(name, value))}"


def _every(name: str, value: object) -> str:
    whole, fraction = divmod(_interval(name, value), 1_000_000_000)
    return f"@every {whole}s" if not fraction else f"@every {whole * 1_000_000_000 + fraction}ns"


def _cron(name: str, value: object) -> str:
    text = _text(name, value)
    if text.startswith(("@at ", "@every ")):
        raise ValueError(f"{name} is for fields of cron; deliver_at= and every= make such a schedule: {shown(text)}")
    fields = text.split(" ")
    if text not in _CRON_NAMES and (len(fields) != _CRON_FIELDS or "" in fields or "\t" in text):
        names = ", ".join(sorted(_CRON_NAMES))
        raise ValueError(f"{name} must have six fields, seconds first, or be one of {names}: {shown(text)}")
    return text


_HEADERS: Final[Mapping[str, tuple[str, Callable[[str, object], str]]]] = {
    "msg_id": (MSG_ID, _text),
    "expected_stream": ("Nats-Expected-Stream", _text),
    "expected_last_sequence": (EXPECTED_LAST_SEQUENCE, _sequence),
    "expected_last_subject_sequence": (EXPECTED_LAST_SUBJECT_SEQUENCE, _sequence),
    "expected_last_subject_sequence_subject": ("Nats-Expected-Last-Subject-Sequence-Subject", _filter),
    "expected_last_msg_id": (EXPECTED_LAST_MSG_ID, _text),
    "ttl": ("Nats-TTL", _ttl),
    "rollup": ("Nats-Rollup", _one_of("sub", "all")),
    "increment": ("Nats-Incr", _increment),
    "deliver_at": (SCHEDULE, _at),
    "every": (SCHEDULE, _every),
    "cron": (SCHEDULE, _cron),
    "time_zone": ("Nats-Schedule-Time-Zone", _text),
    "schedule_target": ("Nats-Schedule-Target", _literal_subject),
    "schedule_source": ("Nats-Schedule-Source", _literal_subject),
    "schedule_ttl": ("Nats-Schedule-TTL", _ttl),
    "schedule_rollup": ("Nats-Schedule-Rollup", _one_of("sub")),
    "cancel_schedule": ("Nats-Scheduler", _literal_subject),
}
"""Each option's header, and what checks its value and writes it."""

# --- options together ------------------------------------------------------------------------------------------------

_SCHEDULES: Final = ("deliver_at", "every", "cron")
_OF_SCHEDULES: Final = ("time_zone", "schedule_target", "schedule_source", "schedule_ttl", "schedule_rollup")
_NOT_FOR_COUNTERS: Final = (
    *("rollup", "expected_stream", "expected_last_msg_id"),
    *("expected_last_sequence", "expected_last_subject_sequence"),
    *_SCHEDULES,
)


def _check_together(subject: str, data: Payload, given: Mapping[str, object]) -> None:
    if "expected_last_subject_sequence_subject" in given and "expected_last_subject_sequence" not in given:
        raise ValueError(
            "expected_last_subject_sequence_subject says whose last sequence is meant: give "
            "expected_last_subject_sequence as well"
        )
    if "increment" in given:
        _exclude("increment", _NOT_FOR_COUNTERS, given)
        if len(data):
            raise ValueError("increment: the message of a counter has no payload")
    schedules = [name for name in _SCHEDULES if name in given]
    if len(schedules) > 1:
        raise ValueError(f"{' and '.join(schedules)} exclude each other: a message has one schedule")
    if schedules:
        _check_schedule(subject, schedules[0], given)
    else:
        for name in _OF_SCHEDULES:
            if name in given:
                raise ValueError(f"{name} is for a schedule: give deliver_at, every or cron as well")
    if given.get("cancel_schedule") == subject:
        raise ValueError("cancel_schedule names the subject of another message: this one would be removed with it")


def _check_schedule(subject: str, schedule: str, given: Mapping[str, object]) -> None:
    _exclude(schedule, ("cancel_schedule",), given)
    target, source = given.get("schedule_target"), given.get("schedule_source")
    if target is None:
        raise ValueError(f"{schedule}: schedule_target says where to publish it to, and is missing")
    if target == subject:
        raise ValueError("schedule_target must be another subject than that of the message, which holds the schedule")
    if source is not None and source in (target, subject):
        raise ValueError("schedule_source must be another subject than those of the message and of its target")
    if "time_zone" in given and schedule != "cron":
        raise ValueError(f"time_zone is for cron; {schedule} means the same moment in every zone")
    if given.get("rollup") == "all":
        raise ValueError(f"{schedule}: rollup='all' would remove every other schedule; servers allow 'sub' alone")


def _exclude(name: str, others: Iterable[str], given: Mapping[str, object]) -> None:
    for other in others:
        if other in given:
            raise ValueError(f"{name} and {other} exclude each other")


def _no_such_option(unknown: Iterable[str]) -> TypeError:
    from difflib import get_close_matches  # for an error alone

    known: Sequence[str] = sorted(_HEADERS)
    sentences: list[str] = []
    for name in sorted(map(str, unknown)):
        near = get_close_matches(name, known, n=1)
        sentences.append(
            f"publish has no option {name[:64]!r}: "
            + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")
        )
    return TypeError("; ".join(sentences))
