"""What readers have in common that need nobody to wait: a task of the client reads for them until they end."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

import anyio
import anyio.lowlevel

from nats_proto import Subscribe, check_timeout
from nats_proto.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    LocalProtocolError,
    NATSError,
    NATSTimeoutError,
    SubscriptionClosedError,
)

from .telling import Telling

if TYPE_CHECKING:
    from nats_proto._consuming.warning import ConsumerWarning

    from .._engine.crew import Employer, HeldInbox
    from .._engine.driver import Driver
    from .._message import ReceivedMessage
    from .messages import OnWarning

__all__ = ["LOOK", "Background"]

logger = logging.getLogger("nats_anyio.jetstream")

LOOK: Final = 5.0
"""Seconds after which warnings are told at the latest. The server's heart-beats wake the reader as often."""


class Warned(Protocol):
    """A machine, as far as all are alike."""

    warnings: deque[ConsumerWarning]


MachineT = TypeVar("MachineT", bound=Warned)
ItemT = TypeVar("ItemT")


class HoldingHost:
    """A client for a `Driver`; a drain of it waits until `release`, whichever subscription the machine has."""

    def __init__(self, host: Employer[ReceivedMessage]) -> None:
        self._host = host
        self._inbox: HeldInbox[ReceivedMessage] | None = None
        self.room_until = host.room_until
        self.publish_at_once = host.publish_at_once
        self.cancel = host.cancel
        self.request = host.request
        self.pause = host.pause
        self.now: Callable[[], float] = host.now
        self.unsent = host.unsent

    def open_inbox(self, subscribe: Subscribe) -> HeldInbox[ReceivedMessage]:
        """As of the client."""
        inbox = self._host.open_held_inbox(subscribe)
        self.release()
        self._inbox = inbox
        return inbox

    def release(self) -> None:
        """Nothing runs any more, and nothing will."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.release()


class Background(ABC, Generic[MachineT, ItemT]):
    """One reader that a task of the client drives."""

    def __init__(self, host: Employer[ReceivedMessage], what: str, on_warning: OnWarning | None) -> None:
        self._host = host
        self._holding = HoldingHost(host)
        self._what = what
        self._on_warning = on_warning
        self._telling = Telling(self._tell_user)
        self._driver: Driver[ReceivedMessage, ItemT] | None = None
        self._machine: MachineT | None = None
        self._error: NATSError | None = None
        self._stopping = False
        self._reader = host.crew()

    def _start(self) -> None:
        self._reader.start(self._run, name="consumer")

    # --- for users ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *exc: object) -> None:
        self.stop()
        if kind is None:
            await self.drain()
        else:
            await anyio.lowlevel.cancel_shielded_checkpoint()

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived, the newest last; the last hundred are kept."""
        return self._telling.told

    def stop(self) -> None:
        """Begin no more messages, by any task, and wait for nothing. May be called again.

        Messages that no handler has got go back to the server, which gives them to another reader at once. What
        handlers are at they finish.
        """
        self._stopping = True
        if self._driver is not None:
            self._driver.stop()

    async def wait(self, timeout: float | None = None) -> None:
        """Until it has ended, and every handler has returned; for ``timeout`` seconds (None: for ever).

        Raises the error with which it has ended (`ConsumerDeletedError`, `PullRefusedError`, `ConnectionClosedError`,
        ...), `NATSTimeoutError` when it has not, and `LocalProtocolError` in a handler, which would wait for itself.
        """
        seconds = None if timeout is None else check_timeout("timeout", timeout)
        if self._is_own_task():
            raise LocalProtocolError(f"{self._what}: a handler cannot wait for the end of its own reader: stop() it")
        await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(seconds):
            await self._reader.wait_idle()
        if self._reader.size:
            raise NATSTimeoutError(f"{self._what}: it has not ended within {timeout:g} s")
        if self._error is not None:
            raise self._error.with_traceback(None)

    async def drain(self, timeout: float | None = None) -> None:
        """`stop`, wait until every handler has returned, and until the server has read all acknowledgements.

        Takes ``timeout`` seconds at most (default: option ``drain_timeout``), else `NATSTimeoutError`; raises as `wait`
        and `Client.flush` do. In one of its own handlers it does not wait.
        """
        seconds = check_timeout("timeout", self._host.drain_timeout if timeout is None else timeout)
        self.stop()
        if self._is_own_task():
            return
        began = self._host.now()
        await self.wait(seconds)
        with contextlib.suppress(ConnectionClosedError, ConnectionDrainingError):  # then the client has seen to it
            await self._host.flush(max(0.0, began + seconds - self._host.now()))

    # --- the task ----------------------------------------------------------------------------------------------------

    @abstractmethod
    async def _make_machine(self) -> MachineT:
        """What is driven. By the task of the reader: it may ask the server."""

    @abstractmethod
    def _make_driver(self, machine: MachineT) -> Driver[ReceivedMessage, ItemT]:
        """What drives it, by `_holding`."""

    @abstractmethod
    async def _read(self, driver: Driver[ReceivedMessage, ItemT], machine: MachineT) -> None:
        """Until it is to end: returns, or raises. Cancelled by anybody, it is called again."""

    async def _wind_down(self) -> None:
        """After that: see to what is left."""

    def _is_own_task(self) -> bool:
        return self._reader.is_member()

    async def _run(self) -> None:
        try:
            if self._machine is None:
                self._machine = await self._make_machine()
            if self._driver is None:
                self._driver = self._make_driver(self._machine)
            if self._stopping:
                self._driver.stop()
            await self._read(self._driver, self._machine)
        except (SubscriptionClosedError, ConnectionDrainingError):
            pass  # the client is drained
        except ConnectionClosedError as error:
            if error.__cause__ is not None:  # else it was closed by its user
                self._end_with(error)
        except NATSError as error:
            self._end_with(error)
        self._stopping = True
        if self._driver is not None:
            await self._driver.close()
        self._warn()
        await self._wind_down()
        self._holding.release()

    def _end_with(self, error: NATSError) -> None:
        self._error = error
        logger.error("%s: it has ended: %s", self._what, error)

    def _warn(self) -> None:
        if self._machine is not None:
            self._telling.tell(self._machine.warnings)

    def _tell_user(self, warning: ConsumerWarning) -> None:
        """Nobody waits here, who could be told that a user's function has raised."""
        if self._on_warning is not None:
            try:
                self._on_warning(warning)
            except Exception as error:
                self._host.log_failure(f"{self._what}: on_warning raised", error)
