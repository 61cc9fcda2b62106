"""`JetStream`: where everything begins that servers store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Unpack

from nats_proto import HeadersLike, Payload
from nats_proto._callables import check_hook
from nats_proto._jetstream import stream_calls
from nats_proto._jetstream.read_config import read_config
from nats_proto._jetstream.stream_config import StreamConfig, StreamFields
from nats_proto._publishing.defaults import FLOW, MAX_MESSAGES, MAX_OUTSTANDING
from nats_proto._publishing.find_stored import stored_by
from nats_proto._publishing.headers import PublishOptions, publish_headers
from nats_proto._publishing.publish import publish_operation
from nats_proto._publishing.retries import DUPLICATE_WINDOW, RETRY_FOR
from nats_proto._publishing.versions import check_versions
from nats_proto._publishing.window import MAX_PENDING, PublishWindow

from .buckets import KeyValueBuckets
from .caller import Caller, Listing
from .consumer import Consumer
from .objectstores import ObjectStores
from .publisher import PendingAck, Publisher
from .stream import Stream

if TYPE_CHECKING:
    from nats_proto._consuming.hooks import Hooks
    from nats_proto._ensure.ensure import ConsumersToEnsure
    from nats_proto._ensure.plan import BucketConfig
    from nats_proto._ensure.report import EnsureReport
    from nats_proto._jetstream.account_info import AccountInfo
    from nats_proto._jetstream.api import JetStreamApi
    from nats_proto._jetstream.pub_ack import PubAck
    from nats_proto._jetstream.stream_info import StreamInfo

    from .._engine.crew import Employer
    from .._message import ReceivedMessage
    from .atomic_batch import AtomicBatch, Sender
    from .counter import Counter, Counters
    from .fast_ingest import FastIngest, OnReport
    from .message import JetStreamMessage

__all__ = ["JetStream"]


class JetStream(KeyValueBuckets, ObjectStores):
    """JetStream as one account has it. Made by `Client.jetstream`; costs no request, and there may be several.

    Each call takes ``timeout``, seconds for all that it asks, by default that of ``jetstream()``. All raise
    `JetStreamNotEnabledError` and its kin when there is no JetStream, `ApiError` for what a server refuses,
    `NATSTimeoutError`, `JetStreamDecodeError` for an answer that cannot be read, and what `Client.request` raises.
    """

    def __init__(
        self,
        client: Sender,
        host: Employer[ReceivedMessage],
        api: JetStreamApi,
        hooks: Hooks[JetStreamMessage] | None = None,
    ) -> None:
        self._caller = Caller(client, host, api)
        if hooks is not None:
            # What few programs use is loaded when it is used first; so here and below.
            from .hooking import Hooking

            self._caller.hooking = Hooking(hooks, host.log_failure)
        self._api = api
        self._sender = client
        self._find_stored = stored_by(api)

    def __repr__(self) -> str:
        return f"<nats_anyio.JetStream below {self._api.prefix!r}>"

    # --- publishing --------------------------------------------------------------------------------------------------

    async def publish(
        self,
        subject: str,
        data: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        timeout: float | None = None,
        retry_for: float = RETRY_FOR,
        duplicate_window: float = DUPLICATE_WINDOW,
        **options: Unpack[PublishOptions],
    ) -> PubAck:
        """Send a message to the stream that has this subject, and wait until it is stored: the acknowledgement.

        Each try waits ``timeout`` seconds for the acknowledgement, and tries are begun for ``retry_for`` seconds. What
        was certainly not stored is tried again, as when a stream has no leader; what may be stored only with a
        ``msg_id``, by which the stream knows it again for its ``duplicate_window``, 120 s if it is not configured
        otherwise: after that a try is refused here. The options are those of `PublishOptions`, such as ``msg_id``,
        ``ttl`` and ``expected_last_subject_sequence``.

        Raises `NoStreamResponseError` when no stream took it, `NATSTimeoutError`, what the stream refuses it with (an
        `ApiError` such as `WrongLastSequenceError`), and what `Client.request` raises; ``outcome`` of each says whether
        the message may be stored. `ValueError` and `TypeError` for options that make no sense, `ApiLevelError` for
        those that the connected server is too old for: nothing was sent.
        """
        if options:
            check_versions(self._api, options)
        headers = self._caller.headers_for(subject, headers)
        made = None if headers is None and not options else publish_headers(subject, data, headers, options)
        return await self._caller.run(
            publish_operation(
                subject,
                data,
                made,
                now=self._api.clock,
                timeout=self._api.timeout if timeout is None else timeout,
                retry_for=retry_for,
                duplicate_window=duplicate_window,
                find_stored=self._find_stored,
            )
        )

    def publisher(
        self,
        *,
        max_pending: int = MAX_PENDING,
        timeout: float | None = None,
        retry_for: float = RETRY_FOR,
        duplicate_window: float = DUPLICATE_WINDOW,
        in_order: bool = False,
    ) -> Publisher:
        """A window of publishes: many in flight, each with its acknowledgement; see `Publisher`.

        ``max_pending``: how many. ``timeout`` (seconds): for each try, and for a place in a full window. ``retry_for``:
        for how long tries are begun. ``duplicate_window``: as of `publish`. ``in_order``: what is sent again does not
        come behind what was published later, so the window stalls meanwhile. Raises `ValueError` and `TypeError` for
        what makes no sense.
        """
        seconds = self._api.seconds(timeout)
        window: PublishWindow[PendingAck, Publisher] = PublishWindow(
            self._api.new_inbox(),
            PendingAck,
            max_pending=max_pending,
            timeout=seconds,
            retry_for=retry_for,
            duplicate_window=duplicate_window,
            in_order=in_order,
        )
        hooking = self._caller.hooking
        if hooking is None or hooking.hooks.publish is None:
            return Publisher(self._caller.client, self._caller.host, window, seconds, self._api)
        from .hooking import HookedPublisher

        hooked = HookedPublisher(self._caller.client, self._caller.host, window, seconds, self._api)
        hooked.hooking = hooking
        return hooked

    def atomic_batch(
        self,
        *,
        timeout: float | None = None,
        retry_for: float = RETRY_FOR,
        ack_every: int | None = None,
        max_messages: int = MAX_MESSAGES,
    ) -> AtomicBatch:
        """Messages that a stream stores together or not at all; see `AtomicBatch`.

        ``timeout`` (seconds): for each answer of the server, which is waited for at the first message, at each
        ``ack_every``-th one, and at the end. A request that nobody takes is made again for ``retry_for`` seconds.
        ``max_messages``: of a batch, as the server is configured. Raises `ValueError` and `TypeError`, `ApiLevelError`
        when the server is too old: it would store the messages one by one.
        """
        from nats_proto._publishing.atomic_batch import AtomicBatch as Core

        from .atomic_batch import AtomicBatch

        self._api.check_server("an atomic batch", 2, 12)
        batch = Core(
            self._api.new_inbox().rpartition(".")[2],
            now=self._api.clock,
            timeout=self._api.seconds(timeout),
            retry_for=retry_for,
            ack_every=ack_every,
            max_messages=max_messages,
            max_payload=lambda: self._sender.max_payload,
        )
        return AtomicBatch(self._caller, batch)

    def fast_ingest(
        self,
        *,
        flow: int = FLOW,
        max_outstanding: int = MAX_OUTSTANDING,
        on_gap: Literal["fail", "ok"] = "fail",
        on_report: OnReport | None = None,
        timeout: float | None = None,
    ) -> FastIngest:
        """Messages into one stream as fast as it takes them, with an acknowledgement for many; see `FastIngest`.

        ``flow``: for how many messages one acknowledgement may be, the stream decides for how many it is (65,535 at
        most). ``max_outstanding``: on how many of these is not waited. ``on_gap``: a message that is lost or refused
        ends the whole (``"fail"``) or is reported (``"ok"``), also to ``on_report``, which is called by whoever
        publishes. ``timeout``: seconds of silence after which it has failed. Raises `ValueError` and `TypeError`,
        `ApiLevelError` when the server is too old.
        """
        from nats_proto._publishing.fast_ingest import FastIngest as Machine

        from .fast_ingest import FastIngest

        check_hook("fast_ingest: on_report", on_report)
        self._api.check_server("fast ingest", 2, 14)
        machine = Machine(
            self._api.new_inbox(),
            flow=flow,
            max_outstanding=max_outstanding,
            on_gap=on_gap,
            timeout=self._api.seconds(timeout),
        )
        return FastIngest(self._caller, machine, on_report)

    def counter(self, subject: str, *, stream: str | None = None) -> Counter:
        """The handle of a counter. It asks nothing. ``stream``: which has it, if that does not take the subject itself.

        Raises `InvalidSubjectError`, `InvalidNameError`, and `ApiLevelError` when the server is too old.
        """
        from nats_proto._publishing.counter import Counter as Core

        from .counter import Counter

        return Counter(self._caller, Core(self._api, subject, stream))

    def counters(self, stream: str, subjects: str | Sequence[str], *, timeout: float | None = None) -> Counters:
        """The counters of a stream with these subjects (wildcards too), all as of one moment; see `CounterEntry`.

        1,024 at most, since servers give no more at once. ``timeout``: seconds between two of them. The stream must
        have ``allow_direct``. Raises as `Stream.get_last_msgs`, and while it is read as `Counters`.
        """
        from .counter import Counters

        return Counters(self.stream(stream).get_last_msgs(subjects, timeout=timeout))

    # --- the account -------------------------------------------------------------------------------------------------

    async def account_info(self, *, timeout: float | None = None) -> AccountInfo:
        """What the account uses, and what it may use."""
        return await self._caller.run(stream_calls.account_info(self._api, timeout=timeout))

    async def ensure(
        self,
        *,
        streams: Iterable[StreamConfig] = (),
        consumers: ConsumersToEnsure = (),
        buckets: Iterable[BucketConfig] = (),
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> EnsureReport:
        """Make streams, consumers and buckets what they are to be: create what is missing, change what differs.

        ``consumers``: pairs of a stream's name and a `ConsumerConfig` that has a name, or for each stream its
        consumer or several. ``buckets``: `KeyValueConfig`, `ObjectStoreConfig`. Fields that are not given stay as they
        are, so a second call has nothing to do. Nothing is deleted. Everything is looked at before anything is
        changed; with ``dry_run`` nothing is. Printed, the report has a line for each thing that is created, and for
        each field that differs. ``timeout``: seconds for each request.

        Raises `ImmutableFieldError` before anything is changed when a field differs that no server changes,
        `StreamNotFoundError` for a consumer's stream, `TypeError` and `ValueError` for what cannot be; and in the
        midst of it what a server refuses: a note of the error tells what was done before.
        """
        from nats_proto._ensure.ensure import ensure

        return await self._caller.run(
            ensure(self._api, streams=streams, consumers=consumers, buckets=buckets, dry_run=dry_run, timeout=timeout)
        )

    # --- streams -----------------------------------------------------------------------------------------------------

    async def create_stream(
        self,
        name: str | None = None,
        /,
        *,
        config: StreamConfig | None = None,
        timeout: float | None = None,
        **fields: Unpack[StreamFields],
    ) -> Stream:
        """Make a stream, from fields of `StreamConfig` or a ready one. The same one again is no error.

        Raises `StreamNameInUseError` for another configuration under this name, `SubjectsOverlapError`,
        `FeatureDroppedError` when the server is too old for a field, `TypeError` and `ValueError` for what cannot be.
        """
        wanted = read_config(StreamConfig, config, name, fields)
        info = await self._caller.run(stream_calls.create_stream(self._api, wanted, timeout=timeout))
        return Stream(self._caller, info.config.name or "", info)

    async def update_stream(
        self,
        name: str | None = None,
        /,
        *,
        config: StreamConfig | None = None,
        timeout: float | None = None,
        **fields: Unpack[StreamFields],
    ) -> Stream:
        """Change a stream. What is not given gets the server's default: begin with the ``config`` that it has.

        Raises `StreamNotFoundError`, and as `create_stream`.
        """
        wanted = read_config(StreamConfig, config, name, fields)
        info = await self._caller.run(stream_calls.update_stream(self._api, wanted, timeout=timeout))
        return Stream(self._caller, info.config.name or "", info)

    async def create_or_update_stream(
        self,
        name: str | None = None,
        /,
        *,
        config: StreamConfig | None = None,
        timeout: float | None = None,
        **fields: Unpack[StreamFields],
    ) -> Stream:
        """`update_stream`, or `create_stream` where there is none of this name."""
        wanted = read_config(StreamConfig, config, name, fields)
        info = await self._caller.run(stream_calls.create_or_update_stream(self._api, wanted, timeout=timeout))
        return Stream(self._caller, info.config.name or "", info)

    def stream(self, name: str) -> Stream:
        """The handle of a stream. It asks nothing: whether there is such a stream, `Stream.refresh` tells."""
        return Stream(self._caller, name)

    def stream_names(self, subject: str | None = None, *, timeout: float | None = None) -> AsyncIterator[str]:
        """The names of all streams, or of those with a subject that this one matches; each page has ``timeout``."""
        return Listing(self._caller, stream_calls.list_stream_names(self._api, subject), timeout)

    def streams(self, subject: str | None = None, *, timeout: float | None = None) -> AsyncIterator[StreamInfo]:
        """All streams, or those with a subject that this one matches; each page has ``timeout``."""
        return Listing(self._caller, stream_calls.list_streams(self._api, subject), timeout)

    async def stream_name_by_subject(self, subject: str, *, timeout: float | None = None) -> str:
        """The name of the stream that takes this subject. Raises `StreamNotFoundError`."""
        return await self._caller.run(stream_calls.stream_name_by_subject(self._api, subject, timeout=timeout))

    async def delete_stream(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a stream, with its messages and its consumers. Raises `StreamNotFoundError`."""
        await self._caller.run(stream_calls.delete_stream(self._api, name, timeout=timeout))

    def consumer(self, stream: str, name: str) -> Consumer:
        """The handle of a consumer. It asks nothing: whether there is such a one, `Consumer.refresh` tells."""
        return Consumer(self._caller, stream, name)
