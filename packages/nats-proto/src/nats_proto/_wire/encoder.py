"""Operations as bytes, for both roles. Everything is checked before the first byte exists.

So no argument can add a second protocol line: subjects and queue groups are checked as the bytes they become, numbers
must be real ``int``, payloads real buffers whose length is what was measured. What the caller may change later
(``bytearray``, ``memoryview``) is copied at the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from .._value import Value
from ..errors import (
    ConfigurationError,
    HeadersNotSupportedError,
    LocalProtocolError,
    MaxControlLineError,
    MaxPayloadError,
)
from .control_line import quote
from .frames import Payload
from .headers import HeadersLike, encode_header_block
from .subjects import encode_literal, encode_queue, encode_reply, encode_subject, encode_subscription_subject

__all__ = ["CRLF", "OK", "PING", "PONG", "Encoded", "Encoder", "Refusal", "reply_of"]

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
OK: Final = b"+OK\r\n"

CRLF: Final = b"\r\n"

LARGE_PAYLOAD: Final = 64 * 1024
"""Bytes from which a payload stays a piece of its own: copying it would cost more than one more write."""

APART_ROOM: Final = 4
"""Times the limit of what is copied, for all that waits together with large payloads. These take no memory of ours, and
what each chunk costs beside its bytes, a write above all, is shared by few messages."""

CACHED_SUBJECTS: Final = 1024
"""Checked subjects that are remembered. More than a service publishes to all the time, and little memory."""


Encoded = bytes | tuple[bytes, bytes, bytes]
"""One operation of the protocol, whole. Of one with a large payload that is a piece of its own, so it is not copied."""


class Refusal(Value, frozen=True):
    """Why a server would not take a publish, and the reply subject that the publish has."""

    error: MaxPayloadError | HeadersNotSupportedError
    reply: str | None


class Encoder:
    """Makes the bytes of operations. One for each session: it remembers the subjects it has checked.

    ``max_control_line`` is the longest line the peer reads, CRLF included (bytes; servers read 4096 unless configured).
    """

    __slots__ = ("_headers_supported", "_max_control_line", "_max_payload", "certain", "heads")

    def __init__(self, *, max_control_line: int = 4096) -> None:
        self._max_control_line = _integer("max_control_line", max_control_line)
        self._max_payload: int | None = None
        # Before the first INFO nobody knows what the server supports. A publish is taken then, and `refusal` looks at
        # it again when INFO has come.
        self._headers_supported = True
        self.certain = (max_control_line, LARGE_PAYLOAD - 1, LARGE_PAYLOAD)
        """For `Tail.restrict`: the longest line and the largest payload (bytes) that are certainly right, and the size
        from which on a payload stays a piece of its own."""
        self.heads: dict[str, bytes] = {}
        """For the tail: the beginnings of PUB for subjects that were checked."""

    def server_allows(self, *, max_payload: int, headers: bool) -> bool:
        """Take what the connected server's INFO allows. True when that is less than before, or said for the first time.

        Until the first call neither the size of a message nor its headers are checked.
        """
        before, self._max_payload = self._max_payload, _integer("max_payload", max_payload)
        less = before is None or max_payload < before or headers < self._headers_supported
        self._headers_supported = headers
        self.certain = (self._max_control_line, max_payload, LARGE_PAYLOAD)
        return less

    # --- the client's role -------------------------------------------------------------------------------------------

    def publish(
        self,
        subject: str,
        data: Payload,
        reply: str | None = None,
        headers: HeadersLike | None = None,
    ) -> Encoded:
        """``PUB``, or ``HPUB`` when there are header lines. From 64 KiB of payload on: (head, payload, CRLF).

        Raises `InvalidSubjectError`, `InvalidHeaderError`, `MaxControlLineError`, `MaxPayloadError` (headers and
        payload together), `HeadersNotSupportedError`; `TypeError` for a payload that is no bytes (text has to be
        encoded by its owner, who knows how).
        """
        head = self._head(subject)
        if reply is not None:
            head = b"%b%b " % (head, encode_reply(reply))
        if type(data) is not bytes:
            data = _copy(data)
        size = len(data)
        # Headers without any line go out as PUB, which a server without support for headers takes as well.
        if headers is not None and (block := encode_header_block(headers)) is not None:
            if not self._headers_supported:
                raise HeadersNotSupportedError("the connected server does not support headers")
            # The limit of a control line holds for the line alone. The header block behind it counts as a part of the
            # message.
            line = self._checked(b"H%b%d %d\r\n" % (head, len(block), self._allowed(len(block) + size))) + block
        else:
            line = self._checked(b"%b%d\r\n" % (head, self._allowed(size)))
        return (line, data, CRLF) if size >= LARGE_PAYLOAD else b"%b%b\r\n" % (line, data)

    def may_refuse(self, nbytes: int) -> bool:
        """Whether there can be anything among ``nbytes`` of publishes that the connected server refuses."""
        # No message is larger than all of them together, so few bytes are known to be right without a look at each.
        return not self._headers_supported or (self._max_payload is not None and nbytes > self._max_payload)

    def refusal(self, operation: Encoded) -> Refusal | None:
        """Why the connected server would refuse an operation that `publish` made before it was connected, or None."""
        pieces = (operation,) if isinstance(operation, bytes) else operation
        if not self.may_refuse(sum(map(len, pieces))):
            return None
        head = pieces[0]
        verb, raw_subject, *more = head[: head.index(CRLF)].split(b" ")
        size, with_headers = int(more.pop()), verb == b"HPUB"
        refused = with_headers and not self._headers_supported
        if not refused and (self._max_payload is None or size <= self._max_payload):
            return None
        raw_reply = reply_of(operation)
        reply = None if raw_reply is None else raw_reply.decode()
        publish = f"publish to {raw_subject.decode()!r}"
        if refused:
            error: MaxPayloadError | HeadersNotSupportedError = HeadersNotSupportedError(
                f"{publish}: it has headers, the connected server does not support them"
            )
        else:
            error = MaxPayloadError(
                f"{publish}: headers and payload are {size} bytes, the connected server takes {self._max_payload} "
                "(max_payload)"
            )
        return Refusal(error, reply)

    def subscribe(self, subject: str, queue: str | None, sid: int) -> bytes:
        """``SUB``. Raises `InvalidSubjectError`, `MaxControlLineError`; `ValueError` for a sid below 1."""
        arguments = encode_subscription_subject(subject)
        if queue is not None:
            arguments = b"%b %b" % (arguments, encode_queue(queue))
        return self._checked(b"SUB %b %d\r\n" % (arguments, _number("sid", sid)))

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> bytes:
        """``UNSUB``: at once, or after ``max_msgs`` deliveries counted from the SUB on. `ValueError` below 1."""
        if max_msgs is None:
            return b"UNSUB %d\r\n" % _number("sid", sid)
        return b"UNSUB %d %d\r\n" % (_number("sid", sid), _number("max_msgs", max_msgs))

    def connect(self, options: Mapping[str, object]) -> bytes:
        """``CONNECT`` with the options as JSON.

        Raises `ConfigurationError` for what JSON cannot express, `MaxControlLineError`.
        """
        return self._checked(b"CONNECT %b\r\n" % _json("CONNECT", options))

    # --- the server's role -------------------------------------------------------------------------------------------

    def info(self, fields: Mapping[str, object]) -> bytes:
        """``INFO`` with the fields as JSON. `ConfigurationError` for what JSON cannot express."""
        # The length is not checked: the limit of a control line does not hold for INFO, which is longer in a large
        # cluster.
        return b"INFO %b\r\n" % _json("INFO", fields)

    def message(
        self,
        subject: str,
        sid: int,
        data: Payload,
        reply: str | None = None,
        header_block: bytes | None = None,
    ) -> bytes:
        """``MSG``, or ``HMSG`` with a header block. Subject and block may be whatever a client published.

        As a nats-server does it, any bytes are passed on as a block, and an empty one is none. Raises
        `InvalidSubjectError`, `MaxControlLineError`.
        """
        arguments = b"%b %d " % (encode_literal(subject), _number("sid", sid))
        if reply is not None:
            arguments = b"%b%b " % (arguments, encode_literal(reply, "reply subject"))
        payload = data if type(data) is bytes else _copy(data)
        if header_block is None or not len(header_block):
            return self._checked(b"MSG %b%d\r\n" % (arguments, len(payload))) + payload + CRLF
        block = header_block if type(header_block) is bytes else _copy(header_block)
        line = self._checked(b"HMSG %b%d %d\r\n" % (arguments, len(block), len(block) + len(payload)))
        return b"%b%b%b\r\n" % (line, block, payload)

    def err(self, text: str) -> bytes:
        """``-ERR`` with the text in quotes.

        Raises `LocalProtocolError` for CR, LF or a lone surrogate, `MaxControlLineError`.
        """
        try:
            raw = str.encode(text, "utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise LocalProtocolError("the text of -ERR has a lone surrogate, which is no UTF-8") from None
        if b"\r" in raw or b"\n" in raw:
            raise LocalProtocolError("the text of -ERR must not contain CR or LF")
        return self._checked(b"-ERR '%b'\r\n" % raw)

    # --- shared ------------------------------------------------------------------------------------------------------

    def _head(self, subject: str) -> bytes:
        if type(subject) is not str:  # a subclass may hash and compare as it likes
            return b"PUB %b " % encode_subject(subject)
        head = self.heads.get(subject)
        if head is None:
            head = b"PUB %b " % encode_subject(subject)
            if len(self.heads) >= CACHED_SUBJECTS:
                # The Python tail holds the same dictionary, so the dictionary is emptied and never replaced. To forget
                # everything at once needs no order of use, which each publish would have to note.
                self.heads.clear()
            self.heads[subject] = head
        return head

    def _allowed(self, size: int) -> int:
        if self._max_payload is not None and size > self._max_payload:
            raise MaxPayloadError(
                f"headers and payload are {size} bytes, the server takes {self._max_payload} (max_payload)"
            )
        return size

    def _checked(self, line: bytes) -> bytes:
        if len(line) > self._max_control_line:
            raise MaxControlLineError(
                f"a line of {len(line)} bytes, the limit is {self._max_control_line} (max_control_line, an option, "
                f"to be as large as the server's): {quote(line)}"
            )
        return line


def reply_of(operation: Encoded) -> bytes | None:
    """The reply subject of an operation that `Encoder.publish` made, if it has one."""
    head = operation if isinstance(operation, bytes) else operation[0]
    verb, _, *more = head[: head.index(CRLF)].split(b" ")
    # PUB has a size behind its reply subject, HPUB has two: one argument more than that is the reply.
    return more[0] if len(more) > 1 + (verb == b"HPUB") else None


def _copy(data: Payload) -> bytes:
    # Through the buffer, not through bytes(): a subclass may have its own ideas of __len__ and __bytes__.
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(_wrong_payload(data)) from None
    # The view is released here: its owner cannot resize a bytearray as long as a view of it exists.
    with view:
        return view.tobytes()


def _wrong_payload(data: object) -> str:
    if isinstance(data, str):
        advice = "encode the text, as in data=text.encode()"
    elif data is None:
        advice = "an empty one is b''"
    else:
        advice = "make bytes of it, as in data=json.dumps(value).encode()"
    return f"a payload must be bytes, bytearray or memoryview, not {type(data).__name__}: {advice}"


def _integer(name: str, value: int) -> int:
    # `isinstance` would let True pass as 1, and let a subclass pass that compares as it likes.
    if type(value) is not int:
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    return value


def _number(name: str, value: int) -> int:
    # Numbers below 2**63 have 19 digits at most, which is what `read_number` takes in the other role.
    if not 1 <= _integer(name, value) < 2**63:
        raise ValueError(f"{name} must be from 1 to 2**63 - 1, not {value!r:.32}")
    return value


def _json(operation: str, fields: Mapping[str, object]) -> bytes:
    try:
        raw = msgspec.json.encode(dict(fields))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{operation} cannot be written as JSON: {error}"[:200]) from None
    # JSON escapes CR and LF in texts, but a `msgspec.Raw` among the fields is written as it is, and could add a line.
    if b"\r" in raw or b"\n" in raw:
        raise ConfigurationError(f"{operation} must not contain CR or LF")
    return raw
