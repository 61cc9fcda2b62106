"""`Secret`: its text comes out by `reveal`, and by nothing else."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest

from nats_proto._secret import Secret
from tests.proto.secrecy import assert_silent, chain, error_of, forms, shown

TEXT = "S3cr3t-pässword"
RAW = TEXT.encode()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (TEXT, TEXT),
        (RAW, TEXT),
        ("", ""),
        (b"", ""),
        ("\x00\r\n\U0010ffff", "\x00\r\n\U0010ffff"),
    ],
    ids=ascii,
)
def test_its_text_is_revealed(given: str | bytes, text: str) -> None:
    secret = Secret(given)
    assert (secret.reveal(), secret.reveal_bytes()) == (text, text.encode())
    assert bool(secret) is bool(text)


SHOWN: dict[str, Callable[[Secret], object]] = {
    "str": str,
    "repr": repr,
    "ascii": ascii,
    "format": format,
    "format with a width": lambda secret: f"{secret:>40}",
    "f-string": lambda secret: f"{secret} {secret!s} {secret!r} {secret!a} {secret=}",
    "str.format": lambda secret: "{} {!r} {:s} {}".format(secret, secret, secret, [secret]),  # noqa: UP032
    "%s and %r": lambda secret: "%s %r %a %s" % (secret, secret, secret, (secret,)),  # noqa: UP031
    "containers": lambda secret: (
        f"{[secret]} {(secret,)} { {secret} } { {secret: secret} } {SimpleNamespace(a=secret)}"
    ),
    "pprint": lambda secret: pprint.pformat({"password": secret, "all": [secret] * 9}),
    "dir": lambda secret: [(name, getattr(secret, name)) for name in dir(secret)],
    "inspect": inspect.getmembers,
    "a dataclass": lambda secret: dataclasses.asdict(HOLDER(secret)),
    "a log record": lambda secret: vars(logging.makeLogRecord({"msg": "%s", "args": (secret,)})),
    "json with a default": lambda secret: json.dumps(secret, default=str),
    "hash": lambda secret: hash(secret),
    "copies": lambda secret: (copy.copy(secret), copy.deepcopy([secret])),
}


HOLDER = dataclasses.make_dataclass("HOLDER", ["password"])


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
@pytest.mark.parametrize("given", [TEXT, RAW], ids=["str", "bytes"])
def test_nothing_that_prints_has_its_text(show: Callable[[Secret], object], given: str | bytes) -> None:
    text = f"{show(Secret(given))}"
    assert not [form for form in forms(RAW) if form in text]


def test_what_is_printed_instead() -> None:
    secret = Secret(TEXT)
    assert (str(secret), repr(secret), f"{secret}", f"{secret:>9}") == ("***", "Secret('***')", "***", "***")
    assert str(Secret("")) == "***"  # nor is it told whether there is one


REFUSED: dict[str, Callable[[Secret], object]] = {
    **{f"pickle {protocol}": lambda secret, p=protocol: pickle.dumps(secret, p) for protocol in range(6)},
    "pickled in a list": lambda secret: pickle.dumps([secret]),
    "state": lambda secret: secret.__getstate__(),
    "vars": vars,
    "json": json.dumps,
    "msgspec": msgspec.json.encode,
    "msgspec builtins": msgspec.to_builtins,
    "bytes": lambda secret: bytes(secret),
    "len": lambda secret: len(secret),
    "iteration": lambda secret: list(secret),
    "index": lambda secret: secret[0],
    "addition": lambda secret: secret + "x",
    "joined": lambda secret: "".join([secret]),
    "order": lambda secret: secret < Secret("z"),
    "%d": lambda secret: "%d" % secret,  # noqa: UP031
    "a new attribute": lambda secret: setattr(secret, "text", 1),
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_it_is_no_value_like_others(use: Callable[[Secret], object]) -> None:
    error = error_of(lambda: use(Secret(TEXT)))
    assert isinstance(error, (TypeError, AttributeError))
    assert_silent(error, RAW)


def test_it_equals_only_another_secret_with_the_same_text() -> None:
    assert Secret(TEXT) == Secret(RAW)
    assert hash(Secret(TEXT)) == hash(Secret(RAW))
    assert len({Secret(TEXT), Secret(RAW), Secret("")}) == 2
    for other in (TEXT, RAW, None, Secret(TEXT + "x"), Secret(TEXT[:-1]), Secret(TEXT.lower()), Secret("")):
        assert Secret(TEXT) != other
        assert other != Secret(TEXT)


def test_a_copy_is_the_same_object() -> None:
    secret = Secret(TEXT)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"x": [secret]})["x"][0] is secret


@pytest.mark.parametrize(
    ("given", "kind", "wanted"),
    [
        ("S3cret\ud800", ValueError, "UTF-8"),
        ("\udcff\udcfe S3cret", ValueError, "UTF-8"),
        (b"S3cret\xff", ValueError, "UTF-8"),
        (b"S3cret\xed\xa0\x80", ValueError, "UTF-8"),
        (bytearray(b"S3cret"), TypeError, "not bytearray"),
        (["S3cret"], TypeError, "not list"),
        (None, TypeError, "not NoneType"),
    ],
    ids=ascii,
)
def test_what_is_no_text_is_refused_without_a_quote(given: str, kind: type[Exception], wanted: str) -> None:
    error = error_of(lambda: Secret(given))
    assert type(error) is kind  # no UnicodeError: it has the text as an attribute
    assert wanted in str(error)
    assert list(chain(error)) == [error]
    assert "S3cret" not in shown(error)


def test_a_text_that_lies_about_its_bytes_is_not_asked() -> None:
    class Liar(str):
        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            return b"other"

    assert Secret(Liar(TEXT)).reveal() == TEXT


def test_a_traceback_with_locals_does_not_show_it() -> None:
    def fail(password: Secret, backup: list[Secret]) -> None:
        raise RuntimeError(f"cannot use {password} of {backup}")

    error = error_of(lambda: fail(Secret(TEXT), [Secret(RAW)]))
    text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "password = Secret('***')" in text
    assert not [form for form in forms(RAW) if form in text]


def test_a_log_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError(Secret(TEXT))
    except RuntimeError:
        logging.getLogger("tests").exception("with %s and %r", Secret(TEXT), {"password": Secret(TEXT)})
    assert caplog.text.count("***") == 3
    assert not [form for form in forms(RAW) if form in caplog.text]


@pytest.mark.parametrize("form", sorted(forms(b"0123456789abcdef\xff")), ids=ascii)
def test_the_search_finds(form: str) -> None:
    with pytest.raises(AssertionError, match="pieces of a secret"):
        assert_silent(ValueError(f"x{form[2:11]}x"), b"0123456789abcdef\xff")
    held = SimpleNamespace(deep=form)
    error = ValueError("")
    error.__context__ = KeyError(held)
    with pytest.raises(AssertionError, match="pieces of a secret"):
        assert_silent(error, b"0123456789abcdef\xff")


@pytest.mark.parametrize("secret", ["544b5a67", "544B5A67", "7f544b5a67"])
def test_an_address_is_no_piece_of_a_secret(secret: str) -> None:
    held = "<Outbox object at 0x7f544b5a6740>, <Outbox object at 0x7F544B5A6740>"
    assert_silent(ValueError(held), secret.encode())
    with pytest.raises(AssertionError, match="pieces of a secret"):  # too long for an address
        assert_silent(ValueError(f"<Outbox object at 0x000000{secret}000000>"), secret.encode())
    with pytest.raises(AssertionError, match="pieces of a secret"):
        assert_silent(ValueError(f"0x{secret}"), secret.encode())
