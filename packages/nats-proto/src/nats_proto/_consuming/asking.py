"""What a reader without end asks for next: how many messages and bytes, and for how long.

Theory of operation
-------------------
Whenever less than the threshold of its demand is outstanding, the rest up to the maximum is asked for; with
``max_bytes`` also when half of the bytes is. What the consumer does not allow in one request lowers what is asked for,
and nothing raises it again: a consumer whose limits were changed is read by another reader.

Where all that is unread is too old to be handed out (`Freshness`), nothing is asked for before the open requests have
ended.

Pinned clients (ADR-42)
-----------------------
The server gives all messages of a group to one client, whose messages then have its identity. Each request with that
identity keeps it. So until the identity is known there is one request at a time (a second one would have none and wait
for nothing), and a request waits for half of ``priority_timeout`` at most. A reader that does not know this time asks
for the consumer's info before its first request (`unsure`), and goes on without when it may not know.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from .._calls.operation import Publish
from .._session.subscription import MessageT
from .condition import ConsumerCondition
from .demand import Demand, Fixed
from .freshness import Freshness
from .options import ConsumeOptions, renewing
from .pulls import PullRequest, Pulls
from .sizes import size_on_wire
from .statuses import PullStatus

__all__ = ["Asking"]

ItemT = TypeVar("ItemT")


class Asking(Generic[MessageT, ItemT]):
    """Makes the requests of one reader, by its accounts. ``knows``: the consumer's info can be asked for."""

    __slots__ = (
        "_freshness",
        "_may_be_pinned",
        "_pulls",
        "demand",
        "expires",
        "heartbeat",
        "low_bytes",
        "max_bytes",
        "unsure",
    )

    def __init__(
        self,
        options: ConsumeOptions,
        pulls: Pulls[MessageT, ItemT],
        freshness: Freshness,
        demand: Demand | None,
        *,
        knows: bool,
    ) -> None:
        assert options.max_messages is not None  # the options have filled these in
        assert options.threshold is not None
        assert options.heartbeat is not None
        self._pulls = pulls
        self._freshness = freshness
        self.demand: Demand = Fixed(options.max_messages, options.threshold) if demand is None else demand
        self.max_bytes = options.max_bytes or 0
        """Bytes that are outstanding at most; 0: they are not counted."""
        self.low_bytes = self.max_bytes // 2
        self.expires = options.expires
        """Seconds that a request waits."""
        self.heartbeat = options.heartbeat
        """Seconds within which the server says something while it does."""
        self._may_be_pinned = options.priority is not None and options.priority_timeout != float("inf")
        self.unsure = options.priority is not None and options.priority_timeout is None and knows
        """How soon a pinned client has to ask again is not known yet."""

    def next_request(self, wanted: int | None, *, now: float) -> Publish | None:
        """What is to be published now, if anything is. ``wanted``: messages that the reader still takes, None: all."""
        pulls, demand, freshness = self._pulls, self.demand, self._freshness
        account = pulls.account
        outstanding = account.messages
        account.low = demand.low
        few_bytes = bool(self.max_bytes) and pulls.bytes <= self.low_bytes
        if outstanding >= demand.threshold and not few_bytes:
            return None
        # Without the identity of the pinned client a second request would wait for nothing.
        waits_for_pin = self._may_be_pinned and pulls.pin is None
        if (waits_for_pin or freshness.has_run_out(now)) and pulls.any_open:
            return None
        batch = demand.maximum - outstanding
        if wanted is not None:
            batch = min(batch, wanted - outstanding)
        if batch < 1:
            return None
        freshness.asked(self.expires, now=now)
        account.look_at = freshness.look_at
        return pulls.ask(
            batch,
            now=now,
            expires=self.expires,
            heartbeat=self.heartbeat,
            max_bytes=self.max_bytes - pulls.bytes if self.max_bytes else 0,
        )

    def count_bytes(self, message: MessageT) -> None:
        """A message was taken, and bytes are counted."""
        pulls = self._pulls
        pulls.bytes -= size_on_wire(message, pulls.pin)
        if pulls.bytes <= 0:
            pulls.write_off()  # their bytes are used up: such requests are ended without a word
        if pulls.bytes <= self.low_bytes:
            pulls.account.low = self.demand.maximum  # the caller is to look

    def asked_for_all_bytes(self, request: PullRequest, status: PullStatus) -> bool:
        """Whether it asked for all the bytes that there may be, and none of them was used."""
        return bool(self.max_bytes) and status.unused_bytes == request.max_bytes == self.max_bytes

    def learn(self, condition: ConsumerCondition | None) -> None:
        """What the consumer says of itself, when that was unsure; None: it does not say."""
        self.unsure = False
        if condition is not None:
            self._may_be_pinned = condition.priority_timeout is not None
            self.expires = renewing(self.expires, condition.priority_timeout)
            self.heartbeat = min(self.heartbeat, self.expires / 2)

    def lower(self, request: PullRequest, status: PullStatus) -> bool:
        """The consumer does not allow that much in one request: whether less makes sense."""
        limit = status.limit or 0.0
        if status.limit_name == "max_batch" and 1 <= limit < request.batch:
            self.demand.lower(int(limit))
        elif status.limit_name == "max_bytes" and 1 <= limit < request.max_bytes:
            self.max_bytes = int(limit)
            self.low_bytes = self.max_bytes // 2
        elif status.limit_name == "max_expires" and 0.001 <= limit < self.expires:
            self.expires = limit
            self.heartbeat = min(self.heartbeat, limit / 2)
        else:
            return False
        return True
