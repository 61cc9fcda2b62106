"""nats_proto does no I/O, reads no clock, starts no thread and draws nothing from the global random generator.

Its sources are searched, imports inside functions included. What the libraries it uses import for themselves is their
affair: the standard library's `random` alone brings several modules in.
"""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nats_proto

ROOT = Path(nats_proto.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

FORBIDDEN = {
    *("socket", "select", "selectors", "ssl", "asyncio", "anyio", "trio", "sniffio"),
    *("threading", "_thread", "multiprocessing", "subprocess", "concurrent", "signal", "sched"),
    *("time", "datetime", "io", "os", "pathlib", "shutil", "tempfile", "urllib.request", "http", "secrets", "uuid"),
}
ALLOWED_IN = {
    ("assembly.py", "io"),  # for BytesIO alone, which is memory
    ("durations.py", "datetime"),  # for its types alone, which nobody may ask what time it is
    ("tls.py", "ssl"),  # for MemoryBIO alone
    ("testing.py", "hypothesis"),
    ("twin.py", "os"),  # for one variable of the environment
}
THIRD_PARTY = {"msgspec", "hypothesis", "cryptography", "websockets"}
CLOCKS_AND_FILES = {"open", "input", "print", "breakpoint", "exec", "eval", "compile", "__import__"}


def findings(source: str, name: str) -> list[str]:
    """What the source of module ``name`` (a file name) does that it must not, as ``line: what``."""
    return [f"{node.lineno}: {what}" for node, what in _walk(ast.parse(source), name)]


def _walk(tree: ast.Module, name: str) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    if not _may_import(alias.name, name):
                        yield node, f"import {alias.name}"
                    if alias.name == "random" and alias.asname is not None:
                        yield node, "random under another name"
            case ast.ImportFrom(module="random", names=names):
                for alias in names:
                    if alias.name != "Random":
                        yield node, f"from random import {alias.name}"
            case ast.ImportFrom(module=module, level=0, names=names):
                for alias in names:
                    if not (_may_import(f"{module}", name) and _may_import(f"{module}.{alias.name}", name)):
                        yield node, f"from {module} import {alias.name}"
            case ast.Attribute(value=ast.Name(id="random"), attr=attribute) if attribute != "Random":
                yield node, f"random.{attribute}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr="Random"), args=[]):
                yield node, "random.Random() without a seed"
            case ast.Call(func=ast.Name(id="Random"), args=[]):
                yield node, "Random() without a seed"
            case ast.Attribute(value=ast.Name(id=kind), attr="now" | "utcnow" | "today" as attribute):
                yield node, f"{kind}.{attribute}"
            case ast.Attribute(attr="import_module"):
                yield node, "import_module"
            case ast.Call(func=ast.Name(id=function)) if function in CLOCKS_AND_FILES:
                yield node, f"{function}()"
            case _:
                pass


def _may_import(module: str, name: str) -> bool:
    parents = {module.rsplit(".", dots)[0] for dots in range(module.count(".") + 1)}
    top = module.split(".")[0]
    if any((name, parent) in ALLOWED_IN for parent in parents):
        return True
    if parents & FORBIDDEN or "hypothesis" in parents:
        return False
    return top == "nats_proto" or top in sys.stdlib_module_names or top in THIRD_PARTY


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_does_no_io(path: Path) -> None:
    assert findings(path.read_text(encoding="utf-8"), path.name) == []


def test_every_module_imports_by_itself_and_brings_no_event_loop() -> None:
    """In one fresh interpreter, in turn. Loops and sockets may not even come in by a third party.

    But for `ssl`, which imports `socket`: `tls` is imported when TLS is used, and by no other module before that.
    """
    modules = sorted(found.name for found in pkgutil.walk_packages(nats_proto.__path__, "nats_proto."))
    assert len(modules) >= 8
    tested = [module for module in modules if module not in ("nats_proto.testing", "nats_proto._layers.tls")]
    code = (
        "import importlib, sys\n"
        f"for name in {tested!r}: importlib.import_module(name)\n"
        "unwanted = {'asyncio', 'anyio', 'trio', 'selectors', 'socket', 'ssl', 'subprocess', 'hypothesis'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import socket", "1: import socket"),
        ("import os.path", "1: import os.path"),
        ("import concurrent.futures", "1: import concurrent.futures"),
        ("from concurrent import futures", "1: from concurrent import futures"),
        ("from urllib import request", "1: from urllib import request"),
        ("def f():\n    import time", "2: import time"),
        ("def f():\n    from asyncio import sleep", "2: from asyncio import sleep"),
        ("if TYPE_CHECKING:\n    import threading", "2: import threading"),
        ("import requests", "1: import requests"),
        ("import ssl", "1: import ssl"),
        ("import hypothesis", "1: import hypothesis"),
        ("from hypothesis import strategies", "1: from hypothesis import strategies"),
        ("import random as r", "1: random under another name"),
        ("from random import choice", "1: from random import choice"),
        ("import random\nrandom.random()", "2: random.random"),
        ("import random\nf(random.shuffle)", "2: random.shuffle"),
        ("import random\nrng = random.Random()", "2: random.Random() without a seed"),
        ("Random()", "1: Random() without a seed"),
        ("random.SystemRandom()", "1: random.SystemRandom"),
        ("importlib.import_module('x')", "1: import_module"),
        ("Time.now(UTC)", "1: Time.now"),
        ("datetime.utcnow()", "1: datetime.utcnow"),
        ("f(date.today)", "1: date.today"),
        ("import datetime", "1: import datetime"),
        ("open('x')", "1: open()"),
        ("print(1)", "1: print()"),
    ],
)
def test_the_search_finds(source: str, found: str) -> None:
    assert findings(source, "_session.py") == [found]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import ssl", "tls.py"),
        ("from ssl import MemoryBIO", "tls.py"),
        ("from hypothesis import strategies as st", "testing.py"),
        ("import random\ndef f(rng: random.Random): rng.random()", "_session.py"),
        ("from random import Random\nRandom(1)", "_session.py"),
        ("from urllib.parse import urlsplit", "_session.py"),
        ("import msgspec\nfrom msgspec import json", "_session.py"),
        ("from nats_proto._wire.headers import Headers\nfrom . import errors", "_session.py"),
        ("import math, re, json, dataclasses, collections.abc", "_session.py"),
    ],
)
def test_the_search_lets_pass(source: str, name: str) -> None:
    assert findings(source, name) == []
