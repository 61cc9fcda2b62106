"""JetStream's values and errors, for whatever client speaks to the servers.

Both clients re-export these names. ``import nats_proto`` loads nothing of it.
"""

from typing import TYPE_CHECKING

from ._jetstream.consumer_config import (
    AckPolicy,
    ConsumerConfig,
    ConsumerFields,
    DeliverPolicy,
    PriorityPolicy,
    ReplayPolicy,
)
from ._jetstream.durations import Seconds, Timestamp
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
from ._jetstream.names import check_name
from ._jetstream.read_config import read_config
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
from ._jetstream.wire_value import WireValue

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
    "AckPolicy",
    "AlreadyAcknowledgedError",
    "ApiError",
    "ApiLevelError",
    "AtomicBatchError",
    "ClusterUnavailableError",
    "Compression",
    "ConsumerConfig",
    "ConsumerDeletedError",
    "ConsumerDoesNotExistError",
    "ConsumerExistsError",
    "ConsumerFields",
    "ConsumerInUseError",
    "ConsumerLimits",
    "ConsumerNotFoundError",
    "ConsumerOfflineError",
    "CounterError",
    "DeliverPolicy",
    "Discard",
    "DuplicateInProgressError",
    "ErrorCode",
    "ExternalStream",
    "FastIngestError",
    "FeatureDroppedError",
    "InsufficientResourcesError",
    "InvalidNameError",
    "JetStreamDecodeError",
    "JetStreamDomainNotFoundError",
    "JetStreamError",
    "JetStreamNotEnabledError",
    "JetStreamNotEnabledForAccountError",
    "MaxConsumersError",
    "MaxMessageSizeError",
    "MaxStreamsError",
    "MessageNotFoundError",
    "MessageScheduleError",
    "MessageTTLError",
    "NoHeartbeatError",
    "NoStreamResponseError",
    "NotJetStreamMessageError",
    "PersistMode",
    "Placement",
    "PriorityGroupError",
    "PriorityPolicy",
    "PublishWindowFullError",
    "PullLimitError",
    "PullRefusedError",
    "ReplayPolicy",
    "Republish",
    "Retention",
    "Seconds",
    "SourceConsumer",
    "Storage",
    "StoreFailedError",
    "StreamConfig",
    "StreamFields",
    "StreamFullError",
    "StreamNameInUseError",
    "StreamNotFoundError",
    "StreamOfflineError",
    "StreamSealedError",
    "StreamSource",
    "SubjectTransform",
    "SubjectsOverlapError",
    "Timestamp",
    "TooManyRequestsError",
    "WireValue",
    "WrongLastMsgIdError",
    "WrongLastSequenceError",
    "WrongStreamError",
    "check_name",
    "read_config",
]
