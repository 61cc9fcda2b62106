"""What the link gives: what its connection said and is for others, and what its connections and attempts mean."""

from __future__ import annotations

from .._connection.events import InfoReceived, PongReceived
from .._interface.events import (
    AuthenticationFailed,
    ContentErrorReceived,
    LameDuckMode,
    ReconnectDelayFailed,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
)
from .._value import Value
from .._wire.batch import Batch
from .._wire.frames import Message
from ..errors import NATSError

__all__ = ["HandshakeFailed", "LinkDown", "LinkEvent", "LinkGaveUp", "LinkUp"]


class LinkUp(Value, frozen=True):
    """The handshake is done. ``first``: for the first time."""

    first: bool
    attempts: int


class LinkDown(Value, frozen=True):
    """The connection is gone; ``error`` None: by our own wish. Nothing more happens until `Link.retry`.

    ``final``: no server would ever have us, so there is no point in it.
    """

    error: NATSError | None
    final: bool = False


class LinkGaveUp(Value, frozen=True):
    """No server is left to try, or none will ever have us."""

    error: NATSError


class HandshakeFailed(Value, frozen=True):
    """The connection ended before its handshake was done, and what it gave to be written is gone."""


LinkEvent = (
    Message
    | Batch
    | PongReceived
    | ServerErrorReceived
    | ContentErrorReceived
    | InfoReceived
    | LinkUp
    | LinkDown
    | LinkGaveUp
    | HandshakeFailed
    | Reconnecting
    | ReconnectDelayFailed
    | AuthenticationFailed
    | ServersDiscovered
    | LameDuckMode
)
