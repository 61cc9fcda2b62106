"""What an object is made of: pieces, their parts, and the chunks that they become."""

from __future__ import annotations

from array import array

import pytest

from nats_proto._objectstore.pieces import Chunker, as_piece, is_payload, parts_of


@pytest.mark.parametrize("given", [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(array("H", [1, 2]))])
def test_bytes_in_any_form_are_a_piece(given: bytes | bytearray | memoryview) -> None:
    assert is_payload(given)
    piece = as_piece(given)
    assert bytes(piece) == bytes(given)
    assert len(piece) == len(bytes(given))  # in bytes, whatever a view counts in


@pytest.mark.parametrize("given", ["abc", None, 7, [b"abc"]])
def test_nothing_else_is(given: object) -> None:
    assert not is_payload(given)
    with pytest.raises(TypeError, match=f"an object is made of bytes, not of {type(given).__name__}"):
        as_piece(given)


@pytest.mark.parametrize(
    ("piece", "parts"),
    [(b"", [b""]), (b"abc", [b"abc"]), (b"abcd", [b"abc", b"d"]), (memoryview(b"abcdefg"), [b"abc", b"def", b"g"])],
)
def test_parts_are_no_larger_than_asked_for(piece: bytes | memoryview, parts: list[bytes]) -> None:
    assert [bytes(part) for part in parts_of(piece, 3)] == parts


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 3, 1], [2, 4, 1], [5, 0, 2]])
def test_whatever_the_pieces_the_chunks_are_the_same(sizes: list[int]) -> None:
    data, chunker, chunks, at = b"abcdefg", Chunker(3), [], 0
    for size in sizes:
        chunks += chunker.add(data[at : at + size])
        at += size
    assert [*chunks, chunker.end()] == [b"abc", b"def", b"g"]
    assert chunker.total == 7
