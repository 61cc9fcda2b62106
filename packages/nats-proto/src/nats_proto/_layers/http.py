"""As much of HTTP/1 as a tunnel and an upgrade need: the head of one response, and what may stand in a request.

The body of a response is never read. Behind a head that grants what was asked for stands another protocol, and behind
one that refuses stands nothing of interest. So a refusal is known at the end of its head, whatever follows.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_HEAD", "TOKEN", "VALUE", "HeadReader"]

MAX_HEAD: Final = 16 * 1024
"""Bytes of status line and headers that a response may have, those of interim responses included. It is twice what
common servers let one request have; a response that sets cookies and policies has 2 to 4 KiB."""

_SHOWN: Final = 60
"""Characters of a reason phrase that an error shows, before escapes."""

TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.6.2)."""

VALUE: Final = re.compile(rb"[\t\x20-\x7e]*")
"""A header's value as we send it: TAB and printable ASCII. HTTP allows more bytes, and does not say what they mean."""

_PROTOCOL: Final = b"HTTP/1."
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class HeadReader:
    """Reads up to the end of a response's head. Interim responses (1xx) are skipped; 101 is final: the protocol
    changes."""

    __slots__ = ("_buffer", "_room", "fault", "raw", "reason", "status")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._room: int = MAX_HEAD
        self.fault: str | None = None
        """What is wrong with the response, in words that an error puts behind "its answer ". Nothing is read after
        it."""
        self.status = 0
        """The status of the response whose head is complete; 0 before."""
        self.reason = ""
        """The reason phrase of that response, escaped and cut, so that an error may show it."""
        self.raw = b""
        """The head of that response, with the empty line at its end."""

    def receive(self, data: bytes) -> bytes | None:
        """The bytes behind the head, once it is complete; until then, and with a ``fault``, None."""
        while self.fault is None:
            buffer = self._buffer
            unsearched = max(0, len(buffer) - 3)  # the empty line may have begun with the last three bytes
            taken = self._room - len(buffer)
            buffer += data[:taken]
            found = buffer.find(b"\r\n\r\n", unsearched)
            if found < 0:
                self._check_beginning()
                return None
            end = found + 4
            rest = data[min(taken, len(data)) - (len(buffer) - end) :]
            self.fault = self._parse(bytes(buffer[:end]))
            if self.fault is None and (self.status >= 200 or self.status == 101):
                return rest
            # Interim responses use up the room of the final one: otherwise a peer could send them without end.
            self._room -= end
            buffer.clear()
            data = rest
        return None

    def _check_beginning(self) -> None:
        """Find out early that it is no HTTP, or too long: such a peer may never send the empty line that ends a
        head."""
        buffer = self._buffer
        if not buffer.startswith(_PROTOCOL[: len(buffer)]):
            self.fault = "is not HTTP"
        elif len(buffer) >= self._room:
            self.fault = f"has more than {MAX_HEAD} bytes of headers"

    def _parse(self, head: bytes) -> str | None:
        """Returns what is wrong with it."""
        status_line, *fields = head[:-4].split(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        if status is None:
            return "is not HTTP"
        if not all(map(_FIELD_LINE.fullmatch, fields)):
            return "has a malformed header"
        self.raw = head
        self.status = int(status[1])
        self.reason = ascii((status[2] or b"").decode("latin-1").strip()[:_SHOWN])[1:-1]
        return None
