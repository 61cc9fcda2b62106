"""The compiled twin does what the Python one does: frame by frame, byte by byte, error by error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nats_proto import Frame, Message, Role
from nats_proto._wire.batch import Batch
from nats_proto.testing import chunked
from tests import fuzz
from tests.properties.streams import LIMITS, good, hostile
from tests.twins import COMPILED, PURE, Twin

if COMPILED is None:
    pytest.skip("the compiled module is not built", allow_module_level=True)

Mutable = bytes | bytearray | memoryview


class Mine(Message):
    """What a client delivers instead of `Message`."""

    client: object = None


NUMBERS = [
    *("0", "1", "2", "9", "10", "11", "12", "18", "00", "01", "0012", "0" * 19, "0" * 18 + "3", "0" * 20),
    *(str(2**bits + more) for bits in (7, 8, 15, 16, 31, 32, 53, 62, 63, 64) for more in (-1, 0, 1)),
    *(str(10**digits - 1) for digits in (18, 19, 20)),
    *("9" * 19 + "0", "1" + "0" * 19, "9" * 400),
    *("-1", "+1", "1_0", "0x1", "1.0", "1e3", "\u0662", "\uff12", "1\xa0", "\x0b1", "1\x00", "", "x"),
]
"""At, below and above every size of word, and what `int` would take but the protocol does not."""

LARGE_LIMITS: dict[str, Any] = {"max_control_line": 2**70, "max_header_bytes": 2**70, "max_payload": 2**70}
"""Nothing is refused for its length, so every number reaches the sums that are made with it."""

FEW = st.sampled_from(["a", "a.b", "ab", "ä", "a\x00b", "a\x7f", "a\udcff", "", "_INBOX.x.1", "7"])
SIZED = st.sampled_from(NUMBERS) | st.integers(0, 40).map(str)
BLANK = st.sampled_from([" "] * 12 + ["  ", "\t", "", "\r", "\n"])
LINE_END = st.sampled_from(["\r\n"] * 8 + ["\n", "\r", "\r\r\n", " \r\n", ""])
CONTENT = st.sampled_from([b"", b"x", b"xy", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nA: 1\r\n\r\n", b"\r\n"]) | st.binary(
    max_size=30
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A message whose every part may be a little wrong, its numbers more than a little."""
    verb = draw(st.sampled_from(["MSG", "HMSG", "MSG", "HMSG", "msg", "Hmsg", "MSGS"]))
    words = [verb, draw(FEW), draw(SIZED), *draw(st.lists(FEW | SIZED, max_size=2))]
    content = draw(CONTENT)
    if draw(st.booleans()):
        words += [str(len(content))] if verb != "HMSG" else [str(min(12, len(content))), str(len(content))]
    else:
        words += draw(st.lists(SIZED, min_size=1, max_size=3))
    line = "".join(word + draw(BLANK) for word in words[:-1]) + words[-1] + draw(LINE_END)
    return (
        line.encode("utf-8", "surrogateescape") + content + draw(st.sampled_from([b"\r\n"] * 8 + [b"", b"\r", b"\n\r"]))
    )


def streams() -> st.SearchStrategy[bytes]:
    some = st.lists(lines() | good(Role.CLIENT) | st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n"]), max_size=6)
    repeated = st.tuples(lines(), st.integers(1, 4)).map(lambda drawn: drawn[0] * drawn[1])
    return some.map(b"".join) | hostile() | st.tuples(repeated, lines(), repeated).map(b"".join)


LIMIT_SETS = st.sampled_from([{}, LIMITS, LARGE_LIMITS, {"max_control_line": 17, "max_payload": 0}])


def seen(frames: Iterable[Frame | Batch]) -> list[tuple[Any, ...]]:
    """All there is to a frame, the types of its parts included."""
    shown: list[tuple[Any, ...]] = []
    for frame in frames:
        if isinstance(frame, Batch):
            shown.append((Batch, frame.data_bytes, seen(frame.messages)))
            for sid, messages, size, sizes in frame.shares:
                shown.append((sid, size, sizes, [type(part) for part in (sid, size, sizes)], seen(messages)))
        elif isinstance(frame, Message):
            parts: tuple[object, ...] = (frame.subject, frame.sid, frame.reply, frame.data, frame.header_block)
            shown.append((type(frame), parts, [type(part) for part in parts], frame.parsed))
        else:
            shown.append((type(frame), frame))
    return shown


def parsed(twin: Twin, pieces: list[bytes], **options: Any) -> tuple[list[tuple[Any, ...]], object, str]:
    parser = twin.parser(**options)
    frames = [frame for piece in pieces for frame in parser.receive_data(piece)]
    return seen(frames), type(parser.error), str(parser.error)


@given(streams(), LIMIT_SETS, st.sampled_from([Message, Mine]), st.data())
@example(b"MSG a 1 1\r\nx\r\n" * 3, {}, Mine, None)
@example(b"HMSG a 1 r 12 13\r\nNATS/1.0\r\n\r\nx\r\n" * 3, {}, Mine, None)
def test_both_read_the_same(stream: bytes, limits: dict[str, Any], message_type: type[Message], data: Any) -> None:
    whole = parsed(PURE, [stream], message_type=message_type, **limits)
    assert parsed(COMPILED, [stream], message_type=message_type, **limits) == whole
    cut = data.draw(chunked(stream)) if data is not None else [stream[:9], stream[9:]]
    assert parsed(COMPILED, cut, message_type=message_type, **limits) == whole


def assert_both_take_the_same(stream: bytes, places: Iterable[int] = (0,), **limits: int) -> None:
    """Not the parsers but their fast paths alone: equal frames, equal batches, what is left begins at the same byte."""
    limits = {"max_control_line": 4096, "max_header_bytes": 4096, "max_payload": 4096, **limits}
    twins = [twin.fast_path(message_type=Message, **limits) for twin in (PURE, COMPILED)]
    for position in places:
        for batches in (False, True):
            pure, compiled = list[Frame | Batch](), list[Frame | Batch]()
            stopped = twins[0].read(stream, position, pure, batches)
            assert twins[1].read(stream, position, compiled, batches) == stopped, (stream, limits)
            assert seen(compiled) == seen(pure), (stream, limits)


@given(streams(), LIMIT_SETS)
def test_both_take_the_same_from_every_place(stream: bytes, limits: dict[str, int]) -> None:
    """Also from those where no operation begins."""
    limits = {name: limit for name, limit in limits.items() if name != "max_info"}
    assert_both_take_the_same(stream, range(len(stream) + 1), **limits)


BLOCK = b"NATS/1.0\r\n\r\n"
BASES = [
    b"MSG a.b 12 5\r\nhello\r\n",
    b"MSG a.b 1 r.1 2\r\nxy\r\n",
    b"HMSG a 1 12 14\r\n" + BLOCK + b"xy\r\n",
    b"HMSG a 1 r 12 12\r\n" + BLOCK + b"\r\n",
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
]


@pytest.mark.parametrize("base", BASES)
def test_every_byte_in_every_place(base: bytes) -> None:
    for at in range(len(base)):
        for value in range(256):
            other = base[:at] + bytes([value]) + base[at + 1 :]
            assert_both_take_the_same(base * 2 + other + base * 2)
            assert_both_take_the_same(base[:at] + bytes([value]) + base[at:])
        assert_both_take_the_same(base[:at] + base[at + 1 :] + base)
        assert_both_take_the_same(base + base[:at])


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ["max_control_line", "max_header_bytes", "max_payload"])
def test_every_limit(base: bytes, name: str) -> None:
    least = 6 if name == "max_control_line" else 0
    for limit in range(least, 40):
        assert_both_take_the_same(base * 2, **{name: limit})


@pytest.mark.parametrize("limits", [{}, LARGE_LIMITS], ids=["usual", "large"])
def test_every_number_in_every_place(limits: dict[str, int]) -> None:
    for number in [*NUMBERS, *map(str, range(30))]:
        for template in ("MSG a {} 1", "MSG a 1 {}", "MSG a 1 {} 1", "MSG a 1 r {}", "MSG {} {} {}"):
            assert_both_take_the_same(template.replace("{}", number).encode() + b"\r\nx\r\n", **limits)
        for template in ("a {} 12 13", "a 1 {} 13", "a 1 12 {}", "a 1 r {} 13", "a 1 r 12 {}", "a 1 {} 12 13"):
            assert_both_take_the_same(
                b"HMSG " + template.replace("{}", number).encode() + b"\r\n" + BLOCK + b"x\r\n", **limits
            )


def test_what_is_the_same_as_before_and_what_is_not() -> None:
    """Of two messages in a row every part may be equal or another, a beginning of the other's, or of another length."""
    subjects, sids, replies = ("a", "b", "ab", "a.1"), ("1", "2", "12", "01"), ("", "r ", "q ", "rr ", "1 ")
    messages = [
        f"MSG {subject} {sid} {reply}{len(data)}\r\n{data}\r\n".encode()
        for subject in subjects
        for sid in sids
        for reply in replies
        for data in ("", "x", "yz")
    ]
    with_headers = [b"HMSG a 1 12 13\r\n%bx\r\n" % BLOCK, b"HMSG a 1 r 12 12\r\n%b\r\n" % BLOCK]
    for first in messages[::3] + with_headers:
        for second in messages + with_headers:
            assert_both_take_the_same(first + second + first)


def test_the_fuzz_corpus_for_a_moment() -> None:
    assert fuzz.replay(rounds=10, seed=1) > 1000
