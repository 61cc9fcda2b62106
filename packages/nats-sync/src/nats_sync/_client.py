"""The client: every operation a thin step over the session, and the wait for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Self
from weakref import ref

from nats_proto import (
    ConnectOptions,
    HeadersLike,
    Payload,
    PublishMany,
    ServerInfo,
    SessionStatus,
    StatsSnapshot,
    check_concurrency,
    check_timeout,
    explained,
    unusable_callback,
)
from nats_proto.errors import NATSError, NATSTimeoutError

from ._engine.handling import Handler, Handling
from ._engine.pump import Pump
from ._engine.reading import Lead
from ._engine.waiter import Waiter
from ._message import Message
from ._request_many import Answers
from ._subscription import Subscription

if TYPE_CHECKING:
    from nats_proto import Session

    from ._engine.threads import Threads
    from ._engine.writer import Writer
    from ._host import MachineHost

__all__ = ["Client"]


class Client:
    """A connection to NATS that is kept up. Made by `connect`; for use by any number of threads.

    Every method may be called from any thread, callbacks and ``on_event`` included. Leaving the ``with`` block closes.
    A `KeyboardInterrupt` in a call that waits ends the call and leaves the client usable; one in the midst of a write
    may cost the connection, not what was published before. A client that is neither closed nor drained lives until the
    interpreter ends: its threads hold it. What was published gets 0.5 s to be written then, and a warning in the log
    says how much was not. In a forked child it is closed.
    """

    def __init__(self, pump: Pump, writer: Writer, threads: Threads, options: ConnectOptions) -> None:
        self._pump = pump
        self._writer = writer
        self._threads = threads
        self._options = options

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name is not None else ""
        return f"<nats_sync.Client{name} {self.status.name} {self.connected_url or 'not connected'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- sending -----------------------------------------------------------------------------------------------------

    def publish(
        self, subject: str, data: Payload = b"", *, reply: str | None = None, headers: HeadersLike | None = None
    ) -> None:
        """Send a message, at most once. Returns when it is in the outgoing buffer (`flush` waits for the server).

        Waits while there is a connection and 1 MiB waits to be written. Without a connection up to ``pending_size``
        bytes are kept for the next one; what its server would refuse is dropped then, with a `PublishesDropped`.

        Raises `InvalidSubjectError`, `InvalidHeaderError`, `MaxPayloadError`, `MaxControlLineError`,
        `HeadersNotSupportedError`, `OutboundBufferLimitError`, `ConnectionDrainingError`, `ConnectionClosedError`; the
        message was not taken then.
        """
        pump = self._pump
        if pump.publish_quickly(subject, data, reply, headers):
            if not pump.writer_called:
                with pump.lock:
                    pump.give_to_writer()
            return
        self._publish_strictly(subject, data, reply, headers)

    def publish_many(self, subject: str, payloads: Iterable[Payload]) -> None:
        """Send a message for each payload, in order; the same as to `publish` them one by one, and quicker.

        The iterable runs in this thread, without any lock, and is read a few hundred payloads ahead. What it raises,
        and what `publish` raises for one of them, comes out; the messages before that one were taken. `TypeError` for
        one payload in place of many.
        """
        many = PublishMany(subject, payloads)
        while many.fetch():
            self._writer.do(many.step, at_once=False)

    def _publish_strictly(self, subject: str, data: Payload, reply: str | None, headers: HeadersLike | None) -> None:
        # Apart from `publish`: what a function of its own refers to is set up at each call, needed or not.
        def publish(session: Session[Message]) -> None:
            session.publish(subject, data, reply=reply, headers=headers)

        self._writer.do(publish, at_once=False)

    def publish_now(
        self,
        subject: str,
        data: Payload = b"",
        *,
        reply: str | None = None,
        headers: HeadersLike | None = None,
        deadline: float | None = None,
    ) -> bool:
        """`publish`, written by the calling thread if nobody else is writing: an answer is waited for.

        False, and nothing was sent, when there was no room until ``deadline`` (absolute).
        """
        return self._writer.do(
            lambda session: session.publish(subject, data, reply=reply, headers=headers), deadline=deadline
        )

    def request(
        self, subject: str, data: Payload = b"", *, timeout: float = 5.0, headers: HeadersLike | None = None
    ) -> Message:
        """Send a message and wait for the first answer, for ``timeout`` seconds in all; above 100 years for ever.

        Raises `NoRespondersError` at once when nobody listens, `NATSTimeoutError`, `PermissionsError`,
        `ConnectionLostError` (by option, and at `reconnect`), and what `publish` raises. After a timeout a request that
        waits for a connection is still sent; one that found no room to wait was not, ``outcome`` tells.
        """
        seconds = check_timeout("timeout", timeout)
        pump = self._pump
        deadline = monotonic() + seconds
        waiter: Waiter[Message] = Waiter()
        token: int | None = None
        lead: Lead | None = None

        def ask(session: Session[Message]) -> None:
            nonlocal token, lead
            token = session.request(subject, data, headers=headers)
            pump.requests[token] = waiter
            lead = pump.reading.lead()

        pump.reading.prepare()
        try:
            if not self._writer.do(ask, deadline):
                raise self.unsent(f"request to {subject!r}", seconds)
            if lead is None or token is None or not pump.reading.take_reply(lead, token, deadline - monotonic()):
                waiter.wait(deadline - monotonic())
        except BaseException:
            pump.reading.give_back()
            raise
        finally:
            if token is not None and not waiter.done:
                with pump.lock:
                    pump.requests.pop(token, None)
                    pump.session.cancel_request(token)
        if waiter.error is not None:
            raise waiter.error.with_traceback(None)
        message = waiter.result
        if message is None:
            raise self._timed_out(f"request to {subject!r}", seconds)
        message.client = self
        return message

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

        return Answers(self._host(), collection)

    def _host(self) -> MachineHost:
        """For what is driven by whoever waits for it."""
        from ._host import MachineHost

        return MachineHost(self, self._pump, self._writer)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until the server has read everything published so far, for ``timeout`` seconds.

        Raises `ConnectionLostError` when the connection ends on the way or there is none, `NATSTimeoutError`,
        `ConnectionClosedError`.
        """
        seconds = check_timeout("timeout", timeout)
        pump = self._pump
        waiter: Waiter[None] = Waiter()
        token: int | None = None

        def ask(session: Session[Message]) -> None:
            nonlocal token
            token = session.flush()
            pump.flushes[token] = waiter

        try:
            self._writer.do(ask, needs_room=False)
            waiter.wait(seconds)
        finally:
            if token is not None and not waiter.done:
                with pump.lock:
                    pump.flushes.pop(token, None)
                    pump.session.cancel_flush(token)
        if waiter.error is not None:
            raise waiter.error.with_traceback(None)
        if not waiter.done:
            raise self._timed_out("flush", seconds)

    def rtt(self, timeout: float = 10.0) -> float:
        """Seconds that a `flush` takes; raises as it does."""
        start = monotonic()
        self.flush(timeout)
        return monotonic() - start

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
        """Subscribe, at once: the result may be entered with ``with``, or iterated over. Held by nobody, it ends.

        ``callback`` is called with one message at a time, in order, by one of at most 32 threads that all callbacks of
        the client share, in a copy of this call's context (`contextvars`); what it raises is logged. With
        ``concurrency`` up to so many calls (1024 at most) run at once, begun in order, in as many threads more and each
        in a copy of its own. ``max_msgs``: end after that many messages. A subscription at its pending limits (default:
        the options', 0: none) drops new messages and reports `SlowConsumer`.

        Raises `InvalidSubjectError`, `ValueError`, `TypeError` (for an ``async def`` too: nats_anyio is for those),
        `ConnectionDrainingError`, `ConnectionClosedError`.
        """
        check_concurrency(concurrency, has_callback=callback is not None)
        handling: Handling | None = None
        if callback is not None:
            wrong = unusable_callback(callback, awaits=False)
            if wrong is not None:
                raise TypeError(f"subscribe: the callback cannot be used, {wrong}")
            handling = Handling(callback, concurrency)
        pump = self._pump
        with pump.lock:
            state = pump.session.subscribe(
                subject,
                queue=queue,
                max_msgs=max_msgs,
                max_pending_msgs=max_pending_msgs,
                max_pending_bytes=max_pending_bytes,
            )
            sub = Subscription(self, pump, state, handling)
            pump.subscriptions[state.sid] = ref(sub)
            if handling is not None:
                pump.handled[state.sid] = sub
                pump.callbacks.reserve(handling)
            pump.drain()
            pump.give_to_writer()
        pump.leave()
        return sub

    def new_inbox(self) -> str:
        """A reply subject nobody else has, under the ``inbox_prefix``."""
        with self._pump.lock:
            return self._pump.session.new_inbox()

    # --- life cycle --------------------------------------------------------------------------------------------------

    def drain(self, timeout: float | None = None) -> None:
        """Finish and close: subscriptions get what the server has sent, it is read, what was published is written.

        Called from a callback or from ``on_event`` it does not wait, since it would wait for itself; `Closed` tells the
        end. Callbacks and ``on_event`` that hang are waited for until the time is up, 2 seconds at most after the end.

        Raises `NATSTimeoutError` after ``timeout`` seconds (default: option ``drain_timeout``), `ConnectionLostError`
        when the connection is lost on the way, or there is none and something is unread or unsent; the client is closed
        all the same, and the text says what was left. `ConnectionClosedError` when it was closed before.
        """
        seconds = self.drain_timeout if timeout is None else check_timeout("timeout", timeout)
        pump = self._pump
        began = monotonic()
        pump.call(lambda: pump.session.drain(now=began, timeout=seconds))
        if self._threads.runs_user_code(threading.current_thread()):
            return
        pump.wait_closed()
        self._threads.join(began + seconds)
        if pump.closed is not None and pump.closed.error is not None:
            raise pump.closed.error.with_traceback(None)

    def close(self) -> None:
        """End now: every waiting call fails, queued messages are dropped, what was published gets 0.5 s to be written.

        Waits until all threads of the client have ended; but for callbacks and ``on_event`` that do not return for 2
        seconds at most, once, and not at all when it is called by one of them. Harmless when closed.
        """
        pump = self._pump
        try:
            pump.call(lambda: pump.session.close(now=monotonic()))
        except Exception as defect:
            pump.fail(defect)
        pump.wait_closed()
        self._threads.join()

    def reconnect(self) -> None:
        """Leave the connection and make a new one, in the background; while waiting between attempts, stop waiting.

        What the old connection took a server may still be reading while the new one already brings more, so messages
        of the two may change places: `flush` before, where that matters. Requests and flushes on their way fail with
        `ConnectionLostError`. Raises `ConnectionClosedError`, `ConnectionDrainingError`.
        """
        pump = self._pump
        pump.call(lambda: pump.session.reconnect(now=monotonic()))

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The option ``name``."""
        return self._options.name

    @property
    def status(self) -> SessionStatus:
        """Where the client is in its life."""
        return self._pump.session.status

    @property
    def stats(self) -> StatsSnapshot:
        """The counters now."""
        with self._pump.lock:
            return self._pump.session.stats

    @property
    def server_info(self) -> ServerInfo | None:
        """The last INFO of the current, or else of the last, connection."""
        with self._pump.lock:
            return self._pump.session.server_info

    @property
    def connected_url(self) -> str | None:
        """The connected server's URL without user information, or None."""
        with self._pump.lock:
            return self._pump.session.connected_url

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of all known servers without user information, the next one to try first."""
        with self._pump.lock:
            return self._pump.session.servers

    @property
    def last_error(self) -> NATSError | None:
        """The last thing that went wrong on a connection or an attempt."""
        with self._pump.lock:
            closed = self._pump.closed
            return self._pump.session.last_error or (None if closed is None else closed.error)

    @property
    def max_payload(self) -> int | None:
        """Bytes of headers and payload together that the server takes; None before the first connection."""
        with self._pump.lock:
            return self._pump.session.max_payload

    @property
    def drain_timeout(self) -> float:
        """The option ``drain_timeout``."""
        return self._options.drain_timeout

    def unsent(self, operation: str, seconds: float) -> NATSTimeoutError:
        """The time was up before there was room for it in the outgoing buffer."""
        return NATSTimeoutError(
            f"{operation}: it was not sent, the outgoing buffer was full for {seconds:g} s; "
            f"the client is {self.status.name}",
            outcome="failed",
        )

    def _timed_out(self, operation: str, seconds: float) -> NATSTimeoutError:
        return NATSTimeoutError(f"{operation}: no answer within {seconds:g} s; the client is {self.status.name}")
