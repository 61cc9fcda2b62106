"""Watching a bucket: one end of the initial values, behind all of them, whatever becomes of the consumer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nats_proto import Ask, Message, PublishRefused, Subscribe
from nats_proto._jetstream.consumer_config import ConsumerConfig
from nats_proto._jetstream.consumer_info import ConsumerInfo, SequenceInfo
from nats_proto._jetstream.errors import ConsumerNotFoundError, StreamNotFoundError
from nats_proto._json.durations import Timestamp
from nats_proto._keyvalue.entry import KeyValueEntry
from nats_proto._keyvalue.errors import BucketNotFoundError, InvalidKeyError
from nats_proto._keyvalue.initial import Initial
from nats_proto._keyvalue.watch import InitialValuesDone, Watch, WatchOptions
from nats_proto.errors import NATSTimeoutError, PermissionsError
from tests.proto.keyvalue import Stream

STORED = 1_700_000_000_000_000_000
DELETED = b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"


class World:
    """A bucket that keeps one entry of each key, and the server's side of what reads it."""

    def __init__(self, keys: str = "", **options: Any) -> None:
        self.now = 1000.0
        self.entries: dict[str, tuple[int, bytes | None]] = {}
        self.sequence = 0
        self.times: dict[int, int] = {}
        self.uncounted: set[int] = set()
        """Messages that the server has stored, and that its consumer has not counted yet."""
        for key in keys:
            self.write(key)
        self.consumer = ""
        self.config: dict[str, Any] = {}
        self.delivered = 0
        """The stream's sequence that the consumer has come to."""
        self.number = 0
        self.silent = False
        self.reads = True
        """The user takes out what the watch gives."""
        self.made = 0
        self.seen: list[KeyValueEntry[bytes] | InitialValuesDone] = []
        self.bucket = Stream().bucket
        self.watch: Watch[Message, bytes] = Watch(self.bucket, WatchOptions(**options), now=self.now)
        self.updates_only = self.watch.live

    def write(self, key: str, block: bytes | None = None, *, counted: bool = True) -> int:
        """Servers count the message that goes at once, and the one that comes a little later: ``counted``."""
        self.sequence += 1
        self.entries[key] = self.sequence, block
        self.times[self.sequence] = self.time
        if not counted:
            self.uncounted.add(self.sequence)
        return self.sequence

    @property
    def time(self) -> int:
        """By the clock of the server (nanoseconds)."""
        return STORED + int(self.now * 1_000_000_000)

    @property
    def pending(self) -> int:
        """As the consumer has counted it."""
        return sum(number not in self.uncounted for number, _, _ in self.behind())

    def do(self) -> None:
        """What the watch wants, and what it gives."""
        wants = self.watch.wants
        while wants:
            want = wants.popleft()
            if isinstance(want, Subscribe):
                wants_left = [one for one in wants if isinstance(one, Ask)]
                assert len(wants_left) <= 2
            elif isinstance(want, Ask):
                self.answer(want)
        while self.reads and self.watch.items:
            item = self.watch.taken(self.watch.items.popleft())
            if item is not None:
                self.seen.append(item)

    def answer(self, ask: Ask) -> None:
        answer: object = NATSTimeoutError("silence")
        call, tokens = ask.api.subject.removeprefix("$JS.API.CONSUMER."), ask.api.subject.split(".")
        if call.startswith("DELETE"):
            answer = None
            if tokens[5] == self.consumer:
                self.consumer = ""
        elif call.startswith("CREATE"):
            if not self.silent:
                answer = self.create(tokens[5], ask.api.payload)
        elif not self.silent:
            gone = ConsumerNotFoundError("gone", code=404, err_code=10014)
            answer = self.info() if tokens[5] == self.consumer else gone
        self.watch.answered(ask.api, answer, now=self.now)

    def create(self, name: str, payload: bytes) -> ConsumerInfo:
        config = self.config = msgspec.json.decode(payload)["config"]
        self.made += 1
        self.consumer = name
        self.number = 0
        self.uncounted.clear()
        self.delivered = config.get("opt_start_seq", 1) - 1
        if config["deliver_policy"] == "new":
            self.delivered = self.sequence
        return self.info()

    def behind(self) -> list[tuple[int, str, bytes | None]]:
        return sorted((number, key, block) for key, (number, block) in self.entries.items() if number > self.delivered)

    def info(self) -> ConsumerInfo:
        return ConsumerInfo(
            stream_name="KV_B",
            name=self.consumer,
            config=ConsumerConfig(),
            ts=Timestamp.from_nanoseconds(self.time),
            num_pending=self.pending,
            delivered=SequenceInfo(consumer_seq=self.number, stream_seq=self.delivered),
        )

    def deliver(self, *, lost: bool = False) -> bool:
        """The next message of the consumer; ``lost``: on the way."""
        if not self.consumer or not self.behind():
            return False
        number, key, block = self.behind()[0]
        self.delivered = number
        self.number += 1
        left = self.pending
        if not lost:
            reply = f"$JS.ACK.KV_B.{self.consumer}.1.{number}.{self.number}.{self.times[number]}.{left}"
            self.watch.receive(Message(f"$KV.B.{key}", 1, reply, b"%d" % number, block), now=self.now)
            self.do()
        return True

    def wait(self, seconds: float) -> None:
        """Time passes, with a sign of life of the consumer each second."""
        for _ in range(max(int(seconds), 1)):
            self.now += 1.0
            self.uncounted.clear()
            if self.consumer:
                self.watch.receive(Message("in", 1, None, b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"), now=self.now)
            self.watch.handle_timeout(now=self.now)
            self.do()

    def drain(self) -> None:
        """Until nothing is left, and the watch has had time to see it."""
        for _ in range(150):
            self.do()
            while self.deliver():
                pass
            if self.consumer and not self.behind() and (self.ends or self.updates_only):
                break
            self.wait(1)

    @property
    def ends(self) -> list[int]:
        return [place for place, item in enumerate(self.seen) if isinstance(item, InitialValuesDone)]

    @property
    def found(self) -> list[tuple[str, int]]:
        return [(item.key, item.revision) for item in self.seen if isinstance(item, KeyValueEntry)]


def test_who_is_not_permitted_to_ask_is_told_at_once() -> None:
    world = World("abc")
    world.do()
    world.watch.publish_refused(PublishRefused("next", PermissionsError("no", subject="next")), now=world.now)
    assert isinstance(world.watch.error, PermissionsError)
    assert world.watch.done


def test_r56_the_end_is_behind_all_that_was_there() -> None:
    world = World("abc")
    world.do()
    assert world.seen == []
    world.drain()
    assert world.found == [("a", 1), ("b", 2), ("c", 3)]
    assert world.ends == [3]
    assert world.seen[3] == InitialValuesDone(3)
    assert world.watch.live
    world.write("a")
    world.deliver()
    assert world.found[-1] == ("a", 4)
    assert world.ends == [3]
    assert world.watch.revision() == 4
    entry = world.seen[0]
    assert isinstance(entry, KeyValueEntry)
    assert (entry.delta, entry.value, entry.operation) == (2, b"1", "put")


def test_r56_an_empty_bucket_ends_at_once() -> None:
    world = World()
    world.do()
    assert world.seen == [InitialValuesDone(0)]


def test_r56_what_is_not_given_counts() -> None:
    world = World(ignore_deletes=True)
    world.write("a", DELETED)
    world.write("b", DELETED)
    world.drain()
    assert world.seen == [InitialValuesDone(0)]


def test_r56_a_wrong_number_is_corrected_by_the_messages() -> None:
    """The consumer has told more than it has; the last message says that nothing is behind it."""
    world = World("ab")
    info = world.info
    world.info = lambda: replace(info(), num_pending=9)  # type: ignore[method-assign]
    world.do()
    while world.deliver():
        pass
    world.wait(2)
    assert world.ends == []
    world.wait(2)
    assert world.ends == [2]


def test_r56_a_number_that_was_too_low() -> None:
    """The consumer has told less than it has: the messages tell that more are behind them."""
    world = World("abc")
    info = world.info
    world.info = lambda: replace(info(), num_pending=2)  # type: ignore[method-assign]
    world.drain()
    assert world.ends == [3]


def test_r56_nothing_behind_is_told_too_early() -> None:
    """A key that is written again: the server has not counted the new message when it delivers the last of the others.

    That message told that nothing is behind it, while key "a" had not come yet.
    """
    world = World("abc")
    world.do()
    world.write("a", counted=False)
    world.deliver()
    world.deliver()
    assert world.found == [("b", 2), ("c", 3)]
    assert world.ends == []
    world.deliver()
    assert world.found[-1] == ("a", 4)
    assert world.ends == [3]


def test_r56_a_new_key_does_not_count_for_one_that_is_to_come() -> None:
    world = World("abc")
    world.do()
    world.deliver()  # "a"
    world.write("n")
    world.write("b")
    world.deliver()
    world.deliver()
    assert world.found == [("a", 1), ("c", 3), ("n", 4)]
    assert world.ends == []
    world.deliver()
    assert world.ends == [4]


def test_r56_all_have_come_and_others_write_for_ever() -> None:
    """No message is the last. What was written well after the beginning tells that all of the beginning have come."""
    world = World("ab")
    world.do()
    world.deliver()
    world.write("n1")
    world.deliver()
    world.write("n2")
    world.deliver()
    assert len(world.found) == 3
    assert world.ends == []
    world.now += 1.5
    for key in ("n3", "n4", "n5"):
        world.write(key)
    while not world.ends:
        assert world.deliver()
    assert world.found[-1] == ("n3", 5)


def test_r56_values_that_went_while_others_write_for_ever() -> None:
    """What is missing does not come any more: at the end of the stream a second is enough to see it."""
    world = World("abc")
    world.do()
    del world.entries["b"]
    steps = 0
    while not world.ends:
        steps += 1
        world.now += 0.06
        world.write("a")
        while world.deliver():
            pass
    assert 17 <= steps <= 18


def test_r56_values_that_went_and_a_reader_that_is_slower_than_the_writers() -> None:
    world = World("abc")
    world.do()
    del world.entries["b"]
    given = 0
    while not world.ends:
        world.now += 1.0
        world.write("a")
        world.write("c")
        assert world.deliver()  # there is always one behind it
        given += 1
    assert given == 11


def test_r56_values_that_go_before_they_come() -> None:
    """No message says that it was the last: the consumer is asked."""
    world = World("abc")
    world.do()
    world.deliver()
    del world.entries["b"], world.entries["c"]
    world.do()
    assert world.ends == []
    assert world.watch.next_timeout() == 1001.0
    world.wait(2)
    assert world.ends == [1]
    assert world.watch.next_timeout() != world.now + 1.0  # and not again


def test_r57_a_rebuild_before_the_end() -> None:
    world = World("abcd")
    world.do()
    world.deliver()
    world.deliver(lost=True)
    world.deliver()  # a gap: the consumer is given up
    assert world.ends == []
    world.write("a")
    world.drain()
    assert world.made == 2
    assert world.found == [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("a", 5)]
    assert world.ends == [5]


def test_r57_a_rebuild_while_a_key_is_missing() -> None:
    """What the first consumer had before it is what has to come, however many there are."""
    world = World("abc")
    world.do()
    world.write("a", counted=False)
    world.deliver()
    world.deliver()
    assert world.ends == []
    world.consumer = ""
    world.watch.receive(Message("in", 1, None, b"", b"NATS/1.0 409 Consumer Deleted\r\n\r\n"), now=world.now)
    for key in "bn":
        world.write(key)
    world.drain()
    assert world.made == 2
    assert world.found == [("b", 2), ("c", 3), ("a", 4), ("b", 5), ("n", 6)]
    assert world.ends == [5]


def test_r57_a_rebuild_after_the_end() -> None:
    world = World("ab")
    world.drain()
    world.consumer = ""
    world.write("c")
    world.watch.receive(Message("in", 1, None, b"", b"NATS/1.0 409 Consumer Deleted\r\n\r\n"), now=world.now)
    for _ in range(40):
        world.do()
        world.wait(1)
        world.deliver()
    assert world.found == [("a", 1), ("b", 2), ("c", 3)]
    assert world.ends == [2]
    assert world.watch.warnings


def test_r57_the_state() -> None:
    """What it is at, and whether what is written from now on will come."""
    world = World("ab")
    assert (world.watch.state, world.watch.ready) == ("beginning", False)
    world.do()
    assert (world.watch.state, world.watch.ready) == ("initial", False)
    world.deliver()
    world.deliver()
    assert (world.watch.state, world.watch.ready) == ("live", True)
    world.silent = True
    world.consumer = ""
    while world.watch.state == "live":
        world.wait(1)
        assert world.now < 1100.0
    assert (world.watch.state, world.watch.ready) == ("rebuilding", True)
    world.silent = False
    while world.watch.state == "rebuilding":
        world.wait(1)
        assert world.now < 1200.0
    assert world.watch.state == "live"
    ended = World("a", until_initial=True)
    ended.do()
    ended.deliver()
    assert ended.watch.state == "ended"


def test_r57_a_rebuild_before_the_first_entry() -> None:
    """The bucket was empty: the next consumer begins where the first one did, not with what is last by then."""
    world = World()
    world.do()
    assert world.ends == [0]
    world.consumer = ""
    for key in "aba":
        world.write(key)
    while not world.consumer:
        world.wait(1)
        assert world.now < 1100.0
    assert (world.config["deliver_policy"], world.config["opt_start_seq"]) == ("by_start_sequence", 1)
    world.drain()
    assert world.ends == [0]
    filled = World("a")
    filled.do()
    filled.consumer = ""
    while not filled.consumer:
        filled.wait(1)
        assert filled.now < 1100.0
    assert filled.config["deliver_policy"] == "last_per_subject"


def test_updates_only_have_no_end() -> None:
    world = World("ab", updates_only=True)
    assert (world.watch.state, world.watch.ready) == ("beginning", False)
    world.do()
    assert (world.watch.state, world.watch.ready) == ("live", True)
    world.drain()
    world.write("c")
    world.deliver()
    assert world.found == [("c", 3)]
    assert world.ends == []


def test_a_watch_that_resumes() -> None:
    world = World("abc", resume_from_revision=2)
    world.drain()
    assert world.found == [("b", 2), ("c", 3)]
    assert world.ends == [2]


def test_until_initial_and_distinct() -> None:
    world = World("ab", until_initial=True, distinct=True)
    world.do()
    world.deliver()
    world.write("a")
    world.deliver()
    assert not world.watch.done  # "b" told that something is behind it
    world.deliver()
    assert world.watch.done
    assert world.found == [("a", 1), ("b", 2)]
    assert world.watch.error is None
    assert world.watch.next_timeout() is None
    assert len(world.watch.leave()) == 1
    empty = World(until_initial=True)
    empty.do()
    assert empty.watch.done
    assert empty.seen == []


@pytest.mark.parametrize("coalesce", [False, True])
def test_a_later_watch_may_resume_behind_what_was_given(coalesce: bool) -> None:
    """What waits unread is not given; with ``coalesce`` neither is what a newer entry has taken the place of."""
    world = World("ab", coalesce=coalesce)
    world.drain()
    assert world.watch.revision() == 2
    world.reads = False
    for key in "aba":
        world.write(key)
        world.deliver()
    assert world.watch.revision() == 2
    held = [world.watch.items.popleft()]  # taken out, and not given
    assert world.watch.revision(held) == 2
    assert world.watch.revision() == 3
    world.reads = True
    world.do()
    assert world.watch.revision() == 5


def test_the_end_of_the_initial_values_is_no_revision() -> None:
    world = World("a")
    world.reads = False
    world.do()
    world.deliver()
    assert world.watch.revision() == 0
    assert world.watch.revision([InitialValuesDone(0)]) == 0
    world.watch.items.popleft()
    assert world.watch.revision() == 1


def test_r59_coalesced_entries() -> None:
    world = World("ab", coalesce=True)
    world.do()
    do, taken = world.do, world.watch.items
    world.do = lambda: None  # type: ignore[method-assign]  # a reader that is slow
    for _ in range(100):
        world.deliver()
        world.write("a")
        world.write("b")
    while world.deliver():
        pass
    assert len(taken) == 3  # two keys, and the end
    assert world.watch.skipped == 100
    do()
    assert world.found == [("a", 201), ("b", 202)]
    assert len(world.ends) == 1
    world.write("a")
    world.deliver()
    do()
    assert world.found[-1] == ("a", 203)


def test_a_bucket_that_is_gone() -> None:
    world = World("ab")
    ask = next(want for want in world.watch.wants if isinstance(want, Ask))
    world.watch.answered(ask.api, StreamNotFoundError("no stream", code=404, err_code=10059), now=1006.0)
    assert world.watch.done
    assert isinstance(world.watch.error, BucketNotFoundError)
    assert "watch bucket 'B'" in str(world.watch.error)


@pytest.mark.parametrize(
    "options",
    [
        {"include_history": True, "updates_only": True},
        {"resume_from_revision": 1, "updates_only": True},
        {"resume_from_revision": 1, "include_history": True},
        {"resume_from_revision": 0},
        {"patterns": tuple(f"k{number}" for number in range(257))},
        {"patterns": ("a b",)},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, InvalidKeyError)):
        World(**options)


def test_several_patterns_are_several_filters() -> None:
    world = World(patterns=("a.*", "b.>", "a.*"), meta_only=True)
    ask = next(want for want in world.watch.wants if isinstance(want, Ask))
    assert b'"filter_subjects":["$KV.B.a.*","$KV.B.b.>"]' in ask.api.payload
    assert b'"headers_only":true' in ask.api.payload
    assert b"last_per_subject" in ask.api.payload


def test_no_pattern_is_all_keys() -> None:
    ask = next(want for want in World(patterns=()).watch.wants if isinstance(want, Ask))
    assert b'"filter_subject":"$KV.B.>"' in ask.api.payload


@pytest.mark.parametrize("reply", [None, "x", "$JS.ACK.KV_B.C.1.1.1.1.1", "$JS.ACK.KV_B.{}.1.1.1.x.y"])
def test_messages_that_no_consumer_sends(reply: str | None) -> None:
    world = World("ab")
    world.do()
    made = None if reply is None else reply.format(world.consumer)
    world.watch.receive(Message("$KV.B.a", 1, made, b"", None), now=world.now)
    world.do()
    assert world.found == []


ACTIONS = st.sampled_from(
    ["deliver", "deliver", "deliver", "lose", "write", "write uncounted", "write new", "delete", "expire", "reconnect",
     "wait", "wait long", "vanish", "silent"]
)  # fmt: skip


@given(st.text("abcdef", max_size=6), st.lists(ACTIONS, max_size=40), st.booleans())
def test_r56_r57_one_end_and_nothing_lost(keys: str, actions: list[str], coalesce: bool) -> None:
    """Any order of messages, writes, expiries, losses and rebuilds."""
    world = World(keys, coalesce=coalesce)
    world.do()
    there = dict(world.entries)
    new = iter("uvwxyz" * 10)
    for action in actions:
        match action:
            case "deliver":
                world.deliver()
            case "lose":
                world.deliver(lost=True)
            case "write" if world.entries:
                world.write(min(world.entries))
            case "write uncounted" if world.entries:
                world.write(min(world.entries), counted=False)
            case "write new":
                world.write(next(new))
            case "delete" if world.entries:
                world.write(max(world.entries), DELETED)
            case "expire" if world.entries:
                del world.entries[min(world.entries)]
            case "reconnect":
                world.watch.connection_replaced(now=world.now)
            case "wait":
                world.wait(2)
            case "wait long":
                world.wait(35)
            case "vanish":
                world.consumer = ""
            case "silent":
                world.silent = not world.silent
            case _:
                pass
        world.do()
    world.silent = False
    world.watch.connection_replaced(now=world.now)
    # A consumer that has vanished is missed: nobody answers for it.
    if not world.consumer:
        for _ in range(80):
            world.now += 1.0
            world.watch.handle_timeout(now=world.now)
            world.do()
    world.drain()
    world.wait(3)
    (end,) = world.ends
    before = [item for item in world.seen[:end] if isinstance(item, KeyValueEntry)]
    for key, (number, _) in there.items():
        if key in world.entries and not {"expire", "wait long", "silent"} & {*actions}:
            assert any(item.key == key for item in before)
        if world.entries.get(key, (0, None))[0] == number:
            assert any(item.key == key and item.revision == number for item in before)
    revisions = [revision for _, revision in world.found]
    assert revisions == sorted(set(revisions))
    last = dict(world.found)
    assert {key: number for key, (number, _) in world.entries.items()}.items() <= last.items()


def test_r56_what_the_consumer_tells_when_it_is_asked() -> None:
    """It does not count while a message that it has sent is still on its way; and another consumer begins anew."""
    info = World("ab").info()
    initial = Initial(one_each=True)
    assert not initial.over(0.0)
    initial.begin(replace(info, num_pending=2, ts=None), 0.0)
    assert initial.came("a", 0, STORED, 0.0)
    assert initial.pause < 1.0
    initial.asked(replace(info, num_pending=0, delivered=SequenceInfo(consumer_seq=2, stream_seq=2)))
    assert not initial.over(0.9)
    assert initial.over(1.0)
    initial.begin_again()
    assert initial.came("a", 0, STORED, 5.0)
    assert not initial.over(5.9)
    initial.asked(replace(info, num_pending=0, delivered=SequenceInfo(consumer_seq=1, stream_seq=1)))
    assert initial.over(5.9)
    initial.begin_again()
    initial.begin(replace(info, num_pending=0), 6.0)
    assert initial.over(6.0)
