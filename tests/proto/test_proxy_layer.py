"""A proxy's tunnel: its URL, its request, every kind of answer, whole, byte by byte and cut in two anywhere."""

from __future__ import annotations

import base64
import copy
import pickle
import traceback
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._layers.http import MAX_HEAD
from nats_proto._layers.layers import Layer, Layers
from nats_proto._layers.proxy_layer import ProxyLayer
from nats_proto._servers.proxy import Proxy
from nats_proto.errors import ConfigurationError, InvalidURLError, LocalProtocolError, ProxyError
from tests.proto.splits import feed, splits

TARGET = ("example.com", 4222)
PLAIN = Proxy(host="proxy.example", port=3128)
ASK = b"CONNECT example.com:4222 HTTP/1.1\r\nHost: example.com:4222\r\n\r\n"
YES = b"HTTP/1.1 200 Connection established\r\n\r\n"


def asked(proxy: Proxy = PLAIN, target: tuple[str, int] = TARGET) -> ProxyLayer:
    """A layer whose request has left."""
    layer = ProxyLayer(proxy, target)
    layer.start()
    layer.sent(sum(map(len, layer.wrap([]))))
    return layer


# --- the URL ---------------------------------------------------------------------------------------------------------

READ = [
    # written                              shown                        credentials
    ("http://h:3128", "http://h:3128", None),
    ("http://h", "http://h:80", None),
    ("http://h:3128/", "http://h:3128", None),
    ("HTTP://H.Example:1", "http://h.example:1", None),
    ("h:3128", "http://h:3128", None),
    ("h", "http://h:80", None),
    ("http://[::1]:3128", "http://[::1]:3128", None),
    ("::1", "http://[::1]:80", None),
    ("http://u:p@h:1", "http://h:1", "u:p"),
    ("http://u@h:1", "http://h:1", "u:"),
    ("http://u:@h:1", "http://h:1", "u:"),
    ("http://:p@h:1", "http://h:1", ":p"),
    ("u:p@h:1", "http://h:1", "u:p"),
    ("http://u%40x:p%3A%2f%25@h:1", "http://h:1", "u@x:p:/%"),
    ("http://u:p:q@h:1", "http://h:1", "u:p:q"),
    ("http://us%C3%A9r:p@h:1", "http://h:1", "usér:p"),
]


@pytest.mark.parametrize(("written", "shown", "credentials"), READ, ids=[row[0] for row in READ])
def test_a_url_is_read(written: str, shown: str, credentials: str | None) -> None:
    proxy = Proxy.parse(written)
    assert (str(proxy), proxy.url, repr(proxy)) == (shown, shown, f"Proxy({shown!r})")
    assert (proxy.credentials.reveal() if proxy.credentials is not None else None) == credentials
    assert Proxy.parse(shown).address == proxy.address


REFUSED = [
    ("https://h:1", "TLS with the proxy itself is not supported"),
    ("socks5://h:1", "its scheme is not http"),
    ("http://", "it has no host"),
    ("", "it has no host"),
    ("http://h:x", "its port is not a number"),
    ("http://h:0", "its port is not a number"),
    ("http://h:1/path", "neither path nor query"),
    ("http://h:1?q", "neither path nor query"),
    ("http://h:1#f", "neither path nor query"),
    ("http://u:p/q@h:1", "write / as %2F"),
    ("http://u%3Ax:p@h:1", "its user has a colon"),
    ("http://u:p%zz@h:1", "% needs two hexadecimal digits"),
    ("http://u:%ff@h:1", "not percent-encoded UTF-8"),
    ("http://h h:1", "a space or a control character"),
    ("http://h\r\nX: y", "a space or a control character"),
    ("http://" + "h" * 20_000, "characters"),
    ("http://[::1:1", "do not enclose"),
]


@pytest.mark.parametrize(("written", "reason"), REFUSED, ids=[ascii(row[0][:30]) for row in REFUSED])
def test_a_url_is_refused(written: str, reason: str) -> None:
    with pytest.raises(InvalidURLError, match=r"^proxy URL ") as caught:
        Proxy.parse(written)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://m4rker:s3cret99@h", "http://m4rker:s3cret99@h:bad", "http://m4rker:s3cret99/@h"]
)
def test_no_error_shows_the_credentials(url: str) -> None:
    try:
        Proxy.parse(url)
    except InvalidURLError as error:
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        shown = "".join(traceback.TracebackException(type(error), error, frames, capture_locals=True).format())
    else:
        pytest.fail("nothing was raised")
    assert "m4rker" not in shown
    assert "s3cret" not in shown


def test_a_proxy_is_compared_copied_and_not_pickled() -> None:
    proxy = Proxy.parse("http://u:p@h:1")
    assert proxy == Proxy.parse("http://u:p@h:1") != Proxy.parse("http://u:q@h:1")
    assert copy.copy(proxy) is proxy is copy.deepcopy(proxy)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(proxy)


# --- the request -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name"),
    [(TARGET, "example.com:4222"), (("10.0.0.1", 1), "10.0.0.1:1"), (("2001:db8::1", 443), "[2001:db8::1]:443")],
)
def test_the_request_names_the_target(target: tuple[str, int], name: str) -> None:
    layer = ProxyLayer(PLAIN, target)
    assert layer.wrap([]) == []
    layer.start()
    assert b"".join(layer.wrap([])) == f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
    assert layer.wrap([]) == []
    assert not layer.ready


def test_the_request_has_the_credentials_and_nothing_that_prints_has_them() -> None:
    layer = ProxyLayer(Proxy.parse("http://usér:p%20w@h:1"), TARGET)
    layer.start()
    assert "p w" not in repr(layer)
    (request,) = layer.wrap([])
    basic = base64.b64encode("usér:p w".encode())
    assert request == ASK[:-2] + b"Proxy-Authorization: Basic " + basic + b"\r\n\r\n"


@pytest.mark.parametrize(
    "target", [("h\r\nX: y", 1), ("", 1), ("h/", 1), ("h h", 1), ("h@x", 1), ("h", 0), ("h", 65536)], ids=ascii
)
def test_a_target_that_no_request_can_name_is_refused(target: tuple[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="host name or IP address"):
        ProxyLayer(PLAIN, target)


def test_misuse_changes_nothing() -> None:
    layer = ProxyLayer(PLAIN, TARGET)
    with pytest.raises(LocalProtocolError, match="not open"):
        layer.wrap([b"x"])
    layer.start()
    with pytest.raises(LocalProtocolError, match="once"):
        layer.start()
    with pytest.raises(LocalProtocolError, match="not open"):
        layer.wrap([b"x"])
    assert layer.wrap([]) == [ASK]
    with pytest.raises(LocalProtocolError):
        layer.sent(len(ASK) + 1)
    assert layer.sent(len(ASK)) == 0


# --- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    id: str
    answer: bytes
    above: bytes | None = None  # what comes out of the tunnel that it opens
    error: str | None = None
    status: int | None = None


LONG = b"\xff" + b"x" * 99
NATS = b"INFO {}\r\n\r\nPING\r\n"
ROWS = [
    Row("200", YES, b""),
    Row("200-and-more-behind-it", YES + NATS, NATS),
    Row("200-with-headers", b"HTTP/1.1 200 OK\r\nVia: x\r\nEmpty:\r\nOdd:\t\xe9 \r\n\r\n" + NATS, NATS),
    Row("200-of-http-1.0", b"HTTP/1.0 200 Connection established\r\n\r\nx", b"x"),
    Row("200-without-reason", b"HTTP/1.1 200\r\n\r\nx", b"x"),
    Row("204", b"HTTP/1.1 204 No Content\r\n\r\nx", b"x"),
    Row("length-and-coding-mean-nothing", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", b"abcdef"),
    Row("an-interim-answer-is-passed-over", b"HTTP/1.1 100 Continue\r\n\r\n" + YES + b"x", b"x"),
    Row("two-interim-answers", b"HTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 199\r\n\r\n" + YES + b"x", b"x"),
    Row("101", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", error="101 Switching Protocols", status=101),
    Row("302", b"HTTP/1.1 302 Found\r\nLocation: http://s3cret\r\n\r\n", error="302 Found", status=302),
    Row("400-without-reason", b"HTTP/1.1 400 \r\n\r\n", error="4222: 400", status=400),
    Row("403", b"HTTP/1.1 403 Forbidden\r\n\r\n<html>", error="403 Forbidden; its rules", status=403),
    Row("405", b"HTTP/1.1 405 No\r\n\r\n", error="it does not open tunnels", status=405),
    Row("407", b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n", error="it wants credentials", status=407),
    Row("502", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", error="it could not reach the server", status=502),
    Row("503", b"HTTP/1.1 503 No\r\n\r\n", error="it could not reach the server", status=503),
    Row("504", b"HTTP/1.1 504 No\r\n\r\n", error="it could not reach the server", status=504),
    Row("known-before-its-body", b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\nab", error="500 No", status=500),
    Row("reason-escaped-and-cut", b"HTTP/1.1 500 " + LONG + b"\r\n\r\n", error=r"500 \xff" + "x" * 59, status=500),
    Row("nats", b"INFO {}\r\n", error="is not HTTP; is this the address of an HTTP proxy?"),
    Row("tls", b"\x15\x03\x01\x00\x02", error="is not HTTP"),
    Row("http-2", b"HTTP/2 200 OK\r\n\r\n", error="is not HTTP"),
    Row("http-1.2", b"HTTP/1.2 200 OK\r\n\r\n", error="is not HTTP"),
    Row("lower-case", b"http/1.1 200 OK\r\n\r\n", error="is not HTTP"),
    Row("status-of-two-digits", b"HTTP/1.1 20 OK\r\n\r\n", error="is not HTTP"),
    Row("status-of-four-digits", b"HTTP/1.1 2000 OK\r\n\r\n", error="is not HTTP"),
    Row("status-999", b"HTTP/1.1 999 OK\r\n\r\n", error="is not HTTP"),
    Row("two-spaces", b"HTTP/1.1  200 OK\r\n\r\n", error="is not HTTP"),
    Row("escape-in-reason", b"HTTP/1.1 200 \x1b[2J\r\n\r\n", error="is not HTTP"),
    Row("an-empty-line-first", b"\r\nHTTP/1.1 200 OK\r\n\r\n", error="is not HTTP"),
    Row("our-request-back", ASK, error="is not HTTP"),
    Row("line-feeds-alone", b"HTTP/1.1 200 OK\nA: b\r\n\r\n", error="is not HTTP"),
    Row("folded-header", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", error="a malformed header"),
    Row("header-without-colon", b"HTTP/1.1 200 OK\r\nA\r\n\r\n", error="a malformed header"),
    Row("header-without-name", b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", error="a malformed header"),
    Row("header-name-with-space", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", error="a malformed header"),
    Row("header-with-nul", b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", error="a malformed header"),
    Row("header-with-cr", b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", error="a malformed header"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_an_answer_is_read_alike_however_it_is_split(row: Row) -> None:
    for parts in splits(row.answer):
        layer = asked()
        above = feed(layer, parts)
        if row.error is None:
            assert (layer.ready, layer.error, above) == (True, None, row.above), parts
        else:
            assert isinstance(layer.error, ProxyError), parts
            text = str(layer.error)
            assert text.startswith("proxy http://proxy.example:3128 did not open a tunnel to example.com:4222: "), text
            assert (layer.ready, above, layer.error.status) == (False, b"", row.status)
            assert row.error in text
            assert "s3cret" not in text
            assert "x" * 60 not in text


def test_other_credentials_are_wanted() -> None:
    layer = asked(Proxy.parse("http://u:m4rker@h:1"))
    layer.receive_data(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    assert "407 Proxy Authentication Required; it does not accept the user and password" in str(layer.error)
    assert "m4rker" not in str(layer.error)


HEADER = b"A: " + b"x" * 95 + b"\r\n"


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["at-once", "after-an-interim-one"])
@pytest.mark.parametrize("size", [1, 7, MAX_HEAD, 20 * 2**20])
def test_headers_are_bounded_to_the_byte(interim: bytes, size: int) -> None:
    start, end = interim + b"HTTP/1.1 200 OK\r\nB: ", b"\r\n\r\n"
    for surplus in (0, 1):
        head = start + b"x" * (MAX_HEAD - len(start) - len(end) + surplus) + end
        layer = asked()
        feed(layer, [head[at : at + size] for at in range(0, len(head), size)])
        assert layer.ready is not bool(surplus)
        assert (layer.error is None) is not bool(surplus)


def test_ten_mebibytes_of_headers_end_early() -> None:
    layer = asked()
    assert layer.receive_data(b"HTTP/1.1 200 OK\r\n" + HEADER * (10 * 2**20 // len(HEADER))) == b""
    assert f"more than {MAX_HEAD} bytes of headers" in str(layer.error)
    assert layer._head._buffer.__sizeof__() < 4 * MAX_HEAD


@pytest.mark.parametrize("answer", [b"", b"H", b"HTTP/1.1 200 OK\r\n"])
def test_the_end_before_the_answer_is_an_error(answer: bytes) -> None:
    layer = asked()
    layer.receive_data(answer)
    layer.receive_eof()
    assert isinstance(layer.error, ProxyError)
    assert "it closed the connection" in str(layer.error)
    first = layer.error
    layer.receive_eof()
    assert layer.error is first


def test_after_an_error_nothing_happens() -> None:
    layer = ProxyLayer(PLAIN, TARGET)
    layer.start()
    layer.receive_data(b"x")
    first = layer.error
    assert first is not None
    assert layer.wrap([b"x"]) == []
    assert layer.receive_data(YES) == b""
    layer.close()
    assert (layer.error, layer.ready, layer.ended, layer.sent(0)) == (first, False, False, 0)


# --- the tunnel ------------------------------------------------------------------------------------------------------


def test_bytes_pass_as_they_are_and_are_not_copied() -> None:
    layer = asked()
    layer.receive_data(YES)
    data = bytes(100)
    assert layer.receive_data(data) is data
    pieces = [data, b"x"]
    below = layer.wrap(pieces)
    assert below == pieces
    assert below[0] is data
    layer.close()
    assert layer.wrap([]) == []
    layer.receive_eof()
    assert (layer.error, layer.ended) == (None, False)


@given(st.lists(st.lists(st.binary(max_size=20), max_size=3), max_size=5), st.data())
def test_what_was_accepted_is_told_to_the_byte(batches: list[list[bytes]], data: st.DataObject) -> None:
    """The transport may report the request late: together with bytes of the tunnel."""
    layer = ProxyLayer(PLAIN, TARGET)
    layer.start()
    given_down = len(b"".join(layer.wrap([])))
    layer.receive_data(YES)
    given_down += sum(len(b"".join(layer.wrap(pieces))) for pieces in batches)
    accepted = told = 0
    while accepted < given_down:
        portion = data.draw(st.integers(1, given_down - accepted))
        accepted += portion
        told += layer.sent(portion)
        assert told == max(0, accepted - len(ASK))


def test_it_is_a_layer_of_a_wire() -> None:
    layer: Layer = ProxyLayer(PLAIN, TARGET)
    wire = Layers()
    wire.push(layer)
    assert wire.wrap([]) == [ASK]
    assert wire.receive_data(YES + b"INFO") == b"INFO"
    assert wire.ready
    assert wire.wrap([b"PING\r\n"]) == [b"PING\r\n"]
    assert wire.sent(len(ASK) + 3) == 3
    assert layer.name == "the HTTP proxy"
