"""Codecs for values: what is written is read back, as clients of other languages write it."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nats_proto._keyvalue.codecs import ValueCodec, values_of
from nats_proto._keyvalue.value_codecs import Base64Values, ChainedValues


class Compressed:
    def encode(self, value: bytes) -> bytes:
        return zlib.compress(value)

    def decode(self, data: bytes) -> bytes:
        try:
            return zlib.decompress(data)
        except zlib.error as error:
            raise ValueError("it was not compressed") from error


BASE64 = Base64Values()
COMPRESSED = Compressed()
CODECS: list[ValueCodec] = [BASE64, COMPRESSED, ChainedValues(COMPRESSED, BASE64), ChainedValues()]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (b"", b""),
        (b"info@acme.com", b"aW5mb0BhY21lLmNvbQ"),
        (b"a", b"YQ"),
        (b"ab", b"YWI"),
        (b"abc", b"YWJj"),
        (b"\xfb\xff\xbe", b"-_--"),
        (b"???>>>", b"Pz8_Pj4-"),
    ],
)
def test_base64_as_go_writes_it(value: bytes, stored: bytes) -> None:
    """In the alphabet for URLs and without padding, which is ``base64.RawURLEncoding`` there."""
    assert BASE64.encode(value) == stored
    assert BASE64.decode(stored) == value
    assert BASE64.decode(stored + b"=" * (-len(stored) % 4)) == value


@pytest.mark.parametrize(
    "data", [b"a", b"YQ=====", b"Y=Q=", b"+_--", b"//==", b"YQ\n", b"Y Q", b"\xff\xff", b"=", b"Y!Q="]
)
def test_what_is_no_base64(data: bytes) -> None:
    with pytest.raises(ValueError, match="is no base64"):
        BASE64.decode(data)


def test_a_chain_goes_from_left_to_right() -> None:
    chain = ChainedValues(COMPRESSED, BASE64)
    stored = chain.encode(bytes(1000))
    assert stored == BASE64.encode(zlib.compress(bytes(1000)))
    assert chain.decode(stored) == bytes(1000)
    with pytest.raises(ValueError, match="no base64"):
        chain.decode(zlib.compress(b""))
    with pytest.raises(ValueError, match="not compressed"):
        chain.decode(b"YQ")


@given(st.binary(), st.lists(st.sampled_from(CODECS), max_size=4))
@example(b"", [])
def test_any_value_comes_back(value: bytes, codecs: list[ValueCodec]) -> None:
    chain = ChainedValues(*codecs)
    assert chain.decode(chain.encode(value)) == value
    values = values_of(bytes, chain)
    assert values.read(values.encode(value)) == value


@given(st.lists(st.integers()), st.lists(st.sampled_from(CODECS), max_size=4))
def test_any_value_of_a_type_comes_back(value: list[int], codecs: list[ValueCodec]) -> None:
    values = values_of(list[int], ChainedValues(*codecs))
    assert values.read(values.encode(value)) == value


@given(st.binary(max_size=12) | st.text("AQgwYb-_+/= \n", max_size=12).map(str.encode))
def test_hostile_values(data: bytes) -> None:
    """Two texts for one value differ in padding, and in bits of the last character that mean nothing."""
    with contextlib.suppress(ValueError):
        value = BASE64.decode(data)
        assert BASE64.encode(value)[:-1] == data.rstrip(b"=")[:-1]
