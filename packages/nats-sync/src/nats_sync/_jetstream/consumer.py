"""`Consumer`: one consumer of a stream, and the ways to read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nats_proto._callables import check_hook
from nats_proto._consuming.diagnose import Diagnosis, diagnose
from nats_proto._consuming.readers import Employment, Source, check_handler, ends_reading, priority_of
from nats_proto._consuming.stats import Tally
from nats_proto._consuming.work_options import OnPoison, WorkOptions
from nats_proto._jetstream import consumer_calls
from nats_proto._jetstream.names import check_name
from nats_proto.errors import LocalProtocolError, NATSError

from .batch import Batch
from .caller import Caller
from .consuming import Consuming, MessageHandler
from .message import JetStreamMessage
from .messages import Messages, OnWarning
from .reading import message_maker
from .working import KeyFunction, OnError, Work

if TYPE_CHECKING:
    from nats_proto._consuming.consume import Consume
    from nats_proto._consuming.fetch import Fetch
    from nats_proto._consuming.options import ConsumeOptions, OnMissing
    from nats_proto._consuming.stats import ConsumerStats
    from nats_proto._consuming.warning import ConsumerWarning
    from nats_proto._jetstream.consumer_info import ConsumerInfo
    from nats_proto._json.durations import DurationLike
    from nats_proto._permissions import Permissions

    from .._message import ReceivedMessage

__all__ = ["Consumer"]


class Consumer:
    """The handle of one consumer. Made by `Stream` and `JetStream`; its calls raise what those of `JetStream` raise.

    Raises `ValueError` for what cannot be a name.
    """

    def __init__(self, caller: Caller, stream: str, name: str, info: ConsumerInfo | None = None) -> None:
        self._caller = caller
        self._api = caller.api
        self._stream = check_name("stream", stream)
        self._name = check_name("consumer", name)
        self._info = info
        self._tally = Tally()
        self._pin: str | None = None
        """The identity that the server gave this reader as the pinned client of a priority group (ADR-42)."""

    def __repr__(self) -> str:
        return f"<nats_sync.Consumer {self._name!r} of stream {self._stream!r}>"

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._name

    @property
    def stream_name(self) -> str:
        """The name of its stream."""
        return self._stream

    @property
    def info(self) -> ConsumerInfo:
        """What the server said last about it. `LocalProtocolError` when it was not asked yet: `refresh` asks."""
        if self._info is None:
            raise LocalProtocolError(
                f"consumer {self._name!r}: nothing is known about it yet, refresh() asks the server"
            )
        return self._info

    def permissions(self) -> Permissions:
        """The subjects that a program needs which reads this consumer, and acknowledges its messages.

        Printed, they are what a user of the server is given. Nothing is asked.
        """
        from nats_proto._jetstream.permissions import to_consume

        return to_consume(self._caller.api, self.stream_name, self.name)

    def refresh(self, *, timeout: float | None = None) -> ConsumerInfo:
        """Ask for its configuration and state. Raises `ConsumerNotFoundError`."""
        self._info = self._caller.run(
            consumer_calls.consumer_info(self._api, self._stream, self._name, timeout=timeout)
        )
        return self._info

    def stats(self, *, timeout: float | None = None) -> ConsumerStats:
        """How it is, in figures: what the server says when it is asked now, and what readers of this handle have
        survived since it was made. Raises as `refresh`."""
        return self._tally.stats(self.refresh(timeout=timeout))

    def diagnose(self, warnings: Iterable[ConsumerWarning] = (), *, timeout: float | None = None) -> Diagnosis:
        """Why nothing comes: the server is asked, and a sentence (``text``) with its ``cause`` is made of the answers.

        ``warnings``: what a reader of it was told, such as `Messages.warnings`. Being unable to ask is an answer too;
        it raises `ConnectionClosedError` and what else has nothing to do with the consumer.
        """
        found, info = self._caller.run(diagnose(self._api, self._stream, self._name, warnings, timeout=timeout))
        self._info = info or self._info
        return found

    # --- reading -----------------------------------------------------------------------------------------------------

    def next(
        self,
        timeout: float = 5.0,
        *,
        group: str | None = None,
        min_pending: int | None = None,
        min_ack_pending: int | None = None,
        priority: int | None = None,
    ) -> JetStreamMessage | None:
        """The next message; None when there was none for ``timeout`` seconds. Raises as `Batch` does.

        Each call is a request of its own: for many messages `messages` is much quicker.
        """
        batch = self.fetch(
            1,
            timeout=timeout,
            group=group,
            min_pending=min_pending,
            min_ack_pending=min_ack_pending,
            priority=priority,
        )
        with batch:
            return next(batch, None)

    def fetch(
        self,
        max_messages: int | None = None,
        *,
        max_bytes: int | None = None,
        timeout: float = 5.0,
        no_wait: bool = False,
        linger: float | None = None,
        heartbeat: float | None = None,
        group: str | None = None,
        min_pending: int | None = None,
        min_ack_pending: int | None = None,
        priority: int | None = None,
    ) -> Batch:
        """Up to ``max_messages``, or so many as are up to ``max_bytes`` together, for ``timeout`` seconds in all.

        ``no_wait``: only what is there now. ``linger``: end so many seconds after the first message. ``heartbeat``:
        seconds between the server's signs of life (5, and none where ``timeout`` is 10 or less: the server's word at
        the end comes as soon as two of them). ``group`` and what follows it: for consumers with priority groups
        (ADR-42). Raises `TypeError` without any maximum, `ValueError` and `TypeError` for what makes no sense.
        """
        source = Source(self._api, self._stream, self._name, self._info)
        machine = source.fetch(
            self._maker(source),
            max_messages=max_messages,
            max_bytes=max_bytes,
            timeout=timeout,
            no_wait=no_wait,
            linger=linger,
            heartbeat=heartbeat,
            priority=priority_of(group, min_pending, min_ack_pending, priority),
        )
        return Batch(self._caller.host, machine, self._fetches, self._fetched)

    def _fetches(self, machine: Fetch[ReceivedMessage, JetStreamMessage], now: float) -> None:
        machine.begin(self._pin, now=now)

    def _fetched(self, machine: Fetch[ReceivedMessage, JetStreamMessage]) -> None:
        self._pin = machine.pin

    def messages(
        self,
        *,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        threshold: int | None = None,
        limit: int | None = None,
        expires: float | None = None,
        heartbeat: float | None = None,
        on_missing: OnMissing = "raise",
        on_warning: OnWarning | None = None,
        group: str | None = None,
        min_pending: int | None = None,
        min_ack_pending: int | None = None,
        priority: int | None = None,
    ) -> Messages:
        """Messages without end, asked for ahead: ``max_messages`` (100 by default) or ``max_bytes`` of them at most.

        More are asked for when fewer than ``threshold`` are outstanding (by default half). ``limit``: end after so
        many. ``expires``: seconds that one request waits at the server (30), ``heartbeat`` between its signs of life
        (5). ``on_missing``: ``raise`` when the consumer is gone, ``wait`` for one of this name, or
        ``recreate`` it as `info` knows it. Raises `ValueError`
        and `TypeError` for what makes no sense.

        After a stop of the program, or a message that took its reader as long as ``ack_wait``, messages lie there whose
        age nobody can see: what others have by now may be given here as well, though nothing that lies there twice.
        Only `work` can tell a stop from a long handler, and leaves out what may be old.
        """
        source = Source(self._api, self._stream, self._name, self._info)
        options = source.options(
            max_messages=max_messages,
            max_bytes=max_bytes,
            threshold=threshold,
            limit=limit,
            expires=expires,
            heartbeat=heartbeat,
            on_missing=on_missing,
            priority=priority_of(group, min_pending, min_ack_pending, priority),
        )
        make = self._maker(source)

        def machine(now: float) -> Consume[ReceivedMessage, JetStreamMessage]:
            return source.consume(make, options, now=now)

        return Messages(self._caller.host, machine, self._warned(on_warning))

    def consume(
        self,
        handler: MessageHandler,
        *,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        threshold: int | None = None,
        limit: int | None = None,
        expires: float | None = None,
        heartbeat: float | None = None,
        on_missing: OnMissing = "raise",
        on_warning: OnWarning | None = None,
        group: str | None = None,
        min_pending: int | None = None,
        min_ack_pending: int | None = None,
        priority: int | None = None,
    ) -> Consuming:
        """Give each message to ``handler``, one after another, which acknowledges it; begins at once.

        It goes on beside the caller. Options as of `messages`, and so is what it gives after a stop or a long handler.
        What the handler raises is logged, and the next message follows. Raises `TypeError` for a handler that cannot be
        called, what `messages` raises for its options, and `ConnectionClosedError`.
        """
        check_handler("consume", handler, awaits=False)
        source = Source(self._api, self._stream, self._name, self._info)
        options = source.options(
            max_messages=max_messages,
            max_bytes=max_bytes,
            threshold=threshold,
            limit=limit,
            expires=expires,
            heartbeat=heartbeat,
            on_missing=on_missing,
            priority=priority_of(group, min_pending, min_ack_pending, priority),
        )
        make = self._maker(source)

        def machine(now: float) -> Consume[ReceivedMessage, JetStreamMessage]:
            return source.consume(make, options, now=now)

        return Consuming(self._caller.host, machine, handler, source.what("consume from"), self._warned(on_warning))

    def work(
        self,
        handler: MessageHandler,
        *,
        concurrency: int = 1,
        backoff: Sequence[DurationLike] | None = None,
        max_attempts: int | None = None,
        on_poison: OnPoison = "term",
        dead_letter: str | None = None,
        keep_alive: bool | DurationLike = True,
        confirmed: bool = False,
        key: KeyFunction | None = None,
        on_error: OnError | None = None,
        max_messages: int | None = None,
        expires: float | None = None,
        heartbeat: float | None = None,
        on_missing: OnMissing = "raise",
        on_warning: OnWarning | None = None,
        group: str | None = None,
        min_pending: int | None = None,
        min_ack_pending: int | None = None,
        priority: int | None = None,
    ) -> Work:
        """Give each message to ``handler``, ``concurrency`` at once, and acknowledge by what comes of it.

        It returned: ack. It raised: delivered again after the pause of this attempt, ``backoff`` or the consumer's,
        else 1 to 60 s; `Retry` and `Reject` say it better. It settled the message by itself: nothing. After
        ``max_attempts``, or the consumer's ``max_deliver``: never again (``on_poison``), or first to ``dead_letter``, a
        subject of a stream. While it runs the server is told so, for ``keep_alive`` seconds at most (True: an hour).

        ``confirmed``: wait for the server to confirm each acknowledgement. ``key`` of a message: those with the same
        one after another, in order. ``on_error(message, error)`` is told what a handler raised, and may raise `Retry`
        or `Reject` in its place. ``max_messages``: taken or asked for, at most; by default twice the concurrency, and
        more for quick handlers. The rest as of `messages`. Raises as `consume`.
        """
        check_handler("work", handler, awaits=False)
        check_hook("work: the key", key)
        check_hook("work: on_error", on_error)
        policy = WorkOptions(
            concurrency=concurrency,
            backoff=backoff,
            max_attempts=max_attempts,
            on_poison=on_poison,
            dead_letter=dead_letter,
            keep_alive=keep_alive,
            confirmed=confirmed,
        )
        wanted = priority_of(group, min_pending, min_ack_pending, priority)
        source = Source(self._api, self._stream, self._name, self._info)

        def options(source: Source) -> ConsumeOptions:
            return source.options(
                max_messages=max_messages,
                max_bytes=None,
                threshold=None,
                limit=None,
                expires=expires,
                heartbeat=heartbeat,
                on_missing=on_missing,
                priority=wanted,
            )

        options(source)  # raises for what makes no sense

        def employ() -> Employment[ReceivedMessage, JetStreamMessage]:
            known = Source(self._api, self._stream, self._name, self._looked_up(on_missing))
            return known.employ(self._maker(known), options(known), policy, prefetch=max_messages)

        return Work(
            self._caller.host,
            employ,
            handler,
            policy,
            source.what("work on"),
            key=key,
            on_error=on_error,
            on_warning=self._warned(on_warning),
        )

    def _warned(self, on_warning: OnWarning | None) -> OnWarning | None:
        return self._caller.warned(on_warning, self._tally)

    def _looked_up(self, on_missing: OnMissing) -> ConsumerInfo | None:
        """What is known of it, asked for if need be: how long it waits for acknowledgements, and how often it tries."""
        if self._info is None:
            try:
                self.refresh()
            except NATSError as error:
                if ends_reading(error, on_missing):
                    raise
        return self._info

    def _maker(self, source: Source) -> Callable[[ReceivedMessage, float], JetStreamMessage]:
        return self._caller.making(message_maker(self._caller, source.delivery))
