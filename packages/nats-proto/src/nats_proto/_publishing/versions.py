"""From which server on there is each option of a publish.

An older server does not know the header, and stores the message as if the option had not been given: one that was to
come later comes at once, one that was to live for a minute lives for ever. So the option is refused here when the
connected server is known to be older. Which version has what was tried out on servers of each line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .._jetstream.api import JetStreamApi
from .headers import PublishOptions

__all__ = ["check_versions"]

_SINCE: Final[Mapping[str, tuple[int, int]]] = {
    "ttl": (2, 11),
    **dict.fromkeys(("increment", "deliver_at", "schedule_target", "schedule_ttl", "cancel_schedule"), (2, 12)),
    **dict.fromkeys(("every", "cron", "time_zone", "schedule_source", "schedule_rollup"), (2, 14)),
}


def check_versions(api: JetStreamApi, options: PublishOptions) -> None:
    """Raises `ApiLevelError`, which names both versions, for an option that the connected server is too old for."""
    for name, value in options.items():
        version = _SINCE.get(name)
        if version is not None and value is not None:
            api.check_server(f"publish with {name}", *version)
