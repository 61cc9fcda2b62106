"""A reader without end in the simulated world, and what it holds its machine to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nats_proto import Message
from nats_proto._consuming.consume import Consume
from nats_proto._consuming.options import ConsumeOptions
from nats_proto._jetstream.metadata import parse_ack_subject
from tests.simulation.invariants import require
from tests.simulation.machine_driver import MachineDriver
from tests.simulation.machine_users import NEXT, PAUSE, STREAM, Item, Reader
from tests.simulation.order import UP

if TYPE_CHECKING:
    from tests.simulation.client import Client
    from tests.simulation.machine_run import MachineSimulation

__all__ = ["AgedUser", "ConsumeUser"]

LATENCY = 0.5
"""Seconds that a message may take to its reader, when nothing is in its way."""


class ConsumeUser(Reader):
    """Reads without end."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        settings = sim.settings
        self.options = ConsumeOptions(
            max_messages=settings.max_messages,
            threshold=settings.threshold,
            expires=settings.expires,
            heartbeat=settings.heartbeat,
            on_missing=settings.on_missing,  # type: ignore[arg-type]  # one of three
            ack_wait=settings.ack_wait,
        )
        self.machine: Consume[Message, Item] = Consume(
            NEXT,
            self.options,
            what="consume",
            new_inbox=self.new_inbox,
            make=lambda message, now: (message, now),
            now=self.world.now,
            info=self.info,
            create=self.create,
        )
        self._unasked_since = self._checked = self.world.now
        self.driver = self.make_driver()
        self.client.drivers.append(self.driver)  # type: ignore[arg-type]

    def make_driver(self) -> MachineDriver[Item]:
        """Who runs the machine."""
        return MachineDriver(self.client, self.machine, self._given)

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
        machine, driver = self.machine, self.driver
        require(not driver.ended, f"consume has ended: {driver.error!r}")
        require(len(machine.warnings) <= 100, "too many warnings are kept")
        most = self.options.max_messages
        assert most is not None
        if driver.state is None:
            return
        require(0 <= machine.outstanding <= most, f"{machine.outstanding} messages outstanding, {most} at most")
        # What waits at the server, what is on its way, and what is unread, for the inbox of now.
        prefix = driver.state.subject.removesuffix("*")
        waiting = 0
        consumer = self.consumer
        if consumer is not None:
            waiting = sum(r.left for r in consumer.pulls.waiting if r.reply.startswith(prefix))
        unread = sum(message.reply is not None for message in driver.state.messages)
        self._check_asked(waiting, unread)
        if self.settings.exact:
            require(
                waiting + unread <= most,
                f"{waiting} messages are asked for and {unread} unread, {most} at most",
            )

    def _check_asked(self, waiting: int, unread: int) -> None:
        """As long as nothing is in the way, something is asked for."""
        sim, driver, now = self.sim, self.driver, self.world.now
        up = self.client.checks.order.state is UP
        asleep = self.client.asleep or now - self._checked > 3.0  # it was, and has just been woken
        self._checked = now
        if waiting or unread or not up or asleep or not driver.waiting or not self._reachable():
            self._unasked_since = now
            sim.disturbed(PAUSE if not up or asleep else 0.0)
            return
        since = self._unasked_since
        calm = now >= sim.calm_from
        require(
            not calm or now - since < PAUSE, f"nothing was asked for in {now - since:g} s, and nothing was in the way"
        )

    def _reachable(self) -> bool:
        """Whether requests get to a consumer, and its words back."""
        consumer, transport = self.consumer, self.client.transport
        pipes = (transport.up, transport.down) if transport is not None else ()
        clear = bool(pipes) and not any(pipe.held or pipe.black_hole or pipe.closed or pipe.blocked for pipe in pipes)
        return clear and consumer is not None and consumer.led and self.settings.consumer["max_waiting"] > 2

    def patience(self) -> float:
        settings = self.settings
        heartbeat = self.options.heartbeat
        assert heartbeat is not None
        # A lost acknowledgement takes one ack_wait, a lost request two heart-beats, an absent leader a pause.
        return 3 * settings.model_ack_wait + 3 * heartbeat + 20.0 + settings.slack + 8.0 + self._crowded()

    def _crowded(self) -> float:
        """Where few requests may wait each one too many is dropped without a word, and missed after two heart-beats."""
        if self.settings.consumer["max_waiting"] > 2:
            return 0.0
        assert self.options.heartbeat is not None
        return 2.5 * self.options.heartbeat * len(self.jetstream.streams[STREAM].messages)

    def first_again(self) -> float:
        """Seconds until the first message comes, when nothing is in the way."""
        assert self.options.heartbeat is not None
        return 2 * self.options.heartbeat + 6.0


class _CountingDriver(MachineDriver[Item]):
    """Tells the machine what its queue has, as both clients do, and its user what the machine thinks of a message."""

    def __init__(
        self,
        client: Client,
        machine: Consume[Message, Item],
        give: Callable[[Item], None],
        judged: Callable[..., None],
    ) -> None:
        super().__init__(client, machine, give, counting=True)
        self._consume = machine
        self._judged = judged

    def received(self, message: Message, now: float) -> None:
        outlived, items = self._consume.outlived, len(self._consume.items)
        super().received(message, now)
        if self._consume.outlived > outlived or len(self._consume.items) > items:
            self._judged(message, outlived=self._consume.outlived > outlived)


class AgedUser(ConsumeUser):
    """Reads so slowly that messages lie unread for longer than the consumer waits for an acknowledgement (row 18)."""

    PAUSES = (0.0, 0.0, 0.05, 0.3)
    """Parts of ``ack_wait``. So marks are never further apart than may decide together, and nothing is in doubt."""

    def __init__(self, sim: MachineSimulation) -> None:
        sim.settings.ack_wait = sim.settings.model_ack_wait
        # Without room for its requests in an outage, a reader learns that they have expired before it has read all that
        # they had brought: for that moment it asks for too much.
        sim.settings.exact &= sim.knobs.options.pending_size >= 1 << 20
        super().__init__(sim)

        self._first_given: dict[int, float] = {}
        """When each message of the stream was handed out, the first time."""

    def make_driver(self) -> MachineDriver[Item]:
        return _CountingDriver(self.client, self.machine, self._given, self.judged)

    def _given(self, item: Item) -> None:
        self.take(item)
        self.world.after(self._pause(), self.driver.wait)

    def _check_repeated(self, message: Message, sent: float) -> None:
        """What had been delivered again before its first delivery was handed out is not handed out as well."""
        delivered = parse_ack_subject(message.reply)
        given = self._first_given.setdefault(delivered.stream_sequence, self.world.now)
        if given == self.world.now:
            return
        last = 0 < self.options.max_deliver <= delivered.num_delivered
        require(
            last or delivered.num_delivered == 1 or sent >= given - LATENCY,
            f"{message!r} was delivered again {given - sent:g} s before it was handed out, and is handed out once more",
        )

    def _pause(self) -> float:
        if self.sim.healing:
            return 0.01 * self.rng.random()
        return self.rng.choice(self.PAUSES) * self.settings.model_ack_wait * self.rng.random()

    def judged(self, message: Message, *, outlived: bool) -> None:
        """It was taken, and is handed out, or not."""
        assert message.reply is not None
        first, last = self.sim.sent_at[message.reply]
        ack_wait = self.settings.model_ack_wait
        if outlived:
            if self.client.slept or parse_ack_subject(message.reply).stream_sequence in self._first_given:
                return  # of a process that was stopped, or is not connected for long, less is certain
            age = self.world.now - first
            require(age >= 3 / 8 * ack_wait, f"{message!r}, {age:g} s old, was taken for too old")
            return
        self._check_repeated(message, last)
        age = self.world.now - last
        # Where nothing is late but with its connection, what is too old is known to be so.
        quick = self.settings.exact and min(self.sim.knobs.capacities) >= 1 << 20
        require(
            not quick or age < 7 / 8 * ack_wait + LATENCY,
            f"{message!r} was delivered {age:g} s ago, and is handed out",
        )
