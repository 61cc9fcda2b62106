"""JetStream's values and errors, for whatever client speaks to the servers.

Both clients re-export these names, so that there is one of each. ``import nats_proto`` loads nothing of it.
"""

from typing import TYPE_CHECKING

from ._consuming.diagnose import Diagnosis
from ._consuming.fetch import FetchReason
from ._consuming.hooks import Hooks, Settlement
from ._consuming.options import OnMissing
from ._consuming.signals import Reject, Retry
from ._consuming.stats import ConsumerStats
from ._consuming.warning import ConsumerWarning, WarningKind
from ._consuming.work_options import OnPoison
from ._ensure.ensure import ConsumersToEnsure
from ._ensure.plan import BucketConfig
from ._ensure.report import EnsureAction, EnsureReport, EnsureStep, ImmutableFieldError
from ._jetstream.account_info import AccountInfo, AccountLimits, AccountTier, ApiStats
from ._jetstream.api_answer import Difference
from ._jetstream.consumer_config import (
    AckPolicy,
    ConsumerConfig,
    ConsumerFields,
    DeliverPolicy,
    PriorityPolicy,
    ReplayPolicy,
)
from ._jetstream.consumer_info import ConsumerInfo, ConsumerPause, PriorityGroupState, SequenceInfo
from ._jetstream.errors import (
    AlreadyAcknowledgedError,
    ApiError,
    ApiLevelError,
    AtomicBatchError,
    ClusterUnavailableError,
    ConsumerDeletedError,
    ConsumerDoesNotExistError,
    ConsumerExistsError,
    ConsumerInUseError,
    ConsumerNotFoundError,
    ConsumerOfflineError,
    CounterError,
    DuplicateInProgressError,
    FastIngestError,
    FeatureDroppedError,
    InsufficientResourcesError,
    InvalidNameError,
    JetStreamDecodeError,
    JetStreamDomainNotFoundError,
    JetStreamError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    MaxConsumersError,
    MaxMessageSizeError,
    MaxStreamsError,
    MessageNotFoundError,
    MessageScheduleError,
    MessageTTLError,
    NoHeartbeatError,
    NoStreamResponseError,
    NotJetStreamMessageError,
    PriorityGroupError,
    PublishWindowFullError,
    PullLimitError,
    PullRefusedError,
    StoreFailedError,
    StreamFullError,
    StreamNameInUseError,
    StreamNotFoundError,
    StreamOfflineError,
    StreamSealedError,
    SubjectsOverlapError,
    TooManyRequestsError,
    WrongLastMsgIdError,
    WrongLastSequenceError,
    WrongStreamError,
)
from ._jetstream.metadata import Metadata
from ._jetstream.names import check_name
from ._jetstream.pub_ack import PubAck
from ._jetstream.read_config import read_config
from ._jetstream.stored_message import StoredMessage
from ._jetstream.stream_config import (
    Compression,
    ConsumerLimits,
    Discard,
    ExternalStream,
    PersistMode,
    Placement,
    Republish,
    Retention,
    SourceConsumer,
    Storage,
    StreamConfig,
    StreamFields,
    StreamSource,
    SubjectTransform,
)
from ._jetstream.stream_info import (
    ClusterInfo,
    InfoError,
    LostStreamData,
    PeerInfo,
    SourceInfo,
    StreamAlternate,
    StreamInfo,
    StreamState,
)
from ._json.durations import DurationLike, Seconds, Timestamp
from ._json.wire_value import WireValue
from ._keyvalue.bucket import KeyValueConfig, KeyValueFields, KeyValueStatus
from ._keyvalue.codecs import FilterableKeyCodec, KeyCodec, ValueCodec
from ._keyvalue.deletes import DeletesPurged
from ._keyvalue.entry import KeyOperation, KeyValueEntry
from ._keyvalue.errors import (
    BucketExistsError,
    BucketNotFoundError,
    InvalidBucketError,
    InvalidKeyError,
    KeyDeletedError,
    KeyExistsError,
    KeyNotFoundError,
    LockLostError,
    RevisionMismatchError,
    WildcardNotSupportedError,
)
from ._keyvalue.key_codecs import Base64Keys, ChainedKeys, PathKeys
from ._keyvalue.reading import Reads
from ._keyvalue.value_codecs import Base64Values, ChainedValues
from ._keyvalue.watch import InitialValuesDone, WatchState
from ._objectstore.bucket import ObjectStoreConfig, ObjectStoreFields, ObjectStoreStatus
from ._objectstore.errors import (
    DigestMismatchError,
    InvalidObjectNameError,
    ObjectDamagedError,
    ObjectError,
    ObjectExistsError,
    ObjectLinkError,
    ObjectNotFoundError,
    ObjectReplacedError,
)
from ._objectstore.garbage import GarbageCollected
from ._objectstore.info import ObjectFields, ObjectInfo, ObjectLink, ObjectOptions
from ._permissions import Permission, Permissions
from ._publishing.counter import CounterEntry
from ._publishing.failures import PublishesFailedError
from ._publishing.fast_ingest import FastIngestGapError, IngestGap, IngestRefusal
from ._publishing.headers import PublishOptions

if TYPE_CHECKING:
    from ._jetstream.error_codes import ErrorCode
else:

    def __getattr__(name):
        """The table of codes is loaded when it is first used: an enumeration of this size takes two milliseconds."""
        if name != "ErrorCode":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ._jetstream.error_codes import ErrorCode

        globals()[name] = ErrorCode
        return ErrorCode

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "AccountInfo",
    "AccountLimits",
    "AccountTier",
    "AckPolicy",
    "AlreadyAcknowledgedError",
    "ApiError",
    "ApiLevelError",
    "ApiStats",
    "AtomicBatchError",
    "Base64Keys",
    "Base64Values",
    "BucketConfig",
    "BucketExistsError",
    "BucketNotFoundError",
    "ChainedKeys",
    "ChainedValues",
    "ClusterInfo",
    "ClusterUnavailableError",
    "Compression",
    "ConsumerConfig",
    "ConsumerDeletedError",
    "ConsumerDoesNotExistError",
    "ConsumerExistsError",
    "ConsumerFields",
    "ConsumerInUseError",
    "ConsumerInfo",
    "ConsumerLimits",
    "ConsumerNotFoundError",
    "ConsumerOfflineError",
    "ConsumerPause",
    "ConsumerStats",
    "ConsumerWarning",
    "ConsumersToEnsure",
    "CounterEntry",
    "CounterError",
    "DeletesPurged",
    "DeliverPolicy",
    "Diagnosis",
    "Difference",
    "DigestMismatchError",
    "Discard",
    "DuplicateInProgressError",
    "DurationLike",
    "EnsureAction",
    "EnsureReport",
    "EnsureStep",
    "ErrorCode",
    "ExternalStream",
    "FastIngestError",
    "FastIngestGapError",
    "FeatureDroppedError",
    "FetchReason",
    "FilterableKeyCodec",
    "GarbageCollected",
    "Hooks",
    "ImmutableFieldError",
    "InfoError",
    "IngestGap",
    "IngestRefusal",
    "InitialValuesDone",
    "InsufficientResourcesError",
    "InvalidBucketError",
    "InvalidKeyError",
    "InvalidNameError",
    "InvalidObjectNameError",
    "JetStreamDecodeError",
    "JetStreamDomainNotFoundError",
    "JetStreamError",
    "JetStreamNotEnabledError",
    "JetStreamNotEnabledForAccountError",
    "KeyCodec",
    "KeyDeletedError",
    "KeyExistsError",
    "KeyNotFoundError",
    "KeyOperation",
    "KeyValueConfig",
    "KeyValueEntry",
    "KeyValueFields",
    "KeyValueStatus",
    "LockLostError",
    "LostStreamData",
    "MaxConsumersError",
    "MaxMessageSizeError",
    "MaxStreamsError",
    "MessageNotFoundError",
    "MessageScheduleError",
    "MessageTTLError",
    "Metadata",
    "NoHeartbeatError",
    "NoStreamResponseError",
    "NotJetStreamMessageError",
    "ObjectDamagedError",
    "ObjectError",
    "ObjectExistsError",
    "ObjectFields",
    "ObjectInfo",
    "ObjectLink",
    "ObjectLinkError",
    "ObjectNotFoundError",
    "ObjectOptions",
    "ObjectReplacedError",
    "ObjectStoreConfig",
    "ObjectStoreFields",
    "ObjectStoreStatus",
    "OnMissing",
    "OnPoison",
    "PathKeys",
    "PeerInfo",
    "Permission",
    "Permissions",
    "PersistMode",
    "Placement",
    "PriorityGroupError",
    "PriorityGroupState",
    "PriorityPolicy",
    "PubAck",
    "PublishOptions",
    "PublishWindowFullError",
    "PublishesFailedError",
    "PullLimitError",
    "PullRefusedError",
    "Reads",
    "Reject",
    "ReplayPolicy",
    "Republish",
    "Retention",
    "Retry",
    "RevisionMismatchError",
    "Seconds",
    "SequenceInfo",
    "Settlement",
    "SourceConsumer",
    "SourceInfo",
    "Storage",
    "StoreFailedError",
    "StoredMessage",
    "StreamAlternate",
    "StreamConfig",
    "StreamFields",
    "StreamFullError",
    "StreamInfo",
    "StreamNameInUseError",
    "StreamNotFoundError",
    "StreamOfflineError",
    "StreamSealedError",
    "StreamSource",
    "StreamState",
    "SubjectTransform",
    "SubjectsOverlapError",
    "Timestamp",
    "TooManyRequestsError",
    "ValueCodec",
    "WarningKind",
    "WatchState",
    "WildcardNotSupportedError",
    "WireValue",
    "WrongLastMsgIdError",
    "WrongLastSequenceError",
    "WrongStreamError",
    "check_name",
    "read_config",
]
