"""What may be said about an endpoint, in both clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from .names import Inherited

__all__ = ["EndpointOptions"]


class EndpointOptions(TypedDict, total=False):
    """The keywords of ``endpoint`` but ``request_type``."""

    subject: str | None
    """Where it listens below its group, maybe with wildcards. Default: its name."""
    queue_group: str | Inherited | None
    """In place of that of the group or the service. None: in no group, so that each instance gets each request."""
    metadata: Mapping[str, str] | None
    """For people and programs that ask what there is."""
    response_type: type[object] | None
    """What the handler returns is the answer: as JSON of a type that msgspec knows, or bytes. Default: the handler
    calls ``respond`` itself."""
    concurrency: int
    """Calls of the handler at once, 1 to 1024."""
    max_pending_msgs: int | None
    """Requests that may wait; more are dropped. Default: the client's option, 0: no limit."""
    max_pending_bytes: int | None
    """The same in bytes."""
