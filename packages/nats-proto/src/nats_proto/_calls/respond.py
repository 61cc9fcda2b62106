"""Why a message cannot be answered."""

from __future__ import annotations

from .._wire.frames import Message
from ..errors import NoReplySubjectError

__all__ = ["cannot_respond"]


def cannot_respond(message: Message) -> NoReplySubjectError:
    """For a message that has no reply subject; or that has one, but no client that could publish to it."""
    if message.reply is None:
        return NoReplySubjectError(f"respond: the message on {message.subject!r} came without a reply subject")
    return NoReplySubjectError(
        f"respond: the message on {message.subject!r} has no client, since it was unpickled or made by hand: "
        "publish to its reply subject instead"
    )
