"""MB/s through TLS in memory, the layer beside bare `ssl` objects doing the same: ``python benchmarks/tls_layer.py``.

One side encrypts pieces of a size, given 64 KiB at a time, the other decrypts them in 64 KiB chunks; once the layer
does it (with its ledger, reported to), once a loop over two MemoryBIOs, in turn. The ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import platform
import ssl
import statistics
import time
from collections.abc import Callable, Iterator

import trustme

from nats_proto._layers.tls import RECORD, TLSLayer

CHUNK = 64 * 1024
SIZES = (16, 1024, 64 * 1024)


class Bare:
    """Two BIOs and the object between them, with no more around them than the work needs."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server else "nats.example"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=name)

    def shake_hands(self, data: bytes) -> bytes:
        self.incoming.write(data)
        try:
            self.tls.do_handshake()
            self.tls.read(RECORD)  # session tickets
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def encrypt(self, pieces: list[bytes]) -> list[bytes]:
        view = memoryview(b"".join(pieces))
        for at in range(0, len(view), RECORD):
            self.tls.write(view[at : at + RECORD])
        return [self.outgoing.read()]

    def decrypt(self, data: bytes) -> bytes:
        self.incoming.write(data)
        plain: list[bytes] = []
        read = self.tls.read
        try:
            while True:
                plain.append(read(RECORD))
        except ssl.SSLWantReadError:
            return b"".join(plain)


def connected(version: ssl.TLSVersion) -> tuple[TLSLayer, Bare, Bare, Bare]:
    """The layer with its server, and a bare client with its server."""
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(ours)
    authority.issue_cert("nats.example").configure_cert(theirs)
    ours.minimum_version = ours.maximum_version = version
    layer = TLSLayer(ours, server_hostname="nats.example", server="tls://nats.example")
    layer.start()
    layers_server, client, server = Bare(theirs, server=True), Bare(ours, server=False), Bare(theirs, server=True)
    answer = b""
    for _ in range(3):
        below = b"".join(layer.wrap([]))
        layer.sent(len(below))
        layer.receive_data(layers_server.shake_hands(below))
        answer = server.shake_hands(client.shake_hands(answer))
    return layer, layers_server, client, server


def batches(size: int, total: int) -> list[list[bytes]]:
    """Lists of pieces of 64 KiB in all."""
    return [[bytes([number % 256]) * size for number in range(CHUNK // size)] for _ in range(total // CHUNK)]


def chunked(data: bytes) -> Iterator[bytes]:
    """As a transport hands it on."""
    return (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))


def timed(work: Callable[[], int], total: int) -> float:
    """MB for each second of processor time, which other load on the machine does not take from us."""
    begin = time.process_time()
    done = work()
    taken = time.process_time() - begin
    if done != total:
        raise SystemExit(f"{done} bytes of {total} arrived")
    return total / taken / 1e6


def compare(version: ssl.TLSVersion, size: int, total: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Medians for sending and receiving: the layer's and the bare one's."""
    layer, layers_server, client, server = connected(version)
    given = batches(size, total)
    figures: dict[str, list[float]] = {"send layer": [], "send bare": [], "receive layer": [], "receive bare": []}

    def send_layer() -> int:
        done = 0
        for pieces in given:
            below = layer.wrap(pieces)
            written.extend(below)
            done += layer.sent(sum(map(len, below)))
        return done

    def send_bare() -> int:
        for pieces in given:
            written.extend(client.encrypt(pieces))
        return total

    for _ in range(rounds):
        for name, send, peer in (("send layer", send_layer, layers_server), ("send bare", send_bare, server)):
            written: list[bytes] = []
            figures[name].append(timed(send, total))
            for chunk in chunked(b"".join(written)):
                peer.decrypt(chunk)
        for name, peer, receive in (
            ("receive layer", layers_server, layer.receive_data),
            ("receive bare", server, client.decrypt),
        ):
            # A server's records are as long as its writes: small ones for small pieces.
            below = b"".join(piece for pieces in given for piece in encrypt_one_by_one(peer, pieces))
            figures[name].append(timed(lambda below=below, receive=receive: receive_all(below, receive), total))
    medians = {name: statistics.median(kept) for name, kept in figures.items()}
    return {way: (medians[f"{way} layer"], medians[f"{way} bare"]) for way in ("send", "receive")}


def encrypt_one_by_one(peer: Bare, pieces: list[bytes]) -> list[bytes]:
    """A record for each piece."""
    return [below for piece in pieces for below in peer.encrypt([piece])]


def receive_all(below: bytes, receive: Callable[[bytes], bytes]) -> int:
    """Plain bytes."""
    return sum(len(receive(chunk)) for chunk in chunked(below))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mebibytes", type=int, default=8)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    print(f"TLS in memory, {chosen.mebibytes} MiB a round, medians of {chosen.rounds} rounds taken in turn, MB/s")
    print(f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for size in SIZES:
            total = chosen.mebibytes * 2**20 // (16 if size < 1024 else 1)
            for way, (layer, bare) in compare(version, size, total, chosen.rounds).items():
                print(f"  {version.name} {size:>6} B {way:<8} {layer:8.0f}  bare {bare:8.0f}  ratio {layer / bare:.2f}")


if __name__ == "__main__":
    main()
