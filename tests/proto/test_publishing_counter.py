"""Counters: the total after an increment, and what a stored counter says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import pytest

from nats_proto import Headers, Message, Operation, Pause, Request
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.errors import ApiLevelError, FeatureDroppedError, InvalidNameError, JetStreamDecodeError
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.counter import Counter, CounterEntry, increment_operation, read_counter
from nats_proto.errors import InvalidSubjectError

T = TypeVar("T")

BIG = 10**1000


def publishing(answer: PubAck) -> Operation[PubAck]:
    yield Pause(0.1)
    return answer


def total() -> Operation[int]:
    yield Pause(0.2)
    return 77


@pytest.mark.parametrize(
    ("answer", "result", "steps"),
    [
        (PubAck(stream="C", sequence=1, value=0), 0, 1),
        (PubAck(stream="C", sequence=1, value=-BIG), -BIG, 1),
        (PubAck(stream="C", sequence=1, duplicate=True, value=5), 5, 1),
        (PubAck(stream="C", sequence=1, duplicate=True), 77, 2),
    ],
)
def test_an_increment(answer: PubAck, result: int, steps: int) -> None:
    operation = increment_operation(publishing(answer), "c.x", total)
    for _ in range(steps):
        assert isinstance(operation.send(None), Pause)
    with pytest.raises(StopIteration) as end:
        operation.send(None)
    assert end.value.value == result


def test_a_server_without_counters_has_stored_the_message() -> None:
    operation = increment_operation(publishing(PubAck(stream="C", sequence=7)), "c.x", total)
    next(operation)
    with pytest.raises(FeatureDroppedError, match=r"'c\.x'.*'C' at 7") as raised:
        operation.send(None)
    assert raised.value.outcome == "unknown"


@pytest.mark.parametrize(
    ("data", "headers", "entry"),
    [
        (b'{"val":"5"}', None, CounterEntry(value=5)),
        (b'{"val":"-5","more":[1]}', {"Nats-Incr": "+2"}, CounterEntry(value=-5, increment=2)),
        (json.dumps({"val": str(BIG)}).encode(), {"Nats-Incr": f"-{BIG}"}, CounterEntry(value=BIG, increment=-BIG)),
        (
            b'{"val":"5"}',
            {"Nats-Counter-Sources": '{"ES":{"hits.es":"3"},"DE":{"hits.de":"2"}}'},
            CounterEntry(value=5, sources={"ES": {"hits.es": 3}, "DE": {"hits.de": 2}}),
        ),
    ],
)
def test_a_stored_counter(data: bytes, headers: dict[str, str] | None, entry: CounterEntry) -> None:
    assert read_counter("read", data, None if headers is None else Headers(headers)) == entry


def test_the_sources_cannot_be_changed() -> None:
    entry = read_counter("read", b'{"val":"1"}', Headers({"Nats-Counter-Sources": '{"A":{"b":"1"}}'}))
    with pytest.raises(TypeError):
        entry.sources["A"] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        entry.sources["A"]["b"] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"", {}),
        (b"5", {}),
        (b'{"val":5}', {}),
        (b'{"val":""}', {}),
        (b'{"val":"+"}', {}),
        (b'{"val":"1_0"}', {}),
        (b'{"val":" 1"}', {}),
        (b'{"val":"\xd9\xa1"}', {}),
        (b'{"val":"' + b"9" * 5000 + b'"}', {}),
        (b'{"val":' + b"[" * 100_000, {}),
        (b"\xff\xfe", {}),
        (b'{"val":"1"}', {"Nats-Incr": "x"}),
        (b'{"val":"1"}', {"Nats-Counter-Sources": "[]"}),
        (b'{"val":"1"}', {"Nats-Counter-Sources": '{"A":{"b":1}}'}),
        (b'{"val":"1"}', {"Nats-Counter-Sources": '{"A":{"b":"x"}}'}),
        (b'{"val":"1"}', {"Nats-Counter-Sources": '{"A":' * 100_000}),
        (b'{"val":"1"}', {"Nats-Counter-Sources": "\udcff"}),
        (b'{"val":"1"}', {"Nats-Counter-Sources": '{"A":{}}' + " " * 2_000_000}),
    ],
)
def test_what_is_no_counter(data: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(JetStreamDecodeError, match="read 'c'"):
        read_counter("read 'c'", data, Headers(headers))


class World:
    """Answers the requests of a counter."""

    def __init__(self, *script: bytes | Exception, version: str = "2.15.1") -> None:
        self.script = list(script)
        self.api = JetStreamApi(now=lambda: 1.0, new_inbox=lambda: "_INBOX.x", server_version=lambda: version)
        self.asked: list[str] = []

    def run(self, operation: Operation[T]) -> T:
        try:
            effect = next(operation)
            while True:
                assert isinstance(effect, Request)
                self.asked.append(effect.subject)
                step = self.script.pop(0)
                if isinstance(step, Exception):
                    effect = operation.throw(step)
                    continue
                message = Message("i", 1, None, step)
                assert effect.accept is None or effect.accept(message)
                effect = operation.send(message)
        except StopIteration as end:
            result: T = end.value
            return result


NAMES = b'{"streams":["C"],"total":1}'
STORED = b'{"message":{"subject":"c.x","seq":3,"time":"2026-01-01T00:00:00Z","data":"eyJ2YWwiOiI3In0="}}'
MISSING = b'{"error":{"code":404,"err_code":10037,"description":"no message found"}}'


def test_a_counter_finds_its_stream_once() -> None:
    world = World(NAMES, STORED, MISSING, b"hi")
    counter = Counter(world.api, "c.x", None)
    assert world.run(counter.entry(direct=False, timeout=None)) == CounterEntry(subject="c.x", value=7)
    assert world.run(counter.entry(direct=False, timeout=None)) == CounterEntry(subject="c.x", value=0)
    assert [subject.rpartition("API.")[2] for subject in world.asked] == [
        "STREAM.NAMES", "STREAM.MSG.GET.C", "STREAM.MSG.GET.C",
    ]  # fmt: skip
    with pytest.raises(JetStreamDecodeError):
        world.run(counter.entry(direct=False, timeout=None))


def test_what_a_duplicate_comes_to() -> None:
    """The server knows the id, and does not tell the total: it is read, at the leader."""
    world = World(b'{"stream":"C","seq":3,"duplicate":true}', STORED)
    counter = Counter(world.api, "c.x", "C")
    assert world.run(counter.add(5, "id", timeout=None, retry_for=0.0)) == 7
    assert world.asked == ["c.x", "$JS.API.STREAM.MSG.GET.C"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda api: Counter(api, "c.*", None), InvalidSubjectError),
        (lambda api: Counter(api, "c", "a b"), InvalidNameError),
        (lambda api: Counter(api, "c", None).add(True, None, timeout=None, retry_for=0.0), TypeError),
        (lambda api: Counter(api, "c", None).add(1 << 5000, None, timeout=None, retry_for=0.0), ValueError),
        (lambda api: Counter(api, "c", None).add(1, "", timeout=None, retry_for=0.0), ValueError),
    ],
)
def test_arguments_that_cannot_be_used(wrong: Callable[[JetStreamApi], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        wrong(World().api)


def test_a_server_that_is_too_old() -> None:
    with pytest.raises(ApiLevelError, match=r"2\.12 or newer, this one is 2\.11\.3"):
        Counter(World(version="2.11.3").api, "c", None)
