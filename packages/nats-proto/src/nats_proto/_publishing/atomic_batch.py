"""Several messages that a stream stores together or not at all (ADR-50; servers from 2.12 on).

Theory of operation
-------------------
The messages of a batch have its id and are numbered. The server keeps them apart until the last one commits them; then
it looks at all their conditions at once and stores all of them, one behind the other, or none.

    OPEN ──add, …──▶ OPEN ──commit──▶ ENDED
      └──a message that may be missing, a refusal, discard──▶ ENDED

A server has to be told with the last message that it is the last, and who adds messages does not know yet which one
that will be. So the last one that was added is held back, until the next one is added or the batch is committed. What
a client can see to be wrong with a message (its subject, its headers, its size) is therefore looked at when it is
added, and the batch stays as it was. When a message that was held back cannot be sent after all, the batch has ended.

The first message waits for the server's answer, which is empty: so a stream without batches is found out at once, and
the rest is not sent for nothing. The others are published without an answer (or with one each ``ack_every`` messages).
What the server has to say against them it says at the end.

A server that is too old for batches stores the first message as any other, and its answer shows that. This is the one
case in which something of a batch that has failed is stored.

Nothing but a commit is lost by silence: before it nothing is stored. A batch for which nothing comes for 10 s is
forgotten by the server, and so is one whose stream gets another leader. One call at a time: the numbers are the order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .._calls.operation import Operation, Pause, Publish, Request
from .._jetstream.errors import ApiError, FeatureDroppedError, JetStreamDecodeError, JetStreamError
from .._jetstream.pub_ack import PubAck, decode_pub_ack
from .._limits import check_count, check_seconds, check_timeout
from .._wire.encoder import Encoder
from .._wire.frames import Message, Payload
from .._wire.headers import Headers
from ..errors import LocalProtocolError, NATSError
from .defaults import MAX_MESSAGES
from .headers import EXPECTED_LAST_MSG_ID, EXPECTED_LAST_SEQUENCE, message_id
from .publish import SHOWN_OF_FOREIGN, steady
from .retries import RETRY_FOR, final_error, pause_before_retry

__all__ = ["AtomicBatch"]

BATCH_ID: Final = "Nats-Batch-Id"
BATCH_SEQUENCE: Final = "Nats-Batch-Sequence"
BATCH_COMMIT: Final = "Nats-Batch-Commit"
MAX_ID: Final = 64
"""Characters of a batch's id (ADR-50)."""


def _unknown() -> None:
    """The size of messages that a server takes, when nobody has asked it."""


class AtomicBatch:
    """One batch. Its methods are operations, to be run one after the other.

    ``batch_id``: of 64 characters at most, used once. ``timeout`` (seconds) is for each answer; a request that nobody
    has taken is made again for ``retry_for`` seconds. ``ack_every``: wait for the server each so many messages, too.
    ``max_messages``: what the server takes at most. ``max_payload`` tells the bytes that a message may have.
    """

    __slots__ = (
        *("_ack_every", "_commits", "_held", "_ids", "_max_messages", "_max_payload", "_now", "_retry_for", "_timeout"),
        *("batch_id", "ended", "size"),
    )

    def __init__(
        self,
        batch_id: str,
        *,
        now: Callable[[], float],
        timeout: float = 5.0,
        retry_for: float = RETRY_FOR,
        ack_every: int | None = None,
        max_messages: int = MAX_MESSAGES,
        max_payload: Callable[[], int | None] = _unknown,
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
        self._max_messages = check_count("max_messages", max_messages)
        self._max_payload = max_payload
        self._ids: set[str] = set()
        self._held: _Held | None = None
        """The last one that was added. It has the number ``size``, and was not sent yet."""
        self._commits = False
        """The commit was sent."""
        self.size = 0
        """Messages that were added."""
        self.ended = False
        """It was committed, refused or given up, and takes no more."""

    def add(self, subject: str, data: Payload = b"", headers: Headers | None = None) -> Operation[None]:
        """Add a message, which is held back, and send the one before; the first of all waits for the server.

        Raises at once, and changes nothing: `LocalProtocolError` when the batch has ended or is full, `ValueError` for
        headers that no batch may have, and what ``Client.publish`` raises for what cannot be sent. Raises of the
        message before, and ends the batch: what the stream has refused the batch with, what ``Client.publish`` and
        ``Client.request`` raise, `FeatureDroppedError` when the server is too old.
        """
        made = self._headers(headers)
        payload = steady(data)
        encoder = Encoder()
        limit = self._max_payload()
        if limit is not None:
            encoder.server_allows(max_payload=limit, headers=True)
        encoder.publish(subject, payload, None, made)
        return self._add(_Held(subject, payload, made), self.size)

    def commit(self) -> Operation[PubAck]:
        """Send the last message, and so store all: the acknowledgement, whose sequence is that of the last message.

        Raises as `add`, and `NATSTimeoutError` when the server does not say what has come of it (the outcome is
        ``"unknown"``). After an `AtomicBatchError`, or a wrong expectation, nothing is stored. `LocalProtocolError`
        when nothing was added.
        """
        if self.ended:
            raise self._over()
        if not self.size:
            raise LocalProtocolError("an atomic batch without a message cannot be stored")
        return self._commit()

    def discard(self) -> None:
        """Give it up: nothing is stored. The server forgets the batch by itself."""
        self.ended = True
        self._held = None

    def _over(self) -> LocalProtocolError:
        if not self._commits:
            return LocalProtocolError("the atomic batch has ended: it was given up, or has failed; nothing is stored")
        error = LocalProtocolError("the atomic batch has ended: its commit was sent")
        error.outcome = "unknown"
        return error

    def _headers(self, headers: Headers | None) -> Headers:
        if self.ended:
            raise self._over()
        if self.size >= self._max_messages:
            raise LocalProtocolError(
                f"an atomic batch has {self._max_messages} messages at most, unless servers are configured otherwise "
                f"and max_messages says so"
            )
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
        return made

    def _add(self, added: _Held, size: int) -> Operation[None]:
        if self.ended or self.size != size:
            raise LocalProtocolError("an atomic batch takes one message after the other, and none when it has ended")
        held = self._held
        if held is not None:
            # Whoever is left at a ``yield`` (cancelled), or fails there, has ended the batch: that message may be
            # missing.
            self.ended, self._held = True, None
            try:
                if size == 1 or (self._ack_every is not None and size % self._ack_every == 0):
                    what = f"message {size} of an atomic batch to {held.subject!r}"
                    yield from self._ask(held, what, commits=False)
                else:
                    yield Publish(held.subject, held.data, None, held.headers)
            except NATSError as error:
                if size > 1 and error.outcome == "unknown":
                    error.outcome = "failed"  # the server knows batches, and stores nothing before the commit
                raise
            self.ended = False
        self._held, self.size = added, size + 1
        identity = message_id(added.headers)
        if identity is not None:
            self._ids.add(identity)

    def _commit(self) -> Operation[PubAck]:
        held, count = self._held, self.size
        if self.ended or held is None:
            raise self._over()
        self.ended, self._commits, self._held = True, True, None
        held.headers.add(BATCH_COMMIT, "1")
        what = f"commit of an atomic batch of {count}"
        answer = yield from self._ask(held, what, commits=True)
        assert answer is not None  # as asked for
        if count == 1 and answer.batch is None:
            raise _too_old(what, answer)
        if answer.batch != self.batch_id or answer.count != count:
            raise JetStreamDecodeError(
                f"{what}: the acknowledgement is one for {answer.count} messages of batch {answer.batch!r:.100}"
            )
        return answer

    def _ask(self, message: _Held, what: str, *, commits: bool) -> Operation[PubAck | None]:
        answers = _Answers(what, commits)
        request = Request(message.subject, message.data, message.headers, timeout=self._timeout, accept=answers)
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
                made = final_error(
                    error, message.subject, tries=tries, seconds=spent, unknown=False, foreign=answers.foreign
                )
                if not isinstance(made, ApiError | FeatureDroppedError | JetStreamDecodeError):  # which say it
                    made.add_note(f"It was the {what}: a stream stores all messages of a batch or none.")
                raise made from error.__cause__
            yield Pause(max(0.0, min(pause, self._retry_for - spent)))


class _Held(NamedTuple):
    """A message of the batch, as it is sent."""

    subject: str
    data: Payload
    headers: Headers


def _too_old(what: str, answer: PubAck) -> FeatureDroppedError:
    return FeatureDroppedError(
        f"{what}: the server knows no atomic batches (they came with 2.12) and has stored the message by itself, in "
        f"stream {answer.stream!r} at {answer.sequence}",
        fields=(BATCH_ID,),
    )


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
                self.error = _too_old(self._what, answer)
        elif answer is None:
            self.foreign = message.data[:SHOWN_OF_FOREIGN]
            return False
        else:
            self.error = answer
        self.done = True
        return True
