"""A real server accepts the signatures of our keys, and no others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nats_proto.nkeys import KeyPair, Prefix, decode_public_key, encode_public_key
from nats_sync.testing import LocalServer
from tests.faults.bare_client import BareClient
from tests.operator_mode import sign_nonce

ALICE = KeyPair.create(Prefix.USER, b"alice, known to the server".ljust(32))
MALLORY = KeyPair.create(Prefix.USER, b"mallory, of whom nobody knows".ljust(32))
REFUSED = "-ERR 'Authorization Violation'"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer({"authorization": {"users": [{"nkey": ALICE.public_key}]}}) as local:
        yield local


def test_a_signed_nonce_is_accepted(server: LocalServer) -> None:
    for _ in range(5):  # each has a nonce of its own
        with BareClient(server) as client:
            assert client.connect(signer=ALICE, nkey=ALICE.public_key) == "PONG"
            assert client.ping() == "PONG"


def test_a_key_read_from_its_seed_is_accepted(server: LocalServer) -> None:
    with BareClient(server) as client, KeyPair.from_seed(ALICE.seed) as key:
        assert client.connect(signer=key, nkey=key.public_key) == "PONG"


@pytest.mark.parametrize(
    ("signer", "nkey"),
    [
        (MALLORY, MALLORY),
        (MALLORY, ALICE),
        (ALICE, MALLORY),
        (None, ALICE),
        (None, None),
    ],
    ids=["an unknown key", "signed by another", "of another", "not signed", "nothing"],
)
def test_anything_else_is_refused(server: LocalServer, signer: KeyPair | None, nkey: KeyPair | None) -> None:
    with BareClient(server) as client:
        options = {} if nkey is None else {"nkey": nkey.public_key}
        assert client.connect(signer=signer, **options) == REFUSED
        assert client.answer() == ""


def test_a_signature_of_another_nonce_is_refused(server: LocalServer) -> None:
    with BareClient(server) as first, BareClient(server) as second:
        assert first.info["nonce"] != second.info["nonce"]
        old = sign_nonce(ALICE, str(first.info["nonce"]))
        assert second.connect(nkey=ALICE.public_key, sig=old) == REFUSED
        assert first.connect(nkey=ALICE.public_key, sig=old) == "PONG"


def test_the_keys_of_the_server_itself_are_read(server: LocalServer) -> None:
    with BareClient(server) as client:
        prefix, raw = decode_public_key(str(client.info["server_id"]), Prefix.SERVER)
        assert encode_public_key(prefix, raw) == client.info["server_id"]
        prefix, raw = decode_public_key(str(client.info["xkey"]), Prefix.CURVE)
        assert encode_public_key(prefix, raw) == client.info["xkey"]
