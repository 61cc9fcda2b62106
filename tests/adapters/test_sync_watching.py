"""A worker of the callbacks with nothing to do watches the socket: it reads, calls callbacks, and holds nobody up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic

import pytest

import nats_sync
from nats_proto import SessionStatus
from nats_sync import Client
from nats_sync._engine import callbacks as _callbacks
from nats_sync.testing import LocalServer
from tests.adapters.leading import MARK
from tests.adapters.sync_tools import PATIENCE, connect, eventually, threads_of

pytestmark = MARK
MOST = 1000
"""Tries until something that has to happen now and then has happened."""


def watched(client: Client) -> bool:
    watcher = client._hub.callbacks.watcher
    assert watcher is not None
    with client._hub.lock:
        return watcher.watched()


def readers(client: Client) -> list[int]:
    """The threads that give to the session the messages that have arrived, from now on."""
    seen: list[int] = []
    receive = client._hub.session.receive_data

    def remember(data: bytes, *, now: float) -> None:
        if b"MSG " in data:  # a PING of the server may come at any time
            seen.append(threading.get_ident())
        receive(data, now=now)

    client._hub.session.receive_data = remember  # type: ignore[assignment, method-assign]
    return seen


class Callback:
    """Keeps what it gets, and in which thread; blocks for the message ``block`` until it is let go."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.threads: list[int] = []
        self.blocked = threading.Event()
        self.go_on = threading.Event()

    def let_go(self) -> None:
        """Go on, and block for the next one again."""
        before = len(self.got)
        self.go_on.set()
        eventually(lambda: len(self.got) > before)
        self.blocked.clear()
        self.go_on.clear()

    def __call__(self, message: nats_sync.Message) -> None:
        self.threads.append(threading.get_ident())
        if message.data == b"block":
            self.blocked.set()
            assert self.go_on.wait(PATIENCE)
        self.got.append(message.data)


def asleep(client: Client, other: Client, callback: Callback, subject: str = "a") -> None:
    """Bring a worker to watch: it has called this callback, and has nothing more to do.

    A worker that is done while the manager still reads does not watch, so this may take more than one message; they are
    forgotten.
    """
    pool = client._hub.callbacks
    while not watched(client):
        before = len(callback.got)
        other.publish(subject, b"first")
        eventually(lambda before=before: len(callback.got) > before and (pool._idle or watched(client)))
    callback.got.clear()
    callback.threads.clear()


def test_the_thread_that_receives_a_message_calls_its_callback(server: LocalServer) -> None:
    callback = Callback()
    with connect(server) as client, connect(server) as other:
        client.subscribe("a", callback=callback)
        client.flush()
        asleep(client, other, callback)
        seen = readers(client)
        # A worker that has just lain down does not sleep yet: then the manager is told, as on a busy machine.
        for number in range(1, MOST + 1):
            other.publish("a", b"%d" % number)
            eventually(lambda number=number: len(callback.got) == number)
            eventually(lambda: watched(client))
            if sum(reader == called for reader, called in zip(seen, callback.threads, strict=True)) == 5:
                break
        assert callback.got == [b"%d" % n for n in range(1, number + 1)]
        assert number < MOST


def test_a_callback_that_blocks_holds_up_nothing(server: LocalServer) -> None:
    one, two = Callback(), Callback()
    with connect(server) as client, connect(server) as other:
        client.subscribe("a", callback=one)
        client.subscribe("b", callback=two)
        client.flush()
        seen = readers(client)
        for _ in range(MOST):
            asleep(client, other, one)
            seen.clear()
            other.publish("a", b"block")
            assert one.blocked.wait(PATIENCE)
            if seen == one.threads:
                break
            one.let_go()  # the manager has read it: the worker did not sleep yet
        assert seen == one.threads  # the thread that blocks is the one that has read
        client.flush(timeout=PATIENCE)
        other.publish("b", b"free")
        eventually(lambda: two.got == [b"free"])
        other.publish("a", b"behind")
        other.flush()
        client.flush(timeout=PATIENCE)
        assert one.got == []
        one.go_on.set()
        eventually(lambda: one.got == [b"block", b"behind"])


def test_what_somebody_else_reads_wakes_the_worker_that_watches(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the only one, and no other may be started."""
    monkeypatch.setattr(_callbacks, "MAX_WORKERS", 1)
    callback = Callback()
    with connect(server) as client, connect(server) as other:
        sub = client.subscribe("a", callback=callback)
        client.flush()
        data = b"MSG a %d 4\r\nread\r\n" % sub.sid
        for _ in range(5):
            asleep(client, other, callback)
            client._hub.call(lambda: client._hub.session.receive_data(data, now=monotonic()))
            eventually(lambda: callback.got == [b"read"])


def test_a_worker_watches_again_after_the_connection_was_lost(server: LocalServer) -> None:
    callback = Callback()
    with connect(server) as client:
        client.subscribe("a", callback=callback)
        client.flush()
        for count in range(1, 4):
            with connect(server) as other:
                asleep(client, other, callback)
            server.kill()
            eventually(lambda: client.status is SessionStatus.RECONNECTING)
            server.start()
            eventually(lambda count=count: client.stats.reconnects == count)
            client.flush(timeout=PATIENCE)
        client.reconnect()
        with connect(server) as other:
            eventually(lambda: client.stats.reconnects == 4)
            client.flush(timeout=PATIENCE)
            asleep(client, other, callback)


@pytest.mark.parametrize("end", [Client.close, Client.drain], ids=["close", "drain"])
@pytest.mark.parametrize("within", [False, True], ids=["outside", "within the callback"])
def test_a_client_ends_while_a_worker_watches(server: LocalServer, end: Callable[[Client], None], within: bool) -> None:
    callback = Callback()
    client = connect(server, name="ends")

    def handle(message: nats_sync.Message) -> None:
        callback(message)
        if message.data == b"end":
            end(client)

    with connect(server) as other:
        client.subscribe("a", callback=handle)
        client.flush()
        asleep(client, other, callback)
        if within:
            other.publish("a", b"end")
        else:
            end(client)
        eventually(lambda: not threads_of("ends"))
        client.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("within", [False, True], ids=["outside", "within the callback"])
def test_a_child_is_forked_while_a_worker_watches(server: LocalServer, within: bool) -> None:
    """It takes nothing from its parent, and its end is no matter to the parent's worker."""
    callback = Callback()
    statuses: list[int] = []

    def fork(client: Client) -> None:
        worker = client._turns.worker
        assert worker is not None
        of_parent = [worker._epoll.fileno(), worker._wakeup.fileno()]
        child = os.fork()
        if not child:
            left = [fd for fd in of_parent if os.path.exists(f"/proc/self/fd/{fd}")]
            os._exit(0 if client.status is SessionStatus.CLOSED and not left else 1)
        statuses.append(os.waitpid(child, 0)[1])

    with connect(server) as client, connect(server) as other:

        def handle(message: nats_sync.Message) -> None:
            if message.data == b"fork":
                fork(client)
            callback(message)

        client.subscribe("a", callback=handle)
        client.flush()
        asleep(client, other, callback)
        if within:
            other.publish("a", b"fork")
            eventually(lambda: callback.got == [b"fork"])
        else:
            fork(client)
            assert watched(client)
        asleep(client, other, callback)
    assert statuses == [0]


def test_after_messages_alone_nothing_but_the_events_is_asked_for(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server) as client:
        sub = client.subscribe("alone")
        client.flush()
        hub, writer = client._hub, client._writer
        settled: list[str] = []
        settle = hub.settle

        def remember() -> None:
            settled.append("settle")
            settle()

        with hub.lock:  # so nobody else gives the session anything meanwhile
            monkeypatch.setattr(hub, "settle", remember)
            assert not writer.receive(b"MSG alone %d 1\r\nx\r\n" % sub.sid)
            assert settled == []
            claimed = writer.receive(b"MSG alone %d 1\r\ny\r\nPING\r\n" % sub.sid)
            assert settled == ["settle"]
        assert claimed  # for the PONG, which is written now
        writer.write_now()
        assert [sub.next(timeout=PATIENCE).data for _ in range(2)] == [b"x", b"y"]
