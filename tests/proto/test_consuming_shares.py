"""When the acknowledgements of a share are written: both twins of the account."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from nats_proto import Message
from nats_proto._consuming.shares import SHARE, writes_now
from tests.proto.consuming import delivered
from tests.proto.test_deliveries import Given
from tests.twins import Twin


def account(twin: Twin, messages: int, *, outstanding: int, share: int = SHARE) -> Any:
    """So many messages lie in its queue, of which a share may be taken."""
    one = twin.deliveries(twin.message_maker(Given, None, None, None), [], [])
    one.plain, one.messages, one.budget = True, outstanding, share
    one.queue = deque(delivered(number) for number in range(1, messages + 1))
    return one


def take(one: Any, count: int) -> None:
    for _ in range(count):
        assert one.take(1.0) is not None


def test_a_share_is_taken_and_then_it_is_time_to_write(twin: Twin) -> None:
    one = account(twin, SHARE + 10, outstanding=SHARE + 10)
    take(one, SHARE - 1)
    assert not writes_now(one)
    take(one, 1)
    assert writes_now(one)
    assert one.take(1.0) is None  # whoever reads writes, before the next share


@pytest.mark.parametrize(
    ("messages", "outstanding", "writes"),
    [
        (1, 1, True),
        (10, 10, True),
        (11, 10, True),  # a server that sends too much
        (10, 0, True),
        (10, 11, False),  # one is on its way
        (0, 0, True),
        (0, 1, False),
    ],
)
def test_as_long_as_messages_are_on_their_way_nothing_is_written(
    twin: Twin, messages: int, outstanding: int, writes: bool
) -> None:
    one = account(twin, messages, outstanding=outstanding, share=0)
    assert writes_now(one) is writes
    assert writes_now(one, one_batch=True)
    one.budget = 1
    assert not writes_now(one, one_batch=True)


def test_nothing_is_written_where_the_driver_is_used(twin: Twin) -> None:
    one = account(twin, 0, outstanding=0, share=0)
    one.queue = None
    assert not writes_now(one)
    assert not writes_now(one, one_batch=True)


def test_a_status_is_no_reason_to_wait(twin: Twin) -> None:
    """It lies in the queue like a message: what it tells is looked at in its turn."""
    one = account(twin, 3, outstanding=3, share=0)
    one.queue.append(Message("_INBOX.x.1", 1, None, b""))
    assert writes_now(one)
