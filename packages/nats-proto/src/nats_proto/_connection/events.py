"""What a connection says: its states, and the events it gives to whoever drives it."""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import Final

from .._effects import Effect
from .._interface.events import ContentErrorReceived, ServerErrorReceived
from .._value import Value
from .._wire.frames import Message
from .._wire.info import ServerInfo
from ..errors import NATSError, PermissionsError
from .server_errors import Reaction

__all__ = [
    "AT_ONCE",
    "ConnectionEnded",
    "ConnectionEvent",
    "ConnectionState",
    "EffectWanted",
    "HandshakeCompleted",
    "InfoReceived",
    "PongReceived",
    "RefusalReceived",
]


AT_ONCE: Final = -inf
"""What ``next_timeout`` says when ``handle_timeout`` is wanted now: no time is earlier."""


class ConnectionState(Enum):
    """Where a connection is in its life."""

    PREPARING = auto()
    AWAITING_INFO = auto()
    GREETING = auto()
    AWAITING_PONG = auto()
    OPEN = auto()
    CLOSED = auto()


class EffectWanted(Value, frozen=True):
    """The handshake goes on when `Connection.performed` or `Connection.perform_failed` has answered this."""

    effect: Effect


class InfoReceived(Value, frozen=True):
    """A good INFO; it replaces the one before."""

    info: ServerInfo


class HandshakeCompleted(Value, frozen=True):
    """The server accepted CONNECT and answered the first PING."""

    info: ServerInfo


class PongReceived(Value, frozen=True):
    """The PONG of the PING that was given this token."""

    token: int


class ConnectionEnded(Value, frozen=True):
    """The last event. ``error`` says why; ``reaction`` what a server's ``-ERR`` asks for."""

    error: NATSError
    reaction: Reaction = Reaction.RECONNECT


class RefusalReceived(ServerErrorReceived, frozen=True, kw_only=True):
    """A `ServerErrorReceived` of a `PermissionsError`, with the names that the server means. For the session alone.

    They are for finding whom it concerns, and not shown: they may have a secret in them that is masked in the error.
    """

    error: PermissionsError
    count: int = 1
    subject: str
    queue: str | None

    @property
    def plain(self) -> ServerErrorReceived:
        """Without them."""
        return ServerErrorReceived(error=self.error, count=self.count)

    def __repr__(self) -> str:
        return repr(self.plain)


ConnectionEvent = (
    Message
    | EffectWanted
    | InfoReceived
    | HandshakeCompleted
    | PongReceived
    | ServerErrorReceived
    | ContentErrorReceived
    | ConnectionEnded
)
