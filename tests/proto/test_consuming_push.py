"""Push consumers: what is subscribed to, what is answered, what silence and a new connection lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nats_proto import Ask, Message, Publish, Subscribe
from nats_proto._consuming.push import Push
from nats_proto._consuming.push_calls import push_reader
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.consumer_info import ConsumerInfo
from nats_proto._jetstream.errors import ConsumerDeletedError, ConsumerInUseError, JetStreamError, api_error
from nats_proto.errors import NATSError, NATSTimeoutError, PermissionsError
from tests.proto.consuming import NOW, Inboxes

GONE = api_error("info", {"code": 404, "err_code": 10014, "description": "consumer not found"})


class Reading:
    """The machine, with the server's part played by the test."""

    def __init__(self, on_missing: Any = "raise") -> None:
        self.now = NOW
        api = JetStreamApi(now=lambda: self.now, new_inbox=Inboxes(), server_version=lambda: "2.15.1")
        self.found: list[ConsumerInfo] = []
        make: Callable[[Message, float], bytes] = lambda message, _: bytes(message.data)  # noqa: E731
        self.machine: Push[Message, bytes] = push_reader(
            api, "S", "P", make, on_missing=on_missing, found=self.found.append, now=NOW
        )
        self.subscribed: list[Subscribe] = []
        self.asked: list[Ask] = []
        self.sent: list[Publish] = []
        self.look()

    def look(self) -> None:
        while self.machine.wants:
            want = self.machine.wants.popleft()
            if isinstance(want, Subscribe):
                self.subscribed.append(want)
            elif isinstance(want, Ask):
                self.asked.append(want)
            else:
                self.sent.append(want)

    def answer(self, answer: NATSError | None = None, *, push_bound: bool = False, **config: Any) -> None:
        ask = self.asked[-1]
        result: object = answer
        if answer is None:
            config = {"deliver_subject": "to.p", "ack_policy": "none", **config}
            body = {"stream_name": "S", "name": "P", "config": config, "push_bound": push_bound}
            result = ask.api.decode(Message("in", 1, None, msgspec.json.encode(body), None))
        self.machine.answered(ask.api, result, now=self.now)
        self.look()

    def give(self, number: int) -> None:
        reply = f"$JS.ACK.S.P.1.{number}.{number}.1700000000000000000.0"
        self.machine.receive(Message("a", 1, reply, b"%d" % number, None), now=self.now)

    def say(self, words: str, reply: str | None = None, **headers: str) -> None:
        lines = [f"NATS/1.0 {words}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        block = "\r\n".join([*lines, "", ""]).encode()
        self.machine.receive(Message("to.p", 1, reply, b"", block), now=self.now)
        self.look()

    def wait(self) -> None:
        due = self.machine.next_timeout()
        assert due is not None
        self.now = due
        self.machine.handle_timeout(now=self.now)
        self.look()

    @property
    def warned(self) -> list[str]:
        kinds = [warning.kind for warning in self.machine.warnings]
        self.machine.warnings.clear()
        return list(kinds)


def reading(on_missing: Any = "raise", **config: Any) -> Reading:
    made = Reading(on_missing)
    made.answer(**config)
    return made


BEAT = {"idle_heartbeat": 1_000_000_000}


@pytest.mark.parametrize(
    ("config", "subscribe"),
    [
        ({}, (None, None, None, None)),
        ({"deliver_group": "g"}, ("g", None, None, None)),
        ({"flow_control": True}, (None, 0, 0, None)),
        ({"ack_policy": "explicit", "max_ack_pending": 1000}, (None, 2000, 0, b"-NAK")),
        ({"ack_policy": "explicit", "max_ack_pending": 1000, "flow_control": True}, (None, 0, 0, b"-NAK")),
        ({"ack_policy": "explicit", "max_ack_pending": -1}, (None, None, None, b"-NAK")),
    ],
)
def test_it_subscribes_to_what_the_consumer_says(config: dict[str, Any], subscribe: tuple[object, ...]) -> None:
    read = Reading()
    assert read.asked[0].api.subject == "$JS.API.CONSUMER.INFO.S.P"
    read.answer(**config)
    (_, last) = read.subscribed
    assert last.subject == "to.p"
    assert (last.queue, last.max_pending_msgs, last.max_pending_bytes, last.hand_back) == subscribe
    assert len(read.found) == 1
    read.give(1)
    assert list(read.machine.items) == [b"1"]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"push_bound": True}, ConsumerInUseError),
        ({"deliver_subject": None}, JetStreamError),
        ({"deliver_subject": "a b"}, JetStreamError),
        ({"deliver_subject": "a.>"}, JetStreamError),
    ],
)
def test_what_cannot_be_read(config: dict[str, Any], error: type[NATSError]) -> None:
    read = reading(**config)
    assert type(read.machine.error) is error
    assert read.machine.done


def test_a_group_shares() -> None:
    assert not reading(push_bound=True, deliver_group="g").machine.done


@pytest.mark.parametrize(
    ("reply", "headers", "answered"),
    [
        ("$JS.FC.S.P.1", {}, ["$JS.FC.S.P.1"]),
        (None, {"Nats_Consumer_Stalled": "$JS.FC.S.P.2"}, ["$JS.FC.S.P.2"]),
        (None, {"Nats_Last_Consumer": "4"}, []),
        ("orders.new", {}, []),
        (None, {"Nats_Consumer_Stalled": "$JS.API.STREAM.DELETE.S"}, []),
        ("$JS.FC.>", {}, []),
        ("$JS.FC." + "x" * 5000, {}, []),
    ],
)
def test_flow_control_is_answered_and_nothing_else(
    reply: str | None, headers: dict[str, str], answered: list[str]
) -> None:
    read = reading()
    read.say("100 FlowControl Request" if reply else "100 Idle Heartbeat", reply, **headers)
    assert [(want.subject, want.data, want.reply) for want in read.sent] == [(to, b"", None) for to in answered]
    assert not read.machine.items


def test_silence_asks_and_life_goes_on() -> None:
    read = reading(**BEAT)
    read.wait()
    assert read.now == NOW + 2.0
    assert read.warned == ["no_heartbeat"]
    assert len(read.asked) == 2
    read.answer(**BEAT, push_bound=True)  # by ourselves
    assert len(read.subscribed) == 2
    read.wait()
    assert read.warned == []  # told once in a row
    read.answer(**BEAT)
    read.say("100 Idle Heartbeat")
    read.wait()
    assert read.warned == ["no_heartbeat"]


def test_late_time_outs_wait_once_more() -> None:
    read = reading(**BEAT)
    read.machine.handle_timeout(now=NOW + 60.0)
    assert read.warned == []
    assert read.machine.next_timeout() == NOW + 61.0
    read.machine.handle_timeout(now=NOW + 61.0)
    assert read.warned == ["no_heartbeat"]


def test_without_heart_beats_no_clock_runs() -> None:
    assert reading().machine.next_timeout() is None


@pytest.mark.parametrize("config", [{}, BEAT])
def test_a_new_connection_asks(config: dict[str, Any]) -> None:
    read = reading(**config)
    read.machine.connection_replaced(now=NOW + 1)
    read.look()
    assert len(read.asked) == 2
    read.answer(GONE)
    assert isinstance(read.machine.error, ConsumerDeletedError)


def test_nobody_could_say() -> None:
    read = reading()
    read.machine.connection_replaced(now=NOW)
    read.look()
    read.answer(NATSTimeoutError("late"))
    assert not read.machine.done
    read.wait()
    read.answer(push_bound=True)
    assert read.machine.next_timeout() is None
    assert len(read.subscribed) == 2


def test_waiting_for_one_that_is_gone() -> None:
    read = reading("wait", **BEAT)
    read.wait()
    for _ in range(10):
        read.answer(GONE)
        before = read.now
        read.wait()
        assert 0.2 <= read.now - before <= 5.0
    read.answer(deliver_subject="to.other")
    assert read.warned == ["no_heartbeat", "consumer_missing", "consumer_recreated"]
    assert read.subscribed[-1].subject == "to.other"


@pytest.mark.parametrize(("policy", "start"), [("none", 4), ("explicit", None)])
def test_creating_it_again(policy: str, start: int | None) -> None:
    read = reading("recreate", ack_policy=policy, **BEAT)
    read.give(3)
    read.wait()
    read.answer(GONE)
    assert read.asked[-1].api.subject == "$JS.API.CONSUMER.CREATE.S.P"
    config = msgspec.json.decode(read.asked[-1].api.payload)["config"]
    assert config["deliver_subject"] == "to.p"
    assert config.get("opt_start_seq") == start
    read.answer(NATSTimeoutError("late"))
    read.wait()
    assert read.asked[-1].api.subject == "$JS.API.CONSUMER.CREATE.S.P"
    read.answer(**BEAT)
    assert read.warned == ["no_heartbeat", "consumer_missing", "consumer_recreated"]
    assert not read.machine.done


@pytest.mark.parametrize(
    ("on_missing", "error"),
    [
        ("recreate", api_error("create", {"code": 400, "err_code": 10025, "description": "no"})),
        ("wait", PermissionsError("no")),
    ],
)
def test_what_is_for_good(on_missing: str, error: NATSError) -> None:
    read = reading(on_missing, **BEAT)
    read.wait()
    read.answer(GONE)
    if on_missing == "wait":
        read.wait()
    read.answer(error)
    assert read.machine.error is error


@pytest.mark.parametrize("block", [b"NATS/1.0 404 x\r\n\r\n", b"NATS/1.0 abc\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"])
def test_whatever_comes_nothing_is_raised(block: bytes) -> None:
    read = reading()
    for reply in (None, "x", "$JS.ACK."):
        read.machine.receive(Message("to.p", 1, reply, b"", block), now=NOW)
    assert not read.machine.done


def test_after_its_end_nothing_counts() -> None:
    read = reading(**BEAT)
    read.wait()
    ask = read.asked[-1].api
    read.answer(GONE)
    error = read.machine.error
    read.give(1)
    read.machine.answered(ask, GONE, now=NOW)
    read.machine.connection_replaced(now=NOW)
    read.machine.handle_timeout(now=NOW + 60.0)
    assert read.machine.next_timeout() is None
    assert (list(read.machine.items), list(read.machine.wants), read.machine.error) == ([], [], error)


def test_what_comes_before_it_is_known_is_not_the_consumers() -> None:
    read = Reading()
    read.give(1)
    assert not read.machine.items


def test_only_the_last_question_counts() -> None:
    read = Reading()
    first = read.asked[0].api
    read.answer(**BEAT)
    read.machine.answered(first, GONE, now=NOW)
    read.wait()
    read.machine.answered(read.asked[-1].api, None, now=NOW)
    assert not read.machine.done


def test_a_new_connection_while_it_is_missing_asks_at_once() -> None:
    read = reading("wait", **BEAT)
    read.wait()
    read.answer(GONE)
    asked = len(read.asked)
    read.machine.connection_replaced(now=read.now)
    read.look()
    assert len(read.asked) == asked + 1
    read.answer(**BEAT)
    assert read.warned == ["no_heartbeat", "consumer_missing", "consumer_recreated"]


def test_nothing_is_overdue_yet() -> None:
    read = reading(**BEAT)
    read.machine.handle_timeout(now=NOW + 1.9)
    assert read.warned == []


def test_a_first_question_that_nobody_answers() -> None:
    read = Reading()
    late = NATSTimeoutError("late")
    read.answer(late)
    assert read.machine.error is late
    read = Reading("wait")
    read.answer(late)
    read.wait()
    read.answer()
    assert read.subscribed[-1].subject == "to.p"


@pytest.mark.parametrize("on_missing", ["", "create", None])
def test_what_is_no_choice(on_missing: Any) -> None:
    with pytest.raises(ValueError, match="on_missing must be"):
        Reading(on_missing)
