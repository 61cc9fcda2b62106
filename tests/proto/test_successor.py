"""From a lame duck to another server without a gap: the next connection is made before the last one is left."""

from __future__ import annotations

import pytest

from nats_proto import (
    AdoptSuccessor,
    Closed,
    CloseSuccessor,
    Disconnected,
    FlushCompleted,
    FlushFailed,
    LameDuckMode,
    OpenSuccessor,
    PublishRefused,
    Reconnected,
    Reconnecting,
    ReplyReceived,
    SessionStatus,
    SubscriptionState,
)
from nats_proto import Message as CoreMessage
from nats_proto._session.lame_duck import LAME_DUCK_GRACE
from nats_proto._session.successor import LINGER, SPREAD_TIME
from nats_proto.errors import ConnectionLostError, LocalProtocolError, NATSTimeoutError, PermissionsError
from tests.proto.driver import PING, PONG, World, err, info, msg

LDM = info(ldm=True)
B = info(server_id="B")
NO_JITTER: dict[str, object] = {"reconnect_jitter": 0.0, "reconnect_jitter_tls": 0.0}

Sub = SubscriptionState[CoreMessage]


def pair(servers: str = "nats://10.0.0.1, nats://10.0.0.2", **options: object) -> World:
    return World(servers, two_transports=True, **{**NO_JITTER, **options}).ready()


def dialling(world: World) -> World:
    """The lame duck has said so; the other server is being dialled."""
    world.feed(LDM)
    world.wait(0.0)
    assert world.next_dial is not None
    return world


def joined(world: World, *subs: Sub) -> World:
    """The new server has read every subscription, and its PONG is on the way."""
    dialling(world)
    world.accept_next()
    world.feed_next(B)
    assert world.next_words() == ["CONNECT", "PING"]
    world.feed_next(PONG)
    assert world.next_words() == [*(word_of(sub) for sub in subs), "PING"]
    return world


def spreading(world: World, *subs: Sub) -> World:
    """Both connections deliver."""
    joined(world, *subs)
    world.feed_next(PONG)
    return world


def parting(world: World, *subs: Sub) -> World:
    """The old connection was told goodbye."""
    spreading(world, *subs)
    world.words()
    world.wait(SPREAD_TIME)
    assert world.words() == [*(f"UNSUB {sub.sid}" for sub in subs), "PING"]
    return world


def moved(world: World, *subs: Sub) -> World:
    """The new connection is the connection."""
    parting(world, *subs)
    world.feed(PONG)
    return world


def word_of(sub: Sub) -> str:
    return f"SUB {sub.subject} {sub.sid}" if sub.queue is None else f"SUB {sub.subject} {sub.queue} {sub.sid}"


def read(sub: Sub) -> list[bytes]:
    return [message.data for message in sub.take(1000)]


def test_the_next_connection_is_made_first() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    world.pump()
    world.events()
    spreading(world, sub)
    assert world.session.status is SessionStatus.CONNECTED
    assert world.session.connected_url == "nats://10.0.0.1:4222"
    assert world.events() == [LameDuckMode(server="nats://10.0.0.1:4222", migrating=True)]
    world.session.publish("p", b"to the old one")
    world.pump()
    assert world.words()[-1] == "PUB p [14]"
    world.wait(SPREAD_TIME)
    assert world.words() == [f"UNSUB {sub.sid}", "PING"]
    world.session.publish("p", b"to the new one, in a moment")
    world.pump()
    assert world.words() == []
    world.feed(PONG)
    assert world.events() == [
        Disconnected(server="nats://10.0.0.1:4222", error=None),
        Reconnected(server="nats://10.0.0.2:4222", attempts=1),
    ]
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    assert world.session.status is SessionStatus.CONNECTED
    assert world.session.stats.reconnects == 1
    assert world.words() == ["PUB p [27]"]
    assert world.session.last_error is None
    assert world.dial is None
    world.wait(LINGER)
    assert world.session.successor is None
    assert [type(command) for command in world.commands] == [OpenSuccessor, AdoptSuccessor]


def test_a_thousand_clients_do_not_dial_at_once() -> None:
    world = World("nats://10.0.0.1, nats://10.0.0.2", two_transports=True, reconnect_jitter=8.0).ready()
    world.feed(LDM)
    assert world.next_dial is None
    deadline = world.session.next_timeout()
    assert deadline is not None
    assert world.now < deadline < world.now + 8.0
    world.wait(deadline - world.now)
    assert world.next_dial is not None


# --- what both deliver -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "given"),
    [
        pytest.param("o1 o2 n1 n2", "12", id="the old one is ahead"),
        pytest.param("n1 n2 o1 o2", "12", id="the new one is ahead"),
        pytest.param("o1 n1 n2 o2", "12", id="in turn"),
        pytest.param("o1 n2 o2 n3", "123", id="one that the old one does not have any more"),
        pytest.param("o1 o2 n2", "12", id="one that the new one did not have yet"),
        pytest.param("n2 o1 o2", "12", id="the new one is ahead and began later"),
        pytest.param("o1 o1 n1 n1", "11", id="the same twice"),
        pytest.param("n1 n1 o1 o1", "11", id="the same twice, the new one is ahead"),
        pytest.param("o1 n1 o1 n1 n1", "111", id="the same three times"),
        pytest.param("n3 n4 o1 o2", "1234", id="held until the end"),
        pytest.param("", "", id="nothing"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_each_message_is_given_once_and_in_order(order: str, given: str, together: bool) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    steps = [(world.feed if step[0] == "o" else world.feed_next, step[1:].encode()) for step in order.split()]
    if together:
        for feed in (world.feed, world.feed_next) if order.startswith("o") else (world.feed_next, world.feed):
            feed(b"".join(msg("s", sub.sid, data) for each, data in steps if each == feed))
    else:
        for feed, data in steps:
            feed(msg("s", sub.sid, data))
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert b"".join(read(sub)).decode() == given
    assert world.session.stats.in_msgs == len(given)


@pytest.mark.parametrize("apart", ["subject", "reply", "headers", "data"])
def test_copies_are_the_same_to_the_last_byte(apart: str) -> None:
    world = pair()
    sub = world.session.subscribe(">")
    spreading(world, sub)
    one = msg("s", sub.sid, b"x", reply="r", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n")
    other = {
        "subject": msg("t", sub.sid, b"x", reply="r", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n"),
        "reply": msg("s", sub.sid, b"x", reply="q", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n"),
        "headers": msg("s", sub.sid, b"x", reply="r", header_block=b"NATS/1.0\r\nA: 2\r\n\r\n"),
        "data": msg("s", sub.sid, b"y", reply="r", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n"),
    }[apart]
    world.feed(one)
    world.feed_next(other)
    world.feed_next(one)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert sub.pending_msgs == 2


def test_a_copy_may_come_after_the_old_connection_is_gone() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    world.feed(msg("s", sub.sid, b"1") + msg("s", sub.sid, b"2"))
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    world.feed(msg("s", sub.sid, b"1") + msg("s", sub.sid, b"2") + msg("s", sub.sid, b"3"))
    assert read(sub) == [b"1", b"2", b"3"]
    world.feed(msg("s", sub.sid, b"1"))
    assert read(sub) == [b"1"]  # one copy each
    world.feed(PONG)
    world.wait(LINGER)
    world.feed(msg("s", sub.sid, b"2"))
    assert read(sub) == [b"2"]


def test_copies_are_waited_for_however_far_the_new_connection_is_behind() -> None:
    """Or the process: who is stopped for long is told the time before what has arrived meanwhile."""
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    world.feed(msg("s", sub.sid, b"1") + msg("s", sub.sid, b"2"))
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.words() == ["PING"]
    world.wait(LINGER * 3)
    world.feed(msg("s", sub.sid, b"1") + PONG)
    world.wait(LINGER / 2)
    world.feed(msg("s", sub.sid, b"2"))  # other servers may be later still, but not for long
    assert read(sub) == [b"1", b"2"]
    world.wait(LINGER)
    assert world.session.successor is None


def test_where_each_copy_has_come_none_is_waited_for() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    for feed in (world.feed, world.feed_next):
        feed(msg("s", sub.sid, b"1"))
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.session.successor is None
    assert world.words() == []


@pytest.mark.parametrize("why", ["another lame duck", "a drain"])
def test_a_copy_may_come_late_although_something_begins(why: str) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    world.feed(msg("s", sub.sid, b"1"))
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert read(sub) == [b"1"]
    if why == "a drain":
        world.session.drain(now=world.now)
        world.pump()
    else:
        world.feed(info(server_id="B", ldm=True, connect_urls=["10.0.0.3:4222"]))
        world.wait(LINGER * 2)
    world.feed(msg("s", sub.sid, b"1") + msg("s", sub.sid, b"2"))
    assert read(sub) == [b"2"]
    if why == "another lame duck":
        world.feed(PONG)
        world.wait(LINGER / 2)
        assert world.next_dial is None
        world.wait(LINGER / 2)
        assert world.next_dial is not None


def test_a_lame_duck_that_is_lost_before_it_can_be_left_is_lost() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    moved(world, sub)
    world.feed(info(server_id="B", ldm=True, connect_urls=["10.0.0.3:4222"]))
    world.cut()
    world.wait(LINGER)
    world.up(server_id="C")
    world.wait(LINGER)
    assert world.next_dial is None


def test_what_a_group_gets_has_no_copies() -> None:
    world = pair()
    sub = world.session.subscribe("s", queue="q")
    spreading(world, sub)
    world.feed(msg("s", sub.sid, b"1"))
    world.feed_next(msg("s", sub.sid, b"1"))
    assert read(sub) == [b"1", b"1"]


def test_a_reply_is_taken_from_whichever_has_it_first() -> None:
    world = pair()
    first = world.session.request("r")
    world.pump()
    inbox = world.session._traffic.inbox
    reply = f"{inbox.subject[:-1]}{next(iter(inbox._waiting))}"
    dialling(world)
    world.accept_next()
    world.feed_next(B)
    world.feed_next(PONG)
    assert world.next_words()[-2:] == [f"SUB {inbox.subject} 1", "PING"]
    world.feed_next(PONG)
    world.events()
    world.feed_next(msg(reply, 1, b"answer"))
    [received] = world.events_of(ReplyReceived)
    assert (received.token, received.message.data) == (first, b"answer")
    world.feed_next(msg(reply, 1, b"answer"))
    world.feed(msg(reply, 1, b"answer"))
    assert world.events_of(ReplyReceived) == []
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    world.wait(LINGER * 2)
    world.feed(msg(reply, 1, b"answer") + PONG)  # a copy may be late here, too
    assert world.session.stats.dropped_replies == 0
    world.wait(LINGER)
    assert world.session.successor is None


def test_too_much_of_which_there_is_no_copy_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nats_proto._session.overlap.MAX_HELD_MSGS", 10)
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    world.words()
    for number in range(12):
        world.feed_next(msg("s", sub.sid, b"%d" % number))
    assert world.words() == [f"UNSUB {sub.sid}", "PING"]
    world.feed(PONG)
    assert len(read(sub)) == 12


def test_too_much_before_it_has_joined_gives_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nats_proto._session.overlap.MAX_HELD_MSGS", 10)
    world = pair()
    sub = world.session.subscribe("s")
    joined(world, sub)
    world.feed_next(b"".join(msg("s", sub.sid, b"%d" % number) for number in range(12)))
    assert world.session.connected_url == "nats://10.0.0.1:4222"
    assert any(isinstance(command, CloseSuccessor) for command in world.commands)
    assert read(sub) == []


def test_too_much_while_parting_ends_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nats_proto._session.overlap.MAX_HELD_MSGS", 10)
    world = pair()
    sub = world.session.subscribe("s")
    parting(world, sub)
    for number in range(21):
        assert world.session.connected_url == "nats://10.0.0.1:4222"
        world.feed_next(msg("s", sub.sid, b"%d" % number))
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    assert len(read(sub)) == 21


# --- subscriptions meanwhile -----------------------------------------------------------------------------------------


def test_both_hear_of_subscriptions_that_come_and_go() -> None:
    world = pair()
    stays, goes = world.session.subscribe("stays"), world.session.subscribe("goes")
    spreading(world, stays, goes)
    world.words()
    comes = world.session.subscribe("comes", queue="q")
    world.session.unsubscribe(goes)
    world.pump()
    assert world.words() == world.next_words() == [f"SUB comes q {comes.sid}", f"UNSUB {goes.sid}"]
    drains = world.session.subscribe("drains")
    world.session.drain_subscription(drains, now=world.now)
    world.pump()
    assert world.words() == world.next_words() == [f"SUB drains {drains.sid}", f"UNSUB {drains.sid}"]
    world.wait(SPREAD_TIME)
    assert world.words() == [f"UNSUB {stays.sid}", f"UNSUB {comes.sid}", "PING"]
    world.feed(PONG)
    assert world.words() == ["PING"]
    assert not drains.closed
    world.feed(PONG)
    assert drains.closed


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("when", ["joined", "spreading"])
def test_a_drain_waits_for_what_both_give(when: str, lost: bool) -> None:
    """The new server may have sent a message before it read the UNSUB: to a member of a group, and to nobody else."""
    world = pair()
    sub, plain = world.session.subscribe("s", queue="q"), world.session.subscribe("plain")
    joined(world, sub, plain) if when == "joined" else spreading(world, sub, plain)
    world.words()
    for one in (sub, plain):
        world.session.drain_subscription(one, now=world.now)
    world.pump()
    assert world.words() == world.next_words() == [f"UNSUB {sub.sid}", f"UNSUB {plain.sid}"]
    world.feed(msg("s", sub.sid, b"1") + msg("plain", plain.sid, b"1"))
    world.feed_next(msg("s", sub.sid, b"2") + msg("plain", plain.sid, b"1") + msg("plain", plain.sid, b"2"))
    if lost:
        world.cut()
    else:
        if when == "joined":
            world.feed_next(PONG)
        world.wait(SPREAD_TIME)
        assert world.words() == ["PING"]
        world.feed_next(msg("s", sub.sid, b"3"))
        world.feed(PONG)
    assert world.words() == ["PING"]
    if lost and when == "joined":
        world.feed(PONG)  # of the PING behind the subscriptions
    world.feed(msg("s", sub.sid, b"4"))
    assert (sub.closed, plain.closed) == (False, False)
    world.feed(PONG)
    assert (sub.closed, plain.closed) == (True, True)
    assert read(sub) == ([b"1", b"2", b"4"] if lost else [b"1", b"2", b"3", b"4"])
    assert read(plain) == [b"1", b"2"]


@pytest.mark.parametrize("queue", ["q", None])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("when", ["spreading", "joined"])
def test_a_session_drains_at_the_new_server_from_there_on(when: str, alone: bool, queue: str | None) -> None:
    """What that has given to a member of a group already, or gives before it reads the UNSUB, nobody else gets."""
    world = pair()
    sub = world.session.subscribe("s", queue=queue)
    spreading(world, sub) if when == "spreading" else joined(world, sub)
    world.words()
    if alone:
        world.session.drain_subscription(sub, now=world.now)
        world.pump()
        assert world.words() == world.next_words() == [f"UNSUB {sub.sid}"]
    world.session.drain(now=world.now)
    world.pump()
    world.feed_next(msg("s", sub.sid, b"2"))
    if when == "joined":  # the new server has not answered yet: it may be one that never does
        assert world.words() == ([] if alone else [f"UNSUB {sub.sid}"])
        if not alone:
            assert world.next_words() == [f"UNSUB {sub.sid}"]
        world.feed_next(PONG)
        assert world.words() == ["PING"]
    else:
        assert world.words() == (["PING"] if alone else [f"UNSUB {sub.sid}", "PING"])
    world.feed(msg("s", sub.sid, b"1") + PONG)
    # While parting the UNSUB waits behind what is published. The last PING: copies may be late.
    copies = [] if queue else ["PING"]
    assert world.words() == [*([] if alone or when == "joined" else [f"UNSUB {sub.sid}"]), "PING", *copies]
    world.feed(msg("s", sub.sid, b"3") + PONG)
    assert read(sub) == ([b"2", b"1", b"3"] if queue else [b"1", b"2", b"3"])
    world.session.subscription_progress(now=world.now)
    world.pump()
    assert world.words() == ["PING"]
    world.feed(PONG * (1 + len(copies)))
    assert world.events()[-1] == Closed(error=None)
    assert world.session.connected_url is None


@pytest.mark.parametrize("when", ["joined", "parting"])
def test_a_process_that_was_stopped_reads_before_it_gives_up(when: str) -> None:
    """Who closes a connection that has answered loses what it has given."""
    world = pair()
    sub = world.session.subscribe("s", queue="q")
    joined(world, sub) if when == "joined" else parting(world, sub)
    commands = len(world.commands)
    world.now += 30.0
    world.wait(0.0)
    assert len(world.commands) == commands
    feed = world.feed_next if when == "joined" else world.feed
    feed(msg("s", sub.sid, b"1") + PONG)
    world.wait(SPREAD_TIME)
    if when == "joined":
        world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    assert read(sub) == [b"1"]


@pytest.mark.parametrize("queue", ["q", None])
@pytest.mark.parametrize("how", ["lost", "silent"])
def test_a_session_that_drains_does_not_go_to_a_server_that_does_not_answer(how: str, queue: str | None) -> None:
    """What that has given to a member of a group is lost. Of all else there are copies."""
    world = pair()
    sub = world.session.subscribe("s", queue=queue)
    joined(world, sub)
    world.words()
    world.session.drain(now=world.now)
    world.pump()
    assert world.words() == [f"UNSUB {sub.sid}"]
    world.cut_next() if how == "lost" else world.wait(2.0)
    assert world.next_dial is None
    assert world.session.successor is None
    assert world.words() == ["PING"]
    world.feed(msg("s", sub.sid, b"1") + PONG)
    assert read(sub) == [b"1"]
    world.session.subscription_progress(now=world.now)
    world.pump()
    world.feed(PONG)
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ConnectionLostError) == (queue is not None)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("confirmed", [False, True])
def test_a_session_that_drains_goes_on_at_the_new_server_if_the_old_one_is_lost(when: str, confirmed: bool) -> None:
    """Nothing is lost of what the new server has given, nor of what waits. What the old one owed, it is told."""
    world = pair()
    sub, member = world.session.subscribe("s"), world.session.subscribe("s", queue="q")
    spreading(world, sub, member)
    world.next_room = 0  # else the old one would be left at its PONG
    late = world.session.subscribe("late")
    world.wait(SPREAD_TIME)
    world.session.publish("p", b"waits")
    world.feed_next(msg("s", sub.sid, b"held") + msg("s", member.sid, b"given"))
    world.adopts = False
    if when == "before":
        world.session.drain(now=world.now)
    if confirmed:
        world.feed(PONG)
    world.cut()
    world.next_room = None
    world.pump()
    if when == "after":
        world.session.drain(now=world.now)
    world.pump()
    assert world.session.status is SessionStatus.DRAINING_SUBS
    assert world.session.successor is not None
    assert (sub.closed, member.closed) == (False, False)
    world.adopts = True
    world.pump()
    assert world.session.status is SessionStatus.DRAINING_SUBS
    words = [f"SUB late {late.sid}", *(f"UNSUB {each.sid}" for each in (sub, member, late)), "PUB p [5]", "PING"]
    assert world.words() == words
    world.feed(msg("s", member.sid, b"more") + PONG)
    assert sub.closed
    assert read(sub) == [b"held"]
    assert read(member) == [b"given", b"more"]
    world.session.subscription_progress(now=world.now)
    world.pump()
    assert world.words() == ["PING"]
    world.feed(PONG)
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    if when == "before" and not confirmed:
        assert isinstance(closed.error, ConnectionLostError)
        assert str(closed.error) == (
            "drain: one of two connections was lost; its server did not confirm that it had sent everything"
        )
    else:
        assert closed.error is None


@pytest.mark.parametrize("lost", ["", "before", "after"])
def test_a_session_without_subscriptions_sends_all_when_it_drains_on_its_way(lost: str) -> None:
    world = parting(pair())
    world.adopts = False
    world.session.publish("p", b"x")
    if lost == "before":
        world.cut()
    world.session.drain(now=world.now)
    world.pump()
    if lost == "after":
        world.cut()
    elif not lost:
        world.feed(PONG)
    assert world.session.status is not SessionStatus.CLOSED
    world.adopts = True
    world.pump()
    assert world.words() == ["PUB p [1]", "PING"]
    world.feed(PONG)
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ConnectionLostError) == (lost == "after")
    assert closed.unsent_msgs == 0


@pytest.mark.parametrize("drains", [False, True])
def test_both_lost_before_one_is_adopted_leave_what_both_have_said(drains: bool) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    parting(world, sub)
    world.feed(msg("s", sub.sid, b"1"))
    world.feed_next(msg("s", sub.sid, b"1") + msg("s", sub.sid, b"2"))
    world.adopts = False
    world.cut()
    if drains:
        world.session.drain(now=world.now)
        world.pump()
    world.cut_next()
    assert read(sub) == [b"1", b"2"]
    assert sub.closed == drains
    if drains:
        world.session.subscription_progress(now=world.now)
        world.pump()
        closed = world.events()[-1]
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, ConnectionLostError)
        assert world.dial is None
    else:
        assert world.session.status is SessionStatus.RECONNECTING


@pytest.mark.parametrize("queue", ["q", None])
@pytest.mark.parametrize("adopts", [False, True])
def test_a_drain_on_the_way_ends_at_the_new_server_if_the_old_one_is_lost(queue: str | None, adopts: bool) -> None:
    world = pair()
    sub = world.session.subscribe("s", queue=queue)
    parting(world, sub)
    world.next_words()
    world.adopts = adopts
    if adopts:
        world.session.drain_subscription(sub, now=world.now)
        world.cut()
    else:
        world.cut()
        world.session.drain_subscription(sub, now=world.now)
        world.adopts = True
    world.pump()
    assert not sub.closed
    assert world.words() == [f"UNSUB {sub.sid}", "PING"]
    world.feed(msg("s", sub.sid, b"1") + PONG)
    assert sub.closed
    assert read(sub) == [b"1"]


@pytest.mark.parametrize("how", ["failed", "cancelled", "both lost"])
def test_a_drain_ends_where_there_is_nowhere_to_go(how: str) -> None:
    world = pair()
    sub = world.session.subscribe("s", queue="q")
    spreading(world, sub)
    world.session.drain_subscription(sub, now=world.now)
    world.pump()
    world.words()
    match how:
        case "failed":
            world.cut_next()
        case "cancelled":
            world.session.close(now=world.now)
            world.pump()
        case _:
            world.cut_next()
            world.cut()
    if how == "failed":
        assert world.words() == ["PING"]
        world.feed(msg("s", sub.sid, b"1") + PONG)
        assert read(sub) == [b"1"]
    assert sub.closed


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("adopts", [False, True])
def test_what_changes_while_parting_the_new_one_hears_first(lost: bool, adopts: bool) -> None:
    world = pair()
    stays, goes, limited = (world.session.subscribe(subject) for subject in ("stays", "goes", "limited"))
    parting(world, stays, goes, limited)
    world.adopts = adopts
    comes = world.session.subscribe("comes")
    short = world.session.subscribe("short")
    world.session.unsubscribe(short)
    world.session.unsubscribe(goes)
    world.session.unsubscribe(limited, max_msgs=5)
    world.session.publish("p", b"x")
    world.pump()
    assert world.words() == world.next_words() == []
    if lost:
        world.cut()
    else:
        world.feed(PONG)
    if not adopts:
        assert world.words() == []
        world.session.publish("p", b"xy")
        world.adopts = True
        world.pump()
    words = world.words()
    published = ["PUB p [1]"] if adopts else ["PUB p [1]", "PUB p [2]"]
    assert words[-len(published) :] == published
    assert sorted(set(words)) == sorted(
        {f"SUB comes {comes.sid}", f"UNSUB {goes.sid}", "UNSUB 3 5", *published}
        | (set() if lost else {f"SUB short {short.sid}", f"UNSUB {short.sid}"})
    )
    assert words.count(f"SUB comes {comes.sid}") == 1
    assert world.session.status is SessionStatus.CONNECTED
    assert world.session.connected_url == "nats://10.0.0.2:4222"


@pytest.mark.parametrize("already", [0, 2])
def test_a_maximum_counts_over_both(already: int) -> None:
    world = pair()
    sub = world.session.subscribe("s", max_msgs=5)
    world.pump()
    for number in range(already):
        world.feed(msg("s", sub.sid, b"before %d" % number))
    spreading(world, sub)
    world.feed(msg("s", sub.sid, b"both"))
    world.feed_next(msg("s", sub.sid, b"both"))
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    left = 5 - already - 1
    assert world.words()[-1] == f"UNSUB {sub.sid} {1 + left}"  # of which its server has sent one
    for number in range(left):
        world.feed(msg("s", sub.sid, b"after %d" % number))
    assert sub.closed
    assert len(read(sub)) == 5


@pytest.mark.parametrize("lost", [False, True])
def test_a_member_with_a_maximum_is_known_to_one_server_at_a_time(lost: bool) -> None:
    """Two of them would give more than that, and what is more nobody would get."""
    world = pair()
    plain, member = world.session.subscribe("s"), world.session.subscribe("s", queue="q", max_msgs=5)
    spreading(world, plain)
    world.words()
    later = world.session.subscribe("t", queue="q", max_msgs=2)
    world.pump()
    assert world.words() == [f"SUB t q {later.sid}", f"UNSUB {later.sid} 2"]
    assert world.next_words() == []
    world.feed(msg("s", member.sid, b"1") + msg("s", member.sid, b"2"))
    if lost:
        world.cut()
    else:
        world.wait(SPREAD_TIME)
        assert world.words() == [f"UNSUB {plain.sid}", f"UNSUB {member.sid}", f"UNSUB {later.sid}", "PING"]
        world.feed(msg("s", member.sid, b"3") + PONG)
    left = 3 if lost else 2
    assert world.words() == [
        f"SUB s q {member.sid}",
        f"UNSUB {member.sid} {left}",
        f"SUB t q {later.sid}",
        f"UNSUB {later.sid} 2",
    ]
    for number in range(left):
        world.feed(msg("s", member.sid, b"after %d" % number))
    assert member.closed
    assert len(read(member)) == 5


def test_a_member_that_gets_a_maximum_stays_at_the_old_server() -> None:
    world = pair()
    member = world.session.subscribe("s", queue="q")
    spreading(world, member)
    world.words()
    world.feed(msg("s", member.sid, b"1"))
    world.feed_next(msg("s", member.sid, b"2"))
    world.session.unsubscribe(member, max_msgs=10)
    world.pump()
    assert world.next_words() == [f"UNSUB {member.sid}"]
    assert world.words() == [f"UNSUB {member.sid} 9"]  # the new one has given one of them
    world.feed_next(msg("s", member.sid, b"3"))  # before it has read that
    world.pump()
    assert world.words() == [f"UNSUB {member.sid} 8"]
    world.wait(SPREAD_TIME)
    world.words()
    world.feed(msg("s", member.sid, b"4") + PONG)
    assert world.words() == [f"SUB s q {member.sid}", f"UNSUB {member.sid} 6"]
    assert len(read(member)) == 4


def test_the_last_message_of_a_member_may_come_from_either_server() -> None:
    world = pair()
    member = world.session.subscribe("s", queue="q")
    spreading(world, member)
    world.session.unsubscribe(member, max_msgs=1)
    world.pump()
    world.words()
    world.feed_next(msg("s", member.sid, b"1"))
    assert member.closed
    assert read(member) == [b"1"]
    assert world.words() == []


def test_what_the_old_connection_did_not_take_about_subscriptions_the_new_one_does_not_hear_twice() -> None:
    world = pair()
    plain, goes = world.session.subscribe("s"), world.session.subscribe("goes", queue="q")
    drains = world.session.subscribe("drains", queue="q")
    spreading(world, plain, goes, drains)
    world.words()
    world.session.publish("p", b"1")
    comes = world.session.subscribe("comes")
    world.session.unsubscribe(plain, max_msgs=7)
    world.session.unsubscribe(goes)
    world.session.drain_subscription(drains, now=world.now)
    world.session.publish("p", b"22")
    token = world.session.flush()
    world.wait(SPREAD_TIME)
    ends = [f"UNSUB {goes.sid}", f"UNSUB {drains.sid}"]
    assert world.words() == [f"UNSUB {plain.sid} 7", *ends, f"UNSUB {plain.sid}", f"UNSUB {comes.sid}", "PING"]
    assert world.next_words() == [f"SUB comes {comes.sid}", *ends]
    world.feed(PONG)
    assert world.words() == [f"UNSUB {plain.sid} 7", "PUB p [1]", "PUB p [2]", "PING", "PING"]
    world.feed(PONG)
    assert world.events_of(FlushCompleted) == [FlushCompleted(token)]


def test_a_maximum_reached_meanwhile_is_told() -> None:
    world = pair()
    sub = world.session.subscribe("s", max_msgs=1)
    spreading(world, sub)
    world.feed(msg("s", sub.sid, b"1"))
    assert sub.closed
    world.words()
    world.wait(SPREAD_TIME)
    assert world.words() == ["PING"]
    world.feed(PONG)
    assert world.words() == [f"UNSUB {sub.sid}", "PING"]


def test_a_refusal_of_the_new_server_is_the_subscriptions() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    world.feed_next(err('Permissions Violation for Subscription to "s"'))
    assert isinstance(sub.denied, PermissionsError)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert isinstance(sub.denied, PermissionsError)


def test_what_the_old_server_has_refused_last_is_told_behind_an_answer_of_the_new_one() -> None:
    world = pair()
    sub = world.session.subscribe("s", marks=True, asks="jobs")
    parting(world, sub)
    world.feed(err('Permissions Violation for Publish to "jobs"'))
    assert world.words() == []
    world.feed(PONG)
    assert world.words() == ["PING"]
    world.feed(PONG)
    marks = [sub.take_mark() for _ in sub.take(10)]
    assert [mark.count for mark in marks if isinstance(mark, PublishRefused)] == [1]


# --- flushes and publishes meanwhile ---------------------------------------------------------------------------------


def test_a_flush_is_never_lost() -> None:
    world = pair()
    before = world.session.flush()
    spreading(world)
    world.words()
    world.wait(SPREAD_TIME)
    between = world.session.flush()
    world.pump()
    assert world.words() == ["PING"]
    world.feed(PONG + PONG)
    assert world.events_of(FlushCompleted) == [FlushCompleted(before)]
    assert world.words() == ["PING"]
    world.feed(PONG)
    assert world.events_of(FlushCompleted) == [FlushCompleted(between)]


@pytest.mark.parametrize("whose", ["old", "new"])
def test_what_is_half_written_is_waited_for(whose: str) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    spreading(world, sub)
    if whose == "old":
        world.room = 10
        world.session.publish("p", b"x" * 100)
    else:
        world.next_room = 3
        world.session.subscribe("t")
    world.pump()
    world.wait(SPREAD_TIME)
    world.feed(PONG)  # whatever it answers
    assert world.session.connected_url == "nats://10.0.0.1:4222"
    world.room = world.next_room = None
    world.pump()
    world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.2:4222"


def test_an_old_server_that_does_not_answer_is_left_all_the_same() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    parting(world, sub)
    world.session.publish("p", b"kept")
    world.pump()
    world.wait(LAME_DUCK_GRACE)
    assert world.events()[-2:] == [
        Disconnected(server="nats://10.0.0.1:4222", error=None),
        Reconnected(server="nats://10.0.0.2:4222", attempts=1),
    ]
    assert world.words() == ["PUB p [4]"]


# --- there is nowhere to go ------------------------------------------------------------------------------------------

FAILURES = {
    "refused": lambda world: world.refuse_next(),
    "a dial without answer": lambda world: world.wait(2.0),
    "lost": lambda world: (world.accept_next(), world.cut_next()),
    "no INFO": lambda world: (world.accept_next(), world.wait(2.0)),
    "itself": lambda world: (world.accept_next(), world.feed_next(info())),
    "a lame duck": lambda world: (world.accept_next(), world.feed_next(info(server_id="B", ldm=True))),
    "not let in": lambda world: (world.accept_next(), world.feed_next(B), world.feed_next(err("no"))),
    "garbage": lambda world: (world.accept_next(), world.feed_next(b"HTTP/1.1\r\n")),
    "no PONG": lambda world: (world.accept_next(), world.feed_next(B), world.feed_next(PONG), world.wait(2.0)),
}


@pytest.mark.parametrize("how", FAILURES)
def test_as_long_as_there_is_nowhere_to_go_it_stays(how: str) -> None:
    world = pair(reconnect_wait=1.0, max_reconnect_attempts=1)
    sub = world.session.subscribe("s")
    world.pump()
    world.events()
    dialling(world)
    dials = 0
    start = world.now
    while world.now < start + 60.0:
        if world.next_dial is None:
            world.wait(0.1)
            continue
        dials += 1
        FAILURES[how](world)
        assert world.session.status is SessionStatus.CONNECTED
        assert world.session.connected_url == "nats://10.0.0.1:4222"
    world.feed(msg("s", sub.sid, b"still"))
    assert read(sub) == [b"still"]
    assert 5 < dials < 60
    assert len(world.session.servers) == 2
    assert world.events_of(Disconnected) == []
    assert world.session.stats.reconnects == 0
    world.session.publish("p")
    world.pump()
    assert world.words()[-1] == "PUB p [0]"


def test_a_name_may_lead_to_another_server_the_next_time() -> None:
    world = World("nats://nats.svc", two_transports=True, **NO_JITTER).ready()
    world.feed(LDM)
    assert world.events() == [LameDuckMode(server="nats://nats.svc:4222", migrating=True)]
    world.wait(3.0)
    assert world.next_dial is not None
    world.accept_next()
    world.feed_next(B)
    world.feed_next(PONG)
    world.feed_next(PONG)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert [type(event) for event in world.events()] == [Disconnected, Reconnected]


def test_alone_at_an_address_it_stays() -> None:
    world = World("nats://10.0.0.1", two_transports=True, **NO_JITTER).ready()
    world.feed(LDM)
    assert world.events() == [LameDuckMode(server="nats://10.0.0.1:4222", migrating=False)]
    assert world.session.successor is None
    world.feed(info(connect_urls=["10.0.0.2:4222"]))
    assert LameDuckMode(server="nats://10.0.0.1:4222", migrating=True) in world.events()
    world.wait(0.0)
    assert world.next_dial is not None
    world.feed(info(connect_urls=["10.0.0.3:4222"]))  # the one that is dialled is not forgotten over that
    world.accept_next()
    world.feed_next(B)
    world.feed_next(PONG)
    world.feed_next(PONG)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.2:4222"


# --- one of the two ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["dialling", "greeted"])
def test_a_loss_before_it_has_joined_is_a_loss(when: str) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    dialling(world)
    if when == "greeted":
        world.accept_next()
        world.feed_next(B)
    world.events()
    world.cut()
    kinds = [type(event) for event in world.events()]
    assert kinds == [Disconnected, Reconnecting]
    assert world.session.successor is None
    assert world.next_dial is None
    world.up(server_id="B")
    assert world.words() == ["CONNECT", "PING", f"SUB s {sub.sid}"]


@pytest.mark.parametrize("when", ["joined", "spreading", "parting"])
def test_a_loss_after_that_is_made_good_at_once(when: str) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    {"joined": joined, "spreading": spreading, "parting": parting}[when](world, sub)
    world.room = 0 if when == "parting" else 4
    flush = world.session.flush()
    world.session.publish("p", b"not written whole")
    world.pump()
    world.feed_next(msg("s", sub.sid, b"held"))
    world.room = None
    world.events()
    world.cut()
    events = world.events()
    assert [type(event) for event in events[:2]] == [FlushFailed, Disconnected]
    assert isinstance(events[0], FlushFailed)
    assert events[0].token == flush
    assert Reconnected(server="nats://10.0.0.2:4222", attempts=1) in events
    assert world.words() == ["PUB p [17]"]
    assert read(sub) == [b"held"]
    assert world.session.status is SessionStatus.CONNECTED


@pytest.mark.parametrize("lost", [False, True])
def test_a_successor_lost_before_it_is_adopted_is_a_loss(lost: bool) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    parting(world, sub)
    world.adopts = False
    if lost:
        world.cut()
    else:
        world.feed(PONG)
    assert world.session.successor is not None
    world.cut_next()
    assert world.session.successor is None
    assert world.session.status is SessionStatus.RECONNECTING
    assert isinstance(world.session.last_error, ConnectionLostError)
    world.wait(10.0)
    world.up(server_id="B")
    assert f"SUB s {sub.sid}" in world.words()


def test_an_answer_that_comes_late_is_not_the_one_to_the_goodbye() -> None:
    """The new server is a lame duck as well, and has not answered the PING behind the subscriptions."""
    world = pair()
    sub = world.session.subscribe("s")
    joined(world, sub)
    world.cut()
    world.feed(info(server_id="B", ldm=True, connect_urls=["10.0.0.3:4222"]))
    world.wait(LINGER)
    world.accept_next()
    world.feed_next(info(server_id="C"))
    world.feed_next(PONG)
    world.feed_next(PONG)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    world.feed(msg("s", sub.sid, b"1") + PONG)
    assert world.session.connected_url == "nats://10.0.0.3:4222"
    assert read(sub) == [b"1"]


@pytest.mark.parametrize("how", ["answered", "silent", "lost", "closed"])
def test_a_successor_lost_on_the_way_leaves_what_both_have_said(how: str) -> None:
    """The old server sends what it had to send before it read the goodbye. Then its connection is of no use."""
    world = pair()
    plain, member = world.session.subscribe("plain"), world.session.subscribe("s", queue="q")
    parting(world, plain, member)
    world.feed_next(msg("plain", plain.sid, b"1") + msg("plain", plain.sid, b"2"))
    world.commands.clear()
    world.cut_next()
    assert world.session.connected_url == "nats://10.0.0.1:4222"
    world.session.publish("p", b"later")
    world.pump()
    assert world.words() == []
    world.feed(msg("plain", plain.sid, b"1") + msg("s", member.sid, b"3"))
    assert read(plain) == [b"1"]
    match how:
        case "answered":
            world.feed(PONG)
        case "silent":
            world.wait(LAME_DUCK_GRACE)
        case "lost":
            world.cut()
        case _:
            world.session.close(now=world.now)
            world.pump()
            world.wait(1.0)
    assert [type(command) for command in world.commands].count(CloseSuccessor) == 1
    assert world.session.successor is None
    if how != "closed":
        assert world.session.status is SessionStatus.RECONNECTING
        assert (read(plain), read(member)) == ([b"2"], [b"3"])
        world.wait(10.0)
        world.up(server_id="B")
        assert world.words()[-1] == "PUB p [5]"


@pytest.mark.parametrize("queue", ["q", None])
@pytest.mark.parametrize("lost", ["before the answer", "behind it"])
def test_a_session_that_drains_goes_on_at_the_old_server_if_the_new_one_is_lost(lost: str, queue: str | None) -> None:
    world = pair()
    sub = world.session.subscribe("s", queue=queue)
    spreading(world, sub)
    world.next_room = 0
    late = world.session.subscribe("late")
    world.wait(SPREAD_TIME)
    world.words()
    world.session.publish("p", b"waits")
    world.session.drain(now=world.now)
    world.pump()
    world.feed_next(msg("s", sub.sid, b"1"))
    if lost == "before the answer":
        world.cut_next()
        world.feed(PONG)
    else:
        world.feed(PONG)
        world.cut_next()
    assert world.session.successor is None
    assert world.words() == ["PUB p [5]", f"UNSUB {sub.sid}", f"UNSUB {late.sid}", "PING"]
    assert read(sub) == [b"1"]
    world.feed(PONG)
    assert sub.closed
    assert world.words() == ["PING"]
    world.feed(PONG)
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert closed.unsent_msgs == 0
    assert isinstance(closed.error, ConnectionLostError) == (queue is not None)


@pytest.mark.parametrize("confirmed", [False, True])
def test_both_lost_one_after_the_other_leave_a_drain_what_both_have_said(confirmed: bool) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    parting(world, sub)
    world.session.drain(now=world.now)
    world.pump()
    world.feed_next(msg("s", sub.sid, b"1"))
    world.cut_next()
    if confirmed:
        world.feed(PONG)
    world.cut()
    assert sub.closed
    assert read(sub) == [b"1"]
    world.session.subscription_progress(now=world.now)
    world.pump()
    closed = world.events()[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, ConnectionLostError)


def test_a_lame_duck_may_be_followed_by_another() -> None:
    world = pair()
    sub = world.session.subscribe("s")
    moved(world, sub)
    world.events()
    world.feed(info(server_id="B", ldm=True))
    assert world.events() == [LameDuckMode(server="nats://10.0.0.2:4222", migrating=False)]
    world.feed(info(server_id="B", ldm=True, connect_urls=["10.0.0.1:4222"]))
    world.wait(3.0)
    assert world.next_dial is not None
    world.accept_next()
    world.feed_next(info(server_id="C"))
    world.feed_next(PONG)
    world.feed_next(PONG)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.1:4222"


@pytest.mark.parametrize("old_is_lost", [False, True])
def test_a_server_that_becomes_a_lame_duck_as_it_is_adopted_is_left_as_well(old_is_lost: bool) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    parting(world, sub)
    world.events()
    for ldm in (True, False):  # said once, and when there is no way back to the old connection any more
        world.feed_next(info(server_id="B", ldm=ldm, connect_urls=["10.0.0.3:4222"]))
    if old_is_lost:
        world.cut()
    else:
        world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    assert LameDuckMode(server="nats://10.0.0.2:4222", migrating=True) in world.events()
    world.wait(LINGER)
    assert world.next_dial is not None
    assert world.next_dial.server.host == "10.0.0.3"


@pytest.mark.parametrize("queue", ["q", None])
@pytest.mark.parametrize("when", ["joined", "spreading"])
def test_a_server_that_has_joined_and_becomes_a_lame_duck_is_gone_to_and_left(when: str, queue: str | None) -> None:
    """To drop its connection would lose what it has given to a member. Until it closes it is as good as any."""
    world = pair()
    sub = world.session.subscribe("s", queue=queue)
    joined(world, sub) if when == "joined" else spreading(world, sub)
    world.events()
    world.feed_next(msg("s", sub.sid, b"1"))
    world.feed_next(info(server_id="B", ldm=True, connect_urls=["10.0.0.3:4222"]) + msg("s", sub.sid, b"2"))
    if when == "joined":
        world.feed_next(PONG)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    assert LameDuckMode(server="nats://10.0.0.2:4222", migrating=True) in world.events()
    assert read(sub) == [b"1", b"2"]
    world.wait(LINGER)
    assert world.next_dial is not None
    assert world.next_dial.server.host == "10.0.0.3"


def test_a_lame_duck_that_is_lost_before_it_is_gone_to_is_forgotten() -> None:
    world = pair("nats://10.0.0.1, nats://10.0.0.2, nats://10.0.0.3")
    sub = world.session.subscribe("s", queue="q")
    spreading(world, sub)
    world.events()
    world.feed_next(info(server_id="B", ldm=True))
    world.cut_next()
    world.wait(0.0)
    world.accept_next()
    world.feed_next(info(server_id="C"))
    world.feed_next(PONG)
    world.feed_next(PONG)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.3:4222"
    assert world.events_of(LameDuckMode) == []


@pytest.mark.parametrize(
    ("when", "how"), [("dialling", "close"), ("dialling", "drain"), ("spreading", "close")], ids=" ".join
)
def test_a_session_that_ends_stays_where_it_is(when: str, how: str) -> None:
    world = pair()
    dialling(world) if when == "dialling" else spreading(world)
    if how == "close":
        world.session.close(now=world.now)
    else:
        world.session.drain(now=world.now)
    world.pump()
    assert world.session.successor is None
    assert any(isinstance(command, CloseSuccessor) for command in world.commands)
    if how == "drain":
        world.feed(PONG)
    assert isinstance(world.events()[-1], Closed)


@pytest.mark.parametrize("how", ["close", "drain"])
def test_a_session_that_ends_on_its_way_ends_there(how: str) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    parting(world, sub)
    world.session.publish("p", b"x")
    if how == "close":
        world.session.close(now=world.now)
    else:
        world.session.drain(now=world.now)
    world.pump()
    world.feed(PONG)
    if how == "drain":
        assert world.words() == ["PUB p [1]", f"UNSUB {sub.sid}", "PING"]
        world.feed(PONG)
        assert world.words() == ["PING"]
        world.feed(PONG)
    else:
        assert world.words()[-1] == "PUB p [1]"
    assert world.events()[-1] == Closed(error=None)


def test_a_user_in_a_hurry_need_not_wait_for_what_comes_at_once() -> None:
    world = parting(pair())
    world.adopts = False
    world.feed(PONG)
    world.commands.clear()
    token = world.session.request("r")
    world.session.reconnect(now=world.now)
    world.pump()
    assert world.commands == []
    world.adopts = True
    world.pump()
    assert len(world.events_of(Reconnected)) == 1
    assert world.session.pending_requests == 1
    assert token


@pytest.mark.parametrize("when", ["dialling", "spreading", "parting"])
def test_a_user_in_a_hurry_gets_another_connection_at_once(when: str) -> None:
    world = pair()
    sub = world.session.subscribe("s")
    {"dialling": dialling, "spreading": lambda w: spreading(w, sub), "parting": lambda w: parting(w, sub)}[when](world)
    world.session.reconnect(now=world.now)
    world.pump()
    if when == "dialling":
        world.up(server_id="B")
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    assert len(world.events_of(Reconnected)) == 1


# --- misuse ----------------------------------------------------------------------------------------------------------


def test_misuse_raises_and_changes_nothing() -> None:
    world = pair()
    with pytest.raises(LocalProtocolError):
        world.session.transport_adopted(now=world.now)
    dialling(world)
    successor = world.session.successor
    assert successor is not None
    with pytest.raises(LocalProtocolError):
        world.session.transport_adopted(now=world.now)
    with pytest.raises(LocalProtocolError):
        successor.data_sent(1)
    world.accept_next()
    with pytest.raises(LocalProtocolError):
        successor.transport_connected(now=world.now)
    with pytest.raises(LocalProtocolError):
        successor.transport_failed(OSError(), now=world.now)
    world.feed_next(B + PING)
    world.feed_next(PONG)
    world.feed_next(PONG)
    world.wait(SPREAD_TIME)
    world.feed(PONG)
    assert world.session.connected_url == "nats://10.0.0.2:4222"
    successor.receive_data(b"garbage\r\n", now=world.now)
    successor.transport_lost(OSError(), now=world.now)
    assert successor.data_to_send() == []
    assert world.session.connected_url == "nats://10.0.0.2:4222"


def test_an_error_of_its_own_is_the_sessions_last_error() -> None:
    world = pair()
    dialling(world)
    world.wait(2.0)
    assert isinstance(world.session.last_error, NATSTimeoutError)
