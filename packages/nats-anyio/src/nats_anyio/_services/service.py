"""`Service`: what users see of one instance of a service."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Self

from .groups import Endpoints

if TYPE_CHECKING:
    from nats_proto._permissions import Permissions
    from nats_proto._services.values import ServiceInfo, ServiceStats

    from .endpoint import Endpoint
    from .running import Running

__all__ = ["Service"]


class Service(Endpoints):
    """One instance of a service. Made by `Client.add_service`; it answers monitors from then on.

    It goes on until `stop`, the end of its ``async with`` block, or the end of the client. A drain of the client lets
    its handlers finish. For the tasks of the client's event loop.
    """

    def __init__(self, running: Running) -> None:
        super().__init__(running, running.state.place)
        self._running = running

    def __repr__(self) -> str:
        return f"<nats_anyio.Service {self.name!r} {self.version} {self.id}{' stopped' if self.stopped else ''}>"

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()  # there is nothing to wait for
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What all instances of the service have in common."""
        return self._running.state.ping.name

    @property
    def id(self) -> str:
        """Of this instance alone."""
        return self._running.state.ping.id

    @property
    def version(self) -> str:
        """Of the service, as Semantic Versioning has it."""
        return self._running.state.ping.version

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Those that listen, in the order in which they were made."""
        return self._running.endpoints()

    @property
    def stopped(self) -> bool:
        """Whether it takes no more requests: `stop` was called, or the client is closed."""
        return self._running.stopped

    def info(self) -> ServiceInfo:
        """What monitors are told that it is."""
        return self._running.state.info()

    def stats(self) -> ServiceStats:
        """What its endpoints have done since it was started, or `reset`; with ``data`` of the ``stats_handler``."""
        return self._running.stats()

    def reset(self) -> None:
        """All counters begin anew, and so does the time since which it counts."""
        self._running.reset()

    def permissions(self) -> Permissions:
        """The subjects that a program needs which offers this service with the endpoints that it has now.

        Printed, they are what a user of the server is given. Nothing is asked.
        """
        return self._running.state.permissions()

    # --- its end -----------------------------------------------------------------------------------------------------

    async def stop(self, timeout: float | None = None) -> None:
        """Take no more requests, and wait until those that came are answered. The client goes on.

        Waits ``timeout`` seconds at most (default: option ``drain_timeout``), then `NATSTimeoutError`; in a callback of
        the client not at all, since it would wait for itself. A cancelled wait leaves it going on. May be called again.
        """
        await self._running.stop(timeout)

    async def wait(self, timeout: float | None = None) -> bool:
        """Until it was stopped or the client is closed, and its handlers have returned; ``timeout`` seconds at most.

        Whether it was so in time (None: waits for ever). A program that does nothing but serve waits here. Raises
        `PermissionsError` when the server refuses one of its subscriptions, since it would wait for nothing; the others
        go on.
        """
        return await self._running.wait(timeout)
