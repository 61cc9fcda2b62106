"""`KeyWatch` and `Keys`: what happens to the keys of a bucket, and which keys there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import anyio.lowlevel

from nats_proto import check_timeout
from nats_proto._keyvalue.entry import KeyValueEntry
from nats_proto._keyvalue.watch import InitialValuesDone, Watch, WatchedItem, WatchOptions
from nats_proto.errors import NATSTimeoutError, SubscriptionClosedError

from .._engine.driver import Driver
from .leaving import Leaving
from .telling import OnWarning, Telling

if TYPE_CHECKING:
    from nats_proto._consuming.warning import ConsumerWarning
    from nats_proto._keyvalue.operations import Bucket
    from nats_proto._keyvalue.watch import WatchState

    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["KeyWatch", "Keys", "read_initial"]

T = TypeVar("T")


class KeyWatch(Generic[T]):
    """What happens to the keys of a bucket, for as long as the program likes. Made by `KeyValue.watch`.

    Gives a `KeyValueEntry` for each, and once `InitialValuesDone`, behind all that the bucket had when the watch began.
    It ends with `stop`, with the ``async with`` block, and when the client is drained. What passes by itself (a lost
    connection, a server that restarts) does not end it: it is told in `warnings`, in the log, and to ``on_warning``.
    A block with ``updates_only`` begins when the server has its consumer, so that nothing that is written in it is
    missed; `NATSTimeoutError` when it has none in the time of a call. For one task at a time, but for `stop`.
    """

    def __init__(
        self,
        caller: Caller,
        bucket: Bucket[T],
        options: WatchOptions,
        on_warning: OnWarning | None = None,
    ) -> None:
        self._host = caller.host
        self._patience = caller.api.timeout
        machine: Watch[ReceivedMessage, T] = Watch(bucket, options, now=caller.host.now())
        self._machine = machine
        telling = self._telling = Telling(caller.warned(on_warning))
        # As of `Reading`: the driver does not keep this object.
        self._driver: Driver[ReceivedMessage, WatchedItem[T]] = Driver(
            self._host, machine, lambda: telling.tell(machine.warnings)
        )
        self._coalesce = options.coalesce
        self._stopped = False
        self._leaving = Leaving(self._host)
        self._held: deque[WatchedItem[T]] = deque()
        """What has come while `ready` waited, or was there when the watch was stopped."""
        self._nothing: deque[WatchedItem[T]] = deque()
        self._at_hand = self._nothing
        """Entries that may be given without a look at anything else: those of the machine, or nothing."""

    async def __aenter__(self) -> Self:
        if self._machine.begins_with_nothing and not self.ended:
            # What the block writes would be missed as long as the server has no consumer.
            try:
                await self.ready(self._patience)
            except BaseException:
                self.stop()
                raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KeyValueEntry[T] | InitialValuesDone:
        """The next entry; waits for it.

        Raises `BucketNotFoundError` when the bucket is gone, `PermissionsError`, `ApiError` for what the server
        refuses, `JetStreamNotEnabledError` when the first consumer cannot be made in the time of a call,
        `ConnectionClosedError`, and what ``on_warning`` raises.
        """
        at_hand = self._at_hand
        if at_hand:
            item = at_hand[0]
            if type(item) is KeyValueEntry:  # nearly always
                at_hand.popleft()
                return item
        entry = await self._next_until(None)
        if entry is None:
            raise StopAsyncIteration
        return entry

    async def next(self, timeout: float | None = None) -> KeyValueEntry[T] | InitialValuesDone | None:
        """The next entry, or None: when there was none for ``timeout`` seconds (None: for ever), and at the end.

        Raises as the iteration does.
        """
        return await self._next_until(None if timeout is None else self._host.now() + check_timeout("timeout", timeout))

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until all initial values have come, or, with ``updates_only``, until what is written is sure to come.

        For ``timeout`` seconds (None: for ever), else `NATSTimeoutError`. What comes is kept, and read afterwards as
        otherwise, `InitialValuesDone` included. Raises as the iteration does; `SubscriptionClosedError` when the watch
        has ended.
        """
        deadline = None if timeout is None else self._host.now() + check_timeout("timeout", timeout)
        self._at_hand = self._nothing  # what is held comes first
        while not self._machine.ready:
            item = await self._item_until(deadline)
            if item is not None:
                self._held.append(item)
            elif self.ended:
                raise SubscriptionClosedError(f"{self._machine.what}: it has ended")
            else:
                raise self._machine.not_ready(timeout or 0.0)

    @property
    def state(self) -> WatchState:
        """What it is at: ``"beginning", "initial", "live"``, or ``"rebuilding"`` its consumer, or ``"ended"``."""
        return "ended" if self._stopped else self._machine.state

    @property
    def revision(self) -> int:
        """All up to this one was given; 0 before the first. A later watch may resume behind it."""
        return self._machine.revision(self._held)

    @property
    def live(self) -> bool:
        """The initial values have come; what follows are changes."""
        return self._machine.live

    @property
    def skipped(self) -> int:
        """With ``coalesce``: entries that were not given, since newer ones of their keys came before."""
        return self._machine.skipped

    @property
    def ended(self) -> bool:
        """It was stopped, or has ended."""
        return self._stopped or self._machine.done

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived, the newest last; the last hundred are kept."""
        return self._telling.told

    def stop(self) -> None:
        """End it, by any task: whoever waits for an entry is told that there is none, and nothing is waited for.

        The consumer on the server is deleted. May be called again.
        """
        self._stopped = True
        self._at_hand = self._nothing
        self._driver.stop()
        self._leaving.forget(self._machine.leave())

    async def _next_until(self, deadline: float | None) -> KeyValueEntry[T] | InitialValuesDone | None:
        self._at_hand = self._nothing  # until it is known that nothing else is to be done
        while True:
            item = self._held.popleft() if self._held and not self._stopped else await self._item_until(deadline)
            self._lay_out()
            if item is None:
                return None
            entry = self._machine.taken(item)
            if entry is not None:
                return entry

    def _lay_out(self) -> None:
        """Whether what the machine has may be given as it is. Only what is done here, and `stop`, changes that."""
        machine = self._machine
        self._at_hand = machine.items
        if machine.wants or machine.warnings or self._held or self._coalesce or self._stopped:
            self._at_hand = self._nothing

    async def _item_until(self, deadline: float | None) -> WatchedItem[T] | None:
        machine = self._machine
        if self._stopped:
            # Nothing more is given, and `revision` does not say that it was.
            self._held.extend(machine.items)
            machine.items.clear()
        elif self._coalesce or not machine.items:
            # What has come is given in all at once, which costs half as much as to do it one by one. It is no more than
            # was asked for: nothing is asked for meanwhile.
            with suppress(SubscriptionClosedError):  # it is told below
                self._driver.look(machine.receive_all)
        if machine.items and not machine.wants and not machine.warnings and not self._stopped:
            return machine.items.popleft()
        item = None
        try:
            item = await self._driver.next_until(deadline)
        except SubscriptionClosedError:
            self.stop()  # the client is drained, and its user knows of no subscription: the watch has ended
        finally:
            if item is None and self.ended:
                # Also what was being made while another task has stopped it.
                self._leaving.forget(self._machine.leave())
        if machine.warnings:
            try:
                self._tell()
            except BaseException:
                if item is not None:
                    machine.items.appendleft(item)  # a user's function has raised: the entry is not lost
                raise
        return item

    def _tell(self) -> None:
        """Tell what is new. Also before each wait: who waits in vain is to hear why."""
        self._telling.tell(self._machine.warnings)


class Keys:
    """The keys of a bucket, each once, as they come. Empty when there is none. Made by `KeyValue.keys`.

    The server is asked when the first key is; values are not sent. Whoever leaves early (by ``break``, `stop`, or the
    end of a ``async with`` block) costs nothing more. For one task at a time.
    """

    def __init__(self, make: Callable[[], KeyWatch[bytes]], timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._watch: KeyWatch[bytes] | None = None
        self._stopped = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next key. Raises `NATSTimeoutError` when nothing comes, and as `KeyWatch` does."""
        if self._stopped:
            raise StopAsyncIteration
        if self._watch is None:
            self._watch = self._make()
        entry = await next_initial(self._watch, self._timeout)
        if entry is None:
            self.stop()
            raise StopAsyncIteration
        return entry.key

    def stop(self) -> None:
        """Leave it early. Does nothing after its end."""
        self._stopped = True
        if self._watch is not None:
            self._watch.stop()


async def next_initial(watch: KeyWatch[T], timeout: float) -> KeyValueEntry[T] | None:
    """The next entry of a watch that ends with the initial values; None at its end."""
    try:
        entry = await watch.next(timeout)
        if entry is None and not watch.ended:
            raise NATSTimeoutError(f"list the keys of a bucket: nothing came within {timeout:g} s")
    except BaseException:
        watch.stop()
        raise
    assert not isinstance(entry, InitialValuesDone)  # its watch ends in place of this
    return entry


async def read_initial(watch: KeyWatch[T], timeout: float) -> list[KeyValueEntry[T]]:
    """All entries of a watch that ends with the initial values."""
    found: list[KeyValueEntry[T]] = []
    async with watch:
        while (entry := await next_initial(watch, timeout)) is not None:
            found.append(entry)
    return found
