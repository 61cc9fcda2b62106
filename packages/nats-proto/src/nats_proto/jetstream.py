"""JetStream's values and errors, for whatever client speaks to the servers.

Both clients re-export these names. ``import nats_proto`` loads nothing of it.
"""

from typing import TYPE_CHECKING

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
    "AlreadyAcknowledgedError",
    "ApiError",
    "ApiLevelError",
    "AtomicBatchError",
    "ClusterUnavailableError",
    "ConsumerDeletedError",
    "ConsumerDoesNotExistError",
    "ConsumerExistsError",
    "ConsumerInUseError",
    "ConsumerNotFoundError",
    "ConsumerOfflineError",
    "CounterError",
    "DuplicateInProgressError",
    "ErrorCode",
    "FastIngestError",
    "FeatureDroppedError",
    "InsufficientResourcesError",
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
    "PriorityGroupError",
    "PublishWindowFullError",
    "PullLimitError",
    "PullRefusedError",
    "StoreFailedError",
    "StreamFullError",
    "StreamNameInUseError",
    "StreamNotFoundError",
    "StreamOfflineError",
    "StreamSealedError",
    "SubjectsOverlapError",
    "TooManyRequestsError",
    "WrongLastMsgIdError",
    "WrongLastSequenceError",
    "WrongStreamError",
]
