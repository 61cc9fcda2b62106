"""What one session accepted and was told, kept beside it by simple means: the session's own counts must agree.

Every publish has a serial number. The transport's side of the client is read back operation by operation, so the ledger
knows which serials were handed over whole, without asking the session. What servers send carries marks at byte offsets,
so the ledger knows which messages the session has received, without asking it either.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from nats_proto import StatsSnapshot, SubscriptionState
from tests.simulation.world import Violation

__all__ = ["Flush", "Ledger", "Publish", "Subscription", "payload", "serial_of"]


def payload(client: int, serial: int, size: int) -> bytes:
    """A payload that tells whose it is and which."""
    head = b"c%d.%d;" % (client, serial)
    return head + b"." * (size - len(head))


def serial_of(data: bytes, client: int) -> int | None:
    """The serial number in a payload of this client; None when it is not one."""
    head, semicolon, _ = data.partition(b";")
    owner, dot, serial = head.partition(b".")
    return int(serial) if semicolon and dot and owner == b"c%d" % client else None


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscription as the ledger understands it."""

    state: SubscriptionState
    sid: int
    subject: str
    queue: str | None
    max_msgs: int | None
    max_pending_msgs: int
    max_pending_bytes: int
    alive: bool = True
    draining: bool = False
    reported_closed: bool = False
    ended_at: float = math.inf
    received: int = 0
    received_before: int = 0
    delivered: int = 0
    dropped: int = 0
    slow: bool = False
    waiting: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0

    def receive(self, data: bytes, size: int) -> bool:
        """A message came in. True when that is worth a slow consumer report."""
        self.received += 1
        report = False
        if (len(self.waiting) >= self.max_pending_msgs > 0) or (self.waiting_bytes + size > self.max_pending_bytes > 0):
            self.dropped += 1
            report = not self.slow
            self.slow = True
        else:
            self.slow = False
            self.waiting.append(data)
            self.waiting_bytes += size
        return report

    def end(self, now: float) -> None:
        """No more messages are for it."""
        self.alive = False
        self.ended_at = now

    @property
    def exhausted(self) -> bool:
        """The maximum was reached."""
        return self.max_msgs is not None and self.received >= self.max_msgs


@dataclass(frozen=True, slots=True)
class Publish:
    """One that was accepted: bytes on the wire, and those of headers and payload."""

    serial: int
    wire_bytes: int
    size: int
    headers: bool

    def refused_by(self, max_payload: int, headers: bool) -> bool:
        """Whether a server that allows so much would not take it."""
        return self.size > max_payload or (self.headers and not headers)


@dataclass(slots=True, eq=False)
class Flush:
    """A flush under way: what was accepted before it, and the transport it went out on."""

    accepted: int
    transport: int


class Ledger:
    """Of one client."""

    def __init__(self, client: int) -> None:
        self.client = client
        # publishes: those not handed over whole wait, in order of their serials
        self.accepted = 0
        self.waiting: deque[Publish] = deque()
        self.dropped_publishes = 0
        self.refused_tokens: set[int] = set()
        self.largest = 0
        self.out_bytes = 0
        # subscriptions, by sid
        self.subs: dict[int, Subscription] = {}
        self.watched: dict[int, Subscription] = {}
        """Those that are alive or have messages unread."""
        self.next_sid = 1
        self.inbox_sid: int | None = None
        # requests: serial, token and reply subject belong together
        self.requests: dict[int, int] = {}  # token: serial
        self.token_of_serial: dict[int, int] = {}
        self.token_of_reply: dict[str, int] = {}
        self.subject_of_token: dict[int, str] = {}
        self.completions: deque[tuple[int, bool]] = deque()  # (token, whether it is a reply) that must come next
        self.flushes: dict[int, Flush] = {}
        # counts
        self.in_msgs = 0
        self.in_bytes = 0
        self.dropped = 0
        self.unknown_sid = 0
        self.dropped_replies = 0
        self.reconnects = 0
        self.slow_reports = 0
        self.server_errors = 0

    # --- publishes ---------------------------------------------------------------------------------------------------

    def accept(self, wire_bytes: int, data: bytes, block: bytes | None) -> None:
        """A publish or request returned: ``wire_bytes`` is what it added to the outgoing queue."""
        size = len(data) + len(block or b"")
        self.waiting.append(Publish(self.accepted, wire_bytes, size, block is not None))
        self.accepted += 1
        self.largest = max(self.largest, wire_bytes)
        self.out_bytes += len(data)

    def hand_over(self, serial: int) -> None:
        """A publish went to a transport whole: it must be the next in turn."""
        if serial != self.handed:
            what = "twice" if serial < self.handed else f"before {self.handed}: lost or out of order"
            raise Violation(f"publish {serial} was written {what}")
        if serial >= self.accepted:
            raise Violation(f"publish {serial} was written and never accepted")
        self.waiting.popleft()

    def drop(self, refused: list[Publish], more: int) -> None:
        """The session has dropped these, and ``more`` of which it had not been told that they were handed over."""
        self.dropped_publishes += len(refused) + more
        serials = {publish.serial for publish in refused}
        self.waiting = deque(publish for publish in self.waiting if publish.serial not in serials)
        self.refused_tokens |= {self.token_of_serial[serial] for serial in serials & self.token_of_serial.keys()}

    def drop_given_up(self) -> None:
        """There is another connection: requests that nobody waits for any more are not sent on it."""
        tokens = self.token_of_serial
        kept = [each for each in self.waiting if tokens.get(each.serial) in (None, *self.requests)]
        self.dropped_publishes += len(self.waiting) - len(kept)
        self.waiting = deque(kept)

    @property
    def handed(self) -> int:
        """The first serial that waits; all below were handed over whole, or dropped."""
        return self.waiting[0].serial if self.waiting else self.accepted

    @property
    def unhanded_bytes(self) -> int:
        """Bytes on the wire of those that wait."""
        return sum(publish.wire_bytes for publish in self.waiting)

    # --- messages ----------------------------------------------------------------------------------------------------

    def receive(self, sid: int, subject: str, data: bytes, header_block: bytes | None, now: float) -> None:
        """The bytes of a message were given to the session, on a connection that was open."""
        self.in_msgs += 1
        self.in_bytes += len(data)
        if sid == self.inbox_sid:
            self._receive_reply(subject, data, header_block)
            return
        sub = self.subs.get(sid)
        if sub is None or not sub.alive:
            self.unknown_sid += 1
            return
        before = sub.dropped
        report = sub.receive(data, len(data) + len(header_block or b""))
        self.dropped += sub.dropped - before
        if sub.exhausted:
            sub.end(now)
        elif report:
            self.slow_reports += 1

    def _receive_reply(self, subject: str, data: bytes, header_block: bytes | None) -> None:
        token = self.token_of_reply.get(subject)
        if token is None or token not in self.requests or any(token == t for t, _ in self.completions):
            self.dropped_replies += 1
            return
        refused = not data and header_block is not None and header_block.startswith(b"NATS/1.0 503")
        self.completions.append((token, not refused))

    def open_request(self, token: int, serial: int, subject: str) -> None:
        """A request was accepted."""
        if self.inbox_sid is None:
            self.inbox_sid = self.next_sid
            self.next_sid += 1
        self.requests[token] = serial
        self.token_of_serial[serial] = token
        self.subject_of_token[token] = subject

    def close_request(self, token: int) -> None:
        """It was answered, failed, or is no longer awaited."""
        del self.requests[token]

    # --- what the session must say of itself -------------------------------------------------------------------------

    def stats(self) -> StatsSnapshot:
        """The counters as they must be."""
        return StatsSnapshot(
            in_msgs=self.in_msgs,
            in_bytes=self.in_bytes,
            out_msgs=self.accepted,
            out_bytes=self.out_bytes,
            reconnects=self.reconnects,
            dropped_msgs=self.dropped,
            dropped_unknown_sid=self.unknown_sid,
            dropped_replies=self.dropped_replies,
            dropped_publishes=self.dropped_publishes,
        )
