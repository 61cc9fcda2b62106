"""Events waiting for whoever reads them, in order and bounded.

Reports of what a peer did wrong (`ServerErrorReceived`, `ContentErrorReceived`) are the only events a peer can make at
will. Equal ones that wait are one event with a count, and past `MAX_REPORTS` different ones the oldest stands for the
rest. With ``max_events`` set the other events are bounded as well: past it the oldest is dropped and counted. That is
for a queue in front of user code, which may block for as long as it likes; `Closed` is never dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from msgspec import structs

from .._interface.events import Closed, ContentErrorReceived, ServerErrorReceived, SessionEvent

__all__ = ["EventQueue"]

MAX_REPORTS: Final = 64
"""Different reports kept at once: more would not be read, and each may hold 512 characters of a hostile server's."""

EventT = TypeVar("EventT", bound=SessionEvent)

_Key = tuple[type, str]


class _Report(Generic[EventT]):
    """The place of a report in the queue: its event is replaced while it waits."""

    __slots__ = ("event", "key")

    def __init__(self, event: EventT, key: _Key) -> None:
        self.event: EventT = event
        self.key = key


class EventQueue(Generic[EventT]):
    """First in, first out."""

    __slots__ = ("_entries", "_max_events", "_reports", "dropped")

    def __init__(self, max_events: int | None = None) -> None:
        self._max_events = max_events
        self._entries: deque[EventT | _Report[EventT]] = deque()
        self._reports: dict[_Key, _Report[EventT]] = {}
        self.dropped = 0
        """Events lost to ``max_events``."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, event: EventT) -> None:
        """Put an event behind all others; a report equal to one that waits is counted there."""
        if isinstance(event, (ServerErrorReceived, ContentErrorReceived)):
            key = (type(event), str(event.error))
            waiting = self._reports.get(key)
            if waiting is None and len(self._reports) >= MAX_REPORTS:
                # A dict keeps its order, so the first is the oldest. The report is counted there: no number gets lost.
                waiting = next(iter(self._reports.values()))
            if waiting is not None:
                _count_more(waiting, event.count)
                return
            report = self._reports[key] = _Report(event, key)
            self._entries.append(report)
        else:
            self._entries.append(event)
        if self._max_events is not None and len(self._entries) > self._max_events:
            self._drop_oldest()

    def extend(self, events: Iterable[EventT]) -> None:
        """Put events behind all others that are no reports, where there is no ``max_events``."""
        self._entries.extend(events)

    def pop(self) -> EventT | None:
        """The oldest event, or None."""
        return self._event_of(self._entries.popleft()) if self._entries else None

    def take_all(self) -> list[EventT]:
        """All events, oldest first."""
        if not self._entries:
            return []
        entries = list(self._entries)
        self._entries.clear()
        if self._reports:
            return [self._event_of(entry) for entry in entries]
        return entries  # type: ignore[return-value]  # what is no event is one of the reports

    def _event_of(self, entry: EventT | _Report[EventT]) -> EventT:
        """What leaves the queue with this entry."""
        if isinstance(entry, _Report):
            del self._reports[entry.key]
            return entry.event
        return entry

    def _drop_oldest(self) -> None:
        for entry in self._entries:
            if not isinstance(entry, Closed):
                # A deque must not change while it is iterated over; here the loop ends with the change.
                self._entries.remove(entry)
                self._event_of(entry)
                self.dropped += 1
                return


def _count_more(report: _Report[EventT], more: int) -> None:
    event = report.event
    if isinstance(event, (ServerErrorReceived, ContentErrorReceived)):
        report.event = structs.replace(event, count=event.count + more)
