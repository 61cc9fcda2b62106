"""From which server on a feature is there, and what is to happen on an older one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from nats_proto.errors import NATSError
from nats_proto.jetstream import ApiLevelError, FeatureDroppedError
from tests.server_version import server_version

__all__ = ["since"]


@contextlib.contextmanager
def since(*version: int) -> Iterator[None]:
    """The block works on a server of this version or newer. On an older one it raises an error that says how old it is.

    Where the client's error does not tell that yet, the test is an expected failure.
    """
    if server_version() >= version:
        yield
        return
    with pytest.raises(NATSError) as raised:
        yield
    ours = ".".join(map(str, server_version()))
    if not isinstance(raised.value, (ApiLevelError, FeatureDroppedError)) or ours not in str(raised.value):
        pytest.xfail(f"the error does not name the version {ours}: {raised.value!r}")
