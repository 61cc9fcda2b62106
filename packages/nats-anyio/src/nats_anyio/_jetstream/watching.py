"""`KeyWatch` and `Keys`: what happens to the keys of a bucket, and which keys there are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import anyio.lowlevel

from nats_proto import check_timeout
from nats_proto._keyvalue.watch import InitialValuesDone, Watch, WatchedItem, WatchOptions
from nats_proto.errors import NATSError, NATSTimeoutError, SubscriptionClosedError

from .._engine.driver import Driver
from .telling import OnWarning, Telling

if TYPE_CHECKING:
    from nats_proto._consuming.warning import ConsumerWarning
    from nats_proto._keyvalue.entry import KeyValueEntry
    from nats_proto._keyvalue.operations import Bucket

    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["KeyWatch", "Keys", "read_initial"]

T = TypeVar("T")


class KeyWatch(Generic[T]):
    """What happens to the keys of a bucket, for as long as the program likes. Made by `KeyValue.watch`.

    Gives a `KeyValueEntry` for each, and once `InitialValuesDone`, behind all that the bucket had when the watch began.
    It ends with `stop`, with the ``async with`` block, and when the client is drained. What passes by itself (a lost
    connection, a server that restarts) does not end it: it is told in `warnings`, in the log, and to ``on_warning``.
    For one task at a time, but for `stop`.
    """

    def __init__(
        self,
        caller: Caller,
        bucket: Bucket[T],
        options: WatchOptions,
        on_warning: OnWarning | None = None,
    ) -> None:
        self._host = caller.host
        self._machine: Watch[ReceivedMessage, T] = Watch(bucket, options, now=caller.host.now())
        self._driver: Driver[ReceivedMessage, WatchedItem[T]] = Driver(self._host, self._machine, self._tell)
        self._coalesce = options.coalesce
        self._telling = Telling(on_warning)
        self._stopped = False
        self._forgotten: set[str] = set()

    async def __aenter__(self) -> Self:
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
        entry = await self._next_until(None)
        if entry is None:
            raise StopAsyncIteration
        return entry

    async def next(self, timeout: float | None = None) -> KeyValueEntry[T] | InitialValuesDone | None:
        """The next entry, or None: when there was none for ``timeout`` seconds (None: for ever), and at the end.

        Raises as the iteration does.
        """
        return await self._next_until(None if timeout is None else self._host.now() + check_timeout("timeout", timeout))

    @property
    def revision(self) -> int:
        """Of the last entry that has come; 0 before the first. A later watch may resume behind it."""
        return self._machine.revision

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
        self._driver.stop()
        self._forget()

    async def _next_until(self, deadline: float | None) -> KeyValueEntry[T] | InitialValuesDone | None:
        item = None
        try:
            if self._coalesce:
                self._driver.look(self._machine.receive_all)
            item = await self._driver.next_until(deadline)
        except SubscriptionClosedError:
            self.stop()  # the client is drained, and its user knows of no subscription: the watch has ended
        finally:
            if item is None and self.ended:
                self._forget()  # also what was being made while another task has stopped it
        if self._machine.warnings:
            try:
                self._tell()
            except BaseException:
                if item is not None:
                    self._machine.items.appendleft(item)  # a user's function has raised: the entry is not lost
                raise
        return None if item is None else self._machine.taken(item)

    def _tell(self) -> None:
        """Tell what is new. Also before each wait: who waits in vain is to hear why."""
        self._telling.tell(self._machine.warnings)

    def _forget(self) -> None:
        """Have the server delete the consumers. It would do so by itself, only later."""
        for publish in self._machine.leave():
            if publish.subject not in self._forgotten:
                self._forgotten.add(publish.subject)
                with suppress(NATSError):  # closed, or no room
                    self._host.publish_at_once(publish.subject, publish.data, reply=None, headers=None)


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
