"""A message of the core, copied and pickled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from nats_proto import Message

BLOCK = b"NATS/1.0 100 Idle\r\nA: 1\r\nA: 2\r\n\r\n"
WAYS: list[Callable[[Message], Message]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda message, version=version: pickle.loads(pickle.dumps(message, version)) for version in range(6)),
]


@pytest.mark.parametrize("way", range(len(WAYS)))
@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("block", [None, BLOCK, b"NATS/1.0\r\nbroken\r\n\r\n"])
def test_a_copy_is_equal_and_reads_the_same(way: int, read: bool, block: bytes | None) -> None:
    message = Message("a.b", 7, "reply", b"\x00data", block)
    if read:
        assert (message.headers is None) == (block is None)
    copied = WAYS[way](message)
    assert type(copied) is Message
    assert copied is not message
    assert copied == message
    assert copied.headers == message.headers
    assert copied.status == message.status
    assert (copied.header_error is None) == (message.header_error is None)


def test_a_deep_copy_shares_no_headers() -> None:
    message = Message("a", 1, None, b"", BLOCK)
    assert copy.deepcopy(message).headers is not message.headers
