"""One suite, three legs: every test is written once, against this facade, and runs on threads, asyncio and trio.

On asyncio and trio a test gets the `nats_anyio.Client` itself. On threads it gets `ThreadsClient`, whose methods have
the same names and are awaitable: each call runs the blocking method of `nats_sync` in a worker thread. Callbacks and
hooks of a test are ``async def`` on every leg; on threads they are run by the client's own callback thread, and what
they call on the client is called from that very thread. So they may await the facade and what this module offers, and
nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, Generic, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

import nats_anyio
import nats_sync
from nats_proto import ConnectOptions, HeadersLike, LifecycleEvent
from tests.transports import Transport

__all__ = [
    "PATIENCE",
    "QUICK",
    "Collected",
    "EventLog",
    "Flag",
    "Leg",
    "all_written",
    "anyio_backend",
    "eventually",
    "in_thread",
    "leg",
    "stands_still",
]

PATIENCE: Final = 30.0
"""Seconds until a state that is waited for is given up: longer than a busy machine stands still, which takes six."""
DIAL: Final = 10.0
"""Seconds for an attempt to connect, where a test does not say otherwise."""
WORKERS: Final = 400  # blocking calls at once on the threads leg
QUICK: Final[dict[str, float]] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.01, "reconnect_jitter_tls": 0.01}
"""Options that keep a test with reconnects short."""

P = ParamSpec("P")
T = TypeVar("T")
EventT = TypeVar("EventT")
Message = Any  # nats_anyio.Message, or what stands for it on the threads leg
Handler = Callable[[Message], Coroutine[Any, Any, object]]
Hook = Callable[[LifecycleEvent], Coroutine[Any, Any, object]]


async def eventually(condition: Callable[[], object], what: str = "", *, timeout: float = PATIENCE) -> None:
    """Look again and again until ``condition()`` is true; for states that nobody announces."""
    with anyio.move_on_after(timeout):
        while not condition():
            await anyio.sleep(0.002)
        return
    raise AssertionError(f"it did not happen within {timeout:g} s: {what or condition}")


async def stands_still(value: Callable[[], int]) -> None:
    """Wait until ``value()`` is not 0 and has not changed for a while: whoever changes it waits for somebody else."""
    seen, looks = 0, 0
    with anyio.fail_after(PATIENCE):
        while looks < 30:
            looks = looks + 1 if value() == seen != 0 else 0
            seen = value()
            await anyio.sleep(0.005)


async def all_written(client: Any) -> None:
    """Wait until the system has taken all that a client was to send."""
    await eventually(lambda: hub_of(client).session.pending_bytes == 0)


async def in_thread(function: Callable[[], T]) -> T:
    """Call something that blocks until the client under test, which may need the loop, has done something."""
    return await anyio.to_thread.run_sync(function)


# --- waiting without polling -----------------------------------------------------------------------------------------


class Notice:
    """Something that changes, in any thread; awaited on the loop or in the thread of a callback."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiters: set[anyio.Event] = set()
        self._loop_thread = threading.get_ident()
        self._call_soon = _call_soon()

    def changed(self) -> None:
        """Let everybody who waits look again."""
        with self._condition:
            self._condition.notify_all()
            waiters = tuple(self._waiters)
        for waiter in waiters:
            if threading.get_ident() == self._loop_thread:
                waiter.set()
            else:
                self._call_soon(waiter.set)

    async def wait_until(self, condition: Callable[[], object], timeout: float, what: Callable[[], str]) -> None:
        """Return once ``condition()`` is true; it is looked at again after each change."""
        if threading.get_ident() != self._loop_thread:
            with self._condition:
                assert self._condition.wait_for(condition, timeout), what()
            return
        with anyio.move_on_after(timeout):
            while True:
                waiter = anyio.Event()
                with self._condition:
                    self._waiters.add(waiter)
                try:
                    if condition():
                        return
                    await waiter.wait()
                finally:
                    with self._condition:
                        self._waiters.discard(waiter)
        raise AssertionError(what())


def _call_soon() -> Callable[[Callable[[], object]], object]:
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        return trio.lowlevel.current_trio_token().run_sync_soon


class Flag(Notice):
    """Set once, from anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        self.changed()

    async def wait(self, timeout: float = PATIENCE) -> None:
        await self.wait_until(lambda: self.is_set, timeout, lambda: "the flag was not set")


class Collected(Notice, Generic[T]):
    """Things in the order in which they came; ``collected.add`` takes one from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._things: list[T] = []

    def add(self, thing: T) -> None:
        self._things.append(thing)
        self.changed()

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._things))

    def __len__(self) -> int:
        return len(self._things)

    def __getitem__(self, index: int) -> T:
        return self._things[index]

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"

    async def wait_for(self, condition: Callable[[T], object], *, count: int = 1, timeout: float = PATIENCE) -> T:
        """The ``count``-th thing that fulfils ``condition``, which is not waited for when it came before."""
        found: list[T] = []

        def enough() -> bool:
            found[:] = [thing for thing in self if condition(thing)]
            return len(found) >= count

        await self.wait_until(enough, timeout, lambda: f"{len(found)} of {count} came; in all: {self!r}")
        return found[count - 1]

    async def wait_len(self, length: int, *, timeout: float = PATIENCE) -> list[T]:
        """All things, once there are ``length``."""
        await self.wait_until(lambda: len(self) >= length, timeout, lambda: f"{len(self)} of {length} came: {self!r}")
        return list(self)


class EventLog(Collected[LifecycleEvent]):
    """What a client's ``on_event`` was told: ``leg.connect(url, on_event=log)``."""

    __call__ = Collected.add

    def of(self, event_type: type[EventT]) -> list[EventT]:
        """The events of one class so far."""
        return [event for event in self if isinstance(event, event_type)]

    async def wait(self, event_type: type[EventT], *, count: int = 1, timeout: float = PATIENCE) -> EventT:
        """The ``count``-th event of a class."""
        found = await self.wait_for(lambda event: isinstance(event, event_type), count=count, timeout=timeout)
        assert isinstance(found, event_type)
        return found

    @property
    def names(self) -> list[str]:
        """The classes' names, in order."""
        return [type(event).__name__ for event in self]


# --- the legs --------------------------------------------------------------------------------------------------------


class Leg(ABC):
    """A client under one way of running it. Made anew for each test."""

    name: str
    backend: str

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def connect(self, servers: str | Iterable[str], **options: Any) -> AbstractAsyncContextManager[nats_anyio.Client]:
        """``async with leg.connect(url, option=...) as client``, with what the transport of the test needs."""
        given = options.get("options")
        if isinstance(given, ConnectOptions):
            options["options"] = replace(given, **self._transport.options)
        else:
            options = {**self._transport.options, **options}
            if isinstance(servers, str):
                # On a busy machine a server may say nothing for seconds. Where there are others the next one is tried.
                options = {"connect_timeout": DIAL, **options}
        return self._connect(servers, options)

    @abstractmethod
    def _connect(
        self, servers: str | Iterable[str], options: dict[str, Any]
    ) -> AbstractAsyncContextManager[nats_anyio.Client]: ...

    @abstractmethod
    def handler(self, function: Handler) -> Callable[[Any], object]:
        """What to give ``subscribe(callback=...)`` so that ``function`` is called."""

    @abstractmethod
    def hook(self, function: Hook) -> Callable[[LifecycleEvent], object]:
        """What to give ``on_event`` so that ``function`` is called."""

    @abstractmethod
    def running(self) -> list[str]:
        """The tasks, or threads, that run now and that a client may have started."""


class AnyioLeg(Leg):
    """The client of `nats_anyio`, on the event loop the test runs on."""

    def __init__(self, transport: Transport, backend: str) -> None:
        super().__init__(transport)
        self.name = self.backend = backend

    def _connect(
        self, servers: str | Iterable[str], options: dict[str, Any]
    ) -> AbstractAsyncContextManager[nats_anyio.Client]:
        return nats_anyio.connect(servers, **options)

    def handler(self, function: Handler) -> Callable[[Any], object]:
        return function

    def hook(self, function: Hook) -> Callable[[LifecycleEvent], object]:
        return function

    def running(self) -> list[str]:
        return [str(task.name) for task in anyio.get_running_tasks()]


class ThreadsLeg(Leg):
    """The client of `nats_sync`, called from worker threads."""

    name = "threads"
    backend = "asyncio"

    def _connect(
        self, servers: str | Iterable[str], options: dict[str, Any]
    ) -> AbstractAsyncContextManager[nats_anyio.Client]:
        return self._connected(servers, options)  # type: ignore[return-value]  # it quacks

    @asynccontextmanager
    async def _connected(self, servers: str | Iterable[str], options: dict[str, Any]) -> AsyncIterator[ThreadsClient]:
        call = _Caller()
        client = await call(nats_sync.connect, servers, **options)
        try:
            yield ThreadsClient(client, call)
        finally:
            await call.to_the_end(lambda: client.__exit__(None, None, None))

    def handler(self, function: Handler) -> Callable[[Any], object]:
        call = _Caller()
        return lambda message: _run_here(function(ThreadsMessage(message, call)))

    def hook(self, function: Hook) -> Callable[[LifecycleEvent], object]:
        return lambda event: _run_here(function(event))

    def running(self) -> list[str]:
        return [thread.name for thread in threading.enumerate() if "AnyIO worker" not in thread.name]


class _Caller:
    """Calls blocking functions: in a worker thread, or right here when a callback's own thread asks."""

    def __init__(self) -> None:
        self._loop_thread = threading.get_ident()
        self._limiter = anyio.CapacityLimiter(WORKERS)

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if threading.get_ident() != self._loop_thread:
            return function(*args, **kwargs)
        bound = functools.partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(bound, abandon_on_cancel=True, limiter=self._limiter)

    async def to_the_end(self, function: Callable[[], object]) -> None:
        """Call what ends something, also for a task that is being cancelled."""
        if threading.get_ident() != self._loop_thread:
            function()
            return
        with anyio.CancelScope(shield=True):
            await self(function)


def _run_here(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a callback of a test to its end in this thread. What it awaits blocks and never yields."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("a callback on the threads leg awaited something that is not of the facade")


_END: Final = object()


def hub_of(client: Any) -> Any:
    """What runs a client of any leg: the session, and who waits for something."""
    return getattr(client, "client", client)._hub


class ThreadsMessage:
    """A message whose ``respond`` is awaited."""

    def __init__(self, message: nats_sync.Message, call: _Caller) -> None:
        self.message = message
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)

    def __repr__(self) -> str:
        return repr(self.message)

    async def respond(self, data: bytes = b"", *, headers: HeadersLike | None = None) -> None:
        await self._call(self.message.respond, data, headers=headers)


class ThreadsSubscription:
    """A subscription whose methods are awaited; properties are those of the real one."""

    def __init__(self, subscription: nats_sync.Subscription, call: _Caller) -> None:
        self.subscription = subscription
        self._call = call
        self._iterator = iter(subscription)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.subscription, name)

    def __aiter__(self) -> ThreadsSubscription:
        return self

    async def __anext__(self) -> ThreadsMessage:
        message = await self._call(next, self._iterator, _END)
        if message is _END:
            raise StopAsyncIteration
        return ThreadsMessage(message, self._call)  # type: ignore[arg-type]  # not _END

    async def next(self, timeout: float | None = None) -> ThreadsMessage:
        return ThreadsMessage(await self._call(self.subscription.next, timeout=timeout), self._call)

    async def next_batch(self, max_msgs: int, timeout: float | None = None) -> list[ThreadsMessage]:
        messages = await self._call(self.subscription.next_batch, max_msgs, timeout=timeout)
        return [ThreadsMessage(message, self._call) for message in messages]

    async def unsubscribe(self, max_msgs: int | None = None) -> None:
        await self._call(self.subscription.unsubscribe, max_msgs)

    async def drain(self, timeout: float | None = None) -> None:
        await self._call(self.subscription.drain, timeout=timeout)


class _Subscribing:
    """``await client.subscribe(...)``, or ``async with client.subscribe(...) as sub``."""

    def __init__(self, subscribe: Callable[[], Awaitable[ThreadsSubscription]]) -> None:
        self._subscribe = subscribe
        self._subscription: ThreadsSubscription | None = None

    def __await__(self) -> Generator[Any, Any, ThreadsSubscription]:
        return self._subscribe().__await__()

    async def __aenter__(self) -> ThreadsSubscription:
        self._subscription = await self._subscribe()
        return self._subscription

    async def __aexit__(self, *exc: object) -> None:
        assert self._subscription is not None
        subscription = self._subscription.subscription
        await self._subscription._call.to_the_end(lambda: subscription.__exit__(None, None, None))


class ThreadsClient:
    """The threaded client with awaitable methods; properties are those of the real one."""

    def __init__(self, client: nats_sync.Client, call: _Caller) -> None:
        self.client = client
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    async def publish(self, subject: str, data: bytes = b"", **options: Any) -> None:
        await self._call(self.client.publish, subject, data, **options)

    async def publish_many(self, subject: str, payloads: Iterable[bytes]) -> None:
        await self._call(self.client.publish_many, subject, payloads)

    async def request(self, subject: str, data: bytes = b"", **options: Any) -> ThreadsMessage:
        return ThreadsMessage(await self._call(self.client.request, subject, data, **options), self._call)

    async def request_service(self, subject: str, value: object = b"", **options: Any) -> Any:
        return await self._call(lambda: self.client.request_service(subject, value, **options))

    async def request_many(self, subject: str, data: bytes = b"", **options: Any) -> AsyncIterator[ThreadsMessage]:
        answers = self.client.request_many(subject, data, **options)
        try:
            while (message := await self._call(next, answers, _END)) is not _END:
                yield ThreadsMessage(message, self._call)  # type: ignore[arg-type]  # not _END
        finally:
            close = getattr(answers, "close", None)  # what the end of a `for` loop over a generator does
            if close is not None:
                await self._call.to_the_end(close)

    def subscribe(self, subject: str, **options: Any) -> _Subscribing:
        async def subscribe() -> ThreadsSubscription:
            return ThreadsSubscription(await self._call(self.client.subscribe, subject, **options), self._call)

        return _Subscribing(subscribe)

    async def flush(self, timeout: float = 10.0) -> None:
        await self._call(self.client.flush, timeout)

    async def rtt(self, timeout: float = 10.0) -> float:
        return await self._call(self.client.rtt, timeout)

    async def drain(self, timeout: float | None = None) -> None:
        await self._call(self.client.drain, timeout)

    async def close(self) -> None:
        await self._call(self.client.close)

    async def reconnect(self) -> None:
        await self._call(self.client.reconnect)


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["threads", "asyncio", "trio"])
def leg(request: pytest.FixtureRequest) -> Leg:
    """The client under test, three times; and over each transport, for a test whose servers have one."""
    name: str = request.param
    transport = request.getfixturevalue("transport") if "transport" in request.fixturenames else Transport()
    return ThreadsLeg(transport) if name == "threads" else AnyioLeg(transport, name)


@pytest.fixture
def anyio_backend(leg: Leg) -> str:
    """The event loop the test itself runs on."""
    return leg.backend
