"""NATS without I/O: the whole protocol as state machines, for whatever moves the bytes.

`Session` is a client without its sockets, threads and clock; `Connection`, `Parser` and `ServerPool` are its parts,
each usable alone. Nothing here reads a clock, a socket, a file or the global random generator. `accelerated` tells
whether the compiled module reads and writes messages; ``NATS_PROTO_PURE=1`` in the environment turns it off.
"""

from typing import TYPE_CHECKING

from . import errors as errors
from ._auth.credentials import Challenge, Credentials
from ._callables import check_callback, explained, unusable_callback
from ._calls.publish_many import PublishMany
from ._calls.respond import cannot_respond
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
from ._interface.timeouts import no_answer_in_time, no_message_in_time, no_room_in_time, not_drained_in_time
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
    Payload,
    PingFrame,
    PongFrame,
    PublishFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from ._wire.headers import Headers, HeadersLike, Status
from ._wire.info import ServerInfo

if TYPE_CHECKING:
    from ._calls.machine import (
        Ask,
        CatchesUp,
        CatchUp,
        Conductor,
        HearsOfDropped,
        HearsOfRefused,
        Machine,
        Subscribe,
        Want,
    )
    from ._calls.operation import ApiCall, Operation, OperationEffect, Pause, Publish, Request
    from ._calls.request_many import RequestMany
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
    from ._servers.addresses import ADDRESS_HEAD_START, families_in_turn, not_reached
    from ._servers.pool import Attempt, ServerPool
    from ._session.ended import ended_session
    from ._session.event_queue import EventQueue
    from ._session.marks import CaughtUp, ConnectionReplaced, Mark, PublishDropped, PublishRefused
    from ._session.outbox import CHUNK_SIZE
    from ._session.pieces import MAX_PIECES, cut_pieces, join_small_pieces
    from ._session.session import Session
    from ._session.successor import Successor
    from ._wire.encoder import Encoder
    from ._wire.parser import Parser, Role
    from ._wire.twin import accelerated
else:

    def __getattr__(name):
        """The machines are loaded when the first is used: a program that only prints its help does without them."""
        match name:
            case (
                "Ask"
                | "CatchUp"
                | "CatchesUp"
                | "Conductor"
                | "HearsOfDropped"
                | "HearsOfRefused"
                | "Machine"
                | "Subscribe"
                | "Want"
            ):
                from ._calls import machine as home
            case "ApiCall" | "Operation" | "OperationEffect" | "Pause" | "Publish" | "Request":
                from ._calls import operation as home
            case "RequestMany":
                from ._calls import request_many as home
            case "CaughtUp" | "ConnectionReplaced" | "Mark" | "PublishDropped" | "PublishRefused":
                from ._session import marks as home
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
            case "ended_session":
                from ._session import ended as home
            case "EventQueue":
                from ._session import event_queue as home
            case "CHUNK_SIZE":
                from ._session import outbox as home
            case "MAX_PIECES" | "cut_pieces" | "join_small_pieces":
                from ._session import pieces as home
            case "ADDRESS_HEAD_START" | "families_in_turn" | "not_reached":
                from ._servers import addresses as home
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
    "ADDRESS_HEAD_START",
    "CHUNK_SIZE",
    "MAX_CONCURRENCY",
    "MAX_PIECES",
    "MAX_SECONDS",
    "AdoptSuccessor",
    "ApiCall",
    "Ask",
    "Attempt",
    "AuthenticationFailed",
    "Call",
    "CatchUp",
    "CatchesUp",
    "CaughtUp",
    "Challenge",
    "CloseSuccessor",
    "CloseTransport",
    "Closed",
    "Command",
    "Conductor",
    "ConnectFrame",
    "ConnectOptionFields",
    "ConnectOptions",
    "Connected",
    "Connection",
    "ConnectionEnded",
    "ConnectionEvent",
    "ConnectionReplaced",
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
    "HearsOfDropped",
    "HearsOfRefused",
    "InfoFrame",
    "InfoReceived",
    "LameDuckMode",
    "LifecycleEvent",
    "LogLine",
    "Machine",
    "Mark",
    "Message",
    "MessagesAvailable",
    "OkFrame",
    "OpenSuccessor",
    "OpenTransport",
    "Operation",
    "OperationEffect",
    "Parser",
    "Pause",
    "Payload",
    "Perform",
    "PingFrame",
    "PongFrame",
    "PongReceived",
    "Proxy",
    "Publish",
    "PublishDropped",
    "PublishFrame",
    "PublishMany",
    "PublishRefused",
    "PublishesDropped",
    "ReadFile",
    "ReconnectDelayFailed",
    "Reconnected",
    "Reconnecting",
    "ReplyReceived",
    "Request",
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
    "Subscribe",
    "SubscribeFrame",
    "SubscriptionClosed",
    "SubscriptionState",
    "SubscriptionStatus",
    "Successor",
    "UnsubscribeFrame",
    "Want",
    "__version__",
    "accelerated",
    "cannot_respond",
    "check_callback",
    "check_concurrency",
    "check_count",
    "check_timeout",
    "cut_pieces",
    "ended_session",
    "explained",
    "families_in_turn",
    "join_small_pieces",
    "no_answer_in_time",
    "no_message_in_time",
    "no_room_in_time",
    "not_drained_in_time",
    "not_reached",
    "parse_servers",
    "read_options",
    "unusable_callback",
]
