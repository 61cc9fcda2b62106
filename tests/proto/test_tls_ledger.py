"""Through TLS it is known to the byte what was handed over: it is what the server can decrypt of the bytes it has."""

from __future__ import annotations

import random
import ssl
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._layers.tls import RECORD, TLSLayer
from tests.tls_peer import VERSIONS, MemoryServer, client_context, converse, openssl, server_context, started

CLIENT = cache(client_context)
SERVER = cache(lambda version: server_context(version=version))

sizes = st.one_of(
    st.integers(0, 100),
    st.integers(RECORD - 2, RECORD + 2),
    st.integers(0, 5 * RECORD),
)
portions = st.one_of(st.integers(0, 60), st.integers(0, RECORD), st.integers(0, 5 * RECORD))
given_down = st.lists(sizes, max_size=6)


def connected(version: ssl.TLSVersion) -> tuple[TLSLayer, MemoryServer]:
    layer, server = started(CLIENT()), MemoryServer(SERVER(version))
    converse(layer, server)
    assert layer.ready
    return layer, server


class Transport:
    """Accepts what it is given in portions, and gives the server exactly that."""

    def __init__(self, layer: TLSLayer, server: MemoryServer) -> None:
        self.layer = layer
        self.server = server
        self.waiting = bytearray()
        self.handed_over = len(server.plain)

    def give(self, pieces: list[bytes]) -> None:
        self.waiting += b"".join(self.layer.wrap(pieces))

    def accept(self, nbytes: int) -> None:
        portion = bytes(self.waiting[:nbytes])
        del self.waiting[:nbytes]
        self.server.receive(portion)
        self.handed_over += self.layer.sent(len(portion))
        assert self.handed_over == len(self.server.plain)
        assert self.server.error is None


@given(
    version=st.sampled_from(VERSIONS),
    steps=st.lists(st.one_of(given_down, portions), max_size=20),
    goodbye=st.booleans(),
)
def test_what_is_handed_over_is_what_the_server_can_decrypt(
    version: ssl.TLSVersion, steps: list[list[int] | int], goodbye: bool
) -> None:
    layer, server = connected(version)
    transport = Transport(layer, server)
    rng = random.Random(0)
    plain = b""
    for step in steps:
        if isinstance(step, int):
            transport.accept(step)
        else:
            pieces = [rng.randbytes(size) for size in step]
            transport.give(pieces)
            plain += b"".join(pieces)
    if goodbye:
        layer.close()
        transport.give([])
    transport.accept(len(transport.waiting))
    assert server.plain == plain
    assert server.ended is goodbye


@pytest.mark.parametrize("version", VERSIONS)
def test_every_byte_of_the_handshake_and_of_two_records(version: ssl.TLSVersion) -> None:
    """From the first byte of the ClientHello; what belongs to TLS itself carries nothing."""
    layer, server = started(CLIENT()), MemoryServer(SERVER(version))
    transport = Transport(layer, server)
    given = False
    for _ in range(4):
        given = given or layer.ready
        transport.give([b"first", b"second" * 2800] if layer.ready and not server.plain else [])
        while transport.waiting:
            transport.accept(1)
        layer.receive_data(server.take())
    assert given
    assert server.plain == b"first" + b"second" * 2800


def test_an_answer_to_a_key_update_in_front_of_data_is_no_part_of_it() -> None:
    layer, server = connected(ssl.TLSVersion.TLSv1_3)
    transport = Transport(layer, server)
    for _ in range(3):
        transport.give([b"before"])
        openssl("SSL_key_update", server, 1)
        assert layer.receive_data(server.encrypted(b"x")) == b"x"
        transport.give([b"behind"])
        while transport.waiting:
            transport.accept(1)
    assert server.plain == b"beforebehind" * 3


def test_after_an_error_what_was_given_before_still_counts() -> None:
    """The transport may report late; the alert that came behind the data carries nothing."""
    layer, server = connected(ssl.TLSVersion.TLSv1_3)
    below = b"".join(layer.wrap([b"data"]))
    record = bytearray(server.encrypted(b"x"))
    record[-1] ^= 1
    assert layer.receive_data(bytes(record)) == b""
    assert layer.error is not None
    alert = b"".join(layer.wrap([b"not taken"]))
    assert alert
    assert layer.wrap([b"not taken"]) == []
    server.receive(below + alert)
    assert server.plain == b"data"
    assert server.error is not None
    assert "BAD_RECORD_MAC" in str(server.error.reason)
    assert (layer.sent(len(below) - 1), layer.sent(1), layer.sent(len(alert))) == (0, 4, 0)
