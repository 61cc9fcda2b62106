"""What goes wrong around machines: the faults of the network that every client has, and those of JetStream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.simulation.faults import FAULTS
from tests.simulation.jetstream import Sent, block_of
from tests.simulation.machine_readers import PushUser
from tests.simulation.machine_users import CONSUMER, PAUSE, STREAM, WRITERS

if TYPE_CHECKING:
    from tests.simulation.machine_run import MachineSimulation

__all__ = ["MACHINE_FAULTS", "SILENCE", "plan"]

Fault = Callable[["MachineSimulation"], bool]
MACHINE_FAULTS: Final[dict[str, Fault]] = {}

CUTS: Final = ("cut by FIN", "cut by reset", "crash", "restart", "all crash")
"""Nothing is late or lost but with its connection."""
NETWORK: Final = (*CUTS, "black hole", "black hole one way", "hold and release", "no capacity", "suspend", "swizzle")
EXACT: Final = ("leader away", "stream leader away", "restarted", "thief", "deleted")
PUBLISHERS: Final = ("stream leader away", "stream leader away", "restarted", "lost pub ack", "lost pub ack")
LESS: Final = ("less allowed", "less allowed", "no headers", "max_payload changes", "stream leader away")
ORDERED: Final = ("killed", "killed", "killed", "erased", "erased")
"""More of what befalls a reader whose consumers are kept in memory, and who is to miss nothing."""
OBJECTS: Final = (
    *PUBLISHERS,
    "leader away",
    "killed",
    "deleted consumer",
    "lost answer",
    "lost request",
    "lost delivery",
)
TOLD: Final = (*CUTS, "leader away", "deleted", "thief", "odd status")
"""A reader hears at once that something has happened; of all else it hears by silence."""
OTHERS: Final = ("less allowed", "killed", "erased", "deleted consumer")
"""For those who ask for them."""
SILENCE: Final = 10.0
"""Two heart-beats, of at most five seconds each."""
CALM: Final = 0.2


def plan(sim: MachineSimulation, until: float) -> None:
    """Draw the windows and what happens in each."""
    rng, knobs = sim.world.rng, sim.knobs
    length = (until - sim.world.now) / knobs.windows
    network, own = (
        (CUTS, EXACT) if sim.settings.exact else (NETWORK, tuple(name for name in MACHINE_FAULTS if name not in OTHERS))
    )
    if sim.settings.user in WRITERS:
        own = PUBLISHERS
    if sim.settings.user == "limited":
        own = LESS
    if sim.settings.user == "ordered":
        own += ORDERED
    if sim.settings.user == "objects":
        own = OBJECTS
    for window in range(knobs.windows):
        if rng.random() < CALM:
            continue
        for _ in range(rng.choice((1, 1, 2, 3))):
            name = rng.choice(own if rng.random() < 0.6 else network)
            sim.world.at(sim.world.now + (window + rng.random()) * length, strike, sim, name)


def strike(sim: MachineSimulation, name: str) -> None:
    """One fault happens."""
    if sim.healing:
        return
    status = sim.client.status
    sim.explain(f"fault: {name}")
    sim.disturbed(PAUSE if name in TOLD else SILENCE + PAUSE)
    if name in MACHINE_FAULTS:
        struck = MACHINE_FAULTS[name](sim)
        sim.cluster.changed()
    else:
        struck = FAULTS[name](sim, sim.client)  # type: ignore[arg-type]  # it has what they want
        if name in ("crash", "restart", "all crash") and len(sim.cluster.servers) == 1:
            sim.cluster.jetstream.restart(sim.world.now, orderly=False)
            sim.cluster.changed()
    if struck:
        sim.world.hits[name, status] += 1


def fault(name: str) -> Callable[[Fault], Fault]:
    def register(function: Fault) -> Fault:
        MACHINE_FAULTS[name] = function
        return function

    return register


@fault("leader away")
def _leader(sim: MachineSimulation) -> bool:
    """The consumer has no leader for a while. Of requests that had just come the next one may not know."""
    consumer, rng = sim.consumer, sim.world.rng
    if consumer is None or not consumer.led:
        return False
    told = None if sim.settings.exact else rng.choice((None, None, 0, 1))
    seconds = rng.choice((0.01, 0.3, 5.0))
    sim.cluster.jetstream.lose_leader(consumer, sim.world.now, seconds, told)
    silent = told is not None or not consumer.replicated
    sim.disturbed(seconds + PAUSE + (SILENCE if silent else 0.0))
    return True


@fault("stream leader away")
def _stream_leader(sim: MachineSimulation) -> bool:
    stream, rng = sim.stream, sim.world.rng
    if not stream.led:
        return False
    seconds = rng.choice((0.01, 0.3, 5.0))
    sim.cluster.jetstream.lose_stream_leader(stream, sim.world.now, seconds, kept=rng.random() < 0.5)
    sim.disturbed(seconds + PAUSE + SILENCE)
    return True


@fault("restarted")
def _restarted(sim: MachineSimulation) -> bool:
    sim.cluster.jetstream.restart(sim.world.now, orderly=sim.world.chance(0.5))
    return True


@fault("killed")
def _killed(sim: MachineSimulation) -> bool:
    """The server of both the connection and the consumer. In a cluster the consumer is made anew, and counts from 1."""
    transport = sim.client.transport
    if transport is None or sim.client.asleep:
        return False
    sim.cluster.jetstream.restart(sim.world.now, orderly=False)
    transport.reset()
    return True


@fault("erased")
def _erased(sim: MachineSimulation) -> bool:
    """Some messages are deleted: what is behind them has lower numbers in a consumer that begins before them."""
    sequences = list(sim.stream.messages)[:-1]
    return sim.stream.remove(sim.world.rng.sample(sequences, min(len(sequences), 5))) > 0


@fault("less allowed")
def _less(sim: MachineSimulation) -> bool:
    """The connection is cut, and whoever is next takes less than what is published meanwhile."""
    rng, servers, transport = sim.world.rng, sim.cluster.servers, sim.client.transport
    if transport is None or sim.client.asleep:
        return False
    for server in servers:
        server.max_payload = rng.choice((30, 200))
    sim.world.after(5.0 * rng.random(), lambda: [setattr(server, "max_payload", 1 << 20) for server in servers])
    transport.reset()
    return True


@fault("deleted")
def _deleted(sim: MachineSimulation) -> bool:
    """The consumer is deleted; by somebody who makes it again later, unless it is the reader's to do so."""
    consumer, settings = sim.consumer, sim.settings
    if consumer is None or settings.user in WRITERS:
        return False
    if settings.user in ("consume", "work", "aged") and settings.on_missing == "raise":
        return False
    if isinstance(sim.user, PushUser) and sim.user.machine.info is None:
        return False  # of what was never seen nobody knows how to make it again
    sim.cluster.jetstream.forget_consumer(consumer)
    if (
        settings.user == "fetch"
        or settings.on_missing == "wait"
        or (settings.user, settings.on_missing) == ("push", "raise")
    ):
        sim.world.after(3.0 * sim.world.rng.random(), _made_again, sim)
    return True


def _made_again(sim: MachineSimulation) -> None:
    sim.make_consumer()
    sim.cluster.changed()


@fault("deleted consumer")
def _deleted_consumer(sim: MachineSimulation) -> bool:
    """One that a reader has made for itself."""
    consumer = sim.consumer
    if consumer is not None:
        sim.cluster.jetstream.forget_consumer(consumer)
    return consumer is not None


@fault("thief")
def _thief(sim: MachineSimulation) -> bool:
    """Another reader takes some, and keeps them, hands them back, or forgets them."""
    rng = sim.world.rng
    request = b'{"batch":%d,"expires":%d}' % (rng.choice((1, 5, 30)), rng.choice((100_000_000, 3_000_000_000)))
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"
    return sim.cluster.jetstream.receive(subject, "thief.1", None, request, sim.world.now)


def _losing(kind: str, most: int) -> None:
    @fault(f"lost {kind}")
    def _lost(sim: MachineSimulation) -> bool:
        sim.cluster.jetstream.lose[kind] += sim.world.rng.randint(1, most)
        return True


for _kind, _most in {"ack": 5, "pull": 2, "request": 2, "answer": 2, "pub ack": 3, "status": 3, "delivery": 3}.items():
    _losing(_kind, _most)

REMAINDERS: Final = ("", "x", "-5", "9" * 30, "1e3", "0", "7")


@fault("odd status")
def _odd(sim: MachineSimulation) -> bool:
    """The next status says something that nobody knows, or counts wrongly."""
    rng = sim.world.rng

    def garble(message: Sent) -> Sent:
        sim.disturbed(PAUSE)
        first = "NATS/1.0 " + rng.choice(("408 Request Timeout", "499 Some Day", "404"))
        fields = {name: rng.choice(REMAINDERS) for name in ("Nats-Pending-Messages", "Nats-Pending-Bytes")}
        return Sent(message.to, message.subject, None, block_of(fields if rng.random() < 0.7 else {}, first), b"")

    sim.cluster.jetstream.garble = garble
    return True
