"""One instance of a service: what it tells about itself, and what it has counted.

Theory of operation
-------------------
An instance listens on nine subjects to monitors: three verbs (PING, INFO, STATS), each for all services, for those of
its name, and for itself alone. These are plain subscriptions and never in a queue group, since each instance has to
answer. Its endpoints listen on subjects of their own, as a rule in a queue group.

`ServiceState` subscribes nothing and calls no handler: a client does, and tells what came of each request. All numbers
are counted here:

    request ──▶ handler ──▶ `EndpointState.count(nanoseconds)`      once, when the handler has returned
                   └──────▶ `EndpointState.count_error(text)`       when it has answered with an error, or has raised
    refused subscription ─▶ `EndpointState.look_at(error)`          as often as somebody looks

Nothing here reads a clock: durations are given, and so is the time of the start. Nothing here is guarded against
threads either: a client for threads has a lock around the counters and around changes of the list of endpoints, and
reads that list, which is replaced as a whole, without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, assert_never

import msgspec

from .._json.durations import Seconds, Timestamp
from .._json.wire_value import WireValue, encode_json, to_wire
from .._permissions import Permissions, permitted
from .._value import Value
from ..errors import NATSError
from .errors import FORBIDDEN, error_text
from .names import (
    DEFAULT_QUEUE_GROUP,
    INHERITED,
    Inherited,
    check_description,
    check_name,
    check_queue_group,
    check_version,
    endpoint_subject,
    group_prefix,
    monitor_subject,
)
from .values import NO_METADATA, EndpointInfo, EndpointStats, ServiceInfo, ServicePing, ServiceStats

__all__ = ["VERBS", "EndpointState", "Place", "ServiceState", "Verb", "plain_data"]

Verb = Literal["PING", "INFO", "STATS"]
VERBS: Final[tuple[Verb, ...]] = ("PING", "INFO", "STATS")


class Place(Value, frozen=True):
    """A service or a group: what its endpoints have in common."""

    prefix: str = ""
    """Of their subjects, with a dot at the end; empty for a service."""
    queue_group: str | None = DEFAULT_QUEUE_GROUP

    def group(self, name: str, queue_group: str | Inherited | None = INHERITED) -> Place:
        """A group in it. Raises `InvalidSubjectError`, `InvalidServiceError`, `TypeError`."""
        return Place(group_prefix(self.prefix, name), check_queue_group(queue_group, self.queue_group))


class EndpointState:
    """One endpoint and its counters."""

    __slots__ = ("_refusal", "info", "last_error", "num_errors", "num_requests", "processing_time", "queue_group")

    def __init__(
        self,
        place: Place,
        name: str,
        *,
        subject: str | None = None,
        queue_group: str | Inherited | None = INHERITED,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Raises `InvalidServiceError`, `InvalidSubjectError`, `TypeError`, `ValueError`."""
        check_name("an endpoint", name)
        self.queue_group: Final = check_queue_group(queue_group, place.queue_group)
        self.info: Final = EndpointInfo(
            name=name,
            subject=endpoint_subject(place.prefix, name if subject is None else subject),
            queue_group=self.queue_group or "",
            metadata=NO_METADATA if metadata is None else metadata,
        )
        self._refusal: NATSError | None = None
        self.reset()

    def reset(self) -> None:
        """Nothing has been counted."""
        self.num_requests = 0
        self.num_errors = 0
        self.processing_time = 0
        self.last_error = ""

    def count(self, nanoseconds: int) -> None:
        """A handler has returned after so long."""
        self.num_requests += 1
        self.processing_time += nanoseconds

    def count_error(self, text: str) -> None:
        """A request was answered with an error, or its handler has raised: ``code:description``."""
        self.num_errors += 1
        self.last_error = text

    def look_at(self, refusal: NATSError | None) -> None:
        """What the server refuses the subscription with; None: it does not. Each refusal counts once, as an error."""
        if refusal is not None and refusal is not self._refusal:
            self._refusal = refusal
            told = f"the server refuses the subscription to {self.info.subject!r}, which gets nothing"
            self.count_error(error_text(FORBIDDEN, told))

    def stats(self, data: object = None) -> EndpointStats:
        """The counters now."""
        requests, nanoseconds = self.num_requests, self.processing_time
        return EndpointStats(
            name=self.info.name,
            subject=self.info.subject,
            queue_group=self.info.queue_group,
            num_requests=requests,
            num_errors=self.num_errors,
            last_error=self.last_error,
            processing_time=Seconds.from_nanoseconds(nanoseconds),
            average_processing_time=Seconds.from_nanoseconds(nanoseconds // requests if requests else 0),
            data=data,
        )


DataOf = Callable[[EndpointState], object]
"""What an endpoint's statistics have as ``data``, as JSON; None: nothing."""


def _no_data(_: EndpointState) -> object:
    return None


class ServiceState:
    """One instance; ``instance`` is its id, made by the client.

    Raises `InvalidServiceError`, `InvalidSubjectError` for a queue group, `TypeError`, `ValueError`.
    """

    def __init__(
        self,
        name: str,
        version: str,
        *,
        instance: str,
        started: Timestamp,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
        queue_group: str | None = DEFAULT_QUEUE_GROUP,
    ) -> None:
        self.ping: Final = ServicePing(
            name=check_name("a service", name),
            id=instance,
            version=check_version(version),
            metadata=NO_METADATA if metadata is None else metadata,
        )
        self.place: Final = Place(queue_group=check_queue_group(queue_group, None))
        self.description: Final = check_description(description)
        self.started = started
        self.endpoints: tuple[EndpointState, ...] = ()

    def add(self, endpoint: EndpointState) -> None:
        """It listens now. Several endpoints may have one name (ADR-32)."""
        self.endpoints = (*self.endpoints, endpoint)

    def remove(self, endpoint: EndpointState) -> None:
        """It takes no more requests, and is told of no more. The second time nothing happens."""
        self.endpoints = tuple(one for one in self.endpoints if one is not endpoint)

    def reset(self, started: Timestamp) -> None:
        """All counters begin anew."""
        self.started = started
        for endpoint in self.endpoints:
            endpoint.reset()

    def info(self) -> ServiceInfo:
        """What it is."""
        ping = self.ping
        return ServiceInfo(
            name=ping.name,
            id=ping.id,
            version=ping.version,
            metadata=ping.metadata,
            description=self.description,
            endpoints=tuple(endpoint.info for endpoint in self.endpoints),
        )

    def stats(self, data_of: DataOf = _no_data) -> ServiceStats:
        """What it has done. ``data_of`` raises nothing."""
        ping = self.ping
        return ServiceStats(
            name=ping.name,
            id=ping.id,
            version=ping.version,
            metadata=ping.metadata,
            started=self.started,
            endpoints=tuple(endpoint.stats(data_of(endpoint)) for endpoint in self.endpoints),
        )

    def monitors(self) -> tuple[tuple[str, Verb], ...]:
        """The subjects it listens on, with what is asked there."""
        name, instance = self.ping.name, self.ping.id
        return tuple(
            (monitor_subject(verb, *which), verb) for verb in VERBS for which in ((), (name,), (name, instance))
        )

    def permissions(self) -> Permissions:
        """What a program needs that offers this service. The id is another one each time."""
        ping = self.ping
        return Permissions(
            subscribe=permitted(
                *((monitor_subject(verb), "monitors of all services") for verb in VERBS),
                *((monitor_subject(verb, ping.name), "monitors of this service") for verb in VERBS),
                *((f"{monitor_subject(verb, ping.name)}.*", "monitors of one instance") for verb in VERBS),
                *((one.info.subject, f"endpoint {one.info.name}") for one in self.endpoints),
            ),
            allow_responses=True,
        )

    def answer(self, verb: Verb, data_of: DataOf = _no_data) -> bytes:
        """The answer to a monitor."""
        match verb:
            case "PING":
                told: WireValue = self.ping
            case "INFO":
                told = self.info()
            case "STATS":
                told = self.stats(data_of)
            case _:
                assert_never(verb)
        return encode_json(to_wire(told))


def plain_data(given: object) -> object:
    """What a ``stats_handler`` gave, as JSON has it. Raises `TypeError` for what JSON has not, `ValueError`."""
    return msgspec.json.decode(msgspec.json.encode(given))
