"""What happens on a new connection before the first PONG, as inquiries that the connection drives.

    lower_layers   proxy's tunnel ─▶ TLS, when it comes first ─▶ WebSocket ─▶ INFO is awaited
    greeting       INFO ─▶ TLS, when it is wanted and not there ─▶ credentials ─▶ CONNECT and PING

They yield an effect where something is needed from outside, and `Wait.LAYER` where a layer's own handshake has to be
done. Errors they raise end the connection.
"""

from __future__ import annotations

from collections.abc import Generator
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeGuard

from .._effects import Call, Effect
from .._interface.options import ConnectOptions
from .._layers.layers import Layer, Layers
from .._servers.proxy import Proxy
from .._servers.server import Server
from .._version import VERSION
from .._wire.encoder import Encoder
from .._wire.info import ServerInfo
from ..errors import (
    ConfigurationError,
    NATSError,
    NoEchoNotSupportedError,
    RemoteProtocolError,
    SecureConnectionRequiredError,
)
from .authenticate import Identity, authenticate
from .confidence import Confidence

if TYPE_CHECKING:
    from .._layers.tls import SSLContext

__all__ = ["Step", "Wait", "greeting", "limit_messages", "load_default_context", "lower_layers"]

MAX_CONNECT_LINE: Final = 64 * 1024
"""Longest CONNECT we make. Servers read 4096 bytes unless told otherwise, but only they know what they were told."""

MAX_NONCE: Final = 1024
"""Bytes. Real ones have 15 to 50; signing a large one is work that a liar makes us do."""


MAX_PENDING: Final = 64 * 1024 * 1024
"""Bytes that a server keeps for a client unless told otherwise (``max_pending``). All of them may come as one WebSocket
message; those in it are bounded one by one."""


class Wait(Enum):
    """What an inquiry waits for, besides effects."""

    LAYER = auto()
    """The topmost of the layers to be ready."""


Step = Wait | Effect


def lower_layers(
    layers: Layers, server: Server, options: ConnectOptions, confidence: Confidence
) -> Generator[Step, object, None]:
    """All that has to be there before INFO. ``confidence`` hears what is told to anybody."""
    if isinstance(options.proxy, Proxy):
        from .._layers.proxy_layer import ProxyLayer  # only who needs it pays for loading it

        confidence.tell(options.proxy.credentials, options.proxy.authorization)
        layers.push(ProxyLayer(options.proxy, server.address))
        yield Wait.LAYER
    # Otherwise INFO comes first, and in clear, since a server does not wait for a ClientHello unless it is configured
    # to (`handshake_first`). TLS then begins behind INFO, in `greeting`.
    if server.secure and (server.websocket or options.tls_first):
        yield from _secure(layers, server, options)
    if server.websocket:
        yield from _upgrade(layers, server, options, confidence)


def greeting(
    layers: Layers, server: Server, options: ConnectOptions, confidence: Confidence, info: ServerInfo, *, more: bool
) -> Generator[Step, object, bytes]:
    """From INFO to the CONNECT line. ``more``: the server has sent something behind INFO already."""
    if not (layers.secure or server.websocket) and (server.secure or info.tls_required):
        if not (info.tls_required or info.tls_available):
            raise SecureConnectionRequiredError(f"server {server}: TLS was asked for, and the server does not offer it")
        if more:
            # Anybody on the way can have put these bytes in. Read later, these bytes would pass for something that came
            # through TLS (as in the attacks on STARTTLS).
            raise RemoteProtocolError(f"server {server} sent more behind INFO, in clear, where TLS has to begin")
        yield from _secure(layers, server, options)
    # A server of protocol 0 does not know the field `echo`. Such a server would ignore the wish, and the user's own
    # messages would come back without a warning.
    if not options.echo and info.proto < 1:
        raise NoEchoNotSupportedError(f"server {server} cannot turn echo off (INFO proto {info.proto})")
    if len(info.nonce) > MAX_NONCE:
        raise RemoteProtocolError(f"server {server} sent a nonce of {len(info.nonce)} characters, at most {MAX_NONCE}")
    identity = yield from authenticate(options, server, info)
    confidence.tell(identity.password, identity.token, identity.jwt, identity.signature)
    line = _connect_line(options, info, identity, secure=layers.secure)
    if isinstance(line, NATSError):
        raise line
    return line


# --- layers ----------------------------------------------------------------------------------------------------------


def load_default_context() -> None:
    """Read the system's authorities: that takes a while, and later on others may wait for it."""
    from .._layers.tls import default_context

    default_context()


def _secure(layers: Layers, server: Server, options: ConnectOptions) -> Generator[Step, object, None]:
    from .._layers.tls import TLSLayer, default_context  # only who needs it pays for loading it

    context: SSLContext
    if options.tls is None:
        context = default_context()
    elif callable(options.tls):
        provided = yield Call(options.tls, (server.url,), "tls callback")
        if not _is_context(provided):
            raise ConfigurationError(f"the tls callback returned {type(provided).__name__}, not ssl.SSLContext")
        context = provided
    else:
        context = options.tls
    name = options.tls_hostname or server.tls_name or server.host
    layers.push(TLSLayer(context, server_hostname=name, server=server.url), secure=True)
    yield Wait.LAYER


def _is_context(value: object) -> TypeGuard[SSLContext]:
    return hasattr(value, "wrap_bio")


def _upgrade(
    layers: Layers, server: Server, options: ConnectOptions, confidence: Confidence
) -> Generator[Step, object, None]:
    headers: object = options.websocket_headers or ()
    if callable(headers):
        headers = yield Call(headers, (server.url,), "websocket_headers callback")
    layer = _websocket_layer(server, options, confidence, headers)
    if isinstance(layer, NATSError):
        raise layer
    layers.push(layer)
    yield Wait.LAYER


def limit_messages(layers: Layers, info: ServerInfo) -> None:
    """Every INFO may have another limit: that of the account comes behind CONNECT."""
    from .._layers.websocket import WebSocketLayer

    for layer in layers:
        if isinstance(layer, WebSocketLayer):
            layer.limit_messages(info.payload_limit)


# --- what needs secrets in clear: raises nothing, so that no traceback has them --------------------------------------


def _websocket_layer(
    server: Server, options: ConnectOptions, confidence: Confidence, headers: object
) -> Layer | NATSError:
    from .._layers.websocket import WebSocketLayer, check_headers  # only who uses WebSocket pays for loading it

    try:
        checked = check_headers(headers)
        # A query may have a token in it, and a header a cookie. A server or a proxy may quote both when it refuses.
        confidence.tell(server.query, *(value for _, value in checked))
        return WebSocketLayer(
            server,
            max_message=max(options.max_message_size, MAX_PENDING),
            headers=checked,
            compression=options.websocket_compression,
        )
    except NATSError as error:
        return error.with_traceback(None)


def _connect_line(options: ConnectOptions, info: ServerInfo, identity: Identity, *, secure: bool) -> bytes | NATSError:
    """CONNECT. A server takes a missing ``verbose`` or ``pedantic`` for true, so both are always sent."""
    fields: dict[str, object] = {
        "verbose": options.verbose,
        "pedantic": options.pedantic,
        "tls_required": secure,
        "name": options.name or "",
        "lang": "python3",
        "version": VERSION,
        # Protocol 1 asks for an INFO whenever the addresses of the cluster change, and not only at the beginning.
        "protocol": 1,
        "echo": options.echo,
        "headers": info.headers,
        # What says that there are no responders is a message with a status in its header. A server that has no headers
        # answers this wish with an -ERR and closes.
        "no_responders": info.headers,
    }
    if identity.user is not None:
        fields["user"] = identity.user.reveal()
        fields["pass"] = identity.password.reveal() if identity.password is not None else ""
    if identity.token is not None:
        fields["auth_token"] = identity.token.reveal()
    if identity.jwt is not None:
        fields["jwt"] = identity.jwt.reveal()
    if identity.nkey is not None:
        fields["nkey"] = identity.nkey
    if identity.signature is not None:
        fields["sig"] = identity.signature.reveal()
    try:
        return Encoder(max_control_line=MAX_CONNECT_LINE).connect(fields)
    except NATSError as error:
        return error.with_traceback(None)
