"""The simulated world for machines: servers with JetStream, and a client whose publishes are anybody's.

Theory of operation
-------------------
The world of sessions checks every byte against a ledger, and so it has to make all that is published itself. Here
machines publish, and the session is trusted: of the checks only the order of events is left. The network, its faults
and the servers' own are the same. All servers share one JetStream: its messages come from all of them, and it knows
where somebody is subscribed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nats_proto import PublishFrame, SessionEvent
from tests.simulation.client import Client
from tests.simulation.cluster import NO_RESPONDERS, Cluster, matches
from tests.simulation.hostile import Mark
from tests.simulation.jetstream import JetStream, Sent
from tests.simulation.knobs import Knobs
from tests.simulation.order import DialLog, EventOrder
from tests.simulation.server import ModelServer, Peer
from tests.simulation.transport import Transport
from tests.simulation.world import Timer, World

if TYPE_CHECKING:
    from tests.simulation.machine_driver import MachineDriver

__all__ = ["JetStreamCluster", "MachineClient", "OrderOnly"]


class _Peer(Peer):
    """The server's end of a connection on which anything may be published."""

    def _check_serial(self, frame: PublishFrame) -> None:
        pass


class _Server(ModelServer):
    peer_type = _Peer


class JetStreamCluster(Cluster):
    """All model servers, and the JetStream that they have together."""

    server_type = _Server

    def __init__(self, world: World, knobs: Knobs, *, commit: float = 0.0, flow_window: int = 32 << 20) -> None:
        super().__init__(world, knobs)
        clustered = knobs.servers > 1
        self.jetstream = JetStream(self.interested, clustered=clustered, commit=commit, flow_window=flow_window)
        self.told: Callable[[Sent], None] = lambda message: None
        """Called with all that JetStream sends."""
        self.delay = 0.0
        """Seconds until JetStream has looked at what it is sent."""
        self._timer: Timer | None = None
        self._armed: float | None = None

    def interested(self, subject: str) -> bool:
        """Whether anybody is subscribed to it; thieves are no clients, and always are."""
        return subject.startswith("thief.") or any(
            matches(sub.subject, subject)
            for server in self.servers
            for peer in server.peers
            if peer.open
            for sub in peer.subs.values()
        )

    def route(
        self, subject: str, data: bytes, reply: str | None, block: bytes | None, origin: Peer | None = None
    ) -> None:
        """Give a message to everybody who wants it, and to JetStream."""
        heard = self.deliver(subject, subject, data, reply, block, origin)
        if self.delay:
            self.world.after(self.delay, self._to_jetstream, subject, data, reply, block, heard, origin)
        else:
            self._to_jetstream(subject, data, reply, block, heard, origin)

    def _to_jetstream(
        self, subject: str, data: bytes, reply: str | None, block: bytes | None, heard: bool, origin: Peer | None
    ) -> None:
        heard |= self.jetstream.receive(subject, reply, block, data, self.world.now)
        self.changed()
        if reply is not None and not heard and origin is not None and origin.no_responders and origin.open:
            for sub in list(origin.subs.values()):
                if matches(sub.subject, reply):
                    origin.deliver(sub, reply, b"", None, NO_RESPONDERS)

    def changed(self) -> None:
        """Something was done to JetStream: send what it says, and see when it is due."""
        jetstream, world = self.jetstream, self.world
        for message in jetstream.take():
            if world.recording:
                world.note(f"jetstream: {message}")
            self.told(message)
            self.deliver(message.to, message.subject, message.data, message.reply, message.block)
        due = jetstream.next_timeout()
        if due != self._armed or self._timer is None:
            if self._timer is not None:
                world.cancel(self._timer)
            self._armed = due
            self._timer = None if due is None else world.at(max(due, world.now), self._tick)

    def _tick(self) -> None:
        self._timer = self._armed = None
        self.jetstream.handle_timeout(self.world.now)
        self.changed()

    def store(self, subject: str, data: bytes, block: bytes | None = None) -> None:
        """Somebody else publishes into a stream."""
        self.jetstream.receive(subject, None, block, data, self.world.now)
        self.changed()


class OrderOnly:
    """The order of events, and nothing else of what `Checks` looks at."""

    def __init__(self, client: Client) -> None:
        self.order = EventOrder(client.options)
        self.dials = DialLog(client.options)
        self.dirty = self.user_left = self.draining = self.fatal = False

    def event(self, event: SessionEvent) -> None:
        self.order.follow(event)

    def step(self) -> None:
        pass

    def dialled(self, server: str, at: float, *, first_walk: bool) -> None:
        pass

    def wrote(self, transport: Transport, data: bytes) -> None:
        pass

    def received(self, transport: Transport, marks: list[Mark]) -> None:
        for mark in marks:
            transport.open |= mark.kind == "pong"

    def after_receive(self, transport: Transport) -> None:
        pass

    def server_read(self, transport: Transport, peer: Peer) -> None:
        pass


class MachineClient(Client):
    """A client whose machines are looked at after each step of its session."""

    def __init__(self, world: World, cluster: Cluster, knobs: Knobs, number: int) -> None:
        super().__init__(world, cluster, knobs, number)
        self.checks = OrderOnly(self)  # type: ignore[assignment]
        self.drivers: list[MachineDriver[object]] = []
        self.after_step: Callable[[], None] = lambda: None

    def connect(self) -> None:
        """Begin."""
        self.session.connect(now=self.world.now)
        self.checks.order.state = "connecting"
        self.pump()

    def pump(self) -> None:
        """As every adapter; then whoever waits looks."""
        super().pump()
        for driver in list(self.drivers):
            driver.run()
        self.after_step()

    @property
    def slept(self) -> list[tuple[float, float]]:
        """From when to when it was suspended."""
        return self._slept
