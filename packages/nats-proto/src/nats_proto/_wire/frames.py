"""What the parser gives: one value for each operation of the protocol.

Structs instead of dataclasses because one is built for every message received; ``gc=False`` because they hold nothing
but text, bytes and numbers, and a queue of a hundred thousand of them would otherwise be walked by every collection.
They are immutable by convention only.
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
    """What `headers` and `status` remember once they were read. Not part of the message's identity."""

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
        return msgspec.structs.replace(self, parsed=None)  # what else it has is immutable, or no part of it

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

    __hash__ = None  # type: ignore[assignment]  # equal by value and mutable: a message is no key


class InfoFrame(msgspec.Struct, gc=False):
    """``INFO``. ``info`` is None, and ``error`` set, when the JSON cannot be used: a content fault, no framing one."""

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

# There is nothing in them, so one of each is enough.
PING_FRAME: Final = PingFrame()
PONG_FRAME: Final = PongFrame()
OK_FRAME: Final = OkFrame()

MIN_HEADER_BLOCK: Final = 1
"""Bytes of the shortest header block that the fast paths take. An empty one is left to the strict path: for them a
message with nothing in front of its payload has no block. Whatever else is in a block is nobody's business who only
reads the stream: a server passes on any bytes."""
