"""What an ordered reader asks the server: to make a consumer from a place on, and to delete one.

The consumers that it makes, one after the other, have names of their own: `ordered-<random>_1`, `..._2`. So an answer,
or a deletion, that comes late is never taken for one that concerns the next consumer; and who looks at a server knows
what these consumers are. The server deletes each by itself when nobody asks it for messages for `inactive_threshold`
seconds, so that one whose deletion was lost does not stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from .._calls.operation import ApiCall, Publish
from .._jetstream.consumer_calls import delete_call, put_call
from .._jetstream.consumer_config import ConsumerConfig, DeliverPolicy, ReplayPolicy
from .._jetstream.errors import JetStreamNotEnabledError
from .._jetstream.names import check_name
from .._json.durations import DurationLike, Time, take_duration
from .._limits import one_or_several
from .options import EXPIRES, ConsumeOptions

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._wire.frames import Message

__all__ = ["INACTIVE_THRESHOLD", "PREFIX", "OrderedCalls", "ordered_config", "ordered_options"]

PREFIX: Final = "ordered"
INACTIVE_THRESHOLD: Final = 60.0
"""Seconds. Long enough for a reader that is busy with what it has; whoever is longer has a new consumer made. Short
enough that consumers of programs that were killed do not add up."""
MAX_MESSAGES: Final = 500
"""Messages outstanding, when nobody says otherwise. Nobody else waits for them, and none grows too old."""
_MAX_PREFIX: Final = 200
"""Characters; the rest of a name of 255 is the random part and the number."""


def ordered_config(
    *,
    filter_subjects: str | Sequence[str] | None = None,
    deliver_policy: DeliverPolicy | None = None,
    opt_start_seq: int | None = None,
    opt_start_time: Time | None = None,
    headers_only: bool = False,
    replay_policy: ReplayPolicy | None = None,
    inactive_threshold: DurationLike = INACTIVE_THRESHOLD,
    metadata: Mapping[str, str] | None = None,
) -> ConsumerConfig:
    """The configuration of the first consumer. A start that is given needs no ``deliver_policy`` beside it.

    Raises `TypeError` and `ValueError` for what no server takes.
    """
    subjects = () if filter_subjects is None else tuple(one_or_several("filter_subjects", filter_subjects))
    if deliver_policy is None:
        if opt_start_seq is not None:
            deliver_policy = "by_start_sequence"
        elif opt_start_time is not None:
            deliver_policy = "by_start_time"
        else:
            deliver_policy = "all"
    if deliver_policy == "last_per_subject" and not subjects:
        subjects = (">",)  # servers demand one
    threshold = take_duration("inactive_threshold", inactive_threshold)
    if threshold <= 0:
        raise ValueError("inactive_threshold must be greater than 0 seconds")
    config = ConsumerConfig(
        deliver_policy=deliver_policy,
        opt_start_seq=opt_start_seq,
        opt_start_time=opt_start_time,
        ack_policy="none",
        filter_subject=subjects[0] if len(subjects) == 1 else None,
        filter_subjects=subjects if len(subjects) > 1 else None,
        replay_policy=replay_policy,
        headers_only=True if headers_only else None,
        inactive_threshold=threshold,
        num_replicas=1,
        mem_storage=True,
        metadata=metadata,
    )
    config.check()
    return config


def ordered_options(
    *,
    max_messages: int | None,
    max_bytes: int | None,
    threshold: int | None,
    expires: float | None,
    heartbeat: float | None,
) -> ConsumeOptions:
    """How the consumer is read. Raises as `ConsumeOptions`."""
    return ConsumeOptions(
        max_messages=MAX_MESSAGES if max_messages is None and max_bytes is None else max_messages,
        max_bytes=max_bytes,
        threshold=threshold,
        expires=EXPIRES if expires is None else expires,
        heartbeat=heartbeat,
    )


class OrderedCalls:
    """The calls for one stream and one configuration. ``prefix``: how the names of the consumers begin. ``patience``:
    seconds in which the first consumer has to be made; by default those of a call.

    Raises `InvalidNameError` for what cannot be a name.
    """

    __slots__ = ("_api", "_config", "_name", "_prefix", "patience", "rng", "stream", "what")

    def __init__(
        self,
        api: JetStreamApi,
        stream: str,
        config: ConsumerConfig,
        *,
        prefix: str = PREFIX,
        patience: float | None = None,
    ) -> None:
        self._api = api
        self._config = config
        self.patience = api.timeout if patience is None else patience
        self.stream = check_name("stream", stream)
        if len(check_name("consumer", prefix)) > _MAX_PREFIX:
            raise ValueError(f"the prefix of a consumer's name may have {_MAX_PREFIX} characters")
        self._prefix = prefix
        random = api.new_inbox().rpartition(".")[2]
        self._name = f"{prefix}-{random}"
        self.rng = Random(random)  # noqa: S311  # for pauses; it comes from the random numbers of the session
        self.what = f"ordered consumer of stream {stream!r}"

    def renewed(self) -> OrderedCalls:
        """The same, for a reader of its own, whose consumers have other names."""
        return OrderedCalls(self._api, self.stream, self._config, prefix=self._prefix, patience=self.patience)

    @property
    def config(self) -> ConsumerConfig:
        """Of the first consumer."""
        return self._config

    @property
    def new_inbox(self) -> Callable[[], str]:
        """Makes subjects that nobody else has."""
        return self._api.new_inbox

    @property
    def timeout(self) -> float:
        """Seconds for a call."""
        return self._api.timeout

    @property
    def stream_is_new(self) -> bool:
        """A server may not know the stream yet, since we have just made it."""
        return self._api.is_new(self.stream)

    def name(self, serial: int) -> str:
        """Of the consumer with this number."""
        return f"{self._name}_{serial}"

    def pull_subject(self, name: str) -> str:
        """Where messages are asked for."""
        return f"{self._api.prefix}CONSUMER.MSG.NEXT.{self.stream}.{name}"

    def create(self, name: str, sequence: int | None) -> ApiCall[object]:
        """Make a consumer: with the first message that the user wants, or with this sequence.

        Of the user's start nothing is sent with a sequence: servers refuse both together.
        """
        config = self._config
        if sequence is not None:
            config = replace(config, deliver_policy="by_start_sequence", opt_start_seq=sequence, opt_start_time=None)
        call = put_call(self._api, self.stream, name, config, "create")

        def decode(message: Message) -> object:
            return call.decode(message)

        return ApiCall(call.what, call.subject, call.payload, decode, call.headers)

    def delete(self, name: str) -> ApiCall[object]:
        """Delete a consumer."""
        call = delete_call(self._api, self.stream, name)

        def decode(message: Message) -> object:
            call.decode(message)
            return None

        return ApiCall(call.what, call.subject, call.payload, decode, call.headers)

    def forget(self, name: str) -> Publish:
        """Delete a consumer, and wait for no answer."""
        return Publish(delete_call(self._api, self.stream, name).subject)

    def nobody(self, subject: str) -> JetStreamNotEnabledError:
        """The error of a question to which nobody listens."""
        return self._api.nobody(self.what, subject)
