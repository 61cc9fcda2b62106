"""A stream of messages into a stream, with an acknowledgement for many (ADR-50; servers from 2.14 on).

Theory of operation
-------------------
What a message is to the batch stands in its reply subject, below an inbox that is used for nothing else:

    <inbox>.<flow>.<gap>.<number>.<operation>.$FI     operation 0 start, 1 append, 2 commit, 3 end, 4 ping

``flow`` is the most messages that one acknowledgement may be for, and the server decides how many: with many who write
it slows each down. Its answers are told apart by their ``type``: ``ack`` (all up to this number were looked at, and one
for each so many messages will come), ``gap`` (messages were lost on the way), ``err`` (one was refused). The answer
without a type ends the batch, and says how many messages it has.

    OPENING ──ack──▶ OPEN ──commit, finish──▶ ENDING ──the last answer──▶ done
       └──refused───────┴──a gap, a refusal (on_gap="fail")──▲

As with the publish window (`window`, where it is told why), who has called `begin` publishes by itself, with the reply
subject that it got. In OPENING there is room for one message, later for ``max_outstanding`` acknowledgements' worth of
them beyond the last one that was acknowledged.

An acknowledgement is for so many messages that were stored. So of a window in which all were refused none would come:
a refusal, too, says that the server has come as far as this message, and makes room.

Acknowledgements may be lost, and the server may be another one. So when nothing comes for a third of ``timeout`` while
something is waited for, a ping asks for the last acknowledgement again, and after a new connection at once. When
nothing comes for all of it, the batch has failed, and only what was acknowledged is certain. Nothing is waited for
between two messages of a slow writer; but a server forgets a batch from which nothing comes for 10 s.

What waits for a connection when the batch has ended is not sent any more (`_awaits`): its writer was told, and has gone
on since. To a server that has forgotten the batch its first message would begin another, and be stored.

With ``on_gap="fail"`` an acknowledgement says that everything up to it is stored, and a loss ends the batch. With
``"ok"`` the batch goes on, and its items say what was lost or refused.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

import msgspec

from .._calls.machine import Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.errors import JetStreamDecodeError, JetStreamError, NoStreamResponseError, api_error
from .._jetstream.pub_ack import PubAck, decode_pub_ack
from .._limits import check_count, check_seconds
from .._session.inbox import NO_RESPONDERS
from .._session.marks import PublishRefused
from .._session.not_permitted import not_permitted
from .._value import Value
from .._wire.frames import Message
from ..errors import ConnectionClosedError, LocalProtocolError, NATSError, NATSTimeoutError, Outcome, PermissionsError
from .defaults import FLOW, MAX_OUTSTANDING

__all__ = ["FastIngest", "FastIngestGapError", "IngestGap", "IngestProgress", "IngestRefusal", "IngestReport"]

MAX_FLOW: Final = 65535
"""Servers count it in 16 bits."""
MAX_REPORTS: Final = 1000
"""Reports that are kept for somebody to read them. The oldest are dropped."""
PINGS: Final = 3
"""So many times in ``timeout`` a silent server is asked."""

_START, _APPEND, _COMMIT, _END, _PING = range(5)


class IngestGap(Value, frozen=True):
    """Messages were lost on the way: from number ``first`` up to, and without, ``next``."""

    first: int
    next: int


class IngestRefusal(Value, frozen=True):
    """The stream has refused one message."""

    number: int
    error: JetStreamError


class IngestProgress(Value, frozen=True):
    """All messages up to number ``acknowledged`` were looked at, and there is room for more."""

    acknowledged: int


IngestReport = IngestProgress | IngestGap | IngestRefusal


class FastIngestGapError(JetStreamError):
    """Messages of a fast ingest were lost on the way, which has ended it, or the server has ended it by itself.

    ``stored`` messages are in the stream. ``first`` is the number of the first that is not.
    """

    outcome: Outcome = "unknown"

    def __init__(self, message: str, *, stored: int = 0, first: int = 0) -> None:
        super().__init__(message)
        self.stored = stored
        self.first = first


class _Answer(msgspec.Struct, gc=False):
    type: str = ""
    seq: int = 0
    msgs: int = 0
    last_seq: int = 0
    error: dict[str, object] | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


class FastIngest:
    """A `Machine` whose items are reports: acknowledgements, and with ``on_gap="ok"`` losses.

    ``inbox``: a subject of its own whose last token, of 64 characters at most, is the id of the batch. ``flow``: the
    most messages for one acknowledgement. ``timeout``: seconds of silence after which it has failed. Raises
    `ValueError` and `TypeError` for what cannot be used.
    """

    def __init__(
        self,
        inbox: str,
        *,
        flow: int = FLOW,
        max_outstanding: int = MAX_OUTSTANDING,
        on_gap: Literal["fail", "ok"] = "fail",
        timeout: float = 5.0,
    ) -> None:
        if check_count("flow", flow) > MAX_FLOW:
            raise ValueError(f"flow must be at most {MAX_FLOW}: {flow}")
        if on_gap not in ("fail", "ok"):
            raise ValueError(f"on_gap must be 'fail' or 'ok', not {on_gap!r:.64}")
        self._max_outstanding = check_count("max_outstanding", max_outstanding)
        self._timeout = check_seconds("timeout", timeout)
        self._max_flow = flow
        self._fails = on_gap == "fail"
        self._id = inbox.rpartition(".")[2]
        self._prefix = f"{inbox}.{flow}.{on_gap}."
        self._flow = 1
        self._opened = False
        self._ending = False
        """It was committed, or the server has ended it: there is one more answer to come."""
        self._committed = False
        """It was ended by its writer."""
        self._subject = ""
        self._numbers: dict[str, int] = {}
        """The last message of each subject, of those that are not acknowledged, and of some others."""
        self._published = 0
        """Messages and questions."""
        self._refusals = 0
        """How many of these the server has refused."""
        self._replaced = False
        """There was another connection than that on which the first of them went."""
        self._not_permitted: PermissionsError | None = None
        """What it has said with the last one."""
        self._gap: IngestGap | None = None
        self._refusal: IngestRefusal | None = None
        self._told_until = 0
        """Losses below this number were reported."""
        self._since = 0.0
        """When the server was heard or asked last, or a wait for it began."""
        self._asked = 0
        """How often it was asked since it was heard."""
        self._end_number: int | None = None
        """Of the sign that there will be no more messages."""
        self.sent = 0
        """The number of the last message."""
        self._looked_at = 0
        """The last message of which the server has said something, also that it is refused."""
        self.acknowledged = 0
        """The server has said something of all messages up to this number."""
        self.lost = 0
        """Messages that were lost on the way, as far as the server has told."""
        self.refused = 0
        """Messages that the stream has refused, as far as the server has told."""
        self.pub_ack: PubAck | None = None
        """The last answer. Its ``count`` is the number of the last message, of which with ``on_gap="ok"`` not all are
        stored."""
        self.items: deque[IngestReport] = deque(maxlen=MAX_REPORTS)
        self.wants: deque[Want] = deque((Subscribe(f"{inbox}.>", awaits=self._awaits, asks=self._asks),))
        self.done = False
        self.error: NATSError | None = None

    @property
    def what(self) -> str:
        """For the texts of errors."""
        return "fast ingest"

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        if self.wants or self.done or self._ending:
            return 0
        if not self._opened:
            return 0 if self.sent else 1
        return max(0, self._allowed - self.sent)

    def begin(self, subject: str, *, now: float, last: bool = False) -> str:
        """The reply subject with which the caller publishes a message now. ``last``: it ends the batch.

        `LocalProtocolError` when there is no room.
        """
        if not self.room:
            raise LocalProtocolError("the fast ingest has no room, or has ended")
        waited = self._waits
        self.sent += 1
        self._subject = subject
        self._numbers[subject] = self.sent
        self._published += 1
        self._ending = self._committed = last
        if not waited:
            self._since, self._asked = now, 0
        return self._reply(self.sent, _COMMIT if last else _START if self.sent == 1 else _APPEND)

    def failed(self) -> None:
        """What was begun last could not be published: its number is free again."""
        self.sent -= 1
        self._published -= 1
        self._ending = self._committed = False

    def finish(self, *, now: float) -> None:
        """End the batch without another message. `LocalProtocolError` when nothing was published."""
        if not self.sent:
            raise LocalProtocolError("a fast ingest without a message cannot be ended")
        if not self._ending and not self.done:
            self._ending = self._committed = True
            self._since, self._asked = now, 0
            self._end_number = self.sent + 1
            self._ask(self._end_number, _END)

    def abandon(self, why: str) -> None:
        """Nobody will wait for the server any more. After its end it does nothing."""
        if not self.done:
            error = ConnectionClosedError(
                f"fast ingest to {self._subject!r}: given up ({why}); {self.acknowledged} of {self.sent} messages were "
                f"acknowledged"
            )
            error.outcome = "unknown"
            self._end(error)

    # --- the machine -------------------------------------------------------------------------------------------------

    def receive(self, message: Message, *, now: float) -> None:
        """An answer of the server, or of somebody else who has the subject."""
        if self.done:
            return
        if not message.data and message.header_block is not None:
            status = message.status
            # Later on it is a message that was lost, of which the next leader tells. Of a question it says nothing: the
            # first message may have been taken, and its answer lost.
            asked = message.subject.endswith(f".{_PING}.$FI")
            if status is not None and status.code == NO_RESPONDERS and not (self._opened or asked):
                text = "no stream takes it: none has this subject, or the one that has it has no leader"
                self._end(NoStreamResponseError(f"fast ingest to {self._subject!r}: {text}", self._subject))
            return
        try:
            answer = _decode(message.data)
        except (RecursionError, ValueError, msgspec.DecodeError):
            return
        match answer.type:
            case "ack":
                self._since, self._asked, self._opened = now, 0, True
                # Bounded by what was sent and asked for, whatever the server says.
                self.acknowledged = max(self.acknowledged, min(answer.seq, self.sent))
                self._flow = max(1, min(answer.msgs, self._max_flow))
                self._forget_numbers()
                self.items.append(IngestProgress(self.acknowledged))
            case "gap":
                self._since, self._asked = now, 0
                self._lost(answer)
            case "err":
                self._since, self._asked = now, 0
                self.refused += 1
                self._looked_at = max(self._looked_at, min(answer.seq, self.sent))
                self._report(IngestRefusal(answer.seq, api_error(self._what_of(answer.seq), answer.error)))
            case "":
                self._last_answer(message)
            case _:
                pass  # of a server that is newer than this, or of somebody else

    def connection_replaced(self, *, now: float) -> None:
        """Acknowledgements may be lost with the old one: ask."""
        self._replaced = self._replaced or self.sent > 0
        if self._waits:
            self._since, self._asked = now, 0
            self._ping()

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """The server has refused so many messages, or questions. Nothing can begin, or end, without them.

        In between a message is lost: with ``on_gap="ok"`` the stream tells of that.
        """
        subject, error = refused.subject, refused.error
        if self.done or self._asks(subject) is None:
            return
        self._not_permitted = error
        self._refusals += refused.count
        if not (self._opened or self._replaced):
            # The first message may have been taken, and its answer is on the way, unless all were refused.
            if self._refusals >= self._published:
                self._end_not_permitted(error, "failed")
        elif self._fails or not self._opened or (self._ending and subject == self._subject):
            self._end_not_permitted(error, "unknown")

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """It makes no calls."""

    def next_timeout(self) -> float | None:
        """When a silent server is asked, or given up."""
        return self._since + self._timeout / PINGS if self._waits else None

    def handle_timeout(self, *, now: float) -> None:
        """Ask a silent server once more, or give it up."""
        due = self.next_timeout()
        if due is None or now < due:
            return
        # Counted from now: who looks late gives the server its time all the same.
        self._since = now
        self._asked += 1
        if self._asked < PINGS:
            self._ping()
            return
        error = NATSTimeoutError(
            f"fast ingest to {self._subject!r}: no answer for {self._timeout:g} s; {self.acknowledged} of "
            f"{self.sent} messages were acknowledged"
        )
        error.__cause__ = self._not_permitted
        self._end(error)

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def _waits(self) -> bool:
        """The server is to say something before anything can go on."""
        if self.done or not self.sent:
            return False
        return self._ending or not self._opened or self._allowed <= self.sent

    @property
    def _allowed(self) -> int:
        """The number of the last message that may be sent by now."""
        return max(self.acknowledged, self._looked_at) + self._flow * self._max_outstanding

    def _reply(self, number: int, operation: int) -> str:
        return f"{self._prefix}{number}.{operation}.$FI"

    def _ping(self) -> None:
        # A ping does not end the batch, so where the sign for that may be lost it is given again. A server that has had
        # it twice says that it knows no such batch, after the answer to the first.
        number, operation = (self.sent, _PING) if self._end_number is None else (self._end_number, _END)
        self._ask(number, operation)

    def _ask(self, number: int, operation: int) -> None:
        self._published += 1
        self.wants.append(Publish(self._subject, b"", self._reply(number, operation)))

    def _forget_numbers(self) -> None:
        # As many as may be in flight are kept, and as many again, so that it is seldom looked through.
        if len(self._numbers) > 2 * self._flow * self._max_outstanding:
            self._numbers = {one: number for one, number in self._numbers.items() if number > self.acknowledged}

    def _asks(self, subject: str) -> int | None:
        """The number of the last message, if something that was published to this subject waits for an answer."""
        if self._numbers.get(subject, 0) > self.acknowledged or (subject == self._subject and self._waits):
            return self.sent
        return None

    def _awaits(self, _reply: str, _now: float) -> bool:
        """Whether somebody waits for what comes of its messages."""
        return not self.done

    def _end_not_permitted(self, error: PermissionsError, outcome: Outcome) -> None:
        made = not_permitted(f"fast ingest to {error.subject!r}", error)
        made.outcome = outcome
        made.add_note(f"{self.acknowledged} of {self.sent} messages were acknowledged.")
        self._end(made)

    def _what_of(self, number: int) -> str:
        return f"fast ingest to {self._subject!r}: message {number}"

    def _lost(self, answer: _Answer) -> None:
        # A ping has a server tell of a loss once more. And whatever a server says, no more is lost than was sent.
        first = max(answer.last_seq, self._told_until, 1)
        until = min(answer.seq, self.sent + 1)
        if first < until:
            self._told_until = until
            self.lost += until - first
            self._report(IngestGap(first, until))

    def _report(self, report: IngestGap | IngestRefusal) -> None:
        if not self._fails:
            self.items.append(report)
            return
        # The batch ends: one more answer says where.
        self._ending = True
        match report:
            case IngestGap():
                self._gap = self._gap or report
            case IngestRefusal():
                self._refusal = self._refusal or report

    def _last_answer(self, message: Message) -> None:
        answer = decode_pub_ack(f"fast ingest to {self._subject!r}", message)
        if answer is None:
            return
        if isinstance(answer, JetStreamError):
            if self._opened:
                answer.outcome = "unknown"  # of the whole: a part is stored, or may be
                answer.add_note(
                    f"{self.acknowledged} of {self.sent} messages were acknowledged. A server forgets a fast ingest "
                    f"from which nothing came for 10 s."
                )
            self._end(answer)
            return
        if answer.batch != self._id:
            # What a server that knows no fast ingest says to each message.
            self._end(
                JetStreamDecodeError(
                    f"fast ingest to {self._subject!r}: stream {answer.stream!r} has stored a message by itself: "
                    f"servers older than 2.14, and streams without allow_batched, do not know fast ingest"
                )
            )
            return
        self.pub_ack = answer
        count = answer.count or 0
        self.acknowledged = max(self.acknowledged, min(count, self.sent))
        # What the server counts are the numbers up to the last one, and with "ok" some of these are not stored.
        stored = count if self._fails else max(0, count - self.lost - self.refused)
        if self._refusal is not None:
            error: JetStreamError = self._refusal.error
            if stored:
                error.outcome = "unknown"  # of the whole
            error.add_note(f"It has ended the fast ingest, of which {stored} messages are stored.")
            self._end(error)
        elif self._fails and stored < self.sent:
            first = stored + 1 if self._gap is None else self._gap.first
            text = f"fast ingest to {self._subject!r}: {stored} of {self.sent} messages are stored, the next was lost"
            self._end(FastIngestGapError(text, stored=stored, first=first))
        elif not self._committed:
            # After a time without messages, for instance, or at another leader.
            text = f"fast ingest to {self._subject!r}: the server has ended it; {stored} messages are stored"
            self._end(FastIngestGapError(text, stored=stored, first=stored + 1))
        else:
            self._end(None)

    def _end(self, error: NATSError | None) -> None:
        self.error = error
        self.done = True
        self.wants.clear()
