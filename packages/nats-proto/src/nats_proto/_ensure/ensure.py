"""`ensure`: make what is missing and change what differs, after all of it was looked at.

Theory of operation
-------------------
    check ──▶ look at everything ──▶ refuse what cannot be done ──▶ (a dry run ends) ──▶ streams, buckets, consumers

What a program gives is checked before anything is asked, and everything is looked at before anything is changed. So
what can be known to fail fails with nothing changed. What fails afterwards (a server that refuses, a connection that is
lost) raises its own error, with a note that tells what was done before. To call it again does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from .._jetstream.consumer_config import ConsumerConfig
from .._jetstream.names import check_name
from .._jetstream.stream_config import StreamConfig
from .._json.wire_kinds import is_mapping
from .._keyvalue.bucket import KeyValueConfig
from .._objectstore.bucket import ObjectStoreConfig
from ..errors import NATSError
from .plan import BucketConfig, Planned, plan_bucket, plan_consumer, plan_stream
from .report import EnsureReport, ImmutableFieldError

if TYPE_CHECKING:
    from .._calls.operation import Operation
    from .._jetstream.api import JetStreamApi

__all__ = ["ConsumersToEnsure", "ensure"]

ConsumersToEnsure = Iterable[tuple[str, ConsumerConfig]] | Mapping[str, ConsumerConfig | Iterable[ConsumerConfig]]
"""Pairs of a stream's name and a consumer, or for each stream its consumer or several."""

T = TypeVar("T")


def ensure(
    api: JetStreamApi,
    *,
    streams: Iterable[StreamConfig] = (),
    consumers: ConsumersToEnsure = (),
    buckets: Iterable[BucketConfig] = (),
    dry_run: bool = False,
    timeout: float | None,
) -> Operation[EnsureReport]:
    """See `JetStream.ensure` of the clients."""
    wanted_streams = _several("streams", streams, StreamConfig)
    wanted_buckets: list[BucketConfig] = _several("buckets", buckets, KeyValueConfig, ObjectStoreConfig)
    wanted_consumers = _pairs(consumers)
    _check(wanted_streams, wanted_buckets, wanted_consumers)
    return _ensure(api, wanted_streams, wanted_buckets, wanted_consumers, dry_run, timeout)


def _ensure(
    api: JetStreamApi,
    streams: list[StreamConfig],
    buckets: list[BucketConfig],
    consumers: list[tuple[str, ConsumerConfig]],
    dry_run: bool,
    timeout: float | None,
) -> Operation[EnsureReport]:
    plans: list[Planned] = []
    for stream in streams:
        plans.append((yield from plan_stream(api, stream, timeout=timeout)))
    for bucket in buckets:
        plans.append((yield from plan_bucket(api, bucket, timeout=timeout)))
    new = {plan.step.name for plan in plans if plan.step.kind == "stream" and plan.step.action == "create"}
    for name, config in consumers:
        plans.append((yield from plan_consumer(api, name, config, new_stream=name in new, timeout=timeout)))
    _refuse([plan for plan in plans if plan.immutable])
    report = EnsureReport(steps=tuple(plan.step for plan in plans), dry_run=dry_run)
    if not dry_run:
        yield from _carry_out(plans)
    return report


def _carry_out(plans: list[Planned]) -> Operation[None]:
    done: list[str] = []
    for plan in plans:
        if plan.make is None:
            continue
        try:
            yield from plan.make()
        except NATSError as error:
            error.add_note(f"ensure: {', '.join(done) or 'nothing'} was done before, {plan.step.what} is what failed")
            raise
        done.append(f"{plan.step.action} {plan.step.what}")


def _refuse(plans: list[Planned]) -> None:
    if plans:
        told = "; ".join(f"{plan.step.what}: {', '.join(map(str, plan.immutable))}" for plan in plans)
        raise ImmutableFieldError(
            f"ensure: these fields cannot be changed, and nothing was: {told}",
            differences=tuple(one for plan in plans for one in plan.immutable),
        )


# --- what was given --------------------------------------------------------------------------------------------------


def _several(what: str, given: object, *kinds: type[T]) -> list[T]:
    names = " or ".join(kind.__name__ for kind in kinds)
    items = _items(given)
    for item in items:
        if type(item) not in kinds:
            raise TypeError(f"ensure: {what} must be several of {names}, not {type(item).__name__}")
    return items  # type: ignore[return-value]  # each is one of these


def _pairs(given: object) -> list[tuple[str, ConsumerConfig]]:
    if is_mapping(given):
        return [_pair((stream, config)) for stream, several in given.items() for config in _items(several)]
    return [_pair(item) for item in _items(given)]


def _items(given: object) -> list[object]:
    return list(given) if _is_several(given) else [given]


def _is_several(given: object) -> TypeGuard[Iterable[object]]:
    return isinstance(given, Iterable) and not isinstance(given, str)


def _pair(item: object) -> tuple[str, ConsumerConfig]:
    match item:
        case (str() as stream, ConsumerConfig() as config):
            return stream, config
        case _:
            raise TypeError(
                f"ensure: consumers must be pairs of a stream's name and a ConsumerConfig, not {type(item).__name__}"
            )


def _check(
    streams: list[StreamConfig], buckets: list[BucketConfig], consumers: list[tuple[str, ConsumerConfig]]
) -> None:
    names: list[tuple[str, str]] = []
    for given in streams:
        given.check()
        names.append(("stream", check_name("stream", given.name)))
    for bucket in buckets:
        bucket.check()
        names.append((type(bucket).__name__.removesuffix("Config"), bucket.bucket))
    for stream, config in consumers:
        check_name("stream", stream)
        config.check()
        name = config.durable_name or config.name
        if name is None:
            raise ValueError(f"ensure: a consumer of stream {stream!r} needs a name, or it would be made each time")
        names.append((f"consumer of stream {stream!r}", name))
    for index, (kind, name) in enumerate(names):
        if (kind, name) in names[:index]:
            raise ValueError(f"ensure: the {kind} {name!r} is given twice")
