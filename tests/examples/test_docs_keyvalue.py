"""What the page on Key-Value shows is run as it stands there."""

from __future__ import annotations

import ast
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import anyio
import pytest

import nats_sync
import nats_sync.jetstream
from examples.jetstream import config_watcher, leader_election
from nats_sync.testing import LocalServer
from tests.examples.test_docs_jetstream import NAMES, jetstream_server, promised, run
from tests.server_version import needs_server

__all__ = ["jetstream_server"]

PAGE = (Path(__file__).parents[2] / "docs" / "keyvalue.md").read_text()
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
    """With the bucket that the first block has made, but no key."""
    with nats_sync.connect(jetstream_server.url) as nc:
        js = nc.jetstream()
        names = {"nats_sync": nats_sync, "nc": nc, "js": js, "kv": js.create_key_value("config", history=5)}
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(block, names)
    assert printed.getvalue().split() == promised(block) != []


def test_the_configuration_watcher(jetstream_server: LocalServer) -> None:
    reports = config_watcher.main(jetstream_server.url)
    view = "the view has 8080 and green"
    assert view in reports
    assert [report for report in reports if report != view] == [
        "web.port is 8080",
        "web.color is green",
        "2 settings at the beginning",
        "web.port is 9090",
        "web.color is back to its default",
    ]


@needs_server(2, 11, has="a time to live of messages")
def test_the_leader_election(jetstream_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_election, "TTL", 1.0)
    lines = anyio.run(leader_election.main, jetstream_server.url)
    assert lines[0] == "dies leads"
    # One leads at a time: each steps down before the next one leads.
    assert len(lines) == 1 + 2 * 2 * leader_election.TERMS
    for leads, steps_down in zip(lines[1::2], lines[2::2], strict=True):
        assert leads.endswith(" leads")
        assert steps_down == leads.replace("leads", "steps down")


def test_everything_named_exists() -> None:
    errors = set(re.findall(r"`(\w+Error)`", PAGE))
    assert len(errors) > 4
    assert errors <= NAMES
    methods = {name for name in re.findall(r"`(?:kv\.)?(\w+)\(", PAGE) if name.islower()}
    assert len(methods) > 10
    known = {*dir(nats_sync.jetstream.KeyValue), *dir(nats_sync.jetstream.JetStream)}
    assert methods <= known
    for block in BLOCKS:
        ast.parse(block)
