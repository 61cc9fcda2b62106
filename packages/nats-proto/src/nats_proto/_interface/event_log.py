"""The log of a client: which line each life-cycle event is, and how many lines there may be.

This module makes lines and writes none. An adapter asks for the line of an event (`EventLog.line_of` and its siblings),
looks whether the log wants its level, and writes the lines that `EventLog.limit` returns for it. Levels are the numbers
of `logging`.

No line has a secret: errors have none, and inboxes, whose names let others read what comes in, are masked. Of what a
peer or a callback can repeat without end there are at most `MAX_LINES` lines in a second, and then one that says how
many were left out.

Why the attempts of an outage fail
----------------------------------
The reason why an attempt failed stands in the line of the attempt that follows it. An outage may last for days. So a
reason is a warning when it comes for the first time, and has the level of debugging when it comes again before there is
a connection. Reasons name their server: two servers that fail in turn, each in its own way, make two warnings and no
more.
"""

from __future__ import annotations

import re
from typing import Final, assert_never

from .._value import Value
from .._wording import counted
from ..errors import ConnectionClosedError, NATSError
from .events import (
    AuthenticationFailed,
    Closed,
    Connected,
    ContentErrorReceived,
    Disconnected,
    LameDuckMode,
    LifecycleEvent,
    PublishesDropped,
    ReconnectDelayFailed,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
    SlowConsumer,
)

__all__ = ["EventLog", "LogLine"]

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
"""The levels, with the numbers of `logging`."""

MAX_LINES: Final = 10
"""Lines in a second about things that a peer or a callback may repeat without end."""

# A server can put anything into the text of an error, and an outage can last for days: without a bound this would grow.
MAX_REASONS: Final = 64
"""Reasons for failed attempts that are remembered. When there are more, the oldest is forgotten, and is a warning again
if it comes again."""


class LogLine(Value, frozen=True):
    """One line. ``limited``: it is one of those that may come without end."""

    level: int
    text: str
    limited: bool = False


class EventLog:
    """The lines of one client's log. Of two threads one may call `line_of` while another calls the rest, no more."""

    __slots__ = ("_inbox", "_inbox_shown", "_left_out", "_lines", "_reasons", "_since", "_told")

    def __init__(self, *, inbox_prefix: str) -> None:
        self._inbox = re.compile(re.escape(inbox_prefix) + r"\.[^\s'\",;]*")
        self._inbox_shown = f"{inbox_prefix}.…"
        self._reasons: dict[str, None] = {}
        """Why attempts of this outage failed; in order, each once."""
        self._told: NATSError | None = None
        """The error that the line before this one has told, so that the next line does not repeat it."""
        # A second before the zero of the clock, so that the first limited line always begins a second of its own.
        self._since = -1.0
        self._lines = 0
        self._left_out = 0

    def line_of(self, event: LifecycleEvent) -> LogLine:
        """The line of an event. Events are given in their order, each once."""
        level, text = self._describe(event)
        # `Reconnecting` is among them because ``reconnect_wait`` may be 0: then attempts follow as fast as dials fail.
        limited = isinstance(event, (ServerErrorReceived, ContentErrorReceived, SlowConsumer, Reconnecting))
        return LogLine(level, self._masked(text), limited or isinstance(event, AuthenticationFailed))

    def line_of_failure(self, what: str) -> LogLine:
        """The line of what user code raised; ``what`` says where. The adapter adds the traceback."""
        return LogLine(ERROR, self._masked(what), True)

    def line_of_delay(self, event: ReconnectDelayFailed) -> LogLine:
        """The line of a ``reconnect_delay`` that gave none. The adapter adds the traceback, if there is an error."""
        # Not limited: the session tells each kind of failure once, and keeps count of a bounded number of kinds.
        return LogLine(ERROR, self._masked(f"reconnect_delay {event.why}; the usual wait is used (told once)"))

    def line_of_dropped(self, count: int, who: str) -> LogLine:
        """The line of events that were dropped because too many waited for ``who``: ``on_event``, or the log."""
        return LogLine(WARNING, f"{who} is slow: {counted(count, 'event')} {_were(count)} dropped")

    def limit(self, line: LogLine, *, now: float) -> tuple[LogLine, ...]:
        """The lines to write for ``line``, at ``now`` (seconds on any clock that does not go back).

        That is the line itself, or nothing when there were too many in this second; in front of it, when lines were
        left out before, a line that says how many.
        """
        if not line.limited:
            return (line,)
        lines: tuple[LogLine, ...] = ()
        if now >= self._since + 1.0:
            if self._left_out:
                left_out = f"{counted(self._left_out, 'line')} like the last ones {_were(self._left_out)} left out"
                lines = (LogLine(WARNING, left_out),)
            self._since, self._lines, self._left_out = now, 0, 0
        self._lines += 1
        if self._lines > MAX_LINES:
            self._left_out += 1
            return lines
        return (*lines, line)

    def _masked(self, text: str) -> str:
        return self._inbox.sub(self._inbox_shown, text)

    # --- the lines ---------------------------------------------------------------------------------------------------

    def _describe(self, event: LifecycleEvent) -> tuple[int, str]:
        match event:
            case Connected(server=server):
                self._outage_is_over()
                return INFO, f"connected to {server}"
            case Reconnected(server=server, attempts=attempts):
                self._outage_is_over()
                return INFO, f"reconnected to {server} ({counted(attempts, 'attempt')})"
            case Disconnected(server=server, error=None):
                return INFO, f"disconnected from {server}"
            case Disconnected(server=server, error=error):
                self._told = error
                text = str(error)
                from_server = "" if _names(text, server) else f" from {server}"
                return WARNING, f"disconnected{from_server}: {text}"
            case Reconnecting():
                return self._describe_attempt(event)
            case AuthenticationFailed(server=server, error=error, dropped=dropped):
                return self._describe_refusal(server, error, dropped)
            case ServersDiscovered(servers=servers):
                return INFO, f"discovered {', '.join(servers)}"
            case LameDuckMode(server=server, migrating=migrating):
                return INFO, f"{server} is about to leave{', moving to another server' if migrating else ''}"
            case Closed(error=error, unsent_msgs=msgs):
                why = f": {error}" if error is not None else ""
                lost = f"; {counted(msgs, 'published message')} {_were(msgs)} not sent" if msgs else ""
                # The event loop or the program has ended under it: whoever did that knows, unless something is lost.
                ended_with_the_loop = isinstance(error, ConnectionClosedError)
                level = INFO if (error is None or ended_with_the_loop) and not lost else WARNING
                return level, f"closed{why}{lost}"
            case _:
                return WARNING, _describe_trouble(event)

    def _describe_attempt(self, event: Reconnecting) -> tuple[int, str]:
        """An attempt that is planned, and why the one before it failed."""
        told, self._told = self._told, None
        planned = f"reconnecting in {round(event.delay, 3):g} s (attempt {event.attempt})"
        if event.error is None or event.error is told:
            return INFO, f"{planned} to {event.server}"
        text = str(event.error)
        to_server = "" if _names(text, event.server) else f" to {event.server}"
        return WARNING if self._is_new(text) else DEBUG, f"{planned}{to_server} after: {text}"

    def _describe_refusal(self, server: str, error: NATSError, dropped: bool) -> tuple[int, str]:
        text = str(error)
        if not _names(text, server):
            text = f"{server}: {text}"
        noteworthy = (self._is_new(str(error)) and error is not self._told) or dropped
        if noteworthy:
            self._told = error
        return WARNING if noteworthy else DEBUG, f"{text}{'; it is not tried again' if dropped else ''}"

    def _is_new(self, reason: str) -> bool:
        if reason in self._reasons:
            return False
        if len(self._reasons) == MAX_REASONS:
            # A dict keeps the order in which its keys came, so its first key is the oldest reason.
            del self._reasons[next(iter(self._reasons))]
        self._reasons[reason] = None
        return True

    def _outage_is_over(self) -> None:
        self._reasons.clear()
        self._told = None


def _describe_trouble(event: SlowConsumer | ServerErrorReceived | ContentErrorReceived | PublishesDropped) -> str:
    """The text of an event about trouble that does not end the connection."""
    match event:
        case SlowConsumer(subject=subject, sid=sid, pending_msgs=msgs, pending_bytes=size, dropped=dropped):
            waiting = f"{counted(msgs, 'message')} ({size} bytes) unread, {dropped} dropped so far"
            return f"slow consumer: subscription to {subject} (sid {sid}): {waiting}"
        case ServerErrorReceived(error=error, count=count) | ContentErrorReceived(error=error, count=count):
            return f"{error}{f' ({count} times)' if count > 1 else ''}"
        case PublishesDropped(error=error, dropped_msgs=msgs, dropped_bytes=size):
            return f"{counted(msgs, 'published message')} ({size} bytes) {_were(msgs)} dropped: {error}"
        case _:
            assert_never(event)


def _names(text: str, server: str) -> bool:
    """Whether a text names the server; not another one whose port only begins like its."""
    return re.search(re.escape(server) + r"(?!\w)", text) is not None


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
