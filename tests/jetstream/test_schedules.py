"""Schedules (ADR-51), times to live, and the duplicate window: what a server does with these options of a publish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from nats_proto.errors import NATSTimeoutError
from nats_proto.jetstream import MessageNotFoundError, MessageScheduleError, MessageTTLError
from tests.adapters.legs import PATIENCE, Leg
from tests.faults.proxy import Proxy
from tests.jetstream.legs import jetstream
from tests.jetstream.versions import since
from tests.server_version import needs_server, server_version

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


async def made(js: Any) -> Any:
    return await js.create_stream("S", subjects=["s.>"], allow_msg_schedules=True, allow_msg_ttl=True, storage="memory")


async def gone(stream: Any, subject: str) -> None:
    """Until there is no message of this subject. A server deletes a schedule a moment after its last message."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await stream.get_last_msg(subject)
            except MessageNotFoundError:
                return


ALLOWED = {"allow_msg_ttl": (2, 11), "allow_msg_schedules": (2, 12)}
OPTIONS: list[tuple[tuple[int, int], dict[str, Any]]] = [
    ((2, 11), {"ttl": 60}),
    ((2, 12), {"deliver_at": now() + HOUR, "schedule_target": "s.out"}),
    ((2, 12), {"deliver_at": now() + HOUR, "schedule_target": "s.out", "schedule_ttl": 60}),
    ((2, 12), {"cancel_schedule": "s.other"}),
    ((2, 14), {"every": 3600, "schedule_target": "s.out"}),
    ((2, 14), {"cron": "@daily", "schedule_target": "s.out"}),
    ((2, 14), {"cron": "0 0 5 * * *", "schedule_target": "s.out", "time_zone": "Europe/Zurich"}),
    ((2, 14), {"every": 3600, "schedule_target": "s.out", "schedule_source": "s.in"}),
    ((2, 14), {"every": 3600, "schedule_target": "s.out", "schedule_rollup": "sub"}),
]


@pytest.mark.parametrize(("version", "options"), OPTIONS, ids=lambda value: ",".join(map(str, value)))
async def test_which_server_has_what(leg: Leg, url: str, version: tuple[int, int], options: dict[str, Any]) -> None:
    """An older server would store the message at once, and for ever."""
    async with leg.connect(url) as client:
        js = jetstream(client)
        allowed = {name: True for name, there in ALLOWED.items() if server_version() >= there}
        stream = await js.create_stream("S", subjects=["s.>"], storage="memory", **allowed)
        with since(*version):
            await js.publish("s.a", b"later", **options)
            assert (await stream.get_last_msg("s.a")).data == b"later"
        async with js.publisher() as publisher:
            with since(*version):
                await publisher.publish("s.b", b"later", **options)
        if server_version() < version:
            assert (await stream.refresh()).state.messages == 0


@needs_server(2, 12, has="schedules")
async def test_a_message_for_later(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        consumer = await stream.create_consumer("c", filter_subject="s.out", ack_policy="none")
        at = now() + timedelta(seconds=1)
        await js.publish("s.plan.1", b"now", deliver_at=at, schedule_target="s.out", headers={"X": "1"})
        msg = await consumer.next(PATIENCE)
        assert msg is not None
        assert msg.data == b"now"
        assert dict(msg.headers.items()) == {"X": "1", "Nats-Scheduler": "s.plan.1", "Nats-Schedule-Next": "purge"}
        assert msg.metadata.timestamp >= at - timedelta(milliseconds=50)
        await gone(stream, "s.plan.1")


@needs_server(2, 14, has="schedules that repeat")
async def test_a_message_again_and_again(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        stream = await made(js)
        consumer = await stream.create_consumer("c", filter_subject="s.out.>", ack_policy="none")
        await js.publish("s.plan.1", b"tick", every=1, schedule_target="s.out.every", schedule_ttl=60)
        await js.publish("s.plan.2", b"tock", cron="* * * * * *", schedule_target="s.out.cron", time_zone="Asia/Tokyo")
        seen: dict[str, int] = {}
        while seen.get("s.out.every", 0) < 2 or seen.get("s.out.cron", 0) < 2:
            msg = await consumer.next(PATIENCE)
            assert msg is not None
            assert msg.data == {"s.out.every": b"tick", "s.out.cron": b"tock"}[msg.subject]
            assert ("Nats-TTL" in msg.headers) == (msg.subject == "s.out.every")
            seen[msg.subject] = seen.get(msg.subject, 0) + 1
        # Another schedule on the same subject takes its place, and a message may end one.
        await js.publish("s.plan.1", b"daily", cron="@daily", schedule_target="s.out.every")
        await js.publish("s.log", b"no more", cancel_schedule="s.plan.2")
        assert (await stream.get_last_msg("s.plan.1")).data == b"daily"
        await gone(stream, "s.plan.2")


@needs_server(2, 14, has="schedules that repeat")
async def test_what_a_stream_refuses(leg: Leg, url: str) -> None:
    async with leg.connect(url) as client:
        js = jetstream(client)
        await made(js)
        await js.create_stream("P", subjects=["p.>"], storage="memory")
        for subject, options in (
            ("p.a", {"deliver_at": now() + HOUR, "schedule_target": "p.b"}),
            ("s.a", {"deliver_at": now() + HOUR, "schedule_target": "p.b"}),
            ("s.a", {"cron": "* * * * * *", "schedule_target": "s.b", "time_zone": "Europe/Nowhere"}),
        ):
            with pytest.raises(MessageScheduleError) as refused:
                await js.publish(subject, **options)
            assert refused.value.outcome == "failed"
        with pytest.raises(MessageTTLError):
            await js.publish("p.a", ttl=5)


@pytest.mark.parametrize("windowed", [False, True], ids=["publish", "publisher"])
async def test_row_7_no_retry_after_the_duplicate_window(leg: Leg, url: str, windowed: bool) -> None:
    """The stream has forgotten the id by then, and would store the message twice."""
    with Proxy(url) as proxy:
        async with leg.connect(proxy.url) as client, leg.connect(url) as other:
            js = jetstream(client)
            stream = await jetstream(other).create_stream("S", subjects=["s"], storage="memory", duplicate_window=0.5)

            async def publish() -> None:
                if not windowed:
                    await js.publish("s", msg_id="1", timeout=0.6, duplicate_window=stream.info.config.duplicate_window)
                    return
                async with js.publisher(timeout=0.6, duplicate_window=0.5) as publisher:
                    await (await publisher.publish("s", msg_id="1")).ack()

            await client.flush()
            proxy.down.held = True
            for _ in range(5):
                with pytest.raises(NATSTimeoutError) as unknown:
                    await publish()
                if unknown.value.outcome != "failed":  # where the machine stands still, it may not have been sent
                    break
            proxy.down.held = False
            assert unknown.value.outcome == "unknown"
            if not windowed:
                assert any("duplicate_window" in note for note in unknown.value.__notes__)
            assert (await stream.refresh()).state.messages == 1
            with pytest.raises(ValueError, match="duplicate_window"):
                await js.publish("s", duplicate_window=0)
            with pytest.raises(ValueError, match="duplicate_window"):
                js.publisher(duplicate_window=0)
