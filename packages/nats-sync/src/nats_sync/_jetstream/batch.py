"""`Batch`: what one fetch brings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Self

from nats_proto._consuming.shares import SHARE
from nats_proto.errors import SubscriptionClosedError

from .._engine.driver import Driver
from .message import JetStreamMessage
from .reading import gather, push, write_share

if TYPE_CHECKING:
    from nats_proto._consuming.fetch import Fetch, FetchReason

    from .._engine.crew import Employer
    from .._message import ReceivedMessage

__all__ = ["Batch"]


class Batch:
    """The messages of one fetch, each as it comes. The request leaves when the first is asked for.

    It ends by itself, and says why in `reason`. Left early (by ``break``, `close`, the end of a ``with`` block, or when
    nobody holds it any more) it leaves no request behind, and messages that still come are handed back to the server,
    which gives them to another reader at once. For any number of threads: each message goes to one of them.
    """

    def __init__(
        self,
        host: Employer[ReceivedMessage],
        machine: Fetch[ReceivedMessage, JetStreamMessage],
        begin: Callable[[Fetch[ReceivedMessage, JetStreamMessage], float], None],
        ended: Callable[[Fetch[ReceivedMessage, JetStreamMessage]], None],
    ) -> None:
        self._host = host
        self._machine = machine
        self._begin_machine = begin
        self._ended = ended
        self._driver: Driver[ReceivedMessage, JetStreamMessage] | None = None
        self._account = machine.account
        """Which gives most messages without the driver."""
        self._closed = False
        self._turn = RLock()
        """Held by the one who reads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> JetStreamMessage:
        """The next message.

        Raises `ConsumerNotFoundError`, `ConsumerDeletedError`, `PullLimitError` for more than the consumer allows at
        once, `PullRefusedError`, `ConnectionClosedError`, `PermissionsError`. That nothing comes is no error.
        """
        message = self._account.take(monotonic())
        if message is not None:
            return message
        with self._turn:
            driver = self._driver
            if driver is None:
                if self._closed:
                    raise StopIteration
                driver = self._begin()
            try:
                write_share(self._host.writing, self._account, one_batch=True)
                driver.close_queue(self._account)
                message = driver.next_until(None)
            except SubscriptionClosedError:
                message = None  # the client is drained, so there will be no more
            except Exception:
                self._finish()
                raise
            if message is None:
                self._finish()
                raise StopIteration
            driver.open_queue(self._account, SHARE)
            gather(self._host.writing, self._account)
            return message

    @property
    def reason(self) -> FetchReason | None:
        """Why it has ended; None before its end, when it was left early, and after an error.

        ``limit``: it has all messages that it asked for. ``expired``: its time was up. ``no_messages``: the server says
        that there are none. ``no_answer``: nobody has answered, as without a leader. ``ack_limit``: so many messages
        wait for their acknowledgement that no more are delivered. ``max_waiting``: too many requests wait.
        ``max_bytes``: the next message would be too much. ``linger``: that long after the first message.
        """
        return self._machine.reason

    def close(self) -> None:
        """Leave it early, from any thread: whoever waits for a message is told that there is none. Does nothing after
        its end.
        """
        self._closed = True
        driver = self._driver
        if driver is not None:
            driver.stop()
        if self._turn.acquire(blocking=False):  # else the one who reads finishes it
            try:
                self._finish()
            finally:
                self._turn.release()

    def _finish(self) -> None:
        self._closed = True
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()
            self._ended(self._machine)

    def _begin(self) -> Driver[ReceivedMessage, JetStreamMessage]:
        self._begin_machine(self._machine, monotonic())
        driver = self._driver = Driver(self._host, self._machine, partial(push, self._host.writing))
        if self._closed:  # by another thread, which has not seen it
            driver.stop()
        return driver
