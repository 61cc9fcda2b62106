"""What nobody waits for any more is not sent by the next connection; everything else is, in order and once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from nats_proto import Message, PublishesDropped, PublishFrame, RequestFailed, SubscriptionState
from nats_proto._session.awaited import FEW, MANY_LEFT, Awaited
from nats_proto._session.outbox import CHUNK_SIZE
from nats_proto._wire.encoder import Encoded
from nats_proto.errors import OutboundBufferLimitError
from tests.proto.driver import PONG, World, frames_of, msg
from tests.proto.test_successor import pair, parting

SIZES = [0, 100, 70_000, CHUNK_SIZE + 1]


def published(world: World) -> list[str]:
    """What reached the wire since the last call, by the subjects."""
    return [frame.subject for frame in frames_of(world.wire()) if isinstance(frame, PublishFrame)]


def away() -> World:
    """Its first connection is lost, and its inbox was asked for there."""
    world = World("nats://a, nats://b").ready()
    world.session.cancel_request(world.session.request("first"))
    world.pump()
    world.cut()
    world.wire()
    world.events()
    return world


@pytest.mark.parametrize("headers", [None, {"A": "1"}], ids=["PUB", "HPUB"])
@pytest.mark.parametrize("size", SIZES)
def test_a_request_that_was_given_up_unsent_is_never_sent(size: int, headers: dict[str, str] | None) -> None:
    world = away()
    data = b"x" * size
    session = world.session
    session.publish("before", data, headers=headers)
    given_up = session.request("command", data, headers=headers)
    awaited = session.request("question", data, headers=headers)
    session.publish("own", data, reply="my.inbox.1", headers=headers)
    session.publish("made", data, reply=session.new_inbox(), headers=headers)
    session.request("command", data, headers=headers)
    session.publish("behind", data, headers=headers)
    session.cancel_request(given_up)
    session.cancel_request(awaited + 1)
    before = session.pending_bytes
    world.up()
    assert published(world) == ["before", "question", "own", "made", "behind"]
    assert before > session.pending_bytes == 0
    # Nobody is told who was not told before. It counts all the same, so that the counts add up.
    assert world.events_of(PublishesDropped) == []
    assert world.events_of(RequestFailed) == []
    assert (session.stats.out_msgs, session.stats.dropped_publishes) == (8, 2)
    world.cut()
    world.up()
    assert published(world) == []


def test_the_first_connection_is_a_new_one_as_well() -> None:
    world = World()
    session = world.session
    session.cancel_request(session.request("command"))
    session.request("question")
    world.up()
    assert published(world) == ["question"]


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.parametrize("reported", ["nothing", "a part", "nearly all", "all", "all, late"])
def test_what_was_in_flight_at_the_cut(size: int, reported: str) -> None:
    """What was handed over whole is gone, and nothing that was dropped; all else is unsent."""
    world = World("nats://a, nats://b").ready()
    session = world.session
    session.cancel_request(session.request("first"))
    world.pump()
    world.wire()
    token = session.request("command", b"x" * size)
    session.publish("behind", b"x" * size)
    session.data_to_send()
    whole = session.pending_bytes - len(f"PUB behind {size}\r\n\r\n") - size
    written = {"nothing": 0, "a part": 5, "nearly all": whole - 1, "all": whole, "all, late": whole - 1}[reported]
    session.data_sent(written)
    session.cancel_request(token)
    world.cut()
    if reported == "all, late":
        session.data_sent(1)
    world.up()
    assert published(world) == ["behind"]
    assert session.pending_bytes == 0
    assert session.stats.dropped_publishes == (0 if reported.startswith("all") else 1)


def test_what_is_given_up_while_a_connection_takes_nothing_is_not_sent_by_the_next() -> None:
    world = World("nats://a, nats://b").ready()
    session = world.session
    world.room = 0
    first = session.request("taken")
    world.pump()
    second = session.request("waits")
    session.request("question")
    session.cancel_request(first)
    session.cancel_request(second)
    world.room = None
    world.cut()
    world.up()
    assert published(world) == ["question"]


def test_a_connection_that_stays_sends_what_it_has() -> None:
    """Nobody looks through what waits for a write. It is soon sent, and its answer dropped."""
    world = World().ready()
    world.room = 0
    world.session.cancel_request(world.session.request("command"))
    world.room = None
    world.pump()
    assert published(world) == ["command"]


def test_an_answer_that_has_come_leaves_nothing_to_be_sent() -> None:
    """The report of the last write comes late, maybe never."""
    world = World("nats://a, nats://b").ready()
    session = world.session
    session.request("question")
    data = b"".join(session.data_to_send())
    (frame,) = (frame for frame in frames_of(data) if isinstance(frame, PublishFrame))
    session.receive_data(msg(str(frame.reply), 1, b"answer"), now=world.now)
    world.cut()
    world.up()
    assert published(world) == []


@pytest.mark.parametrize("by", ["the option", "the user"])
def test_requests_that_failed_with_their_connection_are_not_sent_by_the_next(by: str) -> None:
    world = World("nats://a, nats://b", fail_requests_on_disconnect=by == "the option").ready()
    world.room = 0
    world.session.request("command")
    if by == "the option":
        world.cut()
    else:
        world.session.reconnect(now=world.now)
    world.pump()
    world.room = None
    assert len(world.events_of(RequestFailed)) == 1
    world.up()
    assert published(world) == []


def test_a_successor_does_not_send_them_either() -> None:
    world = parting(pair())
    session = world.session
    session.cancel_request(session.request("command"))
    session.request("question")
    world.pump()
    assert published(world) == []
    world.feed(PONG)
    assert published(world) == ["question"]
    assert session.stats.dropped_publishes == 1


# --- a subscription whose reader says what it awaits -----------------------------------------------------------------


class Reader:
    """Awaits some answers, until a time."""

    def __init__(self, world: World, *replies: str, until: float = float("inf")) -> None:
        self.replies, self.until = set(replies), until
        self.sub: SubscriptionState[Message] = world.session.subscribe("acks.7.*", marks=True, awaits=self.awaits)

    def awaits(self, reply: str, now: float) -> bool:
        return reply in self.replies and now < self.until


class Asker(Reader):
    """Awaits what comes to one subject."""

    def __init__(self, world: World, inbox: str) -> None:
        self.replies, self.until = {inbox}, float("inf")
        self.sub = world.session.subscribe(inbox, marks=True, awaits=self.awaits)


def publish(world: World, *replies: str) -> None:
    for reply in replies:
        world.session.publish(reply, b"x", reply=reply)


def test_its_reader_decides() -> None:
    world = World("nats://a, nats://b").ready()
    Reader(world, "acks.7.1")
    world.cut()
    publish(world, "acks.7.0", "acks.7.1", "acks.7.1.2", "acks.70.1", "acks.7")
    world.up()
    assert published(world) == ["acks.7.1", "acks.7.1.2", "acks.70.1", "acks.7"]


def test_what_is_awaited_may_come_to_one_subject() -> None:
    world = World("nats://a, nats://b").ready()
    awaited, given_up = Asker(world, "inbox.1"), Asker(world, "inbox.2")
    world.cut()
    publish(world, "inbox.1", "inbox.2", "inbox.3", "inbox", "inbox.2.1", "inbox.21", "my.inbox.2")
    world.session.unsubscribe(given_up.sub)
    world.up()
    assert published(world) == ["inbox.1", "inbox.3", "inbox", "inbox.2.1", "inbox.21", "my.inbox.2"]
    assert awaited.sub in world.session._traffic.subs


@pytest.mark.parametrize("others", [0, FEW])
def test_what_is_awaited_may_come_to_all_subjects_below_one(others: int) -> None:
    world = World("nats://a, nats://b").ready()
    world.cut()
    session = world.session
    for number in range(others):
        Asker(world, f"inbox.{number}")
    awaited, given_up = (session.subscribe(f"{name}.>", awaits=lambda reply, now: True) for name in ("in.1", "in.2"))
    publish(world, "in.1.a.b", "in.2.a.b", "in.2", "in.2.a", "in.20.a", "my.in.2.a")
    session.unsubscribe(given_up)
    world.up()
    assert published(world) == ["in.1.a.b", "in.2", "in.20.a", "my.in.2.a"]
    assert awaited in session._traffic.subs
    assert not session._traffic._awaited._deep - {b"in.1."}


@pytest.mark.parametrize("askers", [1, FEW - 1, FEW, 100])
def test_each_of_many_is_awaited_by_itself(askers: int) -> None:
    world = World("nats://a, nats://b").ready()
    world.cut()
    subs = [Asker(world, f"inbox.{number}").sub for number in range(askers)]
    for number in range(askers):
        publish(world, f"inbox.{number}")
        world.session.publish("between", b"x" * 1000)
    for sub in subs[::2]:
        world.session.unsubscribe(sub)
    world.up()
    assert [subject for subject in published(world) if subject != "between"] == [
        f"inbox.{number}" for number in range(1, askers, 2)
    ]


def test_what_was_left_in_an_outage_does_not_fill_the_memory() -> None:
    """Also where it has found no room, and nothing of it waits: who asks again and again does so for hours."""
    world = World("nats://a, nats://b", pending_size=20_000).ready()
    world.session.publish("before")
    world.cut()
    session, known = world.session, world.session._traffic._awaited
    session.publish("own", bytes(10_000))
    awaited = Asker(world, "inbox.awaited")
    publish(world, "inbox.awaited")
    taken = 0
    for number in range(10 * MANY_LEFT):
        asker = Asker(world, f"inbox.{number}")
        with contextlib.suppress(OutboundBufferLimitError):
            publish(world, f"inbox.{number}")
            taken += 1
        session.unsubscribe(asker.sub)
        assert len(known._awaits) <= MANY_LEFT + 3
    assert 1000 < taken < 10 * MANY_LEFT
    world.up()
    assert published(world) == ["before", "own", "inbox.awaited"]
    assert session.stats.dropped_publishes == taken
    assert awaited.sub in world.session._traffic.subs


@pytest.mark.parametrize(("waited", "sent"), [(9.0, ["acks.7.1"]), (11.0, [])])
def test_the_time_is_that_of_the_connection(waited: float, sent: list[str]) -> None:
    world = World("nats://a, nats://b").ready()
    world.cut()
    Reader(world, "acks.7.1", until=world.now + 10.0)
    publish(world, "acks.7.1")
    world.now += waited
    world.up()
    assert published(world) == sent


def while_away(world: World, reader: Reader) -> None:
    world.cut()
    publish(world, "acks.7.1")
    world.session.unsubscribe(reader.sub)


def while_nothing_is_taken(world: World, reader: Reader) -> None:
    publish(world, "acks.7.1")
    world.session.unsubscribe(reader.sub)
    world.cut()


def while_it_is_in_flight(world: World, reader: Reader) -> None:
    publish(world, "acks.7.1")
    world.pump()
    world.session.unsubscribe(reader.sub)
    world.pump()
    world.cut()


@pytest.mark.parametrize("left", [while_away, while_nothing_is_taken, while_it_is_in_flight])
def test_one_that_was_left_awaits_nothing(left: Callable[[World, Reader], None]) -> None:
    world = World("nats://a, nats://b").ready()
    reader = Reader(world, "acks.7.1")
    world.pump()
    world.room = 0
    left(world, reader)
    publish(world, "own")
    world.room = None
    world.up()
    assert published(world) == ["own"]
    publish(world, "acks.7.1")  # by somebody who may do so: there is no such reader any more
    world.cut()
    world.up()
    assert published(world) == ["acks.7.1"]


def test_what_was_left_is_forgotten_as_soon_as_nothing_of_it_waits() -> None:
    world = World().ready()
    reader = Reader(world)
    world.pump()
    world.words()
    world.session.unsubscribe(reader.sub)
    world.pump()
    assert world.words() == ["UNSUB 1"]
    known = world.session._traffic._awaited
    assert len(known.bases) == 1  # the request inbox
    reader = Reader(world)
    world.session.unsubscribe(reader.sub)
    world.pump()
    assert world.words() == ["SUB acks.7.* 2", "PING", "UNSUB 2"]
    assert len(known.bases) == 2
    world.feed(PONG)
    assert len(known.bases) == 1


def test_many_that_wait_are_looked_at_only_where_one_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long outage leaves many publishes: nobody looks at each of those beside which there is no request."""
    looked: list[Encoded] = []
    late = Awaited.late

    def watched(self: Awaited, operation: Encoded, now: float) -> bytes | None:
        looked.append(operation)
        return late(self, operation, now)

    monkeypatch.setattr(Awaited, "late", watched)
    world = away()
    for number in range(10_000):
        world.session.publish(f"s.{number}", b"x" * 50)
    world.session.cancel_request(world.session.request("command"))
    world.up()
    assert len(published(world)) == 10_000
    assert 0 < len(looked) < 2 * CHUNK_SIZE / 60
