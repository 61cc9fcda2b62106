"""The stream of the demo: what each client was told of it, and what it really has at the end."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import nats_sync
import nats_sync.jetstream
from nats_proto.errors import NATSError

__all__ = [
    "STORE_EVERY",
    "STREAM",
    "SUBJECT",
    "StreamLedger",
    "StreamVerdict",
    "judge_stream",
    "make_stream",
    "messages_of",
    "stored_in",
]

STREAM: Final = "DEMO"
SUBJECT: Final = "demo.stored"
STORE_EVERY: Final = 0.02
ACK_WAIT: Final = 2.0
"""Seconds until a message that was not acknowledged comes again."""


@dataclass(slots=True)
class StreamLedger:
    """One client's own account. A message is named by its publisher and its serial number: ``threads-17``."""

    name: str
    published: int = 0
    acknowledged: set[str] = field(default_factory=set[str])
    failed: int = 0
    longest_wait: float = 0.0
    """The longest time in which no acknowledgement came, in seconds."""
    handled: Counter[str] = field(default_factory=Counter[str])
    handed_out_twice: int = 0
    """Deliveries that the client gave a second time: each delivery of a server has a reply subject of its own."""
    unconfirmed: int = 0
    """Messages whose acknowledgement was not confirmed in time: a server may deliver them again."""
    again_after_confirmed: int = 0
    """Handled again although the acknowledgement was confirmed: then a server has forgotten it."""
    _deliveries: set[str] = field(default_factory=set[str])
    _confirmed: set[str] = field(default_factory=set[str])
    _last: float | None = None

    def acknowledges(self, message: str) -> None:
        """A publish was acknowledged."""
        now = time.monotonic()
        if self._last is not None:
            self.longest_wait = max(self.longest_wait, now - self._last)
        self._last = now
        self.acknowledged.add(message)

    def handles(self, message: str, reply: str | None) -> None:
        """The consumer gave a message."""
        self.again_after_confirmed += message in self._confirmed
        self.handled[message] += 1
        if reply is not None:
            self.handed_out_twice += reply in self._deliveries
            self._deliveries.add(reply)

    def confirms(self, message: str) -> None:
        """A server has confirmed that it has the acknowledgement."""
        self._confirmed.add(message)


@dataclass(frozen=True, slots=True)
class StreamVerdict:
    """What the stream says about one client."""

    lost: int
    """Acknowledged, and not there."""
    doubled: int
    never_handled: int
    handed_out_twice: int
    failed: int

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.never_handled or self.handed_out_twice or self.failed)


def make_stream(urls: list[str], leader: str, consumers: Iterable[str]) -> None:
    """A stream on all three servers, led by the one with this name, and on all three a consumer for each client."""
    with nats_sync.connect(urls) as nc:
        stream = nc.jetstream().create_stream(STREAM, subjects=[f"{SUBJECT}.*"], num_replicas=3)
        for name in consumers:
            stream.create_consumer(name, ack_wait=ACK_WAIT)
        deadline = time.monotonic() + 30.0
        while (now_leads := leader_of(stream)) != leader:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the stream is led by {now_leads}, not by {leader}")
            if now_leads is not None:
                stream.leader_stepdown()  # who follows is chance


def leader_of(stream: nats_sync.jetstream.Stream) -> str | None:
    """The name of the server that leads it; None between two."""
    try:
        cluster = stream.refresh().cluster
    except NATSError:
        return None
    return None if cluster is None else cluster.leader


def stored_in(urls: list[str]) -> list[str]:
    """All messages of the stream."""
    return [
        f"{message['subject'].rpartition('.')[2]}-{base64.b64decode(message['data']).decode()}"
        for message in messages_of(urls, STREAM)
    ]


def messages_of(urls: list[str], stream: str) -> list[Any]:
    """All of a stream, asked for one by one with plain requests, without the clients' JetStream."""
    found: list[Any] = []
    with nats_sync.connect(urls) as nc:
        while True:
            after = found[-1]["seq"] if found else 0
            question = json.dumps({"seq": after + 1, "next_by_subj": ">"}).encode()
            answer: Any = json.loads(nc.request(f"$JS.API.STREAM.MSG.GET.{stream}", question, timeout=10.0).data)
            if "error" in answer:
                return found
            found.append(answer["message"])


def judge_stream(ledger: StreamLedger, stored: Sequence[str]) -> StreamVerdict:
    """Compare what a client was told, and what it has handled, with what is stored."""
    own = Counter(message for message in stored if message.startswith(f"{ledger.name}-"))
    return StreamVerdict(
        lost=len(ledger.acknowledged - own.keys()),
        doubled=sum(own.values()) - len(own),
        never_handled=len(set(stored) - ledger.handled.keys()),
        handed_out_twice=ledger.handed_out_twice,
        failed=ledger.failed,
    )


def stream_lines(rows: list[tuple[StreamLedger, StreamVerdict]]) -> list[tuple[str, list[str]]]:
    """The lines of the table."""
    again = [sum(ledger.handled.values()) - len(ledger.handled) for ledger, _ in rows]
    lines: list[tuple[str, Iterable[int]]] = [
        ("published with an id", (ledger.published for ledger, _ in rows)),
        ("  acknowledged", (len(ledger.acknowledged) for ledger, _ in rows)),
        ("  failed", (ledger.failed for ledger, _ in rows)),
        ("acknowledged and lost", (verdict.lost for _, verdict in rows)),
        ("stored twice", (verdict.doubled for _, verdict in rows)),
        ("handled", (len(ledger.handled) for ledger, _ in rows)),
        ("  delivered again by a server", again),
        ("    after a confirmed ack", (ledger.again_after_confirmed for ledger, _ in rows)),
        ("stored and never handled", (verdict.never_handled for _, verdict in rows)),
        ("given twice by the client", (verdict.handed_out_twice for _, verdict in rows)),
    ]
    waits = ("longest wait for an ack", [f"{ledger.longest_wait * 1000:,.0f} ms" for ledger, _ in rows])
    plain = [(label, [f"{number:,}" for number in numbers]) for label, numbers in lines]
    return list(itertools.chain(plain[:3], [waits], plain[3:]))
