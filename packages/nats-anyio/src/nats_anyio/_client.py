"""The client: every operation a thin step over the session, and the wait for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Self
from weakref import ref

import anyio
import anyio.lowlevel
from anyio import CancelScope

from nats_proto import (
    CHUNK_SIZE,
    ConnectOptions,
    HeadersLike,
    PublishMany,
    ServerInfo,
    SessionStatus,
    StatsSnapshot,
    check_callback,
    check_concurrency,
    check_timeout,
    explained,
    no_answer_in_time,
    no_room_in_time,
)
from nats_proto.errors import NATSError, NATSTimeoutError

from ._engine.handling import Handler, Handling
from ._engine.hub import Answer, Hub
from ._message import Message
from ._request_many import Answers
from ._subscription import Subscription

if TYPE_CHECKING:
    from ._host import MachineHost

__all__ = ["Client"]

Payload = bytes | bytearray | memoryview

TURN: Final = 1024 * 1024 // CHUNK_SIZE
"""Chunks, 1 MiB of them, that publishers write before one of them lets others run."""
CLOSE_LIMIT: Final = 2.0
"""Seconds that `Client.close`, and so leaving the block, takes at most. Half a second of it is the session's, for what
was published to be written."""


class Client:
    """A connection to NATS that is kept up. Made by `connect` or `open`; for the tasks of one event loop.

    Every awaiting method may be cancelled anywhere: no message, reply slot or place in a queue is lost by it. In
    another event loop, also that of another thread, methods raise `LocalProtocolError`. In a forked child the client is
    closed, and methods raise `ConnectionClosedError`. Properties may be read anywhere. ``async with client`` closes it
    at the end of the block.
    """

    def __init__(self, hub: Hub, options: ConnectOptions, *, alone: bool = False) -> None:
        self._hub = hub
        self._session = hub.session
        self._publish_quickly = hub.publish_quickly
        self._manager = hub.manager
        self._options = options
        self._alone = alone
        """No block ends its tasks: `close` does."""
        hub.session_changed = self._change_session
        self._chunks = 0
        """Written by publishers since one of them has let others run."""

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name is not None else ""
        return f"<nats_anyio.Client{name} {self.status.name} {self.connected_url or 'not connected'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _change_session(self) -> None:
        self._session = self._hub.session
        self._publish_quickly = self._hub.publish_quickly

    # --- sending -----------------------------------------------------------------------------------------------------

    async def publish(
        self, subject: str, data: Payload = b"", *, reply: str | None = None, headers: HeadersLike | None = None
    ) -> None:
        """Send a message, at most once. Returns when it is in the outgoing buffer (`flush` waits for the server).

        Waits while there is a connection and 1 MiB waits to be written; only then, and after each 1 MiB, it is a
        checkpoint, so a loop that publishes lets others run now and then. Without a connection up to ``pending_size``
        bytes are kept for the next one; what its server would refuse is dropped then, with a `PublishesDropped`. Before
        it raises it is a checkpoint as well: a loop that tries again at once does not keep the client from its work.

        Raises `InvalidSubjectError`, `InvalidHeaderError`, `MaxPayloadError`, `MaxControlLineError`,
        `HeadersNotSupportedError`, `OutboundBufferLimitError`, `ConnectionDrainingError`, `ConnectionClosedError`; the
        message was not taken then.
        """
        if self._manager.idle_writer is None:
            # The writer is at work. Nobody looks who calls, which takes a tenth of a publish; `Hub.publish_quickly` is
            # safe to be called by a wrong thread, which is refused as soon as the writer is idle.
            if self._publish_quickly(subject, data, reply, headers):
                return
        else:
            self._hub.check_caller()
            if self._publish_quickly(subject, data, reply, headers):
                self._manager.wake_writer()
                return
        await self._wait_for_turn()
        try:
            self._session.publish(subject, data, reply=reply, headers=headers)
        except Exception:
            await anyio.lowlevel.checkpoint()
            raise
        self._write_soon()

    async def publish_many(self, subject: str, payloads: Iterable[Payload]) -> None:
        """Send a message for each payload, in order; the same as to `publish` them one by one, and quicker.

        The iterable is read a few hundred payloads ahead. What it raises, and what `publish` raises for one of them,
        comes out; the messages before that one were taken. `TypeError` for one payload in place of many.
        """
        many = PublishMany(subject, payloads)
        while many.fetch():
            await self._wait_for_turn()
            try:
                many.step(self._session)
            except Exception:
                await anyio.lowlevel.checkpoint()
                raise
            self._write_soon()

    async def _wait_for_turn(self) -> None:
        self._hub.check_caller()
        if self._chunks >= TURN:
            self._chunks = 0
            await anyio.lowlevel.checkpoint()
        if not self._session.writable:
            self._chunks = 0
            await self._hub.wait_writable()

    def _write_soon(self) -> None:
        """Who makes a chunk full writes it, as far as the system takes it at once: the writer has less to wait for."""
        if self._session.chunk_waits:
            self._chunks += 1
            self._manager.write_now()
        else:
            self._manager.wake_writer()

    async def request(
        self, subject: str, data: Payload = b"", *, timeout: float = 5.0, headers: HeadersLike | None = None
    ) -> Message:
        """Send a message and wait for the first answer, for ``timeout`` seconds in all; above 100 years for ever.

        Raises `NoRespondersError` at once when nobody listens, `NATSTimeoutError`, `PermissionsError`,
        `ConnectionLostError` (by option, and at `reconnect`), and what `publish` raises. After a timeout a request that
        waits for a connection is still sent; one that found no room to wait was not, ``outcome`` tells.
        """
        self._hub.check_caller()
        seconds = check_timeout("timeout", timeout)
        deadline: float | None = None
        if not self._session.writable:
            deadline = self._hub.now() + seconds
            with CancelScope(deadline=deadline) as waiting:
                await self._hub.wait_writable()
            if waiting.cancelled_caught:
                raise self.unsent(f"request to {subject!r}", seconds)
        hub = self._hub
        try:
            token = hub.session.request(subject, data, headers=headers)
        except Exception:
            await anyio.lowlevel.checkpoint()
            raise
        answer = hub.requests[token] = Answer()
        try:
            if len(hub.requests) == 1:
                self._manager.write_now()
            else:
                self._manager.wake_writer()  # with those of others who ask at the same time
            await hub.wait_for(answer, self._hub.now() + seconds if deadline is None else deadline)
        finally:
            if hub.requests.pop(token, None) is not None:
                self._session.cancel_request(token)
        message, error = answer.take()
        if message is not None:
            message.client = self
            return message
        raise error or no_answer_in_time(f"request to {subject!r}", seconds, self.status)

    def request_many(
        self,
        subject: str,
        data: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        max_wait: float = 1.0,
        max_msgs: int | None = None,
        stall: float | None = None,
        sentinel: Callable[[Message], bool] | None = None,
    ) -> Answers:
        """Send a message and iterate over its answers (ADR-47).

        They end ``max_wait`` seconds after the request, after ``max_msgs``, when ``stall`` seconds pass between two of
        them, or with the one for which ``sentinel`` returns True, which is not given. An end by time is no error.
        It is one when there was no room for the request: `NATSTimeoutError`, with the outcome ``"failed"``. Raises
        `ValueError` for a wait that is not positive or a maximum below 1, `TypeError` for what is no number.
        """
        from nats_proto import RequestMany  # with all that machines need: few programs use one

        def collection(now: float, inbox: str) -> RequestMany[Message]:
            return RequestMany(
                subject,
                data,
                inbox=inbox,
                headers=headers,
                now=now,
                max_wait=max_wait,
                max_msgs=max_msgs,
                stall=stall,
                sentinel=sentinel,
            )

        self._hub.check_caller()
        return Answers(self._host(), collection)

    def _host(self) -> MachineHost:
        """For what is driven by whoever waits for it."""
        from ._host import MachineHost

        return MachineHost(self, self._hub)

    async def flush(self, timeout: float = 10.0) -> None:
        """Wait until the server has read everything published so far, for ``timeout`` seconds.

        Raises `ConnectionLostError` when the connection ends on the way or there is none, `NATSTimeoutError`,
        `ConnectionClosedError`.
        """
        self._hub.check_caller()
        seconds = check_timeout("timeout", timeout)
        if self._hub.abandoned:
            self._hub.settle()  # so that the server has read it as well
        try:
            token = self._session.flush()
        except Exception:
            await anyio.lowlevel.checkpoint()
            raise
        answer = self._hub.flushes[token] = Answer()
        try:
            self._manager.write_now()
            await self._hub.wait_for(answer, self._hub.now() + seconds)
        finally:
            if self._hub.flushes.pop(token, None) is not None:
                self._session.cancel_flush(token)
        _, error = answer.take()
        if error is not None or not answer.given:
            raise error or no_answer_in_time("flush", seconds, self.status)

    async def rtt(self, timeout: float = 10.0) -> float:
        """Seconds that a `flush` takes; raises as it does."""
        start = self._hub.now()
        await self.flush(timeout)
        return self._hub.now() - start

    # --- receiving ---------------------------------------------------------------------------------------------------

    @explained
    def subscribe(
        self,
        subject: str,
        *,
        queue: str | None = None,
        callback: Handler | None = None,
        concurrency: int = 1,
        max_msgs: int | None = None,
        max_pending_msgs: int | None = None,
        max_pending_bytes: int | None = None,
    ) -> Subscription:
        """Subscribe, at once: the result may be awaited, entered with ``async with``, or iterated over.

        Held by nobody, it ends. ``callback``, a function or an ``async def``, is called with one message at a time, in
        order, in a copy of this call's context (`contextvars`); what it raises is logged. With ``concurrency`` up to so
        many calls (1024 at most) run at once, begun in order, each in one of as many copies. ``max_msgs``: end after
        that many messages. A subscription at its pending limits (default: the options', 0: none) drops new messages and
        reports `SlowConsumer`.

        Raises `InvalidSubjectError`, `ValueError`, `TypeError`, `ConnectionDrainingError`, `ConnectionClosedError`.
        """
        self._hub.check_caller()
        check_concurrency(concurrency, has_callback=callback is not None)
        handling: Handling | None = None
        if callback is not None:
            check_callback(callback, awaits=True)
            handling = Handling(callback, concurrency)
        state = self._session.subscribe(
            subject,
            queue=queue,
            max_msgs=max_msgs,
            max_pending_msgs=max_pending_msgs,
            max_pending_bytes=max_pending_bytes,
        )
        sub = Subscription(self, self._hub, state, handling)
        self._hub.subscriptions[state.sid] = ref(sub)
        if handling is not None:
            self._hub.serve(sub, handling)
        self._hub.settle()
        return sub

    def new_inbox(self) -> str:
        """A reply subject nobody else has, under the ``inbox_prefix``."""
        self._hub.check_caller()
        return self._session.new_inbox()

    # --- life cycle --------------------------------------------------------------------------------------------------

    async def drain(self, timeout: float | None = None) -> None:
        """Finish and close: subscriptions get what the server has sent, it is read, what was published is written.

        Called from a callback of a subscription it does not wait, since it would wait for that callback to return. A
        cancelled wait leaves the drain going on.

        Raises `NATSTimeoutError` after ``timeout`` seconds (default: option ``drain_timeout``), `ConnectionLostError`
        when the connection is lost on the way, or there is none and something is unread or unsent; the client is closed
        all the same, and the text says what was left. `ConnectionClosedError` when it was closed before.
        """
        self._hub.check_caller()
        seconds = self.drain_timeout if timeout is None else check_timeout("timeout", timeout)
        try:
            self._session.drain(now=self._hub.now(), timeout=seconds)
        except Exception:
            await anyio.lowlevel.checkpoint()
            raise
        self._hub.settle()
        if anyio.get_current_task().id in self._hub.handler_tasks:
            return
        await self._hub.wait_ended()
        if self._alone:
            await self.close()
        closed = self._hub.closed
        if closed is not None and closed.error is not None:
            raise closed.error

    async def close(self) -> None:
        """End now: every waiting call fails, queued messages are dropped, what was published gets 0.5 s to be written.

        It completes even when it is cancelled, and takes 2 s at most. Callbacks that run are not waited for; those of a
        client made by `open` are cancelled, unless one of them has called this. Harmless when closed, in a forked
        child, and after the event loop that the client belongs to.
        """
        hub = self._hub
        if hub.over:
            return
        hub.check_caller()
        deadline = hub.now() + CLOSE_LIMIT
        await self.end()
        if self._alone and not hub.is_own_task():
            hub.stop()
            with CancelScope(shield=True, deadline=deadline):
                await hub.gone.wait()

    async def end(self) -> None:
        """`close`, but for the tasks of callbacks."""
        hub = self._hub
        now = hub.now()
        try:
            self._session.close(now=now)
        except Exception as defect:
            hub.fail_by_defect(defect)
        hub.settle()
        with CancelScope(shield=True, deadline=now + CLOSE_LIMIT):
            await hub.wait_ended()

    async def reconnect(self) -> None:
        """Leave the connection and make a new one, in the background; while waiting between attempts, stop waiting.

        What the old connection took a server may still be reading while the new one already brings more, so messages
        of the two may change places: `flush` before, where that matters. Requests and flushes on their way fail with
        `ConnectionLostError`. Raises `ConnectionClosedError`, `ConnectionDrainingError`.
        """
        self._hub.check_caller()
        try:
            self._session.reconnect(now=self._hub.now())
        finally:
            self._hub.settle()
            await anyio.lowlevel.cancel_shielded_checkpoint()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The option ``name``."""
        return self._options.name

    @property
    def status(self) -> SessionStatus:
        """Where the client is in its life."""
        return self._session.status

    @property
    def stats(self) -> StatsSnapshot:
        """The counters now."""
        return self._session.stats

    @property
    def server_info(self) -> ServerInfo | None:
        """The last INFO of the current, or else of the last, connection."""
        return self._session.server_info

    @property
    def connected_url(self) -> str | None:
        """The connected server's URL without user information, or None."""
        return self._session.connected_url

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of all known servers without user information, the next one to try first."""
        return self._session.servers

    @property
    def last_error(self) -> NATSError | None:
        """The last thing that went wrong on a connection or an attempt."""
        return self._session.last_error

    @property
    def max_payload(self) -> int | None:
        """Bytes of headers and payload together that the server takes; None before the first connection."""
        return self._session.max_payload

    @property
    def drain_timeout(self) -> float:
        """The option ``drain_timeout``."""
        return self._options.drain_timeout

    def unsent(self, operation: str, seconds: float) -> NATSTimeoutError:
        """The time was up before there was room for it in the outgoing buffer."""
        return no_room_in_time(operation, seconds, self.status)
