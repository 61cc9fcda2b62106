"""A hand on each side of the bare core: `Wire` drives one `Connection`, `World` one `Session`, both by a virtual clock.

What the server says is made by `Encoder` in its role; what the client wrote is read back by `Parser` in its role, so a
test compares frames. A `World` hands over whatever the session wants to write at once, unless ``room`` says how many
bytes its transport still takes.
"""

from __future__ import annotations

import random
from typing import TypeVar

from nats_proto import (
    AdoptSuccessor,
    CloseSuccessor,
    CloseTransport,
    Command,
    Connection,
    ConnectionEvent,
    ConnectOptions,
    Encoder,
    Frame,
    OpenSuccessor,
    OpenTransport,
    Parser,
    Perform,
    PingFrame,
    PublishFrame,
    Role,
    Server,
    Session,
    SessionEvent,
    SubscribeFrame,
    UnsubscribeFrame,
)
from nats_proto import Message as CoreMessage

START = 1000.0
INFO: dict[str, object] = {"server_id": "S", "version": "2.15.1", "proto": 1, "headers": True, "max_payload": 1048576}
PING, PONG, OK = b"PING\r\n", b"PONG\r\n", b"+OK\r\n"

EventT = TypeVar("EventT")
_server = Encoder()


def info(**fields: object) -> bytes:
    """An INFO line: that of a usual server, but for ``fields``."""
    return _server.info({**INFO, **fields})


def err(text: str) -> bytes:
    """A -ERR line."""
    return _server.err(text)


def msg(
    subject: str, sid: int, data: bytes = b"", *, reply: str | None = None, header_block: bytes | None = None
) -> bytes:
    """A MSG or HMSG."""
    return _server.message(subject, sid, data, reply, header_block)


def frames_of(data: bytes) -> list[Frame]:
    """What a server reads in ``data``; nothing else may be in it."""
    parser = Parser(Role.SERVER)
    frames = parser.receive_data(data + PING)
    assert parser.error is None, parser.error
    assert isinstance(frames.pop(), PingFrame), f"ends within an operation: {data[-80:]!r}"
    return frames


def words_of(data: bytes) -> list[str]:
    """The operations in ``data``, each as one short text: ``SUB a.b 1``, ``PUB a.b [5]``, ``PING``."""
    return [_word(frame) for frame in frames_of(data)]


def _word(frame: Frame) -> str:
    match frame:
        case PublishFrame(subject=subject, data=data):
            return f"PUB {subject} [{len(data)}]"
        case SubscribeFrame(subject=subject, queue=queue, sid=sid):
            return f"SUB {subject} {queue} {sid}" if queue is not None else f"SUB {subject} {sid}"
        case UnsubscribeFrame(sid=sid, max_msgs=max_msgs):
            return f"UNSUB {sid} {max_msgs}" if max_msgs is not None else f"UNSUB {sid}"
        case _:
            return type(frame).__name__.removesuffix("Frame").upper()


class Wire:
    """One `Connection` that is given bytes and time."""

    def __init__(self, *, url: str = "nats://a", secured: bool = False, **options: object) -> None:
        self.now = START
        self.options = ConnectOptions(**options)  # type: ignore[arg-type]  # tests may set any field
        server = Server.parse(url).secured() if secured else Server.parse(url)
        self.connection = Connection(server, self.options, deadline=self.now + self.options.connect_timeout)
        self.events: list[ConnectionEvent] = []

    def feed(self, data: bytes, *, at_a_time: int | None = None) -> list[ConnectionEvent]:
        """The server's bytes, whole or in pieces; the events they made."""
        step = at_a_time or max(1, len(data))
        new: list[ConnectionEvent] = []
        for start in range(0, len(data), step):
            self.connection.receive_data(data[start : start + step], now=self.now)
            new += self.connection.events_received()
        self.events += new
        return new

    def open(self, **fields: object) -> list[ConnectionEvent]:
        """The whole handshake; leaves nothing to be written."""
        self.feed(info(**fields))
        self.written()
        return self.feed(PONG)

    def written(self) -> bytes:
        """What the connection wants to write."""
        return b"".join(self.connection.data_to_send())

    def tick(self, seconds: float) -> list[ConnectionEvent]:
        """Let time pass, then call the timer once, due or not."""
        self.now += seconds
        self.connection.handle_timeout(now=self.now)
        new = self.connection.events_received()
        self.events += new
        return new


class World:
    """One `Session`, its transports and its clock."""

    def __init__(
        self,
        servers: str = "nats://a",
        *,
        seed: int = 1,
        start: bool = True,
        two_transports: bool = False,
        **options: object,
    ) -> None:
        self.now = START
        self.options = ConnectOptions(**{"randomize_servers": False, **options})  # type: ignore[arg-type]
        self.session: Session[CoreMessage] = Session(
            self.options, servers, rng=random.Random(seed), two_transports=two_transports
        )
        self.dial: OpenTransport | None = None
        """The dial asked for last, until it is answered."""
        self.commands: list[Command] = []
        self.room: int | None = None
        """Bytes the transport still takes; None: all."""
        self.next_dial: OpenSuccessor | None = None
        """The dial of a successor asked for last, until it is answered."""
        self.next_room: int | None = None
        """Bytes the successor's transport still takes; None: all."""
        self.adopts = True
        """An `AdoptSuccessor` is answered as soon as may be; False: not."""
        self._to_adopt = False
        self._next_wire = bytearray()
        self._next_pieces: list[bytes] = []
        self._wire = bytearray()
        self._pieces: list[bytes] = []
        self._events: list[SessionEvent] = []
        if start:
            self.session.connect(now=self.now)
            self.pump()

    # --- one pump, as in an adapter ----------------------------------------------------------------------------------

    def pump(self) -> None:
        """After every call to the session: commands, data, and what came of it, events."""
        self._run_commands()
        self._write()
        self._write_next()
        self._run_commands()
        if self._to_adopt and self.adopts and not self._next_pieces:
            self._adopt()
        self._events += self.session.events_received()

    def _run_commands(self) -> None:
        for command in self.session.commands_to_run():
            self.commands.append(command)
            match command:
                case OpenTransport() | CloseTransport():
                    self._pieces.clear()
                    self.dial = command if isinstance(command, OpenTransport) else None
                case OpenSuccessor() | CloseSuccessor():
                    self._next_pieces.clear()
                    self._next_wire.clear()
                    self._to_adopt = False
                    self.next_dial = command if isinstance(command, OpenSuccessor) else None
                case AdoptSuccessor():
                    self._pieces.clear()
                    self._to_adopt = True
                case Perform():
                    pass

    def _adopt(self) -> None:
        self._to_adopt = False
        self._wire, self._next_wire = self._next_wire, bytearray()
        self.session.transport_adopted(now=self.now)
        self.pump()

    def _write_next(self) -> None:
        successor = self.session.successor
        while successor is not None:
            if not self._next_pieces:
                self._next_pieces = successor.data_to_send()
            data = b"".join(self._next_pieces)
            taken = len(data) if self.next_room is None else min(self.next_room, len(data))
            if not taken:
                return
            if self.next_room is not None:
                self.next_room -= taken
            self._next_wire += data[:taken]
            self._next_pieces = [data[taken:]] if taken < len(data) else []
            successor.data_sent(taken)

    def _write(self) -> None:
        while True:
            if not self._pieces:
                self._pieces = self.session.data_to_send()
            if not self._pieces:
                return
            data = b"".join(self._pieces)
            taken = len(data) if self.room is None else min(self.room, len(data))
            if self.room is not None:
                self.room -= taken
            if taken:
                self._wire += data[:taken]
                self.session.data_sent(taken)
            self._pieces = [data[taken:]] if taken < len(data) else []
            if self._pieces:
                return

    # --- the server's side -------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """The dial asked for last succeeds, at its time."""
        assert self.dial is not None
        self.now = max(self.now, self.dial.at)
        self.dial = None
        self._wire.clear()
        self.session.transport_connected(now=self.now)
        self.pump()

    def refuse(self, error: Exception | None = None) -> None:
        """The dial asked for last fails, at its time."""
        assert self.dial is not None
        self.now = max(self.now, self.dial.at)
        self.dial = None
        self.session.transport_failed(error or ConnectionRefusedError("refused"), now=self.now)
        self.pump()

    def shake(self, **fields: object) -> None:
        """INFO and PONG."""
        self.feed(info(**fields))
        self.feed(PONG)

    def up(self, **fields: object) -> World:
        """Dial and handshake succeed; what was written meanwhile stays to be read (CONNECT, PING first)."""
        self.accept()
        self.shake(**fields)
        return self

    def ready(self, **fields: object) -> World:
        """As `up`, and what was written and said so far is forgotten."""
        self.up(**fields)
        self.words()
        self.events()
        self.commands.clear()
        return self

    def feed(self, data: bytes) -> None:
        """The server's bytes."""
        self.session.receive_data(data, now=self.now)
        self.pump()

    def eof(self) -> None:
        """The server closes."""
        self.session.receive_eof(now=self.now)
        self.pump()

    def cut(self, error: Exception | None = None) -> None:
        """The transport breaks."""
        self.session.transport_lost(error or ConnectionResetError("reset"), now=self.now)
        self.pump()

    def wait(self, seconds: float) -> None:
        """Let time pass; the timer is called at each moment the session asked for. No dial is answered meanwhile."""
        end = self.now + seconds
        for _ in range(1000):
            deadline = self.session.next_timeout()
            if deadline is None or deadline > end:
                self.now = end
                self.pump()
                return
            self.now = max(self.now, deadline)
            self.session.handle_timeout(now=self.now)
            self.pump()
            after = self.session.next_timeout()
            assert after is None or after > self.now, "the timer asks for the past"
        raise AssertionError("the timer never rests")

    # --- the successor's server --------------------------------------------------------------------------------------

    def accept_next(self) -> None:
        """The dial of the successor succeeds."""
        assert self.next_dial is not None
        assert self.session.successor is not None
        self.next_dial = None
        self.session.successor.transport_connected(now=self.now)
        self.pump()

    def refuse_next(self) -> None:
        """It fails."""
        assert self.next_dial is not None
        assert self.session.successor is not None
        self.next_dial = None
        self.session.successor.transport_failed(ConnectionRefusedError("refused"), now=self.now)
        self.pump()

    def feed_next(self, data: bytes) -> None:
        """Bytes of the successor's server."""
        assert self.session.successor is not None
        self.session.successor.receive_data(data, now=self.now)
        self.pump()

    def cut_next(self) -> None:
        """Its transport breaks."""
        assert self.session.successor is not None
        self.session.successor.transport_lost(ConnectionResetError("reset"), now=self.now)
        self.pump()

    def next_words(self) -> list[str]:
        """What its transport took since the last call, as words."""
        data = bytes(self._next_wire)
        self._next_wire.clear()
        return words_of(data)

    # --- what was seen -----------------------------------------------------------------------------------------------

    def wire(self) -> bytes:
        """What the current transport took since the last call."""
        data = bytes(self._wire)
        self._wire.clear()
        return data

    def words(self) -> list[str]:
        """`wire`, as words."""
        return words_of(self.wire())

    def events(self) -> list[SessionEvent]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def events_of(self, kind: type[EventT]) -> list[EventT]:
        """Those of one kind since the last call; the others are forgotten."""
        return [event for event in self.events() if isinstance(event, kind)]

    @property
    def closed(self) -> bool:
        """The last command told the adapter to close."""
        return bool(self.commands) and isinstance(self.commands[-1], CloseTransport)
