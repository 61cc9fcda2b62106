"""Every client under measurement and every lie of a peer: the run finds it, and goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache

import pytest

from benchmarks import other_side
from benchmarks.places import Place, place
from benchmarks.roster import Client, Present, known, look_for
from benchmarks.rounds import Settings, WrongError, measure, repetition
from benchmarks.sides import FailedError
from benchmarks.works import Case, Work, all_works

COUNT = 1000
WORKS = {work.name: work for work in all_works()}
CASE = Case("16 B")
OWN = ("raw", "threads", "asyncio", "trio")


@pytest.fixture(scope="module")
def there() -> Iterator[Place]:
    """A server for all of them."""
    with place({"tcp"}) as made:
        yield made


@cache
def present(name: str) -> Present:
    """One that is here in any case: with the compiled module or without."""
    found, missing = look_for(client for client in known() if client.name in (name, f"{name}-pure"))
    assert found, missing
    return found[0]


def liar(fault: str) -> Present:
    works = frozenset({"publish", "subscribe_iterator", "request"})
    return Present(Client("liar", (sys.executable, "-m", "tests.benchmarks.liar", fault), works), {})


@pytest.mark.parametrize("name", ["threads", "asyncio"])
@pytest.mark.parametrize(
    "work",
    [
        "publish",
        "publish-threads",
        "subscribe",
        "batch",
        "callback",
        "huge",
        "fan-out",
        "spread",
        "request",
        "concurrent",
        "request-threads",
        "request-tasks",
        "one-in-flight",
        "subscriptions",
        "connect",
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(there: Place, work: str, name: str) -> None:
    count = 10 if work == "connect" else COUNT
    subs = {"fan-out": 3, "spread": 7, "subscriptions": 20, "one-in-flight": 2}.get(work, 0)
    case = Case("16 B", subs=subs, workers=4)
    if not present(name).can(WORKS[work].needs):
        assert (work, name) in {
            ("publish-threads", "asyncio"),
            ("request-threads", "asyncio"),
            ("request-tasks", "threads"),
        }
        return
    result = repetition(WORKS[work], case, present(name), there, count, Settings())
    for metric in WORKS[work].metrics:
        value = metric.read(result)
        assert value is not None
        assert value >= 0 or metric.name == "bytes"


@pytest.mark.parametrize("fault", ["lose", "double", "swap"])
@pytest.mark.parametrize("name", OWN)
def test_an_iterator_sees_what_a_lying_feeder_does(there: Place, name: str, fault: str) -> None:
    with pytest.raises(WrongError, match={"lose": "1 lost", "double": "1 doubled", "swap": "1 misordered"}[fault]):
        repetition(WORKS["subscribe"], CASE, present(name), there, COUNT, Settings(fault=fault))


@pytest.mark.parametrize("name", OWN[1:])
@pytest.mark.parametrize(
    ("work", "fault"),
    [
        ("batch", "swap"),
        ("callback", "double"),
        ("huge", "swap"),
        ("fan-out", "swap"),
        ("spread", "swap"),
        ("spread", "double"),
        ("spread", "lose"),
    ],
)
def test_batches_and_callbacks_see_it_as_well(there: Place, work: str, name: str, fault: str) -> None:
    case = Case("16 B", subs=3 if work in ("fan-out", "spread") else 0)
    with pytest.raises(WrongError, match=r"\d (doubled|misordered)"):
        repetition(WORKS[work], case, present(name), there, COUNT, Settings(fault=fault))


@pytest.mark.parametrize(
    ("fault", "found"), [("", None), ("lose", "1 lost"), ("double", "1 doubled"), ("swap", "misord")]
)
def test_a_bare_socket_sees_it_over_many_subscriptions(there: Place, fault: str, found: str | None) -> None:
    with pytest.raises(WrongError, match=found) if found else contextlib.nullcontext():
        repetition(WORKS["spread"], Case("", subs=7), present("raw"), there, COUNT, Settings(fault=fault))


@pytest.mark.parametrize("size", [16, 1024, 65536])
def test_large_payloads_are_counted_by_their_heads(there: Place, size: int) -> None:
    with pytest.raises(WrongError, match="1 misordered"):
        repetition(WORKS["subscribe"], Case("", size), present("threads"), there, COUNT // 10, Settings(fault="swap"))


def test_messages_beyond_the_usual_limit_are_counted_and_their_memory_told() -> None:
    size = 2 * other_side.HUGE
    with place({"tcp"}, size) as large:
        result = repetition(WORKS["huge"], Case("", size), present("threads"), large, 5, Settings())
    assert result["received"] == 5
    figures = {metric.name: metric.read(result) or 0.0 for metric in WORKS["huge"].metrics}
    assert size / 1e6 < figures["resident"] <= figures["peak"]


@pytest.mark.parametrize("fault", ["lose", "double", "swap"])
def test_a_subscriber_sees_what_a_lying_publisher_does(there: Place, fault: str) -> None:
    with pytest.raises(WrongError, match={"lose": "1 lost", "double": "1 doubled", "swap": "1 misordered"}[fault]):
        repetition(WORKS["publish"], CASE, liar(fault), there, COUNT, Settings(), proof=True)


@pytest.mark.parametrize(
    ("fault", "found"), [("lose", "1 lost"), ("double", "1 doubled"), ("swap", "1 misordered"), ("overtake", None)]
)
def test_each_of_several_publishers_has_an_order_of_its_own(there: Place, fault: str, found: str | None) -> None:
    with pytest.raises(WrongError, match=found) if found else contextlib.nullcontext():
        repetition(WORKS["publish"], Case("16 B", workers=4), liar(fault), there, COUNT, Settings(), proof=True)


def test_publishers_in_threads_keep_their_orders(there: Place) -> None:
    case = Case("16 B", workers=4)
    repetition(WORKS["publish-threads"], case, present("threads"), there, COUNT, Settings(), proof=True)


def test_the_server_counts_what_was_not_published(there: Place) -> None:
    with pytest.raises(WrongError, match="the server counted 999 messages"):
        repetition(WORKS["publish"], CASE, liar("fewer"), there, COUNT, Settings())


@pytest.mark.parametrize(("work", "fault"), [("subscribe", "deaf"), ("request", "deaf"), ("request", "boast")])
def test_a_client_is_held_to_the_other_sides_count(there: Place, work: str, fault: str) -> None:
    with pytest.raises(WrongError, match=r"999 received of|answers to 1000 requests"):
        repetition(WORKS[work], CASE, liar(fault), there, COUNT, Settings(timeout=5.0))


@pytest.mark.parametrize(("fault", "reason"), [("crash", "ValueError: as a client may"), ("silence", "no answer")])
def test_a_peer_that_fails_is_a_row_and_not_the_end(there: Place, fault: str, reason: str) -> None:
    with pytest.raises(FailedError, match=reason):
        # One that fails at once is given the time that a busy machine takes to start it.
        repetition(
            WORKS["request"], CASE, liar(fault), there, COUNT, Settings(timeout=10.0 if fault == "crash" else 0.5)
        )
    work = Work("request", "", "request", "echo", [CASE], WORKS["request"].metrics, 100)
    settings = Settings(repetitions=2, seconds=0.01, timeout=5.0)
    bad, good = measure(work, CASE, [liar(fault), present("raw")], there, settings, lambda text: None)
    assert bad.failed is not None
    assert reason in bad.failed
    assert not bad.valid
    assert good.valid
    assert [len(figures) for figures in good.figures.values()] == [2, 2, 2]


def test_turns_are_taken(there: Place) -> None:
    work = Work("connect", "", "connect", "none", [], WORKS["connect"].metrics)
    told: list[str] = []
    clients = [present("raw"), present("threads")]
    measure(work, Case("tcp", count=3), clients, there, Settings(repetitions=2, pilots=0), told.append)
    one, two = (client.name for client in clients)
    assert [text.split(": ")[1].split(",")[0] for text in told] == [one, two, one, two]
