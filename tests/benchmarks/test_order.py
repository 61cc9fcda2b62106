"""The counting of the benchmarks: what was lost, doubled or out of order is found, whoever looks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks import order
from benchmarks.order import Stripes, findings, findings_of_shares, numbers, payload, spread_findings, unwrap
from benchmarks.other_side import complete

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


def test_a_stream_of_several_lines_takes_them_in_turn() -> None:
    lines = [b"PUB bench.spread.%05d 16\r\n" % number for number in range(7)]
    expected = b"".join(lines[number % 7] + payload(number, 16) + b"\r\n" for number in range(250, 600))
    assert order.stream(250, 350, 16, *lines) == expected


@pytest.mark.parametrize("count", [0, 1, 5, 6, 1000])
def test_shares_are_all_payloads_and_each_is_in_order(count: int) -> None:
    given = [list(numbers(list(share))) for share in order.shares(16, count, 4)]
    assert given == [list(range(worker, count, 4)) for worker in range(4)]


def test_shares_go_around_the_ring() -> None:
    turn = order.ring_size(65536)
    given = [list(numbers(list(share))) for share in order.shares(65536, 3 * turn, 4)]
    assert given == [[number % turn for number in range(worker, 3 * turn, 4)] for worker in range(4)]


def test_each_worker_has_an_order_of_its_own() -> None:
    one, two = list(range(0, 200, 2)), list(range(1, 200, 2))
    both = [number % 64 for number in [*one, *two]]
    good = {"received": 200, "lost": 0, "doubled": 0, "misordered": 0}
    assert findings_of_shares(both, 200, 64, 2) == good
    swapped = [*both[:70], both[71], both[70], *both[72:]]
    assert findings_of_shares(swapped, 200, 64, 2) == {**good, "misordered": 1}
    assert findings_of_shares([*both[:70], *both[71:]], 200, 64, 2) == {**good, "received": 199, "lost": 1}
    assert findings_of_shares([*both[:71], *both[70:]], 200, 64, 2) == {**good, "received": 201, "doubled": 1}


def spread_over(subs: int, count: int) -> list[list[bytes]]:
    return [[payload(number, 16) for number in range(first, count, subs)] for first in range(subs)]


def test_each_subscription_has_its_own_messages_in_order() -> None:
    good = {"received": 20, "lost": 0, "doubled": 0, "misordered": 0}
    assert spread_findings(spread_over(3, 20), 20) == good
    assert spread_findings(spread_over(30, 20), 20) == good
    lost, doubled, swapped, strange, elsewhere = (spread_over(3, 20) for _ in range(5))
    del lost[1][2]
    assert spread_findings(lost, 20) == {**good, "received": 19, "lost": 1}
    doubled[1].insert(3, doubled[1][2])
    assert spread_findings(doubled, 20) == {**good, "received": 21, "doubled": 1}
    swapped[2][1:3] = reversed(swapped[2][1:3])
    assert spread_findings(swapped, 20) == {**good, "misordered": 1}
    strange[0].append(payload(21, 16))
    assert spread_findings(strange, 20) == {**good, "received": 21, "doubled": 1}
    elsewhere[0][3] = elsewhere[1].pop(3)  # in place of its neighbour
    found = spread_findings(elsewhere, 20)
    assert (found["received"], found["lost"], found["doubled"]) == (19, 2, 1)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"", 0),
        (b"PI", 0),
        (b"PING\r\n", 6),
        (b"PING\r\nPO", 6),
        (b"MS", 0),
        (b"MSG a 1 r 2", 0),
        (b"MSG a 1 r 2\r\n", 0),
        (b"MSG a 1 r 2\r\nhi\r", 0),
        (b"MSG a 1 r 2\r\nhi\r\n", 17),
        (b"MSG a 1 r 2\r\nhi\r\nPI", 17),
        (b"MSG a 1 r 2\r\nhi\r\nPING\r\n", 23),
        (b"PING\r\nMSG a 1 r 2\r\nhi\r\nMSG a 1 r 2\r\nh", 23),
        (b"MSG a 1 r 4\r\n\r\n\r\n", 0),
        (b"MSG a 1 r 4\r\n\r\n\r\n\r\n", 19),
    ],
)
def test_a_responder_answers_what_is_whole(data: bytes, whole: int) -> None:
    assert complete(data) == whole
