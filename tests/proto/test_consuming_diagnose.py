"""Why nothing comes: one row for each cause."""

from __future__ import annotations

from typing import Any

import pytest

from nats_proto._consuming.diagnose import diagnosis
from nats_proto._consuming.warning import ConsumerWarning
from nats_proto._jetstream.consumer_info import ConsumerInfo
from nats_proto._jetstream.errors import JetStreamNotEnabledError, api_error
from nats_proto._jetstream.wire_value import from_wire
from nats_proto.errors import NATSError, NATSTimeoutError, PermissionsError


def info(**given: Any) -> ConsumerInfo:
    config = given.pop("config", {})
    return from_wire(ConsumerInfo, {"stream_name": "S", "name": "C", "config": config, "num_pending": 5, **given})


def error(err_code: int, code: int = 404) -> NATSError:
    return api_error("info", {"code": code, "err_code": err_code, "description": "words"})


@pytest.mark.parametrize(
    ("answer", "matching", "warned", "cause", "words"),
    [
        (error(10059), None, [], "stream_missing", "stream does not exist"),
        (error(10014), None, [], "consumer_missing", "does not exist"),
        (error(10008, 503), None, [], "no_leader", "in charge"),
        (error(10119, 500), None, [], "no_leader", "in charge"),
        (error(10039, 503), None, [], "not_enabled", "JetStream"),
        (JetStreamNotEnabledError("nobody"), None, [], "not_enabled", "JetStream"),
        (PermissionsError("may not"), None, [], "permission", "may not"),
        (NATSTimeoutError("late"), None, [], "no_answer", "in time"),
        (error(10003, 400), None, [], "refused", "refuses"),
        (info(cluster={"name": "c", "leader": ""}), None, [], "no_leader", "no leader"),
        (info(), None, ["no_responders"], "no_leader", "nobody takes requests"),
        (info(paused=True, pause_remaining=5_000_000_000), None, [], "paused", "for 5 s more"),
        (info(paused=True), None, [], "paused", "it is paused"),
        (info(num_ack_pending=7, config={"max_ack_pending": 7}), None, [], "ack_limit", "7 of 7"),
        (info(num_waiting=3, config={"max_waiting": 3}), None, [], "waiting_limit", "3 of 3"),
        (info(), None, ["unpinned"], "unpinned", "another client"),
        (info(num_pending=0, config={"filter_subject": "b.x"}), 0, [], "filter_matches_nothing", "b.x"),
        (info(num_pending=0, config={"filter_subjects": ["b", "c"]}), 0, [], "filter_matches_nothing", "b, c"),
        (info(num_pending=0), 0, [], "stream_empty", "no messages"),
        (info(num_pending=0, delivered={"stream_seq": 9}), 4, [], "nothing_pending", "sequence 9"),
        (info(num_pending=0, num_ack_pending=2), 4, [], "nothing_pending", "2 wait"),
        (info(), None, ["no_heartbeat"], "no_answer", "no sign of life"),
        (info(), None, [], "nobody_asks", "no request"),
        (info(num_waiting=1), None, [], "healthy", "5 messages"),
        (info(config={"deliver_subject": "d"}), None, [], "nobody_listens", "'d'"),
        (info(config={"deliver_subject": "d"}, push_bound=True), None, [], "healthy", "somebody listens"),
        (info(num_ack_pending=7, config={"max_ack_pending": -1}), None, [], "nobody_asks", "no request"),
    ],
)
def test_causes(answer: Any, matching: int | None, warned: list[Any], cause: str, words: str) -> None:
    warnings = [ConsumerWarning(kind, f"no sign of life ({kind})") for kind in warned]
    found = diagnosis("S", "C", answer, matching=matching, warnings=warnings)
    assert found.cause == cause
    assert words in found.text
    assert found.text.startswith("consumer 'C' of stream 'S': ")
    assert str(found) == found.text


def test_only_recent_warnings_count() -> None:
    old = [ConsumerWarning("no_responders", "old")] + [ConsumerWarning("limit_lowered", "new")] * 5
    assert diagnosis("S", "C", info(), warnings=old).cause == "nobody_asks"
