"""Buckets of objects: their configuration as a stream, and what is asked about them as a whole."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest

from nats_proto import Message, Operation, Request
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.stream_config import Placement, StreamConfig
from nats_proto._json.wire_value import to_wire
from nats_proto._keyvalue.errors import BucketExistsError, BucketNotFoundError, InvalidBucketError
from nats_proto._objectstore import buckets
from nats_proto._objectstore.bucket import (
    ObjectStoreConfig,
    ObjectStoreFields,
    config_of,
    read_store,
    stream_of,
)
from tests.proto.consuming import Inboxes
from tests.proto.objectstore import failure, reply

FULL = ObjectStoreConfig(
    bucket="files",
    description="d",
    ttl=60.0,
    max_bytes=1000,
    storage="memory",
    num_replicas=3,
    placement=Placement(cluster="c"),
    compression=True,
    metadata={"a": "b"},
)


def test_the_stream_of_a_bucket() -> None:
    assert to_wire(stream_of(ObjectStoreConfig(bucket="files"))) == {
        "name": "OBJ_files",
        "subjects": ["$O.files.C.>", "$O.files.M.>"],
        "retention": "limits",
        "discard": "new",
        "max_age": 0,
        "max_bytes": -1,
        "storage": "file",
        "num_replicas": 1,
        "compression": "none",
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }
    assert to_wire(stream_of(FULL))["compression"] == "s2"
    assert to_wire(stream_of(FULL))["max_age"] == 60 * 10**9


def test_there_and_back() -> None:
    assert config_of(stream_of(FULL)) == FULL


def test_fields_are_those_of_the_configuration() -> None:
    fields = set(ObjectStoreConfig.__struct_fields__) - {"bucket", "unknown"}
    assert fields == set(get_type_hints(ObjectStoreFields))


def test_read_store() -> None:
    assert read_store(None, "b", {"ttl": 5}) == ObjectStoreConfig(bucket="b", ttl=5.0)
    assert read_store(FULL, None, {}) is FULL
    assert read_store(FULL, "files", {}) is FULL
    for config, bucket, fields, text in (
        (None, None, {}, "needs a name"),
        (None, "b", {"max_byte": 1}, "did you mean max_bytes"),
        (None, "b", {"zzz": 1}, "there are compression"),
        (5, None, {}, "config must be ObjectStoreConfig, not int"),
        (FULL, None, {"ttl": 5}, "not both: ttl"),
        (None, FULL, {}, "ObjectStoreConfig is given by its keyword: config="),
    ):
        with pytest.raises(TypeError, match=text):
            read_store(config, bucket, fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="given twice"):
        read_store(FULL, "other", {})
    for wrong in ("", "a.b", "a" * 252):
        with pytest.raises(InvalidBucketError):
            read_store(None, wrong, {})


@pytest.mark.parametrize("name", ["KV_files", "files", "OBJ_files"])
def test_a_stream_that_is_no_bucket(name: str) -> None:
    with pytest.raises(BucketNotFoundError):
        config_of(StreamConfig(name=name, subjects=["other"]))


class Server:
    """Has one stream, or none."""

    def __init__(self, config: StreamConfig | None = None) -> None:
        self.api = JetStreamApi(now=lambda: 0.0, new_inbox=Inboxes(), server_version=lambda: "2.15.1")
        self.config = config
        self.asked: list[tuple[str, Any]] = []

    def run(self, operation: Operation[Any]) -> Any:
        try:
            effect = next(operation)
            while True:
                assert isinstance(effect, Request)
                effect = operation.send(self._answer(effect))
        except StopIteration as end:
            return end.value

    def _answer(self, request: Request) -> Message:
        body = msgspec.json.decode(bytes(request.data)) if request.data else {}
        call = request.subject.removeprefix("$JS.API.STREAM.")
        self.asked.append((call, body))
        config = None if self.config is None else to_wire(self.config)
        if call == "NAMES":
            return reply({"streams": ["OBJ_files", "other"], "total": 2})
        if call == "LIST":
            other = {"config": {"name": "other", "subjects": ["$O.x.C.>"]}, "state": {}}
            return reply({"streams": [{"config": config, "state": {"bytes": 5}}, other], "total": 2})
        if call.startswith("CREATE") and config is not None and config != body:
            return failure(10058, "name in use")
        if not call.startswith("CREATE") and config is None:
            return failure(10059, "stream not found", 404)
        if call.startswith("DELETE"):
            return reply({"success": True})
        return reply({"config": body or config, "state": {"bytes": 5}})


def test_create() -> None:
    server = Server()
    status = server.run(buckets.create_store(server.api, FULL, timeout=None))
    assert (status.bucket, status.description, status.bytes, status.sealed) == ("files", "d", 5, False)
    assert (status.ttl, status.storage, status.replicas, status.compressed) == (60.0, "memory", 3, True)
    assert (status.metadata, status.config, status.backing_store) == ({"a": "b"}, FULL, "JetStream")
    server = Server(stream_of(FULL))
    with pytest.raises(BucketExistsError, match="create bucket 'files': it exists with another") as raised:
        server.run(buckets.create_store(server.api, ObjectStoreConfig(bucket="files"), timeout=None))
    assert raised.value.bucket == "files"
    assert raised.value.differences


def test_update_seal_and_delete() -> None:
    server = Server(stream_of(FULL))
    server.run(buckets.update_store(server.api, FULL, timeout=None))
    server.run(buckets.create_or_update_store(server.api, FULL, timeout=None))
    assert server.run(buckets.store_status(server.api, "files", timeout=None)).bucket == "files"
    assert server.run(buckets.seal_store(server.api, "files", timeout=None)).sealed
    _, body = server.asked[-1]
    assert (body["sealed"], body["deny_purge"], body["allow_rollup_hdrs"]) == (True, True, False)
    server.run(buckets.delete_store(server.api, "files", timeout=None))
    assert server.asked[-1][0] == "DELETE.OBJ_files"


def test_a_bucket_that_is_not_there() -> None:
    server = Server()
    for operation, text in (
        (buckets.update_store(server.api, FULL, timeout=None), "update bucket 'files'"),
        (buckets.store_status(server.api, "files", timeout=None), "status of bucket 'files'"),
        (buckets.seal_store(server.api, "files", timeout=None), "seal bucket 'files'"),
        (buckets.delete_store(server.api, "files", timeout=None), "delete bucket 'files'"),
    ):
        with pytest.raises(BucketNotFoundError, match=text) as raised:
            server.run(operation)
        assert raised.value.bucket == "files"
    server.run(buckets.create_or_update_store(server.api, FULL, timeout=None))


def test_lists() -> None:
    server = Server(stream_of(FULL))
    assert server.run(buckets.list_store_names(server.api).next_page(None)) == ["files"]
    found = server.run(buckets.list_stores(server.api).next_page(None))
    assert [status.bucket for status in found] == ["files"]
    assert server.asked[-1][1] == {"subject": "$O.*.C.>"}
