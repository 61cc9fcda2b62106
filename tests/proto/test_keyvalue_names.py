"""What may be a bucket, a key, or a pattern (ADR-8); and what a message means for its key."""

from __future__ import annotations

from typing import Any

import pytest

from nats_proto._jetstream.errors import JetStreamDecodeError
from nats_proto._keyvalue.codecs import BYTES, check_value_type, values_of
from nats_proto._keyvalue.entry import KeyValueEntry, operation_of
from nats_proto._keyvalue.errors import InvalidBucketError, InvalidKeyError, KeyDeletedError
from nats_proto._keyvalue.names import check_bucket, check_key, check_pattern, stream_name
from nats_proto._wire.headers import Headers


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 252])
def test_buckets(name: str) -> None:
    assert check_bucket(name) == name
    assert stream_name(name) == f"KV_{name}"


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "empty"), ("a.b", "'.'"), ("a b", "' '"), ("ä", "xe4"), ("a\n", "\\n"), ("a*", "'*'"), ("x" * 253, "252")],
)
def test_no_buckets(name: str, said: str) -> None:
    with pytest.raises(InvalidBucketError) as raised:
        check_bucket(name)
    assert said in str(raised.value)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("key", ["a", "a.b", "A/b=c_-9", "=", "x" * 3072])
def test_keys(key: str) -> None:
    assert check_key(key) == check_pattern(key) == key


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "empty"), (".a", "'.'"), ("a.", "'.'"), ("a..b", "'..'"), ("a b", "' '"), ("a*", "'*'"), (">", "'>'"),
        ("a\r\nb", "\\r"), ("ä", "xe4"), ("a$b", "'$'"), ("x" * 3073, "3072"), ("a\n", "\\n"),
    ],
)  # fmt: skip
def test_no_keys(key: str, said: str) -> None:
    with pytest.raises(InvalidKeyError) as raised:
        check_key(key)
    assert said in str(raised.value)


@pytest.mark.parametrize("pattern", [">", "*", "a.*", "*.b.>", "a.>"])
def test_patterns(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", ["", "a*", ">.a", "a.>.b", "a>", "**", "a b", ".>", "a..>"])
def test_no_patterns(pattern: str) -> None:
    with pytest.raises(InvalidKeyError):
        check_pattern(pattern)


@pytest.mark.parametrize("check", [check_bucket, check_key, check_pattern])
def test_names_are_texts(check: Any) -> None:
    with pytest.raises(TypeError, match="must be str"):
        check(b"a")


@pytest.mark.parametrize(
    ("headers", "operation"),
    [
        ({}, "put"),
        ({"KV-Operation": "DEL"}, "delete"),
        ({"KV-Operation": "PURGE"}, "purge"),
        ({"KV-Operation": "PUT"}, "put"),
        ({"Nats-Marker-Reason": "MaxAge"}, "expired"),
        ({"Nats-Marker-Reason": "Purge"}, "purge"),
        ({"Nats-Marker-Reason": "Remove"}, "delete"),
        ({"Nats-Marker-Reason": "Unheard"}, "put"),
        ({"KV-Operation": "DEL", "Nats-Marker-Reason": "MaxAge"}, "delete"),
        ({"Other": "x"}, "put"),
    ],
)
def test_what_a_message_means(headers: dict[str, str], operation: str) -> None:
    assert operation_of(Headers(headers)) == operation
    assert operation_of(None) == "put"


def entry(data: bytes, operation: Any, codec: Any) -> KeyValueEntry[Any]:
    return KeyValueEntry(
        bucket="B", key="k", data=data, revision=7, stored=None, delta=0, operation=operation, codec=codec
    )


def test_values() -> None:
    numbers = values_of(dict[str, int])
    assert entry(b"x", "put", BYTES).value == b"x"
    assert entry(b"", "expired", BYTES).value == b""
    assert entry(b'{"a":1}', "put", numbers).value == {"a": 1}
    assert numbers.encode({"a": 1}) == b'{"a":1}'
    for data in (b"", b"{", b'{"a":"x"}', b"\xff", b"[" * 100_000):
        with pytest.raises(JetStreamDecodeError, match="key 'k' of bucket 'B'"):
            _ = entry(data, "put", numbers).value
    with pytest.raises(KeyDeletedError) as raised:
        _ = entry(b"", "expired", numbers).value
    assert (raised.value.revision, raised.value.operation) == (7, "expired")
    assert BYTES.encode(bytearray(b"a")) == BYTES.encode(memoryview(b"a")) == b"a"  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes, not str"):
        BYTES.encode("a")  # type: ignore[arg-type]
    assert "'k'" in repr(entry(b"x", "put", BYTES))


class Reversed:
    def encode(self, value: bytes) -> bytes:
        return value[::-1]

    def decode(self, data: bytes) -> bytes:
        if data == b"none":
            raise ValueError("it is none")
        return data[::-1]


def test_values_by_a_codec() -> None:
    texts = values_of(bytes, Reversed())
    assert (texts.encode(b"12"), entry(b"21", "put", texts).value, entry(b"", "delete", texts).value) == (
        b"21", b"12", b"",
    )  # fmt: skip
    numbers = values_of(list[int], Reversed())
    assert (numbers.encode([1, 2]), entry(b"]2,1[", "put", numbers).value) == (b"]2,1[", [1, 2])
    for values in (texts, numbers):
        with pytest.raises(JetStreamDecodeError, match="it is none"):
            _ = entry(b"none", "put", values).value
    with pytest.raises(TypeError, match="bytes, not str"):
        texts.encode("a")  # type: ignore[arg-type]


def test_a_type_that_cannot_be_is_refused() -> None:
    check_value_type(None)
    check_value_type(int)
    assert values_of(bytes) is BYTES
    with pytest.raises(TypeError):
        check_value_type(5)  # type: ignore[arg-type]
