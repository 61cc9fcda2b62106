"""Configurations of streams and consumers: fields, rules between them, keywords, names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nats_proto._jetstream.api_answer import from_wire
from nats_proto._jetstream.names import check_name, check_priority_group
from nats_proto._jetstream.read_config import read_config
from nats_proto._json.wire_value import WireValue, to_wire
from nats_proto.errors import InvalidSubjectError
from nats_proto.jetstream import (
    ConsumerConfig,
    ConsumerFields,
    ConsumerLimits,
    ExternalStream,
    InvalidNameError,
    Placement,
    Republish,
    SourceConsumer,
    StreamConfig,
    StreamFields,
    StreamSource,
    SubjectTransform,
)

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)

STREAM = StreamConfig(
    name="ORDERS",
    description="all orders",
    subjects=["orders.>"],
    retention="workqueue",
    storage="memory",
    num_replicas=3,
    max_age=timedelta(days=1),
    max_bytes=-1,
    max_msgs=1000,
    max_msgs_per_subject=5,
    max_msg_size=1024,
    max_consumers=10,
    discard="new",
    discard_new_per_subject=True,
    duplicate_window=120,
    no_ack=False,
    placement=Placement(cluster="east", tags=["ssd"], preferred="n1"),
    sources=[
        StreamSource(
            name="A",
            opt_start_seq=7,
            subject_transforms=[SubjectTransform(src="a.>", dest="b.>")],
            external=ExternalStream(api="$JS.hub.API", deliver="in.hub"),
            consumer=SourceConsumer(name="c", deliver_subject="in.c"),
        ),
        StreamSource(name="B", opt_start_time=NOON, filter_subject="b.>"),
    ],
    subject_transform=SubjectTransform(src="orders.*", dest="o.{{wildcard(1)}}"),
    republish=Republish(src="o.>", dest="live.>", headers_only=True),
    compression="s2",
    first_seq=100,
    allow_direct=True,
    mirror_direct=False,
    allow_rollup_hdrs=True,
    allow_msg_ttl=True,
    subject_delete_marker_ttl=1.5,
    allow_msg_counter=False,
    allow_atomic=True,
    allow_batched=True,
    allow_msg_schedules=True,
    deny_delete=True,
    deny_purge=True,
    sealed=False,
    persist_mode="default",
    consumer_limits=ConsumerLimits(inactive_threshold=60, max_ack_pending=100),
    metadata={"team": "billing"},
)
STREAM_WIRE: dict[str, object] = {
    "name": "ORDERS",
    "description": "all orders",
    "subjects": ["orders.>"],
    "retention": "workqueue",
    "storage": "memory",
    "num_replicas": 3,
    "max_age": 86_400_000_000_000,
    "max_bytes": -1,
    "max_msgs": 1000,
    "max_msgs_per_subject": 5,
    "max_msg_size": 1024,
    "max_consumers": 10,
    "discard": "new",
    "discard_new_per_subject": True,
    "duplicate_window": 120_000_000_000,
    "no_ack": False,
    "placement": {"cluster": "east", "tags": ["ssd"], "preferred": "n1"},
    "sources": [
        {
            "name": "A",
            "opt_start_seq": 7,
            "subject_transforms": [{"src": "a.>", "dest": "b.>"}],
            "external": {"api": "$JS.hub.API", "deliver": "in.hub"},
            "consumer": {"name": "c", "deliver_subject": "in.c"},
        },
        {"name": "B", "opt_start_time": "2024-01-01T12:00:00Z", "filter_subject": "b.>"},
    ],
    "subject_transform": {"src": "orders.*", "dest": "o.{{wildcard(1)}}"},
    "republish": {"dest": "live.>", "src": "o.>", "headers_only": True},
    "compression": "s2",
    "first_seq": 100,
    "allow_direct": True,
    "mirror_direct": False,
    "allow_rollup_hdrs": True,
    "allow_msg_ttl": True,
    "subject_delete_marker_ttl": 1_500_000_000,
    "allow_msg_counter": False,
    "allow_atomic": True,
    "allow_batched": True,
    "allow_msg_schedules": True,
    "deny_delete": True,
    "deny_purge": True,
    "sealed": False,
    "persist_mode": "default",
    "consumer_limits": {"inactive_threshold": 60_000_000_000, "max_ack_pending": 100},
    "metadata": {"team": "billing"},
}
CONSUMER = ConsumerConfig(
    name="billing",
    durable_name="billing",
    description="bills",
    deliver_policy="by_start_time",
    opt_start_time=NOON,
    ack_policy="explicit",
    ack_wait=30,
    max_deliver=5,
    backoff=[1, timedelta(seconds=5)],
    filter_subjects=["orders.new", "orders.old"],
    replay_policy="instant",
    rate_limit_bps=0,
    sample_freq="10",
    max_ack_pending=1000,
    max_waiting=512,
    max_batch=100,
    max_bytes=0,
    max_expires=60,
    headers_only=False,
    deliver_subject="to.me",
    deliver_group="us",
    flow_control=True,
    idle_heartbeat=0.5,
    inactive_threshold=3600,
    num_replicas=1,
    mem_storage=True,
    direct=False,
    sourcing=False,
    pause_until=NOON,
    priority_groups=["g"],
    priority_policy="pinned_client",
    priority_timeout=120,
    metadata={},
)
CONSUMER_WIRE: dict[str, object] = {
    "name": "billing",
    "durable_name": "billing",
    "description": "bills",
    "deliver_policy": "by_start_time",
    "opt_start_time": "2024-01-01T12:00:00Z",
    "ack_policy": "explicit",
    "ack_wait": 30_000_000_000,
    "max_deliver": 5,
    "backoff": [1_000_000_000, 5_000_000_000],
    "filter_subjects": ["orders.new", "orders.old"],
    "replay_policy": "instant",
    "rate_limit_bps": 0,
    "sample_freq": "10",
    "max_ack_pending": 1000,
    "max_waiting": 512,
    "max_batch": 100,
    "max_bytes": 0,
    "max_expires": 60_000_000_000,
    "headers_only": False,
    "deliver_subject": "to.me",
    "deliver_group": "us",
    "flow_control": True,
    "idle_heartbeat": 500_000_000,
    "inactive_threshold": 3_600_000_000_000,
    "num_replicas": 1,
    "mem_storage": True,
    "direct": False,
    "sourcing": False,
    "pause_until": "2024-01-01T12:00:00Z",
    "priority_groups": ["g"],
    "priority_policy": "pinned_client",
    "priority_timeout": 120_000_000_000,
    "metadata": {},
}


@pytest.mark.parametrize(
    ("value", "wire"), [(STREAM, STREAM_WIRE), (CONSUMER, CONSUMER_WIRE)], ids=["stream", "consumer"]
)
def test_every_field_goes_over_the_wire(value: WireValue, wire: dict[str, object]) -> None:
    value.check()
    assert to_wire(value) == wire
    again = from_wire(type(value), wire)
    assert again == value
    assert again.unknown == {}
    assert dataclasses.replace(again) == value
    # The tables above have every field but those that exclude others in them.
    left_out = {"unknown", "mirror", "filter_subject", "opt_start_seq"}
    assert set(value.__struct_fields__) - set(wire) - left_out == set()


EMPTY: dict[str, list[tuple[object, object]]] = {
    "bool | None": [(False, False)],
    "int | None": [(0, 0), (-1, -1)],
    "str | None": [("", "")],
    "Duration | None": [(0, 0), (0.0, 0), (timedelta(0), 0)],
    "Sequence[str] | None": [([], []), ((), [])],
    "Sequence[Duration] | None": [([], [])],
    "Sequence[StreamSource] | None": [([], [])],
    "Mapping[str, str] | None": [({}, {})],
}
"""For each kind of field what is there, but nothing."""
FIELDS = [
    (base, field, given, wire)
    for base in (StreamConfig(name="S"), ConsumerConfig())
    for field, hint in type(base).__annotations__.items()
    for given, wire in EMPTY.get(hint, [])
]


@pytest.mark.parametrize(("base", "field", "given", "wire"), FIELDS)
def test_unset_zero_and_empty_are_told_apart(base: WireValue, field: str, given: object, wire: object) -> None:
    """Row 45 of what users demand: what was not given is left out, an explicit zero or empty list is sent."""
    assert field not in to_wire(base)
    changed = dataclasses.replace(base, **{field: given})
    assert to_wire(changed) == {**to_wire(base), field: wire}
    assert from_wire(type(base), to_wire(changed)) == changed
    assert to_wire(dataclasses.replace(changed, **{field: None})) == to_wire(base)


CHOICES = {
    *("retention", "storage", "discard", "compression", "persist_mode", "deliver_policy", "ack_policy"),
    *("replay_policy", "priority_policy"),
}


@pytest.mark.parametrize("field", sorted(CHOICES))
def test_a_choice_of_the_user_is_one_of_ours(field: str) -> None:
    kind = StreamConfig if field in StreamConfig.__struct_fields__ else ConsumerConfig
    with pytest.raises(ValueError, match=f"{field} must be one of '.*', not 'newest'"):
        kind(**{"name": "n", field: "newest"})  # type: ignore[arg-type]  # it is what is tested
    assert to_wire(from_wire(kind, {"name": "n", field: "newest"})) == {"name": "n", field: "newest"}


# --- rules between fields --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: StreamConfig(name="a.b"), InvalidNameError, "the name of a stream must not have '.': 'a.b'"),
        (lambda: StreamConfig(name="a", subjects=["b c"]), InvalidSubjectError, "'b c' has a blank"),
        (lambda: StreamConfig(name="a", subjects=["b", "c.>.d"]), InvalidSubjectError, "'>' before the last one"),
        (
            lambda: StreamConfig(name="a", subjects=["b"], mirror=StreamSource(name="c")),
            ValueError,
            "stream 'a': a mirror has no subjects of its own",
        ),
        (
            lambda: StreamConfig(name="a", sources=[StreamSource(name="b")], mirror=StreamSource(name="c")),
            ValueError,
            "stream 'a': a mirror has no sources of its own",
        ),
        (lambda: StreamConfig(name="a", mirror=StreamSource(name="c d")), InvalidNameError, "must not have ' '"),
        (
            lambda: StreamConfig(name="a", sources=[StreamSource(name="b", opt_start_seq=1, opt_start_time=NOON)]),
            ValueError,
            "source 'b': give either opt_start_seq or opt_start_time, not both",
        ),
        (
            lambda: StreamConfig(
                name="a",
                sources=[
                    StreamSource(name="b", filter_subject="x", subject_transforms=[SubjectTransform(src="x", dest="y")])
                ],
            ),
            ValueError,
            "source 'b': give either filter_subject or subject_transforms, not both",
        ),
        (lambda: StreamSource(name="b", filter_subject="x y"), InvalidSubjectError, "has a blank"),
        (lambda: StreamSource(name="b", external=ExternalStream()), ValueError, "needs its domain or api"),
        (lambda: ExternalStream(api="a b"), InvalidSubjectError, "api prefix 'a b' has a blank"),
        (
            lambda: StreamSource(name="b", consumer=SourceConsumer(name="", deliver_subject="a")),
            InvalidNameError,
            "empty",
        ),
        (
            lambda: StreamSource(name="b", consumer=SourceConsumer(name="c", deliver_subject="a.*")),
            InvalidSubjectError,
            "deliver_subject 'a.[*]' has a wildcard",
        ),
        (lambda: ConsumerConfig(name="a/b"), InvalidNameError, "the name of a consumer must not have '/'"),
        (lambda: ConsumerConfig(durable_name="a*"), InvalidNameError, "must not have '[*]'"),
        (
            lambda: ConsumerConfig(name="a", durable_name="b"),
            ValueError,
            "name 'a' and durable_name 'b' of a consumer must",
        ),
        (
            lambda: ConsumerConfig(filter_subject="a", filter_subjects=["b"]),
            ValueError,
            "give either filter_subject or filter_subjects of a consumer, not both",
        ),
        (lambda: ConsumerConfig(filter_subject="a b"), InvalidSubjectError, "has a blank"),
        (lambda: ConsumerConfig(filter_subjects=["a", ""]), InvalidSubjectError, "is empty"),
        (lambda: ConsumerConfig(deliver_subject="a.>"), InvalidSubjectError, "deliver_subject 'a.>' has a wildcard"),
        (lambda: ConsumerConfig(deliver_group="a b"), InvalidSubjectError, "queue group 'a b'"),
        (lambda: ConsumerConfig(priority_groups=["a" * 17]), InvalidNameError, "has 17 characters, 16 are allowed"),
        (lambda: ConsumerConfig(priority_groups=["a.b"]), InvalidNameError, "priority group must not have '.'"),
        (lambda: ConsumerConfig(deliver_policy="by_start_sequence"), ValueError, "needs opt_start_seq"),
        (lambda: ConsumerConfig(deliver_policy="by_start_time"), ValueError, "needs opt_start_time"),
        (lambda: ConsumerConfig(opt_start_seq=5), ValueError, "opt_start_seq needs deliver_policy='by_start_sequence'"),
        (
            lambda: ConsumerConfig(deliver_policy="new", opt_start_time=NOON),
            ValueError,
            "opt_start_time needs deliver_policy='by_start_time'",
        ),
    ],
)
def test_fields_that_do_not_go_together(make: Callable[[], WireValue], kind: type[Exception], text: str) -> None:
    value = make()
    with pytest.raises(kind, match=text):
        value.check()
    # What a server has it may have, whatever our rules are.
    assert from_wire(type(value), to_wire(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        StreamConfig(name="a", subjects=["b.*.c", ">"]),
        StreamConfig(name="a", subjects=[], mirror=StreamSource(name="b"), sources=[]),
        StreamConfig(name="x" * 255),
        StreamSource(name="b", filter_subject="x", subject_transforms=[]),
        ConsumerConfig(),
        ConsumerConfig(name="a", durable_name="a"),
        ConsumerConfig(filter_subject="", filter_subjects=["a"]),
        ConsumerConfig(filter_subject="a", filter_subjects=[]),
        ConsumerConfig(deliver_policy="by_start_sequence", opt_start_seq=0),
        ConsumerConfig(deliver_policy="all", opt_start_seq=0),
        ConsumerConfig(priority_groups=["a/b=c-d_E9"]),
    ],
)
def test_fields_that_go_together(value: WireValue) -> None:
    value.check()


def test_a_domain_becomes_the_prefix_of_its_api() -> None:
    external = ExternalStream(domain="hub")
    assert external == ExternalStream(api="$JS.hub.API")
    assert external.domain is None
    assert StreamSource(name="A", domain="hub") == StreamSource(name="A", external=external)
    assert to_wire(StreamSource(name="A", domain="hub")) == {"name": "A", "external": {"api": "$JS.hub.API"}}


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: ExternalStream(domain="a", api="b"), ValueError, "either domain or api"),
        (lambda: ExternalStream(domain="a.b"), InvalidNameError, "the name of a domain must not have '.'"),
        (
            lambda: StreamSource(name="A", domain="a", external=ExternalStream(domain="a")),
            ValueError,
            "either domain or external",
        ),
        (lambda: StreamSource(name="A", domain=7), TypeError, "the name of a domain must be str, not int"),  # type: ignore[arg-type]  # it is what is tested
    ],
)
def test_domains_that_cannot_be_used(make: Callable[[], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


def test_a_key_of_the_wire_may_have_the_name_of_a_field_of_ours() -> None:
    raw = {"name": "A", "domain": "x"}
    assert to_wire(from_wire(StreamSource, raw)) == raw


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["A", "a-b_c", "x" * 255, "!", "a:b", "$KV", "~"])
def test_a_name(name: str) -> None:
    assert check_name("stream", name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "the name of a stream must not be empty"),
        *((f"a{c}b", f"must not have {c!a}: {f'a{c}b'!a}") for c in ".*>/\\ \t\r\n\0\x7fü\ud800"),
        ("x" * 256, f"the name of a stream has 256 characters, 255 are allowed: '{'x' * 64}'"),
    ],
)
def test_what_is_no_name(name: str, text: str) -> None:
    with pytest.raises(InvalidNameError) as raised:
        check_name("stream", name)
    assert text in str(raised.value)
    assert raised.value.outcome == "failed"


@pytest.mark.parametrize("name", [None, b"a", 1])
def test_a_name_is_a_text(name: object) -> None:
    with pytest.raises(TypeError, match="the name of a stream must be str"):
        check_name("stream", name)


def test_a_priority_group() -> None:
    assert check_priority_group("a/b=c-d_E9") == "a/b=c-d_E9"
    with pytest.raises(InvalidNameError, match="must not have '!'"):
        check_priority_group("a!")


# --- keywords --------------------------------------------------------------------------------------------------------


def test_keywords_make_a_configuration() -> None:
    made = read_config(StreamConfig, None, "ORDERS", {"subjects": ["orders.>"], "max_age": 60})
    assert made == StreamConfig(name="ORDERS", subjects=["orders.>"], max_age=60)
    assert read_config(ConsumerConfig, None, None, {"max_deliver": 3}) == ConsumerConfig(max_deliver=3)


def test_a_ready_configuration_is_taken() -> None:
    config = StreamConfig(name="ORDERS")
    assert read_config(StreamConfig, config, None, {}) is config
    assert read_config(StreamConfig, config, "ORDERS", {}) is config
    consumer = ConsumerConfig(max_deliver=3)
    assert read_config(ConsumerConfig, consumer, "c", {}) == ConsumerConfig(name="c", max_deliver=3)
    assert consumer.name is None
    assert read_config(ConsumerConfig, None, None, {"name": "c"}) == ConsumerConfig(name="c")
    assert read_config(ConsumerConfig, None, "c", {"name": "c"}) == ConsumerConfig(name="c")
    with pytest.raises(ValueError, match="the name is given twice, as 'c' and as 'd' among the fields"):
        read_config(ConsumerConfig, None, "c", {"name": "d"})


@pytest.mark.parametrize(
    ("config", "name", "fields", "kind", "text"),
    [
        (None, None, {}, TypeError, "a stream needs a name"),
        (None, "A", {"retension": "limits"}, TypeError, "no field 'retension': did you mean retention?"),
        (None, "A", {"zzz": 1}, TypeError, "StreamConfig has no field 'zzz': there are allow_atomic, "),
        (None, "A", {"max_age": -1}, ValueError, "max_age must be from 0"),
        (None, "A", {"subjects": "a"}, TypeError, "subjects must be a list of them, not str"),
        (None, "a.b", {}, InvalidNameError, "must not have '.'"),
        (
            StreamConfig(name="A"),
            None,
            {"max_age": 1},
            TypeError,
            "not both: max_age",
        ),
        (StreamConfig(name="A"), "B", {}, ValueError, "given twice, as 'B' and as 'A'"),
        (StreamConfig(name="a.b"), None, {}, InvalidNameError, "must not have '.'"),
        (ConsumerConfig(), "A", {}, TypeError, "config must be StreamConfig, not ConsumerConfig"),
        ({"name": "A"}, None, {}, TypeError, "config must be StreamConfig, not dict"),
        (None, StreamConfig(name="A"), {}, TypeError, "StreamConfig is given by its keyword: config="),
    ],
)
def test_what_makes_no_configuration(
    config: object, name: Any, fields: dict[str, object], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        read_config(StreamConfig, config, name, fields)


@pytest.mark.parametrize(("kind", "fields"), [(StreamConfig, StreamFields), (ConsumerConfig, ConsumerFields)])
def test_the_keywords_are_the_fields(kind: type[WireValue], fields: type) -> None:
    # A stream is always named by the first argument; a consumer may have a name that makes it no durable one.
    expected = {name: hint for name, hint in kind.__annotations__.items() if name != "name" or kind is ConsumerConfig}
    given = {name: hint.__forward_arg__ for name, hint in fields.__annotations__.items()}
    assert given == {name: hint.replace("Duration", "DurationLike") for name, hint in expected.items()}
