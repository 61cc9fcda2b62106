"""Values: frozen, shown and compared field by field, and dataclasses to whoever asks."""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nats_proto
from nats_proto import ConnectOptions, Disconnected, MessagesAvailable, Secret, ServerInfo, StatsSnapshot
from nats_proto._effects import ReadFile
from nats_proto._value import PrivateValue, Value
from nats_proto.errors import ConnectionLostError

LOST = ConnectionLostError("lost")
EVENT = Disconnected(server="nats://a:4222", error=LOST)


def values() -> Iterator[type[Value]]:
    """All that the core has."""
    ahead = [Value]
    while ahead:
        kind = ahead.pop()
        ahead += kind.__subclasses__()
        if kind not in (Value, PrivateValue) and kind.__module__.startswith("nats_proto."):
            yield kind


FILLED_IN = ("ConsumeOptions", "Server", "UserCredentials", "WorkOptions")
"""Those which put another value in the place of a default."""

VALUES = sorted(values(), key=lambda kind: kind.__name__)


def test_it_cannot_be_changed() -> None:
    for name in ("server", "other"):
        with pytest.raises(AttributeError):
            setattr(EVENT, name, "nats://b:4222")
    with pytest.raises(AttributeError):
        del EVENT.server


def test_it_is_compared_and_hashed_by_its_fields() -> None:
    assert Disconnected(server="nats://a:4222", error=LOST) == EVENT
    assert hash(EVENT) == hash(Disconnected(server="nats://a:4222", error=LOST))
    assert Disconnected(server="nats://a:4222", error=None) != EVENT
    assert nats_proto.RequestFailed(1, LOST) != nats_proto.FlushFailed(1, LOST)


def test_it_says_what_it_is() -> None:
    assert repr(MessagesAvailable((7,))) == "MessagesAvailable(sids=(7,))"
    assert repr(EVENT) == f"Disconnected(server='nats://a:4222', error={LOST!r})"


def test_fields_by_name_and_in_order() -> None:
    with pytest.raises(TypeError, match="positional"):
        Disconnected("nats://a:4222", None)  # type: ignore[misc,call-arg]
    with pytest.raises(TypeError, match="'error'"):
        Disconnected(server="nats://a:4222")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'why'"):
        Disconnected(server="nats://a:4222", error=None, why=1)  # type: ignore[call-arg]
    match MessagesAvailable((3,)):
        case MessagesAvailable(sids):
            assert sids == (3,)


@pytest.mark.parametrize(
    "value", [MessagesAvailable((7,)), StatsSnapshot(in_msgs=1), ConnectOptions(name="x")], ids=repr
)
def test_it_is_copied_and_pickled(value: Value) -> None:
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_it_is_a_dataclass_to_whoever_asks(kind: type[Value]) -> None:
    assert dataclasses.is_dataclass(kind)
    assert tuple(field.name for field in dataclasses.fields(kind)) == kind.__struct_fields__
    required = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    if required:
        with pytest.raises(TypeError, match=f"'{required[0]}'"):
            kind()
    elif kind.__name__ not in FILLED_IN:
        assert {field.name: field.default for field in dataclasses.fields(kind)} == dataclasses.asdict(kind())


def test_it_is_replaced_as_a_dataclass() -> None:
    other = dataclasses.replace(EVENT, error=None)
    assert (other.server, other.error) == (EVENT.server, None)
    with pytest.raises(TypeError):
        dataclasses.replace(EVENT, why=1)
    with pytest.raises(nats_proto.errors.ConfigurationError):
        dataclasses.replace(ConnectOptions(), ping_interval=-1.0)


@pytest.mark.parametrize(
    ("value", "shown", "hidden"),
    [
        (ServerInfo(nonce="n0nce", go="go1"), "go='go1'", "n0nce"),
        (ReadFile("/a/path", 1, "x"), "ReadFile(limit=1, what='x')", "/a/path"),
        (ConnectOptions(user=Secret("me"), password="pass", name="x"), "ConnectOptions(name='x',", "pass"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_private_is_not_shown(value: Value, shown: str, hidden: str) -> None:
    assert shown in repr(value)
    for text in (repr(value), str(value), str(value.__rich_repr__())):
        assert hidden not in text


# --- names that are loaded when they are used ------------------------------------------------------------------------

SOURCE = ast.parse(Path(nats_proto.__file__).read_text(encoding="utf-8"))
NAMES = [
    (node.module, alias.name)
    for node in ast.walk(SOURCE)
    if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("_")
    for alias in node.names
    if alias.asname is None
]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_name_is_what_type_checkers_take_it_for(module: str, name: str) -> None:
    assert getattr(nats_proto, name) is getattr(importlib.import_module(f"nats_proto.{module}"), name)
    assert name in nats_proto.__all__
    assert name in dir(nats_proto)


def test_no_name_is_missing_or_too_many() -> None:
    assert {name for _, name in NAMES} | {"__version__"} == set(nats_proto.__all__)
    with pytest.raises(AttributeError, match="module 'nats_proto' has no attribute 'Sesion'"):
        nats_proto.Sesion  # type: ignore[attr-defined]  # noqa: B018


def test_names_in_a_fresh_interpreter() -> None:
    code = (
        "from nats_proto import *\nimport nats_proto\n"
        "print(Session.__name__, nats_proto.nkeys.Prefix.USER.name, nats_proto.errors.NATSError.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout, ran.stderr) == ("Session USER NATSError\n", "")
