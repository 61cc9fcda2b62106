"""What each ``-ERR`` text means: its typed error and what the connection does about it.

One table, in the order it is searched. Texts are compared in lower case, without quotes and outer blanks, by prefix:
servers append details to several of them. A text that is not listed is reported and the connection kept; if the server
meant to close it, the end of the stream will say so (and nothing is lost by waiting for it).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Literal, NamedTuple

from .._servers.server import Server
from ..errors import (
    AccountAuthenticationExpiredError,
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
from .quoted_text import unquote_at

__all__ = ["Reaction", "classify_server_error", "ending", "name_server", "refused_names"]

MAX_ERROR_TEXT: Final = 512
"""Characters of a server's text kept in an error: enough for any real one, little enough for a log line."""


class Reaction(Enum):
    """What a ``-ERR`` does to the connection it arrives on."""

    KEEP = auto()
    """Report it; the server keeps the connection too."""
    RECONNECT = auto()
    """The server closes; any server may be tried next, this one included."""
    AUTHENTICATE = auto()
    """As RECONNECT, and it counts for the rule that the same authentication error twice drops the server."""
    CLOSE = auto()
    """No server of this kind will ever accept us: the client ends."""


_TABLE: Final[tuple[tuple[str, type[ServerError], Reaction], ...]] = (
    ("stale connection", ServerError, Reaction.RECONNECT),
    ("maximum connections exceeded", MaxConnectionsError, Reaction.RECONNECT),
    ("maximum account active connections exceeded", MaxConnectionsError, Reaction.RECONNECT),
    ("connection throttling is active", ThrottledError, Reaction.RECONNECT),
    ("permissions violation", PermissionsError, Reaction.KEEP),
    ("maximum subscriptions exceeded", MaxSubscriptionsError, Reaction.KEEP),
    ("authorization violation", AuthorizationError, Reaction.AUTHENTICATE),
    ("user authentication expired", AuthenticationExpiredError, Reaction.AUTHENTICATE),
    ("user authentication revoked", AuthenticationRevokedError, Reaction.AUTHENTICATE),
    ("account authentication expired", AccountAuthenticationExpiredError, Reaction.AUTHENTICATE),
    # An authentication timeout says that CONNECT came late, and not that the identity is wrong. So it must not count
    # for dropping the server.
    ("authentication timeout", AuthenticationTimeoutError, Reaction.RECONNECT),
    ("failed account registration", ServerError, Reaction.RECONNECT),
    ("maximum payload violation", MaxPayloadViolationError, Reaction.RECONNECT),
    ("maximum control line exceeded", ServerError, Reaction.RECONNECT),
    ("unknown protocol operation", ServerError, Reaction.RECONNECT),
    ("parser error", ServerError, Reaction.RECONNECT),
    ("message headers not supported", ServerError, Reaction.RECONNECT),
    ("secure connection - tls required", ServerError, Reaction.RECONNECT),
    ("invalid subject", ServerError, Reaction.KEEP),
    ("invalid publish subject", ServerError, Reaction.KEEP),
    ("invalid client protocol", ServerError, Reaction.CLOSE),
    ("no responders requires headers support", ServerError, Reaction.CLOSE),
)

# Compiled when the first such error comes, and remembered by `re`: most programs never see one.
_PERMISSION: Final = r'(?i)permissions violation for (publish|subscription)[^"]*'
_QUEUE: Final = r"(?i) using queue "
# So many digits hold any sid of 63 bits. Without a bound, `int` would raise for a text of more than 4,300 digits.
_SID: Final = r'(?i) \(sid "([0-9]{1,19})"\)'


def classify_server_error(text: str, server: str, masked: Callable[[str], str] = str) -> tuple[ServerError, Reaction]:
    """The typed error of a ``-ERR`` text and what to do about it. ``server`` is named in the error's text.

    What the error has of the text is what ``masked`` leaves of it; see `refused_names` for the rest.
    """
    known = text.strip().strip("'").strip().lower()
    shown = masked(_printable(text))
    message = f"server {server} said: {shown}"
    for prefix, error_type, reaction in _TABLE:
        if known.startswith(prefix):
            if error_type is PermissionsError:
                return _permissions_error(text, message, shown, masked), reaction
            return error_type(message, text=shown), reaction
    return ServerError(message, text=shown), Reaction.KEEP


def ending(error: ServerError) -> NATSError:
    """What a connection ended by ``error`` ends with: an error of its own where either side may be first to say so."""
    known = error.text.lower()
    ended: NATSError
    if known.startswith("stale connection"):
        ended = StaleConnectionError(str(error))
    elif known.startswith("secure connection - tls required"):
        ended = SecureConnectionRequiredError(str(error))
    else:
        return error
    ended.__cause__ = error
    return ended


def name_server(error: NATSError, server: Server) -> None:
    """Let the text of what ended a connection or an attempt name the server, if it does not do so by itself.

    So it is said once, and by the error: whoever lists errors, or logs them, names no server beside them.
    """
    text = str(error)
    host = f"[{server.host}]" if ":" in server.host else server.host
    if f"{host}:{server.port}" not in text:
        error.args = (f"server {server}: {text}", *error.args[1:])


def refused_names(text: str) -> tuple[str, str | None]:
    """Subject and queue group of a refused publish or subscription as the server means them: as we told it.

    They are for finding them again among our own, and may have a secret in them that an error must not show.
    """
    refused = _read_refusal(text)
    return ("", None) if refused is None else (refused.subject, refused.queue)


class _Refused(NamedTuple):
    operation: Literal["publish", "subscribe"]
    subject: str
    queue: str | None
    sid: int | None


def _read_refusal(text: str) -> _Refused | None:
    refused = re.search(_PERMISSION, text)
    subject = None if refused is None else unquote_at(text, refused.end())
    if refused is None or subject is None:
        return None
    rest = subject[1]
    using = re.compile(_QUEUE).match(text, rest)
    queue = None if using is None else unquote_at(text, using.end())
    sid = re.compile(_SID).match(text, rest if queue is None else queue[1])
    return _Refused(
        "subscribe" if refused[1].lower() == "subscription" else "publish",
        subject[0],
        None if queue is None else queue[0],
        None if sid is None else int(sid[1]),
    )


def _permissions_error(text: str, message: str, shown: str, masked: Callable[[str], str]) -> PermissionsError:
    refused = _read_refusal(text)
    if refused is None:
        return PermissionsError(message, text=shown)
    return PermissionsError(
        message,
        text=shown,
        operation=refused.operation,
        subject=masked(refused.subject),
        queue=None if refused.queue is None else masked(refused.queue),
        sid=refused.sid,
    )


def _printable(text: str) -> str:
    """The text as it may stand in a log: control characters escaped, cut to a length (a hostile server writes it)."""
    if text.isprintable() and len(text) <= MAX_ERROR_TEXT:
        return text
    # Cut before the escapes are made, and after that: one character may become ten by its escape, and the rest of a
    # long text is not worth escaping.
    escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:MAX_ERROR_TEXT])
    return escaped if len(escaped) <= MAX_ERROR_TEXT else escaped[:MAX_ERROR_TEXT] + "…"
