"""Which nats-server the tests run with: what only newer ones have is not asked of an old one."""

from __future__ import annotations

import re
import subprocess
from functools import cache

import pytest

from nats_sync.testing import find_server

__all__ = ["needs_server", "server_version"]


@cache
def server_version() -> tuple[int, ...]:
    """Of the binary that `LocalServer` starts: (2, 15, 1)."""
    told = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", told)
    assert found is not None, told
    return tuple(map(int, found.groups()))


def needs_server(*version: int, has: str) -> pytest.MarkDecorator:
    """Skip the test where the server is older, and so has no …"""
    return pytest.mark.skipif(server_version() < version, reason=f"this nats-server has no {has}")
