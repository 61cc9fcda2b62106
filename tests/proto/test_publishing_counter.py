"""Counters: the total after an increment, and what a stored counter says."""

from __future__ import annotations

import json

import pytest

from nats_proto import Headers, Operation, Pause
from nats_proto._jetstream.errors import FeatureDroppedError, JetStreamDecodeError
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.counter import CounterEntry, increment_operation, read_counter

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
