"""Feed both twins the same hostile bytes and compare: ``python -m tests.fuzz [--rounds 20] [--seed 1]``.

The seeds are the rows of the parser's table. A round gives each of them a few wounds, cuts it and joins it to another.
Every input goes to both twins whole and in pieces, with the usual limits and with small ones; their frames, their
faults and the faults' texts must be equal. The same seed gives the same inputs. Exits with 1 and prints the input where
they are not. `make asan` runs it with the sanitizers watching.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nats_proto import Frame, Role
from nats_proto._wire.batch import Batch
from tests.proto.parser_table import ROWS
from tests.twins import COMPILED, PURE, Twin, compiled_module

LONGEST: Final = 16 * 1024
"""Bytes of an input. Longer rows are about limits of length, and the small limits reach those with less."""

PIECES: Final = [
    *(b"MSG ", b"HMSG ", b"MSG a 1 1\r\nx\r\n", b"HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n", b"PING\r\n", b"PONG\r\n"),
    *(b"+OK\r\n", b"\r\n", b"\r", b"\n", b" ", b"\t", b"\x00", b"\x7f", b"\xff", b"0", b"9", b"-", b"msg "),
    *(b"%d" % (2**bits + more) for bits in (7, 15, 31, 32, 63, 64) for more in (-1, 0, 1)),
    *(b"9" * 19, b"9" * 20, b"0" * 19, b"a" * 70),
]

LIMITS: Final[list[dict[str, int]]] = [
    {},
    {"max_control_line": 24, "max_info": 40, "max_header_bytes": 20, "max_payload": 40},
    {"max_control_line": 2**70, "max_info": 2**70, "max_header_bytes": 2**70, "max_payload": 2**70},
]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    if COMPILED is None or compiled_module is None:
        print("the compiled module is not built")
        return 1
    try:
        count = replay(rounds=chosen.rounds, seed=chosen.seed)
    except AssertionError as difference:
        print(difference)
        return 1
    print(f"{count} inputs, the same from both twins ({compiled_module.__file__})")
    return 0


def replay(*, rounds: int, seed: int) -> int:
    """Compare the twins over the corpus and ``rounds`` rounds of mutations. Returns the number of inputs."""
    rng = random.Random(seed)
    count = 0
    for stream in inputs(rng, rounds):
        cut = list(pieces(rng, stream))
        for limits in LIMITS:
            wanted = outcome(PURE, [stream], limits)
            for given in ([stream], cut):
                got = outcome(COMPILED, given, limits)
                assert got == wanted, f"{given!r}\nwith {limits}\ncompiled: {got}\npure:     {wanted}"
        count += 1
    return count


def corpus() -> list[bytes]:
    """The streams of the parser's table that are not too long: good ones, faults, cut ones."""
    return [row.stream for role, row in ROWS if role is Role.CLIENT and len(row.stream) <= LONGEST]


def inputs(rng: random.Random, rounds: int) -> Iterator[bytes]:
    """The corpus, then mutations of it."""
    seeds = corpus()
    yield from seeds
    for _ in range(rounds):
        for stream in seeds:
            yield mutated(rng, stream + rng.choice(seeds) if rng.random() < 0.3 else stream)


def mutated(rng: random.Random, stream: bytes) -> bytes:
    """A few bytes replaced, inserted, taken out, doubled or flipped."""
    wounded = bytearray(stream)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(wounded) + 1)
        match rng.randrange(5):
            case 0:
                wounded[at : at + rng.randrange(3)] = rng.choice(PIECES)
            case 1:
                wounded[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                del wounded[at : at + rng.randrange(1, 8)]
            case 3:
                wounded[at:at] = wounded[at : at + rng.randrange(1, 40)]
            case _:
                wounded[at : at + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in wounded[at : at + 1])
    return bytes(wounded)


def pieces(rng: random.Random, stream: bytes) -> Iterator[bytes]:
    """The stream cut into pieces, now and then into its bytes."""
    longest = rng.choice([1, 3, 20, 1000])
    at = 0
    while at < len(stream):
        size = rng.randrange(1, longest + 1)
        yield stream[at : at + size]
        at += size


def outcome(twin: Twin, given: list[bytes], limits: dict[str, Any]) -> tuple[list[Frame], str]:
    """What a parser makes of the pieces."""
    parser = twin.parser(**limits)
    frames = [frame for piece in given for frame in parser.receive_data(piece)]
    batches = twin.parser(**limits)
    together = [each for piece in given for frame in batches.receive_batches(piece) for each in taken_apart(frame)]
    assert (together, str(batches.error)) == (frames, str(parser.error)), given
    return frames, str(parser.error)


def taken_apart(frame: Frame | Batch) -> Sequence[Frame]:
    """The messages of a batch, or the frame itself."""
    if not isinstance(frame, Batch):
        return [frame]
    for sid, messages, _, _ in frame.shares:
        assert messages == [message for message in frame.messages if message.sid == sid]
    return frame.messages


if __name__ == "__main__":
    sys.exit(main())
