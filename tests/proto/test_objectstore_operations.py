"""What happens to objects: each change by one message, under races, with nothing left behind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nats_proto._jetstream.errors import (
    JetStreamDecodeError,
    StreamSealedError,
    WrongLastSequenceError,
)
from nats_proto._jetstream.stream_config import StreamConfig
from nats_proto._json.wire_value import to_wire
from nats_proto._keyvalue.errors import BucketNotFoundError, InvalidBucketError
from nats_proto._objectstore.errors import (
    InvalidObjectNameError,
    ObjectExistsError,
    ObjectLinkError,
    ObjectNotFoundError,
)
from nats_proto._objectstore.garbage import Garbage
from nats_proto._objectstore.info import ObjectInfo
from nats_proto._objectstore.metas import Metas
from nats_proto._objectstore.store import Put, Store, store_of
from nats_proto.errors import ConnectionClosedError, NATSTimeoutError
from tests.proto.objectstore import SUBJECTS, Desk, Stream, failure, reply

WAIT_FOR_OTHERS = 10164


def put(stream: Stream, name: str, data: bytes = b"aaaabb", *, until_commit: bool = False, **fields: Any) -> Put:
    made = stream.store.put(name, fields, chunk_size=4, max_payload=1024 * 1024)  # type: ignore[arg-type]
    desk = Desk(made.writer, stream)
    made.writer.write(data, now=stream.now)
    made.writer.finish(now=stream.now)
    desk.answer_all()
    assert made.writer.done
    if not until_commit:
        written = stream.run(stream.store.commit(made))
        assert written.left is None
        assert written.info.nuid == made.nuid
    return made


def info(stream: Stream, name: str, **options: Any) -> ObjectInfo:
    found = stream.run(stream.store.info(name, **options))
    assert isinstance(found, ObjectInfo)
    return found


# --- put -------------------------------------------------------------------------------------------------------------


def test_put() -> None:
    stream = Stream()
    made = put(stream, "a b/ü", description="d", headers={"x": ["1", "2"]}, metadata={"k": "v"})
    found = info(stream, "a b/ü")
    assert (found.name, found.bucket, found.size, found.chunks) == ("a b/ü", "B", 6, 2)
    assert (found.description, found.headers, found.metadata) == ("d", {"x": ("1", "2")}, {"k": "v"})
    assert found.options is not None
    assert found.options.max_chunk_size == 4
    assert found.digest == made.writer.digest
    assert found.mtime is not None
    subject, data, headers = stream.messages[max(stream.messages)]
    assert subject == "$O.B.M.YSBiL8O8"
    assert headers["Nats-Rollup"] == "sub"
    assert msgspec.json.decode(data).keys() == {
        "name", "bucket", "nuid", "size", "chunks", "digest", "description", "headers", "metadata", "options",
    }  # fmt: skip
    assert stream.chunks(made.nuid) == [b"aaaa", b"bb"]


def test_put_again_purges_the_chunks_of_the_version_before_and_no_others() -> None:
    stream = Stream()
    other, first = put(stream, "other"), put(stream, "a")
    second = put(stream, "a", b"cccccc", until_commit=True)
    assert info(stream, "a").nuid == first.nuid, "until then the old one is there"
    stream.run(stream.store.commit(second))
    assert stream.nuids == {other.nuid, second.nuid}


def test_put_of_nothing() -> None:
    stream = Stream()
    put(stream, "a")
    put(stream, "a", b"")
    assert (info(stream, "a").size, info(stream, "a").chunks) == (0, 0)
    assert stream.nuids == set()


def test_two_puts_of_one_object_leave_the_chunks_of_one() -> None:
    """Each writes on the condition that nothing has changed, and so knows which version it replaces."""
    stream = Stream()
    put(stream, "a")
    one, two = put(stream, "a", b"1", until_commit=True), put(stream, "a", b"2", until_commit=True)
    stream.faults.extend([None, lambda _: stream.run(stream.store.commit(two))])
    stream.run(stream.store.commit(one))
    assert stream.nuids == {one.nuid}
    assert info(stream, "a").nuid == one.nuid


def test_others_are_writing_it_all_the_time() -> None:
    stream = Stream()
    made = put(stream, "a", until_commit=True)
    stream.faults.extend([None, failure(WAIT_FOR_OTHERS, "wrong last sequence").data] * 1000)
    with pytest.raises(WrongLastSequenceError) as raised:
        stream.run(stream.store.commit(made))
    assert raised.value.__notes__ == ["put object 'a' into bucket 'B': others are writing it all the time"]
    assert raised.value.outcome == "failed"
    stream.faults.clear()
    assert stream.run(stream.store.undo(made, certain=True)) == ""
    assert stream.nuids == set()


def test_an_answer_to_the_info_that_was_lost() -> None:
    """It is stored at the first try, and found again."""
    stream = Stream()
    made = put(stream, "a", until_commit=True)

    def lose(_: Stream) -> None:
        original = stream.answer

        def once(*args: Any) -> Any:
            stream.answer = original  # type: ignore[method-assign]
            original(*args)
            raise NATSTimeoutError("silence")

        stream.answer = once  # type: ignore[method-assign]

    stream.faults.extend([None, lose])
    written = stream.run(stream.store.commit(made))
    assert written.info.nuid == made.nuid
    assert info(stream, "a").nuid == made.nuid


def test_a_version_does_not_purge_its_own_chunks() -> None:
    """It finds its own info, when nobody could tell that this was stored at an earlier try."""
    stream = Stream()
    made = put(stream, "a")
    stream.run(stream.store.commit(made))
    assert stream.nuids == {made.nuid}


def test_the_chunks_of_the_version_before_cannot_be_purged() -> None:
    stream = Stream()
    first, second = put(stream, "a"), put(stream, "a", until_commit=True)
    stream.faults.extend([None, None, NATSTimeoutError("silence")])
    written = stream.run(stream.store.commit(second))
    assert isinstance(written.left, NATSTimeoutError)
    assert stream.nuids == {first.nuid, second.nuid}


@pytest.mark.parametrize("old", [b"no json", b'{"name":"a","size":5,"chunks":1,"nuid":">"}'], ids=["no info", "nuid"])
def test_an_info_that_is_none_is_replaced_and_nothing_is_purged_for_it(old: bytes) -> None:
    stream = Stream()
    other = put(stream, "other")
    stream.write(SUBJECTS.meta("a"), old)
    made = put(stream, "a")
    assert stream.nuids == {other.nuid, made.nuid}


def test_undo() -> None:
    stream = Stream()
    old = put(stream, "a")
    made = put(stream, "a", until_commit=True)
    assert stream.run(stream.store.undo(made, certain=True)) == ""
    assert stream.nuids == {old.nuid}
    made = put(stream, "a", until_commit=True)
    stream.faults.append(StreamSealedError("sealed"))
    assert "could not be removed: sealed" in stream.run(stream.store.undo(made, certain=True))
    made.writer.unsettled = 3
    assert "Whether 3 of its chunks" in stream.run(stream.store.undo(made, certain=True))
    untouched = stream.store.put("a", {}, chunk_size=4, max_payload=0)
    asked = len(stream.asked)
    assert stream.run(stream.store.undo(untouched, certain=True)) == ""
    assert len(stream.asked) == asked, "nothing was stored, and so nothing is purged"


def test_undo_of_what_may_be_stored() -> None:
    stream = Stream()
    made = put(stream, "a", until_commit=True)
    assert "may be stored yet" in stream.run(stream.store.undo(made, certain=False))
    stream.faults.append(ConnectionClosedError("closed"))
    assert "not known" in stream.run(stream.store.undo(made, certain=False))
    stream.run(stream.store.commit(made))
    assert stream.run(stream.store.undo(made, certain=False)) == "The object was stored all the same."
    assert stream.nuids == {made.nuid}


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"chunk_size": 0}, ValueError, "chunk_size must be from 1"),
        ({"chunk_size": 1024}, ValueError, "chunk_size must be at most 1000 bytes"),
        ({"chunk_size": 1.5}, TypeError, "chunk_size must be int"),
        ({"timeout": 0}, ValueError, "timeout must be greater"),
        ({"name": ""}, InvalidObjectNameError, "must not be empty"),
        ({"name": "\ud800"}, InvalidObjectNameError, "surrogate"),
        ({"name": "ü" * 1025}, InvalidObjectNameError, "2050 bytes, 2048 are allowed"),
        ({"name": b"a"}, TypeError, "must be str, not bytes"),
        ({"fields": {"description": 5}}, TypeError, "description must be str"),
        ({"fields": {"headers": {"a": "b"}}}, TypeError, "must be a list of them"),
    ],
)
def test_what_cannot_be_put(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    options: dict[str, Any] = {"name": "a", "fields": {}, "chunk_size": None, "max_payload": 2024, **wrong}
    stream = Stream()
    with pytest.raises(error, match=text):
        stream.store.put(options.pop("name"), options.pop("fields"), **options)
    assert stream.asked == []


def test_the_size_of_chunks_fits_into_what_the_server_takes() -> None:
    stream = Stream()
    assert stream.store.put("a", {}, chunk_size=None, max_payload=2024).chunk_size == 1000
    assert stream.store.put("a", {}, chunk_size=None, max_payload=1024 * 1024).chunk_size == 128 * 1024
    assert stream.store.put("a", {}, chunk_size=None, max_payload=0).chunk_size == 128 * 1024


# --- info ------------------------------------------------------------------------------------------------------------


def test_info_of_what_is_not_there() -> None:
    stream = Stream()
    put(stream, "a")
    stream.run(stream.store.delete("a"))
    for name in ("a", "b"):
        with pytest.raises(ObjectNotFoundError, match=f"info of object '{name}' of bucket 'B'") as raised:
            info(stream, name)
        assert (raised.value.bucket, raised.value.name) == ("B", name)
    assert info(stream, "a", show_deleted=True).deleted
    stream.faults.extend([None, failure(10059, "stream not found", 404).data])
    with pytest.raises(BucketNotFoundError, match="'B'"):
        info(stream, "a")


def test_the_name_in_the_text_of_an_info_is_not_believed() -> None:
    stream = Stream()
    stream.write(SUBJECTS.meta("a"), b'{"name":"other","bucket":"C"}')
    assert (info(stream, "a").name, info(stream, "a").bucket) == ("a", "B")


def test_the_time_in_the_text_of_an_info_is_not_read() -> None:
    """It is that of the message. nats-py writes an empty text when it deletes an object."""
    for text in (b'""', b'"0001-01-01T00:00:00Z"', b'"yesterday"', b"5", b"null"):
        stream = Stream()
        stream.write(SUBJECTS.meta("a"), b'{"name":"a","mtime":%s}' % text)
        assert info(stream, "a").mtime is not None
        assert not info(stream, "a").unknown


def test_an_answer_about_another_object() -> None:
    stream = Stream()
    put(stream, "b")
    stream.faults.extend([None, stream._leader(stream._last(SUBJECTS.meta("b"))).data])
    with pytest.raises(JetStreamDecodeError, match="another subject"):
        info(stream, "a")


def test_the_leader_is_asked_when_it_is_to_be() -> None:
    stream = Stream(reads="leader")
    put(stream, "a")
    stream.asked.clear()
    info(stream, "a")
    assert stream.asked == ["$JS.API.STREAM.MSG.GET.OBJ_B"]
    with pytest.raises(ValueError, match="reads must be"):
        Store(stream.api, "B", "nobody")  # type: ignore[arg-type]


def test_store_of() -> None:
    stream = Stream()
    store = store_of(stream.api, StreamConfig(name="OBJ_files", duplicate_window=3.0), "any")
    assert (store.name, store.api, repr(store)) == ("files", stream.api, "<ObjectStore 'files'>")
    assert store._window == 3.0
    with pytest.raises(InvalidBucketError):
        Store(stream.api, "a" * 252)


# --- delete and rename -----------------------------------------------------------------------------------------------


def test_delete() -> None:
    stream = Stream()
    put(stream, "a", description="d")
    written = stream.run(stream.store.delete("a"))
    assert (written.info.deleted, written.info.size, written.info.chunks, written.info.digest) == (True, 0, 0, None)
    assert stream.nuids == set()
    sequence = stream.sequence
    assert stream.run(stream.store.delete("a")).info.deleted
    assert stream.sequence == sequence, "it was deleted before"
    with pytest.raises(ObjectNotFoundError, match="delete object 'b' of bucket 'B'"):
        stream.run(stream.store.delete("b"))
    put(stream, "a")
    assert not info(stream, "a").deleted


def test_update_info() -> None:
    stream = Stream()
    put(stream, "a", description="d", metadata={"k": "v"})
    before = info(stream, "a")
    stream.run(stream.store.update_info("a", None, {"description": None, "headers": {"h": ["1"]}}))
    after = info(stream, "a")
    assert (after.description, after.headers, after.metadata) == (None, {"h": ("1",)}, {"k": "v"})
    assert (after.nuid, after.digest, after.options) == (before.nuid, before.digest, before.options)
    stream.run(stream.store.update_info("a", "a", {}))
    with pytest.raises(TypeError):
        stream.run(stream.store.update_info("a", None, {"description": 5}))  # type: ignore[typeddict-item]


def test_rename() -> None:
    stream = Stream()
    made = put(stream, "a", description="d")
    stream.run(stream.store.update_info("a", "b", {"description": "e"}))
    assert (info(stream, "b").description, info(stream, "b").nuid) == ("e", made.nuid)
    with pytest.raises(ObjectNotFoundError):
        info(stream, "a")
    # It stays as that of a deletion does: else who watches might never be told.
    assert info(stream, "a", show_deleted=True).deleted
    assert stream.chunks(made.nuid) == [b"aaaa", b"bb"]
    stream.run(stream.store.update_info("b", "a", {}))
    assert info(stream, "a").nuid == made.nuid
    stream.run(stream.store.update_info("a", "b", {}))
    stream.run(stream.store.delete("b"))
    put(stream, "c")
    stream.run(stream.store.update_info("c", "b", {}))
    assert info(stream, "b").chunks == 2


def test_what_cannot_be_changed() -> None:
    stream = Stream()
    put(stream, "a")
    put(stream, "b")
    put(stream, "gone")
    stream.run(stream.store.delete("gone"))
    for new in (None, "c"):
        for name in ("none", "gone"):
            with pytest.raises(ObjectNotFoundError, match=f"update info of object '{name}'"):
                stream.run(stream.store.update_info(name, new, {}))
    with pytest.raises(ObjectExistsError, match="there is an object 'b' already") as raised:
        stream.run(stream.store.update_info("a", "b", {}))
    assert raised.value.name == "b"
    with pytest.raises(InvalidObjectNameError):
        stream.run(stream.store.update_info("a", "", {}))


def test_replaced_while_it_is_renamed() -> None:
    """What has the new name must not be an object whose chunks are gone."""
    stream = Stream()
    put(stream, "a", b"old")
    newer: list[Put] = []
    # Read a, read b, write b; then, before a is read again:
    stream.faults.extend([None, None, None, lambda _: newer.append(put(stream, "a", b"newer"))])
    stream.run(stream.store.update_info("a", "b", {}))
    assert info(stream, "b").nuid == newer[0].nuid
    assert stream.nuids == {newer[0].nuid}


def test_replaced_all_the_time_while_it_is_renamed() -> None:
    stream = Stream()
    put(stream, "a", b"old")

    def replace(_: Stream) -> None:
        put(stream, "a", b"newer")
        stream.now += 10.0

    stream.faults.extend([None, None, None, replace])
    with pytest.raises(ObjectExistsError, match="replaced all the time"):
        stream.run(stream.store.update_info("a", "b", {}))
    assert info(stream, "a").size == 5
    with pytest.raises(ObjectNotFoundError):
        info(stream, "b", show_deleted=True)


# --- links -----------------------------------------------------------------------------------------------------------


def test_links() -> None:
    stream = Stream()
    put(stream, "a")
    stream.run(stream.store.add_link("l", info(stream, "a")))
    stream.run(stream.store.add_bucket_link("whole", "C"))
    link = info(stream, "l").link
    assert link is not None
    assert to_wire(link) == {"bucket": "B", "name": "a"}
    assert info(stream, "whole").link is not None
    store, found = stream.run(stream.store.target("l"))
    assert (store.name, found.name) == ("B", "a")
    stream.run(stream.store.add_link("whole", info(stream, "a")))  # a link may be replaced
    stream.run(stream.store.update_info("l", "m", {}))
    assert stream.run(stream.store.target("m"))[1].name == "a"
    stream.run(stream.store.delete("m"))
    assert info(stream, "a").chunks == 2


def test_links_that_may_not_be() -> None:
    stream = Stream()
    put(stream, "a")
    put(stream, "gone")
    stream.run(stream.store.delete("gone"))
    stream.run(stream.store.add_link("l", info(stream, "a")))
    for to in ("l", "gone"):
        with pytest.raises(ObjectLinkError, match="add link 'x' to bucket 'B'"):
            stream.run(stream.store.add_link("x", info(stream, to, show_deleted=True)))
    for link in (stream.store.add_link("a", info(stream, "a")), stream.store.add_bucket_link("a", "C")):
        with pytest.raises(ObjectExistsError, match="which is no link"):
            stream.run(link)
    with pytest.raises(InvalidBucketError):
        stream.run(stream.store.add_bucket_link("x", "a b"))
    stream.run(stream.store.add_link("gone", info(stream, "a")))


LINKS = {
    b'{"name":"l","options":{"link":{"bucket":"C"}}}': "a link to the bucket 'C'",
    b'{"name":"l","options":{"link":{"bucket":"B","name":"none"}}}': "not there",
    b'{"name":"l","options":{"link":{"bucket":"B","name":""}}}': "not there",
    b'{"name":"l","options":{"link":{"bucket":"a.>","name":"a"}}}': "not there",
    b'{"name":"l","options":{"link":{"bucket":"B","name":"l"}}}': "a link itself",
}


@pytest.mark.parametrize("data", LINKS)
def test_links_that_lead_nowhere(data: bytes) -> None:
    stream = Stream()
    stream.write(SUBJECTS.meta("l"), data)
    with pytest.raises(ObjectLinkError, match=LINKS[data]) as raised:
        stream.run(stream.store.target("l"))
    assert "get object 'l' of bucket 'B'" in str(raised.value)
    assert raised.value.name == "l"


def test_another_bucket() -> None:
    stream = Stream()
    stream.write(SUBJECTS.meta("l"), b'{"name":"l","options":{"link":{"bucket":"C","name":"x"}}}')
    stream.faults.extend([None, None, None, failure(10059, "stream not found", 404).data])
    with pytest.raises(ObjectLinkError, match="'C'"):
        stream.run(stream.store.target("l"))
    assert stream.store.other("C").name == "C"


# --- garbage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("older_than", "gone", "kept"), [(0, 2, 0), (3600, 2, 0), (3601, 0, 2)])
def test_garbage(older_than: float, gone: int, kept: int) -> None:
    """The model's messages are an hour old."""
    stream = Stream()
    live = put(stream, "a")
    put(stream, "orphan", until_commit=True)
    put(stream, "other orphan", b"x", until_commit=True)
    stream.write("$O.B.C.a.b", b"not ours")
    garbage = Garbage(stream.store, older_than)
    stream.run(garbage.look(None))
    finished = put(stream, "late")  # its info comes after the look
    for name in ("a", "late"):
        garbage.keep(info(stream, name))
    stream.run(stream.store.add_bucket_link("l", "C"))
    garbage.keep(info(stream, "l"))
    stream.run(garbage.collect(None))
    assert (garbage.result.objects, garbage.result.kept) == (gone, kept)
    assert garbage.result.chunks == (3 if gone else 0)
    assert stream.nuids >= {live.nuid, finished.nuid}
    assert len(stream.nuids) == 2 + kept


def test_garbage_that_somebody_else_has_cleared_away() -> None:
    stream = Stream()
    put(stream, "orphan", until_commit=True)
    garbage = Garbage(stream.store, 60)
    stream.run(garbage.look(None))
    stream.messages.clear()
    stream.run(garbage.collect(None))
    assert garbage.result.objects == 0
    stream.faults.append(failure(10059, "stream not found", 404).data)
    with pytest.raises(BucketNotFoundError):
        stream.run(Garbage(stream.store, 60).look(None))


def test_garbage_whose_age_is_not_known_is_kept() -> None:
    stream = Stream()
    put(stream, "orphan", until_commit=True)
    garbage = Garbage(stream.store, 60)
    config = {"config": {"name": "OBJ_B"}, "state": {"subjects": {next(iter(stream.messages.values()))[0]: 1}}}
    stream.faults.append(reply(config).data)
    stream.run(garbage.look(None))
    stream.run(garbage.collect(None))
    assert garbage.result.kept == 1
    with pytest.raises(TypeError):
        Garbage(stream.store, "1 h")  # type: ignore[arg-type]


# --- infos as entries of a watch -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "data", "operation"),
    [
        (SUBJECTS.meta("a"), b'{"name":"a"}', "put"),
        (SUBJECTS.meta("a"), b'{"name":"a","deleted":true}', "delete"),
        (SUBJECTS.meta("a"), b"no info", "put"),
        ("$O.B.M.", b'{"name":"a"}', None),
        ("$O.B.M.a", b'{"name":"a"}', None),
        ("$O.B.M._w==", b'{"name":"a"}', None),
        ("$O.B.M.a.b", b'{"name":"a"}', None),
        ("$O.C.M.YQ==", b'{"name":"a"}', None),
        ("$O.B.C.n", b"chunk", None),
    ],
)
def test_entries(subject: str, data: bytes, operation: str | None) -> None:
    metas = Metas(Stream().api, SUBJECTS)
    assert (metas.subjects.stream, metas.filter(">")) == ("OBJ_B", "$O.B.M.>")
    entry = metas.entry(subject, data, None, 1, None, 0)
    assert (None if entry is None else entry.operation) == operation
    if entry is not None and data != b"no info":
        assert metas.info_of(entry).name == "a"
    elif entry is not None:
        with pytest.raises(JetStreamDecodeError, match="info of object 'a'"):
            metas.info_of(entry)
