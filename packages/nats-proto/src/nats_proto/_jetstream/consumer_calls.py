"""What is asked about consumers: one function for each call of the API (ADR-13, ADR-42, ADR-60).

Each gives an operation, which the driver of a client runs. Names are checked before anything is asked. All raise what
`JetStreamApi.call` raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from msgspec.structs import replace

from .._calls.operation import ApiCall, Operation
from .._json.durations import Time, format_time, take_time
from .._json.wire_value import to_wire
from .._limits import check_text
from ..errors import NATSTimeoutError, PermissionsError
from .consumer_config import ConsumerConfig
from .consumer_info import ConsumerInfo, ConsumerPause
from .decoders import check_nothing_dropped, check_sequence, names_of, succeeded, tell_differences, value_of, values_of
from .errors import ConsumerExistsError
from .levels import level_of_consumer
from .names import check_name
from .pages import Pages
from .read_config import read_config, refuse_config

if TYPE_CHECKING:
    from .api import JetStreamApi

__all__ = [
    "Action",
    "consumer_info",
    "delete_call",
    "delete_consumer",
    "info_call",
    "list_consumer_names",
    "list_consumers",
    "pause_consumer",
    "put_call",
    "put_consumer",
    "read_consumer",
    "reset_consumer",
    "unpin_consumer",
]

Action = Literal["create", "update", ""]
"""What there may be already: nothing with another configuration, a consumer of this name, or either."""

WHY: Final = 1.0
"""Seconds for a question why another one was not answered."""

_WILDCARD: Final = frozenset("*>")
_VERBS: Final = {"create": "create", "update": "update", "": "create or update"}


def read_consumer(config: object, durable_name: str | None, fields: Mapping[str, object]) -> ConsumerConfig:
    """The configuration that a user gave, see `read_config`, with this durable name."""
    refuse_config(durable_name)
    if durable_name is not None and config is None:
        fields = {**fields, "durable_name": durable_name}
    elif durable_name is not None and isinstance(config, ConsumerConfig):
        if config.durable_name not in (None, durable_name):
            raise ValueError(f"the durable name is given twice, as {durable_name!r} and as {config.durable_name!r}")
        config = replace(config, durable_name=durable_name)
    return read_config(ConsumerConfig, config, None, fields)


def put_consumer(
    api: JetStreamApi, stream: str, config: ConsumerConfig, action: Action, *, timeout: float | None
) -> Operation[ConsumerInfo]:
    """Make or change a consumer. One without a name gets one from here, so that an answer that is lost costs nothing.

    Raises `ConsumerExistsError`, `ConsumerDoesNotExistError`, `FeatureDroppedError`, and others of `ApiError`.
    """
    check_name("stream", stream)
    name = config.durable_name or config.name or api.new_name()
    call = put_call(api, stream, name, config, action)
    began, seconds = api.clock(), api.seconds(timeout)
    try:
        info = yield from api.call(call, seconds, stream=stream)
    except ConsumerExistsError as error:
        there = consumer_info(api, stream, name, timeout=max(began + seconds - api.clock(), 0.0))
        yield from tell_differences(error, config, there)
        raise
    if action != "update":
        api.created(stream, name)
    check_nothing_dropped(call.what, config, info.config, api.server_version())
    return info


def put_call(
    api: JetStreamApi, stream: str, name: str, config: ConsumerConfig, action: Action
) -> ApiCall[ConsumerInfo]:
    """The question alone, for machines that ask it. ``name``: of the consumer, in place of that in ``config``."""
    check_name("consumer", name)
    what = f"{_VERBS[action]} consumer {name!r} of stream {stream!r}"
    subject = f"CONSUMER.CREATE.{stream}.{name}"
    # So that permissions can tell filters apart. One with wildcards is no subject to publish to: servers take it in the
    # body alone as well.
    if config.filter_subject and not _WILDCARD.intersection(config.filter_subject.split(".")):
        subject += f".{config.filter_subject}"
    # A server takes no policy as "none". Who reads from a consumer and says nothing means to acknowledge, as with every
    # other client.
    wanted = {"ack_policy": "explicit", **to_wire(config), "name": name}
    body = {"stream_name": stream, "config": wanted, "action": action}
    return api.request(what, subject, value_of(what, ConsumerInfo), body, level=level_of_consumer(config))


def consumer_info(api: JetStreamApi, stream: str, name: str, *, timeout: float | None) -> Operation[ConsumerInfo]:
    """The consumer as it is."""
    return api.call(info_call(api, stream, name), timeout, stream=stream, consumer=name)


def delete_consumer(api: JetStreamApi, stream: str, name: str, *, timeout: float | None) -> Operation[None]:
    """Delete a consumer. What it delivered and was not acknowledged stays in the stream."""
    yield from api.call(delete_call(api, stream, name), timeout, stream=stream, consumer=name)
    api.deleted(stream, name)


def delete_call(api: JetStreamApi, stream: str, name: str) -> ApiCall[None]:
    """The question alone, for machines that ask it."""
    what, where = _named("delete", stream, name)
    return api.request(what, f"CONSUMER.DELETE.{where}", succeeded(what))


def pause_consumer(
    api: JetStreamApi, stream: str, name: str, until: Time | None, *, timeout: float | None
) -> Operation[ConsumerPause]:
    """Have a consumer deliver nothing until then (server 2.11); None or a time in the past: let it go on."""
    api.check_server("to pause consumers", 2, 11)
    what, where = _named("resume" if until is None else "pause", stream, name)
    body = None if until is None else {"pause_until": format_time(take_time("until", until))}
    call = api.request(what, f"CONSUMER.PAUSE.{where}", value_of(what, ConsumerPause), body)
    return api.call(call, timeout, stream=stream, consumer=name)


def reset_consumer(
    api: JetStreamApi, stream: str, name: str, sequence: int | None, *, timeout: float | None
) -> Operation[ConsumerInfo]:
    """Have a consumer begin anew (server 2.14): at the stream sequence, None: where its acknowledgements end.

    Raises `ConsumerNotFoundError` when the time is up, since no server answers for a consumer that is not there.
    """
    api.check_server("to reset consumers", 2, 14)
    what, where = _named("reset", stream, name)
    body = None if sequence is None else {"seq": check_sequence("sequence", sequence)}
    call = api.request(what, f"CONSUMER.RESET.{where}", value_of(what, ConsumerInfo), body)
    try:
        return (yield from api.call(call, timeout, stream=stream, consumer=name))
    except NATSTimeoutError:
        with suppress(NATSTimeoutError, PermissionsError):
            yield from consumer_info(api, stream, name, timeout=WHY)
        raise


def unpin_consumer(api: JetStreamApi, stream: str, name: str, group: str, *, timeout: float | None) -> Operation[None]:
    """Have the server choose another client for this priority group (ADR-42, server 2.11)."""
    api.check_server("to unpin clients", 2, 11)
    check_text("group", group)
    what, where = _named("unpin", stream, name)
    call = api.request(what, f"CONSUMER.UNPIN.{where}", succeeded(what), {"group": group})
    return api.call(call, timeout, stream=stream, consumer=name)


def list_consumer_names(api: JetStreamApi, stream: str) -> Pages[str]:
    """The names of all consumers of a stream."""
    where = f"CONSUMER.NAMES.{check_name('stream', stream)}"
    return Pages(
        api, f"consumer names of stream {stream!r}", where, {}, lambda what, answer: names_of(what, answer, "consumers")
    )


def list_consumers(api: JetStreamApi, stream: str) -> Pages[ConsumerInfo]:
    """All consumers of a stream."""
    where = f"CONSUMER.LIST.{check_name('stream', stream)}"
    return Pages(
        api,
        f"consumers of stream {stream!r}",
        where,
        {},
        lambda what, answer: values_of(what, answer, "consumers", ConsumerInfo, lambda info: info.name),
    )


def info_call(api: JetStreamApi, stream: str, name: str) -> ApiCall[ConsumerInfo]:
    """The question alone, for machines that ask it."""
    what, where = _named("info", stream, name)
    return api.request(what, f"CONSUMER.INFO.{where}", value_of(what, ConsumerInfo))


def _named(verb: str, stream: str, name: str) -> tuple[str, str]:
    where = f"{check_name('stream', stream)}.{check_name('consumer', name)}"
    return f"{verb} consumer {name!r} of stream {stream!r}", where
