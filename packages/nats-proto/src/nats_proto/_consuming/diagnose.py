"""Why no message comes from a consumer, in a sentence.

Theory of operation
-------------------
Three things tell: what the server says when it is asked for the consumer, the state of its stream, and what a reader
was told while it read (its warnings). They are looked at from what makes all else impossible to what is harmless: is
anybody there, is the consumer there, may it deliver, is there something to deliver, is somebody asking. The first
answer that explains an empty reader is the one. When nothing is wrong, it says so: messages are there, and a request
for them is waiting, or would be served.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from .._calls.operation import Operation
from .._jetstream.consumer_calls import consumer_info
from .._jetstream.consumer_info import ConsumerInfo
from .._jetstream.errors import (
    ClusterUnavailableError,
    ConsumerNotFoundError,
    ConsumerOfflineError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    StreamNotFoundError,
)
from .._jetstream.stream_calls import stream_info
from .._limits import several
from .._value import Value
from ..errors import NATSError, NATSTimeoutError, PermissionsError
from .warning import ConsumerWarning, WarningKind

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi

__all__ = ["Diagnosis", "DiagnosisCause", "diagnose", "diagnosis"]

DiagnosisCause = Literal[
    "stream_missing",
    "consumer_missing",
    "not_enabled",
    "no_leader",
    "no_answer",
    "permission",
    "refused",
    "paused",
    "ack_limit",
    "waiting_limit",
    "nobody_listens",
    "filter_matches_nothing",
    "stream_empty",
    "nothing_pending",
    "unpinned",
    "nobody_asks",
    "healthy",
]
"""What a `Diagnosis` comes to. ``nothing_pending`` and ``healthy`` mean that nothing is wrong."""

_RECENT: Final = 5
"""Warnings of a reader that are looked at, the newest."""


class Diagnosis(Value, frozen=True):
    """Why nothing comes: a ``cause`` for programs, a sentence for people."""

    cause: DiagnosisCause
    text: str

    def __str__(self) -> str:
        return self.text


def diagnose(
    api: JetStreamApi, stream: str, name: str, warnings: Iterable[ConsumerWarning], *, timeout: float | None
) -> Operation[tuple[Diagnosis, ConsumerInfo | None]]:
    """Ask what there is to ask: the diagnosis, and the info when there was one. Raises what says nothing of it, such as
    that the client is closed."""
    told_before = tuple(several("warnings", warnings))
    for warning in told_before:
        if not isinstance(warning, ConsumerWarning):
            raise TypeError(f"warnings must be ConsumerWarning, not {type(warning).__name__}")
    matching: int | None = None
    seen: ConsumerInfo | None = None
    answer: ConsumerInfo | NATSError
    try:
        answer = seen = yield from consumer_info(api, stream, name, timeout=timeout)
        if not seen.num_pending and (subjects := _filters(seen)):
            matching = 0
            for subject in subjects:
                told = yield from stream_info(
                    api, stream, subjects_filter=subject, deleted_details=False, timeout=timeout
                )
                matching += sum((told.state.subjects or {}).values())
        elif not seen.num_pending:
            told = yield from stream_info(api, stream, subjects_filter=None, deleted_details=False, timeout=timeout)
            matching = told.state.messages
    except _TELLING as error:
        answer = seen or error  # what is known of the consumer says more than that its stream could not be asked
    return diagnosis(stream, name, answer, matching=matching, warnings=told_before), seen


def diagnosis(
    stream: str,
    name: str,
    answer: ConsumerInfo | NATSError,
    *,
    matching: int | None = None,
    warnings: Sequence[ConsumerWarning] = (),
) -> Diagnosis:
    """What follows from the consumer's info, or the error in its place. ``matching``: messages of the stream that the
    consumer's filters match, None when it was not asked; ``warnings``: of its reader, the newest last."""
    what = f"consumer {name!r} of stream {stream!r}"
    if isinstance(answer, NATSError):
        return _of_error(what, answer)
    told: dict[WarningKind, str] = {warning.kind: warning.text for warning in warnings[-_RECENT:]}
    return (
        _of_server(what, answer, told)
        or _of_limits(what, answer, told)
        or _of_messages(what, answer, matching)
        or _of_readers(what, answer, told)
    )


_TELLING: Final = (
    StreamNotFoundError,
    ConsumerNotFoundError,
    ConsumerOfflineError,
    ClusterUnavailableError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    PermissionsError,
    NATSTimeoutError,
)


def _of_error(what: str, error: NATSError) -> Diagnosis:
    if isinstance(error, StreamNotFoundError):
        return Diagnosis("stream_missing", f"{what}: the stream does not exist")
    if isinstance(error, ConsumerNotFoundError):
        return Diagnosis("consumer_missing", f"{what}: the consumer does not exist, or does not exist any more")
    if isinstance(error, PermissionsError):
        return Diagnosis("permission", f"{what}: this user may not ask for it: {error}")
    if isinstance(error, (JetStreamNotEnabledError, JetStreamNotEnabledForAccountError)):
        return Diagnosis("not_enabled", f"{what}: nobody answers for JetStream: {error}")
    if isinstance(error, (ClusterUnavailableError, ConsumerOfflineError)):
        return Diagnosis("no_leader", f"{what}: no server is in charge of it at the moment: {error}")
    if isinstance(error, NATSTimeoutError):
        return Diagnosis(
            "no_answer", f"{what}: the servers did not answer in time: it has no leader, or they cannot be reached"
        )
    return Diagnosis("refused", f"{what}: the server refuses to speak of it: {error}")


def _of_server(what: str, info: ConsumerInfo, told: dict[WarningKind, str]) -> Diagnosis | None:
    if info.cluster is not None and not info.cluster.leader:
        return Diagnosis("no_leader", f"{what}: its group of servers has no leader at the moment")
    if "no_responders" in told:
        return Diagnosis("no_leader", f"{what}: it exists, but nobody takes requests for messages: no leader, it seems")
    return None


def _of_limits(what: str, info: ConsumerInfo, told: dict[WarningKind, str]) -> Diagnosis | None:
    config = info.config
    if info.paused:
        rest = "" if info.pause_remaining is None else f" for {float(info.pause_remaining):.3g} s more"
        return Diagnosis("paused", f"{what}: it is paused{rest}")
    limit = config.max_ack_pending or 0
    if 0 < limit <= info.num_ack_pending:
        return Diagnosis(
            "ack_limit",
            f"{what}: {info.num_ack_pending} of {limit} messages (max_ack_pending) wait for their acknowledgement, "
            f"among them those that were refused with a delay: nothing new comes before some are acknowledged; "
            f"{info.num_pending} more are there",
        )
    most = config.max_waiting or 0
    if not config.deliver_subject and 0 < most <= info.num_waiting:
        return Diagnosis(
            "waiting_limit",
            f"{what}: {info.num_waiting} of {most} requests (max_waiting) wait already, so that no other is taken",
        )
    if "unpinned" in told and "pinned" not in told:
        return Diagnosis("unpinned", f"{what}: another client of the priority group is the pinned one")
    return None


def _of_messages(what: str, info: ConsumerInfo, matching: int | None) -> Diagnosis | None:
    if info.num_pending:
        return None
    filters = _filters(info)
    if matching == 0 and filters:
        return Diagnosis(
            "filter_matches_nothing",
            f"{what}: no message of the stream has a subject that its filter matches: {', '.join(filters[:5])}",
        )
    if matching == 0:
        return Diagnosis("stream_empty", f"{what}: the stream has no messages")
    last = 0 if info.delivered is None else info.delivered.stream_seq
    waiting = f"; {info.num_ack_pending} wait for their acknowledgement" if info.num_ack_pending else ""
    return Diagnosis(
        "nothing_pending",
        f"{what}: all messages up to sequence {last} were delivered, there are no newer ones{waiting}",
    )


def _of_readers(what: str, info: ConsumerInfo, told: dict[WarningKind, str]) -> Diagnosis:
    there = f"{info.num_pending} messages are there"
    if info.config.deliver_subject:
        if not info.push_bound:
            return Diagnosis(
                "nobody_listens", f"{what}: {there}, and nobody listens on {info.config.deliver_subject!r}"
            )
        return Diagnosis("healthy", f"{what}: {there}, and somebody listens")
    if "no_heartbeat" in told:
        return Diagnosis("no_answer", f"{what}: {there}, but its reader has no sign of life: {told['no_heartbeat']}")
    if not info.num_waiting:
        return Diagnosis("nobody_asks", f"{what}: {there}, and no request for messages waits at the server")
    return Diagnosis("healthy", f"{what}: {there}, {info.num_waiting} requests wait: they are about to be delivered")


def _filters(info: ConsumerInfo) -> list[str]:
    config = info.config
    return [config.filter_subject] if config.filter_subject else list(config.filter_subjects or ())
