"""`Session.only_messages` and `only_written`: an adapter looks for nothing else then, so nothing may have come up."""

from __future__ import annotations

import pytest

from nats_proto import Message, MessagesAvailable, ReplyReceived, RequestFailed, Session
from nats_proto.errors import NoRespondersError
from tests.proto.driver import OK, PING, PONG, World, err, info, msg


def subscribed(**options: object) -> World:
    world = World(**options).ready()  # type: ignore[arg-type]  # options of any kind
    world.session.subscribe("s")
    world.pump()
    world.events()
    return world


def received(session: Session, data: bytes, now: float) -> bool:
    session.receive_data(data, now=now)
    return session.only_messages


@pytest.mark.parametrize(
    "data", [msg("s", 1, b"x"), msg("s", 1, b"x") * 9, msg("s", 1, b"x")[:9], msg("unknown", 7), b""], ids=repr
)
def test_messages_and_parts_of_them_are_only_messages(data: bytes) -> None:
    world = subscribed()
    deadline = world.session.next_timeout()
    assert received(world.session, data, world.now)
    assert all(isinstance(event, MessagesAvailable) for event in world.session.events_received())
    assert world.session.commands_to_run() == []
    assert world.session.data_to_send() == []
    assert world.session.next_timeout() == deadline


@pytest.mark.parametrize("behind", [PING, err("Stale Connection"), info(ldm=True)], ids=repr)
@pytest.mark.parametrize("messages", [0, 1, 9])
def test_what_may_need_an_answer_is_not(messages: int, behind: bytes) -> None:
    world = subscribed()
    assert not received(world.session, msg("s", 1, b"x") * messages + behind, world.now)


def test_nor_is_what_comes_while_a_pong_is_owed() -> None:
    world = subscribed()
    assert not received(world.session, PING, world.now)
    assert not received(world.session, msg("s", 1, b"x"), world.now)
    assert world.session.data_to_send() == [PONG]
    assert received(world.session, msg("s", 1, b"x") + OK, world.now)


def test_nor_is_anything_at_the_end() -> None:
    world = subscribed()
    world.session.drain(now=world.now)
    assert not received(world.session, msg("s", 1, b"x"), world.now)
    world.session.close(now=world.now)
    assert not received(world.session, msg("s", 1, b"x"), world.now)


def test_nor_is_a_message_that_is_handed_back() -> None:
    world = World().ready()
    sub = world.session.subscribe("s", hand_back=b"back")
    world.pump()
    world.session.unsubscribe(sub)
    world.pump()
    assert not received(world.session, msg("s", sub.sid, b"x", reply="r"), world.now)
    assert b"".join(world.session.data_to_send()) == b"PUB r 4\r\nback\r\n"


def test_nor_is_anything_without_a_connection() -> None:
    world = World()
    assert not received(world.session, msg("s", 1, b"x"), world.now)
    world = subscribed()
    world.session.transport_lost(OSError("cut"), now=world.now)
    assert not received(world.session, msg("s", 1, b"x"), world.now)


# --- messages that are given at once ----------------------------------------------------------------------------------


def test_messages_behind_what_waits_to_be_heard_keep_their_order() -> None:
    """A connection that says something else in one chunk with messages, and then messages alone: one order."""
    world = subscribed()
    sub = world.session.subscribe("t")
    world.pump()
    world.session.receive_data(msg("s", 1, b"1") + PING + msg("s", 1, b"2"), now=world.now)
    world.session.receive_data(msg("s", 1, b"3"), now=world.now)
    world.session.receive_data(msg("s", 1, b"4") + msg("t", 2, b"5"), now=world.now)
    first = world.session._traffic.subs.get(1)
    assert first is not None
    assert [message.data for message in first.messages] == [b"1", b"2", b"3", b"4"]
    assert [message.data for message in sub.messages] == [b"5"]
    assert world.session.stats.in_msgs == 5


def no_message(subject: str, sid: int) -> bytes:
    """The server's own answer that nobody is subscribed."""
    block = b"NATS/1.0 503\r\n\r\n"
    return b"HMSG %b %d %d %d\r\n%b\r\n" % (subject.encode(), sid, len(block), len(block), block)


def test_each_reply_of_one_chunk_completes_its_own_request() -> None:
    world = World().ready()
    session = world.session
    tokens = [session.request("s", b"x"), session.request("s", b"x", accept=lambda message: message.data != b"no")]
    tokens += [session.request("s", b"x") for _ in range(3)]
    world.pump()
    inbox = session._traffic.inbox
    sid = inbox.sid
    assert sid is not None
    subjects = [inbox.subject[:-1] + inbox._tokens[token] for token in tokens]
    session.cancel_request(tokens[4])
    chunk = [
        msg(subjects[3], sid, b"3"),
        msg(subjects[1], sid, b"no"),
        no_message(subjects[2], sid),
        msg(subjects[4], sid, b"late"),
        msg(subjects[0], sid, b"0"),
        msg(subjects[0], sid, b"twice"),
        msg(subjects[1], sid, b"yes"),
    ]
    session.receive_data(b"".join(chunk), now=world.now)
    events = session.events_received()
    assert [event.token for event in events if isinstance(event, (ReplyReceived, RequestFailed))] == [
        tokens[3], tokens[2], tokens[0], tokens[1],
    ]  # fmt: skip
    answers = [event.message.data for event in events if isinstance(event, ReplyReceived)]
    assert answers == [b"3", b"0", b"yes"]
    assert [type(event.error) for event in events if isinstance(event, RequestFailed)] == [NoRespondersError]
    assert session.stats.dropped_replies == 3
    assert session.pending_requests == 0
    assert not inbox._tokens


@pytest.mark.parametrize("data", [msg("s", 1, b"x"), msg("s", 1, b"x") * 2], ids=repr)
def test_messages_to_a_connection_that_has_not_opened_are_not_given(data: bytes) -> None:
    world = World()
    world.session.transport_connected(now=world.now)
    world.session.receive_data(data, now=world.now)
    assert not world.session.only_messages
    assert not [event for event in world.session.events_received() if isinstance(event, (Message, MessagesAvailable))]
    assert world.session.stats.in_msgs == 0


# --- what was written -------------------------------------------------------------------------------------------------


def written(session: Session) -> bool:
    session.data_sent(sum(map(len, session.data_to_send())))
    return session.only_written


def test_after_a_publish_there_is_only_room() -> None:
    world = subscribed()
    deadline = world.session.next_timeout()
    world.session.publish("s", b"x")
    assert written(world.session)
    assert (world.session.events_received(), world.session.commands_to_run()) == ([], [])
    assert world.session.next_timeout() == deadline
    assert world.session.pending_bytes == 0


def test_it_is_not_all_while_something_waits_to_be_drained() -> None:
    world = subscribed()
    world.session.receive_data(msg("s", 1, b"x"), now=world.now)
    world.session.publish("s", b"x")
    assert not written(world.session)
    assert world.session.events_received()
    world.session.publish("s", b"x")
    assert written(world.session)


@pytest.mark.parametrize("end", ["drain", "close", "reconnect"])
def test_nor_at_an_end(end: str) -> None:
    world = subscribed()
    world.session.publish("s", b"x")
    getattr(world.session, end)(now=world.now)
    assert not written(world.session)


def test_nor_before_the_connection_is_open() -> None:
    world = World()
    world.session.transport_connected(now=world.now)
    world.session.receive_data(info(), now=world.now)
    assert not written(world.session)
