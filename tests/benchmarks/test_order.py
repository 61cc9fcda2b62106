"""The counting of the benchmarks: what was lost, doubled or out of order is found, whoever looks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks import order
from benchmarks.order import Stripes, findings, numbers, payload, unwrap

LINE = b"MSG bench.subject 1 16\r\n"
COUNT = 1000


def found(values: list[int]) -> tuple[int, int, int, int]:
    result = findings(values, 6)
    return result["received"], result["lost"], result["doubled"], result["misordered"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2, 3, 4, 5], (6, 0, 0, 0)),
        ([0, 1, 3, 4, 5], (5, 1, 0, 0)),
        ([1, 2, 3, 4, 5], (5, 1, 0, 0)),
        ([0, 1, 2, 3, 4], (5, 1, 0, 0)),
        ([0, 1, 2, 2, 3, 4, 5], (7, 0, 1, 0)),
        ([0, 1, 2, 3, 4, 5, 5], (7, 0, 1, 0)),
        ([0, 1, 2, 2, 4, 5], (6, 1, 1, 0)),
        ([0, 2, 1, 3, 4, 5], (6, 0, 0, 1)),
        ([5, 4, 3, 2, 1, 0], (6, 0, 0, 5)),
        ([0, 1, 2, 3, 4, 6], (6, 1, 1, 0)),
        ([0, 1, 2, 3, 4, 5, 6], (7, 0, 1, 0)),
        ([], (0, 6, 0, 0)),
    ],
)
def test_what_became_of_messages(values: list[int], expected: tuple[int, int, int, int]) -> None:
    assert found(values) == expected


def test_numbers_are_read_from_whole_payloads_and_from_heads() -> None:
    whole = [payload(number, 100) for number in (0, 1, 255, 256, 70000)]
    assert {len(data) for data in whole} == {100}
    assert list(numbers(whole)) == list(numbers([data[:8] for data in whole])) == [0, 1, 255, 256, 70000]


def test_the_numbers_of_a_ring_become_whole_again() -> None:
    sent = [number % 64 for number in range(200)]
    assert list(unwrap(sent, 64)) == list(range(200))
    swapped = [*sent[:130], sent[131], sent[130], *sent[132:]]
    assert findings(unwrap(swapped, 64), 200) == {"received": 200, "lost": 0, "doubled": 0, "misordered": 1}
    assert findings(unwrap([*sent[:130], *sent[131:]], 64), 200)["lost"] == 1
    assert findings(unwrap([*sent[:131], *sent[130:]], 64), 200)["doubled"] == 1


def test_a_ring_gives_as_many_payloads_as_asked_for() -> None:
    size = 65536
    given = list(order.ring(size, 100))
    assert list(numbers(given)) == [number % order.ring_size(size) for number in range(100)]


def test_a_stream_is_its_operations_one_after_the_other() -> None:
    expected = b"".join(LINE + payload(number, 16) + b"\r\n" for number in range(250, 600))
    assert order.stream(250, 350, 16, LINE) == expected


def striped(data: bytes, size: int) -> Stripes:
    stripes = Stripes(LINE, 16)
    for begin, end in pairwise([*range(0, len(data), size), len(data)]):
        stripes.feed(data[begin:end])
    return stripes


@pytest.mark.parametrize("size", [1, 7, 42, 4096, 65536])
def test_stripes_find_what_a_bare_stream_lacks(size: int) -> None:
    whole = bytes(order.stream(0, COUNT, 16, LINE))
    length = len(whole) // COUNT
    half = COUNT // 2 * length
    one, two = whole[half : half + length], whole[half + length : half + 2 * length]
    rest = whole[half + 2 * length :]
    assert striped(whole, size).findings(COUNT) == {"received": COUNT, "lost": 0, "doubled": 0, "misordered": 0}
    assert striped(whole[:half] + two + rest, size).findings(COUNT)["lost"] == 1
    assert striped(whole[:half] + one + one + two + rest, size).findings(COUNT)["doubled"] == 1
    assert striped(whole[:half] + two + one + rest, size).findings(COUNT)["misordered"] == 1
    assert striped(whole[:-1], size).findings(COUNT)["lost"] == 1


@pytest.mark.parametrize("size", [1, 5, 42, 65536])
@pytest.mark.parametrize("word", [b"PING\r\n", b"PONG\r\n"])
def test_stripes_leave_out_what_a_server_says_between_messages(size: int, word: bytes) -> None:
    whole = bytes(order.stream(0, COUNT, 16, LINE))
    length = len(whole) // COUNT
    at = 300 * length
    mixed = word + whole[:at] + word + whole[at:] + word
    assert striped(mixed, size).findings(COUNT) == {"received": COUNT, "lost": 0, "doubled": 0, "misordered": 0}
