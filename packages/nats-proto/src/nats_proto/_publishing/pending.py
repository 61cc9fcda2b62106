"""One publish of a window: what was sent, and what has come of it."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from .._jetstream.pub_ack import PubAck
from .._wire.frames import Payload
from .._wire.headers import Headers
from .._wire.in_flight import ReplySlot
from ..errors import NATSError

__all__ = ["Pending"]

OwnerT = TypeVar("OwnerT")


class Pending(msgspec.Struct, Generic[OwnerT], eq=False):
    """A publish that was begun. It ends with an acknowledgement or with an error, never with both."""

    subject: str
    data: Payload
    """Kept until it has ended, for another try."""
    headers: Headers | None
    reply: str
    """Where its acknowledgement comes: to be published with it."""
    number: int
    """It is the so manieth of its window, counted from 1."""
    begun: float
    """When it was begun (absolute seconds)."""
    sent: float
    """When the present try was."""
    deadline: float
    """When something is due: the end of the present try, or the beginning of the next."""
    publisher: OwnerT | None
    """The client's publisher, which waits for it."""
    slot: ReplySlot | None = None
    """Its reply subject, if that may be used again. The window's own."""
    pub_ack: PubAck | None = None
    """What the stream has said. None until then, and when it has failed."""
    error: NATSError | None = None
    """Why it has failed; ``error.outcome`` says whether it may be stored all the same."""
    observed: bool = False
    """Somebody was told of its error, by `PublishWindow.observe`."""
    # What follows is the window's own.
    tries: int = 1
    resting: bool = False
    """It waits for its next try."""
    refused: bool = False
    """The present try has its answer: what still comes to its reply subject means nothing."""
    unknown: bool = False
    """An earlier try may be stored."""
    excused: bool = False
    """The present try was given some more time, since nobody had looked when its time was up."""
    last: NATSError | None = None
    """Why its last try has failed, while it waits for the next."""
    foreign: bytes | None = None
    """How an answer began that was no acknowledgement."""

    @property
    def done(self) -> bool:
        """It has ended."""
        return self.pub_ack is not None or self.error is not None
