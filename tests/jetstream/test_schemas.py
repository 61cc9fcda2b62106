"""What is sent and what is answered is what the schemas say; and what is not, is found."""

from __future__ import annotations

import json

import pytest

from nats_sync.testing import LocalServer
from tests.adapters.legs import Leg
from tests.jetstream.cluster import api
from tests.jetstream.legs import jetstream
from tests.jetstream.schemas import Auditor, answer_faults, needs_schemas, request_faults

pytestmark = [needs_schemas]


@pytest.mark.parametrize(
    ("subject", "body", "fault"),
    [
        ("STREAM.CREATE.S", {"name": "S", "max_msgs": -1}, None),
        ("STREAM.CREATE.S", {"name": "S", "max_msgs": "many"}, "max_msgs"),
        ("STREAM.CREATE.S", {"name": "S", "retention": "sometimes"}, "retention"),
        ("STREAM.NAMES", {"offset": 1}, None),
        ("STREAM.NAMES", {"offset": "1"}, "offset"),
        ("STREAM.MSG.GET.S", {"seq": "1"}, "seq"),
        ("STREAM.LEADER.STEPDOWN.S", {"placement": 1}, "placement"),
        ("DIRECT.GET.S", {"last_by_subj": 1}, "last_by_subj"),
        ("CONSUMER.CREATE.S.c.filter.of.it", {"stream_name": "S", "config": {"ack_wait": 1.5}}, "ack_wait"),
        ("CONSUMER.MSG.NEXT.S.c", {"batch": 1, "expires": 10**9}, None),
        ("CONSUMER.MSG.NEXT.S.c", {"batch": -1}, "batch"),
        ("CONSUMER.DANCE.S.c", {}, "no schema"),
    ],
)
def test_faults_of_requests(subject: str, body: object, fault: str | None) -> None:
    found = request_faults(f"$JS.API.{subject}", json.dumps(body).encode())
    assert (fault is None and found == []) or (fault is not None and fault in "\n".join(found))


def test_a_request_that_is_no_json_or_nothing() -> None:
    assert request_faults("$JS.API.STREAM.NAMES", b"") == []
    assert request_faults("$JS.API.CONSUMER.MSG.NEXT.S.c", b"10") == []
    assert "Expecting" in request_faults("$JS.API.STREAM.NAMES", b"{")[0]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b'{"type":"io.nats.jetstream.api.v1.stream_delete_response","success":true}', None),
        (b'{"type":"io.nats.jetstream.api.v1.stream_delete_response","success":1}', "success"),
        (b"{}", "no type"),
        (b"[]", "no type"),
        (b"{", "no type"),
    ],
)
def test_faults_of_answers(data: bytes, fault: str | None) -> None:
    found = answer_faults("it", data)
    assert (fault is None and found == []) or (fault is not None and fault in "\n".join(found))


def test_the_audit_has_every_call(shared_jetstream: LocalServer) -> None:
    with Auditor(shared_jetstream.url) as auditor:
        for _ in range(50):
            api(shared_jetstream.url, "STREAM.NAMES", {"offset": 0})
        api(shared_jetstream.url, "STREAM.NAMES", {"offset": -1})
        faults = auditor.taken_faults()
        assert auditor.calls == 51
        assert [fault for fault in faults if "request" in fault] != []
        assert auditor.taken_faults() == []


@pytest.mark.anyio
async def test_a_test_on_every_leg_is_audited(leg: Leg, url: str, shared_auditor: Auditor) -> None:
    shared_auditor.catch_up()
    before = shared_auditor.calls
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await js.create_stream("S", subjects=["s"])
        consumer = await stream.create_consumer("c")
        assert (await consumer.refresh()).name == "c"
        assert [name async for name in js.stream_names()] == ["S"]
    shared_auditor.catch_up()
    assert shared_auditor.calls == before + 4
