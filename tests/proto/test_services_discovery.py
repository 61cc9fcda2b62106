"""What asking for services comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Message
from nats_proto._services.discovery import MAX_FAILURES, STALL, TIMEOUT, Question, Sought
from nats_proto._wire.headers import encode_header_block
from nats_proto.services import (
    InvalidServiceError,
    ServiceDecodeError,
    ServiceError,
    ServiceInfo,
    ServicePing,
    ServiceStats,
)

GOOD = b'{"name":"orders","id":"X1","version":"1.2.0","metadata":null}'


@pytest.mark.parametrize(
    ("sought", "kind", "subject", "max_msgs"),
    [
        (Sought(), ServicePing, "$SRV.PING", None),
        (Sought(name="orders"), ServiceInfo, "$SRV.INFO.orders", None),
        (Sought(name="orders", instance="X1"), ServiceStats, "$SRV.STATS.orders.X1", 1),
    ],
)
def test_what_is_asked(sought: Sought, kind: type[Any], subject: str, max_msgs: int | None) -> None:
    sought.check()
    question = Question(sought, kind)
    assert (question.subject, question.max_msgs) == (subject, max_msgs)
    assert (question.timeout, question.stall) == (TIMEOUT, STALL)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Sought(name="a.b"), InvalidServiceError),
        (lambda: Sought(instance="X"), ValueError),
        (lambda: Sought(timeout=0), ValueError),
        (lambda: Sought(timeout="1"), TypeError),  # type: ignore[arg-type]  # the mistake
        (lambda: Sought(stall=-1.0), ValueError),
    ],
)
def test_what_cannot_be_asked(make: Callable[[], Sought], error: type[Exception]) -> None:
    with pytest.raises(error):
        make().check()


def test_no_stall() -> None:
    Sought(stall=None).check()
    assert Question(Sought(stall=None), ServicePing).stall is None


def test_what_cannot_be_read_hides_nothing() -> None:
    question = Question(Sought(), ServicePing)
    refused = encode_header_block({"Nats-Service-Error": "busy", "Nats-Service-Error-Code": "503"})
    assert question.read(Message("a", 1, None, b"{")) is None
    assert question.read(Message("a", 1, None, b"", refused)) is None
    found = question.read(Message("a", 1, None, GOOD))
    assert found is not None
    assert (found.id, found.metadata) == ("X1", {})
    assert [type(failure) for failure in question.failures] == [ServiceDecodeError, ServiceError]


def test_the_failures_are_bounded() -> None:
    question = Question(Sought(), ServicePing)
    for _ in range(2 * MAX_FAILURES):
        question.read(Message("a", 1, None, b"{"))
    assert len(question.failures) == MAX_FAILURES
