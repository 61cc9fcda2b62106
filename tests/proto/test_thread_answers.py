"""Answers that threads wait for: none sleeps on when it is given, and those in the line wake one another in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any

import pytest

from nats_proto import Message
from nats_proto.errors import NATSError
from tests.twins import Twin

MESSAGE = Message("a", 1, None, b"x")
ANOTHER = Message("a", 1, None, b"y")
ERROR = NATSError("failed")
PATIENCE = 30.0


def wait_for(answer: Any, seconds: float = PATIENCE) -> bool:
    deadline = monotonic() + seconds
    while not answer.given and monotonic() < deadline:
        answer.sleep(deadline - monotonic())
    return bool(answer.given)


def until(condition: Callable[[], object]) -> None:
    """Give way to other threads until it holds."""
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline
        sleep(0)


class World:
    """Threads that wait for answers of one line."""

    def __init__(self, twin: Twin) -> None:
        self.answers = twin.thread_answers(threading.Lock)
        self.new = twin.thread_answer
        self.woken: SimpleQueue[int] = SimpleQueue()
        self.threads: list[threading.Thread] = []

    def answer(self) -> Any:
        return self.new(self.answers)

    def sleeping(self, seconds: float = PATIENCE, then: Callable[[], object] = lambda: None) -> Any:
        """One that a thread sleeps for. ``then`` is what the thread does afterwards."""
        answer = self.answer()
        number = len(self.threads)

        def wait() -> None:
            wait_for(answer, seconds)
            self.woken.put(number)
            then()

        self.threads.append(threading.Thread(target=wait, daemon=True))
        self.threads[-1].start()
        until(lambda: answer.asleep)
        return answer

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def world(twin: Twin) -> World:
    return World(twin)


def test_given_before_it_is_waited_for(world: World) -> None:
    for give in ("give", "line_up"):
        answer = world.answer()
        getattr(answer, give)(MESSAGE)
        assert answer.given
        assert len(world.answers) == 0
        assert answer.sleep(PATIENCE) is True
        assert answer.take() == (MESSAGE, None)


def test_what_is_given_first_stays(world: World) -> None:
    answer = world.answer()
    answer.give(error=ERROR)
    answer.give(MESSAGE)
    answer.line_up(MESSAGE)
    assert (answer.message, answer.error) == (None, ERROR)
    assert answer.take() == (None, ERROR)
    assert answer.take() == (None, None)
    assert answer.given


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.01])
def test_nobody_gives_it(world: World, seconds: float) -> None:
    answer = world.answer()
    for _ in range(2):
        start = monotonic()
        assert answer.sleep(seconds) is False
        assert monotonic() - start >= seconds
        assert not answer.asleep
    answer.give(MESSAGE)
    assert answer.sleep(seconds) is True


@pytest.mark.parametrize("seconds", [5.0, 1e30, float("inf")])
def test_a_long_wait_is_several_sleeps(world: World, seconds: float) -> None:
    assert world.answer().sleep(seconds) is False  # in a second


def test_given_while_it_is_waited_for(world: World) -> None:
    answer = world.sleeping()
    answer.give(error=ERROR)
    world.join()
    assert not answer.wake()  # nobody is there


def test_the_line_waits_until_somebody_is_woken(world: World) -> None:
    lined = [world.sleeping() for _ in range(3)]
    for answer in lined:
        answer.line_up(MESSAGE)
        answer.line_up(ANOTHER)
        answer.give(ANOTHER)
    assert len(world.answers) == 3
    assert world.woken.empty()
    for number in range(3):
        assert world.answers.wake_next()
        assert world.woken.get(timeout=PATIENCE) == number
        assert (len(world.answers), world.answers.gone) == (2 - number, number + 1)
        assert world.woken.empty()
    assert not world.answers.wake_next()
    assert [answer.take() for answer in lined] == [(MESSAGE, None)] * 3
    world.join()


def test_who_goes_to_sleep_wakes_the_next(world: World) -> None:
    own = [world.answer() for _ in range(3)]
    lined = [world.sleeping(then=lambda each=each: wait_for(each)) for each in own]
    for answer in lined:
        answer.line_up(MESSAGE)
    assert world.answers.wake_next()
    assert [world.woken.get(timeout=PATIENCE) for _ in lined] == [0, 1, 2]
    until(lambda: own[2].asleep)
    assert (len(world.answers), world.answers.gone) == (0, 3)  # none has left by itself, when a sleep was over
    for answer in own:
        answer.give(MESSAGE)
    world.join()


def test_who_finds_its_answer_wakes_nobody(world: World) -> None:
    world.sleeping().line_up(MESSAGE)
    given = world.answer()
    given.give(MESSAGE)
    assert given.sleep(PATIENCE)
    assert world.woken.empty()
    world.answers.wake_all()
    world.join()


def test_all_are_woken_at_once(world: World) -> None:
    for _ in range(5):
        world.sleeping().line_up(MESSAGE)
    world.answers.wake_all()
    assert sorted(world.woken.get(timeout=PATIENCE) for _ in range(5)) == [0, 1, 2, 3, 4]
    assert (len(world.answers), world.answers.gone) == (0, 5)
    world.join()


def test_who_is_gone_holds_nobody_up(world: World) -> None:
    """Its time was up while it stood in the line: what it got is its, and the next one is woken in its place."""
    other = world.sleeping()
    answer = world.sleeping(0.2)
    answer.line_up(MESSAGE)
    assert world.woken.get(timeout=PATIENCE) == 1
    assert answer.take() == (MESSAGE, None)
    other.line_up(MESSAGE)
    assert len(world.answers) == 2
    assert world.answers.wake_next()
    assert (len(world.answers), world.answers.gone) == (0, 2)
    world.join()


def test_what_was_taken_is_held_by_nobody(world: World) -> None:
    message = Message("a", 1, None, b"x")
    before = sys.getrefcount(message)
    answer = world.sleeping()
    answer.line_up(message)
    assert sys.getrefcount(message) == before + 1
    world.answers.wake_all()
    world.join()
    assert answer.take() == (message, None)
    assert sys.getrefcount(message) == before


class Interrupted(BaseException):
    pass


def test_a_signal_handler_that_raises_ends_the_sleep(world: World) -> None:
    answer = world.answer()
    main = threading.get_ident()

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    def tell() -> None:
        until(lambda: answer.asleep)
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    teller = threading.Thread(target=tell)
    try:
        teller.start()
        with pytest.raises(Interrupted):
            wait_for(answer)
    finally:
        teller.join()
        signal.signal(signal.SIGUSR1, before)
    assert not answer.asleep
    answer.line_up(MESSAGE)
    assert len(world.answers) == 0  # nobody sleeps for it any more


def test_a_signal_handler_that_gives_the_answer(world: World) -> None:
    answer = world.answer()
    main = threading.get_ident()

    def tell() -> None:
        until(lambda: answer.asleep)
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda number, frame: answer.give(MESSAGE))
    teller = threading.Thread(target=tell)
    try:
        teller.start()
        assert wait_for(answer)
    finally:
        teller.join()
        signal.signal(signal.SIGUSR1, before)


def test_no_thread_sleeps_on(world: World) -> None:
    """Threads that ask again and again, of one who answers in chunks and wakes the first alone."""
    asked: SimpleQueue[Any] = SimpleQueue()
    wrong: list[int] = []

    def ask() -> None:
        for number in range(400):
            answer = world.answer()
            asked.put(answer)
            if not wait_for(answer) or answer.take() != (MESSAGE, None):
                wrong.append(number)
        asked.put(None)
        while len(world.answers):  # as whoever lines them up has to: this thread does not ask again
            world.answers.wake_next()
            sleep(0)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    left = len(threads)
    while left:
        for _ in range(max(1, min(asked.qsize(), 5))):
            answer = asked.get(timeout=PATIENCE)
            if answer is None:
                left -= 1
            else:
                answer.line_up(MESSAGE)
        world.answers.wake_next()
    world.answers.wake_all()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert wrong == []
