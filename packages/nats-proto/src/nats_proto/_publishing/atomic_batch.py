"""Several messages that a stream stores together or not at all (ADR-50; servers from 2.12 on).

Theory of operation
-------------------
The messages of a batch have its id and are numbered. The server keeps them apart until the last one commits them; then
it looks at all their conditions at once and stores all of them, one behind the other, or none.

    OPEN ──add, …──▶ OPEN ──commit, finish──▶ ENDED
      └──a message that may be missing, a refusal, discard──▶ ENDED

The first message waits for the server's answer, which is empty: so a stream without batches is found out at once, and
the rest is not sent for nothing. The others are published without an answer (or with one each ``ack_every`` messages).
What the server has to say against them it says at the end. `commit` sends the last message, `finish` sends only the
sign that there will be no more (servers from 2.14 on).

A server that is too old for batches stores the first message as any other, and its answer shows that. This is the one
case in which something of a batch that has failed is stored.

Nothing but a commit is lost by silence: before it nothing is stored. A batch for which nothing comes for 10 s is
forgotten by the server, and so is one whose stream gets another leader. One call at a time: the numbers are the order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._calls.operation import Operation, Pause, Publish, Request
from .._jetstream.errors import FeatureDroppedError, JetStreamDecodeError, JetStreamError
from .._jetstream.pub_ack import PubAck, decode_pub_ack
from .._limits import check_count, check_seconds, check_timeout
from .._wire.frames import Message, Payload
from .._wire.headers import Headers
from ..errors import LocalProtocolError, NATSError
from .headers import EXPECTED_LAST_MSG_ID, EXPECTED_LAST_SEQUENCE, message_id
from .publish import SHOWN_OF_FOREIGN, steady
from .retries import RETRY_FOR, final_error, pause_before_retry

__all__ = ["AtomicBatch"]

BATCH_ID: Final = "Nats-Batch-Id"
BATCH_SEQUENCE: Final = "Nats-Batch-Sequence"
BATCH_COMMIT: Final = "Nats-Batch-Commit"
MAX_ID: Final = 64
"""Characters of a batch's id (ADR-50)."""


class AtomicBatch:
    """One batch. Its methods are operations, to be run one after the other.

    ``batch_id``: of 64 characters at most, used once. ``timeout`` (seconds) is for each answer; a request that nobody
    has taken is made again for ``retry_for`` seconds. ``ack_every``: wait for the server each so many messages, too.
    """

    __slots__ = ("_ack_every", "_ids", "_now", "_retry_for", "_timeout", "batch_id", "ended", "size", "subject")

    def __init__(
        self,
        batch_id: str,
        *,
        now: Callable[[], float],
        timeout: float = 5.0,
        retry_for: float = RETRY_FOR,
        ack_every: int | None = None,
    ) -> None:
        if not 0 < len(batch_id) <= MAX_ID:
            raise ValueError(f"the id of a batch must have 1 to {MAX_ID} characters")
        if ack_every is not None:
            check_count("ack_every", ack_every)
        self.batch_id = batch_id
        self._now = now
        self._timeout = check_seconds("timeout", timeout)
        self._retry_for = check_timeout("retry_for", retry_for)
        self._ack_every = ack_every
        self._ids: set[str] = set()
        self.size = 0
        """Messages that were added."""
        self.subject = ""
        """Of the last of them."""
        self.ended = False
        """It was committed, refused or given up, and takes no more."""

    def add(self, subject: str, data: Payload = b"", headers: Headers | None = None) -> Operation[None]:
        """Add a message; the first waits for the server.

        Raises what the stream has refused the batch with, what ``Client.publish`` and ``Client.request`` raise,
        `FeatureDroppedError` when the server is too old, `LocalProtocolError` when the batch has ended, `ValueError`
        for headers that no batch may have.
        """
        made = self._headers(headers, None)
        return self._add(subject, steady(data), made)

    def commit(self, subject: str, data: Payload = b"", headers: Headers | None = None) -> Operation[PubAck]:
        """Add the last message, and store all: the acknowledgement, whose sequence is that of this one.

        Raises as `add`, and `NATSTimeoutError` when the server does not say what has come of it (the outcome is
        ``"unknown"``). After an `AtomicBatchError`, or a wrong expectation, nothing is stored.
        """
        return self._commit(subject, steady(data), self._headers(headers, "1"), self.size + 1)

    def finish(self) -> Operation[PubAck]:
        """Store what was added; as `commit`, without another message. `LocalProtocolError` when nothing was added."""
        if not self.size:
            raise LocalProtocolError("an atomic batch without a message cannot be stored")
        return self._commit(self.subject, b"", self._headers(None, "eob"), self.size)

    def discard(self) -> None:
        """Give it up: nothing is stored. The server forgets the batch by itself."""
        self.ended = True

    def _headers(self, headers: Headers | None, commit: str | None) -> Headers:
        if self.ended:
            raise LocalProtocolError("the atomic batch has ended")
        made = Headers() if headers is None else headers.copy()
        for name in (BATCH_ID, BATCH_SEQUENCE, BATCH_COMMIT, EXPECTED_LAST_MSG_ID):
            if name in made:
                raise ValueError(f"a message of an atomic batch must not have the header {name}")
        if self.size and EXPECTED_LAST_SEQUENCE in made:
            raise ValueError("expected_last_sequence is for the first message of an atomic batch alone")
        if message_id(made) in self._ids:
            raise ValueError(f"an atomic batch has one message of each id: {message_id(made)!r} is there already")
        made.add(BATCH_ID, self.batch_id)
        made.add(BATCH_SEQUENCE, str(self.size + 1))
        if commit is not None:
            made.add(BATCH_COMMIT, commit)
        return made

    def _add(self, subject: str, data: Payload, headers: Headers) -> Operation[None]:
        number = self._begin(headers)
        try:
            if number == 1 or (self._ack_every is not None and number % self._ack_every == 0):
                yield from self._ask(
                    subject, data, headers, f"message {number} of an atomic batch to {subject!r}", False
                )
            else:
                yield Publish(subject, data, None, headers)
        except NATSError as error:
            # What certainly did not leave is not missing: the batch goes on, with the same number for the next.
            self.ended = isinstance(error, JetStreamError) or error.outcome == "unknown"
            raise
        except TypeError:
            self.ended = False  # of the caller: nothing was sent either
            raise
        self.ended = False
        self.size, self.subject = number, subject
        identity = message_id(headers)
        if identity is not None:
            self._ids.add(identity)

    def _commit(self, subject: str, data: Payload, headers: Headers, count: int) -> Operation[PubAck]:
        self._begin(headers)
        what = f"commit of an atomic batch of {count}"
        answer = yield from self._ask(subject, data, headers, what, True)
        assert answer is not None  # as asked for
        if answer.batch != self.batch_id or answer.count != count:
            raise JetStreamDecodeError(
                f"{what}: the acknowledgement is one for {answer.count} messages of batch {answer.batch!r:.100}"
            )
        return answer

    def _begin(self, headers: Headers) -> int:
        """The number of the message. Whoever is left at a ``yield`` (cancelled) has ended the batch."""
        if self.ended or headers[BATCH_SEQUENCE] != str(self.size + 1):
            raise LocalProtocolError("an atomic batch takes one message after the other, and none when it has ended")
        self.ended = True
        return self.size + 1

    def _ask(self, subject: str, data: Payload, headers: Headers, what: str, commits: bool) -> Operation[PubAck | None]:
        answers = _Answers(what, commits)
        request = Request(subject, data, headers, timeout=self._timeout, accept=answers)
        began, tries = self._now(), 0
        while True:
            error: NATSError | None = None
            try:
                yield request
            except NATSError as failure:
                error = failure
            if answers.done:
                if answers.error is None:
                    return answers.ack
                error, answers.error, answers.done = answers.error, None, False
            assert error is not None  # as in `publish`
            tries += 1
            spent = self._now() - began
            pause = pause_before_retry(error, tries, has_id=False)
            if pause is None or spent >= self._retry_for:
                raise final_error(
                    error, subject, tries=tries, seconds=spent, unknown=False, foreign=answers.foreign
                ) from error.__cause__
            yield Pause(max(0.0, min(pause, self._retry_for - spent)))


class _Answers:
    """What servers answer to a message of a batch: nothing, a refusal, or at the end an acknowledgement."""

    __slots__ = ("_commits", "_what", "ack", "done", "error", "foreign")

    def __init__(self, what: str, commits: bool) -> None:
        self._what = what
        self._commits = commits
        self.done = False
        self.ack: PubAck | None = None
        self.error: JetStreamError | None = None
        self.foreign: bytes | None = None

    def __call__(self, message: Message) -> bool:
        if not self._commits and not message.data and message.status is None:
            self.done = True
            return True
        answer = decode_pub_ack(self._what, message)
        if isinstance(answer, PubAck):
            if self._commits:
                self.ack = answer
            else:
                self.error = FeatureDroppedError(
                    f"{self._what}: the server knows no atomic batches (they came with 2.12) and has stored the "
                    f"message by itself, in stream {answer.stream!r} at {answer.sequence}",
                    fields=(BATCH_ID,),
                )
        elif answer is None:
            self.foreign = message.data[:SHOWN_OF_FOREIGN]
            return False
        else:
            self.error = answer
        self.done = True
        return True
