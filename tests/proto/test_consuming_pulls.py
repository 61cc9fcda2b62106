"""The accounts of requests: what is outstanding, what a server's words change about it, and the clock."""

from __future__ import annotations

import msgspec
import pytest

from nats_proto import Message, Publish, Subscribe
from nats_proto._consuming.options import Priority
from nats_proto._consuming.pacing import Pacing
from nats_proto._consuming.pulls import GRACE, MAX_OPEN, PullRequest, Pulls
from nats_proto._consuming.sizes import size_on_wire
from tests.proto.consuming import NOW, SUBJECT, delivered


def begun(*, priority: Priority | None = None, pin: str | None = None) -> Pulls:
    pulls = Pulls(SUBJECT, priority=priority, pin=pin)
    pulls.subscribe("in.1")
    return pulls


def ask(pulls: Pulls, batch: int, *, now: float = NOW, max_bytes: int = 0) -> PullRequest:
    want = pulls.ask(batch, now=now, expires=30.0, heartbeat=5.0, max_bytes=max_bytes)
    assert want.reply is not None
    request = pulls.find(want.reply)
    assert request is not None
    return request


def body(want: Publish) -> dict[str, object]:
    return msgspec.json.decode(bytes(want.data), type=dict[str, object])


def test_the_subscription_hands_back_and_has_no_bounds_of_its_own() -> None:
    subscribe = Pulls(SUBJECT).subscribe("in.7")
    assert subscribe == Subscribe("in.7.*", max_pending_msgs=0, max_pending_bytes=0, hand_back=b"-NAK", asks=SUBJECT)


def test_an_inbox_may_be_for_one_request() -> None:
    pulls = Pulls(SUBJECT)
    assert pulls.subscribe("in.1", single=True).subject == "in.1.1"
    assert pulls.may_ask
    assert ask(pulls, 1).reply == "in.1.1"
    assert not pulls.may_ask
    pulls.write_off()
    assert not pulls.may_ask
    assert pulls.subscribe("in.2", single=True).subject == "in.2.2"
    assert pulls.may_ask
    assert pulls.subscribe("in.3").subject == "in.3.*"
    assert [ask(pulls, 1).reply for _ in range(2)] == ["in.3.2", "in.3.3"]
    assert pulls.may_ask


def test_each_request_has_a_reply_subject_of_its_own_for_ever() -> None:
    pulls = begun()
    replies = [ask(pulls, 1).reply for _ in range(3)]
    pulls.write_off()
    replies += [ask(pulls, 1).reply]
    assert replies == ["in.1.1", "in.1.2", "in.1.3", "in.1.4"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"expires": 30.0}, {"expires": 30_000_000_000}),
        ({"expires": 0.0, "no_wait": True}, {"no_wait": True}),
        ({"expires": 0.27, "heartbeat": 0.135}, {"expires": 270_000_000, "idle_heartbeat": 135_000_000}),
        ({"expires": 1.0, "max_bytes": 9}, {"expires": 1_000_000_000, "max_bytes": 9}),
    ],
)
def test_a_request_says_what_was_given_and_nothing_else(asked: dict[str, float], expected: dict[str, object]) -> None:
    assert body(begun().ask(7, now=NOW, **asked)) == {"batch": 7, **expected}  # type: ignore[arg-type]  # a table


@pytest.mark.parametrize("expires", [0.3, 1 / 3, 0.1 + 0.2, 1.7, 30.0, 5e-3])
def test_two_heartbeats_are_never_longer_than_the_request(expires: float) -> None:
    said = body(begun().ask(1, now=NOW, expires=expires, heartbeat=expires / 2))
    assert isinstance(said["expires"], int)
    assert isinstance(said["idle_heartbeat"], int)
    assert 2 * said["idle_heartbeat"] <= said["expires"]


def test_priority_and_pin() -> None:
    priority = Priority(group="g", min_pending=5, priority=0)
    want = begun(priority=priority, pin="abc").ask(1, now=NOW, expires=1.0)
    assert body(want) == {
        "batch": 1,
        "expires": 1_000_000_000,
        "group": "g",
        "min_pending": 5,
        "priority": 0,
        "id": "abc",
    }


def test_a_request_is_encoded_once() -> None:
    pulls = begun(priority=Priority(group="g"))
    first, second = (pulls.ask(5, now=NOW, expires=30.0) for _ in range(2))
    assert first.data is second.data
    pulls.pin = "other"
    assert pulls.ask(5, now=NOW, expires=30.0).data != first.data
    for batch in range(1, 1000):
        pulls.ask(batch, now=NOW, expires=30.0)
    assert len(pulls._payloads) <= 128


@pytest.mark.parametrize(
    ("unused", "left"),
    [(0, 50), (20, 30), (50, 0), (51, 0), (10**18, 0)],
)
def test_what_was_left_of_a_request_is_given_back(unused: int, left: int) -> None:
    pulls = begun()
    first, _ = ask(pulls, 50), ask(pulls, 50)
    pulls.messages -= 50  # 25 of each, maybe
    pulls.end(first, unused, 0)
    assert pulls.messages == left


def test_without_a_remainder_what_is_open_bounds_what_is_outstanding() -> None:
    pulls = begun()
    first, second = ask(pulls, 50), ask(pulls, 30)
    pulls.messages -= 40  # of which, nobody knows
    pulls.end(first, None, None)
    assert pulls.messages == 30
    pulls.end(second, None, None)
    assert pulls.messages == 0
    assert not pulls.any_open


def test_bytes_are_kept_alike() -> None:
    pulls = begun()
    first, second = ask(pulls, 9, max_bytes=1000), ask(pulls, 9, max_bytes=500)
    assert pulls.bytes == 1500
    pulls.bytes -= 300
    pulls.end(first, 9, 800)
    assert (pulls.messages, pulls.bytes) == (9, 400)
    pulls.end(second, 9, 10**18)
    assert (pulls.messages, pulls.bytes) == (0, 0)


def test_a_written_off_request_is_unknown() -> None:
    pulls = begun()
    reply = ask(pulls, 5, max_bytes=10).reply
    pulls.subscribe("in.2")
    assert pulls.find(reply) is None
    assert (pulls.messages, pulls.bytes, pulls.next_timeout()) == (0, 0, None)


def test_requests_that_are_remembered_are_bounded() -> None:
    pulls = begun()
    for _ in range(10_000):
        pulls.messages -= 1
        ask(pulls, 1)
    assert len(pulls._open) == MAX_OPEN
    assert pulls.find("in.1.10000") is not None


def test_the_end_of_a_request_may_be_late_and_is_then_lost() -> None:
    pulls = begun()
    ask(pulls, 5)
    ask(pulls, 3, now=NOW + 10)
    assert not pulls.expire(now=NOW + 30 + GRACE - 0.01)
    assert pulls.expire(now=NOW + 30 + GRACE)
    assert pulls.messages == 3


def test_the_clock_runs_while_something_is_open() -> None:
    pulls = begun()
    assert pulls.next_timeout() is None
    assert not pulls.silent(now=NOW + 1000)
    request = ask(pulls, 5)
    assert pulls.next_timeout() == NOW + 10.0
    ask(pulls, 5, now=NOW + 4)  # to ask once more is no sign of life
    assert pulls.next_timeout() == NOW + 10.0
    pulls.heard = NOW + 7
    assert pulls.next_timeout() == NOW + 17.0
    assert not pulls.silent(now=NOW + 16.9)
    assert pulls.silent(now=NOW + 17.0)
    pulls.end(request, 5, 0)
    assert pulls.next_timeout() == NOW + 17.0
    pulls.write_off()
    assert pulls.next_timeout() is None


def test_who_looks_late_waits_once_more_for_one_heartbeat() -> None:
    pulls = begun()
    ask(pulls, 5)
    assert not pulls.spare(now=NOW + 10.01)  # somebody waited, and nothing came
    assert pulls.spare(now=NOW + 12.0)
    assert pulls.next_timeout() == NOW + 17.0
    assert not pulls.spare(now=NOW + 60.0)
    pulls.heard = NOW + 61.0
    assert pulls.next_timeout() == NOW + 31.0  # the end of the request is overdue, too
    assert pulls.spare(now=NOW + 61.0)


@pytest.mark.parametrize(
    ("block", "before", "after"),
    [
        (None, None, None),
        (b"NATS/1.0\r\nNats-Pin-Id: abc\r\n\r\n", None, "abc"),
        (b"NATS/1.0\r\nNats-Pin-Id: abc\r\n\r\n", "abc", "abc"),
        (b"NATS/1.0\r\nNats-Pin-Id: abcd\r\n\r\n", "abc", "abcd"),
        (b"NATS/1.0\r\nX: y\r\n\r\n", "abc", "abc"),
        (b"NATS/1.0\r\nNats-Pin-Id: \r\n\r\n", "abc", "abc"),
        (b"NATS/1.0\r\nNats-Pin-Id: \xff\r\n\r\n", "abc", "abc"),
        (b"NATS/1.0\r\nNats-Pin-Id: " + b"x" * 300 + b"\r\n\r\n", "abc", "abc"),
    ],
)
def test_the_pin_of_a_message(block: bytes | None, before: str | None, after: str | None) -> None:
    pulls = begun(priority=Priority(group="g"), pin=before)
    assert pulls.take_pin(delivered(block=block)) == (before != after)
    assert pulls.pin == after


@pytest.mark.parametrize(
    ("message", "pin", "size"),
    [
        (Message("abc", 1, "reply", b"12345678"), None, 16),
        (Message("abc", 1, "reply", b"", b"NATS/1.0\r\nA: b\r\n\r\n"), None, 26),
        (Message("\u00fc\udcff", 1, None, b""), None, 3),
        (Message("abc", 1, "reply", b"", b"NATS/1.0\r\nNats-Pin-Id: xyz\r\n\r\n"), "xyz", 8),
        (Message("abc", 1, "reply", b"", b"NATS/1.0\r\nA: b\r\nNats-Pin-Id: xyz\r\n\r\n"), "xyz", 26),
    ],
)
def test_a_message_counts_as_on_the_server(message: Message, pin: str | None, size: int) -> None:
    assert size_on_wire(message, pin) == size


@pytest.mark.parametrize(
    "fields",
    [
        {"group": ""},
        {"group": "g", "min_pending": 0},
        {"group": "g", "min_ack_pending": -1},
        {"group": "g", "priority": 10},
        {"group": "g", "priority": -1},
    ],
)
def test_a_priority_that_no_server_takes(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"group|min_|priority"):
        Priority(**fields)  # type: ignore[arg-type]  # a table


def test_a_group_that_is_no_text() -> None:
    with pytest.raises(TypeError, match="group"):
        Priority(group=b"g")  # type: ignore[arg-type]  # on purpose


def test_pauses_grow_until_there_is_a_sign_of_life() -> None:
    pacing = Pacing()
    pauses = [pacing.failed(now=NOW + step / 10, sent=NOW + step / 10, heard=0.0) for step in range(9)]
    assert pauses == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert pacing.failed(now=NOW + 2, sent=NOW + 2, heard=NOW + 1.5) == 0.0
    assert pacing.failed(now=NOW + 3, sent=NOW + 3, heard=NOW + 1.5) == 0.25


def test_the_first_failure_may_take_a_pause() -> None:
    pacing = Pacing()
    assert [pacing.failed(now=NOW, sent=NOW, heard=0.0, at_once=False) for _ in range(3)] == [0.25, 0.5, 1.0]


def test_a_request_that_has_waited_is_followed_at_once() -> None:
    pacing = Pacing()
    assert [pacing.failed(now=NOW + 30 * n, sent=NOW + 30 * n - 1, heard=0.0) for n in range(5)] == [0.0] * 5
