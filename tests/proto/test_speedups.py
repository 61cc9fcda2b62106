"""The compiled module as a thing of its own: when it is there, what turns it off, and that it cannot be misused."""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nats_proto
from nats_proto import Frame, Message, Parser, Role
from nats_proto._wire.frames import PING_FRAME
from nats_proto._wire.twin import Tail
from tests.twins import Twin, compiled_module

ROOT = Path(__file__).parents[2]
LIMITS: dict[str, Any] = {"max_control_line": 4096, "max_header_bytes": 4096, "max_payload": 4096}
STREAM = (
    b"MSG a.b 1 5\r\nhello\r\n" * 3
    + b"MSG a.c 300 r.1 2\r\nxy\r\n"
    + b"HMSG a.c 300 r.2 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nxy\r\n"
    + b"PING\r\n"
)
FRAMES = Parser(Role.CLIENT).receive_data(STREAM)
"""As the parser in its usual shape reads them; `test_parser` says what is right."""

WITH_MODULE = pytest.mark.skipif(compiled_module is None, reason="the compiled module is not built")


def told_in_a_new_process(code: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    return ran.stdout.strip()


# --- which one is at work --------------------------------------------------------------------------------------------


def test_the_module_was_built_if_it_can_be() -> None:
    compiler = (sysconfig.get_config_var("CC") or "").split(" ")[0]
    if shutil.which(compiler) is None or importlib.util.find_spec("Cython") is None:
        pytest.skip("no compiler or no Cython")
    assert compiled_module is not None, "install it again to see why it was left out: pip install -v"


def test_accelerated_tells() -> None:
    assert nats_proto.accelerated is (
        compiled_module is not None and os.environ.get("NATS_PROTO_PURE") in (None, "", "0")
    )
    assert ("_speedups" in Tail.__module__) is nats_proto.accelerated


@WITH_MODULE
@pytest.mark.parametrize(("value", "accelerated"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_the_environment_turns_it_off(value: str, accelerated: bool) -> None:
    code = "import nats_proto, sys; print(nats_proto.accelerated, 'nats_proto._wire._speedups' in sys.modules)"
    assert told_in_a_new_process(code, NATS_PROTO_PURE=value) == f"{accelerated} {accelerated}"


def test_without_the_module_nothing_is_said() -> None:
    code = (
        "import sys; sys.modules['nats_proto._wire._speedups'] = None\n"  # how Python marks what cannot be imported
        "import nats_proto; print(nats_proto.accelerated, nats_proto.Encoder().publish('a', b'x'))"
    )
    assert told_in_a_new_process(code, NATS_PROTO_PURE="0") == r"False b'PUB a 1\r\nx\r\n'"


def test_its_source_imports_c_and_some_constants() -> None:
    source = (ROOT / "packages/nats-proto/src/nats_proto/_wire/_speedups.pyx").read_text(encoding="utf-8")
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("from ", "import ", "cimport "))}
    c = {f"cpython.{name}" for name in ("bytes", "list", "mem", "object", "ref", "tuple")}
    c |= {"libc.stdint", "libc.string"}
    assert imported == {"collections", "cython", "os", ".batch", ".frames", ".requests", ".thread_answers"} | c


# --- what nobody should do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [-(2**63), -1, len(STREAM), len(STREAM) + 1, 2**63 - 1])
@WITH_MODULE
def test_a_place_outside_the_buffer(position: int) -> None:
    assert compiled_module is not None
    frames: list[Frame] = []
    assert compiled_module.FastPath(message_type=Message, **LIMITS).read(STREAM, position, frames) == position
    assert frames == []


@pytest.mark.parametrize("limit", [-(2**63), -1, 0])
@pytest.mark.parametrize("name", LIMITS)
def test_limits_that_no_parser_has_let_nothing_through(twin: Twin, name: str, limit: int) -> None:
    fast = twin.fast_path(message_type=Message, **{**LIMITS, name: limit})
    line = b"HMSG a 1 %b %b\r\n" if name == "max_header_bytes" else b"MSG a %b %b\r\n"
    for number in (b"12", b"%d" % (2**63 - 1), b"%d" % 2**63, b"9" * 19):
        frames: list[Frame] = []
        assert fast.read(line % (number, number) + b"NATS/1.0\r\n\r\n\r\n", 0, frames) == 0
        assert frames == []


@WITH_MODULE
def test_only_real_bytes_and_lists() -> None:
    assert compiled_module is not None
    read: Any = compiled_module.FastPath(message_type=Message, **LIMITS).read

    class Bytes(bytes):
        pass

    class List(list[Frame]):
        pass

    for wrong in (
        (bytearray(STREAM), 0, []),
        (memoryview(STREAM), 0, []),
        (Bytes(STREAM), 0, []),
        (None, 0, []),
        (STREAM, 0, List()),
        (STREAM, 0, ()),
        (STREAM, 0, None),
        (STREAM, None, []),
        (STREAM, 0.0, []),
    ):
        with pytest.raises(TypeError):
            read(*wrong)
    with pytest.raises(OverflowError):
        read(STREAM, 2**63, [])


@WITH_MODULE
def test_it_cannot_be_copied_or_changed() -> None:
    assert compiled_module is not None
    fast: Any = compiled_module.FastPath(message_type=Message, **LIMITS)
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(fast)
    with pytest.raises(AttributeError):
        fast.max_payload = 1
    with pytest.raises(AttributeError):
        fast._max_payload = 1
    with pytest.raises(TypeError):
        type("Subclass", (compiled_module.FastPath,), {})
    fast.__init__(max_control_line=0, max_header_bytes=0, max_payload=0, message_type=None)
    frames: list[Frame] = []
    assert fast.read(STREAM, 0, frames) == len(STREAM)
    assert frames == FRAMES


def test_what_a_message_type_raises_comes_out(twin: Twin) -> None:
    class Refuses(Message):
        def __post_init__(self) -> None:
            if self.data == b"no":
                raise LookupError("refused")

    fast = twin.fast_path(message_type=Refuses, **LIMITS)
    frames: list[Frame] = []
    with pytest.raises(LookupError, match="refused"):
        fast.read(b"MSG a 1 2\r\nok\r\nMSG a 1 2\r\nno\r\n", 0, frames)
    assert [frame.data for frame in frames if isinstance(frame, Message)] == [b"ok"]


def test_a_message_type_that_reads_on_in_the_same_parser(twin: Twin) -> None:
    """User code in the middle of a chunk: it gets frames of its own, and the ones under way are not disturbed."""
    inner: list[Frame] = []

    class Nosy(Message):
        def __post_init__(self) -> None:
            if self.sid == 1 and len(inner) < 3:
                fast.read(b"MSG other 2 3\r\nxyz\r\n", 0, inner)

    fast = twin.fast_path(message_type=Nosy, **LIMITS)
    frames: list[Frame] = []
    assert fast.read(STREAM, 0, frames) == len(STREAM)
    assert [getattr(frame, "data", None) for frame in frames] == [getattr(frame, "data", None) for frame in FRAMES]
    assert [getattr(frame, "subject", None) for frame in inner] == ["other"] * 3


# --- memory ----------------------------------------------------------------------------------------------------------


def test_nothing_is_kept(twin: Twin) -> None:
    """Every reference that is taken is given back, on the good ways and on those that leave the work to Python."""
    hostile = [STREAM[:at] for at in range(len(STREAM))] + [
        STREAM.replace(b" ", b"  "),
        b"MSG a 1 " + b"9" * 19 + b"\r\n",
    ]
    watched = (PING_FRAME, Message, STREAM)

    def round_of_everything() -> None:
        parser = twin.parser()
        for stream in (STREAM, *hostile):
            parser.receive_data(stream)
            parser.reset()

    round_of_everything()
    gc.collect()  # what earlier tests have left would go at any moment, and its references with it
    before = [sys.getrefcount(value) for value in watched]
    assert least_growth(lambda: [round_of_everything() for _ in range(50)]) < 100
    assert [sys.getrefcount(value) for value in watched] == before


def least_growth(work: Callable[[], object]) -> int:
    """Blocks of memory that are more in use after this work: what is lost each time is lost in every one of five turns.

    In one turn alone somebody else may have come to memory: the tracer of coverage, or a thread that a test has left.
    """
    growth: list[int] = []
    for _ in range(5):
        before = sys.getallocatedblocks()
        work()
        growth.append(sys.getallocatedblocks() - before)
    return min(growth)


# --- threads ---------------------------------------------------------------------------------------------------------


def in_threads(count: int, work: Any) -> list[BaseException]:
    """Run it in so many threads at once; what they raised."""
    raised: list[BaseException] = []
    together = threading.Barrier(count)

    def run() -> None:
        together.wait(timeout=30)
        try:
            work()
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return raised


def test_threads_that_share_a_fast_path_do_not_meet(twin: Twin) -> None:
    """It has nothing that changes, so sharing it is not even wrong."""
    fast = twin.fast_path(message_type=Message, **LIMITS)

    def work() -> None:
        for _ in range(100):
            frames: list[Frame] = []
            assert fast.read(STREAM, 0, frames) == len(STREAM)
            assert frames == FRAMES

    assert in_threads(4, work) == []


def test_two_threads_on_one_parser_cannot_crash_the_process(twin: Twin) -> None:
    """It is misuse: frames may be wrong and anything may be raised. But the process lives, and so does the parser."""
    parser = twin.parser()
    cut = [STREAM[at : at + 7] for at in range(0, len(STREAM), 7)]

    def work() -> None:
        for _ in range(100):
            for piece in (STREAM, *cut, STREAM):
                parser.receive_data(piece)
            if parser.error is not None:
                parser.reset()

    in_threads(2, work)
    parser.reset()
    assert parser.receive_data(STREAM) == FRAMES


@WITH_MODULE
def test_it_does_not_say_that_it_needs_no_lock() -> None:
    """That is for whoever has run all of this without the lock of the interpreter."""
    code = (
        "import sys, nats_proto; print(getattr(sys, '_is_gil_enabled', bool)() or not hasattr(sys, '_is_gil_enabled'))"
    )
    assert told_in_a_new_process(code, NATS_PROTO_PURE="0") == "True"
    source = (ROOT / "packages/nats-proto/src/nats_proto/_wire/_speedups.pyx").read_text(encoding="utf-8")
    assert "freethreading_compatible" not in source
