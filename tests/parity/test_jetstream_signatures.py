"""JetStream in both clients is one interface, written twice."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import nats_anyio.jetstream
import nats_sync.jetstream
from tests.parity.test_signatures import anyio_name, shape

CLASSES = sorted(name for name in nats_sync.jetstream.__all__ if inspect.isclass(getattr(nats_sync.jetstream, name)))

AT_ONCE = {
    "Consumer": {"fetch", "messages"},
    "JetStreamMessage": {"ack_subject", "settle"},
    "Messages": {"stop"},
    "Publisher": {"look"},
    "JetStream": {"consumer", "publisher", "stream", "stream_names", "streams"},
    "Stream": {"consumer", "consumer_names", "consumers"},
}
"""Methods that ask nothing, and so take no ``await`` in nats-anyio. Properties take none anyway."""


def members(kind: type[Any]) -> dict[str, Any]:
    return {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}


def awaited(what: Any) -> list[tuple[str, str, Any, str]]:
    """A signature, without what is only asynchronous."""
    return [
        (name, kind, default, text.replace("AsyncIterator", "Iterator")) for name, kind, default, text in shape(what)
    ]


def test_the_modules_offer_the_same_names() -> None:
    assert nats_sync.jetstream.__all__ == nats_anyio.jetstream.__all__
    for name in nats_sync.jetstream.__all__:
        ours, theirs = getattr(nats_sync.jetstream, name), getattr(nats_anyio.jetstream, name)
        assert ours is theirs or ours.__module__.startswith("nats_sync."), f"{name}: one thing, not two"


@pytest.mark.parametrize("class_name", CLASSES)
def test_each_member(class_name: str) -> None:
    ours, theirs = (getattr(package.jetstream, class_name) for package in (nats_sync, nats_anyio))
    if ours is theirs:
        return
    assert {anyio_name(class_name, name) for name in members(ours)} == members(theirs).keys()
    assert ours.__doc__
    assert theirs.__doc__
    for name, member in members(ours).items():
        other = members(theirs)[anyio_name(class_name, name)]
        assert type(member) is type(other), name
        if isinstance(member, property):
            assert awaited(member.fget) == awaited(other.fget), name
            assert member.__doc__ == other.__doc__, name
        elif inspect.isfunction(member):
            assert awaited(member) == awaited(other), name
            at_once = name in AT_ONCE.get(class_name, set())
            assert inspect.iscoroutinefunction(other) == (not at_once), name
            assert member.__doc__, name
            assert other.__doc__, name
