"""The core in a raw ``asyncio.Protocol``: no streams, no task per message, reconnecting.

    python examples/embedding/asyncio_protocol.py nats://127.0.0.1:4222

The event loop calls us, we call the session, and after every call `Driver.drain` does the rest.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable

from nats_proto import ConnectOptions, OpenTransport, Session, SessionEvent


class Driver:
    """One session on the running event loop."""

    def __init__(self, url: str, options: ConnectOptions | None = None) -> None:
        self.session = Session(options or ConnectOptions(), url, rng=random.SystemRandom())
        self.events: list[SessionEvent] = []
        self.loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._dial: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    def connect(self) -> None:
        self.session.connect(now=self.loop.time())
        self.drain()

    async def run_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``done()`` or for ``timeout`` seconds; whether it was done."""
        self.drain()
        try:
            async with asyncio.timeout(timeout):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        self.session.close(now=self.loop.time())
        await self.run_until(lambda: self._link is None, 2.0)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)  # the event loop closes the socket in its next turn

    def drain(self) -> None:
        """After every call to the session: commands, events, data, deadline."""
        for command in self.session.commands_to_run():
            if self._link is not None:
                self._link.transport.abort()
            if self._dial is not None:
                self._dial.cancel()
            self._link = self._dial = None
            if isinstance(command, OpenTransport):
                self._dial = self.loop.create_task(self._open(command))
        self.events.extend(self.session.events_received())
        while self._link is not None and self._link.ready and (data := b"".join(self.session.data_to_send())):
            self.session.data_sent(len(data))  # the transport takes all of it, and says when to pause
            self._link.transport.write(data)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.session.next_timeout()
        self._timer = None if deadline is None else self.loop.call_at(deadline, self._timed_out)
        self._changed.set()

    def _timed_out(self) -> None:
        self.session.handle_timeout(now=self.loop.time())
        self.drain()

    async def _open(self, command: OpenTransport) -> None:
        await asyncio.sleep(max(0.0, command.at - self.loop.time()))
        try:
            async with asyncio.timeout_at(command.deadline):
                await self.loop.create_connection(lambda: Link(self), *command.address)
        except (OSError, TimeoutError) as error:
            self._dial = None
            self.session.transport_failed(error, now=self.loop.time())
            self.drain()

    # --- what a link tells us; one that was given up has nothing to say ----------------------------------------------

    def link_made(self, link: Link) -> None:
        self._link, self._dial = link, None
        self.session.transport_connected(now=self.loop.time())
        self.drain()

    def link_received(self, link: Link, data: bytes) -> None:
        if link is self._link:
            self.session.receive_data(data, now=self.loop.time())
            self.drain()

    def link_lost(self, link: Link, error: Exception | None) -> None:
        if link is self._link:
            self._link = None
            if error is None:
                self.session.receive_eof(now=self.loop.time())
            else:
                self.session.transport_lost(error, now=self.loop.time())
            self.drain()


class Link(asyncio.Protocol):
    """Passes on what the event loop says about one connection."""

    transport: asyncio.Transport

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.ready = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._driver.link_made(self)

    def data_received(self, data: bytes) -> None:
        self._driver.link_received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._driver.link_lost(self, exc)

    def pause_writing(self) -> None:
        self.ready = False

    def resume_writing(self) -> None:
        self.ready = True
        self._driver.drain()


async def main(url: str) -> None:
    """Publish one message to ourselves."""
    driver = Driver(url)
    driver.connect()
    sub = driver.session.subscribe("greetings")
    driver.session.publish("greetings", b"hello from an asyncio protocol")
    await driver.run_until(lambda: sub.pending_msgs > 0, timeout=5.0)
    print(sub.pop())
    await driver.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
