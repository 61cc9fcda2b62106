"""The session asks the user's ``reconnect_delay`` when a round is over, and goes on whatever becomes of that."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import (
    MAX_SECONDS,
    Call,
    Closed,
    CloseTransport,
    Connected,
    OpenTransport,
    Perform,
    ReconnectDelayFailed,
    Reconnecting,
    SessionStatus,
)
from nats_proto._session.delay import MAX_KINDS
from nats_proto.errors import ConnectionLostError, LocalProtocolError, TransportError
from tests.proto.driver import World, info

WAIT, LIMIT = 10.0, 3.0


def delay(rounds: int) -> float:
    raise AssertionError("the session does not call it itself")


def asking(servers: str = "nats://a", **options: Any) -> tuple[World, Perform]:
    """A world whose first round of an outage is over, and what it asks."""
    given = {"reconnect_wait": WAIT, "reconnect_jitter": 0.0, "connect_timeout": LIMIT, "reconnect_delay": delay}
    world = World(servers, **{**given, **options}).ready()
    world.now += 1000.0
    world.cut()
    for _ in range(len(world.session.servers)):
        assert [type(command) for command in world.commands].count(Perform) == 0
        world.refuse()
    return world, asked(world)


def asked(world: World) -> Perform:
    """The question that is the last command."""
    command = world.commands[-1]
    assert isinstance(command, Perform)
    return command


def planned(world: World) -> float:
    """In how many seconds the dial that was asked for last comes, which is the last command and the last event."""
    command = world.commands[-1]
    assert isinstance(command, OpenTransport)
    told = world.events_of(Reconnecting)[-1]
    assert told.delay == command.at - world.now
    assert command.deadline == command.at + world.options.connect_timeout
    return told.delay


def answer(world: World, command: Perform, said: object) -> None:
    if isinstance(said, BaseException):
        world.session.perform_failed(command, said, now=world.now)
    else:
        world.session.performed(command, said, now=world.now)
    world.pump()


def test_it_is_asked_when_a_round_is_over() -> None:
    world, command = asking("nats://a, nats://b")
    assert command.before_dial
    assert not command.successor
    assert isinstance(command.effect, Call)
    assert (command.effect.function, command.effect.arguments) == (delay, (1,))
    assert world.session.status is SessionStatus.RECONNECTING
    assert world.session.next_timeout() == world.now + LIMIT
    assert len(world.events_of(Reconnecting)) == 2  # of the first round: nothing is planned now
    world.now += 1.0
    answer(world, command, 20.0)
    assert planned(world) == 20.0
    world.refuse()
    assert isinstance(world.commands[-1], OpenTransport)  # the next one of that round
    world.refuse()
    second = asked(world).effect
    assert isinstance(second, Call)
    assert second.arguments == (2,)


def test_the_next_attempt_tells_why_the_last_one_failed() -> None:
    world, command = asking()
    answer(world, command, 1)
    (told,) = (event for event in world.events_of(Reconnecting) if event.attempt == 2)
    assert isinstance(told.error, TransportError)


def test_rounds_are_counted_anew_in_the_next_outage() -> None:
    world, command = asking()
    answer(world, command, 0)
    world.refuse()
    answer(world, asked(world), 0)
    world.up()
    world.cut()
    world.refuse()
    again = asked(world).effect
    assert isinstance(again, Call)
    assert again.arguments == (1,)


def test_nobody_is_asked_in_the_first_walk() -> None:
    world = World("nats://a, nats://b", reconnect_delay=delay, retry_on_failed_connect=True)
    world.refuse()
    world.refuse()
    world.refuse()  # the first of the first round in the background
    assert not any(isinstance(command, Perform) for command in world.commands)
    world.refuse()
    answer(world, asked(world), 5)
    assert world.session.status is SessionStatus.RECONNECTING
    assert planned(world) == 5.0
    world.up()
    assert [type(event) for event in world.events()] == [Connected]


def test_nobody_is_asked_when_no_attempt_is_left() -> None:
    world = World(reconnect_delay=delay, max_reconnect_attempts=1).ready()
    world.cut()
    world.refuse()
    assert not any(isinstance(command, Perform) for command in world.commands)
    assert world.session.status is SessionStatus.CLOSED


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (0, 0.0),
        (0.0, 0.0),
        (7, 7.0),
        (0.25, 0.25),
        (1e300, MAX_SECONDS),
        (10**30, MAX_SECONDS),
    ],
)
def test_what_is_a_delay(said: object, seconds: float) -> None:
    world, question = asking(reconnect_wait=0.0)
    answer(world, question, said)
    command = world.commands[-1]
    assert isinstance(command, OpenTransport)
    assert command.address == ("a", 4222)
    assert command.at == world.now + seconds
    assert command.deadline == world.now + seconds + LIMIT
    assert world.events_of(ReconnectDelayFailed) == []


async def coroutine() -> float:
    raise AssertionError("nobody awaits it here")


class Awaitable:
    def __await__(self) -> None: ...


NO_DELAYS: dict[str, tuple[object, str]] = {
    "error": (ZeroDivisionError("x"), "raised ZeroDivisionError"),
    "interrupt": (KeyboardInterrupt(), "raised KeyboardInterrupt"),
    "None": (None, "returned NoneType"),
    "text": ("5", "returned str"),
    "bool": (True, "returned True"),
    "negative": (-1, "returned -1"),
    "NaN": (math.nan, "returned nan"),
    "infinite": (math.inf, "returned inf"),
    "too large for a float": (10**400, "returned an int of 1329 bits"),
    "list": ([1.0], "returned list"),
    "awaitable": (Awaitable(), "returned Awaitable, which this client cannot await"),
}


@pytest.mark.parametrize("kind", NO_DELAYS)
def test_what_is_none_leaves_the_usual_wait_and_is_told_once(kind: str) -> None:
    said, why = NO_DELAYS[kind]
    world, command = asking()
    world.events()
    answer(world, command, said)
    failed, reconnecting = world.events()
    assert isinstance(failed, ReconnectDelayFailed)
    assert failed.why == why
    assert failed.error is (said if isinstance(said, BaseException) else None)
    assert isinstance(reconnecting, Reconnecting)
    assert reconnecting.delay == WAIT
    world.refuse()
    world.events()
    answer(world, asked(world), said)
    assert planned(world) == 1.5 * WAIT
    world.refuse()
    answer(world, asked(world), 1.0)  # and it can do better later
    assert planned(world) == WAIT  # since that dial


def test_other_kinds_are_told_as_well_but_not_without_end() -> None:
    world, command = asking(reconnect_wait=0.0)
    told: list[str] = []
    for number in range(1, MAX_KINDS + 10):
        answer(world, command, -number)
        told += [event.why for event in world.events_of(ReconnectDelayFailed)]
        world.refuse()
        command = asked(world)
    assert told == [f"returned {-number}" for number in range(1, MAX_KINDS + 1)]


def test_what_is_not_answered_in_time_leaves_the_usual_wait() -> None:
    world, command = asking()
    world.wait(LIMIT - 0.1)
    assert world.commands[-1] is command
    world.events()
    world.wait(0.1)
    failed, reconnecting = world.events()
    assert isinstance(failed, ReconnectDelayFailed)
    assert (failed.why, failed.error) == ("did not return within 3 s", None)
    assert isinstance(reconnecting, Reconnecting)
    assert reconnecting.delay == WAIT
    world.refuse()
    world.wait(LIMIT)
    assert world.events_of(ReconnectDelayFailed) == []
    assert isinstance(world.commands[-1], OpenTransport)


ENDS: dict[str, Callable[[World], object]] = {
    "its time is up": lambda world: world.wait(LIMIT),
    "an answer": lambda world: answer(world, asked(world), 50.0),
    "reconnect": lambda world: world.session.reconnect(now=world.now),
    "close": lambda world: world.session.close(now=world.now),
    "drain": lambda world: world.session.drain(now=world.now),
    "a defect": lambda world: world.session.fail(ValueError(), now=world.now),
}


@pytest.mark.parametrize("said", [5.0, "nonsense", ValueError()], ids=["delay", "nonsense", "error"])
@pytest.mark.parametrize("end", ENDS)
def test_a_late_answer_is_ignored(end: str, said: object) -> None:
    world, command = asking()
    ENDS[end](world)
    world.pump()
    world.events()
    commands = list(world.commands)
    deadline = world.session.next_timeout()
    answer(world, command, said)
    assert (world.events(), world.commands, world.session.next_timeout()) == ([], commands, deadline)
    if world.session.status is SessionStatus.CLOSED:
        return
    world.refuse()
    second = asked(world)
    world.events()
    answer(world, command, said)
    assert (world.events(), world.commands[-1]) == ([], second)
    answer(world, second, "other nonsense")
    assert len(world.events_of(ReconnectDelayFailed)) == 1  # what was said late was not told instead


def test_reconnect_does_not_wait_for_the_answer() -> None:
    world, _ = asking()
    world.session.reconnect(now=world.now)
    world.pump()
    assert planned(world) == 0.0
    world.up()
    assert world.session.status is SessionStatus.CONNECTED


@pytest.mark.parametrize("end", ["close", "drain", "a defect"])
def test_an_end_does_not_wait_for_the_answer(end: str) -> None:
    world, _ = asking()
    if end == "drain":
        world.session.publish("a", b"kept")
    ENDS[end](world)
    world.pump()
    assert isinstance(world.commands[-1], CloseTransport)
    assert world.session.next_timeout() is None
    (closed,) = world.events_of(Closed)
    assert isinstance(closed.error, ConnectionLostError) is (end == "drain")


def test_a_connection_that_comes_unasked_is_refused() -> None:
    world, command = asking()
    with pytest.raises(LocalProtocolError, match="no dial is under way"):
        world.session.transport_connected(now=world.now)
    with pytest.raises(LocalProtocolError, match="no dial is under way"):
        world.session.transport_failed(OSError(), now=world.now)
    world.feed(info())
    world.cut()
    answer(world, command, 50.0)
    assert planned(world) == 50.0


def test_early_and_repeated_timer_calls_ask_nothing() -> None:
    world, command = asking()
    for _ in range(3):
        world.session.handle_timeout(now=world.now)
        world.pump()
    assert world.commands[-1] is command
    assert world.commands.count(command) == 1


def test_without_the_option_nobody_is_asked() -> None:
    world = World(reconnect_jitter=0.0).ready()
    world.cut()
    world.refuse()
    world.refuse()
    assert not any(isinstance(command, Perform) for command in world.commands)
