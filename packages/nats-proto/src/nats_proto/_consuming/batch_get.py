"""Many messages of a stream by direct get, page by page (ADR-31).

Theory of operation
-------------------
One request has many answers: the messages, each with its place in the headers, and at the end a status 204 that says
how many are left and which sequence was the last. Any replica may answer. The next page is asked for when the reader
has had all of this one, so whoever stops reading costs nothing more.

    WAITING ──the end of a page──▶ READY ──all was given, and more is wanted──▶ WAITING
       └──── nothing is left, the limit, an error, time ────┴──▶ ENDED

There are two questions. *Messages from a place on*: the next page begins behind the last message. *The last message of
each of some subjects*: all pages show the stream as it was at one moment. The server tells that moment at the end of
the first page, as a sequence, and each further page has it as ``up_to_seq``.

How many messages are left is told with each of them, and at the end of a page. Servers 2.11 have one of the two wrong.
Of the last messages the end of a page tells one too few, and a last one by itself would be lost: there each message is
believed. For the other question each message tells one too many, and the end of a page is believed.

A page is read anew when its connection was replaced: reading changes nothing. What was given is not given again, since
the question begins behind it. The time that is allowed counts from one answer to the next.

A server before 2.11 does not know these questions. It answers with one message, which does not say how many are left,
or with a refusal that names no reason: then the error names the version that it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from .._calls.machine import Subscribe, Want
from .._calls.operation import ApiCall, Publish
from .._jetstream.decoders import check_sequence
from .._jetstream.errors import (
    ApiError,
    FeatureDroppedError,
    JetStreamDecodeError,
    JetStreamError,
)
from .._jetstream.names import check_name
from .._jetstream.stored_message import StoredMessage, stored_message_direct
from .._json.durations import Time, format_time, take_time
from .._json.wire_value import encode_json
from .._limits import check_count, one_or_several
from .._session.marks import PublishRefused
from .._session.not_permitted import not_permitted
from .._wire.frames import Message
from .._wire.subjects import encode_subscription_subject
from ..errors import NATSError, NATSTimeoutError

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi

__all__ = ["BATCH", "BatchGet", "get_last_msgs", "get_msgs"]

BATCH: Final = 256
"""Messages of one page, when nobody says otherwise."""
MAX_SUBJECTS: Final = 1024
"""Subjects that a server takes in one question, and matches of them that it answers."""
END: Final = 204
NOT_FOUND: Final = 404
BAD_REQUEST: Final = 408
NO_RESPONDERS: Final = 503
_KNOWS_IT_SINCE: Final = (2, 11)


class _State(Enum):
    WAITING = auto()
    READY = auto()
    ENDED = auto()


class BatchGet:
    """A `Machine` that gives `StoredMessage`s. Made by `get_msgs` and `get_last_msgs`. Times are seconds.

    ``body``: the question; ``moment``: it is one about the last messages, see above. ``limit``: so many messages at
    most, all pages together.
    """

    __slots__ = (
        "_api",
        "_asked_at",
        "_batch",
        "_body",
        "_deadline",
        "_given",
        "_last",
        "_left",
        "_limit",
        "_moment",
        "_page",
        "_state",
        "_subject",
        "_timeout",
        "done",
        "error",
        "items",
        "wants",
        "what",
    )

    def __init__(
        self,
        api: JetStreamApi,
        stream: str,
        *,
        what: str,
        body: Mapping[str, object],
        moment: bool,
        batch: int,
        limit: int | None,
        timeout: float,
        now: float,
    ) -> None:
        self._api = api
        self._subject = f"{api.prefix}DIRECT.GET.{stream}"
        self.what = what
        self._body = dict(body)
        self._moment = moment
        self._batch = batch
        self._limit = limit
        self._timeout = timeout
        self._given = 0
        self._page = 0
        """Messages of this page so far."""
        self._last = 0
        """The sequence of the last message, of all pages."""
        self._left = 0
        """How many are left behind it, as it says itself."""
        self._state = _State.WAITING
        self.items: deque[StoredMessage] = deque()
        self.wants: deque[Want] = deque()
        self.done = False
        self.error: NATSError | None = None
        self._deadline = now
        self._ask(now)

    def receive(self, message: Message, *, now: float) -> None:
        """A message of the stream, or the end of the page."""
        if self._state is not _State.WAITING:
            return
        if message.header_block is not None and not message.data:
            status = message.status
            if status is not None and status.code:
                self._status(message, status.code, status.description, now)
                return
        try:
            stored = stored_message_direct(self.what, message)
        except JetStreamDecodeError as error:
            self._end(error)
            return
        if stored.num_pending is None:
            self._end(self._too_old())
            return
        if stored.sequence <= self._last:
            self._end(JetStreamDecodeError(f"{self.what}: sequence {stored.sequence} came behind {self._last}"))
            return
        self._last, self._left = stored.sequence, stored.num_pending
        self._page += 1
        self._given += 1
        self._deadline = now + self._timeout
        self.items.append(stored)
        if self._given == self._limit:
            self._end(None)

    def connection_replaced(self, *, now: float) -> None:
        """The rest of the page is asked for again."""
        if self._state is _State.WAITING:
            self._ask(now)

    def publish_refused(self, refused: PublishRefused, *, now: float) -> None:
        """This user may not ask for the page, unless it is coming: then another question was refused."""
        if self._state is _State.WAITING and not self._page:
            self._end(not_permitted(self.what, refused.error))

    def answered(self, api: ApiCall[object], answer: object, *, now: float) -> None:
        """It makes no calls."""

    def next_timeout(self) -> float | None:
        """Until when the next answer is waited for; at once when the next page is to be asked for."""
        if self.done:
            return None
        return self._deadline

    def handle_timeout(self, *, now: float) -> None:
        """Ask for the next page, once the reader has had this one; give up when no answer comes."""
        if self.done:
            return
        if self._state is _State.READY:
            if not self.items:
                self._ask(now)
        elif now >= self._deadline:
            self._end(NATSTimeoutError(f"{self.what}: no answer within {self._timeout:g} s"))

    def _status(self, message: Message, code: int, description: str, now: float) -> None:
        if code == END:
            self._page_ended(message, now)
        elif code == NOT_FOUND:
            # Nothing, or nothing more: that is no error of who asks for many.
            self._end(None)
        elif code == NO_RESPONDERS:
            self._end(
                JetStreamError(
                    f"{self.what}: nobody answers: there is no such stream, or it has no allow_direct, or no replica "
                    f"of it can be reached"
                )
            )
        elif code == BAD_REQUEST and self._is_too_old():
            self._end(self._too_old())
        else:
            words = description[:200] if description.isprintable() else ascii(description[:200])
            self._end(ApiError(f"{self.what}: {words} ({code})", code=code, description=description[:200]))

    def _page_ended(self, message: Message, now: float) -> None:
        headers = message.headers
        left = None if headers is None else _number(headers.get("Nats-Num-Pending"))
        if left is None or headers is None:
            self._end(JetStreamDecodeError(f"{self.what}: the end of a page does not say how much is left"))
            return
        if self._moment and self._page:
            left = self._left  # the end of a page of servers 2.11 tells one too few
        if self._moment and "up_to_seq" not in self._body:
            moment = _number(headers.get("Nats-UpTo-Sequence"))
            if left and moment is None:
                self._end(JetStreamDecodeError(f"{self.what}: the end of a page does not say of which moment it is"))
                return
            if moment is not None:
                self._body.pop("up_to_time", None)
                self._body["up_to_seq"] = moment
        if not left or not self._page:
            # A page without messages, and still something left, would be asked for again for ever.
            self._end(None)
            return
        self._state = _State.READY
        self._deadline = now

    def _ask(self, now: float) -> None:
        self.wants.clear()
        self._page = 0
        self._state = _State.WAITING
        self._deadline = now + self._timeout
        batch = self._batch if self._limit is None else min(self._batch, self._limit - self._given)
        body = {**self._body, "batch": batch}
        if self._last:
            body.pop("start_time", None)
            body["seq"] = self._last + 1
        inbox = self._api.new_inbox()
        # Not more than what was asked for comes, so the queue needs no other limit.
        self.wants.append(Subscribe(inbox, max_pending_msgs=0, max_pending_bytes=0, asks=self._subject))
        self.wants.append(Publish(self._subject, encode_json(body), inbox))

    def _is_too_old(self) -> bool:
        numbers = self._api.server_version().split(".")[:2]
        return all(text.isdecimal() for text in numbers) and tuple(map(int, numbers)) < _KNOWS_IT_SINCE

    def _too_old(self) -> FeatureDroppedError:
        version = self._api.server_version()
        return FeatureDroppedError(
            f"{self.what}: the server (version {version or 'unknown'}) cannot get several messages at once: that needs "
            f"2.11",
            version=version,
            fields=("batch",),
        )

    def _end(self, error: NATSError | None) -> None:
        self._state = _State.ENDED
        self.done = True
        self.error = error
        self.wants.clear()


def get_msgs(
    api: JetStreamApi,
    stream: str,
    *,
    sequence: int | None,
    start_time: Time | None,
    subject: str | None,
    batch: int,
    max_bytes: int | None,
    limit: int | None,
    timeout: float | None,
) -> Callable[[float], BatchGet]:
    """Messages from a sequence, or from a time on. Gives the machine when it is told the time.

    Raises `TypeError` and `ValueError` for what makes no sense.
    """
    check_name("stream", stream)
    body: dict[str, object] = {}
    if sequence is not None and start_time is not None:
        raise ValueError("give either sequence or start_time, not both")
    if start_time is not None:
        body["start_time"] = format_time(take_time("start_time", start_time))
    else:
        body["seq"] = 1 if sequence is None else check_sequence("sequence", sequence)
    if subject is not None:
        encode_subscription_subject(subject)
        body["next_by_subj"] = subject
    else:
        body["next_by_subj"] = ">"
    if max_bytes is not None:
        body["max_bytes"] = check_count("max_bytes", max_bytes)
    return _maker(api, stream, "get messages", body, moment=False, batch=batch, limit=limit, timeout=timeout)


def get_last_msgs(
    api: JetStreamApi,
    stream: str,
    subjects: str | Sequence[str],
    *,
    up_to_seq: int | None,
    up_to_time: Time | None,
    batch: int,
    max_bytes: int | None,
    limit: int | None,
    timeout: float | None,
) -> Callable[[float], BatchGet]:
    """The last message of each subject that one of ``subjects`` matches. Gives the machine when it is told the time.

    Raises `TypeError` and `ValueError` for what makes no sense.
    """
    check_name("stream", stream)
    wanted = one_or_several("subjects", subjects)
    if not 1 <= len(wanted) <= MAX_SUBJECTS:
        raise ValueError(f"subjects must be from 1 to {MAX_SUBJECTS}: {len(wanted)}")
    for subject in wanted:
        encode_subscription_subject(subject)
    if up_to_seq is not None and up_to_time is not None:
        raise ValueError("give either up_to_seq or up_to_time, not both")
    body: dict[str, object] = {"multi_last": wanted}
    if up_to_seq is not None:
        body["up_to_seq"] = check_sequence("up_to_seq", up_to_seq)
    if up_to_time is not None:
        body["up_to_time"] = format_time(take_time("up_to_time", up_to_time))
    if max_bytes is not None:
        body["max_bytes"] = check_count("max_bytes", max_bytes)
    return _maker(api, stream, "get last messages", body, moment=True, batch=batch, limit=limit, timeout=timeout)


def _maker(
    api: JetStreamApi,
    stream: str,
    verb: str,
    body: Mapping[str, object],
    *,
    moment: bool,
    batch: int,
    limit: int | None,
    timeout: float | None,
) -> Callable[[float], BatchGet]:
    size = check_count("batch", batch)
    most = None if limit is None else check_count("limit", limit)
    seconds = api.seconds(timeout)
    what = f"{verb} of stream {stream!r}"

    def make(now: float) -> BatchGet:
        return BatchGet(
            api, stream, what=what, body=body, moment=moment, batch=size, limit=most, timeout=seconds, now=now
        )

    return make


def _number(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    return int(text)
