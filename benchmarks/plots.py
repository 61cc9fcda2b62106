"""Bar charts as SVG, written by hand: one for each work, legible on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from .roster import PURE, plain
from .rounds import Row
from .works import Metric, Work

__all__ = ["chart", "draw"]

WIDTH = 760
LABEL = 130
"""Pixels for the clients' names."""
VALUE = 120
"""Pixels for the figures behind the bars."""
STEP = 20
BAR = 13
HEAD = 80
COLOURS = "Green: ours, muted without the compiled module; blue: others; grey: a bare socket"
OURS = ("threads", "asyncio", "uvloop", "trio", "core")

STYLE = """
svg { font-family: system-ui, sans-serif; }
text { fill: #1f2328; font-size: 12px; }
.title { font-size: 16px; font-weight: 600; }
.small { fill: #59636e; font-size: 11px; }
.case { font-weight: 600; }
.ours { fill: #1a7f5a; } .pure { fill: #7cc4a6; } .peer { fill: #6e8fb8; } .raw { fill: #a8a29a; }
.whisker { stroke: #1f2328; stroke-width: 1.2; } .axis { stroke: #c8ced5; } .paper { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; }
  text { fill: #e6edf3; } .small { fill: #9198a1; }
  .ours { fill: #35b57f; } .pure { fill: #1f6f50; } .peer { fill: #5f83b3; } .raw { fill: #7a756d; }
  .whisker { stroke: #e6edf3; } .axis { stroke: #3d444d; }
}
"""


def draw(works: Sequence[Work], rows: Sequence[Row], folder: Path, subtitle: str) -> dict[str, str]:
    """A file for each work that has figures: their names by the works'."""
    names: dict[str, str] = {}
    for work in works:
        own = [row for row in rows if row.work == work.name and row.valid]
        for metric in work.metrics:
            name = f"{work.name}.svg" if metric is work.metrics[0] else f"{work.name}-{metric.name}.svg"
            shown = [row for row in own if metric.name in row.figures]
            if shown and metric.name not in ("cpu", "p99"):
                (folder / name).write_text(chart(work.title, metric, shown, subtitle), encoding="utf-8")
                names.setdefault(work.name, name)
    return names


def chart(title: str, metric: Metric, rows: Sequence[Row], subtitle: str) -> str:
    """One group of bars for each case, each group with a scale of its own."""
    cases: Mapping[str, list[Row]] = {row.case: [] for row in rows}
    for row in rows:
        cases[row.case].append(row)
    better = "more is better" if metric.more_is_better else "less is better"
    parts: list[str] = []
    y = HEAD
    for case, group in cases.items():
        parts.append(f'<text class="case" x="12" y="{y + 14}">{escape(case)}</text>')
        y += STEP + 2
        parts += _group(group, metric, y)
        y += STEP * len(group) + 14
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{y}"/>',
        f'<text class="title" x="12" y="24">{escape(title)}: {escape(metric.name)}, {escape(metric.unit)}</text>',
        f'<text class="small" x="12" y="42">{better}; median, whisker from least to most. {COLOURS}</text>',
        f'<text class="small" x="12" y="58">{escape(subtitle)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>\n"])


def _group(rows: Sequence[Row], metric: Metric, top: int) -> list[str]:
    most = max(max(0.0, *row.figures[metric.name]) for row in rows) or 1.0
    scale = (WIDTH - LABEL - VALUE) / most
    parts = [f'<line class="axis" x1="{LABEL}" y1="{top - 2}" x2="{LABEL}" y2="{top + STEP * len(rows)}"/>']
    for number, row in enumerate(rows):
        figures = row.figures[metric.name]
        y = top + number * STEP
        middle = row.median(metric.name) or 0.0
        low, high = (LABEL + max(0.0, value) * scale for value in (min(figures), max(figures)))
        line = y + BAR / 2
        parts += [
            f'<text x="{LABEL - 8}" y="{y + BAR - 2}" text-anchor="end">{escape(row.client)}</text>',
            f'<rect class="{_kind(row.client)}" x="{LABEL}" y="{y}" width="{max(0.0, middle) * scale:.1f}" '
            f'height="{BAR}"/>',
            f'<line class="whisker" x1="{low:.1f}" y1="{line}" x2="{high:.1f}" y2="{line}"/>',
            *(
                f'<line class="whisker" x1="{x:.1f}" y1="{line - 3}" x2="{x:.1f}" y2="{line + 3}"/>'
                for x in (low, high)
            ),
            f'<text x="{high + 7:.1f}" y="{y + BAR - 2}">{_amount(middle)}</text>',
        ]
    return parts


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _kind(client: str) -> str:
    name = plain(client)
    if name in PURE or name == "core-pure":
        return "pure"
    return "ours" if name in OURS else "raw" if name == "raw" else "peer"
