"""What servers send nearly always, read with as little work as Python allows.

The fast path takes whole operations that are certainly right, exactly as servers write them. It stops at everything
else: other spellings, faults, and an operation whose end has not come yet. The strict path of the parser decides what
that is, so nothing is accepted here that would not be accepted there.

Messages in a row for the same sid become a `Run` when the caller takes runs. Where the very same line comes again and
again and payloads are small, messages are taken by the block: the payloads are cut out at the places where they must
lie if every message has this line, then lines and payloads are joined again, and the messages are taken if the result
is equal to what was received, byte for byte.
"""

from __future__ import annotations

import re
from itertools import repeat
from typing import Final

from .control_line import read_text
from .frames import MIN_HEADER_BLOCK, OK_FRAME, PING_FRAME, PONG_FRAME, Frame, Message
from .run import SHORTEST_RUN, Run

__all__ = ["FastPath"]

# What servers send: one blank between arguments, and nothing but printable bytes in them. The repetitions are
# possessive (``++``), so that a line that does not fit is not tried again with shorter arguments: an argument ends at
# its blank and nowhere else. That saves a fifth of the time.
_match_msg: Final = re.compile(
    rb"MSG ([!-~\x80-\xff]++) ([0-9]{1,19}+) (?:([!-~\x80-\xff]++) )?+([0-9]{1,19}+)\r\n",
).match
# Without the look-ahead the first of two sizes would be taken for a reply, and a possessive group never gives it back.
# In MSG only one size follows, and no blank stands behind it.
_match_hmsg: Final = re.compile(
    rb"HMSG ([!-~\x80-\xff]++) ([0-9]{1,19}+) (?:([!-~\x80-\xff]++) (?=[0-9]+ ))?+([0-9]{1,19}+) ([0-9]{1,19}+)\r\n",
).match
_match_word: Final = re.compile(rb"(PING|PONG|\+OK)\r\n").match
_WORDS: Final[dict[bytes, Frame]] = {b"PING": PING_FRAME, b"PONG": PONG_FRAME, b"+OK": OK_FRAME}
_SMALL_NUMBERS: Final = {b"%d" % number: number for number in range(1024)}
"""Most sids and sizes are among these numbers. To look one up takes a third of the time that `int` takes."""

SMALL_PAYLOAD: Final = 256
"""Bytes of a payload up to which messages are taken by the block. Larger ones cost more to join again than is saved."""
ALONE: Final = 8
"""Messages with the very same line that are taken one by one before the first block is tried, and again after a block
that was none. The first block has as many messages, each one after it twice as many as the one before. So the work for
a block that turns out to be none is never more than the work that was useful before it."""


class FastPath:
    """Reads operations that lie whole in one chunk, within the parser's limits (bytes)."""

    __slots__ = ("_max_control_line", "_max_header_bytes", "_max_payload", "_message_type")

    def __init__(
        self, *, max_control_line: int, max_header_bytes: int, max_payload: int, message_type: type[Message]
    ) -> None:
        self._max_control_line = max_control_line
        self._max_header_bytes = max_header_bytes
        self._max_payload = max_payload
        self._message_type = message_type

    def read(self, data: bytes, position: int, frames: list[Frame | Run], runs: bool = False) -> int:
        """Take whole operations from ``position`` on and append their frames. Returns where it stopped.

        With ``runs`` messages in a row for the same sid become a `Run`.
        """
        startswith = data.startswith
        append = frames.append
        small_number = _SMALL_NUMBERS.get
        message_type = self._message_type
        row = _Row(frames, runs)
        # Many messages in a row often have the very same line. Once a subject came twice, its line is compared first
        # and read only when it differs.
        line: bytes | None = None
        last_subject = b""
        length = sid = size = alone = 0
        block = ALONE
        subject = ""
        reply: str | None = None
        while True:
            if line is not None and startswith(line, position):  # the very same line once more
                begin = position + length
                if alone < ALONE:
                    alone += 1
                # The messages of a block are not noted in the row one by one, so the row must have this sid and this
                # size before.
                elif size <= SMALL_PAYLOAD and row.last == sid and row.size == size:
                    payloads = _cut(data, begin, line, size, block)
                    if payloads:
                        frames.extend(map(message_type, repeat(subject), repeat(sid), repeat(None), payloads))
                        position += len(payloads) * (length + size + 2)
                        block *= 2
                        continue
                    # What `line` announces is still in the variables, so the next message is taken alone below.
                    alone, block = 0, ALONE
            elif (match := _match_msg(data, position)) is not None:
                raw_subject, raw_sid, raw_reply, raw_size = match.groups()
                begin = match.end()
                length = begin - position
                # For 0 the look-up counts as false, and `int` gives 0 once more.
                size = small_number(raw_size) or int(raw_size)
                if length > self._max_control_line or size > self._max_payload:
                    break
                sid = small_number(raw_sid) or int(raw_sid)
                # This is `read_text` written out, here and below: it saves a call for each message.
                subject = raw_subject.decode("utf-8", "surrogateescape")
                line = None
                if raw_reply is not None:  # a request: hardly ever the same line twice
                    reply = raw_reply.decode("utf-8", "surrogateescape")
                else:
                    reply = None
                    if raw_subject == last_subject:
                        # CR LF is a part of the remembered line, so no longer line that begins alike is taken for it.
                        line = data[position:begin]
                        alone, block = 0, ALONE
                    last_subject = raw_subject
            elif (match := _match_hmsg(data, position)) is not None:
                end = self._read_with_headers(data, match, row)
                if end == 0:
                    break
                position = end
                continue
            elif (match := _match_word(data, position)) is not None:
                if row.last >= 0:
                    row.change(-1)
                append(_WORDS[match[1]])
                position = match.end()
                continue
            else:
                break
            end = begin + size
            if not startswith(b"\r\n", end):
                break
            message = message_type(subject, sid, reply, data[begin:end])
            if sid != row.last:
                row.change(sid)
            elif size != row.size:
                row.go_on(size)
            append(message)
            position = end + 2
        row.change(-1)
        return position

    def _read_with_headers(self, data: bytes, line: re.Match[bytes], row: _Row) -> int:
        """Take a message with headers. Returns where it ends, or 0 to leave it to the strict path."""
        raw_subject, raw_sid, raw_reply, header_size, size = line.groups()
        block = line.end()
        begin = block + int(header_size)
        end = block + int(size)
        if not (
            block - line.start() <= self._max_control_line
            and MIN_HEADER_BLOCK <= begin - block <= self._max_header_bytes
            and begin <= end <= block + self._max_payload
            and data.startswith(b"\r\n", end)
        ):
            return 0
        sid = int(raw_sid)
        reply = None if raw_reply is None else read_text(raw_reply)
        message = self._message_type(read_text(raw_subject), sid, reply, data[begin:end], data[block:begin])
        if sid != row.last:
            row.change(sid)
        elif end - block != row.size:
            row.go_on(end - block)
        # This has to stand behind `change`, which sets the count to 0 for a new row.
        row.header_bytes += begin - block
        row.frames.append(message)
        return end + 2


class _Row:
    """The row: the messages for one sid at the end of ``frames``, which become a `Run` when another frame follows.

    Nothing is noted for a message that has the size of the one before, which the reader compares by itself: `go_on` is
    called for the second message of a row, and where the size changes.
    """

    __slots__ = ("_begin", "_part", "_runs", "_sizes", "frames", "header_bytes", "last", "size")

    def __init__(self, frames: list[Frame | Run], runs: bool) -> None:
        self._runs = runs
        self.frames = frames
        self.last = -1
        """The sid of the last message; -1: there was no message, or something else came behind it."""
        self.size = -1
        """The size of the last message; -1: that message is the first of its row, and its size was not needed yet."""
        self.header_bytes = 0
        """Bytes of the header blocks in the row."""
        self._begin = self._part = 0
        """Where in ``frames`` the row begins, and where its last stretch of messages of one size."""
        self._sizes: list[tuple[int, int]] = []
        """As in `Run.sizes`, for the messages of the row before ``_part``."""

    def change(self, sid: int) -> None:
        """What comes next does not belong to this row: it is a message for another sid, or no message (-1)."""
        if self.size >= 0:
            self._end()
        self.size = -1
        self.header_bytes = 0
        self.last = sid

    def go_on(self, size: int) -> None:
        """The next message belongs to this row, and has another size than the last one, or that is not known."""
        here = len(self.frames)
        if self.size < 0:
            # The frame before is always a message, since `last` is its sid: `isinstance` is there for the type checker.
            first = self.frames[-1]
            self.size = first.size if isinstance(first, Message) else 0
            self._begin = self._part = here - 1
        if size != self.size:
            self._sizes.append((here - self._part, self.size))
            self._part = here
            self.size = size

    def _end(self) -> None:
        frames = self.frames
        if self._runs and len(frames) - self._begin >= SHORTEST_RUN:
            self._sizes.append((len(frames) - self._part, self.size))
            size = sum(count * each for count, each in self._sizes)
            headers = self.header_bytes
            messages = frames[self._begin :]
            run = Run(self.last, messages, size - headers, size, self._sizes, headers > 0)  # type: ignore[arg-type]  # all of them are messages
            frames[self._begin :] = [run]
        # A new list instead of `clear`, since the run keeps the old one.
        if self._sizes:
            self._sizes = []


def _cut(data: bytes, begin: int, line: bytes, size: int, count: int) -> list[bytes]:
    """The payloads of ``count`` messages with this very line, or of as many as there is room for in ``data``.

    Empty when fewer than `ALONE` can be there, or when what is there are other messages. ``begin`` is where the payload
    of the first one lies, whose line was compared before.
    """
    stride = size + 2 + len(line)
    # The line of the first message lies before `begin`: it needs room for its payload and CR LF only, each later one
    # for a whole stride.
    count = min(count, (len(data) - begin - size - 2) // stride + 1)
    if count < ALONE:
        return []
    payloads = [data[at : at + size] for at in range(begin, begin + count * stride, stride)]
    end = begin + (count - 1) * stride + size
    # If the payloads with CR LF and the line between them are what stands there, then each was cut where it lies.
    between = b"\r\n" + line
    if data.startswith(between.join(payloads), begin) and data.startswith(b"\r\n", end):
        return payloads
    return []
