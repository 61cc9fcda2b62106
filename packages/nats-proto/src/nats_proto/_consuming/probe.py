"""Whether a reader may ask a consumer for messages at all.

A request for messages is published, and has no answer of its own: the server that refuses to take it tells the client,
and not who waits for messages. A call is told. So a reader that hears nothing sends, as a call, a request that cannot
be understood. A server that takes it refuses it, and does nothing else; what is of interest is that it may be sent.
"""

from __future__ import annotations

from .._calls.operation import ApiCall
from .._wire.frames import Message

__all__ = ["probe"]

NONSENSE = b"?"


def probe(what: str, subject: str) -> ApiCall[object]:
    """``subject``: where messages are asked for. Fails with `PermissionsError` when that is not permitted."""
    return ApiCall(what, subject, NONSENSE, _answered)


def _answered(message: Message) -> object:
    return None
