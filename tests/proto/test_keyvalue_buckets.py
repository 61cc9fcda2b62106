"""Buckets as a whole, many keys at once, and the removal of old markers: what is asked, and what answers come to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nats_proto import Operation
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.api_answer import from_wire
from nats_proto._jetstream.errors import ApiError, ApiLevelError, FeatureDroppedError, JetStreamError
from nats_proto._jetstream.stream_info import StreamInfo
from nats_proto._json.durations import take_time
from nats_proto._json.wire_value import to_wire
from nats_proto._keyvalue import buckets
from nats_proto._keyvalue.bucket import KeyValueConfig, status_of, stream_of
from nats_proto._keyvalue.codecs import BYTES
from nats_proto._keyvalue.deletes import Cleaning, DeletesPurged
from nats_proto._keyvalue.entry import KeyValueEntry
from nats_proto._keyvalue.errors import BucketExistsError, BucketNotFoundError
from nats_proto._keyvalue.many import cannot_batch, each_alone, questions_for_keys
from nats_proto._keyvalue.operations import bucket_of
from tests.proto.keyvalue import Stream
from tests.proto.test_jetstream_api import NO_STREAM, Servers, failure

CONFIG = KeyValueConfig(bucket="B", history=5)
STREAM: dict[str, Any] = {
    "config": to_wire(stream_of(CONFIG)), "state": {"messages": 3}, "ts": "2026-01-02T04:00:00Z",
}  # fmt: skip
NO_BUCKET = {"config": {"name": "KV_C", "subjects": ["$KV.C.>"]}, "state": {}}
IN_USE = failure(400, 10058, "stream name already in use")

CALLS: dict[str, Callable[[JetStreamApi], Operation[Any]]] = {
    "create": lambda api: buckets.create_bucket(api, CONFIG, timeout=None),
    "update": lambda api: buckets.update_bucket(api, CONFIG, timeout=None),
    "create or update": lambda api: buckets.create_or_update_bucket(api, CONFIG, timeout=None),
    "status": lambda api: buckets.bucket_status(api, "B", timeout=None),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_bucket_as_it_is(call: str) -> None:
    servers = Servers(STREAM)
    assert servers.run(CALLS[call](servers.api)).bucket == "B"
    assert servers.asked[-1][0].endswith(".KV_B")


@pytest.mark.parametrize("call", ["update", "status", "delete"])
def test_there_is_no_such_bucket(call: str) -> None:
    servers = Servers(NO_STREAM)
    operation = CALLS[call](servers.api) if call in CALLS else buckets.delete_bucket(servers.api, "B", timeout=None)
    with pytest.raises(BucketNotFoundError, match=f"{call}.* bucket 'B': there is no such bucket"):
        servers.run(operation)


def test_another_configuration_is_there() -> None:
    servers = Servers(IN_USE, {**STREAM, "config": {**STREAM["config"], "max_msgs_per_subject": 9}})
    with pytest.raises(BucketExistsError, match=r"create bucket 'B': .*max_msgs_per_subject: 5 asked for, 9 there"):
        servers.run(CALLS["create"](servers.api))
    servers = Servers(IN_USE, NO_STREAM)  # deleted meanwhile
    with pytest.raises(BucketExistsError) as raised:
        servers.run(CALLS["create"](servers.api))
    assert raised.value.differences == ()


@pytest.mark.parametrize(("level", "refused"), [(0, True), (1, False)])
def test_markers_need_a_level(level: int, refused: bool) -> None:
    config = KeyValueConfig(bucket="B", limit_marker_ttl=5.0)
    account = {"limits": {}, "api": {"level": level}}
    servers = Servers(account, {**STREAM, "config": to_wire(stream_of(config))})
    if refused:
        with pytest.raises(ApiLevelError, match=r"limit_marker_ttl needs a server of 2\.11 or newer"):
            servers.run(buckets.create_bucket(servers.api, config, timeout=None))
    else:
        servers.run(buckets.create_bucket(servers.api, config, timeout=None))
    assert [subject.removeprefix("$JS.API.") for subject, _ in servers.asked] == (
        ["INFO"] if refused else ["INFO", "STREAM.CREATE.KV_B"]
    )


def test_streams_that_are_no_buckets_are_not_listed() -> None:
    servers = Servers({"total": 2, "offset": 0, "limit": 256, "streams": [STREAM, NO_BUCKET]})
    [found] = servers.run(buckets.list_buckets(servers.api).next_page(None))
    assert found.bucket == "B"
    servers = Servers({"total": 1, "offset": 0, "limit": 1024, "streams": ["KV_B"]})
    assert list(servers.run(buckets.list_bucket_names(servers.api).next_page(None))) == ["B"]


# --- many keys


def test_many_keys_are_few_questions() -> None:
    bucket = Stream().bucket
    assert len(questions_for_keys(bucket, [f"k{number}" for number in range(257)], timeout=None)) == 2
    assert len(questions_for_keys(bucket, ["same"] * 300, timeout=None)) == 1


def test_one_by_one() -> None:
    stream = Stream()
    for key in ("a", "b"):
        stream.write(key)
    stream.write("b", b"", KV_Operation="DEL")
    found = stream.run(each_alone(stream.bucket, ["a", "b", "none", "a"], reads="leader", timeout=None))
    assert list(found) == ["a"]


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        (FeatureDroppedError("old", version="2.10.0", fields=("batch",)), True),
        (JetStreamError("nobody answers"), True),
        (ApiError("refused", code=413, err_code=0, description="too many"), False),
    ],
)
def test_what_is_had_one_by_one_all_the_same(error: JetStreamError, alone: bool) -> None:
    assert cannot_batch(error) is alone


# --- markers

OLD = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
YOUNG = datetime(2026, 1, 2, 3, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("history", "created", "older_than", "asked", "result"),
    [
        (5, OLD, 1800.0, {"filter": "$KV.B.k", "seq": 8}, DeletesPurged(keys=1, entries=3)),
        (5, YOUNG, 1800.0, {"filter": "$KV.B.k", "seq": 7}, DeletesPurged(kept=1, entries=3)),
        (1, YOUNG, 1800.0, None, DeletesPurged(kept=1)),
        (5, YOUNG, 0, {"filter": "$KV.B.k", "seq": 8}, DeletesPurged(keys=1, entries=3)),
        (5, None, 1800.0, {"filter": "$KV.B.k", "seq": 7}, DeletesPurged(kept=1, entries=3)),
    ],
)
def test_markers_are_removed_by_their_age(
    history: int, created: datetime | None, older_than: float, asked: object, result: DeletesPurged
) -> None:
    servers = Servers({"success": True, "purged": 3})
    bucket = bucket_of(servers.api, stream_of(KeyValueConfig(bucket="B", history=history)), "any")
    cleaning = Cleaning(bucket, older_than, status_of(from_wire(StreamInfo, STREAM)))
    entry = KeyValueEntry(
        bucket="B",
        key="k",
        data=b"",
        revision=7,
        stored=None if created is None else take_time("created", created),
        delta=0,
        operation="delete",
        codec=BYTES,
    )
    servers.run(cleaning.clean(entry, None))
    assert [body for _, body in servers.asked] == ([] if asked is None else [asked])
    assert cleaning.result == result
