"""Why nothing comes: one row for each cause."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nats_proto import Message, Request
from nats_proto._consuming.diagnose import Diagnosis, diagnose, diagnosis
from nats_proto._consuming.warning import ConsumerWarning
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.api_answer import from_wire
from nats_proto._jetstream.consumer_info import ConsumerInfo
from nats_proto._jetstream.errors import JetStreamNotEnabledError, api_error
from nats_proto.errors import NATSError, NATSTimeoutError, PermissionsError


def info(**given: Any) -> ConsumerInfo:
    config = given.pop("config", {})
    return from_wire(ConsumerInfo, {"stream_name": "S", "name": "C", "config": config, "num_pending": 5, **given})


def ask(*answers: dict[str, Any]) -> tuple[list[str], Diagnosis, ConsumerInfo | None]:
    """What the operation asks when it is answered so, and what it makes of it."""
    api = JetStreamApi(now=lambda: 1.0, new_inbox=lambda: "_INBOX.a", server_version=lambda: "2.15.1")
    operation = diagnose(api, "S", "C", (), timeout=None)
    left = iter(answers)
    asked: list[str] = []
    answer: Message | None = None
    while True:
        try:
            effect = operation.send(answer)
        except StopIteration as end:
            return asked, *end.value
        assert isinstance(effect, Request)
        asked.append(f"{effect.subject.removeprefix('$JS.API.')} {effect.data.decode()}".strip())
        answer = Message("_INBOX.a", 1, None, msgspec.json.encode(next(left)))


def consumer(**given: Any) -> dict[str, Any]:
    return {"stream_name": "S", "name": "C", "config": given.pop("config", {}), "num_pending": 0, **given}


def stream(messages: int, **subjects: int) -> dict[str, Any]:
    return {"config": {"name": "S"}, "state": {"messages": messages, "subjects": subjects}}


REFUSED = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}


@pytest.mark.parametrize(
    ("answers", "asked", "cause"),
    [
        ([consumer(num_pending=3)], [], "nobody_asks"),
        ([consumer(), stream(0)], ["STREAM.INFO.S"], "stream_empty"),
        ([consumer(), stream(4)], ["STREAM.INFO.S"], "nothing_pending"),
        (
            [consumer(config={"filter_subjects": ["b", "c"]}), stream(4), stream(4)],
            ['STREAM.INFO.S {"subjects_filter":"b"}', 'STREAM.INFO.S {"subjects_filter":"c"}'],
            "filter_matches_nothing",
        ),
        (
            [consumer(config={"filter_subject": "b"}), stream(4, b=2)],
            ['STREAM.INFO.S {"subjects_filter":"b"}'],
            "nothing_pending",
        ),
        ([consumer(paused=True), REFUSED], ["STREAM.INFO.S"], "paused"),  # what is known of the consumer counts
        ([REFUSED], [], "stream_missing"),
    ],
)
def test_what_is_asked(answers: list[Any], asked: list[str], cause: str) -> None:
    questions, found, seen = ask(*answers)
    assert questions == ["CONSUMER.INFO.S.C", *asked]
    assert found.cause == cause
    assert (seen is None) == (answers[0] is REFUSED)


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
