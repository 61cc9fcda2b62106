"""Streams given to a byte layer in parts: whole, byte by byte, and cut in two at every place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nats_proto._layers.layers import Layer

__all__ = ["feed", "splits"]


def splits(stream: bytes) -> Iterator[list[bytes]]:
    """The ways to part it."""
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    for at in range(1, len(stream)):
        yield [stream[:at], stream[at:]]


def feed(layer: Layer, parts: Iterable[bytes]) -> bytes:
    """What comes out above."""
    return b"".join(map(layer.receive_data, parts))
