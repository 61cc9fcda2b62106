"""The byte layers that lie between a connection's protocol and its transport, one upon the other.

Theory of operation
-------------------
`Layers` belong to one transport connection. Each layer (a proxy's tunnel, TLS, WebSocket) is pushed on top of the
others while the connection is set up. Each has a handshake, and is *ready* when that is done. A connection without
layers is *plain*: bytes pass as they are, and cost nothing.

    connection  ── plain pieces ──▶ wrap ─▶ wrap ──▶ transport
                ◀─ plain chunks ── receive ◀ receive ◀──

When a connection is cut, the session has to know how many of its bytes were *handed over*: those are not written again
on the next connection. The transport reports how many bytes it has accepted, and these are bytes of the lowest layer.
Each layer turns that number into bytes of the layer above by its `Ledger`, which lists in order what the layer gave
down and how many bytes from above are in it. A TLS record counts when it was accepted whole, since the peer cannot read
a part of it; a WebSocket frame counts byte for byte, since a peer may read one as it comes.

A layer never raises for what the peer did. It keeps an `error`, like the parser, and is silent from then on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Protocol

from ..errors import LocalProtocolError, NATSError

__all__ = ["Layer", "Layers", "Ledger"]


class Layer(Protocol):
    """One layer. After an `error` only `sent` still works, and the next `wrap` may give a last message to the peer (an
    alert, a close frame)."""

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
        """Let the next `wrap` end with the layer's closing message, if it has one and is ready. Nothing may follow
        it."""
        ...


Split = Callable[[bytes, list[int]], Iterable[tuple[int, int]]]
"""Takes the bytes of a batch and the sizes of the writes that made them. Gives, for each record in the batch, its bytes
and how many bytes from above it carries."""
_Batch = tuple[bytes, list[int], Split]


class Ledger:
    """What a layer gave down, in order, and how many bytes from above each part carries."""

    __slots__ = ("_done", "_parts", "_unreported")

    def __init__(self) -> None:
        self._parts: deque[tuple[int, int, bool, _Batch | None]] = deque()
        """Each part: its bytes, how many bytes from above are in it, whether these count only when the whole part was
        accepted, and for a batch what is needed to split it into its records."""
        self._done = 0
        """Bytes of the first part that were accepted so far."""
        self._unreported = 0
        """Bytes given down that were not reported as accepted yet."""

    def own(self, below: int) -> None:
        """Note ``below`` bytes that are the layer's own, and carry nothing from above."""
        self._add(below, 0, whole=True)

    def record(self, below: int, above: int) -> None:
        """Note a part of ``below`` bytes that carries ``above`` bytes, which count when the whole part was accepted."""
        self._add(below, above, whole=True)

    def batch(self, below: bytes, written: list[int], split: Split) -> None:
        """Note the records of several writes as one part. Nearly always all of them are accepted at once; only when
        they are not, ``split`` finds out which record has which bytes."""
        self._parts.append((len(below), sum(written), True, (below, written, split)))
        self._unreported += len(below)

    def plain(self, nbytes: int) -> None:
        """Note ``nbytes`` from above, each of which counts as soon as it is accepted."""
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
            # There is a first part: `_unreported`, checked above, is the sum of what all parts have left.
            below, above, whole, batch = parts[0]
            # Nothing of a batch can have been accepted before: the first partial acceptance splits it, here.
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
        """Put the records of the first part, which is a batch, in its place. Nothing of it was accepted so far."""
        self._parts.popleft()
        self._parts.extendleft([(*each, True, None) for each in split(below, written)][::-1])


class Layers:
    """The layers of one transport connection; none for plain TCP."""

    __slots__ = ("_goodbye", "_layers", "_unreported", "plain", "secure")

    def __init__(self) -> None:
        self._layers: list[Layer] = []
        self._unreported = 0
        """Bytes given to the transport that were not reported as accepted yet."""
        self._goodbye: list[bytes] | None = None
        """The closing messages of the layers, made by `close` and given by the next `wrap`; empty once they were given.
        """
        self.plain = True
        """There is no layer: bytes pass as they are."""
        self.secure = False
        """One of the layers is TLS."""

    def push(self, layer: Layer, *, secure: bool = False) -> None:
        """Put it on top of the others, which are ready, and start it. ``secure``: it is TLS."""
        self._layers.append(layer)
        self.plain = False
        self.secure = self.secure or secure
        layer.start()

    def __iter__(self) -> Iterator[Layer]:
        """The lowest first."""
        return iter(self._layers)

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
        """The error of the lowest layer that has one: what went wrong below is the cause of what went wrong above."""
        return next((layer.error for layer in self._layers if layer.error is not None), None)

    @property
    def ended(self) -> bool:
        """The peer has ended one of the layers in an orderly way. For the layers above that is the end of the
        stream."""
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
            # The pieces given now are left out on purpose: nothing may follow a closing message. They are in no ledger,
            # so the session knows that they were not handed over.
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
                self._unreported -= nbytes  # not before the layer has checked the number
            nbytes = accepted
        return nbytes

    def close(self) -> bool:
        """Make the closing messages of the layers, which the next `wrap` gives, and nothing after them.

        False when no layer has one, when they were made before, and when the layers are not ready or have failed.
        """
        if self._goodbye is not None or not self.ready or self.error is not None:
            return False
        pieces: list[bytes] = []
        for layer in reversed(self._layers):
            layer.close()
            pieces = layer.wrap(pieces)  # the closing messages of the layers above, and then that of this layer
        self._goodbye = pieces
        return bool(pieces)

    @property
    def idle(self) -> bool:
        """Everything that was given to the transport was accepted, and no closing message waits for `wrap`."""
        return not (self._unreported or self._goodbye)
