"""The one driver of each client: a machine with calls, a timer, other subscriptions and marks; calls; operations."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from nats_proto import ApiCall, CatchUp, Headers, Message, Operation, Pause, Publish, Request, RequestMany, Subscribe
from nats_proto._publishing.pending import Pending
from nats_proto._publishing.window import PublishWindow
from nats_proto.errors import (
    ConnectionClosedError,
    MaxPayloadError,
    NATSTimeoutError,
    NoRespondersError,
)
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, Collected, Leg, eventually, hub_of
from tests.adapters.machines import Driven, call, run
from tests.machines import IDLE, SERVICE, Numbers, Refused, request_of

pytestmark = pytest.mark.anyio

END = 40


class Service:
    """Answers `Numbers`: ``plan`` tells for each call what becomes of it, a number being the first that is lost."""

    def __init__(self, leg: Leg, client: Any, *plan: int | str) -> None:
        self._client = client
        self._plan = list(plan)
        self.asked: Collected[int] = Collected()
        self.subscribing: AbstractAsyncContextManager[Any] = client.subscribe(
            SERVICE, callback=leg.handler(self._serve)
        )

    async def _serve(self, message: Any) -> None:
        first, inbox = message.data.decode().split()
        self.asked.add(int(first))
        fate = self._plan.pop(0) if self._plan else "good"
        if fate == "silent":
            return
        if fate == "refuses":
            await message.respond(b"go away")
            return
        await message.respond(first.encode())
        for number in range(int(first), END):
            if number == fate:
                continue
            if fate == "stops" and number == int(first) + 10:
                return
            await self._client.publish(inbox, b"%d" % number)


def now(client: Any) -> float:
    return float(client._host().now()) if hasattr(client._host(), "now") else _monotonic()


def _monotonic() -> float:
    import time

    return time.monotonic()


def numbers(client: Any) -> Numbers:
    return Numbers(END, client.new_inbox, now=now(client))


WHOLE = [f"number {n}" for n in range(END)]


@pytest.mark.parametrize(
    ("plan", "asked"),
    [
        ((), [0]),
        ((7,), [0, 7]),
        ((7, 20, 30), [0, 7, 20, 30]),
        (("stops",), [0, 10]),
        (("silent", 3), [0, 0, 3]),
    ],
)
async def test_a_machine_that_begins_anew_gives_everything_once(
    leg: Leg, server: LocalServer, plan: tuple[int | str, ...], asked: list[int]
) -> None:
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        thanks = await other.subscribe("numbers.thanks")
        service = Service(leg, other, *plan)
        async with service.subscribing:
            await other.flush()
            machine = numbers(client)
            by_time = "silent" in plan or "stops" in plan
            machine.idle = IDLE if by_time else 1000.0
            assert [item async for item in Driven(client, machine)] == WHOLE
            if by_time:  # on a busy machine it may lose patience once more
                assert set(asked) <= set(service.asked)
            else:
                assert list(service.asked) == asked
                assert machine.begun == len(asked)
            assert (await thanks.next(timeout=PATIENCE)).data == b"%d" % (END - 1)
        await client.flush()
        with pytest.raises(NoRespondersError):  # its subscription is gone
            await other.request(machine.inbox, timeout=PATIENCE)


async def test_a_machine_learns_that_its_connection_was_replaced(leg: Leg, server: LocalServer) -> None:
    """It waits without a deadline of its own that would help it: the mark alone wakes it."""
    async with leg.connect(server.url) as other, leg.connect(server.url, **QUICK) as client:
        service = Service(leg, other, "stops", "stops")
        async with service.subscribing:
            await other.flush()
            machine = numbers(client)
            machine.idle = 1000.0
            driven = Driven(client, machine)
            assert [await driven.next_until(None) for _ in range(10)] == WHOLE[:10]
            await client.reconnect()
            assert [await driven.next_until(None) for _ in range(10)] == WHOLE[10:20]
            await client.reconnect()
            assert [item async for item in driven] == WHOLE[20:]
            assert (machine.replaced, machine.begun) == (2, 3)


async def test_a_deadline_of_the_caller_ends_no_machine(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        machine = numbers(client)
        machine.idle = 1000.0
        driven = Driven(client, machine)
        with anyio.fail_after(PATIENCE):
            while not machine.answers:
                assert await driven.next_until(now(client) + 0.05) is None
        assert not machine.done
        assert [type(answer) for answer in machine.answers] == [NoRespondersError]
        service = Service(leg, other)
        async with service.subscribing:
            await other.flush()
            assert [item async for item in driven] == WHOLE


async def test_the_error_with_which_a_machine_ends(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        service = Service(leg, other, 5, "refuses")
        async with service.subscribing:
            await other.flush()
            driven = Driven(client, numbers(client))
            assert [await driven.next_until(None) for _ in range(5)] == WHOLE[:5]
            with pytest.raises(Refused, match="go away"):
                await driven.next_until(None)
            assert await driven.next_until(None) is None


async def test_a_machine_that_is_closed_early_leaves_nothing_behind(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        service = Service(leg, other, "stops", "silent")
        async with service.subscribing:
            await other.flush()
            machine = numbers(client)
            driven = Driven(client, machine)
            assert [await driven.next_until(None) for _ in range(10)] == WHOLE[:10]
            await service.asked.wait_len(1)
            await driven.close()
            await client.flush()
            with pytest.raises(NoRespondersError):
                await other.request(machine.inbox, timeout=PATIENCE)
            await driven.close()


class CatchingUp(Numbers):
    """Asks no service, and ends when it has caught up."""

    def _begin(self, now: float) -> None:
        self.inbox = self._new_inbox()
        self._next = self._end = 7
        self.wants += (Subscribe(self.inbox), CatchUp(7))

    def receive(self, message: Any, *, now: float) -> None:
        raise AssertionError("nobody sends anything")

    def caught_up(self, number: int, *, now: float) -> None:
        self.items.append(f"caught up {number}")
        self.done = True


async def test_a_machine_catches_up(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        machine = CatchingUp(END, client.new_inbox, now=now(client), idle=1000.0)
        assert [item async for item in Driven(client, machine)] == ["caught up 7"]


async def test_the_end_of_the_client_ends_a_machine(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as client:
        driven = Driven(client, numbers(client))
        await client.close()
        with pytest.raises(ConnectionClosedError):
            await driven.next_until(None)


async def test_a_wait_that_is_cancelled_loses_nothing(leg: Leg, server: LocalServer) -> None:
    if leg.name == "threads":
        return  # a thread is not cancelled: its deadline is `test_a_deadline_of_the_caller_ends_no_machine`
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        service = Service(leg, other, 7, "stops", "silent", 30)
        async with service.subscribing:
            await other.flush()
            driven = Driven(client, numbers(client))
            given: list[str] = []
            for step in range(10_000):
                with anyio.move_on_after(0.0005 * (step % 5)):
                    while (item := await driven.next_until(None)) is not None:
                        given.append(item)
                    break
            assert given == WHOLE


async def test_whoever_waits_for_a_machine_that_is_stopped_gets_none(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        service = Service(leg, other, "stops", "silent")
        async with service.subscribing:
            await other.flush()
            machine = numbers(client)
            machine.idle = 1000.0
            driven = Driven(client, machine)
            assert [await driven.next_until(None) for _ in range(10)] == WHOLE[:10]
            given: Collected[Any] = Collected()

            async def wait() -> None:
                given.add(await driven.next_until(None))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await eventually(lambda: somebody_waits(driven))
                driven.stop()
            assert list(given) == [None]
            driven.stop()
            assert await driven.next_until(None) is None
        await client.flush()
        with pytest.raises(NoRespondersError):
            await other.request(machine.inbox, timeout=PATIENCE)


async def test_a_machine_that_is_stopped_before_it_began_subscribes_to_nothing(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        machine = numbers(client)
        driven = Driven(client, machine)
        driven.stop()
        assert await driven.next_until(None) is None
        await client.flush()
        with pytest.raises(NoRespondersError):
            await other.request(machine.inbox, timeout=PATIENCE)


async def test_a_request_whose_time_is_up_before_it_is_sent_is_not_sent(leg: Leg, server: LocalServer) -> None:
    """Whoever waits for it has not run for so long."""
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        commands = await other.subscribe("command")
        await other.flush()
        for began, sent in ((0.0, True), (60.0, False)):
            machine: RequestMany[Any] = RequestMany(
                "command", inbox=client.new_inbox(), now=now(client) - began, max_wait=0.1 + began * 0.5
            )
            driven = Driven(client, machine)
            if sent:
                assert await driven.next_until(None) is None
                await commands.next(timeout=PATIENCE)
                continue
            with pytest.raises(NATSTimeoutError, match="request_many to 'command': it was not sent") as raised:
                await driven.next_until(None)
            assert raised.value.outcome == "failed"
        await client.flush()
        await other.flush()
        assert commands.pending == (0, 0)


async def test_another_try_that_nobody_has_sent_in_time_is_not_sent(leg: Leg, server: LocalServer) -> None:
    """Nobody has waited for the acknowledgement meanwhile: the stream has forgotten the message id."""
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        stored = await other.subscribe("orders")
        await other.flush()
        for began, sent in ((10.0, 1), (130.0, 0)):
            window: PublishWindow[Pending[Any], Any] = PublishWindow(client.new_inbox(), Pending, retry_for=1000.0)
            driven = Driven(client, window)
            assert await driven.next_until(now(client)) is None
            pending = window.begin("orders", b"x", Headers({"Nats-Msg-Id": "1"}), now=now(client) - began)
            assert pending is not None
            window.connection_replaced(now=now(client) - began)
            assert len(window.wants) == 1
            assert await driven.next_until(now(client)) is None
            assert not window.wants
            await client.flush()
            await other.flush()
            assert stored.pending[0] == sent
            if sent:
                await stored.next(timeout=PATIENCE)
            await driven.close()


def somebody_waits(driven: Driven) -> bool:
    if driven._threads:
        return bool(driven._sync._inbox._waiters)
    arrival = driven._anyio._inbox._arrival
    return arrival is not None and bool(arrival.statistics().tasks_waiting)


# --- calls and operations --------------------------------------------------------------------------------------------


async def test_a_call_gives_what_its_answer_means(leg: Leg, server: LocalServer) -> None:
    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        with pytest.raises(NoRespondersError):
            await call(client, request_of(3, "nowhere"))
        service = Service(leg, other, "good", "refuses", "silent")
        async with service.subscribing:
            await other.flush()
            assert await call(client, request_of(3, "nowhere")) == 3
            with pytest.raises(Refused):
                await call(client, request_of(3, "nowhere"))
            with pytest.raises(NATSTimeoutError):
                await call(client, request_of(3, "nowhere"), timeout=0.05)


async def test_an_operation_is_run_to_its_end(leg: Leg, server: LocalServer) -> None:
    left: list[str] = []

    def whole() -> Operation[str]:
        try:
            nested = yield from first()
            yield Publish("told", b"%d" % nested, "answer.here", {"A": "1"})
            yield Pause(0.01)
            message = yield Request("echo", b"x", {"B": "2"}, timeout=PATIENCE)
            assert message is not None
            return f"{nested} {message.data.decode()}"
        finally:
            left.append("whole")

    def first() -> Operation[int]:
        try:
            yield Request("nobody.there")
        except NoRespondersError:
            return int(str((yield from ApiCall("echo", "echo", b"5", _number).run())))
        raise AssertionError("somebody was there")

    def _number(message: Message) -> int:
        return int(message.data)

    async def echo(message: Any) -> None:
        await message.respond(message.data)

    async with leg.connect(server.url) as other, leg.connect(server.url) as client:
        told = await other.subscribe("told")
        async with other.subscribe("echo", callback=leg.handler(echo)):
            await other.flush()
            assert await run(client, whole()) == "5 x"
            message = await told.next(timeout=PATIENCE)
            assert (message.data, message.reply, message.headers["A"]) == (b"5", "answer.here", "1")
            assert left == ["whole"]


@pytest.mark.parametrize("effect", ["request", "publish", "pause"])
async def test_what_an_effect_raises_comes_out_of_its_operation(leg: Leg, server: LocalServer, effect: str) -> None:
    left: list[str] = []

    def operation() -> Operation[None]:
        try:
            if effect == "request":
                yield Request("r", timeout=0.01)
            elif effect == "publish":
                yield Publish("p", bytes(2_000_000))
            else:
                yield Pause(1000.0)
        finally:
            left.append("it")

    async with leg.connect(server.url) as client, client.subscribe("r"):
        error = {"request": NATSTimeoutError, "publish": MaxPayloadError, "pause": ConnectionClosedError}[effect]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_fails, client, operation(), error)
            if effect == "pause":
                await eventually(lambda: _waits(client))
                await client.close()
        assert left == ["it"]


async def _fails(client: Any, operation: Operation[None], error: type[Exception]) -> None:
    with pytest.raises(error):
        await run(client, operation)


def _waits(client: Any) -> bool:
    hub = hub_of(client)
    return bool(hub.enders) if hasattr(hub, "enders") else bool(hub.ended.statistics().tasks_waiting)
