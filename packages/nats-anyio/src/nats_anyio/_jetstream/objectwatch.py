"""`ObjectWatch` and `Objects`: what happens to the objects of a bucket, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import anyio.lowlevel

from nats_proto._keyvalue.watch import InitialValuesDone, WatchOptions
from nats_proto.errors import NATSTimeoutError

from .watching import KeyWatch

if TYPE_CHECKING:
    from nats_proto._consuming.warning import ConsumerWarning
    from nats_proto._objectstore.info import ObjectInfo
    from nats_proto._objectstore.metas import Metas

    from .caller import Caller
    from .telling import OnWarning

__all__ = ["ObjectWatch", "Objects"]


class ObjectWatch:
    """What happens to the objects of a bucket, for as long as the program likes. Made by `ObjectStore.watch`.

    Gives an `ObjectInfo` for each object that was put, changed or deleted, and once `InitialValuesDone`, behind all
    that the bucket had when the watch began. It ends with `stop`, with the ``async with`` block, and when the client is
    drained. What passes by itself (a lost connection, a server that restarts) does not end it: it is told in
    `warnings`, in the log, and to ``on_warning``. For one task at a time, but for `stop`.
    """

    def __init__(
        self, caller: Caller, metas: Metas, options: WatchOptions, on_warning: OnWarning | None = None
    ) -> None:
        self._metas = metas
        self._watch: KeyWatch[bytes] = KeyWatch(caller, metas, options, on_warning)

    async def __aenter__(self) -> Self:
        await self._watch.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectInfo | InitialValuesDone:
        """The next info; waits for it.

        Raises `JetStreamDecodeError` for an info that cannot be read, after which it goes on; `BucketNotFoundError`
        when the bucket is gone, `PermissionsError`, `ApiError`, `JetStreamNotEnabledError`, `ConnectionClosedError`.
        """
        item = await anext(self._watch)
        return item if isinstance(item, InitialValuesDone) else self._metas.info_of(item)

    async def next(self, timeout: float | None = None) -> ObjectInfo | InitialValuesDone | None:
        """The next info, or None: when there was none for ``timeout`` seconds (None: for ever), and at the end.

        Raises as the iteration does.
        """
        item = await self._watch.next(timeout)
        return item if item is None or isinstance(item, InitialValuesDone) else self._metas.info_of(item)

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until all that there was has come, or, with ``updates_only``, until what is put is sure to come.

        For ``timeout`` seconds (None: for ever), else `NATSTimeoutError`. What comes is kept, and read afterwards as
        otherwise. Raises as the iteration does; `SubscriptionClosedError` when the watch has ended.
        """
        await self._watch.ready(timeout)

    @property
    def live(self) -> bool:
        """The initial values have come; what follows are changes."""
        return self._watch.live

    @property
    def ended(self) -> bool:
        """It was stopped, or has ended."""
        return self._watch.ended

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived, the newest last; the last hundred are kept."""
        return self._watch.warnings

    def stop(self) -> None:
        """End it, by any task: whoever waits for an info is told that there is none, and nothing is waited for.

        The consumer on the server is deleted. May be called again.
        """
        self._watch.stop()


class Objects:
    """The infos of a bucket's objects, as they come. Empty when there is none. Made by `ObjectStore.list`.

    The server is asked when the first one is. Whoever leaves early says so by `stop`, or by the end of the
    ``async with`` block. For one task at a time.
    """

    def __init__(self, make: Callable[[], ObjectWatch], timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._watch: ObjectWatch | None = None
        self._stopped = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectInfo:
        """The next info. Raises `NATSTimeoutError` when nothing comes, and as `ObjectWatch` does."""
        if self._stopped:
            raise StopAsyncIteration
        if self._watch is None:
            self._watch = self._make()
        try:
            info = await self._watch.next(self._timeout)
        except BaseException:
            self.stop()  # as of `Keys`: its consumer does not stay until the server finds that nobody listens
            raise
        if info is None:
            ended = self._watch.ended
            self.stop()
            if not ended:
                raise NATSTimeoutError(f"list the objects of a bucket: nothing came within {self._timeout:g} s")
            raise StopAsyncIteration
        assert not isinstance(info, InitialValuesDone)  # its watch ends in place of this
        return info

    def stop(self) -> None:
        """Leave it early. Does nothing after its end."""
        self._stopped = True
        if self._watch is not None:
            self._watch.stop()
