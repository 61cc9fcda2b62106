"""The link: one connection kept up, over and over, until someone says stop. Reconnection lives here.

Theory of operation
-------------------
    IDLE ─start─▶ DIALLING ─transport_connected─▶ HANDSHAKE ─accepted─▶ UP
                   ▲   │ failed, too late             │ failed            │ lost
                   │   ▼                              ▼                   ▼
                   └── the pool names the next server and the time ◀──────┘       (no server left: STOPPED)
                       ▲ answered, too late    │ a round is over, and the
                       └──────── ASKING ◀──────┘ user has a reconnect_delay

DIALLING covers the wait before the dial: `OpenTransport` says when. Every attempt has one deadline, ``connect_timeout``
after it begins, for dial and handshake together, so a server that accepts and then says nothing costs no more than one
that does not answer. At the end of a connection the transport is abandoned with `CloseTransport`, never waited for.

ASKING is bounded by ``connect_timeout`` as well: the user has said with it how long one step towards a connection may
take, and there is no reason to wait longer for a function than for a server.

What the first INFO says about other servers is believed only once the handshake is done: before that anybody may have
written it.

Three more questions have answers of their own, each an enum below: what came of the first walk through the pool,
whether the server is about to leave, and for how long the session still wants the link.

    first walk   FIRST_WALK ─nobody reached, and by option─▶ IN_BACKGROUND ─handshake─▶ REACHED   (or at once)
    lame duck    NO ─INFO─▶ SAID ─up─▶ STAYING ◀─a refuge, or none any more─▶ LEAVING    (NO with each new connection)
    wanted       FOR_GOOD ─drain, close─▶ TO_THE_END ─all is written─▶ NO_LONGER

What happened is one list, in order: what the connection said that concerns others (messages, PONGs, errors), and what
it and the attempts mean (the link is up, is down, has given up, and what the user should know). The link itself is as
far as the end of the list that it gave last, and no further: who reads the list may answer its last event by a call to
the link, and what the connection said behind that is heard only if there still is a connection then.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from .._connection.connection import Connection
from .._connection.events import (
    ConnectionEnded,
    ConnectionEvent,
    EffectWanted,
    HandshakeCompleted,
    InfoReceived,
    PongReceived,
)
from .._connection.server_errors import Reaction, name_server
from .._connection.transport_error import transport_error
from .._interface.events import (
    AdoptSuccessor,
    AuthenticationFailed,
    CloseTransport,
    Command,
    ContentErrorReceived,
    LameDuckMode,
    OpenTransport,
    Perform,
    ReconnectDelayFailed,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
)
from .._interface.options import ConnectOptions
from .._layers.wire import Wire
from .._servers.pool import Attempt, ServerPool
from .._servers.proxy import Proxy
from .._servers.server import Server
from .._value import Value
from .._wire.frames import Message
from .._wire.info import ServerInfo
from .._wire.run import Run
from ..errors import (
    AuthenticationError,
    LocalProtocolError,
    NATSError,
    NATSTimeoutError,
    NoServersError,
    TransportError,
)
from .delay import Delay, DelayQuestion
from .timers import Timers, due

if TYPE_CHECKING:
    from .outbox import Outbox

__all__ = ["LAME_DUCK_GRACE", "Adopted", "HandshakeFailed", "Link", "LinkDown", "LinkEvent", "LinkGaveUp", "LinkUp"]

LAME_DUCK_GRACE: Final = 5.0
"""Seconds that leaving a lame duck waits for its moment; servers stay for longer."""

MAX_LISTED: Final = 10
MAX_FAILURE: Final = 300
"""Servers, and characters of what each said, in the text of "no server could be used": a line, not a book."""


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
    | Run
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
"""What the link gives: what its connection said and is for others, and what its connections and attempts mean."""


class Adopted(NamedTuple):
    """A connection made beside that of the link, to go on with. ``lame_duck``: its server has said that it leaves."""

    connection: Connection
    attempt: Attempt
    info: ServerInfo
    lame_duck: bool


class _State(Enum):
    """Where the link is on its way round."""

    IDLE = auto()
    ASKING = auto()
    DIALLING = auto()
    HANDSHAKE = auto()
    UP = auto()
    STOPPED = auto()


class _FirstWalk(Enum):
    """What came of the first walk through the pool: somebody waits for that one, and hears of no attempt of it."""

    FIRST_WALK = auto()
    """It is under way, or has not begun."""
    IN_BACKGROUND = auto()
    """No server was reached, and it goes on all the same, as after a lost connection."""
    REACHED = auto()
    """There was a connection."""


class _LameDuck(Enum):
    """Whether the server of this connection is about to leave, and what we do about it."""

    NO = auto()
    SAID = auto()
    """It has said so before the handshake was done: nobody was told yet."""
    STAYING = auto()
    """The pool and the user were told. We stay: there is nowhere to go, or we must not."""
    LEAVING = auto()
    """There is another server: we go there as soon as may be."""


class _Wanted(Enum):
    """For how long the session wants the link."""

    FOR_GOOD = auto()
    TO_THE_END = auto()
    """Of a drain or a close: from now on not even a lame duck is left for another server."""
    NO_LONGER = auto()
    """All is written. However the connection ends now, nothing is lost."""


class Link:
    """Pool, attempt, connection, and the way round them."""

    __slots__ = (
        "_attempt",
        "_delay",
        "_events",
        "_failure",
        "_first_walk",
        "_lame_duck",
        "_message_type",
        "_options",
        "_pool",
        "_state",
        "_succeeding",
        "_two_transports",
        "_unheard",
        "_wanted",
        "_wire",
        "commands",
        "connection",
        "info",
        "last_error",
        "server",
        "timers",
    )

    def __init__(
        self, pool: ServerPool, options: ConnectOptions, *, message_type: type[Message], two_transports: bool = False
    ) -> None:
        self._pool = pool
        self._options = options
        self._message_type = message_type
        self._state = _State.IDLE
        self._attempt: Attempt | None = None
        self.timers = Timers()
        """Of the whole session: those of its life cycle and its successor are set by them."""
        self._first_walk = _FirstWalk.FIRST_WALK
        self._lame_duck = _LameDuck.NO
        self._wanted = _Wanted.FOR_GOOD
        self._delay = None if options.reconnect_delay is None else DelayQuestion(options.reconnect_delay)
        self._failure: NATSError | None = None
        """While ASKING: why the last attempt failed, for the `Reconnecting` to come."""
        self._two_transports = two_transports
        self._succeeding: Server | None = None
        """Where the successor of this connection is made."""
        self.commands: list[Command] = []
        self._events: list[LinkEvent] = []
        self._unheard: deque[ConnectionEvent | Run] = deque()
        """What the connection said behind the last event that was given."""
        self._wire = Wire()
        """Of the last connection: reports of its transport may still come."""
        self.connection: Connection | None = None
        self.server: Server | None = None
        """Of the current, or else the last, connection."""
        self.info: ServerInfo | None = None
        self.last_error: NATSError | None = None

    @property
    def up(self) -> bool:
        """The handshake is done and the connection not lost."""
        return self._state is _State.UP

    @property
    def migrating(self) -> bool:
        """The server is a lame duck, there is another and no second transport: `migrate` waits for its moment."""
        return self.timers.migrate is not None

    # --- the way round -----------------------------------------------------------------------------------------------

    def start(self, *, now: float) -> None:
        """Walk the pool once, without waiting."""
        self._pool.begin(now=now, rounds=1)
        self._open_next(None, now)

    def retry(self, error: NATSError | None, *, now: float, immediate: bool = False) -> None:
        """The link is down: begin again, with the next server of the pool."""
        self._pool.begin(now=now, immediate=immediate)
        if self._succeeding is not None and self.server is not None and self.server in self._pool:
            self._pool.lame_duck(self.server)  # others had their turn meanwhile, and it would come before them
        if isinstance(error, AuthenticationError):
            self._report_authentication(error, now, self.server)
        self._open_next(error, now)

    def hurry(self, *, now: float) -> None:
        """Stop waiting for the next attempt, if that is what is being done."""
        if self._state is _State.ASKING and self._delay is not None:
            self._delay.withdraw()
            self._plan(self._failure, now, delay=0.0, at_once=True)
        elif self._state is _State.DIALLING and self._attempt is not None and self._attempt.at > now:
            self._open(Attempt(self._attempt.server, now, self._attempt.number, self._attempt.round), None, now)

    def stop(self) -> None:
        """No more attempts; whatever transport there is, or what is performed before there is one, gets abandoned."""
        if self._state in (_State.ASKING, _State.DIALLING, _State.HANDSHAKE, _State.UP):
            self.commands.append(CloseTransport())
        self._drop_connection()
        self._state = _State.STOPPED

    def leave(self, error: NATSError | None = None) -> None:
        """Give up the connection, by our own wish when there is no error."""
        self._lose(error)

    def say_goodbye(self) -> bool:
        """For good, when all else was written: whether a layer has a word for it that was not written yet."""
        if not self.up or self.connection is None:
            return False
        self._wanted = _Wanted.NO_LONGER
        wire = self.connection.wire
        return wire.close() or not wire.idle

    def _open_next(self, error: NATSError | None, now: float) -> None:
        rounds = None if self._delay is None else self._pool.finished_round
        if self._delay is None or rounds is None:
            self._plan(error, now)
            return
        self._state = _State.ASKING
        self._failure = error
        self.timers.answer = now + self._options.connect_timeout
        self.commands.append(self._delay.ask(rounds))

    def _delay_is(self, delay: Delay | None, now: float) -> None:
        if self._state is not _State.ASKING or delay is None:
            return  # it is the answer to an earlier question
        if delay.failed is not None:
            self._events.append(delay.failed)
        self._plan(self._failure, now, delay=delay.seconds)

    def _plan(self, error: NATSError | None, now: float, *, delay: float | None = None, at_once: bool = False) -> None:
        """Have the next server dialled: when the pool says, ``delay`` after a round, or at once."""
        self._failure = None
        self.timers.answer = None
        attempt = self._pool.next_attempt(now=now, delay=delay)
        first_walk = self._first_walk is _FirstWalk.FIRST_WALK
        if attempt is None and first_walk and self._options.retry_on_failed_connect and len(self._pool):
            self._first_walk = _FirstWalk.IN_BACKGROUND
            self._pool.begin(now=now)
            attempt = self._pool.next_attempt(now=now)
        if attempt is None:
            self._state = _State.STOPPED
            self._events.append(LinkGaveUp(self._no_servers(error)))
        else:
            if at_once:
                attempt = Attempt(attempt.server, now, attempt.number, attempt.round)
            self._open(attempt, error, now)

    def _open(self, attempt: Attempt, error: NATSError | None, now: float) -> None:
        self._state = _State.DIALLING
        self._attempt = attempt
        self.timers.dial = give_up_at = max(attempt.at, now) + self._options.connect_timeout
        address = self.address_of(attempt.server)
        self.commands.append(OpenTransport(attempt.server, address, attempt.at, give_up_at))
        if self._first_walk is not _FirstWalk.FIRST_WALK:
            delay = max(0.0, attempt.at - now)
            self._events.append(
                Reconnecting(server=attempt.server.url, attempt=attempt.number, delay=delay, error=error)
            )

    def address_of(self, server: Server) -> tuple[str, int]:
        """What to dial for it."""
        proxy = self._options.proxy
        return proxy.address if isinstance(proxy, Proxy) else server.address

    def _attempt_failed(self, error: NATSError, now: float) -> None:
        self.last_error = error
        self._attempt = None
        self.timers.dial = None
        self._record_failure(error, now)
        self._open_next(error, now)

    def _record_failure(self, error: NATSError, now: float) -> None:
        if isinstance(error, AuthenticationError):
            self._report_authentication(error, now, self._pool.current)
        else:
            self._pool.record_failure(error, now=now)

    def _report_authentication(self, error: AuthenticationError, now: float, server: Server | None) -> None:
        if server is not None and server in self._pool:
            dropped = self._pool.record_failure(error, now=now, server=server)
            self._events.append(AuthenticationFailed(server=server.url, error=error, dropped=dropped))

    def _no_servers(self, error: NATSError | None) -> NoServersError:
        attempts = self._pool.failures
        listed = "; ".join(str(failure)[:MAX_FAILURE] for _, failure in attempts[:MAX_LISTED])
        if len(attempts) > MAX_LISTED:
            listed += f"; and {len(attempts) - MAX_LISTED} more"
        listed = listed or "the pool is empty"
        exhausted = NoServersError(f"no server could be used: {listed}", attempts)
        exhausted.__cause__ = error if error is not None else (attempts[-1][1] if attempts else None)
        return exhausted

    # --- the transport -----------------------------------------------------------------------------------------------

    def transport_connected(self, *, now: float) -> None:
        """The dial succeeded: the handshake begins."""
        attempt = self._pending_attempt("transport_connected")
        assert self.timers.dial is not None  # DIALLING always has it
        self._state = _State.HANDSHAKE
        self._lame_duck = _LameDuck.NO
        self._succeeding = None
        self.server = attempt.server
        self.connection = Connection(
            attempt.server, self._options, deadline=self.timers.dial, message_type=self._message_type
        )
        self._wire = self.connection.wire
        self.timers.dial = None

    def transport_failed(self, error: Exception, *, now: float) -> None:
        """The dial failed."""
        attempt = self._pending_attempt("transport_failed")
        proxy = self._options.proxy
        through = f" (proxy {proxy})" if isinstance(proxy, Proxy) else ""
        what = f"cannot connect to server {attempt.server}{through}"
        failure = transport_error(TransportError, what, error)
        name_server(failure, attempt.server)
        self._attempt_failed(failure, now)

    def _pending_attempt(self, call: str) -> Attempt:
        if self._state is not _State.DIALLING or self._attempt is None:
            raise LocalProtocolError(f"{call}: no dial is under way")
        return self._attempt

    def performed(self, command: Perform, result: object, *, now: float) -> None:
        """An effect's result; ignored when the connection that wanted it is gone, or the time for it is up."""
        if self._delay is not None and command.before_dial:
            self._delay_is(self._delay.said(command, result), now)
        elif self.connection is not None:
            self.connection.performed(command.effect, result)

    def perform_failed(self, command: Perform, error: BaseException, *, now: float) -> None:
        """An effect could not be had; ignored when the connection that wanted it is gone, or the time for it is up."""
        if self._delay is not None and command.before_dial:
            self._delay_is(self._delay.raised(command, error), now)
        elif self.connection is not None:
            self.connection.perform_failed(command.effect, error)

    # --- the pump ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview, *, now: float) -> None:
        """Bytes from the transport; ignored without a connection, like all that follows here."""
        if self.connection is not None:
            self.connection.receive_data(data, now=now)

    def receive_eof(self, *, now: float) -> None:
        """The transport's other side was closed."""
        if self.connection is not None:
            self.connection.receive_eof(now=now)

    def transport_lost(self, error: Exception) -> None:
        """Reading or writing failed."""
        if self.connection is not None:
            self.connection.transport_lost(error)

    def events_received(self, *, now: float) -> list[LinkEvent]:
        """What happened, in order. Call it again until a list holds nothing but messages, or nothing at all.

        A list ends behind the first event that the life cycle may answer by a call to the link. What its events mean
        for the link itself has been done.
        """
        if not self._events:
            unheard, connection = self._unheard, self.connection
            if not unheard and connection is not None:
                only_messages = connection.only_messages
                said = connection.runs_received()
                if only_messages:
                    return said  # type: ignore[return-value]  # the flag says that there are no other events in it
                unheard.extend(said)
            while unheard:
                if self._hear(unheard.popleft(), now):
                    break
        events, self._events = self._events, []
        return events

    def data_to_send(self, outbox: Outbox, limit: int) -> list[bytes]:
        """What is to be written now: the connection's own, and behind it about ``limit`` bytes of the outbox."""
        connection = self.connection
        if connection is None:
            return []
        pieces, pings = outbox.take(limit, connection.own_data())
        if pings:
            connection.pings_taken(pings)
        return connection.wrap(pieces)

    def data_sent(self, nbytes: int) -> int:
        """The last transport accepted the next ``nbytes``, also after its end: how many of the protocol these are."""
        return nbytes if self._wire.plain else self._wire.sent(nbytes)

    @property
    def plain(self) -> bool:
        """The last connection has no layers: what comes in is not unwrapped first."""
        return self._wire.plain

    def whole_message(self, data: bytes) -> Message | None:
        """The message that ``data`` would be, if that is all it is; nothing has changed then."""
        return None if self.connection is None else self.connection.whole_message(data)

    def say(self, operations: bytes, token: int) -> bool:
        """Write these next, the last of them a PING that has this token. False without a connection."""
        if self.connection is None:
            return False
        self.connection.say(operations, token)
        return True

    # --- what the connection says ------------------------------------------------------------------------------------

    def _hear(self, event: ConnectionEvent | Run, now: float) -> bool:
        """What it means for the link and for others; True when others may answer it by a call to the link."""
        match event:
            case Message() | Run() | ServerErrorReceived() | ContentErrorReceived():
                self._events.append(event)
                return False
            case EffectWanted(effect=effect):
                self.commands.append(Perform(effect))
                return False
            case PongReceived():
                self._events.append(event)
            case InfoReceived():
                self._events.append(event)
                self._info_received(event, now)
            case HandshakeCompleted():
                self._handshake_completed(event, now)
            case ConnectionEnded():
                self._ended(event, now)
            case _:
                assert_never(event)
        return True

    def _info_received(self, event: InfoReceived, now: float) -> None:
        """A good INFO. The pool learns from it once the handshake is done."""
        self.info = event.info
        if event.info.ldm and self._lame_duck is _LameDuck.NO:
            self._lame_duck = _LameDuck.SAID  # in one INFO of many: the next one need not repeat it
        if self._state is _State.UP:
            self._learn(event.info, now)

    def _handshake_completed(self, event: HandshakeCompleted, now: float) -> None:
        """The server has accepted us."""
        attempts = self._attempt.number if self._attempt is not None else 1
        first = self._first_walk is not _FirstWalk.REACHED
        self._first_walk = _FirstWalk.REACHED
        self._attempt = None
        self._state = _State.UP
        self._pool.record_success(now=now, server_id=event.info.server_id)
        self._events.append(LinkUp(first, attempts))
        self._learn(event.info, now, quiet=first)

    def _ended(self, event: ConnectionEnded, now: float) -> None:
        if self._wanted is _Wanted.NO_LONGER:
            self._lose(None)  # the peer was faster than our goodbye
            return
        self.last_error = event.error
        final = event.reaction is Reaction.CLOSE
        if self._state is _State.UP:
            self._lose(event.error, final=final)
            return
        self._events.append(HandshakeFailed())
        if final:
            self.stop()
            self._events.append(LinkGaveUp(event.error))
        else:
            self.commands.append(CloseTransport())
            self._drop_connection()
            self._attempt_failed(event.error, now)

    def _lose(self, error: NATSError | None, *, final: bool = False) -> None:
        self.commands.append(CloseTransport())
        self._drop_connection()
        self._state = _State.IDLE
        self._events.append(LinkDown(error, final))

    def _drop_connection(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            self._unheard.clear()  # nobody cares any more what it said behind what it was given up for
        self._attempt = None
        self._failure = None
        self.timers.answer = self.timers.dial = self.timers.migrate = None

    def _learn(self, info: ServerInfo, now: float, *, quiet: bool = False) -> None:
        assert self.server is not None  # UP has a server
        new = self._pool.discover(info.connect_urls, current=self.server, keep=self._succeeding)
        if new and not quiet:
            self._events.append(ServersDiscovered(servers=tuple(server.url for server in new)))
        if self._lame_duck in (_LameDuck.SAID, _LameDuck.STAYING):
            self._answer_lame_duck(self.server, now)

    # --- lame duck ---------------------------------------------------------------------------------------------------

    def migrate(self, *, quiet: bool, now: float) -> bool:
        """Leave a lame duck at a quiet moment (nothing on its way or awaited), or when there was none for too long.

        True when it was left.
        """
        if not (self.migrating and (quiet or due(self.timers.migrate, now))):
            return False
        self.leave()
        return True

    def session_ends(self) -> None:
        """A drain or a close has begun: from now on not even a lame duck is left for another server."""
        self._wanted = _Wanted.TO_THE_END
        self.timers.migrate = None

    def _answer_lame_duck(self, server: Server, now: float) -> None:
        """Say once that the server is about to leave, and once that we leave it, which may be later."""
        new = self._lame_duck is _LameDuck.SAID
        migrating = self._may_migrate and self._has_refuge()
        self._lame_duck = _LameDuck.LEAVING if migrating else _LameDuck.STAYING
        if migrating and not self._two_transports:
            self.timers.migrate = now + LAME_DUCK_GRACE
        if migrating or new:
            self._events.append(LameDuckMode(server=server.url, migrating=migrating))
        if new:
            self._pool.lame_duck(server)

    @property
    def _may_migrate(self) -> bool:
        """Whether a lame duck may be left, if there is another server."""
        options = self._options
        return options.lame_duck_migration and options.allow_reconnect and self._wanted is _Wanted.FOR_GOOD

    def _has_refuge(self) -> bool:
        """Whether there may be another server. What an address leads to is known only to who was there."""
        assert self.server is not None  # UP has a server
        here = self.info.server_id if self.info is not None else ""
        for server in self._pool.servers:
            if self._two_transports and server.named:
                return True  # the next look at a name may find another server, and it costs nothing to try
            if server != self.server and not self._pool.is_lame_duck(server):
                known = self._pool.id_of(server)
                if not known or known != here:
                    return True
        return False

    def begin_succession(self, *, now: float) -> None:
        """Another connection is to be made beside this one."""
        self._pool.begin(now=now, counting=False)

    def next_successor(self, *, now: float) -> Attempt | None:
        """The server to try for it; None when there is none."""
        attempt = self._pool.next_attempt(now=now)
        self._lame_duck = _LameDuck.STAYING if attempt is None else _LameDuck.LEAVING
        self._succeeding = None if attempt is None else attempt.server
        return attempt

    def successor_failed(self, error: NATSError, *, now: float) -> None:
        """It could not be had there."""
        self.last_error = error
        self._record_failure(error, now)

    def hand_over(self) -> None:
        """This connection is done: its successor takes its place when the adapter has its transport."""
        self.commands.append(AdoptSuccessor())
        self._drop_connection()

    def adopt(self, adopted: Adopted, *, now: float) -> None:
        """Go on with this connection, whose handshake is done."""
        self._state = _State.UP
        self._lame_duck = _LameDuck.SAID if adopted.lame_duck else _LameDuck.NO
        self._succeeding = None
        self.connection = adopted.connection
        self._wire = adopted.connection.wire
        self.server = adopted.attempt.server
        self.info = adopted.info
        self._pool.record_success(now=now, server_id=adopted.info.server_id)
        self._learn(adopted.info, now)

    # --- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When the connection has something to do."""
        return None if self.connection is None else self.connection.next_timeout()

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due: what takes too long is given up, a dial or an answer; the connection does its own part."""
        if self.connection is not None:
            self.connection.handle_timeout(now=now)
        if self._delay is not None and due(self.timers.answer, now):
            self._delay_is(self._delay.unanswered(self._options.connect_timeout), now)
        if due(self.timers.dial, now):
            attempt = self._pending_attempt("handle_timeout")
            seconds = self._options.connect_timeout
            self.commands.append(CloseTransport())
            self._attempt_failed(
                NATSTimeoutError(f"dialling server {attempt.server} took longer than {seconds:g} s"), now
            )
