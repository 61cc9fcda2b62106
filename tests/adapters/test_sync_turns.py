"""The table of the turns at reading: each state with each input, as the theory of operation writes it."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator

import pytest

from nats_proto import ConnectOptions, Session
from nats_proto._wire.twin import ThreadAnswer
from nats_sync._engine.hub import Hub
from nats_sync._engine.sleeping import WorkerSleep
from nats_sync._engine.transport import Transport
from nats_sync._engine.turns import NOTHING, Lead, Patrol, Turn, Turns
from nats_sync._engine.watcher import MANY, Watcher
from nats_sync._engine.writer import Writer
from tests.adapters.leading import MARK

pytestmark = MARK

T = Turn
STATES = list(Turn)
LEDS = (T.LED, T.LED_AWAITED, T.LED_OWED)
SAME = "the same"
WOKEN = "the manager is woken"


class World:
    """The turns of a client that nothing runs."""

    def __init__(self) -> None:
        import random

        self.hub = Hub(Session(ConnectOptions(), "nats://127.0.0.1", rng=random.Random(1)), ConnectOptions(), "nats")
        self.turns = Turns(self.hub)
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.transport = Transport(ours)
        self.hub.transport = self.transport
        self.turns.watch(self.transport)
        self.lead: Lead | None = None

    def be(self, turn: Turn) -> None:
        """Come into this state by the inputs of the table alone."""
        turns = self.turns
        turns.prepare()
        if turn in LEDS:
            with self.hub.lock:
                self.lead = turns.lead()
        if turn in (T.READS, T.READS_AGAIN, T.LED_AWAITED):
            turns.begin()
        if turn in (T.OWED, T.READS_AGAIN, T.LED_OWED):
            self.woken_in_vain()
        assert turns.turn is turn
        self.hub.agenda.urgent = False
        self.hub.agenda.wakeup.clear()

    def woken_in_vain(self) -> None:
        """A caller comes back whose lead was taken away."""
        former = Lead(self.transport, select.epoll())
        former.revoke()
        self.turns.take_reply(former, 0, 0.0)
        former._epoll.close()

    def end_lead(self, received: bytes | OSError | None) -> None:
        assert self.lead is not None
        if received is not None:
            self.lead.received.append(received)
        with self.hub.lock:
            self.turns._end_lead(self.lead)

    def was_woken(self) -> bool:
        agenda = self.hub.agenda
        return agenda.urgent or bool(select.select([agenda.wakeup], [], [], 0)[0])

    def close(self) -> None:
        self.turns.close()
        self.hub.agenda.wakeup.close()
        self.transport.abandon()
        self.peer.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.mark.parametrize("turn", STATES)
def test_a_caller_leads_when_nobody_has_or_is_owed_the_turn(world: World, turn: Turn) -> None:
    world.be(turn)
    with world.hub.lock:
        lead = world.turns.lead()
    assert (lead is not None) == (turn is T.FREE)
    assert world.turns.turn is (T.LED if turn is T.FREE else turn)


@pytest.mark.parametrize(
    ("turn", "then"),
    [
        (T.FREE, T.READS),
        (T.OWED, T.READS),
        (T.READS, T.READS),
        (T.READS_AGAIN, T.READS),
        (T.LED, T.LED_AWAITED),
        (T.LED_AWAITED, T.LED_AWAITED),
        (T.LED_OWED, T.LED_OWED),
    ],
)
def test_the_manager_reads_unless_a_caller_leads(world: World, turn: Turn, then: Turn) -> None:
    world.be(turn)
    assert world.turns.begin() == (then is T.READS)
    assert world.turns.turn is then


@pytest.mark.parametrize(
    ("turn", "then", "looks"),
    [
        (T.FREE, T.FREE, False),
        (T.OWED, T.OWED, True),
        (T.READS, T.FREE, False),
        (T.READS_AGAIN, T.OWED, True),
        (T.LED, T.LED, False),
        (T.LED_AWAITED, T.LED_AWAITED, False),
        (T.LED_OWED, T.LED_OWED, True),
    ],
)
def test_the_manager_goes_to_sleep(world: World, turn: Turn, then: Turn, looks: bool) -> None:
    world.be(turn)
    world.hub.agenda.wakeup.set()  # or it would sleep
    assert world.turns.wait(None) == looks
    assert world.turns.turn is then


@pytest.mark.parametrize("turn", LEDS)
@pytest.mark.parametrize("received", [None, NOTHING, OSError("reset"), b"", b"MSG"], ids=repr)
def test_a_lead_is_over(world: World, turn: Turn, received: bytes | OSError | None) -> None:
    world.be(turn)
    world.end_lead(received)
    nothing = received is NOTHING
    assert world.turns.turn is (T.FREE if nothing and turn is not T.LED_OWED else T.OWED)
    assert world.was_woken() == (not nothing or turn is not T.LED)
    assert world.turns.left() is (None if nothing else received)


@pytest.mark.parametrize(
    ("turn", "then"),
    [
        (T.FREE, T.OWED),
        (T.OWED, T.OWED),
        (T.READS, T.READS_AGAIN),
        (T.READS_AGAIN, T.READS_AGAIN),
        (T.LED, T.LED_OWED),
        (T.LED_AWAITED, T.LED_OWED),
        (T.LED_OWED, T.LED_OWED),
    ],
)
def test_a_caller_who_led_before_was_woken(world: World, turn: Turn, then: Turn) -> None:
    world.be(turn)
    world.woken_in_vain()
    assert world.turns.turn is then
    assert world.was_woken()


@pytest.mark.parametrize(
    ("turn", "then"),
    [
        (T.FREE, T.LED),
        (T.OWED, T.OWED),
        (T.READS, T.READS_AGAIN),
        (T.READS_AGAIN, T.READS_AGAIN),
        (T.LED, T.LED_OWED),
        (T.LED_AWAITED, T.LED_OWED),
        (T.LED_OWED, T.LED_OWED),
    ],
)
def test_a_worker_who_watches_was_woken(world: World, turn: Turn, then: Turn) -> None:
    """It was told in the manager's place, so the manager is told when the worker may not read."""
    world.be(turn)
    with world.hub.lock:
        assert world.turns.free() == (turn is T.FREE)
        lead = world.turns.take()
    assert (lead is not None) == (turn is T.FREE)
    assert world.turns.turn is then
    assert world.was_woken() == (turn is not T.FREE)


def test_one_worker_watches_unless_messages_come_by_the_hundred(world: World) -> None:
    writer = Writer(world.hub)
    watcher = Watcher(world.hub, writer, world.turns)
    with world.hub.lock:
        assert not watcher.enter()  # there was no callback yet, and so there is no place to sleep in
        world.turns.make_bed()
    for received, watches in [(MANY, False), (MANY - 1, True), (0, False)]:  # the last time somebody does already
        writer.received = received
        with world.hub.lock:
            assert watcher.enter() == watches
    assert world.turns.worker is not None
    world.turns.worker.leave()


@pytest.mark.parametrize("refused", ["epoll", "place"])
def test_without_a_descriptor_for_the_worker_the_manager_reads(
    world: World, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "no more")

    with monkeypatch.context() as patched:
        if refused == "epoll":
            patched.setattr(select, "epoll", refuse)
        else:
            patched.setattr(WorkerSleep, "watch", refuse)
        with world.hub.lock:
            world.turns.make_bed()
    assert world.turns.worker is None
    world.peer.send(b"x")
    assert world.turns.wait(5.0)


def test_a_worker_who_watches_reads_no_connection_that_was_given_up(world: World) -> None:
    world.hub.transport = None
    with world.hub.lock:
        assert not world.turns.free()
        assert world.turns.take() is None
    assert world.was_woken()
    world.turns.unwatch()
    with world.hub.lock:
        assert world.turns.take() is None


@pytest.mark.parametrize("sent", [b"", b"PING\r\n", b"full", None], ids=["nothing", "some", "a full buffer", "the end"])
@pytest.mark.parametrize("taken_away", [False, True])
def test_what_a_worker_received(world: World, sent: bytes | None, taken_away: bool) -> None:
    """It has all of it, or the manager has; and of more than it could receive the manager is told."""
    if sent == b"full":
        sent = world.hub.session.receive_size * b"."
    with world.hub.lock:
        lead = world.turns.take()
    assert lead is not None
    if sent is None:
        world.peer.close()
    else:
        world.peer.send(sent)
    lead.receive_at_once()
    if taken_away:
        world.turns._take_away(lead)
    with world.hub.lock:
        data = world.turns.taken(lead)
    left = world.turns.left()
    if taken_away or sent is None:
        assert data == b""
        assert left == (sent or (b"" if sent is None else None))
    else:
        assert (data, left) == (sent, None)
    told = sent is None or (taken_away and sent) or len(data) == lead.size
    assert world.turns.turn is (T.OWED if told else T.FREE)
    assert world.was_woken() == bool(told)


def test_a_worker_whose_turn_was_taken_away_receives_nothing(world: World) -> None:
    with world.hub.lock:
        lead = world.turns.take()
    assert lead is not None
    world.turns._take_away(lead)
    world.peer.send(b"PING\r\n")
    lead.receive_at_once()
    with world.hub.lock:
        assert world.turns.taken(lead) == b""
    assert world.turns.turn is T.OWED
    assert world.transport.receive(10) == b"PING\r\n"


def test_a_worker_keeps_nothing_of_a_connection_that_is_given_up_while_it_receives(world: World) -> None:
    with world.hub.lock:
        lead = world.turns.take()
    assert lead is not None
    world.peer.send(b"PING\r\n")
    lead.receive_at_once()
    world.hub.transport = None
    with world.hub.lock:
        assert world.turns.taken(lead) == b""
    assert world.turns.left() is None


# --- patrols ---------------------------------------------------------------------------------------------------------

P = Patrol


@pytest.mark.parametrize(("patrol", "then"), [(P.OFF, P.OFF), (P.CALLED, P.LAST), (P.LAST, P.OFF), (P.ON, P.LAST)])
@pytest.mark.parametrize("led", [False, True])
def test_the_manager_begins_to_sleep(world: World, patrol: Patrol, then: Patrol, led: bool) -> None:
    """It is woken at once: whether that was a whole sleep is asked in the next test."""
    if led:
        world.be(T.LED)
    world.turns.patrol = patrol
    world.hub.agenda.wakeup.set()
    world.turns.wait(None)
    begun = P.LAST if led else then
    assert world.turns.patrol is (P.ON if begun is P.LAST else begun)


@pytest.mark.parametrize("led", [False, True])
def test_a_sleep_that_is_cut_short_by_threads_to_be_woken(
    world: World, led: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing about who leads, and the patrol goes on."""
    if led:
        world.be(T.LED)
    world.turns.patrol = P.ON
    monkeypatch.setattr(world.turns.waking, "seconds", lambda: 0.0)
    assert not world.turns.wait(None)
    assert world.turns.patrol is P.ON
    assert world.turns.turn is (T.LED if led else T.FREE)


def test_nobody_leads_while_threads_are_to_be_woken(world: World) -> None:
    """Who leads sleeps without waking any."""
    world.be(T.FREE)
    world.hub.answers.add(ThreadAnswer(world.hub.answers))
    with world.hub.lock:
        assert world.turns.lead() is None
        world.hub.answers.wake_all()
        assert world.turns.lead() is not None


@pytest.mark.parametrize("led", [False, True])
def test_a_whole_sleep_without_a_lead_ends_the_patrol(world: World, led: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nats_sync._engine.turns.PATROL", 0.001)
    if led:
        world.be(T.LED)
    world.turns.patrol = P.ON
    assert world.turns.wait(None)
    assert world.turns.patrol is (P.ON if led else P.LAST)
    assert world.turns.turn is (T.OWED if led else T.FREE)  # who led all that time does no longer


@pytest.mark.parametrize("patrol", list(Patrol))
def test_callers_prepare_and_lead(world: World, patrol: Patrol) -> None:
    world.turns.patrol = patrol
    with world.hub.lock:
        lead = world.turns.lead()
    assert (lead is not None) == (patrol is not P.OFF)
    if lead is None:
        world.turns.prepare()
        assert world.turns.patrol is P.CALLED
        assert world.was_woken()
    else:
        assert world.turns.patrol is (P.ON if patrol is P.LAST else patrol)


def test_what_is_watched_ends(world: World) -> None:
    for turn in LEDS:
        world.be(turn)
        world.turns.unwatch()
        assert world.turns.turn is T.FREE
        assert world.turns.left() is None
        with world.hub.lock:
            assert world.turns.lead() is None
        world.turns.watch(world.transport)


def test_the_descriptors_go_with_it(world: World) -> None:
    before = len(os.listdir("/proc/self/fd"))
    other = World()
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before
