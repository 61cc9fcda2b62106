"""Bytes into frames, for both roles.

Theory of operation
-------------------
A stream is a sequence of control lines, some of which are followed by a payload:

    LINE ──(MSG, HMSG, PUB, HPUB)──▶ [BLOCK ──▶] DATA ──▶ CR ──▶ LF ──▶ LINE
      └──(any other operation)──▶ LINE

`receive_data` takes complete operations out of the chunk it was given. Where the chunk ends in the middle of an
operation, what has come of it is kept: the beginning of a line in one ``bytearray``, the beginning of a payload in the
bytes that will be the message's (`assembly`). No byte is searched a second time, and none is copied more than a few
times, so the work grows with the number of bytes alone, however the stream is split.

Every fault is decided at one byte of the stream, never by where a chunk happens to end. So the frames, the fault and
its text are the same for every split:

* an unknown operation at its first byte that is not printable, or after 64 bytes, so that the text can show something;
* a line that is too long at the first byte over its limit;
* everything else about a line at its LF; the CR and LF of a payload each at the byte in its place.

In the client's role messages have a fast path, which exists twice, in Python and compiled (`twin`). It takes only
operations that are certainly right and stops at everything else, faults included. The strict path, which is this
module, then decides; so it alone says what is accepted.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from ..errors import ConfigurationError, RemoteProtocolError
from .batch import Batch
from .control_line import Fault, find_operation, quote, read_number, read_text, split_arguments
from .frames import (
    OK_FRAME,
    PING_FRAME,
    PONG_FRAME,
    ConnectFrame,
    ErrFrame,
    Frame,
    InfoFrame,
    Message,
    PublishFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from .info import parse_info
from .twin import Assembly, FastPath

__all__ = ["Parser", "Role"]

KiB: Final = 1024
MiB: Final = 1024 * KiB

_CR: Final = 13
_LF: Final = 10

_decode_connect: Final = msgspec.json.Decoder(dict[str, object]).decode


class Role(Enum):
    """Whose side the reader is on: ``CLIENT`` reads what servers send, ``SERVER`` reads what clients send."""

    CLIENT = "client"
    SERVER = "server"


# What lines may begin with, by who reads them. Words in the role of the other side are as unknown as any other.
_OPERATIONS: Final = {
    Role.CLIENT: frozenset({b"MSG", b"HMSG", b"PING", b"PONG", b"+OK", b"-ERR", b"INFO"}),
    Role.SERVER: frozenset({b"PUB", b"HPUB", b"SUB", b"UNSUB", b"PING", b"PONG", b"CONNECT"}),
}
_PEER: Final = {Role.CLIENT: "server", Role.SERVER: "client"}
"""Who should be at the other end, for the error about a first line that is no NATS at all."""


class _Phase(Enum):
    LINE = "line"
    BLOCK = "header block"
    DATA = "payload"
    CR = "CR after the payload"
    LF = "LF after the payload"


_IN_LINE: Final = _Phase.LINE
"""Asked for at every chunk: to look a member up in its enum costs as much as a call of a function."""


class Parser:
    """Reads one byte stream. Never raises for anything the peer sent.

    All limits are bytes. ``max_control_line`` bounds every line but INFO, which ``max_info`` bounds (with thousands of
    ``connect_urls`` it is far longer than other lines); both count the line's end. ``max_header_bytes`` bounds the
    header block of one message; the default is twice what a server with its default ``max_payload`` of 1 MiB lets
    through (a `Connection` allows as much as for the whole message, since servers do not tell the two apart).
    ``max_payload`` bounds header block and payload together. ``message_type`` is built for each message.
    Raises `ConfigurationError` for a limit that nothing could keep, `TypeError` for one that is no ``int``.
    """

    error: RemoteProtocolError | None
    """The fault that ended the stream, or None. The frames before it were returned all the same."""

    def __init__(
        self,
        role: Role,
        *,
        max_control_line: int = 32 * KiB,
        max_info: int = MiB,
        max_header_bytes: int = 2 * MiB,
        max_payload: int = 64 * MiB,
        message_type: type[Message] = Message,
    ) -> None:
        for name, limit, least in (
            ("max_control_line", max_control_line, 1),
            ("max_info", max_info, 1),
            ("max_header_bytes", max_header_bytes, 0),
            ("max_payload", max_payload, 0),
        ):
            if type(limit) is not int:
                raise TypeError(f"{name} must be int, not {type(limit).__name__}")
            if limit < least:
                raise ConfigurationError(f"{name} must be {least} or more bytes, not {limit!r}")
        self._role = role
        self._max_control_line = max_control_line
        self._max_info = max_info
        self._max_header_bytes = max_header_bytes
        self._max_payload = max_payload
        self._message_type = message_type
        self._fast: FastPath | None = None
        # The fast path takes PING, PONG and +OK without a look at the limit, so there is none below their length.
        if role is Role.CLIENT and max_control_line >= len(b"PING\r\n"):
            self._fast = FastPath(
                max_control_line=max_control_line,
                max_header_bytes=max_header_bytes,
                max_payload=max_payload,
                message_type=message_type,
            )
        # So much of an unfinished line is kept: it is enough to see that any limit is exceeded, and to show the
        # beginning of an unknown operation in the error.
        self._keep = max(max_control_line, max_info, 64)
        self._assembly = Assembly()
        self.reset()

    def reset(self) -> None:
        """Forget everything received, the fault included: the next byte is the first of a new stream."""
        self.error = None
        self._first: str | None = _PEER[self._role]
        self._phase = _Phase.LINE
        self._line = bytearray()
        self._limit = 0
        self._head: tuple[str, int, str | None] = ("", 0, None)
        self._block: bytes | None = None
        self._data = b""
        self._data_size = 0
        self._assembly.begin(0)

    @property
    def between_frames(self) -> bool:
        """The stream stands between two operations: nothing of the next one has come, and there was no fault."""
        return self._phase is _Phase.LINE and not self._line and self.error is None

    @property
    def payload_size(self) -> int:
        """Bytes of the payload in which the stream stands; 0 where it stands in none."""
        return self._data_size if self._phase is _Phase.DATA else 0

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take the next bytes of the stream, however many; return the frames that are complete now, in order.

        Once a fault has set `error` nothing more is returned. Frames never share memory with ``data``.
        `TypeError` when ``data`` is no buffer.
        """
        frames: list[Frame | Batch] = []
        return self._receive(data, 0, frames, batches=False)  # type: ignore[return-value]  # no batches among them

    def receive_batches(self, data: bytes | bytearray | memoryview) -> list[Frame | Batch]:
        """As `receive_data`, but messages with no other frame between them may be one `Batch`."""
        frames: list[Frame | Batch] = []
        position = 0
        if type(data) is bytes and self._phase is _IN_LINE and not self._line and self._fast and self.error is None:
            # A chunk of whole messages is read to its end by this. Where it is only one, each call counts.
            position = self._fast.read(data, 0, frames, True)
            if position:
                self._first = None  # as in `_read`
                if position == len(data):
                    return frames
        return self._receive(data, position, frames, batches=True)

    def _receive(
        self, data: bytes | bytearray | memoryview, position: int, frames: list[Frame | Batch], *, batches: bool
    ) -> list[Frame | Batch]:
        # Frames are sliced out of the chunk, so it must be one that its owner cannot change any more. The view is
        # released, since a bytearray cannot be resized as long as one exists.
        if type(data) is not bytes:
            with memoryview(data) as view:
                data = view.tobytes()
        if self.error is None:
            try:
                self._read(data, position, frames, batches)
            except Fault as fault:
                # This order, because `reset` also sets the error to None. It frees what was kept of the stream that
                # ends here.
                self.reset()
                self.error = RemoteProtocolError(str(fault))
        return frames

    def whole_message(self, data: bytes) -> Message | None:
        """The message that ``data`` would be, if the stream is between two operations and it is one and nothing else.

        Nothing changes by it. None as well for what the strict path alone would read.
        """
        if self.error is not None or self._phase is not _Phase.LINE or self._line or self._fast is None:
            return None
        frames: list[Frame | Batch] = []
        if self._fast.read(data, 0, frames) != len(data) or len(frames) != 1:
            return None
        return frames[0] if isinstance(frames[0], Message) else None

    def _read(self, data: bytes, position: int, frames: list[Frame | Batch], batches: bool) -> None:
        end = len(data)
        if self._line and end:
            position = self._read_rest_of_line(data, frames)
        while position < end:
            if self._phase is not _Phase.LINE:
                position = self._read_payload(data, position, frames)
                continue
            if self._fast is not None:
                before = position
                position = self._fast.read(data, position, frames, batches)
                # An operation was read, so the peer speaks NATS, and a later fault does not say that it does not.
                if position != before:
                    self._first = None
            if position < end:
                position = self._read_line(data, position, frames)

    # --- lines -------------------------------------------------------------------------------------------------------

    def _read_line(self, data: bytes, position: int, frames: list[Frame | Batch]) -> int:
        """The strict path at the beginning of a line. Of a line without an end no more than the largest limit is
        kept."""
        eol = data.find(b"\n", position)
        if eol < 0:
            self._line += data[position : position + self._keep]
            self._check_unfinished_line()
            return len(data)
        # A line that is cut here is at least as long as the largest limit, so it is refused and never acted on.
        self._take_line(data[position : min(eol, position + self._keep)], frames)
        return eol + 1

    def _read_rest_of_line(self, data: bytes, frames: list[Frame | Batch]) -> int:
        """The strict path for a line that began in an earlier chunk."""
        eol = data.find(b"\n")
        line = self._line
        line += data[: self._keep - len(line)] if eol < 0 else data[: min(eol, self._keep - len(line))]
        if eol < 0:
            self._check_unfinished_line()
            return len(data)
        self._line = bytearray()
        self._limit = 0
        self._take_line(bytes(line), frames)
        return eol + 1

    def _check_unfinished_line(self) -> None:
        # The limit is found once for each line, or a line that comes byte by byte would be looked up at every byte.
        if self._limit == 0:
            operation = find_operation(self._line, _OPERATIONS[self._role], complete=False, first=self._first)
            if not operation:
                return
            self._limit = self._limit_of(operation)
        self._check_length(self._line, self._limit)

    def _limit_of(self, operation: bytes) -> int:
        return self._max_info if operation == b"INFO" else self._max_control_line

    def _check_length(self, line: bytes | bytearray, limit: int) -> None:
        # The line is given without its LF, which the limit counts: a line of exactly the limit has one byte less here.
        if len(line) >= limit:
            name = "max_info" if bytes(line[:4]).upper() == b"INFO" else "max_control_line"
            raise Fault(f"line longer than {limit} bytes ({name}): {quote(line, limit)}")

    def _take_line(self, line: bytes, frames: list[Frame | Batch]) -> None:
        """Act on a whole line, given without its LF."""
        operation = find_operation(line, _OPERATIONS[self._role], complete=True, first=self._first)
        self._check_length(line, self._limit_of(operation))
        if line.endswith(b"\r"):
            line = line[:-1]
        if b"\r" in line:
            raise Fault(f"CR inside a line: {quote(line)}")
        self._first = None
        text = line[len(operation) :]
        if self._role is Role.CLIENT:
            self._take_from_server(operation, text, frames)
        else:
            self._take_from_client(operation, text, frames)

    def _take_from_server(self, operation: bytes, text: bytes, frames: list[Frame | Batch]) -> None:
        match operation:
            case b"MSG":
                subject, sid, *reply, size = split_arguments("MSG", text, 3, 4)
                self._begin_message("MSG", subject, sid, reply, None, size)
            case b"HMSG":
                subject, sid, *reply, block_size, size = split_arguments("HMSG", text, 4, 5)
                self._begin_message("HMSG", subject, sid, reply, block_size, size)
            case b"PING":
                frames.append(PING_FRAME)
            case b"PONG":
                frames.append(PONG_FRAME)
            case b"+OK":
                frames.append(OK_FRAME)
            case b"-ERR":
                frames.append(ErrFrame(read_text(text.strip(b" \t'"))))
            # Only INFO is left: `find_operation` gives no other words than those of the role.
            case _:
                frames.append(_read_info(text))

    def _take_from_client(self, operation: bytes, text: bytes, frames: list[Frame | Batch]) -> None:
        match operation:
            case b"PUB":
                subject, *reply, size = split_arguments("PUB", text, 2, 3)
                self._begin_message("PUB", subject, None, reply, None, size)
            case b"HPUB":
                subject, *reply, block_size, size = split_arguments("HPUB", text, 3, 4)
                self._begin_message("HPUB", subject, None, reply, block_size, size)
            case b"SUB":
                subject, *queue, sid = split_arguments("SUB", text, 2, 3)
                group = read_text(queue[0]) if queue else None
                frames.append(SubscribeFrame(read_text(subject), group, read_number("SUB", "sid", sid)))
            case b"UNSUB":
                sid, *most = split_arguments("UNSUB", text, 1, 2)
                max_msgs = read_number("UNSUB", "maximum", most[0]) if most else None
                frames.append(UnsubscribeFrame(read_number("UNSUB", "sid", sid), max_msgs))
            case b"PING":
                frames.append(PING_FRAME)
            case b"PONG":
                frames.append(PONG_FRAME)
            case _:
                frames.append(_read_connect(text))

    # --- payloads ----------------------------------------------------------------------------------------------------

    def _begin_message(
        self,
        operation: str,
        subject: bytes,
        sid: bytes | None,
        reply: list[bytes],
        block_size: bytes | None,
        size: bytes,
    ) -> None:
        number = 0 if sid is None else read_number(operation, "sid", sid)
        total = read_number(operation, "size", size)
        header = 0 if block_size is None else read_number(operation, "header size", block_size)
        # Else the payload behind the header block would have a negative size.
        if header > total:
            raise Fault(f"{operation} with a header size of {header}, which is more than the whole size, {total}")
        if header > self._max_header_bytes:
            raise Fault(f"header block of {header} bytes, the limit is {self._max_header_bytes} (max_header_bytes)")
        if total > self._max_payload:
            raise Fault(
                f"message of {total} bytes, the limit is {self._max_payload} (max_payload, a client's max_message_size)"
            )
        self._head = (read_text(subject), number, read_text(reply[0]) if reply else None)
        self._block = None
        self._data_size = total - header
        self._phase = _Phase.DATA if block_size is None else _Phase.BLOCK
        self._assembly.begin(self._data_size if block_size is None else header)

    def _read_payload(self, data: bytes, position: int, frames: list[Frame | Batch]) -> int:
        """Read on in the message that was begun, whose next part is its header block, payload, CR or LF."""
        if self._phase is _Phase.BLOCK:
            self._block, position = self._assembly.take(data, position)
            if self._block is None:
                return position
            self._phase = _Phase.DATA
            self._assembly.begin(self._data_size)
        if self._phase is _Phase.DATA:
            payload, position = self._assembly.take(data, position)
            if payload is None:
                return position
            self._data = payload
            self._phase = _Phase.CR
        if self._phase is _Phase.CR and position < len(data):
            position = self._expect(_CR, "CR", data, position)
            self._phase = _Phase.LF
        if self._phase is _Phase.LF and position < len(data):
            position = self._expect(_LF, "LF", data, position)
            self._phase = _Phase.LINE
            self._deliver(frames)
        return position

    def _expect(self, byte: int, name: str, data: bytes, position: int) -> int:
        if data[position] != byte:
            seen = data[position : position + 1]
            raise Fault(f"no CR LF after a payload of {len(self._data)} bytes: {seen!r} in the place of {name}")
        return position + 1

    def _deliver(self, frames: list[Frame | Batch]) -> None:
        subject, sid, reply = self._head
        # The parser lets go of the message: else a large one would stay in memory until the next one comes.
        data, self._data = self._data, b""
        block, self._block = self._block, None
        if self._role is Role.CLIENT:
            frames.append(self._message_type(subject, sid, reply, data, block))
        else:
            frames.append(PublishFrame(subject, reply, block, data))


def _read_info(text: bytes) -> InfoFrame:
    try:
        return InfoFrame(parse_info(text.strip(b" \t")))
    except RemoteProtocolError as error:
        return InfoFrame(None, str(error))


def _read_connect(text: bytes) -> ConnectFrame:
    try:
        return ConnectFrame(_decode_connect(text))
    except RecursionError:
        raise Fault("CONNECT is nested too deep") from None
    except (msgspec.DecodeError, ValueError) as error:  # it is a ValueError from msgspec 0.21 on
        raise Fault(f"CONNECT cannot be used: {error}"[:200]) from None
