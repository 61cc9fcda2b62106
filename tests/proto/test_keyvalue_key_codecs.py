"""Codecs for keys: what is written is read back, and what would not be is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._keyvalue.codecs import KeyCodec
from nats_proto._keyvalue.errors import InvalidKeyError
from nats_proto._keyvalue.key_codecs import Base64Keys, ChainedKeys, PathKeys
from nats_proto._keyvalue.names import check_key
from tests.proto.keyvalue import Stream

BOTH = ChainedKeys(PathKeys(), Base64Keys())


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
def test_patterns(codec: KeyCodec, pattern: str, stored: str) -> None:
    assert codec.encode_pattern(pattern) == stored


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
