"""Handlers, a push consumer and an ordered reader in the simulated world, and what they hold their machines to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nats_proto import Message
from nats_proto._consuming.options import ConsumeOptions
from nats_proto._consuming.ordered import Ordered
from nats_proto._consuming.ordered_calls import OrderedCalls, ordered_config, ordered_options
from nats_proto._consuming.push import Push
from nats_proto._consuming.push_calls import push_reader
from nats_proto._consuming.work import Work
from nats_proto._jetstream.acknowledge import Acknowledgeable, Delivery
from nats_proto._jetstream.api import JetStreamApi
from nats_proto._jetstream.metadata import Metadata
from tests.simulation.invariants import require
from tests.simulation.machine_driver import MachineDriver
from tests.simulation.machine_users import CONSUMER, NEXT, STREAM, Item, MachineUser, Reader

if TYPE_CHECKING:
    from tests.simulation.machine_run import MachineSimulation

__all__ = ["ORDERED", "OrderedUser", "PushUser", "WorkUser"]

ORDERED = "ordered"
"""How the names of an ordered reader's consumers begin."""
MOST_CONSUMERS = 2


class WorkItem(Message, Acknowledgeable, eq=False):
    """A client's class of messages, as far as the machine knows it."""

    delivery: Delivery = Delivery(stream=STREAM, consumer=CONSUMER)
    received: float = 0.0
    settled: bool = False
    parsed_metadata: Metadata | None = None

    @property
    def sequence(self) -> int:
        return self.metadata.stream_sequence


class WorkUser(Reader):
    """Gives messages to handlers, several at once."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        settings, rng = sim.settings, self.rng
        self.concurrency = rng.choice((1, 2, 8))
        prefetch = rng.choice((None, self.concurrency, 3 * self.concurrency))
        limit: int = settings.consumer["max_ack_pending"]
        self.most = min(limit, prefetch or 1000)
        delivery = Delivery(stream=STREAM, consumer=CONSUMER, ack_wait=settings.model_ack_wait)

        def make(message: Message, now: float) -> WorkItem:
            return WorkItem(message.subject, message.sid, message.reply, message.data, delivery=delivery, received=now)

        self.machine: Work[Message, WorkItem] = Work(
            NEXT,
            ConsumeOptions(
                expires=settings.expires,
                heartbeat=settings.heartbeat,
                on_missing=settings.on_missing,  # type: ignore[arg-type]  # one of three
                ack_wait=settings.model_ack_wait,
            ),
            concurrency=self.concurrency,
            keep_alive=3600.0,
            prefetch=prefetch,
            max_ack_pending=limit,
            what="work",
            new_inbox=self.new_inbox,
            make=make,
            now=self.world.now,
            info=self.info,
            create=self.create,
            wait=settings.model_ack_wait,
        )
        self.long = rng.random() < 0.5
        self.ready: deque[WorkItem] = deque()
        self.running: dict[int, WorkItem] = {}
        self.driver = MachineDriver(self.client, self.machine, self._given)
        self.client.drivers.append(self.driver)  # type: ignore[arg-type]

    def start(self) -> None:
        self.driver.wait()

    def _given(self, item: WorkItem) -> None:
        self.book(item)
        self.ready.append(item)
        self._begin()
        self.driver.wait()

    def _begin(self) -> None:
        """As many handlers as there may be."""
        machine, now = self.machine, self.world.now
        while self.ready and len(self.running) < self.concurrency:
            item = self.ready.popleft()
            machine.begun[id(item)] = now
            if not machine.is_fresh(item, now):
                machine.late.append(item)
                self._over(item)
                continue
            assert item.reply is not None
            _, sent = self.sim.sent_at[item.reply]
            asleep = self.sim.asleep_between(sent, now)
            require(asleep <= self.settings.model_ack_wait + 0.1, f"begun after {asleep:g} s in which nothing ran")
            for other in self.running.values():
                since = max(other.received, machine.begun[id(other)])
                calm = self.sim.calm_from <= other.received
                require(
                    other.sequence != item.sequence or not calm,
                    f"message {item.sequence} is handled twice at once, since {now - since:g} s",
                )
            self.running[id(item)] = item
            self.world.after(self._duration(), self._end, item)

    def _duration(self) -> float:
        if self.sim.healing:
            return 0.01
        if self.long and self.rng.random() < 0.2:
            return 2.5 * self.settings.model_ack_wait * self.rng.random()
        return self.settings.thinking * self.rng.random()

    def _end(self, item: WorkItem) -> None:
        """A handler has returned."""
        if self.client.asleep:
            self.world.at(self.client.asleep_until + 0.001, self._end, item)
            return
        if self.rng.random() >= self.settings.forgetful:
            payloads = (b"+ACK",) if self.sim.healing else (b"+ACK", b"+ACK", b"+ACK", b"-NAK")
            item.settled = self.publish(item.ack_subject(), self.rng.choice(payloads))
        del self.running[id(item)]
        self._over(item)
        self._begin()
        if len(self.machine.ended) >= self.machine.prefetch.call_at:
            self.driver.run()

    def _over(self, item: WorkItem) -> None:
        del self.machine.begun[id(item)]
        self.machine.ended.append(item)

    def check(self) -> None:
        machine, driver = self.machine, self.driver
        require(not driver.ended, f"work has ended: {driver.error!r}")
        if self.client.asleep or driver.state is None:
            return
        held = len(self.ready) + len(self.running) + len(machine.ended) + len(machine.items)
        require(machine.prefetch.held <= held + 1, f"{machine.prefetch.held} messages count as held, and {held} are")
        require(
            machine.outstanding + machine.prefetch.held <= 2 * self.most + 1, "more is asked for and held than may be"
        )
        if self.settings.exact:
            prefix = driver.state.subject.removesuffix("*")
            consumer = self.consumer
            waiting = sum(r.left for r in consumer.pulls.waiting if r.reply.startswith(prefix)) if consumer else 0
            unread = sum(message.reply is not None for message in driver.state.messages)
            given = len(self.ready) + len(self.running)
            require(
                waiting + unread + given <= self.most,
                f"{waiting} messages are asked for, {unread} unread and {given} held, {self.most} at most",
            )

    def patience(self) -> float:
        many = 2.5 * 5.0 * len(self.jetstream.streams[STREAM].messages)
        crowded = many if self.settings.consumer["max_waiting"] <= 2 else 0.0
        return 3 * self.settings.model_ack_wait + 60.0 + crowded


def api_of(user: MachineUser) -> JetStreamApi:
    """What makes the calls of a client."""
    return JetStreamApi(
        now=lambda: user.world.now, new_inbox=user.new_inbox, server_version=lambda: "2.15.1"
    )  # fmt: skip


class PushUser(Reader):
    """Reads what the consumer delivers by itself."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.machine: Push[Message, Item] = push_reader(
            api_of(self),
            STREAM,
            CONSUMER,
            lambda message, now: (message, now),
            on_missing="wait" if sim.settings.on_missing == "raise" else sim.settings.on_missing,  # type: ignore[arg-type]  # one of three
            found=lambda info: None,
            now=self.world.now,
        )
        self.driver = MachineDriver(self.client, self.machine, self._given)
        self.client.drivers.append(self.driver)  # type: ignore[arg-type]

    def start(self) -> None:
        self.driver.wait()

    def _given(self, item: Item) -> None:
        self.take(item)
        pause = self.rng.choice(self.settings.pauses)
        if pause:
            self.world.after(pause * self.rng.random(), self.driver.wait)
        else:
            self.driver.wait()

    def check(self) -> None:
        require(not self.driver.ended, f"push has ended: {self.driver.error!r}")

    def patience(self) -> float:
        return 3 * self.settings.model_ack_wait + 60.0


class OrderedUser(MachineUser):
    """Reads the stream in order."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.last = 0
        self.machine: Ordered[Message, Message] | None = None
        self.driver: MachineDriver[Message] | None = None

    def start(self) -> None:
        settings = self.sim.settings
        options = ordered_options(
            max_messages=settings.max_messages,
            max_bytes=None,
            threshold=settings.threshold,
            expires=settings.expires,
            heartbeat=settings.heartbeat,
        )
        self.machine = Ordered(
            OrderedCalls(api_of(self), STREAM, ordered_config(inactive_threshold=5.0)),
            options,
            make=lambda message, _: message,
            now=self.world.now,
            after=self.last or None,
        )
        self.driver = MachineDriver(self.client, self.machine, self._given, self._ended)
        self.client.drivers[:] = [self.driver]  # type: ignore[list-item]
        self.driver.wait()

    def _ended(self) -> None:
        """The first consumer has to be made within the time of a call: else the program is told, and begins again."""
        assert self.machine is not None
        assert self.driver is not None
        require(self.machine.initial_pending is None, f"an ordered reader has ended: {self.driver.error!r}")
        self.world.after(1.0, self.start)

    def _given(self, message: Message) -> None:
        assert message.reply is not None
        assert self.driver is not None
        sequence = int(message.reply.split(".")[5])
        messages = self.jetstream.streams[STREAM].messages
        missed = [each for each in range(self.last + 1, sequence) if each in messages]
        require(sequence > self.last and not missed, f"message {sequence} follows on {self.last}, without {missed}")
        stored = messages.get(sequence)  # None: it was deleted on the way
        same = stored is None or (message.subject, message.data) == (stored.subject, stored.data)
        require(same, f"message {sequence} is {message!r}")
        self.last = sequence
        pause = self.rng.choice(self.sim.settings.pauses)
        if pause:
            self.world.after(pause * self.rng.random(), self.driver.wait)
        else:
            self.driver.wait()

    def check(self) -> None:
        alive = [name for name in self.jetstream.streams[STREAM].consumers if name.startswith(ORDERED)]
        serials = {name.rpartition("_")[0] for name in alive}
        if len(serials) == 1:  # a reader that began again knows nothing of those before it
            require(len(alive) <= MOST_CONSUMERS, f"{len(alive)} consumers of one reader: {alive}")

    def settled(self) -> bool:
        return self.last >= max(self.jetstream.streams[STREAM].messages, default=0)

    def patience(self) -> float:
        return 120.0

    def why(self) -> str:
        stream = self.jetstream.streams[STREAM]
        return f"{self.last} of {stream.last} were read; consumers {[*stream.consumers]}"
