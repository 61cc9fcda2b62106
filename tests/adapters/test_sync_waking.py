"""Answers that arrive together: their threads are woken one by one, and nobody waits for one that is slow."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from nats_sync import Client
from nats_sync._engine import manager as _manager
from nats_sync._engine import waking as _waking
from nats_sync._engine.waking import LOOK, MAX_REST, PACE, Waking
from tests.adapters.leading import replies
from tests.adapters.sync_tools import PATIENCE, connect, eventually
from tests.faults.peer import Connection, Peer, Step, expect, handshake, hold, loop, reset


class Line:
    """Of answers whose threads do nothing when they have been woken."""

    def __init__(self) -> None:
        self.length = self.gone = 0

    def __len__(self) -> int:
        return self.length

    def wake_next(self) -> bool:
        if not self.length:
            return False
        self.length -= 1
        self.gone += 1
        return True

    def wake_all(self) -> None:
        while self.wake_next():
            pass


class World:
    """A line, and a clock that the test sets."""

    def __init__(self, *, one_by_one: bool = True) -> None:
        self.now = 100.0
        self.answers = Line()
        self.waking = Waking(self.answers, one_by_one=one_by_one)  # type: ignore[arg-type]

    def chunk(self, count: int) -> int:
        """So many answers arrive: how many are left in the line."""
        self.answers.length += count
        self.waking.begin()
        return len(self.answers)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(_waking, "monotonic", lambda: world.now)
    return world


def test_nothing_is_to_be_done(world: World) -> None:
    world.waking.begin()
    assert world.waking.seconds() is None
    world.waking.finish()


def test_one_answer_alone(world: World) -> None:
    assert world.chunk(1) == 0
    assert world.waking.seconds() is None


def test_the_first_of_several_is_woken(world: World) -> None:
    assert world.chunk(3) == 2
    assert world.waking.seconds() == LOOK


def test_where_a_thread_wakes_others_with_the_interpreter_all_are_woken() -> None:
    world = World(one_by_one=False)
    assert world.chunk(3) == 0
    assert world.waking.seconds() is None


def test_each_chunk_wakes_one_more(world: World) -> None:
    assert [world.chunk(3) for _ in range(3)] == [2, 4, 6]


def test_a_line_that_goes_too_slowly_is_woken(world: World) -> None:
    assert world.chunk(3) == 2
    world.now += LOOK / 2
    assert world.waking.seconds() == LOOK
    assert len(world.answers) == 2
    world.now += LOOK
    assert world.waking.seconds() is None
    assert len(world.answers) == 0


def test_chunks_that_keep_coming_do_not_put_the_look_off(world: World) -> None:
    left = []
    for _ in range(4):
        world.chunk(2)
        world.waking.seconds()
        left.append(len(world.answers))
        world.now += LOOK * 0.4
    assert left == [1, 2, 3, 0]


def test_a_line_that_goes_quickly_enough_is_looked_at_again_and_again(world: World) -> None:
    expected = int(LOOK / PACE) + 1
    world.chunk(3 * expected)
    for _ in range(2):
        for _ in range(expected):
            world.answers.wake_next()
        world.now += LOOK
        assert world.waking.seconds() == LOOK
    world.now += LOOK
    assert world.waking.seconds() is None
    assert len(world.answers) == 0


def test_where_it_goes_wrong_again_and_again_it_is_left_alone(world: World) -> None:
    rests = []
    for _ in range(8):
        assert world.chunk(2) == 1
        world.now += LOOK
        assert world.waking.seconds() is None
        rest = 0
        while world.chunk(2) == 0:
            rest += 1
        rests.append(rest)
        world.waking.finish()
    assert rests == [1, 3, 7, 15, 31, MAX_REST, MAX_REST, MAX_REST]


def test_where_it_goes_well_again_it_is_left_alone_for_less(world: World) -> None:
    rests = []
    for well in (0, 0, 0, 2, 0):
        for _ in range(well):
            assert world.chunk(2) == 1
            world.answers.wake_next()
            assert world.waking.seconds() is None
        assert world.chunk(2) == 1
        world.now += LOOK
        assert world.waking.seconds() is None
        rest = 0
        while world.chunk(2) == 0:
            rest += 1
        rests.append(rest)
        world.waking.finish()
    assert rests == [1, 3, 7, 3, 7]


# --- in a client -----------------------------------------------------------------------------------------------------


def gathered(count: int, client: Callable[[], Client], sid: int = 1) -> Step:
    """Answer so many requests in one chunk, when all who have sent them are asleep."""

    def step(connection: Connection) -> None:
        subjects = [replies(connection) for _ in range(count)]
        eventually(lambda: all(answer.asleep for answer in list(client()._hub.requests.values())))
        connection.send(b"".join(b"MSG %b %d 2\r\nOK\r\n" % (subject.encode(), sid) for subject in subjects))

    return step


class Askers:
    """Threads that ask once, and then do something else."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.go_on = threading.Event()
        self.threads: list[threading.Thread] = []

    def ask(self, client: Client, count: int) -> None:
        def ask() -> None:
            self.got.append(client.request("q", timeout=PATIENCE).data)
            self.go_on.wait(PATIENCE)

        for _ in range(count):
            self.threads.append(threading.Thread(target=ask, daemon=True))
            self.threads[-1].start()

    def join(self) -> None:
        self.go_on.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.mark.parametrize("one_by_one", [True, False])
def test_nobody_waits_for_a_thread_that_does_something_else(one_by_one: bool) -> None:
    with Peer([handshake(), loop(gathered(4, lambda: client))]) as peer, connect(peer.url, ping_interval=0) as client:
        client._turns.waking._one_by_one = one_by_one
        for _ in range(5):
            askers = Askers()
            askers.ask(client, 4)
            eventually(lambda askers=askers: len(askers.got) == 4)  # type: ignore[misc]
            askers.join()
        assert len(client._hub.answers) == 0


@pytest.fixture
def never_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is woken because of the time. (Who sleeps looks for its answer each second, but stays in the line.)"""
    monkeypatch.setattr(_waking, "LOOK", 60.0)
    monkeypatch.setattr(_waking, "PACE", 0.0)


def broken() -> bool:
    raise RuntimeError("a defect")


def is_woken(client: Client, askers: Askers) -> bool:
    return len(client._hub.answers) == 0 and len(askers.got) == 4


@pytest.mark.parametrize("how", ["close", "defect", "end", "manager"])
def test_who_stands_in_the_line_at_the_end_has_its_answer(
    how: str, never_too_slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_manager, "SEND_LIMIT", PATIENCE)
    ended = threading.Event()

    def end(connection: Connection) -> None:
        ended.wait(PATIENCE)

    with (
        Peer([handshake(), gathered(4, lambda: client), end, reset()]) as peer,
        connect(peer.url, ping_interval=0) as client,
    ):
        client._turns.waking._one_by_one = True
        askers = Askers()
        askers.ask(client, 4)
        eventually(lambda: len(askers.got) == 1 and len(client._hub.answers) == 3)
        if how == "close":
            client.close()
            eventually(lambda: is_woken(client, askers))
        elif how == "defect":
            client._hub.fail(RuntimeError("a defect"))
            eventually(lambda: is_woken(client, askers))
        elif how == "manager":
            monkeypatch.setattr(client._turns, "begin", broken)
            ended.set()
            eventually(lambda: is_woken(client, askers))
        else:
            with client._hub.writing.send_lock:  # the manager waits for it, before it closes the socket
                ended.set()
                eventually(lambda: is_woken(client, askers))
        ended.set()
        askers.join()


def test_a_worker_who_reads_wakes_everybody(never_too_slow: None) -> None:
    calls: list[object] = []

    def bring_to_watch(connection: Connection) -> None:
        """A worker that is done while the manager still reads does not watch: this may take more than one message."""
        while not watched():
            before = len(calls)
            connection.send(b"MSG n 1 1\r\n1\r\n")
            eventually(lambda before=before: len(calls) > before and (client._hub.callbacks._idle or watched()))  # type: ignore[misc]

    def watched() -> bool:
        with client._hub.lock:
            return client._hub.callbacks.watcher is not None and client._hub.callbacks.watcher.watched()

    with (
        Peer([handshake(), expect(b"SUB n "), bring_to_watch, gathered(4, lambda: client, 2), hold()]) as peer,
        connect(peer.url, ping_interval=0) as client,
    ):
        client._turns.waking._one_by_one = True
        client._turns._rest = 1000  # nobody leads, and nobody is asked before the worker
        client.subscribe("n", callback=calls.append)
        eventually(watched)
        askers = Askers()
        askers.ask(client, 4)
        eventually(lambda: is_woken(client, askers))
        askers.join()
