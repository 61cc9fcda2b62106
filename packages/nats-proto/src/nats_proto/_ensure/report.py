"""What a set-up comes to, to be read by people and by programs."""

from __future__ import annotations

from typing import Final, Literal

from .._jetstream.api_answer import Difference
from .._jetstream.errors import JetStreamError
from .._value import Value

__all__ = ["EnsureAction", "EnsureReport", "EnsureStep", "ImmutableFieldError"]

EnsureAction = Literal["create", "update", "keep"]

_DONE: Final = {"create": "created", "update": "updated", "keep": "kept"}
_SHOWN: Final = 64
"""Characters of a value in a line of a report."""


class ImmutableFieldError(JetStreamError):
    """Something exists with fields that no server changes afterwards, and is to have others. Nothing was changed.

    ``differences`` has these fields of all that was to be set up. What helps is to delete what is there, or to take
    another name.
    """

    def __init__(self, message: str, *, differences: tuple[Difference, ...] = ()) -> None:
        super().__init__(message)
        self.differences = differences


class EnsureStep(Value, frozen=True, kw_only=True):
    """One thing that was to be set up, and what became of it. ``str`` of it has a line for each field that differs."""

    kind: Literal["stream", "consumer", "bucket", "object store"]
    name: str
    action: EnsureAction
    stream: str | None = None
    """Of a consumer."""
    differences: tuple[Difference, ...] = ()
    """Each field that differs: what was asked for, and what was there before."""

    @property
    def what(self) -> str:
        """Such as ``consumer 'billing' of stream 'ORDERS'``."""
        where = "" if self.stream is None else f" of stream {self.stream!r}"
        return f"{self.kind} {self.name!r}{where}"

    def __str__(self) -> str:
        return self.lines(_DONE[self.action])

    def lines(self, verb: str) -> str:
        """The same, with another word for what was or would be done."""
        return "\n".join([f"{verb} {self.what}", *(f"    {_told(one)}" for one in self.differences)])


class EnsureReport(Value, frozen=True, kw_only=True):
    """What a set-up has done, or would do. ``str`` of it can be printed; it says "nothing to do" when that is so."""

    steps: tuple[EnsureStep, ...] = ()
    """All that was to be set up, in the order in which it is done."""
    dry_run: bool = False
    """It was only looked, and nothing was changed."""

    @property
    def changes(self) -> tuple[EnsureStep, ...]:
        """What was, or would be, created or updated."""
        return tuple(step for step in self.steps if step.action != "keep")

    def __str__(self) -> str:
        lines = [step.lines(f"would {step.action}" if self.dry_run else _DONE[step.action]) for step in self.changes]
        return "\n".join(lines) or "nothing to do"


def _told(one: Difference) -> str:
    return f"{one.field}: {_shown(one.got)} -> {_shown(one.asked)}"


def _shown(value: object) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)  # pyright: ignore[reportUnknownArgumentType]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
