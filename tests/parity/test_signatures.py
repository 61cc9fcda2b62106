"""The two clients are one interface, written twice: the same names, the same parameters, the same types."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import nats_anyio
import nats_proto
import nats_sync

CLASSES = ("Answers", "Client", "Message", "Subscription")

PUBLIC = {
    "Answers": {"close"},
    "Client": {
        "add_service", "close", "connected_url", "drain", "flush", "jetstream", "last_error", "max_payload",
        "name", "new_inbox", "publish", "publish_many", "reconnect", "request", "request_many",
        "request_service", "rtt", "server_info", "servers", "services", "stats", "status", "subscribe",
    },
    "Message": {
        "client", "data", "header_block", "header_error", "headers", "parsed", "reply", "respond", "sid", "size",
        "status", "subject",
    },
    "Subscription": {
        "delivered", "drain", "dropped", "next", "next_batch", "pending", "queue", "sid", "subject", "unsubscribe",
    },
}  # fmt: skip

INTERNAL = {
    ("nats_sync", "Client"): {"drain_timeout", "publish_now", "request_accepted", "unsent"},
    ("nats_sync", "Subscription"): {
        "abandon", "end_with", "handle_messages", "handled", "next_until", "notify", "notify_closed",
        "refusal",
    },
    ("nats_anyio", "Client"): {"drain_timeout", "request_accepted", "unsent"},
    ("nats_anyio", "Subscription"): {
        "abandon", "begin_drain", "end_with", "give_to", "go_on_giving_to", "next_until", "progress", "refusal",
        "wake",
    },
}  # fmt: skip
"""What other modules of the same package call. Not offered to users, and not growing unseen."""

AWAITED = {
    "Answers": {"close"},
    "Client": {"close", "drain", "flush", "publish", "publish_many", "reconnect", "request", "request_service", "rtt"},
    "Message": {"respond"},
    "Subscription": {"drain", "next", "next_batch", "unsubscribe"},
}
"""What takes an ``await`` in nats-anyio. The rest needs none: it does not wait."""

CLOSED = ("Answers", "Batch", "Counters", "FastIngest", "Found", "ObjectReader", "Publisher", "StoredMessages")
RENAMED = {(name, "close"): "aclose" for name in CLOSED}
"""What Python itself calls differently where it is awaited."""

ONLY_IN_ANYIO = {"Connecting"}
"""What connecting gives: a client with threads, a context manager that is entered with ``async with`` with tasks."""


def anyio_name(class_name: str, name: str) -> str:
    return RENAMED.get((class_name, name), name)


def written(annotation: Any) -> str:
    """An annotation as text, without the packages' names and without what only differs by `async`."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))
    text = re.sub(r"\b(?:nats_sync|nats_anyio|nats_proto|typing|collections\.abc)\.(?:\w+\.)*", "", text)
    text = re.sub(r"\b(?:Message|Received)T\b", "Message", text)  # in what is based on no class of messages
    return text.replace("Connecting", "Client")


def shape(function: Any) -> list[tuple[str, str, Any, str]]:
    signature = inspect.signature(function)
    parameters = [
        (parameter.name, parameter.kind.name, parameter.default, written(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    return [*parameters, ("return", "", None, written(signature.return_annotation))]


def test_the_packages_offer_the_same_names() -> None:
    assert set(nats_anyio.__all__) - set(nats_sync.__all__) == ONLY_IN_ANYIO
    assert set(nats_sync.__all__) <= set(nats_anyio.__all__)
    assert nats_sync.__version__ == nats_anyio.__version__ == nats_proto.__version__
    for name in set(nats_sync.__all__) - {*CLASSES, "connect"}:
        assert getattr(nats_sync, name) is getattr(nats_anyio, name), f"{name}: one thing, not two"


def test_connect() -> None:
    assert shape(nats_sync.connect) == shape(nats_anyio.connect)


def test_open_is_what_connect_is_with_threads() -> None:
    """A client that stands alone: `nats_sync.connect` makes one, so nats-sync has no `open`. A task needs an owner."""
    assert not hasattr(nats_sync, "open")
    theirs = [parameter for parameter in shape(nats_anyio.open) if parameter[0] != "task_group"]
    assert shape(nats_sync.connect) == theirs
    assert inspect.iscoroutinefunction(nats_anyio.open)


@pytest.mark.parametrize(("class_name", "name"), [(one, name) for one in CLASSES for name in sorted(PUBLIC[one])])
def test_each_member(class_name: str, name: str) -> None:
    ours = inspect.getattr_static(getattr(nats_sync, class_name), name)
    theirs = inspect.getattr_static(getattr(nats_anyio, class_name), anyio_name(class_name, name))
    assert type(ours) is type(theirs)
    if isinstance(ours, property):
        assert isinstance(theirs, property)
        assert shape(ours.fget) == shape(theirs.fget)
        assert ours.__doc__
        assert theirs.__doc__
    elif inspect.isfunction(ours):
        assert shape(ours) == shape(theirs)
        assert inspect.iscoroutinefunction(theirs) == (name in AWAITED[class_name])
        assert not inspect.iscoroutinefunction(ours)
        assert ours.__doc__
        assert theirs.__doc__


@pytest.mark.parametrize("class_name", CLASSES)
def test_nothing_else_looks_public(class_name: str) -> None:
    for package in (nats_sync, nats_anyio):
        visible = {name for name in dir(getattr(package, class_name)) if not name.startswith("_")}
        public = {anyio_name(class_name, name) if package is nats_anyio else name for name in PUBLIC[class_name]}
        assert visible - INTERNAL.get((package.__name__, class_name), set()) == public, package.__name__


@pytest.mark.parametrize("class_name", CLASSES)
def test_iteration_and_blocks(class_name: str) -> None:
    ours, theirs = getattr(nats_sync, class_name), getattr(nats_anyio, class_name)
    for sync, awaited in (("__iter__", "__aiter__"), ("__next__", "__anext__")):
        assert hasattr(ours, sync) == hasattr(theirs, awaited) == (class_name in ("Answers", "Subscription"))
    entered = class_name in ("Answers", "Client", "Subscription")
    assert hasattr(ours, "__enter__") == entered
    assert hasattr(theirs, "__aenter__") == entered
    assert ours.__doc__
    assert theirs.__doc__


def test_messages_hold_the_same_fields() -> None:
    assert nats_sync.Message.__struct_fields__ == nats_anyio.Message.__struct_fields__
    assert issubclass(nats_sync.Message, nats_proto.Message)
    assert issubclass(nats_anyio.Message, nats_proto.Message)
