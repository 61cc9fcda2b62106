"""Keys: published ones are read as everybody reads them, all else is refused, and no error shows a seed."""

from __future__ import annotations

import base64
import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from nats_proto import nkeys
from nats_proto._auth.nkey_text import wipe
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
from tests.proto.secrecy import assert_silent, error_of, shown

# Pairs that documentation and tests of several NATS clients show: everybody's, and nobody's.
PUBLISHED = [
    (
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
        "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
    ),
    (
        "SUAOXETHU4AZD2424VFDTDJ4TOEUSGZIXMRS6F3MSCMHUUORYHNEVM6ADE",
        "UB2YRJYJEFC5GZA5I47TCYYBIXQRAUA6B3MC4SR2WTXNUX6MTYM6BTBP",
    ),
    (
        "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU",
        "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L",
    ),
    (
        "SUAHBVFYZF3DIEO4UIHIZMJICVLURLBM5JJPK7GSVGP2QUC3NZ323BRE6A",
        "UCM5BG6AAZSEGREBCLG7PG4GFQNJABSAVIXC6VWS7TDHZFPIYFVYHIDG",
    ),
    (
        "SAANWFZ3JINNPERWT3ALE45U7GYT2ZDW6GJUIVPDKUF6GKAX6AISZJMAS4",
        "AATEJXG7UX4HFJ6ZPRTP22P6OYZER36YYD3GVBOVW7QHLU32P4QFFTZJ",
    ),
    (
        "SAADARCQJ3JA737Z443YNAZBNJNTFP7YNAF4QFUXKTBFBS4KAVK55DGSOQ",
        "AD2HQTUKOPBUGOPHA6KFRE6ZW5TH43D7P7E56OAQBZQLW2ECMNML6MVA",
    ),
    (
        "SOAELH6NJCEK4HST5644G4HK7TOAFZGRRJHNM4EUKUY7PPNDLIKO5IH4JM",
        "ODPWIBQJVIQ42462QAFI2RKJC4RZHCQSIVPRDDHWFCJAP52NRZK6Z2YC",
    ),
    (
        "SNAH645525YA4PNXHWWS46VNXXQTYAXOPKGHXYAHXZZ43XTDDG2ZQAX7LY",
        "NBZCD2OSMSDRVYCAI77HUN6A2WNDWNT2DMVVEW66DHNWCDXVOUWRCCK7",
    ),
    (
        "SCAP4LGVURDWVL37AZIM5O47UKANFI6FKBY77HMYF55CKW2XFKLNUBTTFE",
        "CAO36T42KFA2LMIZ6YHJKPQEJWT5ULYSV633FWBCEJ7MREZPHHC56BSC",
    ),
]
SIGNED = [
    (
        PUBLISHED[1][0],
        b"Hello World",
        "dMSvD2P1Fm6knQGdMwz5h41aPYIOiPqwR-a3b7UNVJr4FcEfFoAIRbm_gtvLGIpplHTc7sZnSMeaS3Ogm1W_CA",
    ),
    (
        PUBLISHED[1][0],
        b"RF4LfMlEbjrYcOE",
        "ZNNvu8FDPhpVlyIqjfZGnLCmoAUQggdfdvhGtWLy29AM9TSa6_j15J2iph37j6_FvkGdd1v3crDANwHCqJuQCw",
    ),
    (
        PUBLISHED[2][0],
        b"PXoWU7zWAMt75FY",
        "ZaAiVDgB5CeYoXoQ7cBCmq-ZllzUnGUoDVb8C7PilWvCs8XKfUchAUhz2P4BYAF--Dg3w05CqyQFRDiGL6LrDw",
    ),
    (
        PUBLISHED[2][0],
        b"iBFByN3zQjAT7dQ",
        "kagPGrixaWS5yuHqw9nTQrda1Q376fK3fRCGtYdF4_w2aSk-4O7Ca0JM0qvzm69HH6MoMps2yF6Q0Qs830JZCA",
    ),
]

# RFC 8032, 7.1: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]

SEED, PUBLIC_KEY = PUBLISHED[0]
RAW = bytes(decode_seed(SEED)[1])
FRESH = bytes(range(7, 39))
SIGNING = [prefix for prefix in Prefix if prefix is not Prefix.CURVE]


def padded(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8))


def unpadded(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def crc(data: bytes) -> bytes:
    """CRC-16/XMODEM bit by bit, low byte first."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value.to_bytes(2, "little")


def sealed(data: bytes) -> str:
    """Any bytes with a right checksum."""
    return unpadded(data + crc(data))


# --- what others published -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "public_key"), PUBLISHED)
def test_a_published_pair(seed: str, public_key: str) -> None:
    pair = KeyPair.from_seed(seed)
    assert (pair.public_key, pair.seed.reveal(), pair.prefix.value) == (public_key, seed, public_key[0])
    assert seed[:2] == f"S{pair.prefix.value}"
    prefix, raw = decode_public_key(public_key)
    assert encode_public_key(prefix, raw) == public_key
    prefix, raw = decode_seed(seed)
    assert encode_seed(prefix, raw) == Secret(seed)
    assert KeyPair.create(prefix, raw).public_key == public_key


@pytest.mark.parametrize(("seed", "data", "signature"), SIGNED)
def test_a_published_signature(seed: str, data: bytes, signature: str) -> None:
    pair = KeyPair.from_seed(seed)
    made = pair.sign(data)
    assert base64.urlsafe_b64encode(made).decode().rstrip("=") == signature
    assert pair.verify(data, made)
    assert verify(pair.public_key, data, made)


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_the_signatures_are_those_of_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    pair = KeyPair.create(Prefix.USER, bytes.fromhex(secret))
    assert decode_public_key(pair.public_key) == (Prefix.USER, bytes.fromhex(public))
    assert pair.sign(bytes.fromhex(message)).hex() == signature


def test_the_checksum_is_the_published_one() -> None:
    assert crc(b"123456789") == (0x31C3).to_bytes(2, "little")
    assert encode_public_key(Prefix.SERVER, FRESH) == sealed(bytes([13 << 3]) + FRESH)
    assert encode_seed(Prefix.SERVER, FRESH).reveal() == sealed(bytes([18 << 3 | 3, 8 << 3]) + FRESH)
    assert encode_seed(Prefix.USER, FRESH).reveal() == sealed(bytes([18 << 3 | 5, 0]) + FRESH)


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", Prefix, ids=lambda prefix: prefix.name)
@pytest.mark.parametrize(
    "raw", [FRESH, bytes(32), b"\xff" * 32, bytearray(FRESH)], ids=["some", "zeros", "ones", "array"]
)
def test_texts_go_both_ways(prefix: Prefix, raw: bytes) -> None:
    public = encode_public_key(prefix, raw)
    assert (len(public), public[0]) == (56, prefix.value)
    assert decode_public_key(public) == decode_public_key(public, prefix) == (prefix, bytes(raw))
    seed = encode_seed(prefix, raw)
    assert (len(seed.reveal()), seed.reveal()[:2]) == (58, f"S{prefix.value}")
    for given in (seed, seed.reveal(), seed.reveal_bytes(), bytearray(seed.reveal_bytes())):
        assert decode_seed(given) == decode_seed(given, prefix) == (prefix, bytearray(raw))
    assert raw in (FRESH, bytes(32), b"\xff" * 32)  # what was given is left as it was


@pytest.mark.parametrize("prefix", SIGNING, ids=lambda prefix: prefix.name)
def test_a_new_pair_signs(prefix: Prefix) -> None:
    pair = KeyPair.create(prefix, FRESH)
    assert pair.prefix is prefix
    again = KeyPair.from_seed(pair.seed)
    signature = pair.sign(b"nonce")
    assert len(signature) == 64
    assert again.sign(bytearray(b"nonce")) == signature
    assert verify(pair.public_key, b"nonce", signature)
    assert verify(pair.public_key, bytearray(b"nonce"), bytearray(signature))
    assert pair.public_key == again.public_key == encode_public_key(prefix, decode_public_key(pair.public_key)[1])


def test_a_wrong_signature_is_none() -> None:
    pair, other = KeyPair.create(Prefix.USER, FRESH), KeyPair.create(Prefix.USER, FRESH[::-1])
    signature = pair.sign(b"nonce")
    for data, given in [
        (b"nonce ", signature),
        (b"", signature),
        (b"nonce", signature[:-1]),
        (b"nonce", signature + b"\x00"),
        (b"nonce", b""),
        (b"nonce", bytes(64)),
        (b"nonce", signature[32:] + signature[:32]),
        (b"nonce", other.sign(b"nonce")),
    ]:
        assert not pair.verify(data, given)
        assert not verify(pair.public_key, data, given)
    assert not other.verify(b"nonce", signature)


def test_any_32_bytes_may_stand_for_a_public_key() -> None:
    """Also such as are no point of the curve: nothing verifies then."""
    for raw in (b"\xff" * 32, bytes(32), bytes([2] + [0] * 31)):
        assert verify(encode_public_key(Prefix.USER, raw), b"nonce", b"\x01" * 64) is False


# --- what is refused -------------------------------------------------------------------------------------------------


def flipped(text: str, at: int) -> str:
    letter = "B" if text[at] != "B" else "C"
    return text[:at] + letter + text[at + 1 :]


def bad_texts(good: str) -> dict[str, tuple[str, str]]:
    """Of a good public key or seed: what is wrong, the text, a part of the error's."""
    length = f"instead of {len(good)}"
    return {
        "empty": ("", length),
        "short": (good[:-1], length),
        "long": (good + "A", length),
        "twice": (good * 2, length),
        "huge": (good * 20_000, length),
        "blank in front": (f" {good}", length),
        "newline behind": (f"{good}\n", length),
        "padded": (f"{good}======", length),
        "blank inside": (f"{good[:30]} {good[31:]}", "other than"),
        "newline for the last": (f"{good[:-1]}\n", "other than"),
        "padding for the last": (f"{good[:-1]}=", "other than"),
        "lower case": (good.lower(), "other than"),
        "one lower": (f"{good[:20]}a{good[21:]}", "other than"),
        "zero": (f"{good[:20]}0{good[21:]}", "other than"),
        "one": (f"{good[:20]}1{good[21:]}", "other than"),
        "full width": (f"{good[:20]}\uff21{good[21:]}", "other than"),
        "surrogate": (f"{good[:20]}\ud800{good[21:]}", "other than"),
        "NUL": (f"{good[:20]}\x00{good[21:]}", "other than"),
        "checksum": (flipped(good, len(good) - 3), "checksum"),
        "body": (flipped(good, 20), "checksum"),
        "first": (flipped(good, 0), "checksum"),
        "swapped": (good[:20] + good[21] + good[20] + good[22:], "checksum"),
        "all A": ("A" * (len(good) - 1) + "B", "checksum"),
    }


@pytest.mark.parametrize(("text", "wanted"), bad_texts(PUBLIC_KEY).values(), ids=bad_texts(PUBLIC_KEY))
def test_a_public_key_is_refused(text: str, wanted: str) -> None:
    for error in (
        error_of(lambda: decode_public_key(text)),
        error_of(lambda: verify(text, b"", bytes(64))),
    ):
        assert isinstance(error, CredentialsError)
        assert wanted in str(error)
        assert str(error).startswith("the public key")
        assert str(error).isprintable()
        assert len(str(error)) < 200


@pytest.mark.parametrize(("text", "wanted"), bad_texts(SEED).values(), ids=bad_texts(SEED))
def test_a_seed_is_refused(text: str, wanted: str) -> None:
    given: list[str | bytes] = [text]
    if text.isascii():
        given += [text.encode(), bytearray(text.encode()), Secret(text)]
    for each in given:
        for error in (
            error_of(lambda each=each: decode_seed(each)),
            error_of(lambda each=each: KeyPair.from_seed(each)),
        ):
            assert isinstance(error, CredentialsError)
            assert str(error).startswith("the seed ")
            assert wanted in str(error)
            assert len(str(error)) < 200
            assert_silent(error, SEED.encode(), SEED.lower().encode(), RAW)


def test_the_unused_bits_of_a_seed_are_zero() -> None:
    """58 characters have two bits more than 36 bytes; other clients take any."""
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".index(SEED[-1])
    assert last & 0b11 == 0
    for bits in (1, 2, 3):
        other = SEED[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[last | bits]
        with pytest.raises(CredentialsError, match="checksum"):
            decode_seed(other)


GOOD_PUBLIC = {bytes([value << 3]) for value in (0, 2, 13, 14, 20, 23)}
GOOD_SEED = {bytes([18 << 3 | kind >> 5, kind << 3 & 0xFF]) for (kind,) in GOOD_PUBLIC}


def kinds_taken(read: Callable[[str], object], beginnings: list[bytes]) -> set[bytes]:
    """Which first bytes are taken, the checksum always being right; the others get the error for it."""
    errors = {}
    taken = set()
    for beginning in beginnings:
        try:
            read(sealed(beginning + FRESH))
        except CredentialsError as error:
            errors[beginning] = str(error)
        else:
            taken.add(beginning)
    assert [text for text in errors.values() if "has a beginning that is none of" not in text] == []
    return taken


def test_every_other_prefix_is_refused() -> None:
    assert kinds_taken(decode_public_key, [bytes([value]) for value in range(256)]) == GOOD_PUBLIC
    with_s = [bytes([first, second]) for first in range(18 << 3, 19 << 3) for second in range(256)]
    others = [bytes([first, second]) for first in range(256) for second in (0, 0x40, 0x55)]
    assert kinds_taken(decode_seed, with_s + others) == GOOD_SEED


def test_a_seed_is_no_public_key_and_the_other_way_round() -> None:
    with pytest.raises(CredentialsError, match="58 characters instead of 56"):
        decode_public_key(SEED)
    with pytest.raises(CredentialsError, match="56 characters instead of 58"):
        decode_seed(PUBLIC_KEY)
    with pytest.raises(CredentialsError, match="beginning"):
        decode_public_key(sealed(padded(SEED)[:33]))
    with pytest.raises(CredentialsError, match="beginning"):
        decode_seed(sealed(padded(PUBLIC_KEY)[:33] + b"\x00"))


@pytest.mark.parametrize("prefix", Prefix, ids=lambda prefix: prefix.name)
def test_another_kind_is_refused_where_one_is_expected(prefix: Prefix) -> None:
    for other in set(Prefix) - {prefix}:
        wanted = rf"is of kind {prefix.name}, and one of kind {other.name} is needed$"
        with pytest.raises(CredentialsError, match=wanted):
            decode_public_key(encode_public_key(prefix, FRESH), other)
        with pytest.raises(CredentialsError, match=wanted):
            decode_seed(encode_seed(prefix, FRESH), other)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_key_has_32_bytes(size: int) -> None:
    secret = (b"0123456789abcdef" * 4)[:size]
    for call in (
        lambda: KeyPair.create(Prefix.USER, secret),
        lambda: encode_seed(Prefix.USER, secret),
        lambda: encode_public_key(Prefix.USER, bytearray(secret)),
    ):
        error = error_of(call)
        assert isinstance(error, CredentialsError)
        assert f"32 bytes, not of {size}" in str(error)
        assert_silent(error, secret)


def test_curve_keys_do_not_sign() -> None:
    seed = encode_seed(Prefix.CURVE, FRESH)
    for call in (
        lambda: KeyPair.create(Prefix.CURVE, FRESH),
        lambda: KeyPair.from_seed(seed),
        lambda: verify(encode_public_key(Prefix.CURVE, FRESH), b"", bytes(64)),
    ):
        error = error_of(call)
        assert isinstance(error, CredentialsError)
        assert "signs nothing" in str(error)
        assert_silent(error, FRESH, seed.reveal_bytes())


@pytest.mark.parametrize(
    "call",
    [
        lambda: KeyPair.create(Prefix.USER, SEED),
        lambda: KeyPair.create("U", RAW),
        lambda: KeyPair.create(Prefix.USER, list(RAW)),
        lambda: KeyPair.create(Prefix.USER, memoryview(RAW)),
        lambda: KeyPair.from_seed([SEED]),
        lambda: KeyPair.from_seed(memoryview(SEED.encode())),
        lambda: KeyPair.from_seed(None),
        lambda: encode_seed("U", RAW),
        lambda: encode_seed(Prefix.USER, SEED),
        lambda: encode_public_key("U", RAW),
        lambda: encode_public_key(Prefix.USER, SEED),
        lambda: decode_seed({SEED: SEED}),
        lambda: decode_public_key(SEED.encode()),
        lambda: decode_public_key(Secret(SEED)),
        lambda: verify(SEED.encode(), b"", b""),
        lambda: verify(PUBLIC_KEY, SEED, b""),
        lambda: verify(PUBLIC_KEY, b"", SEED),
        lambda: KeyPair.from_seed(SEED).verify(SEED, b""),
        lambda: KeyPair.from_seed(SEED).verify(b"", SEED),
        lambda: KeyPair.from_seed(SEED).sign("nonce"),
        lambda: KeyPair.from_seed(SEED).sign(5),
    ],
)
def test_other_types_are_refused(call: Callable[[], object]) -> None:
    error = error_of(call)
    assert type(error) is TypeError
    assert "must be" in str(error)
    assert_silent(error, SEED.encode(), RAW)


# --- what is seen of a pair ------------------------------------------------------------------------------------------


def test_only_the_public_key_is_shown() -> None:
    pair = KeyPair.from_seed(SEED)
    assert f"{pair}" == repr(pair) == f"<KeyPair {PUBLIC_KEY}>"
    members = inspect.getmembers(pair, lambda value: not callable(value))
    assert_silent(
        ValueError(members, [getattr(pair, name) for name in dir(pair) if name != "seed"]), SEED.encode(), RAW
    )
    with pytest.raises(TypeError):
        vars(pair)


@pytest.mark.parametrize(
    "use",
    [copy.copy, copy.deepcopy, KeyPair.__getstate__]
    + [lambda pair, protocol=protocol: pickle.dumps(pair, protocol) for protocol in range(6)],
)
def test_a_pair_is_neither_copied_nor_pickled(use: Callable[[KeyPair], object]) -> None:
    error = error_of(lambda: use(KeyPair.from_seed(SEED)))
    assert isinstance(error, TypeError)
    assert "neither pickled nor copied" in str(error)
    assert_silent(error, SEED.encode(), RAW)


def test_a_wiped_pair_has_no_seed() -> None:
    pair = KeyPair.from_seed(SEED)
    signature = pair.sign(b"nonce")
    buffer: bytearray = pair._KeyPair__raw
    assert bytes(buffer) == RAW
    pair.wipe()
    pair.wipe()
    assert buffer == bytes(32)
    for call in (lambda: pair.seed, lambda: pair.sign(b"nonce")):
        error = error_of(call)
        assert isinstance(error, CredentialsError)
        assert "wiped" in str(error)
        assert PUBLIC_KEY in str(error)
        assert_silent(error, SEED.encode(), RAW)
    assert repr(pair) == f"<KeyPair {PUBLIC_KEY} wiped>"
    assert (pair.public_key, pair.prefix) == (PUBLIC_KEY, Prefix.USER)
    assert pair.verify(b"nonce", signature)


def test_a_pair_is_wiped_at_the_end_of_its_block() -> None:
    with KeyPair.from_seed(SEED) as pair:
        buffer = pair._KeyPair__raw
        assert buffer == RAW
    assert buffer == bytes(32)
    pair = KeyPair.from_seed(SEED)
    with pytest.raises(ZeroDivisionError), pair:
        pair.sign(bytes(1 // 0))
    assert pair._KeyPair__raw == bytes(32)


def test_a_pair_has_its_own_bytes() -> None:
    given = bytearray(RAW)
    text = bytearray(SEED.encode())
    first, second = KeyPair.create(Prefix.USER, given), KeyPair.from_seed(text)
    wipe(given)
    wipe(text)
    assert first.seed == second.seed == Secret(SEED)
    first.wipe()
    assert second.seed == Secret(SEED)


def test_a_pair_wiped_while_its_seed_is_copied_gives_nothing() -> None:
    """The order that no two threads may break: the mark is set before the bytes go, and looked at behind the copy."""

    class Bytes(bytearray):
        def __setitem__(self, key: object, value: object) -> None:
            seen.append(error_of(lambda: pair.sign(b"nonce")))
            super().__setitem__(key, value)

    seen: list[Exception] = []
    pair = KeyPair(Prefix.USER, Bytes(RAW), decode_public_key(PUBLIC_KEY)[1])
    pair.wipe()
    assert [type(error) for error in seen] == [CredentialsError]
    assert_silent(seen[0], RAW)


# --- no seed in tracebacks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: decode_public_key(SEED),
        lambda: decode_public_key(SEED[2:]),
        lambda: decode_public_key(f"A{SEED[3:]}"),
        lambda: decode_public_key(f"U{SEED[1:-2]}", Prefix.ACCOUNT),
        lambda: verify(SEED, b"", b""),
        lambda: decode_seed(SEED, Prefix.ACCOUNT),
        lambda: decode_seed(SEED[:-1]),
        lambda: decode_seed(Secret(SEED[:-1] + "A")),
        lambda: KeyPair.from_seed(flipped(SEED, 40)),
        lambda: KeyPair.from_seed(bytearray(flipped(SEED, 57).encode())),
        lambda: KeyPair.create(Prefix.USER, RAW + b"\x00"),
    ],
)
def test_no_error_shows_a_seed(call: Callable[[], object]) -> None:
    error = error_of(call)
    assert isinstance(error, CredentialsError)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert_silent(error, SEED.encode(), RAW, RAW[:30])


def test_a_public_key_is_shown_in_part() -> None:
    with pytest.raises(CredentialsError, match=r"^the public key 'UDXU4RC\.\.\.' is damaged"):
        decode_public_key(flipped(PUBLIC_KEY, 30))
    with pytest.raises(CredentialsError, match=r"^the public key has 55 characters"):
        decode_public_key(PUBLIC_KEY[1:])
    with pytest.raises(CredentialsError, match=r"^the public key is damaged"):
        decode_public_key(SEED[:56])


# --- the extra -------------------------------------------------------------------------------------------------------


def test_the_module_does_without_cryptography_until_it_is_needed() -> None:
    code = (
        "import sys; from nats_proto.nkeys import *\n"
        f"decode_seed({SEED!r}), decode_public_key({PUBLIC_KEY!r}), encode_seed(Prefix.USER, bytes(32))\n"
        "print('cryptography' in sys.modules)\n"
        f"KeyPair.from_seed({SEED!r})\n"
        "print('cryptography' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout, ran.stderr) == ("False\nTrue\n", "")


def test_without_cryptography_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = KeyPair.from_seed(SEED)
    signature = pair.sign(b"nonce")
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"] + ["cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    for call in (
        lambda: KeyPair.create(Prefix.USER, RAW),
        lambda: KeyPair.from_seed(SEED),
        lambda: pair.sign(b"nonce"),
        lambda: pair.verify(b"nonce", signature),
        lambda: verify(PUBLIC_KEY, b"nonce", signature),
    ):
        error = error_of(call)
        assert isinstance(error, CredentialsError)
        assert 'pip install "nats-proto[nkeys]"' in str(error)
        assert "cryptography" in str(error)
        assert_silent(error, SEED.encode(), RAW, signature)
    assert decode_seed(SEED) == (Prefix.USER, bytearray(RAW))
    assert pair.seed == Secret(SEED)


def test_a_cryptography_without_ed25519_gives_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As older ones have it in FIPS mode. What they raise comes from frames that hold the seed."""

    def refuse(cls: object, data: bytes) -> object:
        raise OSError(f"not with {bytes(data)!r}")

    pair = KeyPair.from_seed(SEED)
    signature = pair.sign(b"nonce")
    monkeypatch.setattr(ed25519.Ed25519PrivateKey, "from_private_bytes", classmethod(refuse))
    monkeypatch.setattr(ed25519.Ed25519PublicKey, "from_public_bytes", classmethod(refuse))
    for call in (
        lambda: KeyPair.create(Prefix.USER, RAW),
        lambda: KeyPair.from_seed(SEED),
        lambda: pair.sign(b"nonce"),
        lambda: pair.verify(b"nonce", signature),
        lambda: verify(PUBLIC_KEY, b"nonce", signature),
    ):
        error = error_of(call)
        assert isinstance(error, CredentialsError)
        assert str(error) == "the installed cryptography does not do Ed25519 (OSError)"
        assert "OSError(" not in shown(error)
        assert_silent(error, SEED.encode(), RAW, signature)


def test_what_is_public() -> None:
    assert sorted(nkeys.__all__) == [
        "KeyPair",
        "Prefix",
        "decode_public_key",
        "decode_seed",
        "encode_public_key",
        "encode_seed",
        "verify",
    ]
