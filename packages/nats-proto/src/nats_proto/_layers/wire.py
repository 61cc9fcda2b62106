"""What lies between a connection's protocol and its transport: byte layers, one upon the other.

Theory of operation
-------------------
A `Wire` belongs to one transport connection. Its layers (a proxy's tunnel, TLS, WebSocket) are pushed one by one while
the connection is set up, the lowest first; each has a handshake and is then *ready*. Without any, bytes pass as they
are, and at no cost.

    connection  ── plain pieces ──▶ wrap ─▶ wrap ──▶ transport
                ◀─ plain chunks ── receive ◀ receive ◀──

How much of what was given down was *handed over* decides what is written again on the next connection. A transport
reports bytes of the lowest layer; each layer turns that into bytes of the layer above by its `Ledger`: a list, in
order, of what it gave down and how many bytes from above are in it. A TLS record counts when it was accepted whole,
since the peer cannot read a part of it; a WebSocket frame counts byte for byte, since a peer may read one as it comes.

A layer never raises for what the peer did. It keeps an `error`, like the parser, and is silent from then on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol

from ..errors import LocalProtocolError, NATSError

__all__ = ["Layer", "Ledger", "Wire"]


class Layer(Protocol):
    """One layer. After an `error` nothing but `sent` does anything, but the next `wrap` may still have last words."""

    name: ClassVar[str]
    """What it is called in the text of an error."""

    @property
    def ready(self) -> bool:
        """The handshake is done: the layer above may use it."""
        ...

    @property
    def error(self) -> NATSError | None:
        """What the peer did wrong, or why the handshake failed; the last thing that happens to a layer."""
        ...

    @property
    def ended(self) -> bool:
        """The peer has said in an orderly way (close_notify, a close frame) that nothing more will come."""
        ...

    def start(self) -> None:
        """Begin the handshake. Once, when the layers below are ready."""
        ...

    def receive_data(self, data: bytes) -> bytes:
        """Bytes from below; returns those for above, which were good up to where an `error` begins."""
        ...

    def receive_eof(self) -> None:
        """The transport has ended: an `error` when that was in the middle of the handshake or of something begun."""
        ...

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        """Bytes from above (none before it is ready) as bytes for below, behind what the layer has to say itself."""
        ...

    def sent(self, nbytes: int) -> int:
        """The transport accepted the next ``nbytes`` of what `wrap` gave: how many bytes from above that completes."""
        ...

    def close(self) -> None:
        """Say goodbye at the end of the next `wrap`, if the layer has a word for it and is ready. Nothing follows."""
        ...


Split = Callable[[bytes, list[int]], Iterable[tuple[int, int]]]
"""Of the bytes of a batch and what was written for them: the bytes of each record, and how many from above it has."""
_Batch = tuple[bytes, list[int], Split]


class Ledger:
    """What a layer gave down, in order, and how many bytes from above each part carries."""

    __slots__ = ("_done", "_parts", "_unreported")

    def __init__(self) -> None:
        self._parts: deque[tuple[int, int, bool, _Batch | None]] = deque()
        """Bytes of each, those from above, whether it counts only as a whole; and for a batch how to split it."""
        self._done = 0
        """Bytes accepted of the first part."""
        self._unreported = 0

    def own(self, below: int) -> None:
        """So many bytes of the layer's own."""
        self._add(below, 0, whole=True)

    def record(self, below: int, above: int) -> None:
        """``above`` bytes in a part of ``below`` bytes that counts when it was accepted whole."""
        self._add(below, above, whole=True)

    def batch(self, below: bytes, written: list[int], split: Split) -> None:
        """Records for several writes. Nearly always all are accepted at once: to ``split`` them can wait until not."""
        self._parts.append((len(below), sum(written), True, (below, written, split)))
        self._unreported += len(below)

    def plain(self, nbytes: int) -> None:
        """So many bytes from above, each of which counts as it is accepted."""
        self._add(nbytes, nbytes, whole=False)

    def _add(self, below: int, above: int, *, whole: bool) -> None:
        if below:
            self._parts.append((below, above, whole, None))
            self._unreported += below

    def sent(self, nbytes: int) -> int:
        """The next ``nbytes`` were accepted: bytes from above. `LocalProtocolError` when more than was given."""
        if not 0 <= nbytes <= self._unreported:
            raise LocalProtocolError(f"{nbytes} bytes sent, but {self._unreported} were given and not yet reported")
        self._unreported -= nbytes
        parts = self._parts
        completed = 0
        while nbytes:
            below, above, whole, batch = parts[0]
            if batch is not None and nbytes < below:
                self._split(*batch)
                continue
            taken = min(nbytes, below - self._done)
            nbytes -= taken
            self._done += taken
            if not whole:
                completed += taken
            if self._done < below:
                break
            if whole:
                completed += above
            parts.popleft()
            self._done = 0
        return completed

    def _split(self, below: bytes, written: list[int], split: Split) -> None:
        """The first part, of which nothing was accepted so far."""
        self._parts.popleft()
        self._parts.extendleft([(*each, True, None) for each in split(below, written)][::-1])


class Wire:
    """The layers of one transport connection; none for plain TCP."""

    __slots__ = ("_goodbye", "_layers", "_unreported", "plain", "secure")

    def __init__(self) -> None:
        self._layers: list[Layer] = []
        self._unreported = 0
        """Bytes given to the transport, and not yet accepted as far as we know."""
        self._goodbye: list[bytes] | None = None
        self.plain = True
        """There is no layer: bytes pass as they are."""
        self.secure = False
        """One of them is TLS."""

    def push(self, layer: Layer, *, secure: bool = False) -> None:
        """Put it on top of the others, which are ready, and start it. ``secure``: it is TLS."""
        self._layers.append(layer)
        self.plain = False
        self.secure = self.secure or secure
        layer.start()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The lowest first."""
        return tuple(self._layers)

    @property
    def top(self) -> str:
        """The name of the topmost layer."""
        return self._layers[-1].name if self._layers else "TCP"

    @property
    def ready(self) -> bool:
        """Every layer's handshake is done."""
        return self.plain or self._layers[-1].ready

    @property
    def error(self) -> NATSError | None:
        """Of the lowest layer that has one."""
        return next((layer.error for layer in self._layers if layer.error is not None), None)

    @property
    def ended(self) -> bool:
        """The peer has ended one of the layers in an orderly way: for those above as good as `receive_eof`."""
        return any(layer.ended for layer in self._layers)

    def receive_data(self, data: bytes) -> bytes:
        """Bytes from the transport; returns the plain ones."""
        for layer in self._layers:
            data = layer.receive_data(data)
            if not data:
                break
        return data

    def receive_eof(self) -> None:
        """The transport has ended."""
        for layer in self._layers:
            layer.receive_eof()

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        """Plain bytes as bytes for the transport, with what the layers have to say themselves."""
        if self._goodbye is not None:
            pieces, self._goodbye = self._goodbye, []
        else:
            pieces = self._wrap(pieces)
        self._unreported += sum(map(len, pieces))
        return pieces

    def _wrap(self, pieces: list[bytes]) -> list[bytes]:
        for layer in reversed(self._layers):
            pieces = layer.wrap(pieces)
        return pieces

    def sent(self, nbytes: int) -> int:
        """The transport accepted the next ``nbytes``: plain bytes. `LocalProtocolError` when more than was given."""
        for layer in self._layers:
            accepted = layer.sent(nbytes)
            if layer is self._layers[0]:
                self._unreported -= nbytes
            nbytes = accepted
        return nbytes

    def close(self) -> bool:
        """Say goodbye, after all else: whether there is a word for it. `wrap` has it, and nothing follows."""
        if self._goodbye is not None or not self.ready or self.error is not None:
            return False
        pieces: list[bytes] = []
        for layer in reversed(self._layers):
            layer.close()
            pieces = layer.wrap(pieces)  # the word of the layer above, and then its own
        self._goodbye = pieces
        return bool(pieces)

    @property
    def idle(self) -> bool:
        """Everything that was given to the transport was accepted, the goodbye included if it was said."""
        return not (self._unreported or self._goodbye)
