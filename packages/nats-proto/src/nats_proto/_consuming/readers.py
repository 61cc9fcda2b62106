"""What both clients make of the ways to read from a consumer: the machine, and what its messages have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from .._callables import check_function
from .._calls.operation import ApiCall
from .._jetstream.acknowledge import Acknowledgeable, Delivery
from .._jetstream.consumer_calls import info_call, put_call
from .._jetstream.consumer_info import ConsumerInfo
from .._session.subscription import MessageT
from ..errors import ConnectionClosedError, ConnectionDrainingError, NATSError, PermissionsError
from .condition import condition_of
from .consume import Consume
from .fetch import Fetch
from .options import EXPIRES, ConsumeOptions, OnMissing, Priority
from .refusals import is_gone
from .work import Work
from .work_options import WorkOptions

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._wire.frames import Message

__all__ = ["Employment", "Source", "check_handler", "ends_reading", "priority_of"]

ItemT = TypeVar("ItemT")
WorkedT = TypeVar("WorkedT", bound=Acknowledgeable)


class Source:
    """One consumer, as far as reading from it is concerned. ``info`` is what is known of it, which may be nothing."""

    __slots__ = ("_api", "_info", "_name", "_stream")

    def __init__(self, api: JetStreamApi, stream: str, name: str, info: ConsumerInfo | None) -> None:
        self._api = api
        self._stream = stream
        self._name = name
        self._info = info

    @property
    def delivery(self) -> Delivery:
        """What the messages have in common."""
        if self._info is None:
            return Delivery(stream=self._stream, consumer=self._name)
        config = self._info.config
        return Delivery(
            stream=self._stream,
            consumer=self._name,
            acknowledged=config.ack_policy != "none",
            ack_wait=config.ack_wait or None,
            backoff=tuple(config.backoff or ()),
        )

    @property
    def _subject(self) -> str:
        return f"{self._api.prefix}CONSUMER.MSG.NEXT.{self._stream}.{self._name}"

    def what(self, verb: str) -> str:
        """For the texts of errors and of the log."""
        return f"{verb} consumer {self._name!r} of stream {self._stream!r}"

    @property
    def _condition(self) -> ApiCall[object]:
        asked = info_call(self._api, self._stream, self._name)

        def decode(message: Message) -> object:
            return condition_of(asked.decode(message))

        return ApiCall(asked.what, asked.subject, asked.payload, decode)

    def fetch(
        self,
        make: Callable[[MessageT, float], ItemT],
        *,
        max_messages: int | None,
        max_bytes: int | None,
        timeout: float,
        no_wait: bool,
        linger: float | None,
        heartbeat: float | None,
        priority: Priority | None,
    ) -> Fetch[MessageT, ItemT]:
        """The machine of one fetch, which is still to be begun."""
        return Fetch(
            self._subject,
            what=self.what("fetch from"),
            new_inbox=self._api.new_inbox,
            make=make,
            batch=max_messages,
            max_bytes=max_bytes,
            timeout=timeout,
            no_wait=no_wait,
            linger=linger,
            heartbeat=heartbeat,
            priority=priority,
            priority_timeout=None if self._info is None else self._info.config.priority_timeout or None,
            info=self._condition,
        )

    def consume(
        self, make: Callable[[MessageT, float], ItemT], options: ConsumeOptions, *, now: float
    ) -> Consume[MessageT, ItemT]:
        """The machine that reads without end."""
        return Consume(
            self._subject,
            options,
            what=self.what("messages of"),
            new_inbox=self._api.new_inbox,
            make=make,
            info=self._condition,
            create=self._creation(options),
            now=now,
        )

    def _creation(self, options: ConsumeOptions) -> ApiCall[object] | None:
        """How to make the consumer again as it is known."""
        if options.on_missing != "recreate" or self._info is None:
            return None
        asked = put_call(self._api, self._stream, self._name, self._info.config, "")
        return ApiCall[object](asked.what, asked.subject, asked.payload, asked.decode, asked.headers)

    def employ(
        self,
        make: Callable[[MessageT, float], WorkedT],
        options: ConsumeOptions,
        policy: WorkOptions,
        *,
        prefetch: int | None,
    ) -> Employment[MessageT, WorkedT]:
        """What `work` needs to know of the consumer, and its machine."""
        config = None if self._info is None else self._info.config

        def machine(now: float) -> Work[MessageT, WorkedT]:
            return Work(
                self._subject,
                options,
                concurrency=policy.concurrency,
                keep_alive=policy.keep_alive_for,
                prefetch=prefetch,
                max_ack_pending=0 if config is None else config.max_ack_pending or 0,
                what=self.what("work on"),
                new_inbox=self._api.new_inbox,
                make=make,
                info=self._condition,
                create=self._creation(options),
                now=now,
                wait=_shortest_wait(self.delivery),
            )

        return Employment(machine, 0 if config is None else config.max_deliver or 0)

    def options(
        self,
        *,
        max_messages: int | None,
        max_bytes: int | None,
        threshold: int | None,
        limit: int | None,
        expires: float | None,
        heartbeat: float | None,
        on_missing: OnMissing,
        priority: Priority | None,
    ) -> ConsumeOptions:
        """The options of reading without end, with what is known of the consumer.

        Raises `ValueError` for a consumer that is to be created again and of which nothing is known.
        """
        if on_missing == "recreate" and self._info is None:
            raise ValueError("on_missing='recreate' needs the consumer's configuration: call refresh() before")
        config = None if self._info is None else self._info.config
        return ConsumeOptions(
            max_messages=max_messages,
            max_bytes=max_bytes,
            threshold=threshold,
            limit=limit,
            expires=EXPIRES if expires is None else expires,
            heartbeat=heartbeat,
            on_missing=on_missing,
            ack_wait=_longest_wait(self.delivery),
            max_deliver=0 if config is None else config.max_deliver or 0,
            priority=priority,
            priority_timeout=None if config is None else config.priority_timeout or float("inf"),
        )


def _shortest_wait(delivery: Delivery) -> float | None:
    """Seconds for which a message is certainly given to no other reader; None when that is not known."""
    if not delivery.acknowledged:
        return float("inf")
    return min(delivery.backoff) if delivery.backoff else delivery.ack_wait


def _longest_wait(delivery: Delivery) -> float | None:
    """Seconds after which a message is certainly given to another reader, whichever attempt it is."""
    if not delivery.acknowledged:
        return None
    return max(delivery.backoff) if delivery.backoff else delivery.ack_wait


class Employment(Generic[MessageT, WorkedT]):
    """What there is to be done, and how often a message is delivered (0 and less: without end)."""

    __slots__ = ("machine", "max_deliver")

    def __init__(self, machine: Callable[[float], Work[MessageT, WorkedT]], max_deliver: int) -> None:
        self.machine = machine
        self.max_deliver = max_deliver


def check_handler(method: str, handler: object, *, awaits: bool) -> None:
    """Raises `TypeError` for what cannot be called, or does nothing when it is. ``awaits``: the client awaits."""
    check_function(f"{method}: the handler", handler, awaits=awaits)


def ends_reading(error: NATSError, on_missing: OnMissing) -> bool:
    """Whether there is no point in reading when the question for the consumer's info has failed so."""
    if is_gone(error):
        return on_missing == "raise"
    return isinstance(error, (PermissionsError, ConnectionClosedError, ConnectionDrainingError))


def priority_of(
    group: str | None, min_pending: int | None, min_ack_pending: int | None, priority: int | None
) -> Priority | None:
    """What requests say to a consumer with priority groups. Raises `ValueError` for the rest without a group."""
    if group is not None:
        return Priority(group=group, min_pending=min_pending, min_ack_pending=min_ack_pending, priority=priority)
    if min_pending is not None or min_ack_pending is not None or priority is not None:
        raise ValueError("min_pending, min_ack_pending and priority need the group of the consumer")
    return None
