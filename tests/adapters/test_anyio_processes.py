"""A forked child of the anyio client's process, and the end of a process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest
import trio

import nats_anyio
from nats_proto import SessionStatus
from nats_proto.errors import ConnectionClosedError
from nats_sync.testing import LocalServer
from tests.adapters.legs import PATIENCE, stands_still
from tests.adapters.test_anyio_loops import HARMLESS_AFTER_THE_END, Things, said_by_each
from tests.adapters.test_sync_processes import in_child
from tests.certificates import Certificates
from tests.faults.proxy import Proxy

T = TypeVar("T")

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- forked children -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("where", ["worker thread", "loop"])
async def test_a_forked_child_has_a_closed_client(
    anyio_backend: str, certificates: Certificates, tls: bool, where: str
) -> None:
    if anyio_backend == "trio" and where == "loop":
        return  # where trio itself does not run in the child
    context = certificates.client_context() if tls else None
    with LocalServer(tls=certificates.server_tls() if tls else None) as server:
        url = f"{'tls' if tls else 'nats'}://localhost:{server.port}"
        async with nats_anyio.connect(url, tls=context) as nc:
            things = Things(nc)
            await things.prepare()
            fds = [sock.fileno() for sock in nc._hub.manager._open_sockets]

            async def own() -> None:
                async with nats_anyio.connect(url, tls=context) as mine, mine.subscribe("own") as sub:
                    await mine.publish("own", b"mine")
                    assert (await sub.next(timeout=PATIENCE)).data == b"mine"

            def run(function: Callable[..., Coroutine[object, object, T]], *args: object) -> T:
                if anyio_backend == "asyncio":
                    return asyncio.run(function(*args))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # trio itself says that it is not at home in a child
                    return trio.run(function, *args)

            def check() -> None:
                assert not [fd for fd in fds if Path(f"/proc/self/fd/{fd}").exists()]
                said = run(said_by_each, things, ConnectionClosedError)
                assert {name for name, text in said.items() if not text} == HARMLESS_AFTER_THE_END
                assert all("forked" in text for text in said.values() if text), said
                assert nc.status is SessionStatus.CLOSED
                assert nc.connected_url is None
                assert things.sub.pending == (0, 0)
                run(own)
                gc.collect()

            assert len(fds) == 1
            for _ in range(3):
                if where == "loop":
                    assert in_child(check) == ""
                else:
                    assert await anyio.to_thread.run_sync(in_child, check) == ""
                await nc.publish("b", b"x" * 1000)
                await nc.flush()
            assert nc.stats.reconnects == 0
            assert (await things.sub.next(timeout=0)).data == b"kept"


async def test_a_child_leaves_alone_what_the_parents_loop_waits_for(anyio_backend: str, server: LocalServer) -> None:
    """On Linux the child of an event loop shares its epoll: what is taken out there is taken out here as well."""
    with Proxy(server.url, rcvbuf=65536) as proxy:
        async with nats_anyio.connect(proxy.url, ping_interval=0) as nc, nats_anyio.connect(server.url) as other:
            sub = await other.subscribe("a", max_pending_msgs=0)
            await other.flush()
            proxy.up.stop_reading = True
            published = 0

            async def publish() -> None:
                nonlocal published
                while proxy.up.stop_reading:
                    await nc.publish("a", b"x" * 50_000)
                    published += 1

            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                await stands_still(lambda: published)
                assert await anyio.to_thread.run_sync(in_child, gc.collect) == ""
                proxy.up.stop_reading = False
            await nc.flush()
            await other.flush()
            assert sub.delivered + sub.pending[0] == published
            assert nc.stats.reconnects == 0


async def test_what_the_loop_waits_for_is_not_taken_out_in_a_child(
    anyio_backend: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a finalizer would, when the child collects the garbage that the parent's tasks are there."""
    if anyio_backend == "trio":
        return  # which waits anew each time
    async with nats_anyio.connect(url) as nc:
        loop = asyncio.get_running_loop()
        removed: list[object] = []
        real = loop.remove_reader
        monkeypatch.setattr(loop, "remove_reader", lambda sock: (removed.append(sock), real(sock)))
        nc._hub.loop._forgotten = True
        await nc.close()
        assert removed == []


# --- the end of a process --------------------------------------------------------------------------------------------

ENDS = {
    "an opened client is forgotten": """
        nc = await nats_anyio.open(url, on_event=lambda event: None)

        async def block(message):
            handled.set()
            await anyio.sleep(1000)

        handled = anyio.Event()
        await nc.subscribe("a", callback=block)
        await nc.publish("a")
        await handled.wait()
        kept.append((nc, nc.subscribe("b")))
        """,
    "a task still waits for a message": """
        nc = await nats_anyio.open(url)
        kept.append(asyncio.create_task(nc.subscribe("a").next()))
        await nc.flush()
        """,
    "the client is still connecting": """
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            kept.append(asyncio.create_task(nats_anyio.open(f"nats://127.0.0.1:{port}", connect_timeout=60)))
            silent.setblocking(False)
            accepted, _ = await asyncio.get_running_loop().sock_accept(silent)
            accepted.detach()  # left open until the end of the process
        """,
    "a resolver hangs": """
        real = socket.getaddrinfo
        def look_up(host, port, flags=0, **options):
            if flags & socket.AI_NUMERICHOST:
                return real(host, port, flags=flags, **options)
            loop.call_soon_threadsafe(asked.set)
            threading.Event().wait()

        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        socket.getaddrinfo = look_up
        task = asyncio.create_task(nats_anyio.open("nats://hangs.test", connect_timeout=60))
        await asked.wait()
        """,
    "a callback for credentials hangs": """
        def answer(challenge):
            loop.call_soon_threadsafe(asked.set)
            threading.Event().wait()

        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.create_task(nats_anyio.open(url, auth=answer, connect_timeout=60))
        await asked.wait()
        """,
    "a reconnect_delay hangs": """
        async def delay(rounds):
            asked.set()
            await asyncio.Event().wait()

        logging.getLogger("nats_anyio").setLevel(logging.ERROR)  # or each attempt is told
        asked = asyncio.Event()
        options = {"retry_on_failed_connect": True, "reconnect_wait": 0.0, "connect_timeout": 60}
        kept.append(await nats_anyio.open("nats://127.0.0.1:1", reconnect_delay=delay, **options))
        await asked.wait()
        """,
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("body", ENDS.values(), ids=list(ENDS))
def test_asyncio_run_ends_quietly(shared_server: LocalServer, body: str, reverse: bool) -> None:
    """In whichever order it cancels all tasks: usually that depends on where they lie in memory."""
    orders = (
        "real = asyncio.tasks.all_tasks\n"
        f"order = lambda loop=None: sorted(real(loop), key=lambda task: task.get_name(), reverse={reverse})\n"
        "asyncio.tasks.all_tasks = order\n"
    )
    ended = run_script(body, orders + "asyncio.run(main())", shared_server.url)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")


ON_EVENT = """
def on_event(event):
    if type(event).__name__ == "Connected":
        raise {error}
"""
ASYNC_ON_EVENT = """
async def on_event(event):
    await anyio.sleep(0)
    if type(event).__name__ == "Connected":
        raise {error}
"""
HANDLE = """
def handle(message):
    raise {error}
"""
ANSWER = """
async def answer(challenge):
    raise {error}
"""
BLOCK = """
async with nats_anyio.connect(url{options}) as nc:
    await nc.subscribe("a", callback={handler})
    await nc.publish("a")
    await anyio.sleep(1000)
"""
OPEN = """
nc = await nats_anyio.open(url{options})
try:
    await nc.subscribe("a", callback={handler})
    await nc.publish("a")
    await anyio.sleep(1000)
finally:
    await nc.close()
"""
SOURCES = {
    "on_event": (ON_EVENT, ", on_event=on_event", "print"),
    "async on_event": (ASYNC_ON_EVENT, ", on_event=on_event", "print"),
    "callback": (HANDLE, "", "handle"),
    "credentials": (ANSWER, ", auth=answer, connect_timeout=60", "print"),
}


@pytest.mark.parametrize(("error", "code"), [("SystemExit(3)", 3), ("KeyboardInterrupt()", 130)])
@pytest.mark.parametrize(("form", "backend"), [(BLOCK, "asyncio"), (BLOCK, "trio"), (OPEN, "asyncio")])
@pytest.mark.parametrize("source", list(SOURCES))
def test_what_ends_the_program_comes_out_once(
    shared_server: LocalServer, source: str, form: str, backend: str, error: str, code: int
) -> None:
    """Out of the block, or of the call that runs the loop, and nothing is printed besides."""
    function, options, handler = SOURCES[source]
    body = function.format(error=error) + form.format(options=options, handler=handler)
    run = f"""
try:
    anyio.run(main, backend={backend!r})
except KeyboardInterrupt:
    sys.exit(130)
"""
    ended = run_script(body, run, shared_server.url)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert "end" not in ended.stdout


def run_script(body: str, run: str, url: str) -> subprocess.CompletedProcess[str]:
    """In an interpreter that warns of everything, and treats each warning as an error."""
    script = (
        "import asyncio, logging, socket, sys, threading\nimport anyio, nats_anyio\nkept = []\nurl = sys.argv[1]\n"
        f"async def main():\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n    print('end')\n{run}\n"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
