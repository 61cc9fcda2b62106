"""What is to be done for each stream, consumer and bucket: it is looked at, and nothing is changed.

Only what a program gives is looked at and changed: a field that it leaves out stays as it is, whatever that is. So what
servers fill in by themselves is no difference, and a set-up that was made is found to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar, assert_never

from msgspec.structs import replace

from .._jetstream import consumer_calls, stream_calls
from .._jetstream.api_answer import Difference, compare
from .._jetstream.consumer_config import ConsumerConfig
from .._jetstream.errors import ConsumerNotFoundError, StreamNotFoundError
from .._jetstream.stream_config import StreamConfig
from .._json.durations import Seconds
from .._json.read_only import ReadOnlyMapping
from .._json.wire_value import WireValue
from .._keyvalue import bucket as key_value
from .._keyvalue import names as key_value_names
from .._keyvalue.bucket import KeyValueConfig
from .._keyvalue.buckets import create_bucket
from .._objectstore import bucket as object_store
from .._objectstore import names as object_store_names
from .._objectstore.bucket import ObjectStoreConfig
from .._objectstore.buckets import create_store
from .._value import Value
from .immutable import never_changed
from .report import EnsureAction, EnsureStep

if TYPE_CHECKING:
    from .._calls.operation import Operation
    from .._jetstream.api import JetStreamApi

__all__ = ["BucketConfig", "Planned", "plan_bucket", "plan_consumer", "plan_stream"]

ConfigT = TypeVar("ConfigT", bound=WireValue)

_IN_PLACE_OF: Final[Mapping[str, str]] = {
    "filter_subject": "filter_subjects",
    "filter_subjects": "filter_subject",
    "ack_wait": "backoff",
}
"""Which field a field replaces: a configuration has one of the two."""


class Planned(Value, frozen=True, eq=False):
    """One step, and the operation that does it; None when there is nothing to do."""

    step: EnsureStep
    immutable: tuple[Difference, ...] = ()
    """The differences for whose sake it cannot be done."""
    make: Callable[[], Operation[object]] | None = None


def plan_stream(api: JetStreamApi, config: StreamConfig, *, timeout: float | None) -> Operation[Planned]:
    """For a stream."""
    name = config.name
    try:
        info = yield from stream_calls.stream_info(api, name, timeout=timeout)
    except StreamNotFoundError:
        return Planned(
            EnsureStep(kind="stream", name=name, action="create"),
            make=lambda: stream_calls.create_stream(api, config, timeout=timeout),
        )
    differences = compare(config, info.config)
    wanted = _merged(config, info.config)
    return _planned(
        EnsureStep(kind="stream", name=name, action=_action(differences), differences=differences),
        never_changed("stream", differences),
        lambda: stream_calls.update_stream(api, wanted, timeout=timeout),
    )


def plan_consumer(
    api: JetStreamApi, stream: str, config: ConsumerConfig, *, new_stream: bool, timeout: float | None
) -> Operation[Planned]:
    """For a consumer. ``new_stream``: its stream is made by the same set-up. Raises `StreamNotFoundError` else."""
    name = config.durable_name or config.name or ""
    try:
        info = yield from consumer_calls.consumer_info(api, stream, name, timeout=timeout)
    except (StreamNotFoundError, ConsumerNotFoundError) as error:
        if isinstance(error, StreamNotFoundError) and not new_stream:
            raise
        return Planned(
            EnsureStep(kind="consumer", name=name, stream=stream, action="create"),
            make=lambda: consumer_calls.put_consumer(api, stream, config, "create", timeout=timeout),
        )
    differences = compare(config, info.config)
    wanted = _merged(config, info.config)
    return _planned(
        EnsureStep(kind="consumer", name=name, stream=stream, action=_action(differences), differences=differences),
        never_changed("consumer", differences),
        lambda: consumer_calls.put_consumer(api, stream, wanted, "update", timeout=timeout),
    )


# --- buckets ---------------------------------------------------------------------------------------------------------

BucketConfig = KeyValueConfig | ObjectStoreConfig
"""The configurations of all kinds of buckets."""
StoreT = TypeVar("StoreT", bound=WireValue)


def plan_bucket(api: JetStreamApi, config: BucketConfig, *, timeout: float | None) -> Operation[Planned]:
    """For a bucket of any kind."""
    match config:
        case KeyValueConfig():
            if config.limit_marker_ttl:
                api.check_server("limit_marker_ttl", 2, 11)
            create = create_bucket(api, config, timeout=timeout)
            stream = key_value_names.stream_name(config.bucket)
            kind = _Kind("bucket", key_value.config_of, key_value.stream_of, _without_origins)
            return _plan_bucket(api, config, kind, config.bucket, stream, create, timeout)
        case ObjectStoreConfig():
            make = create_store(api, config, timeout=timeout)
            stream = object_store_names.stream_name(config.bucket)
            store = _Kind("object store", object_store.config_of, object_store.stream_of, _all_of_it)
            return _plan_bucket(api, config, store, config.bucket, stream, make, timeout)
        case _:
            assert_never(config)


class _Kind(Generic[StoreT]):
    """What is different between kinds of buckets. ``own``: the fields that are compared in the words of buckets."""

    def __init__(
        self,
        name: Literal["bucket", "object store"],
        config_of: Callable[[StreamConfig], StoreT],
        stream_of: Callable[[StoreT], StreamConfig],
        own: Callable[[StoreT], StoreT],
    ) -> None:
        self.name: Literal["bucket", "object store"] = name
        self.config_of = config_of
        self.stream_of = stream_of
        self.own = own


def _without_origins(config: KeyValueConfig) -> KeyValueConfig:
    # Mirrors and sources are written in several ways that mean the same stream: there the stream's words count.
    return replace(config, mirror=None, sources=None)


def _all_of_it(config: ObjectStoreConfig) -> ObjectStoreConfig:
    return config


def _plan_bucket(
    api: JetStreamApi,
    config: StoreT,
    kind: _Kind[StoreT],
    bucket: str,
    stream: str,
    create: Operation[object],
    timeout: float | None,
) -> Operation[Planned]:
    try:
        info = yield from stream_calls.stream_info(api, stream, timeout=timeout)
    except StreamNotFoundError:
        return Planned(EnsureStep(kind=kind.name, name=bucket, action="create"), make=lambda: create)
    there = kind.config_of(info.config)
    wanted = _with_bucket(info.config, kind.stream_of(_merged(config, there)), kind.stream_of(there))
    changes = compare(wanted, info.config)
    origins = (one for one in changes if one.field.startswith(("mirror", "sources")))
    differences = (*compare(kind.own(config), there), *origins)
    return _planned(
        EnsureStep(kind=kind.name, name=bucket, action=_action(differences), differences=differences),
        never_changed("stream", changes),
        lambda: stream_calls.update_stream(api, wanted, timeout=timeout),
    )


def _with_bucket(stream: StreamConfig, asked: StreamConfig, present: StreamConfig) -> StreamConfig:
    """The stream with what the bucket has otherwise. What else its stream has, whoever has made it, stays."""
    changed = {
        name: value
        for name in asked.__struct_fields__
        if (value := getattr(asked, name)) is not None and value != getattr(present, name)
    }
    if present.subject_delete_marker_ttl and not asked.subject_delete_marker_ttl:
        changed["subject_delete_marker_ttl"] = Seconds(0)  # `replace` of an old msgspec makes none of a plain number
    return replace(stream, **changed)


# --- what they have in common ----------------------------------------------------------------------------------------


def _planned(step: EnsureStep, immutable: tuple[Difference, ...], make: Callable[[], Operation[object]]) -> Planned:
    return Planned(step, immutable, make if step.differences else None)


def _action(differences: tuple[Difference, ...]) -> EnsureAction:
    return "update" if differences else "keep"


def _merged(asked: ConfigT, there: ConfigT) -> ConfigT:
    """What is there, with the fields that were asked for: a server takes an update as the whole configuration."""
    given = {name: value for name in asked.__struct_fields__ if (value := getattr(asked, name)) is not None}
    given["unknown"] = ReadOnlyMapping({**there.unknown, **asked.unknown})
    for name in tuple(given):
        other = _IN_PLACE_OF.get(name)
        if other is not None and other not in given:
            given[other] = None
    return replace(there, **given)
