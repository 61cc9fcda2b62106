"""The threads of the threaded client: how many, since when, until when; and its lock."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

import nats_proto
import nats_sync
from nats_proto import Session, SessionStatus
from nats_proto.errors import AuthorizationError, NoServersError
from nats_sync._engine import callbacks as _callbacks
from nats_sync._engine import hub as _hub
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, log_handler, open_fds, threads_of
from tests.faults.peer import Peer, close, send
from tests.leaks import Snapshot

__all__ = ["log_handler"]  # a fixture


# --- threads and descriptors ------------------------------------------------------------------------------------------


def test_threads_are_started_once_and_named_after_the_client(server: LocalServer) -> None:
    with connect(server, name="billing") as client:
        assert set(threads_of("billing")) == {"nats-billing-reader", "nats-billing-writer", "nats-billing-events"}
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("nats-billing-"))
        client.subscribe("echo", callback=lambda message: message.respond(message.data))
        client.request("echo", b"1")
        threads, fds = threads_of("billing"), open_fds()
        assert len(threads) == 4
        for count in range(1, 6):
            server.restart() if count % 2 else client.reconnect()
            eventually(lambda count=count: client.stats.reconnects == count)
            assert client.request("echo", b"2").data == b"2"
        # None was replaced. A message that comes before the first worker is done may start a second one.
        now = threads_of("billing")
        assert threads.items() <= now.items()
        assert now.keys() - threads.keys() <= {"nats-billing-callbacks-2"}
        assert open_fds() == fds
    assert threads_of("billing") == {}


def test_an_outage_starts_no_thread(server: LocalServer) -> None:
    log: list[str] = []
    options = {"reconnect_wait": 0.001, "reconnect_jitter": 0.0}
    with connect(server, name="outage", on_event=lambda event: log.append(type(event).__name__), **options) as client:
        before = threads_of("outage")
        server.kill()
        eventually(lambda: log.count("Reconnecting") > 20)
        assert threads_of("outage") == before
        server.start()
        eventually(lambda: client.status is SessionStatus.CONNECTED)
        assert threads_of("outage") == before


def test_closing_twice_and_from_many_threads(server: LocalServer) -> None:
    client = connect(server, name="twice")
    closers = [threading.Thread(target=client.close) for _ in range(8)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
        assert threads_of("twice") == {}
    client.close()


def test_a_failed_first_connect_leaves_nothing(free_port: int) -> None:
    with Peer(*[[send(b"-ERR 'Authorization Violation'\r\n"), close()]] * 20) as refusing:
        snapshot = Snapshot.take()
        for _ in range(300):
            with pytest.raises(NoServersError):
                connect(f"nats://127.0.0.1:{free_port}")
        for _ in range(20):
            with pytest.raises(NoServersError) as caught:
                connect(refusing.url)
            assert isinstance(caught.value.attempts[0][1], AuthorizationError)
        for _ in range(3):
            with pytest.raises(NoServersError):
                connect(f"nats://localhost:{free_port}", connect_timeout=0.5)
        left = {thread for thread in threading.enumerate() if thread.name.startswith("nats")}
        assert left == set()
        assert [leak for leak in snapshot.leaks_until_gone() if "socket" in leak or "pipe" in leak] == []


def test_a_system_without_more_threads(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("-reader"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        connect(server)


def test_a_worker_that_was_not_started_yet_does_not_hold_up_the_end(server: LocalServer) -> None:
    client = connect(server)
    client._hub.callbacks.threads.append(threading.Thread(target=print))
    client.close()
    assert client.status is SessionStatus.CLOSED


# --- callback workers -------------------------------------------------------------------------------------------------


def test_workers_are_shared_and_bounded(server: LocalServer) -> None:
    release = threading.Event()
    running = threading.Semaphore(0)
    handled: list[int] = []

    def block(number: int) -> Callable[[nats_sync.Message], object]:
        def handle(_: nats_sync.Message) -> None:
            running.release()
            release.wait()
            handled.append(number)

        return handle

    with connect(server, name="pool") as client:
        for number in range(_callbacks.MAX_WORKERS + 8):
            client.subscribe("all", callback=block(number))
        client.publish("all")
        for _ in range(_callbacks.MAX_WORKERS):
            assert running.acquire(timeout=PATIENCE)
        client.flush()
        assert len(threads_of("pool")) == 3 + _callbacks.MAX_WORKERS
        assert not running.acquire(blocking=False)
        release.set()
        eventually(lambda: len(handled) == _callbacks.MAX_WORKERS + 8)
        assert sorted(handled) == list(range(_callbacks.MAX_WORKERS + 8))
        assert len(threads_of("pool")) == 3 + _callbacks.MAX_WORKERS


def test_one_worker_is_enough_for_callbacks_that_return(server: LocalServer) -> None:
    got: list[bytes] = []
    with connect(server, name="one") as client:
        for subject in "abc":
            client.subscribe(subject, callback=lambda message: got.append(message.data))
        for n in range(50):
            for subject in "abc":
                client.publish(subject, b"%d" % n)
                client.flush()
                eventually(lambda: client.stats.in_msgs == len(got))
        # One for all three. A message that comes before it is done with the last one may start another one.
        assert len(threads_of("one")) <= 5


def test_a_busy_callback_does_not_starve_the_rest(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_callbacks, "MAX_WORKERS", 1)
    order: list[str] = []
    first = threading.Event()

    def busy(_: nats_sync.Message) -> None:
        first.wait()
        order.append("busy")

    with connect(server) as client:
        client.subscribe("busy", callback=busy)
        client.subscribe("other", callback=lambda _: order.append("other"))
        for _ in range(_callbacks.MAX_BATCH * 3):
            client.publish("busy")
        client.publish("other")
        client.flush()
        first.set()
        eventually(lambda: len(order) == _callbacks.MAX_BATCH * 3 + 1)
        assert order.index("other") == _callbacks.MAX_BATCH


def test_what_a_callback_raises_is_logged_once(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: nats_sync.Message) -> None:
        raise (SystemExit if message.data == b"1" else ZeroDivisionError)("what went wrong")

    got: list[bytes] = []
    with connect(server) as client, caplog.at_level(logging.ERROR, "nats_sync"):
        client.subscribe("fail", callback=fail)
        client.subscribe("fail", callback=lambda message: got.append(message.data))
        for n in range(3):
            client.publish("fail", b"%d" % n)
        eventually(lambda: len(got) == 3 and len(caplog.records) == 3)
        client.flush()
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError, SystemExit, ZeroDivisionError]
    assert all("fail" in record.getMessage() for record in caplog.records)


def test_the_log_is_not_flooded(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    handled = threading.Semaphore(0)

    def fail(_: nats_sync.Message) -> None:
        handled.release()
        raise ZeroDivisionError

    with connect(server) as client, caplog.at_level(logging.ERROR, "nats_sync"):
        client.subscribe("fail", callback=fail)
        began = time.monotonic()
        for _ in range(1000):
            client.publish("fail")
        for _ in range(1000):
            assert handled.acquire(timeout=PATIENCE)
        seconds = int(time.monotonic() - began) + 2
    assert len(caplog.records) <= 10 * seconds


# --- the lock ---------------------------------------------------------------------------------------------------------


class OwnedLock:
    """A lock that knows who has it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.owner: int | None = None
        self._depth = 0
        owned.append(self)

    def acquire(self) -> None:
        self._lock.acquire()
        self.owner = threading.get_ident()
        self._depth += 1

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self.owner = None
        self._lock.release()

    def _is_owned(self) -> bool:  # by which a condition asks
        return self.owner == threading.get_ident()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


owned: list[OwnedLock] = []


def test_no_socket_call_and_no_user_code_under_the_lock(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, log_handler: Callable[[Callable[..., object]], None]
) -> None:
    owned.clear()
    monkeypatch.setattr(
        _hub, "threading", SimpleNamespace(RLock=OwnedLock, Lock=threading.Lock, Condition=threading.Condition)
    )
    seen: set[str] = set()
    guilty: list[str] = []

    def check(what: str) -> None:
        seen.add(what)
        if any(lock.owner == threading.get_ident() for lock in owned):
            guilty.append(what)

    def guard(holder: object, name: str) -> None:
        real = getattr(holder, name)

        def call(*args: object, **kwargs: object) -> object:
            check(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(holder, name, call)

    for name in ("send", "sendmsg", "recv", "connect_ex", "shutdown", "close", "setblocking"):
        guard(socket.socket, name)
    guard(socket, "getaddrinfo")
    guard(os, "write")
    guard(os, "read")
    guard(threading.Thread, "start")
    log_handler(lambda record: check("log"))

    def handle(message: nats_sync.Message) -> None:
        check("callback")
        if message.reply is not None:
            message.respond(message.data)
        if message.data == b"raise":
            raise ZeroDivisionError

    def delay(_: int) -> float:
        check("delay")
        return 0.0

    with connect(server, on_event=lambda event: check("on_event"), reconnect_delay=delay) as client:
        client.subscribe("echo", callback=handle)
        sub = client.subscribe("large")
        client.publish("echo", b"raise")
        for _ in range(20):
            client.request("echo", b"x", timeout=PATIENCE)
            client.publish("large", b"x" * 200_000)
        client.flush()
        assert len(sub.next_batch(20, timeout=PATIENCE)) > 0
        list(client.request_many("echo", b"x", max_msgs=1))
        client.reconnect()
        eventually(lambda: client.stats.reconnects == 1)
        server.kill()
        eventually(lambda: "delay" in seen)  # a round is over
        server.start()
        eventually(lambda: client.stats.reconnects == 2)
        sub.drain(timeout=PATIENCE) if not sub.pending[0] else sub.unsubscribe()
        client.drain(timeout=PATIENCE)
    assert guilty == []
    assert seen >= {
        "send",
        "sendmsg",
        "recv",
        "connect_ex",
        "shutdown",
        "close",
        "log",
        "callback",
        "on_event",
        "start",
        "delay",
    }
    assert len(owned) == 1


def test_the_last_of_a_burst_is_written_without_a_flush(server: LocalServer) -> None:
    """Its callers write full chunks themselves; what is behind the last of them is the writer's."""
    with connect(server) as client, connect(server) as other:
        sub = other.subscribe("burst")
        other.flush()
        for burst in range(20):
            for number in range(500 + burst):
                client.publish("burst", b"%d " % number + bytes(1000))
            for number in range(500 + burst):
                assert sub.next(timeout=PATIENCE).data.startswith(b"%d " % number)


@pytest.mark.skipif(not nats_proto.accelerated, reason="the Python twin is published to under the lock")
def test_a_publish_in_the_moment_in_which_the_writer_leaves_is_written(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publish takes no lock: it may come when the writer has found nothing more, and has not left yet."""
    data_to_send = Session.data_to_send
    late: list[threading.Thread] = []
    wanted = threading.Event()

    with connect(server) as client, connect(server) as other:
        sub = other.subscribe("late")
        other.flush()
        session = client._hub.session

        def take_and_publish(self: Session[nats_sync.Message]) -> list[bytes]:
            pieces = data_to_send(self)
            if self is session and not pieces and wanted.is_set():
                wanted.clear()
                waiting = session.pending_bytes
                late.append(threading.Thread(target=client.publish, args=("late", b"%d" % len(late))))
                late[-1].start()
                eventually(lambda: session.pending_bytes > waiting)
            return pieces

        monkeypatch.setattr(Session, "data_to_send", take_and_publish)
        for number in range(20):
            wanted.set()
            client.publish("early")
            assert sub.next(timeout=PATIENCE).data == b"%d" % number
            late[-1].join(PATIENCE)
        assert not wanted.is_set()
