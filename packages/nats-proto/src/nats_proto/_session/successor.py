"""A connection that is made while the last one is still up: the way from a lame duck to another server.

Theory of operation
-------------------
A lame duck closes its connections one by one, some time after it has said so. Until then it is as good as any other.
Whoever leaves it before there is another connection loses what is published meanwhile. So that one is made first:

    WAITING ─its time─▶ DIALLING ─▶ GREETING ─accepted─▶ JOINING ─PONG─▶ SPREADING ─`SPREAD_TIME`─▶ PARTING
       ▲                   │            │                   │ │              │ │                       │
       └──the pool's next──┴────────────┴───────────────────┴─│──────────────┘ │ the old one is lost   │ its PONG, and
                                                              └────────────────▼                       │ all is written
                    OVER ◀─PONG and `LINGER`─ LINGERING ◀─the adapter has it─ ADOPTABLE ◀──────────────┘

    WAITING     for the time of the attempt
    DIALLING    the transport is made
    GREETING    the handshake is under way
    JOINING     every subscription is sent to the new server, and a PING behind them
    SPREADING   the other servers of the cluster hear of it; both connections deliver (`handover` says what is given)
    PARTING     the old connection takes UNSUB for every subscription, a PING behind them, and nothing else; what is
                published waits, for one round trip. If the new connection is lost now, what the old server has said
                before it read the UNSUBs is waited for; then a drain goes on there, and else there is a reconnect
    ADOPTABLE   the old connection has said all, or is lost; the transport of the new one becomes the transport
    LINGERING   copies of what the old connection has delivered may still come; skipped when each has come
    OVER        nobody needs it any more

A server that is the lame duck itself under another name (known by ``server_id``), or that is one as well, is left at
once and counts as a failed attempt; the pool says who is next and when. There is no end to that: as long as there is
nowhere to go the old connection is kept. When it is lost on the way, a successor that has joined takes its place, and
one that has not is given up for an ordinary reconnect.

From JOINING on the new server gives messages to members of queue groups here, which nobody else gets. So there is only
one way on, whatever comes, as long as its connection lives. A drain, of one subscription or of the session, ends behind
what both have said, on the connection that there is then; that of the session parts at once. If the old connection is
lost, or the user reconnects, the new one takes its place. And if the new server becomes a lame duck, the session goes
there all the same, and leaves it for a third one. A `close` alone gives it up, before it is PARTING.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import TYPE_CHECKING, Final, Generic, Protocol, assert_never

from .._connection.connection import Connection
from .._connection.events import (
    ConnectionEnded,
    ConnectionEvent,
    EffectWanted,
    HandshakeCompleted,
    InfoReceived,
    PongReceived,
    RefusalReceived,
)
from .._connection.server_errors import name_server
from .._connection.transport_error import transport_error
from .._interface.events import (
    AdoptSuccessor,
    CloseSuccessor,
    ContentErrorReceived,
    OpenSuccessor,
    Perform,
    ServerErrorReceived,
)
from .._interface.options import ConnectOptions
from .._servers.pool import Attempt
from .._servers.server import Server
from .._wire.batch import Batch
from .._wire.encoder import PING
from .._wire.frames import Message
from .._wire.info import ServerInfo
from ..errors import (
    ConnectionLostError,
    LocalProtocolError,
    NATSError,
    NATSTimeoutError,
    TransportError,
)
from .attempts import address_of
from .handover import Handover
from .lame_duck import LAME_DUCK_GRACE
from .link import Adopted, Link
from .round_trips import JOIN_TOKEN, LAST_TOKEN
from .subscription import MessageT
from .timers import due

if TYPE_CHECKING:
    from .._interface.events import SessionEvent
    from .event_queue import EventQueue
    from .traffic import Traffic

__all__ = ["Successor"]

SPREAD_TIME: Final = 0.5
"""Seconds in which the other servers of the cluster hear of the new connection's subscriptions. They need milliseconds;
a lame duck stays for ten seconds at least, unless its operator has configured less."""
LINGER: Final = 1.0
"""Seconds in which the copy of a message may come to the new server later than the message to the old one."""

LATE: Final = 1.0
"""Seconds by which nothing is late to be done unless the process was stopped; and for which answers are waited then."""


class _State(IntEnum):
    """In the order in which they come."""

    WAITING = auto()
    DIALLING = auto()
    GREETING = auto()
    JOINING = auto()
    SPREADING = auto()
    PARTING = auto()
    ADOPTABLE = auto()
    LINGERING = auto()
    OVER = auto()


class Predecessor(Protocol[MessageT]):
    """The life cycle of the session, as a successor knows it."""

    def leave_link(self, now: float) -> None:
        """Give up the old connection."""
        ...

    def successor_lost(self, error: NATSError, now: float) -> None:
        """The new connection is lost, and there is no way back to the old one."""
        ...

    def member_lost(self, error: NATSError) -> None:
        """The new connection is lost, and may have had something for members of groups."""
        ...

    def forget_successor(self, successor: Successor[MessageT]) -> None:
        """This successor has come to its end."""
        ...


class Successor(Generic[MessageT]):
    """The successor of one connection. The adapter moves the successor's bytes as it moves those of the session.

    After each of these calls the adapter takes events, commands, data and deadline of the session, as after any other.
    """

    __slots__ = (
        "_attempt",
        "_connection",
        "_ending",
        "_events",
        "_handover",
        "_info",
        "_lame_duck",
        "_link",
        "_message_type",
        "_old_owes",
        "_options",
        "_predecessor",
        "_state",
        "_timers",
        "_traffic",
        "_unreported",
    )

    def __init__(
        self,
        predecessor: Predecessor[MessageT],
        link: Link,
        traffic: Traffic[MessageT],
        events: EventQueue[SessionEvent],
        options: ConnectOptions,
        *,
        message_type: type[MessageT],
        now: float,
    ) -> None:
        self._predecessor = predecessor
        self._link = link
        self._traffic = traffic
        self._events = events
        self._options = options
        self._message_type = message_type
        self._state = _State.WAITING
        self._ending = False
        """The session drains: there is no time to be lost, and no other attempt."""
        self._timers = link.timers
        self._attempt: Attempt | None = None
        self._connection: Connection | None = None
        self._info: ServerInfo | None = None
        self._reset()
        link.begin_succession(now=now)
        self._plan_next(now)

    def _reset(self) -> None:
        """Forget what belonged to the last attempt."""
        self._unreported = 0
        """Bytes given to its transport, and not yet accepted as far as we know."""
        self._old_owes = True
        """The old server has not confirmed that it has said, and read, all."""
        self._lame_duck = False
        """The new server is about to leave as well, and has said so when it was too late not to go there."""
        self._handover: Handover[MessageT] = Handover(self._traffic, self._events)

    # --- what others want to know ------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """The successor has come to an end, or has never begun because there is no server to try."""
        return self._state is _State.OVER

    @property
    def joined(self) -> bool:
        """The new server is told of every subscription: its connection can take over at any time, and has not yet."""
        return self._connection is not None and _State.JOINING <= self._state <= _State.ADOPTABLE

    @property
    def parting(self) -> bool:
        """Nothing of the user is written to the old connection any more."""
        return self._state is _State.PARTING

    @property
    def adoptable(self) -> bool:
        """Its connection is about to be that of the session, as soon as the adapter has it."""
        return self._state is _State.ADOPTABLE

    @property
    def old_owes(self) -> bool:
        """The old server has not confirmed that it has said, and read, all."""
        return self._old_owes

    @property
    def overlap(self) -> Handover[MessageT] | None:
        """What the messages of the session's own connection have to go through while another delivers the same ones."""
        return self._handover if _State.JOINING <= self._state <= _State.LINGERING else None

    # --- the pump ----------------------------------------------------------------------------------------------------

    def transport_connected(self, *, now: float) -> None:
        """The dial that `OpenSuccessor` asked for succeeded. `LocalProtocolError` when none was asked for."""
        attempt = self._pending_attempt("transport_connected")
        assert self._timers.successor is not None  # DIALLING always has one
        self._state = _State.GREETING
        connection = Connection(
            attempt.server, self._options, deadline=self._timers.successor, message_type=self._message_type
        )
        self._connection = connection
        self._timers.successor = None
        self._handle(now)

    def transport_failed(self, error: Exception, *, now: float) -> None:
        """The dial failed. `LocalProtocolError` when none was asked for."""
        attempt = self._pending_attempt("transport_failed")
        self._fail(transport_error(TransportError, f"cannot connect to server {attempt.server}", error), now)

    def transport_lost(self, error: Exception, *, now: float) -> None:
        """Reading or writing failed. Nothing happens when the connection was given up before."""
        if self._connection is not None and self._state < _State.LINGERING:
            self._connection.transport_lost(error)
            self._handle(now)

    def receive_data(self, data: bytes | bytearray | memoryview, *, now: float) -> None:
        """Bytes from its transport. Never raises for anything the peer did."""
        if self._connection is not None and self._state < _State.LINGERING:
            self._connection.receive_data(data, now=now)
            self._handle(now)

    def receive_eof(self, *, now: float) -> None:
        """Its transport's other side was closed."""
        if self._connection is not None and self._state < _State.LINGERING:
            self._connection.receive_eof(now=now)
            self._handle(now)

    def data_to_send(self) -> list[bytes]:
        """What is to be written to its transport now. Call it again when this was written; empty when there is none."""
        connection = self._connection
        if connection is None or self._state >= _State.LINGERING:
            return []
        out, self._handover.out = self._handover.out, []
        # Once adoption was asked for, the connection's own bytes (such as a PONG) wait until the session writes them:
        # given here they would be unreported, and `adopted` refuses to go on before everything is reported.
        own = connection.own_data() if self._state < _State.ADOPTABLE else []
        pieces = connection.wrap([*own, *out])
        self._unreported += sum(map(len, pieces))
        return pieces

    def data_sent(self, nbytes: int) -> None:
        """Its transport accepted the next ``nbytes``. `LocalProtocolError` when more is reported than was given."""
        if not 0 <= nbytes <= self._unreported:
            raise LocalProtocolError(f"{nbytes} bytes sent, but {self._unreported} were given and not yet reported")
        self._unreported -= nbytes
        if self._connection is not None:
            self._connection.data_sent(nbytes)
        self.written()

    def performed(self, command: Perform, result: object, now: float) -> None:
        """An effect's result, if it was this connection that wanted it."""
        if self._connection is not None and self._state is _State.GREETING:
            self._connection.performed(command.effect, result)
            self._handle(now)

    def perform_failed(self, command: Perform, error: BaseException, now: float) -> None:
        """An effect could not be had, if it was this connection that wanted it."""
        if self._connection is not None and self._state is _State.GREETING:
            self._connection.perform_failed(command.effect, error)
            self._handle(now)

    # --- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When its connection has something to do."""
        if self._connection is None or self._state >= _State.LINGERING:
            return None
        return self._connection.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        connection = self._connection
        if connection is not None and self._state < _State.LINGERING:
            connection.handle_timeout(now=now)
            self._handle(now)
        if not due(self._timers.successor, now):
            return
        if self._state in (_State.JOINING, _State.PARTING) and due(self._timers.successor, now - LATE):
            # The whole process was stopped: the answer may have arrived, and was not read yet.
            self._timers.successor = now + LATE
            return
        seconds = f"{self._options.connect_timeout:g} s"
        match self._state:
            case _State.WAITING:
                self._dial(now)
            case _State.DIALLING:
                self._fail(NATSTimeoutError(f"dialling server {self._server} took longer than {seconds}"), now)
            case _State.JOINING:
                self._fail(NATSTimeoutError(f"server {self._server} did not answer a PING within {seconds}"), now)
            case _State.SPREADING:
                self._part(now)
            case _State.PARTING:
                self._predecessor.leave_link(now)  # the old server does not answer any more
            case _State.LINGERING:
                self._end()
            case _State.GREETING | _State.ADOPTABLE | _State.OVER:
                self._timers.successor = None
            case _:
                assert_never(self._state)

    # --- attempts ----------------------------------------------------------------------------------------------------

    def _plan_next(self, now: float) -> None:
        attempt = self._attempt = self._link.next_successor(now=now)
        if attempt is None:
            self._end()
            return
        self._state = _State.WAITING
        self._timers.successor = attempt.at
        if attempt.at <= now:
            self._dial(now)

    def _dial(self, now: float) -> None:
        assert self._attempt is not None  # WAITING always has one
        self._state = _State.DIALLING
        self._timers.successor = now + self._options.connect_timeout
        address = address_of(self._attempt.server, self._options)
        self._link.add_command(OpenSuccessor(self._attempt.server, address, self._timers.successor))

    def _pending_attempt(self, call: str) -> Attempt:
        if self._state is not _State.DIALLING or self._attempt is None:
            raise LocalProtocolError(f"{call}: no dial of a successor is under way")
        return self._attempt

    @property
    def _server(self) -> Server | None:
        return None if self._attempt is None else self._attempt.server

    def _fail(self, error: NATSError, now: float) -> None:
        """This attempt has failed. The old connection is kept, if there still is one."""
        self._drop()
        if self._attempt is not None:
            name_server(error, self._attempt.server)
        self._link.successor_failed(error, now=now)
        if self._state is _State.ADOPTABLE:
            self._end()
            self._predecessor.successor_lost(error, now)
            return
        if self._handover.has_members:
            self._predecessor.member_lost(error)
        if self._state is _State.PARTING:
            if not self._old_owes:
                self._stranded(now)
        elif self._ending:
            self._end()
        else:
            self._handover.end()
            self._reset()
            self._plan_next(now)

    def _stranded(self, now: float) -> None:
        """The new connection was lost behind the goodbye to the old server, which has said all by now.

        It was told to end every subscription, so its connection is of no more use; but that is as a drain wants it.
        """
        if self._ending:
            self._end()
        else:
            self._predecessor.leave_link(now)

    def _drop(self) -> None:
        # Where the connection was lost, or is the session's own, the adapter has nothing to close. While WAITING no
        # dial was asked for.
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._link.add_command(CloseSuccessor())
        elif self._state is _State.DIALLING:
            self._link.add_command(CloseSuccessor())

    def cancel(self) -> None:
        """The successor is not wanted any more."""
        self._drop()
        self._end()

    def _end(self) -> None:
        self._state = _State.OVER
        self._timers.successor = None
        self._predecessor.forget_successor(self)
        self._handover.end()

    # --- what the new connection says --------------------------------------------------------------------------------

    def _handle(self, now: float) -> None:
        connection = self._connection
        if connection is None:
            return
        for event in connection.batches_received():
            self._take(event, now)
            # The event may have made this attempt fail. What the connection said behind it does not count then.
            if self._connection is not connection:
                break
        self.check_overlap(now)
        self._traffic.announce_messages()

    def _take(self, event: ConnectionEvent | Batch, now: float) -> None:
        match event:
            case Batch():
                for message in event.messages:
                    self._take(message, now)
            case Message():
                if isinstance(event, self._message_type):
                    self._handover.receive(event)
            case EffectWanted(effect=effect):
                self._link.add_command(Perform(effect, successor=True))
            case InfoReceived(info=info):
                self._take_info(info, now)
            case HandshakeCompleted():
                self._join(now)
            case PongReceived():
                if self._state is _State.JOINING:  # the old connection may be lost by now
                    self._state = _State.SPREADING
                    self._timers.successor = now + SPREAD_TIME
                    if self._ending:
                        self._part(now)
            case RefusalReceived():
                self._events.add(event.plain)
                self._traffic.refuse(event)
            case ServerErrorReceived() | ContentErrorReceived():
                self._events.add(event)
            case ConnectionEnded(error=error):
                self._fail(error, now)
            case _:
                assert_never(event)

    def _take_info(self, info: ServerInfo, now: float) -> None:
        self._info = info
        if self._state >= _State.JOINING:
            # There is no way back to the old connection without a loss. That the new server leaves may be said in this
            # INFO alone, so it is remembered, and the link answers it when it adopts the connection.
            self._lame_duck = self._lame_duck or info.ldm
            return
        left = self._link.info
        if info.server_id and left is not None and info.server_id == left.server_id:
            what = f"server {self._server} is the lame duck itself, by another name ({info.server_id})"
        elif info.ldm:
            what = f"server {self._server} is a lame duck as well"
        else:
            return
        self._fail(ConnectionLostError(what), now)

    # --- both connections are up -------------------------------------------------------------------------------------

    def _join(self, now: float) -> None:
        assert self._connection is not None  # it has just said something
        self._state = _State.JOINING
        self._timers.successor = now + self._options.connect_timeout
        self._handover.begin()
        self._handover.out.append(PING)
        self._connection.pings_taken([JOIN_TOKEN])

    def check_overlap(self, now: float) -> None:
        """After either connection has delivered: one that is too far behind the other would cost too much memory."""
        overlap = self._handover.overlap
        if not overlap.exceeds(1):
            return
        if self._state is _State.SPREADING:
            self._part(now)
        elif self._state is _State.JOINING:
            self._fail(NATSTimeoutError(f"server {self._server} is too far behind to be moved to"), now)
        elif self.parting and overlap.exceeds(2):
            self._predecessor.leave_link(now)

    # --- leaving the old one -----------------------------------------------------------------------------------------

    def _part(self, now: float) -> None:
        if self._link.connection is None:
            return  # it is lost just now, and the link is about to say so
        self._link.say(b"".join([*self._handover.commit(), PING]), LAST_TOKEN)
        self._state = _State.PARTING
        self._timers.successor = now + LAME_DUCK_GRACE

    def session_drains(self, now: float) -> None:
        """The session stays at its server, unless the new one may have given something: then it drains there, and goes
        as soon as that has answered."""
        self._ending = True
        if self._state < _State.JOINING:
            self.cancel()
        elif self._state is _State.SPREADING:
            self._part(now)

    def session_ends(self) -> None:
        """The session stays at its server, unless that was told goodbye."""
        if self._state < _State.PARTING:
            self.cancel()

    def old_said_all(self, now: float) -> None:
        """The old connection has answered the PING behind its last UNSUB."""
        self._old_owes = False
        if self._connection is None:
            self._stranded(now)
        else:
            self.written()

    def written(self) -> None:
        """Bytes were accepted by one of the transports: perhaps the old connection has nothing more to do."""
        if self._old_owes or self._state is not _State.PARTING or self._unreported or self._handover.out:
            return
        if self._traffic.outbox.reported:  # the PONG may be quicker than the report of what it answers
            self._state = _State.ADOPTABLE
            self._timers.successor = None
            self._link.hand_over()

    def old_lost(self) -> None:
        """The old connection is gone: the new one takes its place now."""
        if self._state is not _State.PARTING:
            self._handover.commit()
        self._state = _State.ADOPTABLE
        self._timers.successor = None
        self._link.add_command(AdoptSuccessor())

    # --- taking its place --------------------------------------------------------------------------------------------

    def adopted(self) -> Adopted:
        """The adapter uses the successor's transport as the session's. `LocalProtocolError` when it was not told to."""
        if not self.adoptable or self._connection is None or self._attempt is None or self._info is None:
            raise LocalProtocolError("transport_adopted: no successor was to be adopted")
        if self._unreported or self._handover.out:
            raise LocalProtocolError("transport_adopted: what the successor gave to be written comes first")
        return Adopted(self._connection, self._attempt, self._info, self._lame_duck)

    def operations(self) -> list[bytes]:
        """What the new server has to be told about subscriptions before anything else."""
        return self._handover.operations(lost=not self._link.up)

    def linger(self, now: float) -> None:
        """The new connection is the session's now: the messages that were held back are delivered."""
        self._state = _State.LINGERING
        self._timers.successor = None
        self._connection = None
        self._handover.linger()
        if self._handover.owed:
            # Not by the time alone: this connection may be far behind, or the whole process was stopped.
            self._traffic.round_trip(self._caught_up)
        else:
            self._end()

    def _caught_up(self, now: float) -> None:
        """The new server has said what it had to say when it was gone to."""
        if self._state is _State.LINGERING:
            self._timers.successor = now + LINGER
