"""One seed of the world of machines: a reader or a publisher among faults, then a world in which all comes right.

Theory of operation
-------------------
A stream and a consumer are there from the start; somebody else publishes into the stream. One client runs one kind of
machine. The faults are those of the network and of the servers that the world of sessions has, and those of JetStream:
what is lost, leaders that leave, restarts, thieves who read from the same consumer. When the world is healed, all that
is in the stream has to be read and acknowledged within a bounded time, and a message that is published then has to come
soon: whoever stalls is found by that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from nats_proto import ConnectOptions
from tests.simulation.faults import dead
from tests.simulation.invariants import require
from tests.simulation.jetstream import Sent
from tests.simulation.jetstream.consumer import ModelConsumer
from tests.simulation.jetstream.consumer_config import consumer_config
from tests.simulation.jetstream.stream import ModelStream, stream_config
from tests.simulation.knobs import Knobs
from tests.simulation.links import Profile
from tests.simulation.machine_batches import AtomicUser, BatchUser, IngestUser, LimitedUser
from tests.simulation.machine_consume import AgedUser, ConsumeUser
from tests.simulation.machine_faults import SILENCE, plan
from tests.simulation.machine_objects import CALM, OBJECT_STREAM, READERS_BEGIN, ObjectUser, object_stream
from tests.simulation.machine_publish import PublishUser
from tests.simulation.machine_readers import ORDERED, OrderedUser, PushUser, WorkUser
from tests.simulation.machine_users import CONSUMER, PAUSE, STREAM, WRITERS, FetchUser, MachineUser
from tests.simulation.machine_world import JetStreamCluster, MachineClient
from tests.simulation.order import UP
from tests.simulation.run import Result, failure_of
from tests.simulation.world import Violation, World

__all__ = [
    "MachineSimulation",
    "Settings",
    "run_aged_seed",
    "run_batch_seed",
    "run_machine_seed",
    "run_object_seed",
    "run_reader_seed",
]

USERS: dict[str, type[MachineUser]] = {"consume": ConsumeUser, "fetch": FetchUser, "publish": PublishUser}
FLOW_WINDOW = 1024
"""Bytes on their way to a push consumer's reader, at most: a few messages."""
BATCHES: dict[str, type[MachineUser]] = {"atomic": AtomicUser, "ingest": IngestUser, "limited": LimitedUser}
READERS: dict[str, type[MachineUser]] = {"work": WorkUser, "push": PushUser, "ordered": OrderedUser}
"""Apart from the others, so that the seeds of these stay what they are."""
NAMED_BY_READERS = {"ordered": ORDERED, "objects": READERS_BEGIN}
"""Who makes consumers by itself, and how their names begin."""


@dataclass(slots=True)
class Settings:
    """What is drawn for machines, beside the `Knobs`."""

    user: str
    exact: bool
    """Nothing is lost or late but with its connection: then no count may be wrong for a moment."""
    replicas: int
    consumer: dict[str, Any]
    max_messages: int
    threshold: int | None
    expires: float
    heartbeat: float | None
    on_missing: str
    ack_wait: float | None
    model_ack_wait: float
    forgetful: float
    thinking: float
    pauses: tuple[float, ...]
    slack: float
    seconds: float
    published: int
    commit: float


def draw(world: World) -> tuple[Knobs, Settings]:
    """One seed's settings."""
    rng = world.rng
    pick = rng.choice
    servers = pick((1, 3, 3))
    options = ConnectOptions(
        reconnect_wait=pick((0.1, 0.5)),
        reconnect_jitter=0.0,
        ping_interval=pick((0.5, 2.0)),
        connect_timeout=pick((0.5, 2.0)),
        pending_size=pick((8 << 20, 8 << 20, 2000, 0)),
        retry_on_failed_connect=True,
    )
    exact = rng.random() < 0.5
    knobs = Knobs(
        options,
        servers=servers,
        explicit=servers,
        latency=pick(((0.001,), (0.0002, 0.02), (0.05,))),
        splits=("whole", "mixed") if rng.random() < 0.7 else ("tiny", "halves"),
        capacities=pick(((1 << 20,), (1 << 20,), (500, 4096))),
        windows=pick((3, 6, 10)),
    )
    ack_wait = pick((2.0, 5.0, 30.0))
    expires = pick((1.0, 2.0, 5.0, 30.0))
    most = pick((1, 2, 5, 20, 100))
    config = {
        "durable_name": CONSUMER,
        "name": CONSUMER,
        "ack_policy": "explicit",
        "ack_wait": round(ack_wait * 1e9),
        "max_ack_pending": pick((1, 5, 1000, 1000)),
        "max_waiting": pick((1, 2, 512, 512)),
    }
    if rng.random() < 0.2:
        config["max_batch"] = pick((1, 3, 50))
    return knobs, Settings(
        user=pick(("consume", "consume", "fetch", "publish")),
        exact=exact,
        replicas=min(servers, pick((1, 3))),
        consumer=config,
        max_messages=most,
        threshold=pick((None, None, 1, most)),
        expires=expires,
        heartbeat=pick((None, 0.5)),
        on_missing=pick(("raise", "wait", "recreate")),
        ack_wait=pick((None, ack_wait)),
        model_ack_wait=ack_wait,
        forgetful=pick((0.0, 0.1)),
        thinking=pick((0.0, 0.05, 0.5)),
        pauses=pick(((0.0,), (0.0, 0.01), (0.0, 0.5), (0.0, 0.0, 0.0, 8.0))),
        slack=0.0,
        seconds=pick((10.0, 20.0, 40.0)),
        published=pick((5, 50, 200)),
        commit=pick((0.0, 0.005, 0.1)),
    )


def draw_reader(world: World, settings: Settings) -> None:
    """The same for handlers, a push consumer, and an ordered reader."""
    pick = world.rng.choice
    settings.user = pick(tuple(READERS))
    if settings.user == "push":
        for name in ("max_waiting", "max_batch"):
            settings.consumer.pop(name, None)
        settings.consumer["deliver_subject"] = "to.push"
        settings.consumer["idle_heartbeat"] = pick((500_000_000, 2_000_000_000))
        settings.consumer["flow_control"] = pick((True, False))


def draw_batches(world: World, settings: Settings) -> None:
    """The same for who writes batches, and for a publisher with servers that allow less."""
    settings.user = world.rng.choice(tuple(BATCHES))


def draw_aged(world: World, settings: Settings) -> None:
    """The same for a slow reader who asks for much."""
    pick = world.rng.choice
    settings.user, settings.published, settings.threshold = "aged", 200, None
    settings.max_messages = pick((20, 100))
    settings.consumer["max_ack_pending"] = 1000
    settings.consumer.pop("max_batch", None)
    settings.model_ack_wait = pick((2.0, 5.0))
    settings.consumer["ack_wait"] = round(settings.model_ack_wait * 1e9)


class MachineSimulation:
    """One world with everything in it. Has what the faults of the world of sessions want of a simulation."""

    def __init__(
        self,
        seed: int,
        *,
        recording: bool = False,
        readers: bool = False,
        batches: bool = False,
        aged: bool = False,
        objects: bool = False,
    ) -> None:
        self.world = World(seed, recording=recording)
        self.knobs, self.settings = draw(self.world)
        if readers:
            draw_reader(self.world, self.settings)
        if batches:
            draw_batches(self.world, self.settings)
        if aged:
            draw_aged(self.world, self.settings)
        if objects:
            self.settings.user = "objects"
        window = FLOW_WINDOW if self.settings.user == "push" else 32 << 20
        self.cluster = JetStreamCluster(self.world, self.knobs, commit=self.settings.commit, flow_window=window)
        self.cluster.told = self.delivered
        self.client = MachineClient(self.world, self.cluster, self.knobs, 1)
        self.client.after_step = self._check
        self.clients = [self.client]
        self.healing = self.over = False
        self.stolen: set[int] = set()
        self.sent: Counter[str] = Counter()
        """How often the model has sent each message, by its ack subject."""
        self.sent_at: dict[str, tuple[float, float]] = {}
        """And when, first and last: a consumer that was made again begins with the same words."""
        self.calm_from = self.world.now + 10.0
        """From then on nothing is in the way."""
        self.missing_until = 0.0
        self.losses = 0
        """What JetStream was to lose, and has."""
        self._published = 0
        jetstream = self.cluster.jetstream
        jetstream.on_loss = self._lost
        config = stream_config(
            {
                "name": STREAM,
                "subjects": ["s.>"],
                "storage": "memory",
                "num_replicas": self.settings.replicas,
                "allow_atomic": True,
                "allow_batched": True,
            }
        )
        self.stream = jetstream.streams[STREAM] = ModelStream(jetstream, config, self.world.now)
        if objects:
            self.stream = jetstream.streams[OBJECT_STREAM] = object_stream(self)
        self.make_consumer()
        self.user = (USERS | READERS | BATCHES | {"aged": AgedUser, "objects": ObjectUser})[self.settings.user](self)

    # --- what users and faults ask ------------------------------------------------

    @property
    def consumer(self) -> ModelConsumer | None:
        """As the model has it: that of the reader."""
        prefix = NAMED_BY_READERS.get(self.settings.user)
        if prefix is not None:
            names = [name for name in self.stream.consumers if name.startswith(prefix)]
            return self.stream.consumers[names[-1]] if names else None
        return self.stream.consumers.get(CONSUMER)

    def make_consumer(self) -> None:
        """Somebody makes the consumer, if there is none."""
        if self.stream.consumers.get(CONSUMER) is None and self.settings.user not in NAMED_BY_READERS:
            config = consumer_config(dict(self.settings.consumer), self.stream.config)
            self.stream.consumers[CONSUMER] = ModelConsumer(self.stream, CONSUMER, config, self.world.now)
        self.missing_until = self.world.now

    def asleep_between(self, begin: float, end: float) -> float:
        """Seconds for which the client's machine was suspended."""
        return sum(max(0.0, min(e, end) - max(b, begin)) for b, e in self.client.slept)

    def consumer_was_missing(self, since: float) -> bool:
        """Whether the consumer was not there at some time since then."""
        return self.consumer is None or self.missing_until >= since

    def disturbed(self, seconds: float) -> None:
        """Something has happened: until then a reader may have nothing asked for."""
        self.calm_from = max(self.calm_from, self.world.now + seconds)

    def _lost(self) -> None:
        self.losses += 1
        self.disturbed(SILENCE + PAUSE)

    @property
    def mishaps(self) -> tuple[int, int, int]:
        """Changes with each fault, each loss and each connection."""
        return self.world.hits.total(), self.losses, self.client.checks.order.ups

    def explain(self, text: str) -> None:
        """One line of the record."""
        if self.world.recording:
            self.world.note(text)

    def delivered(self, message: Sent) -> None:
        """JetStream sends this."""
        if message.reply is not None:
            self.sent[message.reply] += 1
            first, _ = self.sent_at.get(message.reply, (self.world.now, 0.0))
            self.sent_at[message.reply] = first, self.world.now
            if message.to.startswith("thief."):
                self.world.after(0.5 * self.world.rng.random(), self._thief_has, message.reply)

    def _thief_has(self, reply: str) -> None:
        payload = self.world.rng.choice((b"+ACK", b"-NAK", None))
        if payload is None and not self.healing:
            return  # it forgets
        if payload == b"+ACK":
            self.stolen.add(int(reply.split(".")[5]))
        self.cluster.jetstream.receive(reply, None, None, payload or b"-NAK", self.world.now)
        self.cluster.changed()

    def publish(self) -> None:
        """Somebody else publishes."""
        if self.stream.led and self.settings.user not in WRITERS:
            self._published += 1
            self.cluster.store(f"s.{self.world.rng.randint(1, 3)}", b"m%d" % self._published)

    # --- phases ------------------------------------------------

    def run(self) -> None:
        """All of it. Raises `Violation`, or whatever a machine raises."""
        world, rng, settings = self.world, self.world.rng, self.settings
        self.explain(f"settings: {settings}")
        world.after(0.1 * rng.random(), self.client.connect)
        world.after(0.5 * rng.random(), self.user.start)
        for _ in range(settings.published):
            world.at(world.now + settings.seconds * rng.random(), self.publish)
        plan(self, world.now + settings.seconds)
        world.run(world.now + settings.seconds)
        self._heal()
        self._come_right()

    def _check(self) -> None:
        self.user.check()

    def _heal(self) -> None:
        """From now on all is well."""
        world, jetstream = self.world, self.cluster.jetstream
        self.healing = self.knobs.healthy = True
        self.explain("healing")
        for server in self.cluster.servers:
            server.heal()
        jetstream.lose.clear()
        jetstream.garble = None
        self.settings.forgetful = 0.0
        self.settings.pauses = (0.0,)
        self.settings.thinking = 0.01
        for transport in self.cluster.transports:
            while transport.up.held:
                transport.up.release()
            while transport.down.held and not self.client.asleep:
                transport.down.release()
            for pipe in (transport.up, transport.down):
                pipe.profile = Profile()
                pipe.resize(max(pipe.capacity, 4096))
            if dead(transport):
                transport.reset()
        world.run(max(world.now, self.client.asleep_until) + 0.01)
        ready = world.run(world.now + 60.0, self._ready)
        require(ready, "the client is not connected, in a world in which all is well")
        if (self.settings.user, self.settings.on_missing) != ("push", "recreate"):  # then it is the reader's to make
            self.make_consumer()

    def _ready(self) -> bool:
        consumer = self.consumer
        return (
            self.client.checks.order.state is UP
            and self.stream.led
            and (consumer is None or consumer.led)
            and not self.client.session.pending_bytes
        )

    def _come_right(self) -> None:
        world, user = self.world, self.user
        if isinstance(user, PublishUser | BatchUser | ObjectUser):
            if isinstance(user, ObjectUser):
                world.run(world.now + CALM)
            self.over = True
            done = world.run(world.now + user.patience(), user.settled)
            require(done, user.why())
            user.finish()
            return
        for _ in range(10):
            self.publish()
        if not world.run(world.now + user.patience() + 0.1 * self.stream.last, user.settled):
            raise Violation(f"after {user.patience():g} s in a world in which all is well: {user.why()}")
        self._flows(user)

    def _flows(self, user: MachineUser) -> None:
        """With nothing in the way a message comes soon."""
        if not isinstance(user, ConsumeUser):
            return
        world, before = self.world, user.driver.given
        self.publish()
        came = world.run(world.now + user.first_again(), lambda: user.driver.given > before)
        require(came, f"a message was published in a quiet world, and has not come in {user.first_again():g} s")


def run_reader_seed(seed: int, *, recording: bool = False) -> Result:
    """Run one seed of the other readers: handlers, a push consumer, an ordered one."""
    return run_machine_seed(seed, recording=recording, readers=True)


def run_batch_seed(seed: int, *, recording: bool = False) -> Result:
    """Run one seed of who writes batches, and of a publisher with servers that allow less."""
    return run_machine_seed(seed, recording=recording, batches=True)


def run_aged_seed(seed: int, *, recording: bool = False) -> Result:
    """Run one seed of a reader whose messages lie unread for long."""
    return run_machine_seed(seed, recording=recording, aged=True)


def run_object_seed(seed: int, *, recording: bool = False) -> Result:
    """Run one seed of who puts, deletes and reads objects."""
    return run_machine_seed(seed, recording=recording, objects=True)


def run_machine_seed(seed: int, *, recording: bool = False, **kind: bool) -> Result:
    """Run one seed, and say what came of it. ``kind``: of `MachineSimulation`."""
    result = Result(seed)
    simulation = MachineSimulation(seed, recording=recording, **kind)
    world = simulation.world
    try:
        simulation.run()
    except Exception as error:
        result.failure = failure_of(error)
        if recording:
            world.note(f"FAILED: {result.failure}")
    result.steps = world.steps
    result.seconds = world.now - 1000.0
    result.hits = world.hits
    result.connects = simulation.client.checks.order.ups
    if recording:
        result.lines = world.lines
        result.fingerprint = world.fingerprint()
    return result
