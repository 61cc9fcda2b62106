"""The bars of the benchmarks, from rows whose medians are known."""

from __future__ import annotations

import pytest

from benchmarks.bars import BARS, Bar, Figure, judged, of_checkout
from benchmarks.roster import COMPILED, Present, known, taking_part
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


def test_whoever_a_bar_names_is_asked() -> None:
    """With everybody there, and for a pure twin also where there is nothing else."""
    present = [Present(client, {}) for client in known()]
    works = {work.name: work for work in all_works()}
    cases = {(work.name, case.label): case for work in all_works() for case in work.cases}
    for bar in BARS:
        for figure in (bar.ours, bar.theirs):
            if figure is not None:
                case = cases[figure.work, figure.case]
                assert figure.client in {one.name for one in taking_part(works[figure.work], case, present)}, figure


def test_the_bars_of_growth_are_the_agreed_ones() -> None:
    spread = [bar for bar in BARS if bar.ours.work == "spread" and bar.ours.client == "trio"]
    assert [(bar.ours.case, bar.limit) for bar in spread] == [
        ("16 B over 1", 1.0),
        ("16 B over 10", 0.7),
        ("16 B over 100", 0.7),
        ("16 B over 1,000", 0.6),
        ("16 B over 10,000", 0.4),
    ]
    tasks = [bar for bar in BARS if bar.ours.work == "request-tasks" and bar.ours.client == "asyncio"]
    assert [(bar.ours.case, bar.limit) for bar in tasks] == [
        ("16 B, 100 tasks", 0.9),
        ("16 B, 1,000 tasks", 0.85),
        ("16 B, 10,000 tasks", 0.6),
    ]


def test_the_bars_of_jetstream_are_the_agreed_ones() -> None:
    own = [bar for bar in BARS if bar.ours.client == "threads" and bar.ours.work.startswith("js-")]
    found = {(bar.ours.work, bar.theirs and str(bar.theirs)): (bar.limit, bar.at_most) for bar in own}
    assert found == {
        ("js-window", "nats.go js-window"): (1.1, False),
        ("js-window", "nats.c js-window"): (0.9, False),
        ("js-publish", "nats.go js-publish"): (1.1, True),
        ("js-fetch", "nats.go js-fetch"): (1.1, False),
        ("js-messages", "nats.go js-messages"): (1.3, False),
        ("js-work", "threads js-messages"): (0.5, False),
        ("js-ordered", "threads js-fetch"): (1.5, False),
        ("js-first", None): (25, True),
        ("js-memory", None): (4, True),
    }


def test_threads_are_held_beside_one_thread() -> None:
    (bar,) = [bar for bar in BARS if bar.title == "publish 1 KiB, 64 threads beside 1"]
    rows = [
        Row("publish-threads", "1 KiB, 64 threads", "threads", figures={"rate": [700.0]}),
        Row("publish-threads", "1 KiB, 1 thread", "threads", figures={"rate": [1000.0]}),
    ]
    (verdict,) = judged(rows, [bar])
    assert (verdict.status, verdict.ours, verdict.theirs) == ("met", 700.0, 1000.0)
    rows[0].figures["rate"] = [699.0]
    (verdict,) = judged(rows, [bar])
    assert verdict.status == "not met"


def test_another_checkout_has_the_same_bars_beside_the_same_peers() -> None:
    theirs = of_checkout("before")
    assert len(theirs) == len(BARS)
    for bar, other in zip(BARS, theirs, strict=True):
        assert other.ours.client == f"{bar.ours.client}@before"
        assert (other.limit, other.title, other.at_most) == (bar.limit, bar.title, bar.at_most)
        if bar.theirs is not None and other.theirs is not None:
            own = bar.theirs.client in (*COMPILED, "core")
            assert other.theirs.client == (f"{bar.theirs.client}@before" if own else bar.theirs.client)
