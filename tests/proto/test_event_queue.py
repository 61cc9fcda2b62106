"""The queue of events: in order, reports collapsed, bounded in front of user code."""

from __future__ import annotations

import pytest

from nats_proto import (
    Closed,
    Connected,
    ContentErrorReceived,
    EventQueue,
    LifecycleEvent,
    ServerErrorReceived,
    SessionEvent,
)
from nats_proto._session.event_queue import MAX_REPORTS
from nats_proto.errors import MaxSubscriptionsError, RemoteProtocolError, ServerError


def said(text: str, count: int = 1) -> ServerErrorReceived:
    return ServerErrorReceived(error=ServerError(text, text=text), count=count)


def content(text: str) -> ContentErrorReceived:
    return ContentErrorReceived(error=RemoteProtocolError(text))


def up(number: int) -> Connected:
    return Connected(server=f"nats://{number}")


def shown(events: list[SessionEvent]) -> list[str]:
    return [
        f"{event.error} x{event.count}"
        if isinstance(event, (ServerErrorReceived, ContentErrorReceived))
        else type(event).__name__
        for event in events
    ]


def filled(*events: SessionEvent) -> EventQueue[SessionEvent]:
    queue: EventQueue[SessionEvent] = EventQueue()
    for event in events:
        queue.add(event)
    return queue


def drained_one_by_one(queue: EventQueue[SessionEvent]) -> list[SessionEvent]:
    events: list[SessionEvent] = []
    while (event := queue.pop()) is not None:
        events.append(event)
    return events


BOTH = pytest.mark.parametrize("drain", [EventQueue.take_all, drained_one_by_one], ids=["drain", "pop"])


@BOTH
def test_first_in_first_out(drain: object) -> None:
    queue = filled(up(1), up(2), up(1))
    assert len(queue) == 3
    assert drain(queue) == [up(1), up(2), up(1)]  # type: ignore[operator]
    assert len(queue) == 0
    assert queue.pop() is None
    assert queue.take_all() == []


@BOTH
def test_equal_reports_that_wait_are_one(drain: object) -> None:
    queue = filled(said("a"), up(1), said("b"), said("a", 5), content("a"), said("b"), content("a"))
    assert shown(drain(queue)) == ["a x6", "Connected", "b x2", "a x2"]  # type: ignore[operator]
    queue.add(said("a"))
    assert shown(drain(queue)) == ["a x1"]  # type: ignore[operator]


def test_an_event_given_out_is_not_changed_any_more() -> None:
    queue = filled(said("a"))
    first = queue.pop()
    queue.add(said("a"))
    assert first is not None
    assert shown([first]) == ["a x1"]


def test_equal_texts_of_different_kinds_of_error_are_the_same_report() -> None:
    queue = filled(said("a"), ServerErrorReceived(error=MaxSubscriptionsError("a", text="a")))
    assert shown(queue.take_all()) == ["a x2"]


@BOTH
def test_of_too_many_reports_the_oldest_stands_for_the_rest(drain: object) -> None:
    queue = filled(*(said(str(number)) for number in range(MAX_REPORTS + 10)))
    assert len(queue) == MAX_REPORTS
    queue.add(up(1))
    queue.add(said("5"))
    events = shown(drain(queue))  # type: ignore[operator]
    assert events[0] == "0 x11"
    assert events[5] == "5 x2"
    assert events[-1] == "Connected"


def test_a_report_taken_makes_room_for_another() -> None:
    queue = filled(*(said(str(number)) for number in range(MAX_REPORTS)))
    queue.pop()
    queue.add(said("new"))
    queue.add(said("one too many"))
    assert shown(queue.take_all())[-1] == "new x1"
    queue.add(said("1"))
    assert len(queue) == 1


# --- in front of user code -------------------------------------------------------------------------------------------


def test_past_its_bound_the_oldest_is_dropped_and_counted() -> None:
    queue: EventQueue[LifecycleEvent] = EventQueue(max_events=3)
    for number in range(10):
        queue.add(up(number))
    assert len(queue) == 3
    assert queue.dropped == 7
    assert queue.take_all() == [up(7), up(8), up(9)]


def test_a_report_that_was_dropped_is_forgotten() -> None:
    queue: EventQueue[LifecycleEvent] = EventQueue(max_events=2)
    for event in (said("a"), up(1), up(2), said("a")):
        queue.add(event)
    assert queue.dropped == 2
    assert shown(list(queue.take_all())) == ["Connected", "a x1"]


def test_a_counted_report_needs_no_room() -> None:
    queue: EventQueue[LifecycleEvent] = EventQueue(max_events=2)
    for event in (said("a"), up(1), said("a")):
        queue.add(event)
    assert queue.dropped == 0
    assert shown(list(queue.take_all())) == ["a x2", "Connected"]


@pytest.mark.parametrize("max_events", [1, 2])
def test_closed_is_never_dropped(max_events: int) -> None:
    queue: EventQueue[LifecycleEvent] = EventQueue(max_events=max_events)
    queue.add(up(1))
    queue.add(Closed(error=None))
    for number in range(2, 6):
        queue.add(up(number))
    events = queue.take_all()
    assert Closed(error=None) in events
    assert len(events) == max_events


def test_a_queue_of_nothing_but_the_end_stays_as_it_is() -> None:
    queue: EventQueue[LifecycleEvent] = EventQueue(max_events=0)
    queue.add(Closed(error=None))
    assert queue.dropped == 0
    assert queue.take_all() == [Closed(error=None)]
