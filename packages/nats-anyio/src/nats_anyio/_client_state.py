"""What a client is: what can be read of it, at any time and by any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from nats_proto import ConnectOptions, ServerInfo, SessionStatus, StatsSnapshot, no_room_in_time
from nats_proto.errors import NATSError, NATSTimeoutError

from ._message import ReceivedT

if TYPE_CHECKING:
    from ._engine.hub import Hub

__all__ = ["ClientState"]


class ClientState(Generic[ReceivedT]):
    """The properties of `Client`, and the errors whose texts are made of them."""

    def __init__(self, hub: Hub[ReceivedT], options: ConnectOptions) -> None:
        self._hub = hub
        self._options = options

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name is not None else ""
        return f"<nats_anyio.Client{name} {self.status.name} {self.connected_url or 'not connected'}>"

    @property
    def name(self) -> str | None:
        """The option ``name``."""
        return self._options.name

    @property
    def status(self) -> SessionStatus:
        """Where the client is in its life."""
        return self._hub.session.status

    @property
    def stats(self) -> StatsSnapshot:
        """The counters now."""
        return self._hub.session.stats

    @property
    def server_info(self) -> ServerInfo | None:
        """The last INFO of the current, or else of the last, connection."""
        return self._hub.session.server_info

    @property
    def connected_url(self) -> str | None:
        """The connected server's URL without user information, or None."""
        return self._hub.session.connected_url

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of all known servers without user information, the next one to try first."""
        return self._hub.session.servers

    @property
    def last_error(self) -> NATSError | None:
        """The last thing that went wrong on a connection or an attempt."""
        return self._hub.session.last_error

    @property
    def max_payload(self) -> int | None:
        """Bytes of headers and payload together that the server takes; None before the first connection."""
        return self._hub.session.max_payload

    @property
    def drain_timeout(self) -> float:
        """The option ``drain_timeout``."""
        return self._options.drain_timeout

    def unsent(self, operation: str, seconds: float) -> NATSTimeoutError:
        """The time was up before there was room for it in the outgoing buffer."""
        return no_room_in_time(operation, seconds, self.status)
