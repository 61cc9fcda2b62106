"""What `make demo` says of a stream is true: a planted lie is found. The demo itself is run by `.ci/run`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.demo.buckets import BucketLedger, BucketVerdict, bucket_lines, judge_bucket
from examples.demo.streams import StreamLedger, StreamVerdict, judge_stream, stream_lines

STORED = ["threads-1", "asyncio-1", "threads-2"]


def honest() -> tuple[StreamLedger, list[str]]:
    ledger = StreamLedger("threads")
    ledger.published = 2
    for number, message in enumerate(STORED):
        if message.startswith("threads"):
            ledger.acknowledges(message)
        ledger.handles(message, f"delivery {number}")
    ledger.confirms("threads-1")
    return ledger, list(STORED)


def test_an_honest_run_is_good() -> None:
    ledger, stored = honest()
    ledger.handles("asyncio-1", "another delivery")  # which a server may do
    verdict = judge_stream(ledger, stored)
    assert verdict == StreamVerdict(lost=0, doubled=0, never_handled=0, handed_out_twice=0, failed=0)
    assert verdict.good
    told = {label.strip(): cells for label, cells in stream_lines([(ledger, verdict)])}
    assert told["handled"] == ["3"]
    assert told["delivered again by a server"] == ["1"]
    assert told["after a confirmed ack"] == ["0"]


def lost(ledger: StreamLedger, stored: list[str]) -> None:
    stored.remove("threads-2")


def doubled(ledger: StreamLedger, stored: list[str]) -> None:
    stored.append("threads-2")


def never_handled(ledger: StreamLedger, stored: list[str]) -> None:
    stored.append("asyncio-2")


def handed_out_twice(ledger: StreamLedger, stored: list[str]) -> None:
    ledger.handles("threads-1", "delivery 0")


def failed(ledger: StreamLedger, stored: list[str]) -> None:
    ledger.failed += 1


@pytest.mark.parametrize("plant", [lost, doubled, never_handled, handed_out_twice, failed], ids=lambda it: it.__name__)
def test_a_planted_lie_is_found(plant: Callable[[StreamLedger, list[str]], None]) -> None:
    ledger, stored = honest()
    plant(ledger, stored)
    verdict = judge_stream(ledger, stored)
    assert not verdict.good
    assert getattr(verdict, plant.__name__) == 1


def test_what_comes_again_after_a_confirmed_acknowledgement_is_counted() -> None:
    ledger, _ = honest()
    ledger.handles("threads-2", "second")
    assert ledger.again_after_confirmed == 0
    ledger.handles("threads-1", "third")
    assert ledger.again_after_confirmed == 1


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ([1, 2, 4], BucketVerdict(never_told=0, told_twice=0, out_of_order=0)),
        ([1, 4], BucketVerdict(never_told=1, told_twice=0, out_of_order=0)),
        ([1, 2, 2, 4], BucketVerdict(never_told=0, told_twice=1, out_of_order=0)),
        ([1, 4, 2], BucketVerdict(never_told=0, told_twice=0, out_of_order=1)),
    ],
)
def test_what_a_watch_has_told_is_held_beside_the_bucket(told: list[int], verdict: BucketVerdict) -> None:
    ledger = BucketLedger("threads")
    for revision in told:
        ledger.tells(revision)
    assert judge_bucket(ledger, [1, 2, 4]) == verdict
    assert verdict.good is (told == [1, 2, 4])
    lines = {label.strip(): cells for label, cells in bucket_lines([(ledger, verdict)])}
    assert lines["changes told by the watch"] == [str(len(told))]
