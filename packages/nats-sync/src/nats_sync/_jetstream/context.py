"""`JetStream`: where everything begins that servers store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

from nats_proto._jetstream import stream_calls
from nats_proto._jetstream.read_config import read_config
from nats_proto._jetstream.stream_config import StreamConfig, StreamFields

from .caller import Caller, Listing
from .consumer import Consumer
from .stream import Stream

if TYPE_CHECKING:
    from nats_proto._jetstream.account_info import AccountInfo
    from nats_proto._jetstream.api import JetStreamApi
    from nats_proto._jetstream.stream_info import StreamInfo

    from .._engine.driver import Host
    from .._message import ReceivedMessage
    from .message import Acknowledger

__all__ = ["JetStream"]


class JetStream:
    """JetStream as one account has it. Made by `Client.jetstream`; costs no request, and there may be several.

    Each call takes ``timeout``, seconds for all that it asks, by default that of ``jetstream()``. All raise
    `JetStreamNotEnabledError` and its kin when there is no JetStream, `ApiError` for what a server refuses,
    `NATSTimeoutError`, `JetStreamDecodeError` for an answer that cannot be read, and what `Client.request` raises.
    """

    def __init__(self, client: Acknowledger, host: Host[ReceivedMessage], api: JetStreamApi) -> None:
        self._caller = Caller(client, host, api)
        self._api = api

    def __repr__(self) -> str:
        return f"<nats_sync.JetStream below {self._api.prefix!r}>"

    # --- the account -------------------------------------------------------------------------------------------------

    def account_info(self, *, timeout: float | None = None) -> AccountInfo:
        """What the account uses, and what it may use."""
        return self._caller.run(stream_calls.account_info(self._api, timeout=timeout))

    # --- streams -----------------------------------------------------------------------------------------------------

    def create_stream(
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
        info = self._caller.run(stream_calls.create_stream(self._api, wanted, timeout=timeout))
        return Stream(self._caller, info.config.name or "", info)

    def update_stream(
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
        info = self._caller.run(stream_calls.update_stream(self._api, wanted, timeout=timeout))
        return Stream(self._caller, info.config.name or "", info)

    def create_or_update_stream(
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
        info = self._caller.run(stream_calls.create_or_update_stream(self._api, wanted, timeout=timeout))
        return Stream(self._caller, info.config.name or "", info)

    def stream(self, name: str) -> Stream:
        """The handle of a stream. It asks nothing: whether there is such a stream, `Stream.refresh` tells."""
        return Stream(self._caller, name)

    def stream_names(self, subject: str | None = None, *, timeout: float | None = None) -> Iterator[str]:
        """The names of all streams, or of those with a subject that this one matches; each page has ``timeout``."""
        return Listing(self._caller, stream_calls.list_stream_names(self._api, subject), timeout)

    def streams(self, subject: str | None = None, *, timeout: float | None = None) -> Iterator[StreamInfo]:
        """All streams, or those with a subject that this one matches; each page has ``timeout``."""
        return Listing(self._caller, stream_calls.list_streams(self._api, subject), timeout)

    def stream_name_by_subject(self, subject: str, *, timeout: float | None = None) -> str:
        """The name of the stream that takes this subject. Raises `StreamNotFoundError`."""
        return self._caller.run(stream_calls.stream_name_by_subject(self._api, subject, timeout=timeout))

    def delete_stream(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a stream, with its messages and its consumers. Raises `StreamNotFoundError`."""
        self._caller.run(stream_calls.delete_stream(self._api, name, timeout=timeout))

    def consumer(self, stream: str, name: str) -> Consumer:
        """The handle of a consumer. It asks nothing: whether there is such a one, `Consumer.refresh` tells."""
        return Consumer(self._caller, stream, name)
