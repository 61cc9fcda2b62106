"""Answers that tasks of trio wait for: each ends once, and wakes its task only where that sleeps for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import outcome
import pytest
import trio
import trio.lowlevel
import trio.testing

from nats_proto import Message
from nats_proto.errors import NATSError
from tests.twins import Twin

MESSAGE = Message("a", 1, None, b"x")
ERROR = NATSError("failed")
TRAP = object()


class Cancelled(BaseException):
    pass


class Task:
    """One that waits for an answer, and does with it what trio does."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.custom_sleep_data: object = None
        self.coroutine: Any = None

    def start(self, answer: Awaitable[object]) -> bool:
        """Whether it sleeps then."""

        async def wait() -> str:
            try:
                await answer
            except Cancelled as error:
                return f"cancelled {error}".strip()
            return "woken"

        self.coroutine = wait()
        return self.go_on(None)

    def go_on(self, sent: object) -> bool:
        self.world.current = self
        try:
            assert self.coroutine.send(sent) is TRAP
        except StopIteration as end:
            self.world.told.append(f"{self.name} {end.value}")
            return False
        return True


class World:
    """Of trio: who is to run next, and with what outcome; and in ``told`` what tasks were told, in order."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.current: Task | None = None
        self.next: list[tuple[Task, object]] = []
        self.told: list[str] = []
        self.woken = outcome.Value(None)
        self.answers = twin.trio_answers(lambda: self.current, self.reschedule, TRAP, self.woken)  # type: ignore[arg-type, return-value]

    def answer(self, token: int = 1) -> Any:
        return self.twin.trio_answer(self.answers, 5.0, token)

    def waiting(self, name: str) -> Any:
        answer = self.answer()
        assert self.task(name, answer)
        return answer

    def task(self, name: str, answer: Any) -> bool:
        task = Task(self, name)
        sleeps = task.start(answer)
        assert task.custom_sleep_data is (answer if sleeps else None)
        return sleeps

    def reschedule(self, task: Any, sent: object) -> None:
        assert all(other is not task for other, _ in self.next)
        task.custom_sleep_data = None
        self.next.append((task, sent))

    def cancel(self, sent: outcome.Outcome[object] | None = None) -> None:
        """The task that has begun to wait last."""
        self.reschedule(self.current, outcome.Error(Cancelled("why")) if sent is None else sent)

    def turn(self) -> None:
        these, self.next = self.next, []
        for task, sent in these:
            assert not task.go_on(sent)


@pytest.fixture
def world(twin: Twin) -> World:
    return World(twin)


ENDS: list[tuple[Callable[[Any], object], bool, tuple[object, object]]] = [
    (lambda answer: answer.give(MESSAGE), True, (MESSAGE, None)),
    (lambda answer: answer.give(error=ERROR), True, (None, ERROR)),
    (lambda answer: answer.give(), True, (None, None)),
    (lambda answer: answer.wake(), False, (None, None)),
]


@pytest.mark.parametrize(("end", "given", "taken"), ENDS)
def test_each_end(world: World, end: Callable[[Any], object], given: bool, taken: tuple[object, object]) -> None:
    answer = world.waiting("one")
    end(answer)
    assert world.told == []
    world.turn()
    assert world.told == ["one woken"]
    assert answer.given is given
    assert answer.take() == taken
    assert answer.take() == (None, None)


@pytest.mark.parametrize(("second", "given"), [(end, given) for end, given, _ in ENDS])
@pytest.mark.parametrize("first", [end for end, _, _ in ENDS])
def test_only_the_first_end_wakes(
    world: World, first: Callable[[Any], object], second: Callable[[Any], object], given: bool
) -> None:
    answer = world.waiting("one")
    first(answer)
    second(answer)
    world.turn()
    second(answer)
    assert world.told == ["one woken"]
    assert world.next == []
    assert answer.given or not given  # what came is told, however late


@pytest.mark.parametrize("end", [end for end, _, _ in ENDS])
def test_what_ends_before_it_is_waited_for_makes_nobody_wait(world: World, end: Callable[[Any], object]) -> None:
    answer = world.answer()
    end(answer)
    assert not world.task("one", answer)
    assert world.told == ["one woken"]
    assert world.next == []


def test_who_does_not_wait_any_more_is_not_woken(world: World) -> None:
    answer = world.waiting("one")
    answer.over = True
    answer.give(MESSAGE)
    answer.wake()
    assert answer.over
    assert answer.given
    assert world.next == []


@pytest.mark.parametrize("end", [end for end, _, _ in ENDS])
def test_a_wait_that_was_cancelled_is_not_woken_before_its_task_has_run(
    world: World, end: Callable[[Any], object]
) -> None:
    answer = world.waiting("one")
    world.cancel()
    end(answer)
    world.turn()
    end(answer)
    assert world.told == ["one cancelled why"]
    assert world.next == []


@pytest.mark.parametrize("end", [end for end, _, _ in ENDS])
def test_a_task_that_sleeps_for_something_else_is_left_alone(world: World, end: Callable[[Any], object]) -> None:
    answer = world.waiting("one")
    task, other = world.current, object()
    assert task is not None
    task.custom_sleep_data = other
    end(answer)
    assert world.next == []
    assert task.custom_sleep_data is other


def test_who_is_rescheduled_with_another_outcome_goes_on_with_that(world: World) -> None:
    world.waiting("one")
    world.cancel(outcome.Value(5))
    world.turn()
    assert world.told == ["one woken"]


def test_one_trap_and_one_outcome_are_enough_for_all(world: World) -> None:
    answers = [world.waiting(str(number)) for number in range(100)]
    for answer in reversed(answers):
        answer.give(MESSAGE)
    assert {id(sent) for _, sent in world.next} == {id(world.woken)}
    world.turn()
    assert world.told == [f"{number} woken" for number in reversed(range(100))]


def test_the_values_that_it_carries(world: World) -> None:
    answer = world.answer(2**70)
    assert (answer.token, answer.deadline, answer.over, answer.given) == (2**70, 5.0, False, False)
    assert (answer.message, answer.error) == (None, None)
    assert (world.answers.trap, world.answers.woken) == (TRAP, world.woken)


def test_a_circle_through_the_task_is_garbage(world: World) -> None:
    answer = world.waiting("one")
    assert world.current is not None
    gone = weakref.ref(world.current)
    world.current.coroutine.close()
    world.current = None
    del answer
    gc.collect()
    assert gone() is None


# --- tasks of trio ---------------------------------------------------------------------------------------------------


def agree(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


def in_trio(twin: Twin, test: Callable[[Callable[[], Any]], Awaitable[None]]) -> None:
    async def main() -> None:
        wait: Any = trio.lowlevel.wait_task_rescheduled
        waiting = wait(agree)
        trap = waiting.send(None)
        waiting.close()
        lowlevel: Any = trio.lowlevel
        answers = twin.trio_answers(lowlevel.current_task, lowlevel.reschedule, trap, outcome.Value(None))
        with trio.fail_after(30):
            await test(lambda: twin.trio_answer(answers, 5.0, 1))

    trio.run(main)


def test_tasks_wait_for_them(twin: Twin) -> None:
    async def test(new: Callable[[], Any]) -> None:
        answers = [new() for _ in range(50)]
        told: set[int] = set()

        async def answered(number: int) -> None:
            for _ in range(2):  # each wait is one of its own
                await answers[number]
                assert answers[number].take() == (MESSAGE, None)
                answers[number] = new()
            told.add(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(answered, number)
            for _ in range(2):
                await trio.testing.wait_all_tasks_blocked()
                for answer in reversed(answers):
                    answer.give(MESSAGE)
        assert told == set(range(50))

    in_trio(twin, test)


@pytest.mark.parametrize("given", ["never", "before", "behind", "when it has run"])
def test_a_task_that_waits_is_cancelled(twin: Twin, given: str) -> None:
    async def test(new: Callable[[], Any]) -> None:
        answer = new()
        ended: list[str] = []

        async def answered() -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await answer
            ended.append("cancelled" if scope.cancelled_caught else "woken")
            await trio.lowlevel.checkpoint()  # which may be another one's wait

        scopes: list[trio.CancelScope] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answered)
            await trio.testing.wait_all_tasks_blocked()
            if given == "before":
                answer.give(MESSAGE)
            scopes[0].cancel()
            if given == "behind":
                answer.give(MESSAGE)
            while not ended:
                await trio.lowlevel.checkpoint()
            if given == "when it has run":
                answer.give(MESSAGE)
        assert ended == ["woken" if given == "before" else "cancelled"]

    in_trio(twin, test)


def test_a_task_is_cancelled_before_it_waits(twin: Twin) -> None:
    async def test(new: Callable[[], Any]) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await new()
        assert scope.cancelled_caught
        with trio.move_on_after(0.001) as scope:
            await new()
        assert scope.cancelled_caught

    in_trio(twin, test)


def test_a_shielded_wait_is_ended_by_nothing_but_its_answer(twin: Twin) -> None:
    async def test(new: Callable[[], Any]) -> None:
        async def wait() -> None:
            with trio.CancelScope(shield=True):
                await answer

        answer = new()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                answer.wake()  # a checkpoint here would be cancelled
        assert scope.cancel_called

    in_trio(twin, test)
