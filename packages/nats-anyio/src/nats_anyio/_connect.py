"""`connect`: the context manager that owns a client's tasks."""

from __future__ import annotations

import random
from collections.abc import Iterable
from types import TracebackType
from typing import Unpack

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from nats_proto import ConnectOptionFields, ConnectOptions, Session, read_options, unusable_callback
from nats_proto.errors import ConfigurationError, ConnectionClosedError, LocalProtocolError

from ._client import Client, Message
from ._engine.fork import watch
from ._engine.hub import Hub
from ._engine.interrupt import Interrupt, the_one

__all__ = ["Connecting", "connect"]


def connect(
    servers: str | Iterable[str] = "nats://127.0.0.1:4222",
    *,
    options: ConnectOptions | None = None,
    **fields: Unpack[ConnectOptionFields],
) -> Connecting:
    """``async with connect(...) as client``: a client for the block. Leaving it closes the client and all its tasks.

    ``servers``: one URL, several, or a comma-separated string. The fields of `ConnectOptions` are given by name, or all
    together as ``options``.

    Raises `InvalidURLError`, `ConfigurationError`, `TypeError` for a name that is no option; entering the block
    raises `NoServersError`, with what each server said, when none could be used. Leaving it closes without draining:
    await `Client.drain` first when messages still wait to be handled. What is raised inside the block comes out as it
    is. Without a block, as in a framework's hooks for start and stop, use `open`.
    """
    prepared = prepare(servers, options, fields)
    del servers, options, fields  # no traceback that prints local variables has a secret
    if isinstance(prepared, Exception):
        raise prepared
    return Connecting(*prepared)


class Connecting:
    """What `connect` returns; to be entered once."""

    def __init__(self, session: Session[Message], options: ConnectOptions) -> None:
        self._session = session
        self._options = options
        self._group: TaskGroup | None = None
        self._client: Client | None = None
        self._task_id = 0
        self._left = False

    async def __aenter__(self) -> Client:
        if self._group is not None:
            raise LocalProtocolError("connect(...) was entered before: call it again for another client")
        hub, client = make_client(self._session, self._options, alone=False)
        self._client = client
        self._task_id = anyio.get_current_task().id
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        _entered.setdefault(self._task_id, []).append(self)
        try:
            self._group.start_soon(hub.run, name="nats client")
            await begin(self._session, hub)
        except BaseException:
            await self._leave(client, hub)
            raise
        self._hub = hub
        return client

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._client is not None  # entered
        await self._leave(self._client, self._hub)

    async def _leave(self, client: Client, hub: Hub[Message]) -> None:
        try:
            await client.close()
        finally:
            hub.tasks.stop()
            self._left = True
            if anyio.get_current_task().id != self._task_id:
                # Some fixtures are entered by one task and left by another. The group cannot be left then; it has no
                # other child than the root, so waiting for that one is as good.
                self._forget()
                await self._wait_stopped(hub)
            elif _entered[self._task_id][-1] is self:
                await self._close_groups()
            else:
                # Blocks are left in the reverse order of entering, which who enters by hand may not know. The group
                # is empty after this, and left together with the one that was entered behind it.
                await self._wait_stopped(hub)

    async def _wait_stopped(self, hub: Hub[Message]) -> None:
        with CancelScope(shield=True):
            await hub.stopped.wait()

    def _forget(self) -> None:
        entered = _entered[self._task_id]
        entered.remove(self)
        if not entered:
            del _entered[self._task_id]

    async def _close_groups(self) -> None:
        """Leave this group, and those below it whose block was left before."""
        entered = _entered[self._task_id]
        failures: list[BaseException] = []
        while entered and entered[-1]._left:
            last = entered[-1]
            last._forget()
            try:
                await last._close_group()
            except BaseException as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _close_group(self) -> None:
        assert self._group is not None  # entered
        self._group.cancel_scope.shield = True
        try:
            # The block's own exception is not shown to the group: it would come out wrapped.
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as failures:
            failed = the_one(failures)
            raise failed.error if isinstance(failed, Interrupt) else failed from None


_entered: dict[int, list[Connecting]] = {}
"""The blocks that a task has entered and not left, by the task's id, in order."""


def make_client(session: Session[Message], options: ConnectOptions, *, alone: bool) -> tuple[Hub[Message], Client]:
    """A client whose root does not run yet."""
    hub = Hub(session, message_type=Message, on_event=options.on_event, inbox_prefix=options.inbox_prefix)
    watch(hub)
    return hub, Client(hub, options, alone=alone)


async def begin(session: Session[Message], hub: Hub[Message]) -> None:
    """Have the session connect, and wait for how that ends. Raises why there is no client."""
    try:
        session.connect(now=hub.now())
    except Exception as defect:
        hub.fail(defect)
    hub.settle()
    await hub.opened.wait()
    if hub.closed is not None:
        raise hub.closed.error or ConnectionClosedError("the client was closed while it connected")


def prepare(
    servers: str | Iterable[str], options: object, fields: ConnectOptionFields
) -> tuple[Session[Message], ConnectOptions] | Exception:
    """The session and its options; or what is wrong with what was given, without the frames that hold it."""
    try:
        checked = read_options(options, fields)
        for name, callback in (("on_event", checked.on_event), ("reconnect_delay", checked.reconnect_delay)):
            if callback is not None and (wrong := unusable_callback(callback, awaits=True)) is not None:
                return ConfigurationError(f"{name}: {wrong}")
        session = Session(checked, servers, rng=random.SystemRandom(), message_type=Message, two_transports=True)
        return session, checked
    except Exception as error:
        return error.with_traceback(None)
