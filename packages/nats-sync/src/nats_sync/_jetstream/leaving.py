"""`Leaving`: the consumers of a reader that ends are deleted."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from nats_proto.errors import NATSError

if TYPE_CHECKING:
    from nats_proto import Publish

    from .._engine.crew import Employer
    from .._message import ReceivedMessage

__all__ = ["Leaving"]


class Leaving:
    """Has the server delete the consumers of one reader. It would do so by itself, only later."""

    __slots__ = ("_host", "_told")

    def __init__(self, host: Employer[ReceivedMessage]) -> None:
        self._host = host
        self._told: set[str] = set()

    def forget(self, publishes: Iterable[Publish]) -> None:
        """What a machine's ``leave`` has given, each once: while it is left, one more may be being made."""
        for publish in publishes:
            if publish.subject not in self._told:
                self._told.add(publish.subject)
                with suppress(NATSError):  # closed, or no room
                    self._host.publish_now(
                        publish.subject, publish.data, reply=None, headers=None, deadline=monotonic()
                    )
