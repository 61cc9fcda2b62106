"""User code may use the client it is called by, may block, and may raise."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

import nats_sync
from nats_proto import SessionStatus
from nats_proto.errors import NATSError
from nats_sync import Client
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, log_handler, threads_of

__all__ = ["log_handler"]  # a fixture


# --- every method from inside user code -------------------------------------------------------------------------------

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
    before = client.stats.out_msgs
    client.publish("nobody", b"x")
    assert client.stats.out_msgs > before  # by more than one when others publish as well
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


def test_two_callbacks_that_close_do_not_wait_for_each_other(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nats_sync._engine.threads.USER_CODE_LIMIT", 600.0)
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
        assert closed.acquire(timeout=PATIENCE)
    eventually(lambda: threads_of("both") == {})


def test_user_code_that_blocks_does_not_hold_up_close_for_ever(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nats_sync._engine.threads.USER_CODE_LIMIT", 0.05)
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
    assert set(threads_of("blocked")) == {"nats-blocked-on-event", "nats-blocked-callbacks-1"}
    release.set()
    eventually(lambda: threads_of("blocked") == {})


def test_events_are_bounded_while_on_event_blocks(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nats_sync._engine.dispatch.MAX_EVENTS", 10)
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
    assert len(seen) <= 21  # the first, ten that waited, and at most ten that were not logged yet; of 32


# --- reconnect_delay -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["publish", "look", "drain", "close"])
def test_the_client_used_from_inside_reconnect_delay(server: LocalServer, use: str) -> None:
    uses = {**USES, "drain": lambda client: client.drain()}
    clients: list[Client] = []
    failures: list[BaseException] = []
    asked = threading.Event()

    def delay(_: int) -> float:
        if clients and not asked.is_set():
            try:
                uses[use](clients[0])
            except BaseException as error:
                failures.append(error)
            asked.set()
        return 0.0

    with connect(server, name="delayed", reconnect_delay=delay) as client:
        clients.append(client)
        server.kill()
        assert asked.wait(PATIENCE)
        server.start()
        ends = use in ("drain", "close")
        eventually(lambda: client.status is (SessionStatus.CLOSED if ends else SessionStatus.CONNECTED))
    assert failures == []
    eventually(lambda: threads_of("delayed") == {})


def test_a_reconnect_delay_that_blocks_holds_up_nobody_else(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nats_sync._engine.threads.USER_CODE_LIMIT", 0.05)
    release, began = threading.Event(), threading.Event()

    def block(_: int) -> float:
        began.set()
        release.wait()
        return 0.0

    client = connect(server, name="delaying", reconnect_delay=block)
    assert not began.is_set()
    server.kill()
    assert began.wait(PATIENCE)
    client.publish("a", b"x")
    assert client.status is SessionStatus.RECONNECTING
    client.close()
    assert client.status is SessionStatus.CLOSED
    release.set()
    eventually(lambda: threads_of("delaying") == {})


def test_reconnect_delay_is_asked_for_each_round_of_each_outage(server: LocalServer) -> None:
    asked: list[int] = []

    def delay(rounds: int) -> float:
        asked.append(rounds)
        return 0.001

    with connect(server, reconnect_delay=delay, reconnect_wait=0.0, reconnect_jitter=0.0) as client:
        for outage in range(1, 4):
            asked.clear()
            server.kill()
            eventually(lambda: len(asked) >= 3)
            server.start()
            eventually(lambda outage=outage: client.stats.reconnects == outage)
            assert asked == list(range(1, len(asked) + 1))
