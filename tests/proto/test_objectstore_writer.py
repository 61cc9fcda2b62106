"""The chunks of an object: in their order, once, and with a bounded window, whatever a stream does with them."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Message, Publish, PublishRefused
from nats_proto._jetstream.errors import StreamFullError
from nats_proto._objectstore.pieces import Chunker, Digest, read_digest
from nats_proto._objectstore.writer import ObjectWriter
from nats_proto.errors import ConnectionLostError, NATSTimeoutError, PermissionsError
from tests.proto.driver import World
from tests.proto.objectstore import SUBJECTS, Desk, Stream, failure, reply

NOBODY = Message("in", 1, None, b"", b"NATS/1.0 503\r\n\r\n")
BUSY = failure(10167, "too many requests", 429)


class Put(Desk):
    """Chunks of four bytes to the chunk subject of object ``n``."""

    machine: ObjectWriter

    def __init__(self, *, timeout: float = 30.0, duplicate_window: float = 120.0, chunk_size: int = 4) -> None:
        stream = Stream()
        writer = ObjectWriter(
            stream.api,
            stream="OBJ_B",
            subject=SUBJECTS.chunks("n"),
            what="put object 'a' into bucket 'B'",
            chunk_size=chunk_size,
            duplicate_window=duplicate_window,
            timeout=timeout,
        )
        super().__init__(writer, stream)
        self.do()

    def write(self, data: bytes) -> None:
        self.machine.resume(now=self.stream.now)
        self.machine.write(data, now=self.stream.now)
        self.do()

    def finish(self) -> None:
        self.machine.finish(now=self.stream.now)
        self.do()

    def next(self) -> Publish:
        return self.published.pop(0)

    @property
    def bytes(self) -> bytes:
        return b"".join(self.stream.chunks("n"))

    def complete(self, data: bytes) -> None:
        """Answer everything, call after call, until it is done."""
        for _ in range(1000):
            if self.machine.done:
                break
            self.answer_all()
            for ask in [self.asked.pop(0) for _ in list(self.asked)]:
                self.tell(ask)
            if not self.machine.done and not self.published and not self.asked:
                self.wait()
        assert self.machine.done
        assert self.machine.error is None
        assert self.bytes == data
        assert self.machine.stored == len(data)
        assert self.machine.unsettled == 0


@pytest.mark.parametrize("pieces", [[b"abcdefghij"], [b"abcd", b"efgh", b"ij"], [b"a", b"bcdefgh", b"", b"ij"]])
def test_pieces_become_chunks(pieces: list[bytes]) -> None:
    put = Put()
    for piece in pieces:
        put.write(piece)
    put.finish()
    put.complete(b"abcdefghij")
    assert put.stream.chunks("n") == [b"abcd", b"efgh", b"ij"]
    assert put.machine.chunks == 3
    assert put.machine.total == 10
    assert put.machine.digest == "SHA-256=" + urlsafe_b64encode(hashlib.sha256(b"abcdefghij").digest()).decode()
    assert put.given[-1] == 10


def test_nothing_to_write() -> None:
    put = Put()
    put.finish()
    assert put.machine.done
    assert put.machine.next_timeout() is None
    assert put.published == []


def test_each_chunk_has_a_message_id_and_a_place_for_its_answer() -> None:
    put = Put()
    put.write(bytes(12))
    ids = [dict((one.headers or {}).items())["Nats-Msg-Id"] for one in put.published]  # type: ignore[union-attr]
    assert len(set(ids)) == 3
    assert len({one.reply for one in put.published}) == 3


def test_the_window_bounds_what_is_in_flight_and_grows() -> None:
    put = Put()
    windows = []
    for number in range(64):
        put.write(number.to_bytes(4, "big"))
        if not put.machine.room:
            windows.append(put.machine.window)
            assert len(put.published) == put.machine.window
            put.answer_all()
    assert windows[:3] == [4, 8, 16]
    large = Put(chunk_size=8 * 1024 * 1024)
    assert large.machine.window == 1


def test_it_waits_for_the_try_that_is_over_first() -> None:
    put = Put()
    put.write(b"aaaa")
    began = put.stream.now
    assert put.machine.next_timeout() == began + 5
    put.answer(put.next())
    assert put.machine.next_timeout() is None
    put.stream.now += 7
    put.write(b"bbbb")  # what was due before is due no more
    assert put.machine.next_timeout() == began + 12
    put.stream.now += 1
    put.write(b"cccc")
    put.answer(put.next())
    early = put.machine.next_timeout()
    assert early is not None
    put.stream.now = early
    put.machine.handle_timeout(now=early)
    assert put.machine.next_timeout() == began + 13
    assert put.machine.mended == 0
    assert not put.published[1:]


@pytest.mark.parametrize(
    "answer", [NOBODY, BUSY, failure(10158, "in progress"), None], ids=["503", "429", "id", "lost"]
)
def test_one_chunk_fails_and_those_behind_it_are_stored(answer: Message | None) -> None:
    """They stand in a wrong place then: they are removed, and stored again behind it."""
    put = Put()
    put.write(b"aaaabbbbcccc")
    first = put.next()
    put.answer(put.next())
    put.answer(put.next())
    if answer is not None:
        put.answer(first, answer)
    assert not put.published, "it waits"
    put.wait()
    assert put.machine.window == 2
    put.finish()
    put.complete(b"aaaabbbbcccc")
    assert put.machine.mended == 1
    assert put.machine.window == 2


def test_nothing_is_sent_again_before_all_that_is_in_flight_has_its_answer() -> None:
    put = Put()
    put.write(b"aaaabbbbcccc")
    put.answer(put.next(), NOBODY)
    for _ in range(3):
        put.stream.now += 1.0
        put.machine.handle_timeout(now=put.stream.now)
        put.do()
    assert len(put.published) == 2, "the two that are still in flight"
    put.answer(put.next())
    assert len(put.published) == 1
    put.answer(put.next())
    assert len(put.published) == 1, "now the first one goes again, alone"
    put.finish()
    put.complete(b"aaaabbbbcccc")


def test_an_answer_that_was_lost_costs_nothing_but_time() -> None:
    """The stream knows the chunk again, and tells where it stands."""
    put = Put()
    put.write(b"aaaabbbbcccc")
    for publish in put.published:
        put.stream.answer(publish.subject, bytes(publish.data), publish.headers)  # type: ignore[arg-type]
    put.published.clear()
    put.finish()
    put.complete(b"aaaabbbbcccc")
    assert put.stream.sequence == 3, "nothing was stored twice"


def test_a_late_answer_counts() -> None:
    put = Put()
    put.write(b"aaaabbbb")
    first, second = put.next(), put.next()
    put.wait()
    again = put.next()
    assert again.reply == first.reply
    put.answer(first)
    put.finish()
    put.answer(second)
    put.complete(b"aaaabbbb")


def test_a_new_connection() -> None:
    put = Put()
    put.write(b"aaaabbbb")
    put.answer(put.next())
    lost = put.next()
    put.machine.connection_replaced(now=put.stream.now)
    put.do()
    assert [one.reply for one in put.published] == [lost.reply]
    put.finish()
    put.complete(b"aaaabbbb")


def test_what_has_not_left_is_not_sent_twice() -> None:
    put = Put()
    put.machine.write(b"aaaa", now=put.stream.now)
    put.machine.connection_replaced(now=put.stream.now)
    assert sum(isinstance(want, Publish) for want in put.machine.wants) == 1
    due = put.machine.next_timeout()
    assert due is not None
    put.machine.handle_timeout(now=due)
    assert sum(isinstance(want, Publish) for want in put.machine.wants) == 1
    put.finish()
    put.complete(b"aaaa")


def test_a_removal_that_fails_is_tried_again() -> None:
    put = Put()
    put.write(b"aaaabbbb")
    first = put.next()
    put.answer(put.next())
    put.answer(first, NOBODY)
    put.wait()
    put.answer(put.next())
    put.tell(put.asked.pop(), NATSTimeoutError("silence"))
    put.tell(
        put.asked.pop(),
        ConnectionLostError(
            "cut",
        ),
    )
    put.finish()
    for ask in [put.asked.pop(0) for _ in list(put.asked)]:
        put.tell(ask)
    if not put.machine.done and put.machine.error is None:
        put.complete(b"aaaabbbb")


def test_nothing_is_due_while_a_removal_is_waited_for() -> None:
    """Else whoever waits for the answer looks at the time over and over."""
    put = Put()
    put.write(b"aaaabbbb")
    first = put.next()
    put.answer(put.next())
    put.answer(first, NOBODY)
    put.wait()
    put.answer(put.next())
    assert len(put.asked) == 1
    due = put.machine.next_timeout()
    assert due is not None
    assert due > put.stream.now + 1.0


def test_a_removal_that_is_refused_ends_the_put() -> None:
    put = Put()
    put.write(b"aaaabbbb")
    first = put.next()
    put.answer(put.next())
    put.answer(first, NOBODY)
    put.wait()
    put.answer(put.next())
    ask = put.asked.pop()
    put.machine.answered(ask.api, StreamFullError("no"), now=put.stream.now)
    assert put.machine.done
    assert isinstance(put.machine.error, StreamFullError)
    put.machine.answered(ask.api, None, now=put.stream.now)
    assert put.machine.done


def test_a_refusal_for_good_waits_for_what_is_in_flight() -> None:
    put = Put()
    put.write(b"aaaabbbbcccc")
    put.answer(put.next())
    put.answer(put.next(), failure(10077, "maximum bytes exceeded", 503))
    assert not put.machine.done
    assert not put.machine.room
    put.answer(put.next())
    assert put.machine.done
    error = put.machine.error
    assert isinstance(error, StreamFullError)
    assert error.outcome == "failed"
    assert "put object 'a' into bucket 'B', chunk 2" in str(error)
    assert put.machine.unsettled == 0


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "silent"])
def test_no_progress(refused: bool) -> None:
    """The time runs from the last chunk that was stored on, however often the next one is tried."""
    put = Put(timeout=8.0)
    began = put.stream.now
    put.write(b"aaaabbbb")
    put.answer(put.next())
    while not put.machine.done:
        if refused and put.published:
            put.answer(put.next(), NOBODY)
        else:
            put.wait()
    assert isinstance(put.machine.error, NATSTimeoutError)
    assert put.machine.error.outcome == "failed"
    assert "no chunk was stored for 8 s" in str(put.machine.error)
    assert 8.0 <= put.stream.now - began <= 8.0 + 5.0
    assert put.machine.unsettled == (0 if refused else 1)


def test_a_slow_source_is_no_lack_of_progress() -> None:
    put = Put(timeout=8.0)
    put.write(b"aaaa")
    put.stream.now += 60.0
    put.write(b"bbbb")
    put.machine.handle_timeout(now=put.stream.now)
    put.do()
    put.finish()
    put.complete(b"aaaabbbb")


def test_a_chunk_is_not_sent_again_when_the_stream_has_forgotten_its_id() -> None:
    put = Put(duplicate_window=4.0)
    put.write(b"aaaa")
    put.wait()
    assert put.machine.done
    assert isinstance(put.machine.error, ConnectionLostError)
    assert put.machine.error.outcome == "failed"
    assert "4 s" in str(put.machine.error)


def test_a_chunk_is_not_sent_again_after_the_process_was_stopped() -> None:
    """One chunk after the other is sent again: the stream may forget the second while the first is waited for."""
    put = Put(timeout=1000.0, duplicate_window=60.0)
    put.write(b"aaaabbbb")
    put.published.clear()  # they are on their way, and nothing comes back
    put.machine.connection_replaced(now=put.stream.now)
    put.do()
    put.stream.now += 61.0
    put.answer(put.next())
    assert put.machine.done
    assert isinstance(put.machine.error, ConnectionLostError)
    assert "chunk 2" in str(put.machine.error)
    assert not put.published


def test_abandoned() -> None:
    put = Put()
    put.write(b"aaaabbbbcccc")
    put.answer(put.next())
    put.machine.write(b"dddd", now=put.stream.now)  # not taken by the client yet
    put.machine.abandon(now=put.stream.now)
    put.machine.abandon(now=put.stream.now)
    put.do()
    assert len(put.published) == 2
    assert not put.machine.done
    put.answer(put.next())
    put.wait()
    assert put.machine.done
    assert put.machine.error is None
    assert put.machine.unsettled == 1
    late = put.next()
    put.answer(late)
    assert put.machine.unsettled == 0
    assert put.machine.some_stored
    put.answer(late, NOBODY)


def test_what_waits_for_a_connection_when_it_has_ended_is_not_sent() -> None:
    """Its object was given up since, and nobody would ever delete these chunks."""
    world = World("nats://a, nats://b").ready()
    put = Put()
    assert put.inbox is not None
    sub = world.session.subscribe(put.inbox.subject, marks=True, awaits=put.inbox.awaits)
    world.pump()
    world.words()
    world.cut()
    put.write(bytes(8))
    for chunk in put.published:
        world.session.publish(chunk.subject, chunk.data, reply=chunk.reply, headers=chunk.headers)
    world.up()
    assert sum(word.startswith("PUB") for word in world.words()) == 2  # as long as somebody waits
    world.cut()
    put.write(bytes(8))
    assert len(put.published) == 4
    for chunk in put.published[2:]:
        world.session.publish(chunk.subject, chunk.data, reply=chunk.reply, headers=chunk.headers)
    put.machine.abandon(now=put.stream.now)
    world.session.unsubscribe(sub)
    world.up()
    assert not [word for word in world.words() if word.startswith("PUB")]
    assert world.session.stats.dropped_publishes == 2


def test_abandoned_while_it_mends() -> None:
    put = Put()
    put.write(b"aaaabbbb")
    put.machine.connection_replaced(now=put.stream.now)
    put.machine.abandon(now=put.stream.now)
    assert put.machine.done
    assert put.machine.unsettled == 2
    put.answer(put.next())
    assert put.machine.unsettled == 1


@pytest.mark.parametrize(
    "answer", [reply({"hello": 1}), Message("in", 1, None, b"", b"NATS/1.0 100\r\n\r\n"), reply(1)]
)
def test_what_is_no_answer_of_a_stream_is_left_aside(answer: Message) -> None:
    put = Put()
    put.write(b"aaaa")
    first = put.next()
    put.answer(first, answer)
    put.machine.receive(Message("other", 1, None, b"", None), now=put.stream.now)
    put.finish()
    assert not put.machine.done
    put.answer(first)
    put.complete(b"aaaa")


@pytest.mark.parametrize("wrong", [{"chunk_size": 0}, {"timeout": 0}, {"timeout": float("nan")}])
def test_numbers(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Put(**wrong)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["stored", "lost", "refused", "unanswered"]), max_size=60), st.integers(1, 40))
def test_whatever_happens_the_bytes_are_those_that_were_written(fates: list[str], size: int) -> None:
    """Each publish meets a fate of its own, in any order of chunks; then the stream is well again."""
    put = Put(timeout=1e6, duplicate_window=1e6)
    data = bytes(range(size))
    left = list(fates)
    fate: Callable[[], str] = lambda: left.pop() if left else "stored"  # noqa: E731
    for at in range(0, size, 4):
        put.write(data[at : at + 4])
        for publish in [put.published.pop(0) for _ in list(put.published)]:
            _meet(put, publish, fate())
        while not put.machine.room:
            _step(put, fate)
    put.finish()
    while not put.machine.done:
        _step(put, fate)
    assert put.machine.error is None
    assert put.bytes == data
    assert put.machine.unsettled == 0


def _meet(put: Put, publish: Publish, fate: str) -> None:
    match fate:
        case "stored":
            put.answer(publish)
        case "refused":
            put.answer(publish, NOBODY)
        case "unanswered":
            put.stream.answer(publish.subject, bytes(publish.data), publish.headers)  # type: ignore[arg-type]
        case _:
            pass


def _step(put: Put, fate: Callable[[], str]) -> None:
    for publish in [put.published.pop(0) for _ in list(put.published)]:
        _meet(put, publish, fate())
    for ask in [put.asked.pop(0) for _ in list(put.asked)]:
        put.tell(ask, None if fate() in ("stored", "refused") else NATSTimeoutError("silence"))
    if not put.machine.done and not put.published and not put.asked and put.machine.next_timeout() is not None:
        put.wait()


@given(st.lists(st.binary(max_size=20)), st.integers(1, 9))
def test_chunker(pieces: list[bytes], size: int) -> None:
    chunker = Chunker(size)
    chunks: list[bytes] = []
    for number, piece in enumerate(pieces):
        chunks += chunker.add((bytes, bytearray, memoryview)[number % 3](piece))
    rest = chunker.end()
    assert all(len(chunk) == size for chunk in chunks)
    assert len(rest) < size
    assert b"".join(chunks) + rest == b"".join(pieces)
    assert chunker.total == sum(map(len, pieces))
    assert chunker.digest.is_that(hashlib.sha256(b"".join(pieces)).digest())


def test_digests() -> None:
    digest = Digest()
    digest.add(b"\xfb\xff" * 3)
    expected = hashlib.sha256(b"\xfb\xff" * 3).digest()
    text = digest.text
    encoded = text.removeprefix("SHA-256=")
    for spelled in (encoded, encoded.rstrip("="), encoded.replace("-", "+").replace("_", "/")):
        assert read_digest("SHA-256=" + spelled) == expected
    for wrong in (None, "", "MD5=abc", "SHA-256=", "SHA-256=abc", "SHA-256=\xe4", "SHA-256=" + "A" * 400, text[:-2]):
        assert read_digest(wrong) is None


# --- without permission ----------------------------------------------------------------------------------------------


def refuse(put: Put, count: int = 1) -> None:
    """The server refuses so many chunks."""
    subject = SUBJECTS.chunks("n")
    put.machine.publish_refused(
        PublishRefused(subject, PermissionsError("no", subject=subject), count), now=put.stream.now
    )
    put.do()


def ended(put: Put) -> bool:
    """It has failed for that reason, and nothing is waited for."""
    error = put.machine.error
    assert isinstance(error, PermissionsError)
    assert (str(error), error.outcome) == ("put object 'a' into bucket 'B': no", "failed")
    assert put.machine.done == (put.machine.next_timeout() is None)
    return put.machine.done


@pytest.mark.parametrize("counts", [(3,), (1, 1, 1), (2, 1), (9,)])
def test_chunks_that_are_refused_end_it_at_once(counts: tuple[int, ...]) -> None:
    put = Put()
    put.write(b"aaaabbbbcccc")
    for count in counts:
        refuse(put, count)
    assert ended(put)
    assert (put.machine.unsettled, put.machine.some_stored) == (0, False)
    assert not put.machine.room


def test_chunks_that_were_taken_before_are_waited_for() -> None:
    put = Put()
    put.write(b"aaaabbbbcccc")
    refuse(put)
    assert not ended(put)
    put.answer(put.next())
    assert not ended(put)
    put.answer(put.next())
    assert ended(put)
    assert (put.machine.unsettled, put.machine.some_stored) == (0, True)


def test_a_chunk_that_an_earlier_try_may_have_stored_is_told() -> None:
    put = Put()
    put.write(b"aaaa")
    put.published.clear()
    put.wait()  # no answer: sent again
    assert len(put.published) == 1
    refuse(put)
    assert ended(put)
    assert put.machine.unsettled == 1


def test_what_was_refused_on_an_earlier_connection_is_in_flight_no_more() -> None:
    put = Put()
    put.write(b"aaaabbbb")
    refuse(put)
    put.machine.connection_replaced(now=put.stream.now)
    assert ended(put)
    assert put.machine.unsettled == 2
