"""What either twin's tail takes is what the strict encoder writes, and what it leaves leaves it as it was."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Encoder
from nats_proto._session.outbox import _Chunk
from nats_proto._wire.encoder import Encoded
from nats_proto.testing import subjects
from tests.twins import Twin


class Liar(str):
    """Says that it is another subject, known to be good."""

    def __eq__(self, other: object) -> bool:
        return other == "a"

    def __hash__(self) -> int:
        return hash("a")

    def __len__(self) -> int:
        return 1

    def encode(self, *_: Any) -> bytes:
        return b"a"


HOSTILE_SUBJECTS = st.sampled_from(
    [
        *("a", "a.b", "a.b.c", "", ".", "a.", ".a", "a..b", "*", ">", "a.*", "a.>", "a*", "a>b", "*a", "$JS.ACK.x"),
        *("a b", "a\tb", "a\r\nPING", "a\nb", "a\x00b", "a\x1fb", "a\x7fb", "a\x80b", "ä", "日本", "a\ud800", "\udcff"),
        *("s" * 20, "s" * 4090, "s" * 4096, "a." * 2000 + "a", Liar("a b"), Liar("evil\r\nPING"), Liar("c")),
    ]
)
SUBJECTS = HOSTILE_SUBJECTS | subjects() | st.text(st.characters(max_codepoint=0x80), max_size=8)
NOT_SUBJECTS = st.sampled_from([None, 1, b"a", bytearray(b"a"), ["a"], ("a",), object])
PAYLOADS: st.SearchStrategy[Any] = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 70_000).map(lambda size: b"x" * size),
    st.sampled_from([0, 1, 9, 10, 99, 100, 9999, 10_000, 65535, 65536]).map(
        lambda size: b"\r\n" * (size // 2) + b"y" * (size % 2)
    ),
    st.binary(max_size=9).map(bytearray),
    st.binary(max_size=9).map(lambda data: memoryview(data)[::2]),
    st.sampled_from(["text", None, 5, [1], type("Bytes", (bytes,), {"__len__": lambda self: 1})(b"abc")]),
)
HEADERS: st.SearchStrategy[Any] = st.sampled_from(
    [None] * 6 + [{}, [], {"A": "1"}, [("A", "1"), ("A", "2")], {"A": "\r\n"}, {"a b": "1"}, {1: "1"}, 5, 0, ""]
)
CALLS = st.tuples(SUBJECTS | NOT_SUBJECTS, PAYLOADS, st.none() | SUBJECTS | NOT_SUBJECTS, HEADERS)
ALLOWED = st.none() | st.tuples(st.sampled_from([1, 5, 16, 65535, 65536, 2**31, 2**63, 2**64 - 1]), st.booleans())
LIMITS = st.tuples(
    st.sampled_from([0, 1, 11, 12, 13, 30, 4096, 2**20, 2**63, 2**70]),
    st.sampled_from([-1, 0, 1, 15, 16, 65_535, 2**20, 2**63, 2**70]),
    st.sampled_from([0, 1, 13, 100, 65_536, 2**40, 2**70]),
    st.sampled_from([-(2**70), 0, 1, 10, 40, 65_536, 2**63, 2**70]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), CALLS),
        st.tuples(st.just("many"), SUBJECTS, st.lists(PAYLOADS, max_size=5).map(tuple), st.integers(0, 6)),
        st.tuples(st.just("append"), st.binary(max_size=300)),
        st.tuples(st.just("restrict"), LIMITS),
        st.tuples(st.just("take")),
        st.tuples(st.just("give")),
        st.tuples(st.just("sent"), st.integers(0, 400)),
    ),
    max_size=12,
)


def strict(subject: Any, data: Any, reply: Any = None, headers: Any = None) -> bytes:
    """What the reference writes."""
    operation = Encoder(max_control_line=2**20).publish(subject, data, reply, headers)
    return operation if isinstance(operation, bytes) else b"".join(operation)


class Model:
    """A tail, and what has to be in it."""

    def __init__(self, twin: Twin) -> None:
        encoder = Encoder()
        for subject in ("a", "a.b", "a.b.c", "$JS.ACK.x", "s" * 20):
            encoder.publish(subject, b"")  # the Python twin takes subjects that were checked
        self.tail = twin.tail(encoder.heads)
        self.longest_line, self.largest_payload = 4096, 65_535
        self.tail.restrict(self.longest_line, self.largest_payload)
        self.tail.limit = 65_536
        self.apart_from = 2**63
        self.inside: list[bytes] = []
        self.operations: list[Encoded] = []
        self.apart: list[bytes] = []
        self.given: list[bytes] = []
        self.sent = 0
        self.msgs = self.payload_bytes = 0

    def take(self, operation: bytes, data: bytes) -> None:
        line = operation[: operation.index(b"\r\n") + 2]
        assert len(line) <= self.longest_line
        assert len(data) <= self.largest_payload
        assert sum(map(len, self.inside)) < self.tail.limit
        self.inside.append(operation)
        if len(data) < self.apart_from:
            self.operations.append(operation)
        else:
            self.operations.append((line, data, b"\r\n"))
            self.apart.append(data)
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
                self.operations.append(arguments[0])
            case "restrict":
                self.longest_line, self.largest_payload, self.tail.limit, self.apart_from = arguments[0]
                self.tail.restrict(self.longest_line, self.largest_payload, self.apart_from)
            case "give":
                pieces = self.tail.give()
                if self.given or self.apart:
                    assert pieces is None
                elif not any(self.inside):
                    assert pieces == []
                else:
                    assert pieces == [b"".join(self.inside)]
                    self.given, self.inside, self.operations = self.inside, [], []
            case "sent":
                left = max(0, self.sent + arguments[0] - sum(map(len, self.given)))
                assert self.tail.sent(arguments[0]) == left
                self.sent += arguments[0]
                if self.sent >= sum(map(len, self.given)):
                    self.given, self.sent = [], 0
            case _:
                pieces, lengths = self.tail.take()
                assert b"".join(pieces) == b"".join(self.inside)
                assert list(lengths) == list(map(len, self.inside))
                assert len(pieces) % 2 == 1
                assert [*map(id, pieces[1::2])] == [*map(id, self.apart)]  # not copied
                assert _Chunk(None, pieces, lengths).operations == self.operations
                self.inside, self.operations, self.apart = [], [], []
        pieces, lengths = self.tail.kept()
        assert b"".join(pieces) == b"".join(self.given)
        assert list(lengths) == list(map(len, self.given))
        assert self.tail.given == sum(map(len, self.given)) - self.sent
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


class Certain:
    """An encoder, and the tail in front of it, which takes what the encoder says is certainly right."""

    def __init__(self, twin: Twin, max_control_line: int = 4096) -> None:
        self.encoder = Encoder(max_control_line=max_control_line)
        self.tail = twin.tail(self.encoder.heads)
        self.tail.limit = 2**28
        self.tail.restrict(*self.encoder.certain)

    def allow(self, max_payload: int, headers: bool) -> None:
        self.encoder.server_allows(max_payload=max_payload, headers=headers)
        self.tail.restrict(*self.encoder.certain)

    def publish(self, call: tuple[Any, ...]) -> None:
        """What the tail takes must be what the encoder makes of it, which may not refuse it."""
        for _ in range(2):  # the second time with what the encoder has remembered
            if self.tail.publish(*call):
                pieces, lengths = self.tail.take()
                assert list(lengths) == [sum(map(len, pieces))]
                operation = self.encoder.publish(*call)
                assert tuple(pieces) == ((operation,) if isinstance(operation, bytes) else operation)
                continue
            with contextlib.suppress(Exception):
                self.encoder.publish(*call)


@given(
    max_control_line=st.sampled_from([1, 7, 12, 20, 100, 4096, 2**20, 2**63, 2**70]),
    allowed=ALLOWED,
    calls=st.lists(CALLS, max_size=6),
)
def test_what_is_certain_is_never_refused(
    twin: Twin, max_control_line: int, allowed: tuple[int, bool] | None, calls: list[tuple[Any, ...]]
) -> None:
    certain = Certain(twin, max_control_line)
    for call in calls:
        certain.publish(call)
    if allowed is not None:
        certain.allow(*allowed)
        for call in calls:
            certain.publish(call)


def test_every_character_in_every_place(twin: Twin) -> None:
    certain = Certain(twin)
    for character in [*map(chr, range(0x102)), "\u3000", "\ud800", "\U0001f600"]:
        for template in ("{}", "{}a", "a{}", "a{}b", "a.{}", "{}.a", "a.{}.b", "a.{}b", "a.b{}"):
            subject = template.replace("{}", character)
            for call in ((subject, b"x"), ("a", b"x", subject)):
                certain.publish(call)


@pytest.mark.parametrize("reply", [None, "r", "_INBOX.a.b"])
def test_what_is_certain_around_every_limit(twin: Twin, reply: str | None) -> None:
    for max_control_line in (8, 11, 30, 31, 32):
        for allowed in (None, 1, 9, 10, 100, 65536):
            certain = Certain(twin, max_control_line)
            if allowed is not None:
                certain.allow(allowed, True)
            for length in range(max_control_line):
                for size in (0, 1, 2, 9, 10, 11, 99, 100, 101, 65535, 65536):
                    certain.publish(("s" * length, b"x" * size, reply))


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
