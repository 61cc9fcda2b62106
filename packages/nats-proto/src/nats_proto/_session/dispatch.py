"""What the link gives, and to whom it goes.

The one place that takes the events of the link: messages go to the subscriptions and the inbox, PONGs to whoever waits
for them, errors of the server to the user, and what concerns the link to the life cycle. Every call that may have made
the link say something ends with `dispatch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, assert_never

from .._connection.events import InfoReceived, PongReceived, RefusalReceived
from .._interface.events import (
    AuthenticationFailed,
    ContentErrorReceived,
    LameDuckMode,
    ReconnectDelayFailed,
    Reconnecting,
    ServerErrorReceived,
    ServersDiscovered,
)
from .._wire.batch import Batch
from .._wire.frames import Message
from .link_events import HandshakeFailed, LinkDown, LinkEvent, LinkGaveUp, LinkUp
from .round_trips import LAST_TOKEN
from .subscription import MessageT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._interface.events import SessionEvent, SlowConsumer, SubscriptionClosed
    from .._wire.info import ServerInfo
    from ..errors import NATSError
    from .event_queue import EventQueue
    from .link import Link
    from .successor import Successor
    from .traffic import Traffic

__all__ = ["dispatch", "take_messages"]


class Concerned(Protocol[MessageT]):
    """The life cycle of the session, as it is known here."""

    link: Link
    traffic: Traffic[MessageT]
    events: EventQueue[SessionEvent]
    message_type: type[MessageT]
    successor: Successor[MessageT] | None

    def server_allows(self, info: ServerInfo) -> None:
        """There is a new INFO."""
        ...

    def link_up(self, up: LinkUp, now: float) -> None:
        """A handshake is done."""
        ...

    def link_down(self, down: LinkDown, now: float) -> None:
        """The connection is gone."""
        ...

    def finish(self, error: NATSError, now: float) -> None:
        """There will be no connection any more."""
        ...

    def lame_duck(self, event: LameDuckMode, now: float) -> None:
        """The server is about to leave."""
        ...

    def reconnecting(self, event: Reconnecting) -> None:
        """Another attempt is planned."""
        ...

    def drain_progress(self, now: float) -> None:
        """A drain may have what it waited for."""
        ...


def dispatch(life: Concerned[MessageT], now: float) -> bool:
    """Take what the link gives until it has no more, and do what it asks for, which may make more of it.

    True when it gave nothing but messages, and there is no successor that would have to look at them.
    """
    link, traffic, message_type = life.link, life.traffic, life.message_type
    only_messages = life.successor is None
    more = True
    while more:
        more = False
        # Looked up for each list: the event that ended the last one may have begun or ended a handover.
        handover = None if life.successor is None else life.successor.overlap
        deliver = traffic.subs.deliver if handover is None else handover.deliver
        inbox_sid = traffic.inbox.sid
        for event in link.events_received(now=now):
            if isinstance(event, message_type):
                # During a handover each reply comes twice: `Handover.deliver` does not count the copy as a stray.
                if event.sid == inbox_sid and handover is None:
                    traffic.receive_reply(event)
                elif (noteworthy := deliver(event)) is not None:
                    # Announced first, so that the user's events keep the order in which messages and reports came.
                    traffic.announce_messages()
                    life.events.add(noteworthy)
            elif isinstance(event, Batch):
                if handover is None:
                    _take_batch(life, event)
                else:
                    _take_each(life, event.messages, deliver)
            else:
                # Messages never make the link say more, so a list that holds nothing else is the last one.
                more = True
                only_messages = False
                traffic.announce_messages()
                _take_control(life, event, now)
    if life.successor is not None and life.successor.overlap is not None:
        life.successor.check_overlap(now)
    if link.migrating and link.migrate(quiet=traffic.quiet, now=now):
        # To leave the server makes a `LinkDown`, which is taken here. A lost link is not migrating, so the second turn
        # is the last.
        dispatch(life, now)
    return only_messages


def take_messages(life: Concerned[MessageT], messages: Message | Batch) -> None:
    """Messages that the link has given at once, and not among its events. There is no successor, and no lame duck."""
    if isinstance(messages, Batch):
        _take_batch(life, messages)
        return
    traffic = life.traffic
    if messages.sid == traffic.inbox.sid:
        traffic.receive_reply(messages)  # type: ignore[arg-type]  # the parser makes no others
        return
    noteworthy = traffic.subs.deliver(messages)  # type: ignore[arg-type]  # as above
    if noteworthy is not None:
        traffic.announce_messages()
        life.events.add(noteworthy)


def _take_batch(life: Concerned[MessageT], batch: Batch) -> None:
    traffic = life.traffic
    inbox_sid = traffic.inbox.sid
    if traffic.order_matters:
        for message in batch.messages:
            if message.sid == inbox_sid:
                traffic.receive_reply(message)  # type: ignore[arg-type]  # as below
            else:
                _take_each(life, [message], traffic.subs.deliver)
        return
    for sid, messages, _, _ in traffic.subs.put_batch(batch, inbox_sid):
        if sid == inbox_sid:
            traffic.take_counted_replies(messages)
        else:
            _take_each(life, messages, traffic.subs.put)


def _take_each(
    life: Concerned[MessageT],
    messages: Sequence[Message],
    deliver: Callable[[MessageT], SlowConsumer | SubscriptionClosed | None],
) -> None:
    """Messages that may each be another case."""
    for message in messages:
        noteworthy = deliver(message)  # type: ignore[arg-type]  # the parser makes no others
        if noteworthy is not None:
            life.traffic.announce_messages()
            life.events.add(noteworthy)


def _take_control(life: Concerned[MessageT], event: LinkEvent, now: float) -> None:
    """Anything but a message. What ends a list of the link may make the life cycle call the link."""
    match event:
        case PongReceived(token=token) if token == LAST_TOKEN:
            if life.successor is not None:
                life.successor.old_said_all(now)
        case PongReceived():
            life.traffic.receive_pong(event, now)
            life.drain_progress(now)
        case RefusalReceived():
            life.events.add(event.plain)
            life.traffic.refuse(event)
        case (
            ServerErrorReceived()
            | ContentErrorReceived()
            | AuthenticationFailed()
            | ServersDiscovered()
            | ReconnectDelayFailed()
        ):
            life.events.add(event)
        case InfoReceived(info=info):
            life.server_allows(info)
        case HandshakeFailed():
            life.traffic.outbox.abandon()
        case LinkUp():
            life.link_up(event, now)
        case LinkDown():
            life.link_down(event, now)
        case LinkGaveUp(error=error):
            life.finish(error, now)
        case LameDuckMode():
            life.lame_duck(event, now)
        case Reconnecting():
            life.reconnecting(event)
        case Message() | Batch():
            pass  # a message of another type than this session's: the parser makes none
        case _:
            assert_never(event)
