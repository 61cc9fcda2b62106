"""A model server: the least that behaves like one towards a client, and can be told to behave worse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from nats_proto import (
    ConnectFrame,
    Encoder,
    Frame,
    Parser,
    PingFrame,
    PongFrame,
    PublishFrame,
    Role,
    SubscribeFrame,
    UnsubscribeFrame,
)
from tests.faults.hostile_inputs import Moment
from tests.simulation.hostile import Lie, Mark, lies
from tests.simulation.ledger import serial_of
from tests.simulation.transport import Transport
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

__all__ = ["DENIED", "ModelServer", "Peer", "ServerSub"]

DENIED: Final = "deny."
"""Publishing to and subscribing below this is not permitted."""

PING, PONG, OK = b"PING\r\n", b"PONG\r\n", b"+OK\r\n"
_encoder: Final = Encoder(max_control_line=1 << 20)


@dataclass(slots=True, eq=False)
class ServerSub:
    """A subscription as the server counts it: ``max_msgs`` and ``delivered`` begin with the SUB."""

    subject: str
    queue: str | None
    sid: int
    max_msgs: int | None = None
    delivered: int = 0


class ModelServer:
    """One server of a cluster. The attributes are what faults turn."""

    peer_type: type[Peer]

    def __init__(self, world: World, cluster: Cluster, name: str, port: int) -> None:
        self.world = world
        self.cluster = cluster
        self.host = name
        self.port = port
        self.address = f"{name}:{port}"
        self.url = f"nats://{name}:{port}"
        self.generation = 1
        self.peers: list[Peer] = []
        self.running = True
        self.dial = "accept"  # or "refuse", "hang", "late"
        self.stall = ""  # "greeting", "answer": never say that
        self.refusals = 0  # logins to refuse; -1: all
        self.account_payload = 0  # what an account is allowed, told behind the first PONG; 0: no less than others
        self.login_seconds = 0.0  # after which a login expires; 0: never
        self.max_connections = 0  # 0: no limit
        self.max_subscriptions = 0
        self.max_payload = 1 << 20
        self.headers = True
        self.lame_duck = False
        self.liar = False
        self.ping_interval = 0.0  # 0: never
        self.max_pending = 1 << 20
        self.junk: list[str] = []  # put into the gossip

    def info(self, *, of_account: bool) -> dict[str, object]:
        """The fields of INFO."""
        fields: dict[str, object] = {
            "server_id": f"{self.host}-{self.generation}",
            "version": "2.15.1",
            "proto": 1,
            "headers": self.headers,
            "max_payload": self.allowed if of_account else self.max_payload,
        }
        urls = self.cluster.gossip(self) + self.junk
        if urls:
            fields["connect_urls"] = urls
        if self.lame_duck:
            fields["ldm"] = True
        return fields

    @property
    def allowed(self) -> int:
        """Bytes of headers and payload that a client which is logged in may send."""
        return min(self.max_payload, self.account_payload or self.max_payload)

    def accept(self, transport: Transport) -> None:
        """A client has connected."""
        peer = self.peer_type(self, transport)
        transport.peer = peer
        self.peers.append(peer)
        peer.greet()

    def announce(self) -> None:
        """An INFO to everybody: the gossip, or something else, has changed."""
        for peer in list(self.peers):
            if peer.open:
                peer.tell_info()

    def crash(self) -> None:
        """kill -9, or the power is gone: then nobody hears of it."""
        self.running = False
        for peer in list(self.peers):
            if self.world.chance(0.7):
                peer.transport.reset()
            else:
                peer.transport.vanish()
                peer.forget()

    def restart(self) -> None:
        """It is back, with another id and nothing remembered."""
        for peer in list(self.peers):
            peer.transport.reset()
        self.generation += 1
        self.running = True
        self.lame_duck = False

    def heal(self) -> None:
        """From now on a good server."""
        if not self.running:
            self.restart()
        self.dial = "accept"
        self.stall = ""
        self.refusals = self.max_connections = self.max_subscriptions = 0
        self.login_seconds = 0.0
        self.account_payload = 0
        self.max_payload = 1 << 20
        self.headers = True
        self.lame_duck = self.liar = False
        self.max_pending = 1 << 20
        self.junk = []
        for peer in list(self.peers):
            if peer.refused:  # a real one would not take these subscriptions back either
                peer.close()
        self.announce()


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: ModelServer, transport: Transport) -> None:
        self.server = server
        self.world = server.world
        self.transport = transport
        self.parser = Parser(Role.SERVER)
        self.subs: dict[int, ServerSub] = {}
        self.finished: dict[int, int | None] = {}
        """How much was delivered to sids that reached their maximum; None: refused."""
        self.refused = False  # a subscription was turned down
        self.open = False
        self.alive = True
        self.verbose = False
        self.echo = True
        self.no_responders = False
        self.account_told = False
        self.pings_out = 0
        self._unwritten = bytearray()

    # --- out ---------------------------------------------------------------------------------------------------------

    def greet(self) -> None:
        """INFO first, or whatever else a server of this kind says."""
        server = self.server
        if server.stall == "greeting":
            return
        if server.liar and self.world.chance(0.5):
            if self._lie(Moment.GREETING):
                return
        else:
            self.tell_info()
        if server.max_connections and len(server.peers) > server.max_connections:
            self.refuse("maximum connections exceeded")

    def tell_info(self) -> None:
        """What there is to know about the server now."""
        info = self.server.info(of_account=self.open)
        self.send(_encoder.info(info), "info", allows=(info["max_payload"], info["headers"]))

    def send(self, raw: bytes, kind: str = "", **fields: object) -> None:
        """Write, with a mark for the client's side to check."""
        if not self.alive:
            return
        transport = self.transport
        transport.sent += len(raw)
        if kind:
            transport.marks.append(Mark(transport.sent, kind, **fields))  # type: ignore[arg-type]
        if self._unwritten:
            self._unwritten += raw
        else:
            taken = transport.down.write(raw)
            if taken < len(raw):
                self._unwritten += raw[taken:]
        if len(self._unwritten) > self.server.max_pending:
            self.world.hits["slow consumer cut", transport.client.status] += 1
            self.close()

    def flush(self) -> None:
        """The transport takes bytes again."""
        while self._unwritten:
            taken = self.transport.down.write(bytes(self._unwritten))
            del self._unwritten[:taken]
            if not taken:
                break

    def refuse(self, text: str) -> None:
        """Say why, and close."""
        if self.alive:
            self.send(_encoder.err(text), "err", subject=text)
            self.transport.marks.append(Mark(self.transport.sent, "end"))
            self.close()

    def complain(self, text: str) -> None:
        """Say something, and keep the connection."""
        self.send(_encoder.err(text), "err", subject=text)

    def _lie(self, moment: Moment) -> bool:
        """Say something that no server should. True when nothing else can be said after it."""
        lie = self.world.rng.choice(lies(moment))
        self.world.hits[f"lie {moment.name.lower()}", self.transport.client.status] += 1
        if self.world.recording:
            self.world.note(f"server {self.server.host}: lies {lie.name}")
        return self.tell(lie, moment)

    def tell(self, lie: Lie, moment: Moment = Moment.OPEN) -> bool:
        """Say it. True when nothing can be said after it."""
        transport = self.transport
        if moment is Moment.ANSWER or any(mark.kind in ("msg", "pong") for mark in lie.marks):
            transport.lied = True
        transport.odd_greeting |= moment is Moment.GREETING or not transport.open
        start = transport.sent
        transport.marks.extend(replace(mark, offset=start + mark.offset) for mark in lie.marks)
        self.send(lie.data)
        if lie.eof:
            self.close()
        return lie.eof or (bool(lie.marks) and lie.marks[-1].kind == "end")

    def deliver(self, sub: ServerSub, subject: str, data: bytes, reply: str | None, block: bytes | None) -> None:
        """A message for one of its subscriptions."""
        sub.delivered += 1
        self.send(
            _encoder.message(subject, sub.sid, data, reply, block),
            "msg",
            sid=sub.sid,
            subject=subject,
            data=data,
            header_block=block,
        )
        if sub.max_msgs is not None and sub.delivered >= sub.max_msgs:
            self._finish(sub.sid)

    # --- ends --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The server's own wish: what was accepted by the network still arrives."""
        if self.alive:
            self.forget()
            self.transport.close_by_server()

    def gone(self) -> None:
        """The client, or the network, ended it."""
        if self.alive:
            self.forget()
            self.transport.close_by_server()

    def forget(self) -> None:
        """It is no longer one of the server's connections."""
        self.alive = self.open = False
        self._unwritten.clear()
        if self in self.server.peers:
            self.server.peers.remove(self)

    # --- in ----------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes of the client."""
        for frame in self.parser.receive_data(data):
            if not self.alive:
                return
            self._handle(frame)
        if self.parser.error is not None:
            raise Violation(f"the client wrote what no server can read: {self.parser.error}")
        if self.alive:
            self.transport.client.checks.server_read(self.transport, self)

    def _handle(self, frame: Frame) -> None:
        match frame:
            case PublishFrame():
                self._publish(frame)
            case PingFrame():
                if not (self.server.stall == "answer" and not self.open):
                    self.send(PONG, "pong")
                    if self.open and self.server.account_payload and not self.account_told:
                        self.account_told = True
                        self.world.after(self.world.rng.choice((0.0, 0.002)), self.tell_info)
            case PongFrame():
                self.pings_out = 0
            case SubscribeFrame():
                self._subscribe(frame)
            case UnsubscribeFrame(sid=sid, max_msgs=max_msgs):
                self._unsubscribe(sid, max_msgs)
                self._ok()
            case ConnectFrame(options=options):
                self._connect(options)
            case _:
                raise Violation(f"a client does not send {frame!r}")

    def _ok(self) -> None:
        if self.verbose:
            self.send(OK)

    def _connect(self, options: dict[str, object]) -> None:
        server = self.server
        self.verbose = bool(options["verbose"])
        self.echo = bool(options["echo"])
        self.no_responders = bool(options["no_responders"])
        if server.stall == "answer":
            return
        if server.refusals:
            server.refusals -= server.refusals > 0
            self.world.hits["login refused", self.transport.client.status] += 1
            self.refuse("Authorization Violation")
            return
        if server.liar and self.world.chance(0.4) and self._lie(Moment.ANSWER):
            self.open = False
            return
        self.open = True
        self._ok()
        if server.ping_interval:
            self.world.after(server.ping_interval, self._ping)
        if server.login_seconds:
            self.world.after(server.login_seconds, self._expire)

    def _expire(self) -> None:
        if self.server.login_seconds:  # else logins do not expire any more
            self.refuse("User Authentication Expired")

    def _ping(self) -> None:
        if not self.alive:
            return
        if self.pings_out >= 2:
            self.refuse("Stale Connection")
            return
        self.pings_out += 1
        self.send(PING, "ping")
        self.world.after(self.server.ping_interval, self._ping)

    def _publish(self, frame: PublishFrame) -> None:
        server = self.server
        self._check_serial(frame)
        size = len(frame.data) + len(frame.header_block or b"")
        if size > server.allowed:
            self.refuse("Maximum Payload Violation")
        elif frame.header_block is not None and not server.headers:
            self.refuse("message headers not supported")
        elif frame.subject.startswith(DENIED):
            self.complain(f'Permissions Violation for Publish to "{frame.subject}"')
        else:
            self._ok()
            server.cluster.route(frame.subject, frame.data, frame.reply, frame.header_block, self)

    def _check_serial(self, frame: PublishFrame) -> None:
        transport = self.transport
        serial = serial_of(frame.data, transport.client.number)
        if serial is None or transport.serials[transport.parsed] != serial:
            raise Violation(f"the server read publish {serial}, which was not the next one on this transport")
        transport.parsed += 1

    def _subscribe(self, frame: SubscribeFrame) -> None:
        server = self.server
        if frame.sid in self.subs or frame.sid in self.finished:
            raise Violation(f"sid {frame.sid} was subscribed twice on one connection")
        if frame.subject.startswith(DENIED):
            self.finished[frame.sid] = None
            self.complain(f'Permissions Violation for Subscription to "{frame.subject}"')
        elif server.max_subscriptions and len(self.subs) >= server.max_subscriptions:
            self.finished[frame.sid] = None
            self.refused = True
            self.complain("maximum subscriptions exceeded")
        else:
            self.subs[frame.sid] = ServerSub(frame.subject, frame.queue, frame.sid)
            self._ok()

    def _unsubscribe(self, sid: int, max_msgs: int | None) -> None:
        sub = self.subs.get(sid)
        if sub is None:
            return
        sub.max_msgs = max_msgs
        if max_msgs is None:
            del self.subs[sid]
        elif sub.delivered >= max_msgs:
            self._finish(sid)

    def _finish(self, sid: int) -> None:
        self.finished[sid] = self.subs.pop(sid).delivered


ModelServer.peer_type = Peer
