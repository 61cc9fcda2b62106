"""A publisher with a window in the simulated world, and what it holds its machine to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from nats_proto import Headers, Message
from nats_proto._publishing.pending import Pending
from nats_proto._publishing.window import PublishWindow
from nats_proto.errors import HeadersNotSupportedError, MaxPayloadError, OutboundBufferLimitError
from tests.simulation.invariants import require
from tests.simulation.machine_driver import MachineDriver
from tests.simulation.machine_users import STREAM, MachineUser

if TYPE_CHECKING:
    from tests.simulation.machine_run import MachineSimulation

__all__ = ["PublishUser"]


ON_THE_WAY: Final = 3.0
"""Seconds that a try may be on its way."""
PAUSES: Final = (0.1, 10.0)
"""Seconds, at most, for which nobody waits."""


class WindowDriver(MachineDriver[Pending]):
    """As the clients' publishers it takes many acknowledgements at once."""

    def received(self, message: Message, now: float) -> None:
        assert isinstance(self.machine, PublishWindow)
        self.machine.receive_all(deque((message,)), lambda: None, now=now)


class PublishUser(MachineUser):
    """Publishes through a window."""

    busy = False
    """It publishes so often that it uses reply subjects again."""

    def __init__(self, sim: MachineSimulation) -> None:
        super().__init__(sim)
        self.draw()
        self.window: PublishWindow[Pending] = PublishWindow(
            "acks.1", Pending, max_pending=self.most, timeout=self.timeout, retry_for=self.retry_for,
            in_order=self.in_order, duplicate_window=self.remembered,
        )  # fmt: skip
        # Longer than the window believes: what is on its way when the time is up arrives later.
        sim.stream.config["duplicate_window"] = round((self.remembered + ON_THE_WAY) * 1e9)
        if self.busy:
            self.window._own_replies = self.window._flight.own = 3
        self.driver = WindowDriver(self.client, self.window, self._ended)
        self.client.drivers.append(self.driver)  # type: ignore[arg-type]
        self.count = 0
        self.begun: dict[int, Pending] = {}
        self.unended: deque[tuple[int, Pending]] = deque()
        """Those that may not have ended, the oldest first."""
        self.done: dict[int, Pending] = {}

    def draw(self) -> None:
        """How it publishes."""
        rng = self.rng
        self.timeout = rng.choice((0.5, 2.0, 5.0))
        self.retry_for = rng.choice((0.0, 3.0, 10.0))
        self.most = rng.choice((1, 5, 50))
        self.in_order = rng.random() < 0.3
        self.remembered = rng.choice((120.0, 3.0))
        self.lazy = self.world.seed % 4 == 2  # not drawn: the other seeds stay what they are
        """Often nobody waits for what ends, though somebody looks."""
        self.busy = self.world.seed % 6 == 1  # as above

    def message(self, number: int) -> tuple[bytes, Headers | None]:
        """What it publishes next."""
        data = b"p%d" % number
        has_id = self.rng.random() < (0.1 if self.busy else 0.5)
        return data, Headers({"Nats-Msg-Id": data.decode()}) if has_id else None

    def start(self) -> None:
        self.driver.wait()
        self._next()

    def _next(self) -> None:
        """Publish some, as long as there is room."""
        if not self.client.asleep and not self.sim.over:
            if self.lazy:
                self.driver.look()
            for _ in range(self.rng.choice((1, 1, 3, 10))):
                if self.window.room <= 0:
                    break
                self._publish()
        self.world.after((0.08 if self.busy else 0.2) * self.rng.random(), self._next)

    def _publish(self) -> None:
        self.count += 1
        data, headers = self.message(self.count)
        pending = self.window.begin("s.p", data, headers, now=self.world.now)
        self.begun[self.count] = pending
        self.unended.append((self.count, pending))
        require(self.window.pending <= self.most, f"{self.window.pending} in flight, {self.most} at most")
        try:
            self.client.session.publish("s.p", data, reply=pending.reply, headers=headers)
        except (OutboundBufferLimitError, MaxPayloadError, HeadersNotSupportedError) as error:
            self.window.failed(pending, error)
            self.done[self.count] = pending
            return
        self.client.pump()
        self.driver.run()  # its deadline may be the next

    def _ended(self, pending: Pending) -> None:
        number = int(bytes(pending.data)[1:])
        require(pending.done, f"publish {number} was given, and has not ended")
        require(number not in self.done, f"publish {number} has ended twice")
        self.done[number] = pending
        self.sim.explain(f"publish {number} ended: {pending.pub_ack} {pending.error!r}")
        if pending.pub_ack is not None:
            at = self._places(pending)
            require(pending.pub_ack.sequence in at, f"publish {number} has the ack of {pending.pub_ack.sequence}, {at}")
        else:
            assert pending.error is not None
            self._check_failure(number, pending)
        if self.lazy and not self.window.items and not self.sim.healing and self.rng.random() < 0.5:
            self.world.after(self.rng.choice(PAUSES) * self.rng.random(), self.driver.wait)
        else:
            self.driver.wait()

    def _check_failure(self, number: int, pending: Pending) -> None:
        assert pending.error is not None
        if pending.error.outcome == "failed":
            there = self._places(pending)
            require(not there, f"publish {number} has certainly failed, and is stored at {there}")

    def _places(self, pending: Pending) -> list[int]:
        """The sequences at which it is stored."""
        data = bytes(pending.data)
        return [stored.seq for stored in self.jetstream.streams[STREAM].messages.values() if stored.data == data]

    def stored(self) -> dict[bytes, list[int]]:
        """Sequences by what was stored there."""
        found: dict[bytes, list[int]] = {}
        for message in self.jetstream.streams[STREAM].messages.values():
            found.setdefault(message.data, []).append(message.seq)
        return found

    def check(self) -> None:
        require(not self.driver.ended, f"the window has ended: {self.driver.error!r}")
        if self.client.asleep or self.lazy:
            return
        now = self.world.now
        while self.unended and self.unended[0][1].done:
            self.unended.popleft()
        if self.unended:
            number, pending = self.unended[0]
            asleep = self.sim.asleep_between(pending.begun, now)
            # What has no room in the session waits there, before it is the window's to end.
            limit = self.retry_for + 2 * self.timeout + 3.0 + asleep
            require(now - pending.begun < limit, f"publish {number} was begun {now - pending.begun:g} s ago")

    def settled(self) -> bool:
        return not self.window.pending and len(self.done) == len(self.begun)

    def why(self) -> str:
        return f"publishes {sorted(set(self.begun) - set(self.done))[:5]} have not ended"

    def patience(self) -> float:
        return self.retry_for + 2 * self.timeout + 5.0 + (max(PAUSES) if self.lazy else 0.0)

    def finish(self) -> None:
        """At the end, when nothing is in flight."""
        stored = self.stored()
        for number, pending in self.done.items():
            at = stored.get(bytes(pending.data), [])
            require(len(at) <= 1, f"publish {number} is stored at {at}")
            if pending.error is not None:
                self._check_failure(number, pending)
