"""What a service and its groups have in common: they have endpoints, and groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar, Unpack, overload

from nats_proto._services.names import INHERITED, Inherited
from nats_proto._services.state import EndpointState, Place

from .request import Request

if TYPE_CHECKING:
    from nats_proto._services.options import EndpointOptions

    from .endpoint import Endpoint

__all__ = ["Endpoints", "Group"]

T = TypeVar("T")
R = TypeVar("R")


class Opener(Protocol):
    """A service, as its groups know it."""

    def open(
        self,
        state: EndpointState,
        handler: Callable[[Request[T]], object],
        request_type: type[T] | None,
        response_type: type[object] | None,
        concurrency: int,
        max_pending: tuple[int | None, int | None],
    ) -> Endpoint:
        """A new endpoint."""
        ...


class Endpoints:
    """The base of `Service` and `Group`. ``opener``: the service that they belong to."""

    def __init__(self, opener: Opener, place: Place) -> None:
        self._opener = opener
        self._place = place

    def group(self, name: str, *, queue_group: str | Inherited | None = INHERITED) -> Group:
        """A group in this one: its name stands, with a dot, before the subjects of its endpoints.

        ``name``: a subject, maybe with ``*``. ``queue_group``: for all in it that say nothing else; None: no group, so
        that each instance gets each request. Raises `InvalidServiceError`, `InvalidSubjectError`, `TypeError`.
        """
        return Group(self._opener, self._place.group(name, queue_group))

    @overload
    def endpoint(
        self,
        name: str,
        handler: Callable[[Request[bytes]], object],
        *,
        request_type: None = None,
        **options: Unpack[EndpointOptions],
    ) -> Endpoint: ...

    @overload
    def endpoint(
        self,
        name: str,
        handler: Callable[[Request[T]], object],
        *,
        request_type: type[T],
        **options: Unpack[EndpointOptions],
    ) -> Endpoint: ...

    @overload
    def endpoint(
        self, name: str, handler: None = None, *, request_type: None = None, **options: Unpack[EndpointOptions]
    ) -> Callable[[Callable[[Request[bytes]], R]], Callable[[Request[bytes]], R]]: ...

    @overload
    def endpoint(
        self, name: str, handler: None = None, *, request_type: type[T], **options: Unpack[EndpointOptions]
    ) -> Callable[[Callable[[Request[T]], R]], Callable[[Request[T]], R]]: ...

    def endpoint(
        self,
        name: str,
        handler: Callable[[Request[T]], R] | None = None,
        *,
        subject: str | None = None,
        queue_group: str | Inherited | None = INHERITED,
        metadata: Mapping[str, str] | None = None,
        request_type: type[T] | None = None,
        response_type: type[object] | None = None,
        concurrency: int = 1,
        max_pending_msgs: int | None = None,
        max_pending_bytes: int | None = None,
    ) -> Endpoint | Callable[[Callable[[Request[T]], R]], Callable[[Request[T]], R]]:
        """Answer requests by a function; without one, a decorator for it. It listens at once.

        ``subject``, below that of the group, is the name by default, and may have wildcards. ``queue_group``: of a
        group's requests each goes to one member; None: each instance gets each request. ``handler`` is called as a
        callback of `Client.subscribe`, with ``concurrency`` calls at once. With a ``request_type`` (one that msgspec
        knows) ``request.value`` is the payload read as JSON, and what cannot be read is answered with the code 400.
        With a ``response_type`` what the handler returns is the answer; else it calls ``request.respond``. A
        `ServiceError` that it raises is the answer; anything else is logged, and answered with the code 500 and its
        text. ``max_pending_msgs`` and ``max_pending_bytes`` as of `Client.subscribe`.

        Raises `InvalidServiceError`, `InvalidSubjectError`, `ServiceStoppedError`, `TypeError`, `ValueError`, and as
        `Client.subscribe`.
        """
        opener, place = self._opener, self._place

        def opened(function: Callable[[Request[T]], R]) -> Endpoint:
            return opener.open(
                EndpointState(place, name, subject=subject, queue_group=queue_group, metadata=metadata),
                function,
                request_type,
                response_type,
                concurrency,
                (max_pending_msgs, max_pending_bytes),
            )

        def decorated(function: Callable[[Request[T]], R]) -> Callable[[Request[T]], R]:
            opened(function)
            return function

        return decorated if handler is None else opened(handler)


class Group(Endpoints):
    """A part of a service, whose endpoints have a prefix and a queue group in common. Made by `Service.group`."""

    def __repr__(self) -> str:
        return f"<nats_anyio.Group {self.prefix!r}>"

    @property
    def prefix(self) -> str:
        """What the subjects of its endpoints begin with, the dot included."""
        return self._place.prefix
