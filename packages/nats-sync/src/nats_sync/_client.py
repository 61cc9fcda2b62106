"""The client: every operation a thin step over the session, and the wait for its end.

What it gives to its users is defined here as well. A message tells its client, the client subscribes, and a
subscription gives messages: the three know each other, and what they are based on knows none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Self, TypeVar, overload

from nats_proto import (
    ConnectOptions,
    HeadersLike,
    Payload,
    PublishMany,
    check_callback,
    check_concurrency,
    check_timeout,
    explained,
    no_answer_in_time,
)
from nats_proto._wire.twin import ThreadAnswer

from ._client_state import ClientState
from ._engine.handling import Handling
from ._engine.waiter import Waiter, wait_for
from ._message import ReceivedMessage
from ._request_many import AnswersBase
from ._subscription import SubscriptionBase

if TYPE_CHECKING:
    import nats_proto
    from nats_proto import Session
    from nats_proto._consuming.hooks import Hooks

    from ._engine.assembly import Engine
    from ._engine.turns import Lead
    from ._host import MachineHost
    from ._jetstream.context import JetStream
    from ._jetstream.message import JetStreamMessage
    from ._services.discovery import Services
    from ._services.running import StatsHandler
    from ._services.service import Service

__all__ = ["Answers", "Client", "Message", "Subscription"]

T = TypeVar("T")


class Message(ReceivedMessage, gc=False, eq=False):
    """One message as the server delivered it, with `respond`."""

    client: Client | None = None  # pyright: ignore[reportIncompatibleVariableOverride]  # no other client gives any
    """The client it came to. Set when the message is given to the user, not before: a queue holds no reference back."""


Handler = Callable[[Message], object]
"""A callback of a subscription."""


class Subscription(SubscriptionBase[Message]):
    """Made by `Client.subscribe`, and subscribed from then on.

    ``with nc.subscribe(...) as sub`` unsubscribes when the block is left. Without a callback it also ends, soon, when
    nobody can reach it any more, as after a loop ``for message in nc.subscribe(...)`` that was left. One that has a
    name goes on when a loop over it is left, and so does one with a callback: until `unsubscribe` or `drain`.

    Several threads may read one subscription; each message goes to one of them. A `KeyboardInterrupt` in a wait takes
    no message away.
    """

    __slots__ = ()


class Answers(AnswersBase[Message]):
    """The answers to one `Client.request_many`, each as it comes. The request leaves when the first is asked for.

    Its inbox goes with the end of the iteration, with `close`, with the ``with`` block, or soon after nobody holds
    the iterator any more, as after a ``break``. For one thread at a time.
    """


class Client(ClientState):
    """A connection to NATS that is kept up. Made by `connect`; for use by any number of threads.

    Every method may be called from any thread, callbacks and ``on_event`` included. Leaving the ``with`` block closes.
    A `KeyboardInterrupt` in a call that waits ends the call and leaves the client usable; one in the midst of a write
    may cost the connection, not what was published before. A client that is neither closed nor drained lives until the
    interpreter ends: its threads hold it. What was published gets 0.5 s to be written then, and a warning in the log
    says how much was not. In a forked child it is closed.
    """

    def __init__(self, engine: Engine, options: ConnectOptions) -> None:
        super().__init__(engine.hub, options)
        self._writing = engine.hub.writing
        self._writer = engine.writer
        self._turns = engine.turns
        self._threads = engine.threads

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- sending -----------------------------------------------------------------------------------------------------

    def publish(
        self, subject: str, data: Payload = b"", *, reply: str | None = None, headers: HeadersLike | None = None
    ) -> None:
        """Send a message, at most once. Returns when it is in the outgoing buffer (`flush` waits for the server).

        Waits while there is a connection and 1 MiB waits to be written; but not in a signal handler that has
        interrupted another call of this client, whose messages are taken up to ``pending_size`` bytes. Without a
        connection up to ``pending_size`` bytes are kept for the next one; what its server would refuse is dropped then,
        with a `PublishesDropped`.

        Raises `InvalidSubjectError`, `InvalidHeaderError`, `MaxPayloadError`, `MaxControlLineError`,
        `HeadersNotSupportedError`, `OutboundBufferLimitError`, `ConnectionDrainingError`, `ConnectionClosedError`; the
        message was not taken then.
        """
        writing = self._writing
        if writing.publish_quickly(subject, data, reply, headers):
            # Why this look needs no lock is told in `_engine.writing_side`.
            if not writing.attended:
                self._writer.attend()
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
        def publish(session: Session[nats_proto.Message]) -> None:
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
        aside: bool = False,
    ) -> bool:
        """`publish`, written by the calling thread if nobody else is writing: an answer is waited for.

        False, and nothing was sent, when there was no room until ``deadline`` (absolute). ``aside``: the writer's
        thread writes, since the calling thread has something else to do meanwhile.
        """
        return self._writer.do(
            lambda session: session.publish(subject, data, reply=reply, headers=headers),
            deadline=deadline,
            aside=aside,
        )

    def request(
        self, subject: str, data: Payload = b"", *, timeout: float = 5.0, headers: HeadersLike | None = None
    ) -> Message:
        """Send a message and wait for the first answer, for ``timeout`` seconds in all; above 100 years for ever.

        Raises `NoRespondersError` at once when nobody listens, `NATSTimeoutError`, `PermissionsError`,
        `ConnectionLostError` (by option, and at `reconnect`), and what `publish` raises. A request that waits for a
        connection when its time is up is not sent any more. One that found no room to wait was not either: its
        ``outcome`` is ``"failed"``.
        """
        return self.request_accepted(subject, data, timeout=timeout, headers=headers, accept=None)

    def request_accepted(
        self,
        subject: str,
        data: Payload,
        *,
        timeout: float,
        headers: HeadersLike | None,
        accept: Callable[[nats_proto.Message], bool] | None,
    ) -> Message:
        """`request`, where an answer for which ``accept`` returns False is skipped; see `Session.request`."""
        seconds = check_timeout("timeout", timeout)
        hub = self._hub
        turns = self._turns
        deadline = monotonic() + seconds
        answer = ThreadAnswer(hub.answers)
        token: int | None = None
        lead: Lead | None = None

        def ask(session: Session[nats_proto.Message]) -> None:
            nonlocal token, lead
            token = session.request_quickly(subject, data, headers, accept)
            if not token:
                token = session.request(subject, data, headers=headers, accept=accept)
            hub.requests[token] = answer
            lead = turns.lead()

        turns.prepare()
        try:
            if not self._writer.do(ask, deadline):
                raise self.unsent(f"request to {subject!r}", seconds)
            if lead is None or token is None or not turns.take_reply(lead, token, deadline - monotonic()):
                wait_for(answer, deadline)
        except BaseException:
            turns.give_back()
            raise
        finally:
            # After a time-out or an interrupt: an answer that still comes is for nobody, and the session need not
            # remember the request.
            if token is not None and not answer.given:
                with hub.lock:
                    hub.requests.pop(token, None)
                    hub.session.cancel_request(token)
        message, error = answer.take()
        if error is not None:
            # One error may end many calls, and must not show the frames of one of them to the next.
            raise error.with_traceback(None)
        if not isinstance(message, Message):  # the session makes no others: there was none
            raise no_answer_in_time(f"request to {subject!r}", seconds, self.status)
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
        It is one when the request could not be sent in that time, since there was no room for it, say:
        `NATSTimeoutError`, with the outcome ``"failed"``. A request that waits for a connection at their end is not
        sent any more. Raises `ValueError` for a wait that is not positive or a maximum below 1, `TypeError` for what is
        no number.
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

    def jetstream(
        self,
        *,
        domain: str | None = None,
        api_prefix: str | None = None,
        timeout: float = 5.0,
        hooks: Hooks[JetStreamMessage] | None = None,
    ) -> JetStream:
        """JetStream, as this account has it: streams, publishing with acknowledgements, consumers. Asks nothing yet.

        ``domain``, or ``api_prefix`` in place of ``$JS.API``, is where it is, if not at the servers of this account.
        ``timeout``: seconds for each call that says nothing else. ``hooks``: functions that see all that is published,
        read and acknowledged by it (`nats_sync.jetstream.Hooks`). Raises `ValueError`, `TypeError`.
        """
        from nats_proto._jetstream.api import JetStreamApi

        from ._jetstream.context import JetStream

        api = JetStreamApi(
            domain=domain,
            api_prefix=api_prefix,
            timeout=timeout,
            now=monotonic,
            new_inbox=self.new_inbox,
            server_version=self._server_version,
        )
        return JetStream(self, self._host(), api, hooks)

    def _server_version(self) -> str:
        info = self.server_info
        return "" if info is None else info.version

    def _host(self) -> MachineHost[Message]:
        """For what is driven by whoever waits for it."""
        from ._host import MachineHost

        return MachineHost(self, self._hub, self._writer)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until the server has read everything published so far, for ``timeout`` seconds.

        Raises `ConnectionLostError` when the connection ends on the way or there is none, `NATSTimeoutError`,
        `ConnectionClosedError`.
        """
        seconds = check_timeout("timeout", timeout)
        hub = self._hub
        waiter: Waiter[None] = Waiter()
        token: int | None = None

        def ask(session: Session[nats_proto.Message]) -> None:
            nonlocal token
            token = session.flush()
            hub.flushes[token] = waiter

        try:
            self._writer.do(ask, needs_room=False)
            waiter.wait(seconds)
        finally:
            if token is not None and not waiter.done:
                with hub.lock:
                    hub.flushes.pop(token, None)
                    hub.session.cancel_flush(token)
        if waiter.error is not None:
            raise waiter.error.with_traceback(None)
        if not waiter.done:
            raise no_answer_in_time("flush", seconds, self.status)

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
        handling: Handling[Message] | None = None
        if callback is not None:
            check_callback(callback, awaits=False)
            handling = Handling(callback, concurrency)
        hub = self._hub
        with hub.lock:
            # Under one lock with `add_subscription`: the first message must find the subscription known to the hub.
            state = hub.session.subscribe(
                subject,
                queue=queue,
                max_msgs=max_msgs,
                max_pending_msgs=max_pending_msgs,
                max_pending_bytes=max_pending_bytes,
            )
            sub = Subscription(self, hub, state, handling)
            hub.add_subscription(state.sid, sub, hold=handling is not None)
            if handling is not None:
                hub.callbacks.reserve(handling)
                self._turns.make_bed()
            hub.settle()
            hub.see_to_writing()
        hub.leave()
        return sub

    def new_inbox(self) -> str:
        """A reply subject nobody else has, under the ``inbox_prefix``."""
        with self._hub.lock:
            return self._hub.session.new_inbox()

    # --- services ----------------------------------------------------------------------------------------------------

    def add_service(
        self,
        name: str,
        version: str,
        *,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
        queue_group: str | None = "q",
        stats_handler: StatsHandler | None = None,
    ) -> Service:
        """Begin an instance of a service (ADR-32), which monitors find at once; its endpoints are made by its methods.

        ``name``: letters, digits, ``-`` and ``_``. ``version``: as Semantic Versioning has it. ``queue_group``: of its
        endpoints, if these say nothing else, so that each request goes to one instance; None: each instance gets each
        request. ``stats_handler`` is called with an `EndpointInfo` when somebody asks for statistics, and what it
        returns is told as ``data``. ``with nc.add_service(...) as service`` stops it when the block is left.

        Raises `InvalidServiceError`, `InvalidSubjectError`, `TypeError`, and as `subscribe`.
        """
        from ._services.running import Running  # as all of its kind: loaded by those who use it
        from ._services.service import Service

        running = Running(
            self,
            self._hub,
            name,
            version,
            description=description,
            metadata=metadata,
            queue_group=queue_group,
            stats_handler=stats_handler,
        )
        return Service(running)

    def services(
        self,
        name: str | None = None,
        id: str | None = None,  # noqa: A002  # as the answers call it
        *,
        timeout: float = 1.0,
        stall: float | None = 0.3,
    ) -> Services:
        """Ask which services there are: all, those of a ``name``, or the one instance with this ``id``.

        `Services` has the questions. Each waits ``timeout`` seconds for answers, and after the first one no longer than
        ``stall`` seconds for the next (None: the whole time). Raises `InvalidServiceError`, `TypeError`, `ValueError`.
        """
        from nats_proto._services.discovery import Sought

        from ._services.discovery import Services

        return Services(self, Sought(name=name, instance=id, timeout=timeout, stall=stall))

    @overload
    def request_service(
        self,
        subject: str,
        value: object = b"",
        *,
        response_type: None = None,
        timeout: float = 5.0,
        headers: HeadersLike | None = None,
    ) -> bytes: ...

    @overload
    def request_service(
        self,
        subject: str,
        value: object = b"",
        *,
        response_type: type[T],
        timeout: float = 5.0,
        headers: HeadersLike | None = None,
    ) -> T: ...

    def request_service(
        self,
        subject: str,
        value: object = b"",
        *,
        response_type: type[T] | None = None,
        timeout: float = 5.0,
        headers: HeadersLike | None = None,
    ) -> T | bytes:
        """Ask an endpoint of a service: ``value`` is sent as JSON, bytes as they are, and so the answer is read.

        ``response_type``: of the answer, one that msgspec knows; without it the answer is bytes. The subject is that of
        the endpoint, as its group has it. Raises `ServiceError` when the service answers with an error,
        `ServiceDecodeError` when it answers what is no such value, and as `request`; `TypeError` for a type or a
        value that msgspec does not know, before anything is sent.
        """
        from nats_proto._services.asking import ServiceRequest

        asked = ServiceRequest(subject, value, response_type)
        return asked.read(self.request(subject, asked.data, timeout=timeout, headers=headers))

    # --- life cycle --------------------------------------------------------------------------------------------------

    def drain(self, timeout: float | None = None) -> None:
        """Finish and close: subscriptions get what the server has sent, it is read, what was published is written.

        Called from a callback or from ``on_event`` it does not wait, since it would wait for itself; `Closed` tells the
        end. The same holds for a signal handler that has interrupted another call of this client. Callbacks and
        ``on_event`` that hang are waited for until the time is up, 2 seconds at most after the end.

        Raises `NATSTimeoutError` after ``timeout`` seconds (default: option ``drain_timeout``), `ConnectionLostError`
        when the connection is lost on the way, or there is none and something is unread or unsent; the client is closed
        all the same, and the text says what was left. `ConnectionClosedError` when it was closed before.
        """
        seconds = self.drain_timeout if timeout is None else check_timeout("timeout", timeout)
        hub = self._hub
        began = monotonic()
        hub.call(lambda: hub.session.drain(now=began, timeout=seconds))
        if self._threads.runs_user_code(threading.current_thread()) or hub.interrupted_here():
            return
        hub.wait_closed()
        self._threads.join(began + seconds)
        if hub.closed is not None and hub.closed.error is not None:
            raise hub.closed.error.with_traceback(None)

    def close(self) -> None:
        """End now: every waiting call fails, queued messages are dropped, what was published gets 0.5 s to be written.

        Waits until all threads of the client have ended; but for callbacks and ``on_event`` that do not return for 2
        seconds at most, once, and not at all when it is called by one of them. In a signal handler that has interrupted
        another call of this client it does not wait: it would wait for itself. Harmless when closed.
        """
        hub = self._hub
        try:
            hub.call(lambda: hub.session.close(now=monotonic()))
        except Exception as defect:
            # A close always ends: where the session cannot be closed, the client ends as after any other defect.
            hub.fail(defect)
        if hub.interrupted_here():
            return
        hub.wait_closed()
        self._threads.join()

    def reconnect(self) -> None:
        """Leave the connection and make a new one, in the background; while waiting between attempts, stop waiting.

        What the old connection took a server may still be reading while the new one already brings more, so messages
        of the two may change places: `flush` before, where that matters. Requests and flushes on their way fail with
        `ConnectionLostError`. Raises `ConnectionClosedError`, `ConnectionDrainingError`.
        """
        hub = self._hub
        hub.call(lambda: hub.session.reconnect(now=monotonic()))
