"""A session that stands for another one which must not be called any more: after a defect in it, or after a fork."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .._interface.options import ConnectOptions
from .session import Session
from .subscription import MessageT

if TYPE_CHECKING:
    import random

__all__ = ["ended_session"]


def ended_session(
    options: ConnectOptions, *, rng: random.Random, message_type: type[MessageT], defect: BaseException | None = None
) -> Session[MessageT]:
    """One that has failed by ``defect``, or was closed by its user, and has told all of that.

    So every call of it answers as one of a client does that has ended, and nothing waits to be done for it.
    """
    session = Session(options, "nats://127.0.0.1", rng=rng, message_type=message_type)
    # Whoever asks for this session has nothing else left. What was broken in another one may be broken in this one too.
    if defect is not None:
        with suppress(BaseException):
            session.fail(defect, now=0.0)
    with suppress(BaseException):
        session.close(now=0.0)  # does nothing when it has failed
    with suppress(BaseException):
        session.events_received()
        session.commands_to_run()
    return session
