"""Reading and writing keys: what is asked, what the answers come to, and that no race ends in a server's error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nats_proto._jetstream.errors import ApiError, JetStreamDecodeError, MessageTTLError
from nats_proto._jetstream.stream_config import StreamSource
from nats_proto._keyvalue.bucket import KeyValueConfig, stream_of
from nats_proto._keyvalue.errors import (
    BucketNotFoundError,
    InvalidKeyError,
    KeyDeletedError,
    KeyExistsError,
    KeyNotFoundError,
    RevisionMismatchError,
)
from nats_proto._keyvalue.many import snapshot_refused
from nats_proto.errors import NATSTimeoutError, NoRespondersError
from tests.proto.keyvalue import Stream, refusal

IN_FLIGHT = refusal(10164, "wrong last sequence")
MISMATCH = refusal(10071, "wrong last sequence: 9")
SILENCE = NATSTimeoutError("no answer", outcome="unknown")


def test_put_and_get() -> None:
    stream = Stream()
    assert stream.put(stream.bucket, "a.b", b"1") == 1
    entry = stream.run(stream.bucket.get("a.b"))
    assert (entry.bucket, entry.key, entry.value, entry.revision, entry.operation) == ("B", "a.b", b"1", 1, "put")
    assert stream.asked[0] == "$KV.B.a.b"
    stream.put(stream.bucket, "a.b", b"2")
    stream.write("other")
    assert stream.run(stream.bucket.get("a.b", 1)).value == b"1"
    for revision in (3, 4):  # another key's, and none
        with pytest.raises(KeyNotFoundError, match=f"revision {revision}"):
            stream.run(stream.bucket.get("a.b", revision))
    with pytest.raises(KeyNotFoundError, match="get key 'none' of bucket 'B'"):
        stream.run(stream.bucket.get("none"))


def test_a_put_is_tried_again_by_what_has_failed() -> None:
    stream = Stream()
    stream.faults.extend([NoRespondersError("nobody", "$KV.B.k"), refusal(10008, "no leader"), None])
    assert stream.put(stream.bucket, "k", b"1") == 1
    assert stream.asked == ["$KV.B.k"] * 3
    stream.faults.append(SILENCE)
    with pytest.raises(NATSTimeoutError, match="no acknowledgement") as raised:
        stream.put(stream.bucket, "k", b"2")
    assert raised.value.outcome == "unknown"
    stream.faults.append(refusal(10077, "maximum bytes exceeded"))
    with pytest.raises(ApiError, match="maximum bytes"):
        stream.put(stream.bucket, "k", b"2")
    assert len(stream.asked) == 5


def test_a_put_that_makes_no_sense() -> None:
    bucket = Stream().bucket
    with pytest.raises(InvalidKeyError):
        bucket.put("a b", b"1")
    with pytest.raises(TypeError, match="a value must be bytes"):
        bucket.put("k", "1")  # type: ignore[arg-type]
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            bucket.put("k", b"1", wrong)
    with pytest.raises(TypeError, match="timeout"):
        bucket.put("k", b"1", "1")  # type: ignore[arg-type]
    assert bucket.put("k", b"1").seconds == 5.0
    assert bucket.put("k", memoryview(b"1"), 2).data == b"1"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "operation"),
    [
        ({"KV_Operation": "DEL"}, "delete"),
        ({"KV_Operation": "PURGE"}, "purge"),
        ({"Nats_Marker_Reason": "MaxAge"}, "expired"),
    ],
)
def test_r54_markers_are_no_values(headers: dict[str, str], operation: str) -> None:
    stream = Stream()
    stream.write("k", b"", **headers)
    with pytest.raises(KeyDeletedError) as raised:
        stream.run(stream.bucket.get("k"))
    assert (raised.value.operation, raised.value.revision, raised.value.key) == (operation, 1, "k")
    assert stream.run(stream.bucket.create("k", b"new")) == 2
    assert stream.run(stream.bucket.modify("other", lambda value: b"%r" % value)) == 3
    assert stream.run(stream.bucket.get("other")).value == b"None"


@pytest.mark.parametrize("call", ["put", "get", "create", "update", "delete", "purge", "modify"])
def test_a_wrong_key_is_refused_before_anything_is_asked(call: str) -> None:
    stream = Stream()
    values: dict[str, list[Any]] = {"put": [b""], "create": [b""], "update": [b"", 1], "modify": [bytes]}
    with pytest.raises(InvalidKeyError):
        stream.run(getattr(stream.bucket, call)("a b", *values.get(call, [])))
    assert stream.asked == []


def rival(key: str, **headers: str) -> Callable[[Stream], None]:
    def write(stream: Stream) -> None:
        stream.write(key, b"rival", **headers)

    return write


def gone(stream: Stream) -> None:
    stream.messages.clear()


@pytest.mark.parametrize(
    ("before", "faults", "outcome"),
    [
        ({}, [], 2),
        ({}, [rival("k")], KeyExistsError),
        ({}, [IN_FLIGHT, IN_FLIGHT], 2),
        ({}, [IN_FLIGHT, rival("k")], KeyExistsError),
        ({"KV_Operation": "DEL"}, [], 2),
        ({"KV_Operation": "DEL"}, [None, None, rival("k", KV_Operation="PURGE")], 3),
        ({"KV_Operation": "DEL"}, [None, None, rival("k")], KeyExistsError),
        ({"KV_Operation": "DEL"}, [None, None, gone], 2),
        ({"KV_Operation": "DEL"}, [None, gone], 2),
        ({"Nats_Marker_Reason": "MaxAge"}, [], 2),
        ({}, [IN_FLIGHT] * 1000, KeyExistsError),
        ({}, [MISMATCH, None] * 500, KeyExistsError),
    ],
)
def test_r50_create_ends_in_a_revision_or_key_exists(before: dict[str, str], faults: list[Any], outcome: Any) -> None:
    stream = Stream()
    stream.write("k" if before else "other", b"", **before)
    stream.faults.extend(faults)
    if isinstance(outcome, int):
        assert stream.run(stream.bucket.create("k", b"1")) == outcome
        assert stream.run(stream.bucket.get("k")).value == b"1"
    else:
        with pytest.raises(outcome, match="create key 'k' of bucket 'B'"):
            stream.run(stream.bucket.create("k", b"1"))
    assert stream.now < 1007  # it ends with the time of the call
    assert all(0.005 <= pause <= 0.05 for pause in stream.pauses)


@pytest.mark.parametrize(
    ("faults", "outcome"),
    [
        ([], 2),
        ([IN_FLIGHT], 2),
        ([rival("k")], RevisionMismatchError),
        ([IN_FLIGHT, rival("k")], RevisionMismatchError),
        ([IN_FLIGHT, None, rival("k")], RevisionMismatchError),
        ([IN_FLIGHT, gone], RevisionMismatchError),
        ([IN_FLIGHT, None] * 500, RevisionMismatchError),
    ],
)
@pytest.mark.parametrize("call", ["update", "delete", "purge"])
def test_r50_update_ends_in_a_revision_or_a_mismatch(call: str, faults: list[Any], outcome: Any) -> None:
    stream = Stream()
    expected = stream.write("k")
    stream.faults.extend(faults)
    calls = {
        "update": lambda: stream.bucket.update("k", b"1", expected),
        "delete": lambda: stream.bucket.delete("k", revision=expected),
        "purge": lambda: stream.bucket.purge("k", revision=expected),
    }
    if isinstance(outcome, int):
        assert stream.run(calls[call]()) == outcome
    else:
        with pytest.raises(RevisionMismatchError, match=f"{call} key 'k' of bucket 'B'") as raised:
            stream.run(calls[call]())
        assert (raised.value.expected, raised.value.outcome) == (1, "failed")
    assert stream.now < 1007


def test_a_mismatch_tells_the_revision() -> None:
    stream = Stream()
    stream.write("k")
    stream.write("k")
    with pytest.raises(RevisionMismatchError) as raised:
        stream.run(stream.bucket.update("k", b"1", 1))
    assert raised.value.revision == 2
    with pytest.raises(ValueError, match="revision"):
        stream.run(stream.bucket.update("k", b"1", -1))


@pytest.mark.parametrize(
    "write",
    [
        lambda bucket: bucket.create("k", b"1"),
        lambda bucket: bucket.update("k", b"1", 0),
        lambda bucket: bucket.modify("k", lambda _: b"1"),
    ],
    ids=["create", "update", "modify"],
)
def test_the_own_write_is_no_rival(write: Callable[[Any], Any]) -> None:
    """The acknowledgement was lost: a stream with one replica then refuses the second try for its condition."""

    class Lossy(Stream):
        lose = True

        def _publish(self, subject: str, request: Any) -> Any:
            answer = super()._publish(subject, request)
            if self.lose:
                self.lose = False
                raise SILENCE
            return answer

    stream = Lossy()
    assert stream.run(write(stream.bucket)) == 1
    assert len(stream.messages) == 1


def test_modify_reads_again_when_another_was_quicker() -> None:
    stream = Stream()
    stream.write("k", b"a")
    stream.faults.extend([None, rival("k"), None, None])
    seen: list[bytes | None] = []

    def change(value: bytes | None) -> bytes:
        seen.append(value)
        return (value or b"") + b"!"

    assert stream.run(stream.bucket.modify("k", change)) == 3
    assert seen == [b"a", b"rival"]
    assert stream.run(stream.bucket.get("k")).value == b"rival!"
    stream.faults.extend([None, MISMATCH] * 1000)
    with pytest.raises(RevisionMismatchError):
        stream.run(stream.bucket.modify("k", change))
    stream.faults.clear()
    with pytest.raises(ZeroDivisionError):
        stream.run(stream.bucket.modify("k", lambda _: bytes(1 // 0)))


def test_deletes_and_purges_are_markers() -> None:
    stream = Stream()
    for _ in range(2):
        stream.write("k")
    assert stream.run(stream.bucket.delete("k")) == 3
    assert len(stream.messages) == 3
    assert stream.run(stream.bucket.purge("k", ttl=60)) == 4
    ((_, data, headers),) = stream.messages.values()
    assert data == b""
    assert dict(headers.items()) == {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": "60"}
    stream.faults.append(refusal(10166, "per-message TTL is disabled"))
    with pytest.raises(MessageTTLError):
        stream.run(stream.bucket.create("new", b"", ttl=5))


def test_r51_min_revision_asks_until_it_is_there() -> None:
    stream = Stream()
    stream.write("k", b"old")

    def put(model: Stream) -> None:
        model.write("k", b"new")

    stream.faults.extend([None, None, None, None, put])
    entry = stream.run(stream.bucket.get("k", min_revision=2))
    assert (entry.value, entry.revision) == (b"new", 2)
    with pytest.raises(NATSTimeoutError, match="no revision from 9 on"):
        stream.run(stream.bucket.get("k", min_revision=9, timeout=0.5))
    with pytest.raises(ValueError, match="not both"):
        stream.run(stream.bucket.get("k", 1, min_revision=1))
    with pytest.raises(KeyNotFoundError):
        stream.run(stream.bucket.get("none", min_revision=1))


def test_r51_reads_from_the_leader() -> None:
    for stream, options in ((Stream(reads="leader"), {}), (Stream(), {"reads": "leader"})):
        stream.write("k")
        stream.run(stream.bucket.get("k", **options))  # type: ignore[arg-type]
        assert stream.asked == ["$JS.API.STREAM.MSG.GET.KV_B"]
    with pytest.raises(ValueError, match="reads"):
        stream.run(stream.bucket.get("k", reads="some"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reads"):
        Stream(reads="some")  # type: ignore[arg-type]


def test_r52_writes_have_the_prefix_and_reads_have_not() -> None:
    stream = Stream(domain="hub")
    stream.put(stream.bucket, "k", b"1")
    assert stream.asked == ["$JS.hub.API.$KV.B.k"]
    assert stream.run(stream.bucket.get("k")).key == "k"


def test_r52_a_mirror_writes_to_its_origin() -> None:
    stream = Stream(stream_of(KeyValueConfig(bucket="M", mirror=StreamSource(name="B", domain="hub"))))
    stream.write("k", b"", KV_Operation="DEL")
    assert stream.run(stream.bucket.create("k", b"1")) == 2
    assert stream.asked == [
        "$JS.hub.API.$KV.B.k",
        "$JS.hub.API.STREAM.MSG.GET.KV_B",
        "$JS.hub.API.$KV.B.k",
    ]
    entry = stream.run(stream.bucket.get("k", reads="leader"))
    assert (entry.bucket, entry.key) == ("M", "k")
    assert stream.asked[-1] == "$JS.API.STREAM.MSG.GET.KV_M"


def test_a_bucket_that_is_gone() -> None:
    stream = Stream(reads="leader")
    stream.faults.append(refusal(10059, "stream not found"))
    with pytest.raises(BucketNotFoundError, match="bucket 'B'"):
        stream.run(stream.bucket.get("k"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{",
        b"[]",
        b'{"message":7}',
        b'{"message":{"subject":"$KV.B.other","seq":1}}',
        b'{"message":{"subject":"elsewhere","seq":1}}',
        b'{"message":{"subject":"$KV.B.k","seq":1,"data":"!"}}',
    ],
)
def test_answers_that_are_none(answer: bytes) -> None:
    stream = Stream(reads="leader")
    stream.faults.append(answer)
    with pytest.raises(JetStreamDecodeError):
        stream.run(stream.bucket.get("k"))


def test_other_errors_come_as_they_are() -> None:
    stream = Stream()
    stream.faults.append(refusal(10077, "maximum bytes exceeded"))
    with pytest.raises(ApiError):
        stream.run(stream.bucket.create("k", b"1"))


class Upper:
    """Keys are written in capitals, with an x in front."""

    def encode(self, key: str) -> str:
        return "X" + key.upper()

    def encode_pattern(self, pattern: str) -> str:
        return pattern if pattern == ">" else self.encode(pattern)

    def decode(self, key: str) -> str:
        if not key.startswith("X"):
            raise ValueError(key)
        return key[1:].lower()


class Backwards:
    def encode(self, value: bytes) -> bytes:
        return value[::-1]

    def decode(self, data: bytes) -> bytes:
        return data[::-1]


def test_codecs() -> None:
    stream = Stream()
    typed = stream.bucket.typed(dict[str, int]).with_keys(Upper())
    assert stream.put(typed, "k", {"a": 1}) == 1
    assert stream.messages[1][:2] == ("$KV.B.XK", b'{"a":1}')
    entry = stream.run(typed.get("k"))
    assert (entry.key, entry.value) == ("k", {"a": 1})
    assert stream.run(typed.modify("k", lambda value: {"a": (value or {})["a"] + 1})) == 2
    assert stream.run(typed.untyped().get("k")).value == b'{"a":2}'
    assert typed.filter(">") == "$KV.B.>"
    assert typed.entry("$KV.B.k", b"", None, 1, None, 0) is None
    assert typed.entry("elsewhere", b"", None, 1, None, 0) is None
    other = typed.with_values(Backwards())
    assert stream.put(other, "k", {"a": 1}) == 3
    assert stream.messages[3][:2] == ("$KV.B.XK", b'}1:"a"{')
    assert stream.run(other.typed(bytes).get("k")).value == b'{"a":1}'
    with pytest.raises(TypeError):
        stream.bucket.typed(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "told"), [(413, "more than 1024 keys match"), (408, "as the server said")])
def test_n6_a_snapshot_that_is_refused(code: int, told: str) -> None:
    refused = snapshot_refused(Stream().bucket, ApiError("as the server said", code=code, description="words"))
    assert told in str(refused)
    assert (refused.code, refused.description) == (code, "words")
