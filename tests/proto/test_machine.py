"""What both drivers decide about a machine, and a machine run without any client: by a model of a driver."""

from __future__ import annotations

import random
from collections import deque

import pytest

from nats_proto import (
    ApiCall,
    Ask,
    CaughtUp,
    Conductor,
    ConnectionReplaced,
    Message,
    Publish,
    PublishDropped,
    PublishRefused,
    ReplyReceived,
    RequestFailed,
    Subscribe,
)
from nats_proto._calls.machine import NO_ROOM
from nats_proto.errors import NATSError, NATSTimeoutError, NoRespondersError, PermissionsError
from tests.machines import IDLE, SERVICE, Numbers, Refused, request_of

NOW = 100.0


def inboxes() -> deque[str]:
    return deque(f"inbox.{n}" for n in range(100))


def numbers(end: int = 3) -> Numbers:
    return Numbers(end, inboxes().popleft, now=NOW)


def answer(data: bytes) -> Message:
    return Message("reply", 9, None, data)


def ask(timeout: float = 5.0) -> Ask:
    return Ask(request_of(0, "inbox.0"), timeout)


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        (ReplyReceived(1, answer(b"0")), 0),
        (ReplyReceived(1, answer(b"no")), Refused),
        (RequestFailed(1, NoRespondersError("nobody", SERVICE)), NoRespondersError),
    ],
)
def test_an_answer_is_told_as_what_it_means(mark: ReplyReceived | RequestFailed, told: object) -> None:
    machine = numbers()
    conductor = Conductor(machine)
    conductor.asked(1, ask(), now=NOW)
    conductor.marked(mark, now=NOW)
    (answered,) = machine.answers
    assert answered == told if isinstance(told, int) else type(answered) is told
    conductor.marked(mark, now=NOW)  # it is told once
    assert len(machine.answers) == 1


def test_an_answer_to_a_call_that_is_not_known_is_told_to_nobody() -> None:
    machine = numbers()
    Conductor(machine).marked(ReplyReceived(1, answer(b"0")), now=NOW)
    assert machine.answers == []


def test_a_call_has_its_time() -> None:
    machine = numbers()
    conductor = Conductor(machine)
    assert conductor.next_timeout() == conductor.next_timeout(NOW + 100.0) == NOW + IDLE
    assert conductor.next_timeout(NOW + 0.05) == NOW + 0.05
    conductor.asked(1, ask(0.1), now=NOW)
    conductor.asked(2, ask(0.2), now=NOW)
    assert conductor.next_timeout() == conductor.next_timeout(NOW + 0.2) == NOW + 0.1
    assert conductor.next_timeout(NOW + 0.05) == NOW + 0.05
    conductor.handle_timeout(now=NOW + 0.09)
    assert (machine.answers, conductor.expired) == ([], [])
    conductor.handle_timeout(now=NOW + 0.1)
    (error,) = machine.answers
    assert isinstance(error, NATSTimeoutError)
    assert str(error) == "start numbers: no answer within 0.1 s"
    assert error.outcome == "unknown"
    assert conductor.expired == [1]
    assert conductor.next_timeout() == NOW + 0.2
    conductor.marked(ReplyReceived(1, answer(b"0")), now=NOW + 0.15)  # too late
    assert len(machine.answers) == 1


def test_another_subscription_makes_the_answers_for_the_one_before_void() -> None:
    machine = numbers()
    conductor = Conductor(machine)
    conductor.asked(1, ask(), now=NOW)
    conductor.resubscribed()
    assert conductor.expired == [1]
    conductor.marked(ReplyReceived(1, answer(b"0")), now=NOW)
    conductor.handle_timeout(now=NOW + 0.1)
    assert machine.answers == []


@pytest.mark.parametrize(
    ("steps", "may_wait"),
    [
        ((), False),
        (("resubscribed",), False),
        (("published",), True),
        (("asked",), True),
        # Another subscription, and a call that was given up, take nothing back: the machine has begun, and goes on.
        (("published", "resubscribed"), True),
        (("asked", "resubscribed"), True),
        (("asked", "expired"), True),
    ],
)
def test_without_connection_and_room_who_has_begun_goes_on(steps: tuple[str, ...], may_wait: bool) -> None:
    conductor = Conductor(numbers())
    for step in steps:
        match step:
            case "published":
                conductor.published()
            case "asked":
                conductor.asked(1, ask(0.1), now=NOW)
            case "expired":
                conductor.handle_timeout(now=NOW + 0.1)
            case _:
                conductor.resubscribed()
    assert conductor.may_wait_for_connection() is may_wait


def test_a_new_connection_is_told() -> None:
    machine = numbers()
    Conductor(machine).marked(ConnectionReplaced(), now=NOW)
    assert machine.replaced == 1


class Hearing(Numbers):
    """The machine for the tests, with publishes of its own."""

    def publish_dropped(self, reply: str, error: NATSError, *, now: float) -> None:
        self.answers.append((reply, error, now))

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        self.answers.append((refused, now))


def test_a_dropped_publish_is_told_to_a_machine_that_wants_to_know() -> None:
    mark = PublishDropped("inbox.1", NoRespondersError("nobody", SERVICE))
    others = numbers()
    Conductor(others).marked(mark, now=NOW)
    assert others.answers == []
    hearing = Hearing(3, inboxes().popleft, now=NOW)
    Conductor(hearing).marked(mark, now=NOW)
    assert hearing.answers == [("inbox.1", mark.error, NOW)]


class Catching(Numbers):
    """A machine that wants to know when all has come."""

    def caught_up(self, number: int, *, now: float) -> None:
        self.answers.append((number, now))


def test_who_wants_to_know_hears_that_all_has_come() -> None:
    Conductor(numbers()).marked(CaughtUp(7), now=NOW)
    catching = Catching(3, inboxes().popleft, now=NOW)
    Conductor(catching).marked(CaughtUp(7), now=NOW)
    assert catching.answers == [(7, NOW)]


def test_a_refused_publish_is_told_to_a_machine_that_wants_to_know() -> None:
    mark = PublishRefused("jobs", PermissionsError("no"), 3)
    others = numbers()
    Conductor(others).marked(mark, now=NOW)
    assert others.answers == []
    hearing = Hearing(3, inboxes().popleft, now=NOW)
    Conductor(hearing).marked(mark, now=NOW)
    assert hearing.answers == [(mark, NOW)]


def test_what_found_no_room_is_tried_again_after_a_moment() -> None:
    machine = numbers()
    conductor = Conductor(machine)
    machine.wants.append(ask())
    assert conductor.next_look(now=NOW) == NOW + NO_ROOM
    assert conductor.next_look(NOW + 2 * NO_ROOM, now=NOW) == NOW + NO_ROOM
    assert conductor.next_look(NOW + NO_ROOM / 2, now=NOW) == NOW + NO_ROOM / 2
    machine.wants.clear()
    for deadline in (None, NOW + 2 * NO_ROOM):
        assert conductor.next_look(deadline, now=NOW) == conductor.next_timeout(deadline)


@pytest.mark.parametrize("subscribed", [True, False])
def test_what_nobody_waits_for_any_more_is_late(subscribed: bool) -> None:
    conductor = Conductor(numbers())
    asked: list[tuple[str, float]] = []

    def awaits(reply: str, now: float) -> bool:
        asked.append((reply, now))
        return now < NOW + 1.0

    conductor.subscribed(Subscribe("inbox.*", awaits=awaits if subscribed else None))
    awaited = Publish("s", b"x", "inbox.1")
    assert not conductor.is_late(awaited, now=NOW)
    assert conductor.is_late(awaited, now=NOW + 1.0) is subscribed
    assert asked == ([("inbox.1", NOW), ("inbox.1", NOW + 1.0)] if subscribed else [])
    for other in (Publish("s"), ask(), Subscribe("another")):
        assert not conductor.is_late(other, now=NOW + 1.0)
    conductor.subscribed(Subscribe("another"))
    assert not conductor.is_late(awaited, now=NOW + 1.0)


def test_an_api_call_is_a_step_of_an_operation() -> None:
    call: ApiCall[object] = request_of(7, "inbox")
    steps = call.run(timeout=2.0)
    effect = next(steps)
    assert (effect.subject, effect.data, effect.timeout) == (SERVICE, b"7 inbox", 2.0)  # type: ignore[union-attr]
    with pytest.raises(StopIteration) as end:
        steps.send(answer(b"7"))
    assert end.value.value == 7
    steps = call.run()
    next(steps)
    with pytest.raises(Refused):
        steps.send(answer(b"no"))


# --- a model of a driver, and a service that loses things -------------------------------------------------------------


class Model:
    """Runs `Numbers` beside a service that loses numbers, answers late or not at all, and changes its connection."""

    def __init__(self, seed: int, end: int) -> None:
        self.rng = random.Random(seed)
        self.now = NOW
        self.end = end
        self.queue: deque[Message | ConnectionReplaced | ReplyReceived | RequestFailed] = deque()
        self.inbox = ""
        self.tokens = 0
        names = (f"inbox.{n}" for n in range(1_000_000))
        self.machine = Numbers(end, lambda: next(names), now=self.now)
        self.conductor = Conductor(self.machine)
        self.thanks: list[bytes] = []

    def run(self) -> list[str]:
        given: list[str] = []
        machine = self.machine
        for _ in range(20_000):
            while machine.wants:
                self.do(machine.wants.popleft())
            while machine.items:
                given.append(machine.items.popleft())
            if machine.done:
                return given
            self.step()
        raise AssertionError(f"{self.end} numbers were not given: {len(given)} were")

    def do(self, want: Subscribe | Publish | Ask) -> None:
        match want:
            case Subscribe(subject=subject):
                self.queue.clear()
                self.inbox = subject
                self.conductor.resubscribed()
                self.conductor.expired.clear()
            case Publish(data=data):
                self.thanks.append(bytes(data))
            case Ask(api=api):
                self.tokens += 1
                self.conductor.asked(self.tokens, want, now=self.now)
                self.serve(self.tokens, *api.payload.decode().split())

    def serve(self, token: int, first: str, inbox: str) -> None:
        fate = self.rng.random()
        if fate < 0.1:
            self.queue.append(RequestFailed(token, NoRespondersError("nobody", SERVICE)))
        elif fate < 0.2:
            return  # neither an answer nor a number
        else:
            self.queue.append(ReplyReceived(token, answer(first.encode())))
        for number in range(int(first), self.end):
            if self.rng.random() < 0.05:
                self.queue.append(ConnectionReplaced())
            if self.rng.random() < 0.9:
                self.queue.append(Message(inbox, 1, None, b"%d" % number))
            if self.rng.random() < 0.1:
                break

    def step(self) -> None:
        if not self.queue:
            timeout = self.conductor.next_timeout()
            assert timeout is not None
            self.now = max(self.now, timeout)
            self.conductor.handle_timeout(now=self.now)
            return
        self.now += 0.001
        came = self.queue.popleft()
        if isinstance(came, Message):
            self.machine.receive(came, now=self.now)
        else:
            self.conductor.marked(came, now=self.now)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_lost_nothing_is_missing_and_nothing_comes_twice(seed: int) -> None:
    model = Model(seed, 60)
    assert model.run() == [f"number {n}" for n in range(60)]
    assert model.thanks == [b"59"]
    assert model.machine.begun > 1


def test_an_answer_that_says_no_ends_it_with_its_error() -> None:
    machine = numbers()
    conductor = Conductor(machine)
    machine.wants.clear()
    conductor.asked(1, ask(), now=NOW)
    conductor.marked(ReplyReceived(1, answer(b"go away")), now=NOW)
    assert machine.done
    assert isinstance(machine.error, NATSError)
    assert conductor.next_timeout() is None
    assert conductor.next_timeout(NOW) == NOW
