"""One stream of the model: its messages, who may publish, and what is a duplicate.

Theory of operation
-------------------
A message is checked, then stored, then acknowledged. On one replica that is one step, and what is expected of sequences
is checked before the message id; on several it is two: the check looks at the id first, and what is checked and not yet
stored is "in flight": another message with its id, or one that expects something of its subject, is refused meanwhile.
How long a message is in flight is `commit` seconds; 0 makes one step of it there, too.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from .batches import Batches
from .wire import ApiFailure, headers_of, matches, nanoseconds, overlap, time_text, within

if TYPE_CHECKING:
    from .account import JetStream
    from .consumer import ModelConsumer

__all__ = ["ModelStream", "Stored", "stream_config"]

DEFAULTS: Final[dict[str, Any]] = {
    "subjects": [],
    "retention": "limits",
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard": "old",
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": 120_000_000_000,
    "compression": "none",
    "allow_direct": False,
    "mirror_direct": False,
    "sealed": False,
    "deny_delete": False,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "consumer_limits": {},
    "allow_msg_ttl": False,
    "allow_msg_counter": False,
    "allow_atomic": False,
    "allow_msg_schedules": False,
    "allow_batched": False,
}
UNLIMITED: Final = ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")


def stream_config(asked: dict[str, Any]) -> dict[str, Any]:
    """The configuration as the server keeps it."""
    config = {**DEFAULTS, **asked}
    for name in UNLIMITED:
        config[name] = config[name] or -1
    config["num_replicas"] = config["num_replicas"] or 1
    window = config["duplicate_window"] or DEFAULTS["duplicate_window"]
    config["duplicate_window"] = min(window, config["max_age"]) if config["max_age"] else window
    config["subjects"] = config["subjects"] or [config["name"]]
    return config


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of a stream."""

    seq: int
    subject: str
    block: bytes | None
    data: bytes
    at: float


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A message that a replicated stream is about to store."""

    subject: str
    reply: str | None
    block: bytes | None
    data: bytes


class ModelStream:
    """Messages by sequence, in order; and the consumers of them."""

    def __init__(self, account: JetStream, config: dict[str, Any], now: float) -> None:
        self.account = account
        self.config = config
        self.name: str = config["name"]
        self.created = now
        self.messages: dict[int, Stored] = {}
        self.first = int(config.get("first_seq") or 0)
        self.last = max(self.first - 1, 0)
        self.last_at = 0.0
        self.last_id = ""
        self.ids: dict[str, tuple[int, float]] = {}
        """Sequence (0: not stored yet) and time, by message id."""
        self.told: deque[tuple[str, dict[str, object]]] = deque(maxlen=5)
        """The last acknowledgements, which the next leader may say once more."""
        self.in_flight: list[Proposal] = []
        """Messages that were checked and are not stored yet."""
        self.batches = Batches(self)
        self.consumers: dict[str, ModelConsumer] = {}
        self.led = True
        """There is a leader."""

    @property
    def replicated(self) -> bool:
        """Whether it has several replicas."""
        return bool(self.config["num_replicas"] > 1)

    def takes(self, subject: str) -> bool:
        """Whether messages with this subject are for this stream."""
        return within(self.config["subjects"], subject)

    # --- publishing --------------------------------------------------------------------------------------------------

    def publish(self, subject: str, reply: str | None, block: bytes | None, data: bytes, now: float) -> None:
        """Check, store, acknowledge."""
        self._forget_ids(now)
        if self.batches.take(subject, reply, block, data, now):
            return
        headers = headers_of(block)
        try:
            known = self.check(subject, headers, block, data)
        except ApiFailure as failure:
            self.tell(reply, {"error": failure.fields, "stream": self.name, "seq": 0})
            return
        if known is not None:
            self.tell(reply, {"stream": self.name, "seq": known, "duplicate": True})
            return
        commit = self.account.commit if self.replicated else 0.0
        if commit <= 0.0:
            self.store(subject, reply, block, data, now)
            return
        if "Nats-Msg-Id" in headers:
            self.ids[headers["Nats-Msg-Id"]] = (0, now)
        proposal = Proposal(subject, reply, block, data)
        self.in_flight.append(proposal)
        self.account.later(now + commit, lambda then: self._commit(proposal, then))

    def _commit(self, proposal: Proposal, now: float) -> None:
        if proposal in self.in_flight:  # else its leader has left
            self.in_flight.remove(proposal)
            self.store(proposal.subject, proposal.reply, proposal.block, proposal.data, now)

    def leave(self, now: float, *, kept: bool) -> None:
        """The leader is gone. What was in flight is stored without an acknowledgement, or is lost."""
        proposals, self.in_flight = self.in_flight, []
        for proposal in proposals:
            if kept:
                self.store(proposal.subject, None, proposal.block, proposal.data, now)
        self.ids = {msg_id: known for msg_id, known in self.ids.items() if known[0]}
        self.batches.leave(now, kept=kept)

    def check(self, subject: str, headers: dict[str, str], block: bytes | None, data: bytes) -> int | None:
        """The sequence of the message of which this is a duplicate. Raises `ApiFailure`."""
        expected = headers.get("Nats-Expected-Stream")
        if expected and expected != self.name:
            raise ApiFailure(10060)
        checks: list[Callable[[], int | None]] = [
            lambda: self._check_sequences(subject, headers),
            lambda: self._known(headers.get("Nats-Msg-Id")),
        ]
        if self.replicated:
            checks.reverse()
        for check in checks:
            known = check()
            if known is not None:
                return known
        last_id = headers.get("Nats-Expected-Last-Msg-Id")
        if last_id and last_id != self.last_id:
            raise ApiFailure(10070, self.last_id)
        self._check_limits(subject, headers, block, data)
        return None

    def _known(self, msg_id: str | None) -> int | None:
        if not msg_id or msg_id not in self.ids:
            return None
        seq = self.ids[msg_id][0]
        if not seq:
            raise ApiFailure(10158)
        return seq

    def _check_sequences(self, subject: str, headers: dict[str, str]) -> None:
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        other = headers.get("Nats-Expected-Last-Subject-Sequence-Subject")
        if expected is not None:
            if any(proposal.subject == (other or subject) for proposal in self.in_flight):
                raise ApiFailure(10164)
            last = self.last_of([other or subject])
            seq = last.seq if last else 0
            if seq != int(expected):
                raise ApiFailure(10071, seq)
        elif other:
            raise ApiFailure(10193)
        expected = headers.get("Nats-Expected-Last-Sequence")
        if expected is not None:
            if int(expected) != self.last:
                raise ApiFailure(10071, self.last)
            if self.in_flight:
                raise ApiFailure(10164)

    def _check_limits(self, subject: str, headers: dict[str, str], block: bytes | None, data: bytes) -> None:
        config = self.config
        rollup = headers.get("Nats-Rollup")
        if rollup and (not config["allow_rollup_hdrs"] or config["deny_purge"]):
            raise ApiFailure(10111)
        size = len(block or b"") + len(data)
        if 0 <= config["max_msg_size"] < size:
            raise ApiFailure(10054)
        if config["discard"] != "new":
            return
        if 0 < config["max_msgs"] <= len(self.messages):
            raise ApiFailure(10077, "maximum messages exceeded")
        if 0 < config["max_bytes"] < self.bytes + self._size(subject, block, data):
            raise ApiFailure(10077, "maximum bytes exceeded")
        if config.get("discard_new_per_subject") and not rollup:
            there = sum(1 for message in self.messages.values() if message.subject == subject)
            if 0 < config["max_msgs_per_subject"] <= there:
                raise ApiFailure(10077, "maximum messages per subject exceeded")

    def store(self, subject: str, reply: str | None, block: bytes | None, data: bytes, now: float) -> None:
        self.last += 1
        seq = self.last
        self.first = self.first or 1
        if not self.messages:
            self.first = seq
        self.last_at = now
        headers = headers_of(block)
        self.last_id = headers.get("Nats-Msg-Id", "")
        if self.last_id:
            self.ids[self.last_id] = (seq, now)
        if self.config["retention"] == "interest" and not any(c.wants(subject) for c in self.consumers.values()):
            self.first = self.last + 1 if not self.messages else self.first
        else:
            self.messages[seq] = Stored(seq, subject, block, data, now)
            self._roll_up(headers.get("Nats-Rollup"), subject, seq)
            self._enforce()
            for consumer in self.consumers.values():
                consumer.asleep = False
        if not self.config.get("no_ack"):
            fields: dict[str, object] = {"stream": self.name, "seq": seq}
            self.tell(reply, fields)
            if reply and self.replicated:
                self.told.append((reply, fields))

    def _roll_up(self, rollup: str | None, subject: str, keep: int) -> None:
        if rollup == "all":
            self.remove([seq for seq in self.messages if seq != keep])
        elif rollup == "sub":
            self.remove([m.seq for m in self.messages.values() if m.subject == subject and m.seq != keep])

    def tell(self, reply: str | None, fields: dict[str, object]) -> None:
        """The answer to a publish."""
        if reply:
            self.account.acknowledge(reply, json.dumps(fields, separators=(",", ":")).encode())

    def tell_once_more(self) -> None:
        """The new leader applies what it has not applied yet, and the last one may have told of some of that."""
        for reply, fields in self.told:
            self.tell(reply, fields)
        self.told.clear()

    def _forget_ids(self, now: float) -> None:
        window = self.config["duplicate_window"] / 1e9
        for msg_id in [key for key, (_, at) in self.ids.items() if now - at >= window]:
            del self.ids[msg_id]

    # --- messages ----------------------------------------------------------------------------------------------------

    def _enforce(self) -> None:
        """Take away the oldest, down to what the limits allow."""
        per_subject = self.config["max_msgs_per_subject"]
        if per_subject > 0:
            newest = next(reversed(self.messages.values()))
            same = [message.seq for message in self.messages.values() if message.subject == newest.subject]
            self.remove(same[: max(len(same) - per_subject, 0)])
        while 0 < self.config["max_msgs"] < len(self.messages) or 0 < self.config["max_bytes"] < self.bytes:
            self.remove([next(iter(self.messages))])

    def expire(self, now: float) -> None:
        """Take away what is too old, or, when the limits are others now, too much."""
        if self.messages:
            self._enforce()
        age = self.config["max_age"] / 1e9
        if age:
            # In the order of their times: the first that is young enough is the end of those that are not.
            self.remove([m.seq for m in takewhile(lambda m: now - m.at >= age, self.messages.values())])

    def next_timeout(self) -> float | None:
        """When the next message is too old."""
        age = self.config["max_age"] / 1e9
        oldest = next(iter(self.messages.values()), None)
        return oldest.at + age if age and oldest is not None else None

    def remove(self, seqs: Iterable[int]) -> int:
        """These messages are gone. How many there were."""
        gone = [seq for seq in seqs if self.messages.pop(seq, None) is not None]
        if gone:
            self.first = next(iter(self.messages), self.last + 1)
            for consumer in self.consumers.values():
                consumer.removed(gone)
        return len(gone)

    def purge(self, subject: str | None, up_to: int, keep: int) -> int:
        """Take away messages: of a subject, below a sequence, or all but the newest ``keep``. How many."""
        chosen = [m.seq for m in self.messages.values() if subject is None or matches(subject, m.subject)]
        if up_to:
            chosen = [seq for seq in chosen if seq < up_to]
        elif keep:
            chosen = chosen[: max(len(chosen) - keep, 0)]
        purged = self.remove(chosen)
        for consumer in self.consumers.values() if purged else ():
            consumer.delivered_seq = consumer.next_seq - 1
        return purged

    def upward(self, patterns: list[str], start: int) -> Iterator[Stored]:
        """What lies within the patterns (none: everything), from this sequence on."""
        for seq in range(max(start, self.first), self.last + 1):
            message = self.messages.get(seq)
            if message is not None and (not patterns or within(patterns, message.subject)):
                yield message

    def count(self, patterns: list[str], start: int) -> int:
        """How many `upward` gives."""
        if not patterns and self.last - self.first + 1 == len(self.messages):
            return max(self.last + 1 - max(start, self.first), 0)
        return sum(1 for _ in self.upward(patterns, start))

    def next_of(self, patterns: list[str], start: int) -> Stored | None:
        """The first of `upward`."""
        return next(self.upward(patterns, start), None)

    def last_of(self, patterns: list[str], up_to: int | None = None) -> Stored | None:
        """The newest message within the patterns, at or below ``up_to``."""
        for message in reversed(self.messages.values()):
            if (up_to is None or message.seq <= up_to) and within(patterns, message.subject):
                return message
        return None

    def lasts_of(self, patterns: list[str], up_to: int | None = None) -> list[Stored]:
        """The newest message of each subject within the patterns, in order."""
        newest: dict[str, Stored] = {}
        for message in self.upward(patterns, 0):
            if up_to is None or message.seq <= up_to:
                newest[message.subject] = message
        return sorted(newest.values(), key=lambda message: message.seq)

    def seq_at(self, when: float) -> int:
        """The first sequence that was stored at this time or later."""
        return next((m.seq for m in self.messages.values() if nanoseconds(m.at) >= nanoseconds(when)), self.last + 1)

    def overlaps(self, subjects: Iterable[str]) -> bool:
        """Whether another stream could not have these subjects."""
        return any(overlap(one, other) for one in subjects for other in self.config["subjects"])

    # --- what is told of it ------------------------------------------------------------------------------------------

    def _size(self, subject: str, block: bytes | None, data: bytes) -> int:
        if self.config["storage"] == "memory":
            return len(subject) + len(block or b"") + len(data) + 16
        return 30 + (4 + len(block) if block else 0) + len(subject) + len(data)

    @property
    def bytes(self) -> int:
        """As the server counts them."""
        return sum(self._size(m.subject, m.block, m.data) for m in self.messages.values())

    def state(self, *, details: bool = False, subjects: str | None = None) -> dict[str, object]:
        """As in an answer."""
        first = next(iter(self.messages.values()), None)
        state: dict[str, object] = {
            "messages": len(self.messages),
            "bytes": self.bytes,
            "first_seq": self.first,
            "first_ts": time_text(first.at) if first else "0001-01-01T00:00:00Z",
            "last_seq": self.last,
            "last_ts": time_text(self.last_at) if self.last else "0001-01-01T00:00:00Z",
            "consumer_count": len(self.consumers),
        }
        names = {message.subject for message in self.messages.values()}
        if names:
            state["num_subjects"] = len(names)
        deleted = [seq for seq in range(self.first, self.last + 1) if seq not in self.messages] if self.first else []
        if deleted:
            state["num_deleted"] = len(deleted)
            if details:
                state["deleted"] = deleted
        if subjects:
            counts: dict[str, int] = {}
            for message in self.messages.values():
                if matches(subjects, message.subject):
                    counts[message.subject] = counts.get(message.subject, 0) + 1
            state["subjects"] = dict(sorted(counts.items()))
        return state

    def info(self, now: float, **options: Any) -> dict[str, object]:
        """As in an answer."""
        return {
            "config": self.config,
            "created": time_text(self.created),
            "state": self.state(**options),
            "ts": time_text(now),
        }
