"""MB/s of payload through the WebSocket layer, both ways: ``python benchmarks/websocket_layer.py``.

``wrap`` is given what a connection has to write, 64 KiB of messages at a time, as a session gives it: one piece for
several small messages, a large one by itself. ``receive`` is given what a transport reads, 64 KiB at a time, of frames
as a server makes them: one for all that is ready, or, at worst, one for each message. Beside it stands the plain path,
a join of the same pieces.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections.abc import Callable, Sequence

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode, apply_mask
from websockets.server import ServerProtocol

from nats_proto._layers.websocket import WebSocketLayer
from nats_proto._servers.server import Server

CHUNK = 64 * 1024
ROUNDS = 5
SIZES = (16, 1024, 64 * 1024)


def opened(*, compression: bool) -> tuple[WebSocketLayer, ServerProtocol]:
    """A layer and its peer, behind the upgrade."""
    layer = WebSocketLayer(Server.parse("ws://h"), max_message=2**30, compression=compression)
    offer = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    peer = ServerProtocol(extensions=[offer] if compression else None, max_size=None)
    layer.start()
    peer.receive_data(b"".join(layer.wrap([])))
    (request,) = peer.events_received()
    peer.send_response(peer.accept(request))  # type: ignore[arg-type]  # the one event of an upgrade
    layer.receive_data(b"".join(peer.data_to_send()))
    if not layer.ready or layer.compressed is not compression:
        raise SystemExit(f"no upgrade: {layer.error}")
    layer.sent(layer._ledger._unreported)
    return layer, peer


def stream(size: int, count: int) -> list[bytes]:
    """Messages that compress as JSON does."""
    rng = random.Random(1)
    words = [b'"order"', b'"price"', b'"customer"', b"true", b"null", b"12.50", b"{", b"}", b":", b","]
    text = b"".join(rng.choice(words) for _ in range(size // 2 + 1))
    return [b"MSG a 1 %d\r\n%b\r\n" % (size, text[number % 7 :][:size]) for number in range(count)]


def batches(messages: Sequence[bytes]) -> list[list[bytes]]:
    """Pieces of some 64 KiB, as a session gives them to `wrap`."""
    each = max(1, CHUNK // len(messages[0]))
    parts = [messages[at : at + each] for at in range(0, len(messages), each)]
    return [[b"".join(part)] if len(part) > 1 else list(part) for part in parts]


def best(function: Callable[[], None]) -> float:
    """Seconds of the best round."""
    seconds = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        function()
        seconds = min(seconds, time.perf_counter() - begin)
    return seconds


def wrapping(messages: Sequence[bytes], *, compression: bool) -> Callable[[], None]:
    layer, _ = opened(compression=compression)
    given = batches(messages)

    def run() -> None:
        for pieces in given:
            layer.sent(sum(map(len, layer.wrap(pieces))))

    return run


def receiving(messages: Sequence[bytes], *, compression: bool, each: bool) -> Callable[[], None]:
    layer, peer = opened(compression=compression)
    payloads = messages if each else [b"".join(pieces) for pieces in batches(messages)]
    for payload in payloads:
        peer.send_binary(payload)
    frames = b"".join(peer.data_to_send())
    chunks = [frames[at : at + CHUNK] for at in range(0, len(frames), CHUNK)]
    total = sum(map(len, messages))

    def run() -> None:
        got = sum(len(layer.receive_data(chunk)) for chunk in chunks)
        if got != total or layer.error is not None:
            raise SystemExit(f"{got} of {total} bytes: {layer.error}")

    return run


def plain(messages: Sequence[bytes]) -> Callable[[], None]:
    given = batches(messages)

    def run() -> None:
        for pieces in given:
            memoryview(b"".join([*pieces, b" "]))

    return run


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=32)
    nbytes = options.parse_args().megabytes * 1_000_000
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    print(f"{python}; masks made by {apply_mask!r}; MB/s, best of {ROUNDS}")
    print(f"  {'message':>10}{'join':>9}{'wrap':>9}{'receive':>9}{'frame each':>12}{'deflate':>9}{'inflate':>9}")
    for size in SIZES:
        messages = stream(size, nbytes // size // (8 if size < 100 else 1))
        total = sum(map(len, messages))
        runs = (
            plain(messages),
            wrapping(messages, compression=False),
            receiving(messages, compression=False, each=False),
            receiving(messages, compression=False, each=True),
            wrapping(messages, compression=True),
            receiving(messages, compression=True, each=False),
        )
        cells = [f"{total / best(run) / 1e6:.0f}" for run in runs]
        widths = (9, 9, 9, 12, 9, 9)
        print(f"  {f'{size:,} B':>10}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    frame = Frame(Opcode.BINARY, b"x" * 16)
    count = 100_000
    seconds = best(lambda: [frame.serialize(mask=True) for _ in range(count)] and None)
    print(f"  a frame of 16 B by itself: {seconds / count * 1e6:.1f} us in the library's serializer")


if __name__ == "__main__":
    main()
