"""WebSocket as a byte layer (RFC 6455): an upgrade over HTTP, then binary frames around whatever bytes there are.

Theory of operation
-------------------
    NEW ──start──▶ UPGRADING ──101──▶ OPEN ──close──▶ LEAVING ──wrap──▶ SILENT
                       │               └────── close frame of the server ─┘ ended
                       └── any other answer, EOF, or later on a malformed frame ──▶ error

A library (`websocket_library`) makes what is sent, and checks the answer to the upgrade. What is received after that is
read by `websocket_frames`, because a library waits for whole frames, and here the payload of a frame is given to the
layer above as it comes.

`wrap` makes one binary message of what it is given, or several when it is much. In an uncompressed frame each byte
counts as soon as it is accepted, since a server reads a frame's payload as it comes. A compressed message counts when
it was accepted whole, since only a whole one is inflated.

LEAVING: `close` was called, and the next `wrap` ends with our close frame. SILENT: our close frame was made, by our own
wish, in answer to the server's, or because of a fault, which it names. Bytes from above are not taken after that, and
so never count as handed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar, Final, TypeGuard

from .._secret import Secret
from ..errors import ConfigurationError, LocalProtocolError, NATSError, WebSocketError
from .http import TOKEN, VALUE, HeadReader
from .layers import Ledger
from .websocket_frames import NORMAL_CLOSURE, PROTOCOL_ERROR, FrameFault, FrameReader, Opcode, cut
from .websocket_library import Framing, Upgrade

if TYPE_CHECKING:
    from .._servers.server import Server

__all__ = ["WebSocketLayer", "check_headers"]

KiB: Final = 1024

MESSAGE: Final = 64 * KiB
"""Bytes from above in one message at most. Masking is fastest while a frame fits the processor's cache."""

MAX_UNCOMPRESSED: Final = 64
"""Bytes up to which a message is not compressed: it would save nothing. Servers have the same threshold."""

MIN_LIMIT: Final = KiB
"""A server's ``max_payload`` (bytes) below which nothing is compressed. A compressed message must not inflate to more
than that, and many messages so small would cost more than compressing them saves."""


class _State(Enum):
    NEW = auto()
    UPGRADING = auto()
    OPEN = auto()
    LEAVING = auto()
    SILENT = auto()


class WebSocketLayer:
    """WebSocket, client side, on one transport connection to ``server`` (``ws`` or ``wss``); a `Layer`.

    ``max_message`` (bytes) bounds a message of the server, also when inflated. A nats-server puts all that waits for a
    client into one, up to its ``max_pending``, which is 64 MiB unless configured. ``headers`` go into the upgrade's
    request, checked by `check_headers`. ``compression`` offers permessage-deflate. Raises `ConfigurationError` for
    arguments that no upgrade can be made with, and without the library of ``nats-proto[websocket]``.
    """

    name: ClassVar[str] = "WebSocket"

    __slots__ = (
        "_compress",
        "_framing",
        "_head",
        "_ledger",
        "_max_message",
        "_own",
        "_reader",
        "_server",
        "_size",
        "_state",
        "_upgrade",
        "close_code",
        "close_reason",
        "ended",
        "error",
    )

    def __init__(
        self,
        server: Server,
        *,
        max_message: int,
        headers: Mapping[str, str | Secret] | Iterable[tuple[str, str | Secret]] = (),
        compression: bool = False,
    ) -> None:
        checked = _checked(headers)
        del headers  # what is raised below is raised where no local variable shows a value
        if isinstance(checked, str):
            raise ConfigurationError(checked)
        if max_message < 1:
            raise ConfigurationError(f"max_message must be 1 or more bytes, not {max_message!r}")
        if not (server.scheme in ("ws", "wss") and _HOST.fullmatch(server.host) and _fits(server)):
            raise ConfigurationError("a WebSocket server has a ws or wss URL; host and path without spaces or controls")
        self._server = server.url
        self._max_message = max_message
        self._upgrade = Upgrade(server, checked, compression=compression)
        self._head = HeadReader()
        self._framing: Framing | None = None
        self._reader: FrameReader | None = None
        """None before the upgrade is done."""
        self._state = _State.NEW
        self._own: list[bytes] = []
        self._ledger = Ledger()
        self._compress = False
        self._size = MESSAGE
        """Bytes from above in one message at most."""
        self.error: NATSError | None = None
        """`WebSocketError`: the upgrade was refused, or the server does not keep to the protocol."""
        self.ended = False
        """The server has sent its close frame."""
        self.close_code: int | None = None
        """The code in the server's close frame (RFC 6455, 7.4); 1005 when that frame had none."""
        self.close_reason = ""
        """The text in the server's close frame, escaped, so that an error may show it."""

    @property
    def ready(self) -> bool:
        """The upgrade is done. It stays so after a later error."""
        return self._reader is not None

    @property
    def compressed(self) -> bool:
        """Compression was agreed upon."""
        return self._framing is not None and self._framing.compression

    def limit_messages(self, max_payload: int) -> None:
        """To be told the server's ``max_payload`` (bytes) of INFO: a compressed message must not inflate to more.

        Until then, `MESSAGE` is the limit.
        """
        self._compress = self.compressed and max_payload >= MIN_LIMIT
        self._size = min(MESSAGE, max_payload) if self._compress else MESSAGE

    # --- the layer ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for the upgrade: the next `wrap` has the request. Once."""
        if self._state is not _State.NEW:
            raise LocalProtocolError("a WebSocket layer is started once")
        self._own.append(self._upgrade.request())
        self._state = _State.UPGRADING

    def receive_data(self, data: bytes) -> bytes:
        """Frames; returns their payload. In the upgrade the server's answer."""
        if self.error is not None or self.ended:
            return b""
        if self._reader is None:
            data = self._read_answer(data)
        reader = self._reader
        if reader is None:
            return b""
        payload = reader.receive(data)
        if reader.fault is not None:
            self._fail(f"sent {reader.fault}", reader.fault.code)
        elif reader.close is not None:
            self._read_close(reader.close)
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def receive_eof(self) -> None:
        """The transport has ended: an ``error`` in the upgrade, nothing later on."""
        if self._reader is None and self.error is None:
            self._fail(f"{_REFUSED}: it closed the connection")

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        """Bytes as binary messages, behind what the layer has to say itself.

        Bytes before the layer is ready are a `LocalProtocolError`. After our close frame, and after an ``error``, they
        are not taken: `sent` will never count them.
        """
        framing = self._framing
        if pieces and framing is None and self.error is None:
            raise LocalProtocolError("bytes for a WebSocket layer that is not ready")
        below = self._own_words()
        if framing is not None and self._state is not _State.SILENT:
            if pieces:
                self._write(pieces, below, framing)
            if self._state is _State.LEAVING:
                self._say_goodbye(_code(NORMAL_CLOSURE))
                below += self._own_words()
        return below

    def sent(self, nbytes: int) -> int:
        """The transport accepted the next ``nbytes``: how many bytes from above that completes."""
        return self._ledger.sent(nbytes)

    def close(self) -> None:
        """The next `wrap` ends with a close frame (1000); nothing before the layer is ready."""
        if self._state is _State.OPEN:
            self._state = _State.LEAVING

    # --- what is received --------------------------------------------------------------------------------------------

    def _read_answer(self, data: bytes) -> bytes:
        """The answer to the upgrade, and then what stands behind it."""
        head = self._head
        rest = head.receive(data)
        if head.fault is not None:
            self._fail(f"{_REFUSED}: its answer {head.fault}; is this its WebSocket port?")
        elif rest is not None and head.status != 101:
            status = head.status
            redirects = "; redirects are not followed, its WebSocket address is to be given as the URL"
            advice = redirects if status in _REDIRECTS else _ADVICE.get(status, "")
            self._fail(f"{_REFUSED}: {status} {head.reason}".rstrip() + advice)
        elif rest is not None:
            fault = self._upgrade.check(head.raw)
            if fault is None:
                self._open(self._upgrade.framing())
                # A server sends INFO at once, so the first frame may have come in one chunk with the head.
                return rest
            self._fail(f"{_REFUSED} as it should: its answer {fault}")
        return b""

    def _open(self, framing: Framing) -> None:
        self._framing = framing
        self._compress = framing.compression
        self._reader = FrameReader(max_message=self._max_message, compression=framing.compression)
        self._state = _State.OPEN

    def _read_close(self, payload: bytes) -> None:
        assert self._framing is not None  # there was a frame
        try:
            self.close_code, reason = self._framing.read_close(payload)
        except FrameFault as fault:
            self._fail(f"sent {fault}", fault.code)
            return
        self.close_reason = ascii(reason)[1:-1]
        self.ended = True
        # Our answer repeats the server's code (RFC 6455, 5.5.1); the text behind the code need not be repeated.
        self._say_goodbye(payload[:2])

    def _fail(self, what: str, code: int = PROTOCOL_ERROR) -> None:
        self.error = WebSocketError(f"server {self._server} {what}")
        if self._framing is None:
            self._own.clear()
        else:
            self._say_goodbye(_code(code))

    # --- what is sent ------------------------------------------------------------------------------------------------

    def _own_words(self) -> list[bytes]:
        """Take what the layer itself has to send: the request, the answer to the last PING, a close frame."""
        if self._reader is not None and self._reader.ping is not None:
            self._say(Opcode.PONG, self._reader.ping)
            self._reader.ping = None
        own, self._own = self._own, []
        self._ledger.own(sum(map(len, own)))
        return own

    def _say(self, opcode: Opcode, payload: bytes) -> None:
        """A control frame, unless it would come behind our close frame."""
        if self._framing is not None and self._state is not _State.SILENT:
            self._own.append(self._framing.control(opcode, payload))

    def _say_goodbye(self, payload: bytes) -> None:
        self._say(Opcode.CLOSE, payload)
        self._state = _State.SILENT

    def _write(self, pieces: list[bytes], below: list[bytes], framing: Framing) -> None:
        ledger = self._ledger
        for payload in cut(pieces, self._size):
            size = len(payload)
            if self._compress and size > MAX_UNCOMPRESSED:
                message = framing.message(payload, compressed=True)
                ledger.record(len(message), size)
            else:
                message = framing.message(payload, compressed=False)
                ledger.own(len(message) - size)
                ledger.plain(size)
            below.append(message)


# --- headers of the request ------------------------------------------------------------------------------------------


def check_headers(headers: object) -> tuple[tuple[str, Secret], ...]:
    """Headers for the upgrade's request, a mapping or pairs of name and value, as pairs that do not show the values.

    A name may stand in several pairs. ``Host`` replaces the one made of the URL. Raises `ConfigurationError`, whose
    text shows no value, for what HTTP does not allow and for headers that make the upgrade itself.
    """
    checked = _checked(headers)
    if not isinstance(checked, str):
        return checked
    del headers
    raise ConfigurationError(checked)


def _checked(headers: object) -> tuple[tuple[str, Secret], ...] | str:
    """The pairs, or the whole text of an error."""
    pairs = _pairs(headers)
    return f"WebSocket headers: {pairs}" if isinstance(pairs, str) else pairs


def _pairs(headers: object) -> tuple[tuple[str, Secret], ...] | str:
    if not _is_iterable(headers):
        return f"a mapping or an iterable of pairs is wanted, not {type(headers).__name__}"
    try:
        entries = [*(headers.items() if _is_mapping(headers) else headers)]
    except Exception as error:  # of the user's own code; its text may have a value
        return f"they could not be read, {type(error).__name__} was raised"
    pairs: list[tuple[str, Secret]] = []
    names: set[str] = set()
    for number, pair in enumerate(entries, 1):
        if not _is_sequence(pair) or len(pair) != 2:
            return f"entry {number} is no pair of name and value"
        checked = _checked_pair(*pair)
        if isinstance(checked, str):
            return f"entry {number} {checked}"
        name = checked[0].lower()
        if name == "host" and name in names:
            return "Host is there more than once"
        names.add(name)
        pairs.append(checked)
    return tuple(pairs)


def _checked_pair(name: object, value: object) -> tuple[str, Secret] | str:
    if not isinstance(name, str) or not isinstance(value, (str, Secret)):
        return "has a name or a value that is no text"
    bare = str.encode(name, errors="surrogatepass")
    if not TOKEN.fullmatch(bare):
        return "has a name that is empty, or has characters that HTTP does not allow in names"
    name = bare.decode()
    lower = name.lower()
    if lower.startswith("sec-websocket-") or lower in _RESERVED:
        return f"is {lower}, which belongs to the upgrade itself and cannot be set"
    # A lone surrogate becomes bytes that the pattern refuses. A UnicodeEncodeError would carry the whole value.
    content = value.reveal_bytes() if isinstance(value, Secret) else str.encode(value, errors="surrogatepass")
    if not VALUE.fullmatch(content):
        return f"({lower}) has a value with control characters, or with others than ASCII"
    return name, Secret(content)


def _is_iterable(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, (tuple, list))


_RESERVED: Final = frozenset(
    {
        *("upgrade", "connection"),
        *("content-length", "transfer-encoding", "te", "trailer", "expect"),  # there is no body
        "nats-no-masking",  # it tells the server that frames come without masks, and ours have masks
    }
)

# --- what errors say -------------------------------------------------------------------------------------------------

_REFUSED: Final = "did not accept the WebSocket upgrade"

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_WANTS_CREDENTIALS: Final = "; it, or a proxy before it, wants credentials: websocket_headers can have them"

_ADVICE: Final = {
    401: _WANTS_CREDENTIALS,
    403: "; it, or a proxy before it, does not allow this client, its Origin header or its address",
    404: "; there is nothing at this path: the URL may have another",
    407: _WANTS_CREDENTIALS,
}

_HOST: Final = re.compile("[0-9A-Za-z._:-]+")
_PATH: Final = re.compile("(?:/[!-~]*)?")
_QUERY: Final = re.compile("[!-~]*")


def _fits(server: Server) -> bool:
    """Path and query into one line of a request."""
    query = "" if server.query is None else server.query.reveal()
    return _PATH.fullmatch(server.path) is not None and _QUERY.fullmatch(query) is not None


def _code(code: int) -> bytes:
    """The payload of a close frame."""
    return code.to_bytes(2, "big")
