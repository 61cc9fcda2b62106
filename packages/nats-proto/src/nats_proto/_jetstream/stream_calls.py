"""What is asked about streams, their messages and the account: one function for each call of the API (ADR-31, ADR-44).

Each gives an operation, which the driver of a client runs. A name is checked before anything is asked. All raise what
`JetStreamApi.call` raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec.structs import replace

from .._calls.operation import Operation
from .._json.wire_value import to_wire
from .._limits import check_count
from .._wire.subjects import encode_subscription_subject
from .account_info import AccountInfo
from .decoders import (
    check_nothing_dropped,
    check_sequence,
    decode_direct,
    decode_stored,
    names_of,
    number_of,
    succeeded,
    tell_differences,
    value_of,
    values_of,
)
from .errors import JetStreamNotEnabledError, StreamNameInUseError, StreamNotFoundError
from .levels import level_of_stream
from .names import check_name
from .pages import Pages
from .stored_message import StoredMessage
from .stream_config import StreamConfig
from .stream_info import StreamInfo

if TYPE_CHECKING:
    from .api import JetStreamApi

__all__ = [
    "account_info",
    "create_or_update_stream",
    "create_stream",
    "delete_msg",
    "delete_stream",
    "get_last_msg",
    "get_msg",
    "list_stream_names",
    "list_streams",
    "purge_stream",
    "step_down_stream_leader",
    "stream_info",
    "stream_name_by_subject",
    "update_stream",
]

SUBJECTS_OF_A_PAGE: Final = 100_000
"""The least number of subjects that servers tell at a time, when there are more."""


def account_info(api: JetStreamApi, *, timeout: float | None) -> Operation[AccountInfo]:
    """What the account uses of JetStream, and what it may use."""
    what = "account info"
    return api.call(api.request(what, "INFO", value_of(what, AccountInfo)), timeout)


# --- streams ---------------------------------------------------------------------------------------------------------


def create_stream(api: JetStreamApi, config: StreamConfig, *, timeout: float | None) -> Operation[StreamInfo]:
    """Make a stream. With the very same configuration as it has, an existing one is no error.

    Raises `StreamNameInUseError`, `SubjectsOverlapError`, `FeatureDroppedError`, and others of `ApiError`.
    """
    began, seconds = api.clock(), api.seconds(timeout)
    try:
        info = yield from _put_stream(api, "create", config, seconds)
    except StreamNameInUseError as error:
        there = stream_info(api, check_name("stream", config.name), timeout=max(began + seconds - api.clock(), 0.0))
        yield from tell_differences(error, config, there)
        raise
    api.created(info.config.name)
    check_nothing_dropped(f"create stream {config.name!r}", config, info.config, api.server_version())
    return info


def update_stream(api: JetStreamApi, config: StreamConfig, *, timeout: float | None) -> Operation[StreamInfo]:
    """Change a stream; fields that are not given get the server's defaults. Raises `StreamNotFoundError`, ..."""
    info = yield from _put_stream(api, "update", config, timeout)
    check_nothing_dropped(f"update stream {config.name!r}", config, info.config, api.server_version())
    return info


def create_or_update_stream(api: JetStreamApi, config: StreamConfig, *, timeout: float | None) -> Operation[StreamInfo]:
    """`update_stream`, or `create_stream` where there is none."""
    began, seconds = api.clock(), api.seconds(timeout)
    try:
        return (yield from update_stream(api, config, timeout=seconds))
    except StreamNotFoundError:
        pass
    return (yield from create_stream(api, config, timeout=max(began + seconds - api.clock(), 0.0)))


def _put_stream(
    api: JetStreamApi, verb: Literal["create", "update"], config: StreamConfig, timeout: float | None
) -> Operation[StreamInfo]:
    name = check_name("stream", config.name)
    what = f"{verb} stream {name!r}"
    call = api.request(
        what,
        f"STREAM.{verb.upper()}.{name}",
        value_of(what, StreamInfo),
        to_wire(config),
        level=level_of_stream(config),
    )
    return api.call(call, timeout, stream=name if verb == "update" else None)


def stream_info(
    api: JetStreamApi,
    name: str,
    *,
    subjects_filter: str | None = None,
    deleted_details: bool = False,
    timeout: float | None,
) -> Operation[StreamInfo]:
    """The stream as it is. ``subjects_filter``: count the messages of each subject that it matches, in all pages.

    ``deleted_details``: with the sequences of deleted messages.
    """
    check_name("stream", name)
    what = f"info of stream {name!r}"
    body: dict[str, object] = {}
    if deleted_details:
        body["deleted_details"] = True
    if subjects_filter is not None:
        encode_subscription_subject(subjects_filter)
        body["subjects_filter"] = subjects_filter
    where = f"STREAM.INFO.{name}"
    info = yield from api.call(api.request(what, where, value_of(what, StreamInfo), body or None), timeout, stream=name)
    subjects = dict(info.state.subjects or {})
    # A server tells so many subjects at a time. A page that brings no new one is the end.
    more = subjects_filter is not None and len(subjects) >= SUBJECTS_OF_A_PAGE
    while more:
        body["offset"] = before = len(subjects)
        page = yield from api.call(api.request(what, where, value_of(what, StreamInfo), body), timeout, stream=name)
        subjects.update(page.state.subjects or {})
        more = len(subjects) > before
    if len(subjects) == len(info.state.subjects or {}):
        return info
    return replace(info, state=replace(info.state, subjects=subjects))


def delete_stream(api: JetStreamApi, name: str, *, timeout: float | None) -> Operation[None]:
    """Delete a stream with its messages and consumers."""
    check_name("stream", name)
    what = f"delete stream {name!r}"
    yield from api.call(api.request(what, f"STREAM.DELETE.{name}", succeeded(what)), timeout, stream=name)
    api.deleted(name)


def purge_stream(
    api: JetStreamApi,
    name: str,
    *,
    subject: str | None = None,
    up_to_sequence: int | None = None,
    keep: int | None = None,
    timeout: float | None,
) -> Operation[int]:
    """Delete messages: how many. Of one subject (wildcards too), below a sequence, or all but the newest ``keep``."""
    check_name("stream", name)
    what = f"purge stream {name!r}"
    if up_to_sequence is not None and keep is not None:
        raise ValueError(f"{what}: up_to_sequence and keep exclude each other")
    body: dict[str, object] = {}
    if subject is not None:
        encode_subscription_subject(subject)
        body["filter"] = subject
    if up_to_sequence is not None:
        body["seq"] = check_sequence("up_to_sequence", up_to_sequence)
    if keep is not None:
        body["keep"] = check_count("keep", keep, least=0)
    call = api.request(what, f"STREAM.PURGE.{name}", number_of(what, "purged"), body or None)
    return api.call(call, timeout, stream=name)


def step_down_stream_leader(api: JetStreamApi, name: str, *, timeout: float | None) -> Operation[None]:
    """Have the stream's cluster elect another leader. For operators and tests."""
    check_name("stream", name)
    what = f"step down the leader of stream {name!r}"
    return api.call(api.request(what, f"STREAM.LEADER.STEPDOWN.{name}", succeeded(what)), timeout, stream=name)


def stream_name_by_subject(api: JetStreamApi, subject: str, *, timeout: float | None) -> Operation[str]:
    """The stream that takes this subject. `StreamNotFoundError` when there is none."""
    pages = list_stream_names(api, subject)
    names = yield from pages.next_page(timeout)
    if not names:
        raise StreamNotFoundError(f"stream by subject: no stream has the subject {subject!r}", code=404, err_code=10059)
    return names[0]


def list_stream_names(api: JetStreamApi, subject: str | None = None) -> Pages[str]:
    """The names of all streams, or of those that take messages of this subject (wildcards too)."""
    body = _subject_of_streams(subject)
    return Pages(api, "stream names", "STREAM.NAMES", body, lambda what, answer: names_of(what, answer, "streams"))


def list_streams(api: JetStreamApi, subject: str | None = None) -> Pages[StreamInfo]:
    """All streams, or those that take messages of this subject."""
    body = _subject_of_streams(subject)
    return Pages(
        api,
        "streams",
        "STREAM.LIST",
        body,
        lambda what, answer: values_of(what, answer, "streams", StreamInfo, lambda info: info.config.name or ""),
    )


def _subject_of_streams(subject: str | None) -> dict[str, object]:
    if subject is None:
        return {}
    encode_subscription_subject(subject)
    return {"subject": subject}


# --- messages --------------------------------------------------------------------------------------------------------


def get_msg(
    api: JetStreamApi, stream: str, sequence: int, *, subject: str | None = None, direct: bool, timeout: float | None
) -> Operation[StoredMessage]:
    """The message with this sequence; with a ``subject`` the first of that subject from this sequence on.

    ``direct``: from any replica and quickly, where the stream allows it; else from the leader. Raises
    `MessageNotFoundError`.
    """
    check_name("stream", stream)
    body: dict[str, object] = {"seq": check_sequence("sequence", sequence)}
    what = f"get message {sequence} of stream {stream!r}"
    if subject is not None:
        encode_subscription_subject(subject)
        body["next_by_subj"] = subject
        what = f"get the first message on {subject!r} from {sequence} on of stream {stream!r}"
    return _get(api, what, stream, body, direct, timeout)


def get_last_msg(
    api: JetStreamApi, stream: str, subject: str, *, direct: bool, timeout: float | None
) -> Operation[StoredMessage]:
    """The last message of a subject (wildcards too). ``direct``: as `get_msg`. Raises `MessageNotFoundError`."""
    check_name("stream", stream)
    encode_subscription_subject(subject)
    what = f"get the last message on {subject!r} of stream {stream!r}"
    return _get(api, what, stream, {"last_by_subj": subject}, direct, timeout)


def _get(
    api: JetStreamApi, what: str, stream: str, body: dict[str, object], direct: bool, timeout: float | None
) -> Operation[StoredMessage]:
    began, seconds = api.clock(), api.seconds(timeout)
    if direct:
        call = api.request(what, f"DIRECT.GET.{stream}", decode_direct(what), body)
        try:
            # Nobody may answer here because the stream is new: that is asked again below, where somebody must answer.
            return (yield from api.call(call, seconds))
        except JetStreamNotEnabledError:
            pass  # the stream allows no direct access, or its replicas are not there yet: the leader knows
    call = api.request(what, f"STREAM.MSG.GET.{stream}", decode_stored(what, stream), body)
    return (yield from api.call(call, max(began + seconds - api.clock(), 0.0), stream=stream))


def delete_msg(
    api: JetStreamApi, stream: str, sequence: int, *, secure: bool = False, timeout: float | None
) -> Operation[None]:
    """Delete one message. ``secure``: its bytes are overwritten as well, which takes longer."""
    check_name("stream", stream)
    what = f"delete message {sequence} of stream {stream!r}"
    body: dict[str, object] = {"seq": check_sequence("sequence", sequence)}
    if not secure:
        body["no_erase"] = True
    call = api.request(what, f"STREAM.MSG.DELETE.{stream}", succeeded(what), body)
    yield from api.call(call, timeout, stream=stream)
