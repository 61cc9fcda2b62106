"""Frames: what the parser gives, one value for each operation of the protocol.

They are structs of msgspec and no dataclasses, because one is built for every message received. ``gc=False`` keeps them
out of garbage collection, since nothing that they hold refers back to them; else every collection would walk a queue of
a hundred thousand messages. Nobody changes a frame, but nothing checks that.
"""

from __future__ import annotations

from typing import Final, Self

import msgspec

from ..errors import HeaderError
from .headers import Headers, ParsedHeaders, Status, parse_header_block
from .info import ServerInfo

__all__ = [
    "MIN_HEADER_BLOCK",
    "OK_FRAME",
    "PING_FRAME",
    "PONG_FRAME",
    "ConnectFrame",
    "ErrFrame",
    "Frame",
    "InfoFrame",
    "Message",
    "OkFrame",
    "Payload",
    "PingFrame",
    "PongFrame",
    "PublishFrame",
    "SubscribeFrame",
    "UnsubscribeFrame",
    "is_well_framed",
]


Payload = bytes | bytearray | memoryview
"""What is published: bytes, or what their owner may still change, which is copied at the call."""


class Message(msgspec.Struct, gc=False, eq=False):
    """One message as the server delivered it (``MSG`` or ``HMSG``).

    ``headers`` and ``status`` are parsed when first read and kept. A header block that is malformed never costs the
    message: ``headers`` then has the lines that were readable and ``header_error`` says what was wrong.

    A message can be copied and pickled. A pickle has what came from the server, and no client.
    """

    subject: str
    sid: int
    reply: str | None
    data: bytes
    header_block: bytes | None = None
    """The header block as received; None for a message without one. It should go from ``NATS/1.0`` to a blank line, and
    may be any bytes: servers pass on what publishers send."""
    parsed: ParsedHeaders | None = None
    """The headers and the status, from the first time that one of them was read. Two messages that differ in this alone
    are equal."""

    @property
    def headers(self) -> Headers | None:
        """The headers, or None when the message has no header block (ADR-4)."""
        return None if self.header_block is None else self._parse(self.header_block).headers

    @property
    def status(self) -> Status | None:
        """The status line's code and text (``NATS/1.0 503 …``), or None when there is none (ADR-4)."""
        return None if self.header_block is None else self._parse(self.header_block).status

    @property
    def header_error(self) -> HeaderError | None:
        """What was wrong with the header block, or None."""
        return None if self.header_block is None else self._parse(self.header_block).error

    @property
    def size(self) -> int:
        """Bytes of header block and payload together: what pending limits count."""
        return len(self.data) if self.header_block is None else len(self.data) + len(self.header_block)

    def __reduce__(self) -> tuple[type[Message], tuple[str, int, str | None, bytes, bytes | None]]:
        return type(self), (self.subject, self.sid, self.reply, self.data, self.header_block)

    def __deepcopy__(self, memo: object) -> Self:
        # The headers can be changed by their reader, so the copy parses its own. All else is immutable, or shared.
        return msgspec.structs.replace(self, parsed=None)

    def _parse(self, block: bytes) -> ParsedHeaders:
        parsed = self.parsed
        if parsed is None:
            parsed = self.parsed = parse_header_block(block)
        return parsed

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (self.subject, self.sid, self.reply, self.data, self.header_block) == (
            other.subject,
            other.sid,
            other.reply,
            other.data,
            other.header_block,
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, and can be changed: no key for a dictionary


class InfoFrame(msgspec.Struct, gc=False):
    """``INFO``. When its JSON cannot be used, ``info`` is None and ``error`` says why. The stream can be read on all
    the same, since the line was whole: what such an INFO means is decided by the connection."""

    info: ServerInfo | None
    error: str | None = None


class PingFrame(msgspec.Struct, gc=False):
    """``PING``."""


class PongFrame(msgspec.Struct, gc=False):
    """``PONG``."""


class OkFrame(msgspec.Struct, gc=False):
    """``+OK``."""


class ErrFrame(msgspec.Struct, gc=False):
    """``-ERR``: the text without its quotes, in its own case."""

    message: str


class ConnectFrame(msgspec.Struct):
    """``CONNECT``, read in the server's role."""

    options: dict[str, object]


class PublishFrame(msgspec.Struct, gc=False):
    """``PUB`` or ``HPUB``, read in the server's role."""

    subject: str
    reply: str | None
    header_block: bytes | None
    data: bytes

    @property
    def headers(self) -> Headers | None:
        """The headers, or None when there is no header block."""
        return None if self.header_block is None else parse_header_block(self.header_block).headers


class SubscribeFrame(msgspec.Struct, gc=False):
    """``SUB``, read in the server's role. The sid is what the client chose."""

    subject: str
    queue: str | None
    sid: int


class UnsubscribeFrame(msgspec.Struct, gc=False):
    """``UNSUB``, read in the server's role. ``max_msgs`` None: at once."""

    sid: int
    max_msgs: int | None


Frame = (
    InfoFrame
    | Message
    | PingFrame
    | PongFrame
    | OkFrame
    | ErrFrame
    | ConnectFrame
    | PublishFrame
    | SubscribeFrame
    | UnsubscribeFrame
)

# These three have no fields, so one object of each serves all.
PING_FRAME: Final = PingFrame()
PONG_FRAME: Final = PongFrame()
OK_FRAME: Final = OkFrame()

MIN_HEADER_BLOCK: Final = len(b"NATS/1.0\r\n\r\n")
"""Bytes of the shortest header block that is well framed."""

_VERSIONS: Final = (b"NATS/1.0\r", b"NATS/1.0 ", b"NATS/1.0\t")


def is_well_framed(block: bytes) -> bool:
    """Whether a header block begins and ends as it should. Its lines are looked at when somebody reads the headers."""
    return block.startswith(_VERSIONS) and block.endswith(b"\r\n\r\n")
