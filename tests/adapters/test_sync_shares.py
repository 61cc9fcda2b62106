"""nats-sync: who reads writes the acknowledgements of a share itself, and calls no other thread for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nats_sync._jetstream.reading import write_share


@pytest.mark.parametrize(
    ("budget", "messages", "attended", "pushed"),
    [
        (0, 3, True, 1),
        (1, 3, True, 0),  # the share is not used up
        (0, 4, True, 0),  # a message is on its way
        (0, 3, False, 0),  # nothing was published
    ],
)
def test_the_reader_writes(budget: int, messages: int, attended: bool, pushed: int) -> None:
    pushes: list[None] = []
    writing: Any = SimpleNamespace(attended=attended, push=lambda: pushes.append(None))
    account: Any = SimpleNamespace(budget=budget, messages=messages, queue=[None] * 3)
    write_share(writing, account)
    assert len(pushes) == pushed
