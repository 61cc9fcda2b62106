"""The configuration of a consumer, by the names of the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from .._json.durations import Duration, DurationLike, Time
from .._json.wire_value import WireValue
from .._wire.subjects import encode_queue, encode_subject, encode_subscription_subject
from .names import check_name, check_priority_group

__all__ = ["AckPolicy", "ConsumerConfig", "ConsumerFields", "DeliverPolicy", "PriorityPolicy", "ReplayPolicy"]

DeliverPolicy = Literal["all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject"]
AckPolicy = Literal["none", "all", "explicit", "flow_control"]
ReplayPolicy = Literal["instant", "original"]
PriorityPolicy = Literal["none", "overflow", "pinned_client", "prioritized"]


class ConsumerConfig(WireValue, frozen=True, kw_only=True):
    """A consumer's configuration. Durations are seconds, sizes bytes, -1 means no limit.

    What is not given is None, and left to the server; what it chose then stands in `ConsumerInfo`.
    """

    name: str | None = None
    """1 to 255 characters of printable ASCII, without ``. * > / \\`` and blank."""
    durable_name: str | None = None
    """The same name once more: the consumer stays when nobody uses it. Without it, it goes after
    ``inactive_threshold``."""
    description: str | None = None
    """For people; 4096 characters at most."""
    deliver_policy: DeliverPolicy | None = None
    """With which message to begin."""
    opt_start_seq: int | None = None
    """The sequence to begin with, for ``by_start_sequence``."""
    opt_start_time: Time | None = None
    """The time to begin with, for ``by_start_time``."""
    ack_policy: AckPolicy | None = None
    """``explicit``: each message is acknowledged. ``all``: an acknowledgement counts for all before it as well.
    ``none``: delivered means done."""
    ack_wait: Duration | None = None
    """After so long without an acknowledgement a message is delivered again. The server's default is 30 seconds."""
    max_deliver: int | None = None
    """How often a message is delivered at most."""
    backoff: Sequence[Duration] | None = None
    """In place of ``ack_wait``: how long to wait after the first delivery, the second, ...; the last one counts for all
    that follow."""
    filter_subject: str | None = None
    """Only messages with these subjects, wildcards allowed. Refused together with ``filter_subjects``."""
    filter_subjects: Sequence[str] | None = None
    """Only messages with one of these subjects, wildcards allowed."""
    replay_policy: ReplayPolicy | None = None
    """``instant``: as fast as possible. ``original``: in the time in which they were stored."""
    rate_limit_bps: int | None = None
    """Bits per second; push consumers alone."""
    sample_freq: str | None = None
    """How many acknowledgements are told to monitors, in per cent, such as ``"10"``."""
    max_ack_pending: int | None = None
    """So many messages may wait for their acknowledgement; then no more are delivered."""
    max_waiting: int | None = None
    """How many requests of pull consumers may wait at the server."""
    max_batch: int | None = None
    """How many messages one request may ask for."""
    max_bytes: int | None = None
    """How many bytes one request may ask for."""
    max_expires: Duration | None = None
    """How long one request may wait."""
    headers_only: bool | None = None
    """Messages come without payload; the header ``Nats-Msg-Size`` has its size in bytes."""
    deliver_subject: str | None = None
    """Where a push consumer delivers to. Without it, it is a pull consumer."""
    deliver_group: str | None = None
    """The queue group of those who share the messages of a push consumer."""
    flow_control: bool | None = None
    """A push consumer asks now and then whether its messages are being read."""
    idle_heartbeat: Duration | None = None
    """A push consumer says so often that it is there; 0.1 seconds at least."""
    inactive_threshold: Duration | None = None
    """After so long without use the server deletes it. The server's default is 5 seconds without a durable name, and
    never with one."""
    num_replicas: int | None = None
    """On how many servers its state is kept; 0: on as many as the stream is."""
    mem_storage: bool | None = None
    """Its state is kept in memory, also that of a stream on disk."""
    direct: bool | None = None
    """For servers among themselves."""
    sourcing: bool | None = None
    """For servers among themselves."""
    pause_until: Time | None = None
    """It delivers nothing before this time."""
    priority_groups: Sequence[str] | None = None
    """The group of those who pull, one at most for the present: 1 to 16 letters, digits and ``- _ / =`` (ADR-42)."""
    priority_policy: PriorityPolicy | None = None
    """Who of a group gets messages first."""
    priority_timeout: Duration | None = None
    """For ``pinned_client``: after so long without a request it is another one's turn."""
    metadata: Mapping[str, str] | None = None
    """For programs. Keys that begin with ``_nats.`` are the server's."""

    def check(self) -> None:
        self._check_names()
        self._check_start()
        if self.filter_subject and self.filter_subjects:
            raise ValueError("give either filter_subject or filter_subjects of a consumer, not both")
        for subject in (self.filter_subject,) if self.filter_subject else self.filter_subjects or ():
            encode_subscription_subject(subject)
        if self.deliver_subject is not None:
            encode_subject(self.deliver_subject, "deliver_subject")
        if self.deliver_group is not None:
            encode_queue(self.deliver_group)
        for group in self.priority_groups or ():
            check_priority_group(group)

    def _check_names(self) -> None:
        for name in (self.name, self.durable_name):
            if name is not None:
                check_name("consumer", name)
        if self.name and self.durable_name and self.name != self.durable_name:
            raise ValueError(
                f"name {self.name!r} and durable_name {self.durable_name!r} of a consumer must be equal, or one of "
                "them left out"
            )

    def _check_start(self) -> None:
        for policy, field, given in (
            ("by_start_sequence", "opt_start_seq", self.opt_start_seq),
            ("by_start_time", "opt_start_time", self.opt_start_time),
        ):
            if given is None and self.deliver_policy == policy:
                raise ValueError(f"deliver_policy={policy!r} needs {field}")
            if given and self.deliver_policy != policy:
                raise ValueError(f"{field} needs deliver_policy={policy!r}")


class ConsumerFields(TypedDict, total=False):
    """The fields of `ConsumerConfig`, as keywords."""

    name: str | None
    durable_name: str | None
    description: str | None
    deliver_policy: DeliverPolicy | None
    opt_start_seq: int | None
    opt_start_time: Time | None
    ack_policy: AckPolicy | None
    ack_wait: DurationLike | None
    max_deliver: int | None
    backoff: Sequence[DurationLike] | None
    filter_subject: str | None
    filter_subjects: Sequence[str] | None
    replay_policy: ReplayPolicy | None
    rate_limit_bps: int | None
    sample_freq: str | None
    max_ack_pending: int | None
    max_waiting: int | None
    max_batch: int | None
    max_bytes: int | None
    max_expires: DurationLike | None
    headers_only: bool | None
    deliver_subject: str | None
    deliver_group: str | None
    flow_control: bool | None
    idle_heartbeat: DurationLike | None
    inactive_threshold: DurationLike | None
    num_replicas: int | None
    mem_storage: bool | None
    direct: bool | None
    sourcing: bool | None
    pause_until: Time | None
    priority_groups: Sequence[str] | None
    priority_policy: PriorityPolicy | None
    priority_timeout: DurationLike | None
    metadata: Mapping[str, str] | None
