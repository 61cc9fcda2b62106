"""The accounts of one reader's requests for messages: what was asked for, what is still to come, is anybody there.

Theory of operation
-------------------
A reader asks a consumer for so many messages and bytes ("a pull request"), and
the server delivers them one by one to the reply subject of the request. Several requests may be out at once. Each has a
reply subject of its own, `<inbox>.<token>`; the inbox is one subscription. All that a request still may bring is
*outstanding*. Who expects to ask once subscribes to the reply subject of that one request: a server has less to do for
a subject without a wildcard, each time that it is subscribed to and left.

A delivered message has the subject that it was stored with. So nothing in it tells for which request it came, and it
cannot be guessed: a server serves those that wait in turns. But the sum is known: each message is one less in all,
and when a request ends, the server says how much of it was left. Therefore the accounts are kept for all requests
together. They are an upper bound of what is to come, and get exact by themselves:

* a request that is refused gives all of it back; one that ends gives back what the server says;
* of one whose remainder is not told, or whose end was lost, nothing is given back. But what is outstanding is never
  more than all open requests together have asked for. So with the last one that is open every error is gone;
* nothing goes below zero for long, whoever sends too much: with nothing outstanding all requests are served.

A request that was served in full ends without a word. It stays among the open ones until nothing is outstanding any
more, until its time is up, or until `MAX_OPEN` newer ones were made: a request that old has had its turns.

Generations
-----------
When requests may be lost (another connection, silence), they are written off: nothing is outstanding, and their tokens
mean nothing any more. What lies unread in the queue at that time was delivered, and is read before the inbox is left.
A request that was written off may be alive all the same; it may even still lie in the buffer for outgoing messages, and
be sent with the next connection. What it brings would come on top of what is asked for anew. So a generation that may
be alive is left together with its inbox: its messages find no subscription, and are handed back at once. Only when a
server says itself that it has forgotten requests the inbox is kept. A new leader says so of each request that the one
before it had; what was sent later than the last of these may be known to the new one, and stays.

The clock
---------
While a request is out, the server is to send something every ``heartbeat`` seconds, a message or a heart-beat. It is
*silent* when nothing came for two of them. A request without heart-beats may say otherwise: its end is a sign of life
as well, and the time by which that is there is known. Only what is addressed to a request of this generation counts,
or is a message. No clock runs while nothing is asked for. Time-outs are handled when somebody looks: when that is
late, nobody has waited, and what would have stopped the clock may not have been read. Then the clock runs once more,
for one heart-beat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from .._calls.machine import Subscribe
from .._calls.operation import Publish
from .._session.subscription import MessageT
from .._wire.frames import Message
from .._wire.twin import Deliveries
from .options import Priority
from .sizes import PIN_HEADER

__all__ = ["HAND_BACK", "PullRequest", "Pulls"]

ItemT = TypeVar("ItemT")

HAND_BACK: Final = b"-NAK"
"""What answers a message that nobody will read: the server gives it to another reader at once."""
MAX_OPEN: Final = 64
"""Requests that are remembered. A reader asks again when half of what may be outstanding has come, so that two or three
of them are alive; the others were served in full. It bounds memory and the time that the sum of all takes."""
GRACE: Final = 1.0
"""Seconds that the end of a request may be late before it counts as lost. A server whose consumers are replicated sends
it behind deliveries that its peers have yet to confirm."""
LATE: Final = 0.05
"""Seconds after which a time-out is handled late: a waiter wakes within some milliseconds."""
MIN_SPARE: Final = 0.1
"""Seconds for which the clock runs once more where there are no heart-beats: time to read what has arrived."""
MAX_PIN: Final = 256
"""Characters of an identity that is believed. Those that servers give have 22."""
MAX_PAYLOADS: Final = 128
"""Encoded requests that are kept. A reader that does not change what it asks for needs a few of them."""
NEVER: Final = float("-inf")


class PullRequest(msgspec.Struct, gc=False, eq=False):
    """One request that is out. Times are absolute seconds; ``deadline``: when its end, too, must have come."""

    reply: str
    batch: int
    max_bytes: int
    sent: float
    deadline: float


class Pulls(Generic[MessageT, ItemT]):
    """The requests of one reader. The counters are for whoever receives its messages: see `Consume.receive`."""

    __slots__ = (
        "_next",
        "_open",
        "_payloads",
        "_prefix",
        "_priority",
        "_silence",
        "_since",
        "_single",
        "_spared",
        "_spared_until",
        "_subject",
        "account",
        "bytes",
        "pin",
    )

    def __init__(
        self,
        subject: str,
        *,
        priority: Priority | None = None,
        pin: str | None = None,
        account: Deliveries[MessageT, ItemT] | None = None,
    ) -> None:
        self.account: Deliveries[MessageT, ItemT] = Deliveries() if account is None else account
        """Who receives a message takes it off there."""
        self._subject = subject
        self._priority = priority
        self._prefix = ""
        self._next = 1
        self._single = 0
        """The token that the inbox is for; 0: for any number of them."""
        self._open: dict[str, PullRequest] = {}
        self._payloads: dict[tuple[int, int, float, float, bool, str | None], bytes] = {}
        self._silence = float("inf")
        """Seconds without a sign of life that are silence."""
        self._since = NEVER
        """When the clock was started: something was asked for, and nothing was outstanding."""
        self._spared = float("nan")
        """The last sign of life when the clock was last given one more heart-beat."""
        self._spared_until = NEVER
        self.bytes = 0
        """Outstanding bytes, where requests are bounded by bytes."""
        self.pin = pin
        """The identity that the server gave this client, as the one that it pinned (ADR-42)."""

    @property
    def messages(self) -> int:
        """Outstanding messages."""
        return self.account.messages

    @messages.setter
    def messages(self, messages: int) -> None:
        self.account.messages = messages

    @property
    def heard(self) -> float:
        """When the last message or heart-beat was received."""
        return self.account.heard

    @heard.setter
    def heard(self, now: float) -> None:
        self.account.heard = now

    @property
    def any_open(self) -> bool:
        """Whether a request may be waiting at the server."""
        return bool(self._open)

    @property
    def may_ask(self) -> bool:
        """Whether the inbox is for one more request: else another one is needed."""
        return self._single in (0, self._next)

    def subscribe(
        self,
        inbox: str,
        opened: Callable[[Callable[[], tuple[int, int]]], None] | None = None,
        *,
        single: bool = False,
    ) -> Subscribe:
        """Begin a generation with an inbox of its own; the one before is written off. ``opened``: as of `Subscribe`.

        ``single``: it is for one request.
        """
        self.write_off()
        self._prefix = f"{inbox}."
        self._single = self._next if single else 0
        return Subscribe(
            f"{inbox}.{self._next if single else '*'}",
            max_pending_msgs=0,
            max_pending_bytes=0,
            hand_back=HAND_BACK,
            opened=opened,
            asks=self._subject,
        )

    def ask(
        self,
        batch: int,
        *,
        now: float,
        expires: float,
        heartbeat: float = 0.0,
        max_bytes: int = 0,
        no_wait: bool = False,
        silence: float | None = None,
    ) -> Publish:
        """One more request: what is to be published. ``max_bytes`` 0: no bound; ``heartbeat`` 0: none.

        ``expires``: seconds after which the server is to end it; 0 for a request that is answered at once. ``silence``:
        seconds without a sign of life after which it is silent; None: two heart-beats, and never when it has none.
        """
        if not self._open:
            self._since = now
        reply = f"{self._prefix}{self._next}"
        self._next += 1
        deadline = now + expires + GRACE if expires else float("inf")
        self._open[reply] = PullRequest(reply, batch, max_bytes, now, deadline)
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]
        self.messages += batch
        self.bytes += max_bytes
        if silence is None:
            silence = 2 * heartbeat if heartbeat else float("inf")
        self._silence = silence
        return Publish(self._subject, self._payload(batch, max_bytes, expires, heartbeat, no_wait), reply)

    def find(self, subject: str) -> PullRequest | None:
        """The open request that a status was sent to, by the subject of the status."""
        return self._open.get(subject)

    def end(self, request: PullRequest, unused: int | None, unused_bytes: int | None) -> None:
        """The server has ended a request, of which so much was left; None: unknown."""
        del self._open[request.reply]
        if unused is not None:
            self.messages -= min(unused, request.batch)
        if unused_bytes is not None:
            self.bytes -= min(unused_bytes, request.max_bytes)
        self._bound()

    def lose(self, request: PullRequest) -> None:
        """This request was forgotten by its server, and so were those that were sent before it."""
        for reply in list(self._open):
            del self._open[reply]
            if reply == request.reply:
                break
        self._bound()

    def take_pin(self, message: Message) -> bool:
        """Keep the identity of the pinned client that a message has; True when it is another one than before.

        The next request has it, and by that this client stays the pinned one.
        """
        block = message.header_block
        if block is None or PIN_HEADER not in block:
            return False
        if self.pin is not None and PIN_HEADER + self.pin.encode("ascii") + b"\r\n" in block:
            return False
        headers = message.headers
        pin = None if headers is None else headers.get("Nats-Pin-Id")
        if not pin or pin == self.pin or len(pin) > MAX_PIN or not (pin.isascii() and pin.isprintable()):
            return False
        self.pin = pin
        return True

    def write_off(self) -> None:
        """Nothing is outstanding any more."""
        self._open.clear()
        self.messages = self.bytes = 0

    def next_timeout(self) -> float | None:
        """When silence, or the end of a request, would be overdue; None while nothing is open."""
        if not self._open:
            return None
        due = (self.heard if self.heard > self._since else self._since) + self._silence
        first = next(iter(self._open.values())).deadline
        if first < due:
            due = first
        return self._spared_until if self._spared_until > due else due

    def spare(self, *, now: float) -> bool:
        """Whether what is due has to wait once more, since nobody was there when it came due."""
        due = self.next_timeout()
        if due is None or now - due <= LATE or self._spared == self.heard:
            return False
        self._spared = self.heard
        self._spared_until = now + (self._silence / 2 if self._silence < float("inf") else MIN_SPARE)
        return True

    def expire(self, *, now: float) -> bool:
        """Forget requests whose end is overdue: whether there were any."""
        overdue = [request.reply for request in self._open.values() if now >= request.deadline]
        for reply in overdue:
            del self._open[reply]
        self._bound()
        return bool(overdue)

    def silent(self, *, now: float) -> bool:
        """Whether something is open, and no sign of life has come in time."""
        return bool(self._open) and now >= max(self.heard, self._since) + self._silence

    def _bound(self) -> None:
        most = most_bytes = 0
        for request in self._open.values():
            most += request.batch
            most_bytes += request.max_bytes
        self.messages = max(0, min(self.messages, most))
        self.bytes = max(0, min(self.bytes, most_bytes))

    def _payload(self, batch: int, max_bytes: int, expires: float, heartbeat: float, no_wait: bool) -> bytes:
        key = batch, max_bytes, expires, heartbeat, no_wait, self.pin
        payload = self._payloads.get(key)
        if payload is None:
            if len(self._payloads) >= MAX_PAYLOADS:
                self._payloads.clear()
            payload = self._payloads[key] = self._encode(batch, max_bytes, expires, heartbeat, no_wait)
        return payload

    def _encode(self, batch: int, max_bytes: int, expires: float, heartbeat: float, no_wait: bool) -> bytes:
        # Strict servers refuse keys that they do not know, and an ``id`` that is empty means another thing than none:
        # what was not given is left out.
        body: dict[str, object] = {"batch": batch}
        if max_bytes:
            body["max_bytes"] = max_bytes
        if expires:
            body["expires"] = round(expires * 1e9)
        if heartbeat:
            # Cut, so that two of them are never longer than ``expires``, which the server would refuse.
            body["idle_heartbeat"] = int(heartbeat * 1e9)
        if no_wait:
            body["no_wait"] = True
        priority = self._priority
        if priority is not None:
            given = {
                "group": priority.group,
                "min_pending": priority.min_pending,
                "min_ack_pending": priority.min_ack_pending,
                "priority": priority.priority,
                "id": self.pin,
            }
            body.update((key, value) for key, value in given.items() if value is not None)
        return msgspec.json.encode(body)
