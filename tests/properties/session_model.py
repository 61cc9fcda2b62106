"""What a session is compared with: a server by direct calls, and a ledger of what was promised and what came of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from nats_proto import (
    ConnectFrame,
    Parser,
    PingFrame,
    PongFrame,
    PublishFrame,
    Role,
    SubscribeFrame,
    UnsubscribeFrame,
)


@dataclass
class Ledger:
    """Every publish has a number, which is also the beginning of its payload."""

    accepted: list[int] = field(default_factory=list)
    handed_over: list[int] = field(default_factory=list)
    requested: set[int] = field(default_factory=set)
    """Those that are requests."""
    given_up: set[int] = field(default_factory=set)
    """Requests that nobody waited for when there was another connection: these are not sent."""
    reply_subjects: dict[int, str] = field(default_factory=dict)
    """Of the requests that a server has read, by their numbers."""
    answered: set[int] = field(default_factory=set)

    def next_payload(self, size: int) -> bytes:
        """The payload of a publish about to be made."""
        return b"%d:" % (len(self.accepted) + 1) + b"x" * size

    def accept(self) -> int:
        """The session took it."""
        self.accepted.append(len(self.accepted) + 1)
        return self.accepted[-1]

    def hand_over(self, frame: PublishFrame) -> None:
        """A transport accepted it whole."""
        number = int(frame.data.partition(b":")[0])
        self.handed_over.append(number)
        if frame.reply is not None:
            self.reply_subjects[number] = frame.reply

    def connection_made(self, awaited: Collection[int]) -> None:
        """There is another connection, and these requests are waited for."""
        self.given_up |= self.requested - set(awaited) - set(self.handed_over)

    @property
    def to_be_sent(self) -> list[int]:
        """All that was accepted, but for what was given up."""
        return [number for number in self.accepted if number not in self.given_up]

    def check(self) -> None:
        """None twice, none skipped, none out of order."""
        assert self.handed_over == self.to_be_sent[: len(self.handed_over)]


@dataclass
class ServerSub:
    """A subscription as a server keeps it."""

    subject: str
    queue: str | None
    max_msgs: int | None = None
    delivered: int = 0

    @property
    def remaining(self) -> int | None:
        return None if self.max_msgs is None else self.max_msgs - self.delivered


class ModelServer:
    """One connection as its server sees it. Reads at once whatever the transport accepts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._parser = Parser(Role.SERVER)
        self.greeted = False
        """INFO was sent."""
        self.connected = False
        """CONNECT was read."""
        self.opened = False
        """The PONG that ends the handshake was sent."""
        self.subs: dict[int, ServerSub] = {}
        self.pings = 0
        """PINGs read and not answered."""

    def read(self, data: bytes) -> None:
        """The client's bytes."""
        for frame in self._parser.receive_data(data):
            match frame:
                case ConnectFrame():
                    assert self.greeted
                    assert not self.connected
                    self.connected = True
                case PingFrame():
                    assert self.connected
                    self.pings += 1
                case PongFrame():
                    assert self.opened
                case SubscribeFrame(subject=subject, queue=queue, sid=sid):
                    assert self.opened, "SUB before the handshake was done"
                    assert sid not in self.subs, "subscribed twice"
                    self.subs[sid] = ServerSub(subject, queue)
                case UnsubscribeFrame(sid=sid, max_msgs=max_msgs):
                    assert self.opened, "UNSUB before the handshake was done"
                    self._unsubscribe(sid, max_msgs)
                case PublishFrame():
                    assert self.opened, "PUB before the handshake was done"
                    self._ledger.hand_over(frame)
                case _:
                    raise AssertionError(frame)
        assert self._parser.error is None

    def _unsubscribe(self, sid: int, max_msgs: int | None) -> None:
        sub = self.subs.get(sid)
        if sub is not None:
            sub.max_msgs = max_msgs
            if max_msgs is None or sub.delivered >= max_msgs:
                del self.subs[sid]

    def deliver(self, sid: int, count: int) -> int:
        """How many of ``count`` messages the server sends to a subscription."""
        sub = self.subs[sid]
        if sub.remaining is not None:
            count = min(count, sub.remaining)
        sub.delivered += count
        if sub.remaining == 0:
            del self.subs[sid]
        return count


@dataclass
class ModelSub:
    """A subscription as its user expects it."""

    subject: str
    queue: str | None
    max_msgs: int | None
    limit: int
    received: int = 0
    dropped: int = 0
    read: int = 0
    queued: list[bytes] = field(default_factory=list)
    draining: bool = False
    closed: bool = False

    def receive(self, data: bytes) -> bool:
        """A message arrives: whether the subscription was there to take it."""
        if self.closed:
            return False
        self.received += 1
        if self.limit and len(self.queued) >= self.limit:
            self.dropped += 1
        else:
            self.queued.append(data)
        if self.max_msgs is not None and self.received >= self.max_msgs:
            self.closed = True
        return True

    @property
    def remaining(self) -> int | None:
        return None if self.max_msgs is None else self.max_msgs - self.received
