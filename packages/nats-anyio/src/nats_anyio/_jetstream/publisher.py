"""`Publisher`: many publishes in flight, each with its acknowledgement.

Theory of operation
-------------------
The window of the core (`nats_proto._publishing.window`) is a machine, and a machine is run by whoever waits. Here any
number of tasks may publish and wait at once, so one of them *leads*: it waits for acknowledgements, and gives them to
the window. The others wait until the leader has given something in, and look whether it was theirs; whoever still has
to wait when the leader goes, or is cancelled, takes its place.

Acknowledgements that come while nobody waits lie in the queue of the window's subscription, which has room for all of
them. They are given in by the next publish that finds the window full or a moment past, and by who asks for `done`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self, Unpack

import anyio
import anyio.lowlevel

from nats_proto import HeadersLike, Payload, check_timeout
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.headers import PublishOptions, publish_headers
from nats_proto._publishing.pending import Pending
from nats_proto._publishing.versions import check_versions
from nats_proto._publishing.window import LOOK, SOME_ROOM, PublishWindow
from nats_proto.errors import ConnectionClosedError, LocalProtocolError, NATSError, NATSTimeoutError

from .._engine.driver import Driver

if TYPE_CHECKING:
    from nats_proto._jetstream.api import JetStreamApi

    from .._engine.crew import Employer
    from .._message import ReceivedMessage
    from .message import Acknowledger

__all__ = ["PendingAck", "Publisher"]


class PendingAck(Pending["Publisher"], eq=False):
    """One publish of a `Publisher`, which is stored as soon as it is acknowledged."""

    def __repr__(self) -> str:
        state = "acknowledged" if self.pub_ack is not None else "failed" if self.error is not None else "in flight"
        return f"<nats_anyio.PendingAck to {self.subject!r}, {state}>"

    @property
    def done(self) -> bool:
        """It has ended: it is acknowledged, or has failed (`error`)."""
        if self.pub_ack is None and self.error is None and self.publisher is not None:
            self.publisher.look()
        return self.pub_ack is not None or self.error is not None

    async def ack(self, timeout: float | None = None) -> PubAck:
        """Wait for the acknowledgement, for ``timeout`` seconds (None: until the publish has ended).

        Raises the error with which it has failed, such as `NoStreamResponseError`, an `ApiError` or `PermissionsError`,
        whose ``outcome`` says whether it may be stored all the same; `NATSTimeoutError` when it has not ended in time,
        which ends nothing.
        """
        publisher = self.publisher
        assert publisher is not None  # the publisher has made it
        return await publisher.wait_for(self, timeout)


class Publisher:
    """A window of publishes: up to ``max_pending`` are in flight, and whoever publishes more waits.

    Leaving the ``async with`` block waits until all have ended, and raises `PublishesFailedError` for those that have
    failed and of which nobody was told by `PendingAck.ack`. For any number of tasks.
    """

    def __init__(
        self,
        client: Acknowledger,
        host: Employer[ReceivedMessage],
        window: PublishWindow[PendingAck, Publisher],
        timeout: float,
        api: JetStreamApi,
    ) -> None:
        self._client = client
        self._api = api
        self._window = window
        window.owner = self
        self._writer = host.writer
        self._publish = window.publish
        self._check_caller = host.check_caller
        self._driver: Driver[ReceivedMessage, PendingAck] = Driver(host, window)
        self._timeout = timeout
        self._now = host.now
        self._changed = anyio.Event()
        """Set, and made anew, when something was given in, and when the leader goes."""
        self._led = False
        self._ended_by: NATSError | None = None
        self._look_at = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and not isinstance(error, Exception):
            await self._abandon(error)
            return
        try:
            # What was published before is waited for as well.
            await self.aclose()
        except NATSError as failure:
            if error is None:
                raise
            error.add_note(f"and {failure}")  # the error that ended the block comes first
        except BaseException as left:
            await self._abandon(left)  # it may be cancelled at the end of the block as well as in it
            raise

    @property
    def pending(self) -> int:
        """How many publishes have not ended yet."""
        return self._window.pending

    async def publish(
        self,
        subject: str,
        data: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        timeout: float | None = None,
        **options: Unpack[PublishOptions],
    ) -> PendingAck:
        """Send a message. Returns when it is in the outgoing buffer; waits while the window is full.

        It is stored when `PendingAck.ack` says so. The options are those of `JetStream.publish`. Raises
        `PublishWindowFullError` when there was no room for ``timeout`` seconds, by default those of the publisher, and
        what `Client.publish` raises: the message was not sent then. `LocalProtocolError` after `aclose`.
        """
        if headers is None and not options:
            # The way of nearly all: what is done for each message costs more than all the rest. See `Client.publish`.
            now = self._now()
            if now < self._look_at:
                writer = self._writer
                idle = writer.idle is not None
                if idle:
                    self._check_caller()
                quick = self._publish(writer.publish_quickly, subject, data, now)
                if quick is not None:
                    if idle:
                        writer.write_publish()
                    return quick
        return await self._publish_strictly(subject, data, headers, timeout, options)

    async def _publish_strictly(
        self,
        subject: str,
        data: Payload,
        headers: HeadersLike | None,
        timeout: float | None,
        options: PublishOptions,
    ) -> PendingAck:
        if options:
            check_versions(self._api, options)
        made = None if headers is None and not options else publish_headers(subject, data, headers, options)
        window = self._window
        now = self._now()
        if now >= self._look_at:
            self._look_at = now + LOOK
            if not self._led:
                await anyio.lowlevel.checkpoint()  # what has come is read meanwhile
            if not self._led:  # still: the driver is for one at a time
                self._led = True
                try:
                    await self._step()
                finally:
                    self._led = False
                    self._tell()
        pending = window.begin(subject, data, made, now=now)
        while pending is None:
            pending = window.begin(subject, data, made, now=await self._make_room(subject, now, timeout))
        try:
            await self._client.publish(subject, data, reply=pending.reply, headers=made)
        except BaseException as error:  # also cancelled: it was not taken
            window.failed(pending, error)
            raise
        return pending

    async def publish_many(
        self, subject: str, payloads: Iterable[Payload], *, timeout: float | None = None
    ) -> list[PendingAck]:
        """`publish` each of them, in order."""
        return [await self.publish(subject, payload, timeout=timeout) for payload in payloads]

    def look(self) -> None:
        """Take what has come, and wait for nothing."""
        self._driver.look(self._window.receive_all)

    async def wait_for(self, pending: PendingAck, timeout: float | None) -> PubAck:
        """As `PendingAck.ack`."""
        deadline = None if timeout is None else self._now() + check_timeout("timeout", timeout)
        await self._until(lambda: pending.pub_ack is not None or pending.error is not None, deadline)
        if pending.error is not None:
            self._window.observe(pending)
            raise pending.error.with_traceback(None)
        if pending.pub_ack is None:
            assert timeout is not None  # else it was waited for until it had ended
            raise NATSTimeoutError(
                f"publish to {pending.subject!r}: not acknowledged within {timeout:g} s; it is not given up"
            )
        return pending.pub_ack

    async def aclose(self) -> None:
        """Take no more, and wait until all have ended. Raises `PublishesFailedError`. May be called again."""
        window = self._window
        window.finish()
        await self._until(lambda: window.done, None)
        await self._driver.close()
        failure = window.failure()
        if failure is not None:
            raise failure

    async def _abandon(self, left_by: BaseException) -> None:
        self._abandon_all(ConnectionClosedError(f"the publisher was left by {type(left_by).__name__}"))
        self._tell()
        await self._driver.close()  # which cannot be cancelled

    async def _make_room(self, subject: str, began: float, timeout: float | None) -> float:
        """Wait until a publish can be begun. The time then."""
        window = self._window
        deadline = began + (self._timeout if timeout is None else check_timeout("timeout", timeout))
        some = window.some_room
        await self._until(lambda: window.room >= some or window.ending, min(deadline, began + SOME_ROOM))
        if not await self._until(lambda: window.room > 0 or window.ending, deadline):
            raise window.full_error(subject, now=self._now())
        if window.ending:
            raise LocalProtocolError(f"publish to {subject!r}: the publisher is closed") from self._ended_by
        return self._now()

    def _abandon_all(self, cause: NATSError) -> None:
        self._ended_by = self._ended_by or cause
        self._window.abandon(cause)

    async def _step(self) -> bool:
        """Give in what has come, and do what is due: whether anything ended."""
        ended = self._window.items
        try:
            self._driver.look(self._window.receive_all)
            await self._do_due()
            some = bool(ended)
            ended.clear()  # each was told to whoever holds it
        except NATSError as error:  # the client is closed, or the subscription was refused
            self._abandon_all(error)
            return True
        return some

    async def _do_due(self) -> None:
        while True:
            try:
                await self._driver.do_due()
                return
            except NATSError as error:  # it may concern one publish alone, which the client does not take
                if not self._window.refused(error, now=self._now()):
                    raise

    async def _until(self, satisfied: Callable[[], bool], deadline: float | None) -> bool:
        """Wait, as the leader or for the leader. False when the time (absolute) was up before."""
        while not satisfied():
            if deadline is not None and self._now() >= deadline:
                return False
            if self._led:
                with anyio.CancelScope(deadline=float("inf") if deadline is None else deadline):
                    await self._changed.wait()
                continue
            self._led = True
            try:
                if not await self._step() and not satisfied():
                    await self._driver.wait(deadline)
                    await self._step()
            except NATSError as error:
                self._abandon_all(error)
            finally:
                self._led = False
                self._tell()
        return True

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
