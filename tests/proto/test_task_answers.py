"""Answers that tasks of asyncio wait for: each ends once, all that end together wake their tasks in one call."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from nats_proto import Message
from nats_proto.errors import NATSError
from tests.twins import Twin

MESSAGE = Message("a", 1, None, b"x")
ERROR = NATSError("failed")
WHO: ContextVar[str] = ContextVar("WHO")


class Cancelled(BaseException):
    pass


class Loop:
    """Calls what it was told to when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.interrupts = 0
        """Calls of `call_soon` that an interrupt ends."""

    def call_soon(self, callback: Callable[[], object], /) -> None:
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        self.calls.append(callback)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class World:
    """Tasks that wait, by their names, and in ``told`` what they were told, in order."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.loop = Loop()
        self.answers = twin.answers(self.loop, Cancelled)
        self.told: list[str] = []

    def answer(self, token: int = 1) -> Any:
        return self.twin.answer(self.answers, 5.0, token)

    def waiting(self, name: str, raises: BaseException | None = None) -> Any:
        """An answer that a task waits for: it did what tasks do with what a coroutine awaits."""
        answer = self.answer()
        awaited = answer.__await__()
        assert next(awaited) is answer
        assert answer._asyncio_future_blocking
        assert answer.get_loop() is self.loop
        answer._asyncio_future_blocking = False

        def wake_up(of: object) -> None:
            assert of is answer
            self.told.append(f"{WHO.get()} {self.outcome(awaited)}")
            if raises is not None:
                raise raises

        context = copy_context()
        context.run(WHO.set, name)
        answer.add_done_callback(wake_up, context=context)
        return answer

    def outcome(self, awaited: Any) -> str:
        try:
            next(awaited)
        except StopIteration:
            return "woken"
        except Cancelled as error:
            return f"cancelled {error}".strip()
        return "waits"


@pytest.fixture
def world(twin: Twin) -> World:
    return World(twin)


ENDS: list[tuple[Callable[[Any], object], str, bool, tuple[object, object]]] = [
    (lambda answer: answer.give(MESSAGE), "woken", True, (MESSAGE, None)),
    (lambda answer: answer.give(error=ERROR), "woken", True, (None, ERROR)),
    (lambda answer: answer.give(), "woken", True, (None, None)),
    (lambda answer: answer.wake(), "woken", False, (None, None)),
    (lambda answer: answer.cancel(), "cancelled", False, (None, None)),
    (lambda answer: answer.cancel(msg="why"), "cancelled why", False, (None, None)),
]


@pytest.mark.parametrize(("end", "outcome", "given", "taken"), ENDS)
def test_each_end(
    world: World, end: Callable[[Any], object], outcome: str, given: bool, taken: tuple[object, object]
) -> None:
    answer = world.waiting("one")
    end(answer)
    assert world.told == []
    world.loop.turn()
    assert world.told == [f"one {outcome}"]
    assert answer.given is given
    assert answer.take() == taken
    assert answer.take() == (None, None)


@pytest.mark.parametrize(("second", "given"), [(end, given) for end, _, given, _ in ENDS])
@pytest.mark.parametrize(("first", "outcome"), [(end, outcome) for end, outcome, _, _ in ENDS])
def test_only_the_first_end_wakes(
    world: World, first: Callable[[Any], object], outcome: str, second: Callable[[Any], object], given: bool
) -> None:
    answer = world.waiting("one")
    first(answer)
    result = second(answer)
    assert result in (None, False)
    world.loop.turn()
    second(answer)
    assert world.told == [f"one {outcome}"]
    assert world.loop.calls == []
    assert answer.given or not given  # what came is told, however late


@pytest.mark.parametrize(("end", "outcome"), [(end, outcome) for end, outcome, _, _ in ENDS])
def test_what_ends_before_it_is_waited_for_makes_nobody_wait(
    world: World, end: Callable[[Any], object], outcome: str
) -> None:
    answer = world.answer()
    end(answer)
    assert world.outcome(answer.__await__()) == outcome
    assert world.loop.calls == []
    # A task that has found it open, and is told only then: it is woken, as a future would.
    answer.add_done_callback(lambda _: world.told.append("late"), context=copy_context())
    world.loop.turn()
    assert world.told == ["late"]


def test_who_does_not_wait_any_more_is_not_woken(world: World) -> None:
    answer = world.waiting("one")
    answer.over = True
    answer.give(MESSAGE)
    answer.wake()
    assert answer.over
    assert answer.given
    assert world.loop.calls == []


def test_all_that_end_together_are_one_call_and_keep_their_order(world: World) -> None:
    answers = [world.waiting(str(number)) for number in range(100)]
    for answer in answers:
        answer.give(MESSAGE)
    assert len(world.loop.calls) == 1
    world.loop.turn()
    assert world.told == [f"{number} woken" for number in range(100)]
    assert world.loop.calls == []


def test_what_a_woken_task_ends_comes_in_the_next_turn(world: World) -> None:
    first, second = world.waiting("one"), world.waiting("two")
    first.add_done_callback(lambda _: second.give(MESSAGE), context=copy_context())
    first.give(MESSAGE)
    world.loop.turn()
    assert world.told == []
    world.loop.turn()
    assert world.told == ["two woken"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("at", range(4))
def test_what_a_task_raises_comes_out_and_the_others_are_woken_next(
    world: World, at: int, raised: type[BaseException]
) -> None:
    answers = [world.waiting(str(number), raised() if number == at else None) for number in range(4)]
    meanwhile = world.waiting("meanwhile")
    if at:  # the first does not raise, but ends another one
        answers[0].add_done_callback(lambda _: meanwhile.give(MESSAGE), context=copy_context())
    for answer in answers:
        answer.give(MESSAGE)
    with pytest.raises(raised):
        world.loop.turn()
    before = list(world.told)
    while world.loop.calls:
        world.loop.turn()
    if at:
        assert world.told == [*(f"{number} woken" for number in range(1, 4)), "meanwhile woken"]
        assert before == world.told[:at]
    else:
        assert world.told == [f"{number} woken" for number in range(4)]
        assert before == world.told[:1]


def test_an_interrupt_before_the_loop_was_told_leaves_nobody_waiting(world: World) -> None:
    first, second = world.waiting("one"), world.waiting("two")
    world.loop.interrupts = 1
    with pytest.raises(KeyboardInterrupt):
        first.give(MESSAGE)
    second.give(MESSAGE)
    world.loop.turn()
    assert world.told == ["one woken", "two woken"]


def test_an_interrupt_while_the_others_are_put_back_leaves_nobody_waiting(world: World) -> None:
    first, second, third = world.waiting("one", KeyboardInterrupt()), world.waiting("two"), world.waiting("three")
    first.give(MESSAGE)
    second.give(MESSAGE)
    world.loop.interrupts = 0
    calls, world.loop.calls, world.loop.interrupts = world.loop.calls, [], 1
    with pytest.raises(KeyboardInterrupt):
        calls[0]()
    assert world.loop.calls == []
    third.give(MESSAGE)
    world.loop.turn()
    assert world.told == ["one woken", "two woken", "three woken"]


def test_the_values_that_it_carries(world: World) -> None:
    answer = world.answer(2**70)
    assert (answer.token, answer.deadline, answer.over, answer.given) == (2**70, 5.0, False, False)
    assert (answer.message, answer.error) == (None, None)
    assert world.answers.loop is world.loop
    assert world.answers.cancelled is Cancelled


def test_a_circle_through_the_task_is_garbage(world: World) -> None:
    class Task:
        pass

    task = Task()
    answer = world.waiting("one")
    task.answer = answer  # type: ignore[attr-defined]
    answer.add_done_callback(lambda _, task=task: None, context=copy_context())
    gone = weakref.ref(task)
    del task, answer
    gc.collect()
    assert gone() is None


# --- tasks of asyncio, both kinds ------------------------------------------------------------------------------------

KINDS = [asyncio.Task, asyncio.tasks._PyTask]  # type: ignore[attr-defined]  # the second is what the first replaces


def in_asyncio(
    twin: Twin, kind: Any, test: Callable[[Callable[[], Any]], Coroutine[Any, Any, None]], debug: bool = False
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: kind(coro, loop=loop, **options))
        answers = twin.answers(loop, asyncio.CancelledError)
        await asyncio.wait_for(loop.create_task(test(lambda: twin.answer(answers, 5.0, 1))), 30)

    asyncio.run(main(), debug=debug)


async def answered(answer: Any) -> object:
    await answer
    return answer.take()[0]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_waits_for_it(twin: Twin, kind: Any, debug: bool) -> None:
    async def test(new: Callable[[], Any]) -> None:
        answers = [new() for _ in range(50)]
        tasks = [asyncio.create_task(answered(answer)) for answer in answers]
        await asyncio.sleep(0)
        for answer in reversed(answers):
            answer.give(MESSAGE)
        assert await asyncio.gather(*tasks) == [MESSAGE] * 50

    in_asyncio(twin, kind, test, debug)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_waits_is_cancelled(twin: Twin, kind: Any) -> None:
    async def test(new: Callable[[], Any]) -> None:
        answer = new()
        task = asyncio.create_task(answered(answer))
        await asyncio.sleep(0)
        assert task.cancel("why")
        answer.give(MESSAGE)
        with pytest.raises(asyncio.CancelledError, match="why"):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await new()

    in_asyncio(twin, kind, test)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_was_given_its_answer_is_cancelled_all_the_same(twin: Twin, kind: Any) -> None:
    async def test(new: Callable[[], Any]) -> None:
        answer = new()
        task = asyncio.create_task(answered(answer))
        await asyncio.sleep(0)
        answer.give(MESSAGE)
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        early = asyncio.create_task(answered(new()))
        early.cancel()  # before it has begun
        with pytest.raises(asyncio.CancelledError):
            await early

    in_asyncio(twin, kind, test)


@pytest.mark.parametrize("kind", KINDS)
def test_each_task_goes_on_in_its_context(twin: Twin, kind: Any) -> None:
    async def named(name: str, answer: Any) -> None:
        WHO.set(name)
        await answer
        assert WHO.get() == name

    async def test(new: Callable[[], Any]) -> None:
        answers = {str(number): new() for number in range(5)}
        tasks = [asyncio.create_task(named(*item)) for item in answers.items()]
        await asyncio.sleep(0)
        for answer in answers.values():
            Context().run(answer.give, MESSAGE)
        await asyncio.gather(*tasks)

    in_asyncio(twin, kind, test)
