"""One instance of a service: its answers to monitors and its counters (ADR-32)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nats_proto import Headers, Message
from nats_proto._json.durations import Timestamp
from nats_proto._services.state import VERBS, EndpointState, Place, ServiceState, plain_data
from nats_proto._services.values import read_answer
from nats_proto._wire.headers import encode_header_block
from nats_proto.errors import InvalidSubjectError, NATSError
from nats_proto.services import (
    EndpointInfo,
    InvalidServiceError,
    ServiceDecodeError,
    ServiceError,
    ServiceInfo,
    ServicePing,
    ServiceStats,
    Verb,
)

STARTED = Timestamp.from_nanoseconds(1_700_000_000_123_456_789)
KINDS: dict[Verb, Any] = {"PING": ServicePing, "INFO": ServiceInfo, "STATS": ServiceStats}


def service(**fields: Any) -> ServiceState:
    return ServiceState("orders", "1.2.0", instance="X1", started=STARTED, **fields)


def told(state: ServiceState, verb: Verb) -> Any:
    return read_answer(KINDS[verb], message(state.answer(verb)))


def message(data: bytes, headers: dict[str, str] | None = None) -> Message:
    return Message("_INBOX.1", 1, None, data, None if headers is None else encode_header_block(Headers(headers)))


def test_where_it_listens() -> None:
    subjects = [subject for subject, _ in service().monitors()]
    assert subjects == [
        f"$SRV.{verb}{rest}" for verb in ("PING", "INFO", "STATS") for rest in ("", ".orders", ".orders.X1")
    ]
    assert [verb for _, verb in service().monitors()] == [verb for verb in VERBS for _ in range(3)]


def test_the_answers_of_a_service_without_endpoints() -> None:
    same: dict[str, object] = {"name": "orders", "id": "X1", "version": "1.2.0", "metadata": {}}
    state = service()
    assert json.loads(state.answer("PING")) == {**same, "type": "io.nats.micro.v1.ping_response"}
    assert json.loads(state.answer("INFO")) == {
        **same, "type": "io.nats.micro.v1.info_response", "description": "", "endpoints": [],
    }  # fmt: skip
    assert json.loads(state.answer("STATS")) == {
        **same, "type": "io.nats.micro.v1.stats_response", "started": "2023-11-14T22:13:20.123456789Z", "endpoints": [],
    }  # fmt: skip


def test_the_answers_of_a_service_with_endpoints() -> None:
    state = service(description="orders", metadata={"region": "eu"}, queue_group="workers")
    create = EndpointState(state.place.group("v1"), "create", metadata={"schema": "1"})
    audit = EndpointState(state.place, "audit", subject="audit.>", queue_group=None)
    state.add(create)
    state.add(audit)
    create.count(10)
    create.count(5)
    create.count_error("404:no such order")
    info = told(state, "INFO")
    assert info.description == "orders"
    assert info.metadata == {"region": "eu"}
    assert info.endpoints == (
        EndpointInfo(name="create", subject="v1.create", queue_group="workers", metadata={"schema": "1"}),
        EndpointInfo(name="audit", subject="audit.>", queue_group=""),
    )
    first, second = told(state, "STATS").endpoints
    assert (first.name, first.subject, first.queue_group) == ("create", "v1.create", "workers")
    assert (first.num_requests, first.num_errors, first.last_error) == (2, 1, "404:no such order")
    assert (first.processing_time.nanoseconds, first.average_processing_time.nanoseconds) == (15, 7)
    assert (second.num_requests, second.num_errors, second.last_error, second.data) == (0, 0, "", None)
    assert json.loads(state.answer("STATS"))["endpoints"][1]["average_processing_time"] == 0


def test_a_refused_subscription_counts_once() -> None:
    endpoint = EndpointState(service().place, "create")
    first, second = NATSError("refused"), NATSError("refused")
    for refusal in (None, first, first, None, first, second, second):
        endpoint.look_at(refusal)
    assert (endpoint.stats().num_errors, endpoint.stats().num_requests) == (2, 0)
    assert endpoint.stats().last_error.startswith("403:the server refuses the subscription to 'create'")


def test_the_permissions_of_a_service() -> None:
    state = service()
    state.add(EndpointState(state.place.group("v1"), "create", subject="create.*"))
    permissions = state.permissions()
    assert permissions.allow_responses
    assert not permissions.publish
    subjects = [str(one) for one in permissions.subscribe]
    assert len(subjects) == 10
    assert {"$SRV.PING", "$SRV.INFO.orders", "$SRV.STATS.orders.*", "v1.create.*"} <= {*subjects}


def test_an_endpoint_is_removed() -> None:
    state = service()
    twins = [EndpointState(state.place, "create") for _ in range(2)]
    for endpoint in twins:
        state.add(endpoint)
    state.remove(twins[0])
    state.remove(twins[0])
    assert state.endpoints == (twins[1],)
    assert len(told(state, "INFO").endpoints) == 1


def test_reset() -> None:
    state = service()
    endpoint = EndpointState(state.place, "create")
    state.add(endpoint)
    endpoint.count(10)
    endpoint.count_error("500:x")
    later = Timestamp.from_nanoseconds(STARTED.nanoseconds + 1_000_000)  # they are compared as datetimes
    state.reset(later)
    stats = state.stats()
    assert stats.started == later
    assert stats.endpoints == (endpoint.stats(),)
    assert endpoint.stats() == EndpointState(state.place, "create").stats()


def test_data_of_the_program() -> None:
    state = service()
    state.add(EndpointState(state.place, "create"))
    stats = json.loads(state.answer("STATS", lambda endpoint: {"name": endpoint.info.name}))
    assert stats["endpoints"][0]["data"] == {"name": "create"}


def test_data_is_made_plain() -> None:
    assert plain_data({"a": (1, 2)}) == {"a": [1, 2]}
    with pytest.raises(TypeError):
        plain_data(object())


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: service(metadata={"a": 1}), TypeError),
        (lambda: service(metadata="a"), TypeError),
        (lambda: service(description=None), TypeError),
        (lambda: service(queue_group="a b"), InvalidSubjectError),
        (lambda: ServiceState("a b", "1.2.0", instance="X", started=STARTED), InvalidServiceError),
        (lambda: ServiceState("a", "1.2", instance="X", started=STARTED), InvalidServiceError),
        (lambda: EndpointState(Place(), "a.b"), InvalidServiceError),
        (lambda: EndpointState(Place(), "a", subject="a b"), InvalidSubjectError),
        (lambda: EndpointState(Place(), "a", metadata={1: "b"}), TypeError),  # type: ignore[dict-item]
    ],
)
def test_what_cannot_be(make: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_what_was_given_can_be_changed_later() -> None:
    metadata = {"region": "eu"}
    state = service(metadata=metadata)
    metadata["region"] = "us"
    assert told(state, "PING").metadata == {"region": "eu"}


def test_no_queue_group() -> None:
    state = service(queue_group=None)
    assert EndpointState(state.place, "a").queue_group is None
    assert EndpointState(state.place.group("b", "q2"), "a").queue_group == "q2"


# --- reading what others answer --------------------------------------------------------------------------------------

PING = {"type": "io.nats.micro.v1.ping_response", "name": "a", "id": "X", "version": "1.0.0"}


def test_nulls_and_unknown_fields_of_others() -> None:
    ping = read_answer(ServicePing, message(json.dumps({**PING, "metadata": None, "region": "eu"}).encode()))
    assert (ping.metadata, ping.unknown) == ({}, {"region": "eu"})
    stats = {**PING, "type": "io.nats.micro.v1.stats_response", "started": "0001-01-01T00:00:00Z", "endpoints": None}
    assert read_answer(ServiceStats, message(json.dumps(stats).encode())).started is None


INFO_TYPE = "io.nats.micro.v1.info_response"
HOSTILE: list[tuple[Any, bytes]] = [
    (ServicePing, b""),
    (ServicePing, b"null"),
    (ServicePing, b"[]"),
    (ServicePing, b"\xff"),
    (ServicePing, b"{"),
    (ServicePing, b"[" * 100_000),
    (ServicePing, json.dumps({**PING, "type": "io.nats.micro.v1.info_response"}).encode()),
    (ServicePing, json.dumps({**PING, "type": ["x"] * 1000}).encode()),
    (ServicePing, json.dumps({**PING, "name": None}).encode()),
    (ServicePing, json.dumps({**PING, "id": 7}).encode()),
    (ServicePing, json.dumps({**PING, "metadata": {"a": 1}}).encode()),
    (ServicePing, json.dumps({**PING, "more": json.loads("[" * 40 + "]" * 40)}).encode()),
    (ServiceInfo, json.dumps({**PING, "type": INFO_TYPE, "endpoints": [1]}).encode()),
    (
        ServiceInfo,
        json.dumps({**PING, "type": "io.nats.micro.v1.info_response", "endpoints": [{"name": "a"}]}).encode(),
    ),
    (ServiceStats, json.dumps({**PING, "type": "io.nats.micro.v1.stats_response", "started": "soon"}).encode()),
    (
        ServiceStats,
        b'{"name":"a","id":"X","version":"1","endpoints":[{"name":"a","subject":"a","num_requests":1'
        + b"0" * 400
        + b"}]}",
    ),
]


@pytest.mark.parametrize(("kind", "data"), HOSTILE)
def test_hostile_answers(kind: Any, data: bytes) -> None:
    with pytest.raises(ServiceDecodeError, match="cannot be read") as caught:
        read_answer(kind, message(data))
    assert len(str(caught.value)) < 500


def test_an_answer_that_is_an_error() -> None:
    refused = message(b"", {"Nats-Service-Error": "busy", "Nats-Service-Error-Code": "503"})
    with pytest.raises(ServiceError, match="503:busy"):
        read_answer(ServicePing, refused)


# --- the schemas of the NATS project ---------------------------------------------------------------------------------

SCHEMAS = os.environ.get("NATS_SCHEMAS")


@pytest.mark.skipif(SCHEMAS is None, reason="NATS_SCHEMAS names no folder of schemas")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("full", [False, True])
def test_answers_are_as_the_schemas_have_them(verb: Verb, full: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert SCHEMAS is not None
    state = service(description="all", metadata={"a": "b"}) if full else service()
    if full:
        for queue_group in ("q", None):
            endpoint = EndpointState(state.place, "create", queue_group=queue_group, metadata={"a": "b"})
            state.add(endpoint)
            endpoint.count(7)
            endpoint.count_error("500:x")
    answer = json.loads(state.answer(verb, lambda _: {"load": 1.5} if full else None))
    schema = json.loads(Path(SCHEMAS, "micro", f"{verb.lower()}_response.json").read_bytes())
    jsonschema.Draft7Validator(schema).validate(answer)
