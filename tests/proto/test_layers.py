"""The ledger of what was handed over, against a model that looks at every byte; the wire that holds layers together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_proto._layers.layers import Layers, Ledger
from nats_proto.errors import LocalProtocolError, NATSError, ProxyError, TLSError

# --- the ledger ------------------------------------------------------------------------------------------------------

Part = tuple[str, int, int]  # kind, bytes below, bytes from above


def filled(parts: list[Part]) -> Ledger:
    ledger = Ledger()
    for kind, below, above in parts:
        add(ledger, kind, below, above)
    return ledger


def add(ledger: Ledger, kind: str, below: int, above: int) -> None:
    match kind:
        case "own":
            ledger.own(below)
        case "record":
            ledger.record(below, above)
        case _:
            ledger.plain(below)


def by_byte(parts: list[Part]) -> list[int]:
    """For each byte below, how many from above are complete with it."""
    completes: list[int] = []
    for kind, below, above in parts:
        if kind == "plain":
            completes += [1] * below
        elif below:
            completes += [0] * (below - 1) + [above if kind == "record" else 0]
    return completes


@pytest.mark.parametrize(
    ("parts", "accepted", "completed"),
    [
        ([], [0], [0]),
        ([("own", 5, 0)], [2, 3], [0, 0]),
        ([("plain", 5, 5)], [2, 0, 3], [2, 0, 3]),
        ([("record", 27, 5)], [26, 1], [0, 5]),
        ([("record", 27, 5)], [27], [5]),
        ([("record", 27, 5), ("record", 27, 6)], [28, 26], [5, 6]),
        ([("record", 27, 5), ("record", 27, 6)], [54], [11]),
        ([("own", 10, 0), ("record", 27, 5), ("own", 3, 0)], [36, 1, 3], [0, 5, 0]),
        ([("own", 2, 0), ("plain", 3, 3), ("own", 2, 0), ("plain", 3, 3)], [3, 3, 4], [1, 2, 3]),
        ([("own", 0, 0), ("plain", 0, 0), ("record", 1, 9)], [1], [9]),
    ],
)
def test_what_is_handed_over(parts: list[Part], accepted: list[int], completed: list[int]) -> None:
    ledger = filled(parts)
    assert [ledger.sent(nbytes) for nbytes in accepted] == completed


@pytest.mark.parametrize("nbytes", [-1, 11, 1000])
def test_more_than_was_given_is_misuse_and_changes_nothing(nbytes: int) -> None:
    ledger = filled([("record", 8, 3), ("plain", 4, 4)])
    assert ledger.sent(2) == 0
    with pytest.raises(LocalProtocolError, match=f"^{nbytes} bytes sent, but 10 were given and not yet reported$"):
        ledger.sent(nbytes)
    assert ledger.sent(10) == 7
    with pytest.raises(LocalProtocolError):
        ledger.sent(1)


kinds = st.sampled_from(["own", "record", "plain"])
part = st.tuples(kinds, st.integers(0, 12), st.integers(0, 9))


@given(st.lists(st.one_of(part, st.integers(0, 30))))
def test_the_ledger_agrees_with_a_model_byte_by_byte(steps: list[Part | int]) -> None:
    """Parts are added and accepted in any order."""
    ledger = Ledger()
    model: list[int] = []
    for step in steps:
        if isinstance(step, int):
            step = min(step, len(model))
            assert ledger.sent(step) == sum(model[:step])
            del model[:step]
        else:
            add(ledger, *step)
            model += by_byte([step])
    assert ledger.sent(len(model)) == sum(model)


# --- the wire --------------------------------------------------------------------------------------------------------


class Brackets:
    """A layer that puts brackets of its own kind around each batch from above; it says when it is called."""

    def __init__(self, name: str, calls: list[str], *, brackets: bytes = b"()", whole: bool = False) -> None:
        self.ready = False
        self.ended = False
        self.error: NATSError | None = None
        self._name = name
        self._calls = calls
        self._open, self._close = brackets[:1], brackets[1:]
        self._whole = whole
        self._ledger = Ledger()

    def start(self) -> None:
        self._calls.append(f"{self._name} start")

    def receive_data(self, data: bytes) -> bytes:
        self._calls.append(f"{self._name} receive_data")
        return data.replace(self._open, b"").replace(self._close, b"")

    def receive_eof(self) -> None:
        self._calls.append(f"{self._name} receive_eof")

    def wrap(self, pieces: list[bytes]) -> list[bytes]:
        above = b"".join(pieces)
        if not above:
            return []
        if self._whole:
            self._ledger.record(len(above) + 2, len(above))
        else:
            self._ledger.own(1)
            self._ledger.plain(len(above))
            self._ledger.own(1)
        return [self._open, above, self._close]

    def sent(self, nbytes: int) -> int:
        return self._ledger.sent(nbytes)

    def close(self) -> None:
        self._calls.append(f"{self._name} close")


def two_layers(*, whole: tuple[bool, bool] = (False, False)) -> tuple[Layers, Brackets, Brackets, list[str]]:
    calls: list[str] = []
    low = Brackets("low", calls, brackets=b"()", whole=whole[0])
    high = Brackets("high", calls, brackets=b"[]", whole=whole[1])
    wire = Layers()
    wire.push(low)
    low.ready = True
    wire.push(high)
    return wire, low, high, calls


def test_without_a_layer_bytes_pass_as_they_are() -> None:
    wire = Layers()
    pieces = [b"PING\r\n"]
    data = b"PONG\r\n"
    assert (wire.plain, wire.ready, wire.error, wire.ended) == (True, True, None, False)
    assert wire.wrap(pieces) is pieces
    assert wire.receive_data(data) is data
    assert wire.sent(6) == 6
    wire.receive_eof()
    wire.close()


def test_a_layer_is_started_when_it_is_pushed_and_the_top_one_says_whether_all_is_ready() -> None:
    calls: list[str] = []
    wire = Layers()
    low, high = Brackets("low", calls), Brackets("high", calls)
    wire.push(low)
    assert (wire.plain, wire.ready, calls) == (False, False, ["low start"])
    low.ready = True
    assert wire.ready
    wire.push(high)
    assert (wire.ready, calls) == (False, ["low start", "high start"])
    high.ready = True
    assert wire.ready


def test_bytes_go_down_from_the_top_and_up_from_the_bottom() -> None:
    wire, _, _, calls = two_layers()
    calls.clear()
    assert b"".join(wire.wrap([b"a", b"b"])) == b"([ab])"
    assert wire.wrap([]) == []
    assert wire.receive_data(b"([cd])") == b"cd"
    assert calls == ["low receive_data", "high receive_data"]


def test_a_layer_is_not_asked_about_no_bytes() -> None:
    wire, _, _, calls = two_layers()
    calls.clear()
    assert wire.receive_data(b"(") == b""
    assert calls == ["low receive_data"]


def test_the_end_is_told_to_all_from_the_bottom() -> None:
    wire, _, _, calls = two_layers()
    calls.clear()
    wire.receive_eof()
    assert calls == ["low receive_eof", "high receive_eof"]


def test_goodbye_is_said_once_from_the_top() -> None:
    wire, _, high, calls = two_layers()
    calls.clear()
    assert not wire.close()  # nobody says goodbye before the greetings are over
    high.ready = True
    assert not wire.close()  # these have no word for it
    assert not wire.close()
    assert wire.idle
    assert calls == ["high close", "low close"]


def test_the_error_is_that_of_the_lowest_layer_and_the_end_that_of_any() -> None:
    wire, low, high, _ = two_layers()
    assert (wire.error, wire.ended) == (None, False)
    high.error = TLSError("high")
    high.ended = True
    assert (wire.error, wire.ended) == (high.error, True)
    low.error = ProxyError("low")
    assert wire.error is low.error


@given(
    st.tuples(st.booleans(), st.booleans()),
    st.lists(st.one_of(st.binary(max_size=6), st.integers(0, 20))),
)
def test_what_two_layers_hand_over_is_what_can_be_read_above_them(
    whole: tuple[bool, bool], steps: list[bytes | int]
) -> None:
    """A layer whose parts count whole shows nothing of a part that is not there whole, the other kind every byte."""
    wire = two_layers(whole=whole)[0]
    given_down = b""
    accepted = handed_over = 0
    for step in [*steps, 10_000]:
        if isinstance(step, bytes):
            letters = bytes(97 + byte % 26 for byte in step)
            given_down += b"".join(wire.wrap([letters]))
        else:
            step = min(step, len(given_down) - accepted)
            accepted += step
            handed_over += wire.sent(step)
            assert handed_over == len(readable(given_down[:accepted], whole))


def readable(below: bytes, whole: tuple[bool, bool]) -> bytes:
    for brackets, all_or_nothing in zip((b"()", b"[]"), whole, strict=True):
        if all_or_nothing:
            below = below[: below.rfind(brackets[1:]) + 1]
        below = below.replace(brackets[:1], b"").replace(brackets[1:], b"")
    return below


def test_more_than_was_given_is_misuse_of_the_wire_too() -> None:
    wire = two_layers()[0]
    wire.wrap([b"ab"])
    with pytest.raises(LocalProtocolError):
        wire.sent(7)
    assert wire.sent(6) == 2
