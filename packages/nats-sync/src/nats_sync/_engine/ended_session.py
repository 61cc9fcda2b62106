"""A session that stands in the place of one that cannot be used any more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nats_proto import ConnectOptions, Message, Session

__all__ = ["ended_session"]


def ended_session(options: ConnectOptions, defect: BaseException | None) -> Session[Message]:
    """One that is closed, by a defect or by its user, and has said everything: every call raises why."""
    import random

    from nats_proto import Session

    session = Session(options, "nats://127.0.0.1", rng=random.SystemRandom())
    with contextlib.suppress(BaseException):  # what is broken may be broken in every session
        if defect is not None:
            session.fail(defect, now=0.0)
    with contextlib.suppress(BaseException):
        session.close(now=0.0)  # does nothing when it has failed
    with contextlib.suppress(BaseException):
        session.events_received()
        session.commands_to_run()
    return session
