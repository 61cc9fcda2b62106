"""What becomes of a message whose handler has failed: the policy of `work`, in one place.

    the handler            attempts are left                 it was the last attempt
    raised `Retry(delay)`  again after ``delay``             poison
    raised `Reject`        poison                            poison
    raised another error   again after the pause             poison

    poison                 ``dead_letter`` given: stored there, then never again
                           ``on_poison="term"``: never again
                           ``on_poison="nak"``: the server decides, which may have had its last attempt as well

A handler that returns has its message acknowledged; one that was cancelled leaves it to the server, which delivers it
again after ``ack_wait``; one that has settled its message by itself has had its way. These three need no policy.

A message that kills each worker that begins it has nobody who could say that it was the last attempt. With
``max_deliver`` the server stops it. With ``max_attempts`` alone it is poison before its handler is called, once it was
delivered `HANDED_BACK` times more often than that (`refuse_spent`). Not sooner, since the server counts deliveries and
not attempts: what a drained worker hands back, begun by nobody, counts as well, and must not be lost for it. With
``on_poison="nak"`` it is never refused.

The pause of an attempt is that of the ``backoff`` that was given, else of the consumer's, else 1 s, twice as long with
each attempt, up to 60 s, and spread: messages that fail together, because what they all need is away, must not all come
back in the same moment. What spreads them is their sequence, so a message has the same pauses wherever it fails.
"""

from __future__ import annotations

from typing import Final, Literal

from .._jetstream.acknowledge import Acknowledgeable
from .._value import Value
from .signals import Reject, Retry, Spent
from .work_options import WorkOptions

__all__ = ["HANDED_BACK", "Verdict", "last_attempt", "pause_after", "reason_of", "refuse_spent", "verdict_on"]

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
SPREAD: Final = 0.5
"""Of a pause: it is shortened by up to so much of it."""
MAX_REASON: Final = 200
"""Characters of a reason: it goes into an advisory and a header, and may be made of what somebody has sent."""

HANDED_BACK: Final = 10
"""Deliveries of a message that may have been no attempts: each worker that is drained may have handed it back."""


class Verdict(Value, frozen=True):
    """``again``: deliver it again after ``delay`` seconds. ``term``: never again, for ``reason``. ``dead_letter``:
    store it with the reason first."""

    kind: Literal["again", "term", "dead_letter"]
    delay: float = 0.0
    reason: str = ""


def verdict_on(message: Acknowledgeable, error: BaseException, options: WorkOptions, *, max_deliver: int) -> Verdict:
    """What becomes of the message. ``max_deliver``: of the consumer, 0 or less: without a limit."""
    attempt = message.metadata.num_delivered
    last = last_attempt(options, max_deliver)
    if isinstance(error, Reject):
        reason = error.reason
    elif last is None or attempt < last:
        delay = error.delay if isinstance(error, Retry) else None
        return Verdict("again", pause_after(message, options) if delay is None else delay)
    else:
        reason = f"given up after {attempt} attempts: {reason_of(error)}"[:MAX_REASON]
    if options.dead_letter is not None:
        return Verdict("dead_letter", reason=reason)
    if options.on_poison == "term" or isinstance(error, Reject):
        return Verdict("term", reason=reason)
    return Verdict("again", pause_after(message, options))


def refuse_spent(message: Acknowledgeable, options: WorkOptions) -> None:
    """Before a handler is called: raises `Spent` for a message that has cost too many workers already.

    Raises `NotJetStreamMessageError` for what was not delivered by a consumer.
    """
    most = options.max_attempts
    if most is None or options.on_poison != "term":
        return
    before = message.metadata.num_delivered - 1
    if before >= most + HANDED_BACK:
        raise Spent(f"given up before it was begun: it was delivered {before} times, and nothing was heard of it again")


def last_attempt(options: WorkOptions, max_deliver: int) -> int | None:
    """The number of the last attempt; None: there is none."""
    if max_deliver < 1:
        return options.max_attempts
    return max_deliver if options.max_attempts is None else min(max_deliver, options.max_attempts)


def pause_after(message: Acknowledgeable, options: WorkOptions) -> float:
    """Seconds until the attempt that follows this one."""
    metadata = message.metadata
    attempt = max(metadata.num_delivered, 1)
    pauses = options.pauses or message.delivery.backoff
    if pauses:
        return pauses[min(attempt, len(pauses)) - 1]
    pause = min(FIRST_PAUSE * 2.0 ** min(attempt - 1, 16), LONGEST_PAUSE)
    # The multiplier of Knuth's hash: sequences that follow one another come to lie far from one another.
    place = (metadata.stream_sequence + attempt) * 2654435761 % 2**32 / 2**32
    return max(FIRST_PAUSE, pause * (1.0 - SPREAD * place))


def reason_of(error: BaseException) -> str:
    """An error as one printable line. What it says may be anything, and saying it may fail."""
    try:
        text = str(error)
    except Exception:  # the text of an error is user code
        text = ""
    name = type(error).__name__
    line = " ".join(text[: 4 * MAX_REASON].split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return f"{name}: {line}"[:MAX_REASON] if line else name
