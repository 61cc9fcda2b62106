"""TLS in tests: certificates made when they are asked for, and a server that is a pair of byte strings, no socket."""

from __future__ import annotations

import ctypes
import datetime
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import trustme

from nats_proto._layers.tls import TLSLayer

HOST = "nats.example"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

Split = Callable[[bytes], Iterable[bytes]]


@cache
def authority(name: str) -> trustme.CA:
    """A certificate authority; the same one for the same name."""
    return trustme.CA(organization_name=name)


def leaf(*names: str, ca: str = "ours", valid: tuple[int, int] | None = None) -> trustme.LeafCert:
    """A certificate of that authority for these names, valid now or from the first of these years to the second."""
    return _leaf(names, ca, valid)


@cache
def _leaf(names: tuple[str, ...], ca: str, valid: tuple[int, int] | None) -> trustme.LeafCert:
    begin, end = [datetime.datetime(year, 1, 1) for year in valid] if valid else [None, None]
    return authority(ca).issue_cert(*names, not_before=begin, not_after=end)


def server_context(
    *names: str,
    ca: str = "ours",
    valid: tuple[int, int] | None = None,
    version: ssl.TLSVersion | None = None,
    client_ca: str | None = None,
    chain: Path | None = None,
) -> ssl.SSLContext:
    """Of a server with a certificate for these names (default: `HOST`); with ``client_ca`` it asks for one too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if chain is None:
        leaf(*(names or (HOST,)), ca=ca, valid=valid).configure_cert(context)
    else:
        context.load_cert_chain(chain)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        authority(client_ca).configure_trust(context)
    return context


def client_context(
    trusted: str | None = "ours",
    *,
    certificate_of: str | None = None,
    version: ssl.TLSVersion | None = None,
    kind: type[ssl.SSLContext] = ssl.SSLContext,
) -> ssl.SSLContext:
    """Of a client that trusts one authority (None: nobody), with a certificate of its own if an authority is named."""
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    if trusted is not None:
        authority(trusted).configure_trust(context)
    if certificate_of is not None:
        leaf("client@nats.example", ca=certificate_of).configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class MemoryServer:
    """The other side. ``plain`` is what it could decrypt, ``error`` what went wrong, ``ended`` close_notify."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = (context or server_context()).wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.ready = False
        self.ended = False
        self.plain = bytearray()
        self.error: ssl.SSLError | None = None

    def receive(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self.ready:
                self.tls.do_handshake()
                self.ready = True
            while not self.ended:
                chunk = self.tls.read(65536)
                self.plain += chunk
                self.ended = not chunk
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self.error = error

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view[:16384]) :]

    def encrypted(self, data: bytes) -> bytes:
        """These plain bytes as the client has to receive them, and what else there was to say before."""
        self.send(data)
        return self.take()

    def close(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()

    def take(self) -> bytes:
        return self._outgoing.read()


def whole(data: bytes) -> Iterable[bytes]:
    """As it comes."""
    return [data] if data else []


def by_byte(data: bytes) -> Iterable[bytes]:
    """One by one."""
    return [data[at : at + 1] for at in range(len(data))]


def converse(layer: TLSLayer, server: MemoryServer, *, split: Split = whole) -> bytes:
    """Move bytes both ways until neither side has anything to say: the plain ones the layer gave."""
    plain = b""
    while True:
        below = b"".join(layer.wrap([]))
        if below:
            assert layer.sent(len(below)) == 0
            server.receive(below)
        above = server.take()
        if not above and not below:
            return plain
        for chunk in split(above):
            plain += layer.receive_data(chunk)


def started(context: ssl.SSLContext | None = None, *, hostname: str = HOST, **options: int) -> TLSLayer:
    """A layer whose ClientHello waits in `wrap`."""
    layer = TLSLayer(context or client_context(), server_hostname=hostname, server=f"tls://{HOST}:4222", **options)
    layer.start()
    return layer


def connected(
    version: ssl.TLSVersion | None = None,
    *,
    client: ssl.SSLContext | None = None,
    server: ssl.SSLContext | None = None,
    split: Split = whole,
) -> tuple[TLSLayer, MemoryServer]:
    """Both, after a good handshake with nothing left to move."""
    layer = started(client)
    peer = MemoryServer(server or server_context(version=version))
    assert converse(layer, peer, split=split) == b""
    assert (layer.ready, layer.error, peer.ready, peer.error) == (True, None, True, None)
    return layer, peer


def openssl(function: str, server: MemoryServer, *arguments: int) -> None:
    """Call a function of OpenSSL that `ssl` does not offer, on the server; skips the test where that cannot be.

    Its ``SSL *`` lies behind the object's head and one other pointer in each CPython named here.
    """
    if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 13):
        pytest.skip("the layout of this Python's ssl objects is not known")
    import _ssl

    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    if not hasattr(library, function):
        pytest.skip(f"this Python's ssl does not show {function}")
    where = id(server.tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # type: ignore[attr-defined]
    assert getattr(library, function)(ctypes.c_void_p.from_address(where), *map(ctypes.c_int, arguments)) == 1
