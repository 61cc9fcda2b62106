"""What can go wrong with TLS: each its own error, with the server, the reason and what to do in its text."""

from __future__ import annotations

import random
import ssl
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nats_proto._layers.tls import TLSLayer
from nats_proto.errors import ConfigurationError, LocalProtocolError, NATSError, TLSCertificateError, TLSError
from tests.tls_peer import (
    HOST,
    VERSIONS,
    MemoryServer,
    Split,
    authority,
    by_byte,
    client_context,
    connected,
    converse,
    leaf,
    server_context,
    started,
    whole,
)

versions = pytest.mark.parametrize("version", VERSIONS)
splits = pytest.mark.parametrize("split", [whole, by_byte])
URL = f"tls://{HOST}:4222"


def failed(layer: TLSLayer) -> NATSError:
    """The error; after it the layer is silent."""
    error = layer.error
    assert error is not None
    assert type(error.__cause__) is not type(error)
    assert error.__cause__ is None or error.__cause__.__traceback__ is None
    layer.wrap([b"an alert may come, once"])
    assert layer.wrap([b"not taken"]) == []
    assert layer.receive_data(b"not read") == b""
    layer.receive_eof()
    layer.close()
    assert (layer.version, layer.cipher, layer.peer_certificate) == (None, None, None)
    assert layer.error is error
    return error


# --- the server's certificate ----------------------------------------------------------------------------------------

AUTHORITY = "; an ssl.SSLContext that knows its authority (load_verify_locations) can be given as tls"
NAME = "; tls_hostname can give the name that the certificate has"


def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    alone = authority("alone")
    with alone.private_key_pem.tempfile() as key, alone.cert_pem.tempfile() as certificate:
        context.load_cert_chain(certificate, key)
    return context


CERTIFICATES: dict[str, tuple[Callable[[], ssl.SSLContext], str, str | None, str, str]] = {
    # server's context, name to prove, trusted authority, part of the text, advice
    "another name": (lambda: server_context("other.example"), HOST, "ours", "Hostname mismatch", NAME),
    "a name below": (lambda: server_context(f"a.{HOST}"), HOST, "ours", "Hostname mismatch", NAME),
    "a wildcard for one level": (lambda: server_context("*.example"), f"a.{HOST}", "ours", "Hostname mismatch", NAME),
    "an address it has not": (lambda: server_context("127.0.0.1"), "127.0.0.2", "ours", "IP address mismatch", NAME),
    "an address, only names": (lambda: server_context(HOST), "127.0.0.1", "ours", "IP address mismatch", NAME),
    "a name, only addresses": (lambda: server_context("127.0.0.1"), HOST, "ours", "Hostname mismatch", NAME),
    "expired": (
        lambda: server_context(valid=(2000, 2001)),
        HOST,
        "ours",
        "certificate has expired",
        "; it has to be renewed, unless the clock of this machine is wrong",
    ),
    "not yet valid": (
        lambda: server_context(valid=(2101, 2102)),
        HOST,
        "ours",
        "certificate is not yet valid",
        "; it is valid later on, unless the clock of this machine is wrong",
    ),
    "self-signed": (self_signed, HOST, "ours", "self", AUTHORITY),
    "another authority": (lambda: server_context(ca="theirs"), HOST, "ours", "unable to get local issuer", AUTHORITY),
    "no authority known": (lambda: server_context(), HOST, None, "unable to get local issuer", AUTHORITY),
}


@versions
@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_certificate_that_proves_nothing(case: str, version: ssl.TLSVersion) -> None:
    context, name, trusted, what, advice = CERTIFICATES[case]
    server_side = context()
    server_side.minimum_version = server_side.maximum_version = version
    layer, server = started(client_context(trusted), hostname=name), MemoryServer(server_side)
    converse(layer, server)
    error = failed(layer)
    assert type(error) is TLSCertificateError
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    text = str(error)
    assert text.startswith(f"the certificate of server {URL} does not prove that it is {name!r}: {what}")
    assert text.endswith(advice)
    assert not layer.ready
    assert server.error is not None  # our alert reached it
    assert "ALERT" in str(server.error.reason)


def test_no_plain_bytes_are_taken_for_a_server_that_proved_nothing() -> None:
    layer, server = started(), MemoryServer(server_context(ca="theirs"))
    converse(layer, server)
    assert layer.wrap([b"CONNECT {}\r\n"]) == []
    assert server.plain == b""


class Lying(ssl.SSLObject):
    """Fails as a verifier other than OpenSSL may: with no more than a text."""

    def do_handshake(self) -> None:
        raise ssl.SSLCertVerificationError("the keychain says no.")


class LyingContext(ssl.SSLContext):
    sslobject_class = Lying


def test_an_error_of_another_verifier_may_lack_openssls_particulars() -> None:
    error = failed(started(client_context(kind=LyingContext)))
    assert type(error) is TLSCertificateError
    assert str(error) == (
        f"the certificate of server {URL} does not prove that it is {HOST!r}: the keychain says no; "
        "its operator has to put that right"
    )


# --- alerts ----------------------------------------------------------------------------------------------------------

WANTS = "; it wants a client certificate, or does not accept ours (load_cert_chain of the ssl.SSLContext given as tls)"


@pytest.mark.parametrize(
    ("version", "certificate_of", "alert"),
    [
        (ssl.TLSVersion.TLSv1_3, None, f"'certificate required'{WANTS}"),
        (ssl.TLSVersion.TLSv1_3, "others", f"'unknown ca'{WANTS}"),
        (ssl.TLSVersion.TLSv1_2, None, "'handshake failure'; there is no cipher in common, or it wants a client "),
        (ssl.TLSVersion.TLSv1_2, "others", f"'unknown ca'{WANTS}"),
    ],
)
def test_a_client_certificate_refused(version: ssl.TLSVersion, certificate_of: str | None, alert: str) -> None:
    """In TLS 1.3 the layer is ready before the server has looked at it."""
    layer = started(client_context(certificate_of=certificate_of))
    server = MemoryServer(server_context(client_ca="theirs", version=version))
    converse(layer, server)
    assert layer.ready is (version is ssl.TLSVersion.TLSv1_3)
    error = failed(layer)
    assert type(error) is TLSError
    assert str(error).startswith(f"server {URL} ended TLS with the alert {alert}")


@pytest.mark.parametrize(
    ("description", "text"),
    [
        (40, "'handshake failure'; there is no cipher in common, or it wants a client certificate: its log says which"),
        (42, f"'bad certificate'{WANTS}"),
        (49, f"'access denied'{WANTS}"),
        (70, "'protocol version'; it and the ssl.SSLContext given as tls have no TLS version in common"),
        (80, "'internal error'"),
        (112, "'unrecognized name'; it knows no such name: tls_hostname can give it another"),
        (120, "'no application protocol'"),
    ],
)
@splits
def test_an_alert_in_the_handshake(description: int, text: str, split: Split) -> None:
    layer = started()
    for chunk in split(bytes([0x15, 3, 3, 0, 2, 2, description])):
        layer.receive_data(chunk)
    assert str(failed(layer)) == f"server {URL} ended TLS with the alert {text}"


def test_an_alert_nobody_knows() -> None:
    layer = started()
    layer.receive_data(bytes([0x15, 3, 3, 0, 2, 2, 199]))
    assert str(failed(layer)).startswith(f"TLS with server {URL} failed in the handshake: ")


@pytest.mark.parametrize(("ours", "theirs"), [VERSIONS, VERSIONS[::-1]])
def test_no_version_in_common(ours: ssl.TLSVersion, theirs: ssl.TLSVersion) -> None:
    layer, server = started(client_context(version=ours)), MemoryServer(server_context(version=theirs))
    converse(layer, server)
    assert str(failed(layer)).endswith("; it and the ssl.SSLContext given as tls have no TLS version in common")


def test_a_version_that_was_not_offered() -> None:
    """A ServerHello of TLS 1.1."""
    hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\xc0\x13" + b"\x00"
    message = b"\x02" + len(hello).to_bytes(3, "big") + hello
    layer = started()
    layer.receive_data(b"\x16\x03\x02" + len(message).to_bytes(2, "big") + message)
    assert str(failed(layer)) == (
        f"TLS with server {URL} failed in the handshake: unsupported protocol; "
        "it and the ssl.SSLContext given as tls have no TLS version in common"
    )


# --- no TLS at all ---------------------------------------------------------------------------------------------------


@splits
@pytest.mark.parametrize(
    "answer",
    [
        b'INFO {"server_id":"A","tls_required":true}\r\n',
        b"INFO {}\r\nMSG smuggled 1 0\r\n\r\n",
        b"MSG smuggled 1 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x17\x03\x03\x00\x01x",
        b"\x00",
    ],
)
def test_a_server_that_answers_in_clear(answer: bytes, split: Split) -> None:
    layer = started()
    assert b"".join(layer.receive_data(chunk) for chunk in split(answer)) == b""
    assert layer.wrap([]) == []
    error = failed(layer)
    assert type(error) is TLSError
    assert str(error) == (
        f"server {URL} answered in clear where TLS was to begin: it does not speak TLS there, or only after its INFO, "
        "in which case tls_first is to be left out"
    )


def test_no_bytes_are_no_answer() -> None:
    layer = started()
    assert layer.receive_data(b"") == b""
    assert layer.error is None


def test_the_right_first_byte_and_then_rubbish() -> None:
    layer = started()
    layer.receive_data(b"\x16rubbish")
    assert str(failed(layer)).startswith(f"TLS with server {URL} failed in the handshake: ")


@versions
def test_rubbish_in_place_of_any_flight(version: ssl.TLSVersion) -> None:
    """Any byte of the handshake may be another: a typed error or none, never anything raised."""
    rng = random.Random(version)
    for _ in range(150):
        layer, server = started(), MemoryServer(server_context(version=version))
        for _ in range(3):
            server.receive(b"".join(layer.wrap([])))
            flight = bytearray(server.take())
            if flight and rng.random() < 0.7:
                flight[rng.randrange(len(flight))] ^= rng.randrange(1, 256)
            layer.receive_data(bytes(flight))
        assert layer.error is None or isinstance(layer.error, TLSError)


# --- the end in the middle -------------------------------------------------------------------------------------------

MUTE = (
    f"server {URL} closed the connection during the TLS handshake, before it said anything; it does not speak TLS "
    "there, or only after its INFO, in which case tls_first is to be left out"
)
CLOSED = f"server {URL} closed the connection during the TLS handshake, its log may say why"


@versions
def test_the_end_in_each_flight_of_the_handshake(version: ssl.TLSVersion) -> None:
    """Before it, at its begin, in its middle and one byte before its end; TLS 1.2 has two."""
    flights = 1 if version is ssl.TLSVersion.TLSv1_3 else 2
    for flight in range(flights):
        for part in (0.0, 0.1, 0.5, 0.999):
            layer, server = started(), MemoryServer(server_context(version=version))
            for number in range(flight + 1):
                server.receive(b"".join(layer.wrap([])))
                data = server.take()
                layer.receive_data(data if number < flight else data[: int(len(data) * part)])
            layer.receive_eof()
            assert not layer.ready
            assert str(failed(layer)) == (MUTE if (flight, part) == (0, 0.0) else CLOSED)
            assert failed(layer).__cause__ is None


def test_the_end_before_the_client_hello_was_taken() -> None:
    layer = started()
    layer.receive_eof()
    assert layer.wrap([]) == []
    assert str(failed(layer)) == MUTE


def test_close_notify_in_the_handshake() -> None:
    layer = started()
    layer.receive_data(bytes([0x15, 3, 3, 0, 2, 1, 0]))
    assert str(failed(layer)) == CLOSED


# --- faults after the handshake --------------------------------------------------------------------------------------


@versions
@splits
def test_a_record_that_was_changed_on_its_way(version: ssl.TLSVersion, split: Split) -> None:
    """What came before it is delivered, nothing of it or behind it is."""
    layer, server = connected(version)
    good, changed, behind = (bytearray(server.encrypted(data)) for data in (b"good", b"changed", b"behind"))
    changed[-1] ^= 1
    assert b"".join(layer.receive_data(chunk) for chunk in split(bytes(good + changed + behind))) == b"good"
    assert layer.ready
    error = failed(layer)
    assert type(error) is TLSError
    assert str(error) == f"TLS with server {URL} failed: decryption failed or bad record mac"


@versions
def test_clear_text_after_the_handshake(version: ssl.TLSVersion) -> None:
    layer, _ = connected(version)
    assert layer.receive_data(b"MSG smuggled 1 0\r\n\r\n") == b""
    assert type(failed(layer)) is TLSError


@versions
def test_a_record_too_long(version: ssl.TLSVersion) -> None:
    layer, _ = connected(version)
    assert layer.receive_data(b"\x17\x03\x03\xff\xff") == b""
    assert str(failed(layer)).startswith(f"TLS with server {URL} failed: ")


class FailsInWrite(ssl.SSLObject):
    """Its second write fails, and leaves an alert."""

    error: ssl.SSLError
    written = 0

    def write(self, data: bytes) -> int:
        self.written += 1
        if self.written == 2:
            with suppress(ssl.SSLWantReadError):
                self.unwrap()
            raise self.error
        return super().write(data)


class WantsToRead(FailsInWrite):
    error = ssl.SSLWantReadError(2, "The operation did not complete (read) (_ssl.c:1)")


class IsBroken(FailsInWrite):
    error = ssl.SSLError(1, "[SSL: INTERNAL_ERROR] internal error (_ssl.c:1)")


class WantsToReadContext(ssl.SSLContext):
    sslobject_class = WantsToRead


class IsBrokenContext(ssl.SSLContext):
    sslobject_class = IsBroken


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (WantsToReadContext, f"server {URL} wants to renegotiate TLS, and renegotiation is not supported"),
        (IsBrokenContext, f"TLS with server {URL} failed: internal error"),
    ],
)
@pytest.mark.parametrize("closing", [False, True])
def test_a_write_that_fails(kind: type[ssl.SSLContext], text: str, closing: bool) -> None:
    """What was encrypted before it is given down and counts, and so does the alert."""
    layer, server = connected(client=client_context(kind=kind))
    if closing:
        layer.close()
    below = b"".join(layer.wrap([b"x" * 40_000, b"y" * 40_000]))
    server.receive(below)
    assert (server.plain, server.ended) == (b"x" * 40_000, True)
    assert layer.sent(len(below)) == 40_000
    assert str(failed(layer)) == text


# --- too much of it --------------------------------------------------------------------------------------------------

HELLO_REQUEST = b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"  # a client in the handshake ignores it


@splits
def test_a_flood_in_the_handshake(split: Split) -> None:
    layer = started(max_handshake=2000)
    received = 0
    for chunk in split(HELLO_REQUEST * 10_000):
        layer.receive_data(chunk)
        received += len(chunk)
        if layer.error is not None:
            break
    assert split is whole or received == 2001
    assert str(failed(layer)) == f"server {URL} sent more than a TLS handshake may have and did not complete it"


def test_a_flood_ends_by_itself() -> None:
    layer = started()
    for _ in range(100):
        layer.receive_data(HELLO_REQUEST * 1000)
    assert "sent more than a TLS handshake may have" in str(failed(layer))


@pytest.mark.parametrize("missing", [0, 1])
def test_the_bound_is_exact_and_data_behind_the_handshake_is_not_counted(missing: int) -> None:
    layer, server = started(), MemoryServer(server_context(version=ssl.TLSVersion.TLSv1_2))
    server.receive(b"".join(layer.wrap([])))
    layer.receive_data(server.take())
    server.receive(b"".join(layer.wrap([])))
    flight = server.take()
    layer._room = len(flight) - missing
    plain = layer.receive_data(flight + server.encrypted(b"x" * 50_000))
    if not missing:
        assert (layer.ready, layer.error, plain) == (True, None, b"x" * 50_000)
    else:
        assert (layer.ready, plain) == (False, b"")
        assert "sent more than a TLS handshake may have" in str(failed(layer))


def long_chain(folder: Path, copies: int) -> ssl.SSLContext:
    certificate = leaf(HOST, ca="ours")
    pems = [certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()]
    path = folder / "chain.pem"
    path.write_bytes(b"".join([*pems, *[authority("ours").cert_pem.bytes()] * copies]))
    return server_context(chain=path)


@pytest.mark.parametrize(("copies", "accepted"), [(20, True), (300, False), (1500, False)])
def test_a_chain_of_certificates(copies: int, accepted: bool, tmp_path: Path) -> None:
    """OpenSSL has a bound of its own, lower than ours."""
    layer, server = started(), MemoryServer(long_chain(tmp_path, copies))
    converse(layer, server)
    assert layer.ready is accepted
    if not accepted:
        assert type(failed(layer)) is TLSError


def test_a_chain_within_openssls_bound_and_beyond_ours(tmp_path: Path) -> None:
    layer, server = started(max_handshake=8192), MemoryServer(long_chain(tmp_path, 50))
    converse(layer, server)
    assert "sent more than a TLS handshake may have" in str(failed(layer))


# --- what TLS cannot begin with --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "%eth0", ".example", "a..b", "a\0b", "x" * 64, "\ud800"])
def test_a_name_that_is_none(name: str) -> None:
    layer = started(hostname=name)
    error = failed(layer)
    assert type(error) is ConfigurationError
    assert str(error).startswith(f"TLS with server {URL} cannot begin, its context or the name ")
    assert error.__cause__ is not None


def test_a_context_for_servers() -> None:
    error = failed(started(server_context()))
    assert type(error) is ConfigurationError
    assert str(error).endswith(": Cannot create a client socket with a PROTOCOL_TLS_SERVER context")


def test_a_context_without_any_version() -> None:
    context = client_context()
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
    assert "no protocols available; it and the ssl.SSLContext given as tls" in str(failed(started(context)))


def test_after_a_failed_start_there_is_no_second() -> None:
    layer = started(hostname="")
    with pytest.raises(LocalProtocolError):
        layer.start()


# --- what errors keep to themselves ----------------------------------------------------------------------------------


def test_no_traceback_shows_plain_bytes() -> None:
    layer, server = connected()
    server.send(b"SECRET-one")
    broken = bytearray(server.encrypted(b"SECRET-two"))
    broken[-1] ^= 1
    assert layer.receive_data(bytes(broken)) == b"SECRET-one"
    error = layer.error
    assert error is not None
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "bad record mac" in shown
    assert "SECRET" not in shown
