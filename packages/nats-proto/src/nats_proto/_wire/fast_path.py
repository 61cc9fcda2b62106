"""What servers send nearly always, read with as little work as Python allows.

The fast path takes whole operations that are certainly right, exactly as servers write them. It stops at everything
else: other spellings, faults, and an operation whose end has not come yet. The strict path of the parser decides what
that is, so nothing is accepted here that would not be accepted there.

Messages with no other frame between them become a `Batch` when the caller takes batches. Where the very same line comes
again and again and payloads are small, messages are taken by the block: the payloads are cut out at the places where
they must lie if every message has this line, then lines and payloads are joined again, and the messages are taken if
the result is equal to what was received, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import repeat
from typing import Final

import msgspec

from .batch import Batch, Share
from .control_line import read_text
from .frames import MIN_HEADER_BLOCK, OK_FRAME, PING_FRAME, PONG_FRAME, Frame, Message, is_well_framed

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

    def read(self, data: bytes, position: int, frames: list[Frame | Batch], batches: bool = False) -> int:
        """Take whole operations from ``position`` on and append their frames. Returns where it stopped.

        With ``batches`` messages with no other frame between them become a `Batch`.
        """
        startswith = data.startswith
        small_number = _SMALL_NUMBERS.get
        message_type = self._message_type
        gathered = _Gathered(frames, batches)
        group = gathered.group
        append = group.messages.append
        also = gathered.also
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
                # The sizes of the messages of a block are not noted one by one, so this size must be noted before.
                elif size <= SMALL_PAYLOAD and gathered.sid == sid and group.size == size:
                    payloads = _cut(data, begin, line, size, block)
                    if payloads:
                        here = len(group.messages)
                        group.messages.extend(map(message_type, repeat(subject), repeat(sid), repeat(None), payloads))
                        if also is not None:
                            also += group.messages[here:]
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
                end = self._read_with_headers(data, match, gathered)
                if end == 0:
                    break
                group = gathered.group
                append = group.messages.append
                also = gathered.also
                position = end
                continue
            elif (match := _match_word(data, position)) is not None:
                gathered.give(frames)
                gathered = _Gathered(frames, batches)
                also = None
                frames.append(_WORDS[match[1]])
                position = match.end()
                continue
            else:
                break
            end = begin + size
            if not startswith(b"\r\n", end):
                break
            message = message_type(subject, sid, reply, data[begin:end])
            if sid != gathered.sid:
                group = gathered.add(sid, message, size)
                append = group.messages.append
                also = gathered.also
            else:
                if size != group.size:
                    group.note(size)
                append(message)
                if also is not None:
                    also.append(message)
            position = end + 2
        gathered.give(frames)
        return position

    def _read_with_headers(self, data: bytes, line: re.Match[bytes], gathered: _Gathered) -> int:
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
        header_block = data[block:begin]
        if not is_well_framed(header_block):
            return 0
        sid = int(raw_sid)
        reply = None if raw_reply is None else read_text(raw_reply)
        message = self._message_type(read_text(raw_subject), sid, reply, data[begin:end], header_block)
        gathered.add(sid, message, end - block)
        gathered.header_bytes += begin - block
        return end + 2


class _Group(msgspec.Struct, gc=False):
    """Messages for one sid. Nothing is noted for a message that has the size of the one before."""

    messages: list[Message]
    size: int
    """Of the last message."""
    begin: int = 0
    """Where in ``messages`` the last stretch of messages of one size begins."""
    sizes: list[tuple[int, int]] | None = None
    """As in a `Share`, for the messages before that."""

    def note(self, size: int) -> None:
        """The next message has this size, which is not that of the message before."""
        here = len(self.messages)
        if self.sizes is None:
            self.sizes = []
        self.sizes.append((here - self.begin, self.size))
        self.begin = here
        self.size = size

    def share(self, sid: int) -> Share:
        """These messages, as the batch has them."""
        count = len(self.messages) - self.begin
        if self.sizes is None:
            return sid, self.messages, count * self.size, (count, self.size)
        sizes = [*self.sizes, (count, self.size)]
        return sid, self.messages, sum(count * size for count, size in sizes), sizes


class _Gathered:
    """The messages by sid, in the order in which the sids came: the shares of the next `Batch`.

    The first message for a sid is kept without a group: with many subscriptions it may be the only one. Where no
    batches are wanted there is one group for all, and its messages are put among the frames.
    """

    __slots__ = ("_batches", "_by_sid", "also", "group", "header_bytes", "sid")

    def __init__(self, frames: list[Frame | Batch], batches: bool) -> None:
        self._batches = batches
        self._by_sid: dict[int, Message | _Group] = {}
        # A batch is one of the frames and refers to this, which must not refer to the frames: only the collector would
        # ever find out that nobody has the messages any more.
        self.group = _Group([] if batches else frames, -1)  # type: ignore[arg-type]  # frames are added to, not looked at
        """That of ``sid``."""
        self.sid: int = -1
        """Of the last message, if it has a group."""
        self.header_bytes = 0
        """Bytes of all header blocks."""
        self.also: list[Message] | None = None
        """All messages in the order in which they came, where there is more than one sid: else its group has them."""

    def __iter__(self) -> Iterator[Share]:
        for sid, found in self._by_sid.items():
            if isinstance(found, _Group):
                yield found.share(sid)
            else:
                size = found.size
                yield sid, [found], size, (1, size)

    def add(self, sid: int, message: Message, size: int) -> _Group:
        """Add a message, of this size with its header block. The group that the next one for this sid belongs to."""
        group = self.group
        if self._batches and sid != self.sid:
            if self.also is None and self._by_sid and sid not in self._by_sid:
                self.also = [*self._only()]
            if self.also is not None:
                self.also.append(message)
            found = self._by_sid.get(sid)
            if found is None:
                self._by_sid[sid] = message
                self.sid = -1
                return group
            if not isinstance(found, _Group):
                found = self._by_sid[sid] = _Group([found], found.size)
            self.group = group = found
        elif self.also is not None:
            self.also.append(message)
        self.sid = sid
        if size != group.size:
            group.note(size)
        group.messages.append(message)
        return group

    def _only(self) -> list[Message]:
        """The messages for the only sid."""
        (found,) = self._by_sid.values()
        return found.messages if isinstance(found, _Group) else [found]

    def give(self, frames: list[Frame | Batch]) -> None:
        """Something else comes, or nothing: add what was gathered to the frames."""
        if not self._by_sid:
            return
        messages = self._only() if self.also is None else self.also
        if len(messages) == 1:
            frames.append(messages[0])
        else:
            size = sum(size for _, _, size, _ in self)
            frames.append(Batch(messages, self, size - self.header_bytes))


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
