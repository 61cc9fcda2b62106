"""User code on the event loop: `on_event` and callbacks that raise, block and call back; turns; room; deadlines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trio.testing
from anyio import CancelScope

import nats_anyio
from nats_anyio._engine.hub import Hub
from nats_proto import Challenge, Closed, Connected, Credentials, LifecycleEvent, Reconnected, SessionStatus
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    InvalidSubjectError,
    LocalProtocolError,
    NATSError,
    NATSTimeoutError,
)
from nats_sync.testing import LocalCluster, LocalServer
from tests.adapters.cancelling import NoTaskLeft
from tests.adapters.legs import PATIENCE, QUICK, Collected, EventLog, Flag, eventually, stands_still
from tests.faults.peer import Peer, freeze, handshake, hold
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- user code: it may raise, block, and call back -------------------------------------------------------------------


async def test_on_event_may_be_async_and_raise(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog()

    async def on_event(event: LifecycleEvent) -> None:
        await anyio.lowlevel.checkpoint()
        log.add(event)
        raise ValueError("on purpose")

    async with nats_anyio.connect(server.url, on_event=on_event, **QUICK) as nc:
        server.restart()
        await log.wait(Reconnected)
        await nc.flush()
    assert log.names == [
        "Connected",
        "Disconnected",
        *["Reconnecting"] * (len(log) - 5),
        "Reconnected",
        "Disconnected",
        "Closed",
    ]
    assert "on_event raised for Reconnected" in caplog.text


async def test_an_on_event_that_blocks_holds_up_nothing_but_itself(server: LocalServer) -> None:
    seen: list[LifecycleEvent] = []

    async def on_event(event: LifecycleEvent) -> None:
        seen.append(event)
        await anyio.sleep_forever()

    async with NoTaskLeft(), nats_anyio.connect(server.url, on_event=on_event, **QUICK) as nc:
        for n in range(3):
            server.restart()
            await eventually(lambda n=n: nc.stats.reconnects == n + 1)
        await nc.flush()
        with anyio.fail_after(PATIENCE):
            await nc.close()
    assert seen == [Connected(server=server.url)]


async def test_on_event_may_use_the_client(url: str) -> None:
    clients: Collected[nats_anyio.Client] = Collected()
    done = Flag()

    async def on_event(event: LifecycleEvent) -> None:
        if isinstance(event, Connected):
            nc = (await clients.wait_len(1))[0]
            await nc.subscribe("echo", callback=lambda message: message.respond(message.data))
            assert (await nc.request("echo", b"1")).data == b"1"
            await nc.flush()
            done.set()

    async with nats_anyio.connect(url, on_event=on_event) as nc:
        clients.add(nc)
        await done.wait()


@pytest.mark.parametrize("end", ["close", "drain"])
async def test_on_event_may_end_the_client(url: str, end: str) -> None:
    clients: Collected[nats_anyio.Client] = Collected()
    log = EventLog()
    done = Flag()

    async def on_event(event: LifecycleEvent) -> None:
        log.add(event)
        if isinstance(event, Connected):
            nc = (await clients.wait_len(1))[0]
            await (nc.close() if end == "close" else nc.drain(timeout=60))
            done.set()

    async with NoTaskLeft(), nats_anyio.connect(url, on_event=on_event) as nc:
        _held = await nc.subscribe("a")
        clients.add(nc)
        await done.wait()
    assert log.names == ["Connected", "Disconnected", "Closed"]


@pytest.mark.parametrize("what", ["client", "subscription"])
async def test_a_callback_that_drains_does_not_wait_for_itself(url: str, what: str) -> None:
    log = EventLog()
    got: Collected[bytes] = Collected()
    async with nats_anyio.connect(url, on_event=log) as nc:

        async def handle(message: nats_anyio.Message) -> None:
            got.add(message.data)
            if len(got) == 1:
                await (nc.drain(timeout=60) if what == "client" else sub.drain(timeout=60))

        sub = await nc.subscribe("a", callback=handle)
        for n in range(5):
            await nc.publish("a", b"%d" % n)
        assert await got.wait_len(5) == [b"0", b"1", b"2", b"3", b"4"]
        if what == "client":
            assert await log.wait(Closed) == Closed(error=None)
        else:
            await sub.drain(timeout=PATIENCE)
            await nc.flush()


async def test_a_callback_that_blocks_is_cancelled_when_the_block_is_left(url: str) -> None:
    began = Flag()
    ended: list[bool] = []

    async def block(_: nats_anyio.Message) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async with NoTaskLeft(), nats_anyio.connect(url) as nc:
        await nc.subscribe("a", callback=block)
        await nc.publish("a")
        await began.wait()
    assert ended == [True]


async def test_user_code_may_cancel_the_task_it_is_called_by(
    anyio_backend: str, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    if anyio_backend == "trio":
        return  # where a cancellation cannot be made by raising an exception
    log = EventLog()

    async def on_event(event: LifecycleEvent) -> None:
        log.add(event)
        raise asyncio.CancelledError

    got: Collected[bytes] = Collected()

    async def handle(message: nats_anyio.Message) -> None:
        got.add(message.data)
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    async with NoTaskLeft(), nats_anyio.connect(server.url, on_event=on_event, **QUICK) as nc:
        sub = await nc.subscribe("a", callback=handle)
        for n in range(3):
            await nc.publish("a", b"%d" % n)
        assert await got.wait_len(3) == [b"0", b"1", b"2"]
        await nc.reconnect()
        await log.wait(Reconnected)
        await sub.drain(timeout=PATIENCE)
    assert log.names == ["Connected", "Disconnected", "Reconnecting", "Reconnected", "Disconnected", "Closed"]
    assert "cancelled from within" in caplog.text


async def test_auth_may_cancel_the_task_of_the_connection_that_is_made_beside_one_to_a_lame_duck(
    anyio_backend: str,
) -> None:
    if anyio_backend == "trio":
        return  # where a cancellation cannot be made by raising an exception
    log = EventLog()
    calls = 0

    async def auth(challenge: Challenge) -> Credentials:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise asyncio.CancelledError
        return Credentials(user="u", password="p")

    duck = {"lame_duck_duration": "600s", "lame_duck_grace_period": "300s"}  # it stays longer than the test waits
    config = {**duck, "authorization": {"user": "u", "password": "p"}}
    with LocalCluster(2, config=config) as cluster:
        servers = {server.url: server for server in cluster.servers}
        # That attempt has failed at once. Nobody waits until its time is up.
        async with nats_anyio.connect(
            cluster.urls, auth=auth, on_event=log, **{**QUICK, "connect_timeout": 600.0}
        ) as nc:
            leaving = servers[nc.connected_url or ""]
            leaving.lame_duck()
            await log.wait(Reconnected)
            assert calls == 3
            assert nc.connected_url != leaving.url
            leaving.kill()  # it would take its time


async def test_tasks_that_somebody_else_cancels_close_the_client(anyio_backend: str, url: str) -> None:
    if anyio_backend == "trio":
        return  # where nobody can
    for name in ("nats client", "nats connection", "nats timer"):
        log = EventLog()
        async with NoTaskLeft(), nats_anyio.connect(url, on_event=log) as nc:
            sub = await nc.subscribe("a")
            await nc.flush()
            (victim,) = (task for task in asyncio.all_tasks() if task.get_name() == name)
            victim.cancel()
            with anyio.fail_after(PATIENCE), pytest.raises(ConnectionClosedError):
                await sub.next()
            await eventually(lambda nc=nc: nc.status is SessionStatus.CLOSED)
            with pytest.raises(ConnectionClosedError):
                await nc.request("a")


async def test_a_writer_that_somebody_else_cancels_costs_the_connection(anyio_backend: str, url: str) -> None:
    if anyio_backend == "trio":
        return
    log = EventLog()
    async with nats_anyio.connect(url, on_event=log, **QUICK) as nc:
        (victim,) = (task for task in asyncio.all_tasks() if task.get_name() == "nats write")
        victim.cancel()
        await log.wait(Reconnected)
        await nc.flush()


async def test_a_loop_that_ends_takes_the_callbacks_with_it(anyio_backend: str, url: str) -> None:
    """`asyncio.run` cancels all tasks and waits for them: none may be replaced for ever."""
    if anyio_backend == "trio":
        return

    async def forgotten() -> None:
        generator = fixture()
        nc = await anext(generator)
        await nc.subscribe("a", callback=lambda _: None)
        await nc.flush()
        kept.append(generator)

    async def fixture() -> AsyncIterator[nats_anyio.Client]:
        async with nats_anyio.connect(url, on_event=lambda _: None) as nc:
            yield nc

    kept: list[AsyncIterator[nats_anyio.Client]] = []
    with anyio.fail_after(PATIENCE):
        await anyio.to_thread.run_sync(lambda: asyncio.run(forgotten()))


async def test_nobody_takes_a_callbacks_messages(url: str) -> None:
    async with nats_anyio.connect(url) as nc:
        release = Flag()
        got: Collected[bytes] = Collected()

        async def handle(message: nats_anyio.Message) -> None:
            await release.wait()
            got.add(message.data)

        sub = await nc.subscribe("a", callback=handle)
        for n in range(3):
            await nc.publish("a", b"%d" % n)
        await nc.flush()
        for read in (sub.__anext__, sub.next, lambda: sub.next_batch(1)):
            with pytest.raises(LocalProtocolError, match="callback"):
                await read()
        release.set()
        assert await got.wait_len(3) == [b"0", b"1", b"2"]


def test_on_a_clock_that_jumps(shared_server: LocalServer) -> None:
    """All time is the event loop's: an hour's timeout passes at once when nothing else is left to do."""

    async def main() -> None:
        with Peer([handshake(), hold()]) as peer:
            async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
                sub = await nc.subscribe("a")
                for wait in (lambda: nc.request("a", timeout=3600), lambda: sub.next(3600), lambda: nc.flush(3600)):
                    start = anyio.current_time()
                    with pytest.raises(NATSTimeoutError, match="3600 s"):
                        await wait()
                    assert anyio.current_time() - start >= 3600
        async with nats_anyio.connect(shared_server.url, ping_interval=600) as nc:
            await anyio.sleep(3600)
            await nc.flush()
            assert nc.stats.reconnects == 0

    # To wait for the server's answer is to do nothing as well: one that takes longer than that is jumped over.
    for threshold in (0.05, 0.2, 1.0):
        try:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=threshold))
        except (NATSError, AssertionError):
            if threshold == 1.0:
                raise
        else:
            break


async def test_callbacks_that_raise_are_logged_few_times(url: str, caplog: pytest.LogCaptureFixture) -> None:
    count = 0
    done = Flag()

    def handle(_: nats_anyio.Message) -> None:
        nonlocal count
        count += 1
        if count == 1000:
            done.set()
        raise ValueError("on purpose")

    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("secret", callback=handle)
        with caplog.at_level(logging.ERROR, "nats_anyio"):
            for _ in range(1000):
                await nc.publish("secret")
            await done.wait()
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert 1 <= len(errors) <= 10 * (1 + (errors[-1].created - errors[0].created))
        assert "subscription to secret (sid " in errors[0].getMessage()
        assert errors[0].exc_info is not None


async def test_no_inbox_is_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with nats_anyio.connect(url) as nc:
        inbox = nc.new_inbox()
        handled = Flag()

        def handle(_: nats_anyio.Message) -> None:
            handled.set()
            raise ValueError

        await nc.subscribe(inbox, callback=handle)
        await nc.publish(inbox)
        await handled.wait()
        await nc.flush()
    assert "raised" in caplog.text
    assert inbox not in caplog.text


async def test_a_filter_of_the_log_may_raise(url: str) -> None:
    def broken(_: logging.LogRecord) -> bool:
        raise ValueError("on purpose")

    logger = logging.getLogger("nats_anyio")
    logger.addFilter(broken)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        async with nats_anyio.connect(url) as nc:
            await nc.flush()
    finally:
        logger.removeFilter(broken)
        logger.setLevel(level)


# --- turns -------------------------------------------------------------------------------------------------------


async def test_a_loop_that_only_publishes_is_written_and_can_be_cancelled(url: str) -> None:
    async with nats_anyio.connect(url) as nc:

        async def publish() -> None:
            while True:
                await nc.publish("endless", b"x" * 100)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                while nc.stats.out_msgs <= 50_000:  # several times what the buffer holds
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await nc.flush()


async def test_a_loop_that_only_reads_can_be_cancelled(url: str) -> None:
    async with nats_anyio.connect(url) as nc:
        sub = await nc.subscribe("many", max_pending_msgs=0)
        for _ in range(40_000):
            await nc.publish("many")
        await nc.flush()
        for read in (sub.__anext__, sub.next, lambda: sub.next_batch(10)):
            await read()  # a turn of its own
            before = sub.delivered
            with CancelScope() as scope:
                scope.cancel()
                while True:
                    await read()
            assert 8000 < sub.delivered - before <= 8192 + 10
        assert sub.delivered + sub.pending[0] == 40_000


async def test_a_callback_that_never_waits_lets_others_run(url: str) -> None:
    handled = 0
    turns = 0

    def handle(_: nats_anyio.Message) -> None:
        nonlocal handled
        handled += 1

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with nats_anyio.connect(url) as nc, nats_anyio.connect(url) as other:
        release = Flag()

        async def first(message: nats_anyio.Message) -> None:
            if message.data:
                await release.wait()
            handle(message)

        await nc.subscribe("many", callback=first, max_pending_msgs=0)
        await nc.flush()
        await other.publish("many", b"first")
        for _ in range(60_000):
            await other.publish("many")
        await other.flush()
        await nc.flush()
        async with anyio.create_task_group() as group:
            group.start_soon(count_turns)
            before = turns
            release.set()
            await eventually(lambda: handled == 60_001)
            assert turns - before >= 2
            group.cancel_scope.cancel()


# --- who waits for room ------------------------------------------------------------------------------------------


async def test_publishers_get_their_turn_in_order_and_pass_it_on(server: LocalServer) -> None:
    """The proxy takes nothing; publishers line up, every third is cancelled, and then the proxy reads again."""
    with Proxy(server.url, rcvbuf=65536) as proxy:
        async with nats_anyio.connect(server.url) as other, nats_anyio.connect(proxy.url, ping_interval=0) as nc:
            sub = await other.subscribe("room", max_pending_msgs=0)
            await other.flush()
            proxy.up.stop_reading = True
            fill = 0

            async def fill_up() -> None:
                nonlocal fill
                while True:
                    await nc.publish("fill", b"x" * 50_000)
                    fill += 1

            scopes: list[CancelScope] = []
            published: list[int] = []

            async def publish(number: int) -> None:
                with CancelScope() as scope:
                    scopes.append(scope)
                    await nc.publish("room", b"%d" % number)
                    published.append(number)

            async with anyio.create_task_group() as group:
                with CancelScope() as filling:
                    group.start_soon(fill_up)
                    await stands_still(lambda: fill)
                    for number in range(30):
                        group.start_soon(publish, number)
                        await eventually(lambda n=number: len(scopes) == n + 1)
                    for scope in scopes[::3]:
                        scope.cancel()
                    proxy.up.stop_reading = False
                    await eventually(lambda: len(published) == 20)
                assert not filling.cancelled_caught
                group.cancel_scope.cancel()
            expected = [number for number in range(30) if number % 3]
            assert published == expected
            got = [int((await sub.next(timeout=PATIENCE)).data) for _ in expected]
            assert got == expected
            await nc.flush()


class FakeSession:
    """As much of one as waiting publishers look at."""

    writable = False
    status = SessionStatus.CONNECTED
    publish_quickly = None


def hub_of(session: FakeSession) -> Hub[nats_anyio.Message]:
    return Hub(session, message_type=nats_anyio.Message, on_event=None, inbox_prefix="_INBOX")  # type: ignore[arg-type]


async def test_a_turn_is_passed_on_by_one_who_was_called_and_then_cancelled(anyio_backend: str) -> None:
    """Only `asyncio.Task.cancel` can hit a task that was woken and has not run yet."""
    session = FakeSession()
    hub = hub_of(session)
    called: list[str] = []

    async def wait(name: str) -> None:
        await hub.wait_writable()
        called.append(name)

    async with anyio.create_task_group() as group:
        if anyio_backend == "trio":
            group.start_soon(wait, "first")
        else:
            first = asyncio.create_task(wait("first"))
        await anyio.lowlevel.checkpoint()
        group.start_soon(wait, "second")
        await stands_still(lambda: len(hub.publishers.waiting))
        session.writable = True
        hub.publishers.wake_next()
        if anyio_backend == "asyncio":
            first.cancel()
    assert called == (["second"] if anyio_backend == "asyncio" else ["first", "second"])
    assert not hub.publishers.waiting


async def test_a_failure_is_told_to_every_publisher_that_waits() -> None:
    hub = hub_of(FakeSession())
    ended = 0

    async def wait() -> None:
        nonlocal ended
        with pytest.raises(ConnectionClosedError):
            await hub.wait_writable()
        ended += 1

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await stands_still(lambda: len(hub.publishers.waiting))
            hub.failed = ConnectionClosedError("a defect")
            hub.publishers.wake_next()
    assert ended == 3


async def test_a_publisher_that_waits_learns_of_the_end(url: str) -> None:
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
            published = 0

            async def publish() -> None:
                nonlocal published
                with pytest.raises(ConnectionClosedError):  # noqa: PT012
                    while True:
                        await nc.publish("big", b"x" * 100_000)
                        published += 1

            async def request() -> None:
                with pytest.raises(ConnectionClosedError):
                    await nc.request("big", b"x", timeout=60)

            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(5):
                        group.start_soon(publish)
                    await stands_still(lambda: published)
                    group.start_soon(request)
                    await anyio.lowlevel.checkpoint()
                    await nc.close()


async def test_a_request_that_waits_for_room_has_its_timeout(url: str) -> None:
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
            with anyio.move_on_after(0.3):
                while True:
                    await nc.publish("big", b"x" * 100_000)
            with (
                anyio.fail_after(PATIENCE),
                pytest.raises(NATSTimeoutError, match=r"request to 'full'.*0\.05 s.*CONNECTED"),
            ):
                await nc.request("full", timeout=0.05)


# --- deadlines ---------------------------------------------------------------------------------------------------


async def test_the_deadlines_of_answered_requests_are_forgotten(url: str) -> None:
    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("echo", callback=lambda message: message.respond(message.data))

        async def ask(count: int, seconds: float) -> None:
            for _ in range(count):
                await nc.request("echo", timeout=seconds)

        # Whichever time was up first, or came first.
        for seconds in (3600, 36000, 3600):
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(ask, 50, seconds)
        assert len(nc._hub.timer._others) < 2500
        assert not nc._hub.requests


async def test_a_timeout_does_not_wait_for_those_that_began_earlier(url: str) -> None:
    """In which order they come the tests of the timer alone say: on a busy machine all may be late."""
    with Peer([handshake(), hold()]) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
            ended: set[float] = set()

            async def ask(timeout: float) -> None:
                began = anyio.current_time()
                with pytest.raises(NATSTimeoutError):
                    await nc.request("silent", timeout=timeout)
                assert anyio.current_time() >= began + timeout
                ended.add(timeout)

            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for timeout in (3600.0, 0.05, 7200.0, 0.1):
                        group.start_soon(ask, timeout)
                    while len(ended) < 2:
                        await anyio.sleep(0.01)
                    group.cancel_scope.cancel()
            assert ended == {0.05, 0.1}
            with pytest.raises(NATSTimeoutError):
                await nc.request("silent", timeout=0)
            with pytest.raises(ValueError, match="timeout"):
                await nc.request("silent", timeout=float("nan"))
            with pytest.raises(InvalidSubjectError):
                await nc.request("not good")
            assert nc._hub.session.pending_requests == 0


async def test_a_lost_connection_fails_a_flush_with_its_own_error_each_time(server: LocalServer) -> None:
    async with nats_anyio.connect(server.url, reconnect_wait=60) as nc:
        server.kill()
        await eventually(lambda: nc.status is SessionStatus.RECONNECTING)
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                await nc.flush()
