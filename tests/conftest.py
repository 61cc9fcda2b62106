"""Fixtures and rules of every test: nothing is left behind, randomness has a seed, a failure shows the logs."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import none

from nats_sync.testing import LocalCluster, LocalServer
from nats_sync.testing import server as _local_server
from nats_sync.testing.process import ServerProcess, reserve_port
from tests import evidence
from tests.certificates import certificates
from tests.leaks import Snapshot
from tests.transports import FULL, Transport, parametrize, thinned, transport
from tests.twins import TWINS, Twin

__all__ = ["certificates", "transport"]

LOG_SHOWN = 8000  # characters of each log in the report of a failed test

settings.register_profile("ci", max_examples=50, derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=20)
settings.register_profile(
    "nightly", max_examples=20_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So does a shell start what it runs in the background, and children inherit it: no test of an interrupt would end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _guard() -> None:
    """Start what ends the servers of a killed test run before the first test's file descriptors are counted."""
    ServerProcess.guard.start()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Every test ends with the threads, file descriptors and servers it began with.

    Fixtures of modules and sessions are made before this one and ended after it, so what they hold is no leak.
    """
    evidence.forget()
    before = Snapshot.take()
    yield
    if leaks := before.leaks_until_gone():
        pytest.fail("left behind:\n" + "\n".join(leaks), pytrace=False)


@pytest.fixture(scope="module", params=list(TWINS))
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    """The test runs once with the Python twin of the fast path and once with the compiled one."""
    chosen = TWINS[request.param]
    if chosen is None:
        pytest.skip("the compiled module is not built")
    with chosen.at_work():
        yield chosen


@pytest.fixture
def server(transport: Transport) -> Iterator[LocalServer]:
    """A fresh nats-server, running."""
    with transport.server() as local:
        yield local


@pytest.fixture
def cluster(transport: Transport) -> Iterator[LocalCluster]:
    """Three fresh nats-servers that know each other."""
    with transport.cluster(3) as local:
        yield local


@pytest.fixture
def free_port() -> Iterator[int]:
    """A loopback port nobody listens on, and nobody but this test will: bind it with ``SO_REUSEADDR``."""
    with reserve_port() as reserved:
        yield reserved.getsockname()[1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test over its transports."""
    parametrize(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what is collected alone when garbage is.

    Each worker of a run collects many thousand tests, which live as long as it does. While they are made the garbage
    collector would look through more and more of them and find nothing, which is half the time that collecting takes,
    and then again and again between the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        _first_example()
        gc.freeze()
        gc.enable()


@given(none())
def _first_example(_: None) -> None:
    """At the first of all examples Hypothesis asks the collector who refers to its source of randomness."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The whole matrix, or a quarter of it."""
    left_out = set() if FULL else thinned(items)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the logs of all servers in reach and what the test kept as evidence to the report of a failure."""
    report = yield
    if report.failed:
        for local in list(_local_server._servers):
            report.sections.append((f"nats-server {local.name}", local.log()[-LOG_SHOWN:]))
        report.sections.extend((title, text[-LOG_SHOWN:]) for title, text in evidence.shown())
    return report
