"""One transport connection: handshake, keep-alive, framing. Made new for each one, so nothing leaks to the next.

Theory of operation
-------------------
    AWAITING_INFO ──INFO: CONNECT+PING leave──▶ AWAITING_PONG ──PONG──▶ OPEN
          └───────────────────────┴── fault, -ERR, EOF, deadline ──┴────────▶ CLOSED

What each frame means in each state:

    frame      AWAITING_INFO        AWAITING_PONG           OPEN
    INFO       answer with CONNECT  replaces the stored     replaces the stored
    INFO, bad  fault                fault                   reported, the last good one stands
    -ERR       the attempt's error  the attempt's error     by the table of server errors
    PING       fault                PONG once open          PONG
    PONG       fault                open                    resolves the oldest PING; without one: ignored
    +OK        fault                ignored (verbose)       ignored
    MSG, HMSG  fault                fault                   to the session

A framing fault ends the connection after the frames before it were handled. Whatever ends it, the last event is
`ConnectionEnded`, and after it nothing is read, written or timed.

Only a PONG is a sign of life: data flowing towards us proves nothing about the direction away from us.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, assert_never

from ._encoder import PING, PONG, Encoder
from ._events import ContentErrorReceived, ServerErrorReceived
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
from ._info import ServerInfo
from ._options import ConnectOptions
from ._parser import Parser, Role
from ._server import Server
from ._server_errors import Reaction, classify_server_error, ending
from ._version import VERSION
from .errors import (
    ConfigurationError,
    ConnectionLostError,
    HeaderError,
    MaxControlLineError,
    NATSError,
    NATSTimeoutError,
    NoEchoNotSupportedError,
    RemoteProtocolError,
    SecureConnectionRequiredError,
    StaleConnectionError,
)

__all__ = [
    "Connection",
    "ConnectionEnded",
    "ConnectionEvent",
    "ConnectionState",
    "HandshakeCompleted",
    "InfoReceived",
    "PongReceived",
]

MAX_PONGS_AT_ONCE: Final = 64
"""PONGs written for one batch of PINGs. One is enough to show life; a flood of PINGs must not make us write a flood."""


class ConnectionState(Enum):
    """Where a connection is in its life."""

    AWAITING_INFO = auto()
    AWAITING_PONG = auto()
    OPEN = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """A good INFO; it replaces the one before."""

    info: ServerInfo


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """The server accepted CONNECT and answered the first PING."""

    info: ServerInfo


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The PONG of the PING that was given this token."""

    token: int


@dataclass(frozen=True, slots=True)
class ConnectionEnded:
    """The last event. ``error`` says why; ``reaction`` what a server's ``-ERR`` asks for."""

    error: NATSError
    reaction: Reaction = Reaction.RECONNECT


ConnectionEvent = (
    Message
    | InfoReceived
    | HandshakeCompleted
    | PongReceived
    | ServerErrorReceived
    | ContentErrorReceived
    | ConnectionEnded
)


class Connection:
    """The protocol on one transport, client side. ``deadline``: when the handshake must be done (absolute seconds).

    The pump's methods never raise for anything the peer did.
    """

    __slots__ = (
        "_deadline",
        "_events",
        "_info",
        "_message_type",
        "_next_ping",
        "_options",
        "_out",
        "_parser",
        "_pings",
        "_pings_out",
        "_pongs_owed",
        "_server",
        "_state",
    )

    def __init__(
        self, server: Server, options: ConnectOptions, *, deadline: float, message_type: type[Message] = Message
    ) -> None:
        self._server = server
        self._options = options
        self._message_type = message_type
        self._parser = Parser(
            Role.CLIENT,
            max_control_line=options.max_control_line,
            max_payload=options.max_message_size,
            message_type=message_type,
        )
        self._state = ConnectionState.AWAITING_INFO
        self._info: ServerInfo | None = None
        self._events: list[ConnectionEvent] = []
        self._out: list[bytes] = []
        self._pings: deque[int | None] = deque()
        """Tokens of the PINGs on the wire, oldest first; None: our own keep-alive."""
        self._pings_out = 0
        self._pongs_owed = 0
        self._deadline: float | None = deadline
        self._next_ping: float | None = None

    @property
    def state(self) -> ConnectionState:
        """Where the connection is in its life."""
        return self._state

    @property
    def info(self) -> ServerInfo | None:
        """The last good INFO."""
        return self._info

    # --- the pump ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview, *, now: float) -> None:
        """Bytes from the peer."""
        if self._state is ConnectionState.CLOSED:
            return
        frames = self._parser.receive_data(data)
        events = self._events
        message_type = self._message_type
        for frame in frames:
            if isinstance(frame, message_type) and self._state is ConnectionState.OPEN:
                events.append(frame)
                if frame.header_block is not None:
                    self._check_header_block(frame)
            else:
                self._handle(frame, now)
        if self._parser.error is not None:
            self._end(self._parser.error)

    def receive_eof(self, *, now: float) -> None:
        """The peer closed its side."""
        during = " during the handshake" if self._state is not ConnectionState.OPEN else ""
        self._end(ConnectionLostError(f"server {self._server} closed the connection{during}"))

    def events_received(self) -> list[ConnectionEvent]:
        """What happened since the last call, in order."""
        events = self._events
        self._events = []
        return events

    def data_to_send(self) -> list[bytes]:
        """The connection's own bytes: CONNECT, PING, PONG."""
        if self._pongs_owed and self._state is ConnectionState.OPEN:
            self._out.append(PONG * min(self._pongs_owed, MAX_PONGS_AT_ONCE))
            self._pongs_owed = 0
        out = self._out
        self._out = []
        return out

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do (absolute seconds)."""
        return self._next_ping if self._deadline is None else self._deadline

    def handle_timeout(self, *, now: float) -> None:
        """Ends a handshake that takes too long; sends a keep-alive PING or ends a stale connection."""
        if self._deadline is not None and now >= self._deadline:
            waited = "INFO" if self._state is ConnectionState.AWAITING_INFO else "the answer to CONNECT"
            seconds = self._options.connect_timeout
            self._end(NATSTimeoutError(f"server {self._server} did not send {waited} within {seconds:g} s"))
        elif self._next_ping is not None and now >= self._next_ping:
            self._next_ping = now + self._options.ping_interval
            if self._pings_out >= self._options.max_pings_out:
                self._end(
                    StaleConnectionError(
                        f"server {self._server} left {self._pings_out} PINGs unanswered "
                        f"(ping_interval {self._options.ping_interval:g} s)"
                    )
                )
            else:
                self._pings_out += 1
                self._pings.append(None)
                self._out.append(PING)

    # --- for the session ---------------------------------------------------------------------------------------------

    def pings_taken(self, tokens: list[int]) -> None:
        """PINGs with these tokens leave now, behind everything this connection gave before."""
        self._pings.extend(tokens)

    def close(self) -> None:
        """Our side is done with it: nothing is read, written or timed any more, and no event comes."""
        self._state = ConnectionState.CLOSED
        self._out.clear()
        self._deadline = self._next_ping = None

    # --- frames ------------------------------------------------------------------------------------------------------

    def _handle(self, frame: Frame, now: float) -> None:
        match self._state:
            case ConnectionState.AWAITING_INFO:
                self._handle_awaiting_info(frame)
            case ConnectionState.AWAITING_PONG:
                self._handle_awaiting_pong(frame, now)
            case ConnectionState.OPEN:
                self._handle_open(frame)
            case ConnectionState.CLOSED:
                pass
            case _:
                assert_never(self._state)

    def _handle_awaiting_info(self, frame: Frame) -> None:
        match frame:
            case InfoFrame(info=ServerInfo() as info):
                self._start_handshake(info)
            case InfoFrame(error=error):
                self._end(RemoteProtocolError(f"server {self._server} sent an INFO that cannot be used: {error}"))
            case ErrFrame(message=text):
                self._end_by_server_error(text)
            case _:
                self._end(self._unexpected(frame, "INFO"))

    def _start_handshake(self, info: ServerInfo) -> None:
        self._take_info(info)
        if info.tls_required or self._server.secure:
            side = "the server requires" if info.tls_required else "the URL asks for"
            self._end(SecureConnectionRequiredError(f"server {self._server}: {side} TLS, which is not available here"))
            return
        if not self._options.echo and info.proto < 1:
            self._end(NoEchoNotSupportedError(f"server {self._server} cannot turn echo off (INFO proto {info.proto})"))
            return
        try:
            connect = Encoder(max_control_line=MAX_CONNECT_LINE).connect(
                connect_fields(self._options, self._server, info)
            )
        except (MaxControlLineError, ConfigurationError) as error:
            self._end(error)
            return
        self._state = ConnectionState.AWAITING_PONG
        self._out = [connect + PING]

    def _handle_awaiting_pong(self, frame: Frame, now: float) -> None:
        match frame:
            case PongFrame():
                self._open(now)
            case InfoFrame(info=ServerInfo() as info) if self._out:
                self._start_handshake(info)  # CONNECT has not left yet: it answers the last INFO
            case InfoFrame(info=ServerInfo() as info):
                self._take_info(info)
            case InfoFrame(error=error):
                self._end(RemoteProtocolError(f"server {self._server} sent an INFO that cannot be used: {error}"))
            case ErrFrame(message=text):
                self._end_by_server_error(text)
            case PingFrame():
                self._pongs_owed += 1
            case OkFrame():
                pass
            case _:
                self._end(self._unexpected(frame, "PONG"))

    def _open(self, now: float) -> None:
        assert self._info is not None  # AWAITING_PONG is entered by an INFO only
        self._state = ConnectionState.OPEN
        self._deadline = None
        if self._options.ping_interval > 0:
            self._next_ping = now + self._options.ping_interval
        self._events.append(HandshakeCompleted(self._info))

    def _handle_open(self, frame: Frame) -> None:
        match frame:
            case PingFrame():
                self._pongs_owed += 1
            case PongFrame():
                self._handle_pong()
            case OkFrame():
                pass
            case InfoFrame(info=ServerInfo() as info):
                if info != self._info:
                    self._take_info(info)
            case InfoFrame(error=error):
                self._content_error(RemoteProtocolError(f"server {self._server} sent an INFO that is ignored: {error}"))
            case ErrFrame(message=text):
                server_error, reaction = classify_server_error(text, str(self._server))
                self._events.append(ServerErrorReceived(error=server_error))
                if reaction is not Reaction.KEEP:
                    self._end(ending(server_error), reaction)
            case Message() | ConnectFrame() | PublishFrame() | SubscribeFrame() | UnsubscribeFrame():
                self._end(self._unexpected(frame, "an operation of a server"))
            case _:
                assert_never(frame)

    def _handle_pong(self) -> None:
        if not self._pings:
            return
        token = self._pings.popleft()
        self._pings_out = 0
        if token is not None:
            self._events.append(PongReceived(token))

    def _take_info(self, info: ServerInfo) -> None:
        self._info = info
        self._events.append(InfoReceived(info))

    # --- ends --------------------------------------------------------------------------------------------------------

    def _check_header_block(self, message: Message) -> None:
        # The lines are looked at when the user reads them; a wrong frame around them is worth a report at once.
        block = message.header_block
        if block is not None and not (block.startswith(_HEADER_VERSIONS) and block.endswith(b"\r\n\r\n")):
            reason = message.header_error
            # By sid: the subject may be an inbox, which is nobody else's business, and as long as the server likes.
            what = f"a message for sid {message.sid} came with a bad header block"
            self._content_error(HeaderError(f"{what}: {reason or 'not NATS/1.0'}"))

    def _content_error(self, error: RemoteProtocolError) -> None:
        self._events.append(ContentErrorReceived(error=error))

    def _end_by_server_error(self, text: str) -> None:
        error, reaction = classify_server_error(text, str(self._server))
        # Before the handshake is done even a harmless error means that the server will not have us.
        self._end(ending(error), Reaction.RECONNECT if reaction is Reaction.KEEP else reaction)

    def _unexpected(self, frame: Frame, wanted: str) -> RemoteProtocolError:
        name = _FRAME_NAMES.get(type(frame), "MSG")
        return RemoteProtocolError(f"server {self._server} sent {name} where {wanted} was expected")

    def _end(self, error: NATSError, reaction: Reaction = Reaction.RECONNECT) -> None:
        if self._state is not ConnectionState.CLOSED:
            self.close()
            self._events.append(ConnectionEnded(error, reaction))


_HEADER_VERSIONS: Final = (b"NATS/1.0\r", b"NATS/1.0 ", b"NATS/1.0\t")

_FRAME_NAMES: Final[dict[type, str]] = {
    InfoFrame: "INFO",
    PingFrame: "PING",
    PongFrame: "PONG",
    OkFrame: "+OK",
    ErrFrame: "-ERR",
    ConnectFrame: "CONNECT",
    PublishFrame: "PUB",
    SubscribeFrame: "SUB",
    UnsubscribeFrame: "UNSUB",
}

MAX_CONNECT_LINE: Final = 64 * 1024
"""Longest CONNECT we make. Servers read 4096 bytes unless told otherwise, but only they know what they were told."""


def connect_fields(options: ConnectOptions, server: Server, info: ServerInfo) -> dict[str, object]:
    """The fields of CONNECT. A server takes a missing ``verbose`` or ``pedantic`` for true, so both are always sent."""
    fields: dict[str, object] = {
        "verbose": options.verbose,
        "pedantic": options.pedantic,
        "tls_required": server.secure,
        "name": options.name or "",
        "lang": "python3",
        "version": VERSION,
        "protocol": 1,
        "echo": options.echo,
        "headers": info.headers,
        "no_responders": info.headers,
    }
    if server.user is not None or server.token is not None:
        user, password, token = server.user, server.password, server.token
    else:
        user, password, token = options.user, options.password, options.token
    if user is not None:
        fields["user"] = user
        fields["pass"] = password or ""
    if token is not None:
        fields["auth_token"] = token
    return fields
