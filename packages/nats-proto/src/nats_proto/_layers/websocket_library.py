"""What the `websockets` library does for the WebSocket layer: the upgrade, frames with their masks, compression.

Only the parts of the library that do no I/O are used. They are imported when the first layer is made, not before: that
takes some 50 ms, and brings in `socket` and `http` for their type annotations. The library logs requests and frames,
secrets included, when its loggers are set to DEBUG; so it is given a logger that is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError
from .websocket_frames import FrameFault, Opcode

if TYPE_CHECKING:
    from websockets.extensions import Extension

    from .._secret import Secret
    from .._servers.server import Server

__all__ = ["Framing", "Upgrade"]

_LEVEL: Final = 1
"""The level of compression, which is the one that servers use towards us: higher ones take several times as long, and
save little more."""

_BOTH_WAYS: Final = ("server_no_context_takeover", "client_no_context_takeover")


class Upgrade:
    """The request that turns HTTP into WebSocket, and the check of its answer.

    Raises `ConfigurationError` when the library is not installed.
    """

    __slots__ = ("_headers", "_protocol")

    def __init__(self, server: Server, headers: tuple[tuple[str, Secret], ...], *, compression: bool) -> None:
        try:
            from logging import Logger

            from websockets.client import ClientProtocol
            from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
            from websockets.uri import WebSocketURI
        except ImportError:
            raise ConfigurationError(
                'ws:// and wss:// need the library websockets: pip install "nats-proto[websocket]"'
            ) from None
        silent = Logger(__name__)  # noqa: LOG001 (one in no tree, so that nobody turns it on)
        silent.disabled = True
        offer = ClientPerMessageDeflateFactory(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            client_max_window_bits=None,
            compress_settings={"level": _LEVEL},
        )
        query = "" if server.query is None else server.query.reveal()
        self._headers = headers
        self._protocol = ClientProtocol(
            WebSocketURI(server.secure, server.host, server.port, server.path, query),
            extensions=[offer] if compression else None,
            logger=silent,
        )

    def request(self) -> bytes:
        """The head of the request. Once."""
        request = self._protocol.connect()
        for name, value in self._headers:
            if name.lower() == "host":
                # An assignment to headers of the library adds one more, and a request must have one Host (RFC 9112,
                # 3.2).
                del request.headers[name]
            request.headers[name] = value.reveal()
        self._headers = ()
        self._protocol.send_request(request)
        return b"".join(self._protocol.data_to_send())

    def check(self, head: bytes) -> str | None:
        """Read the head of an answer with status 101. Returns what is wrong with it, in words that an error puts behind
        "its answer ", or None."""
        from websockets.exceptions import InvalidHeader, NegotiationError
        from websockets.http11 import Response

        try:
            self._protocol.receive_data(head)
            found = self._protocol.handshake_exc
        except Exception as error:  # whatever a version of the library may not expect, it came from the peer
            found = error
        if isinstance(found, InvalidHeader):
            return f"101 has no good {found.name} header; is something between that does not know WebSocket?"
        if isinstance(found, NegotiationError):
            return "101 wants an extension or subprotocol that was not offered, or not on the terms offered"
        if found is not None:
            return "101 is malformed"
        agreed = [
            value
            for event in self._protocol.events_received()
            if isinstance(event, Response)
            for value in event.headers.get_all("Sec-WebSocket-Extensions")
        ]
        if agreed and not all(term in ", ".join(agreed) for term in _BOTH_WAYS):
            return f"101 wants compression without {' and '.join(_BOTH_WAYS)}, the terms offered"
        return None

    def framing(self) -> Framing:
        """Frames as agreed upon in a good answer."""
        return Framing(self._protocol.extensions)


class Framing:
    """Makes masked frames, and reads what only close frames have."""

    __slots__ = ("_extensions", "_frame", "_opcode")

    def __init__(self, extensions: list[Extension]) -> None:
        from websockets.frames import Frame
        from websockets.frames import Opcode as LibraryOpcode

        self._frame = Frame
        self._opcode = LibraryOpcode
        self._extensions = extensions

    @property
    def compression(self) -> bool:
        """The server has agreed to compression in the upgrade."""
        return bool(self._extensions)

    def control(self, opcode: Opcode, payload: bytes) -> bytes:
        """A control frame."""
        return self._frame(self._opcode(opcode), payload).serialize(mask=True)

    def message(self, payload: bytes | memoryview, *, compressed: bool) -> bytes:
        """A binary message in one frame."""
        frame = self._frame(self._opcode.BINARY, payload)
        return frame.serialize(mask=True, extensions=self._extensions if compressed else None)

    def read_close(self, payload: bytes) -> tuple[int, str]:
        """Code and reason in a close frame. Raises `FrameFault`."""
        from websockets.exceptions import ProtocolError
        from websockets.frames import Close

        try:
            close = Close.parse(payload)
        except (ProtocolError, UnicodeDecodeError):
            raise FrameFault("a malformed close frame") from None
        return int(close.code), close.reason
