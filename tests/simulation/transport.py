"""One connection between a client and a model server, and what both ends must know of each other to be checked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nats_proto import Parser, Role
from tests.simulation.hostile import Mark
from tests.simulation.links import Pipe, Profile
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.client import Client
    from tests.simulation.server import Peer

__all__ = ["Transport"]


class Transport:
    """Two pipes, the client at one end and a `Peer` of a server at the other."""

    def __init__(
        self, world: World, number: int, client: Client, server: str, up: Profile, down: Profile, tail: bool
    ) -> None:
        self.world = world
        self.number = number
        self.client = client
        self.server = server
        self.peer: Peer | None = None
        self.up = Pipe(world, up, self._to_peer, self._peer_ended)
        self.down = Pipe(world, down, self._to_client, self._client_ended)
        self.up.room = self._room_up
        self.down.room = self._room_down
        self.client_open = True
        self.tail = tail
        """Whether bytes that arrive after the client closed are still shown to it."""
        # from server to client
        self.sent = 0
        """Bytes the server has written."""
        self.fed = 0
        """Bytes the session was given."""
        self.marks: deque[Mark] = deque()
        """What the bytes it was not given yet will do."""
        self.lied = False
        """The server sent messages or PONGs that stand for nothing."""
        self.odd_greeting = False
        self.over = False
        """The session was given a byte that ends every connection."""
        # from client to server
        self.shadow = Parser(Role.SERVER)
        """Reads what the transport accepted."""
        self.accepted = 0
        self.complete = 0
        """Bytes of whole operations among the accepted ones."""
        self.info_seen = False
        self.allowed: list[tuple[int, bool]] = [(1 << 30, True)]
        """``max_payload`` and ``headers`` of the INFOs the session was given in this step, and of the last before."""
        self.taken_before = 0
        """Bytes still to be written that the session gave out before the last INFO came."""
        self.connect_seen = False
        self.open = False
        """The PONG of the handshake was given to the session."""
        self.owes_pong = False
        self.serials: list[int] = []
        """Of the publishes handed over whole, in order."""
        self.parsed = 0
        """How many of those the server has read."""
        self.subs_seen: set[int] = set()
        self.to_restore: set[int] = set()
        """Sids that must be told to the server before the first publish."""
        self.began = world.now
        self.deadline = 0.0
        """When the handshake must be over."""
        self.opened_at = 0.0
        self.last_pong = 0.0

    def _to_peer(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.receive(data)

    def _peer_ended(self) -> None:
        if self.peer is not None:
            self.peer.gone()

    def _to_client(self, data: bytes) -> None:
        self.client.arrived(self, data)

    def _client_ended(self) -> None:
        self.client.ended(self, None)

    def _room_up(self) -> None:
        if self.client_open:
            self.client.room(self)

    def _room_down(self) -> None:
        if self.peer is not None:
            self.peer.flush()

    @property
    def last_serial(self) -> int:
        """The last serial the server has read on this transport, or -1."""
        return self.serials[self.parsed - 1] if self.parsed else -1

    def close_by_client(self) -> None:
        """The client's side is closed: what was accepted may still arrive, nothing more is said."""
        self.client_open = False
        rng = self.world.rng
        if rng.random() < 0.6:
            self.up.finish()
        else:  # unread bytes make the operating system send a reset
            self.up.drop(rng.randint(0, len(self.up.buffer)))
            self.world.after(0.001, self._peer_ended)
        if not self.tail:
            self.down.drop()

    def close_by_server(self) -> None:
        """The server's side is closed: the client reads what is on its way, then the end."""
        self.peer = None
        self.down.finish()
        self.up.drop()

    def reset(self) -> None:
        """The connection is broken in the middle: of what is on its way, a part arrives, the rest never."""
        rng = self.world.rng
        self.up.drop(rng.randint(0, len(self.up.buffer)) if rng.random() < 0.7 else 0)
        peer = self.peer
        if peer is not None:
            peer.gone()
        keep = rng.randint(0, len(self.down.buffer)) if rng.random() < 0.7 else 0
        self.down.drop(keep)
        if self.client_open:
            self.world.after(0.002 * rng.random(), self.client.ended, self, ConnectionResetError("reset by peer"))

    def vanish(self) -> None:
        """Both directions become black holes: nobody will ever tell the client."""
        self.up.black_hole = True
        self.down.black_hole = True

    @property
    def quiet(self) -> bool:
        """All that the client wrote was read by a server that is still there."""
        return self.peer is not None and not self.up.buffer and not self.up.closed and not self.up.ending
