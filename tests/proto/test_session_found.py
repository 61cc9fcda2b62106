"""What the simulated world found in the session, as the smallest tests that show it."""

from __future__ import annotations

import pytest

from nats_proto.errors import OutboundBufferLimitError
from tests.proto.driver import World, info


def test_a_failed_handshake_leaves_nothing_pending() -> None:
    world = World(retry_on_failed_connect=True)
    world.accept()
    world.room = 10  # of CONNECT
    world.feed(info())
    assert world.session.pending_bytes > 0
    world.cut()
    assert world.session.pending_bytes == 0


def test_a_failed_handshake_takes_no_room_from_what_is_buffered() -> None:
    world = World(retry_on_failed_connect=True, pending_size=50)
    world.accept()
    world.room = 0
    world.feed(info())
    world.cut()
    world.session.publish("a", b"taken")
    world.session.publish("a", b"x" * 50)
    with pytest.raises(OutboundBufferLimitError):
        world.session.publish("a", b"refused")
    world.room = None
    assert world.up().words()[2:] == ["PUB a [5]", "PUB a [50]"]


def test_a_drain_in_the_handshake_leaves_nothing_of_it_pending() -> None:
    world = World(retry_on_failed_connect=True)
    world.accept()
    world.room = 0
    world.feed(info())
    world.session.drain(now=world.now)
    assert world.session.pending_bytes == 0


def test_the_moment_to_leave_a_lame_duck_is_a_deadline() -> None:
    world = World("nats://a,nats://b").ready()
    token = world.session.request("svc")
    world.pump()
    world.feed(info(ldm=True))
    assert world.session.connected_url == "nats://a:4222"
    deadline = world.session.next_timeout()
    assert deadline is not None
    assert deadline > world.now
    world.session.cancel_request(token)
    deadline = world.session.next_timeout()
    assert deadline is not None
    assert deadline <= world.now
    world.session.handle_timeout(now=world.now)
    assert world.session.connected_url is None
