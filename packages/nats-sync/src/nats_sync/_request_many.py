"""One request, several answers (ADR-47)."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Generic, Self

from ._message import ReceivedT

if TYPE_CHECKING:
    from nats_proto import RequestMany

    from ._engine.driver import Driver
    from ._host import MachineHost

__all__ = ["AnswersBase"]


class AnswersBase(Generic[ReceivedT]):
    """What `Answers` is, for messages of any class."""

    def __init__(
        self, host: MachineHost[ReceivedT], collection: Callable[[float, str], RequestMany[ReceivedT]]
    ) -> None:
        collection(0.0, "")  # raises for limits that make no sense, now and not at the first answer
        self._host = host
        self._collection = collection
        self._driver: Driver[ReceivedT, ReceivedT] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedT:
        """The next answer.

        Raises `NoRespondersError` when nobody listens, `PermissionsError` when the server refuses the request,
        `NATSTimeoutError` when it could not be sent until its time was up, mostly for want of room in the outgoing
        buffer, `ConnectionClosedError`, whatever ``publish`` raises for the request, and whatever ``sentinel`` raises.
        """
        driver = self._driver
        if driver is None:
            if self._closed:
                raise StopIteration
            driver = self._begin()
        try:
            message = driver.next_until(None)
        except Exception:
            self.close()
            raise
        if message is None:
            self.close()
            raise StopIteration
        return message

    def _begin(self) -> Driver[ReceivedT, ReceivedT]:
        from ._engine.driver import Driver

        driver = self._driver = Driver(self._host, self._collection(monotonic(), self._host.new_inbox()))
        return driver

    def close(self) -> None:
        """End it early."""
        self._closed = True
        if self._driver is not None:
            self._driver.close()
