"""What is asked of the event loop so often that the way through anyio costs more than the answer.

Theory of operation
-------------------
On asyncio a task that waits for its socket through anyio registers the socket for every chunk and takes it out again,
and the task that a chunk wakes has to wake another one. That is half the time of a request. But asyncio can call a
function whenever a registered socket has something. So there such a call takes what has arrived, and the task that
reads only waits for the end. On trio, and on a loop of asyncio that cannot call (Windows' proactor), that task waits,
takes, and waits again.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Final, NoReturn

import anyio
import anyio.lowlevel

from nats_proto._wire.twin import TaskAnswers, TrioAnswers

if TYPE_CHECKING:
    import asyncio

    import trio

__all__ = ["BURST", "MORE", "OVER", "QUIET", "EventLoop", "Wait"]

Wait = Awaitable[object]
"""One task's wait for one thing, to be awaited once: a future of asyncio, or a `_TrioWait`. An event of asyncio would
find its loop, keep a queue of waiters and make such a future for each."""

QUIET: Final = 0
"""Taken: for now there is nothing left."""
MORE: Final = 1
"""Taken: there is probably more."""
OVER: Final = 2
"""Nothing is to be taken any more."""
BURST: Final = 3
"""Taken: for now there is nothing left, but it was enough to wake many tasks."""


class EventLoop:
    """The running one; to be made within it."""

    def __init__(self) -> None:
        self._asyncio = _running_asyncio()
        self._trio = _running_trio() if self._asyncio is None else None
        self.running: Callable[[], object] = _thread_is(threading.get_ident())
        self.home: object = True
        """What ``running()`` gives in this loop, but neither in another thread nor in a loop that comes after it."""
        if self._asyncio is not None:
            # The public `get_running_loop` raises in a thread without a loop, where this function returns None.
            self.running, self.home = sys.modules["asyncio"]._get_running_loop, self._asyncio
        self._forgotten = False
        self._root: asyncio.Task[None] | None = None
        self.new_wait: Callable[[], Wait] = _TrioWait
        """Makes a wait that has not begun."""
        self.end_wait: Callable[[Wait], None] = _TrioWait.set  # type: ignore[assignment]  # of such a one
        """Ends a wait; also before it has begun, and again."""
        if self._asyncio is not None:
            self.new_wait = self._asyncio.create_future
            self.end_wait = _set_result  # type: ignore[assignment]  # of a future
        self.now: Callable[[], float] = _clock(self._asyncio)
        """The clock, in seconds."""

    @property
    def is_asyncio(self) -> bool:
        """Whether a task can be cancelled by anybody, and need not belong to another."""
        return self._asyncio is not None

    def forget(self) -> None:
        """In a forked child: what the loop asks the system for is shared with the parent, and not to be touched."""
        self._forgotten = True
        self.home = None

    def answers(self) -> TaskAnswers | TrioAnswers | None:
        """By which answers wake tasks; None on a trio that puts tasks to sleep in a way that is not known here."""
        loop = self._asyncio
        return _trio_answers() if loop is None else TaskAnswers(loop, sys.modules["asyncio"].CancelledError)

    # --- tasks -------------------------------------------------------------------------------------------------------

    def start(self, root: Callable[[], Coroutine[object, object, None]]) -> bool:
        """Start a task that belongs to nobody but the loop; False where there is no such thing."""
        if self._asyncio is None:
            return False
        # The loop itself holds tasks only weakly.
        self._root = self._asyncio.create_task(root(), name="nats client")
        return True

    def cancelled_from_outside(self) -> Callable[[], bool]:
        """Tells whether the calling task was cancelled by `asyncio.Task.cancel`, as `asyncio.run` does at its end."""
        task = None if self._asyncio is None else sys.modules["asyncio"].current_task()
        return lambda: task is not None and task.cancelling() > 0

    def cancellations(self) -> Callable[[], int]:
        """Tells how often the calling task was cancelled by those who need no cancel scope for that."""
        task = None if self._asyncio is None else sys.modules["asyncio"].current_task()
        return _no_cancellations if task is None else task.cancelling

    def raise_outside(self, error: BaseException) -> None:
        """Have the call that runs the loop raise it, as if nobody had caught it: `SystemExit`, `KeyboardInterrupt`.

        Where every task belongs to another, as on trio, it is raised here and now.
        """
        if self._asyncio is None:
            raise error

        def reraise() -> None:
            raise error

        # A task that raised it would print it once more, when nobody asks for the task's result.
        self._asyncio.call_soon(reraise)

    # --- calls -------------------------------------------------------------------------------------------------------

    def call_from_thread(self, function: Callable[[], object]) -> None:
        """From another thread: have the loop call it soon. Does nothing when the loop has ended."""
        with contextlib.suppress(RuntimeError):  # what both loops raise then, trio a subclass of it
            if self._asyncio is not None:
                self._asyncio.call_soon_threadsafe(function)
            elif self._trio is not None:
                self._trio.run_sync_soon(function)

    async def read(self, sock: socket.socket, take: Callable[[], int]) -> None:
        """Call ``take`` whenever ``sock`` has something, until it says `OVER`. Raises `OSError`.

        It must not raise. On asyncio it runs outside of any task: it can set events and cancel scopes, but make none.
        """
        if self._asyncio is None or not await self._called(self._asyncio, sock, take):
            # `anyio.wait_readable` looks at each call which event loop this is.
            trio = None if self._trio is None else sys.modules["trio"]
            await _waiting(sock, take, anyio.wait_readable if trio is None else trio.lowlevel.wait_readable)

    async def _called(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, take: Callable[[], int]) -> bool:
        """Let the loop call; False when it cannot."""
        over = anyio.Event()
        # Whether anyio knows, within a call by the loop, which event loop that is depends on the context of the task
        # that reads, and so on who has started the client. In an empty context it never knows. So what works in one
        # program works in all.
        context = Context()

        def readable() -> None:
            if context.run(take) == OVER:
                # The loop calls for as long as something is there to be read. So the socket is taken out now, and not
                # when the task that reads gets its turn.
                loop.remove_reader(sock)
                over.set()

        try:
            loop.add_reader(sock, readable)
        except NotImplementedError:
            return False
        try:
            await over.wait()
        finally:
            if not self._forgotten:  # else a finalizer runs in a forked child
                loop.remove_reader(sock)
        return True


def _set_result(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _TrioWait:
    """An event of trio keeps a dict of the tasks that wait for it; this is what such a task does."""

    __slots__ = ("_over", "_task")

    def __init__(self) -> None:
        self._over = False
        self._task: trio.lowlevel.Task | None = None

    def set(self) -> None:
        self._over = True
        task, self._task = self._task, None
        if task is not None:
            sys.modules["trio"].lowlevel.reschedule(task)

    def __await__(self) -> Generator[object, None, object]:
        if self._over:
            return _nothing().__await__()
        lowlevel = sys.modules["trio"].lowlevel
        self._task = lowlevel.current_task()
        waiting: Generator[object, None, object] = lowlevel.wait_task_rescheduled(self._abort).__await__()
        return waiting

    def _abort(self, raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        self._task = None
        return _agree(raise_cancel)


def _agree(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
    """Whoever cancels a wait of trio may do so."""
    aborted: trio.lowlevel.Abort = sys.modules["trio"].lowlevel.Abort.SUCCEEDED
    return aborted


def _trio_answers() -> TrioAnswers | None:
    """None: this trio puts tasks to sleep, or wakes them, in another way than is known here."""
    lowlevel, outcome = sys.modules["trio"].lowlevel, sys.modules.get("outcome")
    if outcome is None:
        return None
    # What a coroutine that waits says to trio, and whether it expects an outcome. It belongs to no task.
    waiting = lowlevel.wait_task_rescheduled(_agree)
    trap = waiting.send(None)
    try:
        waiting.send(outcome.Value(trap))
    except StopIteration as end:
        # Where the trap says more than which function ends the wait, one may not stand for all.
        if end.value is trap and getattr(trap, "__dict__", None) == {"abort_func": _agree}:
            return TrioAnswers(lowlevel.current_task, lowlevel.reschedule, trap, outcome.Value(None))
    waiting.close()
    return None


async def _nothing() -> None:
    pass


def _no_cancellations() -> int:
    return 0


async def _waiting(
    sock: socket.socket, take: Callable[[], int], wait_readable: Callable[[socket.socket], Awaitable[None]]
) -> None:
    await wait_readable(sock)
    while (taken := take()) != OVER:
        if taken != QUIET:
            # Whoever was woken runs before the loop looks at the socket again. So what they write, and the answers to
            # it, come together and not one by one, which saves more than this turn of the loop costs.
            await anyio.lowlevel.checkpoint()
        if taken != MORE:
            await wait_readable(sock)


def _clock(loop: asyncio.AbstractEventLoop | None) -> Callable[[], float]:
    # `anyio.current_time` looks at each call which event loop this is, `trio.current_time` which run, and a request
    # asks for the time.
    if loop is not None:
        return loop.time
    time: Callable[[], float] = sys.modules["trio"].lowlevel.current_clock().current_time
    return time


def _thread_is(owner: int) -> Callable[[], bool]:
    ident = threading.get_ident
    return lambda: ident() == owner


def _running_asyncio() -> asyncio.AbstractEventLoop | None:
    """The loop of asyncio that this task belongs to, if it belongs to one."""
    # No task of asyncio runs where nobody has imported it, so a program on trio need not load it for this question.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        # trio can run as a guest of asyncio: then there is a loop, but the task is not one of it.
        return asyncio.get_running_loop() if asyncio.current_task() is not None else None
    except RuntimeError:
        return None


def _running_trio() -> trio.lowlevel.TrioToken | None:
    """The run of trio that this task belongs to, if it belongs to one."""
    module = sys.modules.get("trio")
    if module is None:
        return None
    try:
        token: trio.lowlevel.TrioToken = module.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return token
