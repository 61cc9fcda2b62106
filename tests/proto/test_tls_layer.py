"""TLS as a byte layer, against a server in memory: handshakes, data both ways, key updates, both goodbyes, misuse."""

from __future__ import annotations

import random
import ssl

import pytest

from nats_proto._layers import tls as _tls
from nats_proto._layers.layers import Layer, Layers
from nats_proto._layers.tls import RECORD, TLSLayer, default_context
from nats_proto.errors import LocalProtocolError, TLSError
from tests.tls_peer import (
    HOST,
    VERSIONS,
    MemoryServer,
    Split,
    by_byte,
    client_context,
    connected,
    converse,
    leaf,
    openssl,
    server_context,
    started,
    whole,
)

versions = pytest.mark.parametrize("version", VERSIONS)
splits = pytest.mark.parametrize("split", [whole, by_byte])


def give(layer: TLSLayer, server: MemoryServer, pieces: list[bytes]) -> int:
    """The server receives all of it: how many plain bytes the layer counts."""
    below = b"".join(layer.wrap(pieces))
    server.receive(below)
    return layer.sent(len(below))


# --- the handshake ---------------------------------------------------------------------------------------------------


def test_it_is_a_layer() -> None:
    layer: Layer = TLSLayer(client_context(), server_hostname=HOST, server="tls://a")
    assert (layer.ready, layer.error, layer.ended) == (False, None, False)


@versions
@splits
def test_handshake(version: ssl.TLSVersion, split: Split) -> None:
    layer, server = connected(version, split=split)
    assert layer.version == server.tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert layer.cipher == server.tls.cipher()[0]
    assert layer.peer_certificate == ssl.PEM_cert_to_DER_cert(leaf(HOST).cert_chain_pems[0].bytes().decode())


def test_nothing_is_agreed_upon_before_the_handshake() -> None:
    layer = started()
    assert (layer.version, layer.cipher, layer.peer_certificate) == (None, None, None)


@versions
def test_handshake_cut_in_two_at_every_byte(version: ssl.TLSVersion) -> None:
    client, context = client_context(), server_context(version=version)
    at = 1
    longest = 2
    while at < longest:
        flights: list[int] = []

        def cut(data: bytes, at: int = at, flights: list[int] = flights) -> list[bytes]:
            flights.append(len(data))
            return [part for part in (data[:at], data[at:]) if part]

        connected(client=client, server=context, split=cut)
        longest = max(flights)
        at += 1
    assert longest > 600


def test_the_first_flight_comes_once_and_only_when_started() -> None:
    layer = started()
    assert b"".join(layer.wrap([]))[:3] == b"\x16\x03\x01"
    assert layer.wrap([]) == []


@pytest.mark.parametrize("name", [HOST, f"{HOST}.", "127.0.0.1", "::1", "fe80::1%eth0", "bücher.example"])
def test_the_name_or_address_is_proved(name: str) -> None:
    """A root's dot and a zone are no part of what is proved."""
    in_certificate = name.rstrip(".").partition("%")[0]
    layer = started(hostname=name)
    server = MemoryServer(server_context(in_certificate))
    converse(layer, server)
    assert (layer.ready, layer.error) == (True, None)


@pytest.mark.parametrize(
    ("name", "sni"), [(HOST, HOST), (f"{HOST}.", HOST), ("127.0.0.1", None), ("::1", None), ("fe80::1%eth0", None)]
)
def test_a_name_is_told_to_the_server_and_an_address_is_not(name: str, sni: str | None) -> None:
    seen: list[str | None] = []
    context = server_context(name.rstrip(".").partition("%")[0])
    context.sni_callback = lambda tls, name, of: seen.append(name)
    converse(started(hostname=name), MemoryServer(context))
    assert seen == [sni]


def test_a_client_certificate_is_accepted() -> None:
    _, server = connected(client=client_context(certificate_of="theirs"), server=server_context(client_ca="theirs"))
    assert server.tls.getpeercert(binary_form=True)


def test_the_users_context_stays_as_it_is() -> None:
    context = client_context()
    before = (context.options, context.verify_flags, context.minimum_version, context.post_handshake_auth)
    connected(client=context)
    assert (context.options, context.verify_flags, context.minimum_version, context.post_handshake_auth) == before


# --- data ------------------------------------------------------------------------------------------------------------


@versions
@splits
@pytest.mark.parametrize("size", [1, 2, RECORD - 1, RECORD, RECORD + 1, 5 * RECORD + 7])
def test_data_both_ways(version: ssl.TLSVersion, split: Split, size: int) -> None:
    layer, server = connected(version)
    data = random.Random(size).randbytes(size)
    assert give(layer, server, [data]) == size
    assert server.plain == data
    received = [layer.receive_data(chunk) for chunk in split(server.encrypted(data))]
    assert b"".join(received) == data
    assert all(type(chunk) is bytes for chunk in received)


@versions
def test_data_right_behind_the_handshake(version: ssl.TLSVersion) -> None:
    """In one chunk with the last of it, and (TLS 1.3) with session tickets."""
    layer, server = started(), MemoryServer(server_context(version=version))
    plain = b""
    for _ in range(2):
        server.receive(b"".join(layer.wrap([])))
        if server.ready:
            server.send(b"INFO {}\r\n")
        plain += layer.receive_data(server.take())
    assert (layer.ready, plain) == (True, b"INFO {}\r\n")


def test_many_records_in_one_chunk() -> None:
    layer, server = connected()
    for number in range(1000):
        server.send(b"%d," % number)
    assert layer.receive_data(server.take()) == b"".join(b"%d," % number for number in range(1000))


def test_nothing_of_a_record_before_it_is_whole() -> None:
    layer, server = connected()
    record = server.encrypted(b"x" * 100)
    assert [len(layer.receive_data(byte)) for byte in by_byte(record)] == [0] * (len(record) - 1) + [100]


SIZES = [
    [],
    [0],
    [5],
    [16] * 3000,
    [RECORD] * 3,
    [3, RECORD, 3],
    [RECORD, 3, 3],
    [3, 3, RECORD - 1, 3],
    [3, 100_000, 2, 0, 3, 70_000, 2],
    [1_000_000, 1],
]


@versions
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{sizes[:7]}"[1:-1])
def test_pieces_arrive_in_order_in_records_that_are_as_full_as_can_be(
    version: ssl.TLSVersion, sizes: list[int]
) -> None:
    layer, server = connected(version)
    rng = random.Random(len(sizes))
    pieces = [rng.randbytes(size) for size in sizes]
    below = layer.wrap(pieces)
    assert all(type(piece) is bytes for piece in below)
    assert len(below) <= 1 + sum(sizes) // (200 * 1024)
    lengths = record_lengths(b"".join(below))
    large = sum(size >= RECORD for size in sizes)
    assert len(lengths) <= 1 + 2 * large + sum(sizes) // RECORD
    assert max(lengths, default=0) <= RECORD + 256
    server.receive(b"".join(below))
    assert server.plain == b"".join(pieces)
    assert layer.sent(sum(map(len, below))) == sum(sizes)


def record_lengths(below: bytes) -> list[int]:
    lengths: list[int] = []
    at = 0
    while at < len(below):
        lengths.append(5 + int.from_bytes(below[at + 3 : at + 5], "big"))
        at += lengths[-1]
    return lengths


@pytest.mark.parametrize(
    ("pieces", "sizes"),
    [
        ([b"a" * RECORD], [RECORD]),
        ([b"a"] * 10, [10]),
        ([b"b", b"a" * RECORD, b"b", b"b"], [1, RECORD, 2]),
        ([b"a" * RECORD, b"a" * (RECORD + 1)], [RECORD, RECORD + 1]),
    ],
    ids=["large", "small", "both", "two large"],
)
def test_large_pieces_are_not_copied_and_small_ones_are_joined(pieces: list[bytes], sizes: list[int]) -> None:
    buffers = [buffer for buffer in _tls._joined(pieces) if buffer]
    assert [len(buffer) for buffer in buffers] == sizes
    assert {id(piece) for piece in pieces if len(piece) >= RECORD} <= {id(buffer) for buffer in buffers}


@versions
def test_ten_mebibytes_each_way_at_once(version: ssl.TLSVersion) -> None:
    """Both directions move in portions of their own; what is handed over is counted on the way and adds up."""
    layer, server = connected(version)
    rng = random.Random(version)
    up, down = rng.randbytes(10 * 2**20), rng.randbytes(10 * 2**20)
    given = accepted = handed_over = told = 0
    to_server, to_client = bytearray(), bytearray()
    received = bytearray()
    while len(received) < len(down) or len(server.plain) < len(up):
        step = rng.randrange(200_000)
        to_server += b"".join(layer.wrap([up[given : given + step]]))
        given += len(up[given : given + step])
        step = rng.randrange(200_000)
        server.send(down[told : told + step])
        told += step
        to_client += server.take()
        step = min(rng.randrange(300_000), len(to_server))
        server.receive(bytes(to_server[:step]))
        del to_server[:step]
        accepted += step
        handed_over += layer.sent(step)
        assert handed_over == len(server.plain)
        step = rng.randrange(300_000)
        received += layer.receive_data(bytes(to_client[:step]))
        del to_client[:step]
    assert (received, server.plain) == (down, up)
    assert (layer.error, server.error) == (None, None)


# --- keys anew -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asks_for_ours", [0, 1])
def test_key_update(asks_for_ours: int) -> None:
    layer, server = connected(ssl.TLSVersion.TLSv1_3)
    for _ in range(3):
        openssl("SSL_key_update", server, asks_for_ours)
        assert layer.receive_data(server.encrypted(b"with new keys")) == b"with new keys"
        assert give(layer, server, [b"ours"]) == 4
    assert server.plain == b"ours" * 3
    assert (layer.error, server.error) == (None, None)


def test_a_flood_of_key_updates_is_answered_within_a_bound() -> None:
    """Each asks for an answer, and the peer reads none of them."""
    layer, server = connected(ssl.TLSVersion.TLSv1_3)
    updates = 0
    while layer.error is None and updates < 5000:
        updates += 1
        openssl("SSL_key_update", server, 1)
        server.tls.do_handshake()
        assert layer.receive_data(server.take()) == b""
    assert isinstance(layer.error, TLSError)
    assert str(layer.error) == f"server tls://{HOST}:4222 asks TLS for more answers than it reads"
    assert 1000 < updates < 4000
    assert layer.wrap([]) == []


def test_renegotiation_that_meets_no_write_goes_by_unseen() -> None:
    layer, server = connected(ssl.TLSVersion.TLSv1_2)
    openssl("SSL_renegotiate", server)
    openssl("SSL_do_handshake", server)
    assert layer.receive_data(server.take()) == b""
    converse(layer, server)
    assert give(layer, server, [b"after"]) == 5
    assert layer.receive_data(server.encrypted(b"after")) == b"after"


def test_renegotiation_in_the_way_of_a_write_is_an_error() -> None:
    layer, server = connected(ssl.TLSVersion.TLSv1_2)
    openssl("SSL_renegotiate", server)
    openssl("SSL_do_handshake", server)
    assert layer.receive_data(server.take()) == b""
    below = b"".join(layer.wrap([b"x" * 100]))
    assert isinstance(layer.error, TLSError)
    assert str(layer.error) == f"server tls://{HOST}:4222 wants to renegotiate TLS, and renegotiation is not supported"
    assert layer.sent(len(below)) == 0


def test_a_context_may_refuse_to_renegotiate_and_then_the_connection_stays_for_us() -> None:
    context = client_context()
    context.options |= ssl.OP_NO_RENEGOTIATION
    layer, server = connected(client=context, server=server_context(version=ssl.TLSVersion.TLSv1_2))
    openssl("SSL_renegotiate", server)
    openssl("SSL_do_handshake", server)
    assert layer.receive_data(server.take()) == b""
    below = b"".join(layer.wrap([b"x" * 100]))
    assert (layer.error, layer.sent(len(below))) == (None, 100)


# --- both goodbyes ---------------------------------------------------------------------------------------------------


@versions
def test_our_close_notify_goes_behind_the_last_data_and_is_not_waited_for(version: ssl.TLSVersion) -> None:
    layer, server = connected(version)
    layer.close()
    assert give(layer, server, [b"last words"]) == 10
    assert (server.plain, server.ended, layer.ended, layer.error) == (b"last words", True, False, None)


@versions
def test_nothing_of_ours_follows_the_close_notify_and_theirs_still_comes(version: ssl.TLSVersion) -> None:
    layer, server = connected(version)
    layer.close()
    assert layer.receive_data(server.encrypted(b"a")) == b"a"
    assert give(layer, server, []) == 0
    assert server.ended
    layer.close()
    assert layer.wrap([b"too late"]) == []
    assert layer.receive_data(server.encrypted(b"b")) == b"b"
    server.close()
    assert layer.receive_data(server.take()) == b""
    assert (layer.ended, layer.error, server.error) == (True, None, None)


@versions
@splits
def test_their_close_notify(version: ssl.TLSVersion, split: Split) -> None:
    layer, server = connected(version)
    server.send(b"bye")
    server.close()
    assert b"".join(layer.receive_data(chunk) for chunk in split(server.take())) == b"bye"
    assert (layer.ended, layer.error) == (True, None)
    assert layer.receive_data(b"garbage behind the end") == b""
    assert not layer._incoming.pending
    layer.receive_eof()
    assert layer.error is None
    assert give(layer, server, [b"still"]) == 5
    layer.close()
    assert give(layer, server, []) == 0
    assert (server.plain, server.ended, server.error) == (b"still", True, None)


@versions
def test_the_end_without_close_notify_is_no_error_and_gives_nothing_partial(version: ssl.TLSVersion) -> None:
    layer, server = connected(version)
    chunk = server.encrypted(b"whole") + server.encrypted(b"cut short")[:-1]
    assert layer.receive_data(chunk) == b"whole"
    layer.receive_eof()
    layer.receive_eof()
    assert (layer.ended, layer.error, layer.receive_data(b"")) == (False, None, b"")


def test_goodbye_before_it_is_ready_says_nothing_and_changes_nothing() -> None:
    layer, server = started(), MemoryServer()
    assert give(layer, server, []) == 0
    layer.close()
    assert layer.wrap([]) == []
    layer.receive_data(server.take())
    assert give(layer, server, [b"data"]) == 4
    assert (server.plain, server.ended) == (b"data", False)


class Farewell:
    """A layer above with a last word of its own."""

    ready, error, ended = True, None, False
    _words: list[bytes]

    def start(self) -> None:
        self._words = []

    def receive_data(self, data: bytes) -> bytes:
        return data

    def receive_eof(self) -> None: ...

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        words, self._words = self._words, []
        return pieces + words

    def sent(self, nbytes: int) -> int:
        return nbytes

    def close(self) -> None:
        self._words = [b"farewell"]


def test_in_a_wire_the_last_word_of_the_layer_above_comes_before_close_notify() -> None:
    layer, server = TLSLayer(client_context(), server_hostname=HOST, server="tls://a"), MemoryServer()
    wire = Layers()
    wire.push(layer)
    converse(layer, server)
    assert wire.ready
    wire.push(Farewell())
    below = b"".join(wire.wrap([b"data, "]))
    assert wire.close()
    assert not wire.close()
    assert not wire.idle
    below += b"".join(wire.wrap([]))
    server.receive(below)
    assert (server.plain, server.ended, wire.sent(len(below))) == (b"data, farewell", True, 14)
    assert wire.idle
    assert wire.wrap([b"too late"]) == []


# --- misuse ----------------------------------------------------------------------------------------------------------


def test_before_its_start_it_cannot_be_used() -> None:
    layer = TLSLayer(client_context(), server_hostname=HOST, server="tls://a")
    for call in (lambda: layer.receive_data(b"x"), layer.receive_eof, lambda: layer.wrap([])):
        with pytest.raises(LocalProtocolError, match="before its start"):
            call()
    layer.close()
    assert layer.sent(0) == 0


def test_it_is_started_once() -> None:
    layer, _ = connected()
    with pytest.raises(LocalProtocolError, match="started once"):
        layer.start()
    assert layer.error is None


def test_bytes_before_it_is_ready_are_misuse_and_not_kept() -> None:
    layer, server = started(), MemoryServer()
    with pytest.raises(LocalProtocolError, match="not ready"):
        layer.wrap([b"CONNECT {}\r\n"])
    converse(layer, server)
    assert (layer.ready, server.plain) == (True, b"")


def test_more_sent_than_given_is_misuse() -> None:
    layer, _ = connected()
    below = layer.wrap([b"x"])
    with pytest.raises(LocalProtocolError):
        layer.sent(sum(map(len, below)) + 1)
    assert layer.sent(sum(map(len, below))) == 1


# --- the default context ---------------------------------------------------------------------------------------------


def test_the_default_context_verifies_and_is_made_once() -> None:
    context = default_context()
    assert context is default_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()
