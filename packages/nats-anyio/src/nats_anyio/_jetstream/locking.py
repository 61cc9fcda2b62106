"""`Lock`: one holder at a time, among all programs that use the bucket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from math import inf
from typing import TYPE_CHECKING, Final, Self

import anyio

from nats_proto import check_timeout
from nats_proto._jetstream.errors import NoStreamResponseError
from nats_proto._keyvalue.entry import KeyValueEntry
from nats_proto._keyvalue.errors import LockLostError
from nats_proto._keyvalue.watch import Watch, WatchedItem, WatchOptions
from nats_proto.errors import LocalProtocolError, NATSError, NATSTimeoutError

from .changes import WatchInBackground
from .watching import KeyWatch

if TYPE_CHECKING:
    from types import TracebackType

    from nats_proto._keyvalue.lock import Lease
    from nats_proto._keyvalue.operations import Bucket
    from nats_proto._keyvalue.watch import InitialValuesDone

    from .._engine.driver import Driver
    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["Lock", "OnLost"]

logger = logging.getLogger("nats_anyio.jetstream")

SHORTEST: Final = 0.5
"""Seconds at least for one try: with a timeout of 0 there is one."""

OnLost = Callable[[LockLostError], object]
"""What is told that a lock was lost. It may return something to await. A task of the client calls it."""


class Lock:
    """One holder at a time, among all programs that use the bucket. Made by `KeyValue.lock`; nothing is asked before.

    The ``async with`` block begins when the lock is held, and its end releases it. Meanwhile a task of the client
    renews it. When that fails, or when somebody takes the key away, it is lost: then `held` is False at once,
    ``on_lost`` is called, and the block is cancelled and raises `LockLostError`, unless it has raised something else.

    `held` is never true for two holders at once; yet a program may be stopped right after it has looked. So give
    `token` to what the lock protects, and have it refuse a token that is less than one that it has seen.
    """

    def __init__(
        self,
        caller: Caller,
        bucket: Bucket[bytes],
        lease: Lease,
        timeout: float | None,
        on_lost: OnLost | None,
    ) -> None:
        self._caller = caller
        self._bucket = bucket
        self._lease = lease
        self._timeout = timeout
        self._on_lost = on_lost
        self._keeper: Keeper | None = None
        self._scope: anyio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<nats_anyio.Lock {self._lease.what}>"

    async def __aenter__(self) -> Self:
        await self.acquire(self._timeout)
        scope = self._scope = anyio.CancelScope()
        scope.__enter__()
        if self.lost:
            scope.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        scope, self._scope = self._scope, None
        ended = scope is not None and bool(scope.__exit__(kind, error, traceback))
        try:
            with anyio.CancelScope(shield=True):  # for the time of a request at the longest
                await self.release()
        except NATSError as failure:
            if kind is None or ended:
                raise
            logger.warning("%s: it was not released, and expires: %s", self._lease.what, failure)
        return ended

    async def acquire(self, timeout: float | None = None) -> None:
        """Wait until it is held, for ``timeout`` seconds (None: for ever; 0: one try), else `NATSTimeoutError`.

        What passes by itself (a lost connection, a server that restarts) is waited for. Raises `LocalProtocolError`
        when it is held already, what ``KeyValue.create`` raises otherwise, and `BucketNotFoundError`.
        """
        seconds = None if timeout is None else check_timeout("timeout", timeout)
        until = None if seconds is None else self._caller.host.now() + seconds
        if not await self._try(until):
            await self._wait(until, seconds)
        # What was not renewed is not held for long: if nobody can be found to do it, the lock is given back at once.
        try:
            self._keeper = Keeper(self._caller, self._bucket, self._lease, self._was_lost)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._caller.run(self._lease.release(self._caller.api.timeout))
            raise

    async def release(self, timeout: float | None = None) -> None:
        """Delete the key, so that the next one may have the lock. ``timeout``: seconds for the answer.

        Raises `LockLostError` when it was lost before, `LocalProtocolError` when it is not held. After any other error
        the key expires by itself.
        """
        seconds = self._caller.api.seconds(timeout)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.end()
        await self._caller.run(self._lease.release(seconds))

    @property
    def held(self) -> bool:
        """It is held at this moment, and nobody else has it."""
        return self._lease.held(self._caller.host.now())

    @property
    def lost(self) -> bool:
        """It was held, was not released, and is not held any more."""
        return self._lease.lost(self._caller.host.now())

    def check(self) -> None:
        """Raises `LockLostError` when it was lost, `LocalProtocolError` when it was never held or is released."""
        if self.held:
            return
        self._lease.look(self._caller.host.now())
        error = self._lease.error
        if error is not None:
            raise error.with_traceback(None)
        raise LocalProtocolError(f"{self._lease.what}: it is not held")

    @property
    def token(self) -> int:
        """The fencing token: the revision with which this hold began. A later holder has a greater one."""
        return self._lease.token

    @property
    def holder(self) -> str:
        """What others are told who look at the key's value."""
        return self._lease.holder

    async def _was_lost(self, lost: LockLostError) -> None:
        if self._scope is not None:
            self._scope.cancel()
        if self._on_lost is not None:
            try:
                result = self._on_lost(lost)
                if result is not None and isawaitable(result):
                    await result
            except Exception as error:
                self._caller.host.log_failure(f"{self._lease.what}: on_lost raised", error)

    async def _wait(self, until: float | None, seconds: float | None) -> None:
        """For the moment when the key is gone, and for the next try after one that failed by itself."""
        lease = self._lease
        patience = inf if until is None else max(until - self._caller.host.now(), 0.0)
        options = WatchOptions(patterns=(lease.key,), exact=True, patience=patience)
        async with KeyWatch(self._caller, self._bucket, options) as watch:
            while True:
                due = lease.retry_at if until is None else min(until, lease.retry_at)
                item = await watch.next(max(due - self._caller.host.now(), 0.0))
                if item is None and until is not None and self._caller.host.now() >= until:
                    raise NATSTimeoutError(f"{lease.what}: another one had it for {seconds:g} s", outcome="failed")
                if (item is None or lease.may_take(item)) and await self._try(until):
                    return

    async def _try(self, until: float | None) -> bool:
        """Whether it is held now. What passes by itself is an error only when there is no time left."""
        timeout = self._caller.api.timeout
        if until is not None:
            timeout = min(timeout, max(until - self._caller.host.now(), SHORTEST))
        try:
            return await self._caller.run(self._lease.take(timeout))
        except (NATSTimeoutError, NoStreamResponseError):
            if until is not None and self._caller.host.now() >= until:
                raise
            return False


class Keeper(WatchInBackground[bytes]):
    """Renews a hold, and watches the key meanwhile: from its last entry on, so that nothing is missed before."""

    def __init__(
        self, caller: Caller, bucket: Bucket[bytes], lease: Lease, on_lost: Callable[[LockLostError], Awaitable[None]]
    ) -> None:
        super().__init__(caller, bucket, WatchOptions(patterns=(lease.key,), exact=True), lease.what, on_warning=None)
        self._caller = caller
        self._lease = lease
        self._on_lost = on_lost
        self._released = False
        self._start()

    async def end(self) -> None:
        """Renew no more. Waits for a renewal that is on its way, but not in a function of the user that it calls."""
        self._released = True
        self.stop()
        if not self._is_own_task():
            with anyio.move_on_after(self._lease.ttl):
                await self._reader.wait_idle()

    async def _read(
        self, driver: Driver[ReceivedMessage, WatchedItem[bytes]], machine: Watch[ReceivedMessage, bytes]
    ) -> None:
        lease = self._lease
        while not lease.over and not self._stopping:
            item = await driver.next_until(lease.next_timeout())
            if machine.warnings:
                self._warn()
            if item is not None:
                await self._take(machine.taken(item))
            elif machine.done:
                return
            if lease.look(self._caller.host.now()) and not self._stopping:
                await self._caller.run(lease.renew())

    async def _take(self, entry: KeyValueEntry[bytes] | InitialValuesDone | None) -> None:
        if isinstance(entry, KeyValueEntry):
            self._lease.saw(entry)

    async def _wind_down(self) -> None:
        await super()._wind_down()
        lease = self._lease
        if not self._released:
            lease.lose("nobody renews it any more, since the client has ended", self._error)
        # The holder may have found out first, by a look at the time, and be about to release it: it is told as well.
        if lease.error is None:
            return
        logger.error("%s", lease.error)
        await self._on_lost(lease.error)
