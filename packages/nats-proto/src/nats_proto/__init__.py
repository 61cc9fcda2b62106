"""NATS without I/O: the whole protocol as state machines, for whatever moves the bytes.

`Session` is a client without its sockets, threads and clock; `Connection`, `Parser` and `ServerPool` are its parts,
each usable alone. Nothing here reads a clock, a socket, a file or the global random generator. `accelerated` tells
whether the compiled module reads and writes messages; ``NATS_PROTO_PURE=1`` in the environment turns it off.
"""

from typing import TYPE_CHECKING

from . import errors as errors
from ._auth.credentials import Challenge, Credentials
from ._callables import explained, unusable_callback
from ._calls.publish_many import PublishMany
from ._calls.request_many import RequestMany
from ._effects import Call, Effect, ReadFile
from ._interface.events import (
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
    ReconnectDelayFailed,
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
from ._interface.options import ConnectOptionFields, ConnectOptions, read_options
from ._interface.stats import StatsSnapshot
from ._interface.status import SessionStatus
from ._limits import MAX_CONCURRENCY, MAX_SECONDS, check_concurrency, check_count, check_timeout
from ._secret import Secret
from ._servers.proxy import Proxy
from ._servers.server import Server, parse_servers
from ._session.subscription import SubscriptionState, SubscriptionStatus
from ._version import VERSION as __version__
from ._wire.frames import (
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
from ._wire.headers import Headers, HeadersLike, Status
from ._wire.info import ServerInfo

if TYPE_CHECKING:
    from ._connection.connection import Connection
    from ._connection.events import (
        ConnectionEnded,
        ConnectionEvent,
        ConnectionState,
        EffectWanted,
        HandshakeCompleted,
        InfoReceived,
        PongReceived,
    )
    from ._interface.event_log import EventLog, LogLine
    from ._servers.pool import Attempt, ServerPool
    from ._session.event_queue import EventQueue
    from ._session.outbox import CHUNK_SIZE
    from ._session.session import Session
    from ._session.successor import Successor
    from ._wire.encoder import Encoder
    from ._wire.parser import Parser, Role
    from ._wire.twin import accelerated
else:

    def __getattr__(name):
        """The machines are loaded when the first is used: a program that only prints its help does without them."""
        match name:
            case "Connection":
                from ._connection import connection as home
            case (
                "ConnectionEnded"
                | "ConnectionEvent"
                | "ConnectionState"
                | "EffectWanted"
                | "HandshakeCompleted"
                | "InfoReceived"
                | "PongReceived"
            ):
                from ._connection import events as home
            case "Encoder":
                from ._wire import encoder as home
            case "EventLog" | "LogLine":
                from ._interface import event_log as home
            case "EventQueue":
                from ._session import event_queue as home
            case "CHUNK_SIZE":
                from ._session import outbox as home
            case "Parser" | "Role":
                from ._wire import parser as home
            case "Attempt" | "ServerPool":
                from ._servers import pool as home
            case "Session":
                from ._session import session as home
            case "Successor":
                from ._session import successor as home
            case "accelerated":
                from ._wire import twin as home
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
    "ReconnectDelayFailed",
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
