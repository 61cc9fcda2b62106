"""The outbox: batches of whole operations, and what is left of them at a cut."""

from __future__ import annotations

import pytest

from nats_proto._session.outbox import CHUNK_SIZE, HIGH_WATER, LOW_WATER, Outbox, _Chunk, encoded_size
from nats_proto._wire.encoder import PING, Encoded, Encoder
from nats_proto.errors import LocalProtocolError

encoder = Encoder()


def pub(name: str, size: int = 3) -> Encoded:
    return encoder.publish(name, name.encode()[:1] * size)


def opened(*operations: Encoded) -> Outbox:
    outbox = Outbox()
    outbox.begin()
    for operation in operations:
        outbox.append(operation)
    return outbox


def flat(operations: list[Encoded]) -> bytes:
    return b"".join(op if isinstance(op, bytes) else b"".join(op) for op in operations)


def take_all(outbox: Outbox) -> bytes:
    taken = b""
    while pieces := outbox.take(CHUNK_SIZE, [])[0]:
        taken += b"".join(pieces)
    return taken


# A batch with everything in it: control bytes, subscriptions, small publishes, a flush and a payload in pieces.
CONTROL = [b"PONG\r\nPONG\r\n", PING]
SUB = encoder.subscribe("s", None, 1)
SMALL, HEADERS, LARGE = pub("a", 5), encoder.publish("h", b"x", None, {"A": "1"}), pub("l", 65536)
BATCH: list[Encoded] = [SUB, SMALL, HEADERS, PING, LARGE, SMALL]
WAITING: list[Encoded] = [PING, pub("w"), SUB, pub("v", 70_000)]
TAKEN: list[Encoded] = [*CONTROL, *BATCH]
PUBLISHES = (SMALL, HEADERS, LARGE, WAITING[1], WAITING[3])


def batch_in_flight() -> Outbox:
    outbox = opened(SUB, SMALL, HEADERS)
    outbox.append_ping(1)
    outbox.append(LARGE)
    outbox.append(SMALL)
    pieces, pings = outbox.take(HIGH_WATER, CONTROL)
    assert b"".join(pieces) == flat(TAKEN)
    assert pings == [1]
    for operation in WAITING:
        outbox.append(operation)
    return outbox


def left_after(accepted: int) -> list[Encoded]:
    """What has to be written again when ``accepted`` bytes of the batch were handed over."""
    left: list[Encoded] = []
    end = 0
    for operation in TAKEN:
        end += encoded_size(operation)
        if end > accepted and operation in PUBLISHES:
            left.append(operation)
    return left + [operation for operation in WAITING if operation in PUBLISHES]


EDGES = {
    edge + offset
    for index in range(len(TAKEN) + 1)
    for edge in [sum(map(encoded_size, TAKEN[:index]))]
    for offset in (-1, 0, 1)
}
LARGE_END = sum(map(encoded_size, TAKEN[:7]))
POINTS = sorted(
    (EDGES | set(range(len(flat(TAKEN[:6])) + 20)) | set(range(LARGE_END - 5, LARGE_END + 20)) | {30_000, 60_000})
    & set(range(len(flat(TAKEN)) + 1))
)


@pytest.mark.parametrize("late", [0, 1, 7, 10**6], ids=lambda late: f"last {late} bytes reported late")
def test_a_cut_at_any_byte_keeps_exactly_what_was_not_handed_over(late: int) -> None:
    for accepted in POINTS:
        outbox = batch_in_flight()
        in_time = max(0, accepted - late)
        outbox.sent(in_time)
        outbox.cut()
        assert list(outbox.unsent_publishes()) == left_after(in_time)
        outbox.sent(accepted - in_time)
        expected = left_after(accepted)
        assert list(outbox.unsent_publishes()) == expected
        assert outbox.pending_bytes == len(flat(expected))
        outbox.append(SMALL)
        outbox.begin()
        assert outbox.pending_bytes == len(flat(expected)) + len(flat([SMALL]))
        assert list(outbox.unsent_publishes()) == [*expected, SMALL]
        assert take_all(outbox) == flat([*expected, SMALL])


def test_a_cut_at_any_byte_of_what_the_tail_has_given() -> None:
    """Where nothing else waits it goes on its way without being sealed, and what is taken next is behind it."""
    first: list[Encoded] = [SMALL, SUB, pub("b", 20), HEADERS]
    second: list[Encoded] = [*CONTROL, pub("c"), LARGE, SMALL]
    behind: list[Encoded] = [pub("d"), SUB]
    everything = [*first, *second]
    for accepted in [*range(len(flat([*first, *second[:3]])) + 3), len(flat(everything)) - 1, len(flat(everything))]:
        for late in (0, 1, 30):
            outbox = opened(*first)
            assert outbox.take(CHUNK_SIZE, []) == ([flat(first)], [])
            assert outbox.tail.given == outbox.pending_bytes == len(flat(first))
            assert not outbox.reported
            for operation in second[2:]:
                outbox.append(operation)
            assert b"".join(outbox.take(HIGH_WATER, CONTROL)[0]) == flat(second)
            for operation in behind:
                outbox.append(operation)
            assert outbox.pending_bytes == len(flat([*everything, *behind]))
            with pytest.raises(LocalProtocolError, match="bytes sent, but"):
                outbox.sent(len(flat(everything)) + 1)
            in_time = max(0, accepted - late)
            outbox.sent(in_time // 2)
            outbox.sent(in_time - in_time // 2)
            assert outbox.reported == (in_time == len(flat(everything)))
            assert outbox.pending_bytes == len(flat([*everything, *behind])) - in_time
            assert list(outbox.unsent_publishes()) == publishes_behind([*everything, *behind], in_time)
            outbox.cut()
            outbox.sent(accepted - in_time)
            expected = publishes_behind([*everything, *behind], accepted)
            assert list(outbox.unsent_publishes()) == expected
            assert outbox.pending_bytes == len(flat(expected))
            outbox.begin()
            assert take_all(outbox) == flat(expected)


def publishes_behind(operations: list[Encoded], accepted: int) -> list[Encoded]:
    """Those that do not end within so many bytes."""
    ends = [sum(map(encoded_size, operations[: index + 1])) for index in range(len(operations))]
    return [
        each
        for each, end in zip(operations, ends, strict=True)
        if end > accepted and (each if isinstance(each, bytes) else each[0]).startswith((b"PUB", b"HPUB"))
    ]


def test_too_much_behind_what_the_tail_has_given_makes_it_full() -> None:
    """With its report there is less than too much, but not little: publishers go on waiting."""
    outbox = opened(pub("a", 60_000))
    assert len(outbox.take(CHUNK_SIZE, [])[0]) == 1
    outbox.allow_quick(True)
    given = outbox.tail.given
    while outbox.pending_bytes < HIGH_WATER - CHUNK_SIZE:
        outbox.append(pub("b", 20_000))
    assert outbox.make_room()
    while outbox.tail.size < CHUNK_SIZE or outbox.pending_bytes < HIGH_WATER:
        outbox.tail.append(b"PUB a 4\r\nlate\r\n")  # as others publish, who do not look
    assert outbox.tail.size >= CHUNK_SIZE
    assert LOW_WATER < outbox.pending_bytes - given < HIGH_WATER
    assert outbox.full
    outbox.sent(given)
    assert outbox.full
    while outbox.full:
        outbox.sent(len(b"".join(outbox.take(CHUNK_SIZE, [])[0])))
    assert outbox.pending_bytes <= LOW_WATER


def test_reports_in_small_steps_are_the_same_as_at_once() -> None:
    for step in (1, 3, 1000):
        outbox = batch_in_flight()
        total = len(flat(TAKEN))
        for start in range(0, total, step):
            outbox.sent(min(step, total - start))
        assert outbox.pending_bytes == len(flat(WAITING))
        outbox.cut()
        assert list(outbox.unsent_publishes()) == left_after(total)


def test_the_bytes_of_a_failed_handshake_are_no_part_of_the_next_connection() -> None:
    outbox = Outbox()
    outbox.append(SMALL)
    outbox.begin()
    outbox.take(0, [b"CONNECT {}\r\n", PING])
    outbox.sent(5)
    outbox.begin()
    assert outbox.pending_bytes == encoded_size(SMALL)
    assert take_all(outbox) == flat([SMALL])
    outbox.sent(encoded_size(SMALL))
    assert outbox.pending_bytes == 0
    outbox.cut()
    assert list(outbox.unsent_publishes()) == []


def test_flushes_belong_to_their_connection() -> None:
    outbox = opened(SMALL)
    outbox.append_ping(1)
    outbox.cut()
    outbox.begin()
    outbox.append_ping(2)
    pieces, pings = outbox.take(HIGH_WATER, [])
    assert (b"".join(pieces), pings) == (flat([SMALL, PING]), [2])


def test_tokens_leave_with_the_chunk_that_has_their_ping() -> None:
    outbox = opened(encoder.publish("a", b"x" * (CHUNK_SIZE - 1)))
    outbox.append_ping(1)
    outbox.append_ping(2)
    assert outbox.take(1, [])[1] == []
    assert outbox.take(1, [])[1] == [1, 2]


def test_a_ping_that_fills_its_chunk_keeps_its_token() -> None:
    outbox = opened()
    half = encoder.publish("a", b"x" * (CHUNK_SIZE // 2 - len("PUB a 50000\r\n\r\n") - 1))
    outbox.append(half)
    outbox.append(half)
    outbox.append_ping(9)
    pieces, pings = outbox.take(1, [])
    assert (b"".join(pieces), pings) == (flat([half, half, PING]), [9])


@pytest.mark.parametrize("end", ["written", "cut"])
@pytest.mark.parametrize(("of", "name"), [(_Chunk, "__init__"), (Outbox, "_count")])
def test_an_interrupt_while_a_chunk_is_sealed_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch, of: type, name: str, end: str
) -> None:
    """A `KeyboardInterrupt` comes between any two calls, and likes the ends of those that copy much."""

    def interrupt(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    outbox = opened(pub("a"), pub("b"))
    outbox.append_ping(7)
    monkeypatch.setattr(of, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        outbox.take(HIGH_WATER, [])
    outbox.append(pub("c"))
    if end == "cut":
        outbox.cut()
        outbox.begin()
        assert take_all(outbox) == flat([pub("a"), pub("b"), pub("c")])
    else:
        pieces, pings = outbox.take(HIGH_WATER, [])
        assert (b"".join(pieces), pings) == (flat([pub("a"), pub("b"), PING, pub("c")]), [7])
    assert take_all(outbox) == b""


@pytest.mark.parametrize("limit", [1, CHUNK_SIZE, 4 * CHUNK_SIZE, 100 * CHUNK_SIZE])
def test_a_batch_ends_with_the_chunk_that_reaches_the_limit(limit: int) -> None:
    operations = [pub(f"s{index}", 1000) for index in range(1000)]
    outbox = opened(*operations)
    taken: list[bytes] = []
    while pieces := outbox.take(limit, [])[0]:
        size = sum(map(len, pieces))
        assert size <= limit + CHUNK_SIZE + 1100
        taken += pieces
    assert b"".join(taken) == flat(operations)


def test_operations_in_front_are_given_in_bounded_batches_too() -> None:
    outbox = opened(SMALL)
    subs = [encoder.subscribe(f"subject.{number}", None, number) for number in range(1, 20_000)]
    outbox.prepend(subs)
    taken: list[bytes] = []
    while pieces := outbox.take(CHUNK_SIZE, [])[0]:
        assert sum(map(len, pieces)) < 2 * CHUNK_SIZE
        taken += pieces
    assert b"".join(taken) == flat([*subs, SMALL])
    assert outbox.pending_bytes == len(flat([*subs, SMALL]))


def test_nothing_in_front_is_nothing() -> None:
    outbox = opened()
    outbox.prepend([])
    assert outbox.take(1, []) == ([], [])


def test_large_payloads_are_not_copied() -> None:
    payload = b"x" * 100_000
    outbox = opened(encoder.publish("a", payload))
    pieces, _ = outbox.take(1, [])
    assert pieces[1] is payload


def test_large_payloads_on_their_way_are_told() -> None:
    outbox = opened(SMALL)
    assert not outbox.large
    outbox.take(HIGH_WATER, [PING])
    assert not outbox.large
    outbox.append(SMALL)
    outbox.append(LARGE)
    outbox.append(SMALL)
    assert not outbox.large  # they wait
    outbox.take(HIGH_WATER, [])
    assert outbox.large
    # Nothing more to be taken, or nothing but what the connection itself has to say: that stands behind them.
    outbox.take(HIGH_WATER, [])
    outbox.take(HIGH_WATER, [PING])
    assert outbox.large
    outbox.append(SMALL)
    outbox.take(HIGH_WATER, [])
    assert not outbox.large


def test_what_the_tail_gives_by_itself_is_not_large() -> None:
    outbox = opened(LARGE)
    pieces, _ = outbox.take(HIGH_WATER, [])
    outbox.sent(sum(map(len, pieces)))
    outbox.append(SMALL)
    assert outbox.take(HIGH_WATER, []) == ([SMALL], [])
    assert outbox.tail.given
    assert not outbox.large


@pytest.mark.parametrize("headers", [None, {"A": "1"}])
@pytest.mark.parametrize("reply", [None, "r"])
def test_large_payloads_that_are_answered_do_not_count(headers: dict[str, str] | None, reply: str | None) -> None:
    outbox = opened(SMALL, encoder.publish("l", bytes(65536), reply, headers))
    outbox.take(HIGH_WATER, [])
    assert outbox.large is (reply is None)


@pytest.mark.parametrize("reply", [None, "r"])
def test_nor_do_those_that_are_published_quickly(reply: str | None) -> None:
    outbox = Outbox(encoder.heads)
    outbox.begin()
    outbox.allow_quick(True)
    outbox.tail.restrict(100, 70_000, 65536)
    encoder.publish("s", b"")
    for size in 10, 65536, 10:
        assert outbox.tail.publish("s", bytes(size), reply)
    outbox.take(HIGH_WATER, [])
    assert outbox.large is (reply is None)


def test_operations_that_a_cut_has_left_are_large_when_a_payload_is() -> None:
    for operation, large in (SMALL, False), (LARGE, True):
        outbox = opened(SMALL, operation)
        outbox.take(HIGH_WATER, [])
        outbox.cut()
        outbox.begin()
        outbox.take(HIGH_WATER, [])
        assert outbox.large is large


def test_control_bytes_leave_first_and_also_when_nothing_else_may() -> None:
    outbox = opened(SMALL)
    assert outbox.take(0, [b"CONNECT\r\n"]) == ([b"CONNECT\r\n"], [])
    assert outbox.take(1, [PING]) == ([PING, SMALL], [])


@pytest.mark.parametrize("size", [100, 5000, 70_000])
def test_full_is_reached_high_and_left_low(size: int) -> None:
    outbox = opened()
    operation = pub("a", size)
    while not outbox.full:
        outbox.append(operation)
    assert HIGH_WATER <= outbox.pending_bytes < HIGH_WATER + CHUNK_SIZE + 2 * encoded_size(operation)
    outbox.take(10 * HIGH_WATER, [])
    while outbox.full:
        assert outbox.pending_bytes > LOW_WATER
        outbox.sent(1000)
    assert LOW_WATER - 1000 < outbox.pending_bytes <= LOW_WATER
    outbox.append(operation)
    assert not outbox.full


@pytest.mark.parametrize("taken", [0, 1, 10 * HIGH_WATER])
def test_a_cut_does_not_make_a_full_outbox_less_full(taken: int) -> None:
    outbox = opened(*[pub("a", 100_000)] * 12)
    assert outbox.full
    outbox.take(taken, [])
    outbox.cut()
    outbox.begin()
    assert outbox.full
    outbox.clear()
    assert not outbox.full
    assert outbox.pending_bytes == 0


@pytest.mark.parametrize("nbytes", [-1, 16, 10**9])
def test_a_report_of_what_was_never_given_changes_nothing(nbytes: int) -> None:
    outbox = opened(encoder.publish("a", b""))  # 11 bytes
    outbox.take(1, [])
    outbox.append(SMALL)
    with pytest.raises(LocalProtocolError):
        outbox.sent(nbytes)
    assert outbox.pending_bytes == 11 + encoded_size(SMALL)
    outbox.sent(11)
    assert list(outbox.unsent_publishes()) == [SMALL]


def test_reports_after_the_end_are_ignored() -> None:
    outbox = opened(SMALL)
    outbox.take(1, [])
    outbox.clear()
    outbox.sent(encoded_size(SMALL))
    outbox.append(SMALL)
    outbox.begin()
    assert outbox.pending_bytes == encoded_size(SMALL)
    assert take_all(outbox) == flat([SMALL])
