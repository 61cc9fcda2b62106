"""`Session.only_messages`: then an adapter looks for nothing but events, so nothing else may have come about."""

from __future__ import annotations

import pytest

from nats_proto import MessagesAvailable, Session
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
