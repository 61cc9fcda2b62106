"""The one driver of every machine, of every operation and of every API call, for whoever waits: here, a thread.

What a machine is, and the law by which it is driven, is told in `nats_proto._calls.machine`. Nothing here runs while
nobody waits, and nothing here decides anything about a protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, TypeVar, assert_never

from nats_proto import (
    ApiCall,
    Ask,
    CatchUp,
    Conductor,
    HeadersLike,
    Machine,
    Mark,
    Message,
    Operation,
    Pause,
    Payload,
    Publish,
    Request,
    Subscribe,
    accelerated,
)
from nats_proto.errors import NATSTimeoutError, OutboundBufferLimitError, SubscriptionClosedError

if TYPE_CHECKING:
    from nats_proto._wire.deliveries import Deliveries

__all__ = ["Driver", "Host", "Inbox", "call", "run"]

AT_ONCE: Final = 0.0
"""The deadline of what is not to wait: a time that has passed."""
LARGE: Final = 64 * 1024
"""Bytes of a payload from which on to write it takes longer than to wake the writer's thread for it."""

T = TypeVar("T")
ItemT = TypeVar("ItemT")
MessageT = TypeVar("MessageT", bound=Message)
MessageOut = TypeVar("MessageOut", bound=Message, covariant=True)


class ReceiveAll(Protocol[MessageT]):
    """Of a machine that takes many messages at once."""

    def __call__(self, arrived: deque[MessageT], marked: Callable[[], None], *, now: float) -> None:
        """They are taken out of ``arrived``; ``marked`` is called for each message without a subject, in its place."""
        ...


class Inbox(Protocol[MessageOut]):
    """The subscription of a machine."""

    def take(self) -> MessageOut | None:
        """The next message, if there is one."""
        ...

    @property
    def unread(self) -> deque[Any]:
        """Where its messages come. Who takes them there leaves the last one."""
        ...

    def take_all(self, into: Callable[[Iterable[MessageOut]], object]) -> None:
        """Put all there are into what this extends, without their client: they are for a machine alone."""
        ...

    def next_until(self, deadline: float | None) -> MessageOut | None:
        """The next message, or None at the deadline (absolute)."""
        ...

    def wait_until(self, deadline: float | None) -> bool:
        """Wait for a message, and leave it where it is; False when there was none at the deadline (absolute)."""
        ...

    def take_mark(self) -> Mark:
        """What the message without a subject stands for that was just given."""
        ...

    def arrivals(self) -> tuple[int, int]:
        """How many of its messages were taken, and how many have come."""
        ...

    def ask(self, api: ApiCall[object], deadline: float | None) -> int | None:
        """Send the request of a call whose answer comes into this queue: its token; None when there was no room."""
        ...

    def catch_up(self, number: int) -> None:
        """Have a mark put behind all that the server has sent until it reads this."""
        ...

    def unsubscribe(self) -> None:
        """End it."""
        ...

    def poke(self) -> None:
        """From any thread: who waits in `next_until` gets None at once, or else who waits next does."""
        ...


class Host(Protocol[MessageOut]):
    """The client, as far as a driver needs it."""

    def open_inbox(self, subscribe: Subscribe) -> Inbox[MessageOut]:
        """A subscription that gets marks."""
        ...

    def publish_now(
        self,
        subject: str,
        data: Payload,
        *,
        reply: str | None,
        headers: HeadersLike | None,
        deadline: float | None,
        aside: bool = False,
    ) -> bool:
        """Publish; False when there was no room until the deadline. ``aside``: another thread writes it."""
        ...

    def cancel(self, token: int) -> None:
        """Nobody waits for the answer to this request any more."""
        ...

    def request(
        self,
        subject: str,
        data: Payload,
        *,
        timeout: float,
        headers: HeadersLike | None,
        accept: Callable[[Message], bool] | None,
    ) -> MessageOut:
        """As users call it; an answer for which ``accept`` returns False is skipped."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait; `ConnectionClosedError` as soon as the client is closed."""
        ...

    def unsent(self, operation: str, seconds: float) -> NATSTimeoutError:
        """The error for what found no room in the outgoing buffer for so many seconds."""
        ...


class Driver(Generic[MessageT, ItemT]):
    """Runs one machine while somebody waits for its items. For one thread at a time, but for `stop`.

    ``before_wait`` is called by whoever waits, each time before there is nothing left to do but to wait.
    """

    def __init__(
        self,
        host: Host[MessageT],
        machine: Machine[MessageT, ItemT],
        before_wait: Callable[[], None] | None = None,
    ) -> None:
        self._host = host
        self._machine = machine
        self._before_wait = before_wait
        self._conductor: Conductor[MessageT, ItemT] = Conductor(machine)
        self._inbox: Inbox[MessageT] | None = None
        self._arrived: deque[MessageT] = deque()
        """What `look` has taken and not given in yet: it is empty, but after an interrupt."""
        self._closed = False
        self._stopped = False
        self._began = monotonic()

    def next_until(self, deadline: float | None) -> ItemT | None:
        """The next item; None at ``deadline`` (absolute; None: never), and when the machine is done or was closed.

        Raises the error with which the machine ended, once and after all its items, and what stands in the way of what
        it wants: whatever publishing and subscribing raise, and what the subscription's end is told by.
        """
        machine = self._machine
        items = machine.items
        while True:
            # What has come is given, also when there is no room for what is to be sent.
            in_time = not machine.wants or self._do(AT_ONCE if items else deadline)
            if items:
                return items.popleft()
            if not in_time:
                return None
            if machine.done:
                self._end()
                return None
            inbox = self._inbox
            if inbox is None:
                return None  # it was closed: the first that a machine wants is a subscription
            message = inbox.take()
            if message is None:
                if self._before_wait is not None:
                    self._before_wait()
                try:
                    message = inbox.next_until(self._conductor.next_timeout(deadline))
                except SubscriptionClosedError:
                    if not self._stopped:
                        raise
                    self.close()
                    return None
                if message is None:
                    now = monotonic()
                    self._handle_timeout(now)
                    # The time-out itself may have made the machine give an item, which is not held back.
                    if deadline is not None and now >= deadline and not items:
                        return None
                    continue
            if message.subject:
                machine.receive(message, now=monotonic())
                if items and not machine.wants:
                    return items.popleft()  # nearly always
            else:
                self._conductor.marked(inbox.take_mark(), now=monotonic())

    def look(self, receive_all: ReceiveAll[MessageT], *, do: bool = False) -> None:
        """Give in what has come, many at once, and wait for nothing: ``receive_all`` is the machine's.

        ``do``: what the machine wants is done meanwhile, if there is room for it, and raises as `next_until`. What
        comes from then on is left, or a quick server could fill the memory. Without it nothing is done before the next
        call that waits.
        """
        inbox = self._inbox
        if inbox is None:
            return
        now = monotonic()
        arrived, done = self._arrived, False
        inbox.take_all(arrived.extend)
        while arrived:
            receive_all(arrived, lambda: self._conductor.marked(inbox.take_mark(), now=now), now=now)
            if do and self._machine.wants:
                self._do(AT_ONCE)
                done = True
            if not done:
                inbox.take_all(arrived.extend)

    def do_due(self) -> None:
        """Do what is due by now and what the machine wants, as far as there is room for it, and wait for nothing.

        It takes no message and gives no item. Raises as `next_until` does, except that nothing will come.
        """
        self._handle_timeout(monotonic())
        if self._machine.wants:
            self._do(AT_ONCE)

    def open_queue(self, account: Deliveries[MessageT, ItemT], most: int) -> None:
        """Until `close_queue` so many messages may be taken by the account, without the driver: by any thread, in one
        step."""
        inbox = self._inbox
        if inbox is not None and accelerated:
            account.budget = most
            account.queue = inbox.unread

    def close_queue(self, account: Deliveries[MessageT, ItemT]) -> None:
        """The driver is used again, by this thread alone."""
        account.queue = None

    def wait(self, deadline: float | None) -> None:
        """Wait until a message has come, until the machine has something to do, or until ``deadline``. Takes nothing.

        What the machine wants still after `do_due` had no room: then it is for a moment only. Raises as `next_until`
        does when nothing will come.
        """
        inbox = self._inbox
        if inbox is not None:
            inbox.wait_until(self._conductor.next_look(deadline, now=monotonic()))

    def stop(self) -> None:
        """From any thread, also while another one waits: nothing more is given, and whoever waits gets None.

        Messages that were not given are dropped, or handed back if the machine's subscription says so.
        """
        self._stopped = True
        inbox = self._inbox
        if inbox is not None:
            inbox.unsubscribe()

    def poke(self) -> None:
        """From any thread, also while another one waits: the machine looks what is due, as at a time-out.

        What is due must show in its ``next_timeout`` before this is called.
        """
        inbox = self._inbox
        if inbox is not None:
            inbox.poke()

    def close(self) -> None:
        """End the subscription, and wait for no more answers. Items that were not given are dropped."""
        self._closed = True
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.unsubscribe()
        self._conductor.resubscribed()
        self._cancel_expired()
        self._machine.wants.clear()
        self._machine.items.clear()

    def _end(self) -> None:
        error = None if self._closed else self._machine.error
        self.close()
        if error is not None:
            raise error.with_traceback(None)

    def _do(self, deadline: float | None) -> bool:
        """All that the machine wants, as far as it can be done; False when ``deadline`` came before there was room."""
        machine, conductor, host = self._machine, self._conductor, self._host
        wants = machine.wants
        while wants:
            # It leaves the queue only when it is done: what found no room until the deadline is tried again by the next
            # call.
            want = wants[0]
            now = monotonic()
            if conductor.is_late(want, now=now):
                self._handle_timeout(now)
                if wants and wants[0] is want:
                    self._fail_unsent(now)
                continue
            until = conductor.next_timeout(deadline)
            done = True
            match want:
                case Publish() | Ask():
                    try:
                        done = self._send(want, until)
                    except OutboundBufferLimitError:
                        if not conductor.may_wait_for_connection():
                            raise
                        return True
                case Subscribe():
                    inbox, self._inbox = self._inbox, None
                    if inbox is not None:
                        inbox.unsubscribe()
                        conductor.resubscribed()
                        self._cancel_expired()
                    self._inbox = host.open_inbox(want)
                    conductor.subscribed(want)
                    if want.opened is not None:
                        want.opened(self._inbox.arrivals)
                    if self._stopped:  # by another thread, and meanwhile: it has not seen this subscription
                        self._inbox.unsubscribe()
                case CatchUp(number=number):
                    assert self._inbox is not None  # as for a call
                    self._inbox.catch_up(number)
                case _:
                    assert_never(want)
            if done:
                wants.popleft()
                continue
            now = monotonic()
            self._handle_timeout(now)
            if machine.done and not machine.items:
                self._fail_unsent(now)
            if machine.items or (deadline is not None and now >= deadline):
                return False
        return True

    def _fail_unsent(self, now: float) -> NoReturn:
        """The machine has ended before what it wants was sent."""
        error = self._machine.error or self._host.unsent(self._machine.what, round(now - self._began, 3))
        self.close()
        raise error

    def _send(self, want: Publish | Ask, until: float | None) -> bool:
        """False when there was no room until then."""
        if isinstance(want, Publish):
            # Who does not wait has something else to do meanwhile, such as to hash the next bytes of an object.
            aside = until is not None and until <= AT_ONCE and len(want.data) >= LARGE
            done = self._host.publish_now(
                want.subject, want.data, reply=want.reply, headers=want.headers, deadline=until, aside=aside
            )
            if done:
                self._conductor.published()
            return done
        assert self._inbox is not None  # the first that a machine wants is a subscription
        token = self._inbox.ask(want.api, until)
        if token is not None:
            self._conductor.asked(token, want, now=monotonic())
        return token is not None

    def _handle_timeout(self, now: float) -> None:
        self._conductor.handle_timeout(now=now)
        self._cancel_expired()

    def _cancel_expired(self) -> None:
        expired = self._conductor.expired
        while expired:
            self._host.cancel(expired.pop())


def call(host: Host[MessageT], api: ApiCall[T], *, timeout: float) -> T:
    """Make one API call: its result. Raises what ``Client.request`` raises, and what the answer says."""
    return run(host, api.run(), timeout=timeout)


def run(host: Host[MessageT], operation: Operation[T], *, timeout: float) -> T:
    """Run an operation to its end: what it returns. Raises what it raises.

    ``timeout``: seconds for each request that says nothing else.
    """
    try:
        effect = next(operation)
        while True:
            try:
                answer: Message | None = None
                if isinstance(effect, Request):  # nearly always: here it saves a call
                    seconds = timeout if effect.timeout is None else effect.timeout
                    answer = host.request(
                        effect.subject, effect.data, timeout=seconds, headers=effect.headers, accept=effect.accept
                    )
                else:
                    _perform(host, effect)
            # Not a `BaseException`: a `KeyboardInterrupt` is for the caller, and an operation might survive it.
            except Exception as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        operation.close()  # also when a `KeyboardInterrupt` has ended the wait


def _perform(host: Host[MessageT], effect: Publish | Pause) -> None:
    match effect:
        case Publish(subject=subject, data=data, reply=reply, headers=headers):
            host.publish_now(subject, data, reply=reply, headers=headers, deadline=None)
        case Pause(seconds=seconds):
            host.pause(seconds)
        case _:
            assert_never(effect)
