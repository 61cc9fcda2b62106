"""JetStream in both clients is one interface, written twice."""

from __future__ import annotations

import ast
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nats_anyio.jetstream
import nats_proto.jetstream
import nats_sync.jetstream
from tests.parity.test_signatures import anyio_name, shape

OWN = [name for name in nats_sync.jetstream.__all__ if name not in nats_proto.jetstream.__all__]
CLASSES = sorted(name for name in OWN if inspect.isclass(getattr(nats_sync.jetstream, name)))

AT_ONCE = {
    "AtomicBatch": {"discard"},
    "Changes": {"stop"},
    "Lock": {"check"},
    "Consumer": {"consume", "fetch", "messages", "permissions", "work"},
    "Consuming": {"stop"},
    "JetStreamMessage": {"ack_subject", "settle"},
    "KeyValue": {
        "keys", "lock", "mapping", "on_change", "permissions", "read_only", "typed", "watch", "with_keys",
        "with_values",
    },
    "KeyValueView": {"copy", "entry", "get", "items", "keys", "stop", "values"},
    "KeyWatch": {"stop"},
    "Keys": {"stop"},
    "Messages": {"stop"},
    "OrderedConsumer": {"fetch", "messages", "stop"},
    "OrderedMessages": {"stop"},
    "PushConsumer": {"messages"},
    "PushMessages": {"stop"},
    "ObjectReader": {"seek", "tell"},
    "ObjectStore": {"list", "permissions", "read_only", "watch"},
    "ObjectWatch": {"stop"},
    "Objects": {"stop"},
    "Publisher": {"look"},
    "JetStream": {
        "atomic_batch", "consumer", "counter", "counters", "fast_ingest", "key_value_names", "key_values",
        "object_store_names", "object_stores", "publisher", "stream", "stream_names", "streams",
    },
    "ReadOnlyKeyValue": {"keys", "mapping", "on_change", "permissions", "typed", "watch", "with_keys", "with_values"},
    "ReadOnlyObjectStore": {"list", "permissions", "watch"},
    "Work": {"stop"},
    "Stream": {
        "consumer", "consumer_names", "consumers", "get_last_msgs", "get_msgs", "ordered_consumer", "permissions",
        "push_consumer",
    },
}  # fmt: skip
"""Methods that ask nothing, and so take no ``await`` in nats-anyio. Properties take none anyway."""


ONLY_A_FILE = {"readable", "readall", "seekable", *dir(io.RawIOBase)} - {"close", "read", "readinto", "seek", "tell"}
"""What only files of the standard library have. There are none that are awaited."""


def members(kind: type[Any]) -> dict[str, Any]:
    left_out = ONLY_A_FILE if issubclass(kind, io.RawIOBase) else set()
    return {
        name: inspect.getattr_static(kind, name)
        for name in dir(kind)
        if not name.startswith("_") and name not in left_out
    }


def awaited(what: Any) -> list[tuple[str, str, Any, str]]:
    """A signature, without what is only asynchronous."""
    return [
        (name, kind, default, text.replace("AsyncIterator", "Iterator")) for name, kind, default, text in shape(what)
    ]


def test_the_modules_offer_the_same_names() -> None:
    assert nats_sync.jetstream.__all__ == nats_anyio.jetstream.__all__
    for name in OWN:
        assert getattr(nats_sync.jetstream, name).__module__.startswith("nats_sync."), name
        assert getattr(nats_anyio.jetstream, name).__module__.startswith("nats_anyio."), name


@pytest.mark.parametrize("client", [nats_sync, nats_anyio], ids=["sync", "anyio"])
def test_values_and_errors_are_those_of_the_core(client: Any) -> None:
    assert set(nats_proto.jetstream.__all__) <= set(client.jetstream.__all__)
    for name in nats_proto.jetstream.__all__:
        assert getattr(client.jetstream, name) is getattr(nats_proto.jetstream, name), name
    assert set(client.jetstream.__all__) <= set(dir(client.jetstream))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        client.jetstream.Nonsense  # noqa: B018


def named_in(path: Path) -> Iterator[tuple[str, str]]:
    """What of the core the public signatures of a module name: where, and the name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_the_core = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("nats_proto")
        for alias in node.names
    }
    for kind in ast.walk(tree):
        if not isinstance(kind, ast.ClassDef) or kind.name not in OWN:
            continue
        for member in kind.body:
            if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)) and not member.name.startswith("_"):
                # Annotations alone: what the body names is nobody's concern.
                arguments = [*member.args.posonlyargs, *member.args.args, *member.args.kwonlyargs]
                arguments += [one for one in (member.args.vararg, member.args.kwarg) if one is not None]
                for part in [member.returns, *(argument.annotation for argument in arguments)]:
                    for name in ast.walk(part) if part is not None else ():
                        if isinstance(name, ast.Name) and name.id in of_the_core:
                            yield f"{kind.name}.{member.name}", name.id


@pytest.mark.parametrize("client", [nats_sync, nats_anyio], ids=["sync", "anyio"])
def test_what_signatures_name_is_public(client: Any) -> None:
    folder = Path(client.__file__).parent / "_jetstream"
    named = {found for path in sorted(folder.glob("*.py")) for found in named_in(path)}
    assert ("JetStream.publish", "PubAck") in named
    public = {*nats_proto.__all__, *nats_proto.jetstream.__all__}
    assert {(where, name) for where, name in named if name not in public} == set()


@pytest.mark.parametrize("class_name", CLASSES)
def test_each_member(class_name: str) -> None:
    ours, theirs = (getattr(package.jetstream, class_name) for package in (nats_sync, nats_anyio))
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
