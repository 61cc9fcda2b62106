"""The matrix of transports: every test is in it, its quarter is always the same, and the servers speak what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.transports import Transport

ROOT = Path(__file__).parents[1]
SAMPLE = "tests/faults/test_f05_f08_network.py"
_TEST = re.compile(r"::(\w+)\[(\w+)-(tcp|tls|ws|wss)(?:-(.*))?\]")


def collected(*args: str, full: bool = False, hash_seed: int = 1) -> list[str]:
    """The ids that a run of pytest in a process of its own would take."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *args]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MATRIX", "PYTEST"))}
    environment |= {"MATRIX": "full" if full else "", "PYTHONHASHSEED": str(hash_seed)}
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    return [line for line in ran.stdout.splitlines() if "::" in line]


@pytest.fixture(scope="module")
def everything() -> list[str]:
    return collected(SAMPLE, full=True)


@pytest.fixture(scope="module")
def quarter() -> list[str]:
    return collected(SAMPLE)


def by_transport(ids: list[str]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in ids:
        if match := _TEST.search(each):
            found[match[1], match[3]].append(each)
    return found


def test_a_quarter_of_the_matrix_runs_and_all_of_it_on_demand(everything: list[str], quarter: list[str]) -> None:
    whole, part = by_transport(everything), by_transport(quarter)
    assert whole.keys() == part.keys()
    assert {transport for _, transport in whole} == {"tcp", "tls", "ws", "wss"}
    for (test, transport), ids in whole.items():
        taken = part[test, transport]
        assert set(taken) <= set(ids)
        assert len(taken) == (len(ids) if transport == "tcp" else -(-len(ids) // 4))
    legs = {match[2] for ids in part.values() for each in ids if (match := _TEST.search(each)) and match[3] != "tcp"}
    assert legs == {"threads", "asyncio", "trio"}


def test_the_quarter_is_the_same_in_every_process(quarter: list[str]) -> None:
    assert quarter == collected(SAMPLE, hash_seed=2)


def test_a_test_that_is_asked_for_by_name_runs(everything: list[str], quarter: list[str]) -> None:
    left_out = sorted(set(everything) - set(quarter))
    assert collected(left_out[0]) == [left_out[0]]


@pytest.mark.transports("tcp", "tls", "ws", "wss")
def test_servers_have_what_the_transport_says(transport: Transport) -> None:
    with transport.cluster(2) as cluster:
        for server in cluster.servers:
            assert re.fullmatch(transport.url(0).removesuffix("0") + r"\d+", server.url)
            state = server.varz()
            websocket = state["websocket"]
            assert isinstance(websocket, dict)
            assert bool(state.get("tls_required")) is (transport.name in ("tls", "wss"))
            assert ("port" in websocket) is (transport.name in ("ws", "wss"))
            assert websocket.get("compression", False) is (transport.name == "wss")
