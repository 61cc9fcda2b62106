"""How JetStream is asked: where its API is, until when an answer is waited for, and what "not found" means meanwhile.

Theory of operation
-------------------
Each question is an `ApiCall`: a subject below the prefix of the API, a JSON object, and what the answer means. It is
run as an operation, which decides what to do with a failure:

* Nobody answers: there is no JetStream, or not in this domain. That is an error of its own, and not the
  `NoRespondersError` of a request, since the user has asked no subject.
* "Not found", or nobody, although we have just made the stream or the consumer ourselves: in a cluster the server that
  is asked may not have heard of it yet. So for `GRACE` seconds after a creation of our own the question is asked again,
  inside its own time. Somebody else's creations are not waited for: then "not found" is the answer.

The handles of a client share one `JetStreamApi`, so that a consumer may be made by one and used by another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

from .._calls.operation import ApiCall, Operation, Pause
from .._json.wire_value import encode_json
from .._limits import check_timeout
from .._wire.frames import Message
from ..errors import NATSError, NATSTimeoutError, NoRespondersError
from .errors import (
    ApiError,
    ApiLevelError,
    ClusterUnavailableError,
    ConsumerNotFoundError,
    JetStreamNotEnabledError,
    StreamNotFoundError,
    nobody_answered,
)
from .names import check_domain, check_prefix

__all__ = ["DEFAULT_TIMEOUT", "GRACE", "JetStreamApi"]

T = TypeVar("T")

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds for a call of the API, all its attempts together."""
GRACE: Final = 5.0
"""Seconds after a creation of our own in which "not found" may mean "not yet"."""
MAX_CREATED: Final = 1024
"""Own creations that are remembered. With more of them in `GRACE` seconds, the oldest are expected to be known."""
INVALID_JSON: Final = 10025
"""What a server that is too old says of a field that it does not know, if it is strict, and of a choice in any case."""
ANONYMOUS: Final = "anon-"
"""The names of consumers begin so that a program has given none: they are ours to delete."""
FIRST_PAUSE: Final = 0.02
LAST_PAUSE: Final = 0.5
"""Seconds between two attempts, doubled each time from the first to the last."""


class JetStreamApi:
    """The API of JetStream as one client uses it.

    ``domain`` and ``api_prefix`` say where it is: without them below ``$JS.API.``, else below ``$JS.<domain>.API.`` or
    below any prefix, to which a dot is added when it ends without. ``timeout``: seconds for a call that says nothing
    else. ``now`` reads the clock of the client, ``new_inbox`` makes subjects that nobody else has. Raises `ValueError`
    for both together and for what cannot be part of a subject, `TypeError` for a time that is no number.
    """

    __slots__ = ("_created", "_elsewhere", "clock", "domain", "new_inbox", "prefix", "server_version", "timeout")

    def __init__(
        self,
        *,
        domain: str | None = None,
        api_prefix: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        now: Callable[[], float],
        new_inbox: Callable[[], str],
        server_version: Callable[[], str],
    ) -> None:
        if domain is not None and api_prefix is not None:
            raise ValueError("jetstream: a domain is a prefix of the API: give domain= or api_prefix=, not both")
        self.domain = domain
        self._elsewhere = ""
        """How the user has called the place, for the texts of errors."""
        if domain is not None:
            self.prefix = f"$JS.{check_domain(domain)}.API."
            self._elsewhere = f"domain {domain!r}"
        elif api_prefix is not None:
            self.prefix = check_prefix(api_prefix)
            self._elsewhere = f"API prefix {api_prefix!r}"
        else:
            self.prefix = "$JS.API."
        self.timeout = check_timeout("timeout", timeout)
        self.clock = now
        """Tells the time."""
        self.new_inbox = new_inbox
        self.server_version = server_version
        """Of the server that the client is connected to, for the texts of errors."""
        self._created: dict[str, float] = {}
        """Until when what we have made ourselves may be unknown to a server: streams, and ``stream/consumer``."""

    def new_name(self) -> str:
        """For a consumer that nobody else has to find: one can tell by it who has made it."""
        return f"{ANONYMOUS}{self.new_inbox().rpartition('.')[2]}"

    def seconds(self, timeout: float | None) -> float:
        """The time that a call may take."""
        return self.timeout if timeout is None else check_timeout("timeout", timeout)

    def request(
        self,
        what: str,
        subject: str,
        decode: Callable[[Message], T],
        body: object = None,
        *,
        level: int = 0,
    ) -> ApiCall[T]:
        """One question: ``subject`` below the prefix, ``body`` as JSON. ``level`` of the API that it needs: ADR-44."""
        headers = {"Nats-Required-Api-Level": str(level)} if level else None
        return ApiCall(what, self.prefix + subject, b"" if body is None else encode_json(body), decode, headers)

    def call(
        self, api: ApiCall[T], timeout: float | None, *, stream: str | None = None, consumer: str | None = None
    ) -> Operation[T]:
        """Ask, and wait for the answer, ``timeout`` seconds in all. ``stream``, ``consumer``: what it is about.

        Raises what the answer says, `JetStreamNotEnabledError` when nobody answers, and what a request raises.
        """
        seconds = self.seconds(timeout)
        began = self.clock()
        pause = FIRST_PAUSE
        failure: NATSError | None = None
        while True:
            left = began + seconds - self.clock()
            if failure is not None and left < FIRST_PAUSE:
                raise failure  # it says more than a question for which there is no time
            try:
                return (yield from api.run(timeout=max(left, 0.0)))
            except NoRespondersError as error:
                failure = self.nobody(api.what, error.subject)
            except (StreamNotFoundError, ConsumerNotFoundError, ClusterUnavailableError) as error:
                failure = error
            except NATSTimeoutError as error:
                raise _late(api.what, seconds, error) from error
            except ApiError as error:
                raise self._too_old(error) from error.__cause__
            if not self._may_be_new(stream, consumer, failure) or self.clock() + pause >= began + seconds:
                raise failure
            yield Pause(pause)
            pause = min(2 * pause, LAST_PAUSE)

    def check_server(self, what: str, *version: int) -> None:
        """Raises `ApiLevelError` when the connected server is older: it would leave such a question unanswered.

        Elsewhere (in another domain) there may be another server, which has to answer for itself.
        """
        connected = self.server_version()
        known = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", connected)
        if self._elsewhere or known is None or (int(known[1]), int(known[2])) >= version:
            return
        needed = ".".join(map(str, version))
        raise ApiLevelError(
            f"{what} needs a server of {needed} or newer, this one is {connected}", code=412, err_code=10185
        )

    def _too_old(self, error: ApiError) -> ApiError:
        """The same error; with the server's version, when that is what is wrong."""
        unknown = error.err_code == INVALID_JSON and "unknown" in error.description
        if not unknown and not isinstance(error, ApiLevelError):
            return error
        version = self.server_version() or "unknown"
        return ApiLevelError(
            f"{error}: the server is too old for it, its version is {version}",
            code=error.code,
            err_code=error.err_code,
            description=error.description,
        )

    def nobody(self, what: str, subject: str) -> JetStreamNotEnabledError:
        """The error of a question to which nobody listens."""
        return nobody_answered(what, subject, elsewhere=self._elsewhere)

    # --- what we have made -------------------------------------------------------------------------------------------

    def created(self, stream: str, consumer: str | None = None) -> None:
        """We have made it: for a while a server may not know it."""
        self._created.pop(_key(stream, consumer), None)
        self._created[_key(stream, consumer)] = self.clock() + GRACE
        if len(self._created) > MAX_CREATED:
            del self._created[next(iter(self._created))]

    def deleted(self, stream: str, consumer: str | None = None) -> None:
        """We have deleted it: "not found" is the truth, for the consumers of a stream as well."""
        self._created.pop(_key(stream, consumer), None)
        if consumer is None:
            for key in [key for key in self._created if key.startswith(f"{stream}/")]:
                del self._created[key]

    def is_new(self, stream: str) -> bool:
        """We have made this stream just now: that a server does not know it may mean that it does not know it yet."""
        return self._made_just_now(stream)

    def _may_be_new(self, stream: str | None, consumer: str | None, failure: NATSError) -> bool:
        if stream is None:
            return False
        if consumer is not None and self._made_just_now(_key(stream, consumer)):
            return True
        # Who knows the stream and says that there is no such consumer is right, however new the stream is.
        return not isinstance(failure, ConsumerNotFoundError) and self._made_just_now(stream)

    def _made_just_now(self, key: str) -> bool:
        return self._created.get(key, 0.0) > self.clock()


def _key(stream: str, consumer: str | None) -> str:
    return stream if consumer is None else f"{stream}/{consumer}"


def _late(what: str, seconds: float, error: NATSTimeoutError) -> NATSTimeoutError:
    """The error of a call that was not answered, which names the call and not only the subject."""
    return NATSTimeoutError(f"{what}: no answer within {seconds:g} s ({error})", outcome=error.outcome)
