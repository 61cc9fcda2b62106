"""What services tell about themselves (ADR-32), by the names of the wire. Unknown fields are kept.

All three answers begin with the same four fields. Those who write one never leave out ``metadata``, since other
programs stumble over a null; those who read one take a null, and what is missing, for an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from .._json.durations import Seconds, Timestamp
from .._json.read_only import ReadOnlyMapping
from .._json.wire_kinds import Mismatch, is_object, kind_of_json
from .._json.wire_value import WireValue, decode_json, read_wire
from .._limits import shown
from .._wire.frames import Message
from .errors import ServiceDecodeError, service_error

__all__ = [
    "EndpointInfo",
    "EndpointStats",
    "ServiceInfo",
    "ServicePing",
    "ServiceStats",
    "read_answer",
]

NO_METADATA: Final = ReadOnlyMapping[str]({})
NO_TIME: Final = Seconds.from_nanoseconds(0)


class EndpointInfo(WireValue, frozen=True, kw_only=True):
    """An endpoint, as its service tells about it."""

    name: str
    subject: str
    """Where it listens, maybe with wildcards."""
    queue_group: str = ""
    """Empty: it is in none, and each instance gets each request."""
    metadata: Mapping[str, str] = NO_METADATA


class EndpointStats(WireValue, frozen=True, kw_only=True):
    """What an endpoint has done since its service was started, or its counters were reset. Durations are seconds."""

    name: str
    subject: str
    queue_group: str = ""
    num_requests: int = 0
    num_errors: int = 0
    """Requests that were answered with an error, or not at all since the handler raised; and how often the server has
    refused its subscription."""
    last_error: str = ""
    """The last one, as ``code:description``."""
    processing_time: Seconds = NO_TIME
    """Of all handlers together."""
    average_processing_time: Seconds = NO_TIME
    data: object = None
    """What the service's own ``stats_handler`` gives: anything that is JSON."""


class _Identity(WireValue, frozen=True, kw_only=True):
    """What all answers begin with."""

    name: str
    id: str
    """Of this instance alone."""
    version: str
    metadata: Mapping[str, str] = NO_METADATA


class ServicePing(_Identity, frozen=True, kw_only=True):
    """An instance of a service that is there."""

    type: str = "io.nats.micro.v1.ping_response"


class ServiceInfo(_Identity, frozen=True, kw_only=True):
    """An instance of a service, and its endpoints."""

    description: str = ""
    endpoints: Sequence[EndpointInfo] = ()
    type: str = "io.nats.micro.v1.info_response"


class ServiceStats(_Identity, frozen=True, kw_only=True):
    """What the endpoints of an instance have done."""

    started: Timestamp | None = None
    """When it was started, or its counters were reset last."""
    endpoints: Sequence[EndpointStats] = ()
    type: str = "io.nats.micro.v1.stats_response"


_TYPES: Final[Mapping[type[WireValue], str]] = {
    ServicePing: "io.nats.micro.v1.ping_response",
    ServiceInfo: "io.nats.micro.v1.info_response",
    ServiceStats: "io.nats.micro.v1.stats_response",
}

AnswerT = TypeVar("AnswerT", bound=WireValue)


def read_answer(kind: type[AnswerT], message: Message) -> AnswerT:
    """The value in the answer to a monitor. Raises `ServiceError` for an answer that is one, else `ServiceDecodeError`.

    Raises nothing else, whatever the answer is.
    """
    refused = service_error(message)
    if refused is not None:
        raise refused
    try:
        raw = decode_json(message.data)
        if not is_object(raw):
            raise Mismatch(f"must be an object, not {kind_of_json(raw)}")
        told = raw.get("type", _TYPES[kind])
        if told != _TYPES[kind]:
            raise Mismatch(f"must be {_TYPES[kind]!r}, not {shown(told)}").under(".type")
        return read_wire(kind, raw)
    except Mismatch as mismatch:
        raise ServiceDecodeError(f"{kind.__name__} cannot be read: {mismatch}") from None
