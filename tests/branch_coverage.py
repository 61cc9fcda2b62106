"""Fails when fewer than the given per cent of the branches in a coverage report (JSON) were taken.

``coverage report --fail-under`` mixes lines and branches in one number; here both have to reach the bar.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(report: str, least: str) -> int:
    totals = json.loads(Path(report).read_text())["totals"]
    branches = 100.0 * totals["covered_branches"] / max(1, totals["num_branches"])
    lines = 100.0 * totals["covered_lines"] / max(1, totals["num_statements"])
    print(
        f"nats_proto: {branches:.2f} % of {totals['num_branches']} branches, {lines:.2f} % of lines; at least {least} %"
    )
    return int(min(branches, lines) < float(least))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
