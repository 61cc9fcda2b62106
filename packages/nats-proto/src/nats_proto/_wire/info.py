"""What a server tells about itself in ``INFO``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from .._value import PrivateValue
from ..errors import RemoteProtocolError

__all__ = ["ServerInfo", "parse_info"]

DEFAULT_MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes that a server allows unless it is configured otherwise; used when INFO does not say how many."""

NO_LIMIT: Final = -1
"""The ``max_payload`` of a server without a limit. (A limit of 0 exists as well: it lets empty messages through.)"""

LARGEST_SIZE: Final = 999_999_999
"""Bytes of headers and payload together that a publish can have at most: servers read a size of nine digits."""

_LARGEST_INTEGER: Final = 2**64 - 1
"""The largest number that a server can have in INFO. A longer one would only make us compute."""


class ServerInfo(PrivateValue, frozen=True, kw_only=True):
    """The fields of ``INFO`` that a client can use; absent ones have the value of an old server that lacks the feature.

    Each INFO replaces the one before it completely. Only what came over a link whose other end is known can be trusted.
    """

    _hidden = frozenset({"nonce"})

    server_id: str = ""
    """The server's unique id, a public NKey (``N…``), which is another one after each restart. By it two addresses are
    known to lead to the same server."""
    server_name: str = ""
    """The name from the server's configuration; the server takes its id as its name when none was configured."""
    version: str = ""
    """The server's version, such as ``2.10.26``. For people: what a server can do is told by other fields."""
    git_commit: str = ""
    """The commit that the server was built from; may be empty."""
    go: str = ""
    """The version of Go that the server was built with."""
    proto: int = 0
    """1 or more: INFO may come at any time, and ``echo=False`` works."""
    host: str = ""
    """Where the server listens, often ``0.0.0.0``. For information: no server is dialled by it."""
    port: int = 0
    """The port where the server listens, for information like ``host``."""
    ip: str = ""
    """The server's IP address, when it tells it; for information like ``host``."""
    headers: bool = False
    """The server understands messages with headers. False: a publish with headers raises `HeadersNotSupportedError`,
    and requests to nobody end by their timeout, since a server says "no responders" in a header."""
    auth_required: bool = False
    """The server asks for credentials. For information: they are sent whenever there are some."""
    tls_required: bool = False
    """The connection goes on with TLS or not at all. It is begun behind this INFO, but for WebSocket, where what lies
    below has decided already."""
    tls_available: bool = False
    """The server takes connections with TLS and without it. TLS is used when the client asks for it."""
    tls_verify: bool = False
    """The server asks for a client certificate. When it closes the connection during the handshake, that is the likely
    reason, and the error says so."""
    max_payload: int = DEFAULT_MAX_PAYLOAD
    """Bytes of headers and payload together that the server takes in one message, as it says so itself; -1: it has no
    limit. Less than -1 is no usable INFO. See `payload_limit`."""
    client_id: int = 0
    """The number of this connection on the server, as its monitoring shows it (``cid``)."""
    client_ip: str = ""
    """The address that the server sees this client come from."""
    nonce: str = ""
    """To be signed by clients that authenticate with a key; another one on every connection. Empty: the server takes no
    keys. A nonce of more than 1024 characters ends the attempt."""
    cluster: str = ""
    """The name of the cluster that the server belongs to; empty when there is none."""
    cluster_dynamic: bool = False
    """The cluster's name was not configured and may change. Not every server whose cluster has such a name says so."""
    domain: str = ""
    """The JetStream domain of the server; empty when none was configured."""
    connect_urls: tuple[str, ...] = ()
    """Addresses (``host:port``) of the cluster's servers as sent, not checked; for a WebSocket client those of their
    WebSocket listeners. The pool takes what can be used of them, see the option ``ignore_discovered_servers``. Empty:
    nothing is said of other servers, and nothing changes."""
    ldm: bool = False
    """The server is in lame duck mode: it will close soon and takes no new connections. Said in one INFO; in a later
    one it may be False again."""
    jetstream: bool = False
    """JetStream is enabled on this server; other servers of its cluster may differ."""
    api_lvl: int = 0
    """The level of the JetStream API that the server has; 0 when it does not tell, as servers before 2.12 do not."""
    connect_info: bool = False
    """This INFO was sent after the server accepted CONNECT."""
    remote_account: str = ""
    """The account that the user belongs to; only in an INFO with ``connect_info``."""
    acc_is_sys: bool = False
    """That account is the system account; only in an INFO with ``connect_info``."""

    @property
    def payload_limit(self) -> int:
        """Bytes of headers and payload together that can be published: ``max_payload``, and 999,999,999 without one.

        A larger size cannot be said to a server, whatever it allows.
        """
        return LARGEST_SIZE if self.max_payload == NO_LIMIT else min(self.max_payload, LARGEST_SIZE)


class _Wire(msgspec.Struct, gc=False):
    """INFO as it is decoded: the types are checked here, and errors name the key."""

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    git_commit: str = ""
    go: str = ""
    proto: int = 0
    host: str = ""
    port: int = 0
    ip: str = ""
    headers: bool = False
    auth_required: bool = False
    tls_required: bool = False
    tls_available: bool = False
    tls_verify: bool = False
    max_payload: int = DEFAULT_MAX_PAYLOAD
    client_id: int = 0
    client_ip: str = ""
    nonce: str = ""
    cluster: str = ""
    cluster_dynamic: bool = False
    domain: str = ""
    # Raw, so that an entry that is no text is left out alone, and does not make the whole INFO unusable.
    connect_urls: list[msgspec.Raw] | None = None
    ldm: bool = False
    jetstream: bool = False
    api_lvl: int = 0
    connect_info: bool = False
    remote_account: str = ""
    acc_is_sys: bool = False


_decode_info: Final = msgspec.json.Decoder(_Wire).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


def parse_info(data: bytes) -> ServerInfo:
    """Read the JSON of an ``INFO``.

    Unknown keys are ignored, missing ones get defaults; entries of ``connect_urls`` that are no text are left out.
    Raises `RemoteProtocolError`, and nothing else, when it is no JSON object or a known key has a value that cannot be
    used; the text names the key.
    """
    try:
        wire = _decode_info(data)
    except RecursionError:
        raise RemoteProtocolError("INFO is nested too deep") from None
    # A UnicodeDecodeError is a ValueError, too, so this clause has to stand before the next one.
    except UnicodeDecodeError:
        raise RemoteProtocolError("INFO is not valid UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:  # it is a ValueError from msgspec 0.21 on
        raise RemoteProtocolError(f"INFO cannot be used: {error}"[:200]) from None
    for name in ("proto", "port", "max_payload", "client_id", "api_lvl"):
        number: int = getattr(wire, name)
        if not -_LARGEST_INTEGER <= number <= _LARGEST_INTEGER:
            raise RemoteProtocolError(f"INFO cannot be used: {name} is out of range")
    if wire.max_payload < NO_LIMIT:  # such a server refuses every message
        raise RemoteProtocolError(
            f"INFO cannot be used: max_payload must be 0 or more, or -1 for no limit, not {wire.max_payload}"
        )
    fields = msgspec.structs.asdict(wire)
    fields["connect_urls"] = tuple(_texts(wire.connect_urls or ()))
    return ServerInfo(**fields)


def _texts(entries: Iterable[msgspec.Raw]) -> Iterator[str]:
    for entry in entries:
        try:
            yield _decode_text(entry)
        except (msgspec.DecodeError, ValueError):
            continue
