"""Writes the lines of a client's log, which the core words and limits."""

from __future__ import annotations

import contextlib
import logging
from time import monotonic

from nats_proto import EventLog, LifecycleEvent, LogLine, ReconnectDelayFailed

__all__ = ["Log"]

logger = logging.getLogger("nats_anyio")


class Log:
    """Of one client. It raises nothing: filters and handlers of the log are user code as well."""

    def __init__(self, *, inbox_prefix: str) -> None:
        self._lines = EventLog(inbox_prefix=inbox_prefix)

    def event(self, event: LifecycleEvent) -> None:
        """An event of the client's life. Each is given once, in order."""
        self._write(self._lines.line_of(event))

    def delay_failure(self, event: ReconnectDelayFailed) -> None:
        """The user's ``reconnect_delay`` gave no delay."""
        self._write(self._lines.line_of_delay(event), event.error)

    def failure(self, what: str, error: Exception) -> None:
        """User code has raised; ``what`` says where."""
        self._write(self._lines.line_of_failure(what), error)

    def dropped(self, count: int, who: str) -> None:
        """So many events were dropped, since too many waited for ``who``."""
        self._write(self._lines.line_of_dropped(count, who))

    def _write(self, line: LogLine, error: BaseException | None = None) -> None:
        with contextlib.suppress(Exception):
            if not logger.isEnabledFor(line.level):
                return
            for each in self._lines.limit(line, now=monotonic()):
                logger.log(each.level, "%s", each.text, exc_info=error if each is line else None)
