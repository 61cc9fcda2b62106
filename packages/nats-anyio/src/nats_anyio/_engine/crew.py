"""Some tasks of a client that run user code for one purpose.

They are tasks below the root of the client, so they end before it, and nobody outside can lose them. Each begins in a
copy of the context in which it was started. A drain that one of them calls does not wait for itself, as in a callback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from nats_proto import Subscribe
from nats_proto.errors import ConnectionClosedError

from .driver import Host, Inbox, MessageOut

if TYPE_CHECKING:
    from .tasks import Tasks
    from .writer import Writer

__all__ = ["Crew", "Employer", "HeldInbox"]


class Owner(Protocol):
    """The hub, as far as a crew needs it."""

    tasks: Tasks
    user_tasks: set[int]

    @property
    def over(self) -> bool:
        """As of `Hub`."""
        ...

    def check_caller(self) -> None:
        """As of `Hub`."""
        ...


class Crew:
    """Tasks that `start` has started. They raise nothing but a cancellation."""

    def __init__(self, hub: Owner) -> None:
        self._hub = hub
        self._members: set[int] = set()
        self._idle: anyio.Event | None = None
        self.size = 0
        """How many there are, with those that have not begun."""

    def start(self, run: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Start one. Cancelled by anybody but the client, it is started again. Raises `ConnectionClosedError`."""
        self._hub.check_caller()
        if self._hub.over:
            raise ConnectionClosedError("the client is closed")
        self.size += 1

        async def task() -> None:
            await self._run(run, name)

        self._hub.tasks.start(task, name=f"nats {name}")

    def is_member(self) -> bool:
        """Whether the calling task is one of them."""
        return anyio.get_current_task().id in self._members

    async def wait_idle(self) -> None:
        """Until there is none."""
        while self.size:
            if self._idle is None:
                self._idle = anyio.Event()
            await self._idle.wait()

    async def _run(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        task = anyio.get_current_task().id
        self._members.add(task)
        self._hub.user_tasks.add(task)
        try:
            await run()
        except anyio.get_cancelled_exc_class():
            if not self._hub.tasks.is_replaced(name):
                raise
            self.start(run, name=name)
        finally:
            self._members.discard(task)
            self._hub.user_tasks.discard(task)
            self.size -= 1
            if not self.size and self._idle is not None:
                self._idle.set()
                self._idle = None


class HeldInbox(Inbox[MessageOut], Protocol[MessageOut]):
    """A subscription for whose sake a drain of the client waits."""

    def release(self) -> None:
        """A drain need not wait for this any more. Once."""
        ...


class Employer(Host[MessageOut], Protocol[MessageOut]):
    """The client, as far as those need it who let its tasks work for them."""

    @property
    def writer(self) -> Writer[Any]:
        """For publishes that wait for nothing."""
        ...

    def check_caller(self) -> None:
        """As of `Hub`."""
        ...

    @property
    def drain_timeout(self) -> float:
        """The option ``drain_timeout``."""
        ...

    def open_held_inbox(self, subscribe: Subscribe) -> HeldInbox[MessageOut]:
        """As `open_inbox`; a drain of the client waits until `HeldInbox.release`."""
        ...

    def crew(self) -> Crew:
        """Tasks, see `Crew`."""
        ...

    def log_failure(self, text: str, error: Exception) -> None:
        """Log what user code raised."""
        ...

    async def flush(self, timeout: float) -> None:
        """As `Client.flush`."""
        ...
