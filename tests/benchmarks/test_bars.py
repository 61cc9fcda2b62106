"""The bars of the benchmarks, from rows whose medians are known."""

from __future__ import annotations

import pytest

from benchmarks.bars import BARS, Bar, Figure, judged
from benchmarks.roster import known
from benchmarks.rounds import Row
from benchmarks.works import all_works

OURS = Figure("subscribe", "16 B", "threads", "rate")
THEIRS = Figure("subscribe", "16 B", "nats.c", "rate")


def rows(ours: list[float], theirs: list[float]) -> list[Row]:
    return [
        Row("subscribe", "16 B", "threads", figures={"rate": ours}),
        Row("subscribe", "16 B", "nats.c", figures={"rate": theirs}),
    ]


@pytest.mark.parametrize(
    ("bar", "ours", "theirs", "status", "ratio"),
    [
        (Bar("more", OURS, 1.05, THEIRS), [100, 210, 400], [200, 100, 900], "met", 1.05),
        (Bar("more", OURS, 1.05, THEIRS), [209], [200], "not met", 1.045),
        (Bar("less", OURS, 1.2, THEIRS, at_most=True), [240], [200], "met", 1.2),
        (Bar("less", OURS, 1.2, THEIRS, at_most=True), [241], [200], "not met", 1.205),
        (Bar("number", OURS, 1000, at_most=True), [999, 1000, 2000], [1], "met", 1000),
        (Bar("number", OURS, 1000, at_most=True), [1000, 1001, 1002], [1], "not met", 1001),
    ],
)
def test_a_bar_compares_medians(bar: Bar, ours: list[float], theirs: list[float], status: str, ratio: float) -> None:
    (verdict,) = judged(rows(ours, theirs), [bar])
    assert (verdict.status, verdict.ratio) == (status, pytest.approx(ratio))


def test_what_is_not_there_is_not_measured() -> None:
    bar = Bar("more", OURS, 1.0, THEIRS)
    mine, other = rows([1.0], [1.0])
    (verdict,) = judged([mine], [bar], {"nats.c": "its header is not installed"})
    assert (verdict.status, verdict.reason) == ("not measured", "nats.c subscribe: its header is not installed")
    other.wrong = "1 lost"
    (verdict,) = judged([mine, other], [bar])
    assert (verdict.status, verdict.theirs, verdict.reason) == ("not measured", None, "nats.c subscribe: 1 lost")
    (verdict,) = judged([], [bar])
    assert verdict.reason == "threads subscribe: not part of this run"


def test_without_a_compiled_module_the_pure_figure_is_told() -> None:
    bar = Bar("more", OURS, 1.0, THEIRS)
    pure = Row("subscribe", "16 B", "threads-pure", figures={"rate": [3.0]})
    (verdict,) = judged([pure, rows([], [4.0])[1]], [bar], {"threads": "no compiled module"})
    assert (verdict.status, verdict.ratio) == ("not measured", None)
    assert verdict.reason == "no compiled module; pure: 0.75"


def test_an_import_that_brings_asyncio_fails_its_bar() -> None:
    (bar,) = [bar for bar in BARS if bar.ours.metric == "asyncio"]
    for asyncio, status in ((True, "not met"), (False, "met")):
        row = Row("import", "import", "threads", figures={"import": [20.0]}, notes={"asyncio": asyncio})
        (verdict,) = judged([row], [bar])
        assert verdict.status == status
        row.failed = "it crashed"
        (verdict,) = judged([row], [bar])
        assert verdict.status == "not measured"


def test_every_bar_is_of_something_that_is_measured() -> None:
    cases = {(work.name, case.label): work for work in all_works() for case in work.cases}
    clients = {client.name: client for client in known()}
    figures = [figure for bar in BARS for figure in (bar.ours, bar.theirs) if figure is not None]
    for figure in figures:
        work = cases[figure.work, figure.case]
        assert work.needs in clients[figure.client].works
        assert figure.metric in {metric.name for metric in work.metrics} | {"asyncio"}
    assert len({(bar.title, bar.ours, bar.theirs) for bar in BARS}) == len(BARS)
