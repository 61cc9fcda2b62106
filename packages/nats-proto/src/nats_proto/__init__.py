"""NATS without I/O: the whole protocol as state machines, for whatever moves the bytes.

`Session` is a client without its sockets, threads and clock; `Connection`, `Parser` and `ServerPool` are its parts,
each usable alone. Nothing here reads a clock, a socket, a file or the global random generator. `accelerated` tells
whether the compiled module reads and writes messages; ``NATS_PROTO_PURE=1`` in the environment turns it off.
"""

from typing import TYPE_CHECKING

from . import errors as errors
from ._authentication import Challenge, Credentials
from ._callables import explained, unusable_callback
from ._effects import Call, Effect, ReadFile
from ._events import (
    AdoptSuccessor,
    AuthenticationFailed,
    Closed,
    CloseSuccessor,
    CloseTransport,
    Command,
    Connected,
    ContentErrorReceived,
    Disconnected,
    FlushCompleted,
    FlushFailed,
    LameDuckMode,
    LifecycleEvent,
    MessagesAvailable,
    OpenSuccessor,
    OpenTransport,
    Perform,
    PublishesDropped,
    Reconnected,
    Reconnecting,
    ReplyReceived,
    RequestFailed,
    ServerErrorReceived,
    ServersDiscovered,
    SessionEvent,
    SlowConsumer,
    SubscriptionClosed,
)
from ._frames import (
    ConnectFrame,
    ErrFrame,
    Frame,
    InfoFrame,
    Message,
    OkFrame,
    PingFrame,
    PongFrame,
    PublishFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from ._headers import Headers, HeadersLike, Status
from ._info import ServerInfo
from ._limits import MAX_CONCURRENCY, MAX_SECONDS, check_concurrency, check_count, check_timeout
from ._options import ConnectOptionFields, ConnectOptions, read_options
from ._proxy import Proxy
from ._publish_many import PublishMany
from ._request_many import RequestMany
from ._secret import Secret
from ._server import Server, parse_servers
from ._stats import StatsSnapshot
from ._status import SessionStatus
from ._subscription import SubscriptionState, SubscriptionStatus
from ._version import VERSION as __version__

if TYPE_CHECKING:
    from ._connection import Connection
    from ._connection_events import (
        ConnectionEnded,
        ConnectionEvent,
        ConnectionState,
        EffectWanted,
        HandshakeCompleted,
        InfoReceived,
        PongReceived,
    )
    from ._encoder import Encoder
    from ._event_log import EventLog, LogLine
    from ._event_queue import EventQueue
    from ._outbox import CHUNK_SIZE
    from ._parser import Parser, Role
    from ._pool import Attempt, ServerPool
    from ._session import Session
    from ._successor import Successor
    from ._twin import accelerated
else:

    def __getattr__(name):
        """The machines are loaded when the first is used: a program that only prints its help does without them."""
        match name:
            case "Connection":
                from . import _connection as home
            case (
                "ConnectionEnded"
                | "ConnectionEvent"
                | "ConnectionState"
                | "EffectWanted"
                | "HandshakeCompleted"
                | "InfoReceived"
                | "PongReceived"
            ):
                from . import _connection_events as home
            case "Encoder":
                from . import _encoder as home
            case "EventLog" | "LogLine":
                from . import _event_log as home
            case "EventQueue":
                from . import _event_queue as home
            case "CHUNK_SIZE":
                from . import _outbox as home
            case "Parser" | "Role":
                from . import _parser as home
            case "Attempt" | "ServerPool":
                from . import _pool as home
            case "Session":
                from . import _session as home
            case "Successor":
                from . import _successor as home
            case "accelerated":
                from . import _twin as home
            case "nkeys":
                import nats_proto.nkeys as home

                return home
            case _:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(home, name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "CHUNK_SIZE",
    "MAX_CONCURRENCY",
    "MAX_SECONDS",
    "AdoptSuccessor",
    "Attempt",
    "AuthenticationFailed",
    "Call",
    "Challenge",
    "CloseSuccessor",
    "CloseTransport",
    "Closed",
    "Command",
    "ConnectFrame",
    "ConnectOptionFields",
    "ConnectOptions",
    "Connected",
    "Connection",
    "ConnectionEnded",
    "ConnectionEvent",
    "ConnectionState",
    "ContentErrorReceived",
    "Credentials",
    "Disconnected",
    "Effect",
    "EffectWanted",
    "Encoder",
    "ErrFrame",
    "EventLog",
    "EventQueue",
    "FlushCompleted",
    "FlushFailed",
    "Frame",
    "HandshakeCompleted",
    "Headers",
    "HeadersLike",
    "InfoFrame",
    "InfoReceived",
    "LameDuckMode",
    "LifecycleEvent",
    "LogLine",
    "Message",
    "MessagesAvailable",
    "OkFrame",
    "OpenSuccessor",
    "OpenTransport",
    "Parser",
    "Perform",
    "PingFrame",
    "PongFrame",
    "PongReceived",
    "Proxy",
    "PublishFrame",
    "PublishMany",
    "PublishesDropped",
    "ReadFile",
    "Reconnected",
    "Reconnecting",
    "ReplyReceived",
    "RequestFailed",
    "RequestMany",
    "Role",
    "Secret",
    "Server",
    "ServerErrorReceived",
    "ServerInfo",
    "ServerPool",
    "ServersDiscovered",
    "Session",
    "SessionEvent",
    "SessionStatus",
    "SlowConsumer",
    "StatsSnapshot",
    "Status",
    "SubscribeFrame",
    "SubscriptionClosed",
    "SubscriptionState",
    "SubscriptionStatus",
    "Successor",
    "UnsubscribeFrame",
    "__version__",
    "accelerated",
    "check_concurrency",
    "check_count",
    "check_timeout",
    "explained",
    "parse_servers",
    "read_options",
    "unusable_callback",
]
