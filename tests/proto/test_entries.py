"""Entries of a bucket that are taken many at once: both twins, and that a watch gives the same in either way."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from nats_proto import Message
from nats_proto._consuming import ahead as ahead_module
from nats_proto._consuming import ordered as ordered_module
from nats_proto._jetstream.consumer_config import ConsumerConfig
from nats_proto._jetstream.consumer_info import ConsumerInfo
from nats_proto._jetstream.stored_message import stored_message_direct
from nats_proto._json.durations import Timestamp, parse_time
from nats_proto._keyvalue import reading as reading_module
from nats_proto._keyvalue import watch as watch_module
from nats_proto._keyvalue.codecs import BYTES
from nats_proto._keyvalue.entry import TELLING, KeyValueEntry
from nats_proto._keyvalue.initial import Initial
from nats_proto._keyvalue.watch import InitialValuesDone, Watch
from nats_proto._objectstore.metas import Metas
from nats_proto._objectstore.names import Subjects
from tests.proto.keyvalue import Stream
from tests.proto.test_keyvalue_direct import OTHER, PLAIN, block
from tests.proto.test_keyvalue_watch import DELETED, STORED, World
from tests.twins import COMPILED, PURE, TWINS, Twin

NOW = 1000.0
OTHER_HEADERS = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 3\r\n\r\n"
MARKER = b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n"


def written(number: int, key: str = "k", *, pending: int = 5, block: bytes | None = None) -> Message:
    """A message of the bucket, with that number at the consumer, and ten more in the stream."""
    reply = f"$JS.ACK.S.C.1.{number + 10}.{number}.{STORED + number}.{pending}"
    return Message(f"$KV.B.{key}", 1, reply, b"v%d" % number, block)


class Taking:
    """An account from which entries may be taken, and what is taken."""

    def __init__(self, twin: Twin, *messages: Message, **numbers: Any) -> None:
        self.account: Any = twin.deliveries()
        self.account.plain, self.account.messages, self.account.prefix = True, 100, "$JS.ACK.S.C."
        for name, value in numbers.items():
            setattr(self.account, name, value)
        self.maker: Any = twin.entry_maker(KeyValueEntry, "B", "$KV.B.", BYTES, TELLING)
        self.arrived = deque(messages)
        self.given: list[Any] = []

    def take(self, **bounds: Any) -> int:
        taken: int = self.account.take_entries(self.maker, self.arrived, self.given.append, NOW, **bounds)
        assert taken == len(self.given)
        return taken

    @property
    def numbers(self) -> tuple[object, ...]:
        one = self.account
        return one.messages, one.left, one.heard, one.newest, one.expected, one.sequence


def test_an_entry_is_all_that_the_message_says(twin: Twin) -> None:
    messages = [written(1, "a.b"), written(2, "c", block=OTHER_HEADERS), written(3, "\u00e4")]
    taking = Taking(twin, *messages, left=50)
    assert taking.take() == 3
    assert not taking.arrived
    first, second, third = taking.given
    assert type(first) is KeyValueEntry
    assert (first.bucket, first.key, first.data, first.value) == ("B", "a.b", b"v1", b"v1")
    assert (first.revision, first.stored, first.delta, first.operation) == (11, STORED + 1, 5, "put")
    assert first.codec is BYTES
    assert first.data is messages[0].data
    assert (second.key, third.key, third.revision) == ("c", "\u00e4", 13)
    assert taking.numbers == (97, 47, NOW, messages[2].reply, 4, 13)


SECOND_FORM = Message("$KV.B.k", 1, f"$JS.ACK.S.C.1.11.1.{STORED}.5.random", b"")


@pytest.mark.parametrize(
    "message",
    [
        SECOND_FORM,
        Message("$KV.B.k", 1, f"$JS.ACK.S.C.1.11.1.{STORED}.5.", b""),
        Message("$KV.B.k", 1, "$JS.ACK.S.C.1.11.1.0.0", b""),
        Message("$KV.B.k", 1, f"$JS.ACK.S.C.1.11.1.{'9' * 19}.{'9' * 18}", b""),
        Message("$KV.B.", 1, "$JS.ACK.S.C.1.11.1.1.1", b""),
        Message("$KV.B.k", 1, "$JS.ACK.S.C.1.11.1.1.1", b"", b"NATS/1.0\r\nkv-operation: DEL\r\n\r\n"),
        Message("$KV.B.k", 1, "$JS.ACK.S.C.1.11.1.1.1", b"", b"\xff"),
    ],
    ids=repr,
)
def test_it_is_the_same_as_the_strict_way_makes(twin: Twin, message: Message) -> None:
    taking = Taking(twin, message)
    assert taking.take() == 1
    _, _, _, stored, pending, *_ = (message.reply or "").removeprefix("$JS.ACK.S.C.").split(".")
    strict = Stream().bucket.entry(message.subject, message.data, message.headers, 11, int(stored), int(pending))
    assert msgspec.structs.asdict(taking.given[0]) == msgspec.structs.asdict(strict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [
        Message("", 1, None, b""),
        Message("", 1, written(1).reply, b""),
        Message("in.1", 1, None, b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"),
        written(1, block=DELETED),
        written(1, block=MARKER),
        Message("$KV.C.k", 1, written(1).reply, b""),
        Message("$KV.B", 1, written(1).reply, b""),
        *(
            Message("$KV.B.k", 1, f"$JS.ACK.S.{reply}", b"")
            for reply in (
                "C.1.11.2.1.5",  # one is missing
                "C.1.11.0.1.5",
                "C.1.10.1.1.5",  # it was given
                "D.1.11.1.1.5",
                "C.1.11.1.1.",
                "C.1.11.1.1",
                "C.1.11.1..5",
                "C.1.11.1",
                "C.1.11.1.1.x",
                "C.1.11.1.x.5",
                "C.1.11.1.-1.5",
                "C.1.11.1.+1.5",
                "C.x.11.1.1.5",
                "C.1.11.1.1.\u0665",
                f"C.1.11.1.{'1' * 20}.5",
                f"C.1.11.1.1.{'1' * 19}",
                f"C.1.{'1' * 19}.1.1.5",
            )
        ),
    ],
    ids=lambda message: f"{message.subject} {message.reply}"[:60],
)
def test_what_is_anything_else_is_left_to_the_machine(twin: Twin, message: Message) -> None:
    taking = Taking(twin, message, written(2), sequence=10)
    before = taking.numbers
    assert taking.take() == 0
    assert taking.numbers == before
    assert list(taking.arrived) == [message, written(2)]
    behind = Taking(twin, written(1), written(2), message, sequence=10)
    assert behind.take() == 2
    assert list(behind.arrived) == [message]


@pytest.mark.parametrize(
    ("numbers", "bounds", "taken"),
    [
        ({}, {}, 3),
        ({"prefix": None}, {}, 0),
        ({"plain": False}, {}, 0),
        ({"look_at": NOW}, {}, 0),
        ({"look_at": NOW + 0.001}, {}, 3),
        ({"low": 99}, {}, 0),
        ({"low": 98}, {}, 1),
        ({"left": 1}, {}, 0),
        ({"left": 2}, {}, 1),
        ({}, {"most": 0}, 0),
        ({}, {"most": -1}, 0),
        ({}, {"most": 2}, 2),
        ({}, {"latest": STORED + 2}, 2),
        ({}, {"latest": STORED}, 0),
        ({}, {"latest": 0}, 0),
        ({}, {"latest": 2**63 - 1}, 3),
    ],
    ids=repr,
)
def test_the_bounds(twin: Twin, numbers: dict[str, Any], bounds: dict[str, Any], taken: int) -> None:
    taking = Taking(twin, written(1), written(2), written(3), **numbers)
    assert taking.take(**bounds) == taken
    assert len(taking.arrived) == 3 - taken


def test_what_may_be_the_end_is_left_and_the_keys_are_kept(twin: Twin) -> None:
    keys: set[str] = {"z"}
    taking = Taking(twin, written(1, "a"), written(2, "b"), written(3, "a"), written(4, "c", pending=0))
    assert taking.take(latest=2**63 - 1, keys=keys) == 3
    assert keys == {"a", "b", "z"}
    assert taking.maker.key == "a"
    taking.given.clear()
    assert taking.take() == 1  # only who waits for the end asks


def test_an_error_takes_what_was_given(twin: Twin) -> None:
    taking = Taking(twin, written(1), written(2), written(3))

    def give(entry: KeyValueEntry[bytes]) -> None:
        taking.given.append(entry)
        if len(taking.given) == 2:
            raise MemoryError

    with pytest.raises(MemoryError):
        taking.account.take_entries(taking.maker, taking.arrived, give, NOW)
    assert list(taking.arrived) == [written(3)]


def test_a_maker_makes_what_it_can(twin: Twin) -> None:
    maker: Any = twin.entry_maker(KeyValueEntry, "B", "$KV.B.", BYTES, TELLING)
    made = maker.make(written(1, "x"), 7, 8, 9)
    assert (made.key, made.revision, made.stored, made.delta, maker.key) == ("x", 7, 8, 9, "x")
    assert maker.make(written(1, block=DELETED), 7, 8, 9) is None
    assert maker.bytes == 2
    maker.make(Message("$KV.B.y", 1, written(1).reply, b"longer"), 7, 8, 9)
    assert maker.bytes == 8


# --- the last entry of a subject


def last_of(twin: Twin, headers: Any, subject: Any = "$KV.B.a.b", data: bytes = b"value") -> dict[str, Any] | None:
    maker: Any = twin.entry_maker(KeyValueEntry, "B", "$KV.B.", BYTES, TELLING)
    entry = maker.last(Message("in", 1, None, data, headers), subject)
    assert (maker.key, maker.bytes) == ("", 0)
    return None if entry is None else msgspec.structs.asdict(entry)


@pytest.mark.parametrize("headers", PLAIN, ids=str)
def test_an_answer_that_is_plainly_a_value(twin: Twin, headers: bytes) -> None:
    data = b"value"
    entry = last_of(twin, headers, data=data)
    assert entry is not None
    strict = stored_message_direct("read", Message("in", 1, None, data, headers))
    assert (entry["bucket"], entry["key"], entry["delta"], entry["operation"]) == ("B", "a.b", 0, "put")
    assert entry["data"] is data
    assert entry["codec"] is BYTES
    assert entry["revision"] == strict.sequence
    assert parse_time(entry["stored"]) == strict.time


@pytest.mark.parametrize("headers", OTHER, ids=lambda headers: str(headers)[:150])
def test_an_answer_that_has_to_be_looked_at(twin: Twin, headers: bytes | None) -> None:
    assert last_of(twin, headers) is None


@pytest.mark.parametrize(
    "subject", ["", "$KV.B.a", "$KV.B.a.b.c", "$KV.B.a.c", "$KV.C.a.b", "$KV.B.\u00e4", "$KV.B.\u20ac.b"]
)
def test_an_answer_about_another_subject(twin: Twin, subject: str) -> None:
    assert last_of(twin, block(), subject) is None
    assert last_of(twin, block(subject=subject), subject) is None or subject in ("$KV.B.a", "$KV.B.a.b.c", "$KV.B.a.c")


PART = st.sampled_from([b"Nats-Stream: ", b"Nats-Subject: ", b"Nats-Sequence: ", b"Nats-Time-Stamp: ", b"\r\n", b"Z"])
TIMES = r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,10})?Z"


@given(
    st.sampled_from(PLAIN),
    st.lists(
        st.tuples(
            st.integers(0, 170),
            st.integers(0, 3),
            st.binary(max_size=2) | st.text("0123456789-:.TZ \r\n", max_size=2).map(str.encode) | PART,
        ),
        max_size=2,
    ),
)
@example(block(), [(10**6, 0, b"x")])
def test_both_read_answers_alike(headers: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """Also such as a server never writes."""
    for place, removed, added in changes:
        headers = headers[:place] + added + headers[place + removed :]
    if COMPILED is None:
        pytest.skip("the compiled module is not built")
    assert last_of(COMPILED, headers) == last_of(PURE, headers)


@given(st.from_regex(TIMES, fullmatch=True))
@example("2024-02-29T00:00:00Z")
def test_both_take_the_same_for_times(time: str) -> None:
    headers = block(time=time)
    if COMPILED is None:
        pytest.skip("the compiled module is not built")
    entry = last_of(COMPILED, headers)
    assert entry == last_of(PURE, headers)
    assert entry is None or parse_time(entry["stored"]) is not None


def test_a_bucket_whose_messages_have_to_be_read_has_none() -> None:
    class Keys:
        def encode(self, key: str) -> str:
            return key

        encode_pattern = decode = encode

    bucket = Stream().bucket
    assert bucket.entry_maker() is not None
    assert bucket.with_keys(Keys()).entry_maker() is None
    assert Metas(bucket.api, Subjects("B")).entry_maker() is None  # type: ignore[func-returns-value]


# --- a watch ---------------------------------------------------------------------------------------------------------


class Arriving(World):
    """What the server sends is there all at once, and is given in one by one, or all together."""

    def __init__(self, keys: str, *, together: bool, **options: Any) -> None:
        super().__init__(keys, **options)
        self.together = together
        self.arrived: deque[Message] = deque()
        receive = self.watch.receive
        self._receive = receive

    def deliver(self, *, lost: bool = False) -> bool:
        if not self.consumer or not self.behind():
            return False
        number, key, block = self.behind()[0]
        self.delivered = number
        self.number += 1
        if not lost:
            reply = f"$JS.ACK.KV_B.{self.consumer}.1.{number}.{self.number}.{self.times[number]}.{self.pending}"
            self.arrived.append(Message(f"$KV.B.{key}", 1, reply, b"%d" % number, block))
        return True

    def do(self) -> None:
        arrived = getattr(self, "arrived", None)
        if arrived and self.together:
            self.watch.receive_all(arrived, lambda: self.watch.connection_replaced(now=self.now), now=self.now)
        while arrived:
            message = arrived.popleft()
            if message.subject:
                self.watch.receive(message, now=self.now)
            else:
                self.watch.connection_replaced(now=self.now)
        super().do()

    @property
    def shown(self) -> tuple[object, ...]:
        watch = self.watch
        seen = [
            item if isinstance(item, InitialValuesDone) else tuple(msgspec.structs.asdict(item).values())
            for item in self.seen
        ]
        one = watch._ordered.account
        return (
            *(seen, watch.state, watch.live, watch.revision(), watch.done, watch.skipped, watch.next_timeout()),
            *(one.messages, one.heard, one.newest, one.expected, one.sequence, self.made),
            [(warning.kind, warning.text) for warning in watch.warnings],
        )


ACTIONS = st.sampled_from(
    ["deliver", "deliver many", "deliver many", "lose", "mark", "write", "write many", "write uncounted", "delete",
     "with headers", "expire", "late", "do", "do", "wait", "vanish"]
)  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {},
    {"include_history": True},
    {"updates_only": True},
    {"ignore_deletes": True},
    {"until_initial": True},
    {"resume_from_revision": 2},
    {"coalesce": True},
    {"distinct": True},
]


def act(world: Arriving, action: str) -> None:
    match action:
        case "deliver":
            world.deliver()
        case "deliver many":
            for _ in range(20):
                world.deliver()
        case "lose":
            world.deliver(lost=True)
        case "mark":
            world.arrived.append(Message("", 1, None, b""))
        case "write":
            world.write("a")
        case "write many":
            for key in "abcdefghijklmn":
                world.write(key)
        case "write uncounted":
            world.write("b", counted=False)
        case "delete":
            world.write("c", DELETED)
        case "with headers":
            world.write("d", OTHER_HEADERS)
        case "expire" if world.entries:
            del world.entries[min(world.entries)]
        case "late":
            world.now += 4.0
        case "do":
            world.do()
        case "wait":
            world.do()
            world.wait(2)
        case "vanish":
            world.consumer = ""
        case _:
            pass


@pytest.mark.parametrize("name", TWINS)
@given(st.text("abcdefghij", max_size=10), st.lists(ACTIONS, max_size=30), st.sampled_from(OPTIONS))
@example("abcdefgh", ["late", "deliver", "do"], {})
@example("ab", ["deliver", "deliver", "write", "deliver", "do"], {"until_initial": True})
@example("a", ["deliver", "do", "write", "deliver", "write", "deliver", "do"], {"coalesce": True})
@example("ab", ["deliver", "deliver", "do", "write", "deliver", "do"], {"distinct": True})
def test_together_is_the_same_as_one_by_one(name: str, keys: str, actions: list[str], options: dict[str, Any]) -> None:
    twin = TWINS[name]
    if twin is None:
        pytest.skip("the compiled module is not built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered_module, "Deliveries", twin.deliveries)
        patch.setattr(reading_module, "EntryMaker", twin.entry_maker)
        patch.setattr(watch_module, "AT_HAND", 8)  # so that more is asked for in the midst
        patch.setattr(ahead_module, "SAMPLE", 3)
        patch.setattr(ahead_module, "BYTES", 18)  # values have one byte or two
        patch.setattr(ahead_module, "MOST", 16)
        worlds = [Arriving(keys, together=together, **options) for together in (False, True)]
        for action in ["do", *actions, "do", "deliver many", "do", "wait"]:
            for world in worlds:
                act(world, action)
            assert worlds[0].shown == worlds[1].shown


@pytest.mark.parametrize("options", [{}, {"updates_only": True}, {"coalesce": True}], ids=str)
def test_of_small_entries_more_are_asked_for(
    twin: Twin, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered_module, "Deliveries", twin.deliveries)
    monkeypatch.setattr(reading_module, "EntryMaker", twin.entry_maker)
    world = Arriving("", together=True, **options)
    world.do()
    for number in range(260):
        world.write(f"key.{number}")
        world.deliver()
    world.do()
    assert world.watch._ordered.account.messages == ahead_module.MOST - 9  # asked for with the 251st


def test_what_is_wanted_can_be_done_before_all_is_taken(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the server has nothing to do while many messages are taken that came while nobody looked."""
    monkeypatch.setattr(ordered_module, "Deliveries", twin.deliveries)
    monkeypatch.setattr(reading_module, "EntryMaker", twin.entry_maker)
    world = Arriving("", together=True)
    world.do()
    for number in range(300):
        world.write(f"key.{number}")
        world.deliver()
    watch, arrived = world.watch, world.arrived
    watch.receive_all(arrived, lambda: None, now=world.now)
    assert len(watch.wants) == 1
    assert len(arrived) == 300 - 251
    watch.receive_all(arrived, lambda: None, now=world.now)  # there was no room for it
    assert not arrived
    assert len(watch.wants) == 1


def test_a_value_of_bytes_is_what_is_stored() -> None:
    bucket = Stream().bucket
    data = b"value"
    entry = bucket.entry("$KV.B.k", data, None, 1, 2, 3)
    assert entry is not None
    assert entry.value is data
    other = bucket.typed(str).entry("$KV.B.k", b'"value"', None, 1, 2, 3)
    assert other is not None
    assert other.value == "value"
    same = bucket.typed(str).typed(bytes).entry("$KV.B.k", data, None, 1, 2, 3)
    assert same is not None
    assert same.value is data


@pytest.mark.parametrize("together", [False, True])
def test_behind_the_end_nothing_is_given(together: bool) -> None:
    world = Arriving("ab", together=together, until_initial=True)
    world.do()
    world.deliver()
    world.deliver()
    world.write("a")
    world.deliver()
    world.do()
    assert world.watch.done
    assert world.found == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("one_each", [False, True])
@pytest.mark.parametrize("before", ["nothing", "the last one", "a doubt"])
def test_what_comes_at_once_is_counted_as_what_comes_one_by_one(one_each: bool, before: str) -> None:
    single, many = Initial(one_each=one_each), Initial(one_each=one_each)
    info = ConsumerInfo(
        stream_name="KV_B", name="C", config=ConsumerConfig(), num_pending=10, ts=Timestamp.from_nanoseconds(STORED)
    )
    for initial in (single, many):
        assert initial.certain == 0
        initial.begin(info, NOW)
        assert initial.certain == 9
        if before != "nothing":
            initial.came("x", 0, STORED + 1, NOW)
        if before == "a doubt":
            initial.asked(info)
    for key in "abc":
        assert not single.came(key, 5, STORED + 7, NOW + 1) or not one_each
    if many.keys is not None:
        many.keys.update("abc")
    many.came_at_once(3, STORED + 7)
    for name in Initial.__slots__:
        assert getattr(single, name) == getattr(many, name)
    assert many.certain == (6 if before == "nothing" else 5)
    assert many.latest == STORED + 10_000_000_000
    assert not many.over(NOW + 1)
    many.asked(replace(info, num_pending=0))
    assert many.certain == 0


@pytest.mark.parametrize("nanoseconds", [-(10**18), 253_402_300_799 * 10**9])
def test_a_time_that_no_message_can_have_is_within_its_bounds(nanoseconds: int) -> None:
    initial = Initial(one_each=True)
    made = Timestamp.from_nanoseconds(nanoseconds)
    initial.begin(ConsumerInfo(stream_name="KV_B", name="C", config=ConsumerConfig(), num_pending=3, ts=made), NOW)
    assert 0 <= initial.latest < 2**63


@pytest.mark.parametrize("options", [{}, {"include_history": True}, {"until_initial": True}], ids=str)
def test_few_messages_are_looked_at_one_by_one(
    twin: Twin, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above would show nothing."""
    monkeypatch.setattr(ordered_module, "Deliveries", twin.deliveries)
    monkeypatch.setattr(reading_module, "EntryMaker", twin.entry_maker)
    made: list[str] = []
    strictly = Watch._entry

    def entry(self: Watch[Message, bytes], message: Message, now: float) -> Any:
        made.append(message.subject)
        return strictly(self, message, now)

    monkeypatch.setattr(Watch, "_entry", entry)
    world = Arriving("abcdefghijklmnopqrst", together=True, **options)
    world.do()
    for _ in range(20):
        world.deliver()
    world.do()
    assert made == ["$KV.B.t"]  # the last one, which is the end
    assert len(world.found) == 20
    assert world.watch.done is ("until_initial" in options)
    if not world.watch.done:
        assert world.ends == [20]
        for key in "aba":
            world.write(key)
            world.deliver()
        world.do()
        assert made == ["$KV.B.t"]
        assert [key for key, _ in world.found[20:]] == ["a", "b", "a"]
