"""The parser, driven by the table beside this file. Every row is parsed whole, byte by byte and at every 2-split.

Rows over 4 KiB are cut at random places instead. However a stream is cut, the frames, the fault and the fault's text
have to be the same; after a fault nothing more comes, and after `reset` all is as new.
"""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest

from nats_proto import Frame, InfoFrame, Message, Parser, Role, ServerInfo
from nats_proto.errors import ConfigurationError, RemoteProtocolError
from tests.proto.parser_table import A1, BLOCK, GOOD, PING, ROWS, Row, msg

KiB = 1024
MiB = 1024 * KiB

BOTH_TWINS = pytest.mark.usefixtures("twin")
TABLE = [pytest.param(role, row, id=f"{role.value}-{row.id}") for role, row in ROWS]


def run(parser: Parser, pieces: list[bytes]) -> tuple[tuple[Frame, ...], str | None]:
    frames = tuple(frame for piece in pieces for frame in parser.receive_data(piece))
    return frames, None if parser.error is None else str(parser.error)


def check(parser: Parser, row: Row, pieces: list[bytes], text: str | None) -> None:
    frames, error = run(parser, pieces)
    assert frames == row.frames
    assert error == text
    if error is not None:
        fault = parser.error
        assert parser.receive_data(GOOD) == []
        assert parser.error is fault
    parser.reset()


@BOTH_TWINS
@pytest.mark.parametrize(("role", "row"), TABLE)
def test_table(role: Role, row: Row) -> None:
    parser = Parser(role, **row.limits)
    stream = row.stream
    _, text = run(parser, [stream])
    parser.reset()
    if row.error is None:
        assert text is None
    else:
        assert text is not None
        assert row.error in text
        assert "s3cret" not in text
    check(parser, row, [stream], text)
    check(parser, row, [stream[at : at + 1] for at in range(min(len(stream), 100 * KiB))] + [stream[100 * KiB :]], text)
    if len(stream) <= 4 * KiB:
        places = range(len(stream) + 1)
    else:
        rng = random.Random(len(stream))
        places = [rng.randrange(len(stream) + 1) for _ in range(200 if len(stream) < MiB // 4 else 20)]
    for at in places:
        check(parser, row, [stream[:at], stream[at:]], text)
    assert run(parser, [b"PING\r\n"]) == run(Parser(role, **row.limits), [b"PING\r\n"])


@BOTH_TWINS
@pytest.mark.parametrize(("role", "row"), TABLE)
def test_reset_from_any_point(role: Role, row: Row) -> None:
    parser = Parser(role, **row.limits)
    places = range(len(row.stream)) if len(row.stream) <= 4 * KiB else (1, 5, 100, len(row.stream) - 1)
    for at in places:
        parser.receive_data(row.stream[:at])
        parser.reset()
        assert run(parser, [b"X-Y\r\n"])[1] == str(run_fresh(role, b"X-Y\r\n"))
        parser.reset()


def run_fresh(role: Role, stream: bytes) -> RemoteProtocolError | None:
    parser = Parser(role)
    parser.receive_data(stream)
    return parser.error


@BOTH_TWINS
def test_h46_a_cut_leaves_nothing_behind() -> None:
    parser = Parser(Role.CLIENT)
    parser.receive_data(b"HMSG a 1 18 23\r\nNATS/1.0\r\n")
    parser.reset()
    assert parser.receive_data(b"INFO {}\r\n") == [InfoFrame(ServerInfo())]
    assert parser.receive_data(GOOD) == [A1]


@BOTH_TWINS
def test_bad_info_is_a_frame_and_the_stream_goes_on() -> None:
    parser = Parser(Role.CLIENT)
    [info, ping] = parser.receive_data(b"INFO nonsense\r\nPING\r\n")
    assert isinstance(info, InfoFrame)
    assert info.info is None
    assert info.error is not None
    assert ping == PING
    assert parser.error is None


@BOTH_TWINS
def test_errors_show_64_bytes_at_most() -> None:
    for stream in (
        b"\\" * 5000,
        b"MSG " + b"\xff" * 5000 + b"\r\n",
        b"MSG a 1 " + b"\x01" * 5000 + b"\r\n",
        b"MSG \r" * 9000,
    ):
        error = str(run_fresh(Role.CLIENT, stream))
        assert len(error) < 64 * 4 + 100
        assert error.isprintable()


# --- large payloads, memory ------------------------------------------------------------------------------------------


@BOTH_TWINS
@pytest.mark.parametrize("size", [64 * KiB, 200 * KiB, MiB + 1])
@pytest.mark.parametrize("piece", [1000, 4 * KiB, 64 * KiB, 10**9])
@pytest.mark.parametrize("block", [None, b"NATS/1.0\r\nA: " + b"v" * 70000 + b"\r\n\r\n"], ids=["plain", "headers"])
def test_large_payloads(size: int, piece: int, block: bytes | None) -> None:
    data = random.Random(size).randbytes(size)
    line = b"MSG a 1 %d\r\n" % size if block is None else b"HMSG a 1 %d %d\r\n" % (len(block), len(block) + size)
    stream = GOOD + line + (block or b"") + data + b"\r\n" + GOOD
    parser = Parser(Role.CLIENT)
    frames = [frame for at in range(0, len(stream), piece) for frame in parser.receive_data(stream[at : at + piece])]
    assert frames == [A1, msg("a", 1, data, None, block), A1]


@BOTH_TWINS
def test_pieces_of_all_sizes_make_one_payload() -> None:
    data = random.Random(7).randbytes(300 * KiB)
    rng = random.Random(8)
    for _ in range(5):
        parser = Parser(Role.CLIENT)
        parser.receive_data(b"MSG a 1 %d\r\n" % len(data))
        at, frames = 0, list[Frame]()
        rest = data + b"\r\n"
        while at < len(rest):
            step = rng.choice([1, 10, 3000, 5000, 40000])
            frames += parser.receive_data(rest[at : at + step])
            at += step
        assert frames == [msg("a", 1, data)]


@BOTH_TWINS
@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_the_caller_may_reuse_its_buffer(kind: Any) -> None:
    stream = GOOD + b"HMSG s 2 r 18 9018\r\n" + BLOCK + b"p" * 9000 + b"\r\n"
    parser = Parser(Role.CLIENT)
    frames: list[Frame] = []
    for at in range(0, len(stream), 4500):
        buffer = bytearray(stream[at : at + 4500])
        frames += parser.receive_data(kind(buffer) if kind is bytearray else memoryview(buffer))
        buffer[:] = b"!" * len(buffer)
    assert frames == [A1, msg("s", 2, b"p" * 9000, "r", BLOCK)]
    assert all(type(frame.data) is bytes for frame in frames if isinstance(frame, Message))


@BOTH_TWINS
def test_other_buffers() -> None:
    class Liar(bytes):
        def __len__(self) -> int:
            return 3

        def find(self, *args: Any) -> int:  # type: ignore[override]
            return -1

    parser = Parser(Role.CLIENT)
    assert parser.receive_data(Liar(GOOD)) == [A1]
    assert parser.receive_data(memoryview(GOOD + GOOD)[::1]) == [A1, A1]
    assert parser.receive_data(memoryview(b"".join(b"%c!" % byte for byte in GOOD))[::2]) == [A1]
    assert parser.receive_data(b"") == []
    for wrong in ("PING\r\n", 5, None):
        with pytest.raises(TypeError):
            parser.receive_data(wrong)  # type: ignore[arg-type]
    assert parser.receive_data(b"PING\r\n") == [PING]


@BOTH_TWINS
def test_message_type() -> None:
    class Mine(Message):
        pass

    for line in (b"MSG a 1 1\r\nx\r\n", b"msg a 1 1\r\nx\r\n"):
        [frame] = Parser(Role.CLIENT, message_type=Mine).receive_data(line)
        assert type(frame) is Mine


@pytest.mark.parametrize(
    "limits", [{"max_control_line": 0}, {"max_info": 0}, {"max_header_bytes": -1}, {"max_payload": -1}], ids=str
)
def test_impossible_limits(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(limits))):
        Parser(Role.CLIENT, **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["max_control_line", "max_info", "max_header_bytes", "max_payload"])
@pytest.mark.parametrize("limit", [1e6, "9", True, None])
def test_limits_are_integers(name: str, limit: object) -> None:
    with pytest.raises(TypeError, match=f"{name} must be int"):
        Parser(Role.CLIENT, **{name: limit})  # type: ignore[arg-type]


def kept_after(parser: Parser, stream: bytes, piece: int) -> int:
    """The bytes that are still held once the stream was given."""
    pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    tracemalloc.start()
    try:
        while pieces:
            parser.receive_data(pieces.pop())
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [1, 1000, 64 * KiB])
def test_h23_little_is_kept_of_a_line_without_end(piece: int) -> None:
    parser = Parser(Role.CLIENT)
    parser.receive_data(b"MSG ")
    assert kept_after(parser, b"a" * 32000, piece) < 64 * KiB
    assert parser.error is None
    assert kept_after(parser, b"a" * 64 * KiB, piece) < 8 * KiB
    assert parser.error is not None


@pytest.mark.parametrize("begun", [b"", b"MSG a", b"INFO {"])
def test_h23_a_long_chunk_is_not_copied_to_find_it_too_long(begun: bytes) -> None:
    parser = Parser(Role.CLIENT)
    parser.receive_data(begun)
    chunk = (b"" if begun else b"INFO ") + b" " * 16 * MiB
    tracemalloc.start()
    try:
        parser.receive_data(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert parser.error is not None
    assert peak < 3 * MiB


@BOTH_TWINS
@pytest.mark.parametrize("piece", [1, 7, KiB, 64 * KiB])
def test_h34_memory_grows_with_what_came(piece: int) -> None:
    parser = Parser(Role.CLIENT)
    parser.receive_data(b"MSG a 1 67108864\r\n")
    received = 200 * KiB if piece < KiB else MiB
    assert kept_after(parser, b"x" * received, piece) < received * 1.3 + 64 * KiB


def test_h33_nothing_of_an_oversized_payload_is_kept() -> None:
    parser = Parser(Role.CLIENT)
    assert kept_after(parser, b"MSG a 1 10737418240\r\n", 10**9) < 8 * KiB
    assert parser.error is not None
    assert kept_after(parser, b"x" * MiB, KiB) < 8 * KiB


# --- looking without taking ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "row"), TABLE)
def test_a_whole_message_is_what_would_be_received(role: Role, row: Row) -> None:
    """Wherever the stream stands: what is seen is exactly what comes, and seeing changes nothing."""
    stream = row.stream
    rng = random.Random(len(stream))
    places = range(len(stream)) if len(stream) <= 512 else [rng.randrange(len(stream)) for _ in range(20)]
    for at in places:
        parser = Parser(role, **row.limits)
        before = parser.receive_data(stream[:at])
        seen = parser.whole_message(stream[at:])
        received = parser.receive_data(stream[at:])
        assert (*before, *received) == row.frames
        if seen is not None:
            assert received == [seen]
            assert parser.error is None
            assert parser.whole_message(GOOD) == Parser(role, **row.limits).whole_message(GOOD)


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"MSG a 1 0\r\n\r\n",
        b"MSG a.b 12 reply 7\r\npayload\r\n",
        b"MSG a 1 13\r\nMSG b 2 0\r\n\r\n\r\n",
        b"HMSG a 1 18 19\r\n" + BLOCK + b"x\r\n",
        b"HMSG a 1 reply 18 18\r\n" + BLOCK + b"\r\n",
        b"MSG a 1 100000\r\n" + b"x" * 100_000 + b"\r\n",
    ],
)
def test_a_whole_message_is_seen_between_two_operations_only(data: bytes) -> None:
    for at in range(min(len(data), 400)):
        parser = Parser(Role.CLIENT)
        (message,) = Parser(Role.CLIENT).receive_data(data)
        assert parser.receive_data(data[:at]) == []
        assert parser.whole_message(data) == (message if at == 0 else None)
        assert at == 0 or parser.whole_message(data[at:]) is None
        assert parser.whole_message(data[: at + 1]) is None or at + 1 == len(data)
        assert parser.receive_data(data[at:]) == [message]
        for more in (b"\r", b"P", b"PING\r\n", data):
            assert parser.whole_message(data + more) is None
        assert parser.whole_message(data) == message
    assert Parser(Role.SERVER).whole_message(data) is None


def test_no_whole_message_after_a_fault() -> None:
    parser = Parser(Role.CLIENT)
    assert parser.whole_message(b"") is None
    assert parser.whole_message(b"PING\r\n") is None
    parser.receive_data(b"WHAT\r\n")
    assert parser.error is not None
    assert parser.whole_message(GOOD) is None
    parser.reset()
    assert parser.whole_message(GOOD) is not None
    assert Parser(Role.CLIENT, max_payload=5).whole_message(b"MSG a 1 6\r\n123456\r\n") is None
    assert Parser(Role.CLIENT, max_control_line=9).whole_message(GOOD) is None
