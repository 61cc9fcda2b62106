"""Codecs for keys: what is written is read back, and what would not be is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._keyvalue.codecs import FilterableKeyCodec, KeyCodec, encode_pattern
from nats_proto._keyvalue.errors import InvalidKeyError, WildcardNotSupportedError
from nats_proto._keyvalue.key_codecs import Base64Keys, ChainedKeys, PathKeys
from nats_proto._keyvalue.names import check_key
from tests.proto.keyvalue import Stream


class Hexadecimal:
    """A codec that turns a key into something else as a whole, and so takes no patterns."""

    def encode(self, key: str) -> str:
        return key.encode().hex()

    def decode(self, key: str) -> str:
        return bytes.fromhex(key).decode()


BOTH = ChainedKeys(PathKeys(), Base64Keys())
ONE_TAKES_NONE = ChainedKeys(Hexadecimal(), Base64Keys())


@pytest.mark.parametrize(
    ("codec", "key", "stored"),
    [
        (Base64Keys(), "Acme Inc.contact", "QWNtZSBJbmM.Y29udGFjdA"),  # as orbit.go writes it
        (Base64Keys(), "ä", "w6Q"),
        (Base64Keys(), "???>>>", "Pz8_Pj4-"),
        (PathKeys(), "user/profile/settings", "user.profile.settings"),
        (PathKeys(), "/etc/app", "_root_.etc.app"),
        (PathKeys(), "/", "_root_"),
        (PathKeys(), "plain", "plain"),
        (PathKeys(), "_rooted_/a", "_rooted_.a"),
        (BOTH, "/a b/c", "X3Jvb3Rf.YSBi.Yw"),
        (ChainedKeys(), "a.b", "a.b"),
    ],
)
def test_there_and_back(codec: KeyCodec, key: str, stored: str) -> None:
    assert codec.encode(key) == stored
    assert codec.decode(stored) == key
    assert check_key(stored) == stored


@pytest.mark.parametrize(
    ("codec", "pattern", "stored"),
    [
        (Base64Keys(), "a b.*.>", "YSBi.*.>"),
        (Base64Keys(), "*a", "KmE"),
        (PathKeys(), "etc/*/port", "etc.*.port"),
        (PathKeys(), "/>", "_root_.>"),
        (PathKeys(), ">", ">"),
        (BOTH, "/a b/*", "X3Jvb3Rf.YSBi.*"),
    ],
)
def test_patterns(codec: FilterableKeyCodec, pattern: str, stored: str) -> None:
    assert isinstance(codec, FilterableKeyCodec)
    assert codec.encode_pattern(pattern) == encode_pattern(codec, pattern) == stored


@pytest.mark.parametrize("codec", [Hexadecimal(), ONE_TAKES_NONE, ChainedKeys(Base64Keys(), Hexadecimal())])
def test_a_codec_that_takes_no_patterns(codec: KeyCodec) -> None:
    bucket = Stream().bucket.with_keys(codec)
    for pattern in ("a.*", "a.>", "*"):
        with pytest.raises(WildcardNotSupportedError, match="Hexadecimal takes no patterns"):
            bucket.filters(["a", pattern])
    assert bucket.filters([]) == bucket.filters([">"]) == ["$KV.B.>"]
    assert bucket.filters(["a b"]) == [f"$KV.B.{codec.encode('a b')}"]
    assert bucket.filters(["a*"], exact=True) == [f"$KV.B.{codec.encode('a*')}"]


def test_a_part_of_a_key_may_be_a_wildcard() -> None:
    """What is written with it is read with it, though a pattern would be more than this key."""
    bucket = Stream().bucket.with_keys(Base64Keys())
    assert bucket.stored_key("a.*") == "YQ.Kg"
    assert bucket.filters(["a.*"], exact=True) == ["$KV.B.YQ.Kg"]
    assert bucket.filters(["a.*"]) == ["$KV.B.YQ.*"]


@pytest.mark.parametrize("codec", [BOTH, Hexadecimal()])
def test_what_is_no_text_never_comes_to_a_codec(codec: KeyCodec) -> None:
    bucket = Stream().bucket.with_keys(codec)
    with pytest.raises(TypeError, match="key must be str, not int"):
        bucket.stored_key(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pattern of keys must be str, not bytes"):
        bucket.filters([b">"])  # type: ignore[list-item]


def test_a_slash_at_the_end_is_left_out() -> None:
    assert PathKeys().encode("a/b/") == "a.b"


@pytest.mark.parametrize(
    ("codec", "key"),
    [(PathKeys(), "app.conf"), (PathKeys(), "_root_/a"), (PathKeys(), "_root_"), (Base64Keys(), "\ud800")],
)
def test_keys_that_would_come_back_as_others(codec: KeyCodec, key: str) -> None:
    with pytest.raises(InvalidKeyError):
        codec.encode(key)


@pytest.mark.parametrize("key", ["", "a..b", ".a"])
def test_keys_that_no_codec_can_mend(key: str) -> None:
    with pytest.raises(InvalidKeyError):
        Stream().bucket.with_keys(Base64Keys()).stored_key(key)


@pytest.mark.parametrize("stored", ["a", "w6", "_w", "YS4", "YQ==", "//", "Q=", "plain.key"])
def test_stored_keys_that_it_has_not_made(stored: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        Base64Keys().decode(stored)


@given(st.text())
def test_any_text_comes_back(key: str) -> None:
    codec = Base64Keys()
    try:
        stored = check_key(codec.encode(key))
    except InvalidKeyError:
        return
    assert codec.decode(stored) == key


@given(st.text("ab/._r"))
def test_any_path_comes_back(key: str) -> None:
    codec = PathKeys()
    try:
        stored = check_key(codec.encode(key))
    except InvalidKeyError:
        return
    assert codec.decode(stored) == (key if key == "/" else key.removesuffix("/"))


@given(st.text("abYS4=_-.*>", max_size=12))
def test_hostile_stored_keys(stored: str) -> None:
    with contextlib.suppress(ValueError):
        assert Base64Keys().encode(Base64Keys().decode(stored)) == stored


@given(st.lists(st.text("aä/ .*>", min_size=1, max_size=3), min_size=1, max_size=3), st.permutations(range(3)))
def test_a_chain_goes_back_the_way_it_has_come(parts: list[str], order: list[int]) -> None:
    codecs: list[KeyCodec] = [Base64Keys(), Hexadecimal(), ChainedKeys(Base64Keys())]
    chain = ChainedKeys(*(codecs[place] for place in order))
    key = ".".join(parts)
    stored = key
    for place in order:
        stored = codecs[place].encode(stored)
    assert chain.encode(key) == stored
    assert chain.decode(stored) == key
