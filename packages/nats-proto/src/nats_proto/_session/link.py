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

Its events say that it is up, is down, has given up, and what the user should know.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from .._connection.connection import Connection
from .._connection.events import ConnectionEnded, EffectWanted, HandshakeCompleted, InfoReceived
from .._connection.server_errors import Reaction, name_server
from .._interface.events import (
    AdoptSuccessor,
    AuthenticationFailed,
    CloseTransport,
    Command,
    LameDuckMode,
    OpenTransport,
    Perform,
    ReconnectDelayFailed,
    Reconnecting,
    ServersDiscovered,
)
from .._interface.options import ConnectOptions
from .._servers.pool import Attempt, ServerPool
from .._servers.proxy import Proxy
from .._servers.server import Server
from .._value import Value
from .._wire.frames import Message
from .._wire.info import ServerInfo
from ..errors import (
    AuthenticationError,
    ConnectionLostError,
    LocalProtocolError,
    NATSError,
    NATSTimeoutError,
    NoServersError,
    TransportError,
)
from .delay import Delay, DelayQuestion

__all__ = ["LAME_DUCK_GRACE", "Link", "LinkDown", "LinkEvent", "LinkGaveUp", "LinkUp", "chained"]

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


LinkEvent = (
    LinkUp
    | LinkDown
    | LinkGaveUp
    | Reconnecting
    | ReconnectDelayFailed
    | AuthenticationFailed
    | ServersDiscovered
    | LameDuckMode
)


class _State(Enum):
    IDLE = auto()
    ASKING = auto()
    DIALLING = auto()
    HANDSHAKE = auto()
    UP = auto()
    STOPPED = auto()


class Link:
    """Pool, attempt, connection, and the way round them."""

    __slots__ = (
        "_attempt",
        "_deadline",
        "_delay",
        "_failure",
        "_first_walk",
        "_lame_duck",
        "_leaving",
        "_may_migrate",
        "_message_type",
        "_migrate_by",
        "_migrating",
        "_options",
        "_parting",
        "_pool",
        "_state",
        "_succeeding",
        "_two_transports",
        "_was_up",
        "commands",
        "connection",
        "events",
        "info",
        "last_error",
        "server",
    )

    def __init__(
        self, pool: ServerPool, options: ConnectOptions, *, message_type: type[Message], two_transports: bool = False
    ) -> None:
        self._pool = pool
        self._options = options
        self._message_type = message_type
        self._state = _State.IDLE
        self._attempt: Attempt | None = None
        self._deadline: float | None = None
        self._delay = None if options.reconnect_delay is None else DelayQuestion(options.reconnect_delay)
        self._failure: NATSError | None = None
        """While ASKING: why the last attempt failed, for the `Reconnecting` to come."""
        self._first_walk = True
        self._was_up = False
        self._leaving = False
        """The server has said that it is a lame duck."""
        self._lame_duck = False
        """That was told to the pool and the user."""
        self._may_migrate = options.lame_duck_migration and options.allow_reconnect
        self._migrating = False
        """It is to be left, now or as soon as may be."""
        self._migrate_by: float | None = None
        """Without a second transport: when at the latest."""
        self._two_transports = two_transports
        self._succeeding: Server | None = None
        """Where the successor of this connection is made."""
        self._parting = False
        """What the connection was for is done: however it ends now, nothing is lost."""
        self.commands: list[Command] = []
        self.events: list[LinkEvent] = []
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
    def migrating_since(self) -> float | None:
        """The server is a lame duck, there is another and no second transport: `migrate` waits for its moment."""
        return None if self._migrate_by is None else self._migrate_by - LAME_DUCK_GRACE

    # --- the way round -----------------------------------------------------------------------------------------------

    def start(self, *, now: float) -> None:
        """Walk the pool once, without waiting."""
        self._pool.begin(now=now, rounds=1)
        self._open_next(None, now)

    def retry(self, error: NATSError | None, *, now: float, immediate: bool = False) -> None:
        """The link is down: begin again, with the next server of the pool."""
        self._first_walk = False
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
        self._parting = True
        wire = self.connection.wire
        return wire.close() or not wire.idle

    def _open_next(self, error: NATSError | None, now: float) -> None:
        rounds = None if self._delay is None else self._pool.finished_round
        if self._delay is None or rounds is None:
            self._plan(error, now)
            return
        self._state = _State.ASKING
        self._failure = error
        self._deadline = now + self._options.connect_timeout
        self.commands.append(self._delay.ask(rounds))

    def _delay_is(self, delay: Delay | None, now: float) -> None:
        if self._state is not _State.ASKING or delay is None:
            return  # it is the answer to an earlier question
        if delay.failed is not None:
            self.events.append(delay.failed)
        self._plan(self._failure, now, delay=delay.seconds)

    def _plan(self, error: NATSError | None, now: float, *, delay: float | None = None, at_once: bool = False) -> None:
        """Have the next server dialled: when the pool says, ``delay`` after a round, or at once."""
        self._failure = None
        attempt = self._pool.next_attempt(now=now, delay=delay)
        if attempt is None and self._first_walk and self._options.retry_on_failed_connect and len(self._pool):
            self._first_walk = False
            self._pool.begin(now=now)
            attempt = self._pool.next_attempt(now=now)
        if attempt is None:
            self._state = _State.STOPPED
            self.events.append(LinkGaveUp(self._no_servers(error)))
        else:
            if at_once:
                attempt = Attempt(attempt.server, now, attempt.number, attempt.round)
            self._open(attempt, error, now)

    def _open(self, attempt: Attempt, error: NATSError | None, now: float) -> None:
        self._state = _State.DIALLING
        self._attempt = attempt
        self._deadline = max(attempt.at, now) + self._options.connect_timeout
        address = self.address_of(attempt.server)
        self.commands.append(OpenTransport(attempt.server, address, attempt.at, self._deadline))
        if not self._first_walk:
            delay = max(0.0, attempt.at - now)
            self.events.append(
                Reconnecting(server=attempt.server.url, attempt=attempt.number, delay=delay, error=error)
            )

    def address_of(self, server: Server) -> tuple[str, int]:
        """What to dial for it."""
        proxy = self._options.proxy
        return proxy.address if isinstance(proxy, Proxy) else server.address

    def _attempt_failed(self, error: NATSError, now: float) -> None:
        self.last_error = error
        self._attempt = None
        self._deadline = None
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
            self.events.append(AuthenticationFailed(server=server.url, error=error, dropped=dropped))

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
        assert self._deadline is not None  # DIALLING always has one
        self._state = _State.HANDSHAKE
        self._leaving = self._lame_duck = self._migrating = False
        self._succeeding = None
        self.server = attempt.server
        self.connection = Connection(
            attempt.server, self._options, deadline=self._deadline, message_type=self._message_type
        )
        self._deadline = None

    def transport_failed(self, error: Exception, *, now: float) -> None:
        """The dial failed."""
        attempt = self._pending_attempt("transport_failed")
        proxy = self._options.proxy
        through = f" (proxy {proxy})" if isinstance(proxy, Proxy) else ""
        what = f"cannot connect to server {attempt.server}{through}"
        failure = chained(TransportError, what, error)
        name_server(failure, attempt.server)
        self._attempt_failed(failure, now)

    def transport_lost(self, error: Exception, *, now: float) -> None:
        """Reading or writing failed; nothing to do when the connection was given up before."""
        if self.connection is not None and self.server is not None:
            lost = chained(ConnectionLostError, f"connection to server {self.server} was lost", error)
            name_server(lost, self.server)
            self.ended(ConnectionEnded(lost), now)

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

    # --- what the connection says ------------------------------------------------------------------------------------

    def effect_wanted(self, event: EffectWanted) -> None:
        """The handshake needs something from outside."""
        self.commands.append(Perform(event.effect))

    def info_received(self, event: InfoReceived, *, now: float) -> None:
        """A good INFO. The pool learns from it once the handshake is done."""
        self.info = event.info
        self._leaving = self._leaving or event.info.ldm  # said once, in one INFO of many
        if self._state is _State.UP:
            self._learn(event.info, now)

    def handshake_completed(self, event: HandshakeCompleted, *, now: float) -> None:
        """The server has accepted us."""
        attempts = self._attempt.number if self._attempt is not None else 1
        first = not self._was_up
        self._was_up = True
        self._first_walk = False
        self._attempt = None
        self._state = _State.UP
        self._pool.record_success(now=now, server_id=event.info.server_id)
        self.events.append(LinkUp(first, attempts))
        self._learn(event.info, now, quiet=first)

    def ended(self, event: ConnectionEnded, now: float) -> None:
        """The connection has ended."""
        if self._parting:
            self._lose(None)  # the peer was faster than our goodbye
            return
        self.last_error = event.error
        final = event.reaction is Reaction.CLOSE
        if self._state is _State.UP:
            self._lose(event.error, final=final)
        elif final:
            self.stop()
            self.events.append(LinkGaveUp(event.error))
        else:
            self.commands.append(CloseTransport())
            self._drop_connection()
            self._attempt_failed(event.error, now)

    def _lose(self, error: NATSError | None, *, final: bool = False) -> None:
        self.commands.append(CloseTransport())
        self._drop_connection()
        self._state = _State.IDLE
        self.events.append(LinkDown(error, final))

    def _drop_connection(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._attempt = None
        self._deadline = None
        self._failure = None
        self._migrate_by = None

    def _learn(self, info: ServerInfo, now: float, *, quiet: bool = False) -> None:
        assert self.server is not None  # UP has a server
        new = self._pool.discover(info.connect_urls, current=self.server, keep=self._succeeding)
        if new and not quiet:
            self.events.append(ServersDiscovered(servers=tuple(server.url for server in new)))
        if self._leaving and not self._migrating:
            migrating = self._migrating = self._may_migrate and self._has_refuge()
            if migrating and not self._two_transports:
                self._migrate_by = now + LAME_DUCK_GRACE
            if migrating or not self._lame_duck:
                self.events.append(LameDuckMode(server=self.server.url, migrating=migrating))
            if not self._lame_duck:
                self._lame_duck = True
                self._pool.lame_duck(self.server)

    # --- lame duck ---------------------------------------------------------------------------------------------------

    def migrate(self, *, quiet: bool, now: float) -> None:
        """Leave a lame duck at a quiet moment (nothing on its way or awaited), or when there was none for too long."""
        if self._migrate_by is not None and (quiet or now >= self._migrate_by):
            self.leave()

    def settle(self) -> None:
        """The session is ending: from now on not even a lame duck is left for another server."""
        self._may_migrate = False
        self._migrate_by = None

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
        self._migrating = attempt is not None
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

    def adopt(self, connection: Connection, attempt: Attempt, info: ServerInfo, *, now: float) -> None:
        """Go on with this connection, whose handshake is done."""
        self._state = _State.UP
        self._leaving = self._lame_duck = self._migrating = False
        self._succeeding = None
        self.connection = connection
        self.server = attempt.server
        self.info = info
        self._pool.record_success(now=now, server_id=info.server_id)
        self._learn(info, now)

    # --- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do."""
        of_connection = self.connection.next_timeout() if self.connection is not None else None
        if self._deadline is None and self._migrate_by is None:
            return of_connection
        deadlines = (self._deadline, self._migrate_by, of_connection)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """A dial that takes too long is abandoned. (The connection's own time is told to it by the session.)"""
        if self._state is _State.ASKING and self._delay is not None:
            if self._deadline is not None and now >= self._deadline:
                self._delay_is(self._delay.unanswered(self._options.connect_timeout), now)
        elif self._state is _State.DIALLING and self._deadline is not None and now >= self._deadline:
            attempt = self._pending_attempt("handle_timeout")
            seconds = self._options.connect_timeout
            self.commands.append(CloseTransport())
            self._attempt_failed(
                NATSTimeoutError(f"dialling server {attempt.server} took longer than {seconds:g} s"), now
            )


def chained(error_type: type[TransportError], what: str, error: Exception) -> NATSError:
    """An error of ours for what the operating system said, chained to it.

    Not to where it was said: the frames there may have had a CONNECT line in their hands.
    """
    if isinstance(error, NATSError):
        return error
    try:
        text = str(error)
    except Exception:  # one of the user's resolver, whose text cannot be made
        text = ""
    wrapped = error_type(f"{what}: {text or type(error).__name__}")
    wrapped.__cause__ = error.with_traceback(None)
    return wrapped
