"""Messages handed over in runs are the same messages, counted the same, as those handed over one by one."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nats_proto import Frame, Message, Parser, Role, SubscriptionState
from nats_proto._session.subscription_table import SubscriptionTable
from nats_proto._wire.run import SHORTEST_RUN, Run
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


def flat(frames: list[Frame | Run]) -> list[Frame]:
    found: list[Frame] = []
    for frame in frames:
        found += frame.messages if isinstance(frame, Run) else [frame]
    return found


def strict(stream: bytes, **limits: Any) -> tuple[list[Frame], str]:
    """As a parser reads it that has no fast path."""
    parser = Parser(Role.CLIENT, **limits)
    parser._fast = None
    return parser.receive_data(stream), str(parser.error)


def check(run: Run) -> None:
    sizes = [message.size for message in run.messages]
    assert len(sizes) >= SHORTEST_RUN
    assert {message.sid for message in run.messages} == {run.sid}
    assert (run.size, run.data_bytes) == (sum(sizes), sum(len(message.data) for message in run.messages))
    assert [size for count, size in run.sizes for _ in range(count)] == sizes
    assert all(first[1] != second[1] for first, second in zip(run.sizes, run.sizes[1:], strict=False))
    assert all(count > 0 for count, _ in run.sizes)
    assert run.with_headers is any(message.header_block is not None for message in run.messages)


@given(STREAMS | hostile(), st.sampled_from([{}, LIMITS]), st.data())
def test_runs_are_what_the_strict_path_reads(twin: Twin, stream: bytes, limits: dict[str, Any], data: Any) -> None:
    expected = strict(stream, **limits)
    for pieces in ([stream], data.draw(chunked(stream))):
        parser = twin.parser(**limits)
        frames = [frame for piece in pieces for frame in parser.receive_runs(piece)]
        assert (flat(frames), str(parser.error)) == expected
        for frame in frames:
            if isinstance(frame, Run):
                check(frame)
        parser = twin.parser(**limits)
        assert [frame for piece in pieces for frame in parser.receive_data(piece)] == expected[0]


@pytest.mark.parametrize("count", [1, SHORTEST_RUN - 1, SHORTEST_RUN, 8, 9, 16, 17, 100, 1000])
@pytest.mark.parametrize("size", [0, 1, 16, 256, 257])
def test_one_row_is_one_run_however_long(twin: Twin, count: int, size: int) -> None:
    for behind in (b"", b"MSG", b"MSG a 1 %d\r\n" % size, b"PING\r\n", operation(2, size)):
        frames = twin.parser().receive_runs(operation(1, size) * count + behind)
        mine = [frame for frame in frames if isinstance(frame, Run) or (isinstance(frame, Message) and frame.sid == 1)]
        assert len(mine) == (1 if count >= SHORTEST_RUN else count)
        for frame in mine:
            if isinstance(frame, Run):
                check(frame)
                assert frame.sizes == [(count, size)]


@pytest.mark.parametrize("end", [b"xy", b"\rx", b"x\n", b"\n\r", b"\r", b""])
def test_a_row_is_broken_where_it_is_broken(twin: Twin, end: bytes) -> None:
    for count in range(1, 80):
        stream = operation(1, 2) * count
        stream = stream[:-2] + end + operation(1, 2) * 20
        parser = twin.parser()
        assert (flat(parser.receive_runs(stream)), str(parser.error)) == strict(stream)


@pytest.mark.parametrize("count", [5, 18, 30])  # 18: one by one, and then one block to its end
@pytest.mark.parametrize("between", [b"PING\r\n", operation(2, 1), operation(2, 1, True), b"ping\r\n", b"-ERR 'x'\r\n"])
def test_nothing_is_put_before_what_came_before_it(twin: Twin, between: bytes, count: int) -> None:
    row = operation(1, 2) * count
    frames = twin.parser().receive_runs(row + between + row)
    assert [type(frame) for frame in frames][::2] == [Run, Run]
    assert len(frames) == 3


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


def run_of(steps: Step, sid: int, parser: Parser) -> list[Frame | Run]:
    kind, count, size, headers = steps
    sizes = [(size + number % 3) if kind == "mixed" else size for number in range(count)]
    return parser.receive_runs(b"".join(operation(sid, each, headers) for each in sizes))


@given(
    st.integers(0, 20),
    st.integers(0, 60),
    st.none() | st.integers(1, 30),
    STEPS,
    st.sampled_from([1, 1, 1, 2]),
)
@example(5, 0, None, [("come", 5, 1, False)], 1)
@example(4, 0, None, [("come", 5, 1, False), ("take", 3, 0, False), ("come", 4, 1, False)], 1)
@example(0, 20, None, [("come", 10, 2, False), ("take", 1, 0, False), ("come", 4, 1, False)], 1)
@example(0, 0, 5, [("come", 5, 1, False), ("come", 5, 1, False)], 1)
def test_a_run_is_delivered_as_its_messages_would_be(
    max_msgs: int, max_bytes: int, ends: int | None, steps: list[Step], sid: int
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
            frames = run_of(step, sid, parser)
            one_by_one = [repr(tables[0].deliver(message)) for message in flat(frames)]  # type: ignore[arg-type]  # all are
            whole: list[str] = []
            for frame in frames:
                if isinstance(frame, Run) and tables[1].deliver_run(frame):
                    whole += ["None"] * len(frame.messages)
                else:
                    whole += [repr(tables[1].deliver(each)) for each in flat([frame])]  # type: ignore[arg-type]  # all are
            assert whole == one_by_one
        if step[3]:
            assert account(tables[1], [subs[1]]) == account(tables[0], [subs[0]])
    assert account(tables[1], [subs[1]]) == account(tables[0], [subs[0]])
    assert tables[0].ready() == tables[1].ready()


# --- the accounts of a queue -----------------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(
        st.sampled_from(
            ["run", "run", "one", "popleft", "popleft", "pop", "take", "count taken", "put back", "ask", "discard"]
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
    delivered = 0
    last: Message | None = None
    parser = Parser(Role.CLIENT)
    for kind, count, size in moves:
        if kind in ("run", "one"):
            sizes = [size + number % (1 + count % 3) for number in range(count if kind == "run" else 1)]
            for frame in parser.receive_runs(b"".join(operation(1, each) for each in sizes)):
                if not (isinstance(frame, Run) and table.deliver_run(frame)):
                    for message in flat([frame]):
                        assert isinstance(message, Message)
                        table.deliver(message)
            model.extend(sizes)
        elif kind in ("popleft", "pop") and model:
            last = sub.messages.popleft() if kind == "popleft" else sub.pop()
            assert last is not None
            assert last.size == model.popleft()
            delivered += 1
        elif kind == "take":
            taken = sub.take(count)
            assert [message.size for message in taken] == [model.popleft() for _ in range(min(count, len(model)))]
            delivered += len(taken)
        elif kind == "count taken":
            sub.count_taken()
        elif kind == "put back" and last is not None:
            sub.put_back(last)
            model.appendleft(last.size)
            delivered -= 1
            last = None
        elif kind == "ask":
            assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (len(model), sum(model), delivered)
        elif kind == "discard" and count == 0:
            sub.discard()
            model.clear()
        assert len(sub.sizes) <= sub.queued_msgs
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (len(model), sum(model), delivered)
    sub.count_taken()
    assert (sub.pending_msgs, sub.pending_bytes, sub.delivered) == (len(model), sum(model), delivered)
    assert sum(count for count, _ in sub.sizes) == len(model)
