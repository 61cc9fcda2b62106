"""Who writes: the caller, or the writer's thread; and that nothing is left to nobody."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic

import pytest

import nats_proto
import nats_sync
from nats_proto import ApiCall, Message, Publish, Session, Subscribe, Want
from nats_proto.errors import NATSError
from nats_sync import Client
from nats_sync._engine import writer as _writer
from nats_sync._engine.driver import AT_ONCE, Driver
from nats_sync._engine.transport import Chunk, Transport
from nats_sync._engine.writing_side import NOBODY
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.faults.peer import Peer, handshake, swallow


def at_rest(client: Client) -> bool:
    """Nobody writes, or will."""
    # In this order: who was called has the writing side when it no longer counts as called.
    return not client._hub.writing.called and client._hub.writing.owner == NOBODY


@pytest.mark.skipif(not nats_proto.accelerated, reason="the Python twin is published to under the lock")
@pytest.mark.parametrize("headers", [None, {"strict": "1"}], ids=["quick", "strict"])
def test_a_signal_handler_that_publishes_when_its_thread_has_looked_the_last_time(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str] | None
) -> None:
    """The thread has the writing side still, and leaves it next."""
    data_to_send = Session.data_to_send
    numbers = iter(range(100))
    wanted = [False]

    with connect(server) as client, connect(server) as other:
        sub = other.subscribe("late")
        other.flush()
        session, me = client._hub.session, threading.get_ident()

        def take_and_publish(self: Session[nats_sync.Message]) -> list[bytes]:
            pieces = data_to_send(self)
            if self is session and not pieces and wanted[0] and threading.get_ident() == me:
                wanted[0] = False
                client.publish("late", b"%d" % next(numbers), headers=headers)
            return pieces

        monkeypatch.setattr(Session, "data_to_send", take_and_publish)
        for number in range(10):
            eventually(lambda: at_rest(client))
            wanted[0] = True
            client.flush()
            assert sub.next(timeout=PATIENCE).data == b"%d" % number
            assert not wanted[0]


def test_a_lone_publish_is_written_by_its_caller(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who publishes more than one in a row leaves them to the writer's thread."""
    senders: list[int] = []
    send = Transport.send

    def noted(self: Transport, chunks: list[Chunk], accepted: list[int]) -> None:
        if b"PUB lone" in b"".join(chunks):  # and no PONG, which a reader writes whenever a server asks for one
            senders.append(threading.get_ident())
        send(self, chunks, accepted)

    clock = [1000.0]
    monkeypatch.setattr(_writer, "monotonic", lambda: clock[0])
    with connect(server) as client, connect(server) as other:
        sub = other.subscribe("lone")
        other.flush()
        monkeypatch.setattr(Transport, "send", noted)
        for publish in (
            lambda data: client.publish("lone", data),
            lambda data: client.publish("lone", data, headers={"strict": "1"}),
            lambda data: client.publish_many("lone", [data]),
        ):
            eventually(lambda: at_rest(client))
            clock[0] += 2 * _writer.REST
            for data in (b"caller", b"writer"):
                eventually(lambda: at_rest(client))
                publish(data)
                assert sub.next(timeout=PATIENCE).data == data
                assert (senders.pop() == threading.get_ident()) is (data == b"caller")
                assert not senders


class Publishing:
    """A `Machine` that publishes what it is given, and expects nothing."""

    what = "publishing"
    done = False
    error: NATSError | None = None

    def __init__(self, inbox: str) -> None:
        self.items: deque[object] = deque()
        self.wants: deque[Want] = deque((Subscribe(inbox),))

    def receive(self, message: Message, *, now: float) -> None:
        raise AssertionError(message)

    def connection_replaced(self, *, now: float) -> None:
        raise AssertionError("there is one connection")

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        raise AssertionError(answer)

    def next_timeout(self) -> float | None:
        return None

    def handle_timeout(self, *, now: float) -> None:
        pass


@pytest.mark.parametrize(
    ("size", "waits", "by_caller"),
    [(65536, False, False), (65535, False, True), (65536, True, True)],
    ids=["large", "small", "waited for"],
)
def test_who_does_not_wait_leaves_a_large_payload_of_a_machine_to_the_writer(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, size: int, waits: bool, by_caller: bool
) -> None:
    """Whoever puts an object hashes the next bytes meanwhile."""
    senders: list[int] = []
    send = Transport.send

    def noted(self: Transport, chunks: list[Chunk], accepted: list[int]) -> None:
        if b"PUB machine" in b"".join(chunks):
            senders.append(threading.get_ident())
        send(self, chunks, accepted)

    with connect(server) as client, connect(server) as other:
        sub = other.subscribe("machine")
        other.flush()
        monkeypatch.setattr(Transport, "send", noted)
        machine = Publishing(client.new_inbox())
        driver: Driver[nats_sync.Message, object] = Driver(client._host(), machine)
        assert driver.next_until(AT_ONCE) is None
        eventually(lambda: at_rest(client))
        machine.wants.append(Publish("machine", bytes(size)))
        assert driver.next_until(monotonic() + 0.05 if waits else AT_ONCE) is None
        assert len(sub.next(timeout=PATIENCE).data) == size
        assert (senders[0] == threading.get_ident()) is by_caller
        driver.close()


def test_a_lone_publish_that_the_system_does_not_take_is_left_to_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocked(*_: object) -> None:
        monkeypatch.undo()
        raise BlockingIOError

    with Peer([handshake(), swallow]) as peer, connect(peer.url, ping_interval=0) as client:
        monkeypatch.setattr(Transport, "send", blocked)
        client.publish("lone", b"x")
        eventually(lambda: b"PUB lone 1\r\nx\r\n" in peer.connections[0].received)
        eventually(lambda: client._hub.writing.owner == NOBODY)
