"""The simulated world for lame ducks: clients that keep two transports, and what servers give to members of groups.

Theory of operation
-------------------
The world of sessions has adapters with one transport, and checks every byte of it. Here an adapter has a second one for
the successor, and three promises are looked at:

* What a server gave is read once, unless its connection died. Members of queue groups need that most: what is given to
  one of them is given to nobody else. It holds as well where the user was told that a drain has lost its connection:
  what other connections have given is read all the same.
* A maximum is never exceeded, and a member with one is given no more than that by all servers together. One that is set
  later, or the end of a subscription, holds as soon as every server must have heard of it.
* What the user publishes is read by one server once, unless a connection died with it.

The servers become lame ducks. While two servers deliver to them, clients subscribe, publish, set maxima, drain
subscriptions, or all, or close, or one of the two connections is cut; at a moment that is drawn, or when the session
has come to a certain stage. At the end all drain, and both sides are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nats_proto import ConnectOptions
from tests.simulation.cluster import Cluster
from tests.simulation.duck_client import DuckClient, DuckPeer
from tests.simulation.knobs import Knobs
from tests.simulation.run import Result, failure_of
from tests.simulation.server import ModelServer
from tests.simulation.transport import Transport
from tests.simulation.world import World

__all__ = ["DuckSimulation", "run_duck_seed"]

AFTER: Final = (0.003, 0.02, 0.1, 0.5, 1.5)
"""Seconds after a server has become a lame duck within which something else happens: a round trip to the whole way."""
STAGES: Final = ("joined", "parting", "to be adopted", "alone", "lingering")
"""Of a succession, as `DuckClient` tells them."""


class _Server(ModelServer):
    peer_type = DuckPeer


class _Cluster(Cluster):
    server_type = _Server


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
            report_delay=rng.choice((0.0, 0.0, 0.0005, 0.05)),
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
            for _ in range(rng.randint(0, 4)):
                client.subscribe()
        world.run(world.now + 1.0)
        for _ in range(rng.choice((1, 1, 2))):
            self._lame_duck()
            world.run(world.now + rng.choice((0.7, 2.0)))
        if rng.random() < 0.3:  # long enough to see what is still given to what was left
            self._publish(4.0)
            world.run(world.now + 4.0)
        for client in self.clients:
            client.awake(client.drain)
        self._publish(1.0)
        world.run(world.now + 60.0)
        for client in self.clients:
            client.check()

    def _lame_duck(self) -> None:
        world, rng = self.world, self.world.rng
        self._becomes_one(rng.choice([server for server in self.cluster.servers if server.peers] or [None]))
        self._publish(1.2)
        for client in self.clients:
            for _ in range(rng.choice((0, 0, 20))):
                world.after(1.2 * rng.random(), client.awake, client.publish)
            for _ in range(rng.randint(0, 3)):
                action = self._action(client)
                if rng.random() < 0.3:
                    world.after(rng.choice(AFTER) * rng.random(), client.awake, action)
                else:
                    client.plans.setdefault(rng.choice(STAGES), []).append(action)

    def _action(self, client: DuckClient) -> Callable[[], None]:
        rng = self.world.rng
        return rng.choice(
            (
                client.drain,
                client.drain,
                lambda: client.drain(cut=True),
                client.drain_some,
                client.drain_some,
                lambda: client.drain_some(cut=True),
                client.cut_both,
                client.subscribe,
                client.subscribe,
                client.limit_some,
                client.limit_some,
                client.leave_some,
                client.close,
                client.reconnect,
                client.stop,
                client.stop,
                lambda: client.cut(client.transport),
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
        result.failure = failure_of(error)
        if recording:
            world.note(f"FAILED: {result.failure}")
    result.steps = world.steps
    result.connects = simulation.moves
    if recording:
        result.lines = world.lines
        result.fingerprint = world.fingerprint()
    return result
