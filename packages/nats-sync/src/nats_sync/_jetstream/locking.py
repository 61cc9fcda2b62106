"""`Lock`: one holder at a time, among all programs that use the bucket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, Self

from nats_proto import check_timeout
from nats_proto._jetstream.errors import NoStreamResponseError
from nats_proto._keyvalue.entry import KeyValueEntry
from nats_proto._keyvalue.errors import LockLostError
from nats_proto._keyvalue.watch import Watch, WatchedItem, WatchOptions
from nats_proto.errors import LocalProtocolError, NATSError, NATSTimeoutError

from .._engine.handling import close_coroutine
from .changes import WatchInBackground
from .watching import KeyWatch

if TYPE_CHECKING:
    from nats_proto._keyvalue.lock import Lease
    from nats_proto._keyvalue.operations import Bucket
    from nats_proto._keyvalue.watch import InitialValuesDone

    from .._engine.driver import Driver
    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["Lock", "OnLost"]

logger = logging.getLogger("nats_sync.jetstream")

SHORTEST: Final = 0.5
"""Seconds at least for one try: with a timeout of 0 there is one."""

OnLost = Callable[[LockLostError], object]
"""What is told that a lock was lost. It is called by a thread of the client."""


class Lock:
    """One holder at a time, among all programs that use the bucket. Made by `KeyValue.lock`; nothing is asked before.

    The ``with`` block begins when the lock is held, and its end releases it. Meanwhile a thread of the client renews
    it. When that fails, or when somebody takes the key away, it is lost: then `held` is False at once, ``on_lost`` is
    called, and the end of the block raises `LockLostError`, unless the block itself has raised. A block that goes on
    for long looks at `held` or calls `check` before each thing that nobody else may do at the same time.

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

    def __repr__(self) -> str:
        return f"<nats_sync.Lock {self._lease.what}>"

    def __enter__(self) -> Self:
        self.acquire(self._timeout)
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        try:
            self.release()
        except NATSError as error:
            if kind is None:
                raise
            logger.warning("%s: it was not released, and expires: %s", self._lease.what, error)

    def acquire(self, timeout: float | None = None) -> None:
        """Wait until it is held, for ``timeout`` seconds (None: for ever; 0: one try), else `NATSTimeoutError`.

        What passes by itself (a lost connection, a server that restarts) is waited for. Raises `LocalProtocolError`
        when it is held already, what ``KeyValue.create`` raises otherwise, and `BucketNotFoundError`.
        """
        seconds = None if timeout is None else check_timeout("timeout", timeout)
        until = None if seconds is None else monotonic() + seconds
        if not self._try(until):
            self._wait(until, seconds)
        # What was not renewed is not held for long: if nobody can be found to do it, the lock is given back at once.
        try:
            self._keeper = Keeper(self._caller, self._bucket, self._lease, self._on_lost)
        except BaseException:
            self._caller.run(self._lease.release(self._caller.api.timeout))
            raise

    def release(self, timeout: float | None = None) -> None:
        """Delete the key, so that the next one may have the lock. ``timeout``: seconds for the answer.

        Raises `LockLostError` when it was lost before, `LocalProtocolError` when it is not held. After any other error
        the key expires by itself.
        """
        seconds = self._caller.api.seconds(timeout)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.end()
        self._caller.run(self._lease.release(seconds))

    @property
    def held(self) -> bool:
        """It is held at this moment, and nobody else has it."""
        return self._lease.held(monotonic())

    @property
    def lost(self) -> bool:
        """It was held, was not released, and is not held any more."""
        return self._lease.lost(monotonic())

    def check(self) -> None:
        """Raises `LockLostError` when it was lost, `LocalProtocolError` when it was never held or is released."""
        if self.held:
            return
        self._lease.look(monotonic())
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

    def _wait(self, until: float | None, seconds: float | None) -> None:
        """For the moment when the key is gone, and for the next try after one that failed by itself."""
        lease = self._lease
        patience = inf if until is None else max(until - monotonic(), 0.0)
        options = WatchOptions(patterns=(lease.key,), exact=True, patience=patience)
        with KeyWatch(self._caller, self._bucket, options) as watch:
            while True:
                due = lease.retry_at if until is None else min(until, lease.retry_at)
                item = watch.next(max(due - monotonic(), 0.0))
                if item is None and until is not None and monotonic() >= until:
                    raise NATSTimeoutError(f"{lease.what}: another one had it for {seconds:g} s", outcome="failed")
                if (item is None or lease.may_take(item)) and self._try(until):
                    return

    def _try(self, until: float | None) -> bool:
        """Whether it is held now. What passes by itself is an error only when there is no time left."""
        timeout = self._caller.api.timeout
        if until is not None:
            timeout = min(timeout, max(until - monotonic(), SHORTEST))
        try:
            return self._caller.run(self._lease.take(timeout))
        except (NATSTimeoutError, NoStreamResponseError):
            if until is not None and monotonic() >= until:
                raise
            return False


class Keeper(WatchInBackground[bytes]):
    """Renews a hold, and watches the key meanwhile: from its last entry on, so that nothing is missed before."""

    def __init__(self, caller: Caller, bucket: Bucket[bytes], lease: Lease, on_lost: OnLost | None) -> None:
        super().__init__(caller, bucket, WatchOptions(patterns=(lease.key,), exact=True), lease.what, on_warning=None)
        self._caller = caller
        self._lease = lease
        self._on_lost = on_lost
        self._released = False
        self._start()

    def end(self) -> None:
        """Renew no more. Waits for a renewal that is on its way, but not in a function of the user that it calls."""
        self._released = True
        self.stop()
        if not self._is_own_thread():
            self._reader.wait_idle(self._lease.ttl)

    def _read(
        self, driver: Driver[ReceivedMessage, WatchedItem[bytes]], machine: Watch[ReceivedMessage, bytes]
    ) -> None:
        lease = self._lease
        while not lease.over and not self._stopping:
            item = driver.next_until(lease.next_timeout())
            if machine.warnings:
                self._warn()
            if item is not None:
                self._take(machine.taken(item))
            elif machine.done:
                return
            if lease.look(monotonic()) and not self._stopping:
                self._caller.run(lease.renew())

    def _take(self, entry: KeyValueEntry[bytes] | InitialValuesDone | None) -> None:
        if isinstance(entry, KeyValueEntry):
            self._lease.saw(entry)

    def _wind_down(self) -> None:
        super()._wind_down()
        lease = self._lease
        if not self._released:
            lease.lose("nobody renews it any more, since the client has ended", self._error)
        # The holder may have found out first, by a look at the time, and be about to release it: it is told as well.
        if lease.error is None:
            return
        logger.error("%s", lease.error)
        if self._on_lost is not None:
            try:
                result = self._on_lost(lease.error)
                if result is not None and (unawaited := close_coroutine(result)) is not None:
                    raise unawaited
            except BaseException as error:
                self._host.log_failure(f"{self._what}: on_lost raised", error)
