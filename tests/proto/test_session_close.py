"""Closing: everyone who waits is answered, what was accepted gets its grace, `Closed` is last and comes once."""

from __future__ import annotations

import pytest

from nats_proto import (
    Closed,
    CloseTransport,
    Disconnected,
    FlushFailed,
    MessagesAvailable,
    RequestFailed,
    SessionStatus,
    SubscriptionClosed,
)
from nats_proto._session.life_cycle import CLOSE_GRACE
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    DefectError,
    NATSError,
    NoServersError,
    ServerError,
    SubscriptionClosedError,
)
from tests.proto.driver import PONG, World, err, msg

STATES = ["new", "dialling", "handshake", "connected", "reconnecting", "draining", "drained", "gone"]


def at(state: str) -> World:
    world = World(start=state != "new", reconnect_jitter=0.0)
    if state == "handshake":
        world.accept()
    if state in ("connected", "reconnecting", "draining", "drained"):
        world.ready()
    if state == "reconnecting":
        world.cut()
    if state in ("draining", "drained"):
        world.session.subscribe("s")
        world.session.drain(now=world.now)
        world.pump()
    if state == "drained":
        world.feed(PONG)
    if state == "gone":
        world.refuse()
    return world


def close(world: World) -> None:
    world.session.close(now=world.now)
    world.pump()


@pytest.mark.parametrize("state", STATES)
def test_closed_comes_once_and_last(state: str) -> None:
    world = at(state)
    for _ in range(3):
        close(world)
    world.feed(err("anything") + msg("s", 1) + PONG + b"garbage\r\n")
    world.eof()
    world.cut()
    world.wait(1e6)
    events = world.events()
    assert [type(event) for event in events].count(Closed) == 1
    closed = events[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, NoServersError if state == "gone" else type(None))
    assert world.session.status is SessionStatus.CLOSED
    assert world.session.next_timeout() is None
    assert world.session.data_to_send() == []
    assert world.dial is None
    assert world.closed is (state not in ("new", "gone"))
    assert Disconnected(server="nats://a:4222", error=None) in events or state not in ("connected", "draining")


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_taken_any_more(state: str) -> None:
    world = at(state)
    close(world)
    session = world.session
    for call in (
        lambda: session.publish("a"),
        lambda: session.request("a"),
        lambda: session.subscribe("a"),
        session.flush,
        lambda: session.drain(now=world.now),
        lambda: session.reconnect(now=world.now),
    ):
        with pytest.raises(ConnectionClosedError, match="closed"):
            call()
    assert session.pending_bytes == 0
    assert session.writable


def test_everyone_who_waits_is_told() -> None:
    world = World().ready()
    unread, waiting = world.session.subscribe("unread"), world.session.subscribe("waiting")
    request, flush = world.session.request("r"), world.session.flush()
    world.pump()
    world.feed(msg("unread", unread.sid, b"lost"))
    world.events()
    close(world)
    events = world.events()
    assert [type(event) for event in events] == [
        RequestFailed,
        FlushFailed,
        SubscriptionClosed,
        SubscriptionClosed,
        Disconnected,
        Closed,
    ]
    assert isinstance(events[0], RequestFailed)
    assert isinstance(events[1], FlushFailed)
    assert (events[0].token, events[1].token) == (request, flush)
    assert unread.pending_msgs == 0
    for sub in (unread, waiting):
        told, ended = sub.ending(iterating=False), sub.ending(iterating=True)
        assert isinstance(told, ConnectionClosedError)
        assert told.__cause__ is None
        assert isinstance(ended, SubscriptionClosedError)


def test_what_ended_before_unread_is_dropped_too() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", max_msgs=1)
    world.pump()
    world.feed(msg("s", 1, b"unread"))
    close(world)
    assert sub.pending_msgs == 0


def test_a_client_that_gave_up_says_why_to_everyone() -> None:
    world = World(allow_reconnect=False).ready()
    sub = world.session.subscribe("s")
    request, flush = world.session.request("r"), world.session.flush()
    world.pump()
    world.feed(msg("s", 1, b"still there"))
    world.events()
    world.cut()
    events = world.events()
    kinds = [type(event) for event in events]
    assert kinds == [FlushFailed, Disconnected, RequestFailed, SubscriptionClosed, Closed]
    failed_flush, disconnected, failed_request, ended, closed = events
    assert isinstance(failed_flush, FlushFailed)
    assert isinstance(failed_request, RequestFailed)
    assert isinstance(closed, Closed)
    assert (failed_flush.token, failed_request.token) == (flush, request)
    assert isinstance(failed_flush.error, ConnectionLostError)
    assert isinstance(failed_request.error, ConnectionClosedError)
    lost = world.session.last_error
    assert isinstance(lost, ConnectionLostError)
    assert failed_request.error.__cause__ is lost
    assert closed.error is lost
    assert disconnected == Disconnected(server="nats://a:4222", error=lost)
    assert ended == SubscriptionClosed(1, sub.error)
    assert sub.pop() is not None
    for iterating in (True, False):
        ending = sub.ending(iterating=iterating)
        assert isinstance(ending, ConnectionClosedError)
        assert ending.__cause__ is lost
    with pytest.raises(ConnectionClosedError, match="reset") as raised:
        world.session.publish("a")
    assert raised.value.__cause__ is lost


def test_messages_are_announced_before_the_end_that_came_behind_them() -> None:
    world = World(allow_reconnect=False).ready()
    world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"x") + err("Stale Connection"))
    kinds = [type(event).__name__ for event in world.events()]
    assert kinds == ["MessagesAvailable", "ServerErrorReceived", "Disconnected", "SubscriptionClosed", "Closed"]


def test_a_maximum_is_announced_before_it_closes() -> None:
    world = World().ready()
    world.session.subscribe("s", max_msgs=2)
    world.pump()
    world.feed(msg("s", 1, b"1") + msg("s", 1, b"2") + msg("s", 1, b"3"))
    assert world.events() == [MessagesAvailable((1,)), SubscriptionClosed(1, None)]


# --- grace -----------------------------------------------------------------------------------------------------------


def closing(room: int = 0) -> World:
    """Closed with two publishes of 19 bytes unwritten, of which the transport takes ``room`` bytes."""
    world = World().ready()
    world.room = room
    for subject in "ab":
        world.session.publish(subject, b"0123456789"[:8])
    close(world)
    return world


def test_what_was_accepted_is_written_first() -> None:
    world = closing()
    assert world.session.status is SessionStatus.CLOSED
    assert world.events() == []
    assert world.commands == []
    world.room = 20
    world.pump()
    assert world.commands == []
    world.room = None
    world.pump()
    assert world.words() == ["PUB a [8]", "PUB b [8]"]
    assert world.events() == [Disconnected(server="nats://a:4222", error=None), Closed(error=None)]
    assert world.commands == [CloseTransport()]


@pytest.mark.parametrize(
    ("room", "unsent"), [(0, (2, 38)), (18, (2, 38)), (19, (1, 19)), (37, (1, 19))], ids=lambda value: str(value)
)
@pytest.mark.parametrize("end", ["time", "eof", "reset", "final"])
def test_a_peer_that_does_not_read_is_not_waited_for(room: int, unsent: tuple[int, int], end: str) -> None:
    assert len(b"PUB a 8\r\n01234567\r\n") == 19
    world = closing(room)
    if end == "time":
        world.wait(CLOSE_GRACE - 0.001)
        assert world.commands == []
        assert world.session.next_timeout() == pytest.approx(world.now + 0.001)
        world.wait(0.001)
    elif end == "eof":
        world.eof()
    elif end == "final":
        world.feed(err("invalid client protocol"))
    else:
        world.cut()
    disconnected, closed = (event for event in world.events() if isinstance(event, (Disconnected, Closed)))
    assert isinstance(disconnected, Disconnected)
    assert closed == Closed(error=None, unsent_msgs=unsent[0], unsent_bytes=unsent[1])
    assert world.closed
    assert world.dial is None


def test_the_grace_is_the_same_for_a_client_that_drained_too_long() -> None:
    world = World().ready()
    world.room = 0
    world.session.publish("a", b"x")
    world.session.subscribe("s")
    world.session.drain(now=world.now, timeout=3.0)
    world.pump()
    world.wait(3.0 + CLOSE_GRACE - 0.001)
    assert world.session.status is SessionStatus.CLOSED
    assert not world.events_of(Closed)
    world.wait(0.001)
    (closed,) = world.events_of(Closed)
    assert closed.unsent_msgs == 1
    assert isinstance(closed.error, NATSError)


def test_a_second_close_does_not_cut_the_grace_short() -> None:
    world = closing()
    world.wait(0.1)
    close(world)
    assert world.commands == []
    world.room = None
    world.pump()
    assert world.events()[-1] == Closed(error=None)


def test_messages_that_arrive_in_the_grace_are_dropped() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    token = world.session.request("r")
    world.pump()
    inbox = world.session._traffic.inbox
    reply = f"{inbox.subject[:-1]}{inbox._tokens[token]}"
    world.room = 0
    world.session.publish("a")
    close(world)
    world.events()
    world.feed(msg("s", sub.sid, b"late") + msg(reply, 2, b"late") + err("whatever"))
    assert sub.pending_msgs == 0
    assert [type(event).__name__ for event in world.events()] == ["ServerErrorReceived"]
    assert world.session.stats.dropped_unknown_sid == 1
    assert world.session.stats.dropped_replies == 1


def test_closing_while_a_drain_waits_for_its_reader() -> None:
    world = World().ready()
    sub = world.session.subscribe("s")
    world.pump()
    world.feed(msg("s", 1, b"x"))
    world.session.drain(now=world.now)
    world.pump()
    world.cut()
    close(world)
    assert world.events()[-1] == Closed(error=None)
    assert sub.pending_msgs == 0


def test_a_report_after_the_end_is_ignored() -> None:
    world = World().ready()
    world.session.publish("a")
    (piece,) = world.session.data_to_send()
    world.session.receive_eof(now=world.now)
    world.session.close(now=world.now)
    world.session.data_sent(len(piece))
    assert world.session.pending_bytes == 0


@pytest.mark.parametrize("text", ["invalid client protocol"])
def test_the_end_by_the_server_keeps_its_words(text: str) -> None:
    world = World().ready()
    world.feed(err(text))
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ServerError)
    assert closed.error.text == text


@pytest.mark.parametrize("state", STATES)
def test_a_defect_ends_the_session_at_once_and_everybody_is_told(state: str) -> None:
    world = at(state)
    sub = None
    if state == "gone":
        world.session.fail(ZeroDivisionError(), now=world.now)
        world.pump()
        assert [type(event.error) for event in world.events_of(Closed)] == [NoServersError]
        return
    if state not in ("draining", "drained"):
        sub = world.session.subscribe("told")
        world.session.publish("left", b"x" * 10)
        world.session.request("asked", b"")
    defect = ZeroDivisionError("in the client")
    for _ in range(2):
        world.session.fail(defect, now=world.now)
    world.pump()
    events = world.events()
    closed = [event for event in events if isinstance(event, Closed)]
    assert [type(event.error) for event in closed] == [DefectError]
    assert closed[0].error is world.session.last_error
    assert closed[0].error.__cause__ is defect
    assert world.session.status is SessionStatus.CLOSED
    assert world.session.next_timeout() is None
    assert world.session.data_to_send() == []
    if sub is not None:
        assert isinstance(sub.error, ConnectionClosedError)
        assert sub.error.__cause__ is closed[0].error
        failed = [event.error for event in events if isinstance(event, RequestFailed)]
        assert [type(error) for error in failed] == [ConnectionClosedError]
    with pytest.raises(ConnectionClosedError, match="a defect in it"):
        world.session.publish("late", b"")


def test_a_defect_while_closing_ends_the_wait_for_the_last_write() -> None:
    world = at("connected")
    world.room = 0
    world.session.publish("left", b"x" * 10)
    close(world)
    assert not world.events_of(Closed)
    world.session.fail(ZeroDivisionError(), now=world.now)
    world.pump()
    [closed] = world.events_of(Closed)
    assert isinstance(closed.error, DefectError)
    assert closed.unsent_msgs == 1
