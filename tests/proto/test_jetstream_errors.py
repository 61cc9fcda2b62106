"""JetStream's errors: a class for what programs branch on, an outcome for each code, texts that are fit to print."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nats_proto import jetstream
from nats_proto._jetstream import errors
from nats_proto._jetstream.errors import api_error, nobody_answered
from nats_proto.errors import NATSError, NATSTimeoutError, NoRespondersError
from nats_proto.jetstream import ApiError, ErrorCode, JetStreamDecodeError, JetStreamError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, JetStreamError)]
SCHEMAS = os.environ.get("NATS_SCHEMAS")


def answered(err_code: int, description: str = "what the server said", code: int = 400) -> JetStreamError:
    return api_error("create stream 'A'", {"code": code, "err_code": err_code, "description": description})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("STREAM_NOT_FOUND", "StreamNotFoundError"),
        ("CONSUMER_NOT_FOUND", "ConsumerNotFoundError"),
        ("CONSUMER_DOES_NOT_EXIST", "ConsumerDoesNotExistError"),
        ("NO_MESSAGE_FOUND", "MessageNotFoundError"),
        ("SEQUENCE_NOT_FOUND", "MessageNotFoundError"),
        ("STREAM_NAME_EXIST", "StreamNameInUseError"),
        ("CONSUMER_ALREADY_EXISTS", "ConsumerExistsError"),
        ("CONSUMER_NAME_EXIST", "ConsumerExistsError"),
        ("CONSUMER_EXISTING_ACTIVE", "ConsumerExistsError"),
        ("STREAM_SUBJECT_OVERLAP", "SubjectsOverlapError"),
        ("STREAM_SEALED", "StreamSealedError"),
        ("STREAM_WRONG_LAST_SEQUENCE", "WrongLastSequenceError"),
        ("STREAM_WRONG_LAST_SEQUENCE_CONSTANT", "WrongLastSequenceError"),
        ("STREAM_WRONG_LAST_MSG_ID", "WrongLastMsgIdError"),
        ("STREAM_NOT_MATCH", "WrongStreamError"),
        ("STREAM_DUPLICATE_MESSAGE_CONFLICT", "DuplicateInProgressError"),
        ("STREAM_TOO_MANY_REQUESTS", "TooManyRequestsError"),
        ("ATOMIC_PUBLISH_TOO_MANY_INFLIGHT", "TooManyRequestsError"),
        ("BATCH_PUBLISH_TOO_MANY_INFLIGHT", "TooManyRequestsError"),
        ("STREAM_MESSAGE_EXCEEDS_MAXIMUM", "MaxMessageSizeError"),
        ("STREAM_HEADER_EXCEEDS_MAXIMUM", "MaxMessageSizeError"),
        ("STREAM_STORE_FAILED", "StoreFailedError"),
        ("NOT_ENABLED", "JetStreamNotEnabledError"),
        ("NOT_ENABLED_FOR_ACCOUNT", "JetStreamNotEnabledForAccountError"),
        ("NO_ACCOUNT", "JetStreamNotEnabledForAccountError"),
        ("CLUSTER_NOT_AVAIL", "ClusterUnavailableError"),
        ("CLUSTER_NOT_LEADER", "ClusterUnavailableError"),
        ("ACCOUNT_RESOURCES_EXCEEDED", "InsufficientResourcesError"),
        ("INSUFFICIENT_RESOURCES", "InsufficientResourcesError"),
        ("MEMORY_RESOURCES_EXCEEDED", "InsufficientResourcesError"),
        ("STORAGE_RESOURCES_EXCEEDED", "InsufficientResourcesError"),
        ("MAXIMUM_STREAMS_LIMIT", "MaxStreamsError"),
        ("MAXIMUM_CONSUMERS_LIMIT", "MaxConsumersError"),
        ("STREAM_OFFLINE", "StreamOfflineError"),
        ("STREAM_OFFLINE_REASON", "StreamOfflineError"),
        ("CONSUMER_OFFLINE", "ConsumerOfflineError"),
        ("CONSUMER_OFFLINE_REASON", "ConsumerOfflineError"),
        ("REQUIRED_API_LEVEL", "ApiLevelError"),
        ("MESSAGE_TTL_INVALID", "MessageTTLError"),
        ("MESSAGE_TTL_DISABLED", "MessageTTLError"),
        ("MESSAGE_COUNTER_BROKEN", "CounterError"),
        ("MESSAGE_SCHEDULES_TIME_ZONE_INVALID", "MessageScheduleError"),
        ("ATOMIC_PUBLISH_INCOMPLETE_BATCH", "AtomicBatchError"),
        ("BATCH_PUBLISH_UNKNOWN_BATCH_ID", "FastIngestError"),
        ("CONSUMER_INVALID_PRIORITY_GROUP", "PriorityGroupError"),
        ("INVALID_JSON", "ApiError"),
    ],
)
def test_a_code_that_programs_branch_on_has_its_class(name: str, kind: str) -> None:
    error = answered(ErrorCode[name].value)
    assert type(error).__name__ == kind
    assert isinstance(error, ApiError)
    assert error.err_code == ErrorCode[name]


def test_the_text_says_what_was_asked_and_what_the_server_said() -> None:
    error = api_error(
        "create stream 'ORDERS'",
        {
            "code": 400,
            "err_code": 10058,
            "description": "stream name already in use with a different configuration",
        },
    )
    assert str(error) == (
        "create stream 'ORDERS': stream name already in use with a different configuration (400, err_code 10058)"
    )
    assert isinstance(error, ApiError)
    assert (error.code, error.err_code) == (400, 10058)
    assert error.description == "stream name already in use with a different configuration"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"code": 503, "description": "raft: no quorum"}, "publish: raft: no quorum (503)"),
        ({"code": 500, "err_code": 10999}, "publish: the server refused it without a word (500, err_code 10999)"),
        ({}, "publish: the server refused it without a word (0)"),
        ({"code": 400, "err_code": 1, "description": "a\x1b[2Jb\n"}, r"publish: a\x1b[2Jb\n (400, err_code 1)"),
    ],
)
def test_texts_of_odd_errors(error: object, text: str) -> None:
    made = api_error("publish", error)
    assert str(made) == text
    assert made.outcome == "unknown"


def test_a_long_description_is_cut() -> None:
    error = answered(10003, "x" * 8_000_000)
    assert len(str(error)) < 700
    assert isinstance(error, ApiError)
    assert len(error.description) < 600


@pytest.mark.parametrize(
    "error",
    [
        *(None, True, 1, 1.5, "stream not found", ["stream not found"]),
        *({"code": "400"}, {"code": True}, {"code": 4.0}, {"code": -1}, {"code": 10**30}, {"code": None}),
        *({"code": 400, "err_code": "10058"}, {"code": 400, "err_code": 65536}, {"code": 400, "err_code": [1]}),
        *({"code": 400, "description": 7}, {"code": 400, "description": None}, {"code": 400, "description": {}}),
    ],
)
def test_an_error_of_the_wrong_shape_cannot_be_read(error: object) -> None:
    made = api_error("create stream 'A'", error)
    assert type(made) is JetStreamDecodeError
    assert str(made).startswith("create stream 'A': the answer's error ")
    assert made.outcome == "unknown"


@pytest.mark.parametrize(
    ("err_code", "description", "last"),
    [
        (10071, "wrong last sequence: 42", 42),
        (10071, "wrong last sequence: 0", 0),
        (10071, "wrong last sequence: 18446744073709551615", 2**64 - 1),
        (10071, "wrong last sequence: " + "9" * 5000, None),
        (10071, "wrong last sequence: -1", None),
        (10071, "", None),
        (10164, "wrong last sequence", None),
    ],
)
def test_the_last_sequence_is_read_from_the_text(err_code: int, description: str, last: int | None) -> None:
    error = answered(err_code, description)
    assert isinstance(error, jetstream.WrongLastSequenceError)
    assert error.last_sequence == last
    assert error.outcome == "failed"


@pytest.mark.parametrize(
    ("description", "kind", "outcome"),
    [
        ("maximum messages exceeded", jetstream.StreamFullError, "failed"),
        ("maximum bytes exceeded", jetstream.StreamFullError, "failed"),
        ("maximum messages per subject exceeded", jetstream.StreamFullError, "failed"),
        ("write /data/1.blk: no space left on device", jetstream.StoreFailedError, "unknown"),
    ],
)
def test_a_full_stream_is_told_from_a_store_that_failed(description: str, kind: type[ApiError], outcome: str) -> None:
    error = answered(10077, description, 503)
    assert type(error) is kind
    assert error.outcome == outcome


MAY_HAVE_HAPPENED = {
    *("CONSUMER_CREATE", "MIRROR_CONSUMER_SETUP_FAILED", "RAFT_GENERAL", "RESTORE_SUBSCRIBE_FAILED"),
    *("SOURCE_CONSUMER_SETUP_FAILED", "STREAM_ASSIGNMENT", "STREAM_CREATE", "STREAM_DELETE", "STREAM_GENERAL"),
    *("STREAM_MSG_DELETE_FAILED", "STREAM_RESTORE", "STREAM_SNAPSHOT", "STREAM_TEMPLATE_CREATE"),
    *("STREAM_TEMPLATE_DELETE", "STREAM_UPDATE", "PEER_REMAP", "CONSUMER_STORE_FAILED", "STREAM_PURGE_FAILED"),
    *("STREAM_STORE_FAILED", "STREAM_DUPLICATE_MESSAGE_CONFLICT"),
    *("BATCH_PUBLISH_UNKNOWN_BATCH_ID", "CLUSTER_RESCUE"),
}


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_each_code_has_its_outcome(code: ErrorCode) -> None:
    assert answered(code.value).outcome == ("unknown" if code.name in MAY_HAVE_HAPPENED else "failed")


@pytest.mark.parametrize("code", [0, 1, 9999, 10001, 10228, 65535])
def test_what_a_code_means_that_we_do_not_know_is_unknown(code: int) -> None:
    assert answered(code).outcome == "unknown"


def test_nobody_answers() -> None:
    error = nobody_answered("create stream 'A'", "$JS.API.STREAM.CREATE.A")
    assert type(error) is jetstream.JetStreamNotEnabledError
    assert (error.code, error.err_code, error.subject) == (503, 0, "$JS.API.STREAM.CREATE.A")
    assert error.outcome == "failed"
    assert "no responders on $JS.API.STREAM.CREATE.A" in str(error)


def test_nobody_answers_in_a_domain() -> None:
    error = nobody_answered("create stream 'A'", "$JS.hub.API.STREAM.CREATE.A", elsewhere="domain 'hub'")
    assert type(error) is jetstream.JetStreamDomainNotFoundError
    assert str(error).startswith("create stream 'A': nobody answers in domain 'hub'")


# --- the tree --------------------------------------------------------------------------------------------------------

OUTCOMES = {"JetStreamDecodeError": "unknown", "FeatureDroppedError": "unknown", "StreamFullError": "failed"}


def test_every_class_is_exported() -> None:
    assert {kind.__name__ for kind in CLASSES} | {"api_error", "nobody_answered"} == set(errors.__all__)
    assert {kind.__name__ for kind in CLASSES} <= set(jetstream.__all__)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_belongs_to_the_tree_and_says_how_it_ended(kind: type[JetStreamError]) -> None:
    assert issubclass(kind, NATSError)
    expected = "unknown" if issubclass(kind, ApiError) else "failed"
    assert kind.outcome == OUTCOMES.get(kind.__name__, expected)
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_can_be_sent_to_another_process(kind: type[JetStreamError]) -> None:
    if issubclass(kind, NoRespondersError):
        twin = pickle.loads(pickle.dumps(kind("text", "subject")))
        assert (type(twin), str(twin), twin.subject) == (kind, "text", "subject")
        return
    error = kind("text")
    for name in ("err_code", "last_sequence", "limit", "max_pending"):
        if hasattr(error, name):
            setattr(error, name, 7)
    error.outcome = "unknown"
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (jetstream.PublishWindowFullError, NATSTimeoutError),
        (jetstream.PublishWindowFullError, TimeoutError),
        (jetstream.NoStreamResponseError, NoRespondersError),
        (jetstream.ConsumerDoesNotExistError, jetstream.ConsumerNotFoundError),
        (jetstream.JetStreamDomainNotFoundError, jetstream.JetStreamNotEnabledError),
    ],
)
def test_what_else_catches_it(kind: type[Exception], other: type[Exception]) -> None:
    assert issubclass(kind, other)


def test_errors_with_more_to_say() -> None:
    full = jetstream.PublishWindowFullError("no room", max_pending=4000, oldest=1.5)
    assert (full.max_pending, full.oldest, full.outcome) == (4000, 1.5, "failed")
    dropped = jetstream.FeatureDroppedError("dropped", version="2.9.0", fields=["subject_transform"])
    assert (dropped.version, dropped.fields) == ("2.9.0", ("subject_transform",))
    limit = jetstream.PullLimitError("too many", code=409, description="Exceeded MaxRequestBatch of 10", limit=10)
    assert (limit.code, limit.limit) == (409, 10)


# --- the table of codes ----------------------------------------------------------------------------------------------


def name_of(constant: str) -> str:
    """The name of a code: the server's own, without what all of them have at their ends."""
    middle = re.sub(r"(?:(?:Err|Error)F?|(?<=[a-z])F)$", "", constant.removeprefix("JS"))
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", middle).upper()


@pytest.mark.skipif(SCHEMAS is None, reason="NATS_SCHEMAS names no folder")
def test_every_code_of_the_server_is_there() -> None:
    rows = json.loads(Path(SCHEMAS or "", "server_errors.json").read_text(encoding="utf-8"))
    assert {name_of(row["constant"]): row["error_code"] for row in rows} == {
        code.name: code.value for code in ErrorCode
    }
    assert len(ErrorCode) == len(rows)


def test_the_codes_in_our_sentences_have_names() -> None:
    for kind in CLASSES:
        for code in re.findall(r"\b10[0-9]{3}\b", kind.__doc__ or ""):
            assert ErrorCode(int(code))


def test_the_table_is_loaded_when_it_is_used() -> None:
    code = (
        "import sys, nats_proto.jetstream as js; assert 'nats_proto._jetstream.error_codes' not in sys.modules; "
        "assert 'ErrorCode' in dir(js); assert js.ErrorCode(10059).name == 'STREAM_NOT_FOUND'; "
        "import nats_proto; assert js.ErrorCode is js.ErrorCode"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_does_without_jetstream() -> None:
    code = "import sys, nats_proto; assert not [name for name in sys.modules if 'jetstream' in name]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'StreamConfiguration'"):
        _ = jetstream.StreamConfiguration  # type: ignore[attr-defined]  # it is what is tested
