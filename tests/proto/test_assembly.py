"""What is put together out of chunks: whole, its own, and never more memory for it than has come."""

from __future__ import annotations

import copy
import pickle
import random
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from nats_proto import Frame, Role
from tests.proto.parser_table import GOOD
from tests.proto.test_speedups import WITH_MODULE, in_threads
from tests.twins import Twin, compiled_module

KiB = 1024
MiB = 1024 * KiB
EMPTY = sys.getsizeof(b"")


def fed(assembly: Any, data: bytes, piece: int, behind: bytes = b"behind") -> bytes:
    """What comes of it in pieces of this size, each in a chunk with something before it, the last with more behind."""
    assembly.begin(len(data))
    at = 0
    while True:
        part = data[at : at + piece]
        at += piece
        chunk = b"before" + part + (behind if at >= len(data) else b"")
        whole, end = assembly.take(chunk, 6)
        if whole is not None:
            assert at >= len(data)
            assert chunk[end:] == behind
            return bytes(whole) if type(whole) is not bytes else whole
        assert end == len(chunk)


@pytest.mark.parametrize("piece", [1, 7, 4 * KiB, 64 * KiB, 250_000, 10**9])
@pytest.mark.parametrize("size", [0, 1, 2, 13, 4095, 4096, 4097, 65_535, 65_536, 65_537, 200_001, 9 * MiB + 5])
def test_it_is_what_came(twin: Twin, size: int, piece: int) -> None:
    if size > 1000 * 1000 * piece:
        size = 1000 * 1000 + size % 10
    data = random.Random(size).randbytes(size)
    assembly = twin.assembly()
    for behind in (b"behind", b""):
        whole = fed(assembly, data, piece, behind)
        assert type(whole) is bytes
        assert whole == data


def test_pieces_of_all_sizes_and_of_none(twin: Twin) -> None:
    rng = random.Random(9)
    assembly = twin.assembly()
    for _ in range(200):
        data = rng.randbytes(rng.choice([1, 100, 5000, 70_000, 300_000]))
        assembly.begin(len(data))
        at = 0
        whole = None
        while whole is None:
            size = rng.choice([0, 1, 3, 100, 4096, 30_000, 65_536])
            whole, end = assembly.take(data[at : at + size], 0)
            at += end
        assert (whole, at) == (data, len(data))


def test_what_was_begun_can_be_forgotten(twin: Twin) -> None:
    assembly = twin.assembly()
    for size in (10, 100_000, 64 * MiB):
        assembly.begin(size)
        assert assembly.take(b"x" * 9, 0) == (None, 9)
        assembly.begin(3)
        assert assembly.take(b"ab", 0) == (None, 2)
        assert assembly.take(b"cd", 0) == (b"abc", 1)
    assembly.begin(0)
    assert assembly.take(b"rest", 4) == (b"", 4)


def test_what_was_given_away_does_not_change(twin: Twin) -> None:
    assembly = twin.assembly()
    given = [(fed(assembly, bytes([number]) * 100_000, 999), number) for number in range(20)]
    assert all(whole == bytes([number]) * 100_000 for whole, number in given)


# --- memory ----------------------------------------------------------------------------------------------------------


def traced(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that are more in use after this work, as long as its result is held; and the most while it ran."""
    tracemalloc.start()
    try:
        result = work()
        kept, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return kept, peak


@pytest.mark.parametrize("piece", [4 * KiB, 64 * KiB, 256 * KiB])
@pytest.mark.parametrize("size", [100_000, MiB + 1, 16 * MiB])
def test_there_is_one_copy_and_the_message_owns_exactly_that(twin: Twin, size: int, piece: int) -> None:
    data = random.Random(size).randbytes(size)
    assembly = twin.assembly()
    kept, peak = traced(lambda: fed(assembly, data, piece))
    assert size + EMPTY <= kept < size + EMPTY + 2 * KiB
    assert peak < 1.15 * size + 3 * piece + 16 * KiB


def test_it_lets_go_of_what_it_has_given_away(twin: Twin) -> None:
    data = random.Random(5).randbytes(MiB)
    assembly = twin.assembly()

    def forget() -> None:
        fed(assembly, data, 100_000)

    assert traced(forget)[0] < 2 * KiB


@pytest.mark.parametrize("piece", [1, 7, 4 * KiB, 64 * KiB])
def test_memory_is_taken_for_what_has_come(twin: Twin, piece: int) -> None:
    chunk = b"x" * piece
    assembly = twin.assembly()
    assembly.begin(64 * MiB)
    came = 0
    tracemalloc.start()
    try:
        while came < min(piece * 20_000, 3 * MiB):
            assert assembly.take(chunk, 0) == (None, piece)
            came += piece
            kept, _ = tracemalloc.get_traced_memory()
            assert kept <= 1.25 * came + 6 * KiB
        assert tracemalloc.get_traced_memory()[1] <= 1.25 * came + 6 * KiB
    finally:
        tracemalloc.stop()


def test_h34_a_hundred_payloads_are_announced_and_one_byte_of_each_comes(twin: Twin) -> None:
    """By a hundred servers, and by one that makes the client connect again each time."""
    parsers = [twin.parser(Role.CLIENT) for _ in range(100)]
    for parser in parsers:
        parser.receive_data(GOOD)

    def announce() -> None:
        for parser in parsers:
            assert parser.receive_data(b"MSG a 1 67108864\r\nx") == []

    assert traced(announce)[1] < 100 * 8 * KiB
    one = twin.parser(Role.CLIENT)

    def announce_again() -> None:
        for _ in range(100):
            assert one.receive_data(b"MSG a 1 67108864\r\nx") == []
            one.reset()

    kept, peak = traced(announce_again)
    assert kept < 2 * KiB
    assert peak < 16 * KiB


def test_nothing_of_what_is_given_up_is_kept(twin: Twin) -> None:
    chunk = b"x" * 50_000
    assembly = twin.assembly()

    def round_of_everything() -> None:
        for size in (40_000, 60_000, 90_000, 10**9):
            assembly.begin(size)
            assembly.take(chunk, 0)
            assembly.take(chunk, 0)
            other = twin.assembly()
            other.begin(size)
            other.take(chunk, 10_000)
        assembly.begin(0)

    round_of_everything()
    before = sys.getrefcount(chunk)
    assert traced(lambda: [round_of_everything() for _ in range(50)])[0] < 8 * KiB
    assert sys.getrefcount(chunk) == before


# --- misuse ----------------------------------------------------------------------------------------------------------


@WITH_MODULE
def test_misuse_of_the_compiled_one() -> None:
    assert compiled_module is not None
    assembly: Any = compiled_module.Assembly()
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(assembly)
    with pytest.raises(TypeError):
        type("Subclass", (compiled_module.Assembly,), {})
    assert assembly.take(b"xyz", 1) == (b"", 1)
    assembly.begin(2**90)
    for wrong in (bytearray(b"x"), memoryview(b"x"), None, "x"):
        with pytest.raises(TypeError):
            assembly.take(wrong, 0)
    for position in (-(2**63), -1, 4, 2**63 - 1):
        with pytest.raises(IndexError):
            assembly.take(b"xyz", position)
    assert assembly.take(b"xyz", 3) == (None, 3)
    assert assembly.take(b"xyz", 0) == (None, 3)
    for wrong in ("1", None):
        with pytest.raises(TypeError):
            assembly.begin(wrong)
    assembly.begin(-(2**90))
    assert assembly.take(b"xyz", 0) == (b"", 0)


@WITH_MODULE
def test_without_memory_nothing_is_given_that_never_came() -> None:
    """Whichever request for memory is refused: what follows is the end of a payload that is not there."""
    testing = pytest.importorskip("_testcapi")
    assert compiled_module is not None
    refused = 0
    for allowed in range(1, 8):
        for turn in range(6):
            chunk = bytes([1 + 7 * allowed + turn]) * 50_000  # so that what was in this memory before is something else
            assembly: Any = compiled_module.Assembly()
            assembly.begin(400_000)
            for number in range(12):
                try:
                    if number == turn:
                        testing.set_nomemory(allowed, allowed + 1)
                    whole, _ = assembly.take(chunk, 0)
                except MemoryError:
                    refused += 1
                    whole = None
                finally:
                    testing.remove_mem_hooks()
                if whole is not None:
                    assert whole == chunk[:1] * len(whole)
                    break
    assert refused


@WITH_MODULE
def test_threads_at_one_compiled_assembly_hurt_nobody() -> None:
    """It is misuse, but no byte comes from anywhere else than from a chunk."""
    assert compiled_module is not None
    assembly: Any = compiled_module.Assembly()
    given: list[bytes] = []

    def work() -> None:
        for size in range(300):
            assembly.begin(size * 1000)
            for _ in range(5):
                whole, _ = assembly.take(b"x" * 30_000, 0)
                if whole is not None:
                    given.append(whole)

    assert in_threads(4, work) == []
    assert given
    assert all(not whole.strip(b"x") for whole in given)


def test_what_a_thread_began_another_one_ends(twin: Twin) -> None:
    """Readers take turns. Without the interpreter's lock, memory may belong to the thread that has asked for it."""
    parser = twin.parser(Role.CLIENT)
    data = random.Random(3).randbytes(500_000)
    stream = b"MSG a 1 %d\r\n%b\r\n" % (len(data), data)
    frames: list[Frame] = []
    for at in range(0, len(stream), 40_000):
        part = stream[at : at + 40_000]
        assert in_threads(1, lambda part=part: frames.extend(parser.receive_data(part))) == []
    assert [getattr(frame, "data", None) for frame in frames] == [data]
