"""Looks whether a publish that was not acknowledged has been stored all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._calls.operation import Operation
from .._jetstream.pub_ack import PubAck
from .._jetstream.stream_calls import get_last_msg, stream_name_by_subject
from .headers import message_id

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .publish import FindStored

__all__ = ["stored_by"]


def stored_by(api: JetStreamApi) -> FindStored:
    """Asks the leader for the last message of a subject, and takes it for the publish if it has its id."""

    def find(subject: str, identity: str) -> Operation[PubAck | None]:
        stream = yield from stream_name_by_subject(api, subject, timeout=None)
        stored = yield from get_last_msg(api, stream, subject, direct=False, timeout=None)
        if message_id(stored.headers) != identity:
            return None
        return PubAck(stream=stream, sequence=stored.sequence, duplicate=True, domain=api.domain)

    return find
