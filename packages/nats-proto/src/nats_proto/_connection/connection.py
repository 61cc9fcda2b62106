"""One transport connection: handshake, keep-alive, framing. Made new for each one, so nothing leaks to the next.

Theory of operation
-------------------
    PREPARING ──layers──▶ AWAITING_INFO ──INFO──▶ GREETING ──CONNECT+PING leave──▶ AWAITING_PONG ──PONG──▶ OPEN
        └───────────────────────┴───────────────────┴── fault, -ERR, EOF, deadline ──┴──────────▶ CLOSED

PREPARING and GREETING are the two operations of `handshake`: what they wait for (a layer below, the answer to an
effect) is the machine's step. With neither a layer to set up nor anybody to ask, both take no time.

What each frame means in each state (in PREPARING there is none: bytes belong to the layers):

    frame      AWAITING_INFO        GREETING                AWAITING_PONG           OPEN
    INFO       begin the greeting   begin it anew           replaces the stored     replaces the stored
    INFO, bad  fault                fault                   fault                   reported, the last good one stands
    -ERR       the attempt's error  the attempt's error     the attempt's error     by the table of server errors
    PING       fault                PONG once open          PONG once open          PONG
    PONG       fault                fault                   open                    resolves the oldest PING, if any
    +OK        fault                ignored                 ignored (verbose)       ignored
    MSG, HMSG  fault                fault                   fault                   to the session

An INFO that comes before CONNECT has left begins the greeting anew: CONNECT answers the last INFO.

A server that has no room says so right behind its INFO, in clear, although TLS is what has to come there. So the first
that is received where TLS begins may be an -ERR, and nothing else.

A fault, in the protocol or in a layer, ends the connection after what came before it was handled. Whatever ends it, the
last event is `ConnectionEnded`, and after it nothing is read, written or timed.

Only a PONG is a sign of life: data flowing towards us proves nothing about the direction away from us.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, assert_never

from .._effects import Call, Effect, ReadFile
from .._interface.events import ContentErrorReceived, ServerErrorReceived
from .._interface.options import ConnectOptions
from .._layers.layers import Layers
from .._servers.server import Server
from .._wire.batch import Batch
from .._wire.encoder import PING, PONG
from .._wire.frames import (
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
    is_well_framed,
)
from .._wire.info import ServerInfo
from .._wire.parser import Parser, Role
from ..errors import (
    ConnectionLostError,
    CredentialsError,
    HeaderError,
    NATSError,
    NATSTimeoutError,
    PermissionsError,
    ProxyError,
    RemoteProtocolError,
    ServerError,
    StaleConnectionError,
    TLSError,
)
from .confidence import Confidence
from .events import (
    AT_ONCE,
    ConnectionEnded,
    ConnectionEvent,
    ConnectionState,
    EffectWanted,
    HandshakeCompleted,
    InfoReceived,
    PongReceived,
    RefusalReceived,
)
from .handshake import Step, Wait, greeting, limit_messages, lower_layers
from .keep_alive import KeepAlive
from .server_errors import Reaction, classify_server_error, ending, name_server, refused_names
from .transport_error import transport_error

__all__ = ["Connection"]

MAX_PONGS_AT_ONCE: Final = 64
"""PONGs written for one batch of PINGs. One is enough to show life; a flood of PINGs must not make us write a flood."""

LONG_LINE: Final = 32 * 1024
"""Bytes of a server's line that is accepted in any case: other clients may write longer lines than we do."""
LONGER_LINES: Final = 8
"""How many times as long as ours (``max_control_line``) a server's line may be: room for its own words and a text of
which every byte is escaped."""

# Asked for at every chunk: to look a member up in its enum costs as much as a call of a function.
_OPEN: Final = ConnectionState.OPEN
_CLOSED: Final = ConnectionState.CLOSED
_LAYER: Final = Wait.LAYER


class Connection:
    """The protocol on one transport, client side. ``deadline``: when the handshake must be done (absolute seconds).

    The pump's methods never raise for anything the peer did.
    """

    __slots__ = (
        "_confidence",
        "_deadline",
        "_events",
        "_info",
        "_keep_alive",
        "_may_refuse",
        "_message_type",
        "_operation",
        "_options",
        "_out",
        "_parser",
        "_server",
        "_state",
        "_step",
        "layers",
        "only_messages",
        "pongs_owed",
    )

    def __init__(
        self, server: Server, options: ConnectOptions, *, deadline: float, message_type: type[Message] = Message
    ) -> None:
        self._server = server
        self._options = options
        self._message_type = message_type
        self._parser = Parser(
            Role.CLIENT,
            max_control_line=max(LONG_LINE, LONGER_LINES * options.max_control_line),
            max_header_bytes=options.max_message_size,  # a server lets through headers as large as it lets payloads
            max_payload=options.max_message_size,
            message_type=message_type,
        )
        self.layers = Layers()
        """The layers between the protocol and the transport."""
        self._confidence = Confidence()
        self._info: ServerInfo | None = None
        self._events: list[ConnectionEvent | Batch] = []
        self.only_messages = True
        """What `batches_received` gives next is nothing but messages: there are many, and no need to look at each."""
        self._out: list[bytes] = []
        self._keep_alive = KeepAlive(options.ping_interval, options.max_pings_out)
        self.pongs_owed = 0
        """PINGs of the server that `own_data` has to answer."""
        self._deadline: float | None = deadline
        """Of the handshake; None once it is done."""
        self._state = ConnectionState.PREPARING
        self._step: Step | None = None
        """What the operation waits for."""
        self._may_refuse = False
        """TLS has to begin behind INFO, and nothing was received since."""
        self._operation: Generator[Step, object, bytes | None] | None = lower_layers(
            self.layers, server, options, self._confidence
        )
        self._advance(None)

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
        if self.layers.plain:
            self._read(data, now)
        elif self._state is not _CLOSED:
            self._read_layers(bytes(data), now)

    def receive_messages(self, data: bytes | bytearray | memoryview, *, now: float) -> Message | Batch | None:
        """`receive_data`; what is nothing but messages, with nothing before them to be taken, is given at once.

        It is no event then. Where messages come one at a time, to ask for it would cost as much as to read it.
        """
        if self._state is not _OPEN or self._events or not self.layers.plain:
            self.receive_data(data, now=now)
            return None
        frames = self._parser.receive_batches(data)
        if len(frames) == 1 and self._parser.error is None:
            frame = frames[0]
            # One with a header block may have to be reported.
            if isinstance(frame, Batch) or (isinstance(frame, self._message_type) and frame.header_block is None):
                return frame
        self._take(frames, now)
        return None

    def _read_layers(self, data: bytes, now: float) -> None:
        layers = self.layers
        may_refuse, self._may_refuse = self._may_refuse, False
        # No TLS record begins with "-", so these bytes cannot be the answer to our ClientHello. A line that is not
        # complete yet ends nothing here, and the TLS layer then refuses it as clear text.
        if may_refuse and data.startswith(b"-ERR"):
            self._read(data, now)
            if self._state is _CLOSED:
                return
        plain = layers.receive_data(data)
        if self._step is _LAYER and layers.ready:
            self._advance(None)
            # In TLS, WebSocket and a tunnel alike the client speaks first, so bytes that came before the new layer has
            # said anything are no answer to it; somebody in between may have put them in.
            if plain and self._step is _LAYER:
                self._end(RemoteProtocolError(f"server {self._server} sent something before its turn had come"))
        # Read before an error of the layers is looked at: these bytes stood in front of the fault, and are good.
        if plain:
            self._read(plain, now)
        if layers.error is not None:
            self._end(layers.error)
        elif layers.ended:
            self.receive_eof(now=now)

    def _read(self, data: bytes | bytearray | memoryview, now: float) -> None:
        if self._state is not _CLOSED:
            self._take(self._parser.receive_batches(data), now)

    def _take(self, frames: list[Frame | Batch], now: float) -> None:
        events = self._events
        message_type = self._message_type
        for frame in frames:
            if isinstance(frame, message_type) and self._state is _OPEN:
                events.append(frame)
                if frame.header_block is not None:
                    self._check_header_block(frame)
            elif isinstance(frame, Batch):
                self._take_batch(frame, now)
            else:
                self._handle(frame, now, more=self._goes_on(frame, frames))
        if self._parser.error is not None:
            self._end(self._parser.error)

    def _take_batch(self, batch: Batch, now: float) -> None:
        if self._state is _OPEN:
            self._events.append(batch)
        else:
            self._handle(batch.messages[0], now, more=True)  # none is taken, one says as much as all

    def _goes_on(self, frame: Frame, frames: list[Frame | Batch]) -> bool:
        """Behind this one the server has sent something more than its refusal."""
        if not self._parser.between_frames:
            return True
        # A server without room sends INFO and -ERR in one go. The attempt must end with what that -ERR says, and not
        # with a complaint that there were bytes where TLS begins.
        last = frames[-1]
        return frame is not last and not (isinstance(last, ErrFrame) and frame is frames[-2])

    def receive_eof(self, *, now: float) -> None:
        """The peer closed its side."""
        self.layers.receive_eof()
        if self.layers.error is not None:
            self._end(self.layers.error)
        closed = f"server {self._server} closed the connection"
        if self._state is _OPEN:
            self._end(ConnectionLostError(closed))
        # In TLS 1.3 the handshake is done for the client before the server has seen the certificate of the client. So a
        # server that refuses that certificate may be noticed only by the end of the stream, when the TLS layer has no
        # fault.
        elif self.layers.secure and self._info is not None and self._info.tls_verify:
            self._end(TLSError(f"{closed} after the TLS handshake; it wants a client certificate, or another one"))
        else:
            self._end(ConnectionLostError(f"{closed} during the handshake"))

    def transport_lost(self, error: Exception) -> None:
        """Reading or writing failed."""
        self._end(transport_error(ConnectionLostError, f"connection to server {self._server} was lost", error))

    def events_received(self) -> list[ConnectionEvent]:
        """What happened since the last call, in order."""
        events: list[ConnectionEvent] = []
        for event in self.batches_received():
            if isinstance(event, Batch):
                events += event.messages
            elif isinstance(event, RefusalReceived):
                events.append(event.plain)
            else:
                events.append(event)
        return events

    def batches_received(self) -> list[ConnectionEvent | Batch]:
        """As `events_received`, but messages with nothing between them may be one `Batch`.

        And a refusal is a `RefusalReceived`.
        """
        events = self._events
        self._events = []
        self.only_messages = True
        return events

    def _say(self, event: ConnectionEvent) -> None:
        """Anything but a message."""
        self._events.append(event)
        self.only_messages = False

    def data_to_send(self) -> list[bytes]:
        """The connection's own bytes for the transport: CONNECT, PING, PONG, and what the layers have to say."""
        return self.wrap(self.own_data())

    def data_sent(self, nbytes: int) -> int:
        """The transport accepted the next ``nbytes``: how many of the protocol that completes."""
        return nbytes if self.layers.plain else self.layers.sent(nbytes)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do (absolute seconds)."""
        if self._events:
            return AT_ONCE  # a layer failed over what it had to send, and nobody has asked since
        return self._keep_alive.next_at if self._deadline is None else self._deadline

    def handle_timeout(self, *, now: float) -> None:
        """Ends a handshake that takes too long; sends a keep-alive PING or ends a stale connection."""
        if self._deadline is not None and now >= self._deadline:
            seconds = self._options.connect_timeout
            self._end(NATSTimeoutError(f"server {self._server}: {self._awaited()} within {seconds:g} s"))
        elif self._keep_alive.next_at is not None and now >= self._keep_alive.next_at:
            if self._keep_alive.ping(now):
                self._out.append(PING)
            else:
                left = f"server {self._server} left {self._keep_alive.unanswered} PINGs unanswered"
                self._end(StaleConnectionError(f"{left} (ping_interval {self._options.ping_interval:g} s)"))

    def _awaited(self) -> str:
        """What a handshake that took too long waited for."""
        if self._step is _LAYER:
            return f"the handshake of {self.layers.top} was not done"
        if self._step is not None:
            return f"no answer of {self._step.what}"
        return f"it did not send {'INFO' if self._info is None else 'the answer to CONNECT'}"

    # --- answers to effects ------------------------------------------------------------------------------------------

    def performed(self, effect: Effect, result: object) -> None:
        """What an `EffectWanted` asked for. One that nobody waits for any more is ignored."""
        if self._step is not effect:
            return
        if isinstance(effect, Call) and hasattr(result, "__await__"):
            what = f"the {effect.what} is async, and this client cannot await: it must return the result itself"
            self._advance(None, failure=CredentialsError(what))
        else:
            self._advance(result)

    def perform_failed(self, effect: Effect, error: BaseException) -> None:
        """It could not be had. Nothing of a callback's error is kept but its class: its text may hold a secret."""
        if self._step is effect:
            self._advance(None, failure=_failure(effect, error))

    def _advance(self, value: object, failure: NATSError | None = None) -> None:
        """Let the operation go on to what it waits for next, or to its end."""
        operation = self._operation
        assert operation is not None  # there is a step only with an operation
        try:
            self._step = operation.send(value) if failure is None else operation.throw(failure)
        except StopIteration as done:
            self._step = self._operation = None
            self._operation_done(done.value)
        except NATSError as error:
            self._step = self._operation = None
            # Without its frames: their local variables may hold what a callback returned, such as credentials in clear.
            self._end(error.with_traceback(None))
        else:
            self._may_refuse = self._step is _LAYER and self._state is ConnectionState.GREETING
            if self._step is not _LAYER:
                self._say(EffectWanted(self._step))
            elif self.layers.error is not None:
                self._end(self.layers.error)  # it could not even begin

    def _operation_done(self, connect: bytes | None) -> None:
        if connect is None:
            self._state = ConnectionState.AWAITING_INFO
        else:
            self._state = ConnectionState.AWAITING_PONG
            # Unless it is verbose, a server does not answer CONNECT. The PONG of this PING shows that CONNECT was
            # accepted.
            self._out = [connect + PING]

    # --- for the session ---------------------------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """`own_data` would give nothing."""
        return not (self._out or self.pongs_owed)

    def own_data(self) -> list[bytes]:
        """The connection's own bytes, before the layers: CONNECT, PING, PONG."""
        # PONGs owed since the handshake wait until it is done: a server that asks for authentication takes anything in
        # front of CONNECT for an authorization violation.
        if self.pongs_owed and self._state is _OPEN:
            self._out.append(PONG * min(self.pongs_owed, MAX_PONGS_AT_ONCE))
            self.pongs_owed = 0
        out = self._out
        self._out = []
        return out

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        """Bytes of the protocol (`own_data` among them) as bytes for the transport."""
        if self.layers.plain:
            return pieces
        wrapped = self.layers.wrap(pieces)
        if self.layers.error is not None:
            self._end(self.layers.error)
        return wrapped

    def say(self, operations: bytes, token: int) -> None:
        """Write these next, the last of them a PING that has this token."""
        self._out.append(operations)
        self._keep_alive.pings_taken([token])

    def pings_taken(self, tokens: list[int]) -> None:
        """PINGs with these tokens leave now, behind everything this connection gave before."""
        self._keep_alive.pings_taken(tokens)

    @property
    def payload_size(self) -> int:
        """Bytes of the payload of which a part has come, and a part has not; 0 where there is none."""
        return self._parser.payload_size

    def whole_message(self, data: bytes) -> Message | None:
        """The message that ``data`` would be, if it is one and nothing else and gives no cause for a report.

        None on any connection with a layer: what has arrived there shows its meaning only as it is taken.
        """
        if self._state is not _OPEN or not self.layers.plain:
            return None
        return self._parser.whole_message(data)  # one with a header block that is not well framed it leaves as well

    def close(self) -> None:
        """Our side is done with it: nothing is read, written or timed any more, and no event comes."""
        self._state = _CLOSED
        self._out.clear()
        self._deadline = None
        self._keep_alive.stop()
        operation, self._operation = self._operation, None
        self._step = None
        if operation is not None:
            operation.close()

    # --- frames ------------------------------------------------------------------------------------------------------

    def _handle(self, frame: Frame, now: float, *, more: bool) -> None:
        match self._state:
            case ConnectionState.AWAITING_INFO:
                self._handle_awaiting_info(frame, more=more)
            case ConnectionState.GREETING:
                self._handle_greeting(frame, more=more)
            case ConnectionState.AWAITING_PONG if self._out and isinstance(frame, InfoFrame):
                self._handle_greeting(frame, more=more)  # CONNECT has not left yet: it answers the last INFO
            case ConnectionState.AWAITING_PONG:
                self._handle_awaiting_pong(frame, now)
            case ConnectionState.OPEN:
                self._handle_open(frame)
            case ConnectionState.PREPARING | ConnectionState.CLOSED:
                pass
            case _:
                assert_never(self._state)

    def _handle_awaiting_info(self, frame: Frame, *, more: bool) -> None:
        match frame:
            case InfoFrame(info=ServerInfo() as info):
                self._greet(info, more=more)
            case InfoFrame(error=error):
                self._end(RemoteProtocolError(f"server {self._server} sent an INFO that cannot be used: {error}"))
            case ErrFrame(message=text):
                self._end_by_server_error(text)
            case _:
                self._end(self._unexpected(frame, "INFO"))

    def _handle_greeting(self, frame: Frame, *, more: bool) -> None:
        match frame:
            case PingFrame():
                self.pongs_owed += 1
            case OkFrame():
                pass
            case _:
                self._handle_awaiting_info(frame, more=more)

    def _greet(self, info: ServerInfo, *, more: bool) -> None:
        self._take_info(info)
        self._state = ConnectionState.GREETING
        # A CONNECT made for the INFO before would have the signature of an old nonce. For the same reason the operation
        # that was under way is given up, and an answer to its effect is ignored.
        self._out.clear()
        if self._operation is not None:
            self._operation.close()
        self._operation = greeting(self.layers, self._server, self._options, self._confidence, info, more=more)
        self._advance(None)

    def _handle_awaiting_pong(self, frame: Frame, now: float) -> None:
        match frame:
            case PongFrame():
                self._open(now)
            case InfoFrame(info=ServerInfo() as info):
                self._take_info(info)
            case InfoFrame(error=error):
                self._end(RemoteProtocolError(f"server {self._server} sent an INFO that cannot be used: {error}"))
            case ErrFrame(message=text):
                self._end_by_server_error(text)
            case PingFrame():
                self.pongs_owed += 1
            case OkFrame():
                pass
            case _:
                self._end(self._unexpected(frame, "PONG"))

    def _open(self, now: float) -> None:
        assert self._info is not None  # AWAITING_PONG is entered by an INFO only
        self._state = _OPEN
        self._deadline = None
        self._keep_alive.start(now)
        self._say(HandshakeCompleted(self._info))

    def _handle_open(self, frame: Frame) -> None:
        match frame:
            case PingFrame():
                self.pongs_owed += 1
            case PongFrame():
                token = self._keep_alive.pong_received()
                if token is not None:
                    self._say(PongReceived(token))
            case OkFrame():
                pass
            case InfoFrame(info=ServerInfo() as info):
                if info != self._info:
                    self._take_info(info)
            case InfoFrame(error=error):
                self._content_error(RemoteProtocolError(f"server {self._server} sent an INFO that is ignored: {error}"))
            case ErrFrame(message=text):
                server_error, reaction = self._classified(text)
                if isinstance(server_error, PermissionsError):
                    subject, queue = refused_names(text)
                    self._say(RefusalReceived(error=server_error, subject=subject, queue=queue))
                else:
                    self._say(ServerErrorReceived(error=server_error))
                if reaction is not Reaction.KEEP:
                    self._end(ending(server_error), reaction)
            case Message() | ConnectFrame() | PublishFrame() | SubscribeFrame() | UnsubscribeFrame():
                self._end(self._unexpected(frame, "an operation of a server"))
            case _:
                assert_never(frame)

    def _take_info(self, info: ServerInfo) -> None:
        self._info = info
        if self._server.websocket:
            limit_messages(self.layers, info)
        self._say(InfoReceived(info))

    # --- ends --------------------------------------------------------------------------------------------------------

    def _check_header_block(self, message: Message) -> None:
        # The lines are looked at when the user reads them; a wrong frame around them is worth a report at once.
        if message.header_block is not None and not is_well_framed(message.header_block):
            reason = message.header_error
            # By sid: the subject may be an inbox, which is nobody else's business, and as long as the server likes.
            what = f"a message for sid {message.sid} came with a bad header block"
            self._content_error(HeaderError(f"{what}: {reason or 'not NATS/1.0'}"))

    def _classified(self, text: str) -> tuple[ServerError, Reaction]:
        return classify_server_error(text, str(self._server), self._confidence.masked)

    def _content_error(self, error: RemoteProtocolError) -> None:
        self._confidence.mask(error)
        self._say(ContentErrorReceived(error=error))

    def _end_by_server_error(self, text: str) -> None:
        error, reaction = self._classified(text)
        if reaction in (Reaction.AUTHENTICATE, Reaction.CLOSE) and self._awaits_tls:
            # Anybody may have written it: it must not count against the server, nor end the client.
            proves_nothing = RemoteProtocolError(f"{error} (in clear, where TLS was to begin)")
            self._end(proves_nothing)
            return
        # Before the handshake is done even a harmless error means that the server will not have us.
        self._end(ending(error), Reaction.RECONNECT if reaction is Reaction.KEEP else reaction)

    @property
    def _awaits_tls(self) -> bool:
        """What is received is still in clear, and must not stay so."""
        # The mark `secure` is set when the TLS layer is pushed; until its handshake is done, the mark proves nothing.
        # Under WebSocket, TLS depends on the scheme of the URL alone and is complete before INFO.
        required = self._info is not None and self._info.tls_required
        in_clear = not self.layers.secure or self._step is _LAYER
        return in_clear and not self._server.websocket and (self._server.secure or required)

    def _unexpected(self, frame: Frame, wanted: str) -> RemoteProtocolError:
        name = _FRAME_NAMES.get(type(frame), "MSG")
        return RemoteProtocolError(f"server {self._server} sent {name} where {wanted} was expected")

    def _end(self, error: NATSError, reaction: Reaction = Reaction.RECONNECT) -> None:
        # Only the first reason counts: an end of the stream or a failed write behind a fault is its consequence.
        if self._state is not _CLOSED:
            self.close()
            if isinstance(error, (RemoteProtocolError, ProxyError)):  # they quote the peer
                self._confidence.mask(error)
            name_server(error, self._server)
            self._say(ConnectionEnded(error, reaction))


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


def _failure(effect: Effect, error: BaseException) -> NATSError:
    match effect:
        case ReadFile(what=what):
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return CredentialsError(f"{what} cannot be read: {reason or type(error).__name__}")
        case Call(what=what):
            return CredentialsError(f"the {what} raised {type(error).__name__} (no more is told: it may hold a secret)")
        case _:
            assert_never(effect)
