"""The one place that builds the subjects of a bucket: where its keys are written, and where they are read.

    bucket                          is written at                           is read at
    here                            $KV.<bucket>.<key>                      $KV.<bucket>.<key>
    in another domain or account    <API prefix>$KV.<bucket>.<key>          $KV.<bucket>.<key>
    a mirror                        $KV.<origin>.<key>, below the prefix    $KV.<origin>.<key>, in the stream of the
                                    of the origin's API if it has one       mirror

Writes to another domain go below the prefix of its API, since that is what crosses the border. What is stored, and so
what is filtered and read, never has the prefix. A mirror keeps the subjects of its origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._jetstream.api import JetStreamApi
from .._jetstream.stream_config import StreamConfig
from .names import STREAM_PREFIX, check_bucket

if TYPE_CHECKING:
    from .._jetstream.stream_config import StreamSource

__all__ = ["BucketSubjects"]

_LOCAL_API: Final = "$JS.API."


class BucketSubjects:
    """Of one bucket, as one client sees it."""

    __slots__ = ("bucket", "origin_api", "origin_stream", "read", "stream", "write")

    def __init__(self, api: JetStreamApi, stream: StreamConfig) -> None:
        self.stream: str = stream.name
        """Where is read."""
        self.bucket: str = check_bucket(self.stream.removeprefix(STREAM_PREFIX))
        mirror = stream.mirror
        self.origin_stream: str = self.stream if mirror is None else mirror.name
        """Where writes end up. Its leader is the one that decides about conditions."""
        self.origin_api: JetStreamApi = api if mirror is None else _api_of(api, mirror)
        """By which the origin is asked."""
        origin = self.origin_stream.removeprefix(STREAM_PREFIX)
        self.read: str = f"$KV.{origin}."
        """How the subjects of keys begin, where they are stored."""
        prefix = self.origin_api.prefix
        self.write: str = f"{'' if prefix == _LOCAL_API else prefix}{self.read}"
        """How the subjects of keys begin, where they are written."""

    @property
    def is_mirror(self) -> bool:
        """Writes end up in another stream, and come here later."""
        return self.origin_stream != self.stream

    def key_of(self, subject: str) -> str | None:
        """The key of a stored message; None for one that is no key's."""
        return subject[len(self.read) :] if subject.startswith(self.read) else None


def _api_of(api: JetStreamApi, mirror: StreamSource) -> JetStreamApi:
    """The API of the place where the origin is."""
    external = mirror.external
    if external is None or not external.api:
        return api
    return JetStreamApi(
        api_prefix=external.api,
        timeout=api.timeout,
        now=api.clock,
        new_inbox=api.new_inbox,
        server_version=api.server_version,
    )
