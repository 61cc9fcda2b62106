"""Faults planted in the threaded client itself: each ends it, is logged once, and is what everybody is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from nats_proto import Closed, Credentials, LifecycleEvent, ServersDiscovered, Session, SessionStatus
from nats_proto.errors import ConnectionClosedError, DefectError, NATSError, NATSTimeoutError
from nats_sync import Client, Message, Subscription
from nats_sync._engine.assembly import assemble
from nats_sync._engine.dial import Dialler
from nats_sync._engine.hub import Hub
from nats_sync._engine.manager import Manager
from nats_sync._engine.perform import Performer
from nats_sync._engine.threads import Threads
from nats_sync._engine.transport import Transport
from nats_sync._engine.turns import Turns
from nats_sync._engine.writer import Writer
from nats_sync.testing import LocalServer
from tests.adapters.leading import in_background
from tests.adapters.sync_tools import PATIENCE, connect, eventually, log_handler, threads_of

__all__ = ["log_handler"]

Plant = tuple[object, str]

PLANTS: dict[str, Plant] = {
    "reader": (Manager, "_step"),
    "reader receives": (Manager, "_receive"),
    "reader waits": (Turns, "wait"),
    "writer": (Writer, "_send"),
    "writer takes": (Writer, "_take_batch"),
    "receive_data": (Session, "receive_data"),
    "data_to_send": (Session, "data_to_send"),
    "data_sent": (Session, "data_sent"),
    "events_received": (Session, "events_received"),
    "commands_to_run": (Session, "commands_to_run"),
    "next_timeout": (Session, "next_timeout"),
    "route": (Hub, "_route"),
}

CONNECTING: dict[str, Plant] = {
    "dial": (Dialler, "close"),
    "transport": (Transport, "__init__"),
    "connected": (Session, "transport_connected"),
    "watch": (Turns, "watch"),
    **PLANTS,
}


class Own(BaseException):
    """No `Exception`."""


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@contextmanager
def planted(
    monkeypatch: pytest.MonkeyPatch, *plants: Plant, defect: BaseException, when: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """These raise, from now on, in threads of the client and in those that call it."""
    with monkeypatch.context() as patched:
        for holder, name in plants:
            real = getattr(holder, name)

            def fail(*args: object, _real: Callable[..., object] = real, **kwargs: object) -> object:
                if when():
                    raise defect
                return _real(*args, **kwargs)

            patched.setattr(holder, name, fail)
        yield


@pytest.fixture
def errors(log_handler: Callable[[Callable[..., object]], None]) -> list[logging.LogRecord]:
    """What is logged as an error."""
    records: list[logging.LogRecord] = []
    log_handler(lambda record: records.append(record) if record.levelno >= logging.ERROR else None)
    return records


class Waiting:
    """A client in which somebody waits for everything there is to wait for."""

    def __init__(self, server: LocalServer) -> None:
        self.events: list[LifecycleEvent] = []
        self.client = client = connect(server, name="defect", on_event=self.events.append)
        self.iterated = client.subscribe("a")
        self.awaited = client.subscribe("b")
        client.subscribe("silent", callback=lambda _: None)
        client.flush()
        calls: list[Callable[[], object]] = [
            lambda: list(self.iterated),
            lambda: self.awaited.next(timeout=PATIENCE),
            lambda: client.request("silent", timeout=PATIENCE),
        ]
        self.others = [in_background(call) for call in calls]
        eventually(lambda: self.iterated._waiters and self.awaited._waiters and client._hub.requests)

    def check(self, defect: BaseException, errors: list[logging.LogRecord]) -> None:
        """All of them were told, and so is who comes now."""
        client = self.client
        for thread, _ in self.others:
            thread.join(PATIENCE)
        for _, outcome in self.others:
            assert_told(outcome[0], defect)
        eventually(lambda: any(isinstance(event, Closed) for event in self.events))
        closed = self.events[-1]
        assert isinstance(closed, Closed)
        assert_defect(closed.error, defect)
        assert_defect(client.last_error, defect)
        assert client.status is SessionStatus.CLOSED
        for late in late_calls(client):
            with pytest.raises(ConnectionClosedError) as told:
                late()
            assert_told(told.value, defect)
        eventually(lambda: errors)
        client.close()
        eventually(lambda: threads_of("defect") == {})
        assert [record.exc_info and record.exc_info[1] for record in errors] == [defect]


def late_calls(client: Client) -> list[Callable[[], object]]:
    return [
        lambda: client.publish("a", b""),
        lambda: client.publish_many("a", [b""]),
        lambda: client.request("a", timeout=PATIENCE),
        lambda: client.flush(timeout=PATIENCE),
        lambda: client.subscribe("a"),
        client.drain,
        client.reconnect,
    ]


def assert_told(error: object, defect: BaseException) -> None:
    assert isinstance(error, ConnectionClosedError)
    assert_defect(error.__cause__, defect)


def assert_defect(error: object, defect: BaseException) -> None:
    assert isinstance(error, DefectError)
    assert error.__cause__ is defect


def provoke(client: Client) -> None:
    """Have every thread do something; this one may meet the defect itself."""
    for call in (lambda: client.publish("a", b"x"), lambda: client.flush(timeout=PATIENCE)):
        with suppress(NATSError, ZeroDivisionError, Own):
            call()


@pytest.mark.parametrize("kind", [ZeroDivisionError, Own, SystemExit])
@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
def test_a_defect_ends_the_client_and_everybody_is_told(
    plant: Plant,
    kind: type[BaseException],
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[logging.LogRecord],
) -> None:
    waiting = Waiting(server)
    defect = kind("planted")
    armed = True

    def in_our_threads() -> bool:
        return armed and (kind is ZeroDivisionError or threading.current_thread().name.startswith("nats-"))

    with planted(monkeypatch, plant, defect=defect, when=in_our_threads):
        provoke(waiting.client)
        eventually(lambda: waiting.client._hub.closed)
        armed = False
    waiting.check(defect, errors)


@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
def test_a_session_that_cannot_even_fail_is_replaced(
    plant: Plant, server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    waiting = Waiting(server)
    defect = ZeroDivisionError("planted")
    broken = waiting.client._hub.session

    def fail(session: Session[Message], raised: BaseException, *, now: float) -> None:
        if session is broken:
            raise KeyError("and again")
        real(session, raised, now=now)

    real = Session.fail
    monkeypatch.setattr(Session, "fail", fail)
    in_time = lambda: waiting.client._hub.session is broken  # noqa: E731
    with planted(monkeypatch, plant, defect=defect, when=in_time):
        provoke(waiting.client)
        eventually(lambda: waiting.client._hub.closed)
    waiting.check(defect, errors)


def test_a_defect_whose_text_cannot_be_made(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    client = connect(server, name="defect")
    sub = client.subscribe("a")
    with planted(monkeypatch, (Manager, "_step"), defect=Mute()):
        client._hub.agenda.wakeup.set()
        with pytest.raises(ConnectionClosedError) as told:
            sub.next(timeout=PATIENCE)
        assert isinstance(told.value.__cause__, DefectError)
        client.close()
    assert len(errors) == 1


def test_time_is_a_place_for_a_defect_as_well(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    defect = ZeroDivisionError("planted")
    client = connect(server, name="defect", ping_interval=0.05)
    sub = client.subscribe("a")
    with planted(monkeypatch, (Session, "handle_timeout"), defect=defect):
        with pytest.raises(ConnectionClosedError) as told:
            sub.next(timeout=PATIENCE)
        assert_told(told.value, defect)
    client.close()
    assert len(errors) == 1


def test_what_was_received_can_still_be_read(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    defect = ZeroDivisionError("planted")
    client = connect(server)
    sub = client.subscribe("a")
    client.publish_many("a", [b"1", b"2"])
    client.flush()
    with planted(monkeypatch, (Manager, "_step"), defect=defect):
        client._hub.agenda.wakeup.set()
        eventually(lambda: client._hub.closed)
    assert [next(sub).data, next(sub).data] == [b"1", b"2"]
    with pytest.raises(ConnectionClosedError) as told:
        next(sub)
    assert_told(told.value, defect)
    client.close()


@pytest.mark.parametrize("kind", [ZeroDivisionError, Own])
@pytest.mark.parametrize("plant", CONNECTING.values(), ids=list(CONNECTING))
def test_connect_raises_what_happened(
    plant: Plant,
    kind: type[BaseException],
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[logging.LogRecord],
) -> None:
    defect = kind("planted")
    if plant == (Dialler, "close"):
        plant = (Dialler, "dial")
        kind = Own  # any `Exception` is a failed attempt
        defect = Own("planted")

    def in_our_threads() -> bool:
        return threading.current_thread().name.startswith("nats-defect")

    with (
        planted(monkeypatch, plant, defect=defect, when=in_our_threads),
        pytest.raises(DefectError) as told,
    ):
        connect(server, name="defect").close()
    assert_defect(told.value, defect)
    eventually(lambda: threads_of("defect") == {})
    assert len(errors) == 1


def test_connect_raises_what_its_own_thread_met(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        planted(monkeypatch, (Session, "connect"), defect=ZeroDivisionError("planted")),
        pytest.raises(ZeroDivisionError),
    ):
        connect(server, name="defect")
    eventually(lambda: threads_of("defect") == {})


@pytest.mark.parametrize(
    "plant", [(Subscription, "handle_messages"), (Subscription, "handled")], ids=["turn", "its end"]
)
def test_a_defect_in_a_worker(
    plant: Plant, server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    waiting = Waiting(server)
    defect = ZeroDivisionError("planted")
    with planted(monkeypatch, plant, defect=defect):
        waiting.client.subscribe("many", callback=lambda _: None)
        waiting.client.publish("many")
        eventually(lambda: waiting.client._hub.closed)
        waiting.check(defect, errors)


@pytest.mark.parametrize("queue", ["_to_log", "_to_tell"], ids=["log", "on_event"])
def test_a_defect_in_a_dispatcher(
    queue: str, server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    waiting = Waiting(server)
    defect = ZeroDivisionError("planted")
    hub = waiting.client._hub
    with planted(monkeypatch, (getattr(hub.dispatcher, queue), "dropped"), defect=defect):
        with hub.lock:
            hub.dispatcher.add(ServersDiscovered(servers=("nats://some:4222",)))
        eventually(lambda: waiting.client._hub.closed)
        waiting.check(defect, errors)


def test_a_defect_in_what_performs(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    defect = ZeroDivisionError("planted")
    with (
        planted(monkeypatch, (Session, "performed"), defect=defect),
        pytest.raises(DefectError) as told,
    ):
        connect(server, name="defect", auth=lambda _: Credentials(user="me", password="secret"))
    assert_defect(told.value, defect)
    eventually(lambda: threads_of("defect") == {})
    assert len(errors) == 1


def test_no_thread_to_perform_in_is_a_failed_attempt(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("-credentials"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(NATSError, match="RuntimeError") as raised:
        connect(server, name="defect", auth=lambda _: Credentials(user="me", password="secret"), connect_timeout=600.0)
    assert not isinstance(raised.value, (DefectError, NATSTimeoutError))


@pytest.mark.parametrize("broken", ["performer", "dialler", "turns"])
def test_a_defect_at_the_very_end_leaves_no_thread(
    broken: str, server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    plant = {"performer": (Performer, "stop"), "dialler": (Dialler, "close"), "turns": (Turns, "unwatch")}
    client = connect(server, name="defect")
    real = getattr(*plant[broken])

    def close_and_fail(*args: object) -> None:
        real(*args)
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(*plant[broken], close_and_fail)
    client.close()
    assert threads_of("defect") == {}
    assert len(errors) == 1


def test_a_log_handler_may_close_the_client_that_has_failed(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, log_handler: Callable[[Callable[..., object]], None]
) -> None:
    client = connect(server, name="defect")
    closed: list[SessionStatus] = []

    def close(record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            client.close()
            closed.append(client.status)

    log_handler(close)
    sub = client.subscribe("a")
    with planted(monkeypatch, (Manager, "_step"), defect=ZeroDivisionError("planted")):
        client._hub.agenda.wakeup.set()
        with pytest.raises(ConnectionClosedError) as told:
            next(sub)
    assert isinstance(told.value.__cause__, DefectError)
    eventually(lambda: threads_of("defect") == {})
    assert closed == [SessionStatus.CLOSED]


def test_close_ends_a_client_whose_session_cannot_be_closed(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    client = connect(server, name="defect")
    with planted(monkeypatch, (Session, "close"), defect=ZeroDivisionError("planted")):
        client.close()
    assert threads_of("defect") == {}
    assert client.status is SessionStatus.CLOSED
    assert len(errors) == 1


def test_the_threads_are_all_looked_at() -> None:
    """Whoever adds a thread adds a test of what a defect in it does."""
    names = {*Threads.__init__.__code__.co_names, *assemble.__code__.co_names}
    assert names >= {"_guarded", "run", "run_on_event", "Hub", "Performer"}
