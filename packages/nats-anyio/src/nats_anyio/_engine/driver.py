"""The one driver of every machine, of every operation and of every API call, for whoever waits: here, a task.

What a machine is, and the law by which it is driven, is told in `nats_proto._calls.machine`. Nothing here runs while
nobody waits, and nothing here decides anything about a protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
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
)
from nats_proto.errors import NATSError, NATSTimeoutError, OutboundBufferLimitError, SubscriptionClosedError

if TYPE_CHECKING:
    from nats_proto._wire.deliveries import Deliveries

__all__ = ["Driver", "Host", "Inbox", "call", "run"]

AT_ONCE: Final = 0.0
"""The deadline of what is not to wait: a time that has passed."""

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
        """Where its messages come. Who takes them there leaves the last one, and counts them."""
        ...

    @property
    def budget(self) -> int:
        """How many may be taken there before others have their turn. Who has taken some sets it."""
        ...

    @budget.setter
    def budget(self, msgs: int) -> None: ...

    def take_all(self, into: Callable[[Iterable[MessageOut]], object]) -> None:
        """Put all whose turn it is into what this extends, without their client: they are for a machine alone."""
        ...

    async def next_until(self, deadline: float | None) -> MessageOut | None:
        """The next message, or None at the deadline (absolute)."""
        ...

    async def wait_until(self, deadline: float | None) -> bool:
        """Wait for a message, and leave it where it is; False when there was none at the deadline (absolute)."""
        ...

    def take_mark(self) -> Mark:
        """What the message without a subject stands for that was just given."""
        ...

    def arrivals(self) -> tuple[int, int]:
        """How many of its messages were taken, and how many have come."""
        ...

    def ask(self, api: ApiCall[object]) -> int:
        """Send the request of a call whose answer comes into this queue: its token."""
        ...

    def catch_up(self, number: int) -> None:
        """Have a mark put behind all that the server has sent until it reads this."""
        ...

    async def unsubscribe(self) -> None:
        """End it; that cannot be cancelled."""
        ...

    def leave(self) -> None:
        """End it, and wait for nothing."""
        ...

    def poke(self) -> None:
        """Who waits in `next_until` gets None at once, or else who waits next does."""
        ...


class Host(Protocol[MessageOut]):
    """The client, as far as a driver needs it."""

    def open_inbox(self, subscribe: Subscribe) -> Inbox[MessageOut]:
        """A subscription that gets marks."""
        ...

    async def room_until(self, deadline: float | None) -> bool:
        """Wait until there is room in the outgoing buffer; False when there was none until the deadline."""
        ...

    def publish_at_once(self, subject: str, data: Payload, *, reply: str | None, headers: HeadersLike | None) -> None:
        """When there is room: publish, and write what can be written at once."""
        ...

    def cancel(self, token: int) -> None:
        """Nobody waits for the answer to this request any more."""
        ...

    async def request(
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

    async def pause(self, seconds: float) -> None:
        """Wait; `ConnectionClosedError` as soon as the client is closed."""
        ...

    def now(self) -> float:
        """The time, in seconds of the event loop."""
        ...

    def unsent(self, operation: str, seconds: float) -> NATSTimeoutError:
        """The error for what found no room in the outgoing buffer for so many seconds."""
        ...


class Driver(Generic[MessageT, ItemT]):
    """Runs one machine while somebody waits for its items. For one task at a time, but for `stop`.

    A cancelled call loses no item, and does nothing twice: what a machine wants is taken from it without an await in
    between when it is done.

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
        self._opened = 0
        """How many messages the account was allowed to take."""
        self._closed = False
        self._stopped = False
        self._now: Callable[[], float] = host.now
        self._began = host.now()

    async def next_until(self, deadline: float | None) -> ItemT | None:
        """The next item; None at ``deadline`` (absolute; None: never), and when the machine is done or was closed.

        Raises the error with which the machine ended, once and after all its items, and what stands in the way of what
        it wants: whatever publishing and subscribing raise, and what the subscription's end is told by.
        """
        machine = self._machine
        items = machine.items
        while True:
            # What has come is given, also when there is no room for what is to be sent.
            in_time = not machine.wants or await self._do(AT_ONCE if items else deadline)
            if items:
                return items.popleft()
            if not in_time:
                return None
            if machine.done:
                await self._end()
                return None
            inbox = self._inbox
            if inbox is None:
                return None  # it was closed: the first that a machine wants is a subscription
            message = inbox.take()
            if message is None:
                if self._before_wait is not None:
                    self._before_wait()
                try:
                    message = await inbox.next_until(self._conductor.next_timeout(deadline))
                except SubscriptionClosedError:
                    if not self._stopped:
                        raise
                    await self.close()
                    return None
                if message is None:
                    now = self._now()
                    self._handle_timeout(now)
                    # The timeout of a machine may have made items. They are given by the next round, although the time
                    # is up.
                    if deadline is not None and now >= deadline and not items:
                        return None
                    continue
            # No message of a server has an empty subject, since the line that announces it is split at spaces. So an
            # empty one tells a mark from a message, and costs nothing.
            if message.subject:
                machine.receive(message, now=self._now())
                if items and not machine.wants:
                    return items.popleft()  # nearly always
            else:
                self._conductor.marked(inbox.take_mark(), now=self._now())

    def look(self, receive_all: ReceiveAll[MessageT]) -> None:
        """Give in what has come, many at once, and wait for nothing: ``receive_all`` is the machine's.

        What the machine wants is left to the next call that waits.
        """
        inbox = self._inbox
        if inbox is None:
            return
        now = self._now()
        arrived = self._arrived
        inbox.take_all(arrived.extend)
        while arrived:
            receive_all(arrived, lambda: self._conductor.marked(inbox.take_mark(), now=now), now=now)
            inbox.take_all(arrived.extend)

    async def do_due(self) -> None:
        """Do what is due by now and what the machine wants, as far as there is room for it.

        It takes no message and gives no item. Raises as `next_until` does, except that nothing will come.
        """
        self._handle_timeout(self._now())
        if self._machine.wants:
            await self._do(AT_ONCE)

    def open_queue(self, account: Deliveries[MessageT, ItemT], most: int) -> None:
        """Until `close_queue` so many messages may be taken by the account, without the driver."""
        inbox = self._inbox
        if inbox is not None:
            self._opened = account.budget = min(most, inbox.budget)
            if account.budget:
                account.queue = inbox.unread

    def close_queue(self, account: Deliveries[MessageT, ItemT]) -> None:
        """The driver is used again."""
        if account.queue is not None:
            account.queue = None
            if self._inbox is not None:
                self._inbox.budget -= self._opened - account.budget

    async def wait(self, deadline: float | None) -> None:
        """Wait until a message has come, until the machine has something to do, or until ``deadline``. Takes nothing.

        What the machine wants still after `do_due` had no room: then it is for a moment only. Raises as `next_until`
        does when nothing will come.
        """
        inbox = self._inbox
        if inbox is not None:
            await inbox.wait_until(self._conductor.next_look(deadline, now=self._now()))

    def stop(self) -> None:
        """By any task, also while another one waits: nothing more is given, and whoever waits gets None.

        Messages that were not given are dropped, or handed back if the machine's subscription says so.
        """
        self._stopped = True
        if self._inbox is not None:
            self._inbox.leave()

    def poke(self) -> None:
        """Also while another task waits: the machine looks what is due, as at a time-out."""
        if self._inbox is not None:
            self._inbox.poke()

    async def close(self) -> None:
        """End the subscription, and wait for no more answers. Items that were not given are dropped."""
        inbox = self._let_go()
        if inbox is not None:
            await inbox.unsubscribe()

    def leave(self) -> None:
        """`close`, and let nobody run meanwhile: whoever holds an item cannot lose it by a cancellation here."""
        inbox = self._let_go()
        if inbox is not None:
            inbox.leave()

    def _let_go(self) -> Inbox[MessageT] | None:
        """What is still to be unsubscribed. All else has ended."""
        self._closed = True
        inbox, self._inbox = self._inbox, None
        self._machine.wants.clear()
        self._machine.items.clear()
        self._conductor.resubscribed()
        self._cancel_expired()
        return inbox

    async def _end(self) -> None:
        error = None if self._closed else self._machine.error
        if error is not None:
            await self.close()
            raise error.with_traceback(None)
        # Nobody has to run meanwhile: what was waited for has come. Who begins the next one at once, such as a program
        # that fetches batch after batch, has its request written together with this.
        self.leave()

    async def _do(self, deadline: float | None) -> bool:
        """All that the machine wants, as far as it can be done; False when ``deadline`` came before there was room."""
        machine, conductor, host = self._machine, self._conductor, self._host
        wants = machine.wants
        while wants:
            if not await host.room_until(conductor.next_timeout(deadline)):
                now = self._now()
                self._handle_timeout(now)
                if machine.done and not machine.items:
                    await self._fail_unsent(now)
                if machine.items or (deadline is not None and now >= deadline):
                    return False
                continue
            want = wants[0]
            now = self._now()
            if conductor.is_late(want, now=now):
                self._handle_timeout(now)
                if wants and wants[0] is want:
                    await self._fail_unsent(now)
                continue
            # Taken out only now that there is room: a wait for room that is cancelled must lose nothing of what is
            # wanted.
            wants.popleft()
            match want:
                case Publish() | Ask():
                    try:
                        self._send(want)
                    except OutboundBufferLimitError:
                        wants.appendleft(want)
                        if not conductor.may_wait_for_connection():
                            raise
                        return True
                    except NATSError:
                        wants.appendleft(want)  # it was not done: whose it is may want to know which one it was
                        raise
                case Subscribe():
                    before, self._inbox = self._inbox, host.open_inbox(want)
                    conductor.subscribed(want)
                    if want.opened is not None:
                        want.opened(self._inbox.arrivals)
                    if self._stopped:  # while there was no room for this
                        self._inbox.leave()
                    if before is not None:
                        conductor.resubscribed()
                        self._cancel_expired()
                        await before.unsubscribe()
                case CatchUp(number=number):
                    assert self._inbox is not None  # as for a call
                    self._inbox.catch_up(number)
                case _:
                    assert_never(want)
        return True

    async def _fail_unsent(self, now: float) -> NoReturn:
        """The machine has ended before what it wants was sent."""
        error = self._machine.error or self._host.unsent(self._machine.what, round(now - self._began, 3))
        await self.close()
        raise error

    def _send(self, want: Publish | Ask) -> None:
        """When there is room."""
        if isinstance(want, Publish):
            self._host.publish_at_once(want.subject, want.data, reply=want.reply, headers=want.headers)
            self._conductor.published()
        else:
            assert self._inbox is not None  # the first that a machine wants is a subscription
            self._conductor.asked(self._inbox.ask(want.api), want, now=self._now())

    def _handle_timeout(self, now: float) -> None:
        self._conductor.handle_timeout(now=now)
        self._cancel_expired()

    def _cancel_expired(self) -> None:
        expired = self._conductor.expired
        while expired:
            self._host.cancel(expired.pop())


async def call(host: Host[MessageT], api: ApiCall[T], *, timeout: float) -> T:
    """Make one API call: its result. Raises what ``Client.request`` raises, and what the answer says."""
    return await run(host, api.run(), timeout=timeout)


async def run(host: Host[MessageT], operation: Operation[T], *, timeout: float) -> T:
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
                    answer = await host.request(
                        effect.subject, effect.data, timeout=seconds, headers=effect.headers, accept=effect.accept
                    )
                else:
                    await _perform(host, effect)
            except Exception as error:
                # Not `BaseException`: a cancellation is no answer to the operation, and ends it: see ``finally``.
                effect = operation.throw(error)
            else:
                effect = operation.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        operation.close()  # also when the wait was cancelled


async def _perform(host: Host[MessageT], effect: Publish | Pause) -> None:
    match effect:
        case Publish(subject=subject, data=data, reply=reply, headers=headers):
            await host.room_until(None)
            host.publish_at_once(subject, data, reply=reply, headers=headers)
        case Pause(seconds=seconds):
            await host.pause(seconds)
        case _:
            assert_never(effect)
