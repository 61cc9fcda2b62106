"""How many messages are asked for ahead, by their size."""

from __future__ import annotations

import pytest

from nats_proto import Message
from nats_proto._consuming.ahead import BYTES, MOST, SAMPLE, Ahead
from nats_proto._consuming.consume import Consume
from nats_proto._consuming.options import ConsumeOptions
from tests.proto.consuming import NOW, SUBJECT, Inboxes, delivered, requests, status


def asked_for(ahead: Ahead) -> int:
    """How many may be outstanding now."""
    assert ahead.reckon(0, NOW)
    assert ahead.low < ahead.threshold <= ahead.maximum
    return ahead.maximum


@pytest.mark.parametrize(
    ("count", "size", "most"),
    [
        (SAMPLE - 1, 1, 1000),  # too few to tell
        (SAMPLE, 0, MOST),
        (SAMPLE, 128, MOST),
        (SAMPLE, BYTES // MOST, MOST),
        (SAMPLE, 2048, 2048),
        (SAMPLE, 4096, 1024),
        (SAMPLE, 5000, 1000),
        (SAMPLE, 1_000_000, 1000),
        (10 * SAMPLE, 2048, 2048),
    ],
)
def test_as_many_as_there_is_room_for(count: int, size: int, most: int) -> None:
    ahead = Ahead(1000)
    assert asked_for(ahead) == 1000
    ahead.came(count, count * size)
    assert asked_for(ahead) == most
    assert asked_for(ahead) == most  # it stays until others have come


def test_what_comes_now_counts_and_not_what_came_before() -> None:
    ahead = Ahead(1000)
    for size, most in ((10, MOST), (100_000, 1000), (2048, 2048)):
        for _ in range(SAMPLE):
            ahead.came(1, size)
        assert asked_for(ahead) == most


class Varying:
    """A reader that may have as many messages outstanding as those that came let it have."""

    def __init__(self, most: int) -> None:
        self.ahead = Ahead(1)
        self.come_for(most)
        self.reader: Consume[Message, Message] = Consume(
            SUBJECT,
            ConsumeOptions(max_messages=100),
            what="messages",
            new_inbox=Inboxes(),
            make=lambda message, now: message,
            now=NOW,
            demand=self.ahead,
        )
        self.number = 0

    def come_for(self, most: int) -> None:
        """Messages come that are so large that there is room for so many."""
        self.ahead.came(SAMPLE, BYTES * SAMPLE // most)

    def asked(self) -> list[tuple[str, object]]:
        found = [(reply, body["batch"]) for reply, body in requests(self.reader.wants)]
        self.reader.wants.clear()
        return found

    def feed(self, count: int) -> list[object]:
        """So many messages come: the batches that were asked for meanwhile."""
        for _ in range(count):
            self.number += 1
            self.reader.receive(delivered(self.number), now=NOW)
        return [batch for _, batch in self.asked()]


def test_it_asks_for_as_many_as_may_be_outstanding_now() -> None:
    varying = Varying(100)
    assert varying.feed(0) == [100]
    assert varying.feed(25) == []
    varying.come_for(400)
    assert varying.feed(1) == [326]  # fewer than three quarters of a hundred are outstanding
    assert varying.feed(100) == []
    varying.come_for(8)
    assert varying.feed(1) == []  # 299 are, which are too many by now
    assert varying.feed(293) == []
    assert varying.reader.outstanding == 6
    assert varying.feed(1) == [3]
    varying.come_for(1)
    assert varying.feed(7) == []
    assert varying.feed(3) == [1, 1, 1]


def test_what_the_consumer_allows_is_a_bound() -> None:
    varying = Varying(100)
    [(reply, _)] = varying.asked()
    varying.reader.receive(status(reply, "409 Exceeded MaxRequestBatch of 10"), now=NOW)
    assert varying.feed(0) == [10]
    varying.come_for(4000)
    assert varying.feed(4) == [4]
    varying.come_for(5)
    assert varying.feed(8) == [3]
