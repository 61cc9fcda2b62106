"""The cursor in an object, held beside a file of the same bytes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._objectstore.cursor import SKIPPED, Cursor
from nats_proto._objectstore.reader import Start

CHUNK = 10
DATA = bytes(range(95))

SEEKS = st.tuples(st.integers(-120, 120), st.sampled_from([0, 1, 2]))
READS = st.integers(0, 40)


class Reader:
    """Gives chunks from where it began."""

    def __init__(self, cursor: Cursor) -> None:
        chunk = cursor.position // CHUNK
        self._at = chunk * CHUNK
        cursor.begin(Start(chunk, 1, CHUNK))

    def chunk(self) -> bytes:
        chunk = DATA[self._at : self._at + CHUNK]
        self._at += CHUNK
        return chunk


@given(st.lists(SEEKS | READS, max_size=30))
def test_it_reads_and_seeks_as_a_file_does(steps: list[tuple[int, int] | int]) -> None:
    cursor, file = Cursor(len(DATA)), io.BytesIO(DATA)
    reader = Reader(cursor)
    for step in steps:
        if isinstance(step, tuple):
            offset, whence = step
            if offset + (0, file.tell(), len(DATA))[whence] < 0:
                with pytest.raises(ValueError, match="before the beginning"):
                    cursor.seek(offset, whence)
            else:
                assert cursor.seek(offset, whence) == file.seek(offset, whence)
        else:
            while cursor.needs_chunk:
                if cursor.jumped:
                    reader = Reader(cursor)
                cursor.came(reader.chunk())
            at = file.tell()
            assert cursor.take(step) == file.read(min(step, CHUNK - at % CHUNK))
        assert cursor.position == file.tell()


@pytest.mark.parametrize(("place", "jumped"), [(CHUNK + SKIPPED, False), (CHUNK + SKIPPED + 1, True), (3, True)])
def test_a_few_bytes_are_read_and_thrown_away(place: int, jumped: bool) -> None:
    cursor = Cursor(2 * SKIPPED)
    cursor.begin(Start())
    cursor.came(bytes(CHUNK))
    assert len(cursor.take()) == CHUNK
    cursor.seek(place, 0)
    assert cursor.jumped is jumped
    cursor.seek(0, 1)
    assert cursor.jumped is jumped


def test_bytes_are_put_where_there_is_room() -> None:
    cursor = Cursor(5)
    cursor.came(b"abcde")
    room = bytearray(3)
    assert (cursor.take_into(memoryview(room)), room) == (3, b"abc")
    assert (cursor.take_into(memoryview(room)), room) == (2, b"dec")
    assert not cursor.has_bytes
    cursor.drop()
    with pytest.raises(TypeError, match=r"^offset must be int, not NoneType"):
        cursor.seek(None, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="whence must be"):
        cursor.seek(0, 3)


def test_a_whole_chunk_is_given_as_it_is() -> None:
    cursor = Cursor(2 * CHUNK)
    cursor.begin(Start())
    first, second = bytes(range(CHUNK)), bytes(range(CHUNK, 2 * CHUNK))
    cursor.came(first)
    assert cursor.take() is first
    assert cursor.take() == b""
    cursor.came(second)
    assert cursor.take(CHUNK + 1) is second
    assert cursor.take() == b""


def test_what_was_taken_and_not_given_comes_again() -> None:
    cursor = Cursor(12)
    cursor.came(b"abcd")
    parts = [cursor.take(), b""]
    cursor.came(b"efgh")
    parts[1] = cursor.take(1)
    cursor.put_back(parts)
    assert (cursor.position, cursor.needs_chunk, cursor.jumped) == (0, False, False)
    assert cursor.take(3) == b"abc"
    assert cursor.take() == b"defgh"
    assert (cursor.position, cursor.needs_chunk) == (8, True)
    cursor.came(b"ijkl")
    cursor.put_back([])
    assert cursor.take() == b"ijkl"
