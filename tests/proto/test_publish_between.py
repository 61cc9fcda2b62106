"""Another thread may publish, without any lock, between any two calls of the tail: none of it is lost or overtaken.

The lock of a threaded client guards all of the session but `publish_quickly`. So a life of a session is lived again and
again, each time with a publish of somebody else at another moment: before or after each single use of the tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any

import pytest

from nats_proto import Closed, PublishesDropped, PublishFrame
from nats_proto._session import inbox as _inbox
from nats_proto._session import outbox as _outbox
from nats_proto._session.outbox import CHUNK_SIZE
from nats_proto._wire.requests import Requests
from tests.proto.driver import PONG, World, frames_of, info
from tests.twins import Twin

SOMEBODY = b"x" * 30


class Watched:
    """A tail that somebody else publishes to: ``moments`` counts what the session does with it."""

    def __init__(self, tail: Any, between: Callable[[], None]) -> None:
        object.__setattr__(self, "_tail", tail)
        object.__setattr__(self, "_between", between)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tail, name)
        if not callable(value):
            self._between()
            return value

        def call(*arguments: object) -> object:
            self._between()
            result = value(*arguments)
            self._between()
            return result

        return call

    def __setattr__(self, name: str, value: object) -> None:
        self._between()
        setattr(self._tail, name, value)
        self._between()


class Life:
    """One `World`, what is published in it by its own thread and by somebody else, and what a server reads of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, twin: Twin, moments: range) -> None:
        self.moments = moments
        self.moment = 0
        self.own = 0
        self.others = 0
        self.read: list[tuple[str, int]] = []
        """Subject and number of each message that servers read."""

        def watched(heads: dict[str, bytes], others: Sequence[Sized]) -> Watched:
            heads["others"] = b"PUB others "  # the Python twin takes subjects that were checked
            self._tail: Any = twin.tail(heads, others)
            return Watched(self._tail, self._between)

        with monkeypatch.context() as patch:
            patch.setattr(_outbox, "Tail", watched)
            patch.setattr(_inbox, "Requests", Requests)  # the compiled twin takes no tail but its own
            self.world = World("nats://a", pending_size=10**9)

    def _between(self) -> None:
        if self.moment in self.moments and self._tail.publish("others", b"%06d%b" % (self.others, SOMEBODY)):
            self.others += 1
        self.moment += 1

    def publish(self, times: int, size: int = 30) -> None:
        for _ in range(times):
            self.world.session.publish("own", b"%06d%b" % (self.own, b"y" * size))
            self.own += 1

    def up(self, **fields: object) -> None:
        self.world.up(**fields)

    def down(self) -> None:
        """The connection is lost; what its server read in part is nothing."""
        self.world.cut()
        self.look()

    def look(self) -> None:
        """What the server of the current connection has read."""
        data = self.world.wire()
        whole = data[: data.rfind(b"\r\n") + 2]
        while True:
            try:
                frames = frames_of(whole)
                break
            except AssertionError:  # it ends within a message
                whole = whole[: whole.rfind(b"\r\n", 0, -2) + 2]
        for frame in frames:
            if isinstance(frame, PublishFrame) and frame.subject in ("own", "others"):
                self.read.append((frame.subject, int(bytes(frame.data)[:6])))

    def numbers(self, subject: str) -> list[int]:
        return [number for whose, number in self.read if whose == subject]


def connections_come_and_go(life: Life) -> int:
    """Cuts with all kinds of things on their way and waiting, and a drain; returns what was reported as not sent."""
    world = life.world
    life.publish(2)
    life.up()
    sub = world.session.subscribe("in")
    life.publish(3)
    world.session.flush()
    life.publish(1)
    world.pump()
    world.room = 150
    life.publish(4)
    life.publish(1, size=70_000)  # a piece of its own
    life.publish(2)
    world.pump()
    life.publish(2)
    life.down()
    life.publish(3)
    world.room = None
    life.up()
    world.room = 0
    world.session.flush()
    life.publish(CHUNK_SIZE // 10_000 + 2, size=10_000)
    world.pump()
    world.session.reconnect(now=world.now)
    world.pump()
    life.look()
    world.room = None
    life.up()
    world.feed(PONG * 3)
    life.publish(2)
    world.pump()
    world.session.unsubscribe(sub)
    world.session.drain(now=world.now)
    world.pump()
    world.feed(PONG * 3)
    world.pump()
    life.look()
    (closed,) = world.events_of(Closed)
    return closed.unsent_msgs


def it_is_closed_with_no_room(life: Life) -> int:
    """A close that cannot write all in its time reports the rest."""
    world = life.world
    life.up()
    life.publish(3)
    world.pump()
    world.room = 100
    life.publish(5)
    world.pump()
    life.publish(2)
    world.session.close(now=world.now)
    world.pump()
    world.wait(1.0)
    life.look()
    (closed,) = world.events_of(Closed)
    return closed.unsent_msgs


def it_drains_without_a_connection(life: Life) -> int:
    """What the drain could not write is reported too."""
    world = life.world
    life.up()
    world.room = 0
    life.publish(5)
    world.pump()
    world.session.subscribe("in")
    world.session.drain(now=world.now)
    life.world.cut()
    life.look()
    (closed,) = world.events_of(Closed)
    return closed.unsent_msgs


def servers_allow_less(life: Life) -> int:
    """What the server would refuse is dropped and reported, the others' publishes and bytes not with it."""
    world = life.world
    life.up()
    world.room = 0
    life.publish(3)
    life.publish(2, size=500)
    life.publish(1)
    world.feed(info(max_payload=100))
    (dropped,) = world.events_of(PublishesDropped)
    assert (dropped.dropped_msgs, dropped.dropped_bytes) == (2, 2 * len(b"PUB own 506\r\n%b\r\n" % bytes(506)))
    world.room = None
    world.pump()
    life.look()
    world.session.close(now=world.now)
    world.pump()
    life.look()
    (closed,) = world.events_of(Closed)
    assert [number for number in range(life.own) if number not in life.numbers("own")] == [3, 4]
    life.read += [("own", 3), ("own", 4)]
    life.read.sort()
    return closed.unsent_msgs


LIVES = [connections_come_and_go, it_is_closed_with_no_room, it_drains_without_a_connection, servers_allow_less]


@pytest.mark.parametrize("live", LIVES, ids=lambda live: live.__name__)
def test_a_publish_at_any_moment(monkeypatch: pytest.MonkeyPatch, twin: Twin, live: Callable[[Life], int]) -> None:
    unmoved = Life(monkeypatch, twin, range(0))
    assert live(unmoved) + len(unmoved.read) == unmoved.own
    moments = unmoved.moment
    assert moments > 40
    taken = 0
    for at in range(moments):
        for length in (1, 2, 50):
            life = Life(monkeypatch, twin, range(at, at + length))
            unsent = live(life)
            for subject, published in (("own", life.own), ("others", life.others)):
                read = life.numbers(subject)
                assert read == list(range(len(read))), f"{subject}: lost, twice or overtaken, {at=} {length=}"
                assert len(read) <= published
            assert len(life.read) + unsent == life.own + life.others, f"not written and not reported, {at=} {length=}"
            taken += life.others
    assert taken > moments  # nearly all of them are taken while there is a connection
