"""``.creds`` files: what tools write is read, what is cut or mixed up is refused, and nothing of it shows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from nats_proto._auth.user_credentials import MAX_CREDENTIALS, UserCredentials, parse_credentials
from nats_proto._secret import Secret
from nats_proto.errors import CredentialsError
from nats_proto.nkeys import Prefix, encode_seed
from tests.proto.secrecy import assert_silent, error_of

JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVQUJDREVGR0hJIn0.c2lnbmF0dXJlLXdpdGgtXy1hbmQtLQ"
SEED = encode_seed(Prefix.USER, bytes(range(100, 132))).reveal()
ACCOUNT_SEED = encode_seed(Prefix.ACCOUNT, bytes(range(100, 132))).reveal()

JWT_BLOCK = f"-----BEGIN NATS USER JWT-----\n{JWT}\n------END NATS USER JWT------\n"
SEED_BLOCK = f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
WARNING = """
************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

"""
WHOLE = f"{JWT_BLOCK}{WARNING}{SEED_BLOCK}\n*************************************************************\n"
BOTH = UserCredentials(jwt=Secret(JWT), seed=Secret(SEED))
JWT_ONLY = UserCredentials(jwt=Secret(JWT))


def indented(text: str, blanks: str) -> str:
    return "".join(f"{blanks}{line}{blanks}\n" for line in text.splitlines())


READ = {
    "as nsc writes it": (WHOLE, BOTH),
    "CRLF": (WHOLE.replace("\n", "\r\n"), BOTH),
    "CRLF here and there": (WHOLE.replace("JWT-----\n", "JWT-----\r\n"), BOTH),
    "no newline at the end": ((JWT_BLOCK + SEED_BLOCK).rstrip(), BOTH),
    "the seed first": (SEED_BLOCK + JWT_BLOCK, BOTH),
    "side by side": (JWT_BLOCK + SEED_BLOCK, BOTH),
    "a byte order mark": (f"\ufeff{WHOLE}", BOTH),
    "blanks around every line": (indented(WHOLE, "  \t "), BOTH),
    "blank lines": (WHOLE.replace("\n", "\n\n \t\n"), BOTH),
    "blank lines in front": (f"\n\r\n\n{WHOLE}", BOTH),
    "three dashes": (WHOLE.replace("------", "---").replace("-----", "---"), BOTH),
    "many dashes": (WHOLE.replace("------", "-" * 40), BOTH),
    "one dash more in front": (WHOLE.replace("-----BEGIN", "------BEGIN"), BOTH),
    "blanks within the dashes": (WHOLE.replace("-BEGIN ", "- BEGIN  ").replace("JWT-", "JWT\t -"), BOTH),
    "text around": (f"for the billing service:\n--\n{WHOLE}-- \nbye\n", BOTH),
    "text in other alphabets": (f"für später ✓\n{WHOLE}", BOTH),
    "dashes around": (f"{'-' * 80}\n{WHOLE}{'-' * 80}\n", BOTH),
    "another armoured thing": (f"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n{WHOLE}", BOTH),
    "a seed in the text": (f"{WHOLE}{ACCOUNT_SEED}\n", BOTH),
    "no seed": (JWT_BLOCK, JWT_ONLY),
    "no seed, but the text for it": (JWT_BLOCK + WARNING, JWT_ONLY),
    "a JWT alone": (JWT, JWT_ONLY),
    "a JWT alone in a line": (f"\n  {JWT} \r\n\n", JWT_ONLY),
    "a JWT alone behind a mark": (f"\ufeff{JWT}\n", JWT_ONLY),
    "as long as it may be": (WHOLE + "x" * (MAX_CREDENTIALS - len(WHOLE)), BOTH),
}


@pytest.mark.parametrize(("text", "expected"), READ.values(), ids=READ)
def test_credentials_are_read(text: str, expected: UserCredentials) -> None:
    for given in (text, text.encode(), Secret(text)):
        found = parse_credentials(given)
        assert found == expected
        assert found.jwt.reveal() == JWT
        assert found.seed is None or found.seed.reveal() == SEED


def test_a_file_of_a_million_lines_is_read() -> None:
    assert parse_credentials(WHOLE.encode().ljust(MAX_CREDENTIALS, b"\n")) == BOTH


@pytest.mark.parametrize("around", [b"\xff\x00\xfe\n", b"\x80\r\n", b"latin-1: \xe9\n"])
def test_text_around_need_not_be_utf_8(around: bytes) -> None:
    assert parse_credentials(around * 2 + WHOLE.encode() + around) == BOTH
    assert parse_credentials("\ud800\n" + WHOLE) == BOTH


def jwt_block(jwt: str) -> str:
    return JWT_BLOCK.replace(JWT, jwt)


def seed_block(seed: str) -> str:
    return SEED_BLOCK.replace(SEED, seed)


NO_JWT = "there is no line -----BEGIN NATS USER JWT-----"
NO_FORM = "what stands in line 2 is no JWT: it must be three parts of base64url"
REFUSED = {
    # --- the JWT
    "empty": ("", NO_JWT),
    "blanks": (" \n\t\r\n", NO_JWT),
    "a text": ("hello\nworld\n", NO_JWT),
    "the seed alone": (SEED_BLOCK, NO_JWT),
    "a seed without dashes": (SEED, "there is a seed alone; it is given as nkey_seed, not as credentials"),
    "two JWTs without dashes": (f"{JWT}\n{JWT}\n", NO_JWT),
    "JWT and seed without dashes": (f"{JWT}\n{SEED}\n", NO_JWT),
    "a JWT without dashes, then a seed": (f"{JWT}\n{SEED_BLOCK}", NO_JWT),
    "lower case": (WHOLE.replace("BEGIN NATS", "begin nats").replace("END NATS", "end nats"), NO_JWT),
    "two parts": (jwt_block("eyJh.eyJh"), NO_FORM),
    "four parts": (jwt_block("eyJh.eyJh.eyJh.eyJh"), NO_FORM),
    "an empty part": (jwt_block("eyJh..eyJh"), NO_FORM),
    "an empty signature": (jwt_block("eyJh.eyJh."), NO_FORM),
    "padding": (jwt_block("eyJhYg==.eyJhYg==.eyJhYg=="), NO_FORM),
    "the other alphabet": (jwt_block("eyJh.ey+h.ey/h"), NO_FORM),
    "a blank inside": (jwt_block("eyJh.ey Jh.eyJh"), NO_FORM),
    "no multiple of a byte": (jwt_block("eyJh.eyJhe.eyJh"), NO_FORM),
    "beyond ASCII": (jwt_block("eyJh.eyJhé.eyJh"), NO_FORM),
    "the seed in the place of the JWT": (jwt_block(SEED), NO_FORM),
    # --- the seed
    "an account's seed": (
        JWT_BLOCK + seed_block(ACCOUNT_SEED),
        "in line 5 the seed is of kind ACCOUNT, and one of kind USER is needed",
    ),
    "a short seed": (JWT_BLOCK + seed_block(SEED[:-1]), "in line 5 the seed has 57 characters instead of 58"),
    "a damaged seed": (JWT_BLOCK + seed_block(SEED[:-1] + "Q"), "in line 5 the seed is damaged: its checksum is wrong"),
    "a blank in the seed": (
        JWT_BLOCK + seed_block(f"{SEED[:9]} {SEED[10:]}"),
        "in line 5 the seed has characters other than A to Z and 2 to 7",
    ),
    "the JWT in the place of the seed": (
        JWT_BLOCK + seed_block(JWT),
        f"in line 5 the seed has {len(JWT)} characters instead of 58",
    ),
    "beyond ASCII in the seed": (
        JWT_BLOCK + seed_block(f"{SEED[:-1]}é"),
        "in line 5 the seed has 59 characters instead of 58",
    ),
    # --- the blocks
    "no end line": (f"-----BEGIN NATS USER JWT-----\n{JWT}\n", "the block begun in line 1 has no end line"),
    "no end line, no value": ("\n-----BEGIN NATS USER JWT-----\n", "the block begun in line 2 has no end line"),
    "no end line of the seed": (WHOLE[: WHOLE.index("------END USER")], "the block begun in line 9 has no end line"),
    "no end line of the JWT": (
        WHOLE.replace("------END NATS USER JWT------\n", ""),
        "the block begun in line 1 has more than one line, the second is line 4",
    ),
    "no end line in between": (
        f"-----BEGIN NATS USER JWT-----\n{JWT}\n{SEED_BLOCK}",
        "the block begun in line 1 has no end line before line 3",
    ),
    "the begin line again": (
        JWT_BLOCK.replace("------END", "-----BEGIN"),
        "the block begun in line 1 has no end line before line 3",
    ),
    "the end line of the other": (
        WHOLE.replace("END NATS USER JWT", "END USER NKEY SEED"),
        "the block begun in line 1 has no end line before line 3",
    ),
    "no begin line": (f"{JWT}\n------END NATS USER JWT------\n", "line 2 ends a block that no line has begun"),
    "no begin line of the seed": (
        f"{JWT_BLOCK}{SEED}\n------END USER NKEY SEED------\n",
        "line 5 ends a block that no line has begun",
    ),
    "two dashes": (WHOLE.replace("-----BEGIN USER", "--BEGIN USER"), "line 11 ends a block that no line has begun"),
    "two dashes behind": (
        JWT_BLOCK + SEED_BLOCK.replace("SEED-----\n", "SEED--\n"),
        "line 6 ends a block that no line has begun",
    ),
    "two end lines": (f"{JWT_BLOCK}------END NATS USER JWT------\n", "line 4 ends a block that no line has begun"),
    "an empty block": (jwt_block(""), "the block begun in line 1 is empty"),
    "a blank block": (jwt_block(" \n\t\r\n"), "the block begun in line 1 is empty"),
    "an empty seed": (JWT_BLOCK + seed_block(""), "the block begun in line 4 is empty"),
    "two lines": (jwt_block(f"{JWT}\n{JWT}"), "the block begun in line 1 has more than one line, the second is line 3"),
    "a JWT in two pieces": (
        jwt_block(f"{JWT[:40]}\n\n{JWT[40:]}"),
        "the block begun in line 1 has more than one line, the second is line 4",
    ),
    "a carriage return for a newline": (WHOLE.replace("\n", "\r"), NO_JWT),
    "two JWTs": (WHOLE + JWT_BLOCK, "lines 1 and 14 begin blocks of the same kind"),
    "two seeds": (SEED_BLOCK + WHOLE, "lines 1 and 12 begin blocks of the same kind"),
    "an account's JWT": (
        WHOLE.replace("NATS USER JWT", "NATS ACCOUNT JWT"),
        "the block begun in line 1 has the JWT or seed of something else than a user",
    ),
    "an account's seed block": (
        WHOLE.replace("USER NKEY SEED", "ACCOUNT NKEY SEED"),
        "the block begun in line 9 has the JWT or seed of something else than a user",
    ),
    # --- the whole
    "too long": (
        WHOLE + "x" * (MAX_CREDENTIALS - len(WHOLE) + 1),
        "there are 1048577 bytes, 1048576 at most are looked at",
    ),
    "too long in UTF-8": (
        WHOLE + "é" * (MAX_CREDENTIALS // 2),
        f"there are {MAX_CREDENTIALS + len(WHOLE)} bytes, 1048576 at most are looked at",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_credentials_are_refused(text: str, reason: str) -> None:
    for given in (text, text.encode(), Secret(text)):
        error = error_of(lambda given=given: parse_credentials(given))
        assert isinstance(error, CredentialsError)
        assert str(error) == f"the credentials cannot be used: {reason}"
        assert error.__cause__ is None
        assert error.__context__ is None
        assert_silent(error, JWT.encode(), SEED.encode(), ACCOUNT_SEED.encode(), bytes(range(100, 132)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_called_by_its_name(encoding: str) -> None:
    """The way Windows PowerShell writes what is redirected to a file."""
    mark = b"" if encoding == "utf-16" else b"\xfe\xff"
    with pytest.raises(CredentialsError, match="UTF-16; save it as UTF-8"):
        parse_credentials(mark + WHOLE.encode(encoding))


def test_line_numbers_count_every_line() -> None:
    for newline in ("\n", "\r\n"):
        error = error_of(lambda newline=newline: parse_credentials((f"a{newline}" * 41 + jwt_block("x")).encode()))
        assert "in line 43 is no JWT" in str(error)


def test_a_file_cut_anywhere_is_refused_or_has_the_jwt_whole() -> None:
    """Byte by byte: what is given is never a part of the JWT or the seed."""
    for text in (WHOLE.encode(), WHOLE.replace("\n", "\r\n").encode()):
        end = text.index(b"------END NATS USER JWT------") + len(b"------END NATS USER JWT---")
        ends = set()
        for at in range(len(text)):
            try:
                found = parse_credentials(text[:at])
            except CredentialsError:
                continue
            assert found in (BOTH, JWT_ONLY)
            assert at >= end
            ends.add((at >= text.index(b"------END USER NKEY SEED------") + 26, found.seed is not None))
        assert ends == {(False, False), (True, True)}


@pytest.mark.parametrize(
    "call",
    [
        lambda: parse_credentials([WHOLE]),
        lambda: parse_credentials(bytearray(WHOLE.encode())),
        lambda: parse_credentials(memoryview(WHOLE.encode())),
        lambda: parse_credentials(None),
    ],
)
def test_other_types_are_refused(call: Callable[[], object]) -> None:
    error = error_of(call)
    assert type(error) is TypeError
    assert "must be bytes, str or a Secret" in str(error)
    assert_silent(error, JWT.encode(), SEED.encode())


def test_credentials_show_nothing() -> None:
    assert repr(BOTH) == f"{BOTH}" == "UserCredentials(jwt=Secret('***'), seed=Secret('***'))"
    assert repr(JWT_ONLY) == "UserCredentials(jwt=Secret('***'), seed=None)"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(BOTH, protocol)


def test_credentials_are_values() -> None:
    again = parse_credentials(WHOLE)
    assert again == BOTH == copy.copy(BOTH) == copy.deepcopy(BOTH)
    assert hash(again) == hash(BOTH)
    assert again != JWT_ONLY
    with pytest.raises(AttributeError):
        again.seed = None
