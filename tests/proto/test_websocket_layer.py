"""The WebSocket layer behind its upgrade: what it sends, what of that was handed over, how it ends, what it loads."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import websockets.frames
import websockets.speedups
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from nats_proto._layers.layers import Layer, Layers
from nats_proto._layers.websocket import MAX_UNCOMPRESSED, MESSAGE, MIN_LIMIT, WebSocketLayer
from nats_proto._servers.server import Server
from nats_proto.errors import ConfigurationError, LocalProtocolError
from tests.proto.splits import feed
from tests.proto.websocket_peer import accept, asked, frame, frames, inflate, lines_of, opened

BINARY, ZIPPED, CLOSE, PING, PONG = 0x82, 0xC2, 0x88, 0x89, 0x8A
NORMAL = b"\x03\xe8"

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
    known = readable(stream)
    accepted = told = 0
    while accepted < len(stream):
        portion = data.draw(st.integers(1, len(stream) - accepted))
        accepted += portion
        told += layer.sent(portion)
        assert told == known[accepted]
    assert told == sum(len(piece) for pieces in batches for piece in pieces) + len(b"last")


def readable(stream: bytes) -> list[int]:
    """How many bytes a server can read of a client's frames when it has the first 0, 1, 2 … bytes of the stream.

    Of a compressed message all or nothing, of another any part.
    """
    known = [0]
    while len(known) <= len(stream):
        at = len(known) - 1
        width = {126: 2, 127: 8}.get(stream[at + 1] & 0x7F, 0)
        size = int.from_bytes(stream[at + 2 : at + 2 + width], "big") if width else stream[at + 1] & 0x7F
        header = 2 + width + 4
        known += [known[-1]] * header
        if stream[at] == BINARY:
            known += range(known[-1] + 1, known[-1] + size + 1)
        else:
            known += [known[-1]] * size
        if stream[at] == ZIPPED:
            known[-1] += len(inflate(frames([stream[at : at + header + size]])[0][1]))
    return known


def test_it_is_a_layer_of_a_wire() -> None:
    layer = WebSocketLayer(Server.parse("ws://h"), max_message=100)
    as_layer: Layer = layer
    wire = Layers()
    wire.push(as_layer)
    request = b"".join(wire.wrap([]))
    assert wire.receive_data(accept(request) + frame(b"INFO {}")) == b"INFO {}"
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
        "from nats_proto._servers.server import Server\n"
        "from nats_proto._layers.websocket import WebSocketLayer\n"
        "from nats_proto.errors import ConfigurationError\n"
        "try: WebSocketLayer(Server.parse('ws://h'), max_message=1)\n"
        "except ConfigurationError as error: print(error)"
    ) == INSTALL  # fmt: skip


def test_the_library_comes_with_the_first_layer_and_brings_no_event_loop() -> None:
    assert run(
        "import sys\n"
        "from nats_proto._servers.server import Server\n"
        "from nats_proto._layers.websocket import WebSocketLayer, check_headers\n"
        "check_headers({'A': 'b'})\n"
        "print('websockets' in sys.modules, 'socket' in sys.modules)\n"
        "layer = WebSocketLayer(Server.parse('ws://h'), max_message=1, compression=True)\n"
        "layer.start()\n"
        "unwanted = {'asyncio', 'anyio', 'trio', 'websockets.asyncio', 'websockets.sync', 'websockets.legacy'}\n"
        "print('websockets' in sys.modules, sorted(unwanted & set(sys.modules)))"
    ) == "False False\nTrue []"  # fmt: skip


def test_nothing_is_logged_and_nothing_that_prints_has_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    for name in (None, "websockets", "websockets.client", "nats_proto._layers.websocket_library"):
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
    assert not layer._upgrade._protocol.logger.isEnabledFor(logging.CRITICAL)
    assert not [text for text in shown if "m4rker" in text]
