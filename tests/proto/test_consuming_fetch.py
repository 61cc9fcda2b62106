"""One batch: what it asks for, what ends it, and why it says that it has ended."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import ApiCall, Ask, Message, PublishRefused, Subscribe
from nats_proto._consuming.condition import ConsumerCondition, condition_of
from nats_proto._consuming.fetch import Fetch
from nats_proto._consuming.options import Priority
from nats_proto._jetstream.consumer_config import ConsumerConfig
from nats_proto._jetstream.consumer_info import ConsumerInfo
from nats_proto._jetstream.errors import (
    ConsumerDeletedError,
    ConsumerNotFoundError,
    PullLimitError,
    PullRefusedError,
)
from nats_proto.errors import NATSTimeoutError, PermissionsError
from tests.proto.consuming import NOW, SUBJECT, Inboxes, delivered, kinds, requests, status

INFO: ApiCall[object] = ApiCall("info of consumer 'C'", "$JS.API.CONSUMER.INFO.S.C", b"", lambda message: message)
WHAT = "fetch from consumer 'C' of stream 'S'"
TimedItem = tuple[Message, float]


def fetch(batch: int | None = 3, **given: Any) -> Fetch[Message, TimedItem]:
    make: Callable[[Message, float], TimedItem] = lambda message, now: (message, now)  # noqa: E731
    options = {"timeout": 5.0, "what": WHAT, "new_inbox": Inboxes(), "info": INFO, **given}
    pin = options.pop("pin", None)
    machine = Fetch(SUBJECT, make=make, batch=batch, **options)
    machine.begin(pin, now=NOW)
    return machine


def reply(machine: Fetch[Message, TimedItem]) -> str:
    """The reply subject of the newest request. All that the machine wants is done."""
    last = requests(machine.wants)[-1][0]
    machine.wants.clear()
    return last


def test_it_subscribes_and_asks_once() -> None:
    machine = fetch()
    assert kinds(machine.wants) == ["subscribe", "pull"]
    assert requests(machine.wants) == [("in.1.1", {"batch": 3, "expires": 4_500_000_000})]
    assert not machine.done
    assert machine.reason is None


def test_one_request_has_an_inbox_without_a_wildcard_and_others_one_together() -> None:
    machine = fetch(timeout=30.0)
    assert [want.subject for want in machine.wants if isinstance(want, Subscribe)] == ["in.1.1"]
    asked = [reply(machine)]
    for number, inboxes in enumerate((["in.2.*"], []), 1):
        machine.receive(status(asked[-1], "503"), now=NOW + 5 * number)
        machine.wants.clear()
        machine.handle_timeout(now=NOW + 5 * number + 1)
        assert [want.subject for want in machine.wants if isinstance(want, Subscribe)] == inboxes
        asked.append(reply(machine))
    assert asked == ["in.1.1", "in.2.2", "in.2.3"]


def test_each_message_is_given_as_it_comes_and_the_last_one_ends_it() -> None:
    machine = fetch()
    messages = [delivered(number) for number in range(1, 4)]
    for number, message in enumerate(messages, 1):
        assert not machine.done
        machine.receive(message, now=NOW + number)
        assert machine.items[-1] == (message, NOW + number)
    assert (machine.done, machine.reason, machine.error) == (True, "limit", None)
    machine.receive(delivered(4), now=NOW + 4)  # nobody asked for this one
    assert len(machine.items) == 3
    assert machine.next_timeout() is None


@pytest.mark.parametrize("words", ["408 Request Timeout", "408 Interest Expired"])
def test_emptiness_is_no_error(words: str) -> None:  # row 9
    for timeout in (0.3, 5.0, 60.0):
        machine = fetch(timeout=timeout)
        expires = requests(machine.wants)[0][1]["expires"]
        assert isinstance(expires, int)
        machine.receive(status(reply(machine), words, (3, 0)), now=NOW + expires / 1e9)
        assert (machine.done, machine.reason, machine.error, len(machine.items)) == (True, "expired", None, 0)


def test_an_end_long_before_the_time_is_none() -> None:
    machine = fetch(timeout=30.0)
    machine.receive(status(reply(machine), "408 Interest Expired", (3, 0)), now=NOW + 10)
    assert not machine.done
    [(_, body)] = requests(machine.wants)
    assert (body["batch"], body["expires"]) == (3, 19_500_000_000)
    machine = fetch(timeout=10_000.0)
    machine.receive(status(reply(machine), "408 Request Timeout", (3, 0)), now=NOW + 3600)
    assert [body["expires"] for _, body in requests(machine.wants)] == [3600_000_000_000]


@pytest.mark.parametrize(
    ("timeout", "expires"),
    [(0.01, 0.005), (0.1, 0.05), (0.3, 0.25), (1.0, 0.9), (5.0, 4.5), (30.0, 29.5), (1e9, 3600.0), (1e30, 3600.0)],
)
def test_the_server_gives_up_before_the_fetch_does(timeout: float, expires: float) -> None:  # row 10
    said = requests(fetch(timeout=timeout).wants)[0][1]
    assert said["expires"] == round(expires * 1e9)


def test_who_is_not_permitted_to_ask_is_told_at_once_and_given_what_has_come() -> None:
    machine = fetch()
    refused = PermissionsError("no", text="no", subject=SUBJECT)
    machine.receive(delivered(1), now=NOW)
    machine.publish_refused(PublishRefused(SUBJECT, refused, 1), now=NOW)
    assert isinstance(machine.error, PermissionsError)
    assert (str(machine.error), machine.error.subject) == (f"{WHAT}: no", SUBJECT)
    assert (machine.done, machine.reason, len(machine.items), list(machine.wants)) == (True, None, 1, [])
    ended = fetch(1)
    ended.receive(delivered(1), now=NOW)
    ended.publish_refused(PublishRefused(SUBJECT, refused, 1), now=NOW)
    assert (ended.error, ended.reason) == (None, "limit")


def test_it_lingers_after_the_first_message() -> None:  # row 11
    machine = fetch(100, linger=0.05)
    assert len(requests(machine.wants)) == 1
    reply(machine)
    machine.handle_timeout(now=NOW + 1.0)
    machine.receive(delivered(1), now=NOW + 1.0)
    assert machine.next_timeout() == NOW + 1.05
    machine.receive(delivered(2), now=NOW + 1.04)
    assert machine.next_timeout() == NOW + 1.05
    machine.handle_timeout(now=NOW + 1.05)
    assert (machine.done, machine.reason, len(machine.items)) == (True, "linger", 2)
    assert not machine.wants


def test_no_wait_says_so_and_nothing_else() -> None:
    machine = fetch(no_wait=True)
    assert requests(machine.wants) == [("in.1.1", {"batch": 3, "no_wait": True})]


@pytest.mark.parametrize("words", ["404 No Messages", "408 Requests Pending"])
@pytest.mark.parametrize("came", [0, 2])
def test_no_wait_ends_when_there_is_nothing(words: str, came: int) -> None:
    machine = fetch(no_wait=True)
    to = reply(machine)
    for number in range(came):
        machine.receive(delivered(number), now=NOW)
    machine.receive(status(to, words), now=NOW)
    assert (machine.done, machine.reason, len(machine.items)) == (True, "no_messages", came)


def test_no_wait_asks_for_the_rest_when_the_request_has_ended_before_all_was_seen() -> None:
    """A replicated consumer ends it with a time-out after the first message that it has at hand, although more are
    stored. Only "no messages" says that there is no more."""
    machine = fetch(no_wait=True)
    machine.receive(delivered(1), now=NOW)
    machine.receive(status(reply(machine), "408 Request Timeout", (2, 0)), now=NOW)
    assert requests(machine.wants) == [("in.2.2", {"batch": 2, "no_wait": True})]
    assert not machine.done
    machine.receive(delivered(2), now=NOW)
    machine.receive(status("in.2.2", "404 No Messages"), now=NOW)
    assert (machine.done, machine.reason, len(machine.items)) == (True, "no_messages", 2)


def test_no_wait_without_an_answer_asks_once_and_says_ack_limit() -> None:  # row 12
    machine = fetch(no_wait=True)
    reply(machine)
    assert machine.next_timeout() == NOW + 0.5
    machine.handle_timeout(now=NOW + 0.5)
    assert list(machine.wants) == [Ask(INFO, 4.5)] or kinds(machine.wants) == ["ask"]
    machine.wants.clear()
    machine.answered(INFO, ConsumerCondition(ack_pending=1000, max_ack_pending=1000), now=NOW + 0.6)
    assert (machine.done, machine.reason, machine.error) == (True, "ack_limit", None)


@pytest.mark.parametrize(
    "answer", [ConsumerCondition(), ConsumerCondition(ack_pending=9), NATSTimeoutError("late"), object()]
)
def test_no_wait_without_any_reason_ends_at_its_deadline(answer: object) -> None:
    machine = fetch(no_wait=True)
    reply(machine)
    machine.handle_timeout(now=NOW + 0.5)
    machine.wants.clear()
    machine.answered(INFO, answer, now=NOW + 1)
    assert not machine.done
    assert machine.next_timeout() == NOW + 5.0
    machine.handle_timeout(now=NOW + 5.0)
    assert (machine.done, machine.reason) == (True, "no_answer")


@pytest.mark.parametrize(
    ("words", "limit", "text"),
    [
        ("409 Exceeded MaxRequestBatch of 10", 10, "asked for 50 messages at once, the consumer allows 10"),
        ("409 Exceeded MaxRequestMaxBytes of 99", 99, "asked for 1000 bytes at once, the consumer allows 99"),
        ("409 Exceeded MaxRequestExpires of 2s", None, "for a longer time, the consumer allows 2 s"),
        ("409 Exceeded MaxRequestBatch of many", None, "the consumer allows less: 409 Exceeded MaxRequestBatch"),
    ],
)
def test_a_limit_of_the_consumer_is_an_error(words: str, limit: int | None, text: str) -> None:  # rows 13 and 24
    machine = fetch(50, max_bytes=1000)
    machine.receive(status(reply(machine), words), now=NOW)
    assert machine.done
    assert isinstance(machine.error, PullLimitError)
    assert machine.error.limit == limit
    assert str(machine.error).startswith(WHAT)
    assert text in str(machine.error)
    assert machine.reason is None


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("400 Bad Request - heartbeat value too large", PullRefusedError),
        ("409 Consumer is push based", PullRefusedError),
        ("412 Required Api Level", PullRefusedError),
        ("409 Consumer Deleted", ConsumerDeletedError),
    ],
)
def test_what_does_not_pass_ends_it_with_an_error(words: str, error: type[Exception]) -> None:
    machine = fetch()
    to = reply(machine)
    machine.receive(delivered(), now=NOW)
    machine.receive(status(to, words), now=NOW)
    assert machine.done
    assert type(machine.error) is error
    assert len(machine.items) == 1


def test_another_connection_is_asked_for_the_rest() -> None:  # row 14
    machine = fetch(10, timeout=30.0)
    old = reply(machine)
    for number in range(3):
        machine.receive(delivered(number), now=NOW + 1)
    machine.connection_replaced(now=NOW + 10)
    machine.handle_timeout(now=NOW + 10)  # nothing more was unread
    assert kinds(machine.wants) == ["subscribe", "pull"]
    [(new, body)] = requests(machine.wants)
    assert (new, body["batch"], body["expires"]) == ("in.2.2", 7, 19_500_000_000)
    machine.receive(status(old, "408 Request Timeout", (7, 0)), now=NOW + 11)
    assert not machine.done
    assert machine.next_timeout() == NOW + 20.0


def test_what_came_before_another_connection_is_given() -> None:
    machine = fetch(10, timeout=30.0)
    reply(machine)
    machine.connection_replaced(now=NOW + 10)
    assert machine.next_timeout() == NOW + 10
    for number in range(4):
        machine.receive(delivered(number), now=NOW + 11)
    machine.handle_timeout(now=NOW + 11)
    [(_, body)] = requests(machine.wants)
    assert (body["batch"], len(machine.items)) == (6, 4)
    machine.connection_replaced(now=NOW + 12)
    for number in range(6):
        machine.receive(delivered(number), now=NOW + 12)
    assert (machine.done, machine.reason, list(machine.wants)) == (True, "limit", [])


@pytest.mark.parametrize("words", ["409 Leadership Change", "409 Server Shutdown", "409 Something New", "500"])
def test_what_passes_is_survived(words: str) -> None:
    machine = fetch(10)
    to = reply(machine)
    machine.receive(delivered(1), now=NOW + 1)
    machine.receive(status(to, words), now=NOW + 1)
    assert [body["batch"] for _, body in requests(machine.wants)] == [9]  # at once
    machine.receive(status(reply(machine), words), now=NOW + 1.01)
    assert not machine.wants  # and then with a pause
    assert machine.next_timeout() == NOW + 1.26
    machine.handle_timeout(now=NOW + 1.26)
    assert len(requests(machine.wants)) == 1


def test_without_quorum_it_ends_as_no_answer() -> None:  # row 66
    machine = fetch()
    now, asked = NOW, 0
    while not machine.done:
        if requests(machine.wants):
            machine.receive(status(reply(machine), "503"), now=now)
            asked += 1
        elif kinds(machine.wants) == ["ask"]:
            machine.wants.clear()
            machine.answered(INFO, NATSTimeoutError("no answer"), now=now)
        else:
            due = machine.next_timeout()
            assert due is not None
            now = due
            machine.handle_timeout(now=now)
    assert (machine.reason, machine.error, now) == ("no_answer", None, NOW + 5.0)
    assert asked == 5  # 0, 0.25, 0.75, 1.75, 3.75 s


def test_a_consumer_that_does_not_exist_is_an_error() -> None:
    machine = fetch()
    machine.receive(status(reply(machine), "503"), now=NOW)
    assert not machine.wants
    machine.handle_timeout(now=NOW + 0.25)
    machine.receive(status(reply(machine), "503"), now=NOW + 0.25)
    assert kinds(machine.wants) == ["ask"]
    machine.wants.clear()
    error = ConsumerNotFoundError("consumer not found", err_code=10014)
    machine.answered(INFO, error, now=NOW + 0.3)
    assert machine.done
    assert machine.error is error


def test_a_consumer_that_is_gone_is_another_error() -> None:
    machine = fetch()
    to = reply(machine)
    machine.receive(delivered(), now=NOW)
    machine.receive(status(to, "409 Leadership Change"), now=NOW)
    machine.answered(INFO, ConsumerNotFoundError("consumer not found", err_code=10014), now=NOW + 0.3)
    assert isinstance(machine.error, ConsumerDeletedError)


@pytest.mark.parametrize("given", [{"timeout": 0.9}, {"timeout": 5.0, "no_wait": True}])
def test_no_place_for_a_request_is_an_error_without_time_for_another(given: dict[str, Any]) -> None:  # row 24
    machine = fetch(**given)
    machine.receive(status(reply(machine), "409 Exceeded MaxWaiting"), now=NOW)
    assert isinstance(machine.error, PullLimitError)
    assert "max_waiting" in str(machine.error)
    assert machine.reason is None


@pytest.mark.parametrize("place", [False, True])
def test_no_place_for_a_request_is_asked_for_again(place: bool) -> None:  # row 24
    machine = fetch(timeout=5.0)
    times: list[float] = []
    now = NOW
    while not machine.done:
        for to, _ in requests(machine.wants):
            times.append(now)
            if place and len(times) == 3:
                machine.wants.clear()
                machine.receive(status(to, "408 Request Timeout"), now=NOW + 4.6)
            else:
                machine.receive(status(to, "409 Exceeded MaxWaiting"), now=now)
        machine.wants.clear()
        if not machine.done:
            now = machine.next_timeout() or now
            machine.handle_timeout(now=now)
    assert machine.error is None
    assert machine.reason == ("expired" if place else "max_waiting")
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [0.25, 0.5, 1.0, 2.0][: len(times) - 1]
    assert len(times) == (3 if place else 5)


def test_heartbeats_keep_it_waiting_and_silence_asks_anew() -> None:
    machine = fetch(timeout=30.0)
    to = reply(machine)
    machine.receive(status(to, "100 Idle Heartbeat"), now=NOW + 5)
    assert machine.next_timeout() == NOW + 15
    machine.receive(status(to, "100 Idle Heartbeat"), now=NOW + 10)
    machine.handle_timeout(now=NOW + 20)
    assert kinds(machine.wants) == ["ask", "subscribe", "pull"] or kinds(machine.wants) == ["subscribe", "pull", "ask"]
    [(new, body)] = requests(machine.wants)
    assert (new, body["expires"]) == ("in.2.2", 9_500_000_000)
    machine.wants.clear()
    machine.answered(INFO, ConsumerCondition(waiting=512, max_waiting=512), now=NOW + 20)
    machine.handle_timeout(now=NOW + 29.6)
    machine.wants.clear()
    machine.handle_timeout(now=NOW + 30)
    assert (machine.done, machine.reason) == (True, "max_waiting")


@pytest.mark.parametrize(
    ("timeout", "heartbeat", "asked"),
    [
        (0.5, None, None),
        (5.0, None, None),
        (10.0, None, None),  # two heart-beats would take as long
        (10.1, None, 4.8),
        (30.0, None, 5.0),
        (5.0, 1.0, 1.0),  # who asks for them gets them
        (0.4, 0.2, None),  # there is no time for two of them
    ],
)
def test_heartbeats_are_asked_for_where_they_tell_something(
    timeout: float, heartbeat: float | None, asked: float | None
) -> None:
    [(_, body)] = requests(fetch(timeout=timeout, heartbeat=heartbeat).wants)
    assert body.get("idle_heartbeat") == (None if asked is None else pytest.approx(asked * 1e9))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ConsumerCondition(), "expired"),
        (ConsumerCondition(ack_pending=9, max_ack_pending=9), "ack_limit"),
        (ConsumerCondition(waiting=512, max_waiting=512), "max_waiting"),
        (NATSTimeoutError("late"), "no_answer"),
        (None, "no_answer"),
    ],
)
def test_a_short_fetch_whose_end_does_not_come_asks_anew_and_why(answer: object, reason: str) -> None:
    machine = fetch(timeout=5.0)
    old = reply(machine)
    assert machine.next_timeout() == NOW + 4.75  # the end was due at 4.5
    machine.handle_timeout(now=NOW + 4.75)
    assert kinds(machine.wants) == ["subscribe", "pull", "ask"]
    [(new, body)] = requests(machine.wants)
    assert (new.split(".")[1], body["batch"], body["expires"]) == ("2", 3, 200_000_000)
    machine.wants.clear()
    machine.receive(status(old, "408 Request Timeout", (3, 0)), now=NOW + 4.76)
    assert not machine.done
    if answer is not None:
        machine.answered(INFO, answer, now=NOW + 4.8)
    assert machine.next_timeout() == NOW + 5.0
    machine.handle_timeout(now=NOW + 5.0)
    assert (machine.done, machine.reason, machine.error) == (True, reason, None)


def test_a_short_fetch_learns_that_its_consumer_is_gone() -> None:
    machine = fetch(timeout=2.0)
    reply(machine)
    machine.handle_timeout(now=NOW + 1.9)
    assert kinds(machine.wants) == ["subscribe", "pull", "ask"]
    error = ConsumerNotFoundError("consumer not found", err_code=10014)
    machine.answered(INFO, error, now=NOW + 1.91)
    assert machine.error is error


def test_a_message_is_a_sign_of_life_for_a_short_fetch() -> None:
    machine = fetch(timeout=5.0)
    reply(machine)
    machine.receive(delivered(), now=NOW + 1.0)
    assert machine.next_timeout() == NOW + 5.0
    machine.handle_timeout(now=NOW + 5.0)
    assert (machine.done, machine.reason) == (True, "expired")


def test_a_very_short_fetch_has_no_time_to_ask_anew() -> None:
    machine = fetch(timeout=0.9)
    reply(machine)
    assert machine.next_timeout() == NOW + 0.9


def test_signs_of_life_make_a_lost_end_expired() -> None:
    machine = fetch(timeout=5.0)
    machine.receive(status(reply(machine), "100 Idle Heartbeat"), now=NOW + 2.5)
    machine.handle_timeout(now=NOW + 5.0)
    assert (machine.done, machine.reason) == (True, "expired")


def test_who_looks_late_reads_first_what_has_come() -> None:
    machine = fetch(timeout=0.3)
    to = reply(machine)
    machine.handle_timeout(now=NOW + 60)
    assert not machine.done
    machine.receive(delivered(), now=NOW + 60)
    machine.receive(status(to, "408 Request Timeout", (2, 0)), now=NOW + 60)
    assert (machine.done, machine.reason, len(machine.items)) == (True, "expired", 1)
    machine = fetch(timeout=0.3)
    reply(machine)
    machine.handle_timeout(now=NOW + 60)
    due = machine.next_timeout()
    assert due is not None
    machine.handle_timeout(now=due)
    assert (machine.done, machine.reason) == (True, "no_answer")


def test_bytes_end_it() -> None:
    machine = fetch(None, max_bytes=1000)
    assert requests(machine.wants)[0][1]["batch"] == 1_000_000
    to = reply(machine)
    machine.receive(delivered(data=b"x" * 500), now=NOW)
    machine.receive(status(to, "409 Message Size Exceeds MaxBytes", (999_999, 400)), now=NOW)
    assert (machine.done, machine.reason) == (True, "max_bytes")


def test_bytes_that_are_used_up_exactly_end_it_without_a_word() -> None:
    message = delivered()
    assert message.reply is not None
    size = len(message.subject) + len(message.reply) + len(message.data)
    machine = fetch(None, max_bytes=2 * size)
    reply(machine)
    machine.receive(message, now=NOW)
    machine.connection_replaced(now=NOW)
    machine.handle_timeout(now=NOW)  # nothing more was unread
    assert requests(machine.wants)[0][1]["max_bytes"] == size
    machine.receive(message, now=NOW)
    assert (machine.done, machine.reason, len(machine.items)) == (True, "max_bytes", 2)


def test_a_message_that_is_larger_than_all_bytes_is_an_error() -> None:
    machine = fetch(None, max_bytes=10)
    machine.receive(status(reply(machine), "409 Message Size Exceeds MaxBytes", (10**6, 10)), now=NOW)
    assert isinstance(machine.error, PullRefusedError)
    assert "max_bytes=10" in str(machine.error)


def test_a_batch_that_is_complete_with_bytes_left() -> None:
    machine = fetch(1, max_bytes=10_000)
    to = reply(machine)
    machine.receive(delivered(), now=NOW)
    assert machine.reason == "limit"
    machine.receive(status(to, "409 Batch Completed", (0, 9000)), now=NOW)
    assert machine.reason == "limit"


def test_the_pin_is_kept_and_given_up() -> None:
    machine = fetch(priority=Priority(group="g"), pin="old")
    assert requests(machine.wants)[0][1]["id"] == "old"
    machine.receive(status(reply(machine), "423 Nats-Pin-Id mismatch"), now=NOW)
    assert "id" not in requests(machine.wants)[0][1]
    assert machine.pin is None
    machine.receive(delivered(block=b"NATS/1.0\r\nNats-Pin-Id: new\r\n\r\n"), now=NOW)
    assert machine.pin == "new"


def test_a_long_fetch_of_a_pinned_client_asks_again_in_time() -> None:
    machine = fetch(priority=Priority(group="g"), pin="old", priority_timeout=4.0, timeout=60.0)
    now = NOW
    for _ in range(4):
        [(to, body)] = requests(machine.wants)
        assert (body["id"], body["expires"]) == ("old", 2_000_000_000)
        machine.wants.clear()
        now += 2.0
        machine.receive(status(to, "408 Request Timeout", (3, 0)), now=now)
    assert not machine.done


@pytest.mark.parametrize(
    "message",
    [
        status("in.9.9", "409 Consumer Deleted"),
        status("in.1.1", "200 hello", data=b"x"),
        Message("in.1.1", 1, None, b"hello"),
        Message("elsewhere", 1, None, b"", b"\xff"),
    ],
)
def test_what_is_not_for_it_is_ignored(message: Message) -> None:
    machine = fetch()
    machine.wants.clear()
    machine.receive(message, now=NOW)
    assert (machine.done, len(machine.items), len(machine.wants)) == (False, 0, 0)


def test_a_hostile_server_is_not_asked_in_a_loop() -> None:
    machine = fetch(timeout=20.0)
    asked = 0
    now = NOW
    while not machine.done and asked < 1000:
        for to, _ in requests(machine.wants):
            asked += 1
            machine.wants.clear()
            machine.receive(status(to, "408 Request Timeout", (3, 0)), now=now)
        now += 0.01
        machine.handle_timeout(now=now)
    assert asked < 12


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"batch": 0}, ValueError),
        ({"batch": True}, TypeError),
        ({"batch": None}, TypeError),
        ({"max_bytes": 0}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"linger": 0}, ValueError),
        ({"heartbeat": 2.6}, ValueError),
        ({"heartbeat": 0}, ValueError),
        ({"heartbeat": 1.0, "no_wait": True}, ValueError),
    ],
)
def test_numbers_that_cannot_be_used(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        fetch(**given)


@pytest.mark.parametrize(
    ("state", "config", "at_ack_limit", "at_waiting_limit"),
    [
        ({}, {}, False, False),
        ({"num_ack_pending": 9, "num_waiting": 9}, {}, False, False),
        ({"num_ack_pending": 9, "num_waiting": 9}, {"max_ack_pending": -1, "max_waiting": 0}, False, False),
        ({"num_ack_pending": 9, "num_waiting": 9}, {"max_ack_pending": 10, "max_waiting": 10}, False, False),
        ({"num_ack_pending": 10, "num_waiting": 9}, {"max_ack_pending": 10, "max_waiting": 10}, True, False),
        ({"num_ack_pending": 0, "num_waiting": 11}, {"max_ack_pending": 10, "max_waiting": 10}, False, True),
    ],
)
def test_what_a_consumers_info_explains(
    state: dict[str, Any], config: dict[str, Any], at_ack_limit: bool, at_waiting_limit: bool
) -> None:
    info = ConsumerInfo(stream_name="S", name="C", config=ConsumerConfig(**config), **state)
    condition = condition_of(info)
    assert (condition.at_ack_limit, condition.at_waiting_limit) == (at_ack_limit, at_waiting_limit)
