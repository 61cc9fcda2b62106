"""The user of one session: does what users do, at random, and keeps the ledger of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nats_proto import SessionStatus
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    HeadersNotSupportedError,
    InvalidSubjectError,
    MaxPayloadError,
    OutboundBufferLimitError,
)
from tests.simulation.client import Client
from tests.simulation.cluster import SERVICES, SUBJECTS
from tests.simulation.invariants import require
from tests.simulation.knobs import limit
from tests.simulation.ledger import Flush, Subscription, payload
from tests.simulation.order import CLOSED, UP
from tests.simulation.reader import Readers

__all__ = ["ACTIONS", "User"]

ACTIONS: Final = (
    "publish", "burst", "subscribe", "unsubscribe", "limit", "request", "flush", "read", "drain one", "cancel",
    "reconnect", "poke", "misuse", "flushes",
)  # fmt: skip

PATTERNS: Final = ("a.1", "a.*", "a.2", "b.>", "b.1", "q.work", "q.*", "deny.me")
QUEUES: Final = (None, None, None, "workers")
HEADERS: Final = {"Trace": "1", "Other": ["a", "b"]}
BLOCK: Final = b"NATS/1.0\r\nTrace: 1\r\nOther: a\r\nOther: b\r\n\r\n"


class User:
    """Calls the session as a program would."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.world = client.world
        self.session = client.session
        self.ledger = client.ledger
        self.rng = client.world.rng
        self.closing = False
        self.draining = False
        self.readers = Readers(client, self._from_callback)
        self._actions: dict[str, Callable[[], None]] = {
            "publish": self.publish,
            "burst": self.burst,
            "subscribe": self.subscribe,
            "unsubscribe": self.unsubscribe,
            "limit": lambda: self.unsubscribe(self.rng.randint(1, 8)),
            "request": self.request,
            "flush": self.flush,
            "flushes": self.flushes,
            "read": self.read,
            "drain one": self.drain_one,
            "cancel": self.cancel,
            "reconnect": self.reconnect,
            "poke": client.poke,
            "misuse": self.misuse,
        }

    def act(self, name: str) -> None:
        """Do one of `ACTIONS`, if the machine is awake."""
        if not self.client.asleep:
            if self.world.recording:
                self.world.note(f"c{self.client.number}: user: {name}")
            self._actions[name]()

    # --- out ---------------------------------------------------------------------------------------------------------

    def burst(self) -> None:
        """Many publishes in a row."""
        for _ in range(self.rng.randint(3, 25)):
            self.publish()

    def publish(self) -> None:
        """One publish; mostly only when the session says that it takes more."""
        rng = self.rng
        if not self.session.writable and rng.random() < 0.8:
            return
        subject = "deny.me" if rng.random() < 0.03 else rng.choice(SUBJECTS)
        self.send(subject, headers=rng.random() < 0.15)

    def request(self) -> None:
        """One request, given up after a while."""
        rng = self.rng
        subject = rng.choice((*SERVICES, "svc.nobody", "deny.svc"))
        token = self.send(subject, headers=rng.random() < 0.15, request=True)
        if token is not None:
            self.world.after(rng.choice((0.05, 1.0, 5.0, 30.0)), self.give_up, token)

    def wait_in_vain(self, seconds: float) -> None:
        """A request that nobody answers, given up after ``seconds``: until then something is on its way."""
        token = self.send("svc.silent", request=True)
        if token is not None:
            self.world.after(seconds, self.give_up, token)

    def send(self, subject: str, *, headers: bool = False, request: bool = False) -> int | None:
        """Publish, or request; the request's token. What is refused must have been refused for a reason."""
        client, session, ledger = self.client, self.session, self.ledger
        serial = ledger.accepted
        data = payload(client.number, serial, self.rng.randint(0, client.knobs.largest))
        before = session.pending_bytes
        block = HEADERS if headers else None
        token: int | None = None
        try:
            if request:
                token = session.request(subject, data, headers=block)
            else:
                session.publish(subject, data, headers=block)
        except (OutboundBufferLimitError, MaxPayloadError, HeadersNotSupportedError) as error:
            self._check_refusal(error, before, len(data) + (len(BLOCK) if headers else 0))
        except ConnectionClosedError:
            require(session.status is SessionStatus.CLOSED, "publish said closed, and it is not")
        except ConnectionDrainingError:
            last = session.status is SessionStatus.DRAINING_PUBS or session.connected_url is None
            require(self.draining and last, "publish said draining, and it is not")
        else:
            added = session.pending_bytes - before
            require(not self.draining or session.connected_url is not None, "accepted, and it will never be sent")
            if session.connected_url is None:
                room = client.options.pending_size
                require(before < room, f"accepted without a connection while {before} bytes waited")
            if token is not None:
                added -= self._inbox_bytes()
                ledger.open_request(token, serial, subject)
            ledger.accept(added, data, BLOCK if headers else None)
            require(added > len(data), f"a publish of {len(data)} bytes added {added}")
            client.checks.dirty = True
        if token is None:
            require(
                session.pending_bytes - before in (0, ledger.waiting[-1].wire_bytes if ledger.waiting else 0),
                "a refused publish left something behind",
            )
        client.pump()
        return token

    def _check_refusal(self, error: Exception, waiting: int, size: int) -> None:
        session, client = self.session, self.client
        up = session.connected_url is not None
        match error:
            case OutboundBufferLimitError():
                most = client.options.pending_size
                if up:
                    most = max(most, limit(client.knobs, "high water") + 2 * limit(client.knobs, "chunk"))
                require(waiting >= most, f"refused while {waiting} bytes waited, up to {most} are kept")
            case MaxPayloadError():
                allowed = session.max_payload
                require(allowed is not None and size > allowed, f"{size} bytes refused, max_payload {allowed}")
            case _:
                info = session.server_info
                require(info is not None and not info.headers, "headers refused, and the server supports them")

    def _inbox_bytes(self) -> int:
        """What the first request adds besides itself: the SUB of the inbox."""
        if self.ledger.inbox_sid is not None or self.session.connected_url is None:
            return 0
        self.client.control_calls += 1
        return len(f"SUB _INBOX.{'x' * 22}.* {self.ledger.next_sid}\r\n")

    def give_up(self, token: int) -> None:
        """The time of a request is up."""
        if self.client.asleep:
            self.world.at(self.client.asleep_until, self.give_up, token)
        elif token in self.ledger.requests:
            self.ledger.close_request(token)
            self.session.cancel_request(token)
            self.client.pump()

    def cancel(self) -> None:
        """Give up a request or a flush early, or one that is long over."""
        ledger, rng = self.ledger, self.rng
        if ledger.requests and rng.random() < 0.6:
            self.give_up(rng.choice(list(ledger.requests)))
        elif ledger.flushes:
            token = rng.choice(list(ledger.flushes))
            del ledger.flushes[token]
            self.session.cancel_flush(token)
        else:
            self.session.cancel_request(10**9)
            self.session.cancel_flush(10**9)
        self.client.pump()

    def flush(self) -> None:
        """A flush."""
        client, session = self.client, self.session
        try:
            token = session.flush()
        except ConnectionLostError:
            require(session.connected_url is None, "flush said not connected, and it is")
        except ConnectionClosedError:
            require(session.status is SessionStatus.CLOSED, "flush said closed, and it is not")
        else:
            client.control_calls += 1
            require(client.transport is not None, "a flush without a transport")
            assert client.transport is not None
            self.ledger.flushes[token] = Flush(self.ledger.accepted, client.transport.number)
        client.pump()

    def flushes(self) -> None:
        """Several flushes under way at once, with publishes between them."""
        for _ in range(self.rng.randint(2, 4)):
            self.flush()
            self.publish()

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(self) -> None:
        """One more, or none when there are many."""
        client, session, ledger, rng = self.client, self.session, self.ledger, self.rng
        if sum(sub.alive for sub in ledger.subs.values()) >= 8:
            return
        max_msgs = rng.choice((None, None, None, 1, 3, 10))
        queue = rng.choice(QUEUES)
        own_limits = rng.random() < 0.1
        try:
            state = session.subscribe(
                rng.choice(PATTERNS),
                queue=queue,
                max_msgs=max_msgs,
                max_pending_msgs=2 if own_limits else None,
                max_pending_bytes=0 if own_limits else None,
            )
        except (ConnectionClosedError, ConnectionDrainingError):
            require(self.draining or session.status is SessionStatus.CLOSED, "subscribe was refused for no reason")
            return
        require(state.sid == ledger.next_sid, f"sid {state.sid}, where {ledger.next_sid} was the next")
        ledger.next_sid += 1
        client.control_calls += 2
        client.checks.dirty = True
        ledger.watched[state.sid] = ledger.subs[state.sid] = Subscription(
            state,
            state.sid,
            state.subject,
            queue,
            max_msgs,
            state.max_pending_msgs,
            state.max_pending_bytes,
        )
        self.readers.add(state.sid)
        client.pump()

    def _some_sub(self, *, alive: bool = True) -> Subscription | None:
        subs = [sub for sub in self.ledger.subs.values() if sub.alive or not alive]
        return self.rng.choice(subs) if subs else None

    def unsubscribe(self, max_msgs: int | None = None) -> None:
        """Now, or after so many messages in all."""
        sub = self._some_sub(alive=self.rng.random() < 0.9)
        if sub is None:
            return
        raises = sub.alive and max_msgs is not None and sub.max_msgs is not None and max_msgs > sub.max_msgs
        queued = [message.size for message in sub.state.messages]
        try:
            self.session.unsubscribe(sub.state, max_msgs=max_msgs)
        except ValueError:
            require(raises, "unsubscribe was refused for no reason")
            return
        require(not raises, "a maximum was raised, and the server may have counted to it by now")
        self.client.control_calls += 1
        if max_msgs is None:
            sub.waiting.clear()
            sub.waiting_bytes = 0
        else:
            while sub.waiting and sub.delivered + len(sub.waiting) > max_msgs:
                sub.waiting.pop()
                sub.waiting_bytes -= queued.pop()
        if sub.alive:
            if max_msgs is not None and sub.received < max_msgs:
                sub.max_msgs = max_msgs
            else:
                sub.end(self.world.now)
        self.client.checks.dirty = True
        self.client.pump()
        self.readers.progress()

    def drain_one(self) -> None:
        """Drain a subscription."""
        sub = self._some_sub()
        if sub is None:
            return
        self.client.control_calls += 2
        if self.session.connected_url is not None:
            sub.draining = True
        else:
            sub.end(self.world.now)
        self.session.drain_subscription(sub.state, now=self.world.now)
        self.client.checks.dirty = True
        self.client.pump()

    def read(self) -> None:
        """Take some messages, or none, from any subscription."""
        sub = self._some_sub(alive=False)
        if sub is not None:
            self.readers.take(sub, self.rng.randint(1, 5))

    def _from_callback(self, choice: float) -> None:
        """What a callback does with the session, most often nothing."""
        if self.closing:
            return
        if choice < 0.3:
            self.send(self.rng.choice(SUBJECTS))
        elif choice < 0.35:
            self.unsubscribe()

    # --- life --------------------------------------------------------------------------------------------------------

    def reconnect(self) -> None:
        """The user wants another connection."""
        session, client = self.session, self.client
        if session.status is SessionStatus.DISCONNECTED:
            return
        up = session.connected_url is not None and session.status is not SessionStatus.CLOSED
        client.checks.user_left = up
        if not up:
            client.checks.dials.hurried = True
        try:
            session.reconnect(now=self.world.now)
        except (ConnectionClosedError, ConnectionDrainingError):
            require(self.draining or session.status is SessionStatus.CLOSED, "reconnect was refused for no reason")
        client.pump()
        if up and client.checks.order.state is not CLOSED and not self.draining:
            require(client.checks.order.state is not UP, "reconnect left the connection as it was")
            require(not self.ledger.requests, "reconnect left requests waiting")

    def drain(self) -> None:
        """Drain everything, then the session ends."""
        if self.client.checks.order.state is CLOSED:
            return
        self.draining = self.closing = True
        up = self.client.checks.draining = self.session.connected_url is not None
        for sub in self.ledger.subs.values():
            if sub.alive:
                if up:
                    sub.draining = True
                else:
                    sub.end(self.world.now)
        self.session.drain(now=self.world.now)
        self.client.checks.dirty = True
        self.client.pump()

    def close(self) -> None:
        """The end, now."""
        self.closing = True
        for sub in self.ledger.subs.values():
            sub.waiting.clear()
            sub.waiting_bytes = 0
        self.session.close(now=self.world.now)
        self.client.checks.dirty = True
        self.client.pump()

    def misuse(self) -> None:
        """Wrong calls raise, and change nothing."""
        session, client = self.session, self.client
        before = (session.pending_bytes, session.stats, session.pending_requests, session.status)
        for wrong in (
            lambda: session.publish("a b", b"x"),
            lambda: session.publish("a\r\nPUB b 0", b"x"),
            lambda: session.publish("a.>", b""),
            lambda: session.request("", b"x"),
            lambda: session.subscribe("a..b"),
            lambda: session.subscribe("a", max_msgs=0),
        ):
            try:
                wrong()
            except (InvalidSubjectError, ValueError, ConnectionClosedError, ConnectionDrainingError):
                continue
            except OutboundBufferLimitError:
                continue
            raise AssertionError("misuse was accepted")
        require(
            before == (session.pending_bytes, session.stats, session.pending_requests, session.status),
            "misuse changed something",
        )
        client.expect_silence("misuse")
