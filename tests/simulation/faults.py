"""The menu of faults. Each is a function of the simulation; `plan` spreads them over time, a quarter of it calm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.faults.hostile_inputs import Moment
from tests.simulation.hostile import KEPT_ERRORS, LETHAL_ERRORS, lies
from tests.simulation.server import ModelServer, Peer
from tests.simulation.transport import Transport

if TYPE_CHECKING:
    from tests.simulation.client import Client
    from tests.simulation.run import Simulation

__all__ = ["FAULTS", "plan"]

Fault = Callable[["Simulation", "Client"], bool]
FAULTS: Final[dict[str, Fault]] = {}
CALM: Final = 0.25


def plan(sim: Simulation, until: float) -> None:
    """Draw the windows and what happens in each."""
    rng, knobs = sim.world.rng, sim.knobs
    length = (until - sim.world.now) / knobs.windows
    names = [name for name, weight in knobs.fault_weights.items() for _ in range(weight)] or list(FAULTS)
    for window in range(knobs.windows):
        if rng.random() < CALM:
            continue
        begin = sim.world.now + window * length
        for _ in range(rng.choice((1, 1, 2, 3))):
            sim.world.at(begin + rng.random() * length, strike, sim, rng.choice(names))


def strike(sim: Simulation, name: str) -> None:
    """One fault happens to one client, if there is something that it can happen to."""
    if sim.healing:
        return
    client = sim.world.rng.choice(sim.clients)
    status = client.status
    if sim.world.recording:
        sim.world.note(f"fault: {name}")
    if FAULTS[name](sim, client):
        sim.world.hits[name, status] += 1


def fault(name: str) -> Callable[[Fault], Fault]:
    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


def _server(sim: Simulation, client: Client) -> ModelServer:
    """Most often the one that it is connected to."""
    transport = client.transport
    if transport is not None and transport.peer is not None and sim.world.chance(0.7):
        return transport.peer.server
    return sim.world.rng.choice(sim.cluster.servers)


def _peer(client: Client) -> Peer | None:
    transport = client.transport
    return transport.peer if transport is not None and transport.peer is not None and transport.peer.alive else None


def _later(sim: Simulation, action: Callable[[], object], shortest: float = 0.05) -> None:
    rng = sim.world.rng
    sim.world.after(rng.choice((shortest, 0.5, 3.0, 10.0)) * (0.5 + rng.random()), action)


# --- the network -----------------------------------------------------------------------------------------------------


@fault("cut by FIN")
def _fin(sim: Simulation, client: Client) -> bool:
    peer = _peer(client)
    if peer is not None:
        peer.close()
    return peer is not None


@fault("cut by reset")
def _reset(sim: Simulation, client: Client) -> bool:
    transport = client.transport
    if transport is not None:
        transport.reset()
    return transport is not None


@fault("cut while bytes wait")
def _cut_busy(sim: Simulation, client: Client) -> bool:
    """Narrow the way out, let the user publish, and cut in the middle of an operation, maybe of one that is refused."""
    transport = client.transport
    if transport is None or client.asleep:
        return False
    transport.up.resize(sim.world.rng.randint(1, 30))
    transport.up.hold()
    for _ in range(sim.world.rng.randint(1, 4)):
        sim.user_of(client).publish()
    peer = transport.peer
    if peer is not None and peer.open and sim.world.chance(0.3):
        server = peer.server
        server.account_payload = 30
        peer.tell_info()
        _later(sim, lambda: setattr(server, "account_payload", 0))
    sim.world.after(0.01 * sim.world.rng.random(), transport.reset)
    return True


@fault("cut and less allowed")
def _cut_and_less(sim: Simulation, client: Client) -> bool:
    """What is published in the outage is too large for whoever is next."""
    transport = client.transport
    if transport is None or client.asleep:
        return False
    servers = sim.cluster.servers
    for server in servers:
        server.max_payload = sim.world.rng.choice((30, 200))
    _later(sim, lambda: [setattr(server, "max_payload", 1 << 20) for server in servers])
    transport.reset()
    user = sim.user_of(client)
    for action in (user.burst, user.request, user.request):
        sim.world.after(0.003 * sim.world.rng.random(), action)
    return True


@fault("black hole")
def _black_hole(sim: Simulation, client: Client) -> bool:
    transport = client.transport
    if transport is not None:
        transport.vanish()
    return transport is not None


@fault("black hole one way")
def _black_hole_one_way(sim: Simulation, client: Client) -> bool:
    transport = client.transport
    if transport is not None:
        sim.world.rng.choice((transport.up, transport.down)).black_hole = True
    return transport is not None


@fault("hold and release")
def _hold(sim: Simulation, client: Client) -> bool:
    transport = client.transport
    if transport is None:
        return False
    for pipe in sim.world.rng.choice(((transport.up,), (transport.down,), (transport.up, transport.down))):
        pipe.hold()
        _later(sim, pipe.release)
    return True


@fault("swizzle")
def _swizzle(sim: Simulation, client: Client) -> bool:
    """Stop all directions of all connections one by one, free them in another order."""
    pipes = [pipe for t in sim.cluster.transports if t.client_open for pipe in (t.up, t.down)]
    for pipe in pipes:
        sim.world.after(0.3 * sim.world.rng.random(), _hold_until_later, sim, pipe)
    return bool(pipes)


def _hold_until_later(sim: Simulation, pipe: object) -> None:
    pipe.hold()  # type: ignore[attr-defined]
    sim.world.after(0.3 + sim.world.rng.random() * 2, pipe.release)  # type: ignore[attr-defined]


@fault("no capacity")
def _no_capacity(sim: Simulation, client: Client) -> bool:
    transport = client.transport
    if transport is None:
        return False
    before = transport.up.capacity
    transport.up.resize(0)
    _later(sim, lambda: transport.up.resize(max(before, 1)))
    return True


@fault("suspend")
def _suspend(sim: Simulation, client: Client) -> bool:
    client.sleep(sim.world.rng.choice((0.5, 5.0, 60.0, 600.0)))
    return True


# --- servers ---------------------------------------------------------------------------------------------------------


@fault("crash")
def _crash(sim: Simulation, client: Client) -> bool:
    server = _server(sim, client)
    if not server.running:
        return False
    server.crash()
    _later(sim, lambda: sim.healing or server.restart())
    return True


@fault("restart")
def _restart(sim: Simulation, client: Client) -> bool:
    server = _server(sim, client)
    server.crash()
    server.restart()
    return True


@fault("all crash")
def _all_crash(sim: Simulation, client: Client) -> bool:
    for server in sim.cluster.servers:
        if server.running:
            server.crash()
            _later(sim, lambda server=server: sim.healing or server.restart())  # type: ignore[misc]
    return True


def _for_a_while(name: str, attribute: str, values: tuple[object, ...], usual: object) -> None:
    """A fault that sets an attribute of a server, and takes it back later."""

    @fault(name)
    def _set(sim: Simulation, client: Client) -> bool:
        servers = [_server(sim, client)] if sim.world.chance(0.7) else sim.cluster.servers
        value = sim.world.rng.choice(values)
        for server in servers:
            setattr(server, attribute, value)
            if sim.world.chance(0.5):
                for peer in list(server.peers):
                    peer.close()
            _later(sim, lambda server=server: setattr(server, attribute, usual))  # type: ignore[misc]
        return True


_for_a_while("dial trouble", "dial", ("refuse", "hang", "late"), "accept")
_for_a_while("handshake stalls", "stall", ("greeting", "answer"), "")
_for_a_while("logins refused", "refusals", (1, 2, -1), 0)
_for_a_while("account limit", "account_payload", (30, 100, 500), 0)
_for_a_while("logins expire", "login_seconds", (0.1, 1.0), 0.0)
_for_a_while("maximum connections", "max_connections", (1,), 0)
_for_a_while("liar", "liar", (True,), False)
_for_a_while("no headers", "headers", (False,), True)
_for_a_while("small pending", "max_pending", (100, 2000), 1 << 20)
_for_a_while("maximum subscriptions", "max_subscriptions", (2, 4), 0)


@fault("max_payload changes")
def _max_payload(sim: Simulation, client: Client) -> bool:
    server = _server(sim, client)
    server.max_payload = sim.world.rng.choice((30, 200, 1 << 20))
    server.announce()
    _later(sim, lambda: (setattr(server, "max_payload", 1 << 20), server.announce()))
    return True


@fault("lame duck")
def _lame_duck(sim: Simulation, client: Client) -> bool:
    server = _server(sim, client)
    if not server.running or server.lame_duck:
        return False
    if not client.asleep and sim.world.chance(0.5):  # it is left at a quiet moment
        sim.user_of(client).wait_in_vain(sim.world.rng.random())
    server.lame_duck = True
    server.announce()

    def leave() -> None:
        if server.lame_duck and not sim.healing:
            for peer in list(server.peers):
                peer.close()
            server.running = False
            _later(sim, lambda: sim.healing or server.restart())

    sim.world.after(sim.world.rng.choice((1.0, 10.0)), leave)
    return True


@fault("gossip")
def _gossip(sim: Simulation, client: Client) -> bool:
    """Servers join and leave what the cluster tells of itself; some of it is junk."""
    rng, cluster = sim.world.rng, sim.cluster
    cluster.gossiping = True
    cluster.hidden = {server.address for server in cluster.servers if rng.random() < 0.4}
    for server in cluster.servers:
        server.junk = rng.choice(([], [], ["", "::::", "h:0"], ["gone.test:4222"], [server.address, server.address]))
        server.announce()
    return True


# --- what a server says ----------------------------------------------------------------------------------------------


@fault("lethal -ERR")
def _lethal(sim: Simulation, client: Client) -> bool:
    peer = _peer(client)
    if peer is not None:
        peer.refuse(sim.world.rng.choice(LETHAL_ERRORS))
    return peer is not None


@fault("kept -ERR")
def _kept(sim: Simulation, client: Client) -> bool:
    peer = _peer(client)
    if peer is None or not peer.open:
        return False
    for _ in range(sim.world.rng.choice((1, 1, 5))):
        peer.complain(sim.world.rng.choice(KEPT_ERRORS))
    return True


@fault("authentication -ERR")
def _expired(sim: Simulation, client: Client) -> bool:
    peer = _peer(client)
    if peer is not None:
        peer.refuse(sim.world.rng.choice(("User Authentication Expired", "Authorization Violation")))
    return peer is not None


@fault("lie")
def _lie(sim: Simulation, client: Client) -> bool:
    peer = _peer(client)
    if peer is None or not peer.open:
        return False
    peer.tell(sim.world.rng.choice(lies(Moment.OPEN)))
    return True


@fault("PING flood")
def _ping_flood(sim: Simulation, client: Client) -> bool:
    peer = _peer(client)
    if peer is None or not peer.open:
        return False
    for _ in range(200):
        peer.send(b"PING\r\n", "ping")
    return True


@fault("message flood")
def _message_flood(sim: Simulation, client: Client) -> bool:
    for _ in range(sim.world.rng.randint(10, 60)):
        sim.cluster.publish()
    return True


def dead(transport: Transport) -> bool:
    """A connection of which nobody will ever hear again."""
    return transport.client_open and (transport.up.black_hole or transport.down.black_hole)
