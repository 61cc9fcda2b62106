"""Services in both clients are one interface, written twice."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import nats_anyio.services
import nats_proto.services
import nats_sync.services
from tests.parity.test_jetstream_signatures import awaited, members
from tests.parity.test_signatures import anyio_name

OWN = [name for name in nats_sync.services.__all__ if name not in nats_proto.services.__all__]
CLASSES = ("Endpoint", "Found", "Group", "Request", "Service", "Services")

PUBLIC = {
    "Endpoint": {"info", "name", "stats", "stop", "subject"},
    "Found": {"close", "failures"},
    "Group": {"endpoint", "group", "prefix"},
    "Service": {
        "endpoint", "endpoints", "group", "id", "info", "name", "permissions", "reset", "stats", "stop", "stopped",
        "version", "wait",
    },
    "Services": {"info", "ping", "stats"},
}  # fmt: skip
AWAITED = {
    "Endpoint": {"stop"}, "Found": {"close"}, "Request": {"respond", "respond_error"}, "Service": {"stop", "wait"},
}  # fmt: skip
"""What takes an ``await`` in nats-anyio."""


def test_the_modules_offer_the_same_names() -> None:
    assert nats_sync.services.__all__ == nats_anyio.services.__all__
    assert set(OWN) == {*CLASSES, "StatsHandler"}
    for name in set(nats_sync.services.__all__) - set(OWN):
        assert getattr(nats_sync.services, name) is getattr(nats_anyio.services, name), name
        assert getattr(nats_sync.services, name) is getattr(nats_proto.services, name), name


@pytest.mark.parametrize("class_name", CLASSES)
def test_each_member(class_name: str) -> None:
    ours, theirs = (getattr(package.services, class_name) for package in (nats_sync, nats_anyio))
    assert {anyio_name(class_name, name) for name in members(ours)} == members(theirs).keys()
    assert ours.__doc__
    assert theirs.__doc__
    if class_name in PUBLIC:
        assert members(ours).keys() == PUBLIC[class_name]
    for name, member in members(ours).items():
        other: Any = members(theirs)[anyio_name(class_name, name)]
        assert type(member) is type(other), name
        if isinstance(member, property):
            assert awaited(member.fget) == awaited(other.fget), name
            assert member.__doc__ == other.__doc__, name
        elif inspect.isfunction(member):
            assert awaited(member) == awaited(other), name
            assert inspect.iscoroutinefunction(other) == (name in AWAITED.get(class_name, set())), name
            assert member.__doc__, name
            assert other.__doc__, name
