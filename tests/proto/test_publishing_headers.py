"""Options of a publish as headers: what each becomes, and what is refused before anything is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from nats_proto import Headers
from nats_proto._json.durations import Timestamp
from nats_proto._publishing.headers import PublishOptions, message_id, publish_headers
from nats_proto.errors import InvalidSubjectError

TARGET = {"schedule_target": "orders"}


def lines(options: object, headers: object = None, *, data: bytes = b"") -> list[tuple[str, str]]:
    made = publish_headers("held.1", data, headers, options)  # type: ignore[arg-type]  # the tables hold wrong ones too
    return [] if made is None else list(made.items())


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("msg_id", "7", ("Nats-Msg-Id", "7")),
        ("msg_id", "a b:c", ("Nats-Msg-Id", "a b:c")),
        ("expected_stream", "ORDERS", ("Nats-Expected-Stream", "ORDERS")),
        ("expected_last_sequence", 0, ("Nats-Expected-Last-Sequence", "0")),
        ("expected_last_sequence", 2**63 - 1, ("Nats-Expected-Last-Sequence", "9223372036854775807")),
        ("expected_last_subject_sequence", 0, ("Nats-Expected-Last-Subject-Sequence", "0")),
        ("expected_last_msg_id", "6", ("Nats-Expected-Last-Msg-Id", "6")),
        ("ttl", 1, ("Nats-TTL", "1")),
        ("ttl", 1.0, ("Nats-TTL", "1")),
        ("ttl", 1.000001, ("Nats-TTL", "2")),
        ("ttl", timedelta(hours=1, milliseconds=1), ("Nats-TTL", "3601")),
        ("ttl", "never", ("Nats-TTL", "never")),
        ("rollup", "sub", ("Nats-Rollup", "sub")),
        ("rollup", "all", ("Nats-Rollup", "all")),
        ("increment", 0, ("Nats-Incr", "+0")),
        ("increment", 5, ("Nats-Incr", "+5")),
        ("increment", -(10**30), ("Nats-Incr", "-1000000000000000000000000000000")),
        ("cancel_schedule", "held.2", ("Nats-Scheduler", "held.2")),
    ],
)
def test_an_option_becomes_a_header(option: str, value: object, line: tuple[str, str]) -> None:
    made = lines({option: value})
    assert made == ([line, ("Nats-Schedule-Next", "purge")] if option == "cancel_schedule" else [line])


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({"deliver_at": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)}, "@at 2030-01-02T03:04:05Z"),
        (
            {"deliver_at": datetime(2030, 1, 2, 3, 4, 5, 600, timezone(timedelta(hours=2)))},
            "@at 2030-01-02T01:04:05.0006Z",
        ),
        ({"deliver_at": Timestamp.from_nanoseconds(1)}, "@at 1970-01-01T00:00:00.000000001Z"),
        ({"every": 1}, "@every 1s"),
        ({"every": 1.5}, "@every 1500000000ns"),
        ({"every": timedelta(minutes=5)}, "@every 300s"),
        ({"cron": "0 30 4 1,15 * fri"}, "0 30 4 1,15 * fri"),
        ({"cron": "@hourly"}, "@hourly"),
    ],
)
def test_a_schedule(options: dict[str, object], schedule: str) -> None:
    assert lines(options | TARGET) == [("Nats-Schedule", schedule), ("Nats-Schedule-Target", "orders")]


def test_all_of_a_schedule() -> None:
    assert lines(
        {
            "cron": "@daily",
            "time_zone": "Europe/Zurich",
            "schedule_target": "orders",
            "schedule_source": "sensors",
            "schedule_ttl": 60,
            "schedule_rollup": "sub",
            "rollup": "sub",
            "ttl": timedelta(days=30),
            "msg_id": None,
        }
    ) == [
        ("Nats-Schedule", "@daily"),
        ("Nats-Schedule-Time-Zone", "Europe/Zurich"),
        ("Nats-Schedule-Target", "orders"),
        ("Nats-Schedule-Source", "sensors"),
        ("Nats-Schedule-TTL", "60"),
        ("Nats-Schedule-Rollup", "sub"),
        ("Nats-Rollup", "sub"),
        ("Nats-TTL", "2592000"),
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"msg_id": ""}, ValueError),
        ({"msg_id": " 7"}, ValueError),
        ({"msg_id": 7}, TypeError),
        ({"expected_stream": ""}, ValueError),
        ({"expected_last_sequence": -1}, ValueError),
        ({"expected_last_sequence": 2**63}, ValueError),
        ({"expected_last_sequence": "1"}, TypeError),
        ({"expected_last_sequence": True}, TypeError),
        ({"expected_last_subject_sequence_subject": "a.*"}, ValueError),
        ({"expected_last_subject_sequence_subject": "a..b", "expected_last_subject_sequence": 1}, InvalidSubjectError),
        ({"ttl": 0}, ValueError),
        ({"ttl": 0.999}, ValueError),
        ({"ttl": float("nan")}, ValueError),
        ({"ttl": "1h"}, ValueError),
        ({"ttl": b"never"}, TypeError),
        ({"rollup": "subject"}, ValueError),
        ({"rollup": ["sub"]}, ValueError),
        ({"increment": 1.0}, TypeError),
        ({"increment": True}, TypeError),
        ({"increment": 1 << 5000}, ValueError),
        ({"increment": 1, "rollup": "sub"}, ValueError),
        ({"increment": 1, "expected_stream": "S"}, ValueError),
        ({"increment": 1, "expected_last_subject_sequence": 0}, ValueError),
        ({"increment": 1, "every": 1} | TARGET, ValueError),
        ({"deliver_at": datetime(2030, 1, 1)} | TARGET, ValueError),  # without a zone
        ({"deliver_at": 5.0} | TARGET, TypeError),
        ({"deliver_at": datetime(2030, 1, 1, tzinfo=UTC)}, ValueError),
        ({"every": 0.9} | TARGET, ValueError),
        ({"every": 1, "cron": "@daily"} | TARGET, ValueError),
        ({"cron": "* * * * *"} | TARGET, ValueError),
        ({"cron": "@every 5s"} | TARGET, ValueError),
        ({"cron": "@fortnightly"} | TARGET, ValueError),
        ({"every": 1, "time_zone": "UTC"} | TARGET, ValueError),
        ({"cron": "@daily", "time_zone": ""} | TARGET, ValueError),
        ({"every": 1, "schedule_target": "held.1"}, ValueError),
        ({"every": 1, "schedule_target": "orders.*"}, InvalidSubjectError),
        ({"every": 1, "schedule_source": "orders"} | TARGET, ValueError),
        ({"every": 1, "schedule_source": "held.1"} | TARGET, ValueError),
        ({"every": 1, "schedule_ttl": 0.5} | TARGET, ValueError),
        ({"every": 1, "schedule_rollup": "all"} | TARGET, ValueError),
        ({"every": 1, "rollup": "all"} | TARGET, ValueError),
        ({"every": 1, "cancel_schedule": "held.2"} | TARGET, ValueError),
        ({"cancel_schedule": "held.1"}, ValueError),
        ({"schedule_ttl": 5}, ValueError),
        (TARGET, ValueError),
        ({"message_id": "7"}, TypeError),
        ({"zzz": None}, TypeError),
    ],
)
def test_what_a_server_would_refuse(options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        lines(options)
    assert any(name in str(raised.value) or repr(value) in str(raised.value) for name, value in options.items())


def test_a_counter_has_no_payload() -> None:
    with pytest.raises(ValueError, match="payload"):
        lines({"increment": 1}, data=b"1")


def test_a_misspelt_option_is_told() -> None:
    with pytest.raises(TypeError, match="did you mean msg_id"):
        lines({"msgid": "7"})


def test_no_option_makes_no_headers() -> None:
    none: PublishOptions = {}
    assert publish_headers("a", b"", None, none) is None
    assert publish_headers("a", b"", None, {"msg_id": None}) is None


def test_the_users_headers_are_kept_apart() -> None:
    mine = Headers({"A": "1"})
    made = publish_headers("a", b"", mine, {"msg_id": "7"})
    assert made == Headers({"A": "1", "Nats-Msg-Id": "7"})
    assert mine == Headers({"A": "1"})
    for source in ({"A": "1"}, iter([("A", "1")]), mine):
        again = publish_headers("a", b"", source, {})
        assert again == mine
        assert again is not mine


def test_an_option_and_a_header_of_the_same_name() -> None:
    with pytest.raises(ValueError, match=r"msg_id: .* Nats-Msg-Id already"):
        lines({"msg_id": "7"}, {"Nats-Msg-Id": "8"})


@pytest.mark.parametrize(
    ("options", "identity"), [({}, None), ({"msg_id": "7"}, "7"), ({"expected_last_msg_id": "6"}, None)]
)
def test_by_what_a_stream_knows_it_again(options: PublishOptions, identity: str | None) -> None:
    assert message_id(publish_headers("a", b"", None, options)) == identity
    assert message_id(publish_headers("a", b"", {"Nats-Msg-Id": "raw"}, {})) == "raw"
