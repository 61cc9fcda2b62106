"""What waits for its acknowledgement: both twins begin, publish and complete alike."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from nats_proto import Headers, Message
from nats_proto._jetstream.pub_ack import PubAck, read_plain
from nats_proto._publishing.pending import Pending
from nats_proto._wire.headers import encode_status_block
from nats_proto._wire.in_flight import MAX_SUBJECTS
from tests.twins import Twin

LONG = "x" * 300
PAYLOADS = [
    b'{"stream":"S", "seq":1}',
    b'{"stream":"S", "seq":2}',
    b'{"stream":"S", "seq":12345678}',
    b'{"stream":"S", "seq":0}',
    b'{"stream":"S", "seq":00}',
    b'{"stream":"S", "seq":01}',
    b'{"stream":"S", "seq":-1}',
    b'{"stream":"S", "seq":- 1}',
    b'{"stream":"S", "seq":1.0}',
    b'{"stream":"S", "seq":1.5}',
    b'{"stream":"S", "seq":0e0}',
    b'{"stream":"S", "seq":0e5}',
    b'{"stream":"S", "seq":1e2}',
    b'{"stream":"S", "seq":9999999999999999999}',
    b'{"stream":"S", "seq":18446744073709551615}',
    b'{"stream":"S", "seq":18446744073709551616}',
    b'{"stream":"S", "seq":99999999999999999999}',
    b'{"stream":"S", "seq":1 }',
    b'{"stream":"S", "seq":1}\n',
    b'{"stream":"S", "seq":1}}',
    b'{"stream":"S", "seq":1',
    b'{"stream":"S", "seq":}',
    b'{"stream":"S", "seq":"1"}',
    b'{"stream":"S", "seq":1, "seq":7}',
    b'{"stream":"S", "seq":1, "seq":8}',
    b'{"seq":1, "stream":"S"}',
    b'{"stream":"S","seq":1}',
    b'{"stream":"S","seq": 7}',
    b'{"stream":"T", "seq":1}',
    b'{"stream":"", "seq":1}',
    b'{"stream":"S", "seq":1, "duplicate":true}',
    b'{"stream":"S", "seq":2, "duplicate":true}',
    b'{"stream":"S", "duplicate":true, "seq":2}',
    b'{"stream":"S", "duplicate":true, "seq":3}',
    b'{"stream":"S", "domain":"D", "seq":2}',
    b'{"stream":"S", "domain":"D", "seq":3}',
    b'{"stream":"S", "batch":"b", "seq":3}',
    b'{"stream":"S", "seq":0, "count":0}',
    b'{"stream":"S", "seq":1, "count":1}',
    b'{"stream":"S", "seq":0, "(a number)":0}',
    b'{"stream":"S", "seq":0, "(a number)":5}',
    b'{"stream":"S", "seq":5, "val":"5"}',
    b'{"stream":"S", "seq":5, "new":5}',
    b'{"stream":"S", "seq":5, "new":{"seq":6}}',
    b'{"new":{"seq":6}, "stream":"S", "seq":5}',
    b'{"error":{"code":503},"stream":"S","seq":0}',
    b'{"stream":"%s", "seq":5}' % LONG.encode(),
    '{"stream":"ü", "seq":5}'.encode(),
    b'{"stream":"\xff", "seq":5}',
    b'{"stream":"S"}',
    b'{"seq":5}',
    b"1}",
    b":1}",
    b" 1}",
    b"5",
    b"}",
    b"[",
    b"[" * 100_000,
    b"",
]


class Quick:
    """Stands for `Session.publish_quickly`."""

    def __init__(self, answer: bool | BaseException = True) -> None:
        self.answer = answer
        self.taken: list[tuple[object, ...]] = []

    def __call__(self, *what: object) -> bool:
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer:
            self.taken.append(what)
        return self.answer


class Flight:
    """One of either twin, and what completes."""

    def __init__(self, twin: Twin, *, limit: int = 100, timeout: float = 5.0, make: Any = Pending) -> None:
        self.held: deque[object] = deque()
        self.flight: Any = twin.in_flight("inbox.", make, read_plain, self.held, timeout)
        self.flight.limit = limit
        self.ended: deque[Any] = deque()

    def begin(self, count: int = 1) -> list[Any]:
        return [self.flight.begin("s", b"x", None, 1.0) for _ in range(count)]

    def complete(self, *messages: Message) -> list[Message]:
        """What is left of them."""
        arrived = deque(messages)
        self.flight.complete(arrived, self.ended)
        return list(arrived)


def ack(number: int | str, data: bytes | int = b'{"stream":"S", "seq":1}') -> Message:
    if isinstance(data, int):
        data = b'{"stream":"S", "seq":%d}' % data
    return Message(f"inbox.{number}", 1, None, data)


# --- begun and published ---------------------------------------------------------------------------------------------


def test_a_publish_that_is_begun_has_all_it_needs(twin: Twin) -> None:
    one = Flight(twin)
    one.flight.owner = owner = object()
    headers = Headers({"A": "1"})
    pending = one.flight.begin("orders", b"data", headers, 100.0)
    assert pending.subject == "orders"
    assert pending.data == b"data"
    assert pending.headers is headers
    assert (pending.reply, pending.number) == ("inbox.1", 1)
    assert (pending.begun, pending.sent, pending.deadline) == (100.0, 100.0, 105.0)
    assert pending.publisher is owner
    assert pending.pub_ack is None
    assert one.flight.waiting == {"inbox.1": pending}
    assert one.flight.number == 1


def test_numbers_are_used_once(twin: Twin) -> None:
    one = Flight(twin, limit=2000)
    for number in range(1, 1200):
        (pending,) = one.begin()
        assert (pending.reply, pending.number) == (f"inbox.{number}", number)


@pytest.mark.parametrize("way", ["begin", "publish"])
def test_without_room_nothing_is_begun(twin: Twin, way: str) -> None:
    one, quick = Flight(twin, limit=2), Quick()

    def begin() -> Any:
        if way == "begin":
            return one.flight.begin("s", b"x", None, 1.0)
        return one.flight.publish(quick, "s", b"x", 1.0)

    one.held.append("something to do first")
    assert begin() is None
    one.held.clear()
    assert begin() is not None
    assert begin() is not None
    assert begin() is None  # as many as may be
    assert one.flight.number == 2
    assert one.complete(ack(1)) == []
    assert begin().number == 3
    one.flight.limit = 0
    one.complete(ack(2), ack(3))
    assert begin() is None


def test_a_publish_goes_out_with_its_reply_subject(twin: Twin) -> None:
    one, quick = Flight(twin), Quick()
    pending = one.flight.publish(quick, "orders", b"data", 100.0)
    assert quick.taken == [("orders", b"data", "inbox.1", None)]
    assert (pending.subject, pending.data, pending.headers, pending.reply) == ("orders", b"data", None, "inbox.1")
    assert (pending.number, pending.begun, pending.sent, pending.deadline) == (1, 100.0, 100.0, 105.0)
    assert one.flight.waiting == {"inbox.1": pending}


def test_what_was_not_taken_was_not_begun(twin: Twin) -> None:
    one = Flight(twin)
    assert one.flight.publish(Quick(False), "s", b"x", 1.0) is None
    assert one.flight.waiting == {}
    quick = Quick()
    assert one.flight.publish(quick, "s", b"x", 1.0).number == 1
    assert quick.taken == [("s", b"x", "inbox.1", None)]
    with pytest.raises(KeyboardInterrupt):
        one.flight.publish(Quick(KeyboardInterrupt()), "s", b"x", 1.0)
    assert list(one.flight.waiting) == ["inbox.1"]
    assert one.flight.publish(quick, "s", b"x", 1.0).reply != "inbox.1"


@pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x"), type("Bytes", (bytes,), {})(b"x"), "x", None])
def test_what_may_change_goes_another_way(twin: Twin, data: Any) -> None:
    one, quick = Flight(twin), Quick()
    assert one.flight.publish(quick, "s", data, 1.0) is None
    assert (one.flight.number, one.flight.waiting, quick.taken) == (0, {}, [])


def test_what_making_one_raises_leaves_none(twin: Twin) -> None:
    def make(*_: object) -> Pending[None]:
        raise MemoryError

    one = Flight(twin, make=make)
    with pytest.raises(MemoryError):
        one.begin()
    with pytest.raises(MemoryError):
        one.flight.publish(Quick(), "s", b"x", 1.0)
    assert one.flight.waiting == {}


def test_the_look_is_never_late(twin: Twin) -> None:
    one = Flight(twin, timeout=5.0)
    assert one.flight.look == float("inf")
    one.flight.begin("s", b"x", None, 10.0)
    assert one.flight.look == 15.0
    one.flight.publish(Quick(), "s", b"x", 9.0)
    assert one.flight.look == 14.0
    one.flight.begin("s", b"x", None, 20.0)
    assert one.flight.look == 14.0
    one.flight.look_by(13.0)
    assert one.flight.look == 13.0
    one.flight.look_by(14.0)
    assert one.flight.look == 13.0
    one.flight.look = 50.0
    assert one.flight.look == 50.0


# --- completed -------------------------------------------------------------------------------------------------------


def test_acknowledgements_complete_their_own_in_the_order_in_which_they_came(twin: Twin) -> None:
    one = Flight(twin)
    pending = one.begin(4)
    order = [3, 1, 4, 2]
    left = one.complete(*(ack(number, b'{"stream":"S", "seq":%d}' % (10 * number)) for number in order))
    assert left == []
    assert [ended.number for ended in one.ended] == order
    assert [ended.pub_ack for ended in one.ended] == [PubAck(stream="S", sequence=10 * number) for number in order]
    assert all(one.ended[order.index(each.number)] is each for each in pending)
    assert one.flight.waiting == {}


@pytest.mark.parametrize(
    "other",
    [
        ack(99),
        ack(1),
        ack(3, b'{"error":{"code":503}}'),
        ack(3, b"somebody else answers"),
        Message("inbox.3", 1, None, b"", encode_status_block(503)),
        Message("", 1, None, b""),
        Message("inbox.3x", 1, None, b'{"stream":"S", "seq":1}'),
    ],
    ids=["of nobody", "once more", "an error", "foreign", "no responders", "a mark", "another subject"],
)
def test_what_is_no_plain_acknowledgement_stays_with_all_behind_it(twin: Twin, other: Message) -> None:
    one = Flight(twin)
    one.begin(4)
    left = one.complete(ack(1), ack(2), other, ack(4))
    assert left == [other, ack(4)]
    assert [ended.number for ended in one.ended] == [1, 2]
    assert set(one.flight.waiting) == {"inbox.3", "inbox.4"}
    assert one.complete(*left) == left
    assert one.complete(left[1]) == []
    assert [ended.number for ended in one.ended] == [1, 2, 4]


@pytest.mark.parametrize("first", PAYLOADS, ids=lambda data: repr(data[:50]))
def test_an_acknowledgement_is_read_alike_behind_any_other(twin: Twin, first: bytes) -> None:
    for second in PAYLOADS:
        one = Flight(twin)
        one.begin(3)
        one.complete(ack(1, first))
        for number in (2, 3):  # what the one before has left behind must not show
            expected = read_plain(second)
            left = one.complete(ack(number, second))
            if expected is None:
                assert left, second
            else:
                assert not left, second
                assert one.ended[-1].pub_ack == expected, (first, second)
                assert type(one.ended[-1].pub_ack) is PubAck


def test_acknowledgements_of_several_streams_in_turn(twin: Twin) -> None:
    one = Flight(twin, limit=1000)
    one.begin(300)
    messages = [ack(number, b'{"stream":"%c", "seq":%d}' % (65 + number % 3, number)) for number in range(1, 301)]
    assert one.complete(*messages) == []
    for number, ended in enumerate(one.ended, 1):
        assert ended.pub_ack == PubAck(stream=chr(65 + number % 3), sequence=number)


def test_what_refuses_its_acknowledgement_harms_no_other(twin: Twin) -> None:
    class Refuses:
        slot = None

        @property
        def pub_ack(self) -> None:
            return None

    one = Flight(twin, make=lambda *what: Refuses() if what[4] == 2 else Pending(*what))
    one.begin(3)
    arrived = deque((ack(1), ack(2), ack(3)))
    with pytest.raises(AttributeError):
        one.flight.complete(arrived, one.ended)
    assert arrived == deque((ack(3),))  # each message is taken once, also the one that has failed
    assert set(one.flight.waiting) == {"inbox.3"}


# --- reply subjects that are used again ------------------------------------------------------------------------------


def test_a_reply_subject_is_used_again_after_many_publishes(twin: Twin) -> None:
    one = Flight(twin)
    one.flight.own = 3
    for number in range(1, 4):
        (pending,) = one.begin()
        assert (pending.reply, pending.slot) == (f"inbox.{number}", None)
        assert one.complete(ack(number, number)) == []
    first, second = one.begin(2)
    assert (first.reply, second.reply) == ("inbox.4", "inbox.5")
    assert one.complete(ack(4, 4), ack(5, 5)) == []
    again = one.begin(3)
    assert [pending.reply for pending in again] == ["inbox.5", "inbox.4", "inbox.8"]
    assert [pending.number for pending in again] == [6, 7, 8]
    assert one.flight.waiting == {pending.reply: pending for pending in again}
    assert one.complete(ack(5, 6), ack(8, 8), ack(4, 7)) == []
    assert [(ended.number, ended.pub_ack.sequence) for ended in list(one.ended)[-3:]] == [(6, 6), (8, 8), (7, 7)]


def test_it_is_published_with_the_reply_subject_that_is_used_again(twin: Twin) -> None:
    one, quick = Flight(twin), Quick()
    one.flight.own = 0
    for number in range(1, 4):
        assert one.flight.publish(quick, "s", b"x", 1.0).reply == "inbox.1"
        assert one.complete(ack(1, number)) == []
    assert [taken[2] for taken in quick.taken] == ["inbox.1"] * 3


IN_DOUBT = {
    "the same once more": b'{"stream":"S", "seq":7}',
    "an earlier one": b'{"stream":"S", "seq":6}',
    "another stream": b'{"stream":"T", "seq":8}',
    "another domain": b'{"stream":"S", "domain":"D", "seq":8}',
    "a duplicate": b'{"stream":"S", "seq":8, "duplicate":true}',
    "none": b'{"stream":"S", "seq":0}',
}


@pytest.mark.parametrize("data", IN_DOUBT.values(), ids=IN_DOUBT)
@pytest.mark.parametrize("between", [None, b'{"stream":"T", "seq":1}', b'{"stream":"S", "seq":1, "domain":"D"}'])
def test_an_acknowledgement_in_doubt_stays_with_all_behind_it(twin: Twin, data: bytes, between: bytes | None) -> None:
    one = Flight(twin)
    one.flight.own = 1
    (other,) = one.begin()
    one.begin()
    assert one.complete(ack(2, 7)) == []
    (pending,) = one.begin()
    assert pending.reply == "inbox.2"
    if between is not None:  # which is then the last that was read
        assert one.complete(ack(1, between)) == []
        assert other.pub_ack is not None
    left = one.complete(ack(2, data), ack(2, 8))
    assert left == [ack(2, data), ack(2, 8)]
    assert pending.pub_ack is None
    assert one.complete(ack(2, 8)) == []
    assert pending.pub_ack == PubAck(stream="S", sequence=8)


def test_of_a_stream_with_a_domain_too(twin: Twin) -> None:
    one = Flight(twin)
    one.flight.own = 0
    one.begin()
    assert one.complete(ack(1, b'{"stream":"S", "domain":"D", "seq":7}')) == []
    one.begin()
    for data in (b'{"stream":"S", "seq":8}', b'{"stream":"S", "domain":"D", "seq":7}'):
        assert one.complete(ack(1, data)) == [ack(1, data)]
    assert one.complete(ack(1, b'{"stream":"S", "domain":"D", "seq":8}')) == []


def test_a_slot_tells_what_is_later(twin: Twin) -> None:
    one = Flight(twin)
    one.flight.own = 0
    (pending,) = one.begin()
    acks = [read_plain(data) for data in IN_DOUBT.values()]
    assert all(pending.slot.is_later(each) for each in acks)  # it is new: all that comes there is its own
    assert one.complete(ack(1, 7)) == []
    (pending,) = one.begin()
    assert not any(pending.slot.is_later(each) for each in acks)
    assert pending.slot.is_later(PubAck(stream="S", sequence=8))
    assert pending.slot.is_later(PubAck(stream="S", sequence=2**64 - 1))


def test_none_is_used_again_for_another_subject_or_with_headers(twin: Twin) -> None:
    one = Flight(twin)
    one.flight.own = 0
    one.begin()
    assert one.complete(ack(1)) == []
    assert one.flight.begin("t", b"x", None, 1.0).reply == "inbox.2"
    with_headers = one.flight.begin("s", b"x", Headers({"A": "1"}), 1.0)
    assert (with_headers.reply, with_headers.slot) == ("inbox.3", None)
    assert one.complete(ack(3)) == []
    assert [pending.reply for pending in one.begin(2)] == ["inbox.1", "inbox.5"]


def test_none_is_used_again_after_a_pause(twin: Twin) -> None:
    one = Flight(twin)
    one.flight.own = 0
    replies, now = [], 1.0
    for pause in (0.0, 0.05, 0.05, 0.2, 0.05):
        now += pause
        replies.append(one.flight.begin("s", b"x", None, now).reply)
        assert one.complete(ack(replies[-1].removeprefix("inbox."), len(replies))) == []
    assert replies == ["inbox.1", "inbox.1", "inbox.1", "inbox.4", "inbox.4"]


def test_those_of_before_are_forgotten(twin: Twin) -> None:
    one = Flight(twin)
    one.flight.own = 0
    one.begin(2)
    assert one.complete(ack(1, 1)) == []
    one.flight.forget()
    assert one.complete(ack(2, 2)) == []  # it was in flight meanwhile, and is not kept either
    assert [pending.reply for pending in one.begin(2)] == ["inbox.3", "inbox.4"]
    assert one.complete(ack(3, 3)) == []
    one.flight.own = sys.maxsize
    assert one.begin()[0].reply == "inbox.5"


def test_what_was_in_flight_meanwhile_takes_no_place_of_those_that_are_kept(twin: Twin) -> None:
    one = Flight(twin, limit=2)
    one.flight.own = 0
    one.begin(2)
    one.flight.forget()
    assert one.complete(ack(1, 1), ack(2, 2)) == []
    one.begin(2)
    assert one.complete(ack(3, 3), ack(4, 4)) == []
    assert [pending.reply for pending in one.begin(2)] == ["inbox.4", "inbox.3"]


def test_as_many_are_kept_as_may_wait(twin: Twin) -> None:
    one = Flight(twin, limit=4)
    one.flight.own = 0
    for subject in "stu":  # of all subjects together
        for _ in range(3):
            one.flight.begin(subject, b"x", None, 1.0)
        numbers = [reply.removeprefix("inbox.") for reply in one.flight.waiting]
        assert one.complete(*(ack(number) for number in numbers)) == []
    replies = [one.flight.begin(subject, b"x", None, 1.0).reply for subject in "suts"]
    assert replies == ["inbox.3", "inbox.11", "inbox.4", "inbox.2"]


def test_reply_subjects_are_kept_for_a_few_subjects(twin: Twin) -> None:
    one = Flight(twin, limit=1000)
    one.flight.own = 0
    for number in range(1, 101):
        one.flight.begin(f"s{number}", b"x", None, 1.0)
        assert one.complete(ack(number)) == []
    again = [one.flight.begin(f"s{number}", b"x", None, 1.0).reply for number in range(1, 101)]
    assert again == [f"inbox.{number if number <= MAX_SUBJECTS else 100 + number}" for number in range(1, 101)]


def test_what_was_not_taken_leaves_its_reply_subject_to_others(twin: Twin) -> None:
    one, refuses = Flight(twin), Quick(False)
    one.flight.own = 0
    assert one.flight.publish(refuses, "s", b"x", 1.0) is None  # new: the next one, whatever it is, has its number
    assert one.flight.begin("t", b"x", None, 1.0).reply == "inbox.1"
    assert one.begin()[0].reply == "inbox.2"
    assert one.complete(ack(2, 5)) == []
    assert one.flight.publish(refuses, "s", b"x", 1.0) is None
    assert "inbox.2" not in one.flight.waiting
    (pending,) = one.begin()
    assert (pending.reply, pending.number) == ("inbox.2", 3)
    assert one.complete(ack(2, 5)) == [ack(2, 5)]
    with pytest.raises(KeyboardInterrupt):
        one.flight.publish(Quick(KeyboardInterrupt()), "s", b"x", 1.0)
    assert "inbox.4" not in one.flight.waiting
    assert one.begin()[0].reply == "inbox.5"


# --- as a thing of its own -------------------------------------------------------------------------------------------


def test_misuse_is_a_type_error(twin: Twin) -> None:
    one = Flight(twin)
    for call in (
        lambda: one.flight.begin("s", b"x", None, "now"),
        lambda: one.flight.publish(Quick(), "s", b"x", None),
        lambda: one.flight.look_by("soon"),
    ):
        with pytest.raises(TypeError):
            call()


def test_what_it_holds_is_found_by_the_collector(twin: Twin) -> None:
    class Owner:
        pass

    owner: Any = Owner()
    owner.flight = Flight(twin).flight
    owner.flight.owner = owner
    owner.pending = owner.flight.begin("s", b"x", None, 1.0)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns fifty times as often: else each would do all that it has to do in one go."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(before)


def test_compiled_it_is_one_step_for_threads(twin: Twin, restless: None) -> None:
    """Many publish while one completes: every number once, the limit kept, every acknowledgement to its own."""
    if twin.name != "compiled":
        pytest.skip("the Python twin is for one thread at a time")
    one = Flight(twin, limit=50)
    wire: deque[str] = deque()
    each, threads = 500, 3

    done = threading.Barrier(threads + 1)

    def publish() -> None:
        taken = 0
        while taken < each:
            pending = one.flight.publish(published, "s", b"x", 1.0)
            taken += pending is not None
        done.wait()

    def published(*what: Any) -> bool:
        wire.append(what[2])
        return True

    running = [threading.Thread(target=publish) for _ in range(threads)]
    for thread in running:
        thread.start()
    completed = 0
    while completed < each * threads:
        assert len(one.flight.waiting) <= 50 + threads
        numbers = [wire.popleft().removeprefix("inbox.") for _ in range(len(wire))]
        one.complete(*(ack(number, b'{"stream":"S", "seq":%s}' % number.encode()) for number in numbers))
        while one.ended:
            ended = one.ended.popleft()
            assert ended.pub_ack.sequence == ended.number
            completed += 1
    done.wait()
    for thread in running:
        thread.join()
    assert one.flight.waiting == {}
