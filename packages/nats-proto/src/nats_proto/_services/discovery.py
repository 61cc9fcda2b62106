"""What asking for services comes to: instances, each with a typed answer.

A request to all of them is answered by who is there, in any order; so the end is known by time alone. One answer that
cannot be read must not hide the others: it is kept among the failures, and the next one is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic

from .._limits import check_seconds
from .._value import Value
from .._wire.frames import Message
from .errors import ServiceDecodeError, ServiceError
from .names import monitor_subject
from .state import Verb
from .values import AnswerT, ServiceInfo, ServicePing, ServiceStats, read_answer

__all__ = ["STALL", "TIMEOUT", "Question", "Sought"]

TIMEOUT: Final = 1.0
"""Seconds until no more answers are waited for."""
STALL: Final = 0.3
"""Seconds between two answers after which no more are waited for: as long as a server far away takes to be asked."""
MAX_FAILURES: Final = 100
"""Answers that could not be read, of which the errors are kept: a hostile service may send them without end."""

_KINDS: Final[Mapping[type[object], Verb]] = {ServicePing: "PING", ServiceInfo: "INFO", ServiceStats: "STATS"}


class Sought(Value, frozen=True, kw_only=True):
    """Whom to ask, and how long to wait."""

    name: str | None = None
    """None: all services."""
    instance: str | None = None
    """The id of the one instance that is asked."""
    timeout: float = TIMEOUT
    stall: float | None = STALL

    def check(self) -> None:
        """Raises `InvalidServiceError`, `InvalidSubjectError`, `TypeError`, `ValueError`."""
        monitor_subject("PING", self.name, self.instance)
        check_seconds("timeout", self.timeout)
        if self.stall is not None:
            check_seconds("stall", self.stall)


class Question(Generic[AnswerT]):
    """One request to monitors, and what its answers say."""

    __slots__ = ("_kind", "failures", "max_msgs", "stall", "subject", "timeout")

    def __init__(self, sought: Sought, kind: type[AnswerT]) -> None:
        self._kind = kind
        self.subject: Final = monitor_subject(_KINDS[kind], sought.name, sought.instance)
        self.timeout: Final = sought.timeout
        self.stall: Final = sought.stall
        self.max_msgs: Final = None if sought.instance is None else 1
        self.failures: list[ServiceDecodeError | ServiceError] = []
        """The answers that could not be read or are errors, the first hundred."""

    def read(self, message: Message) -> AnswerT | None:
        """What an answer says; None for one that is now among the ``failures``."""
        try:
            return read_answer(self._kind, message)
        except (ServiceDecodeError, ServiceError) as error:
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(error)
            return None
