"""`StoredMessages`: many messages of a stream, read directly."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Self

from .._engine.driver import Driver

if TYPE_CHECKING:
    from nats_proto._consuming.batch_get import BatchGet
    from nats_proto._jetstream.stored_message import StoredMessage

    from .._engine.driver import Host
    from .._message import ReceivedMessage

__all__ = ["StoredMessages"]


class StoredMessages:
    """The messages that `Stream.get_msgs` and `Stream.get_last_msgs` give, each as it comes. Empty when there is none.

    The first page is asked for with the first message, each further one when the page before was read. Whoever leaves
    early (by ``break``, `close`, or the end of a ``with`` block) costs nothing more. For one thread at a time.
    """

    def __init__(self, host: Host[ReceivedMessage], make: Callable[[float], BatchGet]) -> None:
        self._host = host
        self._make = make
        self._driver: Driver[ReceivedMessage, StoredMessage] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StoredMessage:
        """The next message.

        Raises `FeatureDroppedError` for a server that is too old, `ApiError` for what it refuses, such as too many
        subjects, `JetStreamError` when nobody answers, `NATSTimeoutError`, `JetStreamDecodeError`,
        `ConnectionClosedError`, `PermissionsError`.
        """
        driver = self._driver
        if driver is None:
            if self._closed:
                raise StopIteration
            driver = self._driver = Driver(self._host, self._make(monotonic()))
        try:
            message = driver.next_until(None)
        except Exception:
            self.close()
            raise
        if message is None:
            self.close()
            raise StopIteration
        return message

    def close(self) -> None:
        """Leave it early. Does nothing after its end."""
        self._closed = True
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()
