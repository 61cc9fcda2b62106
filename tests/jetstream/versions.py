"""From which server on a feature is there, and what is to happen on an older one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from nats_proto.jetstream import ApiLevelError, FeatureDroppedError
from tests.server_version import server_version

__all__ = ["since"]


@contextlib.contextmanager
def since(*version: int) -> Iterator[None]:
    """The block works on a server of this version or newer; on an older one it raises an error that names its own."""
    if server_version() >= version:
        yield
        return
    with pytest.raises((ApiLevelError, FeatureDroppedError), match=re.escape(".".join(map(str, server_version())))):
        yield
