"""What readers have in common that need nobody to wait: a thread of the client reads for them until they end."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

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

logger = logging.getLogger("nats_sync.jetstream")

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
        self.publish_now = host.publish_now
        self.cancel = host.cancel
        self.request = host.request
        self.pause = host.pause
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
    """One reader that a thread of the client drives."""

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
        self._reader = host.crew(1, self._run, lambda: False)

    def _start(self) -> None:
        if not self._reader.call():
            self._release()
            raise ConnectionClosedError("the client is closed")

    # --- for users ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self.stop()
        if kind is None:
            self.drain()

    @property
    def warnings(self) -> list[ConsumerWarning]:
        """What it has survived, the newest last; the last hundred are kept."""
        return self._telling.told

    def stop(self) -> None:
        """Begin no more messages, from any thread, and wait for nothing. May be called again.

        Messages that no handler has got go back to the server, which gives them to another reader at once. What
        handlers are at they finish.
        """
        self._stopping = True
        driver = self._driver
        if driver is not None:
            driver.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Until it has ended, and every handler has returned; for ``timeout`` seconds (None: for ever).

        Raises the error with which it has ended (`ConsumerDeletedError`, `PullRefusedError`, `ConnectionClosedError`,
        ...), `NATSTimeoutError` when it has not, and `LocalProtocolError` in a handler, which would wait for itself.
        """
        seconds = None if timeout is None else check_timeout("timeout", timeout)
        if self._is_own_thread():
            raise LocalProtocolError(f"{self._what}: a handler cannot wait for the end of its own reader: stop() it")
        if not self._reader.wait_idle(seconds):
            raise NATSTimeoutError(f"{self._what}: it has not ended within {timeout:g} s")
        if self._error is not None:
            raise self._error.with_traceback(None)

    def drain(self, timeout: float | None = None) -> None:
        """`stop`, wait until every handler has returned, and until the server has read all acknowledgements.

        Takes ``timeout`` seconds at most (default: option ``drain_timeout``), else `NATSTimeoutError`; raises as `wait`
        and `Client.flush` do. In one of its own handlers it does not wait.
        """
        seconds = check_timeout("timeout", self._host.drain_timeout if timeout is None else timeout)
        self.stop()
        if self._is_own_thread():
            return
        began = monotonic()
        self.wait(seconds)
        with contextlib.suppress(ConnectionClosedError, ConnectionDrainingError):  # then the client has seen to it
            self._host.flush(max(0.0, began + seconds - monotonic()))

    # --- the thread --------------------------------------------------------------------------------------------------

    @abstractmethod
    def _make_machine(self) -> MachineT:
        """What is driven. By the thread of the reader: it may ask the server."""

    @abstractmethod
    def _make_driver(self, machine: MachineT) -> Driver[ReceivedMessage, ItemT]:
        """What drives it, by `_holding`."""

    @abstractmethod
    def _read(self, driver: Driver[ReceivedMessage, ItemT], machine: MachineT) -> None:
        """Until it is to end: returns, or raises."""

    def _wind_down(self) -> None:
        """After that: see to what is left."""

    def _release(self) -> None:
        """It is over: no thread is needed any more."""
        self._reader.release()

    def _is_own_thread(self) -> bool:
        return self._reader.is_member()

    def _run(self, _: int) -> bool:
        try:
            machine = self._machine = self._make_machine()
            driver = self._driver = self._make_driver(machine)
            if self._stopping:
                driver.stop()
            try:
                self._read(driver, machine)
            finally:
                self._stopping = True
                driver.close()
                self._warn()
        except (SubscriptionClosedError, ConnectionDrainingError):
            pass  # the client is drained
        except ConnectionClosedError as error:
            if error.__cause__ is not None:  # else it was closed by its user
                self._end_with(error)
        except NATSError as error:
            self._end_with(error)
        finally:
            self._stopping = True
            self._wind_down()
            self._holding.release()
            self._release()
        return False

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
            except BaseException as error:
                self._host.log_failure(f"{self._what}: on_warning raised", error)
