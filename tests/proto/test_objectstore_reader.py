"""Reading an object: whole and as it was put, or an error; the chunks of ranges; what is hostile."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections import deque
from typing import Any

import msgspec
import pytest

from nats_proto import Ask, Message, PublishRefused, Subscribe
from nats_proto._jetstream.errors import ConsumerDeletedError, JetStreamDecodeError, StreamNotFoundError
from nats_proto._keyvalue.errors import BucketNotFoundError
from nats_proto._objectstore.errors import DigestMismatchError, ObjectDamagedError, ObjectReplacedError
from nats_proto._objectstore.info import ObjectInfo
from nats_proto._objectstore.reader import MAX_AHEAD, ObjectReader, Start
from nats_proto._objectstore.seeking import find_chunk
from nats_proto.errors import NATSError, NATSTimeoutError, PermissionsError
from tests.proto.objectstore import SUBJECTS, Stream

STORED = 1_700_000_000_000_000_000


def digest(data: bytes) -> str:
    return "SHA-256=" + urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


class Get:
    """Reads one object of a stream, whose side is here: the consumer, and what it delivers."""

    def __init__(self, stream: Stream, info: ObjectInfo, *, start: Start | None = None, timeout: float = 30.0) -> None:
        self.stream = stream
        self.info = info
        self.machine: ObjectReader[Message] = ObjectReader(
            stream.api, SUBJECTS, info, stream.store.question(info), now=stream.now, timeout=timeout, start=start
        )
        self.given: list[bytes] = []
        self.name = ""
        self.number = 0
        self.left: deque[int] = deque()
        self.asked: list[Ask] = []
        self.pulls: list[Any] = []
        self.silent = False
        """Questions of the reader itself are kept."""
        self.do()

    def do(self) -> None:
        while self.machine.wants:
            want = self.machine.wants.popleft()
            if isinstance(want, Ask):
                self._ask(want)
            elif not isinstance(want, Subscribe):
                self.pulls.append(msgspec.json.decode(bytes(want.data)))
        while self.machine.items:
            self.given.append(self.machine.items.popleft())

    def _ask(self, ask: Ask) -> None:
        parts = ask.api.subject.split(".")
        if parts[2] != "CONSUMER" and self.silent:
            self.asked.append(ask)
            return
        if parts[2:4] == ["CONSUMER", "CREATE"]:
            config = msgspec.json.decode(ask.api.payload)["config"]
            self.name, self.number = parts[5], 0
            first, subject = config.get("opt_start_seq", 1), config["filter_subject"]
            wanted = [n for n, one in sorted(self.stream.messages.items()) if one[0] == subject and n >= first]
            self.left = deque(wanted)
        self.tell(ask)

    def tell(self, ask: Ask, error: NATSError | None = None) -> None:
        answer: object = error
        if error is None:
            try:
                if "CONSUMER.DELETE" in ask.api.subject:
                    answer = None
                else:
                    answer = ask.api.decode(self.stream.answer(ask.api.subject, ask.api.payload, None))  # type: ignore[arg-type]
            except NATSError as failed:
                answer = failed
        self.machine.answered(ask.api, answer, now=self.stream.now)
        self.do()

    def deliver(self, count: int = 1000, pending: int | None = None) -> None:
        for _ in range(count):
            while self.left and self.left[0] not in self.stream.messages:
                self.left.popleft()
            if not self.left or self.machine.done:
                return
            sequence = self.left.popleft()
            subject, data, _ = self.stream.messages[sequence]
            self.number += 1
            there = sum(number in self.stream.messages for number in self.left) if pending is None else pending
            reply = f"$JS.ACK.OBJ_B.{self.name}.1.{sequence}.{self.number}.{STORED}.{there}"
            self.machine.receive(Message(subject, 1, reply, data, None), now=self.stream.now)
            self.do()

    def wait(self) -> None:
        due = self.machine.next_timeout()
        assert due is not None
        self.stream.now = max(due, self.stream.now)
        self.machine.handle_timeout(now=self.stream.now)
        self.do()

    def failed(self, kind: type[NATSError], text: str) -> None:
        assert self.machine.done
        assert type(self.machine.error) is kind, self.machine.error
        assert text in str(self.machine.error)
        assert "'a'" in str(self.machine.error)
        assert self.machine.next_timeout() is None
        assert not self.machine.wants


def stored(*chunks: bytes, **fields: Any) -> tuple[Stream, ObjectInfo]:
    stream = Stream()
    info = stream.put("a", *chunks, **{"digest": digest(b"".join(chunks)), **fields})
    return stream, info


def test_whole() -> None:
    stream, info = stored(b"aaaa", b"bbbb", b"cc")
    get = Get(stream, info)
    get.deliver(2)
    assert not get.machine.done
    get.deliver()
    assert get.given == [b"aaaa", b"bbbb", b"cc"]
    assert get.machine.done
    assert get.machine.error is None
    assert [publish.subject.rpartition(".")[2] for publish in get.machine.leave()] == [get.name]
    get.machine.handle_timeout(now=1e9)
    get.machine.answered(get.machine._ask_count, None, now=1e9)


def test_who_is_not_permitted_to_ask_is_told_at_once() -> None:
    stream, info = stored(b"aaaa", b"bbbb")
    get = Get(stream, info)
    get.machine.publish_refused(PublishRefused("next", PermissionsError("no", subject="next")), now=stream.now)
    assert get.machine.done
    assert isinstance(get.machine.error, PermissionsError)


def test_what_is_asked_for_ahead_is_bounded_in_bytes() -> None:
    for size, count in ((128 * 1024, 64), (8 * 1024 * 1024, 2), (10, MAX_AHEAD)):
        stream, info = stored(b"a" * 10, b"b", options={"max_chunk_size": size})
        assert Get(stream, info).pulls[0]["batch"] == count


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"digest": digest(b"other")}, DigestMismatchError, "the digest of its bytes is"),
        ({"size": 7}, ObjectDamagedError, "do not have the 7 bytes"),
        ({"size": 9}, ObjectDamagedError, "do not have the 9 bytes"),
        ({"chunks": 1, "size": 4, "digest": digest(b"aaaa")}, ObjectDamagedError, "more chunks than the 1"),
        ({"chunks": 3}, ObjectDamagedError, "1 of 3 chunks are missing"),
    ],
)
def test_what_is_stored_is_not_what_the_info_says(fields: dict[str, Any], kind: type[NATSError], text: str) -> None:
    stream, info = stored(b"aaaa", b"bbbb", **fields)
    get = Get(stream, info)
    get.deliver()
    get.failed(kind, text)
    assert b"".join(get.given) != b"aaaabbbb", "nobody has read to the end"
    if isinstance(get.machine.error, DigestMismatchError):
        assert get.machine.error.expected == digest(b"other")
        assert get.machine.error.found == digest(b"aaaabbbb")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"digest": None}, "no digest that can be read"),
        ({"digest": "SHA-512=abc"}, "no digest that can be read"),
        ({"chunks": 0}, "0 chunks for 8 bytes"),
    ],
)
def test_an_info_that_no_object_can_have(fields: dict[str, Any], text: str) -> None:
    stream, info = stored(b"aaaa", b"bbbb", **fields)
    with pytest.raises(ObjectDamagedError, match=text) as raised:
        Get(stream, info)
    assert (raised.value.bucket, raised.value.name) == ("B", "a")


HOSTILE = [
    b"",
    b"[]",
    b"{",
    b"[" * 100_000,
    b'{"name":1}',
    b'{"name":"a","size":-1}',
    b'{"name":"a","size":9223372036854775808,"chunks":1,"nuid":"n"}',
    b'{"name":"a","size":1,"chunks":9223372036854775808,"nuid":"n"}',
    b'{"name":"a","size":1e400,"chunks":1,"nuid":"n"}',
    b'{"name":"a","size":5,"chunks":6,"nuid":"n"}',
    b'{"name":"a","size":5,"chunks":1}',
    b'{"name":"a","size":5,"chunks":1,"nuid":">"}',
    b'{"name":"a","size":5,"chunks":1,"nuid":"*"}',
    b'{"name":"a","size":5,"chunks":1,"nuid":"a.b"}',
    b'{"name":"a","size":5,"chunks":1,"nuid":"a b"}',
    b'{"name":"a","size":5,"chunks":1,"nuid":"%s"}' % (b"n" * 65),
    b'{"name":"a","options":{"link":{"name":"b"}}}',
    b'{"name":"a","headers":{"x":"y"}}',
    b'{"size":1}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_h67_an_info_that_is_none(data: bytes) -> None:
    stream = Stream()
    stream.write(SUBJECTS.meta("a"), data)
    with pytest.raises(JetStreamDecodeError, match="info of object 'a' of bucket 'B'"):
        stream.run(stream.store.info("a"))


def test_h67_a_chunk_count_of_2_to_the_63_reads_no_more_than_there_is() -> None:
    most = 2**63 - 1
    stream, info = stored(b"aaaa", chunks=most, size=most)
    get = Get(stream, info)
    get.failed(ObjectDamagedError, f"{most - 1} of {most} chunks are missing")


def test_missing_from_the_beginning() -> None:
    stream, info = stored(b"aaaa", b"bbbb")
    del stream.messages[1]
    Get(stream, info).failed(ObjectDamagedError, "1 of 2 chunks are missing")


@pytest.mark.parametrize("which", [1, 2])
def test_a_chunk_goes_while_it_is_read(which: int) -> None:
    """In the middle it is seen by what is left, at the end by the silence."""
    stream, info = stored(b"aaaa", b"bbbb", b"cccc")
    get = Get(stream, info)
    if which == 2:
        get.deliver(2)
        del stream.messages[3]
        assert not get.machine.done
        get.wait()
    else:
        get.deliver(1)
        del stream.messages[2]
        get.deliver()
    get.failed(ObjectDamagedError, "1 of 3 chunks are missing")


def _replace(stream: Stream) -> None:
    stream.messages.clear()
    stream.put("a", b"new", nuid="new", digest=digest(b"new"))


def _delete(stream: Stream) -> None:
    stream.run(stream.store.delete("a"))


def _purge(stream: Stream) -> None:
    stream.messages.clear()


@pytest.mark.parametrize(
    ("happens", "text"),
    [(_replace, "replaced"), (_delete, "deleted"), (_purge, "deleted")],
    ids=["new", "mark", "gone"],
)
@pytest.mark.parametrize("when", [0, 1, 2])
def test_replaced_while_it_is_read(happens: Any, text: str, when: int) -> None:
    stream, info = stored(b"aaaa", b"bbbb", b"cccc")
    if not when:
        happens(stream)
    get = Get(stream, info)
    if when:
        get.deliver(when)
        happens(stream)
        get.deliver()
        get.wait()
    get.failed(ObjectReplacedError, f"it was {text} while it was read")


def test_a_replica_that_is_behind_is_waited_for() -> None:
    stream, info = stored(b"aaaa", b"bbbb")
    get = Get(stream, info)
    get.deliver(1, pending=0)
    assert not get.machine.done
    get.wait()
    assert not get.machine.done
    get.deliver()
    assert get.machine.error is None
    assert get.given == [b"aaaa", b"bbbb"]


def test_questions_without_an_answer_are_asked_again() -> None:
    stream, info = stored(b"aaaa", b"bbbb")
    get = Get(stream, info)
    get.silent = True
    get.wait()
    get.tell(get.asked.pop(), NATSTimeoutError("silence"))
    stream.messages.clear()
    get.wait()
    get.tell(get.asked.pop())  # there are no chunks
    get.tell(get.asked.pop(), NATSTimeoutError("silence"))
    assert not get.machine.done
    get.wait()
    get.tell(get.asked.pop())
    get.tell(get.asked.pop())
    get.failed(ObjectReplacedError, "deleted")


def test_the_time_runs_while_somebody_waits() -> None:
    stream, info = stored(b"aaaa", b"bbbb", b"cccc")
    get = Get(stream, info, timeout=2.0)
    get.deliver(1)
    stream.now += 60.0  # the program was busy with it
    get.machine.resume(now=stream.now)
    get.machine.handle_timeout(now=stream.now)
    get.do()
    get.deliver(1)
    assert not get.machine.done
    until = stream.now + 2.0
    while not get.machine.done:
        get.wait()
    get.failed(NATSTimeoutError, "nothing came for 2 s, 2 of 3 chunks were read")
    assert stream.now == pytest.approx(until)


def test_another_connection() -> None:
    stream, info = stored(b"aaaa", b"bbbb")
    get = Get(stream, info)
    get.deliver(1)
    get.machine.connection_replaced(now=stream.now)
    get.do()
    get.deliver()
    assert get.given == [b"aaaa", b"bbbb"]
    assert get.machine.error is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StreamNotFoundError("gone", code=404, err_code=10059), BucketNotFoundError),
        (ConsumerDeletedError("gone"), BucketNotFoundError),
        (PermissionsError("no"), PermissionsError),
    ],
)
def test_the_bucket_is_gone(error: NATSError, kind: type[NATSError]) -> None:
    stream, info = stored(b"aaaa", b"bbbb")
    get = Get(stream, info)
    get.machine._ordered._end(error)
    get.machine.connection_replaced(now=stream.now)
    assert get.machine.done
    assert type(get.machine.error) is kind


def test_the_bucket_is_gone_says_its_leader() -> None:
    stream, info = stored(b"aaaa", b"bbbb")
    get = Get(stream, info)
    get.silent = True
    get.wait()
    get.tell(get.asked.pop(), StreamNotFoundError("gone", code=404, err_code=10059))
    get.failed(BucketNotFoundError, "the bucket is gone")


# --- ranges ----------------------------------------------------------------------------------------------------------


def spread(*, between: int = 0, sizes: tuple[int, ...] = (4, 4, 4, 4, 4, 4, 2), said: int | None = 4) -> Any:
    """Chunks with so many messages of others between any two of them."""
    stream = Stream()
    for number, size in enumerate(sizes):
        stream.write(SUBJECTS.chunks("old"), bytes([number]) * size)
        for _ in range(between * (number % 3)):
            stream.write(SUBJECTS.chunks("other"), b"x")
    data = b"".join(stream.chunks("old"))
    options = {} if said is None else {"options": {"max_chunk_size": said}}
    info = ObjectInfo(name="a", nuid="old", size=len(data), chunks=len(sizes), digest=digest(data))
    wire = {"name": "a", "nuid": "old", "size": len(data), "chunks": len(sizes), "digest": digest(data), **options}
    stream.write(SUBJECTS.meta("a"), msgspec.json.encode(wire))
    info = stream.run(stream.store.info("a"))
    return stream, info, data


@pytest.mark.parametrize("between", [0, 1, 5, 40])
@pytest.mark.parametrize("offset", [0, 3, 4, 9, 16, 23, 24, 25])
def test_ranges(offset: int, between: int) -> None:
    stream, info, data = spread(between=between)
    start = stream.run(find_chunk(stream.api, SUBJECTS, info, offset, timeout=5.0))
    assert start.chunk in (0, offset // 4)
    get = Get(stream, info, start=start)
    get.deliver()
    assert get.machine.error is None
    assert b"".join(get.given) == data[start.chunk * 4 :]
    if not between:
        assert start.chunk == offset // 4
        assert sum("CONSUMER.CREATE" in subject for subject in stream.asked) == (1 if offset >= 4 else 0)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [((4, 4, 4, 2), None), ((4, 4, 4, 2), 5), ((3, 4, 4, 3), 4), ((4, 4, 4), 1)],
    ids=["not said", "other size", "not full", "too many"],
)
def test_an_object_whose_chunks_are_not_alike_is_read_from_the_beginning(
    sizes: tuple[int, ...], said: int | None
) -> None:
    stream, info, _ = spread(sizes=sizes, said=said)
    assert stream.run(find_chunk(stream.api, SUBJECTS, info, 9, timeout=5.0)).chunk == 0


def test_a_range_of_an_object_that_is_gone() -> None:
    stream, info, _ = spread()
    stream.messages.clear()
    assert stream.run(find_chunk(stream.api, SUBJECTS, info, 9, timeout=5.0)).chunk == 0


def test_a_chunk_of_another_size_than_its_place_says() -> None:
    stream, info, _ = spread()
    stream.messages[4] = stream.messages[4][0], b"abc", stream.messages[4][2]
    get = Get(stream, info, start=Start(2, 3, 4))
    get.deliver()
    get.failed(ObjectDamagedError, "chunk 4 has 3 bytes, not 4")


def test_a_start_behind_the_end() -> None:
    stream, info, _ = spread()
    with pytest.raises(ObjectDamagedError):
        Get(stream, info, start=Start(7, 3, 4))
