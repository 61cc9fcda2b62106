"""What only the threaded client promises: its threads, its lock, re-entrancy, and the end of a process."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import nats_sync
from nats_proto import Closed, Connected, Reconnected, SessionStatus
from nats_proto.errors import AuthorizationError, ConnectionDrainingError, NATSError, NoServersError
from nats_sync import Client, _callbacks, _pump
from nats_sync.testing import LocalServer
from tests.faults.peer import Peer, close, freeze, handshake, hold, send
from tests.leaks import Snapshot

PATIENCE = 10.0


def connect(server: LocalServer | str, **options: object) -> Client:
    quick: dict[str, object] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.01, "connect_timeout": 2.0}
    return nats_sync.connect(server if isinstance(server, str) else server.url, **(quick | options))


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def threads_of(name: str) -> dict[str, int | None]:
    return {thread.name: thread.ident for thread in threading.enumerate() if thread.name.startswith(f"nats-{name}-")}


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- threads and descriptors -----------------------------------------------------------------------------------------


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
        assert threads_of("billing") == threads
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


# --- callback workers ------------------------------------------------------------------------------------------------


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
        assert len(threads_of("one")) == 4


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
        for _ in range(_callbacks.TURN * 3):
            client.publish("busy")
        client.publish("other")
        client.flush()
        first.set()
        eventually(lambda: len(order) == _callbacks.TURN * 3 + 1)
        assert order.index("other") == _callbacks.TURN


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


# --- every method from inside user code ------------------------------------------------------------------------------

Use = Callable[[Client], object]


def _iterate(client: Client) -> None:
    with client.subscribe("own.iterated", max_msgs=2) as sub:
        client.publish("own.iterated", b"1")
        client.publish("own.iterated", b"2")
        assert [message.data for message in sub] == [b"1", b"2"]


def _ask(client: Client) -> None:
    sub = client.subscribe("own.asked")
    client.publish("own.asked", b"1")
    client.flush()
    assert sub.next(timeout=PATIENCE).data == b"1"
    client.publish("own.asked", b"2")
    assert [message.data for message in sub.next_batch(5, timeout=PATIENCE)] == [b"2"]
    assert (sub.pending, sub.delivered, sub.dropped) == ((0, 0), 2, 0)
    sub.drain(timeout=PATIENCE)


def _look(client: Client) -> None:
    assert client.status is not SessionStatus.DISCONNECTED
    assert client.stats.out_msgs >= 0
    assert client.server_info is not None
    assert client.connected_url in (None, *client.servers)
    assert client.max_payload
    assert isinstance(client.last_error, (NATSError, type(None)))
    assert client.new_inbox().startswith("_INBOX.")
    assert repr(client).startswith("<nats_sync.Client")


USES: dict[str, Use] = {
    "publish": lambda client: client.publish("nobody", b"x"),
    "request": lambda client: client.request("echo", b"x", timeout=PATIENCE),
    "request_many": lambda client: list(client.request_many("echo", b"x", max_wait=PATIENCE, max_msgs=1)),
    "flush": lambda client: client.flush(timeout=PATIENCE),
    "rtt": lambda client: client.rtt(timeout=PATIENCE),
    "iterate": _iterate,
    "ask": _ask,
    "look": _look,
    "reconnect": lambda client: client.reconnect(),
    "drain": lambda client: client.drain(timeout=PATIENCE),
    "close": lambda client: client.close(),
}


class Once:
    """Uses the client once, in the thread that calls, and keeps what came of it."""

    def __init__(self, use: Use) -> None:
        self._use = use
        self._began = False
        self.client: Client | None = None
        self.done = threading.Event()
        self.failure: BaseException | None = None

    def __call__(self, told: object) -> None:
        if isinstance(told, logging.LogRecord):
            told = told.getMessage()
        elif not isinstance(told, nats_sync.Message):
            told = type(told).__name__.lower()
        if (
            self.client is not None
            and not self._began
            and (isinstance(told, nats_sync.Message) or "reconnected" in told)
        ):
            self._began = True
            try:
                self._use(self.client)
            except BaseException as error:
                self.failure = error
            self.done.set()

    def check(self) -> None:
        assert self.done.wait(PATIENCE)
        assert self.failure is None, repr(self.failure)


@pytest.fixture
def log_handler() -> Iterator[Callable[[Callable[..., object]], None]]:
    handlers: list[logging.Handler] = []
    logger = logging.getLogger("nats_sync")
    before = logger.level
    logger.setLevel(logging.INFO)

    def add(function: Callable[..., object]) -> None:
        handler = logging.Handler()
        handler.emit = function  # type: ignore[method-assign]
        handlers.append(handler)
        logger.addHandler(handler)

    yield add
    logger.setLevel(before)
    for handler in handlers:
        logger.removeHandler(handler)


@pytest.mark.parametrize("where", ["callback", "on_event", "log"])
@pytest.mark.parametrize("use", USES)
def test_every_method_from_inside_user_code(
    server: LocalServer, log_handler: Callable[[Callable[..., object]], None], where: str, use: str
) -> None:
    once = Once(USES[use])
    with connect(server, name="inside", on_event=once if where == "on_event" else None) as client:
        client.subscribe("echo", callback=lambda message: message.respond(message.data))
        client.flush()
        if where == "callback":
            client.subscribe("go", callback=once)
        elif where == "log":
            log_handler(once)
        once.client = client
        if where == "callback":
            client.publish("go")
        else:
            client.reconnect()
        once.check()
        if use in ("drain", "close"):
            eventually(lambda: client.status is SessionStatus.CLOSED)
        else:
            eventually(lambda: client.status is SessionStatus.CONNECTED)
            assert client.request("echo", b"after", timeout=PATIENCE).data == b"after"
    eventually(lambda: threads_of("inside") == {})


def test_a_subscription_ended_from_inside_its_own_callback(server: LocalServer) -> None:
    done = threading.Event()
    got: list[bytes] = []

    def handle(message: nats_sync.Message) -> None:
        if not got:
            sub.drain()
        got.append(message.data)
        if len(got) == 10:
            done.set()

    with connect(server) as client:
        sub = client.subscribe("own", callback=handle)
        for n in range(10):
            client.publish("own", b"%d" % n)
        assert done.wait(PATIENCE)
        sub.drain(timeout=PATIENCE)
        assert got == [b"%d" % n for n in range(10)]


def test_two_callbacks_that_close_do_not_wait_for_each_other(server: LocalServer) -> None:
    both = threading.Barrier(2)
    closed = threading.Semaphore(0)
    client = connect(server, name="both")

    def handle(_: nats_sync.Message) -> None:
        both.wait(PATIENCE)
        client.close()
        closed.release()

    for _ in range(2):
        client.subscribe("end", callback=handle)
    client.publish("end")
    for _ in range(2):
        assert closed.acquire(timeout=1.0)
    eventually(lambda: threads_of("both") == {})


def test_user_code_that_blocks_does_not_hold_up_close_for_ever(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nats_sync._threads.USER_CODE_LIMIT", 0.05)
    release, began = threading.Event(), threading.Semaphore(0)

    def block(*_: object) -> None:
        began.release()
        release.wait()

    client = connect(server, name="blocked", on_event=block)
    client.subscribe("block", callback=block)
    client.publish("block")
    for _ in range(2):
        assert began.acquire(timeout=PATIENCE)
    client.close()
    assert set(threads_of("blocked")) == {"nats-blocked-events", "nats-blocked-callbacks-1"}
    release.set()
    eventually(lambda: threads_of("blocked") == {})


def test_events_are_bounded_while_on_event_blocks(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nats_sync._dispatch.MAX_EVENTS", 10)
    release = threading.Event()
    seen: list[str] = []

    def slow(event: object) -> None:
        release.wait(PATIENCE)
        seen.append(type(event).__name__)

    with connect(server, on_event=slow) as client:
        for count in range(1, 11):
            client.reconnect()
            eventually(lambda count=count: client.stats.reconnects == count)
        release.set()
    assert seen[0] == "Connected"
    assert seen[-1] == "Closed"
    assert len(seen) <= 11


# --- interrupts ------------------------------------------------------------------------------------------------------


def interrupted(blocked: Callable[[], object], call: Callable[[], object]) -> None:
    """``call()`` is ended by SIGINT once ``blocked()`` is true."""

    def interrupt() -> None:
        eventually(blocked)
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    helper.join()


@pytest.fixture
def quiet() -> Iterator[Client]:
    """Connected to a peer that answers nothing."""
    with Peer([handshake(), hold()]) as peer, connect(peer.url, ping_interval=0) as client:
        yield client


def test_interrupted_request(quiet: Client) -> None:
    pump = quiet._pump
    interrupted(lambda: pump.requests, lambda: quiet.request("a", timeout=60))
    assert pump.requests == {}
    assert pump.session.pending_requests == 0


def test_interrupted_request_many(quiet: Client) -> None:
    pump = quiet._pump
    answers = quiet.request_many("a", max_wait=60)
    interrupted(lambda: pump.subscriptions and next(iter(pump.subscriptions.values()))._waiters, lambda: next(answers))
    answers.close()
    assert pump.subscriptions == {}


def test_an_iterator_nobody_holds_gives_its_inbox_back(server: LocalServer) -> None:
    with connect(server) as client:
        client.subscribe("echo", callback=lambda message: message.respond(b"1"))
        for _ in client.request_many("echo", max_wait=60):
            break
        eventually(lambda: len(client._pump.subscriptions) == 1)


def test_interrupted_flush(quiet: Client) -> None:
    pump = quiet._pump
    interrupted(lambda: pump.flushes, lambda: quiet.flush(timeout=60))
    interrupted(lambda: pump.flushes, lambda: quiet.rtt(timeout=60))
    assert pump.flushes == {}


@pytest.mark.parametrize("read", ["next", "next_batch", "iterate"])
def test_interrupted_reading(server: LocalServer, read: str) -> None:
    with connect(server) as client:
        sub = client.subscribe("a")
        calls = {"next": sub.next, "next_batch": lambda: sub.next_batch(5), "iterate": lambda: next(iter(sub))}
        for n in range(20):
            interrupted(lambda: sub._waiters, calls[read])
            assert not sub._waiters
            client.publish("a", b"%d" % n)
            assert sub.next(timeout=PATIENCE).data == b"%d" % n


def test_interrupted_drain_of_a_subscription(server: LocalServer) -> None:
    with connect(server) as client:
        sub = client.subscribe("a")
        client.publish("a", b"1")
        client.flush()
        interrupted(lambda: sub._drainers, lambda: sub.drain(timeout=60))
        assert not sub._drainers
        assert sub.next(timeout=PATIENCE).data == b"1"
        client.flush()


def test_interrupted_drain_goes_on(server: LocalServer) -> None:
    with connect(server) as client:
        sub = client.subscribe("a")
        client.publish("a", b"1")
        client.flush()
        interrupted(lambda: client._pump.enders, lambda: client.drain(timeout=60))
        with pytest.raises(ConnectionDrainingError):
            client.subscribe("b")
        assert [message.data for message in sub] == [b"1"]
        client.drain(timeout=60)
        assert client.status is SessionStatus.CLOSED


def test_interrupted_publish_loses_nothing_else() -> None:
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer, connect(peer.url, ping_interval=0) as client:
        pump = client._pump

        def fill() -> None:
            while True:
                client.publish("big", b"x" * 100_000)

        interrupted(lambda: pump.publishers, fill)
        assert pump.publishers == []
        assert pump.session.pending_bytes >= 1024 * 1024


def test_interrupted_connect_leaves_nothing() -> None:
    with Peer([hold()]) as peer:
        interrupted(lambda: peer.connections, lambda: connect(peer.url, connect_timeout=60, name="interrupted"))
        assert threads_of("interrupted") == {}


@pytest.mark.parametrize("use", ["publish", "request", "flush", "next"])
def test_interrupts_at_any_moment_leave_the_client_usable(server: LocalServer, use: str) -> None:
    moments = random.Random(use)
    with connect(server) as client:
        client.subscribe("echo", callback=lambda message: message.respond(message.data))
        sub = client.subscribe("a")
        calls: dict[str, Callable[[], object]] = {
            "publish": lambda: client.publish("b", b"x"),
            "request": lambda: client.request("echo", timeout=PATIENCE),
            "flush": lambda: client.flush(timeout=PATIENCE),
            "next": lambda: (client.publish("a"), sub.next(timeout=PATIENCE)),
        }
        call = calls[use]
        start, stop = threading.Semaphore(0), threading.Event()

        def interrupt() -> None:
            while start.acquire() and not stop.is_set():
                later = time.perf_counter() + moments.random() * 0.0004
                while time.perf_counter() < later:
                    pass
                os.kill(os.getpid(), signal.SIGINT)

        helper = threading.Thread(target=interrupt)
        helper.start()
        for _ in range(200):
            with contextlib.suppress(KeyboardInterrupt):
                start.release()
                while True:
                    call()
        stop.set()
        start.release()
        helper.join()
        assert client.request("echo", b"still here", timeout=PATIENCE).data == b"still here"
        client.flush()
        eventually(lambda: client._pump.write_owner == _pump.NOBODY)
        assert client.stats.reconnects == 0
        assert (client._pump.requests, client._pump.flushes, client._pump.session.pending_requests) == ({}, {}, 0)


def test_a_signal_handler_may_use_the_client(server: LocalServer) -> None:
    got: list[bytes] = []
    with connect(server) as client:
        sub = client.subscribe("signals")
        client.flush()
        previous = signal.signal(signal.SIGUSR1, lambda *_: client.publish("signals", b"from the handler"))
        try:
            for _ in range(50):
                signal.raise_signal(signal.SIGUSR1)
                client.publish("signals", b"from the program")
        finally:
            signal.signal(signal.SIGUSR1, previous)
        while len(got) < 100:
            got += [message.data for message in sub.next_batch(100, timeout=PATIENCE)]
    assert got == [b"from the handler", b"from the program"] * 50


# --- the lock --------------------------------------------------------------------------------------------------------


class OwnedLock:
    """A lock that knows who has it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.owner: int | None = None
        self._depth = 0
        owned.append(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self.owner = threading.get_ident()
        self._depth += 1

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.owner = None
        self._lock.release()


owned: list[OwnedLock] = []


def test_no_socket_call_and_no_user_code_under_the_lock(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, log_handler: Callable[[Callable[..., object]], None]
) -> None:
    owned.clear()
    monkeypatch.setattr(_pump, "threading", SimpleNamespace(RLock=OwnedLock, Lock=threading.Lock))
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

    with connect(server, on_event=lambda event: check("on_event")) as client:
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
        server.restart()
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
    }
    assert len(owned) == 1


# --- processes -------------------------------------------------------------------------------------------------------


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

        transport = client._pump.transport
        assert transport is not None
        of_parent = [transport.fileno(), client._pump.wakeup.fileno()]
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
