"""Every awaiting method, in every state, cancelled at each of its suspensions and at many turns of the loop.

Nothing may be lost by it: no message, no reply slot, no place in a queue; no task may be left behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.lowlevel
import pytest

import nats_anyio
from nats_proto import SessionStatus
from nats_proto._session import life_cycle as _life_cycle
from nats_proto.errors import ConnectionLostError, NATSError, NATSTimeoutError, NoRespondersError
from nats_sync.testing import LocalServer
from tests.adapters.cancelling import after_turns, at_suspension, tasks
from tests.adapters.legs import PATIENCE, QUICK, Flag, eventually, stands_still
from tests.faults.peer import Peer, freeze, handshake
from tests.faults.proxy import Proxy
from tests.transports import Transport

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp", "tls", "ws")]

Dial = Callable[..., AbstractAsyncContextManager[nats_anyio.Client]]
"""Connects to the server of the test, and takes more options."""

MOST = 200  # suspensions no operation here comes near to
TURNS = 30


@pytest.fixture(params=["asyncio-scope", "asyncio-task", "trio-scope"])
def manner(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def how(manner: str) -> str:
    return manner.partition("-")[2]


@pytest.fixture
def anyio_backend(manner: str) -> str:
    return manner.partition("-")[0]


@pytest.fixture
def dial(url: str, transport: Transport) -> Dial:
    return partial(nats_anyio.connect, url, **transport.options)


@dataclass
class Rig:
    """A client whose operations are cancelled, and another one that answers it and feeds its subscription."""

    nc: nats_anyio.Client
    other: nats_anyio.Client
    sub: nats_anyio.Subscription
    fed: int = 0
    got: list[int] = field(default_factory=list[int])
    tasks: list[str] = field(default_factory=list[str])
    subscriptions: int = 0

    async def feed(self, count: int) -> None:
        """Numbers on their way to the subscription; never suspends."""
        for _ in range(count):
            await self.other.publish("numbers", b"%d" % self.fed)
            self.fed += 1

    async def read(self, count: int) -> None:
        while len(self.got) < count:
            self.got.append(int((await self.sub.next(timeout=PATIENCE)).data))

    async def check(self) -> None:
        """The client is as good as new."""
        assert self.nc._hub.session.pending_requests == 0
        assert not self.nc._hub.requests
        assert not self.nc._hub.flushes
        assert not self.nc._hub.publishers.waiting
        with anyio.fail_after(PATIENCE):
            while True:
                # An operation may have asked for a new connection, and what is written at its end may go with it.
                with contextlib.suppress(NATSTimeoutError):
                    assert (await self.nc.request("echo", b"?", timeout=1)).data == b"?"
                    break
        await eventually(lambda: self.known() == self.subscriptions)
        await eventually(lambda: self.busy() == self.tasks, f"the tasks are {self.tasks} again")

    def known(self) -> int:
        """Subscriptions that have not ended."""
        return len(self.nc._hub.subscriptions) + len(self.nc._hub.workers.served())

    def busy(self) -> list[str]:
        """The tasks that run, without those that wait until there is something for a callback."""
        names = tasks()
        for client in (self.nc, self.other):
            for _ in client._hub.workers._idle:
                names.remove("nats callbacks")
        return names


@contextlib.asynccontextmanager
async def rig_on(dial: Dial) -> AsyncIterator[Rig]:
    async def respond(message: nats_anyio.Message) -> None:
        await message.respond(message.data)

    async def respond_thrice(message: nats_anyio.Message) -> None:
        for n in range(3):
            await message.respond(b"%d" % n)

    async with dial() as other, dial(**QUICK) as nc:
        await other.subscribe("echo", callback=respond)
        await other.subscribe("three", callback=respond_thrice)
        _silent = await other.subscribe("silent")
        await other.flush()
        rig = Rig(nc, other, await nc.subscribe("numbers"))
        await nc.request("echo", b"the inbox is there")
        rig.tasks = rig.busy()
        rig.subscriptions = len(nc._hub.subscriptions)
        yield rig


# --- operations of a client that is at rest --------------------------------------------------------------------------


async def request(rig: Rig) -> None:
    assert (await rig.nc.request("echo", b"x", timeout=PATIENCE)).data == b"x"


async def request_to_nobody(rig: Rig) -> None:
    with pytest.raises(NoRespondersError):
        await rig.nc.request("nobody", timeout=PATIENCE)


async def request_timeout(rig: Rig) -> None:
    with pytest.raises(NATSTimeoutError):
        await rig.nc.request("silent", timeout=0.002)


async def request_many(rig: Rig) -> None:
    answers = [message.data async for message in rig.nc.request_many("three", max_wait=PATIENCE, max_msgs=3)]
    assert answers == [b"0", b"1", b"2"]


async def request_many_stall(rig: Rig) -> None:
    answers = [message.data async for message in rig.nc.request_many("three", max_wait=PATIENCE, stall=0.002)]
    assert answers == [b"0", b"1", b"2"][: len(answers)]


async def request_many_block(rig: Rig) -> None:
    async with rig.nc.request_many("three", max_wait=PATIENCE) as answers:
        async for _ in answers:
            break


async def request_many_break(rig: Rig) -> None:
    async for _ in rig.nc.request_many("three", max_wait=PATIENCE):
        break


async def flush(rig: Rig) -> None:
    await rig.nc.flush(timeout=PATIENCE)


async def rtt(rig: Rig) -> None:
    assert await rig.nc.rtt(timeout=PATIENCE) > 0


async def next_message(rig: Rig) -> None:
    await rig.feed(1)
    rig.got.append(int((await rig.sub.next(timeout=PATIENCE)).data))


async def next_message_for_ever(rig: Rig) -> None:
    await rig.feed(1)
    rig.got.append(int((await rig.sub.next()).data))


async def next_batch(rig: Rig) -> None:
    await rig.feed(3)
    rig.got.extend(int(message.data) for message in await rig.sub.next_batch(2, timeout=PATIENCE))


async def next_with_several_readers(rig: Rig) -> None:
    await rig.feed(4)

    async def read() -> None:
        rig.got.append(int((await rig.sub.next(timeout=PATIENCE)).data))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read)
        await read()


async def iterate(rig: Rig) -> None:
    await rig.feed(3)
    count = 0
    async for message in rig.sub:
        rig.got.append(int(message.data))
        count += 1
        if count == 3:
            break


async def subscribe_block(rig: Rig) -> None:
    async with rig.nc.subscribe("mine") as sub:
        await rig.nc.publish("mine", b"1")
        await sub.next(timeout=PATIENCE)


async def callback(rig: Rig) -> None:
    done = Flag()
    sub = await rig.nc.subscribe("mine", callback=lambda _: done.set())
    try:
        await rig.nc.publish("mine", b"1")
        await done.wait()
    finally:
        sub._unsubscribe(None)


async def drain_subscription(rig: Rig) -> None:
    sub = await rig.nc.subscribe("mine")
    try:
        await rig.nc.publish("mine", b"1")
        await sub.next(timeout=PATIENCE)
        await sub.drain(timeout=PATIENCE)
    finally:
        sub._unsubscribe(None)


async def drain_callback(rig: Rig) -> None:
    handled: list[bytes] = []

    async def handle(message: nats_anyio.Message) -> None:
        await anyio.lowlevel.checkpoint()
        handled.append(message.data)

    sub = await rig.nc.subscribe("mine", callback=handle, max_msgs=5)
    try:
        for _ in range(3):
            await rig.nc.publish("mine")
        await rig.nc.flush(timeout=PATIENCE)
        await sub.drain(timeout=PATIENCE)
        assert len(handled) == 3
    finally:
        sub._unsubscribe(None)


async def unsubscribe(rig: Rig) -> None:
    sub = await rig.nc.subscribe("mine")
    await sub.unsubscribe()


async def reconnect(rig: Rig) -> None:
    await rig.nc.reconnect()
    await eventually(lambda: rig.nc.status is SessionStatus.CONNECTED)


async def request_through_reconnect(rig: Rig) -> None:
    await rig.nc.reconnect()
    await request(rig)


AT_REST = [
    request,
    request_to_nobody,
    request_timeout,
    request_many,
    request_many_stall,
    request_many_block,
    request_many_break,
    flush,
    rtt,
    next_message,
    next_message_for_ever,
    next_batch,
    next_with_several_readers,
    iterate,
    subscribe_block,
    callback,
    drain_subscription,
    drain_callback,
    unsubscribe,
    reconnect,
    request_through_reconnect,
]


@pytest.mark.parametrize("operation", AT_REST, ids=lambda operation: operation.__name__)
async def test_cancelled_at_each_suspension(dial: Dial, how: str, operation: Callable[[Rig], Awaitable[None]]) -> None:
    async with rig_on(dial) as rig:
        for point in range(1, MOST):
            if not await at_suspension(lambda: operation(rig), point, how=how, strict=True):
                break
            await rig.check()
        else:
            pytest.fail("it never ended")
        await rig.check()
        await nothing_is_lost(rig, in_order=operation is not next_with_several_readers)


@pytest.mark.parametrize("operation", AT_REST, ids=lambda operation: operation.__name__)
async def test_cancelled_after_some_turns(dial: Dial, how: str, operation: Callable[[Rig], Awaitable[None]]) -> None:
    if how == "task":
        return  # said by the scope on the same loop
    async with rig_on(dial) as rig:
        for turns in range(TURNS):
            with contextlib.suppress(ConnectionLostError):
                await after_turns(lambda: operation(rig), turns)
            await rig.check()
        await nothing_is_lost(rig, in_order=operation is not next_with_several_readers)


async def nothing_is_lost(rig: Rig, *, in_order: bool) -> None:
    """Every number came once; those that no cancelled call took are still there."""
    with anyio.fail_after(PATIENCE):
        await rig.read(rig.fed)
    assert (rig.got if in_order else sorted(rig.got)) == list(range(rig.fed))
    assert rig.sub.pending == (0, 0)
    assert rig.sub.delivered == rig.fed


# --- the end of a client ---------------------------------------------------------------------------------------------


async def whole_block(dial: Dial, seen: list[nats_anyio.Client]) -> None:
    async with dial() as nc:
        seen.append(nc)
        await nc.subscribe("a", callback=lambda _: None)
        await nc.publish("a")


async def closing(dial: Dial, seen: list[nats_anyio.Client]) -> None:
    async with dial() as nc:
        seen.append(nc)
        await nc.publish("a")
        await nc.close()
        assert nc.status is SessionStatus.CLOSED


async def draining(dial: Dial, seen: list[nats_anyio.Client]) -> None:
    async def handle(_: nats_anyio.Message) -> None:
        await anyio.lowlevel.checkpoint()

    async with dial() as nc:
        seen.append(nc)
        await nc.subscribe("a", callback=handle)
        for _ in range(3):
            await nc.publish("a")
        await nc.drain(timeout=PATIENCE)
        assert nc.status is SessionStatus.CLOSED


async def raising(dial: Dial, seen: list[nats_anyio.Client]) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with dial() as nc:
            seen.append(nc)
            raise ZeroDivisionError


@pytest.mark.parametrize("operation", [whole_block, closing, draining, raising], ids=lambda each: each.__name__)
async def test_the_life_of_a_client_cancelled_at_each_suspension(
    dial: Dial, how: str, operation: Callable[[Dial, list[nats_anyio.Client]], Awaitable[None]]
) -> None:
    before = tasks()
    seen: list[nats_anyio.Client] = []
    for point in range(1, MOST):
        with anyio.fail_after(PATIENCE):
            reached = await at_suspension(lambda: operation(dial, seen), point, how=how)
        assert tasks() == before
        assert all(nc.status is SessionStatus.CLOSED for nc in seen)
        if not reached:
            break
    else:
        pytest.fail("it never ended")
    assert seen


@pytest.mark.parametrize("operation", [whole_block, closing, draining], ids=lambda each: each.__name__)
async def test_the_life_of_a_client_cancelled_after_some_turns(
    dial: Dial, how: str, operation: Callable[[Dial, list[nats_anyio.Client]], Awaitable[None]]
) -> None:
    if how == "task":
        return  # said by the scope on the same loop
    before = tasks()
    seen: list[nats_anyio.Client] = []
    for turns in range(MOST * 10):
        with anyio.fail_after(PATIENCE):
            await after_turns(lambda: operation(dial, seen), turns)
        assert tasks() == before
        assert all(nc.status is SessionStatus.CLOSED for nc in seen)
        if turns >= 60 and seen:  # how many it takes to connect depends on the transport, and on the machine
            break
    assert seen


async def test_closing_on_a_peer_that_takes_nothing(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled in the grace that what was published has to be written, too."""
    monkeypatch.setattr(_life_cycle, "CLOSE_GRACE", 0.05)
    before = tasks()
    for point in range(1, MOST):

        async def stuck() -> None:
            with Peer([handshake(), freeze()], rcvbuf=4096) as peer:
                async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
                    with anyio.move_on_after(0.02):
                        while True:
                            await nc.publish("big", b"x" * 100_000)
                    await nc.close()

        with anyio.fail_after(PATIENCE):
            reached = await at_suspension(stuck, point, how=how)
        assert tasks() == before
        if not reached:
            break


# --- without a connection --------------------------------------------------------------------------------------------


async def test_cancelled_while_reconnecting(server: LocalServer, transport: Transport, how: str) -> None:
    async with nats_anyio.connect(server.url, reconnect_wait=60, **transport.options) as nc:
        sub = await nc.subscribe("kept")
        await nc.flush()
        server.kill()
        await eventually(lambda: nc.status is SessionStatus.RECONNECTING)
        await eventually(lambda: not {"nats write", "nats credentials", "nats starter"}.intersection(tasks()))
        before = tasks()

        async def ask() -> None:
            with pytest.raises(NATSTimeoutError):
                await nc.request("kept", timeout=0.01)

        async def ask_many() -> None:
            async for _ in nc.request_many("kept", max_wait=0.01):
                pass

        async def wait() -> None:
            with pytest.raises(NATSTimeoutError):
                await sub.next(timeout=0.01)

        async def cannot_flush() -> None:
            with pytest.raises(ConnectionLostError):
                await nc.flush()

        async def publish() -> None:
            await nc.publish("elsewhere", b"1")

        for operation in (ask, ask_many, wait, cannot_flush, publish):
            for point in range(1, MOST):
                reached = await at_suspension(operation, point, how=how)
                assert nc._hub.session.pending_requests == 0
                assert tasks() == before
                if not reached:
                    break
        server.start()
        await nc.reconnect()
        await nc.publish("kept", b"end")
        assert (await sub.next(timeout=PATIENCE)).data == b"end"  # the requests, which nobody waits for, were not sent


async def test_the_end_cancelled_while_reconnecting(server: LocalServer, transport: Transport, how: str) -> None:
    before = tasks()
    for end in ("close", "drain", "leave"):
        for point in range(1, MOST):
            server.start()
            async with nats_anyio.connect(server.url, reconnect_wait=60, **transport.options) as nc:
                server.kill()
                await eventually(lambda nc=nc: nc.status is SessionStatus.RECONNECTING)

                async def finish(end: str = end, nc: nats_anyio.Client = nc) -> None:
                    if end == "close":
                        await nc.close()
                    elif end == "drain":
                        with contextlib.suppress(NATSError):
                            await nc.drain()

                with anyio.fail_after(PATIENCE):
                    reached = await at_suspension(finish, point, how=how)
            assert tasks() == before
            if not reached:
                break


# --- back-pressure ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["suspension", "turns"])
async def test_publishers_cancelled_while_the_buffer_is_full(
    server: LocalServer, transport: Transport, how: str, by: str
) -> None:
    """What a publish took arrives, once and in order; what a cancelled one did not take does not."""
    with Proxy(server.url, rcvbuf=65536) as proxy:
        async with (
            nats_anyio.connect(server.url, **transport.options) as other,
            nats_anyio.connect(proxy.url, ping_interval=0, **transport.options) as nc,
        ):
            sub = await other.subscribe("numbers", max_pending_msgs=0)
            await other.flush()
            proxy.up.stop_reading = True
            taken: list[int] = []
            serial = 0

            async def publish() -> None:
                nonlocal serial
                serial += 1
                number = serial
                await nc.publish("numbers", b"%d " % number + b"x" * 60_000)
                taken.append(number)

            async def fill_up() -> None:
                while True:
                    await publish()

            async with anyio.create_task_group() as group:
                group.start_soon(fill_up)
                await stands_still(lambda: len(taken))
                group.cancel_scope.cancel()
            before = tasks()
            for n in range(1, 8):
                if by == "turns":
                    await after_turns(publish, n)
                else:
                    assert await at_suspension(publish, 1, how=how)
                assert tasks() == before
                assert not nc._hub.publishers.waiting
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(publish)
                await stands_still(lambda: serial)
                proxy.up.stop_reading = False
                for n in range(20):
                    if by == "turns":
                        await after_turns(publish, n)
                    else:
                        await at_suspension(publish, n % 3 + 1, how=how)
            await nc.flush()
            got = [int((await sub.next(timeout=PATIENCE)).data.split()[0]) for _ in taken]
            assert got == taken
            assert sub.pending == (0, 0)


async def test_an_inbox_goes_when_nobody_iterates(dial: Dial, how: str) -> None:
    async with rig_on(dial) as rig:
        await request_many_break(rig)
        await rig.nc.flush()
        assert len(rig.nc._hub.subscriptions) == rig.subscriptions
        await request_many_block(rig)
        assert len(rig.nc._hub.subscriptions) == rig.subscriptions


async def test_a_finalizer_in_the_middle_of_things_changes_nothing(
    dial: Dial, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of garbage may run anywhere, also while the session works on its subscriptions."""
    async with rig_on(dial) as rig:
        held = [rig.nc.request_many("three", max_wait=PATIENCE)]
        await anext(held[0])
        session = rig.nc._hub.session
        receive_data = session.receive_data

        def finalize_first(data: bytes, *, now: float) -> None:
            before = list(session._traffic.subs)
            held.clear()
            assert list(session._traffic.subs) == before
            receive_data(data, now=now)

        with monkeypatch.context() as patched:
            patched.setattr(session, "receive_data", finalize_first)
            await rig.nc.flush()
        assert len(rig.nc._hub.subscriptions) == rig.subscriptions
