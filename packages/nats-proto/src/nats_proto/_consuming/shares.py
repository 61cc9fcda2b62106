"""When the acknowledgements of what a reader has taken are written, while it still finds messages at hand.

Theory of operation
-------------------
What is published while nobody waits is gathered, and written when the program waits for something. A program that
acknowledges each message as it takes it would so write the acknowledgements of all that has come at once, at the end:
meanwhile the server has nothing to do, and afterwards the program waits for the server. Therefore a reader takes its
messages in shares. After each the acknowledgements of that share are written, and the server works at them while the
program handles the next one.

Whoever reads without end does so only when all that was asked for is here: a server works at the deliveries of a
consumer and at its acknowledgements under one lock, and each of them holds up the other. As long as messages are on
their way, what is gathered waits for the next request, or until the reader waits, as before. One batch is another
thing. Behind its last message the server has nothing to do before the next request, which it takes when it is done with
the acknowledgements before it: what it has done by then is not waited for.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Final, Protocol

__all__ = ["SHARE", "Account", "writes_now"]

SHARE: Final = 128
"""Messages. A write costs about as much as ten of them; with half as many a program does more, and gains nothing."""


class Account(Protocol):
    """What is needed here of `Deliveries`."""

    @property
    def budget(self) -> int:
        """Messages of the share that are left."""
        ...

    @property
    def messages(self) -> int:
        """Outstanding messages: asked for, and not taken yet."""
        ...

    @property
    def queue(self) -> Sized | None:
        """Where they come; None while the driver is used."""
        ...


def writes_now(account: Account, *, one_batch: bool = False) -> bool:
    """Whether a share was taken; where it is not of ``one_batch``, also that all that was asked for has come."""
    queue = account.queue
    return account.budget < 1 and queue is not None and (one_batch or account.messages <= len(queue))
