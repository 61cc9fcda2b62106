"""An endpoint: a subscription whose handler answers requests, and the counters of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from time import perf_counter_ns
from types import CoroutineType
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from nats_proto import check_timeout
from nats_proto._callables import check_function
from nats_proto._services.codecs import answer_writer, request_reader
from nats_proto._services.errors import ServiceError, error_headers, error_text, failure_of
from nats_proto.errors import ConnectionClosedError, NATSError

from .._message import ReceivedMessage
from .request import Request

if TYPE_CHECKING:
    from nats_proto._services.state import EndpointState
    from nats_proto._services.values import EndpointInfo, EndpointStats

    from .._message import Publisher

__all__ = ["Counters", "Endpoint", "Listening", "check_handler", "serve"]

T = TypeVar("T")


class Listening(Protocol):
    """A subscription, as far as an endpoint needs it."""

    async def drain(self, timeout: float | None = None) -> None:
        """As of `Subscription`."""

    def begin_drain(self) -> None:
        """As of `Subscription`."""

    def abandon(self) -> None:
        """As of `Subscription`."""

    @property
    def refusal(self) -> NATSError | None:
        """As of `Subscription`."""
        ...


class Owner(Protocol):
    """The service of an endpoint."""

    async def leave(self, counters: Counters, subscription: Listening, seconds: float | None) -> None:
        """This endpoint takes no more requests."""

    def data_of(self, state: EndpointState) -> object:
        """What the ``stats_handler`` says of it."""

    def log_failure(self, text: str, error: Exception) -> None:
        """Log what user code raised."""


class Counters:
    """What is counted for one endpoint."""

    __slots__ = ("state", "subscription")

    def __init__(self, state: EndpointState) -> None:
        self.state = state
        self.subscription: Listening | None = None
        """That of the endpoint, when there is one."""

    def count(self, nanoseconds: int) -> None:
        """A handler has returned after so long."""
        self.state.count(nanoseconds)

    def count_error(self, text: str) -> None:
        """A request was answered with an error, or its handler has raised."""
        self.state.count_error(text)

    def look(self) -> None:
        """Count that the server refuses the subscription, if it does and that was not counted."""
        if self.subscription is not None:
            refusal = self.subscription.refusal
            self.state.look_at(refusal)

    def stats(self, data: object) -> EndpointStats:
        """All of it."""
        return self.state.stats(data)


class Endpoint:
    """Made by `Service.endpoint` and `Group.endpoint`; it listens from then on."""

    def __init__(self, owner: Owner, counters: Counters, subscription: Listening) -> None:
        self._owner = owner
        self._counters = counters
        self._subscription = subscription

    def __repr__(self) -> str:
        return f"<nats_anyio.Endpoint {self.name!r} on {self.subject!r}>"

    @property
    def name(self) -> str:
        """As it was given."""
        return self.info.name

    @property
    def subject(self) -> str:
        """Where it listens: its own subject below that of its group."""
        return self.info.subject

    @property
    def info(self) -> EndpointInfo:
        """As monitors are told."""
        return self._counters.state.info

    def stats(self) -> EndpointStats:
        """What it has done since it was made, or `Service.reset`; with ``data`` of the service's ``stats_handler``."""
        self._counters.look()
        return self._counters.stats(self._owner.data_of(self._counters.state))

    async def stop(self, timeout: float | None = None) -> None:
        """Take no more requests, and wait until those that came are answered. Monitors are told of it no more.

        Waits ``timeout`` seconds at most (default: option ``drain_timeout``), then `NATSTimeoutError`; in a callback of
        the client not at all. A cancelled wait leaves it going on. May be called again.
        """
        await self._owner.leave(
            self._counters, self._subscription, None if timeout is None else check_timeout("timeout", timeout)
        )


def check_handler(handler: object) -> None:
    """Raises `TypeError` for what cannot answer requests."""
    check_function("endpoint: the handler", handler, awaits=True)


def serve(
    owner: Owner,
    counters: Counters,
    client: Publisher,
    handler: Callable[[Request[T]], object],
    request_type: type[T] | None,
    response_type: type[object] | None,
) -> Callable[[ReceivedMessage], Awaitable[None]]:
    """The callback of an endpoint's subscription. Raises `TypeError` for a type that cannot be read or written."""
    read = None if request_type is None else request_reader(request_type)
    write = None if response_type is None else answer_writer(response_type)
    count = counters.count

    async def answer(message: ReceivedMessage) -> None:
        began = perf_counter_ns()
        data = message.data
        request: Request[T] = Request(
            message.subject,
            message.sid,
            message.reply,
            data,
            message.header_block,
            message.parsed,
            client,
            data,  # type: ignore[arg-type]  # T is bytes without a type
            counters,
        )
        try:
            if read is not None:
                request.value = read(data)
            result = handler(request)
            # To look at the type first is three times as fast, and it is nearly always one.
            if type(result) is _COROUTINE or isawaitable(result):
                result = await result
            if write is not None and not request.answered and message.reply is not None:
                await request.respond(write(result))
        except Exception as error:
            await _fail(owner, counters, request, error)
        count(perf_counter_ns() - began)

    return answer


async def _fail(owner: Owner, counters: Counters, request: Request[T], error: Exception) -> None:
    """A handler has raised: what it says is the answer, if the request has none yet."""
    failure = failure_of(error)
    if not isinstance(error, ServiceError):
        owner.log_failure(f"endpoint {counters.state.info.name!r}: the handler raised for {request.subject}", error)
    # Before the answer: whoever has got it may ask for the statistics at once.
    counters.count_error(error_text(failure.code, failure.description))
    if request.answered or request.reply is None:
        return
    try:
        await request.respond(failure.data, headers=error_headers(failure.code, failure.description, None))
    except (NATSError, TypeError, ValueError) as refused:
        if not isinstance(refused, ConnectionClosedError):
            owner.log_failure(
                f"endpoint {counters.state.info.name!r}: the error for {request.subject} was not sent", refused
            )


_COROUTINE: Final[type[Coroutine[object, object, object]]] = CoroutineType
