"""What a lying server may say, as marks at byte offsets: what each byte of it must do to a session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from nats_proto import ErrFrame, Frame, InfoFrame, Message, OkFrame, Parser, PingFrame, PongFrame, Role
from tests.faults.hostile_inputs import ROWS, Moment, Row

__all__ = ["KEPT_ERRORS", "LETHAL_ERRORS", "Lie", "Mark", "lies"]

LARGEST: Final = 2048
"""Bytes. Larger rows are for the tests of the bare core; here they would only take time."""

KEPT_ERRORS: Final = (
    'Permissions Violation for Publish to "deny.me"',
    'Permissions Violation for Subscription to "a.*"',
    'Permissions Violation for Subscription to "q.work" using queue "workers"',
    "maximum subscriptions exceeded",
    "Invalid Subject",
    "Invalid Publish Subject",
    "Some text nobody knows",
)
"""What a server says and keeps the connection."""

LETHAL_ERRORS: Final = (
    "Stale Connection",
    "maximum connections exceeded",
    "maximum account active connections exceeded",
    "Connection throttling is active. Please try again later.",
    "Authentication Timeout",
    "Failed Account Registration",
    "Maximum Payload Violation",
    "maximum control line exceeded",
    "Unknown Protocol Operation",
    "message headers not supported",
)
"""What a server says before it closes; any server may be tried next."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What has happened once the session was given the byte at ``offset``.

    ``kind``: "msg", "pong", "ping", "err", "info" or "end": the connection must be gone.
    """

    offset: int
    kind: str
    sid: int = 0
    subject: str = ""
    data: bytes = b""
    header_block: bytes | None = None
    allows: tuple[int, bool] | None = None
    """Of an INFO that can be used: ``max_payload`` and ``headers``."""


@dataclass(frozen=True, slots=True)
class Lie:
    """Bytes and their marks, offsets counted from the first of them."""

    name: str
    data: bytes
    marks: tuple[Mark, ...]
    eof: bool


@cache
def lies(moment: Moment) -> tuple[Lie, ...]:
    """Those for this moment."""
    return tuple(_lie(row) for row in ROWS if row.moment is moment and _usable(row))


def _usable(row: Row) -> bool:
    return not row.options and not callable(row.data) and len(row.data) <= LARGEST


def _lie(row: Row) -> Lie:
    data = row.bytes()
    parser = Parser(Role.CLIENT)
    marks: list[Mark] = []
    for index in range(len(data)):
        marks += (_mark(frame, index + 1) for frame in parser.receive_data(data[index : index + 1]))
        if parser.error is not None:
            marks.append(Mark(index + 1, "end"))
            break
    if row.ends is not None and not row.eof and parser.error is None:
        if marks[-1].kind == "err":
            marks.append(Mark(marks[-1].offset, "end"))
        else:
            marks[-1] = Mark(marks[-1].offset, "end")
    return Lie(row.id, data, tuple(marks), row.eof)


def _mark(frame: Frame, offset: int) -> Mark:
    match frame:
        case Message(sid=sid, subject=subject, data=data, header_block=block):
            return Mark(offset, "msg", sid, subject, data, block)
        case PongFrame():
            return Mark(offset, "pong")
        case PingFrame():
            return Mark(offset, "ping")
        case ErrFrame(message=text):
            return Mark(offset, "err", subject=text)
        case InfoFrame(info=info):
            return Mark(offset, "info", allows=None if info is None else (info.payload_limit, info.headers))
        case OkFrame():
            return Mark(offset, "ok")
        case _:
            raise TypeError(f"a server does not send {frame!r}")
