"""What a finished request holds, and what calls that hang hold: no message, and few threads."""

from __future__ import annotations

import gc
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

import anyio
import pytest

import nats_anyio
from nats_anyio._engine.answers import AnyAnswer
from nats_anyio._engine.worker_threads import MAX_THREADS
from nats_proto import Credentials
from nats_proto.errors import NATSTimeoutError, NoRespondersError, NoServersError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, QUICK, eventually
from tests.faults.peer import Peer, handshake, hold

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- requests --------------------------------------------------------------------------------------------------------


async def test_a_reply_that_was_taken_is_not_held_until_its_timeout(url: str) -> None:
    async with nats_anyio.connect(url) as nc:
        await nc.subscribe("echo", callback=lambda message: message.respond(message.data))
        await nc.subscribe("silence", callback=print)
        payload = b"x" * 100_000
        async with anyio.create_task_group() as group:
            group.start_soon(partial(nc.request, "silence", timeout=600))  # all others are behind it
            await many_requests(nc, payload)
            group.cancel_scope.cancel()


async def many_requests(nc: nats_anyio.Client, payload: bytes) -> None:
    await nc.request("echo", payload, timeout=600)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            await nc.request("echo", payload, timeout=600)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(nc._hub.requests) == 1  # all others came behind it, and their deadlines are far
    assert grown < 10 * len(payload)


class Held(bytearray):
    """A payload that can be watched."""


async def test_neither_is_what_was_asked_when_it_failed(url: str) -> None:
    """An error's traceback holds the frames it went through, and so what their callers had."""
    async with nats_anyio.connect(url) as nc:
        kept: list[BaseException] = []

        async def ask() -> None:
            with pytest.raises(NoRespondersError) as caught:
                await nc.request("nobody", timeout=600)
            kept.append(caught.value)

        await ask()
        gc.collect()
        (error,) = kept
        kept.clear()
        held = [each for each in gc.get_referrers(error) if isinstance(each, AnyAnswer)]
        assert held == []
        assert nc._hub.requests == {}


# --- calls that hang -------------------------------------------------------------------------------------------------


@pytest.fixture
def hanging() -> Iterator[Callable[[], list[str]]]:
    """The names of the daemon threads that hang in `wait_until_over`."""
    yield lambda: [thread.name for thread in threading.enumerate() if thread.name in ("nats-resolver", CREDENTIALS)]
    over.set()
    for thread in threading.enumerate():
        if thread.name in ("nats-resolver", CREDENTIALS):
            assert thread.daemon
            thread.join(PATIENCE)
    over.clear()


CREDENTIALS = "nats-credentials"
over = threading.Event()


async def test_names_that_hang_hold_few_threads(
    monkeypatch: pytest.MonkeyPatch, hanging: Callable[[], list[str]]
) -> None:
    real = socket.getaddrinfo
    asked: list[str] = []

    def look_up(host: str, port: int, *, flags: int = 0, **options: int) -> object:
        if flags & socket.AI_NUMERICHOST:
            return real(host, port, flags=flags, **options)
        asked.append(host)
        over.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "it hung")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    servers = [f"nats://hangs-{number}.test" for number in range(10)]
    with pytest.raises(NoServersError):
        async with nats_anyio.connect(servers, connect_timeout=0.02):
            pass
    assert hanging() == ["nats-resolver"] * MAX_THREADS
    await eventually(lambda: len(asked) >= MAX_THREADS)  # a thread that was started may not have begun
    assert len(asked) == MAX_THREADS


async def test_callbacks_for_credentials_that_hang_hold_few_threads(
    server: LocalServer, hanging: Callable[[], list[str]]
) -> None:
    asked: list[object] = []

    def answer(challenge: object) -> Credentials:
        asked.append(challenge)
        over.wait(PATIENCE)
        return Credentials(token="a token")

    async with nats_anyio.connect(
        server.url, auth=answer, connect_timeout=0.02, retry_on_failed_connect=True, **QUICK
    ) as nc:
        await eventually(lambda: isinstance(nc.last_error, NATSTimeoutError) and len(asked) == MAX_THREADS)
        assert hanging() == [CREDENTIALS] * MAX_THREADS
        over.set()  # they return, and the next ones are asked
        await eventually(lambda: nc.connected_url)


async def test_what_a_function_in_a_thread_raises_fails_the_attempt(url: str) -> None:
    def answer(_: object) -> Credentials:
        raise ValueError("on purpose")

    with pytest.raises(NoServersError, match="ValueError"):
        async with nats_anyio.connect(url, auth=answer):
            pass


async def test_no_thread_to_be_had_fails_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(NoServersError, match="no thread could be started"):
        async with nats_anyio.connect("nats://name.test"):
            pass


async def test_a_lookup_that_ends_after_its_loop_harms_nobody(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch, hanging: Callable[[], list[str]]
) -> None:
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **options: wait_for_a_name(options))

    async def dial() -> None:
        async with nats_anyio.connect("nats://name.test", connect_timeout=60):
            pass

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(dial)
            await eventually(hanging)
            group.cancel_scope.cancel()

    await anyio.to_thread.run_sync(lambda: anyio.run(main, backend=anyio_backend))
    assert hanging() == ["nats-resolver"]
    over.set()
    await eventually(lambda: not hanging())
    assert failures == []


def wait_for_a_name(options: dict[str, int]) -> object:
    if options.get("flags", 0) & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "not a number")
    over.wait(PATIENCE)
    return []


async def test_a_flush_that_ended_holds_no_error() -> None:
    with Peer([handshake(), hold()]) as peer:
        async with nats_anyio.connect(peer.url, ping_interval=0) as nc:
            for _ in range(3):
                with pytest.raises(NATSTimeoutError):
                    await nc.flush(timeout=0)
            assert not nc._hub.flushes
            assert not [answer for _, _, answer in nc._hub.timer._others if answer.error is not None]
