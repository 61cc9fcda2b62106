"""A consumer's queue of waiting requests as a server keeps it, as far as one reader can see it."""

from __future__ import annotations

from collections import deque

from nats_proto import Message
from tests.proto.consuming import delivered, status


class Waiting:
    """One request that waits."""

    def __init__(self, reply: str, batch: int, expires: float, heartbeat: float, now: float) -> None:
        self.reply = reply
        self.left = batch
        self.until = now + expires
        self.heartbeat = heartbeat
        self.beat_at = now + heartbeat

    @property
    def inbox(self) -> str:
        return self.reply.rpartition(".")[0]


class ModelConsumer:
    """Serves requests in turns. What it sends goes to `sent`, in order."""

    def __init__(self) -> None:
        self.pending = 0
        """Messages that are there and not delivered."""
        self.waiting: deque[Waiting] = deque()
        self.sent: deque[Message] = deque()
        self.leader = True
        self.exists = True
        self.inboxes: set[str] = set()
        """Those that somebody is subscribed to."""
        self.says_remainder = True
        self.loses_ends = False
        """Statuses that end a request do not arrive."""
        self.silent = False
        """It takes requests and does nothing with them."""
        self.number = 0

    def ask(self, reply: str, batch: int, expires: float, heartbeat: float, now: float) -> None:
        if not self.leader or not self.exists:
            self.sent.append(status(reply, "503"))
        else:
            self.waiting.append(Waiting(reply, batch, expires, heartbeat, now))
            self.deliver(now)

    def deliver(self, now: float) -> None:
        """Deliver what there is, in turns."""
        if self.silent or not self.leader:
            return
        self.forget_who_left()
        self.end_those_in_vain(now)
        while self.pending and self.waiting:
            request = self.waiting.popleft()
            self.pending -= 1
            self.number += 1
            request.left -= 1
            request.beat_at = now + request.heartbeat
            self.sent.append(delivered(self.number))
            if request.left:
                self.waiting.append(request)

    def forget_who_left(self) -> None:
        self.waiting = deque(request for request in self.waiting if request.inbox in self.inboxes)

    def end_those_in_vain(self, now: float) -> None:
        """Their time is up. A server that was silent meanwhile serves them no more either."""
        for request in list(self.waiting):
            if now >= request.until:
                self.waiting.remove(request)
                self.end(request, "408 Request Timeout")

    def tick(self, now: float) -> None:
        """Heart-beats and ends of requests."""
        if self.silent or not self.leader:
            return
        self.forget_who_left()
        self.end_those_in_vain(now)
        for request in self.waiting:
            if now >= request.beat_at:
                request.beat_at = now + request.heartbeat
                self.sent.append(status(request.reply, "100 Idle Heartbeat"))

    def end(self, request: Waiting, words: str) -> None:
        if not self.loses_ends:
            self.sent.append(status(request.reply, words, (request.left, 0) if self.says_remainder else None))

    def next_event(self) -> float:
        """When something is due."""
        if self.silent or not self.leader:
            return float("inf")
        return min((min(request.until, request.beat_at) for request in self.waiting), default=float("inf"))

    def lose_all(self, words: str | None) -> None:
        """All requests are forgotten; ``words`` tell each of them so."""
        for request in self.waiting:
            if words is not None and request.inbox in self.inboxes:
                self.sent.append(status(request.reply, words))
        self.waiting.clear()
