"""What a program may say of how `work` treats messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from .._json.durations import DurationLike, take_duration
from .._limits import MAX_SECONDS, check_concurrency, check_count, shown
from .._value import Value, set_once
from .._wire.subjects import encode_subject

__all__ = ["KEEP_ALIVE_LIMIT", "OnPoison", "WorkOptions"]

OnPoison = Literal["term", "nak"]
"""What becomes of a message after its last attempt: it is never delivered again, or the server may do as it likes."""

KEEP_ALIVE_LIMIT: Final = 3600.0
"""Seconds. A handler that hangs must not keep its message from everybody else for ever; one that works for longer than
an hour is rare enough to say so."""


class WorkOptions(Value, frozen=True, kw_only=True):
    """The policy of one `work`. Times are seconds, or `timedelta`s; afterwards they are seconds.

    ``concurrency``: handlers at once (1 to 1024). ``backoff``: pauses before the next attempt, the first after the
    first attempt, the last for all further ones; None: the consumer's, else 1 s, twice as long each time, up to 60 s.
    ``max_attempts``: attempts in all; the consumer's ``max_deliver`` holds as well. ``on_poison`` and ``dead_letter``
    (a subject): what becomes of a message after the last one. ``keep_alive``: tell the server that a handler is still
    at work, for so long at most; True: for an hour, False: never. ``confirmed``: wait for the server to confirm each
    acknowledgement.

    Raises `TypeError` and `ValueError` for what cannot be used, `InvalidSubjectError`.
    """

    concurrency: int = 1
    backoff: Sequence[DurationLike] | None = None
    max_attempts: int | None = None
    on_poison: OnPoison = "term"
    dead_letter: str | None = None
    keep_alive: bool | DurationLike = True
    confirmed: bool = False

    def __post_init__(self) -> None:
        check_concurrency(self.concurrency, has_callback=True)
        if self.backoff is not None:
            set_once(self, "backoff", _pauses(self.backoff))
        if self.max_attempts is not None:
            check_count("max_attempts", self.max_attempts)
        if self.on_poison not in ("term", "nak"):
            raise ValueError(f"on_poison must be 'term' or 'nak': {shown(self.on_poison)}")
        if self.dead_letter is not None:
            encode_subject(self.dead_letter, "dead_letter")
            if self.on_poison != "term":
                raise ValueError("on_poison must be 'term' with dead_letter: what is kept there is not to come again")
        _check_flag("confirmed", self.confirmed)
        set_once(self, "keep_alive", _limit(self.keep_alive))

    @property
    def keep_alive_for(self) -> float:
        """Seconds; 0: never."""
        assert isinstance(self.keep_alive, (int, float))  # it was made one
        return float(self.keep_alive)

    @property
    def pauses(self) -> tuple[float, ...]:
        """The back-off in seconds; empty: none was given."""
        return tuple(float(pause) for pause in self.backoff or () if isinstance(pause, float))


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be bool, not {type(value).__name__}")


def _pauses(backoff: Sequence[DurationLike]) -> tuple[float, ...]:
    _check_sequence("backoff", backoff)
    if not backoff:
        raise ValueError("backoff must have one pause at least")
    return tuple(float(take_duration(f"backoff[{index}]", pause)) for index, pause in enumerate(backoff))


def _check_sequence(name: str, value: object) -> None:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a sequence of durations, not {type(value).__name__}")


def _limit(keep_alive: bool | DurationLike) -> float:
    if isinstance(keep_alive, bool):
        return KEEP_ALIVE_LIMIT if keep_alive else 0.0
    return min(float(take_duration("keep_alive", keep_alive)), MAX_SECONDS)
