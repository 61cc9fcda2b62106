"""Streams in the benchmarks: what became of every message, and what a client or the server's content makes of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache

import pytest

from benchmarks import streams
from benchmarks.places import Place, place
from benchmarks.roster import Client, Present, known, look_for
from benchmarks.rounds import Settings, WrongError, repetition
from benchmarks.works import Case, all_works

COUNT = 600
WORKS = {work.name: work for work in all_works()}
CASE = Case("128 B", 128)


@pytest.fixture(scope="module")
def there() -> Iterator[Place]:
    """A server for all of them."""
    with place({"tcp"}, streams=True) as made:
        yield made


@cache
def present(name: str) -> Present:
    """One that is here in any case: with the compiled module or without."""
    found, missing = look_for(client for client in known() if client.name in (name, f"{name}-pure"))
    assert found, missing
    return found[0]


def liar(fault: str) -> Present:
    works = frozenset({"js_window", "js_fetch"})
    return Present(Client("liar", (sys.executable, "-m", "tests.benchmarks.liar", fault), works), {})


@pytest.mark.parametrize("name", ["threads", "asyncio"])
@pytest.mark.parametrize("work", ["js-window", "js-publish", "js-fetch", "js-messages", "js-work", "js-ordered"])
def test_nothing_is_found_where_nothing_is_wrong(there: Place, work: str, name: str) -> None:
    proof = WORKS[work].side == "stored"
    result = repetition(WORKS[work], CASE, present(name), there, COUNT, Settings(), proof=proof)
    for metric in WORKS[work].metrics:
        assert (metric.read(result) or 0.0) > 0.0


@pytest.mark.parametrize("way", ["fetch", "messages", "work"])
def test_memory_is_looked_at_by_every_way_to_read(there: Place, way: str) -> None:
    name = "asyncio" if way == "messages" else "threads"
    case = Case(way, 128, count=COUNT, stream=way)
    result = repetition(WORKS["js-memory"], case, present(name), there, COUNT, Settings())
    assert result["received"] == COUNT
    assert isinstance(result["grown"], int)


def test_the_first_use_is_of_a_process_without(there: Place) -> None:
    result = repetition(WORKS["js-first"], Case("first"), present("threads"), there, 1, Settings())
    (first,) = (metric.read(result) for metric in WORKS["js-first"].metrics)
    assert first is not None
    assert first > 0.0


FAULTS = {"lose": "1 lost", "double": "1 doubled", "swap": "1 misordered"}


@pytest.mark.parametrize(("work", "fault"), [("js-ordered", "lose"), ("js-messages", "swap"), ("js-fetch", "double")])
def test_a_reader_sees_what_is_wrong_with_a_stream(there: Place, work: str, fault: str) -> None:
    with pytest.raises(WrongError, match=FAULTS[fault]):
        repetition(WORKS[work], CASE, present("threads"), there, COUNT, Settings(fault=fault))


@pytest.mark.parametrize("name", ["threads", "asyncio"])
@pytest.mark.parametrize("work", ["kv-put", "kv-get", "kv-watch"])
def test_nothing_is_found_where_nothing_is_wrong_with_a_bucket(there: Place, work: str, name: str) -> None:
    result = repetition(WORKS[work], CASE, present(name), there, COUNT, Settings())
    for metric in WORKS[work].metrics:
        assert (metric.read(result) or 0.0) > 0.0


def test_what_is_wrong_with_a_bucket_is_seen(there: Place) -> None:
    with pytest.raises(WrongError, match="1 misordered"):
        repetition(WORKS["kv-watch"], CASE, present("threads"), there, COUNT, Settings(fault="swap"))
    with pytest.raises(WrongError, match="600 answers to 600 requests, 2 of them wrong"):
        repetition(WORKS["kv-get"], CASE, present("threads"), there, COUNT, Settings(fault="swap"))


def test_handlers_beside_each_other_may_overtake_but_lose_nothing(there: Place) -> None:
    repetition(WORKS["js-work"], CASE, present("threads"), there, COUNT, Settings(fault="swap"))
    with pytest.raises(WrongError, match="1 lost"):
        repetition(WORKS["js-work"], CASE, present("threads"), there, COUNT, Settings(fault="lose"))


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_publishers_stream_is_read(there: Place, fault: str) -> None:
    with pytest.raises(WrongError, match=FAULTS[fault]):
        repetition(WORKS["js-window"], Case("16 B"), liar(fault), there, COUNT, Settings(), proof=True)


def test_the_server_counts_what_is_missing(there: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PATIENCE", 0.05)
    with pytest.raises(WrongError, match="599 messages are in the stream of 600"):
        repetition(WORKS["js-window"], Case("16 B"), liar("fewer"), there, COUNT, Settings())
    with pytest.raises(WrongError, match="all are acknowledged up to 0 of 600"):
        repetition(WORKS["js-fetch"], CASE, liar("hoarder"), there, COUNT, Settings())


@pytest.mark.parametrize(
    ("fault", "numbers"), [("lose", [0, 1, 3, 4]), ("double", [0, 1, 2, 2]), ("swap", [0, 1, 3, 2])]
)
def test_a_lie_is_as_long_as_the_truth(fault: str, numbers: list[int]) -> None:
    assert streams.lie(4, fault) == numbers
