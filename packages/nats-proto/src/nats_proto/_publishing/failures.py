"""The publishes of a window that have failed, for who is to be told of them at the end."""

from __future__ import annotations

from typing import Any, Final

from .._jetstream.errors import JetStreamError
from ..errors import NATSError
from .pending import Pending

__all__ = ["Failures", "PublishesFailedError"]

MAX_ERRORS: Final = 100
"""Failures that are remembered one by one."""


class Failures:
    """Of one window."""

    __slots__ = ("_first", "_unobserved")

    def __init__(self) -> None:
        self._first: list[Pending[Any]] = []
        self._unobserved = 0

    def add(self, pending: Pending[Any]) -> None:
        """It has failed, and nobody was told of it yet."""
        self._unobserved += 1
        if len(self._first) < MAX_ERRORS:
            self._first.append(pending)

    def observe(self, pending: Pending[Any]) -> None:
        """Somebody was told of its error, if it has one."""
        if pending.error is not None and not pending.observed:
            pending.observed = True
            self._unobserved -= 1

    def error(self, published: int) -> PublishesFailedError | None:
        """For those of which nobody was told. ``published``: how many there were in all."""
        if not self._unobserved:
            return None
        errors = tuple(one.error for one in self._first if one.error is not None and not one.observed)
        first = f"; the first: {errors[0]}" if errors else ""
        return PublishesFailedError(
            f"{self._unobserved} of {published} publishes failed{first}", count=self._unobserved, errors=errors
        )


class PublishesFailedError(JetStreamError):
    """Publishes of a window have failed, and nobody has asked about them. The text names the first.

    ``count`` says how many, ``errors`` are those of the first hundred. ``outcome`` is ``"failed"`` if none of them can
    be stored.
    """

    def __init__(self, message: str, *, count: int = 0, errors: tuple[NATSError, ...] = ()) -> None:
        super().__init__(message)
        self.count = count
        self.errors = errors
        if any(error.outcome == "unknown" for error in errors) or count > len(errors):
            self.outcome = "unknown"
