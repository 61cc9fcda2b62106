"""A bucket as a stream, and where its keys are written and read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_type_hints

import pytest

from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.stream_config import StreamConfig, StreamSource, SubjectTransform
from nats_proto._jetstream.stream_info import StreamInfo, StreamState
from nats_proto._json.wire_value import to_wire
from nats_proto._keyvalue.bucket import (
    KeyValueConfig,
    KeyValueFields,
    config_of,
    read_bucket,
    status_of,
    stream_of,
)
from nats_proto._keyvalue.errors import BucketNotFoundError, InvalidBucketError
from nats_proto._keyvalue.subjects import BucketSubjects
from tests.proto.consuming import Inboxes

PLAIN: dict[str, Any] = {
    "name": "KV_B", "subjects": ["$KV.B.>"], "retention": "limits", "storage": "file", "num_replicas": 1,
    "max_age": 0, "max_bytes": -1, "max_msgs": -1, "max_msgs_per_subject": 1, "max_msg_size": -1, "max_consumers": -1,
    "discard": "new", "duplicate_window": 120_000_000_000, "compression": "none", "allow_direct": True,
    "allow_rollup_hdrs": True, "deny_delete": True, "deny_purge": False,
}  # fmt: skip
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({}, {}),
        ({"history": 64}, {"max_msgs_per_subject": 64}),
        ({"ttl": 60}, {"max_age": 60 * SECOND, "duplicate_window": 60 * SECOND}),
        ({"ttl": timedelta(hours=1)}, {"max_age": 3600 * SECOND}),
        ({"ttl": 0}, {}),
        ({"limit_marker_ttl": 1}, {"allow_msg_ttl": True, "subject_delete_marker_ttl": SECOND}),
        ({"max_bytes": 9, "max_value_size": 8}, {"max_bytes": 9, "max_msg_size": 8}),
        ({"storage": "memory", "num_replicas": 3}, {"storage": "memory", "num_replicas": 3}),
        ({"compression": True, "description": "d"}, {"compression": "s2", "description": "d"}),
        ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        (
            {
                "sources": [
                    StreamSource(name="A", filter_subject="$KV.A.x.>"),
                    StreamSource(name="KV_C"),
                    StreamSource(name="D", filter_subject="$KV.D.*.x.*.y"),
                ]
            },
            {
                "sources": [
                    {"name": "KV_A", "subject_transforms": [{"src": "$KV.A.x.>", "dest": "$KV.B.x.>"}]},
                    {"name": "KV_C", "subject_transforms": [{"src": "$KV.C.>", "dest": "$KV.B.>"}]},
                    {
                        "name": "KV_D",
                        "subject_transforms": [
                            {"src": "$KV.D.*.x.*.y", "dest": "$KV.B.{{wildcard(1)}}.x.{{wildcard(2)}}.y"}
                        ],
                    },
                ]
            },
        ),
        (
            {"sources": [StreamSource(name="EV", subject_transforms=[SubjectTransform(src="e.>", dest="$KV.B.>")])]},
            {"sources": [{"name": "EV", "subject_transforms": [{"src": "e.>", "dest": "$KV.B.>"}]}]},
        ),
    ],
    ids=str,
)
def test_the_stream_of_a_bucket(fields: dict[str, Any], changed: dict[str, Any]) -> None:
    made = stream_of(read_bucket(None, "B", fields))
    assert to_wire(made) == PLAIN | changed
    assert stream_of(config_of(made)) == made


def test_a_source_has_a_filter_of_its_own_keys() -> None:
    config = read_bucket(None, "B", {"sources": [StreamSource(name="A", filter_subject="$KV.C.>")]})
    with pytest.raises(ValueError, match=r"filter_subject of the source 'KV_A' must begin with '\$KV\.A\.'"):
        stream_of(config)


def test_a_mirror() -> None:
    made = to_wire(stream_of(read_bucket(None, "B", {"mirror": StreamSource(name="A", domain="hub")})))
    assert "subjects" not in made
    assert made["mirror"] == {"name": "KV_A", "external": {"api": "$JS.hub.API"}}
    assert made["mirror_direct"] is True


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"history": 65}, ValueError, "64"),
        ({"history": 0}, ValueError, "history"),
        ({"limit_marker_ttl": 0.5}, ValueError, "1 second"),
        ({"ttl": -1}, ValueError, "ttl"),
        ({"histori": 5}, TypeError, "did you mean history"),
        ({"bucket": "x"}, TypeError, "no field"),
        ({"storage": "disk"}, ValueError, "memory"),
        ({"mirror": StreamSource(name="A"), "sources": [StreamSource(name="C")]}, ValueError, "mirror"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        read_bucket(None, "B", fields)


def test_a_ready_configuration() -> None:
    config = KeyValueConfig(bucket="B", history=3)
    assert read_bucket(config, None, {}) is read_bucket(config, "B", {}) is config
    with pytest.raises(ValueError, match="twice"):
        read_bucket(config, "C", {})
    with pytest.raises(TypeError, match="not both"):
        read_bucket(config, None, {"history": 1})
    with pytest.raises(TypeError, match="needs a name"):
        read_bucket(None, None, {})
    with pytest.raises(TypeError, match="KeyValueConfig is given by its keyword: config="):
        read_bucket(None, config, {})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be KeyValueConfig"):
        read_bucket({}, None, {})  # type: ignore[arg-type]
    with pytest.raises(InvalidBucketError):
        read_bucket(KeyValueConfig(bucket="a.b"), None, {})


def test_the_keywords_are_the_fields() -> None:
    hints = set(get_type_hints(KeyValueFields)) | {"bucket", "unknown"}
    assert hints == set(KeyValueConfig.__struct_fields__)


@pytest.mark.parametrize("stream", [StreamConfig(name="ORDERS"), StreamConfig(name="KV_B", max_msgs_per_subject=-1)])
def test_streams_that_are_no_buckets(stream: StreamConfig) -> None:
    with pytest.raises(BucketNotFoundError):
        config_of(stream)


def test_the_status() -> None:
    config = stream_of(KeyValueConfig(bucket="B", history=5, ttl=9, compression=True, mirror=StreamSource(name="A")))
    status = status_of(StreamInfo(config=config, state=StreamState(messages=3, bytes=99)))
    assert (status.bucket, status.values, status.bytes, status.history) == ("B", 3, 99, 5)
    assert (status.ttl, status.limit_marker_ttl, status.compressed, status.mirror) == (9.0, None, True, "A")
    assert (status.metadata, status.backing_store) == ({}, "JetStream")


@pytest.mark.parametrize(
    ("options", "mirror", "write", "read"),
    [
        ({}, None, "$KV.B.", "$KV.B."),
        ({"domain": "hub"}, None, "$JS.hub.API.$KV.B.", "$KV.B."),
        ({"api_prefix": "from.a"}, None, "from.a.$KV.B.", "$KV.B."),
        ({}, StreamSource(name="KV_A"), "$KV.A.", "$KV.A."),
        ({}, StreamSource(name="KV_A", domain="hub"), "$JS.hub.API.$KV.A.", "$KV.A."),
        ({"domain": "leaf"}, StreamSource(name="KV_A"), "$JS.leaf.API.$KV.A.", "$KV.A."),
        ({"domain": "leaf"}, StreamSource(name="KV_A", domain="hub"), "$JS.hub.API.$KV.A.", "$KV.A."),
    ],
)
def test_where_keys_are(options: dict[str, Any], mirror: StreamSource | None, write: str, read: str) -> None:
    api = JetStreamApi(now=lambda: 0.0, new_inbox=Inboxes(), server_version=lambda: "", **options)
    subjects = BucketSubjects(api, StreamConfig(name="KV_B", mirror=mirror))
    assert (subjects.write, subjects.read, subjects.stream, subjects.bucket) == (write, read, "KV_B", "B")
    assert subjects.is_mirror is (mirror is not None)
    assert subjects.origin_stream == ("KV_B" if mirror is None else "KV_A")
    assert subjects.key_of(f"{read}x.y") == "x.y"
    assert subjects.key_of("elsewhere.x") is None
