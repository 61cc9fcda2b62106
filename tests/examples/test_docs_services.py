"""What the page on services shows is run as it stands there, and its example to its end."""

from __future__ import annotations

import ast
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import msgspec
import pytest

import nats_proto.errors
import nats_sync
import nats_sync.services
from examples.services import two_endpoints
from nats_sync.testing import LocalServer
from tests.examples.test_docs_jetstream import jetstream_server, promised, run

__all__ = ["jetstream_server"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "services.md").read_text()
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
    """With the service that the first block has made, but none of its endpoints."""
    with (
        nats_sync.connect(jetstream_server.url) as nc,
        nc.add_service("orders", "1.2.0", description="takes orders") as service,
    ):
        nc.flush()
        names = {"nc": nc, "service": service, "Request": nats_sync.services.Request, "msgspec": msgspec}
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(block, names)
    assert printed.getvalue().split() == promised(block) != []


def test_the_example(jetstream_server: LocalServer) -> None:
    reports = two_endpoints.main(jetstream_server.url)
    assert reports[:5] == [
        "book, pen",
        "2500 cents",
        "404:there is no car",
        "400:the request cannot be read: Object missing required field `item`",
        "2 instances",
    ]
    # The last request may not be counted yet, since it is counted when its handler has returned.
    assert reports[5] in ("3 requests", "4 requests")


def test_everything_named_exists() -> None:
    errors = set(re.findall(r"`(\w+Error)\b", PAGE))
    assert len(errors) > 3
    assert errors <= {*nats_sync.services.__all__, *nats_proto.errors.__all__}
    known = {*dir(nats_sync.Client), *dir(nats_sync.services.Service), *dir(nats_sync.services.Services)}
    known |= {*dir(nats_sync.services.Request), *dir(nats_sync.services.Endpoint), "service_error", "ServiceError"}
    methods = set(re.findall(r"`(?:nc\.|service\.|endpoint\.|request\.)?(\w+)\(", PAGE))
    assert len(methods) > 8
    assert methods <= known
    for block in BLOCKS:
        ast.parse(block)
    for path in re.findall(r"(?:tests|examples)/[\w./]+", PAGE):
        assert (ROOT / path.rstrip(".")).exists(), path
