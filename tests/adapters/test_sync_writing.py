"""Who writes: the caller, or the writer's thread; and that nothing is left to nobody."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
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
from nats_sync._engine.writing_side import NOBODY, WritingSide
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


# --- the look of a writer's thread that is not called -----------------------------------------------------------------


class Watched:
    """A client whose writer's thread sleeps until the next look, which the test alone brings about."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client
        self.side = client._hub.writing
        self.calls = 0
        call = WritingSide.call
        side = self.side

        def counted(of: WritingSide) -> None:
            if of is side:
                self.calls += 1
            call(of)

        monkeypatch.setattr(WritingSide, "call", counted)
        monkeypatch.setattr(_writer, "WATCH", 3600.0)
        eventually(lambda: at_rest(client) and not self.side.watched)
        self.side.gather()
        eventually(lambda: at_rest(client) and self.side.watched)
        self.calls = 0

    def look(self) -> None:
        """As when its sleep is over."""
        self.side._wakes.put(True)


@pytest.fixture
def watched(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with connect(server) as client:
        yield Watched(client, monkeypatch)


def listening(other: Client) -> nats_sync.Subscription:
    sub = other.subscribe("late")
    other.flush()
    return sub


def test_what_is_gathered_is_left_to_the_look(watched: Watched, server: LocalServer) -> None:
    """And the looks go on for as long as somebody relies on them, and no longer."""
    with connect(server) as other:
        sub = listening(other)
        for number in range(3):
            watched.side.gather()
            watched.client.publish("late", b"%d" % number)
            watched.look()
            assert sub.next(timeout=PATIENCE).data == b"%d" % number
            eventually(lambda: not watched.side.gathered)
            assert watched.side.watched
        assert not watched.calls
        watched.look()
        eventually(lambda: not watched.side.watched)
        watched.side.gather()
        assert watched.calls == 1


def test_the_look_is_not_forgotten_when_a_caller_writes(watched: Watched, server: LocalServer) -> None:
    """Who has written finds that nothing is left, and what is published afterwards is left to the look as well."""
    with connect(server) as other:
        sub = listening(other)
        watched.side.gather()
        watched.client.publish("late", b"1")
        watched.side.push()
        assert sub.next(timeout=PATIENCE).data == b"1"
        assert watched.side.attended
        watched.client.publish("late", b"2")
        assert not watched.calls
        watched.look()
        assert sub.next(timeout=PATIENCE).data == b"2"


def test_what_a_user_asks_for_is_not_left_to_the_look(watched: Watched, server: LocalServer) -> None:
    with connect(server) as other:
        watched.side.gather()
        mine = watched.client.subscribe("mine")

        def known() -> bool:
            other.publish("mine", b"1")
            return bool(mine.next_batch(1, timeout=0.01))

        eventually(known)
        assert watched.calls == 1


def test_after_the_end_of_a_reader_a_publish_is_not_left_to_the_look(watched: Watched, server: LocalServer) -> None:
    """Its UNSUB is; but who fetches a message and publishes what comes of it does not wait for that."""
    with connect(server) as other:
        sub = listening(other)
        for number in range(10):
            inbox = watched.client._host().open_inbox(Subscribe(watched.client.new_inbox()))
            inbox.unsubscribe()
            assert watched.side.promised
            watched.client.publish("late", b"%d" % number)
            assert sub.next(timeout=PATIENCE).data == b"%d" % number


def test_a_look_comes_by_itself(server: LocalServer) -> None:
    with connect(server) as client, connect(server) as other:
        sub = listening(other)
        for number in range(100):
            client._hub.writing.gather()
            client.publish("late", b"%d" % number)
            assert sub.next(timeout=PATIENCE).data == b"%d" % number
        eventually(lambda: at_rest(client) and not client._hub.writing.watched)
