"""What both clients make of the ways to read from a consumer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nats_proto import Message, Subscribe
from nats_proto._calls.operation import Publish
from nats_proto._consuming.condition import ConsumerCondition
from nats_proto._consuming.options import Priority
from nats_proto._consuming.readers import Source, check_handler, ends_reading, priority_of
from nats_proto._jetstream.acknowledge import Delivery
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.consumer_config import ConsumerConfig
from nats_proto._jetstream.consumer_info import ConsumerInfo
from nats_proto._jetstream.errors import api_error
from nats_proto.errors import ConnectionClosedError, NATSError, NATSTimeoutError, PermissionsError

GONE = api_error("info", {"code": 404, "err_code": 10014, "description": "consumer not found"})


def source(**config: Any) -> Source:
    api = JetStreamApi(now=lambda: 1.0, new_inbox=lambda: "_INBOX.a", server_version=lambda: "2.15.1")
    info = ConsumerInfo(stream_name="S", name="c", config=ConsumerConfig(name="c", **config)) if config else None
    return Source(api, "S", "c", info)


def taken(message: Message, now: float) -> bytes:
    return message.data


@pytest.mark.parametrize(
    ("config", "delivery"),
    [
        ({}, Delivery(stream="S", consumer="c")),
        ({"ack_policy": "none"}, Delivery(stream="S", consumer="c", acknowledged=False)),
        ({"ack_wait": 5.0}, Delivery(stream="S", consumer="c", ack_wait=5.0)),
        ({"ack_wait": 0.0}, Delivery(stream="S", consumer="c")),
        ({"backoff": [1.0, 2.0]}, Delivery(stream="S", consumer="c", backoff=(1.0, 2.0))),
    ],
)
def test_what_the_messages_have_in_common(config: dict[str, Any], delivery: Delivery) -> None:
    assert source(**config).delivery == delivery


def test_a_fetch_asks_where_the_consumer_is() -> None:
    machine = source().fetch(
        taken,
        max_messages=5,
        max_bytes=None,
        timeout=3.0,
        no_wait=False,
        linger=None,
        heartbeat=None,
        priority=None,
    )
    assert not machine.wants
    machine.begin(now=10.0)
    subscribe, pull = machine.wants
    assert isinstance(subscribe, Subscribe)
    assert (subscribe.subject, subscribe.hand_back) == ("_INBOX.a.1", b"-NAK")
    assert isinstance(pull, Publish)
    assert (pull.subject, pull.reply) == ("$JS.API.CONSUMER.MSG.NEXT.S.c", "_INBOX.a.1")
    assert json.loads(bytes(pull.data))["batch"] == 5
    assert machine.what == "fetch from consumer 'c' of stream 'S'"


def test_reading_without_end_knows_the_consumer() -> None:
    given = {
        "max_messages": 10, "max_bytes": None, "threshold": None, "limit": None, "expires": None, "heartbeat": None,
        "on_missing": "raise", "priority": None,
    }  # fmt: skip
    reader = source(ack_wait=7.0, priority_timeout=8.0)
    options = reader.options(**given)  # type: ignore[arg-type]  # as many types as values
    assert (options.ack_wait, options.expires, options.max_messages) == (7.0, 4.0, 10)
    assert source(ack_wait=7.0).options(**given).priority_timeout == float("inf")  # type: ignore[arg-type]  # the same
    assert source().options(**given).priority_timeout is None  # type: ignore[arg-type]  # the same
    machine = reader.consume(taken, options, now=10.0)
    assert machine.what == "messages of consumer 'c' of stream 'S'"
    for unacknowledged in (source(), source(ack_policy="none")):
        assert unacknowledged.options(**given).ack_wait is None  # type: ignore[arg-type]  # as above


def test_what_a_consumer_says_of_itself() -> None:
    answer = {
        "stream_name": "S", "name": "c", "num_waiting": 3, "num_ack_pending": 4, "num_pending": 5, "paused": True,
        "config": {"max_waiting": 6, "max_ack_pending": 7},
    }  # fmt: skip
    condition = source()._condition
    assert condition.subject == "$JS.API.CONSUMER.INFO.S.c"
    assert condition.decode(Message("_INBOX.x", 1, None, json.dumps(answer).encode())) == ConsumerCondition(
        waiting=3, max_waiting=6, ack_pending=4, max_ack_pending=7, pending=5, paused=True
    )


def test_priority() -> None:
    assert priority_of(None, None, None, None) is None
    assert priority_of("g", 1, 2, 3) == Priority(group="g", min_pending=1, min_ack_pending=2, priority=3)
    for wrong in ((1, None, None), (None, 1, None), (None, None, 1)):
        with pytest.raises(ValueError, match="need the group"):
            priority_of(None, *wrong)


GIVEN: dict[str, Any] = {
    "max_messages": 10, "max_bytes": None, "threshold": None, "limit": None, "expires": None, "heartbeat": None,
    "priority": None,
}  # fmt: skip


def test_what_is_to_be_created_again_must_be_known() -> None:
    with pytest.raises(ValueError, match="refresh"):
        source().options(**GIVEN, on_missing="recreate")
    known = source(ack_wait=7.0)
    assert known.consume(taken, known.options(**GIVEN, on_missing="recreate"), now=10.0)._create is not None
    assert known.consume(taken, known.options(**GIVEN, on_missing="wait"), now=10.0)._create is None


def test_a_handler_must_be_one() -> None:
    check_handler("work", print, awaits=False)
    with pytest.raises(TypeError, match="work: the handler cannot be used"):
        check_handler("work", 5, awaits=False)


@pytest.mark.parametrize(
    ("error", "on_missing", "ends"),
    [
        (GONE, "raise", True),
        (GONE, "wait", False),
        (GONE, "recreate", False),
        (NATSTimeoutError("late"), "raise", False),
        (PermissionsError("may not"), "wait", True),
        (ConnectionClosedError("closed"), "wait", True),
    ],
)
def test_which_errors_leave_no_point_in_reading(error: NATSError, on_missing: Any, ends: bool) -> None:
    assert ends_reading(error, on_missing) is ends
