"""Who runs machines in the simulated world: readers of a consumer and a publisher, and what they hold them to.

Each user keeps books by simple means: what it was given, by the stream's sequence and the number of the delivery; what
it published, and what it was told of it. `check` is called after every step, `settled` says whether all has come right.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from nats_proto import ApiCall, Headers, Message
from nats_proto._consuming.condition import ConsumerCondition
from nats_proto._consuming.fetch import Fetch
from nats_proto._jetstream.errors import api_error
from nats_proto.errors import ConnectionClosedError, ConnectionDrainingError, OutboundBufferLimitError
from tests.simulation.invariants import require
from tests.simulation.jetstream.consumer import ModelConsumer
from tests.simulation.machine_driver import MachineDriver

if TYPE_CHECKING:
    from tests.simulation.machine_run import MachineSimulation

__all__ = ["CONSUMER", "NEXT", "PAUSE", "STREAM", "WRITERS", "FetchUser", "Item", "MachineUser", "Reader"]

STREAM, CONSUMER = "S", "c"
NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"
WHAT = f"consumer '{CONSUMER}' of stream '{STREAM}'"
WRITERS = ("publish", "atomic", "ingest", "limited", "objects")
"""Users for whom nobody else publishes."""
Item = tuple[Message, float]
PAUSE = 7.0
"""Seconds after which a reader must have asked again, whatever has happened, as long as it can know of it: the longest
pause, and time for the way."""


def decode_condition(message: Message) -> ConsumerCondition:
    """Of the answer to CONSUMER.INFO."""
    answer: dict[str, Any] = json.loads(message.data)
    if "error" in answer:
        raise api_error("info", answer["error"])
    config = answer["config"]
    return ConsumerCondition(
        waiting=answer.get("num_waiting", 0),
        max_waiting=config.get("max_waiting", 0),
        ack_pending=answer["num_ack_pending"],
        max_ack_pending=config.get("max_ack_pending", 0),
        pending=answer["num_pending"],
    )


def decode_created(message: Message) -> object:
    """Of the answer to CONSUMER.CREATE."""
    answer: dict[str, Any] = json.loads(message.data)
    if "error" in answer:
        raise api_error("create", answer["error"])
    return answer


class MachineUser:
    """What all have."""

    def __init__(self, sim: MachineSimulation) -> None:
        self.sim = sim
        self.world, self.client, self.rng = sim.world, sim.client, sim.world.rng
        self.jetstream = sim.cluster.jetstream
        self._inboxes = 0

    def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    def check(self) -> None:
        """After every step."""

    def settled(self) -> bool:
        """All that there is has come to its end."""
        raise NotImplementedError

    def patience(self) -> float:
        """Seconds in a healed world within which all must be settled."""
        raise NotImplementedError

    def why(self) -> str:
        """For the text of a failure."""
        return ""

    def new_inbox(self) -> str:
        """Another one each time."""
        self._inboxes += 1
        return f"inbox.{self.client.number}.{self._inboxes}"

    def publish(self, subject: str, data: bytes, reply: str | None = None, headers: Headers | None = None) -> bool:
        """Through the session; False when it takes nothing now."""
        try:
            self.client.session.publish(subject, data, reply=reply, headers=headers)
        except (OutboundBufferLimitError, ConnectionClosedError, ConnectionDrainingError):
            return False
        self.client.pump()
        return True


class Reader(MachineUser):
    """What both readers have: books of what came, and acknowledgements."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.deliveries: Counter[str] = Counter()
        """How often each message was handed out, by its ack subject."""
        self.sequences: set[int] = set()
        self.settings = sim.settings
        api = f"{STREAM}.{CONSUMER}"
        self.info: ApiCall[object] = ApiCall("info", f"$JS.API.CONSUMER.INFO.{api}", b"", decode_condition)
        body = json.dumps({"stream_name": STREAM, "config": sim.settings.consumer, "action": "create"}).encode()
        self.create: ApiCall[object] = ApiCall("create", f"$JS.API.CONSUMER.CREATE.{api}", body, decode_created)

    @property
    def consumer(self) -> ModelConsumer | None:
        """As the model has it."""
        return self.jetstream.streams[STREAM].consumers.get(CONSUMER)

    def take(self, item: Item) -> None:
        """The machine has given this."""
        message, _ = item
        self.book(message)
        if self.rng.random() < self.settings.forgetful:
            return
        self.world.after(self.settings.thinking * self.rng.random(), self._acknowledge, message.reply)

    def book(self, message: Message) -> None:
        """See that it is what was sent, and no more often than it was."""
        require(message.reply is not None and message.reply.startswith("$JS.ACK."), f"{message!r} is no message")
        assert message.reply is not None
        _, _, stream, name, times, seq, *_ = message.reply.split(".")
        require((stream, name) == (STREAM, CONSUMER), f"{message!r} is not for this consumer")
        stored = self.jetstream.streams[STREAM].messages[int(seq)]
        require((message.subject, message.data) == (stored.subject, stored.data), f"message {seq} is {message!r}")
        self.sequences.add(int(seq))
        self.deliveries[message.reply] += 1
        count, sent = self.deliveries[message.reply], self.sim.sent[message.reply]
        require(count <= sent, f"delivery {times} of message {seq} was handed out {count} times, and sent {sent} times")

    def _acknowledge(self, reply: str) -> None:
        if self.client.asleep:
            self.world.at(self.client.asleep_until + 0.001, self._acknowledge, reply)
            return
        payloads = (b"+ACK",) if self.sim.healing else (b"+ACK", b"+ACK", b"+ACK", b"+ACK", b"-NAK")
        self.publish(reply, self.rng.choice(payloads))

    def settled(self) -> bool:
        """Everything was delivered and acknowledged, and nothing is missing."""
        consumer = self.consumer
        if consumer is None or consumer.num_pending or consumer.pending or consumer.again:
            return False
        stored = set(self.jetstream.streams[STREAM].messages)
        return stored <= self.sequences | self.sim.stolen

    def why(self) -> str:
        consumer = self.consumer
        missing = sorted(set(self.jetstream.streams[STREAM].messages) - self.sequences - self.sim.stolen)
        if consumer is None:
            return f"there is no consumer; missing {missing[:5]}"
        return (
            f"{consumer.num_pending} not delivered, {len(consumer.pending)} not acknowledged, "
            f"{len(consumer.pulls.waiting)} requests wait, messages {missing[:5]} are missing"
        )


class FetchUser(Reader):
    """Reads one batch after the other."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.driver: MachineDriver[Item] | None = None
        self.machine: Fetch[Message, Item] | None = None
        self.began = 0.0
        self.slept = 0.0
        self.taken = 0
        self.no_wait = False
        self.calm_since = 0.0
        """When the last mishap was."""
        self._mishaps = (sim.mishaps, False)
        self.reasons: Counter[str] = Counter()

    def start(self) -> None:
        if self.client.asleep:
            self.world.at(self.client.asleep_until + 0.001, self.start)
            return
        rng = self.rng
        self.timeout = rng.choice((0.3, 1.0, 3.0, 12.0))  # the last one with heart-beats
        self.batch = rng.choice((1, 3, 20))
        if self.sim.healing:
            self.batch = min(self.batch, self.settings.consumer.get("max_batch", self.batch))
        self.began, self.taken = self.world.now, 0
        self.no_wait = rng.random() < 0.3
        self.machine = Fetch(
            NEXT,
            what="fetch",
            new_inbox=self.new_inbox,
            make=lambda message, now: (message, now),
            batch=self.batch,
            timeout=self.timeout,
            no_wait=self.no_wait,
            linger=rng.choice((None, None, 0.05)),
            info=self.info,
        )
        self.machine.begin(now=self.world.now)
        self.driver = MachineDriver(self.client, self.machine, self._given, self._ended)
        self.client.drivers[:] = [self.driver]  # type: ignore[list-item]
        self.driver.wait()

    def _given(self, item: Item) -> None:
        assert self.driver is not None
        self.taken += 1
        require(self.taken <= self.batch, f"a fetch of {self.batch} gave {self.taken}")
        self.take(item)
        self.driver.wait()

    def _ended(self) -> None:
        driver, machine = self.driver, self.machine
        assert driver is not None
        assert machine is not None
        reason = machine.reason
        self.reasons[str(reason)] += 1
        require((reason is None) is (driver.error is not None), f"ended for {reason!r} with {driver.error!r}")
        if reason == "limit":
            require(self.taken == self.batch, f"the limit {self.batch} was reached with {self.taken}")
        calm = self.sim.healing and self.world.now - max(self.calm_since, self.began) > self.timeout / 3
        if reason == "no_answer" and calm and not self.no_wait and self.timeout >= 3.0:
            require(False, "nobody has answered a fetch, and its consumer is there")
        if driver.error is not None:
            limits = self.settings.consumer
            allowed = (
                self.batch > limits.get("max_batch", self.batch)
                or limits["max_waiting"] < 512
                or self.sim.consumer_was_missing(self.began)
            )
            require(allowed, f"a fetch failed: {driver.error!r}")
        self.world.after(0.0 if self.sim.healing else self.rng.choice((0.0, 0.05, 0.5)), self.start)

    def check(self) -> None:
        mishaps = (self.sim.mishaps, self.sim.healing)
        if mishaps != self._mishaps:
            self._mishaps, self.calm_since = mishaps, self.world.now
        driver = self.driver
        if driver is None or driver.ended or self.client.asleep:
            return
        asleep = self.sim.asleep_between(self.began, self.world.now)
        late = self.world.now - self.began - self.timeout - asleep
        require(late < 1.5, f"a fetch of {self.timeout:g} s has not ended {late:g} s after its time")

    def patience(self) -> float:
        return 3 * self.settings.model_ack_wait + 60.0 + self.settings.slack
