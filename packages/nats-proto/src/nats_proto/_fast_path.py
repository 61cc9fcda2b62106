"""What servers send nearly always, read with as little work as Python allows.

It takes whole operations that are certainly right, exactly as servers write them, and stops at everything else: other
spellings, faults, what the chunk's end cuts off. The strict path of the parser decides what that is, so nothing is
accepted here that would not be accepted there.
"""

from __future__ import annotations

import re
from typing import Final

from ._control_line import read_text
from ._frames import Frame, Message, OkFrame, PingFrame, PongFrame

__all__ = ["MIN_HEADER_BLOCK", "OK", "PING", "PONG", "FastPath"]

MIN_HEADER_BLOCK: Final = len(b"NATS/1.0\r\n\r\n")

PING: Final = PingFrame()
PONG: Final = PongFrame()
OK: Final = OkFrame()

# One blank between arguments and nothing but printable bytes in them: what servers send. Possessive, since an argument
# cannot end anywhere else; that saves a fifth of the time.
_match_msg: Final = re.compile(
    rb"MSG ([!-~\x80-\xff]++) ([0-9]{1,19}+) (?:([!-~\x80-\xff]++) )?+([0-9]{1,19}+)\r\n",
).match
_match_hmsg: Final = re.compile(
    rb"HMSG ([!-~\x80-\xff]++) ([0-9]{1,19}+) (?:([!-~\x80-\xff]++) (?=[0-9]+ ))?+([0-9]{1,19}+) ([0-9]{1,19}+)\r\n",
).match
_match_word: Final = re.compile(rb"(PING|PONG|\+OK)\r\n").match
_WORDS: Final[dict[bytes, Frame]] = {b"PING": PING, b"PONG": PONG, b"+OK": OK}
_SMALL_NUMBERS: Final = {b"%d" % number: number for number in range(1024)}
"""Most sids and sizes; a look-up takes a third of the time of `int`."""


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

    def read(self, data: bytes, position: int, frames: list[Frame]) -> int:
        """Take whole operations from ``position`` on and append their frames. Returns where it stopped."""
        startswith = data.startswith
        append = frames.append
        small_number = _SMALL_NUMBERS.get
        message_type = self._message_type
        # Many messages in a row often have the very same line. Once a subject came twice, its line is compared first
        # and read only when it differs.
        line: bytes | None = None
        last_subject = b""
        length = sid = size = 0
        subject = ""
        reply: str | None = None
        while True:
            if line is not None and startswith(line, position):
                begin = position + length
            elif (match := _match_msg(data, position)) is not None:
                raw_subject, raw_sid, raw_reply, raw_size = match.groups()
                begin = match.end()
                length = begin - position
                size = small_number(raw_size) or int(raw_size)
                if length > self._max_control_line or size > self._max_payload:
                    break
                sid = small_number(raw_sid) or int(raw_sid)
                subject = raw_subject.decode("utf-8", "surrogateescape")
                line = None
                if raw_reply is not None:  # hardly ever the same twice
                    reply = raw_reply.decode("utf-8", "surrogateescape")
                else:
                    reply = None
                    if raw_subject == last_subject:
                        line = data[position:begin]
                    last_subject = raw_subject
            elif (match := _match_hmsg(data, position)) is not None:
                end = self._read_with_headers(data, match, frames)
                if end == 0:
                    break
                position = end
                continue
            elif (match := _match_word(data, position)) is not None:
                append(_WORDS[match[1]])
                position = match.end()
                continue
            else:
                break
            end = begin + size
            if not startswith(b"\r\n", end):
                break
            append(message_type(subject, sid, reply, data[begin:end]))
            position = end + 2
        return position

    def _read_with_headers(self, data: bytes, line: re.Match[bytes], frames: list[Frame]) -> int:
        """Take a message with headers. Returns where it ends, or 0 to leave it to the strict path."""
        subject, sid, reply, header_size, size = line.groups()
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
        to = None if reply is None else read_text(reply)
        frames.append(self._message_type(read_text(subject), int(sid), to, data[begin:end], data[block:begin]))
        return end + 2
