"""`ObjectWriter`: the chunks of one object, stored in their order, however servers behave meanwhile.

Theory of operation
-------------------
The bytes of an object are the messages of one subject, in the order in which the stream has stored them. Many chunks
are in flight at once, and the stream may refuse one and take those behind it, as it does when it gets a leader again.
Then they stand in the wrong order, and nobody could tell. So each chunk's place is looked at, which is the sequence in
its acknowledgement:

    WRITING ──refused for now, no answer, another connection, a wrong place──▶ MENDING
       ▲ ╰─▶ the next chunks, as many as the window has room for                  │
       ╰──────────────── every chunk that was ever sent stands in its place ──────╯
    both ──abandoned, refused for good, no progress──▶ ENDING ──what is in flight has its answer──▶ done

In MENDING nothing new is sent. When all that is in flight has its answer, or its time is up, the chunks are gone
through one by one, in order. One that was refused is sent again. One without an answer is sent again with the same
message id, so that the stream stores it once and tells where. One that stands before the chunk in front of it is
deleted from the stream, and sent again as another message.

The window
----------
It begins with a few chunks and doubles with each window that was stored, up to 8 MiB of them, until there is trouble.
Each trouble halves it, and from then on it grows by one chunk for each window. So what a put has in memory is bounded
by the window, and a stream that is slow is not flooded.

Progress
--------
A put has failed when no chunk was stored for ``timeout`` seconds while it was waited for; how long the whole takes does
not matter. ``resume`` tells that somebody waits again: a source that is slow is not the server's fault.

The end
-------
A writer that ends early waits for what is in flight, for the time of one try at most, since a chunk that is stored
after its object was cleared away would stay for ever. `unsettled` tells how many may still come. Those that wait for a
connection then do not: the session sends none of them when its subscription is left.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from .._calls.machine import Ask, Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.decoders import succeeded
from .._jetstream.errors import MessageNotFoundError
from .._jetstream.pub_ack import PubAck, decode_pub_ack
from .._limits import check_count, check_seconds
from .._publishing.retries import pause_before_retry
from .._publishing.unsent import take_back, unsent_replies
from .._session.inbox import NO_RESPONDERS, no_responders
from .._session.marks import PublishRefused
from .._session.not_permitted import not_permitted
from .._wire.headers import Headers
from ..errors import ConnectionLostError, NATSError, NATSTimeoutError
from .pieces import Chunker

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .._wire.frames import Message, Payload

__all__ = ["CHUNK_SIZE", "TIMEOUT", "ObjectWriter"]

CHUNK_SIZE: Final = 128 * 1024
"""Bytes of a chunk, unless the user says otherwise (ADR-20)."""
TIMEOUT: Final = 30.0
"""Seconds without progress. A stream that has lost its leader has another one after 5 s."""
FIRST_WINDOW: Final = 4
WINDOW_BYTES: Final = 8 * 1024 * 1024
"""Bytes in flight, at most: enough for 80 MB/s at a distance of 100 ms, and little for the memory."""
MAX_WINDOW: Final = 256
"""Chunks in flight, when they are small."""
MAX_FOREIGN: Final = 1000
"""Answers that the queue takes beyond one for each chunk: anybody may answer."""
TRY: Final = 5.0
"""Seconds for one try of a chunk."""
DELETE_TIMEOUT: Final = 5.0
_NEVER: Final = float("inf")


class _State(Enum):
    WRITING = auto()
    MENDING = auto()
    ENDING = auto()


class _Is(Enum):
    WAITING = auto()
    SENT = auto()
    STORED = auto()


class _Chunk:
    __slots__ = ("data", "deadline", "first", "number", "reply", "sequence", "state", "tries", "unknown", "version")

    def __init__(self, number: int, data: bytes) -> None:
        self.number = number
        self.data = data
        self.state = _Is.WAITING
        self.version = 0
        """How often it was deleted from a wrong place: it is another message then."""
        self.reply = ""
        self.tries = 0
        self.first = 0.0
        self.deadline = _NEVER
        self.sequence = 0
        self.unknown = False
        """An earlier try had no answer: it may be stored."""


class ObjectWriter:
    """A `Machine`. Its items tell how many bytes are stored; one item stands for all that were not taken yet.

    ``subject``, ``stream``: where the chunks go. ``what`` names the put in errors. ``timeout``: seconds without
    progress. Raises `TypeError` and `ValueError` for numbers that cannot be used.
    """

    def __init__(
        self,
        api: JetStreamApi,
        *,
        stream: str,
        subject: str,
        what: str,
        chunk_size: int,
        duplicate_window: float,
        timeout: float = TIMEOUT,
    ) -> None:
        self._api = api
        self._stream = stream
        self._subject = subject
        self.what = what
        self._chunker = Chunker(check_count("chunk_size", chunk_size))
        self._timeout = check_seconds("timeout", timeout)
        self._try = min(TRY, self._timeout)
        self._duplicate_window = duplicate_window
        self._inbox = api.new_inbox()
        self._identity = self._inbox.rpartition(".")[2]
        self._state = _State.WRITING
        self._chunks: deque[_Chunk] = deque()
        """Those that do not stand in their places yet, in order."""
        self._sent = 0
        """How many of these were ever sent: they stand in front."""
        self._by_reply: dict[str, _Chunk] = {}
        self._flying = 0
        """How many wait for an answer."""
        self._due = _NEVER
        """While something is in flight: no try is over before. The first one may be over later: to look for it at each
        wait would take longer the more chunks are in flight."""
        self._refusals = 0
        """How many chunks this user was not permitted to store, on this connection; not which ones: nobody says."""
        self._largest = max(1, min(MAX_WINDOW, WINDOW_BYTES // chunk_size))
        self._window = min(FIRST_WINDOW, self._largest)
        self._growth = 0
        self._troubled = False
        self._last = 0
        """The sequence of the last chunk that stands in its place."""
        self._progress_at = _NEVER
        self._resume_at = 0.0
        self._deleting: ApiCall[object] | None = None
        self._finished = False
        self.error: NATSError | None = None
        """Why it has failed, or fails when nothing is in flight any more."""
        self.chunks = 0
        """How many there are."""
        self.stored = 0
        """Bytes that stand in their places."""
        self.some_stored = False
        """The stream has chunks, in whatever place."""
        self.unsettled = 0
        """Chunks that may still be stored, after an early end."""
        self.mended = 0
        """How often there was trouble that it has survived."""
        self.items: deque[int] = deque()
        limit = self._largest + MAX_FOREIGN
        subscribe = Subscribe(f"{self._inbox}.*", max_pending_msgs=limit, asks=subject, awaits=_until_it_is_left)
        self.wants: deque[Want] = deque((subscribe,))

    # --- for the client ----------------------------------------------------------------------------------------------

    @property
    def room(self) -> bool:
        """Another piece is to be written. Without room the driver has to run first."""
        return len(self._chunks) < self._window and self._state is not _State.ENDING

    @property
    def total(self) -> int:
        """Bytes that were written."""
        return self._chunker.total

    @property
    def digest(self) -> str:
        """Of all bytes that were written."""
        return self._chunker.digest.text

    @property
    def window(self) -> int:
        """How many chunks may be in flight."""
        return self._window

    def write(self, piece: Payload, *, now: float) -> None:
        """The next bytes. They are cut into chunks, however many those are: pieces should not be larger than some."""
        for chunk in self._chunker.add(piece):
            self._append(chunk)
        self._go_on(now)

    def finish(self, *, now: float) -> None:
        """There are no more bytes: it is done when all are stored."""
        rest = self._chunker.end()
        if rest:
            self._append(rest)
        self._finished = True
        self._go_on(now)

    def resume(self, *, now: float) -> None:
        """Somebody waits again: what has happened before is no lack of progress."""
        if self._chunks:
            self._progress_at = now + self._timeout

    def abandon(self, *, now: float) -> None:
        """Store no more: it is done when nothing is in flight, without an error."""
        self._end(None, now)

    # --- the machine -------------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """All is stored; or it has ended early, and nothing is in flight."""
        if self._state is _State.ENDING:
            return not self._flying
        return self._finished and not self._chunks

    def receive(self, message: Message, *, now: float) -> None:
        """An answer to a chunk."""
        chunk = self._by_reply.get(message.subject)
        if chunk is None:
            return
        answer: PubAck | NATSError | None = decode_pub_ack(f"{self.what}, chunk {chunk.number}", message)
        if answer is None:
            status = None if message.data or message.header_block is None else message.status
            if status is None or status.code != NO_RESPONDERS:
                return  # of somebody who listens to the subject and is no stream
            answer = no_responders(self._subject)
        del self._by_reply[message.subject]
        waited_for = chunk.state is _Is.SENT
        if waited_for:
            self._flying -= 1
        elif self._state is _State.ENDING and chunk.unknown:
            self.unsettled -= 1
        if isinstance(answer, PubAck):
            chunk.state, chunk.sequence = _Is.STORED, answer.sequence
            self.some_stored = True
            take_back(self.wants, chunk.reply)  # of a try that is not needed any more
            self._settle(now)
        elif waited_for:
            self._refused(chunk, answer, now)
        self._settle_refused()
        self._go_on(now)

    def connection_replaced(self, *, now: float) -> None:
        """Answers may be lost: what waits for one is sent again."""
        self._refusals = 0
        unsent = unsent_replies(self.wants)
        for chunk in self._chunks:
            if chunk.state is _Is.SENT and chunk.reply not in unsent:
                self._unanswered(chunk, now)
        self._go_on(now)

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """This user may not store chunks, or not any more. Those that were taken before have an answer yet."""
        self._refusals += refused.count
        self._end(not_permitted(self.what, refused.error), now)
        self._settle_refused()

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """What became of a chunk in a wrong place."""
        if api is not self._deleting:
            return
        self._deleting = None
        if isinstance(answer, NATSError) and not isinstance(answer, MessageNotFoundError):
            pause = pause_before_retry(answer, 1, has_id=True)
            if pause is None:
                self._end(answer, now)
            else:
                self._resume_at = now + pause
        elif self._chunks:
            chunk = self._chunks[0]
            chunk.state = _Is.WAITING
            chunk.version += 1
            chunk.first = 0.0
            chunk.unknown = False
        self._go_on(now)

    def next_timeout(self) -> float | None:
        """When a try is over, a pause is, or there was no progress for too long."""
        if self.done:
            return None
        due = self._due if self._flying else _NEVER
        if self._state is not _State.ENDING and self._chunks:
            due = min(due, self._progress_at)
            if self._state is _State.MENDING and not self._flying and self._deleting is None:
                due = min(due, self._resume_at)
        return None if due == _NEVER else due

    def handle_timeout(self, *, now: float) -> None:
        """Give up tries whose time is over; send again."""
        if self.done:
            return
        if self._state is not _State.ENDING and self._chunks and now >= self._progress_at:
            self._end(self._no_progress(), now)
        if now >= self._due:
            self._give_up_tries(now)
        self._go_on(now)

    # --- chunks ------------------------------------------------------------------------------------------------------

    def _append(self, data: bytes) -> None:
        self.chunks += 1
        self._chunks.append(_Chunk(self.chunks, data))

    def _go_on(self, now: float) -> None:
        """Send what can be sent."""
        if self._state is _State.MENDING:
            self._mend(now)
        while self._state is _State.WRITING and self._sent < min(self._window, len(self._chunks)):
            self._send(self._chunks[self._sent], now)
            self._sent += 1

    def _send(self, chunk: _Chunk, now: float) -> None:
        if not self._flying and self._progress_at == _NEVER:
            self._progress_at = now + self._timeout
        if not chunk.first:
            chunk.first = now
        chunk.tries += 1
        if chunk.reply not in self._by_reply:
            chunk.reply = f"{self._inbox}.{chunk.number}-{chunk.version}-{chunk.tries}"
            self._by_reply[chunk.reply] = chunk
        chunk.state, chunk.deadline = _Is.SENT, now + self._try
        self._due = min(self._due, chunk.deadline) if self._flying else chunk.deadline
        self._flying += 1
        headers = Headers({"Nats-Msg-Id": f"{self._identity}-{chunk.number}-{chunk.version}"})
        self.wants.append(Publish(self._subject, chunk.data, chunk.reply, headers))

    def _settle(self, now: float) -> None:
        """Let go of the chunks that stand in their places."""
        chunks = self._chunks
        grown = False
        while chunks and chunks[0].state is _Is.STORED and self._state is not _State.ENDING:
            chunk = chunks[0]
            if chunk.sequence <= self._last:
                self._trouble()
                break
            chunks.popleft()
            self._sent -= 1
            self._last = chunk.sequence
            self.stored += len(chunk.data)
            grown = True
            self._grow()
        if grown:
            self._progress_at = now + self._timeout if chunks else _NEVER
            self.items.clear()
            self.items.append(self.stored)

    def _grow(self) -> None:
        self._growth += 1
        if self._state is _State.WRITING and self._growth >= self._window:
            self._growth = 0
            self._window = min(self._largest, self._window + (1 if self._troubled else self._window))

    def _refused(self, chunk: _Chunk, error: NATSError, now: float) -> None:
        chunk.state = _Is.WAITING
        pause = pause_before_retry(error, chunk.tries, has_id=True)
        if self._state is _State.ENDING:
            self.unsettled += chunk.unknown
            return
        if pause is None:
            self._end(error, now)
            return
        self._resume_at = max(self._resume_at, now + pause)
        self._trouble()

    def _give_up_tries(self, now: float) -> None:
        """Those whose time is over."""
        unsent = unsent_replies(self.wants)
        for chunk in self._chunks:
            if chunk.state is _Is.SENT and now >= chunk.deadline:
                if chunk.reply in unsent and self._state is not _State.ENDING:
                    chunk.deadline = now + self._try  # the client has no room for it: it was not sent yet
                else:
                    self._unanswered(chunk, now)
        self._due = min((chunk.deadline for chunk in self._chunks if chunk.state is _Is.SENT), default=_NEVER)

    def _unanswered(self, chunk: _Chunk, now: float) -> None:
        """The try of a chunk is over, and whether it is stored is not known."""
        chunk.state = _Is.WAITING
        self._flying -= 1
        if self._state is _State.ENDING:
            chunk.unknown = not take_back(self.wants, chunk.reply) or chunk.unknown
            self.unsettled += chunk.unknown
            return
        chunk.unknown = True
        if self._is_forgotten(chunk, now):
            self._end(self._too_old(chunk), now)
        else:
            self._trouble()

    def _is_forgotten(self, chunk: _Chunk, now: float) -> bool:
        """It may be stored, and the stream would not know it again."""
        return chunk.unknown and now >= chunk.first + self._duplicate_window

    # --- trouble -----------------------------------------------------------------------------------------------------

    def _trouble(self) -> None:
        if self._state is _State.WRITING:
            self._state = _State.MENDING
            self._window = max(1, self._window // 2)
            self._troubled, self._growth = True, 0
            self.mended += 1

    def _mend(self, now: float) -> None:
        """Put the first chunk that is not in its place there; all that is in flight has to have its answer."""
        if self._flying or self._deleting is not None:
            return
        self._settle(now)
        if not self._sent:
            self._state = _State.WRITING
            return
        if now < self._resume_at:
            return
        chunk = self._chunks[0]
        if chunk.state is _Is.STORED:
            self._delete(chunk)
        elif self._is_forgotten(chunk, now):  # the process was stopped, or others took the time
            self._end(self._too_old(chunk), now)
        else:
            self._send(chunk, now)

    def _delete(self, chunk: _Chunk) -> None:
        """It stands before the one in front of it."""
        what = f"{self.what}: remove chunk {chunk.number} from a wrong place"
        call = self._api.request(
            what, f"STREAM.MSG.DELETE.{self._stream}", succeeded(what), {"seq": chunk.sequence, "no_erase": True}
        )
        self._deleting = ApiCall(call.what, call.subject, call.payload, call.decode, call.headers)
        self.wants.append(Ask(self._deleting, DELETE_TIMEOUT))

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self, error: NATSError | None, now: float) -> None:
        if self._state is _State.ENDING:
            return
        self._state = _State.ENDING
        self._deleting = None
        if error is not None:
            error.outcome = "failed"  # without its info there is no object, whatever has become of the chunk
            self.error = error
        for chunk in self._chunks:
            if chunk.state is _Is.SENT and take_back(self.wants, chunk.reply):
                chunk.state = _Is.WAITING
                self._flying -= 1
            if chunk.state is _Is.WAITING:
                self.unsettled += chunk.unknown
            chunk.deadline = min(chunk.deadline, now + self._try)
        self._due = min(self._due, now + self._try)

    def _settle_refused(self) -> None:
        """Nothing is waited for any more when all chunks in flight were refused."""
        if not 0 < self._flying <= self._refusals:
            return
        for chunk in self._chunks:
            if chunk.state is _Is.SENT:
                chunk.state = _Is.WAITING
                self._flying -= 1
                self.unsettled += chunk.unknown

    def _no_progress(self) -> NATSError:
        return NATSTimeoutError(
            f"{self.what}: no chunk was stored for {self._timeout:g} s; {self.stored} bytes were, which are removed",
            outcome="failed",
        )

    def _too_old(self, chunk: _Chunk) -> NATSError:
        return ConnectionLostError(
            f"{self.what}: chunk {chunk.number} was not answered within {self._duplicate_window:g} s, for which the "
            f"stream knows it again: to send it once more might store it twice"
        )


def _until_it_is_left(_reply: str, _now: float) -> bool:
    """Whether a chunk is still to be sent: as long as its writer has not ended."""
    return True
