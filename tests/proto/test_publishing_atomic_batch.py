"""An atomic batch: its headers, what ends it, and what is said of a batch that was not stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Headers, Message, Operation, Pause, Publish, Request
from nats_proto._jetstream.errors import (
    AtomicBatchError,
    FeatureDroppedError,
    JetStreamDecodeError,
    NoStreamResponseError,
    WrongLastSequenceError,
)
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.atomic_batch import AtomicBatch
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    InvalidHeaderError,
    InvalidSubjectError,
    LocalProtocolError,
    MaxPayloadError,
    NATSError,
    NATSTimeoutError,
    NoRespondersError,
)


def refusal(err_code: int) -> bytes:
    return b'{"error":{"code":400,"err_code":%d,"description":"no"},"stream":"S","seq":0}' % err_code


def stored(count: int, batch: str = "b1") -> bytes:
    return b'{"stream":"S","seq":9,"batch":"%b","count":%d}' % (batch.encode(), count)


class World:
    """Runs operations; requests are answered by the script."""

    def __init__(self, *script: bytes | Exception) -> None:
        self.script = list(script)
        self.now = 10.0
        self.sent: list[tuple[str, str, dict[str, str]]] = []

    def batch(self, *, ack_every: int | None = None, max_messages: int = 1000) -> AtomicBatch:
        return AtomicBatch(
            "b1", now=lambda: self.now, ack_every=ack_every, max_messages=max_messages, max_payload=lambda: 1000
        )

    def begun(self, *, size: int = 1) -> AtomicBatch:
        """A batch that has so many messages, the last of which is held back."""
        batch = self.batch()
        for _ in range(size):
            self.run(batch.add("a"))
        return batch

    def run(self, operation: Operation[object]) -> object:
        try:
            effect = next(operation)
            while True:
                try:
                    answer = self.perform(effect)
                except Exception as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(answer)
        except StopIteration as end:
            return end.value

    def perform(self, effect: Request | Publish | Pause) -> Message | None:
        if isinstance(effect, Pause):
            self.now += effect.seconds
            return None
        assert isinstance(effect.headers, Headers)
        self.sent.append((type(effect).__name__, effect.subject, dict(effect.headers.items())))
        if isinstance(effect, Publish):
            if effect.data == b"closed":
                raise ConnectionClosedError("scripted")
            return None
        while True:
            step = self.script.pop(0) if self.script else NATSTimeoutError("scripted")
            if isinstance(step, Exception):
                raise step
            message = Message("i", 1, None, step)
            assert effect.accept is not None
            if effect.accept(message):
                return message


def test_the_messages_on_the_wire() -> None:
    world = World(b"", stored(3))
    batch = world.batch()
    world.run(batch.add("a", b"1", Headers({"X": "1"})))
    assert world.sent == []  # it may be the last one, which the server has to be told with it
    world.run(batch.add("b", b"2"))
    assert len(world.sent) == 1
    world.run(batch.add("c", b"3"))
    assert len(world.sent) == 2
    answer = world.run(batch.commit())
    assert answer == PubAck(stream="S", sequence=9, batch="b1", count=3)
    assert world.sent == [
        ("Request", "a", {"X": "1", "Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "1"}),
        ("Publish", "b", {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "2"}),
        ("Request", "c", {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "3", "Nats-Batch-Commit": "1"}),
    ]
    assert (batch.ended, batch.size) == (True, 3)
    for call in (lambda: batch.add("a"), batch.commit):
        with pytest.raises(LocalProtocolError):
            call()


def test_a_batch_of_one_and_of_none() -> None:
    world = World(stored(1))
    batch = world.batch()
    with pytest.raises(LocalProtocolError, match="without a message"):
        batch.commit()
    world.run(batch.add("a"))
    assert world.run(batch.commit()) == PubAck(stream="S", sequence=9, batch="b1", count=1)
    assert len(world.sent) == 1


def test_some_in_between_are_waited_for() -> None:
    world = World(b"", b"", b"")
    batch = world.batch(ack_every=2)
    for _ in range(6):
        world.run(batch.add("a"))
    assert [kind for kind, _, _ in world.sent] == ["Request", "Request", "Publish", "Request", "Publish"]


def test_the_payload_is_that_of_the_call() -> None:
    world = World(b"", stored(2))
    batch = world.batch()
    buffer = bytearray(b"1")
    operation = batch.add("a", buffer)
    buffer[:] = b"2"
    world.run(operation)
    sending = batch.add("b")
    request = next(sending)
    assert isinstance(request, Request)
    assert request.data == b"1"
    sending.close()


@pytest.mark.parametrize(
    ("script", "error", "outcome"),
    [
        ([refusal(10174)], AtomicBatchError, "failed"),
        ([NATSTimeoutError("no")], NATSTimeoutError, "unknown"),
        ([ConnectionLostError("no")], ConnectionLostError, "unknown"),
        ([b'{"stream":"S","seq":7}'], FeatureDroppedError, "unknown"),
        ([NoRespondersError("nobody", "a")] * 100, NoStreamResponseError, "failed"),
    ],
)
def test_the_first_message_is_refused(script: list[bytes | Exception], error: type[NATSError], outcome: str) -> None:
    world = World(*script)
    batch = world.begun()
    with pytest.raises(error) as raised:
        world.run(batch.add("b"))
    assert raised.value.outcome == outcome
    assert batch.ended
    assert world.now <= 20.0
    with pytest.raises(LocalProtocolError):
        batch.commit()


@pytest.mark.parametrize(
    "failure", [NATSTimeoutError("no"), ConnectionLostError("no"), refusal(10176), NoRespondersError("nobody", "a")]
)
def test_one_in_between_that_fails_has_stored_nothing(failure: bytes | Exception) -> None:
    world = World(b"", *[failure] * 100)
    batch = world.batch(ack_every=2)
    for _ in range(2):
        world.run(batch.add("a"))
    with pytest.raises(NATSError) as raised:
        world.run(batch.add("a"))
    assert (raised.value.outcome, batch.ended) == ("failed", True)


@pytest.mark.parametrize("script", [[NoRespondersError("nobody", "a"), b""], [refusal(10008), b""], [b"hi", b""]])
def test_the_first_message_is_taken_in_the_end(script: list[bytes | Exception]) -> None:
    world = World(*script)
    batch = world.begun(size=2)
    assert (batch.size, batch.ended) == (2, False)


@pytest.mark.parametrize(
    ("script", "error", "outcome"),
    [
        ([refusal(10176)], AtomicBatchError, "failed"),
        ([refusal(10071)], WrongLastSequenceError, "failed"),
        ([NATSTimeoutError("no")], NATSTimeoutError, "unknown"),
        ([b"hi", b""], NATSTimeoutError, "unknown"),
        ([stored(1)], JetStreamDecodeError, "unknown"),
        ([stored(2, "other")], JetStreamDecodeError, "unknown"),
        ([b'{"stream":"S","seq":9}'], JetStreamDecodeError, "unknown"),
        # Nobody took it, so it is sent again; the next leader does not know the batch.
        ([NoRespondersError("nobody", "a"), refusal(10176)], AtomicBatchError, "failed"),
    ],
)
def test_the_commit_fails(script: list[bytes | Exception], error: type[NATSError], outcome: str) -> None:
    world = World(b"", *script)
    batch = world.begun(size=2)
    with pytest.raises(error) as raised:
        world.run(batch.commit())
    assert raised.value.outcome == outcome
    assert batch.ended


def test_a_server_that_is_too_old_for_a_batch_of_one() -> None:
    world = World(b'{"stream":"S","seq":9}')
    with pytest.raises(FeatureDroppedError, match="by itself, in stream 'S' at 9"):
        world.run(world.begun().commit())


def test_what_the_error_of_a_lost_answer_tells() -> None:
    world = World(b"", b"hi")
    with pytest.raises(NATSTimeoutError, match=r"somebody other than a stream.*hi") as raised:
        world.run(world.begun(size=2).commit())
    assert raised.value.__notes__ == [
        "It was the commit of an atomic batch of 2: a stream stores all messages of a batch or none."
    ]


@pytest.mark.parametrize(
    ("subject", "data", "headers", "error"),
    [
        ("", b"", {}, InvalidSubjectError),
        ("a b", b"", {}, InvalidSubjectError),
        ("a", b"", {"a b": "1"}, InvalidHeaderError),
        ("a", b"1" * 1000, {}, MaxPayloadError),
        ("a", "text", {}, TypeError),
        ("a", b"", {"Nats-Batch-Id": "x"}, ValueError),
        ("a", b"", {"Nats-Batch-Sequence": "1"}, ValueError),
        ("a", b"", {"Nats-Batch-Commit": "1"}, ValueError),
        ("a", b"", {"Nats-Expected-Last-Msg-Id": "1"}, ValueError),
        ("a", b"", {"Nats-Expected-Last-Sequence": "1"}, ValueError),
        ("a", b"", {"Nats-Msg-Id": "first"}, ValueError),
    ],
)
def test_what_cannot_be_sent_changes_nothing(
    subject: str, data: Any, headers: dict[str, str], error: type[Exception]
) -> None:
    world = World(b"", stored(2))
    batch = world.batch()
    mine = Headers({"Nats-Msg-Id": "first", "Nats-Expected-Last-Sequence": "0"})
    world.run(batch.add("a", b"", mine))
    assert mine == Headers({"Nats-Msg-Id": "first", "Nats-Expected-Last-Sequence": "0"})
    with pytest.raises(error):
        batch.add(subject, data, Headers(headers))
    assert (batch.size, batch.ended) == (1, False)
    world.run(batch.add("b"))
    world.run(batch.commit())


def test_a_message_that_could_not_be_sent_later_ends_it() -> None:
    world = World(b"")
    batch = world.begun()
    world.run(batch.add("a", b"closed"))
    with pytest.raises(ConnectionClosedError) as raised:
        world.run(batch.add("b"))
    assert (raised.value.outcome, batch.ended) == ("failed", True)


def test_a_message_that_may_be_missing_ends_it() -> None:
    world = World(b"")
    batch = world.begun(size=2)
    left = batch.add("b")
    next(left)
    left.close()  # cancelled
    assert batch.ended
    with pytest.raises(LocalProtocolError) as raised:
        batch.commit()
    assert raised.value.outcome == "failed"


def test_one_call_at_a_time() -> None:
    world = World(b"", b"")
    batch = world.batch()
    first, second = batch.add("a"), batch.add("b")
    world.run(first)
    with pytest.raises(LocalProtocolError):
        world.run(second)
    assert not batch.ended
    commit, again = batch.commit(), batch.commit()
    next(commit)
    with pytest.raises(LocalProtocolError) as raised:
        world.run(again)
    assert raised.value.outcome == "unknown"  # it may be stored
    commit.close()


def test_it_is_full() -> None:
    world = World(b"", stored(2))
    batch = world.batch(max_messages=2)
    for _ in range(2):
        world.run(batch.add("a"))
    with pytest.raises(LocalProtocolError, match="2 messages at most"):
        batch.add("a")
    world.run(batch.commit())


def test_given_up() -> None:
    world = World()
    batch = world.begun()
    batch.discard()
    for call in (batch.commit, lambda: batch.add("a")):
        with pytest.raises(LocalProtocolError):
            call()
    assert world.sent == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AtomicBatch("", now=lambda: 1.0),
        lambda: AtomicBatch("x" * 65, now=lambda: 1.0),
        lambda: AtomicBatch("x", now=lambda: 1.0, ack_every=0),
        lambda: AtomicBatch("x", now=lambda: 1.0, max_messages=0),
        lambda: AtomicBatch("x", now=lambda: 1.0, timeout=0.0),
        lambda: AtomicBatch("x", now=lambda: 1.0, retry_for=float("nan")),
    ],
)
def test_arguments_that_cannot_be_used(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_a_status_is_no_empty_answer() -> None:
    operation = World().begun().add("a")
    request = next(operation)
    assert isinstance(request, Request)
    assert request.accept is not None
    assert not request.accept(Message("i", 1, None, b"", encode_status_block(404)))
    assert request.accept(Message("i", 1, None, b""))
    operation.close()
