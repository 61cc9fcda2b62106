"""A KeyboardInterrupt, or another signal, at any moment."""

from __future__ import annotations

import contextlib
import gc
import itertools
import operator
import os
import random
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import nats_proto
import nats_sync
from nats_proto import Session, SessionStatus
from nats_proto.errors import (
    ConnectionDrainingError,
    ConnectionLostError,
    NATSError,
    OutboundBufferLimitError,
)
from nats_sync import Client
from nats_sync._engine.publishers import Turn
from nats_sync._engine.transport import Transport
from nats_sync._engine.wakeup import Wakeup
from nats_sync._engine.writing_side import NOBODY
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, threads_of
from tests.faults.peer import Peer, freeze, handshake, hold, swallow
from tests.interrupting import interrupted_at

# --- interrupts -------------------------------------------------------------------------------------------------------


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


@contextlib.contextmanager
def interrupting(seed: str) -> Iterator[Callable[[], None]]:
    """What it gives has SIGINT come at a random moment within 0.4 ms.

    Without the collector meanwhile: what is raised in a callback of a weak reference is lost, and interrupts nothing.
    """
    moments = random.Random(seed)
    start, stop = threading.Semaphore(0), threading.Event()

    def interrupt() -> None:
        while start.acquire() and not stop.is_set():
            later = time.perf_counter() + moments.random() * 0.0004
            while time.perf_counter() < later:
                pass
            os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    gc.collect()
    gc.disable()
    try:
        yield start.release
    finally:
        gc.enable()
        stop.set()
        start.release()
        helper.join()


@pytest.fixture
def quiet() -> Iterator[Client]:
    """Connected to a peer that answers nothing."""
    with Peer([handshake(), hold()]) as peer, connect(peer.url, ping_interval=0) as client:
        yield client


def test_interrupted_request(quiet: Client) -> None:
    hub = quiet._hub
    interrupted(lambda: hub.requests, lambda: quiet.request("a", timeout=60))
    assert hub.requests == {}
    assert hub.session.pending_requests == 0


def test_interrupted_request_many(quiet: Client) -> None:
    hub = quiet._hub
    answers = quiet.request_many("a", max_wait=60)
    interrupted(lambda: hub.subscriptions and next(iter(hub.subscriptions.values()))()._waiters, lambda: next(answers))
    answers.close()
    assert hub.subscriptions == {}


def test_an_iterator_nobody_holds_gives_its_inbox_back(server: LocalServer) -> None:
    with connect(server) as client:
        client.subscribe("echo", callback=lambda message: message.respond(b"1"))
        for _ in client.request_many("echo", max_wait=60):
            break
        eventually(lambda: len(client._hub.subscriptions) == 1)


def test_interrupted_flush(quiet: Client) -> None:
    hub = quiet._hub
    interrupted(lambda: hub.flushes, lambda: quiet.flush(timeout=60))
    interrupted(lambda: hub.flushes, lambda: quiet.rtt(timeout=60))
    assert hub.flushes == {}


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
        interrupted(lambda: client._hub.enders, lambda: client.drain(timeout=60))
        with pytest.raises(ConnectionDrainingError):
            client.subscribe("b")
        assert [message.data for message in sub] == [b"1"]
        eventually(lambda: client.status is SessionStatus.CLOSED)


def test_interrupted_publish_loses_nothing_else() -> None:
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer, connect(peer.url, ping_interval=0) as client:
        hub = client._hub

        def fill() -> None:
            while True:
                client.publish("big", b"x" * 100_000)

        for _ in range(3):
            interrupted(lambda: hub.publishers.waiting, fill)
            assert hub.publishers.waiting == []


def test_interrupted_connect_leaves_nothing() -> None:
    with Peer([hold()]) as peer:
        interrupted(lambda: peer.connections, lambda: connect(peer.url, connect_timeout=60, name="interrupted"))
        assert threads_of("interrupted") == {}


@pytest.mark.parametrize("use", ["publish", "request", "flush", "next"])
def test_interrupts_at_any_moment_leave_the_client_usable(server: LocalServer, use: str) -> None:
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
        with interrupting(use) as interrupt_soon:
            for _ in range(200):
                with contextlib.suppress(KeyboardInterrupt):
                    interrupt_soon()
                    # One in the midst of a write costs the connection, and a flush that waits for it meanwhile. The
                    # interrupt is waited for all the same, or the next one would come close behind it.
                    while True:
                        with contextlib.suppress(ConnectionLostError):
                            call()
        assert client.request("echo", b"still here", timeout=PATIENCE).data == b"still here"
        client.flush()
        eventually(lambda: client._hub.writing.owner == NOBODY)
        # Nothing else costs the connection.
        assert client.stats.reconnects == 0 or "interrupted" in str(client.last_error)
        assert (client._hub.requests, client._hub.flushes, client._hub.session.pending_requests) == ({}, {}, 0)


@pytest.mark.skipif(not nats_proto.accelerated, reason="the Python twin can be interrupted within a step")
def test_interrupts_at_any_moment_lose_nothing_that_was_published() -> None:
    """They like to come with the end of a long C call: when a chunk was taken, was written, was accepted."""
    received = bytearray()
    published: list[int] = []
    with Peer([handshake(), swallow], again=True) as peer:
        with connect(peer.url, reconnect_wait=0.0, pending_size=1 << 30, ping_interval=0) as client:
            numbers = itertools.count()
            with interrupting("publish") as interrupt_soon:
                for _ in range(300):
                    with contextlib.suppress(KeyboardInterrupt):
                        interrupt_soon()
                        for number in numbers:
                            client.publish("x", b"%08d" % number + bytes(1000))
                            published.append(number)
            eventually(lambda: client.status is SessionStatus.CONNECTED)
            client.flush()
            eventually(lambda: client._hub.writing.owner == NOBODY)
        for connection in peer.connections:
            assert connection.ended.wait(PATIENCE)
            received += connection.received
    arrived = {int(number) for number in re.findall(rb"PUB x 1008\r\n(\d{8})", received)}
    assert len(published) > 1000
    assert not sorted(set(published) - arrived)


def flushed(client: Client) -> bool:
    """Whether the server has read it all; if not, there will be another connection."""
    with contextlib.suppress(ConnectionLostError):
        client.flush(timeout=PATIENCE)
        return True
    return False


def test_an_interrupt_at_any_moment_of_a_call_loses_nothing_and_sends_nothing_twice(server: LocalServer) -> None:
    published: list[bytes] = []
    with connect(server, reconnect_wait=0.0, reconnect_jitter=0.0) as client, connect(server) as other:
        sub = other.subscribe("a")
        other.flush()
        for number in itertools.count():
            data = b"%d" % number
            with interrupted_at(number, "nats_sync.") as came, contextlib.suppress(ConnectionLostError):
                client.publish("a", data)
                published.append(data)
                client.flush(timeout=PATIENCE)
            eventually(lambda: flushed(client))
            if not came():
                break
        other.flush()
        received = [message.data for message in sub.next_batch(2 * number, timeout=0.0)]
        assert len(received) == len(set(received))
        assert set(published) <= set(received)
        assert number > 5


def test_a_wakeup_can_be_set_again_by_who_was_interrupted_in_the_midst_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    wakeup = Wakeup()
    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        wakeup.set()
    wakeup.set()
    assert select.select([wakeup], [], [], 0.0)[0]
    wakeup.close()


def test_a_write_that_has_failed_is_noticed_by_a_manager_that_has_something_to_read(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by a wakeup of its own, which comes with the next bytes, and so will not come again."""
    receive_data = Session.receive_data
    arrived, told = threading.Event(), threading.Event()

    def wait_within(self: Session[nats_sync.Message], data: bytes, *, now: float) -> None:
        if b"first" in data:
            arrived.set()
            assert told.wait(PATIENCE)
        receive_data(self, data, now=now)

    with connect(server, ping_interval=0) as client, connect(server) as other:
        sub = client.subscribe("a")
        client.flush()
        monkeypatch.setattr(Session, "receive_data", wait_within)
        transport = client._hub.transport
        assert transport is not None
        other.publish("a", b"first")
        assert arrived.wait(PATIENCE)
        other.publish("a", b"second")
        eventually(lambda: select.select([transport], [], [], 0.0)[0])
        client._writer._fail(OSError("a call that wrote to the connection was interrupted"))
        told.set()
        assert [sub.next(timeout=PATIENCE).data for _ in range(2)] == [b"first", b"second"]
        eventually(lambda: client.stats.reconnects == 1)


def test_a_connection_is_given_up_when_a_call_was_interrupted_while_it_took_a_batch(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the stream nobody can say then; what was published goes to the next connection."""
    data_to_send = Session.data_to_send

    def interrupted_behind(self: Session[nats_sync.Message]) -> list[bytes]:
        pieces = data_to_send(self)
        if pieces and threading.current_thread() is threading.main_thread():
            monkeypatch.undo()
            raise KeyboardInterrupt
        return pieces

    with connect(server, reconnect_wait=0.01) as client, connect(server) as other:
        sub = other.subscribe("kept")
        other.flush()
        client.publish("kept", b"0")
        client.flush()
        monkeypatch.setattr(Session, "data_to_send", interrupted_behind)
        count = 0

        def publish() -> None:
            nonlocal count
            while True:
                count += 1
                client.publish("kept", b"%d " % count + bytes(1000))

        with pytest.raises(KeyboardInterrupt):
            publish()
        eventually(lambda: client.stats.reconnects == 1)
        client.publish("kept", b"last")
        client.flush()
        got = [sub.next(timeout=PATIENCE).data.split(b" ")[0] for _ in range(count + 2)]
        assert got[:count] == [b"%d" % number for number in range(count)]
        assert got[-1] == b"last"  # and the one that was interrupted before it: it had been taken
        assert "interrupted" in str(client.last_error)


@pytest.mark.parametrize("read", ["iterate", "next"])
def test_interrupts_at_any_moment_lose_no_message(server: LocalServer, read: str) -> None:
    count = 200_000
    moments = random.Random(read)
    got: list[bytes] = []
    with connect(server, max_pending_msgs=0) as client, connect(server) as other:
        sub = client.subscribe("a")
        client.flush()
        start, stop = threading.Semaphore(0), threading.Event()

        def interrupt() -> None:
            while start.acquire() and not stop.is_set():
                later = time.perf_counter() + moments.random() * 0.0004
                while time.perf_counter() < later:
                    pass
                os.kill(os.getpid(), signal.SIGINT)

        def publish() -> None:
            # It goes on to the end: Python may overlook a signal that comes right before a lock is waited for.
            for number in itertools.count():
                other.publish("a", b"%d" % number)
                if number >= count:
                    other.flush()
                if stop.is_set():
                    return

        threads = [threading.Thread(target=interrupt), threading.Thread(target=publish)]
        for thread in threads:
            thread.start()
        try:
            while len(got) < count:
                with contextlib.suppress(KeyboardInterrupt):
                    start.release()
                    if read == "iterate":
                        for message in sub:
                            got.append(message.data)
                    else:
                        while True:
                            got.extend(map(_data, map(sub.next, (PATIENCE,))))
        finally:
            stop.set()
            start.release()
            for thread in threads:
                thread.join()
    assert got == [b"%d" % number for number in range(len(got))]


_data = operator.attrgetter("data")


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


def test_a_signal_handler_publishes_in_the_midst_of_publishing(server: LocalServer) -> None:
    """With headers it takes the strict path, and may find the program in the midst of a write."""
    with connect(server) as client, connect(server) as other:
        sub = other.subscribe("*.signals", max_pending_msgs=0)
        other.flush()
        handled = itertools.count()
        stop = threading.Event()

        idle = [True]

        def handler(*_: object) -> None:
            if idle:  # else in the midst of itself
                idle.pop()
                client.publish("handler.signals", b"%d" % next(handled), headers={"from": "handler"})
                idle.append(True)

        def interrupt() -> None:
            while not stop.wait(0.0003):
                os.kill(os.getpid(), signal.SIGUSR1)

        previous = signal.signal(signal.SIGUSR1, handler)
        helper = threading.Thread(target=interrupt)
        helper.start()
        try:
            for number in range(20_000):
                client.publish("program.signals", b"%d " % number + bytes(2000))
        finally:
            stop.set()
            helper.join()
            signal.signal(signal.SIGUSR1, previous)
        client.flush()
        other.flush()
        times = next(handled)
        assert times
        numbers: dict[str, list[int]] = {"handler.signals": [], "program.signals": []}
        for message in sub.next_batch(20_000 + times, timeout=PATIENCE):
            numbers[message.subject].append(int(message.data.split(b" ")[0]))
        while len(numbers["handler.signals"]) + len(numbers["program.signals"]) < 20_000 + times:
            message = sub.next(timeout=PATIENCE)
            numbers[message.subject].append(int(message.data.split(b" ")[0]))
    assert numbers == {"handler.signals": [*range(times)], "program.signals": [*range(20_000)]}


@contextlib.contextmanager
def handling(handler: Callable[[], object]) -> Iterator[None]:
    """SIGUSR1 is handled so."""
    previous = signal.signal(signal.SIGUSR1, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


def interrupted_in(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The next time that the main thread comes there, SIGUSR1 comes too."""
    owner, name = {
        "the queue of publishers, with the lock": (Turn, "begin_anew"),
        "a send, as the owner of the writing side": (Transport, "send"),
        "a mutation, with the lock": (Session, "subscribe"),
    }[place]
    original = getattr(owner, name)

    def interrupted(self: object, *args: object, **options: object) -> object:
        if threading.current_thread() is threading.main_thread():
            monkeypatch.setattr(owner, name, original)
            signal.raise_signal(signal.SIGUSR1)
        return original(self, *args, **options)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize(
    "place", ["the queue of publishers, with the lock", "a send, as the owner of the writing side"]
)
def test_a_signal_handler_that_finds_no_room_does_not_wait_for_the_call_it_has_interrupted(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    read = threading.Event()
    refused: list[bool] = []
    taken: list[int] = []

    def handler() -> None:
        try:
            for number in range(100):
                client.publish("handler", bytes(100_000), headers={"from": "handler"})
                taken.append(number)
        except OutboundBufferLimitError:
            refused.append(True)
        read.set()

    script = [handshake(), lambda _: read.wait(PATIENCE), swallow]
    with (
        Peer(script, rcvbuf=4096) as peer,
        connect(peer.url, ping_interval=0, pending_size=4 << 20) as client,
        handling(handler),
    ):
        interrupted_in(monkeypatch, place)
        count = 0
        while not taken:
            client.publish("program", bytes(100_000))
            count += 1
        client.publish("program", b"last")
        # The bound holds in a handler too, and everything before it was taken.
        assert refused
        assert 10 < len(taken) < 100
        received = peer.connections[0].received
        eventually(lambda: received.endswith(b"PUB program 4\r\nlast\r\n"))
    assert received.count(b"PUB program 100000\r\n") == count
    assert received.count(b"HPUB handler ") == len(taken)


@pytest.mark.parametrize("end", ["close", "drain", "drain of a subscription", "stop of a service"])
@pytest.mark.parametrize("place", ["a mutation, with the lock", "a send, as the owner of the writing side"])
def test_a_signal_handler_ends_the_client_and_does_not_wait_for_the_call_it_has_interrupted(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, end: str, place: str
) -> None:
    ended: list[bool] = []

    def handler() -> None:
        {
            "close": client.close,
            "drain": client.drain,
            "drain of a subscription": sub.drain,
            "stop of a service": service.stop,
        }[end]()
        ended.append(True)

    with connect(server, name="ended") as client, handling(handler):
        sub = client.subscribe("b")
        service = client.add_service("stopped", version="1.0.0")
        client.flush()
        interrupted_in(monkeypatch, place)
        while not ended:  # which thread writes is not decided by this one alone
            with contextlib.suppress(NATSError):  # whatever the client's end makes of them
                client.subscribe("a")
                client.request("nobody", timeout=PATIENCE)
        if end in ("close", "drain"):
            eventually(lambda: client.status is SessionStatus.CLOSED)
        elif end == "drain of a subscription":
            sub.drain(PATIENCE)
        else:
            service.stop(PATIENCE)
            assert service.stopped
    assert threads_of("ended") == {}
