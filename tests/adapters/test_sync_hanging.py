"""User code that hangs while the threaded client ends: it is waited for once, and not beyond the time given."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nats_proto import Connected, LifecycleEvent
from nats_proto.errors import ConnectionLostError, NATSTimeoutError
from nats_sync import Message
from nats_sync._engine import threads as _threads
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually, threads_of


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for hanging user code as `close` does hangs as well."""
    monkeypatch.setattr(_threads, "USER_CODE_LIMIT", 600.0)


class Hanging:
    """User code that hangs until it is released."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.release = threading.Event()

    def __call__(self, *_: object) -> float:
        self.running.set()
        self.release.wait()
        return 0.0


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    code = Hanging()
    yield code
    code.release.set()
    eventually(lambda: threads_of("hangs") == {})


@pytest.mark.usefixtures("patient")
def test_drain_ends_at_its_time_while_a_callback_hangs(server: LocalServer, hanging: Hanging) -> None:
    client = connect(server, name="hangs")
    client.subscribe("a", callback=hanging)
    client.publish("a")
    assert hanging.running.wait(PATIENCE)
    with pytest.raises(NATSTimeoutError):
        client.drain(timeout=0.2)
    client.close()
    client.close()


@pytest.mark.usefixtures("patient")
def test_drain_ends_at_its_time_while_on_event_hangs(server: LocalServer, hanging: Hanging) -> None:
    def on_event(event: LifecycleEvent) -> None:
        if isinstance(event, Connected):
            hanging()

    client = connect(server, name="hangs", on_event=on_event)
    assert hanging.running.wait(PATIENCE)
    with contextlib.suppress(NATSTimeoutError):  # where the server stands still
        client.drain(timeout=0.2)
    client.close()


@pytest.mark.usefixtures("patient")
def test_drain_ends_at_its_time_while_a_reconnect_delay_hangs(server: LocalServer, hanging: Hanging) -> None:
    client = connect(server, name="hangs", reconnect_delay=hanging)
    sub = client.subscribe("a")
    client.publish("a")
    client.flush()
    server.kill()
    assert hanging.running.wait(PATIENCE)
    with pytest.raises(ConnectionLostError):
        client.drain(timeout=0.2)
    assert sub.next(timeout=0).data == b""
    client.close()


def test_close_waits_for_a_callback_that_hangs_once(
    server: LocalServer, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    real = threading.Thread.join

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name.startswith("nats-hangs-callbacks"):
            waited.append(thread.name)
        real(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    monkeypatch.setattr(_threads, "USER_CODE_LIMIT", 0.05)
    client = connect(server, name="hangs")
    client.subscribe("a", callback=hanging)
    client.publish("a")
    assert hanging.running.wait(PATIENCE)
    client.close()
    client.close()
    assert len(waited) == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("end", [lambda client: client.drain(timeout=0.2), lambda client: client.close()])
def test_a_callback_may_end_the_client_while_another_hangs(
    server: LocalServer, hanging: Hanging, end: Callable[[object], None]
) -> None:
    client = connect(server, name="hangs")
    client.subscribe("a", callback=hanging)
    client.publish("a")
    assert hanging.running.wait(PATIENCE)
    ended = threading.Event()

    def finish(_: Message) -> None:
        end(client)
        ended.set()

    client.subscribe("end", callback=finish)
    client.publish("end")
    assert ended.wait(PATIENCE)
    eventually(lambda: client._hub.closed)


def test_a_drain_that_is_done_early_waits_for_on_event(server: LocalServer) -> None:
    events: list[str] = []

    def on_event(event: LifecycleEvent) -> None:
        time.sleep(0.05)  # slow, so that a drain that does not wait returns before
        events.append(type(event).__name__)

    client = connect(server, on_event=on_event)
    client.drain()
    assert events[-1] == "Closed"
