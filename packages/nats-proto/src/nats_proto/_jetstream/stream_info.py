"""What servers tell about a stream. All of it is read alone: times are `Timestamp`, durations `Seconds`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._json.durations import Seconds, Timestamp
from .._json.wire_value import WireValue
from .stream_config import ExternalStream, StreamConfig, SubjectTransform

__all__ = [
    "ClusterInfo",
    "InfoError",
    "LostStreamData",
    "PeerInfo",
    "SourceInfo",
    "StreamAlternate",
    "StreamInfo",
    "StreamState",
]


class PeerInfo(WireValue, frozen=True, kw_only=True):
    """A replica other than the leader."""

    name: str
    """The server's name."""
    current: bool = False
    """It has seen the leader of late and has all that the leader has."""
    offline: bool = False
    """The group considers it offline."""
    active: Seconds | None = None
    """How long ago the leader heard of it."""
    lag: int = 0
    """How many operations it is behind."""
    peer: str | None = None
    """Its id in the group."""


class ClusterInfo(WireValue, frozen=True, kw_only=True):
    """Where a stream or a consumer is, in a cluster."""

    name: str | None = None
    """The cluster's name."""
    raft_group: str | None = None
    """The group of the replicas."""
    leader: str | None = None
    """The server that leads them; None: there is none at the moment."""
    leader_since: Timestamp | None = None
    """When it was elected."""
    replicas: Sequence[PeerInfo] = ()
    """The others."""
    system_account: bool | None = None
    """Replicas speak to each other in the system account."""
    traffic_account: str | None = None
    """The account in which they speak to each other."""


class LostStreamData(WireValue, frozen=True, kw_only=True):
    """Messages that were damaged and could not be saved."""

    msgs: Sequence[int] = ()
    """Their sequences."""
    bytes: int = 0


class StreamState(WireValue, frozen=True, kw_only=True):
    """What a stream has."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    first_ts: Timestamp | None = None
    """When the first message was stored; None: there is no message."""
    last_seq: int = 0
    """The sequence of the last message that was ever stored."""
    last_ts: Timestamp | None = None
    consumer_count: int = 0
    num_subjects: int = 0
    """How many subjects there are messages of."""
    num_deleted: int = 0
    """How many messages between the first and the last are gone."""
    deleted: Sequence[int] = ()
    """Their sequences, where they were asked for."""
    subjects: Mapping[str, int] | None = None
    """How many messages there are of each subject, where this was asked for."""
    lost: LostStreamData | None = None


class InfoError(WireValue, frozen=True, kw_only=True):
    """Why the server could not do a part of what it does by itself."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class SourceInfo(WireValue, frozen=True, kw_only=True):
    """How far a mirror, or one source of a stream, is."""

    name: str
    """The other stream."""
    lag: int = 0
    """How many messages are not copied yet."""
    active: Seconds | None = None
    """How long ago something came. Its ``nanoseconds`` are -1 when nothing ever did."""
    external: ExternalStream | None = None
    filter_subject: str | None = None
    subject_transforms: Sequence[SubjectTransform] | None = None
    error: InfoError | None = None
    """Why nothing is copied at the moment."""


class StreamAlternate(WireValue, frozen=True, kw_only=True):
    """A mirror that may be nearer."""

    name: str
    cluster: str | None = None
    domain: str | None = None


class StreamInfo(WireValue, frozen=True, kw_only=True):
    """A stream, as its leader sees it."""

    config: StreamConfig
    state: StreamState
    created: Timestamp | None = None
    ts: Timestamp | None = None
    """When this was told, by the clock of the server."""
    cluster: ClusterInfo | None = None
    mirror: SourceInfo | None = None
    """How far the copy is, of a mirror."""
    sources: Sequence[SourceInfo] = ()
    """How far the copies are, of a stream with sources."""
    alternates: Sequence[StreamAlternate] = ()
    """Mirrors of the stream, the nearest first."""
    domain: str | None = None
    """The JetStream domain that it is in."""
