"""The client: every operation a thin step over the session, and the wait for its end.

What it gives to its users is defined here as well. A message tells its client, the client subscribes, and a
subscription gives messages: the three know each other, and what they are based on knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Self, TypeVar, overload

import anyio
import anyio.lowlevel
from anyio import CancelScope

from nats_proto import (
    CHUNK_SIZE,
    MAX_SECONDS,
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

from ._client_state import ClientState
from ._engine.answers import AnyAnswer
from ._engine.limits import CLOSE_LIMIT
from ._message import ReceivedMessage
from ._request_many import AnswersBase
from ._subscription import SubscriptionBase

if TYPE_CHECKING:
    import nats_proto
    from nats_proto._consuming.hooks import Hooks

    from ._engine.hub import Hub
    from ._host import MachineHost
    from ._jetstream.context import JetStream
    from ._jetstream.message import JetStreamMessage
    from ._services.discovery import Services
    from ._services.running import StatsHandler
    from ._services.service import Service

__all__ = ["Answers", "Client", "Message", "Subscription"]

T = TypeVar("T")

TURN: Final = 1024 * 1024 // CHUNK_SIZE
"""Chunks, 1 MiB of them, that publishers write before one of them lets others run. Those of large payloads are longer,
and take no more time."""


class Message(ReceivedMessage, gc=False, eq=False):
    """One message as the server delivered it, with `respond`."""

    client: Client | None = None  # pyright: ignore[reportIncompatibleVariableOverride]  # no other client gives any
    """The client it came to. Set when the message is given to the user, not before: a queue holds no reference back."""


Handler = Callable[[Message], object]
"""A callback of a subscription: a function, or one that returns something to await."""


class Subscription(SubscriptionBase[Message]):
    """Made by `Client.subscribe`, and subscribed from then on.

    ``sub = await nc.subscribe(...)``, ``async with nc.subscribe(...) as sub`` and ``async for message in
    nc.subscribe(...)`` all work. Leaving the ``async with`` block unsubscribes. Without a callback it also ends, soon,
    when nobody can reach it any more, as after such a loop that was left. One that has a name goes on when a loop over
    it is left, and so does one with a callback: until `unsubscribe` or `drain`.

    A message that is there is given without a checkpoint; a wait is one, and so is every 8192nd message. Several tasks
    may read one subscription; each message goes to one of them. A cancelled call takes no message away.
    """

    __slots__ = ()


class Answers(AnswersBase[Message]):
    """The answers to one `Client.request_many`, each as it comes. The request leaves when the first is asked for.

    Its inbox goes with the end of the iteration, also when that is an error or a cancellation, with `aclose`, with the
    ``async with`` block, or, soon after, when nobody holds the iterator any more, as after a ``break``.
    """


class Client(ClientState[Message]):
    """A connection to NATS that is kept up. Made by `connect` or `open`; for the tasks of one event loop.

    Every awaiting method may be cancelled anywhere: no message, reply slot or place in a queue is lost by it. In
    another event loop, also that of another thread, methods raise `LocalProtocolError`. In a forked child the client is
    closed, and methods raise `ConnectionClosedError`. Properties may be read anywhere. ``async with client`` closes it
    at the end of the block.
    """

    def __init__(self, hub: Hub[Message], options: ConnectOptions, *, alone: bool = False) -> None:
        super().__init__(hub, options)
        self._writer = hub.writer
        self._alone = alone
        """It was made by `open`: no block ends its tasks, so `close` does."""
        self._chunks = 0
        """Chunks that publishers have written since one of them has let others run."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- sending -----------------------------------------------------------------------------------------------------

    async def publish(
        self, subject: str, data: Payload = b"", *, reply: str | None = None, headers: HeadersLike | None = None
    ) -> None:
        """Send a message, at most once. Returns when it is in the outgoing buffer (`flush` waits for the server).

        Waits while there is a connection and 1 MiB waits to be written; only then, and after each 1 MiB (with payloads
        of 64 KiB and more after some 5 MiB), it is a checkpoint, so a loop that publishes lets others run now and then.
        Without a connection up to ``pending_size`` bytes are kept for the next one; what its server would refuse is
        dropped then, with a `PublishesDropped`. Before it raises it is a checkpoint as well: a loop that tries again at
        once does not keep the client from its work.

        Raises `InvalidSubjectError`, `InvalidHeaderError`, `MaxPayloadError`, `MaxControlLineError`,
        `HeadersNotSupportedError`, `OutboundBufferLimitError`, `ConnectionDrainingError`, `ConnectionClosedError`; the
        message was not taken then.
        """
        writer = self._writer
        if writer.idle is None:
            # The writer's task is at work, and finds this message by itself. Who calls is not checked, which would take
            # a tenth of a publish: a wrong thread does no harm, and is refused as soon as the writer's task is idle.
            if writer.publish_quickly(subject, data, reply, headers):
                return
        else:
            self._hub.check_caller()
            if writer.publish_quickly(subject, data, reply, headers):
                writer.write_publish()
                return
        await self._wait_for_turn()
        try:
            self._hub.session.publish(subject, data, reply=reply, headers=headers)
        except Exception:
            await anyio.lowlevel.checkpoint()  # as everywhere here: who tries again at once lets the client work
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
                many.step(self._hub.session)
            except Exception:
                await anyio.lowlevel.checkpoint()
                raise
            self._write_soon()

    async def _wait_for_turn(self) -> None:
        """Until there is room for a publish; and let others run after each 1 MiB."""
        self._hub.check_caller()
        if self._chunks >= TURN:
            self._chunks = 0
            await anyio.lowlevel.checkpoint()
        if not self._hub.session.writable:
            self._chunks = 0
            await self._hub.wait_writable()

    def _write_soon(self) -> None:
        """After a publish: have it written. A whole chunk is written here, as far as the system takes it at once."""
        if self._hub.session.chunk_waits:
            self._chunks += 1
            self._writer.write_now()
        elif self._writer.idle is not None:
            self._writer.write_publish()

    async def request(
        self, subject: str, data: Payload = b"", *, timeout: float = 5.0, headers: HeadersLike | None = None
    ) -> Message:
        """Send a message and wait for the first answer, for ``timeout`` seconds in all; above 100 years for ever.

        Raises `NoRespondersError` at once when nobody listens, `NATSTimeoutError`, `PermissionsError`,
        `ConnectionLostError` (by option, and at `reconnect`), and what `publish` raises. A request that waits for a
        connection when its time is up is not sent any more. One that found no room to wait was not either: its
        ``outcome`` is ``"failed"``.
        """
        # The same lines stand in `request_accepted`. To call that would make one coroutine more for each request, which
        # with thousands of them costs the collector and each wake-up more than all calls below.
        answer = self._ask_quickly(subject, data, timeout, headers, None)
        if answer is None:
            answer = await self._ask(subject, data, timeout, headers, None)
        try:
            await answer
        except BaseException:
            self._give_up(answer)
            raise
        return self._answered(answer, subject, timeout)

    async def request_accepted(
        self,
        subject: str,
        data: Payload,
        *,
        timeout: float,
        headers: HeadersLike | None,
        accept: Callable[[nats_proto.Message], bool] | None,
    ) -> Message:
        """`request`, where an answer for which ``accept`` returns False is skipped; see `Session.request`."""
        answer = self._ask_quickly(subject, data, timeout, headers, accept)
        if answer is None:
            answer = await self._ask(subject, data, timeout, headers, accept)
        try:
            await answer
        except BaseException:
            self._give_up(answer)
            raise
        return self._answered(answer, subject, timeout)

    async def _room_for_request(self, subject: str, timeout: float) -> float:
        """The deadline of the request, when there is room for it."""
        hub = self._hub
        seconds = check_timeout("timeout", timeout)
        deadline = hub.now() + seconds
        with CancelScope(deadline=deadline) as waiting:
            await hub.wait_writable()
        if waiting.cancelled_caught:
            raise self.unsent(f"request to {subject!r}", seconds)
        return deadline

    def _ask_quickly(
        self,
        subject: str,
        data: Payload,
        timeout: float,
        headers: HeadersLike | None,
        accept: Callable[[nats_proto.Message], bool] | None,
    ) -> AnyAnswer | None:
        """Send a request as nearly all are; None leaves it to `_ask`."""
        hub = self._hub
        loop = hub.loop
        if loop.running() is not loop.home:  # nearly never: it saves a call
            hub.check_caller()
        if type(timeout) is not float or not 0.0 <= timeout <= MAX_SECONDS:
            return None
        token = hub.session.request_quickly(subject, data, headers, accept)
        return self._expect(token, hub.now() + timeout) if token else None

    async def _ask(
        self,
        subject: str,
        data: Payload,
        timeout: float,
        headers: HeadersLike | None,
        accept: Callable[[nats_proto.Message], bool] | None,
    ) -> AnyAnswer:
        """Send a request, as soon as there is room for it."""
        hub = self._hub
        if hub.session.writable:
            deadline = None
        else:
            deadline = await self._room_for_request(subject, timeout)
        try:
            if deadline is None:
                deadline = hub.now() + check_timeout("timeout", timeout)
            token = hub.session.request(subject, data, headers=headers, accept=accept)
        except Exception:
            await anyio.lowlevel.checkpoint()
            raise
        return self._expect(token, deadline)

    def _expect(self, token: int, deadline: float) -> AnyAnswer:
        """The answer to a request, which is written."""
        hub = self._hub
        requests = hub.requests
        answer = requests[token] = hub.new_answer(deadline, token)
        hub.timer.expect_request(answer, deadline)
        try:
            # A request that waits alone has no other to share a write with, and to wake the writer's task would take a
            # turn. And with thousands of them, the server should have something to do while the others ask.
            if len(requests) == 1 or hub.session.chunk_waits:
                self._writer.write_now()
            elif self._writer.idle is not None:
                self._writer.wake()  # it writes this together with the requests of others who ask at the same time
        except BaseException:
            self._give_up(answer)
            raise
        return answer

    def _give_up(self, answer: AnyAnswer) -> None:
        """Nobody waits for it any more."""
        answer.over = True
        # The hub takes out what was answered. So the session still keeps a place for this one, and has to give it up.
        if self._hub.requests.pop(answer.token, None) is not None:
            self._hub.session.cancel_request(answer.token)

    def _answered(self, answer: AnyAnswer, subject: str, timeout: float) -> Message:
        """The wait is over."""
        answer.over = True
        message, error = answer.take()
        if isinstance(message, Message):  # the hub has forgotten the request
            message.client = self
            return message
        self._give_up(answer)
        raise error or no_answer_in_time(f"request to {subject!r}", check_timeout("timeout", timeout), self.status)

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
        from nats_proto import RequestMany  # few programs use it, and much is loaded with it

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
        read and acknowledged by it (`nats_anyio.jetstream.Hooks`). Raises `ValueError`, `TypeError`.
        """
        from nats_proto._jetstream.api import JetStreamApi

        from ._jetstream.context import JetStream

        self._hub.check_caller()
        api = JetStreamApi(
            domain=domain,
            api_prefix=api_prefix,
            timeout=timeout,
            now=self._hub.now,
            new_inbox=self.new_inbox,
            server_version=self._server_version,
        )
        return JetStream(self, self._host(), api, hooks)

    def _server_version(self) -> str:
        info = self.server_info
        return "" if info is None else info.version

    def _host(self) -> MachineHost[Message]:
        """What a machine of the core is driven with, which runs while somebody waits for what it gives."""
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
            self._hub.settle()  # so that the server has read of what nobody can reach any more
        try:
            token = self._hub.session.flush()
        except Exception:
            await anyio.lowlevel.checkpoint()
            raise
        answer = self._hub.flushes[token] = self._hub.new_answer(self._hub.now() + seconds, token)
        self._hub.timer.expect(answer)
        try:
            self._writer.write_now()
            await answer
        finally:
            answer.over = True
            if self._hub.flushes.pop(token, None) is not None:
                self._hub.session.cancel_flush(token)
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
        if callback is not None:
            check_callback(callback, awaits=True)
        hub = self._hub
        state = hub.session.subscribe(
            subject,
            queue=queue,
            max_msgs=max_msgs,
            max_pending_msgs=max_pending_msgs,
            max_pending_bytes=max_pending_bytes,
        )
        sub = Subscription(self, hub, state, has_callback=callback is not None)
        if callback is None:
            hub.add_subscription(state.sid, sub)
        else:
            hub.workers.serve(sub, state, callback, concurrency)
        hub.settle()
        return sub

    def new_inbox(self) -> str:
        """A reply subject nobody else has, under the ``inbox_prefix``."""
        self._hub.check_caller()
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
        returns is told as ``data``. ``async with nc.add_service(...) as service`` stops it when the block is left;
        it may be awaited as well.

        Raises `InvalidServiceError`, `InvalidSubjectError`, `TypeError`, and as `subscribe`.
        """
        from ._services.running import Running  # as all of its kind: loaded by those who use it
        from ._services.service import Service

        self._hub.check_caller()
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

        self._hub.check_caller()
        return Services(self, Sought(name=name, instance=id, timeout=timeout, stall=stall))

    @overload
    async def request_service(
        self,
        subject: str,
        value: object = b"",
        *,
        response_type: None = None,
        timeout: float = 5.0,
        headers: HeadersLike | None = None,
    ) -> bytes: ...

    @overload
    async def request_service(
        self,
        subject: str,
        value: object = b"",
        *,
        response_type: type[T],
        timeout: float = 5.0,
        headers: HeadersLike | None = None,
    ) -> T: ...

    async def request_service(
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
        return asked.read(await self.request(subject, asked.data, timeout=timeout, headers=headers))

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
            self._hub.session.drain(now=self._hub.now(), timeout=seconds)
        except Exception:
            await anyio.lowlevel.checkpoint()
            raise
        self._hub.settle()
        if self._hub.is_handler():
            return
        # No deadline is set here: the session was told the time, and closes itself when it is up.
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
        # One deadline for both waits, so that they take no more than the limit together.
        deadline = hub.now() + CLOSE_LIMIT
        await hub.end()
        # A callback that closes its client would be cancelled by the stop, and would then wait for its own end.
        if self._alone and not hub.is_own_task():
            hub.tasks.stop()
            with CancelScope(shield=True, deadline=deadline):
                await hub.gone.wait()

    async def reconnect(self) -> None:
        """Leave the connection and make a new one, in the background; while waiting between attempts, stop waiting.

        What the old connection took a server may still be reading while the new one already brings more, so messages
        of the two may change places: `flush` before, where that matters. Requests and flushes on their way fail with
        `ConnectionLostError`. Raises `ConnectionClosedError`, `ConnectionDrainingError`.
        """
        self._hub.check_caller()
        try:
            self._hub.session.reconnect(now=self._hub.now())
        finally:
            self._hub.settle()
            # Shielded: the connection was given up already, and no cancellation can take that back.
            await anyio.lowlevel.cancel_shielded_checkpoint()
