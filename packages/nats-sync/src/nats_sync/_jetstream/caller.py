"""How the handles of JetStream ask the servers: one client, one API, one driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from nats_proto._callables import check_hook

from .._engine.driver import run

if TYPE_CHECKING:
    from nats_proto import HeadersLike, Operation
    from nats_proto._consuming.stats import Tally
    from nats_proto._consuming.warning import ConsumerWarning
    from nats_proto._jetstream.api import JetStreamApi
    from nats_proto._jetstream.pages import Pages

    from .._engine.crew import Employer
    from .._message import ReceivedMessage
    from .hooking import Hooking
    from .message import Acknowledger, JetStreamMessage
    from .telling import OnWarning

__all__ = ["Caller", "Listing"]

T = TypeVar("T")


class Caller:
    """What all handles that come from one `JetStream` share."""

    __slots__ = ("api", "client", "hooking", "host", "lock")

    def __init__(self, client: Acknowledger, host: Employer[ReceivedMessage], api: JetStreamApi) -> None:
        self.client = client
        self.host = host
        self.api = api
        self.hooking: Hooking | None = None
        """What calls the user's hooks, if there are any."""
        self.lock = Lock()
        """For what several readers count in one place."""

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""
        return run(self.host, operation, timeout=self.api.timeout)

    def headers_for(self, subject: str, headers: HeadersLike | None) -> HeadersLike | None:
        """The headers with which a message is published."""
        return headers if self.hooking is None else self.hooking.hooks.headers_for(subject, headers)

    def making(
        self, make: Callable[[ReceivedMessage, float], JetStreamMessage]
    ) -> Callable[[ReceivedMessage, float], JetStreamMessage]:
        """What makes the messages of a reader."""
        return make if self.hooking is None else self.hooking.making(make)

    def warned(self, on_warning: OnWarning | None, tally: Tally | None = None) -> OnWarning | None:
        """Who is told what a reader has survived: the ``tally``, the hooks, and the function of the reader.

        Raises `TypeError` for a function that cannot be used.
        """
        check_hook("on_warning", on_warning)
        hooking = self.hooking
        if hooking is None and tally is None:
            return on_warning

        def tell(warning: ConsumerWarning) -> None:
            if tally is not None:
                with self.lock:
                    tally.add(warning)
            if hooking is not None:
                hooking.warned(warning)
            if on_warning is not None:
                on_warning(warning)

        return tell


class Listing(Generic[T]):
    """An iterator over a list that is asked for page by page, the first page with the first item."""

    __slots__ = ("_caller", "_items", "_pages", "_timeout")

    def __init__(self, caller: Caller, pages: Pages[T], timeout: float | None) -> None:
        self._caller = caller
        self._pages = pages
        self._timeout = timeout
        self._items: list[T] = []

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while not self._items:
            if self._pages.done:
                raise StopIteration
            self._items = self._caller.run(self._pages.next_page(self._timeout))
            self._items.reverse()
        return self._items.pop()
