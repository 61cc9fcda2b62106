"""The lines of a client's log: their levels and texts, what is masked, how many there may be."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from nats_proto import (
    AuthenticationFailed,
    Closed,
    Connected,
    ContentErrorReceived,
    Disconnected,
    EventLog,
    LameDuckMode,
    LifecycleEvent,
    LogLine,
    PublishesDropped,
    ReconnectDelayFailed,
    Reconnected,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
    SlowConsumer,
)
from nats_proto._interface.event_log import MAX_LINES, MAX_REASONS
from nats_proto.errors import (
    AuthorizationError,
    ConnectionClosedError,
    ConnectionLostError,
    CredentialsError,
    MaxPayloadError,
    NATSError,
    NoServersError,
    RemoteProtocolError,
    ServerError,
    TransportError,
)

A, B = "nats://a:4222", "nats://b:4222"
LOST = ConnectionLostError(f"server {A} closed the connection")
REFUSED = TransportError(f"cannot connect to server {A}: Connection refused")
DENIED = AuthorizationError(f"server {A} said: Authorization Violation", text="Authorization Violation")
ANONYMOUS = CredentialsError("the auth callback raised ValueError")
TOO_LARGE = MaxPayloadError("publish: 9 bytes, the server takes 8")
DAMAGED = RemoteProtocolError(f"server {A} sent an INFO that cannot be used")


def attempt(server: str, number: int, error: NATSError | None, delay: float = 0.1) -> Reconnecting:
    return Reconnecting(server=server, attempt=number, delay=delay, error=error)


def lines(*events: LifecycleEvent, inbox_prefix: str = "_INBOX") -> list[str]:
    log = EventLog(inbox_prefix=inbox_prefix)
    written = [log.line_of(event) for event in events]
    return [f"{logging.getLevelName(line.level)} {line.text}" for line in written]


TABLE: list[tuple[LifecycleEvent, str]] = [
    (Connected(server=A), f"INFO connected to {A}"),
    (Disconnected(server=A, error=None), f"INFO disconnected from {A}"),
    (Disconnected(server=A, error=LOST), f"WARNING disconnected: server {A} closed the connection"),
    (
        Disconnected(server=A, error=ANONYMOUS),
        f"WARNING disconnected from {A}: the auth callback raised ValueError",
    ),
    (attempt(A, 1, None), f"INFO reconnecting in 0.1 s (attempt 1) to {A}"),
    (attempt(A, 1, None, delay=0.0), f"INFO reconnecting in 0 s (attempt 1) to {A}"),
    (attempt(A, 1, None, delay=12.34567), f"INFO reconnecting in 12.346 s (attempt 1) to {A}"),
    (
        attempt(A, 2, REFUSED),
        f"WARNING reconnecting in 0.1 s (attempt 2) after: cannot connect to server {A}: Connection refused",
    ),
    (
        attempt(B, 2, REFUSED),
        f"WARNING reconnecting in 0.1 s (attempt 2) to {B} after: cannot connect to server {A}: Connection refused",
    ),
    (
        attempt("nats://a:422", 2, REFUSED),
        "WARNING reconnecting in 0.1 s (attempt 2) to nats://a:422 after: "
        f"cannot connect to server {A}: Connection refused",
    ),
    (
        attempt(B, 2, ANONYMOUS),
        f"WARNING reconnecting in 0.1 s (attempt 2) to {B} after: the auth callback raised ValueError",
    ),
    (Reconnected(server=A, attempts=1), f"INFO reconnected to {A} (1 attempt)"),
    (Reconnected(server=A, attempts=3), f"INFO reconnected to {A} (3 attempts)"),
    (ServersDiscovered(servers=(A, B)), f"INFO discovered {A}, {B}"),
    (LameDuckMode(server=A, migrating=False), f"INFO {A} is about to leave"),
    (LameDuckMode(server=A, migrating=True), f"INFO {A} is about to leave, moving to another server"),
    (
        SlowConsumer(subject="s", sid=7, pending_msgs=1, pending_bytes=9, dropped=3),
        "WARNING slow consumer: subscription to s (sid 7): 1 message (9 bytes) unread, 3 dropped so far",
    ),
    (
        SlowConsumer(subject="_INBOX.abc.1", sid=7, pending_msgs=2, pending_bytes=9, dropped=3),
        "WARNING slow consumer: subscription to _INBOX.… (sid 7): 2 messages (9 bytes) unread, 3 dropped so far",
    ),
    (ServerErrorReceived(error=ServerError("it said: no")), "WARNING it said: no"),
    (ServerErrorReceived(error=ServerError("it said: no"), count=3), "WARNING it said: no (3 times)"),
    (
        ServerErrorReceived(error=ServerError('Violation for "_INBOX.abc"')),
        'WARNING Violation for "_INBOX.…"',
    ),
    (ContentErrorReceived(error=DAMAGED), f"WARNING server {A} sent an INFO that cannot be used"),
    (ContentErrorReceived(error=DAMAGED, count=2), f"WARNING server {A} sent an INFO that cannot be used (2 times)"),
    (
        AuthenticationFailed(server=A, error=DENIED, dropped=False),
        f"WARNING server {A} said: Authorization Violation",
    ),
    (
        AuthenticationFailed(server=B, error=DENIED, dropped=True),
        f"WARNING {B}: server {A} said: Authorization Violation; it is not tried again",
    ),
    (
        PublishesDropped(error=TOO_LARGE, dropped_msgs=1, dropped_bytes=9),
        "WARNING 1 published message (9 bytes) was dropped: publish: 9 bytes, the server takes 8",
    ),
    (
        PublishesDropped(error=TOO_LARGE, dropped_msgs=2, dropped_bytes=18),
        "WARNING 2 published messages (18 bytes) were dropped: publish: 9 bytes, the server takes 8",
    ),
    (Closed(error=None), "INFO closed"),
    (Closed(error=None, unsent_msgs=1), "WARNING closed; 1 published message was not sent"),
    (Closed(error=None, unsent_msgs=2), "WARNING closed; 2 published messages were not sent"),
    (Closed(error=NoServersError("no server")), "WARNING closed: no server"),
    (Closed(error=ConnectionClosedError("the loop has ended")), "INFO closed: the loop has ended"),
    (
        Closed(error=ConnectionClosedError("the loop has ended"), unsent_msgs=1),
        "WARNING closed: the loop has ended; 1 published message was not sent",
    ),
    (
        Closed(error=NoServersError("no server"), unsent_msgs=2),
        "WARNING closed: no server; 2 published messages were not sent",
    ),
]


@pytest.mark.parametrize(("event", "line"), TABLE, ids=[line for _, line in TABLE])
def test_the_line_of_an_event(event: LifecycleEvent, line: str) -> None:
    assert lines(event) == [line]


def test_every_event_has_a_line() -> None:
    assert {type(event) for event, _ in TABLE} == set(get_args(LifecycleEvent))


# --- why attempts fail -----------------------------------------------------------------------------------------------


def test_what_ended_the_connection_is_told_once() -> None:
    assert lines(Disconnected(server=A, error=LOST), attempt(A, 1, LOST)) == [
        f"WARNING disconnected: {LOST}",
        f"INFO reconnecting in 0.1 s (attempt 1) to {A}",
    ]


def test_a_first_attempt_after_a_failed_walk_tells_why() -> None:
    assert lines(attempt(A, 1, REFUSED)) == [f"WARNING reconnecting in 0.1 s (attempt 1) after: {REFUSED}"]


def levels(*events: LifecycleEvent) -> list[str]:
    return [line.split()[0] for line in lines(*events)]


def test_a_reason_is_a_warning_once_in_an_outage() -> None:
    other = TransportError(f"cannot connect to server {A}: timed out")
    events = [attempt(A, n + 2, error) for n, error in enumerate([REFUSED, REFUSED, other, other, REFUSED])]
    assert levels(*events) == ["WARNING", "DEBUG", "WARNING", "DEBUG", "DEBUG"]
    assert all(str(event.error) in line for event, line in zip(events, lines(*events), strict=True))


def test_two_servers_that_fail_in_turn_are_two_warnings() -> None:
    elsewhere = TransportError(f"cannot connect to server {B}: timed out")
    events = [attempt(B if n % 2 else A, n + 2, REFUSED if n % 2 else elsewhere) for n in range(20)]
    assert levels(*events) == ["WARNING", "WARNING", *["DEBUG"] * 18]


@pytest.mark.parametrize("up", [Connected(server=B), Reconnected(server=B, attempts=2)])
def test_the_next_outage_warns_again(up: LifecycleEvent) -> None:
    assert levels(attempt(A, 2, REFUSED), up, attempt(A, 2, REFUSED)) == ["WARNING", "INFO", "WARNING"]


def test_a_refusal_is_told_once() -> None:
    refused = AuthenticationFailed(server=A, error=DENIED, dropped=False)
    assert lines(refused, attempt(A, 2, DENIED), refused, attempt(A, 3, DENIED)) == [
        f"WARNING {DENIED}",
        f"INFO reconnecting in 0.1 s (attempt 2) to {A}",
        f"DEBUG {DENIED}",
        f"DEBUG reconnecting in 0.1 s (attempt 3) after: {DENIED}",
    ]


def test_a_refusal_that_ended_the_connection_is_told_once() -> None:
    events = (
        Disconnected(server=A, error=DENIED),
        AuthenticationFailed(server=A, error=DENIED, dropped=False),
        attempt(A, 1, DENIED),
    )
    assert levels(*events) == ["WARNING", "DEBUG", "INFO"]


def test_that_a_server_is_dropped_is_always_told() -> None:
    first = AuthenticationFailed(server=A, error=DENIED, dropped=False)
    second = AuthenticationFailed(server=A, error=DENIED, dropped=True)
    assert levels(first, attempt(A, 2, DENIED), second) == ["WARNING", "INFO", "WARNING"]


def test_reasons_are_remembered_within_a_bound() -> None:
    errors = [TransportError(f"cannot connect to server {A}: {n}") for n in range(MAX_REASONS + 1)]
    events = [attempt(A, n + 2, error) for n, error in enumerate([*errors, errors[-1], errors[1], errors[0]])]
    assert levels(*events)[-4:] == ["WARNING", "DEBUG", "DEBUG", "WARNING"]


# --- limits and masks ------------------------------------------------------------------------------------------------

MANY = LogLine(logging.WARNING, "one of many", True)


def test_lines_that_may_come_without_end_are_limited_and_counted() -> None:
    log = EventLog(inbox_prefix="_INBOX")
    assert [log.limit(MANY, now=5.0) for _ in range(MAX_LINES + 3)] == [(MANY,)] * MAX_LINES + [()] * 3
    assert log.limit(MANY, now=5.999) == ()
    left_out = LogLine(logging.WARNING, "4 lines like the last ones were left out")
    assert log.limit(MANY, now=6.0) == (left_out, MANY)
    assert log.limit(MANY, now=7.5) == (MANY,)


def test_one_line_left_out() -> None:
    log = EventLog(inbox_prefix="_INBOX")
    for _ in range(MAX_LINES + 1):
        log.limit(MANY, now=0.0)
    assert log.limit(MANY, now=1.0)[0].text == "1 line like the last ones was left out"


def test_other_lines_are_not_limited() -> None:
    log = EventLog(inbox_prefix="_INBOX")
    line = log.line_of(Connected(server=A))
    assert [log.limit(line, now=0.0) for _ in range(100)] == [(line,)] * 100
    assert log.limit(MANY, now=0.0) == (MANY,)


@pytest.mark.parametrize(
    ("event", "limited"),
    [
        (Connected(server=A), False),
        (Disconnected(server=A, error=LOST), False),
        (attempt(A, 1, None), True),
        (Reconnected(server=A, attempts=1), False),
        (SlowConsumer(subject="s", sid=7, pending_msgs=1, pending_bytes=9, dropped=3), True),
        (ServerErrorReceived(error=ServerError("no")), True),
        (ContentErrorReceived(error=DAMAGED), True),
        (AuthenticationFailed(server=A, error=DENIED, dropped=False), True),
        (Closed(error=None), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_lines_are_limited(event: LifecycleEvent, limited: bool) -> None:
    assert EventLog(inbox_prefix="_INBOX").line_of(event).limited is limited


def test_failures_of_user_code_are_errors_limited_and_masked() -> None:
    log = EventLog(inbox_prefix="my.inbox")
    line = log.line_of_failure("the callback of the subscription to my.inbox.AbC.1 (sid 3) raised")
    assert line == LogLine(logging.ERROR, "the callback of the subscription to my.inbox.… (sid 3) raised", True)
    assert "_INBOX.abc" in log.line_of_failure("_INBOX.abc").text  # not the prefix of this client
    assert "myxinbox.abc" in log.line_of_failure("myxinbox.abc").text


def test_a_delay_that_was_none_is_an_error_that_is_not_limited() -> None:
    line = EventLog(inbox_prefix="mine").line_of_delay(ReconnectDelayFailed("returned mine.secret", None))
    text = "reconnect_delay returned mine.…; the usual wait is used (told once)"
    assert line == LogLine(logging.ERROR, text)  # there are few of them, so none is left out


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "on_event is slow: 1 event was dropped"), (2, "on_event is slow: 2 events were dropped")],
)
def test_dropped_events(count: int, text: str) -> None:
    assert EventLog(inbox_prefix="_INBOX").line_of_dropped(count, "on_event") == LogLine(logging.WARNING, text)
