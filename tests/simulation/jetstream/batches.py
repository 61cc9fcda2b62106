"""Batches of one stream of the model: several messages that are stored together, and streams of messages (ADR-50).

Theory of operation
-------------------
An atomic batch is kept apart until its last message commits it; then all its conditions are looked at, and all of it is
stored or nothing. Whatever is wrong with its numbers ends it. Another leader knows nothing of it.

Of a fast ingest the number of the last message is kept. A message beyond the next one shows that some were lost, one
before it that something is wrong, which ends the ingest. What it counts is stored with its messages, so another leader
knows it as far as messages are stored.

On several replicas both take `commit` seconds until they are stored, as single messages do. What comes for neither for
`IDLE` seconds is forgotten, without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .wire import ApiFailure, headers_of

if TYPE_CHECKING:
    from .stream import ModelStream

__all__ = ["Batches"]

IDLE: Final = 10.0
START, APPEND, COMMIT, END, PING = range(5)
Message = tuple[str, bytes | None, bytes]


@dataclass(slots=True)
class Atomic:
    """One that was begun."""

    at: float
    messages: list[Message] = field(default_factory=list)


@dataclass(slots=True)
class Ingest:
    """One that was begun."""

    name: str
    at: float
    flow: int
    fails: bool
    last: int = 0
    """The number of the last message that was looked at."""
    applied: int = 0
    """The same, of those that are stored."""
    told: int = 0
    """Up to where it was acknowledged."""
    reply: str = ""
    """Of the last message that is stored."""


class Batches:
    """Of one stream."""

    def __init__(self, stream: ModelStream) -> None:
        self._stream = stream
        self._atomic: dict[str, Atomic] = {}
        self._ingests: dict[str, Ingest] = {}
        self._proposals: list[Callable[[float, bool], None]] = []
        """What is about to be stored."""

    def take(self, subject: str, reply: str | None, block: bytes | None, data: bytes, now: float) -> bool:
        """Whether this message is one of a batch, which it was taken for."""
        headers = headers_of(block)
        if reply is not None and reply.endswith(".$FI"):
            self._ingest(subject, reply, block, data, now)
        elif "Nats-Batch-Id" in headers:
            self._batch(subject, reply, headers, block, data, now)
        else:
            return False
        return True

    def leave(self, now: float, *, kept: bool) -> None:
        """The leader is gone; what was about to be stored is, or is lost."""
        proposals, self._proposals = self._proposals, []
        for proposal in proposals if kept else ():
            proposal(now, False)
        self._atomic.clear()
        for ingest in self._ingests.values():
            ingest.last = ingest.told = ingest.applied

    def lead(self) -> None:
        """There is a leader again, who tells of each ingest what he has of it."""
        for ingest in self._ingests.values():
            self._stream.tell(ingest.reply, {"type": "ack", "seq": ingest.told, "msgs": ingest.flow})

    def forget(self) -> None:
        """The server begins anew."""
        self._atomic.clear()
        self._ingests.clear()

    def _propose(self, proposal: Callable[[float, bool], None], now: float) -> None:
        commit = self._stream.account.commit if self._stream.replicated else 0.0
        if commit <= 0.0:
            proposal(now, True)
            return

        def stored(then: float) -> None:
            if proposal in self._proposals:  # else its leader has left
                self._proposals.remove(proposal)
                proposal(then, True)

        self._proposals.append(proposal)
        self._stream.account.later(now + commit, stored)

    def _refuse(self, reply: str | None, failure: ApiFailure) -> None:
        self._stream.tell(reply, {"error": failure.fields, "stream": self._stream.name, "seq": 0})

    # --- all or nothing ----------------------------------------------------------------------------------------------

    def _batch(
        self, subject: str, reply: str | None, headers: dict[str, str], block: bytes | None, data: bytes, now: float
    ) -> None:
        name = headers["Nats-Batch-Id"]
        try:
            self._join(name, subject, reply, headers, block, data, now)
        except ApiFailure as failure:
            self._atomic.pop(name, None)
            self._refuse(reply, failure)

    def _join(
        self,
        name: str,
        subject: str,
        reply: str | None,
        headers: dict[str, str],
        block: bytes | None,
        data: bytes,
        now: float,
    ) -> None:
        if not self._stream.config["allow_atomic"]:
            raise ApiFailure(10174)
        if "Nats-Batch-Sequence" not in headers:
            raise ApiFailure(10175)
        number, batch = int(headers["Nats-Batch-Sequence"]), self._atomic.get(name)
        if batch is not None and now - batch.at >= IDLE:
            batch = None
        if number == 1 and batch is None:
            batch = self._atomic[name] = Atomic(now)
        if batch is None or number != len(batch.messages) + 1:
            raise ApiFailure(10176)
        batch.at = now
        batch.messages.append((subject, block, data))
        if "Nats-Batch-Commit" not in headers:
            if reply:
                self._stream.account.acknowledge(reply, b"")
            return
        del self._atomic[name]
        for one, own, payload in batch.messages:
            self._stream.check(one, headers_of(own), own, payload)

        def store(then: float, told: bool) -> None:
            for one, own, payload in batch.messages:
                self._stream.store(one, None, own, payload, then)
            if told:
                about = {"stream": self._stream.name, "seq": self._stream.last}
                self._stream.tell(reply, {**about, "batch": name, "count": len(batch.messages)})

        self._propose(store, now)

    # --- one after the other -----------------------------------------------------------------------------------------

    def _ingest(self, subject: str, reply: str, block: bytes | None, data: bytes, now: float) -> None:
        *_, name, flow, gap, written, operation, _ = reply.split(".")
        number, step = int(written), int(operation)
        ingest = self._ingests.get(name)
        try:
            if not self._stream.config["allow_batched"]:
                raise ApiFailure(10205)
            if ingest is not None and now - ingest.at >= IDLE:
                ingest = None
            if ingest is None:
                if step != START:
                    raise ApiFailure(10208)
                if number != 1:
                    raise ApiFailure(10206)
                ingest = self._ingests[name] = Ingest(name, now, int(flow), gap == "fail")
                self._stream.tell(reply, {"type": "ack", "seq": 0, "msgs": ingest.flow})
        except ApiFailure as failure:
            self._refuse(reply, failure)
            return
        ingest.at = now
        if self._follows(ingest, number, step, reply, now):
            self._step(ingest, number, step, subject, reply, block, data, now)

    def _follows(self, ingest: Ingest, number: int, step: int, reply: str, now: float) -> bool:
        """Tell of what is missing before this one: whether the ingest goes on."""
        expected = ingest.last + 1
        missing = number >= expected if step == PING else number != expected
        if missing:
            self._stream.tell(reply, {"type": "gap", "last_seq": expected, "seq": number + (step == PING)})
            if number < expected or ingest.fails:
                self._end(ingest, reply, now)
                return False
        return True

    def _step(
        self,
        ingest: Ingest,
        number: int,
        step: int,
        subject: str,
        reply: str,
        block: bytes | None,
        data: bytes,
        now: float,
    ) -> None:
        if step == PING:
            if number > ingest.last:
                ingest.last = ingest.applied = ingest.told = number
            self._stream.tell(reply, {"type": "ack", "seq": ingest.told, "msgs": ingest.flow})
            return
        if step == END:
            ingest.last = number - 1
            self._end(ingest, reply, now)
            return
        try:
            self._stream.check(subject, headers_of(block), block, data)
        except ApiFailure as failure:
            before = ingest.last
            ingest.last = number

            def passed(then: float, told: bool) -> None:
                ingest.applied = number

            self._propose(passed, now)
            self._stream.tell(reply, {"type": "err", "seq": number, "error": failure.fields})
            if ingest.fails:
                ingest.last = before
                self._end(ingest, reply, now)
            return
        ingest.last = number

        def store(then: float, told: bool) -> None:
            self._stream.store(subject, None, block, data, then)
            ingest.applied, ingest.reply = number, reply
            if told and number - ingest.told >= ingest.flow and step != COMMIT:
                ingest.told = number
                self._stream.tell(reply, {"type": "ack", "seq": number, "msgs": ingest.flow})

        self._propose(store, now)
        if step == COMMIT:
            self._end(ingest, reply, now)

    def _end(self, ingest: Ingest, reply: str, now: float) -> None:
        self._ingests.pop(ingest.name, None)
        count = ingest.last

        def end(then: float, told: bool) -> None:
            if told:
                about = {"stream": self._stream.name, "seq": self._stream.last}
                self._stream.tell(reply, {**about, "batch": ingest.name, "count": count})

        self._propose(end, now)
