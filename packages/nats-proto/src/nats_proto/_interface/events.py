"""Events and commands: complete, flat, ordered values.

Three families. *Life-cycle events* go to ``on_event`` of the user. *Completions* tell an adapter which caller to wake,
or what to log.
*Commands* tell an adapter what to do to the outside world. A `Session` gives the first two from ``events_received()``
and the third from ``commands_to_run()``.
"""

from __future__ import annotations

from .._effects import Effect
from .._servers.server import Server
from .._value import Value
from .._wire.frames import Message
from ..errors import (
    AuthenticationError,
    HeadersNotSupportedError,
    MaxPayloadError,
    NATSError,
    RemoteProtocolError,
    ServerError,
)

__all__ = [
    "AdoptSuccessor",
    "AuthenticationFailed",
    "CloseSuccessor",
    "CloseTransport",
    "Closed",
    "Command",
    "Connected",
    "ContentErrorReceived",
    "Disconnected",
    "FlushCompleted",
    "FlushFailed",
    "LameDuckMode",
    "LifecycleEvent",
    "MessagesAvailable",
    "OpenSuccessor",
    "OpenTransport",
    "Perform",
    "PublishesDropped",
    "ReconnectDelayFailed",
    "Reconnected",
    "Reconnecting",
    "ReplyReceived",
    "RequestFailed",
    "ServerErrorReceived",
    "ServersDiscovered",
    "SessionEvent",
    "SlowConsumer",
    "SubscriptionClosed",
]


# --- life cycle ------------------------------------------------------------------------------------------------------


class Connected(Value, frozen=True, kw_only=True):
    """The first connection is up: handshake done, subscriptions and buffered publishes on their way."""

    server: str
    """The server's URL without user information."""


class Disconnected(Value, frozen=True, kw_only=True):
    """The connection ended. ``error`` is None when it was our own wish (`close`, `reconnect`, a lame duck left)."""

    server: str
    error: NATSError | None


class Reconnecting(Value, frozen=True, kw_only=True):
    """An attempt is planned: ``server`` will be dialled in ``delay`` seconds.

    ``attempt`` counts from 1 since the connection was lost; ``error`` is why the attempt before it failed.
    """

    server: str
    attempt: int
    delay: float
    error: NATSError | None


class Reconnected(Value, frozen=True, kw_only=True):
    """A connection is up again. ``attempts`` is how many it took."""

    server: str
    attempts: int


class ServersDiscovered(Value, frozen=True, kw_only=True):
    """INFO named servers never seen before; they are in the pool now."""

    servers: tuple[str, ...]


class LameDuckMode(Value, frozen=True, kw_only=True):
    """The connected server is about to leave. ``migrating`` tells whether the client moves to another on its own.

    It is told again when another server is discovered only later, and the client moves there.
    """

    server: str
    migrating: bool


class SlowConsumer(Value, frozen=True, kw_only=True):
    """A subscription reached its pending limits and drops new messages. Once per episode.

    ``dropped`` is the subscription's total so far; the first message taken again ends the episode.
    """

    subject: str
    sid: int
    pending_msgs: int
    pending_bytes: int
    dropped: int


class ServerErrorReceived(Value, frozen=True, kw_only=True):
    """The server said ``-ERR``. ``count`` is how many equal ones this event stands for."""

    error: ServerError
    count: int = 1


class ContentErrorReceived(Value, frozen=True, kw_only=True):
    """The server sent something framed well that cannot be used (a bad INFO, a bad header block). It was survived."""

    error: RemoteProtocolError
    count: int = 1


class AuthenticationFailed(Value, frozen=True, kw_only=True):
    """A server refused our credentials. ``dropped`` tells whether it left the pool (same error twice in a row)."""

    server: str
    error: AuthenticationError
    dropped: bool


class PublishesDropped(Value, frozen=True, kw_only=True):
    """Publishes that waited will not be sent: the server would have ended the connection over each of them.

    They were accepted for another server, or for none, that allows more. ``error`` is why, of the first; requests among
    them fail. ``dropped_msgs`` and ``dropped_bytes`` count them as `Closed` counts what is unsent.
    """

    error: MaxPayloadError | HeadersNotSupportedError
    dropped_msgs: int
    dropped_bytes: int


class Closed(Value, frozen=True, kw_only=True):
    """The client has ended; always the last event. ``error`` is None when the user asked for it and all went well.

    ``unsent_msgs`` and ``unsent_bytes`` are publishes that were accepted and never handed to a transport.
    """

    error: NATSError | None
    unsent_msgs: int = 0
    unsent_bytes: int = 0


LifecycleEvent = (
    Connected
    | Disconnected
    | Reconnecting
    | Reconnected
    | ServersDiscovered
    | LameDuckMode
    | SlowConsumer
    | ServerErrorReceived
    | ContentErrorReceived
    | AuthenticationFailed
    | PublishesDropped
    | Closed
)


# --- completions -----------------------------------------------------------------------------------------------------


class MessagesAvailable(Value, frozen=True):
    """These subscriptions have new messages in their queues. Once for a chunk, unless other events come in between."""

    sids: tuple[int, ...]


class SubscriptionClosed(Value, frozen=True):
    """The subscription takes no more messages; those queued can still be read. ``error`` None: it ended as asked."""

    sid: int
    error: NATSError | None


class ReplyReceived(Value, frozen=True, gc=False):
    """The answer to the request ``token``."""

    token: int
    message: Message


class RequestFailed(Value, frozen=True):
    """There will be no answer to the request ``token``."""

    token: int
    error: NATSError


class FlushCompleted(Value, frozen=True):
    """The PONG of the flush ``token`` arrived: the server has read everything written before it."""

    token: int


class FlushFailed(Value, frozen=True):
    """The connection of the flush ``token`` ended before its PONG."""

    token: int
    error: NATSError


class ReconnectDelayFailed(Value, frozen=True, eq=False):
    """``reconnect_delay`` gave no delay, so the usual wait is used. For the client's log, once for each ``why``."""

    why: str
    """What the callback did instead, in words that the log puts behind its name, such as "raised ValueError"."""
    error: BaseException | None
    """What the callback raised, if it raised."""


SessionEvent = (
    LifecycleEvent
    | MessagesAvailable
    | SubscriptionClosed
    | ReplyReceived
    | RequestFailed
    | FlushCompleted
    | FlushFailed
    | ReconnectDelayFailed
)


# --- commands --------------------------------------------------------------------------------------------------------


class OpenTransport(Value, frozen=True):
    """Dial ``address`` at ``at`` (absolute, the session's clock), and give up at ``deadline``.

    It replaces any earlier one that is still waiting or dialling, and a `Perform` that came ``before_dial``. Answer
    with ``transport_connected`` or ``transport_failed``.
    """

    server: Server
    address: tuple[str, int]
    """Host and port: the server's, or those of the proxy in front of it."""
    at: float
    deadline: float


class CloseTransport(Value, frozen=True):
    """Close the transport, or abandon the dial, at once; never wait for the peer. No answer is expected.

    What is performed for it is of no use any more, either.
    """


class OpenSuccessor(Value, frozen=True):
    """Dial ``address`` now, beside the transport that there is, and give up at ``deadline`` (absolute).

    Only for a session that was told that its adapter can keep two transports. What belongs to this one is said to
    ``Session.successor`` instead of the session: ``transport_connected`` or ``transport_failed``, and the bytes. The
    session leaves a lame duck this way.
    """

    server: Server
    address: tuple[str, int]
    """Host and port: the server's, or those of the proxy in front of it."""
    deadline: float


class CloseSuccessor(Value, frozen=True):
    """Close the successor's transport, or abandon its dial, at once. No answer is expected."""


class AdoptSuccessor(Value, frozen=True):
    """Close the transport, if it is still there: the successor's is the transport from now on.

    Answer with ``Session.transport_adopted`` when what the successor gave to be written was written and reported, and
    the last bytes read for it were given to it. Nothing is to be written meanwhile. `CloseTransport` or
    `CloseSuccessor` may come first.
    """


class Perform(Value, frozen=True, eq=False):
    """Do this for the handshake under way: call a user's function, or read a file. It may block, or take for ever.

    Answer with ``performed`` or ``perform_failed``, in any thread and at any time: an answer that comes too late is
    ignored. It comes only to those who set options that need it (``auth``, callbacks, ``credentials`` as a path,
    ``reconnect_delay``).
    """

    effect: Effect
    successor: bool = False
    """The handshake is that of the successor."""
    before_dial: bool = False
    """There is no handshake, and no transport: the next `OpenTransport` waits for the answer, or for its time."""


Command = OpenTransport | CloseTransport | OpenSuccessor | CloseSuccessor | AdoptSuccessor | Perform
