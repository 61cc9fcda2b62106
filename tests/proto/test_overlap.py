"""What two connections deliver is given once: the pure rule, against a model of two streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto import Message
from nats_proto._session import overlap as overlap_module
from nats_proto._session.overlap import Overlap


def message(data: bytes) -> Message:
    return Message("s", 1, None, data)


@given(
    before=st.integers(0, 3),
    both=st.integers(0, 8),
    after=st.integers(0, 3),
    turns=st.lists(st.booleans(), max_size=30),
)
def test_each_is_given_once_and_in_order_however_the_two_are_interleaved(
    before: int, both: int, after: int, turns: list[bool]
) -> None:
    stream = [b"%d" % number for number in range(before + both + after)]
    old, new = stream[: before + both], stream[before:]
    overlap: Overlap[Message] = Overlap()
    given_: list[bytes] = []
    for turn in [*turns, *[True] * len(old), *[False] * len(new)]:
        if turn and old:
            overlap.of_old(message(old[0]))
            given_.append(old.pop(0))
        elif not turn and new and (turns or not old):
            overlap.of_new(message(new.pop(0)))
    while new:
        overlap.of_new(message(new.pop(0)))
    given_ += [held.data for held in overlap.release()]
    assert given_ == stream


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([b"a", b"b"])), max_size=40))
def test_of_equal_ones_as_many_are_given_as_the_one_that_had_more(steps: list[tuple[bool, bytes]]) -> None:
    overlap: Overlap[Message] = Overlap()
    for of_old, data in steps:
        (overlap.of_old if of_old else overlap.of_new)(message(data))
    released = [held.data for held in overlap.release()]
    for data in (b"a", b"b"):
        old = sum(1 for of_old, each in steps if of_old and each == data)
        new = sum(1 for of_old, each in steps if not of_old and each == data)
        assert old + released.count(data) == max(old, new)


def test_its_size_is_that_of_what_has_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap_module, "MAX_HELD_BYTES", 100)
    overlap: Overlap[Message] = Overlap()
    for _ in range(3):
        overlap.of_old(message(b"x" * 60))
        overlap.of_new(message(b"x" * 60))
    assert not overlap.exceeds(1)
    overlap.of_new(message(b"y" * 60))
    assert not overlap.exceeds(1)
    overlap.of_old(message(b"z" * 60))
    assert overlap.exceeds(1)
    assert not overlap.exceeds(2)
    overlap.release()
    assert not overlap.exceeds(1)
    assert overlap.is_copy(message(b"z" * 60))
    assert not overlap.is_copy(message(b"z" * 60))
