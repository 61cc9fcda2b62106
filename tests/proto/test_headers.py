"""Headers: the multi-map, reading blocks that follow the rules and blocks that do not, writing blocks (ADR-4)."""

from __future__ import annotations

import tracemalloc

import pytest

from nats_proto import Headers, HeadersLike, Message, Status
from nats_proto._wire.headers import encode_header_block, encode_status_block, parse_header_block
from nats_proto.errors import HeaderError, InvalidHeaderError

KiB = 1024
MiB = 1024 * KiB

# --- the multi-map ---------------------------------------------------------------------------------------------------


def lines(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items())


SOURCES: list[tuple[HeadersLike | None, list[tuple[str, str]]]] = [
    (None, []),
    ({}, []),
    ([], []),
    ({"A": "1", "B": ["2", "3"], "C": [], "D": ("4",)}, [("A", "1"), ("B", "2"), ("B", "3"), ("D", "4")]),
    ([("A", "1"), ("B", "2"), ("A", "3")], [("A", "1"), ("B", "2"), ("A", "3")]),
    (iter([("A", "1")]), [("A", "1")]),
    (Headers([("A", "1"), ("B", "2"), ("A", "3")]), [("A", "1"), ("B", "2"), ("A", "3")]),
]


@pytest.mark.parametrize(("source", "expected"), SOURCES)
def test_sources(source: HeadersLike | None, expected: list[tuple[str, str]]) -> None:
    headers = Headers(source)
    assert lines(headers) == expected
    assert len(headers) == len(expected)


def test_lookups_keep_case_and_order() -> None:
    headers = Headers([("Key", "1"), ("key", "2"), ("Key", "3")])
    assert headers.get("Key") == "1"
    assert headers["Key"] == "1"
    assert headers.values("Key") == ["1", "3"]
    assert headers.values("key") == ["2"]
    assert headers.get("KEY") is None
    assert headers.get("KEY", "x") == "x"
    assert headers.values("KEY") == []
    assert "key" in headers
    assert "KEY" not in headers
    assert 5 not in headers
    assert list(headers) == ["Key", "key"]
    assert headers.get_any_case("KEY") == "1"
    assert headers.get_any_case("nothing") is None
    assert headers.get_any_case("nothing", "x") == "x"
    with pytest.raises(KeyError):
        headers["KEY"]


def test_lists_given_out_are_copies() -> None:
    headers = Headers([("A", "1"), ("A", "2")])
    headers.values("A").append("3")
    assert headers.values("A") == ["1", "2"]


def test_set_replaces_every_line_of_the_name() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("A", "3"), ("C", "4"), ("C", "5")])
    headers["A"] = "6"
    assert lines(headers) == [("A", "6"), ("B", "2"), ("C", "4"), ("C", "5")]
    headers["C"] = "7"
    assert lines(headers) == [("A", "6"), ("B", "2"), ("C", "7")]
    headers["B"] = "8"
    headers["D"] = "9"
    assert lines(headers) == [("A", "6"), ("B", "8"), ("C", "7"), ("D", "9")]
    headers.add("A", "10")
    assert lines(headers) == [("A", "6"), ("B", "8"), ("C", "7"), ("D", "9"), ("A", "10")]


def test_set_of_a_single_line_among_repeated_ones() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("B", "3")])
    headers["A"] = "4"
    assert lines(headers) == [("A", "4"), ("B", "2"), ("B", "3")]


def test_delete() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("A", "3"), ("C", "4"), ("C", "5")])
    headers.delete("B")
    assert lines(headers) == [("A", "1"), ("A", "3"), ("C", "4"), ("C", "5")]
    headers.delete("nothing")
    del headers["A"]
    assert lines(headers) == [("C", "4"), ("C", "5")]
    headers.delete("C")
    assert lines(headers) == []
    assert len(headers) == 0
    headers.add("A", "1")
    headers.delete("A")
    assert lines(headers) == []
    with pytest.raises(KeyError):
        del headers["A"]


def test_an_empty_value_is_a_value() -> None:
    headers = Headers({"A": ""})
    assert headers.get("A") == ""
    assert headers.values("A") == [""]
    headers.delete("A")
    assert "A" not in headers


def test_copies_are_independent() -> None:
    for source in ([("A", "1"), ("A", "2")], [("A", "1")]):
        headers = Headers(source)
        twin = headers.copy()
        assert twin == headers
        twin.add("A", "3")
        twin.add("B", "4")
        assert lines(headers) == source


def test_equality_and_repr() -> None:
    assert Headers({"A": "1", "B": "2"}) == Headers({"B": "2", "A": "1"})
    assert Headers([("A", "1"), ("A", "2")]) != Headers([("A", "2"), ("A", "1")])
    assert Headers({"A": "1"}) != Headers({"a": "1"})
    assert Headers({"A": "1"}) != {"A": "1"}
    assert repr(Headers({"A": ["1", "2"]})) == "Headers([('A', '1'), ('A', '2')])"
    with pytest.raises(TypeError):
        hash(Headers())


@pytest.mark.parametrize("source", [{"A": 1}, {1: "A"}, {"A": b"1"}, {"A": [1]}, [("A", None)], 5, [5]], ids=repr)
def test_only_text(source: HeadersLike) -> None:
    with pytest.raises(TypeError, match=r"must be (str|a mapping)"):
        Headers(source)
    with pytest.raises(TypeError, match=r"must be (str|a mapping)"):
        encode_header_block(source)


def test_wrong_types_change_nothing() -> None:
    headers = Headers({"A": "1"})
    with pytest.raises(TypeError):
        headers["A"] = 5  # type: ignore[assignment]
    with pytest.raises(TypeError):
        headers["B"] = 5  # type: ignore[assignment]
    with pytest.raises(TypeError):
        headers.add(5, "x")  # type: ignore[arg-type]
    assert lines(headers) == [("A", "1")]


# --- reading ---------------------------------------------------------------------------------------------------------

N = b"NATS/1.0"
# block, lines, status, what the error says
READ: list[tuple[str, bytes, list[tuple[str, str]], Status | None, str | None]] = [
    ("no-lines", N + b"\r\n\r\n", [], None, None),
    ("one", N + b"\r\nA: 1\r\n\r\n", [("A", "1")], None, None),
    ("no-blank", N + b"\r\nA:1\r\n\r\n", [("A", "1")], None, None),
    ("trimmed", N + b"\r\nA: \t 1 2\t \r\n\r\n", [("A", "1 2")], None, None),
    ("empty-value", N + b"\r\nA:\r\nB: \r\n\r\n", [("A", ""), ("B", "")], None, None),
    ("colons", N + b"\r\nA: b:c: d\r\n\r\n", [("A", "b:c: d")], None, None),
    ("repeated", N + b"\r\nA: 1\r\nB: 2\r\nA: 3\r\n\r\n", [("A", "1"), ("B", "2"), ("A", "3")], None, None),
    ("case", N + b"\r\nkey: 1\r\nKEY: 2\r\n\r\n", [("key", "1"), ("KEY", "2")], None, None),
    ("utf8", N + "\r\nA: ä€🎈\r\n\r\n".encode(), [("A", "ä€🎈")], None, None),
    ("tab-inside", N + b"\r\nA: 1\t2\r\n\r\n", [("A", "1\t2")], None, None),
    ("status", N + b" 503\r\n\r\n", [], Status(503), None),
    ("status-text", N + b" 404 No Messages\r\n\r\n", [], Status(404, "No Messages"), None),
    ("status-trimmed", N + b"  100 \t Idle Heartbeat \r\n\r\n", [], Status(100, "Idle Heartbeat"), None),
    ("status-and-lines", N + b" 503\r\nNats-Subject: a\r\n\r\n", [("Nats-Subject", "a")], Status(503), None),
    ("status-tab", N + b"\t503\r\n\r\n", [], Status(503), None),
    ("status-utf8", N + b" 500 a\xffb\r\n\r\n", [], Status(500, "a\udcffb"), None),
    ("status-blank", N + b" \t\r\n\r\n", [], None, None),
    ("status-000", N + b" 000\r\n\r\n", [], Status(0), None),
    # not a block
    ("H48-empty", b"", [], None, "does not begin with NATS/1.0"),
    ("H48-http", b"HTTP/1.1\r\nA: 1\r\n\r\n", [], None, "does not begin with NATS/1.0: b'HTTP/1.1"),
    ("H48-2.0", b"NATS/2.0\r\nA: 1\r\n\r\n", [], None, "does not begin"),
    ("H48-1.0x", b"NATS/1.0x\r\nA: 1\r\n\r\n", [], None, "does not begin"),
    ("H48-1.0503", b"NATS/1.0503\r\n\r\n", [], None, "does not begin"),
    ("H48-lower", b"nats/1.0\r\nA: 1\r\n\r\n", [], None, "does not begin"),
    ("H48-lf", b"NATS/1.0\nA: 1\r\n\r\n", [], None, "does not begin"),
    ("H48-only-version", N, [], None, "does not begin"),
    ("H48-no-end", N + b"\r\nA: 1\r\n", [], None, "does not end with an empty line"),
    ("H48-no-end-at-all", N + b"\r\nA: 1", [], None, "does not end with an empty line"),
    ("H48-lf-end", N + b"\r\nA: 1\n\n", [], None, "does not end with an empty line"),
    # one bad line never loses the others
    (
        "H49-no-colon",
        N + b"\r\nA: 1\r\nnonsense\r\nB: 2\r\n\r\n",
        [("A", "1"), ("B", "2")],
        None,
        "1 malformed header line(s), first: b'nonsense'",
    ),
    ("H49-empty-name", N + b"\r\n: 1\r\nB: 2\r\n\r\n", [("B", "2")], None, "1 malformed header line(s), first: b': 1'"),
    ("H49-blank-in-name", N + b"\r\nA B: 1\r\nA : 2\r\nB: 2\r\n\r\n", [("B", "2")], None, "2 malformed"),
    ("H49-control-in-name", N + b"\r\nA\x01: 1\r\nB: 2\r\n\r\n", [("B", "2")], None, "1 malformed"),
    ("H49-nul-in-value", N + b"\r\nA: 1\x002\r\nB: 2\r\n\r\n", [("B", "2")], None, "1 malformed"),
    ("H49-esc-in-value", N + b"\r\nA: \x1b[2J\r\nB: 2\r\n\r\n", [("B", "2")], None, "first: b'A: \\x1b[2J'"),
    ("H49-del-in-value", N + b"\r\nA: \x7f\r\nB: 2\r\n\r\n", [("B", "2")], None, "1 malformed"),
    ("H49-empty-line", N + b"\r\nA: 1\r\n\r\nB: 2\r\n\r\n", [("A", "1"), ("B", "2")], None, "1 malformed"),
    ("H50-bad-value", N + b"\r\nA: \xff\xfe\r\n\r\n", [("A", "\udcff\udcfe")], None, None),
    ("H50-bad-name", N + b"\r\nA\xff: 1\r\n\r\n", [("A\udcff", "1")], None, None),
    ("H50-overlong", N + b"\r\nA: \xc0\x8d\xc0\x8a\r\n\r\n", [("A", "\udcc0\udc8d\udcc0\udc8a")], None, None),
    ("H51-folded", N + b"\r\nA: 1\r\n B: 2\r\n\tC: 3\r\nD: 4\r\n\r\n", [("A", "1"), ("D", "4")], None, "2 malformed"),
    ("H51-bare-lf", N + b"\r\nA: 1\nB: 2\r\nC: 3\r\n\r\n", [("C", "3")], None, "first: b'A: 1\\nB: 2'"),
    ("H51-bare-cr", N + b"\r\nA: 1\rB: 2\r\nC: 3\r\n\r\n", [("C", "3")], None, "1 malformed"),
    ("H51-lf-in-name", N + b"\r\nA\nB: 2\r\nC: 3\r\n\r\n", [("C", "3")], None, "1 malformed"),
    ("H54-abc", N + b" abc\r\nA: 1\r\n\r\n", [("A", "1")], None, "1 malformed header line(s), first: b'NATS/1.0 abc'"),
    ("H54-negative", N + b" -1\r\n\r\n", [], None, "1 malformed"),
    ("H54-long", N + b" 99999999999999999999\r\n\r\n", [], None, "1 malformed"),
    ("H54-four", N + b" 5030\r\n\r\n", [], None, "1 malformed"),
    ("H54-two", N + b" 50\r\n\r\n", [], None, "1 malformed"),
    ("H54-foreign-digits", N + " ٥٠٣\r\n\r\n".encode(), [], None, "1 malformed"),
    ("H54-control", N + b" 503 a\x00b\r\nA: 1\r\n\r\n", [("A", "1")], None, "1 malformed"),
    ("H54-lf", N + b" 503\nX: 1\r\nA: 1\r\n\r\n", [("A", "1")], None, "1 malformed"),
    ("H54-status-and-line", N + b" x\r\ny\r\n\r\n", [], None, "2 malformed header line(s), first: b'NATS/1.0 x'"),
]


@pytest.mark.parametrize(
    ("block", "expected", "status", "error"), [row[1:] for row in READ], ids=[row[0] for row in READ]
)
def test_read(block: bytes, expected: list[tuple[str, str]], status: Status | None, error: str | None) -> None:
    parsed = parse_header_block(block)
    assert lines(parsed.headers) == expected
    assert parsed.status == status
    if error is None:
        assert parsed.error is None
    else:
        assert isinstance(parsed.error, HeaderError)
        assert error in str(parsed.error)
        assert str(parsed.error).isprintable()
        assert len(str(parsed.error)) < 400


def test_a_message_reads_its_block_once() -> None:
    message = Message("a", 1, None, b"", N + b" 503\r\nA: 1\r\nbad\r\n\r\n")
    assert message.headers == Headers({"A": "1"})
    assert message.headers is message.headers
    assert message.status == Status(503, "")
    assert "1 malformed" in str(message.header_error)
    plain = Message("a", 1, None, b"")
    assert (plain.headers, plain.status, plain.header_error) == (None, None, None)


def test_h54_a_long_status_text_is_kept() -> None:
    parsed = parse_header_block(N + b" 200 " + b"x" * MiB + b"\r\n\r\n")
    assert parsed.status == Status(200, "x" * MiB)


LARGE = {
    "H52-60000-lines": (N + b"\r\n" + b"a: b\r\n" * 60_000 + b"\r\n", 60_000),
    "H52-60000-names": (N + b"\r\n" + b"".join(b"%05x:\r\n" % n for n in range(60_000)) + b"\r\n", 60_000),
    "H52-1MiB-value": (N + b"\r\nA: " + b"v" * MiB + b"\r\n\r\n", 1),
    "H52-10000-equal": (N + b"\r\n" + b"Name: value\r\n" * 10_000 + b"\r\n", 10_000),
    "H53-10000-names": (N + b"\r\n" + b"".join(b"n%d: v\r\n" % n for n in range(10_000)) + b"\r\n", 10_000),
    "H49-60000-malformed": (N + b"\r\n" + b"abcd\r\n" * 60_000 + b"\r\n", 0),
}


@pytest.mark.parametrize("row", LARGE)
def test_large_blocks_take_little_memory(row: str) -> None:
    block, count = LARGE[row]
    tracemalloc.start()
    try:
        parsed = parse_header_block(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(parsed.headers) == count
    assert peak <= 20 * len(block)
    assert len(list(parsed.headers.items())) == count
    for name in parsed.headers:
        assert parsed.headers[name] == parsed.headers.values(name)[0]
        break


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "block"),
    [
        (Headers(), None),
        ({}, None),
        ([], None),
        ({"A": []}, None),
        ({"A": "1"}, N + b"\r\nA: 1\r\n\r\n"),
        ({"A": ["1", "2"], "b": ""}, N + b"\r\nA: 1\r\nA: 2\r\nb: \r\n\r\n"),
        ([("A", "1"), ("B", "2"), ("A", "3")], N + b"\r\nA: 1\r\nB: 2\r\nA: 3\r\n\r\n"),
        (Headers([("A", "1"), ("B", "2"), ("A", "3")]), N + b"\r\nA: 1\r\nB: 2\r\nA: 3\r\n\r\n"),
        ({"A": "ä€\u2028\x85\t!"}, N + "\r\nA: ä€\u2028\x85\t!\r\n\r\n".encode()),
        ({"!#$%&'*+-.^_`|~()\"": "1"}, N + b"\r\n!#$%&'*+-.^_`|~()\": 1\r\n\r\n"),
    ],
)
def test_write(headers: HeadersLike, block: bytes | None) -> None:
    assert encode_header_block(headers) == block


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", ":", "a\r", "a\n", "a\x00", "a\x7f", "a\t", "ä", "a\ud800", "ａ", "\u2028"]
)
def test_names_refused(name: str) -> None:
    with pytest.raises(InvalidHeaderError, match="header name must be printable ASCII"):
        encode_header_block([(name, "1")])


@pytest.mark.parametrize(
    "value", ["\r", "\n", "\r\n", "a\r\nB: 1", "\x00", "a\x00b", "1\r\n\r\nPING\r\n", "\x1b[2J", "\x7f", "\x0b"]
)
def test_values_refused(value: str) -> None:
    with pytest.raises(InvalidHeaderError, match="value of header 'A' must not contain control characters but TAB"):
        encode_header_block({"A": value})
    with pytest.raises(InvalidHeaderError):
        encode_status_block(503, value)


def test_h50_what_was_read_with_bad_utf8_cannot_be_sent() -> None:
    for block in (N + b"\r\nA: \xff\r\n\r\n", N + b"\r\nA\xff: 1\r\n\r\n"):
        with pytest.raises(InvalidHeaderError, match=r"lone surrogate|printable ASCII"):
            encode_header_block(parse_header_block(block).headers)


def test_status_blocks() -> None:
    assert encode_status_block(503) == N + b" 503\r\n\r\n"
    assert encode_status_block(404, "No Messages") == N + b" 404 No Messages\r\n\r\n"
    assert encode_status_block(503, "", {"A": "1"}) == N + b" 503\r\nA: 1\r\n\r\n"
    for code in (99, 1000, -1):
        with pytest.raises(InvalidHeaderError, match="three digits"):
            encode_status_block(code)


def test_long_names_are_cut_in_errors() -> None:
    with pytest.raises(InvalidHeaderError) as caught:
        encode_header_block({"ä" * 1000: "1"})
    assert len(str(caught.value)) < 400
