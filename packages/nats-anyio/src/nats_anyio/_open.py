"""`open`: a client that stands alone, for where there is no block to hold it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import anyio
from anyio.abc import TaskGroup

from nats_proto import ConnectOptionFields, ConnectOptions, Session
from nats_proto.errors import LocalProtocolError

from ._client import Client
from ._connect import begin, make_client, prepare
from ._interrupt import Interrupt, the_one
from ._message import Message
from ._pump import Pump

__all__ = ["open"]


async def open(  # noqa: A001  # a module's function is called by the module's name
    servers: str | Iterable[str] = "nats://127.0.0.1:4222",
    *,
    task_group: TaskGroup | None = None,
    options: ConnectOptions | None = None,
    **fields: Unpack[ConnectOptionFields],
) -> Client:
    """A connected client that lives until `Client.close` or `Client.drain`, called by any task of the event loop.

    On asyncio its tasks belong to the loop, and end with it at the latest. On trio a task belongs to another, so there
    ``task_group`` is needed, and may be given on asyncio too: the client's tasks are children of it, and when it is
    cancelled, the client is closed, which takes 2 s at most. A `SystemExit` that a callback raises ends the event loop,
    or the task group.

    ``servers`` and the rest are those of `connect`. Raises what `connect` and entering its block raise, nothing is left
    then; `LocalProtocolError` on trio without a task group.
    """
    prepared = prepare(servers, options, fields)
    del servers, options, fields  # no traceback that prints local variables has a secret
    if isinstance(prepared, Exception):
        raise prepared
    return await _open(*prepared, task_group)


async def _open(session: Session[Message], options: ConnectOptions, group: TaskGroup | None) -> Client:
    pump, client = make_client(session, options, alone=True)

    async def keep() -> None:
        await _keep(client, pump)

    if group is not None:
        group.start_soon(keep, name="nats client")
    elif not pump.loop.start(keep):
        raise LocalProtocolError(
            "on trio a client that stands alone needs a task group for its tasks: open(..., task_group=group), "
            "or use `async with connect(...)`"
        )
    try:
        await begin(session, pump)
    except BaseException:
        await client.close()
        raise
    return client


async def _keep(client: Client, pump: Pump) -> None:
    """The task above the root: closes the client in order when it is cancelled."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(pump.run, name="nats root")
            try:
                await pump.stopped.wait()
            finally:
                await client.close()
                pump.stop()
    except BaseExceptionGroup as failures:
        failed = the_one(failures)
        if not isinstance(failed, Interrupt):
            raise failed from None
        pump.loop.raise_outside(failed.error)
