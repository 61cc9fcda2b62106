"""Every -ERR of a server: its class, what the connection does about it, and a text that is fit for a log."""

from __future__ import annotations

import pytest

from nats_proto import ConnectionEnded, ConnectionState, Message, ServerErrorReceived
from nats_proto._connection.server_errors import MAX_ERROR_TEXT, Reaction, classify_server_error
from nats_proto.errors import (
    AccountAuthenticationExpiredError,
    AuthenticationError,
    AuthenticationExpiredError,
    AuthenticationRevokedError,
    AuthenticationTimeoutError,
    AuthorizationError,
    MaxConnectionsError,
    MaxPayloadViolationError,
    MaxSubscriptionsError,
    NATSError,
    PermissionsError,
    SecureConnectionRequiredError,
    ServerError,
    StaleConnectionError,
    ThrottledError,
)
from tests.proto.driver import PING, Wire, err, info, msg

KEEP, RECONNECT, AUTHENTICATE, CLOSE = Reaction

# text, class of the report, reaction, class of what the connection ends with when it is another one
TEXTS: list[tuple[str, type[ServerError], Reaction, type[NATSError] | None]] = [
    ("Stale Connection", ServerError, RECONNECT, StaleConnectionError),
    ("maximum connections exceeded", MaxConnectionsError, RECONNECT, None),
    ("maximum account active connections exceeded", MaxConnectionsError, RECONNECT, None),
    ("Connection throttling is active. Please try again later.", ThrottledError, RECONNECT, None),
    ('Permissions Violation for Publish to "a.b"', PermissionsError, KEEP, None),
    ('Permissions Violation for Subscription to "a.b"', PermissionsError, KEEP, None),
    ("maximum subscriptions exceeded", MaxSubscriptionsError, KEEP, None),
    ("maximum subscriptions exceeded for account", MaxSubscriptionsError, KEEP, None),
    ("Authorization Violation", AuthorizationError, AUTHENTICATE, None),
    ("User Authentication Expired", AuthenticationExpiredError, AUTHENTICATE, None),
    ("User Authentication Revoked", AuthenticationRevokedError, AUTHENTICATE, None),
    ("Account Authentication Expired", AccountAuthenticationExpiredError, AUTHENTICATE, None),
    ("Authentication Timeout", AuthenticationTimeoutError, RECONNECT, None),
    ("Failed Account Registration", ServerError, RECONNECT, None),
    ("Maximum Payload Violation", MaxPayloadViolationError, RECONNECT, None),
    ("maximum control line exceeded (4097 bytes)", ServerError, RECONNECT, None),
    ("Unknown Protocol Operation", ServerError, RECONNECT, None),
    ("Parser Error", ServerError, RECONNECT, None),
    ("message headers not supported", ServerError, RECONNECT, None),
    ("Invalid Subject", ServerError, KEEP, None),
    ("Invalid Publish Subject", ServerError, KEEP, None),
    ("invalid client protocol", ServerError, CLOSE, None),
    ("no responders requires headers support", ServerError, CLOSE, None),
    ("Secure Connection - TLS Required", ServerError, RECONNECT, SecureConnectionRequiredError),
    ("something nobody has heard of", ServerError, KEEP, None),
    ("", ServerError, KEEP, None),
]
EACH = pytest.mark.parametrize(("text", "error_type", "reaction", "ending"), TEXTS, ids=lambda value: str(value)[:40])


@EACH
def test_on_an_open_connection(
    text: str, error_type: type[ServerError], reaction: Reaction, ending: type[NATSError] | None
) -> None:
    wire = Wire()
    wire.open()
    report, *rest = wire.feed(err(text) + msg("a", 1) + PING)
    assert isinstance(report, ServerErrorReceived)
    assert type(report.error) is error_type
    assert (report.error.text, report.count) == (text, 1)
    if reaction is KEEP:
        assert [type(event) for event in rest] == [Message]
        assert wire.written() == b"PONG\r\n"
        return
    (ended,) = rest
    assert isinstance(ended, ConnectionEnded)
    assert ended.reaction is reaction
    assert type(ended.error) is (ending or error_type)
    assert ended.error is report.error or ended.error.__cause__ is report.error
    assert wire.written() == b""


@EACH
@pytest.mark.parametrize("heard", [b"", info()], ids=["before INFO", "instead of PONG"])
def test_in_the_handshake_every_error_ends_the_attempt(
    heard: bytes, text: str, error_type: type[ServerError], reaction: Reaction, ending: type[NATSError] | None
) -> None:
    wire = Wire()
    wire.feed(heard)
    wire.written()
    (ended,) = wire.feed(err(text) + PING)
    assert isinstance(ended, ConnectionEnded)
    assert type(ended.error) is (ending or error_type)
    assert ended.reaction is (RECONNECT if reaction is KEEP else reaction)
    assert wire.connection.state is ConnectionState.CLOSED


@EACH
def test_case_blanks_and_quotes_do_not_matter(
    text: str, error_type: type[ServerError], reaction: Reaction, ending: type[NATSError] | None
) -> None:
    for variant in (text.upper(), text.lower(), f"  {text} ", f"'{text}'", f" ' {text} ' "):
        error, understood = classify_server_error(variant, "s")
        assert (type(error), understood) == (error_type, reaction)


def test_only_texts_about_who_we_are_are_authentication_errors() -> None:
    counted = {text for text, error_type, _, _ in TEXTS if issubclass(error_type, AuthenticationError)}
    assert counted == {text for text, _, reaction, _ in TEXTS if reaction is AUTHENTICATE}


@pytest.mark.parametrize(
    ("text", "operation", "subject", "queue"),
    [
        ('Permissions Violation for Publish to "Orders.New"', "publish", "Orders.New", None),
        ('Permissions Violation for Publish with Reply of "x.y"', "publish", "x.y", None),
        ('Permissions Violation for Subscription to "a.>"', "subscribe", "a.>", None),
        ('Permissions Violation for Subscription to "a" using queue "Q1"', "subscribe", "a", "Q1"),
        ('permissions violation for subscription to "a" (sid "12")', "subscribe", "a", None),
        ('Permissions Violation for Subscription to "a.*", too many tokens', "subscribe", "a.*", None),
        ("Permissions Violation", "publish", "", None),
        ('Permissions Violation for Subscription to "a', "publish", "", None),
    ],
)
def test_a_permissions_violation_says_what_was_refused(
    text: str, operation: str, subject: str, queue: str | None
) -> None:
    error, reaction = classify_server_error(text, "s")
    assert isinstance(error, PermissionsError)
    assert (error.operation, error.subject, error.queue) == (operation, subject, queue)
    assert error.sid == (12 if "sid" in text else None)
    assert reaction is KEEP


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        pytest.param(b"-ERR\r\n", "", id="H60-no-text"),
        pytest.param(b"-ERR bare words\r\n", "bare words", id="H60-no-quotes"),
        pytest.param(b"-ERR 'open quote\r\n", "open quote", id="H60-open-quote"),
        pytest.param(b"-ERR 'bad \xff utf-8'\r\n", r"bad \udcff utf-8", id="H60-bad-utf8"),
        pytest.param(b"-ERR 'esc \x1b[31m nul \x00'\r\n", r"esc \x1b[31m nul \x00", id="H60-controls"),
        pytest.param("-ERR 'line\u2028sep\u0085nel'\r\n".encode(), r"line\u2028sep\x85nel", id="H60-newline-like"),
        pytest.param(b"-ERR '" + b"x" * 30_000 + b"'\r\n", "x" * MAX_ERROR_TEXT, id="H60-long"),
        pytest.param(b"-ERR '" + b"\x01" * 400 + b"'\r\n", r"\x01" * 128 + "…", id="H60-escapes-are-cut-too"),
        pytest.param(b"-err 'lower case'\r\n", "lower case", id="H62-verb"),
    ],
)
def test_texts_are_escaped_and_cut(raw: bytes, shown: str) -> None:
    wire = Wire()
    wire.open()
    (report,) = wire.feed(raw)
    assert isinstance(report, ServerErrorReceived)
    assert report.error.text == shown
    assert str(report.error) == f"server nats://a:4222 said: {shown}"
    assert wire.connection.state is ConnectionState.OPEN
