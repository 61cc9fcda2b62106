"""Time per byte of a payload and a line fed byte by byte, and ten times longer: ``python benchmarks/parser_linear.py``.

A parser that searches or copies what it already has takes ten times as long per byte; a linear one takes the same.
"""

from __future__ import annotations

import argparse
import platform
import time

from nats_proto import Parser, Role

MiB = 1024 * 1024
BYTES = [bytes([value]) for value in range(256)]


def time_per_byte(head: bytes, filling: int, tail: bytes) -> float:
    """Nanoseconds for each byte of the filling; head and tail come whole."""
    parser = Parser(Role.CLIENT, max_control_line=64 * MiB, max_info=64 * MiB)
    receive_data = parser.receive_data
    byte = BYTES[ord("x")]
    receive_data(head)
    begin = time.perf_counter()
    for _ in range(filling):
        receive_data(byte)
    taken = time.perf_counter() - begin
    if len(receive_data(tail)) != 1 or parser.error is not None:
        raise SystemExit(f"the stream was not understood: {parser.error}")
    return taken / filling * 1e9


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bytes", type=int, default=MiB, help="of the shorter one (default: 1 MiB)")
    short = options.parse_args().bytes
    print("Parser, client's role, one byte for each receive_data")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for name in ("payload", "control line", "INFO"):
        times: list[float] = []
        for size in (short, 10 * short):
            head, tail = {
                "payload": (b"MSG a 1 %d\r\n" % size, b"\r\n"),
                "control line": (b"MSG a", b" 1 0\r\n\r\n"),
                "INFO": (b'INFO {"a":"', b'"}\r\n'),
            }[name]
            times.append(time_per_byte(head, size, tail))
            print(f"  {name:<13} {size:>9} bytes {times[-1]:8.0f} ns per byte {times[-1] * size / 1e9:8.2f} s")
        print(f"  {name:<13} ten times as long costs {times[1] / times[0]:.2f} times as much per byte")


if __name__ == "__main__":
    main()
