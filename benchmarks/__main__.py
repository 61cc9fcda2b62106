"""`make bench`: clients beside each other on this machine, now; every message counted. docs/benchmarks.md has it all.

python -m benchmarks [--only WORK,…] [--case PATTERN] [--clients NAME,…] [--checkout NAME=FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, TypeVar

from . import bars, machine, report
from .places import place
from .roster import NotHereError, Present, known, look_for, of_checkout, taking_part
from .rounds import Row, Settings, measure
from .works import Case, Work, all_works

RESULTS = Path(__file__).parent / "results"
QUIET = 0.1
"""A machine that is busier than this before a run is not one to believe."""


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when messages went astray or an own client did not get through."""
    options = parse(given)
    repetitions = options.repetitions or (1 if options.quick else 5)
    seconds = (0.12 if options.quick else 0.6) * options.scale
    settings = Settings(
        repetitions=repetitions,
        seconds=seconds,
        timeout=options.timeout,
        pilots=1 if options.quick else 3,
        fault=options.fault,
    )
    works = chosen("--only", options.only, all_works())
    begin = time.monotonic()
    where = machine.describe()
    try:
        others = [client for name, folder in options.checkout for client in of_checkout(name, folder)]
    except NotHereError as error:
        raise SystemExit(f"--checkout: {error}") from None
    present, missing = look_for(chosen("--clients", options.clients, [*known(), *others]))
    run = report.Run(
        where,
        machine.versions(present),
        {**asdict(settings), "scale": options.scale, "quick": options.quick, "arguments": list(given or sys.argv[1:])},
        missing,
        works,
    )
    introduce(run)
    try:
        for work in works:
            cases = [case for case in work.cases if chosen_case(case, options)]
            run.rows += measured(work, cases, present, settings)
    except KeyboardInterrupt:
        print("\nInterrupted: what follows is what was measured until then.")
    wanted = [*bars.BARS, *(bar for name, _ in options.checkout for bar in bars.of_checkout(name))]
    run.verdicts = bars.judged(run.rows, wanted, missing)
    shown = [
        verdict
        for verdict in run.verdicts
        if not (options.only or options.case or options.clients)
        or verdict.ratio is not None
        or "pure:" in verdict.reason
    ]
    if shown:
        print("\nBars", *report.bar_lines(shown), sep="\n")
    folder = report.write(run, options.results)
    bad = report.failures(run.rows)
    print(f"\n{time.monotonic() - begin:.0f} s; written to {folder}")
    if bad:
        print("\nThis run is not good:", *bad, sep="\n  ")
    return 1 if bad else 0


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help=f"works, comma-separated, of: {', '.join(work.name for work in all_works())}")
    parser.add_argument("--case", metavar="PATTERN", help="only cases whose label this regular expression finds")
    parser.add_argument("--clients", help=f"of: {', '.join(client.name for client in known())}")
    parser.add_argument(
        "--checkout",
        type=checkout,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="measure our clients of another checkout as well: threads@NAME, …",
    )
    parser.add_argument("--repetitions", type=int, help="of each client, in turn (5; quick: 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="how long a repetition takes, beside the usual")
    parser.add_argument("--quick", action="store_true", help="the whole table in some minutes: to look at")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one repetition of one client")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--fault", choices=("lose", "double", "swap"), default="", help=argparse.SUPPRESS)
    return parser.parse_args(given)


def checkout(given: str) -> tuple[str, Path]:
    """A name, and where it is."""
    name, equals, folder = given.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"not NAME=FOLDER: {given}")
    return name, Path(folder)


class Named(Protocol):
    """What can be chosen on the command line."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def chosen(option: str, names: str | None, there: Iterable[T]) -> list[T]:
    """Those that are named, or all."""
    by_name = {one.name: one for one in there}
    if names is None:
        return list(by_name.values())
    unknown = [name for name in names.split(",") if name not in by_name]
    if unknown:
        raise SystemExit(f"{option}: no {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [one for name, one in by_name.items() if name in names.split(",")]


def introduce(run: report.Run) -> None:
    """Where, with what, and what is not there."""
    where = run.machine
    print(f"{where['processor']}, {where['cores']} cores, {where['system']}; {run.versions['python']}")
    often = f"{run.settings['repetitions']} repetitions in turn"
    print(f"nats-server {run.versions['nats-server']}; {often}: median (least … most)")
    busy = where["busy_before"]
    if busy is not None and busy > QUIET:
        print(f"The machine is busy ({busy:.0%}): these figures are not to be relied upon.")
    for name, reason in run.missing.items():
        print(f"  without {name}: {reason}")


def chosen_case(case: Case, options: argparse.Namespace) -> bool:
    """Whether a run has it."""
    if options.case is not None:
        return re.search(options.case, case.label) is not None
    return case.quick or not options.quick


def measured(work: Work, cases: Sequence[Case], present: Sequence[Present], settings: Settings) -> list[Row]:
    """These cases of a work, printed as they come."""
    rows: list[Row] = []
    able = {case: taking_part(work, case, present) for case in cases}
    if not any(able.values()):
        return rows
    print(f"\n{work.title}", flush=True)
    for case in cases:
        if able[case]:
            with place({case.transport}, case.size, streams=work.streams) as there:
                new = measure(work, case, able[case], there, settings, tell)
            tell("")
            print(f" {case.label}")
            print("\n".join(report.row_lines(work, new)), flush=True)
            rows += new
    return rows


def tell(text: str) -> None:
    """What is going on, where somebody is looking."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
