"""The parts of nats-anyio's engine, each alone: what reads a socket, starts tasks, keeps time."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from nats_anyio._engine.answers import Answer
from nats_anyio._engine.event_loop import EventLoop
from nats_anyio._engine.reader import Reader
from nats_anyio._engine.starter import Starter
from nats_anyio._engine.timer import LOOK_THROUGH, Timer

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
    with anyio.fail_after(10):
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
        with anyio.fail_after(10):
            await reading.reader.run()
    assert reading.told == [ConnectionResetError]


async def test_a_reader_tells_of_a_defect_and_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    reading = Reading(*pair)
    reading.defect = RuntimeError("planted")
    reading.theirs.sendall(b"a")
    with anyio.fail_after(10):
        await reading.reader.run()
    assert reading.told == [RuntimeError]


async def test_a_reader_that_was_stopped_takes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    reading = Reading(*pair)
    reading.reader.stop()
    reading.theirs.sendall(b"a")
    with anyio.fail_after(10):
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
        with anyio.fail_after(10):
            await done.wait()
        group.cancel_scope.cancel()
    assert called == [0, 1, 2, "from within", "starts"]


# --- what keeps time: by a clock that jumps, which trio alone has -----------------------------------------------------


class Timing:
    """A timer that runs, and the moments at which the session was called."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self.next: float | None = None
        self.start = trio.current_time()
        self.loop = EventLoop()
        self.timer = Timer(self.loop, self.time_is_up)

    def time_is_up(self, now: float) -> None:
        self.due.append(round(now - self.start, 6))
        self.timer.set_session(self.next)

    def session_at(self, seconds: float | None) -> None:
        self.timer.set_session(None if seconds is None else self.start + seconds)

    def answer(self, seconds: float) -> Answer:
        return Answer(self.loop, self.start + seconds, 1)

    async def wait_for(self, answer: Answer) -> float:
        self.timer.expect(answer)
        await answer.arrived
        answer.over = True
        return round(trio.current_time() - self.start, 6)

    @property
    def kept(self) -> int:
        return len(self.timer._in_order) + len(self.timer._others)


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


def test_who_waits_for_an_answer_gives_up_at_the_own_deadline() -> None:
    async def test(timing: Timing) -> None:
        answers = {seconds: timing.answer(seconds) for seconds in (3.0, 1.0, 2.0, 3.5)}
        ended: dict[float, float] = {}

        async def wait(seconds: float) -> None:
            ended[seconds] = await timing.wait_for(answers[seconds])

        async with trio.open_nursery() as nursery:
            for seconds in answers:
                nursery.start_soon(wait, seconds)
            await trio.sleep(1.5)
            answers[3.0].give()
        assert ended == {1.0: 1.0, 2.0: 2.0, 3.0: 1.5, 3.5: 3.5}
        assert [answers[seconds].given for seconds in (1.0, 2.0, 3.0, 3.5)] == [False, False, True, False]

    timed(test)


def test_an_answer_that_is_there_is_not_waited_for() -> None:
    async def test(timing: Timing) -> None:
        answer = timing.answer(5.0)
        answer.give()
        assert await timing.wait_for(answer) == 0.0

    timed(test)


@pytest.mark.parametrize("seconds", [1000.0, 10.0], ids=["behind one that waits", "before one that waits"])
def test_deadlines_of_answers_that_came_are_thrown_out(seconds: float) -> None:
    async def test(timing: Timing) -> None:
        waiting = timing.answer(100.0)
        timing.timer.expect(waiting)
        for _ in range(3 * LOOK_THROUGH):
            answer = timing.answer(seconds)
            timing.timer.expect(answer)
            answer.give()
            answer.over = True
        assert timing.kept <= LOOK_THROUGH + 2
        await trio.sleep(101.0)
        await waiting.arrived  # its deadline was kept

    timed(test)


def test_one_after_the_other_none_is_kept() -> None:
    async def test(timing: Timing) -> None:
        for _ in range(10):
            answer = timing.answer(1000.0)
            timing.timer.expect(answer)
            answer.over = True
            assert timing.kept == 1

    timed(test)


def test_a_stopped_timer_ends() -> None:
    async def main() -> None:
        timer = Timer(EventLoop(), lambda now: None)
        timer.stop()
        await timer.run()

    trio.run(main)
