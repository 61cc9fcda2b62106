"""What the page on objects shows is run as it stands there."""

from __future__ import annotations

import ast
import io
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import nats_sync
import nats_sync.jetstream
from examples.objectstore import file_drop
from nats_sync.testing import LocalServer
from tests.examples.test_docs_jetstream import NAMES, jetstream_server, promised, run

__all__ = ["jetstream_server"]

PAGE = (Path(__file__).parents[2] / "docs" / "objectstore.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "connect(" in block]
PARTS = [block for block in BLOCKS if "connect(" not in block]
THREADS, TASKS = PROGRAMS


def test_threads(jetstream_server: LocalServer) -> None:
    assert run(THREADS, jetstream_server).split() == promised(THREADS)


@pytest.mark.parametrize("last", ["run(main)", 'run(main, backend="trio")'])
def test_tasks(jetstream_server: LocalServer, last: str) -> None:
    assert run(TASKS.replace("run(main)", last), jetstream_server).split() == promised(TASKS)


@pytest.mark.parametrize("block", PARTS, ids=lambda block: block.partition("\n")[0][:50])
def test_each_part(jetstream_server: LocalServer, block: str) -> None:
    """With the bucket that the first block has made, but no object."""
    with nats_sync.connect(jetstream_server.url) as nc:
        js = nc.jetstream()
        names = {"nats_sync": nats_sync, "nc": nc, "js": js, "files": js.create_object_store("files")}
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(block, names)
    assert printed.getvalue().split() == promised(block) != []


def test_everything_named_exists() -> None:
    errors = set(re.findall(r"`(\w+Error)`", PAGE))
    assert len(errors) >= 4
    assert errors <= NAMES
    methods = {name for name in re.findall(r"`(?:js\.|files\.)?(\w+)\(", PAGE) if name.islower()}
    assert len(methods) > 10
    known = {*dir(nats_sync.jetstream.ObjectStore), *dir(nats_sync.jetstream.ObjectReader)}
    assert methods <= {*known, *dir(nats_sync.jetstream.JetStream)}
    for block in BLOCKS:
        ast.parse(block)


def test_the_file_drop(jetstream_server: LocalServer, tmp_path: Path) -> None:
    sent, received = tmp_path / "sent", tmp_path / "received"
    for folder in (sent, received):
        shutil.rmtree(folder, ignore_errors=True)  # of a try before
        folder.mkdir()
    (sent / "a.bin").write_bytes(bytes(300_000))
    (sent / "b.txt").write_text("b")
    with nats_sync.connect(jetstream_server.url) as nc:
        files = file_drop.bucket(nc.jetstream())
        assert file_drop.send(files, sent) == ["a.bin", "b.txt"]
        with files.watch() as changes:
            assert file_drop.receive(changes, files, received, until="b.txt") == ["got a.bin", "got b.txt"]
            assert (received / "a.bin").read_bytes() == bytes(300_000)
            (sent / "b.txt").unlink()
            (sent / "a.bin").write_bytes(b"new")
            assert file_drop.send(files, sent) == ["a.bin"]
            assert file_drop.receive(changes, files, received, until="b.txt") == ["got a.bin", "removed b.txt"]
    assert {path.name: path.read_bytes() for path in received.iterdir()} == {"a.bin": b"new"}
