"""Which failures of a publish are tried again, and what is said at last. One decision for every way to publish.

Theory of operation
-------------------
A publish may be tried again when that cannot store it twice:

    what happened                                     again?
    nobody listens (503): no leader, or no stream     yes: nothing was stored
    refused for now (10008, 10009, 10035, 10039,      yes: nothing was stored
      10076, 10163, 10167, "not leader")
    one of this id is being stored (10158)            yes: the stream knows the id, and says at last "duplicate"
    no acknowledgement in time, connection lost       with a message id, inside the stream's duplicate window
    everything else                                   no

The first three are tried again with growing pauses, since servers need seconds to elect a leader; the fourth at once.
"Not enabled" (10039, 10076) is among them because it comes from a server that has, or had a moment ago, a stream with
this subject: for any other nobody listens.

An error says by its ``outcome`` whether the message may be stored. When one try has ended without an answer, that stays
unknown whatever is said about later ones. And from then on there is another try only inside the duplicate window, where
a try that is still not answered ends, too: the session does not send it any later.
"""

from __future__ import annotations

from typing import Final

from .._jetstream.errors import (
    ApiError,
    ClusterUnavailableError,
    DuplicateInProgressError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    NoStreamResponseError,
    TooManyRequestsError,
    WrongLastMsgIdError,
    WrongLastSequenceError,
)
from .._limits import shown
from ..errors import ConnectionLostError, NATSError, NATSTimeoutError, NoRespondersError

__all__ = [
    "DUPLICATE_WINDOW",
    "LONGEST_PAUSE",
    "RETRY_FOR",
    "conflicts",
    "final_error",
    "mark_unknown",
    "may_be_stored",
    "note_of_forgotten",
    "pause_before_retry",
]

RETRY_FOR: Final = 10.0
"""Seconds in which a publish is tried again. A leader that was killed is replaced after 5 s."""
DUPLICATE_WINDOW: Final = 120.0
"""Seconds for which a stream remembers message ids, unless it is configured otherwise."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0
FIRST_PAUSE_FOR_OTHER: Final = 0.02
"""While one of the same id is being stored: that takes a moment only."""
LONGEST_PAUSE_FOR_OTHER: Final = 0.25
SEQUENCE_NOT_READY: Final = 10163
"""The server's words are "temporarily not ready"."""

_LATER: Final = (
    NoRespondersError,
    ClusterUnavailableError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    TooManyRequestsError,
)


def pause_before_retry(error: NATSError, tries: int, *, has_id: bool) -> float | None:
    """Seconds to wait before a publish that has failed ``tries`` times, now with ``error``, is tried again.

    None: it is not to be tried again. ``has_id``: the stream would know it again, and still remembers it.
    """
    if isinstance(error, _LATER) or (isinstance(error, ApiError) and error.err_code == SEQUENCE_NOT_READY):
        return _grown(FIRST_PAUSE, LONGEST_PAUSE, tries)
    if isinstance(error, DuplicateInProgressError):
        return _grown(FIRST_PAUSE_FOR_OTHER, LONGEST_PAUSE_FOR_OTHER, tries)
    if has_id and isinstance(error, NATSTimeoutError | ConnectionLostError) and error.outcome == "unknown":
        return 0.0
    return None


def may_be_stored(error: NATSError) -> bool:
    """Whether a try that has ended so may have been stored all the same."""
    return error.outcome == "unknown" and not isinstance(error, DuplicateInProgressError)


def conflicts(error: NATSError) -> bool:
    """Whether the stream refused it for what it found there: which may be an earlier try of the same message."""
    return isinstance(error, WrongLastSequenceError | WrongLastMsgIdError)


def final_error(
    error: NATSError, subject: str, *, tries: int, seconds: float, unknown: bool, foreign: bytes | None
) -> NATSError:
    """What is raised after the last try.

    ``seconds``: since the first one. ``unknown``: an earlier try may be stored. ``foreign``: the beginning of an answer
    that was no acknowledgement, if there was one.
    """
    answered = "" if foreign is None else f"; somebody other than a stream has answered: {shown(foreign)}"
    again = f", in {tries} tries" if tries > 1 else ""
    cause = error.__cause__
    if isinstance(error, NoRespondersError) and not isinstance(error, NoStreamResponseError):
        error = NoStreamResponseError(
            f"publish to {subject!r}: no stream took it within {seconds:.3g} s{again}: none has this subject, or the "
            f"one that has it has no leader{answered}",
            subject,
        )
    elif isinstance(error, NATSTimeoutError) and error.outcome == "unknown":
        error = NATSTimeoutError(
            f"publish to {subject!r}: no acknowledgement within {seconds:.3g} s{again}; it may be stored{answered}"
        )
    error.__cause__ = cause
    return mark_unknown(error) if unknown else error


def note_of_forgotten(error: NATSError, *, has_id: bool, seconds: float, window: float, retry_for: float) -> None:
    """Say so in the error of the last try, if there was no other because the stream may have forgotten the message id.

    ``seconds`` since the first try; ``window`` is the stream's duplicate window.
    """
    if has_id and error.outcome == "unknown" and window <= seconds < retry_for:
        error.add_note(
            f"It was not tried again: the stream knows a message id for {window:g} s (duplicate_window), and would "
            f"store the message a second time."
        )


def mark_unknown(error: NATSError) -> NATSError:
    """The error of the last try, where an earlier one may be stored."""
    if error.outcome == "failed":
        error.outcome = "unknown"
        error.add_note("An earlier try of this publish had no answer, so the message may be stored all the same.")
    return error


def _grown(first: float, longest: float, tries: int) -> float:
    # An exponent of thousands would be no float any more.
    return float(min(longest, first * 2 ** min(tries - 1, 16)))
