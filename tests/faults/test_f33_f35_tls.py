"""F33 to F35 and the hostile inputs around TLS: certificates that change, that prove nothing, handshakes that stall."""

from __future__ import annotations

import datetime
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from nats_proto import Connected, Disconnected, Reconnected, Reconnecting
from nats_proto.errors import (
    ConnectionLostError,
    CredentialsError,
    NATSError,
    NATSTimeoutError,
    NoServersError,
    RemoteProtocolError,
    SecureConnectionRequiredError,
    TLSCertificateError,
    TLSError,
)
from nats_proto.nkeys import KeyPair, Prefix
from nats_sync.testing import LocalServer, ServerTLS
from tests.adapters.legs import PATIENCE, EventLog, Leg, in_thread
from tests.certificates import Certificates
from tests.faults.peer import Connection, Peer, Step, close, expect, hold, info, reset, send
from tests.faults.record import QUICK

pytestmark = [pytest.mark.anyio, pytest.mark.transports("tcp")]

SECRET = "s3cret-of-f34"


async def refusal(leg: Leg, url: str, **options: Any) -> NATSError:
    """Why the only server could not be used."""
    with pytest.raises(NoServersError) as raised:
        async with leg.connect(url, user="me", password=SECRET, **options):
            pass
    ((_, error),) = raised.value.attempts
    return error


# --- F33: certificates that change -----------------------------------------------------------------------------------


async def test_f33_a_rotated_certificate_is_met_at_the_next_attempt(leg: Leg, tmp_path: Path) -> None:
    for name in ("ours", "foreign"):
        (tmp_path / name).mkdir()
    ours, foreign = Certificates.made(tmp_path / "ours"), Certificates.made(tmp_path / "foreign")
    served = tmp_path / "served.pem", tmp_path / "served.key"

    def serve(certificates: Certificates) -> None:
        served[0].write_bytes(certificates.server_cert.read_bytes())
        served[1].write_bytes(certificates.server_key.read_bytes())

    serve(ours)
    log = EventLog()
    contexts: list[str] = []

    def context(url: str) -> ssl.SSLContext:
        contexts.append(url)
        return ours.client_context()

    with LocalServer(tls=ServerTLS(cert=served[0], key=served[1])) as server:
        async with leg.connect(server.url, tls=context, on_event=log, **QUICK) as client:
            serve(foreign)
            await in_thread(server.reload)  # it waits for handshakes, and the client's may be under way
            await client.flush()  # the link lives on
            await client.reconnect()
            await log.wait_for(lambda event: isinstance(event, Reconnecting) and event.error is not None)
            assert isinstance(client.last_error, TLSCertificateError)
            await client.publish("f33", b"kept meanwhile")
            serve(ours)
            await in_thread(server.reload)  # it waits for handshakes, and the client's may be under way
            await log.wait(Reconnected)
            await client.flush()
    assert len(contexts) >= 3
    assert set(contexts) == {server.url}


# --- F34: what must not be trusted -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    error: type[NATSError]
    hint: str
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    years: tuple[int, int] | None = None
    """When the server's certificate is valid."""
    self_signed: bool = False
    foreign: bool = False
    """It is signed by an authority that the client does not know."""
    url: str = "tls://localhost:{0}"
    tls: bool = True
    """The server has TLS."""
    first: bool = False
    verify: bool = False
    """The server wants a certificate of the client; it has one signed by ``client``."""
    client: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "expired": Row(TLSCertificateError, "expired", years=(2001, 2002)),
    "not yet valid": Row(TLSCertificateError, "not yet valid", years=(2100, 2101)),
    "wrong name": Row(TLSCertificateError, "tls_hostname", names=("elsewhere.example",)),
    "address without its name": Row(TLSCertificateError, "127.0.0.1", names=("localhost",), url="tls://127.0.0.1:{0}"),
    "wrong tls_hostname": Row(TLSCertificateError, "other.example", options={"tls_hostname": "other.example"}),
    "self-signed": Row(TLSCertificateError, "load_verify_locations", self_signed=True),
    "unknown authority": Row(TLSCertificateError, "load_verify_locations", foreign=True),
    "unknown authority, nats://": Row(TLSCertificateError, "load_verify", foreign=True, url="nats://localhost:{0}"),
    "no client certificate": Row(TLSError, "client certificate", verify=True),
    "foreign client certificate": Row(TLSError, "client certificate", verify=True, client="foreign"),
    "no TLS there": Row(SecureConnectionRequiredError, "does not offer it", tls=False),
    "no TLS there, a context": Row(
        SecureConnectionRequiredError, "does not offer it", tls=False, url="nats://localhost:{0}"
    ),
    "TLS first, where it comes after INFO": Row(TLSError, "tls_first", options={"tls_first": True}),
    "TLS after INFO, where it comes first": Row(NATSTimeoutError, "INFO", first=True, options={"connect_timeout": 0.5}),
}


def certificates_for(row: Row, folder: Path, ours: trustme.CA) -> ServerTLS:
    """Files of a server's certificate as the row wants it."""
    years = [datetime.datetime(year, 1, 1) for year in row.years or ()]
    valid: dict[str, Any] = dict(zip(("not_before", "not_after"), years, strict=False))
    if row.self_signed:
        leaf = trustme.CA()
        leaf.cert_pem.write_to_path(folder / "cert.pem")
    else:
        issued = (trustme.CA() if row.foreign else ours).issue_cert(*row.names, **valid)
        (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (leaf if row.self_signed else issued).private_key_pem.write_to_path(folder / "key.pem")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    return ServerTLS(
        cert=folder / "cert.pem",
        key=folder / "key.pem",
        ca=folder / "ca.pem",
        verify=row.verify,
        handshake_first=row.first,
    )


@pytest.mark.parametrize("name", ROWS)
async def test_f34_nothing_is_said_to_whom_cannot_be_trusted(leg: Leg, name: str, tmp_path: Path) -> None:
    row, ours = ROWS[name], trustme.CA()
    context = ssl.create_default_context()
    ours.configure_trust(context)
    if row.client is not None:
        trustme.CA().issue_cert("me").configure_cert(context)
    with LocalServer(tls=certificates_for(row, tmp_path, ours) if row.tls else None, trace=True) as server:
        error = await refusal(leg, row.url.format(server.port), tls=context, **row.options)
        assert type(error) is row.error, error
        assert row.hint in str(error)
        assert SECRET not in server.log()
        assert "CONNECT" not in server.log()


async def test_f34_tls_1_1_is_too_old(leg: Leg, certificates: Certificates) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(certificates.server_cert, certificates.server_key)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with Peer([send(info(tls_required=True)), tls(old)]) as peer:
        error = await refusal(leg, peer.url, tls=certificates.client_context())
    assert type(error) is TLSError
    assert "version" in str(error)


async def test_f34_a_server_we_were_told_of_proves_the_name_of_the_one_that_told(leg: Leg, tmp_path: Path) -> None:
    """The first server has a name, and tells of the second by address; its certificate has only the name."""
    named = Certificates.made(tmp_path, ("localhost",))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(named.server_cert, named.server_key)
    with LocalServer(tls=named.server_tls()) as second:
        urls = [f"127.0.0.1:{second.port}"]
        greeting = [send(info(tls_required=True, connect_urls=urls)), tls(server_side)]
        script = [greeting, expect(b"CONNECT "), expect(b"PING\r\n"), send(b"PONG\r\n"), hold(), close()]
        with Peer(script) as first:
            log = EventLog()
            url = f"tls://localhost:{first.port}"
            async with leg.connect(url, tls=named.client_context(), on_event=log, **QUICK) as client:
                first.release()
                await log.wait(Reconnected)
                assert client.connected_url == f"tls://127.0.0.1:{second.port}"
                await client.flush()
    with LocalServer(tls=named.server_tls()) as second:
        error = await refusal(leg, f"tls://127.0.0.1:{second.port}", tls=named.client_context())
        assert type(error) is TLSCertificateError


# --- F35: handshakes that stall or break -----------------------------------------------------------------------------


def tls(context: ssl.SSLContext) -> Step:
    """Do the server's part of the handshake; from here on all goes through it."""

    def step(connection: Connection) -> None:
        connection.sock.settimeout(10)
        try:
            connection.sock = context.wrap_socket(connection.sock, server_side=True)
        except ssl.SSLError as error:
            connection.peer.note(connection.number, "!", repr(error).encode())
            connection.close(reset=False)
            return
        connection.sock.settimeout(0.01)

    return step


def flights(certificates: Certificates, count: int, size: int | None) -> Step:
    """Answer with the server's first ``count`` flights, the last cut to ``size`` bytes, and then with nothing."""

    def step(connection: Connection) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # which has two flights of its own
        context.load_cert_chain(certificates.server_cert, certificates.server_key)
        server = context.wrap_bio(incoming, outgoing, server_side=True)
        seen = 0
        for flight in range(1, count + 1):
            while not outgoing.pending:
                if seen == len(connection.received):
                    connection.read()
                incoming.write(connection.received[seen:])
                seen = len(connection.received)
                try:
                    server.do_handshake()
                except ssl.SSLWantReadError:
                    continue
            data = outgoing.read()
            connection.send(data[:size] if flight == count else data)

    return step


STALLS: dict[str, Callable[[Certificates], list[Step]]] = {
    "before the first flight": lambda certificates: [],
    "in the first flight": lambda certificates: [flights(certificates, 1, 700)],
    "after the first flight": lambda certificates: [flights(certificates, 1, None)],
    "in the last flight": lambda certificates: [flights(certificates, 2, 30)],
}


@pytest.mark.parametrize("end", ["silence", "eof", "reset"])
@pytest.mark.parametrize("stall", STALLS)
async def test_f35_a_handshake_that_stalls_or_breaks(
    leg: Leg, certificates: Certificates, stall: str, end: str
) -> None:
    ends = {"silence": hold(), "eof": close(), "reset": reset()}
    script = [send(info(tls_required=True)), expect(b"\x16\x03"), STALLS[stall](certificates), ends[end]]
    for seconds in (0.4, 2.0) if end == "silence" else (10.0,):
        with Peer(script) as peer:
            began = time.process_time()
            error = await refusal(leg, peer.url, tls=certificates.client_context(), connect_timeout=seconds)
            spent = time.process_time() - began
        if "TLS" in str(error):  # else the machine stood still, and the handshake had not begun
            break
    if end == "silence":
        assert type(error) is NATSTimeoutError
        assert "TLS" in str(error)
        assert spent < 0.3, "a loop that waits for nothing"
    else:
        # A socket that is closed with something unread in it ends with a reset, whatever was meant.
        assert isinstance(error, (TLSError, ConnectionLostError))
        assert "handshake" in str(error) or "reset" in str(error) or "pipe" in str(error)


async def test_f35_the_end_right_after_the_handshake(leg: Leg, certificates: Certificates) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificates.server_cert, certificates.server_key)
    with Peer([send(info(tls_required=True, tls_verify=True)), tls(server_side), close()]) as peer:
        error = await refusal(leg, peer.url, tls=certificates.client_context())
    assert isinstance(error, NATSError)
    assert "closed" in str(error) or "reset" in str(error) or "pipe" in str(error)


# --- hostile inputs --------------------------------------------------------------------------------------------------


async def test_h15_tls_was_asked_for_and_is_not_offered(leg: Leg, certificates: Certificates) -> None:
    with Peer([send(info(tls_required=False)), hold()]) as peer:
        error = await refusal(leg, peer.url, tls=certificates.client_context())
        assert peer.connections[0].received == b""
    assert type(error) is SecureConnectionRequiredError


@pytest.mark.parametrize("smuggled", [b"MSG s.1 1 3\r\nbad\r\n", b"PING\r\n", b"+OK\r\n", b"MSG s.1 1"])
async def test_h16_what_is_smuggled_in_front_of_tls(leg: Leg, certificates: Certificates, smuggled: bytes) -> None:
    with Peer([send(info(tls_required=True) + smuggled), hold()]) as peer:
        error = await refusal(leg, peer.url, tls=certificates.client_context())
        assert b"CONNECT" not in peer.connections[0].received
    assert type(error) is RemoteProtocolError
    assert "in clear" in str(error)


@pytest.mark.parametrize(
    ("nonce", "kind", "hint"),
    [(None, CredentialsError, "nonce"), ("n" * 1024 * 1000, RemoteProtocolError, "nonce of 1024000")],
    ids=["missing", "endless"],
)
async def test_h17_nonces(leg: Leg, nonce: str | None, kind: type[NATSError], hint: str) -> None:
    seed = KeyPair.create(Prefix.USER, bytes(range(32))).seed
    with Peer([send(info(**({} if nonce is None else {"nonce": nonce}))), hold()]) as peer:
        with pytest.raises(NoServersError) as raised:
            async with leg.connect(peer.url, nkey_seed=seed):
                pass
        assert peer.connections[0].received == b""
    ((_, error),) = raised.value.attempts
    assert type(error) is kind
    assert hint in str(error)
    assert seed.reveal() not in str(error)


async def test_h70_a_truncated_stream_is_a_loss_and_no_part_of_a_message_is_delivered(
    leg: Leg, certificates: Certificates
) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificates.server_cert, certificates.server_key)

    def cut(connection: Connection) -> None:
        connection.send(b"MSG s.1 1 5\r\nwhole\r\nMSG s.1 1 9\r\nin ")  # and no close_notify

    script = [send(info(tls_required=True)), tls(server_side), expect(b"CONNECT "), expect(b"PING\r\n")]
    script += [send(b"PONG\r\n"), expect(b"SUB s.1 1\r\n"), cut, reset()]
    log = EventLog()
    with Peer(script) as peer, LocalServer(tls=certificates.server_tls()) as healthy:
        urls = [peer.url, healthy.url]
        options = {"tls": certificates.client_context(), "randomize_servers": False, "on_event": log, **QUICK}
        async with leg.connect(urls, **options) as client:
            sub = await client.subscribe("s.1")
            await log.wait(Reconnected)
            await client.publish("s.1", b"good")
            assert [(await sub.next(timeout=PATIENCE)).data for _ in range(2)] == [b"whole", b"good"]
    assert [type(event) for event in log][:2] == [Connected, Disconnected]


async def test_h70_a_handshake_that_trickles_ends_by_connect_timeout(leg: Leg, certificates: Certificates) -> None:
    def trickle(connection: Connection) -> None:
        while True:
            connection.send(b"\x16")
            connection.read()

    with Peer([send(info(tls_required=True)), expect(b"\x16\x03"), send(b"\x16\x03\x03\x3f\xff"), trickle]) as peer:
        error = await refusal(leg, peer.url, tls=certificates.client_context(), connect_timeout=0.4)
    assert isinstance(error, (NATSTimeoutError, TLSError))
