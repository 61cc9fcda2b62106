"""The encoder: exact bytes, limits, and a table of attacks that must not become a second operation."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nats_proto import (
    ConnectFrame,
    Encoder,
    ErrFrame,
    Frame,
    InfoFrame,
    Message,
    Parser,
    PingFrame,
    PublishFrame,
    Role,
    SubscribeFrame,
    UnsubscribeFrame,
)
from nats_proto._wire.encoder import CACHED_SUBJECTS, OK, PING, PONG
from nats_proto._wire.headers import encode_status_block
from nats_proto.errors import (
    ConfigurationError,
    HeadersNotSupportedError,
    InvalidHeaderError,
    InvalidSubjectError,
    LocalProtocolError,
    MaxControlLineError,
    MaxPayloadError,
)

KiB = 1024
BLOCK = b"NATS/1.0\r\nA: 1\r\n\r\n"


def joined(operation: bytes | tuple[bytes, bytes, bytes]) -> bytes:
    return operation if isinstance(operation, bytes) else b"".join(operation)


# --- exact bytes -----------------------------------------------------------------------------------------------------

EXACT: list[tuple[str, Callable[[Encoder], bytes | tuple[bytes, bytes, bytes]], bytes]] = [
    ("pub", lambda e: e.publish("a.b", b"hello"), b"PUB a.b 5\r\nhello\r\n"),
    ("pub-empty", lambda e: e.publish("a", b""), b"PUB a 0\r\n\r\n"),
    ("pub-reply", lambda e: e.publish("a", b"x", "r.1"), b"PUB a r.1 1\r\nx\r\n"),
    ("pub-utf8", lambda e: e.publish("ä", b"x", "ö"), "PUB ä ö 1\r\nx\r\n".encode()),
    ("pub-no-lines", lambda e: e.publish("a", b"x", None, {}), b"PUB a 1\r\nx\r\n"),
    ("hpub", lambda e: e.publish("a", b"xy", None, {"A": "1"}), b"HPUB a 18 20\r\n" + BLOCK + b"xy\r\n"),
    ("hpub-reply", lambda e: e.publish("a", b"", "r", {"A": "1"}), b"HPUB a r 18 18\r\n" + BLOCK + b"\r\n"),
    ("pub-bytearray", lambda e: e.publish("a", bytearray(b"x")), b"PUB a 1\r\nx\r\n"),
    ("pub-memoryview", lambda e: e.publish("a", memoryview(b"xyz")[::2]), b"PUB a 2\r\nxz\r\n"),
    ("pub-other-items", lambda e: e.publish("a", memoryview(array.array("H", [1]))), b"PUB a 2\r\n\x01\x00\r\n"),
    ("sub", lambda e: e.subscribe("a.*.>", None, 7), b"SUB a.*.> 7\r\n"),
    ("sub-queue", lambda e: e.subscribe("a", "q", 7), b"SUB a q 7\r\n"),
    ("unsub", lambda e: e.unsubscribe(7), b"UNSUB 7\r\n"),
    ("unsub-max", lambda e: e.unsubscribe(7, 5), b"UNSUB 7 5\r\n"),
    ("connect", lambda e: e.connect({"a": 1, "b": "ä\r\n"}), 'CONNECT {"a":1,"b":"ä\\r\\n"}\r\n'.encode()),
    ("info", lambda e: e.info({"a": None}), b'INFO {"a":null}\r\n'),
    ("msg", lambda e: e.message("a", 1, b"x"), b"MSG a 1 1\r\nx\r\n"),
    ("msg-reply", lambda e: e.message("a", 1, bytearray(b"x"), "r"), b"MSG a 1 r 1\r\nx\r\n"),
    ("msg-bad-utf8", lambda e: e.message("a\udcff", 1, b"", "\udcfe"), b"MSG a\xff 1 \xfe 0\r\n\r\n"),
    ("hmsg", lambda e: e.message("a", 1, b"x", None, BLOCK), b"HMSG a 1 18 19\r\n" + BLOCK + b"x\r\n"),
    ("hmsg-reply", lambda e: e.message("a", 1, b"", "r", bytearray(BLOCK)), b"HMSG a 1 r 18 18\r\n" + BLOCK + b"\r\n"),  # type: ignore[arg-type]
    ("err", lambda e: e.err("Stale Connection"), b"-ERR 'Stale Connection'\r\n"),
]


@pytest.mark.parametrize(("encode", "expected"), [row[1:] for row in EXACT], ids=[row[0] for row in EXACT])
def test_exact_bytes(encode: Callable[[Encoder], bytes], expected: bytes) -> None:
    encoder = Encoder()
    assert encode(encoder) == expected
    assert encode(encoder) == expected  # the second time with what the first one remembered


def test_words() -> None:
    assert (PING, PONG, OK) == (b"PING\r\n", b"PONG\r\n", b"+OK\r\n")


def test_large_payloads_are_pieces() -> None:
    encoder = Encoder()
    data = b"x" * 64 * KiB
    assert encoder.publish("a", data[1:]) == b"PUB a 65535\r\n" + data[1:] + b"\r\n"
    head, payload, end = encoder.publish("a", data)
    assert (head, end) == (b"PUB a 65536\r\n", b"\r\n")
    assert payload is data
    head, payload, end = encoder.publish("a", data, "r", {"A": "1"})
    assert (head, end) == (b"HPUB a r 18 65554\r\n" + BLOCK, b"\r\n")
    assert payload is data


@pytest.mark.parametrize("size", [3, 100 * KiB])
def test_what_the_caller_can_change_is_copied(size: int) -> None:
    buffer = bytearray(b"x" * size)
    for data in (buffer, memoryview(buffer)):
        operation = Encoder().publish("a", data)
        before = joined(operation)
        buffer[0] ^= 1
        assert joined(operation) == before
        if not isinstance(operation, bytes):
            assert type(operation[1]) is bytes
    del data
    buffer.clear()  # raises BufferError when a view of it were kept


# --- limits ----------------------------------------------------------------------------------------------------------

LINES: list[tuple[str, Callable[[Encoder, str], object], int]] = [
    ("pub", lambda e, s: e.publish(s, b"x" * 10), len("PUB  10\r\n")),
    ("pub-reply", lambda e, s: e.publish("a", b"", s), len("PUB a  0\r\n")),
    ("pub-large", lambda e, s: e.publish(s, b"x" * 100_000), len("PUB  100000\r\n")),
    ("hpub", lambda e, s: e.publish(s, b"", None, {"A": "1"}), len("HPUB  18 18\r\n")),
    ("hpub-large", lambda e, s: e.publish(s, b"x" * 100_000, None, {"A": "1"}), len("HPUB  18 100018\r\n")),
    ("sub", lambda e, s: e.subscribe(s, None, 1), len("SUB  1\r\n")),
    ("sub-queue", lambda e, s: e.subscribe("a", s, 1), len("SUB a  1\r\n")),
    ("msg", lambda e, s: e.message(s, 1, b""), len("MSG  1 0\r\n")),
    ("hmsg", lambda e, s: e.message(s, 1, b"", None, BLOCK), len("HMSG  1 18 18\r\n")),
    ("err", lambda e, s: e.err(s), len("-ERR ''\r\n")),
    ("connect", lambda e, s: e.connect({"a": s}), len('CONNECT {"a":""}\r\n')),
]


@pytest.mark.parametrize("limit", [100, 4096])
@pytest.mark.parametrize(("encode", "rest"), [row[1:] for row in LINES], ids=[row[0] for row in LINES])
def test_control_line_limit_is_exact(encode: Callable[[Encoder, str], object], rest: int, limit: int) -> None:
    encoder = Encoder(max_control_line=limit)
    longest = "s" * (limit - rest)
    for _ in range(2):
        encode(encoder, longest)
        with pytest.raises(MaxControlLineError, match=f"a line of {limit + 1} bytes, the limit is {limit}") as caught:
            encode(encoder, longest + "s")
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("limit", [4096.0, "4096", True, None])
def test_limits_are_integers(limit: Any) -> None:
    with pytest.raises(TypeError, match="max_control_line must be int"):
        Encoder(max_control_line=limit)
    with pytest.raises(TypeError, match="max_payload must be int"):
        Encoder().server_allows(max_payload=limit, headers=True)


def test_the_limit_counts_bytes() -> None:
    with pytest.raises(MaxControlLineError):
        Encoder(max_control_line=20).publish("€" * 6, b"")
    Encoder(max_control_line=20).publish("e" * 6, b"")


def test_connect_does_not_show_credentials() -> None:
    with pytest.raises(MaxControlLineError) as caught:
        Encoder(max_control_line=20).connect({"pass": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_server_allows() -> None:
    encoder = Encoder()
    encoder.publish("a", b"x" * 200_000, None, {"A": "1"})
    encoder.server_allows(max_payload=20, headers=True)
    encoder.publish("a", b"x" * 20)
    encoder.publish("a", b"xy", None, {"A": "1"})
    for operation in (
        lambda: encoder.publish("a", b"x" * 21),
        lambda: encoder.publish("a", b"xyz", None, {"A": "1"}),
        lambda: encoder.publish("a", b"x" * 200_000),
    ):
        with pytest.raises(MaxPayloadError, match="the server takes 20"):
            operation()
    encoder.server_allows(max_payload=20, headers=False)
    encoder.publish("a", b"x", None, {})
    with pytest.raises(HeadersNotSupportedError):
        encoder.publish("a", b"x", None, {"A": "1"})


@pytest.mark.parametrize("reply", [None, "r.ö"])
@pytest.mark.parametrize("headers", [None, {"A": "1"}])
@pytest.mark.parametrize("size", [0, 20, 64 * KiB])
def test_the_next_server_may_refuse_what_was_made_for_another(
    reply: str | None, headers: dict[str, str] | None, size: int
) -> None:
    encoder = Encoder()
    operation = encoder.publish("ä", b"x" * size, reply, headers)
    counted = size + (len(BLOCK) if headers else 0)
    assert encoder.refusal(operation) is None
    assert not encoder.may_refuse(10**9)
    assert encoder.server_allows(max_payload=counted, headers=True)
    assert encoder.refusal(operation) is None
    assert not encoder.may_refuse(counted)
    if counted:
        assert encoder.server_allows(max_payload=counted - 1, headers=True)
        assert encoder.may_refuse(counted)
        refusal = encoder.refusal(operation)
        assert refusal is not None
        assert isinstance(refusal.error, MaxPayloadError)
        assert f"'ä': headers and payload are {counted} bytes" in str(refusal.error)
        assert refusal.reply == reply
    assert encoder.server_allows(max_payload=10**6, headers=False)
    assert encoder.may_refuse(1)
    refusal = encoder.refusal(operation)
    assert (refusal is None) is (headers is None)
    if refusal is not None:
        assert isinstance(refusal.error, HeadersNotSupportedError)
        assert refusal.reply == reply
    assert not encoder.server_allows(max_payload=10**6, headers=False)
    assert not encoder.server_allows(max_payload=10**6 + 1, headers=True)


def test_the_cache_of_subjects_is_bounded() -> None:
    encoder = Encoder()
    for number in range(3 * CACHED_SUBJECTS):
        assert encoder.publish(f"s.{number}", b"") == b"PUB s.%d 0\r\n\r\n" % number
    assert len(encoder.heads) <= CACHED_SUBJECTS


def test_a_liar_is_not_remembered_for_others() -> None:
    encoder = Encoder()
    assert encoder.publish(LyingText("evil"), b"") == b"PUB evil 0\r\n\r\n"
    assert encoder.publish("known", b"") == b"PUB known 0\r\n\r\n"


def test_refused_subjects_are_not_remembered() -> None:
    encoder = Encoder()
    for _ in range(2):
        with pytest.raises(InvalidSubjectError):
            encoder.publish("a b", b"")
    assert encoder.heads == {}


# --- misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["text", 5, None, ["x"], {"a": 1}, True], ids=repr)
def test_payloads_must_be_bytes(wrong: Any) -> None:
    for headers in (None, {"A": "1"}):
        with pytest.raises(TypeError):
            Encoder().publish("a", wrong, None, headers)
    with pytest.raises(TypeError):
        Encoder().message("a", 1, wrong)


class Index:
    def __index__(self) -> int:
        return 1


class Many(int):
    def __str__(self) -> str:
        return "1\r\nPING\r\n"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return "1\r\nPING\r\n"


@pytest.mark.parametrize(
    "wrong", [Many(1), Index(), True, 1.0, "1", b"1", None], ids=lambda wrong: type(wrong).__name__
)
def test_numbers_must_be_int(wrong: Any) -> None:
    encoder = Encoder()
    for operation in (
        lambda: encoder.subscribe("a", None, wrong),
        lambda: encoder.unsubscribe(wrong),
        lambda: encoder.message("a", wrong, b""),
    ):
        with pytest.raises(TypeError, match="sid must be int"):
            operation()
    if wrong is not None:
        with pytest.raises(TypeError, match="max_msgs must be int"):
            encoder.unsubscribe(1, wrong)


@pytest.mark.parametrize("wrong", [0, -1, 2**63, 10**100])
def test_numbers_have_bounds(wrong: int) -> None:
    encoder = Encoder()
    with pytest.raises(ValueError, match="sid must be from 1 to"):
        encoder.subscribe("a", None, wrong)
    with pytest.raises(ValueError, match="max_msgs must be from 1 to"):
        encoder.unsubscribe(1, wrong)
    encoder.unsubscribe(2**63 - 1, 2**63 - 1)


@pytest.mark.parametrize("block", [b"x", b"\r\n", b"NATS/1.0", b"A: 1\r\n\r\n", b"NATS/1.0\r\nA: 1\r\n", b"\0" * 30])
def test_any_bytes_are_passed_on_as_a_header_block(block: bytes) -> None:
    expected = Message("a", 1, None, b"hi", block)
    for given in (block, bytearray(block), memoryview(block)):
        assert Parser(Role.CLIENT).receive_data(Encoder().message("a", 1, b"hi", None, given)) == [expected]


def test_an_empty_header_block_is_none() -> None:
    for empty in (None, b"", bytearray(), memoryview(b"")):
        assert Encoder().message("a", 1, b"hi", None, empty) == b"MSG a 1 2\r\nhi\r\n"


@pytest.mark.parametrize(
    "value",
    ["\ud800", object(), msgspec.Raw(b"1\r\nPING\r\n2"), msgspec.Raw(b"1\n"), {(1, 2): 3}],
    ids=["surrogate", "object", "raw lines", "raw end of line", "tuple as key"],
)
def test_what_json_cannot_say(value: object) -> None:
    encoder = Encoder()
    for encode, word in ((encoder.connect, "CONNECT"), (encoder.info, "INFO")):
        with pytest.raises(ConfigurationError, match=word):
            encode({"a": value})
    nested: list[object] = []
    nested.append(nested)
    with pytest.raises(ConfigurationError):
        encoder.connect({"a": nested})


# --- attacks ---------------------------------------------------------------------------------------------------------


class LyingText(str):
    """Text that shows harmless bytes to whoever asks it, and dangerous ones to whoever reads its own."""

    def encode(self, *args: Any, **kwargs: Any) -> bytes:  # type: ignore[override]
        return b"a"

    def __str__(self) -> str:
        return "a"

    def __format__(self, spec: str) -> str:
        return "a\r\nPING\r\n"

    def __len__(self) -> int:
        return 1

    def __hash__(self) -> int:
        return hash("known")

    def __eq__(self, other: object) -> bool:
        return True

    def isascii(self) -> bool:
        return True


class HarmlessLiar(str):
    """Harmless text that makes dangerous bytes of itself."""

    def encode(self, *args: Any, **kwargs: Any) -> bytes:  # type: ignore[override]
        return b"a 0\r\n\r\nPING\r\n"

    def __str__(self) -> str:
        return "a\r\nPING\r\n"


ATTACKS = [
    "a\r\nPUB b 0\r\n\r\n",
    "a\nPUB b 0\r\n\r\n",
    "a\rPUB b 0\r\r",
    "a 0\r\n\r\nPING\r\nPUB a",
    "a b",
    "a\tb",
    "a\x00b",
    "a\x0bb",
    "a\x0cb",
    "a\x1cb",
    "a\x1fb",
    "a\x7fb",
    "\r\n",
    "\n",
    "\r",
    " ",
    "",
    " a",
    "a ",
    "a\r",
    "a\n",
    "a\u2028PING\u2028",
    "a\u2029PING",
    "a\x85PING\x85",
    "a\u3000b",
    "a\xa0b",
    "a\u200bb",
    "a\ufeffb",
    "\ufeffa",
    "a\uff0d\uff0a",
    "a\u010a\u010d",  # low bytes are LF and CR
    "a\u560a\u560d",
    "a%0d%0aPING%0d%0a",
    "a\\r\\nPING\\r\\n",
    "a&#13;&#10;PING",
    "a\udc0d\udc0a",
    "a\udcc0\udc8a",  # overlong LF as surrogate escapes
    "a\ud800",
    "\udfff",
    "a..b",
    ".a",
    "a.",
    "*",
    "a.>",
    ">.a",
    "a 1 1",
    "a q 1\r\nSUB > 2",
    "'\r\n-ERR 'x",
    "'",
    '"}\r\nPING\r\n{"',
    "a: b\r\nc",
    "a\r\n\r\nPING\r\n",
    "NATS/1.0\r\n\r\n",
    "_INBOX.x\r\nUNSUB 1",
    "a" * 5000,
    LyingText("a\r\nPUB b 0\r\n\r\n"),
    LyingText("a b"),
    HarmlessLiar("a.b"),
]

# field, role that reads it, how the attack is placed, what of the frame must be the attack again
Place = Callable[[Encoder, str], bytes | tuple[bytes, bytes, bytes]]
FIELDS: dict[str, tuple[Role, Place, Callable[[Any], object]]] = {
    "publish subject": (Role.SERVER, lambda e, t: e.publish(t, b"x"), lambda f: f.subject),
    "publish reply": (Role.SERVER, lambda e, t: e.publish("a", b"x", t), lambda f: f.reply),
    "publish both and headers": (
        Role.SERVER,
        lambda e, t: e.publish(t, b"x", t, {"A": "1"}),
        lambda f: f.subject if f.subject == f.reply else None,
    ),
    "large publish": (Role.SERVER, lambda e, t: e.publish(t, b"x" * 70_000, t), lambda f: f.subject),
    "header name": (Role.SERVER, lambda e, t: e.publish("a", b"x", None, {t: "1"}), lambda f: next(iter(f.headers))),
    "header value": (Role.SERVER, lambda e, t: e.publish("a", b"x", None, {"A": t}), lambda f: f.headers["A"]),
    "payload": (Role.SERVER, lambda e, t: e.publish("a", str.encode(t, "utf-8", "surrogatepass")), lambda f: f.data),
    "subscribe subject": (Role.SERVER, lambda e, t: e.subscribe(t, None, 1), lambda f: f.subject),
    "queue": (Role.SERVER, lambda e, t: e.subscribe("a", t, 1), lambda f: f.queue),
    "connect option": (Role.SERVER, lambda e, t: e.connect({"name": t}), lambda f: f.options["name"]),
    "connect key": (Role.SERVER, lambda e, t: e.connect({t: 1}), lambda f: next(iter(f.options))),
    "info field": (Role.CLIENT, lambda e, t: e.info({"server_name": t}), lambda f: f.info.server_name),
    "message subject": (Role.CLIENT, lambda e, t: e.message(t, 1, b"x"), lambda f: f.subject),
    "message reply": (Role.CLIENT, lambda e, t: e.message("a", 1, b"x", t), lambda f: f.reply),
    "status text": (
        Role.CLIENT,
        lambda e, t: e.message("a", 1, b"x", None, encode_status_block(503, t)),
        lambda f: f.status.description,
    ),
    "error text": (Role.CLIENT, lambda e, t: e.err(t), lambda f: f.message),
}
REFUSALS = (
    InvalidSubjectError,
    InvalidHeaderError,
    MaxControlLineError,
    ConfigurationError,
    LocalProtocolError,
)
PARSED = (PublishFrame, SubscribeFrame, UnsubscribeFrame, ConnectFrame, InfoFrame, Message, ErrFrame)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("attack", ATTACKS, ids=[f"{n}-{ascii(str.__str__(t))[:24]}" for n, t in enumerate(ATTACKS)])
def test_attacks(field: str, attack: str) -> None:
    role, place, read = FIELDS[field]
    encoder = Encoder()
    encoder.publish("known", b"")  # what a liar could pretend to be
    try:
        sent = joined(place(encoder, attack))
    except REFUSALS:
        return
    parser = Parser(role)
    frames: list[Frame] = parser.receive_data(sent + PING)
    assert parser.error is None
    assert len(frames) == 2, "one operation and the PING behind it"
    assert isinstance(frames[0], PARSED)
    assert frames[1] == PingFrame()
    real = str.__str__(attack)
    got = read(frames[0])
    if field == "payload":
        assert got == real.encode("utf-8", "surrogatepass")
    elif field in ("header value", "status text"):
        assert got in (real, real.strip(" \t"))
    elif field == "error text":
        assert got == real.strip(" '")
    else:
        assert got in (real, "known")


def refused(field: str) -> set[str]:
    """The attacks that a field does not accept."""
    _, place, _ = FIELDS[field]
    found = set[str]()
    for attack in ATTACKS:
        try:
            place(Encoder(), attack)
        except REFUSALS:
            found.add(str.__str__(attack))
    return found


def test_what_is_refused() -> None:
    real = {str.__str__(attack) for attack in ATTACKS}
    line_ends = {text for text in real if "\r" in text or "\n" in text}
    surrogates = {text for text in real if any("\ud800" <= char <= "\udfff" for char in text)}
    blanks = {text for text in real if not text or any(char <= " " or char == "\x7f" for char in text)}
    controls = {text for text in real if any((char < " " and char != "\t") or char == "\x7f" for char in text)}
    too_long = {text for text in real if len(text) >= 5000}
    empty_token = {"a..b", ".a", "a."}
    assert refused("publish subject") == blanks | surrogates | too_long | empty_token | {"*", "a.>", ">.a"}
    assert refused("publish reply") == refused("publish subject")
    assert refused("subscribe subject") == blanks | surrogates | too_long | empty_token | {">.a"}
    assert refused("queue") == blanks | surrogates | too_long
    assert refused("header value") == line_ends | surrogates | controls
    assert refused("status text") == refused("header value")
    assert refused("connect option") >= surrogates | too_long
    assert refused("message subject") == blanks | {"a\ud800", "\udfff", "a\udc0d\udc0a"} | too_long
    assert refused("error text") >= line_ends
    assert refused("payload") == set()


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_payload_that_lies_about_itself(kind: type) -> None:
    class Liar(kind):  # type: ignore[misc]
        def __len__(self) -> int:
            return 1

        def __bytes__(self) -> bytes:
            return b"x\r\nPING\r\n"

        def __iter__(self) -> Any:
            return iter(b"x")

    for size in (10, 70_000):
        sent = joined(Encoder().publish("a", Liar(b"y" * size)))
        assert Parser(Role.SERVER).receive_data(sent) == [PublishFrame("a", None, None, b"y" * size)]
        sent = Encoder().message("a", 1, Liar(b"y" * size))
        assert Parser(Role.CLIENT).receive_data(sent) == [Message("a", 1, None, b"y" * size)]
