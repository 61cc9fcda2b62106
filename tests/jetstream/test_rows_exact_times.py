"""Row 46 with any duration and any time: what a real server is given comes back to the last nanosecond."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nats_sync
from nats_proto.jetstream import ConsumerConfig, Seconds, Timestamp
from tests.jetstream.legs import TIMEOUT
from tests.transports import Transport

pytestmark = pytest.mark.transports("tcp")

LONGEST = 290 * 365 * 24 * 3600 * 10**9
"""290 years in nanoseconds, which is nearly all that a server can hold."""


def test_row_46_any_duration(url: str, transport: Transport) -> None:
    with nats_sync.connect(url, **transport.options) as nc:
        stream = nc.jetstream(timeout=TIMEOUT).create_stream("S", subjects=["s"], storage="memory")

        @given(st.integers(1, LONGEST))
        def comes_back(nanoseconds: int) -> None:
            consumer = stream.create_or_update_consumer("c", ack_wait=Seconds.from_nanoseconds(nanoseconds))
            told = consumer.refresh().config.ack_wait
            assert isinstance(told, Seconds)
            assert told.nanoseconds == nanoseconds

        comes_back()


def test_row_46_any_number_of_seconds_or_timedelta(url: str, transport: Transport) -> None:
    """As exactly as the number that was given is: a float of so many seconds, a `timedelta` to the microsecond."""
    with nats_sync.connect(url, **transport.options) as nc:
        stream = nc.jetstream(timeout=TIMEOUT).create_stream("S", subjects=["s"], storage="memory")

        @given(
            st.one_of(
                st.floats(1e-9, 9e9),
                st.timedeltas(timedelta(microseconds=1), timedelta(days=290 * 365)),
            )
        )
        def comes_back(given_: float | timedelta) -> None:
            told = stream.create_or_update_consumer("c", ack_wait=given_).refresh().config.ack_wait
            assert isinstance(told, Seconds)
            if isinstance(given_, timedelta):
                assert told.nanoseconds == given_ // timedelta(microseconds=1) * 1000
            else:
                assert abs(told.nanoseconds - given_ * 1e9) <= max(1, given_ * 1e9 * 2**-52)

        comes_back()


def test_row_46_any_time(url: str, transport: Transport) -> None:
    """What another client has written is read exactly, and written back to the letter."""
    with nats_sync.connect(url, **transport.options) as nc:
        stream = nc.jetstream(timeout=TIMEOUT).create_stream("S", subjects=["s"], storage="memory")

        @given(st.datetimes(datetime(1971, 1, 1), datetime(2260, 1, 1)), st.integers(0, 999))
        def comes_back(when: datetime, nanoseconds: int) -> None:
            digits = f"{when.microsecond:06}{nanoseconds:03}".rstrip("0")
            text = when.replace(microsecond=0).isoformat() + (f".{digits}" if digits else "") + "Z"
            config = {"name": "a", "deliver_policy": "by_start_time", "opt_start_time": text}
            answer = asked(nc, "CONSUMER.CREATE.S.a", {"stream_name": "S", "config": config})
            assert answer["config"]["opt_start_time"] == text
            read = stream.consumer("a").refresh().config.opt_start_time
            assert isinstance(read, Timestamp)
            assert read == when.replace(tzinfo=UTC)
            assert read.nanoseconds % 1000 == nanoseconds
            stream.create_consumer(config=ConsumerConfig(name="b", deliver_policy="by_start_time", opt_start_time=read))
            assert asked(nc, "CONSUMER.INFO.S.b")["config"]["opt_start_time"] == text
            stream.delete_consumer("a")
            stream.delete_consumer("b")

        comes_back()


def asked(nc: nats_sync.Client, call: str, body: object = None) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        nc.request(f"$JS.API.{call}", b"" if body is None else json.dumps(body).encode(), timeout=TIMEOUT).data
    )
    assert "error" not in answer, answer
    return answer
