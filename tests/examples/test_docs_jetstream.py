"""What the page on JetStream shows is run as it stands there, and its examples are run to their ends."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import nats_sync
import nats_sync.jetstream
from examples.jetstream import exactly_once, tracing, work_queue
from nats_sync.testing import LocalServer
from tests.adapters.sync_tools import eventually

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "jetstream.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "connect(" in block]
PARTS = [block for block in BLOCKS if "connect(" not in block]
THREADS, TASKS = PROGRAMS
NAMES = {*nats_sync.jetstream.__all__, *nats_sync.errors.__all__, "NATSError", "TypeError", "ValueError"}


@pytest.fixture
def jetstream_server() -> Iterator[LocalServer]:
    with LocalServer(jetstream=True) as local:
        yield local


def promised(block: str) -> list[str]:
    """What the comments behind its prints say that it prints."""
    return " ".join(re.findall(r"print\(.*\)  # (.+)", block)).split()


def run(code: str, server: LocalServer) -> str:
    code = code.replace("nats://127.0.0.1:4222", server.url)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_threads(jetstream_server: LocalServer) -> None:
    assert run(THREADS, jetstream_server).split() == promised(THREADS)


@pytest.mark.parametrize("last", ["run(main)", 'run(main, backend="trio")'])
def test_tasks(jetstream_server: LocalServer, last: str) -> None:
    assert run(TASKS.replace("run(main)", last), jetstream_server).split() == promised(TASKS)


@pytest.mark.parametrize("block", PARTS, ids=lambda block: block.partition("\n")[0][:50])
def test_each_part(jetstream_server: LocalServer, block: str) -> None:
    """With what the first block has made, but no message."""
    with nats_sync.connect(jetstream_server.url) as nc:
        js = nc.jetstream()
        stream = js.create_stream("ORDERS", subjects=["orders.>"])
        names = {
            "nats_sync": nats_sync,
            "nc": nc,
            "js": js,
            "stream": stream,
            "consumer": stream.create_consumer("billing"),
        }
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(block, names)
    assert printed.getvalue().split() == promised(block) != []


def test_the_work_queue(jetstream_server: LocalServer) -> None:
    reports = work_queue.main(jetstream_server.url)
    assert sorted(reports) == ["1: done", "2: done", "3: done", "3: failed", "4: given up", "5: done", "6: done"]
    with nats_sync.connect(jetstream_server.url) as nc:
        jobs = nc.jetstream().stream("JOBS")
        eventually(lambda: jobs.refresh().state.messages == 0)  # the last acknowledgements arrive


def test_the_pipeline_has_each_invoice_once(jetstream_server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert exactly_once.main(jetstream_server.url)[0] == exactly_once.ORDERS
    with nats_sync.connect(jetstream_server.url) as nc:
        stream = nc.jetstream().stream("INVOICES")
        invoices = {stream.get_msg(sequence).data for sequence in range(1, exactly_once.ORDERS + 1)}
    assert invoices == {b"invoice for book %d" % number for number in range(1, exactly_once.ORDERS + 1)}
    # It has crashed, and has published some a second time.
    assert re.search(r"crash at order \d+, [1-9]\d* duplicates", capsys.readouterr().out)


def test_everything_named_exists() -> None:
    ours, _, others = PAGE.partition("## Coming from nats-py")
    # In that table the first column has the names of others.
    text = ours + "".join(line.split(" | ", 1)[-1] for line in others.splitlines())
    errors = set(re.findall(r"`(\w+Error)`", text))
    assert len(errors) > 20
    assert errors <= NAMES
    for path in re.findall(r"(?:tests|examples)/[\w./]+", PAGE):
        assert (ROOT / path.rstrip(".")).exists(), path


SPANS = InMemorySpanExporter()
"""Where they go, for the life of the process: OpenTelemetry takes only one provider."""


@pytest.fixture(scope="module")
def _provider() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(provider)


@pytest.mark.usefixtures("_provider")
def test_a_trace_goes_through_streams(jetstream_server: LocalServer) -> None:
    SPANS.clear()
    tracing.main(jetstream_server.url)
    spans = sorted(SPANS.get_finished_spans(), key=lambda span: span.start_time)
    assert [span.name for span in spans] == [
        "publish orders", "process orders", "process orders", "publish invoices",
    ]  # fmt: skip
    order, first, again, invoice = spans
    assert len({span.context.trace_id for span in spans}) == 1
    assert first.parent.span_id == again.parent.span_id == order.context.span_id
    assert invoice.parent.span_id == again.context.span_id
    assert ([*first.links], [link.context.span_id for link in again.links]) == ([], [order.context.span_id])
    assert [[event.name for event in span.events] for span in (first, again)] == [["nak"], ["ack"]]
