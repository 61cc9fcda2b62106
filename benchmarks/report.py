"""A run as text and as JSON: every row with its spread, every bar with both figures, what was not there and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import plots
from .bars import Verdict
from .rounds import Row
from .works import Work

__all__ = ["Run", "amount", "bar_lines", "failures", "row_lines", "write"]


@dataclass
class Run:
    """All there is to say about a run."""

    machine: Mapping[str, Any]
    versions: Mapping[str, Any]
    settings: Mapping[str, Any]
    missing: Mapping[str, str]
    works: Sequence[Work]
    rows: list[Row] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def key(self) -> str:
        return "".join(letter for letter in str(self.machine["date"]) if letter.isalnum()).lower()


def amount(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def failures(rows: Sequence[Row]) -> list[str]:
    """Why a run is not good: messages that went astray, and own clients that did not get through."""
    own = ("threads", "asyncio", "uvloop", "trio", "core")
    return [
        f"{row.work}, {row.case}, {row.client}: {row.wrong or row.failed}"
        for row in rows
        if (row.wrong is not None and not row.excused) or (row.failed is not None and row.client.startswith(own))
    ]


def row_lines(work: Work, rows: Sequence[Row]) -> list[str]:
    """The rows of one case as they are printed."""
    lines: list[str] = []
    for row in rows:
        cells: list[str] = []
        for metric in work.metrics:
            figures = row.figures.get(metric.name)
            if figures and row.valid:
                spread = f"({amount(min(figures))} … {amount(max(figures))})"
                cells.append(f"{amount(row.median(metric.name)):>8} {metric.unit:<4}{spread:<20} {metric.name}")
        text = "  ".join(cells) or f"    {'INVALID: ' + row.wrong if row.wrong else 'failed: ' + str(row.failed)}"
        if row.excused:
            text += " (known of this client)"
        lines.append(f"  {row.client:<15}{text}{_notes(row)}".rstrip())
    return lines


def _notes(row: Row) -> str:
    if "asyncio" not in row.notes:
        return ""
    return "  with asyncio" if row.notes["asyncio"] else "  without asyncio"


def bar_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """The bars as they are printed."""
    lines: list[str] = []
    for verdict in verdicts:
        bar = verdict.bar
        if verdict.status == "not measured":
            figures = verdict.reason
        elif bar.theirs is None:
            figures = amount(verdict.ours)
        else:
            figures = f"{amount(verdict.ours)} / {amount(verdict.theirs)} = {verdict.ratio:.2f}"
        lines.append(f"  {verdict.status:<13}{bar.title:<38}{bar.ours.client:<14}{bar.wanted:<38}{figures}")
    return lines


def write(run: Run, folder: Path) -> Path:
    """``results.json``, ``table.md`` and an SVG for each work, in a folder of its own."""
    place = folder / run.key
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.json").write_text(json.dumps(_json(run), indent=1) + "\n", encoding="utf-8")
    drawn = plots.draw(run.works, run.rows, place, _subtitle(run))
    (place / "table.md").write_text("\n".join(_markdown(run, drawn)) + "\n", encoding="utf-8")
    return place


def _json(run: Run) -> dict[str, Any]:
    units = {work.name: {metric.name: metric.unit for metric in work.metrics} for work in run.works}
    rows = [
        {
            **asdict(row),
            "valid": row.valid,
            "units": units[row.work],
            "median": {name: row.median(name) for name in row.figures},
            "low": {name: min(figures) for name, figures in row.figures.items()},
            "high": {name: max(figures) for name, figures in row.figures.items()},
        }
        for row in run.rows
    ]
    bars = [
        {
            "title": verdict.bar.title,
            "client": verdict.bar.ours.client,
            "wanted": verdict.bar.wanted,
            "status": verdict.status,
            "ours": verdict.ours,
            "theirs": verdict.theirs,
            "ratio": verdict.ratio,
            "reason": verdict.reason,
        }
        for verdict in run.verdicts
    ]
    return {
        "machine": run.machine,
        "versions": run.versions,
        "settings": run.settings,
        "missing": run.missing,
        "failures": failures(run.rows),
        "bars": bars,
        "rows": rows,
    }


def _subtitle(run: Run) -> str:
    machine = run.machine
    return (
        f"{machine['processor']}, {machine['cores']} cores; nats-server {run.versions['nats-server']}, "
        f"{run.versions['python']}; {str(machine['date'])[:10]}"
    )


def _markdown(run: Run, drawn: Mapping[str, str]) -> list[str]:
    lines = [f"# Benchmark of {run.machine['date']}", "", _subtitle(run), ""]
    lines += [f"Commit {run.versions['commit']}; {run.settings['repetitions']} repetitions in turn, medians "]
    lines[-1] += "(least … most). How it is measured: docs/benchmarks.md."
    lines += [f"Load before the run: {run.machine['load_before']}, busy: {run.machine['busy_before']}.", ""]
    lines += ["| client | version |", "|---|---|"]
    for name, about in run.versions["clients"].items():
        lines.append(f"| {name} | {', '.join(str(value) for value in about.values() if isinstance(value, str))} |")
    lines += [f"| {name} | not measured: {reason} |" for name, reason in run.missing.items()]
    bad = failures(run.rows)
    lines += ["", "## Failures", "", *(f"- {line}" for line in bad)] if bad else []
    lines += [
        "",
        "## Bars",
        "",
        "| | what | client | wanted | ours | theirs | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for verdict in run.verdicts:
        bar = verdict.bar
        figures = f"{amount(verdict.ours)} | {amount(verdict.theirs)} | {amount(verdict.ratio)}"
        why = f" ({verdict.reason})" if verdict.reason else ""
        lines.append(f"| {verdict.status}{why} | {bar.title} | {bar.ours.client} | {bar.wanted} | {figures} |")
    for work in run.works:
        lines += _section(work, [row for row in run.rows if row.work == work.name], drawn.get(work.name))
    return lines


def _section(work: Work, rows: Sequence[Row], picture: str | None) -> list[str]:
    if not rows:
        return []
    cases = list(dict.fromkeys(row.case for row in rows))
    clients = list(dict.fromkeys(row.client for row in rows))
    found = {(row.client, row.case): row for row in rows}
    lines = ["", f"## {work.title}"]
    lines += ["", f"![{work.title}]({picture})"] if picture else []
    for metric in work.metrics:
        if not any(metric.name in row.figures for row in rows):
            continue
        lines += ["", f"| {metric.name}, {metric.unit} | {' | '.join(cases)} |", "|---|" + "---:|" * len(cases)]
        for client in clients:
            cells = [_cell(found.get((client, case)), metric.name) for case in cases]
            lines.append(f"| {client} | {' | '.join(cells)} |")
    return lines


def _cell(row: Row | None, metric: str) -> str:
    if row is None:
        return ""
    if not row.valid:
        return f"invalid: {row.wrong}" if row.wrong else f"failed: {row.failed}"
    figures = row.figures.get(metric)
    return f"{amount(row.median(metric))} ({amount(min(figures))} … {amount(max(figures))})" if figures else "-"
