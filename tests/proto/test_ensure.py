"""Declarative set-up, against a server of a few lines that fills in defaults as servers do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Message, Operation, Request
from nats_proto._ensure.ensure import ensure
from nats_proto._ensure.immutable import never_changed
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._json.wire_value import to_wire
from nats_proto._objectstore.bucket import ObjectStoreConfig
from nats_proto.errors import NATSTimeoutError
from nats_proto.jetstream import (
    ApiError,
    ApiLevelError,
    BucketNotFoundError,
    ConsumerConfig,
    Difference,
    EnsureReport,
    ImmutableFieldError,
    InvalidNameError,
    KeyValueConfig,
    StreamConfig,
    StreamNotFoundError,
    StreamSource,
)
from tests.proto.consuming import Inboxes

STREAM_DEFAULTS = {
    "retention": "limits", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "storage": "file",
    "max_msgs_per_subject": -1, "max_msg_size": -1, "discard": "old", "num_replicas": 1, "compression": "none",
    "duplicate_window": 120_000_000_000, "metadata": {"_nats.ver": "2.15.1"},
}  # fmt: skip
CONSUMER_DEFAULTS = {
    "deliver_policy": "all", "ack_policy": "explicit", "ack_wait": 30_000_000_000, "max_deliver": -1,
    "replay_policy": "instant", "max_waiting": 512, "max_ack_pending": 1000, "num_replicas": 0,
    "metadata": {"_nats.ver": "2.15.1"},
}  # fmt: skip


class Server:
    """Its streams and consumers, as they are configured. ``asked``: the calls that changed something."""

    def __init__(self, version: str = "2.15.1") -> None:
        self.streams: dict[str, dict[str, Any]] = {}
        self.consumers: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refuses: set[str] = set()
        self.api = JetStreamApi(now=lambda: 0.0, new_inbox=Inboxes(), server_version=lambda: version, timeout=5.0)

    def ensure(self, **given: Any) -> EnsureReport:
        return self.run(ensure(self.api, timeout=None, **given))

    def run(self, operation: Operation[Any]) -> Any:
        try:
            effect = next(operation)
            while True:
                assert isinstance(effect, Request)
                effect = operation.send(Message("in", 1, None, json.dumps(self._answer(effect)).encode()))
        except StopIteration as end:
            return end.value

    def _answer(self, request: Request) -> dict[str, Any]:
        _, _, kind, verb, *names = request.subject.split(".")
        body = json.loads(bytes(request.data) or b"{}")
        name = ".".join(names[:2]) if kind == "CONSUMER" else names[0]
        if verb != "INFO":
            self.asked.append(f"{kind} {verb if kind == 'STREAM' else body['action'].upper()} {name}")
        if name in self.refuses and verb != "INFO":
            return {"error": {"code": 500, "err_code": 10049, "description": "no room"}}
        return self._stream(verb, name, body) if kind == "STREAM" else self._consumer(verb, names, body)

    def _stream(self, verb: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if verb != "INFO":
            metadata = {**body.get("metadata", {}), **STREAM_DEFAULTS["metadata"]}  # type: ignore[dict-item]
            self.streams[name] = {**STREAM_DEFAULTS, "subjects": [name], **body, "metadata": metadata}
        if name not in self.streams:
            return {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
        return {"config": self.streams[name], "state": {}, "created": "2023-11-14T22:13:20Z"}

    def _consumer(self, verb: str, names: list[str], body: dict[str, Any]) -> dict[str, Any]:
        stream, name = names[:2]
        if stream not in self.streams:
            return {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
        if verb != "INFO":
            self.consumers[stream, name] = {**CONSUMER_DEFAULTS, **body["config"]}
        if (stream, name) not in self.consumers:
            return {"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}
        return {"stream_name": stream, "name": name, "config": self.consumers[stream, name]}


ALL: dict[str, Any] = {
    "streams": [StreamConfig(name="ORDERS", subjects=["orders.>"]), StreamConfig(name="EVENTS", max_age=60)],
    "consumers": {"ORDERS": ConsumerConfig(durable_name="billing", ack_wait=10)},
    "buckets": [KeyValueConfig(bucket="config", history=5)],
}


def test_what_is_missing_is_made_and_nothing_is_done_again() -> None:
    server = Server()
    report = server.ensure(**ALL)
    assert [(step.what, step.action) for step in report.steps] == [
        ("stream 'ORDERS'", "create"),
        ("stream 'EVENTS'", "create"),
        ("bucket 'config'", "create"),
        ("consumer 'billing' of stream 'ORDERS'", "create"),
    ]
    assert str(report).splitlines() == [
        "created stream 'ORDERS'",
        "created stream 'EVENTS'",
        "created bucket 'config'",
        "created consumer 'billing' of stream 'ORDERS'",
    ]
    assert server.asked == [
        *("STREAM CREATE ORDERS", "STREAM CREATE EVENTS", "STREAM CREATE KV_config"),
        "CONSUMER CREATE ORDERS.billing",
    ]
    server.asked.clear()
    again = server.ensure(**ALL)
    assert (str(again), again.changes, server.asked) == ("nothing to do", (), [])
    assert [step.action for step in again.steps] == ["keep"] * 4
    assert str(again.steps[0]) == "kept stream 'ORDERS'"


def test_a_dry_run_changes_nothing() -> None:
    server = Server()
    report = server.ensure(**ALL, dry_run=True)
    assert str(report).splitlines()[0] == "would create stream 'ORDERS'"
    assert len(report.changes) == 4
    assert server.asked == []
    assert server.streams == {}


def test_what_differs_is_told_field_by_field_and_changed() -> None:
    server = Server()
    server.ensure(**ALL)
    server.streams["EVENTS"]["description"] = "kept as it is"
    server.streams["EVENTS"]["new_field"] = 7
    server.streams["KV_config"]["max_bytes"] = 5000
    server.asked.clear()
    wanted: dict[str, Any] = {
        "streams": [StreamConfig(name="EVENTS", max_age=3600, subjects=["events.>"], metadata={"team": "a"})],
        "consumers": [("ORDERS", ConsumerConfig(durable_name="billing", ack_wait=20, max_deliver=3))],
        "buckets": [KeyValueConfig(bucket="config", history=10, ttl=60)],
    }
    looked = server.ensure(**wanted, dry_run=True)
    assert server.asked == []
    report = server.ensure(**wanted)
    assert looked.steps == report.steps
    assert str(report).splitlines() == [
        "updated stream 'EVENTS'",
        "    subjects: ['EVENTS'] -> ['events.>']",
        "    max_age: 60.0 -> 3600.0",
        "    metadata: {} -> {'team': 'a'}",
        "updated bucket 'config'",
        "    history: 5 -> 10",
        "    ttl: None -> 60.0",
        "updated consumer 'billing' of stream 'ORDERS'",
        "    ack_wait: 10.0 -> 20.0",
        "    max_deliver: -1 -> 3",
    ]
    assert server.asked == ["STREAM UPDATE EVENTS", "STREAM UPDATE KV_config", "CONSUMER UPDATE ORDERS.billing"]
    assert server.streams["EVENTS"]["description"] == "kept as it is"
    assert server.streams["EVENTS"]["new_field"] == 7
    assert server.streams["EVENTS"]["metadata"] == {"team": "a", "_nats.ver": "2.15.1"}
    assert server.streams["KV_config"]["max_bytes"] == 5000
    assert server.streams["KV_config"]["max_msgs_per_subject"] == 10
    assert server.streams["KV_config"]["deny_delete"] is True
    assert str(server.ensure(**wanted)) == "nothing to do"


def test_long_values_are_cut_in_a_report() -> None:
    server = Server()
    server.ensure(streams=[StreamConfig(name="S")])
    report = server.ensure(streams=[StreamConfig(name="S", description="x" * 500)])
    assert max(map(len, str(report).splitlines())) < 100


@pytest.mark.parametrize(
    ("there", "asked", "field"),
    [
        (ConsumerConfig(name="c", filter_subject="a"), ConsumerConfig(name="c", filter_subjects=["a", "b"]),
         "filter_subjects"),
        (ConsumerConfig(name="c", filter_subjects=["a", "b"]), ConsumerConfig(name="c", filter_subject="a"),
         "filter_subject"),
        (ConsumerConfig(name="c", backoff=[1, 5], max_deliver=3), ConsumerConfig(name="c", ack_wait=10), "ack_wait"),
    ],
)  # fmt: skip
def test_a_field_that_takes_the_place_of_another(there: ConsumerConfig, asked: ConsumerConfig, field: str) -> None:
    server = Server()
    server.ensure(streams=[StreamConfig(name="S")], consumers=[("S", there)])
    report = server.ensure(consumers={"S": [asked]})
    assert [one.field for one in report.steps[0].differences] == [field]
    assert len({"filter_subject", "filter_subjects"} & server.consumers["S", "c"].keys()) < 2
    assert len({"ack_wait", "backoff"} & {*to_wire(asked), *server.consumers["S", "c"]}) < 2
    assert str(server.ensure(consumers={"S": [asked]})) == "nothing to do"


def test_what_cannot_be_changed_is_refused_before_anything_is_changed() -> None:
    server = Server()
    server.ensure(**ALL)
    server.asked.clear()
    with pytest.raises(ImmutableFieldError) as caught:
        server.ensure(
            streams=[StreamConfig(name="NEW"), StreamConfig(name="ORDERS", storage="memory", max_msgs=7)],
            consumers=[("ORDERS", ConsumerConfig(durable_name="billing", ack_policy="all"))],
            buckets=[KeyValueConfig(bucket="config", storage="memory")],
        )
    assert server.asked == []
    assert [one.field for one in caught.value.differences] == ["storage", "storage", "ack_policy"]
    for text in ("stream 'ORDERS': storage", "bucket 'config': storage", "'billing' of stream 'ORDERS': ack_policy"):
        assert text in str(caught.value)
    assert caught.value.outcome == "failed"


RULES: list[tuple[str, str, object, object, bool]] = [
    ("stream", "storage", "memory", "file", True),
    ("stream", "retention", "workqueue", "limits", True),
    ("stream", "retention", "interest", "limits", False),
    ("stream", "mirror", StreamSource(name="A"), None, True),
    ("stream", "mirror.name", "A", "B", True),
    ("stream", "deny_delete", False, True, True),
    ("stream", "deny_delete", True, False, False),
    ("stream", "allow_msg_ttl", False, True, True),
    ("stream", "max_age", 1.0, 2.0, False),
    ("bucket", "storage", "memory", "file", True),
    ("consumer", "ack_policy", "all", "explicit", True),
    ("consumer", "storage", "memory", "file", False),
    ("consumer", "deliver_subject", "a", None, True),
    ("consumer", "deliver_subject", "a", "b", False),
]


@pytest.mark.parametrize(("kind", "field", "asked", "there", "refused"), RULES)
def test_what_servers_never_change(kind: str, field: str, asked: object, there: object, refused: bool) -> None:
    one = Difference(field, asked, there)
    assert never_changed(kind, (one,)) == ((one,) if refused else ())


def test_a_consumer_of_a_stream_that_is_made_by_the_same_call() -> None:
    server = Server()
    for dry_run in (False, True):
        with pytest.raises(StreamNotFoundError):
            server.ensure(consumers={"S": ConsumerConfig(name="c")}, dry_run=dry_run)
    assert server.asked == []
    report = server.ensure(streams=[StreamConfig(name="S")], consumers={"S": ConsumerConfig(name="c")}, dry_run=True)
    assert str(report) == "would create stream 'S'\nwould create consumer 'c' of stream 'S'"


def test_what_a_server_refuses_in_the_midst_of_it() -> None:
    server = Server()
    server.refuses.add("B")
    with pytest.raises(ApiError, match="no room") as caught:
        server.ensure(streams=[StreamConfig(name="A"), StreamConfig(name="B"), StreamConfig(name="C")])
    assert caught.value.__notes__ == ["ensure: create stream 'A' was done before, stream 'B' is what failed"]
    server.refuses.clear()
    report = server.ensure(streams=[StreamConfig(name="A"), StreamConfig(name="B")])
    assert [step.action for step in report.steps] == ["keep", "create"]


def test_a_first_step_that_is_refused() -> None:
    server = Server()
    server.refuses.add("A")
    with pytest.raises(ApiError) as caught:
        server.ensure(streams=[StreamConfig(name="A")])
    assert caught.value.__notes__ == ["ensure: nothing was done before, stream 'A' is what failed"]


def test_buckets_of_others() -> None:
    server = Server()
    server.run(ensure(server.api, streams=[StreamConfig(name="KV_x")], timeout=None))
    with pytest.raises(BucketNotFoundError):
        server.ensure(buckets=[KeyValueConfig(bucket="x")])
    server.streams["KV_x"].update(max_msgs_per_subject=1, max_consumers=5, subjects=["$KV.x.>"])
    report = server.ensure(buckets=[KeyValueConfig(bucket="x", history=3)])
    assert [one.field for one in report.steps[0].differences] == ["history"]
    assert server.streams["KV_x"]["max_consumers"] == 5
    assert server.streams["KV_x"]["max_msgs_per_subject"] == 3


def test_markers_and_sources_of_buckets() -> None:
    server = Server()
    source = [StreamSource(name="other")]
    given = KeyValueConfig(bucket="x", sources=source, limit_marker_ttl=10, history=2)
    server.streams["KV_x"] = {
        **STREAM_DEFAULTS, "name": "KV_x", "max_msgs_per_subject": 1, "subjects": ["$KV.x.>"], "allow_msg_ttl": True,
        "subject_delete_marker_ttl": 5_000_000_000,
    }  # fmt: skip
    report = server.ensure(buckets=[given])
    assert [one.field for one in report.steps[0].differences] == ["history", "limit_marker_ttl", "sources"]
    assert str(server.ensure(buckets=[given])) == "nothing to do"
    off = KeyValueConfig(bucket="x", limit_marker_ttl=0)
    assert [one.field for one in server.ensure(buckets=[off]).steps[0].differences] == ["limit_marker_ttl"]
    assert server.streams["KV_x"]["subject_delete_marker_ttl"] == 0
    assert str(server.ensure(buckets=[off])) == "nothing to do"


def test_buckets_of_objects() -> None:
    server = Server()
    given = [ObjectStoreConfig(bucket="files", ttl=60), KeyValueConfig(bucket="files")]
    assert str(server.ensure(buckets=given)) == "created object store 'files'\ncreated bucket 'files'"
    assert server.asked == ["STREAM CREATE OBJ_files", "STREAM CREATE KV_files"]
    assert str(server.ensure(buckets=given)) == "nothing to do"
    report = server.ensure(buckets=[ObjectStoreConfig(bucket="files", max_bytes=5000)])
    assert str(report) == "updated object store 'files'\n    max_bytes: -1 -> 5000"
    assert server.streams["OBJ_files"]["max_age"] == 60_000_000_000
    with pytest.raises(ImmutableFieldError):
        server.ensure(buckets=[ObjectStoreConfig(bucket="files", storage="memory")])


def test_markers_need_a_newer_server() -> None:
    server = Server("2.10.26")
    with pytest.raises(ApiLevelError, match="limit_marker_ttl"):
        server.ensure(streams=[StreamConfig(name="A")], buckets=[KeyValueConfig(bucket="x", limit_marker_ttl=10)])
    assert server.asked == []


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"streams": [KeyValueConfig(bucket="x")]}, TypeError, "streams must be several of StreamConfig, not KeyValueConf"),
    ({"streams": "ORDERS"}, TypeError, "not str"),
    ({"streams": 7}, TypeError, "not int"),
    ({"streams": [StreamConfig(name="a b")]}, InvalidNameError, "blank|' '"),
    ({"streams": [StreamConfig(name="A"), StreamConfig(name="A")]}, ValueError, "stream 'A' is given twice"),
    (
        {"buckets": [StreamConfig(name="A")]},
        TypeError,
        "buckets must be several of KeyValueConfig or Obj",
    ),
    ({"buckets": [KeyValueConfig(bucket="a.b")]}, ValueError, "bucket"),
    ({"consumers": [ConsumerConfig(name="c")]}, TypeError, "pairs of a stream's name"),
    ({"consumers": "ORDERS"}, TypeError, "pairs of a stream's name"),
    ({"consumers": {"S": "c"}}, TypeError, "pairs of a stream's name"),
    ({"consumers": {"S": ConsumerConfig()}}, ValueError, "needs a name"),
    ({"consumers": {"S.T": ConsumerConfig(name="c")}}, InvalidNameError, "stream"),
    ({"consumers": {"S": [ConsumerConfig(name="c"), ConsumerConfig(durable_name="c")]}}, ValueError, "given twice"),
    ({"consumers": {"S": ConsumerConfig(name="c", opt_start_seq=4)}}, ValueError, "opt_start_seq"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD, ids=[text for _, _, text in BAD])
def test_what_cannot_be_asked(given: dict[str, Any], error: type[Exception], text: str) -> None:
    server = Server()
    asked: Callable[[], object] = lambda: ensure(server.api, timeout=None, **given)  # noqa: E731  # not run at all
    with pytest.raises(error, match=text):
        asked()


def test_one_may_stand_for_several() -> None:
    server = Server()
    report = server.ensure(streams=StreamConfig(name="S"), buckets=(KeyValueConfig(bucket=b) for b in "ab"))
    assert [step.what for step in report.steps] == ["stream 'S'", "bucket 'a'", "bucket 'b'"]


def test_a_time_out_while_looking_changes_nothing() -> None:
    server = Server()
    operation = ensure(server.api, streams=[StreamConfig(name="A")], timeout=None)
    next(operation)
    with pytest.raises(NATSTimeoutError):
        operation.throw(NATSTimeoutError("late"))
    assert server.asked == []
