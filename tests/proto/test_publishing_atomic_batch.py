"""An atomic batch: its headers, what ends it, and what is said of a batch that was not stored."""

from __future__ import annotations

from collections.abc import Callable

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
    ConnectionLostError,
    InvalidSubjectError,
    LocalProtocolError,
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

    def batch(self, *, ack_every: int | None = None) -> AtomicBatch:
        return AtomicBatch("b1", now=lambda: self.now, ack_every=ack_every)

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
            if not effect.subject:
                raise InvalidSubjectError("empty")
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
    world.run(batch.add("b", b"2"))
    answer = world.run(batch.commit("c", b"3"))
    assert answer == PubAck(stream="S", sequence=9, batch="b1", count=3)
    assert world.sent == [
        ("Request", "a", {"X": "1", "Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "1"}),
        ("Publish", "b", {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "2"}),
        ("Request", "c", {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "3", "Nats-Batch-Commit": "1"}),
    ]
    assert batch.ended
    for call in (lambda: batch.add("a"), lambda: batch.commit("a"), batch.finish):
        with pytest.raises(LocalProtocolError):
            call()


def test_it_is_finished_without_another_message() -> None:
    world = World(b"", stored(2))
    batch = world.batch()
    with pytest.raises(LocalProtocolError):
        batch.finish()
    world.run(batch.add("a"))
    world.run(batch.add("b"))
    assert world.run(batch.finish()) == PubAck(stream="S", sequence=9, batch="b1", count=2)
    assert world.sent[-1] == (
        "Request",
        "b",
        {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "3", "Nats-Batch-Commit": "eob"},
    )


def test_a_batch_of_one() -> None:
    world = World(stored(1))
    assert world.run(world.batch().commit("a")) == PubAck(stream="S", sequence=9, batch="b1", count=1)


def test_some_in_between_are_waited_for() -> None:
    world = World(b"", b"", b"")
    batch = world.batch(ack_every=2)
    for _ in range(5):
        world.run(batch.add("a"))
    assert [kind for kind, _, _ in world.sent] == ["Request", "Request", "Publish", "Request", "Publish"]


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
    batch = world.batch()
    with pytest.raises(error) as raised:
        world.run(batch.add("a"))
    assert raised.value.outcome == outcome
    assert batch.ended
    assert batch.size == 0
    assert world.now <= 20.0


@pytest.mark.parametrize("script", [[NoRespondersError("nobody", "a"), b""], [refusal(10008), b""], [b"hi", b""]])
def test_the_first_message_is_taken_in_the_end(script: list[bytes | Exception]) -> None:
    world = World(*script)
    batch = world.batch()
    world.run(batch.add("a"))
    assert (batch.size, batch.ended) == (1, False)


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
    batch = world.batch()
    world.run(batch.add("a"))
    with pytest.raises(error) as raised:
        world.run(batch.commit("b"))
    assert raised.value.outcome == outcome
    assert batch.ended


def test_an_answer_of_somebody_else_is_named() -> None:
    world = World(b"hi")
    with pytest.raises(NATSTimeoutError, match=r"somebody other than a stream.*hi"):
        world.run(world.batch().add("a"))


def test_what_did_not_leave_is_not_missing() -> None:
    world = World(b"", stored(2))
    batch = world.batch()
    world.run(batch.add("a"))
    with pytest.raises(InvalidSubjectError):
        world.run(batch.add(""))
    assert (batch.size, batch.ended) == (1, False)
    world.run(batch.commit("b"))


def test_a_message_that_may_be_missing_ends_it() -> None:
    world = World(b"")
    batch = world.batch()
    world.run(batch.add("a"))
    left = batch.add("b")
    next(left)
    left.close()  # cancelled
    assert batch.ended


def test_one_call_at_a_time() -> None:
    world = World(b"", b"")
    batch = world.batch()
    first, second = batch.add("a"), batch.add("b")
    world.run(first)
    with pytest.raises(LocalProtocolError):
        world.run(second)
    assert not batch.ended


@pytest.mark.parametrize(
    "headers",
    [
        {"Nats-Batch-Id": "x"},
        {"Nats-Batch-Sequence": "1"},
        {"Nats-Batch-Commit": "1"},
        {"Nats-Expected-Last-Msg-Id": "1"},
        {"Nats-Expected-Last-Sequence": "1"},
        {"Nats-Msg-Id": "first"},
    ],
)
def test_headers_that_no_batch_may_have(headers: dict[str, str]) -> None:
    world = World(b"")
    batch = world.batch()
    mine = Headers({"Nats-Msg-Id": "first", "Nats-Expected-Last-Sequence": "0"})
    world.run(batch.add("a", b"", mine))
    assert mine == Headers({"Nats-Msg-Id": "first", "Nats-Expected-Last-Sequence": "0"})
    with pytest.raises(ValueError):
        batch.add("b", b"", Headers(headers))
    assert (batch.size, batch.ended) == (1, False)


def test_given_up() -> None:
    world = World(b"")
    batch = world.batch()
    world.run(batch.add("a"))
    batch.discard()
    with pytest.raises(LocalProtocolError):
        batch.finish()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AtomicBatch("", now=lambda: 1.0),
        lambda: AtomicBatch("x" * 65, now=lambda: 1.0),
        lambda: AtomicBatch("x", now=lambda: 1.0, ack_every=0),
        lambda: AtomicBatch("x", now=lambda: 1.0, timeout=0.0),
        lambda: AtomicBatch("x", now=lambda: 1.0, retry_for=float("nan")),
    ],
)
def test_arguments_that_cannot_be_used(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_a_status_is_no_empty_answer() -> None:
    operation = World().batch().add("a")
    request = next(operation)
    assert isinstance(request, Request)
    assert request.accept is not None
    assert not request.accept(Message("i", 1, None, b"", encode_status_block(404)))
    assert request.accept(Message("i", 1, None, b""))
    operation.close()
