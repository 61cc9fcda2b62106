"""Marks: what the session tells a subscription's reader in the midst of its messages, at their place in the order.

A subscription that asked for marks (``Session.subscribe(..., marks=True)``) finds each in its queue as a message whose
subject is empty, which no server can send: the parser refuses a message without a subject. Who takes such a message
takes the mark that it stands for with `SubscriptionState.take_mark`. So reading a queue costs nothing more where nobody
asked for marks, a mark wakes whoever waits as a message does, and nobody outside can make one.
"""

from __future__ import annotations

from .._interface.events import ReplyReceived, RequestFailed
from .._value import Value
from ..errors import NATSError, PermissionsError

__all__ = ["CaughtUp", "ConnectionReplaced", "Mark", "PublishDropped", "PublishRefused"]


class ConnectionReplaced(Value, frozen=True):
    """The session has another connection than before: what was asked of the old one may be lost with it.

    What the queue holds before the mark came by the old connection, what it holds behind the mark comes by the new one.
    The subscription itself was made again, with the same sid.
    """


class CaughtUp(Value, frozen=True):
    """All has come that the server had sent before it read what ``Session.catch_up`` has asked with this number.

    Where there was no connection, or it has ended meanwhile, a `ConnectionReplaced` comes instead.
    """

    number: int


class PublishDropped(Value, frozen=True):
    """A publish whose answer would come to this subscription was taken, and given up before it was handed over.

    The connected server would refuse it (``error``), as the event `PublishesDropped` says of all such. It is certain
    that nobody got it. ``reply``: its reply subject.
    """

    reply: str
    error: NATSError


class PublishRefused(Value, frozen=True):
    """The server has refused so many publishes to ``subject``, to which the reader of this subscription publishes.

    They are among those up to number ``until``, of which no more were refused; a reader that publishes to one subject
    alone has given no numbers, and ``until`` is 0. Which ones they are nobody knows, and what the server has taken
    before may still be answered. What it has refused nobody got. ``error`` is what it has said with the first of them.
    """

    subject: str
    error: PermissionsError
    count: int = 1
    until: int = 0


Mark = CaughtUp | ConnectionReplaced | PublishDropped | PublishRefused | ReplyReceived | RequestFailed
"""The last two end a request that was made with ``Session.request(..., into=subscription)``."""
