"""TLS as a byte layer: `ssl.MemoryBIO` on both sides, nothing of it known above or below.

Theory of operation
-------------------
    NEW ──start──▶ HANDSHAKE ──both Finished──▶ READY ──close, wrap──▶ READY, our direction closed
                       └── fault, alert, EOF, flood ──┴── fault, alert, renegotiation ──▶ error

    from the transport ─▶ incoming BIO ─▶ ┌─────────┐ ─▶ plain bytes, once their record is whole and its MAC right
    to the transport   ◀─ outgoing BIO ◀─ └─ OpenSSL┘ ◀─ plain bytes, 16 KiB for each record

What OpenSSL puts into the outgoing BIO is written into the ledger: records with the number of plain bytes in them, and
everything else (handshake, alerts, answers to key updates) as the layer's own. So a transport that reports exactly how
many bytes it accepted tells exactly what the server can read. OpenSSL is given the plain bytes of many records at once;
which record has which of them is looked up only when a transport accepts a part.

The two directions end independently. The server's close_notify sets ``ended``. Ours is the last thing that `wrap` gives
after `close`, and no answer to it is awaited. When the transport ends without a close_notify, that is no fault here: of
a record that was cut short no byte was delivered, and the connection counts such an end as a loss in any case.

A fault is kept in ``error``. What was read before it is delivered, and the OpenSSL object is dropped. The alert that
OpenSSL has made for the server can still be had from `wrap`, once: a server that receives an alert logs a reason, one
that does not logs nothing but the end of the connection.

Importing `ssl` brings `socket` in, so this module is to be imported when TLS is used, not before.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import pairwise
from ssl import SSLContext
from typing import ClassVar, Final

from ..errors import ConfigurationError, LocalProtocolError, NATSError, TLSCertificateError, TLSError
from .layers import Ledger

__all__ = ["SSLContext", "TLSLayer", "default_context"]

KiB: Final = 1024

RECORD: Final = 16 * KiB
"""Plain bytes in one record, and so in one read: the most that TLS allows (RFC 8446, 5.1)."""

SMALL: Final = 1 * KiB
"""Bytes of a piece: to copy so few takes less time than to look at how large the piece is."""

HEADER: Final = 5
"""Bytes of a record's header; the last two say how many follow."""

BATCH: Final = 256 * KiB
"""Plain bytes encrypted at once and given down as one piece, so that the BIO never holds much more."""

MAX_HANDSHAKE: Final = 256 * KiB
"""Bytes that a server may send before the layer is ready. A chain of ten large certificates has 20 KiB."""

MAX_ANSWERS: Final = 64 * KiB
"""Bytes of TLS itself that may wait for `wrap` once the layer is ready. They are 2,000 answers to key updates: a peer
that has asked for so many, and read none of them, only makes us use memory."""


class TLSLayer:
    """TLS, client side, on one transport connection; a `Layer`.

    ``server_hostname`` is the name or IP address that the certificate has to prove, and what SNI says if it is a name;
    never the address a name was resolved to. ``server`` is the server's URL as errors may show it. ``max_handshake``:
    bytes received before it is ready. The context is its maker's and stays as it is. A context or name that TLS cannot
    work with is a `ConfigurationError` in ``error``, from `start` on.
    """

    name: ClassVar[str] = "TLS"

    __slots__ = (
        "_closed",
        "_closing",
        "_context",
        "_ended",
        "_error",
        "_heard",
        "_hostname",
        "_incoming",
        "_ledger",
        "_outgoing",
        "_ready",
        "_room",
        "_server",
        "_tls",
    )

    def __init__(
        self, context: ssl.SSLContext, *, server_hostname: str, server: str, max_handshake: int = MAX_HANDSHAKE
    ) -> None:
        self._context = context
        self._hostname = _name_to_prove(server_hostname)
        self._server = server
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ledger = Ledger()
        self._tls: ssl.SSLObject | None = None
        """None before `start` and after an error."""
        self._error: NATSError | None = None
        self._room = max_handshake
        """Bytes that the server may still send before the layer is ready."""
        self._heard = False
        """The server has sent something."""
        self._ready = False
        self._ended = False
        self._closing = False
        self._closed = False
        """Our close_notify was given out."""

    @property
    def ready(self) -> bool:
        """The handshake is done and the certificate proved. It stays so after a later error."""
        return self._ready

    @property
    def error(self) -> NATSError | None:
        """`TLSCertificateError`, `TLSError` or `ConfigurationError`; the last thing that happens to the layer."""
        return self._error

    @property
    def ended(self) -> bool:
        """The server has sent its close_notify."""
        return self._ended

    # --- what was agreed upon, while it is ready and without error ---------------------------------------------------

    @property
    def version(self) -> str | None:
        """``"TLSv1.3"`` or the like."""
        return self._tls.version() if self._ready and self._tls is not None else None

    @property
    def cipher(self) -> str | None:
        """The cipher suite by its name."""
        suite = self._tls.cipher() if self._ready and self._tls is not None else None
        return suite[0] if suite is not None else None

    @property
    def peer_certificate(self) -> bytes | None:
        """The server's certificate (DER)."""
        return self._tls.getpeercert(binary_form=True) if self._ready and self._tls is not None else None

    # --- the layer ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the handshake: the next `wrap` has the ClientHello. Once."""
        if self._tls is not None or self._error is not None:
            raise LocalProtocolError("a TLS layer is started once")
        try:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._hostname)
        except (ValueError, TypeError, ssl.SSLError) as error:
            what = (
                f"TLS with server {self._server} cannot begin, its context or the name {self._hostname!r} is unusable"
            )
            self._fail(ConfigurationError(f"{what}: {_words(error)}"), error)
        else:
            self._shake_hands(self._tls)

    def receive_data(self, data: bytes) -> bytes:
        """Encrypted bytes; returns the plain ones of the records that are whole."""
        tls = self._running()
        if tls is None or self._ended:
            return b""
        if not self._ready:
            data = self._receive_handshake(tls, data)
            if not self._ready:
                return b""
        self._incoming.write(data)
        return self._read(tls)

    def receive_eof(self) -> None:
        """The transport has ended: an ``error`` in the handshake, nothing later on."""
        if self._running() is not None and not self._ready:
            self._fail(TLSError(_closed_early(self._server, self._heard)))

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        """Plain bytes as records, behind what TLS has to say itself; few pieces and large ones.

        Plain bytes before the layer is ready are a `LocalProtocolError`. Behind the close_notify, and after an
        ``error``, they are not taken: `sent` will never count them.
        """
        tls = self._running()
        if pieces and tls is not None and not self._ready:
            raise LocalProtocolError("bytes for a TLS layer that is not ready")
        outgoing = self._outgoing
        below: list[bytes] = []
        if outgoing.pending:
            self._ledger.own(outgoing.pending)
            below.append(outgoing.read())
        if tls is not None and not self._closed:
            if pieces:
                self._encrypt(tls, pieces, below)
            if self._closing:
                self._say_goodbye(tls)
        if outgoing.pending:
            below.append(outgoing.read())
        return below

    def sent(self, nbytes: int) -> int:
        """The transport accepted the next ``nbytes``: the plain bytes of the records that are now accepted whole."""
        return self._ledger.sent(nbytes)

    def close(self) -> None:
        """The next `wrap` ends with close_notify; nothing before the layer is ready."""
        self._closing = self._ready

    # --- inside ------------------------------------------------------------------------------------------------------

    def _running(self) -> ssl.SSLObject | None:
        if self._tls is None and self._error is None:
            raise LocalProtocolError("a TLS layer is used before its start")
        return self._tls

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(self._explained(error), error)
        else:
            self._ready = True

    def _receive_handshake(self, tls: ssl.SSLObject, data: bytes) -> bytes:
        """Give the handshake as much of the data as it may have; returns what is left."""
        if data and not self._heard:
            self._heard = True
            # OpenSSL would find this too, but in words ("wrong version number") that do not lead anybody to the cause.
            if data[0] not in _RECORD_TYPES:
                self._fail(TLSError(f"server {self._server} answered in clear where TLS was to begin: {_CLEAR_ADVICE}"))
                return b""
        taken = data[: self._room]
        rest = data[self._room :]
        self._room -= len(taken)
        self._incoming.write(taken)
        self._shake_hands(tls)
        if rest and not self._ready and self._error is None:
            self._fail(
                TLSError(f"server {self._server} sent more than a TLS handshake may have and did not complete it")
            )
        return rest

    def _read(self, tls: ssl.SSLObject) -> bytes:
        """All plain bytes that the incoming BIO has whole records for."""
        read = tls.read
        plain: list[bytes] = []
        try:
            while chunk := read(RECORD):
                plain.append(chunk)
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the same, when our own close_notify went out before
            self._ended = True
        except ssl.SSLError as error:
            self._fail(self._explained(error), error)
        if self._outgoing.pending > MAX_ANSWERS:
            self._fail(TLSError(f"server {self._server} asks TLS for more answers than it reads"))
        return b"".join(plain)

    def _encrypt(self, tls: ssl.SSLObject, pieces: list[bytes], below: list[bytes]) -> None:
        outgoing, write = self._outgoing, tls.write
        written: list[int] = []
        encrypted = 0
        try:
            for buffer in _joined(pieces):
                view = memoryview(buffer)
                for begin in range(0, len(view), BATCH):
                    written.append(write(view[begin : begin + BATCH]))
                    encrypted = outgoing.pending
                    if encrypted >= BATCH:
                        below.append(self._taken(encrypted, written))
                        written, encrypted = [], 0
        except ssl.SSLError as error:
            self._fail(self._explained(error), error)
        if written:
            below.append(self._taken(encrypted, written))
        # What is left has no plain bytes in it: it is what TLS had to say when a write failed, such as an alert. The
        # caller reads it.
        self._ledger.own(outgoing.pending)

    def _taken(self, encrypted: int, written: list[int]) -> bytes:
        """So many bytes out of the outgoing BIO: the records of these writes."""
        records = self._outgoing.read(encrypted)
        self._ledger.batch(records, written, _records)
        return records

    def _say_goodbye(self, tls: ssl.SSLObject) -> None:
        self._closed = True
        counted = self._outgoing.pending
        with suppress(ssl.SSLError):  # it wants the server's answer, or has met a fault before
            tls.unwrap()
        self._ledger.own(self._outgoing.pending - counted)

    def _fail(self, error: NATSError, cause: Exception | None = None) -> None:
        """The end; ``cause`` without its frames, which hold plain bytes."""
        if cause is None:
            self._outgoing.read()  # OpenSSL has found nothing wrong: what waits there is no alert, and is not sent
        else:
            error.__cause__ = cause.with_traceback(None)
        self._error = error
        self._tls = None

    def _explained(self, error: ssl.SSLError) -> TLSError:
        server = self._server
        if isinstance(error, ssl.SSLCertVerificationError):
            return TLSCertificateError(_untrusted(error, server, self._hostname))
        # Only a write gets here with this error: for the handshake and for reads the error means that the rest of a
        # record has to come.
        if isinstance(error, ssl.SSLWantReadError):
            return TLSError(f"server {server} wants to renegotiate TLS, and renegotiation is not supported")
        if isinstance(error, ssl.SSLZeroReturnError):
            return TLSError(_closed_early(server, self._heard))
        words = _words(error)
        if alert := _ALERT.fullmatch(words):
            return TLSError(f"server {server} ended TLS with the alert {alert[1]!r}{_advice(_ALERTS, alert[1])}")
        when = "" if self._ready else " in the handshake"
        return TLSError(f"TLS with server {server} failed{when}: {words}{_advice(_REASONS, words)}")


@cache
def default_context() -> ssl.SSLContext:
    """The context for users who give none: the system's authorities, TLS 1.2 or newer, host names checked.

    Renegotiation is off, since the layer does not support it. There is one context for the whole process, because to
    read the system's authorities takes up to a tenth of a second. It has those of its first use; a program that wants
    to follow a change of them gives a context of its own. It is shared, so nobody may change it.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _name_to_prove(hostname: str) -> str:
    """The host name without what no certificate has: the dot at its end (RFC 6066, 3), and the zone of an IPv6
    address."""
    return hostname.partition("%")[0].removesuffix(".")


def _records(batch: bytes, written: list[int]) -> Iterator[tuple[int, int]]:
    """Each record's bytes, and how many of the plain bytes it carries; a `Split`.

    All records of a write but its last are full (RFC 8446, 5.1). Records that TLS itself had to send, such as an answer
    to a key update, stand in front of those with plain bytes.
    """
    ends: list[int] = [0]
    while ends[-1] < len(batch):
        length = batch[ends[-1] + 3 : ends[-1] + HEADER]
        ends.append(ends[-1] + HEADER + int.from_bytes(length, "big"))
    carried = [min(RECORD, nbytes - begin) for nbytes in written for begin in range(0, nbytes, RECORD)]
    own = len(ends) - 1 - len(carried)
    return zip((end - begin for begin, end in pairwise(ends)), [0] * own + carried, strict=True)


def _joined(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces as fewer buffers: those below a record's size are joined, larger ones stay as they are.

    When the pieces are small on the average, all are joined without a look at each.
    """
    if sum(map(len, pieces)) <= SMALL * len(pieces):
        yield b"".join(pieces)
        return
    begin = 0
    for index, size in enumerate(map(len, pieces)):
        if size >= RECORD:
            yield b"".join(pieces[begin:index])
            yield pieces[index]
            begin = index + 1
    yield b"".join(pieces[begin:])


# --- what errors say -------------------------------------------------------------------------------------------------

_RECORD_TYPES: Final = (0x15, 0x16)
"""Alert and handshake: what the first byte from a server that speaks TLS says (RFC 8446, 5.1)."""

_CLEAR_ADVICE: Final = "it does not speak TLS there, or only after its INFO, in which case tls_first is to be left out"

_OPENSSL: Final = re.compile(r"(?:\[[^]]*\] *)?(.*?)(?: \(_ssl\.c:\d+\))?")
"""The words in the text of an OpenSSL error, without the code before them and the place behind them."""

_ALERT: Final = re.compile(r"(?:sslv3|tlsv1|tlsv13|ssl/tls)(?: alert)? (.+)")
"""The words of OpenSSL for an alert that the peer has sent."""

_CLIENT_CERTIFICATE: Final = (
    "; it wants a client certificate, or does not accept ours (load_cert_chain of the ssl.SSLContext given as tls)"
)
_NO_VERSION: Final = "; it and the ssl.SSLContext given as tls have no TLS version in common"

_ALERTS: Final = (
    ("certificate", _CLIENT_CERTIFICATE),
    ("unknown ca", _CLIENT_CERTIFICATE),
    ("access denied", _CLIENT_CERTIFICATE),
    ("handshake failure", "; there is no cipher in common, or it wants a client certificate: its log says which"),
    ("protocol version", _NO_VERSION),
    ("unrecognized name", "; it knows no such name: tls_hostname can give it another"),
)
_REASONS: Final = (("unsupported protocol", _NO_VERSION), ("no protocols available", _NO_VERSION))

_AUTHORITY: Final = "an ssl.SSLContext that knows its authority (load_verify_locations) can be given as tls"
_NAME: Final = "tls_hostname can give the name that the certificate has"

_VERIFY_ADVICE: Final = {
    2: _AUTHORITY,
    9: "it is valid later on, unless the clock of this machine is wrong",
    10: "it has to be renewed, unless the clock of this machine is wrong",
    18: _AUTHORITY,
    19: _AUTHORITY,
    20: _AUTHORITY,
    21: _AUTHORITY,
    62: _NAME,
    64: _NAME,
}
"""What to do, by the number of OpenSSL's ``X509_V_ERR_...``."""


def _words(error: Exception) -> str:
    text = str(error.args[-1]) if error.args else ""
    found = _OPENSSL.fullmatch(text)
    return found[1] if found and found[1] else type(error).__name__


def _advice(table: tuple[tuple[str, str], ...], words: str) -> str:
    return next((advice for part, advice in table if part in words), "")


def _closed_early(server: str, heard: bool) -> str:
    hint = "its log may say why" if heard else f"before it said anything; {_CLEAR_ADVICE}"
    return f"server {server} closed the connection during the TLS handshake, {hint}"


def _untrusted(error: ssl.SSLCertVerificationError, server: str, hostname: str) -> str:
    message = str(getattr(error, "verify_message", "") or _words(error)).rstrip(".")
    advice = _VERIFY_ADVICE.get(getattr(error, "verify_code", 0), "its operator has to put that right")
    return f"the certificate of server {server} does not prove that it is {hostname!r}: {message}; {advice}"
