"""Every error of the family, in one tree under `NATSError`.

Both clients raise these same classes. Each says what was asked, of whom, and what can be done about it; none carries
a secret. ``outcome`` answers the question a caller has to ask before doing the thing again:

* ``"failed"``: it certainly did not happen;
* ``"unknown"``: it may have happened, the answer is what was lost; or it may yet happen, since what was taken for
  sending is sent, also after its caller has stopped waiting for the answer.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AccountAuthenticationExpiredError",
    "AuthenticationError",
    "AuthenticationExpiredError",
    "AuthenticationRevokedError",
    "AuthenticationTimeoutError",
    "AuthorizationError",
    "ConfigurationError",
    "ConnectionClosedError",
    "ConnectionDrainingError",
    "ConnectionLostError",
    "CredentialsError",
    "DefectError",
    "HeaderError",
    "HeadersNotSupportedError",
    "InvalidHeaderError",
    "InvalidSubjectError",
    "InvalidURLError",
    "LocalProtocolError",
    "MaxConnectionsError",
    "MaxControlLineError",
    "MaxPayloadError",
    "MaxPayloadViolationError",
    "MaxSubscriptionsError",
    "NATSError",
    "NATSTimeoutError",
    "NoEchoNotSupportedError",
    "NoReplySubjectError",
    "NoRespondersError",
    "NoServersError",
    "OutboundBufferLimitError",
    "PermissionsError",
    "ProxyError",
    "RemoteProtocolError",
    "SecureConnectionRequiredError",
    "ServerError",
    "SlowConsumerError",
    "StaleConnectionError",
    "SubscriptionClosedError",
    "TLSCertificateError",
    "TLSError",
    "ThrottledError",
    "TransportError",
    "WebSocketError",
]

Outcome = Literal["failed", "unknown"]


class NATSError(Exception):
    """The root of the tree: ``except NATSError`` catches whatever this family raises."""

    # Most errors are raised before anything was handed to the transport. A class for which that is not certain says so.
    outcome: Outcome = "failed"


# --- what the caller did ---------------------------------------------------------------------------------------------


class ConfigurationError(NATSError, ValueError):
    """An option, or a combination of them, that no connection can be made with. Raised before anything is dialled."""


class InvalidURLError(ConfigurationError):
    """A server URL that cannot be used. The text shows the URL without user information."""


class CredentialsError(NATSError):
    """Credentials could not be had or used: a malformed seed, JWT or ``.creds``, or a callback that failed or was late.

    The text quotes nothing of them. As an option of ``connect`` it is raised at once; from a file or a callback it is
    the error of that attempt.
    """


class InvalidSubjectError(NATSError, ValueError):
    """A subject, reply subject, queue group or inbox prefix that must not go on the wire (ADR-6)."""


class InvalidHeaderError(NATSError, ValueError):
    """A header name or value that must not go on the wire (ADR-4)."""


class HeadersNotSupportedError(NATSError):
    """Headers were given, and the connected server does not support them."""


class MaxPayloadError(NATSError, ValueError):
    """Headers and payload together are larger than the server's ``max_payload`` (bytes)."""


class MaxControlLineError(NATSError, ValueError):
    """Subject, reply and sizes make a line longer than the server reads.

    That is option ``max_control_line``: 4096 bytes, unless the server was configured otherwise.
    """


class NoReplySubjectError(NATSError):
    """`respond` on a message that came without a reply subject, or that has no client (unpickled, made by hand)."""


class LocalProtocolError(NATSError):
    """A machine was driven in a way its state does not allow. Nothing was changed."""


# --- what the peer or the network did --------------------------------------------------------------------------------


class RemoteProtocolError(NATSError):
    """The peer sent bytes that are not the NATS protocol, or exceed a bound. The text says which and shows a part."""

    outcome: Outcome = "unknown"


class HeaderError(RemoteProtocolError):
    """A message whose header block is malformed. The message is delivered all the same; the connection stays."""


class WebSocketError(RemoteProtocolError):
    """The peer does not speak WebSocket as it should (RFC 6455): the upgrade was refused, or a frame is malformed."""


class TransportError(NATSError):
    """Dialling, reading or writing failed. ``__cause__`` is what the operating system said."""

    outcome: Outcome = "unknown"


class ConnectionLostError(TransportError):
    """The connection ended while this was under way; what was already handed to the transport may have arrived."""


class StaleConnectionError(ConnectionLostError):
    """The peer left more than ``max_pings_out`` PINGs unanswered, or said so itself."""


class TLSError(TransportError):
    """TLS failed: the handshake, or a record later on. The text says what; nothing was ever sent in clear instead."""

    outcome: Outcome = "failed"


class TLSCertificateError(TLSError):
    """The server's certificate is not to be trusted: authority, name or dates are wrong. Nothing was sent to it."""


class ProxyError(TransportError):
    """The HTTP proxy did not open a tunnel to the server (RFC 9110, CONNECT). ``status``: its answer, if it had one."""

    outcome: Outcome = "failed"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionClosedError(NATSError):
    """The client is closed, by its user or because it gave up; ``__cause__`` tells why in the second case."""


class ConnectionDrainingError(NATSError):
    """The client or the subscription is draining and takes no new work of this kind."""


class DefectError(NATSError):
    """The client itself has failed and is closed: a defect in it, not in its use. ``__cause__`` is what was raised."""

    outcome: Outcome = "unknown"


class NoServersError(NATSError):
    """No server of the pool could be used. ``attempts`` has each server with its last failure, in the order tried."""

    def __init__(self, message: str, attempts: tuple[tuple[str, NATSError], ...] = ()) -> None:
        super().__init__(message)
        self.attempts = attempts


class OutboundBufferLimitError(NATSError):
    """The buffer for outgoing messages already holds ``pending_size`` bytes. This message was not taken."""


class SecureConnectionRequiredError(NATSError):
    """One side wants TLS and the other cannot give it."""


class NoEchoNotSupportedError(NATSError):
    """``echo=False`` was asked for, and the server speaks a protocol too old for it (INFO ``proto`` below 1)."""


# The built-in error is a base as well, so that code which catches the timeouts of the standard library needs no change.
class NATSTimeoutError(NATSError, TimeoutError):
    """An operation took longer than its caller allowed. The text names operation, subject, seconds and status.

    ``outcome`` is ``"failed"`` for one that was never begun: there was no room for it in the outgoing buffer.
    """

    outcome: Outcome = "unknown"

    def __init__(self, *args: object, outcome: Outcome = "unknown") -> None:
        super().__init__(*args)
        self.outcome = outcome


class NoRespondersError(NATSError):
    """Nobody listens to the subject of a request; the server said so at once (ADR-22). ``subject`` names it."""

    def __init__(self, message: str, subject: str) -> None:
        super().__init__(message)
        self.subject = subject

    def __reduce__(self) -> tuple[type[NoRespondersError], tuple[str, str]]:
        return type(self), (str(self), self.subject)  # an exception is made again of the arguments of its base alone


class SlowConsumerError(NATSError):
    """A subscription's pending limits were reached and messages were dropped."""


class SubscriptionClosedError(NATSError):
    """The subscription has ended (unsubscribed, drained, or its maximum was reached) and has no more messages."""


# --- what the server said: one class for each known -ERR -------------------------------------------------------------


class ServerError(NATSError):
    """A ``-ERR`` of the server. ``text`` is what it said, in its own case, without the quotes."""

    outcome: Outcome = "unknown"

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class MaxConnectionsError(ServerError):
    """The server or the account has as many connections as it allows. Worth trying again later."""

    outcome: Outcome = "failed"


class ThrottledError(ServerError):
    """The server accepts connections more slowly for now. Worth trying again later."""

    outcome: Outcome = "failed"


class MaxPayloadViolationError(ServerError):
    """The server closed the connection over a message larger than its ``max_payload``."""


class MaxSubscriptionsError(ServerError):
    """The server refused a subscription because the connection or the account has too many. The connection stays."""


class PermissionsError(ServerError):
    """The server refused a publish or a subscription. The connection stays.

    ``operation`` is ``"publish"`` or ``"subscribe"``. ``subject`` and ``queue`` are those that were asked for, in clear
    where somebody waits for what comes of it; else what they may have of a secret is masked, as it is in ``text``,
    which is fit to be printed. ``sid`` is the subscription's number, where the server told it: when a permission was
    withdrawn while it was used.
    """

    outcome: Outcome = "failed"

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        operation: Literal["publish", "subscribe"] = "publish",
        subject: str = "",
        queue: str | None = None,
        sid: int | None = None,
    ) -> None:
        super().__init__(message, text=text)
        self.operation: Literal["publish", "subscribe"] = operation
        self.subject = subject
        self.queue = queue
        self.sid = sid


class AuthenticationTimeoutError(ServerError):
    """The server waited too long for CONNECT. Worth trying again: the network was slow."""

    outcome: Outcome = "failed"


class AuthenticationError(ServerError):
    """The server does not accept who we say we are. The same one twice in a row drops the server from the pool."""

    outcome: Outcome = "failed"


class AuthorizationError(AuthenticationError):
    """``Authorization Violation``: user, password, token or key are not known to the server."""


class AuthenticationExpiredError(AuthenticationError):
    """``User Authentication Expired``: the user's credentials have run out."""


class AuthenticationRevokedError(AuthenticationError):
    """``User Authentication Revoked``: the user's credentials were withdrawn."""


class AccountAuthenticationExpiredError(AuthenticationError):
    """``Account Authentication Expired``: the credentials of the user's account have run out."""
