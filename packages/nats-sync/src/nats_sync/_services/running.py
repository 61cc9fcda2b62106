"""`Running`: one instance of a service, as its `Service` and its endpoints know it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from threading import RLock, get_ident
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Protocol, TypeVar

from nats_proto import check_timeout
from nats_proto._callables import check_hook
from nats_proto._json.durations import Timestamp
from nats_proto._services.errors import ServiceStoppedError
from nats_proto._services.state import EndpointState, ServiceState, Verb, plain_data
from nats_proto.errors import ConnectionClosedError, NATSError, NATSTimeoutError

from .._engine.waiter import Waiter, complete_all
from .._message import Publisher, ReceivedMessage
from .endpoint import Counters, Endpoint, Listening, check_handler, serve
from .request import Request

if TYPE_CHECKING:
    from nats_proto._services.values import EndpointInfo, ServiceStats

    from .._engine.hub import Hub

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


class Running:
    """One instance: its subscriptions, and what is counted. See `Service`."""

    def __init__(
        self,
        client: Serving,
        hub: Hub,
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
        self._lock = RLock()
        """Around the counters, and the list of endpoints. Nothing of the user, and nothing of the client, is called
        while it is held. Reentrant, because a signal handler may stop the service while its own thread has it."""
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
        self._stopping = False
        self._waiters: list[Waiter[None]] = []
        try:
            for subject, verb in self.state.monitors():
                self._leaving.append(client.subscribe(subject, callback=self._monitor(verb)))
            hub.refusals.append(self._refused)
        except BaseException:
            for subscription in self._leaving:
                subscription.abandon()
            raise

    @property
    def stopped(self) -> bool:
        """As of `Service`."""
        return self._stopping or self._hub.closed is not None

    def stats(self) -> ServiceStats:
        """As of `Service`."""
        self._look()
        data = self._data()
        with self._lock:
            return self.state.stats(data.get)

    def reset(self) -> None:
        """As of `Service`."""
        now = _now()
        with self._lock:
            self.state.reset(now)

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
        counters = Counters(state, self._lock)
        callback = serve(self, counters, self._client, handler, request_type, response_type)
        if self._is_stopping():
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
        with self._lock:
            self.state.add(state)
            self._endpoints[counters] = endpoint
            self._leaving.append(subscription)
        if self._is_stopping():  # by another thread, which may not have seen this one
            _begin_drain(subscription)
        return endpoint

    def leave(self, counters: Counters, subscription: Listening, seconds: float | None) -> None:
        """For `Endpoint.stop`."""
        with self._lock:
            self.state.remove(counters.state)
            self._endpoints.pop(counters, None)
            if subscription in self._leaving:
                self._leaving.remove(subscription)
        self._drain([subscription], self._client.drain_timeout if seconds is None else seconds)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """As of `Service`."""
        with self._lock:
            return tuple(self._endpoints.values())

    # --- ends --------------------------------------------------------------------------------------------------------

    def stop(self, timeout: float | None = None) -> None:
        """As of `Service`."""
        seconds = self._client.drain_timeout if timeout is None else check_timeout("timeout", timeout)
        self._drain(self._begin_to_stop(), seconds)

    def wait(self, timeout: float | None = None) -> bool:
        """As of `Service`."""
        deadline = None if timeout is None else monotonic() + check_timeout("timeout", timeout)
        waiter: Waiter[None] = Waiter()
        hub = self._hub
        with hub.lock:
            if not self.stopped:
                hub.enders.append(waiter)
                self._waiters.append(waiter)
        try:
            self._check_refusals()
            if not self.stopped:
                waiter.wait(None if deadline is None else max(0.0, deadline - monotonic()))
        finally:
            with hub.lock:
                for waiters in (hub.enders, self._waiters):
                    if waiter in waiters:
                        waiters.remove(waiter)
        if not self.stopped:
            self._check_refusals()
            return False
        try:
            self._drain(self._leaving.copy(), float("inf") if deadline is None else max(0.0, deadline - monotonic()))
        except NATSTimeoutError:
            return False
        return True

    def _refused(self) -> None:
        """Under the lock of the hub: the server has refused something, maybe a subscription of this service."""
        self._look()
        if self._refusals():
            complete_all(self._waiters)

    def _look(self) -> None:
        with self._lock:
            there = tuple(self._endpoints)
        for counters in there:
            counters.look()

    def _refusals(self) -> list[NATSError]:
        with self._lock:
            return [refusal for one in self._leaving if (refusal := one.refusal) is not None]

    def _check_refusals(self) -> None:
        refusals = [] if self.stopped else self._refusals()
        if refusals:
            raise refusals[0].with_traceback(None)

    def _is_stopping(self) -> bool:
        return self._stopping

    def _begin_to_stop(self) -> list[Listening]:
        with self._hub.lock:
            self._stopping = True
            if self._refused in self._hub.refusals:
                self._hub.refusals.remove(self._refused)
            complete_all(self._waiters)
        with self._lock:
            return self._leaving.copy()

    def _drain(self, subscriptions: list[Listening], seconds: float) -> None:
        began = monotonic()
        # All of them first: else the last one would take requests until the handlers of all others have returned.
        for subscription in subscriptions:
            _begin_drain(subscription)
        if get_ident() in self._hub.callbacks.running:
            return
        for subscription in subscriptions:
            with contextlib.suppress(ConnectionClosedError):
                subscription.drain(max(0.0, began + seconds - monotonic()))

    # --- monitors ----------------------------------------------------------------------------------------------------

    def _monitor(self, verb: Verb) -> Callable[[ReceivedMessage], None]:
        def tell(message: ReceivedMessage) -> None:
            if message.reply is None:
                return
            data: dict[EndpointState, object] = {}
            if verb == "STATS":
                self._look()
                data = self._data()
            with self._lock:
                answer = self.state.answer(verb, data.get)
            message.respond(answer)

        return tell

    def _data(self) -> dict[EndpointState, object]:
        """What the ``stats_handler`` says of each endpoint. Not under the lock, since it may ask for statistics."""
        if self._stats_handler is None:
            return {}
        return {endpoint: self.data_of(endpoint) for endpoint in self.state.endpoints}

    def data_of(self, state: EndpointState) -> object:
        """What the ``stats_handler`` says of this endpoint."""
        if self._stats_handler is None:
            return None
        try:
            return plain_data(self._stats_handler(state.info))
        except BaseException as error:
            self.log_failure(f"the stats_handler raised for the endpoint {state.info.name!r}", error)
            return None

    def log_failure(self, text: str, error: BaseException) -> None:
        """Log what user code raised."""
        self._hub.dispatcher.log_failure(f"service {self.state.ping.name!r}: {text}", error)


def _begin_drain(subscription: Listening) -> None:
    with contextlib.suppress(NATSTimeoutError, ConnectionClosedError):
        subscription.drain(0.0)


def _now() -> Timestamp:
    return Timestamp.from_nanoseconds(time_ns())
