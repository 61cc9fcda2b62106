"""The WebSocket layer: its request and every answer to it, what it sends, and what of that was handed over."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pytest
import websockets.frames
import websockets.speedups
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from nats_proto._http import MAX_HEAD
from nats_proto._layers import Layer, Wire
from nats_proto._secret import Secret
from nats_proto._server import Server
from nats_proto._websocket import MAX_UNCOMPRESSED, MESSAGE, MIN_LIMIT, WebSocketLayer
from nats_proto.errors import ConfigurationError, LocalProtocolError, WebSocketError
from tests.proto.splits import feed, splits
from tests.proto.websocket_peer import AGREED, accept, asked, frame, frames, inflate, opened

BINARY, ZIPPED, CLOSE, PING, PONG = 0x82, 0xC2, 0x88, 0x89, 0x8A
NORMAL = b"\x03\xe8"

# --- the request -----------------------------------------------------------------------------------------------------


def lines_of(request: bytes) -> list[str]:
    assert request.endswith(b"\r\n\r\n")
    return request[:-4].decode().split("\r\n")


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("ws://h", "/", "h"),
        ("ws://h:80/", "/", "h"),
        ("ws://h:8080/a/b?x=1&y=%20", "/a/b?x=1&y=%20", "h:8080"),
        ("ws://h?x", "/?x", "h"),
        ("wss://h", "/", "h"),
        ("wss://h:80", "/", "h:80"),
        ("ws://[::1]:81/", "/", "[::1]:81"),
        ("ws://u:p@h", "/", "h"),
    ],
)
def test_the_request(url: str, target: str, host: str) -> None:
    _, request = asked(url=url)
    first, *headers = lines_of(request)
    assert first == f"GET {target} HTTP/1.1"
    key = [header for header in headers if header.startswith("Sec-WebSocket-Key: ")]
    assert len(key) == 1
    wanted = {f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"}
    assert set(headers) == {*wanted, *key}  # no Origin above all


def test_every_request_has_another_key() -> None:
    assert len({asked()[1] for _ in range(20)}) == 20


def test_compression_is_offered_when_it_is_wanted() -> None:
    assert AGREED.decode() in lines_of(asked(compression=True)[1])


HEADERS: list[tuple[Mapping[str, str] | Iterable[tuple[str, str | Secret]], list[str]]] = [
    ({"Authorization": "Bearer x"}, ["Authorization: Bearer x"]),
    ([("Cookie", "a=b"), ("X-y", Secret("z")), ("Cookie", "c=d")], ["Cookie: a=b", "X-y: z", "Cookie: c=d"]),
    ({"Empty": "", "Odd": "\t~ a"}, ["Empty: ", "Odd: \t~ a"]),
    (iter([("Origin", "https://x")]), ["Origin: https://x"]),
    ({"host": "other:1"}, ["host: other:1"]),
    ((), []),
]


@pytest.mark.parametrize(("headers", "shown"), HEADERS, ids=[str(row[1]) for row in HEADERS])
def test_more_headers(headers: Mapping[str, str] | Iterable[tuple[str, str | Secret]], shown: list[str]) -> None:
    layer = WebSocketLayer(Server.parse("ws://h"), max_message=1, headers=headers)
    layer.start()
    lines = lines_of(b"".join(layer.wrap([])))
    assert lines[len(lines) - len(shown) :] == shown
    assert sum(line.lower().startswith("host:") for line in lines) == 1


REFUSED_HEADERS = [
    ({"Upgrade": "m4rker"}, "is upgrade, which belongs to the upgrade itself"),
    ({"connection": "m4rker"}, "is connection"),
    ({"Sec-WebSocket-Key": "m4rker"}, "is sec-websocket-key"),
    ({"sec-websocket-protocol": "m4rker"}, "is sec-websocket-protocol"),
    ({"Content-Length": "1"}, "is content-length"),
    ({"Transfer-Encoding": "chunked"}, "is transfer-encoding"),
    ({"Expect": "100-continue"}, "is expect"),
    ({"Nats-No-Masking": "true"}, "is nats-no-masking"),
    ([("Host", "a"), ("hOST", "b")], "Host is there more than once"),
    ({"": "m4rker"}, "entry 1 has a name that is empty"),
    ({"A": "b", "B c": "m4rker"}, "entry 2 has a name"),
    ({"A:": "m4rker"}, "has a name"),
    ({"m4rker\r\nB": "c"}, "has a name"),
    ({"m4rker\n": "c"}, "has a name"),
    ({"É": "m4rker"}, "has a name"),
    ({"\ud800": "m4rker"}, "has a name"),
    ({"A": "m4rker\r\nB: c"}, "(a) has a value"),
    ({"A": "m4rker\n"}, "has a value"),
    ({"A": "m4rker\0"}, "has a value"),
    ({"A": "m4rker\x7f"}, "has a value"),
    ({"A": "m4rkeré"}, "has a value"),
    ({"A": "m4rker\ud800"}, "has a value"),
    ([("A", Secret("m4rker\r\n"))], "has a value"),
    ({"A": 1}, "has a name or a value that is no text"),
    ({1: "m4rker"}, "has a name or a value that is no text"),
    ({"A": b"m4rker"}, "has a name or a value that is no text"),
    ([("m4rker",)], "entry 1 is no pair"),
    (["m4"], "entry 1 is no pair"),
    ([("m4rker", "b", "c")], "entry 1 is no pair"),
    ("m4rker", "a mapping or an iterable of pairs is wanted, not str"),
    (b"m4rker", "a mapping or an iterable of pairs is wanted, not bytes"),
    (None, "a mapping or an iterable of pairs is wanted, not NoneType"),
]


@pytest.mark.parametrize(("headers", "reason"), REFUSED_HEADERS, ids=[ascii(row[0]) for row in REFUSED_HEADERS])
def test_headers_are_refused(headers: object, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^WebSocket headers: ") as caught:
        WebSocketLayer(Server.parse("ws://h"), max_message=1, headers=headers)  # type: ignore[arg-type]
    assert reason in str(caught.value)
    assert "m4rker" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_text_that_lies_about_its_encoding_is_not_believed() -> None:
    class Liar(str):
        def encode(self, *_: object, **__: object) -> bytes:
            return b"A: b\r\nC: d"

    layer = WebSocketLayer(Server.parse("ws://h"), max_message=1, headers={Liar("X"): Liar("y")})
    layer.start()
    assert lines_of(b"".join(layer.wrap([])))[-1] == "X: y"


@pytest.mark.parametrize(
    "server",
    [
        Server(scheme="nats", host="h", port=1),
        Server(scheme="ws", host="h", port=1, path="x"),
        Server(scheme="ws", host="h", port=1, path="/ HTTP/1.1\r\nX: y"),
        Server(scheme="ws", host="h", port=1, path="/é"),
        Server(scheme="ws", host="h\r\nX: y", port=1),
        Server(scheme="ws", host="", port=1),
    ],
    ids=ascii,
)
def test_a_server_that_no_request_can_name_is_refused(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="ws or wss URL"):
        WebSocketLayer(server, max_message=1)


def test_a_limit_that_nothing_can_keep_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_message must be 1 or more"):
        WebSocketLayer(Server.parse("ws://h"), max_message=0)


# --- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    id: str
    answer: Callable[[bytes], bytes]
    error: str | None = None
    above: bytes = b""
    compression: bool = False
    compressed: bool = False


def good(*headers: bytes, behind: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda request: accept(request, *headers) + behind


def changed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """The good answer, but for one thing."""

    def answer(request: bytes) -> bytes:
        assert old in accept(request)
        return accept(request).replace(old, new)

    return answer


def status(line: bytes, *headers: bytes) -> Callable[[bytes], bytes]:
    return lambda request: b"\r\n".join([b"HTTP/1.1 " + line, *headers, b"", b""])


EXTENSIONS = b"Sec-WebSocket-Extensions: "
INFO = frame(b"INFO {}\r\n")
NO_TERMS = "compression without server_no_context_takeover and client_no_context_takeover"
ROWS = [
    Row("101", good()),
    Row("101-and-frames", good(behind=INFO + INFO), above=b"INFO {}\r\n" * 2),
    Row("101-and-more-headers", good(b"Set-Cookie: a=b", b"Server: x")),
    Row("101-with-a-list", changed(b"Connection: Upgrade", b"Connection: keep-alive, upgrade")),
    Row("101-behind-103", lambda request: b"HTTP/1.1 103 Early Hints\r\n\r\n" + accept(request), above=b""),
    Row("compression-agreed", good(AGREED), compression=True, compressed=True),
    Row("compression-agreed-with-a-window", good(AGREED + b"; server_max_window_bits=9"), None, b"", True, True),
    Row("compression-not-agreed", good(), compression=True),
    Row("compression-without-server-term", good(EXTENSIONS + b"permessage-deflate; client_no_context_takeover"),
        "not on the terms", compression=True),
    Row("compression-without-client-term", good(EXTENSIONS + b"permessage-deflate; server_no_context_takeover"),
        NO_TERMS, compression=True),
    Row("compression-twice", good(AGREED, AGREED), "101 wants an extension", compression=True),
    Row("compression-with-another-term", good(AGREED + b"; x=1"), "101 wants an extension", compression=True),
    Row("compression-with-our-window", good(AGREED + b"; client_max_window_bits=9"), "101 wants", compression=True),
    Row("compression-not-offered", good(AGREED), "101 wants an extension"),
    Row("another-extension", good(EXTENSIONS + b"x-y"), "101 wants an extension", compression=True),
    Row("extension-malformed", good(EXTENSIONS + b",;="), "no good Sec-WebSocket-Extensions header", compression=True),
    Row("a-subprotocol", good(b"Sec-WebSocket-Protocol: mqtt"), "101 wants an extension or subprotocol"),
    Row("wrong-key", changed(b"Accept: ", b"Accept: x"), "101 has no good Sec-WebSocket-Accept header"),
    Row("no-key", changed(b"Sec-WebSocket-Accept", b"X"), "101 has no good Sec-WebSocket-Accept header"),
    Row("two-keys", good(b"Sec-WebSocket-Accept: x"), "101 has no good Sec-WebSocket-Accept header"),
    Row("no-upgrade", changed(b"Upgrade: websocket\r\n", b""), "101 has no good Upgrade header"),
    Row("upgrade-to-h2c", changed(b"Upgrade: websocket", b"Upgrade: h2c"), "101 has no good Upgrade header"),
    Row("no-connection", changed(b"Connection: Upgrade\r\n", b""), "101 has no good Connection header"),
    Row("connection-malformed", changed(b"Connection: Upgrade", b"Connection: =,"), "no good Connection header"),
    Row("http-1.0", changed(b"HTTP/1.1", b"HTTP/1.0"), "its answer 101 is malformed"),
    Row("no-reason-and-no-space", changed(b"101 Switching Protocols", b"101"), "its answer 101 is malformed"),
    Row("too-many-headers", good(*[b"A: b"] * 200), "its answer 101 is malformed"),
    Row("line-too-long", good(b"A: " + b"b" * 9000), "its answer 101 is malformed"),
    Row("200", status(b"200 OK"), "upgrade: 200 OK"),
    Row("204-without-reason", status(b"204"), "upgrade: 204"),
    Row("301", status(b"301 Moved Permanently", b"Location: ws://s3cret"), "301 Moved Permanently; redirects are not"),
    Row("308", status(b"308 X", b"Location: /"), "redirects are not followed"),
    Row("304", status(b"304 Not Modified"), "upgrade: 304 Not Modified"),
    Row("401", status(b"401 Unauthorized"), "401 Unauthorized; it, or a proxy before it, wants credentials"),
    Row("403", status(b"403 Forbidden"), "403 Forbidden; it, or a proxy before it, does not allow"),
    Row("404", status(b"404 Not Found"), "there is nothing at this path"),
    Row("407", status(b"407 Proxy Authentication Required"), "wants credentials"),
    Row("426", status(b"426 Upgrade Required", b"Content-Length: 5"), "426 Upgrade Required"),
    Row("500-escaped", status(b"500 \xff" + b"x" * 99), r"500 \xff" + "x" * 59),
    Row("no-http", lambda _: b"INFO {}\r\n", "its answer is not HTTP; is this its WebSocket port?"),
    Row("tls", lambda _: b"\x15\3\1\0\2\2\x46", "its answer is not HTTP"),
    Row("our-request-back", lambda request: request, "its answer is not HTTP"),
    Row("malformed-header", good(b"A b"), "its answer has a malformed header"),
    Row("escape-in-a-header", good(b"A: \x1b[2J"), "its answer has a malformed header"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_an_answer_is_read_alike_however_it_is_split(row: Row) -> None:
    _, request = asked(compression=row.compression)
    key = request  # all layers below have the same one, so that the splits are the same
    answer = row.answer(key)
    for parts in (
        splits(answer) if len(answer) < 1000 else [[answer], [answer[at : at + 1] for at in range(len(answer))]]
    ):
        layer, _ = asked(compression=row.compression)
        layer._upgrade._protocol.key = key.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
        above = feed(layer, parts)
        if row.error is None:
            assert (above, layer.error, layer.ready, layer.compressed) == (row.above, None, True, row.compressed), parts
        else:
            assert isinstance(layer.error, WebSocketError), parts
            text = str(layer.error)
            assert text.startswith("server ws://h:80 did not accept the WebSocket upgrade"), text
            assert row.error in text
            assert "s3cret" not in text
            assert layer.error.__context__ is layer.error.__cause__ is None
            assert (above, layer.ready, layer.ended) == (b"", False, False)
            assert (layer.wrap([b"x"]), layer.receive_data(accept(request))) == ([], b"")


def test_headers_are_bounded_and_ten_mebibytes_of_them_end_early() -> None:
    for size in (1, 64 * 1024, 20 * 2**20):
        layer, request = asked()
        stream = accept(request)[:-2] + (b"A: " + b"x" * 95 + b"\r\n") * (10 * 2**20 // 100)
        for at in range(0, len(stream), size):
            layer.receive_data(stream[at : at + size])
            if layer.error is not None:
                break
        assert f"its answer has more than {MAX_HEAD} bytes of headers" in str(layer.error)
        assert at < 2 * max(size, MAX_HEAD)


@pytest.mark.parametrize("answer", [b"", b"H", b"HTTP/1.1 101 Switching Protocols\r\n"])
def test_the_end_in_the_upgrade_is_an_error(answer: bytes) -> None:
    layer, _ = asked()
    layer.receive_data(answer)
    layer.receive_eof()
    assert isinstance(layer.error, WebSocketError)
    assert "did not accept the WebSocket upgrade: it closed the connection" in str(layer.error)
    first = layer.error
    layer.receive_eof()
    assert layer.error is first


def test_an_error_takes_back_a_request_that_has_not_left() -> None:
    layer = WebSocketLayer(Server.parse("ws://h"), max_message=1)
    layer.start()
    layer.receive_eof()
    assert layer.error is not None
    assert layer.wrap([]) == []


@given(st.binary(max_size=200) | st.text('Upgradewebsocket-Connection: ,;=\r\n"\\', max_size=200).map(str.encode))
def test_no_answer_can_make_it_raise(junk: bytes) -> None:
    for answer in (good(junk), changed(b"Connection: Upgrade", b"Connection: " + junk), good(EXTENSIONS + junk)):
        layer, request = asked(compression=True)
        layer.receive_data(answer(request))
        layer.receive_eof()
        assert layer.error is not None or layer.ready


def test_not_even_a_library_that_raises_can(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, request = asked()
    monkeypatch.setattr(layer._upgrade._protocol, "process_response", lambda _: 1 / 0)
    layer.receive_data(accept(request))
    assert "its answer 101 is malformed" in str(layer.error)


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_pieces_become_one_message() -> None:
    layer = opened()
    below = layer.wrap([b"PUB a 1\r\n", b"", b"x", b"\r\n"])
    assert len(below) == 1
    assert frames(below) == [(BINARY, b"PUB a 1\r\nx\r\n")]
    assert layer.wrap([]) == []
    assert layer.wrap([b""]) == []


@pytest.mark.parametrize(
    "sizes",
    [[MESSAGE], [MESSAGE + 1], [1, MESSAGE], [MESSAGE - 1, 1, 1], [5 * MESSAGE + 3, 7], [10_000] * 50, [MESSAGE] * 3],
    ids=str,
)
def test_much_becomes_several_messages_all_full_but_the_last(sizes: list[int]) -> None:
    pieces = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    sent = frames(opened().wrap(pieces))
    assert b"".join(payload for _, payload in sent) == b"".join(pieces)
    assert {first for first, _ in sent} == {BINARY}
    assert all(len(payload) == MESSAGE for _, payload in sent[:-1])
    assert 0 < len(sent[-1][1]) <= MESSAGE


def test_every_frame_has_a_mask_of_its_own() -> None:
    layer = opened()
    masks = {layer.wrap([b"x"])[0][2:6] for _ in range(100)}
    assert len(masks) > 95


def test_the_mask_is_made_in_c() -> None:
    assert websockets.frames.apply_mask is websockets.speedups.apply_mask


def test_compression_takes_what_is_worth_it() -> None:
    layer = opened(compression=True)
    ((first, payload),) = frames(layer.wrap([b"x" * MAX_UNCOMPRESSED]))
    assert (first, payload) == (BINARY, b"x" * MAX_UNCOMPRESSED)
    for _ in range(2):  # each message by itself
        ((first, payload),) = frames(layer.wrap([b"x" * 30, b"x" * 40]))
        assert (first, inflate(payload)) == (ZIPPED, b"x" * 70)


@pytest.mark.parametrize(
    ("max_payload", "first", "largest"),
    [
        (None, ZIPPED, MESSAGE),
        (2**40, ZIPPED, MESSAGE),
        (10_000, ZIPPED, 10_000),
        (MIN_LIMIT, ZIPPED, MIN_LIMIT),
        (MIN_LIMIT - 1, BINARY, MESSAGE),
        (0, BINARY, MESSAGE),
        (-1, BINARY, MESSAGE),
    ],
)
def test_no_compressed_message_is_larger_than_the_server_inflates(
    max_payload: int | None, first: int, largest: int
) -> None:
    layer = opened(compression=True)
    if max_payload is not None:
        layer.limit_messages(1)
        layer.limit_messages(max_payload)
    data = bytes(2 * MESSAGE)
    sent = frames(layer.wrap([data]))
    payloads = [inflate(payload) if first == ZIPPED else payload for first, payload in sent]
    assert b"".join(payloads) == data
    assert sent[0][0] == first
    assert len(payloads[0]) == largest


def test_the_limit_is_nothing_to_uncompressed_messages() -> None:
    layer = opened()
    layer.limit_messages(10)
    assert [len(payload) for _, payload in frames(layer.wrap([bytes(1000)]))] == [1000]


def test_an_answer_to_a_ping_goes_before_the_bytes() -> None:
    layer = opened()
    layer.receive_data(frame(b"p", PING))
    assert frames(layer.wrap([b"x"])) == [(PONG, b"p"), (BINARY, b"x")]
    assert frames(layer.wrap([b"x"])) == [(BINARY, b"x")]


# --- the end ---------------------------------------------------------------------------------------------------------


def test_close_says_goodbye_behind_the_last_bytes_and_takes_no_more() -> None:
    layer = opened()
    layer.close()
    layer.close()
    assert layer.receive_data(frame(b"late")) == b"late"
    below = layer.wrap([b"last"])
    assert frames(below) == [(BINARY, b"last"), (CLOSE, NORMAL)]
    layer.close()
    assert layer.receive_data(frame(b"p", PING) + frame(b"later")) == b"later"
    assert layer.wrap([b"lost"]) == []
    assert layer.sent(len(b"".join(below))) == 4
    assert layer.receive_data(frame(NORMAL, CLOSE)) == b""
    assert layer.ended
    assert layer.wrap([]) == []


def test_close_before_the_upgrade_says_nothing() -> None:
    layer, request = asked()
    layer.close()
    assert layer.wrap([]) == []
    layer.receive_data(accept(request))
    assert layer.wrap([]) == []


def test_the_servers_goodbye_is_answered_and_told() -> None:
    layer = opened()
    layer.receive_data(frame(b"\x03\xf0" + "Slow Consumer é\n".encode(), CLOSE))
    assert (layer.ended, layer.error, layer.close_code) == (True, None, 1008)
    assert layer.close_reason == r"Slow Consumer \xe9\n"
    layer.close()
    assert frames(layer.wrap([b"not taken"])) == [(CLOSE, b"\x03\xf0")]
    assert layer.wrap([b"not taken"]) == []
    assert layer.receive_data(frame(b"x")) == b""
    layer.receive_eof()
    assert layer.error is None


def test_a_goodbye_without_a_code() -> None:
    layer = opened()
    layer.close()
    layer.receive_data(frame(b"", CLOSE))
    assert (layer.close_code, layer.close_reason) == (1005, "")
    assert frames(layer.wrap([b"not taken"])) == [(CLOSE, b"")]


def test_a_fault_after_our_goodbye_is_not_answered() -> None:
    layer = opened()
    layer.close()
    layer.wrap([])
    layer.receive_data(frame(b"x", 0x81))
    assert layer.error is not None
    assert layer.wrap([]) == []


def test_misuse_changes_nothing() -> None:
    layer = WebSocketLayer(Server.parse("ws://h"), max_message=1)
    with pytest.raises(LocalProtocolError, match="not ready"):
        layer.wrap([b"x"])
    layer.start()
    with pytest.raises(LocalProtocolError, match="once"):
        layer.start()
    with pytest.raises(LocalProtocolError, match="not ready"):
        layer.wrap([b"x"])
    request = b"".join(layer.wrap([]))
    assert lines_of(request)[0] == "GET / HTTP/1.1"
    with pytest.raises(LocalProtocolError):
        layer.sent(len(request) + 1)
    layer.limit_messages(5)
    layer.receive_data(accept(request))
    assert frames(layer.wrap([b"hello"])) == [(BINARY, b"hello")]


# --- what was handed over --------------------------------------------------------------------------------------------

PIECES = st.lists(st.lists(st.binary(max_size=60) | st.integers(0, 9000).map(bytes), max_size=4), max_size=6)


@given(PIECES, st.booleans(), st.integers(MIN_LIMIT, 20_000), st.data())
def test_what_was_accepted_is_told_to_the_byte(
    batches: list[list[bytes]], compression: bool, max_payload: int, data: st.DataObject
) -> None:
    """The transport accepts in portions of any size. What is told is what a server can read of it."""
    layer = opened(compression=compression)
    layer.limit_messages(max_payload)
    below: list[bytes] = []
    for number, pieces in enumerate(batches):
        if data.draw(st.booleans()):
            layer.receive_data(frame(b"%d" % number, PING))
        below += layer.wrap(pieces)
    layer.close()
    below += layer.wrap([b"last"])
    layer.wrap([b"not taken"])
    stream = b"".join(below)
    accepted = told = 0
    while accepted < len(stream):
        portion = data.draw(st.integers(1, len(stream) - accepted))
        accepted += portion
        told += layer.sent(portion)
        assert told == readable(stream[:accepted])
    assert told == sum(len(piece) for pieces in batches for piece in pieces) + len(b"last")


def readable(stream: bytes) -> int:
    """Bytes that a server can read of a client's frames: a whole compressed message, any part of another."""
    total = 0
    while len(stream) >= 2:
        width = {126: 2, 127: 8}.get(stream[1] & 0x7F, 0)
        size = int.from_bytes(stream[2 : 2 + width], "big") if width else stream[1] & 0x7F
        begin = 2 + width + 4
        if stream[0] == BINARY:
            total += max(0, min(size, len(stream) - begin))
        elif stream[0] == ZIPPED and len(stream) >= begin + size:
            total += len(inflate(frames([stream[: begin + size]])[0][1]))
        stream = stream[begin + size :]
    return total


def test_it_is_a_layer_of_a_wire() -> None:
    layer = WebSocketLayer(Server.parse("ws://h"), max_message=100)
    as_layer: Layer = layer
    wire = Wire()
    wire.push(as_layer)
    request = b"".join(wire.wrap([]))
    assert wire.receive_data(accept(request) + INFO) == b"INFO {}\r\n"
    assert wire.ready
    below = wire.wrap([b"PING\r\n"])
    assert wire.sent(len(request) + len(b"".join(below)) - 2) == 4
    assert layer.name == "WebSocket"


# --- with another implementation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("chunk", [1, 1000, 2**20])
def test_it_talks_to_the_librarys_server(compression: bool, chunk: int) -> None:
    offer = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    server = ServerProtocol(extensions=[offer], max_size=None)
    layer = WebSocketLayer(Server.parse("ws://h"), max_message=2**20, compression=compression)
    layer.start()

    received = b""

    def both_ways(pieces: list[bytes]) -> bytes:
        """All that is to be said, until neither has anything to say."""
        nonlocal received
        above = b""
        while below := b"".join(layer.wrap(pieces)):
            pieces = []
            server.receive_data(below)
            for event in server.events_received():
                if isinstance(event, Request):
                    server.send_response(server.accept(event))
                elif event.opcode == websockets.frames.Opcode.BINARY:
                    received += event.data
                    if server.state is State.OPEN:
                        server.send_ping(b"are you there?")
                        server.send_binary(bytes(event.data)[:50], fin=False)
                        server.send_continuation(bytes(event.data)[50:], fin=True)
            answer = b"".join(server.data_to_send())
            above += feed(layer, [answer[at : at + chunk] for at in range(0, len(answer), chunk)])
        return above

    assert both_ways([]) == b""
    assert (layer.error, layer.ready, layer.compressed) == (None, True, compression)
    message = b"PUB a 300\r\n" + bytes(range(256)) * 10
    assert both_ways([message, message]) == message + message
    layer.close()
    assert both_ways([b"bye"]) == b""
    assert received == message + message + b"bye"
    assert (layer.ended, layer.close_code, layer.error) == (True, 1000, None)


# --- the library -----------------------------------------------------------------------------------------------------


def run(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ran.stderr == ""
    return ran.stdout.strip()


INSTALL = 'ws:// and wss:// need the library websockets: pip install "nats-proto[websocket]"'


def test_a_library_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.client", None)
    with pytest.raises(ConfigurationError) as caught:
        WebSocketLayer(Server.parse("ws://h"), max_message=1)
    assert str(caught.value) == INSTALL


def test_without_the_library_the_error_says_what_to_install() -> None:
    assert run(
        "import sys\n"
        "sys.modules['websockets'] = None\n"
        "from nats_proto._server import Server\n"
        "from nats_proto._websocket import WebSocketLayer\n"
        "from nats_proto.errors import ConfigurationError\n"
        "try: WebSocketLayer(Server.parse('ws://h'), max_message=1)\n"
        "except ConfigurationError as error: print(error)"
    ) == INSTALL  # fmt: skip


def test_the_library_comes_with_the_first_layer_and_brings_no_event_loop() -> None:
    assert run(
        "import sys\n"
        "from nats_proto._server import Server\n"
        "from nats_proto._websocket import WebSocketLayer, check_headers\n"
        "check_headers({'A': 'b'})\n"
        "print('websockets' in sys.modules, 'socket' in sys.modules)\n"
        "layer = WebSocketLayer(Server.parse('ws://h'), max_message=1, compression=True)\n"
        "layer.start()\n"
        "unwanted = {'asyncio', 'anyio', 'trio', 'ssl', 'websockets.asyncio', 'websockets.sync', 'websockets.legacy'}\n"
        "print('websockets' in sys.modules, sorted(unwanted & set(sys.modules)))"
    ) == "False False\nTrue []"  # fmt: skip


def test_nothing_is_logged_and_nothing_that_prints_has_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    for name in (None, "websockets", "websockets.client", "nats_proto._websocket_library"):
        caplog.set_level(logging.DEBUG, name)
    server = Server.parse("ws://h/path?key=m4rker")
    layer = WebSocketLayer(server, max_message=100, headers={"Authorization": "m4rker"})
    shown = [repr(layer), str(layer)]
    layer.start()
    request = b"".join(layer.wrap([]))
    assert request.count(b"m4rker") == 2
    layer.receive_data(accept(request) + frame(b"INFO"))
    layer.wrap([b"m4rker"])
    layer.receive_data(frame(b"m4rker", 0x81))
    shown += [str(layer.error), repr(layer.error), repr(layer)]
    other = WebSocketLayer(server, max_message=100, headers={"Authorization": "m4rker"})
    other.start()
    other.wrap([])
    other.receive_data(b"HTTP/1.1 401 Unauthorized\r\nSet-Cookie: m4rker\r\n\r\nm4rker")
    shown += [str(other.error), repr(other.error)]
    assert caplog.records == []
    assert not [text for text in shown if "m4rker" in text]
