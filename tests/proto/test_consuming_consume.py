"""Continuous reading: when it asks for more, what it survives and reports, and what ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import ApiCall, Ask, Message, PublishRefused, Subscribe
from nats_proto._consuming.condition import ConsumerCondition
from nats_proto._consuming.consume import Consume
from nats_proto._consuming.options import ConsumeOptions, Priority
from nats_proto._jetstream.errors import (
    ApiError,
    ClusterUnavailableError,
    ConsumerDeletedError,
    ConsumerNotFoundError,
    PullRefusedError,
    StreamNotFoundError,
)
from nats_proto.errors import NATSError, NATSTimeoutError, NoRespondersError, PermissionsError
from tests.proto.consuming import NOW, SUBJECT, Inboxes, delivered, kinds, requests, status

INFO: ApiCall[object] = ApiCall("info of consumer 'C'", "$JS.API.CONSUMER.INFO.S.C", b"", lambda message: message)
CREATE: ApiCall[object] = ApiCall("create consumer 'C'", "$JS.API.CONSUMER.CREATE.S.C", b"", lambda message: message)
WHAT = "messages of consumer 'C' of stream 'S'"
NOT_FOUND = ConsumerNotFoundError("consumer not found", code=404, err_code=10014)
Reader = Consume[Message, Message]


def reader(
    *,
    info: ApiCall[object] | None = INFO,
    create: ApiCall[object] | None = CREATE,
    make: Callable[[Message, float], Message] = lambda message, now: message,
    **options: Any,
) -> Reader:
    return Consume(
        SUBJECT, ConsumeOptions(**options), what=WHAT, new_inbox=Inboxes(), make=make, now=NOW, info=info, create=create
    )


def take(machine: Reader) -> list[tuple[str, dict[str, object]]]:
    """The requests that it makes now; all that the machine wants is done."""
    found = requests(machine.wants)
    machine.wants.clear()
    return found


def asked(machine: Reader) -> str:
    """The reply subject of the only request that it makes now."""
    [(to, _)] = take(machine)
    return to


def batches(machine: Reader) -> list[object]:
    return [body["batch"] for _, body in take(machine)]


def warned(machine: Reader) -> list[str]:
    found = [warning.kind for warning in machine.warnings]
    machine.warnings.clear()
    return found


def feed(machine: Reader, count: int, *, now: float = NOW) -> None:
    for number in range(count):
        machine.receive(delivered(number), now=now)


# --- asking


def test_it_subscribes_and_asks_for_the_maximum() -> None:
    machine = reader()
    assert kinds(machine.wants) == ["subscribe", "pull"]
    assert take(machine) == [("in.1.1", {"batch": 100, "expires": 30_000_000_000, "idle_heartbeat": 5_000_000_000})]


@pytest.mark.parametrize(
    ("most", "threshold", "after"),
    [(100, None, 51), (10, None, 6), (3, None, 2), (2, None, 2), (1, None, 1), (100, 100, 1), (100, 1, 100)],
)
def test_it_asks_again_below_the_threshold(most: int, threshold: int | None, after: int) -> None:
    machine = reader(max_messages=most, threshold=threshold)
    take(machine)
    feed(machine, after - 1)
    assert batches(machine) == []
    feed(machine, 1)
    assert batches(machine) == [after]
    assert machine.outstanding == most


def test_every_message_is_given_in_order() -> None:
    machine = reader(make=lambda message, now: Message(f"{message.reply}@{now}", 1, None, b""))
    for number in range(1, 4):
        machine.receive(delivered(number), now=NOW + number)
    assert [item.subject[-6:] for item in machine.items] == ["1001.0", "1002.0", "1003.0"]


def test_one_message_at_a_time_means_one() -> None:  # row 18
    machine = reader(max_messages=1)
    for _ in range(10):
        assert batches(machine) == [1]
        assert machine.outstanding == 1
        feed(machine, 1)


def test_a_request_that_expires_is_followed_by_another() -> None:
    machine = reader()
    to = asked(machine)
    feed(machine, 10)
    machine.receive(status(to, "408 Request Timeout", (90, 0)), now=NOW + 30)
    assert batches(machine) == [100]
    assert warned(machine) == []


def test_a_limit_ends_it_and_is_never_asked_over() -> None:
    machine = reader(limit=7, max_messages=5)
    given = 0
    total = 0
    while not machine.done:
        total += sum(int(str(batch)) for batch in batches(machine))
        assert total <= 7
        assert machine.outstanding <= 5
        machine.receive(delivered(given), now=NOW)
        given += 1
    assert (given, len(machine.items), total, machine.error) == (7, 7, 7, None)
    assert machine.next_timeout() is None
    feed(machine, 2)
    assert len(machine.items) == 7


def test_bytes_are_asked_for_again_at_half() -> None:
    message = delivered(data=b"x" * 100)
    assert message.reply is not None
    size = len(message.subject) + len(message.reply) + 100
    machine = reader(max_bytes=4 * size)
    [(_, body)] = take(machine)
    assert (body["batch"], body["max_bytes"]) == (1_000_000, 4 * size)
    machine.receive(message, now=NOW)
    assert take(machine) == []
    machine.receive(message, now=NOW)
    [(_, body)] = take(machine)
    assert (body["batch"], body["max_bytes"]) == (2, 2 * size)
    for _ in range(100):
        machine.receive(message, now=NOW)
        assert machine._pulls.bytes <= 4 * size
    assert len(machine.items) == 102


def test_bytes_that_are_used_up_exactly_end_a_request_without_a_word() -> None:
    message = delivered()
    assert message.reply is not None
    size = len(message.subject) + len(message.reply) + 1
    machine = reader(max_bytes=size)
    for _ in range(5):
        [(_, body)] = take(machine)
        assert (body["max_bytes"], body["batch"]) == (size, 1_000_000)
        machine.receive(message, now=NOW)


def test_a_message_larger_than_all_bytes_ends_it() -> None:
    machine = reader(max_bytes=10)
    machine.receive(status(asked(machine), "409 Message Size Exceeds MaxBytes", (10**6, 10)), now=NOW)
    assert isinstance(machine.error, PullRefusedError)
    assert "max_bytes=10" in str(machine.error)
    machine = reader(max_bytes=10_000)
    to = asked(machine)
    feed(machine, 1)
    machine.receive(status(to, "409 Message Size Exceeds MaxBytes", (999_999, 9_000)), now=NOW)
    assert not machine.done
    assert len(take(machine)) == 1


# --- what it survives


def test_another_connection_begins_a_generation() -> None:  # row 15
    machine = reader()
    old = asked(machine)
    feed(machine, 10)
    machine.connection_replaced(now=NOW + 5)
    machine.handle_timeout(now=NOW + 5)  # nothing more was unread
    assert kinds(machine.wants) == ["subscribe", "pull"]
    assert machine.wants[0] == Subscribe(
        "in.2.*", max_pending_msgs=0, max_pending_bytes=0, hand_back=b"-NAK", asks="$JS.API.CONSUMER.MSG.NEXT.S.C"
    )
    assert take(machine) == [("in.2.2", {"batch": 100, "expires": 30_000_000_000, "idle_heartbeat": 5_000_000_000})]
    machine.receive(status(old, "408 Request Timeout", (90, 0)), now=NOW + 5)
    assert (machine.outstanding, len(machine.wants), warned(machine)) == (100, 0, [])


def test_what_came_before_another_connection_is_read_first() -> None:
    """Of what is left with an inbox each message costs a delivery, of which there may be one only."""
    machine = reader(max_messages=10)
    old = asked(machine)
    machine.connection_replaced(now=NOW + 5)
    for number in range(9):  # what lay unread, or what an old request still brings
        assert machine.next_timeout() == NOW + 5
        machine.receive(delivered(number), now=NOW + 6)
        assert take(machine) == []
    machine.receive(status(old, "408 Request Timeout", (1, 0)), now=NOW + 6)
    assert (len(machine.items), machine.outstanding, take(machine)) == (9, 0, [])
    machine.connection_replaced(now=NOW + 7)
    machine.receive(delivered(9), now=NOW + 7)
    machine.handle_timeout(now=NOW + 7)
    assert kinds(machine.wants) == ["subscribe", "pull"]
    assert batches(machine) == [10]
    assert len(machine.items) == 10


def test_what_came_before_another_connection_counts_towards_the_limit() -> None:
    machine = reader(limit=3)
    take(machine)
    machine.connection_replaced(now=NOW)
    feed(machine, 2)
    machine.handle_timeout(now=NOW)
    assert batches(machine) == [1]
    feed(machine, 1)
    assert machine.done


def test_a_pause_that_another_connection_ends_does_not_ask_too_soon() -> None:
    machine = reader()
    for _ in range(2):
        machine.receive(status(asked(machine), "503"), now=NOW)
        take(machine)
        machine.handle_timeout(now=NOW + 10)
    machine.connection_replaced(now=NOW + 10)
    machine.receive(delivered(), now=NOW + 11)
    assert take(machine) == []
    machine.handle_timeout(now=NOW + 11)
    assert batches(machine) == [100]


def test_what_was_not_sent_yet_is_not_sent_any_more() -> None:
    machine = reader()
    assert kinds(machine.wants) == ["subscribe", "pull"]
    machine.connection_replaced(now=NOW)
    machine.handle_timeout(now=NOW)  # nothing more was unread
    assert kinds(machine.wants) == ["subscribe", "pull"]
    assert asked(machine) == "in.2.2"


def test_another_leader_keeps_the_requests_that_were_sent_to_it() -> None:  # rows 15, 20
    machine = reader(max_messages=10)
    first = asked(machine)
    machine.receive(delivered(), now=NOW + 1)
    feed(machine, 5, now=NOW + 1)
    second = asked(machine)  # 6 messages, by the old leader
    machine.receive(delivered(), now=NOW + 2)
    feed(machine, 5, now=NOW + 2)
    third = asked(machine)  # 6 more, on its way while there was no leader
    machine.receive(status(second, "409 Leadership Change"), now=NOW + 3)
    assert (batches(machine), machine.outstanding) == ([], 6)
    machine.receive(status(first, "409 Leadership Change"), now=NOW + 3)
    assert (batches(machine), warned(machine)) == ([], ["leadership_change"])
    feed(machine, 2, now=NOW + 4)
    assert batches(machine) == [6]
    machine.receive(status(third, "408 Request Timeout", (4, 0)), now=NOW + 4)
    assert (batches(machine), machine.outstanding) == ([], 6)


def test_another_leader_that_tells_each_request_is_one_change() -> None:
    machine = reader(max_messages=10)
    tokens = [asked(machine)]
    for number in range(3):
        feed(machine, 6, now=NOW + 1 + number)
        tokens.append(asked(machine))
    told = 0
    for token in tokens:
        machine.receive(status(token, "409 Leadership Change"), now=NOW + 9)
        told += len(take(machine))
        assert machine.next_timeout() != NOW + 9.25  # no pause
    assert machine.outstanding == 10
    assert told == 1
    assert warned(machine) == ["leadership_change"]


def test_a_leader_that_ends_every_request_is_not_asked_in_a_loop() -> None:
    machine = reader()
    count = 0
    for _ in range(100):
        for to, _ in take(machine):
            count += 1
            machine.receive(status(to, "409 Leadership Change"), now=NOW + 1)
    assert count <= 3


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("409 Leadership Change", "leadership_change"),
        ("423 Nats-Wrong-Pin-Id", None),
        ("423 Nats-Pin-Id mismatch", None),
    ],
)
def test_what_the_server_has_forgotten_is_asked_for_anew(words: str, kind: str | None) -> None:
    machine = reader(max_messages=10)
    first = asked(machine)
    feed(machine, 6)
    second = asked(machine)
    machine.receive(status(second, words), now=NOW + 1)
    assert take(machine) == [("in.1.3", {"batch": 10, "expires": 30_000_000_000, "idle_heartbeat": 5_000_000_000})]
    machine.receive(status(first, words), now=NOW + 1)
    assert (take(machine), machine.outstanding) == ([], 10)
    assert warned(machine) == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("words", "unused", "kind"),
    [
        ("409 Server Shutdown", (60, 0), "server_shutdown"),
        ("409 Batch Completed", (60, 10), None),
        ("408 Interest Expired", (60, 0), None),
        ("404 No Messages", (60, 0), None),
        ("409 Something New", (60, 0), "unknown_status"),
        ("777 Lucky", (60, 0), "unknown_status"),
    ],
)
def test_a_request_that_ends_early_is_followed_at_once_and_then_with_pauses(
    words: str, unused: tuple[int, int], kind: str | None
) -> None:
    machine = reader()
    to = asked(machine)
    feed(machine, 40)
    machine.receive(status(to, words, unused), now=NOW + 1)
    assert machine.outstanding == 100
    machine.receive(status(asked(machine), words, (100, 0)), now=NOW + 1.01)
    assert take(machine) == []
    assert machine.next_timeout() == NOW + 1.26
    machine.handle_timeout(now=NOW + 1.26)
    machine.receive(status(asked(machine), words, (100, 0)), now=NOW + 1.27)
    assert machine.next_timeout() == NOW + 1.77
    assert warned(machine) == ([kind] if kind else [])
    assert not machine.done


def test_silence_begins_a_generation_and_looks_for_the_cause() -> None:  # rows 15, 24, 45
    machine = reader(heartbeat=1.0)
    to = asked(machine)
    machine.receive(status(to, "100 Idle Heartbeat"), now=NOW + 1)
    assert machine.next_timeout() == NOW + 3
    machine.handle_timeout(now=NOW + 2.9)
    assert not machine.wants
    machine.handle_timeout(now=NOW + 3)
    assert kinds(machine.wants) == ["subscribe", "pull", "ask"]
    assert asked(machine) == "in.2.2"
    machine.answered(INFO, ConsumerCondition(waiting=512, max_waiting=512), now=NOW + 3)
    assert [warning.text for warning in machine.warnings] == [
        f"{WHAT}: no sign of life for 2 s: asking again",
        f"{WHAT}: 512 of 512 requests wait at the consumer: no more are taken",
    ]
    warned(machine)
    for step in range(1, 20):  # once for each episode, and not faster than one in two heart-beats
        assert machine.next_timeout() == NOW + 3 + 2 * step
        machine.handle_timeout(now=NOW + 3 + 2 * step)
        assert len(take(machine)) == 1
    assert warned(machine) == []
    feed(machine, 1, now=NOW + 50)
    machine.handle_timeout(now=NOW + 52)
    assert warned(machine) == ["no_heartbeat"]


def test_heartbeats_of_an_earlier_generation_are_no_sign_of_life() -> None:
    machine = reader(heartbeat=1.0)
    old = asked(machine)
    machine.connection_replaced(now=NOW)
    machine.handle_timeout(now=NOW)  # nothing more was unread
    take(machine)
    machine.receive(status(old, "100 Idle Heartbeat"), now=NOW + 1.9)
    assert machine.next_timeout() == NOW + 2.0


REFUSED = PermissionsError('server nats://a said: no "x"', text='no "x"', subject=SUBJECT)


def test_who_is_not_permitted_to_ask_is_told_at_once_and_given_what_has_come() -> None:  # row 25
    machine = reader()
    take(machine)
    feed(machine, 2)
    machine.publish_refused(PublishRefused(SUBJECT, REFUSED, 1), now=NOW)
    error = machine.error
    assert isinstance(error, PermissionsError)
    assert (str(error), error.subject, error.outcome) == (f"{WHAT}: {REFUSED}", SUBJECT, "failed")
    assert error is not REFUSED
    assert machine.done
    assert len(machine.items) == 2
    assert not machine.wants
    machine.publish_refused(PublishRefused(SUBJECT, REFUSED, 1), now=NOW)
    assert machine.error is error


def test_what_an_earlier_connection_has_refused_is_asked_again() -> None:
    machine = reader()
    take(machine)
    machine.connection_replaced(now=NOW)
    machine.publish_refused(PublishRefused(SUBJECT, REFUSED, 1), now=NOW)
    assert not machine.done
    machine.handle_timeout(now=NOW)
    machine.publish_refused(PublishRefused(SUBJECT, REFUSED, 1), now=NOW)
    assert machine.done


@pytest.mark.parametrize("answer", [None, NoRespondersError("nobody", SUBJECT), NATSTimeoutError("late")])
def test_silence_again_and_again_is_no_end(answer: object) -> None:
    machine = reader(heartbeat=1.0)
    take(machine)
    for number in range(1, 6):
        machine.handle_timeout(now=NOW + 2.0 * number)
        [ask] = [want for want in machine.wants if isinstance(want, Ask)]
        assert ask.api is INFO
        machine.wants.clear()
        machine.answered(INFO, answer, now=NOW + 2.0 * number)
    assert not machine.done


def test_a_slow_reader_is_no_silence() -> None:  # row 19
    machine = reader(heartbeat=1.0)
    to = asked(machine)
    machine.receive(delivered(1), now=NOW)
    # The program is busy for a minute; then the driver finds what has come meanwhile.
    now = NOW + 60.0
    for _ in range(29):
        machine.receive(status(to, "100 Idle Heartbeat"), now=now)
    machine.receive(status(to, "408 Request Timeout", (99, 0)), now=now)
    assert (warned(machine), batches(machine)) == ([], [100])
    # The same, and the bytes were not even read when it looks.
    machine.handle_timeout(now=now + 60.0)
    assert (warned(machine), batches(machine)) == ([], [])
    assert machine.next_timeout() == now + 61.0
    machine.handle_timeout(now=now + 61.0)
    assert warned(machine) == ["no_heartbeat"]


def test_no_responders_is_asked_again_with_growing_pauses() -> None:  # section 3.1
    machine = reader(info=None)
    now, pauses = NOW, []
    for _ in range(8):
        machine.receive(status(asked(machine), "503"), now=now)
        due = machine.next_timeout()
        assert due is not None
        pauses.append(round(due - now, 3))
        now = due
        machine.handle_timeout(now=now)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert warned(machine) == ["no_responders"]
    feed(machine, 1, now=now)
    machine.receive(status(asked(machine), "503"), now=now + 1)
    assert machine.next_timeout() == now + 1.25


def test_a_lost_end_of_a_request_is_given_up() -> None:
    machine = reader()
    take(machine)
    feed(machine, 60, now=NOW + 20)
    second = asked(machine)
    for beat in range(5):
        machine.receive(status(second, "100 Idle Heartbeat"), now=NOW + 21 + beat * 2.5)
    assert machine.next_timeout() == NOW + 31
    machine.handle_timeout(now=NOW + 31)
    assert machine.outstanding == 51  # no more than the second request was for
    assert not machine.done


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        ("409 Exceeded MaxRequestBatch of 10", {"batch": 100}, {"batch": 10}),
        ("409 Exceeded MaxRequestExpires of 2s", {}, {"expires": 2_000_000_000, "idle_heartbeat": 1_000_000_000}),
    ],
)
def test_a_limit_of_the_consumer_lowers_what_is_asked_for(
    words: str, before: dict[str, object], after: dict[str, object]
) -> None:  # row 13
    machine = reader()
    [(to, body)] = take(machine)
    assert body | before == body
    machine.receive(status(to, words), now=NOW)
    [(_, body)] = take(machine)
    assert body | after == body
    assert warned(machine) == ["limit_lowered"]
    for _ in range(100):
        feed(machine, 1)
        assert all(int(str(batch)) <= 100 for batch in batches(machine))
    assert machine.outstanding <= 100


def test_lowered_batches_deliver_everything() -> None:  # row 13
    machine = reader(max_messages=500)
    machine.receive(status(asked(machine), "409 Exceeded MaxRequestBatch of 10"), now=NOW)
    for _ in range(1000):
        for batch in batches(machine):
            assert 1 <= int(str(batch)) <= 10
        assert 1 <= machine.outstanding <= 10
        feed(machine, 1)
    assert len(machine.items) == 1000


@pytest.mark.parametrize(
    "words",
    [
        "409 Exceeded MaxRequestBatch of 100",  # not less than was asked for
        "409 Exceeded MaxRequestBatch of 0",
        "409 Exceeded MaxRequestBatch of x",
        "409 Exceeded MaxRequestMaxBytes of 10",  # nothing was said of bytes
        "409 Exceeded MaxRequestExpires of 31s",
        "409 Exceeded MaxRequestExpires of 0s",
        "400 Bad Request - whatever",
        "409 Consumer is push based",
        "412 Required Api Level",
    ],
)
def test_what_does_not_pass_ends_it(words: str) -> None:
    machine = reader()
    machine.receive(status(asked(machine), words), now=NOW)
    assert machine.done
    assert isinstance(machine.error, PullRefusedError)
    assert str(machine.error).startswith(WHAT)
    assert (list(machine.wants), machine.next_timeout()) == ([], None)
    machine.connection_replaced(now=NOW)
    machine.handle_timeout(now=NOW)  # nothing more was unread
    machine.handle_timeout(now=NOW + 100)
    machine.answered(INFO, NOT_FOUND, now=NOW)
    assert not machine.wants


def test_a_call_whose_answer_is_lost_with_its_subscription_is_made_again() -> None:
    machine = reader(heartbeat=1.0)
    take(machine)
    machine.handle_timeout(now=NOW + 2)
    assert kinds(machine.wants) == ["subscribe", "pull", "ask"]
    machine.wants.clear()
    machine.connection_replaced(now=NOW + 3)
    machine.handle_timeout(now=NOW + 3)  # nothing more was unread
    take(machine)
    machine.handle_timeout(now=NOW + 5)
    assert kinds(machine.wants) == ["subscribe", "pull", "ask"]


# --- a consumer that is gone


def test_a_deleted_consumer_ends_it() -> None:  # row 17
    machine = reader()
    to = asked(machine)
    feed(machine, 3)
    machine.receive(status(to, "409 Consumer Deleted"), now=NOW)
    assert machine.done
    assert isinstance(machine.error, ConsumerDeletedError)
    assert len(machine.items) == 3


def test_deleted_is_not_believed_of_an_earlier_generation() -> None:
    machine = reader()
    old = asked(machine)
    machine.connection_replaced(now=NOW)
    machine.handle_timeout(now=NOW)  # nothing more was unread
    machine.receive(status(old, "409 Consumer Deleted"), now=NOW)
    assert not machine.done


def missing_twice(machine: Reader) -> float:
    """Nobody answers, twice; when."""
    machine.receive(status(asked(machine), "503"), now=NOW)
    assert not machine.wants
    machine.handle_timeout(now=NOW + 0.25)
    machine.receive(status(asked(machine), "503"), now=NOW + 0.25)
    assert kinds(machine.wants) == ["ask"]
    machine.wants.clear()
    return NOW + 0.3


@pytest.mark.parametrize("heard", [True, False])
def test_a_consumer_that_went_while_nobody_looked(heard: bool) -> None:  # row 17, section 3.6
    machine = reader(max_messages=10)
    if heard:
        feed(machine, 1)
    now = missing_twice(machine)
    machine.answered(INFO, NOT_FOUND, now=now)
    assert machine.done
    if heard:
        assert isinstance(machine.error, ConsumerDeletedError)
        assert machine.error.__cause__ is NOT_FOUND
    else:
        assert machine.error is NOT_FOUND


@pytest.mark.parametrize(
    "answer",
    [
        NoRespondersError("nobody", "$JS.API"),
        NATSTimeoutError("no answer"),
        ClusterUnavailableError("no leader", code=503, err_code=10008),
        ConsumerCondition(),
        "something else",
    ],
)
def test_without_a_clear_answer_it_goes_on(answer: object) -> None:
    machine = reader()
    now = missing_twice(machine)
    machine.answered(INFO, answer, now=now)
    assert not machine.done
    assert machine.next_timeout() == NOW + 0.75


def test_it_waits_for_a_consumer_of_the_same_name() -> None:
    machine = reader(on_missing="wait")
    to = asked(machine)
    feed(machine, 1)
    machine.receive(status(to, "409 Consumer Deleted"), now=NOW)
    assert warned(machine) == ["consumer_missing"]
    now = NOW
    for _ in range(10):
        due = machine.next_timeout()
        assert due is not None
        assert due - now <= 5.0
        now = due
        machine.handle_timeout(now=now)
        machine.receive(status(asked(machine), "503"), now=now)
        machine.wants.clear()
        machine.answered(INFO, NOT_FOUND, now=now)
        assert not machine.done
    due = machine.next_timeout()
    assert due is not None
    machine.handle_timeout(now=due)
    assert batches(machine) == [100]
    feed(machine, 1, now=due)
    assert len(machine.items) == 2
    assert warned(machine) == ["no_responders"]


def test_it_creates_the_consumer_again() -> None:  # row 17
    machine = reader(on_missing="recreate")
    to = asked(machine)
    feed(machine, 1)
    machine.receive(status(to, "409 Consumer Deleted"), now=NOW)
    assert kinds(machine.wants) == ["ask"]
    machine.wants.clear()
    machine.answered(CREATE, StreamNotFoundError("stream not found", code=404, err_code=10059), now=NOW)
    assert not machine.wants
    now = machine.next_timeout()
    assert now is not None
    machine.connection_replaced(now=NOW)  # the answer to a call that was made is lost with the subscription
    machine.handle_timeout(now=NOW)  # nothing more was unread
    assert kinds(machine.wants) == ["subscribe", "ask"]
    machine.wants.clear()
    machine.answered(CREATE, NATSTimeoutError("no answer"), now=NOW + 5)
    due = machine.next_timeout()
    assert due is not None
    assert NOW + 5 < due <= NOW + 10
    machine.handle_timeout(now=due)
    assert kinds(machine.wants) == ["ask"]
    machine.wants.clear()
    machine.answered(CREATE, object(), now=due)
    assert batches(machine) == [100]
    assert warned(machine) == ["consumer_missing", "consumer_recreated"]


@pytest.mark.parametrize("error", [PermissionsError("no"), ApiError("bad", code=400, err_code=10012)])
def test_what_cannot_be_created_ends_it(error: NATSError) -> None:
    machine = reader(on_missing="recreate")
    machine.receive(status(asked(machine), "409 Consumer Deleted"), now=NOW)
    machine.wants.clear()
    machine.answered(CREATE, error, now=NOW)
    assert machine.done
    assert machine.error is error


def test_an_answer_that_nobody_waits_for_is_ignored() -> None:
    machine = reader()
    machine.answered(INFO, NOT_FOUND, now=NOW)
    machine.answered(CREATE, ApiError("bad"), now=NOW)
    assert not machine.done


# --- old messages


def test_what_was_certainly_given_to_others_is_not_handed_out() -> None:  # row 18
    machine = reader(ack_wait=30.0, max_messages=10)
    to = asked(machine)
    feed(machine, 2)
    assert len(machine.items) == 2
    # The request has expired after 30 s, the last message was delivered before: 61 s later it is another reader's.
    late = NOW + 61.5
    feed(machine, 7, now=late)
    assert (machine.outlived, len(machine.items), machine.outstanding) == (7, 2, 1)
    assert take(machine) == []
    machine.receive(status(to, "408 Request Timeout", (1, 0)), now=late)
    assert batches(machine) == [10]
    feed(machine, 1, now=late)
    assert (machine.outlived, len(machine.items)) == (7, 3)
    assert warned(machine) == ["outlived"]


def test_old_messages_without_the_end_of_their_request() -> None:
    machine = reader(ack_wait=30.0, max_messages=10)
    take(machine)
    feed(machine, 10, now=NOW + 61.5)
    assert (machine.outlived, batches(machine)) == (10, [10])


def test_what_is_only_perhaps_too_old_is_handed_out() -> None:
    machine = reader(ack_wait=1.0, max_messages=10)
    feed(machine, 5, now=NOW + 30)
    assert len(machine.items) == 5


def test_without_acknowledgements_nothing_is_too_old() -> None:
    machine = reader()
    feed(machine, 50, now=NOW + 10**6)
    assert len(machine.items) == 50


# --- pinned clients (section 3.8)


def pinned(number: int, pin: str) -> Message:
    return delivered(number, block=f"NATS/1.0\r\nNats-Pin-Id: {pin}\r\n\r\n".encode())


def test_the_pin_is_kept_sent_and_given_up() -> None:
    machine = reader(max_messages=4, priority=Priority(group="g"), priority_timeout=20.0)
    [(first, body)] = take(machine)
    assert (body["group"], body["expires"], "id" in body) == ("g", 10_000_000_000, False)
    for number in range(3):
        machine.receive(pinned(number, "abc"), now=NOW)
    [(second, body)] = take(machine)
    assert (body["id"], body["batch"]) == ("abc", 3)
    machine.receive(status(second, "423 Nats-Pin-Id mismatch"), now=NOW)
    [(third, body)] = take(machine)
    assert ("id" in body, body["batch"]) == (False, 4)
    machine.receive(status(first, "423 Nats-Wrong-Pin-Id", (1, 0)), now=NOW)
    assert take(machine) == []
    assert warned(machine) == ["pinned", "unpinned"]
    machine.receive(pinned(9, "xyz"), now=NOW)
    machine.receive(status(third, "408 Request Timeout", (3, 0)), now=NOW + 10)
    assert take(machine)[0][1]["id"] == "xyz"
    assert len(machine.items) == 4


def test_without_a_pin_there_is_one_request_at_a_time() -> None:
    machine = reader(max_messages=4, priority=Priority(group="g"), priority_timeout=60.0)
    assert len(take(machine)) == 1
    feed(machine, 3)
    assert take(machine) == []
    feed(machine, 1)
    assert batches(machine) == [4]


def test_a_consumer_that_pins_nobody_is_asked_ahead() -> None:
    machine = reader(max_messages=4, priority=Priority(group="g"), priority_timeout=float("inf"))
    [(_, body)] = take(machine)
    assert body["expires"] == 30_000_000_000
    feed(machine, 3)
    assert batches(machine) == [3]


@pytest.mark.parametrize(
    ("answer", "expires", "asked_ahead"),
    [
        (ConsumerCondition(priority_timeout=4.0), 2_000_000_000, []),
        (ConsumerCondition(priority_timeout=1e-9), 50_000_000, []),
        (ConsumerCondition(ack_pending=5, max_ack_pending=5), 30_000_000_000, [3]),
        (NATSTimeoutError("late"), 30_000_000_000, []),
        (PermissionsError("no"), 30_000_000_000, []),
    ],
    ids=["pins", "pins for no time", "pins nobody", "no answer", "forbidden"],
)
def test_how_soon_a_pinned_client_has_to_ask_again_is_asked_first(
    answer: object, expires: int, asked_ahead: list[int]
) -> None:
    machine = reader(max_messages=4, priority=Priority(group="g"))
    assert kinds(machine.wants) == ["subscribe", "ask"]
    machine.wants.clear()
    assert machine.next_timeout() is None
    machine.connection_replaced(now=NOW)  # the answer would go to the inbox that is left
    machine.handle_timeout(now=NOW)
    assert kinds(machine.wants) == ["subscribe", "ask"]
    machine.wants.clear()
    machine.answered(INFO, answer, now=NOW)
    [(_, body)] = take(machine)
    assert (body["expires"], body["idle_heartbeat"]) == (expires, min(expires // 2, 5_000_000_000))
    feed(machine, 3)
    assert batches(machine) == asked_ahead
    assert warned(machine) == []
    machine.connection_replaced(now=NOW)
    machine.handle_timeout(now=NOW)
    assert kinds(machine.wants) == ["subscribe", "pull"]


def test_short_requests_that_run_out_one_after_another_are_no_failures() -> None:
    machine = reader(max_messages=4, priority=Priority(group="g"), priority_timeout=0.4)
    [(first, _)] = take(machine)
    machine.receive(pinned(1, "abc"), now=NOW)
    feed(machine, 2)
    [(second, _)] = take(machine)
    machine.receive(status(first, "408 Request Timeout", (1, 0)), now=NOW + 0.2)
    machine.receive(status(second, "408 Request Timeout", (3, 0)), now=NOW + 0.2)
    for number in range(2, 5):  # and no sign of life is between them
        [(to, body)] = take(machine)
        assert body["id"] == "abc"
        machine.receive(status(to, "408 Request Timeout", (4, 0)), now=NOW + number * 0.2)
    assert len(take(machine)) == 1


def test_a_group_of_a_consumer_that_is_gone() -> None:
    machine = reader(priority=Priority(group="g"))
    machine.answered(INFO, NOT_FOUND, now=NOW)
    assert isinstance(machine.error, ConsumerNotFoundError)
    machine = reader(priority=Priority(group="g"), on_missing="recreate")
    machine.wants.clear()
    machine.answered(INFO, NOT_FOUND, now=NOW)
    assert [want.api for want in machine.wants if isinstance(want, Ask)] == [CREATE]
    machine.wants.clear()
    machine.answered(CREATE, object(), now=NOW)
    assert [want.api for want in machine.wants if isinstance(want, Ask)] == [INFO]
    machine.answered(INFO, ConsumerCondition(priority_timeout=4.0), now=NOW)
    assert take(machine)[0][1]["expires"] == 2_000_000_000


def test_nothing_but_heart_beats_with_messages_pending_has_a_cause() -> None:
    machine = reader(max_messages=4)
    to = asked(machine)

    def beat(count: int = 1) -> list[str]:
        for _ in range(count):
            machine.receive(status(to, "100 Idle Heartbeat"), now=NOW)
        found = kinds(machine.wants)
        machine.wants.clear()
        return found

    assert beat(3) == []  # before the first message nothing is known
    machine.receive(delivered(1), now=NOW)
    assert beat(3) == []  # it said that none is pending
    stuck = Message("orders.new", 1, "$JS.ACK.S.C.1.2.2.1700000000000000000.7", b"x", None)
    machine.receive(stuck, now=NOW)
    assert [beat(), beat(), beat(5)] == [[], ["ask"], []]
    machine.answered(INFO, ConsumerCondition(ack_pending=5, max_ack_pending=5), now=NOW)
    assert "5 of 5 messages wait for their acknowledgement" in machine.warnings[0].text
    assert warned(machine) == ["ack_limit"]
    machine.receive(Message("a", 1, "not.an.ack.subject", b"x", None), now=NOW)
    assert beat(3) == ["pull"]  # there is room for more, and no question


# --- and bounds


def test_a_hostile_server_is_not_asked_in_a_loop() -> None:
    words = [
        "408 Request Timeout",
        "409 Leadership Change",
        "423 Nats-Pin-Id mismatch",
        "503",
        "409 x",
        "404 No Messages",
    ]
    for word in words:
        machine = reader(info=None)
        count, now = 0, NOW
        for _ in range(6000):
            for to, _ in take(machine):
                count += 1
                machine.receive(status(to, word, (0, 0)), now=now)
            now += 0.01
            due = machine.next_timeout()
            if due is not None and now >= due:
                machine.handle_timeout(now=now)
        assert count < 25, word
        assert len(machine.warnings) <= 100


def test_more_than_was_asked_for_is_given_and_does_no_harm() -> None:
    machine = reader(max_messages=4)
    feed(machine, 1000)
    assert len(machine.items) == 1000
    assert 0 < machine.outstanding <= 4


def test_what_comes_unasked_does_not_count_as_asked_for() -> None:
    machine = reader(max_messages=4, info=None)
    machine.receive(status(asked(machine), "503"), now=NOW)
    feed(machine, 10)
    assert machine.outstanding == 0
    machine.handle_timeout(now=NOW + 0.25)
    assert batches(machine) == [4]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_messages": 0}, ValueError),
        ({"max_messages": 1.0}, TypeError),
        ({"max_bytes": 0}, ValueError),
        ({"threshold": 0}, ValueError),
        ({"threshold": 101}, ValueError),
        ({"limit": 0}, ValueError),
        ({"expires": 0.9}, ValueError),
        ({"expires": float("inf")}, ValueError),
        ({"expires": None}, TypeError),
        ({"heartbeat": 0.4}, ValueError),
        ({"heartbeat": 15.1}, ValueError),
        ({"ack_wait": 0}, ValueError),
        ({"priority_timeout": 0}, ValueError),
        ({"on_missing": "ignore"}, ValueError),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ConsumeOptions(**options)


def test_recreate_needs_to_know_how() -> None:
    with pytest.raises(ValueError, match="configuration"):
        reader(on_missing="recreate", create=None)
