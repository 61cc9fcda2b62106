"""What a server tells about itself in ``INFO``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from .._value import PrivateValue
from ..errors import RemoteProtocolError

__all__ = ["ServerInfo", "parse_info"]

DEFAULT_MAX_PAYLOAD: Final = 1024 * 1024
"""What a server allows when nobody configured it; used when INFO does not say."""

NO_LIMIT: Final = -1
"""The ``max_payload`` of a server that has none. Also 0 is one that servers have: it lets empty messages through."""

LARGEST_SIZE: Final = 999_999_999
"""Bytes of headers and payload together that a publish can say at most: servers read nine digits."""

_LARGEST_INTEGER: Final = 2**64 - 1
"""No server has a larger one. Beyond it a number is an attempt to make us compute."""


class ServerInfo(PrivateValue, frozen=True, kw_only=True):
    """The fields of ``INFO`` that a client can use; absent ones have the value of an old server that lacks the feature.

    Each INFO replaces the one before it completely. Only what came over a link whose other end is known can be trusted.
    """

    _hidden = frozenset({"nonce"})

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    git_commit: str = ""
    go: str = ""
    proto: int = 0
    """1 or more: INFO may come at any time, and ``echo=False`` works."""
    host: str = ""
    port: int = 0
    ip: str = ""
    headers: bool = False
    """The server understands messages with headers."""
    auth_required: bool = False
    tls_required: bool = False
    tls_available: bool = False
    tls_verify: bool = False
    max_payload: int = DEFAULT_MAX_PAYLOAD
    """Bytes of headers and payload together that the server takes in one message, as it says so itself; -1: it has no
    limit. See `payload_limit`."""
    client_id: int = 0
    client_ip: str = ""
    nonce: str = ""
    """To be signed by clients that authenticate with a key; another one on every connection."""
    cluster: str = ""
    cluster_dynamic: bool = False
    domain: str = ""
    connect_urls: tuple[str, ...] = ()
    """Addresses (``host:port``) of the cluster's servers as sent, not checked."""
    ldm: bool = False
    """The server is in lame duck mode: it will close soon and takes no new connections."""
    jetstream: bool = False
    api_lvl: int = 0
    connect_info: bool = False
    """This INFO was sent after the server accepted CONNECT."""
    remote_account: str = ""
    acc_is_sys: bool = False

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
