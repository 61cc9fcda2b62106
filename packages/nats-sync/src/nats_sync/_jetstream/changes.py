"""`WatchInBackground`: a thread of the client reads a watch, and `Changes`, which gives what it reads to a handler."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from nats_proto import check_timeout
from nats_proto._keyvalue.watch import Begun, InitialValuesDone, Watch, WatchedItem, WatchOptions
from nats_proto.errors import LocalProtocolError, NATSTimeoutError, SubscriptionClosedError

from .._engine.driver import Driver
from .._engine.handling import close_coroutine
from .background import LOOK, Background
from .leaving import Leaving

if TYPE_CHECKING:
    from nats_proto._keyvalue.entry import KeyValueEntry
    from nats_proto._keyvalue.operations import Bucket
    from nats_proto._keyvalue.watch import WatchState

    from .._message import ReceivedMessage
    from .caller import Caller
    from .telling import OnWarning

__all__ = ["ChangeHandler", "Changes", "WatchInBackground"]

T = TypeVar("T")

ChangeHandler = Callable[["KeyValueEntry[T] | InitialValuesDone"], object]
"""What entries are given to. It is called by a thread of the client."""

SLICE: Final = 1.0
"""Seconds of one part of a long wait, so that an interrupt which comes right before it is not missed for longer."""


def wait_for(event: Event, seconds: float | None) -> bool:
    """Whether it was set within so many seconds; None: for ever."""
    until = None if seconds is None else monotonic() + seconds
    while not event.is_set():
        left = SLICE if until is None else min(SLICE, until - monotonic())
        if left <= 0.0:
            return False
        event.wait(left)
    return True


class WatchInBackground(Background["Watch[ReceivedMessage, T]", WatchedItem[T]], Generic[T]):
    """The base of who needs nobody to wait for the entries of a watch."""

    def __init__(
        self, caller: Caller, bucket: Bucket[T], options: WatchOptions, what: str, on_warning: OnWarning | None
    ) -> None:
        super().__init__(caller.host, what, on_warning)
        self._bucket = bucket
        self._options = options
        self._begun = Event()
        """What there was was given, or it has ended."""
        self._unread: list[WatchedItem[T]] = []
        """What was there when it was ended, and was not given."""

    @property
    def state(self) -> WatchState:
        """What it is at: ``"beginning", "initial", "live"``, or ``"rebuilding"`` its consumer, or ``"ended"``."""
        if self._stopping:
            return "ended"
        return "beginning" if self._machine is None else self._machine.state

    @property
    def revision(self) -> int:
        """All up to this one was given; 0 before the first. A later watch may resume behind it."""
        return 0 if self._machine is None else self._machine.revision(self._unread)

    def ready(self, timeout: float | None = None) -> None:
        """Wait until all that the bucket had was given, or, with ``updates_only``, until what is written will come.

        For ``timeout`` seconds (None: for ever), else `NATSTimeoutError`. Raises the error with which it has ended;
        `SubscriptionClosedError` when it was stopped before.
        """
        seconds = None if timeout is None else check_timeout("timeout", timeout)
        if self._is_own_thread():
            raise LocalProtocolError(f"{self._what}: a handler cannot wait for its own reader")
        if not wait_for(self._begun, seconds):
            raise NATSTimeoutError(f"{self._what}: the initial values did not come within {timeout:g} s")
        if self._error is not None:
            raise self._error.with_traceback(None)
        if not self._was_ready:
            raise SubscriptionClosedError(f"{self._what}: it has ended")

    @property
    def _was_ready(self) -> bool:
        return self._machine is not None and self._machine.ready

    @abstractmethod
    def _take(self, entry: KeyValueEntry[T] | InitialValuesDone) -> None:
        """Of the watch, in order. Raises nothing."""

    def _make_machine(self) -> Watch[ReceivedMessage, T]:
        return Watch(self._bucket, self._options, now=monotonic())

    def _make_driver(self, machine: Watch[ReceivedMessage, T]) -> Driver[ReceivedMessage, WatchedItem[T]]:
        return Driver(self._holding, machine)

    def _read(self, driver: Driver[ReceivedMessage, WatchedItem[T]], machine: Watch[ReceivedMessage, T]) -> None:
        try:
            while not self._stopping:
                if self._options.coalesce or not machine.items:
                    driver.look(machine.receive_all)  # what has come is given in all at once
                if machine.items and not machine.wants:
                    item: WatchedItem[T] | None = machine.items.popleft()  # nearly always
                else:
                    item = driver.next_until(monotonic() + LOOK)
                if machine.warnings:
                    self._warn()
                if item is None:
                    if machine.done:
                        return
                    continue
                entry = machine.taken(item)
                if entry is not None:
                    self._take(entry)
                if isinstance(item, (InitialValuesDone, Begun)):
                    self._begun.set()
        finally:
            self._unread.extend(machine.items)

    def _wind_down(self) -> None:
        """Have the server delete the consumers."""
        if self._machine is not None:
            Leaving(self._host).forget(self._machine.leave())
        self._begun.set()


class Changes(WatchInBackground[T]):
    """A handler that gets what happens to the keys of a bucket, one entry at a time. Made by `KeyValue.on_change`.

    It gets what `KeyWatch` gives, and begins at once. What it raises is logged, and the next entry follows. It ends as
    `KeyWatch` does, and by `stop`, `drain` and the end of the ``with`` block, which waits for the handler to return.
    """

    def __init__(
        self,
        caller: Caller,
        bucket: Bucket[T],
        options: WatchOptions,
        handler: ChangeHandler[T],
        on_warning: OnWarning | None,
    ) -> None:
        super().__init__(caller, bucket, options, f"watch bucket {bucket.name!r}", on_warning)
        self._handler = handler
        self._start()

    def __repr__(self) -> str:
        return f"<nats_sync.Changes {self._what}>"

    def _take(self, entry: KeyValueEntry[T] | InitialValuesDone) -> None:
        try:
            result = self._handler(entry)
            if result is not None and (unawaited := close_coroutine(result)) is not None:
                raise unawaited
        except BaseException as error:
            self._host.log_failure(f"{self._what}: the handler raised", error)
