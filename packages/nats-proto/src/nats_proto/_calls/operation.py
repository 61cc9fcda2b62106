"""A call and its answer, and short sequences of calls: what is asked of a server, apart from who waits for the answer.

`ApiCall` is one request and what its answer means. An `Operation` is a generator for a sequence that decides its next
step by what came before, such as "read, compare, write". It yields effects, is sent their results, and returns what the
sequence comes to; where an effect fails its error is thrown in at the ``yield``. One driver in each client runs them
all. Operations are put together with ``yield from``:

    def create(key: str, value: bytes) -> Operation[int]:
        try:
            return (yield from put_call(key, value, expected=0).run())
        except WrongLastSequenceError:
            entry = yield from get_call(key).run()
            ...

An operation may be left at any ``yield`` (its caller was cancelled), so no ``finally`` in it may yield.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from .._value import Value
from .._wire.frames import Message, Payload
from .._wire.headers import HeadersLike

__all__ = ["ApiCall", "Operation", "OperationEffect", "Pause", "Publish", "Request"]

T = TypeVar("T")


class ApiCall(Value, Generic[T], frozen=True, eq=False):
    """One request and what its answer means.

    ``decode`` makes the result of the answer; it raises a `NATSError` for an answer that says that the call has failed,
    or that cannot be read. ``what`` names the call, such as ``"create stream 'ORDERS'"``, in the error of a machine's
    call that was not answered in time.
    """

    what: str
    subject: str
    payload: bytes
    decode: Callable[[Message], T]
    headers: HeadersLike | None = None

    def run(self, *, timeout: float | None = None) -> Operation[T]:
        """As a step of an operation: its result. Raises what the request and ``decode`` raise."""
        answer = yield Request(self.subject, self.payload, self.headers, timeout=timeout)
        assert answer is not None  # a driver sends the answer of a request, or throws its error in
        return self.decode(answer)


class Request(Value, frozen=True, eq=False):
    """Send a message and wait for its first answer, which is the result. ``timeout``: seconds, None for the default.

    ``accept``: as of ``Session.request``, an answer for which it returns False is skipped, and the wait goes on. Raises
    what ``Client.request`` raises.
    """

    subject: str
    data: Payload = b""
    headers: HeadersLike | None = None
    timeout: float | None = None
    accept: Callable[[Message], bool] | None = None


class Publish(Value, frozen=True, eq=False):
    """Send a message. Raises what ``Client.publish`` raises; the result is None."""

    subject: str
    data: Payload = b""
    reply: str | None = None
    headers: HeadersLike | None = None


class Pause(Value, frozen=True):
    """Wait for so many seconds; the result is None. Ends early, with `ConnectionClosedError`, when the client is."""

    seconds: float


OperationEffect = Request | Publish | Pause
Operation = Generator[OperationEffect, Message | None, T]
