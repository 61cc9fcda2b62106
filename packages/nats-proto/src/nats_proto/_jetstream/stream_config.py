"""The configuration of a stream and its parts, by the names of the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from .._json.durations import Duration, DurationLike, Time
from .._json.wire_value import WireValue
from .._value import set_once
from .._wire.subjects import encode_subject, encode_subscription_subject
from .names import check_name

__all__ = [
    "Compression",
    "ConsumerLimits",
    "Discard",
    "ExternalStream",
    "PersistMode",
    "Placement",
    "Republish",
    "Retention",
    "SourceConsumer",
    "Storage",
    "StreamConfig",
    "StreamFields",
    "StreamSource",
    "SubjectTransform",
]

Retention = Literal["limits", "interest", "workqueue"]
Storage = Literal["file", "memory"]
Discard = Literal["old", "new"]
Compression = Literal["none", "s2"]
PersistMode = Literal["default", "async"]


class SubjectTransform(WireValue, frozen=True, kw_only=True):
    """Another subject for messages as they are stored (ADR-36)."""

    src: str
    """The subjects it is for, maybe with wildcards."""
    dest: str
    """What becomes of them, with ``{{wildcard(1)}}`` and the like."""


class Republish(WireValue, frozen=True, kw_only=True):
    """Each message that is stored is published once more, for those who only listen (ADR-28)."""

    dest: str
    """The subject to publish to, with ``{{wildcard(1)}}`` and the like."""
    src: str | None = None
    """The subjects it is for, maybe with wildcards. Default: all."""
    headers_only: bool | None = None
    """Without the payload; the header ``Nats-Msg-Size`` has its size in bytes."""


class Placement(WireValue, frozen=True, kw_only=True):
    """On which servers the replicas are placed."""

    cluster: str | None = None
    """The cluster's name."""
    tags: Sequence[str] | None = None
    """Tags that each of the servers must have."""
    preferred: str | None = None
    """The server that should be the leader."""


class ExternalStream(WireValue, frozen=True, kw_only=True):
    """Where a source lies in another domain or account. Give ``domain``, or ``api`` and ``deliver``."""

    local_fields = frozenset({"domain"})

    api: str | None = None
    """The prefix of the API's subjects there, such as ``$JS.hub.API``."""
    deliver: str | None = None
    """The prefix of the subjects that messages come to; needed between accounts."""
    domain: str | None = None
    """The JetStream domain, in place of ``api``: it becomes ``$JS.<domain>.API``, and None here."""

    def __post_init__(self) -> None:
        if self.domain is not None:
            if self.api is not None:
                raise ValueError("give either domain or api of a source, not both")
            set_once(self, "api", f"$JS.{check_name('domain', self.domain)}.API")
            set_once(self, "domain", None)
        super().__post_init__()

    def check(self) -> None:
        if not self.api:
            raise ValueError("an external stream needs its domain or api")
        encode_subject(self.api, "api prefix")


class SourceConsumer(WireValue, frozen=True, kw_only=True):
    """The consumer, made beforehand, by which a source is read."""

    name: str
    deliver_subject: str

    def check(self) -> None:
        check_name("consumer", self.name)
        encode_subject(self.deliver_subject, "deliver_subject")


class StreamSource(WireValue, frozen=True, kw_only=True):
    """Another stream whose messages are copied: a mirror's only one, or one of several sources."""

    local_fields = frozenset({"domain"})

    name: str
    """The other stream."""
    opt_start_seq: int | None = None
    """The sequence to begin with."""
    opt_start_time: Time | None = None
    """The time to begin with."""
    filter_subject: str | None = None
    """Only messages with these subjects. Refused together with ``subject_transforms``."""
    subject_transforms: Sequence[SubjectTransform] | None = None
    """Only messages with these subjects, and what becomes of them."""
    external: ExternalStream | None = None
    """Where the stream lies in another domain or account."""
    consumer: SourceConsumer | None = None
    """The consumer to read it by, in place of one that the server makes for itself."""
    domain: str | None = None
    """The stream's JetStream domain, in place of ``external``: it becomes an `ExternalStream`, and None here."""

    def __post_init__(self) -> None:
        if self.domain is not None:
            if self.external is not None:
                raise ValueError("give either domain or external of a source, not both")
            set_once(self, "external", ExternalStream(domain=self.domain))
            set_once(self, "domain", None)
        super().__post_init__()

    def check(self) -> None:
        check_name("stream", self.name)
        if self.opt_start_seq is not None and self.opt_start_time is not None:
            raise ValueError(f"source {self.name!r}: give either opt_start_seq or opt_start_time, not both")
        if self.filter_subject and self.subject_transforms:
            raise ValueError(f"source {self.name!r}: give either filter_subject or subject_transforms, not both")
        if self.filter_subject:
            encode_subscription_subject(self.filter_subject)
        super().check()


class ConsumerLimits(WireValue, frozen=True, kw_only=True):
    """The most that consumers of the stream may set, and what they get who set nothing."""

    inactive_threshold: Duration | None = None
    max_ack_pending: int | None = None


class StreamConfig(WireValue, frozen=True, kw_only=True):
    """A stream's configuration. Durations are seconds, sizes bytes, -1 means no limit.

    What is not given is None, and left to the server; what it chose then stands in `StreamInfo`. To change a field:
    ``dataclasses.replace(info.config, max_age=60)``.
    """

    name: str
    """1 to 255 characters of printable ASCII, without ``. * > / \\`` and blank."""
    description: str | None = None
    """For people; 4096 characters at most."""
    subjects: Sequence[str] | None = None
    """What the stream takes, wildcards allowed. Servers take the stream's name when there are neither subjects nor
    sources."""
    retention: Retention | None = None
    """``limits``: until a limit is reached. ``interest``: until all consumers have acknowledged. ``workqueue``: until
    one has."""
    storage: Storage | None = None
    """``file`` or ``memory``."""
    num_replicas: int | None = None
    """On how many servers each message is stored, 1 to 5."""
    max_age: Duration | None = None
    """How long messages are kept; 0: for ever."""
    max_bytes: int | None = None
    """How large the stream may become."""
    max_msgs: int | None = None
    """How many messages the stream may have."""
    max_msgs_per_subject: int | None = None
    """How many messages of each subject the stream may have."""
    max_msg_size: int | None = None
    """The largest message that is taken, headers and payload together."""
    max_consumers: int | None = None
    """How many consumers the stream may have."""
    discard: Discard | None = None
    """When a limit is reached: ``old`` messages go, or ``new`` ones are refused (`StreamFullError`)."""
    discard_new_per_subject: bool | None = None
    """With ``discard="new"``: new messages are refused also when ``max_msgs_per_subject`` is reached."""
    duplicate_window: Duration | None = None
    """How long the ids of messages are remembered, to drop duplicates; 0: the server's default, two minutes."""
    no_ack: bool | None = None
    """Nothing that is published is acknowledged. `JetStream.publish` needs the acknowledgements."""
    placement: Placement | None = None
    """On which servers the stream is placed."""
    mirror: StreamSource | None = None
    """The stream is a copy of this one. Refused together with ``subjects`` and ``sources``."""
    sources: Sequence[StreamSource] | None = None
    """Streams whose messages are copied into this one."""
    subject_transform: SubjectTransform | None = None
    """Another subject for messages as they are stored."""
    republish: Republish | None = None
    """What is stored is published once more."""
    compression: Compression | None = None
    """How files are compressed."""
    first_seq: int | None = None
    """The sequence of the first message."""
    allow_direct: bool | None = None
    """Any replica may answer reads of single messages (ADR-31): quick, and maybe not the latest."""
    mirror_direct: bool | None = None
    """A mirror may answer reads of single messages of the stream that it is a copy of."""
    allow_rollup_hdrs: bool | None = None
    """A message may take the place of all before it (header ``Nats-Rollup``)."""
    allow_msg_ttl: bool | None = None
    """A message may have a time to live of its own (ADR-43)."""
    subject_delete_marker_ttl: Duration | None = None
    """When the last message of a subject goes because of its age, a marker takes its place for so long (ADR-43)."""
    allow_msg_counter: bool | None = None
    """Messages are increments of counters, one for each subject (ADR-49)."""
    allow_atomic: bool | None = None
    """Batches are stored wholly or not at all (ADR-50)."""
    allow_batched: bool | None = None
    """Fast ingest is allowed: publishing with one acknowledgement for many messages."""
    allow_msg_schedules: bool | None = None
    """Messages may be delivered at later times (ADR-51)."""
    deny_delete: bool | None = None
    """Nobody can delete single messages. It cannot be taken back."""
    deny_purge: bool | None = None
    """Nobody can purge the stream. It cannot be taken back."""
    sealed: bool | None = None
    """The stream cannot be changed any more. It cannot be taken back, and not be given at the creation."""
    persist_mode: PersistMode | None = None
    """``async``: acknowledged before it is on the disk, for streams with one replica."""
    consumer_limits: ConsumerLimits | None = None
    """The most that consumers of the stream may set."""
    metadata: Mapping[str, str] | None = None
    """For programs. Keys that begin with ``_nats.`` are the server's."""

    def check(self) -> None:
        check_name("stream", self.name)
        for subject in self.subjects or ():
            encode_subscription_subject(subject)
        if self.mirror is not None:
            for other, given in (("subjects", self.subjects), ("sources", self.sources)):
                if given:
                    raise ValueError(f"stream {self.name!r}: a mirror has no {other} of its own: leave them out")
        super().check()


class StreamFields(TypedDict, total=False):
    """The fields of `StreamConfig` but ``name``, as keywords."""

    description: str | None
    subjects: Sequence[str] | None
    retention: Retention | None
    storage: Storage | None
    num_replicas: int | None
    max_age: DurationLike | None
    max_bytes: int | None
    max_msgs: int | None
    max_msgs_per_subject: int | None
    max_msg_size: int | None
    max_consumers: int | None
    discard: Discard | None
    discard_new_per_subject: bool | None
    duplicate_window: DurationLike | None
    no_ack: bool | None
    placement: Placement | None
    mirror: StreamSource | None
    sources: Sequence[StreamSource] | None
    subject_transform: SubjectTransform | None
    republish: Republish | None
    compression: Compression | None
    first_seq: int | None
    allow_direct: bool | None
    mirror_direct: bool | None
    allow_rollup_hdrs: bool | None
    allow_msg_ttl: bool | None
    subject_delete_marker_ttl: DurationLike | None
    allow_msg_counter: bool | None
    allow_atomic: bool | None
    allow_batched: bool | None
    allow_msg_schedules: bool | None
    deny_delete: bool | None
    deny_purge: bool | None
    sealed: bool | None
    persist_mode: PersistMode | None
    consumer_limits: ConsumerLimits | None
    metadata: Mapping[str, str] | None
