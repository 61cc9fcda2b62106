"""Who writes batches in the simulated world, and a publisher whose servers allow less: and what they are held to.

An atomic batch is stored as a whole or not at all, and what its error says of that is right. Of a fast ingest what was
acknowledged is stored, in order and once; in the end the books of what was lost and refused are right. What a session
gives up for a server that allows less has certainly failed. And once the world is healed, each of them comes to its end
and the next one succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from nats_proto import Headers, Operation, Pause, Publish, ReplyReceived, Request, RequestFailed
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.atomic_batch import AtomicBatch
from nats_proto._publishing.fast_ingest import (
    FastIngest,
    FastIngestGapError,
    IngestGap,
    IngestRefusal,
    IngestReport,
)
from nats_proto._publishing.pending import Pending
from nats_proto.errors import (
    HeadersNotSupportedError,
    MaxPayloadError,
    NATSError,
    NATSTimeoutError,
    OutboundBufferLimitError,
)
from tests.simulation.invariants import require
from tests.simulation.machine_driver import MachineDriver
from tests.simulation.machine_publish import PublishUser
from tests.simulation.machine_users import STREAM, MachineUser
from tests.simulation.world import Timer

if TYPE_CHECKING:
    from tests.simulation.client import Client
    from tests.simulation.machine_run import MachineSimulation

__all__ = ["AtomicUser", "BatchUser", "IngestUser", "LimitedUser", "OperationRunner"]

REFUSED: Final = (MaxPayloadError, HeadersNotSupportedError)


class OperationRunner:
    """Runs operations, one after the other, as the drivers of both clients do. One of a client's ``drivers``."""

    def __init__(self, client: Client, ended: Callable[[object, NATSError | None], None]) -> None:
        self.client, self.world = client, client.world
        self._ended = ended
        self._state = client.session.subscribe("operations.1", marks=True)
        self._operation: Operation[object] | None = None
        self._token: int | None = None
        self._waiting: Publish | None = None
        """It had no room yet."""
        self._timer: Timer | None = None
        self._seconds = 0.0

    def start(self, operation: Operation[object]) -> None:
        self._operation = operation
        self._step(lambda: next(operation))

    def run(self) -> None:
        """See what has come, and send what had no room."""
        if self.client.asleep:
            return
        while (message := self._state.pop()) is not None:
            if message.subject:
                continue
            mark = self._state.take_mark()
            if isinstance(mark, ReplyReceived | RequestFailed) and mark.token == self._token:
                self._answered(mark)
        if self._waiting is not None:
            self._publish(self._waiting)

    def _answered(self, mark: ReplyReceived | RequestFailed) -> None:
        operation = self._operation
        assert operation is not None
        self._end_wait()
        if isinstance(mark, RequestFailed):
            error = mark.error
            self._step(lambda: operation.throw(error))
        else:
            self._step(lambda: operation.send(mark.message))

    def _end_wait(self) -> None:
        self._token = None
        if self._timer is not None:
            self.world.cancel(self._timer)
            self._timer = None

    def _step(self, advance: Callable[[], object]) -> None:
        try:
            effect = advance()
        except StopIteration as end:
            self._operation = None
            self._ended(end.value, None)
            return
        except NATSError as error:
            self._operation = None
            self._ended(None, error)
            return
        match effect:
            case Request():
                self._request(effect)
            case Publish():
                self._publish(effect)
            case Pause(seconds=seconds):
                self._timer = self.world.at(self.world.now + seconds, self._paused)
            case _:
                raise AssertionError(effect)

    def _request(self, request: Request) -> None:
        operation = self._operation
        assert operation is not None
        assert request.timeout is not None
        try:
            self._token = self.client.session.request(
                request.subject, request.data, headers=request.headers, into=self._state, accept=request.accept
            )
        except NATSError as error:
            failure = error
            self._step(lambda: operation.throw(failure))
            return
        self._seconds = request.timeout
        self._timer = self.world.at(self.world.now + request.timeout, self._timed_out)
        self.client.pump()

    def _publish(self, publish: Publish) -> None:
        operation = self._operation
        assert operation is not None
        self._waiting = publish
        try:
            self.client.session.publish(publish.subject, publish.data, reply=publish.reply, headers=publish.headers)
        except OutboundBufferLimitError:
            return
        self._waiting = None
        self.client.pump()
        self._step(lambda: operation.send(None))

    def _paused(self) -> None:
        operation, self._timer = self._operation, None
        assert operation is not None
        if self.client.asleep:
            self._timer = self.world.at(self.client.asleep_until + 0.001, self._paused)
            return
        self._step(lambda: operation.send(None))

    def _timed_out(self) -> None:
        operation, self._timer = self._operation, None
        if self.client.asleep:
            self._timer = self.world.at(self.client.asleep_until + 0.001, self._timed_out)
            return
        self.run()  # an answer that has come is taken first
        if operation is None or self._token is None or self._operation is not operation:
            return
        token, self._token = self._token, None
        self.client.session.cancel_request(token)
        self._step(lambda: operation.throw(NATSTimeoutError(f"no answer within {self._seconds:g} s")))


class BatchUser(MachineUser):
    """What both have: one batch after the other, and a last one that has nothing in its way."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.timeout = self.rng.choice((0.5, 2.0, 5.0))
        self.number = 0
        self.open = False
        self.last = 0
        """The number of the one that was begun in a healed world."""
        self.succeeded = False

    def start(self) -> None:
        if self.client.asleep:
            self.world.at(self.client.asleep_until + 0.001, self.start)
        elif not self.open and not self.sim.over:
            self.begin()

    def begin(self) -> None:
        """The next one."""
        raise NotImplementedError

    def over(self, error: NATSError | None) -> None:
        """This one has come to its end."""
        self.sim.explain(f"batch {self.number} has ended: {error!r}")
        self.open = False
        if self.number == self.last:
            require(error is None, f"a batch has failed in a healed world: {error!r}")
            self.succeeded = True
        else:
            self.world.after(0.3 * self.rng.random(), self.start)

    def settled(self) -> bool:
        if not self.open and not self.last:
            self.last = self.number + 1
            self.begin()
        return self.succeeded

    def patience(self) -> float:
        return 60.0

    def why(self) -> str:
        return f"batch {self.number} has not ended"

    def stored(self, number: int) -> list[tuple[int, int]]:
        """Where the messages of a batch are: each with its number there and its sequence."""
        before = b"b%d." % number
        return [
            (int(message.data.removeprefix(before)), message.seq)
            for message in self.jetstream.streams[STREAM].messages.values()
            if message.data.startswith(before)
        ]

    def finish(self) -> None:
        """At the end, when nothing is in flight."""


class AtomicUser(BatchUser):
    """Messages that are stored together."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.retry_for = self.rng.choice((0.0, 3.0, 10.0))
        self.ack_every = self.rng.choice((None, 1, 2))
        self.runner = OperationRunner(self.client, self._ended)
        self.client.drivers.append(self.runner)  # type: ignore[arg-type]  # it has what is called
        self.batch: AtomicBatch | None = None
        self.size = 0
        self.fate: dict[int, tuple[str, int]] = {}
        """What each came to, and its size."""

    def begin(self) -> None:
        self.number += 1
        self.open = True
        self.size = self.rng.randint(1, 6)
        self.batch = AtomicBatch(
            f"B{self.number}", now=lambda: self.world.now, timeout=self.timeout, retry_for=self.retry_for,
            ack_every=self.ack_every,
        )  # fmt: skip
        self._go_on()

    def _go_on(self) -> None:
        batch = self.batch
        assert batch is not None
        if self.client.asleep:
            self.world.at(self.client.asleep_until + 0.001, self._go_on)
        elif batch.size < self.size:
            self.runner.start(batch.add("s.p", b"b%d.%d" % (self.number, batch.size + 1)))
        elif self.number != self.last and self.rng.random() < 0.1:
            batch.discard()
            self._is_over("failed", None)
        else:
            self.runner.start(batch.commit())

    def _ended(self, result: object, error: NATSError | None) -> None:
        if error is not None:
            self._is_over(error.outcome, error)
        elif isinstance(result, PubAck):
            require(result.count == self.size, f"{result} for a batch of {self.size}")
            there = self.stored(self.number)
            require(bool(there) and there[-1][1] == result.sequence, f"{result}, and it is at {there}")
            self._is_over("stored", None)
        else:
            self.world.after(self.rng.choice((0.0, 0.0, 0.1)) * self.rng.random(), self._go_on)

    def _is_over(self, fate: str, error: NATSError | None) -> None:
        self.fate[self.number] = fate, self.size
        self._check(self.number)
        self.over(error)

    def _check(self, number: int) -> None:
        fate, size = self.fate[number]
        there = self.stored(number)
        indexes, sequences = [one[0] for one in there], [one[1] for one in there]
        whole = indexes == [*range(1, size + 1)] and sequences == [*range(sequences[0], sequences[0] + size)]
        require(not there or whole, f"of batch {number} of {size} there is {there}")
        require(fate != "stored" or bool(there), f"batch {number} was stored, and is not there")
        require(fate != "failed" or not there, f"batch {number} has certainly failed, and is there: {there}")

    def finish(self) -> None:
        for number in self.fate:
            self._check(number)


class IngestUser(BatchUser):
    """Streams of messages into a stream."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.machine: FastIngest | None = None
        self.driver: MachineDriver[IngestReport] | None = None
        self.size = self.published = self.most = 0
        self.fails = True
        self.gaps: set[int] = set()
        self.refusals: set[int] = set()
        self.mishaps = (0, 0, 0)
        self.fate: dict[int, tuple[FastIngest, NATSError | None, set[int], bool]] = {}

    def begin(self) -> None:
        rng = self.rng
        self.number += 1
        self.open = True
        self.size, self.published = rng.randint(1, 60), 0
        self.fails = rng.random() < 0.5
        self.gaps, self.refusals = set(), set()
        self.mishaps = self.sim.mishaps
        flow, outstanding = rng.choice((1, 3, 20)), rng.choice((1, 2))
        self.most = flow * outstanding
        self.machine = FastIngest(
            f"ingest.{self.number}", flow=flow, max_outstanding=outstanding, on_gap="fail" if self.fails else "ok",
            timeout=self.timeout,
        )  # fmt: skip
        self.driver = MachineDriver(self.client, self.machine, self._given, self._ended)
        self.client.drivers[:] = [self.driver]  # type: ignore[list-item]
        self.driver.wait()
        self._go_on()

    def _go_on(self) -> None:
        machine, driver = self.machine, self.driver
        assert machine is not None
        assert driver is not None
        if driver.ended:
            return
        if self.client.asleep:
            self.world.at(self.client.asleep_until + 0.001, self._go_on)
            return
        for _ in range(self.rng.choice((1, 3, 20))):
            if self.published == self.size or not machine.room:
                break
            self._publish(machine)
        if machine.sent == self.size and not machine.done:
            machine.finish(now=self.world.now)
            driver.run()
        if not driver.ended:
            self.world.after(0.1 * self.rng.random(), self._go_on)

    def _publish(self, machine: FastIngest) -> None:
        data = b"b%d.%d" % (self.number, machine.sent + 1)
        # Of some the stream finds that a condition does not hold.
        refused = self.number != self.last and self.rng.random() < 0.01
        headers = Headers({"Nats-Expected-Last-Subject-Sequence": "999999"}) if refused else None
        reply = machine.begin("s.p", now=self.world.now)
        try:
            self.client.session.publish("s.p", data, reply=reply, headers=headers)
        except OutboundBufferLimitError:
            machine.failed()
        else:
            self.published += 1
            self.client.pump()
        require(machine.sent == self.published, f"{machine.sent} count as sent, and {self.published} are")
        waiting = machine.sent - max(machine.acknowledged, *self.refusals, 0)
        require(waiting <= max(1, self.most), f"{waiting} are not acknowledged, {self.most} at most")

    def _given(self, report: IngestReport) -> None:
        machine, driver = self.machine, self.driver
        assert machine is not None
        assert driver is not None
        match report:
            case IngestGap(first=first, next=until):
                self.gaps.update(range(first, until))
            case IngestRefusal(number=number):
                self.refusals.add(number)
            case _:
                there = {index for index, _ in self.stored(self.number)}
                missing = set(range(1, report.acknowledged + 1)) - there - self.gaps - self.refusals
                told = self.fails or self.mishaps == self.sim.mishaps  # else the word of what is missing may be lost
                require(not told or not missing, f"{report}, and {sorted(missing)[:5]} of {machine.sent} are missing")
        driver.wait()

    def _ended(self) -> None:
        machine, driver = self.machine, self.driver
        assert machine is not None
        assert driver is not None
        told = self.fails or self.mishaps == self.sim.mishaps
        self.fate[self.number] = machine, driver.error, self.gaps | self.refusals, told
        self._check(self.number)
        self.over(driver.error)

    def _check(self, number: int) -> None:
        machine, error, missing, told = self.fate[number]
        there = [index for index, _ in self.stored(number)]
        require(there == sorted(set(there)), f"ingest {number} is stored as {there}")
        if error is None:
            require(not missing & set(there), f"ingest {number}: {sorted(missing & set(there))} count as lost")
            left = set(range(1, machine.sent + 1)) - set(there) - missing
            require(not left or not told, f"ingest {number} of {machine.sent}: nothing was told of {sorted(left)[:5]}")
            gaps = len(missing) - machine.refused
            require(gaps <= machine.lost <= len(missing), f"ingest {number}: {machine.lost} lost, told of {missing}")
            return
        if isinstance(error, FastIngestGapError):
            require(error.stored <= len(there), f"ingest {number}: {error!r} of {error.stored}, and {there} are stored")
        require(
            error.outcome == "unknown" or not there, f"ingest {number} has failed ({error!r}), and {there} is there"
        )

    def finish(self) -> None:
        for number in self.fate:
            self._check(number)


class LimitedUser(PublishUser):
    """Publishes what some servers would refuse. It has more patience than any outage takes."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.given_up = 0
        """Publishes that were taken, and have ended since a server would refuse them."""
        self.unanswered = 0
        """Those that have ended without an answer: what of them waits for a connection is not sent any more."""

    def draw(self) -> None:
        """It tries nothing again, and nothing ends for it by time, but what has waited while it was suspended."""
        self.timeout, self.retry_for = 300.0, 0.0
        self.most, self.in_order, self.remembered, self.lazy = self.rng.choice((5, 50)), False, 120.0, False

    def message(self, number: int) -> tuple[bytes, Headers | None]:
        width = self.rng.choice((1, 20, 100, 300))
        headers = Headers({"Some": "header"}) if self.rng.random() < 0.3 else None
        return b"p%0*d" % (width, number), headers

    def _ended(self, pending: Pending) -> None:
        if isinstance(pending.error, REFUSED):
            self.given_up += 1
            require(pending.error.outcome == "failed", f"{pending} was never sent: {pending.error!r}")
        elif pending.error is not None and pending.error.outcome == "unknown":
            self.unanswered += 1
        super()._ended(pending)

    def check(self) -> None:
        super().check()
        dropped = self.client.session.stats.dropped_publishes
        waiting = self.client.asleep or not self.driver.waiting
        ended = self.given_up <= dropped <= self.given_up + self.unanswered
        require(waiting or ended, f"{dropped} publishes were dropped, {self.given_up} have ended")
