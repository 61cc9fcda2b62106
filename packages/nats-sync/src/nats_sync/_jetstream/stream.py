"""`Stream`: one stream, its messages and its consumers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from nats_proto import check_count
from nats_proto._consuming import batch_get
from nats_proto._consuming.ordered_calls import (
    INACTIVE_THRESHOLD,
    PREFIX,
    OrderedCalls,
    ordered_config,
    ordered_options,
)
from nats_proto._jetstream import consumer_calls, stream_calls
from nats_proto._jetstream.consumer_config import ConsumerConfig, ConsumerFields, DeliverPolicy, ReplayPolicy
from nats_proto._jetstream.names import check_name
from nats_proto._json.durations import DurationLike
from nats_proto.errors import LocalProtocolError

from .caller import Caller, Listing
from .consumer import Consumer
from .messages import OnWarning
from .ordered import OrderedConsumer
from .push import PushConsumer
from .stored import StoredMessages

if TYPE_CHECKING:
    from nats_proto._jetstream.consumer_info import ConsumerInfo, ConsumerPause
    from nats_proto._jetstream.stored_message import StoredMessage
    from nats_proto._jetstream.stream_info import StreamInfo
    from nats_proto._permissions import Permissions

__all__ = ["Stream"]


class Stream:
    """The handle of one stream. Made by `JetStream`; its calls raise what those of `JetStream` raise.

    Raises `ValueError` for what cannot be a stream's name.
    """

    def __init__(self, caller: Caller, name: str, info: StreamInfo | None = None) -> None:
        self._caller = caller
        self._api = caller.api
        self._name = check_name("stream", name)
        self._info = info

    def __repr__(self) -> str:
        return f"<nats_sync.Stream {self._name!r}>"

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._name

    @property
    def info(self) -> StreamInfo:
        """What the server said last about it. `LocalProtocolError` when it was not asked yet: `refresh` asks."""
        if self._info is None:
            raise LocalProtocolError(f"stream {self._name!r}: nothing is known about it yet, refresh() asks the server")
        return self._info

    def permissions(self) -> Permissions:
        """The subjects that a program needs which reads the stream: by its handle, and by ordered consumers.

        Printed, they are what a user of the server is given. Who publishes needs the subjects of the stream, who reads
        a consumer `Consumer.permissions`. Nothing is asked.
        """
        from nats_proto._jetstream.permissions import to_read

        return to_read(self._caller.api, self.name)

    def refresh(
        self, *, subjects_filter: str | None = None, deleted_details: bool = False, timeout: float | None = None
    ) -> StreamInfo:
        """Ask for its configuration and state. Raises `StreamNotFoundError`.

        ``subjects_filter``: count the messages of each subject that it matches. ``deleted_details``: list the sequences
        of deleted messages.
        """
        self._info = self._caller.run(
            stream_calls.stream_info(
                self._api,
                self._name,
                subjects_filter=subjects_filter,
                deleted_details=deleted_details,
                timeout=timeout,
            )
        )
        return self._info

    def leader_stepdown(self, *, timeout: float | None = None) -> None:
        """Have its cluster elect another leader."""
        self._caller.run(stream_calls.step_down_stream_leader(self._api, self._name, timeout=timeout))

    # --- messages ----------------------------------------------------------------------------------------------------

    def purge(
        self,
        *,
        subject: str | None = None,
        up_to_sequence: int | None = None,
        keep: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Delete messages: how many there were.

        All; or those of ``subject`` (wildcards too), those below the sequence ``up_to_sequence``, all but the newest
        ``keep``. `ValueError` for the last two together.
        """
        return self._caller.run(
            stream_calls.purge_stream(
                self._api, self._name, subject=subject, up_to_sequence=up_to_sequence, keep=keep, timeout=timeout
            )
        )

    def get_msg(
        self,
        sequence: int,
        *,
        subject: str | None = None,
        direct: bool | None = None,
        timeout: float | None = None,
    ) -> StoredMessage:
        """The message with this sequence; with ``subject`` the first one of that subject from this sequence on.

        ``direct``: from any replica, which is quick and may be a little behind; False: from the leader. By default
        where the stream is known to allow it (`info`). Raises `MessageNotFoundError`.
        """
        return self._caller.run(
            stream_calls.get_msg(
                self._api, self._name, sequence, subject=subject, direct=self._direct(direct), timeout=timeout
            )
        )

    def get_last_msg(self, subject: str, *, direct: bool | None = None, timeout: float | None = None) -> StoredMessage:
        """The last message of a subject (wildcards too); ``direct`` as of `get_msg`. Raises `MessageNotFoundError`."""
        return self._caller.run(
            stream_calls.get_last_msg(self._api, self._name, subject, direct=self._direct(direct), timeout=timeout)
        )

    def get_msgs(
        self,
        *,
        sequence: int | None = None,
        start_time: datetime | None = None,
        subject: str | None = None,
        batch: int = batch_get.BATCH,
        max_bytes: int | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> StoredMessages:
        """The messages from this sequence on, or from this time on, by default all (server 2.11, ADR-31).

        ``subject``: only those with it (wildcards too). They come in pages of ``batch`` messages and ``max_bytes``
        bytes; the next page is asked for when the one before was read. ``limit``: so many at most in all. ``timeout``:
        seconds between two messages. The stream must have ``allow_direct``. Raises `ValueError` and `TypeError` here,
        and as `StoredMessages` while it is read.
        """
        return StoredMessages(
            self._caller.host,
            batch_get.get_msgs(
                self._api,
                self._name,
                sequence=sequence,
                start_time=start_time,
                subject=subject,
                batch=batch,
                max_bytes=max_bytes,
                limit=limit,
                timeout=timeout,
            ),
        )

    def get_last_msgs(
        self,
        subjects: str | Sequence[str],
        *,
        up_to_seq: int | None = None,
        up_to_time: datetime | None = None,
        batch: int = batch_get.BATCH,
        max_bytes: int | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> StoredMessages:
        """The last message of each subject that one of ``subjects`` matches, as they were at one moment (server 2.11).

        The moment is that of ``up_to_seq`` or ``up_to_time``, by default that of the first page. At most 1024 subjects
        may match. The rest is as of `get_msgs`.
        """
        return StoredMessages(
            self._caller.host,
            batch_get.get_last_msgs(
                self._api,
                self._name,
                subjects,
                up_to_seq=up_to_seq,
                up_to_time=up_to_time,
                batch=batch,
                max_bytes=max_bytes,
                limit=limit,
                timeout=timeout,
            ),
        )

    def delete_msg(self, sequence: int, *, secure: bool = False, timeout: float | None = None) -> None:
        """Delete one message; ``secure``: overwrite its bytes as well. Raises `MessageNotFoundError`."""
        self._caller.run(stream_calls.delete_msg(self._api, self._name, sequence, secure=secure, timeout=timeout))

    def _direct(self, direct: bool | None) -> bool:
        return bool(self._info is not None and self._info.config.allow_direct) if direct is None else direct

    # --- consumers ---------------------------------------------------------------------------------------------------

    def create_consumer(
        self,
        durable: str | None = None,
        /,
        *,
        config: ConsumerConfig | None = None,
        timeout: float | None = None,
        **fields: Unpack[ConsumerFields],
    ) -> Consumer:
        """Make a consumer, from fields of `ConsumerConfig` or a ready one. The same one again is no error.

        ``create_consumer("billing")`` makes a durable one, which stays until it is deleted. Without a durable name the
        server deletes it when nobody has asked it for messages for ``inactive_threshold`` seconds (5 by default); it
        has the ``name`` that is given, or one made here. Raises `ConsumerExistsError` for another
        configuration under this name, `FeatureDroppedError`, `TypeError` and `ValueError` for what cannot be.
        """
        return self._put("create", durable, config, fields, timeout)

    def update_consumer(
        self,
        durable: str | None = None,
        /,
        *,
        config: ConsumerConfig | None = None,
        timeout: float | None = None,
        **fields: Unpack[ConsumerFields],
    ) -> Consumer:
        """Change a consumer. Raises `ConsumerDoesNotExistError`, and as `create_consumer`."""
        return self._put("update", durable, config, fields, timeout)

    def create_or_update_consumer(
        self,
        durable: str | None = None,
        /,
        *,
        config: ConsumerConfig | None = None,
        timeout: float | None = None,
        **fields: Unpack[ConsumerFields],
    ) -> Consumer:
        """`update_consumer`, or `create_consumer` where there is none of this name."""
        return self._put("", durable, config, fields, timeout)

    def _put(
        self,
        action: consumer_calls.Action,
        durable: str | None,
        config: ConsumerConfig | None,
        fields: ConsumerFields,
        timeout: float | None,
    ) -> Consumer:
        wanted = consumer_calls.read_consumer(config, durable, fields)
        info = self._caller.run(consumer_calls.put_consumer(self._api, self._name, wanted, action, timeout=timeout))
        return Consumer(self._caller, self._name, info.name, info)

    def consumer(self, name: str) -> Consumer:
        """The handle of a consumer. It asks nothing: whether there is such a one, `Consumer.refresh` tells."""
        return Consumer(self._caller, self._name, name)

    def ordered_consumer(
        self,
        *,
        filter_subjects: str | Sequence[str] | None = None,
        deliver_policy: DeliverPolicy | None = None,
        opt_start_seq: int | None = None,
        opt_start_time: datetime | None = None,
        headers_only: bool = False,
        replay_policy: ReplayPolicy | None = None,
        inactive_threshold: DurationLike = INACTIVE_THRESHOLD,
        metadata: Mapping[str, str] | None = None,
        name_prefix: str = PREFIX,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        threshold: int | None = None,
        expires: float | None = None,
        heartbeat: float | None = None,
        max_attempts: int | None = None,
        on_warning: OnWarning | None = None,
    ) -> OrderedConsumer:
        """Read the stream in order, without a hole and without a double, whatever becomes of the servers (ADR-17).

        Where to begin and what to leave out is as of `ConsumerConfig`; a start needs no ``deliver_policy`` beside it.
        A consumer is made for it whose name begins with ``name_prefix``, again and again if need be, and which the
        server deletes when it was not asked for ``inactive_threshold`` seconds. ``max_attempts``: so many creations in
        a row may fail (by default any number, after the first one). It is read as by `Consumer.messages`, with 500
        messages asked for ahead. Raises `ValueError` and `TypeError` for what makes no sense.
        """
        config = ordered_config(
            filter_subjects=filter_subjects,
            deliver_policy=deliver_policy,
            opt_start_seq=opt_start_seq,
            opt_start_time=opt_start_time,
            headers_only=headers_only,
            replay_policy=replay_policy,
            inactive_threshold=inactive_threshold,
            metadata=metadata,
        )
        options = ordered_options(
            max_messages=max_messages, max_bytes=max_bytes, threshold=threshold, expires=expires, heartbeat=heartbeat
        )
        calls = OrderedCalls(self._api, self._name, config, prefix=name_prefix)
        attempts = None if max_attempts is None else check_count("max_attempts", max_attempts)
        return OrderedConsumer(self._caller, calls, options, attempts, on_warning)

    def push_consumer(self, name: str) -> PushConsumer:
        """The handle of a push consumer, one with a ``deliver_subject``. It asks nothing."""
        return PushConsumer(self._caller, self._name, name)

    def consumer_names(self, *, timeout: float | None = None) -> Iterator[str]:
        """The names of all consumers; each page has ``timeout``."""
        return Listing(self._caller, consumer_calls.list_consumer_names(self._api, self._name), timeout)

    def consumers(self, *, timeout: float | None = None) -> Iterator[ConsumerInfo]:
        """All consumers; each page has ``timeout``."""
        return Listing(self._caller, consumer_calls.list_consumers(self._api, self._name), timeout)

    def delete_consumer(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a consumer. Raises `ConsumerNotFoundError`."""
        self._caller.run(consumer_calls.delete_consumer(self._api, self._name, name, timeout=timeout))

    def pause_consumer(self, name: str, until: datetime, *, timeout: float | None = None) -> ConsumerPause:
        """Have a consumer deliver nothing until then (server 2.11). Raises `ConsumerNotFoundError`, `ValueError`."""
        return self._caller.run(consumer_calls.pause_consumer(self._api, self._name, name, until, timeout=timeout))

    def resume_consumer(self, name: str, *, timeout: float | None = None) -> ConsumerPause:
        """Have a paused consumer go on. Raises `ConsumerNotFoundError`."""
        return self._caller.run(consumer_calls.pause_consumer(self._api, self._name, name, None, timeout=timeout))

    def reset_consumer(self, name: str, *, sequence: int | None = None, timeout: float | None = None) -> ConsumerInfo:
        """Have a consumer begin anew at this sequence, None: behind what is acknowledged (server 2.14).

        Raises `ConsumerNotFoundError` when the time is up, since no server answers for a consumer that is not there.
        """
        return self._caller.run(consumer_calls.reset_consumer(self._api, self._name, name, sequence, timeout=timeout))

    def unpin_consumer(self, name: str, group: str, *, timeout: float | None = None) -> None:
        """Have the server choose another client for this priority group (ADR-42)."""
        self._caller.run(consumer_calls.unpin_consumer(self._api, self._name, name, group, timeout=timeout))
