"""The parts of nats-anyio's engine, each alone: what reads a socket, starts tasks, keeps time."""

from __future__ import annotations

import random
import socket
import sys
import types
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from nats_anyio._engine.answers import Answer, AnyAnswer, maker_of_answers
from nats_anyio._engine.event_loop import EventLoop
from nats_anyio._engine.reader import Reader
from nats_anyio._engine.starter import Starter
from nats_anyio._engine.timer import LOOK_THROUGH, Timer
from tests.adapters.legs import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- what reads a socket ----------------------------------------------------------------------------------------------


class Sized:
    receive_size = 4


class Reading:
    """A reader, the other end of what it reads, and what it told."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.theirs = theirs
        self.told: list[object] = []
        self.defect: Exception | None = None
        self.heard = anyio.Event()
        self.reader = Reader(
            ours,
            EventLoop(),
            Sized(),
            receive=self.receive,
            end=lambda: self.tell("end"),
            lost=self.tell_error,
            fail=self.tell_error,
        )

    def receive(self, data: bytes) -> None:
        if self.defect is not None:
            raise self.defect
        self.tell(data)

    def tell_error(self, error: Exception) -> None:
        self.tell(type(error))

    def tell(self, what: object) -> None:
        self.told.append(what)
        self.heard.set()

    async def hear(self) -> None:
        """Wait until something was told that was not there before."""
        await self.heard.wait()
        self.heard = anyio.Event()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_a_reader_gives_what_arrives_until_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    reading = Reading(*pair)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(reading.reader.run)
            reading.theirs.sendall(b"ab")
            await reading.hear()
            reading.theirs.sendall(b"cdefgh")
            reading.theirs.close()
    assert reading.told == [b"ab", b"cdef", b"gh", "end"]


async def test_a_reader_tells_what_broke_the_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    class Broken(socket.socket):
        def recv(self, *_: object) -> bytes:
            raise ConnectionResetError

    ours, theirs = pair
    with Broken(fileno=ours.detach()) as broken:
        reading = Reading(broken, theirs)
        theirs.sendall(b"a")
        with anyio.fail_after(PATIENCE):
            await reading.reader.run()
    assert reading.told == [ConnectionResetError]


async def test_a_reader_tells_of_a_defect_and_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    reading = Reading(*pair)
    reading.defect = RuntimeError("planted")
    reading.theirs.sendall(b"a")
    with anyio.fail_after(PATIENCE):
        await reading.reader.run()
    assert reading.told == [RuntimeError]


async def test_a_reader_that_was_stopped_takes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    reading = Reading(*pair)
    reading.reader.stop()
    reading.theirs.sendall(b"a")
    with anyio.fail_after(PATIENCE):
        await reading.reader.run()
    assert reading.told == []
    assert pair[0].recv(10) == b"a"


# --- what starts tasks ------------------------------------------------------------------------------------------------


async def test_a_starter_calls_in_order_what_came_before_and_what_comes_later() -> None:
    starter = Starter()
    called: list[object] = []
    async with anyio.create_task_group() as group:
        done = anyio.Event()

        def last() -> None:
            called.append(anyio.get_current_task().name)
            done.set()

        for number in range(3):
            starter.call(partial(called.append, number))
        starter.call(lambda: starter.call(partial(called.append, "from within")))
        group.start_soon(starter.run, name="starts")
        await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        starter.call(last)
        with anyio.fail_after(PATIENCE):
            await done.wait()
        group.cancel_scope.cancel()
    assert called == [0, 1, 2, "from within", "starts"]


# --- what a request waits for -----------------------------------------------------------------------------------------


@types.coroutine
def another_trap(abort: Callable[[object], object]) -> Generator[object, Any, object]:
    return (yield types.SimpleNamespace(abort_func=abort, told="what the client does not know of")).unwrap()


@types.coroutine
def no_outcome(abort: Callable[[object], object]) -> Generator[object, object, object]:
    return (yield types.SimpleNamespace(abort_func=abort))


@types.coroutine
def two_traps(abort: Callable[[object], object]) -> Generator[object, object, None]:
    yield types.SimpleNamespace(abort_func=abort)
    yield None


@pytest.mark.parametrize("function", [another_trap, no_outcome, two_traps, None])
async def test_a_trio_that_puts_tasks_to_sleep_in_another_way_is_asked_by_its_own_function(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch, function: Callable[..., object] | None
) -> None:
    known = type(maker_of_answers(EventLoop())(5.0, 1))
    assert known.__name__ == {"asyncio": "TaskAnswer", "trio": "TrioAnswer"}[anyio_backend]
    with monkeypatch.context() as patched:
        if function is None:
            patched.delitem(sys.modules, "outcome")
        else:
            patched.setattr(trio.lowlevel, "wait_task_rescheduled", function)
        answer = maker_of_answers(EventLoop())(5.0, 1)
    assert type(answer) is (Answer if anyio_backend == "trio" else known)

    async def give() -> None:
        answer.give()

    async with anyio.create_task_group() as group:
        group.start_soon(give)
        await answer
    assert answer.given


# --- what keeps time: by a clock that jumps, which trio alone has -----------------------------------------------------


class Timing:
    """A timer that runs, and the moments at which the session was called."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self.next: float | None = None
        self.asked = 0
        self.while_due: Callable[[], object] = int
        self.start = trio.current_time()
        self.loop = EventLoop()
        self.requests: dict[int, AnyAnswer] = {}
        self.timer = Timer(self.loop, self.requests, self.time_is_up)

    def time_is_up(self, now: float) -> None:
        self.due.append(round(now - self.start, 6))
        self.while_due()
        self.timer.set_session(self.next)

    def session_at(self, seconds: float | None) -> None:
        self.timer.set_session(None if seconds is None else self.start + seconds)

    def answer(self, seconds: float) -> Answer:
        return Answer(self.loop, trio.current_time() + seconds, 1)

    def ask(self, seconds: float) -> Answer:
        """A request, which is in order if its time is up later than that of all others."""
        token = self.asked = self.asked + 1
        answer = self.requests[token] = Answer(self.loop, trio.current_time() + seconds, token)
        self.timer.expect_request(answer, answer.deadline)
        return answer

    def flush(self, seconds: float) -> Answer:
        answer = self.answer(seconds)
        self.timer.expect(answer)
        return answer

    def expect(self, kind: str, seconds: float) -> Answer:
        return self.ask(seconds) if kind == "request" else self.flush(seconds)

    def reply(self, answer: Answer) -> None:
        """It is taken out before its task runs, as by the hub."""
        self.forget(answer)
        answer.give()

    def forget(self, answer: Answer) -> None:
        if self.requests.get(answer.token) is answer:
            del self.requests[answer.token]

    async def wait_for(self, answer: Answer) -> float:
        """Seconds since the beginning, when it is over."""
        await answer
        answer.over = True
        self.forget(answer)
        return round(trio.current_time() - self.start, 6)

    @property
    def kept(self) -> int:
        return len(self.timer._others)


def timed(test: Callable[[Timing], Awaitable[None]]) -> None:
    async def main() -> None:
        timing = Timing()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timing.timer.run)
            await trio.testing.wait_all_tasks_blocked()
            await test(timing)
            timing.timer.stop()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("told", "due"),
    [
        ([5.0], [5.0]),
        ([5.0, 2.0], [2.0]),  # an earlier time counts at once
        ([2.0, 5.0], [2.0]),  # a later one may cost one call more
        ([5.0, None, 3.0], [3.0]),
        ([None], []),
        ([-1.0], [0.0]),  # a time that is past
    ],
)
def test_the_session_is_called_at_its_time(told: list[float | None], due: list[float]) -> None:
    async def test(timing: Timing) -> None:
        for at in told:
            timing.session_at(at)
        await trio.sleep(4.5 if due and due[0] < 4.5 else 100)
        assert timing.due == due

    timed(test)


KINDS = ["request", "flush"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_waits_for_an_answer_gives_up_at_the_own_deadline(kind: str) -> None:
    async def test(timing: Timing) -> None:
        answers = {seconds: timing.expect(kind, seconds) for seconds in (3.0, 1.0, 2.0, 3.5)}
        ended: dict[float, float] = {}

        async def wait(seconds: float) -> None:
            ended[seconds] = await timing.wait_for(answers[seconds])

        async with trio.open_nursery() as nursery:
            for seconds in answers:
                nursery.start_soon(wait, seconds)
            await trio.sleep(1.5)
            timing.reply(answers[3.0])
        assert ended == {1.0: 1.0, 2.0: 2.0, 3.0: 1.5, 3.5: 3.5}
        assert [answers[seconds].given for seconds in (1.0, 2.0, 3.0, 3.5)] == [False, False, True, False]

    timed(test)


def test_a_timer_that_is_late_wakes_in_the_order_of_the_deadlines() -> None:
    """As after a moment in which the machine stood still."""

    class Woken(Answer):
        __slots__ = ()

        def wake(self) -> None:
            woken.append(self.deadline)
            super().wake()

    woken: list[float] = []

    async def test(timing: Timing) -> None:
        deadlines = [timing.start + seconds for seconds in (3.0, 1.0, 4.0, 2.0, 3.5)]
        timing.session_at(0.0)  # the timer is about to run, and looks at what is due when it does
        trio.lowlevel.current_clock().jump(10.0)  # type: ignore[attr-defined]  # of trio's `MockClock`
        for token, deadline in enumerate(deadlines):
            answer = Woken(timing.loop, deadline, token)
            if token == 4:
                timing.timer.expect(answer)
            else:
                timing.requests[token] = answer
                timing.timer.expect_request(answer, deadline)
        await trio.testing.wait_all_tasks_blocked()
        assert list(dict.fromkeys(woken)) == sorted(deadlines)

    timed(test)


@pytest.mark.parametrize("seed", range(20))
def test_each_wait_ends_with_its_answer_or_at_its_deadline(seed: int) -> None:
    async def test(timing: Timing) -> None:
        rng = random.Random(seed)
        wrong: list[tuple[float, float]] = []
        choices = rng.choice([[5.0], [5.0, 5.0, 5.0, 0.5], [0.0, 0.5, 1.0, 5.0, 50.0, 1e9]])

        async def wait(answer: Answer, expected: float) -> None:
            if (ended := await timing.wait_for(answer)) != expected:
                wrong.append((ended, expected))

        async def answer_in_time(answer: Answer, at: float) -> None:
            await trio.sleep_until(at)
            if not answer.over:
                timing.reply(answer)

        async with trio.open_nursery() as nursery:
            for _ in range(300):
                await trio.sleep(rng.choice([0.0, 0.0, 0.125, 0.5]))
                answer = timing.expect(rng.choice(["request"] * 9 + ["flush"]), rng.choice(choices))
                now = trio.current_time()
                at = now + rng.choice([0.25, 0.75, 2.0, 4.5, 20.0])  # never at a deadline, when either may come first
                if answer.deadline > 1e8 or rng.random() < 0.7:
                    nursery.start_soon(answer_in_time, answer, at + 0.0625)
                    end = min(answer.deadline, at + 0.0625)
                else:
                    end = answer.deadline
                nursery.start_soon(wait, answer, round(end - timing.start, 6))
        assert wrong == []
        assert timing.requests == {}

    timed(test)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_has_no_time_at_all_is_woken(kind: str) -> None:
    async def test(timing: Timing) -> None:
        for _ in range(2):  # the second time the clock still shows what it showed when the timer woke the first
            assert await timing.wait_for(timing.expect(kind, 0.0)) == 0.0
        first, second = timing.expect(kind, 1.0), timing.expect(kind, 0.0)
        assert await timing.wait_for(second) == 0.0
        assert await timing.wait_for(first) == 1.0

    timed(test)


def test_one_that_has_no_time_at_all_is_woken_when_it_comes_while_the_timer_is_at_work() -> None:
    async def test(timing: Timing) -> None:
        asked: list[Answer] = []
        timing.while_due = lambda: asked.append(timing.ask(0.0)) if not asked else None
        timing.session_at(1.0)
        await trio.sleep(2.0)
        assert asked[0].deadline == timing.start + 1.0
        with trio.move_on_after(1.0) as waiting:
            await asked[0]
        assert not waiting.cancelled_caught

    timed(test)


def test_what_an_interrupt_has_left_in_the_dict_is_woken_once_and_does_not_keep_the_timer_busy() -> None:
    async def test(timing: Timing) -> None:
        timing.ask(1.0)  # nobody waits for it, so nobody takes it out
        assert await timing.wait_for(timing.ask(2.0)) == 2.0
        timing.session_at(3.0)
        await trio.sleep(10.0)
        assert timing.due == [1.0, 2.0, 3.0]
        assert await timing.wait_for(timing.ask(1.0)) == 13.0

    timed(test)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_there_is_not_waited_for(kind: str) -> None:
    async def test(timing: Timing) -> None:
        answer = timing.expect(kind, 5.0)
        timing.reply(answer)
        assert await timing.wait_for(answer) == 0.0

    timed(test)


class Finalized(dict[int, AnyAnswer]):
    """From which a finalizer takes one out while one goes through it."""

    left: int | None = None

    def values(self) -> Any:
        for number, answer in enumerate(dict.values(self)):
            if self.left is not None and number:
                del self[self.left]
                self.left = None
            yield answer


def test_a_request_may_go_while_the_timer_looks_whose_time_is_up() -> None:
    async def test(timing: Timing) -> None:
        requests = timing.requests = Finalized()
        timing.timer._requests = requests
        answers = [timing.ask(1.0) for _ in range(4)]
        requests.left = 2
        async with trio.open_nursery() as nursery:
            for answer in (*answers[:1], *answers[2:]):
                nursery.start_soon(timing.wait_for, answer)
        assert requests.left is None
        assert trio.current_time() == timing.start + 1.0

    timed(test)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [1000.0, 10.0], ids=["behind one that waits", "before one that waits"])
def test_deadlines_of_answers_that_came_are_thrown_out(seconds: float, kind: str) -> None:
    async def test(timing: Timing) -> None:
        waiting = timing.expect(kind, 100.0)
        for _ in range(3 * LOOK_THROUGH):
            answer = timing.expect(kind, seconds)
            timing.reply(answer)
            answer.over = True
        assert timing.kept <= LOOK_THROUGH + 2
        assert await timing.wait_for(waiting) == 100.0  # its deadline was kept

    timed(test)


def test_requests_are_in_order_again_when_one_that_waited_long_is_answered() -> None:
    async def test(timing: Timing) -> None:
        long, short = timing.ask(1000.0), timing.ask(5.0)
        for number in range(2 * LOOK_THROUGH):
            answer = timing.ask(10.0)
            timing.reply(answer)
            answer.over = True
            if number == 10:
                assert timing.kept == 12
                timing.reply(long)
        assert timing.kept == 2  # since the heap was looked through nothing more has come into it
        answer = timing.ask(10.0)
        assert timing.kept == 2
        assert await timing.wait_for(short) == 5.0
        assert await timing.wait_for(answer) == 10.0

    timed(test)


def test_of_requests_one_after_the_other_none_is_kept() -> None:
    async def test(timing: Timing) -> None:
        for seconds in (1000.0, 1.0) * 5:
            timing.reply(timing.ask(seconds))
            assert timing.kept == 0

    timed(test)


def test_a_stopped_timer_ends() -> None:
    async def main() -> None:
        timer = Timer(EventLoop(), {}, lambda now: None)
        timer.stop()
        await timer.run()

    trio.run(main)
