"""`Work`: how many messages are held and asked for, what is kept alive, and what becomes of each."""

from __future__ import annotations

import itertools
import pickle
from datetime import timedelta
from typing import Any

import pytest

from nats_proto import CatchUp, Headers, Message, PublishRefused, Subscribe
from nats_proto._calls.operation import Publish
from nats_proto._consuming.dead_letter import Unburied, dead_letter_headers, left_text, unburied
from nats_proto._consuming.lanes import Lanes
from nats_proto._consuming.options import ConsumeOptions
from nats_proto._consuming.prefetch import MAX_PREFETCH
from nats_proto._consuming.signals import Reject, Retry, Spent
from nats_proto._consuming.verdicts import Verdict, pause_after, reason_of, refuse_spent, verdict_on
from nats_proto._consuming.work import Work
from nats_proto._consuming.work_options import KEEP_ALIVE_LIMIT, WorkOptions
from nats_proto._jetstream.acknowledge import IN_PROGRESS, Acknowledgeable, Delivery
from nats_proto._jetstream.errors import ApiError
from nats_proto._jetstream.metadata import Metadata
from nats_proto.errors import InvalidSubjectError, MaxPayloadError, NATSError, NATSTimeoutError, PermissionsError
from tests.proto.consuming import NOW, SUBJECT, Inboxes, requests, status

WAIT = 30.0
DELIVERY = Delivery(stream="S", consumer="C", ack_wait=WAIT)


class Held(Message, Acknowledgeable, eq=False):
    """A client's class of messages, as far as the machine knows it."""

    delivery: Delivery = DELIVERY
    received: float = 0.0
    settled: bool = False
    parsed_metadata: Metadata | None = None


def delivered(sequence: int = 1, attempt: int = 1) -> Message:
    return Message("orders.new", 1, f"$JS.ACK.S.C.{attempt}.{sequence}.{sequence}.1700000000000000000.0", b"x")


def held(sequence: int = 1, attempt: int = 1, delivery: Delivery = DELIVERY, received: float = NOW) -> Held:
    message = delivered(sequence, attempt)
    return Held(message.subject, 1, message.reply, b"x", delivery=delivery, received=received)


def worker(
    concurrency: int = 8,
    *,
    keep_alive: float = KEEP_ALIVE_LIMIT,
    prefetch: int | None = None,
    max_ack_pending: int = 0,
    delivery: Delivery = DELIVERY,
    options: ConsumeOptions | None = None,
    wait: float | None = None,
) -> Work[Message, Held]:
    def make(message: Message, now: float) -> Held:
        return Held(message.subject, 1, message.reply, message.data, delivery=delivery, received=now)

    return Work(
        SUBJECT,
        options or ConsumeOptions(),
        concurrency=concurrency,
        keep_alive=keep_alive,
        prefetch=prefetch,
        max_ack_pending=max_ack_pending,
        what="work on consumer 'C'",
        new_inbox=Inboxes(),
        make=make,
        now=NOW,
        wait=wait,
    )


def batches(machine: Work[Message, Held]) -> list[Any]:
    """How many each request asks for that it makes now; all that the machine wants is done."""
    found = [body["batch"] for _, body in requests(machine.wants)]
    machine.wants.clear()
    return found


def give(machine: Work[Message, Held], count: int, now: float = NOW) -> list[Held]:
    for sequence in range(count):
        machine.receive(delivered(sequence + 1), now=now)
    given = list(machine.items)
    machine.items.clear()
    return given


def end(machine: Work[Message, Held], messages: list[Held], now: float) -> None:
    """Handlers have ended; the coordinator learns of it when it is called."""
    machine.ended.extend(messages)
    if len(machine.ended) >= machine.prefetch.call_at:
        assert machine.next_timeout() == 0.0
        machine.handle_timeout(now=now)


# --- how many --------------------------------------------------------------------------------------------------------


def test_twice_the_concurrency_is_asked_for_and_held_together() -> None:
    """Row 18: no more is prefetched than what the handlers have and one each in reserve."""
    machine = worker(4)
    assert batches(machine) == [8]
    messages = give(machine, 8)
    assert batches(machine) == []
    assert (machine.outstanding, machine.prefetch.held) == (0, 8)
    assert machine.next_timeout() == NOW + WAIT / 3  # nothing is outstanding: only what is held is looked after
    end(machine, messages[:1], NOW + 1)
    assert batches(machine) == []  # half of the reserve is what it waits for
    end(machine, messages[1:2], NOW + 2)
    assert batches(machine) == [2]
    assert machine.prefetch.held + machine.outstanding == 8


def test_one_handler_holds_two_messages() -> None:
    machine = worker(1)
    assert batches(machine) == [2]
    first, second = give(machine, 2)
    end(machine, [first], NOW + 1)
    assert batches(machine) == [1]
    [third] = give(machine, 1, NOW + 1)
    end(machine, [second, third], NOW + 2)
    assert batches(machine) == [2]


def test_quick_handlers_are_given_more_and_slow_ones_less_again() -> None:
    machine, now, seen = worker(8), NOW, []
    for _ in range(12):
        batches(machine)
        end(machine, give(machine, machine.outstanding, now), now + 0.0001)
        now += 0.0001
        seen.append(machine.prefetch.size)
        assert machine.prefetch.held + machine.outstanding <= machine.prefetch.size
    assert all(after <= 2 * before for before, after in itertools.pairwise(seen))
    assert seen[-1] == MAX_PREFETCH
    for _ in range(3):
        batches(machine)
        end(machine, give(machine, machine.outstanding, now), now + 60.0)
        now += 60.0
    assert machine.prefetch.size == 16


def test_never_more_than_the_bound_whatever_ends_when() -> None:
    machine, now = worker(8), NOW
    running: list[Held] = []
    for turn in range(3000):
        now += 0.0007
        batches(machine)
        if turn % 3 or not running:
            running += give(machine, min(machine.outstanding, 1 + turn % 7), now)
        if turn % 5:
            count = turn % 11
            ended, running = running[:count], running[count:]
            machine.ended.extend(ended)
            machine.handle_timeout(now=now)
        assert machine.prefetch.held == len(running)
        assert machine.outstanding + machine.prefetch.held <= MAX_PREFETCH
        assert machine.outstanding + machine.prefetch.held > 0


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"prefetch": 5}, 5),
        ({"prefetch": 1}, 1),
        ({"max_ack_pending": 3}, 3),
        ({"max_ack_pending": -1}, 16),
        ({"max_ack_pending": 5000}, 16),
    ],
)
def test_who_bounds_it_further(options: dict[str, int], first: int) -> None:
    machine = worker(8, prefetch=options.get("prefetch"), max_ack_pending=options.get("max_ack_pending", 0))
    assert batches(machine) == [first]
    assert [warning.kind for warning in machine.warnings] == (["ack_limit"] if first == 3 else [])


def test_a_limit_of_the_consumer_lowers_what_is_asked_for() -> None:
    machine = worker(8)
    [(to, _)] = requests(machine.wants)
    machine.wants.clear()
    machine.receive(status(to, "409 Exceeded MaxRequestBatch of 3"), now=NOW)
    assert batches(machine) == [3]
    assert machine.prefetch.size == 3


def test_a_handler_that_ends_before_the_coordinator_waits_is_not_missed() -> None:
    machine = worker(1)
    batches(machine)
    machine.ended.extend(give(machine, 2))
    assert machine.next_timeout() == 0.0
    machine.called = True
    machine.handle_timeout(now=NOW + 1)
    assert not machine.called
    assert batches(machine) == [2]


# --- keeping alive ---------------------------------------------------------------------------------------------------


def told(machine: Work[Message, Held]) -> list[str]:
    """To whose reply subjects the server was told that they are in progress."""
    found = [want.subject for want in machine.wants if isinstance(want, Publish) and want.data == IN_PROGRESS]
    machine.wants.clear()
    return found


def test_what_is_held_is_kept_alive_at_a_third_of_the_wait_until_it_ends() -> None:
    """Row 35."""
    machine = worker(1)
    first, second = give(machine, 2)
    machine.wants.clear()
    machine.begun[id(first)] = NOW
    for third in range(1, 4):
        machine.handle_timeout(now=NOW + third * WAIT / 3 - 0.1)
        assert told(machine) == []
        machine.handle_timeout(now=NOW + third * WAIT / 3 + 0.01 * third)
        assert told(machine) == [first.reply, second.reply]
    first.settled = True
    machine.handle_timeout(now=NOW + 4 * WAIT / 3 + 0.1)
    assert told(machine) == [second.reply]
    end(machine, [first, second], NOW + 50)
    told(machine)
    machine.handle_timeout(now=NOW + 100)
    assert told(machine) == []


@pytest.mark.parametrize(
    ("delivery", "attempt", "every"),
    [
        (Delivery(stream="S", consumer="C", ack_wait=9.0), 1, 3.0),
        (Delivery(stream="S", consumer="C", ack_wait=30.0, backoff=(3.0, 6.0)), 1, 1.0),
        (Delivery(stream="S", consumer="C", ack_wait=30.0, backoff=(3.0, 6.0)), 2, 2.0),
        (Delivery(stream="S", consumer="C", ack_wait=30.0, backoff=(3.0, 6.0)), 7, 2.0),
        (Delivery(stream="S", consumer="C"), 1, 10.0),
        (Delivery(stream="S", consumer="C", acknowledged=False), 1, None),
    ],
)
def test_how_often(delivery: Delivery, attempt: int, every: float | None) -> None:
    """Row 36: the wait that is in force is that of the attempt, as the consumer has it."""
    machine = worker(1, delivery=delivery)
    machine.receive(delivered(1, attempt), now=NOW)
    assert machine.due == (float("inf") if every is None else NOW + every)


def test_it_ends_at_its_bound_which_begins_with_the_handler() -> None:
    machine = worker(1, keep_alive=25.0)
    first, second = give(machine, 2)
    machine.wants.clear()
    machine.begun[id(first)] = NOW
    times = []
    for second_of in range(1, 60):
        machine.handle_timeout(now=NOW + second_of)
        times += [(second_of, place) for place in told(machine)]
        if second_of == 21:
            machine.begun[id(second)] = NOW + 21
    assert [at for at, place in times if place == first.reply] == [10, 20]
    assert [at for at, place in times if place == second.reply] == [10, 20, 30, 40]


def test_it_can_be_off() -> None:
    machine = worker(1, keep_alive=0.0)
    [message] = give(machine, 1)
    assert machine.due == float("inf")
    assert machine.is_fresh(message, NOW + WAIT - 1)
    assert not machine.is_fresh(message, NOW + WAIT)


def test_what_was_not_kept_alive_in_time_is_not_begun() -> None:
    """Row 18: it is somebody else's by now."""
    machine = worker(1)
    first, second = give(machine, 2)
    machine.begun[id(first)] = NOW
    machine.wants.clear()
    assert machine.is_fresh(second, NOW + WAIT - 1)
    late = NOW + WAIT + 1  # nothing ran for so long
    machine.handle_timeout(now=late)
    assert first.reply in told(machine)  # its handler runs anyway
    assert not machine.is_fresh(second, late)
    machine.late.append(second)
    machine.ended.append(second)
    machine.handle_timeout(now=late)
    assert machine.outlived == 1
    assert "outlived" in [warning.kind for warning in machine.warnings]


# --- being away ------------------------------------------------------------------------------------------------------


def caught(machine: Work[Message, Held]) -> list[int]:
    """The numbers of what is to tell that it has caught up; all that the machine wants is done."""
    found = [want.number for want in machine.wants if isinstance(want, CatchUp)]
    machine.wants.clear()
    return found


def taken(machine: Work[Message, Held], sequence: int, now: float, attempt: int = 1) -> Held:
    machine.receive(delivered(sequence, attempt), now=now)
    return machine.items.pop()


def begun() -> Work[Message, Held]:
    """One that has made its subscription, and waits."""
    machine = worker(8, wait=WAIT)
    machine.wants.clear()
    machine.handle_timeout(now=NOW)
    return machine


def test_what_came_while_the_process_was_stopped_is_not_begun() -> None:
    machine = begun()
    machine.handle_timeout(now=NOW + 9)
    late = NOW + 9 + WAIT + 1
    first = taken(machine, 1, late)
    assert caught(machine) == [1]
    second = taken(machine, 2, late + 0.1)
    assert caught(machine) == []
    machine.caught_up(1, now=late + 0.2)
    third = taken(machine, 3, late + 0.2)
    assert [each.received for each in (first, second, third)] == [NOW + 9, NOW + 9, late + 0.2]
    assert [machine.is_fresh(each, late + 0.3) for each in (first, second, third)] == [False, False, True]
    machine.handle_timeout(now=late + 0.3)
    assert told(machine) == []  # nothing that would take it from whoever has it now


def test_of_what_may_be_old_the_server_is_told_that_it_is_in_progress() -> None:
    machine = begun()
    machine.handle_timeout(now=NOW + 0.6 * WAIT)
    assert caught(machine) == [1]
    message = taken(machine, 1, NOW + 0.6 * WAIT)
    assert message.received == NOW
    assert machine.is_fresh(message, NOW + 0.6 * WAIT)
    due = machine.next_timeout()
    assert due is not None
    assert due <= NOW + 0.6 * WAIT
    machine.handle_timeout(now=NOW + 0.6 * WAIT)
    assert told(machine) == [message.reply]


def test_who_looks_when_it_is_to_look_is_never_away() -> None:
    machine, now = begun(), NOW
    for _ in range(20):
        due = machine.next_timeout()
        assert due is not None
        assert now < due <= now + WAIT / 3
        now = due + 0.1 * WAIT  # a busy machine
        machine.handle_timeout(now=now)
        assert caught(machine) == []
    assert taken(machine, 1, now).received == now


def test_who_asks_for_nothing_cannot_be_away() -> None:
    machine = begun()
    held_ = give(machine, 16)
    machine.wants.clear()
    assert machine.outstanding == 0
    machine.handle_timeout(now=NOW + 0.1)
    end(machine, held_, NOW + 5 * WAIT)
    assert caught(machine) == []


def test_of_two_times_away_the_second_has_to_be_caught_up() -> None:
    machine = begun()
    later = NOW + 1.2 * WAIT
    assert taken(machine, 1, NOW + 0.6 * WAIT).received == NOW
    assert taken(machine, 2, later).received == NOW
    assert caught(machine) == [1, 2]
    machine.caught_up(1, now=later)
    assert taken(machine, 3, later).received == NOW
    machine.caught_up(2, now=later)
    assert taken(machine, 4, later).received == later


@pytest.mark.parametrize("by", ["another connection", "another generation"])
def test_what_ends_it_besides(by: str) -> None:
    machine = begun()
    machine.handle_timeout(now=NOW + 0.6 * WAIT)
    now = NOW + 0.6 * WAIT
    if by == "another connection":
        machine.connection_replaced(now=now)
    else:
        while not isinstance(machine.wants[0] if machine.wants else None, Subscribe):
            now += 1.0  # silence
            machine.handle_timeout(now=now)
    machine.wants.clear()
    assert taken(machine, 1, now).received == now


def test_away_behind_another_connection() -> None:
    """The mark of that one lay unread while the process was stopped."""
    machine = begun()
    machine.connection_replaced(now=NOW + 2 * WAIT)
    assert caught(machine) == [1]
    assert taken(machine, 1, NOW + 2 * WAIT).received == NOW


def test_without_acknowledgements_nobody_looks() -> None:
    machine = worker(1, delivery=Delivery(stream="S", consumer="C", acknowledged=False), wait=float("inf"))
    machine.wants.clear()
    machine.handle_timeout(now=NOW)
    assert machine.next_timeout() == NOW + machine._reader._pulls._silence
    assert taken(machine, 1, NOW + 20).received == NOW + 20
    assert caught(machine) == []


@pytest.mark.parametrize(("attempt", "max_deliver", "begins"), [(3, 3, True), (2, 3, False), (3, 0, False)])
def test_the_last_attempt_is_begun_however_old_it_is(attempt: int, max_deliver: int, begins: bool) -> None:
    machine = worker(8, options=ConsumeOptions(max_deliver=max_deliver), wait=WAIT)
    machine.handle_timeout(now=NOW)
    message = taken(machine, 1, NOW + 2 * WAIT, attempt)
    assert machine.is_fresh(message, NOW + 2 * WAIT) is begins


def test_a_message_of_somebody_else_has_no_last_attempt() -> None:
    machine = worker(8, options=ConsumeOptions(max_deliver=1), keep_alive=0.0)
    strange = Held("a", 1, "not.an.ack.subject", b"x", delivery=DELIVERY, received=NOW)
    assert not machine.is_fresh(strange, NOW + 2 * WAIT)


@pytest.mark.parametrize("prefetch", [1, 2])
def test_the_place_of_what_was_not_handed_out_is_asked_for_again(prefetch: int) -> None:
    """The process was stopped for long: what it finds is somebody else's, and nothing else is on its way."""
    machine = worker(1, prefetch=prefetch, options=ConsumeOptions(ack_wait=WAIT))
    batches(machine)
    for number in range(prefetch):
        machine.receive(delivered(number + 1), now=NOW + 600)
    assert (len(machine.items), machine.outlived, machine.prefetch.held) == (0, prefetch, 0)
    assert sum(batches(machine)) == prefetch


# --- what becomes of a message ---------------------------------------------------------------------------------------

LATER = (0.2, 0.5, 1.0)
DEAD = {"dead_letter": "dead.letters"}
GIVEN_UP = "given up after 4 attempts: "


@pytest.mark.parametrize(
    ("attempt", "error", "options", "max_deliver", "verdict"),
    [
        (1, OSError("no"), {"backoff": LATER}, 0, Verdict("again", 0.2)),
        (2, OSError("no"), {"backoff": LATER}, -1, Verdict("again", 0.5)),
        (9, OSError("no"), {"backoff": LATER}, 0, Verdict("again", 1.0)),
        (1, Retry(7), {"backoff": LATER}, 0, Verdict("again", 7.0)),
        (1, Retry(timedelta(minutes=1)), {}, 0, Verdict("again", 60.0)),
        (2, Retry(), {"backoff": LATER}, 0, Verdict("again", 0.5)),
        (1, Reject("nonsense"), {}, 0, Verdict("term", reason="nonsense")),
        (1, Reject("nonsense"), {"on_poison": "nak"}, 0, Verdict("term", reason="nonsense")),
        (1, Reject("nonsense"), DEAD, 0, Verdict("dead_letter", reason="nonsense")),
        (3, OSError("no"), {}, 3, Verdict("term", reason="given up after 3 attempts: OSError: no")),
        (3, OSError("no"), {"max_attempts": 3}, 9, Verdict("term", reason="given up after 3 attempts: OSError: no")),
        (3, OSError("no"), {"max_attempts": 9, "backoff": LATER}, 4, Verdict("again", 1.0)),
        (4, OSError("no"), {**DEAD, "max_attempts": 2}, 0, Verdict("dead_letter", reason=GIVEN_UP + "OSError: no")),
        (4, Retry(1), {"max_attempts": 2}, 0, Verdict("term", reason=GIVEN_UP + "Retry: try again in 1 s")),
        (2, OSError("no"), {"max_attempts": 2, "on_poison": "nak", "backoff": LATER}, 0, Verdict("again", 0.5)),
    ],
)
def test_verdicts(attempt: int, error: Exception, options: dict[str, Any], max_deliver: int, verdict: Verdict) -> None:
    """Rows 37 to 39."""
    assert verdict_on(held(1, attempt), error, WorkOptions(**options), max_deliver=max_deliver) == verdict


@pytest.mark.parametrize(
    ("delivered", "options", "refused"),
    [
        (13, {"max_attempts": 3}, False),
        (14, {"max_attempts": 3}, True),
        (14, {**DEAD, "max_attempts": 3}, True),
        (10**6, {}, False),
        (10**6, {"max_attempts": 3, "on_poison": "nak"}, False),
    ],
)
def test_a_message_that_has_cost_many_workers_is_refused_before_it_is_begun(
    delivered: int, options: dict[str, Any], refused: bool
) -> None:
    """Those that were handed back by workers which were drained come again, however small ``max_attempts`` is."""
    policy = WorkOptions(**options)
    if not refused:
        refuse_spent(held(1, delivered), policy)
        return
    with pytest.raises(Spent, match=r"delivered 13 times") as raised:
        refuse_spent(held(1, delivered), policy)
    verdict = verdict_on(held(1, delivered), raised.value, policy, max_deliver=0)
    assert verdict == Verdict("dead_letter" if "dead_letter" in options else "term", reason=raised.value.reason)
    assert "nothing was heard of it" in verdict.reason


def test_the_pauses_of_the_consumer_are_the_next_best() -> None:
    """Row 38: the server itself does not heed its back-off for what is not acknowledged."""
    delivery = Delivery(stream="S", consumer="C", backoff=(1.5, 2.5))
    assert [pause_after(held(1, attempt, delivery), WorkOptions()) for attempt in (1, 2, 3)] == [1.5, 2.5, 2.5]
    assert pause_after(held(1, 1, delivery), WorkOptions(backoff=[4])) == 4.0


def test_without_any_they_grow_and_are_spread() -> None:
    for attempt, least, most in [(1, 1, 1), (2, 1, 2), (3, 2, 4), (6, 16, 32), (7, 30, 60), (100, 30, 60)]:
        pauses = [pause_after(held(sequence, attempt), WorkOptions()) for sequence in range(1, 200)]
        assert least <= min(pauses) <= max(pauses) <= most
        assert attempt == 1 or len(set(pauses)) > 150


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("no"), "OSError: no"),
        (OSError(), "OSError"),
        (OSError("two\r\nlines\x00"), "OSError: two lines?"),
        (Unspeakable(), "Unspeakable"),
    ],
)
def test_reasons_are_one_printable_line(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
    assert len(reason_of(OSError("x" * 100_000))) == 200


FULL = ApiError("full", code=503, err_code=10077)
TOO_LARGE = ApiError("too large", code=400, err_code=10054)


@pytest.mark.parametrize(
    ("attempt", "error", "max_deliver", "tries", "seconds", "fate"),
    [
        (1, FULL, 0, 1, 0.0, Unburied("again", 0.2)),
        (3, TOO_LARGE, 4, 1, 0.0, Unburied("again", 1.0)),
        (4, FULL, 4, 1, 0.0, Unburied("wait", 1.0)),
        (4, FULL, 4, 3, 99.0, Unburied("wait", 4.0)),
        (4, NATSTimeoutError("late"), 4, 10**6, 99.0, Unburied("wait", 60.0)),
        (4, FULL, 4, 3, 100.0, Unburied("left")),
        (4, TOO_LARGE, 4, 1, 0.0, Unburied("left")),
        (1, MaxPayloadError("too large"), 1, 1, 0.0, Unburied("left")),
        (1, PermissionsError("no"), 1, 1, 0.0, Unburied("left")),
    ],
)
def test_what_becomes_of_a_message_whose_dead_letter_was_not_stored(
    attempt: int, error: NATSError, max_deliver: int, tries: int, seconds: float, fate: Unburied
) -> None:
    """Row 39: after the last attempt the server delivers it no more, whatever it is told."""
    options = WorkOptions(backoff=LATER, keep_alive=100.0, **DEAD)  # type: ignore[arg-type]
    message = held(1, attempt)
    assert unburied(message, error, options, max_deliver=max_deliver, tries=tries, seconds=seconds) == fate


def test_what_is_left_says_where_it_is() -> None:
    text = left_text("work on consumer 'C'", "dead", held(12, 3).metadata)
    assert "message 12 of stream 'S'" in text


def test_a_dead_letter_tells_what_it_was_and_commands_nothing() -> None:
    """Row 39."""
    headers = Headers({"Trace": ["1", "2"], "Nats-Msg-Id": "7", "nats-ttl": "1s", "Nats-Rollup": "all"})
    made = dead_letter_headers(headers, "orders.new", held(12, 3).metadata, "no")
    assert list(made.items()) == [
        ("Trace", "1"),
        ("Trace", "2"),
        ("Nats-Msg-Id", "S.C.12"),
        ("Dead-Letter-Reason", "no"),
        ("Dead-Letter-Subject", "orders.new"),
        ("Dead-Letter-Stream", "S"),
        ("Dead-Letter-Consumer", "C"),
        ("Dead-Letter-Sequence", "12"),
        ("Dead-Letter-Attempts", "3"),
    ]
    assert headers["Nats-Msg-Id"] == "7"
    assert "Trace" not in dead_letter_headers(None, "orders.new", held().metadata, "no")


# --- order by key ----------------------------------------------------------------------------------------------------


def test_lanes() -> None:
    lanes: Lanes[str] = Lanes()
    assert [lanes.enter(item[0], item) for item in ("a1", "b1", "a2", "a3")] == [True, True, False, False]
    assert [lanes.leave("a"), lanes.leave("b"), lanes.leave("a"), lanes.leave("a")] == ["a2", None, "a3", None]
    assert len(lanes) == 0  # what is not in use is forgotten
    assert lanes.enter("a", "a4")
    assert not lanes.enter("a", "a5")
    assert list(lanes.clear()) == ["a5"]
    assert lanes.leave("a") is None
    with pytest.raises(TypeError):
        lanes.enter([], "x")  # type: ignore[arg-type]  # that is the test


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"concurrency": 0}, ValueError),
        ({"concurrency": 1025}, ValueError),
        ({"concurrency": True}, TypeError),
        ({"backoff": ()}, ValueError),
        ({"backoff": 3.0}, TypeError),
        ({"backoff": "123"}, TypeError),
        ({"backoff": [-1]}, ValueError),
        ({"backoff": [1, "2"]}, TypeError),
        ({"max_attempts": 0}, ValueError),
        ({"max_attempts": 1.5}, TypeError),
        ({"on_poison": "ack"}, ValueError),
        ({"dead_letter": "a b"}, InvalidSubjectError),
        ({"dead_letter": "a.>"}, InvalidSubjectError),
        ({"dead_letter": "a", "on_poison": "nak"}, ValueError),
        ({"keep_alive": -1}, ValueError),
        ({"keep_alive": "yes"}, TypeError),
        ({"confirmed": 1}, TypeError),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        WorkOptions(**options)


@pytest.mark.parametrize(
    ("given", "seconds"), [(True, 3600.0), (False, 0.0), (0, 0.0), (5, 5.0), (timedelta(minutes=2), 120.0)]
)
def test_how_long_it_keeps_alive(given: Any, seconds: float) -> None:
    assert WorkOptions(keep_alive=given).keep_alive_for == seconds
    assert WorkOptions(backoff=[timedelta(seconds=1), 2]).pauses == (1.0, 2.0)


@pytest.mark.parametrize("value", [-1, float("nan"), "1"])
def test_a_retry_that_is_no_duration(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Retry(value)


@pytest.mark.parametrize("value", ["two\nlines", 7])
def test_a_reason_that_is_none(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Reject(value)


def test_what_handlers_raise_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Retry(3))).delay == 3.0
    assert pickle.loads(pickle.dumps(Reject("no"))).reason == "no"


def test_what_is_to_be_kept_alive_is_no_reason_to_drop_what_comes_next() -> None:
    """The time at which one that is held is due, and the time from which on what comes is too old, are two."""
    machine = worker(4)
    [first] = give(machine, 1)
    later = NOW + WAIT / 3 + 0.01  # nobody has handled the time-out yet
    machine.receive(delivered(2), now=later)
    assert len(machine.items) == 1
    assert machine.outlived == 0
    machine.wants.clear()
    machine.handle_timeout(now=later)
    told = [(want.subject, want.data) for want in machine.wants if isinstance(want, Publish)]
    assert (first.ack_subject(), IN_PROGRESS) in told


def test_a_request_that_follows_another_hides_nothing_that_is_to_be_kept_alive() -> None:
    machine = worker(4)
    [(to, _)] = requests(machine.wants)
    give(machine, 1)
    due = machine.due
    machine.receive(status(to, "408 Request Timeout", (7, 0)), now=NOW + 1)
    assert machine.due == due


def test_who_is_not_permitted_to_ask_is_told_at_once() -> None:
    machine = worker()
    machine.publish_refused(PublishRefused("$JS.API.CONSUMER.MSG.NEXT.S.C", PermissionsError("no"), 1), now=NOW)
    assert machine.done
    assert isinstance(machine.error, PermissionsError)
