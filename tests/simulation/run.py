"""One seed: draw a world, let faults and a user loose in it, then heal one server and see that all comes right."""

from __future__ import annotations

import gc
import traceback
from collections import Counter
from dataclasses import dataclass, field

from nats_proto import Connection, SessionStatus
from tests.simulation.client import Client
from tests.simulation.cluster import Cluster
from tests.simulation.faults import FAULTS, dead, plan
from tests.simulation.invariants import require
from tests.simulation.knobs import draw, limits
from tests.simulation.links import Profile
from tests.simulation.order import CLOSED, UP
from tests.simulation.server import ModelServer
from tests.simulation.transport import Transport
from tests.simulation.user import ACTIONS, User
from tests.simulation.world import Violation, World

__all__ = ["Result", "Simulation", "failure_of", "run_seed"]


@dataclass(slots=True)
class Result:
    """What came of a seed."""

    seed: int
    failure: str | None = None
    lines: list[str] = field(default_factory=list)
    fingerprint: str = ""
    steps: int = 0
    connects: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)


def failure_of(error: Exception) -> str:
    """What ended a seed, as its result says it: a broken promise by its text, anything else by where it was raised."""
    text = f"{type(error).__name__}: {error}"
    return text if isinstance(error, Violation) else text + "\n" + "".join(traceback.format_exception(error))


class Simulation:
    """One world with everything in it."""

    def __init__(self, seed: int, *, recording: bool = False) -> None:
        self.world = World(seed, recording=recording)
        self.knobs = draw(self.world.rng, ACTIONS, tuple(FAULTS))
        self.cluster = Cluster(self.world, self.knobs)
        self.clients = [Client(self.world, self.cluster, self.knobs, n) for n in range(1, self.knobs.clients + 1)]
        self.users = [User(client) for client in self.clients]
        self.healing = False
        for server in self.cluster.servers:
            server.ping_interval = self.knobs.server_ping
            server.liar = self.knobs.liars and self.world.chance(0.4)

    def user_of(self, client: Client) -> User:
        """Who uses it."""
        return self.users[client.number - 1]

    # --- phases ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All phases. Raises `Violation`, or whatever the session raises."""
        with limits(self.knobs.limits):
            if self.world.recording:
                self.world.note(f"knobs: {self.knobs}")
            self._chaos()
            survivors = [
                user for user in self.users if user.client.checks.order.state is not CLOSED and not user.closing
            ]
            for user in self.users:
                if user not in survivors:
                    self._check_end(user)
            if survivors:
                healthy = self._heal()
                for user in survivors:
                    self._come_right(user, healthy)
                for user in survivors:
                    self._end(user)

    def _chaos(self) -> None:
        world, knobs, rng = self.world, self.knobs, self.world.rng
        begin, until = world.now, world.now + knobs.seconds
        for user in self.users:
            world.after(0.5 * rng.random(), self._start, user)
            names = [name for name, weight in knobs.action_weights.items() for _ in range(weight)] or list(ACTIONS)
            for _ in range(knobs.actions):
                world.at(begin + rng.random() * knobs.seconds, user.act, rng.choice(names))
            if rng.random() < 0.08:  # the end in the middle of it all
                world.at(begin + rng.random() * knobs.seconds, rng.choice((user.drain, user.close)))
        for _ in range(knobs.outside):
            world.at(begin + rng.random() * knobs.seconds, self.cluster.publish)
        plan(self, until)
        world.run(until)

    def _start(self, user: User) -> None:
        if user.closing:
            return
        user.session.connect(now=self.world.now)
        user.client.checks.order.state = "connecting"
        user.client.pump()

    def _heal(self) -> ModelServer:
        """One server is good from now on; the others are gone for good."""
        world = self.world
        self.healing = self.knobs.healthy = True
        pools = [set(user.session.servers) for user in self.users if user.client.checks.order.state is not CLOSED]
        common = [s for s in self.cluster.servers if all(s.url in pool for pool in pools)]
        healthy = world.rng.choice(common or self.cluster.servers[:1])
        for server in self.cluster.servers:
            if server is not healthy:
                server.dial = world.rng.choice(("accept", "refuse", "hang"))
                if server.running:
                    server.crash()
        healthy.heal()
        self.cluster.hidden.clear()
        for transport in self.cluster.transports:
            while transport.up.held:
                transport.up.release()
            for pipe in (transport.up, transport.down):
                pipe.profile = Profile()
                pipe.resize(max(pipe.capacity, 4096))
            unheard = transport.client.options.ping_interval <= 0
            if dead(transport) and (unheard or world.chance(0.3)):
                transport.reset()  # nobody would ever find out
        if world.recording:
            world.note(f"healing: {healthy.url} is good from now on")
        return healthy

    def _come_right(self, user: User, healthy: ModelServer) -> None:
        world, client, session = self.world, user.client, user.session
        if client.checks.order.state is CLOSED:
            self._check_end(user)
            return
        if session.status is SessionStatus.DISCONNECTED:
            self._start(user)
        if healthy.url not in session.servers:
            return  # it had been dropped: for cause, the order of events says so
        world.run(max(world.now, client.asleep_until))
        done = world.run(world.now + self._patience(client), lambda: self._is_right(client))
        if client.checks.order.state is CLOSED:
            self._check_end(user)
            return
        if not done and healthy.url not in session.servers:
            return
        if not done:
            raise Violation(
                f"{healthy.url} is good, and after {self._patience(client):g} s the session is {session.status.name}, "
                f"{session.pending_bytes} bytes pending"
            )
        require(session.writable, "nothing is pending, and the session is not writable")
        user.readers.stopped = False
        before = world.now
        answered: list[int] = []
        while not answered:
            token = user.send("svc.echo", request=True)
            if token is None:  # it goes by an old INFO still, or writes to a connection that is dead
                require(world.now < before + 60 + self._patience(client), "a request was refused by a healthy session")
                healthy.announce()
                world.run(world.now + 1.0)
                continue
            world.run(world.now + 5.0, lambda token=token: token not in client.ledger.requests)  # type: ignore[misc]
            if token not in client.ledger.requests:
                answered.append(token)
            else:
                user.give_up(token)
            require(world.now < before + 60 + self._patience(client), "no answer from a healthy server")

    def _patience(self, client: Client) -> float:
        """Seconds within which all must be right: to notice, to wait for a round, and to walk it."""
        options = client.options
        notice = (options.max_pings_out + 1.5) * options.ping_interval + options.connect_timeout
        wait = 8 * options.reconnect_wait + options.reconnect_jitter
        if options.reconnect_delay is not None:
            wait += 400.0
        walk = (len(client.session.servers) + 1) * (options.connect_timeout + options.reconnect_jitter)
        return notice + wait + 2 * walk + 30.0

    def _is_right(self, client: Client) -> bool:
        checks = client.checks
        return checks.order.state is CLOSED or (
            checks.order.state is UP
            and not client.session.pending_bytes
            and client.transport is not None
            and client.transport.quiet
            and not client.transport.down.black_hole
        )

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self, user: User) -> None:
        client, rng = user.client, self.world.rng
        if client.checks.order.state is CLOSED:
            self._check_end(user)
            return
        was_up = client.checks.order.state is UP
        unread = max((len(sub.waiting) for sub in client.ledger.subs.values()), default=0)
        match self.knobs.ending:
            case "close":
                user.close()
            case "drain":
                was_up = self._drain(user)
            case "drain with readers gone":
                user.readers.stopped = True
                if rng.random() < 0.5:
                    self._something_unread(user)
                if rng.random() < 0.5:
                    self._lame_duck(user)
                if client.transport is not None and rng.random() < 0.3:
                    self.world.after(0.01, client.transport.reset)
                    self.world.after(0.02, user.publish)
                user.drain()
            case _:
                return
        self._check_end(user)
        closed = client.checks.order.closed
        assert closed is not None
        if self.knobs.ending == "drain" and closed.error is None:
            require(closed.unsent_msgs == 0, f"a drain that went well left {closed.unsent_msgs} publishes unwritten")
            waiting = [sub.sid for sub in client.ledger.subs.values() if sub.waiting and sub.draining]
            require(not waiting, f"a drain that went well left messages unread in {waiting}")
        # A slow reader takes up to three seconds for each message, and a few more come while the drain begins.
        quick = self.knobs.read == "eager" or (unread <= 2 and len(self.users) == 1)
        if was_up and self.knobs.ending == "drain" and quick and client.options.drain_timeout > 20:
            require(closed.error is None, f"a drain with all in order ended with {closed.error!r}")
        self.world.run(self.world.now + 1.0)

    def _drain(self, user: User) -> bool:
        """Drain with all sorts of things under way. Whether there was a connection when it began."""
        world, client, rng = self.world, user.client, self.world.rng
        transport = client.transport
        if transport is None or transport.peer is None:
            user.drain()
            return False
        if rng.random() < 0.7:
            self._something_unread(user)
        if rng.random() < 0.3:
            self._lame_duck(user)
        for _ in range(rng.randint(0, 4)):
            user.publish()
        if rng.random() < 0.5:  # the server has something to say while the drain ends
            for step in range(12):
                world.after(0.0004 * step, self._chatter, transport)
        was_up = client.transport is transport
        user.drain()
        if rng.random() < 0.5:
            transport.up.hold()
            transport.up.resize(rng.randint(1, 100))
            world.after(0.1, transport.up.resize, 4096)
            world.after(0.1, transport.up.release)
        for _ in range(rng.randint(0, 4)):
            user.publish()
            world.run(world.now + 0.002)
        return was_up

    def _something_unread(self, user: User) -> None:
        user.subscribe()
        user.subscribe()
        self.world.run(self.world.now + 0.01)
        for _ in range(3):
            self.cluster.publish()

    def _lame_duck(self, user: User) -> None:
        """The server is about to leave, and something on its way keeps the client from leaving first."""
        transport = user.client.transport
        if transport is None or transport.peer is None or len(self.users) > 1:
            return
        user.wait_in_vain(0.05)
        server = transport.peer.server
        server.lame_duck = True
        server.announce()
        self.world.run(self.world.now + 0.01)

    def _chatter(self, transport: Transport) -> None:
        if transport.peer is not None and transport.peer.open:
            transport.peer.complain("Some text nobody knows")
            self.cluster.publish()

    def _check_end(self, user: User) -> None:
        world, client = self.world, user.client
        limit = max(world.now, client.asleep_until) + client.options.drain_timeout + 2.0
        world.run(limit, lambda: client.checks.order.state is CLOSED)
        require(client.checks.order.state is CLOSED, f"it should have ended, and is {client.status}")
        world.run(world.now + 5.0)
        self._check_cause(user)

    def _check_cause(self, user: User) -> None:
        """An end that the user did not ask for needs a reason that the options allow."""
        if user.closing:
            return
        options, checks = user.client.options, user.client.checks
        allowed = (
            not options.allow_reconnect
            or options.max_reconnect_attempts >= 0
            or not checks.order.was_up  # the first walk went wrong
            or checks.order.drops > 0
            or checks.fatal
        )
        require(allowed, f"the session gave up: {checks.order.closed!r}")


def run_seed(seed: int, *, recording: bool = False, count_connections: bool = False) -> Result:
    """Run one seed, and say what came of it."""
    result = Result(seed)
    if count_connections:
        gc.collect()
        gc.disable()
    simulation = Simulation(seed, recording=recording)
    world = simulation.world
    try:
        simulation.run()
        if count_connections:
            there = sum(isinstance(thing, Connection) for thing in gc.get_objects())
            require(there <= len(simulation.clients), f"{there} connections are kept alive")
    except Exception as error:
        result.failure = failure_of(error)
        if recording:
            world.note(f"FAILED: {result.failure}")
    finally:
        if count_connections:
            gc.enable()
    result.steps = world.steps
    result.seconds = world.now - 1000.0
    result.hits = world.hits
    result.connects = sum(client.checks.order.ups for client in simulation.clients)
    if recording:
        result.lines = world.lines
        result.fingerprint = world.fingerprint()
    return result
