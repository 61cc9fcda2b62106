"""Forked children, and the end of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import nats_sync
from nats_proto import Closed, Connected, Reconnected, SessionStatus
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.faults.peer import Peer, expect, handshake, hold

# --- processes --------------------------------------------------------------------------------------------------------


def in_child(check: Callable[[], object]) -> str:
    """What ``check()`` says in a forked child, "" when it raises nothing."""
    reading_end, writing_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "the child ended early"
        try:
            check()
            said = ""
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing_end, said.encode())
            os._exit(0)
    os.close(writing_end)
    with open(reading_end, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_nothing_of_the_next_connection_either() -> None:
    """The parent is a lame duck's client, and the next server does not say yet that it has the subscriptions."""
    with (
        Peer([handshake(ldm=True), hold()]) as duck,
        Peer([handshake(server_id="next"), expect(b"PING\r\n"), hold()]) as following,
    ):
        options = {"randomize_servers": False, "reconnect_jitter": 0.0, "connect_timeout": PATIENCE}
        with nats_sync.connect([duck.url, following.url], **options) as client:
            following.wait_for_connection()
            made = client._hub.successor
            assert made is not None
            eventually(lambda: made.unfinished)
            assert made.unfinished is not None
            of_parent = [made.unfinished.fileno(), made.wakeup.fileno()]

            def check() -> None:
                assert client._hub.successor is None
                assert not [fd for fd in of_parent if Path(f"/proc/self/fd/{fd}").exists()]
                with pytest.raises(nats_sync.errors.ConnectionClosedError):
                    client.publish("a")
                client.close()

            assert in_child(check) == ""
            assert client._hub.successor is made
            assert client.connected_url == duck.url


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_a_closed_client(server: LocalServer) -> None:
    events: list[object] = []
    with connect(server, on_event=events.append) as client:
        sub = client.subscribe("a")
        client.publish("a", b"1")
        client.flush()
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                client.publish("b", b"x" * 100)
                client.flush()

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()

        def fails(call: Callable[[], object]) -> None:
            with pytest.raises(nats_sync.errors.ConnectionClosedError):
                call()

        def check() -> None:
            fails(lambda: client.publish("a"))
            fails(lambda: client.request("a"))
            fails(lambda: client.subscribe("c"))
            fails(client.flush)
            fails(client.drain)
            fails(client.reconnect)
            fails(sub.next)
            assert list(sub) == []
            assert client.status is SessionStatus.CLOSED
            assert client.connected_url is None
            sub.unsubscribe()
            client.close()
            assert not [fd for fd in of_parent if Path(f"/proc/self/fd/{fd}").exists()]

        transport = client._hub.transport
        assert transport is not None
        of_parent = [transport.fileno(), client._hub.agenda.wakeup.fileno()]
        of_parent += [epoll.fileno() for epoll in (client._turns._epoll, client._turns._leaders) if epoll]
        for _ in range(20):
            assert in_child(check) == ""
        stop.set()
        for worker in workers:
            worker.join()
        client.flush()
        assert client.stats.reconnects == 0
        assert sub.next(timeout=PATIENCE).data == b"1"
    assert [type(event) for event in events][:1] == [Connected]
    assert not [event for event in events if isinstance(event, Reconnected)]
    assert events[-1] == Closed(error=None)


def run_script(script: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_an_interpreter_ends_quietly_with_an_open_client(server: LocalServer) -> None:
    ended = run_script(
        """
        import sys, threading, nats_sync
        began = threading.Event()
        nc = nats_sync.connect(sys.argv[1], on_event=lambda event: None)
        nc.subscribe("echo", callback=lambda message: (began.set(), message.respond(b"")))
        nc.subscribe("block", callback=lambda message: threading.Event().wait())
        nc.publish("block")
        sub = nc.subscribe("a")
        threading.Thread(target=sub.next, daemon=True).start()
        threading.Thread(target=lambda: [nc.request("echo") for _ in range(10**9)], daemon=True).start()
        began.wait(10)
        print("end")
        """,
        server.url,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")


def test_sigterm_and_drain(server: LocalServer) -> None:
    """The recipe of a service: the handler drains, the main thread waits for its end."""
    ended = run_script(
        """
        import os, signal, sys, threading, nats_sync
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        with nats_sync.connect(sys.argv[1]) as nc:
            nc.subscribe("work", callback=lambda message: print(message.data.decode()))
            for n in range(3):
                nc.publish("work", b"%d" % n)
            nc.flush()
            os.kill(os.getpid(), signal.SIGTERM)
            stop.wait()
            nc.drain()
        print("drained")
        """,
        server.url,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n1\n2\ndrained\n", "")
