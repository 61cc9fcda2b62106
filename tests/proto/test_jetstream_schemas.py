"""What we send, and what we can read, against the schemas of the server's makers.

They are no part of this repository: the environment variable NATS_SCHEMAS names the folder that has them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from nats_proto._json.wire_kinds import Items, Kind, Table
from nats_proto._json.wire_value import Nested, WireValue, plan_of, to_wire
from nats_proto.jetstream import (
    AccountInfo,
    ConsumerConfig,
    ConsumerInfo,
    ConsumerPause,
    StreamConfig,
    StreamInfo,
    StreamSource,
)

from .test_jetstream_configs import CONSUMER, STREAM

jsonschema = pytest.importorskip("jsonschema", reason="it is no part of the lowest versions")

FOLDER = os.environ.get("NATS_SCHEMAS", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="NATS_SCHEMAS names no folder")

Schema = dict[str, object]


def schema(name: str) -> Schema:
    read: Schema = json.loads(Path(FOLDER, "jetstream", f"{name}.json").read_text(encoding="utf-8"))
    return read


def answers(name: str) -> Schema:
    """The half of an answer's schema that is no error."""
    halves = schema(name)["oneOf"]
    assert isinstance(halves, list)
    (half,) = [half for half in halves if "error" not in half.get("properties", {})]
    assert isinstance(half, dict)
    return half


def properties(of: Schema) -> dict[str, Schema]:
    """Those of an object, and of what it is made of."""
    found: dict[str, Schema] = {}
    for part in (of, *of.get("allOf", ())):  # type: ignore[misc]  # a list, where it is there
        found.update(part.get("properties", {}))
    return found


@pytest.mark.parametrize(
    "config",
    [
        STREAM,
        msgspec.structs.replace(STREAM, sources=None, subjects=None, mirror=StreamSource(name="M", domain="hub")),
        msgspec.structs.replace(STREAM, max_age=0, duplicate_window=0, max_msgs=-1, subjects=[], metadata={}),
    ],
)
def test_the_configuration_of_a_stream(config: StreamConfig) -> None:
    jsonschema.validate(to_wire(config), schema("stream_configuration"))
    jsonschema.validate(to_wire(config), schema("stream_create_request"))


def test_the_configuration_of_a_stream_with_nothing_but_its_name() -> None:
    """The schema demands some keys that servers fill in themselves."""
    without = {**schema("stream_configuration"), "required": ["name"]}
    jsonschema.validate(to_wire(StreamConfig(name="A")), without)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "A", "max_age": "1s"}, without)


@pytest.mark.parametrize(
    "config",
    [
        CONSUMER,
        ConsumerConfig(deliver_policy="all"),
        ConsumerConfig(deliver_policy="by_start_sequence", opt_start_seq=7, filter_subject="a.>"),
        ConsumerConfig(name="c", deliver_policy="last_per_subject", filter_subjects=["a"], backoff=[], metadata={}),
    ],
)
def test_the_configuration_of_a_consumer(config: ConsumerConfig) -> None:
    jsonschema.validate(to_wire(config), schema("consumer_configuration"))
    jsonschema.validate({"stream_name": "S", "config": to_wire(config)}, schema("consumer_create_request"))


def differences(path: str, kind: type[WireValue], of: Schema) -> list[str]:
    """Keys that only we have (``+``), or only the schema (``-``), at all levels."""
    ours, theirs = plan_of(kind).kinds, properties(of)
    found = [f"+{path}{name}" for name in sorted(set(ours) - set(theirs))]
    found += [f"-{path}{name}" for name in sorted(set(theirs) - set(ours))]
    for name in sorted(set(ours) & set(theirs)):
        step, inner, below = f"{path}{name}.", ours[name], theirs[name]
        while isinstance(inner, (Items, Table)):
            key = "items" if isinstance(inner, Items) else "additionalProperties"
            inner, below = inner.kind, below.get(key, {})  # type: ignore[assignment]  # a schema below a schema
        if isinstance(inner, Nested) and properties(below):
            found += differences(step, inner.kind, below)
        elif not isinstance(inner, Nested):
            assert isinstance(inner, Kind)
    return found


@pytest.mark.parametrize(
    ("kind", "of", "expected"),
    [
        (StreamConfig, lambda: schema("stream_configuration"), []),
        (ConsumerConfig, lambda: schema("consumer_configuration"), []),
        (StreamInfo, lambda: answers("stream_info_response"), []),
        (ConsumerInfo, lambda: answers("consumer_info_response"), []),
        (ConsumerPause, lambda: answers("consumer_pause_response"), []),
        (AccountInfo, lambda: answers("account_info_response"), []),
    ],
)
def test_we_have_every_key(kind: type[WireValue], of: object, expected: list[str]) -> None:
    assert callable(of)
    assert differences("", kind, of()) == expected
