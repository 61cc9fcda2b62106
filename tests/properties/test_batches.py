"""Messages handed over in batches are the same messages, counted the same, as those handed over one by one."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nats_proto import Frame, Message, Parser, Role, SubscriptionState
from nats_proto._session.subscription_table import MANY_STRETCHES, SubscriptionTable
from nats_proto._wire.batch import Batch
from nats_proto._wire.frames import is_well_framed
from nats_proto.testing import chunked
from tests.properties.streams import LIMITS, good, hostile
from tests.twins import Twin

BLOCK = b"NATS/1.0\r\nA: 1\r\n\r\n"


def operation(sid: int, size: int, headers: bool = False, subject: str = "a") -> bytes:
    if headers:
        sizes = b"%d %d" % (len(BLOCK), len(BLOCK) + size)
        return b"HMSG %b %d %b\r\n%b%b\r\n" % (subject.encode(), sid, sizes, BLOCK, b"x" * size)
    return b"MSG %b %d %d\r\n%b\r\n" % (subject.encode(), sid, size, b"x" * size)


MESSAGES = st.builds(
    lambda sid, size, headers, count: operation(sid, size, headers) * count,
    st.integers(1, 2),
    st.sampled_from([0, 1, 2, 2, 2, 300]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([1, 1, 2, 3, 5, 9, 10, 17, 40]),
)
LIKE_A_LINE = st.sampled_from(
    [
        # Payloads with the very line in them, in its place and beside it: a block of messages must end where they end.
        b"MSG a 1 2\r\nxx\r\n" * 12 + b"MSG a 1 13\r\nMSG a 1 2\r\nxx\r\n" + b"MSG a 1 2\r\nxx\r\n" * 12,
        b"MSG a 1 15\r\nMSG a 1 15\r\nabc\r\n" * 20,
        b"MSG a 1 16\r\n\r\nMSG a 1 16\r\nab\r\n" * 20,
        b"MSG a 1 2\r\n\r\n\r\n" * 30,
        b"MSG a 1 2\r\nxx\r\n" * 20 + b"MSG a 1 2\r\nxx\rx",
        b"MSG a 1 2\r\nxx\r\n" * 20 + b"MSG a 1 3\r\nxxx\r\n" * 20,
        b"MSG a 1 2\r\nxx\r\n" * 9 + b"MSG a 01 2\r\nxx\r\n" * 9 + b"msg a 1 2\r\nxx\r\n" + b"PING\r\n" * 2,
    ]
)
STREAMS = st.lists(MESSAGES | LIKE_A_LINE | good(Role.CLIENT) | st.just(b"PING\r\n"), max_size=8).map(b"".join)


def flat(frames: Sequence[Frame | Batch]) -> list[Frame]:
    found: list[Frame] = []
    for frame in frames:
        found += each_of(frame)
    return found


def each_of(frame: Frame | Batch) -> list[Message] | list[Frame]:
    """The messages of a batch, or the frame itself."""
    return frame.messages if isinstance(frame, Batch) else [frame]


def strict(stream: bytes, **limits: Any) -> tuple[list[Frame], str]:
    """As a parser reads it that has no fast path."""
    parser = Parser(Role.CLIENT, **limits)
    parser._fast = None
    return parser.receive_data(stream), str(parser.error)


def check(batch: Batch) -> None:
    shares = list(batch.shares)
    assert len(batch.messages) > 1
    assert sum(len(message.data) for message in batch.messages) == batch.data_bytes
    by_sid: dict[int, list[int]] = {}
    for message in batch.messages:
        by_sid.setdefault(message.sid, []).append(id(message))
    assert [(sid, list(map(id, messages))) for sid, messages, _, _ in shares] == list(by_sid.items())
    for _, messages, size, sizes in shares:
        each = [message.size for message in messages]
        assert size == sum(each)
        stretches = [sizes] if isinstance(sizes, tuple) else sizes
        assert [size for count, size in stretches for _ in range(count)] == each
        assert all(first[1] != second[1] for first, second in pairwise(stretches))
        assert all(count > 0 for count, _ in stretches)
        assert isinstance(sizes, tuple) == (len(stretches) == 1)
        assert all(message.header_block is None or is_well_framed(message.header_block) for message in messages)
    assert list(batch.shares) == shares  # one can go through them again


@given(STREAMS | hostile(), st.sampled_from([{}, LIMITS]), st.data())
def test_batches_are_what_the_strict_path_reads(twin: Twin, stream: bytes, limits: dict[str, Any], data: Any) -> None:
    expected = strict(stream, **limits)
    for pieces in ([stream], data.draw(chunked(stream))):
        parser = twin.parser(**limits)
        frames = [frame for piece in pieces for frame in parser.receive_batches(piece)]
        assert (flat(frames), str(parser.error)) == expected
        for frame in frames:
            if isinstance(frame, Batch):
                check(frame)
        parser = twin.parser(**limits)
        assert [frame for piece in pieces for frame in parser.receive_data(piece)] == expected[0]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 16, 17, 100, 1000])
@pytest.mark.parametrize("size", [0, 1, 16, 256, 257])
def test_one_subscription_has_one_share_however_long(twin: Twin, count: int, size: int) -> None:
    for behind in (b"", b"MSG", b"MSG a 1 %d\r\n" % size, b"PING\r\n"):
        frame, *_ = twin.parser().receive_batches(operation(1, size) * count + behind)
        if count == 1:
            assert isinstance(frame, Message)
            continue
        assert isinstance(frame, Batch)
        check(frame)
        ((sid, messages, whole, sizes),) = frame.shares
        assert (sid, len(messages), whole, sizes) == (1, count, count * size, (count, size))


@pytest.mark.parametrize("many", [2, 3, 15, 16, 17, 33, 65, 1000, 20_000])
def test_however_messages_alternate_each_subscription_has_one_share(twin: Twin, many: int) -> None:
    rounds = 3
    stream = b"".join(operation(sid, sid % 3, sid % 5 == 0, f"s.{sid}") for sid in range(many)) * rounds
    frames = twin.parser().receive_batches(stream)
    (frame,) = frames
    assert isinstance(frame, Batch)
    check(frame)
    assert [sid for sid, _, _, _ in frame.shares] == list(range(many))
    for sid, messages, _, _ in frame.shares:
        assert [message.subject for message in messages] == [f"s.{sid}"] * rounds


def test_a_subscription_of_many_subjects_keeps_their_order(twin: Twin) -> None:
    subjects = ["a", "b", "a", "a", "ab", "b", "", "a"]
    stream = b"".join(operation(1 + at % 2, 1, subject=f"x.{name}") for at, name in enumerate(subjects * 3))
    (batch,) = twin.parser().receive_batches(stream)
    assert isinstance(batch, Batch)
    for sid, messages, _, _ in batch.shares:
        assert [message.subject for message in messages] == [f"x.{name}" for name in (subjects * 3)[sid - 1 :: 2]]


@pytest.mark.parametrize("sids", [[1, 2**63, 2**63 - 1, 10**19 - 1], [0, 1, 0], range(0, 2**63, 2**57)], ids=str)
def test_sids_are_told_apart_whatever_they_are(twin: Twin, sids: Sequence[int]) -> None:
    (batch,) = twin.parser().receive_batches(b"".join(operation(sid, 1) for sid in sids) * 2)
    assert isinstance(batch, Batch)
    check(batch)
    assert [sid for sid, _, _, _ in batch.shares] == list(dict.fromkeys(sids))


@pytest.mark.parametrize("end", [b"xy", b"\rx", b"x\n", b"\n\r", b"\r", b""])
def test_a_row_is_broken_where_it_is_broken(twin: Twin, end: bytes) -> None:
    for count in range(1, 80):
        stream = operation(1, 2) * count
        stream = stream[:-2] + end + operation(1, 2) * 20
        parser = twin.parser()
        assert (flat(parser.receive_batches(stream)), str(parser.error)) == strict(stream)


@pytest.mark.parametrize("count", [5, 18, 30])  # 18: one by one, and then one block to its end
@pytest.mark.parametrize("between", [b"PING\r\n", b"ping\r\n", b"-ERR 'x'\r\n", b"MSG  a 1 1\r\nx\r\n"])
def test_nothing_is_put_before_what_came_before_it(twin: Twin, between: bytes, count: int) -> None:
    row = operation(1, 2) * count + operation(2, 2)
    frames = twin.parser().receive_batches(row + between + row)
    assert [type(frame) for frame in frames][::2] == [Batch, Batch]
    assert len(frames) == 3


class Held(Message, gc=True, weakref=True):
    pass


@pytest.mark.parametrize("sids", [[1] * 40, [1, 2] * 20, range(40)], ids=["one", "two", "forty"])
def test_messages_are_gone_as_soon_as_nobody_has_them(twin: Twin, sids: Sequence[int]) -> None:
    """Whoever waits for the collector keeps megabytes meanwhile, and makes it work."""
    gc.disable()
    try:
        frames = twin.parser(message_type=Held).receive_batches(b"".join(operation(sid, 1) for sid in sids))
        held = [weakref.ref(message) for message in flat(frames)]
        del frames
        assert [ref() for ref in held] == [None] * len(sids)
    finally:
        gc.enable()


@pytest.mark.parametrize("sids", [[1] * 2000, range(2000)], ids=["one", "many"])
def test_the_collector_has_nothing_to_look_at(twin: Twin, sids: Sequence[int]) -> None:
    """Objects that it knows, one for each message, would have it look at all others again and again."""
    stream = b"".join(operation(sid, 1) for sid in sids)
    parser = twin.parser()
    gc.disable()
    try:
        before = len(gc.get_objects())
        frames = parser.receive_batches(stream)
        assert len(gc.get_objects()) - before < 50
        assert len(flat(frames)) == len(sids)
    finally:
        gc.enable()


@pytest.mark.parametrize("block", [b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\t\r\n\r\n"])
@pytest.mark.parametrize("broken", [False, True])
def test_only_what_is_well_framed_is_in_a_batch(twin: Twin, block: bytes, broken: bool) -> None:
    for at in range(len(block)) if broken else [0]:
        changed = block[:at] + b"x" + block[at + 1 :] if broken else block
        odd = b"HMSG a 1 %d %d\r\n%b\r\n" % (len(changed), len(changed), changed)
        frames = twin.parser().receive_batches(operation(1, 1, True) * 3 + odd + operation(1, 1, True) * 3)
        kinds = [type(frame) for frame in frames]
        assert kinds == ([Batch] if is_well_framed(changed) else [Batch, Message, Batch])


# --- into queues -----------------------------------------------------------------------------------------------------

Account = tuple[Any, ...]
MARK = Message("", 0, None, b"")
"""What stands for a mark in a queue; here there are none."""


def account(table: SubscriptionTable[Message], subs: list[SubscriptionState[Message]]) -> Account:
    each = [
        (list(map(id, sub.messages)), sub.pending_bytes, sub.delivered, sub.dropped, sub.received, sub.slow, sub.status)
        for sub in subs
    ]
    return each, table.in_msgs, table.in_bytes, table.dropped_msgs, table.dropped_unknown_sid


Step = tuple[str, int, int, bool]
STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "come", "take", "ready"]), st.integers(1, 12), st.integers(0, 6), st.booleans())
    | st.tuples(st.just("mixed"), st.integers(4, 12), st.integers(0, 6), st.booleans()),
    max_size=12,
)


def frames_of(steps: Step, sid: int, parser: Parser) -> list[Frame | Batch]:
    kind, count, size, headers = steps
    sizes = [(size + number % 3) if kind == "mixed" else size for number in range(count)]
    return parser.receive_batches(b"".join(operation(sid, each, headers) for each in sizes))


def delivered(table: SubscriptionTable[Message], frames: Sequence[Frame | Batch], apart: int | None) -> list[str]:
    """Give them to the table as a session does, and tell what it said."""
    told: list[object] = []
    for frame in frames:
        if isinstance(frame, Batch):
            for _, messages, _, _ in table.put_batch(frame, apart):
                told += [table.put(message) for message in messages]
        else:
            assert isinstance(frame, Message)
            told.append(table.deliver(frame))
    return [repr(each) for each in told if each is not None]


@given(
    st.integers(0, 20),
    st.integers(0, 60),
    st.none() | st.integers(1, 30),
    STEPS,
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([None, None, 1, 2]),
)
@example(5, 0, None, [("come", 5, 1, False)], 1, None)
@example(4, 0, None, [("come", 5, 1, False), ("take", 3, 0, False), ("come", 4, 1, False)], 1, None)
@example(0, 20, None, [("come", 10, 2, False), ("take", 1, 0, False), ("come", 4, 1, False)], 1, None)
@example(0, 0, 5, [("come", 5, 1, False), ("come", 5, 1, False)], 1, None)
def test_a_batch_is_delivered_as_its_messages_would_be(
    max_msgs: int, max_bytes: int, ends: int | None, steps: list[Step], sid: int, apart: int | None
) -> None:
    """Sid 2 is nobody's. What a table tells is compared message by message; its events as well."""
    tables = [SubscriptionTable(MARK), SubscriptionTable(MARK)]
    subs = [table.add("a", max_msgs=ends, max_pending_msgs=max_msgs, max_pending_bytes=max_bytes) for table in tables]
    parser = Parser(Role.CLIENT)
    for step in steps:
        if step[0] == "take":
            for sub in subs:
                for _ in range(min(step[1], len(sub.messages))):
                    sub.messages.popleft()
        elif step[0] == "ready":
            assert tables[0].ready() == tables[1].ready()
        else:
            frames = frames_of(step, sid, parser)
            one_by_one = [tables[0].deliver(message) for message in flat(frames)]  # type: ignore[arg-type]  # all are
            assert delivered(tables[1], frames, apart) == [repr(each) for each in one_by_one if each is not None]
        if step[3]:
            assert account(tables[1], [subs[1]]) == account(tables[0], [subs[0]])
    assert account(tables[1], [subs[1]]) == account(tables[0], [subs[0]])
    assert tables[0].ready() == tables[1].ready()


# --- the accounts of a queue -----------------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(
        st.sampled_from(
            ["batch", "batch", "one", "popleft", "popleft", "pop", "take", "count taken", "put back", "ask", "discard"]
        ),
        st.integers(0, 12),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(MOVES)
def test_the_accounts_are_exact_whenever_somebody_asks(moves: list[tuple[str, int, int]]) -> None:
    table = SubscriptionTable(MARK)
    sub = table.add("a")
    model: deque[int] = deque()
    read = 0
    last: Message | None = None
    parser = Parser(Role.CLIENT)
    for kind, count, size in moves:
        if kind in ("batch", "one"):
            sizes = [size + number % (1 + count % 3) for number in range(count if kind == "batch" else 1)]
            assert delivered(table, parser.receive_batches(b"".join(operation(1, each) for each in sizes)), None) == []
            model.extend(sizes)
        elif kind in ("popleft", "pop") and model:
            last = sub.messages.popleft() if kind == "popleft" else sub.pop()
            assert last is not None
            assert last.size == model.popleft()
            read += 1
        elif kind == "take":
            taken = sub.take(count)
            assert [message.size for message in taken] == [model.popleft() for _ in range(min(count, len(model)))]
            read += len(taken)
        elif kind == "count taken":
            sub.count_taken()
        elif kind == "put back" and last is not None:
            sub.put_back(last)
            model.appendleft(last.size)
            read -= 1
            last = None
        elif kind == "ask":
            assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (len(model), sum(model), read)
        elif kind == "discard" and count == 0:
            sub.discard()
            model.clear()
        assert len(sub.sizes) <= sub.queued_msgs
        assert len(sub.sizes) <= len(sub.messages) + MANY_STRETCHES + 12  # 12: those of the last batch
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (len(model), sum(model), read)
    sub.count_taken()
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (len(model), sum(model), read)
    assert sum(count for count, _ in sub.sizes) == len(model)
