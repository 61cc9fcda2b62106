"""Threads that wait for room in the outgoing buffer: one is called at a time, and none is forgotten."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

import nats_proto
from nats_proto import ConnectOptions, Session
from nats_proto.errors import ConnectionClosedError, InvalidSubjectError
from nats_sync import Client
from nats_sync._engine import writer as _writer
from nats_sync._engine.hub import Hub
from nats_sync._engine.publishers import Publishers, Turn
from nats_sync._engine.writer import Writer
from nats_sync._engine.writing_side import NOBODY
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.adapters.test_sync_interrupts import interrupted
from tests.faults.peer import Peer, freeze, handshake, swallow

# --- the queue --------------------------------------------------------------------------------------------------------


def test_first_come_first_served_also_for_who_was_called_in_vain() -> None:
    publishers = Publishers()
    first, second, third = turns = [Turn(), Turn(), Turn()]
    for turn in turns:
        publishers.enter(turn)
    publishers.call()
    publishers.call()
    assert [turn.done for turn in turns] == [True, True, False]
    # Somebody who did not wait was faster than both.
    publishers.enter(second)
    publishers.enter(first)
    assert publishers.waiting == [first, second, third]
    assert [turn.done for turn in turns] == [False, False, False]


def test_it_stands_in_the_queue_once() -> None:
    publishers = Publishers()
    turn = Turn()
    publishers.enter(turn)
    publishers.enter(turn)
    assert publishers.waiting == [turn]
    publishers.discard(turn)
    publishers.discard(turn)
    assert publishers.waiting == []


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("called", [True, False])
def test_who_leaves_gives_its_turn_to_the_next_if_there_is_room(called: bool, room: bool) -> None:
    publishers = Publishers()
    first, second = Turn(), Turn()
    publishers.enter(first)
    publishers.enter(second)
    if called:
        publishers.call()
    publishers.leave(first, room=room)
    assert second.done is room
    assert publishers.waiting == ([] if room else [second])


# --- threads in the queue ---------------------------------------------------------------------------------------------


class Full(Session[nats_proto.Message]):
    """A session whose outgoing buffer has room when the test says so."""

    room = False

    @property
    def writable(self) -> bool:
        return self.room


class World:
    """A writer of a client that nothing runs, and threads that publish with it."""

    def __init__(self) -> None:
        session = Full(ConnectOptions(), "nats://127.0.0.1", rng=random.Random(1))
        self.hub = Hub(session, ConnectOptions(), "nats")
        self.session = session
        self.writer = Writer(self.hub)
        self.published: list[str] = []
        self.outcomes: dict[str, object] = {}
        self.threads: list[threading.Thread] = []

    def publish(self, name: str, mutation: Callable[[], object] = bool, deadline: float | None = None) -> None:
        """In a thread that is asleep in the queue when this returns."""
        length = len(self.hub.publishers.waiting)

        def mutate(_: object) -> None:
            mutation()
            self.published.append(name)

        def run() -> None:
            try:
                self.outcomes[name] = self.writer.do(mutate, deadline)
            except BaseException as error:
                self.outcomes[name] = type(error)

        thread = threading.Thread(target=run, name=name)
        self.threads.append(thread)
        thread.start()
        eventually(lambda: len(self.hub.publishers.waiting) > length)

    def report(self) -> None:
        """Something was written: there is room."""
        self.session.room = True
        with self.hub.lock:
            self.hub.call_publishers()

    def close(self) -> None:
        self.session.room = True
        with self.hub.lock:
            self.hub.publishers.call_all()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.hub.agenda.wakeup.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    monkeypatch.setattr(Hub, "transport", object(), raising=False)
    made.hub.transport = object()  # type: ignore[assignment]  # nothing is written to it
    monkeypatch.setattr(Writer, "claim", lambda self: False)
    yield made
    made.close()


def refuse() -> None:
    raise InvalidSubjectError("refused")


WAYS = ["publishes", "is refused", "is interrupted before it publishes", "its time is up", "runs late"]


@pytest.mark.parametrize("way", WAYS)
def test_whatever_becomes_of_who_was_called(world: World, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Of three that wait, one report calls the first. If that one publishes, the second waits for the next report."""

    class Ended(Turn):
        __slots__ = ()

        def wait(self, seconds: float | None) -> bool:
            called = super().wait(seconds)
            if threading.current_thread().name == "first":
                if way == "is interrupted before it publishes":
                    raise KeyboardInterrupt
                if way == "its time is up":
                    world.session.room = False  # and somebody else was faster, who has left again since then
                    return False
            return called

    monkeypatch.setattr(_writer, "Turn", Ended)
    leave = Publishers.leave

    def left(self: Publishers, turn: Turn, *, room: bool) -> None:
        world.session.room = True
        leave(self, turn, room=True)

    monkeypatch.setattr(Publishers, "leave", left)
    # A deadline that passes while it is called, or before it runs again: the clock of the writer says so.
    deadline = None
    if way in ("its time is up", "runs late"):
        deadline = 0.0
        times = iter([-PATIENCE] * 2)  # for one look, and to know how long to wait
        monkeypatch.setattr(_writer, "monotonic", lambda: next(times, 1.0))
    world.publish("first", refuse if way == "is refused" else bool, deadline)
    world.publish("second")
    world.publish("third")
    world.report()
    world.threads[0].join(PATIENCE)
    outcome = {
        "publishes": True,
        "is refused": InvalidSubjectError,
        "is interrupted before it publishes": KeyboardInterrupt,
        "its time is up": False,
        "runs late": False,
    }[way]
    assert world.outcomes["first"] == outcome
    if way != "publishes":
        world.threads[1].join(PATIENCE)
    assert world.published == (["first"] if way == "publishes" else ["second"])
    assert [turn.done for turn in world.hub.publishers.waiting] == [False] * (2 if way == "publishes" else 1)


def test_each_report_calls_one_more(world: World) -> None:
    names = [f"{number}" for number in range(8)]
    for name in names:
        world.publish(name)
    for number, thread in enumerate(world.threads):
        world.report()
        thread.join(PATIENCE)
        assert world.published == names[: number + 1]


def test_without_room_nobody_is_called(world: World) -> None:
    world.publish("first")
    with world.hub.lock:
        world.hub.settle()
    assert len(world.hub.publishers.waiting) == 1


def test_without_a_connection_all_are_called_at_once(world: World) -> None:
    for name in ("first", "second", "third"):
        world.publish(name)
    world.hub.transport = None
    world.report()
    for thread in world.threads:
        thread.join(PATIENCE)
    assert sorted(world.published) == ["first", "second", "third"]


def test_a_caller_who_has_written_calls_the_writer_for_those_who_wait(world: World) -> None:
    world.publish("first")
    world.hub.writing.owner = threading.get_ident()
    with world.hub.lock:
        world.writer._leave_side()
    assert world.hub.writing.called
    assert world.hub.writing.called_within(0.0)


# --- with a connection ------------------------------------------------------------------------------------------------


class Pressing:
    """Threads that publish until each has published as much as it should, against a peer that reads nothing yet."""

    def __init__(self, client: Client, threads: int = 5, each: int = 80) -> None:
        self.client = client
        self.outcomes: dict[int, object] = {}
        self.each = each
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self.threads:
            thread.start()
        eventually(lambda: len(client._hub.publishers.waiting) + len(self.outcomes) == threads)

    def _run(self, number: int) -> None:
        try:
            for _ in range(self.each):
                self.client.publish(f"p.{number}", bytes(100_000))
        except BaseException as error:
            self.outcomes[number] = type(error)
        else:
            self.outcomes[number] = None

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_all_go_on_when_the_peer_reads_again() -> None:
    with Peer([handshake(), freeze(), swallow], rcvbuf=4096) as peer, connect(peer.url, ping_interval=0) as client:
        pressing = Pressing(client)
        peer.release()
        pressing.join()
        assert set(pressing.outcomes.values()) == {None}
        eventually(lambda: not client._hub.session.pending_bytes)
        assert client._hub.publishers.waiting == []


def test_all_are_told_when_the_client_is_closed() -> None:
    with Peer([handshake(), freeze()], rcvbuf=4096) as peer, connect(peer.url, ping_interval=0) as client:
        pressing = Pressing(client)
        client.close()
        pressing.join()
        assert set(pressing.outcomes.values()) == {ConnectionClosedError}


def test_all_go_on_when_the_connection_is_lost() -> None:
    """What they publish is kept for the next connection, for which nobody waits."""
    with (
        Peer([handshake(), freeze()], rcvbuf=4096) as peer,
        connect(peer.url, ping_interval=0, pending_size=1 << 30, reconnect_wait=60, reconnect_jitter=60) as client,
    ):
        pressing = Pressing(client)
        client.reconnect()
        pressing.join()
        assert set(pressing.outcomes.values()) == {None}


def test_who_was_called_and_is_held_up_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may wait in it, for another publisher even. No report comes then that would call the others."""
    armed, written, go_on = threading.Event(), threading.Event(), threading.Event()
    held: list[threading.Thread] = []
    one_moment = threading.Lock()

    class Held(Turn):
        __slots__ = ()

        def wait(self, seconds: float | None) -> bool:
            called = super().wait(seconds)
            with one_moment:
                is_held = armed.is_set() and not written.is_set()
                if is_held:
                    held.append(threading.current_thread())
            assert not is_held or go_on.wait(PATIENCE)
            return called

    monkeypatch.setattr(_writer, "Turn", Held)
    with Peer([handshake(), freeze(), swallow], rcvbuf=4096) as peer, connect(peer.url, ping_interval=0) as client:
        pressing = Pressing(client, threads=40, each=4)
        armed.set()
        peer.release()
        eventually(lambda: held and not client._hub.session.pending_bytes and client._hub.writing.owner == NOBODY)
        with one_moment:
            written.set()
        for thread in pressing.threads:
            if thread not in held:
                thread.join(PATIENCE)
                assert not thread.is_alive()
        assert client._hub.publishers.waiting == []
        go_on.set()
        pressing.join()
        assert set(pressing.outcomes.values()) == {None}


def test_an_interrupt_of_one_who_waits_leaves_the_others_to_go_on() -> None:
    with Peer([handshake(), freeze(), swallow], rcvbuf=4096) as peer, connect(peer.url, ping_interval=0) as client:
        pressing = Pressing(client)

        def fill() -> None:
            while True:
                client.publish("main", bytes(100_000))

        interrupted(lambda: len(client._hub.publishers.waiting) == 6, fill)
        eventually(lambda: len(client._hub.publishers.waiting) == 5)
        peer.release()
        pressing.join()
        assert set(pressing.outcomes.values()) == {None}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_was_forked_by_one_who_waits_goes_on_with_its_call() -> None:
    with Peer([handshake(), freeze(), swallow], rcvbuf=4096) as peer, connect(peer.url, ping_interval=0) as client:
        children: list[int] = []
        previous = signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))

        def interrupt() -> None:
            eventually(lambda: client._hub.publishers.waiting)
            os.kill(os.getpid(), signal.SIGUSR1)
            eventually(lambda: children)
            peer.release()

        helper = threading.Thread(target=interrupt)
        helper.start()
        outcome = 1
        try:
            for _ in range(100):
                client.publish("big", bytes(100_000))
        except ConnectionClosedError:
            outcome = 0
        finally:
            if children == [0]:
                os._exit(outcome)
            signal.signal(signal.SIGUSR1, previous)
        helper.join()
        # The child would wait for ever otherwise: it is ended, and counts as failed then.
        ended: list[int] = []
        waiting = threading.Thread(target=lambda: ended.append(os.waitpid(children[0], 0)[1]))
        waiting.start()
        waiting.join(PATIENCE)
        if not ended:
            os.kill(children[0], signal.SIGKILL)
            waiting.join()
        assert ended == [0]
