"""What either twin's tail takes is what the strict encoder writes, and what it leaves leaves it as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Encoder
from tests.properties.test_twin import CALLS, PAYLOADS, SUBJECTS
from tests.twins import Twin

LIMITS = st.tuples(
    st.sampled_from([0, 1, 11, 12, 13, 30, 4096, 2**20, 2**63, 2**70]),
    st.sampled_from([-1, 0, 1, 15, 16, 65_535, 2**20, 2**63, 2**70]),
    st.sampled_from([0, 1, 13, 100, 65_536, 2**40, 2**70]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), CALLS),
        st.tuples(st.just("many"), SUBJECTS, st.lists(PAYLOADS, max_size=5).map(tuple), st.integers(0, 6)),
        st.tuples(st.just("append"), st.binary(max_size=300)),
        st.tuples(st.just("restrict"), LIMITS),
        st.tuples(st.just("take")),
    ),
    max_size=12,
)


def strict(subject: Any, data: Any, reply: Any = None, headers: Any = None) -> bytes:
    """What the reference writes; `publish` of the encoder would ask a twin first."""
    operation = Encoder()._publish_strictly(subject, data, reply, headers)
    assert isinstance(operation, bytes)
    return operation


class Model:
    """A tail, and what has to be in it."""

    def __init__(self, twin: Twin) -> None:
        encoder = twin.encoder()
        for subject in ("a", "a.b", "a.b.c", "$JS.ACK.x", "s" * 20):
            encoder._publish_strictly(subject, b"", None, None)  # the Python twin takes subjects that were checked
        self.tail = twin.tail(encoder._heads)
        self.longest_line, self.largest_payload = 4096, 65_535
        self.tail.restrict(self.longest_line, self.largest_payload)
        self.tail.limit = 65_536
        self.inside: list[bytes] = []
        self.msgs = self.payload_bytes = 0

    def take(self, operation: bytes, data: bytes) -> None:
        line = operation[: operation.index(b"\r\n") + 2]
        assert len(line) <= self.longest_line
        assert len(data) <= self.largest_payload
        assert sum(map(len, self.inside)) < self.tail.limit
        self.inside.append(operation)
        self.msgs += 1
        self.payload_bytes += len(data)

    def step(self, what: str, *arguments: Any) -> None:
        match what:
            case "publish":
                if self.tail.publish(*arguments[0]):
                    self.take(strict(*arguments[0]), arguments[0][1])
            case "many":
                subject, payloads, start = arguments
                end = self.tail.publish_many(subject, payloads, start)
                assert end == start or start < end <= len(payloads)
                for data in payloads[start:end]:
                    self.take(strict(subject, data), data)
            case "append":
                self.tail.append(arguments[0])
                self.inside.append(arguments[0])
            case "restrict":
                self.longest_line, self.largest_payload, self.tail.limit = arguments[0]
                self.tail.restrict(self.longest_line, self.largest_payload)
            case _:
                content, lengths = self.tail.take()
                assert content == b"".join(self.inside)
                assert list(lengths) == list(map(len, self.inside))
                self.inside = []
        assert self.tail.size == sum(map(len, self.inside))
        assert (self.tail.msgs, self.tail.payload_bytes) == (self.msgs, self.payload_bytes)


@given(steps=STEPS)
def test_only_what_is_right_is_taken(twin: Twin, steps: list[tuple[Any, ...]]) -> None:
    model = Model(twin)
    for step in steps:
        model.step(*step)
    model.step("take")


@pytest.mark.parametrize("reply", [None, "r", "_INBOX.a.b"])
def test_lengths_around_every_limit(twin: Twin, reply: str | None) -> None:
    for longest_line in (8, 11, 30, 31, 32, 60):
        for largest_payload in (-1, 0, 1, 9, 10, 100, 65_535):
            model = Model(twin)
            model.tail.limit = 2**20
            model.longest_line, model.largest_payload = longest_line, largest_payload
            model.tail.restrict(longest_line, largest_payload)
            for subject in ("a", "a.b", "s" * 20):
                for size in (0, 1, 2, 9, 10, 11, 99, 100, 101, 65_535, 65_536):
                    model.step("publish", (subject, b"x" * size, reply))
                    model.step("many", subject, (b"x" * size,) * 3, 1)
            model.step("take")


def test_what_programs_send_is_taken(twin: Twin) -> None:
    """Or nothing would be quick."""
    model = Model(twin)
    for subject in ("a", "a.b", "$JS.ACK.x"):
        for size in (0, 1, 16, 1000, 30_000):
            model.tail.take()
            assert model.tail.publish(subject, b"x" * size)
            assert model.tail.publish(subject, b"x" * size, "_INBOX.abc.1")
            model.tail.take()
            assert model.tail.publish_many(subject, (b"x" * size,) * 2, 0) == 2


def test_the_limit_ends_it(twin: Twin) -> None:
    model = Model(twin)
    model.tail.limit = 40
    taken = 0
    while model.tail.publish("a", b"0123456789"):
        taken += 1
    assert model.tail.size >= 40 > model.tail.size - len(b"PUB a 10\r\n0123456789\r\n")
    assert taken == 2
    assert model.tail.publish_many("a", (b"x",) * 5, 2) == 2
    model.tail.take()
    assert model.tail.publish_many("a", (b"0123456789",) * 5, 0) == 2
