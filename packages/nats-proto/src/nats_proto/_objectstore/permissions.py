"""Which subjects lie below what is asked of one bucket of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._jetstream.permissions import own_consumers
from .._permissions import Permissions, inboxes, permitted

if TYPE_CHECKING:
    from .._jetstream.api import JetStreamApi
    from .names import Subjects

__all__ = ["to_read_objects", "to_write_objects"]


def to_read_objects(api: JetStreamApi, subjects: Subjects) -> Permissions:
    """To open a bucket, and for all calls that only read."""
    stream = subjects.stream
    return Permissions(
        publish=(
            *permitted(
                (f"{api.prefix}STREAM.INFO.{stream}", "object_store, status"),
                (f"{api.prefix}DIRECT.GET.{stream}", "info, get"),
                (f"{api.prefix}STREAM.MSG.GET.{stream}", 'info, get: that there is no such object, reads="leader"'),
            ),
            *own_consumers(api, stream, "get, list, watch"),
        ),
        subscribe=inboxes(api.new_inbox),
    )


def to_write_objects(api: JetStreamApi, subjects: Subjects) -> Permissions:
    """For all calls but ``seal``."""
    return to_read_objects(api, subjects) | Permissions(
        publish=permitted(
            (subjects.all_chunks, "put"),
            (subjects.all_metas, "put, delete, update_info, add_link, add_bucket_link"),
            (f"{api.prefix}STREAM.MSG.GET.{subjects.stream}", "put, delete, update_info, add_link, add_bucket_link"),
            (f"{api.prefix}STREAM.PURGE.{subjects.stream}", "put, delete, update_info, collect_garbage"),
        ),
    )
