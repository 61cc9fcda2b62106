"""Instances of a service while their server is killed and started again, and a ledger of what came of each request.

Theory of operation
-------------------
Three clients have an instance each, with two endpoints: one answers one request after the other, one several at once.
A fourth client publishes requests with a reply subject of their own, so that a second answer would be seen as well.
What a handler does follows from the number of its request: it answers, raises, or answers with an error.

Each round kills the server (`kill -9`) while requests are on their way, and starts it again. Such requests may be lost,
or their answers; this is what a server that dies does. What may not happen is looked for all the time, and it is what
`Violation` tells:

* a request that is served twice, answered twice, or answered by who has not served it or in other words than he said;
  or one that is served though its sender was told that nobody is there;
* an instance of which an endpoint serves nothing any more when the server has come back;
* a handler that does not return, a request that came to an instance and to no handler;
* a stop, or a drain of a client, that returns before all that had come to the instance was served; or after which it is
  served still. Where no server dies meanwhile, each request that was sent before is answered as well: what the one that
  stops does not take any more goes to another one;
* monitors that are told other instances, endpoints or numbers than the ledger has.

In some rounds an instance is stopped meanwhile and another one takes its place: while the server runs, or while it is
dead. Its handlers are held back then by a gate, so that requests wait in the instance. At the end all clients drain.

Another run has a server that becomes a lame duck, and a second one to which all clients move. There nothing is lost.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import anyio

from nats_proto import SessionStatus
from nats_proto.errors import NATSTimeoutError
from nats_proto.services import ServiceError, service_error
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Flag, Leg, eventually, hub_of, in_thread
from tests.adapters.services import add_service, found, found_all, services

__all__ = ["Chaos", "Violation"]

NAME: Final = "chaos"
INSTANCES: Final = 3
ENDPOINTS: Final[dict[str, int]] = {"one": 1, "many": 4}
"""The endpoints, with how many requests each answers at once."""
BATCH: Final = 24
"""Requests that are sent while the gate is closed: more than all handlers together can hold."""
MOMENT: Final = 0.05
"""Seconds that a stop gets that cannot be done."""
PACE: Final = 0.002
"""Seconds between two requests of a round."""


class Violation(AssertionError):
    """Something has happened that may not happen."""


def said(number: int) -> tuple[int, str]:
    """What the handler of a request says: code and text; the code is 0 when it is no error."""
    match number % 4:
        case 0:
            return 0, f"done {number}"
        case 1:
            return 409, f"not now {number}"
        case 2:
            return 500, f"broken {number}"
        case _:
            return 422, f"not so {number}"


async def serve(request: Any, number: int) -> None:
    """The handler of every endpoint."""
    code, text = said(number)
    match code:
        case 0:
            await request.respond(text.encode())
        case 409:
            raise ServiceError(code, text)
        case 500:
            raise RuntimeError(text)
        case _:
            await request.respond_error(code, text)


class Ledger:
    """What came of each request, by its number. Handlers of any thread write here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._violations: list[str] = []
        self.sent: list[str] = []
        """The endpoint of each request."""
        self.served: dict[int, tuple[str, str]] = {}
        """By which instance, and at which endpoint: its handler has begun."""
        self.returned: set[int] = set()
        """Its handler has returned."""
        self.answered: set[int] = set()
        self.nobody: set[int] = set()
        """The server said that nobody is there."""
        self.closed: set[str] = set()
        """Instances that have stopped: they serve nothing more."""

    def send(self, endpoint: str) -> int:
        """A new request, that begins now."""
        self.sent.append(endpoint)
        return len(self.sent) - 1

    def begin(self, number: int, instance: str, endpoint: str) -> None:
        """A handler was called."""
        with self._lock:
            if number in self.served:
                self._violations.append(f"request {number} was served twice: by {self.served[number]} and {instance}")
            if endpoint != self.sent[number]:
                self._violations.append(f"request {number} for {self.sent[number]} was served at {endpoint}")
            if number in self.nobody:
                self._violations.append(f"request {number} was served though nobody was there")
            if instance in self.closed:
                self._violations.append(f"request {number} was served after the end of its instance")
            self.served[number] = instance, endpoint

    def end(self, number: int) -> None:
        """It has returned, or raised."""
        with self._lock:
            self.returned.add(number)

    def answer(self, number: int, message: Any) -> None:
        """What came to the reply subject."""
        with self._lock:
            if message.status is not None:
                self.nobody.add(number)
                if number in self.served:
                    self._violations.append(f"request {number} was served though nobody was there")
                return
            error = service_error(message)
            told = (0, message.data.decode()) if error is None else (error.code, error.description)
            if number in self.answered:
                self._violations.append(f"request {number} was answered twice")
            if number not in self.served:
                self._violations.append(f"request {number} was answered by who has not served it")
            if told != said(number):
                self._violations.append(f"request {number} was answered with {told}, not {said(number)}")
            self.answered.add(number)

    def close(self, instance: str) -> None:
        """The instance says that it has stopped."""
        with self._lock:
            self.closed.add(instance)
            if left := self._held(instance):
                self._violations.append(f"the stop of an instance has left the handlers of {left}")

    def held(self, instance: str) -> list[int]:
        """The requests whose handlers have begun there, and have not returned."""
        with self._lock:
            return self._held(instance)

    def _held(self, instance: str) -> list[int]:
        return sorted(
            number for number, (one, _) in self.served.items() if one == instance and number not in self.returned
        )

    def numbers(self, instance: str, endpoint: str) -> tuple[int, int]:
        """Requests and errors, as monitors are to be told when all handlers have returned."""
        with self._lock:
            mine = [number for number in self.returned if self.served[number] == (instance, endpoint)]
        return len(mine), sum(said(number)[0] != 0 for number in mine)

    def begun(self, instance: str, endpoint: str) -> int:
        """How many handlers were called."""
        with self._lock:
            return Counter(self.served.values())[instance, endpoint]

    def answering(self, since: int) -> set[tuple[str, str]]:
        """Which endpoints of which instances have answered a request with this number or a later one."""
        with self._lock:
            return {self.served[number] for number in self.answered if number >= since and number in self.served}

    def told_of(self, numbers: set[int]) -> dict[int, str]:
        """What came of these requests."""
        with self._lock:
            return {
                number: "nobody was there" if number in self.nobody else " at ".join(self.served.get(number, ("lost",)))
                for number in sorted(numbers)
            }

    def check(self) -> None:
        """Raises `Violation` for the first one."""
        with self._lock:
            if self._violations:
                raise Violation(self._violations[0])


class Instance:
    """One instance of the service, with the client that it belongs to."""

    def __init__(self, client: Any, ledger: Ledger, gate: Callable[[], Flag], name: str) -> None:
        self.client = client
        self.name = name
        self.service = add_service(client, NAME)
        self.ledger = ledger
        group = self.service.group(NAME)
        # Kept, since a service forgets its endpoints when they are stopped.
        self._endpoints = {
            endpoint: group.endpoint(endpoint, self._handler(gate, endpoint), concurrency=concurrency)
            for endpoint, concurrency in ENDPOINTS.items()
        }

    def _handler(self, gate: Callable[[], Flag], endpoint: str) -> Callable[[Any], Any]:
        async def handle(request: Any) -> None:
            number = int(request.data)
            self.ledger.begin(number, self.name, endpoint)
            try:
                await gate().wait()
                await serve(request, number)
            finally:
                self.ledger.end(number)

        return handle

    @property
    def id(self) -> str:
        """As monitors know it."""
        return str(self.service.id)

    def received(self) -> dict[str, int]:
        """How many requests have come, by endpoint."""
        things = {name: getattr(one, "thing", one) for name, one in self._endpoints.items()}
        return {name: thing._subscription._state.received for name, thing in things.items()}

    def check_served(self) -> None:
        """All that has come was given to a handler. Raises `Violation`."""
        for endpoint, received in self.received().items():
            begun = self.ledger.begun(self.name, endpoint)
            if begun != received:
                raise Violation(f"{received} requests came to {endpoint} of {self.name}, and {begun} were served")

    async def check_stats(self, told: Any, patience: float) -> None:
        """These statistics are right, or are so soon: a request is counted when its handler has returned."""

        def wrong() -> str:
            endpoints = told().endpoints
            for name, stats in zip(ENDPOINTS, endpoints, strict=True):
                due = self.ledger.numbers(self.name, name)
                if (stats.num_requests, stats.num_errors) != due:
                    return f"{name} of {self.name} tells {stats.num_requests} and {stats.num_errors}, and has had {due}"
            return ""

        with suppress(AssertionError):
            await eventually(lambda: not wrong(), timeout=patience)
        if wrong():
            raise Violation(f"the statistics are wrong: {wrong()}")


class Chaos:
    """One run with a server, or more that are a cluster: all clients are at the first one then.

    ``patience``: seconds until what has to come is said not to.
    """

    def __init__(self, leg: Leg, *servers: LocalServer, patience: float = PATIENCE) -> None:
        self._leg = leg
        self._servers = servers
        self._server = servers[0]
        self._patience = patience
        self._ledger = Ledger()
        self._instances: list[Instance] = []
        self._names = itertools.count(1)
        self._caller: Any = None
        self._gate = Flag()
        self._gate.set()
        self.kills = 0

    async def run(self, kills: int) -> None:
        """Raises `Violation`."""
        async with self._at_work():
            while self.kills < kills:
                match self.kills % 3:
                    case 0:
                        await self._outage()
                    case 1:
                        await self._outage()
                        await self._come_right()
                        await self._stop_one()
                    case _:
                        await self._stop_one_while_the_server_is_dead()
                await self._come_right()
                await self._check_monitors()
            await self._drain()

    async def run_lame_duck(self, *, held: bool) -> None:
        """The first server sends its clients away, while requests are sent and an instance stops: none is lost.

        ``held``: until all clients have moved, handlers do not go on. Raises `Violation`.
        """
        async with self._at_work():
            first = len(self._ledger.sent)
            instance = self._instances.pop(0)
            async with self._sending():
                async with self._gate_closed(), anyio.create_task_group() as group:
                    await self._until(lambda: sum(instance.received().values()) > 2, "an instance got no requests")
                    group.start_soon(in_thread, self._server.lame_duck)
                    group.start_soon(self._stop, instance)
                    await self._until(lambda: instance.service.stopped, "a stop has not begun")
                    if held:
                        await self._until(self._all_have_moved, "a client stays with a lame duck")
                    self._gate.set()
                await self._until(self._all_have_moved, "a client stays with a lame duck")
            await self._end_of_lame_duck([instance], first)

    async def run_between(self, *, drain: bool) -> None:
        """As `run_lame_duck`, but two instances stop, or their clients drain, while both servers deliver to them.

        The caller is at the second server, which gives requests to its own clients first. Raises `Violation`.
        """
        async with self._at_work(caller_at=-1):
            first = len(self._ledger.sent)
            stays, *leaving = self._instances
            self._instances = [stays]
            await in_thread(self._server.lame_duck)
            for instance in (stays, *leaving):
                await self._until(partial(self._hears_both, instance), "a client stays with a lame duck")
            async with anyio.create_task_group() as group:
                for instance in leaving:
                    await self._send_batch()
                    group.start_soon(self._drain_one if drain else self._stop, instance)
                    await self._send_batch()
            await self._until(self._all_have_moved, "a client stays with a lame duck")
            await self._end_of_lame_duck([] if drain else leaving, first)

    async def _end_of_lame_duck(self, stopped: list[Instance], first: int) -> None:
        """All requests since the ``first`` are answered, and all comes right."""
        await self._until_answered(set(range(first, len(self._ledger.sent))))
        await in_thread(self._server.kill)  # it would take its time
        for instance in stopped:
            self._add(instance.client)
        await self._come_right()
        await self._check_monitors()
        await self._drain()

    def _hears_both(self, instance: Instance) -> bool:
        """Both servers deliver to it, or only the new one any more."""
        successor = hub_of(instance.client).session._life.successor
        return (successor is not None and successor.joined) or instance.client.connected_url != self._server.url

    def _all_have_moved(self) -> bool:
        clients = [self._caller, *(instance.client for instance in self._instances)]
        return all(client.connected_url not in (None, self._server.url) for client in clients)

    @asynccontextmanager
    async def _at_work(self, *, caller_at: int = 0) -> AsyncIterator[None]:
        """All clients are there, and have come right."""
        options = {**QUICK, "randomize_servers": False}
        urls = [server.url for server in self._servers]
        others = [urls[caller_at], *urls]
        try:
            async with AsyncExitStack() as stack:
                self._caller = await stack.enter_async_context(self._leg.connect(others, **options))
                handler = self._leg.handler(self._answered)
                await stack.enter_async_context(self._caller.subscribe("answers.*", callback=handler))
                for _ in range(INSTANCES):
                    self._add(await stack.enter_async_context(self._leg.connect(urls, **options)))
                await self._come_right()
                yield
        except BaseExceptionGroup as group:
            raise next(_leaves(group)) from None  # a task has found it

    async def _answered(self, message: Any) -> None:
        self._ledger.answer(int(message.subject.rpartition(".")[2]), message)

    def _add(self, client: Any) -> None:
        self._instances.append(Instance(client, self._ledger, lambda: self._gate, f"instance {next(self._names)}"))

    # --- requests

    async def _send(self, endpoint: str) -> int:
        number = self._ledger.send(endpoint)
        await self._caller.publish(f"{NAME}.{endpoint}", b"%d" % number, reply=f"answers.{number}")
        return number

    async def _send_batch(self) -> set[int]:
        """As many for each endpoint."""
        return {await self._send(endpoint) for _ in range(BATCH // len(ENDPOINTS)) for endpoint in ENDPOINTS}

    @asynccontextmanager
    async def _sending(self) -> AsyncIterator[None]:
        """Requests are sent meanwhile, without end."""

        enough = False

        async def send() -> None:
            for endpoint in itertools.cycle(ENDPOINTS):
                await self._send(endpoint)
                if enough:
                    return
                await anyio.sleep(PACE)

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            yield
            enough = True

    @asynccontextmanager
    async def _gate_closed(self) -> AsyncIterator[None]:
        """No handler goes on before the end of the block, and then all do."""
        self._gate = Flag()
        try:
            yield
        finally:
            self._gate.set()

    async def _until(self, condition: Callable[[], object], what: str) -> None:
        with suppress(AssertionError):
            await eventually(lambda: self._ledger.check() or condition(), timeout=self._patience)
        self._ledger.check()
        if not condition():
            raise Violation(what)

    async def _until_answered(self, batch: set[int]) -> None:
        """Each of them, though nothing may be lost now."""
        with suppress(Violation):
            await self._until(lambda: batch <= self._ledger.answered, "")
        self._ledger.check()
        if lost := batch - self._ledger.answered:
            raise Violation(f"not answered though no server died: {self._ledger.told_of(lost)}")

    async def _come_right(self) -> None:
        """The server is there: soon each endpoint of each instance answers again."""
        first = len(self._ledger.sent)
        due = {(instance.name, endpoint) for instance in self._instances for endpoint in ENDPOINTS}
        with anyio.move_on_after(self._patience):
            async with self._sending():
                while not due <= self._ledger.answering(first):
                    self._ledger.check()
                    await anyio.sleep(PACE)
        self._ledger.check()
        if silent := due - self._ledger.answering(first):
            raise Violation(f"no more answers: {sorted(silent)}")

    # --- what happens

    async def _outage(self) -> None:
        async with self._sending():
            served = len(self._ledger.served)
            await self._until(lambda: len(self._ledger.served) > served + 5, "no request was served")
            await self._kill()
            await in_thread(self._server.start)

    async def _kill(self) -> None:
        await in_thread(self._server.kill)
        self.kills += 1

    async def _stop_one(self) -> None:
        """While the server runs: what it takes it answers, the rest is for the others."""
        await self._quiet()
        instance = self._instances.pop(0)
        async with self._gate_closed():
            batch = await self._send_batch()
            await self._caller.flush()
            await self._until(lambda: sum(instance.received().values()) > 2, "an instance got no requests")
            await self._stop_in_vain(instance)
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop, instance)
                self._gate.set()
        await self._until_answered(batch)
        await instance.check_stats(instance.service.stats, self._patience)
        if await found(services(self._caller, NAME, instance.id, timeout=0.5).ping()):
            raise Violation("an instance that has stopped answers monitors")
        self._add(instance.client)

    async def _stop_one_while_the_server_is_dead(self) -> None:
        await self._quiet()
        instance = self._instances.pop(0)
        async with self._gate_closed():
            await self._send_batch()
            await self._caller.flush()
            # Of this batch: what it received of earlier ones says nothing, and a dead server sends none.
            await self._until(lambda: self._ledger.held(instance.name), "an instance got no requests")
            await self._kill()
            await self._until(lambda: instance.client.status is not SessionStatus.CONNECTED, "it was not told")
            await self._stop_in_vain(instance)
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop, instance)
                self._gate.set()
        self._add(instance.client)
        await in_thread(self._server.start)

    async def _stop_in_vain(self, instance: Instance) -> None:
        """The gate is closed, so a stop must not return, however much time it gets; afterwards another one goes on."""
        await self._until(lambda: self._ledger.held(instance.name), "no handler was called")
        with suppress(NATSTimeoutError):
            await instance.service.stop(MOMENT)
            self._ledger.close(instance.name)
            self._ledger.check()

    async def _stop(self, instance: Instance) -> None:
        await instance.service.stop(self._patience)
        self._ledger.close(instance.name)
        self._ledger.check()
        instance.check_served()

    async def _drain_one(self, instance: Instance) -> None:
        await instance.client.drain(self._patience)
        self._ledger.close(instance.name)
        self._ledger.check()
        instance.check_served()

    async def _drain(self) -> None:
        """All clients at once, in the midst of a batch, for the last instances."""
        await self._quiet()
        async with self._gate_closed():
            batch = await self._send_batch()
            await self._caller.flush()
            async with anyio.create_task_group() as group:
                for instance in self._instances:
                    group.start_soon(self._drain_one, instance)
                await self._until(self._nobody_is_connected, "a drain has not begun")
                self._gate.set()
        await self._until_answered(batch)
        for instance in self._instances:
            await instance.check_stats(instance.service.stats, self._patience)
        self._ledger.check()

    def _nobody_is_connected(self) -> bool:
        return all(one.client.status is not SessionStatus.CONNECTED for one in self._instances)

    # --- what must be right when nothing is under way

    async def _quiet(self) -> None:
        """All requests have come to where they go, and were served."""
        await self._caller.flush()
        await self._until(lambda: self._ledger.served.keys() == self._ledger.returned, "a handler does not return")
        for instance in self._instances:
            await instance.client.flush()
        await self._until(lambda: self._ledger.served.keys() == self._ledger.returned, "a handler does not return")
        for instance in self._instances:
            with suppress(Violation):
                await self._until(partial(_is_served, instance), "")
            instance.check_served()

    async def _check_monitors(self) -> None:
        """PING finds the instances, INFO their endpoints, and STATS what they have done."""
        await self._quiet()
        caller, ids = self._caller, {instance.id for instance in self._instances}
        pings = await found_all(lambda: services(caller, NAME, timeout=self._patience, stall=0.1).ping(), ids)
        if {ping.id for ping in pings} != ids:
            raise Violation(f"other instances than {sorted(ids)} are found: {pings}")
        for instance in self._instances:
            (info,) = await found(services(caller, NAME, instance.id).info())
            if [endpoint.name for endpoint in info.endpoints] != list(ENDPOINTS):
                raise Violation(f"other endpoints are told: {info}")
            (stats,) = await found(services(caller, NAME, instance.id).stats())
            await instance.check_stats(lambda told=stats: told, 0.0)


def _is_served(instance: Instance) -> bool:
    with suppress(Violation):
        instance.check_served()
        return True
    return False


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Violations first."""
    violations, others = group.split(Violation)
    for part in (violations, others):
        for one in () if part is None else part.exceptions:
            if isinstance(one, BaseExceptionGroup):
                yield from _leaves(one)
            else:
                yield one
