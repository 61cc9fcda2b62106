"""The upgrade of the WebSocket layer: what may stand in its request, and every answer to it.

Each answer is read whole, byte by byte and cut in two anywhere.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._layers.http import MAX_HEAD
from nats_proto._layers.websocket import WebSocketLayer, check_headers
from nats_proto._secret import Secret
from nats_proto._servers.server import Server
from nats_proto.errors import ConfigurationError, WebSocketError
from tests.proto.splits import feed, splits
from tests.proto.websocket_peer import AGREED, accept, asked, frame, lines_of

# --- the request -----------------------------------------------------------------------------------------------------


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


def failing() -> Iterator[tuple[str, str]]:
    yield "A", "m4rker"
    raise KeyError("m4rker")


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
    (failing(), "they could not be read, KeyError was raised"),
    (None, "a mapping or an iterable of pairs is wanted, not NoneType"),
]


@pytest.mark.parametrize(("headers", "reason"), REFUSED_HEADERS, ids=[row[1] for row in REFUSED_HEADERS])
def test_headers_are_refused(headers: object, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^WebSocket headers: ") as caught:
        WebSocketLayer(Server.parse("ws://h"), max_message=1, headers=headers)  # type: ignore[arg-type]
    assert reason in str(caught.value)
    assert "m4rker" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "call",
    [
        lambda bad: check_headers(bad),
        lambda bad: WebSocketLayer(Server.parse("ws://h"), max_message=1, headers=bad),
        lambda _: WebSocketLayer(Server.parse("ws://h"), max_message=0, headers={"A": "m4rker"}),
        lambda _: WebSocketLayer(Server.parse("nats://h"), max_message=1, headers={"A": "m4rker"}),
    ],
)
def test_no_traceback_shows_a_value(call: Callable[[dict[str, str]], object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        call({"A": "m4rker\n"})
    frames = caught.tb.tb_next and caught.tb.tb_next.tb_next  # without those of this test
    assert frames is not None
    shown = traceback.TracebackException(caught.type, caught.value, frames, capture_locals=True)
    assert "m4rker" not in "".join(shown.format())


def test_headers_are_checked_once_and_for_all() -> None:
    checked = check_headers({"A": "b", "c": "d"})
    assert checked == (("A", Secret("b")), ("c", Secret("d")))
    assert check_headers(checked) == checked
    assert "'b'" not in repr(checked)


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
        Server(scheme="ws", host="h", port=1, path="/", query=Secret("x HTTP/1.1\r\nX: y")),
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
            assert "x" * 60 not in text
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
