"""`Running`: one instance of a service, as its `Service` and its endpoints know it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
from anyio import CancelScope

from nats_proto import check_timeout
from nats_proto._callables import check_hook
from nats_proto._json.durations import Timestamp
from nats_proto._services.errors import ServiceStoppedError
from nats_proto._services.state import EndpointState, ServiceState, Verb, plain_data
from nats_proto.errors import ConnectionClosedError, NATSError, NATSTimeoutError

from .._message import Publisher, ReceivedMessage
from .endpoint import Counters, Endpoint, Listening, check_handler, serve
from .request import Request

if TYPE_CHECKING:
    from nats_proto import Closed
    from nats_proto._services.values import EndpointInfo, ServiceStats


__all__ = ["Running", "Serving", "StatsHandler"]

T = TypeVar("T")

StatsHandler = Callable[["EndpointInfo"], object]
"""Tells what a program wants to tell about an endpoint: anything that is JSON, or None."""


class Serving(Publisher, Protocol):
    """A client, of which this is all that is needed here."""

    @property
    def drain_timeout(self) -> float:
        """The option ``drain_timeout``."""
        ...

    def new_inbox(self) -> str:
        """As `Client.new_inbox`."""
        ...

    def subscribe(
        self,
        subject: str,
        *,
        queue: str | None = None,
        callback: Callable[[ReceivedMessage], object] | None = None,
        concurrency: int = 1,
        max_pending_msgs: int | None = None,
        max_pending_bytes: int | None = None,
    ) -> Listening:
        """As `Client.subscribe`."""
        ...


class Center(Protocol):
    """The client's hub, as far as it is needed here."""

    now: Callable[[], float]
    ended: anyio.Event
    refusals: list[Callable[[], None]]
    closed: Closed | None

    def check_caller(self) -> None:
        """As of `Hub`; the others too."""

    def is_handler(self) -> bool: ...

    def settle(self) -> None: ...

    def log_failure(self, text: str, error: Exception) -> None: ...


class Running:
    """One instance: its subscriptions, and what is counted. See `Service`."""

    def __init__(
        self,
        client: Serving,
        hub: Center,
        name: str,
        version: str,
        *,
        description: str,
        metadata: Mapping[str, str] | None,
        queue_group: str | None,
        stats_handler: StatsHandler | None,
    ) -> None:
        check_hook("add_service: the stats_handler", stats_handler)
        self._client = client
        self._hub = hub
        self._stats_handler = stats_handler
        self.state = ServiceState(
            name,
            version,
            instance=client.new_inbox().rpartition(".")[2],
            started=_now(),
            description=description,
            metadata=metadata,
            queue_group=queue_group,
        )
        self._endpoints: dict[Counters, Endpoint] = {}
        self._leaving: list[Listening] = []
        """What may still have something to answer."""
        self._ending = anyio.Event()
        """`stop` was called."""
        self._refusal = anyio.Event()
        """The server refuses a subscription."""
        try:
            for subject, verb in self.state.monitors():
                self._leaving.append(client.subscribe(subject, callback=self._monitor(verb)))
            hub.refusals.append(self._refused)
        except BaseException:
            for subscription in self._leaving:
                subscription.abandon()
            hub.settle()
            raise

    @property
    def stopped(self) -> bool:
        """As of `Service`."""
        return self._ending.is_set() or self._hub.closed is not None

    def stats(self) -> ServiceStats:
        """As of `Service`."""
        self._look()
        return self.state.stats(self.data_of)

    def reset(self) -> None:
        """As of `Service`."""
        self.state.reset(_now())

    # --- endpoints ---------------------------------------------------------------------------------------------------

    def open(
        self,
        state: EndpointState,
        handler: Callable[[Request[T]], object],
        request_type: type[T] | None,
        response_type: type[object] | None,
        concurrency: int,
        max_pending: tuple[int | None, int | None],
    ) -> Endpoint:
        """For `Service.endpoint` and `Group.endpoint`."""
        check_handler(handler)
        counters = Counters(state)
        callback = serve(self, counters, self._client, handler, request_type, response_type)
        if self._ending.is_set():
            raise ServiceStoppedError(f"the service {self.state.ping.name!r} was stopped, and takes no more endpoints")
        msgs, size = max_pending
        subscription = self._client.subscribe(
            state.info.subject,
            queue=state.queue_group,
            callback=callback,
            concurrency=concurrency,
            max_pending_msgs=msgs,
            max_pending_bytes=size,
        )
        counters.subscription = subscription
        endpoint = Endpoint(self, counters, subscription)
        self.state.add(state)
        self._endpoints[counters] = endpoint
        self._leaving.append(subscription)
        return endpoint

    async def leave(self, counters: Counters, subscription: Listening, seconds: float | None) -> None:
        """For `Endpoint.stop`."""
        self.state.remove(counters.state)
        self._endpoints.pop(counters, None)
        if subscription in self._leaving:
            self._leaving.remove(subscription)
        await self._drain([subscription], self._client.drain_timeout if seconds is None else seconds)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """As of `Service`."""
        return tuple(self._endpoints.values())

    # --- ends --------------------------------------------------------------------------------------------------------

    async def stop(self, timeout: float | None = None) -> None:
        """As of `Service`."""
        seconds = self._client.drain_timeout if timeout is None else check_timeout("timeout", timeout)
        self._hub.check_caller()
        self._ending.set()
        if self._refused in self._hub.refusals:
            self._hub.refusals.remove(self._refused)
        await self._drain(self._leaving.copy(), seconds)

    async def wait(self, timeout: float | None = None) -> bool:
        """As of `Service`."""
        seconds = float("inf") if timeout is None else check_timeout("timeout", timeout)
        hub = self._hub
        hub.check_caller()
        deadline = hub.now() + seconds
        self._check_refusals()
        if self._refusal.is_set():
            self._refusal = anyio.Event()  # it was refused once, and is not any more
        with CancelScope(deadline=deadline):
            async with anyio.create_task_group() as group:
                for end in (self._ending, hub.ended, self._refusal):
                    group.start_soon(_cancel_after, end, group.cancel_scope)
        if not self.stopped:
            self._check_refusals()
            return False
        try:
            await self._drain(self._leaving.copy(), max(0.0, deadline - hub.now()))
        except NATSTimeoutError:
            return False
        return True

    def _refused(self) -> None:
        """The server has refused something, maybe a subscription of this service."""
        self._look()
        if self._refusals():
            self._refusal.set()

    def _look(self) -> None:
        for counters in self._endpoints:
            counters.look()

    def _refusals(self) -> list[NATSError]:
        return [refusal for one in self._leaving if (refusal := one.refusal) is not None]

    def _check_refusals(self) -> None:
        refusals = [] if self.stopped else self._refusals()
        if refusals:
            raise refusals[0].with_traceback(None)

    async def _drain(self, subscriptions: list[Listening], seconds: float) -> None:
        hub = self._hub
        deadline = hub.now() + seconds
        # All of them first: else the last one would take requests until the handlers of all others have returned. And
        # without a suspension, since a service that is left by a cancellation must not go on.
        for subscription in subscriptions:
            with contextlib.suppress(ConnectionClosedError):
                subscription.begin_drain()
        if hub.is_handler():
            return
        for subscription in subscriptions:
            with contextlib.suppress(ConnectionClosedError):
                await subscription.drain(max(0.0, deadline - hub.now()))

    # --- monitors ----------------------------------------------------------------------------------------------------

    def _monitor(self, verb: Verb) -> Callable[[ReceivedMessage], Awaitable[None]]:
        async def tell(message: ReceivedMessage) -> None:
            if message.reply is not None:
                if verb == "STATS":
                    self._look()
                await message.respond(self.state.answer(verb, self.data_of))

        return tell

    def data_of(self, state: EndpointState) -> object:
        """What the ``stats_handler`` says of this endpoint."""
        if self._stats_handler is None:
            return None
        try:
            return plain_data(self._stats_handler(state.info))
        except Exception as error:
            self.log_failure(f"the stats_handler raised for the endpoint {state.info.name!r}", error)
            return None

    def log_failure(self, text: str, error: Exception) -> None:
        """Log what user code raised."""
        self._hub.log_failure(f"service {self.state.ping.name!r}: {text}", error)


async def _cancel_after(event: anyio.Event, scope: CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _now() -> Timestamp:
    return Timestamp.from_nanoseconds(time_ns())
