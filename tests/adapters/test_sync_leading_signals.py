"""Signals and forks in the midst of a lead: whatever their handlers do, the reader goes on and no answer is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

import pytest

from nats_proto.errors import ConnectionClosedError, InvalidSubjectError
from nats_sync._engine import turns as _turns
from nats_sync._engine.writing_side import NOBODY
from nats_sync.testing import LocalServer
from tests.adapters.leading import (
    ECHO,
    MARK,
    POINTS,
    always,
    answers,
    at,
    can_be_led,
    in_background,
    leads,
    leads_of,
    nothing_to_read,
    replies,
    tireless,
    undisturbed,
)
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.adapters.test_sync_processes import in_child
from tests.faults.peer import Connection, Peer, handshake, loop

__all__ = ["always", "tireless", "undisturbed"]  # fixtures

pytestmark = MARK


# --- a signal handler in the midst of it -----------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_an_interrupt_at_each_point_of_a_lead(
    always: None, monkeypatch: pytest.MonkeyPatch, point: str, when: str
) -> None:
    """What arrives right behind the answer, for somebody else, is not lost, whatever becomes of the answer."""
    asked = answered = sent = 0
    go_on = threading.Semaphore(0)

    def step(connection: Connection) -> None:
        nonlocal answered, sent
        answers(b"@")(connection)
        answered += 1
        assert go_on.acquire(timeout=PATIENCE)
        connection.send(b"MSG n 2 1\r\n1\r\n")
        sent += 1

    def more_arrives() -> None:
        go_on.release()
        eventually(lambda: sent == answered == asked)

    def interrupt() -> None:
        if answered == asked:
            more_arrives()
        raise KeyboardInterrupt

    def request() -> bytes:
        nonlocal asked
        eventually(lambda: nothing_to_read(client))  # else nobody could lead, or who leads would receive it
        asked += 1
        try:
            return client.request("q", timeout=PATIENCE).data
        finally:
            client._hub.call(lambda: None)  # what an interrupt has left to be written
            eventually(lambda: answered == asked)
            if sent < asked:
                more_arrives()

    with Peer([handshake(), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        request()
        sub = client.subscribe("n")
        for _ in range(3):
            called: list[int] = []
            times = 1
            while not called:  # the reader may be awake for a moment, and then nobody leads
                times += 1
                with at(monkeypatch, point, when, interrupt) as called, contextlib.suppress(KeyboardInterrupt):
                    request()
            assert client._hub.requests == {}
            assert request() == b"OK"
            assert client._hub.session.pending_requests == 0
            for _ in range(times):
                assert sub.next(timeout=PATIENCE).data == b"1"
            assert not leads(client)
        assert client.stats.reconnects == 0


def test_an_interrupt_of_a_leader_that_has_been_replaced(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was woken in the reader's place, and has not told the reader."""

    def step(connection: Connection) -> None:
        reply = replies(connection).encode()
        eventually(lambda: not leads(client))
        led = bool(has_led)
        has_led.clear()
        # The reader may have been awake when it was sent, and then nobody led, and there is nothing to interrupt.
        connection.send(b"MSG n 2 1\r\n1\r\n" + (b"" if led else b"MSG %b 1 2\r\nOK\r\n" % reply))

    def interrupt() -> None:
        raise KeyboardInterrupt

    with Peer([handshake(), answers(b"@"), loop(step)]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        sub = client.subscribe("n")
        has_led = leads_of(client)
        for _ in range(3):
            called: list[int] = []
            while not called:
                eventually(lambda: can_be_led(client))
                with (
                    at(monkeypatch, "receive from the socket", "before", interrupt) as called,
                    contextlib.suppress(KeyboardInterrupt),
                ):
                    client.request("q", timeout=PATIENCE)
                assert sub.next(timeout=PATIENCE).data == b"1"


@pytest.mark.parametrize("use", ["request", "publish", "flush", "next", "another thread"])
@pytest.mark.parametrize("point", ["take_reply", "receive", "receive from the socket"])
def test_a_signal_handler_uses_the_client_in_the_midst_of_a_lead(
    server: LocalServer, tireless: None, monkeypatch: pytest.MonkeyPatch, point: str, use: str
) -> None:
    """It gets what it asks for although the thread below it leads; and so does that thread, afterwards."""
    monkeypatch.setattr(_turns, "LEAD", 0.3)
    got: list[object] = []
    with connect(server) as client, connect(server) as other:
        other.subscribe("echo", callback=lambda message: message.respond(message.data))
        other.flush()
        sub = client.subscribe("own")
        client.request("echo", timeout=PATIENCE)

        def thread_that_asks() -> bytes:
            thread, outcome = in_background(lambda: client.request("echo", b"from it", timeout=PATIENCE).data)
            thread.join()
            assert outcome == [b"from it"]
            return b"from it"

        def next_message() -> bytes:
            client.publish("own", b"1")
            return sub.next(timeout=PATIENCE).data

        uses: dict[str, Callable[[], object]] = {
            "request": lambda: [client.request("echo", b"%d" % n, timeout=PATIENCE).data for n in range(3)],
            "publish": lambda: client.publish("own", b"1"),
            "flush": lambda: client.flush(timeout=PATIENCE),
            "next": next_message,
            "another thread": thread_that_asks,
        }
        for when in ("before", "after"):
            for n in range(3):
                called: list[int] = []
                while not called:  # the reader may be awake for a moment, and then nobody leads
                    eventually(lambda: can_be_led(client))
                    with at(monkeypatch, point, when, lambda: got.append(uses[use]())) as called:
                        assert client.request("echo", b"outer %d" % n, timeout=PATIENCE).data == b"outer %d" % n
                    client.flush(timeout=PATIENCE)
        assert len(got) == 6
        assert client.stats.reconnects == 0
        assert client._hub.session.pending_requests == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["take_reply", "receive", "receive from the socket", "take the reply"])
def test_a_signal_handler_whose_request_is_refused_in_the_midst_of_a_lead(
    always: None, monkeypatch: pytest.MonkeyPatch, point: str, when: str
) -> None:
    """It ends the lead of the thread below it, which takes nothing from then on."""

    def misuse() -> None:
        with pytest.raises(InvalidSubjectError):
            client.request("no subject", timeout=PATIENCE)

    with Peer([handshake(), ECHO]) as peer, connect(peer.url, ping_interval=0) as client:
        client.request("q", timeout=PATIENCE)
        for _ in range(3):
            called: list[int] = []
            while not called:  # the reader may be awake for a moment, and then nobody leads
                eventually(lambda: can_be_led(client))
                with at(monkeypatch, point, when, misuse) as called:
                    assert client.request("q", timeout=PATIENCE).data == b"OK"
            assert client.request("q", timeout=PATIENCE).data == b"OK"
        assert client.stats.dropped_replies == 0  # no answer was left to the manager that was taken all the same


def test_a_real_signal_while_a_caller_leads(tireless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "LEAD", 0.3)
    asked = threading.Event()
    handled: list[bytes] = []

    def late(connection: Connection) -> None:
        reply = replies(connection)
        asked.set()
        connection.expect(b"PUB from.the.handler ")
        answers(b"@")(connection)  # the handler's own request
        connection.send(b"MSG %b 1 4\r\nlate\r\n" % reply.encode())

    def send_signal() -> None:
        # It leads, or has led if the machine has stood still since.
        eventually(lambda: asked.is_set() and client._hub.writing.owner == NOBODY)
        os.kill(os.getpid(), signal.SIGUSR1)

    def handle(*_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        client.publish("from.the.handler")
        handled.append(client.request("q", timeout=PATIENCE).data)

    with Peer([handshake(), late]) as peer, connect(peer.url, ping_interval=0) as client:
        eventually(lambda: can_be_led(client))
        has_led = leads_of(client)
        previous = signal.signal(signal.SIGUSR1, handle)
        try:
            helper = threading.Thread(target=send_signal)
            helper.start()
            assert client.request("q", timeout=PATIENCE).data == b"late"
            helper.join()
            assert has_led
        finally:
            signal.signal(signal.SIGUSR1, previous)
    assert handled == [b"OK"]


# --- forks -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("where", ["another thread", "the leader"])
def test_a_fork_while_a_caller_leads(undisturbed: None, where: str) -> None:
    forked: list[str] = []

    def late(connection: Connection) -> None:
        reply = replies(connection)
        eventually(lambda: forked)
        connection.send(b"MSG %b 1 4\r\nlate\r\n" % reply.encode())

    def check() -> None:
        with pytest.raises(ConnectionClosedError):
            client.request("q")
        client.close()

    def fork(*_: object) -> None:
        forked.append(in_child(check))

    def fork_when_it_leads() -> None:
        eventually(lambda: leads(client))
        if where == "another thread":
            fork()
        else:
            os.kill(os.getpid(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, fork)
    with Peer([handshake(), late, ECHO]) as peer, connect(peer.url, ping_interval=0) as client:
        eventually(lambda: can_be_led(client))
        helper = threading.Thread(target=fork_when_it_leads)
        helper.start()
        assert client.request("q", timeout=PATIENCE).data == b"late"
        helper.join()
        assert forked == [""]
        assert client.request("q", timeout=PATIENCE).data == b"OK"
        assert client.stats.reconnects == 0
    signal.signal(signal.SIGUSR1, previous)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_was_forked_by_the_leader_goes_on_with_its_call(undisturbed: None) -> None:
    """Its call ends; it reads nothing of what the parent still waits for."""
    told, teller = os.pipe()

    def late(connection: Connection) -> None:
        reply = replies(connection)
        assert os.read(told, 40) == b"ConnectionClosedError"
        connection.send(b"MSG %b 1 4\r\nlate\r\n" % reply.encode())

    with Peer([handshake(), late]) as peer, connect(peer.url, ping_interval=0) as client:
        eventually(lambda: can_be_led(client))
        children: list[int] = []
        previous = signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
        helper = threading.Thread(
            target=lambda: (eventually(lambda: leads(client)), os.kill(os.getpid(), signal.SIGUSR1))
        )
        helper.start()
        outcome = b""
        try:
            outcome = client.request("q", timeout=PATIENCE).data
        except BaseException as error:
            outcome = type(error).__name__.encode()
        finally:
            if children == [0]:
                os.write(teller, outcome)
                os._exit(0)
        helper.join()
        os.waitpid(children[0], 0)
        signal.signal(signal.SIGUSR1, previous)
        assert outcome == b"late"
    for end in (told, teller):
        os.close(end)
