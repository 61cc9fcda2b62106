"""What a JetStream server writes: messages, statuses, errors, times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

__all__ = [
    "EPOCH",
    "ApiFailure",
    "Sent",
    "block_of",
    "duration_text",
    "headers_of",
    "matches",
    "nanoseconds",
    "status",
    "time_text",
    "virtual_time",
    "within",
]

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The date at virtual time 0."""
EPOCH_NS: Final = 1_767_225_600_000_000_000


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of the server: ``to`` decides who gets it, ``subject`` is what it says of itself."""

    to: str
    subject: str
    reply: str | None
    block: bytes | None
    data: bytes


ERRORS: Final[dict[int, tuple[int, str]]] = {
    10003: (400, "bad request"),
    10008: (503, "JetStream system temporarily unavailable"),
    10014: (404, "consumer not found"),
    10025: (400, "invalid JSON: {}"),
    10037: (404, "no message found"),
    10043: (400, "sequence {} not found"),
    10054: (400, "message size exceeds maximum allowed"),
    10056: (400, "stream name in subject does not match request"),
    10058: (400, "stream name already in use with a different configuration"),
    10059: (404, "stream not found"),
    10060: (400, "expected stream does not match"),
    10065: (400, "subjects overlap with an existing stream"),
    10070: (400, "wrong last msg ID: {}"),
    10071: (400, "wrong last sequence: {}"),
    10012: (500, "{}"),
    10013: (400, "consumer name already in use"),
    10052: (500, "{}"),
    10057: (500, "{}"),
    10074: (500, "replicas > 1 not supported in non-clustered mode"),
    10077: (503, "{}"),
    10082: (400, "consumer requires ack policy for max ack pending"),
    10083: (400, "consumer idle heartbeat needs to be >= 100ms"),
    10084: (400, "consumer in pull mode requires explicit ack policy on workqueue stream"),
    10086: (400, "consumer in pull mode can not have rate limit set"),
    10088: (400, "consumer idle heartbeat requires a push based consumer"),
    10089: (400, "consumer flow control requires a push based consumer"),
    10090: (400, "consumer direct requires a push based consumer"),
    10094: (400, "{}"),
    10098: (400, "workqueue stream requires explicit ack"),
    10099: (400, "multiple non-filtered consumers not allowed on workqueue stream"),
    10100: (400, "filtered consumer not unique on workqueue stream"),
    10101: (400, "consumer must be deliver all on workqueue stream"),
    10108: (400, "consumer with flow control also needs heartbeats"),
    10110: (500, "{}"),
    10111: (500, "rollup not permitted"),
    10116: (400, "max deliver is required to be > length of backoff values"),
    10131: (400, "Consumer create request did not match filtered subject from create subject"),
    10136: (400, "consumer cannot have both FilterSubject and FilterSubjects specified"),
    10137: (400, "consumer with multiple subject filters cannot use subject based API"),
    10138: (400, "consumer subject filters cannot overlap"),
    10139: (400, "consumer filter in FilterSubjects cannot be empty"),
    10148: (400, "consumer already exists"),
    10149: (400, "consumer does not exist"),
    10158: (409, "duplicate message id is in process"),
    10159: (400, "Setting PriorityPolicy requires at least one PriorityGroup to be set"),
    10160: (400, "Provided priority group does not exist for this consumer"),
    10161: (400, "Group name cannot be an empty string"),
    10162: (
        400,
        "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not exceed 16 characters",
    ),
    10164: (400, "wrong last sequence"),
    10174: (400, "atomic publish is disabled"),
    10175: (400, "atomic publish sequence is missing"),
    10176: (400, "atomic publish batch is incomplete"),
    10178: (400, "priority groups can not be used with push consumers"),
    10193: (400, "missing sequence for expected last sequence per subject"),
    10196: (400, "consumer can not have priority groups when policy is none"),
    10204: (400, "invalid reset: {}"),
    10205: (400, "batch publish is disabled"),
    10206: (400, "batch publish pattern is invalid"),
    10208: (400, "batch publish ID unknown"),
}


class ApiFailure(Exception):
    """The server refuses: ``fields`` is the ``error`` of the answer."""

    def __init__(self, err_code: int, detail: object = "") -> None:
        code, text = ERRORS[err_code]
        self.fields = {"code": code, "err_code": err_code, "description": text.replace("{}", str(detail))}
        super().__init__(self.fields["description"])


def status(code: int, text: str, fields: Mapping[str, object] | None = None) -> bytes:
    """The header block of a status."""
    return block_of(fields or {}, f"NATS/1.0 {code} {text}".rstrip())


def block_of(fields: Mapping[str, object], first: str = "NATS/1.0") -> bytes:
    """A header block with one line for each field."""
    return "".join([first, "\r\n", *(f"{name}: {value}\r\n" for name, value in fields.items()), "\r\n"]).encode()


def headers_of(block: bytes | None) -> dict[str, str]:
    """The first value of each header, by its name; the status line under the empty name."""
    if block is None:
        return {}
    first, *lines = block.decode().split("\r\n")
    fields = {"": first.removeprefix("NATS/1.0").strip()}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name, value.strip())
    return fields


def added(block: bytes | None, fields: Mapping[str, object]) -> bytes:
    """The block with these fields behind its own."""
    more = block_of(fields)
    return more if block is None else block[:-2] + more.partition(b"\r\n")[2]


@lru_cache(10_000)  # a stream is searched again and again, for the same few patterns
def matches(pattern: str, subject: str) -> bool:
    """Whether a subject, or a narrower pattern, lies within a pattern."""
    if pattern == subject:
        return True
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def within(patterns: Sequence[str], subject: str) -> bool:
    """Whether a subject lies within one of the patterns."""
    for pattern in patterns:  # noqa: SIM110 (asked for each message of a stream: a generator would take most of the time)
        if matches(pattern, subject):
            return True
    return False


def overlap(one: str, other: str) -> bool:
    """Whether some subject lies within both patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object of a request; an empty one for nothing."""
    if not data.strip():
        return {}
    try:
        value = json.loads(data)
    except ValueError:
        raise ApiFailure(10025, "...") from None
    if not isinstance(value, dict):
        raise ApiFailure(10025, "...")
    return value


# --- time ------------------------------------------------------------------------------------------------------------


def nanoseconds(now: float) -> int:
    """Since 1970, of a virtual time."""
    return EPOCH_NS + round(now * 1e9)


def time_text(now: float) -> str:
    """As the server writes a virtual time."""
    whole = EPOCH + timedelta(seconds=int(now))
    fraction = f"{nanoseconds(now) % 1_000_000_000:09}".rstrip("0")
    return whole.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"


def virtual_time(text: str) -> float:
    """Of a time as clients write it; microseconds are enough here."""
    head, _, tail = text.removesuffix("Z").partition(".")
    fraction = tail.partition("+")[0]
    when = datetime.fromisoformat(head.partition("+")[0]).replace(tzinfo=UTC)
    return (when - EPOCH).total_seconds() + (float("0." + fraction) if fraction else 0.0)


def duration_text(ns: int) -> str:
    """As Go writes a duration."""
    if ns < 1_000_000_000:
        return f"{ns / 1e6:g}ms" if ns >= 1_000_000 else f"{ns / 1e3:g}µs"
    minutes, rest = divmod(ns, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1e9:g}s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds
