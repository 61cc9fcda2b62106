"""The link: one connection kept up, over and over, until someone says stop. Reconnection lives here.

Theory of operation
-------------------
    DOWN ─transport_connected─▶ HANDSHAKE ─accepted─▶ UP ─lost, left─▶ DOWN
     ▲                              │ failed
     └──────────────────────────────┘

While it is DOWN `Attempts` says which server is dialled next, and when; while it is UP `LameDuck` says whether the
server is about to leave. At the end of a connection the transport is abandoned with `CloseTransport`, never waited for.

What the first INFO says about other servers is believed only once the handshake is done: before that anybody may have
written it.

For how long the session wants the link:

    FOR_GOOD ─drain, close─▶ TO_THE_END ─all is written─▶ NO_LONGER

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
    CloseTransport,
    Command,
    ContentErrorReceived,
    Perform,
    ServerErrorReceived,
    ServersDiscovered,
)
from .._interface.options import ConnectOptions
from .._layers.layers import Layers
from .._servers.pool import Attempt, ServerPool
from .._servers.proxy import Proxy
from .._servers.server import Server
from .._wire.batch import Batch
from .._wire.frames import Message
from .._wire.info import ServerInfo
from ..errors import (
    NATSError,
    TransportError,
)
from .attempts import Attempts
from .lame_duck import LameDuck
from .link_events import HandshakeFailed, LinkDown, LinkEvent, LinkGaveUp, LinkUp
from .timers import Timers, due

if TYPE_CHECKING:
    from .outbox import Outbox

__all__ = ["Adopted", "Link"]


class Adopted(NamedTuple):
    """A connection made beside that of the link, to go on with. ``lame_duck``: its server has said that it leaves."""

    connection: Connection
    attempt: Attempt
    info: ServerInfo
    lame_duck: bool


class _State(Enum):
    DOWN = auto()
    HANDSHAKE = auto()
    UP = auto()


class _Wanted(Enum):
    """For how long the session wants the link."""

    FOR_GOOD = auto()
    TO_THE_END = auto()
    """Of a drain or a close: from now on not even a lame duck is left for another server."""
    NO_LONGER = auto()
    """All is written: however the connection ends now, nothing is lost."""


_UP: Final = _State.UP
_FOR_GOOD: Final = _Wanted.FOR_GOOD
"""Asked for at every turn: to look a member up in its enum costs as much as a call of a function."""


class Link:
    """Pool, attempt, connection, and the way round them."""

    __slots__ = (
        "_attempt",
        "_attempts",
        "_events",
        "_lame_duck",
        "_layers",
        "_message_type",
        "_options",
        "_pool",
        "_state",
        "_unheard",
        "_wanted",
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
        self._state = _State.DOWN
        self._wanted = _Wanted.FOR_GOOD
        self.timers = Timers()
        """Of the whole session: those of its life cycle and its successor are set by them."""
        self.commands: list[Command] = []
        """What the adapter has to do, in order: `commands_to_run` takes it."""
        self._events: list[LinkEvent] = []
        self._attempts = Attempts(pool, options, self.timers, self.commands, self._events)
        self._attempt: Attempt | None = None
        """Of the current connection, until it is up."""
        self._lame_duck = LameDuck(pool, self.timers, two_transports=two_transports)
        self._unheard: deque[ConnectionEvent | Batch] = deque()
        """What the connection said behind the last event that was given."""
        self._layers = Layers()
        """Of the last connection: reports of its transport may still come."""
        self.connection: Connection | None = None
        self.server: Server | None = None
        """Of the current, or else the last, connection."""
        self.info: ServerInfo | None = None
        self.last_error: NATSError | None = None

    @property
    def up(self) -> bool:
        """The handshake is done and the connection not lost."""
        return self._state is _UP

    @property
    def calm(self) -> bool:
        """It is up, without layers, wanted for good, and owes no PONG.

        Then no message can make the session do anything, and of what else the server may say nothing is to be done that
        is not among the events.
        """
        connection = self.connection
        return (
            connection is not None
            and self._state is _UP
            and self._wanted is _FOR_GOOD
            and not connection.pongs_owed
            and self._layers.plain
            and self.timers.migrate is None
        )

    @property
    def migrating(self) -> bool:
        """The server is a lame duck, there is another and no second transport: `migrate` waits for its moment."""
        return self.timers.migrate is not None

    # --- the way round -----------------------------------------------------------------------------------------------

    def start(self, *, now: float) -> None:
        """Walk the pool once, without waiting."""
        self._attempts.start(now=now)

    def retry(self, error: NATSError | None, *, now: float, immediate: bool = False) -> None:
        """The link is down: begin again, with the next server of the pool."""
        others_tried = self._lame_duck.succeeding is not None
        self._attempts.restart(error, self.server, now=now, immediate=immediate, last_is_behind=others_tried)

    def hurry(self, *, now: float) -> None:
        """Stop waiting for the next attempt, if that is what is being done."""
        self._attempts.hurry(now=now)

    def stop(self) -> None:
        """No more attempts; whatever transport there is, or what is performed before there is one, gets abandoned."""
        if self._attempts.under_way or self._state is not _State.DOWN:
            self.add_command(CloseTransport())
        self._drop_connection()
        self._attempts.stop()
        self._state = _State.DOWN

    def leave(self, error: NATSError | None = None) -> None:
        """Give up the connection. Without an error that was the wish of the user, or of the client."""
        self._lose(error)

    def say_goodbye(self) -> bool:
        """All else was written: let the layers say goodbye. True while something of that is still to be written."""
        if not self.up or self.connection is None:
            return False
        self._wanted = _Wanted.NO_LONGER
        layers = self.connection.layers
        return layers.close() or not layers.idle

    # --- the transport -----------------------------------------------------------------------------------------------

    def transport_connected(self, *, now: float) -> None:
        """The dial succeeded: the handshake begins."""
        self._attempt, deadline = self._attempts.connected()
        self._state = _State.HANDSHAKE
        self._lame_duck.begin()
        self.server = self._attempt.server
        self.connection = Connection(self.server, self._options, deadline=deadline, message_type=self._message_type)
        self._layers = self.connection.layers

    def transport_failed(self, error: Exception, *, now: float) -> None:
        """The dial failed."""
        server = self._attempts.dialled("transport_failed").server
        proxy = self._options.proxy
        through = f" (proxy {proxy})" if isinstance(proxy, Proxy) else ""
        failure = transport_error(TransportError, f"cannot connect to server {server}{through}", error)
        name_server(failure, server)
        self._attempt_failed(failure, now)

    def _attempt_failed(self, error: NATSError, now: float) -> None:
        self.last_error = error
        self._attempts.failed(error, now=now)

    def performed(self, command: Perform, result: object, *, now: float) -> None:
        """An effect's result; ignored when the connection that wanted it is gone, or the time for it is up."""
        if command.before_dial:
            self._attempts.performed(command, result, now=now)
        elif self.connection is not None:
            self.connection.performed(command.effect, result)

    def perform_failed(self, command: Perform, error: BaseException, *, now: float) -> None:
        """An effect could not be had; ignored when the connection that wanted it is gone, or the time for it is up."""
        if command.before_dial:
            self._attempts.perform_failed(command, error, now=now)
        elif self.connection is not None:
            self.connection.perform_failed(command.effect, error)

    # --- the pump ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview, *, now: float) -> None:
        """Bytes from the transport; ignored without a connection, like all that follows here."""
        if self.connection is not None:
            self.connection.receive_data(data, now=now)

    def receive_messages(self, data: bytes | bytearray | memoryview, *, now: float) -> Message | Batch | None:
        """`receive_data`; what is nothing but messages, with nothing before them to be taken, is given at once.

        It is not among the events then.
        """
        connection = self.connection
        if connection is None:
            return None
        if self._unheard or self._events:
            connection.receive_data(data, now=now)
            return None
        return connection.receive_messages(data, now=now)

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
                # Read before the events are taken: `batches_received` resets the flag.
                only_messages = connection.only_messages
                said = connection.batches_received()
                if only_messages:
                    return said  # type: ignore[return-value]  # the flag says that there are no other events in it
                unheard.extend(said)
            while unheard:
                if self._hear(unheard.popleft(), now):
                    break
        events = self._events.copy()
        self._events.clear()
        return events

    def add_command(self, command: Command) -> None:
        """The adapter has to do this."""
        self.commands.append(command)

    def commands_to_run(self) -> list[Command]:
        """What the adapter has to do, in order."""
        commands = self.commands.copy()
        self.commands.clear()
        return commands

    def data_to_send(self, outbox: Outbox, limit: int) -> list[bytes]:
        """What is to be written now: the connection's own, and behind it about ``limit`` bytes of the outbox."""
        connection = self.connection
        if connection is None:
            return []
        if limit and connection.silent and self._layers.plain:
            given = outbox.tail.give()
            if given is not None:
                return given  # nearly always
        pieces, pings = outbox.take(limit, connection.own_data())
        if pings:
            connection.pings_taken(pings)
        return pieces if self._layers.plain else connection.wrap(pieces)

    def data_sent(self, nbytes: int) -> int:
        """The last transport accepted the next ``nbytes``, also after its end: how many of the protocol these are."""
        return nbytes if self._layers.plain else self._layers.sent(nbytes)

    @property
    def plain(self) -> bool:
        """The last connection has no layers: what comes in is not unwrapped first."""
        return self._layers.plain

    @property
    def secure(self) -> bool:
        """The last connection goes through TLS."""
        return self._layers.secure

    @property
    def payload_size(self) -> int:
        """Bytes of the payload of which a part has come, and a part has not; 0 where there is none."""
        return 0 if self.connection is None else self.connection.payload_size

    def whole_message(self, data: bytes) -> Message | None:
        """The message that ``data`` would be, if that is all it is; nothing has changed then."""
        return None if self.connection is None else self.connection.whole_message(data)

    def say(self, operations: bytes, token: int) -> None:
        """Write these next, the last of them a PING that has this token; ignored without a connection."""
        if self.connection is not None:
            self.connection.say(operations, token)

    # --- what the connection says ------------------------------------------------------------------------------------

    def _hear(self, event: ConnectionEvent | Batch, now: float) -> bool:
        """What it means for the link and for others; True when others may answer it by a call to the link."""
        match event:
            case Message() | Batch() | ServerErrorReceived() | ContentErrorReceived():
                self._events.append(event)
                return False
            case EffectWanted(effect=effect):
                self.add_command(Perform(effect))
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
        if event.info.ldm:
            self._lame_duck.said()
        if self._state is _State.UP:
            self._learn(event.info, now)

    def _handshake_completed(self, event: HandshakeCompleted, now: float) -> None:
        """The server has accepted us."""
        attempts = self._attempt.number if self._attempt is not None else 1
        first = self._attempts.reached()
        self._attempt = None
        self._state = _State.UP
        self._pool.record_success(now=now, server_id=event.info.server_id)
        self._events.append(LinkUp(first, attempts))
        self._learn(event.info, now, quiet=first)

    def _ended(self, event: ConnectionEnded, now: float) -> None:
        if self._wanted is _Wanted.NO_LONGER:
            self._lose(None)  # the server has closed before our layers had said goodbye: that is no error
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
            self.add_command(CloseTransport())
            self._drop_connection()
            self._state = _State.DOWN
            self._attempt_failed(event.error, now)

    def _lose(self, error: NATSError | None, *, final: bool = False) -> None:
        self.add_command(CloseTransport())
        self._drop_connection()
        self._state = _State.DOWN
        self._events.append(LinkDown(error, final))

    def _drop_connection(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            self._unheard.clear()  # what stands behind the event over which it was given up is not heard any more
        self._attempt = None
        self.timers.migrate = None

    def _learn(self, info: ServerInfo, now: float, *, quiet: bool = False) -> None:
        assert self.server is not None  # UP has a server
        new = self._pool.discover(info.connect_urls, current=self.server, keep=self._lame_duck.succeeding)
        if new and not quiet:
            self._events.append(ServersDiscovered(servers=tuple(server.url for server in new)))
        options = self._options
        may_leave = options.lame_duck_migration and options.allow_reconnect and self._wanted is _Wanted.FOR_GOOD
        told = self._lame_duck.answer(self.server, info.server_id, now, may_leave=may_leave)
        if told is not None:
            self._events.append(told)

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

    def begin_succession(self, *, now: float) -> None:
        """Another connection is to be made beside this one."""
        self._pool.begin(now=now, counting=False)

    def next_successor(self, *, now: float) -> Attempt | None:
        """The server to try for it; None when there is none."""
        attempt = self._pool.next_attempt(now=now)
        self._lame_duck.succession(attempt)
        return attempt

    def successor_failed(self, error: NATSError, *, now: float) -> None:
        """It could not be had there."""
        self.last_error = error
        self._attempts.record_failure(error, now=now)

    def hand_over(self) -> None:
        """This connection is done: its successor takes its place when the adapter has its transport."""
        # The state stays UP: nothing is lost, and publishes go on into the outbox until `adopt`.
        self.add_command(AdoptSuccessor())
        self._drop_connection()

    def adopt(self, adopted: Adopted, *, now: float) -> None:
        """Go on with this connection, whose handshake is done."""
        self._state = _State.UP
        self._lame_duck.begin(said=adopted.lame_duck)
        self.connection = adopted.connection
        self._layers = adopted.connection.layers
        self.server = adopted.attempt.server
        self.info = adopted.info
        self._pool.record_success(now=now, server_id=adopted.info.server_id)
        self._learn(adopted.info, now)

    # --- time --------------------------------------------------------------------------------------------------------

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due: what takes too long is given up, a dial or an answer; the connection does its own part."""
        if self.connection is not None:
            self.connection.handle_timeout(now=now)
        too_late = self._attempts.handle_timeout(now=now)
        if too_late is not None:
            self.add_command(CloseTransport())
            self._attempt_failed(too_late, now)
