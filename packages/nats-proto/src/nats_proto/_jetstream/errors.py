"""Every error of JetStream, in one tree under `JetStreamError`.

What a server refuses has a code of its own, ``err_code`` (`ErrorCode` has all of them by name). Those that a program
branches on have a class as well; `api_error` picks it. The text is ``what was asked: the server's words (code,
err_code)``.

``outcome`` of an `ApiError` is decided code by code: ``"failed"`` for what a server checks before it changes anything,
``"unknown"`` for what may have been done in part, and for every code that we do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from .._json.wire_kinds import is_object, kind_of_json
from ..errors import LocalProtocolError, NATSError, NATSTimeoutError, NoRespondersError, Outcome

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
    "api_error",
    "nobody_answered",
]

MAX_DESCRIPTION: Final = 512
"""Characters of a server's words that an error keeps. The longest text of a server that is no list has about a hundred;
what stands behind may be what a hostile server sends, megabytes of it."""


class JetStreamError(NATSError):
    """The root of JetStream's errors."""


# --- what the caller did ---------------------------------------------------------------------------------------------


class NotJetStreamMessageError(JetStreamError):
    """The message was not delivered by a consumer: its reply subject is none that acknowledges (ADR-15)."""


class AlreadyAcknowledgedError(JetStreamError):
    """The message was acknowledged before, finally: by ack, nak or term. Nothing was sent."""


class InvalidNameError(JetStreamError, ValueError):
    """A name of a stream, a consumer or a domain that cannot be one (ADR-6). The text names the character."""


class ConsumerInUseError(JetStreamError, LocalProtocolError):
    """An ordered consumer is read already. It can have one reader at a time."""


class PublishWindowFullError(JetStreamError, NATSTimeoutError):
    """The window had no room in the time allowed: all of its messages wait for their acknowledgement.

    This message was not sent. ``max_pending`` is the size of the window in messages, ``oldest`` how long the first of
    those that wait has done so (seconds).
    """

    outcome: Outcome = "failed"

    def __init__(self, message: str, *, max_pending: int = 0, oldest: float = 0.0) -> None:
        super().__init__(message, outcome="failed")
        self.max_pending = max_pending
        self.oldest = oldest


# --- what the server or the network did ------------------------------------------------------------------------------


class JetStreamDecodeError(JetStreamError):
    """An answer that cannot be read: no JSON, of the wrong shape, nested too deep. The text names the field.

    It ends the one call that it answers; the connection stays.
    """

    outcome: Outcome = "unknown"


class NoStreamResponseError(JetStreamError, NoRespondersError):
    """A publish that no stream took: none has this subject, or the one that has it has no leader at the moment.

    The message was not stored. ``subject`` is that of the message.
    """


class NoHeartbeatError(JetStreamError):
    """The consumer went silent: neither a message nor a heart-beat came for twice the heart-beat's interval."""


class ConsumerDeletedError(JetStreamError):
    """The consumer, or its stream, was deleted while messages were read from it."""


class PullRefusedError(JetStreamError):
    """The server refused a request for messages. ``code`` and ``description`` are its status (400, 409, ...)."""

    def __init__(self, message: str, *, code: int = 0, description: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.description = description


class PullLimitError(PullRefusedError):
    """A request for messages asked for more than the consumer allows: its ``max_batch``, ``max_expires``, ....

    ``limit`` is what the server said it allows, None when its words have no number.
    """

    def __init__(self, message: str, *, code: int = 0, description: str = "", limit: int | None = None) -> None:
        super().__init__(message, code=code, description=description)
        self.limit = limit


class FeatureDroppedError(JetStreamError):
    """The server is too old for a part of what was asked, and left it out without a word.

    ``version`` is the server's, ``fields`` names what was left out, such as ``("subject_transform",)``. What was asked
    for exists without these fields.
    """

    outcome: Outcome = "unknown"

    def __init__(self, message: str, *, version: str = "", fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.version = version
        self.fields = tuple(fields)


# --- what the server said --------------------------------------------------------------------------------------------


class ApiError(JetStreamError):
    """The server's answer is an error.

    ``code`` is like a status of HTTP. ``err_code`` tells errors apart, see `ErrorCode`; 0 when the server gave none.
    ``description`` is what the server said.
    """

    outcome: Outcome = "unknown"

    def __init__(self, message: str, *, code: int = 0, err_code: int = 0, description: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.err_code = err_code
        self.description = description
        if err_code in _REFUSED:
            self.outcome = "failed"


class StreamNotFoundError(ApiError):
    """There is no stream of this name, or none with this subject (10059)."""


class ConsumerNotFoundError(ApiError):
    """There is no consumer of this name on the stream (10014)."""


class ConsumerDoesNotExistError(ConsumerNotFoundError):
    """An update of a consumer that does not exist (10149)."""


class MessageNotFoundError(ApiError):
    """The stream has no such message (10037, 10043)."""


class StreamNameInUseError(ApiError):
    """A stream of this name exists, with another configuration (10058).

    ``differences`` names the fields that are not as they were asked for, with both values.
    """

    differences: tuple[str, ...] = ()


class ConsumerExistsError(ApiError):
    """A consumer of this name exists, with another configuration or still active (10148, 10013, 10105).

    ``differences`` names the fields that are not as they were asked for, with both values.
    """

    differences: tuple[str, ...] = ()


class SubjectsOverlapError(ApiError):
    """Another stream takes some of these subjects (10065)."""


class StreamSealedError(ApiError):
    """The stream is sealed and can no more be changed (10109)."""


class WrongLastSequenceError(ApiError):
    """The last sequence is another one than the publisher expected (10071, 10164).

    ``last_sequence`` is the one that the stream, or the subject, really has. It is None when the server does not tell
    it, as in clusters.
    """

    def __init__(self, message: str, *, code: int = 0, err_code: int = 0, description: str = "") -> None:
        super().__init__(message, code=code, err_code=err_code, description=description)
        found = _LAST_SEQUENCE(description)
        self.last_sequence = None if found is None else int(found[1])


class WrongLastMsgIdError(ApiError):
    """The last message has another id than the publisher expected (10070)."""


class WrongStreamError(ApiError):
    """The message was taken by another stream than the publisher expected (10060). It was not stored."""


class DuplicateInProgressError(ApiError):
    """A message with the same id is being stored at this moment (10158; servers before 2.11 acknowledge it without a
    sequence). It may be an earlier try of this one."""


class TooManyRequestsError(ApiError):
    """The server has more requests than it can take and dropped this one (10167, 10210, 10211). Worth trying later."""


class MaxMessageSizeError(ApiError):
    """The message is larger than the stream allows, or its headers than a stream can store (10054, 10097)."""


class StoreFailedError(ApiError):
    """The stream could not store the message (10077)."""


class StreamFullError(StoreFailedError):
    """The stream is full, and configured to refuse new messages then (``discard="new"``; 10077). It was not stored."""

    outcome: Outcome = "failed"


class JetStreamNotEnabledError(ApiError):
    """There is no JetStream: the server said so (10076), or nobody answers at all.

    In the second case ``err_code`` is 0. ``subject`` is the one that nobody listens to.
    """

    def __init__(
        self, message: str, *, code: int = 503, err_code: int = 0, description: str = "", subject: str = ""
    ) -> None:
        super().__init__(message, code=code, err_code=err_code, description=description)
        self.subject = subject
        self.outcome = "failed"  # the request reached nobody, or a server that does nothing with it


class JetStreamDomainNotFoundError(JetStreamNotEnabledError):
    """Nobody answers in the domain, or below the API prefix, that was given; it may be misspelt."""


class JetStreamNotEnabledForAccountError(ApiError):
    """The servers have JetStream, the account has not (10039, 10035)."""


class ClusterUnavailableError(ApiError):
    """The cluster has no leader at the moment, or the server is not the one (10008, 10009, or no number: servers before
    2.12). Worth trying later."""


class InsufficientResourcesError(ApiError):
    """The account or the servers have no room left (10002, 10023, 10028, 10047)."""


class MaxStreamsError(ApiError):
    """The account has as many streams as it may have (10027)."""


class MaxConsumersError(ApiError):
    """The account, or the stream, has as many consumers as it may have (10026)."""


class StreamOfflineError(ApiError):
    """The stream's configuration needs a newer server than this one, which therefore leaves it alone (10118, 10194)."""


class ConsumerOfflineError(ApiError):
    """The consumer's configuration needs a newer server than this one, which leaves it alone (10119, 10195)."""


class ApiLevelError(ApiError):
    """The server is too old for what was asked: its level of the API is too low (10185; ADR-44)."""


class MessageTTLError(ApiError):
    """The message's time to live cannot be used, or the stream does not allow it (10165, 10166; ADR-43)."""


class CounterError(ApiError):
    """A counter's increment was refused, or the stream has no counters (10168 to 10172; ADR-49)."""


class MessageScheduleError(ApiError):
    """A message's schedule was refused, or the stream does not allow any (10188 to 10192, 10203, 10212, 10223)."""


class AtomicBatchError(ApiError):
    """An atomic batch was refused as a whole; nothing of it was stored (10174 to 10177, 10179, 10199 to 10201)."""


class FastIngestError(ApiError):
    """A batch of fast ingest was refused (10205 to 10208)."""


class PriorityGroupError(ApiError):
    """A priority group is wrong, or the consumer has none of this name (10159 to 10162, 10178, 10196, 10197)."""


_CLASSES: Final[Mapping[int, type[ApiError]]] = {
    10059: StreamNotFoundError,
    10014: ConsumerNotFoundError,
    10149: ConsumerDoesNotExistError,
    **dict.fromkeys((10037, 10043), MessageNotFoundError),
    10058: StreamNameInUseError,
    **dict.fromkeys((10013, 10105, 10148), ConsumerExistsError),
    10065: SubjectsOverlapError,
    10109: StreamSealedError,
    **dict.fromkeys((10071, 10164), WrongLastSequenceError),
    10070: WrongLastMsgIdError,
    10060: WrongStreamError,
    10158: DuplicateInProgressError,
    **dict.fromkeys((10167, 10210, 10211), TooManyRequestsError),
    **dict.fromkeys((10054, 10097), MaxMessageSizeError),
    10077: StoreFailedError,
    10076: JetStreamNotEnabledError,
    **dict.fromkeys((10035, 10039), JetStreamNotEnabledForAccountError),
    **dict.fromkeys((10008, 10009), ClusterUnavailableError),
    **dict.fromkeys((10002, 10023, 10028, 10047), InsufficientResourcesError),
    10027: MaxStreamsError,
    10026: MaxConsumersError,
    **dict.fromkeys((10118, 10194), StreamOfflineError),
    **dict.fromkeys((10119, 10195), ConsumerOfflineError),
    10185: ApiLevelError,
    **dict.fromkeys((10165, 10166), MessageTTLError),
    **dict.fromkeys((10168, 10169, 10170, 10171, 10172), CounterError),
    **dict.fromkeys((10188, 10189, 10190, 10191, 10192, 10203, 10212, 10223), MessageScheduleError),
    **dict.fromkeys((10174, 10175, 10176, 10177, 10179, 10199, 10200, 10201), AtomicBatchError),
    **dict.fromkeys((10205, 10206, 10207, 10208), FastIngestError),
    **dict.fromkeys((10159, 10160, 10161, 10162, 10178, 10196, 10197), PriorityGroupError),
}

_MAY_HAVE_HAPPENED: Final = frozenset(
    {
        # Failures in the middle of the work, whose cause stands in the text alone: a stream or a consumer may exist in
        # part, some messages may be gone.
        *(10012, 10029, 10041, 10042, 10045, 10048, 10049, 10050, 10051, 10057, 10062, 10064, 10066, 10067, 10069),
        *(10075, 10104, 10110),
        # The leader could not store the message; its followers may have it.
        10077,
        # The message with this id that is being stored may be an earlier try of the same one.
        10158,
        # A batch whose gaps are allowed, or which was stored in part before the server forgot it.
        10208,
        # A repair of a cluster that was not, or not wholly, applied.
        10224,
    }
)
_REFUSED: Final = frozenset(range(10002, 10228)) - _MAY_HAVE_HAPPENED
"""The codes of the table of servers (10002 to 10227) that say: refused, and nothing was changed."""

_FULL: Final = ("maximum messages exceeded", "maximum bytes exceeded", "maximum messages per subject exceeded")
"""What stream stores say when they are full. Servers have one code for all failures of a store, so that the words are
all there is to tell this one, which leaves nothing behind."""
_NOT_LEADER: Final = "raft: not leader"
"""What a server before 2.12 says, without a number, when its leadership of a stream ends between the arrival of a
publish and its proposal to the other replicas: so nothing was stored."""

# Twenty digits are enough for 64 bits.
_LAST_SEQUENCE: Final = re.compile(r"wrong last sequence: ([0-9]{1,20})(?![0-9])").match

_API_CODES: Final = range(1000)
_API_ERR_CODES: Final = range(65536)


def api_error(what: str, error: object) -> JetStreamError:
    """The error of an answer: ``error`` is what stands in its JSON under this key.

    ``what`` names the call, such as ``create stream 'ORDERS'``. `JetStreamDecodeError` when it is no error as servers
    write them. Nothing is raised.
    """
    if not is_object(error):
        return JetStreamDecodeError(f"{what}: the answer's error is {kind_of_json(error)}, not an object")
    code, err_code = error.get("code", 0), error.get("err_code", 0)
    if type(code) is not int or code not in _API_CODES or type(err_code) is not int or err_code not in _API_ERR_CODES:
        return JetStreamDecodeError(f"{what}: the answer's error has a code that is none")
    said = error.get("description", "")
    if not isinstance(said, str):
        return JetStreamDecodeError(
            f"{what}: the answer's error has a description that is {kind_of_json(said)}, not a text"
        )
    description = _fit_to_print(said)
    text = f"{what}: {description or 'the server refused it without a word'} ({code}"
    text += f", err_code {err_code})" if err_code else ")"
    if not err_code and description == _NOT_LEADER:
        refused = ClusterUnavailableError(text, code=code, description=description)
        refused.outcome = "failed"
        return refused
    made = _CLASSES.get(err_code, ApiError)
    if made is StoreFailedError and description.startswith(_FULL):
        made = StreamFullError
    return made(text, code=code, err_code=err_code, description=description)


def nobody_answered(what: str, subject: str, *, elsewhere: str = "") -> JetStreamNotEnabledError:
    """For a request to JetStream's API that nobody listens to (503). ``elsewhere`` names the domain or the prefix that
    the user gave, such as ``domain 'hub'``; it is empty without one."""
    if elsewhere:
        return JetStreamDomainNotFoundError(
            f"{what}: nobody answers in {elsewhere} (no responders on {subject}): it is misspelt, or JetStream is off "
            f"or cannot be reached there",
            subject=subject,
        )
    return JetStreamNotEnabledError(
        f"{what}: JetStream is not enabled, or cannot be reached at the moment (no responders on {subject})",
        subject=subject,
    )


def _fit_to_print(text: str) -> str:
    """A server's words without anything that a terminal would obey, cut to `MAX_DESCRIPTION`."""
    short = text if len(text) <= MAX_DESCRIPTION else text[:MAX_DESCRIPTION] + "..."
    return short if short.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)
