"""An adapter with two transports, and its user: what it does, what servers gave it, and what must have come of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from nats_proto import (
    AdoptSuccessor,
    CloseSuccessor,
    CloseTransport,
    Command,
    OpenSuccessor,
    PublishFrame,
    SessionStatus,
    SubscriptionState,
)
from nats_proto import Message as CoreMessage
from nats_proto.errors import NATSError, NATSTimeoutError
from tests.simulation.client import Client, Dial
from tests.simulation.cluster import SUBJECTS, Cluster
from tests.simulation.invariants import require
from tests.simulation.knobs import Knobs
from tests.simulation.machine_world import OrderOnly
from tests.simulation.order import CLOSED
from tests.simulation.server import Peer, ServerSub
from tests.simulation.transport import Transport
from tests.simulation.world import World

__all__ = ["DuckClient", "DuckPeer"]

PATTERNS: Final = ("a.*", "b.>", ">", ">")
QUEUES: Final = ("workers", "workers", "others", None)
SILENT: Final = {"joined": 2.0, "parting": 5.0}
"""Seconds after which a server that has not answered is given up there: what it may have given is lost."""


class DuckPeer(Peer):
    """The server's end: it tells the client's what it has given, and what it has read."""

    def _check_serial(self, frame: PublishFrame) -> None:
        client = self.transport.client
        assert isinstance(client, DuckClient)
        require(frame.data not in client.read, f"c{client.number}: {frame.data[:9]!r} was sent twice")
        client.read.add(frame.data)

    def deliver(self, sub: ServerSub, subject: str, data: bytes, reply: str | None, block: bytes | None) -> None:
        super().deliver(sub, subject, data, reply, block)
        client = self.transport.client
        assert isinstance(client, DuckClient)
        told = sub.max_msgs is not None or not self.transport.up.buffer
        client.given.append(_Given(self.world.now, self.transport, sub.sid, data, self.transport.sent, told))


@dataclass(frozen=True, slots=True)
class _Given:
    """A server gave this message."""

    at: float
    transport: Transport
    sid: int
    data: bytes
    end: int
    """How many bytes it has sent then."""
    told: bool
    """It has read all that was written to it, or at least a maximum, which is the next line behind a subscription."""


@dataclass(slots=True, eq=False)
class _Sub:
    """One subscription, and what was read from it."""

    state: SubscriptionState[CoreMessage]
    seen: set[bytes] = field(default_factory=set)
    limited_at: float = 0.0
    """When the maximum was set."""
    left_at: float | None = None
    """When its user ended it, and dropped what was not read."""


class DuckClient(Client):
    """An adapter with a second transport, and a user who subscribes, reads and drains."""

    two_transports = True

    def __init__(self, world: World, cluster: Cluster, knobs: Knobs, number: int) -> None:
        super().__init__(world, cluster, knobs, number)
        self.checks = OrderOnly(self)  # type: ignore[assignment]
        self.given: list[_Given] = []
        """What servers gave, in order."""
        self.published: list[bytes] = []
        self.read: set[bytes] = set()
        """What servers have read of that."""
        self.died: dict[Transport, float] = {}
        """When this side closed transports that the other one, or the network, had ended."""
        self.gone_back: set[Transport] = set()
        """Those of successors that were lost before the old server was told goodbye: that one has all there is."""
        self.subs: dict[int, _Sub] = {}
        self.drained = False
        self.drained_at = 0.0
        self.closed = False
        self._told: NATSError | None = None
        """The error that the end came with."""
        self.next_dial: Dial | None = None
        self.next: Transport | None = None
        """That of the successor."""
        self._next_unwritten = b""
        self._adopts_at: float | None = None
        """When the successor's transport is to be the client's; None: it is not."""
        self.on_messages = self._messages
        self.plans: dict[str, list[Callable[[], None]]] = {}
        """What is to be done when the successor has come to a stage."""
        self._stage = ""
        self._stage_since = 0.0

    def pump(self) -> None:
        """As every adapter; then see how far the successor is."""
        if self.asleep:
            return  # `sleep` sees to it
        super().pump()
        stage, self._stage = self._stage, self._next_stage()
        if stage != self._stage:
            rng = self.world.rng
            self._stage_since = self.world.now
            for action in self.plans.pop(self._stage, ()):
                self.world.after(rng.choice((0.0, 0.0, 0.05, 0.6)) * rng.random(), self.awake, action)

    def awake(self, action: Callable[[], None]) -> None:
        """Do it, now or when the process goes on."""
        if self.asleep:
            self.world.at(self.asleep_until, self.awake, action)
        else:
            action()

    # --- the second transport ----------------------------------------------------------------------------------------

    def _run(self, command: Command) -> None:
        match command:
            case OpenSuccessor(server=server, deadline=deadline):
                require(self.next is None and self.transport is not None, "a successor was asked for at the wrong time")
                self.next_dial = Dial(self, server, self.world.now, deadline, begun=True)
                self.cluster.dial(self, self.next_dial, server)
            case CloseSuccessor():
                require(self.next_dial is not None or self.next is not None, "there is no successor to be closed")
                if self.next is not None and self._stage == "joined":
                    self.gone_back.add(self.next)
                self._forget_next(close=True)
            case AdoptSuccessor():
                require(self.next is not None, "there is no successor to be adopted")
                self._close_old()
                self._adopts_at = self.world.now + self.world.rng.choice((0.0, 0.0, 0.01, 0.1))
                self.world.at(self._adopts_at, self.pump)
            case CloseTransport():
                if self.transport is not None:
                    self._leave(self.transport)
                super()._run(command)
                return
            case _:
                super()._run(command)
                return
        if self.world.recording:
            self.world.note(f"c{self.number}: {command!r}")

    def _forget_next(self, *, close: bool) -> None:
        transport, self.next, self.next_dial, self._adopts_at = self.next, None, None, None
        self._next_unwritten = b""
        if transport is not None and close:
            self._leave(transport)
            transport.close_by_client()

    def _close_old(self) -> None:
        transport, self.transport = self.transport, None
        self.unwritten = b""
        if transport is not None:
            self._leave(transport)
            transport.close_by_client()

    def _leave(self, transport: Transport) -> None:
        """This side is about to close it."""
        silent = self.world.now - self._stage_since >= SILENT.get(self._stage, inf)
        if silent or transport.peer is None or transport.down.closed or transport.down.ending:
            self.died.setdefault(transport, self.world.now)

    def _write(self) -> bool:
        return super()._write() or self._write_next()

    def _write_next(self) -> bool:
        successor, transport = self.session.successor, self.next
        if successor is None or transport is None:
            return False
        if not self._next_unwritten:
            self._next_unwritten = b"".join(successor.data_to_send())
        if self._next_unwritten:
            taken = transport.up.write(self._next_unwritten)
            if self.world.recording and taken:
                self.world.note(f"c{self.number} > {transport.number}: {self._next_unwritten[:taken]!r}")
            self._next_unwritten = self._next_unwritten[taken:]
            successor.data_sent(taken)
            return taken > 0
        if self._adopts_at is not None and self._adopts_at <= self.world.now:
            if self.unreported:
                self._report()
            self.transport = transport
            self._forget_next(close=False)
            self.session.transport_adopted(now=self.world.now)
            return True
        return False

    def dial_refused(self, dial: Dial) -> None:
        if dial is not self.next_dial:
            super().dial_refused(dial)
            return
        if self.asleep:
            self.world.at(self.asleep_until, self.dial_refused, dial)
            return
        assert self.session.successor is not None
        self.session.successor.transport_failed(ConnectionRefusedError("refused"), now=self.world.now)
        self.pump()

    def dial_succeeded(self, dial: Dial, transport: Transport) -> None:
        if dial is not self.next_dial:
            super().dial_succeeded(dial, transport)
            return
        if self.asleep:
            transport.down.hold()
            self.world.at(self.asleep_until, self._woke_with, dial, transport)
            return
        assert self.session.successor is not None
        self.next = transport
        self.session.successor.transport_connected(now=self.world.now)
        self.pump()

    def arrived(self, transport: Transport, data: bytes) -> None:
        if transport is not self.next:
            super().arrived(transport, data)
            return
        if self.world.recording:
            self.world.note(f"c{self.number} < {transport.number}: {data!r}")
        assert self.session.successor is not None
        transport.fed += len(data)
        while transport.marks and transport.marks[0].offset <= transport.fed:
            transport.open |= transport.marks.popleft().kind == "pong"
        self.session.successor.receive_data(data, now=self.world.now)
        self.pump()

    def ended(self, transport: Transport, error: Exception | None) -> None:
        if transport is not self.next:
            super().ended(transport, error)
            return
        if self.asleep:
            self.world.at(self.asleep_until, self.ended, transport, error)
            return
        assert self.session.successor is not None
        if error is None:
            self.session.successor.receive_eof(now=self.world.now)
        else:
            self.session.successor.transport_lost(error, now=self.world.now)
        self.pump()
        require(self.next is not transport, "the successor's transport ended, and the session kept it")

    def room(self, transport: Transport) -> None:
        if transport is self.next:
            self.pump()
        else:
            super().room(transport)

    # --- its user ----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        self.session.connect(now=self.world.now)
        self.checks.order.state = "connecting"
        self.pump()

    def subscribe(self) -> None:
        """One more: three of four are members of a group, and one of four has a maximum."""
        if self.drained:
            return
        rng = self.world.rng
        most = rng.randint(1, 60) if rng.random() < 0.25 else None
        state = self.session.subscribe(rng.choice(PATTERNS), queue=rng.choice(QUEUES), max_msgs=most)
        self.subs[state.sid] = _Sub(state)
        self.pump()

    def publish(self) -> None:
        """One message, or more than the network takes at once."""
        rng = self.world.rng
        for _ in range(rng.choice((1, 1, 6, 12))):
            data = b"p%d.%d;" % (self.number, len(self.published)) + b"." * rng.choice((0, 100, 1500))
            try:
                self.session.publish(rng.choice(SUBJECTS), data)
            except NATSError:
                return
            self.published.append(data)
        self.pump()

    def limit_some(self) -> None:
        """Some subscriptions get a maximum."""
        for sub in self._some_subs():
            if sub.state.max_msgs is None:
                sub.limited_at = self.world.now
                self.session.unsubscribe(sub.state, max_msgs=sub.state.received + self.world.rng.randint(1, 30))
        self.pump()

    def leave_some(self) -> None:
        """Some subscriptions are ended, and what was not read is dropped."""
        for sub in self._some_subs():
            sub.left_at = self.world.now
            self.session.unsubscribe(sub.state)
        self.pump()

    def _some_subs(self) -> list[_Sub]:
        if self.checks.order.state is CLOSED:
            return []
        return [sub for sub in self.subs.values() if not sub.state.closed and self.world.rng.random() < 0.6]

    def drain_some(self, *, cut: bool = False) -> None:
        """Some subscriptions. ``cut``: the network ends the connection soon after that."""
        if self.drained:
            return
        for sub in self._some_subs():
            self.session.drain_subscription(sub.state, now=self.world.now)
        if cut:
            self.world.after(0.02 * self.world.rng.random(), self.cut, self.transport)
        self.pump()

    def drain(self, *, cut: bool = False) -> None:
        """All of it. ``cut``: the network ends one of the connections soon after that."""
        if cut:
            transport = self.world.rng.choice((self.transport, self.next))
            self.world.after(0.02 * self.world.rng.random(), self.cut, transport)
        if not self.drained and self.checks.order.state is not CLOSED:
            self.drained = True
            self.drained_at = self.world.now
            self.session.drain(now=self.world.now)
            self.pump()

    def close(self) -> None:
        """End, without the rest."""
        if not self.drained and self.checks.order.state is not CLOSED:
            self.drained = self.closed = True
            self.session.close(now=self.world.now)
            self.pump()

    def reconnect(self) -> None:
        """As a user in a hurry."""
        if not self.drained and self.checks.order.state is not CLOSED:
            if self.transport is not None:
                self.died.setdefault(self.transport, self.world.now)  # by the user's wish
            self.session.reconnect(now=self.world.now)
            self.pump()

    def stop(self) -> None:
        """The process is stopped for a while."""
        if self.checks.order.state is not CLOSED:
            self.sleep(1.5 * self.world.rng.random())
            if self.next is not None:
                self.next.down.hold()
                self.world.at(self.asleep_until, self.next.down.release)

    def cut_both(self) -> None:
        """The network ends both connections, the old one a moment before the new."""
        self.cut(self.transport)
        self.world.after(0.02 * self.world.rng.random(), lambda: self.cut(self.next))

    def cut(self, transport: Transport | None) -> None:
        """The network ends a connection."""
        if transport is not None:
            transport.reset()

    def _messages(self, sid: int) -> None:
        self.world.after(self.world.rng.choice((0.0, 0.0, 0.03)), self._read, sid)

    def _read(self, sid: int) -> None:
        sub = self.subs[sid]
        for message in sub.state.take(1000):
            data = message.data
            require(data not in sub.seen, f"c{self.number}, sid {sid}: {data[:9]!r} was given twice")
            sub.seen.add(data)
        self.session.subscription_progress(now=self.world.now)
        self.pump()

    @property
    def _soon(self) -> float:
        """Seconds after which every server must have heard of something."""
        knobs = self.knobs
        backlog, pause = (1.5 if min(knobs.capacities) < 1 << 20 else 0.0), (2.0 if self._slept else 0.0)
        goodbye = 0.2 + 2 * knobs.report_delay  # for as long the new server may not be told
        return 6 * max(knobs.latency) + backlog + pause + goodbye

    # --- what must have come of it -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Both sides are compared, when all is over."""
        closed = self.checks.order.closed
        require(closed is not None, f"c{self.number} should have ended, and is {self.status}")
        assert closed is not None
        self._told = closed.error
        if self.closed:
            return
        require(not isinstance(closed.error, NATSTimeoutError), f"c{self.number}: {closed.error}")
        for sid, sub in self.subs.items():
            self._check_given(sid, sub)
        if closed.error is None:
            # What was not sent, as far as the session knows, may have been read: reports of what was written come late.
            lost = [data for data in self.published if data not in self.read]
            excused = bool(self.died) and not closed.unsent_msgs
            require(excused or not lost, f"c{self.number}: nobody has read {len(lost)} published messages")

    def _check_given(self, sid: int, sub: _Sub) -> None:
        """What servers gave to a subscription was read."""
        most = sub.state.max_msgs
        require(most is None or len(sub.seen) <= most, f"c{self.number}, sid {sid}: more than {most} were given")
        if sub.left_at is not None:
            late = [given for given in self.given if given.sid == sid and given.at > sub.left_at + self._soon]
            require(not late, f"c{self.number}, sid {sid}: {len(late)} were given to what was left long before")
            return
        if most is not None and sub.state.queue is None:
            return  # what is more than the maximum was given to others as well
        since = sub.limited_at + self._soon if sub.limited_at else 0.0
        copies: dict[bytes, list[_Given]] = {}
        for given in self.given:
            if given.sid == sid and given.at >= since and (given.told or most is None) and given.data not in sub.seen:
                copies.setdefault(given.data, []).append(given)
        lost = [
            f"{given[0].data[:9]!r} of transport {given[0].transport.number}"
            for given in copies.values()
            if self._is_lost(given, sub)
        ]
        kind = f"sid {sid} ({sub.state.queue or 'no group'}{', with a maximum' if most is not None else ''})"
        end = "" if self._told is None else f", which was told of {type(self._told).__name__},"
        require(
            not lost, f"c{self.number}{end} has lost {', '.join(lost[:3])} and {max(0, len(lost) - 3)} more of {kind}"
        )

    def _is_lost(self, copies: list[_Given], sub: _Sub) -> bool:
        """Whether a message that was not read, and came so often, should have been.

        Where the connection died it need not, unless that was in a drain which did not say so. (Of what is not for
        members of groups there are copies, so that nobody need be told.)
        """
        if sub.state.queue is None:
            copies = [given for given in copies if given.transport not in self.gone_back]
        alive = [given for given in copies if given.transport not in self.died]
        if alive or (copies and all(given.end <= given.transport.fed for given in copies)):
            return True
        silent = self._told is None and sub.state.queue is not None
        return silent and any(self.died[given.transport] > self.drained_at for given in copies)

    def _next_stage(self) -> str:
        successor = self.session.successor
        if successor is None:
            return ""
        if self._adopts_at is not None:
            return "alone" if self.session.status is SessionStatus.RECONNECTING else "to be adopted"
        if successor.parting:
            return "parting"
        return "joined" if successor.joined else "lingering" if successor.overlap is not None else "on its way"
