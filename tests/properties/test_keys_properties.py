"""Keys and credentials: what is written is read back, what was changed is refused, and no text does anything else."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import TypeVar

from hypothesis import example, given
from hypothesis import strategies as st

from nats_proto._auth.nkey_text import _encode
from nats_proto._auth.user_credentials import UserCredentials, parse_credentials
from nats_proto._secret import Secret
from nats_proto.errors import CredentialsError
from nats_proto.nkeys import (
    KeyPair,
    Prefix,
    decode_public_key,
    decode_seed,
    encode_public_key,
    encode_seed,
    verify,
)
from tests.proto.secrecy import pieces

T = TypeVar("T")

ALPHABET = string.ascii_uppercase + "234567"
RAW = st.binary(min_size=32, max_size=32)
PREFIXES = st.sampled_from(Prefix)
SIGNING = st.sampled_from([prefix for prefix in Prefix if prefix is not Prefix.CURVE])


def reading(call: Callable[[], T]) -> T | CredentialsError:
    """What comes out, one way or the other. Any other exception fails the test."""
    try:
        return call()
    except CredentialsError as caught:
        error = caught
    assert str(error).isprintable()
    assert len(str(error)) < 250
    return error


# --- keys ------------------------------------------------------------------------------------------------------------


@given(PREFIXES, RAW)
def test_a_key_is_read_back(prefix: Prefix, raw: bytes) -> None:
    public, seed = encode_public_key(prefix, raw), encode_seed(prefix, raw)
    assert decode_public_key(public) == (prefix, raw)
    assert decode_seed(seed) == (prefix, bytearray(raw))
    assert isinstance(reading(lambda: decode_public_key(seed.reveal())), CredentialsError)
    assert isinstance(reading(lambda: decode_seed(public)), CredentialsError)


@given(SIGNING, RAW, st.binary(max_size=100))
def test_a_pair_is_its_seed(prefix: Prefix, raw: bytes, data: bytes) -> None:
    with KeyPair.create(prefix, raw) as pair, KeyPair.from_seed(pair.seed) as again:
        assert (again.prefix, again.public_key, again.seed) == (prefix, pair.public_key, encode_seed(prefix, raw))
        signature = again.sign(data)
        assert pair.sign(data) == signature
        assert verify(pair.public_key, data, signature)


@given(RAW, st.binary(max_size=100), st.integers(0, 64 * 8 - 1), st.integers(0))
def test_a_changed_bit_is_no_signature(raw: bytes, data: bytes, of_signature: int, of_data: int) -> None:
    pair = KeyPair.create(Prefix.USER, raw)
    signature = pair.sign(data)
    assert not pair.verify(data, flipped(signature, of_signature))
    assert not pair.verify(flipped(data + b"\x00", of_data), signature)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """One character replaced, left out, put in twice, or swapped with its neighbour."""
    at = draw(st.integers(0, len(text) - 1))
    letter = draw(st.sampled_from(ALPHABET) | st.characters())
    other = draw(
        st.sampled_from(
            [
                text[:at] + letter + text[at + 1 :],
                text[:at] + letter + text[at:],
                text[:at] + text[at + 1 :],
                text[:at] + text[at : at + 2][::-1] + text[at + 2 :],
            ]
        )
    )
    return other if other != text else text.lower()


@given(st.data(), PREFIXES, RAW)
def test_any_change_of_a_public_key_is_refused(data: st.DataObject, prefix: Prefix, raw: bytes) -> None:
    text = data.draw(changed(encode_public_key(prefix, raw)))
    assert isinstance(reading(lambda: decode_public_key(text)), CredentialsError)
    assert isinstance(reading(lambda: verify(text, b"", b"")), CredentialsError)


@given(st.data(), PREFIXES, RAW)
def test_any_change_of_a_seed_is_refused_and_not_told(data: st.DataObject, prefix: Prefix, raw: bytes) -> None:
    seed = encode_seed(prefix, raw).reveal()
    text = data.draw(changed(seed))
    for read in (decode_seed, KeyPair.from_seed):
        error = reading(lambda read=read: read(text))
        assert isinstance(error, CredentialsError)
        assert not [piece for piece in pieces(seed) if piece in repr(error)]


@given(RAW)
def test_every_single_character_matters(raw: bytes) -> None:
    """All of them, at each place: with so few bits too many in a seed, one could be overlooked."""
    seed = encode_seed(Prefix.USER, raw).reveal()
    for at in (0, 1, 2, 30, 54, 55, 56, 57):
        for letter in set(ALPHABET) - {seed[at]}:
            assert isinstance(
                reading(lambda at=at, letter=letter: decode_seed(seed[:at] + letter + seed[at + 1 :])), CredentialsError
            )


SEALED = st.binary(min_size=30, max_size=36).map(lambda data: _encode(b"", data))
"""Any bytes with a right checksum."""

PROLOGUES = st.sampled_from(["", "U", "S", "SU", "SA", "SX", "X", "\ufeff", " "])
ANY_TEXT = (
    st.text()
    | SEALED
    | st.text(ALPHABET, min_size=56, max_size=58)
    | st.tuples(PROLOGUES, st.text(ALPHABET + "=1 a\n", min_size=50, max_size=58)).map("".join)
)


@given(ANY_TEXT, st.none() | PREFIXES)
@example("", None)
@example("\ud800" * 58, None)
@example("S" * 58, Prefix.USER)
def test_any_text_is_a_key_or_refused(text: str, expected: Prefix | None) -> None:
    public = reading(lambda: decode_public_key(text, expected))
    if not isinstance(public, CredentialsError):
        assert encode_public_key(*public) == text
        assert expected in (None, public[0])
    seed = reading(lambda: decode_seed(text, expected))
    if isinstance(seed, CredentialsError):
        assert not [piece for piece in pieces(text) if piece in str(seed) and piece.strip(ALPHABET) == ""]
    else:
        assert encode_seed(*seed).reveal() == text
        assert expected in (None, seed[0])
    reading(lambda: KeyPair.from_seed(text))
    reading(lambda: verify(text, b"data", b"signature"))


@given(st.binary() | ANY_TEXT.map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_seed_or_refused(data: bytes) -> None:
    found = reading(lambda: decode_seed(data))
    assert type(found) is type(reading(lambda: decode_seed(bytearray(data))))
    if isinstance(found, tuple):
        assert encode_seed(*found).reveal_bytes() == data


# --- credentials -----------------------------------------------------------------------------------------------------

BASE64URL = string.ascii_letters + string.digits + "-_"
PARTS = st.text(BASE64URL, min_size=2, max_size=30).filter(lambda part: len(part) % 4 != 1)
JWTS = st.tuples(PARTS, PARTS, PARTS).map(".".join)
SEEDS = RAW.map(lambda raw: encode_seed(Prefix.USER, raw).reveal())
NEWLINES = st.sampled_from(["\n", "\r\n", "\n\n", " \t\r\n"])
BLANKS = st.sampled_from(["", " ", "\t", "  "])
AROUND = st.text(st.characters(exclude_characters="-\n"), max_size=20)


@st.composite
def armoured(draw: st.DrawFn, label: str, value: str) -> str:
    newline, blank = draw(NEWLINES), draw(BLANKS)
    begin, end, after, last = (draw(st.integers(3, 7)) * "-" for _ in range(4))
    lines = [f"{begin}BEGIN {label}{end}", value, f"{after}END {label}{last}"]
    return "".join(f"{blank}{line}{newline}" for line in lines)


@given(st.data(), JWTS, st.none() | SEEDS, st.lists(AROUND, min_size=3, max_size=3), NEWLINES, st.booleans())
def test_credentials_are_read_whatever_is_around(
    data: st.DataObject, jwt: str, seed: str | None, around: list[str], newline: str, turned: bool
) -> None:
    blocks = [data.draw(armoured("NATS USER JWT", jwt))]
    if seed is not None:
        blocks.append(data.draw(armoured("USER NKEY SEED", seed)))
    if turned:
        blocks.reverse()
    text = around[0] + newline
    for block, behind in zip(blocks, around[1:], strict=False):
        text += block + behind + newline
    expected = UserCredentials(jwt=Secret(jwt), seed=None if seed is None else Secret(seed))
    assert parse_credentials(text) == parse_credentials(text.encode("utf-8", "replace")) == expected


LINES = st.sampled_from(
    [
        "-----BEGIN NATS USER JWT-----",
        "------END NATS USER JWT------",
        "-----BEGIN USER NKEY SEED-----",
        "------END USER NKEY SEED------",
        "-----BEGIN ACCOUNT NKEY SEED-----",
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----",
        "--BEGIN NATS USER JWT--",
        "---END USER NKEY SEED",
        "---- ----",
        "",
        " \t",
        "text",
        "e30.e30.c2lnbmF0dXJl",
        encode_seed(Prefix.USER, bytes(range(32))).reveal(),
        encode_seed(Prefix.ACCOUNT, bytes(range(32))).reveal(),
    ]
)


@given(
    st.lists(LINES, max_size=12).map("\n".join)
    | st.lists(LINES | st.text(max_size=10), max_size=9).map("\r\n".join)
    | st.text()
)
@example("")
@example("\ufeff")
@example("-----BEGIN NATS USER JWT-----\n" * 2)
def test_any_text_gives_credentials_or_our_error(text: str) -> None:
    for given_ in (text, text.encode("utf-8", "replace")):
        found = reading(lambda given_=given_: parse_credentials(given_))
        if isinstance(found, CredentialsError):
            long_words = {word for word in text.split() if len(word) > 8 and not word.startswith("-")}
            assert not [word for word in long_words if word in str(found)]
        else:
            assert found.jwt.reveal() in text
            assert found.jwt.reveal().count(".") == 2
            assert found.seed is None or decode_seed(found.seed, Prefix.USER)


@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf")
def test_any_bytes_give_credentials_or_our_error(data: bytes) -> None:
    reading(lambda: parse_credentials(data))


@given(st.text() | st.binary())
def test_a_secret_is_what_it_was_made_of_or_refused(value: str | bytes) -> None:
    try:
        secret = Secret(value)
    except ValueError as caught:
        error = caught
    else:
        assert value in (secret.reveal(), secret.reveal_bytes())
        assert secret.reveal().encode() == secret.reveal_bytes()
        return
    assert type(error) is ValueError
    assert error.__context__ is None
