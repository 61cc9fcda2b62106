"""The subscriptions of a session: who gets a message, what a new connection must be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Generic
from weakref import WeakSet

from .._interface.events import MessagesAvailable, SlowConsumer, SubscriptionClosed
from .._wire.batch import Batch, Share
from .._wire.encoder import Encoder
from .._wire.frames import Message
from .._wire.subjects import subject_matches
from ..errors import NATSError, PermissionsError
from .askers import Askers, Asks
from .hand_back import HandBack
from .marks import Mark, PublishDropped, PublishRefused
from .subscription import NO_QUEUE, MessageT, SubscriptionState, SubscriptionStatus

__all__ = ["SubscriptionTable"]

MANY_STRETCHES: Final = 8
"""Stretches of messages of one size that a subscription keeps before those that were read are taken off. To take them
off each time would be a call more for each subscription that got something in a chunk."""

MAX_REFUSALS: Final = 10_000
"""Marks in a queue beyond which it is told of no further refusal: a server may refuse as often as it likes, and nobody
may be reading. What is not told then ends by its time."""


class SubscriptionTable(Generic[MessageT]):
    """Subscriptions by sid, in sid order. Sids count up for the life of the session, also across reconnects."""

    __slots__ = (
        "_askers",
        "_by_sid",
        "_closed",
        "_placeholder",
        "_ready",
        "dropped_msgs",
        "dropped_unknown_sid",
        "hand_back",
        "in_bytes",
        "in_msgs",
        "next_sid",
    )

    def __init__(self, placeholder: MessageT) -> None:
        """``placeholder``: the message without a subject that stands for a mark in a queue."""
        self._placeholder = placeholder
        self._by_sid: dict[int, SubscriptionState[MessageT]] = {}
        self._askers: Askers[MessageT] = Askers()
        self._closed: WeakSet[SubscriptionState[MessageT]] = WeakSet()
        """Closed with messages unread: kept by whoever may still read them, a drain waits for those."""
        self.next_sid = 1
        self._ready: dict[int, None] = {}
        """The sids of those that got something since `ready` was called last, in the order of their first messages."""
        self.in_msgs = 0
        self.in_bytes = 0
        self.dropped_msgs = 0
        self.dropped_unknown_sid = 0
        self.hand_back = HandBack()

    def __iter__(self) -> Iterator[SubscriptionState[MessageT]]:
        # A copy: whoever goes through the subscriptions may close some of them on the way.
        return iter(list(self._by_sid.values()))

    def __len__(self) -> int:
        return len(self._by_sid)

    def __contains__(self, sub: SubscriptionState[MessageT]) -> bool:
        return self._by_sid.get(sub.sid) is sub

    def get(self, sid: int) -> SubscriptionState[MessageT] | None:
        """The subscription with this number, unless it has closed."""
        return self._by_sid.get(sid)

    def add(
        self,
        subject: str,
        *,
        queue: str | None = None,
        max_msgs: int | None = None,
        max_pending_msgs: int = 0,
        max_pending_bytes: int = 0,
        wants_marks: bool = False,
        hand_back: bytes | None = None,
        asks: Asks | None = None,
    ) -> SubscriptionState[MessageT]:
        """A new subscription with the next sid."""
        sub: SubscriptionState[MessageT] = SubscriptionState(
            sid=self.next_sid,
            subject=subject,
            queue=queue,
            max_msgs=max_msgs,
            max_pending_msgs=max_pending_msgs,
            max_pending_bytes=max_pending_bytes,
            wants_marks=wants_marks,
            hand_back=hand_back,
        )
        self.next_sid += 1
        self._by_sid[sub.sid] = sub
        if asks is not None:
            self._askers.add(sub, asks)
        return sub

    def close(self, sub: SubscriptionState[MessageT], error: NATSError | None = None) -> SubscriptionClosed | None:
        """The subscription takes no more messages. None when it had closed before."""
        self._by_sid.pop(sub.sid, None)
        self._askers.remove(sub)
        if sub.closed:
            return None
        sub.status = SubscriptionStatus.CLOSED
        sub.error = error
        if not sub.finished:
            self._closed.add(sub)
        return SubscriptionClosed(sub.sid, error)

    def unfinished(self) -> list[SubscriptionState[MessageT]]:
        """Those that are closed, and somebody can still read what is in their queues or does so now."""
        return sorted((sub for sub in self._closed if not sub.finished), key=lambda sub: sub.sid)

    def deliver(self, message: MessageT) -> SlowConsumer | SubscriptionClosed | None:
        """Put a message into its subscription's queue, or drop it, and count it."""
        self.in_msgs += 1
        self.in_bytes += len(message.data)
        return self.put(message)

    def put(self, message: MessageT) -> SlowConsumer | SubscriptionClosed | None:
        """`deliver`, for a message that was counted with its batch."""
        sub = self._by_sid.get(message.sid)
        if sub is None:
            self._drop_unknown(message.sid, (message,))
            return None
        size = len(message.data)
        if message.header_block is not None:
            size += len(message.header_block)
        # Also for one that is dropped below: the server counts it towards the maximum.
        sub.received += 1
        event: SlowConsumer | SubscriptionClosed | None = None
        # This quick look may count too much (marks, or what was read meanwhile), so `fits` has the last word.
        if (
            len(sub.messages) >= sub.max_pending_msgs > 0 or sub.queued_bytes + size > sub.max_pending_bytes > 0
        ) and not sub.fits(1, size):
            event = self._drop(sub)
        else:
            sub.slow = False
            self._ready[sub.sid] = None
            if sub.messages is NO_QUEUE:
                sub.open_queue()
            sub.messages.append(message)
            sub.queued_msgs += 1
            sub.queued_bytes += size
            sub.sizes.append((1, size))
            if len(sub.sizes) > MANY_STRETCHES:
                sub.count_taken()
        if sub.max_msgs is not None and sub.received >= sub.max_msgs:
            # The end outranks the slow consumer report: the drop is in its counts, the end is seen only here.
            return self.close(sub) or event
        return event

    def put_batch(self, batch: Batch, apart: int | None) -> list[Share]:
        """Count a batch, and put each share into its subscription's queue.

        Returns the shares of which nothing was taken: that of the sid ``apart``, and those for whose messages `put` may
        decide differently. This runs once for each subscription that got something in a chunk, which may be once for
        each message. So what `put` does for a message is written out here for a share, with no call that can be saved.
        """
        self.in_msgs += len(batch.messages)
        self.in_bytes += batch.data_bytes
        left: list[Share] = []
        get = self._by_sid.get
        ready = self._ready
        for share in batch.shares:
            sid, messages, size, sizes = share
            sub = get(sid)
            if sub is None:
                self._drop_unknown(sid, messages)
                continue
            queue = sub.messages
            count = len(messages)
            if (
                sub.max_msgs is not None
                or sid == apart
                or (
                    (
                        len(queue) + count > sub.max_pending_msgs > 0
                        or sub.queued_bytes + size > sub.max_pending_bytes > 0
                    )
                    and not sub.fits(count, size)
                )
            ):
                left.append(share)
                continue
            if queue is NO_QUEUE:
                sub.open_queue()
                queue = sub.messages
            sub.received += count
            sub.slow = False
            queue.extend(messages)  # type: ignore[arg-type]  # the parser makes them of the session's type
            sub.queued_msgs += count
            sub.queued_bytes += size
            stretches = sub.sizes
            if isinstance(sizes, tuple):
                stretches.append(sizes)
            else:
                stretches.extend(sizes)
            if len(stretches) > MANY_STRETCHES:
                sub.count_taken()
            ready[sid] = None
        return left

    def count(self, message: MessageT) -> None:
        """Count a message, wherever it goes."""
        self.in_msgs += 1
        self.in_bytes += len(message.data)

    def mark(self, sub: SubscriptionState[MessageT], mark: Mark) -> None:
        """Put a mark behind the messages of this subscription, unless it has closed: then nobody waits for more."""
        if sub.closed:
            return
        self._ready[sub.sid] = None
        if sub.messages is NO_QUEUE:
            sub.open_queue()
        sub.add_mark(mark, self._placeholder)

    def mark_all(self, mark: Mark) -> None:
        """Put a mark behind the messages of every subscription that asked for such, unless it is the last there."""
        for sub in self._by_sid.values():
            if sub.wants_marks and not sub.ends_with(mark):
                self.mark(sub, mark)

    def publish_dropped(self, reply: str, error: NATSError) -> None:
        """Tell those of a dropped publish who asked for marks and would get its answer."""
        for sub in self._by_sid.values():
            if sub.wants_marks and subject_matches(sub.subject, reply):
                self.mark(sub, PublishDropped(reply, error))

    def askers(self, subject: str) -> list[tuple[SubscriptionState[MessageT], int]]:
        """Those whose readers may have published to ``subject``, each with the number of its last publish."""
        return self._askers.of(subject)

    def publish_refused(self, sub: SubscriptionState[MessageT], refused: PublishRefused) -> None:
        """Tell the reader of this subscription what the server has refused."""
        if sub.unread_marks < MAX_REFUSALS:
            self.mark(sub, refused)

    def _drop_unknown(self, sid: int, messages: Sequence[Message]) -> None:
        if not self.hand_back.late(sid, messages):
            self.dropped_unknown_sid += len(messages)

    def _drop(self, sub: SubscriptionState[MessageT]) -> SlowConsumer | None:
        sub.dropped += 1
        self.dropped_msgs += 1
        if sub.slow:
            return None
        sub.slow = True
        return SlowConsumer(
            subject=sub.subject,
            sid=sub.sid,
            pending_msgs=sub.pending_msgs,
            pending_bytes=sub.pending_bytes,
            dropped=sub.dropped,
        )

    def ready(self) -> MessagesAvailable | None:
        """One event for the subscriptions that got messages since the last call, if there are any."""
        if not self._ready:
            return None
        available = MessagesAvailable(tuple(self._ready))
        self._ready.clear()
        return available

    def restore(self, encoder: Encoder) -> list[bytes]:
        """What tells a new connection about every subscription: SUB, and what remains of a maximum."""
        operations: list[bytes] = []
        for sub in self._by_sid.values():
            sub.denied = None
            sub.received_before = sub.received
            operations.append(encoder.subscribe(sub.subject, sub.queue, sub.sid))
            if sub.connection_max is not None:
                operations.append(encoder.unsubscribe(sub.sid, sub.connection_max))
        return operations

    def deny(self, error: PermissionsError, subject: str, queue: str | None) -> MessagesAvailable | None:
        """The server refused a subscription: mark those it means, and wake who waits for their messages."""
        # Where servers tell the number, older ones do not tell the queue.
        same = [sub for sub in self if sub.subject == subject]
        denied = [sub for sub in same if (sub.queue == queue if error.sid is None else sub.sid == error.sid)]
        for sub in denied:
            sub.denied = error
        return MessagesAvailable(tuple([sub.sid for sub in denied])) if denied else None
