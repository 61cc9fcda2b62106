"""The tail as a thing of its own: it cannot be misused, keeps nothing, and threads do not hurt it."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import sys
import threading
import tracemalloc
from collections import deque
from itertools import product
from typing import Any

import pytest

from nats_proto import PublishMany
from nats_proto._session.outbox import _Chunk
from nats_proto._wire.encoder import APART_ROOM
from nats_proto.errors import MaxPayloadError
from tests.proto.driver import World, info
from tests.proto.test_speedups import WITH_MODULE, in_threads, least_growth
from tests.twins import Twin, compiled_module

HEADS = {"a": b"PUB a ", "orders.new": b"PUB orders.new "}


def ready(twin: Twin) -> Any:
    tail = twin.tail(HEADS)
    tail.restrict(4096, 65_535)
    tail.limit = 65_536
    return tail


def test_a_new_one_takes_nothing(twin: Twin) -> None:
    tail = twin.tail(HEADS)
    assert tail.size == tail.limit == tail.msgs == tail.payload_bytes == 0
    assert not tail.publish("a", b"")
    assert tail.publish_many("a", (b"",), 0) == 0
    [content], lengths = tail.take()
    assert (content, list(lengths)) == (b"", [])


def test_many_operations_and_large_ones(twin: Twin) -> None:
    tail = ready(twin)
    tail.limit = 2**28
    wanted: list[bytes] = []
    for number in range(5000):
        data = b"x" * (number % 50)
        assert tail.publish("a", data)
        wanted.append(b"PUB a %d\r\n%b\r\n" % (len(data), data))
    tail.append(b"y" * 3_000_000)
    tail.append(b"")
    wanted += [b"y" * 3_000_000, b""]
    [content], lengths = tail.take()
    assert content == b"".join(wanted)
    assert list(lengths) == list(map(len, wanted))
    assert tail.publish("a", b"again")
    assert tail.take()[0] == [b"PUB a 5\r\nagain\r\n"]


def test_a_tail_that_goes_away_keeps_no_large_payload(twin: Twin) -> None:
    payload = b"x" * 100
    before = sys.getrefcount(payload)
    tail = ready(twin)
    tail.restrict(4096, 65_535, 100)
    for _ in range(50):
        assert tail.publish("a", payload)
    assert sys.getrefcount(payload) == before + 50
    assert tail.size == 50 * len(b"PUB a 100\r\n%b\r\n" % payload)
    del tail
    assert sys.getrefcount(payload) == before


def test_a_large_payload_published_while_the_tail_is_taken(twin: Twin) -> None:
    """Room for the pieces is made beforehand, and to make it may run code that publishes one more."""
    tail = ready(twin)
    tail.restrict(4096, 65_535, 4)
    wanted: list[bytes] = []

    def publish(data: bytes) -> None:
        assert tail.publish("a", data)
        wanted.append(b"PUB a %d\r\n%b\r\n" % (len(data), data))

    def finalize(phase: str, _: dict[str, int]) -> None:
        if phase == "start" and len(wanted) < 500:
            publish(b"%04d" % len(wanted))

    threshold = gc.get_threshold()
    gc.callbacks.append(finalize)
    gc.set_threshold(1)
    try:
        taken: list[bytes] = []
        for number in range(20):
            publish(b"x" * (number % 8))
            taken += tail.take()[0]
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(finalize)
    # The collector may run between a publish and the line that notes it, too: which of the two came first is not known.
    written = b"".join([*taken, *tail.take()[0]])
    assert sorted(re.findall(rb"PUB a \d+\r\n[x0-9]*\r\n", written)) == sorted(wanted)
    assert len(written) == len(b"".join(wanted))


def test_the_limit_is_one_of_what_is_copied_and_a_wider_one_of_all(twin: Twin) -> None:
    """Large payloads take no memory of the tail."""
    tail = ready(twin)
    tail.restrict(4096, 65_535, 1000)
    tail.limit = 5000
    small, large = b"PUB a 800\r\n\r\n", b"PUB a 1000\r\n\r\n"

    def fill(data: bytes) -> int:
        count = 0
        while tail.publish("a", data):
            count += 1
        return count

    assert fill(b"x" * 800) == -(-5000 // (800 + len(small)))
    tail.take()
    number = -(-5000 * APART_ROOM // (1000 + len(large)))
    assert fill(b"x" * 1000) == number
    assert not tail.publish("a", b"")
    tail.take()
    assert tail.publish_many("a", (b"x" * 1000,) * 100, 0) == number
    assert tail.publish_many("a", (b"x" * 1000,) * 100, number) == number
    assert sum(tail.take()[1]) == number * (1000 + len(large))
    # Together: the small ones fill what is to be copied, and so nothing large follows.
    assert tail.publish_many("a", (b"x" * 1000,) * 3, 0) == 3
    assert tail.size == 3 * (1000 + len(large))
    assert fill(b"x" * 800) == -(-(5000 - 3 * len(large)) // (800 + len(small)))
    assert not tail.publish("a", b"x" * 1000)
    tail.take()
    tail.limit = 0
    assert fill(b"") == fill(b"x" * 1000) == 0


def test_what_was_taken_does_not_change(twin: Twin) -> None:
    """What is published next must not get there."""
    tail = ready(twin)
    taken: list[tuple[bytes, bytes]] = []
    for number in range(40):
        wanted: list[bytes] = []
        data = bytes([48 + number]) * (number * 700 % 3000 + 1)
        # To the limit, and to less.
        for count in range(400):
            if not (tail.publish("a", data) and count < number * 12):
                break
            wanted.append(b"PUB a %d\r\n%b\r\n" % (len(data), data))
        if tail.size >= tail.limit:
            tail.append(b"")
        else:
            wanted.append(b"PUB a %d\r\n%b\r\n" % (len(data), data))
        [content], lengths = tail.take()
        assert tail.size == 0
        assert sum(lengths) == len(content)
        taken.append((content, b"".join(wanted)))
        assert tail.take()[0] == [b""]
    assert {len(content) > 65_536 for content, _ in taken} == {True, False}
    for content, expected in taken:
        assert type(content) is bytes
        assert content == expected
        assert hash(content) == hash(expected)


@WITH_MODULE
@pytest.mark.parametrize("size", [10, 1000, 2000, 20_000, 60_000])
def test_what_was_taken_has_little_memory_that_it_does_not_need(size: int) -> None:
    assert compiled_module is not None
    tail: Any = compiled_module.Tail({})
    tail.restrict(4096, 65_535)
    tail.limit = 96 * 1024
    data = b"x" * size
    while tail.publish("a", data):
        pass
    tail.take()  # what it keeps of the lengths it has from now on
    tracemalloc.start()
    try:
        while tail.publish("a", data):
            pass
        [content], lengths = tail.take()
        del lengths
        for _ in range(20):
            tail.publish("a", b"")
            tail.take()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after < len(content) + max(size, 2048) + 1024


@WITH_MODULE
def test_without_memory_nothing_changes() -> None:
    """Whichever of its requests for memory is refused: the operation is not taken, or all is taken, whole."""
    testing = pytest.importorskip("_testcapi")
    assert compiled_module is not None
    tail: Any = compiled_module.Tail({})
    refused = 0
    for allowed, apart_from in product(range(1, 16), (2**20, 9000)):
        tail.restrict(4096, 65_535, apart_from)
        tail.limit = 96 * 1024
        inside: list[bytes] = []
        for size in (5, 500, 9000, 40_000, 60_000):
            data = b"x" * size
            taken = False
            try:
                testing.set_nomemory(allowed, allowed + 1)
                taken = tail.publish("a", data)
            except MemoryError:
                refused += 1
            finally:
                testing.remove_mem_hooks()
            if taken:
                inside.append(b"PUB a %d\r\n%b\r\n" % (size, data))
            assert tail.size == sum(map(len, inside))
        pieces = lengths = None
        try:
            testing.set_nomemory(allowed, allowed + 1)
            pieces, lengths = tail.take()
        except MemoryError:
            refused += 1
        finally:
            testing.remove_mem_hooks()
        if pieces is None or lengths is None:
            if tail.size == 0:
                continue  # the error came when all was taken: what was taken is lost with it
            pieces, lengths = tail.take()
        assert b"".join(pieces) == b"".join(inside)
        assert list(lengths) == list(map(len, inside))
    assert refused


@WITH_MODULE
def test_misuse_of_the_compiled_one() -> None:
    assert compiled_module is not None
    tail: Any = compiled_module.Tail({})
    nothing: Any = None
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(tail)
    with pytest.raises(TypeError):
        type("Subclass", (compiled_module.Tail,), {})
    for name in ("size", "given", "msgs", "payload_bytes"):
        with pytest.raises(AttributeError):
            setattr(tail, name, 1)
    for value in ("1", None, 1.5):
        with pytest.raises(TypeError):
            tail.limit = value
    for call in (
        lambda: tail.append(None),
        lambda: tail.append(bytearray(b"x")),
        lambda: tail.publish_many("a", [b"x"], 0),
        lambda: tail.publish_many("a", None, 0),
        lambda: tail.restrict("1", 1),
        lambda: tail.restrict(1, 1, "1"),
        lambda: tail.sent("1"),
        lambda: compiled_module.Tail({}, nothing),
    ):
        with pytest.raises(TypeError):
            call()
    tail.restrict(2**90, 2**90)
    tail.limit = 2**90
    for start in (-1, -(2**62), 1, 2, 2**62):
        assert tail.publish_many("a", (b"x",), start) == start
    with pytest.raises(OverflowError):
        tail.publish_many("a", (b"x",), 2**70)
    assert tail.take()[0] == [b""]
    tail.restrict(-(2**90), -(2**90))
    assert not tail.publish("a", b"")


@pytest.mark.parametrize("apart_from", [600, 601])
def test_nothing_is_kept(twin: Twin, apart_from: int) -> None:
    subject, payload, reply = "orders.new", b"x" * 600, "reply.to"
    payloads = (payload, payload, bytearray(payload))
    watched = (subject, payload, reply, payloads)
    tail = ready(twin)
    tail.restrict(4096, 65_535, apart_from)

    def round_of_everything() -> None:
        for _ in range(30):
            tail.publish(subject, payload)
            tail.publish(subject, payload, reply)
            tail.publish(subject, payload, "a b")
            tail.publish(subject, bytearray(payload))
            tail.publish(subject, payload, reply, {})
            tail.publish_many(subject, payloads, 0)
            tail.append(payload)
        tail.take()

    round_of_everything()
    before = [sys.getrefcount(value) for value in watched]
    assert least_growth(lambda: [round_of_everything() for _ in range(50)]) < 100
    assert [sys.getrefcount(value) for value in watched] == before


def test_a_finalizer_may_publish_while_the_tail_is_taken(twin: Twin) -> None:
    """On Python 3.11 whatever makes a container may collect garbage first, and so run user code."""
    tail = ready(twin)
    published: list[bytes] = []

    def finalize(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            data = b"%04d" % len(published)
            assert tail.publish("a", data)
            published.append(b"PUB a 4\r\n%b\r\n" % data)

    threshold = gc.get_threshold()
    gc.callbacks.append(finalize)
    gc.set_threshold(1)
    try:
        contents: list[bytes] = []
        for many in (3, 3, 40, 40):  # few lengths are a tuple, more of them an array
            for _ in range(many):
                tail.append(b"x")
            [content], lengths = tail.take()
            assert sum(lengths) == len(content)
            contents.append(content)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(finalize)
    everything = b"".join([*contents, *tail.take()[0]])
    assert everything.replace(b"x", b"") == b"".join(published)


@WITH_MODULE
def test_threads_take_turns_at_the_compiled_one() -> None:
    """One lock or the interpreter's: no operation is torn or lost."""
    assert compiled_module is not None
    tail: Any = compiled_module.Tail({})
    tail.restrict(4096, 65_535)
    tail.limit = 2**28
    taken: list[bytes] = []
    lock = threading.Lock()

    def work() -> None:
        for number in range(2000):
            assert tail.publish("a", b"%04d" % number)
            if number % 50 == 0:
                [content], lengths = tail.take()
                assert sum(lengths) == len(content)
                with lock:
                    taken.append(content)

    assert in_threads(4, work) == []
    everything = b"".join([*taken, *tail.take()[0]]).split(b"PUB a 4\r\n")[1:]
    assert sorted(everything) == sorted(b"%04d\r\n" % number for number in range(2000) for _ in range(4))
    assert tail.msgs == 8000


# --- what it gives by itself -----------------------------------------------------------------------------------------


def test_it_gives_all_it_has_and_keeps_it_until_it_was_sent(twin: Twin) -> None:
    tail = ready(twin)
    assert tail.give() == []
    assert tail.kept() == ([], ())
    for number in range(1, 40):  # few lengths are a tuple, more of them an array
        wanted = [b"PUB a %d\r\n%b\r\n" % (size, b"x" * size) for size in range(number)]
        for size in range(number):
            assert tail.publish("a", b"x" * size)
        piece = b"".join(wanted)
        assert tail.give() == [piece]
        assert (tail.given, tail.size) == (len(piece), 0)
        assert tail.publish("a", b"behind")
        assert tail.give() is None, "something is on its way"
        for sent in (0, 1, len(piece) - 2):
            assert tail.sent(sent) == 0
            pieces, lengths = tail.kept()
            assert (pieces, list(lengths)) == ([piece], list(map(len, wanted)))
        assert tail.given == 1
        assert tail.sent(number) == number - 1
        assert (tail.given, tail.kept()) == (0, ([], ()))
        assert tail.sent(7) == 7
        assert tail.give() == [b"PUB a 6\r\nbehind\r\n"]
        assert tail.sent(tail.given) == 0


def test_it_gives_nothing_where_it_is_not_alone(twin: Twin) -> None:
    others: tuple[list[int], deque[int]] = ([], deque())
    tail = twin.tail(HEADS, others)
    tail.restrict(4096, 65_535, 100)
    tail.limit = 65_536
    assert tail.publish("a", b"x")
    for other in others:
        other.append(1)
        assert tail.give() is None
        other.clear()
    assert tail.publish("a", b"y" * 100)
    assert tail.give() is None, "a large payload is a piece of its own"
    assert (tail.given, tail.size) == (0, sum(tail.take()[1]))
    assert tail.publish("a", b"z")
    assert tail.give() == [b"PUB a 1\r\nz\r\n"]


def test_what_is_given_is_apart_from_what_is_taken(twin: Twin) -> None:
    tail = ready(twin)
    assert tail.publish("a", b"1")
    assert tail.give() == [b"PUB a 1\r\n1\r\n"]
    assert tail.publish("a", b"22")
    [content], lengths = tail.take()
    assert (content, list(lengths)) == (b"PUB a 2\r\n22\r\n", [13])
    assert tail.kept()[0] == [b"PUB a 1\r\n1\r\n"]
    assert tail.take()[0] == [b""]
    assert tail.sent(12) == 0
    assert tail.given == 0


def test_a_finalizer_may_publish_while_the_tail_gives(twin: Twin) -> None:
    tail = ready(twin)
    published: list[bytes] = []

    def finalize(phase: str, _: dict[str, int]) -> None:
        if phase == "start" and len(published) < 500:
            data = b"%04d" % len(published)
            assert tail.publish("a", data)
            published.append(b"PUB a 4\r\n%b\r\n" % data)

    threshold = gc.get_threshold()
    gc.callbacks.append(finalize)
    gc.set_threshold(1)
    given: list[bytes] = []
    try:
        for _ in range(200):
            given += [*tail.give(), *map(bytes, ([], []))]
            tail.sent(tail.given)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(finalize)
    assert b"".join([*given, *tail.take()[0]]) == b"".join(published)
    assert published


def test_giving_keeps_nothing_that_was_sent(twin: Twin) -> None:
    tail = ready(twin)

    def rounds() -> None:
        for number in range(20, 50):  # shorter tuples of lengths the interpreter keeps for later
            for _ in range(number):
                tail.publish("a", b"x" * 100)
            tail.give()
            tail.kept()
            tail.sent(tail.given // 2)
            tail.sent(tail.given)

    rounds()
    assert least_growth(lambda: [rounds() for _ in range(50)]) < 100


@WITH_MODULE
def test_without_memory_it_gives_nothing_or_all() -> None:
    testing = pytest.importorskip("_testcapi")
    assert compiled_module is not None
    refused = 0
    for allowed, many in product(range(1, 8), (1, 40)):
        tail: Any = compiled_module.Tail({})
        tail.restrict(4096, 65_535)
        tail.limit = 96 * 1024
        for _ in range(many):
            assert tail.publish("a", b"x" * 1000)
        wanted = b"PUB a 1000\r\n%b\r\n" % (b"x" * 1000) * many
        for call in (tail.give, tail.kept):
            try:
                testing.set_nomemory(allowed, allowed + 1)
                call()
            except MemoryError:
                refused += 1
            finally:
                testing.remove_mem_hooks()
        assert tail.given + tail.size == len(wanted)
        assert [*tail.kept()[0], *tail.take()[0]] in ([wanted, b""], [wanted])
    assert refused


# --- through the session ---------------------------------------------------------------------------------------------


def test_a_session_says_when_it_may_be_used() -> None:
    """Only while connected with room: everywhere else a publish has to be looked at."""
    world = World()
    quickly = world.session.publish_quickly
    assert not quickly("a", b"x")
    world.up()
    world.session.publish("a", b"first")  # the Python twin takes subjects that were checked
    assert quickly("a", b"x")
    world.pump()
    world.room = 0
    while quickly("a", b"y" * 100):
        pass
    assert world.session.writable  # a chunk is full, and looked at
    while world.session.writable:
        world.session.publish("a", b"y" * 100)
    assert not quickly("a", b"x")
    world.room = None
    world.pump()
    assert quickly("a", b"x")
    world.eof()
    assert not quickly("a", b"x")
    world.session.publish("a", b"waits for the next connection")
    world.up()
    assert quickly("a", b"x")
    world.session.drain(now=world.now)
    assert not quickly("a", b"x")


def test_what_is_taken_so_is_counted() -> None:
    world = World().ready()
    for _ in range(3):
        world.session.publish("a", b"12345")
    assert (world.session.stats.out_msgs, world.session.stats.out_bytes) == (3, 15)
    many = PublishMany("a", [b"1", bytearray(b"22"), b"333"])
    while many.fetch():
        many.step(world.session)
    assert many.taken == 3
    assert (world.session.stats.out_msgs, world.session.stats.out_bytes) == (6, 21)
    assert world.session.pending_bytes == len(b"PUB a 5\r\n12345\r\n") * 3 + len(b"PUB a 1\r\n\r\n") * 3 + 6


def test_a_limit_that_shrinks_is_the_tails_too() -> None:
    world = World().ready()
    world.session.publish("a", b"x" * 100)
    assert world.session.publish_quickly("a", b"x" * 100)
    world.feed(info(max_payload=10))
    assert not world.session.publish_quickly("a", b"x" * 11)
    with pytest.raises(MaxPayloadError):
        world.session.publish("a", b"x" * 11)
    assert world.session.publish_quickly("a", b"x" * 10)


def test_a_chunk_of_the_tail_gives_its_operations_back(twin: Twin) -> None:
    """At a cut they are looked at one by one."""
    tail = ready(twin)
    tail.restrict(4096, 65_535, 4)
    for data in (b"1", b"2222", b"3333", b"4"):
        assert tail.publish("a", data)
    large = [(b"PUB a 4\r\n", data, b"\r\n") for data in (b"2222", b"3333")]
    assert _Chunk(None, *tail.take()).operations == [b"PUB a 1\r\n1\r\n", *large, b"PUB a 1\r\n4\r\n"]
