"""Misuse of a session raises before anything is changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nats_proto import Session
from nats_proto.errors import (
    InvalidHeaderError,
    InvalidSubjectError,
    MaxControlLineError,
    MaxPayloadError,
)
from tests.proto.driver import World, msg


def snapshot(value: object, seen: dict[int, object] | None = None) -> object:
    """Everything an object holds, down to plain values; the state of the random source apart."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return "seen"
    seen[id(value)] = value
    names = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    names |= set(getattr(value, "__dict__", {}))
    names -= {"__weakref__", "_rng", "_drawn", "_at"}  # what is drawn from it ahead, and how much of that is used
    names -= {"heads", "_heads"}  # checked subjects that the encoder remembers, and what the tail sees of them
    if type(value).__name__ == "Tail":  # compiled, it has no slots to be found
        names |= {"size", "given", "limit", "msgs", "payload_bytes"}
    if type(value).__name__ == "Requests":
        names |= {"subscribed", "waiting", "tokens"}
    if type(value).__module__.startswith("nats_proto") and names:
        return {name: snapshot(getattr(value, name, None), seen) for name in sorted(names)}
    if isinstance(value, dict):
        return [(repr(key), snapshot(item, seen)) for key, item in value.items()]
    if isinstance(value, (list, tuple)) or type(value).__name__ in ("deque", "WeakSet"):
        return [snapshot(item, seen) for item in list(value)]  # type: ignore[call-overload]
    return copy.copy(value) if isinstance(value, (set, bytearray)) else repr(value)


MISUSE: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("publish", {"subject": ""}, InvalidSubjectError),
    ("publish", {"subject": "a b"}, InvalidSubjectError),
    ("publish", {"subject": "a\r\nPUB b 0"}, InvalidSubjectError),
    ("publish", {"subject": "a.*"}, InvalidSubjectError),
    ("publish", {"subject": 5}, TypeError),
    ("publish", {"subject": "a", "data": "text"}, TypeError),
    ("publish", {"subject": "a", "data": None}, TypeError),
    ("publish", {"subject": "a", "data": 7}, TypeError),
    ("publish", {"subject": "a", "reply": "r >"}, InvalidSubjectError),
    ("publish", {"subject": "a", "headers": {"A\n": "1"}}, InvalidHeaderError),
    ("publish", {"subject": "a", "headers": {"A": "1\r\n"}}, InvalidHeaderError),
    ("publish", {"subject": "a", "data": b"x" * 1001}, MaxPayloadError),
    ("publish", {"subject": "a", "data": b"x" * 990, "headers": {"A": "1"}}, MaxPayloadError),
    ("publish", {"subject": "a" * 5000}, MaxControlLineError),
    ("request", {"subject": "a b"}, InvalidSubjectError),
    ("request", {"subject": "a", "data": "text"}, TypeError),
    ("request", {"subject": "a", "data": b"x" * 1001}, MaxPayloadError),
    ("request", {"subject": "a", "headers": {"": "1"}}, InvalidHeaderError),
    ("subscribe", {"subject": ""}, InvalidSubjectError),
    ("subscribe", {"subject": "a.>.b"}, InvalidSubjectError),
    ("subscribe", {"subject": "a", "queue": "q q"}, InvalidSubjectError),
    ("subscribe", {"subject": "a" * 5000}, MaxControlLineError),
    ("subscribe", {"subject": "a", "max_msgs": 0}, ValueError),
    ("subscribe", {"subject": "a", "max_msgs": -1}, ValueError),
    ("subscribe", {"subject": "a", "max_msgs": 1.5}, TypeError),
    ("subscribe", {"subject": "a", "max_msgs": True}, TypeError),
    ("subscribe", {"subject": "a", "max_msgs": 2**63}, ValueError),
    ("subscribe", {"subject": "a", "max_pending_msgs": -1}, ValueError),
    ("subscribe", {"subject": "a", "max_pending_bytes": -1}, ValueError),
    ("subscribe", {"subject": "a", "max_pending_bytes": "1"}, TypeError),
    ("unsubscribe", {"max_msgs": 0}, ValueError),
    ("unsubscribe", {"max_msgs": 2.0}, TypeError),
    ("unsubscribe", {"max_msgs": 2**64}, ValueError),
    ("unsubscribe", {"max_msgs": 1001}, ValueError),
]


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "away"])
@pytest.mark.parametrize(("call", "arguments", "error"), MISUSE, ids=lambda value: str(value)[:50])
def test_misuse_raises_before_anything_is_changed(
    call: str, arguments: dict[str, Any], error: type[Exception], connected: bool
) -> None:
    world = World().ready(max_payload=1000)
    sub = world.session.subscribe("s", max_msgs=1000)
    world.session.publish("waiting", b"1")
    world.session.request("r")
    world.session.flush()
    world.pump()
    world.feed(msg("s", 1, b"unread"))
    if not connected:
        world.cut()
    before = snapshot(world.session)
    if call == "unsubscribe":
        arguments = {"sub": sub, **arguments}
    with pytest.raises(error):
        getattr(world.session, call)(**arguments)
    assert snapshot(world.session) == before


def test_the_snapshot_sees_what_a_good_call_changes() -> None:
    world = World().ready()
    session: Session[Any] = world.session
    for call in (
        lambda: session.publish("a"),
        lambda: session.subscribe("a"),
        session.flush,
        lambda: session.request("a"),
    ):
        before = snapshot(session)
        assert snapshot(session) == before
        call()
        assert snapshot(session) != before
