"""`FastIngest`: a stream of messages into a stream, with an acknowledgement for many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, Unpack

import anyio

from nats_proto import HeadersLike, Payload
from nats_proto._jetstream.pub_ack import PubAck
from nats_proto._publishing.fast_ingest import MAX_REPORTS, IngestGap, IngestRefusal, IngestReport
from nats_proto._publishing.headers import PublishOptions, publish_headers
from nats_proto._publishing.window import LOOK
from nats_proto.errors import LocalProtocolError, NATSError

from .._engine.driver import Driver

if TYPE_CHECKING:
    from nats_proto._publishing.fast_ingest import FastIngest as Machine

    from .._message import ReceivedMessage
    from .caller import Caller

__all__ = ["FastIngest", "OnReport"]

OnReport = Callable[["IngestGap | IngestRefusal"], object]


class FastIngest:
    """Messages into one stream as fast as it takes them, with one acknowledgement for many (server 2.14, ADR-50).

    The stream must have ``allow_batched``, and says how many messages it acknowledges at once: so it slows down its
    writers when there are many. Nothing is sent a second time. With ``on_gap="fail"`` everything up to `acknowledged`
    is stored, in order, and the first message that is lost on the way or refused ends it with an error; with ``"ok"``
    it goes on, and `lost`, `refused`, `reports` and ``on_report`` tell of them.

    Leaving the ``async with`` block waits until the stream has said what it has. A server forgets a writer from which
    nothing came for 10 s: who writes slowly uses `JetStream.publisher`. For any number of tasks.
    """

    def __init__(self, caller: Caller, machine: Machine, on_report: OnReport | None) -> None:
        self._client = caller.client
        self._hooking = caller.hooking
        self._machine = machine
        self._driver: Driver[ReceivedMessage, IngestReport] = Driver(caller.host, machine)
        self._on_report = on_report
        self._reports: deque[IngestGap | IngestRefusal] = deque(maxlen=MAX_REPORTS)
        self._lock = anyio.Lock(fast_acquire=True)
        """The numbers of the messages are their order on the wire."""
        self._now = caller.host.now
        self._error: NATSError | None = None
        self._look_at = 0.0

    def __repr__(self) -> str:
        machine = self._machine
        state = "ended" if machine.done else "open"
        return f"<nats_anyio.FastIngest of {machine.sent}, {machine.acknowledged} acknowledged, {state}>"

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
            if failure is not error:
                error.add_note(f"and {failure}")  # the error that ended the block comes first
        except BaseException as left:
            await self._abandon(left)  # it may be cancelled at the end of the block as well as in it
            raise

    @property
    def sent(self) -> int:
        """How many messages were published, which is the number of the last one."""
        return self._machine.sent

    @property
    def acknowledged(self) -> int:
        """The stream has looked at all messages up to this number; with ``on_gap="fail"`` it has stored them."""
        return self._machine.acknowledged

    @property
    def lost(self) -> int:
        """With ``on_gap="ok"``: how many messages were lost on the way, as far as the server has told."""
        return self._machine.lost

    @property
    def refused(self) -> int:
        """With ``on_gap="ok"``: how many messages the stream has refused, as far as the server has told."""
        return self._machine.refused

    @property
    def reports(self) -> tuple[IngestGap | IngestRefusal, ...]:
        """The last thousand of these."""
        return tuple(self._reports)

    @property
    def pub_ack(self) -> PubAck | None:
        """The last word of the stream: ``sequence`` is that of the last message. None before, and without a message."""
        return self._machine.pub_ack

    async def publish(
        self,
        subject: str,
        data: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        **options: Unpack[PublishOptions],
    ) -> int:
        """Send a message: its number, counted from 1. Returns when it is in the outgoing buffer; waits while the stream
        has as much to acknowledge as it wants to.

        The options are those of `JetStream.publish`. Raises what `Client.publish` raises, `ValueError` and `TypeError`:
        this message was not sent then, and the next may be. What has ended the whole is raised here or by `aclose`:
        `FastIngestGapError` for messages that were lost, with how many are ``stored``, an `ApiError` for what the
        stream refuses, `FastIngestError`, `PermissionsError`, `NATSTimeoutError` when the server is silent.
        """
        if self._hooking is not None:
            headers = self._hooking.hooks.headers_for(subject, headers)
        made = None if headers is None and not options else publish_headers(subject, data, headers, options)
        machine = self._machine
        async with self._lock:
            now = self._now()
            if now >= self._look_at or not machine.room:
                self._look_at = now + LOOK
                await self._make_room()
                now = self._now()
            reply = machine.begin(subject, now=now)
            try:
                await self._client.publish(subject, data, reply=reply, headers=made)
            except BaseException:  # also cancelled: it was not taken
                machine.failed()
                raise
            return machine.sent

    async def aclose(self) -> PubAck | None:
        """Publish no more, and wait for the last word of the stream: `pub_ack`. Raises as `publish` what has ended the
        whole. May be called again."""
        machine = self._machine
        async with self._lock:
            if self._error is not None:
                raise self._error
            if machine.sent and not machine.done:
                machine.finish(now=self._now())
                while not machine.done:
                    await self._next(None)
            await self._driver.close()
            machine.abandon("closed")
        return machine.pub_ack

    async def _abandon(self, left_by: BaseException) -> None:
        self._machine.abandon(type(left_by).__name__)
        await self._driver.close()  # which cannot be cancelled

    # --- under the lock ----------------------------------------------------------------------------------------------

    async def _make_room(self) -> None:
        machine = self._machine
        while await self._next(0.0):
            pass
        while not machine.room:
            if machine.done:
                raise LocalProtocolError("the fast ingest has ended") from self._error
            await self._next(None)

    async def _next(self, deadline: float | None) -> bool:
        """Take one report, or wait for it: whether there was one."""
        try:
            report = await self._driver.next_until(deadline)
        except NATSError as error:
            self._machine.abandon(str(error))
            await self._driver.close()
            self._error = error
            raise
        if isinstance(report, IngestGap | IngestRefusal):
            self._reports.append(report)
            if self._on_report is not None:
                self._on_report(report)
        return report is not None
