"""`KeyValueView`: a bucket in memory, which a task of the client keeps as the bucket is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from nats_proto._keyvalue.view import LiveMapping, ViewWatch
from nats_proto._keyvalue.watch import InitialValuesDone, WatchOptions

from .changes import WatchInBackground

if TYPE_CHECKING:
    from nats_proto._keyvalue.entry import KeyValueEntry
    from nats_proto._keyvalue.operations import Bucket

    from .._message import ReceivedMessage
    from .caller import Caller
    from .telling import OnWarning

__all__ = ["KeyValueView"]

T = TypeVar("T")


class KeyValueView(WatchInBackground[T], LiveMapping[T]):
    """A bucket, or a part of it, as a read-only mapping in memory. Made by `KeyValue.mapping`; begins at once.

    Reading asks nobody and waits for nothing. The ``async with`` block begins when all that the bucket had is
    there, and raises `NATSTimeoutError` when it does not come. What passes by itself is survived as by `KeyWatch`, and
    makes the view older meanwhile, see `staleness`.
    """

    def __init__(
        self, caller: Caller, bucket: Bucket[T], options: WatchOptions, timeout: float, on_warning: OnWarning | None
    ) -> None:
        super().__init__(caller, bucket, options, f"mapping of bucket {bucket.name!r}", on_warning)
        self._clear()
        self._timeout = timeout
        self._watch: ViewWatch[ReceivedMessage, T] | None = None
        self._start()

    def __repr__(self) -> str:
        return f"<nats_anyio.KeyValueView {self._what}, {len(self)} keys>"

    async def __aenter__(self) -> Self:
        try:
            await self.ready(self._timeout)
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def staleness(self) -> float:
        """Seconds since the server was last heard: what is here may be so old. Infinite before the first time.

        A server that has nothing to tell is heard every five seconds or so.
        """
        return float("inf") if self._watch is None else self._host.now() - self._watch.heard

    async def _make_machine(self) -> ViewWatch[ReceivedMessage, T]:
        self._watch = ViewWatch(self._bucket, self._options, now=self._host.now())
        return self._watch

    async def _take(self, entry: KeyValueEntry[T] | InitialValuesDone) -> None:
        if not isinstance(entry, InitialValuesDone):
            self._put(entry)
