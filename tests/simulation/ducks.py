"""The simulated world for lame ducks: clients that keep two transports, and what servers give to members of groups.

Theory of operation
-------------------
The world of sessions has adapters with one transport, and checks every byte of it. Here an adapter has a second one for
the successor, and one promise is looked at: a message that a server gave to a member of a queue group is given to
nobody else, so it is read, unless its connection died, or the user was told that the drain has lost its connection. The
servers become lame ducks; while two servers deliver to them, clients drain subscriptions, or all, or one of the two
connections is cut. At the end all drain, and what each server has given is compared with what was read. No message is
read twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nats_proto import (
    AdoptSuccessor,
    CloseSuccessor,
    CloseTransport,
    Command,
    ConnectOptions,
    OpenSuccessor,
    PublishFrame,
    Session,
    SubscriptionState,
)
from nats_proto import Message as CoreMessage
from tests.simulation.client import Client, Dial
from tests.simulation.cluster import Cluster
from tests.simulation.invariants import require
from tests.simulation.knobs import Knobs
from tests.simulation.machine_world import OrderOnly
from tests.simulation.order import CLOSED
from tests.simulation.run import Result
from tests.simulation.server import ModelServer, Peer, ServerSub
from tests.simulation.transport import Transport
from tests.simulation.world import Violation, World

__all__ = ["DuckSimulation", "run_duck_seed"]

PATTERNS: Final = ("a.*", "b.>", ">", ">")
QUEUES: Final = ("workers", "workers", "others", None)
AFTER: Final = (0.003, 0.02, 0.1, 0.5, 1.5)
"""Seconds after a server has become a lame duck within which something else happens: a round trip to the whole way."""


class _Peer(Peer):
    """The server's end: it tells the client's what it has given to members of groups."""

    def _check_serial(self, frame: PublishFrame) -> None:
        pass

    def deliver(self, sub: ServerSub, subject: str, data: bytes, reply: str | None, block: bytes | None) -> None:
        super().deliver(sub, subject, data, reply, block)
        client = self.transport.client
        assert isinstance(client, DuckClient)
        if sub.queue is not None:
            client.given.append((self.transport, sub.sid, data))


class _Server(ModelServer):
    peer_type = _Peer


class _Cluster(Cluster):
    server_type = _Server


@dataclass(slots=True, eq=False)
class _Sub:
    """One subscription, and what was read from it."""

    state: SubscriptionState[CoreMessage]
    seen: set[bytes] = field(default_factory=set)


class DuckClient(Client):
    """An adapter with a second transport, and a user who subscribes, reads and drains."""

    two_transports = True

    def __init__(self, world: World, cluster: Cluster, knobs: Knobs, number: int) -> None:
        super().__init__(world, cluster, knobs, number)
        self.checks = OrderOnly(self)  # type: ignore[assignment]
        self.given: list[tuple[Transport, int, bytes]] = []
        """What servers gave to members of groups here: on which transport, to which sid, what."""
        self.died: set[Transport] = set()
        """Transports that this side closed when the other one, or the network, had ended them."""
        self.subs: dict[int, _Sub] = {}
        self.drained = False
        self.next_dial: Dial | None = None
        self.next: Transport | None = None
        """That of the successor."""
        self._next_unwritten = b""
        self._to_adopt = False
        self.on_messages = self._messages
        self.plans: dict[str, list[Callable[[], None]]] = {}
        """What is to be done when the successor has come to a stage."""
        self._stage = ""

    def pump(self) -> None:
        """As every adapter; then see how far the successor is."""
        super().pump()
        stage, self._stage = self._stage, _stage(self.session)
        if stage != self._stage:
            for action in self.plans.pop(self._stage, ()):
                self.world.after(0.1 * self.world.rng.random() ** 2, action)

    # --- the second transport ----------------------------------------------------------------------------------------

    def _run(self, command: Command) -> None:
        match command:
            case OpenSuccessor(server=server, deadline=deadline):
                require(self.next is None and self.transport is not None, "a successor was asked for at the wrong time")
                self.next_dial = Dial(self, server, self.world.now, deadline, begun=True)
                self.cluster.dial(self, self.next_dial, server)
            case CloseSuccessor():
                require(self.next_dial is not None or self.next is not None, "there is no successor to be closed")
                self._forget_next(close=True)
            case AdoptSuccessor():
                require(self.next is not None, "there is no successor to be adopted")
                self._to_adopt = True
                self._close_old()
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
        transport, self.next, self.next_dial, self._to_adopt = self.next, None, None, False
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
        if transport.peer is None or transport.down.closed or transport.down.ending:
            self.died.add(transport)

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
        if self._to_adopt:
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
        assert self.session.successor is not None
        self.session.successor.transport_failed(ConnectionRefusedError("refused"), now=self.world.now)
        self.pump()

    def dial_succeeded(self, dial: Dial, transport: Transport) -> None:
        if dial is not self.next_dial:
            super().dial_succeeded(dial, transport)
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
        """One more: three of four are members of a group."""
        if self.drained:
            return
        rng = self.world.rng
        state = self.session.subscribe(rng.choice(PATTERNS), queue=rng.choice(QUEUES))
        self.subs[state.sid] = _Sub(state)
        self.pump()

    def drain_some(self, *, cut: bool = False) -> None:
        """Some subscriptions. ``cut``: the network ends the connection soon after that."""
        if self.drained:
            return
        rng = self.world.rng
        for sub in self.subs.values():
            if not sub.state.closed and rng.random() < 0.6:
                self.session.drain_subscription(sub.state, now=self.world.now)
        if cut:
            self.world.after(0.02 * rng.random(), self.cut, self.transport)
        self.pump()

    def drain(self) -> None:
        """All of it."""
        if not self.drained and self.checks.order.state is not CLOSED:
            self.drained = True
            self.session.drain(now=self.world.now)
            self.pump()

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

    def check_given(self) -> None:
        """What servers gave to members of groups was read."""
        closed = self.checks.order.closed
        require(closed is not None, f"c{self.number} should have ended, and is {self.status}")
        if closed is None or closed.error is not None:
            return  # the user was told
        lost = [
            f"{data[:9]!r} of transport {transport.number} for sid {sid}"
            for transport, sid, data in self.given
            if data not in self.subs[sid].seen and transport not in self.died
        ]
        require(not lost, f"c{self.number} has lost {', '.join(lost[:3])} and {max(0, len(lost) - 3)} more")


def _stage(session: Session[CoreMessage]) -> str:
    successor = session.successor
    if successor is None:
        return ""
    if successor.parting:
        return "parting"
    return "joined" if successor.joined else "lingering" if successor.overlap is not None else "on its way"


def server_of(transport: Transport | None) -> ModelServer | None:
    """Where it leads to."""
    return None if transport is None or transport.peer is None else transport.peer.server


class DuckSimulation:
    """One world with everything in it."""

    def __init__(self, seed: int, *, recording: bool = False) -> None:
        self.world = World(seed, recording=recording)
        rng = self.world.rng
        servers = rng.choice((2, 2, 3))
        self.knobs = Knobs(
            ConnectOptions(reconnect_jitter=rng.choice((0.0, 0.0, 0.1)), reconnect_wait=0.2, randomize_servers=True),
            servers=servers,
            explicit=servers,
            late_bytes=False,
            report_delay=rng.choice((0.0, 0.0, 0.0005)),
            latency=rng.choice(((0.001, 0.02), (0.001, 0.1), (0.02, 0.1))),
            splits=("whole", rng.choice(("mixed", "halves", "tiny"))),
            capacities=rng.choice(((1 << 20,), (1 << 20, 4096))),
        )
        self.cluster = _Cluster(self.world, self.knobs)
        self.clients = [DuckClient(self.world, self.cluster, self.knobs, n) for n in range(1, rng.choice((2, 3, 4)))]

    def run(self) -> None:
        """All of it. Raises `Violation`, or whatever the session raises."""
        world, rng = self.world, self.world.rng
        for client in self.clients:
            client.connect()
            for _ in range(rng.randint(1, 4)):
                client.subscribe()
        world.run(world.now + 1.0)
        for _ in range(rng.choice((1, 1, 2))):
            self._lame_duck()
            world.run(world.now + rng.choice((0.7, 2.0)))
        for client in self.clients:
            client.drain()
        self._publish(1.0)
        world.run(world.now + 60.0)
        for client in self.clients:
            client.check_given()

    def _lame_duck(self) -> None:
        world, rng = self.world, self.world.rng
        self._becomes_one(rng.choice([server for server in self.cluster.servers if server.peers] or [None]))
        self._publish(1.2)
        for client in self.clients:
            for _ in range(rng.randint(0, 2)):
                action = self._action(client)
                if rng.random() < 0.3:
                    world.after(rng.choice(AFTER) * rng.random(), action)
                else:
                    client.plans.setdefault(rng.choice(("joined", "parting", "lingering")), []).append(action)

    def _action(self, client: DuckClient) -> Callable[[], None]:
        rng = self.world.rng
        return rng.choice(
            (
                client.drain,
                client.drain,
                client.drain_some,
                client.drain_some,
                lambda: client.drain_some(cut=True),
                client.subscribe,
                lambda: client.cut(client.transport),
                lambda: client.cut(client.next),
                lambda: self._becomes_one(server_of(client.next or client.transport)),
            )
        )

    def _becomes_one(self, server: ModelServer | None) -> None:
        if server is None or server.lame_duck:
            return
        world, rng = self.world, self.world.rng
        if world.recording:
            world.note(f"{server.url} becomes a lame duck")
        server.lame_duck = True
        server.announce()
        world.after(rng.choice((0.05, 0.5, 1.0, 10.0, 10.0)), self._close, server)

    def _publish(self, seconds: float) -> None:
        world, rng = self.world, self.world.rng
        for _ in range(rng.choice((100, 200, 400))):
            world.after(seconds * rng.random(), self.cluster.publish)

    def _close(self, server: ModelServer) -> None:
        """A lame duck ends, and comes back as a server like any other."""
        for peer in list(server.peers):
            peer.close()
        server.restart()

    @property
    def moves(self) -> int:
        """How often a client came to a server."""
        return sum(client.checks.order.ups for client in self.clients)


def run_duck_seed(seed: int, *, recording: bool = False) -> Result:
    """Run one seed, and say what came of it."""
    result = Result(seed)
    simulation = DuckSimulation(seed, recording=recording)
    world = simulation.world
    try:
        simulation.run()
    except Exception as error:
        result.failure = f"{type(error).__name__}: {error}"
        if not isinstance(error, Violation):
            import traceback

            result.failure += "\n" + "".join(traceback.format_exception(error))
        if recording:
            world.note(f"FAILED: {result.failure}")
    result.steps = world.steps
    result.connects = simulation.moves
    if recording:
        result.lines = world.lines
        result.fingerprint = world.fingerprint()
    return result
