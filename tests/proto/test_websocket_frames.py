"""What the layer makes of the frames of a server: good ones, and one row for everything a server must not send.

Each row is read whole, byte by byte and cut in two anywhere: the payload, the error and the answer are the same.
"""

from __future__ import annotations

import tracemalloc
import zlib
from dataclasses import dataclass

import pytest

from nats_proto._layers.websocket import WebSocketLayer
from nats_proto._layers.websocket_frames import FrameReader
from nats_proto.errors import WebSocketError
from tests.proto.splits import feed, splits
from tests.proto.websocket_peer import deflate, frame, frames, opened

KiB = 1024
MiB = 1024 * KiB

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A
BEGIN, MIDDLE = 0x02, 0x00  # a fragment that is not the last: of a new message, of the present one
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
ZIPPED = BINARY | RSV1
MASK = b"\1\2\3\4"
OK = frame(b"ok")
NOT = "a compressed message that cannot be inflated"
CLOSE_1000 = b"\x03\xe8"


@dataclass(frozen=True)
class Row:
    id: str
    stream: bytes
    above: bytes
    error: str | None = None  # stands behind "sent "
    code: int = 1002  # of the close frame that answers an error
    answers: tuple[tuple[int, bytes], ...] = ()
    ended: bool = False
    compression: bool = False
    max_message: int = 1000


GOOD = [
    Row("one", OK, b"ok"),
    Row("empty", frame(b"") + OK, b"ok"),
    Row("two", OK + frame(b"x" * 125), b"ok" + b"x" * 125),
    Row("length-in-two-bytes", frame(b"x" * 126) + OK, b"x" * 126 + b"ok"),
    Row("length-in-eight-bytes", frame(b"x" * 70_000), b"x" * 70_000, max_message=70_000),
    Row("length-in-more-bytes-than-needed", b"\x82\x7f" + bytes(7) + b"\x02ok" + b"\x82\x7e\0\x02ok", b"okok"),
    Row("fragments", frame(b"ab", BEGIN) + frame(b"c", MIDDLE) + frame(b"de", CONT) + OK, b"abcdeok"),
    Row("empty-fragments", frame(b"", BEGIN) + frame(b"", MIDDLE) * 9 + frame(b"", CONT) + OK, b"ok"),
    Row("half-a-frame", OK + frame(b"half", length=9), b"okhalf"),
    Row("half-a-header", OK + frame(b"x" * 300)[:3], b"ok"),
    Row("as-large-as-accepted", frame(b"x" * 1000) + OK, b"x" * 1000 + b"ok"),
    Row("fragments-as-large-as-accepted", frame(b"x" * 999, BEGIN) + frame(b"x", CONT) + OK, b"x" * 1000 + b"ok"),
    Row("ping", OK + frame(b"p", PING) + OK, b"okok", answers=((PONG, b"p"),)),
    Row("ping-without-payload", frame(b"", PING), b"", answers=((PONG, b""),)),
    Row("ping-of-125-bytes", frame(b"p" * 125, PING), b"", answers=((PONG, b"p" * 125),)),
    Row("ping-in-a-message", frame(b"a", BEGIN) + frame(b"", PING) + frame(b"b", CONT), b"ab", answers=((PONG, b""),)),
    Row("many-pings", b"".join(frame(b"%d" % n, PING) for n in range(50)), b"", answers=((PONG, b"49"),)),
    Row("pong", frame(b"p", PONG) + OK + frame(b"", PONG), b"ok"),
    Row("close", OK + frame(CLOSE_1000 + b"bye", CLOSE), b"ok", answers=((CLOSE, CLOSE_1000),), ended=True),
    Row("close-without-code", frame(b"", CLOSE), b"", answers=((CLOSE, b""),), ended=True),
    Row("nothing-follows-a-close", frame(b"", CLOSE) + OK + b"\xff", b"", answers=((CLOSE, b""),), ended=True),
    Row("close-in-a-message", frame(b"a", BEGIN) + frame(b"", CLOSE), b"a", answers=((CLOSE, b""),), ended=True),
    Row("compressed", frame(deflate(b"z" * 999), ZIPPED) + OK, b"z" * 999 + b"ok", compression=True),
    Row("compressed-and-empty", frame(deflate(b""), ZIPPED) + OK, b"ok", compression=True),
    Row("compressed-as-large-as-accepted", frame(deflate(b"z" * 1000), ZIPPED), b"z" * 1000, compression=True),
    Row(
        "compressed-fragments",
        frame(deflate(b"abc" * 300)[:3], BEGIN | RSV1) + frame(b"", MIDDLE) + frame(b"", PING)
        + frame(deflate(b"abc" * 300)[3:], CONT) + OK + frame(deflate(b"new"), ZIPPED),
        b"abc" * 300 + b"ok" + b"new",
        answers=((PONG, b""),),
        compression=True,
    ),
    Row("compressed-in-stored-blocks", frame(deflate(b"hi", level=0), ZIPPED) + OK, b"hiok", compression=True),
    Row("compressed-with-a-last-block", frame(deflate(b"hi", end=True), ZIPPED) + OK, b"hiok", compression=True),
    Row("last-block-and-zero", frame(deflate(b"hi", end=True) + b"\0", ZIPPED) + OK, b"hiok", compression=True),
]  # fmt: skip

HOSTILE = [
    # --- H69 ---
    Row("masked", OK + frame(b"x", mask=MASK) + OK, b"ok", "a masked frame"),
    Row("masked-ping", OK + frame(b"x", PING, mask=MASK), b"ok", "a masked frame"),
    Row("text", OK + frame(b"hello", TEXT), b"ok", "a text frame", 1003),
    Row("text-fragment", OK + frame(b"hello", TEXT & 0x7F), b"ok", "a text frame", 1003),
    Row("text-compressed", OK + frame(b"", TEXT | RSV1), b"ok", "a frame marked as compressed", compression=True),
    Row("length-2-to-63", OK + frame(b"x", length=2**63), b"ok", "a message of more than 1000 bytes", 1009),
    Row("length-2-to-64", OK + frame(b"x", length=2**64 - 1), b"ok", "a message of more than 1000 bytes", 1009),
    Row("reserved-bit-2", OK + frame(b"", BINARY | RSV2), b"ok", "a frame with reserved bits"),
    Row("reserved-bit-3", OK + frame(b"", BINARY | RSV3), b"ok", "a frame with reserved bits"),
    Row("reserved-bits-2-and-1", OK + frame(b"", ZIPPED | RSV2), b"ok", "reserved bits", compression=True),
    Row("fragment-bomb", frame(b"x", BEGIN) + frame(b"x", MIDDLE) * 50, b"x" * 50, "a message", 1009, max_message=50),
    Row(
        "compressed-bomb", OK + frame(deflate(bytes(1001)), ZIPPED),
        b"ok" + bytes(1000), "a message of more than 1000 bytes", 1009, compression=True,
    ),
    Row(
        "compressed-bomb-in-fragments",
        frame(deflate(bytes(9999))[:5], BEGIN | RSV1) + frame(b"", MIDDLE) + frame(deflate(bytes(9999))[5:], CONT),
        bytes(1000), "a message of more than 1000 bytes", 1009, compression=True,
    ),
    # --- the rest ---
    Row("one-byte-too-large", OK + frame(b"x", length=1001), b"ok", "a message of more than 1000 bytes", 1009),
    Row("compressed-frame-too-large", frame(b"", ZIPPED, length=1001), b"", "of more than", 1009, compression=True),
    Row("compressed-not-agreed", OK + frame(deflate(b"x"), ZIPPED), b"ok", "a frame marked as compressed"),
    Row("compressed-ping", frame(b"", PING | RSV1), b"", "a frame marked as compressed", compression=True),
    Row(
        "compressed-continuation", frame(b"a", BEGIN) + frame(deflate(b"b"), CONT | RSV1),
        b"a", "a frame marked as compressed", compression=True,
    ),
    Row("not-deflate", OK + frame(b"\xff" * 50, ZIPPED) + OK, b"ok", NOT, 1007, compression=True),
    Row("deflate-cut-short", frame(deflate(b"abc" * 9)[:-4], ZIPPED), b"abc", NOT, 1007, compression=True),
    Row("stored-block-cut-short", frame(deflate(b"hello", level=0)[:8], ZIPPED), b"hel", NOT, 1007, compression=True),
    Row("compressed-without-a-byte", OK + frame(b"", ZIPPED), b"ok", NOT, 1007, compression=True),
    Row("bytes-behind-a-last-block", frame(deflate(b"", end=True) + OK, ZIPPED), b"", NOT, 1007, compression=True),
    Row("opcode-3", OK + frame(b"", 0x83), b"ok", "the reserved opcode 3"),
    Row("opcode-7", OK + frame(b"", 0x87), b"ok", "the reserved opcode 7"),
    Row("opcode-11", OK + frame(b"", 0x8B), b"ok", "the reserved opcode 11"),
    Row("opcode-15", OK + frame(b"", 0x8F), b"ok", "the reserved opcode 15"),
    Row("fragmented-ping", OK + frame(b"", PING & 0x7F), b"ok", "a fragmented control frame"),
    Row("fragmented-close", OK + frame(b"", CLOSE & 0x7F), b"ok", "a fragmented control frame"),
    Row("ping-of-126-bytes", OK + frame(b"", PING, length=126), b"ok", "a control frame with more than 125"),
    Row("close-of-64-kib", OK + frame(b"", CLOSE, length=65536), b"ok", "a control frame with more than 125"),
    Row("message-in-a-message", frame(b"a", BEGIN) + OK, b"a", "a new message inside another"),
    Row("continuation-of-nothing", OK + frame(b"a", CONT), b"ok", "the continuation of no message"),
    Row("close-of-one-byte", OK + frame(b"x", CLOSE), b"ok", "a malformed close frame"),
    Row("close-with-code-1005", OK + frame(b"\x03\xed", CLOSE), b"ok", "a malformed close frame"),
    Row("close-with-code-999", OK + frame(b"\x03\xe7", CLOSE), b"ok", "a malformed close frame"),
    Row("close-not-utf-8", OK + frame(CLOSE_1000 + b"\xff", CLOSE), b"ok", "a malformed close frame"),
    Row("http-again", OK + b"HTTP/1.1 400 Bad Request\r\n\r\n", b"ok", "a frame marked as compressed"),
    Row("nats-without-frames", b"INFO {}\r\n", b"", "a frame marked as compressed"),
]  # fmt: skip


def read(row: Row, parts: list[bytes]) -> tuple[bytes, WebSocketLayer]:
    layer = opened(max_message=row.max_message, compression=row.compression)
    return feed(layer, parts), layer


@pytest.mark.parametrize("row", GOOD, ids=lambda row: row.id)
def test_good_frames(row: Row) -> None:
    for parts in splits(row.stream) if len(row.stream) < 2000 else [[row.stream[:12], row.stream[12:]]]:
        above, layer = read(row, parts)
        assert (above, layer.error, layer.ended, layer.ready) == (row.above, None, row.ended, True), parts
        assert frames(layer.wrap([])) == list(row.answers), parts
        layer.receive_eof()
        assert layer.error is None


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: row.id)
def test_hostile_frames(row: Row) -> None:
    for parts in splits(row.stream):
        above, layer = read(row, parts)
        assert above == row.above, parts
        assert isinstance(layer.error, WebSocketError), parts
        assert row.error is not None
        assert str(layer.error).startswith("server ws://h:80 sent "), layer.error
        assert row.error in str(layer.error)
        assert layer.error.__context__ is layer.error.__cause__ is None
        assert (layer.ended, layer.ready) == (False, True)
        first = layer.error
        assert frames(layer.wrap([b"x"])) == [(CLOSE, row.code.to_bytes(2, "big"))]
        assert layer.wrap([b"x"]) == []
        assert layer.receive_data(OK) == b""
        layer.receive_eof()
        assert layer.error is first


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_frame_is_refused_at_its_header_not_at_its_end(cut: int) -> None:
    layer = opened(max_message=2**70)
    layer.receive_data(frame(b"", PING, length=2**40)[:cut])
    assert (layer.error is not None) is (cut >= 2)


def test_payload_goes_up_as_it_comes_and_nothing_is_kept() -> None:
    layer = opened(max_message=64 * MiB)
    chunk = bytes(64 * KiB)
    layer.receive_data(frame(b"", length=64 * MiB))
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert layer.receive_data(chunk) is chunk
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(chunk)


def test_ten_thousand_pings_get_one_answer() -> None:
    layer = opened()
    for number in range(10_000):
        layer.receive_data(frame(b"%d" % number, PING))
    assert frames(layer.wrap([])) == [(PONG, b"9999")]
    assert layer.wrap([]) == []


def bomb(mebibytes: int) -> bytes:
    """About a KiB for each MiB of zeros: as dense as deflate gets."""
    compressor = zlib.compressobj(9, wbits=-15)
    block = compressor.compress(bytes(MiB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return (block * mebibytes).removesuffix(b"\0\0\xff\xff")


@pytest.mark.parametrize("chunk", [64 * KiB, 2 * MiB], ids=["in-chunks", "at-once"])
@pytest.mark.parametrize("fragments", [1, 16])
def test_a_bomb_of_a_gibibyte_is_stopped_at_the_limit(fragments: int, chunk: int) -> None:
    layer = opened(max_message=4 * MiB, compression=True)
    packed = bomb(1024)
    assert len(packed) < 1200 * KiB
    size = len(packed) // fragments + 1
    parts = [packed[at : at + size] for at in range(0, len(packed), size)]
    firsts = [BEGIN | RSV1, *[MIDDLE] * (len(parts) - 2), CONT] if fragments > 1 else [ZIPPED]
    stream = b"".join(frame(part, first) for part, first in zip(parts, firsts, strict=True))
    received = 0
    tracemalloc.start()
    try:
        for at in range(0, len(stream), chunk):
            received += len(layer.receive_data(stream[at : at + chunk]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "more than" in str(layer.error)
    assert received <= 4 * MiB
    assert peak < 4 * 4 * MiB + 2 * chunk


def test_every_message_may_be_as_large_as_accepted() -> None:
    """The limit is for one, not for the connection."""
    layer = opened(max_message=1000, compression=True)
    for _ in range(100):
        assert layer.receive_data(frame(deflate(b"z" * 1000), ZIPPED)) == b"z" * 1000
        assert layer.receive_data(frame(b"y" * 1000)) == b"y" * 1000
    assert layer.error is None


def test_the_reader_itself_reads_nothing_behind_a_fault() -> None:
    reader = FrameReader(max_message=10, compression=False)
    assert reader.receive(OK + b"\xff\xff" + OK) == [b"ok"]
    first = reader.fault
    assert reader.receive(OK) == []
    assert reader.fault is first is not None
