"""The servers together: one subject space, the services and publishers beyond it, and the way to each server."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from nats_proto import Server
from tests.simulation.knobs import Knobs
from tests.simulation.ledger import serial_of
from tests.simulation.server import ModelServer, Peer, ServerSub
from tests.simulation.transport import Transport
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.client import Client, Dial

__all__ = ["SUBJECTS", "Cluster", "matches"]

SUBJECTS: Final = ("a.1", "a.2", "a.3", "b.1", "b.2.c", "q.work")
"""What is published, by everybody."""

NO_RESPONDERS: Final = b"NATS/1.0 503\r\n\r\n"
SERVICES: Final = {"svc.echo": (0.0, 1), "svc.slow": (1.5, 1), "svc.twice": (0.01, 2), "svc.silent": (0.0, 0)}
"""Subject: seconds until the answer, and how many of them."""


@lru_cache(10_000)  # a message is compared with every subscription there is
def matches(pattern: str, subject: str) -> bool:
    """The naive way."""
    if pattern == subject:
        return True
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


class Cluster:
    """All model servers."""

    server_type = ModelServer

    def __init__(self, world: World, knobs: Knobs) -> None:
        self.world = world
        self.knobs = knobs
        self.servers = [self.server_type(world, self, f"n{n}.test", 4222) for n in range(1, knobs.servers + 1)]
        self.by_address = {(server.host, server.port): server for server in self.servers}
        self.transports: list[Transport] = []
        self.hidden: set[str] = set()  # addresses that the gossip leaves out
        self.gossiping = knobs.gossip
        self.published = 0
        self._number = 0

    # --- gossip ------------------------------------------------------------------------------------------------------

    def gossip(self, teller: ModelServer) -> list[str]:
        """The addresses that ``teller`` names in INFO."""
        if not self.gossiping:
            return []
        return [
            server.address
            for server in self.servers
            if server.running and not server.lame_duck and server.address not in self.hidden
        ]

    # --- dialling ----------------------------------------------------------------------------------------------------

    def dial(self, client: Client, dial: Dial, target: Server) -> None:
        """Somebody knocks: decide what becomes of it, and when."""
        world, rng = self.world, self.world.rng
        server = self.by_address.get(target.address)
        answer_in = 0.002 * (0.5 + rng.random())
        if server is None or not server.running or server.dial == "refuse" or server.lame_duck:
            world.hits["dial refused", client.status] += 1
            world.after(answer_in, client.dial_refused, dial)
        elif server.dial == "hang":
            world.hits["dial hangs", client.status] += 1
        elif server.dial == "late":
            world.hits["dial late", client.status] += 1
            world.after(
                client.options.connect_timeout * rng.choice((0.9, 0.999, 1.0, 1.1, 2.0)), self._connect, dial, server
            )
        else:
            world.after(answer_in, self._connect, dial, server)

    def _connect(self, dial: Dial, server: ModelServer) -> None:
        client = dial.client
        if not server.running:
            client.dial_refused(dial)
            return
        self._number += 1
        up, down = self.knobs.profile(self.world.rng), self.knobs.profile(self.world.rng)
        transport = Transport(self.world, self._number, client, server.url, up, down, self.knobs.late_bytes)
        self.transports = [t for t in self.transports if t.client_open or not t.down.closed]
        self.transports.append(transport)
        server.accept(transport)
        client.dial_succeeded(dial, transport)

    # --- messages ----------------------------------------------------------------------------------------------------

    def route(
        self, subject: str, data: bytes, reply: str | None, block: bytes | None, origin: Peer | None = None
    ) -> None:
        """Give a message to everybody who wants it, and to the services."""
        heard = self.deliver(subject, subject, data, reply, block, origin)
        if reply is not None:
            self._serve(subject, data, reply, heard, origin)

    def deliver(
        self, to: str, subject: str, data: bytes, reply: str | None, block: bytes | None, origin: Peer | None = None
    ) -> bool:
        """Give a message to all subscriptions of ``to``, to one of each queue group. Whether there was any.

        ``subject`` is what the message says of itself.
        """
        groups: dict[tuple[str, str], list[tuple[Peer, ServerSub]]] = {}
        heard = False
        for server in self.servers:
            for peer in list(server.peers):
                if not peer.open or (peer is origin and not peer.echo):
                    continue
                for sub in list(peer.subs.values()):
                    if not matches(sub.subject, to):
                        continue
                    heard = True
                    if sub.queue is None:
                        peer.deliver(sub, subject, data, reply, block)
                    else:
                        groups.setdefault((sub.subject, sub.queue), []).append((peer, sub))
        for members in groups.values():
            peer, sub = self.world.rng.choice(members)
            if sub.sid in peer.subs:
                peer.deliver(sub, subject, data, reply, block)
        return heard

    def _serve(self, subject: str, data: bytes, reply: str, heard: bool, origin: Peer | None) -> None:
        service = SERVICES.get(subject)
        if service is not None:
            delay, answers = service
            for _ in range(answers):
                self.world.after(delay * (0.5 + self.world.rng.random()), self.route, reply, data, None, None)
        elif not heard and origin is not None and origin.no_responders:
            for sub in list(origin.subs.values()):
                if matches(sub.subject, reply):
                    origin.deliver(sub, reply, b"", None, NO_RESPONDERS)

    def publish(self) -> None:
        """Somebody else in the world publishes a message."""
        self.published += 1
        rng = self.world.rng
        size = rng.choice((0, 10, 10, 50, 300))
        data = b"x%d;" % self.published + b"." * size
        block = b"NATS/1.0\r\nTrace: 1\r\n\r\n" if rng.random() < 0.2 else None
        self.route(rng.choice(SUBJECTS), data, None, block)

    @property
    def read_serials(self) -> int:
        """For the record: how many publishes of clients were read by servers."""
        return sum(transport.parsed for transport in self.transports)


def is_own(data: bytes, client: int) -> bool:
    """Whether a payload comes from this client."""
    return serial_of(data, client) is not None
