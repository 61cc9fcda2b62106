"""One publish and its acknowledgement: tried again by what has failed, until it is certain or the time is up.

Theory of operation
-------------------
Each try is a request of its own, so a late answer to an earlier one finds nobody. What is tried again, and why, is told
in `retries`. Tries are begun for ``retry_for`` seconds after the first, and each waits ``timeout`` seconds for its
acknowledgement; so the whole takes ``retry_for + timeout`` at the longest.

Anybody may subscribe to a stream's subject and answer. What is no acknowledgement is therefore not taken for the
answer: the wait goes on, and the error of a publish that has failed shows how such an answer began.

Nearly always the first try is the last one, and to run an operation for it costs more than all else that there is to
do. So a client may make the first try of a publish without headers by itself: `FirstTry`.

A publish with a condition (an expected last sequence, an expected last id) may find its own earlier try: its
acknowledgement was lost, and so the stream is not as it was any more. Replicated streams look at the message's id
first and say "duplicate", those with one replica look at the condition first and refuse. So after a try without an
answer a conflict is not believed at once: if the last message of the subject has this message's id, that was it.
"""

from __future__ import annotations

from collections.abc import Callable

from .._calls.operation import Operation, Pause, Request
from .._jetstream.errors import JetStreamError
from .._jetstream.pub_ack import PubAck, decode_pub_ack, read_plain
from .._limits import check_seconds, check_timeout
from .._wire.frames import Message, Payload
from .._wire.headers import Headers
from ..errors import NATSError
from .headers import message_id
from .retries import (
    DUPLICATE_WINDOW,
    RETRY_FOR,
    conflicts,
    final_error,
    may_be_stored,
    note_of_forgotten,
    pause_before_retry,
)

__all__ = ["FindStored", "FirstTry", "publish_operation", "steady"]

FindStored = Callable[[str, str], Operation[PubAck | None]]
"""(subject, message id): an acknowledgement made of the last message of the subject if that has this id, else None."""

SHOWN_OF_FOREIGN = 64
"""Bytes of a foreign answer that an error shows."""


def publish_operation(
    subject: str,
    data: Payload = b"",
    headers: Headers | None = None,
    *,
    now: Callable[[], float],
    timeout: float = 5.0,
    retry_for: float = RETRY_FOR,
    duplicate_window: float = DUPLICATE_WINDOW,
    find_stored: FindStored | None = None,
) -> Operation[PubAck]:
    """Publish to a stream: the acknowledgement.

    ``timeout`` (seconds) is for each try, ``retry_for`` says for how long tries are begun (0: only one),
    ``duplicate_window`` how long the stream remembers message ids. ``headers`` must not be changed meanwhile.

    Raises `NoStreamResponseError` when no stream took it, `NATSTimeoutError`, what the stream has refused it with (an
    `ApiError`), and what ``Client.request`` raises. ``outcome`` of each says whether it may be stored. `ValueError` and
    `TypeError` for times that are none.
    """
    check_seconds("timeout", timeout)
    check_timeout("retry_for", retry_for)
    check_seconds("duplicate_window", duplicate_window)
    return _publish(_Answers(subject), steady(data), headers, now, timeout, retry_for, duplicate_window, find_stored)


def steady(data: Payload) -> Payload:
    """The payload as it is now: later tries send the same, whatever its owner does with the buffer."""
    return bytes(data) if isinstance(data, (bytearray, memoryview)) else data


def _publish(
    answers: _Answers,
    data: Payload,
    headers: Headers | None,
    now: Callable[[], float],
    timeout: float,
    retry_for: float,
    duplicate_window: float,
    find_stored: FindStored | None,
    tried: tuple[float, NATSError | None] | None = None,
) -> Operation[PubAck]:
    """``tried``: when the first try began, and how it failed, if it was made already."""
    subject = answers.subject
    began = now() if tried is None else tried[0]
    tries, unknown = 0, False
    error: NATSError | None = None
    identity = message_id(headers)
    while True:
        wait = timeout
        if unknown:
            # What may be stored is not tried beyond the time for which the stream would know it again: nor may a try be
            # waiting for a connection until then.
            wait = min(timeout, duplicate_window - (now() - began))
            if identity is None or wait <= 0:
                break
        if tried is not None:
            error, tried = tried[1], None
        else:
            try:
                yield Request(subject, data, headers, timeout=wait, accept=answers)
            except NATSError as failure:
                error = failure
        # The acknowledgement may have come in the moment in which the wait for it was given up.
        if answers.ack is not None:
            return answers.ack
        error = answers.take_error() or error
        assert error is not None  # an answer that counts is one of the two
        tries += 1
        if unknown and identity is not None and find_stored is not None and conflicts(error):
            stored = yield from _found(find_stored(subject, identity))
            if stored is not None:
                return stored
        spent = now() - began
        pause = pause_before_retry(error, tries, has_id=identity is not None and spent < duplicate_window)
        unknown = unknown or may_be_stored(error)
        if pause is None or spent >= retry_for:
            break
        if pause:
            # The last try is at the very end, so that a leader who comes just then is met.
            yield Pause(min(pause, retry_for - spent))
    assert error is not None  # the loop ends behind a try
    spent = now() - began
    made = final_error(error, subject, tries=tries, seconds=spent, unknown=unknown, foreign=answers.foreign)
    note_of_forgotten(made, has_id=identity is not None, seconds=spent, window=duplicate_window, retry_for=retry_for)
    raise made from error.__cause__


def _found(search: Operation[PubAck | None]) -> Operation[PubAck | None]:
    try:
        return (yield from search)
    except NATSError:
        return None  # then it is not known, and the conflict is reported as it is


class _Answers:
    """Tells acknowledgements from what others answer. Called with each answer, with the same one twice maybe."""

    __slots__ = ("_counts", "_seen", "ack", "error", "foreign", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.ack: PubAck | None = None
        self.error: JetStreamError | None = None
        self.foreign: bytes | None = None
        self._seen: Message | None = None
        self._counts = False

    def __call__(self, message: Message) -> bool:
        if message is not self._seen:
            self._seen = message
            self._counts = self._read(message)
        return self._counts

    def _read(self, message: Message) -> bool:
        plain = read_plain(message.data)
        if plain is not None:  # nearly always
            self.ack = plain
            return True
        answer = decode_pub_ack(f"publish to {self.subject!r}", message)
        if answer is None:
            self.foreign = message.data[:SHOWN_OF_FOREIGN]
            return False
        if isinstance(answer, PubAck):
            self.ack = answer
        else:
            self.error = answer
        return True

    def take_error(self) -> JetStreamError | None:
        """The stream's refusal of this try, if there was one."""
        error, self.error = self.error, None
        return error


class FirstTry(_Answers):
    """The first try of a publish without headers, for a client to make: a request of ``subject`` and ``data``.

    It waits ``seconds`` for an answer for which this returns True. Afterwards either there is an ``ack``, or `go_on`
    has to be run. ``began`` is the time; ``data`` must not change. Raises `ValueError` and `TypeError` for a time that
    is none.
    """

    __slots__ = ("_began", "data", "seconds")

    def __init__(self, subject: str, data: bytes, *, seconds: float, began: float) -> None:
        super().__init__(subject)
        self.data = data
        self.seconds = check_seconds("timeout", seconds)
        self._began = began

    def go_on(self, error: NATSError | None, *, now: Callable[[], float]) -> Operation[PubAck]:
        """After the request has failed with this error, or was answered by no ``ack``: see `publish_operation`."""
        return _publish(
            self, self.data, None, now, self.seconds, RETRY_FOR, DUPLICATE_WINDOW, None, (self._began, error)
        )
