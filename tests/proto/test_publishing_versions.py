"""Options of a publish that the connected server is too old for are refused, and others are not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.errors import ApiLevelError
from nats_proto._publishing.headers import PublishOptions
from nats_proto._publishing.versions import _SINCE, check_versions

SOON = datetime(2027, 1, 1, tzinfo=UTC)


def api(version: str, domain: str | None = None) -> JetStreamApi:
    return JetStreamApi(domain=domain, now=lambda: 1.0, new_inbox=lambda: "i", server_version=lambda: version)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"ttl": 5}, "2.11"),
        ({"increment": 1}, "2.12"),
        ({"deliver_at": SOON, "schedule_target": "a"}, "2.12"),
        ({"cancel_schedule": "a"}, "2.12"),
        ({"every": 1, "schedule_target": "a"}, "2.14"),
        ({"cron": "@hourly", "schedule_target": "a", "time_zone": "Europe/Zurich"}, "2.14"),
        ({"deliver_at": SOON, "schedule_target": "a", "schedule_source": "b"}, "2.14"),
    ],
)
def test_what_needs_a_newer_server(options: PublishOptions, needed: str) -> None:
    major, minor = map(int, needed.split("."))
    older = f"{major}.{minor - 1}.9"
    with pytest.raises(ApiLevelError, match=rf"needs a server of \d\.\d+ or newer, this one is {older}") as refused:
        check_versions(api(older), options)
    assert refused.value.outcome == "failed"
    check_versions(api(f"{needed}.0"), options)
    check_versions(api(older, domain="hub"), options)  # there may be another server
    check_versions(api(""), options)  # not connected yet


def test_what_any_server_has() -> None:
    check_versions(api("2.10.0"), {"msg_id": "1", "rollup": "sub", "ttl": None, "every": None})


def test_each_option_exists() -> None:
    assert _SINCE.keys() <= PublishOptions.__annotations__.keys()
