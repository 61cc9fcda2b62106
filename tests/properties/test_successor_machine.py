"""From a lame duck to its successor, under every interleaving of two connections: a model says what must be given.

Two model servers of one cluster. What others publish reaches every subscription that a server knows, in order, on its
own connection to the client, as late as the schedule likes. What the client publishes is read by whoever it was
written to. At the end everything is delivered, and the user must have got each message once and in order, from the
moment in which some server knew the subscription; and each publish of the client must have arrived once.
"""

from __future__ import annotations

import random
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from nats_proto import (
    FlushCompleted,
    FlushFailed,
    Message,
    PingFrame,
    PublishFrame,
    Reconnected,
    Role,
    SubscribeFrame,
    SubscriptionState,
    UnsubscribeFrame,
)
from nats_proto import Parser as CoreParser
from nats_proto._session.successor import LINGER, SPREAD_TIME
from tests.proto.driver import PONG, World, info, msg

SUBJECTS = ("a", "b", "c")


class ModelServer:
    """Reads what the client writes to it; queues what it has to say."""

    def __init__(self) -> None:
        self.parser = CoreParser(Role.SERVER)
        self.subs: dict[int, tuple[str, str | None]] = {}
        self.maxima: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.out: deque[bytes] = deque()
        self.published: list[bytes] = []

    def read(self, data: bytes) -> None:
        for frame in self.parser.receive_data(data):
            match frame:
                case SubscribeFrame(subject=subject, queue=queue, sid=sid):
                    assert sid not in self.subs, "subscribed twice"
                    self.subs[sid] = subject, queue
                    self.sent[sid] = 0
                case UnsubscribeFrame(sid=sid, max_msgs=None):
                    self._forget(sid)
                case UnsubscribeFrame(sid=sid, max_msgs=int() as most):
                    self.maxima[sid] = most
                    if self.sent.get(sid, 0) >= most:
                        self._forget(sid)
                case PublishFrame(data=payload):
                    self.published.append(payload)
                case PingFrame():
                    self.out.append(PONG)
                case _:
                    pass
        assert self.parser.error is None, self.parser.error

    def _forget(self, sid: int) -> None:
        self.subs.pop(sid, None)
        self.maxima.pop(sid, None)

    def deliver(self, subject: str, data: bytes, member: int | None) -> None:
        """To every plain subscription; of groups to this one."""
        for sid, (wanted, queue) in list(self.subs.items()):
            if wanted == subject and (queue is None or sid == member):
                self.out.append(msg(subject, sid, data))
                self.sent[sid] += 1
                if self.sent[sid] >= self.maxima.get(sid, 1 << 60):
                    self._forget(sid)


class Story:
    """One session, its two servers, and what must have come of it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.world = World(
            "nats://10.0.0.1, nats://10.0.0.2", two_transports=True, reconnect_jitter=0.0, reconnect_wait=0.0
        )
        self.world.up()
        self.old, self.new = ModelServer(), ModelServer()
        self.begun = self.joined = self.adopted = self.lost = False
        self.subs: list[SubscriptionState[Message]] = []
        self.expected: dict[int, list[bytes]] = {}
        """By sid: what some server has sent, in the order in which it was published."""
        self.given: dict[int, list[bytes]] = {}
        self.count = 0
        self.own: list[bytes] = []
        self.flushes: set[int] = set()
        self.move_bytes()
        self.old.out.clear()  # the PONG of the handshake, which has been given

    @property
    def session_server(self) -> ModelServer:
        return self.new if self.adopted else self.old

    # --- bytes -------------------------------------------------------------------------------------------------------

    def move_bytes(self) -> None:
        """What was written is read; what the transports are is looked at."""
        world = self.world
        for _ in range(3):
            if not self.adopted and any(isinstance(event, Reconnected) for event in world._events):
                self.adopted = True
                self.new.read(world.wire())  # the successor's, and what came behind it
            elif self.adopted:
                self.new.read(world.wire())
            else:
                self.old.read(world.wire())
                data, world._next_wire = bytes(world._next_wire), bytearray()
                self.new.read(data)
            world.pump()
        for event in world.events():
            if isinstance(event, (FlushCompleted, FlushFailed)):
                self.flushes.discard(event.token)
                assert self.lost or isinstance(event, FlushCompleted)

    def feed(self, server: ModelServer, count: int) -> None:
        """The client hears so much of what a server has said."""
        world = self.world
        if not server.out:
            return
        data = b"".join(server.out.popleft() for _ in range(min(count, len(server.out))))
        if server is self.session_server:
            world.feed(data)
        elif server is self.new and world.session.successor is not None:
            world.feed_next(data)
        self.move_bytes()

    # --- steps -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The server is a lame duck, and another lets us in."""
        if self.begun or self.lost:
            return
        self.begun = True
        world = self.world
        world.feed(info(ldm=True))
        world.wait(0.0)
        if world.next_dial is None:
            return
        world.accept_next()
        self.move_bytes()
        world.feed_next(info(server_id="B"))
        self.move_bytes()

    def publish_to_us(self) -> None:
        """Somebody publishes: every server of the cluster hears of it at the same time."""
        subject = self.rng.choice(SUBJECTS)
        self.count += 1
        data = b"%d" % self.count
        servers = [
            server for server in (self.old, self.new) if not (server is self.old and (self.adopted or self.lost))
        ]
        members = {
            sid
            for server in servers
            for sid, (wanted, queue) in server.subs.items()
            if wanted == subject and queue is not None
        }
        plain = {
            sid
            for server in servers
            for sid, (wanted, queue) in server.subs.items()
            if wanted == subject and queue is None
        }
        for sid in plain:
            self.expected.setdefault(sid, []).append(data)
        for sid in members:  # one server passes it on, for the group that is this member's alone
            self.expected.setdefault(sid, []).append(data)
        for server in servers:
            server.deliver(subject, data, None)
        for sid in members:
            able = [server for server in servers if sid in server.subs]
            self.rng.choice(able).deliver(subject, data, sid) if not plain else self._to_group(able, subject, data, sid)

    def _to_group(self, able: list[ModelServer], subject: str, data: bytes, sid: int) -> None:
        server = self.rng.choice(able)
        server.out.append(msg(subject, sid, data))
        server.sent[sid] += 1

    def subscribe(self) -> None:
        queue = self.rng.choice([None, None, "q"])
        if len(self.subs) < 8:
            self.subs.append(self.world.session.subscribe(self.rng.choice(SUBJECTS), queue=queue))
            self.world.pump()
            self.move_bytes()

    def publish(self) -> None:
        data = b"own %d" % len(self.own)
        self.own.append(data)
        self.world.session.publish("out", data)
        self.world.pump()
        self.move_bytes()

    def flush(self) -> None:
        if self.world.session._link.up:
            self.flushes.add(self.world.session.flush())
            self.world.pump()
            self.move_bytes()

    def take(self) -> None:
        for sub in self.subs:
            self.given.setdefault(sub.sid, []).extend(message.data for message in sub.take(3))

    def time(self) -> None:
        if self.adopted:  # a copy may be late, but not for longer than it is waited for
            self.feed(self.new, 100)
        self.world.wait(self.rng.choice([0.01, SPREAD_TIME, LINGER / 3]))
        self.move_bytes()

    def lose_old(self) -> None:
        """Only when the new one can take its place: else it is an ordinary reconnect, which loses what it may."""
        successor = self.world.session.successor
        if successor is not None and successor.joined and not self.adopted and not self.lost:
            self.lost = True
            while self.old.out:
                self.feed(self.old, 100)
                if self.adopted:
                    return
            self.world.cut()
            self.move_bytes()

    def run(self, steps: list[tuple[str, int]]) -> None:
        for step, count in steps:
            if step == "feed_old":
                if not self.adopted and not self.lost:
                    self.feed(self.old, count)
            elif step == "feed_new":
                self.feed(self.new, count)
            else:
                getattr(self, step)()

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything is delivered, and the time of the move is over."""
        self.begin()
        for _ in range(40):
            self.feed(self.old, 100) if not self.adopted else None
            self.feed(self.new, 100)
            self.time()
        assert self.adopted
        assert self.world.session.connected_url == "nats://10.0.0.2:4222"
        for sub in self.subs:
            self.given.setdefault(sub.sid, []).extend(message.data for message in sub.take(10_000))
            given_ = self.given.get(sub.sid, [])
            expected = self.expected.get(sub.sid, [])
            if sub.queue is None:
                assert given_ == expected, (sub.sid, sub.subject)
            else:
                assert sorted(given_) == sorted(expected), (sub.sid, sub.subject)
        arrived = [data for data in (*self.old.published, *self.new.published) if data.startswith(b"own ")]
        assert arrived == self.own
        assert not self.flushes
        assert self.new.subs == {sub.sid: (sub.subject, sub.queue) for sub in self.subs}
        assert self.world.session.stats.reconnects == 1


STEPS = (
    "begin",
    "subscribe",
    "publish",
    "flush",
    "take",
    "time",
    "lose_old",
    "publish_to_us",
    "publish_to_us",
    "publish_to_us",
    "feed_old",
    "feed_new",
    "feed_new",
)


@settings(max_examples=max(1000, settings().max_examples))
@given(
    before=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 4)), max_size=6),
    reached=st.sampled_from(["", "begun", "settling", "settling", "parting", "parting"]),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 4)), max_size=40),
    seed=st.integers(0, 1 << 30),
)
def test_whatever_the_two_connections_do_each_message_is_given_once(
    before: list[tuple[str, int]], reached: str, steps: list[tuple[str, int]], seed: int
) -> None:
    story = Story(random.Random(seed))
    story.subscribe()
    story.run(before)
    if reached:
        story.begin()
    if reached in ("settling", "parting"):
        story.feed(story.new, 100)
        story.feed(story.new, 100)
    if reached == "parting":
        story.world.wait(SPREAD_TIME)
        story.move_bytes()
    story.run(steps)
    story.finish()
